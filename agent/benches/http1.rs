//! The HTTP/1 parser on its own: how fast heads become messages.
//!
//! `keep_alive/typical` is a 200-byte request and the shortest answer to it on a connection that
//! stays; `head/*_64k` are heads near the limit: few long headers (cookies) and many short ones.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use spantap::config::Config;
use spantap::connection::stream::Stream;
use spantap::event::{ConnectionId, Direction, Execution, Role, Segment};
use spantap::protocol::http1::PROTOCOL;
use spantap::protocol::{Feed, Flow, Message, Parser, Setup};
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

/// A connection that nothing has been said on.
type Fresh = (Box<dyn Parser>, Stream, Vec<Message>);

fn fresh(config: &Arc<Config>) -> Fresh {
    let setup = Setup {
        role: Role::Server,
        secure: false,
        process: 1,
        counted: true,
        config: Arc::clone(config),
        shared: Arc::default(),
    };
    (
        PROTOCOL.parser(setup),
        Stream::new(0),
        Vec::with_capacity(4),
    )
}

fn segment(offset: u64, bytes: &[u8], turn: bool) -> Segment<'_> {
    Segment {
        connection: ConnectionId(1),
        direction: Direction::Ingress,
        time: 1,
        offset,
        length: bytes.len() as u32,
        bytes,
        tail: &[],
        hole: None,
        turn,
        lost: 0,
        execution: Execution::default(),
    }
}

fn parse(head: &[u8], portion: usize, fresh: Fresh, stats: &Stats) -> Fresh {
    let (mut parser, mut stream, mut out) = fresh;
    let mut offset = 0;
    for part in head.chunks(portion) {
        let segment = segment(offset, part, offset == 0);
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
    (parser, stream, out)
}

fn heads(c: &mut Criterion) {
    let config = Arc::new(Config::default());
    let stats = Stats::default();
    let mut group = c.benchmark_group("head");
    for (name, head) in [
        ("cookies_64k", head(15, 4200)),
        ("long_values_64k", head(120, 500)),
        ("short_values_64k", head(1000, 45)),
    ] {
        assert!(head.len() <= 64 * 1024, "{name}: {}", head.len());
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |b| {
            b.iter_batched(
                || fresh(&config),
                |fresh| parse(black_box(&head), 16 * 1024, fresh, &stats),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn keep_alive(c: &mut Criterion) {
    let config = Arc::new(Config::default());
    let stats = Stats::default();
    let ask = head(1, 50);
    let answer = b"HTTP/1.1 204 No\r\n\r\n";
    let (mut parser, mut asked, mut out) = fresh(&config);
    let mut answered = Stream::new(0);
    let mut group = c.benchmark_group("keep_alive");
    group.throughput(Throughput::Bytes((ask.len() + answer.len()) as u64));
    group.bench_function("typical", |b| {
        b.iter(|| {
            for (flow, stream, bytes) in [
                (Flow::Request, &mut asked, &ask[..]),
                (Flow::Response, &mut answered, &answer[..]),
            ] {
                stream.push(&segment(stream.end(), black_box(bytes), true), 0, &stats);
                let mut feed = Feed {
                    stream,
                    out: &mut out,
                    stats: &stats,
                };
                let _ = black_box(parser.parse(flow, &mut feed));
            }
            assert_eq!(out.len(), 4);
            out.clear();
        });
    });
    group.finish();
}

fn sniff(c: &mut Criterion) {
    let head = head(1, 50);
    c.bench_function("sniff", |b| b.iter(|| PROTOCOL.sniff(black_box(&head))));
}

criterion_group!(benches, heads, keep_alive, sniff);
criterion_main!(benches);
