//! Which turns of Node.js's event loops calls' answers began, and which requests were answered in them.
//!
//! A turn that began with the answer to one call, and in which one request was answered, says that the
//! call was made for this request. It says so of calls whose own turn says nothing, as who made them went
//! on with another's answer or had waited for a pooled connection.
//!
//! Where it says otherwise than the turn that the call was made in, one let another go on, by a lock of the
//! program's own. Then neither is believed, and in that process no turn any more that does not say so
//! twice.

use std::collections::VecDeque;

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

use super::linker::Linker;
use super::table::{Entry, Handle};
use super::units::{Runtime, Serving, Unit, Who};
use crate::event::Role;

/// Turns that calls' answers began. Bounded: what was first told goes first.
#[derive(Debug)]
pub(super) struct Turns {
    turns: HashMap<Who, Turn>,
    order: VecDeque<Who>,
    crossed: HashSet<u32>,
    crossed_order: VecDeque<u32>,
    capacity: usize,
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
            crossed: HashSet::new(),
            crossed_order: VecDeque::new(),
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

    fn cross(&mut self, process: u32) -> bool {
        if !self.crossed.insert(process) {
            return false;
        }
        self.crossed_order.push_back(process);
        if self.crossed_order.len() > self.capacity
            && let Some(oldest) = self.crossed_order.pop_front()
        {
            self.crossed.remove(&oldest);
        }
        true
    }
}

impl Linker {
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
        match (made, last) {
            (Some(made), Some(last)) if made != last => {
                if self.turns.cross(process) {
                    self.stats.trace_turns_crossed.add(1);
                    self.epoch = self.epoch.wrapping_add(1);
                }
                None
            }
            (Some(made), None) => (!self.turns.crossed.contains(&process)).then_some(made),
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
