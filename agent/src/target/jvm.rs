//! Where a HotSpot JVM keeps its threads and what they make: read from its memory, as its serviceability
//! agent does. libjvm exports where its structures' members are (`gHotSpotVMStructs`, vmStructs.cpp), which
//! other versions have elsewhere.
//!
//! Nothing that is read is trusted: numbers and addresses that lead nowhere make that nothing is known.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use agent_ebpf::abi::Jvm;

use super::image::Image;

/// Where libjvm says what is where: addresses in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exports {
    /// What is added to a place in the file to get its address there.
    shift: u64,
    /// [`EXPORTS`].
    variables: [u64; EXPORTS.len()],
}

/// The table, bytes from one entry to the next, and where in one the structure's name is, that of its
/// member, whether that is static, its offset, and its address.
const EXPORTS: [&str; 7] = [
    "gHotSpotVMStructs",
    "gHotSpotVMStructEntryArrayStride",
    "gHotSpotVMStructEntryTypeNameOffset",
    "gHotSpotVMStructEntryFieldNameOffset",
    "gHotSpotVMStructEntryIsStaticOffset",
    "gHotSpotVMStructEntryOffsetOffset",
    "gHotSpotVMStructEntryAddressOffset",
];

/// Looks for HotSpot in a file; `None` where it is not.
pub fn find(image: &Image) -> Option<Exports> {
    if !image.x86_64() {
        return None;
    }
    let create = image.function("JNI_CreateJavaVM")?;
    let shift = create
        .address
        .checked_sub(image.file_offset(create.address)?)?;
    let mut variables = [0; EXPORTS.len()];
    for (variable, name) in variables.iter_mut().zip(EXPORTS) {
        *variable = image.object(name)?.address;
    }
    Some(Exports { shift, variables })
}

/// Looks at a process that has a libjvm's code there, in memory and in the file. `None` where it is not ready
/// yet.
///
/// # Errors
/// Why its tasks are not known.
pub fn read(
    proc: &Path,
    process: u32,
    exports: Exports,
    code: (u64, u64),
) -> Result<Option<Jvm>, &'static str> {
    let Ok(file) = File::open(proc.join(process.to_string()).join("mem")) else {
        return Ok(None);
    };
    let (begin, offset) = code;
    let base = begin.wrapping_sub(offset.wrapping_add(exports.shift));
    let memory = Memory(&|at, to| file.read_exact_at(to, at).ok());
    let Some(members) = memory.members(base, exports) else {
        return Ok(None);
    };
    Machine { memory, members }.layout()
}

/// Memory of a process: fills the bytes from an address on, or none.
struct Memory<'a>(&'a dyn Fn(u64, &mut [u8]) -> Option<()>);

impl Memory<'_> {
    fn u64(&self, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0(at, &mut bytes)?;
        Some(u64::from_le_bytes(bytes))
    }

    fn u32(&self, at: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.0(at, &mut bytes)?;
        Some(u32::from_le_bytes(bytes))
    }

    /// A text that ends in a zero; of a long one the beginning.
    fn text(&self, at: u64) -> Option<String> {
        let mut bytes = Vec::new();
        for word in 0..LONGEST / 8 {
            let word = self.u64(at.checked_add(word * 8)?)?.to_le_bytes();
            let end = word.iter().position(|byte| *byte == 0);
            bytes.extend(word.get(..end.unwrap_or(8))?);
            if end.is_some() {
                break;
            }
        }
        String::from_utf8(bytes).ok()
    }

    fn members(&self, base: u64, exports: Exports) -> Option<Members> {
        let mut told = [0; EXPORTS.len()];
        for (value, variable) in told.iter_mut().zip(exports.variables) {
            *value = self.u64(base.wrapping_add(variable))?;
        }
        let [mut entry, stride, kind, member, is_static, offset, address] = told;
        if entry == 0 || stride == 0 {
            return None;
        }
        let mut members = HashMap::new();
        for _ in 0..MOST {
            let at = |place: u64| entry.wrapping_add(place);
            let name = self.u64(at(kind))?;
            if name == 0 {
                return Some(members);
            }
            let name = self.text(name)?;
            if STRUCTURES.contains(&&*name) {
                let place = match self.u32(at(is_static))? {
                    0 => self.u64(at(offset))?,
                    _ => self.u64(at(address))?,
                };
                members.insert((name, self.text(self.u64(at(member))?)?), place);
            }
            entry = entry.checked_add(stride)?;
        }
        None
    }
}

/// Offsets of members, and addresses of those that are static.
type Members = HashMap<(String, String), u64>;
/// Longest text, and most entries of a table.
const LONGEST: u64 = 64;
const MOST: usize = 16_384;
/// Structures of which something is wanted.
const STRUCTURES: [&str; 13] = [
    "CollectedHeap",
    "CompressedKlassPointers",
    "CompressedOops",
    "JVMFlag",
    "JavaThread",
    "Klass",
    "OSThread",
    "Symbol",
    "Thread",
    "ThreadLocalAllocBuffer",
    "ThreadsList",
    "ThreadsSMRSupport",
    "Universe",
];

/// A JVM's memory, and where in it things are.
struct Machine<'a> {
    memory: Memory<'a>,
    members: Members,
}

impl Machine<'_> {
    fn layout(&self) -> Result<Option<Jvm>, &'static str> {
        let Some(is_on) = self.flags() else {
            return Ok(None);
        };
        let moves_stopped = ["UseSerialGC", "UseParallelGC", "UseG1GC"];
        // Which it is, it finds out when it starts.
        if !moves_stopped.iter().any(|flag| is_on(flag)) {
            let others = ["UseZGC", "UseShenandoahGC", "UseEpsilonGC"];
            return match others.iter().any(|flag| is_on(flag)) {
                true => Err("a JVM whose objects move while it runs"),
                false => Ok(None),
            };
        }
        let Some(heap) = self.heap() else {
            return Ok(None);
        };
        if !is_on("UseTLAB") || is_on("UseCompactObjectHeaders") || !is_on("UseCompressedOops") {
            return Err("a JVM with objects that are laid out otherwise");
        }
        let layout = self.offsets().ok_or("a JVM of a version not known")?;
        let Some((module, slot)) = self.storage(&layout) else {
            return Ok(None);
        };
        Ok(Some(Jvm {
            heap: [heap.start, heap.end],
            collections: heap.collections,
            module,
            slot,
            ..layout
        }))
    }

    fn at(&self, structure: &str, member: &str) -> Option<u64> {
        let name = (structure.to_owned(), member.to_owned());
        self.members.get(&name).copied()
    }

    fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        self.at(structure, member)?.try_into().ok()
    }

    /// Tells whether a switch of the JVM's is on.
    fn flags(&self) -> Option<impl Fn(&str) -> bool> {
        let [flags, count] = ["flags", "numFlags"].map(|member| self.at("JVMFlag", member));
        let (flags, count) = (self.memory.u64(flags?)?, self.memory.u64(count?)?);
        let [address, name] = ["_addr", "_name"].map(|member| self.at("JVMFlag", member));
        let (address, name) = (address?, name?);
        // The last member is 32 bits.
        let size = self
            .at("JVMFlag", "_type")?
            .checked_add(4)?
            .next_multiple_of(8);
        let mut on = Vec::new();
        for index in 0..count.min(MOST as u64) {
            let flag = flags.wrapping_add(index.wrapping_mul(size));
            let name = self.memory.u64(flag.wrapping_add(name))?;
            if name == 0 {
                break;
            }
            let name = self.memory.text(name)?;
            if name.starts_with("Use") {
                let address = self.memory.u64(flag.wrapping_add(address))?;
                if self
                    .memory
                    .u32(address)
                    .is_some_and(|value| value & 0xff == 1)
                {
                    on.push(name);
                }
            }
        }
        Some(move |name: &str| on.iter().any(|flag| flag == name))
    }

    fn heap(&self) -> Option<Heap> {
        let heap = self.memory.u64(self.at("Universe", "_collectedHeap")?)?;
        let reserved = heap.checked_add(self.at("CollectedHeap", "_reserved")?)?;
        let start = self.memory.u64(reserved)?;
        let words = self.memory.u64(reserved.checked_add(8)?)?;
        Some(Heap {
            start,
            end: start.checked_add(words.checked_mul(8)?)?,
            collections: heap.checked_add(self.at("CollectedHeap", "_total_collections")?)?,
        })
        .filter(|found| heap != 0 && found.start < found.end)
    }

    /// All but what is the process's own.
    fn offsets(&self) -> Option<Jvm> {
        let any = |members: [(&str, &str); 2]| {
            let found = members.map(|(structure, member)| self.at(structure, member));
            found.into_iter().flatten().next()
        };
        let own = |of, old, new| any([(of, old), (of, new)]);
        let objects = |old, new| own("CompressedOops", old, new);
        let classes = |old, new| own("CompressedKlassPointers", old, new);
        let object_base = self.memory.u64(objects("_narrow_oop._base", "_base")?)?;
        let object_shift = self.memory.u32(objects("_narrow_oop._shift", "_shift")?)?;
        let class_base = self.memory.u64(classes("_narrow_klass._base", "_base")?)?;
        let class_shift = self
            .memory
            .u32(classes("_narrow_klass._shift", "_shift")?)?;
        // As the kernel side takes them to be.
        let part = |member| self.at("ThreadLocalAllocBuffer", member);
        if (part("_start"), part("_top"), part("_end")) != (Some(0), Some(8), Some(24))
            || (self.at("Symbol", "_length"), self.at("Symbol", "_body")) != (Some(4), Some(6))
        {
            return None;
        }
        let os_thread = any([("JavaThread", "_osthread"), ("Thread", "_osthread")])?;
        Some(Jvm {
            object_base,
            object_shift,
            class_base,
            class_shift,
            object: self.offset("JavaThread", "_threadObj")?,
            buffer: self.offset("Thread", "_tlab")?,
            os_thread: os_thread.try_into().ok()?,
            control: self.offset("OSThread", "_pthread_id")?,
            // Behind java.lang.Object.
            ancestor: self.offset("Klass", "_primary_supers[0]")?.checked_add(8)?,
            name: self.offset("Klass", "_name")?,
            runner: RUNNER,
            ..Jvm::default()
        })
    }

    /// Where a thread's control block leads to its `JavaThread`: the number of libjvm's storage, and the
    /// offset there. All threads must agree.
    fn storage(&self, layout: &Jvm) -> Option<(u32, u32)> {
        let list = self
            .memory
            .u64(self.at("ThreadsSMRSupport", "_java_thread_list")?)?;
        let count = self
            .memory
            .u32(list.checked_add(self.at("ThreadsList", "_length")?)?)?;
        let threads = self
            .memory
            .u64(list.checked_add(self.at("ThreadsList", "_threads")?)?)?;
        let mut found = None;
        for index in 0..u64::from(count).min(THREADS) {
            let thread = self.memory.u64(threads.checked_add(index * 8)?)?;
            let own = self
                .memory
                .u64(thread.checked_add(layout.os_thread.into())?)?;
            let control = self.memory.u64(own.checked_add(layout.control.into())?)?;
            let places =
                || (1..MODULES).flat_map(|module| (0..SLOTS).map(move |n| (module, n * 8)));
            let leads = |&(module, slot): &(u32, u32)| {
                let table = self.memory.u64(control.wrapping_add(8));
                let entry = table.map(|table| table.wrapping_add(u64::from(module) * 16));
                let storage = entry.and_then(|entry| self.memory.u64(entry));
                let storage = storage.filter(|storage| *storage != 0 && *storage != u64::MAX);
                let word = storage.and_then(|at| self.memory.u64(at.wrapping_add(slot.into())));
                word == Some(thread)
            };
            match found {
                None => found = Some(places().find(leads)?),
                Some(place) if !leads(&place) => return None,
                Some(_) => {}
            }
        }
        found
    }
}

/// The heap: its first address, the one behind its last, and where is counted how often garbage was
/// collected.
struct Heap {
    start: u64,
    end: u64,
    collections: u64,
}

/// Of `java.util.concurrent.FutureTask`, behind a header of 12 bytes, a state, and two references.
const RUNNER: u32 = 24;
/// Threads that are looked at, libraries with storage of their own, and words of it.
const THREADS: u64 = 8;
const MODULES: u32 = 32;
const SLOTS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const ANYWHERE: Exports = Exports {
        shift: 0,
        variables: [0, 8, 16, 24, 32, 40, 48],
    };

    /// The members that are found in memory that holds this from an address on.
    fn members(at: u64, bytes: &[u8]) -> Option<Members> {
        let read = |from: u64, to: &mut [u8]| {
            let from = usize::try_from(from.checked_sub(at)?).ok()?;
            to.copy_from_slice(bytes.get(from..from.checked_add(to.len())?)?);
            Some(())
        };
        Memory(&read).members(at, ANYWHERE)
    }

    #[test]
    fn a_table_of_members_is_read() {
        // Entries of 48 bytes: structure, member, static, offset, address; then the texts.
        let table = 0x1000 + 56;
        let words = [table, 48, 0, 8, 16, 24, 32];
        let (kind, member, other) = (table + 144, table + 152, table + 160);
        let first = [kind, member, 0, 77, 0, 0];
        let second = [kind, other, 1, 0, 4242, 0];
        let words = [&words[..], &first, &second, &[0; 6]].concat();
        let mut bytes: Vec<u8> = words
            .iter()
            .flat_map(|word: &u64| word.to_le_bytes())
            .collect();
        bytes.extend(b"Thread\0\0_tlab\0\0\0_list\0\0\0");
        let found = members(0x1000, &bytes);
        let name = |member: &str| ("Thread".to_owned(), member.to_owned());
        let expected = HashMap::from([(name("_tlab"), 77), (name("_list"), 4242)]);
        assert_eq!(found, Some(expected));
        // Cut off anywhere, it is none.
        for length in 0..bytes.len() - 1 {
            assert_eq!(
                members(0x1000, bytes.get(..length).unwrap_or_default()),
                None
            );
        }
    }

    #[test]
    fn garbage_ends_in_nothing() {
        for seed in 0..64u64 {
            // Every address can be read, and leads to others.
            let read = |at: u64, to: &mut [u8]| {
                for (n, byte) in to.iter_mut().enumerate() {
                    let mixed =
                        (at.wrapping_add(n as u64) ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    *byte = (mixed >> 56) as u8;
                }
                Some(())
            };
            let memory = Memory(&read);
            assert_eq!(memory.members(0, ANYWHERE), None);
            let members = STRUCTURES.iter().flat_map(|structure| {
                MEMBERS
                    .iter()
                    .map(move |member| ((*structure).to_owned(), (*member).to_owned()))
            });
            let members = members.zip((0..).map(|n| n * 8)).collect();
            let machine = Machine { memory, members };
            assert!(!matches!(machine.layout(), Ok(Some(_))));
        }
    }

    const MEMBERS: [&str; 12] = [
        "flags",
        "numFlags",
        "_addr",
        "_name",
        "_type",
        "_collectedHeap",
        "_reserved",
        "_total_collections",
        "_java_thread_list",
        "_length",
        "_threads",
        "_osthread",
    ];
}
