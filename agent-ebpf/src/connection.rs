//! What the kernel side keeps of a connection.

use agent_ebpf::abi::{
    AF_INET, AF_INET6, AF_UNIX, Counter, EGRESS, End, Field, INGRESS, Kind, end, verdict, wish,
};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;

use crate::emit;
use crate::frames::NOTHING_YET;
use crate::kernel::{Pointer, Untyped};
use crate::maps::{EPOCH, PROCESSES, WISHES};
use crate::session;

/// State of one socket. Two threads may touch it at once; what that can spoil is a budget or a
/// turn mark, never an offset of a direction that one thread uses at a time.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Connection {
    /// Its name in every record.
    pub id: u64,
    /// Epoch and process of the last judgement, so that maps are asked only when one changed.
    pub judged: u64,
    /// As in `abi::Segment`, of the call under way in each direction. Here and not in registers, so that
    /// verifiers need not walk once for each way to find it. A program moves bytes one way one after the
    /// other where it has goroutines: Go's descriptors have locks.
    pub unit: [u64; 2],
    /// Offset of the next byte, by direction. Where TCP counts the bytes its low half is TCP's own
    /// position (write_seq, copied_seq), so that threads that use one connection at once agree.
    pub next: [u64; 2],
    /// Bytes that may still be copied, by direction: where frames are followed of the message under way,
    /// elsewhere of the turn, with `budget::HEADS` for the calls behind its budget.
    pub left: [u32; 2],
    /// Offset of the first byte that is surely behind the body or the frame under way, by direction.
    pub body: [u64; 2],
    /// Offset up to which the frame under way is copied, by direction.
    pub copied: [u64; 2],
    /// What came of a frame's head whose rest was in another piece, by direction: the number of its
    /// bytes (0 to 3), then they.
    pub part: [u32; 2],
    /// Records lost since one came through.
    pub lost: u32,
    /// The last wish to be introduced again that was heard.
    pub obeyed: u32,
    /// Inode of the socket (fall-back path: tells a reused address).
    pub inode: u32,
    /// Way of the last bytes; 2 before any.
    pub way: u8,
    /// 1 once user space knows it.
    pub opened: u8,
    /// 1 for TCP, where its positions count the bytes that calls move: not where the kernel does TLS.
    pub tcp: u8,
    /// What the last judgement was.
    pub judgement: Judgement,
    /// Thread that last moved bytes, by direction.
    pub mover: [u32; 2],
    /// 1 once sendmmsg or recvmmsg was used on it.
    pub batched: u8,
    /// 1 where no budget holds.
    pub whole: u8,
    /// 1 where all that comes is the ciphertext of a session that is read.
    pub encrypted: u8,
    /// `abi::habit`s of the process of the last judgement, as they were then.
    pub habits: u8,
    /// Name of the TLS session it carries, or 0.
    pub session: u64,
    /// Bits for each direction whose frames are followed, see `frames`.
    pub follows: u32,
    /// 1 for UDP: each call moves a message of its own.
    pub datagrams: u16,
    /// 1 where what was sent last is not all that was to be: others' bytes may come to lie behind the rest.
    pub clogged: u8,
    /// Whether this end accepted it, see `futures`.
    pub accepted: u8,
}

impl Connection {
    /// One that nobody saw yet, without a name: what all begin as.
    pub const fn blank() -> Self {
        Self {
            id: 0,
            judged: u64::MAX,
            unit: [0; 2],
            next: [0; 2],
            left: [0; 2],
            body: [0; 2],
            copied: [0; 2],
            part: [0; 2],
            lost: 0,
            obeyed: wish::MUTE,
            inode: 0,
            way: 2,
            opened: 0,
            tcp: 0,
            judgement: Judgement::Unselected,
            mover: [0; 2],
            batched: 0,
            whole: 0,
            encrypted: 0,
            habits: 0,
            session: 0,
            follows: NOTHING_YET,
            datagrams: 0,
            clogged: 0,
            accepted: 0,
        }
    }

    /// Whether bytes that this process moves here are wanted; where not, the call is counted.
    #[inline(always)]
    pub fn wanted_by(&mut self, tgid: u32) -> bool {
        let stamp = (u64::from(epoch()) << 32) | u64::from(tgid);
        if self.judged != stamp {
            self.judged = stamp;
            self.habits = session::habits(tgid) as u8;
            self.judgement = self.judge(tgid);
        }
        self.judgement.passes()
    }

    /// Whether user space is told of bytes that go that way; of those that it is not, only the way is noted.
    #[inline(always)]
    pub fn is_told(&mut self, wanted: bool, way: u8) -> bool {
        let told = wanted && self.encrypted == 0;
        if !told {
            self.way = way;
        }
        told
    }

    #[inline(always)]
    fn judge(&mut self, tgid: u32) -> Judgement {
        // SAFETY: a u32 read once; a concurrent update gives the old or the new wish.
        if let Some(wish) = unsafe { WISHES.get(self.id) } {
            let wish = *wish;
            if wish == wish::MUTE {
                return Judgement::Muted;
            }
            if wish == wish::WHOLE || wish == wish::BUDGET {
                self.whole = u8::from(wish == wish::WHOLE);
            } else if wish != self.obeyed {
                self.obeyed = wish;
                self.opened = 0;
            }
        }
        judge_process(tgid)
    }

    /// Counts from here, as its introduction in this call says: what was moved before, also in calls
    /// whose introduction was refused, is no part of it. The call's bytes end at `position`. Bytes that
    /// move the opposite way unseen before the first call there show as a hole.
    #[inline(always)]
    pub fn begin<P: Pointer>(&mut self, tcp: Option<P>, way: u8, length: u32, position: u32) {
        self.opened = 1;
        self.way = 2;
        self.next = [0; 2];
        self.follows = NOTHING_YET;
        self.part = [0; 2];
        let Some(tcp) = tcp else { return };
        if has_kernel_tls(tcp) {
            self.tcp = 0;
            return;
        }
        let start = position.wrapping_sub(length).into();
        self.next = if way == EGRESS {
            [start, received(tcp).into()]
        } else {
            [tcp.field::<u32>(Field::WriteSeq).into(), start]
        };
    }
}

/// To be copied from, not on the stack, of which a deep program has too little.
pub static BLANK: Connection = Connection::blank();

/// What is to be done with the bytes that a process moves over a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Judgement {
    /// They are delivered.
    Wanted = 0,
    /// Nobody can make sense of the connection.
    Muted = 1,
    /// The process is not selected.
    Unselected = 2,
}

impl Judgement {
    /// Whether the call goes on; counted where it does not.
    #[inline(always)]
    pub fn passes(self) -> bool {
        match self {
            Self::Wanted => return true,
            Self::Muted => emit::count(Counter::Muted, 1),
            Self::Unselected => emit::count(Counter::Unselected, 1),
        }
        false
    }
}

/// Whether a process is traced, as one that is not judged yet is meanwhile.
#[inline(always)]
pub fn judge_process(tgid: u32) -> Judgement {
    // SAFETY: a u32 read once; a concurrent update gives the old or the new verdict.
    match unsafe { PROCESSES.get(tgid) } {
        Some(found) if *found != verdict::TRACED => Judgement::Unselected,
        _ => Judgement::Wanted,
    }
}

/// Changes whenever a judgement may have.
#[inline(always)]
pub fn epoch() -> u32 {
    let kernel = EPOCH.get(0).copied().unwrap_or(0);
    kernel.wrapping_add(EPOCH.get(1).copied().unwrap_or(0)) as u32
}

/// Whether a socket is of a kind that is traced: TCP, UDP or a unix stream. `Some(true)` for TCP.
#[inline(always)]
pub fn kind_of<P: Pointer>(socket: P) -> Option<bool> {
    let family: u16 = socket.field(Field::SkFamily);
    let kind: u16 = socket.field(Field::SkType);
    if family == AF_INET || family == AF_INET6 {
        let protocol: u16 = socket.field(Field::SkProtocol);
        return match (kind, protocol) {
            (SOCK_STREAM, IPPROTO_TCP) => Some(true),
            (SOCK_DGRAM, IPPROTO_UDP) => Some(false),
            _ => None,
        };
    }
    (family == AF_UNIX && kind == SOCK_STREAM).then_some(false)
}

/// Whether a socket of a kind that is traced moves datagrams.
#[inline(always)]
pub fn has_datagrams<P: Pointer>(socket: P) -> bool {
    socket.field::<u16>(Field::SkType) == SOCK_DGRAM
}

const SOCK_STREAM: u16 = 1;
const SOCK_DGRAM: u16 = 2;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;

/// The call during which a connection is introduced.
#[derive(Clone, Copy)]
pub struct Call {
    /// Its time.
    pub time: u64,
    /// Process and thread, as bpf_get_current_pid_tgid gives them.
    pub pid_tgid: u64,
    /// [`EGRESS`] or [`INGRESS`].
    pub way: u8,
    /// Bytes moved.
    pub length: u32,
}

/// Bit of enum sock_flags (include/net/sock.h), which tcp_fin and nothing else sets for TCP.
const SOCK_DONE: u32 = 1;

/// Whether the kernel does the socket's TLS: the name of its upper layer (net/tls/tls_main.c,
/// `tcp_tls_ulp_ops`). Where it has none, a null pointer is read, which gives 0.
#[inline(always)]
pub fn has_kernel_tls<P: Pointer>(tcp: P) -> bool {
    let layer = Untyped(tcp.field::<u64>(Field::UlpOps) as *const _);
    layer.field::<u32>(Field::UlpName) == u32::from_ne_bytes(*b"tls\0")
}

/// Tells user space that a direction or a connection ended, and so of the session it carries.
#[inline(always)]
pub fn end(connection: &mut Connection, how: u32, errno: u32, time: u64, pid_tgid: u64) {
    let mut end = End {
        kind: Kind::End as u32,
        how,
        connection: connection.id,
        time,
        errno,
        lost: connection.lost,
        tgid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
    };
    if connection.opened != 0 {
        connection.lost = if send(&end) {
            0
        } else {
            connection.lost.wrapping_add(1)
        };
    }
    if connection.session != 0 {
        end.connection = connection.session;
        end.lost = 0;
        send(&end);
    }
}

#[inline(always)]
fn send(end: &End) -> bool {
    let bytes = core::ptr::from_ref(end).cast();
    // SAFETY: the whole record is initialised.
    unsafe { emit::send(end.connection, bytes, size_of::<End>() as u64, false) }
}

/// What a result of 0 or less says of the connection: an end, an error that ends it, or nothing.
/// `state` is the socket's.
#[inline(always)]
pub fn ending(connection: &Connection, result: i32, way: u8, state: u8) -> Option<(u32, u32)> {
    let tcp = connection.tcp != 0;
    match result {
        // Nobody listens where the last message went; a message may also be empty.
        _ if connection.datagrams != 0 => {
            (result == ECONNREFUSED).then_some((end::ERROR, result.unsigned_abs()))
        }
        // A receive of nothing on an established connection was asked for nothing.
        0 if way == INGRESS && !(tcp && state == TCP_ESTABLISHED) => Some((end::EOF, 0)),
        ECONNRESET | EPIPE | ETIMEDOUT | EHOSTUNREACH => Some((end::ERROR, result.unsigned_abs())),
        _ => None,
    }
}

const TCP_ESTABLISHED: u8 = 1;
const EPIPE: i32 = -32;
const ECONNRESET: i32 = -104;
const ETIMEDOUT: i32 = -110;
const ECONNREFUSED: i32 = -111;
const EHOSTUNREACH: i32 = -113;

/// Tells the end of a connection that user space knows, from wherever the kernel ends it. That it is
/// gone is told of every connection that was introduced, whoever is traced by then: its place in
/// user space's table becomes free.
#[inline(always)]
pub fn over(connection: &mut Connection, how: u32) {
    let known = connection.opened != 0 || connection.session != 0;
    let asked = connection.judgement == Judgement::Wanted
        || connection.session != 0 && connection.judgement == Judgement::Muted;
    if known && (asked || how == end::GONE) {
        // SAFETY: no arguments. The task is whoever made the packet arrive: not said.
        let time = unsafe { bpf_ktime_get_ns() };
        end(connection, how, 0, time, 0);
    }
}

/// Whether a TCP state is one that this end enters by closing or shutting down for sending.
#[inline(always)]
pub fn closing(state: i32) -> bool {
    state == TCP_FIN_WAIT1 || state == TCP_LAST_ACK
}

const TCP_FIN_WAIT1: i32 = 4;
const TCP_LAST_ACK: i32 = 9;

/// Offset of the first byte of a call that moved `length` bytes. TCP's own position decides; it moves
/// by itself where we see no call (splice). Where it has not come as far, another thread's call ran
/// first and told of these bytes as unseen: they keep their place.
#[inline(always)]
pub fn advance(connection: &mut Connection, way: u8, length: u32, position: u32) -> u64 {
    let way = (way & 1) as usize;
    let next = connection.next[way];
    let moved = match connection.tcp {
        0 => length.into(),
        _ => on(next, position),
    };
    let end = next.wrapping_add(moved as u64);
    if moved > 0 {
        connection.next[way] = end;
    }
    end.wrapping_sub(length.into())
}

/// How far a position of TCP's is from an offset: ahead, as one call can move 4 GiB unseen, or a little
/// behind.
#[inline(always)]
fn on(next: u64, position: u32) -> i64 {
    i64::from(position.wrapping_sub(next as u32).wrapping_add(BEHIND)) - i64::from(BEHIND)
}

/// More than threads have on their way at once, bytes.
const BEHIND: u32 = 1 << 28;

/// How far TCP has come with what the process receives. The peer's FIN takes a number of its own, the
/// last one, and is no byte.
#[inline(always)]
pub fn received<P: Pointer>(tcp: P) -> u32 {
    // First, as it may come meanwhile: then nothing is taken for it.
    let fin = fin(tcp);
    let position: u32 = tcp.field(Field::CopiedSeq);
    // Without a branch, which verifiers would walk twice behind it: 1 where nothing is unread.
    let unread = position ^ tcp.field::<u32>(Field::RcvNxt);
    let read = (unread | unread.wrapping_neg()) >> 31 ^ 1;
    position.wrapping_sub(fin & read)
}

#[inline(always)]
fn fin<P: Pointer>(socket: P) -> u32 {
    (socket.field::<u64>(Field::SkFlags) >> SOCK_DONE & 1) as u32
}

/// Whether the peer's FIN has come.
#[inline(always)]
pub fn has_fin<P: Pointer>(socket: P) -> bool {
    fin(socket) != 0
}

/// Bytes that this thread has moved in a direction since it last did so in a call we saw (splice to a
/// pipe, on the fall-back path also io_uring), now that it goes on in the other: their number.
/// Another thread's call may be on its way to be seen, so only the thread that last moved bytes
/// there is asked, and what it says is no more than likely.
#[inline(always)]
pub fn unseen(connection: &mut Connection, way: u8, position: u32, tid: u32) -> u32 {
    let at = (way & 1) as usize;
    if connection.tcp == 0 || connection.way != way || connection.mover[at] != tid {
        return 0;
    }
    // What is behind is another thread's.
    on(connection.next[at], position).max(0) as u32
}

const _: () = assert!(EGRESS == 0 && INGRESS == 1);
