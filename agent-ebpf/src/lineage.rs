//! Who started whom: a unit of execution whose work another began.
//!
//! A unit that moved no bytes served nothing: who it starts was started by whoever started it. So one
//! look tells the nearest that may have served, however many lie between.

use agent_ebpf::abi::{Kind, Started};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;

use crate::emit;
use crate::maps::LINEAGE;

/// A unit, as in `abi::unit`, and its process.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Member {
    unit: u64,
    tgid: u32,
    pad: u32,
}

impl Member {
    #[inline(always)]
    const fn new(unit: u64, pid_tgid: u64) -> Self {
        Self {
            unit,
            tgid: (pid_tgid >> 32) as u32,
            pad: 0,
        }
    }
}

/// How a unit came to be; the members are as in `abi::Started`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Birth {
    parent: u64,
    time: u64,
    site: u64,
    /// 1 once the unit has moved bytes.
    moved: u64,
}

/// One unit starts another, here in the program. `parent`: 0 where nobody does.
#[inline(always)]
pub fn started(unit: u64, parent: u64, site: u64, pid_tgid: u64) {
    let child = Member::new(unit, pid_tgid);
    if parent == 0 {
        let _ = LINEAGE.remove(child);
        return;
    }
    let mut birth = Birth {
        parent,
        // SAFETY: no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        site,
        moved: 0,
    };
    // SAFETY: plain numbers, read once.
    if let Some(above) = unsafe { LINEAGE.get(Member::new(parent, pid_tgid)) }
        && above.moved == 0
    {
        birth.parent = above.parent;
        birth.time = above.time;
        birth.site = above.site.rotate_left(1).wrapping_add(site);
    }
    let _ = LINEAGE.insert(child, birth, 0);
}

/// A unit is about to move its first bytes over a connection: who started it is told, once.
#[inline(always)]
pub fn moves(unit: u64, connection: u64, pid_tgid: u64) {
    let Some(birth) = LINEAGE.get_ptr_mut(Member::new(unit, pid_tgid)) else {
        return;
    };
    // SAFETY: a map value, valid for the program's run.
    let birth = unsafe { &mut *birth };
    if birth.moved != 0 {
        return;
    }
    birth.moved = 1;
    let record = Started {
        kind: Kind::Started as u32,
        tgid: (pid_tgid >> 32) as u32,
        unit,
        parent: birth.parent,
        time: birth.time,
        site: birth.site,
    };
    // SAFETY: a record on the stack, and its size. One that is refused is counted; then who started it
    // is not known.
    unsafe {
        let bytes = core::ptr::addr_of!(record).cast();
        emit::send(connection, bytes, size_of::<Started>() as u64, false);
    }
}
