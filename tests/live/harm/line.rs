//! Lines that lose packets and swap them, between two network namespaces each, all at once.

use std::time::Duration;

use anyhow::{Context as _, Result};
use spantap_tests::install::tool;
use spantap_tests::process::{self, free_port, in_guest, slowly};
use spantap_tests::program::{Program, Setup};
use spantap_tests::{Client, Stage};

use super::ground::{HARM, seen};
use super::{Mode, alone, finish, refused, same, with_agent};

/// What is special about a line, its MTU, how many packets of a thousand are lost, and what is turned off of
/// TCP at both ends (net.ipv4).
type Kind = (&'static str, u32, &'static str, &'static str);

const KINDS: [Kind; 6] = [
    ("as it is", 1500, "20", ""),
    ("MTU 1280", 1280, "20", ""),
    ("MTU 576", 576, "20", ""),
    ("no window scaling", 1500, "20", "tcp_window_scaling"),
    ("no timestamps", 1500, "20", "tcp_timestamps"),
    // Each loss is waited for there.
    ("no SACK", 1500, "3", "tcp_sack"),
];

/// Of a thousand packets.
const SWAPPED: &str = "20";

/// A large body up and down, and requests on one connection, over each line.
pub fn loss(stage: &mut Stage, mode: Mode) -> Result<()> {
    tool("ip", &["iproute2"])?;
    // Where it is a module; else it is there, or says itself that it is not.
    let module = Setup::new("modprobe", &stage.folder, "modprobe").args(["-q", "tun"]);
    module.run(LIMIT).map(drop).ok();
    let port = free_port()?;
    let mut lines = Vec::new();
    for (at, kind) in KINDS.iter().enumerate() {
        lines.push(Line::start(stage, at, kind, port, mode).with_context(|| kind.0)?);
    }
    let want = alone("loss", || all(&lines, stage))?;
    let before = options(&mut lines)?;
    let agent = with_agent(stage, mode, &[port], "agent")?;
    let seen = all(&lines, stage)?;
    same(stage, &want, &seen);
    let carried = options(&mut lines)? - before;
    stage.count("options", carried);
    let carries = mode != Mode::Off && !refused(&agent, mode);
    stage.check(carries == (carried > 0), || {
        format!("{carried} segments have an option of the agent's")
    });
    finish(stage, agent, true)
}

/// How many packets so far had an option that no TCP has of itself.
fn options(lines: &mut [Line]) -> Result<usize> {
    let mut sum = 0;
    for line in lines {
        line.wire.tell("options")?;
        sum += line.wire.line()?.parse::<usize>()?;
    }
    Ok(sum)
}

fn all(lines: &[Line], stage: &Stage) -> Result<String> {
    let mut told = String::new();
    std::thread::scope(|scope| -> Result<()> {
        let asking = lines.iter().map(|line| &line.asking);
        let begun: Vec<_> = asking
            .map(|one| (one.name, scope.spawn(|| one.ask(stage))))
            .collect();
        for (name, one) in begun {
            let seen = one.join().ok().context("panicked")??;
            seen.lines()
                .for_each(|text| told += &format!("{name}: {text}\n"));
        }
        Ok(())
    })?;
    Ok(told)
}

/// Where requests are made from, and to.
struct Asking {
    name: &'static str,
    near: Space,
    server: String,
}

impl Asking {
    fn ask(&self, stage: &Stage) -> Result<String> {
        let (size, count) = match in_guest() {
            true => (2 << 20, "20"),
            false => (20 << 20, "200"),
        };
        let of = |name: &str| {
            self.near
                .inside(stage, &format!("{name}-{}", self.near.name), HARM)
        };
        let bulk = seen(of("bulk").args(["bulk", &self.server, &size.to_string()]))?;
        Ok(bulk + &seen(of("keep").args(["keep", &self.server, count, "1"]))?)
    }
}

/// Two namespaces, the line between them, and a server at the far end.
struct Line {
    asking: Asking,
    // In the order in which they are to end.
    _server: Program,
    wire: Client,
    _far: Space,
}

impl Line {
    fn start(stage: &Stage, at: usize, kind: &Kind, port: u16, mode: Mode) -> Result<Self> {
        let (name, mtu, lost, off) = *kind;
        let ends = ["a", "b"].map(|end| format!("h{}x{at}{end}", std::process::id()));
        let [near, far] = [Space::new(stage, &ends[0])?, Space::new(stage, &ends[1])?];
        let words = ["wire", &ends[0], &ends[1], lost, SWAPPED];
        let wire =
            Client::start(Setup::new(&format!("wire-{at}"), &stage.folder, HARM).args(words))?;
        // Where traces are carried to unless it is said otherwise.
        let addresses = [1, 2].map(|end| format!("10.198.{at}.{end}"));
        for (space, address) in [&near, &far].into_iter().zip(&addresses) {
            space.join(stage, &format!("{address}/30"), mtu)?;
            if !off.is_empty() {
                let text = format!("echo 0 >/proc/sys/net/ipv4/{off}");
                let set = space.inside(stage, "set", "sh").args(["-c", &text]);
                anyhow::ensure!(set.run(LIMIT)?.code == Some(0), "{text}");
            }
        }
        let server = format!("{}:{port}", addresses[1]);
        let mut serving = far
            .inside(stage, &format!("server-{at}"), HARM)
            .args(["serve", &server]);
        if mode == Mode::Header {
            serving = serving.env("HARM_HEADER", "may be");
        }
        let serving = serving.start()?;
        process::until(
            "the server listens",
            slowly(Duration::from_secs(10)),
            || process::listening(serving.pid(), port),
        )?;
        Ok(Self {
            asking: Asking { name, near, server },
            _server: serving,
            wire,
            _far: far,
        })
    }
}

/// A network namespace of ours.
struct Space {
    name: String,
}

impl Space {
    fn new(stage: &Stage, name: &str) -> Result<Self> {
        ip(stage, &["netns", "add", name])?;
        Ok(Self { name: name.into() })
    }

    /// Takes the interface of its own name.
    fn join(&self, stage: &Stage, address: &str, mtu: u32) -> Result<()> {
        let (name, mtu) = (self.name.as_str(), mtu.to_string());
        ip(stage, &["link", "set", name, "netns", name])?;
        ip(stage, &["-n", name, "address", "add", address, "dev", name])?;
        ip(stage, &["-n", name, "link", "set", name, "mtu", &mtu, "up"])
    }

    /// A program in it.
    fn inside(&self, stage: &Stage, name: &str, program: &str) -> Setup {
        Setup::new(name, &stage.folder, "ip").args(["netns", "exec", &self.name, program])
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let mut command = std::process::Command::new("ip");
        // What is left of it the kernel ends with its last program.
        let _ = command.args(["netns", "delete", &self.name]).status();
    }
}

fn ip(stage: &Stage, words: &[&str]) -> Result<()> {
    let ran = Setup::new("ip", &stage.folder, "ip")
        .args(words)
        .run(LIMIT)?;
    anyhow::ensure!(ran.code == Some(0), "ip {words:?}: {ran:?}");
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(30);
