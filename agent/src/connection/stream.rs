//! One direction's bytes: a bounded buffer at absolute 64-bit offsets, every hole explicit and with
//! its cause.
//!
//! A stream is a row of runs, each either captured bytes or a hole of known length, each with the
//! time and the execution that moved it. The reader sits at [`Stream::position`]; it reads the
//! captured bytes before it ([`Stream::window`]) and passes over bytes and holes alike
//! ([`Stream::skip`]), also over some that are yet to come: a body of known length costs nothing,
//! and a hole inside it does no harm.
//!
//! Never true here: that a missing byte is passed in silence (it is a hole, with a cause), that
//! offsets go back, or that more than [`MAX_BUFFER`] bytes or about [`MAX_RUNS`] runs are held.

use std::collections::VecDeque;

use bytes::{Buf as _, BytesMut};

use super::Mark;
use crate::event::{Execution, Hole, Nanos, Segment};
use crate::stats::Stats;

/// Most captured bytes held; past that they become a hole ([`Hole::Budget`]) and are counted. A
/// head may be 64 KiB; the rest is what may follow it in the same records.
pub const MAX_BUFFER: usize = 192 * 1024;
/// Most runs held apart; past that neighbours are merged and share the later one's mark.
pub const MAX_RUNS: usize = 512;
/// Capacity an idle stream may keep.
const KEEP: usize = 4096;

/// One direction of a connection, read from the front.
#[derive(Debug, Default)]
pub struct Stream {
    /// Captured bytes of `runs`, from `position` on, one after the other.
    bytes: BytesMut,
    /// What is between `position` and `end`; a run that `position` is inside of comes first.
    runs: VecDeque<Run>,
    /// Of `runs`, how many are holes.
    holes: usize,
    /// Captured bytes before the first hole.
    window: usize,
    /// Where the reader is; may be ahead of `end`.
    position: u64,
    /// First offset not seen yet.
    end: u64,
    /// Mark of the byte before `position`, once that byte was seen.
    last: Mark,
    /// Holes passed since they were last taken.
    missing: Missing,
}

/// A stretch of a stream.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: u64,
    end: u64,
    hole: Option<Hole>,
    turn: bool,
    seal: bool,
    time: Nanos,
    execution: Execution,
}

/// What a reader needs to know of the run it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front<'a> {
    /// Its captured bytes from the position on; empty for a hole.
    pub bytes: &'a [u8],
    /// Whether it is a hole, and why.
    pub hole: Option<Hole>,
    /// Whether the position is the first byte after bytes went the other way.
    pub turn: bool,
    /// Whether a segment ends with it.
    pub seal: bool,
}

/// Bytes passed without being seen, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    any: bool,
    bytes: [u64; CAUSES.len()],
}

const CAUSES: [Hole; 7] = [
    Hole::Budget,
    Hole::NoBuffer,
    Hole::Fault,
    Hole::Compat,
    Hole::Iovecs,
    Hole::Lost,
    Hole::Unseen,
];

impl Missing {
    /// Adds so many bytes.
    pub fn add(&mut self, cause: Hole, bytes: u64) {
        self.any = true;
        for (slot, known) in self.bytes.iter_mut().zip(CAUSES) {
            if known == cause {
                *slot = slot.saturating_add(bytes);
            }
        }
    }

    /// Adds what another has.
    pub fn merge(&mut self, other: Self) {
        for (cause, bytes) in other.iter() {
            self.add(cause, bytes);
        }
    }

    /// Whether anything is missing.
    pub fn any(&self) -> bool {
        self.any
    }

    /// (cause, bytes) of each cause that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Hole, u64)> + use<> {
        CAUSES
            .into_iter()
            .zip(self.bytes)
            .filter(|(_, bytes)| *bytes > 0)
    }
}

impl Stream {
    /// A stream whose first byte to be seen has the offset `base`.
    pub fn new(base: u64) -> Self {
        Self {
            position: base,
            end: base,
            ..Self::default()
        }
    }

    /// Takes what one call moved. `base` is added to the segment's offset, see
    /// [`Open::base`](crate::event::Open::base). Bytes seen before are left out; a gap before it becomes
    /// a hole, [`Hole::Lost`] where records were lost, else [`Hole::Unseen`].
    pub fn push(&mut self, segment: &Segment<'_>, base: u64, stats: &Stats) {
        let start = base.wrapping_add(segment.offset);
        let stop = start.saturating_add(u64::from(segment.length));
        if start > i64::MAX as u64 {
            // Behind the first byte there is.
            stats
                .connection_overlapping_bytes
                .add(segment.length.into());
            return;
        }
        self.gap(start, segment, stats);
        if stop <= self.end {
            stats
                .connection_overlapping_bytes
                .add(u64::from(segment.length));
            return;
        }
        let overlap = self.end.saturating_sub(start);
        if overlap > 0 {
            stats.connection_overlapping_bytes.add(overlap);
        }
        let (head, hole, tail) = parts(segment);
        let head_stop = start.saturating_add(len(head));
        let hole_stop = head_stop.saturating_add(hole);
        let cause = segment.hole.unwrap_or(Hole::Unseen);
        let mut turn = segment.turn && overlap == 0;
        for (stop, bytes, hole) in [
            (head_stop, head, None),
            (hole_stop, &[][..], Some(cause)),
            (stop, tail, None),
        ] {
            let Some(length) = stop.checked_sub(self.end).filter(|&n| n > 0) else {
                continue;
            };
            let fresh = bytes.len().saturating_sub(size(length));
            let run = Run {
                start: self.end,
                end: stop,
                hole,
                turn,
                seal: false,
                time: segment.time,
                execution: segment.execution,
            };
            self.append(run, bytes.get(fresh..).unwrap_or_default(), stats);
            turn = false;
        }
        if let Some(run) = self.runs.back_mut() {
            run.seal = run.end == stop;
        }
    }

    /// Takes a datagram: its bytes behind their number, in two bytes, as a turn of its own. Where one is
    /// in the sender's order says nothing, so it comes at the end; a byte is missing for each record
    /// that was lost before it.
    pub fn push_datagram(&mut self, segment: &Segment<'_>, stats: &Stats) {
        let length = u16::try_from(segment.length).unwrap_or(u16::MAX);
        let mut bytes = Vec::with_capacity(segment.bytes.len().saturating_add(2));
        bytes.extend(length.to_be_bytes());
        bytes.extend(segment.bytes);
        let datagram = Segment {
            offset: self.end.saturating_add(segment.lost.into()),
            length: u32::from(length).saturating_add(2),
            bytes: &bytes,
            turn: true,
            ..*segment
        };
        self.push(&datagram, 0, stats);
    }

    /// Makes the bytes between the end and `start` a hole.
    fn gap(&mut self, start: u64, segment: &Segment<'_>, stats: &Stats) {
        let Some(bytes) = start.checked_sub(self.end).filter(|&n| n > 0) else {
            return;
        };
        let hole = if segment.lost > 0 {
            stats.connection_lost_bytes.add(bytes);
            Hole::Lost
        } else {
            stats.connection_unseen_bytes.add(bytes);
            Hole::Unseen
        };
        let run = Run {
            start: self.end,
            end: start,
            hole: Some(hole),
            turn: false,
            seal: true,
            time: segment.time,
            execution: segment.execution,
        };
        self.append(run, &[], stats);
    }

    /// Adds a run at the end, less what the reader has already passed.
    fn append(&mut self, mut run: Run, mut bytes: &[u8], stats: &Stats) {
        self.end = run.end;
        if self.position > run.start {
            let passed = self.position.min(run.end);
            let length = passed.saturating_sub(run.start);
            if let Some(cause) = run.hole {
                self.missing.add(cause, length);
            }
            self.last = run.mark(passed.saturating_sub(1));
            if passed == run.end {
                return;
            }
            bytes = bytes.get(size(length)..).unwrap_or_default();
            run.start = passed;
            run.turn = false;
        }
        if self.bytes.len().saturating_add(bytes.len()) > MAX_BUFFER {
            stats.connection_overflow_bytes.add(len(bytes));
            run.hole = Some(Hole::Budget);
            bytes = &[];
        }
        if self.merge(&run, bytes, stats) {
            return;
        }
        match run.hole {
            Some(_) => self.holes = self.holes.saturating_add(1),
            None if self.holes == 0 => self.window = self.window.saturating_add(bytes.len()),
            None => {}
        }
        self.bytes.extend_from_slice(bytes);
        self.runs.push_back(run);
    }

    /// With too many runs, lets the newest one grow instead of adding another.
    fn merge(&mut self, run: &Run, bytes: &[u8], stats: &Stats) -> bool {
        if self.runs.len() < MAX_RUNS {
            return false;
        }
        let Some(back) = self.runs.back_mut() else {
            return false;
        };
        match (back.hole, run.hole) {
            (None, Some(_)) => return false,
            (Some(_), None) => stats.connection_overflow_bytes.add(len(bytes)),
            (Some(_), Some(_)) => {}
            (None, None) => {
                self.bytes.extend_from_slice(bytes);
                if self.holes == 0 {
                    self.window = self.window.saturating_add(bytes.len());
                }
            }
        }
        stats.connection_runs_merged.add(1);
        back.end = run.end;
        back.seal = run.seal;
        back.time = run.time;
        back.execution = run.execution;
        true
    }

    /// What is held is read later than what came after it the other way: that it began a turn tells
    /// nothing any more.
    pub fn forget_turns(&mut self) {
        for run in &mut self.runs {
            run.turn = false;
        }
    }

    /// Passes over the next `n` bytes, seen or not, come or yet to come.
    pub fn skip(&mut self, n: u64) {
        let target = self.position.saturating_add(n);
        let mut passed_hole = false;
        while let Some(run) = self.runs.front() {
            let stop = run.end.min(target);
            let length = stop.saturating_sub(self.position);
            if length == 0 {
                break;
            }
            match run.hole {
                Some(cause) => self.missing.add(cause, length),
                None => {
                    let length = size(length).min(self.bytes.len());
                    self.bytes.advance(length);
                    self.window = self.window.saturating_sub(length);
                }
            }
            self.position = stop;
            self.last = run.mark(stop.saturating_sub(1));
            if stop < run.end {
                break;
            }
            if run.hole.is_some() {
                self.holes = self.holes.saturating_sub(1);
                passed_hole = true;
            }
            self.runs.pop_front();
        }
        self.position = target;
        if passed_hole {
            self.measure_window();
        }
        if self.runs.is_empty() {
            self.bytes.clear();
            if self.bytes.capacity() > KEEP {
                self.bytes = BytesMut::new();
            }
        }
    }

    /// Passes over all that has come.
    pub fn skip_all(&mut self) {
        self.skip(self.end.saturating_sub(self.position));
    }

    /// Passes over what is left of the first run.
    pub fn skip_front(&mut self) {
        if let Some(run) = self.runs.front() {
            self.skip(run.end.saturating_sub(self.position));
        }
    }

    fn measure_window(&mut self) {
        let mut window = 0u64;
        for run in &self.runs {
            if run.hole.is_some() {
                break;
            }
            let start = run.start.max(self.position);
            window = window.saturating_add(run.end.saturating_sub(start));
        }
        self.window = size(window).min(self.bytes.len());
    }

    /// The captured bytes at the position, up to the first hole or the end.
    pub fn window(&self) -> &[u8] {
        self.bytes.get(..self.window).unwrap_or_default()
    }

    /// The captured bytes at the position up to the next turn, the first hole or the end, and
    /// whether one of the first two is there: then no byte will be added to them.
    pub fn turn_window(&self) -> (&[u8], bool) {
        let window = self.window();
        for run in self.runs.iter().skip(1) {
            if run.hole.is_some() {
                break;
            }
            if run.turn {
                let length = size(run.start.saturating_sub(self.position));
                return (window.get(..length).unwrap_or(window), true);
            }
        }
        (window, self.is_cut())
    }

    /// Whether a hole follows the window at once: no byte will be added to it.
    pub fn is_cut(&self) -> bool {
        self.holes > 0
    }

    /// Whether nothing is there to be read or passed.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The run at the position.
    pub fn front(&self) -> Option<Front<'_>> {
        let run = self.runs.front()?;
        let start = run.start.max(self.position);
        let length = match run.hole {
            Some(_) => 0,
            None => size(run.end.saturating_sub(start)),
        };
        Some(Front {
            bytes: self.window().get(..length).unwrap_or_default(),
            hole: run.hole,
            turn: run.turn && run.start == self.position,
            seal: run.seal,
        })
    }

    /// Where the reader is.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// First offset that was not seen yet.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether every byte before the position has come.
    pub fn reached(&self) -> bool {
        self.end >= self.position
    }

    /// Mark of the last byte passed; where the position is ahead, of the last one passed that came.
    pub fn last(&self) -> Mark {
        self.last
    }

    /// Mark of the byte `n` past the position; of the last known one where it has not come.
    pub fn mark(&self, n: usize) -> Mark {
        let offset = self.position.saturating_add(n as u64);
        let index = self.runs.partition_point(|run| run.end <= offset);
        match self.runs.get(index).or_else(|| self.runs.back()) {
            Some(run) => run.mark(offset),
            None => self.last,
        }
    }

    /// Captured bytes held.
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// What it costs to hold them, in bytes: many small ones cost more than a few large ones.
    pub fn weight(&self) -> usize {
        let runs = self.runs.len().saturating_mul(size_of::<Run>());
        self.held().saturating_add(runs)
    }

    /// The holes passed since the last call.
    pub fn take_missing(&mut self) -> Missing {
        if self.missing.any {
            std::mem::take(&mut self.missing)
        } else {
            Missing::default()
        }
    }
}

impl Run {
    fn mark(&self, offset: u64) -> Mark {
        Mark {
            time: self.time,
            offset,
            execution: self.execution,
        }
    }
}

/// First bytes, length of the hole, last bytes; whatever lengths the record claims.
fn parts<'a>(segment: &Segment<'a>) -> (&'a [u8], u64, &'a [u8]) {
    let total = segment.length as usize;
    let head = segment.bytes.get(..total).unwrap_or(segment.bytes);
    let rest = total.saturating_sub(head.len());
    let from = segment.tail.len().saturating_sub(rest);
    let tail = segment.tail.get(from..).unwrap_or_default();
    (head, rest.saturating_sub(tail.len()) as u64, tail)
}

fn len(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
