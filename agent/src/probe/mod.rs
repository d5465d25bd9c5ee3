//! The kernel side, loaded and attached. The only stage that names `aya`, and the only one with
//! unsafe code. Nothing it does outlives the process: no pin, no link that the kernel keeps.

#![allow(unsafe_code, reason = "system calls and kernel memory meet here")]

pub mod btf;
mod carrier;
mod cgroup;
pub mod clock;
mod control;
pub mod header;
pub mod kernel;
pub mod lease;
mod listening;
mod multi;
mod networks;
pub mod object;
pub mod ring;
pub mod selftest;
mod tasks;
pub mod uprobe;

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{MapData, ProgramArray, RingBuf};
use aya::programs::Program;
use aya::programs::raw_trace_point::RawTracePointLink;
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::tp_btf::BtfTracePointLink;
use aya::{Btf, Ebpf};
use aya_log::EbpfLogger;

use crate::config::{CapturePath, Carrying, Config};
use crate::say;
pub use control::Control;
use header::Header;
use kernel::{Kernel, Types};
use ring::Ring;
use tasks::Tasks;

/// The kernel side of one agent.
pub struct Probe {
    ebpf: Ebpf,
    path: CapturePath,
    programs: Programs,
    control: Arc<Control>,
    /// What follows processes, for as long as this lives.
    always: Vec<Link>,
    /// What sees traffic, while somebody is traced.
    links: Vec<Link>,
    /// What one program calls; the kernel empties it when its last descriptor is closed.
    chain: Option<ProgramArray<MapData>>,
    hot: bool,
    logger: Option<EbpfLogger<Diagnostics>>,
    /// Why no uprobe can be attached, where none can.
    no_uprobes: Option<String>,
    /// The cgroup whose sockets carry traces: all.
    carrier: Option<File>,
    /// Why none does, where it was asked for.
    no_carrier: Option<String>,
    /// What writes lines into requests.
    header: Option<Header>,
    /// Why nothing does, where it was asked for.
    no_header: Option<String>,
    /// Whether the kernel has bpf_loop.
    loops: bool,
    /// Whether the tasks of JVMs are followed.
    tasks: Tasks,
    /// The uprobes' programs for many places at once, where the kernel takes such.
    many: Option<multi::Programs>,
}

/// A program's hold on its tracepoint: dropped, it is detached, and stays loaded.
enum Link {
    Btf { _link: BtfTracePointLink },
    Raw { _link: RawTracePointLink },
    Sockets { _link: SockOpsLink },
}

/// Programs of a path: (program, tracepoint).
type Programs = &'static [(&'static str, &'static str)];

/// A loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its name.
    pub name: &'static str,
    /// Instructions that the verifier walked through (Linux 5.16 and later tell).
    pub verified: Option<u32>,
    /// Instructions it has, after the kernel's rewriting.
    pub length: Option<u32>,
}

/// Bytes of an instruction (include/uapi/linux/bpf.h, struct bpf_insn).
const INSTRUCTION: u32 = 8;

/// Who comes and goes: rare, attached as long as the agent runs.
const PROCESS: Programs = &[
    ("forked", "sched_process_fork"),
    ("executed", "sched_process_exec"),
    ("exited", "sched_process_exit"),
];
/// The primary path.
const SOCKET: Programs = &[
    ("sent", "sock_send_length"),
    ("received", "sock_recv_length"),
    ("state_changed", "inet_sock_set_state"),
    ("destroyed", "tcp_destroy_sock"),
];
/// The fall-back path.
const SYSCALL: Programs = &[
    ("returned", "sys_exit"),
    ("state_changed_fallback", "inet_sock_set_state"),
    ("destroyed_fallback", "tcp_destroy_sock"),
];

/// The same for kernels without bpf_loop.
const SYSCALL_OLD: Programs = &[
    ("returned_old", "sys_exit"),
    ("delivered_old", "sys_exit"),
    ("state_changed_fallback", "inet_sock_set_state"),
    ("destroyed_fallback", "tcp_destroy_sock"),
];

/// The fall-back path on kernels that do not know their own types.
const UNTYPED: Programs = &[
    ("returned_untyped", "sys_exit"),
    ("state_changed_fallback", "inet_sock_set_state"),
    ("destroyed_fallback", "tcp_destroy_sock"),
];

/// The same for kernels without bpf_loop.
const UNTYPED_OLD: Programs = &[
    ("returned_untyped_old", "sys_exit"),
    ("delivered_untyped_old", "sys_exit"),
    ("state_changed_fallback", "inet_sock_set_state"),
    ("destroyed_fallback", "tcp_destroy_sock"),
];

/// Whether a program is the rest of another, which calls it: loaded, and not attached.
fn called(program: &str) -> bool {
    program.starts_with("delivered")
}

/// A refusal without the verifier's account of every instruction: its first and last lines.
fn in_brief(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    match lines.as_slice() {
        [first, .., why, _, _, _] => format!("{} … {why}", first.get(..120).unwrap_or(first)),
        short => short.join("; "),
    }
}

/// Tens of megabytes once parsed: read when programs are loaded, and not kept. None where the
/// kernel has none: then no program is typed.
fn read_btf(types: &Types) -> Result<Option<Btf>> {
    match types {
        Types::Own => {
            let btf = Btf::from_sys_fs().context("read /sys/kernel/btf/vmlinux")?;
            Ok(Some(btf))
        }
        Types::File(_) | Types::Unknown(_) => Ok(None),
    }
}

/// Programs of one capture path.
fn programs(path: CapturePath, kernel: &Kernel) -> Programs {
    let typed = kernel.btf == Types::Own;
    match path {
        CapturePath::Syscall if !typed && !kernel.bpf_loop => UNTYPED_OLD,
        CapturePath::Syscall if !typed => UNTYPED,
        CapturePath::Syscall if !kernel.bpf_loop => SYSCALL_OLD,
        CapturePath::Syscall => SYSCALL,
        CapturePath::Socket | CapturePath::Auto => SOCKET,
    }
}

impl Probe {
    /// Loads everything the chosen path needs and attaches what follows processes. No traffic is
    /// seen before [`set_hot`](Self::set_hot). `uprobes`: whether some are wanted.
    ///
    /// # Errors
    /// Where the kernel lacks or refuses something; the message says what, and how to get it.
    pub fn load(config: &Config, kernel: &Kernel, uprobes: bool) -> Result<Self> {
        let asked = config.propagation.mode;
        let mut why = None;
        if asked != Carrying::Off {
            // What shows before anything is loaded.
            let place = carrier::place(kernel.choose(config.capture.path)?);
            why = place.err().map(|why| format!("{why:#}"));
        }
        if why.is_none() {
            let probe = Self::load_all(config, kernel, uprobes)?;
            if probe.no_carrier.is_none() {
                return Ok(probe);
            }
            why.clone_from(&probe.no_carrier);
        }
        // Who cannot tell another host in which trace a call is does not decide that.
        let mut config = config.clone();
        config.propagation.mode = Carrying::Off;
        Ok(Self {
            no_header: why.clone().filter(|_| asked == Carrying::Header),
            no_carrier: why,
            ..Self::load_all(&config, kernel, uprobes)?
        })
    }

    fn load_all(config: &Config, kernel: &Kernel, uprobes: bool) -> Result<Self> {
        let capture = &config.capture;
        let path = kernel.choose(capture.path)?;
        object::raise_memlock();
        let shards = shards();
        let settings = object::Settings {
            offsets: &kernel.offsets,
            shards,
            fallback: path == CapturePath::Syscall,
            config,
        };
        let btf = read_btf(&kernel.btf)?;
        let mut ebpf = object::load(&settings, btf.as_ref()).map_err(|e| kernel.explain(e))?;
        // An object whose programs have nothing to say has no log map: no error.
        let logger = EbpfLogger::init_with_logger(&mut ebpf, Diagnostics).ok();
        let many = uprobes && kernel.version >= multi::SINCE;
        let many = many.then(|| multi::Programs::load(&ebpf, uprobe::names(kernel.bpf_loop)));
        let control = Arc::new(Control::take(&mut ebpf, shards)?);
        let mut probe = Self {
            ebpf,
            path,
            programs: programs(path, kernel),
            control,
            always: Vec::new(),
            links: Vec::new(),
            chain: None,
            hot: false,
            logger,
            no_uprobes: None,
            tasks: Tasks::Off,
            carrier: None,
            no_carrier: None,
            header: None,
            no_header: None,
            loops: kernel.bpf_loop,
            // Perf events do as well.
            many: many.and_then(Result::ok),
        };
        for &(program, tracepoint) in PROCESS.iter().chain(programs(path, kernel)) {
            probe
                .load_program(program, tracepoint, btf.as_ref())
                .map_err(|e| kernel.explain(e))?;
        }
        probe.chain()?;
        probe.load_uprobes(uprobes);
        if config.propagation.jvm && path == CapturePath::Socket {
            probe.load_tasks(btf.as_ref());
        }
        if config.propagation.mode != Carrying::Off {
            probe.load_carrier(btf.as_ref());
        }
        if config.propagation.mode == Carrying::Header {
            probe.load_header();
        }
        for &(program, tracepoint) in PROCESS {
            let link = probe.attach(program, tracepoint)?;
            probe.always.push(link);
        }
        Ok(probe)
    }

    /// Passes on what the kernel side has to say to people.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// The path in use.
    pub fn path(&self) -> CapturePath {
        self.path
    }

    /// What the kernel made of each program of this path.
    pub fn loaded(&self) -> Vec<Loaded> {
        let names = PROCESS.iter().chain(self.programs);
        names
            .filter_map(|&(name, _)| self.loaded_program(name))
            .collect()
    }

    fn loaded_program(&self, name: &'static str) -> Option<Loaded> {
        let info = self.ebpf.program(name)?.info().ok()?;
        Some(Loaded {
            name,
            verified: info.verified_instruction_count(),
            length: info.size_translated().map(|bytes| bytes / INSTRUCTION),
        })
    }

    /// What may be changed while it runs, from any thread.
    pub fn control(&self) -> Arc<Control> {
        Arc::clone(&self.control)
    }

    /// The rings, one reader each; to be taken once.
    ///
    /// # Errors
    /// Where they were taken before.
    pub fn rings(&mut self) -> Result<Vec<Ring>> {
        (0..self.control.shards)
            .map(|shard| {
                let name = format!("RING_{shard}");
                let map = self
                    .ebpf
                    .take_map(&name)
                    .with_context(|| format!("{name} is taken"))?;
                Ok(Ring::new(RingBuf::try_from(map)?, shard, self.control()))
            })
            .collect()
    }

    /// Attaches or detaches what sees traffic: where nobody is traced no hot path pays anything.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set_hot(&mut self, hot: bool) -> Result<()> {
        if self.hot == hot {
            return Ok(());
        }
        if hot && let Some(cgroup) = self.carrier.take() {
            match self.attach_carrier(&cgroup) {
                Ok(()) => self.carrier = Some(cgroup),
                Err(why) => self.no_carrier = Some(format!("{why:#}")),
            }
        }
        for &(program, tracepoint) in self.programs {
            if hot && !called(program) {
                let link = self.attach(program, tracepoint)?;
                self.links.push(link);
            }
        }
        if hot && self.tasks == Tasks::Followed {
            self.attach_tasks();
        }
        if !hot {
            // They stay loaded: to come back costs a system call, and no look at the kernel's types.
            self.links.clear();
        }
        self.hot = hot;
        Ok(())
    }

    fn program(&mut self, name: &str) -> Result<&mut Program> {
        self.ebpf
            .program_mut(name)
            .with_context(|| format!("the kernel side has no program {name}"))
    }

    fn load_program(&mut self, name: &str, tracepoint: &str, btf: Option<&Btf>) -> Result<()> {
        match self.program(name)? {
            Program::BtfTracePoint(p) => {
                let btf = btf.with_context(|| format!("{name} needs the kernel's own types"))?;
                p.load(tracepoint, btf)
            }
            Program::RawTracePoint(p) => p.load(),
            Program::UProbe(p) => p.load(),
            other => return Err(anyhow!("{name}: unexpected {:?}", other.prog_type())),
        }
        .map_err(|error| anyhow!("load {name} for {tracepoint}: {}", in_brief(&error)))
    }

    /// Attaches what writes lines, unless a test of it fails: until somebody is traced it meets no
    /// connection but the tests'.
    fn load_header(&mut self) {
        let tried = match &self.no_carrier {
            Some(why) => Err(anyhow!("{why}")),
            None => Header::attach(&mut self.ebpf),
        };
        let harmless = tried.and_then(|mut header| {
            let verdicts = selftest::tried(&mut header);
            self.control.forget_counts()?;
            let failed = verdicts
                .iter()
                .find_map(|it| Some((it.name, it.failure.as_ref()?)));
            match failed {
                Some((name, why)) => Err(anyhow!("it is not so that {name} ({why})")),
                None => Ok(header),
            }
        });
        match harmless {
            Ok(header) => self.header = Some(header),
            Err(why) => self.no_header = Some(format!("{why:#}")),
        }
    }

    /// Why no line is written into requests, where that was asked for.
    pub fn no_header(&self) -> Option<&str> {
        self.no_header.as_deref()
    }

    /// Lets a program be called that is part of another.
    fn chain(&mut self) -> Result<()> {
        let Some(&(name, _)) = self.programs.iter().find(|(name, _)| called(name)) else {
            return Ok(());
        };
        let map = self.ebpf.take_map("DELIVER").context("no map DELIVER")?;
        let mut array = ProgramArray::try_from(map)?;
        array
            .set(0, self.program(name)?.fd()?, 0)
            .with_context(|| format!("let {name} be called"))?;
        self.chain = Some(array);
        Ok(())
    }

    fn attach(&mut self, name: &str, tracepoint: &str) -> Result<Link> {
        match self.program(name)? {
            Program::BtfTracePoint(p) => p
                .attach()
                .and_then(|id| p.take_link(id))
                .map(|link| Link::Btf { _link: link }),
            Program::RawTracePoint(p) => p
                .attach(tracepoint)
                .and_then(|id| p.take_link(id))
                .map(|link| Link::Raw { _link: link }),
            other => return Err(anyhow!("{name}: unexpected {:?}", other.prog_type())),
        }
        .with_context(|| format!("attach {name} to {tracepoint}"))
    }
}

/// Diagnostics of the kernel side, for people: on stderr, never data.
struct Diagnostics;

impl log::Log for Diagnostics {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            say::say(format_args!("kernel side: {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Rings, and so reader threads: one a CPU, at most four.
pub fn shards() -> u32 {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => 1,
        2 | 3 => 2,
        _ => 4,
    }
}
