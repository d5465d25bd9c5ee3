//! Go's crypto/tls, which every Go program that speaks TLS has inside. Its functions are found in
//! stripped programs too (`Table`), and arguments are where Go's calling convention says
//! (`target::go`).
//!
//! No exit is probed: what `Read` gives is seen where it copies it to the application, what `Write`
//! takes where it hands a record's content on. Every place is a `call` or the jump of the check
//! that the stack is large enough, and the kernel emulates both. Where that check grows the stack
//! the function begins anew, and its entry is passed twice.
//!
//! Seen alike in Go 1.19 and 1.21 to 1.27. What differs (a profile can have the compiler inline
//! more) is refused.

use iced_x86::Mnemonic;

use super::{Hook, Library, Plan, Reason, Site};
use crate::target::code::Register;
use crate::target::go::{self, Code};
use crate::target::image::{Function, Image};
use crate::target::pclntab::Table;

/// The entry in the registry.
pub static LIBRARY: &dyn Library = &Go;

struct Go;

impl Library for Go {
    fn name(&self) -> &'static str {
        "go"
    }

    fn plan(&self, image: &Image) -> Option<Result<Plan, Reason>> {
        if !image.x86_64() {
            return None;
        }
        let functions = match Table::find(image)?.and_then(|table| table.functions(&NAMES)) {
            Ok(functions) => functions,
            Err(why) => return Some(Err(Reason(why.into()))),
        };
        if functions.iter().take(TLS).all(Option::is_none) {
            return None;
        }
        let sites = sites(image, &functions).map_err(|why| Reason(why.into()));
        Some(sites.map(|sites| Plan {
            library: self.name(),
            version: go::version(image),
            sites,
            left_out: Vec::new(),
        }))
    }
}

/// What is looked up: the first [`TLS`] tell that crypto/tls is there.
const NAMES: [&str; 6] = [
    "crypto/tls.(*Conn).Read",
    "crypto/tls.(*Conn).Write",
    "crypto/tls.(*Conn).clientHandshake",
    "crypto/tls.(*Conn).serverHandshake",
    "crypto/tls.(*Conn).writeRecordLocked",
    "runtime.memmove",
];
const TLS: usize = 4;

fn sites(image: &Image, functions: &[Option<Function>]) -> Result<Vec<Site>, &'static str> {
    let &[read, write, client, server, record, memmove] = functions else {
        return Err("not all functions were looked up");
    };
    let (Some(read), Some(write)) = (read, write) else {
        return Err("crypto/tls has no Read or no Write");
    };
    let (Some(record), Some(memmove)) = (record, memmove) else {
        return Err("no writeRecordLocked or no memmove");
    };
    let read = Code::of(image, read)?;
    let mut sites = vec![site(read.entry()?, Hook::GoRead)];
    if !read.keeps_session() {
        return Err("Read does not keep its session on the stack");
    }
    match *read.calls(memmove, Hook::GoReadCopy)? {
        [copy] => sites.push(copy),
        [] => return Err("Read does not copy by itself"),
        _ => return Err("Read copies in more than one place"),
    }
    let writes = Code::of(image, write)?.calls(record, Hook::GoWrite)?;
    if writes.is_empty() {
        return Err("Write does not call writeRecordLocked");
    }
    sites.extend(writes);
    for handshake in [client, server].into_iter().flatten() {
        sites.push(site(Code::of(image, handshake)?.entry()?, Hook::GoBegin));
    }
    Ok(sites)
}

impl Code<'_> {
    /// The direct calls of a function.
    fn calls(&self, function: Function, hook: Hook) -> Result<Vec<Site>, &'static str> {
        self.instructions()
            .filter(|i| i.is_call_near() && i.near_branch_target() == function.address)
            .map(|call| Ok(site(self.offset(call.ip())?, hook)))
            .collect()
    }

    /// Whether the first argument is stored, before anything is called, where the caller left room
    /// for it: above the return address, so 16 bytes above what the frame pointer points to.
    fn keeps_session(&self) -> bool {
        let mut depth = 0u64;
        for i in self.instructions() {
            let into_stack = i.memory_base() == Register::RSP;
            match i.mnemonic() {
                Mnemonic::Push => depth = depth.saturating_add(8),
                Mnemonic::Sub if i.op0_register() == Register::RSP => {
                    depth = depth.saturating_add(i.immediate(1));
                }
                Mnemonic::Mov if into_stack && i.op1_register() == Register::RAX => {
                    return i.memory_displacement64() == depth.saturating_add(8);
                }
                Mnemonic::Call => return false,
                _ => {}
            }
        }
        false
    }
}

fn site(offset: u64, hook: Hook) -> Site {
    Site {
        offset,
        hook,
        stepped: false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::target::fixture::go;

    #[test]
    fn this_compiler() {
        for flags in go::FLAGS {
            let Some(file) = go::build(flags) else {
                return;
            };
            check(&format!("{flags:?}"), file);
        }
    }

    /// `GO_PROGRAMS=/tmp/a:/tmp/b cargo test -- --ignored --nocapture other_compilers`: programs
    /// that speak TLS, of any version.
    #[test]
    #[ignore = "wants programs of other compilers"]
    fn other_compilers() {
        let programs = std::env::var("GO_PROGRAMS").unwrap();
        for path in programs.split(':') {
            check(path, File::open(path).unwrap());
        }
    }

    fn check(name: &str, file: File) {
        let image = Image::open(file).unwrap();
        let begin = std::time::Instant::now();
        let plan = Go.plan(&image).unwrap().unwrap();
        let version = plan.version.unwrap();
        print!("{version:8} {:?} ", begin.elapsed());
        let of = |hook| plan.sites.iter().filter(move |site| site.hook == hook);
        for (hook, count) in [
            (Hook::GoRead, 1..=1),
            (Hook::GoReadCopy, 1..=1),
            (Hook::GoWrite, 2..=2),
            // A program that never serves has one.
            (Hook::GoBegin, 1..=2),
        ] {
            let offsets: Vec<_> = of(hook).map(|site| format!("{:#x}", site.offset)).collect();
            assert!(count.contains(&offsets.len()), "{name} {hook:?}");
            print!("{hook:?} {} ", offsets.join(" "));
        }
        println!("{name}");
    }

    #[test]
    fn a_go_program_without_tls() {
        let Some(file) = go::build_of("package main\nfunc main() {}\n", &[]) else {
            return;
        };
        assert_eq!(Go.plan(&Image::open(file).unwrap()), None);
    }

    #[test]
    fn not_go() {
        let own = File::open("/proc/self/exe").unwrap();
        assert_eq!(Go.plan(&Image::open(own).unwrap()), None);
    }
}
