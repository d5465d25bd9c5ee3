//! Files under probes that change: unlinked while they run, and written over once nobody runs them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use spantap_tests::certificates::Certificates;
use spantap_tests::known::{Known, Size, now, number};
use spantap_tests::process::free_port;
use spantap_tests::program::{Program, Setup};
use spantap_tests::{Case, Party, Stage, agent, install};

use crate::matrix::MEETING;

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("files::unlinked", unlinked),
        Case::new("files::written-over", written_over),
    ]
}

/// A Go server of its own file.
fn serve(stage: &Stage, port: u16) -> Result<Program> {
    let file = stage.folder.join("server");
    fs::copy(install::go()?, &file)?;
    let certificates = Certificates::make(&stage.folder, "tls")?;
    Setup::new("server", &stage.folder, &file)
        .args(["server", &port.to_string()])
        .env("OTEL_SERVICE_NAME", "server")
        .env("TLS_CERT", &certificates.server)
        .env("TLS_KEY", &certificates.server_key)
        .port(port)
        .start()
}

/// One request by curl; what is to be seen of it.
fn ask(stage: &Stage, port: u16, server: &Program) -> Result<Known> {
    let target = format!("/bytes/10/{}", number());
    let begun = now();
    let ran = Setup::new("curl", &stage.folder, "curl")
        .args(["-sk", "--http1.1", "-o", "/dev/null"])
        .arg(format!("https://localhost:{port}{target}"))
        .run(Duration::from_secs(20))?;
    ensure!(ran.code == Some(0), "{ran:?}");
    let of = Party::new("server", &server.pids());
    let mut one = Known::new("GET", &target, Some(200), port);
    one = one.between(&Party::new("curl", &[ran.pid]), &of);
    one.scheme = "https";
    one.host = Some("localhost".into());
    one.received = Size::Exact(10);
    one.window = (begun, now());
    Ok(one)
}

/// A program's file is unlinked, as a package's upgrade does: it is the same file, and is probed once.
fn unlinked(stage: &mut Stage) -> Result<()> {
    let port = free_port()?;
    let agent = stage.agent()?.tls().ports(&[port]).start()?;
    let server = serve(stage, port)?;
    std::thread::sleep(MEETING);
    let mut known = vec![ask(stage, port, &server)?];
    fs::remove_file(stage.folder.join("server"))?;
    // Processes are looked at again after 1.5, 6 and 20 seconds.
    std::thread::sleep(Duration::from_secs(7));
    for _ in 0..3 {
        known.push(ask(stage, port, &server)?);
    }
    stage.judge(agent, &known).map(drop)
}

/// A program's file is written over as soon as nobody runs it: what is written is what is run.
fn written_over(stage: &mut Stage) -> Result<()> {
    let port = free_port()?;
    let file = stage.folder.join("server");
    let agent = stage.agent()?.tls().ports(&[port]).start()?;
    let mut server = serve(stage, port)?;
    std::thread::sleep(MEETING);
    let known = [ask(stage, port, &server)?];
    let changed = breakpoints(stage, &file)?;
    stage.check(changed > 0, || "nothing was probed".into());
    server.stop();
    let begun = Instant::now();
    fs::copy(install::go()?, &file)?;
    let took = begun.elapsed();
    stage.check(took < Duration::from_secs(10), || {
        format!("a writer waited {took:?}")
    });
    let changed = breakpoints(stage, &file)?;
    stage.check(changed == 0, || {
        format!("{changed} bytes of the new program are not its own")
    });
    if agent::dry() {
        return Ok(());
    }
    stage.judge(agent, &known).map(drop)
}

/// How many bytes of a file are others where it is mapped for execution.
fn breakpoints(stage: &Stage, file: &Path) -> Result<u64> {
    const SCRIPT: &str = "import mmap, sys
with open(sys.argv[1], 'rb') as file:
    read = file.read()
    run = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
print(sum(a != b for a, b in zip(read, run[:])) if read != run[:] else 0)";
    let ran = Setup::new("mapper", &stage.folder, "python3")
        .args(["-c", SCRIPT])
        .arg(file)
        .run(Duration::from_secs(60))?;
    ensure!(ran.code == Some(0), "{ran:?}");
    Ok(ran.output.trim().parse()?)
}
