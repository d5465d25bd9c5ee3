//! The headers of an ELF file, and how its bytes are read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// What the headers say, so far as it matters here.
#[derive(Debug)]
pub struct Headers {
    /// The code is x86-64's; else AArch64's.
    pub x86_64: bool,
    /// Those of [`PT_LOAD`] and [`PT_GNU_EH_FRAME`].
    pub segments: Vec<Segment>,
    /// All, at their indices.
    pub sections: Vec<Section>,
}

impl Headers {
    /// `None`: not a file that can be read, or one whose headers point outside it. Sections are not
    /// needed to run a program: where their headers are no good there are none.
    pub fn read(file: &File) -> Option<Self> {
        let length = file.metadata().ok()?.len();
        let header = Bytes(read(file, 0, HEADER)?);
        // Magic, ELFCLASS64, ELFDATA2LSB; ET_EXEC or ET_DYN.
        if header.0.get(..6)? != b"\x7fELF\x02\x01" || !matches!(header.u16(16)?, 2 | 3) {
            return None;
        }
        let x86_64 = match header.u16(18)? {
            EM_X86_64 => true,
            EM_AARCH64 => false,
            _ => return None,
        };
        Some(Self {
            x86_64,
            segments: segments(file, length, &header)?,
            sections: sections(file, length, &header).unwrap_or_default(),
        })
    }
}

/// A section that has bytes in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// `.text` and the like.
    pub name: Box<str>,
    /// Its virtual address, 0 where it is not loaded.
    pub address: u64,
    /// Its offset in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes; all of it is within the file.
    pub size: u64,
    /// SHT_…
    pub kind: u32,
    /// The section that its entries refer to.
    pub link: u32,
    /// Its bytes are packed, after a header that says how.
    pub compressed: bool,
}

/// What is loaded (PT_LOAD), and where the index of unwind entries is (PT_GNU_EH_FRAME).
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// PT_…
    pub kind: u32,
    /// Its bytes may be run.
    pub executable: bool,
    /// The program may change its bytes.
    pub writable: bool,
    /// Its virtual address.
    pub address: u64,
    /// Its offset in the file, in bytes.
    pub offset: u64,
    /// Its bytes in the file.
    pub size: u64,
}

/// Little-endian numbers at offsets that may be outside.
#[derive(Debug)]
pub struct Bytes<B>(pub B);

impl<B: AsRef<[u8]>> Bytes<B> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let end = at.checked_add(N)?;
        self.0.as_ref().get(at..end)?.try_into().ok()
    }

    /// Unsigned, 16 bits.
    pub fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    /// Unsigned, 32 bits.
    pub fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// Signed, 32 bits.
    pub fn i32(&self, at: usize) -> Option<i32> {
        self.array(at).map(i32::from_le_bytes)
    }

    /// Unsigned, 64 bits.
    pub fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}

/// The program headers that matter here.
fn segments(file: &File, length: u64, header: &Bytes<Vec<u8>>) -> Option<Vec<Segment>> {
    let (entry, count) = (header.u16(54)?, header.u16(56)?);
    if entry != PROGRAM_HEADER || count > MAX_SEGMENTS {
        return None;
    }
    let table = read(
        file,
        header.u64(32)?,
        u64::from(PROGRAM_HEADER) * u64::from(count),
    )?;
    let mut segments = Vec::new();
    for entry in table.chunks_exact(PROGRAM_HEADER.into()).map(Bytes) {
        let segment = Segment {
            kind: entry.u32(0)?,
            executable: entry.u32(4)? & 1 != 0,
            writable: entry.u32(4)? & 2 != 0,
            offset: entry.u64(8)?,
            address: entry.u64(16)?,
            size: entry.u64(32)?,
        };
        if !matches!(segment.kind, PT_LOAD | PT_GNU_EH_FRAME) {
            continue;
        }
        if segment.offset.checked_add(segment.size)? > length
            || segment.address.checked_add(segment.size).is_none()
        {
            return None;
        }
        segments.push(segment);
    }
    Some(segments)
}

/// The section headers, at their indices; those without bytes in the file are empty.
fn sections(file: &File, length: u64, header: &Bytes<Vec<u8>>) -> Option<Vec<Section>> {
    let (entry, count) = (header.u16(58)?, header.u16(60)?);
    if entry != SECTION_HEADER || count > MAX_SECTIONS {
        return None;
    }
    let table = read(
        file,
        header.u64(40)?,
        u64::from(SECTION_HEADER) * u64::from(count),
    )?;
    let headers = || table.chunks_exact(SECTION_HEADER.into()).map(Bytes);
    let bytes = |entry: &Bytes<&[u8]>| {
        let (offset, size) = (entry.u64(24)?, entry.u64(32)?);
        let within = offset.checked_add(size)? <= length && entry.u32(4)? != SHT_NOBITS;
        within.then_some((offset, size))
    };
    let names = headers().nth(header.u16(62)?.into())?;
    let (offset, size) = bytes(&names)?;
    let names = read(file, offset, size.min(SECTION_NAMES))?;
    let section = |entry: Bytes<&[u8]>| {
        let from = usize::try_from(entry.u32(0)?).ok()?;
        let name = names.get(from..)?;
        let name = name.get(..NAME).unwrap_or(name);
        let name = name.split(|&byte| byte == 0).next()?;
        let (offset, size) = bytes(&entry)?;
        Some(Section {
            name: std::str::from_utf8(name).ok()?.into(),
            kind: entry.u32(4)?,
            address: entry.u64(16)?,
            offset,
            size,
            link: entry.u32(40)?,
            compressed: entry.u64(8)? & SHF_COMPRESSED != 0,
        })
    };
    let empty = || Section {
        name: "".into(),
        kind: 0,
        address: 0,
        offset: 0,
        size: 0,
        link: 0,
        compressed: false,
    };
    Some(
        headers()
            .map(|e| section(e).unwrap_or_else(empty))
            .collect(),
    )
}

/// A part of a file, from its first byte on.
#[derive(Debug)]
pub struct Part<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl<'a> Part<'a> {
    /// A section's bytes.
    pub fn of(file: &'a File, section: &Section) -> Self {
        Self {
            file,
            at: section.offset,
            left: section.size,
        }
    }
}

impl Read for Part<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let bytes = bytes.get_mut(..length).unwrap_or_default();
        let read = self.file.read_at(bytes, self.at)?;
        self.at = self.at.saturating_add(read as u64);
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

/// Exactly so many bytes of the file. No more than a limit is ever asked for.
pub fn read(file: &File, offset: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

/// The longest name of a section that is looked at.
const NAME: usize = 256;
const MAX_SEGMENTS: u16 = 256;
const MAX_SECTIONS: u16 = 8192;
const SECTION_NAMES: u64 = 1024 * 1024;
const HEADER: u64 = 64;
const PROGRAM_HEADER: u16 = 56;
const SECTION_HEADER: u16 = 64;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
/// What is loaded.
pub const PT_LOAD: u32 = 1;
/// Where the index of unwind entries is.
pub const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const SHT_NOBITS: u32 = 8;
const SHF_COMPRESSED: u64 = 1 << 11;
