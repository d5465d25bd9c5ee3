//! The environment as a layer. Our own variables are as strict as flags; the standard OTEL_* ones
//! follow the OpenTelemetry specification: an empty value is no value, and one that cannot be read
//! is warned about and otherwise ignored. Nothing here reads the process's environment: [`Vars`] does.

use std::collections::BTreeMap;

use super::form::{Raw, Shape};
use super::near::hint;
use super::setting::{Draft, Setting};
use super::table::SETTINGS;

/// Where variables come from.
pub trait Vars {
    /// A variable's value, if it is set.
    fn get(&self, name: &str) -> Option<String>;
    /// The names of all that are set.
    fn names(&self) -> Vec<String>;
}

/// The environment of this process. What is not UTF-8 is replaced, and so will be refused.
pub struct Process;

impl Vars for Process {
    fn get(&self, name: &str) -> Option<String> {
        let value = std::env::var_os(name)?;
        Some(value.to_string_lossy().into_owned())
    }

    fn names(&self) -> Vec<String> {
        let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
        names.collect()
    }
}

impl Vars for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// The variable that names the file.
pub const CONFIG: &str = "SPANTAP_CONFIG";

/// For which of OpenTelemetry's signals a setting is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spans: variables as the table has them.
    Traces,
    /// The agent's own counters: its variables in the place of those for traces.
    Metrics,
}

/// What the environment says of one setting: the variable's name and the value. Refused standard
/// values go to `warnings`; a refused value of ours is the error.
pub fn read(
    setting: &Setting,
    signal: Signal,
    vars: &dyn Vars,
    warnings: &mut Vec<String>,
) -> Result<Option<(String, Raw)>, String> {
    let ours = setting.variable();
    if let Some(text) = present(vars, &ours) {
        let raw = Raw::Text(text);
        check(setting, &raw).map_err(|why| format!("{ours}: {why}"))?;
        return Ok(Some((ours, raw)));
    }
    let mut joined: Option<(String, Vec<String>)> = None;
    for name in setting.otel {
        let name = match signal {
            Signal::Traces => (*name).to_owned(),
            Signal::Metrics => name.replace("_TRACES_", "_METRICS_"),
        };
        let Some(text) = present(vars, &name) else {
            continue;
        };
        let Some(raw) = standard(setting, &name, &text, warnings) else {
            continue;
        };
        match (raw, &mut joined) {
            (Raw::Many(texts), None) => joined = Some((name, texts)),
            (Raw::Many(texts), Some((names, all))) => {
                *names = format!("{names}, {name}");
                all.extend(texts);
            }
            (raw, _) => return Ok(Some((name, raw))),
        }
    }
    Ok(joined.map(|(names, texts)| (names, Raw::Many(texts))))
}

fn present(vars: &dyn Vars, name: &str) -> Option<String> {
    vars.get(name).filter(|text| !text.trim().is_empty())
}

/// Reads a standard variable as the specification wants it read.
fn standard(setting: &Setting, name: &str, text: &str, warnings: &mut Vec<String>) -> Option<Raw> {
    let mut refuse = |why: String| warnings.push(format!("{name}: {why}; ignored"));
    match setting.shape {
        Shape::Switch => {
            // "Only the case-insensitive string true means true": not even 1 does.
            let truth = text.trim().eq_ignore_ascii_case("true");
            if !truth && !text.trim().eq_ignore_ascii_case("false") {
                refuse(format!("expected true or false, got `{text}`"));
            }
            Some(Raw::Text(truth.to_string()))
        }
        Shape::List => {
            let texts = text.split(',').map(str::trim).filter(|t| !t.is_empty());
            let mut good = Vec::new();
            for text in texts {
                match check(setting, &Raw::Text(text.to_owned())) {
                    Ok(()) => good.push(text.to_owned()),
                    Err(why) => refuse(why),
                }
            }
            if good.is_empty() {
                return None;
            }
            let raw = Raw::Many(good);
            check(setting, &raw).map_err(refuse).ok().map(|()| raw)
        }
        Shape::One | Shape::Pairs => {
            let raw = Raw::Text(text.to_owned());
            check(setting, &raw).map_err(refuse).ok().map(|()| raw)
        }
    }
}

/// Whether the setting would take the value.
pub fn check(setting: &Setting, raw: &Raw) -> Result<(), String> {
    (setting.set)(&mut Draft::default(), raw)
}

/// Warnings about variables that look like ours and are not.
pub fn strangers(vars: &dyn Vars) -> Vec<String> {
    let known: Vec<String> = SETTINGS
        .iter()
        .map(Setting::variable)
        .chain([CONFIG.to_owned()])
        .collect();
    vars.names()
        .into_iter()
        .filter(|name| name.starts_with("SPANTAP_") && !known.contains(name))
        .map(|name| {
            let near = hint(&name, known.iter().map(String::as_str));
            format!("{name} is not a setting{near}")
        })
        .collect()
}
