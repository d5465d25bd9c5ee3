//! Where bytes from outside come in: what libFuzzer drives for long (`cargo xtask fuzz`) and
//! agent/tests/fuzz_smoke.rs for a moment. Nothing is expected but that each returns.

use std::sync::Arc;

use spantap::config::Config;
use spantap::connection::Streams;
use spantap::connection::stream::Stream;
use spantap::event::{ConnectionId, Direction, Ending, Execution, Hole, Segment, decode};
use spantap::protocol::conversation::Conversation;
use spantap::stats::Stats;
use spantap::trace::context;

/// Raw records, as the kernel side might write them.
pub fn records(mut data: &[u8]) {
    while let Some((length, rest)) = data.split_first() {
        let (record, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let _ = decode::decode(record);
        data = rest;
    }
}

/// Segments of one connection: two bytes say which way, how many, and whether some are missing.
pub fn segments(mut data: &[u8]) {
    let config = Arc::new(Config::default());
    let stats = Stats::default();
    let mut conversation = Conversation::new(data.len() % 2 == 1);
    let mut streams = Streams {
        egress: Stream::new(0),
        ingress: Stream::new(0),
    };
    let mut offsets = [0_u64; 2];
    let mut last = None;
    let mut out = Vec::new();
    while let [how, length, rest @ ..] = data {
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let (direction, way) = match how & 1 {
            0 => (Direction::Ingress, 0),
            _ => (Direction::Egress, 1),
        };
        let missing = if how & 6 == 6 { u32::from(*how) } else { 0 };
        let known = bytes.len() as u32;
        let segment = Segment {
            connection: ConnectionId(1),
            direction,
            time: offsets[0] + offsets[1] + 1,
            offset: offsets[way],
            length: known + missing,
            bytes,
            tail: &[],
            hole: (missing > 0).then_some(Hole::Budget),
            turn: last != Some(way),
            part: how & 8 == 8,
            lost: u32::from(how & 0xf0 == 0xf0),
            execution: Execution::default(),
        };
        offsets[way] += u64::from(segment.length);
        last = Some(way);
        streams.get(direction).push(&segment, 0, &stats);
        let _ = conversation.feed(direction, &mut streams, &config, &mut out, &stats);
        if how & 0xf0 == 0xe0 {
            conversation.quiet(&mut streams, &mut out, &stats);
        }
        out.clear();
        data = rest;
    }
    conversation.end(Ending::Gone, &mut streams, &mut out, &stats);
}

/// Values of the headers that carry a context.
pub fn context(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = context::traceparent(&text);
    let _ = context::tracestate(&text);
}
