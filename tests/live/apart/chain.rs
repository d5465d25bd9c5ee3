//! The programs, from host to host at every hop: the load (host 0), Node.js (1), asyncio (0), threads of
//! Python (1), Go (0), and what Go asks: Java, Redis and PostgreSQL (1). With TLS, all that speak HTTP do
//! but Java.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use spantap_tests::certificates::Certificates;
use spantap_tests::hosts::Host;
use spantap_tests::process::free_port;
use spantap_tests::program::Setup;
use spantap_tests::{Program, Stage, install};

use super::Transport;
use crate::{postgresql, redis};

/// Those that run; stopped and cleared away when dropped.
pub(super) struct Chain<'a> {
    hosts: &'a [Host; 2],
    how: Transport,
    programs: Vec<(&'static str, usize, Program)>,
    /// What a program that speaks TLS is told besides: its certificate and the key.
    secret: Vec<PathBuf>,
    /// PostgreSQL's.
    folder: Option<PathBuf>,
}

impl<'a> Chain<'a> {
    /// Starts them, the last first; says where the load finds Node.js, too.
    pub(super) fn start(
        stage: &Stage,
        hosts: &'a [Host; 2],
        how: Transport,
    ) -> Result<(Self, String)> {
        let mut chain = Self {
            hosts,
            how,
            programs: Vec::new(),
            secret: Vec::new(),
            folder: None,
        };
        if how == Transport::Tls {
            let made = Certificates::make(&stage.folder, "chain")?;
            chain.secret = vec![made.server, made.server_key];
        }
        let postgresql = chain.postgresql(stage)?;
        let redis = chain.add("redis", 1, |host, port| {
            let setup = redis::server_at(stage, host, port)?;
            Ok(setup.args(["--protected-mode", "no"]))
        })?;
        let java = chain.java(stage)?;
        let python = |name: &str, script: &str| -> Result<Setup> {
            let python = install::python_of("causality/python", &[])?.join("python3");
            let (script, _) = install::app(&format!("apart/{script}"))?;
            Ok(Setup::new(name, &stage.folder, python).arg(script))
        };
        let go = Setup::new("go", &stage.folder, app()?).arg("hop");
        let words = [format!("http://{java}/"), redis, postgresql];
        let go = chain.hop("go", 0, go, &words)?;
        let threads = chain.hop("threads", 1, python("threads", "threaded.py")?, &[go])?;
        let asyncio = chain.hop("asyncio", 0, python("asyncio", "asynced.py")?, &[threads])?;
        let (script, _) = install::app("apart/hop.js")?;
        let node = install::tool("node", &["nodejs"])?;
        let node = Setup::new("node", &stage.folder, node).arg(script);
        let first = chain.hop("node", 1, node, &[asyncio])?;
        Ok((chain, first))
    }

    /// The processes of one, as of now.
    pub(super) fn pids(&self, name: &str) -> Vec<u32> {
        let mut programs = self.programs.iter();
        let found = programs.find(|(its, ..)| *its == name);
        found.map_or_else(Vec::new, |(_, _, program)| program.pids())
    }

    /// All processes of a host.
    pub(super) fn pids_on(&self, host: usize) -> Vec<u32> {
        let of_host = self.programs.iter().filter(|(_, its, _)| *its == host);
        of_host.flat_map(|(_, _, program)| program.pids()).collect()
    }

    /// Starts one on a host, at an address and a port of it; says where the other host finds it.
    fn add(
        &mut self,
        name: &'static str,
        host: usize,
        make: impl FnOnce(&str, u16) -> Result<Setup>,
    ) -> Result<String> {
        let (at, port) = (&self.hosts[host], free_port()?);
        let setup = make(&at.address(), port)?.env("OTEL_SERVICE_NAME", name);
        let setup = self.how.told(setup);
        let program = at.place(setup).port(port).start()?;
        self.programs.push((name, host, program));
        at.expose(port)
    }

    /// The same of one that is asked by HTTP and asks, with the words HOST PORT, these, and where to find
    /// its certificate and key; says its URL.
    fn hop(
        &mut self,
        name: &'static str,
        host: usize,
        setup: Setup,
        words: &[String],
    ) -> Result<String> {
        let secret = self.secret.clone();
        let service = self.add(name, host, |address, port| {
            let setup = setup.args([address, &port.to_string()]).args(words);
            Ok(setup.args(&secret))
        })?;
        let scheme = if secret.is_empty() { "http" } else { "https" };
        Ok(format!("{scheme}://{service}/"))
    }

    fn java(&mut self, stage: &Stage) -> Result<String> {
        let classes = install::classes("apart-java", "apart", &["Leaf.java"])?;
        let java = Setup::new("java", &stage.folder, "java");
        let words = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
        let java = java.args(words).arg("-Dsun.net.httpserver.nodelay=true");
        let java = java.arg("-cp").arg(classes).arg("Leaf");
        self.add("java", 1, |address, port| {
            Ok(java.args([address, &port.to_string()]))
        })
    }

    fn postgresql(&mut self, stage: &Stage) -> Result<String> {
        let rules = stage.folder.join("pg_hba.conf");
        fs::write(
            &rules,
            "local all all trust\nhost all all 0.0.0.0/0 trust\n",
        )?;
        let (at, port) = (&self.hosts[1], free_port()?);
        let words = [
            format!("listen_addresses={}", at.address()),
            format!("hba_file={}", rules.display()),
        ];
        let (program, folder) = postgresql::server_as(&stage.folder, port, |setup| {
            let words = words.iter().flat_map(|word| ["-c", word]);
            at.place(setup.args(words).env("OTEL_SERVICE_NAME", "postgresql"))
        })?;
        self.programs.push(("postgresql", 1, program));
        self.folder = Some(folder);
        at.expose(port)
    }
}

/// The load, and the last that asks.
pub(super) fn app() -> Result<PathBuf> {
    install::go_build("apart", "apart", &["main.go", "go.mod", "go.sum"])
}

impl Drop for Chain<'_> {
    fn drop(&mut self) {
        // Who asks goes before who is asked: PostgreSQL waits for its clients.
        while self.programs.pop().is_some() {}
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
    }
}
