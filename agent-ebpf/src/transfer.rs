//! One transfer of a call on the fall-back path: the socket behind its descriptor, what is kept of
//! it, where in the stream its bytes are, and who delivers them.

use agent_ebpf::abi::{Counter, EGRESS, Field, INGRESS, hole};
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_smp_processor_id, bpf_ktime_get_ns,
};
use aya_ebpf::programs::RawTracePointContext;
use core::ffi::c_void;

use crate::arch::{Arguments, NO_SYSCALL, call};
use crate::connection::{self, BLANK, Call, Connection, Judgement};
use crate::emit;
use crate::goroutine;
use crate::introduction::{self, Name, Net};
use crate::iovec::Walker;
use crate::kernel::{Pointer, Untyped, read};
use crate::maps::{DELIVER, DELIVERY, SOCKETS};
use crate::payload::{self, Buffer};
use crate::python;
use crate::session;

/// Where the bytes of a transfer that was found are delivered.
#[derive(Clone, Copy)]
pub enum Rest {
    /// In the same program: kernels with bpf_loop.
    Here,
    /// In a program of its own, by a tail call with this context: verifiers before 5.17 walk through
    /// the second half once for each way through the first, and have no patience for the product.
    Called(*mut c_void),
}

/// What of a call is being looked at. Kept in a map, as a walk over iovecs is.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Transfers {
    /// As the call was asked, or of one message.
    pub arguments: Arguments,
    /// As bpf_get_current_pid_tgid gives it.
    pub pid_tgid: u64,
    /// Array of a call for several messages, else 0.
    pub array: u64,
    /// Bytes of the call's messages that were not looked at yet; the result of any other call.
    pub left: i64,
    /// Whether TCP throws away what is received.
    pub discards: bool,
}

/// Which way a call moves bytes.
#[inline(always)]
fn way(arguments: &Arguments) -> u8 {
    match arguments.number {
        call::READ
        | call::READV
        | call::RECVFROM
        | call::RECVMSG
        | call::RECVMMSG
        | call::PREADV2 => INGRESS,
        _ => EGRESS,
    }
}

/// That way, and the socket; of splice's two descriptors, the one that is a socket.
#[inline(always)]
fn end_of(arguments: &Arguments) -> (u8, Option<(Untyped, u32)>) {
    let found = socket_of(arguments.value[0]);
    if arguments.number != call::SPLICE {
        return (way(arguments), found);
    }
    match found {
        Some(_) => (INGRESS, found),
        None => (EGRESS, socket_of(arguments.value[2])),
    }
}

/// One transfer, or one message of several.
#[inline(always)]
pub fn transfer(transfers: &Transfers, result: i32, rest: Rest) {
    // Read from the map wherever it is asked for: it takes no room on the stack.
    let arguments = &transfers.arguments;
    let pid_tgid = transfers.pid_tgid;
    let (way, found) = end_of(arguments);
    let Some((socket, inode)) = found else { return };
    let Some(tcp) = connection::kind_of(socket) else {
        return;
    };
    // SAFETY: no arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    let Some(state) = state_of(socket, inode, tcp, time, result) else {
        return;
    };
    let wanted = state.wanted_by((pid_tgid >> 32) as u32);
    if !wanted && state.judgement != Judgement::Muted {
        return;
    }
    if result <= 0 {
        session::tried(state);
        if result != 0 || arguments.value[2] != 0 {
            ended(state, socket, (result, way), time, pid_tgid);
        }
        return;
    }
    let call = Call {
        time,
        pid_tgid,
        way,
        length: result as u32,
    };
    goroutine::note(state, arguments, socket.address(), &call);
    if state.habits != 0
        && let Some((_, session)) = session::bind(state, arguments, pid_tgid, way)
        && !introduce(session.name(), socket, tcp, call)
    {
        session::untold(session);
    }
    if !state.is_told(wanted, way) {
        return;
    }
    let left = transfers.left as u32;
    let expected = (state.next[(way & 1) as usize] as u32).wrapping_add(call.length);
    let mut at = position(socket, tcp, way, expected.wrapping_add(left)).wrapping_sub(left);
    if state.opened == 0 {
        if way == INGRESS && tcp {
            python::reads(state.habits, socket.field(Field::LastSent), pid_tgid);
        }
        if !open(state, socket, tcp, call, (at, left)) {
            return;
        }
    } else if transfers.array != 0 && matches!(rest, Rest::Called(_)) {
        // How far the call's other messages have brought TCP, nobody has added up on an old kernel.
        at = expected;
    }
    let offset = connection::advance(state, way, call.length, at);
    if tcp {
        opposite(state, socket, call);
    }
    state.mover[(way & 1) as usize] = pid_tgid as u32;
    pass_on(state, transfers, (socket, tcp), (call, offset), rest);
}

/// Has the bytes of a transfer delivered.
#[inline(always)]
fn pass_on(
    state: &mut Connection,
    transfers: &Transfers,
    (socket, tcp): (Untyped, bool),
    (call, offset): (Call, u64),
    rest: Rest,
) {
    let arguments = &transfers.arguments;
    let discarded = tcp && transfers.discards;
    match rest {
        Rest::Here => {
            let buffer = if discarded {
                Buffer::none(hole::NO_BUFFER)
            } else {
                Buffer::of(arguments, call.way)
            };
            payload::deliver(state, &buffer, call, offset, Walker::Loop, false);
        }
        Rest::Called(context) => {
            let mut arguments = *arguments;
            if discarded {
                arguments.number = NO_SYSCALL;
            }
            hand_on(context, Delivery::new(arguments, call, offset, socket));
            // It came back: nobody delivers.
            state.lost = state.lost.wrapping_add(1);
        }
    }
}

/// Introduces a connection at the first of a call's transfers, which ends `at` this position and `left`
/// bytes before the call does; whether that was told.
#[inline(always)]
fn open(
    state: &mut Connection,
    socket: Untyped,
    tcp: bool,
    call: Call,
    (at, left): (u32, u32),
) -> bool {
    let whole = Call {
        length: call.length.wrapping_add(left),
        ..call
    };
    let told = introduce(Name::own(state.id), socket, tcp, whole);
    if told {
        state.begin(tcp.then_some(socket), call.way, call.length, at);
    } else {
        state.lost = state.lost.wrapping_add(1);
    }
    told
}

/// After a call that moved nothing, though it was asked to.
#[inline(always)]
fn ended(
    state: &mut Connection,
    socket: Untyped,
    (result, way): (i32, u8),
    time: u64,
    pid_tgid: u64,
) {
    python::refuses(state, result, way);
    if state.opened == 0 && state.session == 0 {
        return;
    }
    let now = socket.field(Field::SkState);
    if let Some((how, errno)) = connection::ending(state, result, way, now) {
        connection::end(state, how, errno, time, pid_tgid);
    }
}

/// Goes on in the other program, and does not come back.
#[inline(always)]
fn hand_on(context: *mut c_void, delivery: Delivery) {
    if let Some(slot) = DELIVERY.get_ptr_mut(0) {
        // SAFETY: this CPU's slot and context; these kernels run tracing programs without preemption.
        unsafe {
            slot.write(delivery);
            DELIVER.tail_call(&RawTracePointContext::new(context), 0);
        }
    }
}

/// A transfer on its way to the program that delivers its bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Delivery {
    arguments: Arguments,
    call: Call,
    offset: u64,
    /// Key of [`SOCKETS`].
    socket: u64,
}

impl Delivery {
    #[inline(always)]
    fn new(arguments: Arguments, call: Call, offset: u64, socket: Untyped) -> Self {
        Self {
            arguments,
            call,
            offset,
            socket: socket.address(),
        }
    }

    #[inline(always)]
    fn go(&self, state: &mut Connection, walker: Walker) {
        let buffer = Buffer::of(&self.arguments, self.call.way);
        payload::deliver(state, &buffer, self.call, self.offset, walker, false);
    }
}

/// The second half of a transfer.
#[inline(always)]
pub fn deliver() -> i32 {
    let Some(slot) = DELIVERY.get_ptr(0) else {
        return 0;
    };
    // SAFETY: written by the program that called this one, on this CPU.
    let delivery = unsafe { *slot };
    // The entry can have made room for another since: then the next call finds a new connection.
    if let Some(state) = SOCKETS.get_ptr_mut(delivery.socket) {
        // SAFETY: a map value, valid for the program's run.
        delivery.go(unsafe { &mut *state }, Walker::Unrolled);
    }
    0
}

/// Tells of what went the other way unseen.
#[inline(always)]
fn opposite(state: &mut Connection, socket: Untyped, call: Call) {
    let way = call.way ^ 1;
    let expected = state.next[(way & 1) as usize] as u32;
    let at = position(socket, true, way, expected);
    let bytes = connection::unseen(state, way, at, call.pid_tgid as u32);
    if bytes > 0 {
        payload::deliver_unseen(state, call, way, bytes);
    }
}

/// How far TCP is. Where that is as far as is expected, no FIN was read, and none is looked for.
#[inline(always)]
fn position(socket: Untyped, tcp: bool, way: u8, expected: u32) -> u32 {
    match (tcp, way) {
        (false, _) => 0,
        (true, EGRESS) => socket.field(Field::WriteSeq),
        (true, _) if socket.field::<u32>(Field::CopiedSeq) == expected => expected,
        (true, _) => connection::received(socket),
    }
}

/// Inlined: with any function of its own in a program, verifiers before 6.2 track every number
/// exactly and lose patience.
#[inline(always)]
fn introduce(name: Name, socket: Untyped, tcp: bool, call: Call) -> bool {
    introduction::introduce(
        name,
        socket,
        tcp.then_some(socket),
        Net::untyped(socket),
        call,
    )
}

/// The socket behind a descriptor of the current process, and its inode number.
#[inline(always)]
pub fn socket_of(fd: u64) -> Option<(Untyped, u32)> {
    // SAFETY: no arguments.
    let task = Untyped(unsafe { bpf_get_current_task() } as *const c_void);
    let files = Untyped(task.field::<u64>(Field::TaskFiles) as *const c_void);
    let table = Untyped(files.field::<u64>(Field::FilesFdt) as *const c_void);
    let fd = fd as u32;
    if fd >= table.field::<u32>(Field::FdtableMaxFds) {
        return None;
    }
    let slots = table.field::<u64>(Field::FdtableFd) as *const c_void;
    // SAFETY: an address only; the read checks it.
    let file = read::<u64>(unsafe { slots.byte_add(8 * fd as usize) }, 0);
    let file = Untyped(file as *const c_void);
    let inode = Untyped(file.field::<u64>(Field::FileInode) as *const c_void);
    if inode.field::<u16>(Field::InodeMode) & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket = Untyped(file.field::<u64>(Field::FilePrivateData) as *const c_void);
    let sk = socket.field::<u64>(Field::SocketSk);
    (sk != 0).then_some((
        Untyped(sk as *const c_void),
        inode.field::<u64>(Field::InodeIno) as u32,
    ))
}

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// The state of a socket by its address; the inode tells whether the address is a new socket's.
#[inline(always)]
fn state_of(
    socket: Untyped,
    inode: u32,
    tcp: bool,
    time: u64,
    result: i32,
) -> Option<&'static mut Connection> {
    let key = socket.address();
    // Another thread may be making it at this moment: then it is theirs.
    let mut flags = u64::from(BPF_NOEXIST);
    if let Some(found) = SOCKETS.get_ptr_mut(key) {
        // SAFETY: a map value, valid for the program's run.
        let found = unsafe { &mut *found };
        if found.inode == inode && found.id != 0 {
            return Some(found);
        }
        flags = BPF_ANY.into();
    }
    if result <= 0 {
        return None;
    }
    // SAFETY: no arguments. Time and CPU name the connection: a CPU makes one a nanosecond at most.
    let id = (time << 8) | u64::from(unsafe { bpf_get_smp_processor_id() } & 0xff);
    let blank = &BLANK;
    let _ = SOCKETS.insert(key, blank, flags);
    let Some(made) = SOCKETS.get_ptr_mut(key) else {
        emit::count(Counter::NoState, 1);
        return None;
    };
    // SAFETY: as above; who meets it without its name makes it anew.
    let made = unsafe { &mut *made };
    if made.inode == inode && made.id != 0 {
        return Some(made);
    }
    made.tcp = tcp.into();
    made.datagrams = connection::has_datagrams(socket).into();
    made.inode = inode;
    made.id = id;
    Some(made)
}
