//! The agent's own counters as OTLP metrics: every line of [`Stats`] as `spantap.<name>`, read when
//! a period is over. Made with opentelemetry-otlp over this crate's own HTTP client or gRPC channel,
//! so that TLS and proxies are the same as for spans.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::{InstrumentationScope, KeyValue, StringValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    Compression, MetricExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use tokio::runtime::Handle;
use tonic::codegen::async_trait;
use tonic::metadata::MetadataMap;

use super::{otlp, say};
use crate::config;
use crate::protocol::Value;
use crate::span::Resource;
use crate::stats::{GAUGES, Stats};

/// The task that sends counters; [`shutdown`](Metrics::shutdown) sends them a last time.
#[derive(Debug)]
pub struct Metrics {
    provider: SdkMeterProvider,
}

impl Metrics {
    /// Starts sending; `resource` is the agent's own. The network part runs on `runtime`, the rest
    /// on a thread that `begin` was called on.
    pub fn start(
        config: &config::Metrics,
        resource: &Resource,
        stats: &Arc<Stats>,
        runtime: &Handle,
        begin: fn(),
    ) -> anyhow::Result<Self> {
        let _context = runtime.enter();
        let exporter = exporter(&config.otlp, runtime).context("send the agent's own metrics");
        let exporter = exporter.map_err(super::misconfigured)?;
        let builder = PeriodicReader::builder(exporter).with_interval(config.interval);
        // The SDK makes its own thread, which is as the one it is made by.
        let maker = std::thread::spawn(move || {
            begin();
            builder.build()
        });
        let Ok(reader) = maker.join() else {
            anyhow::bail!("start sending the agent's own metrics");
        };
        let provider = SdkMeterProvider::builder()
            .with_reader(reader)
            .with_resource(convert(resource))
            .build();
        let scope = InstrumentationScope::builder("spantap")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        register(&provider.meter_with_scope(scope), stats);
        Ok(Self { provider })
    }

    /// Sends the counters a last time. The wait is bounded by the SDK (5 s).
    pub async fn shutdown(self) {
        let provider = self.provider;
        let ended = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = ended {
            say(&format!("metrics: {error}"));
        }
    }
}

/// One instrument for each line of the counters.
fn register(meter: &Meter, stats: &Arc<Stats>) {
    for (at, (name, doc, _)) in stats.read().into_iter().enumerate() {
        let stats = Arc::clone(stats);
        let read = move || stats.read().get(at).map(|(_, _, value)| *value);
        let full = format!("spantap.{name}");
        // The instrument lives on in the provider.
        if GAUGES.contains(&name) {
            meter
                .u64_observable_gauge(full)
                .with_description(doc.trim())
                .with_callback(move |observer| {
                    if let Some(value) = read() {
                        observer.observe(value, &[]);
                    }
                })
                .build();
        } else {
            meter
                .u64_observable_counter(full)
                .with_description(doc.trim())
                .with_callback(move |observer| {
                    if let Some(value) = read() {
                        observer.observe(value, &[]);
                    }
                })
                .build();
        }
    }
}

fn exporter(config: &config::Otlp, runtime: &Handle) -> anyhow::Result<MetricExporter> {
    let exporter = match config.protocol {
        config::Protocol::HttpProtobuf => {
            let client = Client {
                client: otlp::client(config)?,
                runtime: runtime.clone(),
            };
            let mut builder = MetricExporter::builder()
                .with_http()
                .with_http_client(client)
                .with_endpoint(&config.endpoint)
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_headers(HashMap::new())
                .with_timeout(config.timeout);
            if config.gzip {
                builder = builder.with_compression(Compression::Gzip);
            }
            builder.build()?
        }
        config::Protocol::Grpc => {
            let mut builder = MetricExporter::builder()
                .with_tonic()
                .with_channel(otlp::channel(config)?)
                .with_metadata(MetadataMap::from_headers(otlp::headers(config)?))
                .with_timeout(config.timeout);
            if config.gzip {
                builder = builder.with_compression(Compression::Gzip);
            }
            builder.build()?
        }
    };
    Ok(exporter)
}

fn convert(resource: &Resource) -> opentelemetry_sdk::Resource {
    let attributes = resource.attributes.iter().map(|attribute| {
        let value = match &attribute.value {
            Value::Str(text) => text.to_string().into(),
            Value::Int(number) => (*number).into(),
            Value::Bool(truth) => (*truth).into(),
            Value::Double(number) => (*number).into(),
            Value::List(texts) => {
                let texts: Vec<_> = texts.iter().cloned().map(StringValue::from).collect();
                opentelemetry::Value::Array(texts.into())
            }
        };
        KeyValue::new(attribute.key.clone(), value)
    });
    opentelemetry_sdk::Resource::builder_empty()
        .with_attributes(attributes)
        .build()
}

/// The SDK's reader has a thread of its own and no runtime: requests run on ours.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime
            .spawn(async move { exchange(&client, request).await })
            .await?
    }
}

async fn exchange(
    client: &reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let response = client.execute(request.try_into()?).await?;
    let mut answer = Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        headers.clone_from(response.headers());
    }
    Ok(answer.body(otlp::read(response).await.into())?)
}
