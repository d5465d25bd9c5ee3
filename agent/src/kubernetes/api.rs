//! Objects as the API sends them, with the fields that are looked at and no others: the crate's own types
//! keep all of them, most of which nobody asks for. Fields are named as in the API
//! (kubernetes, `staging/src/k8s.io/api/core/v1/types.go`, `discovery/v1/types.go`).

use std::borrow::Cow;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Deserializer};
use smallvec::SmallVec;

use super::cluster::Node;
use super::peers::{Addresses, Kind, Peer};
use super::pod::{Container, Owner, Pod, RESOURCE, TRACE};

/// `null` is written for what is empty, here and there: it is no reason to refuse all of a list.
fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

macro_rules! objects {
    ($($(#[doc = $doc:literal])+ $name:ident { $($field:ident: $type:ty,)* } = $kind:literal in $group:literal as $plural:literal of $scope:ty;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name {
            metadata: ObjectMeta,
            $(#[serde(deserialize_with = "nullable")] $field: $type,)*
        }

        impl Resource for $name {
            type DynamicType = ();
            type Scope = $scope;

            fn kind(&(): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group(&(): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version(&(): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural(&(): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )+};
}

objects! {
    /// A pod.
    PodObject { spec: PodSpec, status: PodStatus, } = "Pod" in "" as "pods" of NamespaceResourceScope;
    /// A Service.
    ServiceObject { spec: ServiceSpec, status: ServiceStatus, } = "Service" in "" as "services" of NamespaceResourceScope;
    /// Endpoints of a Service, at most some 100 of them.
    SliceObject { endpoints: Vec<Endpoint>, ports: Vec<Port>, } = "EndpointSlice" in "discovery.k8s.io" as "endpointslices" of NamespaceResourceScope;
    /// A node.
    NodeObject {} = "Node" in "" as "nodes" of ClusterResourceScope;
    /// A namespace.
    NamespaceObject {} = "Namespace" in "" as "namespaces" of ClusterResourceScope;
    /// What makes pods for a Deployment.
    ReplicaSetObject {} = "ReplicaSet" in "apps" as "replicasets" of NamespaceResourceScope;
    /// What makes pods that end.
    JobObject {} = "Job" in "batch" as "jobs" of NamespaceResourceScope;
}

/// `spec` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    #[serde(deserialize_with = "nullable")]
    host_network: bool,
    #[serde(deserialize_with = "nullable")]
    containers: Vec<Asked>,
    #[serde(deserialize_with = "nullable")]
    init_containers: Vec<Asked>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_containers: Vec<Asked>,
}

/// A container as the pod asks for it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    image: String,
}

/// `status` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    #[serde(deserialize_with = "nullable")]
    phase: String,
    start_time: Option<String>,
    #[serde(rename = "podIPs")]
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<Address>,
    #[serde(deserialize_with = "nullable")]
    container_statuses: Vec<Made>,
    #[serde(deserialize_with = "nullable")]
    init_container_statuses: Vec<Made>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_container_statuses: Vec<Made>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    #[serde(deserialize_with = "nullable")]
    ip: String,
}

/// A container as it was made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Made {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(rename = "containerID")]
    id: Option<String>,
    #[serde(deserialize_with = "nullable")]
    restart_count: u32,
    #[serde(deserialize_with = "nullable")]
    last_state: State,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Terminated {
    #[serde(rename = "containerID")]
    id: Option<String>,
}

/// `spec` of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    #[serde(deserialize_with = "nullable")]
    ports: Vec<Port>,
    #[serde(rename = "clusterIPs")]
    #[serde(deserialize_with = "nullable")]
    cluster: Vec<String>,
    #[serde(rename = "externalIPs")]
    #[serde(deserialize_with = "nullable")]
    external: Vec<String>,
}

/// `status` of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    #[serde(deserialize_with = "nullable")]
    load_balancer: LoadBalancer,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "nullable")]
    ingress: Vec<Ingress>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Ingress {
    ip: Option<String>,
}

/// One of `endpoints` of a slice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<String>,
}

/// One of `ports` of a slice; none is all of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    port: Option<i64>,
}

impl PodObject {
    /// What is kept of it; `keeps` tells which annotations are, besides those that mean something to us.
    pub fn into_pod(self, keeps: &dyn Fn(&str) -> bool) -> Option<Pod> {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        let owner = owner(&metadata);
        let annotations = metadata.annotations.unwrap_or_default();
        let hash = annotations.get(CONFIG_HASH).map(|hash| short(hash));
        let wanted = |key: &str| key == TRACE || key.starts_with(RESOURCE) || keeps(key);
        let kept = annotations.iter().filter(|(key, _)| wanted(key));
        let labels = metadata.labels.unwrap_or_default();
        let texts = |(key, value): (&String, &String)| (short(key), short(value));
        // Its addresses may be another's by now.
        let ended = matches!(&*status.phase, "Succeeded" | "Failed");
        let addresses = status
            .addresses
            .iter()
            .filter(|_| !spec.host_network && !ended);
        Some(Pod {
            uid: short(&metadata.uid?),
            hash,
            namespace: short(&metadata.namespace?),
            name: short(&metadata.name?),
            started: status.start_time.as_deref().map(short),
            labels: labels.iter().take(MAX_TEXTS).map(texts).collect(),
            annotations: kept.take(MAX_TEXTS).map(texts).collect(),
            owner,
            behind: None,
            addresses: addresses.filter_map(|address| parse(&address.ip)).collect(),
            containers: containers(&spec, &status),
        })
    }
}

fn containers(spec: &PodSpec, status: &PodStatus) -> Vec<Container> {
    let asked = [
        &spec.containers,
        &spec.init_containers,
        &spec.ephemeral_containers,
    ];
    let made = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let all = asked.into_iter().flatten().take(MAX_CONTAINERS);
    let made = |name: &str| made.into_iter().flatten().find(|made| made.name == name);
    all.map(|asked| {
        let made = made(&asked.name);
        let last = made.and_then(|made| made.last_state.terminated.as_ref()?.id.as_deref());
        Container {
            name: short(&asked.name),
            image: short(&asked.image),
            id: made
                .and_then(|made| made.id.as_deref())
                .map(id)
                .unwrap_or_default(),
            last: last.map(id).unwrap_or_default(),
            restarts: made.map_or(0, |made| made.restart_count),
        }
    })
    .collect()
}

/// `containerd://ID`, without the engine.
fn id(text: &str) -> Box<str> {
    short(text.split_once("://").map_or(text, |(_, id)| id))
}

impl ServiceObject {
    /// What is kept of it; of one that is gone no address is.
    pub fn into_addresses(self, gone: bool) -> Option<Addresses> {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        let name = metadata.name.as_deref()?;
        let ingress = status
            .load_balancer
            .ingress
            .iter()
            .filter_map(|ingress| ingress.ip.as_ref());
        let all = spec.cluster.iter().chain(&spec.external).chain(ingress);
        let mut addresses: Vec<_> = all.filter_map(|address| parse(address)).collect();
        addresses.truncate(if gone { 0 } else { MAX_OWN });
        addresses.sort_unstable();
        addresses.dedup();
        Some(Addresses {
            kind: Kind::Service,
            name: short(name),
            peer: peer(&metadata, name)?,
            addresses,
            ports: ports(&spec.ports),
        })
    }
}

impl SliceObject {
    /// What is kept of it; of one that is gone no address is. `None` where it is no Service's.
    pub fn into_addresses(self, gone: bool) -> Option<Addresses> {
        let service = self.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
        let all = self
            .endpoints
            .iter()
            .flat_map(|endpoint| &endpoint.addresses);
        let addresses = all.filter_map(|address| parse(address));
        Some(Addresses {
            kind: Kind::Slice,
            name: short(self.metadata.name.as_deref()?),
            peer: peer(&self.metadata, service)?,
            addresses: addresses
                .take(if gone { 0 } else { MAX_ENDPOINTS })
                .collect(),
            ports: ports(&self.ports),
        })
    }
}

/// None where one of them is any. One that is no port (the API does not look) is nobody's.
fn ports(all: &[Port]) -> SmallVec<[u16; 4]> {
    let any = all.iter().any(|port| port.port.is_none());
    let known = all.iter().filter_map(|port| u16::try_from(port.port?).ok());
    known.take(if any { 0 } else { MAX_PORTS }).collect()
}

impl NodeObject {
    /// Adds what it tells of the node.
    pub fn tell(&self, node: &mut Node) {
        let labels = self.metadata.labels.as_ref();
        let label = |key: &str| {
            labels
                .and_then(|labels| labels.get(key))
                .map(|value| short(value))
        };
        node.uid = self.metadata.uid.as_deref().map(short).unwrap_or_default();
        node.region = label("topology.kubernetes.io/region");
        node.zone = label("topology.kubernetes.io/zone");
    }
}

/// Who made an object: the owner that controls it.
pub fn owner(metadata: &ObjectMeta) -> Option<Owner> {
    let mut owners = metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    // It is asked for by its name, which the API takes as it is.
    let named = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    if owner.name.starts_with('.') || !owner.name.bytes().all(named) {
        return None;
    }
    // Others have a Job, too: theirs is `Job.GROUP`, as kubectl has it.
    let group = owner
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group);
    let kind = match group {
        "" | "apps" | "batch" => short(&owner.kind),
        group => short(&format!("{}.{group}", owner.kind)),
    };
    Some(Owner {
        kind,
        name: short(&owner.name),
        uid: short(&owner.uid),
    })
}

fn peer(metadata: &ObjectMeta, name: &str) -> Option<Peer> {
    Some(Peer {
        name: (&*short(name)).into(),
        namespace: (&*short(metadata.namespace.as_deref()?)).into(),
    })
}

/// `None` is no address: of a headless Service.
fn parse(address: &str) -> Option<IpAddr> {
    address
        .parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

fn short(text: &str) -> Box<str> {
    let mut end = text.len().min(TEXT_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}

/// On mirror pods: what the kubelet names their cgroups by (`pkg/kubelet/types/pod_update.go`,
/// `ConfigHashAnnotationKey`).
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// On slices: whose they are (`discovery/v1/well_known_labels.go`).
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
const TEXT_LIMIT: usize = 1024;
/// Labels, and annotations, that are kept.
const MAX_TEXTS: usize = 128;
const MAX_CONTAINERS: usize = 128;
const MAX_OWN: usize = 16;
/// The API's own bound is 1,000 in a slice, and 20,000 ports; nobody has more than a handful.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(text: &str) -> T {
        serde_json::from_str(text).expect("an object")
    }

    #[test]
    fn what_is_kept_of_a_pod() {
        let pod: PodObject = read(
            r#"{"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "cart-x", "namespace": "shop", "uid": "u", "labels": {"app": "cart"},
                "annotations": {"spantap/trace": "false", "resource.opentelemetry.io/a": "b", "kept": "1",
                    "kubectl.kubernetes.io/last-applied-configuration": "{}"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "x"},
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-1", "uid": "r", "controller": true}]},
            "spec": {"containers": [{"name": "app", "image": "cart:1", "env": []}], "initContainers": null, "volumes": []},
            "status": {"startTime": "2026-11-23T10:00:00Z", "podIPs": [{"ip": "10.1.0.4"}, {"ip": "fd00::4"}],
                "containerStatuses": [{"name": "app", "containerID": "containerd://now", "restartCount": 1,
                    "lastState": {"terminated": {"containerID": "containerd://before", "exitCode": 1}}}]}}"#,
        );
        let pod = pod.into_pod(&|key| key == "kept").expect("a whole one");
        assert_eq!(
            (&*pod.name, pod.addresses.len(), pod.opted()),
            ("cart-x", 2, Some(false))
        );
        assert_eq!(pod.owner.as_ref().map(|owner| &*owner.name), Some("cart-1"));
        let kept: Vec<_> = pod.annotations.keys().map(|key| &**key).collect();
        assert_eq!(
            kept,
            ["kept", "resource.opentelemetry.io/a", "spantap/trace"]
        );
        let container = pod.container("now").expect("it is there");
        assert_eq!(
            (&*container.name, &*container.image, container.restarts),
            ("app", "cart:1", 1)
        );
        assert!(
            pod.container("before").is_some() && pod.is_before("before") && !pod.is_before("now")
        );
        let bare = read::<PodObject>(r#"{"metadata": {}, "spec": null, "status": null}"#);
        assert!(bare.into_pod(&|_| true).is_none());
    }

    #[test]
    fn a_pod_on_the_node_s_network_has_no_address_of_its_own() {
        let pod: PodObject = read(
            r#"{"metadata": {"name": "n", "namespace": "s", "uid": "u"}, "spec": {"hostNetwork": true, "containers": []},
            "status": {"podIPs": [{"ip": "10.0.0.1"}]}}"#,
        );
        assert!(
            pod.into_pod(&|_| false)
                .expect("a whole one")
                .addresses
                .is_empty()
        );
    }

    #[test]
    fn owners_that_are_not_what_they_seem() {
        let kind_of = |version: &str, kind: &str, name: &str| {
            let pod: PodObject = read(&format!(
                r#"{{"metadata": {{"ownerReferences": [{{"apiVersion": "{version}", "kind": "{kind}", "name": "{name}",
                "uid": "x", "controller": true}}]}}}}"#
            ));
            owner(pod.meta()).map(|owner| owner.kind)
        };
        assert_eq!(
            kind_of("batch/v1", "Job", "report-1").as_deref(),
            Some("Job")
        );
        assert_eq!(kind_of("v1", "Node", "n1").as_deref(), Some("Node"));
        let other = kind_of("batch.volcano.sh/v1alpha1", "Job", "report-1");
        assert_eq!(other.as_deref(), Some("Job.batch.volcano.sh"));
        for name in ["a b", "a?watch=true", "../../secrets/x", ".."] {
            assert_eq!(kind_of("batch/v1", "Job", name), None, "{name}");
        }
    }

    #[test]
    fn the_address_of_a_pod_that_ended_is_free() {
        for (phase, count) in [("Running", 1), ("Succeeded", 0), ("Failed", 0)] {
            let pod: PodObject = read(&format!(
                r#"{{"metadata": {{"name": "n", "namespace": "s", "uid": "u"}},
                "status": {{"phase": "{phase}", "podIPs": [{{"ip": "10.0.0.1"}}]}}}}"#
            ));
            let pod = pod.into_pod(&|_| false).expect("a whole one");
            assert_eq!(pod.addresses.len(), count, "{phase}");
        }
    }

    #[test]
    fn services_and_slices() {
        let service = r#"{"metadata": {"name": "cart", "namespace": "shop"}, "spec": {"clusterIPs": ["10.96.0.7", "None"],
            "externalIPs": ["1.2.3.4"]}, "status": {"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}, {"hostname": "h"}]}}}"#;
        let kept = read::<ServiceObject>(service)
            .into_addresses(false)
            .expect("a whole one");
        assert_eq!(kept.addresses.len(), 3);
        let gone = read::<ServiceObject>(service)
            .into_addresses(true)
            .expect("a whole one");
        assert!(gone.addresses.is_empty());
        let slice = |rest: &str| {
            let meta = r#""metadata": {"name": "cart-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "cart"}}"#;
            let slice: SliceObject = read(&format!("{{{meta}, {rest}}}"));
            slice.into_addresses(false).expect("a Service's")
        };
        let kept = slice(
            r#""endpoints": [{"addresses": ["10.1.0.4"]}, {"addresses": null}], "ports": [{"port": 8080}]"#,
        );
        assert_eq!((kept.addresses.len(), &kept.ports[..]), (1, &[8080][..]));
        assert_eq!(&*kept.peer.name, "cart");
        let any = slice(r#""endpoints": null, "ports": [{"port": 80}, {"port": null}]"#);
        assert!(any.addresses.is_empty() && any.ports.is_empty());
    }
}
