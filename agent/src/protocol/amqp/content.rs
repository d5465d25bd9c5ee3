//! A message's properties (specification, 1.8.1 and 4.2.6.1), and how the places that messages go
//! through are named (OpenTelemetry's conventions for RabbitMQ, 1.42.0).
//!
//! Never true here: that a value of a header is looked at which is no part of a trace context, or
//! that a table within a table is gone into.

use std::borrow::Cow;

use super::NAME;
use super::frame::{BASIC, long, short};
use crate::protocol::messaging::{Operation, Transfer, header};
use crate::protocol::reader::{Reader, text};
use crate::protocol::{Attribute, Attributes, Carrier, Request, Response, Value};
use crate::stats::Stats;

/// What a content header says.
#[derive(Debug, Default)]
pub struct Properties {
    /// Bytes of the body.
    pub size: u64,
    /// The message's own context.
    pub carrier: Option<Carrier>,
    /// Whether all of it was read.
    pub whole: bool,
    /// `message-id`, `correlation-id`.
    id: Option<String>,
    conversation: Option<String>,
}

impl Properties {
    /// Those of a content header, of which `None` is known where not even its first fields are.
    pub fn read(payload: &[u8], keep: usize, stats: &Stats) -> Option<Self> {
        let mut reader = Reader::new(payload);
        if (reader.u16()?, reader.u16()?) != (BASIC, 0) {
            return None;
        }
        let mut properties = Self {
            size: reader.u64()?,
            ..Self::default()
        };
        let read = properties.fields(&mut reader, keep, stats);
        properties.whole = read.is_some() && reader.is_empty();
        Some(properties)
    }

    fn fields(&mut self, reader: &mut Reader<'_>, keep: usize, stats: &Stats) -> Option<()> {
        let flags = reader.u16()?;
        let mut more = flags;
        while more & 1 != 0 {
            more = reader.u16()?;
        }
        for (number, kind) in KINDS.bytes().enumerate() {
            if flags.checked_shl(u32::try_from(number).ok()?)? & 0x8000 == 0 {
                continue;
            }
            match (kind, number) {
                (b'1', _) => reader.skip(1)?,
                (b'8', _) => reader.skip(8)?,
                (b't', _) => context(long(reader)?, &mut self.carrier, stats)?,
                (_, CORRELATION_ID) => {
                    self.conversation = Some(text(short(reader)?, keep, stats));
                }
                (_, MESSAGE_ID) => self.id = Some(text(short(reader)?, keep, stats)),
                _ => drop(short(reader)?),
            }
        }
        Some(())
    }

    /// What the conventions have of them.
    pub fn describe(&mut self, attributes: &mut Attributes) {
        let texts = [
            ("messaging.message.id", self.id.take()),
            (
                "messaging.message.conversation_id",
                self.conversation.take(),
            ),
        ];
        for (key, value) in texts {
            let value = value.filter(|value| !value.is_empty());
            attributes.extend(value.map(|value| Attribute::text(key, value)));
        }
        let size = i64::try_from(self.size).unwrap_or(i64::MAX);
        attributes.push(Attribute::int("messaging.message.body.size", size));
    }
}

/// The properties in order: short strings, one byte, eight bytes, the table of headers.
const KINDS: &str = "sst11ssss8ssss";
const CORRELATION_ID: usize = 5;
const MESSAGE_ID: usize = 8;

/// The trace context in a table of headers (4.2.5.5; types as RabbitMQ writes them).
fn context(table: &[u8], carrier: &mut Option<Carrier>, stats: &Stats) -> Option<()> {
    let mut reader = Reader::new(table);
    while !reader.is_empty() {
        let name = short(&mut reader)?;
        match reader.u8()? {
            b'S' | b'x' => header(carrier, name, long(&mut reader)?.trim_ascii(), stats),
            b'A' | b'F' => drop(long(&mut reader)?),
            b't' | b'b' | b'B' => reader.skip(1)?,
            b's' | b'u' => reader.skip(2)?,
            b'I' | b'i' | b'f' => reader.skip(4)?,
            b'D' => reader.skip(5)?,
            b'l' | b'L' | b'd' | b'T' => reader.skip(8)?,
            b'V' => {}
            _ => return None,
        }
    }
    Some(())
}

/// Where a message goes or comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// The exchange; empty for the default one.
    pub exchange: &'a str,
    /// The routing key.
    pub key: &'a str,
    /// The queue, at its consumer, where it is known.
    pub queue: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// All of it.
    pub fn new(exchange: &'a str, key: &'a str, queue: Option<&'a str>) -> Self {
        Self {
            exchange,
            key,
            queue,
        }
    }

    /// `messaging.destination.name` at a producer.
    pub fn of_producer(self) -> Cow<'a, str> {
        match (self.exchange, self.key) {
            ("", "") => Cow::Borrowed(DEFAULT),
            ("", one) | (one, "") => Cow::Borrowed(one),
            (exchange, key) => Cow::Owned(format!("{exchange}:{key}")),
        }
    }

    /// The same at a consumer.
    pub fn of_consumer(self) -> Cow<'a, str> {
        let queue = self.queue.unwrap_or_default();
        match (self.of_producer(), queue) {
            (before, "") => before,
            (_, queue) if self.key == queue || self.key.is_empty() => match self.exchange {
                "" => Cow::Borrowed(queue),
                exchange => Cow::Owned(format!("{exchange}:{queue}")),
            },
            (before, queue) => Cow::Owned(format!("{before}:{queue}")),
        }
    }

    /// What a span of a producer is named by: an exchange or a queue that somebody has named. Routing
    /// keys to named exchanges have many values.
    pub fn target_of_producer(self) -> Option<&'a str> {
        match (self.exchange, self.key) {
            ("", "") => Some(DEFAULT),
            ("", key) => Some(key).filter(|key| !is_generated(key)),
            (exchange, _) => Some(exchange).filter(|name| !is_generated(name)),
        }
    }

    /// The same of a consumer.
    pub fn target_of_consumer(self) -> Option<&'a str> {
        let queue = self
            .queue
            .filter(|name| !name.is_empty() && !is_generated(name));
        let exchange = Some(self.exchange).filter(|name| !name.is_empty() && !is_generated(name));
        queue.or(exchange)
    }

    /// Says that there is a name that nobody has given, and the routing key.
    pub fn describe(self, attributes: &mut Attributes) {
        let queue = match (self.queue, self.exchange) {
            (Some(queue), _) => queue,
            (None, "") => self.key,
            (None, _) => "",
        };
        if is_generated(queue) || is_generated(self.exchange) {
            attributes.push(Attribute {
                key: Cow::Borrowed("messaging.destination.anonymous"),
                value: Value::Bool(true),
            });
        }
        if !self.key.is_empty() {
            let key = self.key.to_owned();
            attributes.push(Attribute::text(
                "messaging.rabbitmq.destination.routing_key",
                key,
            ));
        }
    }
}

/// The conventions' name of the default exchange without a routing key.
const DEFAULT: &str = "amq.default";

/// Whether a name was made up by the broker or by a library: RabbitMQ's prefixes, or so many
/// hexadecimal digits in a row as UUIDs and hashes have.
pub fn is_generated(name: &str) -> bool {
    let prefixed = ["amq.gen-", "amq.rabbitmq.reply-to", "amq_", "spring.gen-"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    prefixed
        || name
            .split(|c: char| !c.is_ascii_hexdigit())
            .any(|run| run.len() >= RANDOM && run.bytes().any(|b| b.is_ascii_digit()))
}

/// Hexadecimal digits in a row that nobody types.
const RANDOM: usize = 12;

/// A publish.
pub fn publish(place: Place<'_>, properties: &mut Properties) -> Request {
    let mut further = Vec::new();
    place.describe(&mut further);
    properties.describe(&mut further);
    let transfer = Transfer {
        system: SYSTEM,
        name: "publish",
        operation: Operation::Send,
        destination: Some(place.of_producer()),
        count: None,
        carrier: properties.carrier.take(),
        messages: Vec::new(),
    };
    let mut request = transfer.request(NAME, further);
    rename(&mut request, "publish", place.target_of_producer());
    request
}

/// A delivery to a consumer.
pub fn deliver(place: Place<'_>, tag: u64, properties: &mut Properties) -> Request {
    let mut further = Vec::new();
    place.describe(&mut further);
    further.push(delivery_tag(tag));
    properties.describe(&mut further);
    let transfer = Transfer {
        system: SYSTEM,
        name: "process",
        operation: Operation::Process,
        // Without the queue's it is another name.
        destination: place.queue.map(|_| place.of_consumer()),
        count: None,
        carrier: properties.carrier.take(),
        messages: Vec::new(),
    };
    let mut request = transfer.request(NAME, further);
    rename(&mut request, "process", place.target_of_consumer());
    request
}

/// What answers a pull.
pub fn got(key: &str, tag: u64, properties: &mut Properties) -> Response {
    let mut attributes = Vec::new();
    if !key.is_empty() {
        let key = key.to_owned();
        attributes.push(Attribute::text(
            "messaging.rabbitmq.destination.routing_key",
            key,
        ));
    }
    attributes.push(delivery_tag(tag));
    properties.describe(&mut attributes);
    Response {
        attributes,
        messages: properties.carrier.take().into_iter().collect(),
        ..Response::default()
    }
}

fn delivery_tag(tag: u64) -> Attribute {
    let tag = i64::try_from(tag).unwrap_or(i64::MAX);
    Attribute::int("messaging.rabbitmq.message.delivery_tag", tag)
}

/// A span is named by what somebody has named.
fn rename(request: &mut Request, what: &'static str, target: Option<&str>) {
    request.operation = match target {
        Some(target) => format!("{what} {target}").into(),
        None => what.into(),
    };
}

/// A pull from a queue, where that is known.
pub fn pull(queue: Option<&str>) -> Request {
    let place = Place {
        queue,
        ..Place::default()
    };
    let mut further = Vec::new();
    place.describe(&mut further);
    let transfer = Transfer {
        system: SYSTEM,
        name: "receive",
        operation: Operation::Receive,
        destination: queue.map(Into::into),
        count: None,
        carrier: None,
        messages: Vec::new(),
    };
    let mut request = transfer.request(NAME, further);
    rename(&mut request, "receive", place.target_of_consumer());
    request
}

const SYSTEM: &str = "rabbitmq";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_as_the_conventions_say() {
        for (exchange, key, name, target) in [
            ("shop", "made", "shop:made", Some("shop")),
            ("shop", "", "shop", Some("shop")),
            ("", "orders", "orders", Some("orders")),
            ("", "", "amq.default", Some("amq.default")),
            ("", "amq.gen-Xy", "amq.gen-Xy", None),
        ] {
            let place = Place::new(exchange, key, None);
            assert_eq!(place.of_producer(), name);
            assert_eq!(place.target_of_producer(), target);
        }
        for (exchange, key, queue, name, target) in [
            ("shop", "made", "orders", "shop:made:orders", Some("orders")),
            ("", "orders", "orders", "orders", Some("orders")),
            ("shop", "orders", "orders", "shop:orders", Some("orders")),
            ("shop", "", "orders", "shop:orders", Some("orders")),
            (
                "shop",
                "made",
                "amq.gen-x",
                "shop:made:amq.gen-x",
                Some("shop"),
            ),
        ] {
            let place = Place::new(exchange, key, Some(queue));
            assert_eq!(place.of_consumer(), name);
            assert_eq!(place.target_of_consumer(), target);
        }
    }

    #[test]
    fn names_that_nobody_gave() {
        for (name, generated) in [
            ("orders", false),
            ("orders-2026", false),
            ("deadbeefcafe", false),
            ("amq.topic", false),
            ("amq.gen-JzTY20BRgKO-HjmUJj0wLg", true),
            ("reply.5eef99d0-d969-4d8a-819b-b27dd8ca5b1d", true),
            ("amq_f00d", true),
        ] {
            assert_eq!(is_generated(name), generated, "{name}");
        }
    }

    #[test]
    fn hostile_tables_end() {
        let stats = Stats::default();
        let mut carrier = None;
        let nested = [b"\x01aF\0\0\0\x05".as_slice(), b"\x01bF\0\0"].concat();
        assert_eq!(context(&nested, &mut carrier, &stats), Some(()));
        assert_eq!(
            context(b"\x01aF\xff\xff\xff\xff", &mut carrier, &stats),
            None
        );
        assert_eq!(context(b"\x01a?", &mut carrier, &stats), None);
        assert_eq!(context(&[0; 3], &mut carrier, &stats), None);
        let void = b"\x01aV".repeat(10_000);
        assert_eq!(context(&void, &mut carrier, &stats), Some(()));
        assert_eq!(carrier, None);
    }

    #[test]
    fn properties_that_are_not_there_are_not_read() {
        let stats = Stats::default();
        let header = |flags: u16, rest: &[u8]| {
            let mut bytes = b"\0\x3c\0\0\0\0\0\0\0\0\0\x05".to_vec();
            bytes.extend(flags.to_be_bytes());
            bytes.extend(rest);
            Properties::read(&bytes, 256, &stats)
        };
        let plain = header(0, b"").expect("fields");
        assert!(plain.whole && plain.size == 5);
        let both = header(0x0480, b"\x03c-1\x03m-1").expect("fields");
        assert!(both.whole);
        assert_eq!(both.conversation.as_deref(), Some("c-1"));
        assert_eq!(both.id.as_deref(), Some("m-1"));
        assert!(!header(0x8000, b"\x05abc").expect("fields").whole);
        assert!(!header(1, b"\0\x01").expect("fields").whole);
        assert!(Properties::read(b"\0\x3c\0\0\0", 256, &stats).is_none());
    }
}
