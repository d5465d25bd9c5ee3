//! What packets mean for the exchanges of their connection: what is published, and what acknowledges
//! it.

use super::packet::{self, Head};
use super::{Dialogue, MAX_EARLY, Published, Side, Topic, finish, part};
use crate::connection::Mark;
use crate::protocol::messaging::{Operation, Transfer};
use crate::protocol::reader::text;
use crate::protocol::{
    Attribute, Carrier, Fault, Feed, Flow, PUSHED, Part, Request, Response, template,
};
use crate::stats::Stats;

impl Dialogue {
    /// The topic that is meant; `None` where an alias stands for one that was not seen.
    pub(super) fn topic(
        &mut self,
        flow: Flow,
        topic: Box<[u8]>,
        alias: Option<u16>,
        stats: &Stats,
    ) -> Option<Box<[u8]>> {
        let Some(alias) = alias.map(u16::to_be_bytes) else {
            return (!topic.is_empty()).then_some(topic);
        };
        let aliases = &mut self.side(flow).aliases;
        if topic.is_empty() {
            return aliases.get(&alias).map(|topic| topic.0.clone());
        }
        aliases.insert(&alias, Topic(topic.clone()), stats);
        Some(topic)
    }

    /// Opens what is published; gives its exchange and its name.
    pub(super) fn publish(
        &mut self,
        flow: Flow,
        (head, id): (Head, Option<u16>),
        (topic, carrier): (Option<Box<[u8]>>, Option<Carrier>),
        (first, last): (Mark, Mark),
        feed: &mut Feed<'_>,
    ) -> Option<(u64, Option<u16>)> {
        self.understood = true;
        if let Some(id) = id
            && let Some(known) = self.side(flow).published.remove(&id.to_be_bytes())
        {
            if head.again() {
                // The same once more.
                let published = &mut self.side(flow).published;
                published.insert(&id.to_be_bytes(), known, feed.stats);
                return None;
            }
            let lost = Part::Abandon;
            feed.out
                .push(part(flow.opposite(), known.number, first, lost));
        }
        if head.again() && (self.side(flow).lost || !self.begun) {
            // It may have begun with what was not seen.
            return None;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1) & !PUSHED;
        let number = match flow {
            Flow::Request => number,
            Flow::Response => number | PUSHED,
        };
        let partial = !self.begun || topic.is_none();
        let topic = topic.map(|topic| text(&topic, self.keep, feed.stats));
        let request = self.request(flow, topic, carrier);
        let request = Part::Request(Box::new(request), last);
        feed.out.push(part(flow, number, first, request));
        if partial {
            feed.stats.protocol_partial.add(1);
            feed.out
                .push(part(flow, number, first, Part::Fault(Fault::Partial)));
        }
        if let Some(id) = id {
            let published = Published {
                number,
                quality: head.quality(),
                received: false,
            };
            let gone = self
                .side(flow)
                .published
                .insert(&id.to_be_bytes(), published, feed.stats);
            let lost = |gone: Published| part(flow.opposite(), gone.number, first, Part::Abandon);
            feed.out.extend(gone.into_iter().map(lost));
        }
        Some((number, id))
    }

    /// `publish devices/{id}/up`, `process devices/{id}/up`.
    fn request(&self, flow: Flow, topic: Option<String>, carrier: Option<Carrier>) -> Request {
        let (name, operation) = match flow {
            Flow::Request => ("publish", Operation::Send),
            Flow::Response => ("process", Operation::Process),
        };
        let template = topic.as_deref().and_then(|topic| template::of(topic, '/'));
        let client = self.client.clone();
        let client = client.map(|client| Attribute::text("messaging.client.id", client));
        let transfer = Transfer {
            system: SYSTEM,
            name,
            operation,
            destination: topic.map(Into::into),
            count: None,
            carrier,
            messages: Vec::new(),
        };
        let mut request = transfer.request(SYSTEM, client.into_iter().collect());
        template::apply(&mut request, name, template);
        request
    }

    /// What was published the other way is received, or done with.
    pub(super) fn acknowledge(
        &mut self,
        flow: Flow,
        head: Head,
        (id, code): (u16, u8),
        feed: &mut Feed<'_>,
    ) {
        let Side {
            published, early, ..
        } = self.side(flow.opposite());
        let id = id.to_be_bytes();
        let Some(mut known) = published.remove(&id) else {
            if early.len() < MAX_EARLY {
                early.push(id);
            }
            return;
        };
        let over = match (head.kind, known.quality) {
            (packet::PUBACK, 1) | (packet::PUBCOMP, 2) => true,
            (packet::PUBREC, 2) => code >= FAILED,
            _ => {
                published.insert(&id, known, feed.stats);
                return;
            }
        };
        let first = feed.stream.mark(0);
        let length = head.length.saturating_add(head.rest);
        let last = feed.stream.mark(length.saturating_sub(1));
        if !known.received {
            let response = Part::Response(Box::new(response(code)));
            feed.out.push(part(flow, known.number, first, response));
            known.received = true;
        } else if code >= FAILED {
            let trailers = Part::Trailers(Box::new(response(code)));
            feed.out.push(part(flow, known.number, first, trailers));
        }
        match over {
            true => feed.out.push(part(flow, known.number, last, finish())),
            false => drop(published.insert(&id, known, feed.stats)),
        }
    }
}

/// How it went. What is wrong with the message itself is no error of the one who refuses it.
fn response(code: u8) -> Response {
    let error = (code >= FAILED).then(|| {
        let known = ERRORS.iter().find(|(known, _)| *known == code);
        known.map_or("other_error", |(_, name)| name)
    });
    Response {
        client_error: error.map(Into::into),
        server_error: error
            .filter(|_| matches!(code, 0x80 | 0x83))
            .map(Into::into),
        ..Response::default()
    }
}

const SYSTEM: &str = "mqtt";
/// The least reason code that is an error (MQTT 5.0, 2.4).
const FAILED: u8 = 0x80;
/// Those that acknowledgements have (MQTT 5.0, 3.4.2.1, 3.5.2.1 and 3.7.2.1).
const ERRORS: [(u8, &str); 8] = [
    (0x80, "unspecified_error"),
    (0x83, "implementation_specific_error"),
    (0x87, "not_authorized"),
    (0x90, "topic_name_invalid"),
    (0x91, "packet_identifier_in_use"),
    (0x92, "packet_identifier_not_found"),
    (0x97, "quota_exceeded"),
    (0x99, "payload_format_invalid"),
];
