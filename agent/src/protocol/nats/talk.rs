//! What a line means for the exchanges of its connection.
//!
//! Never true here: that bytes are looked at that are no message's line, headers or acknowledgement.

use std::time::Duration;

use super::line::{self, Line};
use super::subject::{self, Purpose, matches, purpose};
use super::{
    After, Asked, Delivered, Dialogue, Head, MAX_EARLY, MAX_EARLY_SUBJECT, Subscription, finish,
    name, part,
};
use crate::connection::Mark;
use crate::protocol::{Fault, Feed, Finish, Flow, Message, PUSHED, Part, Request, Response};
use crate::stats::Stats;

/// Where it is said.
pub(super) struct Say<'a> {
    /// First byte of the line.
    pub(super) first: Mark,
    pub(super) out: &'a mut Vec<Message>,
    pub(super) stats: &'a Stats,
}

impl Say<'_> {
    fn push(&mut self, flow: Flow, number: u64, what: Part) {
        self.out.push(part(flow, number, self.first, what));
    }
}

impl Dialogue {
    /// A line without a payload.
    pub(super) fn say(&mut self, line: &Line<'_>, last: Mark, say: &mut Say<'_>) {
        match line {
            Line::Connect => self.all_known = true,
            Line::Subscribe {
                subject,
                group,
                sid,
            } => {
                let subscription = Subscription {
                    subject: (*subject).into(),
                    group: group.map(Into::into),
                };
                let gone = self.subscriptions.insert(sid, subscription, say.stats);
                self.all_known &= gone.is_empty();
            }
            Line::Unsubscribe { sid, later: false } => {
                if let Some(gone) = self.subscriptions.remove(sid) {
                    self.unheard(&gone.subject, last, say.out);
                }
            }
            Line::Error(text) => self.refused(text, last, say),
            _ => {}
        }
    }

    /// Answers on a subject are not heard any more.
    fn unheard(&mut self, pattern: &[u8], at: Mark, out: &mut Vec<Message>) {
        let heard = |other: &Subscription| {
            let mut all = self.subscriptions.iter();
            all.any(|(_, subscription)| subscription.subject == other.subject)
        };
        let own = Subscription {
            subject: pattern.into(),
            group: None,
        };
        if self.asked.is_empty() || heard(&own) {
            return;
        }
        let replies = self.asked.iter().map(|(reply, _)| reply);
        let replies: Vec<Box<[u8]>> = replies
            .filter(|reply| matches(pattern, reply))
            .map(Into::into)
            .collect();
        for reply in replies {
            if let Some(asked) = self.asked.remove(&reply) {
                out.push(part(Flow::Request, asked.number, at, Part::Reset(UNHEARD)));
            }
        }
    }

    /// `'Permissions Violation for Publish to "subject"'` says whose request has failed; of messages
    /// that nobody waits for it comes too late.
    fn refused(&mut self, text: &[u8], last: Mark, say: &mut Say<'_>) {
        let subject = text.strip_prefix(NOT_ALLOWED).and_then(|rest| {
            let end = memchr::memchr(b'"', rest)?;
            rest.get(..end)
        });
        let found = subject.and_then(|subject| {
            let mut all = self.asked.iter();
            all.find(|(_, asked)| &*asked.subject == subject)
        });
        let Some(reply) = found.map(|(reply, _)| Box::<[u8]>::from(reply)) else {
            return;
        };
        if let Some(asked) = self.asked.remove(&reply) {
            let response = Response {
                client_error: Some("Permissions Violation".into()),
                ..Response::default()
            };
            let answer = Part::Response(Box::new(response));
            say.push(Flow::Response, asked.number, answer);
            say.out
                .push(part(Flow::Response, asked.number, last, finish()));
        }
    }

    /// Something is published.
    pub(super) fn published(
        &mut self,
        message: &line::Message<'_>,
        head: &Head,
        say: &mut Say<'_>,
    ) -> After {
        let purpose = purpose(message.subject);
        if let Some(delivered) = self.delivered.remove(message.subject) {
            let number = delivered.number | PUSHED;
            let Some(response) = name::settled(purpose, head) else {
                // Work goes on, or it is not known whether it does.
                match head.payload {
                    Some(_) => {
                        let heard = say.first.time;
                        let delivered = Delivered { heard, ..delivered };
                        self.delivered.insert(message.subject, delivered, say.stats);
                    }
                    None => say.push(Flow::Request, number, Part::Abandon),
                }
                return After::None;
            };
            let response = Part::Response(Box::new(response));
            say.push(Flow::Request, number, response);
            return After::Settles(delivered.number);
        }
        if !matches!(purpose, Purpose::Message | Purpose::Api) {
            return After::None;
        }
        let number = self.number();
        let request = name::published(message, purpose, head, self.keep, say.stats);
        self.open(Flow::Request, number, request, head, say);
        let Some(reply) = message.reply else {
            return After::Sent(number);
        };
        let own = |(_, own): (&[u8], &Subscription)| matches(&own.subject, reply);
        if !self.subscriptions.iter().any(own) {
            if self.all_known || !reply.starts_with(subject::INBOX) {
                // Somebody else is answered.
                return After::Sent(number);
            }
            say.push(Flow::Request, number, Part::Fault(Fault::Partial));
        }
        let subject = message.subject.into();
        After::Asked(number, reply.into(), Asked { number, subject })
    }

    /// A message comes.
    pub(super) fn came(
        &mut self,
        sid: &[u8],
        message: &line::Message<'_>,
        head: &Head,
        say: &mut Say<'_>,
    ) -> After {
        if let Some(asked) = self.asked.remove(message.subject) {
            let Some(answer) = name::answered(head) else {
                say.push(Flow::Response, asked.number, Part::Abandon);
                return After::None;
            };
            let response = Part::Response(Box::new(answer));
            say.push(Flow::Response, asked.number, response);
            return After::Answers(asked.number);
        }
        let word = match &head.headers {
            Some(headers) => headers.status.is_some(),
            // Without a payload it may be the server's word.
            None => message.headers == message.size,
        };
        let purpose = purpose(message.subject);
        if word || purpose != Purpose::Message {
            let short = message.subject.len() <= MAX_EARLY_SUBJECT;
            if purpose == Purpose::Answer && short && self.early.len() < MAX_EARLY {
                self.early.push(message.subject.into());
            }
            return After::None;
        }
        let number = self.number();
        let from = self.subscriptions.get(sid);
        let request = name::delivered(message, from, head, self.keep, say.stats);
        let known = from.is_some();
        self.open(Flow::Response, number | PUSHED, request, head, say);
        if !known {
            let partial = Part::Fault(Fault::Partial);
            say.push(Flow::Response, number | PUSHED, partial);
        }
        match message.reply {
            Some(reply) => After::Delivered(number, reply.into()),
            None => After::Handed(number),
        }
    }

    /// What was delivered long ago is answered no more: a connection is never silent that has pings.
    pub(super) fn expire(&mut self, feed: &mut Feed<'_>) {
        let now = feed.stream.last().time;
        let late = |delivered: &Delivered| {
            Duration::from_nanos(now.saturating_sub(delivered.heard)) >= self.patience
        };
        let all = self.delivered.iter().take_while(|(_, d)| late(d));
        let late: Vec<Box<[u8]>> = all.map(|(reply, _)| reply.into()).collect();
        for reply in late {
            let gone = self.delivered.remove(&reply);
            feed.out.extend(gone.iter().map(over));
        }
    }

    /// What was delivered and is not answered ended with its last byte, as far as is known.
    pub(super) fn unanswered(&mut self, feed: &mut Feed<'_>) {
        for delivered in self.delivered.drain() {
            feed.out.push(over(&delivered));
        }
    }

    fn open(&mut self, flow: Flow, number: u64, request: Request, head: &Head, say: &mut Say<'_>) {
        let request = Part::Request(Box::new(request), head.last);
        say.push(flow, number, request);
        if head.headers.is_none() {
            say.push(flow, number, Part::Fault(Fault::Partial));
        }
    }
}

/// Whether it was answered is not known.
pub(super) fn over(delivered: &Delivered) -> Message {
    let finish = Part::Finish(Finish {
        body: 0,
        exact: false,
        whole: true,
    });
    let number = delivered.number | PUSHED;
    part(Flow::Request, number, delivered.last, finish)
}

/// `error.type` of a request whose answer nobody waits for any more.
const UNHEARD: &str = "unsubscribed";
const NOT_ALLOWED: &[u8] = b"'Permissions Violation for Publish to \"";
