//! How a store or a broker is tried with a driver: the driver connects, before the agent comes or
//! after it, then does a known list of things, of which exactly the spans must be there.

use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::agent::{self, Capture};
use spantap_tests::program::Setup;
use spantap_tests::{Client, Deed, Doers, Program, Span, Stage};

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

impl Cell<'_> {
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
