//! `spantap doctor`: what this kernel and these privileges allow, what is missing, how to get it.
//! The facts are found elsewhere ([`wiring::report`]); here they are shown.

use std::io::IsTerminal as _;

use anyhow::Result;
use serde::Serialize;

use super::{colored, exit, output, resolved, wiring};
use crate::config::cli::{Color, DoctorArgs, Format};

/// Whether a feature can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Something weaker takes its place.
    Degraded,
    /// Not to be had.
    Missing,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Degraded => "degraded",
            State::Missing => "missing",
        }
    }

    fn tint(self) -> &'static str {
        match self {
            State::Ok => "\x1b[32m",
            State::Degraded => "\x1b[33m",
            State::Missing => "\x1b[31m",
        }
    }
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What, in a word or two.
    pub feature: String,
    /// Whether.
    pub state: State,
    /// What was found, and what follows from it.
    pub detail: String,
    /// How to get it; empty where it is there.
    pub remedy: String,
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether spans can be made here at all.
    pub able: bool,
    /// In the order of the data's way.
    pub rows: Vec<Row>,
    /// What the kernel made of the programs that load; in JSON alone.
    pub programs: Vec<Program>,
    /// What was tried of header mode; in JSON alone.
    pub header: Vec<Held>,
}

/// Something that has to hold for header mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// What.
    pub name: &'static str,
    /// What was seen instead; null where it holds.
    pub failure: Option<String>,
}

/// One program of a capture path, as loaded for the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// The feature it belongs to: `socket path` or `syscall path`.
    pub path: String,
    /// Its name.
    pub name: String,
    /// Instructions that the verifier walked through; null before Linux 5.16.
    pub verified: Option<u32>,
    /// Instructions it has.
    pub length: Option<u32>,
}

impl Report {
    /// For people.
    pub fn text(&self, color: bool) -> String {
        let width = |cell: fn(&Row) -> usize| self.rows.iter().map(cell).max().unwrap_or(0);
        let features = width(|row| row.feature.chars().count());
        let states = width(|row| row.state.name().len());
        let mut out = String::new();
        for row in &self.rows {
            let state = format!("{:<states$}", row.state.name());
            let state = match color {
                true => format!("{}{state}\x1b[0m", row.state.tint()),
                false => state,
            };
            out += &format!("{:<features$}  {state}  {}\n", row.feature, row.detail);
            if !row.remedy.is_empty() {
                let blank = " ".repeat(features + states + 4);
                out += &format!("{blank}→ {}\n", row.remedy);
            }
        }
        out += match self.able {
            true => "\nspantap can trace on this machine.\n",
            false => "\nspantap cannot trace on this machine as it is.\n",
        };
        out
    }

    /// For programs: one object.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Runs the command.
pub fn run(args: &DoctorArgs, color: Color) -> Result<i32> {
    let config = resolved(&args.settings)?.config;
    let report = wiring::report(&config);
    let text = match args.output {
        Format::Table => report.text(colored(color, std::io::stdout().is_terminal())),
        Format::Json => report.json()?,
    };
    output::print(&text)?;
    Ok(match report.able {
        true => exit::DONE,
        false => exit::UNABLE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = |feature: &str, state, detail: &str, remedy: &str| Row {
            feature: feature.into(),
            state,
            detail: detail.into(),
            remedy: remedy.into(),
        };
        Report {
            able: true,
            rows: vec![
                row("kernel", State::Ok, "6.18.5", ""),
                row(
                    "stream key",
                    State::Degraded,
                    "no BTF: from sock_diag",
                    "CONFIG_DEBUG_INFO_BTF",
                ),
                row("CAP_BPF", State::Missing, "not ours", "run it with sudo"),
            ],
            programs: vec![Program {
                path: "socket path".into(),
                name: "sent".into(),
                verified: None,
                length: Some(700),
            }],
            header: Vec::new(),
        }
    }

    #[test]
    fn columns_are_aligned_and_remedies_follow() {
        assert_eq!(
            report().text(false),
            "\
kernel      ok        6.18.5
stream key  degraded  no BTF: from sock_diag
                      → CONFIG_DEBUG_INFO_BTF
CAP_BPF     missing   not ours
                      → run it with sudo

spantap can trace on this machine.
"
        );
    }

    #[test]
    fn json_is_one_object() {
        let text = report().json().expect("plain data");
        let back: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(back["able"], true);
        assert_eq!(back["rows"][1]["state"], "degraded");
        assert_eq!(back["programs"][0]["length"], 700);
    }
}
