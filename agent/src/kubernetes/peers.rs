//! Who is behind an address: the Service that has it as its own, or among its endpoints. An endpoint's
//! address counts with its port, as a node's address is that of all pods on its network. Where several
//! Services have the same endpoint, the one with the shortest name is it, and of those the first in the
//! alphabet: the same on every node.
//!
//! Kept for a cluster of 5,000 nodes: an address is 24 bytes in a map and 17 in its slice, and nothing
//! else is kept of an endpoint.

use std::net::IpAddr;
use std::sync::Arc;

use foldhash::HashMap;
use smallvec::SmallVec;

/// A Service, as the peer of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
}

/// A Service, as told.
#[derive(Clone, Debug)]
pub struct Service {
    /// Who it is.
    pub peer: Peer,
    /// Its own addresses; none where it is headless, or gone.
    pub addresses: SmallVec<[IpAddr; 2]>,
}

/// Some endpoints of a Service, as told.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The slice's name.
    pub slice: Box<str>,
    /// The Service.
    pub peer: Peer,
    /// Their addresses; none where the slice is gone.
    pub addresses: Vec<IpAddr>,
    /// Their ports; none where any port is theirs.
    pub ports: SmallVec<[u16; 4]>,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct Peers {
    services: HashMap<Box<str>, Held>,
    own: HashMap<IpAddr, Peer>,
    /// Where a slice is in `slices`.
    places: HashMap<Box<str>, u32>,
    slices: Vec<Option<Slice>>,
    free: Vec<u32>,
    /// The slice that an address is in, or the first of them.
    first: HashMap<IpAddr, u32>,
    /// The others.
    more: HashMap<IpAddr, Vec<u32>>,
}

#[derive(Debug)]
struct Held {
    addresses: SmallVec<[IpAddr; 2]>,
    listed: bool,
}

#[derive(Debug)]
struct Slice {
    peer: Peer,
    ports: SmallVec<[u16; 4]>,
    addresses: Box<[IpAddr]>,
    listed: bool,
}

impl Peers {
    /// Who has this address, or this port of it.
    pub fn of(&self, address: IpAddr, port: u16) -> Option<Peer> {
        let address = address.to_canonical();
        if let Some(peer) = self.own.get(&address) {
            return Some(peer.clone());
        }
        let more = self.more.get(&address).into_iter().flatten();
        let slices = self.first.get(&address).into_iter().chain(more);
        let slices = slices.filter_map(|&place| self.slice(place));
        let theirs = slices.filter(|slice| slice.ports.is_empty() || slice.ports.contains(&port));
        let peers = theirs.map(|slice| &slice.peer);
        let key = |peer: &&Peer| {
            (
                peer.name.len(),
                Arc::clone(&peer.name),
                Arc::clone(&peer.namespace),
            )
        };
        peers.min_by_key(key).cloned()
    }

    /// The Service whose own address this is.
    pub fn service_at(&self, address: IpAddr) -> Option<Peer> {
        self.own.get(&address.to_canonical()).cloned()
    }

    /// The addresses of all who are behind a Service.
    pub fn behind(&self, namespace: &str, service: &str) -> Vec<IpAddr> {
        let all = self.slices.iter().flatten();
        let its = |it: &&Slice| *it.peer.name == *service && *it.peer.namespace == *namespace;
        let all = all.filter(its).flat_map(|slice| &*slice.addresses);
        all.copied().collect()
    }

    /// Takes a Service in, or forgets it; how many were refused for lack of room.
    pub fn put_service(&mut self, service: Service) -> u64 {
        let key = key(&service.peer.namespace, &service.peer.name);
        self.forget_service(&key);
        if service.addresses.is_empty() {
            return 0;
        }
        if self.own.len() >= MAX_SERVICES {
            return 1;
        }
        for &address in &service.addresses {
            self.own.insert(address, service.peer.clone());
        }
        let held = Held {
            addresses: service.addresses,
            listed: true,
        };
        self.services.insert(key, held);
        0
    }

    /// Takes endpoints in, or forgets them; how many were refused for lack of room.
    pub fn put_endpoints(&mut self, endpoints: Endpoints) -> u64 {
        let Endpoints {
            slice,
            peer,
            addresses,
            ports,
        } = endpoints;
        let key = key(&peer.namespace, &slice);
        self.forget_slice(&key);
        let room = MAX_ADDRESSES.saturating_sub(self.first.len());
        let refused = addresses.len().saturating_sub(room);
        let kept = addresses
            .get(..addresses.len().min(room))
            .unwrap_or_default();
        if kept.is_empty() {
            return refused as u64;
        }
        let slice = Slice {
            peer,
            ports,
            addresses: kept.into(),
            listed: true,
        };
        let Some(place) = self.place(slice) else {
            return addresses.len() as u64;
        };
        for &address in kept {
            match self.first.get(&address) {
                None => drop(self.first.insert(address, place)),
                Some(_) => self.more.entry(address).or_default().push(place),
            }
        }
        self.places.insert(key, place);
        refused as u64
    }

    /// A list of Services begins.
    pub fn list_services(&mut self) {
        self.services
            .values_mut()
            .for_each(|held| held.listed = false);
    }

    /// It ended: what was not in it is gone.
    pub fn listed_services(&mut self) {
        let all = self.services.iter().filter(|(_, held)| !held.listed);
        let gone: Vec<_> = all.map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.forget_service(key));
    }

    /// A list of endpoints begins.
    pub fn list_endpoints(&mut self) {
        self.slices
            .iter_mut()
            .flatten()
            .for_each(|slice| slice.listed = false);
    }

    /// It ended: what was not in it is gone.
    pub fn listed_endpoints(&mut self) {
        let is_gone = |place: u32| self.slice(place).is_none_or(|slice| !slice.listed);
        let all = self.places.iter().filter(|&(_, &place)| is_gone(place));
        let gone: Vec<_> = all.map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.forget_slice(key));
    }

    fn forget_service(&mut self, key: &str) {
        let Some(held) = self.services.remove(key) else {
            return;
        };
        for address in held.addresses {
            self.own.remove(&address);
        }
    }

    fn forget_slice(&mut self, key: &str) {
        let Some(place) = self.places.remove(key) else {
            return;
        };
        let slice = usize::try_from(place)
            .ok()
            .and_then(|at| self.slices.get_mut(at)?.take());
        self.free.push(place);
        for address in slice.map(|slice| slice.addresses).unwrap_or_default() {
            self.forget_address(address, place);
        }
    }

    fn forget_address(&mut self, address: IpAddr, place: u32) {
        let others = self.more.get_mut(&address);
        if self.first.get(&address) == Some(&place) {
            match others.and_then(Vec::pop) {
                Some(other) => self.first.insert(address, other),
                None => self.first.remove(&address),
            };
        } else if let Some(others) = others {
            others.retain(|&other| other != place);
        }
        if self.more.get(&address).is_some_and(Vec::is_empty) {
            self.more.remove(&address);
        }
    }

    /// Where a slice is put.
    fn place(&mut self, slice: Slice) -> Option<u32> {
        if let Some(place) = self.free.pop() {
            *self.slices.get_mut(usize::try_from(place).ok()?)? = Some(slice);
            return Some(place);
        }
        let place = u32::try_from(self.slices.len()).ok()?;
        self.slices.push(Some(slice));
        Some(place)
    }

    fn slice(&self, place: u32) -> Option<&Slice> {
        self.slices.get(usize::try_from(place).ok()?)?.as_ref()
    }
}

fn key(namespace: &str, name: &str) -> Box<str> {
    format!("{namespace}/{name}").into()
}

/// Addresses of Services.
const MAX_SERVICES: usize = 65_536;
/// Addresses of endpoints: Kubernetes is made for 150,000 pods.
const MAX_ADDRESSES: usize = 400_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> Peer {
        Peer {
            name: name.into(),
            namespace: "shop".into(),
        }
    }

    fn endpoints(slice: &str, name: &str, addresses: &[&str], ports: &[u16]) -> Endpoints {
        Endpoints {
            slice: slice.into(),
            peer: peer(name),
            addresses: addresses
                .iter()
                .map(|a| a.parse().expect("an address"))
                .collect(),
            ports: ports.into(),
        }
    }

    fn name(peers: &Peers, address: &str, port: u16) -> String {
        let peer = peers.of(address.parse().expect("an address"), port);
        peer.map_or("-".into(), |peer| peer.name.to_string())
    }

    #[test]
    fn services_and_their_endpoints() {
        let mut peers = Peers::default();
        let service = |name: &str, addresses: &[&str]| Service {
            peer: peer(name),
            addresses: addresses
                .iter()
                .map(|a| a.parse().expect("an address"))
                .collect(),
        };
        peers.put_service(service("cart", &["10.96.0.7", "fd00::7"]));
        peers.put_endpoints(endpoints(
            "cart-a",
            "cart",
            &["10.1.0.4", "10.1.0.5"],
            &[8080],
        ));
        peers.put_endpoints(endpoints("web-a", "web", &["10.1.0.5"], &[80]));
        assert_eq!(name(&peers, "10.96.0.7", 1), "cart");
        assert_eq!(name(&peers, "::ffff:10.96.0.7", 1), "cart");
        assert_eq!(name(&peers, "fd00::7", 1), "cart");
        assert_eq!(name(&peers, "10.1.0.4", 8080), "cart");
        assert_eq!(name(&peers, "10.1.0.4", 80), "-");
        assert_eq!(name(&peers, "10.1.0.5", 80), "web");
        assert_eq!(name(&peers, "10.1.0.5", 8080), "cart");
        assert_eq!(name(&peers, "10.1.0.6", 8080), "-");
        let addresses = |name| peers.behind("shop", name);
        assert_eq!((addresses("cart").len(), addresses("web").len()), (2, 1));
        assert_eq!(peers.behind("other", "cart"), [] as [IpAddr; 0]);
        let at = |address: &str| peers.service_at(address.parse().expect("an address"));
        assert_eq!(at("10.96.0.7"), Some(peer("cart")));
        assert_eq!(at("10.1.0.4"), None);
        // It has another address now; and then it is gone.
        peers.put_service(service("cart", &["10.96.0.8"]));
        assert_eq!(name(&peers, "10.96.0.7", 1), "-");
        peers.put_service(service("cart", &[]));
        assert_eq!(name(&peers, "10.96.0.8", 1), "-");
        peers.put_endpoints(endpoints("cart-a", "cart", &[], &[]));
        assert_eq!(name(&peers, "10.1.0.5", 8080), "-");
        assert_eq!(name(&peers, "10.1.0.5", 80), "web");
    }

    #[test]
    fn one_endpoint_of_several_services() {
        let mut peers = Peers::default();
        for service in ["web-headless", "web", "wab"] {
            let all = endpoints(service, service, &["10.1.0.5"], &[]);
            assert_eq!(peers.put_endpoints(all), 0);
        }
        assert_eq!(name(&peers, "10.1.0.5", 80), "wab");
        peers.put_endpoints(endpoints("wab", "wab", &[], &[]));
        assert_eq!(name(&peers, "10.1.0.5", 80), "web");
        peers.put_endpoints(endpoints("web-headless", "web-headless", &[], &[]));
        assert_eq!(name(&peers, "10.1.0.5", 80), "web");
        peers.put_endpoints(endpoints("web", "web", &[], &[]));
        assert_eq!(name(&peers, "10.1.0.5", 80), "-");
        assert!(peers.first.is_empty() && peers.more.is_empty() && peers.places.is_empty());
    }

    #[test]
    fn what_is_in_no_list_any_more_is_gone() {
        let mut peers = Peers::default();
        for (slice, address) in [("a", "10.1.0.1"), ("b", "10.1.0.2")] {
            peers.put_endpoints(endpoints(slice, slice, &[address], &[]));
            peers.put_service(Service {
                peer: peer(slice),
                addresses: [address.replace(".1.", ".96.").parse().expect("an address")]
                    .into_iter()
                    .collect(),
            });
        }
        peers.list_endpoints();
        peers.list_services();
        peers.put_endpoints(endpoints("b", "b", &["10.1.0.2"], &[]));
        peers.listed_endpoints();
        peers.listed_services();
        assert_eq!(name(&peers, "10.1.0.1", 1), "-");
        assert_eq!(name(&peers, "10.1.0.2", 1), "b");
        assert_eq!(name(&peers, "10.96.0.2", 1), "-");
    }
}
