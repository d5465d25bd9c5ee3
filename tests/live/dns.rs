//! DNS: names asked for over UDP and TCP by three resolvers: the C library's, c-ares and Go's.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;

use anyhow::{Context as _, Result};
use spantap_tests::agent::Capture;
use spantap_tests::program::Setup;
use spantap_tests::{Case, Deed, Program, Stage, install};

use crate::deeds::{Cell, Way};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for driver in DRIVERS {
        for capture in [Capture::Socket, Capture::Syscall] {
            let name = format!("dns::{}::{}", driver.name, capture.name());
            cases.push(Case::new(name, move |stage| run(stage, driver, capture)));
        }
    }
    cases.push(Case::new("dns::fails", fails));
    cases
}

/// A resolver, and what it asks for.
struct Driver {
    name: &'static str,
    setup: fn(&Path) -> Result<Setup>,
    deeds: fn() -> Vec<Deed>,
    /// Whether it asks over TCP.
    tcp: bool,
}

const DRIVERS: &[Driver] = &[
    Driver {
        name: "glibc",
        setup: |folder| glibc(folder, ""),
        deeds: getaddrinfo,
        tcp: false,
    },
    Driver {
        name: "glibc-tcp",
        setup: |folder| glibc(folder, "use-vc"),
        deeds: getaddrinfo,
        tcp: true,
    },
    Driver {
        name: "c-ares",
        setup: |folder| cares(folder, &[SERVER]),
        deeds: || {
            let mut deeds = looked_up("www.test");
            // The answer that is cut short, and then the whole one.
            let long = question("TXT", "long.test", "NOERROR");
            deeds.push(long.clone().with("network.transport", "udp"));
            deeds.push(long.with("network.transport", "tcp"));
            deeds
        },
        tcp: false,
    },
    Driver {
        name: "go",
        setup: |folder| go(folder, "udp"),
        deeds: || looked_up("web.test"),
        tcp: false,
    },
    Driver {
        name: "go-tcp",
        setup: |folder| go(folder, "tcp"),
        deeds: || looked_up("web.test"),
        tcp: true,
    },
];

/// The C library asks port 53 and no other.
const SERVER: &str = "127.0.53.1:53";
/// Where nobody answers.
const DEAD: &str = "127.0.53.2:53";

/// `options` are resolv.conf's.
fn glibc(folder: &Path, options: &str) -> Result<Setup> {
    let (file, _) = install::app("dns/glibc.py")?;
    let settings = folder.join("resolv.conf");
    let (host, _) = SERVER.split_once(':').context("a port")?;
    fs::write(&settings, format!("nameserver {host}\nsearch .\n"))?;
    // In a mount namespace of its own, where these are the machine's settings.
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec python3 \"$1\"";
    let setup = Setup::new("glibc", folder, "unshare").args(["--mount", "sh", "-c", script]);
    let setup = setup.arg(settings).arg(file);
    Ok(match options {
        "" => setup,
        options => setup.env("RES_OPTIONS", options),
    })
}

fn cares(folder: &Path, servers: &[&str]) -> Result<Setup> {
    let (file, _) = install::app("dns/cares.js")?;
    let node = install::tool("node", &["nodejs"])?;
    Ok(Setup::new("node", folder, node).arg(file).args(servers))
}

fn go(folder: &Path, network: &str) -> Result<Setup> {
    let program = install::go_build("go-dns", "dns", &["main.go", "go.mod"])?;
    Ok(Setup::new("go", folder, program).args([SERVER, network]))
}

fn question(kind: &str, name: &str, code: &str) -> Deed {
    let deed = Deed::new(&format!("DNS {kind}"), [("dns.question.name", name)])
        .with("spantap.dns.question.type", kind)
        .with("spantap.dns.response_code", code)
        .with("network.protocol.name", "dns");
    match code {
        "NOERROR" => deed,
        "SERVFAIL" => deed.fails(code),
        code => deed.fails_client(code),
    }
}

fn found(kind: &str, name: &str, answer: &str) -> Deed {
    question(kind, name, "NOERROR").with("dns.answers", format!("[\"{answer}\"]"))
}

fn reverse() -> Deed {
    found("PTR", "3.2.1.10.in-addr.arpa", "web.test")
}

/// Of one name both families are asked for at once.
fn getaddrinfo() -> Vec<Deed> {
    vec![
        found("A", "web.test", "10.1.2.3"),
        found("AAAA", "web.test", "fd00::3"),
        question("A", "nope.test", "NXDOMAIN"),
        question("AAAA", "nope.test", "NXDOMAIN"),
        reverse(),
    ]
}

/// One type at a time; the address of the second family is asked for by this name.
fn looked_up(second: &str) -> Vec<Deed> {
    let mut address = found("AAAA", second, "fd00::3");
    if second != "web.test" {
        address = address.with("dns.answers", r#"["web.test","fd00::3"]"#);
    }
    vec![
        found("A", "web.test", "10.1.2.3"),
        address,
        found("SRV", "_http._tcp.web.test", "web.test"),
        reverse(),
        question("A", "nope.test", "NXDOMAIN"),
    ]
}

/// dnsmasq, which knows a few names and asks nobody.
fn serve(stage: &Stage) -> Result<Program> {
    let debian = install::debian("dnsmasq", &["dnsmasq-base"])?;
    let (host, port) = SERVER.split_once(':').context("a port")?;
    let mut text = format!(
        "no-resolv\nno-hosts\nno-daemon\nbind-interfaces\nuser=root\nport={port}\nlisten-address={host}\n\
         pid-file=\nlocal=/test/\nlocal=/10.in-addr.arpa/\nhost-record=web.test,10.1.2.3,fd00::3\n\
         ptr-record=3.2.1.10.in-addr.arpa,web.test\nsrv-host=_http._tcp.web.test,web.test,8080\n\
         cname=www.test,web.test\n"
    );
    for number in 0..20 {
        let line = format!("txt-record=long.test,{number:02}-{}\n", "x".repeat(200));
        text += &line;
    }
    let file = stage.folder.join("dnsmasq.conf");
    fs::write(&file, text)?;
    Setup::new("dnsmasq", &stage.folder, debian.file("usr/sbin/dnsmasq")?)
        .env("LD_LIBRARY_PATH", debian.libraries())
        .arg("-C")
        .arg(file)
        .port(53)
        .start()
}

fn run(stage: &mut Stage, driver: &Driver, capture: Capture) -> Result<()> {
    let server = serve(stage)?;
    let cell = Cell::new("dns", driver.name, &server, Way::NEW.by(capture));
    let agent = stage.agent()?.ports(&[53]);
    let setup = (driver.setup)(&stage.folder)?;
    let mut deeds = (driver.deeds)();
    if driver.tcp {
        deeds = deeds
            .into_iter()
            .map(|deed| deed.with("network.transport", "tcp"))
            .collect();
    }
    // Who asks a server over UDP is in the message's address, which is not read.
    let udp = |deed: Deed| match deed.attributes.get("network.transport") {
        Some(transport) if transport == "tcp" => deed,
        _ => deed.with("network.transport", "udp").apart(),
    };
    let deeds: Vec<Deed> = deeds.into_iter().map(udp).collect();
    cell.run(stage, agent, setup, &deeds)?;
    Ok(())
}

/// A server that cannot tell, and one that says nothing at all.
fn fails(stage: &mut Stage) -> Result<()> {
    let debian = install::debian("unbound", &["unbound"])?;
    let (host, _) = SERVER.split_once(':').context("a port")?;
    let text = format!(
        "server:\n interface: {host}\n port: 53\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n\
         directory: \"{0}\"\n pidfile: \"\"\n use-syslog: no\n do-not-query-localhost: no\n\
         module-config: \"iterator\"\n\
         auth-zone:\n name: \"example.com\"\n zonefile: \"{0}/zone\"\n for-downstream: yes\n\
         for-upstream: yes\n fallback-enabled: no\n\
         remote-control:\n control-enable: no\n",
        stage.folder.display()
    );
    // A zone without its beginning cannot be answered for.
    fs::write(stage.folder.join("zone"), "")?;
    let file = stage.folder.join("unbound.conf");
    fs::write(&file, text)?;
    let server = Setup::new("unbound", &stage.folder, debian.file("usr/sbin/unbound")?)
        .env("LD_LIBRARY_PATH", debian.libraries())
        .arg("-dd")
        .arg("-c")
        .arg(file)
        .port(53)
        .start()?;
    let _silent = UdpSocket::bind(DEAD)?;
    let cell = Cell::new("dns", "c-ares", &server, Way::NEW);
    let late = question("A", "late.test", "NOERROR")
        .without("spantap.dns.response_code")
        .fails("timeout");
    let broken = question("A", "broken.example.com", "SERVFAIL").apart();
    let deeds = [broken, late.by_client()];
    let agent = stage.agent()?.ports(&[53]);
    let setup = cares(&stage.folder, &[SERVER, DEAD])?;
    cell.run(stage, agent, setup, &deeds)?;
    Ok(())
}
