//! A real kubelet, real pods, a real Collector: the chart runs the agent as a DaemonSet, nobody's pods are
//! touched, and each span must have the names that the API server gives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spantap_tests::node::{self, Level, Node};
use spantap_tests::process::until;
use spantap_tests::span::{Kind, Span};
use spantap_tests::{Case, Sink, Stage, agent, install};

/// All of them.
pub fn cases() -> Vec<Case> {
    let all: [(&str, Body); 4] = [
        ("names", names),
        ("chosen", chosen),
        ("changes", changes),
        ("away", away),
    ];
    let case = |(name, body): (&str, Body)| {
        let whole = move |stage: &mut Stage| match Cluster::up(stage)? {
            Some(cluster) => body(stage, &cluster),
            None => {
                stage.skip(node::NONE);
                Ok(())
            }
        };
        // The others take minutes.
        Case::new(format!("kubernetes::{name}"), whole)
            .on_node()
            .seldom_if(name != "names")
    };
    all.into_iter().map(case).collect()
}

type Body = fn(&mut Stage, &Cluster) -> Result<()>;

/// A node with the applications, the Collector and the agent on it, and what the Collector sends on.
struct Cluster {
    sink: Sink,
    node: Node,
}

/// Where the Collector sends its spans: the node's own address.
const NODE: &str = "10.250.0.1";
const FRONT: &str = "http://10.96.77.8";

impl Cluster {
    fn up(stage: &Stage) -> Result<Option<Self>> {
        if agent::dry() {
            return Ok(None);
        }
        let Some(node) = Node::up(Level::Node)? else {
            return Ok(None);
        };
        let sink = Sink::inside(&node.network()?)?;
        let cluster = Self { sink, node };
        cluster.images(stage)?;
        let collector = file("kubernetes/collector.yaml")?;
        let address = format!("http://{NODE}:{}", cluster.sink.port());
        cluster.apply(&collector.replace("ADDRESS", &address))?;
        cluster.apply(&file("kubernetes/apps.yaml")?)?;
        cluster.ready("observability", "deployment/collector")?;
        cluster.install(&[])?;
        for name in ["deployment/cart", "deployment/front"] {
            cluster.ready("shop", name)?;
        }
        Ok(Some(cluster))
    }

    /// The agent's image, and those of the programs.
    fn images(&self, stage: &Stage) -> Result<()> {
        let place = |name: &str| stage.folder.join("images").join(name);
        let put = |name: &str, from: &Path, to: &str| -> Result<PathBuf> {
            let to = place(name).join(to);
            std::fs::create_dir_all(to.parent().context("it is in a folder")?)?;
            std::fs::copy(from, to)?;
            Ok(place(name))
        };
        let own = agent::binary()?;
        self.node.image_of(
            "spantap:test",
            &put("spantap", &own, "usr/bin/spantap")?,
            &[&own],
            &[],
        )?;
        let cart = install::go_build("cart", "kubernetes", &["cart.go", "go.mod"])?;
        self.node.image_of(
            "cart:1.4",
            &put("cart", &cart, "bin/cart")?,
            &[&cart],
            &["/bin/cart"],
        )?;
        let collector = install::collector()?;
        self.node.image(
            "collector:1",
            &put("collector", &collector, "bin/collector")?,
            &[],
        )?;
        let (script, _) = install::app("kubernetes/front.py")?;
        let front = put("front", &script, "front.py")?;
        // Not one that is made by a version manager: a shell script.
        let python = PathBuf::from("/usr/bin/python3.11");
        if !python.exists() {
            install::tool("python3.11", &["python3.11"])?;
        }
        let paths = [python.as_path(), Path::new("/usr/lib/python3.11")];
        let run = [&*python.to_string_lossy(), "/front.py"];
        self.node.image_of("front:2", &front, &paths, &run)
    }

    fn apply(&self, manifest: &str) -> Result<()> {
        let ran = self
            .node
            .attempt(&["kubectl", "apply", "-f", "-"], Some(manifest))?;
        ensure!(ran.code == Some(0), "{}", ran.errors);
        Ok(())
    }

    /// Runs a command in it, in words without blanks.
    fn run(&self, command: &str) -> Result<String> {
        self.node.run(&command.split(' ').collect::<Vec<_>>())
    }

    fn kubectl(&self, command: &str) -> Result<String> {
        self.run(&format!("kubectl {command}"))
    }

    /// Waits until all of it is.
    fn ready(&self, namespace: &str, what: &str) -> Result<()> {
        self.kubectl(&format!(
            "-n {namespace} rollout status {what} --timeout=120s"
        ))
        .map(drop)
    }

    /// The chart, with these values besides; waits until the agent is ready.
    fn install(&self, values: &[&str]) -> Result<()> {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../deploy/helm/spantap")
            .canonicalize()?;
        let chart = chart.to_string_lossy();
        let helm = install::helm()?;
        let helm = helm.to_string_lossy();
        let mut words = vec![
            &*helm,
            "upgrade",
            "--install",
            "spantap",
            &chart,
            "--namespace",
            "spantap",
        ];
        words.extend(["--create-namespace", "--wait", "--timeout", "120s"]);
        let own = [
            "image.repository=localhost/spantap",
            "image.tag=test",
            "image.pullPolicy=Never",
            "otlp.endpoint=http://10.96.77.7:4318",
            "config.export.schedule_delay=200ms",
        ];
        for value in own.iter().chain(values) {
            words.extend(["--set", value]);
        }
        self.node.run(&words)?;
        // To helm a DaemonSet is ready that may lack a pod.
        self.ready("spantap", "daemonset/spantap")
    }

    /// Asks the front for these paths, a connection each.
    fn ask(&self, paths: &[String]) -> Result<()> {
        let urls: Vec<String> = paths.iter().map(|path| format!("{FRONT}{path}")).collect();
        for url in &urls {
            self.node.run(&[
                "curl",
                "-sS",
                "--fail",
                "--retry",
                "9",
                "--retry-connrefused",
                "--retry-delay",
                "1",
                "--max-time",
                "20",
                url,
            ])?;
        }
        Ok(())
    }

    /// The spans of these paths, once there are `each` of every one.
    fn spans(&self, paths: &[String], each: usize) -> BTreeMap<String, Vec<Span>> {
        let found = || {
            let mut found: BTreeMap<String, Vec<Span>> = BTreeMap::new();
            for span in self.sink.spans() {
                let path = span.text("url.path").or_else(|| {
                    let url = span.text("url.full")?;
                    let (_, rest) = url.split_once("://")?;
                    Some(rest.get(rest.find('/')?..)?.to_owned())
                });
                if let Some(path) = path.filter(|path| paths.contains(path))
                    && span.resource.contains_key("container.id")
                {
                    found.entry(path).or_default().push(span);
                }
            }
            found
        };
        // What is missing then is judged.
        let _ = until("all spans", Duration::from_secs(20), || {
            let found = found();
            paths
                .iter()
                .all(|path| found.get(path).is_some_and(|spans| spans.len() >= each))
        });
        found()
    }

    /// The pods of a namespace, as the API server has them.
    fn pods(&self, namespace: &str, labels: &str) -> Result<Vec<Value>> {
        let all = self.node.run(&[
            "kubectl", "-n", namespace, "get", "pods", "-l", labels, "-o", "json",
        ])?;
        let all: Value = serde_json::from_str(&all)?;
        Ok(all["items"].as_array().cloned().unwrap_or_default())
    }

    fn log(&self) -> Result<String> {
        self.kubectl("-n spantap logs daemonset/spantap --tail=40")
    }
}

fn file(path: &str) -> Result<String> {
    Ok(install::app(path)?.1)
}

fn paths(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("/{what}/{n}")).collect()
}

/// The one span of a kind and a service.
fn only<'a>(spans: &'a [Span], kind: Kind, service: &str) -> Option<&'a Span> {
    let mut all = spans
        .iter()
        .filter(|span| span.kind == kind && span.service() == service);
    all.next().filter(|_| all.next().is_none())
}

/// Judges what one request made: the front's span, its call, and the cart's span, in one trace.
fn judge(stage: &mut Stage, path: &str, spans: &[Span], pods: &[Value]) {
    let [front, call, cart] = [
        (Kind::Server, "front"),
        (Kind::Client, "front"),
        (Kind::Server, "cart"),
    ]
    .map(|(kind, service)| only(spans, kind, service));
    let (Some(front), Some(call), Some(cart)) = (front, call, cart) else {
        let lines: Vec<_> = spans.iter().map(Span::line).collect();
        stage.problem(format!("{path}: not the three spans: {lines:?}"));
        return;
    };
    let linked = call.parent.as_ref() == Some(&front.id) && cart.parent.as_ref() == Some(&call.id);
    let one = front.trace == call.trace && call.trace == cart.trace;
    stage.check(linked && one, || {
        format!("{path}: not one trace: {front:?} {call:?} {cart:?}")
    });
    for (span, container, image) in [
        (front, "web", "front"),
        (call, "web", "front"),
        (cart, "basket", "cart"),
    ] {
        if let Some(why) = misnamed(span, container, image, pods) {
            stage.problem(format!("{path}: {why}"));
        }
    }
    let peer = [
        call.text("service.peer.name"),
        call.text("service.peer.namespace"),
    ];
    stage.check(peer == [Some("cart".into()), Some("shop".into())], || {
        format!("{path}: peer {peer:?}")
    });
}

/// What is wrong with a span's names.
fn misnamed(span: &Span, container: &str, image: &str, pods: &[Value]) -> Option<String> {
    let name = span.resource_text("k8s.pod.name").unwrap_or_default();
    let Some(pod) = pods.iter().find(|pod| pod["metadata"]["name"] == *name) else {
        return Some(format!("no such pod: {name:?}: {}", span.line()));
    };
    let status = &pod["status"]["containerStatuses"][0];
    let id = status["containerID"].as_str().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let service = span.service();
    let want = [
        ("k8s.pod.uid", text(&pod["metadata"]["uid"])),
        ("k8s.pod.start_time", text(&pod["status"]["startTime"])),
        ("k8s.namespace.name", "shop".into()),
        ("k8s.deployment.name", service.clone()),
        (
            "k8s.replicaset.name",
            text(&pod["metadata"]["ownerReferences"][0]["name"]),
        ),
        ("k8s.node.name", text(&pod["spec"]["nodeName"])),
        ("k8s.container.name", container.into()),
        (
            "k8s.container.restart_count",
            status["restartCount"].to_string(),
        ),
        (
            "container.id",
            id.trim_start_matches("containerd://").into(),
        ),
        ("container.image.name", format!("localhost/{image}")),
        ("service.namespace", "shop".into()),
        ("service.instance.id", format!("shop.{name}.{container}")),
    ];
    let wrong = want
        .iter()
        .find(|(key, want)| span.resource_text(key).as_ref() != Some(want));
    wrong.map(|(key, want)| {
        format!(
            "{service}: {key}: {:?}, want {want:?}",
            span.resource_text(key)
        )
    })
}

/// Both sides of a call through a Service, named; then an upgrade, doctor in the pod, and the end.
fn names(stage: &mut Stage, cluster: &Cluster) -> Result<()> {
    let asked = paths("names", 20);
    cluster.ask(&asked)?;
    let spans = cluster.spans(&asked, 3);
    let pods = cluster.pods("shop", "app in (cart,front)")?;
    for path in &asked {
        let none = Vec::new();
        judge(stage, path, spans.get(path).unwrap_or(&none), &pods);
    }
    if stage.has_problems() {
        stage.problem(cluster.log()?);
    }
    let any = spans
        .values()
        .flatten()
        .find(|span| span.service() == "cart");
    let cart = any.context("no span of cart")?;
    let uid = cluster.kubectl("get namespace kube-system -o jsonpath={.metadata.uid}")?;
    for (key, want) in [
        ("deployment.environment.name", "test"),
        ("service.version", "1.4"),
        ("k8s.cluster.uid", &*uid),
    ] {
        let found = cart.resource_text(key);
        stage.check(found.as_deref() == Some(want), || {
            format!("{key}: {found:?}, want {want}")
        });
    }
    Ok(())
}

/// Namespaces are selected, and a pod opts out: its spans stop, and `spantap list` says why.
fn chosen(stage: &mut Stage, cluster: &Cluster) -> Result<()> {
    cluster.install(&["config.selection.namespaces={shop}"])?;
    // What the one before has sent may still be on its way.
    std::thread::sleep(Duration::from_secs(3));
    cluster.sink.clear();
    check_all(stage, cluster, "chosen")?;
    let others = cluster.sink.spans().into_iter();
    let others =
        others.filter(|span| span.resource_text("k8s.namespace.name").as_deref() != Some("shop"));
    let others: Vec<_> = others.map(|span| span.line()).collect();
    stage.check(others.is_empty(), || format!("not of shop: {others:?}"));
    cluster.kubectl("-n shop annotate pod -l app=cart spantap/trace=false")?;
    std::thread::sleep(Duration::from_secs(2));
    let asked = paths("opted-out", 10);
    cluster.ask(&asked)?;
    let spans = cluster.spans(&asked, 2);
    let count = |service: &str| {
        spans
            .values()
            .flatten()
            .filter(|span| span.service() == service)
            .count()
    };
    let counts = (count("front"), count("cart"));
    stage.check(counts == (20, 0), || {
        format!("{counts:?} spans of front and cart, want 20 and none")
    });
    let list = cluster.kubectl("-n spantap exec daemonset/spantap -- spantap list")?;
    let line = |word: &str| {
        list.lines()
            .find(|line| line.contains(word))
            .unwrap_or_default()
            .to_owned()
    };
    for (pod, want) in [("cart-", "opts out"), ("front-", "yes")] {
        stage.check(line(pod).contains(want), || {
            format!("{pod}: no {want:?} in\n{list}")
        });
    }
    cluster.kubectl("-n shop annotate pod -l app=cart spantap/trace-")?;
    std::thread::sleep(Duration::from_secs(2));
    check_all(stage, cluster, "again").map(drop)
}

/// Pods that are scaled, deleted, relabelled; a container that is started again; fifty pods of a second.
fn changes(stage: &mut Stage, cluster: &Cluster) -> Result<()> {
    cluster.install(&["config.kubernetes.labels={tier}"])?;
    cluster.kubectl("-n shop scale deployment/cart --replicas=4")?;
    cluster.ready("shop", "deployment/cart")?;
    check_all(stage, cluster, "scaled")?;
    cluster.kubectl("-n shop delete pod -l app=cart")?;
    cluster.ready("shop", "deployment/cart")?;
    check_all(stage, cluster, "deleted")?;
    cluster.kubectl("-n shop label pod -l app=cart tier=blue")?;
    std::thread::sleep(Duration::from_millis(500));
    let spans = check_all(stage, cluster, "relabelled")?;
    let blue = spans.iter().filter(|span| span.service() == "cart");
    let wrong =
        blue.filter(|span| span.resource_text("k8s.pod.label.tier").as_deref() != Some("blue"));
    let wrong: Vec<_> = wrong.map(Span::line).collect();
    stage.check(wrong.is_empty(), || {
        format!("without their new label: {wrong:?}")
    });
    // The same pod, another container.
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    let before = cluster
        .pods("shop", "app=front")?
        .first()
        .and_then(restarts);
    cluster.kubectl("-n shop exec deployment/front -- kill 1")?;
    until("the front's new container", Duration::from_secs(60), || {
        let pods = cluster.pods("shop", "app=front").unwrap_or_default();
        pods.iter().all(|pod| {
            let status = &pod["status"]["containerStatuses"][0];
            restarts(pod) > before && status["ready"] == true
        })
    })?;
    check_all(stage, cluster, "restarted")?;
    jobs(stage, cluster)
}

fn check_all(stage: &mut Stage, cluster: &Cluster, what: &str) -> Result<Vec<Span>> {
    let asked = paths(what, 12);
    cluster.ask(&asked)?;
    let spans = cluster.spans(&asked, 3);
    let pods = cluster.pods("shop", "app in (cart,front)")?;
    for path in &asked {
        let none = Vec::new();
        judge(stage, path, spans.get(path).unwrap_or(&none), &pods);
    }
    Ok(spans.into_values().flatten().collect())
}

/// Fifty pods that ask once and are over after a second.
fn jobs(stage: &mut Stage, cluster: &Cluster) -> Result<()> {
    const COUNT: usize = 50;
    let names: Vec<String> = (0..COUNT).map(|n| format!("report-{n}")).collect();
    cluster.kubectl("-n shop delete job --all")?;
    let manifests = names.iter().map(|name| job(name));
    cluster.apply(&manifests.collect::<Vec<_>>().join("---\n"))?;
    cluster.kubectl("-n shop wait --for=condition=complete job --all --timeout=240s")?;
    let asked: Vec<String> = names.iter().map(|name| format!("/job/{name}")).collect();
    // With the front's, its call and the cart's.
    let spans = cluster.spans(&asked, 4);
    let pods = cluster.pods("shop", "job-name")?;
    let mut right = 0;
    for name in &names {
        let path = format!("/job/{name}");
        let pod = pods
            .iter()
            .find(|pod| pod["metadata"]["labels"]["job-name"] == **name);
        let pod = pod
            .and_then(|pod| pod["metadata"]["name"].as_str())
            .unwrap_or_default();
        let none = Vec::new();
        let spans = spans.get(&path).unwrap_or(&none);
        let call = spans
            .iter()
            .find(|span| span.kind == Kind::Client && span.service() != "front");
        let text = |key| {
            call.and_then(|span| span.resource_text(key))
                .unwrap_or_default()
        };
        let found = [
            text("k8s.job.name"),
            text("k8s.pod.name"),
            text("k8s.container.name"),
            text("service.name"),
        ];
        let fine = found == [name.clone(), pod.to_owned(), "report".into(), name.clone()];
        right += usize::from(fine);
        stage.check(fine, || format!("{path}: {found:?}, want {name}, {pod}"));
    }
    stage.count("jobs named", right);
    Ok(())
}

fn job(name: &str) -> String {
    format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: {name}, namespace: shop}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers:
        - name: report
          image: localhost/cart:1.4
          imagePullPolicy: Never
          command: [/bin/cart, 'http://10.96.77.8/job/{name}']
"
    )
}

/// The API server is stopped for a minute: spans keep their names; of what came meanwhile they get them after.
fn away(stage: &mut Stage, cluster: &Cluster) -> Result<()> {
    check_all(stage, cluster, "before")?;
    let pods = cluster.pods("shop", "app in (cart,front)")?;
    let stopped = Instant::now();
    cluster.node.kill("apiserver")?;
    let asked = paths("meanwhile", 30);
    let begun: Result<()> = (|| {
        for part in asked.chunks(5) {
            cluster.ask(part)?;
            std::thread::sleep(Duration::from_secs(8));
        }
        Ok(())
    })();
    std::thread::sleep(Duration::from_secs(60).saturating_sub(stopped.elapsed()));
    let count = cluster
        .spans(&asked, 3)
        .values()
        .map(Vec::len)
        .sum::<usize>();
    cluster.node.mend()?;
    begun?;
    stage.check(count == 90, || {
        format!("{count} of 90 spans came while the API was away")
    });
    let spans = cluster.spans(&asked, 3);
    for path in &asked {
        let none = Vec::new();
        judge(stage, path, spans.get(path).unwrap_or(&none), &pods);
    }
    cluster.kubectl("-n shop scale deployment/cart --replicas=3")?;
    cluster.ready("shop", "deployment/cart")?;
    std::thread::sleep(Duration::from_secs(5));
    check_all(stage, cluster, "after").map(drop)
}
