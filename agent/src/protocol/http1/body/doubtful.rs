//! A body whose end cannot be known by its framing: what it declares is in doubt, or some of its chunks
//! were not seen.
//!
//! A call that ends with the last chunk may be the end of chunks that were not seen. Their content may
//! read the same, so it is believed once nothing more came before something was asked behind it, the
//! connection ended, or it fell quiet.
//!
//! Never true here: that a value makes an end, or that a hole in the body goes unsaid.

use super::{Step, finish};
use crate::connection::Mark;
use crate::connection::stream::{Missing, Stream};
use crate::protocol::Finish;

/// The last chunk after the line end of the one before it.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// A body without a known end.
#[derive(Debug)]
pub(in super::super) struct Doubtful {
    /// Offset of the body's first byte.
    from: u64,
    /// Last bytes that were next to each other.
    trail: [u8; 7],
    /// Whether the last chunk, where a segment ends with it, may be an end.
    chunked: bool,
    /// Whether it is the last that has come.
    ended: bool,
    /// Whether anything of it has come.
    begun: bool,
    /// Mark of the last byte of it that has come.
    last: Mark,
    /// What was not seen of it.
    missing: Missing,
}

impl Doubtful {
    pub(super) fn new(from: u64, chunked: bool, stream: &mut Stream) -> Self {
        Self {
            from,
            trail: [0; 7],
            chunked,
            ended: false,
            begun: false,
            last: stream.last(),
            missing: stream.take_missing(),
        }
    }

    /// How it ended if it has: by its last chunk, or for all that can be known.
    pub(in super::super) fn end(&self) -> Finish {
        let seen = self.last.offset.saturating_add(1).saturating_sub(self.from);
        finish(seen, self.ended, true)
    }

    /// Mark of the last byte that has come; of the head's last byte before there was one.
    pub(in super::super) fn last(&self) -> Mark {
        self.last
    }

    /// What was not seen of it.
    pub(in super::super) fn missing(&self) -> Missing {
        self.missing
    }

    /// How something else ended it: `clean` if its sender meant to.
    pub(super) fn cut(&self, clean: bool) -> Finish {
        let end = self.end();
        finish(end.body, end.exact, end.exact || clean)
    }

    pub(super) fn advance(&mut self, stream: &mut Stream) -> Step {
        loop {
            let Some(front) = stream.front() else {
                return Step::More;
            };
            if front.turn && front.hole.is_none() && (self.begun || !self.chunked) {
                return Step::Turn;
            }
            let seal = front.seal;
            self.pass(stream);
            self.ended = seal && self.chunked && self.trail == LAST_CHUNK;
            if self.ended && stream.is_empty() {
                return Step::MayEnd(self.last);
            }
        }
    }

    pub(super) fn pass(&mut self, stream: &mut Stream) {
        let Some(front) = stream.front() else {
            return;
        };
        if front.hole.is_some() {
            self.trail = [0; 7];
        }
        let fresh = front.bytes.len().saturating_sub(self.trail.len());
        for &byte in front.bytes.get(fresh..).unwrap_or_default() {
            self.trail.rotate_left(1);
            if let Some(last) = self.trail.last_mut() {
                *last = byte;
            }
        }
        (self.begun, self.ended) = (true, false);
        stream.skip_front();
        self.last = stream.last();
        self.missing.merge(stream.take_missing());
    }
}
