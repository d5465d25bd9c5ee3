//! Which request a unit of execution serves, and in which trace that is.

use agent_ebpf::abi::INGRESS;
use agent_ebpf::abi::unit::{ASKED, KIND, VIRTUAL};
use agent_ebpf::abi::{exact, served, source};
use agent_ebpf::option::UNNAMED;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};

use crate::connection::Connection;
use crate::head::is_preface;
use crate::lineage::{self, FOR_ALL, Member};
use crate::maps::{SERVED, SERVING, SITES, THREADS};
use crate::node::NOBODY;
use crate::party::{Context, Party, party};

/// A request that a unit serves.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Serves {
    /// It.
    request: Request,
    /// The one that it served before, which may not be answered yet.
    before: Request,
    /// When it was read, nanoseconds.
    since: u64,
    /// 1 once it was answered.
    over: u64,
    /// 1 once it served more at once than there is room for: what it does is not known any more.
    beyond: u64,
}

/// Which one of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Request {
    connection: u64,
    turn: u64,
}

impl Request {
    /// None.
    const NONE: Self = Self {
        connection: 0,
        turn: 0,
    };

    /// What is known of it while it is not answered.
    #[inline(always)]
    fn party(&self) -> Option<&'static mut Party> {
        if self.connection == 0 {
            return None;
        }
        party(self.connection).filter(|party| party.turn == self.turn && party.open != 0)
    }

    /// Whether it is answered, as far as is known: what is not known of a connection any more, as there are too
    /// many, was not.
    #[inline(always)]
    fn is_over(&self) -> bool {
        self.connection == 0
            || party(self.connection)
                .is_some_and(|party| party.turn != self.turn || party.open == 0)
    }
}

impl Party {
    /// A request begins to be served by this process, of which so many bytes were read.
    #[inline(always)]
    pub fn begin(&mut self, context: Context, length: u32, pid_tgid: u64) {
        self.turn += 1;
        self.context = context;
        self.open = 1;
        match context.is_known() {
            true => note(served::KNOWN, pid_tgid),
            // What a first byte begins, the next ones say.
            false if length > 1 => note(served::UNKNOWN, pid_tgid),
            false => {}
        }
    }

    /// More of it is read, before it is answered: who does that serves it, as who read a first byte ahead may
    /// not (net/http's connReader).
    #[inline(always)]
    pub fn goes_on(&mut self, first: u64, pid_tgid: u64) {
        self.begun = self.open;
        if is_preface(first) {
            self.context = Context::UNKNOWN;
            note(served::UNKNOWN, pid_tgid);
        }
    }

    /// That one, by this unit.
    #[inline(always)]
    pub fn by(&mut self, connection: u64, unit: u64, pid_tgid: u64) {
        self.reader = 0;
        if unit & KIND == VIRTUAL || unit == NOBODY {
            return;
        }
        if unit & KIND == 0 {
            self.reader = pid_tgid as u32;
        }
        let unit = Member::new(who(unit, pid_tgid), pid_tgid);
        (self.unit, self.connection) = (unit, connection);
        let (mut before, mut beyond) = (Request::NONE, 0);
        let turn = self.turn;
        // SAFETY: no arguments.
        let mut since = unsafe { bpf_ktime_get_ns() };
        // SAFETY: plain numbers, read once.
        if let Some(serves) = unsafe { SERVING.get(unit) } {
            (before, beyond) = (serves.before, serves.beyond);
            if serves.request.connection == connection && serves.request.turn == turn {
                // More of the same: what it started meanwhile, it started for this.
                since = serves.since;
            }
            if serves.request.connection != connection
                && serves.over == 0
                && !serves.request.is_over()
            {
                beyond |= u64::from(!before.is_over());
                before = serves.request;
                if self.reader != 0 && before.party().is_some() {
                    shares_threads(pid_tgid);
                }
            }
        }
        let serves = Serves {
            request: Request { connection, turn },
            before,
            since,
            over: 0,
            beyond,
        };
        let _ = SERVING.insert(unit, serves, 0);
    }
}

/// How this process serves, as in `abi::served`; that can only rise.
#[inline(always)]
pub fn note(now: u32, pid_tgid: u64) {
    let tgid = (pid_tgid >> 32) as u32;
    if SERVED.get_ptr(tgid).is_none() {
        let _ = SERVED.insert(tgid, served::KNOWN, BPF_NOEXIST.into());
    }
    if now != served::KNOWN
        && let Some(before) = SERVED.get_ptr_mut(tgid)
    {
        // SAFETY: a map value, valid for the program's run.
        unsafe { *before = now };
    }
}

/// Bytes were read, and it is known for which unit. A function of its own also to the verifier, for its stack.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn serves(connection: *const Connection) -> u64 {
    // SAFETY: null or valid, which the verifier knows.
    let Some(connection) = (unsafe { connection.as_ref() }) else {
        return 0;
    };
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    if let Some(party) = party(connection.id)
        && party.begun != 0
    {
        party.begun = 0;
        let unit = connection.unit[INGRESS as usize];
        party.by(connection.id, unit, pid_tgid);
    }
    0
}

impl Party {
    /// The answer begins, sent by this thread.
    #[inline(always)]
    pub fn answers(&mut self, pid_tgid: u64) {
        if self.open != 0 && self.reader != 0 && self.reader != pid_tgid as u32 {
            shares_threads(pid_tgid);
        }
        self.over();
    }

    /// No more is done for that request.
    #[inline(always)]
    fn over(&mut self) {
        if self.open == 0 {
            return;
        }
        self.open = 0;
        if let Some(serves) = SERVING.get_ptr_mut(self.unit) {
            let request = Request {
                connection: self.connection,
                turn: self.turn,
            };
            // SAFETY: a map value, valid for the program's run.
            let serves = unsafe { &mut *serves };
            if serves.request == request {
                serves.over = 1;
            }
            if serves.before == request {
                serves.before = Request::NONE;
            }
        }
    }
}

/// Threads of this process serve several requests at once: user space will find so, too
/// (agent/src/trace/units.rs).
#[inline(always)]
fn shares_threads(pid_tgid: u64) {
    let _ = THREADS.remove((pid_tgid >> 32) as u32);
}

/// Whether that of this process serves one request at a time, of `abi::exact`.
#[inline(always)]
pub fn is_exact(what: u32, pid_tgid: u64) -> bool {
    // SAFETY: a u32 read once.
    let known = unsafe { THREADS.get((pid_tgid >> 32) as u32) };
    known.is_some_and(|known| *known & what != 0)
}

/// This end will not answer any more.
#[inline(always)]
pub fn over(connection: u64) {
    if let Some(party) = party(connection) {
        party.over();
    }
}

/// A unit, or the thread where there is none that is finer.
#[inline(always)]
pub fn who(unit: u64, pid_tgid: u64) -> u64 {
    match unit & !ASKED {
        0 => pid_tgid & 0xffff_ffff,
        unit => unit,
    }
}

/// What is found above a unit.
pub enum Above {
    /// A request's trace.
    Serving(Context),
    /// It cannot be told which.
    Unclear,
    /// Nobody's request.
    Nothing,
}

/// What a unit serves, or the nearest of those that started it served then. As user space knows it
/// (agent/src/trace/descent.rs): who outlives the request that it was started for works for all, and so may
/// others that are started there; who sends for others is not what it was started for. User space waits until
/// that would have shown; what is decided here cannot wait, so a place of the program is first watched for a
/// while. Behind an answer's first byte it is user space that knows where that ends.
#[inline(always)]
pub fn above(unit: u64, pid_tgid: u64) -> Above {
    let (mut at, mut time, mut site) = (who(unit, pid_tgid), u64::MAX, 0u64);
    let (mut own, mut answered, mut born) = (unit & ASKED != 0, false, 0u64);
    for births in 0..ABOVE {
        match served((at, time), pid_tgid) {
            Served::Open(context, _) if births == 0 => return Above::Serving(context),
            Served::Open(context, request) => {
                return match own && is_fresh(born) && is_proven(site, request, pid_tgid) {
                    true => Above::Serving(context),
                    false => Above::Unclear,
                };
            }
            Served::Over if births > 0 => {
                lasts(site, pid_tgid);
                return Above::Unclear;
            }
            Served::Over => answered = true,
            Served::Nothing => {}
            Served::Unclear => return Above::Unclear,
        }
        let Some(birth) = lineage::birth(at, pid_tgid) else {
            break;
        };
        if births == 0 && birth.own == FOR_ALL {
            return Above::Unclear;
        }
        if births == 0 {
            own |= birth.own != 0;
            born = birth.time;
        }
        site = site.rotate_left(1).wrapping_add(birth.site);
        time = birth.time;
        at = birth.parent & !ASKED;
        if at & KIND == 0 && !is_exact(exact::THREADS, pid_tgid) {
            return Above::Unclear;
        }
    }
    // An answer that has begun may go on, and so may calls for it.
    match answered {
        true => Above::Unclear,
        false => Above::Nothing,
    }
}

/// Most births between a unit and what serves the request.
const ABOVE: usize = 8;

/// A place in a program where units are started for requests.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Site {
    /// The first request that was seen to have one started there, which called.
    first: Request,
    /// When that was, nanoseconds; [`LASTING`] once a unit outlived its request.
    since: u64,
}

/// What is started there outlives the request that it is started for; 0 is where what is for one is.
#[inline(always)]
fn lasts(site: u64, pid_tgid: u64) {
    if site != 0 {
        let lasting = Site {
            first: Request::NONE,
            since: LASTING,
        };
        let _ = SITES.insert(Member::new(site, pid_tgid), lasting, 0);
    }
}

/// Whether what is started there was watched for long enough, until behind the end of the first request, and
/// never outlived its own. A call for this request is watched from now on, where none was.
#[inline(always)]
fn is_proven(site: u64, request: Request, pid_tgid: u64) -> bool {
    if site == 0 {
        return true;
    }
    let place = Member::new(site, pid_tgid);
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: plain numbers, read once.
    let Some(known) = (unsafe { SITES.get(place) }) else {
        let watched = Site {
            first: request,
            since: now,
        };
        let _ = SITES.insert(place, watched, BPF_NOEXIST.into());
        return false;
    };
    now.saturating_sub(known.since) > WATCHED && known.first.is_over()
}

/// Whether a unit was started so lately that user space would still believe that it works for who had it
/// started (agent/src/trace/descent.rs, `LONGEST`): one that is idle, while that request goes on for long,
/// may be given other work.
#[inline(always)]
fn is_fresh(born: u64) -> bool {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_ns() }.wrapping_sub(born) < LONGEST
}

/// In [`Site::since`].
const LASTING: u64 = u64::MAX;
/// How long a place is watched, nanoseconds.
const WATCHED: u64 = 1_000_000_000;
/// How long a unit works for one request, nanoseconds.
const LONGEST: u64 = 5_000_000_000;

/// What a unit served at a moment.
enum Served {
    /// A request that is not answered yet, in this trace.
    Open(Context, Request),
    /// One that is answered.
    Over,
    /// Several at once.
    Unclear,
    /// Nothing that is known.
    Nothing,
}

#[inline(always)]
fn served((unit, time): (u64, u64), pid_tgid: u64) -> Served {
    // SAFETY: plain numbers, read once.
    let Some(serves) = (unsafe { SERVING.get(Member::new(unit, pid_tgid)) }) else {
        return Served::Nothing;
    };
    // What it served before then is over.
    if serves.since > time || serves.over != 0 {
        return Served::Over;
    }
    let Some(party) = serves.request.party() else {
        return match serves.request.is_over() {
            true => Served::Over,
            false => Served::Unclear,
        };
    };
    if serves.beyond != 0 || !serves.before.is_over() {
        return Served::Unclear;
    }
    let mut context = party.context;
    if !context.is_known() {
        return Served::Unclear;
    }
    context.flags &= !u32::from(UNNAMED);
    context.source = source::SERVED.into();
    Served::Open(context, serves.request)
}
