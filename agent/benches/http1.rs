//! The HTTP/1 parser on its own: how fast heads become messages.
//!
//! `head/typical` is one 200-byte request, `head/*_64k` are heads near the limit: few long headers
//! (cookies) and many short ones.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use spantap::config::Config;
use spantap::connection::stream::Stream;
use spantap::event::{ConnectionId, Direction, Execution, Role, Segment};
use spantap::protocol::http1::PROTOCOL;
use spantap::protocol::{Feed, Flow, Setup};
use spantap::stats::Stats;

fn head(lines: usize, value: usize) -> Vec<u8> {
    let mut head = b"GET /cart/items/42?currency=EUR HTTP/1.1\r\nHost: shop.example:8080\r\n\
        User-Agent: curl/8.5.0\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
        .to_vec();
    for n in 0..lines {
        head.extend(format!("X-Filler-{n:04}: {}\r\n", "v".repeat(value)).bytes());
    }
    head.extend(b"\r\n");
    head
}

fn parse(head: &[u8], portion: usize, config: &Arc<Config>, stats: &Stats) -> usize {
    let setup = Setup {
        role: Role::Server,
        config: Arc::clone(config),
    };
    let mut parser = PROTOCOL.parser(setup);
    let mut stream = Stream::new(0);
    let mut out = Vec::with_capacity(4);
    let mut offset = 0;
    for part in head.chunks(portion) {
        let segment = Segment {
            connection: ConnectionId(1),
            direction: Direction::Ingress,
            time: 1,
            offset,
            length: part.len() as u32,
            bytes: part,
            tail: &[],
            hole: None,
            turn: offset == 0,
            part: false,
            lost: 0,
            execution: Execution::default(),
        };
        offset += part.len() as u64;
        stream.push(&segment, 0, stats);
        let mut feed = Feed {
            stream: &mut stream,
            out: &mut out,
            stats,
        };
        let _ = black_box(parser.parse(Flow::Request, &mut feed));
    }
    assert_eq!(out.len(), 2);
    out.len()
}

fn heads(c: &mut Criterion) {
    let config = Arc::new(Config::default());
    let stats = Stats::default();
    let mut group = c.benchmark_group("head");
    for (name, head) in [
        ("typical", head(1, 50)),
        ("cookies_64k", head(15, 4200)),
        ("long_values_64k", head(120, 500)),
        ("short_values_64k", head(1000, 45)),
    ] {
        assert!(head.len() <= 64 * 1024, "{name}: {}", head.len());
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |b| {
            b.iter_batched(
                || (),
                |()| parse(black_box(&head), 16 * 1024, &config, &stats),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn sniff(c: &mut Criterion) {
    let head = head(1, 50);
    c.bench_function("sniff", |b| b.iter(|| PROTOCOL.sniff(black_box(&head))));
}

criterion_group!(benches, heads, sniff);
criterion_main!(benches);
