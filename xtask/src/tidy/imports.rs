//! Imports follow the data: a stage names what comes before it on the way from the kernel to the
//! exporter, and aya has one home on each side.

use super::code::Code;
use super::{Finding, Source};

/// The data's way: each stage may name those before it.
const WAY: &[&str] = &[
    "event",
    "connection",
    "protocol",
    "exchange",
    "trace",
    "span",
    "policy",
    "export",
];
/// Beside the way, where it touches the world: what each may name.
const BESIDE: &[(&str, &[&str])] = &[
    ("kubernetes", &[]),
    ("target", &["event", "courtesy", "kubernetes"]),
    ("probe", &["target", "event"]),
    (
        "resource",
        &[
            "kubernetes",
            "target",
            "event",
            "protocol",
            "span",
            "policy",
        ],
    ),
    ("config", &[]),
    ("courtesy", &["event"]),
    ("say", &[]),
    ("serve", &[]),
    ("stats", &[]),
];
/// What every module may name.
const COMMON: &[&str] = &["config", "say", "stats"];
/// aya's crates.
const AYA: &[&str] = &[
    "aya",
    "aya_build",
    "aya_ebpf",
    "aya_log",
    "aya_log_common",
    "aya_log_ebpf",
    "aya_obj",
];
/// Where these words may stand.
const AYA_HOMES: &[&str] = &["agent/src/probe/", "agent-ebpf/"];

/// A stage names no later stage.
pub fn order(source: &Source, code: &Code) -> Vec<Finding> {
    let Some(own) = stage(&source.path).filter(|_| !source.is_test()) else {
        return Vec::new();
    };
    if MEET.contains(&own) {
        return Vec::new();
    }
    let Some(allowed) = allowed(own) else {
        let text = format!("the module {own} has no place in the data's way");
        return vec![source.finding(1, "order", text)];
    };
    let mut findings = Vec::new();
    let depth = depth(&source.path);
    let mut supers = 0;
    for (line, word, after) in code.own_words() {
        supers = if word == "super" { supers + 1 } else { 0 };
        let from_root = word == "crate" || word == "super" && supers == depth;
        let Some(path) = after.strip_prefix("::").filter(|_| from_root) else {
            continue;
        };
        for name in named(path) {
            let known = MEET.contains(&name) || self::allowed(name).is_some();
            let fine = name == own || allowed.contains(&name) || COMMON.contains(&name);
            if known && !fine {
                findings.push(source.finding(
                    line,
                    "order",
                    format!("{own} names {name}, which is not before it on the data's way"),
                ));
            }
        }
    }
    findings
}

/// aya stays behind the probe.
pub fn kernel_library(source: &Source, code: &Code) -> Vec<Finding> {
    if AYA_HOMES.iter().any(|home| source.path.starts_with(home)) {
        return Vec::new();
    }
    let hits = code.words().filter(|(_, word, _)| AYA.contains(word));
    hits.map(|(line, word, _)| {
        source.finding(line, "aya", format!("{word} is named outside its home"))
    })
    .collect()
}

/// The lists above name modules that are there, and no others.
pub fn known(sources: &[Source]) -> Vec<Finding> {
    let beside = BESIDE
        .iter()
        .flat_map(|(name, allowed)| std::iter::once(name).chain(*allowed));
    let names = WAY.iter().chain(beside).chain(COMMON).chain(MEET);
    let mut absent: Vec<&str> = names
        .copied()
        .filter(|name| !sources.iter().any(|s| stage(&s.path) == Some(name)))
        .collect();
    absent.sort_unstable();
    absent.dedup();
    let finding = |name| Finding {
        path: "xtask/src/tidy/imports.rs".to_owned(),
        line: 1,
        rule: "order",
        text: format!("the data's way names {name}, which agent/src does not have"),
    };
    absent.into_iter().map(finding).collect()
}

/// What a module may name; None for a module that is not known here.
fn allowed(module: &str) -> Option<&'static [&'static str]> {
    let beside = BESIDE.iter().find(|(name, _)| *name == module);
    let stage = || WAY.iter().position(|name| *name == module);
    beside
        .map(|(_, allowed)| *allowed)
        .or_else(|| WAY.get(..stage()?))
}

/// The module of the agent that a file belongs to.
fn stage(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("agent/src/")?;
    let first = inside.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "lib" | "main")).then_some(name)
}

/// How many modules a file is below the root of its crate: that many `super::` lead there.
fn depth(path: &str) -> usize {
    let inside = path.strip_prefix("agent/src/").unwrap_or(path);
    let parts = inside.split('/').count();
    parts - usize::from(inside.ends_with("/mod.rs"))
}

/// First parts of a path, or of each path of a group: `{a::b, c::{d, e}}` gives a and c.
fn named(path: &str) -> Vec<&str> {
    let word = |text: &str| {
        text.find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len())
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![&path[..word(path)]];
    };
    let mut names = Vec::new();
    let mut depth = 0_usize;
    let mut fresh = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if c.is_whitespace() => {}
            _ => {
                if fresh {
                    names.push(&group[at..at + word(&group[at..])]);
                }
                fresh = false;
            }
        }
    }
    names
}

/// Where stages meet.
const MEET: &[&str] = &["pipeline", "ui"];

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    #[test]
    fn a_later_stage_is_refused() {
        let bad = "//! Bad.\nuse crate::export::Sink;\nuse crate::{config, span::{Span, route}};\n";
        assert_eq!(found("agent/src/trace/mod.rs", bad), ["order:2", "order:3"]);
        let ugly = "//! Bad.\nfn f() {\n    super::super::ui::draw();\n}\n";
        assert_eq!(found("agent/src/trace/b3.rs", ugly), ["order:3"]);
        let top = "//! Bad.\nuse super::{ui, event};\nuse super::super::ui;\n";
        for path in ["agent/src/exchange.rs", "agent/src/trace/mod.rs"] {
            assert_eq!(found(path, top), ["order:2"]);
        }
        // One's own parent may have a child of a stage's name.
        assert_eq!(found("agent/src/trace/b3.rs", top), ["order:3"]);
        assert_eq!(found("agent/src/trace/b3/mod.rs", top), ["order:3"]);
        let early = "//! Bad.\n#[cfg(test)]\nmod tests;\nuse crate::export::Sink;\n";
        assert_eq!(found("agent/src/trace/mod.rs", early), ["order:4"]);
        assert_eq!(found("agent/src/cache/mod.rs", "//! New.\n"), ["order:1"]);
        // What changes how threads are scheduled is for the rim.
        let rim = "//! Rim.\nuse crate::courtesy::urgently;\n";
        assert_eq!(found("agent/src/span/mod.rs", rim), ["order:2"]);
        assert_eq!(found("agent/src/target/scan.rs", rim), [""; 0]);
    }

    #[test]
    fn what_comes_before_is_fine() {
        let good =
            "//! Good.\nuse crate::event::Event; // not crate::export\nuse crate::stats::Stats;\n";
        assert_eq!(found("agent/src/trace/mod.rs", good), [""; 0]);
        let test = "//! Good.\n#[cfg(test)]\nmod tests {\n    use crate::export::Sink;\n}\n";
        assert_eq!(found("agent/src/trace/mod.rs", test), [""; 0]);
        assert_eq!(
            found(
                "agent/src/pipeline/mod.rs",
                "//! Good.\nuse crate::{span, export};\n"
            ),
            [""; 0]
        );
    }

    #[test]
    fn aya_has_a_home() {
        let sample = "//! Sample.\nuse aya::Ebpf;\n";
        assert_eq!(found("agent/src/span/mod.rs", sample), ["aya:2"]);
        assert_eq!(found("agent/src/probe/object.rs", sample), [""; 0]);
        let hidden = "//! Sample.\nuse aya as kernel; // aya\nuse {aya, log};\nuse aya_log::x;\n";
        assert_eq!(
            found("agent/src/span/mod.rs", hidden),
            ["aya:2", "aya:3", "aya:4"]
        );
    }

    #[test]
    fn the_way_names_what_is_there() {
        let names = WAY.iter().chain(MEET).chain(COMMON).copied();
        let beside = BESIDE.iter().map(|(name, _)| *name);
        let mut sources: Vec<Source> = names
            .chain(beside)
            .map(|name| Source {
                path: format!("agent/src/{name}/mod.rs"),
                text: String::new(),
            })
            .collect();
        assert_eq!(known(&sources), []);
        sources.retain(|source| source.path != "agent/src/export/mod.rs");
        assert_eq!(known(&sources).len(), 1);
    }
}
