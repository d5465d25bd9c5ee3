//! What is kept of a pod: names, owners, containers. Labels are all kept, as selection asks for any of
//! them; of annotations only those that mean something to us or were asked for, since whole manifests
//! lie in others. Everything is cut to a length: the API's objects are other people's text.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// An object that made another, by its `controller` owner reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `ReplicaSet`, `Deployment`, `Job`, …
    pub kind: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its UID; empty where only the name is known.
    pub uid: Box<str>,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: Box<str>,
    /// Its image, as the pod asks for it.
    pub image: Box<str>,
    /// Its id, without the engine's scheme; empty until it has been made.
    pub id: Box<str>,
    /// The id of the one before, which ended.
    pub last: Box<str>,
    /// How often it was started again.
    pub restarts: u32,
}

/// What is kept of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// What its cgroups are named by instead, where it is a static pod: the hash of its configuration.
    pub hash: Option<Box<str>>,
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `status.startTime`, RFC 3339.
    pub started: Option<Box<str>>,
    /// `metadata.labels`.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// Those of `metadata.annotations` that are kept.
    pub annotations: BTreeMap<Box<str>, Box<str>>,
    /// Who made it.
    pub owner: Option<Owner>,
    /// Who made that: the Deployment behind a ReplicaSet, the CronJob behind a Job.
    pub behind: Option<Owner>,
    /// Its containers, with those that only initialise it.
    pub containers: Vec<Container>,
    /// Its addresses; none where it is on the node's network.
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    /// Whether its cgroups are named by this.
    pub fn is(&self, uid: &str) -> bool {
        *self.uid == *uid || self.hash.as_deref() == Some(uid)
    }

    /// The container with this id, or the one that has taken its place.
    pub fn container(&self, id: &str) -> Option<&Container> {
        let mut all = self.containers.iter();
        all.find(|container| *container.id == *id || *container.last == *id)
    }

    /// The container that one of which the API has not told yet must be: the only one that the pod asks for.
    pub fn only_container(&self) -> Option<&Container> {
        match self.containers.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether the container with this id is the one that ended before the present one.
    pub fn is_before(&self, id: &str) -> bool {
        self.containers
            .iter()
            .any(|container| *container.last == *id)
    }

    /// Who made it and who made that, from the outside in: what people call its workload first.
    pub fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.behind.iter().chain(&self.owner)
    }

    /// Its workload: the outermost owner that is known.
    pub fn workload(&self) -> Option<&Owner> {
        self.owners().next()
    }

    /// An annotation that is kept.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(|value| &**value)
    }

    /// A label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(|value| &**value)
    }

    /// What its owner opted for by [`TRACE`]; `None` where it says nothing that is understood.
    pub fn opted(&self) -> Option<bool> {
        match self.annotation(TRACE)? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
}

/// The annotation with which a pod opts in (`true`) or out (`false`).
pub const TRACE: &str = "spantap/trace";
/// Annotations that are resource attributes: what follows is the attribute's name.
pub const RESOURCE: &str = "resource.opentelemetry.io/";
