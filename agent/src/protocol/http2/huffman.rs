//! The Huffman code of HPACK (RFC 7541, 5.2 and appendix B). It is canonical: codes of one length
//! count up in the order of their symbols, and the shortest come first; so the lengths are all
//! there is to know.
//!
//! Never true here: that more symbols are written than there are bits for (five each at least).

use std::sync::LazyLock;

/// Bits of each symbol's code, the last one's being the end of a string (EOS).
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const EOS: u16 = 256;
const LONGEST: u32 = 30;

/// Codes of one length.
#[derive(Clone, Copy, Debug)]
struct Class {
    /// Bits.
    length: u32,
    /// The first of the next length's codes, as the upper bits of a 32-bit word.
    limit: u64,
    /// The first code, likewise.
    first: u32,
    /// Its place among all symbols in the order of their codes.
    place: usize,
}

#[derive(Debug)]
struct Code {
    classes: Vec<Class>,
    symbols: Vec<u16>,
}

static CODE: LazyLock<Code> = LazyLock::new(Code::canonical);

impl Code {
    fn canonical() -> Self {
        let (mut classes, mut symbols) = (Vec::new(), Vec::new());
        // The next code, as the upper bits of a 32-bit word; one past the last needs 33.
        let mut next = 0u64;
        for length in 1..=LONGEST {
            let place = symbols.len();
            let of_length = (0u16..)
                .zip(LENGTHS)
                .filter(|(_, bits)| u32::from(*bits) == length);
            symbols.extend(of_length.map(|(symbol, _)| symbol));
            let count = symbols.len().saturating_sub(place) as u64;
            if count == 0 {
                continue;
            }
            let first = next as u32;
            next = next.saturating_add(count << (32u32.saturating_sub(length)));
            classes.push(Class {
                length,
                limit: next,
                first,
                place,
            });
        }
        Self { classes, symbols }
    }
}

/// Appends what `coded` says to `out`; false where it is no string of this code: its padding is
/// not the first bits of EOS, or longer than seven, or EOS is in it.
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    let code = &*CODE;
    // The bits to come are the upper `held` ones.
    let (mut bits, mut held) = (0u64, 0u32);
    let mut rest = coded.iter();
    loop {
        while held <= 32
            && let Some(byte) = rest.next()
        {
            held = held.saturating_add(8);
            bits |= u64::from(*byte) << (64u32.saturating_sub(held));
        }
        // Past the end there are ones, which is how EOS begins.
        let filled = if held >= 32 {
            bits
        } else {
            bits | (u64::MAX >> held)
        };
        let word = (filled >> 32) as u32;
        let class = code
            .classes
            .iter()
            .find(|class| u64::from(word) < class.limit);
        let Some(class) = class.filter(|class| class.length <= held) else {
            let padding = u64::MAX
                .checked_shl(64u32.saturating_sub(held))
                .unwrap_or(0);
            return held < 8 && bits & padding == padding;
        };
        let above = word.saturating_sub(class.first) >> (32u32.saturating_sub(class.length));
        let symbol = code.symbols.get(class.place.saturating_add(above as usize));
        match symbol {
            Some(&symbol) if symbol != EOS => out.push(symbol as u8),
            _ => return false,
        }
        bits <<= class.length;
        held = held.saturating_sub(class.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(hex: &str) -> Option<String> {
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex"))
            .collect();
        let mut out = Vec::new();
        decode(&bytes, &mut out).then(|| String::from_utf8(out).expect("text"))
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541, C.4 and C.6.
        for (hex, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("aec3771a4b", "private"),
            (
                "d07abe941054d444a8200595040b8166e082a62d1bff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (
                "9d29ad171863c78f0b97c8e9ae82ae43d3",
                "https://www.example.com",
            ),
            ("", ""),
        ] {
            assert_eq!(decoded(hex).as_deref(), Some(text), "{hex}");
        }
    }

    #[test]
    fn every_symbol_comes_back() {
        let code = &*CODE;
        for class in &code.classes {
            let last = code
                .classes
                .iter()
                .map(|c| c.place)
                .find(|place| *place > class.place)
                .unwrap_or(code.symbols.len());
            for place in class.place..last {
                let above = ((place - class.place) as u64) << (32 - class.length);
                let word = u64::from(class.first) + above;
                let padded = (word << 32) | (u64::MAX >> class.length);
                let bytes = padded.to_be_bytes();
                let whole = class.length.div_ceil(8) as usize;
                let mut out = Vec::new();
                let symbol = code.symbols[place];
                let good = decode(&bytes[..whole], &mut out);
                assert_eq!(good, symbol != EOS, "{symbol}");
                if good {
                    assert_eq!(out, [symbol as u8]);
                }
            }
        }
        assert_eq!(code.symbols.len(), 257);
    }

    #[test]
    fn bad_padding_is_refused() {
        // A whole byte of padding; zeros for padding; EOS, alone and after a symbol.
        for hex in ["6402ff", "00", "fffffffc", "ffffffff", "ff", "3fffffff"] {
            assert_eq!(decoded(hex), None, "{hex}");
        }
    }
}
