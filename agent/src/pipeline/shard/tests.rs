//! Connections come, go, are left alone, and fall silent.

use super::*;
use crate::event::{Address, Carried, Direction, Ends, Execution, Hole, Role, Source};
use crate::exchange::{Exchange, Outcome};
use crate::protocol::Fault;

const ASK: &[u8] = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct Bench {
    shard: Shard,
    facts: Vec<Fact>,
    commands: Vec<Command>,
    stats: Arc<Stats>,
    last: Option<(u64, Direction)>,
}

impl Bench {
    fn new(config: Config) -> Self {
        let stats = Arc::new(Stats::default());
        Self {
            shard: Shard::new(0, 4, Arc::new(config), Arc::clone(&stats)),
            facts: Vec::new(),
            commands: Vec::new(),
            stats,
            last: None,
        }
    }

    fn take(&mut self, event: &Event<'_>) {
        let mut out = Out {
            facts: &mut self.facts,
            commands: &mut self.commands,
        };
        self.shard.take(event, &mut out);
    }

    fn open(&mut self, id: u64, port: u16, base: [u64; 2]) {
        let address = |port| Address::Inet(([127, 0, 0, 1], port).into());
        self.introduce(id, [address(port), address(5)], base);
    }

    fn introduce(&mut self, id: u64, ends: [Address; 2], base: [u64; 2]) {
        self.introduce_at(id, ends, base, base);
    }

    fn introduce_at(
        &mut self,
        id: u64,
        [local, remote]: [Address; 2],
        start: [u64; 2],
        base: [u64; 2],
    ) {
        self.take(&Event::Open(Open {
            start,
            base,
            ..opened(id, [local, remote])
        }));
    }

    fn send(&mut self, id: u64, direction: Direction, offset: u64, time: Nanos, bytes: &[u8]) {
        let turn = self.last != Some((id, direction));
        self.last = Some((id, direction));
        self.take(&Event::Segment(Segment {
            connection: ConnectionId(id),
            direction,
            time,
            offset,
            length: bytes.len() as u32,
            bytes,
            tail: &[],
            hole: None,
            turn,
            lost: 0,
            execution: Execution::default(),
        }));
    }

    fn exchange(&mut self, id: u64, round: u64, time: Nanos) {
        let (asked, answered) = (round * ASK.len() as u64, round * ANSWER.len() as u64);
        self.send(id, Direction::Ingress, asked, time, ASK);
        self.send(id, Direction::Egress, answered, time + 5, ANSWER);
    }

    fn tick(&mut self, now: Nanos) {
        let mut out = Out {
            facts: &mut self.facts,
            commands: &mut self.commands,
        };
        self.shard.tick(now, &mut out);
    }

    fn finish(&mut self, now: Nanos) {
        let mut out = Out {
            facts: &mut self.facts,
            commands: &mut self.commands,
        };
        self.shard.finish(now, &mut out);
    }

    fn end(&mut self, id: u64, time: Nanos, ending: Ending) {
        self.take(&Event::End(End {
            connection: ConnectionId(id),
            time,
            ending,
            lost: 0,
        }));
    }

    fn closed(&self) -> Vec<&Exchange> {
        let mut closed = Vec::new();
        for fact in &self.facts {
            if let Fact::Closed(exchange) = fact {
                closed.push(&**exchange);
            }
        }
        closed
    }
}

fn opened(id: u64, [local, remote]: [Address; 2]) -> Open {
    Open {
        connection: ConnectionId(id),
        time: 1,
        process: 1,
        comm: "test".into(),
        local,
        remote,
        role: None,
        ends: Some(Ends { own: 1, peer: 2 }),
        start: [0; 2],
        base: [0; 2],
        line: 0,
        netns: 1,
        session: None,
        kernel_tls: false,
        datagrams: false,
    }
}

#[test]
fn two_events_are_an_exchange() {
    let mut bench = Bench::new(Config::default());
    bench.open(1, 80, [0, 0]);
    bench.exchange(1, 0, 100);
    bench.exchange(1, 1, 200);
    let closed = bench.closed();
    assert_eq!(closed.len(), 2);
    let last = closed[1];
    assert_eq!((last.start.time, last.end), (200, 205));
    assert_eq!(last.start.offset, ASK.len() as u64);
    assert_eq!(last.peer.role, Role::Server);
    assert_eq!(bench.stats.exchange_complete.get(), 2);
}

#[test]
fn a_connection_older_than_the_agent_is_read_from_its_next_request() {
    let mut bench = Bench::new(Config::default());
    bench.open(1, 80, [700, 500]);
    // The rest of an upload, then its answer: neither was asked while anybody looked.
    bench.send(
        1,
        Direction::Ingress,
        0,
        10,
        b"GET-like body bytes {}\r\n\r\n",
    );
    bench.send(1, Direction::Egress, 0, 20, ANSWER);
    bench.send(1, Direction::Ingress, 26, 30, ASK);
    bench.send(1, Direction::Egress, ANSWER.len() as u64, 40, ANSWER);
    let closed = bench.closed();
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].start.offset, 526);
    assert_eq!(closed[0].outcome, Outcome::Complete);
    assert_eq!(bench.stats.exchange_unasked.get(), 1);
    assert!(bench.commands.is_empty());
}

#[test]
fn ports_select() {
    let mut config = Config::default();
    config.selection.ports = vec![80];
    config.selection.exclude_ports = vec![6];
    let mut bench = Bench::new(config);
    bench.open(1, 80, [0, 0]);
    bench.open(2, 81, [0, 0]);
    bench.exchange(1, 0, 100);
    bench.exchange(2, 0, 100);
    assert_eq!(bench.closed().len(), 1);
    assert_eq!(bench.commands, [Command::Mute(ConnectionId(2))]);
    assert_eq!(bench.stats.connection_unselected.get(), 1);
}

#[test]
fn what_nobody_knows_is_muted() {
    let mut bench = Bench::new(Config::default());
    bench.open(1, 80, [0, 0]);
    bench.send(1, Direction::Ingress, 0, 1, b"\xff\xfb\x01\xff\xfb\x03");
    assert!(bench.commands.is_empty());
    bench.send(1, Direction::Egress, 0, 2, b"\xff\xfd\x01\xff\xfd\x03");
    assert_eq!(bench.commands, [Command::Mute(ConnectionId(1))]);
    bench.send(1, Direction::Ingress, 6, 3, ASK);
    assert!(bench.facts.is_empty() && bench.commands.len() == 1);
    // An older connection may be anywhere: it costs its bytes.
    bench.open(2, 80, [9, 9]);
    let mut offset = 0;
    while bench.commands.len() == 1 {
        bench.send(2, Direction::Ingress, offset, 4, &[0; 4096]);
        offset += 4096;
        assert!(offset < 200_000);
    }
    assert_eq!(bench.stats.protocol_unrecognised.get(), 2);
}

#[test]
fn only_an_answer_lifts_the_budget_of_a_look_alike() {
    let mut bench = Bench::new(Config::default());
    bench.open(1, 9000, [0, 0]);
    let ask = b"\x01\x01\0\x01\0\x08\0\0\0\x01\0\0\0\0\0\0\x01\x04\0\x01\0\x05\0\0\x01\x02a11\x01\x04\0\x01\0\0\0\0";
    bench.send(1, Direction::Ingress, 0, 10, ask);
    assert_eq!(bench.commands, []);
    let answer = b"\x01\x06\0\x01\0\x0f\0\0Status: 200\r\n\r\n";
    bench.send(1, Direction::Egress, 0, 20, answer);
    assert_eq!(bench.commands, [Command::Whole(ConnectionId(1))]);
    bench.send(1, Direction::Egress, answer.len() as u64, 30, answer);
    assert_eq!(bench.commands.len(), 1);
}

#[test]
fn a_verdict_that_is_withdrawn_gives_the_budget_back() {
    let mut bench = Bench::new(Config::default());
    bench.open(1, 4222, [0, 0]);
    bench.send(1, Direction::Egress, 0, 10, b"INFO {\"");
    let whole = Command::Whole(ConnectionId(1));
    assert_eq!(bench.commands, [whole]);
    bench.send(1, Direction::Egress, 7, 20, b"\r\n");
    assert_eq!(bench.commands, [whole, Command::Budget(ConnectionId(1))]);
}

#[test]
fn an_upgrade_mutes() {
    let mut bench = Bench::new(Config::default());
    bench.open(1, 80, [0, 0]);
    bench.send(
        1,
        Direction::Ingress,
        0,
        1,
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
    );
    bench.send(
        1,
        Direction::Egress,
        0,
        2,
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(bench.commands, [Command::Mute(ConnectionId(1))]);
    assert_eq!(bench.closed()[0].outcome, Outcome::Upgraded);
}

#[test]
fn silence_is_noticed() {
    const SECOND: Nanos = 1_000_000_000;
    let mut bench = Bench::new(Config::default());
    bench.open(1, 80, [0, 0]);
    bench.send(1, Direction::Ingress, 0, SECOND, ASK);
    bench.tick(200 * SECOND);
    assert!(bench.closed().is_empty());
    bench.tick(302 * SECOND);
    assert_eq!(bench.closed()[0].outcome, Outcome::TimedOut);
    assert_eq!(bench.closed()[0].end, 302 * SECOND);
    // Late, but then the connection is as good as new.
    bench.send(1, Direction::Egress, 0, 303 * SECOND, ANSWER);
    bench.exchange(1, 1, 304 * SECOND);
    assert_eq!(bench.closed().len(), 2);
    assert_eq!(bench.stats.exchange_unasked.get(), 1);
}

#[test]
fn a_websocket_lasts_for_hours() {
    const HOUR: Nanos = 3_600_000_000_000;
    const ASKS: &[u8] = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    const AGREES: &[u8] =
        b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\n";
    let mut bench = Bench::new(Config::default());
    for id in [1, 2] {
        bench.open(id, 80, [0, 0]);
        bench.send(id, Direction::Ingress, 0, 1, ASKS);
        bench.send(id, Direction::Egress, 0, 2, AGREES);
    }
    assert!(bench.commands.is_empty(), "it is read on");
    bench.tick(20 * HOUR);
    assert!(bench.closed().is_empty());
    // Closed by both after twenty hours; the other one is silent for more than a day.
    let (asked, agreed) = (ASKS.len() as u64, AGREES.len() as u64);
    bench.send(1, Direction::Egress, agreed, 20 * HOUR, b"\x88\0");
    let close = b"\x88\x80\0\0\0\0";
    bench.send(1, Direction::Ingress, asked, 21 * HOUR, close);
    bench.tick(25 * HOUR);
    let ends: Vec<_> = bench.closed().iter().map(|e| (e.outcome, e.end)).collect();
    let silent = (Outcome::TimedOut, 2);
    assert_eq!(ends, [(Outcome::Upgraded, 21 * HOUR), silent]);
}

#[test]
fn an_answer_that_breaks_off_times_out() {
    const SECOND: Nanos = 1_000_000_000;
    let mut bench = Bench::new(Config::default());
    bench.open(1, 80, [0, 0]);
    bench.send(1, Direction::Ingress, 0, SECOND, ASK);
    let (most, _) = ANSWER.split_at(ANSWER.len() - 1);
    bench.send(1, Direction::Egress, 0, 2 * SECOND, most);
    bench.tick(200 * SECOND);
    assert!(bench.closed().is_empty());
    bench.tick(303 * SECOND);
    let [exchange] = bench.closed()[..] else {
        panic!("one exchange");
    };
    assert_eq!(exchange.outcome, Outcome::TimedOut);
    assert_eq!(exchange.end, 2 * SECOND);
    assert_eq!(bench.shard.connections(), 1);
}

#[test]
fn an_answer_that_nobody_saw_ends_with_its_last_byte() {
    const SECOND: Nanos = 1_000_000_000;
    let mut bench = Bench::new(Config::default());
    bench.open(1, 80, [0, 0]);
    bench.send(1, Direction::Ingress, 0, SECOND, ASK);
    for (turn, offset) in [(true, 0), (false, 500)] {
        bench.take(&Event::Segment(Segment {
            connection: ConnectionId(1),
            direction: Direction::Egress,
            time: 2 * SECOND,
            offset,
            length: 500,
            bytes: &[],
            tail: &[],
            hole: Some(Hole::NoBuffer),
            turn,
            lost: 0,
            execution: Execution::default(),
        }));
    }
    bench.tick(3 * SECOND);
    assert!(bench.closed().is_empty());
    bench.tick(5 * SECOND);
    let [exchange] = bench.closed()[..] else {
        panic!("one exchange");
    };
    assert_eq!(exchange.outcome, Outcome::Abandoned);
    assert_eq!(exchange.end, 2 * SECOND);
    let unseen = Fault::Missing {
        cause: Hole::NoBuffer,
        bytes: 1000,
    };
    assert_eq!(exchange.faults[..], [unseen]);
}

#[test]
fn of_two_introductions_the_earlier_begin_holds() {
    // The one that received was told of first, or the one that sent.
    let starts = [[ASK.len() as u64, 0], [0, 0]];
    for first in [0, 1] {
        let mut bench = Bench::new(Config::default());
        let address = |port| Address::Inet(([127, 0, 0, 1], port).into());
        for start in [starts[first], starts[1 - first]] {
            bench.introduce_at(1, [address(33000), address(80)], start, [0, 0]);
        }
        bench.send(1, Direction::Egress, 0, 10, ASK);
        bench.send(1, Direction::Ingress, 0, 20, ANSWER);
        assert_eq!(bench.closed().len(), 1);
        assert_eq!(bench.stats.connection_overlapping_bytes.get(), 0);
    }
}

/// A request, and an answer whose record comes behind that of the next request: another thread
/// sent that while the answer was being read.
fn overtaken(bench: &mut Bench) -> Segment<'static> {
    bench.open(1, 33000, [0, 0]);
    bench.send(1, Direction::Egress, 0, 10, ASK);
    let supposed = Segment {
        connection: ConnectionId(1),
        direction: Direction::Ingress,
        time: 20,
        offset: 0,
        length: ANSWER.len() as u32,
        bytes: &[],
        tail: &[],
        hole: Some(Hole::Supposed),
        turn: true,
        lost: 0,
        execution: Execution::default(),
    };
    bench.take(&Event::Segment(supposed));
    bench.send(1, Direction::Egress, ASK.len() as u64, 20, ASK);
    supposed
}

#[test]
fn an_answer_told_late_is_not_taken_for_unseen() {
    let mut bench = Bench::new(Config::default());
    overtaken(&mut bench);
    assert_eq!(bench.shard.withheld(), Some(20));
    bench.send(1, Direction::Ingress, 0, 30, ANSWER);
    bench.send(1, Direction::Ingress, ANSWER.len() as u64, 40, ANSWER);
    let ends: Vec<_> = bench
        .closed()
        .iter()
        .map(|e| (e.end, e.faults.len()))
        .collect();
    assert_eq!(ends, [(30, 0), (40, 0)]);
    assert_eq!(bench.shard.withheld(), None);
}

#[test]
fn an_answer_that_nobody_tells_of_was_unseen() {
    const MILLISECOND: Nanos = 1_000_000;
    // By patience, by what comes behind it, by the connection's end, by the agent's.
    for how in 0..4 {
        let mut bench = Bench::new(Config::default());
        let Segment { length, .. } = overtaken(&mut bench);
        bench.tick(MILLISECOND);
        assert_eq!(bench.shard.withheld(), Some(20));
        match how {
            0 => bench.tick(60 * MILLISECOND),
            1 => bench.send(1, Direction::Ingress, length.into(), 40, ANSWER),
            2 => bench.end(1, 50, Ending::Gone),
            _ => bench.finish(60),
        }
        assert_eq!(bench.shard.withheld(), None);
        if how == 0 {
            // What was supposed has its place: what comes behind it leaves no gap.
            bench.send(1, Direction::Ingress, length.into(), 70, ANSWER);
        }
        bench.finish(80);
        assert_eq!(bench.closed().len(), 2, "{how}");
        assert_eq!(bench.stats.connection_unseen_bytes.get(), 0);
        assert_eq!(bench.stats.connection_overlapping_bytes.get(), 0);
    }
}

#[test]
fn what_waits_for_another_thread_has_a_limit() {
    let mut bench = Bench::new(Config::default());
    overtaken(&mut bench);
    let body = [b'x'; 16 * 1024];
    let mut offset = 2 * ASK.len() as u64;
    for _ in 0..20 {
        bench.send(1, Direction::Egress, offset, 20, &body);
        offset += body.len() as u64;
    }
    assert_eq!(bench.shard.withheld(), None);
}

#[test]
fn silence_ends_a_unix_connection() {
    const SECOND: Nanos = 1_000_000_000;
    let mut bench = Bench::new(Config::default());
    let unix = || [Address::Unix(None), Address::Unix(None)];
    for id in [1, 2, 3] {
        bench.introduce(id, unix(), [0, 0]);
        bench.send(id, Direction::Ingress, 0, SECOND, ASK);
    }
    let until_closed = b"HTTP/1.0 200 OK\r\n\r\nbody";
    bench.send(1, Direction::Egress, 0, 2 * SECOND, until_closed);
    bench.send(2, Direction::Egress, 0, 2 * SECOND, ANSWER);
    bench.tick(100 * SECOND);
    assert_eq!(bench.closed().len(), 1);
    bench.tick(303 * SECOND);
    let ended = |e: &&Exchange| (e.peer.connection.0, e.outcome, e.end / SECOND);
    let mut closed: Vec<_> = bench.closed().iter().map(ended).collect();
    closed.sort_unstable_by_key(|&(id, ..)| id);
    let expected = [
        (1, Outcome::Complete, 2),
        (2, Outcome::Complete, 2),
        (3, Outcome::TimedOut, 303),
    ];
    assert_eq!(closed, expected);
    assert_eq!(bench.shard.connections(), 0);
    assert_eq!(bench.stats.connection_expired.get(), 3);
    // Used again, it is as good as new.
    bench.send(2, Direction::Ingress, ASK.len() as u64, 400 * SECOND, ASK);
    assert_eq!(bench.commands, [Command::Introduce(ConnectionId(2))]);
    // It comes back in the middle of something, and with offsets of its own.
    bench.introduce(2, unix(), [0, 0]);
    bench.send(2, Direction::Ingress, 0, 401 * SECOND, b"the rest of it");
    bench.send(2, Direction::Egress, 0, 402 * SECOND, b"no answer");
    bench.send(2, Direction::Ingress, 14, 403 * SECOND, ASK);
    bench.send(2, Direction::Egress, 9, 404 * SECOND, ANSWER);
    let last = bench.closed().len() - 1;
    assert_eq!((last, bench.closed()[last].key), (3, None));
}

#[test]
fn a_full_table_gives_up_a_connection_and_its_exchange() {
    let mut bench = Bench::new(Config::default());
    for id in 0..5 {
        bench.open(id, 80, [0, 0]);
        bench.send(id, Direction::Ingress, 0, 10, ASK);
    }
    assert_eq!(bench.stats.connection_evicted.get(), 1);
    assert_eq!(bench.closed()[0].outcome, Outcome::Abandoned);
    assert_eq!(bench.shard.connections(), 4);
}

#[test]
fn heads_that_never_end_have_a_limit() {
    let mut config = Config::default();
    config.capture.exchange_timeout = Duration::from_secs(9);
    let mut bench = Bench::new(config);
    bench.shard = Shard::new(
        0,
        10_000,
        Arc::clone(&bench.shard.config),
        Arc::clone(&bench.stats),
    );
    let head = [&b"GET / HTTP/1.1\r\nA: "[..], &[b'x'; 16_000]].concat();
    for id in 0..2000 {
        bench.open(id, 80, [0, 0]);
        bench.send(id, Direction::Ingress, 0, 10, &head);
    }
    assert!(bench.shard.held <= MAX_HELD);
    let evicted = bench.stats.connection_evicted.get();
    assert_eq!(bench.commands, []);
    assert_eq!(evicted, 2000 - bench.shard.table.len() as u64);
    assert!(bench.shard.table.len() * (head.len() + 200) > MAX_HELD);
    // Those that have held theirs for longest had to go.
    assert!(bench.shard.table.get(ConnectionId(0)).is_none());
    assert!(bench.shard.table.get(ConnectionId(1999)).is_some());
    bench.tick(20_000_000_000);
    assert_eq!(bench.shard.held, 0);
    assert_eq!(bench.stats.connection_evicted.get(), 2000);
}

#[test]
fn shards_share_what_may_be_held() {
    let mut bench = Bench::new(Config::default());
    bench.shard = Shard::one_of(
        4,
        0,
        Arc::clone(&bench.shard.config),
        Arc::clone(&bench.stats),
    );
    // A byte at a time: the account of them is larger than they are.
    for id in 0..600 {
        bench.open(id, 80, [0, 0]);
        for (at, byte) in b"GET / HTTP/1.1\r\nA: "
            .iter()
            .cycle()
            .take(300)
            .enumerate()
        {
            bench.send(id, Direction::Ingress, at as u64, 10, &[*byte]);
        }
    }
    assert!(bench.shard.held <= MAX_HELD / 4);
    assert!(bench.stats.connection_evicted.get() > 0);
    // What was held once and is no more leaves nothing behind.
    let (one, two) = ASK.split_at(ASK.len() / 2);
    for id in [10_000, 10_001] {
        bench.open(id, 80, [0, 0]);
        for round in 0..1000 {
            let start = round * ASK.len() as u64;
            bench.send(id, Direction::Ingress, start, 20, one);
            bench.send(id, Direction::Ingress, start + one.len() as u64, 20, two);
        }
    }
    assert!(bench.shard.holders.len() <= 2 * bench.shard.table.len() + 65);
}

#[test]
fn exchanges_that_nobody_answers_have_a_limit() {
    let mut config = Config::default();
    config.limits.text_length = 8000;
    let mut bench = Bench::new(config);
    bench.shard = Shard::new(
        0,
        10_000,
        Arc::clone(&bench.shard.config),
        Arc::clone(&bench.stats),
    );
    let long = "a".repeat(7900);
    let ask = format!("GET /{long}?{long} HTTP/1.1\r\nUser-Agent: {long}\r\n\r\n");
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    for id in 0..400 {
        bench.open(id, 80, [0, 0]);
        for round in 0..15 {
            let (asked, told) = (round * ask.len() as u64, round * interim.len() as u64);
            bench.send(id, Direction::Ingress, asked, 10, ask.as_bytes());
            bench.send(id, Direction::Egress, told, 10, interim);
            assert!(bench.shard.held <= MAX_HELD);
        }
    }
    // The exchanges went, oldest holder first, and the connections stayed.
    assert_eq!(bench.stats.connection_evicted.get(), 0);
    assert_eq!(bench.shard.connections(), 400);
    let evicted = bench.stats.exchange_evicted.get();
    assert_eq!(evicted, bench.closed().len() as u64);
    assert!(evicted > 0 && evicted < 400 * 15);
    let first = bench.closed()[0];
    assert_eq!(first.peer.connection, ConnectionId(0));
    assert_eq!(first.outcome, Outcome::Abandoned);
    // Late answers go to nobody, and are not given to what is asked after them.
    let start = 15 * interim.len() as u64;
    for round in 0..15 {
        let told = start + round * ANSWER.len() as u64;
        bench.send(0, Direction::Egress, told, 20, ANSWER);
    }
    assert_eq!(bench.closed().len() as u64, evicted);
    let asked = 15 * ask.len() as u64;
    let told = start + 15 * ANSWER.len() as u64;
    bench.send(0, Direction::Ingress, asked, 30, ASK);
    bench.send(0, Direction::Egress, told, 40, ANSWER);
    assert_eq!(bench.stats.exchange_complete.get(), 1);
    // Those that ask without end go themselves.
    for round in 15..600 {
        let asked = round * ask.len() as u64;
        bench.send(399, Direction::Ingress, asked, 50, ask.as_bytes());
        bench.send(1, Direction::Ingress, asked, 50, ask.as_bytes());
        assert!(bench.shard.held <= MAX_HELD);
    }
    assert!(bench.stats.connection_evicted.get() > 0);
    for id in 0..400 {
        bench.end(id, 60, Ending::Gone);
    }
    assert_eq!(bench.shard.held, 0);
    assert_eq!(
        bench.stats.exchange_opened.get(),
        bench.closed().len() as u64
    );
}

#[test]
fn what_is_held_is_counted_whatever_ends_it() {
    const SECOND: Nanos = 1_000_000_000;
    let mut bench = Bench::new(Config::default());
    for id in 0..3 {
        bench.open(id, 80, [0, 0]);
        bench.send(id, Direction::Ingress, 0, SECOND, ASK);
    }
    assert!(bench.shard.held > 3 * ASK.len());
    bench.send(0, Direction::Egress, 0, SECOND, ANSWER);
    bench.end(1, SECOND, Ending::Error(104));
    bench.tick(400 * SECOND);
    assert_eq!(bench.closed().len(), 3);
    for id in 0..3 {
        bench.end(id, 401 * SECOND, Ending::Gone);
    }
    assert_eq!(bench.shard.held, 0);
}

#[test]
fn three_hundred_pipelined_requests_are_three_hundred_exchanges() {
    let mut bench = Bench::new(Config::default());
    bench.open(1, 80, [0, 0]);
    for round in 0..300 {
        let asked = round * ASK.len() as u64;
        bench.send(1, Direction::Ingress, asked, 10, ASK);
    }
    let answers = ANSWER.repeat(300);
    bench.send(1, Direction::Egress, 0, 20, &answers);
    assert_eq!(bench.closed().len(), 300);
    assert_eq!(bench.stats.exchange_complete.get(), 300);
    assert!(bench.stats.losses().iter().all(|&(_, count)| count == 0));
    assert_eq!(bench.shard.held, 0);
}

#[test]
fn the_unknown_is_counted_and_its_introduction_asked_for() {
    const SECOND: Nanos = 1_000_000_000;
    let introduce = Command::Introduce(ConnectionId(9));
    let mut bench = Bench::new(Config::default());
    bench.exchange(9, 0, 1);
    assert_eq!(bench.stats.connection_unknown.get(), 2);
    assert_eq!(bench.commands, [introduce]);
    // The kernel side does as it was asked: nothing is held against the connection.
    bench.open(9, 80, [700, 500]);
    bench.exchange(9, 0, 2);
    assert_eq!(bench.closed().len(), 1);
    // It does not: after a while the connection is muted, and that is said again when needed.
    let mute = Command::Mute(ConnectionId(8));
    let introduce = Command::Introduce(ConnectionId(8));
    for second in 0..60 {
        bench.exchange(8, second, second * SECOND / 10);
    }
    assert_eq!(
        bench.commands[1..],
        [introduce, introduce, introduce, mute, mute, mute]
    );
}

#[test]
fn introductions_are_asked_for_within_bounds() {
    let mut bench = Bench::new(Config::default());
    for id in 0..5000 {
        bench.exchange(id, 0, 1);
    }
    assert_eq!(bench.commands.len(), 1024);
    assert_eq!(bench.stats.connection_unknown.get(), 10_000);
}

#[test]
fn what_is_left_alone_costs_nobody_a_place() {
    let mut config = Config::default();
    config.selection.exclude_ports = vec![6];
    let mut bench = Bench::new(config);
    for id in 0..4 {
        bench.open(id, 80, [0, 0]);
    }
    for id in 4..100 {
        bench.open(id, 6, [0, 0]);
    }
    for id in 0..4 {
        bench.exchange(id, 0, 100);
    }
    assert_eq!(bench.closed().len(), 4);
    assert_eq!(bench.stats.connection_evicted.get(), 0);
    // The kernel side forgot that one of them is muted.
    let told = bench.commands.len();
    bench.exchange(99, 0, 500_000_000);
    assert_eq!(bench.commands.len(), told);
    bench.exchange(99, 1, 1_500_000_000);
    assert_eq!(bench.commands[told..], [Command::Mute(ConnectionId(99))]);
}

#[test]
fn what_was_evicted_comes_back() {
    let mut bench = Bench::new(Config::default());
    for id in 0..5 {
        bench.open(id, 80, [0, 0]);
    }
    assert_eq!(bench.stats.connection_evicted.get(), 1);
    assert_eq!(bench.commands, []);
    for id in 0..5 {
        bench.exchange(id, 0, 100);
    }
    let [Command::Introduce(gone)] = bench.commands[..] else {
        panic!("{:?}", bench.commands);
    };
    bench.open(gone.0, 80, [ASK.len() as u64, ANSWER.len() as u64]);
    bench.exchange(gone.0, 0, 200);
    assert_eq!(bench.closed().len(), 5);
}

#[test]
fn what_is_gone_is_forgotten() {
    let mut bench = Bench::new(Config::default());
    bench.open(1, 80, [0, 0]);
    bench.send(1, Direction::Ingress, 0, 10, ASK);
    bench.end(1, 20, Ending::Error(104));
    assert_eq!(
        bench.closed()[0].outcome,
        Outcome::Broken(Ending::Error(104))
    );
    assert_eq!(bench.closed()[0].end, 20);
    bench.end(1, 21, Ending::Gone);
    assert_eq!(bench.shard.connections(), 0);
}

#[test]
fn stopping_closes_what_is_open() {
    let mut bench = Bench::new(Config::default());
    bench.open(1, 80, [0, 0]);
    bench.send(1, Direction::Ingress, 0, 10, ASK);
    bench.finish(99);
    assert_eq!(bench.closed()[0].outcome, Outcome::Abandoned);
}

/// A client's hello that offers TLS 1.2, with nothing else in it.
fn client_hello() -> Vec<u8> {
    let mut hello = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03".to_vec();
    hello.extend([7; 32]);
    hello.extend(b"\x00\x00\x02\xc0\x2f\x01\x00");
    hello
}

/// A server's hello of TLS 1.3.
fn server_hello() -> Vec<u8> {
    let mut hello = b"\x16\x03\x03\x00\x32\x02\x00\x00\x2e\x03\x03".to_vec();
    hello.extend([8; 32]);
    hello.extend(b"\x00\x13\x01\x00\x00\x06\x00\x2b\x00\x02\x03\x04");
    hello
}

/// With kTLS the calls after the hellos carry plaintext: it is no HTTP without TLS.
#[test]
fn what_went_on_encrypted_is_never_taken_up_again() {
    let mut bench = Bench::new(Config::default());
    bench.open(1, 443, [0, 0]);
    let (ask, answer) = (client_hello(), server_hello());
    bench.send(1, Direction::Ingress, 0, 1, &ask);
    assert!(bench.commands.is_empty());
    bench.send(1, Direction::Egress, 0, 2, &answer);
    assert_eq!(bench.commands, [Command::Mute(ConnectionId(1))]);
    let counts = |bench: &Bench| {
        let stats = &bench.stats;
        (
            stats.protocol_encrypted.get(),
            stats.protocol_unrecognised.get(),
        )
    };
    assert_eq!(counts(&bench), (1, 0));
    let (asked, answered) = (ask.len() as u64, answer.len() as u64);
    for (at, time) in [(0, 3), (27, 5_000_000_000)] {
        bench.send(1, Direction::Ingress, asked + at, time, ASK);
        bench.send(1, Direction::Egress, answered, time, ANSWER);
    }
    // Even where it was forgotten that it was left, and is introduced anew.
    bench.shard.apart = Apart::new(4);
    bench.send(1, Direction::Ingress, asked + 54, 9_000_000_000, ASK);
    assert_eq!(
        bench.commands.last(),
        Some(&Command::Introduce(ConnectionId(1)))
    );
    bench.open(1, 443, [asked + 81, answered]);
    assert_eq!(bench.commands.last(), Some(&Command::Mute(ConnectionId(1))));
    bench.send(1, Direction::Ingress, asked + 81, 9_000_000_001, ASK);
    assert_eq!(bench.shard.connections(), 0);
    assert!(bench.facts.is_empty());
    assert_eq!(counts(&bench), (1, 0));
}

#[test]
fn a_handshake_that_nobody_answers_is_an_exchange() {
    for how in ["closed", "silent", "lost"] {
        let mut bench = Bench::new(Config::default());
        bench.open(1, 443, [0, 0]);
        bench.send(1, Direction::Egress, 0, 10, &client_hello());
        assert!(bench.facts.is_empty());
        if how == "silent" {
            let now = nanos(Config::default().capture.exchange_timeout) + 20;
            let mut out = Out {
                facts: &mut bench.facts,
                commands: &mut bench.commands,
            };
            bench.shard.tick(now.max(nanos(LOOK_EVERY) + 1), &mut out);
        }
        bench.take(&Event::End(End {
            connection: ConnectionId(1),
            time: 30,
            ending: Ending::Eof,
            lost: u32::from(how == "lost"),
        }));
        bench.take(&Event::End(End {
            connection: ConnectionId(1),
            time: 40,
            ending: Ending::Gone,
            lost: 0,
        }));
        let outcomes: Vec<_> = bench.closed().iter().map(|e| e.outcome).collect();
        let expected: &[Outcome] = match how {
            "closed" => &[Outcome::Broken(Ending::Eof)],
            "silent" => &[Outcome::TimedOut],
            _ => &[],
        };
        assert_eq!(outcomes, expected, "{how}");
    }
}

#[test]
fn a_line_that_was_put_into_the_first_request_is_none_of_its_bytes() {
    let mut bench = Bench::new(Config::default());
    let address = |port| Address::Inet(([127, 0, 0, 1], port).into());
    bench.take(&Event::Carried(Carried {
        connection: ConnectionId(1),
        direction: Direction::Egress,
        offset: 70,
        line: 70,
        time: 1,
        trace: [1; 16],
        flags: None,
        named: true,
        source: Source::Made,
    }));
    // TCP has counted it, and so has the other side.
    bench.introduce_at(1, [address(5), address(80)], [70, 0], [0, 0]);
    for round in 0..2 {
        let (asked, answered) = (round * ASK.len(), round * ANSWER.len());
        bench.send(1, Direction::Egress, 70 + asked as u64, 100, ASK);
        bench.send(1, Direction::Ingress, answered as u64, 105, ANSWER);
    }
    let keys = bench.closed().into_iter().map(|exchange| exchange.key);
    let offsets: Vec<u64> = keys.map(|key| key.expect("it has one").offset).collect();
    assert_eq!(offsets, [0, 70 + ASK.len() as u64]);
    let told = bench.facts.iter().find_map(|fact| match fact {
        Fact::Carried(carried) => Some(carried.offset),
        _ => None,
    });
    assert_eq!(told, Some(0));
    assert!(bench.stats.losses().iter().all(|(_, count)| *count == 0));
}

#[test]
fn who_serves_by_datagrams_is_told_once() {
    // RFC 1035, 4.1: a query for the address of `a`.
    let query = |id: u8| [0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
    let mut bench = Bench::new(Config::default());
    let address = |port| Address::Inet(([127, 0, 0, 1], port).into());
    bench.take(&Event::Open(Open {
        datagrams: true,
        ..opened(1, [address(53), address(5)])
    }));
    for (id, offset) in [(1, 0), (2, 19)] {
        bench.send(1, Direction::Ingress, offset, 5, &query(id));
    }
    assert_eq!(bench.commands, [Command::Serves(0)]);
    // Over TCP that shows.
    let mut bench = Bench::new(Config::default());
    bench.open(1, 80, [0, 0]);
    bench.exchange(1, 0, 10);
    assert_eq!((bench.commands.len(), bench.closed().len()), (0, 1));
}
