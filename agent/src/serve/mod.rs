//! How the agent is, for whoever asks over HTTP: /healthz and /readyz for those who start and stop it,
//! /metrics for Prometheus. It listens from the very start, so that a probe is told why and not refused.
//!
//! Anybody may reach the port. So each connection has one request and `LONGEST` for all of it, there
//! are no more than `CONNECTIONS`, where the eldest makes room for the newest, and of a request nothing
//! is used but its method and path. Never here: what health is, which [`Health`] says.

mod metrics;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::config;
use crate::say::say;
use crate::stats::Stats;

/// Whether it is so; why, in words, in either case.
pub type Verdict = Result<String, String>;

/// What is asked.
pub trait Health: Send + Sync + 'static {
    /// Whether the agent does anything at all: it is started again where not.
    fn alive(&self) -> Verdict;
    /// Whether it does what it is for.
    fn ready(&self) -> Verdict;
}

/// Takes the port.
///
/// # Errors
/// [`config::Error`] where that is not to be had.
pub fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address);
    let listener = listener.map_err(|error| {
        config::Error(format!("serve.listen: cannot listen on {address}: {error}"))
    })?;
    // Any port is one that nobody knows of.
    if address.port() == 0
        && let Ok(address) = listener.local_addr()
    {
        say(format_args!("health and metrics: http://{address}"));
    }
    Ok(listener)
}

/// Answers from now on, in `runtime`, for as long as that is there.
///
/// # Errors
/// Where the kernel refuses to watch the port.
pub fn start(
    listener: std::net::TcpListener,
    health: Arc<dyn Health>,
    stats: &Arc<Stats>,
    runtime: &Handle,
) -> Result<()> {
    let _context = runtime.enter();
    let listener = listener.set_nonblocking(true).and_then(|()| {
        // For the reactor of the runtime that was entered.
        TcpListener::from_std(listener)
    });
    let listener = listener.context("watch the port of serve.listen")?;
    let asked = Asked {
        health,
        stats: Arc::clone(stats),
    };
    runtime.spawn(accept(listener, Arc::new(asked)));
    Ok(())
}

struct Asked {
    health: Arc<dyn Health>,
    stats: Arc<Stats>,
}

async fn accept(listener: TcpListener, asked: Arc<Asked>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is left, or it went before it was taken.
            sleep(PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(eldest) = open.pop_front()
        {
            asked.stats.serve_cut.add(1);
            eldest.abort();
        }
        let connection = tokio::spawn(converse(stream, Arc::clone(&asked)));
        open.push_back(connection.abort_handle());
        // Whoever floods the port has no more of the CPU than this leaves.
        sleep(BREATH).await;
    }
}

async fn converse(stream: TcpStream, asked: Arc<Asked>) {
    let stats = Arc::clone(&asked.stats);
    let service = service_fn(move |request| {
        let answer = asked.answer(&request);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .header_read_timeout(None)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // What is wrong with a request was answered; who went away wants none.
    if timeout(LONGEST, connection).await.is_err() {
        stats.serve_cut.add(1);
    }
}

impl Asked {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let (status, kind, text) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, path) => match path {
                "/healthz" => told(self.health.alive()),
                "/readyz" => told(self.health.ready()),
                "/metrics" => {
                    let text = metrics::text(&self.stats, self.health.ready().is_ok());
                    (StatusCode::OK, metrics::KIND, text)
                }
                _ => (StatusCode::NOT_FOUND, TEXT, PATHS.to_owned()),
            },
            _ => (StatusCode::METHOD_NOT_ALLOWED, TEXT, METHODS.to_owned()),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

fn told(verdict: Verdict) -> (StatusCode, &'static str, String) {
    match verdict {
        Ok(why) => (StatusCode::OK, TEXT, why + "\n"),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, why + "\n"),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const PATHS: &str = "\
/healthz  200 while the agent's threads get on, else 503
/readyz   200 while everything is attached and spans find room on their way out, else 503
/metrics  every counter, for Prometheus
";
const METHODS: &str = "only GET and HEAD\n";
/// Connections at once.
const CONNECTIONS: usize = 64;
/// For all of one connection. Prometheus waits no longer either, unless it is told to.
const LONGEST: Duration = Duration::from_secs(10);
/// Bytes of a request's head at most.
const HEAD: usize = 16 * 1024;
/// Between two connections.
const BREATH: Duration = Duration::from_millis(1);
/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
