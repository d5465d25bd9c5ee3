//! OTLP/HTTP with binary protocol buffers. Proxies by HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

use std::io::Write;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};

use super::{CONNECT, MAX_ANSWER, USER_AGENT, headers, hinted, tls};
use crate::config::Otlp;
use crate::config::endpoint::shown;
use crate::export::{Answer, causes};

/// One URL that batches are posted to.
pub struct Http {
    client: Client,
    url: Url,
    gzip: bool,
}

/// The client, with all that the configuration says but the URL.
pub fn client(config: &Otlp) -> anyhow::Result<Client> {
    let mut headers = headers(config)?;
    // Ours: the body's form is not a matter of taste.
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-protobuf"),
    );
    Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .timeout(config.timeout)
        .connect_timeout(config.timeout.min(CONNECT))
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .tls_backend_preconfigured(tls::rustls(config)?)
        .build()
        .context("set up the HTTP client")
}

impl Http {
    /// Checks everything but whether somebody is there.
    pub fn new(config: &Otlp) -> anyhow::Result<Self> {
        let url = Url::parse(&config.endpoint)
            .with_context(|| format!("OTLP endpoint {:?} is not a URL", shown(&config.endpoint)))?;
        ensure!(
            matches!(url.scheme(), "http" | "https") && url.has_host(),
            "OTLP endpoint {:?} does not begin with http:// or https://",
            shown(&config.endpoint)
        );
        Ok(Self {
            client: client(config)?,
            url,
            gzip: config.gzip,
        })
    }

    /// One attempt.
    pub async fn send(&self, body: Bytes) -> Answer {
        let mut request = self.client.post(self.url.clone());
        let body = match self.gzip {
            false => body,
            true => match gzip(&body) {
                Ok(packed) => {
                    request = request.header(CONTENT_ENCODING, "gzip");
                    packed
                }
                Err(error) => return Answer::Failed(format!("gzip: {error}")),
            },
        };
        match request.body(body).send().await {
            Ok(response) => judge(response).await,
            Err(error) => unanswered(error),
        }
    }
}

/// Nothing came back, or nothing of use.
fn unanswered(error: reqwest::Error) -> Answer {
    let hopeless = error.is_builder();
    let why = if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        // A gRPC receiver speaks HTTP/2 and nothing else.
        let riddles = ["invalid HTTP version", "received unexpected message"];
        let hint = "a gRPC port? then: --otlp-protocol grpc";
        hinted(causes(&error.without_url()), &riddles, hint)
    };
    match hopeless {
        true => Answer::Failed(why),
        false => Answer::Later { after: None, why },
    }
}

async fn judge(response: Response) -> Answer {
    let status = response.status();
    let after = retry_after(response.headers(), SystemTime::now());
    let body = read(response).await;
    if status.is_success() {
        return sent(&body);
    }
    let why = explain(status, &body);
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Answer::Later { after, why },
        _ => Answer::Refused(why),
    }
}

/// A status in the 200s: they have it, whatever else they say.
fn sent(body: &[u8]) -> Answer {
    let partial = ExportTraceServiceResponse::decode(body)
        .ok()
        .and_then(|response| response.partial_success)
        .unwrap_or_default();
    Answer::Sent {
        rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
        warning: partial.error_message,
    }
}

/// At most [`MAX_ANSWER`] bytes of the body; what cannot be read is left out.
pub async fn read(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_ANSWER - body.len();
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if body.len() == MAX_ANSWER {
            break;
        }
    }
    body
}

/// The status, and the text of the google.rpc.Status that OTLP puts in the body of an error.
fn explain(status: StatusCode, body: &[u8]) -> String {
    let said = tonic_types::pb::Status::decode(body)
        .map(|status| status.message)
        .unwrap_or_default();
    let said = if said.is_empty() {
        String::from_utf8_lossy(body)
    } else {
        said.into()
    };
    let said: String = said
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST_EXCERPT)
        .collect();
    match said.trim() {
        "" => format!("HTTP {status}"),
        said => format!("HTTP {status}: {said}"),
    }
}

/// Retry-After: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Fast rather than small: spans are repetitive enough.
fn gzip(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

/// Characters of an error's body worth showing.
const LONGEST_EXCERPT: usize = 200;
