//! `live-harm odd PORT`: what a socket answers to what few programs ask it. Both ends are here, and
//! each connection begins with a request, which is what an agent may want to add to.

use std::io::{Read as _, Seek as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread::{sleep, spawn};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::body::{self, Check};
use crate::calls::{self, failure, number_of, option, receive, send};

type Look = fn(&TcpListener) -> Result<Vec<String>>;

/// All of them, one after the other; each is told of at once, so that one that hangs is known.
pub fn odd(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let looks: [(&str, Look); 16] = [
        ("FIONREAD", waiting),
        ("recv beside a full send buffer", duplex),
        ("MSG_ZEROCOPY", zero_copy),
        ("half close", half_close),
        ("MSG_PEEK", peek),
        ("SO_LINGER 0", linger),
        ("TCP_CORK", cork),
        ("MSG_MORE", more),
        ("sendfile and splice", kernel_moves),
        ("never blocking", never_blocking),
        ("connect to nobody", nobody),
        ("SO_RCVTIMEO", timeout),
        ("MSG_OOB", urgent),
        ("MSG_WAITALL, MSG_TRUNC", whole),
        ("epoll, edge-triggered", edges),
        ("SIOCOUTQ", unsent),
    ];
    for (name, look) in looks {
        match look(&listener) {
            Ok(seen) => seen.iter().for_each(|line| println!("{name}: {line}")),
            Err(error) => println!("{name}: failed: {error:#}"),
        }
    }
    Ok(())
}

/// The two ends of a connection, and a request that the one has sent and the other has read.
fn pair(listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.write_all(REQUEST)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        ensure!(server.read(&mut byte)? == 1, "ended in the request's head");
        head.push(byte[0]);
    }
    Ok((client, server))
}

const REQUEST: &[u8] = b"POST /odd HTTP/1.1\r\nHost: harm\r\nContent-Length: 100000000\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";
/// What is sent has come by then.
const MOMENT: Duration = Duration::from_millis(60);

/// What can be read is what is there, on both ends, whole and in part.
fn waiting(listener: &TcpListener) -> Result<Vec<String>> {
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    let mut seen = Vec::new();
    client.write_all(REQUEST)?;
    sleep(MOMENT);
    let told = number_of(&server, libc::FIONREAD)?;
    let mut bytes = vec![0; 4096];
    let read = server.read(&mut bytes)?;
    seen.push(format!("tells all of the request: {}", told == read));
    server.write_all(RESPONSE)?;
    client.write_all(&body::whole(1000))?;
    sleep(MOMENT);
    let before = number_of(&server, libc::FIONREAD)?;
    server.read_exact(&mut bytes[..400])?;
    let after = number_of(&server, libc::FIONREAD)?;
    server.read_exact(&mut bytes[..600])?;
    let end = number_of(&server, libc::FIONREAD)?;
    seen.push(format!("up: {before}, {after}, {end}"));
    server.write_all(&body::whole(1000))?;
    sleep(MOMENT);
    let before = number_of(&client, libc::FIONREAD)?;
    client.read_exact(&mut bytes[..RESPONSE.len() + 400])?;
    let after = number_of(&client, libc::FIONREAD)?;
    seen.push(format!("down: {before}, {after}"));
    Ok(seen)
}

/// One thread waits for a response while another sends more than fits.
fn duplex(listener: &TcpListener) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for _ in 0..5 {
        let (client, mut server) = pair(listener)?;
        let (mut reading, mut writing) = (client.try_clone()?, client);
        let reader = spawn(move || {
            let mut bytes = [0; 64];
            match reading.read(&mut bytes) {
                Ok(count) => bytes[..count].escape_ascii().to_string(),
                Err(error) => format!("{error}"),
            }
        });
        let size = 8 << 20;
        let writer = spawn(move || writing.write_all(&body::whole(size)).map(|()| writing));
        // By now the one waits and the other has filled the buffers.
        sleep(MOMENT);
        let mut check = Check::default();
        drain(&mut server, size, &mut check)?;
        server.write_all(b"done")?;
        let read = reader.join().ok().context("the reader panicked")?;
        let wrote = writer.join().ok().context("the writer panicked")?;
        seen.push(format!(
            "sent {}, {}, read {read}",
            wrote.is_ok(),
            check.told()
        ));
    }
    Ok(seen)
}

fn drain(from: &mut TcpStream, size: u64, check: &mut Check) -> Result<()> {
    let mut bytes = vec![0; 64 << 10];
    let mut left = size;
    while left > 0 {
        let most = bytes.len().min(usize::try_from(left)?);
        let count = from.read(&mut bytes[..most])?;
        ensure!(count > 0, "ended {left} bytes early");
        check.take(&bytes[..count]);
        left -= count as u64;
    }
    Ok(())
}

/// Each send is completed once, and in order.
fn zero_copy(listener: &TcpListener) -> Result<Vec<String>> {
    let (client, mut server) = pair(listener)?;
    option(&client, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
    let data = body::whole(640 << 10);
    let reader = spawn(move || -> Result<String> {
        let mut check = Check::default();
        drain(&mut server, 640 << 10, &mut check)?;
        Ok(check.told())
    });
    let (mut at, mut sends) = (0, 0);
    while at < data.len() {
        let end = data.len().min(at + (64 << 10));
        at += send(&client, &data[at..end], libc::MSG_ZEROCOPY)?;
        sends += 1;
    }
    let told = reader.join().ok().context("the reader panicked")??;
    let completed = calls::completions(&client, sends)?;
    Ok(vec![
        told,
        format!("each send is completed once: {}", completed == sends),
    ])
}

/// Who has no more to send can still be answered.
fn half_close(listener: &TcpListener) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for client_first in [true, false] {
        let (client, server) = pair(listener)?;
        let (mut one, mut other) = if client_first {
            (client, server)
        } else {
            (server, client)
        };
        one.write_all(&body::whole(5000))?;
        one.shutdown(Shutdown::Write)?;
        let mut check = Check::default();
        check.take(&rest(&mut other)?);
        other.write_all(&body::whole(300_000))?;
        other.shutdown(Shutdown::Write)?;
        let mut back = Check::default();
        back.take(&rest(&mut one)?);
        let late = one.write(b"x").map_err(|error| failure(&error));
        seen.push(format!(
            "{}, back {}, then {late:?}",
            check.told(),
            back.told()
        ));
    }
    Ok(seen)
}

fn rest(of: &mut TcpStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    of.read_to_end(&mut all)?;
    Ok(all)
}

/// What was looked at is still there.
fn peek(listener: &TcpListener) -> Result<Vec<String>> {
    let (mut client, mut server) = pair(listener)?;
    let mut seen = Vec::new();
    client.write_all(&body::whole(5000))?;
    server.write_all(&body::whole(5000))?;
    sleep(MOMENT);
    for end in [&mut server, &mut client] {
        let (mut few, mut many) = (vec![0; 10], vec![0; 9000]);
        let first = receive(end, &mut few, libc::MSG_PEEK)?;
        let all = receive(end, &mut many, libc::MSG_PEEK)?;
        let peeked = many[..all].to_vec();
        let read = end.read(&mut many)?;
        let same = peeked == many[..read];
        seen.push(format!(
            "{first}, {all}, then read {read}, the same: {same}"
        ));
    }
    Ok(seen)
}

/// A reset is one, whoever makes it.
fn linger(listener: &TcpListener) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for client_resets in [true, false] {
        let (client, server) = pair(listener)?;
        let (resets, mut stays) = if client_resets {
            (client, server)
        } else {
            (server, client)
        };
        calls::linger(&resets)?;
        drop(resets);
        sleep(MOMENT);
        let mut bytes = [0; 10];
        let read = stays.read(&mut bytes).map_err(|error| failure(&error));
        let write = stays.write(b"x").map_err(|error| failure(&error));
        seen.push(format!("read {read:?}, write {write:?}"));
    }
    Ok(seen)
}

/// What is corked comes at once when it is no more.
fn cork(listener: &TcpListener) -> Result<Vec<String>> {
    let (mut client, mut server) = pair(listener)?;
    sleep(MOMENT);
    option(&client, libc::IPPROTO_TCP, libc::TCP_CORK, 1)?;
    for _ in 0..3 {
        client.write_all(&body::whole(100))?;
    }
    sleep(MOMENT);
    let corked = number_of(&server, libc::FIONREAD)?;
    option(&client, libc::IPPROTO_TCP, libc::TCP_CORK, 0)?;
    sleep(MOMENT);
    let mut bytes = [0; 1000];
    let read = server.read(&mut bytes)?;
    // Requests that are corked together are so many still.
    option(&client, libc::IPPROTO_TCP, libc::TCP_CORK, 1)?;
    for _ in 0..3 {
        client.write_all(b"GET /decoy HTTP/1.1\r\nHost: harm\r\n\r\n")?;
    }
    option(&client, libc::IPPROTO_TCP, libc::TCP_CORK, 0)?;
    sleep(MOMENT);
    let then = server.read(&mut bytes)?;
    let text = bytes[..then].escape_ascii();
    Ok(vec![format!("{corked}, then {read}, then {text}")])
}

/// The same for one send.
fn more(listener: &TcpListener) -> Result<Vec<String>> {
    let (mut client, mut server) = pair(listener)?;
    sleep(MOMENT);
    send(&client, &body::whole(100), libc::MSG_MORE)?;
    sleep(MOMENT);
    let before = number_of(&server, libc::FIONREAD)?;
    client.write_all(&body::whole(10))?;
    sleep(MOMENT);
    let mut bytes = [0; 1000];
    let read = server.read(&mut bytes)?;
    Ok(vec![format!("{before}, then {read}")])
}

/// From a file to a socket and from a socket to a file, by the kernel, at both ends.
fn kernel_moves(listener: &TcpListener) -> Result<Vec<String>> {
    let size = 3 << 20;
    let mut seen = Vec::new();
    for up in [true, false] {
        let (client, server) = pair(listener)?;
        let (from, to) = if up {
            (client, server)
        } else {
            (server, client)
        };
        let source = calls::file(&body::whole(size))?;
        let mut sink = calls::file(&[])?;
        let sender = spawn(move || calls::send_file(&source, &from, size).map(|()| from));
        let written = calls::splice_to_file(&to, &sink, size)?;
        let sent = sender.join().ok().context("the sender panicked")?.is_ok();
        let (mut all, mut check) = (Vec::new(), Check::default());
        sink.rewind()?;
        sink.read_to_end(&mut all)?;
        check.take(&all);
        seen.push(format!("sent {sent}, {written} spliced, {}", check.told()));
    }
    for up in [true, false] {
        let (client, server) = pair(listener)?;
        let (from, mut to) = if up {
            (client, server)
        } else {
            (server, client)
        };
        let source = calls::file(&body::whole(size))?;
        let sender = spawn(move || calls::splice_from_file(&source, &from, size).map(|()| from));
        let mut check = Check::default();
        drain(&mut to, size, &mut check)?;
        let sent = sender.join().ok().context("the sender panicked")?.is_ok();
        seen.push(format!("spliced {sent}, {}", check.told()));
    }
    Ok(seen)
}

/// Nothing to read, no room to write, and then both.
fn never_blocking(listener: &TcpListener) -> Result<Vec<String>> {
    let (mut client, mut server) = pair(listener)?;
    client.set_nonblocking(true)?;
    let mut bytes = vec![0; 64 << 10];
    let nothing = client.read(&mut bytes).map_err(|error| failure(&error));
    let data = body::whole(32 << 20);
    let mut at = 0;
    let full = loop {
        match client.write(&data[at..]) {
            Ok(count) => at += count,
            Err(error) => break failure(&error),
        }
    };
    let writable = calls::ready(&client, libc::POLLOUT, 0)?;
    let mut check = Check::default();
    drain(&mut server, at as u64, &mut check)?;
    let then = calls::ready(&client, libc::POLLOUT, 1000)?;
    let all = check.told() == format!("{at} bytes as sent");
    server.shutdown(Shutdown::Write)?;
    let end = calls::ready(&client, libc::POLLIN | libc::POLLRDHUP, 1000)?;
    let read = client.read(&mut bytes).map_err(|error| failure(&error));
    Ok(vec![
        format!("read {nothing:?}, filled until {full}, writable {writable}, then {then}"),
        format!("all came as sent: {all}; at the end poll says {end}, read {read:?}"),
    ])
}

fn nobody(_: &TcpListener) -> Result<Vec<String>> {
    // A port that was free a moment ago.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let blocking = TcpStream::connect(address).map_err(|error| failure(&error));
    let waiting = crate::link::Waiting::connect(address).map(drop);
    let waiting = waiting.map_err(|error| format!("{error:#}"));
    Ok(vec![format!("{:?}, {waiting:?}", blocking.map(drop))])
}

/// A read that may wait so long waits so long.
fn timeout(listener: &TcpListener) -> Result<Vec<String>> {
    let (mut client, mut server) = pair(listener)?;
    client.set_read_timeout(Some(MOMENT))?;
    let mut bytes = [0; 10];
    let begun = std::time::Instant::now();
    let nothing = client.read(&mut bytes).map_err(|error| failure(&error));
    let waited = begun.elapsed() >= MOMENT / 2;
    server.write_all(b"late")?;
    let late = client.read(&mut bytes).map_err(|error| failure(&error));
    Ok(vec![format!(
        "{nothing:?} after its time: {waited}, then {late:?}"
    )])
}

fn urgent(listener: &TcpListener) -> Result<Vec<String>> {
    let (mut client, mut server) = pair(listener)?;
    client.write_all(b"before")?;
    send(&client, b"!", libc::MSG_OOB)?;
    client.write_all(b"after")?;
    sleep(MOMENT);
    let mut bytes = [0; 20];
    let out = receive(&server, &mut bytes, libc::MSG_OOB)?;
    let urgent = bytes[..out].escape_ascii().to_string();
    let first = server.read(&mut bytes)?;
    let before = bytes[..first].escape_ascii().to_string();
    let then = server.read(&mut bytes)?;
    let after = bytes[..then].escape_ascii();
    Ok(vec![format!("{urgent}, {before}, {after}")])
}

/// A read that waits for all of it, and one that throws away.
fn whole(listener: &TcpListener) -> Result<Vec<String>> {
    let (client, server) = pair(listener)?;
    let mut writing = client.try_clone()?;
    let writer = spawn(move || {
        let data = body::whole(3000);
        data.chunks(1000).try_for_each(|chunk| {
            sleep(MOMENT / 4);
            writing.write_all(chunk)
        })
    });
    let mut bytes = vec![0; 3000];
    let all = receive(&server, &mut bytes[..2500], libc::MSG_WAITALL)?;
    let gone = receive(
        &server,
        &mut bytes[..500],
        libc::MSG_TRUNC | libc::MSG_WAITALL,
    );
    // The last 500 are all that there is.
    let gone = match gone {
        Ok(count) => format!("{count}"),
        Err(error) => format!("{error:#}"),
    };
    let wrote = writer.join().ok().context("the writer panicked")?.is_ok();
    Ok(vec![format!("{all}, {gone}, wrote {wrote}")])
}

/// An edge for what comes, and none for what was there.
fn edges(listener: &TcpListener) -> Result<Vec<String>> {
    let (mut client, mut server) = pair(listener)?;
    let up = edge(&mut client, &mut server)?;
    let down = edge(&mut server, &mut client)?;
    Ok(vec![up, down])
}

fn edge(from: &mut TcpStream, to: &mut TcpStream) -> Result<String> {
    let events = calls::Edges::of(to)?;
    let quiet = events.wait(0)?;
    from.write_all(b"one")?;
    let one = events.wait(1000)?;
    let again = events.wait(30)?;
    from.write_all(b"two")?;
    let two = events.wait(1000)?;
    to.set_nonblocking(true)?;
    let mut bytes = [0; 4];
    let mut all = Vec::new();
    let end = loop {
        match to.read(&mut bytes) {
            Ok(count) => all.extend_from_slice(&bytes[..count]),
            Err(error) => break failure(&error),
        }
    };
    to.set_nonblocking(false)?;
    let none = events.wait(30)?;
    Ok(format!(
        "{quiet} {one} {again} {two} {none}, {}, {end}",
        all.escape_ascii()
    ))
}

/// What is acknowledged is no more in the queue.
fn unsent(listener: &TcpListener) -> Result<Vec<String>> {
    let (mut client, mut server) = pair(listener)?;
    client.write_all(&body::whole(1000))?;
    server.write_all(&body::whole(10))?;
    sleep(MOMENT);
    let left = number_of(&client, libc::TIOCOUTQ)?;
    let error = client.take_error()?.map(|error| failure(&error));
    Ok(vec![format!("{left}, error {error:?}")])
}
