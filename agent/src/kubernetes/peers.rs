//! Who is behind an address: the Service that has it as its own, or among its endpoints. An address counts
//! with its port: a node's is that of all pods on its network, and some load balancers give it to all
//! their Services. Where several Services have the same address and port none of them is it: which one was
//! meant is not to be seen, and anybody may write down another's address.
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

/// What a Service has addresses by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Itself.
    Service,
    /// An EndpointSlice.
    Slice,
}

/// Addresses of a Service, as told.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// By what.
    pub kind: Kind,
    /// The name of that.
    pub name: Box<str>,
    /// The Service.
    pub peer: Peer,
    /// The addresses; none where it is gone.
    pub addresses: Vec<IpAddr>,
    /// Their ports; none where any port is theirs.
    pub ports: SmallVec<[u16; 4]>,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct Peers {
    /// Where it is in `slices`.
    places: HashMap<(Kind, Box<str>), u32>,
    slices: Vec<Option<Slice>>,
    free: Vec<u32>,
    /// The slice that an address is in, or the first of them.
    first: HashMap<IpAddr, u32>,
    /// The others.
    more: HashMap<IpAddr, Vec<u32>>,
    /// Addresses in all slices.
    count: usize,
}

#[derive(Debug)]
struct Slice {
    kind: Kind,
    peer: Peer,
    ports: SmallVec<[u16; 4]>,
    addresses: Box<[IpAddr]>,
    listed: bool,
}

impl Peers {
    /// Who has this port of this address, if it is one.
    pub fn of(&self, address: IpAddr, port: u16) -> Option<Peer> {
        let slices = self.at(address);
        let mut theirs =
            slices.filter(|slice| slice.ports.is_empty() || slice.ports.contains(&port));
        let peer = &theirs.next()?.peer;
        theirs
            .all(|other| other.peer == *peer)
            .then(|| peer.clone())
    }

    /// The Service whose own address this is, if it is one.
    pub fn service_at(&self, address: IpAddr) -> Option<Peer> {
        let mut own = self.at(address).filter(|slice| slice.kind == Kind::Service);
        let peer = &own.next()?.peer;
        own.all(|other| other.peer == *peer).then(|| peer.clone())
    }

    /// The addresses of all who are behind a Service.
    pub fn behind(&self, namespace: &str, service: &str) -> Vec<IpAddr> {
        let all = self.slices.iter().flatten();
        let its = |it: &&Slice| *it.peer.name == *service && *it.peer.namespace == *namespace;
        let all = all.filter(|it| it.kind == Kind::Slice).filter(its);
        all.flat_map(|slice| &*slice.addresses).copied().collect()
    }

    /// Takes addresses in, or forgets them; how many were refused for lack of room.
    pub fn put(&mut self, told: Addresses) -> u64 {
        let Addresses {
            kind,
            name,
            peer,
            addresses,
            ports,
        } = told;
        let key = (kind, key(&peer.namespace, &name));
        self.forget(&key);
        let room = MAX_ADDRESSES.saturating_sub(self.count);
        let refused = addresses.len().saturating_sub(room);
        let kept = addresses
            .get(..addresses.len().min(room))
            .unwrap_or_default();
        if kept.is_empty() {
            return refused as u64;
        }
        let slice = Slice {
            kind,
            peer,
            ports,
            addresses: kept.into(),
            listed: true,
        };
        let Some(place) = self.place(slice) else {
            return addresses.len() as u64;
        };
        self.count += kept.len();
        for &address in kept {
            match self.first.get(&address) {
                None => drop(self.first.insert(address, place)),
                Some(_) => self.more.entry(address).or_default().push(place),
            }
        }
        self.places.insert(key, place);
        refused as u64
    }

    /// A list of them begins.
    pub fn list(&mut self, kind: Kind) {
        let all = self.slices.iter_mut().flatten();
        all.filter(|slice| slice.kind == kind)
            .for_each(|slice| slice.listed = false);
    }

    /// It ended: what was not in it is gone.
    pub fn listed(&mut self, kind: Kind) {
        let is_gone = |place: u32| self.slice(place).is_none_or(|slice| !slice.listed);
        let all = self.places.iter();
        let all = all.filter(|&((of, _), &place)| *of == kind && is_gone(place));
        let gone: Vec<_> = all.map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.forget(key));
    }

    fn at(&self, address: IpAddr) -> impl Iterator<Item = &Slice> {
        let address = address.to_canonical();
        let more = self.more.get(&address).into_iter().flatten();
        let places = self.first.get(&address).into_iter().chain(more);
        places.filter_map(|&place| self.slice(place))
    }

    fn forget(&mut self, key: &(Kind, Box<str>)) {
        let Some(place) = self.places.remove(key) else {
            return;
        };
        let slice = usize::try_from(place)
            .ok()
            .and_then(|at| self.slices.get_mut(at)?.take());
        self.free.push(place);
        for address in slice.map(|slice| slice.addresses).unwrap_or_default() {
            self.count -= 1;
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

/// Addresses of Services and their endpoints: Kubernetes is made for 10,000 and 150,000.
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

    fn told(kind: Kind, by: &str, service: &str, addresses: &[&str], ports: &[u16]) -> Addresses {
        let parsed = addresses.iter().map(|a| a.parse().expect("an address"));
        Addresses {
            kind,
            name: by.into(),
            peer: peer(service),
            addresses: parsed.collect(),
            ports: ports.into(),
        }
    }

    fn endpoints(slice: &str, name: &str, addresses: &[&str], ports: &[u16]) -> Addresses {
        told(Kind::Slice, slice, name, addresses, ports)
    }

    fn service(name: &str, addresses: &[&str], ports: &[u16]) -> Addresses {
        told(Kind::Service, name, name, addresses, ports)
    }

    fn name(peers: &Peers, address: &str, port: u16) -> String {
        let peer = peers.of(address.parse().expect("an address"), port);
        peer.map_or("-".into(), |peer| peer.name.to_string())
    }

    #[test]
    fn services_and_their_endpoints() {
        let mut peers = Peers::default();
        peers.put(service("cart", &["10.96.0.7", "fd00::7"], &[80]));
        peers.put(endpoints(
            "cart-a",
            "cart",
            &["10.1.0.4", "10.1.0.5"],
            &[8080],
        ));
        peers.put(endpoints("web-a", "web", &["10.1.0.5"], &[80]));
        for (address, port, want) in [
            ("10.96.0.7", 80, "cart"),
            ("10.96.0.7", 81, "-"),
            ("::ffff:10.96.0.7", 80, "cart"),
            ("fd00::7", 80, "cart"),
            ("10.1.0.4", 8080, "cart"),
            ("10.1.0.4", 80, "-"),
            ("10.1.0.5", 80, "web"),
            ("10.1.0.5", 8080, "cart"),
            ("10.1.0.6", 8080, "-"),
        ] {
            assert_eq!(name(&peers, address, port), want, "{address} {port}");
        }
        let addresses = |name| peers.behind("shop", name);
        assert_eq!((addresses("cart").len(), addresses("web").len()), (2, 1));
        assert_eq!(peers.behind("other", "cart"), [] as [IpAddr; 0]);
        let at = |address: &str| peers.service_at(address.parse().expect("an address"));
        assert_eq!(at("10.96.0.7"), Some(peer("cart")));
        assert_eq!(at("10.1.0.4"), None);
        // It has another address now; and then it is gone.
        peers.put(service("cart", &["10.96.0.8"], &[80]));
        assert_eq!(name(&peers, "10.96.0.7", 80), "-");
        peers.put(service("cart", &[], &[]));
        assert_eq!(name(&peers, "10.96.0.8", 80), "-");
        peers.put(endpoints("cart-a", "cart", &[], &[]));
        assert_eq!(name(&peers, "10.1.0.5", 8080), "-");
        assert_eq!(name(&peers, "10.1.0.5", 80), "web");
    }

    #[test]
    fn what_several_services_have_is_nobodys() {
        let mut peers = Peers::default();
        for of in ["db-rw", "db-r", "db-ro"] {
            assert_eq!(peers.put(endpoints(of, of, &["10.1.0.5"], &[5432])), 0);
        }
        assert_eq!(name(&peers, "10.1.0.5", 5432), "-");
        for of in ["db-r", "db-ro"] {
            peers.put(endpoints(of, of, &[], &[]));
        }
        assert_eq!(name(&peers, "10.1.0.5", 5432), "db-rw");
        // A node's address, which a load balancer gives to all; and one that takes another's.
        peers.put(service("traefik", &["192.168.0.1"], &[80, 443]));
        peers.put(service("mail", &["192.168.0.1"], &[25]));
        assert_eq!(name(&peers, "192.168.0.1", 443), "traefik");
        assert_eq!(name(&peers, "192.168.0.1", 25), "mail");
        assert_eq!(name(&peers, "192.168.0.1", 10250), "-");
        peers.put(service("thief", &["192.168.0.1"], &[443]));
        assert_eq!(name(&peers, "192.168.0.1", 443), "-");
        for of in ["traefik", "mail", "thief"] {
            peers.put(service(of, &[], &[]));
        }
        peers.put(endpoints("db-rw", "db-rw", &[], &[]));
        assert!(peers.first.is_empty() && peers.more.is_empty() && peers.places.is_empty());
        assert_eq!(peers.count, 0);
    }

    #[test]
    fn what_is_in_no_list_any_more_is_gone() {
        let mut peers = Peers::default();
        for (of, address) in [("a", "10.1.0.1"), ("b", "10.1.0.2")] {
            peers.put(endpoints(of, of, &[address], &[]));
            peers.put(service(of, &[&address.replace(".1.", ".96.")], &[]));
        }
        peers.list(Kind::Slice);
        peers.put(endpoints("b", "b", &["10.1.0.2"], &[]));
        peers.listed(Kind::Slice);
        assert_eq!(name(&peers, "10.1.0.1", 1), "-");
        assert_eq!(name(&peers, "10.1.0.2", 1), "b");
        assert_eq!(name(&peers, "10.96.0.2", 1), "b");
        peers.list(Kind::Service);
        // Another has its address now.
        peers.put(service("c", &["10.96.0.2"], &[]));
        peers.listed(Kind::Service);
        assert_eq!(name(&peers, "10.96.0.2", 1), "c");
    }
}
