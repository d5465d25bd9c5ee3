//! What is said to people: lines on standard error, and what of a text may reach a terminal. A
//! standard error that fails (a full disk, a reader that went away) is nobody's error here: the line
//! is lost and the work goes on, which `eprintln!` would end. Clippy refuses that one.

use std::collections::HashSet;
use std::fmt::Display;
use std::io::{self, Write as _};

/// One line, after our name. What others sent can be part of it: it comes out printable and cut.
pub fn say(line: impl Display) {
    write(&format!("spantap: {}\n", shown(&line.to_string())));
}

/// What is said once, however often it is found; past 1,024 different lines nothing is.
#[derive(Debug, Default)]
pub struct Once(HashSet<String>);

impl Once {
    /// As [`say`].
    pub fn say(&mut self, line: String) {
        if self.is_news(&line) {
            say(line);
        }
    }

    fn is_news(&mut self, line: &str) -> bool {
        self.0.len() < MOST && self.0.insert(line.to_owned())
    }
}

/// Lines that are remembered at most.
const MOST: usize = 1024;

/// Lines of our own making, each after our name: an error that has more than one.
pub fn say_lines(text: &str) {
    for line in text.lines() {
        say(line);
    }
}

/// Text of our own making, as it is.
pub fn write(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn shown(line: &str) -> String {
    printable(cut(line.to_owned(), LONGEST))
}

/// A number of things.
pub fn count(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}

/// At most `most` characters of the text, the last of them an ellipsis where some are missing.
pub fn cut(mut text: String, most: usize) -> String {
    if text.len() <= most || text.chars().count() <= most {
        return text;
    }
    let end = text.char_indices().nth(most.saturating_sub(1));
    text.truncate(end.map_or(0, |(at, _)| at));
    text.push('…');
    text
}

/// The text with everything spelt out that would move the cursor, hide itself or turn the direction
/// of what follows.
pub fn printable(text: String) -> String {
    if !text.chars().any(|c| c.is_control() || unseen(c)) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if unseen(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Unicode's format characters that are not seen themselves, and its line and paragraph separators.
fn unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Characters of one line at most.
const LONGEST: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_sent_stays_one_visible_line() {
        let sent = "ok\x1b[2J\nspantap: stopped\u{202e}\u{200b}\u{2028}\u{feff}é";
        let text = "ok\\x1b[2J\\x0aspantap: stopped\\u{202e}\\u{200b}\\u{2028}\\u{feff}é";
        assert_eq!(shown(sent), text);
        assert_eq!(shown(&"x".repeat(5000)).chars().count(), LONGEST);
    }

    #[test]
    fn what_is_found_again_is_said_once() {
        let mut once = Once::default();
        let news = |once: &mut Once, n: usize| once.is_news(&format!("TLS of {n} is unread"));
        assert!(news(&mut once, 1) && news(&mut once, 2));
        assert!(!news(&mut once, 1) && !news(&mut once, 2));
        let more = (3..10_000).filter(|n| news(&mut once, *n)).count();
        assert_eq!(more, MOST - 2);
    }

    #[test]
    fn cuts_are_marked_and_fall_between_characters() {
        for (text, most, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("éèê", 3, "éèê"),
            ("éèêë", 3, "éè…"),
            ("ab", 0, "…"),
        ] {
            assert_eq!(cut(text.to_owned(), most), expected);
        }
    }
}
