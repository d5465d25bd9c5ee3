//! Messages in, facts out.

use super::*;
use crate::event::Hole;
use crate::event::{Address, ConnectionId};

fn peer() -> Arc<Peer> {
    Arc::new(Peer {
        connection: ConnectionId(1),
        local: Address::Unix(None),
        remote: Address::Unix(None),
        role: Role::Server,
        key: Some(StreamKey {
            client: 7,
            server: 8,
        }),
        shares_offsets: true,
        line: 0,
        carrier: None,
        datagrams: false,
        receiver: false,
    })
}

/// An exchange of that number that has begun.
pub(crate) fn opened(id: u64) -> Fact {
    Fact::Opened(Box::new(Opened {
        id: ExchangeId(id),
        peer: peer(),
        role: Role::Server,
        start: at(id, 0),
        head: at(id, 9),
        key: None,
        carrier: None,
        likeness: None,
        stream: None,
        gathered: false,
    }))
}

fn at(time: Nanos, offset: u64) -> Mark {
    Mark {
        time,
        offset,
        ..Mark::default()
    }
}

fn message(flow: Flow, n: u64, at: Mark, part: Part) -> Message {
    Message {
        flow,
        pairing: Pairing::Order(n),
        at,
        part,
    }
}

fn ask(n: u64, time: Nanos) -> Message {
    let request = Request::call("test", "ASK", Vec::new());
    let part = Part::Request(Box::new(request), at(time, n * 100 + 9));
    message(Flow::Request, n, at(time, n * 100), part)
}

fn answer(n: u64, time: Nanos) -> Message {
    let response = Response::default();
    message(
        Flow::Response,
        n,
        at(time, 0),
        Part::Response(Box::new(response)),
    )
}

fn finish(flow: Flow, n: u64, time: Nanos, whole: bool) -> Message {
    let finish = Finish {
        body: 0,
        exact: true,
        whole,
    };
    message(flow, n, at(time, 50), Part::Finish(finish))
}

struct Bench {
    exchanges: Exchanges,
    ids: Ids,
    facts: Vec<Fact>,
    stats: Stats,
}

impl Bench {
    fn new() -> Self {
        Self {
            exchanges: Exchanges::default(),
            ids: Ids::new(3),
            facts: Vec::new(),
            stats: Stats::default(),
        }
    }

    fn with<R>(&mut self, act: impl FnOnce(&mut Exchanges, &mut Sink<'_>) -> R) -> R {
        let mut sink = Sink {
            ids: &mut self.ids,
            facts: &mut self.facts,
            stats: &self.stats,
        };
        act(&mut self.exchanges, &mut sink)
    }

    fn take(&mut self, messages: impl IntoIterator<Item = Message>) {
        let peer = peer();
        for message in messages {
            self.with(|exchanges, sink| exchanges.take(message, &peer, sink));
        }
    }

    fn closed(&self) -> Vec<(u64, Outcome, Nanos)> {
        let closed = |fact: &Fact| match fact {
            Fact::Closed(e) => Some((e.start.offset, e.outcome, e.end)),
            _ => None,
        };
        self.facts.iter().filter_map(closed).collect()
    }
}

#[test]
fn a_request_and_its_response() {
    let mut bench = Bench::new();
    bench.take([ask(1, 10)]);
    let Some(Fact::Opened(opened)) = bench.facts.first() else {
        panic!("opened at once");
    };
    assert_eq!(opened.id.0 >> 48, 3);
    assert_eq!((opened.start.offset, opened.head.offset), (100, 109));
    let key = opened.key.expect("a key");
    assert_eq!((key.offset, key.number, key.stream.client), (100, 0, 7));
    bench.take([
        finish(Flow::Request, 1, 20, true),
        answer(1, 30),
        finish(Flow::Response, 1, 40, true),
    ]);
    assert_eq!(bench.closed(), [(100, Outcome::Complete, 40)]);
    assert!(bench.exchanges.is_empty());
}

/// The next exchange of a slot has another name: who serves one must not hang under the other's caller.
#[test]
fn what_names_a_message_on_both_ends() {
    let mut bench = Bench::new();
    let pairings = [
        Pairing::Order(3),
        Pairing::Number(3),
        Pairing::Slot(3),
        Pairing::Slot(3),
    ];
    for (place, pairing) in pairings.into_iter().enumerate() {
        let ask = ask(place as u64 + 1, 10);
        bench.take([Message { pairing, ..ask }]);
    }
    let key = |fact: &Fact| match fact {
        Fact::Opened(opened) => opened.key.map(|key| (key.offset, key.number)),
        _ => None,
    };
    let keys: Vec<_> = bench.facts.iter().filter_map(key).collect();
    assert_eq!(keys, [(100, 0), (0, 3), (300, 3), (400, 3)]);
}

#[test]
fn a_response_without_a_request_is_counted() {
    let mut bench = Bench::new();
    bench.take([answer(1, 30), finish(Flow::Response, 1, 40, true)]);
    assert!(bench.facts.is_empty());
    assert_eq!(bench.stats.exchange_unasked.get(), 1);
}

#[test]
fn what_this_end_closed_ended_then() {
    let mut bench = Bench::new();
    bench.take([ask(1, 10)]);
    bench.with(|e, sink| e.end(Ending::Local, 50, false, sink));
    assert!(bench.closed().is_empty());
    bench.with(|e, sink| e.end(Ending::Gone, 90, true, sink));
    assert_eq!(bench.closed(), [(100, Outcome::Broken(Ending::Local), 50)]);
}

#[test]
fn what_the_peer_closed_ends_later() {
    let mut bench = Bench::new();
    bench.take([
        ask(1, 10),
        answer(1, 20),
        finish(Flow::Response, 1, 30, false),
    ]);
    bench.with(|e, sink| e.end(Ending::Eof, 40, false, sink));
    bench.with(|e, sink| e.end(Ending::Gone, 90, true, sink));
    assert_eq!(bench.closed(), [(100, Outcome::Broken(Ending::Eof), 90)]);
}

#[test]
fn silence_times_out_what_is_open() {
    let mut bench = Bench::new();
    bench.take([ask(1, 10), ask(2, 11), answer(1, 20)]);
    bench.with(|e, sink| e.time_out(30, 500, sink));
    let expected = [(100, Outcome::TimedOut, 30), (200, Outcome::TimedOut, 500)];
    assert_eq!(bench.closed(), expected);
    bench.take([finish(Flow::Response, 1, 600, true), answer(2, 700)]);
    assert_eq!(bench.closed().len(), 2);
    assert_eq!(bench.stats.exchange_unasked.get(), 1);
}

#[test]
fn an_end_is_never_before_a_start() {
    let mut bench = Bench::new();
    bench.take([ask(1, 1000)]);
    bench.with(|e, sink| e.abandon(5, sink));
    assert_eq!(bench.closed(), [(100, Outcome::Abandoned, 1000)]);
}

#[test]
fn faults_are_summed_and_bounded() {
    let mut bench = Bench::new();
    bench.take([ask(1, 10)]);
    for n in 0..20 {
        let missing = Fault::Missing {
            cause: Hole::Lost,
            bytes: n,
        };
        bench.take([
            message(Flow::Request, 1, at(11, 0), Part::Fault(missing)),
            message(
                Flow::Request,
                1,
                at(11, 0),
                Part::Fault(Fault::Malformed("x")),
            ),
        ]);
    }
    bench.with(|e, sink| e.abandon(20, sink));
    let Some(Fact::Closed(exchange)) = bench.facts.last() else {
        panic!("closed");
    };
    assert_eq!(exchange.faults.len(), MAX_FAULTS);
    let sum = Fault::Missing {
        cause: Hole::Lost,
        bytes: 190,
    };
    assert_eq!(exchange.faults.first(), Some(&sum));
}

#[test]
fn the_oldest_goes_when_too_many_are_open() {
    let mut bench = Bench::new();
    bench.take((0..MAX_OPEN as u64 + 3).map(|n| ask(n, n)));
    assert_eq!(bench.closed().len(), 3);
    assert_eq!(bench.stats.exchange_too_deep.get(), 3);
}

#[test]
fn a_poll_that_nothing_came_of_is_dismissed() {
    let poll = |n| message(Flow::Request, n, at(1, 0), Part::Poll);
    let mut bench = Bench::new();
    bench.take([ask(0, 1), poll(0), ask(1, 1), poll(1), answer(1, 2)]);
    bench.with(|exchanges, sink| exchanges.end(Ending::Gone, 9, true, sink));
    let outcomes: Vec<_> = bench
        .closed()
        .iter()
        .map(|(_, outcome, _)| *outcome)
        .collect();
    let broken = Outcome::Broken(Ending::Gone);
    assert_eq!(outcomes, [Outcome::Dismissed, broken]);
    bench.take([ask(2, 10), poll(2)]);
    bench.with(|exchanges, sink| exchanges.abandon(11, sink));
    assert_eq!(bench.stats.exchange_dismissed.get(), 2);
}
