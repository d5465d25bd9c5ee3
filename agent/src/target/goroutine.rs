//! Where Go keeps what tells goroutines apart: the offsets of members of its structures, which its
//! versions move, and the one function of net/http that says for which goroutine a client's
//! connection works.
//!
//! A program's DWARF says it, where it has any: 13 to 25 ms and 6 MB for one of 104 MB. The table is
//! for those that are stripped, and is measured: for each version a program of net/http was built
//! with the first and the last release that the module proxy has, and the members were read from its
//! DWARF. These two agree for each of them, so the releases between and after are taken for alike.
//! The same in all are `runtime.g.m` (48), `internal/poll.FD.Sysfd` (16) and `crypto/tls.Conn.conn`
//! (0).
//!
//! Never true here: that a minor version which was not measured is taken for its neighbour.

use super::go::{Code, version};
use super::image::{Function, Image};
use super::pclntab::Table;

mod dwarf;
pub mod streams;

/// Offsets of members, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// In `runtime.g`: the goroutine's number, 64 bits, never given twice.
    pub goid: u32,
    /// In `runtime.g`: the number of the goroutine that started it. `None`: Go 1.20 and before do
    /// not keep it.
    pub parent_goid: Option<u32>,
    /// In `net/http.persistConn`, a connection of an HTTP client: the interface `conn`. `None`: the
    /// program has no such client. The table, which does not look, says where it is in one that has.
    pub conn: Option<u32>,
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The program itself.
    Dwarf,
    /// The table, by the program's version.
    Version,
}

/// The offsets in a program. `Err`: they are not known, and why.
pub fn offsets(image: &Image) -> Result<(Offsets, Source), &'static str> {
    if !image.x86_64() {
        return Err("not x86-64");
    }
    let version = version(image).ok_or("not made by Go, or its version is not told")?;
    let found = dwarf::members(image, &MEMBERS);
    match found.and_then(|found| of_members(&found)) {
        Some(offsets) => Ok((offsets, Source::Dwarf)),
        None => Ok((by_version(&version)?, Source::Version)),
    }
}

/// Where an HTTP client begins to send a request over a connection of HTTP/1.1:
/// `net/http.(*persistConn).roundTrip`, at the jump of its stack check, with the `persistConn` in rax
/// and the goroutine in r14. Passed again, unchanged, where the stack has to grow first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// Its offset in the file, in bytes.
    pub offset: u64,
    /// How far from there, in memory, `net.(*TCPConn).Close` begins: the first method that an
    /// interface of that type leads to, so what tells it from all others (runtime.itab).
    pub tcp: Option<i32>,
    /// The same of `crypto/tls.(*Conn).Close`.
    pub tls: Option<i32>,
}

/// That place. `None`: the program has no such function. `Err`: it has, and it cannot be probed.
pub fn round_trip(image: &Image) -> Option<Result<RoundTrip, &'static str>> {
    if !image.x86_64() {
        return None;
    }
    let found = Table::find(image)?.and_then(|table| table.functions(&CLIENT));
    let found = match found {
        Ok(found) => found,
        Err(why) => return Some(Err(why)),
    };
    let &[Some(function), tcp, tls] = found.as_slice() else {
        return None;
    };
    let place = |code: Code<'_>| {
        let address = code.stack_check()?;
        let far = |close: Option<Function>| {
            i32::try_from(close?.address.wrapping_sub(address).cast_signed()).ok()
        };
        Ok(RoundTrip {
            offset: code.offset(address)?,
            tcp: far(tcp),
            tls: far(tls),
        })
    };
    Some(Code::of(image, function).and_then(place))
}

/// Where a goroutine has been made and is about to be queued, by its offset in the file in bytes: the call
/// of `runtime.runqput` in `runtime.newproc`, on the thread's own stack; the new one's `g` in rbx. The
/// kernel emulates calls.
pub fn start(image: &Image) -> Result<u64, &'static str> {
    let found = Table::find(image).ok_or("a program without a table of functions")?;
    let found = found.and_then(|table| table.functions(&START))?;
    let &[Some(function), Some(queue)] = found.as_slice() else {
        return Err("no runtime.newproc, or no runtime.runqput");
    };
    let code = Code::of(image, function)?;
    let mut calls = code
        .instructions()
        .filter(|i| i.is_call_near() && i.near_branch_target() == queue.address);
    match (calls.next(), calls.next()) {
        (Some(call), None) => code.offset(call.ip()),
        _ => Err("runtime.newproc does not queue in one place"),
    }
}

/// Where goroutines begin that are started to send one request each by HTTP/2, by their offsets in the file
/// in bytes, each at the jump of its stack check.
pub fn requests(image: &Image) -> Result<Vec<u64>, &'static str> {
    let found = Table::find(image).ok_or("a program without a table of functions")?;
    let found = found.and_then(|table| table.functions(&REQUESTS))?;
    let entry = |function| Code::of(image, function).and_then(|code| code.entry());
    found.into_iter().flatten().map(entry).collect()
}

fn by_version(version: &str) -> Result<Offsets, &'static str> {
    if version == "devel" {
        return Err("Go between versions");
    }
    let mut parts = version.split('.');
    let mut number = || parts.next()?.parse::<u32>().ok();
    let (Some(1), Some(minor)) = (number(), number()) else {
        return Err("a Go version of a form not known");
    };
    // 1.20 has no third part, all later ones have.
    if parts
        .next()
        .is_some_and(|patch| patch.parse::<u32>().is_err())
        || parts.next().is_some()
    {
        return Err("a Go version of a form not known");
    }
    match TABLE.iter().find(|(known, ..)| *known == minor) {
        Some(&(_, goid, parent_goid)) => Ok(Offsets {
            goid,
            parent_goid,
            conn: Some(CONN),
        }),
        None if minor < TABLE[0].0 => Err("a Go older than the table of offsets"),
        None => Err("a Go newer than the table of offsets"),
    }
}

fn of_members(found: &[Option<u32>]) -> Option<Offsets> {
    let &[goid, parent_goid, conn] = found else {
        return None;
    };
    Some(Offsets {
        goid: goid?,
        parent_goid,
        conn,
    })
}

/// What is asked of DWARF, in the order of [`of_members`].
const MEMBERS: [(&str, &str); 3] = [
    ("runtime.g", "goid"),
    ("runtime.g", "parentGoid"),
    ("net/http.persistConn", "conn"),
];
/// What starts goroutines, and what it does that with.
const START: [&str; 2] = ["runtime.newproc.func1", "runtime.runqput"];
/// HTTP/2's client, of the module, in the standard library, and there as a package of its own.
const REQUESTS: [&str; 3] = [
    "golang.org/x/net/http2.(*clientStream).doRequest",
    "net/http.(*http2clientStream).doRequest",
    "net/http/internal/http2.(*clientStream).doRequest",
];
/// What an HTTP client is found by.
const CLIENT: [&str; 3] = [
    "net/http.(*persistConn).roundTrip",
    "net.(*TCPConn).Close",
    "crypto/tls.(*Conn).Close",
];

/// Go 1.N: N, `goid`, `parentGoid`; beside it the releases that were measured.
const TABLE: [(u32, u32, Option<u32>); 10] = [
    (18, 152, None),      // 1.18, 1.18.10
    (19, 152, None),      // 1.19, 1.19.2, 1.19.13
    (20, 152, None),      // 1.20, 1.20.14
    (21, 152, Some(272)), // 1.21.0, 1.21.13
    (22, 152, Some(272)), // 1.22.0, 1.22.12
    (23, 160, Some(280)), // 1.23.0, 1.23.12
    (24, 160, Some(280)), // 1.24.0, 1.24.13
    (25, 152, Some(272)), // 1.25.0, 1.25.14
    (26, 152, Some(280)), // 1.26.0, 1.26.8, 1.26.11
    (27, 152, Some(280)), // 1.27.0, 1.27.4
];
/// In all of them.
const CONN: u32 = 80;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::time::Instant;

    use super::*;
    use crate::target::fixture::go;

    /// With a client of HTTP inside.
    const HTTP: &str = "package main
        import \"net/http\"
        func main() { http.Get(\"\") }
        ";
    const UNPACKED: &[&str] = &["-ldflags=-compressdwarf=false"];

    #[test]
    fn by_dwarf_as_by_version() {
        for flags in go::FLAGS.into_iter().chain([UNPACKED]) {
            let Some(file) = go::build_of(HTTP, flags) else {
                return;
            };
            let stripped = flags.contains(&"-ldflags=-s -w");
            assert_eq!(check(&format!("{flags:?}"), file), !stripped);
        }
    }

    /// `GO_PROGRAMS=/tmp/a:/tmp/b cargo test -- --ignored --nocapture other_compilers`: programs
    /// with an HTTP client, of any version, with DWARF or without.
    #[test]
    #[ignore = "wants programs of other compilers"]
    fn other_compilers() {
        let programs = std::env::var("GO_PROGRAMS").unwrap();
        for path in programs.split(':') {
            check(path, File::open(path).unwrap());
        }
    }

    /// What the table says of a program is what its DWARF does, if it has any: whether it has.
    fn check(name: &str, file: File) -> bool {
        let image = Image::open(file).unwrap();
        let version = version(&image).unwrap();
        let told = by_version(&version).unwrap();
        let begin = Instant::now();
        let found = dwarf::members(&image, &MEMBERS);
        let (dwarf, took) = (found.is_some(), begin.elapsed());
        let source = [Source::Version, Source::Dwarf][usize::from(dwarf)];
        assert_eq!(offsets(&image), Ok((told, source)), "{name}");
        if let Some(found) = found {
            assert_eq!(of_members(&found), Some(told), "{name}");
            let others = [
                ("runtime.g", "m"),
                ("internal/poll.FD", "Sysfd"),
                ("crypto/tls.Conn", "conn"),
                ("runtime.g", "no such"),
            ];
            let found = dwarf::members(&image, &others).unwrap();
            assert_eq!(found, [Some(48), Some(16), Some(0), None], "{name}");
        }
        assert!(start(&image).is_ok(), "{name}: {:?}", start(&image));
        let requests = requests(&image).unwrap();
        assert_eq!(requests.len(), 1, "{name}");
        let begin = Instant::now();
        let place = round_trip(&image).unwrap().unwrap();
        println!(
            "{version:8} {source:?} {took:?} {place:x?} {:?} {told:?} {name}",
            begin.elapsed()
        );
        assert!(place.tcp.is_some() && place.tls.is_some(), "{name}");
        assert_ne!(place.tcp, place.tls, "{name}");
        dwarf
    }

    #[test]
    fn a_version_of_no_table() {
        for flags in [&[][..], go::FLAGS[1]] {
            let Some(mut file) = go::build_of(HTTP, flags) else {
                return;
            };
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            let image = Image::open(file).unwrap();
            let (told, _) = offsets(&image).unwrap();
            let at = image.section(".go.buildinfo").unwrap().offset as usize + 33;
            assert_eq!(&bytes[at..at + 4], b"go1.");
            bytes[at + 4] = b'9';
            let image = Image::open(go::file(&bytes)).unwrap();
            let expected = match flags {
                [] => Ok((told, Source::Dwarf)),
                _ => Err("a Go newer than the table of offsets"),
            };
            assert_eq!(offsets(&image), expected);
        }
    }

    #[test]
    fn without_http() {
        let Some(file) = go::build_of("package main\nfunc main() {}\n", &[]) else {
            return;
        };
        let image = Image::open(file).unwrap();
        assert_eq!(round_trip(&image), None);
        let found = dwarf::members(&image, &MEMBERS).unwrap();
        assert_eq!(of_members(&found).unwrap().conn, None);
    }

    #[test]
    fn versions() {
        let told = |version| by_version(version).map(|o| (o.goid, o.parent_goid));
        assert_eq!(told("1.18"), Ok((152, None)));
        assert_eq!(told("1.23.4"), Ok((160, Some(280))));
        assert_eq!(told("1.27.0"), Ok((152, Some(280))));
        assert_eq!(told("1.17.13"), Err("a Go older than the table of offsets"));
        assert_eq!(told("1.28.0"), Err("a Go newer than the table of offsets"));
        assert_eq!(told("devel"), Err("Go between versions"));
        for version in [
            "",
            "1",
            "2.0",
            "1.23rc1",
            "1.23.x",
            "1.23.4.5",
            "1.-3",
            "1.23.4-abc",
        ] {
            assert_eq!(told(version), Err("a Go version of a form not known"));
        }
    }

    #[test]
    fn any_dwarf_is_survived() {
        let Some(mut file) = go::build_of("package main\nfunc main() {}\n", UNPACKED) else {
            return;
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let image = Image::open(file).unwrap();
        for name in [".debug_info", ".debug_abbrev"] {
            let section = image.section(name).unwrap();
            let (from, size) = (section.offset as usize, section.size as usize);
            for n in 0..200 {
                // Many of the first bytes, then some of all.
                let at = from + if n < 100 { n } else { size / 100 * (n - 100) };
                let before = bytes[at];
                bytes[at] ^= [0xff, 0x80, 1][n % 3];
                let image = Image::open(go::file(&bytes)).unwrap();
                let _ = dwarf::members(&image, &MEMBERS);
                bytes[at] = before;
            }
        }
    }

    #[test]
    fn not_go() {
        let own = Image::open(File::open("/proc/self/exe").unwrap()).unwrap();
        assert_eq!(
            offsets(&own),
            Err("not made by Go, or its version is not told")
        );
        assert_eq!(round_trip(&own), None);
    }
}
