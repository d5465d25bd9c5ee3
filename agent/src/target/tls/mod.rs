//! Where to put uprobes in a TLS library, so that what a program says is seen before it is
//! encrypted and after it is decrypted. One library is one file and one line of the registry; each
//! reads an executable file ([`Image`]) and says at which offsets, and what stands in which
//! register there. Nothing is attached here.
//!
//! Never true here: that a return probe is asked for (it writes on the program's stack), or that a
//! place is guessed: what cannot be made out is refused with a reason.

use std::borrow::Cow;
use std::fmt;

use super::image::Image;

pub mod named;

#[cfg(test)]
mod tests;

/// Declares the libraries: each line makes the module and its entry in [`ALL`].
macro_rules! registry {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        $($(#[doc = $doc])+ pub mod $name;)*

        /// Every library, in the order in which they are asked.
        pub static ALL: &[&dyn Library] = &[$($name::LIBRARY),*];
    };
}

registry! {
    /// OpenSSL, and BoringSSL with its symbols.
    openssl,
    /// OpenSSL's memory BIOs.
    openssl_bio,
    /// BoringSSL without symbols.
    boringssl,
    /// GnuTLS.
    gnutls,
}

/// One TLS library.
pub trait Library: Sync {
    /// Its name, which is that of its plans.
    fn name(&self) -> &'static str;

    /// Where it is to be probed. `None`: it is not in this file. `Err`: it is, and cannot be
    /// probed, with the reason for people.
    fn plan(&self, image: &Image) -> Option<Result<Plan, Reason>>;
}

/// Which program a place is for, and what stands where when it is reached. Registers are those of
/// x86-64. Where a length or a count is said to be 32 bits wide the upper half is not defined: the
/// function may take an `int`, and then the psABI leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// The application sends: session in rdi, buffer in rsi, length in edx (32 bits). Nothing says
    /// here whether the bytes are taken: a call that gets nowhere is made again with them. Node.js,
    /// which has no socket call inside, makes three for its first request, at two buffers.
    Write,
    /// The application asks for bytes: session in rdi, buffer in rsi, its length in edx (32 bits).
    /// Where the function's exits are [`Self::ReadExDone`], rcx is where the count goes.
    Read,
    /// The end of such a call: eax (32 bits, signed) is the number of bytes, 0 or less for none.
    /// Passed once for each call; also by calls that passed no [`Self::Read`] on this thread, where
    /// the exit is shared with another function: those mean nothing.
    ReadDone,
    /// The end of such a call: eax is 1 where bytes came, and a `size_t` at the rcx of the entry
    /// says how many. Else as [`Self::ReadDone`].
    ReadExDone,
    /// The application lets go of the session in rdi (0: of none). The address may mean another one
    /// from here on. OpenSSL counts its holders: a session that several hold lives on.
    Free,
    /// Bytes are put into a BIO, in OpenSSL's terms: the BIO in rdi, data in rsi, length in edx (32 bits).
    BioWrite,
    /// Go's `crypto/tls.(*Conn).Write`.
    GoWrite,
    /// Go's `crypto/tls.(*Conn).Read`.
    GoRead,
    /// The copy in Go's `crypto/tls.(*Conn).Read`.
    GoReadCopy,
    /// Go's `crypto/tls.(*Conn)` handshakes.
    GoHandshake,
}

/// One place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its offset in the file, in bytes, as perf_event_open's `config2` wants it.
    pub offset: u64,
    /// What is seen there.
    pub hook: Hook,
    /// The kernel cannot emulate the instruction and steps over it: some 17 µs under nested
    /// virtualisation instead of one.
    pub stepped: bool,
}

/// What to attach for one library in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The library's name in the registry.
    pub library: &'static str,
    /// Its version, where the file tells it.
    pub version: Option<Box<str>>,
    /// The places, no offset twice.
    pub sites: Vec<Site>,
}

/// Why a library cannot be probed, for people: `SSL_read: an indirect jump at 0x1234`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(pub Cow<'static, str>);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What each library found in a file says. Where none is found, and a limit left something of the
/// file unread, that is the one reason given.
pub fn plans(image: &Image) -> Vec<Result<Plan, Reason>> {
    let plans = ALL.iter().filter_map(|library| library.plan(image));
    let mut plans: Vec<_> = plans.collect();
    if let Some(what) = image.cut().filter(|_| plans.is_empty()) {
        plans.push(Err(Reason(format!("{what}: more than is read").into())));
    }
    plans
}

/// Whether a file that a process has mapped is worth opening, by its name alone, since opening each
/// of some hundred files of each process costs. The executable is worth it in any case.
pub fn may_hold_tls(path: &str) -> bool {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let name = path.rsplit('/').next().unwrap_or(path);
    let library = name.ends_with(".so") || name.contains(".so.");
    library && NAMES.iter().any(|part| name.contains(part))
}

/// Libraries named for TLS, and those known to have one inside: gRPC for Python, Netty, Conscrypt,
/// and CPython where it is a library (some builds have OpenSSL in it).
const NAMES: [&str; 7] = [
    "ssl",
    "tls",
    "libcrypto",
    "cygrpc",
    "tcnative",
    "conscrypt",
    "libpython",
];
