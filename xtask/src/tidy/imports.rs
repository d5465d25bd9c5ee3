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
    "store",
];
/// Beside the way, where it touches the world: what each may name.
const BESIDE: &[(&str, &[&str])] = &[
    ("target", &["event"]),
    ("probe", &["target", "event"]),
    (
        "resource",
        &["target", "event", "protocol", "span", "policy"],
    ),
    ("config", &[]),
    ("stats", &[]),
];
/// What every module may name.
const COMMON: &[&str] = &["config", "stats"];
/// Where the word `aya` may stand.
const AYA: &[&str] = &["agent/src/probe/", "agent-ebpf/"];

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
    for (line, word, after) in code.words().take_while(|(line, _, _)| *line < code.tests) {
        let path = match (word, after.strip_prefix("::")) {
            ("crate", Some(path)) => path,
            ("super", Some(path)) => match path.strip_prefix("super::") {
                Some(path) => path,
                None => continue,
            },
            _ => continue,
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
pub fn aya(source: &Source, code: &Code) -> Vec<Finding> {
    if AYA.iter().any(|home| source.path.starts_with(home)) {
        return Vec::new();
    }
    let is_aya = |word: &str| {
        matches!(
            word,
            "aya" | "aya_log" | "aya_obj" | "aya_ebpf" | "aya_log_ebpf"
        )
    };
    let hits = code
        .words()
        .filter(|(_, word, after)| is_aya(word) && after.trim_start().starts_with([':', ';']));
    hits.map(|(line, word, _)| {
        source.finding(line, "aya", format!("{word} is named outside its home"))
    })
    .collect()
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

    #[test]
    fn a_later_stage_is_refused() {
        let bad = "//! Bad.\nuse crate::export::Sink;\nuse crate::{config, span::{Span, route}};\n";
        assert_eq!(found("agent/src/trace/mod.rs", bad), ["order:2", "order:3"]);
        let ugly = "//! Bad.\nfn f() {\n    super::super::ui::draw();\n}\n";
        assert_eq!(found("agent/src/exchange.rs", ugly), ["order:3"]);
        assert_eq!(found("agent/src/cache/mod.rs", "//! New.\n"), ["order:1"]);
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
    }
}
