//! Who is traced, while it changes: by the configuration's file, and as `spantap list` tells.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use spantap_tests::agent::{self, Agent};
use spantap_tests::certificates::Certificates;
use spantap_tests::driver::Plain;
use spantap_tests::known::{ask, drive};
use spantap_tests::process::{self, free_port, slowly};
use spantap_tests::program::{Program, Setup};
use spantap_tests::span::{Kind, Span};
use spantap_tests::{Case, Driver, Stage};

use crate::programs::{DRIVER, aiohttp, go_server};

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("select::reload::plain", |stage| reload(stage, false)),
        Case::new("select::reload::tls", |stage| reload(stage, true)),
        Case::new("select::reload::asyncio", reload_asyncio),
        Case::new("select::ports", ports),
        Case::new("select::hangup", hangup),
        Case::new("select::list", list),
    ]
}

/// The file of an agent that runs.
struct File {
    path: PathBuf,
    told: usize,
}

impl File {
    fn new(stage: &Stage, text: &str) -> Result<Self> {
        let path = stage.folder.join("spantap.yaml");
        fs::write(&path, text)?;
        Ok(Self { path, told: 0 })
    }

    fn agent(&self, stage: &Stage, ports: &[u16]) -> Result<agent::Setup> {
        let setup = stage.agent()?.ports(ports);
        Ok(setup.args(["--config".as_ref(), self.path.as_os_str()]))
    }

    /// Changes it as a ConfigMap does, and waits until the agent has said something of it.
    fn change(&mut self, agent: &Agent, text: &str, says: &str) -> Result<()> {
        let (next, link) = (
            self.path.with_extension("next"),
            self.path.with_extension("link"),
        );
        let data = self.path.with_extension(format!("data-{}", self.told));
        fs::write(&data, text)?;
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&data, &next)?;
        fs::rename(&next, &self.path)?;
        self.heard(agent, says)
    }

    fn heard(&mut self, agent: &Agent, says: &str) -> Result<()> {
        if agent::dry() {
            return Ok(());
        }
        let news = |told: usize| {
            let log = agent.log();
            let said = log.lines().filter(|line| line.contains(says)).count();
            said > told.min(said.saturating_sub(1)) && log.lines().count() > told
        };
        let told = self.told;
        process::until(says, slowly(Duration::from_secs(10)), || news(told))?;
        self.told = agent.log().lines().count();
        // Verdicts are made by then, and on their way to the kernel side.
        std::thread::sleep(slowly(Duration::from_millis(600)));
        Ok(())
    }
}

/// Two servers, and requests to both of them that tell one time from another.
struct Pair {
    ports: [u16; 2],
    servers: [Program; 2],
    driver: Driver,
    connections: Vec<spantap_tests::driver::Connection>,
    tls: bool,
    stage: PathBuf,
}

impl Pair {
    fn start(stage: &Stage, tls: bool) -> Result<Self> {
        let ports = [free_port()?, free_port()?];
        let server = |port: u16, name: &str| match tls {
            false => go_server(&stage.folder, port)?.port(port).start(),
            true => {
                let certificates = Certificates::make(&stage.folder, name)?;
                let setup = aiohttp(&stage.folder, port, "")?.port(port);
                setup
                    .env("TLS_CERT", &certificates.server)
                    .env("TLS_KEY", &certificates.server_key)
                    .start()
            }
        };
        let servers = [server(ports[0], "one")?, server(ports[1], "other")?];
        let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
        let mut connections = Vec::new();
        if !tls {
            for port in ports {
                connections.push(driver.open(port)?);
            }
        }
        Ok(Self {
            ports,
            servers,
            driver,
            connections,
            tls,
            stage: stage.folder.clone(),
        })
    }

    fn pid(&self, which: usize) -> u32 {
        self.servers[which].pid()
    }

    /// Asks both, over connections that were there before the agent, or over new ones.
    fn ask(&mut self, phase: usize) -> Result<()> {
        for which in 0..2 {
            let target = format!("/bytes/5/{phase}");
            let port = self.ports[which];
            if self.tls {
                let url = format!("https://127.0.0.1:{port}{target}");
                let curl = Setup::new("curl", &self.stage, "curl");
                let ran = curl
                    .args(["-sk", "--http1.1", "-o", "/dev/null", &url])
                    .run(Duration::from_secs(20))?;
                ensure!(ran.code == Some(0), "{ran:?}");
                continue;
            }
            let connection = self.connections[which];
            let mut plain = Plain::on(&mut self.driver, port, connection);
            drive(&[ask("GET", &target, 200)], &mut plain, port, None, None)?;
        }
        Ok(())
    }

    /// Which server has a span in which phase, and how many.
    fn seen(&self, spans: &[Span]) -> BTreeMap<(usize, String), usize> {
        let mut seen = BTreeMap::new();
        for span in spans.iter().filter(|span| span.kind == Kind::Server) {
            let which = (0..2).find(|&which| {
                let all = self.servers[which].pids();
                span.pid().is_some_and(|pid| all.contains(&pid))
            });
            if let Some(which) = which {
                let target = span.target();
                let phase = target.rsplit('/').next().unwrap_or_default().to_owned();
                *seen.entry((which, phase)).or_default() += 1;
            }
        }
        seen
    }
}

fn reload(stage: &mut Stage, tls: bool) -> Result<()> {
    let mut pair = Pair::start(stage, tls)?;
    let [one, other] =
        [pair.pid(0), pair.pid(1)].map(|pid| format!("selection: {{pids: [{pid}]}}"));
    let mut file = File::new(stage, &one)?;
    let setup = file.agent(stage, &pair.ports)?;
    let agent = if tls { setup.tls() } else { setup }.start()?;
    pair.ask(1)?;
    file.change(&agent, &other, "selection.pids is now")?;
    settle(tls);
    pair.ask(2)?;
    file.change(&agent, "selection: {pids: [", "is wrong")?;
    pair.ask(3)?;
    file.change(&agent, "selection: {}", "selection.pids is now []")?;
    settle(tls);
    pair.ask(4)?;
    let both = format!("{one}\nlimits: {{event_count: 9}}");
    file.change(
        &agent,
        &both,
        "takes effect with a restart: limits.event_count",
    )?;
    pair.ask(5)?;
    let spans = stage.receive(agent, 6)?;
    if agent::dry() {
        return Ok(());
    }
    let want = [(0, "1"), (1, "2"), (1, "3"), (0, "4"), (1, "4"), (0, "5")];
    let want = want.map(|(which, phase)| ((which, phase.to_owned()), 1));
    let seen = pair.seen(&spans);
    stage.check(seen == BTreeMap::from(want), || format!("{seen:?}"));
    Ok(())
}

/// Who is selected anew is probed a moment later.
fn settle(tls: bool) {
    if tls {
        std::thread::sleep(slowly(Duration::from_millis(1000)));
    }
}

/// Calls of a program that was left for a while, and came back, are nobody else's.
fn reload_asyncio(stage: &mut Stage) -> Result<()> {
    let [front, back] = [free_port()?, free_port()?];
    let _back = go_server(&stage.folder, back)?.port(back).start()?;
    let peer = format!("http://127.0.0.1:{back}");
    let server = aiohttp(&stage.folder, front, &peer)?.port(front).start()?;
    let selected = format!("selection: {{pids: [{}]}}", server.pid());
    let mut file = File::new(stage, &selected)?;
    let setup = file.agent(stage, &[front, back])?;
    let agent = setup.asyncio().start()?;
    let mut driver = Driver::start(&stage.folder, DRIVER, "driver")?;
    let mut plain = Plain::new(&mut driver, front)?;
    let mut calls = |from: usize| -> Result<()> {
        for number in from..from + 20 {
            let target = format!("/call/{number}");
            drive(&[ask("GET", &target, 200)], &mut plain, front, None, None)?;
        }
        Ok(())
    };
    calls(100)?;
    file.change(
        &agent,
        "selection: {commands: [nobody]}",
        "selection.pids is now []",
    )?;
    calls(200)?;
    file.change(&agent, &selected, "selection.commands is now []")?;
    std::thread::sleep(slowly(Duration::from_secs(1)));
    calls(300)?;
    let spans = stage.receive(agent, 80)?;
    if agent::dry() {
        return Ok(());
    }
    let number =
        |span: &Span| -> Option<String> { Some(span.target().rsplit('/').next()?.to_owned()) };
    let of = |id: &str| spans.iter().find(|span| span.id == id);
    let (mut wrong, mut right) = (0, [0; 2]);
    for span in spans.iter().filter(|span| span.kind == Kind::Client) {
        let Some(parent) = span.parent.as_deref().and_then(of) else {
            continue;
        };
        match number(parent) == number(span) {
            true => right[usize::from(number(span).is_some_and(|it| it.starts_with('3')))] += 1,
            false => wrong += 1,
        }
    }
    let left = spans
        .iter()
        .filter(|span| number(span).is_some_and(|it| it.starts_with('2')));
    let left = left.count();
    stage.check(wrong == 0 && right[0] == 20 && left == 0, || {
        format!("{wrong} wrong, {right:?} right, {left} of who was not selected")
    });
    Ok(())
}

/// What is said of ports holds for connections that are new.
fn ports(stage: &mut Stage) -> Result<()> {
    let mut pair = Pair::start(stage, true)?;
    let [one, other] = pair
        .ports
        .map(|port| format!("selection: {{ports: [{port}]}}"));
    let mut file = File::new(stage, &one)?;
    let agent = file.agent(stage, &[])?.tls().start()?;
    pair.ask(1)?;
    file.change(&agent, &other, "selection.ports is now")?;
    pair.ask(2)?;
    let spans = stage.receive(agent, 4)?;
    if agent::dry() {
        return Ok(());
    }
    let want = [(0, "1"), (1, "2")].map(|(which, phase)| ((which, phase.to_owned()), 1));
    let seen = pair.seen(&spans);
    stage.check(seen == BTreeMap::from(want), || format!("{seen:?}"));
    Ok(())
}

/// SIGHUP has the file looked at, and ends nothing.
fn hangup(stage: &mut Stage) -> Result<()> {
    let mut pair = Pair::start(stage, false)?;
    let mut file = File::new(stage, &format!("selection: {{pids: [{}]}}", pair.pid(0)))?;
    let agent = file.agent(stage, &pair.ports)?.start()?;
    if !agent::dry() {
        let pid = i32::try_from(agent.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process id")?, Signal::HUP)?;
        file.heard(&agent, "nothing has changed")?;
    }
    pair.ask(1)?;
    let spans = stage.receive(agent, 1)?;
    if agent::dry() {
        return Ok(());
    }
    let seen = pair.seen(&spans);
    let want = BTreeMap::from([((0, "1".to_owned()), 1)]);
    stage.check(seen == want, || format!("{seen:?}"));
    Ok(())
}

/// It tells who would be traced, and why the others are not, beside an agent.
fn list(stage: &mut Stage) -> Result<()> {
    let pair = Pair::start(stage, false)?;
    let (pid, port) = (pair.pid(0).to_string(), pair.ports[0]);
    let agent = stage.agent()?.pids(&[pair.pid(0)]).start()?;
    let words = ["list", "--all", "-o", "json", "--pid", &pid];
    let ran = agent::Setup::command("list", &stage.folder, &words)?.run(Duration::from_secs(20))?;
    agent.stop()?;
    if agent::dry() {
        return Ok(());
    }
    ensure!(ran.code == Some(0), "{ran:?}");
    let rows = ran.output.lines().map(serde_json::from_str);
    let rows: Vec<serde_json::Value> = rows.collect::<Result<_, _>>()?;
    let row = |pid: u32| rows.iter().find(|row| row["pid"] == pid);
    let (Some(one), Some(other)) = (row(pair.pid(0)), row(pair.pid(1))) else {
        bail!("they are not in {}", ran.output);
    };
    let fine = one["traced"] == true
        && one["ports"] == serde_json::json!([port])
        && other["traced"] == false
        && other["setting"] == "selection.pids";
    stage.check(fine, || format!("{one} {other}"));
    let kernel = rows.iter().any(|row| row["why"] == "a kernel thread");
    stage.check(kernel || row(2).is_none(), || "no kernel thread".into());
    Ok(())
}
