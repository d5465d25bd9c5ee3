//! Uprobes: the places in a file that `target::tls` names, and the programs they are for. A hold on
//! them is a descriptor, and goes with the agent: a link for all places of a program (`multi.rs`), or
//! where the kernel has none, a perf event for each.

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::programs::Program;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeLink, UProbeScope};

use super::{Loaded, Probe};
use crate::target::tls::{Hook, Site};

/// A hold on a place, or on many: dropped, they are probed no more.
#[derive(Debug)]
pub enum Uprobe {
    /// By a perf event.
    One {
        /// The hold.
        _link: UProbeLink,
    },
    /// By a link of the kernel's own.
    Many {
        /// The hold.
        _link: OwnedFd,
    },
}

/// Every hook, and its program: on kernels with bpf_loop (5.17), and on older ones.
const HOOKS: [(Hook, &str, Option<&str>); 41] = [
    (Hook::Read, "tls_read", Some("tls_read")),
    (Hook::Write, "tls_write", Some("tls_write")),
    (Hook::WriteEx2, "tls_write_ex2", Some("tls_write_ex2")),
    (Hook::Done, "tls_done", Some("tls_done_old")),
    (Hook::DoneEx, "tls_done_ex", Some("tls_done_ex_old")),
    (Hook::Begin, "tls_begin", Some("tls_begin")),
    (Hook::BeginOnce, "tls_begin_once", Some("tls_begin_once")),
    (Hook::Handshake, "tls_handshake", Some("tls_handshake")),
    (Hook::Free, "tls_free", Some("tls_free")),
    (Hook::BioWrite, "tls_bio_write", Some("tls_bio_write")),
    (Hook::GoRead, "go_read", Some("go_read")),
    (Hook::GoReadCopy, "go_read_copy", Some("go_read_copy_old")),
    (Hook::GoWrite, "go_write", Some("go_write_old")),
    (Hook::GoBegin, "go_begin", Some("go_begin")),
    (Hook::GoRoundTrip, "go_round_trip", Some("go_round_trip")),
    (
        Hook::PythonContext,
        "python_context",
        Some("python_context"),
    ),
    (
        Hook::PythonContextRbx,
        "python_context_rbx",
        Some("python_context_rbx"),
    ),
    (
        Hook::PythonContextRbp,
        "python_context_rbp",
        Some("python_context_rbp"),
    ),
    (
        Hook::PythonContextR12,
        "python_context_r12",
        Some("python_context_r12"),
    ),
    (
        Hook::PythonContextR13,
        "python_context_r13",
        Some("python_context_r13"),
    ),
    (Hook::PythonLock, "python_lock", Some("python_lock")),
    (Hook::UvloopEnter, "uvloop_enter", Some("uvloop_enter")),
    (
        Hook::UvloopConnected,
        "uvloop_connected",
        Some("uvloop_connected"),
    ),
    (Hook::GoStart, "go_start", Some("go_start")),
    (Hook::NodeCallback, "node_callback", Some("node_callback")),
    (
        Hook::NodeCallbackOf,
        "node_callback_of",
        Some("node_callback_of"),
    ),
    (Hook::NodeResolve, "node_resolve", Some("node_resolve")),
    (
        Hook::NodeMicrotasks,
        "node_microtasks",
        Some("node_microtasks"),
    ),
    (Hook::GoDoRequest, "go_do_request", Some("go_do_request")),
    (Hook::GoHttp2Serve, "go_http2_serve", Some("go_http2_serve")),
    (
        Hook::GoHttp2ServeInner,
        "go_http2_serve_inner",
        Some("go_http2_serve_inner"),
    ),
    (Hook::GoGrpcServe, "go_grpc_serve", Some("go_grpc_serve")),
    (Hook::GoGrpcAsk, "go_grpc_ask", Some("go_grpc_ask")),
    (Hook::GoGrpcWrite, "go_grpc_write", Some("go_grpc_write")),
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
            Some("none are wanted".into())
        };
    }

    fn try_uprobes(&mut self) -> Result<()> {
        if self.many.is_none() {
            for name in names(self.loops) {
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
        let tried = self.attach_uprobes(Path::new("/proc/self/exe"), &[site], own);
        tried.map(drop).context(TRIED)
    }

    /// The programs, as loaded.
    pub fn loaded_uprobes(&self) -> Vec<Loaded> {
        let loaded = names(self.loops).map(|name| match &self.many {
            Some(many) => many.loaded(name),
            None => self.loaded_program(name),
        });
        loaded.flatten().collect()
    }

    /// Why no uprobe can be attached, where none can.
    pub fn no_uprobes(&self) -> Option<&str> {
        self.no_uprobes.as_deref()
    }

    /// Attaches to places in the file at `path`: for one process, or for all that map the file.
    ///
    /// # Errors
    /// Where the kernel refuses: the file or the process is gone, or a right is missing. None is attached
    /// then.
    pub fn attach_uprobes(
        &mut self,
        path: &Path,
        sites: &[Site],
        process: Option<NonZeroU32>,
    ) -> Result<Vec<Uprobe>> {
        if let Some(why) = &self.no_uprobes {
            bail!("no uprobes: {why}");
        }
        let mut places: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
        for Site { hook, offset, .. } in sites {
            let name = program_of(*hook, self.loops);
            let name = name.with_context(|| format!("{hook:?} takes Linux 5.17"))?;
            places.entry(name).or_default().push(*offset);
        }
        read_first(path, sites);
        let mut probes = Vec::new();
        for (name, offsets) in places {
            if let Some(many) = &self.many {
                let link = many.attach(name, path, &offsets, process);
                let link = link.with_context(|| format!("attach {name} at {offsets:x?}"))?;
                probes.push(Uprobe::Many { _link: link });
                continue;
            }
            for offset in offsets {
                probes.push(self.attach_uprobe(name, path, offset, process)?);
            }
        }
        Ok(probes)
    }

    fn attach_uprobe(
        &mut self,
        name: &str,
        path: &Path,
        offset: u64,
        process: Option<NonZeroU32>,
    ) -> Result<Uprobe> {
        let scope = process.map_or(UProbeScope::AllProcesses, UProbeScope::OneProcess);
        let Program::UProbe(program) = self.program(name)? else {
            bail!("{name} is no uprobe");
        };
        let place = UProbeAttachLocation::AbsoluteOffset(offset);
        program
            .attach(place, path, scope)
            .and_then(|id| program.take_link(id))
            .map(|link| Uprobe::One { _link: link })
            .with_context(|| format!("attach {name} at {offset:#x}"))
    }

    /// Whether they take CAP_SYS_ADMIN.
    pub fn uprobes_are_events(&self) -> bool {
        self.many.is_none()
    }
}

/// Reads the instructions that the kernel will. Where it has to fetch them from the disk itself it does so
/// without the lock that ext4 asks for since 6.17 (fs/ext4/inode.c, `ext4_check_map_extents_env`), which
/// leaves a warning in its log. What cannot be read here is for the kernel to refuse.
fn read_first(path: &Path, sites: &[Site]) {
    let Ok(file) = File::open(path) else {
        return;
    };
    for site in sites {
        let _ = file.read_at(&mut [0; INSTRUCTION], site.offset);
    }
}

/// Bytes the kernel reads of each place (arch/x86/include/asm/uprobes.h, MAX_UINSN_BYTES).
const INSTRUCTION: usize = 16;

/// All programs there are on kernels with bpf_loop, or without.
pub(super) fn names(loops: bool) -> impl Iterator<Item = &'static str> {
    programs(loops).map(|(_, name)| name)
}

fn program_of(hook: Hook, loops: bool) -> Option<&'static str> {
    let mut all = programs(loops);
    all.find(|(of, _)| *of == hook).map(|(_, name)| name)
}

fn programs(loops: bool) -> impl Iterator<Item = (Hook, &'static str)> {
    let all = HOOKS.into_iter();
    all.filter_map(move |(hook, name, old)| Some((hook, if loops { name } else { old? })))
}

/// Whether attaching failed as there is no such process any more.
pub fn is_gone(error: &anyhow::Error) -> bool {
    let number = |cause: &(dyn std::error::Error + 'static)| {
        let error = cause.downcast_ref::<std::io::Error>()?;
        error.raw_os_error()
    };
    error
        .chain()
        .any(|cause| number(cause) == Some(rustix::io::Errno::SRCH.raw_os_error()))
}
