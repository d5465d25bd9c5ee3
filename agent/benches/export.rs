//! What it costs to export: encoding as we do it, by way of prost, gzip, and handing over.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use spantap::export::otlp::encode;
use spantap::export::{Answer, Exporter, batch};
use spantap::protocol::{Attribute, Value};
use spantap::span::{Resource, Span, SpanKind, Status};
use spantap::stats::Stats;
use spantap::trace::{Method, Parent, SpanId, TraceId};

#[path = "export/reference.rs"]
mod reference;

fn text(key: &'static str, value: &str) -> Attribute {
    let value = Value::Str(value.to_owned().into());
    let key = key.into();
    Attribute { key, value }
}

fn number(key: &'static str, value: i64) -> Attribute {
    let value = Value::Int(value);
    let key = key.into();
    Attribute { key, value }
}

/// A batch of server spans as HTTP makes them, of four services.
fn spans(count: usize) -> Vec<Span> {
    let services: Vec<_> = ["cart", "catalog", "payment", "frontend"]
        .map(|name| {
            Arc::new(Resource {
                attributes: vec![
                    text("service.name", name),
                    text(
                        "service.instance.id",
                        "0b5c1f9e-2f3a-4f43-9a5c-9b6d0e8f1a2b",
                    ),
                    number("process.pid", 4711),
                    text("process.executable.path", "/usr/bin/python3.11"),
                    text("host.name", "node-17.example.org"),
                    text("os.type", "linux"),
                    text("telemetry.sdk.name", "spantap"),
                ],
                ..Resource::default()
            })
        })
        .into();
    (0..count).map(|at| span(at, &services[at % 4])).collect()
}

fn span(at: usize, resource: &Arc<Resource>) -> Span {
    let end = 1_790_000_000_000_000_000 + at as u64;
    Span {
        trace: TraceId([at as u8; 16]),
        id: SpanId([at as u8; 8]),
        parent: Some(Parent {
            span: SpanId([1; 8]),
            remote: true,
            method: Method::TraceParent,
            confidence: 1.0,
        }),
        flags: 1,
        state: None,
        kind: SpanKind::Server,
        name: "GET /products/{id}".into(),
        start: end - 3_000_000,
        end,
        attributes: vec![
            text("http.request.method", "GET"),
            text("url.scheme", "http"),
            text("url.path", "/products/48151623/reviews"),
            text("url.query", "page=2&sort=newest"),
            text("http.route", "/products/{id}/reviews"),
            number("http.response.status_code", 200),
            text("server.address", "catalog.example.org"),
            number("server.port", 8080),
            text("client.address", "10.42.7.19"),
            number("client.port", 51_834),
            text("network.peer.address", "10.42.7.19"),
            number("network.peer.port", 51_834),
            text("network.protocol.name", "http"),
            text("network.protocol.version", "1.1"),
            text("network.transport", "tcp"),
            text(
                "user_agent.original",
                "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",
            ),
            number("http.request.body.size", 0),
            number("http.response.body.size", 18_234),
            text("spantap.link.method", "traceparent"),
            number("spantap.time_to_first_byte", 2_400_000),
        ],
        dropped_attributes: 0,
        events: Vec::new(),
        links: Vec::new(),
        status: Status::Unset,
        resource: Arc::clone(resource),
        process: 4711,
    }
}

const BATCH: usize = 512;

fn encoding(criterion: &mut Criterion) {
    let spans = spans(BATCH);
    let size = encode::request(&spans, 0).len();
    println!("{} bytes per span", size / BATCH);
    let mut group = criterion.benchmark_group("export");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("encode", |b| b.iter(|| encode::request(&spans, size)));
    group.bench_function("encode through prost", |b| {
        b.iter(|| reference::request(&spans).encode_to_vec());
    });
    group.finish();
}

/// Takes everything at once.
struct Sink;

impl Exporter for Sink {
    fn name(&self) -> &str {
        "sink"
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(900)
    }

    async fn export(&mut self, _: &[Span]) -> Answer {
        Answer::Sent {
            rejected: 0,
            warning: String::new(),
        }
    }
}

/// What a producer pays: eight spans at a time, with a worker that keeps up.
fn queueing(criterion: &mut Criterion) {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    else {
        return;
    };
    let _context = runtime.enter();
    let stats = Arc::new(Stats::default());
    let (gone, _) = tokio::sync::watch::channel(false);
    let (queue, _worker) = batch::start(Sink, &Default::default(), &stats, gone);
    let some = spans(8);
    let mut group = criterion.benchmark_group("export");
    group.throughput(Throughput::Elements(8));
    group.bench_function("push", |b| {
        b.iter_batched(
            || some.clone(),
            |spans| queue.push(spans),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, encoding, queueing);
criterion_main!(benches);
