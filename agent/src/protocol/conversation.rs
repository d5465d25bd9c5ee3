//! What one connection speaks: nothing known → decided → left.
//!
//! The first bytes of each turn are shown to every protocol of the registry until one knows them;
//! which half of the dialogue they are tells who asks on this connection, whoever connected. What
//! nobody knows costs at most `capture.unknown_bytes`.
//!
//! Never true here: that a port decides anything, or that a connection is taken up again after it
//! was left.

use std::sync::Arc;

use super::{ALL, Feed, Flow, Message, Parser, Protocol, Setup, Status, Verdict};
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
    /// Whether its bytes are needed whole, and nobody was told yet.
    whole: bool,
}

#[derive(Debug)]
enum State {
    Undecided(Undecided),
    Speaking(Speaking),
    Left,
}

#[derive(Debug, Default)]
struct Undecided {
    /// Bytes that were looked at in vain.
    looked: u64,
    /// Whether the first turn of (egress, ingress) was nobody's.
    refused: [bool; 2],
    /// Whether the connection was older than the agent: its first bytes may be any.
    adopted: bool,
    /// Whether TLS protects its bytes.
    secure: bool,
}

#[derive(Debug)]
struct Speaking {
    parser: Box<dyn Parser>,
    asks: Direction,
    whole: bool,
}

impl Conversation {
    /// A connection of which nothing is known but whether it was there before the agent
    /// (`adopted`), and whether TLS protects it (`secure`).
    pub fn new(adopted: bool, secure: bool) -> Self {
        Self {
            state: State::Undecided(Undecided {
                adopted,
                secure,
                ..Undecided::default()
            }),
            role: None,
            whole: false,
        }
    }

    /// Whether the copy budget is to be lifted; true once.
    pub fn wants_whole(&mut self) -> bool {
        std::mem::take(&mut self.whole)
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
        config: &Arc<Config>,
        out: &mut Vec<Message>,
        stats: &Stats,
    ) -> Status {
        let status = match &mut self.state {
            State::Left => return Status::Leave,
            State::Speaking(speaking) => speaking.feed(direction, streams, out, stats),
            State::Undecided(undecided) => match undecided.decide(direction, streams, config) {
                Decision::Wait => Status::Stay,
                Decision::Refuse => {
                    stats.protocol_unrecognised.add(1);
                    Status::Leave
                }
                Decision::Speak(speaking) => self.speak(speaking, streams, out, stats),
            },
        };
        if status == Status::Leave {
            self.state = State::Left;
        }
        status
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
        self.whole = speaking.whole;
        self.role = Some(role(asks));
        let mut status = Status::Stay;
        for direction in [asks, opposite(asks)] {
            if status == Status::Stay {
                status = speaking.feed(direction, streams, out, stats);
            }
        }
        self.state = State::Speaking(speaking);
        status
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
        for direction in [asks, opposite(asks)] {
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
        match opposite(asks) {
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

    /// Nothing has moved for a while.
    pub fn quiet(&mut self, streams: &mut Streams, out: &mut Vec<Message>, stats: &Stats) {
        if let State::Speaking(speaking) = &mut self.state {
            for direction in [speaking.asks, opposite(speaking.asks)] {
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
            if self.parser.answer(&mut Feed { stream, out, stats }) == Status::Leave {
                return Status::Leave;
            }
        }
        let stream = streams.get(direction);
        self.parser.parse(flow, &mut Feed { stream, out, stats })
    }
}

enum Decision {
    Wait,
    Refuse,
    Speak(Speaking),
}

impl Undecided {
    /// Shows each turn that has begun in this direction to the protocols.
    fn decide(
        &mut self,
        direction: Direction,
        streams: &mut Streams,
        config: &Arc<Config>,
    ) -> Decision {
        let limit = u64::from(config.capture.unknown_bytes);
        let stream = streams.get(direction);
        while let Some(front) = stream.front() {
            if front.turn && front.hole.is_none() {
                let (bytes, cut) = stream.turn_window();
                match recognise(bytes, self.adopted) {
                    Found::Mine(protocol, flow) => {
                        let asks = match flow {
                            Flow::Request => direction,
                            Flow::Response => opposite(direction),
                        };
                        let setup = Setup {
                            role: role(asks),
                            secure: self.secure,
                            config: Arc::clone(config),
                        };
                        return Decision::Speak(Speaking {
                            parser: protocol.parser(setup),
                            asks,
                            whole: protocol.needs_whole(),
                        });
                    }
                    Found::Perhaps if !cut => {
                        let waiting = stream.held() as u64;
                        return if self.looked.saturating_add(waiting) > limit {
                            Decision::Refuse
                        } else {
                            Decision::Wait
                        };
                    }
                    Found::Perhaps | Found::Nobodys => self.refuse(direction),
                }
            }
            self.looked = self.looked.saturating_add(front_length(stream));
            stream.skip_front();
            stream.take_missing();
        }
        let [egress, ingress] = self.refused;
        if self.looked > limit || (!self.adopted && egress && ingress) {
            Decision::Refuse
        } else {
            Decision::Wait
        }
    }

    fn refuse(&mut self, direction: Direction) {
        let [egress, ingress] = &mut self.refused;
        match direction {
            Direction::Egress => *egress = true,
            Direction::Ingress => *ingress = true,
        }
    }
}

fn front_length(stream: &crate::connection::stream::Stream) -> u64 {
    stream.front().map_or(0, |front| front.bytes.len() as u64)
}

enum Found {
    Mine(&'static dyn Protocol, Flow),
    Perhaps,
    Nobodys,
}

/// Asks every protocol; the first that is sure has it.
fn recognise(bytes: &[u8], adopted: bool) -> Found {
    let mut found = Found::Nobodys;
    for &protocol in ALL {
        let verdict = match adopted {
            true => protocol.sniff_amid(bytes),
            false => protocol.sniff(bytes),
        };
        match verdict {
            Verdict::Is(flow) => return Found::Mine(protocol, flow),
            Verdict::More => found = Found::Perhaps,
            Verdict::Not => {}
        }
    }
    found
}

fn role(asks: Direction) -> Role {
    match asks {
        Direction::Egress => Role::Client,
        Direction::Ingress => Role::Server,
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Egress => Direction::Ingress,
        Direction::Ingress => Direction::Egress,
    }
}
