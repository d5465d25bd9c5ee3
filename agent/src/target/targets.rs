//! The verdict on each process, for the kernel's map of whom to trace. It is made when a process is met,
//! and made again when it becomes another program, when its pod becomes known or changes, and when
//! something else is selected.
//!
//! Never true here: that a verdict stays which was made by what was known before. Who makes one looks
//! whether more became known meanwhile, and if so makes it again.

mod again;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::config::Selection;
use crate::event::{Nanos, Process};
use crate::kubernetes::{Cluster, Pod};
use crate::stats::Stats;

use super::cache::Cache;
use super::own::Own;
use super::pods::Known;
use super::process::Snapshot;
use super::scan::{Processes, monotonic};
use super::selection::{Reason, Selector, Verdict};

/// The verdict on each process.
#[derive(Debug)]
pub struct Targets {
    processes: Arc<Processes>,
    cluster: Option<Arc<Cluster>>,
    chosen: RwLock<Chosen>,
    /// Addresses of pods that spans are sent to.
    receivers: RwLock<HashSet<IpAddr>>,
    /// Grows whenever verdicts may have changed that nobody asked for.
    generation: AtomicU64,
    judged: Mutex<Cache<u32, Judged>>,
    /// What was answered of spans.
    answers: Mutex<Cache<u32, Answer>>,
    /// How many of `judged` are traced; changed under its lock.
    traced: AtomicUsize,
    /// When somebody was last found to be traced, or this was made.
    last: AtomicU64,
    /// Locked before `judged` where both are.
    pending: Mutex<Pending>,
    stats: Arc<Stats>,
}

/// What is selected now.
#[derive(Clone, Debug)]
struct Chosen {
    selection: Arc<Selection>,
    selector: Arc<Selector>,
}

/// Why spans of a program are left out, if they are, by what was known then.
#[derive(Debug)]
struct Answer {
    process: Arc<Snapshot>,
    stamp: (u64, u64),
    reason: Option<Reason>,
}

/// What the kernel side is to be told.
#[derive(Debug)]
struct Pending {
    /// Verdicts, in the order they were made; `None` takes one back. The last says whether it is left that
    /// was traced until then, the program that it is.
    changes: Vec<(u32, Option<Verdict>, bool)>,
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
    /// Stands for its pod's UID; 0 where it is in none.
    pod: u64,
}

impl Targets {
    /// Judges by `selection`, and by what `cluster` tells of pods; who the agent is is found here.
    pub fn new(
        processes: Arc<Processes>,
        selection: &Selection,
        cluster: Option<Arc<Cluster>>,
        stats: Arc<Stats>,
    ) -> Self {
        let own = Own::find(&processes);
        Self {
            chosen: RwLock::new(Chosen {
                selection: Arc::new(selection.clone()),
                selector: Arc::new(Selector::new(selection, own, cluster.is_some())),
            }),
            cluster,
            receivers: RwLock::default(),
            generation: AtomicU64::new(0),
            judged: Mutex::new(Cache::new(MAX_VERDICTS)),
            answers: Mutex::new(Cache::new(MAX_ANSWERS)),
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

    /// Grows whenever verdicts may have changed that nobody asked for: those kept elsewhere are void then.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What tells of pods, where it is asked.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// The namespace of the agent's own pod, where it is known.
    pub fn own_namespace(&self) -> Option<String> {
        let selector = self.selector();
        let pod = self.cluster()?.pod(selector.own().pod.as_deref()?)?;
        Some(pod.namespace.to_string())
    }

    /// What is selected now.
    pub fn selection(&self) -> Arc<Selection> {
        Arc::clone(&self.chosen().selection)
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
        self.sighted_in(pid, comm, 0)
    }

    /// The same, with the network namespace that it was seen in; 0 where that is not known.
    pub fn sighted_in(&self, pid: u32, comm: &str, netns: u32) -> Verdict {
        if let Some(judged) = self.judged().get(&pid) {
            return judged.verdict;
        }
        if let Some(verdict) = self.by_id(pid) {
            return verdict;
        }
        let mut snapshot = self.processes.sight(pid, comm);
        if !snapshot.seen && netns != 0 {
            self.processes.was_in(pid, netns);
            snapshot = self.processes.get(pid);
        }
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
        pending.changes.retain(|(process, ..)| *process != pid);
        let evicted = pending.gone.insert(pid, Instant::now());
        let mut known = self.judged();
        let before = known.remove(&pid);
        self.count(&known, before, None, 0);
        drop(known);
        if before.is_some() {
            self.change(&mut pending, (pid, None, false));
        }
        drop(pending);
        self.stats.target_evicted.add(evicted);
        self.processes.exited(pid);
    }

    /// Tells of the verdicts made since the last call, in order: to be written where the kernel
    /// looks, or to be deleted there where there is none; and whether a process is left by it that was
    /// traced and goes on. Nobody else tells meanwhile.
    pub fn tell(&self, mut tell: impl FnMut(u32, Option<Verdict>, bool)) {
        for (process, verdict, left) in self.pending().changes.drain(..) {
            tell(process, verdict, left);
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
        self.selector().takes_all() || self.traced.load(Ordering::Relaxed) > 0
    }

    /// Whether no process is left out, whatever it is.
    pub fn takes_all(&self) -> bool {
        self.selector().takes_all()
    }

    /// The processes behind it.
    pub fn processes(&self) -> &Arc<Processes> {
        &self.processes
    }

    /// A verdict that needs nothing but the id.
    fn by_id(&self, pid: u32) -> Option<Verdict> {
        for _ in 0..TRIES {
            let stamp = self.stamp();
            let judged = Judged {
                start: 0,
                verdict: self.selector().judge_pid(pid)?,
                descends: false,
                pod: 0,
            };
            let verdict = self.settle(judged, pid, Tell::News);
            if self.stamp() == stamp {
                return Some(verdict);
            }
        }
        None
    }

    fn weigh(&self, snapshot: &Snapshot, mut tell: Tell) -> Verdict {
        let mut tries = 0;
        loop {
            let stamp = self.stamp();
            let verdict = self.weigh_once(snapshot, tell);
            tries += 1;
            if tries == TRIES || self.stamp() == stamp {
                return verdict;
            }
            if tell == Tell::All {
                tell = Tell::News;
            }
        }
    }

    fn weigh_once(&self, snapshot: &Snapshot, tell: Tell) -> Verdict {
        let selector = self.selector();
        let before = self.judged().get(&snapshot.pid).copied();
        let same = before.filter(|judged| judged.start == snapshot.start);
        let mut descends = same.is_some_and(|judged| judged.descends);
        let verdict = self.verdict(&selector, snapshot, false, || {
            descends = descends || self.descends(&selector, snapshot);
            descends
        });
        let judged = Judged {
            start: snapshot.start,
            verdict,
            descends,
            pod: match (&snapshot.place.pod, snapshot.place.outer.is_empty()) {
                (None, _) => 0,
                (Some(uid), true) => stand_in(uid),
                (Some(_), false) => NESTED,
            },
        };
        // What is gone before it could be read is judged for its records only.
        let tell = if snapshot.seen { tell } else { Tell::Nothing };
        self.settle(judged, snapshot.pid, tell)
    }

    /// By what is known now; `settled`: what is not will not be.
    fn verdict(
        &self,
        selector: &Selector,
        process: &Snapshot,
        settled: bool,
        ancestry: impl FnOnce() -> bool,
    ) -> Verdict {
        let place = &process.place;
        let cluster = self.cluster.as_ref();
        let pod = cluster.and_then(|cluster| cluster.first_pod(place.uids()));
        let known = match &place.pod {
            None => Known::Nowhere,
            Some(_) => Known::In {
                pod: pod.as_deref(),
                settled: settled || cluster.is_none(),
            },
        };
        // Who made the Job that made it may be who is wanted.
        let may_be_of = |pod: &Pod| !settled && cluster.is_some_and(|it| it.may_tell_owner(pod));
        match selector.judge(process, known, ancestry) {
            Verdict::Ignored(Reason::Workload) if pod.as_deref().is_some_and(may_be_of) => {
                Verdict::Traced
            }
            Verdict::Traced if pod.is_some_and(|pod| self.receives(&pod)) => {
                Verdict::Ignored(Reason::Receiver)
            }
            verdict => verdict,
        }
    }

    fn receives(&self, pod: &Pod) -> bool {
        let receivers = self.receivers.read();
        let receivers = receivers.unwrap_or_else(PoisonError::into_inner);
        pod.addresses.iter().any(|it| receivers.contains(it))
    }

    /// What verdicts are made by.
    fn stamp(&self) -> (u64, u64) {
        let version = self.cluster.as_ref().map_or(0, |cluster| cluster.version());
        (self.generation(), version)
    }

    fn renew(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
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
            let traced = before.is_some_and(|before| before.verdict.is_traced());
            let left = tell == Tell::News && traced && !judged.verdict.is_traced();
            self.change(&mut pending, (pid, Some(judged.verdict), left));
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

    fn change(&self, pending: &mut Pending, change: (u32, Option<Verdict>, bool)) {
        if pending.changes.len() < MAX_VERDICTS {
            pending.changes.push(change);
        } else {
            self.stats.target_untold.add(1);
        }
    }

    /// Whether a chain of parents leads to a selected process, or to one known to descend from it.
    fn descends(&self, selector: &Selector, snapshot: &Snapshot) -> bool {
        let mut pid = snapshot.parent;
        for _ in 0..MAX_ANCESTORS {
            if pid <= 1 && !selector.names(pid) {
                return false;
            }
            if selector.names(pid)
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

    fn chosen(&self) -> Chosen {
        let chosen = self.chosen.read().unwrap_or_else(PoisonError::into_inner);
        chosen.clone()
    }

    fn selector(&self) -> Arc<Selector> {
        self.chosen().selector
    }

    fn answers(&self) -> MutexGuard<'_, Cache<u32, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judged(&self) -> MutexGuard<'_, Cache<u32, Judged>> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same for the same pod; another's with a chance of one in 2^64, who then is judged anew in vain.
fn stand_in(uid: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    hasher.finish().clamp(1, NESTED - 1)
}

/// For one that is in another, either of which may become known.
const NESTED: u64 = u64::MAX;

/// How often a verdict is made while more and more becomes known.
const TRIES: u32 = 4;
/// Programs of which it is remembered whether their spans are left out.
const MAX_ANSWERS: usize = 4096;
/// How long after the last traced process calls are looked at, nanoseconds.
const LINGER: Nanos = 600_000_000_000;
/// Verdicts that are kept, and generations looked up.
const MAX_VERDICTS: usize = 65_536;
const MAX_ANCESTORS: usize = 64;
const MAX_GONE: usize = 4096;

/// How long after its end another ring may still have a process's records.
const LATE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::fixture::Proc;
    use super::*;

    fn targets(proc: &Proc, selection: &Selection) -> Targets {
        let stats = Arc::new(Stats::default());
        let processes = Arc::new(Processes::new(proc.root.clone(), Arc::clone(&stats)));
        Targets::new(processes, selection, None, stats)
    }

    fn told(targets: &Targets) -> Vec<(u32, Option<Verdict>)> {
        let mut told = Vec::new();
        targets.tell(|process, verdict, _| told.push((process, verdict)));
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
                pod: 0,
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

    const UID: &str = "073d9428-b92d-46fa-83a7-a10de3d45bdf";

    fn pod(namespace: &str) -> Pod {
        Pod {
            uid: UID.into(),
            namespace: namespace.into(),
            name: "cart-0".into(),
            addresses: vec!["10.1.0.4".parse().expect("an address")],
            ..Pod::default()
        }
    }

    fn in_cluster(proc: &Proc, selection: &Selection) -> (Targets, Arc<Cluster>) {
        let stats = Arc::new(Stats::default());
        let processes = Arc::new(Processes::new(proc.root.clone(), Arc::clone(&stats)));
        let cluster = Arc::new(Cluster::new("node", Arc::clone(&stats)));
        let known = Some(Arc::clone(&cluster));
        (Targets::new(processes, selection, known, stats), cluster)
    }

    fn in_a_pod() -> Proc {
        let proc = world();
        proc.put(
            200,
            "cgroup",
            format!("0::/kubepods/pod{UID}/x\n").as_bytes(),
        );
        proc
    }

    #[test]
    fn a_pod_that_becomes_known_is_judged_anew() {
        let proc = in_a_pod();
        let (targets, cluster) = in_cluster(&proc, &by(|s| s.namespaces = texts(&["shop"])));
        let process = targets.processes().get(200);
        let out = || targets.is_left_out(&process);
        assert!(targets.judge(200).is_traced());
        assert_eq!(targets.judge(201), Verdict::Ignored(Reason::NoPod));
        assert_eq!(out(), Some(Reason::UnknownPod));
        told(&targets);
        let generation = targets.generation();
        cluster.put_pod(pod("shop"));
        targets.learn();
        assert_eq!(
            (told(&targets).len(), targets.generation()),
            (0, generation)
        );
        assert_eq!(out(), None);
        cluster.put_pod(pod("web"));
        assert_eq!(out(), Some(Reason::Namespace), "before it was learned");
        targets.learn();
        let ignored = Verdict::Ignored(Reason::Namespace);
        assert_eq!(targets.judge(200), ignored);
        assert!(targets.generation() > generation);
        let mut left = Vec::new();
        targets.tell(|process, verdict, was| left.push((process, verdict, was)));
        assert_eq!(left, [(200, Some(ignored), true)]);
        // Where spans are sent to.
        cluster.put_pod(pod("shop"));
        targets.learn();
        assert!(targets.judge(200).is_traced());
        targets.leave_out(pod("shop").addresses.into_iter().collect());
        assert_eq!(targets.judge(200), Verdict::Ignored(Reason::Receiver));
        assert_eq!(out(), Some(Reason::Receiver));
    }

    #[test]
    fn a_pod_is_the_outermost_that_the_cluster_has() {
        let other = "11111111-b92d-46fa-83a7-a10de3d45bdf";
        let proc = in_a_pod();
        let forged = format!("0::/kubepods/pod{UID}/x/kubepods/pod{other}/x\n");
        proc.put(200, "cgroup", forged.as_bytes());
        let (targets, cluster) = in_cluster(&proc, &by(|s| s.namespaces = texts(&["shop"])));
        cluster.put_pod(Pod {
            uid: other.into(),
            ..pod("shop")
        });
        targets.learn();
        assert!(targets.judge(200).is_traced());
        cluster.put_pod(pod("web"));
        targets.learn();
        assert_eq!(targets.judge(200), Verdict::Ignored(Reason::Namespace));
    }

    #[test]
    fn who_is_gone_was_in_the_pod_whose_network_it_used() {
        let proc = in_a_pod();
        let link = |pid: u32, net: &str| {
            std::fs::create_dir_all(proc.root.join(format!("{pid}/ns"))).expect("a folder");
            let at = proc.root.join(format!("{pid}/ns/net"));
            std::os::unix::fs::symlink(net, at).expect("a link");
        };
        link(200, "net:[4026531999]");
        link(1, "net:[4026531840]");
        let (targets, cluster) = in_cluster(&proc, &by(|s| s.namespaces = texts(&["shop"])));
        cluster.put_pod(pod("shop"));
        targets.judge(200);
        assert!(targets.sighted_in(900, "httpd", 4_026_531_999).is_traced());
        let process = targets.processes().get(900);
        assert_eq!(targets.is_left_out(&process), None);
        let host = targets.sighted_in(901, "httpd", 4_026_531_840);
        assert_eq!(host, Verdict::Ignored(Reason::NoPod));
        assert!(!targets.sighted_in(902, "httpd", 0).is_traced());
    }

    #[test]
    fn without_kubernetes_no_pod_is_known() {
        let proc = in_a_pod();
        let unasked = targets(&proc, &by(|s| s.namespaces = texts(&["*"])));
        assert_eq!(unasked.judge(200), Verdict::Ignored(Reason::UnknownPod));
        let only = targets(&proc, &by(|s| s.pods_only = true));
        assert!(only.judge(200).is_traced() && !only.judge(201).is_traced());
    }

    #[test]
    fn something_else_is_selected() {
        let proc = world();
        let targets = targets(&proc, &Selection::default());
        targets.scan();
        told(&targets);
        assert!(targets.takes_all());
        let nginx = targets.processes().get(100);
        assert_eq!(targets.is_left_out(&nginx), None);
        targets.select(&by(|s| s.pids = vec![200]));
        assert!(!targets.takes_all() && targets.selection().pids == [200]);
        assert!(targets.judge(201).is_traced() && !targets.judge(100).is_traced());
        assert_eq!(targets.is_left_out(&nginx), Some(Reason::Pid));
        assert!(told(&targets).contains(&(100, Some(Verdict::Ignored(Reason::Pid)))));
        assert_eq!(targets.traced.load(Ordering::Relaxed), 2);
        // Whose child was selected is not any more.
        targets.select(&by(|s| s.pids = vec![100]));
        assert!(!targets.judge(201).is_traced() && targets.judge(101).is_traced());
        // A child that outlived its parent stays, as long as the same are selected.
        targets.exited(100);
        proc.remove(100);
        proc.process(101, 1, 11, "/usr/sbin/nginx", &[b"nginx: worker process"]);
        targets.select(&by(|s| {
            s.pids = vec![100];
            s.exclude_commands = texts(&["curl"]);
        }));
        assert!(targets.judge(101).is_traced());
        targets.select(&Selection::default());
        assert!(targets.takes_all() && targets.judge(200).is_traced());
        assert_eq!(targets.is_left_out(&nginx), None);
    }
}
