//! Real clients, as root and with the kernel side: what they send with header mode is what they send
//! without, but for one line in the first request of a connection.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use agent_ebpf::abi::Counter;

use super::*;
use crate::probe::kernel::Kernel;

const PARENT: Parent = Parent {
    trace: [0xab; 16],
    span: [0xcd; 8],
    flags: 1,
    pad: [0; 7],
};
const LINE: &str = "traceparent: 00-abababababababababababababababab-cdcdcdcdcdcdcdcd-01\r\n";

/// Whether each connection of a client gets a line, in order.
fn check(command: &[&str], lines: &[bool]) {
    let kernel = Kernel::look(None);
    let mut header = match Header::load(&kernel.offsets) {
        Ok(header) => header,
        Err(why) => return println!("not tried: {why:#}"),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let without = connections(&listener, command, lines.len(), |_| {});
    let with = connections(&listener, command, lines.len(), |client| {
        header.ask(client.id(), true).expect("room");
        header.tell_all(client.id(), PARENT).expect("room");
    });
    for (at, ((without, with), line)) in without.iter().zip(&with).zip(lines).enumerate() {
        let mut expected = without.clone();
        if *line {
            let end = expected.iter().position(|byte| *byte == b'\n');
            let end = end.expect("a request line") + 1;
            expected.splice(end..end, LINE.bytes());
        }
        let begin = String::from_utf8_lossy(with.get(..with.len().min(300)).unwrap_or_default());
        assert!(with == &expected, "connection {at}: {begin}");
    }
    let carried = lines.iter().filter(|line| **line).count();
    let counts = header.counts();
    assert_eq!(
        counts[Counter::HeadersWritten as usize],
        carried as u64,
        "{counts:?}"
    );
    // Each has left.
    assert_eq!(header.visitors.keys().count(), 0);
}

/// Runs a client, and gives the bytes of its connections.
fn connections(
    listener: &TcpListener,
    command: &[&str],
    count: usize,
    begin: impl FnOnce(&Child),
) -> Vec<Vec<u8>> {
    let port = listener.local_addr().expect("bound").port();
    let (program, words) = command.split_first().expect("a program");
    let mut client = Command::new(program)
        .args(words)
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    begin(&client);
    let mut input = client.stdin.take().expect("piped");
    input.write_all(b"begin\n").expect("it reads");
    let served: Vec<_> = (0..count)
        .map(|_| {
            let (connection, _) = listener.accept().expect("a connection");
            thread::spawn(move || serve(connection))
        })
        .collect();
    let served = served.into_iter().map(|one| one.join().expect("served"));
    let served = served.collect();
    assert!(client.wait().expect("it ends").success());
    served
}

/// Answers each request; what came until the end.
fn serve(mut connection: TcpStream) -> Vec<u8> {
    let patience = Some(Duration::from_secs(20));
    connection.set_read_timeout(patience).expect("a time-out");
    let (mut all, mut begun) = (Vec::new(), 0);
    let mut bytes = vec![0; 65_536];
    loop {
        while let Some(length) = request(&all[begun..]) {
            begun += length;
            // Those who have sent all may be gone.
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        match connection.read(&mut bytes).expect("more, or the end") {
            0 => return all,
            count => all.extend(&bytes[..count]),
        }
    }
}

/// Bytes of the whole request at the start of some.
fn request(bytes: &[u8]) -> Option<usize> {
    let find = |text: &[u8]| {
        let at = bytes.windows(text.len()).position(|part| part == text);
        at.map(|at| at + text.len())
    };
    let head = find(b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    if text.contains("transfer-encoding: chunked") {
        return find(b"\r\n0\r\n\r\n");
    }
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().expect("a length"));
    (bytes.len() >= head + length).then_some(head + length)
}

#[test]
fn python_sends_what_it_sends() {
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/src/probe/header/client.py");
    let own = [true, true, true, true, false, true, false, true];
    let raw = [true, false, true, false, false, false, false];
    check(&["python3", client], &[&own[..], &raw[..]].concat());
}

#[test]
fn node_sends_what_it_sends() {
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/src/probe/header/client.js");
    // Head and body of the large one are one message, which is too long.
    let lines = [true, true, true, false, false, true, true, false];
    check(&["node", client], &lines);
}
