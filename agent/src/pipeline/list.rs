//! Who would be traced now, found out as the agent does, without one.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::collector::Collector;
use super::{chooser, pods};
use crate::config::Config;
use crate::kubernetes::watch::Wanted;
use crate::kubernetes::{self, Cluster, Pod};
use crate::stats::Stats;
use crate::target::ports::Ports;
use crate::target::{PROC, Processes, Reason, Snapshot, Targets};

/// A process, and whether it is traced.
#[derive(Clone, Debug)]
pub struct Listed {
    /// It.
    pub process: Arc<Snapshot>,
    /// Its pod, as far as it is known.
    pub pod: Option<Arc<Pod>>,
    /// The TCP ports it listens on.
    pub ports: Vec<u16>,
    /// Why it is not traced; none where it is.
    pub reason: Option<Reason>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// All processes.
    pub processes: Vec<Listed>,
    /// Why Kubernetes told of no pods, or not all, where it was asked.
    pub untold: Option<String>,
}

/// Looks at every process there is.
///
/// # Errors
/// Where nothing can be asked for want of a runtime.
pub fn list(config: &Config) -> Result<Listing> {
    let stats = Arc::new(Stats::default());
    let processes = Arc::new(Processes::new(PROC, Arc::clone(&stats)));
    let asked = pods::asked(config, &stats);
    let cluster = asked.as_ref().map(|(cluster, _)| Arc::clone(cluster));
    let targets = Targets::new(
        Arc::clone(&processes),
        &config.selection,
        cluster.clone(),
        Arc::clone(&stats),
    );
    let hosts = Collector::hosts_of(config);
    let own = || chooser::own_namespace(&targets);
    let untold = match &asked {
        None => None,
        Some((cluster, wanted)) => {
            let services = |_: &Cluster| {
                let names = hosts.iter().filter_map(|host| chooser::service(host, own));
                names.collect()
            };
            ask(cluster, wanted, services)?.err()
        }
    };
    if let Some(cluster) = &cluster {
        let all = hosts.iter();
        let all = all.flat_map(|host| chooser::addresses(cluster, host, own));
        targets.leave_out(all.collect::<HashSet<IpAddr>>());
    }
    let mut ports = Ports::new(Path::new(PROC));
    let verdicts = targets.scan().into_iter();
    let processes = verdicts.map(|(pid, verdict)| {
        let process = processes.get(pid);
        let place = &process.place;
        Listed {
            pod: (cluster.as_ref()).and_then(|cluster| cluster.first_pod(place.uids())),
            ports: ports.of(&process).into_iter().collect(),
            reason: reason(&process)
                .or(verdict.reason())
                .or_else(|| targets.is_left_out(&process)),
            process,
        }
    });
    Ok(Listing {
        processes: processes.filter(|it| it.process.seen).collect(),
        untold,
    })
}

/// Of which node Kubernetes tells the pods, or why it does not; `None` where it is not to be asked.
///
/// # Errors
/// As [`list`].
pub fn told(config: &Config) -> Result<Option<Result<String, String>>> {
    let Some((cluster, wanted)) = pods::asked(config, &Arc::default()) else {
        return Ok(None);
    };
    let told = ask(&cluster, &wanted, |_| Vec::new())?;
    Ok(Some(told.map(|()| cluster.node().name.to_string())))
}

/// Asks Kubernetes, once.
fn ask(
    cluster: &Cluster,
    wanted: &Wanted,
    services: impl Fn(&Cluster) -> Vec<(String, String)>,
) -> Result<Result<(), String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime to ask Kubernetes in")?;
    Ok(runtime.block_on(kubernetes::once(cluster, wanted, services, PATIENCE)))
}

/// What is so whatever is selected: that nothing needs to be known of a process where all are traced does
/// not mean that it has connections.
fn reason(process: &Snapshot) -> Option<Reason> {
    let program = std::env::current_exe().ok();
    let same = program.is_some_and(|it| it.to_str() == process.exe.as_deref());
    let agent = process.argv.get(1).is_some_and(|word| **word == *"agent");
    match process.is_kernel() {
        true => Some(Reason::Kernel),
        false => (same && agent).then_some(Reason::Agent),
    }
}

/// Longest Kubernetes is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
