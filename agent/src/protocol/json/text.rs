//! Keys and wanted texts (RFC 8259, 7): their escapes decoded, cut where they are too long.
//!
//! Never true here: that more of one is kept than was allowed.

use super::{EACH, Reader, State, Value};

/// Longest key that is compared, bytes; longer ones are not wanted.
const MAX_KEY: usize = 64;

/// Where in an escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    No,
    /// Behind a backslash.
    Begun,
    /// Behind so many digits of a code unit.
    Unit(u8, u16),
}

impl Reader {
    /// Reads a key or a wanted text.
    pub(super) fn text<'a>(
        &mut self,
        bytes: &'a [u8],
        found: &mut impl FnMut(usize, Value<'_>),
    ) -> &'a [u8] {
        let mut rest = bytes;
        while let Some((first, behind)) = rest.split_first() {
            if self.escape != Escape::No {
                self.unescape(*first);
                if self.state == State::Broken {
                    return &[];
                }
                rest = behind;
                continue;
            }
            let at = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            let piece = rest.get(..at).unwrap_or(rest);
            let end = rest.get(at);
            rest = rest.get(at.saturating_add(1)..).unwrap_or_default();
            match end {
                // Mostly it is all there.
                Some(b'"') if self.token.is_empty() && self.half.is_none() && !self.cut => {
                    self.take_text(piece, found);
                    return rest;
                }
                Some(b'"') => {
                    self.add(piece);
                    self.flush_half();
                    let token = std::mem::take(&mut self.token);
                    self.take_text(&token, found);
                    return rest;
                }
                Some(_) => {
                    self.add(piece);
                    self.escape = Escape::Begun;
                }
                None => self.add(piece),
            }
        }
        rest
    }

    /// Most bytes kept of the text under way.
    fn room(&self) -> usize {
        match self.state {
            State::KeyText => MAX_KEY,
            _ => self.keep,
        }
    }

    /// A key or a wanted text is over.
    fn take_text(&mut self, text: &[u8], found: &mut impl FnMut(usize, Value<'_>)) {
        let kept = text.get(..self.room()).unwrap_or(text);
        let cut = std::mem::take(&mut self.cut) || kept.len() < text.len();
        if self.state == State::KeyText {
            let other = cut || kept == EACH.as_bytes();
            self.next = if other { 0 } else { self.step(kept) };
            self.state = match self.strict && self.next == 0 && self.is_outermost() {
                true => State::Broken,
                false => State::Colon,
            };
            return;
        }
        let value = if cut {
            Value::Long(kept)
        } else {
            Value::Text(kept)
        };
        self.give(value, found);
        self.behind();
    }

    fn add(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.flush_half();
        let room = self.room().saturating_sub(self.token.len());
        let kept = bytes.get(..room).unwrap_or(bytes);
        // What follows a piece that was left out is left out too.
        if !self.cut {
            self.token.extend_from_slice(kept);
        }
        self.cut |= kept.len() < bytes.len();
    }

    fn add_char(&mut self, code: u32) {
        let char = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        let mut bytes = [0; 4];
        self.half = None;
        let text = char.encode_utf8(&mut bytes);
        self.add(text.as_bytes());
    }

    /// The first half of a character stays alone.
    fn flush_half(&mut self) {
        if self.half.take().is_some() {
            self.add_char(0xfffd);
        }
    }

    /// Reads a byte of an escape.
    fn unescape(&mut self, byte: u8) {
        let plain = match (self.escape, byte) {
            (Escape::Begun, b'"' | b'\\' | b'/') => byte,
            (Escape::Begun, b'b') => 8,
            (Escape::Begun, b'f') => 12,
            (Escape::Begun, b'n') => b'\n',
            (Escape::Begun, b'r') => b'\r',
            (Escape::Begun, b't') => b'\t',
            (Escape::Begun, b'u') => {
                self.escape = Escape::Unit(0, 0);
                return;
            }
            (Escape::Unit(count, unit), digit) => {
                let digit = char::from(digit).to_digit(16);
                let Some(digit) = digit.and_then(|d| u16::try_from(d).ok()) else {
                    self.state = State::Broken;
                    return;
                };
                let unit = unit << 4 | digit;
                self.escape = Escape::Unit(count.saturating_add(1), unit);
                if count == 3 {
                    self.escape = Escape::No;
                    self.unit(unit);
                }
                return;
            }
            _ => {
                self.state = State::Broken;
                return;
            }
        };
        self.escape = Escape::No;
        self.add(&[plain]);
    }

    /// A code unit of UTF-16 (RFC 8259, 7).
    fn unit(&mut self, unit: u16) {
        match (self.half.take(), unit) {
            (Some(high), 0xdc00..=0xdfff) => {
                let high = u32::from(high & 0x3ff) << 10;
                let low = u32::from(unit & 0x3ff);
                self.add_char((high | low).saturating_add(0x1_0000));
            }
            (high, unit) => {
                if high.is_some() {
                    self.add_char(0xfffd);
                }
                match unit {
                    0xd800..=0xdbff => self.half = Some(unit),
                    unit => self.add_char(u32::from(unit)),
                }
            }
        }
    }
}
