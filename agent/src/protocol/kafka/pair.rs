//! From a frame's body to what is said of it: requests open exchanges, responses tell how they went.
//!
//! Never true here: that a poll is told of that brought nothing, or a request whose head was not read.

use super::names::Told;
use super::say;
use super::topics::{Target, Topic};
use super::waiting::{Asked, What};
use super::walk::Found;
use super::{Dialogue, Ended, Frame, MAX_STEP, State};
use super::{api, errors};
use crate::connection::Mark;
use crate::protocol::told::{faults, slotted};
use crate::protocol::{Fault, Feed, Finish, Flow, Part, Request, Response, Revision};

impl Dialogue {
    /// Goes on in a frame's body; false when more bytes are needed.
    pub(super) fn body(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        let State::Body(frame) = self.state(flow) else {
            return false;
        };
        if frame.walk.is_over() {
            self.read(flow, feed);
            return true;
        }
        let rest = frame.end.saturating_sub(feed.stream.position());
        let window = feed.stream.window();
        let shown = usize::try_from(rest).ok().and_then(|n| window.get(..n));
        let (shown, whole) = (shown.unwrap_or(window), shown.is_some());
        let held = shown.len();
        match frame.walk.step(shown, feed.stats) {
            Some(passed) if passed <= rest => {
                feed.stream.skip(passed);
                return true;
            }
            Some(_) => feed.stats.protocol_malformed.add(1),
            None if whole => feed.stats.protocol_malformed.add(1),
            None if feed.stream.is_cut() => {
                if let Some(passed) = frame.walk.cut(feed.stats) {
                    feed.stream.skip(passed.min(rest));
                    return true;
                }
                feed.stats.protocol_cut.add(1);
            }
            None if held > MAX_STEP => feed.stats.protocol_head_too_long.add(1),
            None => return false,
        }
        frame.walk.lose();
        true
    }

    /// A body was read as far as it can be.
    fn read(&mut self, flow: Flow, feed: &mut Feed<'_>) {
        let state = std::mem::replace(self.state(flow), State::Rest(None));
        let State::Body(frame) = state else {
            return;
        };
        let rest = frame.end.saturating_sub(feed.stream.position());
        let head = feed.stream.last();
        let ended = match flow {
            Flow::Request => self.request(*frame, head, feed),
            Flow::Response => respond(*frame, feed),
        };
        feed.stream.skip(rest);
        *self.state(flow) = State::Rest(ended);
    }

    fn request(&mut self, frame: Frame, head: Mark, feed: &mut Feed<'_>) -> Option<Ended> {
        let Frame {
            start,
            length,
            mut asked,
            client,
            walk,
            ..
        } = frame;
        let mut found = walk.found;
        if let Some(group) = found.group.clone() {
            self.group = Some(group);
        }
        let (client, told) = (client.as_deref(), &walk.told);
        let known = found.begun && !found.is_copying;
        let request = match asked.what {
            What::Produce if known => Some(say::send(&mut found, client, told)),
            What::Commit if known => Some(say::commit(&found, client, told)),
            What::Fetch if known => Some(say::poll(client, self.group.as_deref())),
            _ => None,
        };
        let Some(request) = request else {
            asked.what = What::Other;
            self.waiting.ask(asked, feed);
            return None;
        };
        // Never 0, which is no number on the wire.
        let number = u64::from(asked.correlation.cast_unsigned()).saturating_add(1);
        asked.number = Some(number);
        ask(&mut asked, request, (&found, told), (start, head), feed);
        let silent = asked.what == What::Produce && found.silent;
        if !silent {
            self.waiting.ask(asked, feed);
        }
        Some(Ended {
            number,
            length,
            silent,
        })
    }

    /// Passes over what is left of a frame; false while it has not come.
    pub(super) fn rest(&mut self, flow: Flow, feed: &mut Feed<'_>) -> bool {
        if !feed.stream.reached() {
            return false;
        }
        let state = std::mem::replace(self.state(flow), State::Head);
        let missing = feed.stream.take_missing();
        let State::Rest(Some(ended)) = state else {
            return true;
        };
        let (number, at) = (ended.number, feed.stream.last());
        let mut say = |flow, part| feed.out.push(slotted(flow, number, at, part));
        // The copy budget leaves out records, and what else it does is said already.
        for fault in faults(missing) {
            say(flow, Part::Fault(fault));
        }
        let finish = Finish {
            body: ended.length.saturating_sub(api::LENGTH),
            exact: true,
            whole: true,
        };
        say(flow, Part::Finish(finish));
        if ended.silent {
            say(Flow::Response, Part::Response(Box::default()));
            say(Flow::Response, Part::Finish(Finish { body: 0, ..finish }));
        }
        true
    }
}

/// Tells of a request.
fn ask(
    asked: &mut Asked,
    request: Request,
    (found, told): (&Found, &Told),
    (start, head): (Mark, Mark),
    feed: &mut Feed<'_>,
) {
    let number = asked.number.unwrap_or(0);
    let part = Part::Request(Box::new(request), head);
    feed.out.push(slotted(Flow::Request, number, start, part));
    if asked.what == What::Fetch {
        feed.out
            .push(slotted(Flow::Request, number, start, Part::Poll));
        return;
    }
    asked.single = !found.tally.unknown && found.tally.messages == 1;
    let topic = found.target.topic();
    if let Some(topic @ Topic::Id(id)) = topic
        && topic.name(told).is_none()
    {
        unnamed(Flow::Request, number, topic, start, feed);
        asked.unnamed = Some(*id);
    }
    if found.lost || found.tally.unknown {
        let part = Part::Fault(Fault::Partial);
        feed.out.push(slotted(Flow::Request, number, start, part));
    }
}

/// Tells of a response.
fn respond(frame: Frame, feed: &mut Feed<'_>) -> Option<Ended> {
    let Frame {
        start,
        length,
        asked,
        walk,
        ..
    } = frame;
    let (number, mut found, told) = (asked.number?, walk.found, &walk.told);
    let response = match asked.what {
        What::Fetch => match fetched(number, (&mut found, told), start, feed) {
            Some(response) => response,
            None => {
                let part = Part::Dismiss;
                feed.out.push(slotted(Flow::Response, number, start, part));
                return None;
            }
        },
        _ => {
            let named = asked.unnamed.and_then(|id| {
                let send = asked.what == What::Produce;
                let operation = if send { say::SEND } else { say::COMMIT };
                say::named(operation, &Topic::Id(id), told)
            });
            if let Some(revision) = named {
                revise(Flow::Response, number, revision, start, feed);
            }
            say::answer(&mut found, asked.single)
        }
    };
    let part = Part::Response(Box::new(response));
    feed.out.push(slotted(Flow::Response, number, start, part));
    if found.lost {
        let part = Part::Fault(Fault::Partial);
        feed.out.push(slotted(Flow::Response, number, start, part));
    }
    Some(Ended {
        number,
        length,
        silent: false,
    })
}

/// What a fetch brought, if that is worth a span.
fn fetched(
    number: u64,
    (found, told): (&mut Found, &Told),
    start: Mark,
    feed: &mut Feed<'_>,
) -> Option<Response> {
    let brought = found.target.any();
    let failed = found.error.is_some_and(|code| !errors::is_of_session(code));
    if found.is_copying || !brought && !failed {
        return None;
    }
    let target: &Target = match brought {
        true => &found.target,
        false => &found.failed,
    };
    revise(
        Flow::Response,
        number,
        say::polled(target, told),
        start,
        feed,
    );
    if let Some(topic) = target.topic().filter(|topic| topic.name(told).is_none()) {
        unnamed(Flow::Response, number, topic, start, feed);
    }
    Some(say::brought(found))
}

/// The topic is known by its id alone.
fn unnamed(flow: Flow, number: u64, topic: &Topic, at: Mark, feed: &mut Feed<'_>) {
    feed.stats.protocol_partial.add(1);
    revise(flow, number, say::unnamed(topic), at, feed);
    let part = Part::Fault(Fault::Partial);
    feed.out.push(slotted(flow, number, at, part));
}

fn revise(flow: Flow, number: u64, revision: Revision, at: Mark, feed: &mut Feed<'_>) {
    let part = Part::Revise(Box::new(revision));
    feed.out.push(slotted(flow, number, at, part));
}
