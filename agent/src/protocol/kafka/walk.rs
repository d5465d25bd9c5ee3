//! The way through a message's body: topics, their partitions, and the sets of records in these, one
//! step after the other, so that nothing of it need be held.
//!
//! Every body that is read has the same form: a head, topics, in each of them partitions, and ends.
//! What there is in each place depends on the message and its version.
//!
//! Never true here: that a step is taken before what it reads is whole, or that bytes of records are
//! waited for that are not read.

use super::fields::Fields;
use super::names::Told;
use super::records::{Set, Tally};
use super::topics::{Target, Topic};
use crate::protocol::Carrier;
use crate::protocol::reader::text;
use crate::stats::Stats;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Of a Produce request.
    Produce,
    /// Of its response.
    Produced,
    /// Of a Fetch request.
    Fetch,
    /// Of its response.
    Fetched,
    /// Of an OffsetCommit request.
    Commit,
    /// Of its response.
    Committed,
    /// Of a Metadata response.
    Metadata,
    /// Of a request that begins with its group.
    OfGroup,
}

/// What a body was found to say.
#[derive(Debug, Default)]
pub struct Found {
    /// What it is about: of a fetch's response, where records or errors came from.
    pub target: Target,
    /// Where errors came from.
    pub failed: Target,
    /// Its records.
    pub tally: Tally,
    /// The first error.
    pub error: Option<i16>,
    /// The first offset that was given to what was sent.
    pub offset: Option<i64>,
    /// The consumer group.
    pub group: Option<String>,
    /// No acknowledgement is wanted, and none comes.
    pub silent: bool,
    /// It is a broker's or a controller's own copying.
    pub is_copying: bool,
    /// Its head was read.
    pub begun: bool,
    /// What follows could not be read.
    pub lost: bool,
}

/// The way through one body.
#[derive(Debug)]
pub struct Walk {
    body: Body,
    version: i16,
    flexible: bool,
    place: Place,
    /// Topics that are left of so many.
    topics: u32,
    declared: u32,
    /// Partitions that are left of the topic, of so many.
    partitions: u32,
    inside: u32,
    topic: Option<Topic>,
    set: Set,
    keep: usize,
    /// Names of topics.
    pub told: Told,
    /// What was found.
    pub found: Found,
}

/// What is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Head,
    Brokers(u32),
    Cluster,
    Topic,
    Partition,
    /// Records that were refused, of a partition of what was sent.
    Refused(u32),
    /// Transactions that were aborted, of the partition with this number.
    Aborted(u32, i32),
    Set,
    PartitionEnd,
    TopicEnd,
    Forgotten(u32),
    End,
    Over,
}

impl Walk {
    /// At the first byte of a body; `keep` bytes are kept of a text.
    pub fn new(body: Body, version: i16, flexible: bool, keep: usize, told: Told) -> Self {
        Self {
            body,
            version,
            flexible,
            place: Place::Head,
            topics: 0,
            declared: 0,
            partitions: 0,
            inside: 0,
            topic: None,
            set: Set::default(),
            keep,
            told,
            found: Found::default(),
        }
    }

    /// Whether there is nothing more to be read.
    pub fn is_over(&self) -> bool {
        self.place == Place::Over
    }

    /// Reads what comes next from `bytes`; gives how many are to be passed over, `None` while it is
    /// not whole, or is nothing of the kind.
    pub fn step(&mut self, bytes: &[u8], stats: &Stats) -> Option<u64> {
        if self.place == Place::Set {
            let passed = self.set.step(bytes, &mut self.found.tally, stats)?;
            if self.set.is_over() {
                self.place = Place::PartitionEnd;
            }
            return Some(passed);
        }
        let mut fields = Fields::new(bytes, self.flexible);
        let next = match self.place {
            Place::Head => self.head(&mut fields, stats)?,
            Place::Brokers(left) => self.broker(left, &mut fields)?,
            Place::Cluster => self.cluster(&mut fields)?,
            Place::Topic => self.topic(&mut fields, stats)?,
            Place::Partition => self.partition(&mut fields)?,
            Place::Refused(left) => self.refused(left, &mut fields)?,
            Place::Aborted(left, number) => self.aborted(left, number, &mut fields)?,
            Place::PartitionEnd => self.partition_end(&mut fields)?,
            Place::TopicEnd => self.topic_end(&mut fields)?,
            Place::Forgotten(left) => self.forgotten(left, &mut fields)?,
            Place::End => self.end(&mut fields)?,
            Place::Set | Place::Over => Place::Over,
        };
        self.place = next;
        Some(fields.position() as u64)
    }

    /// Bytes are missing where something was to be read: gives how many may be passed over, `None` if
    /// nothing is known of what follows.
    pub fn cut(&mut self, stats: &Stats) -> Option<u64> {
        if self.place == Place::Set {
            let passed = self.set.cut(&mut self.found.tally, stats);
            if self.set.is_over() {
                self.place = Place::PartitionEnd;
            }
            return Some(passed);
        }
        None
    }

    /// What follows cannot be read: unless all that matters was, it may be about other topics and
    /// partitions, as far as there are others.
    pub fn lose(&mut self) {
        let place = std::mem::replace(&mut self.place, Place::Over);
        let last = self.found.begun && self.topics == 0 && self.partitions == 0;
        if last && !matches!(place, Place::Set | Place::Aborted(..)) {
            return;
        }
        let found = &mut self.found;
        found.lost = true;
        found.tally.unknown = true;
        let topics = self.declared != 1;
        for target in [&mut found.target, &mut found.failed] {
            target.doubt(topics, topics || self.inside != 1);
        }
    }

    /// What it holds, in bytes.
    pub fn weight(&self) -> usize {
        let carriers = self.found.tally.carriers.iter().map(Carrier::weight);
        carriers.fold(size_of::<Self>(), usize::saturating_add)
    }

    fn head(&mut self, fields: &mut Fields<'_>, stats: &Stats) -> Option<Place> {
        let version = self.version;
        match self.body {
            Body::Produce => {
                fields.nullable()?;
                self.found.silent = fields.i16()? == 0;
                fields.skip(4)?;
            }
            Body::Fetch => {
                let copying = version <= 14 && fields.i32()? >= 0;
                fields.skip(if version >= 7 { 21 } else { 13 })?;
                self.found.is_copying = copying;
            }
            Body::Commit => {
                let group = fields.text()?;
                fields.skip(4)?;
                fields.text()?;
                if version >= 7 {
                    fields.nullable()?;
                }
                if version <= 4 {
                    fields.skip(8)?;
                }
                self.found.group = self.some(group, stats);
            }
            Body::OfGroup => {
                let group = fields.text()?;
                self.found.group = self.some(group, stats);
                return Some(Place::Over);
            }
            Body::Produced => fields.tags()?,
            Body::Fetched => {
                fields.tags()?;
                fields.skip(4)?;
                if version >= 7 {
                    let error = fields.i16()?;
                    fields.skip(4)?;
                    self.fail(error);
                }
            }
            Body::Committed => {
                fields.tags()?;
                fields.skip(if version >= 3 { 4 } else { 0 })?;
            }
            Body::Metadata => {
                fields.tags()?;
                fields.skip(4)?;
                return Some(Place::Brokers(fields.array()?));
            }
        }
        self.topics = fields.array()?;
        self.declared = self.topics;
        self.found.begun = true;
        Some(Place::Topic)
    }

    fn some(&self, bytes: &[u8], stats: &Stats) -> Option<String> {
        (!bytes.is_empty()).then(|| text(bytes, self.keep, stats))
    }

    fn broker(&self, left: u32, fields: &mut Fields<'_>) -> Option<Place> {
        let Some(left) = left.checked_sub(1) else {
            return Some(Place::Cluster);
        };
        fields.skip(4)?;
        fields.text()?;
        fields.skip(4)?;
        fields.nullable()?;
        fields.tags()?;
        Some(Place::Brokers(left))
    }

    fn cluster(&mut self, fields: &mut Fields<'_>) -> Option<Place> {
        fields.nullable()?;
        fields.skip(4)?;
        self.topics = fields.array()?;
        self.declared = self.topics;
        Some(Place::Topic)
    }

    fn topic(&mut self, fields: &mut Fields<'_>, stats: &Stats) -> Option<Place> {
        let Some(left) = self.topics.checked_sub(1) else {
            return match (self.body, self.version) {
                (Body::Fetch, 7..) => Some(Place::Forgotten(fields.array()?)),
                (Body::Fetch, _) => Some(Place::End),
                _ => Some(Place::Over),
            };
        };
        let topic = match self.body {
            Body::Metadata => {
                fields.skip(2)?;
                let name = fields.text()?;
                let id = fields.id()?;
                fields.skip(1)?;
                if let Ok(name) = std::str::from_utf8(name) {
                    self.told.learn(id, name, stats);
                }
                Topic::Id(id)
            }
            body => topic(fields, body, self.version, self.keep, stats)?,
        };
        self.partitions = fields.array()?;
        self.inside = self.partitions;
        self.topics = left;
        self.found.is_copying |= self.body != Body::Metadata && topic.is_log_of_metadata();
        self.topic = Some(topic);
        Some(Place::Partition)
    }

    fn partition(&mut self, fields: &mut Fields<'_>) -> Option<Place> {
        let Some(left) = self.partitions.checked_sub(1) else {
            return Some(Place::TopicEnd);
        };
        let version = self.version;
        let mut next = Place::Partition;
        match self.body {
            Body::Produce => {
                let number = fields.i32()?;
                self.set = Set::new(fields.records()?);
                self.involve(number);
                next = self.records();
            }
            Body::Produced => {
                let (number, error, offset) = (fields.i32()?, fields.i16()?, fields.i64()?);
                fields.skip(if version >= 2 { 8 } else { 0 })?;
                fields.skip(if version >= 5 { 8 } else { 0 })?;
                next = match version {
                    8.. => Place::Refused(fields.array()?),
                    _ => Place::PartitionEnd,
                };
                self.involve(number);
                self.fail(error);
                self.found.offset.get_or_insert(offset);
            }
            Body::Fetch => {
                fields.skip(4)?;
                fields.skip(if version >= 9 { 4 } else { 0 })?;
                fields.skip(8)?;
                fields.skip(if version >= 12 { 4 } else { 0 })?;
                fields.skip(if version >= 5 { 12 } else { 4 })?;
                fields.tags()?;
            }
            Body::Fetched => next = self.fetched(fields)?,
            Body::Commit => {
                let number = fields.i32()?;
                fields.skip(if version >= 6 { 12 } else { 8 })?;
                fields.nullable()?;
                fields.tags()?;
                self.involve(number);
            }
            Body::Committed => {
                fields.skip(4)?;
                let error = fields.i16()?;
                fields.tags()?;
                self.fail(error);
            }
            Body::Metadata => {
                fields.skip(14)?;
                fields.array_of(4)?;
                fields.array_of(4)?;
                fields.array_of(4)?;
                fields.tags()?;
            }
            Body::OfGroup => return Some(Place::Over),
        }
        self.partitions = left;
        Some(next)
    }

    fn fetched(&mut self, fields: &mut Fields<'_>) -> Option<Place> {
        let version = self.version;
        let (number, error) = (fields.i32()?, fields.i16()?);
        fields.skip(if version >= 5 { 24 } else { 16 })?;
        let aborted = fields.array()?;
        self.fail(error);
        if error != 0
            && let Some(topic) = &self.topic
        {
            self.found.failed.involve(self.topics, topic, number);
        }
        Some(Place::Aborted(aborted, number))
    }

    fn aborted(&mut self, left: u32, number: i32, fields: &mut Fields<'_>) -> Option<Place> {
        if let Some(left) = left.checked_sub(1) {
            fields.skip(16)?;
            fields.tags()?;
            return Some(Place::Aborted(left, number));
        }
        fields.skip(if self.version >= 11 { 4 } else { 0 })?;
        let length = fields.records()?;
        self.set = Set::new(length);
        if length > 0 {
            self.involve(number);
        }
        Some(self.records())
    }

    fn refused(&self, left: u32, fields: &mut Fields<'_>) -> Option<Place> {
        let left = left.checked_sub(1);
        fields.skip(if left.is_some() { 4 } else { 0 })?;
        fields.nullable()?;
        // Behind the last one the partition has its own.
        let Some(left) = left else {
            return Some(Place::PartitionEnd);
        };
        fields.tags()?;
        Some(Place::Refused(left))
    }

    /// Where to go at the records of a partition.
    fn records(&self) -> Place {
        match self.set.is_over() {
            true => Place::PartitionEnd,
            false => Place::Set,
        }
    }

    fn partition_end(&self, fields: &mut Fields<'_>) -> Option<Place> {
        fields.tags()?;
        Some(Place::Partition)
    }

    fn topic_end(&self, fields: &mut Fields<'_>) -> Option<Place> {
        fields.skip(if self.body == Body::Metadata { 4 } else { 0 })?;
        fields.tags()?;
        Some(Place::Topic)
    }

    fn forgotten(&self, left: u32, fields: &mut Fields<'_>) -> Option<Place> {
        let Some(left) = left.checked_sub(1) else {
            return Some(Place::End);
        };
        match self.version {
            13.. => fields.skip(16)?,
            _ => fields.nullable().map(drop)?,
        }
        fields.array_of(4)?;
        fields.tags()?;
        Some(Place::Forgotten(left))
    }

    /// The end of a Fetch request.
    fn end(&mut self, fields: &mut Fields<'_>) -> Option<Place> {
        if self.version >= 11 {
            fields.text()?;
        }
        let mut copying = self.found.is_copying;
        fields.tagged(|tag, value| {
            // ReplicaState.
            if tag == 1 && self.version >= 15 {
                copying |= Fields::plain(value).i32().is_some_and(|id| id >= 0);
            }
        })?;
        self.found.is_copying = copying;
        Some(Place::Over)
    }

    fn involve(&mut self, partition: i32) {
        if let Some(topic) = &self.topic {
            self.found.target.involve(self.topics, topic, partition);
        }
    }

    fn fail(&mut self, error: i16) {
        if error != 0 {
            self.found.error.get_or_insert(error);
        }
    }
}

/// A topic, as this message names it.
fn topic(
    fields: &mut Fields<'_>,
    body: Body,
    version: i16,
    keep: usize,
    stats: &Stats,
) -> Option<Topic> {
    let by_id = match body {
        Body::Commit | Body::Committed => version >= 10,
        _ => version >= 13,
    };
    match by_id {
        true => fields.id().map(Topic::Id),
        false => Some(Topic::Name(text(fields.text()?, keep, stats))),
    }
}
