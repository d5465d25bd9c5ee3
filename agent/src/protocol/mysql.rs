//! The client/server protocol of MySQL and MariaDB, version 10 (MySQL's source documentation,
//! "Client/Server Protocol"; MariaDB's knowledge base, "Client/Server Protocol").
//!
//! Every packet has its length and its number; a command is number 0 and its answer begins with 1.
//! What an answer is made of follows from its command and from its own bytes, so that a connection
//! whose log-in nobody saw is read as well. Rows are counted and passed over by their lengths; where
//! a length is missing, the next turn is where reading goes on. Statements that were prepared are
//! remembered by their number.
//!
//! Log-in, pings, resets and what else drivers do on their own make no exchange. A connection that
//! changes to TLS is given to TLS, one that compresses is left: its packets are not unpacked.
//!
//! Never true here: that a row, a parameter or a password is kept; that the database is named where
//! its last change was not seen.

mod client;
mod command;
mod packet;
mod result;
mod server;
mod session;
mod sniff;

use self::session::Session;
use super::order::Order;
use super::seek::Refused;
use super::tls;
use super::{Feed, Flow, Parser, Protocol, Setup, Status, Verdict};
use crate::connection::stream::Missing;
use crate::event::Nanos;

/// The registry's entry.
pub const PROTOCOL: &dyn Protocol = &MySql;

const NAME: &str = "mysql";

/// Bytes of a database's name that are kept.
const MAX_NAME: usize = 256;

#[derive(Debug)]
struct MySql;

impl Protocol for MySql {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sniff(&self, bytes: &[u8]) -> Verdict {
        sniff::begins(bytes)
    }

    fn sniff_amid(&self, bytes: &[u8]) -> Verdict {
        sniff::amid(bytes)
    }

    fn ports(&self) -> &'static [u16] {
        &[3306]
    }

    fn parser(&self, setup: Setup) -> Box<dyn Parser> {
        Box::new(Dialogue {
            setup,
            session: Session::default(),
            request: client::Side::default(),
            response: server::Side::default(),
            order: Order::default(),
            unseen: Missing::default(),
            refused: Refused::default(),
            understood: false,
            mistaken: false,
            left: false,
            next: None,
        })
    }
}

/// What reading an answer needs to know of its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    kind: Kind,
    /// Whether it is an exchange.
    told: bool,
    /// When its first byte was moved.
    time: Nanos,
}

/// What an answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// OK or an error.
    Plain,
    /// The same, or columns and rows, several times.
    Result,
    /// Rows.
    Fetch,
    /// A number, parameters, columns.
    Prepare,
    /// Columns.
    Fields,
    /// One packet of text.
    Text,
    /// Whatever is said until OK or an error.
    LogIn,
}

/// One connection.
#[derive(Debug)]
struct Dialogue {
    setup: Setup,
    session: Session,
    request: client::Side,
    response: server::Side,
    order: Order<Asked>,
    /// Bytes of answers that passed without being seen since those who wait asked, by cause.
    unseen: Missing,
    refused: Refused,
    /// Whether something was read that nobody else says.
    understood: bool,
    mistaken: bool,
    left: bool,
    /// Who reads on, if TLS follows.
    next: Option<Box<dyn Parser>>,
}

impl Parser for Dialogue {
    fn parse(&mut self, flow: Flow, feed: &mut Feed<'_>) -> Status {
        let step = match flow {
            Flow::Request => Self::ask,
            Flow::Response => Self::reply,
        };
        while !self.left && !self.mistaken && step(self, feed) {}
        match (self.mistaken, self.left) {
            (true, _) => Status::Mistaken,
            (false, true) => Status::Leave,
            (false, false) => Status::Stay,
        }
    }

    fn missed(&mut self, flow: Flow, _feed: &mut Feed<'_>) {
        if flow == Flow::Request {
            self.order.lose_asks();
            self.request.late();
        }
    }

    fn close(&mut self, flow: Flow, _clean: bool, feed: &mut Feed<'_>) {
        match flow {
            Flow::Request => self.request.state = client::State::Done,
            Flow::Response => {
                self.answered_unseen(feed);
                self.response.state = server::State::Done;
            }
        }
    }

    fn quiet(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        if flow == Flow::Response {
            self.answered_unseen(feed);
        }
    }

    fn successor(&mut self) -> Option<(&'static dyn Protocol, Box<dyn Parser>)> {
        let next = self.next.take()?;
        Some((tls::PROTOCOL, next))
    }

    fn weight(&self) -> usize {
        self.order.weight().saturating_add(self.session.weight())
    }
}

impl Dialogue {
    /// Bytes that contradict the protocol: they never were its own, or the next turn is looked for.
    fn nonsense(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        if !self.understood {
            self.mistaken = true;
            return false;
        }
        feed.stats.protocol_malformed.add(1);
        match flow {
            Flow::Request => self.lose_commands(feed),
            Flow::Response => self.lose_answer(feed),
        }
        true
    }

    /// A turn began like nothing; true when that was once too often.
    fn refuse(&mut self, feed: &Feed<'_>) -> bool {
        self.left |= self.refused.again(feed.stats);
        self.left
    }
}

#[cfg(test)]
mod tests;
