//! A parser with both of its flows, for unit tests.

use std::sync::Arc;

use super::{Feed, Flow, Message, Parser, Part, Protocol, Request, Response, Setup, Status};
use crate::connection::stream::Stream;
use crate::event::{ConnectionId, Direction, Execution, Hole, Nanos, Role, Segment};
use crate::stats::Stats;

/// One connection, watched from the server's side.
pub struct Bench {
    pub parser: Box<dyn Parser>,
    pub streams: [Stream; 2],
    pub out: Vec<Message>,
    pub stats: Stats,
    pub last: Option<Flow>,
    /// When the next call moves its bytes.
    pub time: Nanos,
}

impl Bench {
    pub fn new(protocol: &dyn Protocol) -> Self {
        let setup = Setup {
            role: Role::Server,
            secure: false,
            process: 1,
            counted: true,
            config: Arc::default(),
            shared: Arc::default(),
        };
        Self {
            parser: protocol.parser(setup),
            streams: [Stream::new(0), Stream::new(0)],
            out: Vec::new(),
            stats: Stats::default(),
            last: None,
            time: 1,
        }
    }

    /// One call that moved these bytes.
    pub fn send(&mut self, flow: Flow, bytes: &[u8]) -> Status {
        self.send_part(flow, bytes, 0, Hole::Budget)
    }

    /// One call that moved these bytes and so many more, which were not copied.
    pub fn send_part(&mut self, flow: Flow, bytes: &[u8], missing: u32, cause: Hole) -> Status {
        let stream = &mut self.streams[flow as usize];
        let segment = Segment {
            connection: ConnectionId(1),
            direction: Direction::Ingress,
            time: self.time,
            offset: stream.end(),
            length: bytes.len() as u32 + missing,
            bytes,
            tail: &[],
            hole: (missing > 0).then_some(cause),
            turn: self.last != Some(flow),
            lost: 0,
            execution: Execution::default(),
        };
        self.last = Some(flow);
        stream.push(&segment, 0, &self.stats);
        let (out, stats) = (&mut self.out, &self.stats);
        self.parser.parse(flow, &mut Feed { stream, out, stats })
    }

    /// Bytes of the one who asks, which the parser must take.
    pub fn ask(&mut self, bytes: &[u8]) {
        assert_eq!(self.send(Flow::Request, bytes), Status::Stay);
    }

    /// Bytes of the one who answers, which the parser must take.
    pub fn answer(&mut self, bytes: &[u8]) {
        assert_eq!(self.send(Flow::Response, bytes), Status::Stay);
    }

    /// Messages of this flow may be missing.
    pub fn missed(&mut self, flow: Flow) {
        let stream = &mut self.streams[flow as usize];
        let (out, stats) = (&mut self.out, &self.stats);
        self.parser.missed(flow, &mut Feed { stream, out, stats });
    }

    /// Nothing comes for a while.
    pub fn quiet(&mut self) {
        for flow in [Flow::Request, Flow::Response] {
            let stream = &mut self.streams[flow as usize];
            let (out, stats) = (&mut self.out, &self.stats);
            self.parser.quiet(flow, &mut Feed { stream, out, stats });
        }
    }

    /// Nothing has come for the configured time-out.
    pub fn silenced(&mut self) {
        let [stream, _] = &mut self.streams;
        let (out, stats) = (&mut self.out, &self.stats);
        self.parser.silenced(&mut Feed { stream, out, stats });
    }

    pub fn requests(&self) -> Vec<&Request> {
        let requests = self.out.iter().filter_map(|m| match &m.part {
            Part::Request(request, _) => Some(&**request),
            _ => None,
        });
        requests.collect()
    }

    pub fn responses(&self) -> Vec<&Response> {
        let responses = self.out.iter().filter_map(|m| match &m.part {
            Part::Response(response) => Some(&**response),
            _ => None,
        });
        responses.collect()
    }

    /// How many findings are such, and forgets all.
    pub fn count(&mut self, is: fn(&Part) -> bool) -> usize {
        let found = self.out.iter().filter(|m| is(&m.part)).count();
        self.out.clear();
        found
    }
}
