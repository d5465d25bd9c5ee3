//! Whether a process is traced: the configuration's lists, compiled. A process must match one
//! entry of every list that is not empty, and no exclusion; ports are judged per connection.
//! What is said of pods is in [`Pods`].
//! The agent itself is never traced; what started it may be, as a test that starts an agent and
//! then sends the requests would otherwise see nothing.

use std::fmt;

use crate::config::Selection;

use super::glob::Glob;
use super::own::Own;
use super::pods::{Known, Pods};
use super::process::{Snapshot, base_name};

/// Whether a process is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Its connections are followed.
    Traced,
    /// They are not.
    Ignored(Reason),
}

impl Verdict {
    /// Whether it is [`Verdict::Traced`].
    pub fn is_traced(self) -> bool {
        self == Self::Traced
    }

    /// Why it is not.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Traced => None,
            Self::Ignored(reason) => Some(reason),
        }
    }
}

/// Why a process is not traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is the agent.
    Agent,
    /// It is a thread of the kernel.
    Kernel,
    /// An exclusion names it.
    Excluded,
    /// Process ids were given; it is none of them nor their descendant.
    Pid,
    /// Commands were given; it is none of them.
    Command,
    /// Containers were given; it is in none of them.
    Container,
    /// An exclusion names its container.
    ExcludedContainer,
    /// cgroups were given; it is in none of them.
    Cgroup,
    /// It is in the agent's own pod.
    OwnPod,
    /// It is in a pod that spans are exported to.
    Receiver,
    /// Something was said of pods; it is in none.
    NoPod,
    /// Something was said of pods; its own did not become known.
    UnknownPod,
    /// Its pod asks to be left out.
    OptedOut,
    /// Only pods that ask for it are traced; its own does not.
    NotOptedIn,
    /// Namespaces were given; its pod is in none of them.
    Namespace,
    /// Pods were given; its own is none of them.
    Pod,
    /// Labels were given; its pod does not have them.
    Label,
    /// Workloads were given; none of them made its pod.
    Workload,
    /// An exclusion names its pod's namespace.
    ExcludedNamespace,
    /// An exclusion names its pod.
    ExcludedPod,
    /// An exclusion names a label of its pod.
    ExcludedLabel,
    /// An exclusion names who made its pod.
    ExcludedWorkload,
}

impl Reason {
    /// In words, after "not traced: ".
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "the agent itself",
            Self::Kernel => "a kernel thread",
            Self::Excluded => "excluded by name",
            Self::Pid => "not among the selected processes or their children",
            Self::Command => "no selected command",
            Self::Container => "in no selected container",
            Self::ExcludedContainer => "in an excluded container",
            Self::Cgroup => "in no selected cgroup",
            Self::OwnPod => "in the agent's own pod",
            Self::Receiver => "in a pod that spans are sent to",
            Self::NoPod => "in no pod",
            Self::UnknownPod => "in a pod that Kubernetes has not told of",
            Self::OptedOut => "its pod opts out (annotation spantap/trace)",
            Self::NotOptedIn => "its pod does not opt in (annotation spantap/trace)",
            Self::Namespace => "in no selected namespace",
            Self::Pod => "in no selected pod",
            Self::Label => "its pod has no selected label",
            Self::Workload => "of no selected workload",
            Self::ExcludedNamespace => "in an excluded namespace",
            Self::ExcludedPod => "in an excluded pod",
            Self::ExcludedLabel => "its pod has an excluded label",
            Self::ExcludedWorkload => "of an excluded workload",
        }
    }

    /// The setting that decided, where it was one.
    pub fn setting(self) -> Option<&'static str> {
        Some(match self {
            Self::Agent | Self::Kernel | Self::OwnPod | Self::OptedOut | Self::UnknownPod => {
                return None;
            }
            Self::Excluded => "selection.exclude_commands",
            Self::Pid => "selection.pids",
            Self::Command => "selection.commands",
            Self::Container => "selection.containers",
            Self::ExcludedContainer => "selection.exclude_containers",
            Self::Cgroup => "selection.cgroups",
            Self::Receiver => "selection.exclude_collector",
            Self::NoPod => "selection.pods_only",
            Self::NotOptedIn => "selection.annotated_only",
            Self::Namespace => "selection.namespaces",
            Self::Pod => "selection.pods",
            Self::Label => "selection.pod_labels",
            Self::Workload => "selection.workloads",
            Self::ExcludedNamespace => "selection.exclude_namespaces",
            Self::ExcludedPod => "selection.exclude_pods",
            Self::ExcludedLabel => "selection.exclude_pod_labels",
            Self::ExcludedWorkload => "selection.exclude_workloads",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A compiled [`Selection`].
#[derive(Clone, Debug)]
pub struct Selector {
    pids: Vec<u32>,
    commands: Vec<Glob>,
    containers: Vec<Glob>,
    cgroups: Vec<Glob>,
    exclude_commands: Vec<Glob>,
    exclude_containers: Vec<Glob>,
    pods: Pods,
    /// Whether Kubernetes tells of pods.
    asked: bool,
    own: Own,
}

impl Selector {
    /// Compiles `selection`; `asked` tells whether Kubernetes tells of pods.
    pub fn new(selection: &Selection, own: Own, asked: bool) -> Self {
        let globs = |texts: &[String]| texts.iter().map(|text| Glob::new(text)).collect();
        let containers = |texts: &[String]| texts.iter().map(|text| container_glob(text)).collect();
        Self {
            pids: selection.pids.clone(),
            commands: globs(&selection.commands),
            containers: containers(&selection.containers),
            cgroups: globs(&selection.cgroups),
            exclude_commands: globs(&selection.exclude_commands),
            exclude_containers: containers(&selection.exclude_containers),
            pods: Pods::new(selection),
            asked,
            own,
        }
    }

    /// Judges a process whose pod is known as said; `ancestry` tells whether it descends from a selected
    /// process, and is asked only where process ids were given.
    pub fn judge(
        &self,
        process: &Snapshot,
        pod: Known<'_>,
        ancestry: impl FnOnce() -> bool,
    ) -> Verdict {
        match self.refusal(process, pod, ancestry) {
            Some(reason) => Verdict::Ignored(reason),
            None => Verdict::Traced,
        }
    }

    /// What can be said by the process id alone, before anything is read.
    pub fn judge_pid(&self, pid: u32) -> Option<Verdict> {
        if self.own.pid == pid {
            Some(Verdict::Ignored(Reason::Agent))
        } else if self.takes_all() {
            Some(Verdict::Traced)
        } else {
            None
        }
    }

    /// Whether no list names a process, so that nothing needs to be known of one.
    pub fn takes_all(&self) -> bool {
        self.pids.is_empty()
            && self.commands.is_empty()
            && self.containers.is_empty()
            && self.cgroups.is_empty()
            && self.exclude_commands.is_empty()
            && self.exclude_containers.is_empty()
            && self.own.pod.is_none()
            && !self.asked
            && !self.pods.asks()
    }

    /// Whether this very process was selected by its id.
    pub fn names(&self, pid: u32) -> bool {
        self.pids.contains(&pid)
    }

    /// Whether the same process ids are selected.
    pub fn has_pids_of(&self, other: &Self) -> bool {
        self.pids == other.pids
    }

    /// Who the agent is.
    pub fn own(&self) -> &Own {
        &self.own
    }

    fn refusal(
        &self,
        process: &Snapshot,
        pod: Known<'_>,
        ancestry: impl FnOnce() -> bool,
    ) -> Option<Reason> {
        if self.own.pid != 0 && self.own.pid == process.pid {
            return Some(Reason::Agent);
        }
        if process.is_kernel() {
            return Some(Reason::Kernel);
        }
        if self.own.has_pod_of(process) {
            return Some(Reason::OwnPod);
        }
        if command_matches(&self.exclude_commands, process) {
            return Some(Reason::Excluded);
        }
        if !self.pids.is_empty() && !self.names(process.pid) && !ancestry() {
            return Some(Reason::Pid);
        }
        if !self.commands.is_empty() && !command_matches(&self.commands, process) {
            return Some(Reason::Command);
        }
        if !self.cgroups.is_empty() && !self.cgroup_matches(process) {
            return Some(Reason::Cgroup);
        }
        if !self.containers.is_empty()
            && !container_matches(&self.containers, process, pod, pod.may_come())
        {
            return Some(Reason::Container);
        }
        if container_matches(&self.exclude_containers, process, pod, false) {
            return Some(Reason::ExcludedContainer);
        }
        self.pods.refusal(pod)
    }

    fn cgroup_matches(&self, process: &Snapshot) -> bool {
        self.cgroups
            .iter()
            .any(|glob| process.cgroups.iter().any(|path| glob.matches(path)))
    }
}

/// By its id, or its name in its pod; `unnamed` is the answer where that may still become known: the
/// kubelet tells of a container's id a moment after it has started it.
fn container_matches(globs: &[Glob], process: &Snapshot, pod: Known<'_>, unnamed: bool) -> bool {
    let Some(container) = &process.place.container else {
        return false;
    };
    let any = |text: &str| globs.iter().any(|glob| glob.matches(text));
    let named = pod.pod().and_then(|pod| {
        let id = process.place.container_in(|uid| pod.is(uid))?;
        pod.container(id)
    });
    any(&container.id) || named.map_or(unnamed, |container| any(&container.name))
}

/// The beginning of an id, at least as long as the short form people see, stands for all of it.
fn container_glob(text: &str) -> Glob {
    if text.len() >= SHORT_ID && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        Glob::new(&format!("{}*", text.to_ascii_lowercase()))
    } else {
        Glob::new(text)
    }
}

/// Name and path of the executable, what the process calls itself, the command as it was typed, and the
/// whole line. Debian's redis-server is a link to another name, and writes its own line.
fn command_matches(globs: &[Glob], process: &Snapshot) -> bool {
    if globs.is_empty() {
        return false;
    }
    let first = process.argv.first().map_or("", |first| first);
    let line = process.argv.join(" ");
    let texts = [
        process.exe_name(),
        process.exe.as_deref().unwrap_or_default(),
        &process.comm,
        first,
        base_name(first),
        &line,
    ];
    globs.iter().any(|glob| {
        texts
            .iter()
            .any(|text| !text.is_empty() && glob.matches(text))
    })
}

const SHORT_ID: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_goes_by_another_name_than_its_file() {
        let process = Snapshot {
            comm: "redis-server".into(),
            exe: Some("/usr/bin/redis-check-rdb".into()),
            argv: vec!["redis-server *:6379".into()],
            ..Snapshot::default()
        };
        let matches = |glob| command_matches(&[Glob::new(glob)], &process);
        assert!(matches("redis-server") && matches("redis-check-rdb"));
        assert!(!matches("redis"));
    }
}
