//! TLS records as they lie in a buffer: what kind one is, and what tells one from all others.

use aya_ebpf::helpers::generated::bpf_probe_read_user;

use crate::kernel::read_user;

/// The beginning of a TLS record as it was encrypted, without its head.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ciphertext {
    words: [u64; 3],
    tgid: u32,
    pad: u32,
}

/// The bytes after a record's head (RFC 8446, section 5.1): those of a nonce or a key share or of the
/// ciphertext itself, and equal to no other record's. A HelloRetryRequest has none: its random is the
/// same in all of them (section 4.1.3).
#[inline(always)]
pub fn ciphertext(address: u64, pid_tgid: u64) -> Option<Ciphertext> {
    let mut words = [0u64; 4];
    // SAFETY: the helper checks the user address and writes only `words`.
    let failed = unsafe {
        bpf_probe_read_user(
            words.as_mut_ptr().cast(),
            size_of::<[u64; 4]>() as u32,
            address as *const _,
        )
    };
    if address == 0 || failed != 0 || !is_record(words[0]) || words[1] >> 24 == RETRY {
        return None;
    }
    Some(Ciphertext {
        words: [words[1], words[2], words[3]],
        tgid: (pid_tgid >> 32) as u32,
        pad: 0,
    })
}

/// The first five bytes of that random, where bytes 11 to 15 of a record are read as a number.
const RETRY: u64 = u64::from_le_bytes([0xcf, 0x21, 0xad, 0x74, 0xe5, 0, 0, 0]);
/// Type of records with application data.
pub const APPLICATION_DATA: u64 = 23;

/// Whether these are the first bytes of a TLS record: type 20 to 23, version 3.x.
#[inline(always)]
const fn is_record(first: u64) -> bool {
    let (kind, major, minor) = (first & 0xff, first >> 8 & 0xff, first >> 16 & 0xff);
    kind >= 20 && kind <= 23 && major == 3 && minor <= 4
}

/// Whether it begins with what either side says first: a record of a ClientHello or a ServerHello (RFC 8446,
/// section 4).
#[inline(always)]
pub fn is_first(address: u64) -> bool {
    let message: u8 = read_user(address.wrapping_add(5));
    is_hello(address) && (message == 1 || message == 2)
}

/// Whether it begins with a record of a handshake in the clear, with which every connection does.
#[inline(always)]
pub fn is_hello(address: u64) -> bool {
    first_of(address) & 0xff == 22
}

/// The first bytes of the record that a buffer begins with; 0 where it begins with none.
#[inline(always)]
pub fn first_of(address: u64) -> u64 {
    let mut first = 0u32;
    // SAFETY: as in `ciphertext`.
    let failed = unsafe {
        bpf_probe_read_user(
            core::ptr::addr_of_mut!(first).cast(),
            4,
            address as *const _,
        )
    };
    if address != 0 && failed == 0 && is_record(first.into()) {
        first.into()
    } else {
        0
    }
}
