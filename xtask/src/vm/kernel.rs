//! Debian's kernels, fetched by apt and unpacked below target/vm; nothing is installed.
//!
//! The addresses are those the machine's own apt uses; only the suites are ours, because a kernel
//! of one release is wanted on a machine of another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::check;
use crate::shell::{self, say};

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its full release, as `uname -r` has it.
    pub release: String,
    /// The bootable file.
    pub image: PathBuf,
    /// The folder that holds lib/modules.
    pub tree: PathBuf,
}

/// The newest kernel of a series such as `6.1`; from the cache, else fetched.
pub fn get(series: &str) -> Result<Kernel> {
    let tree = check::kept("vm/kernels")?.join(series);
    if let Ok(kernel) = unpacked(&tree) {
        return Ok(kernel);
    }
    let apt = Apt::new()?;
    let package = apt.newest(series)?;
    say(format!("vm: fetching {package}"));
    let part = tree.with_extension("part");
    fs::remove_dir_all(&part).ok();
    fs::create_dir_all(&part)?;
    shell::run(
        apt.command("apt-get")
            .args(["download", "-qq", &package])
            .current_dir(&part),
    )?;
    let file = fs::read_dir(&part)?
        .next()
        .context("apt-get download left nothing")??
        .path();
    shell::run(Command::new("dpkg").arg("-x").arg(&file).arg(&part))?;
    fs::remove_file(&file)?;
    // Since Debian 13 the modules lie in usr/lib, where no tool given a root looks for them.
    if !part.join("lib").exists() {
        std::os::unix::fs::symlink("usr/lib", part.join("lib"))?;
    }
    let release = unpacked(&part)?.release;
    shell::run(
        Command::new(sbin("depmod"))
            .arg("-b")
            .arg(&part)
            .arg(&release),
    )?;
    fs::remove_dir_all(&tree).ok();
    fs::rename(&part, &tree)?;
    unpacked(&tree)
}

fn unpacked(tree: &Path) -> Result<Kernel> {
    let boot = tree.join("boot");
    for entry in fs::read_dir(&boot).with_context(|| format!("read {}", boot.display()))? {
        let image = entry?.path();
        let name = image
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some(release) = name.strip_prefix("vmlinuz-") {
            return Ok(Kernel {
                release: release.to_owned(),
                image,
                tree: tree.to_path_buf(),
            });
        }
    }
    bail!("no kernel in {}", boot.display())
}

/// Programs of the administrator's folders, which are not on everybody's PATH.
pub fn sbin(program: &str) -> PathBuf {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let found = places
        .iter()
        .map(|place| Path::new(place).join(program))
        .find(|path| path.exists());
    found.unwrap_or_else(|| program.into())
}

/// An apt with package lists of its own.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new() -> Result<Self> {
        let folder = check::kept("vm/apt")?;
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let list = folder.join("sources.list");
        let sources = sources()?;
        let fresh = fs::read_to_string(&list).is_ok_and(|old| old == sources);
        fs::write(&list, sources)?;
        let options = [
            format!("Dir::Etc::sourcelist={}", list.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={}", folder.join("lists").display()),
            format!("Dir::Cache={}", folder.join("cache").display()),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ];
        let apt = Self {
            options: options.to_vec(),
        };
        if !fresh || !folder.join("updated").exists() {
            say("vm: reading the lists of Debian's kernels");
            shell::run(
                apt.command("apt-get")
                    .args(["update", "-qq"])
                    .stdout(Stdio::null()),
            )?;
            fs::write(folder.join("updated"), "")?;
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.options.iter().for_each(|option| {
            command.args(["-o", option]);
        });
        command
    }

    /// The package of the newest cloud kernel of a series.
    fn newest(&self, series: &str) -> Result<String> {
        let names = shell::read(self.command("apt-cache").args(["pkgnames", "linux-image-"]))?;
        let names = names.lines().filter(|name| is_cloud_kernel(name, series));
        let newest = names.max_by_key(|name| numbers(name));
        newest
            .map(str::to_owned)
            .with_context(|| format!("no kernel {series} in the lists"))
    }
}

/// apt's own addresses with the suites that carry the kernels of the matrix.
fn sources() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
    ]);
    let targets = shell::read(&mut targets)?;
    let mut lines: Vec<String> = Vec::new();
    for (uri, release) in targets.lines().filter_map(|line| line.split_once(' ')) {
        let suites = match release.rsplit_once('-') {
            Some((_, "security")) => SECURITY,
            Some(_) => continue,
            None => SUITES,
        };
        lines.extend(
            suites
                .iter()
                .map(|suite| format!("deb [{TRUST}] {uri} {suite} main")),
        );
    }
    lines.sort();
    lines.dedup();
    if lines.is_empty() {
        bail!("apt has no lists of Debian's packages yet: run apt-get update once");
    }
    Ok(lines.join("\n") + "\n")
}

/// linux-image-6.1.0-40-cloud-amd64 and the like: signed, neither debug nor another flavour.
fn is_cloud_kernel(name: &str, series: &str) -> bool {
    let rest = name
        .strip_prefix("linux-image-")
        .and_then(|rest| rest.strip_prefix(series));
    let version = rest.and_then(|rest| rest.strip_suffix("-cloud-amd64"));
    version.is_some_and(|version| version.starts_with('.') && !version.contains("bpo"))
}

/// Every number in a name, which orders versions as people do.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

const SUITES: &[&str] = &["bullseye", "bookworm", "trixie"];
const SECURITY: &[&str] = &["bullseye-security", "bookworm-security"];
/// An old release's lists expire; its signature stays good.
const TRUST: &str = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert!(is_cloud_kernel("linux-image-6.1.0-40-cloud-amd64", "6.1"));
        assert!(is_cloud_kernel(
            "linux-image-6.12.48+deb13-cloud-amd64",
            "6.12"
        ));
        assert!(!is_cloud_kernel(
            "linux-image-6.12.48+deb13-cloud-amd64",
            "6.1"
        ));
        assert!(!is_cloud_kernel(
            "linux-image-6.1.0-40-cloud-amd64-dbg",
            "6.1"
        ));
        assert!(!is_cloud_kernel("linux-image-6.1.0-40-amd64", "6.1"));
        assert!(numbers("linux-image-6.1.0-9-x") < numbers("linux-image-6.1.0-40-x"));
    }
}
