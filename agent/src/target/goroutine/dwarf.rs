//! Offsets of members as a program itself describes its types. The linker writes all types of a Go
//! program into one unit named `runtime` (cmd/link/internal/ld/dwarf.go), somewhere among the
//! others: each is unpacked in turn, and no more than the beginning of one is held.
//!
//! Layout: DWARF 4 and 5, chapter 7. Go writes names where they are used (`DW_FORM_string`) and a
//! unit's name first, so that two sections are all that is read.

use std::io::{self, Read, Take};

use flate2::read::ZlibDecoder;
use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugInfo, EndianSlice, LittleEndian, UnitHeader,
    UnitOffset, constants,
};

use crate::target::image::Image;

/// Where in structures their members begin, in bytes: `wanted` names both, and the answers are in
/// its order; `None` for one that is not there.
///
/// `None`: the program has no DWARF, or it is damaged, or more than is read.
pub fn members(image: &Image, wanted: &[(&str, &str)]) -> Option<Vec<Option<u32>>> {
    let mut search = Search {
        wanted,
        found: vec![None; wanted.len()],
        ended: Vec::new(),
    };
    let (abbreviations, info) = (section(image, "abbrev")?, section(image, "info")?);
    search.go(abbreviations, info).ok()?;
    Some(search.answer())
}

struct Search<'a> {
    wanted: &'a [(&'a str, &'a str)],
    found: Vec<Option<u32>>,
    /// The structures that were read to their ends.
    ended: Vec<&'a str>,
}

impl<'a> Search<'a> {
    /// Goes through the units up to the one that has any of the structures.
    fn go(&mut self, abbreviations: impl Read, info: impl Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        abbreviations.take(ABBREVIATIONS).read_to_end(&mut bytes)?;
        let abbreviations = DebugAbbrev::new(&bytes, LittleEndian);
        let mut units = Units {
            info: info.take(INFO),
            unit: Vec::new(),
            left: 0,
        };
        let mut left = UNITS;
        while let Some(unit) = units.next()? {
            if !is_runtime(&unit) {
                continue;
            }
            let known = unit.abbreviations(&abbreviations).map_err(damaged)?;
            self.unit(&unit, &known).map_err(damaged)?;
            left -= 1;
            if !self.ended.is_empty() || left == 0 {
                break;
            }
        }
        Ok(())
    }

    fn unit(&mut self, unit: &Unit<'_>, known: &Abbreviations) -> gimli::Result<()> {
        let mut entries = unit.entries_raw(known, None)?;
        let mut structure: Option<(&'a str, isize)> = None;
        while !entries.is_empty() {
            let depth = entries.next_depth();
            if let Some((name, _)) = structure.take_if(|(_, outside)| depth <= *outside) {
                self.ended.push(name);
                let mut wanted = self.wanted.iter();
                if wanted.all(|(name, _)| self.ended.contains(name)) {
                    break;
                }
            }
            let Some(kind) = entries.read_abbreviation()? else {
                continue;
            };
            let member = kind.tag() == constants::DW_TAG_member && structure.is_some();
            if !member && kind.tag() != constants::DW_TAG_structure_type {
                entries.skip_attributes(kind.attributes())?;
                continue;
            }
            let (mut name, mut offset) = (None, None);
            for &attribute in kind.attributes() {
                let attribute = entries.read_attribute(attribute)?;
                match (attribute.name(), attribute.value()) {
                    (constants::DW_AT_name, AttributeValue::String(text)) => {
                        name = std::str::from_utf8(text.slice()).ok();
                    }
                    (constants::DW_AT_data_member_location, _) => offset = attribute.udata_value(),
                    _ => {}
                }
            }
            match (structure, name) {
                (Some((structure, _)), Some(name)) if member => {
                    self.member((structure, name), offset);
                }
                (None, Some(name)) => structure = self.structure(name).map(|name| (name, depth)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The same name, if it is one that is looked for.
    fn structure(&self, name: &str) -> Option<&'a str> {
        let mut names = self.wanted.iter().map(|(structure, _)| *structure);
        names.find(|structure| *structure == name)
    }

    fn member(&mut self, name: (&str, &str), offset: Option<u64>) {
        let found = self.wanted.iter().zip(&mut self.found);
        for (_, found) in found.filter(|(wanted, _)| **wanted == name) {
            *found = offset.and_then(|offset| u32::try_from(offset).ok());
        }
    }

    fn answer(self) -> Vec<Option<u32>> {
        let found = self.wanted.iter().zip(self.found);
        let whole = |structure: &str| self.ended.contains(&structure);
        found
            .map(|((structure, _), found)| found.filter(|_| whole(structure)))
            .collect()
    }
}

type Unit<'a> = UnitHeader<EndianSlice<'a, LittleEndian>>;

/// Whether a unit's first entry is of a one-byte kind and begins with this name.
fn is_runtime(unit: &Unit<'_>) -> bool {
    let entries = unit.range_from(UnitOffset(unit.header_size())..);
    entries.is_ok_and(|entries| entries.slice().get(1..9) == Some(b"runtime\0"))
}

/// The units of a section, one after the other.
struct Units<R> {
    info: Take<R>,
    unit: Vec<u8>,
    /// How much of the last one was not held.
    left: u64,
}

impl<R: Read> Units<R> {
    /// The next one; of a long one the beginning, as if it ended there.
    fn next(&mut self) -> io::Result<Option<Unit<'_>>> {
        io::copy(&mut self.info.by_ref().take(self.left), &mut io::sink())?;
        if self.info.limit() == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.unit.clear();
        let mut start = self.info.by_ref().take(LENGTH);
        if start.read_to_end(&mut self.unit)? == 0 {
            return Ok(None);
        }
        let Some(length) = self.unit.first_chunk().copied().map(u32::from_le_bytes) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let held = length.min(UNIT);
        self.left = u64::from(length - held);
        self.unit.clear();
        self.unit.extend(held.to_le_bytes());
        self.unit.reserve_exact(held as usize);
        let mut rest = self.info.by_ref().take(held.into());
        rest.read_to_end(&mut self.unit)?;
        let mut units = DebugInfo::new(&self.unit, LittleEndian).units();
        units.next().map_err(damaged)
    }
}

/// The bytes of a section of debugging information, unpacked: as the gABI has it, or as Go 1.18
/// and before wrote it (`ZLIB` and the length, 64 bits). `None`: there is no such section, or it is packed otherwise.
fn section<'a>(image: &'a Image, name: &str) -> Option<Box<dyn Read + 'a>> {
    let packed = |section, header: usize, start: &[u8]| {
        let mut part = image.part(section);
        let mut bytes = vec![0; header];
        part.read_exact(&mut bytes).ok()?;
        let known = bytes.starts_with(start);
        known.then(|| Box::new(ZlibDecoder::new(part)) as Box<dyn Read + 'a>)
    };
    if let Some(section) = image.section(&format!(".zdebug_{name}")) {
        return packed(section, 12, b"ZLIB");
    }
    let section = image.section(&format!(".debug_{name}"))?;
    if section.compressed {
        // ch_type is ELFCOMPRESS_ZLIB; a reserved word, the size and the alignment follow.
        return packed(section, 24, &1u32.to_le_bytes());
    }
    Some(Box::new(image.part(section)))
}

fn damaged(_: gimli::Error) -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// More than Go and a C compiler write together; unpacked, in bytes.
const ABBREVIATIONS: u64 = 256 * 1024;
/// Unpacked, in bytes: the types come early, and all of them within 7 MB in a program of 104 MB
/// (an OpenTelemetry Collector). So much takes some 40 ms.
const INFO: u64 = 16 * 1024 * 1024;
/// Of one unit, in bytes: that of its types has 6 MB.
const UNIT: u32 = 12 * 1024 * 1024;
/// As many of the name are looked through; Go writes some ten.
const UNITS: u32 = 64;
const LENGTH: u64 = 4;
