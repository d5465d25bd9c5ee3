//! What a method means for the channel it is on, and what of it becomes of exchanges.
//!
//! Never true here: that bytes are passed over; the frame was taken apart before.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::mem::take;

use super::channel::{Channel, Confirms, Consumer, Content, End, What, settle, tag_of};
use super::content::{Place, Properties};
use super::frame::{BASIC, Method, short};
use super::{Dialogue, MAX_TEXTS, MAX_WAITING, NAME, Say};
use crate::protocol::messaging::{Operation, Transfer};
use crate::protocol::reader::{Reader, text};
use crate::protocol::{Attribute, Fault, Finish, Flow, PUSHED, Part, Request, Response};

impl Dialogue {
    /// A method is whole, and sent by who sends it.
    pub(super) fn method(&mut self, number: u16, method: Method<'_>, say: &mut Say<'_>) {
        let mut arguments = method.arguments;
        match (method.id, say.flow) {
            ((10, 50), Flow::Response) => {
                let code = arguments.u16().unwrap_or_default();
                let all: Vec<u16> = self.channels.keys().copied().collect();
                for number in all {
                    self.fail(number, code, say);
                }
            }
            ((20, 10), _) => self.open(number, say),
            ((20, 11), _) => self.opened(number, say),
            ((20, 40), Flow::Response) => {
                let code = arguments.u16().unwrap_or_default();
                self.fail(number, code, say);
            }
            ((20, 40), Flow::Request) => self.give_back(number, CLOSED, say),
            ((20, 41), _) => self.shut(number, say),
            ((50, 11), _) => self.declared(number, arguments, say),
            ((BASIC, 20), _) => drop(self.consume(number, arguments, say)),
            ((BASIC, 21), _) => drop(self.consumes(number, arguments, say)),
            ((BASIC, 30 | 31), _) => self.cancel(number, method, say),
            ((BASIC, 70), _) => drop(self.pull(number, arguments, say)),
            ((BASIC, 72), _) => {
                let pull = self.pulled(number);
                if let Some(pull) = pull {
                    say.put(say.flow, pull, say.last, Part::Dismiss);
                }
            }
            ((BASIC, 40 | 50 | 60 | 71), _) => drop(self.begin_content(number, method, say)),
            ((BASIC, 80 | 120), Flow::Response) => drop(self.confirm(number, method, say)),
            ((BASIC, 80 | 90 | 120), Flow::Request) => {
                self.acknowledge(number, method, say);
            }
            ((BASIC, 100 | 110), _) => self.give_back(number, REQUEUED, say),
            ((85, 10), _) => {
                if let Some(channel) = self.channel(number, say.stats) {
                    channel.confirms = match channel.confirms {
                        Confirms::Off => Confirms::On(Some(1)),
                        Confirms::Unknown => Confirms::On(None),
                        on @ Confirms::On(_) => on,
                    };
                }
            }
            ((85, 11), _) => self.confirms(number, say),
            _ => {}
        }
    }

    /// A channel is opened: nothing of one that had its number is left.
    fn open(&mut self, number: u16, say: &mut Say<'_>) {
        self.shut(number, say);
        if let Some(channel) = self.channel(number, say.stats) {
            *channel = Channel::fresh();
        }
    }

    /// The broker has opened a channel: if that was not asked for, the question was not seen.
    fn opened(&mut self, number: u16, say: &mut Say<'_>) {
        let fresh = self.channels.get_mut(&number);
        if !fresh.is_some_and(|channel| take(&mut channel.opening)) {
            self.shut(number, say);
        }
    }

    /// A channel is closed: what is open on it has no answer.
    fn shut(&mut self, number: u16, say: &mut Say<'_>) {
        let Some(mut channel) = self.channels.remove(&number) else {
            return;
        };
        self.texts = self.texts.saturating_sub(channel.texts());
        self.waiting = self.waiting.saturating_sub(channel.open());
        let under_way = [channel.sending.take(), channel.receiving.take()];
        let under_way = under_way.into_iter().flatten().filter_map(|c| c.number);
        let published = channel.unconfirmed.iter().map(|p| p.number);
        let delivered = channel.unacked.iter().map(|(_, number)| *number);
        let all = published
            .chain(delivered)
            .chain(channel.pulls.iter().copied());
        for number in all.chain(under_way) {
            say.put(say.flow, number, say.last, Part::Reset(CLOSED));
        }
        if self.channels.capacity() > 64 && self.channels.len() < self.channels.capacity() / 4 {
            self.channels.shrink_to_fit();
        }
    }

    /// The broker closes a channel: that is its answer to all that waits for one.
    fn fail(&mut self, number: u16, code: u16, say: &mut Say<'_>) {
        let error = reply(code);
        self.give_back(number, error, say);
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        let open = channel
            .pulls
            .len()
            .saturating_add(channel.unconfirmed.len());
        let sending = channel.sending.take().and_then(|content| content.number);
        let published = take(&mut channel.unconfirmed).into_iter();
        let pulls = take(&mut channel.pulls).into_iter();
        let all = published.map(|p| p.number).chain(pulls);
        for number in all.chain(sending) {
            say.answer(number, Some(error));
        }
        if let Some(number) = channel.receiving.take().and_then(|content| content.number) {
            say.put(Flow::Response, number, say.last, Part::Reset(error));
        }
        self.waiting = self.waiting.saturating_sub(open);
    }

    /// All that is not acknowledged goes back to its queue.
    fn give_back(&mut self, number: u16, why: &'static str, say: &mut Say<'_>) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        let unacked = take(&mut channel.unacked);
        self.waiting = self.waiting.saturating_sub(unacked.len());
        for (_, number) in unacked {
            say.put(say.flow, number, say.last, Part::Reset(why));
        }
    }

    fn declared(&mut self, number: u16, mut arguments: Reader<'_>, say: &mut Say<'_>) {
        let queue = short(&mut arguments).map(|queue| text(queue, self.keep, say.stats));
        self.change(number, say, |channel, room| {
            channel.declared = queue
                .filter(|queue| queue.len() <= room)
                .map(String::into_boxed_str);
        });
    }

    /// Changes what a channel keeps of names, given how many bytes of them there is room for.
    fn change(&mut self, number: u16, say: &Say<'_>, change: impl FnOnce(&mut Channel, usize)) {
        let others = self.texts;
        let Some(channel) = self.channel(number, say.stats) else {
            return;
        };
        let others = others.saturating_sub(channel.texts());
        change(channel, MAX_TEXTS.saturating_sub(others));
        let texts = channel.texts();
        self.texts = others.saturating_add(texts);
    }

    /// A queue's name; an empty one means the last that was declared.
    fn queue(&self, number: u16, name: &[u8], say: &Say<'_>) -> Option<String> {
        if !name.is_empty() {
            return Some(text(name, self.keep, say.stats));
        }
        let declared = self.channels.get(&number)?.declared.as_ref()?;
        Some(declared.to_string())
    }

    fn consume(&mut self, number: u16, mut arguments: Reader<'_>, say: &Say<'_>) -> Option<()> {
        arguments.skip(2)?;
        let queue = short(&mut arguments)?;
        let tag = short(&mut arguments)?;
        let silent = arguments.u8()? & 2 != 0;
        let queue = self.queue(number, queue, say)?.into_boxed_str();
        let mut full = false;
        self.change(number, say, |channel, room| {
            let consumer = Consumer {
                tag: tag.into(),
                queue,
                silent,
            };
            full = channel.texts().saturating_add(consumer.weight()) > room;
            if full {
                return;
            }
            if tag.is_empty() {
                channel.unnamed.push_back((consumer.queue, silent));
            } else {
                channel.consumers.retain(|other| *other.tag != *tag);
                channel.consumers.push(consumer);
            }
        });
        say.stats.protocol_entries_forgotten.add(u64::from(full));
        Some(())
    }

    /// The broker has a consumer, and may have named it.
    fn consumes(&mut self, number: u16, mut arguments: Reader<'_>, say: &Say<'_>) -> Option<()> {
        let tag = short(&mut arguments)?;
        self.change(number, say, |channel, room| {
            if channel.consumer(tag).is_some() {
                return;
            }
            let Some((queue, silent)) = channel.unnamed.pop_front() else {
                return;
            };
            let consumer = Consumer {
                tag: tag.into(),
                queue,
                silent,
            };
            if channel.texts().saturating_add(consumer.weight()) <= room {
                channel.consumers.push(consumer);
            }
        });
        Some(())
    }

    /// A consumer ends; where the client asks for it, once the broker says so.
    fn cancel(&mut self, number: u16, method: Method<'_>, say: &Say<'_>) {
        let mut arguments = method.arguments;
        let Some(tag) = short(&mut arguments) else {
            return;
        };
        let waits = method.id.1 == 30 && arguments.u8().is_some_and(|bits| bits & 1 == 0);
        if say.flow == Flow::Request && waits {
            return;
        }
        self.change(number, say, |channel, _| {
            channel.consumers.retain(|consumer| *consumer.tag != *tag);
        });
    }

    /// The client asks for a message.
    fn pull(&mut self, number: u16, mut arguments: Reader<'_>, say: &mut Say<'_>) -> Option<()> {
        arguments.skip(2)?;
        let queue = self.queue(number, short(&mut arguments)?, say);
        let full = self.waiting >= MAX_WAITING;
        let pull = self.number(0);
        let channel = self.channel(number, say.stats)?;
        // Who pulls waits for the answer, so nobody can be waiting now.
        let gone = match take(&mut channel.pulls_lost) {
            true => take(&mut channel.pulls),
            false => Default::default(),
        };
        if !full {
            channel.pulls.push_back(pull);
        }
        let place = Place {
            queue: queue.as_deref(),
            ..Place::default()
        };
        let mut further = Vec::new();
        place.describe(&mut further);
        let transfer = Transfer {
            system: SYSTEM,
            name: "receive",
            operation: Operation::Receive,
            destination: queue.as_deref().map(Into::into),
            count: None,
            carrier: None,
            messages: Vec::new(),
        };
        let mut request = transfer.request(NAME, further);
        rename(&mut request, "receive", place.target_of_consumer());
        self.waiting = self.waiting.saturating_add(usize::from(!full));
        self.waiting = self.waiting.saturating_sub(gone.len());
        for number in gone {
            say.put(Flow::Response, number, say.first, Part::Abandon);
        }
        let part = Part::Request(Box::new(request), say.last);
        say.put(Flow::Request, pull, say.first, part);
        if queue.is_none() {
            say.partial(pull);
        }
        say.put(Flow::Request, pull, say.last, finish(0));
        if full {
            say.too_many(pull);
        }
        Some(())
    }

    /// The pull that the broker answers now.
    fn pulled(&mut self, number: u16) -> Option<u64> {
        let pull = self.channels.get_mut(&number)?.pulls.pop_front()?;
        self.waiting = self.waiting.saturating_sub(1);
        Some(pull)
    }

    /// A method whose content follows.
    fn begin_content(&mut self, number: u16, method: Method<'_>, say: &mut Say<'_>) -> Option<()> {
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
        let slot = slot(channel, say.flow);
        let before = slot.replace(Box::new(content));
        if let Some(before) = before {
            self.broken_off(number, &before, say);
        }
        Some(())
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
                let place = Place {
                    exchange,
                    key,
                    queue: None,
                };
                let partial = *end == End::Unknown || !properties.whole;
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
                let place = Place {
                    exchange,
                    key,
                    queue: queue.as_deref(),
                };
                let partial = *end == End::Unknown || queue.is_none() || !properties.whole;
                let request = deliver(place, *tag, &mut properties);
                Some((request, partial, *end, None))
            }
            What::Got { key, tag } => {
                let response = got(key, *tag, &mut properties);
                if let Some(number) = content.number {
                    let part = Part::Response(Box::new(response));
                    say.put(Flow::Response, number, start, part);
                    if !properties.whole {
                        say.partial(number);
                    }
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
            if partial {
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
            // A body without what says how long it is.
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
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        let Some(content) = slot(channel, say.flow).take() else {
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
            Flow::Request => channel.unconfirmed.push_back(super::channel::Published {
                tag,
                number: exchange,
                route: returns,
                returned: None,
            }),
            Flow::Response => channel.unacked.push_back((tag, exchange)),
        }
    }

    /// The broker has taken what was published, or has not.
    fn confirm(&mut self, number: u16, method: Method<'_>, say: &mut Say<'_>) -> Option<()> {
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
    fn confirms(&mut self, number: u16, say: &Say<'_>) {
        if let Some(channel) = self.channel(number, say.stats)
            && !matches!(channel.confirms, Confirms::On(_))
        {
            channel.confirms = Confirms::On(None);
        }
    }

    /// The consumer is done with a message, or refuses it.
    fn acknowledge(&mut self, number: u16, method: Method<'_>, say: &mut Say<'_>) -> Option<()> {
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
                if let Confirms::On(next) = &mut channel.confirms {
                    *next = None;
                }
                channel.unacked.retain(|(_, number)| keeps(*number));
            }
            Flow::Response => {
                channel.declared = None;
                channel.pulls.retain(|number| keeps(*number));
                channel.unconfirmed.retain(|p| keeps(p.number));
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
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        if let Some(content) = slot(channel, say.flow).take() {
            self.broken_off(number, &content, say);
        }
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
    fn answer(&mut self, number: u64, error: Option<&'static str>) {
        self.ends(number, self.flow, self.first, error);
    }

    fn ends(
        &mut self,
        number: u64,
        flow: Flow,
        first: crate::connection::Mark,
        error: Option<&'static str>,
    ) {
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

fn publish(place: Place<'_>, properties: &mut Properties) -> Request {
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

fn deliver(place: Place<'_>, tag: u64, properties: &mut Properties) -> Request {
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
fn got(key: &str, tag: u64, properties: &mut Properties) -> Response {
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

/// The name of a reply code (specification, 1.2).
fn reply(code: u16) -> &'static str {
    match code {
        311 => "CONTENT_TOO_LARGE",
        312 => "NO_ROUTE",
        313 => "NO_CONSUMERS",
        320 => "CONNECTION_FORCED",
        402 => "INVALID_PATH",
        403 => "ACCESS_REFUSED",
        404 => "NOT_FOUND",
        405 => "RESOURCE_LOCKED",
        406 => "PRECONDITION_FAILED",
        501 => "FRAME_ERROR",
        502 => "SYNTAX_ERROR",
        503 => "COMMAND_INVALID",
        504 => "CHANNEL_ERROR",
        505 => "UNEXPECTED_FRAME",
        506 => "RESOURCE_ERROR",
        530 => "NOT_ALLOWED",
        540 => "NOT_IMPLEMENTED",
        541 => "INTERNAL_ERROR",
        200 => CLOSED,
        _ => "_OTHER",
    }
}

const SYSTEM: &str = "rabbitmq";
/// `error.type` of what was open on a channel that was closed in good order.
const CLOSED: &str = "channel_closed";
/// Of a message that goes back to its queue.
const REQUEUED: &str = "requeued";
/// Of one that does not.
const REJECTED: &str = "rejected";
