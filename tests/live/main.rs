//! The live tests: real programs on the running kernel, traced by the agent's binary, judged by
//! what an OpenTelemetry backend gets. One binary, one table.
//! `cargo test -p spantap-tests --test live`, as root.

mod amqp;
mod apart;
mod api;
mod beanstalkd;
mod broken;
mod cassandra;
mod causality;
mod clients;
mod collector;
mod context;
mod deeds;
mod deploy;
mod dns;
mod duo;
mod elasticsearch;
mod export;
mod fastcgi;
mod files;
mod grpc;
mod h2;
mod harm;
mod io;
mod kafka;
mod kubernetes;
mod matrix;
mod memcached;
mod mongodb;
mod mqtt;
mod mysql;
mod nats;
mod option;
mod over;
mod policy;
mod postgresql;
mod programs;
mod redis;
mod robust;
mod s3;
mod sdk;
mod select;
mod serve;
mod servers;
mod shapes;
mod tls;
mod websocket;

fn main() -> std::process::ExitCode {
    let alone = [
        servers::cases(),
        clients::cases(),
        shapes::cases(),
        io::cases(),
        context::cases(),
        policy::cases(),
        robust::cases(),
        export::cases(),
        files::cases(),
        tls::cases(),
        dns::cases(),
        collector::cases(),
        deploy::cases(),
        cassandra::cases(),
        apart::cases(),
        option::cases(),
        sdk::cases(),
        select::cases(),
        serve::cases(),
        harm::cases(),
        kubernetes::cases(),
        api::cases(),
    ];
    let beside = [
        h2::cases(),
        grpc::cases(),
        matrix::cases(),
        causality::cases(),
        amqp::cases(),
        mqtt::cases(),
        nats::cases(),
        over::cases(),
        mysql::cases(),
        postgresql::cases(),
        redis::cases(),
        memcached::cases(),
        mongodb::cases(),
        beanstalkd::cases(),
        kafka::cases(),
        fastcgi::cases(),
        websocket::cases(),
        s3::cases(),
        elasticsearch::cases(),
    ];
    let beside = beside.into_iter().flatten().map(|case| {
        // Ports tell one case's programs from another's; names of commands do not. And of those last two what is
        // started is counted by the second.
        match ["::unix", "amqp::client", "::beside::", "::teeming::"]
            .iter()
            .any(|how| case.name().contains(how))
        {
            true => case,
            false => case.beside(),
        }
    });
    let all = alone.into_iter().flatten().chain(beside);
    let cases = all.map(|case| match is_seldom(case.name()) {
        true => case.seldom_if(true),
        false => case,
    });
    let cases = cases.collect();
    spantap_tests::run::main(cases, GAPS)
}

/// Whether a case costs more than it adds to those that are run each time.
fn is_seldom(name: &str) -> bool {
    // A program that comes after the agent is the easier one, and what differs with HTTP/2 is asked for.
    let easier = name.ends_with("::syscall::after")
        && !["h2::", "grpc::"].iter().any(|of| name.starts_with(of));
    easier || LIKE_OTHERS.iter().any(|like| name.starts_with(like))
}

/// The beginnings of names of cases that take long and are like others.
const LIKE_OTHERS: &[&str] = &[
    "harm::latency::",
    "collector::away-30-s::grpc",
    "export::nobody-there::grpc",
    "causality::asgi::blocking",
    "causality::asgi-uvloop::fan-out",
    "causality::asgi-uvloop::blocking",
    "causality::asgi-uvloop::late",
    "causality::java-25::fan-out",
    "causality::java-g1::fan-out",
    "causality::java-z::fan-out",
    "causality::java::sql",
    "causality::node::sql",
    "causality::php-fpm::sql",
    "causality::puma::sql",
    "causality::python-threads::sql",
    "causality::tokio::fan-out",
    "causality::tokio::late",
    "causality::tokio::worker",
    "causality::tokio-unknown::blocking",
    "causality::tokio-unknown::fan-out",
    "causality::tokio-unknown::late",
    "causality::tokio-unknown::worker",
];

/// What is not right yet.
const GAPS: &[spantap_tests::run::Gap] = &[
    (
        "io::uring-body::syscall",
        "the fall-back path learns what io_uring sent with the socket's next call: a response ends \
         late, and after the last one there is no call",
    ),
    ("h2::node-to-hyper::syscall::before", LONG_CALLS),
    ("h2::node-to-hyper::syscall::after", LONG_CALLS),
    ("h2::reqwest-to-node::syscall::before", LONG_CALLS),
    ("h2::reqwest-to-node::syscall::after", LONG_CALLS),
    ("grpc::python::socket::before", OLD_CHANNEL),
    ("grpc::python::tls::socket::before", OLD_CHANNEL),
    ("grpc::go::socket::before", OLD_CHANNEL),
    ("grpc::go::tls::socket::before", OLD_CHANNEL),
    ("grpc::node::socket::before", OLD_CHANNEL),
    ("grpc::node::tls::socket::before", OLD_CHANNEL),
    ("grpc::tonic::socket::before", OLD_CHANNEL),
    ("grpc::tonic::tls::socket::before", OLD_CHANNEL),
    ("grpc::java::socket::before", OLD_CHANNEL),
    ("grpc::java::tls::socket::before", OLD_CHANNEL),
];

/// What was said before the agent came is sent by number since.
const OLD_CHANNEL: &str = "on a channel older than the agent a call is known by what only calls have; what ends at once \
     with an error has sent nothing of it, and its status by number";

/// Node.js writes many frames at once.
const LONG_CALLS: &str = "the fall-back path copies 64 KiB of a call: of the frames behind them nothing is known, and \
     a body that ends there has no size";

/// Whether an attribute says that a span's bytes were not all seen, or can be read two ways.
fn is_flag(key: &str) -> bool {
    [
        "spantap.missing.",
        "spantap.complete",
        "spantap.suspicious",
        "spantap.malformed",
    ]
    .iter()
    .any(|prefix| key.starts_with(prefix))
}
