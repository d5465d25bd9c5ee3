//! The fuzz targets' way in, without a fuzzer: the corpus, and a bounded number of its
//! mutations, the same in every run. What a fuzzer finds is kept in the corpus.

#[path = "wire/dialogue.rs"]
#[allow(
    dead_code,
    reason = "shared with the dialogue tests, which use more of it"
)]
mod dialogue;
#[path = "../../tests/fuzz/drive.rs"]
mod drive;

use std::path::PathBuf;

use dialogue::Random;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a corpus")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    files.sort();
    let read = |path| std::fs::read(path).expect("a readable file");
    files.into_iter().map(read).collect()
}

/// Changes, drops, repeats and joins, as fuzzers do.
fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(6) {
        let at = random.below(input.len().max(1));
        let n = random.below(24).min(input.len().saturating_sub(at));
        match random.below(6) {
            0 if at < input.len() => input[at] = random.below(256) as u8,
            1 => drop(input.drain(at..at + n)),
            2 => {
                let copy = input[at..at + n].to_vec();
                input.splice(at..at, copy);
            }
            3 if !other.is_empty() => {
                let from = random.below(other.len());
                let m = random.below(64).min(other.len() - from);
                let at = at.min(input.len());
                input.splice(at..at, other[from..from + m].to_vec());
            }
            4 if at < input.len() => input[at] ^= 1 << random.below(8),
            _ => input.insert(at.min(input.len()), b"\r\n:;0 ><"[random.below(8)]),
        }
    }
    input.truncate(1 << 16);
}

fn smoke(target: &str, drive: fn(&[u8]), rounds: usize) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty());
    for input in &corpus {
        drive(input);
    }
    let mut random = Random(0x5EED);
    for _ in 0..rounds {
        let mut input = corpus[random.below(corpus.len())].clone();
        let other = &corpus[random.below(corpus.len())];
        mutate(&mut input, other, &mut random);
        drive(&input);
    }
}

#[test]
fn wire() {
    smoke("wire", drive::wire, 20_000);
}

#[test]
fn events() {
    smoke("events", drive::events, 20_000);
}
