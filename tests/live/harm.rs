//! The agent never harms: programs see with it, in every mode of propagation, what they see without it,
//! byte for byte, and hardly later. Each case has real connections do something without an agent and with one,
//! and compares what both ends saw; `cargo xtask propagation` makes docs/propagation.md of what they came to.

pub mod ground;
mod left;
mod line;
mod pace;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::agent::{self, Agent};
use spantap_tests::process::{Bpf, in_guest, slowly};
use spantap_tests::{Case, Stage};

use ground::{Ground, Mix};

/// How a trace id is carried to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Off,
    /// By a TCP option.
    Option,
    /// By a header that is put into HTTP/1.
    Header,
}

impl Mode {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Option => "option",
            Mode::Header => "header",
        }
    }
}

type Body = fn(&mut Stage, Mode) -> Result<()>;

/// All of them.
pub fn cases() -> Vec<Case> {
    let behaviours: [(&str, Body); 14] = [
        ("proxy", |stage, mode| {
            compare(stage, mode, "proxy", |ground| {
                ground.client(&["keep", &ground.at_proxy(), &some(120), "4"])
            })
        }),
        ("bulk", |stage, mode| bulk(stage, mode, 256 << 20)),
        ("bulk-2-GiB", |stage, mode| bulk(stage, mode, 2 << 30)),
        ("requests", |stage, mode| {
            compare(stage, mode, "requests", |ground| {
                ground.client(&["raw", &ground.at_server()])
            })
        }),
        ("websocket", |stage, mode| {
            compare(stage, mode, "websocket", |ground| {
                let direct = ground.client(&["websocket", &ground.at_server()])?;
                Ok(direct + &ground.client(&["websocket", &ground.at_proxy()])?)
            })
        }),
        ("tls", |stage, mode| {
            compare(stage, mode, "tls", |ground| {
                ground.client(&["tls", &ground.at_server(), &ground.authority])
            })
        }),
        ("short", |stage, mode| {
            compare(stage, mode, "short", |ground| {
                ground.client(&["short", &ground.at_proxy(), &some(5000), "4"])
            })
        }),
        ("sockets", |stage, mode| {
            compare(stage, mode, "sockets", |ground| {
                ground.client(&["odd", &ground.third.to_string()])
            })
        }),
        ("rare", |stage, mode| {
            compare(stage, mode, "rare", |ground| {
                ground.client(&["rare", &ground.third.to_string()])
            })
        }),
        ("loss", line::loss),
        ("latency", pace::latency),
        ("killed", killed),
        ("restarted", restarted),
        ("left-behind", left_behind),
    ];
    let modes = MODES.iter().filter(|mode| known(**mode));
    let pairs = modes.flat_map(|mode| behaviours.iter().map(|behaviour| (*mode, *behaviour)));
    let cases = pairs.map(|(mode, (name, body))| {
        let case = Case::new(format!("harm::{name}::{}", mode.name()), move |stage| {
            body(stage, mode)
        });
        // Whatever the agent does without propagation it does with it too, and with a header what it does
        // with an option.
        let seldom = match mode {
            Mode::Off => !VALUES.is_empty(),
            Mode::Option => false,
            Mode::Header => !VISITED.contains(&name),
        };
        case.seldom_if(name == "bulk-2-GiB" || seldom)
    });
    cases.collect()
}

/// What sockets on a visit may notice, which takes them first.
const VISITED: [&str; 6] = [
    "proxy",
    "requests",
    "sockets",
    "rare",
    "killed",
    "left-behind",
];

const MODES: [Mode; 3] = [Mode::Off, Mode::Option, Mode::Header];

/// Whether the agent has the mode at all: its help says what values the flag has.
fn known(mode: Mode) -> bool {
    let values = VALUES.split([',', ' ']);
    mode == Mode::Off || values.into_iter().any(|value| value == mode.name())
}

const FLAG: &str = "--propagation";

/// The values of the flag that chooses the mode; nothing if there is no such flag.
static VALUES: LazyLock<String> = LazyLock::new(|| {
    let help =
        agent::binary().map(|binary| Command::new(binary).args(["agent", "--help"]).output());
    let Ok(Ok(help)) = help else {
        return String::new();
    };
    let help = String::from_utf8_lossy(&help.stdout);
    let mut flags = help.split("\n      --").map(str::trim);
    let flag = flags.find_map(|text| text.strip_prefix("propagation "));
    let values = flag.and_then(|text| text.split_once("possible values: "));
    values
        .and_then(|(_, text)| text.split_once(']'))
        .map_or_else(String::new, |(text, _)| text.into())
});

/// Whether the agent says that this kernel does not allow its mode; it then goes on without.
fn refused(agent: &Agent, mode: Mode) -> bool {
    agent
        .log()
        .contains(&format!("(propagation.mode: {})", mode.name()))
}

/// So many where the machine is fast, and a twentieth in a guest, whose processors are emulated.
fn some(count: usize) -> String {
    (if in_guest() { count / 20 } else { count }).to_string()
}

/// An agent in a mode, for these ports.
fn with_agent(stage: &mut Stage, mode: Mode, ports: &[u16], name: &str) -> Result<Agent> {
    with_agent_that(stage, mode, ports, name, |setup| setup)
}

/// The same, set up for more.
fn with_agent_that(
    stage: &mut Stage,
    mode: Mode,
    ports: &[u16],
    name: &str,
    adjust: impl FnOnce(agent::Setup) -> agent::Setup,
) -> Result<Agent> {
    let mut setup = agent::Setup::new(name, &stage.folder)?
        .to(&stage.sink)
        .ports(ports);
    if !VALUES.is_empty() {
        setup = setup.args([FLAG, mode.name()]);
    }
    if mode == Mode::Header {
        setup = setup.args(["--header-to", "0.0.0.0/0"]);
    }
    if in_guest() {
        // Two emulated processors leave nothing to who gives way.
        setup = setup.env("SPANTAP_CPU_SHARE", "1");
    }
    let agent = adjust(setup).start()?;
    if refused(&agent, mode) {
        stage.count("refused", 1);
    }
    Ok(agent)
}

/// What happened without an agent, by what is done. It is the same for each mode.
static ALONE: Mutex<BTreeMap<&str, String>> = Mutex::new(BTreeMap::new());

/// What `deed` sees without an agent.
fn alone(name: &'static str, deed: impl FnOnce() -> Result<String>) -> Result<String> {
    let mut known = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(seen) = known.get(name) {
        return Ok(seen.clone());
    }
    let seen = deed()?;
    ensure!(!seen.contains("failed: "), "without an agent: {seen}");
    known.insert(name, seen.clone());
    Ok(seen)
}

/// Does it without an agent and with one: both must see the same.
fn compare(
    stage: &mut Stage,
    mode: Mode,
    name: &'static str,
    deed: impl Fn(&Ground) -> Result<String>,
) -> Result<()> {
    let ground = Ground::start(stage, mode)?;
    let want = alone(name, || deed(&ground))?;
    let agent = with_agent_that(stage, mode, &ground.ports(), "agent", |setup| match name {
        "tls" => setup.tls(),
        _ => setup.forwarded(),
    })?;
    let seen = deed(&ground)?;
    same(stage, &want, &seen);
    // Of what a proxy hands on nobody knows the trace in time.
    if mode == Mode::Header && name == "requests" {
        let added = ground
            .client(&["added", &ground.at_server()])?
            .trim()
            .parse()?;
        stage.count("added", added);
        stage.check(added > 0 || refused(&agent, mode), || {
            "no header was added".into()
        });
    }
    finish(stage, agent, !["sockets", "rare"].contains(&name))
}

fn bulk(stage: &mut Stage, mode: Mode, size: u64) -> Result<()> {
    let name = match size {
        ..=0x1000_0000 => "bulk",
        _ => "bulk-2-GiB",
    };
    let size = if in_guest() { size >> 4 } else { size };
    compare(stage, mode, name, |ground| {
        ground.client(&["bulk", &ground.at_server(), &size.to_string()])
    })
}

/// Ends an agent that has seen something, if there was a request.
fn finish(stage: &mut Stage, agent: Agent, requests: bool) -> Result<()> {
    agent.stop()?;
    let spans = stage.sink.spans().len();
    stage.check(spans > 0 || !requests, || "the agent saw nothing".into());
    Ok(())
}

/// Says what is first that only one of two transcripts has.
fn same(stage: &mut Stage, want: &str, seen: &str) {
    let only = |one: &str, other: &str| {
        let mut lines = one
            .lines()
            .filter(|line| !other.lines().any(|known| known == *line));
        let line = lines.next().unwrap_or("the same lines, otherwise");
        line.chars().take(400).collect::<String>()
    };
    stage.check(want == seen, || {
        format!(
            "without: {}\n    with: {}",
            only(want, seen),
            only(seen, want)
        )
    });
}

/// What traffic of all sorts sees when nothing happens to it.
fn quiet(ground: &Ground, stage: &Stage) -> Result<String> {
    alone("mix", || {
        let mut mix = Mix::start(ground, stage, "quiet")?;
        mix.rounds()?;
        mix.end()
    })
}

/// Killed while traffic of all sorts goes on, on connections older and younger than it.
fn killed(stage: &mut Stage, mode: Mode) -> Result<()> {
    let ground = Ground::start(stage, mode)?;
    let want = quiet(&ground, stage)?;
    let mut mix = Mix::start(&ground, stage, "mix")?;
    mix.rounds()?;
    // With all that it can have in a program, but where verifiers are emulated.
    let agent = with_agent_that(
        stage,
        mode,
        &ground.ports(),
        "agent",
        |setup| match in_guest() {
            true => setup,
            false => setup.tls().goroutines().forwarded().asyncio().node(),
        },
    )?;
    mix.rounds()?;
    agent.kill()?;
    mix.rounds()?;
    let seen = mix.end()?;
    same(stage, &want, &seen);
    let spans = stage.sink.spans().len();
    stage.check(spans > 0, || "the agent saw nothing".into());
    Ok(())
}

/// Ten agents, one after the other, each killed or ended in the midst of it.
fn restarted(stage: &mut Stage, mode: Mode) -> Result<()> {
    let ground = Ground::start(stage, mode)?;
    let want = quiet(&ground, stage)?;
    let mut mix = Mix::start(&ground, stage, "mix")?;
    for turn in 0..if in_guest() { 2 } else { 10 } {
        let agent = with_agent(stage, mode, &ground.ports(), &format!("agent-{turn}"))?;
        std::thread::sleep(Duration::from_millis(20 * turn));
        match turn % 4 {
            3 => agent.stop()?,
            _ => agent.kill()?,
        }
    }
    mix.rounds()?;
    let seen = mix.end()?;
    same(stage, &want, &seen);
    Ok(())
}

/// Nothing of a killed agent's is in the kernel a moment later, at cgroups too.
fn left_behind(stage: &mut Stage, mode: Mode) -> Result<()> {
    let tool = left::Tool::get(&stage.folder)?;
    let ground = Ground::start(stage, mode)?;
    let before = tool.attached()?;
    let agent = with_agent(stage, mode, &ground.ports(), "agent")?;
    ground.client(&["keep", &ground.at_proxy(), "6", "1"])?;
    if agent::dry() {
        return agent.kill();
    }
    let held = agent.bpf()?;
    let at_cgroups = tool.attached()?.difference(&before).count();
    stage.check(!held.programs.is_empty(), || {
        "the agent holds no program".into()
    });
    stage.check(
        (mode == Mode::Off || refused(&agent, mode)) == (at_cgroups == 0),
        || format!("{at_cgroups} programs are attached to cgroups"),
    );
    agent.kill()?;
    let mut rest = (Bpf::default(), Vec::new());
    let gone = spantap_tests::process::until("all is gone", slowly(Duration::from_secs(5)), || {
        rest = tool.left(&held, &before).unwrap_or_default();
        rest == (Bpf::default(), Vec::new())
    });
    stage.check(gone.is_ok(), || format!("left behind: {rest:?}"));
    Ok(())
}
