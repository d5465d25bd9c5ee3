//! Segments of one socket become two gapless byte streams with every hole marked.

pub mod stream;

use crate::event::{Execution, Nanos};

/// Where and by whom a byte was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// When the call that moved it had completed.
    pub time: Nanos,
    /// Absolute 64-bit offset of the byte in its direction of the stream.
    pub offset: u64,
    /// Who moved it.
    pub execution: Execution,
}
