//! One thread that looks whether others are to be traced: pods become known or change, Services get other
//! endpoints, the configuration's file changes. Whoever waits for a file waits here, and nobody else does.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::reader::Shared;
use crate::config::Selection;
use crate::kubernetes::Cluster;
use crate::target::Targets;
use crate::target::files::own_text;

/// Asked again and again what is selected: says so where that is something else than before.
pub type Reread = Box<dyn FnMut() -> Option<Selection> + Send>;

/// The thread's loop; returns when it is time to stop.
pub fn run(shared: &Shared, mut reread: Option<Reread>) {
    let mut receivers = Receivers::default();
    while !shared.stop.load(Ordering::Acquire) {
        let targets = &shared.targets;
        if let Some(selection) = reread.as_mut().and_then(|reread| reread()) {
            targets.select(&selection);
        }
        if let Some(cluster) = targets.cluster() {
            targets.learn();
            let own = || own_namespace(targets);
            if let Some(all) = receivers.renew(cluster, shared.collector.hosts(), own) {
                targets.leave_out(all);
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Who spans are sent to, as far as they are pods.
#[derive(Debug, Default)]
struct Receivers {
    version: u64,
    asked: Option<Instant>,
}

impl Receivers {
    /// Their addresses, where they may be others than before.
    fn renew(
        &mut self,
        cluster: &Cluster,
        hosts: &[String],
        own: impl Fn() -> Option<String>,
    ) -> Option<HashSet<IpAddr>> {
        let version = cluster.peers_version();
        let early = self.asked.is_some_and(|asked| asked.elapsed() < AGAIN);
        if hosts.is_empty() || version == self.version || early {
            return None;
        }
        (self.version, self.asked) = (version, Some(Instant::now()));
        let all = hosts.iter().flat_map(|host| addresses(cluster, host, &own));
        Some(all.collect())
    }
}

/// The addresses of pods that a host stands for: its own, and those behind the Service that it names, or has
/// as its address.
pub fn addresses(cluster: &Cluster, host: &str, own: impl Fn() -> Option<String>) -> Vec<IpAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        let mut all = vec![address.to_canonical()];
        if let Some(service) = cluster.service_at(address) {
            all.extend(cluster.behind(&service.namespace, &service.name));
        }
        return all;
    }
    let service = service(host, own);
    service.map_or_else(Vec::new, |(namespace, name)| {
        cluster.behind(&namespace, &name)
    })
}

/// Namespace and name of a Service, as a host that is `NAME`, of the `own` namespace, `NAME.NAMESPACE`, or
/// `NAME.NAMESPACE.svc` and the cluster's domain.
pub fn service(host: &str, own: impl Fn() -> Option<String>) -> Option<(String, String)> {
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let mut parts = host.split('.');
    let (name, namespace, rest) = (parts.next()?, parts.next(), parts.next());
    let namespace = match (namespace, rest) {
        (None, _) => own()?.trim().to_owned(),
        (Some(namespace), None | Some("svc")) => namespace.to_owned(),
        _ => return None,
    };
    Some((namespace, name.to_owned()))
}

/// The namespace of the agent's own pod: as Kubernetes tells, or as the pod is told.
pub fn own_namespace(targets: &Targets) -> Option<String> {
    let told = || own_text(Path::new(NAMESPACE), 1024).ok();
    targets.own_namespace().or_else(told)
}

/// Between two looks: files and pods are settled that soon.
const PAUSE: Duration = Duration::from_millis(250);
/// How often, at most, endpoints are looked through: in a large cluster they change all the time.
const AGAIN: Duration = Duration::from_secs(1);
/// Where a pod is told its namespace (kubernetes, `plugin/pkg/admission/serviceaccount/admission.go`).
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kubernetes::{Addresses, Kind, Peer};
    use crate::stats::Stats;

    #[test]
    fn a_receiver_is_known_by_its_service() {
        let cluster = Cluster::new("node", Arc::new(Stats::default()));
        let peer = Peer {
            name: "collector".into(),
            namespace: "observability".into(),
        };
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        for (kind, addresses) in [
            (Kind::Service, vec![address("10.96.0.9")]),
            (Kind::Slice, vec![address("10.1.0.3"), address("10.1.0.4")]),
        ] {
            cluster.put_addresses(Addresses {
                kind,
                name: "collector".into(),
                peer: peer.clone(),
                addresses,
                ports: [4318].into_iter().collect(),
            });
        }
        let found = |host: &str, own: &str| {
            let own = || Some(own.to_owned());
            addresses(&cluster, host, own).len()
        };
        for (host, own, want) in [
            ("collector", "observability\n", 2),
            ("collector", "shop", 0),
            ("collector.observability", "shop", 2),
            ("Collector.observability.svc", "shop", 2),
            ("collector.observability.svc.cluster.local.", "shop", 2),
            ("collector.observability.example.com", "shop", 0),
            ("10.96.0.9", "shop", 3),
            ("10.1.0.3", "shop", 1),
            ("localhost", "shop", 0),
            ("", "shop", 0),
        ] {
            assert_eq!(found(host, own), want, "{host} from {own}");
        }
        // They are asked for once, until something changes.
        let (mut receivers, hosts) = (Receivers::default(), ["10.96.0.9".to_owned()]);
        let mut renew = || {
            receivers
                .renew(&cluster, &hosts, || None)
                .map(|all| all.len())
        };
        assert_eq!((renew(), renew()), (Some(3), None));
    }
}
