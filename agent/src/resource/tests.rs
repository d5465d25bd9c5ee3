//! Whole resources: of fixtures, of a real process, shared, replaced, bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::event::Process;
use crate::kubernetes::{Container, Owner};
use crate::protocol::Value;
use crate::target::fixture::{Proc, Real};
use crate::target::{PROC, Targets};

fn resources(proc: impl Into<std::path::PathBuf>) -> (Arc<Processes>, Resources, Arc<Stats>) {
    configured(proc, Config::default())
}

fn configured(
    proc: impl Into<std::path::PathBuf>,
    config: Config,
) -> (Arc<Processes>, Resources, Arc<Stats>) {
    let stats = Arc::new(Stats::default());
    let processes = Arc::new(Processes::new(proc, Arc::clone(&stats)));
    let extra = BTreeMap::from([
        ("deployment.environment.name".to_owned(), "prod".to_owned()),
        ("service.version".to_owned(), "agent's".to_owned()),
        ("host.name".to_owned(), "agent's".to_owned()),
    ]);
    let config = Config {
        resource: extra,
        ..config
    };
    let resources = Resources::new(Arc::clone(&processes), &config, None, Arc::clone(&stats));
    (processes, resources, stats)
}

impl Resources {
    fn catch_up(&self) {
        let mut looker = Looker::new(self.proc());
        while let Some(snapshot) = self.next(Duration::ZERO) {
            let answer = looker.answer(Question::about(&snapshot));
            self.answer(&snapshot, Some(answer));
        }
    }

    fn meet_at(&self, pid: u32, comm: &str, at: Nanos) -> Arc<Resource> {
        self.observe(pid, comm, at);
        self.catch_up();
        self.of(pid, at)
    }

    fn met(&self, pid: u32, comm: &str) -> Arc<Resource> {
        self.meet_at(pid, comm, 1)
    }
}

fn text<'a>(resource: &'a Resource, key: &str) -> Option<&'a str> {
    let found = resource
        .attributes
        .iter()
        .find(|attribute| attribute.key == key)?;
    match &found.value {
        Value::Str(text) => Some(text),
        _ => None,
    }
}

fn int(resource: &Resource, key: &str) -> Option<i64> {
    let found = resource
        .attributes
        .iter()
        .find(|attribute| attribute.key == key)?;
    match found.value {
        Value::Int(number) => Some(number),
        _ => None,
    }
}

const ID: &str = "1fa3efb2c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// A machine with one process in a container.
fn machine() -> Proc {
    let proc = Proc::make();
    proc.process(1, 0, 1, "/sbin/init", &[b"init"]);
    let state = format!("1/root/var/lib/docker/containers/{ID}/config.v2.json");
    let write = |path: &str, text: &str| {
        let path = proc.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(&state, r#"{"Name":"/shop-1","Config":{"Image":"shop:1"}}"#);
    write(
        "1/root/etc/machine-id",
        "3d1219c7c4c5404aaa1f6d2a48adfda4\n",
    );
    write(
        "1/root/usr/lib/os-release",
        "NAME=\"Debian\"\nVERSION_ID=12\nPRETTY_NAME=\"Debian 12\"\n",
    );
    write("sys/kernel/hostname", "box\n");
    write("sys/kernel/osrelease", "6.18.0\n");
    write("sys/kernel/random/boot_id", "b00t\n");
    write("uptime", "100.00 50.00\n");
    proc.process(
        10,
        1,
        500,
        "/usr/bin/python3.11",
        &[b"python3", b"app.py", b"--password=x"],
    );
    proc.put(10, "cgroup", format!("0::/docker/{ID}\n").as_bytes());
    proc
}

#[test]
fn of_a_fixture() {
    let proc = machine();
    let (_, resources, stats) = resources(&proc.root);
    let resource = resources.met(10, "python3");
    let mut keys: Vec<&str> = resource.attributes.iter().map(|a| &*a.key).collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all, "no key twice");
    for (key, value) in [
        ("service.name", "shop-1"),
        ("service.version", "agent's"),
        ("deployment.environment.name", "prod"),
        ("process.executable.name", "python3.11"),
        ("process.executable.path", "/usr/bin/python3.11"),
        ("process.command", "python3"),
        ("process.owner", "root"),
        ("process.runtime.name", "cpython"),
        ("process.runtime.version", "3.11"),
        ("container.id", ID),
        ("container.name", "shop-1"),
        ("container.image.name", "shop"),
        ("host.name", "box"),
        ("host.id", "3d1219c7c4c5404aaa1f6d2a48adfda4"),
        ("os.type", "linux"),
        ("os.name", "Debian"),
        ("os.version", "12"),
        ("os.description", "Debian 12 (Linux 6.18.0)"),
        ("telemetry.sdk.name", "spantap"),
        ("telemetry.sdk.language", "python"),
        ("telemetry.distro.name", "spantap"),
    ] {
        assert_eq!(text(&resource, key), Some(value), "{key}");
    }
    assert_eq!(int(&resource, "process.pid"), Some(10));
    assert_eq!(int(&resource, "process.parent_pid"), Some(1));
    assert!(text(&resource, "process.creation.time").is_some_and(|time| time.ends_with('Z')));
    let uuid = text(&resource, "service.instance.id").unwrap();
    assert_eq!((uuid.len(), uuid.as_bytes()[14]), (36, b'5'));
    let shown = format!("{resource:?}");
    assert!(!shown.contains("app.py") && !shown.contains("password"));
    assert_eq!(stats.resource_made.get(), 1);
}

#[test]
fn arguments_are_told_only_where_they_are_asked_for() {
    let proc = machine();
    proc.process(11, 1, 5, "/usr/bin/mysql", &[b"mysql -phunter13"]);
    proc.process(12, 1, 5, "/opt/a b/my shop", &[b"/opt/a b/my shop", b"zz9"]);
    proc.process(13, 1, 5, "/usr/sbin/sshd", &[b"sshd: ann [priv]"]);
    let (_, silent, _) = resources(&proc.root);
    let mut config = Config::default();
    config.redaction.command_args = true;
    let (_, telling, _) = configured(&proc.root, config);
    for (pid, command, args) in [
        (
            10,
            "python3",
            &["python3", "app.py", "--password=REDACTED"][..],
        ),
        (11, "mysql", &["mysql -pREDACTED"]),
        (12, "/opt/a b/my shop", &["/opt/a b/my shop", "zz9"]),
        (13, "sshd", &["sshd: ann [priv]"]),
    ] {
        let all = silent.met(pid, "x");
        assert_eq!(text(&all, "process.command"), Some(command));
        assert!(
            !all.attributes
                .iter()
                .any(|a| a.key == "process.command_args")
        );
        for secret in ["hunter13", "zz9", "ann"] {
            assert!(!format!("{all:?}").contains(secret), "{secret} in {all:?}");
        }
        let all = telling.met(pid, "x");
        let told = all
            .attributes
            .iter()
            .find(|a| a.key == "process.command_args");
        let words = args.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(told.map(|a| &a.value), Some(&Value::List(words)));
    }
}

#[test]
fn the_order_of_names() {
    let proc = Proc::make();
    let (processes, resources, stats) = resources(&proc.root);
    let check = |environ: &str, name: &str, version: Option<&str>| {
        proc.process(10, 1, 5, "/usr/bin/shop", &[b"shop"]);
        proc.put(10, "environ", environ.as_bytes());
        processes.execed(&Process {
            process: 10,
            parent: 1,
            time: 0,
            comm: "shop".into(),
        });
        resources.execed(10, 1);
        let resource = resources.of(10, 1);
        assert_eq!(resource.service(), name, "{environ}");
        assert_eq!(text(&resource, "service.version"), version, "{environ}");
        assert_eq!(text(&resource, "telemetry.sdk.name"), Some("spantap"));
    };
    let agents = Some("agent's");
    check("", "shop", agents);
    check(
        "OTEL_SERVICE_NAME=a\0OTEL_RESOURCE_ATTRIBUTES=service.name=b,service.version=2",
        "a",
        Some("2"),
    );
    check("OTEL_RESOURCE_ATTRIBUTES=service.name=b%20c", "b c", agents);
    check(
        "OTEL_SERVICE_NAME=\0OTEL_RESOURCE_ATTRIBUTES=service.name=b",
        "b",
        agents,
    );
    check("OTEL_RESOURCE_ATTRIBUTES=service.name=", "shop", agents);
    check("OTEL_RESOURCE_ATTRIBUTES=service.name=b,%", "shop", agents);
    check(
        "OTEL_RESOURCE_ATTRIBUTES=telemetry.sdk.name=x,service.instance.id=7",
        "shop",
        agents,
    );
    assert_eq!(
        text(&resources.of(10, Nanos::MAX), "service.instance.id"),
        Some("7")
    );
    assert_eq!(stats.resource_malformed.get(), 1);
}

#[test]
fn one_instance_is_one_address() {
    let proc = Proc::make();
    let (processes, resources, _) = resources(&proc.root);
    proc.process(10, 1, 5, "/usr/bin/one", &[b"one"]);
    let one = resources.met(10, "one");
    assert!(Arc::ptr_eq(&one, &resources.of(10, 2)));
    assert!(Arc::ptr_eq(&one, &resources.met(10, "one")));
    processes.exited(10);
    proc.remove(10);
    assert!(
        Arc::ptr_eq(&one, &resources.of(10, 1)),
        "its spans are still to come"
    );
    proc.process(10, 1, 6, "/usr/bin/one", &[b"one"]);
    resources.exited(10, 5);
    let again = resources.meet_at(10, "one", 6);
    assert_ne!(
        text(&one, "service.instance.id"),
        text(&again, "service.instance.id")
    );
    processes.execed(&Process {
        process: 10,
        parent: 1,
        time: 0,
        comm: "one".into(),
    });
    resources.execed(10, 9);
    assert!(
        !Arc::ptr_eq(&again, &resources.of(10, 9)),
        "another program"
    );
    // Gone before anything could be read.
    let gone = resources.met(11, "curl");
    assert_eq!(gone.service(), "curl");
    assert_eq!(int(&gone, "process.pid"), Some(11));
    let unread = |resource: &Resource| {
        let mut all = resource.attributes.iter();
        all.any(|a| a.key == "spantap.process.unread" && a.value == Value::Bool(true))
    };
    assert!(unread(&gone) && !unread(&again));
}

#[test]
fn many_processes_are_bounded() {
    let proc = Proc::make();
    let (processes, resources, stats) = resources(&proc.root);
    for pid in 0..10_000 {
        resources.met(pid, "x");
        processes.exited(pid);
    }
    assert!(stats.resource_evicted.get() >= 10_000 - MAX_RESOURCES as u64);
    assert!(stats.target_evicted.get() >= 5_000);
}

#[test]
fn many_threads_make_one() {
    let proc = Proc::make();
    proc.process(10, 1, 5, "/usr/bin/one", &[b"one"]);
    let (processes, resources, _) = resources(&proc.root);
    processes.get(10);
    let made: Vec<Arc<Resource>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| resources.of(10, 1)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(made.iter().all(|resource| Arc::ptr_eq(resource, &made[0])));
}

#[test]
fn of_a_real_process() {
    let (processes, resources, stats) = resources(PROC);
    let targets = Targets::new(processes, &Default::default(), None, stats);
    assert!(!targets.judge(std::process::id()).is_traced());
    let Some(real) = Real::start(
        "python3",
        &["-m", "http.server", "0", "--bind", "127.0.0.1"],
        "/python3",
    ) else {
        eprintln!("python3 is not here: not tried");
        return;
    };
    assert!(targets.judge(real.pid()).is_traced());
    let resource = resources.met(real.pid(), "python3");
    assert_eq!(resource.service(), "declared");
    assert_eq!(text(&resource, "service.version"), Some("1.2"));
    assert_eq!(text(&resource, "team"), Some("a b"));
    assert_eq!(text(&resource, "process.runtime.name"), Some("cpython"));
    let started = text(&resource, "process.creation.time").unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert_eq!(started.get(..10), host::iso8601(now).get(..10), "{started}");
    let shown = format!("{resource:#?}");
    assert!(!shown.contains("must-not-be-kept"));
    eprintln!("{shown}");
}

#[test]
#[ignore = "a measurement: run in release mode"]
fn resource_cost() {
    let (processes, resources, _) = resources(PROC);
    let own = std::process::id();
    resources.met(own, "x");
    let time = |name: &str, n: u32, run: &mut dyn FnMut()| {
        let began = std::time::Instant::now();
        for _ in 0..n {
            run();
        }
        println!(
            "{name}: {:.2} µs",
            began.elapsed().as_nanos() as f64 / f64::from(n) / 1000.0
        );
    };
    time("of, known", 100_000, &mut || drop(resources.of(own, 1)));
    time("observe, known", 100_000, &mut || {
        resources.observe(own, "x", 1);
    });
    let event = Process {
        process: own,
        parent: 1,
        time: 0,
        comm: "x".into(),
    };
    time(
        "exec: snapshot and resource, file known",
        2_000,
        &mut || {
            processes.execed(&event);
            resources.execed(own, 1);
            resources.catch_up();
            drop(resources.of(own, 1));
        },
    );
}

/// A process fetches, then becomes another program; then its id becomes another process's.
#[test]
fn a_span_is_whose_the_process_was_when_it_began() {
    let proc = Proc::make();
    let (processes, resources, _) = resources(&proc.root);
    let name = |at| resources.of(10, at).service().to_owned();
    let exec = |comm: &str, at| {
        processes.execed(&Process {
            process: 10,
            parent: 1,
            time: at,
            comm: comm.into(),
        });
        resources.execed(10, at);
    };
    proc.process(10, 1, 5, "/usr/bin/fetch", &[b"fetch"]);
    resources.observe(10, "fetch", 100);
    proc.process(10, 1, 5, "/bin/sleep", &[b"sleep"]);
    exec("sleep", 200);
    assert_eq!(
        (&*name(100), &*name(199), &*name(200)),
        ("fetch", "fetch", "sleep")
    );
    processes.exited(10);
    resources.exited(10, 300);
    proc.process(10, 1, 7, "/bin/worker", &[b"worker"]);
    resources.observe(10, "worker", 400);
    assert_eq!(
        (&*name(100), &*name(299), &*name(350)),
        ("fetch", "sleep", "worker")
    );
    // Only the last few are kept; what is older counts as the eldest's.
    for n in 0..100u64 {
        exec("worker", 1000 + n);
    }
    assert_eq!(name(100), "worker");
}

#[test]
fn what_files_tell_is_filled_in_and_not_waited_for_too_long() {
    let proc = Proc::make();
    let (_, resources, stats) = resources(&proc.root);
    // In C, Go or Rust: only the file can tell.
    proc.process(10, 1, 5, "/usr/bin/shop", &[b"shop"]);
    resources.observe(10, "shop", 1);
    assert!(!resources.is_settled(10, 1));
    assert_eq!(resources.multiplexes_threads(10), None);
    std::thread::sleep(PATIENCE);
    assert!(resources.is_settled(10, 1));
    assert!(resources.is_settled(10, 1));
    assert_eq!(stats.resource_late.get(), 1);
    let early = resources.of(10, 1);
    assert_eq!(
        (early.service(), text(&early, "process.owner")),
        ("shop", None)
    );
    assert!(resources.is_asked(10));
    resources.catch_up();
    let late = resources.of(10, 1);
    assert_eq!(text(&late, "process.owner"), Some("root"));
    assert_eq!(resources.multiplexes_threads(10), Some(false));
    assert!(Arc::ptr_eq(&late, &resources.of(10, 1)));
    // Told by its name.
    proc.process(11, 1, 5, "/usr/bin/node", &[b"node"]);
    resources.observe(11, "node", 1);
    assert_eq!(resources.multiplexes_threads(11), Some(true));
    // Nothing to be found out.
    resources.answer(&resources.processes.get(11), None);
    assert!(resources.is_settled(11, 1) && !resources.is_asked(11));
    assert_eq!(stats.resource_late.get(), 2);
}

#[test]
fn what_is_asked_is_bounded() {
    let proc = Proc::make();
    let (_, resources, stats) = resources(&proc.root);
    proc.process(1, 0, 5, "/bin/x", &[b"x"]);
    let process = resources.processes.get(1);
    for pid in 0..5000 {
        let snapshot = Snapshot {
            pid,
            ..(*process).clone()
        };
        resources.meet(Arc::new(snapshot), 1);
    }
    assert_eq!(resources.asked().len(), MAX_ASKED);
    assert_eq!(stats.resource_late.get(), 5000 - MAX_ASKED as u64);
    assert!(resources.is_settled(4999, 1));
}

#[test]
fn programs_go_by_the_name_they_were_started_under() {
    for (exe, comm, argv, program) in [
        (
            "/usr/bin/redis-check-rdb",
            "redis-server",
            &["/usr/bin/redis-server *:6379"][..],
            "redis-server",
        ),
        // The kernel knows no such name.
        (
            "/usr/bin/redis-check-rdb",
            "x",
            &["redis-server"],
            "redis-check-rdb",
        ),
        // The service is what an interpreter runs; the program is the interpreter.
        (
            "/usr/bin/python3.11",
            "python3",
            &["python3", "/srv/shop.py"],
            "python3",
        ),
        (
            "/usr/bin/python3.11",
            "python3",
            &["python3", "-c", "0"],
            "python3",
        ),
        (
            "/usr/sbin/nginx",
            "nginx",
            &["nginx: worker process"],
            "nginx",
        ),
        ("/bin/busybox", "httpd", &["httpd", "-f"], "httpd"),
    ] {
        let process = Snapshot {
            exe: Some(exe.into()),
            comm: comm.into(),
            argv: argv.iter().map(|word| (*word).into()).collect(),
            ..Snapshot::default()
        };
        assert_eq!(attributes::program(&process), program, "{argv:?}");
    }
    assert_eq!(attributes::program(&Snapshot::gone(7, 1, "curl")), "curl");
}

const POD: &str = "073d9428-b92d-46fa-83a7-a10de3d45bdf";

fn cart(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Pod {
    let texts = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|&(key, value)| (key.into(), value.into()))
            .collect()
    };
    Pod {
        uid: POD.into(),
        namespace: "shop".into(),
        name: "cart-6bd65fb88c-x2x".into(),
        started: Some("2026-11-23T10:00:00Z".into()),
        labels: texts(labels),
        annotations: texts(annotations),
        owner: Some(Owner {
            kind: "ReplicaSet".into(),
            name: "cart-6bd65fb88c".into(),
            uid: "rs".into(),
        }),
        containers: vec![Container {
            name: "app".into(),
            image: "reg:5000/shop/cart:1.4".into(),
            id: ID.into(),
            last: Box::default(),
            restarts: 2,
        }],
        ..Pod::default()
    }
}

/// The machine's process is in a container of a pod.
fn in_a_pod(cgroup: &str, config: Config) -> (Proc, Arc<Cluster>, Resources, Arc<Stats>) {
    let proc = machine();
    proc.put(10, "cgroup", format!("0::{cgroup}\n").as_bytes());
    let stats = Arc::new(Stats::default());
    let processes = Arc::new(Processes::new(&proc.root, Arc::clone(&stats)));
    let cluster = Arc::new(Cluster::new("node-1", Arc::clone(&stats)));
    let known = Some(Arc::clone(&cluster));
    let resources = Resources::new(processes, &config, known, Arc::clone(&stats));
    (proc, cluster, resources, stats)
}

#[test]
fn of_a_pod() {
    let cgroup = format!("/kubepods/burstable/pod{POD}/{ID}");
    let mut config = Config::default();
    config.kubernetes.labels = vec!["team*".into()];
    let (_proc, cluster, resources, _) = in_a_pod(&cgroup, config);
    cluster.put_node(|node| {
        node.region = Some("eu-1".into());
        node.cluster = Some("c1".into());
    });
    let labels = [
        ("pod-template-hash", "6bd65fb88c"),
        ("team", "blue"),
        ("app", "x"),
    ];
    let annotations = [
        (
            "resource.opentelemetry.io/deployment.environment.name",
            "test",
        ),
        // It is not its to say.
        ("resource.opentelemetry.io/k8s.namespace.name", "payments"),
    ];
    cluster.put_pod(cart(&labels, &annotations));
    let resource = resources.met(10, "python3");
    for (key, value) in [
        ("service.name", "cart"),
        ("service.namespace", "shop"),
        ("service.version", "1.4"),
        ("service.instance.id", "shop.cart-6bd65fb88c-x2x.app"),
        ("deployment.environment.name", "test"),
        ("k8s.pod.name", "cart-6bd65fb88c-x2x"),
        ("k8s.pod.uid", POD),
        ("k8s.pod.start_time", "2026-11-23T10:00:00Z"),
        ("k8s.pod.label.team", "blue"),
        ("k8s.namespace.name", "shop"),
        ("k8s.deployment.name", "cart"),
        ("k8s.replicaset.name", "cart-6bd65fb88c"),
        ("k8s.replicaset.uid", "rs"),
        ("k8s.container.name", "app"),
        ("k8s.node.name", "node-1"),
        ("k8s.cluster.uid", "c1"),
        ("cloud.region", "eu-1"),
        ("container.id", ID),
        ("container.image.name", "reg:5000/shop/cart"),
    ] {
        assert_eq!(text(&resource, key), Some(value), "{key}");
    }
    assert_eq!(int(&resource, "k8s.container.restart_count"), Some(2));
    for key in [
        "k8s.pod.label.app",
        "k8s.deployment.uid",
        "cloud.availability_zone",
    ] {
        assert_eq!(text(&resource, key), None, "{key}");
    }
    // Its labels were changed: it is another resource; and nothing was.
    let relabelled = [("pod-template-hash", "6bd65fb88c"), ("team", "red")];
    cluster.put_pod(cart(&relabelled, &annotations));
    let changed = resources.of(10, 1);
    assert_eq!(text(&changed, "k8s.pod.label.team"), Some("red"));
    cluster.put_pod(cart(&relabelled, &annotations));
    assert!(Arc::ptr_eq(&changed, &resources.of(10, 1)));
    // What is forgotten of it was true.
    cluster.list_pods();
    cluster.listed_pods();
    assert_eq!(
        text(&resources.of(10, 1), "k8s.pod.label.team"),
        Some("red")
    );
}

#[test]
fn who_a_service_is_by_annotation_label_owner() {
    let cgroup = format!("/kubepods/pod{POD}/{ID}");
    let well_known = [
        ("app.kubernetes.io/name", "carts"),
        ("app.kubernetes.io/version", "7"),
    ];
    let annotated = [("resource.opentelemetry.io/service.name", "basket")];
    for (asked, annotations, name, version) in [
        (false, &[][..], "cart-6bd65fb88c", "1.4"),
        (true, &[][..], "carts", "7"),
        (true, &annotated[..], "basket", "7"),
    ] {
        let mut config = Config::default();
        config.kubernetes.service_labels = asked;
        let (_proc, cluster, resources, _) = in_a_pod(&cgroup, config);
        cluster.put_pod(cart(&well_known, annotations));
        let resource = resources.met(10, "python3");
        assert_eq!(text(&resource, "service.name"), Some(name));
        assert_eq!(text(&resource, "service.version"), Some(version));
    }
}

#[test]
fn a_pod_is_waited_for_and_no_longer_than_is_said() {
    let cgroup = format!("/kubepods/pod{POD}/{ID}");
    let mut config = Config::default();
    config.kubernetes.wait = Duration::from_millis(50);
    let (_proc, cluster, resources, stats) = in_a_pod(&cgroup, config.clone());
    resources.met(10, "python3");
    assert!(!resources.is_settled(10, 1));
    std::thread::sleep(Duration::from_millis(60));
    assert!(resources.is_settled(10, 1) && resources.is_settled(10, 1));
    assert_eq!(stats.resource_pod_late.get(), 1);
    assert_eq!(text(&resources.of(10, 1), "k8s.pod.name"), None);
    // Better late than never.
    cluster.put_pod(cart(&[], &[]));
    assert!(text(&resources.of(10, 1), "k8s.pod.name").is_some());

    config.kubernetes.wait = Duration::from_secs(60);
    let (_proc, cluster, resources, stats) = in_a_pod(&cgroup, config);
    resources.met(10, "python3");
    // Its container has no id yet.
    let mut young = cart(&[], &[]);
    young.containers[0].id = Box::default();
    cluster.put_pod(young);
    assert!(!resources.is_settled(10, 1));
    // It is the only one that it can be.
    let unsettled = resources.of(10, 1);
    assert_eq!(text(&unsettled, "k8s.container.name"), Some("app"));
    assert_eq!(int(&unsettled, "k8s.container.restart_count"), None);
    cluster.put_pod(cart(&[], &[]));
    assert!(resources.is_settled(10, 1));
    // Who made its Job is not known yet.
    let mut job = cart(&[], &[]);
    job.owner = Some(Owner {
        kind: "Job".into(),
        name: "report-2934".into(),
        uid: "j".into(),
    });
    let (_proc, other, resources, _) = in_a_pod(&cgroup, Config::default());
    resources.met(10, "python3");
    other.put_pod(job);
    assert!(!resources.is_settled(10, 1));
    other.put_owner("j", None);
    assert!(resources.is_settled(10, 1));
    assert_eq!(
        text(&resources.of(10, 1), "service.name"),
        Some("report-2934")
    );
    assert_eq!(stats.resource_pod_late.get(), 0);
}

#[test]
fn another_pod_s_name_within_one_s_own_is_not_believed() {
    let other = "11111111-b92d-46fa-83a7-a10de3d45bdf";
    let cgroup = format!(
        "/kubepods/pod{POD}/{ID}/kubepods/pod{other}/{}",
        ID.replace('c', "d")
    );
    let (_proc, cluster, resources, _) = in_a_pod(&cgroup, Config::default());
    for (uid, name) in [(other, "victim"), (POD, "cart")] {
        cluster.put_pod(Pod {
            uid: uid.into(),
            name: name.into(),
            ..cart(&[], &[])
        });
    }
    let resource = resources.met(10, "python3");
    assert_eq!(text(&resource, "k8s.pod.name"), Some("cart"));
    assert_eq!(text(&resource, "container.id"), Some(ID));
}
