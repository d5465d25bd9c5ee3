//! Who a span belongs to: the attributes of one service instance, by the semantic conventions.
//!
//! ```text
//! target::Snapshot ─▶ service (name) ─┐
//!   environ ─▶ declared ──────────────┼─▶ attributes ─▶ Arc<Resource>, one per instance
//!   host, container, command ─────────┘
//! ```
//!
//! What the process itself declares in `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` wins over
//! what is derived, and that over the agent's own `OTEL_RESOURCE_ATTRIBUTES`.

#![forbid(unsafe_code)]

pub mod attributes;

pub mod command;

pub mod declared;

pub mod host;

pub mod name;

pub mod service;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Config;
use crate::policy::redact::Redactor;
use crate::span::Resource;
use crate::stats::Stats;
use crate::target::cache::Cache;
use crate::target::runtime::{Program, Runtimes};
use crate::target::{Processes, Snapshot};

pub use crate::target::{container, process};

/// Resources of processes, made at first use and kept while their process is known and after.
#[derive(Debug)]
pub struct Resources {
    processes: Arc<Processes>,
    runtimes: Runtimes,
    host: host::Host,
    extra: BTreeMap<String, String>,
    redactor: Option<Redactor>,
    made: Mutex<Cache<u32, Made>>,
    stats: Arc<Stats>,
}

#[derive(Clone, Debug)]
struct Made {
    /// The program it was made for: exec and a reused id bring another.
    snapshot: Arc<Snapshot>,
    resource: Arc<Resource>,
    program: Arc<Program>,
}

impl Resources {
    /// Of the configuration: what the agent's own OTEL_RESOURCE_ATTRIBUTES add where nothing else
    /// is known, and what of command lines never leaves.
    pub fn new(processes: Arc<Processes>, config: &Config, stats: Arc<Stats>) -> Self {
        let proc = processes.proc().to_owned();
        Self {
            host: host::Host::read(&proc),
            runtimes: Runtimes::new(proc),
            made: Mutex::new(Cache::new(MAX_RESOURCES)),
            processes,
            extra: config.resource.clone(),
            redactor: Redactor::wanted(&config.redaction),
            stats,
        }
    }

    /// Makes sure that all that may be wanted of a process is read while it lives: to be called
    /// when a connection of a traced process appears. `comm` is the kernel's name for it, in case
    /// it is gone already. After exec, [`crate::target::Targets::execed`] comes first.
    pub fn observe(&self, pid: u32, comm: &str) -> Arc<Resource> {
        let snapshot = self.processes.sight(pid, comm);
        self.made(snapshot).resource
    }

    /// Whose a span of this process is: the same `Arc` for the same instance.
    pub fn of(&self, pid: u32) -> Arc<Resource> {
        self.latest(pid).resource
    }

    /// What runs in a process.
    pub fn program(&self, pid: u32) -> Arc<Program> {
        self.latest(pid).program
    }

    /// The host all of them are on.
    pub fn host(&self) -> &host::Host {
        &self.host
    }

    /// Where procfs is.
    pub fn proc(&self) -> &Path {
        self.processes.proc()
    }

    /// A process may be forgotten while spans of it are still to come.
    fn latest(&self, pid: u32) -> Made {
        if let Some(snapshot) = self.processes.known(pid) {
            return self.made(snapshot);
        }
        let made = self.lock().get(&pid).cloned();
        made.unwrap_or_else(|| self.made(self.processes.get(pid)))
    }

    fn made(&self, snapshot: Arc<Snapshot>) -> Made {
        let pid = snapshot.pid;
        if let Some(made) = self.existing(&mut self.lock(), &snapshot) {
            return made;
        }
        let program = self.runtimes.of(&snapshot);
        let attributes = attributes::build(&attributes::Sources {
            process: &snapshot,
            program: &program,
            host: &self.host,
            extra: &self.extra,
            proc: self.processes.proc(),
            redactor: self.redactor.as_ref(),
            stats: &self.stats,
        });
        let made = Made {
            resource: Arc::new(Resource { attributes }),
            program: Arc::new(program),
            snapshot,
        };
        let mut known = self.lock();
        // Another thread may have been first: there must be one only.
        if let Some(first) = self.existing(&mut known, &made.snapshot) {
            return first;
        }
        let evicted = known.insert(pid, made.clone());
        drop(known);
        self.stats.resource_made.add(1);
        self.stats.resource_evicted.add(evicted);
        made
    }

    fn existing(&self, known: &mut Cache<u32, Made>, snapshot: &Arc<Snapshot>) -> Option<Made> {
        let made = known.get(&snapshot.pid)?;
        Arc::ptr_eq(&made.snapshot, snapshot).then(|| made.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Cache<u32, Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const MAX_RESOURCES: usize = 4096;

#[cfg(test)]
mod tests;
