//! Whose a connection is, by its first bytes: each turn is shown to every protocol of the registry.
//!
//! One that is sure has it. Those that find it likely wait for the other side's turn: it must be like
//! the other half of the same dialogue. The bytes stay in their streams meanwhile. Where several
//! agree, one whose servers listen on one of the two ports goes first, then the registry's order.
//!
//! Never true here: that a port alone decides, that more than the limit is looked at, or that a byte
//! of an unknown connection is kept: only its shape is.

use super::{ALL, Flow, Protocol, Verdict};
use crate::connection::Streams;
use crate::connection::stream::Stream;
use crate::event::{Direction, Nanos};

/// Protocols that may be mistaken about one connection, one after the other.
const MAX_MISTAKES: u32 = 3;

/// What is known of a connection before its bytes are.
#[derive(Clone, Copy, Debug, Default)]
pub struct About {
    /// Whether TLS protects its bytes.
    pub secure: bool,
    /// Whether the connection was older than the agent: its first bytes may be any.
    pub adopted: bool,
    /// Ports of both its ends.
    pub ports: [Option<u16>; 2],
    /// Whether each turn is a datagram.
    pub datagrams: bool,
    /// The process whose end it is.
    pub process: u32,
}

/// Who is asked about a connection, and what was found of its first bytes.
#[derive(Clone, Debug, Default)]
pub struct Sniffer {
    about: About,
    /// Bytes that were looked at in vain.
    looked: u64,
    /// What is known of each direction.
    egress: Side,
    ingress: Side,
    /// Whether a turn that waited was passed over in this look.
    dropped: bool,
    /// Protocols of the registry that had it, the last of them now.
    had: u64,
}

/// One direction.
#[derive(Clone, Debug, Default)]
struct Side {
    /// Whether its first turn was nobody's.
    refused: bool,
    /// Who finds the turn at its front likely.
    likely: Likely,
    /// What its first turn looked like.
    shape: Shape,
    /// When the last turn was moved that waited and was passed over: it may belong to what came before
    /// it the other way.
    void: Nanos,
}

/// Protocols, by their bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Likely {
    requests: u64,
    responses: u64,
}

/// The first bytes of a turn by their kinds: `a` a small letter, `A` a capital, `9` a digit, `.` a
/// control character, `*` a byte that is no ASCII; all others as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape(String);

/// What came of a look.
pub enum Found {
    /// This protocol's, whose questions go this way.
    Mine(&'static dyn Protocol, Direction),
    /// More bytes are needed.
    Perhaps,
    /// Nobody knows it.
    Nobodys,
}

impl Sniffer {
    /// Nobody was asked yet.
    pub fn new(about: About) -> Self {
        Self {
            about,
            ..Self::default()
        }
    }

    /// Whether TLS protects the connection's bytes.
    pub fn is_secure(&self) -> bool {
        self.about.secure
    }

    /// The process whose end it is.
    pub fn process(&self) -> u32 {
        self.about.process
    }

    /// Whether its bytes are counted from its first.
    pub fn is_counted(&self) -> bool {
        self.about.ports != [None, None]
    }

    /// What the first turns of (egress, ingress) looked like.
    pub fn shapes(&self) -> [&Shape; 2] {
        [&self.egress.shape, &self.ingress.shape]
    }

    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Egress => &mut self.egress,
            Direction::Ingress => &mut self.ingress,
        }
    }

    /// The same connection after the last verdict was withdrawn, if anybody is left to be asked.
    pub fn again(self) -> Option<Self> {
        let fresh = |side: Side| Side {
            shape: side.shape,
            ..Side::default()
        };
        (self.had.count_ones() < MAX_MISTAKES).then(|| Self {
            about: About {
                adopted: true,
                ..self.about
            },
            egress: fresh(self.egress),
            ingress: fresh(self.ingress),
            ..self
        })
    }

    /// Shows each turn that has begun in this direction to the protocols, as long as less than `limit`
    /// bytes were looked at in vain.
    pub fn look(&mut self, mut direction: Direction, streams: &mut Streams, limit: u64) -> Found {
        loop {
            self.dropped = false;
            match self.look_at(direction, streams, limit) {
                // Behind what was passed over there may be the other half of what waits now.
                Found::Perhaps if self.dropped => direction = direction.opposite(),
                found => return found,
            }
        }
    }

    fn look_at(&mut self, direction: Direction, streams: &mut Streams, limit: u64) -> Found {
        while let Some(front) = streams.get(direction).front() {
            let front_is_hole = front.hole.is_some();
            if front.turn && !front_is_hole {
                match self.turn(direction, streams) {
                    Turn::Mine(number, asks) => {
                        self.had |= 1 << number;
                        let Some(protocol) = ALL.get(number) else {
                            break;
                        };
                        return Found::Mine(*protocol, asks);
                    }
                    Turn::Perhaps => {
                        let held = streams.held() as u64;
                        // A first question may be as long as any; what is copied of one is bounded.
                        let waits = self.side(direction).likely != Likely::default();
                        let limit = limit.saturating_mul(if waits { 2 } else { 1 });
                        return match self.looked.saturating_add(held) > limit {
                            true => Found::Nobodys,
                            false => Found::Perhaps,
                        };
                    }
                    // Nothing is said against whom it would have been.
                    Turn::Cut => {}
                    Turn::Nobodys => {
                        self.side(direction).refused = true;
                        // What it would have agreed with agrees with nothing.
                        if self.drop_likely(direction.opposite(), streams) {
                            self.side(direction.opposite()).refused = true;
                        }
                    }
                }
            }
            // What waits for its answer may have had it there.
            if front_is_hole {
                self.drop_likely(direction.opposite(), streams);
            }
            self.side(direction).likely = Likely::default();
            self.pass(streams.get(direction));
        }
        let refused = self.egress.refused && self.ingress.refused;
        match self.looked > limit || (!self.about.adopted && refused) {
            true => Found::Nobodys,
            false => Found::Perhaps,
        }
    }

    /// Passes over the turn that somebody found likely, if there is one.
    fn drop_likely(&mut self, direction: Direction, streams: &mut Streams) -> bool {
        let likely = std::mem::take(&mut self.side(direction).likely);
        let waits = likely != Likely::default();
        if waits {
            self.side(direction).void = streams.get(direction).mark(0).time;
            self.pass(streams.get(direction));
            self.dropped = true;
        }
        waits
    }

    /// Passes over what is left of a stream's first run.
    fn pass(&mut self, stream: &mut Stream) {
        let length = stream.front().map_or(0, |front| front.bytes.len() as u64);
        self.looked = self.looked.saturating_add(length);
        stream.skip_front();
        stream.take_missing();
    }

    /// Shows the turn at a stream's front to all.
    fn turn(&mut self, direction: Direction, streams: &mut Streams) -> Turn {
        let void = self.side(direction.opposite()).void;
        if streams.get(direction).mark(0).time < void {
            return Turn::Cut;
        }
        let (bytes, cut) = streams.get(direction).turn_window();
        let shape = &mut self.side(direction).shape;
        if shape.0.len() < SHAPE {
            *shape = Shape::of(bytes);
        }
        let mut likely = Likely::default();
        let mut more = 0u64;
        for (number, protocol) in ALL.iter().enumerate() {
            let bit = 1 << number;
            if self.had & bit != 0 || self.about.datagrams && !protocol.has_datagrams() {
                continue;
            }
            let verdict = match self.about.adopted {
                true => protocol.sniff_amid(bytes),
                false => protocol.sniff(bytes),
            };
            match verdict {
                Verdict::Is(Flow::Request) => return Turn::Mine(number, direction),
                Verdict::Is(Flow::Response) => return Turn::Mine(number, direction.opposite()),
                Verdict::Likely(Flow::Request) => likely.requests |= bit,
                Verdict::Likely(Flow::Response) => likely.responses |= bit,
                Verdict::More => more |= bit,
                Verdict::Not => {}
            }
        }
        self.side(direction).likely = likely;
        let Side {
            likely: other,
            refused,
            ..
        } = *self.side(direction.opposite());
        // Whoever knows the other side may come to know this one.
        if more & (other.requests | other.responses) != 0 && !cut {
            return Turn::Perhaps;
        }
        // On an older connection the first answer may be to a question that was not seen.
        let mut moved = |direction| streams.get(direction).mark(0).time;
        let (this, before) = (moved(direction), moved(direction.opposite()));
        if self.about.adopted && likely.requests & other.responses != 0 && before < this {
            self.drop_likely(direction.opposite(), streams);
            return Turn::Perhaps;
        }
        if self.about.adopted && likely.responses & other.requests != 0 && this < before {
            return Turn::Cut;
        }
        let asked = self.first(likely.requests & other.responses);
        let answered = self.first(likely.responses & other.requests);
        if let Some(number) = asked {
            return Turn::Mine(number, direction);
        }
        if let Some(number) = answered {
            return Turn::Mine(number, direction.opposite());
        }
        let waits = likely != Likely::default() && other == Likely::default();
        if waits && (self.about.adopted || !refused) || more != 0 && !cut {
            return Turn::Perhaps;
        }
        match more {
            0 => Turn::Nobodys,
            _ => Turn::Cut,
        }
    }

    /// The first of these, those of the connection's ports before others.
    fn first(&self, bits: u64) -> Option<usize> {
        let is = |number: &usize| bits >> number & 1 != 0;
        let by_port = |number: &usize| {
            let ports = ALL
                .get(*number)
                .map_or(&[][..], |protocol| protocol.ports());
            self.about
                .ports
                .iter()
                .flatten()
                .any(|port| ports.contains(port))
        };
        let all = || (0..ALL.len()).filter(is);
        all().find(by_port).or_else(|| all().next())
    }
}

/// What came of one turn.
enum Turn {
    Mine(usize, Direction),
    Perhaps,
    /// Bytes that would decide it are missing.
    Cut,
    Nobodys,
}

/// Bytes that a shape is made of.
const SHAPE: usize = 16;

impl Shape {
    /// Of a turn's first bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let kind = |b: &u8| match b {
            b'a'..=b'z' => 'a',
            b'A'..=b'Z' => 'A',
            b'0'..=b'9' => '9',
            0..=31 | 127 => '.',
            128.. => '*',
            other => char::from(*other),
        };
        Self(bytes.iter().take(SHAPE).map(kind).collect())
    }

    /// As people read it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// Protocols are bits of a word.
const _: () = assert!(ALL.len() <= 64);
