//! Every server is asked the same by the driver, whose own client spans are judged too: once with
//! program and connection there before the agent, once with both after it, on each capture path.

use anyhow::Result;
use spantap_tests::agent::Capture;
use spantap_tests::driver::Plain;
use spantap_tests::known::{Ask, Known, Size, application, ask, closing, drive, few, number};
use spantap_tests::process::free_port;
use spantap_tests::program::Program;
use spantap_tests::{Case, Driver, Party, Stage};

use crate::programs::{DRIVER, SERVERS, Server};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for server in SERVERS {
        for capture in [Capture::Socket, Capture::Syscall] {
            for before in [true, false] {
                let when = if before { "before" } else { "after" };
                let name = format!("servers::{}::{}::{when}", server.name, capture.name());
                cases.push(Case::new(name, move |stage| {
                    if before {
                        older(stage, server, capture)
                    } else {
                        younger(stage, server, capture)
                    }
                }));
            }
        }
    }
    cases.push(Case::new("servers::nginx-proxy::before", |stage| {
        proxy(stage, true)
    }));
    cases.push(Case::new("servers::nginx-proxy::after", |stage| {
        proxy(stage, false)
    }));
    cases
}

/// What a server is asked: on a connection from before, on a new one, and on one each.
struct Plan {
    warm: Vec<Ask>,
    old: Vec<Ask>,
    new: Vec<Ask>,
}

impl Plan {
    fn new(server: &Server) -> Self {
        let mut new = if server.files {
            vec![ask("GET", &format!("/bytes/9/{}", number()), 200)]
        } else {
            few()
        };
        new.extend(closing());
        Self {
            warm: vec![ask("GET", &format!("/bytes/1024/{}", number()), 200)],
            old: (server.mix)(),
            new,
        }
    }

    fn all(&self) -> Vec<&Ask> {
        self.warm.iter().chain(&self.old).chain(&self.new).collect()
    }
}

/// A POST that may be answered before its body is read.
fn early(one: &mut Known) {
    one.sent = match one.sent {
        Size::Exact(size) if one.method == "POST" && size > 0 => Size::Maybe(size),
        Size::Framed(..) => Size::Unknown,
        other => other,
    };
}

/// Program, connection and its first request are older than the agent.
fn older(stage: &mut Stage, server: &Server, capture: Capture) -> Result<()> {
    let plan = Plan::new(server);
    let port = free_port()?;
    let program = (server.setup)(&stage.folder, port, &plan.all())?
        .port(port)
        .start()?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let mut plain = Plain::new(&mut driver, port)?;
    drive(&plan.warm, &mut plain, port, None, None)?;
    let agent = stage.agent()?.ports(&[port]).capture(capture).start()?;
    let known = follow(&plan, server, &program, &mut plain, port)?;
    stage.judge(agent, &known).map(drop)
}

/// The agent is there first.
fn younger(stage: &mut Stage, server: &Server, capture: Capture) -> Result<()> {
    let plan = Plan::new(server);
    let port = free_port()?;
    let setup = (server.setup)(&stage.folder, port, &plan.all())?.port(port);
    let agent = stage
        .agent()?
        .ports(&[port])
        .grpc()
        .capture(capture)
        .start()?;
    let program = setup.start()?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let mut plain = Plain::new(&mut driver, port)?;
    let known = follow(&plan, server, &program, &mut plain, port)?;
    stage.judge(agent, &known).map(drop)
}

/// Asks what is planned, on the connection there is and then on others.
fn follow(
    plan: &Plan,
    server: &Server,
    program: &Program,
    plain: &mut Plain<'_>,
    port: u16,
) -> Result<Vec<Known>> {
    let client = Party::new("driver", &[plain.pid()]);
    let mut known = drive(&plan.old, plain, port, Some(&client), None)?;
    plain.end()?;
    known.extend(drive(&plan.new, plain, port, Some(&client), None)?);
    // Only now: workers may be started after the master listens.
    let served = Party::new(server.service, &program.pids());
    for one in &mut known {
        one.server = Some(served.clone());
        if server.early {
            early(one);
        }
    }
    Ok(known)
}

/// nginx in front of a Go server, on kept connections on both sides: two exchanges per request.
fn proxy(stage: &mut Stage, before: bool) -> Result<()> {
    let (port, behind) = (free_port()?, free_port()?);
    let setup = crate::programs::nginx_proxy(&stage.folder, port, behind)?.port(port);
    let upstream = crate::programs::go_server(&stage.folder, behind)?
        .port(behind)
        .start()?;
    let mut agent = None;
    if !before {
        agent = Some(stage.agent()?.ports(&[port, behind]).start()?);
    }
    let nginx = setup.start()?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let client = Party::new("driver", &[driver.pid()]);
    let mut plain = Plain::new(&mut driver, port)?;
    if before {
        drive(&few(), &mut plain, port, None, None)?;
    }
    let agent = match agent {
        Some(agent) => agent,
        None => stage.agent()?.ports(&[port, behind]).start()?,
    };
    let front = Party::new("nginx", &nginx.pids());
    let back = Party::new("go-app", &upstream.pids());
    let mut known = drive(
        &application(),
        &mut plain,
        port,
        Some(&client),
        Some(&front),
    )?;
    let second: Vec<_> = known
        .iter()
        .map(|one| crate::programs::passed_on(one, behind, &front, &back))
        .collect();
    known.extend(second);
    stage.judge(agent, &known).map(drop)
}
