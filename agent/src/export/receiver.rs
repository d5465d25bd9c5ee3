//! For tests: an OTLP receiver that answers as it is told, over HTTP/1 and gRPC on one port, with
//! or without TLS, and remembers what it got.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::codec::CompressionEncoding;
use tonic::codegen::{Service, async_trait};

/// What to say to one request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Rejected spans and a message.
    Partial(i64, &'static str),
    /// An HTTP status, with one header more.
    Http(u16, &'static str, &'static str),
    /// A gRPC status.
    Grpc(tonic::Status),
    /// Nothing, for a long time.
    Hang,
    /// 200 and a body of this many bytes.
    Body(usize),
}

/// What came.
#[derive(Debug, Default)]
pub struct Log {
    /// Headers of each request for traces.
    pub headers: Vec<HeaderMap>,
    /// Those that were answered with success.
    pub traces: Vec<ExportTraceServiceRequest>,
    /// Metrics.
    pub metrics: Vec<ExportMetricsServiceRequest>,
    replies: VecDeque<Reply>,
}

impl Log {
    /// Spans in all requests that were answered with success.
    pub fn spans(&self) -> usize {
        let services = self
            .traces
            .iter()
            .flat_map(|request| &request.resource_spans);
        let scopes = services.flat_map(|service| &service.scope_spans);
        scopes.map(|scope| scope.spans.len()).sum()
    }
}

/// The receiver; stops when dropped.
pub struct Receiver {
    pub address: SocketAddr,
    pub log: Arc<Mutex<Log>>,
    _accept: JoinSet<()>,
}

impl Receiver {
    /// On a free port.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with("127.0.0.1:0", replies, None).await
    }

    pub async fn with(
        address: &str,
        replies: impl IntoIterator<Item = Reply>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let log = Arc::new(Mutex::new(Log {
            replies: replies.into_iter().collect(),
            ..Log::default()
        }));
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&log), tls));
        Self {
            address,
            log,
            _accept: tasks,
        }
    }

    /// Waits until this is true of the log, which it must be in reasonable time.
    pub async fn until(&self, what: impl Fn(&Log) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            while !what(&self.log.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if waited.await.is_err() {
            panic!("not so after a minute: {:?}", self.log.lock().unwrap());
        }
    }
}

async fn accept(listener: TcpListener, log: Arc<Mutex<Log>>, tls: Option<TlsAcceptor>) {
    // Ends its connections when it ends.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&log), tls.clone()));
    }
}

async fn serve(stream: TcpStream, log: Arc<Mutex<Log>>, tls: Option<TlsAcceptor>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&log)));
    let server = Builder::new(TokioExecutor::new());
    // How a connection ends is the client's matter.
    let _ = match tls {
        None => server.serve_connection(TokioIo::new(stream), service).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => return,
        },
    };
}

async fn answer(
    request: Request<Incoming>,
    log: Arc<Mutex<Log>>,
) -> Result<Response<tonic::body::Body>, Infallible> {
    let grpc = request
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if request.uri().path().ends_with("TraceService/Export") || request.uri().path() == "/v1/traces"
    {
        log.lock().unwrap().headers.push(request.headers().clone());
    }
    if grpc && request.uri().path().contains("MetricsService") {
        let mut server = MetricsServiceServer::new(Traces(log));
        server = server.accept_compressed(CompressionEncoding::Gzip);
        return server.call(request).await;
    }
    if grpc {
        let mut server = TraceServiceServer::new(Traces(log));
        server = server.accept_compressed(CompressionEncoding::Gzip);
        return server.call(request).await;
    }
    Ok(http(request, log).await.map(tonic::body::Body::new))
}

async fn http(request: Request<Incoming>, log: Arc<Mutex<Log>>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = match head.headers.get("content-encoding") {
        None => body.to_vec(),
        Some(encoding) => {
            assert_eq!(encoding, "gzip");
            let mut plain = Vec::new();
            let mut reader = flate2::read::GzDecoder::new(body.as_ref());
            reader.read_to_end(&mut plain).unwrap();
            plain
        }
    };
    assert_eq!(
        head.headers.get("content-type").unwrap(),
        "application/x-protobuf"
    );
    if head.uri.path() == "/v1/metrics" {
        let request = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
        log.lock().unwrap().metrics.push(request);
        return Response::new(Full::default());
    }
    assert_eq!(head.uri.path(), "/v1/traces");
    let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
    let reply = log.lock().unwrap().replies.pop_front();
    let mut response = Response::new(Full::default());
    match reply {
        None => {}
        Some(Reply::Partial(rejected, text)) => {
            *response.body_mut() = partial(rejected, text).encode_to_vec().into();
        }
        Some(Reply::Body(size)) => *response.body_mut() = vec![b'x'; size].into(),
        Some(Reply::Http(status, header, value)) => {
            *response.status_mut() = status.try_into().unwrap();
            response
                .headers_mut()
                .insert(header, value.try_into().unwrap());
            return response;
        }
        Some(Reply::Hang) => tokio::time::sleep(Duration::from_secs(3600)).await,
        Some(Reply::Grpc(_)) => unreachable!("not over HTTP"),
    }
    log.lock().unwrap().traces.push(request);
    response
}

fn partial(rejected: i64, text: &str) -> ExportTraceServiceResponse {
    ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: text.to_owned(),
        }),
    }
}

struct Traces(Arc<Mutex<Log>>);

#[async_trait]
impl TraceService for Traces {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let reply = self.0.lock().unwrap().replies.pop_front();
        let response = match reply {
            None => ExportTraceServiceResponse::default(),
            Some(Reply::Partial(rejected, text)) => partial(rejected, text),
            Some(Reply::Grpc(status)) => return Err(status),
            Some(Reply::Hang) => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                return Err(tonic::Status::internal("hung"));
            }
            Some(other) => unreachable!("not over gRPC: {other:?}"),
        };
        self.0.lock().unwrap().traces.push(request.into_inner());
        Ok(tonic::Response::new(response))
    }
}

#[async_trait]
impl MetricsService for Traces {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        self.0.lock().unwrap().metrics.push(request.into_inner());
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// An authority, and what it has signed.
pub struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            authority: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    /// The authority's certificate.
    pub fn root(&self) -> String {
        self.authority.pem()
    }

    /// A certificate for `name` and its key.
    pub fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.authority).unwrap(), key)
    }

    /// The server's side, for 127.0.0.1 and localhost; `mutual` if it wants to know who we are.
    pub fn acceptor(&self, mutual: bool) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.issue("localhost");
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}
