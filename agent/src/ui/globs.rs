//! Globs as people typed them. [`Glob`] takes any text; what nobody can have meant is refused here,
//! before it selects nothing without a word.

use crate::config::docs::origin_text;
use crate::config::{Error, Resolved, Selection, labels};
use crate::target::glob::Glob;

/// Refuses the settings' globs that have no end; the error says where it was typed, and why.
pub fn check(resolved: &Resolved) -> Result<(), Error> {
    for (setting, _, origin) in &resolved.values {
        let globs = globs_of(setting.name, &resolved.config.selection);
        if let Some(why) = globs.into_iter().find_map(fault) {
            return Err(Error(format!("{}: {why}", origin_text(origin, resolved))));
        }
    }
    Ok(())
}

/// The globs in a setting, without what stands around them.
fn globs_of<'a>(name: &str, selection: &'a Selection) -> Vec<&'a str> {
    let (whole, labeled) = match name {
        "selection.commands" => (&selection.commands, false),
        "selection.containers" => (&selection.containers, false),
        "selection.cgroups" => (&selection.cgroups, false),
        "selection.namespaces" => (&selection.namespaces, false),
        "selection.pods" => (&selection.pods, false),
        "selection.pod_labels" => (&selection.pod_labels, true),
        "selection.workloads" => (&selection.workloads, false),
        "selection.exclude_commands" => (&selection.exclude_commands, false),
        "selection.exclude_containers" => (&selection.exclude_containers, false),
        "selection.exclude_namespaces" => (&selection.exclude_namespaces, false),
        "selection.exclude_pods" => (&selection.exclude_pods, false),
        "selection.exclude_pod_labels" => (&selection.exclude_pod_labels, true),
        "selection.exclude_workloads" => (&selection.exclude_workloads, false),
        _ => return Vec::new(),
    };
    let texts = whole.iter().map(String::as_str);
    match labeled {
        false => texts.collect(),
        true => texts
            .flat_map(labels)
            .filter_map(|(_, value)| value)
            .collect(),
    }
}

/// What is wrong with a glob: a character of it means no more than it does behind a `\`, though it
/// begins something.
pub fn fault(text: &str) -> Option<String> {
    let glob = Glob::new(text);
    let is_literal = |at: usize| {
        let (before, behind) = text.split_at_checked(at).unwrap_or((text, ""));
        Glob::new(&format!("{before}\\{behind}")) == glob
    };
    if text.match_indices('[').any(|(at, _)| is_literal(at)) {
        return Some(format!(
            "`{text}` has a set without its `]`; the bracket itself is written `\\[`"
        ));
    }
    let odd = text.ends_with('\\') && is_literal(text.len());
    odd.then(|| format!("`{text}` ends in the middle of `\\` and a character"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use clap::Parser as _;

    use super::*;
    use crate::config::cli::{Cli, Command};
    use crate::config::{file, resolve};

    #[test]
    fn globs_without_an_end() {
        for text in [
            "[", "[ab", "a[", "[a][", "[]", "[!]", "a\\", "\\\\\\", "[a]*\\",
        ] {
            assert!(fault(text).is_some(), "{text}");
        }
        for text in [
            "", "*", "[ab]", "[[]", "[a[b]", "\\[", "\\[ab", "[]a]", "[!a]", "a]", "\\\\", "é[ñ]",
        ] {
            assert_eq!(fault(text), None, "{text}");
        }
    }

    #[test]
    fn they_are_refused_with_their_place() {
        let checked = |flags: &[&str], yaml: &str| {
            let cli = Cli::parse_from(["spantap", "agent"].iter().chain(flags));
            let Command::Agent(args) = cli.command else {
                panic!("the agent");
            };
            let file = file::parse(Path::new("s.yaml"), yaml).expect("a file");
            let vars = BTreeMap::<String, String>::new();
            check(&resolve(&args.settings.0, &vars, Some(file)).expect("settings"))
        };
        let why = |flags: &[&str], yaml: &str| checked(flags, yaml).expect_err("no glob").0;
        for flag in [
            "--command",
            "--container",
            "--cgroup",
            "--namespace",
            "--pod",
            "--workload",
            "--exclude-command",
            "--exclude-container",
            "--exclude-namespace",
            "--exclude-pod",
            "--exclude-workload",
        ] {
            let why = why(&[flag, "nginx", flag, "["], "");
            assert!(
                why.starts_with(&format!("flag {flag}: `[` has a set")),
                "{why}"
            );
        }
        let of_file = why(&[], "selection:\n  cgroups: ['[x']\n");
        assert!(of_file.starts_with("s.yaml:2: `[x` has"), "{of_file}");
        for flag in ["--pod-label", "--exclude-pod-label"] {
            let why = why(&[flag, "app=a", flag, "tier,app=[a"], "");
            assert!(
                why.starts_with(&format!("flag {flag}: `[a` has a set")),
                "{why}"
            );
        }
        checked(&["--command", "[a-z]*", "--resource", "a=["], "").expect("all fine");
    }
}
