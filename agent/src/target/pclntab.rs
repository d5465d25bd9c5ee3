//! Functions of a Go program by name, from the table that its own runtime walks stacks with
//! (`.gopclntab`): it is there in stripped programs too.
//!
//! Layout: debug/gosym/pclntab.go and runtime/symtab.go, headers of Go 1.18 and 1.20; what is older
//! is refused. Names and functions are read in windows, in one pass each, and as the linker writes
//! both in order, a table that makes us go to and fro is refused.
//!
//! Never true here: that the whole table is in memory.

use memchr::memmem;

use super::image::{Function, Image, Section};

/// The table of a program, its header read.
#[derive(Debug)]
pub struct Table<'a> {
    image: &'a Image,
    /// Addresses in the file: of the names, of what follows them, of the functions, of the end.
    names: u64,
    names_end: u64,
    functions: u64,
    end: u64,
    /// Where `runtime.text` is: functions tell their distance from it.
    text: u64,
    count: u64,
}

impl<'a> Table<'a> {
    /// `None`: the file has no such table. `Err`: it has, and it cannot be read, and why.
    pub fn find(image: &'a Image) -> Option<Result<Self, &'static str>> {
        let named = [".gopclntab", ".data.rel.ro.gopclntab"];
        let section = named.iter().find_map(|name| image.section(name));
        match section {
            Some(section) => Some(Self::read(image, section.address, end(section)?)),
            None => merged(image).map(Ok),
        }
    }

    fn read(image: &'a Image, start: u64, end: u64) -> Result<Self, &'static str> {
        let header = image.read(start, HEADER).ok_or(CUT_OFF)?;
        match header.first_chunk() {
            Some(magic) if MAGICS.contains(magic) => {}
            Some(magic) if OLD.contains(magic) => return Err("made by a Go before 1.18"),
            _ => return Err("a table of functions of a kind not known"),
        }
        let word = |n: usize| number(&header, 8 + 8 * n).ok_or(CUT_OFF);
        let place = |n: usize| {
            let place = start.checked_add(word(n)?).filter(|place| *place < end);
            place.ok_or(CUT_OFF)
        };
        let text = match word(2)? {
            // Go 1.26 keeps it in the module's data alone, in a section of its own.
            0 => module_text(image, start).ok_or("its module data are not found")?,
            text => text,
        };
        let table = Self {
            image,
            names: place(3)?,
            names_end: place(4)?,
            functions: place(7)?,
            end,
            text,
            count: word(0)?,
        };
        let size = table.count.checked_mul(ENTRY).ok_or(CUT_OFF)?;
        let fits = size <= end - table.functions;
        if table.count > MAX_FUNCTIONS || !fits || table.names_end < table.names {
            return Err(CUT_OFF);
        }
        Ok(table)
    }

    /// The functions of these names, in the order of `names`; `None` for one that is not there, or
    /// is there twice.
    pub fn functions(&self, names: &[&str]) -> Result<Vec<Option<Function>>, &'static str> {
        let offsets = self.name_offsets(names)?;
        let mut found = vec![Vec::new(); names.len()];
        let mut table = Window::new(self.image, self.end);
        let mut entries = Window::new(self.image, self.end);
        for n in 0..self.count {
            // An entry: the function's distance from the text, that of its description from here.
            let at = self.functions + n * ENTRY;
            let entry = table.number(at).ok_or(CUT_OFF)?;
            let description = self.functions.checked_add(entry >> 32).ok_or(CUT_OFF)?;
            // A description begins with the distance again, then the name's.
            let name = entries.number(description).ok_or(CUT_OFF)? >> 32;
            let Some(index) = offsets.iter().position(|o| *o == Some(name)) else {
                continue;
            };
            let next = table.number(at + ENTRY).ok_or(CUT_OFF)? & LOW;
            let size = next.checked_sub(entry & LOW).filter(|size| *size > 0);
            let address = self.text.checked_add(entry & LOW);
            if let (Some(address), Some(size), Some(found)) = (address, size, found.get_mut(index))
            {
                found.push(Function { address, size });
            }
        }
        let one = |found: Vec<Function>| found.first().copied().filter(|_| found.len() == 1);
        Ok(found.into_iter().map(one).collect())
    }

    /// Where each name begins among the names.
    fn name_offsets(&self, names: &[&str]) -> Result<Vec<Option<u64>>, &'static str> {
        let needles: Vec<_> = names.iter().map(|name| format!("\0{name}\0")).collect();
        let overlap = needles.iter().map(String::len).max().unwrap_or(0) as u64;
        let mut found = vec![None; names.len()];
        // The byte before the first name is a zero as well, the header's or that of an empty name.
        let mut at = self.names.saturating_sub(1);
        for _ in 0..MAX_WINDOWS {
            let length = self.names_end.saturating_sub(at).min(WINDOW);
            let bytes = self.image.read(at, length).ok_or(CUT_OFF)?;
            for (needle, found) in needles.iter().zip(&mut found) {
                if let Some(n) = memmem::find(&bytes, needle.as_bytes()) {
                    *found = Some(at + 1 + n as u64 - self.names);
                }
            }
            if length < WINDOW || !found.contains(&None) {
                break;
            }
            at += WINDOW - overlap.min(WINDOW / 2);
        }
        Ok(found)
    }
}

/// A program that another linker has put together as PIE: the table is somewhere among the data
/// that are written while it is loaded.
fn merged(image: &Image) -> Option<Table<'_>> {
    image.section(".go.buildinfo")?;
    let section = image.section(".data.rel.ro")?;
    let end = end(section)?;
    let mut at = section.address.checked_next_multiple_of(ALIGN)?;
    let mut wrong = 0;
    for _ in 0..MAX_WINDOWS {
        let left = end.checked_sub(at)?;
        let bytes = image.read(at, left.min(WINDOW))?;
        for (n, chunk) in (0..).zip(bytes.chunks(ALIGN as usize)) {
            if !chunk
                .first_chunk()
                .is_some_and(|magic| MAGICS.contains(magic))
            {
                continue;
            }
            if let Ok(table) = Table::read(image, at + n * ALIGN, end) {
                return Some(table);
            }
            wrong += 1;
            if wrong > MAX_WRONG {
                return None;
            }
        }
        at = at.checked_add(WINDOW)?;
    }
    None
}

fn end(section: &Section) -> Option<u64> {
    section.address.checked_add(section.size)
}

/// Where the program's text begins, from its module data: the table's address, six slices, the
/// address of an index, two addresses, then the text's (runtime/symtab.go, `moduledata`).
fn module_text(image: &Image, table: u64) -> Option<u64> {
    let section = image.section(".go.module")?;
    let data = image.read(section.address, MODULE_TEXT + 8)?;
    number(&data, 0).filter(|address| *address == table)?;
    number(&data, MODULE_TEXT as usize).filter(|text| *text != 0)
}

/// Numbers at addresses that mostly go up, a window of the file at a time.
struct Window<'a> {
    image: &'a Image,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
    left: u32,
}

impl<'a> Window<'a> {
    fn new(image: &'a Image, end: u64) -> Self {
        Self {
            image,
            end,
            start: 0,
            bytes: Vec::new(),
            left: MAX_WINDOWS,
        }
    }

    /// The 64-bit number at an address; `None` past the end, or after too much going to and fro.
    fn number(&mut self, at: u64) -> Option<u64> {
        if let Some(number) = self.held(at) {
            return Some(number);
        }
        self.left = self.left.checked_sub(1)?;
        let length = self.end.checked_sub(at)?.min(WINDOW);
        self.bytes = self.image.read(at, length)?;
        self.start = at;
        self.held(at)
    }

    fn held(&self, at: u64) -> Option<u64> {
        number(&self.bytes, at.checked_sub(self.start)?.try_into().ok()?)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// The first bytes: a number of its own for each layout, two zeros, instructions are of any
/// length, addresses have 8 bytes (internal/abi/symtab.go).
const MAGICS: [[u8; 8]; 2] = [
    [0xf0, 0xff, 0xff, 0xff, 0, 0, 1, 8],
    [0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8],
];
/// Go 1.2 and Go 1.16.
const OLD: [[u8; 8]; 2] = [
    [0xfb, 0xff, 0xff, 0xff, 0, 0, 1, 8],
    [0xfa, 0xff, 0xff, 0xff, 0, 0, 1, 8],
];
/// The first bytes and eight numbers.
const HEADER: u64 = 72;
const ENTRY: u64 = 8;
const ALIGN: u64 = 16;
const LOW: u64 = 0xffff_ffff;
const MODULE_TEXT: u64 = 176;
const WINDOW: u64 = 256 * 1024;
/// 256 MiB; Kubernetes' tables have 30.
const MAX_WINDOWS: u32 = 1024;
const MAX_WRONG: u32 = 16;
/// Kubernetes has 150,000.
const MAX_FUNCTIONS: u64 = 2 * 1024 * 1024;
const CUT_OFF: &str = "its table of functions is cut off or out of order";

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::target::fixture::go;

    #[test]
    fn functions_of_real_programs() {
        for flags in go::FLAGS {
            let Some(file) = go::build(flags) else {
                return;
            };
            let image = Image::open(file).unwrap();
            let begin = Instant::now();
            let table = Table::find(&image).unwrap().unwrap();
            let names = ["main.main", "no.such", "runtime.memmove", "main.far"];
            let found = table.functions(&names).unwrap();
            println!("{flags:?}: {} in {:?}", table.count, begin.elapsed());
            let [Some(main), None, Some(memmove), Some(far)] = *found else {
                panic!("{flags:?}: {found:?}");
            };
            assert!(image.code(memmove).is_some());
            let code = image.code(main).unwrap();
            // main calls far: a call with its distance from the next instruction is in it.
            let calls = code.windows(5).zip(1u64..).any(|(bytes, n)| {
                let distance = i32::from_le_bytes(bytes[1..].try_into().unwrap());
                let next = main.address + n + 4;
                bytes[0] == 0xe8 && next.wrapping_add_signed(distance.into()) == far.address
            });
            assert!(calls, "{flags:?}");
            // The symbols, where there are any, say the same.
            if let Some(symbol) = image.function("main.far") {
                assert_eq!(symbol.address, far.address);
                assert!(symbol.size <= far.size && far.size - symbol.size < 64);
            }
        }
    }

    /// A table of two functions, in a file of one segment and one section.
    fn small() -> Vec<u8> {
        let mut table = MAGICS[1].to_vec();
        for number in [2, 0, 0x1000, 72, 82, 82, 82, 82] {
            table.extend(u64::to_le_bytes(number));
        }
        table.extend(b"a.a\0\0b.b\0\0");
        for number in [0, 20, 16, 28, 48, 0, 0, 16, 5] {
            table.extend(u32::to_le_bytes(number));
        }
        table
    }

    fn find(table: &[u8]) -> Option<Result<Vec<Option<Function>>, &'static str>> {
        let image = Image::open(go::elf(".gopclntab", table)).unwrap();
        let table = Table::find(&image)?;
        Some(table.and_then(|table| table.functions(&["b.b", "a.a", "c"])))
    }

    #[test]
    fn a_small_table() {
        let function = |address, size| Some(Function { address, size });
        let expected = vec![function(0x1010, 32), function(0x1000, 16), None];
        assert_eq!(find(&small()), Some(Ok(expected)));
        let mut old = small();
        old[0] = 0xfa;
        assert_eq!(find(&old), Some(Err("made by a Go before 1.18")));
    }

    #[test]
    fn any_table_is_survived() {
        let whole = small();
        for cut in 1..whole.len() {
            let _ = find(&whole[..cut]);
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut table = whole.clone();
                table[at] ^= 1 << bit;
                let _ = find(&table);
            }
        }
    }
}
