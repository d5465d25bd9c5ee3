//! How fast facts become spans: chains of client, server, client, server over two processes.
//! `cargo bench -p spantap --bench link`; the time is the thread's own, so that a busy machine
//! disturbs it less.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use spantap::config::Config;
use spantap::connection::Mark;
use spantap::event::{Address, ConnectionId, Execution, Role, StreamKey};
use spantap::exchange::{Exchange, ExchangeId, Fact, MessageKey, Opened, Outcome, Peer};
use spantap::policy::{Policy, Sampler};
use spantap::protocol::{Attribute, Carrier, Finish, Request, Response, Value};
use spantap::span::{Builder, Resource};
use spantap::stats::Stats;
use spantap::trace::{Ids, Linked, Linker, Settings};

const CHAINS: u64 = 2_500;
const SIDES: u64 = 4;
/// 10,000 exchanges a second, four of them in a chain.
const GAP: u64 = 400_000;

struct Side {
    role: Role,
    id: u64,
    key: u64,
    who: (u32, u32),
    from: u64,
    to: u64,
}

fn mark(side: &Side, time: u64) -> Mark {
    let execution = Execution {
        process: side.who.0,
        thread: side.who.1,
        unit: 0,
    };
    Mark {
        time,
        offset: side.id * 200,
        execution,
    }
}

fn attribute(key: &'static str, value: Value) -> Attribute {
    Attribute {
        key: key.into(),
        value,
    }
}

fn request(id: u64) -> Request {
    let text = |text: &str| Value::Str(text.to_owned().into());
    Request::call(
        "http1",
        "GET",
        vec![
            attribute("http.request.method", Value::Str("GET".into())),
            attribute("url.scheme", Value::Str("http".into())),
            attribute("url.path", text(&format!("/users/{id}/orders"))),
            attribute("server.address", text("127.0.0.1")),
            attribute("server.port", Value::Int(8080)),
            attribute("user_agent.original", text("python-requests/2.31.0")),
            attribute("network.protocol.version", Value::Str("1.1".into())),
        ],
    )
}

fn facts_of(side: &Side, peer: &Arc<Peer>, carrier: bool) -> [(u64, Fact); 2] {
    let key = Some(MessageKey {
        stream: StreamKey {
            client: side.key,
            server: 1,
        },
        offset: side.key,
        number: 0,
    });
    let carrier = carrier.then(|| {
        Box::new(Carrier {
            traceparent: [format!("00-{:032x}-{:016x}-01", side.key + 1, side.key + 1).into()]
                .into(),
            ..Default::default()
        })
    });
    let finish = Finish {
        body: 12,
        exact: true,
        whole: true,
    };
    let opened = Opened {
        id: ExchangeId(side.id),
        peer: Arc::clone(peer),
        role: side.role,
        start: mark(side, side.from),
        head: mark(side, side.from),
        key,
        carrier: carrier.clone(),
        likeness: None,
        stream: None,
        gathered: false,
    };
    let mut request = request(side.id);
    request.carrier = carrier;
    let exchange = Exchange {
        id: ExchangeId(side.id),
        peer: Arc::clone(peer),
        role: side.role,
        key,
        request: Box::new(request),
        response: Some(Box::new(Response {
            attributes: vec![attribute("http.response.status_code", Value::Int(200))],
            ..Response::default()
        })),
        start: mark(side, side.from),
        request_end: Some((mark(side, side.from), finish)),
        response_start: Some(mark(side, side.to)),
        response_end: Some((mark(side, side.to), finish)),
        end: side.to,
        outcome: Outcome::Complete,
        faults: Default::default(),
    };
    [
        (side.from, Fact::Opened(Box::new(opened))),
        (side.to, Fact::Closed(Box::new(exchange))),
    ]
}

/// Facts of one second at 10,000 exchanges, in the order of their times.
fn facts(headers: bool) -> Vec<(u64, Fact)> {
    let peer = |role| {
        let address = |text: &str| Address::Inet(text.parse().expect("an address"));
        Arc::new(Peer {
            connection: ConnectionId(1),
            local: address("127.0.0.1:40000"),
            remote: address("127.0.0.1:8080"),
            role,
            key: None,
            shares_offsets: true,
            line: 0,
            carrier: None,
            datagrams: false,
            receiver: false,
        })
    };
    let (client, server) = (peer(Role::Client), peer(Role::Server));
    let mut facts = Vec::new();
    for chain in 0..CHAINS {
        let (id, at) = (chain * SIDES, 1_000_000_000 + chain * GAP);
        let thread = 10 + (chain % 64) as u32;
        let side = |n: u64, role, key, who, from, to| Side {
            role,
            id: id + n,
            key,
            who,
            from: at + from,
            to: at + to,
        };
        for side in [
            side(0, Role::Client, id * 2, (1, thread), 0, 300_000),
            side(1, Role::Server, id * 2, (2, thread), 20_000, 280_000),
            side(2, Role::Client, id * 2 + 1, (2, thread), 50_000, 200_000),
            side(3, Role::Server, id * 2 + 1, (3, thread), 70_000, 180_000),
        ] {
            let peer = if side.role == Role::Client {
                &client
            } else {
                &server
            };
            facts.extend(facts_of(&side, peer, headers));
        }
    }
    facts.sort_by_key(|(time, _)| *time);
    facts
}

fn linker() -> Linker {
    Linker::new(
        Settings::new(
            &Config::default().propagation,
            Config::default().capture.drain,
        ),
        Ids::from_seed(1),
        Arc::default(),
    )
}

fn link(facts: Vec<(u64, Fact)>, mut each: impl FnMut(Linked)) -> usize {
    let mut linker = linker();
    let (mut out, mut count, mut polled) = (Vec::new(), 0, 0);
    for (time, fact) in facts {
        if time > polled + 4_000_000 {
            polled = time;
            linker.poll(time, &mut out);
            count += out.len();
            out.drain(..).for_each(&mut each);
        }
        linker.feed(fact);
    }
    linker.flush(&mut out);
    count += out.len();
    out.drain(..).for_each(&mut each);
    count
}

/// CPU time of this thread.
fn spent() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Times `work` on fresh facts; making them is not counted.
fn timed(b: &mut Bencher<'_>, headers: bool, mut work: impl FnMut(Vec<(u64, Fact)>) -> usize) {
    b.iter_custom(|rounds| {
        let mut sum = Duration::ZERO;
        for _ in 0..rounds {
            let facts = facts(headers);
            let before = spent();
            std::hint::black_box(work(facts));
            sum += spent() - before;
        }
        sum
    });
}

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("link");
    group.throughput(Throughput::Elements(CHAINS * SIDES));
    group.sample_size(20);
    for (name, headers) in [
        ("facts_to_linked", false),
        ("facts_to_linked_headers", true),
    ] {
        group.bench_function(name, |b| {
            timed(b, headers, |facts| link(facts, drop));
        });
    }
    group.bench_function("facts_to_spans", |b| {
        let (config, stats) = (Config::default(), Arc::new(Stats::default()));
        let sampler = Sampler::new(config.sampling.sampler);
        let resource = Arc::new(Resource::default());
        let mut builder = Builder::new(&config.route, Arc::clone(&stats));
        timed(b, false, |facts| {
            link(facts, |linked| {
                if sampler.sampled(linked.trace, linked.flags) {
                    drop(builder.build(linked, &resource, |time| time));
                }
            })
        });
    });
    group.bench_function("facts_to_spans_policy", |b| {
        let (config, stats) = (Config::default(), Arc::new(Stats::default()));
        let resource = Arc::new(Resource::default());
        let mut builder = Builder::new(&config.route, Arc::clone(&stats));
        let mut policy = Policy::new(&config, stats);
        timed(b, false, |facts| {
            link(facts, |linked| {
                let mut span = builder.build(linked, &resource, |time| time);
                policy.apply(&mut span, 0);
            })
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
