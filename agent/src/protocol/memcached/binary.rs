//! The binary protocol: a head of 24 bytes, and a body whose length it says.
//!
//! Source: <https://github.com/memcached/memcached/wiki/BinaryProtocolRevamped>.

use crate::protocol::reader::Reader;
use crate::protocol::{Flow, Verdict};

/// Length of a head, bytes.
pub(super) const HEAD: usize = 24;
const ASKS: u8 = 0x80;
const ANSWERS: u8 = 0x81;
/// Longest key, bytes.
const MAX_KEY: u16 = 250;
/// Largest body that is believed, bytes.
const MAX_BODY: u32 = 1 << 30;

/// A head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) flow: Flow,
    pub(super) code: Code,
    pub(super) key: u16,
    /// Of an answer.
    pub(super) status: u16,
    pub(super) body: u32,
    pub(super) opaque: u32,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) number: u8,
    pub(super) name: &'static str,
    /// Whether it is answered only where there is more to say than that it went well, or that
    /// nothing was found.
    pub(super) quiet: bool,
}

/// Reads a head; `None` where these 24 bytes are none.
pub(super) fn head(bytes: &[u8]) -> Option<Head> {
    let mut reader = Reader::new(bytes.get(..HEAD)?);
    let flow = match reader.u8()? {
        ASKS => Flow::Request,
        ANSWERS => Flow::Response,
        _ => return None,
    };
    let code = code(reader.u8()?)?;
    let (key, extras, kind) = (reader.u16()?, reader.u8()?, reader.u8()?);
    let (status, body, opaque) = (reader.u16()?, reader.u32()?, reader.u32()?);
    let own = u32::from(key).checked_add(extras.into())?;
    let known = flow == Flow::Request || matches!(status, 0..=0x2f | 0x80..=0x8f);
    let fits = key <= MAX_KEY && extras <= 24 && kind == 0 && own <= body && body <= MAX_BODY;
    (fits && known).then_some(Head {
        flow,
        code,
        key,
        status,
        body,
        opaque,
    })
}

/// Whose the first bytes of a turn are.
pub(super) fn sniff(bytes: &[u8]) -> Verdict {
    let second = bytes.get(1).is_none_or(|number| code(*number).is_some());
    match bytes.first() {
        None => Verdict::More,
        Some(&ASKS | &ANSWERS) if !second => Verdict::Not,
        Some(&ASKS | &ANSWERS) if bytes.len() < HEAD => Verdict::More,
        Some(&ASKS | &ANSWERS) => {
            head(bytes).map_or(Verdict::Not, |head| Verdict::Likely(head.flow))
        }
        Some(_) => Verdict::Not,
    }
}

/// Whether an answer of this status is an error: what was not found, exists or was not stored is none.
pub(super) fn is_error(status: u16) -> bool {
    !matches!(status, 0 | 1 | 2 | 5 | 0x21)
}

fn code(number: u8) -> Option<Code> {
    let (name, quiet) = match number {
        0x00 => ("get", false),
        0x01 => ("set", false),
        0x02 => ("add", false),
        0x03 => ("replace", false),
        0x04 => ("delete", false),
        0x05 => ("incr", false),
        0x06 => ("decr", false),
        0x07 => ("quit", false),
        0x08 => ("flush_all", false),
        0x09 | 0x0d => ("get", true),
        0x0a => ("noop", false),
        0x0b => ("version", false),
        0x0c => ("get", false),
        0x0e => ("append", false),
        0x0f => ("prepend", false),
        0x10 => ("stats", false),
        0x11 => ("set", true),
        0x12 => ("add", true),
        0x13 => ("replace", true),
        0x14 => ("delete", true),
        0x15 => ("incr", true),
        0x16 => ("decr", true),
        0x17 => ("quit", true),
        0x18 => ("flush_all", true),
        0x19 => ("append", true),
        0x1a => ("prepend", true),
        0x1b => ("verbosity", false),
        0x1c => ("touch", false),
        0x1d | 0x23 => ("gat", false),
        0x1e | 0x24 => ("gat", true),
        0x20 => ("sasl_list_mechs", false),
        0x21 => ("sasl_auth", false),
        0x22 => ("sasl_step", false),
        _ => return None,
    };
    Some(Code {
        number,
        name,
        quiet,
    })
}

impl Code {
    /// Whether it closes the connection.
    pub(super) fn leaves(self) -> bool {
        self.name == "quit"
    }

    /// Whether several answers come, the last of them empty.
    pub(super) fn is_stats(self) -> bool {
        self.number == 0x10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let mut get = [0; 27];
        (get[0], get[3], get[11], get[15]) = (0x80, 3, 3, 9);
        assert_eq!(sniff(&get), Verdict::Likely(Flow::Request));
        assert_eq!(sniff(&get[..23]), Verdict::More);
        assert!(head(&get).is_some_and(|head| head.opaque == 9 && head.code.name == "get"));
        for (at, byte) in [(0, 0x82), (1, 0x2e), (2, 1), (4, 1), (5, 1), (8, 0x7f)] {
            let mut other = get;
            other[at] = byte;
            assert_eq!(sniff(&other), Verdict::Not, "{at}");
        }
        get[0] = 0x81;
        assert_eq!(sniff(&get), Verdict::Likely(Flow::Response));
        get[6] = 0x33;
        assert_eq!(sniff(&get), Verdict::Not);
    }
}
