//! The lines of both sides: what is asked, and what answers it.
//!
//! Source: beanstalkd's `doc/protocol.txt` (1.13).

use memchr::memmem;

use crate::protocol::{Flow, Verdict};

/// Longest line, bytes: servers read 224.
pub(super) const MAX_LINE: usize = 256;
/// Longest name of a tube, bytes.
const MAX_TUBE: usize = 200;

/// A command: its name, the words behind it, what answers it (that it went well first), and more.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) words: &'static [Word],
    pub(super) answers: &'static [&'static str],
    pub(super) what: What,
    pub(super) place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Put,
    /// Asks for a job, and may wait for it.
    Reserve,
    /// Asks for this one.
    Take,
    Settle,
    Call,
    Use,
    Watch,
    Ignore,
    Leave,
}

/// The tube it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    None,
    Said,
    Used,
    Watched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A job's.
    Id,
    /// Of the body.
    Size,
    Tube,
    Number,
}

impl What {
    /// Whether it chooses tubes.
    pub(super) fn chooses(self) -> bool {
        matches!(self, Self::Use | Self::Watch | Self::Ignore)
    }
}

impl Command {
    pub(super) fn is_answered(&self, word: &str) -> bool {
        self.answers.contains(&word) || ERRORS.contains(&word)
    }
}

macro_rules! commands {
    ($($name:literal [$($word:ident)*] [$($answer:ident)*] $what:ident $place:ident;)+) => {
        /// Every command.
        static COMMANDS: &[Command] = &[$(Command {
            name: $name,
            words: &[$(Word::$word),*],
            answers: &[$(stringify!($answer)),*],
            what: What::$what,
            place: Place::$place,
        }),+];
    };
}

commands! {
    "put" [Number Number Number Size] [INSERTED BURIED EXPECTED_CRLF JOB_TOO_BIG] Put Used;
    "reserve" [] [RESERVED TIMED_OUT DEADLINE_SOON] Reserve Watched;
    "reserve-with-timeout" [Number] [RESERVED TIMED_OUT DEADLINE_SOON] Reserve Watched;
    "reserve-job" [Id] [RESERVED NOT_FOUND] Take None;
    "delete" [Id] [DELETED NOT_FOUND] Settle None;
    "release" [Id Number Number] [RELEASED BURIED NOT_FOUND] Settle None;
    "bury" [Id Number] [BURIED NOT_FOUND] Settle None;
    "touch" [Id] [TOUCHED NOT_FOUND] Call None;
    "use" [Tube] [USING] Use Said;
    "watch" [Tube] [WATCHING] Watch Said;
    "ignore" [Tube] [WATCHING NOT_IGNORED] Ignore Said;
    "peek" [Id] [FOUND NOT_FOUND] Call None;
    "peek-ready" [] [FOUND NOT_FOUND] Call Used;
    "peek-delayed" [] [FOUND NOT_FOUND] Call Used;
    "peek-buried" [] [FOUND NOT_FOUND] Call Used;
    "kick" [Number] [KICKED] Call Used;
    "kick-job" [Id] [KICKED NOT_FOUND] Call None;
    "stats" [] [OK] Call None;
    "stats-job" [Id] [OK NOT_FOUND] Call None;
    "stats-tube" [Tube] [OK NOT_FOUND] Call Said;
    "list-tubes" [] [OK] Call None;
    "list-tube-used" [] [USING] Call None;
    "list-tubes-watched" [] [OK] Call None;
    "pause-tube" [Tube Number] [PAUSED NOT_FOUND] Call Said;
    "quit" [] [] Leave None;
}

/// What may answer any command.
pub(super) const ERRORS: &[&str] = &[
    "OUT_OF_MEMORY",
    "INTERNAL_ERROR",
    "DRAINING",
    "BAD_FORMAT",
    "UNKNOWN_COMMAND",
];

/// Answers that have words behind them; of two by one name either. All others have none.
const ANSWERS: &[(&str, &[Word])] = &[
    ("INSERTED", &[Word::Id]),
    ("BURIED", &[Word::Id]),
    ("RESERVED", &[Word::Id, Word::Size]),
    ("FOUND", &[Word::Id, Word::Size]),
    ("OK", &[Word::Size]),
    ("USING", &[Word::Tube]),
    ("WATCHING", &[Word::Number]),
    ("KICKED", &[Word::Number]),
];
/// Of those, which may be without.
const BARE: &[&str] = &["BURIED", "KICKED"];

/// What a line says behind its first word.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) id: Option<i64>,
    pub(super) size: Option<u32>,
    pub(super) tube: Option<Box<str>>,
    /// The last of other numbers.
    pub(super) count: Option<u32>,
}

/// The line at the front, if it is whole.
pub(super) fn whole(window: &[u8]) -> Option<&[u8]> {
    let looked = window.get(..MAX_LINE).unwrap_or(window);
    looked.get(..memmem::find(looked, b"\r\n")?)
}

/// Reads a command's line.
pub(super) fn command(line: &[u8]) -> Option<(&'static Command, Fields)> {
    let (name, rest) = first(line);
    let command = COMMANDS.iter().find(|c| c.name.as_bytes() == name)?;
    Some((command, fields(command.words, rest)?))
}

/// Reads the line of an answer.
pub(super) fn answer(line: &[u8]) -> Option<(&'static str, Fields)> {
    let (name, rest) = first(line);
    let word = answers().find(|word| word.as_bytes() == name)?;
    let words = ANSWERS.iter().find(|(known, _)| *known == word);
    match words {
        Some((_, words)) if !(rest.is_empty() && BARE.contains(&word)) => {
            Some((word, fields(words, rest)?))
        }
        _ => rest.is_empty().then(|| (word, Fields::default())),
    }
}

fn answers() -> impl Iterator<Item = &'static str> {
    let of_commands = COMMANDS.iter().flat_map(|command| command.answers);
    of_commands.chain(ERRORS).copied()
}

fn first(line: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    line.split_at_checked(end).unwrap_or((line, &[]))
}

fn fields(words: &[Word], rest: &[u8]) -> Option<Fields> {
    let mut fields = Fields::default();
    let mut said = rest.split(|b| *b == b' ').filter(|word| !word.is_empty());
    for word in words {
        let text = std::str::from_utf8(said.next()?).ok()?;
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match word {
            Word::Tube if is_tube(text) => fields.tube = Some(text.into()),
            Word::Id if digits => fields.id = Some(text.parse().ok()?),
            Word::Size if digits => fields.size = Some(text.parse().ok()?),
            Word::Number if digits => fields.count = Some(text.parse().ok()?),
            _ => return None,
        }
    }
    said.next().is_none().then_some(fields)
}

fn is_tube(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-+/;.$_()".contains(&b);
    (1..=MAX_TUBE).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(fits)
}

/// Whose the first line of a turn is.
pub(super) fn sniff(bytes: &[u8]) -> Verdict {
    if let Some(line) = whole(bytes) {
        return match (command(line), answer(line)) {
            (Some(_), _) => Verdict::Likely(Flow::Request),
            (_, Some(_)) => Verdict::Likely(Flow::Response),
            _ => Verdict::Not,
        };
    }
    let text = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let (name, rest) = first(text);
    let begins = |known: &str| match text.len() == bytes.len() && rest.is_empty() {
        true => known.as_bytes().starts_with(name),
        false => known.as_bytes() == name,
    };
    let known = COMMANDS.iter().map(|c| c.name).chain(answers()).any(begins);
    let plain = text.iter().all(|b| matches!(b, b' '..=b'~'));
    match known && plain && bytes.len() < MAX_LINE {
        true => Verdict::More,
        false => Verdict::Not,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        for (text, found) in [
            ("put 1 0 60 5", Some((None, Some(5), None))),
            ("put 1 0 60", None),
            ("put 1 0 60 4294967296", None),
            ("put 1 0 60 -5", None),
            ("reserve", Some((None, None, None))),
            ("reserve 1", None),
            ("delete 9", Some((Some(9), None, None))),
            ("delete key", None),
            ("release 9  1 0", Some((Some(9), None, None))),
            ("use mails", Some((None, None, Some("mails")))),
            ("use -mails", None),
            ("use a b", None),
            ("stats noreply", None),
            ("USE mails", None),
        ] {
            let seen = command(text.as_bytes()).map(|(_, fields)| fields);
            let seen = seen.as_ref();
            let seen = seen.map(|fields| (fields.id, fields.size, fields.tube.as_deref()));
            assert_eq!(seen, found, "{text}");
        }
        let tube = "a".repeat(MAX_TUBE);
        assert!(command(format!("use {tube}").as_bytes()).is_some());
        assert!(command(format!("use {tube}a").as_bytes()).is_none());
    }

    #[test]
    fn answers_and_their_words() {
        for (text, found) in [
            ("INSERTED 5", Some(("INSERTED", Some(5), None))),
            ("INSERTED", None),
            ("RESERVED 5 7", Some(("RESERVED", Some(5), Some(7)))),
            ("RESERVED 5", None),
            ("BURIED", Some(("BURIED", None, None))),
            ("BURIED 5", Some(("BURIED", Some(5), None))),
            ("KICKED", Some(("KICKED", None, None))),
            ("KICKED 5", Some(("KICKED", None, None))),
            ("OK 12", Some(("OK", None, Some(12)))),
            ("OK", None),
            ("DELETED 5", None),
            ("STORED", None),
        ] {
            let seen = answer(text.as_bytes()).map(|(word, f)| (word, f.id, f.size));
            assert_eq!(seen, found, "{text}");
        }
    }

    #[test]
    fn first_lines() {
        let asks = Verdict::Likely(Flow::Request);
        let answers = Verdict::Likely(Flow::Response);
        for (bytes, verdict) in [
            (&b"use mails\r\n"[..], asks),
            (b"put 1 0 60 3\r\none\r\n", asks),
            (b"put /x HTTP/1.1\r\n", Verdict::Not),
            (b"PUT / HTTP/1.1\r\n", Verdict::Not),
            (b"RESERVED 1 3\r\none\r\n", answers),
            (b"OK 12\r\n", answers),
            (b"OK\r\n", Verdict::Not),
            (b"use mails\n", Verdict::Not),
            (b"get key\r\n", Verdict::Not),
            (b"touch key 5\r\n", Verdict::Not),
            (b"220 mail\r\n", Verdict::Not),
            (b"res", Verdict::More),
            (b"reserve\r", Verdict::More),
            (b"res\r", Verdict::Not),
            (b"use m\0", Verdict::Not),
            (b"", Verdict::More),
        ] {
            assert_eq!(sniff(bytes), verdict, "{}", bytes.escape_ascii());
        }
    }
}
