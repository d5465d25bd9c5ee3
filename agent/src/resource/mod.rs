//! Who a span belongs to: the attributes of one service instance, by the semantic conventions.
//!
//! ```text
//! target::Snapshot ─▶ service (name) ─┐
//!   environ ─▶ declared ──────────────┼─▶ attributes ─▶ Arc<Resource>, one per instance
//!   host, container, command ─────────┤
//!   look::Answer (files) ─────────────┤
//!   Cluster (pods) ─▶ kubernetes ─────┘
//! ```
//!
//! What only files tell comes when it comes: until then, or without it, a resource says what procfs
//! told. What Kubernetes tells is waited for as well, and may change: then it is another resource.
//!
//! What the process itself declares in `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` wins over
//! what is derived, and that over the agent's own `OTEL_RESOURCE_ATTRIBUTES`.

#![forbid(unsafe_code)]

pub mod attributes;

pub mod command;

pub mod declared;

pub mod host;

pub mod kubernetes;

mod lives;

pub mod look;

pub mod name;

pub mod service;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::Config;
use crate::event::{Address, Nanos};
use crate::kubernetes::{Cluster, Pod};
use crate::policy::redact::Redactor;
use crate::protocol::Attributes;
use crate::span::{Resource, Span};
use crate::stats::Stats;
use crate::target::cache::Cache;
use crate::target::runtime::{Program, Runtime};
use crate::target::{Processes, Snapshot};
use kubernetes::{Place, Telling};
use lives::{Life, Lives, State};
use look::{Answer, Looker, Question};

pub use crate::target::{container, process};

/// Resources of processes, made at first use and kept while their process is known and after.
#[derive(Debug)]
pub struct Resources {
    processes: Arc<Processes>,
    host: host::Host,
    /// What is known of the pods, where somebody tells of them.
    cluster: Option<Arc<Cluster>>,
    telling: Telling,
    /// Longest a span waits for its pod.
    wait: Duration,
    extra: BTreeMap<String, String>,
    redactor: Option<Redactor>,
    command_args: bool,
    known: Mutex<Cache<u32, Lives>>,
    /// Whose files are to be looked at.
    asked: Mutex<VecDeque<Arc<Snapshot>>>,
    /// Told that somebody's are.
    more: Condvar,
    /// Grows with every answer.
    answers: AtomicU64,
    stats: Arc<Stats>,
}

impl Resources {
    /// Of the configuration: what the agent's own OTEL_RESOURCE_ATTRIBUTES add where nothing else
    /// is known, and what of command lines never leaves.
    pub fn new(
        processes: Arc<Processes>,
        config: &Config,
        cluster: Option<Arc<Cluster>>,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            cluster,
            telling: Telling::new(&config.kubernetes),
            wait: config.kubernetes.wait,
            host: host::Host::read(processes.proc(), config.kubernetes.node.as_deref()),
            known: Mutex::new(Cache::new(MAX_RESOURCES)),
            processes,
            extra: config.resource.clone(),
            redactor: Redactor::wanted(&config.redaction),
            command_args: config.redaction.command_args,
            asked: Mutex::default(),
            more: Condvar::new(),
            answers: AtomicU64::new(0),
            stats,
        }
    }

    /// Makes sure that all that may be wanted of a process is read while it lives: to be called
    /// when a connection of a traced process appears. `comm` is the kernel's name for it, in case
    /// it is gone already. Files are asked for, not waited for.
    pub fn observe(&self, pid: u32, comm: &str, at: Nanos) {
        let snapshot = self.processes.sight(pid, comm);
        self.meet(snapshot, at);
    }

    /// A process became another program at `at`: what it did before is still the old one's. After
    /// [`crate::target::Targets::execed`].
    pub fn execed(&self, pid: u32, at: Nanos) {
        let snapshot = self.processes.get(pid);
        if let Some(lives) = self.lock().get(&pid)
            && lives.find(&snapshot).is_none()
        {
            lives.end(at);
        }
        self.meet(snapshot, at);
    }

    /// A process ended at `at`: whatever is done under its id later is another's.
    pub fn exited(&self, pid: u32, at: Nanos) {
        if let Some(lives) = self.lock().get(&pid) {
            lives.end(at);
        }
    }

    /// Whose a span that began at `at` in this process is, by what is known now: the same `Arc`
    /// for the same instance, unless more became known of it.
    pub fn of(&self, pid: u32, at: Nanos) -> Arc<Resource> {
        let life = self.life(pid, at);
        if let Some(resource) = life.resource {
            return resource;
        }
        let answer = life.answer.clone().unwrap_or_else(|| {
            let program = Program::by_name(&life.snapshot);
            Arc::new(Answer {
                program: program.unwrap_or_default(),
                ..Answer::default()
            })
        });
        let resource = self.build(&life, &answer);
        let mut known = self.lock();
        let first = known
            .get(&pid)
            .and_then(|lives| lives.find(&life.snapshot))
            .filter(|now| now.state == life.state && now.version == life.version);
        match first {
            // Another thread may have been first: there must be one only.
            Some(now) => Arc::clone(now.resource.get_or_insert(resource)),
            None => resource,
        }
    }

    /// What procfs told of whoever a process id meant at `at`.
    pub fn snapshot(&self, pid: u32, at: Nanos) -> Arc<Snapshot> {
        self.life(pid, at).snapshot
    }

    /// Whether all that will be known in time of whom [`Self::of`] tells is known. At most
    /// [`PATIENCE`] after it was first asked for it is, or after what is configured for its pod.
    pub fn is_settled(&self, pid: u32, at: Nanos) -> bool {
        let life = self.life(pid, at);
        life.state != State::Asked && life.is_placed
    }

    /// Whether the program that a process is now shares its threads between requests; `None` while
    /// that is not known.
    pub fn multiplexes_threads(&self, pid: u32) -> Option<bool> {
        self.of_program(pid, |program| program.multiplexes_threads)
    }

    /// Whether it gives each request a thread or a process, as far as is known.
    pub fn gives_threads(&self, pid: u32) -> bool {
        self.of_program(pid, |program| program.gives_threads)
            .unwrap_or_default()
    }

    /// What the program that a process is now says; `None` while it is not known.
    fn of_program(&self, pid: u32, said: impl Fn(&Program) -> bool) -> Option<bool> {
        let life = self.life(pid, Nanos::MAX);
        let answered = life.answer.map(|answer| said(&answer.program));
        answered.or_else(|| Some(said(&Program::by_name(&life.snapshot)?)))
    }

    /// Whether the program that a process is now hands on what it is asked, as far as is known.
    pub fn is_proxy(&self, pid: u32) -> bool {
        self.who(pid, Nanos::MAX).1.is_proxy()
    }

    /// Whether its threads may serve what another has read, as far as is known.
    pub fn takes_over(&self, pid: u32) -> bool {
        self.who(pid, Nanos::MAX).1.takes_over()
    }

    /// The executable's name of whoever a process id meant at `at`, and what runs in it.
    pub fn who(&self, pid: u32, at: Nanos) -> (String, Runtime) {
        let life = self.life(pid, at);
        let answered = life.answer.map(|answer| answer.program.runtime);
        let named = || Some(Program::by_name(&life.snapshot)?.runtime);
        let runtime = answered.or_else(named).unwrap_or_default();
        (life.snapshot.exe_name().to_owned(), runtime)
    }

    /// Whether an answer may still come for the program that a process is now.
    pub fn is_asked(&self, pid: u32) -> bool {
        let mut known = self.lock();
        let life = known.get(&pid).and_then(|lives| lives.at(Nanos::MAX));
        life.is_some_and(|life| life.state == State::Asked || life.state == State::Late)
    }

    /// Grows with every answer: as long as it does not, nothing more is known.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Acquire)
    }

    /// The agent's own resource. Its own files are looked at here and now.
    pub fn own(&self) -> Arc<Resource> {
        let snapshot = self.processes.sight(std::process::id(), "spantap");
        let answer = Looker::new(self.processes.proc()).answer(Question::about(&snapshot));
        let mut life = Life::new(Arc::clone(&snapshot));
        self.place(&mut life);
        Arc::new(Resource {
            attributes: self.attributes(&life, &answer),
            program: attributes::program(&snapshot),
        })
    }

    /// The next process whose files are to be looked at; `None` if there is none for `wait`.
    pub fn next(&self, wait: Duration) -> Option<Arc<Snapshot>> {
        let mut asked = self.asked();
        if asked.is_empty() {
            let woken = self.more.wait_timeout(asked, wait);
            asked = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        asked.pop_front()
    }

    /// What was found; none where it could not be.
    pub fn answer(&self, snapshot: &Arc<Snapshot>, answer: Option<Answer>) {
        let mut known = self.lock();
        let lives = known.get(&snapshot.pid);
        if let Some(life) = lives.and_then(|lives| lives.find(snapshot)) {
            match answer {
                Some(answer) => {
                    life.answer = Some(Arc::new(answer));
                    life.resource = None;
                }
                None if life.state == State::Asked => self.stats.resource_late.add(1),
                None => {}
            }
            life.state = State::Over;
        }
        drop(known);
        self.answers.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether nobody waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.asked().is_empty()
    }

    /// The host all of them are on.
    pub fn host(&self) -> &host::Host {
        &self.host
    }

    /// Names whom a client's span calls, where a cluster is known.
    pub fn name_peer(&self, span: &mut Span, remote: &Address) {
        if let Some(cluster) = &self.cluster {
            kubernetes::name_peer(span, remote, cluster, &self.telling);
        }
    }

    /// Where procfs is.
    pub fn proc(&self) -> &Path {
        self.processes.proc()
    }

    /// A process may be forgotten while spans of it are still to come.
    fn life(&self, pid: u32, at: Nanos) -> Life {
        if let Some(life) = self.lock().get(&pid).and_then(|lives| lives.at(at)) {
            self.settle(life);
            return life.clone();
        }
        self.meet(self.processes.get(pid), at)
    }

    /// Notes whom a process id means from `at` on, and asks for what its files tell.
    fn meet(&self, snapshot: Arc<Snapshot>, at: Nanos) -> Life {
        let mut known = self.lock();
        let pid = snapshot.pid;
        if let Some(life) = known.get(&pid).and_then(|lives| lives.find(&snapshot)) {
            return life.clone();
        }
        let mut life = Life::new(snapshot);
        self.place(&mut life);
        // Who is gone has no files to be found, and the kernel's own threads have none.
        if life.snapshot.exe.is_some() && self.ask(&life.snapshot) {
            life.state = State::Asked;
        }
        match known.get(&pid) {
            Some(lives) => lives.begin(life.clone(), at),
            None => {
                let evicted = known.insert(pid, Lives::of(life.clone()));
                self.stats.resource_evicted.add(evicted);
            }
        }
        life
    }

    fn ask(&self, snapshot: &Arc<Snapshot>) -> bool {
        let mut asked = self.asked();
        if asked.len() >= MAX_ASKED {
            self.stats.resource_late.add(1);
            return false;
        }
        asked.push_back(Arc::clone(snapshot));
        self.more.notify_one();
        true
    }

    /// Looks whether more is known of somebody, or was waited for long enough.
    fn settle(&self, life: &mut Life) {
        if life.state == State::Asked && life.since.elapsed() >= PATIENCE {
            life.state = State::Late;
            self.stats.resource_late.add(1);
        }
        self.place(life);
    }

    /// Looks up somebody's pod, where it may have changed.
    fn place(&self, life: &mut Life) {
        let snapshot = Arc::clone(&life.snapshot);
        let Some(cluster) = self
            .cluster
            .as_ref()
            .filter(|_| snapshot.place.pod.is_some())
        else {
            life.is_placed = true;
            return;
        };
        let version = cluster.version();
        if life.version != version {
            life.version = version;
            let pod = cluster.first_pod(snapshot.place.uids());
            let node = cluster.node();
            // Who was forgotten since is who it was.
            let changed = pod.filter(|pod| {
                life.pod
                    .as_ref()
                    .is_none_or(|known| !Arc::ptr_eq(known, pod))
            });
            let moved = life
                .node
                .as_ref()
                .is_none_or(|known| !Arc::ptr_eq(known, &node));
            if changed.is_some() || moved {
                life.resource = None;
            }
            life.pod = changed.or(life.pod.take());
            life.node = Some(node);
        }
        if life.is_placed {
            return;
        }
        let container = life.snapshot.place.container.as_ref();
        let is_known = |pod: &Arc<Pod>| {
            let container =
                container.is_none_or(|container| pod.container(&container.id).is_some());
            // Another's name may be inside of one's own, which is not known yet.
            let outermost = snapshot.place.uids().next().is_some_and(|uid| pod.is(uid));
            outermost && container && !cluster.may_tell_owner(pod)
        };
        life.is_placed = life.pod.as_ref().is_some_and(is_known);
        if !life.is_placed && life.since.elapsed() >= self.wait {
            life.is_placed = true;
            self.stats.resource_pod_late.add(1);
        }
    }

    fn build(&self, life: &Life, answer: &Answer) -> Arc<Resource> {
        self.stats.resource_made.add(1);
        Arc::new(Resource {
            attributes: self.attributes(life, answer),
            program: attributes::program(&life.snapshot),
        })
    }

    fn attributes(&self, life: &Life, answer: &Answer) -> Attributes {
        let process = &*life.snapshot;
        let place = life.pod.as_deref().zip(life.node.as_deref());
        attributes::build(&attributes::Sources {
            process,
            answer,
            host: &self.host,
            place: place.map(|(pod, node)| Place {
                pod,
                container: process.place.container_in(|uid| pod.is(uid)),
                named: answer.container.name.as_deref(),
                node,
            }),
            telling: &self.telling,
            extra: &self.extra,
            redactor: self.redactor.as_ref(),
            command_args: self.command_args,
            stats: &self.stats,
        })
    }

    fn asked(&self) -> MutexGuard<'_, VecDeque<Arc<Snapshot>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Cache<u32, Lives>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a span waits for what files tell of its process.
pub const PATIENCE: Duration = Duration::from_millis(500);
const MAX_RESOURCES: usize = 4096;
/// Processes whose files wait to be looked at.
const MAX_ASKED: usize = 4096;

#[cfg(test)]
mod tests;
