//! Requests that the kernel side knows no trace of, where traces are carried to other hosts: what is called
//! for them is a child of theirs as anywhere, and not in a trace of its own. They come over a unix socket, over
//! connections that are older than the agent, or from a proxy on this host, of which the kernel side does not
//! know for whom it asks.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::cause::{self, Done};
use spantap_tests::process::{free_port, slowly, until};
use spantap_tests::program::Setup;
use spantap_tests::{Case, Client, Stage, agent};

use super::{ASYNCIO, DIRECT, Front, GO, MANY, PYTHON, app, leaf, proxies};

/// All of them: `option::aside::RUNTIME::WAY`.
pub(super) fn cases() -> impl Iterator<Item = Case> {
    let fronts = [&GO, &PYTHON[0], &ASYNCIO];
    let cases = fronts
        .into_iter()
        .flat_map(|front| WAYS.map(|way| (front, way)));
    // Whose task such a request is, is not known of asyncio's (docs/decisions/0024-asyncio.md).
    let known = |(front, way): &(&Front, &str)| front.runtime != "asyncio" || *way == "proxied";
    cases.filter(known).map(|(front, way)| {
        let name = format!("option::aside::{}::{way}", front.runtime);
        Case::new(name, move |stage| run(stage, front, way))
    })
}

const WAYS: [&str; 3] = ["unix", "elder", "proxied"];

/// Requests at once.
const AT_ONCE: usize = 32;

fn run(stage: &mut Stage, front: &Front, way: &str) -> Result<()> {
    let (port, behind) = (free_port()?, free_port()?);
    let _leaf = leaf(stage, behind)?.start()?;
    // A stage's folder may be too deep for sockaddr_un.
    let socket = std::env::temp_dir().join(format!("front-{port}"));
    let serving = (front.program)(&stage.folder)?
        .env("FRONT_SOCKET", &socket)
        .args([port, behind, 0, 0].map(|word| word.to_string()))
        .port(port)
        .start()?;
    let limit = slowly(Duration::from_secs(60));
    until("it serves", limit, || socket.exists())?;
    let between = free_port()?;
    let proxy = (proxies::NGINX.program)(&stage.folder)?
        .args([between, port, 0, 0].map(|word| word.to_string()))
        .port(between)
        .start()?;
    let place = match way {
        "unix" => socket.display().to_string(),
        "elder" => port.to_string(),
        _ => between.to_string(),
    };
    let load = Setup::new("load", &stage.folder, app()?).args(["aside", way, &place, DIRECT.name]);
    let load = load.args([AT_ONCE, MANY].map(|word| word.to_string()));
    let mut load = Client::start(load)?;
    let (pids, spans) = match way {
        "proxied" => ([serving.pids(), proxy.pids()].concat(), 4 * MANY),
        _ => (serving.pids(), 2 * MANY),
    };
    let agent = stage.agent()?.pids(&pids).forwarded();
    let agent = agent.env("OTEL_BSP_MAX_QUEUE_SIZE", "16384");
    let agent = (front.agent)(agent).start()?;
    // A line of nothing: go on.
    load.tell("")?;
    let said = load.line()?;
    let _ = fs::remove_file(&socket);
    ensure!(said == "done", "the load: {said}");
    let pids = serving.pids();
    let spans = stage.receive(agent, spans)?;
    if agent::dry() {
        return Ok(());
    }
    let mut score = cause::judge(
        &Done {
            front: &pids,
            shape: DIRECT.name,
            requests: MANY,
            calls: MANY,
        },
        &spans,
    );
    let share = score.share("right", "calls");
    if share < 99.0 {
        score.problems.push(format!("{share:.1} % right, not 99 %"));
    }
    stage.add(score);
    Ok(())
}
