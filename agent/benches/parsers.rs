//! What each protocol costs: the dialogues of `tests/wire` played over and over to a parser of their
//! protocol, statements of SQL described, and documents of JSON read.
//!
//! `PROTOCOL/messages` is time for each message found, `PROTOCOL/bytes` the same rounds by the bytes
//! read; both stand for whole connections, their beginnings with them.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spantap::config::Config;
use spantap::connection::stream::Stream;
use spantap::event::{ConnectionId, Direction, Execution, Role, Segment};
use spantap::protocol::json::{Path, Reader};
use spantap::protocol::sql::{Dialect, describe};
use spantap::protocol::{ALL, Feed, Flow, Message, Protocol, Setup, Status};
use spantap::stats::Stats;

#[path = "../tests/wire/dialogue.rs"]
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
mod dialogue;

use dialogue::{Step, Way};

/// Plays the steps of one dialogue; returns how many bytes were read.
fn play(protocol: &dyn Protocol, steps: &[Step], stats: &Stats, out: &mut Vec<Message>) -> u64 {
    let setup = Setup {
        role: Role::Server,
        secure: false,
        process: 1,
        counted: true,
        config: Arc::default(),
        shared: Arc::default(),
    };
    let mut parser = protocol.parser(setup);
    let mut streams = [Stream::new(0), Stream::new(0)];
    let mut offsets = [0_u64; 2];
    for step in steps {
        let Step::Bytes {
            way, bytes, same, ..
        } = step
        else {
            continue;
        };
        let (flow, direction, at) = match way {
            Way::Ask => (Flow::Request, Direction::Ingress, 0),
            Way::Answer => (Flow::Response, Direction::Egress, 1),
        };
        let segment = Segment {
            connection: ConnectionId(1),
            direction,
            time: 1,
            offset: offsets[at],
            length: bytes.len() as u32,
            bytes,
            tail: &[],
            hole: None,
            turn: !same,
            lost: 0,
            execution: Execution::default(),
        };
        offsets[at] += bytes.len() as u64;
        streams[at].push(&segment, 0, stats);
        if flow == Flow::Response {
            let stream = &mut streams[0];
            let _ = parser.answer(&mut Feed { stream, out, stats });
        }
        let stream = &mut streams[at];
        if parser.parse(flow, &mut Feed { stream, out, stats }) != Status::Stay {
            break;
        }
    }
    offsets.iter().sum()
}

fn dialogues(c: &mut Criterion) {
    let stats = Stats::default();
    let all = dialogue::all();
    for protocol in ALL {
        let own: Vec<_> = all
            .iter()
            .filter(|d| d.protocol == protocol.name())
            .collect();
        let mut out = Vec::new();
        let bytes: u64 = own
            .iter()
            .map(|d| play(*protocol, &d.steps, &stats, &mut out))
            .sum();
        let units = [
            ("messages", Throughput::Elements(out.len() as u64)),
            ("bytes", Throughput::Bytes(bytes)),
        ];
        let mut group = c.benchmark_group(protocol.name());
        for (name, throughput) in units {
            group.throughput(throughput);
            group.bench_function(name, |b| {
                b.iter(|| {
                    for dialogue in &own {
                        out.clear();
                        play(*protocol, &dialogue.steps, &stats, &mut out);
                        black_box(&out);
                    }
                });
            });
        }
    }
}

fn statements(c: &mut Criterion) {
    let config = Config::default();
    let rows = "(1, 'a name', 2.5, NULL), ".repeat(1000);
    let mut group = c.benchmark_group("sql");
    for (name, statement) in [
        ("short", "SELECT 1".to_owned()),
        (
            "orm_200",
            "SELECT \"orders\".\"id\", \"orders\".\"total\", \"customers\".\"name\" FROM \"orders\" \
             INNER JOIN \"customers\" ON \"orders\".\"customer_id\" = \"customers\".\"id\" \
             WHERE \"orders\".\"state\" = 'paid' LIMIT 20"
                .to_owned(),
        ),
        (
            "plain_200",
            "SELECT o.id, o.total, c.name FROM orders o JOIN customers c ON o.customer_id = c.id WHERE \
             o.state = 'paid' AND o.created > '2024-01-01' AND c.region IN (1, 2, 3) \
             ORDER BY o.created DESC LIMIT 20"
                .to_owned(),
        ),
        ("rows_26k", format!("INSERT INTO t VALUES {rows} (0)")),
    ] {
        group.throughput(Throughput::Bytes(statement.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let statement = black_box(statement.as_bytes());
                describe(statement, Dialect::Postgres, &config.database, true)
            });
        });
    }
}

fn documents(c: &mut Criterion) {
    const WANTED: &[Path] = &[&["query"], &["operationName"], &["variables"]];
    let rows = "{\"id\":12345,\"name\":\"a \\\"name\\\"\",\"tags\":[\"x\",null,2.5]},".repeat(1000);
    let mut group = c.benchmark_group("json");
    for (name, document) in [
        (
            "refused",
            "{\"id\":12345,\"name\":\"a name\",\"total\":2.5}".to_owned(),
        ),
        (
            "query_100",
            "{\"query\":\"query Book($id: ID!) { book(id: $id) { title } }\",\
             \"variables\":{\"id\":\"7\"},\"operationName\":\"Book\"}"
                .to_owned(),
        ),
        ("rows_55k", format!("{{\"variables\":[{rows}0]}}")),
    ] {
        group.throughput(Throughput::Bytes(document.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut reader = Reader::strict(WANTED, 4096);
                reader.read(black_box(document.as_bytes()), |index, value| {
                    black_box((index, value));
                });
                reader.is_whole()
            });
        });
    }
}

criterion_group!(benches, statements, documents, dialogues);
criterion_main!(benches);
