//! Fixture trees, real processes of this machine, hostile contents, reused ids.

use std::sync::Arc;
use std::time::Instant;

use super::fixture::{Proc, Real};
use super::process::Reader;
use super::runtime::{Runtime, Runtimes};
use super::users::Users;
use super::*;
use crate::event::{Nanos, Process};
use crate::stats::Stats;

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
    assert_eq!(
        Users::new(&proc.root).of(&snapshot).as_deref(),
        Some("root")
    );
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
        assert!(snapshot.uid.is_some() && snapshot.cwd.is_some() && snapshot.start > 0);
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
    check("gofmt", &[], "/gofmt", Runtime::Go);
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
    std::thread::sleep(std::time::Duration::from_secs(5));
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
    let four = processes.execed(&Process {
        time: Nanos::MAX - 1,
        ..exec(10, 1, "four")
    });
    assert_eq!(
        (&*four.comm, four.exe_name(), four.start, four.seen),
        ("four", "four", 6, false)
    );
    assert_eq!(four.uid, Some(0));
    assert_eq!(
        (stats.target_snapshots.get(), stats.target_gone.get()),
        (3, 1)
    );
    // Asked for before anyone knew a name for it.
    assert_eq!(processes.get(77).exe_name(), "");
    assert_eq!(processes.sight(77, "late").exe_name(), "");
}

/// A connection is told of by one ring before the exec by another, and by then the process is gone.
#[test]
fn an_exec_that_is_told_too_late_takes_nothing_back() {
    let proc = Proc::make();
    let stats = Arc::new(Stats::default());
    let processes = Processes::new(proc.root.clone(), Arc::clone(&stats));
    let late = |time| {
        processes.execed(&Process {
            time,
            ..exec(10, 1, "curl")
        })
    };
    proc.process(10, 1, 5, "/usr/bin/curl", &[b"curl", b"http://h/"]);
    let read = processes.sight(10, "curl");
    // A zombie has neither arguments nor an executable.
    proc.process(10, 1, 5, "", &[]);
    assert!(Arc::ptr_eq(&late(1), &read));
    proc.remove(10);
    assert!(Arc::ptr_eq(&late(1), &read));
    assert_eq!(stats.target_gone.get(), 0);
    // What was read before the exec is of another program.
    let gone = late(Nanos::MAX - 1);
    assert_eq!((gone.exe_name(), gone.is_bare()), ("curl", true));
    assert_eq!(stats.target_gone.get(), 1);
    proc.process(11, 1, 5, "", &[]);
    let zombie = processes.sight(11, "x");
    assert!(zombie.seen && zombie.is_bare());
    assert_eq!(stats.target_gone.get(), 2);
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
}

#[test]
fn who_gives_each_request_a_thread() {
    let gives = |exe: &str, argv: &str| {
        let process = Snapshot {
            exe: Some(exe.into()),
            argv: argv.split(' ').map(Box::from).collect(),
            ..Snapshot::default()
        };
        Runtimes::new(PROC).of(&process).gives_threads
    };
    let python = "/usr/bin/python3.11";
    for words in [
        "-k sync shop:app",
        "--threads 4 -kgthread shop:app",
        "shop:app --worker-class gthread",
        "--worker-class=sync shop:app",
    ] {
        let line = format!("python3 /usr/bin/gunicorn {words}");
        assert!(gives(python, &line), "{line}");
    }
    assert!(gives(python, "python3 -u -m gunicorn -k sync shop:app"));
    assert!(gives("/usr/sbin/apache2", "apache2"));
    for line in [
        "python3 /usr/bin/gunicorn shop:app",
        "python3 /usr/bin/gunicorn -k gevent shop:app",
        "python3 /usr/bin/gunicorn -k sync -k eventlet shop:app",
        "python3 /usr/bin/gunicorn -k sync --worker-cl=asgi shop:app",
        "python3 /usr/bin/gunicorn shop:app -k",
        "python3 shop.py gunicorn -k sync",
        "gunicorn: worker [shop:app]",
        "python3",
    ] {
        assert!(!gives(python, line), "{line}");
    }
    assert!(!gives("/usr/bin/ruby", "ruby /usr/bin/gunicorn -k sync"));
}
