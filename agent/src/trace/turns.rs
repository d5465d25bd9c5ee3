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
//! is watched for a while from its first call on, and carries nothing meanwhile; one whose turns cross tells
//! nothing from then on.

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
    trust: HashMap<u32, Trust>,
    trusted: VecDeque<u32>,
    /// Who is watched for a first request, and until when.
    watched: VecDeque<(Nanos, u32, Option<Handle>)>,
    /// Who was watched for long enough since this was last asked.
    proven: Vec<u32>,
    capacity: usize,
}

/// What the turns of a process are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// They have not crossed.
    Whole,
    /// They have.
    Crossed,
}

#[derive(Debug, Default)]
struct Turn {
    /// Calls that were made in it, and the last.
    made: usize,
    call: Option<Handle>,
    /// Calls whose answers began it.
    calls: usize,
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
            trust: HashMap::new(),
            trusted: VecDeque::new(),
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

    /// What is thought of a process is this; false where it was already.
    fn trust(&mut self, process: u32, trust: Trust) -> bool {
        let before = self.trust.insert(process, trust);
        if before.is_none() {
            self.trusted.push_back(process);
            if self.trusted.len() > self.capacity
                && let Some(oldest) = self.trusted.pop_front()
            {
                self.trust.remove(&oldest);
            }
        }
        before != Some(trust)
    }

    fn has_crossed(&self, process: u32) -> bool {
        self.trust.get(&process) == Some(&Trust::Crossed)
    }

    /// A process makes a call, for that request as far as is known.
    fn watch(&mut self, process: u32, at: Nanos, request: Option<Handle>) {
        if !self.trust.contains_key(&process) {
            self.trust(process, Trust::Whole);
            let until = at.saturating_add(WATCHED);
            self.watched.push_back((until, process, request));
        }
    }

    /// It is another program from now on.
    pub fn forget(&mut self, process: u32) {
        self.trust.remove(&process);
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
            let known = request.and_then(|request| self.table.get(request));
            if known.is_some_and(|request| self.watermark <= request.answered) {
                let later = self.watermark.saturating_add(WATCHED);
                self.turns.watched.push_back((later, process, request));
            } else if self.turns.trust.get(&process) == Some(&Trust::Whole) {
                self.turns.proven.push(process);
            }
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
            Role::Client => turn.calls = turn.calls.saturating_add(1),
            Role::Server => {
                turn.requests = turn.requests.saturating_add(1);
                turn.request = Some(handle);
            }
        }
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
        let start = entry.start;
        self.turns.watch(process, start, made.or(last));
        match (made, last) {
            (Some(made), Some(last)) if made != last => {
                if self.turns.trust(process, Trust::Crossed) {
                    self.sharers.push(process);
                    self.stats.trace_turns_crossed.add(1);
                    self.epoch = self.epoch.wrapping_add(1);
                }
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
