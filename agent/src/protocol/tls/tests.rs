//! Hellos in all portions, and what must not cost more than it is worth.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::connection::Streams;
use crate::connection::stream::Stream;
use crate::event::{ConnectionId, Direction, Ending, Execution, Segment};
use crate::protocol::conversation::Conversation;
use crate::protocol::sniff::{About, Sniffer};
use crate::stats::Stats;

/// One end, the client's, of one connection.
struct Bench {
    conversation: Conversation,
    streams: Streams,
    out: Vec<Message>,
    stats: Stats,
    offsets: [u64; 2],
    last: Option<Direction>,
}

impl Bench {
    fn new(adopted: bool) -> Self {
        Self {
            conversation: Conversation::new(Sniffer::new(About {
                adopted,
                ..About::default()
            })),
            streams: Streams {
                egress: Stream::new(0),
                ingress: Stream::new(0),
            },
            out: Vec::new(),
            stats: Stats::default(),
            offsets: [0; 2],
            last: None,
        }
    }

    fn says(&mut self, direction: Direction, bytes: &[u8]) -> Status {
        let offset = &mut self.offsets[usize::from(direction == Direction::Ingress)];
        let segment = Segment {
            connection: ConnectionId(1),
            direction,
            time: 1,
            offset: *offset,
            length: bytes.len() as u32,
            bytes,
            tail: &[],
            hole: None,
            turn: self.last.replace(direction) != Some(direction),
            lost: 0,
            execution: Execution::default(),
        };
        *offset += bytes.len() as u64;
        let Self {
            conversation,
            streams,
            out,
            stats,
            ..
        } = self;
        streams.get(direction).push(&segment, 0, stats);
        let setting = (&Arc::new(Config::default()), &Arc::default());
        conversation.feed(direction, streams, setting, out, stats)
    }

    fn asks(&mut self, bytes: &[u8]) -> Status {
        self.says(Direction::Egress, bytes)
    }

    fn answers(&mut self, bytes: &[u8]) -> Status {
        self.says(Direction::Ingress, bytes)
    }

    /// What came out, in a word each.
    fn told(&self) -> Vec<String> {
        let show = |message: &Message| match &message.part {
            Part::Request(request, _) => request.operation.to_string(),
            Part::Response(response) => response.client_error.clone().unwrap_or_default().into(),
            Part::Finish(_) => "end".into(),
            Part::Encrypted(None) => "encrypted".into(),
            Part::Encrypted(Some(h)) => {
                let name = h.server_name.as_deref().unwrap_or("-");
                format!("{} {} {name}", h.version, cipher(h.cipher))
            }
            other => panic!("{other:?}"),
        };
        self.out.iter().map(show).collect()
    }
}

/// A record of this kind.
fn record(kind: u8, fragment: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 3, 3];
    bytes.extend((fragment.len() as u16).to_be_bytes());
    bytes.extend(fragment);
    bytes
}

fn message_of(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A client's hello with these extensions.
fn client(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(b"\x00\x00\x02\x13\x01\x01\x00");
    append(&mut body, extensions);
    message_of(1, &body)
}

/// A server's hello of TLS 1.2 with these extensions.
fn server(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([8; 32]);
    body.extend(b"\x00\xc0\x2f\x00");
    append(&mut body, extensions);
    message_of(2, &body)
}

fn append(body: &mut Vec<u8>, extensions: &[(u16, &[u8])]) {
    let mut all = Vec::new();
    for (kind, value) in extensions {
        all.extend(kind.to_be_bytes());
        all.extend((value.len() as u16).to_be_bytes());
        all.extend(*value);
    }
    body.extend((all.len() as u16).to_be_bytes());
    body.extend(all);
}

const NAME: (u16, &[u8]) = (0, b"\x00\x09\x00\x00\x06a.test");
const V13: (u16, &[u8]) = (43, b"\x03\x04");

#[test]
fn records_of_one_byte_are_read() {
    let mut bench = Bench::new(false);
    for byte in client(&[NAME]) {
        assert_eq!(bench.asks(&record(22, &[byte])), Status::Stay);
    }
    let hello = server(&[V13]);
    let (last, most) = hello.split_last().expect("not empty");
    for byte in most {
        assert_eq!(bench.answers(&record(22, &[*byte])), Status::Stay);
    }
    assert_eq!(bench.answers(&record(22, &[*last])), Status::Leave);
    let told = ["1.3 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 a.test"];
    assert_eq!(bench.told(), told);
}

/// Up to TLS 1.2 the rest of the handshake is in the clear; it is over with the server's change.
#[test]
fn an_alert_ends_the_handshake_until_the_server_changes() {
    let hellos = || {
        let mut bench = Bench::new(false);
        let _ = bench.asks(&record(22, &client(&[NAME])));
        let mut flight = server(&[(16, b"\x00\x03\x02h2")]);
        flight.extend(message_of(11, &[0; 900]));
        assert_eq!(bench.answers(&record(22, &flight)), Status::Stay);
        assert_eq!(bench.out, []);
        bench
    };
    let mut bench = hellos();
    assert_eq!(bench.asks(b"\x15\x03\x03\x00\x02\x02\x30"), Status::Leave);
    assert_eq!(bench.told(), ["TLS handshake", "unknown_ca", "end"]);
    let mut bench = hellos();
    let client = [
        record(22, &[16; 70]),
        record(20, &[1]),
        record(22, &[9; 40]),
    ]
    .concat();
    assert_eq!(bench.asks(&client), Status::Stay);
    // A warning changes nothing.
    assert_eq!(bench.answers(b"\x15\x03\x03\x00\x02\x01\x70"), Status::Stay);
    assert_eq!(bench.answers(&record(20, &[1])), Status::Leave);
    let told = ["1.2 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 a.test"];
    assert_eq!(bench.told(), told);
    let Part::Encrypted(Some(handshake)) = &bench.out[0].part else {
        panic!("{:?}", bench.out);
    };
    assert_eq!(handshake.alpn.as_deref(), Some("h2"));
}

#[test]
fn what_is_older_than_the_agent_is_left_without_facts() {
    for bytes in [
        record(23, &[7; 100]),
        record(22, &[9; 40]),
        record(21, &[9; 26]),
    ] {
        let mut bench = Bench::new(true);
        assert_eq!(bench.answers(&bytes), Status::Leave);
        assert_eq!(bench.told(), ["encrypted"]);
        // On a new connection the same is nobody's.
        let mut bench = Bench::new(false);
        let _ = bench.answers(&bytes);
        assert_eq!(bench.out, []);
    }
}

#[test]
fn the_old_hello_is_a_hello() {
    let mut bench = Bench::new(false);
    let mut hello = b"\x80\x1f\x01\x03\x01\x00\x06\x00\x00\x00\x10".to_vec();
    hello.extend([5; 22]);
    assert_eq!(bench.asks(&hello), Status::Stay);
    assert_eq!(
        bench.answers(b"\x15\x03\x01\x00\x02\x02\x46"),
        Status::Leave
    );
    assert_eq!(bench.told(), ["TLS handshake", "protocol_version", "end"]);
}

/// A hello that says it is longer than any is given up at once, and one that is long is read in one
/// pass.
#[test]
fn a_hello_costs_what_it_is_worth() {
    let mut bench = Bench::new(false);
    assert_eq!(
        bench.asks(b"\x16\x03\x01\x40\x00\x01\x01\xff\xff"),
        Status::Stay
    );
    assert_eq!(bench.stats.protocol_head_too_long.get(), 1);
    assert_eq!(bench.conversation.weight(), 0);
    let mut bench = Bench::new(false);
    let long = client(&[NAME, (21, &[0; 60_000])]);
    for part in long.chunks(3) {
        let _ = bench.asks(&record(22, part));
        assert!(bench.conversation.weight() <= 2 * MAX_HELLO);
        assert_eq!(bench.streams.held(), 0);
    }
    assert_eq!(bench.conversation.weight(), 0);
    let _ = bench.answers(&record(22, &server(&[V13])));
    assert_eq!(bench.out.len(), 1);
}

#[test]
fn silence_is_a_failure_of_a_handshake_that_began() {
    for (asked, told) in [(true, &["TLS handshake"][..]), (false, &[])] {
        let mut bench = Bench::new(false);
        let hello = record(22, &client(&[NAME]));
        let _ = bench.asks(&hello[..hello.len() - usize::from(!asked)]);
        let Bench {
            conversation,
            streams,
            out,
            stats,
            ..
        } = &mut bench;
        conversation.time_out(streams, out, stats);
        conversation.time_out(streams, out, stats);
        conversation.end(Ending::Gone, streams, out, stats);
        assert_eq!(bench.told(), told);
    }
}

/// Names that are none, or too many, are left out; what is malformed makes no hello.
#[test]
fn extensions_are_read_with_care() {
    let read = |extensions: &[(u16, &[u8])]| hello::client(&client(extensions)[4..]);
    let some = |extensions: &[(u16, &[u8])]| read(extensions).expect("well-formed");
    for name in [
        &b"\x00\x00"[..],
        b"\x00\x05\x00\x00\x02\xc3\xa9",
        b"\x00\x05\x00\x00\x02a ",
        b"\x00\x05\x01\x00\x02ab",
        b"\x00\x09\x00\x00\x02ab",
        b"",
    ] {
        assert_eq!(some(&[(0, name)]).server_name, None, "{name:?}");
    }
    let many = [b"\x02h2".repeat(50), vec![33], vec![b'x'; 33]].concat();
    let mut list = (many.len() as u16).to_be_bytes().to_vec();
    list.extend(many);
    assert_eq!(some(&[(16, &list)]).alpn.len(), 8);
    let offered = some(&[(43, b"\x08\x3a\x3a\x03\x03\x03\x04\x7f\x1c")]);
    assert_eq!(offered.versions, [Version(0x0304), Version(0x0303)]);
    assert_eq!(some(&[]).versions, [Version(0x0303)]);
    for bad in [(16, &b"\x00\x03\x09h2"[..]), (43, b"\x08\x03")] {
        assert_eq!(read(&[bad]), None, "{bad:?}");
    }
    let whole = client(&[NAME, V13_OFFER]);
    for n in 4..whole.len() {
        // Extensions may be left out altogether.
        let bare = n == 4 + 2 + 32 + 7;
        assert_eq!(hello::client(&whole[4..n]).is_some(), bare, "{n}");
    }
}

const V13_OFFER: (u16, &[u8]) = (43, b"\x02\x03\x04");

proptest! {
    /// Whatever follows a hello, in whatever portions, ends without a panic and with one word.
    #[test]
    fn anything_may_follow(
        asks in prop::collection::vec(any::<u8>(), 0..200),
        answers in prop::collection::vec(any::<u8>(), 0..200),
        kind in 20_u8..25,
        portion in 1_usize..40,
        adopted: bool,
    ) {
        let mut bench = Bench::new(adopted);
        let mut asked = record(22, &client(&[NAME]));
        asked.extend(record(kind, &asks));
        asked.extend(asks);
        let mut answered = record(22, &server(&[]));
        answered.extend(record(kind, &answers));
        answered.extend(answers);
        for (asks, answers) in asked.chunks(portion).zip(answered.chunks(portion)) {
            if bench.asks(asks) == Status::Leave || bench.answers(answers) == Status::Leave {
                break;
            }
        }
        prop_assert!(bench.out.len() <= 4);
    }

    /// Any bytes are a hello or none.
    #[test]
    fn any_bytes_are_a_hello_or_none(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = (hello::client(&bytes), hello::server(&bytes), hello::header(&bytes));
        let _ = (record::sniff(&bytes), record::sniff_amid(&bytes));
    }
}
