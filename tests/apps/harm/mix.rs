//! `live-harm mix`: traffic of all sorts at once, over and over, until it is told to end. Each sort's
//! transcript must be the same each time, so all that it says in the end is one of each.

use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use spantap_tests::process::slowly;

use crate::deeds;

/// Says `ready` when it runs; answers a line `rounds` with `rounds` when each sort has been begun and
/// ended since, and `end` with its transcript and a line of a dot.
pub fn mix(proxy: SocketAddr, direct: SocketAddr, authority: &str) -> Result<()> {
    let sorts = deeds::sorts(proxy, direct, authority);
    let rounds: Vec<AtomicUsize> = sorts.iter().map(|_| AtomicUsize::new(0)).collect();
    let told = Mutex::new(BTreeSet::new());
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for ((name, deed), round) in sorts.into_iter().zip(&rounds) {
            let (told, end) = (&told, &end);
            scope.spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let lines = deed().join("\n  ");
                    // All of it at once leaves room for who comes.
                    sleep(begun.elapsed().min(slowly(MOST)));
                    if let Ok(mut told) = told.lock() {
                        told.insert(format!("{name}:\n  {lines}"));
                    }
                    round.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let ended = obey(&rounds);
        end.store(true, Ordering::Relaxed);
        ended
    })?;
    let told = told.into_inner().unwrap_or_default();
    told.iter().for_each(|text| println!("{text}"));
    println!(".");
    Ok(())
}

/// The longest that nothing of a sort goes on.
const MOST: Duration = Duration::from_millis(100);

fn obey(rounds: &[AtomicUsize]) -> Result<()> {
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        if line? == "end" {
            break;
        }
        let before: Vec<usize> = rounds.iter().map(|at| at.load(Ordering::Relaxed)).collect();
        let done = || {
            let mut both = rounds.iter().zip(&before);
            both.all(|(now, then)| now.load(Ordering::Relaxed) >= then + 2)
        };
        while !done() {
            sleep(Duration::from_millis(2));
        }
        println!("rounds");
        std::io::stdout().flush()?;
    }
    Ok(())
}
