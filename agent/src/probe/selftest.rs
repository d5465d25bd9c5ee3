//! Whether header mode harms a socket on this kernel: tried at start on connections of the agent's own,
//! by the very programs that would run. One test that fails turns the mode off.
//!
//! Each says in its name what holds. None waits longer than 0.4 s for any one thing.

mod socket;
mod trials;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use agent_ebpf::abi::FIELD_COUNT;
use agent_ebpf::header::Parent;
use anyhow::Result;

use super::header::Header;
use socket::{connect, expect, option, socket, wait};

/// What one test found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What should hold.
    pub name: &'static str,
    /// How long it took to see.
    pub took: Duration,
    /// What was seen instead.
    pub failure: Option<String>,
}

/// How sockets are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// As header mode does: on a visit, until the first byte goes either way.
    Visit,
    /// For as long as they live, and nothing is put in: what header mode does not do, and why.
    Stay,
    /// Not at all: what holds without header mode.
    #[cfg_attr(not(test), expect(dead_code, reason = "to compare with"))]
    Apart,
}

/// What each test found of header mode, alone.
///
/// # Errors
/// Where it cannot be had at all: a right is missing, or the kernel lacks something.
pub fn start(offsets: &[u32; FIELD_COUNT]) -> Result<Vec<Verdict>> {
    Ok(tried(&mut Header::load(offsets)?))
}

/// The same of one that is attached.
pub fn tried(header: &mut Header) -> Vec<Verdict> {
    run(header, Manner::Visit)
}

/// Runs all tests.
fn run(header: &mut Header, manner: Manner) -> Vec<Verdict> {
    let own = std::process::id();
    let asked = manner != Manner::Visit || header.ask(own, true).is_ok();
    let verdicts = TESTS.iter().map(|&(name, test)| {
        let mut ground = Ground { header, manner };
        let begun = Instant::now();
        let tried = match asked {
            true => test(&mut ground),
            false => Err(anyhow::anyhow!("this process cannot be asked for")),
        };
        Verdict {
            name,
            took: begun.elapsed(),
            failure: tried.err().map(|why| format!("{why:#}")),
        }
    });
    let verdicts = verdicts.collect();
    if manner == Manner::Visit {
        // It may have been pushed out by others: then it is not asked for either.
        let _ = header.ask(own, false);
    }
    verdicts
}

type Test = fn(&mut Ground<'_>) -> Result<()>;

const TESTS: &[(&str, Test)] = &[
    ("a request gets one line", trials::once),
    ("written in parts, all bytes arrive", trials::parts),
    ("no request waits for an acknowledgement", trials::prompt),
    ("connections are kept alive", trials::kept_alive),
    ("a body that looks like a request gets none", trials::alike),
    ("a head in two parts gets none", trials::two_parts),
    ("a socket that blocks is left alone", trials::blocking),
    ("sendfile sends the file", trials::sent_file),
    ("FIONREAD counts an answer", trials::counted),
    ("FIONREAD counts a greeting", trials::greeting),
    (
        "a blocking recv waits beside a full send buffer",
        trials::waits,
    ),
    ("half closed, it reads to the end", trials::half_closed),
    ("closed at once, all is sent", trials::closed),
    (
        "a socket with SO_ZEROCOPY is left alone",
        trials::zero_copies,
    ),
    (
        "MSG_ZEROCOPY completes once for each send",
        trials::zero_copy,
    ),
    ("MSG_PEEK leaves what it shows", trials::peeked),
    ("epoll tells each edge", trials::edges),
    (
        "taken out, it loses nothing that was received",
        trials::taken_out,
    ),
    ("a reset is told", trials::reset),
];

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_millis(400);
/// A request is not held back longer.
const PROMPT: Duration = Duration::from_millis(10);

struct Ground<'a> {
    header: &'a mut Header,
    manner: Manner,
}

/// A connection between two sockets of this process; the client's is the one that is let in.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    cookie: u64,
}

const TRACE: Parent = Parent {
    trace: *b"\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c",
    span: *b"\xb7\xad\x6b\x71\x69\x20\x33\x31",
    flags: 1,
    pad: [0; 7],
};
const LINE: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
const REQUEST_LINE: &str = "POST /spantap/self-test HTTP/1.1\r\n";

/// A request with a body of so many bytes.
fn request(body: usize) -> Vec<u8> {
    let head = format!("{REQUEST_LINE}Host: localhost\r\nContent-Length: {body}\r\n\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend(filling(body));
    bytes
}

/// Bytes that are not alike.
fn filling(length: usize) -> impl Iterator<Item = u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
}

impl Ground<'_> {
    fn connect(&mut self) -> Result<Pair> {
        self.connect_after(|_| Ok(()))
    }

    /// Connects a socket to which something was done before.
    fn connect_after(&mut self, before: impl FnOnce(&TcpStream) -> Result<()>) -> Result<Pair> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client = socket()?;
        before(&client)?;
        connect(&client, listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        server.set_read_timeout(Some(PATIENCE))?;
        server.set_write_timeout(Some(PATIENCE))?;
        server.set_nodelay(true)?;
        wait(&client, libc::POLLOUT)?;
        let cookie = option(&client, libc::SOL_SOCKET, libc::SO_COOKIE)?;
        if self.manner == Manner::Stay {
            self.header.keep(client.as_raw_fd(), cookie)?;
        }
        if self.manner == Manner::Visit {
            self.header.tell(cookie, TRACE)?;
        }
        Ok(Pair {
            client,
            server,
            cookie,
        })
    }

    /// A request as it should arrive.
    fn arriving(&self, request: &[u8]) -> Vec<u8> {
        let mut bytes = request.to_vec();
        if self.manner == Manner::Visit {
            let at = REQUEST_LINE.len();
            bytes.splice(at..at, LINE.bytes());
        }
        bytes
    }

    /// Sends a first request and sees it arrive.
    fn ask(&self, pair: &mut Pair) -> Result<()> {
        let request = request(0);
        pair.client.write_all(&request)?;
        expect(&mut pair.server, &self.arriving(&request))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::socket::readable;
    use super::trials::beside;
    use super::*;
    use crate::probe::kernel::Kernel;

    /// Only one of these at a time may ask for this process.
    static ALONE: Mutex<()> = Mutex::new(());

    fn load() -> Option<Header> {
        let kernel = Kernel::look(None);
        println!("Linux {}", kernel.release);
        let header = Header::load(&kernel.offsets);
        header
            .inspect_err(|why| println!("not tried: {why:#}"))
            .ok()
    }

    #[test]
    fn what_is_on_a_visit_when_the_agent_ends_is_what_it_was() {
        let _alone = ALONE.lock();
        let Some(mut header) = load() else { return };
        header.ask(std::process::id(), true).expect("room");
        let manner = Manner::Visit;
        let mut ground = Ground {
            header: &mut header,
            manner,
        };
        let mut pairs = [(); 3].map(|()| ground.connect().expect("connected"));
        drop(header);
        for pair in &mut pairs {
            for request in [request(0), request(20_000)] {
                pair.client.write_all(&request).expect("room");
                expect(&mut pair.server, &request).expect("as it was");
                pair.server.write_all(&[b'.'; 100]).expect("room");
                wait(&pair.client, libc::POLLIN).expect("an answer");
                assert_eq!(readable(&pair.client).expect("a number"), 100);
                expect(&mut pair.client, &[b'.'; 100]).expect("the answer");
            }
        }
    }

    /// What a visit is not for: a thread that reads before anything is sent, on a socket that was made to
    /// block after it had connected. Told and not held: some kernels may mend it.
    #[test]
    fn who_reads_before_the_first_request_must_not_block() {
        let _alone = ALONE.lock();
        let Some(mut header) = load() else { return };
        for manner in [Manner::Apart, Manner::Visit] {
            let visited = manner == Manner::Visit;
            header.ask(std::process::id(), visited).ok();
            let mut ground = Ground {
                header: &mut header,
                manner,
            };
            let mut pair = ground.connect().expect("connected");
            let seen = beside(&mut pair, |pair| Ok(pair.client.write_all(&request(0))?));
            let told = seen.as_ref().map_err(|why| format!("{why:#}"));
            println!("{manner:?}: {told:?}");
            assert!(visited || seen.is_ok());
        }
    }

    /// `cargo test --lib -- selftest --nocapture`, as root and with the kernel side: the table of
    /// docs/decisions/0028-headers.md.
    #[test]
    fn a_visit_harms_nothing() {
        let _alone = ALONE.lock();
        let Some(mut header) = load() else { return };
        for manner in [Manner::Apart, Manner::Stay, Manner::Visit] {
            let begun = Instant::now();
            let verdicts = run(&mut header, manner);
            println!("{manner:?}: {:?}, {:?}", begun.elapsed(), header.counts());
            for Verdict {
                name,
                took,
                failure,
            } in &verdicts
            {
                let failure = failure.as_deref().unwrap_or("yes");
                println!("  {took:>9.1?}  {name}: {failure}");
            }
            let failed = verdicts.iter().filter(|verdict| verdict.failure.is_some());
            let failed: Vec<&str> = failed.map(|verdict| verdict.name).collect();
            let old = Kernel::look(None).version < (6, 1);
            let expected: &[&str] = match manner {
                Manner::Stay => continue,
                Manner::Visit if old => &["MSG_ZEROCOPY completes once for each send"],
                _ => &[],
            };
            assert_eq!(failed, expected, "{manner:?}");
        }
    }
}
