//! The taps of one connection's exchanges: what they are shown, and when they tell.
//!
//! Never true here: that one is shown more of a body than it wants, or asked what it weighs before that
//! can have changed.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::{ALL, Head, Look, Said, Tap};
use crate::connection::Mark;
use crate::protocol::{Feed, Flow, Message, Pairing, Part, Revision};
use crate::stats::Stats;

/// Most exchanges of a connection that have a tap at once.
pub const MAX_TAPS: usize = 128;

/// The taps of one connection's exchanges, by their pairing.
#[derive(Debug)]
pub struct Taps {
    open: BTreeMap<u64, Box<Tapped>>,
    /// What they weigh together.
    weight: usize,
    /// Whether any are wanted.
    enabled: bool,
    /// What the exchanges are called by.
    protocol: &'static str,
    pairing: fn(u64) -> Pairing,
}

/// The taps of one exchange.
#[derive(Debug, Default)]
pub struct Tapped {
    taps: SmallVec<[Candidate; 1]>,
    said: Said,
    /// Whether all was asked, and whether the answer has begun.
    asked: bool,
    answered: bool,
}

#[derive(Debug)]
struct Candidate {
    tap: Box<dyn Tap>,
    request: Body,
    response: Body,
}

/// A body, to one tap.
#[derive(Debug, Default)]
struct Body {
    /// Bytes that it is still shown.
    left: u64,
    /// Whether it was told the end.
    over: bool,
}

impl Candidate {
    fn new(tap: Box<dyn Tap>) -> Self {
        Self {
            tap,
            request: Body::default(),
            response: Body::default(),
        }
    }

    fn body(&mut self, flow: Flow) -> &mut Body {
        match flow {
            Flow::Request => &mut self.request,
            Flow::Response => &mut self.response,
        }
    }

    fn end(&mut self, flow: Flow, whole: bool, said: &mut Said) {
        let body = self.body(flow);
        body.left = 0;
        if !std::mem::replace(&mut body.over, true) {
            self.tap.end(flow, whole, said);
        }
    }

    /// Whether it may still be its.
    fn read(&mut self, flow: Flow, bytes: &[u8], said: &mut Said) -> bool {
        let left = self.body(flow).left;
        if left == 0 {
            return true;
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let shown = bytes.get(..most).unwrap_or(bytes);
        match self.tap.read(flow, shown) {
            Look::More => {
                let left = left.saturating_sub(shown.len() as u64);
                self.body(flow).left = left;
                if left == 0 {
                    self.end(flow, false, said);
                }
                true
            }
            Look::Enough => {
                self.body(flow).left = 0;
                true
            }
            Look::Not => false,
        }
    }
}

impl Tapped {
    /// Taps on an exchange whose request has this head, if it may be anybody's.
    fn of(head: &Head<'_>) -> Option<Box<Self>> {
        let mut tapped: Option<Box<Self>> = None;
        for application in ALL {
            if let Some(tap) = application.asked(head) {
                let taps = &mut tapped.get_or_insert_default().taps;
                taps.push(Candidate::new(tap));
            }
        }
        if let Some(tapped) = &mut tapped {
            tapped.begin(Flow::Request, head);
        }
        tapped
    }

    fn begin(&mut self, flow: Flow, head: &Head<'_>) {
        self.answered |= flow == Flow::Response;
        for candidate in &mut self.taps {
            match head.is_coded() {
                true => candidate.end(flow, false, &mut self.said),
                false => candidate.body(flow).left = candidate.tap.budget(flow),
            }
        }
    }

    fn end(&mut self, flow: Flow, whole: bool) {
        for candidate in &mut self.taps {
            candidate.end(flow, whole, &mut self.said);
        }
    }

    fn each(&mut self, mut keep: impl FnMut(&mut Candidate, &mut Said) -> bool) {
        let said = &mut self.said;
        self.taps.retain(|candidate| keep(candidate, said));
    }

    fn needs_whole(&self) -> bool {
        let awaits = |c: &Candidate| !self.answered || c.response.left > 0;
        let mut all = self.taps.iter();
        self.asked && all.any(|c| awaits(c) && c.tap.needs_whole())
    }

    fn weight(&self) -> usize {
        let each = self.taps.iter().map(|candidate| candidate.tap.weight());
        each.fold(COST, usize::saturating_add)
    }
}

/// What a tap costs to hold, besides what it weighs.
const COST: usize = 1024;

impl Taps {
    /// None yet, on exchanges of this protocol that pair so.
    pub fn new(enabled: bool, protocol: &'static str, pairing: fn(u64) -> Pairing) -> Self {
        Self {
            open: BTreeMap::new(),
            weight: 0,
            enabled,
            protocol,
            pairing,
        }
    }

    /// What is to be held of a request with this head, for [`Self::insert`].
    pub fn of(&self, head: &Head<'_>) -> Option<Box<Tapped>> {
        match self.enabled {
            true => Tapped::of(head),
            false => None,
        }
    }

    /// The exchange with this number is tapped.
    pub fn insert(&mut self, number: u64, tapped: Box<Tapped>, stats: &Stats) {
        if self.open.len() >= MAX_TAPS
            && let Some((_, oldest)) = self.open.pop_first()
        {
            self.weight = self.weight.saturating_sub(oldest.weight());
            stats.protocol_taps_forgotten.add(1);
        }
        self.forget(number);
        self.weight = self.weight.saturating_add(tapped.weight());
        self.open.insert(number, tapped);
    }

    /// Changes the taps of an exchange, if it has any.
    fn change<T>(&mut self, number: u64, change: impl FnOnce(&mut Tapped) -> T) -> Option<T> {
        let tapped = self.open.get_mut(&number)?;
        let rest = self.weight.saturating_sub(tapped.weight());
        let changed = change(tapped);
        self.weight = rest.saturating_add(tapped.weight());
        Some(changed)
    }

    /// The final response to an exchange begins with this head.
    pub fn answered(&mut self, number: u64, head: &Head<'_>, stats: &Stats) {
        if !self.enabled {
            return;
        }
        // Answers may come before all was asked, and tell of it.
        self.change(number, |tapped| {
            tapped.each(|candidate, said| candidate.tap.answered(head, said));
        });
        for application in ALL {
            if let Some(tap) = application.answered(head) {
                if !self.open.contains_key(&number) {
                    self.insert(number, Box::default(), stats);
                }
                self.change(number, |tapped| tapped.taps.push(Candidate::new(tap)));
            }
        }
        self.change(number, |tapped| tapped.begin(Flow::Response, head));
    }

    /// Whether bytes of this body are looked at.
    pub fn wants(&mut self, flow: Flow, number: u64) -> bool {
        let Some(tapped) = self.open.get_mut(&number) else {
            return false;
        };
        tapped.taps.iter_mut().any(|c| c.body(flow).left > 0)
    }

    /// Whether an answer is awaited, or read, of which a tap needs all ([`Tap::needs_whole`]).
    pub fn need_whole(&self) -> bool {
        self.open.values().any(|tapped| tapped.needs_whole())
    }

    /// Passes over the next `content` bytes of a body, looking at those that have come; how many of
    /// them are left.
    pub fn pass(&mut self, flow: Flow, number: u64, content: u64, feed: &mut Feed<'_>) -> u64 {
        let mut left = content;
        while left > 0 {
            if !self.wants(flow, number) {
                feed.stream.skip(left);
                return 0;
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let window = feed.stream.window();
            let bytes = window.get(..most).unwrap_or(window);
            if bytes.is_empty() {
                if !feed.stream.is_cut() {
                    return left;
                }
                self.lose(flow, number);
                continue;
            }
            let nobodys = self.change(number, |tapped| {
                tapped.each(|candidate, said| candidate.read(flow, bytes, said));
                tapped.taps.is_empty()
            });
            // What the response may yet be is nobody's to know from the request.
            if nobodys == Some(true) {
                self.forget(number);
            }
            let passed = bytes.len() as u64;
            feed.stream.skip(passed);
            left = left.saturating_sub(passed);
        }
        0
    }

    /// The rest of a body is not seen.
    pub fn lose(&mut self, flow: Flow, number: u64) {
        self.change(number, |tapped| tapped.end(flow, false));
    }

    /// The rest of any body of this flow is not seen.
    pub fn lose_all(&mut self, flow: Flow) {
        let all: SmallVec<[u64; 8]> = self.open.keys().copied().collect();
        for number in all {
            self.lose(flow, number);
        }
    }

    /// A body is over; tells what is known now.
    pub fn end(&mut self, (flow, number): (Flow, u64), at: Mark, out: &mut Vec<Message>) {
        let ended = self.change(number, |tapped| {
            tapped.asked |= flow == Flow::Request;
            tapped.end(flow, true);
        });
        if ended.is_some() {
            self.tell((flow, number), at, out);
        }
        if flow == Flow::Response {
            self.forget(number);
        }
    }

    /// Tells what taps said of an exchange.
    pub fn tell(&mut self, (flow, number): (Flow, u64), at: Mark, out: &mut Vec<Message>) {
        let said = self.change(number, |tapped| std::mem::take(&mut tapped.said));
        let Some(Said {
            name,
            asked,
            answered,
        }) = said
        else {
            return;
        };
        let revision = Revision {
            kind: name.map(|name| (self.protocol, name)),
            without: &[],
            with: asked,
        };
        let mut push = |part| {
            out.push(Message {
                flow,
                pairing: (self.pairing)(number),
                at,
                part,
            });
        };
        if revision != Revision::default() {
            push(Part::Revise(Box::new(revision)));
        }
        if let Some(answered) = answered {
            push(Part::Trailers(answered));
        }
    }

    /// Nobody waits for this exchange's answer any more.
    pub fn forget(&mut self, number: u64) {
        if let Some(tapped) = self.open.remove(&number) {
            self.weight = self.weight.saturating_sub(tapped.weight());
        }
    }

    /// Nor for those before this one.
    pub fn forget_before(&mut self, number: u64) {
        while let Some((first, _)) = self.open.first_key_value()
            && *first < number
        {
            self.forget(*first);
        }
    }

    /// What they cost to hold, in bytes.
    pub fn weight(&self) -> usize {
        self.weight
    }
}

#[cfg(test)]
mod tests;
