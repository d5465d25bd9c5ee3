//! How a store or a broker is tried with a driver: the driver connects, before the agent comes or
//! after it, then does a known list of things, of which exactly the spans must be there.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::agent::{self, Capture};
use spantap_tests::process::{free_port, until};
use spantap_tests::program::Setup;
use spantap_tests::{Case, Client, Deed, Doers, Program, Span, Stage};

/// In what way a driver is tried.
#[derive(Clone, Copy)]
pub struct Way {
    /// Whether it finds the server at a unix socket, not a port.
    pub unix: bool,
    /// The capture path.
    pub capture: Capture,
    /// Whether it connects before the agent comes.
    pub before: bool,
}

impl Way {
    /// By TCP on a connection that is older than the agent.
    pub const OLD: Self = Self {
        unix: false,
        capture: Capture::Socket,
        before: true,
    };
    /// By TCP on a new one.
    pub const NEW: Self = Self {
        before: false,
        ..Self::OLD
    };
    /// By TCP on both paths and both connections.
    pub const ALL: [Self; 4] = [
        Self::OLD,
        Self::NEW,
        Self::OLD.by(Capture::Syscall),
        Self::NEW.by(Capture::Syscall),
    ];

    /// The same on another path.
    pub const fn by(self, capture: Capture) -> Self {
        Self { capture, ..self }
    }

    /// The same by a unix socket.
    pub const fn unix(self) -> Self {
        Self { unix: true, ..self }
    }

    /// How the driver finds the server.
    pub fn transport(self) -> &'static str {
        match self.unix {
            true => "unix",
            false => "tcp",
        }
    }

    /// A case of it.
    pub fn case(
        self,
        family: &str,
        driver: &str,
        body: impl Fn(&mut Stage) -> Result<()> + Send + Sync + 'static,
    ) -> Case {
        let (transport, end) = (self.transport(), self.name());
        Case::new(format!("{family}::{driver}::{transport}::{end}"), body)
    }

    /// The end of a case's name.
    pub fn name(self) -> String {
        Cell::name(self.capture, self.before)
    }

    /// A port, and where it is wanted a unix socket beside it.
    pub fn place(self, folder: &Path) -> Result<Place> {
        let path = || folder.join("server.sock").to_string_lossy().into_owned();
        Ok(Place {
            port: free_port()?,
            path: self.unix.then(path),
        })
    }
}

/// Where a driver finds the server.
pub struct Place {
    pub port: u16,
    /// The unix socket, if that is where.
    pub path: Option<String>,
}

impl Place {
    /// An agent that sees it: by its port, or by how the two programs are called where there is none.
    pub fn agent(&self, stage: &Stage, commands: &[&str]) -> Result<agent::Setup> {
        let agent = stage.agent()?;
        Ok(match &self.path {
            Some(_) => agent.args(commands.iter().flat_map(|name| ["--command", name])),
            None => agent.ports(&[self.port]),
        })
    }

    /// Starts a server that listens nowhere else.
    pub fn start(&self, setup: Setup) -> Result<Program> {
        let Some(path) = &self.path else {
            return setup.port(self.port).start();
        };
        let server = setup.start()?;
        // It listens on no port: the file says that it has started.
        until("the server listens", Duration::from_secs(20), || {
            Path::new(path).exists()
        })?;
        Ok(server)
    }
}

/// As a driver is told.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => f.write_str(path),
            None => self.port.fmt(f),
        }
    }
}

/// One driver and one server.
pub struct Cell<'a> {
    /// The protocol's name in the registry.
    pub protocol: &'a str,
    /// The driver's name in the table.
    pub driver: &'a str,
    /// The server, running.
    pub server: &'a Program,
    /// The capture path.
    pub capture: Capture,
    /// Whether the driver connects before the agent comes.
    pub before: bool,
    /// Whether a TLS library is in the way, which must be met first.
    pub tls: bool,
}

/// All spans of messages to this destination are in the trace that the messages themselves name.
pub fn in_trace(stage: &mut Stage, spans: &[Span], destination: &str, trace: &str) {
    for span in spans {
        let of = span.text("messaging.destination.name");
        let fine = of.as_deref() != Some(destination) || span.trace == trace;
        stage.check(fine, || {
            format!("{} {destination} is in trace {}", span.name, span.trace)
        });
    }
}

/// A program whose file the agent has not seen yet is probed a while after it has started.
const MEETING: Duration = Duration::from_secs(1);

impl<'a> Cell<'a> {
    /// Without TLS.
    pub fn new(protocol: &'a str, driver: &'a str, server: &'a Program, way: Way) -> Self {
        Self {
            protocol,
            driver,
            server,
            capture: way.capture,
            before: way.before,
            tls: false,
        }
    }

    /// `driver` prints `ready` once it is connected, does its list when it reads a line, and prints
    /// `done`. `agent` is as [`Stage::agent`] gives it, with what is selected. `deeds` are what is to
    /// be seen: what is done while connecting only where that is after the agent has come.
    pub fn run(
        &self,
        stage: &mut Stage,
        agent: agent::Setup,
        driver: Setup,
        deeds: &[Deed],
    ) -> Result<Vec<Span>> {
        self.run_among(stage, agent, driver, deeds, |_| true)
    }

    /// The same, where only some spans are judged ([`Stage::judge_deeds_among`]).
    pub fn run_among(
        &self,
        stage: &mut Stage,
        agent: agent::Setup,
        driver: Setup,
        deeds: &[Deed],
        among: fn(&Span) -> bool,
    ) -> Result<Vec<Span>> {
        let agent = agent.capture(self.capture);
        let (mut driver, agent) = if self.before {
            let driver = Client::start(driver)?;
            (driver, agent.start()?)
        } else {
            let agent = agent.start()?;
            (Client::start(driver)?, agent)
        };
        if self.tls {
            std::thread::sleep(MEETING);
        }
        driver.tell("go")?;
        let said = driver.line()?;
        ensure!(said == "done", "the driver said {said:?}");
        let doers = Doers {
            client: driver.pids(),
            server: self.server.pids(),
            cell: (self.protocol.into(), self.driver.into()),
        };
        stage.judge_deeds_among(agent, deeds, &doers, among)
    }

    /// The end of a case's name.
    pub fn name(capture: Capture, before: bool) -> String {
        let when = if before { "before" } else { "after" };
        format!("{}::{when}", capture.name())
    }
}
