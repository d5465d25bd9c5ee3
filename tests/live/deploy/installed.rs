//! The chart on a real node: installed, asked what it can do, upgraded with and without new pods, and gone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use spantap_tests::node::{self, Level};
use spantap_tests::process::until;
use spantap_tests::program::Setup;
use spantap_tests::{Case, Node, Stage, agent, install};

use super::shipped;

pub fn cases() -> Vec<Case> {
    vec![Case::new("deploy::helm::installed", installed).on_node()]
}

const SPACE: &str = "spantap";

fn installed(stage: &mut Stage) -> Result<()> {
    if !serves(stage)? {
        stage.skip("this agent has no serve.listen, which the chart's probes ask");
        return Ok(());
    }
    let Some(node) = Node::up(Level::Node)? else {
        stage.skip(node::NONE);
        return Ok(());
    };
    image(&node, &stage.folder.join("root"))?;
    // What docs/kubernetes.md says.
    node.run(&["kubectl", "create", "namespace", SPACE])?;
    let label = "pod-security.kubernetes.io/enforce=privileged";
    node.run(&["kubectl", "label", "namespace", SPACE, label])?;
    let release = Release::new(&node)?;
    let notes = release.set("install", &[])?;
    let watch = "spantap watch -n shop --workload cart";
    stage.check(notes.contains(watch), || notes.clone());
    let doctor = kubectl(&node, &["exec", "ds/spantap", "--", "spantap", "doctor"])?;
    let fine = ["can trace on this machine", "tells of the pods of"];
    let fine = fine.iter().all(|line| doctor.contains(line)) && !doctor.contains("degraded");
    stage.check(fine, || doctor.clone());

    let first = pod(&node)?;
    release.set(
        "upgrade",
        &["--set=config.selection.exclude_commands={nobody*}"],
    )?;
    stage.check(pod(&node)? == first, || {
        "another selection made a new pod".into()
    });
    release.set("upgrade", &["--set=config.sampling.ratio=0.5"])?;
    let another = soon(|| pod(&node).is_ok_and(|now| !now.is_empty() && !now.contains(&first)));
    stage.check(another, || "another setting made no new pod".into());
    let logs = || kubectl(&node, &["logs", "ds/spantap"]).unwrap_or_default();
    let ready = soon(|| logs().contains("spantap: ready"));
    stage.check(ready, logs);

    release.helm(&["uninstall", "spantap", "--wait", "--timeout=60s"])?;
    let left = || left(&node).unwrap_or_else(|error| error.to_string());
    let gone = soon(|| left().is_empty());
    stage.check(gone, || format!("left: {}", left()));
    let words = ["kubectl", "delete", "namespace", SPACE, "--timeout=60s"];
    node.run(&words).map(drop)
}

/// The chart as it is put on a node.
struct Release<'a> {
    node: &'a Node,
    helm: String,
    chart: String,
}

impl<'a> Release<'a> {
    fn new(node: &'a Node) -> Result<Self> {
        Ok(Self {
            node,
            helm: install::helm()?.to_string_lossy().into_owned(),
            chart: shipped("helm/spantap").to_string_lossy().into_owned(),
        })
    }

    fn helm(&self, words: &[&str]) -> Result<String> {
        let first = [self.helm.as_str(), "--namespace", SPACE];
        self.node.run(&[&first, words].concat())
    }

    /// `helm install` or `helm upgrade`, and what it says once the pod is ready.
    fn set(&self, act: &str, values: &[&str]) -> Result<String> {
        const IMAGE: &str =
            "--set=image.repository=localhost/spantap,image.tag=test,image.pullPolicy=Never";
        let words = [act, "spantap", &self.chart, IMAGE];
        let said = self.helm(&[&words, values].concat())?;
        // Helm does not wait for a DaemonSet of one pod, as that one may be away.
        let rolled = ["rollout", "status", "ds/spantap", "--timeout=90s"];
        kubectl(self.node, &rolled)?;
        Ok(said)
    }
}

/// What there is of the release, a name a line.
fn left(node: &Node) -> Result<String> {
    let labelled = "app.kubernetes.io/name=spantap";
    let kinds = "ds,cm,sa,pods,clusterroles,clusterrolebindings";
    let all = kubectl(node, &["get", kinds, "-l", labelled, "-o", "name"])?;
    Ok(all.trim().to_string())
}

fn soon(mut done: impl FnMut() -> bool) -> bool {
    let often = || {
        std::thread::sleep(Duration::from_millis(500));
        done()
    };
    until("it", Duration::from_secs(40), often).is_ok()
}

/// Whether this agent's settings have what the chart's probes ask.
fn serves(stage: &Stage) -> Result<bool> {
    let show = Setup::new("settings", &stage.folder, agent::binary()?).args(["config", "show"]);
    let shown = show.run(Duration::from_secs(10))?;
    Ok(shown.output.contains("\nserve:"))
}

fn kubectl(node: &Node, words: &[&str]) -> Result<String> {
    node.run(&[&["kubectl", "--namespace", SPACE], words].concat())
}

/// The agent's pod, by its id; there is one node.
fn pod(node: &Node) -> Result<String> {
    let path = "jsonpath={.items[*].metadata.uid}";
    let told = kubectl(
        node,
        &[
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/name=spantap",
            "-o",
            path,
        ],
    )?;
    Ok(told.trim().to_string())
}

/// An image with the agent and the libraries that it takes.
fn image(node: &Node, root: &Path) -> Result<()> {
    let agent = agent::binary()?;
    fs::create_dir_all(root.join("usr/bin"))?;
    fs::copy(&agent, root.join("usr/bin/spantap"))?;
    node.image_of("spantap:test", root, &[&agent], &[])?;
    Ok(fs::remove_dir_all(root)?)
}
