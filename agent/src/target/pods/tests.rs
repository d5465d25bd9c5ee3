//! A pod, a selection, the verdict.

use super::*;
use crate::kubernetes::{Container, Owner, TRACE};
use crate::target::container::Place;
use crate::target::own::Own;
use crate::target::{Selector, Snapshot, Verdict};

const UID: &str = "073d9428-b92d-46fa-83a7-a10de3d45bdf";
const ID: &str = "1fa3efb2c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

fn owner(kind: &str, name: &str) -> Option<Owner> {
    Some(Owner {
        kind: kind.into(),
        name: name.into(),
        uid: "u".into(),
    })
}

fn pod() -> Pod {
    Pod {
        uid: UID.into(),
        namespace: "shop".into(),
        name: "cart-6bd65fb88c-x2x4z".into(),
        labels: [("app", "cart"), ("tier", "back")]
            .map(|(key, value)| (key.into(), value.into()))
            .into(),
        owner: owner("ReplicaSet", "cart-6bd65fb88c"),
        behind: owner("Deployment", "cart"),
        containers: vec![Container {
            name: "app".into(),
            id: ID.into(),
            ..Container::default()
        }],
        ..Pod::default()
    }
}

fn process(path: &str) -> Snapshot {
    Snapshot {
        pid: 10,
        seen: true,
        exe: Some("/srv/cart".into()),
        argv: vec!["cart".into()],
        place: Place::of(path),
        cgroups: vec![path.into()],
        ..Snapshot::default()
    }
}

fn place() -> String {
    format!("/kubepods/burstable/pod{UID}/{ID}")
}

type Fill = fn(&mut Selection);

fn judged(fill: Fill, process: &Snapshot, known: Known<'_>) -> Option<Reason> {
    let mut selection = Selection::default();
    fill(&mut selection);
    let selector = Selector::new(&selection, Own::default(), true);
    selector.judge(process, known, || false).reason()
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

/// Each with what it comes to for the pod.
const OF_A_POD: &[(Fill, Option<Reason>)] = &[
    (|_| (), None),
    (|s| s.namespaces = texts(&["web", "sh*"]), None),
    (|s| s.namespaces = texts(&["web"]), Some(Reason::Namespace)),
    (|s| s.pods = texts(&["cart-*"]), None),
    (|s| s.pods = texts(&["cart"]), Some(Reason::Pod)),
    (|s| s.pod_labels = texts(&["app=c*"]), None),
    (|s| s.pod_labels = texts(&["tier"]), None),
    (|s| s.pod_labels = texts(&["app=cart,tier=back"]), None),
    (
        |s| s.pod_labels = texts(&["app=cart,tier=front"]),
        Some(Reason::Label),
    ),
    (|s| s.pod_labels = texts(&["app=web", "tier=back"]), None),
    (|s| s.pod_labels = texts(&["app="]), Some(Reason::Label)),
    (|s| s.pod_labels = texts(&["none"]), Some(Reason::Label)),
    (|s| s.workloads = texts(&["cart"]), None),
    (|s| s.workloads = texts(&["Deployment/cart"]), None),
    (|s| s.workloads = texts(&["deployment/c*"]), None),
    (|s| s.workloads = texts(&["replicaset/cart-*"]), None),
    (|s| s.workloads = texts(&["*/cart"]), None),
    (
        |s| s.workloads = texts(&["statefulset/cart"]),
        Some(Reason::Workload),
    ),
    (|s| s.workloads = texts(&["web"]), Some(Reason::Workload)),
    (|s| s.containers = texts(&["app"]), None),
    (|s| s.containers = texts(&["1fa3efb2c0ff"]), None),
    (
        |s| s.containers = texts(&["proxy"]),
        Some(Reason::Container),
    ),
    (
        |s| s.exclude_containers = texts(&["a*"]),
        Some(Reason::ExcludedContainer),
    ),
    (|s| s.exclude_containers = texts(&["istio-proxy"]), None),
    (
        |s| s.exclude_namespaces = texts(&["shop"]),
        Some(Reason::ExcludedNamespace),
    ),
    (
        |s| s.exclude_pods = texts(&["cart-*"]),
        Some(Reason::ExcludedPod),
    ),
    (
        |s| s.exclude_pod_labels = texts(&["tier=back"]),
        Some(Reason::ExcludedLabel),
    ),
    (
        |s| s.exclude_workloads = texts(&["deployment/*"]),
        Some(Reason::ExcludedWorkload),
    ),
    (|s| s.annotated_only = true, Some(Reason::NotOptedIn)),
    (|s| s.pods_only = true, None),
    // Every kind must match, and exclusions come last.
    (
        |s| {
            s.namespaces = texts(&["shop"]);
            s.pods = texts(&["web"]);
        },
        Some(Reason::Pod),
    ),
    (
        |s| {
            s.namespaces = texts(&["sh*"]);
            s.exclude_namespaces = texts(&["shop"]);
        },
        Some(Reason::ExcludedNamespace),
    ),
    // But for what is asked for in the same words.
    (
        |s| {
            s.namespaces = texts(&["shop"]);
            s.exclude_namespaces = texts(&["shop", "kube-system"]);
        },
        None,
    ),
    (|s| s.commands = texts(&["nginx"]), Some(Reason::Command)),
    (
        |s| s.exclude_commands = texts(&["cart"]),
        Some(Reason::Excluded),
    ),
];

#[test]
fn a_pod_is_held_against_each_list() {
    let pod = pod();
    for (number, (fill, want)) in OF_A_POD.iter().enumerate() {
        let known = Known::In {
            pod: Some(&pod),
            settled: number % 2 == 0,
        };
        assert_eq!(judged(*fill, &process(&place()), known), *want, "{number}");
    }
}

#[test]
fn a_pod_has_a_say_itself() {
    let opted = |word: &str| Pod {
        annotations: [(TRACE.into(), word.into())].into(),
        ..pod()
    };
    let (inside, outside) = (opted("true"), opted("false"));
    for (fill, want) in OF_A_POD {
        let of = |pod: &Pod| {
            let known = Known::In {
                pod: Some(pod),
                settled: true,
            };
            judged(*fill, &process(&place()), known)
        };
        // What is said of programs and containers holds all the same.
        let other = [
            Reason::Command,
            Reason::Excluded,
            Reason::Container,
            Reason::ExcludedContainer,
        ];
        let other = want.filter(|reason| other.contains(reason));
        assert_eq!(of(&inside), other);
        assert_eq!(of(&outside), other.or(Some(Reason::OptedOut)));
        assert_eq!(of(&opted("maybe")), *want);
    }
}

#[test]
fn a_pod_that_is_not_known_is_let_in_until_it_must_be() {
    let about_pods: [Fill; 5] = [
        |s| s.namespaces = texts(&["web"]),
        |s| s.pods = texts(&["web"]),
        |s| s.pod_labels = texts(&["app=web"]),
        |s| s.workloads = texts(&["web"]),
        |s| s.annotated_only = true,
    ];
    let process_in = process(&place());
    let unknown = |settled| Known::In { pod: None, settled };
    for fill in about_pods {
        assert_eq!(judged(fill, &process_in, unknown(false)), None);
        assert_eq!(
            judged(fill, &process_in, unknown(true)),
            Some(Reason::UnknownPod)
        );
        let plain = process("/system.slice/x.service");
        assert_eq!(judged(fill, &plain, Known::Nowhere), Some(Reason::NoPod));
    }
    // The kubelet tells of a container's id a little later.
    let named: Fill = |s| s.containers = texts(&["app"]);
    let young = Pod {
        containers: vec![Container {
            name: "app".into(),
            ..Container::default()
        }],
        ..pod()
    };
    let known = |settled| Known::In {
        pod: Some(&young),
        settled,
    };
    assert_eq!(judged(named, &process_in, known(false)), None);
    assert_eq!(
        judged(named, &process_in, known(true)),
        Some(Reason::Container)
    );
    assert_eq!(judged(named, &process_in, unknown(false)), None);
    // Exclusions alone leave nobody out who is not known, and nobody who is in none.
    let excluded: Fill = |s| s.exclude_pods = texts(&["*"]);
    for known in [unknown(false), unknown(true), Known::Nowhere] {
        assert_eq!(judged(excluded, &process_in, known), None);
    }
    let only: Fill = |s| s.pods_only = true;
    assert_eq!(judged(only, &process_in, unknown(true)), None);
    assert_eq!(
        judged(only, &process("/x"), Known::Nowhere),
        Some(Reason::NoPod)
    );
}

#[test]
fn nothing_is_said_by_the_id_alone_where_pods_are_known() {
    let selector = |own: Own, asked| Selector::new(&Selection::default(), own, asked);
    assert!(selector(Own::default(), false).takes_all());
    assert!(!selector(Own::default(), true).takes_all());
    let own = Own {
        pid: 5,
        pod: Some(UID.into()),
        cgroups: Vec::new(),
    };
    let in_a_pod = selector(own, false);
    assert!(!in_a_pod.takes_all());
    let verdict = in_a_pod.judge(&process(&place()), Known::Nowhere, || false);
    assert_eq!(verdict, Verdict::Ignored(Reason::OwnPod));
}
