//! TLS on the socket: a handshake that fails is a span of each side, one that does not is none, and
//! at the end it is said whose connections were not read.

use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::agent::Capture;
use spantap_tests::certificates::Certificates;
use spantap_tests::process::free_port;
use spantap_tests::program::{Program, Ran, Setup};
use spantap_tests::span::Kind;
use spantap_tests::{Case, Stage, agent};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for capture in [Capture::Socket, Capture::Syscall] {
        let path = capture.name();
        for (what, server, client, error) in FAILURES {
            let name = format!("tls::{what}::{path}");
            cases.push(Case::new(name, move |stage| {
                fails(stage, capture, server, client, error)
            }));
        }
        let name = format!("tls::unread::{path}");
        cases.push(Case::new(name, move |stage| unread(stage, capture)));
    }
    cases
}

/// Name; what is said to openssl's server and client; what goes wrong.
const FAILURES: [(&str, &[&str], &[&str], &str); 3] = [
    ("no-version", &["-tls1_3"], &["-tls1_2"], "protocol_version"),
    (
        "no-cipher",
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
        "handshake_failure",
    ),
    (
        "not-trusted",
        &["-tls1_2"],
        &["-verify_return_error", "-verify", "1"],
        "unknown_ca",
    ),
];

fn serve(stage: &Stage, port: u16, words: &[&str]) -> Result<Program> {
    let certificates = Certificates::make(&stage.folder, "tls")?;
    Setup::new("server", &stage.folder, "openssl")
        .args(["s_server", "-quiet", "-www", "-accept"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("-cert")
        .arg(&certificates.server)
        .arg("-key")
        .arg(&certificates.server_key)
        .args(words)
        .port(port)
        .start()
}

fn fails(
    stage: &mut Stage,
    capture: Capture,
    server: &[&str],
    client: &[&str],
    error: &str,
) -> Result<()> {
    let port = free_port()?;
    let _server = serve(stage, port, server)?;
    let agent = stage
        .agent()?
        .tls()
        .ports(&[port])
        .capture(capture)
        .start()?;
    let ran = Setup::new("client", &stage.folder, "openssl")
        .args(["s_client", "-servername", "shop.test", "-connect"])
        .arg(format!("127.0.0.1:{port}"))
        .args(client)
        .run(PATIENCE)?;
    ensure!(ran.code != Some(0), "the handshake succeeded");
    let log = agent.log_path().to_path_buf();
    let spans = stage.receive(agent, 2)?;
    if agent::dry() {
        return Ok(());
    }
    stage.check(spans.len() == 2, || {
        format!("{} spans, want 2; {}", spans.len(), log.display())
    });
    for kind in [Kind::Client, Kind::Server] {
        let Some(span) = spans.iter().find(|span| span.kind == kind) else {
            stage.check(false, || format!("no {kind:?} span"));
            continue;
        };
        stage.check(span.error && span.name == "TLS handshake", || span.line());
        for (key, value) in [
            ("error.type", error),
            ("server.address", "shop.test"),
            ("network.protocol.name", "tls"),
            ("network.peer.address", "127.0.0.1"),
        ] {
            let found = span.attributes.get(key).and_then(|value| value.as_str());
            stage.check(found == Some(value), || {
                format!("{kind:?}: {key} is {found:?}, want {value}")
            });
        }
    }
    let parent = |kind| spans.iter().find(|span| span.kind == kind);
    let (client, server) = (parent(Kind::Client), parent(Kind::Server));
    if let (Some(client), Some(server)) = (client, server) {
        let linked = server.parent.as_ref() == Some(&client.id);
        stage.check(linked, || {
            "the server's span is not the client's child".into()
        });
    }
    Ok(())
}

/// A request over HTTPS whose plaintext nobody reads: TLS is left alone.
fn unread(stage: &mut Stage, capture: Capture) -> Result<()> {
    let port = free_port()?;
    let server = serve(stage, port, &[])?;
    let agent = stage.agent()?.ports(&[port]).capture(capture).start()?;
    let Ran { pid, code, .. } = Setup::new("client", &stage.folder, "curl")
        .args(["-sk", "--http1.1"])
        .arg(format!("https://localhost:{port}/"))
        .run(PATIENCE)?;
    ensure!(code == Some(0), "curl ended with {code:?}");
    let log = agent.log_path().to_path_buf();
    let spans = stage.receive(agent, 0)?;
    if agent::dry() {
        return Ok(());
    }
    stage.check(spans.is_empty(), || format!("{} spans", spans.len()));
    let said = std::fs::read_to_string(&log)?;
    for line in [
        format!("encrypted, unread: 1 connection of curl[{pid}] to localhost (http/1.1): "),
        format!(
            "encrypted, unread: 1 connection of openssl[{}] as localhost",
            server.pid()
        ),
    ] {
        stage.check(said.contains(&line), || {
            format!("{line:?} is not in {}", log.display())
        });
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(20);
