//! How much memory is kept of a large cluster: the pods of one node, and 10,000 Services with 150,000 endpoints, as
//! Kubernetes is made for (5,000 nodes, 150,000 pods). A program of its own, as it reads its own memory.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use spantap::kubernetes::{Addresses, Cluster, Container, Kind, Owner, Peer, Pod};

/// Bytes of memory in use.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.expect("a number") * 1024
}

fn pod(n: usize) -> Pod {
    let text = |what: &str| format!("{what}-{n:08}").into_boxed_str();
    let labels = (0..10).map(|label| {
        let key = format!("app.kubernetes.io/label-{label}");
        (key.into_boxed_str(), text("value"))
    });
    Pod {
        uid: format!("{n:08x}-b92d-46fa-83a7-a10de3d45bdf").into(),
        namespace: text("namespace"),
        name: text("deployment-with-a-name-6bd65fb88c"),
        started: Some("2026-11-23T10:00:00Z".into()),
        labels: labels.collect(),
        owner: Some(Owner {
            kind: "ReplicaSet".into(),
            name: text("deployment-with-a-name"),
            uid: text("4d4bd1e0-b92d-46fa-83a7-a10d"),
        }),
        containers: (0..2)
            .map(|n| Container {
                name: text("container"),
                image: text("registry.example.com/team/image:1.2.3"),
                id: format!("{n:064x}").into(),
                ..Container::default()
            })
            .collect(),
        addresses: vec![address(10, n)],
        ..Pod::default()
    }
}

fn address(first: u8, n: usize) -> IpAddr {
    let [_, b, c, d] = u32::try_from(n).expect("few").to_be_bytes();
    Ipv4Addr::new(first, b, c, d).into()
}

fn peer(n: usize) -> Peer {
    Peer {
        name: format!("service-with-a-name-{n}").into(),
        namespace: format!("namespace-{}", n % 500).into(),
    }
}

fn fill(cluster: &Cluster) {
    for n in 0..10_000 {
        // 15 pods behind each.
        let pods = (0..15).map(|pod| address(11, n * 15 + pod));
        for (kind, addresses) in [
            (Kind::Service, vec![address(10, 1 << 23 | n)]),
            (Kind::Slice, pods.collect()),
        ] {
            cluster.put_addresses(Addresses {
                kind,
                name: format!("service-with-a-name-{n}-x7k2p").into(),
                peer: peer(n),
                addresses,
                ports: [8080].into_iter().collect(),
            });
        }
    }
}

#[test]
fn of_a_large_cluster_little_is_kept() {
    const MIB: usize = 1 << 20;
    let cluster = Cluster::new("node", Arc::default());
    let before = resident();
    for n in 0..500 {
        cluster.put_pod(pod(n));
    }
    let pods = resident() - before;
    fill(&cluster);
    let all = resident() - before;
    println!("pods of a node: {pods} bytes; with Services: {all} bytes");
    assert!(all < 30 * MIB, "{all} bytes");
    // Everything is told again, and again: nothing grows.
    for _ in 0..3 {
        cluster.list_pods();
        (0..500).for_each(|n| drop(cluster.put_pod(pod(n))));
        cluster.listed_pods();
        fill(&cluster);
    }
    let again = resident() - before;
    assert!(again < 30 * MIB, "{again} bytes");
    let found = cluster.peer(address(11, 150_000 - 1), 8080);
    assert_eq!(found, Some(peer(9_999)));
    // As many pods as no node has.
    (0..5_000).for_each(|n| drop(cluster.put_pod(pod(n))));
    let paper = resident() - before;
    println!("5,000 pods on one node, and the Services: {paper} bytes");
    assert!(paper < 30 * MIB + 5_000 * 8192, "{paper} bytes");
}
