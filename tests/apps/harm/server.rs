//! `live-harm serve ADDRESS`: answers each request with what it read of it (`/mirror`), whether that was as
//! sent (`/upload`), so many bytes (`/bytes/N`), how many headers were added (`/added`), or goes on as a
//! WebSocket (`/socket`). A connection that begins as TLS does is TLS, if TLS_CERT and TLS_KEY are there.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::body::Check;
use crate::link::{Link, field};
use crate::websocket;

/// Serves for ever.
pub fn serve(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    let tls = tls()?;
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let tls = tls.clone();
        std::thread::spawn(move || {
            // A client that goes away is its own business; one that is not served says so.
            let _ = converse(stream, tls);
        });
    }
}

fn tls() -> Result<Option<Arc<ServerConfig>>> {
    let Some(certificate) = std::env::var_os("TLS_CERT") else {
        return Ok(None);
    };
    let key = std::env::var_os("TLS_KEY").context("TLS_CERT without TLS_KEY")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(certificate)?],
            PrivateKeyDer::from_pem_file(key)?,
        )?;
    Ok(Some(Arc::new(config)))
}

/// The first byte of a TLS record that holds a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

fn converse(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> Result<()> {
    let mut first = [0];
    let begun = stream.peek(&mut first)?;
    match tls {
        Some(tls) if begun == 1 && first[0] == HANDSHAKE => {
            let session = ServerConnection::new(tls)?;
            answer(Link::new(StreamOwned::new(session, stream)))
        }
        _ => answer(Link::new(stream)),
    }
}

fn answer(mut link: Link) -> Result<()> {
    while let Some(head) = link.head()? {
        let head = plain(head);
        let target = head.split(' ').nth(1).unwrap_or_default();
        let mut parts = target.trim_start_matches("http://harm").split('/').skip(1);
        let (word, size) = (parts.next().unwrap_or_default(), parts.next());
        if word == "socket" {
            link.send(websocket::ACCEPTED.as_bytes())?;
            return websocket::echo(link);
        }
        let (mut raw, mut check) = (head.clone().into_bytes(), Check::default());
        let mirror = word == "mirror";
        let mut keep = |bytes: &[u8]| {
            if mirror {
                raw.extend_from_slice(bytes);
            }
        };
        link.body(&head, &mut keep, &mut |bytes| check.take(bytes))?;
        match word {
            "mirror" => respond(&mut link, &raw)?,
            "upload" => respond(&mut link, check.told().as_bytes())?,
            "added" => respond(
                &mut link,
                ADDED.load(Ordering::Relaxed).to_string().as_bytes(),
            )?,
            _ => {
                let size = size.and_then(|size| size.parse().ok()).unwrap_or_default();
                link.send(OK.replace("{}", &format!("{size}")).as_bytes())?;
                link.pour(size)?;
            }
        }
        if field(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            break;
        }
    }
    Ok(())
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n";

fn respond(link: &mut Link, body: &[u8]) -> Result<()> {
    let mut all = OK.replace("{}", &body.len().to_string()).into_bytes();
    all.extend_from_slice(body);
    link.send(&all)
}

/// A head without the one header that mode `header` adds, where HARM_HEADER says that it may have been.
fn plain(head: String) -> String {
    let own = field(&head, "x-own").is_some();
    if own || std::env::var_os("HARM_HEADER").is_none() {
        return head;
    }
    let mut lines: Vec<&str> = head.split_inclusive("\r\n").collect();
    let ours: Vec<usize> = (0..lines.len()).filter(|at| is_added(lines[*at])).collect();
    // More than one is wrong, and stays to be seen.
    let [at] = ours[..] else {
        return head;
    };
    ADDED.fetch_add(1, Ordering::Relaxed);
    lines.remove(at);
    lines.concat()
}

/// A traceparent of version 00 (W3C Trace Context, 3.2).
fn is_added(line: &str) -> bool {
    let name = "traceparent: 00-";
    line.len() == name.len() + 54 && line.starts_with(name) && line.ends_with("\r\n")
}

/// Headers that were added so far.
static ADDED: AtomicUsize = AtomicUsize::new(0);
