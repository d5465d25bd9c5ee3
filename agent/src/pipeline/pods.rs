//! Whether Kubernetes is asked of pods, and of what.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::config::{Config, Presence};
use crate::kubernetes::Cluster;
use crate::kubernetes::watch::{self, Wanted};
use crate::resource::kubernetes::Telling;
use crate::say::say;
use crate::stats::Stats;

/// What it tells, where it is to be asked: from now on.
pub fn start(config: &Config, stats: &Arc<Stats>, runtime: &Handle) -> Option<Arc<Cluster>> {
    let Some((cluster, wanted)) = asked(config, stats) else {
        if config.selection.needs_kubernetes() {
            say(
                "Kubernetes is not asked (kubernetes.enabled): of no process it is known whether it is in \
                 what is selected of namespaces, pods, labels, workloads or annotations, so none is traced",
            );
        }
        return None;
    };
    watch::start(&cluster, wanted, stats, runtime);
    Some(cluster)
}

/// Waits until all pods were told of once, so that who opts out or is excluded is known before anybody is
/// judged; no longer than `longest`.
pub fn wait(cluster: Option<&Cluster>, longest: Duration) {
    let began = Instant::now();
    while cluster.is_some_and(|cluster| !cluster.is_listed()) && began.elapsed() < longest {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Of what it is to be asked, where it is, and where the answers go.
pub fn asked(config: &Config, stats: &Arc<Stats>) -> Option<(Arc<Cluster>, Wanted)> {
    let kubernetes = &config.kubernetes;
    let asked = match kubernetes.enabled {
        Presence::On => true,
        Presence::Off => false,
        Presence::Auto => std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
    };
    let host = || {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    };
    asked.then(|| {
        let node = kubernetes.node.clone().unwrap_or_else(host);
        let telling = Telling::new(kubernetes);
        let wanted = Wanted {
            services: kubernetes.services,
            keeps: Box::new(move |annotation| telling.tells(annotation)),
        };
        (Arc::new(Cluster::new(&node, Arc::clone(stats))), wanted)
    })
}
