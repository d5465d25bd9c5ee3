//! What one connection speaks: nothing known → decided → left.
//!
//! The first bytes of each turn are shown to every protocol of the registry until one knows them;
//! which half of the dialogue they are tells who asks on this connection, whoever connected. Where
//! they are only like a protocol's, the other side's turn must be like its other half. A parser that
//! finds it was mistaken gives the connection back, a bounded number of times. What nobody knows
//! costs at most `capture.unknown_bytes`.
//!
//! Never true here: that a port decides anything, or that a connection is taken up again after it
//! was left.

use std::sync::Arc;
use std::time::Duration;

use super::sniff::{Found, Shape, Sniffer};
use super::{Feed, Flow, Message, Parser, Setup, Shared, Status};
use crate::config::Config;
use crate::connection::Streams;
use crate::event::{Direction, Ending, Role};
use crate::stats::Stats;

/// The state of one connection.
#[derive(Debug)]
pub struct Conversation {
    state: State,
    /// Who this end is in the dialogue, once that is known.
    role: Option<Role>,
    /// Whether its bytes were last said to be needed whole.
    whole: bool,
}

#[derive(Debug)]
enum State {
    Undecided(Sniffer),
    Speaking(Speaking),
    Left,
}

#[derive(Debug)]
struct Speaking {
    /// Whom to ask if it turns out to be somebody else's.
    sniffer: Sniffer,
    parser: Box<dyn Parser>,
    patience: Option<Duration>,
    asks: Direction,
}

impl Conversation {
    /// A connection of which nothing is known but what the sniffer was told.
    pub fn new(sniffer: Sniffer) -> Self {
        Self {
            state: State::Undecided(sniffer),
            role: None,
            whole: false,
        }
    }

    /// What the first bytes of (egress, ingress) looked like, where nobody knew them.
    pub fn unknown(&self) -> Option<[&Shape; 2]> {
        match &self.state {
            State::Undecided(sniffer) => Some(sniffer.shapes()),
            _ => None,
        }
    }

    /// Whether its bytes are needed whole from now on, or not any more; `None` where that is as it was.
    pub fn wants_whole(&mut self) -> Option<bool> {
        let wants = match &self.state {
            State::Speaking(speaking) => speaking.parser.needs_whole(),
            State::Undecided(_) => false,
            State::Left => return None,
        };
        let before = std::mem::replace(&mut self.whole, wants);
        (wants != before).then_some(wants)
    }

    /// How long an exchange waits without any byte, where its protocol says that.
    pub fn patience(&self) -> Option<Duration> {
        match &self.state {
            State::Speaking(speaking) => speaking.patience,
            _ => None,
        }
    }

    /// Who this end is in the dialogue, once that is known.
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// What the parser holds, in bytes.
    pub fn weight(&self) -> usize {
        match &self.state {
            State::Speaking(speaking) => speaking.parser.weight(),
            _ => 0,
        }
    }

    /// Reads what has come in one direction.
    pub fn feed(
        &mut self,
        direction: Direction,
        streams: &mut Streams,
        (config, shared): (&Arc<Config>, &Arc<Shared>),
        out: &mut Vec<Message>,
        stats: &Stats,
    ) -> Status {
        let status = match &mut self.state {
            State::Left => return Status::Leave,
            State::Speaking(speaking) => speaking.feed(direction, streams, out, stats),
            State::Undecided(sniffer) => {
                let limit = u64::from(config.capture.unknown_bytes);
                match sniffer.look(direction, streams, limit) {
                    Found::Perhaps => Status::Stay,
                    // What was seen of it is still asked for.
                    Found::Nobodys => {
                        stats.protocol_unrecognised.add(1);
                        return Status::Leave;
                    }
                    Found::Mine(protocol, asks) => {
                        let setup = Setup {
                            role: role(asks),
                            secure: sniffer.is_secure(),
                            process: sniffer.process(),
                            counted: sniffer.is_counted(),
                            config: Arc::clone(config),
                            shared: Arc::clone(shared),
                        };
                        let speaking = Speaking {
                            parser: protocol.parser(setup),
                            patience: protocol.patience(),
                            asks,
                            sniffer: std::mem::take(sniffer),
                        };
                        self.speak(speaking, streams, out, stats)
                    }
                }
            }
        };
        match status {
            Status::Stay => Status::Stay,
            Status::Leave => {
                self.state = State::Left;
                Status::Leave
            }
            Status::Mistaken => self.withdraw(stats),
        }
    }

    /// It is another protocol's than was thought.
    fn withdraw(&mut self, stats: &Stats) -> Status {
        stats.protocol_withdrawn.add(1);
        self.role = None;
        let state = std::mem::replace(&mut self.state, State::Left);
        if let State::Speaking(speaking) = state
            && let Some(sniffer) = speaking.sniffer.again()
        {
            self.state = State::Undecided(sniffer);
            return Status::Mistaken;
        }
        Status::Leave
    }

    /// Starts the parser on what had come until now, the questions first.
    fn speak(
        &mut self,
        mut speaking: Speaking,
        streams: &mut Streams,
        out: &mut Vec<Message>,
        stats: &Stats,
    ) -> Status {
        let asks = speaking.asks;
        self.role = Some(role(asks));
        let mut status = Status::Stay;
        for direction in [asks, asks.opposite()] {
            if status == Status::Stay {
                status = speaking.feed(direction, streams, out, stats);
            }
        }
        self.state = State::Speaking(speaking);
        status
    }

    /// Records were lost: messages of this direction may be missing from before what comes next in the
    /// other. Where nothing is decided yet nobody waits.
    pub fn missed(
        &mut self,
        direction: Direction,
        streams: &mut Streams,
        out: &mut Vec<Message>,
        stats: &Stats,
    ) {
        if let State::Speaking(speaking) = &mut self.state {
            let flow = speaking.flow(direction);
            let stream = streams.get(direction);
            stream.forget_turns();
            speaking
                .parser
                .missed(flow, &mut Feed { stream, out, stats });
        }
    }

    /// Something ended. Returns whether no response can come any more.
    pub fn end(
        &mut self,
        ending: Ending,
        streams: &mut Streams,
        out: &mut Vec<Message>,
        stats: &Stats,
    ) -> bool {
        let (egress, ingress, clean) = match ending {
            Ending::Eof => (false, true, true),
            Ending::Local => (true, false, true),
            Ending::Error(_) => (true, true, false),
            Ending::Gone => (true, true, true),
        };
        let State::Speaking(speaking) = &mut self.state else {
            return egress && ingress;
        };
        let asks = speaking.asks;
        // Requests first: their end may be what a response waits for.
        for direction in [asks, asks.opposite()] {
            let over = match direction {
                Direction::Egress => egress,
                Direction::Ingress => ingress,
            };
            if over {
                let flow = speaking.flow(direction);
                let stream = streams.get(direction);
                speaking
                    .parser
                    .close(flow, clean, &mut Feed { stream, out, stats });
            }
        }
        match asks.opposite() {
            Direction::Egress => egress,
            Direction::Ingress => ingress,
        }
    }

    /// Nothing has moved for the configured time-out, with no exchange open.
    pub fn time_out(&mut self, streams: &mut Streams, out: &mut Vec<Message>, stats: &Stats) {
        if let State::Speaking(speaking) = &mut self.state {
            let stream = streams.get(speaking.asks);
            speaking.parser.time_out(&mut Feed { stream, out, stats });
        }
    }

    /// Nothing has moved for the configured time-out: what this does not end times out.
    pub fn silenced(&mut self, streams: &mut Streams, out: &mut Vec<Message>, stats: &Stats) {
        if let State::Speaking(speaking) = &mut self.state {
            let stream = streams.get(speaking.asks);
            speaking.parser.silenced(&mut Feed { stream, out, stats });
        }
    }

    /// Nothing has moved for a while.
    pub fn quiet(&mut self, streams: &mut Streams, out: &mut Vec<Message>, stats: &Stats) {
        if let State::Speaking(speaking) = &mut self.state {
            for direction in [speaking.asks, speaking.asks.opposite()] {
                let flow = speaking.flow(direction);
                let stream = streams.get(direction);
                speaking
                    .parser
                    .quiet(flow, &mut Feed { stream, out, stats });
            }
        }
    }
}

impl Speaking {
    fn flow(&self, direction: Direction) -> Flow {
        if direction == self.asks {
            Flow::Request
        } else {
            Flow::Response
        }
    }

    fn feed(
        &mut self,
        direction: Direction,
        streams: &mut Streams,
        out: &mut Vec<Message>,
        stats: &Stats,
    ) -> Status {
        let flow = self.flow(direction);
        if flow == Flow::Response {
            let stream = streams.get(self.asks);
            let status = self.parser.answer(&mut Feed { stream, out, stats });
            if status != Status::Stay {
                return status;
            }
        }
        let stream = streams.get(direction);
        match self.parser.parse(flow, &mut Feed { stream, out, stats }) {
            Status::Leave => self.change(streams, out, stats),
            other => other,
        }
    }

    /// Gives the rest to whom both sides changed to, if that is known.
    fn change(&mut self, streams: &mut Streams, out: &mut Vec<Message>, stats: &Stats) -> Status {
        let Some((protocol, parser)) = self.parser.successor() else {
            return Status::Leave;
        };
        self.parser = parser;
        self.patience = protocol.patience();
        let mut status = Status::Stay;
        for direction in [self.asks, self.asks.opposite()] {
            let (flow, stream) = (self.flow(direction), streams.get(direction));
            if status == Status::Stay {
                status = self.parser.parse(flow, &mut Feed { stream, out, stats });
            }
        }
        status
    }
}

fn role(asks: Direction) -> Role {
    match asks {
        Direction::Egress => Role::Client,
        Direction::Ingress => Role::Server,
    }
}
