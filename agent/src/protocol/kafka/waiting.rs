//! What is remembered of a request until its response comes.

use super::api;
use super::fields::Fields;
use super::names::Id;
use crate::event::Nanos;
use crate::protocol::Pairing;
use crate::protocol::reader::Read;
use crate::protocol::waiting::{self, Waiting};

/// Bytes of a response before its body: its length and its number.
pub const HEAD: usize = 8;

/// A request, as far as reading its response needs it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The number that both have.
    pub correlation: i32,
    /// When its first byte was moved.
    pub time: Nanos,
    /// What is asked.
    pub key: i16,
    /// Of this version.
    pub version: i16,
    /// What that is to us.
    pub what: What,
    /// The number of its exchange, if it has one.
    pub number: Option<u64>,
    /// Whether it is about one message.
    pub single: bool,
    /// The topic it is about, where its name was not known.
    pub unnamed: Option<Id>,
}

/// What a request is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Messages are sent.
    Produce,
    /// Messages are asked for.
    Fetch,
    /// Messages are settled.
    Commit,
    /// The response tells names of topics.
    Metadata,
    /// Housekeeping.
    Other,
}

impl waiting::Asked for Asked {
    fn number(&self) -> i32 {
        self.correlation
    }

    fn time(&self) -> Nanos {
        self.time
    }

    fn pairing(&self) -> Option<Pairing> {
        self.number.map(Pairing::Slot)
    }
}

/// Whether bytes begin like a response to one of these.
pub fn answers(waiting: &Waiting<Asked>, bytes: &[u8]) -> Read<()> {
    match (api::length(bytes), correlation(bytes)) {
        (Read::Whole(_), Some(number)) if waiting.has(number) => Read::Whole(()),
        (Read::Whole(_), Some(_)) | (Read::Never, _) => Read::Never,
        _ => Read::More,
    }
}

/// The number of the request that a response is to.
pub fn correlation(bytes: &[u8]) -> Option<i32> {
    let mut fields = Fields::plain(bytes);
    fields.skip(api::LENGTH as usize)?;
    fields.i32()
}
