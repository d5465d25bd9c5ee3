//! What this system has: files that programs are likely to map, descriptors, the agent's own program.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::target::mapped::{Identity, Mapped};

/// Files with TLS in them that programs are likely to map soon after their start, and whether each is
/// a library.
pub(super) fn files() -> impl Iterator<Item = (Mapped, bool)> {
    let entries = SYSTEM.iter().filter_map(|folder| fs::read_dir(folder).ok());
    let libraries = entries.flatten().flatten().filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        LIBRARIES.iter().any(|prefix| name.starts_with(prefix))
    });
    let libraries = libraries.map(|entry| (entry.path(), true));
    let programs = PROGRAMS.iter().map(|path| (PathBuf::from(path), false));
    libraries.chain(programs).filter_map(|(path, is_library)| {
        let file = File::open(&path).ok()?;
        Some((Mapped::of(file, &path.to_string_lossy())?, is_library))
    })
}

/// Where systems keep the libraries that short-lived programs use.
const SYSTEM: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/lib64",
    "/lib",
];
/// What they are called.
const LIBRARIES: [&str; 2] = ["libssl.so.", "libgnutls.so."];

/// Programs that have TLS inside and begin to use it soon after their start: that they are read takes
/// longer than that.
const PROGRAMS: [&str; 2] = ["/usr/bin/node", "/usr/local/bin/node"];

/// Raises how many descriptors there may be as far as that goes, and says how many.
pub fn descriptors() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        limit = raised;
    }
    let number = limit
        .current
        .and_then(|number| usize::try_from(number).ok());
    number.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS)
}

/// More are not used, however many there may be.
const MOST_DESCRIPTORS: usize = 65_536;

/// The agent's own program.
pub(super) fn own() -> Option<Identity> {
    let file = File::open("/proc/self/exe").ok()?;
    Mapped::of(file, "").map(|file| file.identity)
}

/// Whether a process is one of those that map OpenSSL as a library and use it apart from sockets:
/// Python's asyncio does.
pub(super) fn encrypts_into_memory(proc: &Path, process: u32) -> bool {
    let link = proc.join(process.to_string()).join("exe");
    let program = fs::read_link(link).unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    MEMORY.iter().any(|prefix| name.starts_with(prefix))
}

/// How their programs are called.
const MEMORY: [&str; 4] = ["python", "pypy", "uwsgi", "dotnet"];

/// Whether the places of a plan are to be probed, beside those that are: there is room, and no file may have
/// more than its part. A program that somebody made may return from a function wherever it likes.
pub(super) const fn fits(places: usize, held: usize, room: usize) -> bool {
    places <= MOST_PLACES && held.saturating_add(places) <= room
}

/// Most places of one plan; those of libraries and programs as compilers make them are some tens.
const MOST_PLACES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_full_of_places_takes_no_room_from_others() {
        let room = MOST_DESCRIPTORS / 2;
        assert!(fits(60, 0, room) && fits(60, room - 60, room));
        assert!(!fits(60, room - 59, room) && !fits(60, usize::MAX, room));
        // As many returns as the most that is read of a function.
        assert!(!fits(65_536 / 4, 0, room));
    }
}
