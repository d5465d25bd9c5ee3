//! Everything read of one process, in one go: a `curl` lives a few milliseconds, so all that may
//! be wanted later is read at first sight, in about a dozen small system calls.
//!
//! Each piece may be missing, as the process may go away (or be nobody's business) between any two
//! reads; a snapshot is then partial, never an error. Of the environment only `OTEL_SERVICE_NAME`
//! and `OTEL_RESOURCE_ATTRIBUTES` are kept, and the buffer it was read into is wiped.
//!
//! Nothing but procfs is touched here: what a process sees as its files may be on a file system that
//! never answers (see `resource::look`). `cmdline` and `environ` are memory of the process: the kernel
//! refuses to read there what a file backs (4.18 fs/proc/base.c, FOLL_ANON), and a page that user
//! space would have to provide is an error; what is left is to wait for a change of its mappings.
//!
//! procfs gives the handle on /proc/PID (which keeps meaning this process when the id is reused)
//! and the cgroup parser. `stat`, `status`, `cmdline` and `environ` are parsed here: the crate's
//! parsers read without bound, refuse what is not UTF-8 and drop empty arguments.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use procfs::FromBufRead;
use procfs::ProcessCGroups;

use super::container::Place;
use super::files;

/// Inodes of namespaces; 0 where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Mounts.
    pub mount: u64,
    /// Network.
    pub net: u64,
    /// Process ids.
    pub pid: u64,
}

/// The only variables of its environment that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environ {
    /// `OTEL_SERVICE_NAME`, not empty.
    pub service_name: Option<Box<str>>,
    /// `OTEL_RESOURCE_ATTRIBUTES`, as written.
    pub resource_attributes: Option<Box<str>>,
}

/// One process at one moment. Paths are as the process sees them; see [`Snapshot::root`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Process id, in the namespace of the procfs that was read.
    pub pid: u32,
    /// Start, in clock ticks since boot: with `pid`, names the process for good. 0 when unknown.
    pub start: u64,
    /// Parent's process id; 0 when unknown or none.
    pub parent: u32,
    /// The kernel's name of the main thread.
    pub comm: Box<str>,
    /// The executable, without ` (deleted)`; kernel threads have none.
    pub exe: Option<Box<str>>,
    /// Whether the executable was replaced or removed.
    pub exe_deleted: bool,
    /// Arguments, the first of them the command; long ones are cut, very many are left out.
    pub argv: Vec<Box<str>>,
    /// The kept part of the environment.
    pub environ: Environ,
    /// Effective user id.
    pub uid: Option<u32>,
    /// Distinct cgroup paths; the most telling one first.
    pub cgroups: Vec<Box<str>>,
    /// Container and pod, by the cgroup paths.
    pub place: Place,
    /// Process id in its innermost namespace (equal to `pid` outside containers).
    pub inner_pid: u32,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// Working directory.
    pub cwd: Option<Box<str>>,
    /// Whether its /proc entry was there at all.
    pub seen: bool,
}

impl Snapshot {
    /// What is known of a process that was gone before it could be read.
    pub fn gone(pid: u32, parent: u32, comm: &str) -> Self {
        Self {
            pid,
            parent,
            inner_pid: pid,
            comm: comm.into(),
            ..Self::default()
        }
    }

    /// File name of the executable; the kernel's name where that is unknown.
    pub fn exe_name(&self) -> &str {
        self.exe.as_deref().map_or(&*self.comm, base_name)
    }

    /// The most telling cgroup path.
    pub fn cgroup(&self) -> &str {
        self.cgroups.first().map_or("/", |path| path)
    }

    /// Whether it is a thread of the kernel, which never owns a socket of interest.
    pub fn is_kernel(&self) -> bool {
        self.seen
            && self.exe.is_none()
            && self.argv.is_empty()
            && (self.parent == 2 || self.pid == 2)
    }

    /// Whether it was gone, or a zombie, before it could be read: it is known by the kernel's name
    /// for it alone, which is a thread's where no exec was seen.
    pub fn is_bare(&self) -> bool {
        self.exe.is_none() && self.argv.is_empty() && !self.is_kernel()
    }

    /// Where the agent finds the files the process sees, while the process lives.
    pub fn root(&self, proc: &Path) -> PathBuf {
        proc.join(self.pid.to_string()).join("root")
    }

    /// After exec of a process that was gone too soon: what exec does not change.
    pub fn inherit(&mut self, before: &Self) {
        self.start = before.start;
        if self.parent == 0 {
            self.parent = before.parent;
        }
        self.uid = before.uid;
        self.cgroups = before.cgroups.clone();
        self.place = before.place.clone();
        self.inner_pid = before.inner_pid;
        self.namespaces = before.namespaces;
        self.cwd = before.cwd.clone();
    }
}

/// The part of a path after its last slash.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or(path)
}

/// Reads snapshots; keeps the buffer between them.
#[derive(Debug)]
pub struct Reader {
    proc: PathBuf,
    buffer: Vec<u8>,
}

impl Reader {
    /// A reader of the procfs mounted at `proc`.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        Self {
            proc: proc.into(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Where procfs is.
    pub fn proc(&self) -> &Path {
        &self.proc
    }

    /// When the process of this id started, in ticks since boot.
    pub fn start(&mut self, pid: u32) -> Option<u64> {
        let handle = self.handle(pid)?;
        let text = self.file(&handle, "stat", STAT_LIMIT)?;
        Some(stat(text)?.start)
    }

    /// Reads a process; `None` if there is none of this id.
    pub fn read(&mut self, pid: u32) -> Option<Snapshot> {
        let handle = self.handle(pid)?;
        let stat = stat(self.file(&handle, "stat", STAT_LIMIT)?)?;
        let mut snapshot = Snapshot {
            pid,
            start: stat.start,
            parent: stat.parent,
            comm: stat.comm,
            inner_pid: pid,
            seen: true,
            ..Snapshot::default()
        };
        // What may be gone soonest and matters most comes first.
        if let Some(bytes) = self.file(&handle, "cmdline", ARGV_READ) {
            snapshot.argv = arguments(bytes);
        }
        self.environ(&handle, &mut snapshot.environ);
        if let Ok(path) = handle.exe() {
            let (path, deleted) = executable(path.as_os_str().as_bytes());
            snapshot.exe = Some(path);
            snapshot.exe_deleted = deleted;
        }
        if let Some(bytes) = self.file(&handle, "cgroup", CGROUP_READ) {
            (snapshot.cgroups, snapshot.place) = cgroups(bytes);
        }
        if let Some(bytes) = self.file(&handle, "status", STATUS_READ) {
            let (uid, inner) = status(bytes);
            snapshot.uid = uid;
            snapshot.inner_pid = inner.unwrap_or(pid);
        }
        snapshot.namespaces = self.namespaces(pid);
        if let Ok(path) = handle.cwd() {
            snapshot.cwd = Some(lossy(path.as_os_str().as_bytes(), PATH_LIMIT));
        }
        Some(snapshot)
    }

    fn handle(&self, pid: u32) -> Option<procfs::process::Process> {
        procfs::process::Process::new_with_root(self.proc.join(pid.to_string())).ok()
    }

    /// Up to `limit` bytes of a file of a process; nothing of it stays but in the buffer.
    fn file(
        &mut self,
        handle: &procfs::process::Process,
        name: &str,
        limit: usize,
    ) -> Option<&[u8]> {
        let mut file = handle.open_relative(name).ok()?;
        let room = self.buffer.get_mut(..limit.min(BUFFER))?;
        let n = fill(&mut file, room)?;
        self.buffer.get(..n)
    }

    fn environ(&mut self, handle: &procfs::process::Process, environ: &mut Environ) {
        let Some(bytes) = self.file(handle, "environ", BUFFER) else {
            return;
        };
        let used = bytes.len();
        *environ = variables(bytes);
        if let Some(bytes) = self.buffer.get_mut(..used) {
            bytes.fill(0);
        }
    }

    fn namespaces(&self, pid: u32) -> Namespaces {
        let folder = self.proc.join(pid.to_string()).join("ns");
        Namespaces {
            mount: inode(&folder.join("mnt")),
            net: inode(&folder.join("net")),
            pid: inode(&folder.join("pid")),
        }
    }
}

/// One read fills all these files at once when there is room (the kernel makes them whole, by
/// `single_open`, or copies until the room is full), so a short read is the end.
fn fill(file: &mut File, room: &mut [u8]) -> Option<usize> {
    let mut n = 0;
    while let Some(free) = room.get_mut(n..).filter(|free| !free.is_empty()) {
        let asked = free.len();
        match file.read(free) {
            Ok(got) => {
                n += got;
                if got < asked {
                    break;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(n)
}

struct Stat {
    comm: Box<str>,
    parent: u32,
    start: u64,
}

/// `PID (COMM) STATE PPID …`, the start being the 22nd field; COMM may hold anything.
fn stat(bytes: &[u8]) -> Option<Stat> {
    let text = String::from_utf8_lossy(bytes);
    let (head, tail) = text.rsplit_once(')')?;
    let (_, comm) = head.split_once('(')?;
    let mut fields = tail.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Stat {
        comm: comm.into(),
        parent,
        start,
    })
}

/// The effective user, and the id in the innermost namespace.
fn status(bytes: &[u8]) -> (Option<u32>, Option<u32>) {
    let mut found = (None, None);
    for line in bytes.split(|b| *b == b'\n') {
        if let Some(rest) = line.strip_prefix(b"Uid:") {
            found.0 = number(rest.split(|b| *b == b'\t').nth(2));
        } else if let Some(rest) = line.strip_prefix(b"NSpid:") {
            found.1 = number(rest.split(|b| *b == b'\t').next_back());
            break;
        }
    }
    found
}

fn number(bytes: Option<&[u8]>) -> Option<u32> {
    std::str::from_utf8(bytes?).ok()?.trim().parse().ok()
}

/// Arguments end with a NUL each; a process that wrote its own title often leaves a tail of them.
fn arguments(bytes: &[u8]) -> Vec<Box<str>> {
    let filled = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    let Some(bytes) = bytes.get(..filled).filter(|bytes| !bytes.is_empty()) else {
        return Vec::new();
    };
    let mut room = ARGV_LIMIT;
    let mut argv = Vec::new();
    for argument in bytes.split(|b| *b == 0).take(MAX_ARGUMENTS) {
        let argument = lossy(argument, ARGUMENT_LIMIT);
        if argument.len() > room {
            break;
        }
        room -= argument.len();
        argv.push(argument);
    }
    argv
}

fn variables(bytes: &[u8]) -> Environ {
    let mut environ = Environ::default();
    for variable in bytes.split(|b| *b == 0) {
        let Some(rest) = variable.strip_prefix(b"OTEL_") else {
            continue;
        };
        if let Some(value) = rest.strip_prefix(b"SERVICE_NAME=") {
            environ.service_name = kept(value, SERVICE_NAME_LIMIT);
        } else if let Some(value) = rest.strip_prefix(b"RESOURCE_ATTRIBUTES=") {
            environ.resource_attributes = kept(value, RESOURCE_ATTRIBUTES_LIMIT);
        }
    }
    environ
}

fn kept(value: &[u8], limit: usize) -> Option<Box<str>> {
    let value = lossy(value.trim_ascii(), limit);
    (!value.is_empty()).then_some(value)
}

/// The path, and whether the kernel marked it as deleted.
fn executable(path: &[u8]) -> (Box<str>, bool) {
    match path.strip_suffix(b" (deleted)") {
        Some(path) => (lossy(path, PATH_LIMIT), true),
        None => (lossy(path, PATH_LIMIT), false),
    }
}

/// Distinct paths with the one that names a container first, then the unified one, then the
/// longest. On a hybrid host only some hierarchies hold the container.
fn cgroups(bytes: &[u8]) -> (Vec<Box<str>>, Place) {
    let text = String::from_utf8_lossy(bytes);
    let lines = ProcessCGroups::from_buf_read(text.as_bytes())
        .map_or_else(|_| Vec::new(), |groups| groups.0);
    let mut paths: Vec<(Place, bool, Box<str>)> = Vec::new();
    for line in lines {
        let path: Box<str> = files::cut(&line.pathname, PATH_LIMIT).into();
        if paths.len() < MAX_CGROUPS && paths.iter().all(|(_, _, known)| *known != path) {
            paths.push((Place::of(&path), line.hierarchy == 0 && &*path != "/", path));
        }
    }
    paths.sort_by_key(|(place, unified, path)| {
        std::cmp::Reverse((
            place.container.is_some(),
            place.pod.is_some(),
            *unified,
            path.len(),
        ))
    });
    let place = paths
        .first()
        .map(|(place, _, _)| place.clone())
        .unwrap_or_default();
    (paths.into_iter().map(|(_, _, path)| path).collect(), place)
}

fn lossy(bytes: &[u8], limit: usize) -> Box<str> {
    let bytes = bytes.get(..limit).unwrap_or(bytes);
    files::cut(&String::from_utf8_lossy(bytes), limit).into()
}

/// The inode in `net:[4026531840]`. Following the link would cost twice as much: the kernel then
/// makes a file of the namespace.
pub fn inode(path: &Path) -> u64 {
    let link = std::fs::read_link(path).ok();
    link.and_then(|link| {
        let (_, inode) = link.to_str()?.split_once('[')?;
        inode.strip_suffix(']')?.parse().ok()
    })
    .unwrap_or(0)
}

/// The buffer, and the most that is read of an environment. A Java class path of some 100 KiB must
/// not hide the main class behind it.
const BUFFER: usize = 256 * 1024;
const STAT_LIMIT: usize = 4096;
const STATUS_READ: usize = 8192;
const CGROUP_READ: usize = 32 * 1024;
const ARGV_READ: usize = BUFFER;

/// Kept of all arguments, and of one.
const ARGV_LIMIT: usize = 4096;
const ARGUMENT_LIMIT: usize = 512;
const MAX_ARGUMENTS: usize = 256;
const MAX_CGROUPS: usize = 8;
const PATH_LIMIT: usize = 1024;
const SERVICE_NAME_LIMIT: usize = 256;
const RESOURCE_ATTRIBUTES_LIMIT: usize = 8192;
