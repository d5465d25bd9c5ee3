//! Debian's packages, downloaded with what they need and the system lacks, and unpacked.

use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{Context as _, Result, ensure};

use super::{Step, cached, find};

/// Unpacked packages.
pub struct Debian {
    root: PathBuf,
}

impl Debian {
    /// A file of them.
    pub fn file(&self, path: &str) -> Result<PathBuf> {
        let file = self.root.join(path.trim_start_matches('/'));
        ensure!(file.exists(), "no {path} in the unpacked packages");
        Ok(file)
    }

    /// For LD_LIBRARY_PATH: their libraries.
    pub fn libraries(&self) -> PathBuf {
        let folder = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        self.root.join(folder)
    }
}

/// Downloads and unpacks packages together with their missing dependencies.
pub fn debian(name: &str, packages: &[&str]) -> Result<Debian> {
    let folder = cached(name, &packages.join(" "), |folder| unpack(folder, packages))?;
    Ok(Debian {
        root: folder.join("root"),
    })
}

fn unpack(folder: &Path, packages: &[&str]) -> Result<()> {
    ensure!(
        find("apt-get").is_some(),
        "{packages:?} come from Debian's packages: no apt-get here"
    );
    update();
    let plan = Step::new("apt-get")
        .args(["--simulate", "install", "--no-install-recommends"])
        .args(packages)
        .run()?;
    // `Inst name (version …)` is new, `Inst name [old] (version …)` an upgrade, which we leave.
    let missing = plan.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
        rest.starts_with('(').then_some(name)
    });
    let wanted: std::collections::BTreeSet<&str> =
        missing.chain(packages.iter().copied()).collect();
    Step::new("apt-get")
        .args(["--quiet", "download"])
        .args(wanted)
        .inside(folder)
        .run()?;
    let root = folder.join("root");
    for entry in std::fs::read_dir(folder)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            Step::new("dpkg-deb")
                .args(["-x".as_ref(), file.as_os_str(), root.as_os_str()])
                .run()?;
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// A program that must be on PATH; its package is installed if it is not.
pub fn tool(name: &str, packages: &[&str]) -> Result<PathBuf> {
    if let Some(path) = find(name) {
        return Ok(path);
    }
    ensure!(
        find("apt-get").is_some(),
        "no {name} on PATH, and no apt-get to install it with"
    );
    update();
    eprintln!("  Installing {} (Debian packages)", packages.join(" "));
    Step::new("apt-get")
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()?;
    find(name).with_context(|| format!("{packages:?} brought no {name}"))
}

/// Package lists may be absent or old; what then fails says so itself.
fn update() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(Step::new("apt-get").args(["--quiet", "update"]).run()));
}
