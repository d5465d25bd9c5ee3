//! The resolved configuration: plain values, no `Option` that means "default". Flags, environment
//! and file are read once ([`resolve()`]); after that nothing here changes. Any stage may name it.

mod carrying;
pub mod cli;
pub mod docs;
pub mod endpoint;
pub mod env;
pub mod file;
pub mod form;
mod help;
mod kubernetes;
mod listen;
mod near;
mod networks;
mod otlp;
pub mod pairs;
mod resolve;
mod selection;
pub mod setting;
mod table;

pub use carrying::Carrying;
pub use kubernetes::{Kubernetes, Presence};
pub use listen::Serve;
pub use resolve::{Error, Flags, Resolved, load, read_text, resolve};
pub use selection::{Selection, labels, workload};
pub use table::SETTINGS;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// Everything the agent was told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Nothing is to be attached and no span to be made (OTEL_SDK_DISABLED).
    pub disabled: bool,
    /// What is captured, and how.
    pub capture: Capture,
    /// Whose traffic.
    pub selection: Selection,
    /// Whether who is traced may change while it runs: the file is looked at again, or Kubernetes is asked.
    pub selection_changes: bool,
    /// What Kubernetes is asked.
    pub kubernetes: Kubernetes,
    /// HTTP details.
    pub http: Http,
    /// What is said of queries.
    pub database: Database,
    /// Routes made from paths.
    pub route: Route,
    /// Whose context is believed.
    pub propagation: Propagation,
    /// Which spans are kept.
    pub sampling: Sampling,
    /// What never leaves.
    pub redaction: Redaction,
    /// Sizes and rates.
    pub limits: Limits,
    /// Where spans go.
    pub export: Export,
    /// Who may ask the agent how it is.
    pub serve: Serve,
    /// Attributes added to every resource (OTEL_RESOURCE_ATTRIBUTES of the agent itself).
    pub resource: BTreeMap<String, String>,
}

/// Which kernel hooks see the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CapturePath {
    /// The best this kernel has.
    #[default]
    Auto,
    /// sock_send_length and sock_recv_length (6.3 and later).
    Socket,
    /// sys_exit (5.10 and later).
    Syscall,
}

/// What is captured, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    /// Which hooks.
    pub path: CapturePath,
    /// Whether what TLS protects is read at the edges of its libraries.
    pub tls: bool,
    /// Kernel types from this file instead of the running kernel's own.
    pub btf: Option<PathBuf>,
    /// Bytes copied of one message before only its length is followed.
    pub message_bytes: u32,
    /// Ring-buffer memory in all, bytes; a power of two.
    pub ring_bytes: u32,
    /// Longest a record waits in a ring.
    pub drain: Duration,
    /// Connections kept at once.
    pub max_connections: usize,
    /// An exchange without any byte for this long has timed out.
    pub exchange_timeout: Duration,
    /// Bytes of an unknown connection that are looked at before it is muted.
    pub unknown_bytes: u32,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            path: CapturePath::Auto,
            tls: true,
            btf: None,
            message_bytes: 64 * 1024,
            ring_bytes: 8 * 1024 * 1024,
            drain: Duration::from_millis(4),
            max_connections: 65_536,
            exchange_timeout: Duration::from_secs(300),
            unknown_bytes: 64 * 1024,
        }
    }
}

/// HTTP details.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Methods that go by their own name, case-sensitive; any other is `_OTHER`.
    pub known_methods: Vec<String>,
    /// Request headers recorded as `http.request.header.<name>`, lower case.
    pub request_headers: Vec<String>,
    /// Response headers recorded as `http.response.header.<name>`, lower case.
    pub response_headers: Vec<String>,
    /// Whether bodies are looked at for what is spoken over HTTP.
    pub applications: bool,
}

/// Methods of RFC 9110, RFC 5789 and httpbis-safe-method-w-body, as the semantic conventions list them.
pub const METHODS: [&str; 10] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY",
];

impl Default for Http {
    fn default() -> Self {
        Self {
            known_methods: METHODS.map(str::to_owned).into(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            applications: true,
        }
    }
}

/// What is said of the text of queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryText {
    /// With `?` in place of each literal.
    #[default]
    Redacted,
    /// As sent.
    Full,
    /// Nothing.
    Off,
}

/// What is said of queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// `db.query.text`.
    pub query_text: QueryText,
    /// Bytes of a query's text that are kept.
    pub query_length: usize,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            query_text: QueryText::Redacted,
            query_length: 2048,
        }
    }
}

/// How paths become routes.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Patterns tried first: segments, `{name}` or `*` for any one, a last `**` for the rest.
    pub patterns: Vec<String>,
    /// Whether identifiers in paths are recognised (numbers, UUIDs, hashes, …).
    pub heuristics: bool,
    /// Distinct routes kept per service; past that the route is left out.
    pub max_per_service: usize,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            heuristics: true,
            max_per_service: 200,
        }
    }
}

/// Whose context is believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Propagation {
    /// Formats read, in order: `tracecontext`, `b3`, `b3multi` (OTEL_PROPAGATORS).
    pub extract: Vec<String>,
    /// From where a context is carried on; from elsewhere it is linked to.
    pub trusted: Vec<IpNet>,
    /// Whether the thread that serves an exchange is evidence for the calls it makes.
    pub thread: bool,
    /// Whether the goroutine that serves an exchange is.
    pub goroutine: bool,
    /// Whether it is that a proxy asks what it was asked.
    pub forwarded: bool,
    /// Whether it is when calls are made and answered, where nothing else is.
    pub inferred: bool,
    /// Whether the task of asyncio's is that serves an exchange.
    pub asyncio: bool,
    /// Whether the turn of Node.js's event loop is that an exchange began.
    pub node: bool,
    /// Whether the task is that a thread of a JVM's which serves one has made.
    pub jvm: bool,
    /// How a trace goes on in another host.
    pub mode: Carrying,
    /// To where it does.
    pub networks: Vec<IpNet>,
    /// To where of them it does by a header as well.
    pub headers: Vec<IpNet>,
}

impl Propagation {
    /// Whether any evidence is asked for that takes a look at what programs map.
    pub fn needs_probes(&self) -> bool {
        self.goroutine || self.asyncio || self.node || self.jvm
    }
}

impl Default for Propagation {
    fn default() -> Self {
        Self {
            extract: vec!["tracecontext".into(), "b3".into(), "b3multi".into()],
            trusted: networks::private(),
            thread: true,
            goroutine: true,
            forwarded: true,
            inferred: false,
            asyncio: true,
            node: true,
            jvm: true,
            mode: Carrying::default(),
            networks: networks::routed(),
            headers: Vec::new(),
        }
    }
}

/// OTEL_TRACES_SAMPLER.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Sampler {
    /// Every span.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// By trace id.
    TraceIdRatio(f64),
    /// As the parent; roots all.
    #[default]
    ParentBasedAlwaysOn,
    /// As the parent; no roots.
    ParentBasedAlwaysOff,
    /// As the parent; roots by trace id.
    ParentBasedTraceIdRatio(f64),
}

impl Sampler {
    /// Whether what was decided for a parent holds.
    pub fn is_parent_based(self) -> bool {
        !matches!(
            self,
            Self::AlwaysOn | Self::AlwaysOff | Self::TraceIdRatio(_)
        )
    }

    /// Where nobody decided, traces are kept whose 63 low bits are below this; `1 << 63` keeps all.
    pub fn bound(self) -> u64 {
        let ratio = match self {
            Self::AlwaysOn | Self::ParentBasedAlwaysOn => 1.0,
            Self::AlwaysOff | Self::ParentBasedAlwaysOff => 0.0,
            Self::TraceIdRatio(ratio) | Self::ParentBasedTraceIdRatio(ratio) => ratio,
        };
        // `as` saturates, and makes 0 of what is not a number.
        (f64::clamp(ratio, 0.0, 1.0) * (1u64 << 63) as f64) as u64
    }
}

/// Which spans are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// The sampler.
    pub sampler: Sampler,
}

/// What never leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Redaction {
    /// Whether redaction is on at all.
    pub enabled: bool,
    /// Names of query parameters whose values are replaced, besides the built-in ones; lower case.
    pub query_keys: Vec<String>,
    /// Names of headers whose values are replaced, besides the built-in ones; lower case.
    pub headers: Vec<String>,
    /// Whether the arguments of programs are told at all, cleaned as far as rules can.
    pub command_args: bool,
}

impl Default for Redaction {
    fn default() -> Self {
        Self {
            enabled: true,
            query_keys: Vec::new(),
            headers: Vec::new(),
            command_args: false,
        }
    }
}

/// Sizes and rates.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT (128).
    pub attribute_count: usize,
    /// OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, bytes of UTF-8 text, applied to every text value.
    pub attribute_length: usize,
    /// Bytes of free text on spans (URLs, user agents, headers, hosts).
    pub text_length: usize,
    /// OTEL_SPAN_EVENT_COUNT_LIMIT (128).
    pub event_count: usize,
    /// Of all CPUs, 0 to 1, while others want them all.
    pub cpu_share: f64,
    /// Spans per second per service; 0 for no limit.
    pub spans_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attribute_count: 128,
            attribute_length: usize::MAX,
            text_length: 256,
            event_count: 128,
            cpu_share: 0.05,
            spans_per_second: 0,
        }
    }
}

/// OTLP's transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// `http/protobuf`.
    #[default]
    HttpProtobuf,
    /// `grpc`.
    Grpc,
}

/// One place spans go to.
#[derive(Clone, Debug, PartialEq)]
pub enum Exporter {
    /// OTLP.
    Otlp(Otlp),
    /// One line per span for people, on stdout.
    Stdout,
    /// One JSON object per span, on stdout.
    Json,
}

/// OTEL_EXPORTER_OTLP_*, with OTEL_EXPORTER_OTLP_TRACES_* before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// Full URL for http/protobuf (`…/v1/traces` already added where the spec says so); scheme and
    /// authority for gRPC.
    pub endpoint: String,
    /// Transport.
    pub protocol: Protocol,
    /// Sent with every request, in order; values percent-decoded.
    pub headers: Vec<(String, String)>,
    /// gzip the bodies.
    pub gzip: bool,
    /// Longest one attempt may take (OTEL_EXPORTER_OTLP_TIMEOUT).
    pub timeout: Duration,
    /// PEM file with the certificates to trust.
    pub certificate: Option<PathBuf>,
    /// PEM file with the client's certificate (mTLS).
    pub client_certificate: Option<PathBuf>,
    /// PEM file with the client's key.
    pub client_key: Option<PathBuf>,
}

/// Where spans go, and the OTEL_BSP_* of the queue before each exporter.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// Every exporter gets every span; empty means spans are made and counted, and go nowhere.
    pub exporters: Vec<Exporter>,
    /// Whether lines for people on stdout are coloured: by `--color`, NO_COLOR and where they go.
    pub color: bool,
    /// Columns of the terminal that lines for people go to; None where they go elsewhere.
    pub width: Option<usize>,
    /// OTEL_BSP_MAX_QUEUE_SIZE.
    pub queue_size: usize,
    /// OTEL_BSP_MAX_EXPORT_BATCH_SIZE.
    pub batch_size: usize,
    /// OTEL_BSP_SCHEDULE_DELAY: longest a span waits for company.
    pub schedule_delay: Duration,
    /// OTEL_BSP_EXPORT_TIMEOUT: longest a batch is retried while others wait behind it.
    pub export_timeout: Duration,
    /// Where the agent's own counters go; None is nowhere.
    pub metrics: Option<Metrics>,
}

/// The agent's own counters as OTLP metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// OTEL_EXPORTER_OTLP_*, with OTEL_EXPORTER_OTLP_METRICS_* before it; the endpoint of
    /// http/protobuf with its `/v1/metrics`.
    pub otlp: Otlp,
    /// OTEL_METRIC_EXPORT_INTERVAL (60 s).
    pub interval: Duration,
}

impl Default for Export {
    fn default() -> Self {
        Self {
            exporters: Vec::new(),
            color: false,
            width: None,
            queue_size: 2048,
            batch_size: 512,
            schedule_delay: Duration::from_secs(5),
            export_timeout: Duration::from_secs(30),
            metrics: None,
        }
    }
}

#[cfg(test)]
mod tests;
