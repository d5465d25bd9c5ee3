//! The chart and the manifests: what is rendered of several sets of values, what is refused, and whether a
//! real API server takes each of them to the letter.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spantap_tests::node::{self, Level};
use spantap_tests::program::{Ran, Setup};
use spantap_tests::{Case, Node, Stage, agent, install};

use super::shipped;

pub fn cases() -> Vec<Case> {
    let helm: [(&str, fn(&mut Stage) -> Result<()>); 5] = [
        ("helm::lint", lint),
        ("helm::template", template),
        ("helm::schema", schema),
        ("helm::config", config),
        ("manifests::current", current),
    ];
    let mut cases: Vec<Case> = helm
        .into_iter()
        .map(|(name, body)| Case::new(format!("deploy::{name}"), body).beside())
        .collect();
    cases.push(Case::new("deploy::manifests::dry-run", dry_run).on_node());
    cases
}

/// Sets of values that are tried: the default, all that can be switched on, as little as can be.
const SETS: [&[&str]; 3] = [
    &[],
    &["--values", "ci/everything-values.yaml"],
    &["--values", "ci/least-values.yaml"],
];

/// Helm built by `go install` takes the cluster for an old one.
const CLUSTER: [&str; 2] = ["--kube-version", "1.34.0"];

fn helm(stage: &Stage, words: &[&str]) -> Result<Ran> {
    Setup::new("helm", &stage.folder, install::helm()?)
        .args(words)
        .inside(&shipped("helm/spantap"))
        .run(Duration::from_secs(30))
}

/// What the chart renders, with these words for helm.
fn render(stage: &Stage, words: &[&str]) -> Result<String> {
    let mut all = vec!["template", "spantap", ".", "--namespace", "spantap"];
    if !words.contains(&CLUSTER[0]) {
        all.extend(CLUSTER);
    }
    all.extend(words);
    let ran = helm(stage, &all)?;
    ensure!(ran.code == Some(0), "{words:?}: {}", ran.errors);
    Ok(ran.output)
}

/// Its objects.
fn objects(text: &str) -> Result<Vec<Value>> {
    let all = serde_yaml_ng::Deserializer::from_str(text)
        .map(<Value as serde::Deserialize>::deserialize)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|one| !one.is_null()).collect())
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Result<&'a Value> {
    let found = objects.iter().find(|one| one["kind"] == kind);
    found.with_context(|| format!("no {kind} is rendered"))
}

fn words(list: &Value) -> BTreeSet<&str> {
    let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(Value::as_str).collect()
}

fn lint(stage: &mut Stage) -> Result<()> {
    for values in SETS {
        let ran = helm(
            stage,
            &[&["lint", "--strict", "."], &CLUSTER[..], values].concat(),
        )?;
        stage.check(ran.code == Some(0), || {
            format!("{values:?}: {}{}", ran.output, ran.errors)
        });
    }
    let chart = fs::read_to_string(shipped("helm/spantap/Chart.yaml"))?;
    let version = format!("appVersion: \"{}\"", env!("CARGO_PKG_VERSION"));
    stage.check(chart.contains(&version), || {
        format!("Chart.yaml has no {version}")
    });
    Ok(())
}

fn template(stage: &mut Stage) -> Result<()> {
    let unit = fs::read_to_string(shipped("spantap.service"))?;
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let listed = line.context("the unit has no capabilities")?;
    let listed: BTreeSet<&str> = listed
        .split(' ')
        .map(|word| word.trim_start_matches("CAP_"))
        // Of Linux before 5.11, and not every node can give it.
        .filter(|word| *word != "SYS_RESOURCE")
        .collect();
    for values in SETS {
        let all = objects(&render(stage, values)?)?;
        let least = values.iter().any(|word| word.contains("least"));
        let set = of_kind(&all, "DaemonSet")?;
        let (spec, container) = {
            let spec = &set["spec"]["template"]["spec"];
            (spec, &spec["containers"][0])
        };
        let security = &container["securityContext"];
        let given = words(&security["capabilities"]["add"]);
        let want = if least {
            BTreeSet::from(["BPF", "PERFMON"])
        } else {
            listed.clone()
        };
        stage.check(given == want, || {
            format!("capabilities {given:?}, want {want:?}")
        });
        let fine = security["privileged"] == false
            && security["allowPrivilegeEscalation"] == false
            && security["readOnlyRootFilesystem"] == true
            && words(&security["capabilities"]["drop"]) == BTreeSet::from(["ALL"]);
        stage.check(fine, || format!("{security}"));
        let fine = spec["hostPID"] == true && spec["hostNetwork"].is_null();
        stage.check(fine, || format!("{spec}"));
        for (probe, path) in [
            ("startup", "/healthz"),
            ("liveness", "/healthz"),
            ("readiness", "/readyz"),
        ] {
            let get = &container[format!("{probe}Probe")]["httpGet"];
            stage.check(get["path"] == path && get["port"] == "serve", || {
                format!("{probe}: {get}")
            });
        }
        let mounts = container["volumeMounts"].as_array().context("no mounts")?;
        stage.check(mounts.iter().all(|mount| mount["readOnly"] == true), || {
            format!("{mounts:?}")
        });
        rights(stage, of_kind(&all, "ClusterRole")?, least);
    }
    restarts(stage)?;
    apparmor(stage)
}

/// Only looking, at what is used; no Secrets, no ConfigMaps.
fn rights(stage: &mut Stage, role: &Value, least: bool) {
    let rules = role["rules"].as_array().cloned().unwrap_or_default();
    let mut seen = BTreeSet::new();
    for rule in &rules {
        seen.extend(words(&rule["resources"]));
        // One object is got, or all are watched.
        let verbs = words(&rule["verbs"]);
        let known = verbs == BTreeSet::from(["get"]) || verbs == BTreeSet::from(["list", "watch"]);
        stage.check(known, || format!("{rule}"));
    }
    let mut want = BTreeSet::from(["pods", "nodes", "namespaces", "replicasets", "jobs"]);
    if !least {
        want.extend(["services", "endpointslices"]);
    }
    stage.check(seen == want, || {
        format!("the role reads {seen:?}, want {want:?}")
    });
}

/// Another selection leaves the pods as they are, as the agent reads it anew; any other setting does not.
fn restarts(stage: &mut Stage) -> Result<()> {
    let pod = |more: &[&str]| -> Result<Value> {
        let all = objects(&render(stage, more)?)?;
        Ok(of_kind(&all, "DaemonSet")?["spec"]["template"].clone())
    };
    let now = pod(&[])?;
    let selected = pod(&["--set", "config.selection.namespaces={shop}"])?;
    let sampled = pod(&["--set", "config.sampling.ratio=0.5"])?;
    let collector = pod(&["--set", "config.selection.exclude_collector=false"])?;
    stage.check(now == selected, || "a selection makes new pods".into());
    stage.check(now != sampled, || {
        "another setting makes no new pods".into()
    });
    stage.check(now != collector, || {
        "what of the selection takes a restart makes no new pods".into()
    });
    Ok(())
}

/// AppArmor by field from 1.30 on, by annotation before; no field that an older API server does not know.
fn apparmor(stage: &mut Stage) -> Result<()> {
    const OLD: &str = "container.apparmor.security.beta.kubernetes.io/agent: unconfined";
    let before = render(stage, &["--kube-version", "1.29.0"])?;
    let unknown = ["appArmorProfile", "recursiveReadOnly"];
    let plain = !unknown.iter().any(|field| before.contains(field));
    stage.check(before.contains(OLD) && plain, || before.clone());
    let since = render(stage, &["--kube-version", "1.30.0"])?;
    stage.check(
        !since.contains(OLD) && since.contains("appArmorProfile"),
        || since.clone(),
    );
    Ok(())
}

/// What is wrong is refused, and by its name.
fn schema(stage: &mut Stage) -> Result<()> {
    for (value, name) in [
        ("imag.tag=x", "'imag'"),
        ("otlp.endpont=http://x", "'endpont'"),
        ("otlp.endpoint=collector:4318", "/otlp/endpoint"),
        ("otlp.protocol=udp", "/otlp/protocol"),
        ("otlp.tls.clientKey=tls.key", "/otlp/tls/clientCertificate"),
        ("serve.port=0", "/serve/port"),
        ("serve.port=70000", "/serve/port"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        (
            "securityContext.capabilities={BPF}",
            "/securityContext/capabilities",
        ),
        (
            "securityContext.capabilities={BPF,PERFMON,SYS_MODULE}",
            "/securityContext/capabilities/2",
        ),
        (
            "securityContext.sysAdmin=maybe",
            "/securityContext/sysAdmin",
        ),
        (
            "securityContext.seccompProfile.type=Localhost",
            "localhostProfile",
        ),
        ("podMonitor.interval=often", "/podMonitor/interval"),
        ("host.cgroup=cgroup", "/host/cgroup"),
        ("tolerations=all", "/tolerations"),
        ("config=all", "/config"),
        ("config.selecton.namespaces={shop}", "'selecton'"),
        ("config.selection.namespace={shop}", "'namespace'"),
    ] {
        let words = ["template", "spantap", ".", "--set", value];
        let ran = helm(stage, &[&words, &CLUSTER[..]].concat())?;
        let refused = ran.code != Some(0) && ran.errors.contains(name);
        stage.check(refused, || {
            format!("--set {value}: {:?}, {}", ran.code, ran.errors)
        });
    }
    Ok(())
}

/// The settings that the chart renders are settings of the agent.
fn config(stage: &mut Stage) -> Result<()> {
    let folder = stage.folder.clone();
    let agent = |words: &[&str]| {
        let setup = Setup::new("check", &folder, agent::binary()?);
        setup.args(words).run(Duration::from_secs(10))
    };
    let settings = agent(&["config", "show"])?.output;
    if !settings.contains("\nserve:") || !settings.contains("  namespaces:") {
        stage.skip("this agent has no serve.listen or selection.namespaces");
        return Ok(());
    }
    let endpoint = ["--set", "otlp.endpoint=http://collector:4318"];
    for values in [SETS[0], &endpoint, SETS[2]] {
        let all = objects(&render(stage, values)?)?;
        let text = of_kind(&all, "ConfigMap")?["data"]["spantap.yaml"].clone();
        let file = stage.folder.join("spantap.yaml");
        fs::write(&file, text.as_str().context("no spantap.yaml")?)?;
        let ran = agent(&["config", "check", "--config", &file.to_string_lossy()])?;
        stage.check(ran.code == Some(0), || {
            format!("{text}: {}{}", ran.output, ran.errors)
        });
    }
    Ok(())
}

/// deploy/kubernetes/spantap.yaml is what the chart renders; with UPDATE set it is written.
fn current(stage: &mut Stage) -> Result<()> {
    let file = shipped("kubernetes/spantap.yaml");
    let values = shipped("kubernetes/values.yaml");
    let rendered = render(stage, &["--values", &values.to_string_lossy()])?;
    // Who applies them with kubectl has no release.
    let of_helm =
        |line: &&str| line.contains("managed-by: Helm") || line.contains("helm.sh/chart:");
    let rendered = rendered.split_inclusive('\n').filter(|line| !of_helm(line));
    let rendered: String = rendered.collect();
    let text = format!(
        "# Made from the chart with values.yaml, by\n#   UPDATE=1 cargo test -p spantap-tests --test live -- deploy::manifests::current\n{rendered}"
    );
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &text)?;
    }
    stage.check(
        fs::read_to_string(&file).is_ok_and(|now| now == text),
        || {
            format!(
                "{} is not what the chart renders: UPDATE=1 cargo test …",
                file.display()
            )
        },
    );
    Ok(())
}

/// A real API server takes each object, unknown fields refused, and warns of nothing.
fn dry_run(stage: &mut Stage) -> Result<()> {
    let Some(node) = Node::up(Level::Api)? else {
        stage.skip(node::NONE);
        return Ok(());
    };
    // Objects are tried one by one: their namespaces must be there, with Pod Security's labels.
    let kustomize = |folder: &str| -> Result<String> {
        let folder = shipped(folder);
        node.run(&["kubectl", "kustomize", &folder.to_string_lossy()])
    };
    let (agent, gateway) = (kustomize("kubernetes")?, kustomize("collector")?);
    for text in [&agent, &gateway] {
        let all = objects(text)?;
        let space = of_kind(&all, "Namespace")?.to_string();
        let made = node.attempt(&["kubectl", "apply", "-f", "-"], Some(&space))?;
        ensure!(made.code == Some(0), "{}", made.errors);
    }
    let plain = fs::read_to_string(shipped("kubernetes/spantap.yaml"))?;
    let mut sets = vec![
        ("kubernetes -k".to_string(), agent),
        ("collector -k".into(), gateway),
    ];
    sets.push(("kubernetes/spantap.yaml".into(), plain));
    for values in SETS {
        // The one kind that is not Kubernetes' own.
        let rendered = render(
            stage,
            &[values, &["--set", "podMonitor.enabled=false"]].concat(),
        )?;
        sets.push((format!("chart {values:?}"), rendered));
    }
    let mut count = 0;
    for (name, text) in &sets {
        const WORDS: [&str; 6] = [
            "kubectl",
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            "-",
        ];
        let ran = node.attempt(&WORDS, Some(text))?;
        count += ran.output.lines().count();
        stage.check(ran.code == Some(0) && ran.errors.is_empty(), || {
            format!("{name}: {}", ran.errors)
        });
    }
    stage.count("objects", count);
    // That what is strict is seen to be.
    let wrong = sets[2].1.replace("hostPID:", "hostPid:");
    let ran = node.attempt(
        &[
            "kubectl",
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            "-",
        ],
        Some(&wrong),
    )?;
    stage.check(ran.errors.contains("hostPid"), || {
        format!("a wrong field passed: {}", ran.errors)
    });
    Ok(())
}
