//! What an executable file says about its language, found once per file: Go's build information,
//! the libraries it asks for, and, for the rest, the words that Rust's and other runtimes leave
//! among the constants. Only headers and named ranges are read; every size is capped.

use std::fs::File;
use std::os::unix::fs::FileExt;

use memchr::memmem;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, ReadCache};

/// What was found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binary {
    /// Go's version, `1.26.8`, where the file was made by the Go compiler.
    pub go: Option<Box<str>>,
    /// It was made by the Rust compiler.
    pub rust: bool,
    /// It holds a runtime whose threads work for many tasks in turn (tokio, async-std, smol).
    pub tasks: bool,
    /// It asks for an interpreter, so that libraries may be mapped later.
    pub dynamic: bool,
    /// `nginx/1.22.1` and the like, where the constants hold one.
    pub product: Option<(&'static str, Box<str>)>,
}

/// Reads a file; what is not a 64-bit ELF file says nothing.
pub fn inspect(file: &File) -> Binary {
    let mut binary = Binary::default();
    let sections = sections(file).unwrap_or_default();
    let mut rodata = None;
    for section in &sections {
        match &*section.name {
            b".go.buildinfo" => {
                let bytes = range(file, section.offset, section.size, BUILD_INFO_READ);
                binary.go = go_version(&bytes, |address| at(&sections, file, address));
            }
            b".interp" => binary.dynamic = true,
            b".rodata" => rodata = Some(section),
            _ => {}
        }
    }
    if let Some(section) = rodata.filter(|_| binary.go.is_none()) {
        constants(file, section.offset, section.size, &mut binary);
    }
    binary
}

struct Section {
    name: Box<[u8]>,
    address: u64,
    offset: u64,
    size: u64,
}

/// The section headers alone: `object`'s whole-file view would read symbol tables as well, which
/// in a hostile file can be as large as it likes. For the same reason the extended form of the
/// count (more than 65,279 sections) is refused.
fn sections(file: &File) -> Option<Vec<Section>> {
    let cache = ReadCache::new(file.try_clone().ok()?);
    let header = FileHeader64::<Endianness>::parse(&cache).ok()?;
    let endian = header.endian().ok()?;
    if header.e_shnum(endian) == 0 {
        return None;
    }
    let table = header.sections(endian, &cache).ok()?;
    let sections = table.iter().take(MAX_SECTIONS).filter_map(|section| {
        let (offset, size) = section.file_range(endian)?;
        Some(Section {
            name: table.section_name(endian, section).ok()?.into(),
            address: section.sh_addr(endian),
            offset,
            size,
        })
    });
    Some(sections.collect())
}

/// `.go.buildinfo`: a magic, the pointer's size, flags; from Go 1.18 on the version stands inline
/// as a varint length and text at offset 32 (debug/buildinfo). Before, there is a pointer to a
/// string's header.
pub(super) fn go_version(bytes: &[u8], at: impl Fn(u64) -> Option<Vec<u8>>) -> Option<Box<str>> {
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
fn at(sections: &[Section], file: &File, address: u64) -> Option<Vec<u8>> {
    sections.iter().find_map(|section| {
        let inner = address
            .checked_sub(section.address)
            .filter(|_| section.address != 0)?;
        let left = section.size.checked_sub(inner).filter(|left| *left > 0)?;
        Some(range(
            file,
            section.offset.checked_add(inner)?,
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

/// Panic messages name the source file a crate was built from, but for its version where its source is the
/// program's own (`cargo vendor`); tokio's runtimes have one of their own, since 0.2.
const TASK_RUNTIMES: [&[u8]; 7] = [
    b"/tokio-1.",
    b"/tokio-0.",
    b"Cannot start a runtime from within a runtime",
    b"/async-std-1.",
    b"/async-executor-1.",
    b"/glommio-0.",
    b"/monoio-0.",
];
const PRODUCTS: [&str; 3] = ["nginx", "Apache", "lighttpd"];

const MAX_SECTIONS: usize = 4096;
const MAX_VERSION: usize = 64;
const BUILD_INFO_READ: usize = 4096;
const CONSTANTS_READ: u64 = 32 * 1024 * 1024;
const WINDOW: usize = 256 * 1024;
const OVERLAP: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_build_information() {
        let inline = |flags: u8, text: &str| {
            let mut bytes = b"\xff Go buildinf:\x08".to_vec();
            bytes.push(flags);
            bytes.resize(32, 0);
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
            bytes
        };
        let none = |_| None;
        let check = |bytes: &[u8], expected: Option<&str>| {
            assert_eq!(go_version(bytes, none).as_deref(), expected);
        };
        check(&inline(2, "go1.26.8"), Some("1.26.8"));
        check(&inline(2, "go1.22.3 X:boringcrypto"), Some("1.22.3"));
        check(&inline(2, "devel +abc"), Some("devel"));
        check(b"\xff Go buildinf:", None);
        check(b"\xff Go buildinf:\x08\x02", None);
        check(b"", None);
        for cut in 0..40 {
            let bytes = inline(2, "go1.26.8");
            assert_eq!(go_version(&bytes[..cut], none), None, "{cut}");
        }
        let pointers = |address| match address {
            0x1000 => Some([0x2000u64.to_le_bytes(), 6u64.to_le_bytes()].concat()),
            0x2000 => Some(b"go1.17xyz".to_vec()),
            _ => None,
        };
        let mut bytes = b"\xff Go buildinf:\x08\x00".to_vec();
        bytes.extend(0x1000u64.to_le_bytes());
        assert_eq!(go_version(&bytes, pointers).as_deref(), Some("1.17"));
    }

    #[test]
    fn this_test_is_made_by_rust() {
        let own = File::open("/proc/self/exe").unwrap();
        let binary = inspect(&own);
        assert!(binary.rust && binary.dynamic && binary.go.is_none());
    }

    #[test]
    fn any_file_is_survived() {
        let path = std::env::temp_dir().join(format!("spantap-elf-{}", std::process::id()));
        let whole = range(&File::open("/bin/true").unwrap(), 0, 4096, 4096);
        for step in 0..600usize {
            let mut bytes = whole.clone();
            if let Some(byte) = bytes.get_mut(step % 64) {
                *byte = (step * 37) as u8;
            }
            bytes.truncate(step * 7);
            std::fs::write(&path, &bytes).unwrap();
            inspect(&File::open(&path).unwrap());
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn products() {
        let text = b"nginx: \0nginx/x\0nginx/1.22.1 \0";
        assert_eq!(product(text, "nginx"), Some(("nginx", "1.22.1".into())));
        assert_eq!(product(b"nginx/1.22", "nginx"), None, "cut off");
    }
}
