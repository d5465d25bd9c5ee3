//! A line of the NATS client protocol, taken apart, and what a turn that begins with one tells.
//!
//! Never true here: that a line is taken whose numbers or subjects are not such.

use crate::protocol::{Flow, Verdict};

/// What a line says. Subjects are bytes that are neither blank nor control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// `PUB` and `HPUB`.
    Publish(Message<'a>),
    /// `MSG` and `HMSG`, to the subscription of this number.
    Deliver(&'a [u8], Message<'a>),
    /// `SUB`.
    Subscribe {
        subject: &'a [u8],
        group: Option<&'a [u8]>,
        sid: &'a [u8],
    },
    /// `UNSUB`: at once, or after so many messages.
    Unsubscribe { sid: &'a [u8], later: bool },
    /// `-ERR`, with what it says.
    Error(&'a [u8]),
    /// `CONNECT`: the client's first.
    Connect,
    /// What is said of the connection itself.
    Housekeeping,
    /// What servers say to each other: not the client protocol.
    Foreign,
}

/// A message's line: the payload follows, its first `headers` bytes being headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) subject: &'a [u8],
    pub(super) reply: Option<&'a [u8]>,
    pub(super) headers: usize,
    pub(super) size: usize,
}

/// Reads a line of this flow, without what ends it; `None` if it is none.
pub(super) fn read(flow: Flow, line: &[u8]) -> Option<Line<'_>> {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let mut words = line.split(blank).filter(|word| !word.is_empty());
    let first = words.next()?;
    let is = |word: &str| first.eq_ignore_ascii_case(word.as_bytes());
    // Either side may ask whether the other is there.
    if is("PING") || is("PONG") {
        return words.next().is_none().then_some(Line::Housekeeping);
    }
    if [
        "RS+", "RS-", "LS+", "LS-", "A+", "A-", "RMSG", "LMSG", "HRMSG",
    ]
    .iter()
    .any(|word| is(word))
    {
        return Some(Line::Foreign);
    }
    match flow {
        Flow::Request if is("CONNECT") => object(line, Line::Connect),
        Flow::Request if is("PUB") || is("HPUB") => {
            Some(Line::Publish(message(words, is("HPUB"))?))
        }
        Flow::Request if is("SUB") => subscribe(words),
        Flow::Request if is("UNSUB") => {
            let (sid, later) = (subject(words.next()?)?, words.next());
            later.is_none_or(|n| number(n).is_some()).then_some(())?;
            let later = later.is_some();
            words
                .next()
                .is_none()
                .then_some(Line::Unsubscribe { sid, later })
        }
        Flow::Response if is("INFO") => object(line, Line::Housekeeping),
        Flow::Response if is("MSG") || is("HMSG") => {
            let to = words.next()?;
            let sid = subject(words.next()?)?;
            let words = std::iter::once(to).chain(words);
            Some(Line::Deliver(sid, message(words, is("HMSG"))?))
        }
        Flow::Response if is("+OK") => Some(Line::Housekeeping),
        Flow::Response if is("-ERR") => Some(Line::Error(line.get(4..)?.trim_ascii())),
        _ => None,
    }
}

/// `INFO {…}` and `CONNECT {…}`.
fn object<'a>(line: &[u8], is: Line<'a>) -> Option<Line<'a>> {
    let open = memchr::memchr(b'{', line)?;
    let close = line.trim_ascii_end().ends_with(b"}");
    (open <= MAX_WORD && close).then_some(is)
}

/// Whether it is one of them that begins.
pub(super) fn is_object(bytes: &[u8]) -> bool {
    let start = bytes.get(..MAX_WORD).unwrap_or(bytes);
    memchr::memchr(b'{', start).is_some()
}

/// `subject [reply] [headers] size`.
fn message<'a>(words: impl Iterator<Item = &'a [u8]>, headed: bool) -> Option<Message<'a>> {
    let mut all = [&[][..]; 4];
    let mut count = 0usize;
    for word in words {
        *all.get_mut(count)? = word;
        count = count.saturating_add(1);
    }
    let [first, second, third, fourth] = all;
    let (reply, headers, size) = match (count, headed) {
        (2, false) => (None, None, second),
        (3, false) => (Some(second), None, third),
        (3, true) => (None, Some(second), third),
        (4, true) => (Some(second), Some(third), fourth),
        _ => return None,
    };
    let size = number(size)?;
    let headers = match headers {
        Some(headers) => number(headers).filter(|n| *n >= VERSION.len() && *n <= size)?,
        None => 0,
    };
    Some(Message {
        subject: subject(first)?,
        reply: match reply {
            Some(reply) => Some(subject(reply)?),
            None => None,
        },
        headers,
        size,
    })
}

/// `subject [group] sid`.
fn subscribe<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Line<'a>> {
    let to = subject(words.next()?)?;
    let (second, third) = (subject(words.next()?)?, words.next());
    let (group, sid) = match third {
        Some(sid) => (Some(second), subject(sid)?),
        None => (None, second),
    };
    words.next().is_none().then_some(Line::Subscribe {
        subject: to,
        group,
        sid,
    })
}

/// A size or a count: at most nine digits, as servers take them.
fn number(word: &[u8]) -> Option<usize> {
    if word.len() > 9 || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn subject(word: &[u8]) -> Option<&[u8]> {
    let fine = |b: &u8| *b > b' ' && *b != 127;
    (word.len() <= MAX_SUBJECT && word.iter().all(fine)).then_some(word)
}

/// Whether a turn begins like a connection: the server speaks first. A TLS session inside of one goes
/// on with the client.
pub(super) fn sniff(bytes: &[u8]) -> Verdict {
    for (start, flow) in [
        (&b"INFO {\""[..], Flow::Response),
        (b"CONNECT {\"", Flow::Request),
    ] {
        if bytes.starts_with(start) {
            return Verdict::Is(flow);
        }
        if start.starts_with(bytes) {
            return Verdict::More;
        }
    }
    Verdict::Not
}

/// Whether a call in the middle of a connection begins with a line.
pub(super) fn sniff_amid(bytes: &[u8]) -> Verdict {
    let verdict = sniff(bytes);
    if verdict != Verdict::Not {
        return verdict;
    }
    let looked = bytes.get(..MAX_LINE).unwrap_or(bytes);
    let word = |(word, _): &&(&str, Flow)| {
        let length = word.len().min(looked.len());
        word.as_bytes().get(..length) == looked.get(..length)
    };
    let Some((word, flow)) = WORDS.iter().find(word) else {
        return Verdict::Not;
    };
    let Some(end) = memchr::memchr(b'\n', looked) else {
        // Text, as far as it goes.
        let fine = |b: &u8| *b >= b' ' || matches!(b, b'\t' | b'\r');
        return match looked.len() < MAX_LINE && looked.iter().all(fine) {
            true => Verdict::More,
            false => Verdict::Not,
        };
    };
    let line = looked
        .get(..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .and_then(|line| read(*flow, line));
    match line {
        Some(Line::Publish(message) | Line::Deliver(_, message)) => {
            let payload = bytes.get(end.saturating_add(1)..).unwrap_or_default();
            match fits(&message, payload) {
                true => Verdict::Is(*flow),
                false => Verdict::Not,
            }
        }
        Some(Line::Subscribe { subject, .. }) if !is_number(subject) => Verdict::Likely(*flow),
        Some(Line::Subscribe { .. } | Line::Foreign) | None => Verdict::Not,
        // Either side's.
        Some(Line::Housekeeping) if matches!(*word, "PING\r\n" | "PONG\r\n") => Verdict::Not,
        Some(_) => Verdict::Likely(*flow),
    }
}

/// Whether a call of this flow begins with a line; `None` while that is not known.
pub(super) fn begins(flow: Flow, bytes: &[u8]) -> Option<bool> {
    let either = bytes.starts_with(b"PING\r\n") || bytes.starts_with(b"PONG\r\n");
    match sniff_amid(bytes) {
        Verdict::Is(found) | Verdict::Likely(found) => Some(found == flow),
        Verdict::More => None,
        Verdict::Not => Some(either),
    }
}

/// Whether the payload may be this message's. A line that lost its first letter is another one, in
/// which a number stands for the reply.
fn fits(message: &Message<'_>, payload: &[u8]) -> bool {
    let end = payload.get(message.size..).unwrap_or_default();
    let ends = end.iter().zip(b"\r\n").all(|(a, b)| a == b);
    let version = payload.iter().zip(VERSION).all(|(a, b)| a == b);
    let numbers = is_number(message.subject) || message.reply.is_some_and(is_number);
    ends && !numbers && (message.headers == 0 || version)
}

fn is_number(word: &[u8]) -> bool {
    word.iter().all(u8::is_ascii_digit)
}

/// How a line may begin, and whose it is.
const WORDS: [(&str, Flow); 11] = [
    ("PUB ", Flow::Request),
    ("HPUB ", Flow::Request),
    ("SUB ", Flow::Request),
    ("UNSUB ", Flow::Request),
    ("PING\r\n", Flow::Request),
    ("PONG\r\n", Flow::Request),
    ("MSG ", Flow::Response),
    ("HMSG ", Flow::Response),
    ("INFO {", Flow::Response),
    ("+OK\r\n", Flow::Response),
    ("-ERR '", Flow::Response),
];
/// First line of headers.
pub(super) const VERSION: &[u8] = b"NATS/1.0";
/// Longest line but for those that hold an object (nats-server, `MAX_CONTROL_LINE_SIZE`).
pub(super) const MAX_LINE: usize = 4096;
const MAX_SUBJECT: usize = 4096;
/// `CONNECT`, and a few blanks.
const MAX_WORD: usize = 16;
