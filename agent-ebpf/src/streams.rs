//! Streams of HTTP/2 in Go programs: which goroutine one is for.
//!
//! One goroutine reads the heads of all, others serve them; grpc-go's clients have one that writes what
//! all ask. So who serves is told where it begins to, with the stream's number and connection in its
//! arguments, and who asks where the call is over that gave the stream its number.
//!
//! Never true here: that a connection is one of a type that was not compared, or not seen before.

use agent_ebpf::abi::unit::ASKED;
use agent_ebpf::abi::{Counter, Field, Kind, Place, Streams, Taken};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::arch;
use crate::emit;
use crate::goroutine::{METHODS, Registers, SYSFD, layout};
use crate::kernel::{Pointer, read_user};
use crate::lineage;
use crate::maps::{SESSIONS, SOCKETS, STREAMS};
use crate::session::Key;
use crate::tls::{register, wanted};
use crate::transfer::socket_of;

/// Entry of (\*serverConn).runHandler in x/net/http2, and in net/http up to Go 1.26: this goroutine serves a
/// stream.
#[uprobe]
pub fn go_http2_serve(context: ProbeContext) -> u32 {
    http2_serve(&context, CONN)
}

/// The same in net/http/internal/http2.
#[uprobe]
pub fn go_http2_serve_inner(context: ProbeContext) -> u32 {
    http2_serve(&context, INNER_CONN)
}

#[inline(always)]
fn http2_serve(context: &ProbeContext, conn: u64) -> u32 {
    let Some(known) = Known::of(context) else {
        return 0;
    };
    // *responseWriter, of which its state is first, of which the stream is, of which the number is second.
    let state: u64 = read_user(register(context, arch::GO[1]));
    let stream: u64 = read_user(state);
    let number: u32 = read_user(stream.wrapping_add(NUMBER));
    known.serves(register(context, arch::GO[0]).wrapping_add(conn), number);
    0
}

/// Entry of grpc-go's (\*Server).handleStream: the same.
#[uprobe]
pub fn go_grpc_serve(context: ProbeContext) -> u32 {
    let Some(known) = Known::of(&context) else {
        return 0;
    };
    let streams = known.streams;
    // There is one that serves within net/http, whose streams have no number.
    let close: u64 = read_user(register(&context, arch::GO[1]).wrapping_add(METHODS));
    if streams.server_close == 0 || close != streams.server_close {
        return 0;
    }
    let transport = register(&context, arch::GO[2]);
    let number = number(register(&context, arch::GO[3]), &streams.served);
    known.serves(transport.wrapping_add(streams.server_conn.into()), number);
    0
}

/// A return of grpc-go's (\*http2Client).NewStream: this goroutine has asked, unless there is no stream (rax).
#[uprobe]
pub fn go_grpc_ask(context: ProbeContext) -> u32 {
    let stream = register(&context, arch::GO[0]);
    if stream == 0 {
        return 0;
    }
    let Some(known) = Known::of(&context) else {
        return 0;
    };
    let streams = known.streams;
    let transport: u64 = read_user(stream.wrapping_add(streams.client.into()));
    let number = number(stream, &streams.asked);
    known.asks(transport.wrapping_add(streams.client_conn.into()), number);
    0
}

/// Entry of grpc-go's (\*loopyWriter).run: this goroutine writes what all give it.
#[uprobe]
pub fn go_grpc_write(context: ProbeContext) -> u32 {
    if let Some(pid_tgid) = wanted()
        && let Some(layout) = layout(pid_tgid)
    {
        lineage::sends_for_all(Registers::of(&context).unit(layout), pid_tgid);
    }
    0
}

/// What is known where a goroutine passes.
struct Known {
    streams: &'static Streams,
    unit: u64,
    pid_tgid: u64,
}

impl Known {
    #[inline(always)]
    fn of(context: &ProbeContext) -> Option<Self> {
        let pid_tgid = wanted()?;
        // SAFETY: written once by user space, read as plain numbers.
        let streams = unsafe { STREAMS.get((pid_tgid >> 32) as u32) }?;
        let unit = Registers::of(context).unit(layout(pid_tgid)?);
        (unit != 0).then_some(Self {
            streams,
            unit,
            pid_tgid,
        })
    }

    /// The goroutine begins to serve a stream of the connection that is an interface at this address.
    #[inline(always)]
    fn serves(&self, conn: u64, number: u32) {
        lineage::serves(self.unit, self.pid_tgid);
        if let Some(connection) = self.connection(conn) {
            self.tell(connection, self.unit, number);
        }
    }

    /// The goroutine has asked.
    #[inline(always)]
    fn asks(&self, conn: u64, number: u32) {
        if let Some(connection) = self.connection(conn) {
            lineage::moves(self.unit, connection, self.pid_tgid);
            self.tell(connection, self.unit | ASKED, number);
        }
    }

    #[inline(always)]
    fn tell(&self, connection: u64, unit: u64, number: u32) {
        let record = Taken {
            kind: Kind::Taken as u32,
            tgid: (self.pid_tgid >> 32) as u32,
            connection,
            // SAFETY: no arguments.
            time: unsafe { bpf_ktime_get_ns() },
            unit,
            number,
            pad: 0,
        };
        // SAFETY: a record on the stack, and its size. One that is refused is counted; then whose the
        // stream is is not known.
        unsafe {
            let bytes = core::ptr::addr_of!(record).cast();
            emit::send(connection, bytes, size_of::<Taken>() as u64, false);
        }
    }

    /// The name of a connection; what is of no type that is known, or was not seen, is counted.
    #[inline(always)]
    fn connection(&self, conn: u64) -> Option<u64> {
        let found = self.named(conn);
        if found.is_none() {
            emit::count(Counter::StreamsUnknown, 1);
        }
        found
    }

    #[inline(always)]
    fn named(&self, conn: u64) -> Option<u64> {
        let [mut methods, mut object]: [u64; 2] = read_user(conn);
        let mut close: u64 = read_user(methods.wrapping_add(METHODS));
        if close == 0 {
            return None;
        }
        let [credentials, buffered] = self.streams.wrapped_close;
        if close == credentials || close == buffered {
            [methods, object] = read_user(object);
            close = read_user(methods.wrapping_add(METHODS));
        }
        if close == self.streams.tls_close {
            let session = SESSIONS.get_ptr(Key::new(object, self.pid_tgid))?;
            // SAFETY: a map value, valid for the program's run; its name stays.
            return Some(unsafe { (*session).plain.id }).filter(|id| *id != 0);
        }
        if close != self.streams.tcp_close {
            return None;
        }
        // As in goroutine.rs.
        let fd: u32 = read_user(read_user::<u64>(object).wrapping_add(SYSFD));
        let (socket, inode) = socket_of(fd.into())?;
        if let Some(found) = SOCKETS.get_ptr(socket.address()) {
            // SAFETY: a map value, valid for the program's run.
            let (known, id) = unsafe { ((*found).inode, (*found).id) };
            return (known == inode && id != 0).then_some(id);
        }
        Some(socket.field::<u64>(Field::SkCookie)).filter(|id| *id != 0)
    }
}

/// A stream's number.
#[inline(always)]
fn number(stream: u64, place: &Place) -> u32 {
    let mut within = stream;
    if place.behind != 0 {
        within = read_user(stream);
    }
    read_user(within.wrapping_add(place.offset.into()))
}

/// Of `conn` in serverConn, behind two addresses.
const CONN: u64 = 16;
/// The same, behind an address and an interface.
const INNER_CONN: u64 = 24;
/// Of `id` in stream, behind an address.
const NUMBER: u64 = 8;
