//! Letting go of probes, which takes the kernel a while.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::pipeline::privilege;
use crate::probe::lease::Lease;
use crate::probe::uprobe::Uprobe;

/// Lets go of probes: for each the kernel waits until nobody can be inside, some hundredths of a second
/// (before Linux 6.12 a tenth for each place), during which others must be met.
pub(super) struct Reaper {
    gone: mpsc::Sender<Gone>,
}

/// Probes to be let go of, and then the lease that they were under.
struct Gone {
    probes: Vec<Uprobe>,
    lease: Option<Lease>,
}

impl Reaper {
    /// `held` is the number of those there are.
    pub(super) fn start(held: Arc<AtomicUsize>) -> io::Result<Self> {
        let (sender, gone) = mpsc::channel::<Gone>();
        thread::Builder::new()
            .name("reaper".into())
            .spawn(move || {
                privilege::none();
                while let Ok(first) = gone.recv() {
                    let all = std::iter::once(first).chain(gone.try_iter());
                    let (probes, leases): (Vec<_>, Vec<_>) =
                        all.map(|gone| (gone.probes, gone.lease)).unzip();
                    let probes: Vec<_> = probes.into_iter().flatten().collect();
                    let number = probes.len();
                    drop_all(probes);
                    drop(leases);
                    held.fetch_sub(number, Ordering::Relaxed);
                }
            })?;
        Ok(Self { gone: sender })
    }

    pub(super) fn take(&self, probes: Vec<Uprobe>, lease: Option<Lease>) {
        if !probes.is_empty() || lease.is_some() {
            // Where nobody takes them they are let go of here.
            let _ = self.gone.send(Gone { probes, lease });
        }
    }
}

/// Many at a time: what takes time is to wait.
pub(super) fn drop_all(probes: Vec<Uprobe>) {
    let most = probes.len().div_ceil(AT_ONCE).max(1);
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
}

/// Threads that let go of probes at once.
const AT_ONCE: usize = 64;
