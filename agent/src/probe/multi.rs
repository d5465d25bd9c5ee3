//! Uprobes by one link for many places (BPF_LINK_TYPE_UPROBE_MULTI, Linux 6.6): they take no
//! CAP_SYS_ADMIN, cost a probed process nothing when it is scheduled, and are gone at once, where each
//! perf event takes a tenth of a second (docs/decisions/0015-tls-probes.md).
//!
//! aya 0.14 has no such link, nor a program loaded for one: this loads the same object's programs once
//! more, over the maps that aya has made.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_info, bpf_prog_type};
use aya_obj::{Function, Object};

use super::{INSTRUCTION, Loaded, object};

/// The kernels on which it is used: before 6.10 one process means one thread of it
/// (kernel/trace/bpf_trace.c, `uprobe_prog_run`), and 6.12 is what it is tested on.
pub const SINCE: (u32, u32) = (6, 12);

/// The programs, by their names.
#[derive(Debug)]
pub struct Programs {
    of: HashMap<&'static str, OwnedFd>,
}

impl Programs {
    /// Loads these programs.
    ///
    /// # Errors
    /// Where the kernel refuses one, as those before 6.6 do.
    pub fn load(ebpf: &Ebpf, names: impl Iterator<Item = &'static str>) -> Result<Self> {
        let mut object = object::parsed()?;
        let btf = btf(&mut object)?;
        let text: HashSet<usize> = object
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        let maps = std::mem::take(&mut object.maps);
        let known: Vec<(&str, RawFd, _)> = maps
            .iter()
            .filter_map(|(name, map)| {
                let made = data(ebpf.map(name)?);
                Some((name.as_str(), made.fd().as_fd().as_raw_fd(), map))
            })
            .collect();
        object.relocate_maps(known.into_iter(), &text)?;
        object.relocate_calls(&text)?;
        let of = names.map(|name| {
            let program = object.programs.get(name).context("no such program");
            let function = program.and_then(|program| {
                let found = object.functions.get(&program.function_key());
                found.context("it has no code")
            });
            function
                .and_then(|function| Ok(load(name, function, btf.as_fd())?))
                .map(|program| (name, program))
                .with_context(|| format!("load {name} for many places"))
        });
        Ok(Self {
            of: of.collect::<Result<_>>()?,
        })
    }

    /// Attaches one to places in the file at `path`: for one process, or for all that map the file.
    ///
    /// # Errors
    /// Where the kernel refuses: the file or the process is gone, a place is none, or a right is missing.
    pub fn attach(
        &self,
        name: &str,
        path: &Path,
        offsets: &[u64],
        process: Option<NonZeroU32>,
    ) -> Result<OwnedFd> {
        let program = self.of.get(name).context("it is not loaded")?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut attr = blank();
        // SAFETY: all of the union was zeroed.
        let link = unsafe { &mut attr.link_create };
        link.__bindgen_anon_1.prog_fd = number(program.as_fd());
        link.attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
        // SAFETY: all of the union was zeroed.
        let many = unsafe { &mut link.__bindgen_anon_3.uprobe_multi };
        many.path = path.as_ptr() as u64;
        many.offsets = offsets.as_ptr() as u64;
        many.cnt = u32::try_from(offsets.len())?;
        many.pid = process.map_or(0, NonZeroU32::get);
        Ok(call(bpf_cmd::BPF_LINK_CREATE, &mut attr)?)
    }

    /// One, as it was loaded.
    pub fn loaded(&self, name: &'static str) -> Option<Loaded> {
        let program = self.of.get(name)?;
        // SAFETY: plain numbers, for which zeros stand.
        let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
        let mut attr = blank();
        // SAFETY: all of the union was zeroed.
        let about = unsafe { &mut attr.info };
        about.bpf_fd = number(program.as_fd());
        about.info_len = u32::try_from(size_of::<bpf_prog_info>()).ok()?;
        about.info = &raw mut info as u64;
        // SAFETY: `info` is as long as is said; nothing is returned but a verdict.
        unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.ok()?;
        Some(Loaded {
            name,
            verified: Some(info.verified_insns),
            length: Some(info.xlated_prog_len / INSTRUCTION),
        })
    }
}

/// The object's own types, which programs with callbacks need.
fn btf(object: &mut Object) -> Result<OwnedFd> {
    let features = aya::features().btf().context("no types in this kernel")?;
    let btf = object.fixup_and_sanitize_btf(features)?;
    let bytes = btf.context("the kernel side has no types")?.to_bytes();
    let mut attr = blank();
    // SAFETY: all of the union was zeroed.
    let types = unsafe { &mut attr.__bindgen_anon_7 };
    types.btf = bytes.as_ptr() as u64;
    types.btf_size = u32::try_from(bytes.len())?;
    call(bpf_cmd::BPF_BTF_LOAD, &mut attr).context("load the kernel side's types")
}

fn load(name: &str, function: &Function, btf: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let count = |n: usize| u32::try_from(n).map_err(io::Error::other);
    let functions = function.func_info.func_info_bytes();
    let mut attr = blank();
    // SAFETY: all of the union was zeroed.
    let program = unsafe { &mut attr.__bindgen_anon_3 };
    // The last byte stays zero.
    for (to, from) in program.prog_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    program.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
    program.expected_attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
    program.insns = function.instructions.as_ptr() as u64;
    program.insn_cnt = count(function.instructions.len())?;
    program.license = c"GPL".as_ptr() as u64;
    program.prog_btf_fd = number(btf);
    program.func_info = functions.as_ptr() as u64;
    program.func_info_cnt = count(function.func_info.len())?;
    program.func_info_rec_size = count(function.func_info_rec_size)?;
    call(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn blank() -> bpf_attr {
    // SAFETY: numbers and addresses, for which zeros stand.
    unsafe { std::mem::zeroed() }
}

/// A system call that makes a descriptor.
fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the callers' buffers outlive the call; what it returns is a new descriptor.
    unsafe { bpf(command, attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// # Safety
/// Addresses in `attr` must be of buffers as long as it says.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<RawFd> {
    let attr = &raw mut *attr;
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<bpf_attr>()) };
    match RawFd::try_from(result) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What all kinds of maps have in common.
fn data(map: &Map) -> &MapData {
    match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::BloomFilter(data)
        | Map::CgroupArray(data)
        | Map::CgroupStorage(data)
        | Map::CgrpStorage(data)
        | Map::CpuMap(data)
        | Map::DevMap(data)
        | Map::DevMapHash(data)
        | Map::HashMap(data)
        | Map::HashOfMaps(data)
        | Map::InodeStorage(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuCgroupStorage(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::PerfEventArray(data)
        | Map::ProgramArray(data)
        | Map::Queue(data)
        | Map::ReusePortSockArray(data)
        | Map::RingBuf(data)
        | Map::SockHash(data)
        | Map::SockMap(data)
        | Map::SkStorage(data)
        | Map::Stack(data)
        | Map::StackTraceMap(data)
        | Map::Unsupported(data)
        | Map::XskMap(data) => data,
    }
}
