//! PostgreSQL's protocol, version 3.0 and 3.2 (PostgreSQL 18, chapter 54 "Frontend/Backend Protocol"),
//! as servers, poolers and what else speaks it use it.
//!
//! A simple query is an exchange, and so is each Execute of the extended protocol, from the first message
//! that prepares for it. What is asked up to one ReadyForQuery is a group: groups pair by their order
//! (`order`), the messages of a group by what each is answered with. Rows and copied data are passed
//! over by their lengths. After the server has agreed to TLS the rest is TLS's.
//!
//! Never true here: that a parameter's value, a row or a password is looked at; that an answer is given
//! to a statement that it may not belong to; that start-up, notices or notifications make an exchange.

mod backend;
mod frame;
mod frontend;
mod group;
mod statements;
mod tail;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::group::{Group, Item};
use self::statements::{Held, Names, Statement, Total};
use self::tail::{Ended, Overlap};
use super::order::Order;
use super::seek::Refused;
use super::told::abandon_unseen;
use super::{Feed, Flow, Parser, Protocol, Setup, Status, Verdict, tls};
use crate::config::Config;
use crate::connection::Mark;
use crate::connection::stream::Missing;
use crate::event::Nanos;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &Postgresql;

#[derive(Debug)]
struct Postgresql;

impl Protocol for Postgresql {
    fn name(&self) -> &'static str {
        "postgresql"
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        frame::sniff(bytes)
    }

    fn ports(&self) -> &'static [u16] {
        &[5432]
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            config: Arc::clone(&setup.config),
            setup,
            namespace: None,
            asks: Side::default(),
            answers: Side::default(),
            order: Order::default(),
            groups: std::collections::VecDeque::new(),
            items: 0,
            next: 0,
            asked_at: 0,
            held: Total::default(),
            prepared: Names::default(),
            portals: Names::default(),
            begins: None,
            passing: None,
            first: None,
            rows: 0,
            plain: false,
            ended: None,
            overlaps: Overlap::default(),
            unseen: Missing::default(),
            seen: None,
            encrypt: false,
            copying: false,
            copied_out: false,
            understood: false,
            refused: Refused::default(),
            end: None,
        })
    }
}

/// One connection.
#[derive(Debug)]
struct Dialogue {
    config: Arc<Config>,
    setup: Setup,
    /// `db.namespace`: the database.
    namespace: Option<String>,
    asks: Side,
    answers: Side,
    /// The groups that wait.
    order: Order<()>,
    groups: std::collections::VecDeque<Group>,
    /// Messages of all groups.
    items: usize,
    /// The next exchange's number.
    next: u64,
    /// When the message that is read was moved.
    asked_at: Nanos,
    /// What all statements weigh that are referred to.
    held: Total,
    prepared: Names,
    portals: Names,
    /// Where what prepares for the next Execute begins.
    begins: Option<Mark>,
    /// The exchange whose request's last bytes are yet to come.
    passing: Option<u64>,
    /// Where the present answer begins.
    first: Option<Mark>,
    /// Rows of it.
    rows: u64,
    /// Whether its values are text.
    plain: bool,
    /// How it may have ended.
    ended: Option<Ended>,
    /// Whether anything was asked while an answer was under way.
    overlaps: Overlap,
    /// Bytes of answers that passed without being read since those who wait asked, by cause.
    unseen: Missing,
    /// The last byte of them.
    seen: Option<Mark>,
    /// Whether encryption was asked for and not answered yet.
    encrypt: bool,
    /// Whether data is copied to the server.
    copying: bool,
    /// Whether the present answer is data that is copied to the client.
    copied_out: bool,
    /// Whether anything was.
    understood: bool,
    /// Turns in a row that began like no message.
    refused: Refused,
    /// Why nothing more is read.
    end: Option<End>,
}

/// How a flow is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Side {
    /// Message by message.
    #[default]
    Messages,
    /// At the end of an answer whose messages were lost: only what ends it is looked for.
    Tail,
    /// Passes over everything until a turn begins like a message.
    Seek,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// What follows is TLS, or cannot be known.
    Encrypted(bool),
    /// It never was this protocol.
    Mistaken,
    /// It makes no sense any more.
    GivenUp,
}

impl Parser for Dialogue {
    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        while self.end.is_none() && self.step(flow, feed) {}
        match self.end {
            None => Status::Stay,
            Some(End::Mistaken) => Status::Mistaken,
            Some(_) => Status::Leave,
        }
    }

    fn missed(&mut self, flow: Flow, _feed: &mut Feed<'_>) {
        match (flow, self.groups.back_mut()) {
            (Flow::Request, _) => self.lose_asks(),
            // It may have been the end of what is copied, and what is copied on another's.
            (Flow::Response, Some(group)) => group.copied |= self.copying,
            (Flow::Response, None) => {}
        }
    }

    fn close(&mut self, flow: Flow, _clean: bool, _feed: &mut Feed<'_>) {
        *self.side(flow) = Side::Done;
    }

    fn silenced(&mut self, feed: &mut Feed<'_>) {
        if let (Side::Tail, Some(ended)) = (self.answers, self.ended.take()) {
            self.ends(ended, feed);
        }
    }

    fn successor(&mut self) -> Option<(&'static dyn Protocol, Box<dyn Parser>)> {
        let is_tls = self.end == Some(End::Encrypted(true));
        is_tls.then(|| (tls::PROTOCOL, tls::PROTOCOL.parser(self.setup.clone())))
    }

    fn weight(&self) -> usize {
        let items = self.items.saturating_mul(size_of::<Item>());
        self.order
            .weight()
            .saturating_add(if self.items > FEW { items } else { 0 })
            .saturating_add(self.held.load(Ordering::Relaxed))
            .saturating_add(self.prepared.weight())
            .saturating_add(self.portals.weight())
    }
}

/// Messages that wait without being counted.
const FEW: usize = 16;

impl Dialogue {
    fn side(&mut self, flow: Flow) -> &mut Side {
        match flow {
            Flow::Request => &mut self.asks,
            Flow::Response => &mut self.answers,
        }
    }

    /// Goes on by one message; false when more bytes are needed.
    fn step(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        match (*self.side(flow), flow) {
            (Side::Messages, Flow::Request) => self.request(feed),
            (Side::Messages, Flow::Response) => self.response(feed),
            (Side::Tail, _) => self.tail(feed),
            (Side::Seek, _) => self.seek(flow, feed),
            (Side::Done, _) => {
                feed.stream.skip_all();
                feed.stream.take_missing();
                false
            }
        }
    }

    /// Looks for a turn that begins like a message of this flow.
    fn seek(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        while let Some(front) = feed.stream.front() {
            if front.turn && front.hole.is_none() {
                let (bytes, cut) = feed.stream.turn_window();
                match frame::sniff(bytes) {
                    Verdict::Is(found) | Verdict::Likely(found) if found == flow => {
                        self.refused.reset();
                        feed.stream.take_missing();
                        *self.side(flow) = Side::Messages;
                        if flow == Flow::Response {
                            self.resume(feed);
                        }
                        return true;
                    }
                    Verdict::More if !cut => return false,
                    _ if self.refused.again(feed.stats) => {
                        self.end = Some(End::GivenUp);
                        return false;
                    }
                    _ => {}
                }
            }
            let at = feed.stream.mark(0).time;
            feed.stream.skip_front();
            let before = self.groups.back().is_some_and(|group| at < group.asked_at);
            match flow == Flow::Response && before {
                // The end of an answer that was given up.
                true => drop(feed.stream.take_missing()),
                false => {
                    self.overlook(flow, feed);
                    self.unsettle(flow, feed);
                }
            }
        }
        false
    }

    /// A turn of answers begins: the one group that waits is answered, unless a part of its answer
    /// was lost before the client went on copying.
    fn resume(&mut self, feed: &mut Feed<'_>) {
        self.first = None;
        if self.groups.back().is_some_and(|group| group.copied) {
            let mut gone = Vec::new();
            self.order.give_up(|number| gone.push(number));
            self.abandon(&gone, feed);
        }
        self.order.resume();
        if self.order.first().is_some() {
            (self.unseen, self.seen) = (Missing::default(), None);
        }
    }

    /// Remembers what was passed over of answers, for those who wait: theirs may be among it.
    fn overlook(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Response && !self.groups.is_empty() {
            self.unseen.merge(feed.stream.take_missing());
            self.seen = Some(feed.stream.last());
        }
    }

    /// The next message cannot be read: its bytes make no sense, or are not there (`cut`).
    fn lose(&mut self, flow: Flow, cut: bool, feed: &mut Feed<'_>) -> bool {
        // Rows alone are missed where the end is read.
        if flow == Flow::Response && cut && self.may_end_by_its_tail() {
            *self.side(flow) = Side::Tail;
            return true;
        }
        match cut {
            true => feed.stats.protocol_cut.add(1),
            false => feed.stats.protocol_malformed.add(1),
        }
        if !cut && !self.understood {
            self.end = Some(End::Mistaken);
            return false;
        }
        feed.stats.protocol_resynced.add(1);
        feed.stream.skip_front();
        self.overlook(flow, feed);
        self.unsettle(flow, feed);
        *self.side(flow) = Side::Seek;
        true
    }

    /// Messages of this flow may be missing from here on.
    fn unsettle(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        match flow {
            // What is copied is no question.
            Flow::Request if self.copying => {
                feed.stream.take_missing();
            }
            Flow::Request => {
                feed.stream.take_missing();
                self.lose_asks();
                // A name may stand for something else by now.
                self.prepared = Names::default();
                self.portals = Names::default();
                self.begins = None;
                self.passing = None;
            }
            Flow::Response => {
                let mut gone = Vec::new();
                self.order.lose_answers(None, |number| gone.push(number));
                self.abandon(&gone, feed);
                self.forget_answer();
                self.encrypt = false;
            }
        }
    }

    /// What was counted of the present answer is not the next one's.
    fn forget_answer(&mut self) {
        (self.first, self.ended, self.rows) = (None, None, 0);
        (self.plain, self.copied_out) = (false, false);
    }

    /// Questions may be missing behind those that wait.
    fn lose_asks(&mut self) {
        self.order.lose_asks();
        if let Some(group) = self.groups.back_mut() {
            group.blurred |= !group.synced;
        }
    }

    /// The answers to these groups cannot be known any more.
    fn abandon(&mut self, gone: &[u64], feed: &mut Feed<'_>) {
        let at = self.seen.unwrap_or_else(|| feed.stream.last());
        for number in gone {
            let Some(place) = self.groups.iter().position(|g| g.number == *number) else {
                continue;
            };
            let Some(group) = self.groups.remove(place) else {
                continue;
            };
            self.items = self.items.saturating_sub(group.items.len());
            for exchange in group.items.iter().filter_map(Item::exchange) {
                abandon_unseen(exchange, at, &self.unseen, feed);
            }
        }
        if self.groups.is_empty() {
            self.copying = false;
            (self.unseen, self.seen) = (Missing::default(), None);
        }
    }

    /// What is known of a statement of this name.
    fn statement(names: &Names, name: &[u8], held: &Total) -> Arc<Held> {
        names.get(name).map(Arc::clone).unwrap_or_else(|| {
            let name = name.get(..statements::LONGEST_NAME).unwrap_or(name);
            Held::new(
                Statement::Named(String::from_utf8_lossy(name).into_owned()),
                held,
            )
        })
    }
}

#[cfg(test)]
mod tests;
