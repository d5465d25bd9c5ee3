//! A packet of MQTT, taken apart (MQTT 3.1.1 and 5.0, chapters 2 and 3), and what a turn that begins
//! with one tells.
//!
//! Never true here: that user names, passwords or payloads are looked at.

use crate::protocol::reader::Reader;
use crate::protocol::{Carrier, Flow, Verdict, messaging};
use crate::stats::Stats;

/// Kinds of packet that matter beyond their length.
pub(super) const CONNECT: u8 = 1;
pub(super) const CONNACK: u8 = 2;
pub(super) const PUBLISH: u8 = 3;
pub(super) const PUBACK: u8 = 4;
pub(super) const PUBREC: u8 = 5;
pub(super) const PUBREL: u8 = 6;
pub(super) const PUBCOMP: u8 = 7;
pub(super) const SUBSCRIBE: u8 = 8;
pub(super) const SUBACK: u8 = 9;
pub(super) const UNSUBSCRIBE: u8 = 10;
pub(super) const UNSUBACK: u8 = 11;
pub(super) const PINGREQ: u8 = 12;
pub(super) const PINGRESP: u8 = 13;
pub(super) const DISCONNECT: u8 = 14;
pub(super) const AUTH: u8 = 15;

/// A packet's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: u8,
    /// Of PUBLISH: retained, quality, repeated.
    flags: u8,
    /// Their number, and that of the bytes that follow.
    pub(super) length: usize,
    pub(super) rest: usize,
}

impl Head {
    /// Quality of service.
    pub(super) fn quality(self) -> u8 {
        self.flags >> 1 & 3
    }

    /// Whether it was sent before.
    pub(super) fn again(self) -> bool {
        self.flags & 8 != 0
    }

    /// Reads it; `Ok(None)` while it is not whole, an error where it is none.
    pub(super) fn read(flow: Flow, bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut reader = Reader::new(bytes);
        let Some(first) = reader.u8() else {
            return Ok(None);
        };
        let (kind, flags) = (first >> 4, first & 15);
        let fits = match kind {
            PUBLISH => flags & 6 != 6,
            PUBREL => flags == 2,
            SUBSCRIBE | UNSUBSCRIBE => flags == 2 && flow == Flow::Request,
            CONNECT | PINGREQ => flags == 0 && flow == Flow::Request,
            CONNACK | SUBACK | UNSUBACK | PINGRESP => flags == 0 && flow == Flow::Response,
            PUBACK | PUBREC | PUBCOMP | DISCONNECT | AUTH => flags == 0,
            _ => false,
        };
        if !fits {
            return Err(Malformed);
        }
        let Some(rest) = length(&mut reader)? else {
            return Ok(None);
        };
        let least = match kind {
            CONNECT => 12,
            PUBLISH => 3,
            SUBSCRIBE | UNSUBSCRIBE => 5,
            SUBACK => 3,
            PINGREQ | PINGRESP | DISCONNECT | AUTH => 0,
            _ => 2,
        };
        let most = match kind {
            PINGREQ | PINGRESP => 0,
            CONNACK | PUBACK | PUBREC | PUBREL | PUBCOMP | UNSUBACK | DISCONNECT | AUTH => {
                MAX_REPLY
            }
            _ => usize::MAX,
        };
        if !(least..=most).contains(&rest) {
            return Err(Malformed);
        }
        Ok(Some(Self {
            kind,
            flags,
            length: reader.position(),
            rest,
        }))
    }
}

/// It is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A length of at most four bytes.
fn length(reader: &mut Reader<'_>) -> Result<Option<usize>, Malformed> {
    let mut value = 0usize;
    for shift in [0u32, 7, 14, 21] {
        let Some(byte) = reader.u8() else {
            return Ok(None);
        };
        value |= usize::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Err(Malformed)
}

/// What CONNECT says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connect<'a> {
    pub(super) version: u8,
    pub(super) client: &'a [u8],
}

/// Of the bytes behind its head.
pub(super) fn connect(body: &[u8]) -> Option<Connect<'_>> {
    let mut reader = Reader::new(body);
    let name = string(&mut reader)?;
    // A bridge sets the highest bit.
    let version = reader.u8()? & 0x7f;
    let known = matches!((name, version), (b"MQTT", 4 | 5) | (b"MQIsdp", 3));
    known.then_some(())?;
    reader.skip(3)?;
    if version == 5 {
        properties(&mut reader)?;
    }
    let client = string(&mut reader)?;
    Some(Connect { version, client })
}

/// What PUBLISH says before its payload.
#[derive(Debug)]
pub(super) struct Publish<'a> {
    /// Empty where an alias stands for it.
    pub(super) topic: &'a [u8],
    pub(super) alias: Option<u16>,
    /// Where somebody acknowledges it.
    pub(super) id: Option<u16>,
    pub(super) carrier: Option<Carrier>,
    /// Bytes of all that.
    pub(super) length: usize,
}

/// Of the bytes behind its head; properties where the version is known to have them.
pub(super) fn publish<'a>(
    head: Head,
    version: Option<u8>,
    body: &'a [u8],
    stats: &Stats,
) -> Option<Publish<'a>> {
    let mut reader = Reader::new(body);
    let topic = string(&mut reader)?;
    let id = match head.quality() {
        0 => None,
        _ => Some(reader.u16()?),
    };
    let mut publish = Publish {
        topic,
        alias: None,
        id,
        carrier: None,
        length: 0,
    };
    // Only where there are aliases is a topic empty.
    if version == Some(5) || version.is_none() && topic.is_empty() {
        let mut all = Reader::new(properties(&mut reader)?);
        while !all.is_empty() {
            match property(&mut all)? {
                Property::Alias(alias) => publish.alias = Some(alias),
                Property::User(name, value) => {
                    messaging::header(&mut publish.carrier, name, value, stats);
                }
                Property::Client(_) | Property::Other => {}
            }
        }
    }
    publish.length = reader.position();
    Some(publish)
}

/// Whether it may be a topic that something is published to.
pub(super) fn is_topic(topic: &[u8]) -> bool {
    let plain = |c: char| !c.is_control() && !matches!(c, '+' | '#');
    std::str::from_utf8(topic).is_ok_and(|topic| topic.chars().all(plain))
}

/// What an acknowledgement says: whose, and how it went.
pub(super) fn acknowledgement(body: &[u8]) -> Option<(u16, u8)> {
    let mut reader = Reader::new(body);
    let id = reader.u16()?;
    Some((id, reader.u8().unwrap_or(0)))
}

/// The client's name by the server's choice, where CONNACK tells it.
pub(super) fn assigned(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(body);
    reader.skip(2)?;
    let mut all = Reader::new(properties(&mut reader)?);
    while !all.is_empty() {
        if let Property::Client(name) = property(&mut all)? {
            return Some(name);
        }
    }
    None
}

/// The version that packets of this kind are of, where it can be told by how they are made.
pub(super) fn version(kind: u8, body: &[u8]) -> Option<u8> {
    let reads = |properties| subscription(kind, body, properties).is_some();
    match kind {
        SUBSCRIBE | UNSUBSCRIBE => match (reads(false), reads(true)) {
            (true, false) => Some(4),
            (false, true) => Some(5),
            _ => None,
        },
        UNSUBACK => Some(if body.len() == 2 { 4 } else { 5 }),
        PUBACK | PUBREC | PUBREL | PUBCOMP if body.len() > 2 => Some(5),
        DISCONNECT if !body.is_empty() => Some(5),
        _ => None,
    }
}

/// Reads a list of filters to its end.
fn subscription(kind: u8, body: &[u8], with_properties: bool) -> Option<()> {
    let mut reader = Reader::new(body);
    reader.u16().filter(|id| *id != 0)?;
    if with_properties {
        let mut all = Reader::new(properties(&mut reader)?);
        while !all.is_empty() {
            property(&mut all)?;
        }
    }
    for _ in 0..MAX_FILTERS {
        let filter = string(&mut reader).filter(|filter| !filter.is_empty())?;
        let fine = |c: char| !c.is_control();
        std::str::from_utf8(filter)
            .ok()?
            .chars()
            .all(fine)
            .then_some(())?;
        if kind == SUBSCRIBE {
            let most = if with_properties { 0x2e } else { 2 };
            reader.u8().filter(|options| *options <= most)?;
        }
        if reader.is_empty() {
            return Some(());
        }
    }
    Some(())
}

fn string<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let mut ahead = *reader;
    let length = ahead.u16()?;
    let text = ahead.take(length.into())?;
    *reader = ahead;
    Some(text)
}

/// All properties' bytes.
fn properties<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let mut ahead = *reader;
    let length = length(&mut ahead).ok()??;
    let bytes = ahead.take(length)?;
    *reader = ahead;
    Some(bytes)
}

enum Property<'a> {
    Alias(u16),
    Client(&'a [u8]),
    User(&'a [u8], &'a [u8]),
    Other,
}

/// MQTT 5.0, 2.2.2.2.
fn property<'a>(reader: &mut Reader<'a>) -> Option<Property<'a>> {
    match reader.u8()? {
        0x23 => return Some(Property::Alias(reader.u16()?)),
        0x12 => return Some(Property::Client(string(reader)?)),
        0x26 => return Some(Property::User(string(reader)?, string(reader)?)),
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => reader.skip(1)?,
        0x13 | 0x21 | 0x22 => reader.skip(2)?,
        0x02 | 0x11 | 0x18 | 0x27 => reader.skip(4)?,
        0x03 | 0x08 | 0x09 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => drop(string(reader)?),
        0x0b => drop(length(reader).ok()??),
        _ => return None,
    }
    Some(Property::Other)
}

/// Whether a connection begins here.
pub(super) fn sniff(bytes: &[u8]) -> Verdict {
    if bytes.first().is_some_and(|first| *first != CONNECT << 4) {
        return Verdict::Not;
    }
    match Head::read(Flow::Request, bytes) {
        Ok(Some(head)) => {
            let body = bytes.get(head.length..).unwrap_or_default();
            let begins = |name: &[u8]| name.iter().zip(body).all(|(a, b)| a == b);
            let (new, old) = (b"\x00\x04MQTT", b"\x00\x06MQIsdp");
            let level = match (begins(new), begins(old)) {
                (true, _) => body
                    .get(new.len())
                    .map(|level| matches!(level & 0x7f, 4 | 5)),
                (_, true) => body.get(old.len()).map(|level| level & 0x7f == 3),
                _ => Some(false),
            };
            match level {
                Some(true) => Verdict::Is(Flow::Request),
                Some(false) => Verdict::Not,
                None => Verdict::More,
            }
        }
        Ok(None) => Verdict::More,
        Err(Malformed) => Verdict::Not,
    }
}

/// Whether a call in the middle of a connection is packets of a side that can be told: what is
/// published and acknowledged may go either way.
pub(super) fn sniff_amid(bytes: &[u8]) -> Verdict {
    let verdict = sniff(bytes);
    if verdict != Verdict::Not {
        return verdict;
    }
    let [asks, answers] = [Flow::Request, Flow::Response].map(|flow| chain(flow, bytes));
    match (asks, answers) {
        (Some(true), None) => Verdict::Likely(Flow::Request),
        (None, Some(true)) => Verdict::Likely(Flow::Response),
        (Some(false), _) | (_, Some(false)) => Verdict::More,
        _ => Verdict::Not,
    }
}

/// Whether these bytes of this flow are packets: `Some(false)` while the first is not whole.
pub(super) fn chain(flow: Flow, bytes: &[u8]) -> Option<bool> {
    let mut rest = bytes;
    for at in 0..MAX_CHAIN {
        let head = match Head::read(flow, rest) {
            Ok(Some(head)) => head,
            Ok(None) => return Some(at > 0),
            Err(Malformed) => return None,
        };
        let body = rest.get(head.length..).unwrap_or_default();
        let whole = body.get(..head.rest);
        if !is_plausible(head, whole.unwrap_or(body), whole.is_some()) {
            return None;
        }
        match body.split_at_checked(head.rest) {
            Some((_, after)) => rest = after,
            // What is published is believed by its topic.
            None => return Some(at > 0 || head.kind == PUBLISH && body.len() >= MAX_TOPIC),
        }
        if rest.is_empty() {
            return Some(true);
        }
    }
    Some(true)
}

fn is_plausible(head: Head, body: &[u8], whole: bool) -> bool {
    let mut reader = Reader::new(body);
    match head.kind {
        CONNECT => sniff_body(body),
        PUBLISH => match reader.u16().map(usize::from) {
            None => !whole,
            Some(length) => {
                let shown = body.get(2..).unwrap_or_default();
                let topic = shown.get(..length).unwrap_or(shown);
                let ids = if head.quality() == 0 { 0 } else { 2 };
                let fits = length.saturating_add(2).saturating_add(ids) <= head.rest;
                let cut = topic.len() < length;
                let text = match std::str::from_utf8(topic) {
                    Ok(_) => is_topic(topic),
                    Err(error) => cut && error.error_len().is_none(),
                };
                fits && text && (length > 0 || head.rest > 5)
            }
        },
        SUBSCRIBE | UNSUBSCRIBE if whole => [false, true]
            .into_iter()
            .any(|with| subscription(head.kind, body, with).is_some()),
        CONNACK => body.first().is_none_or(|flags| *flags <= 1),
        PUBACK | PUBREC | PUBREL | PUBCOMP | SUBACK | UNSUBACK if body.len() > 1 => {
            reader.u16().is_some_and(|id| id != 0)
        }
        _ => true,
    }
}

fn sniff_body(body: &[u8]) -> bool {
    body.iter().zip(b"\x00\x04MQTT").all(|(a, b)| a == b)
        || body.iter().zip(b"\x00\x06MQIsdp").all(|(a, b)| a == b)
}

/// Longest packet that only says how something went.
const MAX_REPLY: usize = 64 * 1024;
/// Packets of a call that are looked at.
const MAX_CHAIN: usize = 16;
/// Bytes of a topic that are looked at to believe it.
const MAX_TOPIC: usize = 1024;
/// Filters of one packet that are looked at.
const MAX_FILTERS: usize = 64;
