//! rustls 0.23, which Rust programs link into themselves, whatever does its cryptography
//! (docs/decisions/0016-rustls.md). Its functions are found by their symbols, which a release build
//! has unless it is asked to strip them; what the compiler has inlined is refused.
//!
//! A session has no address that lasts: Rust moves it from the handshake to where it stays. What
//! holds is the thread: rustls does no I/O of its own, so the same thread puts data in and then
//! sends them, or receives and then takes data out, in one call of its user's.
//!
//! Rust promises no layout and no calling convention. Those told at the hooks are what rustc 1.95
//! makes of rustls's types, seen in programs that ran; other compilers may do otherwise, so what is
//! read by them has to be looked at before it is believed.

use std::fmt::{self, Write};

use memchr::memmem;

use super::named::{self, Known, known};
use super::{Hook, Library, Plan, Reason};
use crate::target::image::{Function, Image};

/// The entry in the registry.
pub static LIBRARY: &dyn Library = &Rustls;

struct Rustls;

impl Library for Rustls {
    fn name(&self) -> &'static str {
        "rustls"
    }

    fn plan(&self, image: &Image) -> Option<Result<Plan, Reason>> {
        let functions = functions(image);
        if functions.is_empty() {
            return None;
        }
        let version = version(image);
        let said = version.as_deref().unwrap_or("of no known version");
        let refuse = |why: &str| Some(Err(Reason(format!("rustls {said}: {why}").into())));
        if version.as_ref().is_some_and(|v| !v.starts_with(KNOWN)) {
            return refuse("only 0.23 is known");
        }
        for known in &FUNCTIONS {
            let count = functions.iter().filter(|(k, _)| k.hook == known.hook);
            match count.count() {
                0 => return refuse(&format!("{} was inlined away", known.name)),
                1 => {}
                _ => return refuse(&format!("{} is there twice", known.name)),
            }
        }
        let places = named::sites(image, &functions);
        Some(places.map(|(sites, left_out)| Plan {
            library: self.name(),
            version,
            sites,
            left_out,
        }))
    }
}

/// The functions that are probed, by their paths without the brackets that only one of the two
/// manglings gives.
static FUNCTIONS: [Known; 4] = [
    known(
        "rustls::common_state::CommonState::buffer_plaintext",
        Hook::RustlsWrite,
        Some(Hook::RustlsWriteDone),
    ),
    known(
        "rustls::common_state::CommonState::take_received_plaintext",
        Hook::RustlsRead,
        None,
    ),
    known(
        "rustls::vecbuf::ChunkVecBuffer::write_to",
        Hook::RustlsSend,
        Some(Hook::RustlsSendDone),
    ),
    known(
        "rustls::msgs::deframer::buffers::DeframerVecBuffer::read",
        Hook::RustlsReceive,
        Some(Hook::RustlsReceiveDone),
    ),
];

/// The version whose layouts are known.
const KNOWN: &str = "0.23.";

/// In both manglings a name stands behind its length: few symbols need be looked at closely.
const CRATE: &str = "6rustls";

fn functions(image: &Image) -> Vec<(&'static Known, Function)> {
    let mut functions: Vec<(&Known, Function)> = Vec::new();
    for (symbol, function) in image.matching(CRATE, |symbol| probed(symbol).is_some()) {
        // A function may have a symbol in both tables.
        let new = functions.iter().all(|(_, other)| *other != function);
        functions.extend(
            probed(&symbol)
                .filter(|_| new)
                .map(|known| (known, function)),
        );
    }
    functions
}

fn probed(symbol: &str) -> Option<&'static Known> {
    if !symbol.contains(CRATE) {
        return None;
    }
    let mut path = Path(String::new());
    write!(path, "{:#}", rustc_demangle::demangle(symbol)).ok()?;
    FUNCTIONS.iter().find(|known| path.0 == known.name)
}

/// A demangled name without brackets. A longer one than we look for ends its making, since a few
/// bytes of a mangled name can stand for a great many.
struct Path(String);

impl Write for Path {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0
            .extend(text.chars().filter(|c| !matches!(c, '<' | '>')));
        if self.0.len() > PATH {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

const PATH: usize = 128;

/// The version, from the paths of source files that messages of panics have.
fn version(image: &Image) -> Option<Box<str>> {
    let section = image.section(".rodata")?;
    let mut done = 0;
    while done < section.size.min(CONSTANTS) {
        let length = (section.size - done).min(WINDOW);
        let bytes = image.read(section.address.checked_add(done)?, length)?;
        for at in memmem::find_iter(&bytes, SOURCE) {
            let rest = bytes.get(at + SOURCE.len()..).unwrap_or_default();
            let length = rest.iter().take(VERSION).position(|b| *b == b'/');
            let name = length.and_then(|length| rest.get(..length));
            let name = name.and_then(|name| std::str::from_utf8(name).ok());
            // Other texts begin so, too.
            if let Some(name) = name.filter(|name| name.starts_with(|c: char| c.is_ascii_digit())) {
                return Some(name.into());
            }
        }
        done += WINDOW - OVERLAP;
        if length < WINDOW {
            break;
        }
    }
    None
}

const SOURCE: &[u8] = b"/rustls-";
const CONSTANTS: u64 = 32 * 1024 * 1024;
const WINDOW: u64 = 256 * 1024;
const OVERLAP: u64 = 64;
const VERSION: usize = 32;

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn both_manglings() {
        let name = |symbol: &str| probed(symbol).map(|known| known.hook);
        let legacy = "_ZN6rustls12common_state11CommonState16buffer_plaintext17h448ffa9b090f132aE";
        let new = "_RNvMNtCs1PVfNTLNy3A_6rustls12common_stateNtB2_11CommonState16buffer_plaintext";
        assert_eq!(name(legacy), Some(Hook::RustlsWrite));
        assert_eq!(
            name(&format!("{legacy}.llvm.15547491091667948966")),
            name(legacy)
        );
        assert_eq!(name(new), name(legacy));
        let read =
            "_RNvMNtNtNtCs1PVfNTLNy3A_6rustls4msgs8deframer7buffersNtB2_17DeframerVecBuffer4read";
        assert_eq!(name(read), Some(Hook::RustlsReceive));
        assert_eq!(
            name("_ZN6rustls6vecbuf14ChunkVecBuffer7is_full17h448ffa9b090f132aE"),
            None
        );
        assert_eq!(
            name("rustls::vecbuf::ChunkVecBuffer::write_to"),
            None,
            "not a symbol"
        );
    }

    /// This program has rustls in it, to export; in a debug build nothing is inlined.
    #[test]
    fn our_own() {
        let image = Image::open(File::open("/proc/self/exe").unwrap()).unwrap();
        let plan = Rustls.plan(&image).unwrap().unwrap();
        let count = |hook| plan.sites.iter().filter(|site| site.hook == hook).count();
        for known in &FUNCTIONS {
            assert_eq!(count(known.hook), 1, "{}", known.name);
            assert!(
                known.done.is_none_or(|done| count(done) > 0),
                "{}",
                known.name
            );
        }
    }

    /// `RUST_PROGRAMS=/tmp/a:/tmp/b cargo test -- --ignored --nocapture programs`
    #[test]
    #[ignore = "wants programs that use rustls"]
    fn programs() {
        for path in std::env::var("RUST_PROGRAMS").unwrap().split(':') {
            let image = Image::open(File::open(path).unwrap()).unwrap();
            let begin = std::time::Instant::now();
            match Rustls.plan(&image) {
                None => println!("{path}: none"),
                Some(Err(why)) => println!("{path}: {why}"),
                Some(Ok(plan)) => {
                    let took = begin.elapsed();
                    println!("{path}: {} {took:?}", plan.version.unwrap_or_default());
                    for site in plan.sites {
                        println!("  {:?} {:#x} {}", site.hook, site.offset, site.stepped);
                    }
                }
            }
        }
    }
}
