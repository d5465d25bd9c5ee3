//! Whether a process is traced: the configuration's lists, compiled. A process must match one
//! entry of every list that is not empty, and no exclusion; ports are judged per connection.
//! The agent itself is never traced; what started it may be, as a test that starts an agent and
//! then sends the requests would otherwise see nothing.

use crate::config::Selection;

use super::glob::Glob;
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
    /// cgroups were given; it is in none of them.
    Cgroup,
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
            Self::Cgroup => "in no selected cgroup",
        }
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
    own: u32,
}

impl Selector {
    /// Compiles `selection`; `own` is the agent's process id.
    pub fn new(selection: &Selection, own: u32) -> Self {
        let Selection {
            pids,
            commands,
            containers,
            cgroups,
            exclude_commands,
            // Judged by connection.
            ports: _,
            exclude_ports: _,
            exclude_collector: _,
            exclude_instrumented: _,
        } = selection;
        let globs = |texts: &[String]| texts.iter().map(|text| Glob::new(text)).collect();
        Self {
            pids: pids.clone(),
            commands: globs(commands),
            containers: containers.iter().map(|text| container_glob(text)).collect(),
            cgroups: globs(cgroups),
            exclude_commands: globs(exclude_commands),
            own,
        }
    }

    /// Judges a process; `ancestry` tells whether it descends from a selected process, and is
    /// asked only where process ids were given.
    pub fn judge(&self, process: &Snapshot, ancestry: impl FnOnce() -> bool) -> Verdict {
        match self.refusal(process, ancestry) {
            Some(reason) => Verdict::Ignored(reason),
            None => Verdict::Traced,
        }
    }

    /// What can be said by the process id alone, before anything is read.
    pub fn judge_pid(&self, pid: u32) -> Option<Verdict> {
        if self.own == pid {
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
    }

    /// Whether this very process was selected by its id.
    pub fn names(&self, pid: u32) -> bool {
        self.pids.contains(&pid)
    }

    fn refusal(&self, process: &Snapshot, ancestry: impl FnOnce() -> bool) -> Option<Reason> {
        if self.own == process.pid {
            return Some(Reason::Agent);
        }
        if process.is_kernel() {
            return Some(Reason::Kernel);
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
        if !self.containers.is_empty() && !self.container_matches(process) {
            return Some(Reason::Container);
        }
        if !self.cgroups.is_empty() && !self.cgroup_matches(process) {
            return Some(Reason::Cgroup);
        }
        None
    }

    fn container_matches(&self, process: &Snapshot) -> bool {
        let Some(container) = &process.place.container else {
            return false;
        };
        self.containers
            .iter()
            .any(|glob| glob.matches(&container.id))
    }

    fn cgroup_matches(&self, process: &Snapshot) -> bool {
        self.cgroups
            .iter()
            .any(|glob| process.cgroups.iter().any(|path| glob.matches(path)))
    }
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
