//! What both sides say of traces that are carried to other hosts.

/// In which trace the kernel side has a request, which it had to know before user space can.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Carried {
    /// [`super::Kind::Carried`].
    pub kind: u32,
    /// [`super::EGRESS`] or [`super::INGRESS`].
    pub direction: u8,
    /// One of [`source`].
    pub source: u8,
    /// Trace flags, and [`crate::option::UNDECIDED`].
    pub flags: u8,
    /// Bytes before `offset` that were sent with it and are none of the process's: those of a line that was
    /// put into it ([`crate::header::LINE`]).
    pub line: u8,
    /// As in [`super::Open`].
    pub connection: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// Of the first byte, as in [`super::Segment`]; the low half of it.
    pub offset: u64,
    /// The trace id.
    pub trace: [u8; 16],
}
const _: () = assert!(size_of::<Carried>() == 48);

/// From where a request's trace is known.
pub mod source {
    /// From nowhere: it was made up.
    pub const MADE: u8 = 1;
    /// A TCP option came with it.
    pub const OPTION: u8 = 2;
    /// It has a `traceparent`.
    pub const HEADER: u8 = 3;
    /// It is of what who sends it serves.
    pub const SERVED: u8 = 4;
}

/// Words of a network in the lists of networks: an address, IPv4's as IPv6's (::ffff:0:0/96), then ones where
/// it says what fits, both in network order.
pub const NETWORK: usize = 8;
/// Networks of a list. The rest of it are words of ones and then of zeroes, which fit no address.
pub const NETWORKS: usize = 32;
