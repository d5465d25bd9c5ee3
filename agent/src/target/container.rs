//! cgroup path → container and pod. The path is searched, never anchored: an agent in a cgroup
//! namespace of its own sees relative paths (`/../kubepods/…`), and kind, k3s and Docker in Docker
//! put a prefix before everything.
//!
//! The pod's UID is what follows `pod`: 8-4-4-4-12 hexadecimal digits with `-` or, from the systemd
//! driver, `_`; or 32 digits without dashes (static pods: the configuration's hash). The container
//! is the first id after the last pod or, without a pod, the last id of the path, since the
//! innermost container is the one a process lives in.
//!
//! A path may name several pods: of a cluster that runs in a pod of another, or because somebody who may
//! make cgroups in his own container has made one with another's name. Whoever knows the cluster takes the
//! outermost that is of it: what is outside was there first, and is not the container's to name.

/// A container as its cgroup path tells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// 64 hexadecimal digits (ECS on Fargate: 32, a dash and a number).
    pub id: Box<str>,
    /// Who runs it, where the path says so: `docker`, `containerd`, `cri-o`, `podman`.
    pub engine: Option<&'static str>,
}

/// What a cgroup path says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The container.
    pub container: Option<Container>,
    /// UID of the Kubernetes pod, dashes restored; a static pod's is 32 digits without.
    pub pod: Option<Box<str>>,
    /// The pods that this one is in, outermost first, with the id of the container in each.
    pub outer: Vec<(Box<str>, Option<Box<str>>)>,
}

impl Place {
    /// Reads one path of `/proc/PID/cgroup`.
    pub fn of(path: &str) -> Self {
        let mut place = Self::default();
        // The engine may stand in a part of its own before the id: /docker/ID.
        let mut before = "";
        for part in path.split('/') {
            if let Some(pod) = pod_uid(part) {
                let container = place.container.take().map(|container| container.id);
                if let Some(around) = place.pod.replace(pod)
                    && place.outer.len() < MAX_OUTER
                {
                    place.outer.push((around, container));
                }
            }
            let settled = place.pod.is_some() && place.container.is_some();
            if !settled && let Some(container) = container(part, before) {
                place.container = Some(container);
            }
            before = part;
        }
        place
    }

    /// The pods it names, outermost first, with the id of the container in each.
    pub fn pods(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let outer = self
            .outer
            .iter()
            .map(|(pod, container)| (&**pod, container.as_deref()));
        let container = self.container.as_ref().map(|container| &*container.id);
        outer.chain(self.pod.as_deref().map(|pod| (pod, container)))
    }

    /// Their UIDs, outermost first.
    pub fn uids(&self) -> impl Iterator<Item = &str> {
        self.pods().map(|(pod, _)| pod)
    }

    /// The id of the container in the first pod that is the one wanted.
    pub fn container_in(&self, is_it: impl Fn(&str) -> bool) -> Option<&str> {
        self.pods().find(|(pod, _)| is_it(pod))?.1
    }

    /// Whether the path names neither.
    pub fn is_empty(&self) -> bool {
        self.container.is_none() && self.pod.is_none()
    }
}

/// Nobody nests clusters deeper.
const MAX_OUTER: usize = 4;

fn container(part: &str, before: &str) -> Option<Container> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    if is_fargate(part) {
        return Some(Container {
            id: part.into(),
            engine: None,
        });
    }
    let (prefix, id) = part
        .rfind(['-', ':'])
        .and_then(|at| Some((part.get(..at)?, part.get(at + 1..)?)))
        .unwrap_or((before, part));
    // conmon, the monitor of CRI-O and podman, is not in the container it watches.
    if !is_id(id) || prefix.ends_with("conmon") {
        return None;
    }
    Some(Container {
        id: id.into(),
        engine: engine(prefix),
    })
}

fn engine(prefix: &str) -> Option<&'static str> {
    let name = prefix.rsplit(':').next().unwrap_or(prefix);
    match name {
        "docker" => Some("docker"),
        "cri-containerd" | "containerd" | "nerdctl" => Some("containerd"),
        "crio" => Some("cri-o"),
        "libpod" | "libpod-payload" => Some("podman"),
        _ => None,
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_fargate(text: &str) -> bool {
    text.split_once('-').is_some_and(|(task, number)| {
        task.len() == 32
            && is_hex(task)
            && (6..=12).contains(&number.len())
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

fn pod_uid(part: &str) -> Option<Box<str>> {
    part.match_indices("pod").find_map(|(at, _)| {
        let starts = at == 0 || part.get(..at).is_some_and(|head| head.ends_with('-'));
        let rest = part.get(at + 3..)?;
        starts.then(|| dashed(rest).or_else(|| plain(rest)))?
    })
}

/// 8-4-4-4-12 digits, and nothing that belongs to the word after them.
fn dashed(text: &str) -> Option<Box<str>> {
    let uid = text.get(..36)?.replace('_', "-");
    let groups = [8, 4, 4, 4, 12];
    let right = uid.split('-').count() == groups.len()
        && uid
            .split('-')
            .zip(groups)
            .all(|(group, len)| group.len() == len && is_hex(group));
    (right && ends(text, 36)).then(|| uid.into())
}

fn plain(text: &str) -> Option<Box<str>> {
    let uid = text.get(..32)?;
    (is_hex(uid) && ends(text, 32)).then(|| uid.into())
}

fn ends(text: &str, at: usize) -> bool {
    text.as_bytes()
        .get(at)
        .is_none_or(|b| !b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1fa3efb2c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
    const B: &str = "9c1b5a3e7d9f00112233445566778899aabbccddeeff00112233445566778899";
    const POD: &str = "073d9428-b92d-46fa-83a7-a10de3d45bdf";
    const UNDER: &str = "073d9428_b92d_46fa_83a7_a10de3d45bdf";
    const HASH: &str = "0123456789abcdef0123456789abcdef";

    fn check(path: &str, expected: &str) {
        let path = path
            .replace("$A", A)
            .replace("$B", B)
            .replace("$POD", POD)
            .replace("$UNDER", UNDER)
            .replace("$HASH", HASH);
        let place = Place::of(&path);
        let id = place.container.as_ref().map_or("-", |c| match &*c.id {
            A => "A",
            B => "B",
            other => other,
        });
        let engine = place
            .container
            .as_ref()
            .and_then(|c| c.engine)
            .unwrap_or("-");
        let pod = place.pod.as_deref().map_or("-", |pod| match pod {
            POD => "POD",
            HASH => "HASH",
            other => other,
        });
        assert_eq!(format!("{id} {engine} {pod}"), expected, "{path}");
    }

    #[test]
    fn no_container() {
        for path in [
            "/",
            "",
            "/user.slice/user-1000.slice/session-3.scope",
            "/system.slice/nginx.service",
            "/process_api/90776f4b406435434e44fa88efb0b570",
            "/../..",
            "/init.scope",
            "/kubepods.slice/kubepods-burstable.slice",
            "/system.slice/docker.service",
            "/machine.slice/libpod-conmon-$A.scope",
            "/system.slice/crio-conmon-$A.scope",
            "/podcast/0123",
        ] {
            check(path, "- - -");
        }
    }

    #[test]
    fn plain_engines() {
        check("/docker/$A", "A docker -");
        check("/docker/$A/init.scope", "A docker -");
        check("/system.slice/docker-$A.scope", "A docker -");
        check(
            "/system.slice/docker-$A.scope/system.slice/x.service",
            "A docker -",
        );
        check("/machine.slice/libpod-$A.scope", "A podman -");
        check("/machine.slice/libpod-$A.scope/container", "A podman -");
        check("/libpod_parent/libpod-$A", "A podman -");
        check(
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-$A.scope/container",
            "A podman -",
        );
        check("/default/$A", "A - -");
        check("/system.slice/nerdctl-$A.scope", "A containerd -");
        check(
            "/system.slice/containerd.service/x:cri-containerd:$A",
            "A containerd -",
        );
        check("/ecs/$HASH/$A", "A - -");
        check(
            "/ecs/$HASH/$HASH-1234567890",
            &format!("{HASH}-1234567890 - -"),
        );
        check("/docker/$A/docker/$B", "B docker -");
    }

    #[test]
    fn kubernetes() {
        check("/kubepods/pod$POD/$A", "A - POD");
        check("/kubepods/burstable/pod$POD/$A", "A - POD");
        check("/kubepods/besteffort/pod$HASH/$A", "A - HASH");
        check(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod$UNDER.slice/cri-containerd-$A.scope",
            "A containerd POD",
        );
        check(
            "/kubepods.slice/kubepods-pod$UNDER.slice/crio-$A.scope",
            "A cri-o POD",
        );
        check(
            "/kubepods.slice/kubepods-pod$UNDER.slice/docker-$A.scope",
            "A docker POD",
        );
        check(
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod$UNDER.slice/cri-containerd-$A.scope",
            "A containerd POD",
        );
        check(
            "/docker/$B/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod$UNDER.slice/cri-containerd-$A.scope",
            "A containerd POD",
        );
        check(
            "/system.slice/kubepods-besteffort-pod$UNDER.slice:cri-containerd:$A",
            "A containerd POD",
        );
        check("/kubepods/besteffort/pod$POD", "- - POD");
        check("/../kubepods/burstable/pod$POD/$A", "A - POD");
        check("/../../pod$POD/$A", "A - POD");
        check("/kubepods/pod$POD/$A/docker/$B", "A - POD");
        check("/kubepods/pod$HASH/$A/kubepods/pod$POD/$B", "B - POD");
        check("/docker/$B/kubepods/pod$POD/$A", "A - POD");
    }

    #[test]
    fn a_pod_in_a_pod() {
        let path = format!("/kubepods/pod{HASH}/{A}/kubepods/pod{POD}/{B}");
        let place = Place::of(&path);
        let pods: Vec<_> = place.pods().collect();
        assert_eq!(pods, [(HASH, Some(A)), (POD, Some(B))]);
        assert_eq!(place.container_in(|pod| pod == POD), Some(B));
        assert_eq!(place.container_in(|pod| pod == UNDER), None);
        let deep = format!("/pod{POD}/{A}").repeat(9);
        assert_eq!(Place::of(&deep).pods().count(), MAX_OUTER + 1);
    }

    #[test]
    fn nearly() {
        check("/docker/$Aa", "- - -");
        check(
            "/kubepods/pod073d9428-b92d-46fa-83a7-a10de3d45bdfa/x",
            "- - -",
        );
        check(
            "/kubepods/pod073D9428-b92d-46fa-83a7-a10de3d45bdf/x",
            "- - -",
        );
        check(
            "/kubepods/podé73d9428-b92d-46fa-83a7-a10de3d45bd/x",
            "- - -",
        );
        check("/ecs/x/$HASH-1", "- - -");
    }
}
