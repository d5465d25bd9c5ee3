//! Payloads: passed over by their length, whether or not they are there. Of a call's, the prefixes of
//! its messages are read, as that is all that says how many there are; others are shown to whoever
//! wants to look at them.
//!
//! Never true here: that content is kept, or waited for where nothing in it is to be read.

use super::frame::{self, HEAD, Head};
use super::{Dialogue, Fault, Feed, Flow, Mark, Part, State, message};
use crate::event::Hole;

/// What a payload that has passed means for its stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum After {
    Nothing,
    /// The flow is over.
    Finish,
    /// A header block that cannot be read, by its first frame's head, is over.
    Unread(Head, Mark),
    /// It was reset, for this reason.
    Reset(&'static str),
}

impl Dialogue {
    /// At a DATA frame's head; false when more bytes are needed.
    pub(super) fn data(&mut self, flow: Flow, head: Head, feed: &mut Feed<'_>) -> bool {
        let cut = feed.stream.is_cut();
        let seen = feed.stream.window().get(HEAD);
        let padding = match (head.is_padded(), seen) {
            (false, _) => Some(0),
            (true, Some(padding)) => Some(u64::from(*padding)),
            (true, None) if cut => None,
            (true, None) => return false,
        };
        let fixed = u64::from(head.is_padded());
        let around = padding.unwrap_or(0).saturating_add(fixed);
        let content = u64::from(head.length).saturating_sub(around);
        let exact = padding.is_some();
        self.streams.data(flow, head.stream, content, exact);
        let after = match head.has(frame::END_STREAM) {
            true => After::Finish,
            false => After::Nothing,
        };
        let tapped = self.taps.wants(flow, head.stream.into());
        match self.streams.messages(flow, head.stream) {
            None if !tapped => {
                self.pass(flow, head, after, feed);
                return true;
            }
            Some(messages) if !exact => messages.lose(),
            _ => {}
        }
        if tapped && !exact {
            self.taps.lose(flow, head.stream.into());
        }
        feed.stream.skip((HEAD as u64).saturating_add(fixed));
        let side = self.side(flow);
        // What does not add up is passed over by the frame's length.
        let rest = u64::from(head.length).saturating_sub(fixed);
        side.left = [content, rest.saturating_sub(content)];
        side.state = State::Payload(head.stream, after);
        true
    }

    /// Goes through what is left of a payload; false when more bytes are needed.
    fn walk(&mut self, flow: Flow, stream: u32, feed: &mut Feed<'_>) -> bool {
        while feed.stream.reached() {
            let [content, padding] = self.side(flow).left;
            if content == 0 {
                self.side(flow).left = [0; 2];
                feed.stream.skip(padding);
                return feed.stream.reached();
            }
            if self.taps.wants(flow, stream.into()) {
                let left = self.taps.pass(flow, stream.into(), content, feed);
                self.side(flow).left = [left, padding];
                if left > 0 {
                    return false;
                }
                continue;
            }
            let passed = match self.streams.messages(flow, stream) {
                None => content,
                Some(messages) if messages.rest() > 0 => {
                    let rest = messages.rest().min(content);
                    messages.pass(rest);
                    rest
                }
                Some(messages) => match feed.stream.window() {
                    [] if feed.stream.is_cut() => {
                        messages.lose();
                        content
                    }
                    [] => return false,
                    window => {
                        let length = usize::try_from(content).unwrap_or(usize::MAX);
                        messages.read(window.get(..length).unwrap_or(window)) as u64
                    }
                },
            };
            feed.stream.skip(passed);
            self.side(flow).left = [content.saturating_sub(passed), padding];
        }
        false
    }

    /// Passes over a frame, whether or not its payload has come.
    pub(super) fn pass(&mut self, flow: Flow, head: Head, after: After, feed: &mut Feed<'_>) {
        let length = (HEAD as u64).saturating_add(u64::from(head.length));
        feed.stream.skip(length);
        self.side(flow).state = State::Payload(head.stream, after);
    }

    /// Waits for a payload's last byte.
    pub(super) fn payload(
        &mut self,
        flow: Flow,
        stream: u32,
        after: After,
        feed: &mut Feed<'_>,
    ) -> bool {
        if !self.walk(flow, stream, feed) {
            return false;
        }
        self.side(flow).state = State::Frame;
        let at = feed.stream.last();
        // What is missing is told of a stream that is open, and before its end.
        if let After::Unread(head, start) = after {
            self.head(flow, head, start, (Vec::new(), false), feed);
        }
        // What a body may cost says nothing: bodies are passed over anyway.
        let head = matches!(after, After::Unread(..));
        for (cause, bytes) in feed.stream.take_missing().iter() {
            if self.streams.has(stream) && (head || cause != Hole::Budget) {
                let fault = Part::Fault(Fault::Missing { cause, bytes });
                feed.out.push(message(flow, stream, at, fault));
            }
        }
        match after {
            After::Nothing => {}
            After::Finish => self.finish(flow, stream, at, feed),
            After::Unread(head, _) => self.end_of(flow, head, feed),
            After::Reset(code) => self.reset(flow, stream, code, feed),
        }
        true
    }
}
