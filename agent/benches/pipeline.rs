//! The whole of user space on one thread, from the bytes of records as the rings give them to the
//! bytes of OTLP requests: decode, follow, parse, pair, link, sample, build, redact and limit,
//! encode. Many keep-alive connections in turns, so that none is warm by chance; a server's records
//! alone, or both ends of each connection, which are linked by their stream key.
//!
//! `records_to_otlp` is the whole; `records_to_facts` and `events_to_facts` are its first parts, and
//! the benchmarks `link` and `export` have the others. Left out are waiting, hand-over between
//! threads, the look-up of a process's resource, and sending. The time is the thread's own, so that
//! a busy machine disturbs it less.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use agent_ebpf::abi::{AF_INET, EGRESS, INGRESS, Kind, flag};
use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use spantap::config::Config;
use spantap::event::Event;
use spantap::event::clock::Clock;
use spantap::event::decode::decode;
use spantap::exchange::Fact;
use spantap::export::otlp::encode;
use spantap::pipeline::shard::{Command, Out, Shard};
use spantap::policy::{Policy, Sampler};
use spantap::span::{Builder, Resource, Span};
use spantap::stats::Stats;
use spantap::trace::{Ids, Linked, Linker, Settings};

const CONNECTIONS: u64 = 1000;
const ROUNDS: u64 = 10;
/// Records a reader takes before it hands facts over: about what 4 ms bring at 10,000 exchanges/s.
const DRAIN: usize = 128;
/// Spans of one export request, as OTEL_BSP_MAX_EXPORT_BATCH_SIZE has it.
const BATCH: usize = 512;

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

/// One end of the connections: whose it is, and how its connections are numbered.
#[derive(Clone, Copy)]
struct Side {
    process: u32,
    first: u64,
    client: bool,
}

const SERVER: Side = Side {
    process: 1,
    first: 0,
    client: false,
};
const CLIENT: Side = Side {
    process: 2,
    first: 1 << 32,
    client: true,
};

/// The bytes of a record: fields in the order of `agent_ebpf::abi`, in this machine's byte order.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u8s(mut self, fields: &[u8]) -> Self {
        self.0.extend(fields);
        self
    }

    fn u16s(mut self, fields: &[u16]) -> Self {
        self.0
            .extend(fields.iter().flat_map(|field| field.to_ne_bytes()));
        self
    }

    fn u32s(mut self, fields: &[u32]) -> Self {
        self.0
            .extend(fields.iter().flat_map(|field| field.to_ne_bytes()));
        self
    }

    fn u64s(mut self, fields: &[u64]) -> Self {
        self.0
            .extend(fields.iter().flat_map(|field| field.to_ne_bytes()));
        self
    }
}

/// [`agent_ebpf::abi::Open`] of a connection on which nothing was said yet: ports and initial
/// sequence numbers tell which it is, on both ends.
fn open(side: Side, id: u64) -> Vec<u8> {
    let ends = [(40_000 + id % 20_000) as u16, 8080];
    let (local, remote) = if side.client {
        (ends[0], ends[1])
    } else {
        (ends[1], ends[0])
    };
    let numbers = [id as u32 * 7 + 1, id as u32 * 13 + 5];
    let (own, peer) = if side.client {
        (numbers[0], numbers[1])
    } else {
        (numbers[1], numbers[0])
    };
    let loopback = [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let syn = u64::from(side.client);
    Bytes::default()
        .u32s(&[Kind::Open as u32, side.process])
        .u64s(&[side.first + id, 1, 1, 0])
        .u32s(&[1])
        .u16s(&[AF_INET, 6])
        .u8s(&loopback)
        .u8s(&loopback)
        .u16s(&[local, remote])
        .u8s(&[1, 1, INGRESS, 0])
        .u32s(&[own, peer, own, own, peer, 0])
        .u64s(&[syn, 0, 0, 0])
        .u8s(b"nginx\0\0\0\0\0\0\0\0\0\0\0")
        .0
}

/// [`agent_ebpf::abi::Segment`] and its payload.
fn segment(side: Side, id: u64, direction: u8, offset: u64, time: u64, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    Bytes::default()
        .u32s(&[Kind::Segment as u32])
        .u8s(&[direction, flag::TURN, 0, 0])
        .u64s(&[side.first + id, time, offset])
        .u32s(&[length, length, side.process, side.process])
        .u32s(&[0, 0])
        .u8s(payload)
        .0
}

/// Records by their times: all connections opened, then their rounds in turns.
fn script(request: &[u8], sides: &[Side]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let opens = sides
        .iter()
        .flat_map(|&side| (0..CONNECTIONS).map(move |id| open(side, id)))
        .collect();
    let mut records = Vec::new();
    for round in 0..ROUNDS {
        for id in 0..CONNECTIONS {
            let time = (round * CONNECTIONS + id) * 100_000 + 1_000;
            let asked = round * request.len() as u64;
            let answered = round * ANSWER.len() as u64;
            // A client begins before its server and ends after it.
            for &side in sides {
                let (way, at) = if side.client {
                    (EGRESS, time - 10)
                } else {
                    (INGRESS, time)
                };
                records.push((at, segment(side, id, way, asked, at, request)));
                let (way, at) = if side.client {
                    (INGRESS, time + 60)
                } else {
                    (EGRESS, time + 50)
                };
                records.push((at, segment(side, id, way, answered, at, ANSWER)));
            }
        }
    }
    records.sort_by_key(|(at, _)| *at);
    (
        opens,
        records.into_iter().map(|(_, record)| record).collect(),
    )
}

/// The stages, as the pipeline's threads have them.
struct Stages {
    shard: Shard,
    facts: Vec<Fact>,
    commands: Vec<Command>,
    linker: Linker,
    linked: Vec<Linked>,
    sampler: Sampler,
    builder: Builder,
    policy: Policy,
    clock: Clock,
    resource: Arc<Resource>,
    spans: Vec<Span>,
    /// Spans and bytes that left.
    sent: (u64, usize),
}

impl Stages {
    fn new(config: &Arc<Config>, stats: &Arc<Stats>) -> Self {
        let clock = Clock::default();
        clock.set(0, 1_790_000_000_000_000_000);
        Self {
            shard: Shard::new(0, 65_536, Arc::clone(config), Arc::clone(stats)),
            facts: Vec::new(),
            commands: Vec::new(),
            linker: Linker::new(
                Settings::new(&config.propagation, config.capture.drain),
                Ids::from_seed(1),
                Arc::clone(stats),
            ),
            linked: Vec::new(),
            sampler: Sampler::new(config.sampling.sampler),
            builder: Builder::new(&config.route, Arc::clone(stats)),
            policy: Policy::new(config, Arc::clone(stats)),
            clock,
            resource: Arc::new(Resource::default()),
            spans: Vec::new(),
            sent: (0, 0),
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        let Self {
            shard,
            facts,
            commands,
            ..
        } = self;
        shard.take(event, &mut Out { facts, commands });
    }

    fn record(&mut self, record: &[u8]) {
        let event = decode(black_box(record)).expect("a record");
        self.event(&event);
    }

    /// Facts to spans, and full batches out; all of it at the end.
    fn finish(&mut self, now: Option<u64>) {
        for fact in self.facts.drain(..) {
            self.linker.feed(fact);
        }
        match now {
            Some(now) => self.linker.poll(now, &mut self.linked),
            None => self.linker.flush(&mut self.linked),
        }
        for linked in self.linked.drain(..) {
            if !self.sampler.sampled(linked.trace, linked.flags) {
                continue;
            }
            let clock = self.clock.at(linked.begin);
            let mut span = self
                .builder
                .build(linked, &self.resource, |at| clock.unix(at));
            if self.policy.apply(&mut span, now.unwrap_or(u64::MAX)) {
                self.spans.push(span);
            }
        }
        while self.spans.len() >= BATCH || now.is_none() && !self.spans.is_empty() {
            let rest = self.spans.split_off(self.spans.len().min(BATCH));
            let bytes = black_box(encode::request(&self.spans, BATCH * 900));
            self.sent.0 += self.spans.len() as u64;
            self.sent.1 += bytes.len();
            self.spans = rest;
        }
    }
}

/// All stages over a script; exchanges that became spans.
fn whole(script: &(Vec<Vec<u8>>, Vec<Vec<u8>>), config: &Arc<Config>, stats: &Arc<Stats>) -> u64 {
    let mut stages = Stages::new(config, stats);
    for record in &script.0 {
        stages.record(record);
    }
    for drained in script.1.chunks(DRAIN) {
        for record in drained {
            stages.record(record);
        }
        let last = drained.last().and_then(|record| decode(record));
        let time = match last {
            Some(Event::Segment(segment)) => segment.time,
            _ => 0,
        };
        stages.finish(Some(time));
    }
    stages.finish(None);
    assert!(stages.sent.1 > 0);
    stages.sent.0
}

/// The first stages alone; exchanges that were closed.
fn facts(mut stages: Stages, each: impl FnMut(&mut Stages) -> usize) -> u64 {
    let mut each = each;
    let mut closed = 0;
    while each(&mut stages) > 0 {
        let facts = stages.facts.drain(..);
        closed += facts.filter(|fact| matches!(fact, Fact::Closed(_))).count() as u64;
    }
    closed
}

/// CPU time of this thread.
fn spent() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Times `work`, which must come to `expected` exchanges.
fn timed(b: &mut Bencher<'_>, expected: u64, work: impl Fn() -> u64) {
    b.iter_custom(|rounds| {
        let before = spent();
        for _ in 0..rounds {
            assert_eq!(work(), expected);
        }
        spent() - before
    });
}

fn pipeline(c: &mut Criterion) {
    let config = Arc::new(Config::default());
    let stats = Arc::new(Stats::default());
    let exchanges = CONNECTIONS * ROUNDS;

    let mut group = c.benchmark_group("records_to_otlp");
    group.sample_size(20);
    for (name, request, sides) in [
        ("server", PLAIN, &[SERVER][..]),
        ("server, traceparent", TRACED, &[SERVER]),
        ("both ends", PLAIN, &[CLIENT, SERVER]),
    ] {
        let script = script(request, sides);
        // Each end's exchange is one, and becomes a span of its own.
        let expected = exchanges * sides.len() as u64;
        group.throughput(Throughput::Elements(expected));
        group.bench_function(name, |b| {
            timed(b, expected, || whole(&script, &config, &stats));
        });
    }
    group.finish();

    let (opens, records) = script(PLAIN, &[SERVER]);
    let opened = || {
        let mut stages = Stages::new(&config, &stats);
        opens.iter().for_each(|record| stages.record(record));
        stages
    };
    let mut group = c.benchmark_group("parts");
    group.sample_size(20);
    group.throughput(Throughput::Elements(exchanges));
    group.bench_function("records_to_facts", |b| {
        timed(b, exchanges, || {
            let mut drains = records.chunks(DRAIN);
            facts(opened(), |stages| {
                let drained = drains.next().unwrap_or_default();
                drained.iter().for_each(|record| stages.record(record));
                drained.len()
            })
        });
    });
    let events: Vec<Event<'_>> = records.iter().filter_map(|record| decode(record)).collect();
    group.bench_function("events_to_facts", |b| {
        timed(b, exchanges, || {
            let mut drains = events.chunks(DRAIN);
            facts(opened(), |stages| {
                let drained = drains.next().unwrap_or_default();
                drained
                    .iter()
                    .for_each(|event| stages.event(black_box(event)));
                drained.len()
            })
        });
    });
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
