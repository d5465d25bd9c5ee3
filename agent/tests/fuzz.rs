//! The fuzz targets' way in, without a fuzzer: their seeds, and a bounded number of mutations, the
//! same in every run. `CORPUS=DIR` writes the seeds there, for libFuzzer to start from; what it
//! finds becomes a dialogue or a test beside the code.

#[path = "wire/dialogue.rs"]
#[allow(
    dead_code,
    reason = "shared with the dialogue tests, which use more of it"
)]
mod dialogue;
#[path = "../../tests/fuzz/drive.rs"]
mod drive;

use dialogue::{Random, Step, Way};
use spantap::event::Ending;
use spantap::protocol;

/// One of each kind, nothing but zeros else, and a segment that holds what it says.
fn records() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in 1..=5_u8 {
        let mut record = vec![0; 161];
        record[0] = 160;
        record[1] = kind;
        seeds.push(record);
    }
    let mut segment = vec![0; 1 + 64 + 5];
    (segment[0], segment[1]) = (69, 2);
    (segment[1 + 32], segment[1 + 36]) = (5, 5);
    seeds.push(segment);
    seeds
}

fn context() -> Vec<Vec<u8>> {
    let values = [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "a=1,b@c=2, ,d",
    ];
    values.map(|value| value.as_bytes().to_vec()).into()
}

/// Each dialogue, as `drive::wire` reads it.
fn wire() -> Vec<Vec<u8>> {
    dialogues(|steps| {
        let mut seed = vec![b'('];
        for step in steps {
            let side = if way(step) == Way::Ask { b'>' } else { b'<' };
            for line in step.bytes().split_inclusive(|&b| b == b'\n') {
                seed.push(side);
                seed.extend(line);
            }
        }
        seed
    })
}

/// Each dialogue, as `drive::events` reads it.
fn events() -> Vec<Vec<u8>> {
    dialogues(|steps| {
        let mut seed = vec![0, 1, 0, 1];
        for step in steps {
            if let Step::End(ending) = step {
                let kind = match ending {
                    Ending::Eof => 0,
                    Ending::Local => 1,
                    Ending::Error(_) => 2,
                    Ending::Gone => 3,
                };
                seed.extend([1, 1, kind, 1]);
            }
            for part in step.bytes().chunks(255) {
                let direction = u8::from(way(step) == Way::Ask);
                seed.extend([3, 1, direction | 16, 1, part.len() as u8]);
                seed.extend(part);
            }
        }
        seed
    })
}

/// Each dialogue, as `drive::parser` reads it.
fn parser() -> Vec<Vec<u8>> {
    let number = |name: &str| protocol::ALL.iter().position(|p| p.name() == name);
    let seed = |dialogue: &dialogue::Dialogue| {
        let mut seed = vec![number(dialogue.protocol).expect("in the registry") as u8];
        for step in &dialogue.steps {
            for part in step.bytes().chunks(255) {
                seed.extend([u8::from(way(step) == Way::Answer), part.len() as u8]);
                seed.extend(part);
            }
        }
        seed
    };
    dialogue::all().iter().map(seed).collect()
}

/// Blocks as `drive::hpack` reads them: numbers, texts in the table or not, and its size.
fn hpack() -> Vec<Vec<u8>> {
    let blocks: [&[u8]; 4] = [
        b"\x82\x86\x84\x41\x0fwww.example.com\x58\x08no-cache",
        b"\x82\x86\x84\xbe\xbf\x40\x0acustom-key\x0ccustom-value",
        b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        b"\x20\x3f\xe1\x1f\x88\x10\x08password\x06secret\xc0",
    ];
    let mut seeds = Vec::new();
    for first in [0xf0, 0xf1, 3] {
        let mut seed = vec![first];
        for block in blocks {
            seed.extend([0, block.len() as u8]);
            seed.extend(block);
        }
        seeds.push(seed);
    }
    seeds
}

fn way(step: &Step) -> Way {
    match step {
        Step::Bytes { way, .. } => *way,
        Step::End(_) | Step::Older => Way::Ask,
    }
}

fn dialogues(seed: fn(&[Step]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let all = dialogue::all();
    all.iter().map(|d| seed(&d.steps)).collect()
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

/// Headers that are taken for a program's, and a small library where this machine has it.
fn elf() -> Vec<Vec<u8>> {
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(0x400, 0);
    header[16] = 3;
    header[18] = 62;
    for (at, value) in [
        (32, 64),
        (41, 2),
        (54, 56),
        (56, 2),
        (58, 64),
        (60, 4),
        (62, 3),
    ] {
        header[at] = value;
    }
    let mut seeds = vec![header];
    let library = std::fs::read("/usr/lib/x86_64-linux-gnu/libdl.so.2");
    seeds.extend(library.ok().filter(|bytes| bytes.len() < 1 << 16));
    seeds
}

fn smoke(target: &str, drive: fn(&[u8]), seeds: &[Vec<u8>], rounds: usize) {
    assert!(!seeds.is_empty());
    if let Some(folder) = std::env::var_os("CORPUS") {
        let folder = std::path::Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder).expect("a writable folder");
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(number.to_string()), seed).expect("a writable folder");
        }
    }
    seeds.iter().for_each(|seed| drive(seed));
    let mut random = Random(0x5EED);
    for _ in 0..rounds {
        let mut input = seeds[random.below(seeds.len())].clone();
        let other = &seeds[random.below(seeds.len())];
        mutate(&mut input, other, &mut random);
        drive(&input);
    }
}

/// Mutated inputs of each target; fewer where each is a file to write and read.
const ROUNDS: usize = 20_000;

#[test]
fn targets() {
    smoke("records", drive::records, &records(), ROUNDS);
    smoke("context", drive::context, &context(), ROUNDS);
    smoke("wire", drive::wire, &wire(), ROUNDS);
    smoke("events", drive::events, &events(), ROUNDS);
    smoke("elf", drive::elf, &elf(), ROUNDS / 10);
    smoke("hpack", drive::hpack, &hpack(), ROUNDS);
    smoke("parser", drive::parser, &parser(), 2 * ROUNDS);
}
