//! The machine the processes are on, read once. In a container the host's own files are reached
//! through its first process (`/proc/1/root`), as far as privileges allow.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::span::moment::Moment;
use crate::target::files;

/// `host.*` and `os.*`, and what is needed for a process's start time and instance id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `host.name`.
    pub name: String,
    /// `host.id`: the machine id, as the conventions have it for hosts outside a cloud.
    pub id: Option<String>,
    /// `host.arch`, in the conventions' words.
    pub arch: &'static str,
    /// `os.name`: `Debian GNU/Linux`.
    pub os_name: Option<String>,
    /// `os.version`: `12`.
    pub os_version: Option<String>,
    /// `os.description`: the distribution's pretty name and the kernel's release.
    pub os_description: Option<String>,
    /// Another one after every boot.
    pub boot_id: String,
    /// Unix time of the boot; zero when unknown.
    pub booted: Duration,
    /// Clock ticks per second.
    pub ticks: u64,
}

impl Host {
    /// Reads what the procfs mounted at `proc`, and the host behind it, tell.
    pub fn read(proc: &Path, node: Option<&str>) -> Self {
        let root = proc.join("1/root");
        let line = |path: &str| first_line(&proc.join(path));
        let etc = |path: &str| {
            files::text(&root, path, FILE_READ)
                .or_else(|_| files::own_text(&Path::new("/").join(path), FILE_READ))
                .ok()
        };
        let release = etc("usr/lib/os-release")
            .or_else(|| etc("etc/os-release"))
            .unwrap_or_default();
        let kernel = line("sys/kernel/osrelease");
        let pretty = field(&release, "PRETTY_NAME").or_else(|| field(&release, "NAME"));
        let description = [pretty, kernel.map(|kernel| format!("(Linux {kernel})"))];
        let description = description
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ");
        Self {
            name: host_name(proc, node).unwrap_or_else(|| "localhost".to_owned()),
            id: ["etc/machine-id", "var/lib/dbus/machine-id"]
                .iter()
                .find_map(|path| machine_id(&etc(path)?)),
            arch: arch(),
            os_name: field(&release, "NAME"),
            os_version: field(&release, "VERSION_ID"),
            os_description: (!description.is_empty()).then_some(description),
            boot_id: line("sys/kernel/random/boot_id").unwrap_or_default(),
            booted: line("uptime")
                .and_then(|text| booted(&text))
                .unwrap_or_default(),
            ticks: procfs::ticks_per_second(),
        }
    }

    /// Unix time of a start given in clock ticks since boot.
    pub fn started(&self, ticks: u64) -> Option<Duration> {
        if ticks == 0 || self.booted.is_zero() || self.ticks == 0 {
            return None;
        }
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks);
        let since_boot = Duration::from_nanos(u64::try_from(nanos).ok()?);
        self.booted.checked_add(since_boot)
    }
}

/// A Unix time as `2023-11-21T09:25:34.853Z`.
pub fn iso8601(time: Duration) -> String {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    format!("{:.3}", Moment(nanos))
}

/// procfs shows the reader's own name. In a container that is not the host's, whose name is then
/// taken from its file, or is the node's. Where it cannot be told whether this is a container, a node is only
/// known in one.
fn host_name(proc: &Path, node: Option<&str>) -> Option<String> {
    let inode = |pid: &str| std::fs::metadata(proc.join(pid).join("ns/uts")).map(|data| data.ino());
    let contained = match (inode("self"), inode("1")) {
        (Ok(own), Ok(first)) => own != first,
        _ => node.is_some(),
    };
    let file = || {
        let text = files::text(&proc.join("1/root"), "etc/hostname", FILE_READ).ok()?;
        text.lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .map(str::to_owned)
    };
    let other = || file().or_else(|| node.map(str::to_owned));
    contained
        .then(other)
        .flatten()
        .or_else(|| first_line(&proc.join("sys/kernel/hostname")))
}

fn machine_id(text: &str) -> Option<String> {
    let id = text.trim();
    let right = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    right.then(|| id.to_owned())
}

fn booted(uptime: &str) -> Option<Duration> {
    let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let uptime = Duration::try_from_secs_f64(seconds).ok()?;
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()?
        .checked_sub(uptime)
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc64" => "ppc64",
        other => other,
    }
}

/// A value of os-release: `NAME="Debian GNU/Linux"`.
fn field(release: &str, name: &str) -> Option<String> {
    release.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix('=')?.trim();
        let value = value.trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    })
}

fn first_line(path: &Path) -> Option<String> {
    let text = files::own_text(path, FILE_READ).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

const FILE_READ: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        let host = Host::read(Path::new("/proc"), None);
        assert!(!host.name.is_empty());
        assert!(!host.boot_id.is_empty());
        assert!(
            host.os_description
                .is_some_and(|text| text.contains("Linux"))
        );
        assert!(host.booted > Duration::from_secs(1_600_000_000));
        assert!(host.ticks > 0);
    }

    #[test]
    fn nothing_there() {
        let host = Host::read(Path::new("/nonexistent"), None);
        assert_eq!(host.name, "localhost");
        let node = Host::read(Path::new("/nonexistent"), Some("node-1"));
        assert_eq!(node.name, "node-1");
        assert_eq!(host.started(5), None);
    }
}
