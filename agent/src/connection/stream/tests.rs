//! Streams against a plain model: a vector of offsets, each with its byte or the cause of its lack.

use proptest::prelude::*;

use super::*;
use crate::event::{ConnectionId, Direction};

fn segment<'a>(offset: u64, bytes: &'a [u8], hole: u32, tail: &'a [u8]) -> Segment<'a> {
    Segment {
        connection: ConnectionId(1),
        direction: Direction::Ingress,
        time: offset + 100,
        offset,
        length: (bytes.len() + tail.len()) as u32 + hole,
        bytes,
        tail,
        hole: (hole > 0).then_some(Hole::Budget),
        turn: false,
        lost: 0,
        execution: Execution::default(),
    }
}

fn push(stream: &mut Stream, segment: &Segment<'_>) -> Stats {
    let stats = Stats::default();
    stream.push(segment, 0, &stats);
    stats
}

#[test]
fn bytes_of_several_segments_are_one_window() {
    let mut stream = Stream::new(0);
    push(&mut stream, &segment(0, b"ab", 0, b""));
    push(&mut stream, &segment(2, b"cd", 0, b""));
    assert_eq!(stream.window(), b"abcd");
    assert_eq!(stream.mark(1).time, 100);
    assert_eq!(stream.mark(2).time, 102);
    stream.skip(3);
    assert_eq!((stream.window(), stream.last().offset), (&b"d"[..], 2));
}

#[test]
fn bytes_yet_to_come_are_skipped() {
    let mut stream = Stream::new(0);
    stream.skip(10);
    assert!(!stream.reached());
    push(&mut stream, &segment(0, b"0123", 0, b""));
    assert_eq!((stream.held(), stream.last().offset), (0, 3));
    push(&mut stream, &segment(4, b"456789ab", 0, b""));
    assert!(stream.reached());
    assert_eq!((stream.window(), stream.last().offset), (&b"ab"[..], 9));
    assert_eq!(stream.last().time, 104);
}

#[test]
fn a_hole_ends_the_window_and_is_passed_with_its_cause() {
    let mut stream = Stream::new(0);
    push(&mut stream, &segment(0, b"head", 100, b"tail"));
    assert_eq!(stream.window(), b"head");
    assert!(stream.is_cut());
    stream.skip(4 + 100 + 1);
    assert_eq!(stream.window(), b"ail");
    let missing: Vec<_> = stream.take_missing().iter().collect();
    assert_eq!(missing, [(Hole::Budget, 100)]);
    assert!(!stream.take_missing().any());
}

#[test]
fn gaps_are_lost_or_unseen() {
    let mut stream = Stream::new(0);
    let stats = push(&mut stream, &segment(5, b"x", 0, b""));
    assert_eq!(stats.connection_unseen_bytes.get(), 5);
    assert_eq!(stream.front().and_then(|f| f.hole), Some(Hole::Unseen));
    let mut lossy = segment(10, b"y", 0, b"");
    lossy.lost = 2;
    let stats = push(&mut stream, &lossy);
    assert_eq!(stats.connection_lost_bytes.get(), 4);
}

#[test]
fn what_was_seen_is_left_out() {
    let mut stream = Stream::new(0);
    push(&mut stream, &segment(0, b"abc", 0, b""));
    let stats = push(&mut stream, &segment(1, b"bcde", 0, b""));
    assert_eq!(stream.window(), b"abcde");
    assert_eq!(stats.connection_overlapping_bytes.get(), 2);
    let stats = push(&mut stream, &segment(0, b"abc", 0, b""));
    assert_eq!(stream.window(), b"abcde");
    assert_eq!(stats.connection_overlapping_bytes.get(), 3);
}

#[test]
fn a_turn_bounds_what_is_sniffed() {
    let mut stream = Stream::new(0);
    push(&mut stream, &segment(0, b"data", 0, b""));
    let mut turn = segment(4, b"GET", 0, b"");
    turn.turn = true;
    push(&mut stream, &turn);
    assert_eq!(stream.window(), b"dataGET");
    assert_eq!(stream.turn_window(), (&b"data"[..], true));
    stream.skip_front();
    assert!(stream.front().is_some_and(|f| f.turn));
    stream.skip(1);
    assert!(stream.front().is_some_and(|f| !f.turn));
}

#[test]
fn memory_has_a_limit() {
    let mut stream = Stream::new(0);
    let chunk = vec![b'x'; 16 * 1024];
    let mut over = 0;
    for n in 0..100u64 {
        let stats = push(&mut stream, &segment(n * 16 * 1024, &chunk, 0, b""));
        over += stats.connection_overflow_bytes.get();
    }
    assert!(stream.held() <= MAX_BUFFER);
    assert_eq!(over + stream.held() as u64, 100 * 16 * 1024);
    stream.skip(u64::MAX);
    assert!(stream.is_empty() && stream.bytes.capacity() <= KEEP);
}

#[test]
fn runs_have_a_limit() {
    let mut stream = Stream::new(0);
    for n in 0..10_000u64 {
        push(&mut stream, &segment(n, b"x", 0, b""));
    }
    assert!(stream.runs.len() <= MAX_RUNS);
    assert_eq!(stream.window().len(), 10_000);
    let mut holed = Stream::new(0);
    for n in 0..10_000u64 {
        push(&mut holed, &segment(n * 3, b"x", 1, b"y"));
    }
    assert!(holed.runs.len() <= MAX_RUNS + 1);
    assert_eq!(holed.end(), 30_000);
}

proptest! {
    /// Any segments and any reading: the stream is what the model is.
    #[test]
    fn as_the_model(steps in prop::collection::vec(
        (0u64..40, 0usize..20, 0u32..10, 0usize..5, 0u64..30), 0..40,
    )) {
        let mut stream = Stream::new(0);
        // The byte at each offset, as it was first seen.
        let mut model: Vec<Option<u8>> = Vec::new();
        let mut position = 0usize;
        for (offset, head, hole, tail, skip) in steps {
            // Around the end: overlaps and gaps.
            let offset = (stream.end() + offset).saturating_sub(20);
            let total = head as u64 + u64::from(hole) + tail as u64;
            let byte = |n: u64| (n % 251) as u8;
            let first: Vec<u8> = (offset..offset + head as u64).map(byte).collect();
            let last: Vec<u8> = (offset + total - tail as u64..offset + total).map(byte).collect();
            push(&mut stream, &segment(offset, &first, hole, &last));
            while (model.len() as u64) < offset {
                model.push(None);
            }
            while (model.len() as u64) < offset + total {
                let n = model.len() as u64;
                let there = n < offset + head as u64 || n >= offset + total - tail as u64;
                model.push(there.then(|| byte(n)));
            }
            prop_assert_eq!(stream.end(), model.len() as u64);
            stream.skip(skip);
            position += skip as usize;
            let window: Vec<u8> = model.iter().skip(position).map_while(|b| *b).collect();
            prop_assert_eq!(stream.window(), &window[..]);
            prop_assert_eq!(stream.reached(), position <= model.len());
            prop_assert!(stream.held() <= model.len());
        }
    }

    /// Records with absurd lengths and offsets do not panic.
    #[test]
    fn absurd_records(offset in any::<u64>(), length in any::<u32>(), base in any::<u64>(),
        head in 0usize..40, tail in 0usize..40, skip in any::<u64>()) {
        let mut stream = Stream::new(base);
        let mut record = segment(0, &[1; 40][..head], 0, &[2; 40][..tail]);
        record.offset = offset;
        record.length = length;
        stream.push(&record, base, &Stats::default());
        stream.skip(skip);
        stream.push(&record, base, &Stats::default());
        prop_assert!(stream.window().len() <= 160);
    }
}
