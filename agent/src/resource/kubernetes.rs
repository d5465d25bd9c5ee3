//! What a process in a pod gets from Kubernetes: `k8s.*`, `container.*`, and who the service is, by the
//! rules of OpenTelemetry for Kubernetes
//! (<https://opentelemetry.io/docs/specs/semconv/non-normative/k8s-attributes/>): an annotation
//! `resource.opentelemetry.io/…`, where asked for a well-known label, then the name of whatever made
//! the pod, from the outside in.

use std::net::IpAddr;

use super::attributes::Set;
use crate::config;
use crate::event::Address;
use crate::kubernetes::{Cluster, Container, Node, Pod, RESOURCE};
use crate::protocol::{Attribute, Value};
use crate::span::{Span, semconv};
use crate::target::glob::Glob;

/// What is told of pods.
#[derive(Debug)]
pub struct Telling {
    labels: Vec<Glob>,
    annotations: Vec<Glob>,
    service_labels: bool,
}

impl Telling {
    /// As configured.
    pub fn new(config: &config::Kubernetes) -> Self {
        let globs = |texts: &[String]| texts.iter().map(|text| Glob::new(text)).collect();
        Self {
            labels: globs(&config.labels),
            annotations: globs(&config.annotations),
            service_labels: config.service_labels,
        }
    }

    fn label<'a>(&self, pod: &'a Pod, key: &str) -> Option<&'a str> {
        pod.label(key).filter(|_| self.service_labels)
    }

    /// Whether an annotation of this name is told.
    pub fn tells(&self, annotation: &str) -> bool {
        any(&self.annotations, annotation)
    }
}

/// A process's place in the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its pod.
    pub pod: &'a Pod,
    /// Its container's id.
    pub container: Option<&'a str>,
    /// What the container's engine calls it.
    pub named: Option<&'a str>,
    /// Its node.
    pub node: &'a Node,
}

impl Place<'_> {
    /// Its container: by its id or, until the API has told of that, by its name, or for want of others.
    fn container(&self) -> Option<&Container> {
        let pod = self.pod;
        let by_name = |name: &str| {
            pod.containers
                .iter()
                .find(|container| *container.name == *name)
        };
        let by_id = self.container.and_then(|id| pod.container(id));
        by_id
            .or_else(|| by_name(self.named?))
            .or_else(|| pod.only_container())
    }

    /// How often it was started again, where that is known.
    fn restarts(&self) -> Option<i64> {
        let id = self.container?;
        let restarts = i64::from(self.pod.container(id)?.restarts);
        Some((restarts - i64::from(self.pod.is_before(id))).max(0))
    }
}

/// Who the service is, as far as Kubernetes tells.
pub(super) fn service(set: &mut Set, place: &Place<'_>, telling: &Telling) {
    let pod = place.pod;
    for (key, value) in &pod.annotations {
        let name = key.strip_prefix(RESOURCE).filter(|name| !name.is_empty());
        // What is measured is not its to say.
        let measured = |name: &&str| MEASURED.iter().any(|of| name.starts_with(of));
        if let Some(name) = name.filter(|name| !measured(name)) {
            set.owned(name.to_owned(), (**value).into());
        }
    }
    set.text("service.name", name(pod, telling));
    set.text("service.namespace", &*pod.namespace);
    if let Some(version) = telling.label(pod, "app.kubernetes.io/version") {
        set.text("service.version", version);
    }
    if let Some(container) = place.container() {
        let image = Image::of(&container.image);
        let version = match (image.tag, image.digest) {
            (Some(tag), Some(digest)) => Some(format!("{tag}@{digest}")),
            (tag, digest) => tag.or(digest).map(str::to_owned),
        };
        if let Some(version) = version {
            set.text("service.version", version);
        }
        let instance = [&*pod.namespace, &*pod.name, &*container.name].join(".");
        set.text("service.instance.id", instance);
    }
}

/// What a pod's service is called, but for an annotation.
fn name<'a>(pod: &'a Pod, telling: &Telling) -> &'a str {
    let label = |key| telling.label(pod, key);
    // A static pod's owner is its node.
    let owner = pod.workload().filter(|owner| *owner.kind != *"Node");
    label("app.kubernetes.io/instance")
        .or_else(|| label("app.kubernetes.io/name"))
        .or(owner.map(|owner| &*owner.name))
        .unwrap_or(&pod.name)
}

/// Names whom a client's span calls, at `remote`: the Service, else the pod of this node, else the host that
/// was asked by a name.
pub fn name_peer(span: &mut Span, remote: &Address, cluster: &Cluster, telling: &Telling) {
    if span.kind.is_inbound() {
        return;
    }
    let named = match remote {
        Address::Inet(remote) if !remote.ip().is_loopback() => {
            let service = cluster.peer(remote.ip(), remote.port());
            let service =
                service.map(|peer| (peer.name.to_string(), Some(peer.namespace.to_string())));
            service.or_else(|| {
                let pod = cluster.pod_at(remote.ip())?;
                let annotated = pod.annotation(SERVICE_NAME);
                let name = annotated.unwrap_or(name(&pod, telling));
                Some((name.to_owned(), Some(pod.namespace.to_string())))
            })
        }
        _ => None,
    };
    let host = || {
        let host = span
            .attributes
            .iter()
            .find(|it| it.key == semconv::SERVER_ADDRESS)?;
        let Value::Str(host) = &host.value else {
            return None;
        };
        let outside = is_external(host) && is_public(remote);
        outside.then(|| (host.to_string(), None))
    };
    let Some((name, namespace)) = named.or_else(host) else {
        return;
    };
    let mut put = |key: &'static str, value: String| {
        span.attributes.push(Attribute {
            key: key.into(),
            value: Value::Str(value.into()),
        });
    };
    put(semconv::SERVICE_PEER_NAME, name);
    if let Some(namespace) = namespace {
        put(semconv::SERVICE_PEER_NAMESPACE, namespace);
    }
}

/// Whether an address is one of the Internet's: what is asked for by `cart.shop` may be a Service.
fn is_public(remote: &Address) -> bool {
    let Address::Inet(remote) = remote else {
        return false;
    };
    match remote.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared)
        }
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

/// Whether a host's name is of the world outside the cluster, whose own names end in `.svc` and its domain or
/// are searched for in both.
fn is_external(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let inside = [".svc", ".local", ".internal"]
        .iter()
        .any(|end| host.ends_with(end));
    host.contains('.') && !host.contains(".svc.") && !inside && host.parse::<IpAddr>().is_err()
}

/// Its container, its pod, what made that, its node.
pub(super) fn place(set: &mut Set, place: &Place<'_>, telling: &Telling) {
    let Place { pod, node, .. } = place;
    if let Some(id) = place.container {
        set.text("container.id", id);
    }
    if let Some(container) = place.container() {
        let image = Image::of(&container.image);
        set.text("k8s.container.name", &*container.name);
        if let Some(restarts) = place.restarts() {
            set.int("k8s.container.restart_count", restarts);
        }
        set.text("container.image.name", image.name);
        set.list(
            "container.image.tags",
            image.tag.map(str::to_owned).into_iter().collect(),
        );
    }
    set.text("k8s.pod.name", &*pod.name);
    set.text("k8s.pod.uid", &*pod.uid);
    set.text("k8s.namespace.name", &*pod.namespace);
    if let Some(started) = &pod.started {
        set.text("k8s.pod.start_time", &**started);
    }
    for owner in pod.owners() {
        if let Some((name, uid)) = keys(&owner.kind) {
            set.text(name, &*owner.name);
            set.text(uid, &*owner.uid);
        }
    }
    set.text("k8s.node.name", &*node.name);
    set.text("k8s.node.uid", &*node.uid);
    for (key, value) in [
        ("k8s.cluster.uid", &node.cluster),
        ("cloud.region", &node.region),
        ("cloud.availability_zone", &node.zone),
    ] {
        if let Some(value) = value {
            set.text(key, &**value);
        }
    }
    for (what, texts, globs) in [
        ("label", &pod.labels, &telling.labels),
        ("annotation", &pod.annotations, &telling.annotations),
    ] {
        for (key, value) in texts.iter().filter(|(key, _)| any(globs, key)) {
            set.owned(format!("k8s.pod.{what}.{key}"), (**value).into());
        }
    }
}

/// Attributes of the name and the UID of what makes pods.
fn keys(kind: &str) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        "Deployment" => ("k8s.deployment.name", "k8s.deployment.uid"),
        "ReplicaSet" => ("k8s.replicaset.name", "k8s.replicaset.uid"),
        "StatefulSet" => ("k8s.statefulset.name", "k8s.statefulset.uid"),
        "DaemonSet" => ("k8s.daemonset.name", "k8s.daemonset.uid"),
        "Job" => ("k8s.job.name", "k8s.job.uid"),
        "CronJob" => ("k8s.cronjob.name", "k8s.cronjob.uid"),
        "ReplicationController" => (
            "k8s.replicationcontroller.name",
            "k8s.replicationcontroller.uid",
        ),
        _ => return None,
    })
}

fn any(globs: &[Glob], text: &str) -> bool {
    globs.iter().any(|glob| glob.matches(text))
}

/// A reference to an image: `registry:5000/shop/cart:1.4@sha256:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Image<'a> {
    name: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Image<'a> {
    fn of(reference: &'a str) -> Self {
        let (named, digest) = match reference.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (reference, None),
        };
        // A port of the registry is not a tag.
        let (name, tag) = match named.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (named, None),
        };
        Self { name, tag, digest }
    }
}

/// Beginnings of the names of attributes that no annotation changes.
const MEASURED: [&str; 7] = [
    "container.",
    "host.",
    "k8s.",
    "os.",
    "process.",
    "spantap.",
    "telemetry.",
];
const SERVICE_NAME: &str = "resource.opentelemetry.io/service.name";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_world_outside() {
        for host in ["api.example.com", "example.com."] {
            assert!(is_external(host), "{host}");
        }
        for host in [
            "cart",
            "cart.shop.svc",
            "cart.shop.svc.cluster.local",
            "10.0.0.1",
            "::1",
            "localhost",
        ] {
            assert!(!is_external(host), "{host}");
        }
    }

    #[test]
    fn addresses_of_the_world_outside() {
        let public =
            |address: &str| is_public(&Address::Inet(address.parse().expect("an address")));
        for address in ["8.8.8.8:443", "[2606:4700::1]:443"] {
            assert!(public(address), "{address}");
        }
        for address in [
            "10.0.0.1:80",
            "100.64.0.1:80",
            "127.0.0.1:80",
            "169.254.0.1:80",
            "[fd00::1]:80",
            "[::1]:80",
        ] {
            assert!(!public(address), "{address}");
        }
    }

    #[test]
    fn references_to_images() {
        let check = |reference, name, tag, digest| {
            assert_eq!(Image::of(reference), Image { name, tag, digest });
        };
        check("nginx", "nginx", None, None);
        check("nginx:1.27", "nginx", Some("1.27"), None);
        check("reg:5000/shop/cart", "reg:5000/shop/cart", None, None);
        check(
            "reg:5000/cart:2@sha256:ab",
            "reg:5000/cart",
            Some("2"),
            Some("sha256:ab"),
        );
        check("cart@sha256:ab", "cart", None, Some("sha256:ab"));
        check("", "", None, None);
    }
}
