//! The files that a process runs code from: its executable and the libraries that may hold TLS, as
//! they are mapped. A file that was deleted or replaced since is still reached through the mapping.
//!
//! Source: Documentation/filesystems/proc.rst, "maps" and "map_files".

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::tls;

/// Most bytes that are read of a process's list of mappings, and most files of one process.
const MAPS: u64 = 32 * 1024 * 1024;
const FILES: usize = 32;

/// Names what is in a file: another content has another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    /// When its content changed last, as far as it says. Not when anything about it did: a running
    /// program's file that is unlinked is the same file.
    written: (i64, i64),
}

/// A file that a process has mapped for execution.
#[derive(Debug)]
pub struct Mapped {
    /// What is in it.
    pub identity: Identity,
    /// How the process calls it.
    pub name: String,
    /// It, open for reading.
    pub file: File,
    /// Whether it is the program itself that the process runs.
    pub is_program: bool,
    /// Where its first code is in memory, and in the file, if the process's list of mappings said so.
    pub code: Option<(u64, u64)>,
}

/// The files of a process that may hold TLS, each once.
///
/// # Errors
/// Where the process is gone, or may not be looked at.
pub fn files(proc: &Path, pid: u32) -> io::Result<Vec<Mapped>> {
    let process = proc.join(pid.to_string());
    let executable = fs::read_link(process.join("exe"))?;
    let name = executable.to_string_lossy();
    let own = File::open(process.join("exe")).ok();
    let own = own.and_then(|file| Mapped::of(file, &name));
    let own = own.map(|file| Mapped {
        is_program: true,
        ..file
    });
    let maps = BufReader::new(File::open(process.join("maps"))?.take(MAPS));
    let mut found: Vec<Mapped> = own.into_iter().collect();
    let mut last = String::new();
    for line in maps.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let Some((range, offset, name)) = executed(&line) else {
            continue;
        };
        let begin = range.split('-').next().and_then(hexadecimal);
        let code = begin.zip(hexadecimal(offset));
        if let Some(program) = found.iter_mut().find(|f| f.is_program && f.name == name) {
            program.code = program.code.or(code);
        }
        if name == last || !(tls::may_hold_tls(name) || is_jvm(name)) {
            continue;
        }
        name.clone_into(&mut last);
        let link = process.join("map_files").join(range);
        // Links to mappings are for those who may checkpoint processes.
        let inside = name.strip_suffix(" (deleted)").unwrap_or(name);
        let file = File::open(link).or_else(|_| super::files::open(&process.join("root"), inside));
        let Some(mapped) = file.ok().and_then(|file| Mapped::of(file, name)) else {
            continue;
        };
        let mapped = Mapped { code, ..mapped };
        if found.iter().all(|known| known.identity != mapped.identity) {
            found.push(mapped);
        }
        if found.len() >= FILES {
            break;
        }
    }
    Ok(found)
}

/// Whether a library is a JVM, by its name.
fn is_jvm(name: &str) -> bool {
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    name.ends_with("/libjvm.so")
}

impl Mapped {
    /// `None` for what is no plain file.
    pub fn of(file: File, name: &str) -> Option<Self> {
        let meta = file.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(Self {
            identity: Identity {
                device: if is_overlay(&file) { 0 } else { meta.dev() },
                inode: meta.ino(),
                size: meta.size(),
                written: (meta.mtime(), meta.mtime_nsec()),
            },
            name: name.to_owned(),
            file,
            is_program: false,
            code: None,
        })
    }

    /// A path that leads to this very file while it is open.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// Whether a file is an overlay file system's: there each container's mount has a device of its own,
/// while the file below, which is what the kernel probes, is one (ovl_getattr keeps its inode number).
fn is_overlay(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|about| about.f_type == OVERLAY)
}

/// include/uapi/linux/magic.h
const OVERLAY: rustix::fs::FsWord = 0x794c_7630;

fn hexadecimal(word: &str) -> Option<u64> {
    u64::from_str_radix(word, 16).ok()
}

/// The address range, the offset and the file of a line of maps, where code is run from a file.
fn executed(line: &str) -> Option<(&str, &str, &str)> {
    let mut rest = line;
    let mut word = || {
        let (word, after) = rest.trim_start().split_once(' ')?;
        rest = after;
        Some(word)
    };
    let (range, rights) = (word()?, word()?);
    let (offset, _device, inode) = (word()?, word()?, word()?);
    let name = rest.trim_start();
    let runs = rights.as_bytes().get(2) == Some(&b'x');
    (runs && inode != "0" && name.starts_with('/')).then_some((range, offset, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let check = |line, expected| assert_eq!(executed(line), expected, "{line}");
        let line = "7f01a000-7f02b000 r-xp 0001e000 fe:00 1234   /usr/lib/libssl.so.3";
        check(
            line,
            Some(("7f01a000-7f02b000", "0001e000", "/usr/lib/libssl.so.3")),
        );
        let spaces = "7f01a000-7f02b000 r-xp 0001e000 fe:00 1234   /tmp/a b.so (deleted)";
        check(
            spaces,
            Some(("7f01a000-7f02b000", "0001e000", "/tmp/a b.so (deleted)")),
        );
        check(
            "7f01a000-7f02b000 r--p 0001e000 fe:00 1234 /usr/lib/libssl.so.3",
            None,
        );
        check("7f01a000-7f02b000 r-xp 00000000 00:00 0    [vdso]", None);
        check("7f01a000-7f02b000 r-xp 00000000 00:00 0", None);
        check("", None);
    }

    #[test]
    fn this_test_maps_itself() {
        let found = files(Path::new("/proc"), std::process::id()).expect("own files");
        let own = std::env::current_exe().expect("a name");
        assert!(found.iter().any(|file| Path::new(&file.name) == own));
    }
}
