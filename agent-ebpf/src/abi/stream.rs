//! Streams of HTTP/2 in Go programs: what both sides tell each other of them.

/// Where things are in a Go program's memory that serves or asks by HTTP/2; addresses are the process's, 0
/// for what it does not have, offsets in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// `net.(*TCPConn).Close`, the first method of an interface of that type, which tells it from all others.
    pub tcp_close: u64,
    /// The same of `crypto/tls.(*Conn).Close`.
    pub tls_close: u64,
    /// The same of what has another such interface for its first member: grpc-go's
    /// `credentials.(*syscallConn)` and `golang.org/x/net/http2/h2c.(*bufConn)`.
    pub wrapped_close: [u64; 2],
    /// The same of grpc-go's `transport.(*http2Server).Close`.
    pub server_close: u64,
    /// Of `conn`, an interface, in `transport.http2Server`.
    pub server_conn: u32,
    /// The same in `transport.http2Client`.
    pub client_conn: u32,
    /// Of a stream's number in what it is served by.
    pub served: Place,
    /// The same in what it is asked by.
    pub asked: Place,
    /// Of the address of its `transport.http2Client` in what a stream is asked by.
    pub client: u32,
    /// Unused.
    pub pad: u32,
}
const _: () = assert!(size_of::<Streams>() == 72);

/// Where a number is in a structure.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its offset, bytes.
    pub offset: u32,
    /// 1 where it is an offset in what the structure's first member points to.
    pub behind: u32,
}

/// Which unit of execution a stream is for; told when the unit begins to serve it, or has just asked.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Taken {
    /// [`super::Kind::Taken`].
    pub kind: u32,
    /// Process.
    pub tgid: u32,
    /// As in [`super::Open`].
    pub connection: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// As in [`super::Segment`].
    pub unit: u64,
    /// The stream's number.
    pub number: u32,
    /// Unused.
    pub pad: u32,
}
const _: () = assert!(size_of::<Taken>() == 40);
