//! Which TCP ports a process listens on: its sockets' inodes, by its descriptors, among those that its
//! network namespace's tables have as listening (Documentation/networking/proc_net_tcp.rst). For people who
//! look, not for the agent at work: it reads each descriptor's name.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::files::own_text;
use super::process::{Snapshot, inode};

/// Looks ports up.
#[derive(Debug)]
pub struct Ports {
    proc: PathBuf,
    /// Port by socket, for each network namespace.
    tables: HashMap<u64, HashMap<u64, u16>>,
}

impl Ports {
    /// Of the procfs mounted at `proc`.
    pub fn new(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            tables: HashMap::new(),
        }
    }

    /// Those that a process listens on; none where it may not be looked into.
    pub fn of(&mut self, process: &Snapshot) -> BTreeSet<u16> {
        let folder = self.proc.join(process.pid.to_string());
        let table = self
            .tables
            .entry(process.namespaces.net)
            .or_insert_with(|| {
                let texts =
                    ["tcp", "tcp6"].map(|name| own_text(&folder.join("net").join(name), MOST));
                let texts = texts.map(Result::unwrap_or_default);
                let lines = texts.iter().flat_map(|text| text.lines());
                lines.filter_map(listening).collect()
            });
        if table.is_empty() {
            return BTreeSet::new();
        }
        let descriptors = fs::read_dir(folder.join("fd")).into_iter().flatten();
        let sockets = descriptors.flatten().map(|entry| inode(&entry.path()));
        sockets.filter_map(|it| table.get(&it).copied()).collect()
    }
}

/// Inode and port of a line: `SL: LOCAL:PORT REMOTE:PORT STATE … INODE`, in hexadecimal but for the last.
fn listening(line: &str) -> Option<(u64, u16)> {
    let mut words = line.split_ascii_whitespace();
    let (local, state, inode) = (words.nth(1)?, words.nth(1)?, words.nth(5)?);
    let (_, port) = local.rsplit_once(':').filter(|_| state == LISTEN)?;
    Some((inode.parse().ok()?, u16::from_str_radix(port, 16).ok()?))
}

/// include/net/tcp_states.h.
const LISTEN: &str = "0A";
/// Bytes of a table at most.
const MOST: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::PROC;
    use crate::target::process::Reader;

    #[test]
    fn a_port_of_our_own() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it has one").port();
        let own = Reader::new(PROC)
            .read(std::process::id())
            .expect("ourselves");
        assert!(Ports::new(Path::new(PROC)).of(&own).contains(&port));
    }

    #[test]
    fn lines_of_a_table() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 8419 1 0 100 0";
        assert_eq!(listening(line), Some((8419, 8080)));
        assert_eq!(listening(&line.replace(" 0A ", " 01 ")), None);
        for line in [
            "",
            "  sl  local_address rem_address   st",
            "0: x y 0A a b c d e",
        ] {
            assert_eq!(listening(line), None, "{line}");
        }
    }
}
