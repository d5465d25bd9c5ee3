//! What the configuration says of pods, compiled, and what it comes to for one of them.
//!
//! Kubernetes tells of a pod a moment before its first process starts, or a moment after: a process in a
//! pod that is not known yet is let in, as its first bytes would be missed otherwise, and judged again
//! when it is known; who reads its spans asks once more ([`Known::In`], settled).

use crate::config::Selection;
use crate::config::{labels, workload};
use crate::kubernetes::{Owner, Pod};

use super::glob::Glob;
use super::selection::Reason;

/// What is known of a process's pod.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// It is in none.
    Nowhere,
    /// It is in one.
    In {
        /// What Kubernetes tells of it, if it does.
        pod: Option<&'a Pod>,
        /// Whether what is not known is not waited for any more.
        settled: bool,
    },
}

impl<'a> Known<'a> {
    /// The pod, where it is known.
    pub fn pod(self) -> Option<&'a Pod> {
        match self {
            Self::Nowhere => None,
            Self::In { pod, .. } => pod,
        }
    }

    /// Whether more may become known.
    pub fn may_come(self) -> bool {
        matches!(self, Self::In { settled: false, .. })
    }
}

/// What is said of pods.
#[derive(Clone, Debug)]
pub struct Pods {
    chosen: Lists,
    excluded: Lists,
    annotated_only: bool,
    pods_only: bool,
}

/// Lists of which an entry may match.
#[derive(Clone, Debug)]
struct Lists {
    namespaces: Vec<Glob>,
    pods: Vec<Glob>,
    labels: Vec<Vec<Label>>,
    workloads: Vec<Workload>,
}

#[derive(Clone, Debug)]
struct Label {
    key: String,
    value: Option<Glob>,
}

#[derive(Clone, Debug)]
struct Workload {
    kind: Option<Glob>,
    name: Glob,
}

impl Pods {
    /// Compiles what `selection` says of pods.
    pub fn new(selection: &Selection) -> Self {
        let asked_for = |text: &&String| selection.namespaces.contains(text);
        let excluded = selection.exclude_namespaces.iter();
        let excluded = excluded.filter(|text| !asked_for(text));
        Self {
            chosen: Lists {
                namespaces: globs(&selection.namespaces),
                pods: globs(&selection.pods),
                labels: all_labels(&selection.pod_labels),
                workloads: workloads(&selection.workloads),
            },
            excluded: Lists {
                namespaces: globs(excluded),
                pods: globs(&selection.exclude_pods),
                labels: all_labels(&selection.exclude_pod_labels),
                workloads: workloads(&selection.exclude_workloads),
            },
            annotated_only: selection.annotated_only,
            pods_only: selection.pods_only,
        }
    }

    /// Whether only some pods are traced, and nothing that is in none.
    pub fn asks(&self) -> bool {
        self.annotated_only || self.pods_only || self.asks_which()
    }

    /// Why a process in that pod is not traced.
    pub fn refusal(&self, pod: Known<'_>) -> Option<Reason> {
        match pod {
            Known::Nowhere => self.asks().then_some(Reason::NoPod),
            Known::In { pod: Some(pod), .. } => self.refusal_of(pod),
            Known::In {
                pod: None,
                settled: true,
            } => (self.annotated_only || self.asks_which()).then_some(Reason::UnknownPod),
            Known::In {
                pod: None,
                settled: false,
            } => None,
        }
    }

    fn asks_which(&self) -> bool {
        let Lists {
            namespaces,
            pods,
            labels,
            workloads,
        } = &self.chosen;
        self.annotated_only
            || !namespaces.is_empty()
            || !pods.is_empty()
            || !labels.is_empty()
            || !workloads.is_empty()
    }

    fn refusal_of(&self, pod: &Pod) -> Option<Reason> {
        match pod.opted() {
            Some(true) => return None,
            Some(false) => return Some(Reason::OptedOut),
            None if self.annotated_only => return Some(Reason::NotOptedIn),
            None => {}
        }
        let Lists {
            namespaces,
            pods,
            labels,
            workloads,
        } = &self.chosen;
        if !namespaces.is_empty() && !any(namespaces, &pod.namespace) {
            return Some(Reason::Namespace);
        }
        if !pods.is_empty() && !any(pods, &pod.name) {
            return Some(Reason::Pod);
        }
        if !labels.is_empty() && !has_labels(labels, pod) {
            return Some(Reason::Label);
        }
        if !workloads.is_empty() && !is_of(workloads, pod) {
            return Some(Reason::Workload);
        }
        let Lists {
            namespaces,
            pods,
            labels,
            workloads,
        } = &self.excluded;
        if any(namespaces, &pod.namespace) {
            return Some(Reason::ExcludedNamespace);
        }
        if any(pods, &pod.name) {
            return Some(Reason::ExcludedPod);
        }
        if has_labels(labels, pod) {
            return Some(Reason::ExcludedLabel);
        }
        is_of(workloads, pod).then_some(Reason::ExcludedWorkload)
    }
}

fn globs<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<Glob> {
    texts.into_iter().map(|text| Glob::new(text)).collect()
}

fn all_labels(texts: &[String]) -> Vec<Vec<Label>> {
    let entry = |text: &String| {
        let parts = labels(text).map(|(key, value)| Label {
            key: key.to_owned(),
            value: value.map(Glob::new),
        });
        parts.collect()
    };
    texts.iter().map(entry).collect()
}

fn workloads(texts: &[String]) -> Vec<Workload> {
    let entry = |text: &String| {
        let (kind, name) = workload(text);
        Workload {
            kind: kind.map(|kind| Glob::new(&kind.to_ascii_lowercase())),
            name: Glob::new(name),
        }
    };
    texts.iter().map(entry).collect()
}

fn any(globs: &[Glob], text: &str) -> bool {
    globs.iter().any(|glob| glob.matches(text))
}

fn has_labels(entries: &[Vec<Label>], pod: &Pod) -> bool {
    let has = |label: &Label| {
        let value = pod.label(&label.key);
        value.is_some_and(|value| label.value.as_ref().is_none_or(|glob| glob.matches(value)))
    };
    entries.iter().any(|entry| entry.iter().all(has))
}

/// Whoever made it, or made that.
fn is_of(workloads: &[Workload], pod: &Pod) -> bool {
    let is = |workload: &Workload, owner: &Owner| {
        let kind = || owner.kind.to_ascii_lowercase();
        workload.name.matches(&owner.name)
            && workload
                .kind
                .as_ref()
                .is_none_or(|glob| glob.matches(&kind()))
    };
    let mut owners = pod.owners();
    owners.any(|owner| workloads.iter().any(|workload| is(workload, owner)))
}

#[cfg(test)]
mod tests;
