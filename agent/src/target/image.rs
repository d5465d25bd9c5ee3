//! An executable file as those who place probes need it: its functions by name, their code, and
//! where an address lies in the file. Nothing is mapped and no large table is held whole: symbols
//! and their names are read in windows, and everything has a limit.
//!
//! Layouts are those of the System V gABI, chapters 4 and 5, its x86-64 psABI, and for
//! `.eh_frame_hdr` the LSB (Core, 10.6).
//!
//! Never true here: that a number of the file is believed without a look at what it points to.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::fs::File;

use memchr::memmem;

use super::code::{Body, Program};

mod headers;

use headers::{Bytes, Headers, PT_GNU_EH_FRAME, PT_LOAD, Segment, read};
pub use headers::{Part, Section};

/// An ELF file, 64 bits and little-endian, for x86-64 or AArch64.
#[derive(Debug)]
pub struct Image {
    file: File,
    headers: Headers,
    cut: Cell<Option<&'static str>>,
    /// Read when first asked for.
    slots: OnceCell<HashMap<u64, u32>>,
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// Where it begins: a virtual address of the file, before any relocation.
    pub address: u64,
    /// Its length in bytes, never 0.
    pub size: u64,
}

impl Image {
    /// `None`: not such a file, or one whose headers point outside it.
    pub fn open(file: File) -> Option<Self> {
        let headers = Headers::read(&file)?;
        Some(Self {
            file,
            headers,
            cut: Cell::new(None),
            slots: OnceCell::new(),
        })
    }

    /// Whether its code is x86-64's, the one kind that is read here.
    pub fn x86_64(&self) -> bool {
        self.headers.x86_64
    }

    /// What a limit left unread so far, if anything: what was not found may be there.
    pub fn cut(&self) -> Option<&'static str> {
        self.cut.get()
    }

    /// A function by its symbol. Reads the whole tables: ask for many with [`Self::functions`].
    pub fn function(&self, name: &str) -> Option<Function> {
        self.functions(&[name]).first().copied().flatten()
    }

    /// Functions by their symbols, in the order asked for. `.symtab` is read only where `.dynsym`,
    /// which holds what others link against, has none of them.
    pub fn functions(&self, names: &[&str]) -> Vec<Option<Function>> {
        let mut found = vec![None; names.len()];
        let part = shared(names);
        for table in [SHT_DYNSYM, SHT_SYMTAB] {
            // Linkers fold a name into the end of a longer one.
            let wanted = |text: &[u8], offsets: &mut dyn FnMut(usize, usize)| {
                for (index, name) in names.iter().enumerate() {
                    if text.ends_with(name.as_bytes()) {
                        offsets(text.len() - name.len(), index);
                    }
                }
            };
            self.symbols(table, part, &wanted, &mut |index, function| {
                if let Some(slot) = found.get_mut(index).filter(|slot| slot.is_none()) {
                    *slot = Some(function);
                }
            });
            if found.iter().any(Option::is_some) {
                break;
            }
        }
        found
    }

    /// What a program exports that is no function, by its symbol; it need not be in the file.
    pub fn object(&self, name: &str) -> Option<Function> {
        let mut found = None;
        let wanted = |text: &[u8], offsets: &mut dyn FnMut(usize, usize)| {
            if text == name.as_bytes() {
                offsets(0, 0);
            }
        };
        self.entries(SHT_DYNSYM, name, &wanted, &mut |_, entry| {
            found = found.or_else(|| Self::defined(entry, STT_OBJECT));
        });
        found
    }

    /// Functions whose symbols hold `part` and `wanted` accepts, of both tables, each as often as it
    /// is named there. Names that are folded into the end of longer ones are not offered.
    pub fn matching(&self, part: &str, wanted: impl Fn(&str) -> bool) -> Vec<(Box<str>, Function)> {
        let mut found = Vec::new();
        for table in [SHT_DYNSYM, SHT_SYMTAB] {
            let names = std::cell::RefCell::new(Vec::<Box<str>>::new());
            let accept = |text: &[u8], offsets: &mut dyn FnMut(usize, usize)| {
                if let Some(text) = std::str::from_utf8(text).ok().filter(|text| wanted(text)) {
                    let mut names = names.borrow_mut();
                    offsets(0, names.len());
                    names.push(text.into());
                }
            };
            let mut hits = Vec::new();
            self.symbols(table, part, &accept, &mut |index, function| {
                hits.push((index, function));
            });
            let names = names.into_inner();
            let named = hits
                .into_iter()
                .filter_map(|(index, function)| Some((names.get(index)?.clone(), function)));
            found.extend(named);
        }
        found
    }

    /// The code of a function, if it is no longer than [`CODE`].
    pub fn code(&self, function: Function) -> Option<Vec<u8>> {
        if function.size > CODE {
            self.cut.set(Some("a function's code"));
            return None;
        }
        self.executable(function)
            .then(|| self.read(function.address, function.size))?
    }

    /// The same, with where it is.
    pub fn body_of(&self, function: Function) -> Option<Body> {
        let bytes = self.code(function)?;
        let address = function.address;
        Some(Body { address, bytes })
    }

    /// Where an address lies in the file, as a uprobe wants it.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let (segment, inner) = self.load(address)?;
        segment.offset.checked_add(inner)
    }

    /// A section by its name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.headers
            .sections
            .iter()
            .find(|section| &*section.name == name)
    }

    /// A section's bytes in windows, each with its address; the last `overlap` bytes of one are the
    /// first of the next.
    pub fn scan(&self, section: &Section, overlap: u64, each: &mut dyn FnMut(u64, &[u8])) {
        let size = self.within(section.size, SCAN, "a section");
        let mut done = 0;
        while done < size {
            let length = (size - done).min(WINDOW);
            let Some(bytes) = read(&self.file, section.offset + done, length) else {
                return;
            };
            each(section.address.saturating_add(done), &bytes);
            if length < WINDOW {
                return;
            }
            done += WINDOW - overlap.min(WINDOW / 2);
        }
    }

    /// A section's bytes, of one that is not loaded, too.
    pub fn part(&self, section: &Section) -> Part<'_> {
        Part::of(&self.file, section)
    }

    /// Exactly `length` bytes at an address that one segment holds.
    pub fn read(&self, address: u64, length: u64) -> Option<Vec<u8>> {
        let (segment, inner) = self.load(address)?;
        let left = segment.size.checked_sub(inner)?;
        if length > left.min(READ) {
            return None;
        }
        read(&self.file, segment.offset.checked_add(inner)?, length)
    }

    /// The function that holds an address, named or not, by the unwind entries that nearly every
    /// function has. A function that the compiler has split gives the part asked for.
    pub fn around(&self, address: u64) -> Option<Function> {
        let index = self
            .headers
            .segments
            .iter()
            .find(|s| s.kind == PT_GNU_EH_FRAME)?;
        let head = Bytes(read(&self.file, index.offset, 12)?);
        // Version 1, then the forms: count as udata4, table as datarel | sdata4.
        if head.0.first() != Some(&1) || head.0.get(2..4) != Some(&[0x03, 0x3b]) {
            return None;
        }
        let count = u64::from(head.u32(8)?);
        if count.checked_mul(8)?.checked_add(12)? > index.size {
            return None;
        }
        let pair = |n: u64| {
            let pair = Bytes(read(&self.file, index.offset.checked_add(12 + n * 8)?, 8)?);
            let place = |at| index.address.checked_add_signed(i64::from(pair.i32(at)?));
            Some((place(0)?, place(4)?))
        };
        // The last entry that begins no later: `low` is the first that begins later.
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if pair(middle)?.0 <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let (begin, entry) = pair(low.checked_sub(1)?)?;
        // Length, CIE pointer, then begin and size, taken for pcrel | sdata4: the begin proves it.
        let words = Bytes(self.read(entry, 16)?);
        let told = entry
            .checked_add(8)?
            .checked_add_signed(i64::from(words.i32(8)?))?;
        let size = u64::from(words.u32(12)?);
        let function = Function {
            address: begin,
            size,
        };
        (told == begin && address.checked_sub(begin)? < size && self.executable(function))
            .then_some(function)
    }

    /// What a jump through the pointer at `slot` ends in, where that is a function of this file
    /// that others link against: the slots of the procedure linkage table. `None` also where
    /// another file may provide the function.
    pub fn slot(&self, slot: u64) -> Option<Function> {
        let symbol = *self.slots.get_or_init(|| self.read_slots()).get(&slot)?;
        let mut sections = self.headers.sections.iter();
        let dynamic = sections.find(|s| s.kind == SHT_DYNSYM)?;
        let at = u64::from(symbol)
            .checked_mul(SYMBOL)?
            .checked_add(dynamic.offset)?;
        let inside = at.checked_add(SYMBOL)? <= dynamic.offset.checked_add(dynamic.size)?;
        let entry = Bytes(inside.then(|| read(&self.file, at, 24))??);
        self.symbol(&entry).map(|(_, function)| function)
    }

    /// The pointers that the loader fills with functions' addresses, and the symbols of these.
    fn read_slots(&self) -> HashMap<u64, u32> {
        let mut slots = HashMap::new();
        let sections = self.headers.sections.iter();
        for table in sections.filter(|section| section.kind == SHT_RELA) {
            self.windows(table, RELA, RELOCATIONS, "relocations", &mut |entry| {
                // r_offset, then r_info: the symbol's index and the type.
                if matches!(entry.u32(8), Some(GLOB_DAT | JUMP_SLOT))
                    && let (Some(slot), Some(symbol)) = (entry.u64(0), entry.u32(12))
                {
                    slots.entry(slot).or_insert(symbol);
                }
                slots.len() < SLOTS || self.is_cut("relocations")
            });
        }
        slots
    }

    fn load(&self, address: u64) -> Option<(&Segment, u64)> {
        self.headers.segments.iter().find_map(|segment| {
            let inner = address.checked_sub(segment.address)?;
            (segment.kind == PT_LOAD && inner < segment.size).then_some((segment, inner))
        })
    }

    fn executable(&self, function: Function) -> bool {
        self.load(function.address).is_some_and(|(segment, inner)| {
            let fits = inner.checked_add(function.size);
            segment.executable && function.size > 0 && fits.is_some_and(|end| end <= segment.size)
        })
    }

    /// Walks the names of a symbol table, then its symbols. `wanted` is given each name that holds
    /// `part` and tells, for each match, at which byte of it it begins and under which number it is
    /// to be `found`.
    fn entries(
        &self,
        kind: u32,
        part: &str,
        wanted: Wanted<'_>,
        found: &mut dyn FnMut(usize, &Bytes<&[u8]>),
    ) {
        let Some(table) = self.headers.sections.iter().find(|s| s.kind == kind) else {
            return;
        };
        let names = usize::try_from(table.link).ok();
        let Some(names) = names.and_then(|link| self.headers.sections.get(link)) else {
            return;
        };
        let mut numbers: HashMap<u32, usize> = HashMap::new();
        self.strings(names, part, &mut |offset, text| {
            wanted(text, &mut |inner, number| {
                let at = u64::try_from(inner)
                    .ok()
                    .and_then(|n| offset.checked_add(n));
                if let Some(at) = at.and_then(|at| u32::try_from(at).ok()) {
                    numbers.insert(at, number);
                }
            });
            numbers.len() < MATCHES || self.is_cut("matching symbols")
        });
        if numbers.is_empty() {
            return;
        }
        let mut left = MATCHES;
        self.windows(table, SYMBOL, SYMBOLS, "symbols", &mut |entry| {
            let number = entry.u32(0).and_then(|name| numbers.get(&name));
            if let Some(number) = number {
                found(*number, entry);
                left -= 1;
            }
            left > 0 || self.is_cut("matching symbols")
        });
    }

    /// The same for functions alone.
    fn symbols(
        &self,
        kind: u32,
        part: &str,
        wanted: Wanted<'_>,
        found: &mut dyn FnMut(usize, Function),
    ) {
        self.entries(kind, part, wanted, &mut |number, entry| {
            if let Some((_, function)) = self.symbol(entry) {
                found(number, function);
            }
        });
    }

    /// A symbol's name and function, if it is one that is defined here and lies in code.
    fn symbol(&self, entry: &Bytes<impl AsRef<[u8]>>) -> Option<(u32, Function)> {
        let function = Self::defined(entry, STT_FUNC)?;
        self.executable(function)
            .then_some((entry.u32(0)?, function))
    }

    /// Where a symbol of a kind is that is defined here.
    fn defined(entry: &Bytes<impl AsRef<[u8]>>, kind: u8) -> Option<Function> {
        let place = Function {
            address: entry.u64(8)?,
            size: entry.u64(16)?,
        };
        (entry.0.as_ref().get(4)? & 0xf == kind && entry.u16(6)? != 0).then_some(place)
    }

    /// Each text of a string table that holds `part`, with its offset, until `each` says no. Of one
    /// longer than a window only the end may be seen: a symbol's name may begin there, too.
    fn strings(&self, table: &Section, part: &str, each: &mut dyn FnMut(u64, &[u8]) -> bool) {
        let size = self.within(table.size, STRINGS, "symbol names");
        let finder = memmem::Finder::new(part);
        let mut done = 0;
        while done < size {
            let length = (size - done).min(WINDOW);
            let Some(bytes) = read(&self.file, table.offset + done, length) else {
                return;
            };
            let whole = memchr::memrchr(0, &bytes).map_or(0, |last| last + 1);
            let texts = bytes.get(..whole).unwrap_or_default();
            let mut end = 0;
            for hit in finder.find_iter(texts) {
                let (Some(before), Some(after)) = (texts.get(..hit), texts.get(hit..)) else {
                    return;
                };
                if hit < end {
                    continue;
                }
                let start = memchr::memrchr(0, before).map_or(0, |zero| zero + 1);
                end = hit + memchr::memchr(0, after).unwrap_or_default();
                let text = texts.get(start..end).unwrap_or_default();
                if !text.is_empty() && !each(done + start as u64, text) {
                    return;
                }
            }
            // The text that the window cuts is read again with the next, unless it fills one.
            let cut = length == WINDOW && whole > 0;
            done += if cut { whole as u64 } else { length };
        }
    }

    /// Each entry of a table, until `each` says no.
    fn windows(
        &self,
        table: &Section,
        entry: u64,
        limit: u64,
        what: &'static str,
        each: &mut dyn FnMut(&Bytes<&[u8]>) -> bool,
    ) {
        let size = self.within(table.size, limit * entry, what);
        let window = WINDOW / entry * entry;
        let mut done = 0;
        while done < size {
            let Some(bytes) = read(&self.file, table.offset + done, (size - done).min(window))
            else {
                return;
            };
            for entry in bytes.chunks_exact(usize::try_from(entry).unwrap_or(usize::MAX)) {
                if !each(&Bytes(entry)) {
                    return;
                }
            }
            done += window;
        }
    }

    fn within(&self, size: u64, limit: u64, what: &'static str) -> u64 {
        if size > limit {
            self.is_cut(what);
        }
        size.min(limit)
    }

    /// Notes that a limit was met; always false.
    fn is_cut(&self, what: &'static str) -> bool {
        self.cut.set(Some(what));
        false
    }
}

impl Program for Image {
    fn body(&self, address: u64) -> Option<Body> {
        self.body_of(self.around(address)?)
    }

    fn pointer(&self, slot: u64) -> Option<u64> {
        self.slot(slot).map(|function| function.address)
    }

    fn constant(&self, address: u64, length: u64) -> Option<Vec<u8>> {
        let (segment, _) = self.load(address)?;
        (!segment.writable).then(|| self.read(address, length))?
    }
}

/// What all names begin with.
fn shared<'a>(names: &[&'a str]) -> &'a str {
    let Some((first, others)) = names.split_first() else {
        return "";
    };
    let alike = |other: &&str| {
        let pairs = first.bytes().zip(other.bytes());
        pairs.take_while(|(a, b)| a == b).count()
    };
    let length = others.iter().map(alike).min().unwrap_or(first.len());
    first.get(..length).unwrap_or_default()
}

/// Is given a name; tells where in it a match begins, and under which number to find it.
type Wanted<'a> = &'a dyn Fn(&[u8], &mut dyn FnMut(usize, usize));

/// The longest code that is read, in bytes.
pub const CODE: u64 = 64 * 1024;
/// The most that [`Image::read`] gives at once, in bytes.
const READ: u64 = 64 * 1024 * 1024;
const SCAN: u64 = 64 * 1024 * 1024;
const WINDOW: u64 = 256 * 1024;
/// Node.js has 110,000 with 7.5 MiB of names.
const SYMBOLS: u64 = 1024 * 1024;
const STRINGS: u64 = 32 * 1024 * 1024;
const RELOCATIONS: u64 = 1024 * 1024;
const SLOTS: usize = 128 * 1024;
const MATCHES: usize = 4096;

const SYMBOL: u64 = 24;
const RELA: u64 = 24;
const SHT_SYMTAB: u32 = 2;
const SHT_RELA: u32 = 4;
const SHT_DYNSYM: u32 = 11;
const STT_FUNC: u8 = 2;
const STT_OBJECT: u8 = 1;
const GLOB_DAT: u32 = 6;
const JUMP_SLOT: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{code, tls};

    /// A file that is gone with the test.
    fn file(bytes: &[u8]) -> File {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("spantap-image-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }

    /// All there is to ask.
    fn ask(bytes: &[u8]) {
        let Some(image) = Image::open(file(bytes)) else {
            return;
        };
        tls::plans(&image);
        let named = image.matching("SSL_", |_| true);
        for (_, function) in named.into_iter().take(8) {
            if let Some(body) = image.body_of(function) {
                code::entry(&body, &[code::Register::RDI]);
                let _ = code::exits(&image, body);
            }
        }
    }

    /// Headers, a table of two symbols, and a function `SSL_read` of two instructions.
    fn small() -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &[3, 0, 62, 0, 1]);
        put(32, &[64]);
        put(40, &[0x00, 0x02]);
        put(52, &[64, 0, 56, 0, 2, 0, 64, 0, 4, 0, 3]);
        let number = |n: u64| n.to_le_bytes();
        // The first page is code and all else; the unwind index says that 0x1c0 is in a function.
        for (at, kind, offset, size) in [(64, 1, 0, 0x400), (120, PT_GNU_EH_FRAME, 0x180, 20)] {
            put(at, &kind.to_le_bytes());
            put(at + 4, &[5]);
            put(at + 8, &number(offset));
            put(at + 16, &number(offset));
            put(at + 32, &number(size));
        }
        let section = |name: u32, kind: u32, offset: u64, size: u64, link: u32| {
            let head = [name.to_le_bytes(), kind.to_le_bytes()].concat();
            let place = [number(0), number(offset), number(offset), number(size)].concat();
            [head, place, link.to_le_bytes().to_vec(), vec![0; 20]].concat()
        };
        put(0x240, &section(1, SHT_DYNSYM, 0x300, 48, 2));
        put(0x280, &section(9, 3, 0x340, 18, 0));
        put(0x2c0, &section(17, 3, 0x360, 27, 0));
        put(0x318, &[8, 0, 0, 0, 0x12, 0, 1, 0]);
        put(0x320, &[number(0x1c0), number(2)].concat());
        put(0x340, b"\0SSL_wx\0XSSL_read\0");
        put(0x318, &[9]);
        put(0x360, b"\0.dynsym\0.dynstr\0.shstrtab\0");
        put(0x1c0, &[0x90, 0xc3]);
        // Version and forms, the count, and one pair: 0x180 + 0x40, 0x180 + 0x20.
        put(0x180, &[1, 0x1b, 0x03, 0x3b, 0, 0, 0, 0, 1, 0, 0, 0]);
        put(0x18c, &[0x40, 0, 0, 0, 0x20]);
        // Length, CIE, 0x1a8 + 0x18, two bytes.
        put(0x1a0, &[12, 0, 0, 0, 0, 0, 0, 0, 0x18, 0, 0, 0, 2]);
        bytes
    }

    #[test]
    fn a_function_is_found() {
        let image = Image::open(file(&small())).unwrap();
        let function = Function {
            address: 0x1c0,
            size: 2,
        };
        assert_eq!(image.function("SSL_read"), Some(function), "a folded name");
        assert_eq!(image.function("SSL_rea"), None);
        assert_eq!(image.functions(&["no", "SSL_read"]), [None, Some(function)]);
        assert_eq!(image.code(function), Some(vec![0x90, 0xc3]));
        assert_eq!(image.around(0x1c1), Some(function));
        assert_eq!(image.around(0x1c2), None);
        assert_eq!(image.around(0x1bf), None);
        assert_eq!(image.file_offset(0x1c0), Some(0x1c0));
        assert_eq!(image.file_offset(0x400), None);
        assert_eq!(image.section(".dynsym").unwrap().size, 48);
        assert_eq!(image.cut(), None);
        let beyond = |size| image.code(Function { size, ..function });
        assert_eq!(beyond(0x241), None, "outside");
        assert_eq!((beyond(0), beyond(CODE + 1)), (None, None));
        assert_eq!(image.cut(), Some("a function's code"));
    }

    #[test]
    fn any_small_file_is_survived() {
        let whole = small();
        for length in 0..whole.len() {
            ask(&whole[..length]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, whole[at] ^ 1, whole[at] ^ 0x10] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                ask(&bytes);
            }
        }
    }

    #[test]
    fn real_files_cut_and_changed_are_survived() {
        let Ok(whole) = std::fs::read("/usr/lib/x86_64-linux-gnu/libssl.so.3") else {
            eprintln!("skipped: no libssl.so.3 on this machine");
            return;
        };
        for part in 0..16 {
            ask(&whole[..whole.len() / 16 * part]);
        }
        let headers = whole.len() - 64 * 32;
        for n in 0..24 {
            let mut bytes = whole.clone();
            let at = if n % 2 == 0 {
                64 + n * 17
            } else {
                headers + n * 41
            };
            bytes[at] ^= 0xff;
            ask(&bytes);
        }
    }

    #[test]
    fn an_enormous_file_ends_quickly() {
        let path = std::env::temp_dir().join(format!("spantap-huge-{}", std::process::id()));
        let mut bytes = small();
        // Symbols of 1 GiB and names of 1 MiB, all of it zeros but for the one.
        bytes[0x240 + 0x20..][..8].copy_from_slice(&(1u64 << 30).to_le_bytes());
        bytes[0x280 + 0x20..][..8].copy_from_slice(&(1u64 << 20).to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file.set_len(1 << 31).unwrap();
        let began = std::time::Instant::now();
        let image = Image::open(file).unwrap();
        assert!(image.function("SSL_read").is_some());
        assert_eq!(image.cut(), Some("symbols"));
        assert!(began.elapsed().as_secs() < 30, "even unoptimised");
    }
}
