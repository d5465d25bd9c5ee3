//! What an executable file says about its language, found once per file: Go's build information,
//! the libraries it asks for, and, for the rest, the words that Rust's and other runtimes leave
//! among the constants. Only headers and named ranges are read; every size is capped.

use std::fs::File;
use std::os::unix::fs::FileExt;

use memchr::memmem;
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection, ReadCache};

/// What was found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binary {
    /// Go's version, `1.26.8`, where the file was made by the Go compiler.
    pub go: Option<Box<str>>,
    /// It was made by the Rust compiler.
    pub rust: bool,
    /// It holds a runtime that moves tasks between threads (tokio, async-std).
    pub tasks: bool,
    /// It asks for an interpreter, so that libraries may be mapped later.
    pub dynamic: bool,
    /// `nginx/1.22.1` and the like, where the constants hold one.
    pub product: Option<(&'static str, Box<str>)>,
}

/// Reads a file; what is not a 64-bit ELF file says nothing.
pub fn inspect(file: &File) -> Binary {
    let mut binary = Binary::default();
    let Ok(copy) = file.try_clone() else {
        return binary;
    };
    let cache = ReadCache::new(copy);
    let Ok(elf) = ElfFile64::<Endianness, _>::parse(&cache) else {
        return binary;
    };
    for section in elf.sections().take(MAX_SECTIONS) {
        let Some((offset, size)) = section.file_range() else {
            continue;
        };
        match section.name_bytes() {
            Ok(b".go.buildinfo") => {
                let bytes = range(file, offset, size, BUILD_INFO_READ);
                binary.go = go_version(&bytes, |address| at(&elf, file, address));
            }
            Ok(b".interp") => binary.dynamic = true,
            _ => {}
        }
    }
    if binary.go.is_none()
        && let Some((offset, size)) = elf.section_by_name(".rodata").and_then(|s| s.file_range())
    {
        constants(file, offset, size, &mut binary);
    }
    binary
}

/// `.go.buildinfo`: a magic, the pointer's size, flags; from Go 1.18 on the version stands inline
/// as a varint length and text at offset 32 (debug/buildinfo). Before, there is a pointer to a
/// string's header.
fn go_version(bytes: &[u8], at: impl Fn(u64) -> Option<Vec<u8>>) -> Option<Box<str>> {
    let rest = bytes.strip_prefix(b"\xff Go buildinf:")?;
    let flags = *rest.get(1)?;
    let text = if flags & 2 != 0 {
        let (length, text) = varint(bytes.get(32..)?)?;
        text.get(..length)?.to_vec()
    } else if flags == 0 && rest.first() == Some(&8) {
        let header = at(u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?))?;
        let length = usize::from(*header.get(8)?);
        let text = at(u64::from_le_bytes(header.get(..8)?.try_into().ok()?))?;
        text.get(..length)?.to_vec()
    } else {
        return Some("".into());
    };
    let text = String::from_utf8(text).ok()?;
    let version = text.strip_prefix("go").unwrap_or(&text);
    let version = version.split_whitespace().next().unwrap_or_default();
    (version.len() <= MAX_VERSION).then(|| version.into())
}

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0usize;
    for (n, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(n + 1..)?));
        }
    }
    None
}

/// Some bytes at an address of the program.
fn at<'a>(
    elf: &ElfFile64<'a, Endianness, &'a ReadCache<File>>,
    file: &File,
    address: u64,
) -> Option<Vec<u8>> {
    elf.sections().take(MAX_SECTIONS).find_map(|section| {
        let inner = address.checked_sub(section.address())?;
        let (offset, size) = section.file_range()?;
        let left = size.checked_sub(inner).filter(|left| *left > 0)?;
        Some(range(
            file,
            offset.checked_add(inner)?,
            left,
            BUILD_INFO_READ,
        ))
    })
}

fn range(file: &File, offset: u64, size: u64, limit: usize) -> Vec<u8> {
    let length = usize::try_from(size).unwrap_or(usize::MAX).min(limit);
    let mut bytes = vec![0; length];
    let n = file.read_at(&mut bytes, offset).unwrap_or(0);
    bytes.truncate(n);
    bytes
}

/// Looks for telling words, a window at a time, so that memory stays small whatever the file.
fn constants(file: &File, offset: u64, size: u64, binary: &mut Binary) {
    let size = size.min(CONSTANTS_READ);
    let mut done = 0;
    while done < size {
        let Some(from) = offset.checked_add(done) else {
            return;
        };
        let bytes = range(file, from, size - done, WINDOW);
        binary.rust = binary.rust || memmem::find(&bytes, b"/rustc/").is_some();
        binary.tasks = binary.tasks
            || TASK_RUNTIMES
                .iter()
                .any(|word| memmem::find(&bytes, word).is_some());
        if binary.product.is_none() {
            binary.product = PRODUCTS.iter().find_map(|name| product(&bytes, name));
        }
        if bytes.len() < WINDOW {
            return;
        }
        done += (WINDOW - OVERLAP) as u64;
    }
}

fn product(bytes: &[u8], name: &'static str) -> Option<(&'static str, Box<str>)> {
    let mut rest = bytes;
    while let Some(found) = memmem::find(rest, name.as_bytes()) {
        rest = rest.get(found + name.len()..)?;
        let Some(version) = rest.strip_prefix(b"/") else {
            continue;
        };
        let length = version
            .iter()
            .position(|b| !(b.is_ascii_digit() || *b == b'.'))?;
        let text = std::str::from_utf8(version.get(..length)?).ok()?;
        if text.contains('.') && text.len() <= MAX_VERSION {
            return Some((name, text.into()));
        }
    }
    None
}

/// Panic messages name the source file a crate was built from.
const TASK_RUNTIMES: [&[u8]; 3] = [b"/tokio-1.", b"/tokio-0.", b"/async-std-1."];
const PRODUCTS: [&str; 3] = ["nginx", "Apache", "lighttpd"];

const MAX_SECTIONS: usize = 4096;
const MAX_VERSION: usize = 64;
const BUILD_INFO_READ: usize = 4096;
const CONSTANTS_READ: u64 = 32 * 1024 * 1024;
const WINDOW: usize = 256 * 1024;
const OVERLAP: usize = 64;
