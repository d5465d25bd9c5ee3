//! `live-harm rare PORT`: connections that begin, or are handed on, in ways that few programs know: data on
//! the SYN, MPTCP, files as the first bytes, a socket that two processes have, one that another process was
//! given, a sender that is killed while it sends.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::net::UnixStream;
use std::thread::spawn;

use anyhow::{Context as _, Result, ensure};

use crate::body::{self, Check};
use crate::calls::{self, option};

type Look = fn(u16) -> Result<Vec<String>>;

/// All of them, one after the other, each told of at once.
pub fn rare(port: u16) -> Result<()> {
    alone()?;
    let looks: [(&str, Look); 8] = [
        ("MSG_FASTOPEN", |port| fast_open(port, true)),
        ("TCP_FASTOPEN_CONNECT", |port| fast_open(port, false)),
        ("MPTCP", multipath),
        ("a file first", file_first),
        ("both after fork", forked),
        ("SCM_RIGHTS", handed_on),
        ("SO_REUSEPORT", shared_port),
        ("killed while it sends", killed),
    ];
    for (name, look) in looks {
        match look(port) {
            Ok(seen) => seen.iter().for_each(|line| println!("{name}: {line}")),
            Err(error) => println!("{name}: failed: {error:#}"),
        }
    }
    Ok(())
}

/// From here on in a network of its own, where data may come with the first SYN (net.ipv4.tcp_fastopen: both
/// ends, without a cookie).
fn alone() -> Result<()> {
    // SAFETY: no pointers.
    done(unsafe { libc::unshare(libc::CLONE_NEWNET) }).context("unshare")?;
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    ensure!(up.success(), "ip: {up}");
    std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "1543")?;
    Ok(())
}

const REQUEST: &[u8] = b"POST /rare HTTP/1.1\r\nHost: harm\r\nContent-Length: 10000\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const BODY: usize = 10_000;

/// What a server makes of a request and its body, which it answers.
fn served(mut server: TcpStream) -> Result<String> {
    let mut bytes = vec![0; REQUEST.len() + BODY];
    server.read_exact(&mut bytes)?;
    let mut check = Check::default();
    check.take(&bytes[REQUEST.len()..]);
    server.write_all(RESPONSE)?;
    Ok(format!("{}, {}", bytes.starts_with(REQUEST), check.told()))
}

fn answered(mut client: &TcpStream) -> Result<bool> {
    let mut answer = vec![0; RESPONSE.len()];
    client.read_exact(&mut answer)?;
    Ok(answer == RESPONSE)
}

fn listen(port: u16) -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?)
}

fn done(result: i32) -> Result<i32> {
    ensure!(result >= 0, std::io::Error::last_os_error());
    Ok(result)
}

fn socket(protocol: i32) -> Result<TcpStream> {
    // SAFETY: no pointers.
    let fd = done(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, protocol) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { TcpStream::from_raw_fd(fd) })
}

fn local(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be(),
        },
        sin_zero: [0; 8],
    }
}

const ADDRESS: u32 = size_of::<libc::sockaddr_in>() as u32;

fn connect(socket: &TcpStream, port: u16) -> Result<()> {
    let address = local(port);
    // SAFETY: the address is borrowed for the call and as long as said.
    let connected =
        unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS) };
    done(connected).context("connect").map(drop)
}

/// Three times: the first may only ask for a cookie.
fn fast_open(port: u16, by_send: bool) -> Result<Vec<String>> {
    let listener = listen(port)?;
    // SAFETY: an integer, borrowed for the call.
    unsafe {
        let (many, size) = (16_i32, size_of::<i32>() as u32);
        let at = (&raw const many).cast();
        let fd = listener.as_raw_fd();
        libc::setsockopt(fd, libc::SOL_TCP, libc::TCP_FASTOPEN, at, size);
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut client = socket(0)?;
        if by_send {
            let address = local(port);
            // SAFETY: both are borrowed for the call and as long as said.
            let sent = unsafe {
                libc::sendto(
                    client.as_raw_fd(),
                    REQUEST.as_ptr().cast(),
                    REQUEST.len(),
                    libc::MSG_FASTOPEN,
                    (&raw const address).cast(),
                    ADDRESS,
                )
            };
            ensure!(sent == REQUEST.len() as isize, "sent {sent}");
        } else {
            option(&client, libc::SOL_TCP, libc::TCP_FASTOPEN_CONNECT, 1)?;
            connect(&client, port)?;
            client.write_all(REQUEST)?;
        }
        let (server, _) = listener.accept()?;
        let server = spawn(move || served(server));
        client.write_all(&body::whole(BODY as u64))?;
        let answer = answered(&client)?;
        let told = server.join().ok().context("the server panicked")??;
        seen.push(format!("{told}, {answer}"));
    }
    Ok(seen)
}

fn multipath(port: u16) -> Result<Vec<String>> {
    let Ok(listening) = socket(libc::IPPROTO_MPTCP) else {
        return Ok(vec!["none".into()]);
    };
    option(&listening, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    let address = local(port);
    let fd = listening.as_raw_fd();
    // SAFETY: the address is borrowed for the call and as long as said.
    done(unsafe { libc::bind(fd, (&raw const address).cast(), ADDRESS) }).context("bind")?;
    // SAFETY: no pointers.
    done(unsafe { libc::listen(fd, 8) }).context("listen")?;
    // SAFETY: a listening socket, which is given away.
    let listener = unsafe { TcpListener::from_raw_fd(libc::dup(fd)) };
    let mut seen = Vec::new();
    for protocol in [libc::IPPROTO_MPTCP, 0] {
        let mut client = socket(protocol)?;
        connect(&client, port)?;
        let (server, _) = listener.accept()?;
        let server = spawn(move || served(server));
        client.write_all(REQUEST)?;
        client.write_all(&body::whole(BODY as u64))?;
        let answer = answered(&client)?;
        let told = server.join().ok().context("the server panicked")??;
        seen.push(format!("{told}, {answer}"));
    }
    Ok(seen)
}

fn file_first(port: u16) -> Result<Vec<String>> {
    let listener = listen(port)?;
    let bytes = [REQUEST, &body::whole(BODY as u64)].concat();
    let size = bytes.len() as u64;
    let mut seen = Vec::new();
    for by_splice in [false, true] {
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        let server = spawn(move || served(server));
        let file = calls::file(&bytes)?;
        match by_splice {
            true => calls::splice_from_file(&file, &client, size)?,
            false => calls::send_file(&file, &client, size)?,
        }
        let answer = answered(&client)?;
        let told = server.join().ok().context("the server panicked")??;
        seen.push(format!("{told}, {answer}"));
    }
    Ok(seen)
}

/// Does it in another process, which has what this one has; its id.
fn fork(work: impl FnOnce()) -> Result<i32> {
    // SAFETY: this thread is the only one; the other process leaves without unwinding.
    match done(unsafe { libc::fork() })? {
        0 => {
            work();
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        }
        pid => Ok(pid),
    }
}

fn wait(pid: i32) {
    let mut status = 0;
    // SAFETY: writes an integer.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
}

/// Who was made sends the head, who made it the body, and the other way round.
fn forked(port: u16) -> Result<Vec<String>> {
    let listener = listen(port)?;
    let mut seen = Vec::new();
    for head_by_child in [true, false] {
        let mut client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        let whole = body::whole(BODY as u64);
        if head_by_child {
            wait(fork(|| drop((&client).write_all(REQUEST)))?);
            client.write_all(&whole)?;
        } else {
            client.write_all(REQUEST)?;
            wait(fork(|| drop((&client).write_all(&whole)))?);
        }
        let told = served(server)?;
        seen.push(format!("{told}, {}", answered(&client)?));
    }
    Ok(seen)
}

/// A process that is older than the connection is given it, and sends.
fn handed_on(port: u16) -> Result<Vec<String>> {
    let listener = listen(port)?;
    let (ours, theirs) = UnixStream::pair()?;
    let child = fork(|| {
        if let Some(client) = take(&theirs) {
            let _ = (&client).write_all(REQUEST);
            let _ = (&client).write_all(&body::whole(BODY as u64));
        }
    })?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    give(&ours, &client)?;
    let told = served(server)?;
    wait(child);
    Ok(vec![format!("{told}, {}", answered(&client)?)])
}

/// Room for a message's byte and a control message with one descriptor.
struct Message {
    byte: [u8; 1],
    control: [u64; 4],
}

impl Message {
    fn with<T>(&mut self, call: impl FnOnce(*mut libc::msghdr) -> T) -> T {
        let mut bytes = libc::iovec {
            iov_base: self.byte.as_mut_ptr().cast(),
            iov_len: 1,
        };
        // SAFETY: a structure of integers and pointers, for which zero is none.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut bytes;
        message.msg_iovlen = 1;
        message.msg_control = self.control.as_mut_ptr().cast();
        // SAFETY: no pointers.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as usize;
        call(&raw mut message)
    }
}

const EMPTY: Message = Message {
    byte: [0],
    control: [0; 4],
};

fn give(over: &UnixStream, what: &TcpStream) -> Result<()> {
    let mut room = EMPTY;
    let sent = room.with(|message| {
        // SAFETY: the control buffer is ours, and has room for one header and a descriptor.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(header)
                .cast::<i32>()
                .write_unaligned(what.as_raw_fd());
            libc::sendmsg(over.as_raw_fd(), message, 0)
        }
    });
    ensure!(sent == 1, "sendmsg: {sent}");
    Ok(())
}

fn take(over: &UnixStream) -> Option<TcpStream> {
    let mut room = EMPTY;
    room.with(|message| {
        // SAFETY: the control buffer is ours and as long as said; what came with it is a descriptor.
        unsafe {
            if libc::recvmsg(over.as_raw_fd(), message, 0) != 1 {
                return None;
            }
            let header = libc::CMSG_FIRSTHDR(message).as_ref()?;
            let fd = libc::CMSG_DATA(header).cast::<i32>().read_unaligned();
            Some(TcpStream::from_raw_fd(fd))
        }
    })
}

fn shared_port(port: u16) -> Result<Vec<String>> {
    let address = local(port);
    let mut listeners = Vec::new();
    for _ in 0..2 {
        let one = socket(0)?;
        for name in [libc::SO_REUSEADDR, libc::SO_REUSEPORT] {
            option(&one, libc::SOL_SOCKET, name, 1)?;
        }
        let fd = one.as_raw_fd();
        // SAFETY: the address is borrowed for the call and as long as said.
        done(unsafe { libc::bind(fd, (&raw const address).cast(), ADDRESS) }).context("bind")?;
        // SAFETY: no pointers; then a listening socket is given away.
        listeners.push(unsafe {
            done(libc::listen(fd, 64))?;
            TcpListener::from_raw_fd(libc::dup(fd))
        });
    }
    for listener in listeners {
        spawn(move || {
            while let Ok((server, _)) = listener.accept() {
                let _ = served(server);
            }
        });
    }
    let mut fine = 0;
    for _ in 0..20 {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        client.write_all(REQUEST)?;
        client.write_all(&body::whole(BODY as u64))?;
        fine += usize::from(answered(&client)?);
    }
    Ok(vec![format!("{fine} answered")])
}

/// What came is what was sent, as far as it came.
fn killed(port: u16) -> Result<Vec<String>> {
    // The port's other listeners go on.
    let listener = listen(port.wrapping_add(1)).or_else(|_| listen(0))?;
    let at = listener.local_addr()?;
    let child = fork(|| {
        if let Ok(mut client) = TcpStream::connect(at) {
            let _ = client.write_all(REQUEST);
            let _ = client.write_all(&body::whole(64 << 20));
        }
    })?;
    let (mut server, _) = listener.accept()?;
    let mut head = vec![0; REQUEST.len()];
    server.read_exact(&mut head)?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    // SAFETY: our own child, which is not waited for yet.
    unsafe { libc::kill(child, libc::SIGKILL) };
    wait(child);
    let mut rest = Vec::new();
    let _ = server.read_to_end(&mut rest);
    let begins = body::whole(64 << 20).starts_with(&rest);
    Ok(vec![format!("{}, {begins}", head == REQUEST)])
}
