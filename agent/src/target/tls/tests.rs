//! The plans of this machine's libraries, and the filter of names.

use std::fs::File;

use super::*;

#[test]
fn files_worth_opening() {
    for path in [
        "/usr/lib/x86_64-linux-gnu/libssl.so.3",
        "/usr/lib/x86_64-linux-gnu/libgnutls.so.30.34.3",
        "/usr/lib/libcrypto.so.1.1 (deleted)",
        "/venv/psycopg2_binary.libs/libssl-8a9b2c3d.so.1.1",
        "/venv/grpc/_cython/cygrpc.cpython-311-x86_64-linux-gnu.so",
        "/tmp/libnetty_tcnative_linux_x86_6413.so",
        "/venv/uvloop/loop.cpython-311-x86_64-linux-gnu.so",
    ] {
        assert!(may_hold_tls(path), "{path}");
    }
    for path in [
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/usr/lib/locale/locale-archive",
        "/etc/ssl/certs/ca.pem",
        "[vdso]",
        "",
    ] {
        assert!(!may_hold_tls(path), "{path}");
    }
}

/// The file's plans, printed; none, and says so, where it is not on this machine.
fn found(path: &str) -> Vec<Plan> {
    let Ok(file) = File::open(path) else {
        eprintln!("skipped: no {path} on this machine");
        return Vec::new();
    };
    let image = Image::open(file).unwrap();
    let plans: Vec<Plan> = plans(&image).into_iter().map(Result::unwrap).collect();
    for plan in &plans {
        for site in &plan.sites {
            let stepped = if site.stepped { ", stepped" } else { "" };
            eprintln!("{path}: {:?} at {:#x}{stepped}", site.hook, site.offset);
        }
        let mut offsets: Vec<u64> = plan.sites.iter().map(|site| site.offset).collect();
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!(offsets.len(), plan.sites.len(), "an offset twice");
    }
    plans
}

/// What a library with all of this must have.
fn check(plans: &[Plan], library: &str, hooks: &[Hook]) {
    if plans.is_empty() {
        return;
    }
    let plan = plans.iter().find(|plan| plan.library == library).unwrap();
    for hook in hooks {
        assert!(plan.sites.iter().any(|site| site.hook == *hook), "{hook:?}");
    }
    let is_entry = |site: &&Site| !matches!(site.hook, Hook::Done | Hook::DoneEx);
    let entries = plan.sites.iter().filter(is_entry);
    assert!(entries.count() < 12, "more than the functions there are");
    assert_eq!(plan.left_out, [], "every function can be read");
}

const OPENSSL: [Hook; 6] = [
    Hook::Handshake,
    Hook::Write,
    Hook::Read,
    Hook::Done,
    Hook::DoneEx,
    Hook::Free,
];

#[test]
fn openssl_as_a_library() {
    check(
        &found("/usr/lib/x86_64-linux-gnu/libssl.so.3"),
        "openssl",
        &OPENSSL,
    );
    let crypto = found("/usr/lib/x86_64-linux-gnu/libcrypto.so.3");
    check(&crypto, "openssl-bio", &[Hook::BioWrite]);
    assert!(crypto.iter().all(|plan| plan.library != "openssl"));
}

#[test]
fn openssl_inside_node() {
    let plans = found("/usr/bin/node");
    check(&plans, "openssl", &OPENSSL);
    check(&plans, "openssl-bio", &[Hook::BioWrite]);
}

#[test]
fn gnutls_as_a_library() {
    let hooks = [Hook::Write, Hook::Read, Hook::Done, Hook::Free];
    check(
        &found("/usr/lib/x86_64-linux-gnu/libgnutls.so.30"),
        "gnutls",
        &hooks,
    );
}

#[test]
fn others_have_none() {
    assert_eq!(found("/bin/true"), []);
}

/// gRPC's for Python, where the live tests or a user have installed it.
#[test]
fn boringssl_inside_grpc() {
    let paths = std::env::var("CYGRPC").unwrap_or_default();
    let hooks = [
        Hook::Write,
        Hook::Read,
        Hook::Done,
        Hook::BioWrite,
        Hook::Begin,
    ];
    for path in paths.split(':') {
        let plans = found(path);
        check(&plans, "boringssl", &hooks);
        let begins = |plan: &Plan| plan.sites.iter().filter(|s| s.hook == Hook::Begin).count();
        assert!(plans.iter().all(|plan| begins(plan) == 2), "{path}");
    }
}

/// `PROGRAMS=/usr/bin/node:/bin/x cargo test --release -- --ignored --nocapture plan_cost`
#[test]
#[ignore = "a measurement: run in release mode"]
fn plan_cost() {
    for path in std::env::var("PROGRAMS").unwrap().split(':') {
        let began = std::time::Instant::now();
        let image = Image::open(File::open(path).unwrap()).unwrap();
        let plans = plans(&image);
        eprintln!("{path}: {:?}", began.elapsed());
        for library in ALL {
            let began = std::time::Instant::now();
            library.plan(&image);
            eprintln!("  {}: {:?}", library.name(), began.elapsed());
        }
        for plan in plans {
            match plan {
                Ok(plan) => eprintln!("  {}: {:?}", plan.library, plan.left_out),
                Err(why) => eprintln!("  {why}"),
            }
        }
    }
}
