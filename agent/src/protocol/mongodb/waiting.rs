//! What is remembered of a request until its response comes.

use super::frame::Head;
use crate::event::Nanos;
use crate::protocol::reader::Read;
use crate::protocol::waiting::{self, Waiting};
use crate::protocol::{Flow, Pairing};

/// A request, as far as reading its response needs it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The number that its next response names.
    pub id: i32,
    /// When the first byte of it was moved, or of a response after which there are more.
    pub time: Nanos,
    /// The number of its exchange, if it has one.
    pub number: Option<u64>,
    /// Whether a response was told, and there are more.
    pub told: bool,
    /// Whether it reads and nothing else, where it has much to bring.
    pub reads: bool,
}

impl waiting::Asked for Asked {
    fn number(&self) -> i32 {
        self.id
    }

    fn time(&self) -> Nanos {
        self.time
    }

    fn pairing(&self) -> Option<Pairing> {
        self.number.map(Pairing::Order)
    }
}

/// Whether bytes begin like a response to one of these.
pub fn answers(waiting: &Waiting<Asked>, bytes: &[u8]) -> Read<()> {
    match Head::read(bytes) {
        Read::Whole(head) if head.is_of(Flow::Response) && waiting.has(head.to) => Read::Whole(()),
        Read::More => Read::More,
        _ => Read::Never,
    }
}
