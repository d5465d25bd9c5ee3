//! OTLP/gRPC. http:// is HTTP/2 in clear text, https:// is TLS. The channel connects when it is
//! first used and again whenever it must. Proxies are not used: tonic knows none.

use std::error::Error;

use anyhow::{Context, ensure};
use bytes::{Buf, BufMut, Bytes};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::{CONNECT, USER_AGENT, headers, hinted, tls};
use crate::config::Otlp;
use crate::config::endpoint::shown;
use crate::export::{Answer, causes};

/// One channel that batches are sent on.
pub struct Grpc {
    client: tonic::client::Grpc<Channel>,
    metadata: MetadataMap,
    timeout: std::time::Duration,
}

/// A channel to the endpoint, not connected yet; inside a runtime.
pub fn channel(config: &Otlp) -> anyhow::Result<Channel> {
    let shown = shown(&config.endpoint);
    let mut endpoint = Endpoint::from_shared(config.endpoint.clone())
        .with_context(|| format!("OTLP endpoint {shown:?} is not a URL"))?
        .user_agent(USER_AGENT)
        .context("user agent")?
        .connect_timeout(config.timeout.min(CONNECT))
        .tcp_nodelay(true);
    let scheme = endpoint.uri().scheme_str().unwrap_or_default().to_owned();
    ensure!(
        matches!(scheme.as_str(), "http" | "https"),
        "OTLP endpoint {shown:?} does not begin with http:// or https://"
    );
    if scheme == "https" {
        endpoint = endpoint
            .tls_config(tls::tonic(config)?)
            .with_context(|| format!("TLS to {shown}"))?;
    }
    Ok(endpoint.connect_lazy())
}

impl Grpc {
    /// Checks everything but whether somebody is there; inside a runtime.
    pub fn new(config: &Otlp) -> anyhow::Result<Self> {
        let mut client =
            tonic::client::Grpc::new(channel(config)?).accept_compressed(CompressionEncoding::Gzip);
        if config.gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        Ok(Self {
            client,
            metadata: MetadataMap::from_headers(headers(config)?),
            timeout: config.timeout,
        })
    }

    /// One attempt.
    pub async fn send(&mut self, body: Bytes) -> Answer {
        let timeout = self.timeout;
        match tokio::time::timeout(timeout, self.call(body)).await {
            Ok(Ok(response)) => {
                let partial = response.partial_success.unwrap_or_default();
                Answer::Sent {
                    rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
                    warning: partial.error_message,
                }
            }
            Ok(Err(status)) => judge(&status),
            Err(_) => Answer::Later {
                after: None,
                why: "no answer in time".to_owned(),
            },
        }
    }

    async fn call(&mut self, body: Bytes) -> Result<ExportTraceServiceResponse, Status> {
        self.client
            .ready()
            .await
            .map_err(|error| Status::from_error(Box::new(error)))?;
        let mut request = Request::new(body);
        *request.metadata_mut() = self.metadata.clone();
        request.set_timeout(self.timeout);
        let path = PathAndQuery::from_static(EXPORT);
        let response = self.client.unary(request, path, Raw).await?;
        Ok(response.into_inner())
    }
}

fn judge(status: &Status) -> Answer {
    let after = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    let why = match status.source() {
        // What a receiver without gRPC answers is no frame.
        Some(error) => hinted(
            causes(error),
            &["invalid size"],
            "an HTTP port? then: --otlp-protocol http/protobuf",
        ),
        None => format!("gRPC {:?}: {}", status.code(), status.message()),
    };
    let again = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => after.is_some(),
        // Made here from a failure of the transport: the peer has said nothing.
        _ => status.source().is_some(),
    };
    match again {
        true => Answer::Later { after, why },
        false => Answer::Refused(why),
    }
}

/// Sends bytes that are a message already.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, body: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(body);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, body: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let read = ExportTraceServiceResponse::decode(&mut *body);
        // They have the spans, so an answer nobody can read is no reason to send them again.
        body.advance(body.remaining());
        Ok(Some(read.unwrap_or_default()))
    }
}

/// The method, as trace_service.proto has it.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
