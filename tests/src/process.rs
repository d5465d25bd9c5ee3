//! What /proc says: who listens, who descends from whom, what a process holds. Read only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// A TCP port of this host that nobody uses. It is below those that the kernel gives to whoever asks for
/// any (net.ipv4.ip_local_port_range, 32768 on), so that nobody is given it before it is used, and this
/// process gives it once.
///
/// # Errors
/// Where all are in use.
pub fn free_port() -> Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(STRIDE);
    let tries = 0..u32::from(LAST - FIRST);
    let ports = tries.map(|_| {
        let place = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        FIRST + (place % u32::from(LAST - FIRST)) as u16
    });
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().context("find a free port")
}

const FIRST: u16 = 12_000;
const LAST: u16 = 32_000;
/// Ports between those that two processes begin with.
const STRIDE: u32 = 1009;

/// Whether anybody listens on a TCP port of a process's network namespace, without touching it.
pub fn listening(pid: u32, port: u16) -> bool {
    ["tcp", "tcp6"]
        .map(|table| format!("/proc/{pid}/net/{table}"))
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .any(|table| table.lines().skip(1).any(|line| listens(line, port)))
}

/// A line of /proc/net/tcp: `sl local:port remote:port state …`; state 0A is LISTEN.
fn listens(line: &str, port: u16) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let local = words.next().and_then(|word| word.rsplit_once(':'));
    let state = words.nth(1);
    state == Some("0A") && local.is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port))
}

/// Whether this is a guest of `cargo xtask vm`.
pub fn in_guest() -> bool {
    std::env::var_os("IN_VM").is_some()
}

/// How long to wait for what takes no longer than this on a machine whose processors are not emulated.
pub fn slowly(limit: Duration) -> Duration {
    if in_guest() { limit * 30 } else { limit }
}

/// Waits until `done` says yes.
pub fn until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !done() {
        if Instant::now() > end {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Whether a process runs (a zombie does not).
pub fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !matches!(fields(&stat).first(), Some(&"Z" | &"X") | None))
}

/// A process and all that descend from it, as of now.
pub fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in pids() {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        if let Some(parent) = fields(&stat).get(1).and_then(|word| word.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![root]);
    while let Some(pid) = next.pop() {
        found.push(pid);
        next.extend(children.remove(&pid).unwrap_or_default());
    }
    found
}

/// The words of a stat line after the name in parentheses: state, parent, …
fn fields(stat: &str) -> Vec<&str> {
    stat.rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default()
}

fn pids() -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// What a process keeps in the kernel's BPF part: ids of programs, maps and links it has open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bpf {
    /// Program ids, those behind links too.
    pub programs: BTreeSet<u32>,
    /// Map ids.
    pub maps: BTreeSet<u32>,
    /// Link ids.
    pub links: BTreeSet<u32>,
}

/// Reads /proc/PID/fdinfo.
pub fn bpf(pid: u32) -> Result<Bpf> {
    let mut held = Bpf::default();
    let folder = format!("/proc/{pid}/fdinfo");
    for entry in fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
        // A descriptor may be closed between the listing and the reading.
        let Ok(info) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        for line in info.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let Ok(id) = value.trim().parse() else {
                continue;
            };
            match key {
                "prog_id" => held.programs.insert(id),
                "map_id" => held.maps.insert(id),
                "link_id" => held.links.insert(id),
                _ => false,
            };
        }
    }
    Ok(held)
}

/// Descriptors of a process that are sockets, by descriptor number.
pub fn sockets(pid: u32) -> Vec<u32> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            let socket = target.to_str()?.starts_with("socket:");
            socket.then(|| entry.file_name().to_str()?.parse().ok())?
        })
        .collect()
}

/// Resident memory, bytes.
pub fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_port_listens_and_a_free_one_does_not() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let port = listener.local_addr().expect("address").port();
        let me = std::process::id();
        assert!(listening(me, port));
        drop(listener);
        assert!(!listening(me, port));
    }

    #[test]
    fn this_process_is_alive_and_in_its_own_tree() {
        let me = std::process::id();
        assert!(alive(me));
        assert!(tree(me).contains(&me));
    }
}
