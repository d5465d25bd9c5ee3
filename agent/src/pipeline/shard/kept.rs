//! A segment that outlives its record.

use crate::event::{ConnectionId, Direction, Execution, Hole, Nanos, Segment};

/// What one costs beside its bytes.
pub(super) const ENTRY: usize = 128;

/// Its bytes are its own.
#[derive(Debug)]
pub(super) struct Kept {
    pub direction: Direction,
    pub time: Nanos,
    pub offset: u64,
    pub length: u32,
    bytes: Box<[u8]>,
    tail: Box<[u8]>,
    pub hole: Option<Hole>,
    turn: bool,
    pub lost: u32,
    execution: Execution,
}

impl Kept {
    /// What a segment costs to keep, bytes.
    pub fn cost(segment: &Segment<'_>) -> usize {
        ENTRY
            .saturating_add(segment.bytes.len())
            .saturating_add(segment.tail.len())
    }

    /// A copy of it.
    pub fn of(segment: &Segment<'_>) -> Self {
        let &Segment {
            connection: _,
            direction,
            time,
            offset,
            length,
            bytes,
            tail,
            hole,
            turn,
            lost,
            execution,
        } = segment;
        Self {
            direction,
            time,
            offset,
            length,
            bytes: bytes.into(),
            tail: tail.into(),
            hole,
            turn,
            lost,
            execution,
        }
    }

    /// As it came.
    pub fn segment(&self, connection: ConnectionId) -> Segment<'_> {
        Segment {
            connection,
            direction: self.direction,
            time: self.time,
            offset: self.offset,
            length: self.length,
            bytes: &self.bytes,
            tail: &self.tail,
            hole: self.hole,
            turn: self.turn,
            lost: self.lost,
            execution: self.execution,
        }
    }
}
