//! What begins a request and a response, and which requests there are: the message definitions of
//! Apache Kafka 4.3.1 (`clients/src/main/resources/common/message`), and those that 4.0 dropped.
//!
//! Never true here: that a length is believed that no broker would take.

use super::fields::Fields;
use crate::protocol::Flow;
use crate::protocol::Verdict;
use crate::protocol::reader::Read;

/// Longest frame that is followed. Brokers take 100 MiB unless they are told otherwise
/// (`socket.request.max.bytes`), clients fetch 50 MiB (`fetch.max.bytes`).
pub const MAX_FRAME: u32 = 256 << 20;
/// Bytes of a frame's length.
pub const LENGTH: u64 = 4;
/// Longest client id that is read.
const MAX_CLIENT: usize = 1024;

/// What is asked, by number.
pub mod key {
    /// Produce.
    pub const PRODUCE: i16 = 0;
    /// Fetch.
    pub const FETCH: i16 = 1;
    /// Metadata.
    pub const METADATA: i16 = 3;
    /// OffsetCommit.
    pub const OFFSET_COMMIT: i16 = 8;
    /// SaslHandshake.
    pub const SASL_HANDSHAKE: i16 = 17;
    /// JoinGroup, Heartbeat, LeaveGroup, SyncGroup and ConsumerGroupHeartbeat: what their first field
    /// is the group of.
    pub const OF_GROUPS: [i16; 5] = [11, 12, 13, 14, 68];
}

/// What begins a request (request header versions 1 and 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Bytes after the length.
    pub length: u32,
    /// What is asked.
    pub key: i16,
    /// The version of that.
    pub version: i16,
    /// What the response begins with.
    pub correlation: i32,
    /// Who asks, as it calls itself.
    pub client: Option<&'a [u8]>,
    /// Bytes of it, with the length.
    pub size: usize,
}

/// Reads a frame's length.
pub fn length(bytes: &[u8]) -> Read<u32> {
    match Fields::plain(bytes).i32() {
        None => Read::More,
        Some(length) => match u32::try_from(length) {
            Ok(length) if length <= MAX_FRAME => Read::Whole(length),
            _ => Read::Never,
        },
    }
}

/// Reads what begins a request. Versions that are not known yet have heads that are.
pub fn head(bytes: &[u8]) -> Read<Head<'_>> {
    let mut fields = Fields::plain(bytes);
    let length = match length(bytes) {
        Read::Whole(length) if length >= SHORTEST => length,
        Read::More => return Read::More,
        _ => return Read::Never,
    };
    let _ = fields.i32();
    let Some(key) = fields.i16() else {
        return Read::More;
    };
    if !(0..=MAX_KEY).contains(&key) {
        return Read::Never;
    }
    let Some(version) = fields.i16() else {
        return Read::More;
    };
    if !(0..=MAX_VERSION).contains(&version) {
        return Read::Never;
    }
    let (Some(correlation), Some(size)) = (fields.i32(), fields.i16()) else {
        return Read::More;
    };
    let client = match usize::try_from(size) {
        Err(_) if size == -1 => None,
        Ok(size)
            if size <= MAX_CLIENT && size.saturating_add(SHORTEST as usize) <= length as usize =>
        {
            match fields.take(size) {
                Some(client) => Some(client),
                None => return Read::More,
            }
        }
        _ => return Read::Never,
    };
    if is_flexible(key, version) {
        let before = fields.position();
        let mut tagged = Fields::new(fields.rest(), true);
        if tagged.tags().is_none() {
            let held = bytes.len() as u64;
            let whole = held >= LENGTH.saturating_add(length.into());
            return if whole || held > LONGEST_HEAD {
                Read::Never
            } else {
                Read::More
            };
        }
        let size = before.saturating_add(tagged.position());
        return Read::Whole(Head {
            length,
            key,
            version,
            correlation,
            client,
            size,
        });
    }
    let size = fields.position();
    Read::Whole(Head {
        length,
        key,
        version,
        correlation,
        client,
        size,
    })
}

/// Shortest request: its header with no client id.
const SHORTEST: u32 = 10;
/// Longest head that is waited for, bytes.
const LONGEST_HEAD: u64 = 8 * 1024;
/// Some that may yet come.
const MAX_KEY: i16 = 255;
const MAX_VERSION: i16 = 63;

/// Whether bytes begin like one half of a dialogue.
pub fn sniff(bytes: &[u8]) -> Verdict {
    match (asks(bytes), answers(bytes)) {
        (Read::Whole(()), _) => Verdict::Likely(Flow::Request),
        (Read::Never, Read::Whole(())) => Verdict::Likely(Flow::Response),
        (Read::Never, Read::Never) => Verdict::Not,
        _ => Verdict::More,
    }
}

/// Whether bytes begin like a request that is known, of a client with a name in plain letters or
/// none at all.
pub fn asks(bytes: &[u8]) -> Read<()> {
    let mut fields = Fields::plain(bytes);
    let (_, key, version) = (fields.i32(), fields.i16(), fields.i16());
    if let (Some(key), Some(version)) = (key, version)
        && !is_likely(key, version)
    {
        return Read::Never;
    }
    if fields.i32().is_some()
        && let Some(size) = fields.i16()
    {
        let length = usize::try_from(size).unwrap_or(0);
        let mut name = fields.rest().iter().take(length);
        if size == 0 || size > NAMED || !name.all(|b| matches!(b, b' '..=b'~')) {
            return Read::Never;
        }
    }
    let head = match head(bytes) {
        Read::Whole(head) => head,
        Read::More => return Read::More,
        Read::Never => return Read::Never,
    };
    let body = bytes.get(head.size..).unwrap_or_default();
    let rest = LENGTH.saturating_add(head.length.into());
    let rest = rest.saturating_sub(head.size as u64);
    let mut fields = Fields::new(body, is_flexible(head.key, head.version));
    let so = match head.key {
        key::PRODUCE => begins_produce(&mut fields),
        key::FETCH => begins_fetch(&mut fields, head.version),
        _ => Some(true),
    };
    match so {
        Some(true) => Read::Whole(()),
        Some(false) => Read::Never,
        None if body.len() as u64 >= rest || body.len() > MAX_CLIENT => Read::Never,
        None => Read::More,
    }
}

/// Longest client id of a request that is taken for one.
const NAMED: i16 = 255;

/// A transaction has a name; acknowledgements are wanted of none, of the leader, of all.
fn begins_produce(fields: &mut Fields<'_>) -> Option<bool> {
    if fields.nullable()?.is_some_and(<[u8]>::is_empty) {
        return Some(false);
    }
    let acks = fields.i16()?;
    Some((-1..=1).contains(&acks) && fields.i32()? >= 0)
}

fn begins_fetch(fields: &mut Fields<'_>, version: i16) -> Option<bool> {
    if version <= 14 && fields.i32()? < -2 {
        return Some(false);
    }
    let (wait, least, most) = (fields.i32()?, fields.i32()?, fields.i32()?);
    let isolation = fields.u8()?;
    Some(wait >= 0 && least >= 0 && most >= 0 && isolation <= 1)
}

/// Whether bytes begin like a response. All begin with a zero after their number: no tags, a wait
/// below four hours, a known error, few topics.
fn answers(bytes: &[u8]) -> Read<()> {
    let mut fields = Fields::plain(bytes);
    let length = match length(bytes) {
        Read::Whole(length) if length >= SHORTEST_ANSWER => length,
        Read::More => return Read::More,
        _ => return Read::Never,
    };
    let _ = fields.i32();
    match fields.i32() {
        None => return Read::More,
        Some(correlation) if correlation < 0 => return Read::Never,
        Some(_) => {}
    }
    match fields.u8() {
        None => return Read::More,
        Some(0) => {}
        Some(_) => return Read::Never,
    }
    // What follows it at once is one more.
    let end = LENGTH.saturating_add(length.into());
    let behind = usize::try_from(end).ok().and_then(|end| bytes.get(end..));
    match behind {
        Some([first, ..]) if *first > 0x10 => Read::Never,
        _ => Read::Whole(()),
    }
}

/// Its number and an error.
const SHORTEST_ANSWER: u32 = 6;

/// The latest version of each request.
const LATEST: [i8; APIS] = [
    13, 18, 11, 13, 7, 4, 8, 3, 10, 10, 6, 9, 4, 5, 5, 6, 5, 1, 4, 7, 6, 2, 6, 4, 5, 4, 5, 2, 5, 3,
    3, 3, 4, 2, 2, 5, 2, 3, 3, 2, 2, 3, 2, 2, 1, 1, 0, 0, 1, 1, 0, 0, 2, 1, 1, 2, 3, 2, 0, 1, 2, 0,
    4, 2, 0, 0, 2, 0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 1, 2, 2, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0,
];
/// The first version of each that is flexible.
const FLEXIBLE: [i8; APIS] = [
    9, 12, 6, 9, 4, 2, 6, 3, 8, 6, 3, 6, 4, 4, 4, 5, 3, NEVER, 3, 5, 4, 2, 2, 4, 3, 3, 3, 1, 3, 2,
    2, 2, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 0, 0, NEVER, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0,
];
const APIS: usize = 93;
const NEVER: i8 = i8::MAX;

fn of(table: &[i8; APIS], key: i16) -> Option<i16> {
    let version = table.get(usize::try_from(key).ok()?)?;
    Some((*version).into())
}

/// Whether a version of a request exists, and is no older than what clients have sent since 0.11.
pub fn is_known(key: i16, version: i16) -> bool {
    let first = match key {
        key::PRODUCE => 3,
        key::FETCH => 4,
        _ => 0,
    };
    of(&LATEST, key).is_some_and(|latest| (first..=latest).contains(&version))
}

/// Whether a version of a request exists, or may soon. Who asks for the versions that a broker knows
/// begins with the latest of its own.
fn is_likely(key: i16, version: i16) -> bool {
    let newer = |latest: i16| (latest..=latest.saturating_add(MARGIN)).contains(&version);
    is_known(key, version) || of(&LATEST, key).is_some_and(newer)
}

const MARGIN: i16 = 4;

/// Whether a version of a request has compact lengths and tagged fields (KIP-482).
pub fn is_flexible(key: i16, version: i16) -> bool {
    of(&FLEXIBLE, key).is_some_and(|flexible| version >= flexible)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request with this behind its header.
    fn request(key: i16, version: i16, client: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(key.to_be_bytes());
        bytes.extend(version.to_be_bytes());
        bytes.extend(7_i32.to_be_bytes());
        bytes.extend((client.len() as i16).to_be_bytes());
        bytes.extend(client.as_bytes());
        bytes.extend(body);
        let mut frame = (bytes.len() as i32).to_be_bytes().to_vec();
        frame.extend(bytes);
        frame
    }

    #[test]
    fn heads_are_read() {
        let bytes = request(3, 9, "app", b"\x00\x00");
        let Read::Whole(head) = head(&bytes) else {
            panic!("a head");
        };
        assert_eq!((head.key, head.version, head.correlation), (3, 9, 7));
        assert_eq!((head.client, head.size), (Some(&b"app"[..]), 18));
        for at in 0..head.size {
            assert_eq!(super::head(&bytes[..at]), Read::More, "{at}");
        }
    }

    #[test]
    fn halves_are_told_apart() {
        let ask = request(18, 3, "rdkafka", b"\x00\x08librdkaf\x05librdk");
        let answer = b"\x00\x00\x00\x14\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00";
        assert_eq!(sniff(&ask), Verdict::Likely(Flow::Request));
        assert_eq!(sniff(answer), Verdict::Likely(Flow::Response));
        for at in 0..12 {
            assert_eq!(sniff(&ask[..at]), Verdict::More, "{at}");
        }
        for at in 0..9 {
            assert_eq!(sniff(&answer[..at]), Verdict::More, "{at}");
        }
        // An answer that names a topic is no request of a client of that name.
        let answer = b"\x00\x00\x00\x2a\x00\x00\x00\x03\x00\x00\x00\x01\x00\x06orders\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
        assert_eq!(sniff(answer), Verdict::Likely(Flow::Response));
    }

    #[test]
    fn what_is_none_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"*1\r\n$4\r\nPING\r\n",
            b"AMQP\x00\x00\x09\x01",
            // Unknown request, unknown version, a client that no text is.
            &request(93, 0, "x", b""),
            &request(18, 9, "x", b"\x00"),
            &request(18, 0, "\x01\x02", b""),
            &request(0, 2, "x", b"\x00\x01\x00\x00\x75\x30\x00\x00\x00\x00"),
            // Acknowledgements of five.
            &request(
                0,
                3,
                "x",
                b"\xff\xff\x00\x05\x00\x00\x75\x30\x00\x00\x00\x00",
            ),
        ] {
            let verdict = sniff(bytes);
            let asks = verdict == Verdict::Likely(Flow::Request);
            assert!(!asks, "{verdict:?} {bytes:?}");
        }
    }
}
