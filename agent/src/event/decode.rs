//! Bytes of a record → [`Event`]. From the kernel's raw TCP counters it derives what no hook says
//! outright: who connected, the connection's name on both ends, and 64-bit stream offsets.
//!
//! With snd_una, snd_nxt, bytes_acked, bytes_sent and bytes_retrans of struct tcp_sock
//! (include/linux/tcp.h): a connecting socket's SYN is acknowledged like a byte and so counts in
//! bytes_acked, an accepting socket's does not (tcp_rcv_synsent_state_process calls tcp_ack on the
//! established path, tcp_check_req makes the child after it); bytes_sent counts payload alone.
//! So `acked + in flight − (sent − retransmitted)` is 1 on the end that connected, 0 on the other,
//! and one more once this end has sent its FIN. The peer's FIN counts in rcv_nxt and in
//! bytes_received, and in copied_seq once the end was read (tcp_rcv_nxt_update, tcp_recvmsg_locked).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use agent_ebpf::abi::unit::ASKED;
use agent_ebpf::abi::{
    self, AF_INET, AF_INET6, AF_UNIX, EGRESS, INGRESS, Kind, Record, end, flag, hole, source,
};
use agent_ebpf::option::{UNDECIDED, UNNAMED};

use super::{
    Address, Allocates, Carried, ConnectionId, Direction, End, Ending, Ends, Event, Execution,
    Hole, Java, Open, Process, Role, Runs, Segment, Session, Source, Started, Taken,
};

/// Decodes one record; `None` for what is not one.
pub fn decode(record: &[u8]) -> Option<Event<'_>> {
    Some(match abi::kind(record)? {
        Kind::Segment => Event::Segment(segment(record)?),
        Kind::Open => Event::Open(open(&abi::Open::read(record)?.0)?),
        Kind::End => Event::End(ended(&abi::End::read(record)?.0)?),
        Kind::Exec => Event::Exec(process(&abi::Process::read(record)?.0)),
        Kind::Exit => Event::Exit(process(&abi::Process::read(record)?.0)),
        Kind::Teems => Event::Teems(process(&abi::Process::read(record)?.0)),
        Kind::Started => Event::Started(started(&abi::Started::read(record)?.0)),
        Kind::Taken => Event::Taken(taken(&abi::Taken::read(record)?.0)),
        Kind::Allocates => Event::Java(allocates(&abi::Allocates::read(record)?.0)),
        Kind::Runs => Event::Java(runs(&abi::Runs::read(record)?.0)),
        Kind::Carried => Event::Carried(carried(&abi::Carried::read(record)?.0)?),
    })
}

fn segment(record: &[u8]) -> Option<Segment<'_>> {
    let (raw, payload) = abi::Segment::read(record)?;
    let (bytes, rest) = payload.split_at_checked(raw.captured as usize)?;
    let tail = rest.get(..raw.tail.into())?;
    // Where few bytes are missing the tail begins before them.
    let missing = (raw.length as usize).checked_sub(bytes.len())?;
    let tail = tail.get(tail.len().saturating_sub(missing)..)?;
    Some(Segment {
        connection: ConnectionId(raw.connection),
        direction: direction(raw.direction),
        time: raw.time,
        offset: raw.offset,
        length: raw.length,
        bytes,
        tail,
        hole: (bytes.len() < raw.length as usize).then(|| why(raw.hole)),
        turn: raw.flags & flag::TURN != 0,
        lost: raw.lost,
        execution: Execution {
            process: raw.tgid,
            thread: raw.tid,
            unit: raw.unit,
        },
    })
}

fn why(code: u8) -> Hole {
    match code {
        hole::NO_BUFFER => Hole::NoBuffer,
        hole::FAULT => Hole::Fault,
        hole::COMPAT => Hole::Compat,
        hole::IOVECS => Hole::Iovecs,
        hole::SUPPOSED => Hole::Supposed,
        _ => Hole::Budget,
    }
}

fn ended(raw: &abi::End) -> Option<End> {
    Some(End {
        connection: ConnectionId(raw.connection),
        time: raw.time,
        ending: match raw.how {
            end::EOF => Ending::Eof,
            end::LOCAL => Ending::Local,
            end::ERROR => Ending::Error(i32::try_from(raw.errno).ok()?),
            end::GONE => Ending::Gone,
            _ => return None,
        },
        lost: raw.lost,
    })
}

fn process(raw: &abi::Process) -> Process {
    Process {
        process: raw.tgid,
        parent: raw.parent,
        time: raw.time,
        comm: comm(&raw.comm),
    }
}

fn started(raw: &abi::Started) -> Started {
    Started {
        process: raw.tgid,
        unit: raw.unit & !ASKED,
        parent: raw.parent,
        time: raw.time,
        site: raw.site,
        own: raw.unit & ASKED != 0,
    }
}

fn taken(raw: &abi::Taken) -> Taken {
    Taken {
        connection: ConnectionId(raw.connection),
        number: raw.number.into(),
        process: raw.tgid,
        unit: raw.unit,
        time: raw.time,
    }
}

fn allocates(raw: &abi::Allocates) -> Java {
    Java::Allocates(Allocates {
        process: raw.tgid,
        thread: raw.tid,
        collections: raw.collections,
        start: raw.start,
        top: raw.top,
        end: raw.end,
        time: raw.time,
    })
}

fn runs(raw: &abi::Runs) -> Java {
    Java::Runs(Runs {
        process: raw.tgid,
        thread: raw.tid,
        collections: raw.collections,
        connection: ConnectionId(raw.connection),
        tasks: raw.tasks,
        time: raw.time,
    })
}

fn carried(raw: &abi::Carried) -> Option<Carried> {
    Some(Carried {
        connection: ConnectionId(raw.connection),
        direction: direction(raw.direction),
        offset: raw.offset,
        line: raw.line.into(),
        time: raw.time,
        trace: Some(raw.trace).filter(|trace| *trace != [0; 16])?,
        flags: (raw.flags & UNDECIDED == 0).then_some(raw.flags & !UNNAMED),
        named: raw.flags & UNNAMED == 0,
        source: match raw.source {
            source::MADE => Source::Made,
            source::OPTION => Source::Option,
            source::HEADER => Source::Header,
            source::SERVED => Source::Served,
            _ => return None,
        },
    })
}

fn direction(raw: u8) -> Direction {
    match raw {
        EGRESS => Direction::Egress,
        _ => Direction::Ingress,
    }
}

fn comm(raw: &[u8]) -> String {
    let end = raw.iter().position(|&b| b == 0).unwrap_or(raw.len());
    String::from_utf8_lossy(raw.get(..end).unwrap_or_default()).into_owned()
}

fn open(raw: &abi::Open) -> Option<Open> {
    let (local, remote) = match raw.family {
        AF_UNIX => names(raw),
        AF_INET | AF_INET6 => (
            Address::Inet(address(raw.family, raw.local, raw.local_port)),
            Address::Inet(address(raw.family, raw.remote, raw.remote_port)),
        ),
        _ => return None,
    };
    let tcp = (raw.has_counters == 1).then(|| Positions::of(raw));
    let session = (raw.carrier != 0).then_some(Session {
        carrier: ConnectionId(raw.carrier),
        whole: raw.whole == 1,
    });
    let ends = match (raw.family, &tcp) {
        (AF_UNIX, _) => (raw.peer != 0).then_some(Ends {
            own: raw.socket,
            peer: raw.peer,
        }),
        (_, Some(tcp)) => tcp.ends,
        _ => None,
    };
    let start = match (session, &tcp) {
        (None, Some(tcp)) => tcp.start,
        _ => [0; 2],
    };
    let base = match (session, &tcp) {
        (None, Some(tcp)) if raw.kernel_tls == 0 => tcp.base,
        _ => start,
    };
    Some(Open {
        connection: ConnectionId(raw.connection),
        time: raw.time,
        process: raw.tgid,
        comm: comm(&raw.comm),
        local,
        remote,
        role: tcp.as_ref().and_then(|t| t.role),
        ends,
        start,
        base,
        line: 0,
        netns: raw.netns,
        session,
        kernel_tls: raw.kernel_tls == 1,
        datagrams: raw.protocol == IPPROTO_UDP,
    })
}

/// The two ends of a unix socket, of which one has the name at most.
fn names(raw: &abi::Open) -> (Address, Address) {
    let name = raw.name.get(..raw.name_length as usize);
    let name = name.and_then(|name| match name {
        [] => None,
        [0, name @ ..] => Some(format!("@{}", String::from_utf8_lossy(name))),
        name => Some(comm(name)),
    });
    match raw.named {
        abi::NAMED_OWN => (Address::Unix(name), Address::Unix(None)),
        abi::NAMED_PEER => (Address::Unix(None), Address::Unix(name)),
        _ => (Address::Unix(None), Address::Unix(None)),
    }
}

const IPPROTO_UDP: u16 = 17;

fn address(family: u16, raw: [u8; 16], port: u16) -> SocketAddr {
    let ip = if family == AF_INET {
        let [a, b, c, d, ..] = raw;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        Ipv6Addr::from(raw).to_canonical()
    };
    SocketAddr::new(ip, port)
}

/// Where a TCP connection stood when it was first seen.
struct Positions {
    role: Option<Role>,
    ends: Option<Ends>,
    /// As in [`Open`].
    start: [u64; 2],
    base: [u64; 2],
}

impl Positions {
    fn of(raw: &abi::Open) -> Self {
        let in_flight = u64::from(raw.snd_nxt.wrapping_sub(raw.snd_una));
        let fresh = raw.bytes_sent.wrapping_sub(raw.bytes_retrans);
        let numbers = raw.bytes_acked.wrapping_add(in_flight).wrapping_sub(fresh);
        let (role, fin) = own(raw.state, numbers, raw.snd_nxt == raw.write_seq);
        let syn = u64::from(role == Some(Role::Client));
        let end = raw.write_seq.wrapping_sub(fin);
        let unacked = u64::from(raw.write_seq.wrapping_sub(raw.snd_una));
        let sent = raw.bytes_acked.wrapping_add(unacked);
        let sent = sent.wrapping_sub(syn).wrapping_sub(fin.into());
        // Of what is unread, the last number is the FIN's; where nothing is, it was read.
        let unread = raw.rcv_nxt.wrapping_sub(raw.copied_seq).max(raw.fin.into());
        let received = raw.bytes_received.wrapping_sub(unread.into());
        let first = |position: u32, offset: u64| u64::from(position.wrapping_sub(offset as u32));
        let ends = role.map(|_| Ends {
            own: first(end, sent),
            peer: first(raw.rcv_nxt, raw.bytes_received),
        });
        let opening = |way: u8| {
            if raw.direction == way {
                u64::from(raw.length)
            } else {
                0
            }
        };
        let start = [
            sent.wrapping_sub(opening(EGRESS)),
            received.wrapping_sub(opening(INGRESS)),
        ];
        // The kernel side counts as TCP does, from the numbers of these first bytes.
        let numbers = [
            end.wrapping_sub(opening(EGRESS) as u32),
            raw.rcv_nxt
                .wrapping_sub(unread)
                .wrapping_sub(opening(INGRESS) as u32),
        ];
        let [egress, ingress] = start;
        let [own, peer] = numbers.map(u64::from);
        Self {
            role,
            ends,
            start,
            base: [egress.wrapping_sub(own), ingress.wrapping_sub(peer)],
        }
    }
}

/// From the numbers this end has sent that were no payload, whether its role is known and how many of
/// write_seq's are its FIN's. `all` of write_seq is sent.
fn own(state: u8, numbers: u64, all: bool) -> (Option<Role>, u32) {
    let (fin, sent) = match state {
        FIN_WAIT1 | FIN_WAIT2 | LAST_ACK | CLOSING => (1, u64::from(all)),
        // After a reset there is no FIN, else there is: one number can be either's.
        CLOSE => match numbers {
            0 => (0, 0),
            2 => (1, 1),
            _ => return (None, 0),
        },
        _ => (0, 0),
    };
    let role = match numbers.wrapping_sub(sent) {
        0 => Some(Role::Server),
        1 => Some(Role::Client),
        // An acknowledgement came in between the reads.
        _ => None,
    };
    (role, fin)
}

/// include/net/tcp_states.h
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE: u8 = 7;
const LAST_ACK: u8 = 9;
const CLOSING: u8 = 11;

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// A connection as the kernel would have it: `sent` and `received` bytes so far, of which the
    /// last `length` in the opening call.
    fn raw(connected: bool, sent: u64, received: u64, direction: u8, length: u32) -> abi::Open {
        let syn = u64::from(connected);
        let (own, peer) = (0xffff_ff00u32, 0x1234_5678u32);
        abi::Open {
            kind: Kind::Open as u32,
            tgid: 7,
            connection: 42,
            carrier: 0,
            time: 1,
            socket: 1,
            peer: 0,
            netns: 1,
            family: AF_INET,
            protocol: 6,
            local: [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            remote: [127, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            local_port: 80,
            remote_port: 4000,
            state: 1,
            has_counters: 1,
            direction,
            fin: 0,
            write_seq: own.wrapping_add(sent as u32),
            copied_seq: peer.wrapping_add(received as u32),
            // 10 bytes are in flight, and 5 arrived that nobody read.
            snd_una: own.wrapping_add(sent as u32).wrapping_sub(10),
            snd_nxt: own.wrapping_add(sent as u32),
            rcv_nxt: peer.wrapping_add(received as u32).wrapping_add(5),
            length,
            bytes_acked: sent - 10 + syn,
            bytes_received: received + 5,
            bytes_sent: sent + 99,
            bytes_retrans: 99,
            comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
            whole: 0,
            kernel_tls: 0,
            named: 0,
            name_length: 0,
            name: [0; abi::NAME],
        }
    }

    #[test]
    fn a_unix_socket_has_the_name_of_the_end_that_has_one() {
        for (text, named, expected) in [
            (
                &b"/run/db.sock\0"[..],
                abi::NAMED_PEER,
                [None, Some("/run/db.sock")],
            ),
            (
                b"/run/db.sock",
                abi::NAMED_OWN,
                [Some("/run/db.sock"), None],
            ),
            (b"\0bus", abi::NAMED_OWN, [Some("@bus"), None]),
            (b"", abi::NAMED_OWN, [None, None]),
            (b"/x", 0, [None, None]),
        ] {
            let mut raw = raw(true, 10, 0, EGRESS, 10);
            (raw.family, raw.has_counters, raw.named) = (AF_UNIX, 0, named);
            raw.name[..text.len()].copy_from_slice(text);
            raw.name_length = text.len() as u32;
            let open = open(&raw).expect("one that is known");
            let unix = |name: Option<&str>| Address::Unix(name.map(Into::into));
            assert_eq!([open.local, open.remote], expected.map(unix), "{text:?}");
        }
    }

    #[test]
    fn role_key_and_offsets_from_counters() {
        // Past 4 GiB, so that 32-bit positions have wrapped.
        let client = open(&raw(true, 5_000_000_100, 300, EGRESS, 100)).unwrap();
        assert_eq!(client.role, Some(Role::Client));
        assert_eq!(client.start, [5_000_000_000, 300]);
        let ends = client.ends.unwrap();
        assert_eq!((ends.own, ends.peer), (0xffff_ff00, 0x1234_5678));
        let server = open(&raw(false, 400, 200, INGRESS, 50)).unwrap();
        assert_eq!(server.role, Some(Role::Server));
        assert_eq!(server.start, [400, 150]);
        assert_eq!(server.ends.unwrap().own, 0xffff_ff00);
    }

    #[test]
    fn two_introductions_of_one_connection_agree() {
        // Two threads were the first to use it, one sent while the other received.
        for (sent, received) in [(24, 15), (5_000_000_100, 5_000_000_300)] {
            let one = open(&raw(true, sent, received, EGRESS, 24)).unwrap();
            let other = open(&raw(true, sent, received, INGRESS, 15)).unwrap();
            assert_eq!((one.base, &one.ends), (other.base, &other.ends));
            assert_eq!(one.start, [sent - 24, received]);
            assert_eq!(other.start, [sent, received - 15]);
            // The kernel side's offset of a first byte is TCP's number of it.
            let [egress, _] = one.base;
            let number = u64::from(0xffff_ff00u32.wrapping_add(sent as u32 - 24));
            assert_eq!(egress.wrapping_add(number), sent - 24);
        }
    }

    #[test]
    fn tls_by_the_kernel_is_secure_and_its_positions_are_not_the_bytes() {
        let mut raw = raw(true, 400, 200, EGRESS, 50);
        let plain = open(&raw).unwrap();
        assert!(!plain.is_secure() && plain.counts_from_start());
        raw.kernel_tls = 1;
        let secure = open(&raw).unwrap();
        assert!(secure.kernel_tls && secure.is_secure() && !secure.counts_from_start());
        assert_eq!(secure.ends, plain.ends);
    }

    #[test]
    fn fins_are_no_bytes() {
        let whole = open(&raw(false, 400, 200, INGRESS, 50)).unwrap();
        let same = |raw: &abi::Open| {
            let open = open(raw).unwrap();
            assert_eq!((open.role, open.base), (whole.role, whole.base));
            assert_eq!(open.ends, whole.ends);
        };
        // The peer's, not read and read; the 5 bytes before it are read with it.
        let mut peer = raw(false, 400, 200, INGRESS, 50);
        (peer.fin, peer.state) = (1, 8);
        peer.rcv_nxt = peer.rcv_nxt.wrapping_add(1);
        peer.bytes_received += 1;
        same(&peer);
        peer.copied_seq = peer.rcv_nxt;
        peer.length += 5;
        same(&peer);
        // Reset after it.
        peer.state = CLOSE;
        same(&peer);
        // This end's: not sent, in flight, acknowledged.
        let mut own = raw(false, 400, 200, INGRESS, 50);
        own.state = FIN_WAIT1;
        own.write_seq = own.write_seq.wrapping_add(1);
        same(&own);
        own.snd_nxt = own.write_seq;
        same(&own);
        own.state = FIN_WAIT2;
        own.snd_una = own.snd_nxt;
        own.bytes_acked += 11;
        same(&own);
        // Whose number it is cannot be told any more.
        own.state = CLOSE;
        assert_eq!(open(&own).unwrap().role, None);
    }

    #[test]
    fn any_bytes_decode_or_not() {
        let mut seed = 1u64;
        for length in 0..400 {
            let bytes: Vec<u8> = (0..length)
                .map(|i| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    if i == 0 {
                        (seed >> 33) as u8 % 6
                    } else if i < 4 {
                        0
                    } else {
                        (seed >> 40) as u8
                    }
                })
                .collect();
            let _ = decode(&bytes);
        }
    }

    /// A segment of so many bytes, of which these were captured and these are the last.
    fn record(length: u32, captured: &[u8], tail: &[u8]) -> Vec<u8> {
        let mut record = vec![0; size_of::<abi::Segment>()];
        let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &(Kind::Segment as u32).to_ne_bytes());
        put(offset_of!(abi::Segment, length), &length.to_ne_bytes());
        let count = captured.len() as u32;
        put(offset_of!(abi::Segment, captured), &count.to_ne_bytes());
        put(offset_of!(abi::Segment, tail), &[tail.len() as u8]);
        record.extend(captured);
        record.extend(tail);
        record
    }

    #[test]
    fn a_tail_may_begin_among_what_was_captured() {
        let taken = |record: &[u8]| match decode(record) {
            Some(Event::Segment(s)) => Some((s.bytes.to_vec(), s.tail.to_vec())),
            _ => None,
        };
        let of = |bytes: &[u8], tail: &[u8]| Some((bytes.to_vec(), tail.to_vec()));
        assert_eq!(taken(&record(9, b"abcd", b"hi")), of(b"abcd", b"hi"));
        assert_eq!(taken(&record(6, b"abcd", b"cdef")), of(b"abcd", b"ef"));
        assert_eq!(taken(&record(4, b"abcd", b"cd")), of(b"abcd", b""));
        assert_eq!(taken(&record(3, b"abcd", b"")), None);
    }
}
