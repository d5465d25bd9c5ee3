//! Uprobes: the places in a file that `target::tls` names, and the programs they are for. Attached
//! through perf_event_open, so that a hold on them is a descriptor, and goes with the agent.

use std::num::NonZeroU32;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::programs::Program;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeLink, UProbeScope};

use super::{Loaded, Probe};
use crate::target::tls::{Hook, Site};

/// A hold on a probe: dropped, it is gone.
#[derive(Debug)]
pub struct Uprobe {
    _link: UProbeLink,
}

/// Every hook, and its program: on kernels with bpf_loop (5.17), and on older ones.
const HOOKS: [(Hook, &str, Option<&str>); 20] = [
    (Hook::Read, "tls_read", Some("tls_read")),
    (Hook::Write, "tls_write", Some("tls_write")),
    (Hook::WriteEx2, "tls_write_ex2", Some("tls_write_ex2")),
    (Hook::Done, "tls_done", Some("tls_done_old")),
    (Hook::DoneEx, "tls_done_ex", Some("tls_done_ex_old")),
    (Hook::Begin, "tls_begin", Some("tls_begin")),
    (Hook::BeginOnce, "tls_begin_once", Some("tls_begin_once")),
    (Hook::Free, "tls_free", Some("tls_free")),
    (Hook::BioWrite, "tls_bio_write", Some("tls_bio_write")),
    (Hook::GoRead, "go_read", Some("go_read")),
    (Hook::GoReadCopy, "go_read_copy", Some("go_read_copy_old")),
    (Hook::GoWrite, "go_write", Some("go_write_old")),
    (Hook::GoBegin, "go_begin", Some("go_begin")),
    (Hook::RustlsWrite, "rustls_write", None),
    (Hook::RustlsWriteDone, "rustls_write_done", None),
    (Hook::RustlsRead, "rustls_read", None),
    (Hook::RustlsSend, "rustls_send", None),
    (Hook::RustlsSendDone, "rustls_send_done", None),
    (Hook::RustlsReceive, "rustls_receive", None),
    (Hook::RustlsReceiveDone, "rustls_receive_done", None),
];

/// kernel/events/core.c, perf_uprobe_event_init: perfmon_capable since 5.8, CAP_SYS_ADMIN since 6.16
/// and wherever the fix was taken over.
const TRIED: &str = "uprobes are refused (they take CAP_SYS_ADMIN where CVE-2025-38466 is fixed)";

/// Spares the probed processes the work that a counter costs whenever they are scheduled: disables the
/// perf events that this thread opened. Their programs run all the same (kernel/trace/trace_uprobe.c,
/// `__uprobe_perf_func`: a program first, counters then).
pub fn stop_counting() {
    // SAFETY: takes no pointers (kernel/events/core.c, perf_event_task_disable).
    unsafe { libc::prctl(libc::PR_TASK_PERF_EVENTS_DISABLE) };
}

impl Probe {
    /// Loads the programs and tries one; where the kernel refuses, TLS stays unread and the rest works.
    /// Where none are `wanted` nothing is loaded.
    pub(super) fn load_uprobes(&mut self, wanted: bool) {
        self.no_uprobes = if wanted {
            self.try_uprobes().err().map(|why| format!("{why:#}"))
        } else {
            Some("capture.tls is false".into())
        };
    }

    fn try_uprobes(&mut self) -> Result<()> {
        for (hook, ..) in HOOKS {
            if let Some(name) = self.program_of(hook) {
                self.load_program(name, "a uprobe", None)?;
            }
        }
        // The head of our own file, which is no code: nobody comes by.
        let site = Site {
            offset: 0,
            hook: Hook::Free,
            stepped: false,
        };
        let own = NonZeroU32::new(std::process::id());
        let tried = self.attach_uprobe(Path::new("/proc/self/exe"), &site, own);
        tried.map(drop).context(TRIED)
    }

    /// The programs, as loaded.
    pub fn loaded_uprobes(&self) -> Vec<Loaded> {
        let names = HOOKS.iter().filter_map(|&(hook, ..)| self.program_of(hook));
        names.filter_map(|name| self.loaded_program(name)).collect()
    }

    fn program_of(&self, hook: Hook) -> Option<&'static str> {
        let (_, name, old) = HOOKS.into_iter().find(|&(of, ..)| of == hook)?;
        if self.loops { Some(name) } else { old }
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
        let name = self
            .program_of(site.hook)
            .with_context(|| format!("{:?} takes Linux 5.17", site.hook))?;
        let scope = process.map_or(UProbeScope::AllProcesses, UProbeScope::OneProcess);
        let Program::UProbe(program) = self.program(name)? else {
            bail!("{name} is no uprobe");
        };
        program
            .attach(
                UProbeAttachLocation::AbsoluteOffset(site.offset),
                path,
                scope,
            )
            .and_then(|id| program.take_link(id))
            .map(|link| Uprobe { _link: link })
            .with_context(|| format!("attach {name} at {:#x}", site.offset))
    }
}
