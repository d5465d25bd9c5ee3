//! The border between kernel and agent: plain integers, named pads, sizes asserted.
//!
//! A record is one of the `repr(C)` structs below, told apart by its first field ([`Kind`]);
//! a [`Segment`] is followed by `captured` bytes of payload and then `tail` bytes. All integers are
//! in the machine's byte order: both sides run on one machine.

mod carried;
mod counter;
mod jvm;
mod layout;
mod stream;

pub use carried::{Carried, NETWORK, NETWORKS, source};
pub use counter::{COUNTERS, Counter};
pub use jvm::{Allocates, Jvm, Runs};
pub use layout::{
    AsyncIds, Contexts, Goroutines, TEEMING, TEEMING_CALLBACKS, TEEMING_CONTEXTS, TEEMING_LOCKS,
};
pub use stream::{Place, Streams, Taken};

/// Which record this is; the first four bytes of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// [`Open`]: a connection seen for the first time.
    Open = 1,
    /// [`Segment`]: bytes that one call moved.
    Segment = 2,
    /// [`End`]: a direction ended, or the connection did.
    End = 3,
    /// [`Process`]: a process called exec.
    Exec = 4,
    /// [`Process`]: a process ended.
    Exit = 5,
    /// [`Started`]: who started a unit of execution, before the first bytes that it moves.
    Started = 6,
    /// [`Process`]: a process starts units of execution faster than it may cost.
    Teems = 7,
    /// [`Carried`]: in which trace a message is, before its first bytes.
    Carried = 8,
    /// [`Allocates`]: where a thread of a JVM has made objects, and makes the next one.
    Allocates = 9,
    /// [`Runs`]: which task a thread of a JVM runs, after bytes that it sent.
    Runs = 10,
    /// [`Taken`]: which unit of execution a stream of HTTP/2 is for.
    Taken = 11,
}

/// Bit of a connection's name that only a TLS session has: plaintext, carried by a connection.
pub const SESSION: u64 = 1 << 63;

/// Bytes leave the process (send, write).
pub const EGRESS: u8 = 0;
/// Bytes come to the process (recv, read).
pub const INGRESS: u8 = 1;

/// Address family numbers, as in `include/linux/socket.h`.
pub const AF_UNIX: u16 = 1;
/// IPv4.
pub const AF_INET: u16 = 2;
/// IPv6.
pub const AF_INET6: u16 = 10;

/// A connection seen for the first time: who talks to whom, and the kernel's own counters, from
/// which user space derives role, stream key and 64-bit offsets (docs/architecture.md, "stream key").
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Open {
    /// [`Kind::Open`].
    pub kind: u32,
    /// Process that was seen using it.
    pub tgid: u32,
    /// Identity of the connection: the socket cookie, or a number of our own on the fall-back path
    /// and, with [`SESSION`], for a TLS session.
    pub connection: u64,
    /// The connection that carries a TLS session, else 0. Addresses and counters are its own.
    pub carrier: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// Address of the kernel's socket, and of its peer for unix sockets: compared, never followed.
    pub socket: u64,
    /// The unix socket at the other end, or 0.
    pub peer: u64,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// `AF_*`.
    pub family: u16,
    /// `IPPROTO_*` (6 for TCP, 17 for UDP, 0 for unix).
    pub protocol: u16,
    /// Local address, network order; IPv4 in the first four bytes.
    pub local: [u8; 16],
    /// Remote address.
    pub remote: [u8; 16],
    /// Local port, host order.
    pub local_port: u16,
    /// Remote port, host order.
    pub remote_port: u16,
    /// `TCP_*` state at this moment (`include/net/tcp_states.h`).
    pub state: u8,
    /// 1 where the TCP counters below are filled.
    pub has_counters: u8,
    /// [`EGRESS`] or [`INGRESS`]: the way of the call that opened this record.
    pub direction: u8,
    /// 1 once the peer's FIN is among what was received.
    pub fin: u8,
    /// tcp_sock.write_seq, after the call that opened this record.
    pub write_seq: u32,
    /// tcp_sock.copied_seq, after that call.
    pub copied_seq: u32,
    /// tcp_sock.snd_una.
    pub snd_una: u32,
    /// tcp_sock.snd_nxt.
    pub snd_nxt: u32,
    /// tcp_sock.rcv_nxt.
    pub rcv_nxt: u32,
    /// Bytes that call moved.
    pub length: u32,
    /// tcp_sock.bytes_acked.
    pub bytes_acked: u64,
    /// tcp_sock.bytes_received.
    pub bytes_received: u64,
    /// tcp_sock.bytes_sent (payload, retransmissions counted).
    pub bytes_sent: u64,
    /// tcp_sock.bytes_retrans.
    pub bytes_retrans: u64,
    /// task_struct.comm of the thread that used it.
    pub comm: [u8; 16],
    /// 1 where a TLS session's offsets count from its first byte: it began under the agent's eyes.
    pub whole: u32,
    /// 1 where the kernel's TLS is on this socket: what system calls move is plaintext.
    pub kernel_tls: u32,
    /// Whose `name` is: [`NAMED_OWN`], [`NAMED_PEER`], or 0 where neither has one.
    pub named: u32,
    /// Bytes of it.
    pub name_length: u32,
    /// A unix socket's name: its path, or a zero byte and an abstract name.
    pub name: [u8; NAME],
}
const _: () = assert!(size_of::<Open>() == 296);

/// Longest name of a unix socket (sun_path, include/uapi/linux/un.h), filled up to whole words.
pub const NAME: usize = 112;
/// The name is this socket's.
pub const NAMED_OWN: u32 = 1;
/// The name is the other end's.
pub const NAMED_PEER: u32 = 2;

/// Bytes that one call moved on one connection in one direction.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Segment {
    /// [`Kind::Segment`].
    pub kind: u32,
    /// [`EGRESS`] or [`INGRESS`].
    pub direction: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// Bytes at the very end of the segment, kept when the middle was not (0 to [`TAIL`]); the first
    /// may be among those captured.
    pub tail: u8,
    /// Why bytes are missing, one of [`hole`], when `captured < length`.
    pub hole: u8,
    /// As in [`Open`].
    pub connection: u64,
    /// CLOCK_MONOTONIC when the call had completed, nanoseconds.
    pub time: u64,
    /// Offset of the first byte, counted from the first byte this kernel side saw of this direction.
    pub offset: u64,
    /// Bytes this record stands for.
    pub length: u32,
    /// Bytes that follow this header (then `tail` more).
    pub captured: u32,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Records of this connection lost since the last one that came through.
    pub lost: u32,
    /// Unused.
    pub pad: u32,
    /// Who moved them, or for whom they were sent, as in [`mod@unit`]; 0 where that is not known.
    pub unit: u64,
}
const _: () = assert!(size_of::<Segment>() == 64);

/// Longest tail: what ends an answer of a store, be it an error, is rarely longer.
pub const TAIL: usize = 128;
/// Largest payload of one record; longer calls make several.
pub const CHUNK: usize = 16 * 1024;
/// Most records one call makes; bytes past `CHUNK * PARTS` are a hole.
pub const PARTS: usize = 4;

/// Bits of [`Segment::flags`].
pub mod flag {
    /// First segment after bytes went the other way (or the first of all).
    pub const TURN: u8 = 1;
}

/// Why payload is missing.
pub mod hole {
    /// Nothing is.
    pub const NONE: u8 = 0;
    /// Past what a message may cost; only the length is kept.
    pub const BUDGET: u8 = 1;
    /// sendfile, splice, io_uring, MSG_TRUNC: the bytes are not known to be in a user buffer of this
    /// call.
    pub const NO_BUFFER: u8 = 2;
    /// The buffer could not be read.
    pub const FAULT: u8 = 3;
    /// A 32-bit program.
    pub const COMPAT: u8 = 4;
    /// More or longer iovecs than are followed.
    pub const IOVECS: u8 = 5;
    /// Moved by a call that nobody saw, or by another thread's that is yet to be told.
    pub const SUPPOSED: u8 = 6;
}

/// Units of execution that are finer than threads: a kind, and a number of the process's own.
pub mod unit {
    /// Bits of the kind.
    pub const KIND: u64 = 0xf << 60;
    /// A goroutine, by its number.
    pub const GOROUTINE: u64 = 1 << 60;
    /// A context of Python's, by when it was made, or by its address where that was not seen; what is given to one
    /// of its pools of threads, by when.
    pub const CONTEXT: u64 = 2 << 60;
    /// An asynchronous resource of Node.js's, by its id.
    pub const RESOURCE: u64 = 3 << 60;
    /// What is not known by more: a virtual thread of a JVM's, whose carrier has others, too; what uvloop
    /// sends for several.
    pub const VIRTUAL: u64 = 4 << 60;
    /// The bytes are for this unit, which a probe saw ask for them: not for who merely sends them.
    pub const ASKED: u64 = 1 << 59;
}

/// Who started a unit of execution; told once, before the first bytes that the unit moves.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Started {
    /// [`Kind::Started`].
    pub kind: u32,
    /// Process.
    pub tgid: u32,
    /// The unit, as in [`Segment`]; with [`mod@unit`]'s `ASKED` where a probe saw it ask, so that what it sends is
    /// its own.
    pub unit: u64,
    /// The unit that started it, or the nearest above that one which may have moved bytes; a thread's id where
    /// there is no unit.
    pub parent: u64,
    /// CLOCK_MONOTONIC when `parent` started it or the first between them, nanoseconds.
    pub time: u64,
    /// Where in the program, so that units which are started alike are known; a sum of all places
    /// between `parent` and `unit`.
    pub site: u64,
}
const _: () = assert!(size_of::<Started>() == 40);

/// A direction ended, or the connection did.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct End {
    /// [`Kind::End`].
    pub kind: u32,
    /// One of [`end`].
    pub how: u32,
    /// As in [`Open`].
    pub connection: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// Positive errno, where `how` is [`end::ERROR`].
    pub errno: u32,
    /// Records of this connection lost since the last one that came through.
    pub lost: u32,
    /// Process, or 0 when the kernel itself ended it.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
}
const _: () = assert!(size_of::<End>() == 40);

/// How something ended.
pub mod end {
    /// The peer will send no more: a receive returned 0.
    pub const EOF: u32 = 1;
    /// This end closed or shut down its sending side.
    pub const LOCAL: u32 = 2;
    /// A call failed with an error that ends the connection (reset, broken pipe, time-out).
    pub const ERROR: u32 = 3;
    /// The kernel freed the socket; nothing follows.
    pub const GONE: u32 = 4;
}

/// A process called exec, ended, or teems.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Process {
    /// [`Kind::Exec`], [`Kind::Exit`] or [`Kind::Teems`].
    pub kind: u32,
    /// Process.
    pub tgid: u32,
    /// Its parent.
    pub parent: u32,
    /// Unused.
    pub pad: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// task_struct.comm.
    pub comm: [u8; 16],
}
const _: () = assert!(size_of::<Process>() == 40);

/// Bits of what a process is known to do (map of TLS processes).
pub mod habit {
    /// Calls TLS functions with the C calling convention.
    pub const C: u32 = 1;
    /// Calls Go's.
    pub const GO: u32 = 2;
    /// Encrypts into memory, apart from the system call.
    pub const MEMORY: u32 = 4;
    /// Uses rustls.
    pub const RUSTLS: u32 = 8;
    /// Has goroutines that can be told apart.
    pub const GOROUTINES: u32 = 16;
    /// Has contexts of Python's that can be told apart.
    pub const CONTEXTS: u32 = 32;
    /// Is Node.js, whose turns can be told apart.
    pub const ASYNC_IDS: u32 = 64;
}

/// Verdicts of the map from process to selection; no entry means not judged yet: traced meanwhile.
pub mod verdict {
    /// Traced.
    pub const TRACED: u32 = 1;
    /// Not selected.
    pub const IGNORED: u32 = 2;
}

/// Words of the map of ports that are listened on: bit P % 64 of word P / 64 is port P's.
pub const LISTENED: usize = 1024;

/// What of a process serves one request at a time, in the map of those where something does.
pub mod exact {
    /// Its threads.
    pub const THREADS: u32 = 1;
    /// Turns of its event loop.
    pub const TURNS: u32 = 2;
}

/// How a process serves requests, in the map of those that do.
pub mod served {
    /// The trace of each is known on the kernel side while it is served.
    pub const KNOWN: u32 = 1;
    /// There are others.
    pub const UNKNOWN: u32 = 2;
}

/// What user space asks for a connection.
pub mod wish {
    /// Deliver nothing more.
    pub const MUTE: u32 = 0;
    /// Copy all that one call can have, whatever the budget, from now on.
    pub const WHOLE: u32 = 1;
    /// Copy no more than the budget again.
    pub const BUDGET: u32 = 2;
    // Any other number asks for it to be introduced again, once for each number.
}

macro_rules! fields {
    ($($variant:ident = $structure:literal . $member:literal,)+) => {
        /// Fields of kernel structures that the programs read. Their offsets are resolved from the
        /// running kernel's BTF in user space and handed over before load, by this index.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Field { $(
            #[doc = concat!($structure, ".", $member)]
            $variant,
        )+ }

        /// (structure, member) of each [`Field`], in order.
        pub const FIELDS: &[(&str, &str)] = &[$(($structure, $member),)+];
    };
}

fields! {
    TaskFlags = "task_struct"."flags",
    TaskFiles = "task_struct"."files",
    TaskTgid = "task_struct"."tgid",
    TaskPid = "task_struct"."pid",
    TaskParent = "task_struct"."real_parent",
    TaskComm = "task_struct"."comm",
    FilesFdt = "files_struct"."fdt",
    FdtableMaxFds = "fdtable"."max_fds",
    FdtableFd = "fdtable"."fd",
    FileInode = "file"."f_inode",
    FilePrivateData = "file"."private_data",
    InodeMode = "inode"."i_mode",
    InodeIno = "inode"."i_ino",
    SocketSk = "socket"."sk",
    SkProtocol = "sock"."sk_protocol",
    SkType = "sock"."sk_type",
    SkFamily = "sock_common"."skc_family",
    SkState = "sock_common"."skc_state",
    SkFlags = "sock_common"."skc_flags",
    SkRemote4 = "sock_common"."skc_daddr",
    SkLocal4 = "sock_common"."skc_rcv_saddr",
    SkRemotePort = "sock_common"."skc_dport",
    SkLocalPort = "sock_common"."skc_num",
    SkRemote6 = "sock_common"."skc_v6_daddr",
    SkLocal6 = "sock_common"."skc_v6_rcv_saddr",
    SkNet = "sock_common"."skc_net",
    NetInum = "net"."ns.inum",
    WriteSeq = "tcp_sock"."write_seq",
    CopiedSeq = "tcp_sock"."copied_seq",
    SndUna = "tcp_sock"."snd_una",
    SndNxt = "tcp_sock"."snd_nxt",
    RcvNxt = "tcp_sock"."rcv_nxt",
    BytesAcked = "tcp_sock"."bytes_acked",
    BytesReceived = "tcp_sock"."bytes_received",
    BytesSent = "tcp_sock"."bytes_sent",
    BytesRetrans = "tcp_sock"."bytes_retrans",
    UlpOps = "inet_connection_sock"."icsk_ulp_ops",
    UlpName = "tcp_ulp_ops"."name",
    UnixPeer = "unix_sock"."peer",
    UnixAddress = "unix_sock"."addr",
    AddressLength = "unix_address"."len",
    AddressName = "unix_address"."name",
    SkSocket = "sock"."sk_socket",
    SocketFile = "socket"."file",
    FileFlags = "file"."f_flags",
    LastSent = "tcp_sock"."lsndtime",
    ThreadArea = "task_struct"."thread.fsbase",
    SkOwned = "sock"."sk_lock.owned",
    SkCookie = "sock_common"."skc_cookie",
}

/// [`Field`]s there are.
pub const FIELD_COUNT: usize = FIELDS.len();
/// The offset of a field that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// A record as bytes from a ring.
pub trait Record: Copy {
    /// Reads the record at the start of `bytes`, and what follows it; `None` if they are too few.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])>;
}

macro_rules! records {
    ($($record:ty),+) => { $(
        impl Record for $record {
            fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
                let (head, rest) = bytes.split_at_checked(size_of::<Self>())?;
                // SAFETY: as many bytes as the record has, all integers: any pattern is one.
                Some((unsafe { head.as_ptr().cast::<Self>().read_unaligned() }, rest))
            }
        }
    )+ };
}

records!(
    Open, Segment, End, Process, Started, Carried, Allocates, Runs, Taken
);

/// What the first four bytes of a record say it is.
pub fn kind(bytes: &[u8]) -> Option<Kind> {
    let (word, _) = bytes.split_at_checked(4)?;
    Some(match u32::from_ne_bytes(word.try_into().ok()?) {
        1 => Kind::Open,
        2 => Kind::Segment,
        3 => Kind::End,
        4 => Kind::Exec,
        5 => Kind::Exit,
        6 => Kind::Started,
        7 => Kind::Teems,
        8 => Kind::Carried,
        9 => Kind::Allocates,
        10 => Kind::Runs,
        11 => Kind::Taken,
        _ => return None,
    })
}
