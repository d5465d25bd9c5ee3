//! What a method means for the channel it is on: what opens and closes it, its consumers, and who is
//! asked to go on with what (`message.rs`).
//!
//! Never true here: that bytes are passed over; the frame was taken apart before.

use std::mem::take;

use super::channel::{Channel, Confirms, Consumer};
use super::frame::{BASIC, Method, short};
use super::{Dialogue, MAX_TEXTS, Say};
use crate::protocol::reader::{Reader, text};
use crate::protocol::{Flow, Part};

impl Dialogue {
    /// A method is whole, and sent by who sends it.
    pub(super) fn method(&mut self, number: u16, method: Method<'_>, say: &mut Say<'_>) {
        let mut arguments = method.arguments;
        match (method.id, say.flow) {
            ((10, 50), Flow::Response) if !self.closed => {
                self.closed = true;
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
        let under_way = [Flow::Request, Flow::Response];
        let under_way = under_way.map(|flow| self.take_content(flow, number));
        let Some(channel) = self.channels.remove(&number) else {
            return;
        };
        self.request.used.remove(&number);
        self.response.used.remove(&number);
        self.texts = self.texts.saturating_sub(channel.texts());
        self.waiting = self.waiting.saturating_sub(channel.open());
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
        let sending = self.take_content(Flow::Request, number);
        let receiving = self.take_content(Flow::Response, number);
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        let open = channel
            .pulls
            .len()
            .saturating_add(channel.unconfirmed.len());
        let published = take(&mut channel.unconfirmed).into_iter();
        let pulls = take(&mut channel.pulls).into_iter();
        let all = published.map(|p| p.number).chain(pulls);
        for number in all.chain(sending.and_then(|content| content.number)) {
            say.answer(number, Some(error));
        }
        if let Some(number) = receiving.and_then(|content| content.number) {
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
    pub(super) fn queue(&self, number: u16, name: &[u8], say: &Say<'_>) -> Option<String> {
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
}

/// The name of a reply code (specification, 1.2).
pub(super) fn reply(code: u16) -> &'static str {
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
/// `error.type` of what was open on a channel that was closed in good order.
pub(super) const CLOSED: &str = "channel_closed";
/// Of a message that goes back to its queue.
pub(super) const REQUEUED: &str = "requeued";
/// Of one that does not.
pub(super) const REJECTED: &str = "rejected";
