//! From a frame to what is said of it: requests open exchanges, answers tell how they went.
//!
//! Never true here: that an answer is given to a request it may not belong to.

use super::ask::{self, Known, MAX_KEYSPACE};
use super::frame::{Head, opcode, string};
use super::result::Answer;
use super::waiting::{What, abandon, number};
use super::{Dialogue, LOOK, Packing, frame, lz4};
use crate::connection::Mark;
use crate::protocol::reader::{Read, Reader, text};
use crate::protocol::told::slotted;
use crate::protocol::{Fault, Flow, Message, Part};
use crate::stats::Stats;

/// Where findings go, and where losses are counted.
type Out<'a> = (&'a mut Vec<Message>, &'a Stats);

/// What there is of a body.
struct Body<'a> {
    bytes: std::borrow::Cow<'a, [u8]>,
    /// Whether all is there that may be looked at.
    whole: bool,
    /// Whether it can be read.
    readable: bool,
}

impl Dialogue {
    /// Reads a frame of which so much of the body is there; gives the number of its exchange. `marks`:
    /// of its first byte and of the last that is there.
    pub(super) fn message(
        &mut self,
        (flow, head): (Flow, Head),
        body: &[u8],
        whole: bool,
        marks: (Mark, Mark),
        (out, stats): Out<'_>,
    ) -> Option<u64> {
        if head.version < 5 {
            self.framing = super::Framing::Frames;
        }
        let (head, body) = self.unpacked(head, body, whole, flow);
        if !body.readable {
            stats.protocol_compressed.add(1);
        }
        match flow {
            Flow::Request => self.asked(head, &body, marks, (out, stats)),
            Flow::Response => self.answered(head, &body, marks.0, (out, stats)),
        }
    }

    /// A body as it was before it was compressed.
    fn unpacked<'a>(
        &self,
        head: Head,
        bytes: &'a [u8],
        whole: bool,
        flow: Flow,
    ) -> (Head, Body<'a>) {
        let plain = |readable| Body {
            bytes: bytes.into(),
            whole,
            readable,
        };
        if !head.is_compressed() {
            return (head, plain(true));
        }
        // Within segments it is these that are compressed (native_protocol_v5.spec, 2.2).
        if matches!(self.framing, super::Framing::Segments(_)) {
            return (head, plain(false));
        }
        let mut fields = Reader::new(bytes);
        let (Some(length), None | Some(Packing::Lz4)) = (fields.u32(), self.packing) else {
            return (head, plain(false));
        };
        let wanted = usize::try_from(length).unwrap_or(LOOK).min(LOOK);
        let unpacked = lz4::unpack(fields.rest(), wanted);
        let there = head.with_length(length);
        // What was not agreed on before our eyes is believed where it makes sense.
        if self.packing.is_none() && frame::begins_body(there, &unpacked, flow) != Read::Whole(()) {
            return (head, plain(false));
        }
        let body = Body {
            whole: unpacked.len() == wanted,
            bytes: unpacked.into(),
            readable: true,
        };
        (there, body)
    }

    fn asked(
        &mut self,
        head: Head,
        body: &Body<'_>,
        (start, last): (Mark, Mark),
        (out, stats): Out<'_>,
    ) -> Option<u64> {
        if head.opcode == opcode::STARTUP {
            self.packing = packing(&body.bytes).or(self.packing);
        }
        let known = Known {
            names: &self.names,
            keyspace: self.keyspace(),
            config: &self.config.database,
            stats,
        };
        let ask = match body.readable {
            true => ask::read(head, &body.bytes, body.whole, &known),
            false => ask::read(head, &[], false, &known),
        };
        let (request, what, partial, may_use) = match ask {
            Some(ask) => {
                let partial = ask.partial || !body.whole;
                (Some(ask.request), ask.what, partial, ask.may_use)
            }
            None => (None, What::Other, false, false),
        };
        let (followed, gone) = self
            .waiting
            .ask(head.stream, what, may_use, start.time, stats);
        for (stream, asked) in gone.into_iter().flatten() {
            if asked.may_use {
                self.keyspace = None;
            }
            abandon(stream, &asked, start, out);
        }
        let request = request.filter(|_| followed)?;
        let number = number(head.stream);
        let part = Part::Request(Box::new(request), last);
        out.push(slotted(Flow::Request, number, start, part));
        if partial {
            stats.protocol_partial.add(1);
            let part = Part::Fault(Fault::Partial);
            out.push(slotted(Flow::Request, number, start, part));
        }
        Some(number)
    }

    fn answered(
        &mut self,
        head: Head,
        body: &Body<'_>,
        start: Mark,
        (out, stats): Out<'_>,
    ) -> Option<u64> {
        if head.opcode == opcode::EVENT {
            return None;
        }
        let bytes: &[u8] = if body.readable { &body.bytes } else { &[] };
        let answer = Answer::read(head, bytes);
        if let Answer::Keyspace(name) = answer {
            let name = text(name, MAX_KEYSPACE, stats);
            self.keyspace = Some((name, self.waiting.lost()));
        }
        let Some((asked, sure)) = self.waiting.answer(head.stream, start.time) else {
            stats.exchange_unasked.add(1);
            return None;
        };
        self.understood = true;
        let unclear = !body.readable || !body.whole;
        if asked.may_use && unclear && answer == Answer::Done {
            self.keyspace = None;
        }
        // Of an error that is not to be seen nothing can be said.
        let unseen = (body.readable || !body.whole) && answer == Answer::Error(None);
        if !sure || unseen {
            abandon(head.stream, &asked, start, out);
            return None;
        }
        if !asked.what.is_told() {
            return None;
        }
        if let (What::Prepare(Some(prepared)), Answer::Prepared(id)) = (&asked.what, answer) {
            self.names.learn(id, prepared, stats);
        }
        let number = number(head.stream);
        let part = Part::Response(Box::new(answer.response()));
        out.push(slotted(Flow::Response, number, start, part));
        Some(number)
    }

    /// The keyspace that is used: not known while a change of it waits for its answer, nor where one may
    /// have passed unseen.
    fn keyspace(&self) -> Option<&str> {
        let (name, lost) = self.keyspace.as_ref()?;
        let unsure = self.waiting.may_use() || self.waiting.lost_since(lost);
        (!unsure).then_some(name)
    }
}

/// What STARTUP says of compression.
fn packing(body: &[u8]) -> Option<Packing> {
    let mut fields = Reader::new(body);
    for _ in 0..fields.u16()? {
        let (key, value) = (string(&mut fields)?, string(&mut fields)?);
        if key == b"COMPRESSION" {
            return Some(match value.eq_ignore_ascii_case(b"lz4") {
                true => Packing::Lz4,
                false => Packing::Other,
            });
        }
    }
    None
}
