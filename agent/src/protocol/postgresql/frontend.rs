//! What is asked: queries, and the messages of the extended protocol.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::frame::{self, HEAD, Opening};
use super::group::{Group, Item, Outcomes, is_several, request};
use super::statements::{Held, LONGEST_NAME, Statement};
use super::{Dialogue, End, Side};
use crate::connection::Mark;
use crate::protocol::reader::{Reader, text};
use crate::protocol::sql::{Described, Dialect, describe};
use crate::protocol::told::{faults, message};
use crate::protocol::{Fault, Feed, Finish, Flow, Part};

/// Bytes of a statement that are waited for.
const STATEMENT: usize = 32 << 10;
/// Bytes of other messages that are waited for: names stand first.
const NAMES: usize = 1 << 10;
/// Most messages that wait for their answer.
const MAX_ITEMS: usize = 4096;
/// Most bytes of statements that are referred to, by names or by messages that wait.
const MAX_HELD: usize = 256 << 10;

/// A message at the position.
struct Asked {
    kind: u8,
    /// With its kind and its length.
    length: usize,
    /// Whether it begins a turn.
    turn: bool,
    first: Mark,
    last: Mark,
}

impl Dialogue {
    /// Reads the next question.
    pub(super) fn request(&mut self, feed: &mut Feed<'_>) -> bool {
        if !self.passed(feed) {
            return false;
        }
        let window = feed.stream.window();
        let cut = feed.stream.is_cut();
        match window.first() {
            None if cut => return self.lose(Flow::Request, true, feed),
            None => return false,
            Some(0) => return self.opening(feed),
            Some(_) => self.asked_at = feed.stream.mark(0).time,
        }
        let Some((kind, length)) = frame::head(window) else {
            return cut && self.lose(Flow::Request, true, feed);
        };
        if !frame::may(kind, length.saturating_sub(1), Flow::Request) {
            return self.lose(Flow::Request, false, feed);
        }
        let wanted = match kind {
            b'Q' | b'P' => STATEMENT,
            b'd' | b'f' | b'p' => HEAD,
            _ => NAMES,
        };
        if window.len() < length.min(wanted) && !cut {
            return false;
        }
        let turn = feed.stream.front().is_some_and(|front| front.turn);
        let asked = Asked {
            kind,
            length,
            turn,
            first: feed.stream.mark(0),
            last: feed.stream.mark(length.saturating_sub(1)),
        };
        if asked.turn {
            self.asked_anew(kind, feed);
        }
        if asked.turn && !self.is_answering() {
            // Something was answered between two turns before it was known whose it is.
            if !self.understood && !self.groups.is_empty() {
                self.unsettle(Flow::Response, feed);
            }
            self.settle(feed);
        }
        if self.asked(&asked, feed).is_none() {
            // A name that cannot be read: what it stood for is not known either.
            return self.lose(Flow::Request, cut, feed);
        }
        feed.stream.skip(length as u64);
        self.passed(feed)
    }

    /// Whether the message before is over; it is ended then.
    fn passed(&mut self, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.reached() {
            return false;
        }
        let missing = feed.stream.take_missing();
        if let Some(number) = self.passing.take() {
            let at = feed.stream.last();
            for fault in faults(missing) {
                feed.out
                    .push(message(Flow::Request, number, at, Part::Fault(fault)));
            }
            let finish = Finish {
                body: 0,
                exact: true,
                whole: true,
            };
            feed.out
                .push(message(Flow::Request, number, at, Part::Finish(finish)));
        }
        true
    }

    /// Nobody can be waiting: what was lost is over.
    fn settle(&mut self, feed: &mut Feed<'_>) {
        if self.answers == Side::Tail {
            self.end_unseen(feed);
        }
        let mut gone = Vec::new();
        self.order.settle(|number| gone.push(number));
        self.abandon(&gone, feed);
    }

    /// The first packet of a connection.
    fn opening(&mut self, feed: &mut Feed<'_>) -> bool {
        let cut = feed.stream.is_cut();
        let mut reader = Reader::new(feed.stream.window());
        let (Some(length), Some(code)) = (reader.u32(), reader.u32()) else {
            return cut && self.lose(Flow::Request, true, feed);
        };
        let Some((opening, length)) = frame::opening(length, code) else {
            return self.lose(Flow::Request, false, feed);
        };
        if feed.stream.window().len() < length && !cut {
            return false;
        }
        self.understood = true;
        let turn = feed.stream.front().is_some_and(|front| front.turn);
        match opening {
            Opening::Encrypt => self.encrypt = true,
            // Nothing follows, and nothing is answered.
            Opening::Cancel => self.end = Some(End::GivenUp),
            Opening::Startup => {
                let (mut user, mut database) = (None, None);
                while let Some(name) = reader.c_string().filter(|name| !name.is_empty()) {
                    let value = reader.c_string();
                    match name {
                        b"user" => user = value,
                        b"database" => database = value,
                        _ => {}
                    }
                }
                let name = database.filter(|name| !name.is_empty()).or(user);
                self.namespace = name.map(|name| text(name, LONGEST_NAME, feed.stats));
                if feed.stream.window().len() < length {
                    self.namespace = None;
                }
                self.join(Item::Startup, turn, true);
            }
        }
        feed.stream.skip(length as u64);
        true
    }

    /// Takes a message; `None` where a name in it cannot be read.
    fn asked(&mut self, asked: &Asked, feed: &mut Feed<'_>) -> Option<()> {
        let (window, stats) = (feed.stream.window(), feed.stats);
        let body = window.get(HEAD..asked.length.min(window.len()))?;
        let mut reader = Reader::new(body);
        match asked.kind {
            b'Q' => {
                let whole = body.len().saturating_add(HEAD) == asked.length;
                let statement = self.told(body.strip_suffix(&[0]).unwrap_or(body), whole);
                let several = !whole || is_several(body);
                let number = self.open(&statement, asked.first, asked, feed);
                self.wait(Item::query(number, several), asked, true, feed);
                self.begins = None;
            }
            b'P' => {
                let name = reader.c_string()?;
                let statement = match reader.c_string() {
                    Some(text) => self.told(text, true),
                    None => self.told(reader.rest(), false),
                };
                if name.len() <= LONGEST_NAME {
                    self.prepared.insert(name, Arc::clone(&statement), stats);
                }
                self.prepares(Item::Parse(statement, asked.first, asked.last), asked);
            }
            b'B' => {
                let portal = reader.c_string()?;
                let statement = Self::statement(&self.prepared, reader.c_string()?, &self.held);
                if portal.len() <= LONGEST_NAME {
                    self.portals.insert(portal, Arc::clone(&statement), stats);
                }
                self.prepares(Item::Bind(statement, asked.first, asked.last), asked);
            }
            b'D' => {
                let names = match reader.u8()? {
                    b'S' => &self.prepared,
                    _ => &self.portals,
                };
                let statement = Self::statement(names, reader.c_string()?, &self.held);
                self.prepares(Item::Describe(statement, asked.first, asked.last), asked);
            }
            b'C' => {
                let names = match reader.u8()? {
                    b'S' => &mut self.prepared,
                    _ => &mut self.portals,
                };
                names.remove(reader.c_string()?);
                self.join(Item::Close, asked.turn, false);
            }
            b'E' => {
                let statement = self.portals.get(reader.c_string()?).map(Arc::clone);
                reader.u32()?;
                self.execute(statement, asked, feed);
            }
            b'F' => self.call(asked, feed),
            b'S' => {
                self.begins = None;
                self.sync(asked.turn);
            }
            // Flush: what prepared is answered by itself.
            b'H' => self.begins = None,
            b'd' | b'c' | b'f' => {
                if let Some(group) = self.groups.back_mut() {
                    group.copied = true;
                }
            }
            // Passwords, the end.
            _ => {}
        }
        Some(())
    }

    /// A portal is executed.
    fn execute(&mut self, statement: Option<Arc<Held>>, asked: &Asked, feed: &mut Feed<'_>) {
        let unknown = || Held::new(Statement::Named(String::new()), &self.held);
        let statement = statement.unwrap_or_else(unknown);
        let begins = self.begins.take().unwrap_or(asked.first);
        let skipped = |group: &Group| !group.synced && group.failed;
        if !self.groups.back().is_some_and(skipped) {
            let number = self.open(&statement, begins, asked, feed);
            self.wait(Item::Execute(number, begins.offset), asked, false, feed);
        }
    }

    /// A function is called by its number.
    fn call(&mut self, asked: &Asked, feed: &mut Feed<'_>) {
        let told = Described {
            operation: Some("CALL".into()),
            ..Described::default()
        };
        let number = self.open(&Statement::Told(told, true), asked.first, asked, feed);
        self.wait(Item::Call(number, Outcomes::default()), asked, true, feed);
        self.begins = None;
    }

    /// What a statement does.
    fn told(&self, statement: &[u8], whole: bool) -> Arc<Held> {
        let look = statement.get(..STATEMENT).unwrap_or(statement);
        let whole = whole && look.len() == statement.len();
        let told = describe(look, Dialect::Postgres, &self.config.database, whole);
        Held::new(Statement::Told(told, whole), &self.held)
    }

    /// An exchange begins.
    fn open(
        &mut self,
        statement: &Statement,
        first: Mark,
        asked: &Asked,
        feed: &mut Feed<'_>,
    ) -> u64 {
        let number = self.begin(statement, first, asked.last, feed);
        self.passing = Some(number);
        number
    }

    /// Tells of a request.
    pub(super) fn begin(
        &mut self,
        statement: &Statement,
        first: Mark,
        last: Mark,
        feed: &mut Feed<'_>,
    ) -> u64 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let request = request(statement, self.namespace.as_deref());
        let part = Part::Request(Box::new(request), last);
        feed.out.push(message(Flow::Request, number, first, part));
        if statement.is_partial() {
            let fault = Part::Fault(Fault::Partial);
            feed.out.push(message(Flow::Request, number, last, fault));
        }
        number
    }

    /// A message that an Execute may follow.
    fn prepares(&mut self, item: Item, asked: &Asked) {
        self.begins.get_or_insert(asked.first);
        self.join(item, asked.turn, false);
    }

    /// An exchange waits for its answer; one that cannot be followed is given up.
    fn wait(&mut self, item: Item, asked: &Asked, last: bool, feed: &mut Feed<'_>) {
        let number = item.exchange();
        if !self.join(item, asked.turn, last)
            && let Some(number) = number
        {
            let at = asked.last;
            feed.out
                .push(message(Flow::Response, number, at, Part::Abandon));
        }
    }

    /// Another message of the group that is open, or of a new one; `last`: it ends the group. False
    /// where it is not followed.
    fn join(&mut self, item: Item, turn: bool, last: bool) -> bool {
        let open = self
            .groups
            .back()
            .is_some_and(|group| !group.synced && !group.blurred);
        if !open && !self.new_group(turn) {
            return false;
        }
        if self.items >= MAX_ITEMS || self.held.load(Ordering::Relaxed) > MAX_HELD {
            // Too many to be followed: what comes of them is not known.
            self.order.lose_asks();
            if let Some(group) = self.groups.back_mut() {
                group.blurred = true;
            }
            return false;
        }
        let Some(group) = self.groups.back_mut() else {
            return false;
        };
        group.synced = last;
        let follows = !group.failed || last;
        if follows {
            group.push(item);
            self.items = self.items.saturating_add(1);
        }
        follows
    }

    fn sync(&mut self, turn: bool) {
        let open = self.groups.back().is_some_and(|group| !group.synced);
        if (open || self.new_group(turn))
            && let Some(group) = self.groups.back_mut()
        {
            group.synced = true;
        }
    }

    fn new_group(&mut self, turn: bool) -> bool {
        let Some(number) = self.order.ask((), turn) else {
            return false;
        };
        self.groups.push_back(Group {
            number,
            asked_at: self.asked_at,
            items: VecDeque::new(),
            executes: VecDeque::new(),
            synced: false,
            blurred: false,
            copied: false,
            failed: false,
        });
        true
    }
}
