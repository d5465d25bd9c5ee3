//! Uprobes: the places in a file that `target::tls` names, and the programs they are for. Attached
//! through perf_event_open, so that a hold on them is a descriptor, and goes with the agent.

use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::programs::Program;

use super::{Probe, perf_event};
use crate::target::tls::{Hook, Site};

/// A hold on a probe: dropped, it is gone.
#[derive(Debug)]
pub struct Uprobe {
    _event: OwnedFd,
}

/// Every hook, and its program.
const HOOKS: [(Hook, &str); 13] = [
    (Hook::Read, "tls_read"),
    (Hook::Write, "tls_write"),
    (Hook::WriteEx2, "tls_write_ex2"),
    (Hook::Done, "tls_done"),
    (Hook::DoneEx, "tls_done_ex"),
    (Hook::Begin, "tls_begin"),
    (Hook::BeginOnce, "tls_begin_once"),
    (Hook::Free, "tls_free"),
    (Hook::BioWrite, "tls_bio_write"),
    (Hook::GoRead, "go_read"),
    (Hook::GoReadCopy, "go_read_copy"),
    (Hook::GoWrite, "go_write"),
    (Hook::GoBegin, "go_begin"),
];

impl Probe {
    /// Loads the programs; where the kernel refuses one, TLS stays unread and the rest works.
    pub(super) fn load_uprobes(&mut self) {
        for (_, name) in HOOKS {
            if let Err(error) = self.load_program(name, "a uprobe", None) {
                self.no_uprobes = Some(format!("{error:#}"));
                return;
            }
        }
    }

    /// Why no uprobe can be attached, where none can.
    pub fn no_uprobes(&self) -> Option<&str> {
        self.no_uprobes.as_deref()
    }

    /// Attaches to a place in the file at `path`: for one process, or for all that map the file.
    ///
    /// # Errors
    /// Where the kernel refuses: the file or the process is gone, or a right is missing.
    pub fn attach_uprobe(
        &mut self,
        path: &Path,
        site: &Site,
        process: Option<NonZeroU32>,
    ) -> Result<Uprobe> {
        if let Some(why) = &self.no_uprobes {
            bail!("no uprobes: {why}");
        }
        let (_, name) = HOOKS
            .into_iter()
            .find(|(hook, _)| *hook == site.hook)
            .with_context(|| format!("no program for {:?}", site.hook))?;
        let Program::UProbe(program) = self.program(name)? else {
            bail!("{name} is no uprobe");
        };
        perf_event::uprobe(path, site.offset, process, program.fd()?.as_fd())
            .map(|event| Uprobe { _event: event })
            .with_context(|| format!("attach {name} at {:#x}", site.offset))
    }
}
