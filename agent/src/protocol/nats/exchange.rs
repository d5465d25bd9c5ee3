//! What is remembered of exchanges that are not over.

use super::headers::Headers;
use crate::connection::Mark;
use crate::event::Nanos;
use crate::protocol::known::Held;

/// What the end of a payload is to the exchange of this number.
#[derive(Debug, Default)]
pub(super) enum After {
    /// It has none.
    #[default]
    None,
    /// Published: over.
    Sent(u64),
    /// Asked, to be answered on a subject.
    Asked(u64, Box<[u8]>, Asked),
    /// Delivered, and over.
    Handed(u64),
    /// Delivered, to be answered on a subject.
    Delivered(u64, Box<[u8]>),
    /// The answer to what was asked.
    Answers(u64),
    /// The answer to what was delivered.
    Settles(u64),
}

impl After {
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Sent(n) | Self::Asked(n, ..) | Self::Handed(n) => Some(*n),
            Self::Delivered(n, _) | Self::Answers(n) | Self::Settles(n) => Some(*n),
        }
    }
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) subject: Box<[u8]>,
    pub(super) group: Option<Box<[u8]>>,
}

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) number: u64,
    /// Whom.
    pub(super) subject: Box<[u8]>,
}

#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) number: u64,
    /// Its last byte.
    pub(super) last: Mark,
    /// When anything of it came last.
    pub(super) heard: Nanos,
}

impl Held for Subscription {
    fn weight(&self) -> usize {
        let group = self.group.as_deref().map_or(0, <[u8]>::len);
        self.subject.len().saturating_add(group)
    }
}

impl Held for Asked {
    fn weight(&self) -> usize {
        self.subject.len()
    }
}

impl Held for Delivered {
    fn weight(&self) -> usize {
        0
    }
}

/// What is known of a message besides its line.
#[derive(Debug)]
pub(super) struct Head {
    /// The last byte of what was looked at.
    pub(super) last: Mark,
    /// Its headers, empty where it has none; `None` where they are missing.
    pub(super) headers: Option<Headers>,
    /// The payload of a small answer.
    pub(super) payload: Option<Box<[u8]>>,
}
