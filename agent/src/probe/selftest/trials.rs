//! The tests, each a connection or a few.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};
use std::{ptr, thread};

use anyhow::{Context as _, Result, ensure};

use super::socket::{completion, done, expect, expect_end, option, readable, set, set_to, wait};
use super::{Ground, Manner, PATIENCE, PROMPT, Pair, REQUEST_LINE, TRACE, filling, request};

pub(super) fn once(ground: &mut Ground<'_>) -> Result<()> {
    for body in [0, 1, 3000] {
        let mut pair = ground.connect()?;
        let request = request(body);
        pair.client.write_all(&request)?;
        expect(&mut pair.server, &ground.arriving(&request))?;
        pair.client.shutdown(Shutdown::Write)?;
        expect_end(&mut pair.server)?;
    }
    Ok(())
}

pub(super) fn parts(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    set(&pair.client, libc::SOL_SOCKET, libc::SO_SNDBUF, 16 * 1024)?;
    let request = request(BULK / 4);
    let expected = ground.arriving(&request);
    let mut server = pair.server.try_clone()?;
    let reader = thread::spawn(move || expect(&mut server, &expected));
    // A first message that is a whole head, and then as much as there is room for.
    let mut sent = pair.client.write(request.get(..2000).context("longer")?)?;
    while let Some(rest) = request.get(sent..).filter(|rest| !rest.is_empty()) {
        match pair.client.write(rest) {
            Ok(bytes) => sent += bytes,
            Err(full) if full.kind() == ErrorKind::WouldBlock => {
                wait(&pair.client, libc::POLLOUT)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader failed"))?
}

pub(super) fn prompt(ground: &mut Ground<'_>) -> Result<()> {
    let mut took = Vec::new();
    for body in [0, 100, 3000, 9000, 1000] {
        let mut pair = ground.connect()?;
        // Else it acknowledges at once for as long as a connection is young.
        set(&pair.server, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0)?;
        let request = request(body);
        let expected = ground.arriving(&request);
        let begun = Instant::now();
        pair.client.write_all(&request)?;
        expect(&mut pair.server, &expected)?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    // What the machine does besides makes one or another late.
    let usual = took.get(took.len() / 2).copied().unwrap_or_default();
    ensure!(usual < PROMPT, "they took {took:?}");
    Ok(())
}

pub(super) fn kept_alive(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    let mut answer = [0; 64];
    for turn in 0..10 {
        let request = request(turn);
        pair.client.write_all(&request)?;
        let expected = match turn {
            0 => ground.arriving(&request),
            _ => request,
        };
        expect(&mut pair.server, &expected)?;
        pair.server.write_all(&[b'.'; 64])?;
        wait(&pair.client, libc::POLLIN)?;
        pair.client.read_exact(&mut answer)?;
    }
    Ok(())
}

pub(super) fn alike(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    let body = request(100);
    let head = format!(
        "{REQUEST_LINE}Host: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut expected = ground.arriving(head.as_bytes());
    expected.extend(&body);
    pair.client.write_all(head.as_bytes())?;
    pair.client.write_all(&body)?;
    expect(&mut pair.server, &expected)
}

pub(super) fn two_parts(ground: &mut Ground<'_>) -> Result<()> {
    for cut in [1, 10, REQUEST_LINE.len(), REQUEST_LINE.len() + 12] {
        let mut pair = ground.connect()?;
        let request = request(10);
        let (first, second) = request.split_at_checked(cut).context("longer")?;
        pair.client.write_all(first)?;
        pair.client.write_all(second)?;
        expect(&mut pair.server, &request)?;
    }
    Ok(())
}

pub(super) fn blocking(ground: &mut Ground<'_>) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let cookie = option(&client, libc::SOL_SOCKET, libc::SO_COOKIE)?;
    ground.header.tell(cookie, TRACE)?;
    let (mut server, _) = listener.accept()?;
    server.set_read_timeout(Some(PATIENCE))?;
    let request = request(10);
    client.write_all(&request)?;
    expect(&mut server, &request)
}

pub(super) fn sent_file(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    let request = request(5000);
    // SAFETY: a name that ends; the descriptor is new.
    let mut file = unsafe {
        let fd = done(libc::memfd_create(c"spantap-self-test".as_ptr(), 0))?;
        File::from_raw_fd(fd)
    };
    file.write_all(&request)?;
    file.rewind()?;
    let mut left = request.len();
    while left > 0 {
        let (to, from) = (pair.client.as_raw_fd(), file.as_raw_fd());
        // SAFETY: no addresses.
        let sent = unsafe { libc::sendfile(to, from, ptr::null_mut(), left) };
        let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
        ensure!(sent > 0, "sendfile found no more");
        left -= sent;
    }
    pair.client.shutdown(Shutdown::Write)?;
    let mut arrived = Vec::new();
    pair.server.read_to_end(&mut arrived)?;
    // Its first piece may be no whole head.
    let with = ground.arriving(&request);
    ensure!(arrived == with || arrived == request, "other bytes arrived");
    Ok(())
}

/// The server sends a hundred bytes, and the client is told of all of them (FIONREAD).
fn answered(pair: &mut Pair) -> Result<()> {
    pair.server.write_all(&[b'.'; 100])?;
    wait(&pair.client, libc::POLLIN)?;
    ensure!(
        readable(&pair.client)? == 100,
        "{} of 100",
        readable(&pair.client)?
    );
    Ok(())
}

pub(super) fn counted(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    ground.ask(&mut pair)?;
    answered(&mut pair)
}

pub(super) fn greeting(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    answered(&mut pair)?;
    let mut greeting = [0; 100];
    pair.client.read_exact(&mut greeting)?;
    pair.client.write_all(b"HELO\r\n")?;
    expect(&mut pair.server, b"HELO\r\n")
}

pub(super) fn waits(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    ground.ask(&mut pair)?;
    beside(&mut pair, |_| Ok(()))
}

/// A blocking recv in one thread; beside it another sends what `first` does, and more than there is room
/// for.
pub(super) fn beside(pair: &mut Pair, first: impl FnOnce(&mut Pair) -> Result<()>) -> Result<()> {
    set(&pair.client, libc::SOL_SOCKET, libc::SO_SNDBUF, 16 * 1024)?;
    pair.client.set_nonblocking(false)?;
    pair.client.set_read_timeout(Some(PATIENCE))?;
    pair.client.set_write_timeout(Some(PATIENCE))?;
    let mut client = pair.client.try_clone()?;
    let reader = thread::spawn(move || expect(&mut client, b"done"));
    thread::sleep(Duration::from_millis(2));
    first(pair)?;
    let mut server = pair.server.try_clone()?;
    let drain = thread::spawn(move || -> Result<()> {
        let mut bytes = vec![0; 128 * 1024];
        let mut left = BULK;
        thread::sleep(Duration::from_millis(5));
        while left > 0 {
            let read = server.read(&mut bytes)?;
            ensure!(read > 0, "it ended early");
            left = left.saturating_sub(read);
        }
        Ok(server.write_all(b"done")?)
    });
    pair.client.write_all(&vec![b'x'; BULK])?;
    let drained = drain.join();
    drained.map_err(|_| anyhow::anyhow!("the server failed"))??;
    let read = reader.join();
    let read = read.map_err(|_| anyhow::anyhow!("the reader failed"))?;
    read.context("recv did not wait")
}

/// More than send and receive buffers take.
const BULK: usize = 1024 * 1024;

pub(super) fn half_closed(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    let request = request(10);
    pair.client.write_all(&request)?;
    pair.client.shutdown(Shutdown::Write)?;
    expect(&mut pair.server, &ground.arriving(&request))?;
    expect_end(&mut pair.server)?;
    let answer: Vec<u8> = filling(100_000).collect();
    let server = pair.server.try_clone()?;
    let writer = {
        let answer = answer.clone();
        thread::spawn(move || {
            let mut server = server;
            server.write_all(&answer)?;
            server.shutdown(Shutdown::Both)
        })
    };
    let mut read: Vec<u8> = Vec::new();
    loop {
        let mut bytes = [0; 16 * 1024];
        match pair.client.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => read.extend(bytes.iter().take(count)),
            Err(none) if none.kind() == ErrorKind::WouldBlock => wait(&pair.client, libc::POLLIN)?,
            Err(error) => return Err(error.into()),
        }
    }
    writer
        .join()
        .map_err(|_| anyhow::anyhow!("the server failed"))??;
    ensure!(
        read == answer,
        "{} of {} bytes came",
        read.len(),
        answer.len()
    );
    Ok(())
}

pub(super) fn closed(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    let request = request(8000);
    pair.client.write_all(&request)?;
    drop(pair.client);
    expect(&mut pair.server, &ground.arriving(&request))?;
    expect_end(&mut pair.server)
}

pub(super) fn zero_copies(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect_after(set_zero_copy)?;
    // In many pieces, were it let in.
    let (first, second) = (request(200_000), request(0));
    zero_copied(
        &mut pair,
        [&first, &second],
        &[&first[..], &second].concat(),
    )
}

pub(super) fn zero_copy(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    set_zero_copy(&pair.client)?;
    let (first, second) = (request(0), request(40_000));
    let done = zero_copied(
        &mut pair,
        [&first, &second],
        &[&first[..], &second].concat(),
    );
    if ground.manner == Manner::Visit {
        // Who does so is not asked any more.
        let still = ground.header.is_asked(std::process::id());
        ground.header.ask(std::process::id(), true)?;
        ensure!(!still, "its process is still asked");
    }
    done
}

fn set_zero_copy(socket: &TcpStream) -> Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)
}

/// Two sends of which the kernel tells when it has let go of their memory.
fn zero_copied(pair: &mut Pair, sends: [&[u8]; 2], expected: &[u8]) -> Result<()> {
    let mut server = pair.server.try_clone()?;
    let expected = expected.to_vec();
    let reader = thread::spawn(move || expect(&mut server, &expected));
    for bytes in sends {
        wait(&pair.client, libc::POLLOUT)?;
        let (fd, flags) = (pair.client.as_raw_fd(), libc::MSG_ZEROCOPY);
        // SAFETY: as many bytes as are told; they are not changed before the end.
        let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
        ensure!(
            usize::try_from(sent) == Ok(bytes.len()),
            "send returned {sent}"
        );
    }
    let read = reader.join();
    read.map_err(|_| anyhow::anyhow!("the reader failed"))??;
    let mut told = Vec::new();
    let begun = Instant::now();
    while told.len() < 2 && begun.elapsed() < PATIENCE {
        match completion(&pair.client)? {
            Some((from, to)) => told.extend(from..=to),
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
    while let Some((from, to)) = completion(&pair.client)? {
        told.extend(from..=to);
    }
    ensure!(told == [0, 1], "sends 0 and 1 were told as {told:?}");
    Ok(())
}

pub(super) fn peeked(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    ground.ask(&mut pair)?;
    pair.server.write_all(b"an answer")?;
    wait(&pair.client, libc::POLLIN)?;
    let mut seen = [0; 9];
    for _ in 0..2 {
        ensure!(pair.client.peek(&mut seen)? == 9, "fewer bytes are shown");
        ensure!(&seen == b"an answer", "other bytes are shown");
    }
    expect(&mut pair.client, b"an answer")
}

pub(super) fn edges(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    // SAFETY: no addresses; the descriptor is new.
    let poll = unsafe { OwnedFd::from_raw_fd(done(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
    let mut event = libc::epoll_event {
        events: (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32,
        u64: 0,
    };
    let (fd, add) = (pair.client.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: the event is read only.
    unsafe { done(libc::epoll_ctl(poll.as_raw_fd(), add, fd, &raw mut event))? };
    let mut next = || -> Result<u32> {
        let patience = i32::try_from(PATIENCE.as_millis())?;
        // SAFETY: room for one event.
        let count = unsafe {
            done(libc::epoll_wait(
                poll.as_raw_fd(),
                &raw mut event,
                1,
                patience,
            ))?
        };
        ensure!(count == 1, "no edge was told");
        Ok(event.events)
    };
    ground.ask(&mut pair)?;
    for _ in 0..3 {
        pair.server.write_all(&[b'.'; 10])?;
        let events = next()?;
        ensure!(
            events & libc::EPOLLIN as u32 != 0,
            "the edge is {events:#x}"
        );
        expect(&mut pair.client, &[b'.'; 10])?;
        let empty = pair.client.read(&mut [0]).err().map(|error| error.kind());
        ensure!(empty == Some(ErrorKind::WouldBlock), "read says {empty:?}");
    }
    pair.server.shutdown(Shutdown::Write)?;
    let events = next()?;
    ensure!(
        events & libc::EPOLLRDHUP as u32 != 0,
        "the end is {events:#x}"
    );
    expect_end(&mut pair.client)
}

pub(super) fn taken_out(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    let early: Vec<u8> = filling(30_000).collect();
    pair.server.write_all(&early)?;
    wait(&pair.client, libc::POLLIN)?;
    let was_in = ground.header.remove(pair.cookie);
    ensure!(
        was_in == (ground.manner == Manner::Stay),
        "it was in: {was_in}"
    );
    expect(&mut pair.client, &early)
}

pub(super) fn reset(ground: &mut Ground<'_>) -> Result<()> {
    let mut pair = ground.connect()?;
    ground.ask(&mut pair)?;
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set_to(&pair.server, libc::SOL_SOCKET, libc::SO_LINGER, &linger)?;
    drop(pair.server);
    wait(&pair.client, libc::POLLIN)?;
    let told = pair.client.read(&mut [0]);
    let told = told.err().map(|error| error.kind());
    ensure!(
        told == Some(ErrorKind::ConnectionReset),
        "read says {told:?}"
    );
    Ok(())
}
