//! Ports that anybody listens on, in any network namespace, as procfs tells (Documentation/networking/proc_net_tcp.rst).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use agent_ebpf::abi::LISTENED;
use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::Array;

/// Tells the kernel side.
pub(super) fn tell(ebpf: &mut Ebpf) -> Result<()> {
    let map = ebpf.map_mut("PORTS").context("no map PORTS")?;
    let mut map = Array::<_, u64>::try_from(map)?;
    let mut words = (0..).zip(ports());
    words.try_for_each(|(at, word)| map.set(at, word, 0).context("tell who listens"))
}

/// A bit for each port, as in the kernel side's map of them. Namespaces that only others may look into are
/// left out.
fn ports() -> Vec<u64> {
    let mut ports = vec![0; LISTENED];
    let mut seen = BTreeSet::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries
        .map(|entry| entry.path())
        .filter(|path| is_process(path));
    for process in processes.chain([PathBuf::from("/proc/self")]) {
        if let Ok(namespace) = fs::read_link(process.join("ns/net"))
            && seen.insert(namespace)
        {
            for table in ["net/tcp", "net/tcp6"] {
                add(
                    &mut ports,
                    &fs::read_to_string(process.join(table)).unwrap_or_default(),
                );
            }
        }
    }
    ports
}

fn is_process(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.iter().all(u8::is_ascii_digit)
}

fn add(ports: &mut [u64], table: &str) {
    for port in table.lines().filter_map(listened_on) {
        if let Some(word) = ports.get_mut(usize::from(port / 64)) {
            *word |= 1 << (port % 64);
        }
    }
}

/// `SL: LOCAL:PORT REMOTE:PORT STATE …`, in hexadecimal; TCP_LISTEN is 10 (include/net/tcp_states.h).
fn listened_on(line: &str) -> Option<u16> {
    let mut words = line.split_ascii_whitespace();
    let (local, state) = (words.nth(1)?, words.nth(1)?);
    let (_, port) = local.rsplit_once(':')?;
    (state == "0A").then(|| u16::from_str_radix(port, 16).ok())?
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn has(ports: &[u64], port: u16) -> bool {
        ports[usize::from(port / 64)] >> (port % 64) & 1 != 0
    }

    #[test]
    fn who_listens_is_found_and_who_is_connected_is_not() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let at = listener.local_addr().expect("an address");
            let client = TcpStream::connect(at).expect("a connection");
            let ports = ports();
            assert!(has(&ports, at.port()));
            let own = client.local_addr().expect("an address").port();
            assert!(!has(&ports, own), "{own} is only a client's");
        }
    }

    #[test]
    fn lines_that_say_nothing() {
        let mut ports = vec![0; LISTENED];
        add(
            &mut ports,
            "  sl  local_address rem_address   st\n 0: 0100007F\n\n 1: x:y z 0A\n",
        );
        assert_eq!(ports, vec![0; LISTENED]);
        add(
            &mut ports,
            "   0: 0100007F:0050 00000000:0000 0A 00000000\n",
        );
        assert!(has(&ports, 80));
    }
}
