//! Where to put uprobes in a TLS library, so that what a program says is seen before it is
//! encrypted and after it is decrypted. One library is one file and one line of the registry; each
//! reads an executable file ([`Image`]) and says at which offsets, and what stands in which
//! register there. Nothing is attached here.
//!
//! Never true here: that a return probe is asked for (it writes on the program's stack), or that a
//! place is guessed: what cannot be made out is refused with a reason.

use std::borrow::Cow;
use std::fmt;

use super::code::Place;
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
    /// Go's crypto/tls.
    go,
    /// rustls.
    rustls,
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
    /// The application sends: session in rdi, buffer in rsi. Where the function's exits are
    /// [`Self::DoneEx`], rcx is where the count goes.
    Write,
    /// As [`Self::Write`], with the count going to where r8 says.
    WriteEx2,
    /// The application asks for bytes: registers as of [`Self::Write`].
    Read,
    /// The end of such a call: eax (32 bits, signed) is the number of bytes, 0 or less for none.
    /// Passed once for each call; also by calls that passed no entry on this thread, where the exit
    /// is shared with another function: those mean nothing.
    Done,
    /// The end of such a call: eax is 1 where bytes came, and a `size_t` at the rcx of the entry
    /// says how many. Else as [`Self::Done`].
    DoneEx,
    /// A session begins at the address in rdi; what was there is over.
    Begin,
    /// As [`Self::Begin`], unless a session is known there.
    BeginOnce,
    /// A handshake goes on: session in rdi. Also inside of a call that reads or writes.
    Handshake,
    /// The application lets go of the session in rdi (0: of none). The address may mean another one
    /// from here on. OpenSSL counts its holders: a session that several hold lives on.
    Free,
    /// Bytes are put into a BIO, in OpenSSL's terms: the BIO in rdi, data in rsi, length in edx (32 bits).
    BioWrite,
    /// Go's `tls.(*Conn).Write` hands over the content of records: session in rax, data in rcx,
    /// length in rdi (64 bits), goroutine in r14. Up to twice for each call of it, which together
    /// are what the application writes.
    GoWrite,
    /// Go's `tls.(*Conn).Read` begins: session in rax, buffer in rbx, its length in rcx (64 bits),
    /// goroutine in r14. Passed again, unchanged, where the stack has to grow first.
    GoRead,
    /// Go's `tls.(*Conn).Read` copies what the application gets: to in rax, from in rbx, bytes in
    /// rcx (64 bits), goroutine in r14, and the session, as [`Self::GoRead`] saw it, at rbp + 16.
    GoReadCopy,
    /// A client's or a server's handshake begins: session in rax, goroutine in r14. A new session
    /// is at this address, unless a client that allows it renegotiates (before TLS 1.3). Passed
    /// again where the stack has to grow first.
    GoBegin,
    /// A goroutine (r14) asks for a request to be written to the connection in rax, as nobody else
    /// does until it has its answer. Passed again where the stack has to grow first.
    GoRoundTrip,
    /// CPython has made a context: in rax, or 0. By the thread's current one, of which it may be a copy.
    PythonContext,
    /// The same, in rbx.
    PythonContextRbx,
    /// The same, in rbp.
    PythonContextRbp,
    /// The same, in r12.
    PythonContextR12,
    /// The same, in r13.
    PythonContextR13,
    /// CPython makes a lock.
    PythonLock,
    /// uvloop enters the context in rdi, to call back.
    UvloopEnter,
    /// uvloop is about to tell a protocol that the stream in rdi, a uv_tcp_t, is connected.
    UvloopConnected,
    /// A goroutine (rbx) is started, and about to be put into a queue.
    GoStart,
    /// Node.js calls back: its node::Environment in rsi, the id's address where `abi::AsyncIds` says.
    NodeCallback,
    /// The same for a node::AsyncWrap in rsi.
    NodeCallbackOf,
    /// JavaScript calls a promise's resolve function.
    NodeResolve,
    /// JavaScript goes on that waits for promises which were resolved.
    NodeMicrotasks,
    /// A goroutine (r14) was started to send one request, and begins. Passed again where the stack has to
    /// grow first.
    GoDoRequest,
    /// A goroutine (r14) begins to serve a stream of HTTP/2: the connection's state in rax, what writes the
    /// answer in rbx. Passed again where the stack has to grow first.
    GoHttp2Serve,
    /// The same where the connection's state has another member before it.
    GoHttp2ServeInner,
    /// The same of grpc-go: the connection's state is an interface in rbx and rcx, the stream in rdi.
    GoGrpcServe,
    /// A goroutine (r14) has asked for a stream by grpc-go: it is in rax, 0 where there is none.
    GoGrpcAsk,
    /// A goroutine (r14) of grpc-go begins that writes what all give it. Passed again where the stack has to
    /// grow first.
    GoGrpcWrite,
    /// Data are given to rustls: session in rdi, data told at rsi, as 64-bit numbers. If the first
    /// is 0, address and length follow. Else they are the address of a list, how many it has (each
    /// an address and a length), and from which byte to which of all of them.
    RustlsWrite,
    /// The end of such a call: rax is how many bytes were taken, from the first on; the others are
    /// given again. Also passed by calls that passed no [`Self::RustlsWrite`] on this thread: those
    /// mean nothing.
    RustlsWriteDone,
    /// rustls has decrypted a record: session in rdi, data told at rsi by three 64-bit numbers: a
    /// capacity, or 1 << 63 for none, the address, the length (at most 16384, and no more than the
    /// capacity). They came over the socket from which this thread last received within
    /// [`Self::RustlsReceive`].
    RustlsRead,
    /// rustls is going to send: the queue in rdi, which is inside the session, so less than 768
    /// bytes above its address. The thread's socket call before [`Self::RustlsSendDone`] is the
    /// session's: data it was given before on this thread leave over it, now or later.
    RustlsSend,
    /// The end of that.
    RustlsSendDone,
    /// rustls is going to receive. The thread's socket call before [`Self::RustlsReceiveDone`] is
    /// the session's that this thread next takes data from.
    RustlsReceive,
    /// The end of that.
    RustlsReceiveDone,
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

impl Site {
    /// A place in the code; nothing where that is not in the file.
    pub fn at(image: &Image, place: Place, hook: Hook) -> Option<Self> {
        Some(Self {
            offset: image.file_offset(place.address)?,
            hook,
            stepped: place.stepped,
        })
    }
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
    /// Functions that few programs call, and why they are not probed.
    pub left_out: Vec<Reason>,
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
/// and CPython where it is a library (some builds have OpenSSL in it); uvloop's module, which has none.
const NAMES: [&str; 8] = [
    "ssl",
    "tls",
    "libcrypto",
    "cygrpc",
    "tcnative",
    "conscrypt",
    "libpython",
    "loop.cpython",
];
