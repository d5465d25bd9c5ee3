//! A `traceparent` line in the first request that a connection carries: the one program that changes what
//! an application sends. Of sockets on a visit (`visit`); why so and no more: docs/decisions/0028-headers.md.

use agent_ebpf::abi::{Counter, EGRESS, Field};
use agent_ebpf::header::{
    BARRED, HEAD, LINE, Look, MESSAGE, PROCESS, Parent, Visit, digit, is_method, seen, stage,
};
use agent_ebpf::key::client_span;
use agent_ebpf::option::UNDECIDED;
use aya_ebpf::bindings::sk_action;
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_msg_pull_data, bpf_msg_push_data,
};
use aya_ebpf::macros::sk_msg;
use aya_ebpf::programs::SkMsgContext;

use crate::carry::tell_of_line;
use crate::emit;
use crate::kernel::{Pointer, Untyped};
use crate::maps::{TOLD, WELCOME, global};
use crate::options::context as context_of;
use crate::party::{Context, party};
use crate::visit::{is_unfit, number, visit_of};

/// A message that a visitor sends.
#[sk_msg]
pub fn inject(context: SkMsgContext) -> u32 {
    // SAFETY: the context's own field.
    let socket = unsafe { (*context.msg).__bindgen_anon_3.sk };
    if !socket.is_null()
        && let Some(visit) = visit_of(socket.cast())
        && visit.stage == stage::INSIDE
    {
        visit.stage = stage::SENT;
        emit::count(first(&context, number(socket.cast()), visit), 1);
    }
    sk_action::SK_PASS
}

/// The first message of a visitor.
#[inline(always)]
fn first(context: &SkMsgContext, socket: Untyped, visit: &Visit) -> Counter {
    if is_unfit(socket) {
        // It was fit when it came in: its process is one that changes sockets.
        // SAFETY: no arguments.
        let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
        let _ = WELCOME.insert(tgid, BARRED, 0);
        return Counter::HeadersUnfit;
    }
    // A call that waited for the connection sends as it would have without.
    if socket.field::<u32>(Field::WriteSeq) != visit.begin {
        return Counter::HeadersLate;
    }
    write(context, socket, visit)
}

#[inline(always)]
fn write(context: &SkMsgContext, socket: Untyped, visit: &Visit) -> Counter {
    let size = context.size();
    if size > MESSAGE {
        return Counter::HeadersHeadless;
    }
    if !pull(context, 0, size.min(HEAD)) {
        return Counter::HeadersRefused;
    }
    let at = match line(context) {
        Ok(at) => at,
        Err(why) => return why,
    };
    let trace = trace(socket, visit);
    let parent = match trace.is_known() {
        true => parent(&trace, socket, visit),
        false => match stand_in(visit.cookie) {
            Some(parent) => parent,
            None => return Counter::HeadersRootless,
        },
    };
    // SAFETY: this program's own context.
    if unsafe { bpf_msg_push_data(context.msg, at, LINE, 0) } != 0 {
        return Counter::HeadersRefused;
    }
    // What was pushed is one piece, so that this takes no memory and cannot fail.
    pull(context, at, at + LINE);
    put(context, &parent);
    // Where this fails the message goes out in pieces: right, and perhaps later.
    pull(context, 0, size + LINE);
    if trace.is_known()
        && let Some(party) = party(visit.cookie)
    {
        party.say(trace, visit.begin);
        tell_of_line(
            visit.cookie,
            (EGRESS, visit.begin.wrapping_add(LINE).into()),
            &trace,
        );
    }
    Counter::HeadersWritten
}

/// The trace of the request that is being sent on a connection, in the sender's call.
#[inline(always)]
fn trace(socket: Untyped, visit: &Visit) -> Context {
    if party(visit.cookie).is_none_or(|party| party.mute != 0) {
        return Context::UNKNOWN;
    }
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    context_of((visit.cookie, 0), socket, visit.begin, pid_tgid)
}

/// What the line says: the span of who sends the request, which is the connection's first.
#[inline(always)]
fn parent(trace: &Context, socket: Untyped, visit: &Visit) -> Parent {
    let server: u32 = socket.field(Field::RcvNxt);
    let span = client_span([visit.begin.into(), server.into()], 0, 0);
    let mut flags = trace.flags as u8;
    if flags & UNDECIDED != 0 || global!(PARENT_BASED) == 0 {
        // As user space will decide (agent/src/policy/sample.rs).
        flags = u8::from(u64::from_be(trace.trace[1]) >> 1 < global!(SAMPLED_BELOW));
    }
    Parent {
        // SAFETY: plain bytes either way.
        trace: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(trace.trace) },
        span: span.to_be_bytes(),
        flags,
        pad: [0; 7],
    }
}

/// What it says on connections of which somebody said so: the agent's own, to see whether this harms them.
#[inline(always)]
fn stand_in(cookie: u64) -> Option<Parent> {
    // SAFETY: copied at once.
    let own = unsafe { TOLD.get(cookie) }.copied();
    if own.is_some() {
        let _ = TOLD.remove(cookie);
        return own;
    }
    // SAFETY: no arguments; copied at once.
    unsafe { TOLD.get(PROCESS | bpf_get_current_pid_tgid() >> 32) }.copied()
}

/// Where the line goes: behind the request line of a whole head.
#[inline(always)]
fn line(context: &SkMsgContext) -> Result<u32, Counter> {
    let (start, end) = (context.data() as *const u8, context.data_end() as *const u8);
    let mut look = Look::default();
    // SAFETY: no byte is read that is not before the end.
    unsafe {
        if start.add(4) > end || !is_method([*start, *start.add(1), *start.add(2), *start.add(3)]) {
            return Err(Counter::HeadersHeadless);
        }
        for index in 0..HEAD {
            let byte = start.add(index as usize);
            if byte.add(1) > end {
                break;
            }
            match look.take(index, *byte) {
                0 => {}
                seen::END => return Ok(look.line()),
                seen::PRESENT => return Err(Counter::HeadersPresent),
                _ => break,
            }
        }
    }
    Err(Counter::HeadersHeadless)
}

#[inline(always)]
fn put(context: &SkMsgContext, parent: &Parent) {
    let (start, end) = (context.data() as *mut u8, context.data_end() as *mut u8);
    let mut at = 0;
    // SAFETY: checked against the end first; as many bytes are written as were checked.
    unsafe {
        if start.add(LINE as usize) > end {
            return;
        }
        let mut write = |byte: u8| {
            start.add(at).write_volatile(byte);
            at += 1;
        };
        for byte in *b"traceparent: 00-" {
            write(byte);
        }
        for byte in parent.trace {
            write(digit(byte >> 4));
            write(digit(byte));
        }
        write(b'-');
        for byte in parent.span {
            write(digit(byte >> 4));
            write(digit(byte));
        }
        write(b'-');
        write(digit(parent.flags >> 4));
        write(digit(parent.flags));
        write(b'\r');
        write(b'\n');
    }
}

/// Makes these bytes one piece that can be read and written.
#[inline(always)]
fn pull(context: &SkMsgContext, from: u32, to: u32) -> bool {
    // SAFETY: this program's own context.
    unsafe { bpf_msg_pull_data(context.msg, from, to, 0) == 0 }
}
