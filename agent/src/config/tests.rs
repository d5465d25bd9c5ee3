//! What the layers come to, as tables: what is set on the left, what it comes to on the right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use super::cli::{Cli, Command};
use super::setting::Origin;
use super::*;

/// Resolves flags (of `agent`), variables and a file's text.
fn with(flags: &[&str], vars: &[(&str, &str)], yaml: &str) -> Result<Resolved, String> {
    let words = ["spantap", "agent"].iter().chain(flags);
    let cli = Cli::try_parse_from(words).map_err(|e| e.to_string())?;
    let Command::Agent(args) = cli.command else {
        return Err("not the agent".into());
    };
    let vars: BTreeMap<String, String> = vars
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let file = file::parse(Path::new("s.yaml"), yaml)?;
    let file = (!yaml.is_empty()).then_some(file);
    resolve(&args.settings.0, &vars, file).map_err(|e| e.to_string())
}

fn right(flags: &[&str], vars: &[(&str, &str)], yaml: &str) -> Resolved {
    match with(flags, vars, yaml) {
        Ok(resolved) => resolved,
        Err(why) => panic!("{flags:?} {vars:?} {yaml:?}: {why}"),
    }
}

fn wrong(flags: &[&str], vars: &[(&str, &str)], yaml: &str) -> String {
    match with(flags, vars, yaml) {
        Ok(resolved) => panic!("taken: {resolved:?}"),
        Err(why) => why,
    }
}

fn otlp(resolved: &Resolved) -> &Otlp {
    match resolved.config.export.exporters.first() {
        Some(Exporter::Otlp(otlp)) => otlp,
        other => panic!("not OTLP: {other:?}"),
    }
}

const OTLP: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

#[test]
fn nothing_said_gives_the_defaults_and_the_terminal() {
    let resolved = right(&[], &[], "");
    let mut expected = Config::default();
    expected.export.exporters = vec![Exporter::Stdout];
    assert_eq!(resolved.config, expected);
    assert_eq!(resolved.warnings, Vec::<String>::new());
    assert!(
        resolved
            .values
            .iter()
            .all(|(_, _, o)| *o == Origin::Default)
    );
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let file = "capture:\n  message_bytes: 2KiB\n";
    let vars = [("SPANTAP_MESSAGE_BYTES", "4KiB")];
    let flags = ["--message-bytes", "8KiB"];
    for (resolved, bytes, origin) in [
        (
            right(&flags, &vars, file),
            8192,
            Origin::Flag("message-bytes"),
        ),
        (
            right(&[], &vars, file),
            4096,
            Origin::Env("SPANTAP_MESSAGE_BYTES".into()),
        ),
        (right(&[], &[], file), 2048, Origin::File(2)),
        (right(&[], &[], ""), 65_536, Origin::Default),
    ] {
        assert_eq!(resolved.config.capture.message_bytes, bytes);
        assert_eq!(resolved.origin("capture.message_bytes"), origin);
    }
}

#[test]
fn lists_are_replaced_by_a_stronger_layer_and_not_added_to() {
    let file = "selection:\n  ports: [1, 2]\n  commands: nginx\n";
    let resolved = right(
        &["--port", "3,4", "--port=5"],
        &[("SPANTAP_PORT", "9")],
        file,
    );
    assert_eq!(resolved.config.selection.ports, [3, 4, 5]);
    assert_eq!(resolved.config.selection.commands, ["nginx"]);
    let resolved = right(&["--command", "a b,c", "--command", "d"], &[], "");
    assert_eq!(resolved.config.selection.commands, ["a b,c", "d"]);
}

/// Every setting can be set in every layer: the table's promise.
#[test]
fn every_setting_takes_its_own_default_in_every_layer() {
    use form::Shown;
    for setting in SETTINGS {
        let text = match (setting.show)(&setting::Draft::default()) {
            Shown::One(text) => text,
            Shown::List(list) if !list.is_empty() => list.join(","),
            _ => sample_value(setting).into(),
        };
        let flag = format!("--{}={text}", setting.flag);
        let by_flag = right(&[&flag], &[], "");
        assert_eq!(
            by_flag.origin(setting.name),
            Origin::Flag(setting.flag),
            "{flag}"
        );
        let variable = setting.variable();
        let by_env = right(&[], &[(&variable, &text)], "");
        assert_eq!(by_env.origin(setting.name), Origin::Env(variable.clone()));
        assert_eq!(by_env.config, by_flag.config, "{flag}");
        for name in setting.otel {
            let by_standard = right(&[], &[(name, &text)], "");
            assert_eq!(by_standard.config, by_flag.config, "{name}");
            assert_eq!(
                by_standard.origin(setting.name),
                Origin::Env((*name).into())
            );
        }
    }
}

fn sample_value(setting: &setting::Setting) -> &'static str {
    match (setting.name, setting.value) {
        ("export.to", _) => "otlp",
        (_, "PID" | "PORT") => "12,13",
        (_, "URL") => "http://h:1/x",
        (_, "ADDRESS:PORT") => "[::1]:9465",
        (_, "PATTERN") => "/a/{b}",
        (_, "NAME=VALUE") => "a=b",
        _ => "x",
    }
}

#[test]
fn names_are_unique_and_documented() {
    let mut names = std::collections::BTreeSet::new();
    for setting in SETTINGS {
        assert!(names.insert(setting.name.to_owned()), "{setting:?}");
        assert!(names.insert(format!("--{}", setting.flag)), "{setting:?}");
        for variable in setting.otel {
            assert!(names.insert((*variable).to_owned()), "{variable}");
        }
        let doc = setting.doc();
        assert!(
            doc.ends_with('.') || doc.ends_with(')'),
            "{setting:?}: {doc}"
        );
        assert!(
            setting
                .flag
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'-')
        );
    }
}

#[test]
fn the_command_line_is_well_made_and_its_help_has_every_setting() {
    Cli::command().debug_assert();
    for command in ["agent", "watch", "run"] {
        let help = Cli::try_parse_from(["spantap", command, "--help"]);
        let help = help.expect_err("help is given as an error").to_string();
        for setting in SETTINGS {
            assert!(
                help.contains(&format!("--{}", setting.flag)),
                "{command}: {setting:?}"
            );
        }
        for part in ["Examples:", "Exit codes:"] {
            assert!(help.contains(part), "{command} --help: {part}");
        }
    }
    let short = Cli::try_parse_from(["spantap", "agent", "-h"]);
    let short = short.expect_err("help is given as an error").to_string();
    assert!(
        short.contains("--pid") && !short.contains("--ring-bytes"),
        "{short}"
    );
}

#[test]
fn flags_refuse_what_is_wrong_and_name_themselves() {
    for (flags, parts) in [
        (
            &["--message-bytes", "1"][..],
            &["--message-bytes", "between 1KiB and 16MiB"][..],
        ),
        (
            &["--ring-bytes", "100KiB"],
            &["--ring-bytes", "next is 128KiB"],
        ),
        (&["--port", "80,http"], &["--port", "`http`"]),
        (&["--sampler", "parentbased"], &["sampler"]),
        (
            &["--sampler-ratio", "2"],
            &["--sampler-ratio", "from 0 to 1"],
        ),
        (&["--drain", "2s"], &["--drain", "between 1ms and 1s"]),
        (
            &["--otlp-header", "a b=c"],
            &["--otlp-header", "not a header name"],
        ),
        (
            &["--export", "none,json"],
            &["--export", "cannot be combined"],
        ),
        (&["--otlp-endpoint", "ftp://x"], &["ftp"]),
        (&["--otlp-endpoint", "http://"], &["not the address"]),
        (&["--otlp-endpoint", "http://x:99999"], &["not the address"]),
        (
            &["--export", "otlp", "--otlp-client-key", "/k"],
            &["client_certificate"],
        ),
    ] {
        let why = wrong(flags, &[], "");
        for part in parts {
            assert!(why.contains(part), "{flags:?}: {part} in {why}");
        }
    }
}

#[test]
fn switches_and_repeated_flags() {
    assert!(!right(&["--redact=false"], &[], "").config.redaction.enabled);
    assert!(
        right(&["--redact"], &[("SPANTAP_REDACT", "off")], "")
            .config
            .redaction
            .enabled
    );
    assert!(!right(&[], &[], "").config.redaction.command_args);
    let told = right(&["--command-args"], &[], "").config.redaction;
    assert!(told.enabled && told.command_args);
    let last = right(&["--drain", "1ms", "--drain", "2ms"], &[], "");
    assert_eq!(last.config.capture.drain, Duration::from_millis(2));
}

#[test]
fn exporters_follow_from_the_endpoint_unless_asked_for() {
    let kinds = |flags: &[&str], vars: &[(&str, &str)], yaml: &str| -> String {
        let resolved = right(flags, vars, yaml);
        let kinds = resolved.config.export.exporters.iter().map(|e| match e {
            Exporter::Otlp(_) => "otlp",
            Exporter::Stdout => "stdout",
            Exporter::Json => "json",
        });
        kinds.collect::<Vec<_>>().join(",")
    };
    let endpoint = [(OTLP, "http://c:4318")];
    let traces = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/t")];
    assert_eq!(kinds(&[], &[], ""), "stdout");
    assert_eq!(kinds(&[], &endpoint, ""), "otlp");
    assert_eq!(kinds(&[], &traces, ""), "otlp");
    assert_eq!(kinds(&["--otlp-endpoint", "http://c"], &[], ""), "otlp");
    assert_eq!(
        kinds(&[], &[], "export: {otlp: {endpoint: 'http://c'}}"),
        "otlp"
    );
    assert_eq!(kinds(&["--export", "json"], &endpoint, ""), "json");
    assert_eq!(
        kinds(&["--export", "otlp", "--export", "stdout"], &[], ""),
        "otlp,stdout"
    );
    assert_eq!(kinds(&["--export", "none"], &[], ""), "");
    assert_eq!(
        kinds(&[], &[("OTEL_TRACES_EXPORTER", "console")], ""),
        "stdout"
    );
    assert_eq!(
        kinds(&[], &[("OTEL_TRACES_EXPORTER", "otlp,zipkin")], ""),
        "otlp"
    );
    assert_eq!(
        kinds(&[], &[("OTEL_TRACES_EXPORTER", "zipkin")], ""),
        "stdout"
    );
    assert_eq!(
        kinds(
            &[],
            &[("OTEL_TRACES_EXPORTER", "none")],
            "export: {to: json}"
        ),
        ""
    );
    assert_eq!(
        kinds(
            &[],
            &[("OTEL_SDK_DISABLED", "True"), (OTLP, "http://c")],
            ""
        ),
        ""
    );
    let resolved = right(&[], &endpoint, "");
    assert_eq!(
        resolved.origin("export.to"),
        Origin::Follows("export.otlp.endpoint")
    );
    let unused = right(&["--export", "json"], &endpoint, "");
    assert!(unused.warnings.concat().contains("not among the exporters"));
}

#[test]
fn endpoints_by_the_specification() {
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let traces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
    let all = ("OTEL_TRACES_EXPORTER", "otlp");
    for (vars, endpoint) in [
        (&[all][..], "http://localhost:4318/v1/traces"),
        (&[all, grpc], "http://localhost:4317"),
        (&[(OTLP, "http://c:4318")], "http://c:4318/v1/traces"),
        (&[(OTLP, "http://c:4318/")], "http://c:4318/v1/traces"),
        (&[(OTLP, "https://c/otlp/")], "https://c/otlp/v1/traces"),
        (
            &[(OTLP, "https://c/otlp?k=v")],
            "https://c/otlp/v1/traces?k=v",
        ),
        (
            &[(OTLP, "http://[::1]:4318")],
            "http://[::1]:4318/v1/traces",
        ),
        (&[(OTLP, "c:4318")], "http://c:4318/v1/traces"),
        (&[(traces, "http://c:4318")], "http://c:4318/"),
        (&[(traces, "http://c/my/own")], "http://c/my/own"),
        (&[(OTLP, "http://b"), (traces, "http://t/x")], "http://t/x"),
        (&[grpc, (OTLP, "http://c:4317")], "http://c:4317"),
        (&[grpc, (OTLP, "https://c:4317/")], "https://c:4317"),
        (&[grpc, (OTLP, "c:4317")], "https://c:4317"),
        (&[grpc, (OTLP, "c")], "https://c:4317"),
        (&[grpc, insecure, (OTLP, "c")], "http://c:4317"),
        (&[grpc, insecure, (OTLP, "https://c:1")], "https://c:1"),
        (&[grpc, insecure, (OTLP, "dns:///c:1")], "http://c:1"),
        (&[grpc, insecure, (OTLP, "[::1]")], "http://[::1]:4317"),
        (
            &[grpc, (traces, "http://t:1"), (OTLP, "http://c:2")],
            "http://t:1",
        ),
    ] {
        let resolved = right(&[], vars, "");
        assert_eq!(otlp(&resolved).endpoint, endpoint, "{vars:?}");
    }
    let flag = right(
        &["--otlp-endpoint", "http://f"],
        &[(traces, "http://t/x")],
        "",
    );
    assert_eq!(
        otlp(&flag).endpoint,
        "http://f/v1/traces",
        "a flag beats a variable"
    );
    let doubled = right(&[], &[(OTLP, "http://c/v1/traces")], "");
    assert_eq!(otlp(&doubled).endpoint, "http://c/v1/traces/v1/traces");
    assert!(doubled.warnings.concat().contains("base"));
}

#[test]
fn otlp_variables_and_their_traces_forms() {
    let general = right(
        &[],
        &[
            (OTLP, "https://c"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20b%3D, x=y=z ,"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k"),
        ],
        "",
    );
    let expected = Otlp {
        endpoint: "https://c/v1/traces".into(),
        protocol: Protocol::HttpProtobuf,
        headers: vec![
            ("api-key".into(), "a b=".into()),
            ("x".into(), "y=z".into()),
        ],
        gzip: true,
        timeout: Duration::from_millis(1500),
        certificate: Some("/ca".into()),
        client_certificate: Some("/c".into()),
        client_key: Some("/k".into()),
    };
    assert_eq!(otlp(&general), &expected);
    assert_eq!(general.warnings, Vec::<String>::new());

    let own = right(
        &[],
        &[
            (OTLP, "https://c"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "c=d"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "5"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", " "),
        ],
        "",
    );
    assert_eq!(otlp(&own).headers, [("c".into(), "d".into())]);
    assert_eq!(otlp(&own).protocol, Protocol::HttpProtobuf);
    assert_eq!(
        otlp(&own).timeout,
        Duration::from_millis(5),
        "empty is unset"
    );
}

#[test]
fn samplers() {
    let ratio = ("OTEL_TRACES_SAMPLER_ARG", "0.25");
    for (vars, sampler) in [
        (
            &[("OTEL_TRACES_SAMPLER", "always_on")][..],
            Sampler::AlwaysOn,
        ),
        (&[("OTEL_TRACES_SAMPLER", "always_off")], Sampler::AlwaysOff),
        (
            &[("OTEL_TRACES_SAMPLER", "TraceIdRatio"), ratio],
            Sampler::TraceIdRatio(0.25),
        ),
        (
            &[("OTEL_TRACES_SAMPLER", "traceidratio")],
            Sampler::TraceIdRatio(1.0),
        ),
        (&[ratio], Sampler::ParentBasedAlwaysOn),
        (
            &[("OTEL_TRACES_SAMPLER", "parentbased_always_off")],
            Sampler::ParentBasedAlwaysOff,
        ),
        (
            &[("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ratio],
            Sampler::ParentBasedTraceIdRatio(0.25),
        ),
        (
            &[("OTEL_TRACES_SAMPLER", "xray")],
            Sampler::ParentBasedAlwaysOn,
        ),
    ] {
        assert_eq!(
            right(&[], vars, "").config.sampling.sampler,
            sampler,
            "{vars:?}"
        );
    }
}

#[test]
fn standard_variables_that_make_no_sense_are_warned_about_and_ignored() {
    for (name, value) in [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "1.5"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_TRACES_EXPORTER", "otpl"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=%zz"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "1"),
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c"),
        ("OTEL_PROPAGATORS", "jaeger"),
    ] {
        let resolved = right(&[], &[(name, value)], "");
        assert_eq!(
            resolved.config,
            right(&[], &[], "").config,
            "{name}={value}"
        );
        let [warning] = resolved.warnings.as_slice() else {
            panic!("{name}: {:?}", resolved.warnings);
        };
        assert!(warning.starts_with(name), "{warning}");
    }
    // The next best layer steps in.
    let file = "limits: {event_count: 7}";
    let resolved = right(&[], &[("OTEL_SPAN_EVENT_COUNT_LIMIT", "x")], file);
    assert_eq!(resolved.config.limits.event_count, 7);
}

#[test]
fn our_variables_are_as_strict_as_flags_and_mistyped_ones_are_noticed() {
    let why = wrong(&[], &[("SPANTAP_QUEUE_SIZE", "many")], "");
    assert!(
        why.starts_with("SPANTAP_QUEUE_SIZE: expected a whole number"),
        "{why}"
    );
    let resolved = right(&[], &[("SPANTAP_MESAGE_BYTES", "1")], "");
    assert_eq!(
        resolved.warnings,
        ["SPANTAP_MESAGE_BYTES is not a setting; did you mean `SPANTAP_MESSAGE_BYTES`?"]
    );
    let both = [
        ("SPANTAP_QUEUE_SIZE", "7"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "8"),
    ];
    assert_eq!(right(&[], &both, "").config.export.queue_size, 7);
}

#[test]
fn lists_in_standard_variables() {
    let vars = [
        (
            "OTEL_PROPAGATORS",
            "b3multi, tracecontext,baggage,xray,b3multi",
        ),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=a%2Cb,x=1",
        ),
        (
            "OTEL_INSTRUMENTATION_HTTP_SERVER_CAPTURE_REQUEST_HEADERS",
            "X-A,x-b",
        ),
        (
            "OTEL_INSTRUMENTATION_HTTP_CLIENT_CAPTURE_REQUEST_HEADERS",
            "x-b,x-c",
        ),
    ];
    let resolved = right(&[], &vars, "");
    assert_eq!(
        resolved.config.propagation.extract,
        ["b3multi", "tracecontext"]
    );
    assert_eq!(resolved.config.http.request_headers, ["x-a", "x-b", "x-c"]);
    let attribute = |name: &str| resolved.config.resource.get(name).map(String::as_str);
    assert_eq!(attribute("deployment.environment.name"), Some("a,b"));
    assert_eq!(resolved.warnings.len(), 1, "{:?}", resolved.warnings);
    let none = right(&[], &[("OTEL_PROPAGATORS", "none")], "");
    assert!(none.config.propagation.extract.is_empty());
}

#[test]
fn a_batch_is_never_larger_than_the_queue() {
    let resolved = right(&["--queue-size", "100"], &[], "");
    assert_eq!(resolved.config.export.batch_size, 100);
    assert!(resolved.warnings.is_empty());
    let resolved = right(&["--queue-size=100", "--batch-size=200"], &[], "");
    assert_eq!(resolved.config.export.batch_size, 100);
    assert_eq!(resolved.warnings.len(), 1);
}

#[test]
fn a_file_may_be_written_in_any_of_yamls_ways() {
    let text = "\
# A comment.
---
capture: {drain: 2ms, max_connections: 100}
selection:
  ports:
    - 80
    - \"443\"
  commands: [nginx, 'python*']
  pids:
export:
  to: [otlp, json]
  otlp:
    endpoint: >-
      http://c:4318
    headers:
      authorization: Bearer a%20b
resource:
  service.version: 1.10
  build: 0x1F
redaction:
";
    let resolved = right(&[], &[], text);
    let config = &resolved.config;
    assert_eq!(config.capture.drain, Duration::from_millis(2));
    assert_eq!(config.selection.ports, [80, 443]);
    assert_eq!(config.selection.commands, ["nginx", "python*"]);
    assert_eq!(otlp(&resolved).endpoint, "http://c:4318/v1/traces");
    let headers = &otlp(&resolved).headers;
    assert_eq!(headers, &[("authorization".into(), "Bearer a%20b".into())]);
    assert_eq!(
        config.resource.get("service.version").map(String::as_str),
        Some("1.10")
    );
    assert_eq!(
        config.resource.get("build").map(String::as_str),
        Some("0x1F")
    );
    for (name, origin) in [
        ("capture.max_connections", Origin::File(3)),
        ("selection.commands", Origin::File(8)),
        ("selection.pids", Origin::Default),
        ("export.otlp.headers", Origin::File(15)),
    ] {
        assert_eq!(resolved.origin(name), origin, "{name}");
    }
}

#[test]
fn a_wrong_file_is_refused_with_its_line_and_key() {
    for (text, why) in [
        (
            "capture:\n  path: auto\n  drian: 4ms\n",
            "s.yaml:3: unknown key `capture.drian`; did you mean `capture.drain`?",
        ),
        (
            "cature:\n  path: auto\n",
            "s.yaml:1: unknown key `cature`; did you mean `capture`?",
        ),
        ("\n\nzzzzzz: 1\n", "s.yaml:3: unknown key `zzzzzz`"),
        (
            "export: {otlp: {url: x}}",
            "s.yaml:1: unknown key `export.otlp.url`",
        ),
        (
            "limits:\n  text_length: 9\n  event_count: lots\n",
            "s.yaml:2: limits.text_length: `9` is below 16",
        ),
        (
            "# x\ncapture: {path: sockets}\n",
            "s.yaml:2: capture.path: expected one of auto, socket, syscall, got `sockets`; \
             did you mean `socket`?",
        ),
        (
            "selection:\n  ports:\n  - 80\n  - web\n",
            "s.yaml:2: selection.ports: expected a port",
        ),
        (
            "capture:\n  drain: 1ms\n  drain: 2ms\n",
            "s.yaml:3: `capture.drain` is given twice",
        ),
        ("capture: 5\n", "s.yaml:1: "),
        ("capture:\n  path: [auto]\n", "s.yaml:2: "),
        ("export:\n  otlp:\n    headers: a=b\n", "s.yaml:3: "),
        ("- a\n", "s.yaml:1: "),
        ("capture:\n  path: \"auto\n", "s.yaml:"),
        ("a: b: c\n", "s.yaml:1: "),
        ("a: 1\n---\nb: 2\n", "s.yaml:"),
    ] {
        let told = wrong(&[], &[], text);
        assert!(told.starts_with(why), "{text:?}: {told}");
        assert!(!told.contains(" at line "), "{told}");
    }
    // A file is checked whole, even where flags are stronger.
    let told = wrong(&["--drain", "1ms"], &[], "capture: {drain: x}");
    assert!(told.starts_with("s.yaml:1: capture.drain: "), "{told}");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let why = wrong(
        &[],
        &[],
        "limitz: {a: 1}\nselection:\n  ports: [0]\n  prots: 1\n",
    );
    assert_eq!(
        why.lines().map(|l| l.get(..9)).collect::<Vec<_>>(),
        [Some("s.yaml:1:"), Some("s.yaml:3:"), Some("s.yaml:4:")],
        "{why}"
    );
    assert!(
        why.contains("unknown key `limitz`") && why.contains("`selection.ports`"),
        "{why}"
    );
    let vars = [("SPANTAP_PID", "x"), ("SPANTAP_RING_BYTES", "3")];
    let why = wrong(&[], &vars, "");
    assert_eq!(why.lines().count(), 2, "{why}");

    // A file that cannot be read hides nothing of the rest.
    let vars = BTreeMap::from([("SPANTAP_PID".to_owned(), "x".to_owned())]);
    let flags = Flags {
        file: Some("/nope.yaml".into()),
        ..Flags::default()
    };
    let why = load(&flags, &vars).expect_err("it is wrong").to_string();
    assert!(
        why.contains("/nope.yaml") && why.contains("SPANTAP_PID"),
        "{why}"
    );
}

#[test]
fn only_regular_files_of_a_sane_size_are_read() {
    let read = |path: &str| {
        let flags = Flags {
            file: Some(path.into()),
            ..Flags::default()
        };
        let read = load(&flags, &BTreeMap::new());
        read.expect_err("it is no configuration").to_string()
    };
    for path in ["/dev/zero", "/proc/self"] {
        let why = read(path);
        assert!(why.contains("not a regular file"), "{why}");
    }
    let large = std::env::temp_dir().join(format!("spantap-large-{}.yaml", std::process::id()));
    std::fs::write(&large, "#".repeat((1 << 20) + 1)).expect("a file for the test");
    let why = read(&large.display().to_string());
    assert!(why.contains("1 MiB"), "{why}");
    std::fs::remove_file(large).expect("it was there");
}

#[test]
fn what_is_wrong_with_a_flag_comes_with_the_usage_of_its_command() {
    let words = ["spantap", "agent", "--port", "0"].map(Into::into);
    let why = cli::parse(words).expect_err("no port").to_string();
    assert!(
        why.starts_with(
            "error: --port: expected a port from 1 to 65535, got `0`\n\nUsage: spantap agent"
        ),
        "{why}"
    );
    assert!(!why.contains("\n\n\n"), "{why}");
}

#[test]
fn a_switch_says_how_its_value_is_written() {
    let why = |words: &[&str]| {
        let words = ["spantap", "agent"].iter().chain(words).map(Into::into);
        cli::parse(words)
            .expect_err("a stray word")
            .render()
            .to_string()
    };
    for value in ["false", "off"] {
        let refused = why(&["--verbose", "--redact", value, "--tls"]);
        assert!(
            refused.contains(&format!("write '--redact={value}'\n")),
            "{refused}"
        );
    }
    for words in [
        &["false"][..],
        &["--drain", "1ms", "false"],
        &["--redact", "perhaps"],
    ] {
        assert!(!why(words).contains("write '"), "{words:?}");
    }
}

#[test]
fn a_switch_takes_the_same_words_everywhere() {
    for (word, redacts) in [("off", false), ("NO", false), ("0", false), ("on", true)] {
        for resolved in [
            right(&[&format!("--redact={word}")], &[], ""),
            right(&[], &[("SPANTAP_REDACT", word)], ""),
            right(&[], &[], &format!("redaction: {{enabled: {word}}}")),
        ] {
            assert_eq!(resolved.config.redaction.enabled, redacts, "{word}");
        }
    }
    let why = wrong(&["--redact=perhaps"], &[], "");
    assert!(why.contains("[possible values: true, false]"), "{why}");
}

#[test]
fn a_header_that_is_not_written_is_warned_about() {
    let warned = |flags: &[&str]| right(flags, &[], "").warnings;
    let header = ["--propagation", "header"];
    for (flags, why) in [
        (&header[..], "names no network"),
        (&["--header-to", "10.0.0.0/8"], "is not `header`"),
        (
            &["--propagation", "header", "--header-to", "8.8.8.8"],
            "8.8.8.8/32",
        ),
    ] {
        let warnings = warned(flags);
        assert!(
            matches!(warnings.as_slice(), [it] if it.contains(why)),
            "{warnings:?}"
        );
    }
    let right = ["--propagation", "header", "--header-to", "10.1.0.0/16"];
    assert_eq!(warned(&right), Vec::<String>::new());
}

#[test]
fn files_without_a_setting_are_right() {
    for text in [
        "",
        "\n",
        "# nothing\n",
        "---\n",
        "{}\n",
        "capture:\nexport: ~\n",
        "~",
    ] {
        assert_eq!(
            right(&[], &[], text).config,
            right(&[], &[], "").config,
            "{text:?}"
        );
    }
}

#[test]
fn what_show_prints_is_a_file_that_means_the_same() {
    let flags = [
        "--pid=7",
        "--command=a, \"b\": *",
        "--export=otlp",
        "--sampler=traceidratio",
        "--sampler-ratio=0.125",
        "--resource=team=a: b #c",
        "--resource=on=true",
        "--route=/a/{b}/**",
        "--propagator=none",
        "--exchange-timeout=90s",
    ];
    let resolved = right(&flags, &[(OTLP, "http://c:4318")], "");
    let text = docs::show(&resolved);
    let again = right(&[], &[], &text);
    assert_eq!(again.config, resolved.config, "{text}");
    assert!(text.contains("# flag --pid"), "{text}");
    assert!(text.contains("# env OTEL_EXPORTER_OTLP_ENDPOINT"), "{text}");
    let secret = right(&["--otlp-header=key=hidden", "--export=otlp"], &[], "");
    assert!(!docs::show(&secret).contains("hidden"));
    assert!(!docs::show_json(&secret).to_string().contains("hidden"));
}

#[test]
fn the_sample_is_right_as_it_is_and_with_every_comment_taken_away() {
    let sample = docs::sample();
    assert_eq!(right(&[], &[], &sample).config, right(&[], &[], "").config);
    let mut bare = String::new();
    for line in sample.lines() {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        let known = |s: &setting::Setting| rest.starts_with(&format!("# {}:", s.key()));
        match rest.strip_prefix("# ") {
            Some(rest) if SETTINGS.iter().any(known) => bare += &format!("{indent}{rest}\n"),
            _ => bare += &format!("{line}\n"),
        }
    }
    let resolved = right(&[], &[], &bare);
    assert_eq!(resolved.config, right(&[], &[], "").config, "{bare}");
    let set = resolved.values.iter().filter(|(_, _, o)| o.layer() > 0);
    assert!(set.count() > SETTINGS.len() / 2);
}

#[test]
fn committed_documentation_is_what_the_table_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let values = "deploy/helm/spantap/values.schema.json";
    let schema = std::fs::read_to_string(root.join(values)).expect("the chart has a schema");
    let (before, rest) = schema
        .split_once("    \"config\": ")
        .expect("of config, too");
    let (_, after) = rest.split_once("\n    \"serve\": ").expect("and of serve");
    let schema = format!("{before}{}\n    \"serve\": {after}", docs::schema());
    for (path, text) in [
        ("docs/configuration.md", docs::markdown()),
        ("deploy/spantap.yaml", docs::sample()),
        (values, schema),
    ] {
        let path = root.join(path);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).expect("the tree can be written");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "{} is stale: UPDATE=1 cargo test -p spantap config",
            path.display()
        );
    }
}

#[test]
fn load_finds_the_file_by_flag_then_by_variable() {
    let dir = std::env::temp_dir().join(format!("spantap-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder for the test");
    let write = |name: &str, text: &str| -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("a file for the test");
        path
    };
    let one = write("1.yaml", "limits: {event_count: 1}");
    let two = write("2.yaml", "limits: {event_count: 2}");
    let vars = BTreeMap::from([(env::CONFIG.to_owned(), one.display().to_string())]);
    let mut flags = Flags::default();
    let by_variable = load(&flags, &vars).expect("it is right");
    assert_eq!(by_variable.config.limits.event_count, 1);
    assert_eq!(by_variable.file, Some(one));
    flags.file = Some(two);
    assert_eq!(
        load(&flags, &vars)
            .expect("it is right")
            .config
            .limits
            .event_count,
        2
    );
    flags.file = Some(dir.join("3.yaml"));
    let missing = load(&flags, &vars).expect_err("it is not there");
    assert!(missing.0.contains("3.yaml"), "{missing}");
    std::fs::remove_dir_all(&dir).expect("it was ours");
}

#[test]
fn a_header_that_cannot_be_read_is_not_shown() {
    for text in ["Bearer hunter2", "authorization=%zzhunter2"] {
        let vars = [("OTEL_EXPORTER_OTLP_HEADERS", text), (OTLP, "http://c")];
        let warnings = right(&[], &vars, "").warnings.concat();
        assert!(warnings.contains("ignored"), "{warnings}");
        assert!(!warnings.contains("hunter2"), "{warnings}");
    }
}

#[test]
fn metrics_go_where_they_are_asked_to_go() {
    let told = |flags: &[&str], vars: &[(&str, &str)]| {
        let metrics = right(flags, vars, "").config.export.metrics;
        metrics.map(|metrics| metrics.otlp.endpoint)
    };
    let asked = ("OTEL_METRICS_EXPORTER", "otlp");
    let own = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m/x");
    let grpc = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc");
    let disabled = ("OTEL_SDK_DISABLED", "true");
    for (vars, endpoint) in [
        (&[][..], None),
        (&[(OTLP, "http://c:4318")], None),
        (&[asked], Some("http://localhost:4318/v1/metrics")),
        (&[asked, grpc], Some("http://localhost:4317")),
        (
            &[asked, (OTLP, "http://c:4318")],
            Some("http://c:4318/v1/metrics"),
        ),
        (&[own], Some("http://m/x")),
        (&[own, (OTLP, "http://c:4318")], Some("http://m/x")),
        (&[own, ("OTEL_METRICS_EXPORTER", "none")], None),
        (&[("OTEL_METRICS_EXPORTER", "prometheus")], None),
        (&[asked, disabled], None),
    ] {
        assert_eq!(told(&[], vars).as_deref(), endpoint, "{vars:?}");
    }
    let flag = told(
        &["--metrics", "otlp", "--otlp-endpoint", "http://c"],
        &[own],
    );
    assert_eq!(flag.as_deref(), Some("http://c/v1/metrics"));
}

/// What is for one signal only does not reach the other's receiver.
#[test]
fn metrics_have_their_own_variables_before_the_common_ones() {
    let vars = [
        (OTLP, "http://c:4318"),
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1500"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3000"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "for=traces"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "for=metrics"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
    ];
    let resolved = right(&[], &vars, "");
    let metrics = resolved.config.export.metrics.clone().expect("asked for");
    let header = |value: &str| vec![("for".to_owned(), value.to_owned())];
    assert_eq!(metrics.interval, Duration::from_millis(1500));
    assert_eq!(metrics.otlp.headers, header("metrics"));
    assert_eq!(otlp(&resolved).headers, header("traces"));
    assert!(otlp(&resolved).gzip && !metrics.otlp.gzip);
    assert_eq!(metrics.otlp.timeout, Duration::from_secs(3));
}
