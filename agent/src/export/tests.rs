//! Several exporters at once, and the metrics; with the spans that other tests use.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::metrics::Metrics;
use super::receiver::{Receiver, Reply};
use super::{Exporters, Sender};
use crate::config;
use crate::protocol::{Attribute, Value};
use crate::span::{Resource, Span, SpanKind, Status};
use crate::stats::Stats;
use crate::trace::{SpanId, TraceId};

/// Spans numbered from `first`, of one service.
pub fn spans(first: u64, count: u64) -> Vec<Span> {
    let resource = Arc::new(Resource {
        attributes: vec![attribute("service.name", Value::Str("shop".into()))],
        ..Resource::default()
    });
    (first..first + count)
        .map(|number| Span {
            trace: TraceId([7; 16]),
            id: SpanId(number.to_be_bytes()),
            parent: None,
            flags: 1,
            state: None,
            kind: SpanKind::Server,
            name: "GET /".into(),
            start: 1_000_000_000,
            end: 1_000_000_000 + number,
            attributes: vec![attribute("http.response.status_code", Value::Int(200))],
            dropped_attributes: 0,
            events: Vec::new(),
            links: Vec::new(),
            status: Status::Unset,
            resource: Arc::clone(&resource),
            process: 1,
        })
        .collect()
}

fn attribute(key: &'static str, value: Value) -> Attribute {
    Attribute {
        key: Cow::Borrowed(key),
        value,
    }
}

/// Where `receiver` listens, without anything optional.
pub fn otlp(receiver: &Receiver, protocol: config::Protocol) -> config::Otlp {
    let path = match protocol {
        config::Protocol::HttpProtobuf => "/v1/traces",
        config::Protocol::Grpc => "",
    };
    config::Otlp {
        endpoint: format!("http://{}{path}", receiver.address),
        protocol,
        headers: Vec::new(),
        gzip: false,
        timeout: Duration::from_secs(10),
        certificate: None,
        client_certificate: None,
        client_key: None,
    }
}

/// Every span that was handed over has come to one end.
pub fn assert_accounted(stats: &Stats) {
    let ends = [
        &stats.export_sent,
        &stats.export_rejected,
        &stats.export_failed_refused,
        &stats.export_failed_local,
        &stats.export_dropped_full,
        &stats.export_dropped_shutdown,
        &stats.export_queue_depth,
    ];
    let sum: u64 = ends.iter().map(|counter| counter.get()).sum();
    assert_eq!(stats.export_queued.get(), sum, "{:?}", stats.read());
}

#[tokio::test]
async fn each_exporter_gets_every_span() {
    let (one, two) = (Receiver::start([]).await, Receiver::start([]).await);
    let config = config::Export {
        exporters: vec![
            config::Exporter::Otlp(otlp(&one, config::Protocol::HttpProtobuf)),
            config::Exporter::Otlp(otlp(&two, config::Protocol::Grpc)),
        ],
        ..config::Export::default()
    };
    let stats = Arc::new(Stats::default());
    let exporters = Exporters::start(&config, &stats, &Handle::current()).unwrap();
    exporters.sender().push(spans(1, 3));
    exporters.shutdown(Duration::from_secs(60)).await;
    assert_eq!(one.log.lock().unwrap().spans(), 3);
    assert_eq!(two.log.lock().unwrap().spans(), 3);
    assert_eq!(stats.export_sent.get(), 6);
    assert_accounted(&stats);
}

#[tokio::test]
async fn no_exporter_is_no_queue() {
    let stats = Arc::new(Stats::default());
    let config = config::Export::default();
    let exporters = Exporters::start(&config, &stats, &Handle::current()).unwrap();
    exporters.sender().push(spans(1, 3));
    Sender::default().push(spans(1, 3));
    let gone = tokio::time::timeout(Duration::from_millis(10), exporters.gone()).await;
    assert!(gone.is_err(), "nobody is gone");
    exporters.shutdown(Duration::ZERO).await;
    assert_eq!(stats.export_queued.get(), 0);
}

#[tokio::test]
async fn what_a_person_must_mend_is_said_at_the_start() {
    let receiver = Receiver::start([]).await;
    let good = otlp(&receiver, config::Protocol::Grpc);
    let bad = [
        ("no://where", None, None, "http://"),
        (
            "https://localhost",
            Some("/nonexistent.pem"),
            None,
            "/nonexistent.pem",
        ),
        ("http://localhost", None, Some("/client.pem"), "go together"),
    ];
    for protocol in [config::Protocol::Grpc, config::Protocol::HttpProtobuf] {
        for (endpoint, certificate, client, expected) in bad {
            let otlp = config::Otlp {
                endpoint: endpoint.to_owned(),
                certificate: certificate.map(Into::into),
                client_certificate: client.map(Into::into),
                protocol,
                ..good.clone()
            };
            if protocol == config::Protocol::Grpc && client.is_some() {
                // Over plain gRPC no TLS is set up at all.
                continue;
            }
            let config = config::Export {
                exporters: vec![config::Exporter::Otlp(otlp)],
                ..config::Export::default()
            };
            let stats = Arc::new(Stats::default());
            let error = Exporters::start(&config, &stats, &Handle::current()).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(expected), "{error}");
        }
    }
}

/// The whole way, with a receiver that leaves and comes back while spans keep coming.
async fn away_and_back(protocol: config::Protocol, host: &str) {
    // An address of its own, lest another test be given the port meanwhile.
    let receiver = Receiver::with(&format!("{host}:0"), [], None).await;
    let address = receiver.address.to_string();
    let config = config::Export {
        exporters: vec![config::Exporter::Otlp(otlp(&receiver, protocol))],
        ..config::Export::default()
    };
    let stats = Arc::new(Stats::default());
    let exporters = Exporters::start(&config, &stats, &Handle::current()).unwrap();
    let sender = exporters.sender();
    sender.push(spans(0, 600));
    receiver.until(|log| log.spans() == 600).await;
    drop(receiver);
    for first in (0..2000).step_by(100) {
        sender.push(spans(1000 + first, 100));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(stats.export_retries.get() > 0);
    let receiver = Receiver::with(&address, [], None).await;
    receiver.until(|log| log.spans() == 2000).await;
    exporters.shutdown(Duration::from_secs(60)).await;
    assert_eq!(stats.export_sent.get(), 2600);
    assert_accounted(&stats);
}

#[tokio::test]
async fn http_receiver_away_and_back() {
    away_and_back(config::Protocol::HttpProtobuf, "127.0.0.71").await;
}

#[tokio::test]
async fn grpc_receiver_away_and_back() {
    away_and_back(config::Protocol::Grpc, "127.0.0.72").await;
}

#[tokio::test]
async fn busy_slow_and_refusing_receivers() {
    let busy = Reply::Http(503, "retry-after", "1");
    let script = [busy, Reply::Hang, Reply::Http(400, "x", "y")];
    let receiver = Receiver::start(script).await;
    let mut otlp = otlp(&receiver, config::Protocol::HttpProtobuf);
    otlp.timeout = Duration::from_secs(2);
    let config = config::Export {
        exporters: vec![config::Exporter::Otlp(otlp)],
        batch_size: 10,
        ..config::Export::default()
    };
    let stats = Arc::new(Stats::default());
    let exporters = Exporters::start(&config, &stats, &Handle::current()).unwrap();
    exporters.sender().push(spans(1, 20));
    receiver.until(|log| log.spans() == 10).await;
    exporters.shutdown(Duration::from_secs(60)).await;
    assert_eq!(stats.export_sent.get(), 10);
    assert_eq!(stats.export_failed_refused.get(), 10);
    assert!(stats.export_retries.get() >= 2);
    assert_accounted(&stats);
}

async fn metrics_arrive(protocol: config::Protocol, gzip: bool) {
    let receiver = Receiver::start([]).await;
    let mut otlp = otlp(&receiver, protocol);
    otlp.gzip = gzip;
    otlp.endpoint = otlp.endpoint.replace("traces", "metrics");
    let config = config::Metrics {
        otlp,
        interval: Duration::from_secs(3600),
    };
    let stats = Arc::new(Stats::default());
    stats.event_records.add(41);
    stats.export_queue_depth.set(7);
    let resource = Resource {
        attributes: vec![attribute("service.name", Value::Str("spantap".into()))],
        ..Resource::default()
    };
    let metrics = Metrics::start(&config, &resource, &stats, &Handle::current(), || ()).unwrap();
    stats.event_records.add(1);
    metrics.shutdown().await;
    let log = receiver.log.lock().unwrap();
    let request = &log
        .metrics
        .first()
        .expect("one export at the end")
        .resource_metrics[0];
    let service = request.resource.as_ref().unwrap().attributes[0].clone();
    assert_eq!(service.key, "service.name");
    let all = &request.scope_metrics[0].metrics;
    for (name, _, _) in stats.read() {
        let full = format!("spantap.{name}");
        assert!(
            all.iter().any(|metric| metric.name == full),
            "{full} is missing"
        );
    }
    let text = format!("{all:?}");
    let records = all
        .iter()
        .find(|m| m.name == "spantap.event.records")
        .unwrap();
    assert_eq!(records.description, "Records read from the rings.");
    let records = format!("{records:?}");
    assert!(
        records.contains("Sum(") && records.contains("AsInt(42)"),
        "{records}"
    );
    assert!(
        text.contains("Gauge(") && text.contains("AsInt(7)"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_over_http() {
    metrics_arrive(config::Protocol::HttpProtobuf, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_over_grpc() {
    metrics_arrive(config::Protocol::Grpc, true).await;
}

#[test]
fn gauges_exist() {
    let names: Vec<_> = Stats::default()
        .read()
        .into_iter()
        .map(|(name, ..)| name)
        .collect();
    for gauge in crate::stats::GAUGES {
        assert!(names.contains(gauge), "{gauge}");
    }
}

/// Exit codes tell wrong configuration from all else.
#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_wrong_configuration() {
    let receiver = Receiver::start([]).await;
    let mut otlp = otlp(&receiver, config::Protocol::HttpProtobuf);
    otlp.endpoint = "https://localhost:4318/v1/traces".to_owned();
    otlp.certificate = Some("/nope.pem".into());
    let config = config::Export {
        exporters: vec![config::Exporter::Otlp(otlp)],
        ..config::Export::default()
    };
    let started = Exporters::start(&config, &Arc::default(), &Handle::current());
    let why = started.expect_err("there is no such file");
    assert!(why.is::<config::Error>(), "{why:#}");
}
