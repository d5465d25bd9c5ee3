//! The receiver that spans are exported to is not traced: each export would make spans, which would
//! be exported. It is known by the addresses of its endpoint, and where those say nothing (behind
//! a proxy, a published port of a container) by the exporter's own user agent.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use crate::config::{Config, Exporter, Otlp};
use crate::event::{Address, Open};
use crate::export::otlp::USER_AGENT;
use crate::protocol::{Request, Value};
use crate::span::semconv;

/// Whom not to trace.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    wanted: bool,
    addresses: Vec<SocketAddr>,
    /// What its endpoints call it.
    hosts: Vec<String>,
    /// Our own network namespace: a loopback address means nothing in another. 0 when unknown.
    netns: u32,
}

impl Collector {
    /// Of the endpoints in use. Asks the resolver where they are names, for `LONGEST` at most.
    pub fn of(config: &Config) -> Self {
        if !config.selection.exclude_collector {
            return Self::default();
        }
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in receivers(config).flat_map(resolve) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let netns = std::fs::metadata("/proc/self/ns/net").map(|data| data.ino());
        Self {
            wanted: true,
            addresses,
            hosts: Self::hosts_of(config),
            netns: netns.ok().and_then(|ino| ino.try_into().ok()).unwrap_or(0),
        }
    }

    /// What the endpoints in use call those that are left out.
    pub fn hosts_of(config: &Config) -> Vec<String> {
        let wanted = config.selection.exclude_collector;
        let all = receivers(config).filter(|_| wanted);
        let mut hosts: Vec<String> = all
            .filter_map(|otlp| Some(place(&otlp.endpoint)?.0))
            .collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// What its endpoints call it: names, and addresses without brackets.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Whether one end of a connection is the receiver. Asked once a connection.
    pub fn has(&self, open: &Open) -> bool {
        !self.addresses.is_empty()
            && [&open.local, &open.remote]
                .into_iter()
                .any(|end| match end {
                    Address::Inet(end) => self.is(canonical(*end), open.netns),
                    Address::Unix(_) => false,
                })
    }

    /// Whether the other end of a connection is.
    pub fn is_sent(&self, open: &Open) -> bool {
        matches!(&open.remote, Address::Inet(end) if self.is(canonical(*end), open.netns))
    }

    fn is(&self, end: SocketAddr, netns: u32) -> bool {
        let here = !end.ip().is_loopback() || netns == 0 || self.netns == 0 || netns == self.netns;
        here && self.addresses.contains(&end)
    }

    /// Whether a request carries spans of an agent like this one.
    pub fn receives(&self, request: &Request) -> bool {
        let agent = |key: &str| key == semconv::USER_AGENT_ORIGINAL;
        self.wanted
            && request.attributes.iter().any(|attribute| {
                let Value::Str(text) = &attribute.value else {
                    return false;
                };
                agent(&attribute.key) && text.starts_with(OWN)
            })
    }
}

/// For people: where it is; empty where it is not known.
impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{address}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Where spans and metrics are sent to.
fn receivers(config: &Config) -> impl Iterator<Item = &Otlp> {
    let exporters = config.export.exporters.iter();
    let spans = exporters.filter_map(|exporter| match exporter {
        Exporter::Otlp(otlp) => Some(otlp),
        Exporter::Stdout | Exporter::Json => None,
    });
    let metrics = config.export.metrics.iter();
    spans.chain(metrics.map(|metrics| &metrics.otlp))
}

/// The addresses of an endpoint; none where the resolver has none or takes too long.
fn resolve(otlp: &Otlp) -> Vec<SocketAddr> {
    let Some((host, port)) = place(&otlp.endpoint) else {
        return Vec::new();
    };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return vec![canonical(SocketAddr::new(ip, port))];
    }
    let (sender, answer) = sync_channel(1);
    let asker = thread::Builder::new().name("resolve".into());
    let asked = asker.spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs();
        // Nobody may wait for it any more.
        let _ = sender.send(found.map(Iterator::collect).unwrap_or_default());
    });
    let found: Vec<SocketAddr> = match asked {
        Ok(_) => answer.recv_timeout(LONGEST).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    found.into_iter().map(canonical).collect()
}

/// Host, without brackets, and port of an endpoint.
fn place(endpoint: &str) -> Option<(String, u16)> {
    let url = reqwest::Url::parse(endpoint).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    Some((host, url.port_or_known_default()?))
}

/// IPv4 in IPv6 as IPv4, and "any" as the loopback that connecting to it means.
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Longest the resolver is waited for.
const LONGEST: Duration = Duration::from_secs(2);
/// The exporter's user agent, whatever its version.
const OWN: &str = USER_AGENT
    .split_at(USER_AGENT.len() - env!("CARGO_PKG_VERSION").len())
    .0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ConnectionId;
    use crate::protocol::Attribute;

    fn collector(endpoint: &str, wanted: bool) -> Collector {
        let mut config = Config::default();
        config.selection.exclude_collector = wanted;
        config.export.exporters = vec![Exporter::Otlp(Otlp {
            endpoint: endpoint.into(),
            protocol: crate::config::Protocol::HttpProtobuf,
            headers: Vec::new(),
            gzip: false,
            timeout: Duration::from_secs(1),
            certificate: None,
            client_certificate: None,
            client_key: None,
        })];
        let mut collector = Collector::of(&config);
        collector.netns = 7;
        collector
    }

    fn open(local: &str, remote: &str, netns: u32) -> Open {
        let address = |text: &str| Address::Inet(text.parse().expect("an address"));
        Open {
            connection: ConnectionId(1),
            time: 1,
            process: 1,
            comm: "test".into(),
            local: address(local),
            remote: address(remote),
            role: None,
            ends: None,
            start: [0; 2],
            base: [0, 0],
            line: 0,
            netns,
            session: None,
            kernel_tls: false,
            datagrams: false,
        }
    }

    #[test]
    fn the_receiver_is_known_by_address_and_port() {
        let here = collector("http://127.0.0.1:8080/v1/traces", true);
        assert_eq!(here.to_string(), "127.0.0.1:8080");
        assert!(here.has(&open("127.0.0.1:8080", "127.0.0.1:40000", 7)));
        assert!(here.has(&open("127.0.0.1:40000", "[::ffff:127.0.0.1]:8080", 7)));
        assert!(here.has(&open("127.0.0.1:8080", "127.0.0.1:40000", 0)));
        assert!(here.is_sent(&open("127.0.0.1:40000", "127.0.0.1:8080", 7)));
        assert!(!here.is_sent(&open("127.0.0.1:8080", "127.0.0.1:40000", 7)));
        // The same port elsewhere is somebody else's.
        assert!(!here.has(&open("127.0.0.1:8080", "127.0.0.1:40000", 8)));
        assert!(!here.has(&open("10.0.0.2:8080", "10.0.0.3:40000", 7)));
        assert!(!here.has(&open("127.0.0.1:8081", "127.0.0.1:40000", 7)));
        let named = collector("http://localhost:8080", true);
        assert!(named.has(&open("127.0.0.1:8080", "127.0.0.1:40000", 7)));
        let any = collector("http://0.0.0.0:8080", true);
        assert!(any.has(&open("127.0.0.1:8080", "127.0.0.1:40000", 7)));
        // Its own address of a machine is the same in every namespace.
        let routed = collector("http://10.0.0.2:4318", true);
        assert!(routed.has(&open("10.0.0.2:4318", "10.0.0.3:40000", 8)));
        let asked_for = collector("http://127.0.0.1:8080", false);
        assert!(!asked_for.has(&open("127.0.0.1:8080", "127.0.0.1:40000", 7)));
    }

    #[test]
    fn our_own_exports_are_known_wherever_they_turn_up() {
        let request = |agent: &str| {
            let agent = Attribute::text(semconv::USER_AGENT_ORIGINAL, agent.into());
            Request::call("http1", "POST", vec![agent])
        };
        let collector = collector("http://127.0.0.1:8080", true);
        assert!(collector.receives(&request(USER_AGENT)));
        assert!(collector.receives(&request("OTel-OTLP-Exporter-spantap/9.9")));
        assert!(!collector.receives(&request("OTel-OTLP-Exporter-Rust/0.33")));
        assert!(!Collector::default().receives(&request(USER_AGENT)));
    }
}
