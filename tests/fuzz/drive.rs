//! Bytes from outside, and what must be true whatever they are. The fuzz targets beside this drive
//! them for long (`cargo xtask fuzz`), agent/tests/fuzz.rs for a moment in every test run.
//!
//! [`records`], [`context`] and [`elf`] need only return; [`events`] reads every field of every event from
//! the input; [`wire`] reads an honest dialogue (each line is one side's, told by its first byte)
//! and plays it in portions; [`hpack`] drives HTTP/2's compression alone, and [`parser`] any one
//! protocol's parser without what tells that it is its.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use spantap::config::Config;
use spantap::connection::stream::{MAX_BUFFER, Stream};
use spantap::event::{
    Address, ConnectionId, Direction, End, Ending, Event, Execution, Hole, Open, Role, Segment,
    decode,
};
use spantap::exchange::Fact;
use spantap::pipeline::shard::{Out, Shard};
use spantap::protocol::http2::hpack::Decoder;
use spantap::protocol::{self, Feed, Flow, Setup, Status};
use spantap::stats::Stats;
use spantap::target::code::{self, Register};
use spantap::target::image::Image;
use spantap::target::tls;
use spantap::trace::context;

/// Raw records, as the kernel side might write them: a length, then so many bytes.
pub fn records(mut data: &[u8]) {
    while let Some((length, rest)) = data.split_first() {
        let (record, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        if let Some(Event::Segment(segment)) = decode::decode(record) {
            assert!(segment.bytes.len() + segment.tail.len() <= segment.length as usize);
        }
        data = rest;
    }
}

/// Values of the headers that carry a context.
pub fn context(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = context::traceparent(&text);
    let _ = context::tracestate(&text);
}

/// An executable file: all that is asked of it where probes are to be placed. A file of its own for
/// each, since an image reads files alone.
pub fn elf(data: &[u8]) {
    let path = std::env::temp_dir().join(format!("spantap-fuzz-{}", std::process::id()));
    std::fs::write(&path, data).expect("a writable folder");
    let file = File::open(&path).expect("just written");
    let Some(image) = Image::open(file) else {
        return;
    };
    tls::plans(&image);
    for (_, function) in image.matching("", |_| true).into_iter().take(8) {
        if let Some(body) = image.body_of(function) {
            let _ = code::entry(&body, &[Register::RDI, Register::RDX]);
            let _ = code::exits(&image, body);
        }
    }
}

/// Any events: absurd offsets and lengths, lost records, connections that were never opened.
pub fn events(data: &[u8]) {
    let mut play = Play::new();
    let mut input = Input(data);
    let mut offsets = [[0u64; 2]; 4];
    while let Some(kind) = input.byte() {
        let number = usize::from(input.byte().unwrap_or(0) % 4);
        let id = ConnectionId(number as u64);
        let flags = input.byte().unwrap_or(0);
        play.time += u64::from(input.byte().unwrap_or(0));
        match kind % 8 {
            0 => {
                let far = flags & 1 != 0;
                play.open(
                    id,
                    if far {
                        u64::MAX - 1000
                    } else {
                        u64::from(flags >> 4)
                    },
                );
                offsets[number] = [0; 2];
            }
            1 => {
                let ending = match flags % 4 {
                    0 => Ending::Eof,
                    1 => Ending::Local,
                    2 => Ending::Error(i32::from(flags)),
                    _ => Ending::Gone,
                };
                play.end(id, ending);
            }
            2 => play.tick(u64::from(flags) << 28),
            _ => {
                let way = usize::from(flags & 1);
                let length = usize::from(input.byte().unwrap_or(0));
                let head = input.take(length);
                let tail = if flags & 2 != 0 { input.take(16) } else { &[] };
                let more = u32::from(flags & 4) * u32::from(input.byte().unwrap_or(0)) * 16;
                let offset = &mut offsets[number][way];
                if flags & 8 != 0 {
                    *offset = offset.wrapping_add(u64::from(kind)).wrapping_sub(60);
                }
                let length = (head.len() + tail.len()) as u32 + more;
                let segment = Segment {
                    connection: id,
                    direction: [Direction::Egress, Direction::Ingress][way],
                    time: play.time,
                    offset: *offset,
                    length,
                    bytes: head,
                    tail,
                    hole: (more > 0).then_some(Hole::Budget),
                    turn: flags & 16 != 0,
                    lost: u32::from(flags & 32),
                    execution: Execution::default(),
                };
                *offset = offset.wrapping_add(u64::from(length));
                play.segment(segment);
            }
        }
    }
    play.finish();
}

/// A dialogue: after each `>` or `<` at a line's start, that side's line, in portions of a size
/// that the first byte gives.
pub fn wire(data: &[u8]) {
    let mut play = Play::new();
    let id = ConnectionId(1);
    play.open(id, 0);
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let portion = usize::from(first) * 4 + 1;
    let mut offsets = [0u64; 2];
    let mut last = 2;
    for line in rest.split_inclusive(|&b| b == b'\n') {
        let (way, line) = match line {
            [b'>', line @ ..] => (1, line),
            [b'<', line @ ..] => (0, line),
            line => (last % 2, line),
        };
        for bytes in line.chunks(portion) {
            play.time += 1;
            play.segment(Segment {
                connection: id,
                direction: [Direction::Egress, Direction::Ingress][way],
                time: play.time,
                offset: offsets[way],
                length: bytes.len() as u32,
                bytes,
                tail: &[],
                hole: None,
                turn: last != way,
                lost: 0,
                execution: Execution::default(),
            });
            offsets[way] += bytes.len() as u64;
            last = way;
        }
    }
    play.finish();
}

/// Header blocks of one connection, each behind its length in two bytes; the first byte says
/// whether the connection is older than the agent, and how much is wanted of a block.
pub fn hpack(data: &[u8]) {
    let mut input = Input(data);
    let first = input.byte().unwrap_or(0);
    let mut decoder = Decoder::new(first & 1 != 0);
    let room = usize::from(first) * 64;
    while let Some(high) = input.byte() {
        let length = usize::from(high) << 8 | usize::from(input.byte().unwrap_or(0));
        let block = input.take(length);
        let (mut fields, mut taken) = (0, 0);
        let read = decoder.block(block, room, |field| {
            fields += 1;
            taken += field.name.map_or(0, |name| name.len()) + 32;
            taken += field.value.map_or(0, |value| value.len());
        });
        assert!(taken <= room && fields <= block.len());
        assert!(decoder.size() <= 64 * 1024);
        if read.is_err() {
            decoder.lose();
        }
    }
}

/// One connection of the protocol that the first byte names by its place in the registry: calls of so
/// many bytes, of which some may be missing.
pub fn parser(data: &[u8]) {
    let setup = Setup {
        secure: false,
        counted: true,
        role: Role::Server,
        process: 1,
        config: Arc::default(),
        shared: Arc::default(),
    };
    let (mut streams, stats) = ([Stream::new(0), Stream::new(0)], Stats::default());
    let (mut input, mut last, mut time) = (Input(data), 2, 0);
    let number = usize::from(input.byte().unwrap_or(0));
    let protocol = protocol::ALL[number % protocol::ALL.len()];
    let mut parser = protocol.parser(setup);
    let most = match protocol.name() {
        // A header block that has not come whole is all that may wait.
        "http2" => 64 * 1024 + 512,
        _ => MAX_BUFFER,
    };
    while let Some(flags) = input.byte() {
        let length = usize::from(input.byte().unwrap_or(0));
        let bytes = input.take(length);
        let missing = if flags & 2 != 0 {
            u32::from(flags >> 2)
        } else {
            0
        };
        let way = usize::from(flags & 1);
        let stream = &mut streams[way];
        time += 1;
        let segment = Segment {
            connection: ConnectionId(1),
            direction: Direction::Egress,
            time,
            offset: stream.end(),
            length: bytes.len() as u32 + missing,
            bytes,
            tail: &[],
            hole: (missing > 0).then_some(Hole::Lost),
            turn: last != way,
            lost: 0,
            execution: Execution::default(),
        };
        last = way;
        stream.push(&segment, 0, &stats);
        let mut out = Vec::new();
        let flow = [Flow::Request, Flow::Response][way];
        let mut feed = Feed {
            stream,
            out: &mut out,
            stats: &stats,
        };
        if parser.parse(flow, &mut feed) != Status::Stay {
            return;
        }
        assert!(parser.weight() <= 1 << 20);
        assert!(streams[way].held() <= most);
    }
}

struct Play {
    shard: Shard,
    open: BTreeSet<u64>,
    time: u64,
}

impl Play {
    fn new() -> Self {
        let config = Arc::new(Config::default());
        Self {
            shard: Shard::new(0, 3, config, Arc::new(Stats::default())),
            open: BTreeSet::new(),
            time: 1,
        }
    }

    fn with(&mut self, act: impl FnOnce(&mut Shard, &mut Out<'_>)) {
        let (mut facts, mut commands) = (Vec::new(), Vec::new());
        let mut out = Out {
            facts: &mut facts,
            commands: &mut commands,
        };
        act(&mut self.shard, &mut out);
        for fact in facts {
            match fact {
                Fact::Opened(opened) => {
                    assert!(self.open.insert(opened.id.0), "opened twice");
                    assert!(opened.start.time <= opened.head.time);
                }
                Fact::Closed(exchange) => {
                    assert!(
                        self.open.remove(&exchange.id.0),
                        "closed without being open"
                    );
                    assert!(exchange.start.time <= exchange.end);
                }
                Fact::Started(_) | Fact::Taken(_) | Fact::Carried(_) | Fact::Java(_) => {}
                Fact::Detached(id, _) => {
                    assert!(self.open.contains(&id.0), "detached without being open");
                }
            }
        }
        assert!(self.shard.connections() <= 3);
    }

    fn open(&mut self, id: ConnectionId, base: u64) {
        let time = self.time;
        self.with(|shard, out| {
            let open = Open {
                connection: id,
                time,
                process: 1,
                comm: String::new(),
                local: Address::Unix(None),
                remote: Address::Unix(None),
                role: Some(Role::Server),
                ends: None,
                start: [base, base],
                base: [base, base],
                line: 0,
                netns: 0,
                session: None,
                kernel_tls: false,
                datagrams: false,
            };
            shard.take(&Event::Open(open), out);
        });
    }

    fn end(&mut self, id: ConnectionId, ending: Ending) {
        let time = self.time;
        self.with(|shard, out| {
            let end = End {
                connection: id,
                time,
                ending,
                lost: 0,
            };
            shard.take(&Event::End(end), out);
        });
    }

    fn segment(&mut self, segment: Segment<'_>) {
        self.with(|shard, out| shard.take(&Event::Segment(segment), out));
    }

    fn tick(&mut self, ahead: u64) {
        self.time += ahead;
        let now = self.time;
        self.with(|shard, out| shard.tick(now, out));
    }

    fn finish(mut self) {
        let now = self.time;
        self.with(|shard, out| shard.finish(now, out));
        assert!(self.open.is_empty(), "left open");
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
