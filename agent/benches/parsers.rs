//! Parsers of protocols of small messages: how fast commands become messages, question by question
//! and many at once.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spantap::config::Config;
use spantap::connection::stream::Stream;
use spantap::event::{ConnectionId, Direction, Execution, Role, Segment};
use spantap::protocol::{Feed, Flow, Protocol, Setup, memcached, redis};
use spantap::stats::Stats;

/// A dialogue of one turn each, said over and over.
fn play(c: &mut Criterion, name: &str, protocol: &dyn Protocol, ask: &[u8], answer: &[u8]) {
    let mut group = c.benchmark_group(name);
    for deep in [1, 100] {
        let (asks, answers) = (ask.repeat(deep), answer.repeat(deep));
        let setup = Setup {
            role: Role::Server,
            secure: false,
            config: Arc::new(Config::default()),
        };
        let mut parser = protocol.parser(setup);
        let mut streams = [Stream::new(0), Stream::new(0)];
        let (stats, mut out, mut time) = (Stats::default(), Vec::new(), 0);
        group.throughput(Throughput::Elements(deep as u64));
        group.bench_function(format!("{deep}"), |b| {
            b.iter(|| {
                time += 1;
                for (flow, stream, bytes) in [Flow::Request, Flow::Response]
                    .into_iter()
                    .zip(&mut streams)
                    .zip([&asks, &answers])
                    .map(|((flow, stream), bytes)| (flow, stream, bytes))
                {
                    let segment = Segment {
                        connection: ConnectionId(1),
                        direction: Direction::Ingress,
                        time,
                        offset: stream.end(),
                        length: bytes.len() as u32,
                        bytes,
                        tail: &[],
                        hole: None,
                        turn: true,
                        lost: 0,
                        execution: Execution::default(),
                    };
                    stream.push(black_box(&segment), 0, &stats);
                    let mut feed = Feed {
                        stream,
                        out: &mut out,
                        stats: &stats,
                    };
                    let _ = black_box(parser.parse(flow, &mut feed));
                }
                assert_eq!(out.len(), 4 * deep);
                out.clear();
            });
        });
    }
    group.finish();
}

fn parsers(c: &mut Criterion) {
    let get = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000001234\r\n";
    play(c, "redis/get", redis::PROTOCOL, get, b"$3\r\nxxx\r\n");
    let set = b"*3\r\n$3\r\nset\r\n$16\r\nkey:000000001234\r\n$3\r\nxxx\r\n";
    play(c, "redis/set", redis::PROTOCOL, set, b"+OK\r\n");
    let get = b"get key:000000001234\r\n";
    let value = b"VALUE key:000000001234 0 3\r\nxxx\r\nEND\r\n";
    play(c, "memcached/get", memcached::PROTOCOL, get, value);
}

criterion_group!(benches, parsers);
criterion_main!(benches);
