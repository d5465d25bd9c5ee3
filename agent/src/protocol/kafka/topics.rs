//! Topics and partitions that a message is about.
//!
//! Never true here: that one is told of where it may be several.

use super::names::{Id, Told};

/// A topic, as a message names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// By its name.
    Name(String),
    /// By its id.
    Id(Id),
}

/// The topics and partitions that something was said of.
#[derive(Debug, Default)]
pub struct Target {
    /// The first, by its place in the message, and its partition.
    first: Option<(u32, Topic, i32)>,
    /// Whether there are others.
    topics: bool,
    partitions: bool,
}

impl Topic {
    /// Its name, where that is known.
    pub fn name(&self, told: &Told) -> Option<String> {
        match self {
            Self::Name(name) => Some(name.clone()),
            Self::Id(id) => told.find(id),
        }
    }

    /// The topic that KRaft's controllers and brokers copy among themselves.
    pub fn is_log_of_metadata(&self) -> bool {
        match self {
            Self::Name(name) => name == "__cluster_metadata",
            Self::Id(id) => *id == 1_u128.to_be_bytes(),
        }
    }
}

impl Target {
    /// Something is said of a partition of the topic at this place of the message.
    pub fn involve(&mut self, place: u32, topic: &Topic, partition: i32) {
        match &self.first {
            None => self.first = Some((place, topic.clone(), partition)),
            Some((first, ..)) => {
                self.topics |= *first != place;
                self.partitions = true;
            }
        }
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.first.is_some()
    }

    /// The topic, where it is one.
    pub fn topic(&self) -> Option<&Topic> {
        let (_, topic, _) = self.first.as_ref()?;
        (!self.topics).then_some(topic)
    }

    /// The partition, where it is one.
    pub fn partition(&self) -> Option<i32> {
        let (_, _, partition) = self.first.as_ref()?;
        let one = !self.topics && !self.partitions;
        one.then_some(*partition)
    }

    /// Something may be said of others that cannot be read: of other topics, of other partitions.
    pub fn doubt(&mut self, topics: bool, partitions: bool) {
        self.topics |= topics;
        self.partitions |= partitions;
    }
}
