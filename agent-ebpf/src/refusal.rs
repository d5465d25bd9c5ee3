//! Addresses that segments with options do not get to, as somebody on the way throws them away or resets their
//! connections.
//!
//! Segments are lost anyhow, and few in a hundred of them. So a loss is held against an address for as long as it
//! takes eight others to arrive there: where more than one in nine is lost it has none soon.

use agent_ebpf::abi::Counter;
use aya_ebpf::bindings::bpf_sock_ops;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;

use crate::emit;
use crate::maps::REFUSALS;
use crate::options::{cookie, initial, is_before, remote, told};
use crate::party::{CLIENT, LEFT, PLACES, Party, WAITS, party};

/// What is held against an address.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Refusal {
    /// When the last was lost, nanoseconds.
    since: u64,
    /// What was lost, less what arrived.
    debt: u64,
}

/// A segment that did not arrive when it was sent first,
pub const LOST: u64 = 8;
/// and one that was answered by a reset, where nothing had arrived before.
const RESET: u64 = 16;
/// With so much no option is sent there,
const MOST: u64 = 32;
/// for so long, nanoseconds.
const WHILE: u64 = 600_000_000_000;

/// Whether an address takes none, as far as was seen of late.
#[inline(always)]
pub fn is_known(remote: [u32; 4]) -> bool {
    // SAFETY: no arguments, and plain numbers, read once.
    let (now, refusal) = unsafe { (bpf_ktime_get_ns(), REFUSALS.get(remote)) };
    refusal.is_some_and(|it| it.debt >= MOST && now.wrapping_sub(it.since) < WHILE)
}

/// One more did not get there.
#[inline(always)]
fn note(remote: [u32; 4], debt: u64) {
    let mut refusal = Refusal {
        // SAFETY: no arguments.
        since: unsafe { bpf_ktime_get_ns() },
        debt,
    };
    // SAFETY: plain numbers, read once.
    if let Some(before) = unsafe { REFUSALS.get(remote) } {
        refusal.debt = before.debt.saturating_add(debt).min(MOST);
    }
    let _ = REFUSALS.insert(remote, refusal, 0);
}

/// One did.
#[inline(always)]
fn forgive(remote: [u32; 4]) {
    if let Some(refusal) = REFUSALS.get_ptr_mut(remote) {
        // SAFETY: a map value, valid for the program's run; a race loses a count.
        let refusal = unsafe { &mut *refusal };
        refusal.debt = refusal.debt.saturating_sub(1);
    }
}

/// A request that was sent with an option has to be sent again: somebody on the way may throw such segments
/// away.
#[inline(always)]
pub fn lost(ops: *mut bpf_sock_ops, party: &mut Party, debt: u64) {
    emit::count(Counter::OptionsLost, 1);
    party.debt = LOST as u32;
    note(remote(ops), debt);
}

/// What was sent last has arrived, and so had all before: what was lost weighs less.
#[inline(always)]
pub fn arrived(ops: *mut bpf_sock_ops, party: &mut Party) {
    let last = party.places[party.next.wrapping_sub(1) as usize % PLACES];
    let acked = is_before(last.sequence, told!(ops, snd_una));
    if party.debt != 0 && last.state == LEFT && acked {
        party.debt -= 1;
        forgive(remote(ops));
    }
}

/// A client's end closes, or is reset.
#[inline(always)]
pub fn ends(ops: *mut bpf_sock_ops) {
    if told!(ops, __bindgen_anon_1) != ESTABLISHED {
        return;
    }
    let Some(party) = party(cookie(ops)) else {
        return;
    };
    if party.role != CLIENT {
        return;
    }
    let reset = told!(ops, __bindgen_anon_1, 4) == CLOSE;
    let (acked, [own, _]) = (told!(ops, snd_una), initial(ops, CLIENT));
    let (mut waits, mut came) = (false, false);
    for place in &party.places {
        if place.state > WAITS {
            let arrived = is_before(place.sequence, acked);
            waits |= !arrived;
            came |= arrived;
        }
    }
    if reset && waits {
        let nothing = acked == own.wrapping_add(1);
        lost(ops, party, if nothing { RESET } else { LOST });
    } else if came && party.debt == 0 {
        forgive(remote(ops));
    }
}

/// TCP's states (include/net/tcp_states.h).
const ESTABLISHED: u32 = 1;
/// The same.
const CLOSE: u32 = 7;
