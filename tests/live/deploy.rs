//! What `deploy/` holds, used as it is there: the chart rendered and refused, the manifests told to an API
//! server, the gateway's files run by a real Collector, packages made and looked into.

mod chart;
mod gateway;
mod installed;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spantap_tests::program::Setup;
use spantap_tests::{Case, Stage, agent, install};

/// All of them.
pub fn cases() -> Vec<Case> {
    let packages = ["deb", "rpm"].map(|kind| {
        let name = format!("deploy::packages::{kind}");
        Case::new(name, move |stage| package(stage, kind)).beside()
    });
    let mut cases = chart::cases();
    cases.extend(gateway::cases());
    cases.extend(installed::cases());
    cases.extend(packages);
    cases
}

/// A file or folder of `deploy/`.
fn shipped(path: &str) -> PathBuf {
    workspace().join("deploy").join(path)
}

fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The recipe makes a package, and in it is what a host needs.
fn package(stage: &mut Stage, kind: &str) -> Result<()> {
    const FILES: [&str; 5] = [
        "/usr/bin/spantap",
        "/usr/lib/systemd/system/spantap.service",
        "/etc/spantap/spantap.yaml",
        "/usr/share/man/man1/spantap.1",
        "/usr/share/doc/spantap/LICENSE",
    ];
    let nfpm = install::nfpm()?;
    let made = Setup::new("build", &stage.folder, shipped("packages/build.sh"))
        .args([kind.as_ref(), stage.folder.as_os_str()])
        .env("NFPM", nfpm)
        .env("SPANTAP_BIN", agent::binary()?)
        .run(Duration::from_secs(120))?;
    ensure!(made.code == Some(0), "{}{}", made.output, made.errors);
    let mut files = fs::read_dir(&stage.folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let file = files
        .find(|path| path.extension().is_some_and(|end| end == kind))
        .with_context(|| format!("no .{kind}: {}", made.output))?;
    let size = fs::metadata(&file)?.len();
    stage.count("MB", usize::try_from(size / 1_000_000)?);
    if kind == "rpm" {
        // No rpm on Debian: that it is one, and as large as the other.
        let bytes = fs::read(&file)?;
        stage.check(bytes.starts_with(&[0xed, 0xab, 0xee, 0xdb]), || {
            "not an .rpm".into()
        });
        stage.check(size > 5_000_000, || format!("{size} bytes"));
        return Ok(());
    }
    let list = |name: &str, flag: &str| {
        let setup = Setup::new(name, &stage.folder, "dpkg-deb");
        setup
            .args([flag.as_ref(), file.as_os_str()])
            .run(Duration::from_secs(60))
    };
    let (contents, fields) = (list("contents", "--contents")?, list("fields", "--field")?);
    for path in FILES {
        let there = contents.output.lines().any(|line| {
            let name = line.split_whitespace().nth(5).unwrap_or_default();
            name.trim_start_matches('.').trim_end_matches(".gz") == path
        });
        stage.check(there, || format!("no {path} in it: {}", contents.output));
    }
    let version = format!("Version: {}", env!("CARGO_PKG_VERSION"));
    for field in ["Package: spantap", &version, "Depends: libc6"] {
        stage.check(fields.output.contains(field), || {
            format!("no {field:?}: {}", fields.output)
        });
    }
    let unpack = Setup::new("unpack", &stage.folder, "dpkg-deb");
    let words = ["-x".as_ref(), file.as_os_str(), "root".as_ref()];
    unpack.args(words).run(Duration::from_secs(60))?;
    let run = Setup::new(
        "version",
        &stage.folder,
        stage.folder.join("root/usr/bin/spantap"),
    );
    let ran = run.arg("--version").run(Duration::from_secs(10))?;
    stage.check(ran.output.contains(env!("CARGO_PKG_VERSION")), || {
        format!("{}{}", ran.output, ran.errors)
    });
    Ok(())
}
