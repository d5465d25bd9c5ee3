//! Who is there: one snapshot per process, kept while it lives and for a while after, and the
//! verdict on each. exec and exit come from the kernel as events; a process that did neither
//! within the agent's life is read when its first record arrives.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Selection;
use crate::courtesy::urgently;
use crate::event::{Nanos, Process};
use crate::stats::Stats;

use super::cache::Cache;
use super::process::{Reader, Snapshot};
use super::selection::{Selector, Verdict};

/// Snapshots of processes, shared by all who ask about one. A snapshot's address names the
/// process and its program: it changes when the id is reused and when the process calls exec.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    reader: Mutex<Reader>,
    known: Mutex<Cache<u32, Known>>,
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
            Some(snapshot) => snapshot,
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

    fn lock(&self) -> MutexGuard<'_, Cache<u32, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The verdict on each process, for the kernel's map of whom to trace.
#[derive(Debug)]
pub struct Targets {
    processes: Arc<Processes>,
    selector: Selector,
    judged: Mutex<Cache<u32, Judged>>,
    /// How many of `judged` are traced; changed under its lock.
    traced: AtomicUsize,
    /// When somebody was last found to be traced, or this was made.
    last: AtomicU64,
    /// Locked before `judged` where both are.
    pending: Mutex<Pending>,
    stats: Arc<Stats>,
}

/// What the kernel side is to be told.
#[derive(Debug)]
struct Pending {
    /// Verdicts, in the order they were made; `None` takes one back.
    changes: Vec<(u32, Option<Verdict>)>,
    /// Processes that ended a moment ago: other rings' records of them may still come, and nobody
    /// would take back what is told of them now.
    gone: Cache<u32, Instant>,
}

/// Which verdicts the kernel side is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    /// Any: it has just forgotten the last one, as it does at exec.
    All,
    /// One that differs from the last.
    News,
    /// None.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Judged {
    start: u64,
    verdict: Verdict,
    /// Descends from a process selected by its id: stays so when its parent ends.
    descends: bool,
}

impl Targets {
    /// Judges by `selection`; which process is the agent's is found here.
    pub fn new(processes: Arc<Processes>, selection: &Selection, stats: Arc<Stats>) -> Self {
        let own = own_process(&processes);
        Self {
            selector: Selector::new(selection, own),
            judged: Mutex::new(Cache::new(MAX_VERDICTS)),
            traced: AtomicUsize::new(0),
            last: AtomicU64::new(monotonic()),
            pending: Mutex::new(Pending {
                changes: Vec::new(),
                gone: Cache::new(MAX_GONE),
            }),
            processes,
            stats,
        }
    }

    /// Judges every process there is, as at the agent's start.
    pub fn scan(&self) -> Vec<(u32, Verdict)> {
        self.processes
            .pids()
            .into_iter()
            .map(|pid| (pid, self.judge(pid)))
            .collect()
    }

    /// The verdict on a process; made, and put among the changes, when it is asked for first.
    pub fn judge(&self, pid: u32) -> Verdict {
        self.sighted(pid, "")
    }

    /// Like [`Self::judge`], with the kernel's name for the process, in case it is gone already.
    pub fn sighted(&self, pid: u32, comm: &str) -> Verdict {
        if let Some(judged) = self.judged().get(&pid) {
            return judged.verdict;
        }
        if let Some(verdict) = self.selector.judge_pid(pid) {
            let judged = Judged {
                start: 0,
                verdict,
                descends: false,
            };
            return self.settle(judged, pid, Tell::News);
        }
        let snapshot = self.processes.sight(pid, comm);
        self.weigh(&snapshot, Tell::News)
    }

    /// A process became another program: it is read and judged anew.
    pub fn execed(&self, event: &Process) -> Verdict {
        self.pending().gone.remove(&event.process);
        let snapshot = self.processes.execed(event);
        self.weigh(&snapshot, Tell::All)
    }

    /// A process ended: its id may come to mean another. What was to be told of it is not, and
    /// what was told is taken back.
    pub fn exited(&self, pid: u32) {
        let mut pending = self.pending();
        pending.changes.retain(|(process, _)| *process != pid);
        let evicted = pending.gone.insert(pid, Instant::now());
        let mut known = self.judged();
        let before = known.remove(&pid);
        self.count(&known, before, None, 0);
        drop(known);
        if before.is_some() {
            self.change(&mut pending, pid, None);
        }
        drop(pending);
        self.stats.target_evicted.add(evicted);
        self.processes.exited(pid);
    }

    /// Tells of the verdicts made since the last call, in order: to be written where the kernel
    /// looks, or to be deleted there where there is none. Nobody else tells meanwhile.
    pub fn tell(&self, mut tell: impl FnMut(u32, Option<Verdict>)) {
        for (process, verdict) in self.pending().changes.drain(..) {
            tell(process, verdict);
        }
    }

    /// Whether calls need to be looked at: somebody is traced, or was not long ago. What is selected next
    /// may have done what it came for before anything is attached again.
    pub fn is_hot(&self) -> bool {
        let now = monotonic();
        if self.any_traced() {
            self.last.store(now, Ordering::Relaxed);
            return true;
        }
        now.saturating_sub(self.last.load(Ordering::Relaxed)) < LINGER
    }

    /// Whether some process is traced now, or any new one would be.
    fn any_traced(&self) -> bool {
        self.selector.takes_all() || self.traced.load(Ordering::Relaxed) > 0
    }

    /// Whether no process is left out, whatever it is.
    pub fn takes_all(&self) -> bool {
        self.selector.takes_all()
    }

    /// The processes behind it.
    pub fn processes(&self) -> &Arc<Processes> {
        &self.processes
    }

    fn weigh(&self, snapshot: &Snapshot, tell: Tell) -> Verdict {
        let before = self.judged().get(&snapshot.pid).copied();
        let same = before.filter(|judged| judged.start == snapshot.start);
        let mut descends = same.is_some_and(|judged| judged.descends);
        let verdict = self.selector.judge(snapshot, || {
            descends = descends || self.descends(snapshot);
            descends
        });
        let judged = Judged {
            start: snapshot.start,
            verdict,
            descends,
        };
        // What is gone before it could be read is judged for its records only.
        let tell = if snapshot.seen { tell } else { Tell::Nothing };
        self.settle(judged, snapshot.pid, tell)
    }

    fn settle(&self, judged: Judged, pid: u32, tell: Tell) -> Verdict {
        let mut pending = self.pending();
        if pending
            .gone
            .get(&pid)
            .is_some_and(|since| since.elapsed() < LATE)
        {
            return judged.verdict;
        }
        let mut known = self.judged();
        let before = known.get(&pid).copied();
        let same = before.is_some_and(|old| old.verdict == judged.verdict);
        let evicted = known.insert(pid, judged);
        self.count(&known, before, Some(judged), evicted);
        drop(known);
        if tell == Tell::All || (tell == Tell::News && !same) {
            self.change(&mut pending, pid, Some(judged.verdict));
        }
        drop(pending);
        self.stats.target_evicted.add(evicted);
        judged.verdict
    }

    /// Keeps count of who is traced. Where others had to go it counts anew; they go by the quarter.
    fn count(
        &self,
        known: &Cache<u32, Judged>,
        before: Option<Judged>,
        after: Option<Judged>,
        evicted: u64,
    ) {
        let traced = |judged: &Judged| judged.verdict.is_traced();
        if evicted > 0 {
            let all = known.values().filter(|judged| traced(judged)).count();
            self.traced.store(all, Ordering::Relaxed);
            return;
        }
        match (
            before.as_ref().is_some_and(traced),
            after.as_ref().is_some_and(traced),
        ) {
            (false, true) => self.traced.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.traced.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    fn change(&self, pending: &mut Pending, pid: u32, verdict: Option<Verdict>) {
        if pending.changes.len() < MAX_VERDICTS {
            pending.changes.push((pid, verdict));
        } else {
            self.stats.target_untold.add(1);
        }
    }

    /// Whether a chain of parents leads to a selected process, or to one known to descend from it.
    fn descends(&self, snapshot: &Snapshot) -> bool {
        let mut pid = snapshot.parent;
        for _ in 0..MAX_ANCESTORS {
            if pid <= 1 && !self.selector.names(pid) {
                return false;
            }
            if self.selector.names(pid)
                || self
                    .judged()
                    .get(&pid)
                    .is_some_and(|judged| judged.descends)
            {
                return true;
            }
            pid = self.processes.get(pid).parent;
        }
        false
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judged(&self) -> MutexGuard<'_, Cache<u32, Judged>> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn monotonic() -> Nanos {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The agent's id in the procfs in use, which may be the host's while the agent is in a container.
fn own_process(processes: &Processes) -> u32 {
    let own = std::fs::read_link(processes.proc().join("self")).ok();
    own.and_then(|link| link.to_str()?.parse().ok())
        .unwrap_or_else(std::process::id)
}

/// How long after the last traced process calls are looked at, nanoseconds.
const LINGER: Nanos = 600_000_000_000;
/// Snapshots kept (about 1 KiB each, 8 KiB at most), verdicts, and generations looked up.
const MAX_PROCESSES: usize = 4096;
const MAX_VERDICTS: usize = 65_536;
const MAX_ANCESTORS: usize = 64;
const MAX_GONE: usize = 4096;

/// A snapshot older than this is checked when its process is sighted.
const CHECK: Duration = Duration::from_secs(2);
/// How long after its end another ring may still have a process's records.
const LATE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::fixture::Proc;
    use super::super::selection::Reason;
    use super::*;

    fn targets(proc: &Proc, selection: &Selection) -> Targets {
        let stats = Arc::new(Stats::default());
        let processes = Arc::new(Processes::new(proc.root.clone(), Arc::clone(&stats)));
        Targets::new(processes, selection, stats)
    }

    fn told(targets: &Targets) -> Vec<(u32, Option<Verdict>)> {
        let mut told = Vec::new();
        targets.tell(|process, verdict| told.push((process, verdict)));
        told
    }

    fn exec(process: u32, parent: u32, comm: &str) -> Process {
        Process {
            process,
            parent,
            time: 0,
            comm: comm.into(),
        }
    }

    fn world() -> Proc {
        let proc = Proc::make();
        let id = "1fa3efb2c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
        proc.process(1, 0, 1, "/sbin/init", &[b"init"]);
        proc.process(100, 1, 10, "/usr/sbin/nginx", &[b"nginx: master process"]);
        proc.process(101, 100, 11, "/usr/sbin/nginx", &[b"nginx: worker process"]);
        proc.put(
            101,
            "cgroup",
            format!("0::/system.slice/docker-{id}.scope\n").as_bytes(),
        );
        proc.process(
            200,
            1,
            12,
            "/usr/bin/python3.11",
            &[b"python3", b"/srv/app.py"],
        );
        proc.put(200, "cgroup", b"0::/system.slice/app.service\n");
        proc.process(201, 200, 13, "/usr/bin/curl", &[b"curl", b"http://h/"]);
        proc.process(300, 2, 14, "", &[]);
        proc.process(
            std::process::id(),
            50,
            15,
            "/usr/bin/spantap",
            &[b"spantap"],
        );
        proc.process(50, 1, 16, "/bin/bash", &[b"bash"]);
        proc
    }

    fn check(selection: &Selection, expected: &[u32]) {
        let proc = world();
        let targets = targets(&proc, selection);
        let verdicts = targets.scan().into_iter();
        let mut traced: Vec<u32> = verdicts
            .filter(|(_, v)| v.is_traced())
            .map(|(pid, _)| pid)
            .collect();
        traced.sort_unstable();
        assert_eq!(traced, expected, "{selection:?}");
        assert_eq!(targets.any_traced(), !expected.is_empty());
        assert_eq!(
            targets.judge(std::process::id()),
            Verdict::Ignored(Reason::Agent)
        );
        assert_eq!(told(&targets).len(), 8);
        assert_eq!(told(&targets).len(), 0);
    }

    fn by(fill: impl FnOnce(&mut Selection)) -> Selection {
        let mut selection = Selection::default();
        fill(&mut selection);
        selection
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn selections_by_command() {
        let commands = |list: &[&str]| by(|s| s.commands = texts(list));
        check(&commands(&[]), &[1, 50, 100, 101, 200, 201, 300]);
        check(&commands(&["nginx"]), &[100, 101]);
        check(&commands(&["/usr/bin/*"]), &[200, 201]);
        check(&commands(&["*app.py"]), &[200]);
        check(&commands(&["python*", "curl"]), &[200, 201]);
        check(&commands(&["nothing"]), &[]);
        check(
            &by(|s| s.exclude_commands = texts(&["nginx"])),
            &[1, 50, 200, 201],
        );
    }

    #[test]
    fn selections_by_process_and_place() {
        check(&by(|s| s.pids = vec![200]), &[200, 201]);
        check(&by(|s| s.pids = vec![1]), &[1, 50, 100, 101, 200, 201]);
        let containers = |list: &[&str]| by(|s| s.containers = texts(list));
        check(&containers(&["1fa3efb2c0ff"]), &[101]);
        check(&containers(&["1fa3efb2c0"]), &[]);
        check(&containers(&["1fa*"]), &[101]);
        check(
            &by(|s| s.cgroups = texts(&["/system.slice/*"])),
            &[101, 200],
        );
        let both = by(|s| {
            s.pids = vec![200];
            s.commands = texts(&["curl"]);
        });
        check(&both, &[201]);
    }

    #[test]
    fn descendants_stay_selected() {
        let proc = world();
        let targets = targets(
            &proc,
            &Selection {
                pids: vec![200],
                ..Selection::default()
            },
        );
        assert!(targets.judge(201).is_traced());
        // The parent ends, the child is adopted by init and calls exec.
        targets.exited(200);
        proc.remove(200);
        proc.process(201, 1, 13, "/usr/bin/wget", &[b"wget"]);
        assert!(targets.execed(&exec(201, 1, "wget")).is_traced());
        // Its own child is a descendant too.
        proc.process(202, 201, 20, "/usr/bin/curl", &[b"curl"]);
        assert!(targets.judge(202).is_traced());
        // Another process with its id is not.
        targets.exited(201);
        proc.process(201, 1, 99, "/usr/bin/other", &[b"other"]);
        assert_eq!(
            targets.execed(&exec(201, 1, "other")),
            Verdict::Ignored(Reason::Pid)
        );
        // A child that is gone already is judged by the parent the kernel named.
        assert!(targets.execed(&exec(203, 202, "curl")).is_traced());
        assert_eq!(
            targets.execed(&exec(204, 1, "curl")),
            Verdict::Ignored(Reason::Pid)
        );
    }

    #[test]
    fn exec_changes_the_verdict() {
        let proc = world();
        let selection = Selection {
            commands: vec!["curl".into()],
            ..Selection::default()
        };
        let targets = targets(&proc, &selection);
        assert!(!targets.judge(100).is_traced());
        proc.process(100, 1, 10, "/usr/bin/curl", &[b"curl"]);
        assert!(!targets.judge(100).is_traced(), "not before exec is told");
        assert!(targets.execed(&exec(100, 1, "curl")).is_traced());
        let expected = [
            (100, Some(Verdict::Ignored(Reason::Command))),
            (100, Some(Verdict::Traced)),
        ];
        assert_eq!(told(&targets), expected);
        // The kernel side forgets a verdict at exec, whatever the next one is.
        targets.execed(&exec(100, 1, "curl"));
        assert_eq!(told(&targets), [(100, Some(Verdict::Traced))]);
        // Gone at once: the kernel's name is enough.
        assert!(targets.execed(&exec(900, 1, "curl")).is_traced());
        assert!(targets.sighted(901, "curl").is_traced());
    }

    #[test]
    fn the_traced_are_counted() {
        let proc = world();
        let selection = by(|s| s.commands = texts(&["curl", "x*"]));
        let targets = targets(&proc, &selection);
        let traced = || targets.traced.load(Ordering::Relaxed);
        targets.scan();
        assert_eq!(traced(), 1);
        targets.execed(&exec(201, 200, "curl"));
        targets.execed(&exec(900, 1, "curl"));
        assert_eq!(traced(), 2);
        proc.process(201, 1, 13, "/usr/bin/wget", &[b"wget"]);
        targets.execed(&exec(201, 200, "wget"));
        targets.exited(900);
        targets.exited(900);
        assert_eq!(traced(), 0);
        assert!(!targets.any_traced());
        // Another one may come.
        assert!(targets.is_hot());
        targets.last.fetch_sub(LINGER, Ordering::Relaxed);
        assert!(!targets.is_hot());
        // More than there is room for: the eldest are forgotten, and counted no more.
        for pid in 1000..1000 + MAX_VERDICTS as u32 {
            let judged = Judged {
                start: 0,
                verdict: Verdict::Traced,
                descends: false,
            };
            targets.settle(judged, pid, Tell::Nothing);
        }
        let all = targets
            .judged()
            .values()
            .filter(|j| j.verdict.is_traced())
            .count();
        assert_eq!(traced(), all);
        assert!(all < MAX_VERDICTS);
    }

    #[test]
    fn nothing_is_told_of_who_is_gone() {
        let proc = world();
        for commands in [&["curl"][..], &[]] {
            let selection = by(|s| s.commands = texts(commands));
            let targets = targets(&proc, &selection);
            // Judged and gone before anybody was told.
            targets.execed(&exec(201, 200, "curl"));
            targets.exited(201);
            assert_eq!(told(&targets), [(201, None)]);
            // Another ring was read later.
            assert!(targets.judge(201).is_traced());
            assert_eq!(told(&targets), []);
            // Told, and gone then.
            targets.execed(&exec(201, 1, "curl"));
            assert_eq!(told(&targets), [(201, Some(Verdict::Traced))]);
            targets.exited(201);
            assert_eq!(told(&targets), [(201, None)]);
            // Gone before it could be read.
            targets.execed(&exec(900, 1, "curl"));
            assert_eq!(told(&targets), []);
        }
    }

    #[test]
    fn a_loop_of_parents_ends() {
        let proc = Proc::make();
        proc.process(10, 11, 1, "/a", &[b"a"]);
        proc.process(11, 10, 1, "/b", &[b"b"]);
        let targets = targets(
            &proc,
            &Selection {
                pids: vec![7],
                ..Selection::default()
            },
        );
        assert_eq!(targets.judge(10), Verdict::Ignored(Reason::Pid));
    }
}
