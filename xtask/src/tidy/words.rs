//! Words that must not be in any file, and links that must lead somewhere.

use std::path::{Component, Path, PathBuf};

use super::{Finding, Source};

/// Notes to oneself belong to the issue tracker. (Written apart, so that this file passes.)
const NOTES: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
];
/// Places on one machine, and services that a build must not be tied to.
const PLACES: &[&str] = &[
    concat!("/wo", "rk/main"),
    concat!("/wo", "rk/wt"),
    concat!("/wo", "rk/shared"),
    concat!("/ro", "ot/.cargo"),
    concat!("/ro", "ot/.rustup"),
    concat!("/Us", "ers/"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("static.rust-lang", ".org"),
    concat!("registry.npmjs", ".org"),
    concat!("files.pythonhosted", ".org"),
    concat!("pypi", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("repo.maven.apache", ".org"),
    concat!("repo1.maven", ".org"),
    concat!("deb.debian", ".org"),
    concat!("archive.ubuntu", ".com"),
];

/// No notes to oneself.
pub fn forbidden(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(word) = words.find(|word| NOTES.contains(word)) {
            findings.push(source.finding(
                number + 1,
                "word",
                format!("{word}: open an issue instead"),
            ));
        }
    }
    findings
}

/// Nothing that ties the project to one machine or one registry.
pub fn places(source: &Source) -> Vec<Finding> {
    if source.path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        if let Some(place) = PLACES.iter().find(|place| line.contains(**place)) {
            findings.push(source.finding(
                number + 1,
                "place",
                format!("{place} is of one machine or registry"),
            ));
        }
    }
    findings
}

/// Links between Markdown files lead to files.
pub fn links(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is("md")) {
        let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
        for (line, link) in relative_links(&source.text) {
            let path = plain(&folder.join(link));
            let prefix = format!("{}/", path.display());
            let known =
                |other: &Source| Path::new(&other.path) == path || other.path.starts_with(&prefix);
            if !sources.iter().any(known) {
                findings.push(source.finding(
                    line,
                    "link",
                    format!("{link} is not in the repository"),
                ));
            }
        }
    }
    findings
}

/// Targets of `](…)` outside code blocks, without what leads elsewhere and without anchors.
fn relative_links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            let Some((link, _)) = part.split_once(')') else {
                continue;
            };
            let link = link.split(['#', ' ']).next().unwrap_or_default();
            if !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:") {
                links.push((number + 1, link));
            }
        }
    }
    links
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::Normal(part) => out.push(part),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    #[test]
    fn notes_are_found() {
        let note = format!("first\n# {}: later\n", NOTES[0]);
        assert_eq!(found("deploy/a.sh", &note), ["word:2"]);
        assert_eq!(found("deploy/a.sh", "mktemp a.XXXXXX\n"), [""; 0]);
    }

    #[test]
    fn places_are_found() {
        let text = format!("see https://{}/x\nand {}/agent\n", PLACES[6], PLACES[0]);
        assert_eq!(found("docs/a.md", &text), ["place:1", "place:2"]);
        assert_eq!(found("Cargo.lock", &text), [""; 0]);
    }

    #[test]
    fn dead_links_are_found() {
        let file = |path: &str, text: &str| Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let text = "[a](b.md) [c](../README.md#x)\n[d](https://e) [f](gone.md)\n```\n[g](h)\n```\n[i](.)\n";
        let sources = [
            file("docs/a.md", text),
            file("docs/b.md", ""),
            file("README.md", ""),
        ];
        let findings = links(&sources);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].line, 2);
    }
}
