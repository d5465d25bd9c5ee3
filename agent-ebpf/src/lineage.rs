//! Who started whom: a unit of execution whose work another began.
//!
//! A unit that moved no bytes served nothing: who it starts was started by whoever started it. So one
//! look tells the nearest that may have served, however many lie between.

use agent_ebpf::abi::unit::ASKED;
use agent_ebpf::abi::{Kind, Started};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;

use crate::emit;
use crate::maps::{LINEAGE, PACES};
use crate::process;

/// A unit, as in `abi::unit`, and its process.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Member {
    unit: u64,
    tgid: u32,
    pad: u32,
}

impl Member {
    /// A unit of the current process.
    #[inline(always)]
    pub const fn new(unit: u64, pid_tgid: u64) -> Self {
        Self {
            unit,
            tgid: (pid_tgid >> 32) as u32,
            pad: 0,
        }
    }

    /// The unit.
    #[inline(always)]
    pub const fn unit(&self) -> u64 {
        self.unit
    }
}

/// How a unit came to be; the members are as in `abi::Started`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Birth {
    /// Who started it.
    pub parent: u64,
    /// When.
    pub time: u64,
    /// Where.
    pub site: u64,
    /// 1 once the unit has moved bytes.
    moved: u32,
    /// 1 where what it sends is its own, [`FOR_ALL`] where it is what others gave it.
    pub own: u32,
}

/// [`Birth::own`].
pub const FOR_ALL: u32 = 2;

/// How fast a process starts units.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Pace {
    /// When the second began that is counted in, nanoseconds.
    since: u64,
    /// Units since then.
    started: u64,
    /// 1 once user space was told since then that they are too many.
    told: u64,
}

/// Whether a process starts units at a pace that it may, `most` a second. Where not, user space is told once a
/// second, and takes the probe away; until it could be told, as its ring may be full, all goes on as before.
#[inline(always)]
pub fn keeps_pace(pid_tgid: u64, most: u64) -> bool {
    let tgid = (pid_tgid >> 32) as u32;
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(pace) = PACES.get_ptr_mut(tgid) else {
        let first = Pace {
            since: now,
            started: 1,
            told: 0,
        };
        let _ = PACES.insert(tgid, first, 0);
        return true;
    };
    // SAFETY: a map value, valid for the program's run; threads that count at once may lose a count.
    let pace = unsafe { &mut *pace };
    if now.wrapping_sub(pace.since) > SECOND {
        pace.since = now;
        (pace.started, pace.told) = (0, 0);
    }
    pace.started += 1;
    if pace.started >= most && pace.told == 0 {
        pace.told = process::tell(Kind::Teems).into();
    }
    pace.told == 0
}

const SECOND: u64 = 1_000_000_000;

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
        own: 0,
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

/// How a unit came to be, by whoever started it or the nearest above that may have moved bytes.
#[inline(always)]
pub fn birth(unit: u64, pid_tgid: u64) -> Option<&'static Birth> {
    // SAFETY: plain numbers, each read once.
    unsafe { LINEAGE.get(Member::new(unit, pid_tgid)) }
}

/// What a unit sends is its own.
#[inline(always)]
pub fn asks(unit: u64, pid_tgid: u64) {
    if let Some(birth) = LINEAGE.get_ptr_mut(Member::new(unit, pid_tgid)) {
        // SAFETY: a map value, valid for the program's run.
        unsafe { (*birth).own = 1 };
    }
}

/// A unit begins to serve what another has read: what it starts is for that.
#[inline(always)]
pub fn serves(unit: u64, pid_tgid: u64) {
    if let Some(birth) = LINEAGE.get_ptr_mut(Member::new(unit, pid_tgid)) {
        // SAFETY: a map value, valid for the program's run.
        unsafe { (*birth).moved = 1 };
    }
}

/// What a unit sends, others give it.
#[inline(always)]
pub fn sends_for_all(unit: u64, pid_tgid: u64) {
    let birth = Birth {
        parent: 0,
        time: 0,
        site: 0,
        moved: 1,
        own: FOR_ALL,
    };
    let _ = LINEAGE.insert(Member::new(unit, pid_tgid), birth, 0);
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
        unit: unit | (u64::from(birth.own & 1) * ASKED),
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
