//! Two hosts on one kernel: each has a network namespace and a cgroup of its own, and nothing but a pair of
//! virtual interfaces joins them. What one serves the other finds as a service has it in a cluster: at an
//! address and a port that no socket has, and whoever asks is seen to come from somewhere else again. To the
//! addresses that sockets have there is no way.
//!
//! ```text
//! who asks            10.90.1.1:X  -> 10.90.12.1:8001    what it knows
//! leaves its host     10.90.0.1:Y  -> 10.90.12.1:8001    masquerade, at random ports
//! reaches the other   10.90.0.1:Y  -> 10.90.2.1:PORT     dnat: what who answers knows
//! ```
//!
//! A namespace is that of a process which does nothing, and ends with it; so do its interface, routes and
//! rules, however a run ends. Addresses are of the namespaces alone: runs do not see each other's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::install::{self, Debian};
use crate::process::{alive, until};
use crate::program::{Program, Setup};

/// One of two hosts; its cgroup must be empty when it is dropped.
pub struct Host {
    number: u8,
    folder: PathBuf,
    idle: Program,
    cgroup: PathBuf,
    nftables: Debian,
    services: AtomicU16,
}

/// Makes two. Their logs go to a folder.
pub fn pair(folder: &Path) -> Result<[Host; 2]> {
    let hosts = [Host::new(1, folder)?, Host::new(2, folder)?];
    let [first, second] = &hosts;
    let joins = format!(
        "ip link add name between type veth peer name between netns {}",
        second.idle.pid()
    );
    first.run("join", &joins)?;
    for host in &hosts {
        host.address_it()?;
    }
    for host in &hosts {
        host.route()?;
    }
    Ok(hosts)
}

/// Two that these interfaces join, which are there: without names that others find them by, and nothing is
/// translated between them. TCP has no timestamps there, so that options have room.
pub fn line(folder: &Path, interfaces: [&str; 2]) -> Result<[Host; 2]> {
    let hosts = [Host::new(1, folder)?, Host::new(2, folder)?];
    for (host, name) in hosts.iter().zip(interfaces) {
        let joins = format!("link set {name} netns {}", host.idle.pid());
        let ran = Setup::new("join", folder, "ip")
            .args(joins.split(' '))
            .run(Duration::from_secs(10))?;
        ensure!(ran.code == Some(0), "{joins}: {}", ran.errors);
        let [four, six] = host.ends();
        let steps = format!(
            "ip link set lo up; ip link set {name} up
            ip addr add {four}/30 dev {name}; ip addr add {six}/64 dev {name} nodad
            echo 0 >/proc/sys/net/ipv4/tcp_timestamps"
        );
        host.run("address", &steps)?;
    }
    Ok(hosts)
}

impl Host {
    /// Its addresses at the end of a line: of IPv4 and IPv6.
    pub fn ends(&self) -> [String; 2] {
        let number = self.number;
        [format!("10.90.0.{number}"), format!("fd90::{number}")]
    }

    fn new(number: u8, folder: &Path) -> Result<Self> {
        install::tool("ip", &["iproute2"])?;
        let nftables = install::debian("nftables", &["nftables"])?;
        let idle = Setup::new(&format!("host-{number}"), folder, "unshare");
        let idle = idle.args(["--net", "--", "sleep", "infinity"]).start()?;
        let own = namespace(process::id())?;
        until("a network namespace", Duration::from_secs(5), || {
            namespace(idle.pid()).is_ok_and(|its| its != own)
        })?;
        Ok(Self {
            number,
            folder: folder.into(),
            idle,
            cgroup: cgroup()?,
            nftables,
            services: AtomicU16::new(0),
        })
    }

    /// The address that its programs are to use.
    pub fn address(&self) -> String {
        format!("10.90.{}.1", self.number)
    }

    /// Its cgroup's path, as /proc/PID/cgroup has it.
    pub fn cgroup(&self) -> String {
        let name = self.cgroup.file_name().unwrap_or_default();
        format!("/{}", name.to_string_lossy())
    }

    /// A program of this host's.
    pub fn place(&self, setup: Setup) -> Setup {
        let namespace = format!("--net=/proc/{}/ns/net", self.idle.pid());
        let group = self.cgroup.join("cgroup.procs");
        let joins = "echo $$ > \"$0\" && exec nsenter \"$@\"";
        let words = ["-c", joins, &group.to_string_lossy(), &namespace, "--"];
        setup.by("sh", &words)
    }

    /// Lets the other host find what listens on a port of [`Self::address`]; says where.
    pub fn expose(&self, port: u16) -> Result<String> {
        let service = 8001 + self.services.fetch_add(1, Ordering::Relaxed);
        let (found, address) = (self.services_at(), self.address());
        let rule = format!(
            "add rule ip nat services ip daddr {found} tcp dport {service} dnat to {address}:{port}"
        );
        self.nft(&format!("service-{service}"), &rule)?;
        Ok(format!("{found}:{service}"))
    }

    fn services_at(&self) -> String {
        format!("10.90.1{}.1", self.number)
    }

    fn other(&self) -> u8 {
        3 - self.number
    }

    fn address_it(&self) -> Result<()> {
        let (number, address) = (self.number, self.address());
        let steps = format!(
            "ip link set lo up; ip addr add {address}/32 dev lo
            ip addr add 10.90.0.{number}/30 dev between; ip link set between up"
        );
        self.run("address", &steps)
    }

    fn route(&self) -> Result<()> {
        let (other, address) = (self.other(), self.address());
        let route = format!("ip route add 10.90.1{other}.0/24 via 10.90.0.{other} src {address}");
        self.run("route", &route)?;
        let rules = "add table ip nat
            add chain ip nat services { type nat hook prerouting priority dstnat; }
            add chain ip nat leaves { type nat hook postrouting priority srcnat; }
            add rule ip nat leaves oifname \"between\" masquerade random";
        self.nft("nat", rules)
    }

    fn nft(&self, name: &str, rules: &str) -> Result<()> {
        let file = self.folder.join(format!("{name}-{}.nft", self.number));
        fs::write(&file, rules)?;
        let nft = self.nftables.file("usr/sbin/nft")?;
        let libraries = self.nftables.libraries();
        let (nft, libraries) = (nft.display(), libraries.display());
        let step = format!("LD_LIBRARY_PATH={libraries} {nft} -f {}", file.display());
        self.run(name, &step)
    }

    /// Runs what makes the host, in its namespace and not in its cgroup.
    fn run(&self, name: &str, steps: &str) -> Result<()> {
        let setup = Setup::new(&format!("{name}-{}", self.number), &self.folder, "sh");
        let namespace = format!("--net=/proc/{}/ns/net", self.idle.pid());
        let ran = setup
            .args(["-ec", steps])
            .by("nsenter", &[&namespace, "--"])
            .run(Duration::from_secs(10))?;
        ensure!(ran.code == Some(0), "{steps}: {}", ran.errors);
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.idle.stop();
        // What has ended is there until it is waited for.
        let _ = until("an empty cgroup", Duration::from_secs(2), || {
            fs::remove_dir(&self.cgroup).is_ok()
        });
    }
}

fn namespace(pid: u32) -> Result<PathBuf> {
    Ok(fs::read_link(format!("/proc/{pid}/ns/net"))?)
}

/// A new cgroup, named for this process. Those of processes that could not clear away are removed.
fn cgroup() -> Result<PathBuf> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounted = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next() == Some("cgroup2")).then(|| PathBuf::from(place))
    });
    let root = mounted.context("no cgroup2 is mounted")?;
    for entry in fs::read_dir(&root)?.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let pid = pid.and_then(|rest| rest.split('-').next()?.parse().ok());
        if pid.is_some_and(|pid| !alive(pid)) {
            let _ = fs::remove_dir(entry.path());
        }
    }
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let place = root.join(format!("{PREFIX}{}-{number}", process::id()));
    fs::create_dir(&place).with_context(|| format!("make {}", place.display()))?;
    Ok(place)
}

/// What names of cgroups of the tests begin with; the maker's process id is next.
const PREFIX: &str = "spantap-host-";
