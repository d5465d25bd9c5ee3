//! `cargo xtask tidy`: the project's own rules as code (docs/architecture.md and CONTRIBUTING.md say
//! why they are). A rule is a function from one file, or from all of them, to findings; each has a
//! test that shows it catching a bad sample.

mod code;
mod imports;
mod shape;
mod words;

use std::path::Path;
use std::process::Command;
use std::{fmt, fs};

use anyhow::{Context as _, Result, bail};

use crate::shell::{self, say};

/// Checks everything; findings are printed.
pub fn go() -> Result<()> {
    let sources = sources()?;
    let mut findings: Vec<Finding> = sources.iter().flat_map(check).collect();
    findings.extend(shape::dialogues(&sources));
    findings.extend(imports::known(&sources));
    findings.extend(words::links(&sources));
    let used = |exception: &&Exception| findings.iter().any(|finding| exception.covers(finding));
    let unused: Vec<Finding> = EXCEPTIONS
        .iter()
        .filter(|e| !used(e))
        .map(Exception::unused)
        .collect();
    findings.retain(|finding| !EXCEPTIONS.iter().any(|exception| exception.covers(finding)));
    findings.extend(unused);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!(
            "{} findings; the rules are in xtask/src/tidy/",
            findings.len()
        );
    }
    say(format!("tidy: {} files in order", sources.len()));
    Ok(())
}

/// The rules that look at one file.
fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in [words::forbidden, words::places] {
        findings.extend(rule(source));
    }
    if source.is("rs") {
        let code = code::Code::read(&source.text);
        for rule in [
            imports::order,
            imports::kernel_library,
            shape::opening,
            shape::functions,
            shape::length,
            shape::panics,
            shape::unsafety,
        ] {
            findings.extend(rule(source, &code));
        }
    }
    findings
}

/// What may break a rule, and why: path, rule, reason.
const EXCEPTIONS: &[Exception] = &[];

struct Exception {
    path: &'static str,
    rule: &'static str,
    reason: &'static str,
}

impl Exception {
    fn covers(&self, finding: &Finding) -> bool {
        self.path == finding.path && self.rule == finding.rule
    }

    /// An exception that excuses nothing is out of date.
    fn unused(&self) -> Finding {
        let text = format!(
            "exception {} is not needed any more ({})",
            self.rule, self.reason
        );
        Finding {
            path: self.path.to_owned(),
            line: 1,
            rule: "exception",
            text,
        }
    }
}

/// A file of the project that holds text.
pub struct Source {
    /// From the workspace root, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl Source {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|own| own == extension)
    }

    /// Whether the whole file is a test.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/benches/")
    }

    fn finding(&self, line: usize, rule: &'static str, text: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            rule,
            text: text.into(),
        }
    }
}

/// A rule broken somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            rule,
            text,
        } = self;
        write!(f, "{path}:{line}: {rule}: {text}")
    }
}

/// Files with one extension that git knows, or would add; an empty extension means all.
pub fn tracked(extension: &str) -> Result<Vec<String>> {
    let mut command = Command::new("git");
    // A clone owned by somebody else is still ours to read.
    command.args(["-c", "safe.directory=*", "ls-files", "--cached", "--others"]);
    let list = shell::read(command.args(["--exclude-standard", "-z"]))?;
    let wanted = |path: &&str| {
        let path = Path::new(path);
        path.is_file() && (extension.is_empty() || path.extension().is_some_and(|e| e == extension))
    };
    let mut files: Vec<String> = list
        .split('\0')
        .filter(|path| !path.is_empty())
        .filter(wanted)
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

fn sources() -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in tracked("")? {
        let bytes = fs::read(&path).with_context(|| format!("read {path}"))?;
        // What is not text (recordings, images) has no words and no code.
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source { path, text });
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Findings of all single-file rules about a sample, as `rule:line`.
    pub fn found(path: &str, text: &str) -> Vec<String> {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&source)
            .iter()
            .map(|finding| format!("{}:{}", finding.rule, finding.line))
            .collect()
    }

    #[test]
    fn a_good_file_has_no_finding() {
        let good = "//! Good.\nuse crate::event::Event;\nfn f() -> u8 {\n    0\n}\n";
        assert_eq!(found("agent/src/connection/mod.rs", good), [""; 0]);
    }

    #[test]
    fn an_exception_covers_its_file_and_rule_alone() {
        let exception = Exception {
            path: "a.rs",
            rule: "length",
            reason: "a table",
        };
        let source = Source {
            path: "a.rs".to_owned(),
            text: String::new(),
        };
        assert!(exception.covers(&source.finding(1, "length", "")));
        assert!(!exception.covers(&source.finding(1, "panic", "")));
        assert_eq!(exception.unused().rule, "exception");
    }
}
