//! What follows the tasks of JVMs: loaded where that is wanted, attached once there is one.

use anyhow::Result;
use aya::Btf;

use super::{Probe, Programs};
use crate::say;

/// What follows the tasks of JVMs, on the primary path; these come behind what tells of the same bytes.
const PROGRAMS: Programs = &[
    ("jvm_sent", "sock_send_length"),
    ("jvm_received", "sock_recv_length"),
    ("jvm_woke", "sched_waking"),
];

/// Whether the tasks of JVMs are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tasks {
    /// They are not, and cannot be.
    Off,
    /// They are once there is one.
    Loaded,
    /// There was one.
    Followed,
}

impl Probe {
    /// Loads what follows the tasks of JVMs. Without that their calls have no parent, and all else is as it is.
    pub(super) fn load_tasks(&mut self, btf: Option<&Btf>) {
        for &(program, tracepoint) in PROGRAMS {
            if let Err(why) = self.load_program(program, tracepoint, btf) {
                return say::say(format_args!("tasks of JVMs are not followed: {why:#}"));
            }
        }
        self.tasks = Tasks::Loaded;
    }

    /// Follows the tasks of JVMs from now on: one is there. False where they cannot be.
    pub fn follow_tasks(&mut self) -> bool {
        if self.tasks == Tasks::Loaded {
            self.tasks = Tasks::Followed;
            if self.hot {
                self.attach_tasks();
            }
        }
        self.tasks == Tasks::Followed
    }

    /// Attaches it, all of it or nothing.
    pub(super) fn attach_tasks(&mut self) {
        let attach = |&(program, tracepoint): &(_, _)| self.attach(program, tracepoint);
        match PROGRAMS.iter().map(attach).collect::<Result<Vec<_>>>() {
            Ok(links) => self.links.extend(links),
            Err(why) => {
                self.tasks = Tasks::Off;
                say::say(format_args!("tasks of JVMs are not followed: {why:#}"));
            }
        }
    }
}
