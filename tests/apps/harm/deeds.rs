//! What clients do. Each gives a transcript: lines that are the same each time, whatever the ports,
//! the time and the order of what runs at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::body::Check;
use crate::link::{Link, Waiting, field};
use crate::{shapes, websocket};

/// Lines.
pub type Transcript = Vec<String>;

/// Requests on so many connections at once, each kept: bodies of all sizes, both ways.
pub fn keep(address: SocketAddr, count: usize, at_once: usize) -> Transcript {
    let one = |_| {
        let mut folded = BTreeMap::new();
        let mut work = || -> Result<()> {
            let mut link = Link::open(address)?;
            for at in 0..count {
                *folded.entry(keep_one(&mut link, at)?).or_default() += 1;
            }
            Ok(())
        };
        let ended = work();
        note(&mut folded, ended);
        folded
    };
    fold(at_once, one)
}

/// One of those requests.
fn keep_one(link: &mut Link, at: usize) -> Result<String> {
    let request = match at % 6 {
        0 => "GET /bytes/0".to_owned(),
        1 => "GET /bytes/1".to_owned(),
        2 => "GET /bytes/1024".to_owned(),
        3 => format!(
            "GET /bytes/{}",
            if at % 30 == 27 { 3 << 20 } else { 100 << 10 }
        ),
        4 => "GET /mirror".to_owned(),
        _ => "POST /upload".to_owned(),
    };
    let size = match request.starts_with("POST") {
        true => 100 << 10,
        false => 0,
    };
    let length = match size {
        0 => String::new(),
        _ => format!("Content-Length: {size}\r\n"),
    };
    let head = format!("{request} HTTP/1.1\r\nHost: harm\r\n{length}\r\n");
    link.send(head.as_bytes())?;
    link.pour(size)?;
    Ok(format!("{request}: {}", response(link)?))
}

/// A response's head but for what differs from run to run, and its body: as text if it is short and
/// not of our noise.
fn response(link: &mut Link) -> Result<String> {
    let head = link.head()?.context("no response")?;
    let (mut check, mut text) = (Check::default(), Vec::new());
    link.body(&head, &mut |_| {}, &mut |bytes| {
        check.take(bytes);
        text.extend_from_slice(&bytes[..bytes.len().min(SHOWN.saturating_sub(text.len()))]);
    })?;
    let head = lasting(&head);
    let told = match check.told() {
        told if told.ends_with("as sent") => told,
        _ => text.escape_ascii().to_string(),
    };
    Ok(format!("{head} | {told}"))
}

/// A head but for what differs from run to run.
pub fn lasting(head: &str) -> String {
    let fleeting = ["date:", "last-modified:", "etag:"];
    let lines = head.lines().filter(|line| {
        let line = line.to_ascii_lowercase();
        !line.is_empty() && !fleeting.iter().any(|name| line.starts_with(name))
    });
    lines.collect::<Vec<&str>>().join(" | ")
}

/// Shown of a body.
const SHOWN: usize = 4 << 10;

/// How many headers the server has taken out of what it read.
pub fn added(address: SocketAddr) -> Result<Transcript> {
    let mut link = Link::open_blocking(address)?;
    link.send(b"GET /added HTTP/1.1\r\nHost: harm\r\n\r\n")?;
    let head = link.head()?.context("no response")?;
    let mut text = Vec::new();
    link.body(&head, &mut |_| {}, &mut |bytes| {
        text.extend_from_slice(bytes);
    })?;
    Ok(vec![String::from_utf8(text)?])
}

/// A large body up and one down, on one connection.
pub fn bulk(address: SocketAddr, size: u64) -> Transcript {
    lines(|lines| {
        let mut link = Link::open(address)?;
        link.send(
            format!("POST /upload HTTP/1.1\r\nHost: harm\r\nContent-Length: {size}\r\n\r\n")
                .as_bytes(),
        )?;
        link.pour(size)?;
        lines.push(response(&mut link)?);
        link.send(format!("GET /bytes/{size} HTTP/1.1\r\nHost: harm\r\n\r\n").as_bytes())?;
        lines.push(response(&mut link)?);
        Ok(())
    })
}

/// Requests in every shape that a write can give them; each is answered with what the server read.
pub fn raw(address: SocketAddr) -> Transcript {
    lines(|lines| {
        for open in [Link::open, Link::open_blocking] {
            let mut link = open(address)?;
            for (name, writes, answers) in shapes::all() {
                for write in writes {
                    link.send(write.as_bytes())?;
                }
                for _ in 0..answers {
                    lines.push(format!("{name}: {}", response(&mut link)?));
                }
            }
        }
        Ok(())
    })
}

/// A WebSocket.
pub fn socket(address: SocketAddr) -> Transcript {
    lines(|lines| {
        lines.extend(websocket::ask(&mut Link::open(address)?)?);
        Ok(())
    })
}

/// Connections of one request each.
pub fn short(address: SocketAddr, count: usize, at_once: usize) -> Transcript {
    let one = |_| {
        let mut folded = BTreeMap::new();
        for _ in 0..count / at_once {
            let ended = short_one(address).map(|line| *folded.entry(line).or_default() += 1);
            note(&mut folded, ended);
        }
        folded
    };
    fold(at_once, one)
}

fn short_one(address: SocketAddr) -> Result<String> {
    let mut link = Link::open(address)?;
    link.send(b"GET /bytes/100 HTTP/1.1\r\nHost: harm\r\nConnection: close\r\n\r\n")?;
    let line = response(&mut link)?;
    let end = link.head()?.is_none();
    Ok(format!("{line} | then the end: {end}"))
}

/// TLS and plain text in turn, to one port, on connections of some requests each.
pub fn tls(address: SocketAddr, authority: &str, turns: usize, each: usize) -> Transcript {
    lines(|lines| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        for turn in 0..turns {
            let mut link = match turn % 2 {
                0 => Link::open(address)?,
                _ => {
                    let name = ServerName::try_from("localhost")?;
                    let session = ClientConnection::new(config.clone(), name)?;
                    Link::new(StreamOwned::new(session, Waiting::connect(address)?))
                }
            };
            for at in 0..each {
                lines.push(format!("{turn}: {}", keep_one(&mut link, at)?));
            }
        }
        Ok(())
    })
}

/// How long keep-alive requests take: lines of `WHAT NANOSECONDS`.
pub fn pace(address: SocketAddr, count: usize) -> Result<Transcript> {
    let mut link = Link::open(address)?;
    let mut times = Vec::new();
    for at in 0..count + WARM {
        let begun = Instant::now();
        link.send(b"GET /bytes/1024 HTTP/1.1\r\nHost: harm\r\n\r\n")?;
        let head = link.head()?.context("no response")?;
        anyhow::ensure!(field(&head, "content-length") == Some("1024"), "{head}");
        link.take(1024, &mut |_| {})?;
        if at >= WARM {
            times.push(begun.elapsed().as_nanos());
        }
    }
    times.sort_unstable();
    let of = |thousandth: usize| times[(times.len() - 1) * thousandth / 1000];
    Ok(vec![
        format!("p50 {}", of(500)),
        format!("p99.9 {}", of(999)),
        format!("most {}", of(1000)),
    ])
}

/// Requests that are not timed.
const WARM: usize = 50;

/// The lines of a deed, and why it went no further.
fn lines(deed: impl FnOnce(&mut Transcript) -> Result<()>) -> Transcript {
    let mut lines = Vec::new();
    if let Err(error) = deed(&mut lines) {
        lines.push(format!("failed: {error:#}"));
    }
    lines
}

fn note(folded: &mut BTreeMap<String, usize>, ended: Result<()>) {
    if let Err(error) = ended {
        *folded.entry(format!("failed: {error:#}")).or_default() += 1;
    }
}

/// What so many at once came to, equal lines as one.
fn fold(at_once: usize, one: impl Fn(usize) -> BTreeMap<String, usize> + Sync) -> Transcript {
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..at_once)
            .map(|at| scope.spawn(move || one(at)))
            .collect();
        for thread in threads {
            let folded = thread
                .join()
                .unwrap_or_else(|_| [("failed: panic".into(), 1)].into());
            for (line, count) in folded {
                *all.entry(line).or_default() += count;
            }
        }
    });
    all.into_iter()
        .map(|(line, count)| format!("{count} × {line}"))
        .collect()
}

/// A name, and what is done once.
pub type Sort = (&'static str, Box<dyn Fn() -> Transcript + Send>);

/// What traffic of all sorts is.
pub fn sorts(proxy: SocketAddr, direct: SocketAddr, authority: &str) -> Vec<Sort> {
    let authority = authority.to_owned();
    vec![
        ("proxy", Box::new(move || keep(proxy, 12, 2))),
        ("proxied short", Box::new(move || short(proxy, 20, 2))),
        ("bulk", Box::new(move || bulk(direct, 4 << 20))),
        ("raw", Box::new(move || raw(direct))),
        ("socket", Box::new(move || socket(direct))),
        ("tls", Box::new(move || tls(direct, &authority, 2, 12))),
    ]
}
