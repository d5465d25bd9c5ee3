//! Who is there: one snapshot per process, kept while it lives and for a while after. exec and exit
//! come from the kernel as events; a process that did neither within the agent's life is read when
//! its first record arrives.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::courtesy::urgently;
use crate::event::{Nanos, Process};
use crate::stats::Stats;

use super::cache::Cache;
use super::process::{Reader, Snapshot, inode};

/// Snapshots of processes, shared by all who ask about one. A snapshot's address names the
/// process and its program: it changes when the id is reused and when the process calls exec.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    reader: Mutex<Reader>,
    known: Mutex<Cache<u32, Known>>,
    /// The pod whose network namespace one is, but for the host's.
    pods: Mutex<Cache<u64, (Box<str>, u32)>>,
    stats: Arc<Stats>,
}

#[derive(Debug)]
struct Known {
    snapshot: Arc<Snapshot>,
    checked: Instant,
    /// When its reading began, by the kernel side's clock.
    read: Nanos,
    exited: bool,
}

impl Processes {
    /// Processes of the procfs mounted at `proc`.
    pub fn new(proc: impl Into<PathBuf>, stats: Arc<Stats>) -> Self {
        let proc = proc.into();
        Self {
            reader: Mutex::new(Reader::new(proc.clone())),
            known: Mutex::new(Cache::new(MAX_PROCESSES)),
            pods: Mutex::new(Cache::new(MAX_PROCESSES)),
            proc,
            stats,
        }
    }

    /// Where procfs is.
    pub fn proc(&self) -> &Path {
        &self.proc
    }

    /// What is known of a process, read if nothing is; that it lives is not checked again.
    pub fn get(&self, pid: u32) -> Arc<Snapshot> {
        self.known(pid)
            .unwrap_or_else(|| self.renew(pid, 0, "", Nanos::MAX))
    }

    /// What is known already.
    pub fn known(&self, pid: u32) -> Option<Arc<Snapshot>> {
        self.lock()
            .get(&pid)
            .map(|known| Arc::clone(&known.snapshot))
    }

    /// A process does something (a connection appears): what is known of it is checked against
    /// the id having been reused, now and then. `comm` serves if it is already gone.
    pub fn sight(&self, pid: u32, comm: &str) -> Arc<Snapshot> {
        let known = match self.lock().get(&pid) {
            Some(known) if !known.exited && known.checked.elapsed() < CHECK => {
                return Arc::clone(&known.snapshot);
            }
            Some(known) => Some(Arc::clone(&known.snapshot)),
            None => None,
        };
        let Some(known) = known else {
            return self.renew(pid, 0, comm, Nanos::MAX);
        };
        let start = self.reader().start(pid);
        match start {
            None if !known.seen && known.comm.is_empty() && !comm.is_empty() => {
                self.renew(pid, 0, comm, Nanos::MAX)
            }
            Some(start) if start != known.start => self.renew(pid, 0, comm, Nanos::MAX),
            _ => {
                if let Some(entry) = self.lock().get(&pid) {
                    entry.checked = Instant::now();
                }
                known
            }
        }
    }

    /// A process became another program. One that is gone since may have been read in between, as
    /// another ring told of it first.
    pub fn execed(&self, event: &Process) -> Arc<Snapshot> {
        self.renew(event.process, event.parent, &event.comm, event.time)
    }

    /// A process ended; what is known of it stays for the spans that are still to come.
    pub fn exited(&self, pid: u32) {
        if let Some(known) = self.lock().get(&pid) {
            known.exited = true;
        }
        self.lock().age(&pid);
    }

    /// Every process there is.
    pub fn pids(&self) -> Vec<u32> {
        let Ok(all) = procfs::process::all_processes_with_root(&self.proc) else {
            return Vec::new();
        };
        all.filter_map(|process| u32::try_from(process.ok()?.pid).ok())
            .collect()
    }

    /// Reads a process anew. Where that comes too late, what was read since `since` still holds.
    fn renew(&self, pid: u32, parent: u32, comm: &str, since: Nanos) -> Arc<Snapshot> {
        let now = monotonic();
        let read = urgently(|| self.reader().read(pid));
        if read.as_ref().is_none_or(Snapshot::is_bare) {
            if let Some(known) = self.lock().get(&pid)
                && known.read >= since
                && !known.snapshot.is_bare()
            {
                return Arc::clone(&known.snapshot);
            }
            self.stats.target_gone.add(1);
        } else {
            self.stats.target_snapshots.add(1);
        }
        let snapshot = Arc::new(match read {
            Some(snapshot) => {
                self.note(&snapshot);
                snapshot
            }
            None => {
                let mut snapshot = Snapshot::gone(pid, parent, comm);
                if let Some(before) = self.lock().get(&pid).filter(|known| !known.exited) {
                    snapshot.inherit(&before.snapshot);
                }
                snapshot
            }
        });
        let known = Known {
            snapshot: Arc::clone(&snapshot),
            checked: Instant::now(),
            read: now,
            exited: false,
        };
        let evicted = self.lock().insert(pid, known);
        self.stats.target_evicted.add(evicted);
        snapshot
    }

    /// A process moved bytes in a network namespace. Where it is gone and nothing is known of where it was,
    /// as of a child that serves one connection, it was in the pod whose namespace that is.
    pub fn was_in(&self, pid: u32, netns: u32) {
        let noted = self.pods().get(&netns.into()).cloned();
        // Another pod's may have its number by now.
        let pod = noted
            .filter(|(_, by)| self.is_in(*by, netns.into()))
            .map(|(pod, _)| pod);
        let mut all = self.lock();
        if let (Some(pod), Some(known)) = (pod, all.get(&pid))
            && !known.snapshot.seen
            && known.snapshot.place.is_empty()
        {
            let mut snapshot = Snapshot::clone(&known.snapshot);
            snapshot.place.pod = Some(pod);
            known.snapshot = Arc::new(snapshot);
        }
    }

    /// Whose network namespace that is.
    fn note(&self, snapshot: &Snapshot) {
        let net = snapshot.namespaces.net;
        let Some(pod) = &snapshot.place.pod else {
            return;
        };
        // Of one in another it is not known here which is of this cluster.
        let alone = snapshot.place.outer.is_empty();
        if !alone || net == 0 || net == inode(&self.proc.join("1/ns/net")) {
            return;
        }
        let noted = self.pods().get(&net).cloned();
        if noted.is_none_or(|(known, by)| known != *pod || !self.is_in(by, net)) {
            self.pods().insert(net, (pod.clone(), snapshot.pid));
        }
    }

    /// Whether a process is in a network namespace now.
    fn is_in(&self, pid: u32, net: u64) -> bool {
        net != 0 && inode(&self.proc.join(pid.to_string()).join("ns/net")) == net
    }

    fn pods(&self) -> MutexGuard<'_, Cache<u64, (Box<str>, u32)>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Cache<u32, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kernel side's clock.
pub(super) fn monotonic() -> Nanos {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Snapshots kept (about 1 KiB each, 8 KiB at most).
const MAX_PROCESSES: usize = 4096;

/// A snapshot older than this is checked when its process is sighted.
const CHECK: Duration = Duration::from_secs(2);
