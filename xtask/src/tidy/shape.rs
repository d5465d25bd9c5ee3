//! The shape of a file: how it opens, how long it and its functions are, what it must not do.

use std::path::Path;

use super::code::{self, Code};
use super::{Finding, Source};
use crate::protocols;

/// A function fits on a screen.
const FUNCTION: usize = 70;
/// A file, without what is for tests, is one thing.
const FILE: usize = 500;
/// Where bytes from outside are read: nothing there may make us panic.
const CALM: &[&str] = &[
    "agent/src/event",
    "agent/src/connection",
    "agent/src/protocol",
];
/// Where unsafe code lives.
const UNSAFE: &[&str] = &[
    "agent/src/probe/",
    "agent-ebpf/",
    // A program under test: it makes every system call that can move bytes over a socket.
    "tests/apps/sockets/",
    // Another, that asks of sockets what few programs do, and of the kernel how it comes to them.
    "tests/apps/harm/calls.rs",
    "tests/apps/harm/rare.rs",
];

/// A file opens by saying what it is.
pub fn opening(source: &Source, _: &Code) -> Vec<Finding> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![source.finding(1, "opening", "a file opens with //! and what it is")]
}

/// No function is longer than a screen.
pub fn functions(source: &Source, code: &Code) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, word, after) in code.words() {
        let name = after.trim_start();
        if word != "fn" || !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            continue;
        }
        let length = 1 + body(after).map_or(0, code::newlines);
        if length > FUNCTION {
            let name = name.split(['(', '<']).next().unwrap_or_default();
            findings.push(source.finding(
                line,
                "function",
                format!("{name} has {length} lines of {FUNCTION}"),
            ));
        }
    }
    findings
}

/// The text from a function's name to its closing brace; None where it has no body.
fn body(text: &str) -> Option<&str> {
    let open = text.find(['{', ';'])?;
    // An array type in the signature has a semicolon of its own.
    let open = match text.as_bytes().get(open) {
        Some(b';') if text[..open].rfind('[') > text[..open].rfind(']') => {
            open + text[open..].find('{')?
        }
        Some(b';') => return None,
        _ => open,
    };
    let mut depth = 0_usize;
    for (at, c) in text[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(&text[..open + at]),
            '}' => depth -= 1,
            _ => {}
        }
    }
    Some(text)
}

/// No file is longer than one thing needs.
pub fn length(source: &Source, code: &Code) -> Vec<Finding> {
    let lines = code.length;
    if lines <= FILE || source.is_test() {
        return Vec::new();
    }
    vec![source.finding(
        lines,
        "length",
        format!("{lines} lines of {FILE} without the tests"),
    )]
}

/// Bytes from outside are never unwrapped.
pub fn panics(source: &Source, code: &Code) -> Vec<Finding> {
    if source.is_test() || !CALM.iter().any(|home| source.path.starts_with(home)) {
        return Vec::new();
    }
    let hits = code.own_words().filter(|(_, word, after)| match *word {
        "unwrap" | "expect" => after.starts_with('('),
        "panic" | "unreachable" | "todo" | "unimplemented" => after.starts_with('!'),
        _ => false,
    });
    hits.map(|(line, word, _)| {
        source.finding(
            line,
            "panic",
            format!("{word} where bytes from outside are read"),
        )
    })
    .collect()
}

/// Unsafe has an address.
pub fn unsafety(source: &Source, code: &Code) -> Vec<Finding> {
    if UNSAFE.iter().any(|home| source.path.starts_with(home)) {
        return Vec::new();
    }
    let hits = code.words().filter(|(_, word, _)| *word == "unsafe");
    hits.map(|(line, _, _)| source.finding(line, "unsafe", "unsafe outside its home"))
        .collect()
}

/// Every protocol in the registry has dialogues to be tested with.
pub fn dialogues(sources: &[Source]) -> Vec<Finding> {
    let Some(registry) = sources.iter().find(|source| source.path == REGISTRY) else {
        return vec![Finding {
            path: REGISTRY.to_owned(),
            line: 1,
            rule: "dialogue",
            text: "missing".to_owned(),
        }];
    };
    let entries = protocols::registry(&registry.text);
    let names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
    if names.is_empty() {
        return vec![registry.finding(1, "dialogue", "no protocol found in registry! { … }")];
    }
    let has_dialogue = |name: &str| {
        let folder = format!("tests/wire/{name}/");
        sources
            .iter()
            .any(|source| source.path.starts_with(&folder))
            || Path::new(&folder).is_dir()
    };
    let without = names.iter().filter(|name| !has_dialogue(name));
    without
        .map(|name| {
            registry.finding(
                1,
                "dialogue",
                format!("{name} has nothing in tests/wire/{name}/"),
            )
        })
        .collect()
}

const REGISTRY: &str = "agent/src/protocol/mod.rs";

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::super::tests::found;
    use super::*;

    #[test]
    fn an_opening_is_asked_for() {
        assert_eq!(found("xtask/src/a.rs", "// No.\n"), ["opening:1"]);
    }

    #[test]
    fn long_functions_are_found() {
        let long = format!(
            "//! Long.\nfn f(x: [u8; 4]) {{\n{}}}\nfn g();\n",
            "    x();\n".repeat(69)
        );
        assert_eq!(found("xtask/src/a.rs", &long), ["function:2"]);
        let fits = format!("//! Fits.\nfn f() {{\n{}}}\n", "    x(\"{\");\n".repeat(68));
        assert_eq!(found("xtask/src/a.rs", &fits), [""; 0]);
    }

    #[test]
    fn long_files_are_found() {
        let long = format!("//! Long.\n{}", "use a;\n".repeat(500));
        assert_eq!(found("xtask/src/a.rs", &long), ["length:501"]);
        let early = format!(
            "//! Long.\n#[cfg(test)]\nmod tests;\n{}",
            "use a;\n".repeat(500)
        );
        assert_eq!(found("xtask/src/a.rs", &early), ["length:501"]);
        let fits = format!(
            "//! Fits.\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "use a;\n".repeat(500)
        );
        assert_eq!(found("xtask/src/a.rs", &fits), [""; 0]);
    }

    #[test]
    fn unwrapping_is_found_where_it_matters() {
        let bad = "//! Bad.\nfn f() {\n    x.unwrap();\n    y.expect(\"\");\n    panic!()\n}\n";
        assert_eq!(
            found("agent/src/protocol/a.rs", bad),
            ["panic:3", "panic:4", "panic:5"]
        );
        assert_eq!(found("agent/src/export/a.rs", bad), [""; 0]);
        let between = "//! Bad.\n#[cfg(test)]\nmod tests;\nfn f() {\n    x.unwrap()\n}\n";
        assert_eq!(found("agent/src/protocol/a.rs", between), ["panic:5"]);
        let test = "//! Good.\nfn f() {\n    x.unwrap_or(0)\n}\n#[cfg(test)]\nmod tests {\n    fn f() { x.unwrap() }\n}\n";
        assert_eq!(found("agent/src/protocol/a.rs", test), [""; 0]);
    }

    #[test]
    fn unsafe_is_found_outside_its_home() {
        let sample = "//! Sample.\nfn f() {\n    // unsafe here\n    unsafe { g() }\n}\n";
        assert_eq!(found("agent/src/export/a.rs", sample), ["unsafe:4"]);
        assert_eq!(found("agent/src/probe/ring.rs", sample), [""; 0]);
    }

    #[test]
    fn a_protocol_without_a_dialogue_is_found() {
        let text =
            "macro_rules! registry {\n  () => {}\n}\nregistry! {\n    http1,\n    gopher,\n}\n";
        let file = |path: &str, text: &str| Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let sources = [file(REGISTRY, text), file("tests/wire/http1/get.txt", "")];
        let findings = dialogues(&sources);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].text.contains("gopher"));
        assert_eq!(dialogues(&[]).len(), 1);
        assert_eq!(dialogues(&[file(REGISTRY, "//! Empty.")]).len(), 1);
    }
}
