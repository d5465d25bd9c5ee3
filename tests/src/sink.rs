//! The backend: an OTLP endpoint on a free loopback port that keeps what it is sent.
//! One port speaks HTTP/1 and HTTP/2 and takes both transports, told apart by content type, so an
//! agent's two protocols can be pointed at the same place. gRPC is one unary call, done by hand so
//! that refusals can be staged.

use std::convert::Infallible;
use std::fs::File;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::{ServerConfig, server::WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::certificates::Certificates;
use crate::span::{self, Span};

/// A running endpoint; ends when dropped.
pub struct Sink {
    state: Arc<State>,
    port: u16,
    secure: bool,
    _runtime: tokio::runtime::Runtime,
}

/// How one export request arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Whether by gRPC.
    pub grpc: bool,
    /// Whether compressed.
    pub gzip: bool,
    /// Spans in it, of how many resources.
    pub spans: usize,
    /// Resources in it.
    pub resources: usize,
    /// Its headers (HTTP) or metadata (gRPC).
    pub headers: HeaderMap,
    /// When.
    pub at: Instant,
    /// Whether it was refused on purpose.
    pub refused: bool,
}

#[derive(Default)]
struct State {
    kept: Mutex<Kept>,
    news: Condvar,
}

#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    arrivals: Vec<Arrival>,
    broken: Vec<String>,
    refuse: u32,
}

impl Sink {
    /// Starts one on a free port of loopback.
    pub fn start() -> Result<Self> {
        Self::on(0)
    }

    /// Starts one on `port`.
    pub fn on(port: u16) -> Result<Self> {
        Self::with(port, None)
    }

    /// Starts one that speaks TLS; with `mutual`, only to clients of the same authority.
    pub fn secure(certificates: &Certificates, mutual: bool) -> Result<Self> {
        Self::with(0, Some(acceptor(certificates, mutual)?))
    }

    /// Starts one on a free port of all addresses of another network namespace.
    pub fn inside(network: &File) -> Result<Self> {
        let enter = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).context("enter the network")?;
            Self::at((Ipv4Addr::UNSPECIFIED, 0), None)
        };
        // Whoever enters stays there.
        let started = std::thread::scope(|scope| scope.spawn(enter).join());
        started.unwrap_or_else(|_| anyhow::bail!("a panic"))
    }

    fn with(port: u16, tls: Option<TlsAcceptor>) -> Result<Self> {
        Self::at((Ipv4Addr::LOCALHOST, port), tls)
    }

    fn at(address: (Ipv4Addr, u16), tls: Option<TlsAcceptor>) -> Result<Self> {
        let secure = tls.is_some();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("sink")
            .enable_all()
            .build()?;
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(address))
            .context("bind the sink")?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        runtime.spawn(accept(listener, state.clone(), tls));
        Ok(Self {
            state,
            port,
            secure,
            _runtime: runtime,
        })
    }

    /// What to put into OTEL_EXPORTER_OTLP_ENDPOINT.
    pub fn endpoint(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Refuses the next `count` requests as a busy backend does (503, UNAVAILABLE).
    pub fn refuse(&self, count: u32) {
        self.lock().refuse = count;
    }

    /// Waits until `count` spans have arrived; false if `limit` passed first.
    pub fn wait(&self, count: usize, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut kept = self.lock();
        while kept.spans.len() < count {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                return false;
            };
            kept = self
                .state
                .news
                .wait_timeout(kept, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Waits until nothing more arrived for `quiet`, at most `limit`.
    pub fn settle(&self, quiet: Duration, limit: Duration) {
        let end = Instant::now() + limit;
        let mut last = self.count();
        let mut since = Instant::now();
        while since.elapsed() < quiet && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
            let count = self.count();
            if count != last {
                (last, since) = (count, Instant::now());
            }
        }
    }

    /// Everything received so far.
    pub fn spans(&self) -> Vec<Span> {
        self.lock().spans.clone()
    }

    /// How many so far.
    pub fn count(&self) -> usize {
        self.lock().spans.len()
    }

    /// Every export request so far.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.lock().arrivals.clone()
    }

    /// Requests that were not OTLP, and why.
    pub fn broken(&self) -> Vec<String> {
        self.lock().broken.clone()
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        let mut kept = self.lock();
        kept.spans.clear();
        kept.arrivals.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.state.lock()
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a request's spans, or notes why it could not; true if it is to be refused.
    fn keep(&self, grpc: bool, headers: HeaderMap, gzip: bool, message: &[u8]) -> Result<bool> {
        let request = ExportTraceServiceRequest::decode(message).context("decode the request")?;
        let resources = request.resource_spans.len();
        let spans = span::spans(request);
        let mut kept = self.lock();
        let refused = kept.refuse > 0;
        kept.refuse = kept.refuse.saturating_sub(1);
        kept.arrivals.push(Arrival {
            grpc,
            gzip,
            spans: spans.len(),
            resources,
            headers,
            at: Instant::now(),
            refused,
        });
        if !refused {
            kept.spans.extend(spans);
        }
        drop(kept);
        self.news.notify_all();
        Ok(refused)
    }
}

type Body = BoxBody<Bytes, Infallible>;

fn acceptor(certificates: &Certificates, mutual: bool) -> Result<TlsAcceptor> {
    let authority = CertificateDer::from_pem_file(&certificates.authority)?;
    let own = CertificateDer::from_pem_file(&certificates.server)?;
    let key = PrivateKeyDer::from_pem_file(&certificates.server_key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = if mutual {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority)?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build()?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(vec![own], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

async fn accept(listener: tokio::net::TcpListener, state: Arc<State>, tls: Option<TlsAcceptor>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (state, tls) = (state.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => converse(stream, state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn converse<S>(stream: S, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| serve(request, state.clone()));
    // A peer that goes away is no concern of the sink's.
    let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn serve(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let content = head
        .headers
        .get("content-type")
        .map(|value| value.as_bytes().to_vec());
    let grpc = content
        .as_deref()
        .is_some_and(|c| c.starts_with(b"application/grpc"));
    let outcome = if grpc {
        take_grpc(&state, head.headers, &body)
    } else {
        let path = head.uri.path().to_string();
        take_http(&state, &path, content.as_deref(), head.headers, &body)
    };
    if let Err(error) = &outcome {
        state.lock().broken.push(format!("{error:#}"));
    }
    if grpc {
        grpc_answer(outcome)
    } else {
        http_answer(outcome)
    }
}

fn take_http(
    state: &State,
    path: &str,
    content: Option<&[u8]>,
    headers: HeaderMap,
    body: &[u8],
) -> Result<bool> {
    ensure!(path == "/v1/traces", "posted to {path}");
    ensure!(
        content == Some(b"application/x-protobuf"),
        "content-type {:?}",
        content.map(String::from_utf8_lossy)
    );
    let gzip = headers.get("content-encoding").is_some_and(|v| v == "gzip");
    let message = if gzip { gunzip(body)? } else { body.to_vec() };
    state.keep(false, headers, gzip, &message)
}

/// One gRPC message: a compressed flag, a length, the bytes.
fn take_grpc(state: &State, headers: HeaderMap, body: &[u8]) -> Result<bool> {
    let (flag, rest) = body.split_first().context("an empty gRPC body")?;
    let (length, message) = rest.split_first_chunk().context("a short gRPC body")?;
    ensure!(
        u32::from_be_bytes(*length) as usize == message.len(),
        "gRPC message of {} bytes says {length:?}",
        message.len()
    );
    let gzip = *flag == 1;
    let message = if gzip {
        gunzip(message)?
    } else {
        message.to_vec()
    };
    state.keep(true, headers, gzip, &message)
}

fn gunzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .read_to_end(&mut plain)
        .context("gunzip the request")?;
    Ok(plain)
}

fn http_answer(outcome: Result<bool>) -> Result<Response<Body>> {
    let status = match outcome {
        Ok(false) => 200,
        Ok(true) => 503,
        Err(_) => 400,
    };
    // An empty message is a full success.
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/x-protobuf")
        .body(Full::new(Bytes::new()).boxed())?)
}

fn grpc_answer(outcome: Result<bool>) -> Result<Response<Body>> {
    let code = match outcome {
        Ok(false) => "0",
        Ok(true) => "14",
        Err(_) => "3",
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse()?);
    let mut message = Vec::new();
    if code == "0" {
        message.extend([0; 5]);
    }
    let body = Full::new(Bytes::from(message)).with_trailers(async move { Some(Ok(trailers)) });
    Ok(Response::builder()
        .header("content-type", "application/grpc")
        .body(body.map_frame(|frame: Frame<Bytes>| frame).boxed())?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Sent};

    use super::*;

    fn message() -> Vec<u8> {
        let span = Sent {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            name: "GET".into(),
            kind: 3,
            ..Sent::default()
        };
        let scoped = ScopeSpans {
            spans: vec![span],
            ..ScopeSpans::default()
        };
        let group = ResourceSpans {
            scope_spans: vec![scoped],
            ..ResourceSpans::default()
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![group],
        };
        request.encode_to_vec()
    }

    fn post(sink: &Sink, head: &str, body: &[u8]) -> String {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", sink.port())).expect("connect");
        let length = body.len();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {length}\r\n\r\n"
        );
        stream
            .write_all(&[head.as_bytes(), body].concat())
            .expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer
    }

    const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\n";

    #[test]
    fn keeps_what_it_is_sent() {
        let sink = Sink::start().expect("start");
        let answer = post(&sink, PROTOBUF, &message());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(sink.wait(1, Duration::from_secs(5)));
        let spans = sink.spans();
        assert_eq!(spans[0].name, "GET");
        assert_eq!(spans[0].trace, "01".repeat(16));
        assert_eq!(spans[0].kind, crate::Kind::Client);
    }

    #[test]
    fn takes_gzip() {
        let sink = Sink::start().expect("start");
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&message()).expect("pack");
        let packed = packer.finish().expect("pack");
        post(
            &sink,
            &format!("{PROTOBUF}Content-Encoding: gzip\r\n"),
            &packed,
        );
        assert_eq!(sink.count(), 1);
        assert!(sink.arrivals()[0].gzip);
    }

    #[test]
    fn refuses_when_told_to_and_what_is_not_otlp() {
        let sink = Sink::start().expect("start");
        sink.refuse(1);
        assert!(post(&sink, PROTOBUF, &message()).starts_with("HTTP/1.1 503"));
        assert_eq!(sink.count(), 0);
        assert!(post(&sink, "Content-Type: text/plain\r\n", b"x").starts_with("HTTP/1.1 400"));
        assert_eq!(sink.broken().len(), 1);
    }
}
