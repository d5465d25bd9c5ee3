//! Two drivers, one asking and one answering, each told what to send and when: for whatever no
//! ordinary client or server does on demand. Both are traced.

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use spantap_tests::agent::{self, Agent, Capture};
use spantap_tests::driver::Connection;
use spantap_tests::known::{Known, Size, now};
use spantap_tests::span::Span;
use spantap_tests::{Driver, Party, Stage};

use crate::programs::DRIVER;

/// The two, and the agent that watches their port.
pub struct Duo {
    /// Who asks.
    pub client: Driver,
    /// Who answers.
    pub server: Driver,
    /// The server's port.
    pub port: u16,
    /// What must have been seen so far.
    pub known: Vec<Known>,
    listener: u64,
    agent: Option<Agent>,
    parties: [Party; 2],
    begun: u64,
}

impl Duo {
    /// Starts both, then the agent.
    pub fn start(stage: &Stage, capture: Capture) -> Result<Self> {
        Self::with(stage, "127.0.0.1:0", |setup| setup.capture(capture))
    }

    /// The same on another address, with an agent set up otherwise.
    pub fn with(
        stage: &Stage,
        address: &str,
        adjust: impl FnOnce(agent::Setup) -> agent::Setup,
    ) -> Result<Self> {
        let client = Driver::start(&stage.folder, DRIVER, "asker")?;
        let mut server = Driver::start(&stage.folder, DRIVER, "answerer")?;
        let (listener, port) = server.listen_at(address)?;
        let agent = adjust(stage.agent()?.ports(&[port])).start()?;
        let parties = [
            Party::new("asker", &[client.pid()]),
            Party::new("answerer", &[server.pid()]),
        ];
        Ok(Self {
            client,
            server,
            port,
            known: Vec::new(),
            listener,
            agent: Some(agent),
            parties,
            begun: now(),
        })
    }

    /// A connection: its two ends.
    pub fn connect(&mut self) -> Result<(Connection, Connection)> {
        self.connect_at(&format!("127.0.0.1:{}", self.port))
    }

    /// The same to another of the server's addresses.
    pub fn connect_at(&mut self, address: &str) -> Result<(Connection, Connection)> {
        let ours = self.client.open_at(address)?;
        Ok((ours, self.server.accept(self.listener)?))
    }

    /// `METHOD TARGET HTTP/1.1`, Host, further lines, and the end of the head.
    pub fn head(&self, method: &str, target: &str, lines: &str) -> String {
        format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{lines}\r\n",
            self.port
        )
    }

    /// What is now known: a request and its status.
    pub fn know(&mut self, method: &str, target: &str, status: Option<u16>) -> &mut Known {
        let mut one = Known::new(method, target, status, self.port);
        one = one.between(&self.parties[0], &self.parties[1]);
        one.window = (self.begun, u64::MAX);
        let at = self.known.len();
        self.known.push(one);
        &mut self.known[at]
    }

    /// A plain exchange on a connection, with a small body.
    pub fn plain(&mut self, ends: (Connection, Connection), target: &str) -> Result<()> {
        let head = self.head("GET", target, "");
        self.client.send(ends.0, &head)?;
        self.server.until(ends.1, "\r\n\r\n")?;
        self.server
            .send(ends.1, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        let response = self.client.read(ends.0, "GET")?;
        ensure!(
            response.answer.status == 200,
            "status {}",
            response.answer.status
        );
        self.know("GET", target, Some(200)).received = Size::Exact(5);
        Ok(())
    }

    /// Sends a signal to the agent.
    pub fn signal_agent(&self, signal: Signal) -> Result<()> {
        let agent = self.agent.as_ref().filter(|_| !agent::dry());
        let pid = agent.and_then(|agent| Pid::from_raw(agent.pid().cast_signed()));
        pid.map_or(Ok(()), |pid| Ok(kill_process(pid, signal)?))
    }

    /// Ends the agent and judges what is known.
    pub fn judge(mut self, stage: &mut Stage) -> Result<Vec<Span>> {
        let Some(agent) = self.agent.take() else {
            return Ok(Vec::new());
        };
        let end = now();
        for one in &mut self.known {
            one.window.1 = one.window.1.min(end);
        }
        stage.judge(agent, &self.known)
    }

    /// Ends the agent and gives what came, for what `judge` has no rules for.
    pub fn receive(mut self, stage: &mut Stage, count: usize) -> Result<Vec<Span>> {
        match self.agent.take() {
            Some(agent) => stage.receive(agent, count),
            None => Ok(Vec::new()),
        }
    }
}
