//! `live-harm wire NAME NAME LOSS REORDER`: a bad line between two interfaces that it makes (TUN, so
//! that it works on kernels without netem): of a thousand packets so many are lost, and so many come after
//! later ones. The same chances each time. A line that it reads it answers with how many packets had a TCP
//! option that is for experiments, until there is no more to read.
//!
//! `live-harm forge NAME NAME DEED`: a good line, but for what it does to such options that come from the first
//! ([`crate::forge`]); the answer is how many segments it did that to.

use std::fs::File;
use std::io::{BufRead as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::body::Dice;
use crate::calls;
use crate::forge::{Deed, Fate, Forger};

/// Until standard input ends.
pub fn wire(names: [&str; 2], loss: u64, reorder: u64, deed: &str) -> Result<()> {
    let deed = Deed::named(deed)?;
    let [one, other] = [calls::tun(names[0])?, calls::tun(names[1])?];
    let (forth, back) = ((one.try_clone()?, other.try_clone()?), (other, one));
    for ((from, to), seed, deed) in [(forth, 2, deed), (back, 3, Deed::Nothing)] {
        let forger = Forger::new(deed);
        std::thread::spawn(move || carry((from, to), Dice::new(seed), (loss, reorder), forger));
    }
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        let count = match deed {
            Deed::Nothing => &EXPERIMENTS,
            _ => &FORGED,
        };
        println!("{}", count.load(Ordering::Relaxed));
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Packets so far with an option for experiments.
static EXPERIMENTS: AtomicUsize = AtomicUsize::new(0);

/// Segments so far that something was done to.
static FORGED: AtomicUsize = AtomicUsize::new(0);

/// Whether an IPv4 packet is a segment of TCP with an option of kind 253 or 254 (RFC 4727).
fn has_experiment(packet: &[u8]) -> bool {
    let ip = packet
        .first()
        .map_or(0, |first| usize::from(first & 15) * 4);
    let (Some(&TCP), Some(segment)) = (packet.get(9), packet.get(ip..)) else {
        return false;
    };
    let length = segment.get(12).map_or(0, |word| usize::from(word >> 4) * 4);
    let mut options = segment.get(20..length).unwrap_or_default();
    while let [kind, rest @ ..] = options {
        let size = match (kind, rest) {
            (253 | 254, _) => return true,
            (0, _) => return false,
            (1, _) => 1,
            (_, [size, ..]) => usize::from(*size).max(2),
            _ => return false,
        };
        options = options.get(size..).unwrap_or_default();
    }
    false
}

const TCP: u8 = 6;

fn carry(
    (mut from, mut to): (File, File),
    mut dice: Dice,
    (loss, reorder): (u64, u64),
    mut forger: Forger,
) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    // Waits until so many others have passed, or nothing comes.
    let mut held: Option<(Vec<u8>, u64)> = None;
    let wait = Timespec::try_from(Duration::from_millis(2))?;
    loop {
        let due = match &held {
            Some((_, 0)) => true,
            Some(_) => {
                let mut fds = [PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN)];
                poll(&mut fds, Some(&wait))? == 0
            }
            None => false,
        };
        if due && let Some((packet, _)) = held.take() {
            put(&mut to, &packet);
            continue;
        }
        // An interface that is down, or is being made, has nothing yet.
        let Ok(size) = from.read(&mut buffer) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let mut packet = buffer[..size].to_vec();
        if has_experiment(&packet) {
            EXPERIMENTS.fetch_add(1, Ordering::Relaxed);
        }
        match forger.pass(&mut packet) {
            Fate::Goes { changed } => FORGED.fetch_add(changed.into(), Ordering::Relaxed),
            Fate::Lost => continue,
            Fate::Back => {
                FORGED.fetch_add(1, Ordering::Relaxed);
                put(&mut from, &packet);
                continue;
            }
        };
        if dice.one_of_thousand(loss) {
            continue;
        }
        if held.is_none() && dice.one_of_thousand(reorder) {
            held = Some((packet, 1 + dice.roll() % 5));
            continue;
        }
        put(&mut to, &packet);
        if let Some((_, others)) = &mut held {
            *others -= 1;
        }
    }
}

/// What a line does that cannot deliver: it drops.
fn put(to: &mut File, packet: &[u8]) {
    let _ = to.write(packet);
}
