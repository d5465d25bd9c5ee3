//! Whose TLS session's bytes move over a connection, and what says so.

use agent_ebpf::abi::{EGRESS, habit};

use crate::arch::Arguments;
use crate::connection::Connection;
use crate::maps::{CIPHERTEXTS, SESSIONS};
use crate::payload::Buffer;
use crate::record::{ciphertext, is_hello};
use crate::rustls;
use crate::session::{Key, Unit, begin, get, inside};

/// The session whose bytes these may be, and whether that is sure if they look like TLS.
#[inline(always)]
pub fn whose(
    connection: &Connection,
    arguments: &Arguments,
    pid_tgid: u64,
    way: u8,
) -> Option<(Key, bool)> {
    let habits = u32::from(connection.habits);
    if habits & habit::RUSTLS != 0 && rustls::moves(connection.id) {
        let key = Key::of(connection.id, pid_tgid);
        if SESSIONS.get_ptr(key).is_none() && is_hello(Buffer::of(arguments, way).first()) {
            begin(key);
        }
        let _ = get(key);
        return Some((key, true));
    }
    if let Some(object) = thread_in(habits, arguments, pid_tgid) {
        return Some((Key::new(object, pid_tgid), true));
    }
    if let Some(object) = goroutine_in(habits, arguments, pid_tgid) {
        // It is not seen to leave its calls: what it moves may be of something else by now.
        return Some((Key::new(object, pid_tgid), false));
    }
    if habits & habit::MEMORY != 0 && way == EGRESS && connection.session == 0 {
        let object = encrypted(Buffer::of(arguments, way).first(), pid_tgid)?;
        return Some((Key::new(object, pid_tgid), true));
    }
    None
}

/// The session that this thread is inside a call for.
#[inline(always)]
fn thread_in(habits: u32, arguments: &Arguments, pid_tgid: u64) -> Option<u64> {
    if habits & habit::C == 0 {
        return None;
    }
    let inside = inside(Unit::thread(pid_tgid))?;
    (arguments.stack < inside.stack).then_some(inside.object)
}

/// The session that this goroutine is inside a call for, or was last.
#[inline(always)]
fn goroutine_in(habits: u32, arguments: &Arguments, pid_tgid: u64) -> Option<u64> {
    if habits & habit::GO == 0 {
        return None;
    }
    inside(Unit::goroutine(arguments.goroutine, pid_tgid)).map(|inside| inside.object)
}

/// The session that encrypted what is at an address.
#[inline(always)]
fn encrypted(address: u64, pid_tgid: u64) -> Option<u64> {
    let found = CIPHERTEXTS.get_ptr(ciphertext(address, pid_tgid)?)?;
    // SAFETY: a map value, valid for the program's run.
    Some(unsafe { *found })
}

/// Notes that a session encrypted the record at an address.
#[inline(always)]
pub fn encrypts(object: u64, address: u64, pid_tgid: u64) {
    if let Some(ciphertext) = ciphertext(address, pid_tgid) {
        let _ = CIPHERTEXTS.insert(ciphertext, object, 0);
    }
}
