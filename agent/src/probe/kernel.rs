//! What this kernel and these privileges allow, asked once at start. Answers are found by looking
//! (BTF, /proc, /sys), not by version numbers, except where the kernel shows nothing to look at.

use std::fs;
use std::path::{Path, PathBuf};

use agent_ebpf::abi::{ABSENT, FIELD_COUNT, FIELDS};
use anyhow::{Error, Result, bail};

use super::btf::Btf;
use super::multi;
use crate::config::{Capture, CapturePath, Carrying, Config, Propagation};
use crate::say;

/// The running kernel, as far as the agent needs to know it.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// (major, minor).
    pub version: (u32, u32),
    /// Where its types are known from.
    pub btf: Types,
    /// Offsets by `abi::Field`; all absent without BTF.
    pub offsets: [u32; FIELD_COUNT],
    /// sock_send_length and sock_recv_length.
    pub socket_tracepoints: bool,
    /// tcp_destroy_sock and inet_sock_set_state.
    pub lifecycle_tracepoints: bool,
    /// bpf_loop (5.17), which the primary path walks iovecs with.
    pub bpf_loop: bool,
    /// `none`, `integrity`, `confidentiality`, or `unknown` where securityfs is not mounted.
    pub lockdown: String,
    /// Capabilities that this kernel asks for and that are missing.
    pub missing: Vec<&'static Capability>,
}

/// Where kernel types are known from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Types {
    /// The kernel's own: programs may be typed.
    Own,
    /// A file: offsets are known, but the kernel types no program.
    File(PathBuf),
    /// Nowhere; why.
    Unknown(String),
}

impl Types {
    /// Reads them: of the file, where one is named.
    fn read(file: Option<&Path>) -> (Self, Vec<u8>) {
        let path = file.unwrap_or(Path::new(OWN_TYPES));
        let blob = fs::read(path)
            .map_err(|why| why.to_string())
            .and_then(|blob| {
                let parsed = Btf::parse(&blob).map(drop);
                parsed.map(|()| blob).map_err(|why| format!("{why:#}"))
            });
        match (blob, file) {
            (Ok(blob), None) => (Self::Own, blob),
            (Ok(blob), Some(file)) => (Self::File(file.to_owned()), blob),
            (Err(why), _) => (
                Self::Unknown(format!("{}: {why}", path.display())),
                Vec::new(),
            ),
        }
    }
}

const OWN_TYPES: &str = "/sys/kernel/btf/vmlinux";
/// How to get types.
pub const TYPES: &str = "a kernel with CONFIG_DEBUG_INFO_BTF, which distributions have from 5.10 on, \
                         or a BTF file of this very kernel (--btf; github.com/aquasecurity/btfhub-archive \
                         has many)";

/// A capability that the agent uses.
#[derive(Debug, PartialEq, Eq)]
pub struct Capability {
    /// include/uapi/linux/capability.h
    bit: u32,
    /// `CAP_BPF`.
    pub name: &'static str,
    /// What for.
    pub gives: &'static str,
    /// What happens without it; `None` where nothing is traced then.
    pub without: Option<&'static str>,
    /// The first kernel that does not ask for it.
    before: Option<(u32, u32)>,
}

impl Capability {
    /// Whether nothing is traced without it.
    pub fn is_needed(&self) -> bool {
        self.without.is_none()
    }

    /// Whether Linux of this version asks for it.
    pub fn is_asked_for(&self, version: (u32, u32)) -> bool {
        self.before.is_none_or(|before| version < before)
    }
}

const fn needed(bit: u32, name: &'static str, gives: &'static str) -> Capability {
    Capability {
        bit,
        name,
        gives,
        without: None,
        before: None,
    }
}

const fn better(
    bit: u32,
    name: &'static str,
    gives: &'static str,
    without: &'static str,
) -> Capability {
    Capability {
        without: Some(without),
        ..needed(bit, name, gives)
    }
}

/// All of them. Which thread keeps which is said in `pipeline::privilege`.
pub const CAPABILITIES: &[Capability] = &[
    needed(39, "CAP_BPF", "loads programs and uses their maps"),
    needed(
        38,
        "CAP_PERFMON",
        "attaches to tracepoints and reads what passes there",
    ),
    better(
        19,
        "CAP_SYS_PTRACE",
        "executables, environments and libraries of other users' processes: service names, TLS",
        "other users' programs are known by command line alone, their TLS is unread",
    ),
    better(
        2,
        "CAP_DAC_READ_SEARCH",
        "files of containers and of other users: service names, TLS",
        "what only others may read says nothing about them, and its TLS is unread",
    ),
    better(
        23,
        "CAP_SYS_NICE",
        "gives way to programs where CPUs are short",
        "competes for CPUs as any program does",
    ),
    better(
        28,
        "CAP_LEASE",
        "TLS: leases on other users' files, so that nobody writes to one while it is probed",
        "TLS by files that are not this user's is unread",
    ),
    better(
        CAP_CHECKPOINT_RESTORE,
        "CAP_CHECKPOINT_RESTORE",
        "TLS: libraries that were replaced or removed since a program mapped them",
        "TLS by such libraries is unread",
    ),
    better(
        12,
        "CAP_NET_ADMIN",
        "carries traces to other hosts (propagation.mode)",
        "traces end at this host's border",
    ),
    Capability {
        before: Some(multi::SINCE),
        ..better(
            CAP_SYS_ADMIN,
            "CAP_SYS_ADMIN",
            "uprobes as perf events, before Linux 6.12: TLS, and links in Go, Node.js and Python",
            "none of these where the kernel has the fix of CVE-2025-38466 (see TLS below)",
        )
    },
    Capability {
        before: Some((5, 11)),
        ..better(
            CAP_SYS_RESOURCE,
            "CAP_SYS_RESOURCE",
            "room for maps (RLIMIT_MEMLOCK), before Linux 5.11",
            "programs may not load where that limit is low",
        )
    },
];
/// What [`Kernel::trials`] calls carrying traces to other hosts.
pub const CARRIER: &str = "traces to other hosts";
/// How to get them.
pub const PRIVILEGES: &str = "run spantap as root, or give it these capabilities";
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;
const CAP_CHECKPOINT_RESTORE: u32 = 40;

impl Kernel {
    /// Looks at the running kernel; its types are those of `file`, where one is named.
    pub fn look(file: Option<&Path>) -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let (types, blob) = Types::read(file);
        let btf = Btf::parse(&blob).ok();
        // tp_btf finds a tracepoint in the kernel's own types only.
        let typed = btf.as_ref().filter(|_| types == Types::Own);
        let tracepoint =
            |name: &str| typed.is_some_and(|b| b.has_typedef(&format!("btf_trace_{name}")));
        let version = version(&release);
        Self {
            version,
            release: release.trim().to_owned(),
            offsets: btf.as_ref().map_or([ABSENT; FIELD_COUNT], Btf::offsets),
            socket_tracepoints: tracepoint("sock_send_length") && tracepoint("sock_recv_length"),
            lifecycle_tracepoints: tracepoint("tcp_destroy_sock")
                && tracepoint("inet_sock_set_state"),
            bpf_loop: btf.as_ref().is_some_and(|b| b.has_function("bpf_loop")),
            btf: types,
            lockdown: lockdown(),
            missing: missing(version, effective()),
        }
    }

    /// The path that is used when `wanted` is asked for.
    ///
    /// # Errors
    /// Where this kernel has not what it needs.
    pub fn choose(&self, wanted: CapturePath) -> Result<CapturePath> {
        if let Types::Unknown(why) = &self.btf {
            bail!("the kernel's types are not known ({why}): it takes {TYPES}");
        }
        if self.version < (5, 10) {
            bail!("Linux {} is too old: 5.10 or later is needed", self.release);
        }
        match wanted {
            CapturePath::Socket if matches!(self.btf, Types::File(_)) => bail!(
                "the socket path needs the kernel's own types, not a file's: use --capture-path syscall"
            ),
            CapturePath::Socket if !self.has_socket_path() => bail!(
                "the socket path needs the tracepoints sock_send_length and sock_recv_length \
                 (Linux 6.3 and later), which {} has not: use --capture-path syscall",
                self.release
            ),
            CapturePath::Socket => Ok(CapturePath::Socket),
            CapturePath::Syscall => Ok(CapturePath::Syscall),
            CapturePath::Auto if self.has_socket_path() => Ok(CapturePath::Socket),
            CapturePath::Auto => Ok(CapturePath::Syscall),
        }
    }

    /// Whether the primary path can be used.
    pub fn has_socket_path(&self) -> bool {
        self.socket_tracepoints && self.bpf_loop
    }

    /// Names of those capabilities that are missing and needed, or those that are not.
    pub fn lacks(&self, needed: bool) -> Vec<&'static str> {
        let lacking = self.missing.iter().filter(|it| it.is_needed() == needed);
        lacking.map(|it| it.name).collect()
    }

    /// Fields that were looked for and not found.
    pub fn absent_fields(&self) -> Vec<String> {
        FIELDS
            .iter()
            .zip(self.offsets)
            .filter(|&(_, offset)| offset == ABSENT)
            .map(|((structure, member), _)| format!("{structure}.{member}"))
            .collect()
    }

    /// Adds to an error from the kernel what is likely to be its cause.
    pub fn explain(&self, error: Error) -> Error {
        let blamed = |it: &&&Capability| it.is_needed() || it.bit == CAP_SYS_RESOURCE;
        let missing = self.missing.iter().filter(blamed).map(|it| it.name);
        let missing = missing.collect::<Vec<_>>().join(", ");
        if !missing.is_empty() {
            return error.context(format!("missing privilege: {missing} ({PRIVILEGES})"));
        }
        if self.lockdown == "confidentiality" {
            return error
                .context("the kernel is locked down (confidentiality): no program may read");
        }
        error
    }
}

/// A feature that was tried for real.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What.
    pub feature: &'static str,
    /// The capture path it stands for, if it is one.
    pub path: Option<CapturePath>,
    /// What it gives.
    pub detail: String,
    /// Its programs, where they load.
    pub programs: Vec<super::Loaded>,
    /// Why not, where it failed.
    pub error: Option<String>,
    /// Whether something else takes its place.
    pub replaced: bool,
    /// How to get it.
    pub remedy: &'static str,
}

impl Kernel {
    /// Loads the programs of each path and those of uprobes, for the answer alone: nothing that sees
    /// traffic is attached. Header mode is tried apart (`probe::selftest`), on this process's connections.
    pub fn trials(&self) -> Vec<Trial> {
        let mut uprobes = Trial {
            feature: "TLS (uprobes)",
            path: None,
            detail: "on".to_owned(),
            programs: Vec::new(),
            error: Some("off: no path works".to_owned()),
            replaced: true,
            remedy: "root, or before Linux 6.12 CAP_SYS_ADMIN; without, TLS stays unread, and calls of Go, \
                     Node.js and Python have no parent",
        };
        let mut carrier = Trial {
            feature: CARRIER,
            path: None,
            detail: "programs load: propagation.mode option".to_owned(),
            programs: Vec::new(),
            error: Some("off: that takes the socket path".to_owned()),
            replaced: true,
            remedy: "Linux 6.3 or later, cgroups version 2, CAP_NET_ADMIN; without, traces end at this host's border",
        };
        let mut path = |path, feature, detail: &str, replaced, remedy| {
            let tried = super::Probe::load(&with_path(path), self, true);
            if let Ok(probe) = &tried {
                if path == CapturePath::Socket {
                    carrier.programs = probe.loaded_carrier();
                    carrier.error = probe.no_carrier().map(|why| format!("off: {why}"));
                }
                // The first path that works is the one that is taken.
                if uprobes.programs.is_empty() {
                    uprobes.programs = probe.loaded_uprobes();
                    uprobes.error = probe.no_uprobes().map(|why| format!("off: {why}"));
                }
            }
            Trial {
                feature,
                path: Some(path),
                detail: detail.to_owned(),
                programs: tried.as_ref().map(super::Probe::loaded).unwrap_or_default(),
                error: tried.err().map(|error| last_words(&error)),
                replaced,
                remedy,
            }
        };
        let mut trials = vec![
            path(
                CapturePath::Socket,
                "socket path",
                "programs load: every form of socket I/O, cheapest",
                true,
                "Linux 6.3 or later",
            ),
            path(
                CapturePath::Syscall,
                "syscall path",
                "programs load: the fall-back for 5.10 to 6.2",
                false,
                "Linux 5.10 or later with BTF",
            ),
        ];
        trials.extend([uprobes, carrier]);
        trials
    }
}

fn with_path(path: CapturePath) -> Config {
    Config {
        capture: Capture {
            path,
            ring_bytes: 64 * 1024,
            max_connections: 16,
            ..Capture::default()
        },
        propagation: Propagation {
            mode: Carrying::Option,
            ..Propagation::default()
        },
        ..Config::default()
    }
}

/// An error on one line: verifier logs are long.
pub fn last_words(error: &Error) -> String {
    let text = format!("{error:#}");
    let line = text.lines().next().unwrap_or_default();
    say::cut(line.to_owned(), 400)
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn lockdown() -> String {
    let Ok(modes) = fs::read_to_string("/sys/kernel/security/lockdown") else {
        return "unknown".to_owned();
    };
    modes
        .split_whitespace()
        .find_map(|m| m.strip_prefix('[')?.strip_suffix(']'))
        .unwrap_or("none")
        .to_owned()
}

/// Those this process may use now, a bit each.
fn effective() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

fn missing(version: (u32, u32), effective: u64) -> Vec<&'static Capability> {
    let has = |bit: u32| effective >> bit & 1 != 0;
    // SYS_ADMIN stood for these before they were split off, and still implies them; the prober keeps it
    // where it asks for it.
    let implied = |it: &Capability| {
        it.is_needed() || it.bit == CAP_CHECKPOINT_RESTORE && version < multi::SINCE
    };
    let had = |it: &Capability| has(it.bit) || implied(it) && has(CAP_SYS_ADMIN);
    let all = CAPABILITIES.iter();
    all.filter(|it| it.is_asked_for(version) && !had(it))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_releases() {
        assert_eq!(version("5.10.0-34-cloud-amd64"), (5, 10));
        assert_eq!(version("6.18.44-fc-v657"), (6, 18));
        assert_eq!(version(""), (0, 0));
    }

    #[test]
    fn what_is_missing_is_what_this_kernel_asks_for() {
        let names = |version, effective| {
            let missing = missing(version, effective).into_iter();
            missing.map(|it| it.name).collect::<Vec<_>>()
        };
        let bits = |all: &[u32]| all.iter().map(|bit| 1u64 << bit).sum::<u64>();
        assert_eq!(names((5, 10), 0).len(), CAPABILITIES.len());
        let newest = names((6, 18), 0);
        assert!(!newest.contains(&"CAP_SYS_ADMIN") && !newest.contains(&"CAP_SYS_RESOURCE"));
        // What it needs, and no more.
        let least = names((6, 1), bits(&[39, 38]));
        let rest = [
            "CAP_SYS_PTRACE",
            "CAP_DAC_READ_SEARCH",
            "CAP_SYS_NICE",
            "CAP_LEASE",
            "CAP_CHECKPOINT_RESTORE",
            "CAP_NET_ADMIN",
            "CAP_SYS_ADMIN",
        ];
        assert_eq!(least, rest);
        let mut kernel = Kernel::look(None);
        kernel.missing = missing((6, 1), bits(&[39, 19]));
        assert_eq!(kernel.lacks(true), ["CAP_PERFMON"]);
        assert!(kernel.lacks(false).contains(&"CAP_LEASE"));
        let explained = |kernel: &Kernel| kernel.explain(anyhow::anyhow!("refused")).to_string();
        let blamed = explained(&kernel);
        assert!(blamed.contains("CAP_PERFMON (") && !blamed.contains("CAP_LEASE"));
        kernel.missing = missing((6, 1), bits(&[38, 39]));
        kernel.lockdown = "confidentiality".into();
        assert!(explained(&kernel).contains("locked down"));
        // Their old name stands for three, where it is kept.
        assert_eq!(names((6, 1), bits(&[21, 19, 2, 23, 28, 12])), [""; 0]);
        let restore = ["CAP_CHECKPOINT_RESTORE"];
        assert_eq!(names((6, 12), bits(&[21, 19, 2, 23, 28, 12])), restore);
        assert_eq!(names((6, 1), u64::MAX), [""; 0]);
    }

    #[test]
    fn a_path_that_the_kernel_lacks_is_refused_with_the_way_out() {
        let mut kernel = Kernel::look(None);
        kernel.btf = Types::Own;
        kernel.version = (6, 1);
        kernel.socket_tracepoints = false;
        assert_eq!(
            kernel.choose(CapturePath::Auto).unwrap(),
            CapturePath::Syscall
        );
        let refused = kernel.choose(CapturePath::Socket).unwrap_err().to_string();
        assert!(refused.contains("--capture-path syscall"), "{refused}");
    }

    #[test]
    fn types_of_a_file_are_for_the_syscall_path() {
        let mut kernel = Kernel::look(Some(Path::new("/nonexistent")));
        kernel.version = (5, 10);
        let refused = kernel.choose(CapturePath::Auto).unwrap_err().to_string();
        for part in ["/nonexistent", "CONFIG_DEBUG_INFO_BTF", "--btf"] {
            assert!(refused.contains(part), "{refused}");
        }
        let own = Path::new(OWN_TYPES);
        if !own.exists() {
            return;
        }
        let kernel = Kernel::look(Some(own));
        assert_eq!(kernel.btf, Types::File(own.to_owned()));
        assert_eq!(kernel.absent_fields(), Kernel::look(None).absent_fields());
        assert!(!kernel.has_socket_path());
        assert!(kernel.choose(CapturePath::Socket).is_err());
        assert_eq!(
            kernel.choose(CapturePath::Auto).unwrap(),
            CapturePath::Syscall
        );
    }
}
