//! Which turns of Node.js's event loops calls' answers began, and which requests were answered in them.
//!
//! A turn that began with the answer to one call, and in which one request was answered, says that the
//! call was made for this request. It says so of calls whose own turn says nothing, as who made them went
//! on with another's answer or had waited for a pooled connection.
//!
//! Where it says otherwise than the turn that the call was made in, one let another go on, by a lock of the
//! program's own. Then neither is believed, and in that process no turn any more that does not say so
//! twice.
//!
//! The kernel side cannot wait for an answer's turn when it tells another host whose a call is. So a process
//! is watched for a while, from the first call on that it makes for a request, and tells nothing meanwhile;
//! nor does one any more whose turns have crossed.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt as _};

use super::linker::Linker;
use super::table::{Entry, Handle};
use super::units::{Runtime, Serving, Unit, Who};
use crate::event::{Nanos, Role};

/// Turns that calls' answers began. Bounded: what was first told goes first.
#[derive(Debug)]
pub(super) struct Turns {
    turns: HashMap<Who, Turn>,
    order: VecDeque<Who>,
    processes: HashMap<u32, Trust>,
    /// In the order they were first seen.
    seen: VecDeque<u32>,
    /// Those that are watched, until when, and for whose end.
    watched: VecDeque<(Nanos, u32, Handle)>,
    /// Who was watched for long enough since this was last asked.
    proven: Vec<u32>,
    capacity: usize,
}

/// What the turns of a process are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// It is watched until then.
    Watched(Nanos),
    /// It was watched for long enough, and they did not cross.
    Proven,
    /// They have crossed.
    Crossed,
    /// It ended then, or became another program.
    Gone(Nanos),
}

#[derive(Debug, Default)]
struct Turn {
    /// Calls that were made in it, and the last.
    made: usize,
    call: Option<Handle>,
    /// Calls whose answers began it, and the last.
    calls: usize,
    answered: Option<Handle>,
    /// Requests that were answered in it, and the last.
    requests: usize,
    request: Option<Handle>,
}

impl Turns {
    /// At most so many, and as many processes.
    pub fn new(capacity: usize) -> Self {
        Self {
            turns: HashMap::new(),
            order: VecDeque::new(),
            processes: HashMap::new(),
            seen: VecDeque::new(),
            watched: VecDeque::new(),
            proven: Vec::new(),
            capacity,
        }
    }

    fn turn(&mut self, who: Who) -> &mut Turn {
        if !self.turns.contains_key(&who) {
            self.order.push_back(who);
            if self.order.len() > self.capacity
                && let Some(oldest) = self.order.pop_front()
            {
                self.turns.remove(&oldest);
            }
        }
        self.turns.entry(who).or_default()
    }

    /// A turn that the answer to one call began.
    fn begun(&self, who: Who) -> Option<&Turn> {
        self.turns.get(&who).filter(|turn| turn.calls == 1)
    }

    fn trust(&mut self, process: u32, trust: Trust) {
        if self.processes.insert(process, trust).is_some() {
            return;
        }
        self.seen.push_back(process);
        if self.seen.len() > self.capacity
            && let Some(oldest) = self.seen.pop_front()
        {
            self.processes.remove(&oldest);
        }
    }

    fn has_crossed(&self, process: u32) -> bool {
        self.processes.get(&process) == Some(&Trust::Crossed)
    }

    /// A process has made a call, then, for that request.
    fn watch(&mut self, process: u32, start: Nanos, request: Handle) {
        let known = self.processes.get(&process);
        if known.is_none_or(|trust| matches!(trust, Trust::Gone(when) if *when < start)) {
            let until = start.saturating_add(WATCHED);
            self.trust(process, Trust::Watched(until));
            self.watched.push_back((until, process, request));
        }
    }

    /// It has ended, or is another program from now on: that is to be watched anew. What has crossed is believed
    /// no more by itself, whoever has its number: its last calls may be yet to be linked.
    pub fn forget(&mut self, process: u32, now: Nanos) {
        if let Some(trust) = self.processes.get_mut(&process)
            && *trust != Trust::Crossed
        {
            *trust = Trust::Gone(now);
        }
    }
}

impl Linker {
    /// Processes whose turns were found to be evidence by themselves since this was last asked.
    pub fn proven(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.turns.proven)
    }

    /// Those that were watched for long enough, until behind the end of the first request.
    pub(super) fn prove_turns(&mut self) {
        while let Some((until, process, request)) = self.turns.watched.front().copied()
            && until <= self.watermark
        {
            self.turns.watched.pop_front();
            if self.turns.processes.get(&process) != Some(&Trust::Watched(until)) {
                continue;
            }
            let known = self.table.get(request);
            if known.is_some_and(|request| self.watermark <= request.answered) {
                let later = self.watermark.saturating_add(WATCHED);
                self.turns.trust(process, Trust::Watched(later));
                self.turns.watched.push_back((later, process, request));
            } else {
                self.turns.trust(process, Trust::Proven);
                self.turns.proven.push(process);
            }
        }
    }

    /// One request of a process let another go on.
    fn cross(&mut self, process: u32) {
        if !self.turns.has_crossed(process) {
            self.turns.trust(process, Trust::Crossed);
            self.sharers.push(process);
            self.stats.trace_turns_crossed.add(1);
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    /// Takes in that an exchange is over: in which turn its answer was read or written.
    pub(super) fn note_turn(&mut self, handle: Handle) {
        let Some(entry) = self.table.get(handle) else {
            return;
        };
        let (Some(who), role) = (turn_of(entry), entry.role) else {
            return;
        };
        if !self.settings.node {
            return;
        }
        let turn = self.turns.turn(who);
        match role {
            Role::Client => {
                turn.calls = turn.calls.saturating_add(1);
                turn.answered = Some(handle);
            }
            Role::Server => {
                turn.requests = turn.requests.saturating_add(1);
                turn.request = Some(handle);
                if self.is_anothers(who, handle) == Some(true) {
                    self.cross(who.0);
                }
            }
        }
    }

    /// Whether the calls that led to the turn in which a request was answered began in the turn of another one:
    /// the way of [`answered_at_last`](Self::answered_at_last) backwards, as long after a call as it takes.
    fn is_anothers(&self, who: Who, request: Handle) -> Option<bool> {
        let mut turn = self.turns.begun(who).filter(|turn| turn.requests == 1)?;
        for _ in 0..MOST_CALLS {
            let call = self.table.get(turn.answered?)?;
            let who = (call.process, call.unit?);
            match self.units.serving(who, call.start) {
                Serving::One(made, _) => return Some(made != request),
                Serving::Unclear => return None,
                Serving::Nothing => {
                    turn = (self.turns.begun(who))
                        .filter(|turn| turn.made == 1 && turn.requests == 0)?;
                }
            }
        }
        None
    }

    /// Takes in that a call is made, in its unit's turn.
    pub(super) fn make_in_turn(&mut self, handle: Handle) {
        let entry = self.table.get(handle);
        let Some((process, unit)) = entry.and_then(|entry| Some((entry.process, entry.unit?)))
        else {
            return;
        };
        if self.settings.node && matches!(unit, Unit::Of(Runtime::Node, 1..)) {
            let turn = self.turns.turn((process, unit));
            turn.made = turn.made.saturating_add(1);
            turn.call = Some(handle);
        }
    }

    /// The one request that was answered in the turn that a call's answer began.
    fn answered_by_turn(&self, call: &Entry) -> Option<Handle> {
        let turn = self.turns.begun(turn_of(call)?)?;
        let request = turn.request.filter(|_| turn.requests == 1)?;
        let known = self.table.get(request)?;
        (known.from <= call.start && call.start <= known.answered).then_some(request)
    }

    /// The same, or else of the one call that was made in that turn, and so on. That others let each other
    /// go on is not excluded.
    fn answered_at_last(&self, call: &Entry) -> Option<Handle> {
        let mut call = call;
        for _ in 0..MOST_CALLS {
            let turn = self.turns.begun(turn_of(call)?)?;
            if turn.requests != 0 {
                return self.answered_by_turn(call);
            }
            call = self.table.get(turn.call.filter(|_| turn.made == 1)?)?;
        }
        None
    }

    /// What a call was made for, by the turn in which it was made and the one that its answer began.
    pub(super) fn by_turn(&mut self, handle: Handle) -> Option<Handle> {
        let entry = self.table.get(handle)?;
        let process = entry.process;
        let made = match self.units.serving((process, entry.unit?), entry.start) {
            Serving::One(serving, _) => Some(serving),
            Serving::Nothing => None,
            Serving::Unclear => return None,
        };
        let answered = self.answered_by_turn(entry);
        let last = self.answered_at_last(entry);
        if let Some(request) = made.or(last) {
            let start = entry.start;
            self.turns.watch(process, start, request);
        }
        match (made, last) {
            (Some(made), Some(last)) if made != last => {
                self.cross(process);
                None
            }
            (Some(made), None) => (!self.turns.has_crossed(process)).then_some(made),
            (Some(made), Some(_)) => Some(made),
            (None, _) => answered,
        }
    }
}

/// The turn in which the answer began.
fn turn_of(entry: &Entry) -> Option<Who> {
    let mark = entry.exchange.as_ref()?.response_start?;
    match Unit::of(mark.execution)? {
        unit @ Unit::Of(Runtime::Node, 1..) => Some((mark.execution.process, unit)),
        _ => None,
    }
}

/// Most calls one after the other that are looked through.
const MOST_CALLS: usize = 8;
/// How long a process is watched, nanoseconds.
const WATCHED: Nanos = 1_000_000_000;
