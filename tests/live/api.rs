//! A Kubernetes API that answers badly, or not at all: it is said once, and tracing goes on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use spantap_tests::process::{free_port, until};
use spantap_tests::program::{Program, Setup};
use spantap_tests::{Case, Stage, agent, install};

use crate::export::Traffic;

/// All of them.
pub fn cases() -> Vec<Case> {
    let all = ["500", "401", "403", "429", "garbage", "silent"];
    let all = Case::new("api::every", move |stage| bad(stage, &all));
    vec![
        Case::new("api::bad", |stage| bad(stage, &["403", "garbage"])),
        Case::new("api::gone", gone),
        // Silence is waited out for more than a minute.
        all.seldom_if(true),
    ]
}

/// One that does as its file says.
struct Api {
    folder: std::path::PathBuf,
    program: Program,
}

impl Api {
    fn start(stage: &Stage) -> Result<Self> {
        let port = free_port()?;
        let (script, _) = install::app("kubernetes/api.py")?;
        let folder = stage.folder.clone();
        Self::tell(&folder, "well")?;
        let words = [
            script.to_string_lossy().into_owned(),
            port.to_string(),
            Self::FILE.into(),
        ];
        let program = Setup::new("api", &folder, install::tool("python3", &["python3"])?);
        let program = program.args(words).port(port).start()?;
        let config = format!(
            "apiVersion: v1
kind: Config
current-context: it
contexts: [{{name: it, context: {{cluster: it, user: it}}}}]
clusters: [{{name: it, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]
users: [{{name: it, user: {{}}}}]
"
        );
        fs::write(folder.join("kubeconfig"), config)?;
        Ok(Self { folder, program })
    }

    const FILE: &str = "mood";

    fn tell(folder: &Path, mood: &str) -> Result<()> {
        // At once: half a word is another.
        fs::write(folder.join("new-mood"), mood)?;
        Ok(fs::rename(
            folder.join("new-mood"),
            folder.join(Self::FILE),
        )?)
    }

    fn is(&self, mood: &str) -> Result<()> {
        Self::tell(&self.folder, mood)
    }

    fn agent(&self, stage: &Stage, port: u16) -> Result<agent::Setup> {
        let config = self.folder.join("kubeconfig");
        let setup = stage.agent()?.ports(&[port]);
        let setup = setup.args(["--kubernetes", "on", "--kubernetes-node", "n1"]);
        Ok(setup.env("KUBECONFIG", &config.to_string_lossy()))
    }
}

const FAILS: &str = "Kubernetes does not tell of";
const WORKS: &str = "Kubernetes tells of everything again";

/// Each mood in turn, with a recovery after it; traffic meanwhile.
fn bad(stage: &mut Stage, moods: &[&str]) -> Result<()> {
    let api = Api::start(stage)?;
    let mut traffic = Traffic::start(stage)?;
    api.is(moods.first().copied().unwrap_or("well"))?;
    let agent = api.agent(stage, traffic.port)?.start()?;
    let mut known = Vec::new();
    for (nth, mood) in moods.iter().enumerate() {
        api.is(mood)?;
        known.extend(traffic.make(5)?);
        if agent::dry() {
            continue;
        }
        let times = |log: &str, line: &str| log.matches(line).count();
        let said = until("that it is said", Duration::from_secs(120), || {
            let log = agent.log();
            times(&log, FAILS) > times(&log, WORKS)
        });
        stage.check(said.is_ok(), || {
            format!("{mood}: nothing is said: {}", agent.tail())
        });
        // Tried again and again meanwhile, and not said again.
        std::thread::sleep(Duration::from_secs(3));
        let before = times(&agent.log(), FAILS);
        stage.check(before <= 2 * (nth + 1), || {
            format!("{mood}: said {before} times: {}", agent.tail())
        });
        known.extend(traffic.make(5)?);
        api.is("well")?;
        let back = until("that all is well", Duration::from_secs(120), || {
            times(&agent.log(), WORKS) == nth + 1
        });
        stage.check(back.is_ok(), || {
            format!("{mood}: not well again: {}", agent.tail())
        });
    }
    stage.judge(agent, &known).map(drop)
}

/// There is none, from the start; `list` says so, and ends.
fn gone(stage: &mut Stage) -> Result<()> {
    let mut api = Api::start(stage)?;
    api.program.stop();
    let mut traffic = Traffic::start(stage)?;
    let agent = api.agent(stage, traffic.port)?.start()?;
    let known = traffic.make(20)?;
    if !agent::dry() {
        let list = agent::Setup::command("list", &stage.folder, &["list", "--kubernetes", "on"])?;
        let config = api.folder.join("kubeconfig");
        let ran = list
            .env("KUBECONFIG", &config.to_string_lossy())
            .run(Duration::from_secs(30))?;
        stage.check(
            ran.code == Some(1) && ran.errors.contains("Kubernetes"),
            || format!("list: {:?} {}", ran.code, ran.errors),
        );
        stage.check(agent.log().contains(FAILS), || agent.tail());
    }
    stage.judge(agent, &known).map(drop)
}
