//! The linker against dialogues written by hand and against a simulated host.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use agent_ebpf::abi::unit::{ASKED, GOROUTINE, KIND, RESOURCE};
use proptest::prelude::*;

use super::*;
use crate::config::Propagation;
use crate::connection::Mark;
use crate::event::{Address, ConnectionId, Ending, Execution, Role, StreamKey};
use crate::exchange::{Exchange, ExchangeId, Fact, MessageKey, Opened, Outcome, Peer};
use crate::protocol::{Attribute, Carrier, Finish, Request, Response};

mod answers;
mod carried;
mod descent;
mod forward;
mod inferred;
mod streams;
mod tasks;

const DRAIN: Duration = Duration::from_millis(4);
const MS: u64 = 1_000_000;

/// One side of a message, in a line.
#[derive(Clone, Debug)]
struct Side {
    id: u64,
    role: Role,
    /// Names the message on both sides; 0 none.
    key: u64,
    connection: u64,
    who: (u32, u32),
    /// Its number on its connection.
    stream: Option<u64>,
    /// Its goroutine, or 0; another's that answered; whether others may have sent it.
    unit: u64,
    answered_in: Option<u64>,
    /// Whether the unit was seen to ask.
    asked: bool,
    gathered: bool,
    /// First byte of the request, head, first byte of the response, last byte.
    at: [u64; 4],
    /// Who wrote (server) or read (client) the response.
    answered_by: (u32, u32),
    traceparent: Vec<String>,
    b3: Option<String>,
    outcome: Outcome,
    unix: bool,
    far: bool,
    /// What a proxy hands on of it, or 0; the answer's status.
    says: u64,
    status: i64,
}

fn side(id: u64, role: Role, key: u64, who: (u32, u32), from: u64, to: u64) -> Side {
    Side {
        id,
        role,
        key,
        connection: id,
        who,
        stream: None,
        unit: 0,
        answered_in: None,
        asked: false,
        gathered: false,
        at: [from, from, to.saturating_sub(1), to],
        answered_by: who,
        traceparent: Vec::new(),
        b3: None,
        outcome: Outcome::Complete,
        unix: false,
        far: false,
        says: 0,
        status: 200,
    }
}

fn client(id: u64, key: u64, who: (u32, u32), from: u64, to: u64) -> Side {
    side(id, Role::Client, key, who, from * MS, to * MS)
}

fn server(id: u64, key: u64, who: (u32, u32), from: u64, to: u64) -> Side {
    side(id, Role::Server, key, who, from * MS, to * MS)
}

/// As in `abi::unit`: a goroutine's number, unless it says another kind.
fn goroutine(number: u64) -> u64 {
    match number {
        0 => 0,
        number if number & KIND != 0 => number,
        number => GOROUTINE | number,
    }
}

impl Side {
    fn mark(&self, time: u64, who: (u32, u32)) -> Mark {
        let execution = Execution {
            process: who.0,
            thread: who.1,
            unit: goroutine(self.unit),
        };
        Mark {
            time,
            offset: self.id,
            execution,
        }
    }

    fn first(&self) -> Mark {
        let mut mark = self.mark(self.at[0], self.who);
        mark.execution.unit |= if self.asked { ASKED } else { 0 };
        mark
    }

    fn answer(&self, time: u64) -> Mark {
        let mut mark = self.mark(time, self.answered_by);
        mark.execution.unit = goroutine(self.answered_in.unwrap_or(self.unit));
        mark
    }

    fn peer(&self) -> Arc<Peer> {
        let address = |text: &str| match self.unix {
            true => Address::Unix(None),
            false => Address::Inet(text.parse().unwrap()),
        };
        Arc::new(Peer {
            connection: ConnectionId(self.connection),
            local: address("127.0.0.1:1000"),
            remote: address(if self.far {
                "10.0.0.1:80"
            } else {
                "127.0.0.1:80"
            }),
            role: self.role,
            key: None,
            shares_offsets: true,
            line: 0,
            carrier: None,
            datagrams: false,
            receiver: false,
        })
    }

    fn message_key(&self) -> Option<MessageKey> {
        let stream = StreamKey {
            client: self.key,
            server: 1,
        };
        (self.key != 0).then_some(MessageKey {
            stream,
            offset: 0,
            number: 0,
        })
    }

    fn carrier(&self) -> Option<Box<Carrier>> {
        Some(Box::new(Carrier {
            traceparent: self.traceparent.iter().map(|t| t.as_str().into()).collect(),
            b3: self.b3.as_deref().map(Into::into),
            ..Default::default()
        }))
    }

    fn opened(&self) -> Fact {
        Fact::Opened(Box::new(Opened {
            id: ExchangeId(self.id),
            peer: self.peer(),
            role: self.role,
            start: self.first(),
            head: self.mark(self.at[1], self.who),
            key: self.message_key(),
            carrier: self.carrier(),
            likeness: NonZeroU64::new(self.says),
            stream: self.stream,
            gathered: self.gathered,
        }))
    }

    fn closed(&self) -> Fact {
        let finish = Finish {
            body: 0,
            exact: true,
            whole: true,
        };
        let answered = self.outcome == Outcome::Complete;
        Fact::Closed(Box::new(Exchange {
            id: ExchangeId(self.id),
            peer: self.peer(),
            role: self.role,
            key: self.message_key(),
            request: Box::new(Request {
                carrier: self.carrier(),
                likeness: NonZeroU64::new(self.says),
                ..Request::call("http1", "GET", Vec::new())
            }),
            response: answered.then(|| {
                let status = Attribute::int("http.response.status_code", self.status);
                Box::new(Response {
                    attributes: vec![status],
                    ..Response::default()
                })
            }),
            start: self.first(),
            request_end: Some((self.mark(self.at[1], self.who), finish)),
            response_start: answered.then(|| self.answer(self.at[2])),
            response_end: answered.then(|| (self.answer(self.at[3]), finish)),
            end: self.at[3],
            outcome: self.outcome,
            faults: Default::default(),
        }))
    }
}

fn linker() -> Linker {
    Linker::new(
        Settings::new(&Propagation::default(), DRAIN),
        Ids::from_seed(1),
        Arc::default(),
    )
}

/// Feeds sides in the order of their times, polling as a pipeline would.
fn run(linker: &mut Linker, sides: &[Side]) -> HashMap<u64, Linked> {
    let mut facts: Vec<(u64, Fact)> = sides
        .iter()
        .flat_map(|s| [(s.at[1], s.opened()), (s.at[3], s.closed())])
        .collect();
    facts.sort_by_key(|(time, _)| *time);
    let mut out = Vec::new();
    for (time, fact) in facts {
        linker.poll(time.saturating_sub(1), &mut out);
        linker.feed(fact);
    }
    linker.poll(1 << 50, &mut out);
    by_id(out)
}

fn by_id(out: Vec<Linked>) -> HashMap<u64, Linked> {
    let count = out.len();
    let map: HashMap<u64, Linked> = out.into_iter().map(|l| (l.exchange.id.0, l)).collect();
    assert_eq!(map.len(), count, "given out twice");
    map
}

/// `child <- parent by method`, one a line, roots without parent.
fn told(links: &HashMap<u64, Linked>) -> String {
    let mut ids: Vec<_> = links.keys().copied().collect();
    ids.sort_unstable();
    let lines: Vec<String> = ids
        .iter()
        .map(|id| match links[id].parent {
            None => format!("{id}"),
            Some(parent) => {
                let above = links.values().find(|l| l.span == parent.span);
                let above = above.map_or("?".into(), |l| {
                    assert_eq!(l.trace, links[id].trace);
                    l.exchange.id.0.to_string()
                });
                format!("{id} <- {above} {}", parent.method.name())
            }
        })
        .collect();
    lines.join(", ")
}

fn check(sides: &[Side], expected: &str) -> (Linker, HashMap<u64, Linked>) {
    let mut linker = linker();
    let links = run(&mut linker, sides);
    assert_eq!(links.len(), sides.len(), "lost some");
    assert_eq!(told(&links), expected);
    (linker, links)
}

const CONTEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn with(mut side: Side, traceparent: &str) -> Side {
    side.traceparent.push(traceparent.into());
    side
}

#[test]
fn a_sync_chain_is_one_trace() {
    let (_, links) = check(
        &[
            client(1, 7, (1, 1), 0, 100),
            server(2, 7, (2, 20), 1, 99),
            client(3, 8, (2, 20), 10, 90),
            server(4, 8, (3, 30), 11, 89),
        ],
        "1, 2 <- 1 stream_key, 3 <- 2 thread, 4 <- 3 stream_key",
    );
    assert_eq!(links[&4].flags, None);
    assert_eq!(links[&4].trace, links[&1].trace);
    let key = MessageKey {
        stream: StreamKey {
            client: 7,
            server: 1,
        },
        offset: 0,
        number: 0,
    };
    assert_eq!(links[&1].span, ids::client_span(&key));
}

#[test]
fn a_header_is_the_client_spans_parent() {
    let (_, links) = check(
        &[
            with(client(1, 7, (1, 1), 0, 9), CONTEXT),
            with(server(2, 7, (2, 2), 1, 8), CONTEXT),
        ],
        "1 <- ? traceparent, 2 <- 1 stream_key",
    );
    assert_eq!(links[&2].trace.to_string(), &CONTEXT[3..35]);
    assert_eq!(links[&1].parent.unwrap().span.to_string(), &CONTEXT[36..52]);
    assert_eq!((links[&1].flags, links[&2].flags), (Some(1), Some(1)));
}

#[test]
fn a_header_seen_on_one_side_serves_both() {
    check(
        &[
            client(1, 7, (1, 1), 0, 9),
            with(server(2, 7, (2, 2), 1, 8), CONTEXT),
        ],
        "1 <- ? traceparent, 2 <- 1 stream_key",
    );
}

#[test]
fn a_header_from_afar_is_remote() {
    let (linker, links) = check(
        &[with(server(2, 7, (2, 2), 1, 8), CONTEXT)],
        "2 <- ? traceparent",
    );
    assert!(links[&2].parent.unwrap().remote);
    assert_eq!(linker.stats.trace_by_header.get(), 1);
    let (linker, _) = check(
        &[with(server(2, 7, (2, 2), 1, 8), &CONTEXT.to_uppercase())],
        "2",
    );
    assert_eq!(linker.stats.trace_refused_shape.get(), 1);
}

/// Linked where `trusted` names these networks.
fn trusting(trusted: &[&str], sides: &[Side]) -> (HashMap<u64, Linked>, u64) {
    let propagation = Propagation {
        trusted: trusted.iter().map(|n| n.parse().unwrap()).collect(),
        ..Default::default()
    };
    let settings = Settings::new(&propagation, DRAIN);
    let mut linker = Linker::new(settings, Ids::from_seed(1), Arc::default());
    let links = run(&mut linker, sides);
    (links, linker.stats.trace_untrusted.get())
}

#[test]
fn a_context_from_outside_is_linked_to() {
    let mut far = with(server(2, 7, (2, 2), 1, 20), CONTEXT);
    far.far = true;
    // Passed on by who serves it.
    let on = with(client(3, 8, (2, 9), 2, 19), CONTEXT);
    let (links, outside) = trusting(&["192.168.0.0/16"], &[far.clone(), on.clone()]);
    assert_eq!(
        (told(&links).as_str(), outside),
        ("2, 3 <- 2 traceparent", 1)
    );
    let [link] = links[&2].links.as_slice() else {
        panic!("{:?}", links[&2].links);
    };
    assert_eq!(link.trace.to_string(), &CONTEXT[3..35]);
    assert_eq!(link.span.to_string(), &CONTEXT[36..52]);
    assert_eq!(link.reason, "untrusted");
    assert_ne!(links[&2].trace, link.trace);
    // Neither its decision nor its state is followed.
    assert_eq!((links[&2].flags, &links[&2].state), (None, &None));
    assert!(links[&3].links.is_empty());
    // Of two formats, or two values, either may be handed on.
    let mut two = far.clone();
    two.b3 = Some(format!("{}-{}-1", "5".repeat(32), "6".repeat(16)));
    let mut on_b3 = client(3, 8, (2, 9), 2, 19);
    on_b3.b3.clone_from(&two.b3);
    let (links, outside) = trusting(&["192.168.0.0/16"], &[two, on_b3]);
    assert_eq!((told(&links).as_str(), outside), ("2, 3", 2));
    let mut many = far.clone();
    many.traceparent.push(CONTEXT.into());
    let (links, outside) = trusting(&["192.168.0.0/16"], &[many, on.clone()]);
    assert_eq!((told(&links).as_str(), outside), ("2, 3", 1));
    // Handed on where nobody knows for whom: when the answer was out, and with a span of its own.
    let own = CONTEXT.replace("00f067aa0ba902b7", "11f067aa0ba902b7");
    let late = with(client(4, 9, (2, 9), 22, 25), CONTEXT);
    let sdk = with(client(5, 10, (2, 9), 3, 9), &own);
    let other = with(client(6, 11, (3, 3), 3, 9), &own);
    let all = [far.clone(), late, sdk, other];
    let (links, outside) = trusting(&["192.168.0.0/16"], &all);
    let chain = "2, 4, 5, 6 <- ? traceparent";
    assert_eq!((told(&links).as_str(), outside), (chain, 3));
    assert!([4, 5].iter().all(|id| links[id].links.len() == 1));
    let (links, outside) = trusting(&["192.168.0.0/16", "10.0.0.0/8"], &[far.clone(), on]);
    let chain = "2 <- ? traceparent, 3 <- 2 traceparent";
    assert_eq!((told(&links).as_str(), outside), (chain, 0));
    // Who asks is on this host too: what it wrote is its own.
    let asks = with(client(1, 7, (1, 1), 0, 21), CONTEXT);
    let (links, outside) = trusting(&[], &[asks, far]);
    let chain = "1 <- ? traceparent, 2 <- 1 stream_key";
    assert_eq!((told(&links).as_str(), outside), (chain, 0));
    // So is who asks on this host unseen.
    let near = with(server(2, 7, (2, 2), 1, 20), CONTEXT);
    let (links, outside) = trusting(&[], &[near]);
    let chain = "2 <- ? traceparent";
    assert_eq!((told(&links).as_str(), outside), (chain, 0));
}

#[test]
fn unix_sockets_and_mapped_addresses_are_trusted_as_they_are() {
    let settings = Settings::new(&Propagation::default(), DRAIN);
    let inet = |text: &str| Address::Inet(text.parse().unwrap());
    for (address, trusted) in [
        (Address::Unix(None), true),
        (inet("127.0.0.1:1"), true),
        (inet("[::ffff:10.1.2.3]:1"), true),
        (inet("[fd00::1]:1"), true),
        (inet("100.127.0.1:1"), true),
        (inet("100.128.0.1:1"), false),
        (inet("172.32.0.1:1"), false),
        (inet("[2001:db8::1]:1"), false),
    ] {
        assert_eq!(settings.trusts(&address), trusted, "{address:?}");
    }
}

#[test]
fn a_proxy_that_passes_a_header_on_is_in_the_chain() {
    check(
        &[
            with(server(2, 7, (2, 2), 1, 20), CONTEXT),
            with(client(3, 8, (2, 9), 2, 19), CONTEXT),
            with(server(4, 8, (3, 3), 3, 18), CONTEXT),
            // Before it was received, and after it was answered: somebody else's.
            with(client(5, 9, (2, 9), 0, 19), CONTEXT),
            with(client(6, 10, (2, 9), 30, 31), CONTEXT),
        ],
        "2 <- ? traceparent, 3 <- 2 traceparent, 4 <- 3 stream_key, 5 <- ? traceparent, 6 <- ? traceparent",
    );
}

#[test]
fn the_same_header_served_twice_tells_nothing() {
    let (_, links) = check(
        &[
            with(server(1, 7, (2, 2), 1, 20), CONTEXT),
            with(server(2, 8, (2, 3), 1, 20), CONTEXT),
            with(client(3, 9, (2, 9), 2, 19), CONTEXT),
        ],
        "1 <- ? traceparent, 2 <- ? traceparent, 3 <- ? traceparent",
    );
    assert_eq!(links[&3].parent.unwrap().span.to_string(), &CONTEXT[36..52]);
}

#[test]
fn a_lone_decision_is_the_roots() {
    let mut alone = server(1, 7, (2, 2), 1, 8);
    alone.b3 = Some("0".into());
    let (_, links) = check(&[alone], "1");
    assert_eq!(links[&1].flags, Some(0));
}

#[test]
fn calls_outside_the_exchange_are_not_its_children() {
    check(
        &[
            server(1, 7, (2, 2), 10, 20),
            client(2, 8, (2, 2), 5, 8),
            client(3, 9, (2, 2), 21, 25),
            client(4, 10, (2, 3), 12, 15),
            client(5, 11, (3, 2), 12, 15),
        ],
        "1, 2, 3, 4, 5",
    );
}

#[test]
fn two_at_once_on_a_thread_switch_it_off_for_good() {
    let (linker, _) = check(
        &[
            server(1, 1, (2, 2), 10, 50),
            client(2, 2, (2, 2), 12, 60),
            server(3, 3, (2, 2), 20, 40),
            client(4, 4, (2, 2), 25, 35),
            server(5, 5, (2, 2), 100, 140),
            client(6, 6, (2, 2), 110, 120),
        ],
        "1, 2, 3, 4, 5, 6",
    );
    assert_eq!(linker.stats.trace_threads_off.get(), 1);
}

#[test]
fn a_response_by_another_thread_switches_it_off() {
    let mut handed = server(1, 1, (2, 2), 10, 50);
    handed.answered_by = (2, 3);
    check(
        &[
            handed,
            client(2, 2, (2, 2), 12, 60),
            server(3, 3, (2, 2), 100, 120),
            client(4, 4, (2, 2), 105, 110),
        ],
        "1, 2, 3, 4",
    );
}

#[test]
fn an_answer_before_the_calls_answer_switches_it_off() {
    // An event loop that carries another exchange's client connection.
    check(
        &[
            server(1, 1, (2, 2), 10, 20),
            client(2, 2, (2, 2), 15, 30),
            server(3, 3, (2, 2), 100, 120),
            client(4, 4, (2, 2), 105, 110),
        ],
        "1, 2, 3, 4",
    );
}

#[test]
fn a_head_read_while_a_call_waits_switches_it_off() {
    check(
        &[
            client(1, 1, (2, 2), 10, 20),
            server(2, 2, (2, 2), 12, 40),
            client(3, 3, (2, 2), 25, 30),
        ],
        "1, 2, 3",
    );
}

#[test]
fn lost_responses_prove_nothing() {
    let mut lost = server(1, 1, (2, 2), 10, 500);
    lost.outcome = Outcome::Abandoned;
    check(
        &[
            lost,
            server(2, 2, (2, 2), 20, 30),
            client(3, 3, (2, 2), 22, 25),
            server(4, 4, (2, 2), 600, 640),
            client(5, 5, (2, 2), 610, 620),
        ],
        "1, 2, 3, 4, 5 <- 4 thread",
    );
}

#[test]
fn pipelined_requests_are_served_in_order() {
    let mut second = server(2, 2, (2, 2), 10, 40);
    second.connection = 1;
    check(
        &[
            server(1, 1, (2, 2), 10, 20),
            second,
            client(3, 3, (2, 2), 12, 15),
            client(4, 4, (2, 2), 25, 30),
        ],
        "1, 2, 3 <- 1 thread, 4 <- 2 thread",
    );
}

#[test]
fn multiplexing_runtimes_give_no_thread_links() {
    let mut linker = linker();
    // Whether a call made in the time of a served exchange is linked to it.
    let pair = |linker: &mut Linker, from: u64| {
        let (s, c) = (
            server(from, from, (2, 2), from, from + 5),
            client(from + 1, from + 1, (2, 2), from + 1, from + 4),
        );
        for fact in [s.opened(), c.opened(), c.closed(), s.closed()] {
            linker.feed(fact);
        }
        let mut out = Vec::new();
        linker.poll((from + 305) * MS, &mut out);
        told(&by_id(out)).contains("thread")
    };
    assert!(pair(&mut linker, 10));
    linker.no_thread_links(2);
    assert!(!pair(&mut linker, 500));
    // What it did before it was gone is not believed afterwards.
    linker.forget(2);
    assert!(!pair(&mut linker, 1000));
    linker.poll(5000 * MS, &mut Vec::new());
    assert!(pair(&mut linker, 5100));
    // Another program of the same process id.
    linker.no_thread_links(2);
    linker.forget(2);
    linker.no_thread_links(2);
    linker.poll(10_000 * MS, &mut Vec::new());
    assert!(!pair(&mut linker, 10_100));
}

#[test]
fn threads_that_are_believed_since_are_not_for_what_they_asked_before() {
    let mut linker = linker();
    linker.no_thread_links(2);
    linker.threads_since(2, 20 * MS);
    let sides = [
        server(1, 0, (2, 2), 10, 50),
        client(2, 0, (2, 2), 12, 15),
        client(3, 0, (2, 2), 25, 30),
    ];
    for side in &sides {
        linker.feed(side.opened());
    }
    for side in sides.iter().rev() {
        linker.feed(side.closed());
    }
    let mut out = Vec::new();
    linker.poll(500 * MS, &mut out);
    assert_eq!(told(&by_id(out)), "1, 2, 3 <- 1 thread");
}

#[test]
fn goroutines_are_told_apart_on_one_thread() {
    let of = |unit, side: Side| Side { unit, ..side };
    // All on one thread, which reads heads while calls are unanswered; one answers from another thread.
    let mut second = of(8, server(2, 0, (2, 2), 12, 40));
    second.answered_by = (2, 9);
    let sides = [
        of(7, server(1, 0, (2, 2), 10, 50)),
        second,
        of(7, client(3, 0, (2, 2), 14, 30)),
        of(8, client(4, 0, (2, 2), 15, 29)),
        // It asked, and did not wait for the answer.
        of(8, client(5, 0, (2, 2), 39, 60)),
        // Over, and of nobody who serves.
        of(8, client(6, 0, (2, 2), 41, 45)),
        of(9, client(7, 0, (2, 2), 20, 25)),
        // What is not known to be a goroutine's is nobody's.
        client(8, 0, (2, 2), 21, 26),
        // The same number in another process.
        of(7, client(9, 0, (3, 2), 20, 25)),
    ];
    let expected = "1, 2, 3 <- 1 goroutine, 4 <- 2 goroutine, 5 <- 2 goroutine, 6, 7, 8, 9";
    for process_shares in [false, true] {
        let mut linker = linker();
        if process_shares {
            linker.no_thread_links(2);
        }
        assert_eq!(told(&run(&mut linker, &sides)), expected);
    }
    let settings = Propagation {
        goroutine: false,
        ..Propagation::default()
    };
    let mut linker = Linker::new(
        Settings::new(&settings, DRAIN),
        Ids::from_seed(1),
        Arc::default(),
    );
    linker.no_thread_links(2);
    assert!(!told(&run(&mut linker, &sides)).contains("<-"));
}

/// A side of Node.js: the turn of its first byte and that of its answer's.
fn in_turns(mut side: Side, began: u64, answered: u64) -> Side {
    side.unit = RESOURCE | began;
    side.answered_in = Some(RESOURCE | answered);
    side
}

#[test]
fn a_call_is_of_the_request_whose_turn_made_it_or_whose_answer_its_own_began() {
    let (one, two) = (
        in_turns(server(1, 1, (2, 2), 10, 60), 1, 7),
        in_turns(server(2, 2, (2, 2), 11, 70), 2, 8),
    );
    // The second call of each is made in the turn that the answer to the first began.
    check(
        &[
            one,
            two,
            in_turns(client(3, 3, (2, 2), 12, 30), 1, 5),
            in_turns(client(4, 4, (2, 2), 13, 31), 2, 6),
            in_turns(client(5, 5, (2, 2), 32, 59), 5, 7),
            in_turns(client(6, 6, (2, 2), 33, 69), 6, 8),
        ],
        "1, 2, 3 <- 1 async_id, 4 <- 2 async_id, 5 <- 1 async_id, 6 <- 2 async_id",
    );
}

#[test]
fn a_turn_that_answers_two_requests_or_began_with_two_answers_says_nothing() {
    let [one, two] = [1, 2].map(|id| in_turns(server(id, id, (2, 2), 10 + id, 60 + id), id, 7));
    let call = in_turns(client(3, 3, (2, 2), 20, 59), 9, 7);
    check(&[one.clone(), two, call.clone()], "1, 2, 3");
    let other = in_turns(client(4, 4, (2, 2), 21, 59), 9, 7);
    check(&[one.clone(), call.clone(), other], "1, 3, 4");
    // Made before the request was there, or when it was answered.
    let mut early = call;
    early.at[0] = 5 * MS;
    check(&[one, early], "1, 3");
}

#[test]
fn where_turns_disagree_neither_is_believed_and_no_lone_one_from_then_on() {
    let one = in_turns(server(1, 1, (2, 2), 10, 90), 1, 20);
    let two = in_turns(server(2, 2, (2, 2), 11, 60), 2, 7);
    // Made in a turn of the first, which let the second go on.
    let call = in_turns(client(3, 3, (2, 2), 20, 59), 1, 7);
    let later = in_turns(server(4, 4, (2, 2), 400, 490), 4, 30);
    let alone = in_turns(client(5, 5, (2, 2), 410, 420), 4, 31);
    let twice = in_turns(client(6, 6, (2, 2), 430, 480), 4, 30);
    let (mut linker, _) = check(
        &[one, two, call, later, alone, twice],
        "1, 2, 3, 4, 5, 6 <- 4 async_id",
    );
    assert_eq!(linker.stats.trace_turns_crossed.get(), 1);
    assert_eq!((linker.proven(), linker.sharers()), (vec![], vec![2]));
}

#[test]
fn a_crossing_shows_however_long_the_next_call_takes() {
    let one = in_turns(server(1, 1, (2, 2), 10, 900), 1, 20);
    let two = in_turns(server(2, 2, (2, 2), 11, 300), 2, 8);
    let first = in_turns(client(3, 3, (2, 2), 20, 40), 1, 7);
    let second = in_turns(client(4, 4, (2, 2), 41, 299), 7, 8);
    let later = in_turns(client(5, 5, (2, 2), 400, 410), 1, 30);
    let mut linker = linker();
    let links = run(&mut linker, &[one, two, first, second, later]);
    assert_eq!(linker.stats.trace_turns_crossed.get(), 1);
    assert_eq!((linker.proven(), linker.sharers()), (vec![], vec![2]));
    let parent = |id| links[&id].parent.as_ref().map(|parent| parent.span);
    assert_eq!(parent(4), Some(links[&2].span));
    assert_eq!(parent(5), None, "the turn alone says so");
}

#[test]
fn who_is_gone_is_not_proven_and_who_has_crossed_not_forgotten() {
    let request = in_turns(server(1, 1, (2, 2), 10, 60), 1, 9);
    let call = in_turns(client(2, 2, (2, 2), 20, 30), 1, 8);
    let late = in_turns(client(3, 3, (2, 2), 40, 50), 1, 7);
    let mut linker = linker();
    for side in [&request, &call] {
        linker.feed(side.opened());
    }
    linker.feed(call.closed());
    linker.poll(100 * MS, &mut Vec::new());
    linker.forget(2);
    linker.feed(late.opened());
    linker.feed(late.closed());
    linker.feed(request.closed());
    linker.poll(1 << 50, &mut Vec::new());
    assert!(linker.proven().is_empty());

    let another = in_turns(server(4, 4, (2, 2), 20, 60), 4, 18);
    let crossing = in_turns(client(5, 5, (2, 2), 30, 59), 1, 18);
    let mut linker = self::linker();
    run(&mut linker, &[request, another, crossing]);
    assert_eq!(linker.sharers(), vec![2]);
    linker.forget(2);
    let again = in_turns(server(6, 6, (2, 2), 1, 60), 6, 28);
    let alone = in_turns(client(7, 7, (2, 2), 20, 30), 6, 27);
    let links = run(
        &mut linker,
        &[again, alone].map(|mut side| {
            side.at = side.at.map(|at| at + (1 << 50));
            side
        }),
    );
    assert_eq!(links[&7].parent, None);
}

#[test]
fn turns_are_told_of_behind_the_first_request_and_a_second() {
    for (answered, expected) in [(60, 1_020), (3_000, 3_000)] {
        let request = in_turns(server(1, 1, (2, 2), 10, answered), 1, 9);
        let call = in_turns(client(2, 2, (2, 2), 20, 30), 1, 8);
        let mut linker = linker();
        let mut facts =
            [request, call].map(|side| [(side.at[1], side.opened()), (side.at[3], side.closed())]);
        let facts = facts.as_flattened_mut();
        facts.sort_by_key(|(time, _)| *time);
        let mut facts = facts.iter().cloned().peekable();
        let proven = (0..6_000).find(|now| {
            while let Some((_, fact)) = facts.next_if(|(time, _)| time / MS <= *now) {
                linker.feed(fact);
            }
            linker.poll(now * MS, &mut Vec::new());
            !linker.proven().is_empty()
        });
        let late = proven.expect("is proven") - expected;
        assert!(late <= 1_000, "{late} ms");
        assert!(linker.sharers().is_empty());
    }
}

#[test]
fn what_the_next_call_was_made_for_may_disagree_too() {
    let one = in_turns(server(1, 1, (2, 2), 10, 90), 1, 20);
    let two = in_turns(server(2, 2, (2, 2), 11, 60), 2, 8);
    let first = in_turns(client(3, 3, (2, 2), 20, 40), 1, 7);
    let second = in_turns(client(4, 4, (2, 2), 41, 59), 7, 8);
    check(&[one, two, first, second], "1, 2, 3, 4 <- 2 async_id");
}

#[test]
fn what_two_heads_of_a_goroutine_are_is_not_guessed() {
    let of = |unit, side: Side| Side { unit, ..side };
    let sides = [
        of(7, server(1, 0, (2, 2), 10, 50)),
        of(7, server(2, 0, (2, 2), 12, 40)),
        of(7, client(3, 0, (2, 2), 14, 30)),
        of(7, client(4, 0, (2, 2), 42, 45)),
    ];
    assert_eq!(
        told(&run(&mut linker(), &sides)),
        "1, 2, 3, 4 <- 1 goroutine"
    );
    // Nor where both are on one connection: it may hand on what comes.
    let sides = sides.map(|side| Side {
        connection: 1,
        ..side
    });
    assert_eq!(
        told(&run(&mut linker(), &sides)),
        "1, 2, 3, 4 <- 1 goroutine"
    );
}

#[test]
fn a_goroutine_that_handed_a_request_on_does_not_serve_it() {
    let of = |unit, side: Side| Side { unit, ..side };
    let mut served = of(7, server(1, 0, (2, 2), 10, 20));
    served.answered_in = Some(8);
    let sides = [served, of(7, client(2, 0, (2, 2), 14, 30))];
    assert_eq!(told(&run(&mut linker(), &sides)), "1, 2");
}

#[test]
fn what_is_gathered_is_nobodys() {
    let of = |unit, side: Side| Side { unit, ..side };
    let mut call = of(7, client(2, 0, (2, 2), 14, 16));
    call.gathered = true;
    let sides = [of(7, server(1, 0, (2, 2), 10, 20)), call];
    assert_eq!(told(&run(&mut linker(), &sides)), "1, 2");
}

#[test]
fn a_client_hook_that_runs_late_is_waited_for() {
    let mut linker = linker();
    let (c, s) = (client(1, 7, (1, 1), 100, 101), server(2, 7, (2, 2), 1, 5));
    let mut out = Vec::new();
    linker.feed(s.opened());
    linker.feed(s.closed());
    linker.poll(90 * MS, &mut out);
    assert!(out.is_empty());
    linker.feed(c.opened());
    linker.feed(c.closed());
    linker.poll(300 * MS, &mut out);
    let links = by_id(out);
    assert_eq!(told(&links), "1, 2 <- 1 stream_key");
    assert_eq!(links[&2].not_before, Some(100 * MS));
}

#[test]
fn a_server_outlives_the_client_that_gave_up() {
    let mut gone = client(1, 7, (1, 1), 0, 1000);
    gone.outcome = Outcome::Broken(Ending::Local);
    check(
        &[gone, server(2, 7, (2, 2), 1, 60_000)],
        "1, 2 <- 1 stream_key",
    );
}

#[test]
fn a_descendant_that_ends_first_fixes_the_trace() {
    // 4 leaves long before 1 to 3 have ended; 2's client is heard of only after that.
    let mut linker = linker();
    let all = [
        client(1, 7, (1, 1), 0, 2000),
        server(2, 7, (2, 20), 1, 1900),
        client(3, 8, (2, 20), 10, 50),
        server(4, 8, (3, 30), 11, 49),
    ];
    let mut out = Vec::new();
    for fact in [
        all[1].opened(),
        all[2].opened(),
        all[3].opened(),
        all[3].closed(),
        all[2].closed(),
    ] {
        linker.feed(fact);
    }
    linker.poll(400 * MS, &mut out);
    assert_eq!(out.len(), 2);
    linker.feed(all[0].opened());
    linker.feed(all[1].closed());
    linker.feed(all[0].closed());
    linker.poll(5000 * MS, &mut out);
    assert_eq!(
        told(&by_id(out)),
        "1, 2 <- 1 stream_key, 3 <- 2 thread, 4 <- 3 stream_key"
    );
}

#[test]
fn a_head_after_its_end_counts() {
    let mut linker = linker();
    let (s, c) = (server(1, 1, (2, 2), 10, 20), client(2, 2, (2, 2), 12, 15));
    for fact in [s.closed(), c.closed(), c.opened(), s.opened()] {
        linker.feed(fact);
    }
    let mut out = Vec::new();
    linker.flush(&mut out);
    assert_eq!(told(&by_id(out)), "1, 2 <- 1 thread");
    assert_eq!(linker.stats.trace_unopened.get(), 2);
}

#[test]
fn unix_sockets_that_reuse_an_address_are_told_apart() {
    let unix = |mut s: Side| {
        s.unix = true;
        s
    };
    let (_, links) = check(
        &[
            unix(client(1, 7, (1, 1), 0, 9)),
            unix(server(2, 7, (2, 2), 1, 8)),
            unix(server(4, 7, (2, 2), 1001, 1008)),
            unix(client(5, 7, (1, 1), 1500, 1509)),
        ],
        "1, 2 <- 1 stream_key, 4, 5",
    );
    assert_ne!(links[&1].span, links[&5].span);
}

#[test]
fn a_full_table_gives_out_what_is_over() {
    let mut settings = Settings::new(&Propagation::default(), DRAIN);
    settings.capacity = 10;
    let mut linker = Linker::new(settings, Ids::from_seed(1), Arc::default());
    let mut out = Vec::new();
    for id in 0..100 {
        linker.feed(client(id, id + 1, (1, id as u32 + 1), id, id + 1).opened());
        linker.feed(client(id, id + 1, (1, id as u32 + 1), id, id + 1).closed());
        assert!(linker.len() <= 10);
    }
    for id in 100..150 {
        linker.feed(client(id, id + 1, (1, id as u32 + 1), id, id + 1).opened());
    }
    for id in 100..150 {
        linker.feed(client(id, id + 1, (1, id as u32 + 1), id, id + 1).closed());
    }
    linker.flush(&mut out);
    assert_eq!(by_id(out).len(), 150);
    assert!(linker.stats.trace_evicted.get() > 0);
}

#[test]
fn chains_that_close_on_themselves_are_cut() {
    // A process that passes a header on to itself, over and over.
    let mut sides = Vec::new();
    for n in 0..6u64 {
        sides.push(with(client(n * 2, n + 1, (2, 2), n, 40 - n), CONTEXT));
        sides.push(with(server(n * 2 + 1, n + 1, (2, 2), n, 40 - n), CONTEXT));
    }
    let mut linker = linker();
    let links = run(&mut linker, &sides);
    assert_eq!(links.len(), 12);
    assert!(
        links
            .values()
            .all(|l| l.trace.to_string() == CONTEXT[3..35])
    );
}

#[test]
fn nothing_is_kept_for_ever() {
    let mut linker = linker();
    let sides: Vec<Side> = (1..500)
        .map(|i| server(i, i, (2, i as u32), i, i + 5))
        .collect();
    run(&mut linker, &sides);
    let mut out = Vec::new();
    linker.poll(1 << 51, &mut out);
    assert!(linker.is_empty());
}

/// A host: some processes serve one request per thread, some share one thread, and all call each
/// other.
struct World {
    random: Ids,
    next: u64,
    /// Per process and thread: until when it is taken.
    busy: HashMap<(u32, u32), u64>,
    sides: Vec<Side>,
    /// Child to parent, as it is.
    truth: HashMap<u64, u64>,
}

impl World {
    fn below(&mut self, n: u64) -> u64 {
        u64::from_be_bytes(self.random.span().0) % n
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Even processes are event loops.
    fn thread(&mut self, process: u32, at: u64) -> u32 {
        if process.is_multiple_of(2) {
            return 1;
        }
        let free = (1..).find(|t| {
            self.busy
                .get(&(process, *t))
                .is_none_or(|until| *until < at)
        });
        free.unwrap()
    }

    /// A call made by `who` at `at`; when its answer was read.
    fn call(&mut self, who: (u32, u32), at: u64, parent: Option<u64>, depth: u64) -> u64 {
        let (out, inn) = (self.id(), self.id());
        let process = 10 + self.below(6) as u32;
        let (reach, late) = (20_000 + self.below(200_000), self.below(10_000));
        // The receiver's hook may run before the sender's.
        let head = at + reach - late;
        let thread = self.thread(process, head);
        self.busy.insert((process, thread), u64::MAX);
        let mut now = head + 1 + self.below(MS);
        if depth > 0 {
            for _ in 0..self.below(3) {
                now = self.call((process, thread), now, Some(inn), depth - 1) + 1 + self.below(MS);
            }
        }
        let end = now + self.below(3 * MS);
        self.busy.insert((process, thread), end);
        let answer = end + 1 + self.below(100_000);
        let mut asked = side(out, Role::Client, out, who, at + reach, answer);
        asked.at = [at + reach, at + reach, answer, answer];
        let mut served = side(inn, Role::Server, out, (process, thread), head, end);
        served.far = self.below(2) == 0;
        if head > at + reach {
            served.at[0] = at + reach;
        }
        self.sides.extend([asked, served]);
        self.truth.insert(inn, out);
        if let Some(parent) = parent {
            self.truth.insert(out, parent);
        }
        answer
    }
}

/// Facts of four shards, read one after the other every 4 ms.
fn shuffled(world: &mut World, linker: &mut Linker) -> HashMap<u64, Linked> {
    let mut facts: Vec<(u64, u64, Fact)> = Vec::new();
    for side in world.sides.clone() {
        let shard = world.below(4);
        facts.push((side.at[1], shard, side.opened()));
        facts.push((side.at[3], shard, side.closed()));
    }
    let last = facts.iter().map(|(time, ..)| *time).max().unwrap_or(0);
    facts.sort_by_key(|(time, shard, _)| (time / (4 * MS), *shard, *time));
    let mut out = Vec::new();
    let mut window = 0;
    for (time, _, fact) in facts {
        if time / (4 * MS) > window {
            window = time / (4 * MS);
            linker.poll(window * 4 * MS, &mut out);
        }
        linker.feed(fact);
    }
    linker.poll(last + 10_000 * MS, &mut out);
    by_id(out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_link_is_right_and_every_exact_one_is_made(seed in any::<u64>(), drivers in 1u64..8, rounds in 1u64..12) {
        let mut world = World { random: Ids::from_seed(seed), next: 0, busy: HashMap::new(), sides: Vec::new(), truth: HashMap::new() };
        // One after the other in each driver; drivers side by side. Sync threads are handed out
        // in the order of calls made, so a driver's tree takes threads no other has at that time.
        for driver in 0..drivers {
            let mut now = 10 * MS + world.below(5 * MS);
            for _ in 0..rounds {
                now = world.call((1, 1 + driver as u32), now, None, 3) + world.below(MS);
            }
            for until in world.busy.values_mut() {
                *until = u64::MAX;
            }
        }
        let mut linker = linker();
        let links = shuffled(&mut world, &mut linker);
        prop_assert_eq!(links.len(), world.sides.len());
        let spans: HashMap<SpanId, u64> = links.iter().map(|(id, l)| (l.span, *id)).collect();
        for side in &world.sides {
            let link = &links[&side.id];
            let got = link.parent.and_then(|p| spans.get(&p.span)).copied();
            let truth = world.truth.get(&side.id).copied();
            prop_assert!(got.is_none() || got == truth, "{} hangs from {:?}, not {:?}", side.id, got, truth);
            let exact = side.role == Role::Server || side.who.0 % 2 == 1;
            if exact {
                prop_assert_eq!(got, truth, "{} of {:?}", side.id, side);
            }
            if let Some(parent) = got {
                prop_assert_eq!(link.trace, links[&parent].trace);
                prop_assert!(link.not_before.is_some());
                prop_assert_eq!(link.begin, links[&parent].begin);
            }
        }
        let mut out = Vec::new();
        linker.poll(1 << 60, &mut out);
        prop_assert!(linker.is_empty() && out.is_empty());
    }

    #[test]
    fn any_order_of_facts_ends(seed in any::<u64>(), count in 1usize..60) {
        let mut random = Ids::from_seed(seed);
        let mut below = |n: u64| u64::from_be_bytes(random.span().0) % n;
        let mut linker = linker();
        let mut out = Vec::new();
        let mut closed = std::collections::HashSet::new();
        for _ in 0..count {
            let (from, id) = (below(100), below(12));
            let mut side = side(id, if id % 2 == 0 { Role::Client } else { Role::Server }, below(4), (2, below(3) as u32), from * MS, (from + below(50)) * MS);
            side.traceparent = (below(3) == 0).then(|| CONTEXT.into()).into_iter().collect();
            side.unix = below(2) == 0;
            if below(2) == 0 {
                linker.feed(side.opened());
            } else {
                closed.insert(id);
                linker.feed(side.closed());
            }
            linker.poll(below(200) * MS, &mut out);
        }
        linker.flush(&mut out);
        prop_assert_eq!(by_id(out).len(), closed.len());
    }
}

#[test]
fn a_rarer_drain_is_waited_for() {
    let settings = |drain| Settings::new(&Propagation::default(), Duration::from_millis(drain));
    assert_eq!(settings(4).settle, 20 * MS);
    assert!(settings(1000).settle > 1000 * MS);
}

/// A WebSocket goes on for long after its upgrade: what its thread does then is not for it, and what
/// it hangs from is gone when it ends.
#[test]
fn what_is_detached_keeps_its_place_and_leaves_its_thread() {
    let app = (10, 11);
    let serves = server(1, 0, app, 100, 200);
    // Opened while that was served, and closed much later; the other side of it in another process.
    let socket = client(2, 7, app, 110, 9000);
    let other = server(3, 7, (20, 21), 112, 9000);
    let after = client(4, 0, (20, 21), 5000, 5010);
    let mut linker = linker();
    let mut out = Vec::new();
    linker.feed(serves.opened());
    linker.feed(socket.opened());
    linker.feed(other.opened());
    linker.feed(Fact::Detached(
        ExchangeId(3),
        other.mark(114 * MS, (20, 21)),
    ));
    linker.feed(Fact::Detached(ExchangeId(2), socket.mark(115 * MS, app)));
    linker.feed(serves.closed());
    linker.poll(4900 * MS, &mut out);
    assert_eq!(out.len(), 1, "the others last");
    linker.feed(after.opened());
    linker.feed(after.closed());
    linker.feed(other.closed());
    linker.feed(socket.closed());
    linker.poll(1 << 50, &mut out);
    let links = by_id(out);
    assert_eq!(told(&links), "1, 2 <- 1 thread, 3 <- 2 stream_key, 4");
}

#[test]
fn what_exports_its_own_spans_is_told_of_by_itself() {
    let sides = [
        server(1, 0, (1, 1), 0, 20),
        with(client(2, 7, (1, 1), 1, 9), CONTEXT),
        server(3, 7, (2, 2), 2, 8),
        // It said nothing of this.
        client(4, 8, (1, 1), 10, 19),
        server(5, 8, (3, 3), 11, 18),
    ];
    let mut linker = linker();
    linker.instrumented.insert(1);
    let links = run(&mut linker, &sides);
    assert_eq!(told(&links), "3 <- ? traceparent, 5");
    assert_eq!(links[&3].parent.unwrap().span.to_string(), &CONTEXT[36..52]);
    assert_eq!(linker.stats.trace_instrumented.get(), 3);
}
