//! Messages that are published, pulled and delivered, as exchanges: how each begins, what waits for
//! whose word, and what that word says.
//!
//! Never true here: that a word is given to a message it may not be about.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::mem::take;

use super::channel::{Channel, Confirms, Content, End, Published, What, settle, tag_of};
use super::content::{Place, Properties, deliver, got, publish, pull};
use super::frame::{Method, short};
use super::method::{REJECTED, REQUEUED, reply};
use super::{Dialogue, MAX_CONTENTS, MAX_WAITING, Say};
use crate::connection::Mark;
use crate::protocol::reader::{Reader, text};
use crate::protocol::{Fault, Finish, Flow, PUSHED, Part, Response};

impl Dialogue {
    /// The client asks for a message.
    pub(super) fn pull(
        &mut self,
        number: u16,
        mut arguments: Reader<'_>,
        say: &mut Say<'_>,
    ) -> Option<()> {
        arguments.skip(2)?;
        let queue = self.queue(number, short(&mut arguments)?, say);
        let full = self.waiting >= MAX_WAITING;
        let asked = self.number(0);
        let channel = self.channel(number, say.stats)?;
        // Who pulls waits for the answer, so nobody can be waiting now.
        let gone = match take(&mut channel.pulls_lost) {
            true => {
                channel.passed = 0;
                take(&mut channel.pulls)
            }
            false => Default::default(),
        };
        let mut over = None;
        channel.pulls.push_back(asked);
        if full && gone.is_empty() {
            // Its answer comes first, and is nobody's.
            over = channel.pulls.pop_front();
            channel.passed = channel.passed.saturating_add(1);
        }
        let request = pull(queue.as_deref());
        self.waiting = self.waiting.saturating_add(usize::from(over.is_none()));
        self.waiting = self.waiting.saturating_sub(gone.len());
        for number in gone {
            say.put(Flow::Response, number, say.first, Part::Abandon);
        }
        let part = Part::Request(Box::new(request), say.last);
        say.put(Flow::Request, asked, say.first, part);
        if queue.is_none() {
            say.partial(asked);
        }
        say.put(Flow::Request, asked, say.last, finish(0));
        if let Some(over) = over {
            say.too_many(over);
        }
        Some(())
    }

    /// The pull that the broker answers now.
    pub(super) fn pulled(&mut self, number: u16) -> Option<u64> {
        let channel = self.channels.get_mut(&number)?;
        if let Some(passed) = channel.passed.checked_sub(1) {
            channel.passed = passed;
            return None;
        }
        let pull = channel.pulls.pop_front()?;
        self.waiting = self.waiting.saturating_sub(1);
        Some(pull)
    }

    /// A method whose content follows.
    pub(super) fn begin_content(
        &mut self,
        number: u16,
        method: Method<'_>,
        say: &mut Say<'_>,
    ) -> Option<()> {
        let keep = self.keep;
        let mut exchange = None;
        let mut arguments = method.arguments;
        let pull = (method.id.1 == 71).then(|| self.pulled(number)).flatten();
        let channel = self.channel(number, say.stats)?;
        let name = |reader: &mut Reader<'_>| -> Option<Box<str>> {
            Some(text(short(reader)?, keep, say.stats).into())
        };
        let what = match method.id.1 {
            40 => {
                arguments.skip(2)?;
                What::Publish {
                    exchange: name(&mut arguments)?,
                    key: name(&mut arguments)?,
                    mandatory: arguments.u8()? & 1 != 0,
                    end: channel.publish(),
                }
            }
            50 => {
                let code = arguments.u16()?;
                short(&mut arguments)?;
                let (exchange, key) = (name(&mut arguments)?, name(&mut arguments)?);
                channel.return_of(route(&exchange, &key), code);
                What::Nothing
            }
            60 => {
                let consumer = channel.consumer(short(&mut arguments)?);
                let tag = arguments.u64()?;
                arguments.skip(1)?;
                What::Deliver {
                    exchange: name(&mut arguments)?,
                    key: name(&mut arguments)?,
                    queue: consumer.map(|consumer| consumer.queue.clone()),
                    tag,
                    end: channel.deliver(tag, consumer),
                }
            }
            _ => {
                let tag = arguments.u64()?;
                arguments.skip(1)?;
                short(&mut arguments)?;
                exchange = pull;
                match pull {
                    Some(_) => What::Got {
                        key: name(&mut arguments)?,
                        tag,
                    },
                    None => What::Nothing,
                }
            }
        };
        let content = Content {
            what,
            start: say.first,
            number: exchange,
            left: None,
            size: 0,
        };
        self.put_content(number, content, say);
        Some(())
    }

    /// Content is under way from now on, as far as there is room for it.
    fn put_content(&mut self, number: u16, content: Content, say: &mut Say<'_>) {
        self.drop_content(number, say);
        let contents = self.contents.saturating_add(content.weight());
        if contents > MAX_CONTENTS {
            say.stats.protocol_entries_forgotten.add(1);
            self.broken_off(number, &content, say);
        } else if let Some(channel) = self.channels.get_mut(&number) {
            self.contents = contents;
            *slot(channel, say.flow) = Some(Box::new(content));
        }
    }

    /// A content header is whole, or its beginning is there.
    pub(super) fn header(&mut self, number: u16, payload: &[u8], say: &mut Say<'_>) {
        let properties = Properties::read(payload, self.keep, say.stats);
        let Some(content) = self.content(say.flow, number) else {
            return;
        };
        let Some(mut properties) = properties.filter(|_| content.left.is_none()) else {
            say.stats.protocol_malformed.add(1);
            return self.drop_content(number, say);
        };
        (content.left, content.size) = (Some(properties.size), properties.size);
        let start = content.start;
        let opens = match &mut content.what {
            What::Publish {
                exchange,
                key,
                end,
                mandatory,
            } => {
                let place = Place::new(exchange, key, None);
                let partial = *end == End::Unknown;
                let returns = mandatory.then(|| route(exchange, key));
                Some((publish(place, &mut properties), partial, *end, returns))
            }
            What::Deliver {
                exchange,
                key,
                queue,
                tag,
                end,
            } => {
                let place = Place::new(exchange, key, queue.as_deref());
                let partial = *end == End::Unknown || queue.is_none();
                let request = deliver(place, *tag, &mut properties);
                Some((request, partial, *end, None))
            }
            What::Got { key, tag } => {
                if let Some(number) = content.number {
                    let part = Part::Response(Box::new(got(key, *tag, &mut properties)));
                    say.put(Flow::Response, number, content.start, part);
                }
                None
            }
            What::Nothing => None,
        };
        if let Some((request, partial, end, returns)) = opens {
            let exchange = self.number(match say.flow {
                Flow::Request => 0,
                Flow::Response => PUSHED,
            });
            let part = Part::Request(Box::new(request), say.last);
            say.put(say.flow, exchange, start, part);
            if partial || !properties.whole {
                say.partial(exchange);
            }
            if let Some(content) = self.content(say.flow, number) {
                content.number = Some(exchange);
            }
            if let End::Tag(tag) = end {
                self.wait(number, (tag, exchange), returns, say);
            }
        }
        self.body(number, 0, say);
    }

    /// So many bytes of a body have passed.
    pub(super) fn body(&mut self, number: u16, bytes: u64, say: &mut Say<'_>) {
        let Some(content) = self.content(say.flow, number) else {
            return;
        };
        let Some(left) = content.left else {
            return self.drop_content(number, say);
        };
        let Some(left) = left.checked_sub(bytes) else {
            say.stats.protocol_malformed.add(1);
            return self.drop_content(number, say);
        };
        content.left = Some(left);
        if left > 0 {
            return;
        }
        let Some(content) = self.take_content(say.flow, number) else {
            return;
        };
        let Some(exchange) = content.number else {
            return;
        };
        say.put(say.flow, exchange, say.last, finish(content.size));
        if let What::Publish { end, .. } | What::Deliver { end, .. } = content.what
            && !matches!(end, End::Tag(_))
        {
            say.ends(exchange, say.flow.opposite(), say.last, None);
        }
    }

    /// An exchange waits for the other side's word on its tag.
    fn wait(
        &mut self,
        number: u16,
        (tag, exchange): (u64, u64),
        returns: Option<u64>,
        say: &mut Say<'_>,
    ) {
        let full = self.waiting >= MAX_WAITING;
        self.uses(number);
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        let gone = match (say.flow, full) {
            (_, false) => None,
            (Flow::Request, true) => channel.unconfirmed.pop_front().map(|p| p.number),
            (Flow::Response, true) => channel.unacked.pop_front().map(|(_, number)| number),
        };
        if full {
            say.too_many(gone.unwrap_or(exchange));
            if gone.is_none() {
                return;
            }
        } else {
            self.waiting = self.waiting.saturating_add(1);
        }
        match say.flow {
            Flow::Request => channel.unconfirmed.push_back(Published {
                tag,
                number: exchange,
                route: returns,
                returned: None,
            }),
            Flow::Response => channel.unacked.push_back((tag, exchange)),
        }
    }

    /// The broker has taken what was published, or has not.
    pub(super) fn confirm(
        &mut self,
        number: u16,
        method: Method<'_>,
        say: &mut Say<'_>,
    ) -> Option<()> {
        let nack = method.id.1 == 120;
        let (tag, _) = tag_of(method)?;
        self.confirms(number, say);
        let channel = self.channels.get_mut(&number)?;
        let before = channel.unconfirmed.len();
        settle(
            &mut channel.unconfirmed,
            |p| p.tag,
            tag,
            |published| {
                let error = nack.then_some("nack").or(published.returned.map(reply));
                say.answer(published.number, error);
            },
        );
        let settled = before.saturating_sub(channel.unconfirmed.len());
        self.waiting = self.waiting.saturating_sub(settled);
        Some(())
    }

    /// The broker confirms on this channel; if that was not asked for, the question was not seen.
    pub(super) fn confirms(&mut self, number: u16, say: &Say<'_>) {
        if let Some(channel) = self.channel(number, say.stats)
            && !matches!(channel.confirms, Confirms::On(_))
        {
            channel.confirms = Confirms::On(None);
        }
    }

    /// The consumer is done with a message, or refuses it.
    pub(super) fn acknowledge(
        &mut self,
        number: u16,
        method: Method<'_>,
        say: &mut Say<'_>,
    ) -> Option<()> {
        let kind = method.id.1;
        let (tag, bits) = tag_of(method)?;
        let error = match kind {
            80 => None,
            90 if bits & 1 != 0 => Some(REQUEUED),
            120 if bits & 2 != 0 => Some(REQUEUED),
            _ => Some(REJECTED),
        };
        let channel = self.channel(number, say.stats)?;
        channel.acknowledges = true;
        let before = channel.unacked.len();
        settle(
            &mut channel.unacked,
            |(tag, _)| *tag,
            tag,
            |(_, number)| {
                say.answer(number, error);
            },
        );
        let settled = before.saturating_sub(channel.unacked.len());
        self.waiting = self.waiting.saturating_sub(settled);
        Some(())
    }

    /// Frames of this flow may have gone by unseen on a channel: what waits for one is given up, but
    /// for what has been opened `since`.
    pub(super) fn forget(&mut self, number: u16, since: u64, say: &mut Say<'_>) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        let (open, texts) = (channel.open(), channel.texts());
        let mut gone: Vec<u64> = Vec::new();
        let mut keeps = |number: u64| {
            let keeps = number & !PUSHED >= since;
            if !keeps {
                gone.push(number);
            }
            keeps
        };
        channel.unnamed.clear();
        match say.flow {
            Flow::Request => {
                channel.opening = false;
                channel.pulls_lost = true;
                // They may have asked for confirms.
                channel.confirms = match channel.confirms {
                    Confirms::On(_) => Confirms::On(None),
                    Confirms::Off | Confirms::Unknown => Confirms::Unknown,
                };
                channel.unacked.retain(|(_, number)| keeps(*number));
            }
            Flow::Response => {
                channel.declared = None;
                channel.pulls.retain(|number| keeps(*number));
                channel.unconfirmed.retain(|p| keeps(p.number));
                if take(&mut channel.passed) > 0 {
                    // How many answers are still nobody's is not known.
                    gone.extend(channel.pulls.drain(..));
                }
            }
        }
        let texts = texts.saturating_sub(channel.texts());
        let open = open.saturating_sub(channel.open());
        self.texts = self.texts.saturating_sub(texts);
        self.waiting = self.waiting.saturating_sub(open);
        for number in gone {
            say.put(Flow::Response, number, say.first, Part::Abandon);
        }
    }

    /// The content under way on a channel is not read to its end.
    pub(super) fn drop_content(&mut self, number: u16, say: &mut Say<'_>) {
        if let Some(content) = self.take_content(say.flow, number) {
            self.broken_off(number, &content, say);
        }
    }

    /// The content that was under way on a channel until now.
    pub(super) fn take_content(&mut self, flow: Flow, number: u16) -> Option<Box<Content>> {
        let content = slot(self.channels.get_mut(&number)?, flow).take()?;
        self.contents = self.contents.saturating_sub(content.weight());
        Some(content)
    }

    fn broken_off(&mut self, number: u16, content: &Content, say: &mut Say<'_>) {
        let Some(exchange) = content.number else {
            return;
        };
        say.put(say.flow, exchange, say.first, Part::Abandon);
        if let Some(channel) = self.channels.get_mut(&number) {
            let before = channel.open();
            channel.unconfirmed.retain(|p| p.number != exchange);
            channel.unacked.retain(|(_, number)| *number != exchange);
            let gone = before.saturating_sub(channel.open());
            self.waiting = self.waiting.saturating_sub(gone);
        }
    }

    fn number(&mut self, side: u64) -> u64 {
        let number = self.next & !PUSHED;
        self.next = self.next.wrapping_add(1);
        number | side
    }
}

impl Say<'_> {
    /// This frame is the answer to an exchange that the other side opened.
    pub(super) fn answer(&mut self, number: u64, error: Option<&'static str>) {
        self.ends(number, self.flow, self.first, error);
    }

    fn ends(&mut self, number: u64, flow: Flow, first: Mark, error: Option<&'static str>) {
        let response = Response {
            client_error: error.map(Into::into),
            server_error: error.map(Into::into),
            ..Response::default()
        };
        self.put(flow, number, first, Part::Response(Box::new(response)));
        self.put(flow, number, self.last, finish(0));
    }

    fn partial(&mut self, number: u64) {
        self.stats.protocol_partial.add(1);
        self.put(self.flow, number, self.last, Part::Fault(Fault::Partial));
    }

    fn too_many(&mut self, number: u64) {
        self.stats.exchange_too_deep.add(1);
        self.put(self.flow, number, self.last, Part::Abandon);
    }
}

fn slot(channel: &mut Channel, flow: Flow) -> &mut Option<Box<Content>> {
    match flow {
        Flow::Request => &mut channel.sending,
        Flow::Response => &mut channel.receiving,
    }
}

fn finish(body: u64) -> Part {
    Part::Finish(Finish {
        body,
        exact: true,
        whole: true,
    })
}

fn route(exchange: &str, key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (exchange, key).hash(&mut hasher);
    hasher.finish()
}
