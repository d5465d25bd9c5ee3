//! OTLP over HTTP and over gRPC: one attempt to send one batch, and what the answer means. Built on
//! reqwest and tonic; docs/decisions/0005-otlp.md tells why opentelemetry-otlp's span exporter
//! does not serve here. Never here: a second attempt ([`batch`](super::batch) makes it).
//!
//! Retryable, by the specification: HTTP 429, 502, 503, 504 and gRPC CANCELLED, DEADLINE_EXCEEDED,
//! ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS, and RESOURCE_EXHAUSTED where it comes with a
//! RetryInfo; besides these whatever kept an answer from coming: no connection, a failed
//! handshake, a broken stream, a time-out. Redirects are not followed.

pub mod encode;
mod grpc;
mod http;
mod tls;
mod wire;

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Answer, Exporter};
use crate::config;
use crate::config::endpoint::shown;
use crate::span::Span;

pub(super) use grpc::channel;
pub(super) use http::{client, read};

/// Sends spans to an OTLP receiver.
pub struct Otlp {
    name: String,
    transport: Transport,
    /// Bytes of the last request.
    size: usize,
}

enum Transport {
    Http(http::Http),
    Grpc(Box<grpc::Grpc>),
}

impl Otlp {
    /// Reads the certificates; does not connect yet. Inside a runtime.
    pub fn new(config: &config::Otlp) -> anyhow::Result<Self> {
        let transport = match config.protocol {
            config::Protocol::HttpProtobuf => Transport::Http(http::Http::new(config)?),
            config::Protocol::Grpc => Transport::Grpc(Box::new(grpc::Grpc::new(config)?)),
        };
        Ok(Self {
            name: format!("otlp to {}", shown(&config.endpoint)),
            transport,
            size: 0,
        })
    }
}

impl Exporter for Otlp {
    fn name(&self) -> &str {
        &self.name
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    async fn export(&mut self, spans: &[Span]) -> Answer {
        let body = Bytes::from(encode::request(spans, self.size + self.size / 8));
        self.size = body.len();
        match &mut self.transport {
            Transport::Http(http) => http.send(body).await,
            Transport::Grpc(grpc) => grpc.send(body).await,
        }
    }
}

/// Headers as configured, checked.
pub(super) fn headers(config: &config::Otlp) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let header = HeaderName::try_from(name.as_str())
            .with_context(|| format!("OTLP header {name:?} is not a header name"))?;
        // The value may be a secret: it is not shown.
        let mut value = HeaderValue::try_from(value.as_str()).with_context(|| {
            format!("the value of OTLP header {name} has a forbidden character")
        })?;
        value.set_sensitive(true);
        headers.append(header, value);
    }
    Ok(headers)
}

/// As the specification has it: the exporter, its language or product, its version.
pub const USER_AGENT: &str = concat!("OTel-OTLP-Exporter-spantap/", env!("CARGO_PKG_VERSION"));

/// A little under the second in which a lone span shall have left.
const PATIENCE: Duration = Duration::from_millis(900);

/// Most bytes read of an HTTP answer (tonic's own limit is 4 MiB).
const MAX_ANSWER: usize = 64 * 1024;
/// Longest to wait for a connection, whatever the time-out.
const CONNECT: Duration = Duration::from_secs(10);

/// The wrong protocol comes out as a riddle: what may be meant is said behind it.
fn hinted(why: String, riddles: &[&str], hint: &str) -> String {
    match riddles.iter().any(|riddle| why.contains(riddle)) {
        true => format!("{why} ({hint})"),
        false => why,
    }
}

#[cfg(test)]
mod tests;
