//! JSON (RFC 8259) in whatever portions it comes: the values at wanted places are given as they pass,
//! the rest is passed over, of which no more is checked than that its brackets match.
//!
//! Never true here: that a byte is looked at twice, or kept where it is in no wanted value; that a value
//! is given which the bytes before it do not allow.

mod text;

use text::Escape;

/// Where a wanted value is: the keys that lead to it from the top, [`EACH`] standing for every element of
/// an array. The top itself has none.
pub type Path = &'static [&'static str];

/// Every element of an array.
pub const EACH: &str = "*";

/// Most keys of a path.
const LEVELS: usize = 8;
/// Longest number or word.
const MAX_SCALAR: usize = 32;

/// A wanted value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A text, its escapes decoded.
    Text(&'a [u8]),
    /// The beginning of a text that is longer than what is kept of one.
    Long(&'a [u8]),
    /// A number, as sent.
    Number(&'a str),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// An object begins.
    Object,
    /// An array begins.
    Array,
}

impl<'a> Value<'a> {
    /// A text that is all there.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// A whole number.
    pub fn int(self) -> Option<i64> {
        match self {
            Self::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Any number.
    pub fn double(self) -> Option<f64> {
        match self {
            Self::Number(text) => text.parse().ok().filter(|n: &f64| n.is_finite()),
            _ => None,
        }
    }
}

/// Reads one document.
#[derive(Debug)]
pub struct Reader {
    /// At most 32.
    paths: &'static [Path],
    /// Bytes kept of a text.
    keep: usize,
    /// Whether a document that has other keys than those of the paths is not what is read.
    strict: bool,
    state: State,
    /// How many containers the position is in.
    depth: usize,
    /// Which of the outermost 64 are objects, by bit.
    objects: u64,
    /// Which paths lead into each of the outermost containers, by bit.
    into: [u32; LEVELS],
    /// Which lead to the value that comes next.
    next: u32,
    /// The depth at which passing over ends.
    floor: usize,
    /// In passing over: whether in a text, and whether behind a backslash.
    quoted: bool,
    escaped: bool,
    /// What has come of a key, a wanted text or a scalar.
    token: Vec<u8>,
    /// Whether more of it came than is kept.
    cut: bool,
    escape: Escape,
    /// The first half of a character that is written in two.
    half: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    /// At an array's first value, or its end.
    FirstValue,
    Key,
    FirstKey,
    Colon,
    /// Behind a value.
    Behind,
    KeyText,
    Text,
    /// In a text that is not wanted.
    OtherText,
    Scalar,
    /// In a container that is not wanted.
    Other,
    /// Behind the document.
    Over,
    /// It is no JSON, or none of the kind that is read.
    Broken,
}

impl Reader {
    /// Gives values at these places, of texts at most `keep` bytes.
    pub fn new(paths: &'static [Path], keep: usize) -> Self {
        let all = u32::try_from(paths.len()).unwrap_or(u32::MAX).min(32);
        Self {
            paths,
            keep,
            strict: false,
            state: State::Value,
            depth: 0,
            objects: 0,
            into: [0; LEVELS],
            next: u32::MAX
                .checked_shr(32_u32.saturating_sub(all))
                .unwrap_or(0),
            floor: 0,
            quoted: false,
            escaped: false,
            token: Vec::new(),
            cut: false,
            escape: Escape::No,
            half: None,
        }
    }

    /// The same of a document that has no other keys, or none of whose elements has.
    pub fn strict(paths: &'static [Path], keep: usize) -> Self {
        Self {
            strict: true,
            ..Self::new(paths, keep)
        }
    }

    /// Whether the document is over.
    pub fn is_whole(&self) -> bool {
        self.state == State::Over
    }

    /// Whether it is none that can be read.
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Whether the bytes read end inside the wanted text of this path, which is given when it is over.
    pub fn is_within(&self, index: usize) -> bool {
        self.state == State::Text && self.wanted() & bit(index) != 0
    }

    /// What it costs to hold beyond itself, in bytes.
    pub fn weight(&self) -> usize {
        self.token.capacity()
    }

    /// Reads the next bytes; `found` gets the index of a value's path and the value.
    pub fn read(&mut self, bytes: &[u8], mut found: impl FnMut(usize, Value<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Over => {
                    let white = rest.trim_ascii_start();
                    if !white.is_empty() {
                        self.state = State::Broken;
                    }
                    return;
                }
                State::Broken => return,
                State::KeyText | State::Text => self.text(rest, &mut found),
                State::OtherText => {
                    let (rest, ended) = self.pass_text(rest);
                    if ended {
                        self.behind();
                    }
                    rest
                }
                State::Scalar => self.scalar(rest, &mut found),
                State::Other => self.pass(rest),
                _ => self.mark(rest, &mut found),
            };
        }
    }

    /// Reads a byte between values.
    fn mark<'a>(&mut self, bytes: &'a [u8], found: &mut impl FnMut(usize, Value<'_>)) -> &'a [u8] {
        let bytes = bytes.trim_ascii_start();
        let Some((byte, rest)) = bytes.split_first() else {
            return &[];
        };
        use State::{Behind, Colon, FirstKey, FirstValue, Key, Value as Next};
        match (self.state, byte) {
            (Next | FirstValue, b'"') => {
                let wanted = self.wanted() != 0;
                self.state = if wanted {
                    State::Text
                } else {
                    State::OtherText
                };
            }
            (Next | FirstValue, b'{') => self.open(true, found),
            (Next | FirstValue, b'[') => self.open(false, found),
            (FirstValue, b']') | (FirstKey, b'}') => self.close(*byte),
            (Next | FirstValue, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                self.state = State::Scalar;
                return bytes;
            }
            (Key | FirstKey, b'"') => self.state = State::KeyText,
            (Colon, b':') => self.state = State::Value,
            (Behind, b',') if self.is_object() => self.state = Key,
            (Behind, b',') => {
                self.next = self.step(EACH.as_bytes());
                self.state = State::Value;
            }
            (Behind, b'}' | b']') => self.close(*byte),
            _ => self.state = State::Broken,
        }
        rest
    }

    /// Which paths end at the value that comes next.
    fn wanted(&self) -> u32 {
        self.those(|path| path.len() == self.depth)
    }

    /// Those that lead to the value that comes next, and are such.
    fn those(&self, is: impl Fn(Path) -> bool) -> u32 {
        if self.next == 0 {
            return 0;
        }
        let mut those = 0;
        for (index, path) in self.paths.iter().enumerate() {
            let bit = bit(index) & self.next;
            if bit != 0 && is(path) {
                those |= bit;
            }
        }
        those
    }

    fn give(&self, value: Value<'_>, found: &mut impl FnMut(usize, Value<'_>)) {
        let mut wanted = self.wanted();
        while wanted != 0 {
            let index = wanted.trailing_zeros();
            wanted &= wanted.wrapping_sub(1);
            found(index as usize, value);
        }
    }

    /// Which paths lead from the container around the position to what this key names.
    fn step(&self, key: &[u8]) -> u32 {
        let level = self.depth.saturating_sub(1);
        let Some(into) = self.into.get(level).copied().filter(|into| *into != 0) else {
            return 0;
        };
        let mut next = 0;
        for (index, path) in self.paths.iter().enumerate() {
            let leads = path.get(level).is_some_and(|step| step.as_bytes() == key);
            if leads {
                next |= bit(index) & into;
            }
        }
        next
    }

    fn is_object(&self) -> bool {
        let level = u32::try_from(self.depth.saturating_sub(1)).unwrap_or(u32::MAX);
        let bit = 1_u64.checked_shl(level).unwrap_or(0);
        self.objects & bit != 0
    }

    /// Whether the object around the position is the document, or an element of it.
    fn is_outermost(&self) -> bool {
        self.depth == 1 || self.depth == 2 && self.objects & 1 == 0
    }

    fn open(&mut self, object: bool, found: &mut impl FnMut(usize, Value<'_>)) {
        let value = if object { Value::Object } else { Value::Array };
        self.give(value, found);
        let into = self.those(|path| path.len() > self.depth);
        let slot = self.into.get_mut(self.depth);
        let deep = slot.is_none();
        if let Some(slot) = slot {
            *slot = into;
        }
        self.floor = self.depth;
        self.enter(object);
        self.state = match (into, object) {
            (0, _) => State::Other,
            _ if deep => State::Other,
            (_, true) => State::FirstKey,
            (_, false) => {
                self.next = self.step(EACH.as_bytes());
                State::FirstValue
            }
        };
    }

    fn enter(&mut self, object: bool) {
        let level = u32::try_from(self.depth).unwrap_or(u32::MAX);
        let bit = 1_u64.checked_shl(level).unwrap_or(0);
        match object {
            true => self.objects |= bit,
            false => self.objects &= !bit,
        }
        self.depth = self.depth.saturating_add(1);
    }

    /// A container ends with this bracket.
    fn close(&mut self, bracket: u8) {
        // Of those further in only their number is known.
        let known = self.depth <= 64;
        if known && self.is_object() != (bracket == b'}') {
            self.state = State::Broken;
            return;
        }
        self.depth = self.depth.saturating_sub(1);
        if self.state != State::Other || self.depth == self.floor {
            self.behind();
        }
    }

    /// A value is over.
    fn behind(&mut self) {
        self.state = match self.depth {
            0 => State::Over,
            _ => State::Behind,
        };
    }

    /// Passes over a container.
    fn pass<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        while self.state == State::Other {
            if self.quoted {
                let ended;
                (rest, ended) = self.pass_text(rest);
                self.quoted = !ended;
                if !ended {
                    return rest;
                }
            }
            let is_mark = |b: &u8| matches!(b, b'"' | b'{' | b'}' | b'[' | b']');
            let Some(at) = rest.iter().position(is_mark) else {
                return &[];
            };
            let (mark, behind) = (rest.get(at), rest.get(at.saturating_add(1)..));
            rest = behind.unwrap_or_default();
            match mark {
                Some(b'"') => self.quoted = true,
                Some(b'{') => self.enter(true),
                Some(b'[') => self.enter(false),
                Some(bracket) => self.close(*bracket),
                None => return &[],
            }
        }
        rest
    }

    /// Passes over a text; what is behind it, and whether its end was there.
    fn pass_text<'a>(&mut self, mut rest: &'a [u8]) -> (&'a [u8], bool) {
        loop {
            if self.escaped {
                let Some((_, behind)) = rest.split_first() else {
                    return (&[], false);
                };
                self.escaped = false;
                rest = behind;
            }
            let Some(at) = memchr::memchr2(b'"', b'\\', rest) else {
                return (&[], false);
            };
            let ends = rest.get(at) == Some(&b'"');
            rest = rest.get(at.saturating_add(1)..).unwrap_or_default();
            if ends {
                return (rest, true);
            }
            self.escaped = true;
        }
    }

    /// Reads a number or a word.
    fn scalar<'a>(
        &mut self,
        bytes: &'a [u8],
        found: &mut impl FnMut(usize, Value<'_>),
    ) -> &'a [u8] {
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        let end = bytes.iter().position(|b| !is_part(b));
        let piece = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or(bytes);
        let Some(end) = end else {
            self.add_scalar(piece);
            return &[];
        };
        // Mostly it is all there.
        if self.token.is_empty() {
            self.cut = piece.len() > MAX_SCALAR;
            self.take_scalar(piece, found);
        } else {
            self.add_scalar(piece);
            let token = std::mem::take(&mut self.token);
            self.take_scalar(&token, found);
        }
        bytes.get(end..).unwrap_or_default()
    }

    fn add_scalar(&mut self, piece: &[u8]) {
        let room = MAX_SCALAR.saturating_sub(self.token.len());
        self.cut |= piece.len() > room;
        self.token.extend(piece.iter().take(room));
    }

    /// A number or a word is over.
    fn take_scalar(&mut self, token: &[u8], found: &mut impl FnMut(usize, Value<'_>)) {
        let cut = std::mem::take(&mut self.cut);
        let value = match token {
            b"true" => Some(Value::Bool(true)),
            b"false" => Some(Value::Bool(false)),
            b"null" => Some(Value::Null),
            [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..] => {
                std::str::from_utf8(token).ok().map(Value::Number)
            }
            _ => None,
        };
        let Some(value) = value else {
            self.state = State::Broken;
            return;
        };
        if !cut {
            self.give(value, found);
        }
        self.behind();
    }
}

fn bit(index: usize) -> u32 {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    1_u32.checked_shl(index).unwrap_or(0)
}

#[cfg(test)]
mod tests;
