//! Which TCP ports are listened on in a network namespace: a guess at who accepted a connection
//! that is older than the agent, used for its roles' order only.
//!
//! The kernel lists listening sockets before all others (net/ipv4/tcp_ipv4.c, `tcp_seq_start`), so
//! reading stops at the first that is not: the cost does not grow with the connections.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use procfs::net::TcpNetEntries;
use procfs::{FromBufReadSI, process::Process};

use super::cache::Cache;

/// Listening ports by network namespace, a second old at most.
#[derive(Debug)]
pub struct Listeners {
    proc: PathBuf,
    known: Mutex<Cache<u64, Ports>>,
}

#[derive(Clone, Debug)]
struct Ports {
    read: Instant,
    ports: Arc<HashSet<u16>>,
}

impl Listeners {
    /// Reads the procfs mounted at `proc`.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        Self {
            proc: proc.into(),
            known: Mutex::new(Cache::new(MAX_NAMESPACES)),
        }
    }

    /// Whether `port` is listened on in the namespace of process `pid`, which is `netns` (its
    /// inode; 0 when unknown). `None` when that could not be read.
    pub fn is_listening(&self, netns: u64, pid: u32, port: u16) -> Option<bool> {
        Some(self.ports(netns, pid)?.contains(&port))
    }

    /// All of them.
    pub fn ports(&self, netns: u64, pid: u32) -> Option<Arc<HashSet<u16>>> {
        if netns != 0 {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(ports) = known
                .get(&netns)
                .filter(|ports| ports.read.elapsed() < FRESH)
            {
                return Some(Arc::clone(&ports.ports));
            }
        }
        let ports = Arc::new(self.read(pid)?);
        if netns != 0 {
            let read = Instant::now();
            let entry = Ports {
                read,
                ports: Arc::clone(&ports),
            };
            self.known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(netns, entry);
        }
        Some(ports)
    }

    fn read(&self, pid: u32) -> Option<HashSet<u16>> {
        let process = Process::new_with_root(self.proc.join(pid.to_string())).ok()?;
        let mut ports = HashSet::new();
        let mut readable = false;
        for table in ["net/tcp", "net/tcp6"] {
            if let Ok(file) = process.open_relative(table) {
                readable = true;
                listening(BufReader::new(file), &mut ports);
            }
        }
        readable.then_some(ports)
    }
}

fn listening(table: impl BufRead, ports: &mut HashSet<u16>) {
    let mut lines = String::new();
    for (n, line) in table
        .lines()
        .map_while(Result::ok)
        .take(MAX_LINES)
        .enumerate()
    {
        let listens = n == 0 || line.split_ascii_whitespace().nth(3) == Some("0A");
        if !listens {
            break;
        }
        lines.push_str(&line);
        lines.push('\n');
    }
    if let Ok(entries) =
        TcpNetEntries::from_buf_read(lines.as_bytes(), procfs::current_system_info())
    {
        ports.extend(entries.0.iter().map(|entry| entry.local_address.port()));
    }
}

const FRESH: Duration = Duration::from_secs(1);
const MAX_NAMESPACES: usize = 1024;
const MAX_LINES: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::PROC;
    use super::super::fixture::Proc;
    use super::*;

    #[test]
    fn listening_ports() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let six = TcpListener::bind("[::1]:0");
        let port = listener.local_addr().unwrap().port();
        let listeners = Listeners::new(PROC);
        let own = std::process::id();
        assert_eq!(listeners.is_listening(0, own, port), Some(true));
        if let Ok(six) = six {
            assert_eq!(
                listeners.is_listening(0, own, six.local_addr().unwrap().port()),
                Some(true)
            );
        }
        assert_eq!(listeners.is_listening(0, u32::MAX, port), None);
        let proc = Proc::make();
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let row = |local: &str, state: &str| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 7 1\n"
            )
        };
        let table = [
            head.to_owned(),
            row("0100007F:1F90", "0A"),
            row("0100007F:0050", "01"),
            row("00000000:0051", "0A"),
        ]
        .concat();
        proc.process(4, 1, 1, "/x", &[b"x"]);
        proc.put(4, "net/tcp", table.as_bytes());
        let listeners = Listeners::new(&proc.root);
        assert_eq!(listeners.ports(9, 4).map(|ports| ports.len()), Some(1));
        assert_eq!(listeners.is_listening(9, 4, 8080), Some(true));
        proc.put(4, "net/tcp", b"garbage\n 0: x y 0A\n");
        assert_eq!(listeners.is_listening(9, 4, 8080), Some(true), "cached");
        assert_eq!(listeners.ports(10, 4).map(|ports| ports.len()), Some(0));
    }
}
