//! `live-hyper server PORT`: a server on hyper; `live-hyper client BASE`: a client on reqwest;
//! `server2` and `client2`: the same by HTTP/2, without asking whether the peer speaks it. The server
//! speaks TLS where the environment has TLS_CERT and TLS_KEY, the client where BASE says https.
//! As plain as such programs come; the tests trace them like any other.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use spantap_tests::client::parse;
use spantap_tests::known::Ask;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader};
use tokio_rustls::TlsAcceptor;

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    match (words.get(1).map(String::as_str), words.get(2)) {
        (Some("server"), Some(port)) => serve(port.parse()?, false).await,
        (Some("server2"), Some(port)) => serve(port.parse()?, true).await,
        (Some("client"), Some(base)) => client(base, false).await,
        (Some("client2"), Some(base)) => client(base, true).await,
        _ => anyhow::bail!("server PORT or client BASE"),
    }
}

async fn serve(port: u16, two: bool) -> Result<()> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let tls = acceptor(two)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let tls = tls.clone();
        tokio::spawn(async move {
            // A client that goes away is its own business.
            let _ = match tls {
                Some(tls) => converse(tls.accept(stream).await?, two).await,
                None => converse(stream, two).await,
            };
            anyhow::Ok(())
        });
    }
}

/// TLS with the certificate in the environment, if one is there, for one version of HTTP.
fn acceptor(two: bool) -> Result<Option<TlsAcceptor>> {
    let Some(certificate) = std::env::var_os("TLS_CERT") else {
        return Ok(None);
    };
    let key = std::env::var_os("TLS_KEY").context("TLS_CERT without TLS_KEY")?;
    let certificate = CertificateDer::from_pem_file(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![if two { "h2" } else { "http/1.1" }.into()];
    Ok(Some(Arc::new(config).into()))
}

async fn converse<S>(stream: S, two: bool) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(answer);
    let stream = TokioIo::new(stream);
    if two {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(stream, service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new()
            .serve_connection(stream, service)
            .await
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>> {
    let path = request.uri().path().to_string();
    let mut parts = path.split('/').skip(1);
    let word = parts.next().unwrap_or_default().to_string();
    let number: usize = parts
        .next()
        .and_then(|part| part.parse().ok())
        .unwrap_or_default();
    let response = Response::builder();
    // In HTTP/2 the library leaves it to us that HEAD has no body.
    if request.method() == hyper::Method::HEAD && word == "bytes" {
        let response = response.header("content-length", number);
        return Ok(response.body(full(String::new()))?);
    }
    Ok(match word.as_str() {
        "bytes" => response.body(full("x".repeat(number)))?,
        "chunked" => response.body(pieces(number))?,
        "upload" => {
            let count = request.into_body().collect().await?.to_bytes().len();
            response
                .status(201)
                .body(full(format!("received {count}\n")))?
        }
        "item" => response.status(204).body(full(String::new()))?,
        "status" => {
            let status = u16::try_from(number)?;
            let text = if status == 204 {
                String::new()
            } else {
                format!("status {status}\n")
            };
            response
                .status(status)
                .header("location", "/bytes/0/1")
                .body(full(text))?
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number as u64)).await;
            response.body(full("late\n".into()))?
        }
        _ => response.status(404).body(full("no\n".into()))?,
    })
}

fn full(text: String) -> Body {
    Full::new(Bytes::from(text)).boxed()
}

/// A body of unknown length, hence chunked.
fn pieces(size: usize) -> Body {
    let halves = [size / 2, size - size / 2]
        .into_iter()
        .filter(|half| *half > 0);
    let frames = halves.map(|half| Ok(Frame::data(Bytes::from("x".repeat(half)))));
    StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())).boxed()
}

async fn client(base: &str, two: bool) -> Result<()> {
    // The workspace's reqwest comes without a choice of cryptography, and will not start without.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    builder = if two {
        builder.http2_prior_knowledge()
    } else {
        builder.http1_only()
    };
    let client = builder.build()?;
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let ask = parse(&line).context("a line of the protocol")?;
        match make(&client, base, &ask).await {
            Ok((status, count)) => println!("{status} {count}"),
            Err(error) => println!("error {error:#}"),
        }
    }
    Ok(())
}

/// `BURST`: so many requests at once, as the body's size says.
async fn burst(client: &reqwest::Client, base: &str, ask: &Ask) -> Result<(u16, usize)> {
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..ask.body.unwrap_or_default() {
        let request = client.get(format!("{base}{}/{number}", ask.target));
        requests.spawn(async move { request.send().await?.bytes().await });
    }
    let mut answers = 0;
    while let Some(answer) = requests.join_next().await {
        answer??;
        answers += 1;
    }
    Ok((200, answers))
}

async fn make(client: &reqwest::Client, base: &str, ask: &Ask) -> Result<(u16, usize)> {
    if ask.method == "BURST" {
        return burst(client, base, ask).await;
    }
    let method = reqwest::Method::from_bytes(ask.method.as_bytes())?;
    let mut request = client.request(method, format!("{base}{}", ask.target));
    if let Some(size) = ask.body {
        let body = vec![b'x'; size];
        request = if ask.chunked {
            let stream = futures_util::stream::iter([Ok::<_, Infallible>(body)]);
            request.body(reqwest::Body::wrap_stream(stream))
        } else {
            request.body(body)
        };
    }
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    if ask.close {
        request = request.header("connection", "close");
    }
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.bytes().await?.len()))
}
