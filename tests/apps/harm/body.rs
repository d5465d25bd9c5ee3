//! What bodies are made of: noise, the same for each run, in which a byte that is lost, doubled or
//! moved shows.

use std::sync::LazyLock;

use anyhow::Result;

/// A prime, so that pieces of powers of two never begin at the same place of it again.
const LENGTH: usize = 1_048_573;

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dice = Dice::new(1);
    (0..LENGTH).map(|_| (dice.roll() >> 32) as u8).collect()
});

/// The bytes of a body at this place, at most so many; never none unless none are asked for.
pub fn piece(at: u64, most: u64) -> &'static [u8] {
    let from = usize::try_from(at % LENGTH as u64).unwrap_or_default();
    let rest = &NOISE[from..];
    &rest[..rest.len().min(usize::try_from(most).unwrap_or(LENGTH))]
}

/// A whole body.
pub fn whole(size: u64) -> Vec<u8> {
    let mut body = Vec::new();
    while (body.len() as u64) < size {
        body.extend_from_slice(piece(body.len() as u64, size - body.len() as u64));
    }
    body
}

/// `live-harm noise FOLDER`: files that are bodies, named by their sizes, for others to serve.
pub fn write(folder: &str) -> Result<()> {
    for size in [0, 1, 100, 1024, 100 << 10, 3 << 20] {
        std::fs::write(format!("{folder}/bytes/{size}"), whole(size))?;
    }
    Ok(())
}

/// Compares a body with what it is to be, as it comes.
#[derive(Default)]
pub struct Check {
    at: u64,
    wrong: Option<u64>,
}

impl Check {
    /// The next bytes of it.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let want = piece(self.at, bytes.len() as u64);
            let (now, rest) = bytes.split_at(want.len());
            if now != want && self.wrong.is_none() {
                let same = now.iter().zip(want).take_while(|(a, b)| a == b).count();
                self.wrong = Some(self.at + same as u64);
            }
            self.at += want.len() as u64;
            bytes = rest;
        }
    }

    /// What it came to.
    pub fn told(&self) -> String {
        match self.wrong {
            None => format!("{} bytes as sent", self.at),
            Some(place) => format!("{} bytes, wrong from {place} on", self.at),
        }
    }
}

/// Numbers that look like chance and are the same each time (SplitMix64).
pub struct Dice(u64);

impl Dice {
    /// Each seed has its own.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True in so many of a thousand.
    pub fn one_of_thousand(&mut self, many: u64) -> bool {
        self.roll() % 1000 < many
    }
}
