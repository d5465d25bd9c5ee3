//! What is told by files that are not procfs: the executable and what lies beside it, users' names,
//! the state of container engines. Any of them may be on a file system that never answers, so they
//! are looked at where nothing waits: by a process of its own, one question after the other. What
//! an answer depends on is in its question.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

use super::name::{self, Names};
use crate::target::Snapshot;
use crate::target::container::{Container, Place};
use crate::target::process::Namespaces;
use crate::target::runtime::{Program, Runtimes};
use crate::target::users::Users;

/// Which process is asked about, and what procfs told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pid: u32,
    /// Inode of its mount namespace, whose files are looked at; 0 where unknown.
    pub mount: u64,
    /// Its executable, as it sees it.
    pub exe: Option<Box<str>>,
    argv: Vec<Box<str>>,
    uid: Option<u32>,
    container: Option<Box<str>>,
}

impl Question {
    /// About a process.
    pub fn about(process: &Snapshot) -> Self {
        let container = process.place.container.as_ref();
        Self {
            pid: process.pid,
            mount: process.namespaces.mount,
            exe: process.exe.clone(),
            argv: process.argv.clone(),
            uid: process.uid,
            container: container.map(|container| container.id.clone()),
        }
    }

    fn into_process(self) -> Snapshot {
        Snapshot {
            pid: self.pid,
            exe: self.exe,
            argv: self.argv,
            uid: self.uid,
            namespaces: Namespaces {
                mount: self.mount,
                ..Namespaces::default()
            },
            place: Place {
                container: self.container.map(|id| Container { id, engine: None }),
                ..Place::default()
            },
            seen: true,
            ..Snapshot::default()
        }
    }
}

/// What files told of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What runs in it.
    pub program: Program,
    /// Name of its user.
    pub owner: Option<Box<str>>,
    /// What its container is called.
    pub container: Names,
}

/// Who looks. Keeps what was found in files that many processes share.
#[derive(Debug)]
pub struct Looker {
    proc: PathBuf,
    runtimes: Runtimes,
    users: Users,
}

impl Looker {
    /// At processes of the procfs mounted at `proc`.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        let proc = proc.into();
        Self {
            runtimes: Runtimes::new(proc.clone()),
            users: Users::new(proc.clone()),
            proc,
        }
    }

    /// Looks; waits for as long as the file systems in question take.
    pub fn answer(&mut self, question: Question) -> Answer {
        let process = question.into_process();
        let container = process.place.container.as_ref();
        Answer {
            program: self.runtimes.of(&process),
            container: container
                .map(|container| name::container(&self.proc, &container.id))
                .unwrap_or_default(),
            owner: self.users.of(&process),
        }
    }
}
