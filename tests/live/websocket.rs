//! WebSockets between Node.js and Python: messages of both sides, whole, in parts and compressed; a
//! close, one for an error, and none.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::{Case, Deed, Stage, install};

use crate::deeds::{Cell, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for pair in PAIRS {
        // What the fall-back path and an older connection need is the same for all.
        let ways = match pair.0 {
            "node" => &Way::ALL[..],
            _ => &[Way::NEW],
        };
        for &way in ways {
            cases.push(way.case("websocket", pair.0, move |stage| run(stage, pair, way)));
        }
    }
    cases
}

/// How a program is started, but for its arguments.
type Program = fn(&Path) -> Result<Setup>;

/// Who asks, its program, and that of who answers.
const PAIRS: &[(&str, Program, Program)] = &[("node", node, python), ("python", python, node)];

fn node(folder: &Path) -> Result<Setup> {
    let folder_of = install::modules("node-websocket", "websocket", &["peer.js"])?;
    Ok(Setup::new("node", folder, "node").arg(folder_of.join("peer.js")))
}

fn python(folder: &Path) -> Result<Setup> {
    let (file, _) = install::app("websocket/peer.py")?;
    let python = install::python_of("websocket", &[])?.join("python");
    Ok(Setup::new("python", folder, python).arg(file))
}

fn run(
    stage: &mut Stage,
    (name, asks, answers): &(&str, Program, Program),
    way: Way,
) -> Result<()> {
    let port = free_port()?;
    let word = port.to_string();
    let server = answers(&stage.folder)?.args(["server", &word]).port(port);
    let server = server.start()?;
    let driver = asks(&stage.folder)?.args(["client", &word]);
    let agent = stage.agent()?.ports(&[port]);
    let cell = Cell::new("websocket", name, &server, way);
    let spans = cell.run(stage, agent, driver, &deeds(way.before, name))?;
    for span in spans.iter().filter(|span| span.name == "GET /first") {
        let lasted = Duration::from_nanos(span.end.saturating_sub(span.start));
        stage.check(lasted >= LASTS, || {
            format!("lasts {lasted:?}, not {LASTS:?}")
        });
    }
    Ok(())
}

/// Between the two messages of the first one.
const LASTS: Duration = Duration::from_millis(300);

fn deeds(before: bool, name: &str) -> Vec<Deed> {
    let mut deeds = vec![
        socket("/echo", 3, 3).with(CODE, 1000),
        socket("/fails", 1, 0).with(CODE, 1011).fails("1011"),
        socket("/cut", 1, 0)
            .without("spantap.upgraded")
            .fails("connection_closed"),
    ];
    // Of one that is older than the agent nothing is known.
    if !before {
        let first = socket("/first", 2, 2);
        deeds.push(match name {
            // A close without a code.
            "node" => first.without(CODE),
            _ => first.with(CODE, 1000),
        });
    }
    deeds
}

fn socket(path: &str, asked: u64, answered: u64) -> Deed {
    let attributes = [
        ("http.request.method", "GET".to_owned()),
        ("http.response.status_code", "101".to_owned()),
        ("network.protocol.name", "http".to_owned()),
        ("spantap.upgraded", "true".to_owned()),
        ("spantap.websocket.request.messages", asked.to_string()),
        ("spantap.websocket.response.messages", answered.to_string()),
    ];
    Deed::new(&format!("GET {path}"), attributes)
}

const CODE: &str = "spantap.websocket.close_code";
