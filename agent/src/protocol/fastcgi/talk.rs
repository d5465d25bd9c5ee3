//! What records mean for the request they belong to.

use super::answer::{self, MAX_HEAD, Scan};
use super::record::{self, Duty, END, Head, kind};
use super::{Dialogue, MAX_TALKS, MAX_TEXTS, params};
use crate::connection::Mark;
use crate::connection::stream::Missing;
use crate::protocol::told::{abandon, faults, message};
use crate::protocol::{Attribute, Fault, Feed, Finish, Flow, Part, Response, Value, http};

/// Longest parameters of one request that are read, bytes.
const MAX_PARAMS: usize = 64 * 1024;

/// A request that is open.
#[derive(Debug)]
pub(super) struct Talk {
    /// Its exchange.
    pub(super) number: u64,
    duty: Duty,
    /// Its first byte.
    start: Mark,
    asking: Asking,
    answering: Answering,
    /// Bytes of its body, and whether all its records were seen.
    sent: (u64, bool),
    /// Bytes of the answer's body, and whether that is all of it.
    brought: (u64, bool),
    /// What was missing before it was told.
    missing: Missing,
    /// Whether something was written to STDERR.
    stderr: bool,
}

#[derive(Debug)]
enum Asking {
    /// Parameters as far as they came, and whether that is all of them.
    Params(Vec<u8>, bool),
    Told,
    /// It was told, and given up by who asks.
    Aborted,
}

#[derive(Debug)]
enum Answering {
    /// Nothing came, or of its head so much.
    Head(Vec<u8>, Scan, Option<Mark>),
    Body,
}

impl Talk {
    fn new(number: u64, duty: Duty, start: Mark) -> Self {
        Self {
            number,
            duty,
            start,
            asking: Asking::Params(Vec::new(), true),
            answering: Answering::Head(Vec::new(), Scan::default(), None),
            sent: (0, true),
            brought: (0, true),
            missing: Missing::default(),
            stderr: false,
        }
    }

    /// Whether the head of its answer was told.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.answering, Answering::Body)
    }

    /// Bytes of texts that it holds.
    pub(super) fn held(&self) -> usize {
        let asking = match &self.asking {
            Asking::Params(text, _) => text.len(),
            Asking::Told | Asking::Aborted => 0,
        };
        match &self.answering {
            Answering::Head(text, ..) => asking.saturating_add(text.len()),
            Answering::Body => asking,
        }
    }

    fn part(&self, flow: Flow, at: Mark, part: Part, feed: &mut Feed<'_>) {
        feed.out.push(message(flow, self.number, at, part));
    }

    fn faults(&self, flow: Flow, at: Mark, missing: Missing, feed: &mut Feed<'_>) {
        for fault in faults(missing) {
            self.part(flow, at, Part::Fault(fault), feed);
        }
    }
}

impl Dialogue {
    /// BEGIN_REQUEST.
    pub(super) fn begin(&mut self, id: u16, duty: Duty, feed: &mut Feed<'_>) {
        let at = feed.stream.mark(0);
        let talk = Talk::new(self.next, duty, at);
        self.next = self.next.wrapping_add(1);
        if feed.stream.turn_window().0.len() < record::BEGIN {
            // A turn begins in it.
            self.turn = self.next;
        }
        if self.doubles(id, at, feed) {
            return;
        }
        if self.talks.len() >= MAX_TALKS && !self.talks.contains_key(&id) {
            self.make_room(at, feed);
        }
        // Who uses an identifier again has seen the end of what had it.
        self.forget(id, at, feed);
        self.talks.insert(id, talk);
    }

    /// Forgets the older half at once, so that each costs next to nothing.
    fn make_room(&mut self, at: Mark, feed: &mut Feed<'_>) {
        let mut open: Vec<(u64, u16)> = self.talks.iter().map(|(id, t)| (t.number, *id)).collect();
        open.sort_unstable();
        for (_, id) in open.iter().take(open.len() / 2) {
            feed.stats.protocol_streams_forgotten.add(1);
            self.forget(*id, at, feed);
        }
    }

    /// Whether a request begins with the identifier of one that is open, and no answers were lost: of
    /// which of them an answer is nobody knows, until each of them has ended.
    fn doubles(&mut self, id: u16, at: Mark, feed: &mut Feed<'_>) -> bool {
        if let Some(open) = self.doubled.get_mut(&id) {
            *open = open.saturating_add(1);
            return true;
        }
        let lost = self.lost || self.answers_lost;
        if lost || !self.talks.contains_key(&id) || self.doubled.len() >= MAX_TALKS {
            return false;
        }
        self.forget(id, at, feed);
        self.doubled.insert(id, 2);
        true
    }

    /// Whether the end of one of those came that share their identifier.
    fn ends_double(&mut self, id: u16) -> bool {
        let Some(open) = self.doubled.get_mut(&id) else {
            return false;
        };
        *open = open.saturating_sub(1);
        if *open == 0 {
            self.doubled.remove(&id);
        }
        true
    }

    fn forget(&mut self, id: u16, at: Mark, feed: &mut Feed<'_>) {
        if let Some(talk) = self.remove(id) {
            abandon(talk.number, at, feed);
        }
    }

    fn remove(&mut self, id: u16) -> Option<Talk> {
        let talk = self.talks.remove(&id)?;
        self.texts = self.texts.saturating_sub(talk.held());
        Some(talk)
    }

    /// Whether a record with content is read, not passed over.
    pub(super) fn is_read(&self, head: Head) -> bool {
        self.talks
            .get(&head.id)
            .is_some_and(|talk| match head.kind {
                kind::PARAMS => matches!(talk.asking, Asking::Params(_, true)),
                _ => matches!(talk.answering, Answering::Head(..)),
            })
    }

    /// Whether the head of an answer is not whole yet.
    pub(super) fn reads_head(&self, id: u16) -> bool {
        let talk = self.talks.get(&id);
        talk.is_some_and(|talk| !talk.is_answered())
    }

    /// A record that is read begins here.
    pub(super) fn start(&mut self, head: Head, feed: &mut Feed<'_>) {
        if head.kind != kind::STDOUT {
            return;
        }
        self.tell_early(head.id, feed);
        if let Some(talk) = self.talks.get_mut(&head.id)
            && let Answering::Head(_, _, first) = &mut talk.answering
        {
            first.get_or_insert(feed.stream.mark(0));
        }
    }

    /// Takes so many bytes of parameters that are in the window.
    pub(super) fn take_params(&mut self, id: u16, length: usize, feed: &mut Feed<'_>) -> usize {
        let bytes = feed.stream.window().get(..length).unwrap_or_default();
        let room = MAX_TEXTS.saturating_sub(self.texts);
        if let Some(talk) = self.talks.get_mut(&id)
            && let Asking::Params(text, whole @ true) = &mut talk.asking
        {
            if length > room.min(MAX_PARAMS.saturating_sub(text.len())) {
                feed.stats.protocol_head_too_long.add(1);
                *whole = false;
            } else {
                text.extend_from_slice(bytes);
                self.texts = self.texts.saturating_add(length);
            }
        }
        length
    }

    /// Takes of so many bytes of an answer that are in the window what is its head's.
    pub(super) fn take_head(&mut self, id: u16, length: usize, feed: &mut Feed<'_>) -> usize {
        let bytes = feed.stream.window().get(..length).unwrap_or_default();
        let room = MAX_TEXTS.saturating_sub(self.texts);
        let Some(talk) = self.talks.get_mut(&id) else {
            return length;
        };
        let Answering::Head(text, scan, first) = &mut talk.answering else {
            return 0;
        };
        let end = scan.find(bytes);
        let taken = end.unwrap_or(length);
        if taken > room.min(MAX_HEAD.saturating_sub(text.len())) {
            feed.stats.protocol_head_too_long.add(1);
            self.cut(Flow::Response, id, feed);
            return 0;
        }
        let known = text.len();
        text.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        self.texts = self.texts.saturating_add(taken);
        if end.is_none() {
            return taken;
        }
        self.texts = self.texts.saturating_sub(known.saturating_add(taken));
        let (config, stats) = ((&self.config.http, self.keep), feed.stats);
        let response = answer::response(text, config, stats);
        let at = first.unwrap_or(talk.start);
        self.agreed |= response.is_some() && matches!(talk.asking, Asking::Told);
        if response.is_none() {
            feed.stats.protocol_unreadable.add(1);
            let fault = Part::Fault(Fault::Malformed("no head in an answer"));
            talk.part(Flow::Response, at, fault, feed);
        }
        let part = Part::Response(Box::new(response.unwrap_or_default()));
        talk.part(Flow::Response, at, part, feed);
        talk.answering = Answering::Body;
        taken
    }

    /// What follows of parameters, or of the head of an answer, is not to be had.
    pub(super) fn cut(&mut self, flow: Flow, id: u16, feed: &mut Feed<'_>) {
        let Some(talk) = self.talks.get_mut(&id) else {
            return;
        };
        match (flow, &mut talk.asking, &talk.answering) {
            (Flow::Request, Asking::Params(_, whole), _) => *whole = false,
            (Flow::Response, _, Answering::Head(text, _, first)) => {
                self.texts = self.texts.saturating_sub(text.len());
                let at = first.unwrap_or(talk.start);
                let (config, stats) = ((&self.config.http, self.keep), feed.stats);
                let response = http::response(None, std::iter::empty(), config, stats);
                let part = Part::Response(Box::new(response));
                talk.part(Flow::Response, at, part, feed);
                talk.answering = Answering::Body;
                talk.brought.1 = false;
            }
            _ => {}
        }
    }

    /// The last PARAMS.
    pub(super) fn asked(&mut self, id: u16, feed: &mut Feed<'_>) {
        let end = feed.stream.mark(record::HEAD.saturating_sub(1));
        self.tell(id, (true, end), feed);
        if let Some(talk) = self.talks.get(&id)
            && talk.duty == Duty::Authorizer
        {
            let finish = Finish {
                body: 0,
                exact: true,
                whole: true,
            };
            talk.part(Flow::Request, end, Part::Finish(finish), feed);
        }
    }

    /// Its answer comes before the last of its parameters did, or nothing more of them will.
    fn tell_early(&mut self, id: u16, feed: &mut Feed<'_>) {
        let start = self.talks.get(&id).map(|talk| talk.start);
        self.tell(id, (false, start.unwrap_or_default()), feed);
    }

    /// Tells a request that was not told yet; `whole`: all of its parameters have gone by until `end`.
    fn tell(&mut self, id: u16, (whole, end): (bool, Mark), feed: &mut Feed<'_>) {
        let Some(talk) = self.talks.get_mut(&id) else {
            return;
        };
        let Asking::Params(text, all) = &mut talk.asking else {
            return;
        };
        let (text, whole) = (std::mem::take(text), whole && *all);
        talk.asking = Asking::Told;
        self.texts = self.texts.saturating_sub(text.len());
        let (config, stats) = ((&self.config.http, self.keep), feed.stats);
        let (request, read) = params::request(&text, whole, self.role, config, stats);
        if whole && !read {
            stats.protocol_unreadable.add(1);
        }
        let start = talk.start;
        let part = Part::Request(Box::new(request), end);
        talk.part(Flow::Request, start, part, feed);
        if !read {
            stats.protocol_partial.add(1);
            talk.part(Flow::Request, start, Part::Fault(Fault::Partial), feed);
        }
        let missing = std::mem::take(&mut talk.missing);
        talk.faults(Flow::Request, start, missing, feed);
    }

    /// STDIN or DATA: a piece of it, or its end.
    pub(super) fn sent(&mut self, head: Head, feed: &mut Feed<'_>) {
        let Some(talk) = self.talks.get_mut(&head.id) else {
            return;
        };
        if head.kind == kind::STDIN {
            talk.sent.0 = talk.sent.0.saturating_add(head.length.into());
        }
        let last = match talk.duty {
            Duty::Responder => kind::STDIN,
            Duty::Filter => kind::DATA,
            Duty::Authorizer => return,
        };
        if head.kind == last && head.length == 0 && matches!(talk.asking, Asking::Told) {
            let (body, true) = talk.sent else {
                return;
            };
            let at = feed.stream.mark(record::HEAD.saturating_sub(1));
            let finish = Finish {
                body,
                exact: true,
                whole: true,
            };
            talk.part(Flow::Request, at, Part::Finish(finish), feed);
        }
    }

    /// ABORT_REQUEST.
    pub(super) fn abort(&mut self, id: u16, feed: &mut Feed<'_>) {
        self.tell_early(id, feed);
        if let Some(talk) = self.talks.get_mut(&id) {
            let at = feed.stream.mark(0);
            talk.part(Flow::Request, at, Part::Reset("FCGI_ABORT_REQUEST"), feed);
            talk.asking = Asking::Aborted;
        }
    }

    /// STDERR.
    pub(super) fn complained(&mut self, head: Head) {
        if let Some(talk) = self.talks.get_mut(&head.id) {
            talk.stderr |= head.length > 0;
        }
    }

    /// So many bytes of an answer's body.
    pub(super) fn brought(&mut self, id: u16, length: usize) {
        if let Some(talk) = self.talks.get_mut(&id) {
            talk.brought.0 = talk.brought.0.saturating_add(length as u64);
        }
    }

    /// Bytes of a record of this request were not seen.
    pub(super) fn missed(&mut self, flow: Flow, id: u16, missing: Missing, feed: &mut Feed<'_>) {
        let Some(talk) = self.talks.get_mut(&id) else {
            return;
        };
        match talk.asking {
            Asking::Params(..) => talk.missing.merge(missing),
            _ => talk.faults(flow, feed.stream.last(), missing, feed),
        }
    }

    /// An unknown number of records of those who ask may go by unseen.
    pub(super) fn lose_asks(&mut self, feed: &mut Feed<'_>) {
        let open: Vec<u16> = self.talks.keys().copied().collect();
        for id in open {
            self.tell_early(id, feed);
            if let Some(talk) = self.talks.get_mut(&id) {
                talk.sent.1 = false;
            }
        }
    }

    /// END_REQUEST, with the application's status and the protocol's where they were seen.
    pub(super) fn end(&mut self, id: u16, end: Option<(u32, u8)>, feed: &mut Feed<'_>) {
        self.tell_early(id, feed);
        let doubled = self.ends_double(id);
        let Some(talk) = self.remove(id).filter(|_| !doubled) else {
            feed.stats.exchange_unasked.add(1);
            return;
        };
        if matches!(talk.asking, Asking::Aborted) {
            return;
        }
        let first = feed.stream.mark(0);
        let last = feed.stream.mark(END.saturating_sub(1));
        let flow = Flow::Response;
        let mut said = Response::default();
        if talk.stderr {
            said.attributes.push(Attribute {
                key: STDERR.into(),
                value: Value::Bool(true),
            });
        }
        if let Some((app @ 1.., _)) = end {
            said.attributes.push(Attribute::int(APP_STATUS, app.into()));
            said.client_error = Some("_OTHER".into());
            said.server_error = Some("_OTHER".into());
        }
        if let Some((_, refused @ 1..)) = end {
            said.client_error = Some(record::error(refused).into());
            said.server_error = said.client_error.clone();
        }
        let empty = said.attributes.is_empty() && said.client_error.is_none();
        match (&talk.answering, end) {
            (Answering::Body, _) if empty => {}
            (Answering::Body, _) => {
                talk.part(flow, first, Part::Trailers(Box::new(said)), feed);
            }
            // What it says of its answer was not seen.
            (Answering::Head(..), None) => return abandon(talk.number, last, feed),
            (Answering::Head(_, _, begun), Some((_, refused))) => {
                let at = begun.unwrap_or(first);
                if refused == 0 {
                    let fault = Part::Fault(Fault::Malformed("an answer without a head"));
                    talk.part(flow, at, fault, feed);
                }
                talk.part(flow, at, Part::Response(Box::new(said)), feed);
            }
        }
        let (body, exact) = talk.brought;
        let finish = Finish {
            body,
            exact,
            whole: true,
        };
        talk.part(flow, last, Part::Finish(finish), feed);
    }
}

/// Whether the application wrote to STDERR.
const STDERR: &str = "spantap.fastcgi.stderr";
/// The application's own status, where it is not 0.
const APP_STATUS: &str = "spantap.fastcgi.app_status";
