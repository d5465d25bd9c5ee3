//! Whose traffic is traced, as it was asked for. What a process is held against is made of this by
//! `target::selection`, and made anew when the file changes.

use super::form::{Form, Raw, Shape, Shown, many};

/// Whose traffic is traced. Empty lists select everything; each non-empty list must match
/// (a process is selected if it matches one entry of every non-empty list), then exclusions apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Process ids; their later children are selected too.
    pub pids: Vec<u32>,
    /// Globs on the executable's name, its path, or the whole command line.
    pub commands: Vec<String>,
    /// Globs on container ids (a prefix of 12 is enough), or names in pods.
    pub containers: Vec<String>,
    /// Ports, either end's.
    pub ports: Vec<u16>,
    /// Globs on cgroup paths.
    pub cgroups: Vec<String>,
    /// Globs on namespaces of pods.
    pub namespaces: Vec<String>,
    /// Globs on names of pods.
    pub pods: Vec<String>,
    /// Labels of pods, see [`labels`].
    pub pod_labels: Vec<String>,
    /// Who made pods, see [`workload`].
    pub workloads: Vec<String>,
    /// Globs on commands never traced.
    pub exclude_commands: Vec<String>,
    /// Ports never traced, either end's.
    pub exclude_ports: Vec<u16>,
    /// Globs on container ids, or names, never traced.
    pub exclude_containers: Vec<String>,
    /// Globs on namespaces whose pods never are, unless [`Self::namespaces`] names them.
    pub exclude_namespaces: Vec<String>,
    /// Globs on names of pods that never are.
    pub exclude_pods: Vec<String>,
    /// Labels of pods that never are.
    pub exclude_pod_labels: Vec<String>,
    /// Whose pods never are.
    pub exclude_workloads: Vec<String>,
    /// Whether only pods are traced that ask for it.
    pub annotated_only: bool,
    /// Whether only pods are.
    pub pods_only: bool,
    /// Whether the receiver that spans are exported to is left out.
    pub exclude_collector: bool,
    /// Whether the spans of processes that export their own are left to them.
    pub exclude_instrumented: bool,
}

impl Selection {
    /// Whether every process is traced, as long as nothing is known of pods.
    pub fn has_every_process(&self) -> bool {
        let chosen = [
            &self.commands,
            &self.containers,
            &self.cgroups,
            &self.exclude_commands,
            &self.exclude_containers,
        ];
        !self.asks_for_pods() && self.pids.is_empty() && chosen.iter().all(|globs| globs.is_empty())
    }

    /// Whether it says of pods which ones are traced: then nothing else is.
    pub fn asks_for_pods(&self) -> bool {
        self.pods_only || self.needs_kubernetes()
    }

    /// Whether it says of them what Kubernetes alone can tell.
    pub fn needs_kubernetes(&self) -> bool {
        let lists = [
            &self.namespaces,
            &self.pods,
            &self.pod_labels,
            &self.workloads,
        ];
        self.annotated_only || lists.iter().any(|globs| !globs.is_empty())
    }

    /// Whether the ports at either end let a connection be traced.
    pub fn has_port(&self, ports: [Option<u16>; 2]) -> bool {
        let any = |of: &[u16]| ports.iter().flatten().any(|port| of.contains(port));
        (self.ports.is_empty() || any(&self.ports)) && !any(&self.exclude_ports)
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            pids: Vec::new(),
            commands: Vec::new(),
            containers: Vec::new(),
            ports: Vec::new(),
            cgroups: Vec::new(),
            namespaces: Vec::new(),
            pods: Vec::new(),
            pod_labels: Vec::new(),
            workloads: Vec::new(),
            exclude_commands: Vec::new(),
            exclude_ports: Vec::new(),
            exclude_containers: Vec::new(),
            exclude_namespaces: vec!["kube-system".into()],
            exclude_pods: Vec::new(),
            exclude_pod_labels: Vec::new(),
            exclude_workloads: Vec::new(),
            annotated_only: false,
            pods_only: false,
            exclude_collector: true,
            exclude_instrumented: true,
        }
    }
}

/// The parts of `key=glob,key`: keys, and globs on their values where there are some. All must match.
pub fn labels(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.split(',').map(|part| match part.split_once('=') {
        Some((key, glob)) => (key.trim(), Some(glob.trim())),
        None => (part.trim(), None),
    })
}

/// The parts of `kind/name` or `name`: the globs on both.
pub fn workload(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((kind, name)) => (Some(kind), name),
        None => (None, text),
    }
}

/// Entries of labels. A comma is part of an entry: in variables, `;` is between two.
pub struct Labels;

impl Form for Labels {
    type Value = Vec<String>;
    const SHAPE: Shape = Shape::List;

    fn parse(&self, raw: &Raw) -> Result<Vec<String>, String> {
        let entries = match raw {
            Raw::Text(text) => many(&Raw::Many(text.split(';').map(str::to_owned).collect()))?
                .into_iter()
                .map(str::to_owned)
                .collect(),
            Raw::Many(_) | Raw::Pairs(_) => {
                let all = many(raw)?.into_iter();
                all.map(str::to_owned).collect::<Vec<_>>()
            }
        };
        let keyless = |entry: &&String| labels(entry).any(|(key, _)| key.is_empty());
        match entries.iter().find(keyless) {
            Some(entry) => Err(format!("expected labels as key=glob or key, got `{entry}`")),
            None => Ok(entries),
        }
    }

    fn show(&self, value: &Vec<String>) -> Shown {
        Shown::List(value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read() {
        let parse = |text: &str| Labels.parse(&Raw::Text(text.into()));
        let two = vec!["app=cart, tier".to_owned(), "app=we*".to_owned()];
        assert_eq!(parse(" app=cart, tier ; app=we*;"), Ok(two));
        let parts: Vec<_> = labels("app=cart, tier,a=").collect();
        let want = [("app", Some("cart")), ("tier", None), ("a", Some(""))];
        assert_eq!(parts, want);
        for bad in ["=x", "a=b,", ",", "a;=b"] {
            let why = parse(bad).expect_err("no key");
            assert!(
                why.starts_with("expected labels as key=glob or key"),
                "{why}"
            );
        }
    }
}
