//! Plain HTTP/1 over every way a socket can be used, one way per run:
//! `live-sockets serve FORM PORT|unix:PATH` answers `/bytes/N/…` and `/upload/…`;
//! `live-sockets ask FORM PORT|unix:PATH` makes one request per line read, as all clients of the
//! tests do. Both sides move heads and bodies by FORM, and by nothing else.

mod form;
mod message;
mod owner;

use std::io::{self, BufRead as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context as _, Result, bail};

use crate::form::{Form, Mover};
use crate::message::Link;
use crate::owner::Owner;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [_, "serve", form, address] => serve(form, address),
        [_, "ask", form, address] => ask(form, address),
        [_, "inherit", form, fd] => owner::inherit(form, fd.parse()?),
        _ => bail!("serve FORM ADDRESS, or ask FORM ADDRESS"),
    }
}

fn serve(form: &str, address: &str) -> Result<()> {
    let (owner, form) = Owner::parse(form)?;
    if let Some(path) = address.strip_prefix("unix:") {
        let listener = UnixListener::bind(path)?;
        return each(owner, form, || Ok(listener.accept()?.0.into()));
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, address.parse()?))?;
    each(owner, form, || Ok(listener.accept()?.0.into()))
}

fn each(owner: Owner, form: Form, mut accept: impl FnMut() -> io::Result<OwnedFd>) -> Result<()> {
    loop {
        owner.take(accept()?, form)?;
    }
}

/// Answers what comes over one connection until it ends.
pub fn answer(socket: OwnedFd, form: Form) -> Result<()> {
    let mover = Mover::new(form, socket)?;
    let mut link = Link::new(mover);
    while let Some(head) = link.head()? {
        link.body(&head)?;
        let (status, size) = decide(&head.path);
        let body = if head.method == "HEAD" { 0 } else { size };
        let text = format!("HTTP/1.1 {status} Word\r\nContent-Length: {size}\r\n\r\n");
        link.send(text.as_bytes(), body)?;
        if head.close {
            break;
        }
    }
    Ok(())
}

fn decide(path: &str) -> (u16, usize) {
    let mut parts = path.split('/').skip(1);
    let word = parts.next().unwrap_or_default();
    let number: usize = parts
        .next()
        .and_then(|part| part.parse().ok())
        .unwrap_or_default();
    match word {
        "bytes" => (200, number),
        "upload" => (201, 9),
        "status" => (u16::try_from(number).unwrap_or(500), 3),
        _ => (404, 0),
    }
}

fn ask(form: &str, address: &str) -> Result<()> {
    let (_, form) = Owner::parse(form)?;
    let socket: OwnedFd = match address.strip_prefix("unix:") {
        Some(path) => UnixStream::connect(path)?.into(),
        None => TcpStream::connect((Ipv4Addr::LOCALHOST, address.parse()?))?.into(),
    };
    let _ = socket.as_raw_fd();
    let mut link = Link::new(Mover::new(form, socket)?);
    println!("ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        let ask = spantap_tests::client::parse(&line).context("a line of the protocol")?;
        let length = ask.body.map(|size| format!("Content-Length: {size}\r\n"));
        let head = format!(
            "{} {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{}\r\n",
            ask.method,
            ask.target,
            address.trim_start_matches("unix:"),
            length.unwrap_or_default()
        );
        link.send(head.as_bytes(), ask.body.unwrap_or_default())?;
        let head = link.head()?.context("the server closed")?;
        let size = if ask.method == "HEAD" {
            0
        } else {
            link.body(&head)?
        };
        println!("{} {size}", head.status);
    }
    Ok(())
}
