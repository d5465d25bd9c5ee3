//! Letting go of probes, which takes the kernel a while.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::pipeline::privilege;
use crate::probe::lease::Lease;
use crate::probe::uprobe::Uprobe;

/// Probes in a file, and the lease that they are under, which outlives them.
pub(super) struct Set {
    /// The library of their plan.
    pub of: &'static str,
    probes: Vec<Uprobe>,
    lease: Arc<Lease>,
}

impl Set {
    pub(super) fn new(of: &'static str, probes: Vec<Uprobe>, lease: Arc<Lease>) -> Self {
        Self { of, probes, lease }
    }
}

/// Lets go of probes: for each the kernel waits until nobody can be inside, some hundredths of a second
/// (before Linux 6.12 a tenth for each place), during which others must be met.
pub(super) struct Reaper {
    gone: mpsc::Sender<Vec<Set>>,
}

impl Reaper {
    /// `held` is the number of those there are.
    pub(super) fn start(held: Arc<AtomicUsize>) -> io::Result<Self> {
        let (sender, gone) = mpsc::channel::<Vec<Set>>();
        thread::Builder::new()
            .name("reaper".into())
            .spawn(move || {
                privilege::none();
                while let Ok(mut sets) = gone.recv() {
                    sets.extend(gone.try_iter().flatten());
                    drop_all(sets, &held);
                }
            })?;
        Ok(Self { gone: sender })
    }

    pub(super) fn take(&self, sets: Vec<Set>) {
        if !sets.is_empty() {
            // Where nobody takes them they are let go of here.
            let _ = self.gone.send(sets);
        }
    }
}

/// Many at a time: what takes time is to wait. Then the leases; then they are `held` no more.
pub(super) fn drop_all(sets: Vec<Set>, held: &AtomicUsize) {
    let (probes, leases): (Vec<_>, Vec<_>) =
        sets.into_iter().map(|set| (set.probes, set.lease)).unzip();
    let probes: Vec<Uprobe> = probes.into_iter().flatten().collect();
    let number = probes.len();
    let most = number.div_ceil(AT_ONCE).max(1);
    let mut probes = probes.into_iter();
    thread::scope(|scope| {
        loop {
            let some: Vec<Uprobe> = probes.by_ref().take(most).collect();
            if some.is_empty() {
                break;
            }
            scope.spawn(move || drop(some));
        }
    });
    drop(leases);
    held.fetch_sub(number, Ordering::Relaxed);
}

/// Threads that let go of probes at once.
const AT_ONCE: usize = 64;
