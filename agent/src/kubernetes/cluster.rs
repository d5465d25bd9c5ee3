//! What is known of the cluster: the pods of this node by UID, the node, and who is behind an address.
//!
//! A pod that was deleted stays known for [`KEPT`], as its last spans are still to come; its name is
//! taken from nobody before that. A list that is read anew tells what is gone: whatever was not in it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashSet};

use super::peers::{Addresses, Kind, Peer, Peers};
use super::pod::{Owner, Pod};
use crate::stats::Stats;

/// What is known of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`; empty until it is known.
    pub uid: Box<str>,
    /// `topology.kubernetes.io/region`.
    pub region: Option<Box<str>>,
    /// `topology.kubernetes.io/zone`.
    pub zone: Option<Box<str>>,
    /// UID of the namespace kube-system, which stands for the cluster's.
    pub cluster: Option<Box<str>>,
}

/// What is known of the cluster. Shared by all who ask and whoever learns.
#[derive(Debug)]
pub struct Cluster {
    /// Grows with whatever changes of pods and node: as long as it does not, answers are the same.
    version: AtomicU64,
    /// The same of Services and their endpoints.
    peers_version: AtomicU64,
    /// Whether all pods were listed once.
    listed: AtomicBool,
    pods: Mutex<Pods>,
    peers: Mutex<Peers>,
    node: Mutex<Arc<Node>>,
    stats: Arc<Stats>,
}

#[derive(Debug, Default)]
struct Pods {
    /// By UID, and static pods by their hash as well.
    known: HashMap<Box<str>, Arc<Pod>>,
    /// UIDs by address.
    addresses: HashMap<IpAddr, Box<str>>,
    /// Who made ReplicaSets and Jobs, by their UID; nobody where that is known.
    owners: HashMap<Box<str>, Option<Owner>>,
    /// UIDs of pods that are gone, the first to go first.
    gone: VecDeque<(Box<str>, Instant)>,
    /// UIDs of the pods there were when a list began, without those that are in it.
    unlisted: HashSet<Box<str>>,
    /// UIDs of pods that changed since somebody asked.
    changed: HashSet<Box<str>>,
}

impl Cluster {
    /// Nothing is known but the node's name.
    pub fn new(node: &str, stats: Arc<Stats>) -> Self {
        let node = Node {
            name: node.into(),
            ..Node::default()
        };
        Self {
            version: AtomicU64::new(1),
            peers_version: AtomicU64::new(1),
            listed: AtomicBool::new(false),
            pods: Mutex::default(),
            peers: Mutex::default(),
            node: Mutex::new(Arc::new(node)),
            stats,
        }
    }

    /// Grows with whatever changes.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether all pods of the node were listed once, so that who is not known is new.
    pub fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    /// The pod whose cgroups are named by `uid` (its UID, or a static pod's hash).
    pub fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        self.pods().known.get(uid).cloned()
    }

    /// The first of these that is known.
    pub fn first_pod<'a>(&self, uids: impl IntoIterator<Item = &'a str>) -> Option<Arc<Pod>> {
        let pods = self.pods();
        uids.into_iter()
            .find_map(|uid| pods.known.get(uid).cloned())
    }

    /// The pod of this node that has an address for itself.
    pub fn pod_at(&self, address: IpAddr) -> Option<Arc<Pod>> {
        let pods = self.pods();
        let uid = pods.addresses.get(&address.to_canonical())?;
        pods.known.get(uid).cloned()
    }

    /// The node.
    pub fn node(&self) -> Arc<Node> {
        Arc::clone(&lock(&self.node))
    }

    /// Who is behind an address: the Service it belongs to.
    pub fn peer(&self, address: IpAddr, port: u16) -> Option<Peer> {
        lock(&self.peers).of(address, port)
    }

    /// The Service whose own address this is.
    pub fn service_at(&self, address: IpAddr) -> Option<Peer> {
        lock(&self.peers).service_at(address)
    }

    /// The addresses of all who are behind a Service.
    pub fn behind(&self, namespace: &str, service: &str) -> Vec<IpAddr> {
        lock(&self.peers).behind(namespace, service)
    }

    /// Grows with whatever changes of Services and their endpoints.
    pub fn peers_version(&self) -> u64 {
        self.peers_version.load(Ordering::Acquire)
    }

    /// UIDs (or hashes) of the pods that came or changed since this was asked last; by one asker.
    pub fn changed(&self) -> HashSet<Box<str>> {
        std::mem::take(&mut self.pods().changed)
    }

    /// A list of pods begins.
    pub fn list_pods(&self) {
        let mut pods = self.pods();
        let known = pods.known.values().map(|pod| pod.uid.clone());
        pods.unlisted = known.collect();
        let gone: Vec<_> = pods.gone.iter().map(|(uid, _)| uid.clone()).collect();
        for uid in gone {
            pods.unlisted.remove(&uid);
        }
    }

    /// A list of pods ended: what was not in it is gone.
    pub fn listed_pods(&self) {
        let unlisted = std::mem::take(&mut self.pods().unlisted);
        for uid in unlisted {
            self.remove_pod(&uid);
        }
        self.listed.store(true, Ordering::Release);
        self.tell();
    }

    /// A pod appeared or changed. The answer is its owner, where it is one of whom only the API tells
    /// who made it, and that is not known.
    pub fn put_pod(&self, mut pod: Pod) -> Option<Owner> {
        let mut pods = self.pods();
        pods.unlisted.remove(&pod.uid);
        let owner = pod.owner.as_ref().filter(|owner| has_owner(&owner.kind));
        let asked = owner.map(|owner| pods.owners.get(&owner.uid).cloned());
        let unknown = match asked {
            Some(None) => owner.cloned(),
            _ => None,
        };
        pod.behind = match asked {
            Some(Some(known)) => known,
            Some(None) => deployment(&pod),
            None => None,
        };
        let changed = pods.replace(pod, &self.stats);
        drop(pods);
        if changed {
            self.tell();
        }
        unknown
    }

    /// Whether it may yet become known who made the Job that made a pod. Of a ReplicaSet the name says it.
    pub fn may_tell_owner(&self, pod: &Pod) -> bool {
        let job = pod.owner.as_ref().filter(|owner| *owner.kind == *"Job");
        job.is_some_and(|job| !self.knows_owner(&job.uid))
    }

    /// Whether it is known who made this one.
    pub fn knows_owner(&self, of: &str) -> bool {
        self.pods().owners.contains_key(of)
    }

    /// Who made a ReplicaSet or a Job was learnt: nobody, or this.
    pub fn put_owner(&self, of: &str, owner: Option<Owner>) {
        let mut pods = self.pods();
        if pods.owners.len() >= MAX_OWNERS {
            let Pods { known, owners, .. } = &mut *pods;
            let used: HashSet<&str> = known
                .values()
                .filter_map(|pod| Some(&*pod.owner.as_ref()?.uid))
                .collect();
            owners.retain(|uid, _| used.contains(&**uid));
        }
        pods.owners.insert(of.into(), owner.clone());
        let made = |pod: &&Arc<Pod>| pod.owner.as_ref().is_some_and(|owner| *owner.uid == *of);
        let made: Vec<_> = pods.known.values().filter(made).cloned().collect();
        for pod in made {
            let behind = owner.clone();
            let pod = Pod {
                behind,
                ..(*pod).clone()
            };
            pods.replace(pod, &self.stats);
        }
        drop(pods);
        self.tell();
    }

    /// A pod is gone; it stays known for a while, but for its addresses.
    pub fn remove_pod(&self, uid: &str) {
        let mut pods = self.pods();
        pods.forget_addresses(uid);
        let is_new = pods.gone.iter().all(|(gone, _)| **gone != *uid);
        if is_new && pods.known.contains_key(uid) {
            pods.gone.push_back((uid.into(), Instant::now()));
        }
        let Pods { known, gone, .. } = &mut *pods;
        while let Some((uid, since)) = gone.front()
            && (since.elapsed() > KEPT || gone.len() > MAX_GONE)
        {
            // A static pod's hash may be that of the one that took its place.
            if let Some(pod) = known.remove(uid)
                && let Some(hash) = &pod.hash
                && known
                    .get(hash)
                    .is_some_and(|by_hash| by_hash.uid == pod.uid)
            {
                known.remove(hash);
            }
            gone.pop_front();
        }
    }

    /// What is known of the node changed.
    pub fn put_node(&self, change: impl FnOnce(&mut Node)) {
        let mut node = lock(&self.node);
        let mut new = (**node).clone();
        change(&mut new);
        if **node != new {
            *node = Arc::new(new);
            drop(node);
            self.tell();
        }
    }

    /// A list of Services, or of their endpoints, begins.
    pub fn list_peers(&self, kind: Kind) {
        lock(&self.peers).list(kind);
    }

    /// It ended.
    pub fn listed_peers(&self, kind: Kind) {
        lock(&self.peers).listed(kind);
        self.peers_version.fetch_add(1, Ordering::AcqRel);
    }

    /// Addresses of a Service appeared, changed, or went.
    pub fn put_addresses(&self, addresses: Addresses) {
        let refused = lock(&self.peers).put(addresses);
        self.stats.kubernetes_refused.add(refused);
        self.peers_version.fetch_add(1, Ordering::AcqRel);
    }

    fn tell(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    fn pods(&self) -> MutexGuard<'_, Pods> {
        lock(&self.pods)
    }
}

impl Pods {
    /// Takes a pod in; only where it differs is it another.
    fn replace(&mut self, pod: Pod, stats: &Stats) -> bool {
        // A pod of that UID that was gone is there again only where a watch told of the past.
        self.gone.retain(|(uid, _)| *uid != pod.uid);
        match self.known.get(&pod.uid) {
            Some(known) if **known == pod => return false,
            None if self.known.len() >= MAX_PODS => {
                stats.kubernetes_refused.add(1);
                return false;
            }
            _ => {}
        }
        let pod = Arc::new(pod);
        self.forget_addresses(&pod.uid);
        if let Some(hash) = &pod.hash {
            self.changed.insert(hash.clone());
            self.known.insert(hash.clone(), Arc::clone(&pod));
        }
        for &address in &pod.addresses {
            self.addresses.insert(address, pod.uid.clone());
        }
        self.changed.insert(pod.uid.clone());
        self.known.insert(pod.uid.clone(), pod);
        true
    }

    /// The addresses that a pod had are its no more.
    fn forget_addresses(&mut self, uid: &str) {
        if let Some(before) = self.known.get(uid) {
            for address in &before.addresses {
                if self.addresses.get(address).is_some_and(|at| **at == *uid) {
                    self.addresses.remove(address);
                }
            }
        }
    }
}

/// Whether objects of this kind are made by others.
fn has_owner(kind: &str) -> bool {
    matches!(kind, "ReplicaSet" | "Job")
}

/// The Deployment behind a pod's ReplicaSet, as both are named: `NAME-HASH`, the hash being the pod's
/// label (kubernetes, `pkg/controller/deployment/sync.go`, `getNewReplicaSet`).
fn deployment(pod: &Pod) -> Option<Owner> {
    let owner = pod
        .owner
        .as_ref()
        .filter(|owner| *owner.kind == *"ReplicaSet")?;
    let hash = pod.label("pod-template-hash")?;
    let name = owner.name.strip_suffix(hash)?.strip_suffix('-')?;
    Some(Owner {
        kind: "Deployment".into(),
        name: name.into(),
        uid: Box::default(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a pod that was deleted is still known: spans of it wait and are tried again for less.
const KEPT: Duration = Duration::from_secs(300);
/// Pods that are gone and known.
const MAX_GONE: usize = 1024;
/// Pods of one node: the kubelet's own bound is 110, some raise it to 500; and those that are gone.
const MAX_PODS: usize = 8192;
/// Owners that are known of.
const MAX_OWNERS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const RS: &str = "rs-uid";

    fn pod(uid: &str, name: &str) -> Pod {
        Pod {
            uid: uid.into(),
            namespace: "shop".into(),
            name: name.into(),
            owner: Some(Owner {
                kind: "ReplicaSet".into(),
                name: "cart-6bd65fb88c".into(),
                uid: RS.into(),
            }),
            labels: [("pod-template-hash".into(), "6bd65fb88c".into())].into(),
            addresses: vec!["10.1.0.4".parse().expect("an address")],
            ..Pod::default()
        }
    }

    fn cluster() -> Cluster {
        Cluster::new("node-1", Arc::default())
    }

    fn workload(cluster: &Cluster, uid: &str) -> String {
        let pod = cluster.pod(uid).expect("it is known");
        let owner = pod.workload().expect("it has an owner");
        format!("{} {} {}", owner.kind, owner.name, owner.uid)
    }

    #[test]
    fn a_deployment_is_known_by_names_until_it_is_asked_for() {
        let cluster = cluster();
        let unknown = cluster.put_pod(pod("1", "cart-a"));
        assert_eq!(unknown.map(|owner| owner.uid), Some(RS.into()));
        assert_eq!(workload(&cluster, "1"), "Deployment cart ");
        let deployment = Owner {
            kind: "Deployment".into(),
            name: "cart".into(),
            uid: "d".into(),
        };
        cluster.put_owner(RS, Some(deployment));
        assert_eq!(workload(&cluster, "1"), "Deployment cart d");
        assert_eq!(cluster.put_pod(pod("2", "cart-b")), None);
        assert_eq!(workload(&cluster, "2"), "Deployment cart d");
        // It is nobody's.
        cluster.put_owner(RS, None);
        assert_eq!(workload(&cluster, "2"), "ReplicaSet cart-6bd65fb88c rs-uid");
    }

    #[test]
    fn nothing_changes_but_what_does() {
        let cluster = cluster();
        cluster.put_pod(pod("1", "cart-a"));
        let before = cluster.pod("1").expect("it is known");
        assert_eq!(cluster.changed().len(), 1);
        cluster.put_pod(pod("1", "cart-a"));
        assert!(Arc::ptr_eq(
            &before,
            &cluster.pod("1").expect("it is known")
        ));
        assert!(cluster.changed().is_empty());
        let labels = [("app".into(), "cart".into())].into();
        cluster.put_pod(Pod {
            labels,
            ..pod("1", "cart-a")
        });
        assert!(cluster.changed().contains("1"));
    }

    #[test]
    fn a_pod_that_is_gone_is_known_for_a_while() {
        let cluster = cluster();
        cluster.put_pod(pod("1", "cart-a"));
        cluster.remove_pod("1");
        assert!(cluster.pod("1").is_some());
        for n in 0..MAX_GONE {
            let uid = format!("more-{n}");
            let name = format!("cart-{n}");
            cluster.put_pod(Pod {
                addresses: Vec::new(),
                ..pod(&uid, &name)
            });
            cluster.remove_pod(&uid);
        }
        assert!(cluster.pod("1").is_none() && cluster.pod("more-0").is_some());
        assert!(
            cluster
                .pod_at("10.1.0.4".parse().expect("an address"))
                .is_none()
        );
        // Twice is once.
        cluster.remove_pod("more-1");
        cluster.remove_pod("nobody");
        assert!(cluster.pods().gone.len() <= MAX_GONE);
    }

    #[test]
    fn a_list_tells_who_is_gone() {
        let cluster = cluster();
        assert!(!cluster.is_listed());
        for uid in ["1", "2"] {
            cluster.put_pod(pod(uid, "cart"));
        }
        cluster.list_pods();
        cluster.put_pod(pod("2", "cart"));
        cluster.listed_pods();
        assert!(cluster.is_listed());
        let gone: Vec<_> = cluster
            .pods()
            .gone
            .iter()
            .map(|(uid, _)| uid.clone())
            .collect();
        assert_eq!(gone, ["1".into()]);
        // It was there all the time: only the watch had ended.
        cluster.put_pod(pod("1", "cart"));
        assert!(cluster.pods().gone.is_empty());
    }

    #[test]
    fn a_static_pod_is_known_by_its_hash() {
        let cluster = cluster();
        let hash = "0123456789abcdef0123456789abcdef";
        cluster.put_pod(Pod {
            hash: Some(hash.into()),
            owner: None,
            ..pod("1", "etcd-node-1")
        });
        let found = cluster.pod(hash).expect("by its hash");
        assert!(found.is("1") && found.is(hash) && !found.is("2"));
        assert!(cluster.changed().contains(hash));
        // Its mirror is deleted and made again, and only then the old one is forgotten.
        cluster.put_pod(Pod {
            hash: Some(hash.into()),
            owner: None,
            ..pod("2", "etcd-node-1")
        });
        cluster.remove_pod("1");
        for n in 0..MAX_GONE {
            let uid = format!("more-{n}");
            cluster.put_pod(pod(&uid, "cart"));
            cluster.remove_pod(&uid);
        }
        assert!(cluster.pod("1").is_none());
        assert!(cluster.pod(hash).is_some_and(|pod| pod.is("2")));
    }

    #[test]
    fn an_address_is_whose_it_is_now() {
        let cluster = cluster();
        let address = "10.1.0.4".parse().expect("an address");
        let at = || cluster.pod_at(address).map(|pod| pod.uid.clone());
        cluster.put_pod(pod("1", "cart-a"));
        assert_eq!(at().as_deref(), Some("1"));
        cluster.put_pod(pod("2", "cart-b"));
        cluster.remove_pod("1");
        assert_eq!(at().as_deref(), Some("2"));
        cluster.put_pod(Pod {
            addresses: Vec::new(),
            ..pod("2", "cart-b")
        });
        assert_eq!(at(), None);
    }
}
