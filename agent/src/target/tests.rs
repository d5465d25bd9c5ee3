//! Fixture trees, real processes of this machine, hostile contents, reused ids.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use super::fixture::{Proc, Real};
use super::listen::Listeners;
use super::process::Reader;
use super::runtime::{Runtime, Runtimes};
use super::*;
use crate::config::Selection;
use crate::event::Process;
use crate::stats::Stats;

fn targets(proc: &Proc, selection: &Selection) -> Targets {
    let stats = Arc::new(Stats::default());
    let processes = Arc::new(Processes::new(proc.root.clone(), Arc::clone(&stats)));
    Targets::new(processes, selection, stats)
}

fn exec(process: u32, parent: u32, comm: &str) -> Process {
    Process {
        process,
        parent,
        time: 0,
        comm: comm.into(),
    }
}

#[test]
fn a_process_of_a_fixture() {
    let proc = Proc::make();
    proc.process(
        10,
        3,
        99,
        "/usr/bin/shop (deleted)",
        &[b"shop", b"", b"--x", b"\xff\xfe"],
    );
    proc.put(10, "environ", b"PATH=/bin\0OTEL_SERVICE_NAME= a b \0XOTEL_SERVICE_NAME=no\0OTEL_SERVICE_NAMES=no\0OTEL_RESOURCE_ATTRIBUTES=\0");
    proc.put(
        10,
        "cgroup",
        b"4:memory:/kubepods/x\n0::/a/b\n1:name=systemd:/a/b\n2:cpu:/\n",
    );
    proc.put(10, "ns/mnt", b"");
    std::os::unix::fs::symlink("net:[4026531840]", proc.root.join("10/ns/net")).unwrap();
    let snapshot = Reader::new(&proc.root).read(10).unwrap();
    assert_eq!((snapshot.pid, snapshot.parent, snapshot.start), (10, 3, 99));
    assert_eq!(snapshot.exe.as_deref(), Some("/usr/bin/shop"));
    assert!(snapshot.exe_deleted && snapshot.seen);
    assert_eq!(
        snapshot.argv.iter().map(|a| &**a).collect::<Vec<_>>(),
        ["shop", "", "--x", "\u{fffd}\u{fffd}"]
    );
    assert_eq!(snapshot.environ.service_name.as_deref(), Some("a b"));
    assert_eq!(snapshot.environ.resource_attributes, None);
    assert_eq!(snapshot.cgroup(), "/a/b");
    assert_eq!(snapshot.cgroups.len(), 3);
    assert_eq!(snapshot.inner_pid, 7);
    assert_eq!(snapshot.owner.as_deref(), Some("root"));
    assert_eq!(snapshot.namespaces.net, 4_026_531_840);
    assert_eq!(snapshot.namespaces.mount, 0);
}

#[test]
fn hostile_contents() {
    let proc = Proc::make();
    let mut reader = Reader::new(&proc.root);
    for stat in [
        &b""[..],
        b"1",
        b"1 (",
        b"1 (x)",
        b"(x) S",
        b"1 (x) S",
        b"1 (x) S a",
        b")(",
        b"\xff\xff",
    ] {
        proc.process(5, 1, 1, "/x", &[b"x"]);
        proc.put(5, "stat", stat);
        assert_eq!(reader.read(5), None, "{stat:?}");
    }
    let zeros = "0 ".repeat(17);
    proc.put(
        5,
        "stat",
        format!("5 (a) b) (c) S 4 {zeros}77 0").as_bytes(),
    );
    let huge = vec![b'a'; 3 << 20];
    proc.put(5, "cmdline", &huge);
    proc.put(5, "environ", &huge);
    proc.put(
        5,
        "cgroup",
        &[b"0::/".to_vec(), huge.clone(), b"\n9:\n:::\nx\n".to_vec()].concat(),
    );
    proc.put(5, "status", b"Uid:\tx\nNSpid:\t-1\nUid");
    let snapshot = reader.read(5).unwrap();
    assert_eq!(
        (&*snapshot.comm, snapshot.parent, snapshot.start),
        ("a) b) (c", 4, 77)
    );
    assert!(snapshot.argv.iter().map(|a| a.len()).sum::<usize>() <= 4096);
    assert_eq!(snapshot.uid, None);
    assert_eq!(snapshot.owner, None);
    // Very many arguments; the last of a long class path is still there.
    let class_path = vec![b'p'; 100_000];
    proc.put(
        5,
        "cmdline",
        &[
            b"java\0-cp\0".to_vec(),
            class_path,
            b"\0com.acme.Main\0".to_vec(),
        ]
        .concat(),
    );
    assert_eq!(
        reader.read(5).unwrap().argv.last().map(|a| &**a),
        Some("com.acme.Main")
    );
    proc.put(5, "cmdline", &b"x\0".repeat(100_000));
    assert_eq!(reader.read(5).unwrap().argv.len(), 256);
    for empty in [&b""[..], b"\0", b"\0\0\0"] {
        proc.put(5, "cmdline", empty);
        assert!(reader.read(5).unwrap().argv.is_empty());
    }
    assert_eq!(reader.read(6), None);
}

#[test]
fn real_programs() {
    let runtimes = Runtimes::new(PROC);
    let mut reader = Reader::new(PROC);
    let mut check = |program: &str, arguments: &[&str], exe: &str, expected: Runtime| {
        let Some(real) = Real::start(program, arguments, exe) else {
            eprintln!("{program} is not here: not tried");
            return;
        };
        let snapshot = reader.read(real.pid()).unwrap();
        assert_eq!(snapshot.parent, std::process::id());
        assert_eq!(
            snapshot.environ.service_name.as_deref(),
            Some("declared"),
            "{program}: {snapshot:?}"
        );
        assert!(!format!("{snapshot:?}").contains("must-not-be-kept"));
        assert!(snapshot.owner.is_some() && snapshot.cwd.is_some() && snapshot.start > 0);
        assert!(
            snapshot.namespaces.mount > 0
                && snapshot.namespaces.net > 0
                && snapshot.namespaces.pid > 0
        );
        let found = runtimes.of(&snapshot);
        assert_eq!(found.runtime, expected, "{program}: {snapshot:?}");
        assert_eq!(runtimes.of(&snapshot), found, "from the cache");
        eprintln!("{program}: {:?} {:?}", found.runtime, found.version);
    };
    check("python3", &["-c", "input()"], "/python3", Runtime::Python);
    check(
        "node",
        &["-e", "setTimeout(()=>0,1e6)"],
        "/node",
        Runtime::Node,
    );
    check("perl", &["-e", "<STDIN>"], "/perl", Runtime::Perl);
    check(
        "java",
        &["-XshowSettings:none", "-cp", "/", "Missing"],
        "/java",
        Runtime::Jvm,
    );
    check("go", &["tool", "-n", "vet"], "/go", Runtime::Go);
    check("cat", &[], "/cat", Runtime::Native);
}

#[test]
fn a_copied_program_is_known_by_its_file() {
    let own = std::env::current_exe().unwrap();
    let Some(real) = Real::start(own.to_str().unwrap(), &["--ignored", "sleeper"], "spantap")
    else {
        panic!("the test itself must start");
    };
    let snapshot = Reader::new(PROC).read(real.pid()).unwrap();
    assert_eq!(Runtimes::new(PROC).of(&snapshot).runtime, Runtime::Rust);
}

#[test]
#[ignore = "started by another test"]
fn sleeper() {
    std::thread::sleep(std::time::Duration::from_secs(20));
}

#[test]
fn ids_are_reused() {
    let proc = Proc::make();
    let stats = Arc::new(Stats::default());
    let processes = Processes::new(proc.root.clone(), Arc::clone(&stats));
    proc.process(10, 1, 5, "/bin/one", &[b"one"]);
    let one = processes.sight(10, "one");
    assert!(Arc::ptr_eq(&one, &processes.get(10)));
    processes.exited(10);
    proc.remove(10);
    assert!(
        Arc::ptr_eq(&one, &processes.get(10)),
        "its spans are still to come"
    );
    proc.process(10, 1, 6, "/bin/two", &[b"two"]);
    assert!(
        Arc::ptr_eq(&one, &processes.get(10)),
        "nobody saw the other one yet"
    );
    let two = processes.sight(10, "two");
    assert_eq!(two.exe_name(), "two");
    proc.process(10, 1, 6, "/bin/three", &[b"three"]);
    let three = processes.execed(&exec(10, 1, "three"));
    assert_eq!((three.exe_name(), three.start), ("three", 6));
    assert!(!Arc::ptr_eq(&two, &three));
    // Gone before it could be read: the kernel's name, and what exec does not change.
    proc.remove(10);
    let four = processes.execed(&exec(10, 1, "four"));
    assert_eq!(
        (&*four.comm, four.exe_name(), four.start, four.seen),
        ("four", "four", 6, false)
    );
    assert_eq!(four.owner.as_deref(), Some("root"));
    assert_eq!(
        (stats.target_snapshots.get(), stats.target_gone.get()),
        (3, 1)
    );
    // Asked for before anyone knew a name for it.
    assert_eq!(processes.get(77).exe_name(), "");
    assert_eq!(processes.sight(77, "late").exe_name(), "");
}

fn world() -> Proc {
    let proc = Proc::make();
    let id = "1fa3efb2c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
    proc.process(1, 0, 1, "/sbin/init", &[b"init"]);
    proc.process(100, 1, 10, "/usr/sbin/nginx", &[b"nginx: master process"]);
    proc.process(101, 100, 11, "/usr/sbin/nginx", &[b"nginx: worker process"]);
    proc.put(
        101,
        "cgroup",
        format!("0::/system.slice/docker-{id}.scope\n").as_bytes(),
    );
    proc.process(
        200,
        1,
        12,
        "/usr/bin/python3.11",
        &[b"python3", b"/srv/app.py"],
    );
    proc.put(200, "cgroup", b"0::/system.slice/app.service\n");
    proc.process(201, 200, 13, "/usr/bin/curl", &[b"curl", b"http://h/"]);
    proc.process(300, 2, 14, "", &[]);
    proc.process(
        std::process::id(),
        50,
        15,
        "/usr/bin/spantap",
        &[b"spantap"],
    );
    proc.process(50, 1, 16, "/bin/bash", &[b"bash"]);
    proc
}

fn check(selection: &Selection, expected: &[u32]) {
    let proc = world();
    let targets = targets(&proc, selection);
    let mut traced: Vec<u32> = targets
        .scan()
        .into_iter()
        .filter(|(_, v)| v.is_traced())
        .map(|(pid, _)| pid)
        .collect();
    traced.sort_unstable();
    assert_eq!(traced, expected, "{selection:?}");
    assert_eq!(
        targets.judge(std::process::id()),
        Verdict::Ignored(Reason::Agent)
    );
    assert_eq!(targets.judge(50), Verdict::Ignored(Reason::Agent));
    assert_eq!(targets.changes().len(), 8);
    assert_eq!(targets.changes().len(), 0);
}

#[test]
fn selections() {
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let all = Selection::default();
    check(&all, &[1, 100, 101, 200, 201, 300]);
    let by = |commands: &[&str]| Selection {
        commands: texts(commands),
        ..Selection::default()
    };
    check(&by(&["nginx"]), &[100, 101]);
    check(&by(&["/usr/bin/*"]), &[200, 201]);
    check(&by(&["*app.py"]), &[200]);
    check(&by(&["python*", "curl"]), &[200, 201]);
    check(&by(&["nothing"]), &[]);
    check(
        &Selection {
            exclude_commands: texts(&["nginx"]),
            ..Selection::default()
        },
        &[1, 200, 201],
    );
    check(
        &Selection {
            pids: vec![200],
            ..Selection::default()
        },
        &[200, 201],
    );
    check(
        &Selection {
            pids: vec![1],
            ..Selection::default()
        },
        &[1, 100, 101, 200, 201],
    );
    check(
        &Selection {
            containers: texts(&["1fa3efb2c0ff"]),
            ..Selection::default()
        },
        &[101],
    );
    check(
        &Selection {
            containers: texts(&["1fa3efb2c0"]),
            ..Selection::default()
        },
        &[],
    );
    check(
        &Selection {
            containers: texts(&["1fa*"]),
            ..Selection::default()
        },
        &[101],
    );
    check(
        &Selection {
            cgroups: texts(&["/system.slice/*"]),
            ..Selection::default()
        },
        &[101, 200],
    );
    let both = Selection {
        pids: vec![200],
        commands: texts(&["curl"]),
        ..Selection::default()
    };
    check(&both, &[201]);
}

#[test]
fn ports() {
    let selector = |ports: &[u16], exclude: &[u16]| {
        Selector::new(
            &Selection {
                ports: ports.into(),
                exclude_ports: exclude.into(),
                ..Selection::default()
            },
            Vec::new(),
        )
    };
    assert!(selector(&[], &[]).port_selected(1, 2));
    assert!(selector(&[2], &[]).port_selected(1, 2));
    assert!(selector(&[1], &[]).port_selected(1, 2));
    assert!(!selector(&[3], &[]).port_selected(1, 2));
    assert!(!selector(&[1], &[2]).port_selected(1, 2));
}

#[test]
fn descendants_stay_selected() {
    let proc = world();
    let targets = targets(
        &proc,
        &Selection {
            pids: vec![200],
            ..Selection::default()
        },
    );
    assert!(targets.judge(201).is_traced());
    // The parent ends, the child is adopted by init and calls exec.
    targets.exited(200);
    proc.remove(200);
    proc.process(201, 1, 13, "/usr/bin/wget", &[b"wget"]);
    assert!(targets.execed(&exec(201, 1, "wget")).is_traced());
    // Its own child is a descendant too.
    proc.process(202, 201, 20, "/usr/bin/curl", &[b"curl"]);
    assert!(targets.judge(202).is_traced());
    // Another process with its id is not.
    targets.exited(201);
    proc.process(201, 1, 99, "/usr/bin/other", &[b"other"]);
    assert_eq!(
        targets.execed(&exec(201, 1, "other")),
        Verdict::Ignored(Reason::Pid)
    );
    // A child that is gone already is judged by the parent the kernel named.
    assert!(targets.execed(&exec(203, 202, "curl")).is_traced());
    assert_eq!(
        targets.execed(&exec(204, 1, "curl")),
        Verdict::Ignored(Reason::Pid)
    );
}

#[test]
fn exec_changes_the_verdict() {
    let proc = world();
    let selection = Selection {
        commands: vec!["curl".into()],
        ..Selection::default()
    };
    let targets = targets(&proc, &selection);
    assert!(!targets.judge(100).is_traced());
    proc.process(100, 1, 10, "/usr/bin/curl", &[b"curl"]);
    assert!(!targets.judge(100).is_traced(), "not before exec is told");
    assert!(targets.execed(&exec(100, 1, "curl")).is_traced());
    let expected = [
        (100, Verdict::Ignored(Reason::Command)),
        (100, Verdict::Traced),
    ];
    assert_eq!(targets.changes(), expected);
    // Gone at once: the kernel's name is enough.
    assert!(targets.execed(&exec(900, 1, "curl")).is_traced());
}

#[test]
fn a_loop_of_parents_ends() {
    let proc = Proc::make();
    proc.process(10, 11, 1, "/a", &[b"a"]);
    proc.process(11, 10, 1, "/b", &[b"b"]);
    let targets = targets(
        &proc,
        &Selection {
            pids: vec![7],
            ..Selection::default()
        },
    );
    assert_eq!(targets.judge(10), Verdict::Ignored(Reason::Pid));
}

#[test]
fn listening_ports() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let six = TcpListener::bind("[::1]:0");
    let port = listener.local_addr().unwrap().port();
    let listeners = Listeners::new(PROC);
    let own = std::process::id();
    assert_eq!(listeners.is_listening(0, own, port), Some(true));
    if let Ok(six) = six {
        assert_eq!(
            listeners.is_listening(0, own, six.local_addr().unwrap().port()),
            Some(true)
        );
    }
    assert_eq!(listeners.is_listening(0, u32::MAX, port), None);
    let proc = Proc::make();
    let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    let row = |local: &str, state: &str| {
        format!(
            "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 7 1\n"
        )
    };
    let table = [
        head.to_owned(),
        row("0100007F:1F90", "0A"),
        row("0100007F:0050", "01"),
        row("00000000:0051", "0A"),
    ]
    .concat();
    proc.process(4, 1, 1, "/x", &[b"x"]);
    proc.put(4, "net/tcp", table.as_bytes());
    let listeners = Listeners::new(&proc.root);
    assert_eq!(listeners.ports(9, 4).map(|ports| ports.len()), Some(1));
    assert_eq!(listeners.is_listening(9, 4, 8080), Some(true));
    proc.put(4, "net/tcp", b"garbage\n 0: x y 0A\n");
    assert_eq!(listeners.is_listening(9, 4, 8080), Some(true), "cached");
    assert_eq!(listeners.ports(10, 4).map(|ports| ports.len()), Some(0));
}

#[test]
#[ignore = "a measurement: run in release mode"]
fn snapshot_cost() {
    let mut reader = Reader::new(PROC);
    let pids: Vec<u32> = Processes::new(PROC, Arc::default()).pids();
    for pid in &pids {
        reader.read(*pid);
    }
    let mut costs = Vec::new();
    for _ in 0..50 {
        for pid in &pids {
            let began = Instant::now();
            if reader
                .read(*pid)
                .is_some_and(|snapshot| snapshot.exe.is_some())
            {
                costs.push(began.elapsed().as_nanos());
            }
        }
    }
    costs.sort_unstable();
    let at = |share: usize| costs[costs.len() * share / 100] as f64 / 1000.0;
    println!(
        "snapshot: {} of {} processes, median {:.1} µs, p90 {:.1} µs, p99 {:.1} µs",
        costs.len(),
        pids.len(),
        at(50),
        at(90),
        at(99)
    );
    let began = Instant::now();
    for _ in 0..10_000 {
        reader.start(std::process::id());
    }
    println!(
        "start time alone: {:.1} µs",
        began.elapsed().as_micros() as f64 / 10_000.0
    );
    let own = reader.read(std::process::id()).unwrap();
    let began = Instant::now();
    for _ in 0..100 {
        Runtimes::new(PROC).of(&own);
    }
    println!(
        "runtime, first time per file: {:.1} µs",
        began.elapsed().as_micros() as f64 / 100.0
    );
    let runtimes = Runtimes::new(PROC);
    runtimes.of(&own);
    let began = Instant::now();
    for _ in 0..1000 {
        runtimes.of(&own);
    }
    println!(
        "runtime, file known: {:.1} µs",
        began.elapsed().as_micros() as f64 / 1000.0
    );
    let listeners = Listeners::new(PROC);
    let began = Instant::now();
    for _ in 0..1000 {
        listeners.ports(0, own.pid);
    }
    println!(
        "listening ports, uncached: {:.1} µs",
        began.elapsed().as_micros() as f64 / 1000.0
    );
}
