//! Who the agent is: its process, and its pod where it is in one. Neither the one nor whatever else is in
//! the other is traced.
//!
//! In a cgroup namespace of its own (containerd makes one on hosts of version 2 for containers that are not
//! privileged) its path is `/`, which names no pod. Every pod's /etc/hosts is a mount from the kubelet's
//! folder for that pod (kubernetes, `pkg/kubelet/kubelet_pods.go`, `makeHostsMount`), which does.

use super::container::Place;
use super::files;
use super::process::Snapshot;
use super::scan::Processes;

/// Who the agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Its process id; 0 is nobody's.
    pub pid: u32,
    /// The UID of its pod, where it is in one.
    pub pod: Option<Box<str>>,
    /// The cgroups of its container, where they name no pod.
    pub cgroups: Vec<Box<str>>,
}

impl Own {
    /// Finds out, in the procfs in use, which may be the host's while the agent is in a container.
    pub fn find(processes: &Processes) -> Self {
        let own = std::fs::read_link(processes.proc().join("self")).ok();
        let pid = own.and_then(|link| link.to_str()?.parse().ok());
        let pid = pid.unwrap_or_else(std::process::id);
        let snapshot = processes.get(pid);
        match &snapshot.place.pod {
            Some(pod) => Self {
                pid,
                pod: Some(pod.clone()),
                cgroups: Vec::new(),
            },
            None => {
                let mounts = processes.proc().join(pid.to_string()).join("mountinfo");
                let mounts = files::own_text(&mounts, MOST).unwrap_or_default();
                let pod = pod_of(&mounts);
                let cgroups = pod.as_ref().map(|_| snapshot.cgroups.clone());
                Self {
                    pid,
                    pod,
                    cgroups: cgroups.unwrap_or_default(),
                }
            }
        }
    }

    /// Whether a process is in the agent's pod.
    pub fn has_pod_of(&self, process: &Snapshot) -> bool {
        let Some(own) = &self.pod else {
            return false;
        };
        match &process.place.pod {
            Some(pod) => pod == own,
            None => !self.cgroups.is_empty() && process.cgroups == self.cgroups,
        }
    }
}

/// By /etc/hosts: `ID PARENT DEVICE ROOT WHERE …`, the root being `…/pods/UID/etc-hosts`.
fn pod_of(mounts: &str) -> Option<Box<str>> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let (_, rest) = root.rsplit_once("/pods/").filter(|_| at == "/etc/hosts")?;
        let (uid, file) = rest.split_once('/')?;
        let pod = (file == "etc-hosts").then(|| Place::of(&format!("/pod{uid}")).pod);
        pod?
    })
}

/// Bytes of a list of mounts that are looked at.
const MOST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::super::fixture::Proc;
    use super::*;

    const UID: &str = "073d9428-b92d-46fa-83a7-a10de3d45bdf";

    #[test]
    fn the_pod_shows_in_its_mounts() {
        let line =
            |root: &str, at: &str| format!("1 2 0:1 / / rw\n9 1 8:1 {root} {at} rw - ext4 x rw\n");
        let hosts = format!("/var/lib/kubelet/pods/{UID}/etc-hosts");
        assert_eq!(pod_of(&line(&hosts, "/etc/hosts")).as_deref(), Some(UID));
        for (root, at) in [
            (&*hosts, "/mnt"),
            ("/etc/hosts", "/etc/hosts"),
            ("/pods/x/etc-hosts", "/etc/hosts"),
            (&*format!("/pods/{UID}/volumes/hosts"), "/etc/hosts"),
        ] {
            assert_eq!(pod_of(&line(root, at)), None, "{root} {at}");
        }
        assert_eq!(pod_of("\n1 2 3\n"), None);
    }

    #[test]
    fn whoever_is_in_its_pod() {
        let proc = Proc::make();
        let own = std::process::id();
        proc.process(own, 1, 5, "/spantap", &[b"spantap"]);
        proc.put(own, "cgroup", b"0::/\n");
        let line = format!("9 1 8:1 /k/pods/{UID}/etc-hosts /etc/hosts rw - ext4 x rw\n");
        proc.put(own, "mountinfo", line.as_bytes());
        let find = || Own::find(&Processes::new(proc.root.clone(), Default::default()));
        let inside = find();
        assert_eq!(inside.pod.as_deref(), Some(UID));
        let process = |path: &str| Snapshot {
            cgroups: vec![path.into()],
            place: Place::of(path),
            ..Snapshot::default()
        };
        assert!(inside.has_pod_of(&process("/")));
        assert!(inside.has_pod_of(&process(&format!("/../../kubepods-pod{UID}.slice/x"))));
        assert!(!inside.has_pod_of(&process("/../../system.slice/x")));
        // It sees the whole path.
        proc.put(
            own,
            "cgroup",
            format!("0::/kubepods/pod{UID}/x\n").as_bytes(),
        );
        let whole = find();
        assert_eq!((whole.pod.as_deref(), whole.cgroups.len()), (Some(UID), 0));
        assert!(!whole.has_pod_of(&process("/")));
        // In no pod.
        proc.put(own, "cgroup", b"0::/\n");
        proc.put(own, "mountinfo", b"");
        assert!(!find().has_pod_of(&process("/")));
    }
}
