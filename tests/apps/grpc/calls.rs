//! `live-tonic server PORT [CERTIFICATE KEY]`, or `client PORT [AUTHORITY]`: a gRPC server and client
//! on tonic. Messages are bytes: no stubs are made. The client reads lines, `KIND METHOD [COUNT
//! AT-ONCE]`, and makes these calls on one channel.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::sleep;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Bytes, http};
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig,
};
use tonic::{Code, Request, Response, Status, Streaming};

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["server", port] => serve(Server::builder(), port).await,
        ["server", port, certificate, key] => {
            let identity = Identity::from_pem(read(certificate)?, read(key)?);
            let security = ServerTlsConfig::new().identity(identity);
            serve(Server::builder().tls_config(security)?, port).await
        }
        ["client", port] => {
            let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
            ask(&endpoint.connect_lazy()).await
        }
        ["client", port, authority] => {
            let authority = Certificate::from_pem(read(authority)?);
            let security = ClientTlsConfig::new().ca_certificate(authority);
            let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}"))?;
            ask(&endpoint.tls_config(security)?.connect_lazy()).await
        }
        _ => anyhow::bail!("server PORT [CERTIFICATE KEY] or client PORT [AUTHORITY]"),
    }
}

fn read(file: &str) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("read {file}"))
}

/// Passes bytes as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
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

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(to, message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let size = bytes::Buf::remaining(from);
        Ok(Some(bytes::Buf::copy_to_bytes(from, size)))
    }
}

fn kind(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split('_').next().unwrap_or_default()
}

async fn serve(server: Server, port: &str) -> Result<()> {
    let service = tower::service_fn(|request: http::Request<Body>| async {
        let kind = kind(request.uri().path()).to_string();
        let handler = tower::service_fn(move |request| answer(kind.clone(), request));
        let mut grpc = tonic::server::Grpc::new(Raw);
        Ok::<_, std::convert::Infallible>(grpc.streaming(handler, request).await)
    });
    let address = (Ipv4Addr::LOCALHOST, port.parse()?).into();
    Ok(server.serve(address, service).await?)
}

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Takes all of a call's messages, then answers; Both answers each as it comes.
async fn answer(
    kind: String,
    request: Request<Streaming<Bytes>>,
) -> Result<Response<Answers>, Status> {
    let mut pieces = request.into_inner();
    if kind == "Both" {
        return Ok(Response::new(pieces.boxed()));
    }
    let mut all = Vec::new();
    while let Some(piece) = pieces.message().await? {
        all.extend(piece);
    }
    let all = Bytes::from(all);
    let answers = match kind.as_str() {
        "Fails" => return Err(Status::not_found("no such thing")),
        "Breaks" => return Err(Status::unknown("a bug")),
        "Slow" => {
            sleep(Duration::from_millis(500)).await;
            stream::iter([Ok(all)]).boxed()
        }
        "Scatter" => stream::iter(vec![all; 5]).map(Ok).boxed(),
        "Lasts" => stream::unfold(0, move |at| {
            let all = all.clone();
            async move {
                if at > 0 {
                    sleep(Duration::from_millis(100)).await;
                }
                (at < 3).then_some((Ok(all), at + 1))
            }
        })
        .boxed(),
        "FailsLate" => stream::iter([Ok(all), Err(Status::unavailable("went away"))]).boxed(),
        "Cancels" => stream::iter([Ok(all)]).chain(stream::pending()).boxed(),
        _ => stream::iter([Ok(all)]).boxed(),
    };
    Ok(Response::new(answers))
}

async fn ask(channel: &Channel) -> Result<()> {
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [kind, method] => println!("{}", outcome(channel, kind, method).await),
            [kind, method, count, at_once] => {
                let (count, at_once) = (count.parse()?, at_once.parse()?);
                println!("{}", many(channel, kind, method, count, at_once).await);
            }
            _ => anyhow::bail!("a line of the protocol"),
        }
    }
    Ok(())
}

async fn many(
    channel: &Channel,
    kind: &str,
    method: &str,
    count: usize,
    at_once: usize,
) -> &'static str {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let (next, channel) = (next.clone(), channel.clone());
        let (kind, method) = (kind.to_string(), method.to_string());
        workers.spawn(async move {
            let mut worst = "OK";
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    return worst;
                }
                let got = outcome(&channel, &kind, &format!("{method}_{at}")).await;
                if got != "OK" {
                    worst = got;
                }
            }
        });
    }
    let ends = workers.join_all().await;
    ends.into_iter().find(|got| *got != "OK").unwrap_or("OK")
}

/// The code as the specification spells it.
async fn outcome(channel: &Channel, kind: &str, method: &str) -> &'static str {
    let code = match call(channel, kind, method).await {
        Ok(()) => Code::Ok,
        Err(status) => status.code(),
    };
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::Unavailable => "UNAVAILABLE",
        _ => "OTHER",
    }
}

async fn call(channel: &Channel, kind: &str, method: &str) -> Result<(), Status> {
    let piece = Bytes::from_static(b"piece");
    let pieces = stream::iter(vec![piece.clone(); 3]);
    let method = http::uri::PathAndQuery::try_from(method)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    let ready = grpc.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut answers = match kind {
        "Gather" => {
            let answer = grpc.client_streaming(Request::new(pieces), method, Raw);
            return answer.await.map(drop);
        }
        "Both" => grpc.streaming(Request::new(pieces), method, Raw).await?,
        "Scatter" | "FailsLate" | "Lasts" | "Cancels" => {
            let request = Request::new(piece);
            grpc.server_streaming(request, method, Raw).await?
        }
        _ => {
            let mut request = Request::new(piece);
            if kind == "Slow" {
                request.set_timeout(Duration::from_millis(200));
            }
            return grpc.unary(request, method, Raw).await.map(drop);
        }
    }
    .into_inner();
    while answers.message().await?.is_some() {
        if kind == "Cancels" {
            // The stream's end is how this library cancels.
            return Err(Status::cancelled("enough"));
        }
    }
    Ok(())
}
