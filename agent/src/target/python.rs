//! Where CPython keeps what tells asyncio's tasks apart: the context (contextvars) that a thread is
//! in, which is a task's or a callback's own for as long as it runs, and where contexts are made.
//!
//! At a system call a thread has let go of the interpreter, so its state is found where it stays: in
//! the thread's own memory, under the key `autoTSSkey` of `_PyRuntime`. Where that key is, the code of
//! the exported `PyGILState_GetThisThreadState` says, which programs that are stripped have, too. The
//! members of `PyThreadState` (Include/cpython/pystate.h) stand in a table by version, and are
//! measured: of 3.8 to 3.13 from DWARF, of 3.14 from the code of `PyContext_Enter` and
//! `PyThreadState_SetAsyncExc`. The kernel side checks the state that it finds by the thread's id in it.
//!
//! What a thread of a pool (concurrent.futures) works for is told by the frames that it is in, and by who was seen to
//! make the lock within a future: for that there are more offsets, all measured by compiling against the
//! versions' own headers.
//!
//! Never true here: that a version which was not measured is taken for its neighbour.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::code;
use super::image::{Function, Image};
use super::tls::{Hook, Site};

/// What is known of CPython in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// 3 and the minor version.
    pub version: (u8, u8),
    /// Where the pthread key is, 32 bits: a virtual address of the file.
    pub key: u64,
    /// Offsets of members.
    pub offsets: Offsets,
    /// How far its code is behind where it is in the file: modulo 2^64.
    pub shift: u64,
    /// Where a new context is in a register, made by the thread that is there; and where locks are made.
    pub sites: Vec<Site>,
    /// What pools of threads run, or why that cannot be told.
    pub pools: Result<Pools, &'static str>,
}

/// Offsets of members, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// In `PyThreadState`: the thread's own id, 64 bits: where its control block is, with glibc.
    pub thread_id: u32,
    /// In `PyThreadState`: the context.
    pub context: u32,
    /// In `PyThreadState`: the innermost frame, or what leads to it.
    pub frame: u32,
    /// In what leads to it: the frame. `None`: there is nothing between.
    pub inner: Option<u32>,
    /// In a frame: its code.
    pub code: u32,
    /// In a frame: the one before it.
    pub previous: u32,
    /// In `PyContext`: whether it was entered, 32 bits. A thread's first context never is.
    pub entered: u32,
}

/// What tells whose work a thread of a pool does: offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pools {
    /// In a frame: the first local variable.
    pub locals: u32,
    /// In `PyCodeObject`: the function's name.
    pub name: u32,
    /// In a string: its text, where that is ASCII.
    pub text: u32,
    /// From an object to its first attribute: what is added to an address, to find the next there.
    pub hops: &'static [i32],
}

/// What is known of the CPython in a file. `None`: there is none. `Err`: its tasks cannot be told
/// apart, and why.
pub fn find(image: &Image) -> Option<Result<Python, &'static str>> {
    let names = [&["PyGILState_GetThisThreadState"], &MAKERS[..]].concat();
    let found = image.functions(&names);
    let (&state, makers) = found.split_first()?;
    let (state, Some(_)) = (state?, makers.first()?) else {
        return None;
    };
    if !image.x86_64() {
        return Some(Err("not x86-64"));
    }
    Some(read(image, state, makers))
}

/// Functions that make contexts.
const MAKERS: [&str; 3] = ["PyContext_CopyCurrent", "PyContext_Copy", "PyContext_New"];

fn read(
    image: &Image,
    state: Function,
    makers: &[Option<Function>],
) -> Result<Python, &'static str> {
    let runtime = image
        .object("_PyRuntime")
        .ok_or("a CPython without _PyRuntime")?;
    let version = version(image)?;
    let offsets = offsets(version)?;
    if free_threaded(image, runtime, version) {
        return Err("a CPython without a global lock");
    }
    if is_musl(image) {
        return Err("a CPython for musl");
    }
    let key = key(image, state, runtime).ok_or("a CPython whose thread states are not found")?;
    let code = image.file_offset(state.address).ok_or(UNSEEN)?;
    let mut sites = sites(image, makers)?;
    let pools = pools(version).and_then(|pools| {
        sites.push(lock(image).ok_or("a CPython whose locks are not seen to be made")?);
        Ok(pools)
    });
    Ok(Python {
        version,
        key,
        shift: state.address.wrapping_sub(code),
        offsets,
        sites,
        pools,
    })
}

/// Of 3.11 and later there is a number; the last before it are told by what they export.
fn version(image: &Image) -> Result<(u8, u8), &'static str> {
    if let Some(number) = image.object("Py_Version") {
        let bytes = image.read(number.address, 4);
        return match bytes.as_deref() {
            Some(&[.., minor, 3]) => Ok((3, minor)),
            _ => Err("a CPython of a version not known"),
        };
    }
    let found = image.functions(&SINCE.map(|(name, _)| name));
    let found = found.iter().zip(SINCE).find(|(found, _)| found.is_some());
    let (_, (_, minor)) = found.ok_or("a CPython older than the table of offsets")?;
    Ok((3, minor))
}

/// Functions, and the minor version that each came with.
const SINCE: [(&str, u8); 3] = [
    ("PyModule_AddObjectRef", 10),
    ("PyModule_AddType", 9),
    ("PyCode_NewWithPosOnlyArgs", 8),
];

fn offsets((_, minor): (u8, u8)) -> Result<Offsets, &'static str> {
    let (thread_id, context, frame, inner, code, previous) = match minor {
        // 3.8.18, 3.9.18, 3.10.13
        8..=10 => (0xb0, 0xf0, 0x18, None, 0x20, 0x18),
        // 3.11.7
        11 => (0x98, 0xe0, 0x38, Some(8), 0x20, 0x30),
        // 3.12.1
        12 => (0x88, 0xd0, 0x38, Some(0), 0, 8),
        // 3.13.0, 3.14.3
        13 | 14 => (0x98, 0xd0, 0x48, None, 0, 8),
        ..8 => return Err("a CPython older than the table of offsets"),
        _ => return Err("a CPython newer than the table of offsets"),
    };
    Ok(Offsets {
        thread_id,
        context,
        frame,
        inner,
        code,
        previous,
        // After the object's head, ctx_prev, ctx_vars and ctx_weakreflist; the same in all of them.
        entered: 0x28,
    })
}

/// An object's first attribute is the first of its values, which are where its dictionary says, before it
/// or in it (Objects/dictobject.c).
fn pools((_, minor): (u8, u8)) -> Result<Pools, &'static str> {
    let (locals, name, text, hops): (_, _, _, &[i32]) = match minor {
        // 3.8.18, 3.9.18
        8 | 9 => (0x168, 0x70, 0x30, &[0x10, 0x28, 0]),
        // 3.10.13
        10 => (0x160, 0x70, 0x30, &[0x10, 0x28, 0]),
        // 3.11.7
        11 => (0x48, 0x78, 0x30, &[-0x20, 0]),
        // 3.12.1: the pointer is one less than the address.
        12 => (0x48, 0x78, 0x28, &[-0x18, 1]),
        // 3.13.0
        13 => (0x48, 0x78, 0x28, &[0x18]),
        // Its `RLock` makes no lock that is seen.
        _ => return Err("a CPython whose pools of threads are not known"),
    };
    Ok(Pools {
        locals,
        name,
        text,
        hops,
    })
}

/// Where locks are made.
fn lock(image: &Image) -> Option<Site> {
    let found = image.functions(&["PyThread_allocate_lock"]);
    let place = code::entry(&image.body_of(found.first().copied()??)?, &[])?;
    Site::at(image, place, Hook::PythonLock)
}

/// `_PyRuntime` begins with what debuggers want to know since 3.13 (pycore_debug_offsets.h): a cookie,
/// the version, whether there is no lock, each 64 bits.
fn free_threaded(image: &Image, runtime: Function, (_, minor): (u8, u8)) -> bool {
    let told = || image.read(runtime.address.checked_add(16)?, 8);
    minor >= 13 && told().is_none_or(|told| told != [0; 8])
}

/// Whether a file is made for musl, whose threads keep their states elsewhere.
pub(super) fn is_musl(image: &Image) -> bool {
    let mut found = false;
    for name in [".interp", ".dynstr"] {
        if let Some(section) = image.section(name) {
            image.scan(section, 16, &mut |_, bytes| {
                found |= memchr::memmem::find(bytes, b"musl").is_some();
            });
        }
    }
    found
}

/// Where the key is: the last that the code speaks of in `_PyRuntime`, be it the address of the
/// `Py_tss_t`, whose second member the key is, or the key itself where what reads it is inlined.
fn key(image: &Image, state: Function, runtime: Function) -> Option<u64> {
    let body = image.body_of(state)?;
    let decoder = Decoder::with_ip(64, &body.bytes, body.address, DecoderOptions::NONE);
    // The register that a pointer to `_PyRuntime` was loaded into.
    let mut base = Register::None;
    let mut found = None;
    for instruction in decoder {
        let load =
            instruction.mnemonic() == Mnemonic::Mov && instruction.op1_kind() == OpKind::Memory;
        let into = instruction.op0_register();
        let address = spoken_of(&instruction, base, runtime.address);
        let address = address.filter(|address| {
            let inner = address.checked_sub(runtime.address);
            inner.is_some_and(|inner| inner < runtime.size)
        });
        match address {
            Some(address) if instruction.mnemonic() == Mnemonic::Lea => {
                found = address.checked_add(KEY);
                if address == runtime.address {
                    base = into;
                    found = None;
                }
            }
            Some(address) if load && into.is_gpr32() => found = Some(address),
            None if load && into.is_gpr64() && instruction.is_ip_rel_memory_operand() => {
                base = into;
            }
            _ => {}
        }
    }
    found
}

/// Of `Py_tss_t` (Include/pythread.h): whether there is a key, then the key.
const KEY: u64 = 4;

/// The address of an instruction's operand in memory, where that is fixed.
fn spoken_of(instruction: &Instruction, base: Register, runtime: u64) -> Option<u64> {
    let memory = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
    if !memory || instruction.memory_index() != Register::None {
        return None;
    }
    match instruction.memory_base() {
        Register::RIP | Register::None => Some(instruction.memory_displacement64()),
        register if register == base => runtime.checked_add(instruction.memory_displacement64()),
        _ => None,
    }
}

/// Where the new contexts are that those functions return, each place once: they share code. Where none
/// is emulated, where they are left.
fn sites(image: &Image, makers: &[Option<Function>]) -> Result<Vec<Site>, &'static str> {
    let mut places = BTreeMap::new();
    for maker in makers.iter().copied().flatten() {
        let body = image.body_of(maker).ok_or(UNSEEN)?;
        let cheap = code::results(image, body.clone()).ok();
        let cheap: Option<Vec<_>> = cheap.and_then(|found| {
            let place = |(address, register)| Some((address, (hook(register)?, false)));
            found.into_iter().map(place).collect()
        });
        let exits = || {
            let exits = code::exits(image, body).ok()?.into_iter();
            let place = |place: code::Place| (place.address, (Hook::PythonContext, place.stepped));
            Some(exits.map(place).collect())
        };
        places.extend(cheap.or_else(exits).ok_or(UNSEEN)?);
    }
    let site = |(address, (hook, stepped))| Site::at(image, code::Place { address, stepped }, hook);
    let sites: Option<Vec<Site>> = places.into_iter().map(site).collect();
    sites.ok_or(UNSEEN)
}

/// What sees a context in a register.
fn hook(register: Register) -> Option<Hook> {
    let hooks = [
        (Register::RAX, Hook::PythonContext),
        (Register::RBX, Hook::PythonContextRbx),
        (Register::RBP, Hook::PythonContextRbp),
        (Register::R12, Hook::PythonContextR12),
        (Register::R13, Hook::PythonContextR13),
    ];
    let found = hooks.into_iter().find(|(known, _)| *known == register);
    found.map(|(_, hook)| hook)
}

const UNSEEN: &str = "a CPython whose contexts are not seen to be made";

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// `PYTHONS=/usr/bin/python3.11:/tmp/libpython3.14.so cargo test -- --ignored --nocapture
    /// other_interpreters`
    #[test]
    #[ignore = "wants interpreters"]
    fn other_interpreters() {
        for path in std::env::var("PYTHONS").unwrap().split(':') {
            let image = Image::open(File::open(path).unwrap()).unwrap();
            let runtime = image.object("_PyRuntime").unwrap();
            match find(&image).unwrap() {
                Ok(found) => println!(
                    "{path} {:?} key at _PyRuntime+{:#x} {:x?} {:x?}",
                    found.version,
                    found.key - runtime.address,
                    found.sites,
                    found.pools
                ),
                Err(why) => println!("{path} {why}"),
            }
        }
    }

    #[test]
    fn versions() {
        assert_eq!(
            offsets((3, 7)),
            Err("a CPython older than the table of offsets")
        );
        assert_eq!(
            offsets((3, 15)),
            Err("a CPython newer than the table of offsets")
        );
        assert_eq!(
            offsets((3, 11)).map(|o| (o.thread_id, o.context)),
            Ok((0x98, 0xe0))
        );
        for minor in 8..=13 {
            let hops = pools((3, minor)).map(|pools| pools.hops.len());
            assert!(hops.is_ok_and(|hops| hops <= 3), "{minor}");
        }
        let unknown = "a CPython whose pools of threads are not known";
        assert_eq!(pools((3, 14)), Err(unknown));
    }

    #[test]
    fn what_is_no_python() {
        let own = Image::open(File::open("/proc/self/exe").unwrap()).unwrap();
        assert_eq!(find(&own), None);
    }
}
