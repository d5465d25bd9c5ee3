//! The settings written out: as docs/configuration.md, as the sample file deploy/spantap.yaml, as a part of
//! the chart's schema, and as `config show`. All of it comes from the table; a test refuses committed files
//! that are stale.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::form::{Shape, Shown};
use super::resolve::Resolved;
use super::setting::{Draft, Origin, Setting};
use super::table::SETTINGS;

/// docs/configuration.md.
pub fn markdown() -> String {
    let mut out = String::from(MARKDOWN_HEAD);
    let mut section = "-";
    for setting in SETTINGS {
        if section != setting.section() {
            section = setting.section();
            let title = if section.is_empty() {
                "resource"
            } else {
                section
            };
            let _ = write!(out, "\n## {title}\n");
        }
        let _ = write!(out, "\n### `{}`\n\n{}\n\n", setting.name, setting.doc());
        // A switch alone is true, so that its value has to be tied to it.
        let between = if setting.shape == Shape::Switch {
            '='
        } else {
            ' '
        };
        let _ = writeln!(
            out,
            "- flag: `--{}{between}{}`",
            setting.flag, setting.value
        );
        let ours = [format!("`{}`", setting.variable())];
        let standard = setting.otel.iter().map(|name| format!("`{name}`"));
        let names: Vec<_> = ours.into_iter().chain(standard).collect();
        let _ = writeln!(out, "- environment: {}", names.join(", "));
        let choices = (setting.choices)();
        if !choices.is_empty() && setting.shape != Shape::Switch {
            let _ = writeln!(out, "- one of: `{}`", choices.join("`, `"));
        }
        let _ = writeln!(out, "- default: {}", default_text(setting));
    }
    out
}

fn default_text(setting: &Setting) -> String {
    match (setting.show)(&Draft::default()) {
        Shown::Nothing => "none".into(),
        Shown::One(text) => format!("`{text}`"),
        Shown::List(list) if list.is_empty() => "none".into(),
        Shown::List(list) => format!("`{}`", list.join("`, `")),
        Shown::Pairs(_) => "none".into(),
    }
}

/// The sample file: every setting with its default, commented out.
pub fn sample() -> String {
    let mut out = String::from(SAMPLE_HEAD);
    let mut section = "";
    for setting in SETTINGS {
        let depth = open_sections(&mut out, &mut section, setting.section());
        let indent = "  ".repeat(depth);
        if !out.ends_with(":\n") {
            out.push('\n');
        }
        for line in wrap(&setting.doc(), 96 - indent.len()) {
            let _ = writeln!(out, "{indent}# {line}");
        }
        let value = yaml(&(setting.show)(&Draft::default()), &format!("{indent}#   "));
        let _ = writeln!(out, "{indent}# {}:{value}", setting.key());
    }
    out
}

/// `config show`: a file that would give this very configuration, with every value's origin.
pub fn show(resolved: &Resolved) -> String {
    let mut out = String::new();
    let mut section = "";
    for (setting, shown, origin) in &resolved.values {
        let depth = open_sections(&mut out, &mut section, setting.section());
        let indent = "  ".repeat(depth);
        let value = yaml(shown, &format!("{indent}  "));
        let from = origin_text(origin, resolved);
        match value.split_once('\n') {
            None => {
                let line = format!("{indent}{}:{value}", setting.key());
                let _ = writeln!(out, "{line:<48} # {from}");
            }
            Some((_, below)) => {
                let line = format!("{indent}{}:", setting.key());
                let _ = writeln!(out, "{line:<48} # {from}\n{below}");
            }
        }
    }
    out
}

/// `config show -o json`.
pub fn show_json(resolved: &Resolved) -> Value {
    let rows = resolved.values.iter().map(|(setting, shown, origin)| {
        let value = match shown {
            Shown::Nothing => Value::Null,
            Shown::One(text) => text.clone().into(),
            Shown::List(list) => list.clone().into(),
            Shown::Pairs(pairs) => pairs.iter().cloned().collect(),
        };
        serde_json::json!({
            "name": setting.name,
            "value": value,
            "origin": origin_text(origin, resolved),
        })
    });
    rows.collect()
}

/// Where a value came from, in words.
pub fn origin_text(origin: &Origin, resolved: &Resolved) -> String {
    match origin {
        Origin::Default => "default".into(),
        Origin::Follows(name) => format!("because {name} is set"),
        Origin::Env(name) => format!("env {name}"),
        Origin::Flag(name) => format!("flag --{name}"),
        Origin::File(line) => match &resolved.file {
            Some(path) => format!("{}:{line}", path.display()),
            None => format!("line {line}"),
        },
    }
}

/// Writes the section lines between one setting and the next; gives the depth of the next.
fn open_sections(out: &mut String, at: &mut &'static str, to: &'static str) -> usize {
    let parts = |name: &'static str| name.split('.').filter(|part| !part.is_empty());
    let shared = parts(at).zip(parts(to)).take_while(|(a, b)| a == b).count();
    for (depth, part) in parts(to).enumerate().skip(shared) {
        let comment = |line: &str| line.trim_start().starts_with('#');
        let apart = depth == 0 || out.lines().next_back().is_some_and(comment);
        let gap = if apart && !out.is_empty() { "\n" } else { "" };
        let _ = writeln!(out, "{gap}{}{part}:", "  ".repeat(depth));
    }
    if to.is_empty() && !at.is_empty() {
        out.push('\n');
    }
    *at = to;
    parts(to).count()
}

/// A value as it could stand in a file, on one line but for pairs.
pub fn value_text(shown: &Shown) -> String {
    yaml(shown, "").trim().to_owned()
}

/// A value as YAML, to stand right after `key:`; `indent` begins the lines of pairs.
fn yaml(shown: &Shown, indent: &str) -> String {
    match shown {
        Shown::Nothing => " null".into(),
        Shown::One(text) => format!(" {}", scalar(text)),
        Shown::List(list) => {
            let items: Vec<_> = list.iter().map(|text| scalar(text)).collect();
            format!(" [{}]", items.join(", "))
        }
        Shown::Pairs(pairs) if pairs.is_empty() => " {}".into(),
        Shown::Pairs(pairs) => {
            let line = |(name, value): &(String, String)| {
                format!("\n{indent}{}: {}", scalar(name), scalar(value))
            };
            pairs.iter().map(line).collect()
        }
    }
}

/// The settings' names as a JSON schema: `config` of the chart's values.schema.json.
pub fn schema() -> String {
    let mut top = Names::default();
    for setting in SETTINGS {
        let mut parts = setting.name.split('.');
        let last = parts.next_back().unwrap_or_default();
        let section = parts.fold(&mut top, |names, part| {
            names
                .0
                .entry(part)
                .or_insert_with(|| Some(Names::default()))
                .get_or_insert_default()
        });
        section.0.insert(last, None);
    }
    let sections = top
        .0
        .iter()
        .map(|(name, below)| format!("        \"{name}\": {}", Names::schema(below.as_ref())));
    let sections: Vec<String> = sections.collect();
    format!(
        "    \"config\": {{\n      \"type\": \"object\",\n      \"additionalProperties\": false,\n      \
         \"properties\": {{\n{}\n      }}\n    }},",
        sections.join(",\n")
    )
}

/// Of a section: a setting, or a section in it.
#[derive(Default)]
struct Names(BTreeMap<&'static str, Option<Names>>);

impl Names {
    /// Of a section, or of a setting, which may be anything.
    fn schema(section: Option<&Self>) -> Value {
        let Some(Self(names)) = section else {
            return json!({});
        };
        let known = names
            .iter()
            .map(|(name, below)| ((*name).to_owned(), Self::schema(below.as_ref())));
        let known: Map<String, Value> = known.collect();
        json!({"type": ["object", "null"], "additionalProperties": false, "properties": known})
    }
}

/// Plain where that is beyond doubt, quoted otherwise.
fn scalar(text: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
    let word = matches!(text, "null" | "~" | "") || text.starts_with('-');
    match text.bytes().all(safe) && !word {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

/// Breaks a paragraph into lines.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

const MARKDOWN_HEAD: &str = "\
# Configuration

<!-- Written by `UPDATE=1 cargo test -p spantap config`; edit agent/src/config/table.rs instead. -->

Each setting has a flag, a variable and a key in the YAML file. A flag goes before a variable, a
variable before the file, the file before the default. The file is the one named by `--config`,
else by `SPANTAP_CONFIG` (`-` is standard input), else /etc/spantap/spantap.yaml if that exists;
`deploy/spantap.yaml` is a sample with every key. `spantap config show` prints each value and where it came from;
`spantap config check` says all that is wrong.

While the agent runs, the file is looked at every half a second, through links, and what it says of
`selection` takes effect; of all else that changed it is said that it takes a restart. A file that is wrong is
told of and changes nothing. SIGHUP has it looked at at once, where standard error is no terminal.

In variables, lists are separated by commas. Several standard variables of one setting are listed
most specific first. A value of a standard `OTEL_*` variable that cannot be read is warned about and
ignored, as the OpenTelemetry specification asks; in a flag, a `SPANTAP_*` variable or the file it
is an error. An unknown key in the file is an error.

A glob matches a whole text, case and all: `*` is any run of characters, `/` too, `?` any one, `[a-z]` one of
a set and `[!a-z]` one that is not; `\\` takes the next character as it is. In `watch --path` alone all of them
stay between two `/`, but for `**`, which is any run. A set without its `]` is refused.

Sizes are bytes or `64KiB`, `8MiB`, `1GiB`; durations are `250us`, `4ms`, `1.5s`, `2m`, `1h`, and a
bare number is milliseconds.
";

const SAMPLE_HEAD: &str = "\
# spantap's settings with their defaults, all commented out. Copy to /etc/spantap/spantap.yaml and
# take away the # of what you change. Flags and variables go before this file.
# `spantap config check` says whether all is right; docs/configuration.md tells more.
";
