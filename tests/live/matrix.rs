//! The matrix of TLS and HTTP: every client asks nginx, every server is asked by httpx, by HTTP/1.1
//! and HTTP/2, on both capture paths, on a connection from before the agent and with all of it
//! after: two hundred requests each. And clients whose TLS library sees no socket, asking four
//! servers at once. `cargo xtask matrix` makes docs/matrix.md of what comes out.

mod programs;

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::agent::{self, Capture};
use spantap_tests::certificates::{ADDRESSES, Certificates};
use spantap_tests::known::{Ask, Asks as _, Known, Size, ask, drive, now, number, put};
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::{Agent, Case, Party, Program, Stage};

use crate::programs::{go_server, nginx_at, passed_on};
use programs::{
    AIOHTTP, CLIENTS, Client, GO, HTTPX, How, NGINX, NODE, PROXY, Place, SERVERS, Server, listen,
    showing, shown, trusting,
};

/// All of them.
pub fn cases() -> Vec<Case> {
    let clients = CLIENTS.iter().chain([&HTTPX]).map(|one| (one, &NGINX));
    let servers = SERVERS.iter().chain([&PROXY]).map(|one| (&HTTPX, one));
    let mut cases = Vec::new();
    for (client, server) in clients.chain(servers) {
        for two in [false, true] {
            if two && !(client.two && server.two) {
                continue;
            }
            for capture in [Capture::Socket, Capture::Syscall] {
                for before in [true, false] {
                    // curl and wget hold no connection until they are told to go on.
                    if before && matches!(client.how, How::Once(_)) {
                        continue;
                    }
                    // The paths differ in what binds a session to its socket: once for each way of
                    // doing that is enough, and what an older session needs is the same on both.
                    let binds = server.name == NGINX.name && BINDS.contains(&client.name);
                    if capture == Capture::Syscall && (before || !binds) {
                        continue;
                    }
                    let when = if before { "before" } else { "after" };
                    let version = if two { "h2" } else { "h1" };
                    let (by, to, path) = (client.name, server.name, capture.name());
                    let name = format!("matrix::{by}-to-{to}::{version}::{path}::{when}");
                    let case = Case::new(name, move |stage| {
                        Cell::new(stage, client, server, two)?.run(stage, capture, before)
                    });
                    // Who binds a session does not know what it says.
                    let both = client.two && server.two;
                    cases.push(case.seldom_if(both && !two && before));
                }
            }
        }
    }
    for client in [&NODE, &AIOHTTP] {
        for capture in [Capture::Socket, Capture::Syscall] {
            let name = format!("matrix::{}-to-four::{}", client.name, capture.name());
            cases.push(Case::new(name, move |stage| four(stage, client, capture)));
        }
    }
    for (client, name) in [(&CLIENTS[0], "curl"), (&GO, "go")] {
        let name = format!("matrix::{name}-to-nginx::h2::bulk");
        cases.push(Case::new(name, move |stage| bulk(stage, client)));
    }
    cases
}

/// A download of a quarter of a gigabyte, and what follows it on the same connection: a ring that
/// holds a fraction of a hundredth of that takes its frames' heads, and nothing is lost.
fn bulk(stage: &mut Stage, client: &'static Client) -> Result<()> {
    let get = |target: &str, status| ask("GET", &format!("{target}/{}", number()), status);
    let mut cell = Cell::new(stage, client, &NGINX, true)?;
    cell.asks = vec![
        get("/bytes/10", 200),
        get("/bytes/268435456", 200),
        get("/status/404", 404),
        get("/bytes/1024", 200),
    ];
    cell.ring = Some("1048576");
    cell.run(stage, Capture::Socket, false)?;
    fs::remove_dir_all(stage.folder.join("www"))?;
    Ok(())
}

/// A client for each way in which sessions are bound to sockets: inside of a call on a thread (OpenSSL,
/// GnuTLS), a goroutine, into memory (Python, Node.js), given and then sent (rustls).
const BINDS: [&str; 6] = ["curl", "wget", "go", "aiohttp", "node", "reqwest"];

/// A program whose file the agent has not seen yet is probed a while after it has started.
pub const MEETING: Duration = Duration::from_secs(1);

/// How many requests each cell makes.
const MANY: usize = 200;

/// Sizes from nothing to more than a record of TLS, and statuses of each class that has a body or
/// none. `plain` is for clients that are given URLs only.
fn asks(plain: bool) -> Vec<Ask> {
    let get = |target: &str, status| ask("GET", &format!("{target}/{}", number()), status);
    let one = |at| match at % 10 {
        0 => get("/status/201", 201),
        1 => get("/status/404", 404),
        2 => get("/status/500", 500),
        3 => get("/status/204", 204),
        4 => get("/bytes/20000", 200),
        5 => get("/bytes/0", 200),
        6 if !plain => put("POST", &format!("/upload/{}", number()), 1024, 201),
        7 if !plain => ask("HEAD", &format!("/bytes/1024/{}", number()), 200),
        _ => get("/bytes/1024", 200),
    };
    (0..MANY).map(one).collect()
}

/// One client and one server.
struct Cell {
    client: &'static Client,
    server: &'static Server,
    two: bool,
    certificates: Certificates,
    port: u16,
    /// Of the server behind a proxy.
    behind: u16,
    asks: Vec<Ask>,
    /// Bytes of the agent's ring, if not the usual.
    ring: Option<&'static str>,
}

/// What there is once all requests were answered; programs end when it is dropped.
struct Done {
    agent: Agent,
    serving: Program,
    known: Vec<Known>,
    _asking: Option<spantap_tests::Client>,
}

impl Cell {
    fn new(
        stage: &Stage,
        client: &'static Client,
        server: &'static Server,
        two: bool,
    ) -> Result<Self> {
        Ok(Self {
            client,
            server,
            two,
            certificates: Certificates::make(&stage.folder, "tls")?,
            port: free_port()?,
            behind: free_port()?,
            asks: asks(matches!(client.how, How::Once(_))),
            ring: None,
        })
    }

    fn run(&self, stage: &mut Stage, capture: Capture, before: bool) -> Result<()> {
        let place = Place {
            folder: &stage.folder,
            port: self.port,
            behind: self.behind,
            two: self.two,
            asks: &self.asks,
            certificates: &self.certificates,
        };
        let proxy = self.server.name == PROXY.name;
        let behind = if proxy {
            let setup = go_server(&stage.folder, self.behind)?.port(self.behind);
            Some(showing(setup, "go", &self.certificates).start()?)
        } else {
            None
        };
        let setup = (self.server.setup)(&place)?.port(self.port);
        let server = showing(setup, self.server.service, &self.certificates);
        let agent = stage.agent()?.tls().ports(&[self.port, self.behind]);
        let ring = self
            .ring
            .into_iter()
            .flat_map(|bytes| ["--ring-bytes", bytes]);
        let agent = agent.capture(capture).args(ring);
        let mut done = match self.client.how {
            How::Lines(start) => {
                let base = format!("https://localhost:{}", self.port);
                let setup = start(&stage.folder, &base, self.two)?;
                self.lines(server, self.trusting(setup), agent, before)?
            }
            How::Once(start) => {
                let url = |ask: &Ask| format!("https://localhost:{}{}", self.port, ask.target);
                let urls: Vec<String> = self.asks.iter().map(url).collect();
                let setup = start(&stage.folder, &urls, &self.certificates, self.two)?;
                self.once(server, self.trusting(setup), agent)?
            }
        };
        let front = Party::new(self.server.service, &done.serving.pids());
        for (one, ask) in done.known.iter_mut().zip(&self.asks) {
            self.complete(one, ask, &front, before);
        }
        if let Some(behind) = behind {
            let back = Party::new("go", &behind.pids());
            let second: Vec<_> = done
                .known
                .iter()
                .map(|one| self.second(one, &front, &back, before))
                .collect();
            done.known.extend(second);
        }
        let log = done.agent.log_path().to_path_buf();
        stage.judge(done.agent, &done.known)?;
        match self.ring {
            Some(_) => stage.check_lossless(&log),
            None => Ok(()),
        }
    }

    fn trusting(&self, setup: Setup) -> Setup {
        trusting(setup, self.client.name, &self.certificates)
    }

    /// A client that asks when it is told to.
    fn lines(
        &self,
        server: Setup,
        client: Setup,
        agent_setup: agent::Setup,
        before: bool,
    ) -> Result<Done> {
        let (agent, serving, mut asking);
        if before {
            serving = server.start()?;
            asking = spantap_tests::Client::start(client)?;
            // Answered by every server without a file for it.
            let warm = [ask("GET", &format!("/status/404/{}", number()), 404)];
            drive(&warm, &mut asking, self.port, None, None)?;
            agent = agent_setup.start()?;
        } else {
            agent = agent_setup.start()?;
            serving = server.start()?;
            asking = spantap_tests::Client::start(client)?;
            std::thread::sleep(MEETING);
        }
        let by = Party::new(self.client.name, &asking.pids());
        let (first, rest) = self.asks.split_at(1);
        let mut known = drive(first, &mut asking, self.port, Some(&by), None)?;
        if before && self.two {
            // A moment passes before the kernel side is told that this is HTTP/2.
            std::thread::sleep(Duration::from_millis(100));
        }
        known.extend(drive(rest, &mut asking, self.port, Some(&by), None)?);
        Ok(Done {
            agent,
            serving,
            known,
            _asking: Some(asking),
        })
    }

    /// A client that asks for a list of URLs and ends.
    fn once(&self, server: Setup, client: Setup, agent: agent::Setup) -> Result<Done> {
        let agent = agent.start()?;
        let serving = server.start()?;
        let begun = now();
        let ran = client.run(Duration::from_secs(60))?;
        let statuses: Vec<u16> = ran.output.lines().filter_map(status).collect();
        let want: Vec<u16> = self.asks.iter().map(|ask| ask.status).collect();
        ensure!(statuses == want, "{}: {ran:?}", self.client.name);
        let by = Party::new(self.client.name, &[ran.pid]);
        let known = self.asks.iter().map(|ask| {
            let mut one = Known::new("GET", &ask.target, Some(ask.status), self.port);
            one.received = Size::Exact(size(ask));
            one.window = (begun, now());
            one.client = Some(by.clone());
            one
        });
        Ok(Done {
            agent,
            serving,
            known: known.collect(),
            _asking: None,
        })
    }

    /// Adds what TLS and the server make known of an exchange.
    fn complete(&self, one: &mut Known, ask: &Ask, of: &Party, before: bool) {
        one.version = if self.two { "2" } else { "1.1" };
        one.scheme = "https";
        // Of HTTP/2, streams have numbers. A program may begin to speak before it is probed.
        one.may_be_apart = before && !self.two;
        one.hellos = !before;
        one.address = Some(ADDRESSES[0].into());
        // HTTP/2 sends the authority by number once it was sent.
        one.host = (!(self.two && before)).then(|| "localhost".into());
        one.server = Some(of.clone());
        if self.server.early && ask.body.is_some() {
            one.sent = Size::Maybe(ask.body.unwrap_or_default() as u64);
        }
    }

    /// What a proxy makes of an exchange: HTTP/1.1, by a name of its own.
    fn second(&self, one: &Known, front: &Party, back: &Party, before: bool) -> Known {
        let mut next = passed_on(one, self.behind, front, back);
        next.version = "1.1";
        next.may_be_apart = before;
        next.host = Some("localhost".into());
        next
    }
}

/// The status in a line of curl's or wget's.
fn status(line: &str) -> Option<u16> {
    let line = line.trim();
    let word = match line.strip_prefix("HTTP/1.1 ") {
        Some(rest) => rest.split(' ').next()?,
        None => line,
    };
    word.parse().ok()
}

/// What nginx sends for it.
fn size(ask: &Ask) -> u64 {
    let number = ask.target.split('/').nth(2).and_then(|n| n.parse().ok());
    match number {
        Some(size) if ask.target.starts_with("/bytes/") => size,
        _ if ask.status == 204 => 0,
        _ => "status 200\n".len() as u64,
    }
}

/// Thirty-two requests at a time to four places, each with a name and an address of its own: which
/// connection the bytes go to is not for the TLS library to say.
fn four(stage: &mut Stage, client: &'static Client, capture: Capture) -> Result<()> {
    let certificates = Certificates::make(&stage.folder, "tls")?;
    let hosts: Vec<&str> = ["localhost"]
        .into_iter()
        .chain(ADDRESSES.into_iter().skip(1))
        .collect();
    let mut ports = Vec::new();
    let (mut listening, mut bases) = (shown(&certificates), Vec::new());
    for (host, address) in hosts.iter().zip(ADDRESSES) {
        let port = free_port()?;
        listening += &listen(address, port);
        bases.push(format!("https://{host}:{port}"));
        ports.push(port);
    }
    let server = nginx_at(&stage.folder, &listening, &[])?.port(ports[0]);
    let How::Lines(start) = client.how else {
        anyhow::bail!("{} takes no requests", client.name);
    };
    let setup = start(&stage.folder, &bases.join(","), false)?;
    let agent = stage
        .agent()?
        .tls()
        .ports(&ports)
        .capture(capture)
        .start()?;
    let serving = server.start()?;
    let mut asking = spantap_tests::Client::start(trusting(setup, client.name, &certificates))?;
    std::thread::sleep(MEETING);
    let target = format!("/status/404/{}", number());
    let begun = now();
    let answer = asking.ask(&Ask {
        method: "BURST".into(),
        target: target.clone(),
        body: Some(MANY),
        ..Ask::default()
    })?;
    ensure!(answer.body == MANY as u64, "{answer:?}");
    let by = Party::new(client.name, &asking.pids());
    let of = Party::new("nginx", &serving.pids());
    let known: Vec<Known> = (0..MANY)
        .map(|at| {
            let which = at % ports.len();
            let target = format!("{target}/{at}");
            let mut one = Known::new("GET", &target, Some(404), ports[which]).between(&by, &of);
            one.scheme = "https";
            one.hellos = true;
            one.host = Some(hosts[which].into());
            one.address = Some(ADDRESSES[which].into());
            one.window = (begun, now());
            one
        })
        .collect();
    stage.judge(agent, &known).map(drop)
}
