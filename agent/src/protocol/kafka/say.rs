//! What spans say of requests and responses: OpenTelemetry's messaging conventions and those for Kafka
//! (semantic-conventions 1.42.0, `docs/messaging/kafka.md`).
//!
//! The contexts in what is sent are creation contexts, written before it was known with what else
//! each message would travel: they are links, never parents, of what sends and of what receives.
//!
//! Never true here: that an attribute tells of one partition or topic what is so of several.

use std::borrow::Cow;

use super::names::Told;
use super::topics::{Target, Topic};
use super::walk::Found;
use super::{errors, names};
use crate::protocol::messaging::{Operation, Transfer};
use crate::protocol::{Attribute, Attributes, Request, Response, Revision};

/// The registry's name, and the system's.
pub const NAME: &str = "kafka";
/// What clients call it.
pub const SEND: &str = "send";
/// As above.
pub const COMMIT: &str = "commit";
const POLL: &str = "poll";

/// What a Produce request asks.
pub fn send(found: &mut Found, client: Option<&str>, told: &Told) -> Request {
    let tally = &mut found.tally;
    let messages = usize::try_from(tally.messages).unwrap_or(usize::MAX);
    let known = !tally.unknown && messages > 1;
    let transfer = Transfer {
        system: NAME,
        name: SEND,
        operation: Operation::Send,
        destination: name(&found.target, told).map(Cow::Owned),
        count: known.then_some(messages),
        carrier: None,
        messages: std::mem::take(&mut tally.carriers),
    };
    let mut further = by(client);
    place(&mut further, &found.target);
    transfer.request(NAME, further)
}

/// What an OffsetCommit request asks.
pub fn commit(found: &Found, client: Option<&str>, told: &Told) -> Request {
    let transfer = Transfer {
        system: NAME,
        name: COMMIT,
        operation: Operation::Settle,
        destination: name(&found.target, told).map(Cow::Owned),
        count: None,
        carrier: None,
        messages: Vec::new(),
    };
    let mut further = by(client);
    of(&mut further, found.group.as_deref());
    place(&mut further, &found.target);
    transfer.request(NAME, further)
}

/// What a Fetch request asks; where that comes from is told by what comes.
pub fn poll(client: Option<&str>, group: Option<&str>) -> Request {
    let transfer = Transfer {
        system: NAME,
        name: POLL,
        operation: Operation::Receive,
        destination: None,
        count: None,
        carrier: None,
        messages: Vec::new(),
    };
    let mut further = by(client);
    of(&mut further, group);
    transfer.request(NAME, further)
}

/// What came of a fetch says where from.
pub fn polled(target: &Target, told: &Told) -> Revision {
    let mut with = Attributes::new();
    let name = name(target, told);
    let operation = match &name {
        Some(name) => Cow::Owned(format!("{POLL} {name}")),
        None => Cow::Borrowed(POLL),
    };
    destination(&mut with, name);
    place(&mut with, target);
    Revision {
        kind: Some((NAME, operation)),
        without: &[],
        with,
    }
}

/// The topic's name became known after it was told by its id.
pub fn named(operation: &str, topic: &Topic, told: &Told) -> Option<Revision> {
    let name = topic.name(told)?;
    let operation = format!("{operation} {name}");
    let mut with = Attributes::new();
    destination(&mut with, Some(name));
    Some(Revision {
        kind: Some((NAME, operation.into())),
        without: &[TOPIC_ID],
        with,
    })
}

/// The topic is known by its id alone.
pub fn unnamed(topic: &Topic) -> Revision {
    let mut with = Attributes::new();
    if let Topic::Id(id) = topic {
        with.push(Attribute::text(TOPIC_ID, names::text(id)));
    }
    Revision {
        with,
        ..Revision::default()
    }
}

/// What a response says; `single`: it is about one message.
pub fn answer(found: &mut Found, single: bool) -> Response {
    let error = found.error.map(|code| Cow::Borrowed(errors::name(code)));
    let mut attributes = Attributes::new();
    let offset = found.offset.filter(|at| single && *at >= 0);
    if let Some(offset) = offset.filter(|_| error.is_none()) {
        attributes.push(Attribute::int(OFFSET, offset));
    }
    Response {
        attributes,
        client_error: error.clone(),
        server_error: error,
        messages: Vec::new(),
    }
}

/// What a fetch brought.
pub fn brought(found: &mut Found) -> Response {
    let mut response = answer(found, false);
    let tally = &mut found.tally;
    if !tally.unknown && tally.messages > 1 {
        let count = i64::try_from(tally.messages).unwrap_or(i64::MAX);
        let count = Attribute::int("messaging.batch.message_count", count);
        response.attributes.push(count);
    }
    if let Some(offset) = tally.offset
        && !tally.unknown
        && tally.messages == 1
    {
        response.attributes.push(Attribute::int(OFFSET, offset));
    }
    response.messages = std::mem::take(&mut tally.carriers);
    response
}

fn name(target: &Target, told: &Told) -> Option<String> {
    target.topic()?.name(told)
}

fn by(client: Option<&str>) -> Attributes {
    let client = client.filter(|client| !client.is_empty());
    let client = client.map(|client| Attribute::text("messaging.client.id", client.to_owned()));
    client.into_iter().collect()
}

fn of(attributes: &mut Attributes, group: Option<&str>) {
    if let Some(group) = group {
        let group = group.to_owned();
        attributes.push(Attribute::text("messaging.consumer.group.name", group));
    }
}

fn destination(attributes: &mut Attributes, name: Option<String>) {
    if let Some(name) = name {
        attributes.push(Attribute::text("messaging.destination.name", name));
    }
}

fn place(attributes: &mut Attributes, target: &Target) {
    if let Some(partition) = target.partition() {
        let partition = partition.to_string();
        attributes.push(Attribute::text(PARTITION, partition));
    }
}

const PARTITION: &str = "messaging.destination.partition.id";
const OFFSET: &str = "messaging.kafka.offset";
/// A topic whose name was told before the agent came, or where it was not seen.
const TOPIC_ID: &str = "spantap.kafka.topic.id";
