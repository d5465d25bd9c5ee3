//! The record that introduces a connection, or the TLS session it carries, to user space.

use agent_ebpf::abi::{ABSENT, AF_INET6, AF_UNIX, Field, Kind, NAME, NAMED_OWN, NAMED_PEER, Open};
use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_probe_read_kernel};

use crate::connection::{Call, has_fin, has_kernel_tls};
use crate::kernel::{Pointer, Typed, Untyped, offset};
use crate::{emit, payload};

/// What is introduced.
#[derive(Clone, Copy)]
pub struct Name {
    /// As records name it.
    pub id: u64,
    /// The connection that carries it, where it is a TLS session; else 0.
    pub carrier: u64,
    /// 1 for a session that began under our eyes.
    pub whole: u32,
}

impl Name {
    /// Of a connection itself.
    #[inline(always)]
    pub const fn own(id: u64) -> Self {
        Self {
            id,
            carrier: 0,
            whole: 0,
        }
    }
}

/// Tells user space of a connection: who talks to whom and the kernel's counters. `tcp` is the
/// same socket with TCP's fields in reach. The reader is woken, so that a process that lives only
/// milliseconds can still be looked up.
#[inline(always)]
pub fn introduce<P: Pointer>(name: Name, socket: P, tcp: Option<P>, net: Net, call: Call) -> bool {
    let Some(scratch) = payload::scratch(call.way.into()) else {
        return false;
    };
    let open = &mut scratch.open;
    *open = Open {
        kind: Kind::Open as u32,
        tgid: (call.pid_tgid >> 32) as u32,
        connection: name.id,
        carrier: name.carrier,
        time: call.time,
        socket: socket.address(),
        peer: 0,
        netns: net.0,
        family: socket.field(Field::SkFamily),
        protocol: 0,
        local: [0; 16],
        remote: [0; 16],
        local_port: 0,
        remote_port: 0,
        state: socket.field(Field::SkState),
        has_counters: 0,
        direction: call.way,
        fin: 0,
        write_seq: 0,
        copied_seq: 0,
        snd_una: 0,
        snd_nxt: 0,
        rcv_nxt: 0,
        length: call.length,
        bytes_acked: 0,
        bytes_received: 0,
        bytes_sent: 0,
        bytes_retrans: 0,
        comm: [0; 16],
        whole: name.whole,
        kernel_tls: 0,
        named: NAMED_OWN,
        name_length: 0,
        name: [0; NAME],
    };
    // SAFETY: the helper writes at most the 16 bytes it is given.
    unsafe { bpf_get_current_comm(open.comm.as_mut_ptr().cast(), 16) };
    if open.family == AF_UNIX {
        let own = Untyped(socket.address() as *const _);
        open.peer = own.field(Field::UnixPeer);
        name_of(open, own);
    } else {
        addresses(open, socket);
    }
    if let Some(tcp) = tcp {
        counters(open, tcp);
        open.fin = has_fin(socket) as u8;
        open.kernel_tls = has_kernel_tls(tcp) as u32;
    }
    // SAFETY: the whole record is initialised.
    unsafe {
        emit::send(
            name.id,
            core::ptr::from_ref(open).cast(),
            size_of::<Open>() as u64,
            true,
        )
    }
}

/// Network namespace inode of a socket; read apart, as it follows a pointer.
#[derive(Clone, Copy)]
pub struct Net(pub u32);

impl Net {
    /// For a typed socket.
    #[inline(always)]
    pub fn typed(socket: Typed) -> Self {
        let net: *const core::ffi::c_void = socket.0;
        let net = Untyped(net).field::<u64>(Field::SkNet);
        Self(Untyped(net as *const _).field(Field::NetInum))
    }

    /// For an untyped one.
    #[inline(always)]
    pub fn untyped(socket: Untyped) -> Self {
        Self(Untyped(socket.field::<u64>(Field::SkNet) as *const _).field(Field::NetInum))
    }
}

#[inline(always)]
fn addresses<P: Pointer>(open: &mut Open, socket: P) {
    open.protocol = socket.field(Field::SkProtocol);
    open.local_port = socket.field(Field::SkLocalPort);
    open.remote_port = u16::from_be(socket.field(Field::SkRemotePort));
    if open.family == AF_INET6 {
        open.local = words(socket.field(Field::SkLocal6));
        open.remote = words(socket.field(Field::SkRemote6));
    } else {
        open.local = words([socket.field::<u32>(Field::SkLocal4).into(), 0]);
        open.remote = words([socket.field::<u32>(Field::SkRemote4).into(), 0]);
    }
}

/// The name of a unix socket, which an accepted one has of the one that listens, or else of its peer
/// (net/unix/af_unix.c, unix_stream_connect).
#[inline(always)]
fn name_of(open: &mut Open, own: Untyped) {
    let mut address: u64 = own.field(Field::UnixAddress);
    if address == 0 {
        open.named = NAMED_PEER;
        address = Untyped(open.peer as *const _).field(Field::UnixAddress);
    }
    if address == 0 {
        open.named = 0;
        return;
    }
    let address = Untyped(address as *const core::ffi::c_void);
    // sockaddr_un: its family comes first (include/uapi/linux/un.h).
    let length: u32 = address.field(Field::AddressLength);
    let length = payload::opaque(length.wrapping_sub(2).into());
    let offset = offset(Field::AddressName);
    if length <= NAME as u64 && offset != ABSENT {
        open.name_length = length as u32;
        // SAFETY: the length is bounded just above; the helper checks the address.
        unsafe {
            let from = address.0.byte_add(offset as usize + 2);
            bpf_probe_read_kernel(open.name.as_mut_ptr().cast(), length as u32, from);
        }
    }
}

#[inline(always)]
fn words(words: [u64; 2]) -> [u8; 16] {
    // SAFETY: plain bytes either way.
    unsafe { core::mem::transmute(words) }
}

#[inline(always)]
fn counters<P: Pointer>(open: &mut Open, tcp: P) {
    open.has_counters = 1;
    open.write_seq = tcp.field(Field::WriteSeq);
    open.copied_seq = tcp.field(Field::CopiedSeq);
    open.snd_una = tcp.field(Field::SndUna);
    open.bytes_acked = tcp.field(Field::BytesAcked);
    open.snd_nxt = tcp.field(Field::SndNxt);
    open.bytes_sent = tcp.field(Field::BytesSent);
    open.bytes_retrans = tcp.field(Field::BytesRetrans);
    open.rcv_nxt = tcp.field(Field::RcvNxt);
    open.bytes_received = tcp.field(Field::BytesReceived);
}
