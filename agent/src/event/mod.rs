//! Ring-buffer records as typed events. Decoding is total: any bytes give an event or `None`.

pub mod clock;
pub mod decode;

use std::net::SocketAddr;

/// CLOCK_MONOTONIC, nanoseconds.
pub type Nanos = u64;

/// Names one connection end for as long as the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// Whether it names a TLS session.
    pub fn is_session(self) -> bool {
        self.0 & agent_ebpf::abi::SESSION != 0
    }
}

/// Which way bytes went, seen from the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Sent by the process.
    Egress,
    /// Received by the process.
    Ingress,
}

impl Direction {
    /// The other way.
    pub fn opposite(self) -> Self {
        match self {
            Self::Egress => Self::Ingress,
            Self::Ingress => Self::Egress,
        }
    }
}

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// This end called connect.
    Client,
    /// This end accepted.
    Server,
}

/// Who moved bytes: a process, its thread, and what the thread was doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Execution {
    /// Process id (tgid) in the host's namespace.
    pub process: u32,
    /// Thread id.
    pub thread: u32,
    /// Unit of execution, finer than a thread, that moved them or for which they were sent, as in
    /// `abi::unit`; 0 where there is none or it is not known.
    pub unit: u64,
}

/// Both ends' initial sequence numbers: one TCP connection's name that both hosts can derive and
/// that survives NAT. For unix sockets, the two kernel addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// The connecting side's.
    pub client: u64,
    /// The accepting side's.
    pub server: u64,
}

/// The two halves of a [`StreamKey`], before it is known who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// This end's.
    pub own: u64,
    /// The other's.
    pub peer: u64,
}

impl Ends {
    /// The connection's name, seen from an end of this role.
    pub fn key(self, role: Role) -> StreamKey {
        let Self { own, peer } = self;
        match role {
            Role::Client => StreamKey {
                client: own,
                server: peer,
            },
            Role::Server => StreamKey {
                client: peer,
                server: own,
            },
        }
    }
}

/// An address of one end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A unix socket; its path where known.
    Unix(Option<String>),
}

/// A connection seen for the first time.
#[derive(Clone, Debug)]
pub struct Open {
    /// Which one.
    pub connection: ConnectionId,
    /// When.
    pub time: Nanos,
    /// Process that used it.
    pub process: u32,
    /// Name of that process's thread, for the case that it is gone before /proc can be read.
    pub comm: String,
    /// This end.
    pub local: Address,
    /// The other end.
    pub remote: Address,
    /// Who connected, where known.
    pub role: Option<Role>,
    /// What names this end and the other: the first data byte's TCP sequence numbers, or a unix
    /// socket pair's addresses. With the role they make a [`StreamKey`].
    pub ends: Option<Ends>,
    /// Absolute stream offset of the first byte that is seen, egress then ingress.
    pub start: [u64; 2],
    /// What makes the kernel side's offsets absolute ones, egress then ingress: to be added, modulo 2^64.
    pub base: [u64; 2],
    /// Bytes of a line that was put into the first request that is sent, which are not seen: on the wire all
    /// that follows it is so much further.
    pub line: u64,
    /// Inode of the network namespace; 0 when unknown.
    pub netns: u32,
    /// What it is a session of, where its bytes are the plaintext of TLS.
    pub session: Option<Session>,
    /// Whether the kernel does the TLS of its socket: its bytes are plaintext all the same.
    pub kernel_tls: bool,
    /// Whether it is a UDP socket: each segment is a message of its own, and the other end is whoever it
    /// was connected to, if it was.
    pub datagrams: bool,
}

/// A TLS session, seen as the plaintext that a library takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The connection that carries it. Addresses, role and name of the session are its.
    pub carrier: ConnectionId,
    /// Whether its offsets count from its first byte.
    pub whole: bool,
}

impl Open {
    /// The same where a line was put into what is sent first: offsets count what the process gives.
    #[must_use]
    pub fn with_line(mut self, line: u64) -> Self {
        let [start, base] = [&mut self.start, &mut self.base].map(|both| &mut both[0]);
        *start = start.wrapping_sub(line);
        *base = base.wrapping_sub(line);
        self.line = line;
        self
    }

    /// Whether TLS protects its bytes on their way.
    pub fn is_secure(&self) -> bool {
        self.session.is_some() || self.kernel_tls
    }

    /// Whether offsets mean the same on both ends. Where the kernel does TLS, TCP counts ciphertext.
    pub fn counts_from_start(&self) -> bool {
        self.session
            .map_or(!self.kernel_tls, |session| session.whole)
    }

    /// The ports of this end and of the other.
    pub fn ports(&self) -> [Option<u16>; 2] {
        [&self.local, &self.remote].map(|address| match address {
            Address::Inet(address) => Some(address.port()),
            Address::Unix(_) => None,
        })
    }

    /// Whether nobody tells when its socket is closed: only TCP has a hook for that.
    pub fn ends_unseen(&self) -> bool {
        self.datagrams || matches!(self.local, Address::Unix(_))
    }
}

/// Why bytes of a segment are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hole {
    /// Left out by the copy budget: expected, harmless in bodies.
    Budget,
    /// sendfile, splice, io_uring: no user buffer.
    NoBuffer,
    /// Unreadable memory.
    Fault,
    /// A 32-bit program.
    Compat,
    /// Too many iovecs.
    Iovecs,
    /// Records were lost (ring full): not expected, counted.
    Lost,
    /// Moved by a call the kernel side does not see (splice to a pipe).
    Unseen,
    /// Either so, or by another thread's call that is yet to be told; never further than the shard.
    Supposed,
}

/// Bytes moved by one call. `bytes` are the first of `length`, `tail` the last.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// On which connection.
    pub connection: ConnectionId,
    /// Which way.
    pub direction: Direction,
    /// When the call had completed.
    pub time: Nanos,
    /// Offset of the first byte as the kernel side counts (add [`Open::base`]).
    pub offset: u64,
    /// Bytes this segment stands for.
    pub length: u32,
    /// The first bytes of it.
    pub bytes: &'a [u8],
    /// The last bytes of it, when the middle was left out; may be empty.
    pub tail: &'a [u8],
    /// Why bytes are missing, when they are.
    pub hole: Option<Hole>,
    /// Whether bytes went the other way just before.
    pub turn: bool,
    /// Records of this connection lost just before this one.
    pub lost: u32,
    /// Who did it.
    pub execution: Execution,
}

/// How a direction or a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The peer will send no more.
    Eof,
    /// This end closed or shut down its sending side.
    Local,
    /// A call failed with this errno.
    Error(i32),
    /// The socket is gone.
    Gone,
}

/// An end of a direction or connection.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Which one.
    pub connection: ConnectionId,
    /// When.
    pub time: Nanos,
    /// How.
    pub ending: Ending,
    /// Records of this connection lost just before.
    pub lost: u32,
}

/// A process that called exec, ended, or teems.
#[derive(Clone, Debug)]
pub struct Process {
    /// Process id.
    pub process: u32,
    /// Its parent's.
    pub parent: u32,
    /// When.
    pub time: Nanos,
    /// Its name.
    pub comm: String,
}

/// A unit of execution that another started; told before the first bytes that it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Process of both.
    pub process: u32,
    /// Which unit, as in [`Execution`].
    pub unit: u64,
    /// The one that started it, or the nearest above that one which may have moved bytes.
    pub parent: u64,
    /// When work went from that one's hands.
    pub time: Nanos,
    /// Where in the program: the same for units that are started alike.
    pub site: u64,
    /// Whether what the unit sends is its own, as a probe saw it ask.
    pub own: bool,
}

/// Which unit of execution a stream of HTTP/2 is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Connection end.
    pub connection: ConnectionId,
    /// The stream's number.
    pub number: u64,
    /// Process of the unit.
    pub process: u32,
    /// Which unit, as in [`Execution`]; it begins to serve the stream, or has asked.
    pub unit: u64,
    /// When.
    pub time: Nanos,
}

/// Where a thread of a JVM makes objects: it alone there, one behind the other, until garbage is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocates {
    /// Process.
    pub process: u32,
    /// Thread.
    pub thread: u32,
    /// How often garbage was collected before.
    pub collections: u32,
    /// First address.
    pub start: u64,
    /// Where the next object will be.
    pub top: u64,
    /// The address behind the last.
    pub end: u64,
    /// When.
    pub time: Nanos,
}

/// What a thread of a JVM runs that has just sent bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    /// Process.
    pub process: u32,
    /// Thread.
    pub thread: u32,
    /// How often garbage was collected before.
    pub collections: u32,
    /// Where it sent them.
    pub connection: ConnectionId,
    /// Addresses of the tasks that it runs, the first of all and the last within that one; 0 for none.
    pub tasks: [u64; 2],
    /// When, no earlier than the bytes.
    pub time: Nanos,
}

/// What a thread of a JVM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Java {
    /// It makes objects there.
    Allocates(Allocates),
    /// It runs that.
    Runs(Runs),
}

/// In which trace the kernel side has a request; told before its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Connection end.
    pub connection: ConnectionId,
    /// Which way the request went.
    pub direction: Direction,
    /// Of its first byte, as in [`Segment`]; the low half of it.
    pub offset: u64,
    /// Bytes before it that were sent with it and that the process did not give: of a line that was put
    /// into it.
    pub line: u64,
    /// When it was told.
    pub time: Nanos,
    /// Trace id, not all zero.
    pub trace: [u8; 16],
    /// W3C trace flags, where anybody decided.
    pub flags: Option<u8>,
    /// Whether the span of who sends it has the id that the stream key gives.
    pub named: bool,
    /// From where that is known.
    pub source: Source,
}

/// From where the kernel side knows a request's trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From nowhere: it is a new one.
    Made,
    /// A TCP option came with it.
    Option,
    /// It has a `traceparent`.
    Header,
    /// It is of what its sender serves.
    Served,
}

/// One decoded record.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A connection seen for the first time; comes before its segments.
    Open(Open),
    /// Bytes.
    Segment(Segment<'a>),
    /// An end.
    End(End),
    /// exec.
    Exec(Process),
    /// exit.
    Exit(Process),
    /// Who started a unit of execution.
    Started(Started),
    /// Which unit of execution a stream of HTTP/2 is for.
    Taken(Taken),
    /// What a thread of a JVM does.
    Java(Java),
    /// A process starts units of execution faster than they are followed.
    Teems(Process),
    /// A request's trace.
    Carried(Carried),
}

impl Event<'_> {
    /// When it happened; `None` of what is told later than it happened.
    pub fn time(&self) -> Option<Nanos> {
        match self {
            Event::Open(open) => Some(open.time),
            Event::Segment(segment) => Some(segment.time),
            Event::End(end) => Some(end.time),
            Event::Exec(process) | Event::Exit(process) | Event::Teems(process) => {
                Some(process.time)
            }
            Event::Started(_) | Event::Taken(_) | Event::Java(_) | Event::Carried(_) => None,
        }
    }
}
