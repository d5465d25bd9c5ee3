//! The way from events to facts: one shard, many keep-alive connections, two events an exchange.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spantap::config::Config;
use spantap::event::{
    Address, ConnectionId, Direction, Ends, Event, Execution, Open, Role, Segment,
};
use spantap::exchange::Fact;
use spantap::pipeline::shard::{Out, Shard};
use spantap::stats::Stats;

const CONNECTIONS: u64 = 1000;
const ROUNDS: u64 = 10;

const PLAIN: &[u8] = b"GET /cart/items/42?currency=EUR HTTP/1.1\r\nHost: shop.example:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\
    Connection: keep-alive\r\n\r\n";
const TRACED: &[u8] = b"GET /cart/items/42?currency=EUR HTTP/1.1\r\nHost: shop.example:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\
    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21 Nov 2026 05:00:00 GMT\
    \r\nContent-Type: application/json\r\nContent-Length: 13\r\nConnection: keep-alive\r\n\r\n\
    {\"total\": 42}";

fn open(id: u64) -> Event<'static> {
    let address = |port| Address::Inet(([127, 0, 0, 1], port).into());
    Event::Open(Open {
        connection: ConnectionId(id),
        time: 1,
        process: 1,
        comm: "nginx".into(),
        local: address(8080),
        remote: address(40_000),
        role: Some(Role::Server),
        ends: Some(Ends { own: id, peer: !id }),
        base: [0, 0],
    })
}

fn segment(id: u64, direction: Direction, offset: u64, time: u64, bytes: &[u8]) -> Event<'_> {
    Event::Segment(Segment {
        connection: ConnectionId(id),
        direction,
        time,
        offset,
        length: bytes.len() as u32,
        bytes,
        tail: &[],
        hole: None,
        turn: true,
        part: false,
        lost: 0,
        execution: Execution::default(),
    })
}

/// The rounds of every connection, taken in turns, so that none is warm by chance.
fn script(request: &'static [u8]) -> Vec<Event<'static>> {
    let mut events = Vec::new();
    for round in 0..ROUNDS {
        for id in 0..CONNECTIONS {
            let time = round * 1_000_000 + id * 100 + 10;
            let asked = round * request.len() as u64;
            let answered = round * ANSWER.len() as u64;
            events.push(segment(id, Direction::Ingress, asked, time, request));
            events.push(segment(id, Direction::Egress, answered, time + 50, ANSWER));
        }
    }
    events
}

fn run(events: &[Event<'_>], config: &Arc<Config>, stats: &Arc<Stats>) -> usize {
    let mut shard = Shard::new(0, 65_536, Arc::clone(config), Arc::clone(stats));
    let (mut facts, mut commands) = (Vec::with_capacity(256), Vec::new());
    let mut closed = 0;
    for id in 0..CONNECTIONS {
        let mut out = Out {
            facts: &mut facts,
            commands: &mut commands,
        };
        shard.take(&open(id), &mut out);
    }
    for event in events {
        let mut out = Out {
            facts: &mut facts,
            commands: &mut commands,
        };
        shard.take(black_box(event), &mut out);
        if facts.len() >= 128 {
            closed += facts
                .drain(..)
                .filter(|f| matches!(f, Fact::Closed(_)))
                .count();
        }
    }
    closed
        + facts
            .iter()
            .filter(|f| matches!(f, Fact::Closed(_)))
            .count()
}

fn pipeline(c: &mut Criterion) {
    let config = Arc::new(Config::default());
    let stats = Arc::new(Stats::default());
    let mut group = c.benchmark_group("events_to_facts");
    group.throughput(Throughput::Elements(CONNECTIONS * ROUNDS));
    for (name, request) in [("plain", PLAIN), ("traceparent", TRACED)] {
        let events = script(request);
        group.bench_function(name, |b| {
            b.iter(|| {
                let closed = run(&events, &config, &stats);
                assert_eq!(closed as u64, CONNECTIONS * ROUNDS);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
