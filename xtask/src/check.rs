//! `cargo xtask test`: every check, each a named step, in an order that fails cheap things first.
//!
//! A step that runs tests counts them; any other step counts as one check. The line at the end adds
//! these up: what it says passed was run and passed.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::bench::guest::Gate;
use crate::shell::{self, say};
use crate::toolchain::find::Toolchain;
use crate::{agent, causality, deny, propagation, protocols, tidy, toolchain, vm};

/// Flags of `cargo xtask test`.
#[derive(Args)]
pub struct Test {
    /// Run this step alone; may be repeated.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Leave this step out; may be repeated.
    #[arg(long, value_name = "STEP")]
    skip: Vec<String>,
    /// Go on after a step that failed.
    #[arg(long)]
    keep_going: bool,
    /// Name the steps, in order, and do nothing.
    #[arg(long)]
    list: bool,
}

/// The steps, in order: name, what it checks, how.
const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        about: "rustfmt changes nothing, in any file",
        check: fmt,
    },
    Step {
        name: "tidy",
        about: "the project's own rules",
        check: |_| tidy::go().map(|()| Count::ONE),
    },
    Step {
        name: "clippy",
        about: "no warning, on the host and for bpf",
        check: clippy,
    },
    Step {
        name: "deny",
        about: "licences, sources and advisories of what we use",
        check: |_| deny::go(),
    },
    Step {
        name: "docs",
        about: "rustdoc without a warning",
        check: docs,
    },
    Step {
        name: "unit",
        about: "unit, property, dialogue and fuzz-smoke tests",
        check: unit,
    },
    Step {
        name: "live",
        about: "real programs on this kernel (root)",
        check: live,
    },
    Step {
        name: "vm",
        about: "the kernel matrix under qemu",
        check: |_| vm::matrix(vm::KERNELS),
    },
    Step {
        name: "cost",
        about: "instructions per request and program, against tests/vm/baseline.json",
        check: |_| Gate::all().check(),
    },
];

struct Step {
    name: &'static str,
    about: &'static str,
    check: fn(&Context) -> Result<Count>,
}

/// What every step may need.
pub struct Context {
    /// How to build the kernel side.
    toolchain: Toolchain,
}

/// Checks that a step made, and remarks it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Succeeded.
    pub passed: usize,
    /// Did not.
    pub failed: usize,
    /// Not run.
    pub skipped: usize,
    /// What was left out, and why.
    pub remark: Option<String>,
    /// What test programs said of those that failed, the first lines of each.
    pub failures: Vec<String>,
}

impl Count {
    /// One check that passed.
    pub const ONE: Self = Self {
        passed: 1,
        failed: 0,
        skipped: 0,
        remark: None,
        failures: Vec::new(),
    };

    /// Adds another's numbers; the first remark stays.
    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.remark = self.remark.take().or_else(|| other.remark.clone());
        self.failures.extend_from_slice(&other.failures);
    }

    /// Adds what a line of a test program's output says, if it is a closing line or tells of a failure.
    fn read(&mut self, line: &str) {
        if line.starts_with("---- ") {
            self.failures.push(line.to_owned());
        } else if line.starts_with("  ") && self.told() < MOST_TOLD {
            self.failures.push(line.chars().take(300).collect());
        }
        let Some(rest) = line.strip_prefix("test result: ") else {
            return;
        };
        for (number, word) in rest
            .split([';', '.'])
            .filter_map(|part| part.trim().split_once(' '))
        {
            let Ok(number) = number.parse::<usize>() else {
                continue;
            };
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// Lines kept of the failure that was told of last; as many as may be where there was none.
    fn told(&self) -> usize {
        let begun = self
            .failures
            .iter()
            .rposition(|line| line.starts_with("---- "));
        begun.map_or(MOST_TOLD, |begun| self.failures.len() - begun - 1)
    }
}

/// Most lines that are repeated of what is said of one failure.
const MOST_TOLD: usize = 3;

impl Test {
    /// Runs the chosen steps; success only if all of them passed.
    pub fn go(&self) -> Result<ExitCode> {
        if self.list {
            STEPS
                .iter()
                .for_each(|step| println!("{:8} {}", step.name, step.about));
            return Ok(ExitCode::SUCCESS);
        }
        for name in self.only.iter().chain(&self.skip) {
            if !STEPS.iter().any(|step| step.name == name) {
                bail!("no step is called {name}; see --list");
            }
        }
        let chosen = |step: &&Step| {
            let named = |list: &[String]| list.iter().any(|name| name == step.name);
            (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
        };
        let context = Context {
            toolchain: toolchain::ensure()?,
        };
        let mut rows = Vec::new();
        for step in STEPS.iter().filter(chosen) {
            let row = step.run(&context);
            let failed = row.count.failed > 0;
            rows.push(row);
            if failed && !self.keep_going {
                break;
            }
        }
        let left = STEPS.iter().filter(chosen).count() - rows.len();
        Ok(summary(&rows, left))
    }
}

struct Row {
    name: &'static str,
    count: Count,
    time: Duration,
}

impl Step {
    fn run(&self, context: &Context) -> Row {
        say(format!("=== {}: {}", self.name, self.about));
        let start = Instant::now();
        let count = (self.check)(context).unwrap_or_else(|error| {
            say(format!("{}: {error:#}", self.name));
            Count {
                failed: 1,
                ..Count::default()
            }
        });
        let time = start.elapsed();
        let verdict = if count.failed == 0 {
            "passed"
        } else {
            "FAILED"
        };
        say(format!(
            "=== {}: {verdict} in {} s",
            self.name,
            time.as_secs()
        ));
        Row {
            name: self.name,
            count,
            time,
        }
    }
}

/// The table, and the one line that counts.
fn summary(rows: &[Row], left: usize) -> ExitCode {
    println!(
        "\n{:8} {:>7} {:>7} {:>8} {:>7}",
        "step", "passed", "failed", "skipped", "time"
    );
    let mut all = Count::default();
    for Row { name, count, time } in rows {
        let Count {
            passed,
            failed,
            skipped,
            remark,
            ..
        } = count;
        let remark = remark.as_deref().unwrap_or_default();
        println!(
            "{name:8} {passed:>7} {failed:>7} {skipped:>8} {:>5} s  {remark}",
            time.as_secs()
        );
        all.add(count);
    }
    all.failures.iter().for_each(|line| println!("{line}"));
    if left > 0 {
        println!("{left} steps were not reached");
    }
    println!(
        "\n{} passed, {} failed, {} skipped",
        all.passed, all.failed, all.skipped
    );
    if all.failed == 0 && all.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Each file by its name: `cargo fmt` alone does not see modules that a macro declares.
fn fmt(_: &Context) -> Result<Count> {
    toolchain::ensure_lints()?;
    let files = tidy::tracked("rs")?;
    let mut command = Command::new("rustfmt");
    command.args(["--check", "--edition", "2024"]).args(&files);
    shell::run(&mut command).context("mend it: rustfmt --edition 2024 $(git ls-files '*.rs')")?;
    Ok(Count::ONE)
}

fn clippy(context: &Context) -> Result<Count> {
    toolchain::ensure_lints()?;
    say("clippy: the host");
    let mut host = shell::cargo("clippy");
    host.args([
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]);
    shell::run(&mut host)?;
    say("clippy: the kernel side");
    toolchain::ensure_clippy(&context.toolchain)?;
    let mut kernel = context.toolchain.cargo("clippy");
    kernel
        .args(["--release", "--lib", "--bins", "--quiet", "--target-dir"])
        .arg(shell::target().join("bpf-clippy"))
        .args(["--", "-D", "warnings"]);
    shell::run(&mut kernel)?;
    Ok(Count {
        passed: 2,
        ..Count::default()
    })
}

fn docs(_: &Context) -> Result<Count> {
    let mut command = shell::cargo("doc");
    command
        .args([
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--quiet",
        ])
        .env("RUSTDOCFLAGS", "-D warnings");
    shell::run(&mut command)?;
    Ok(Count::ONE)
}

fn unit(_: &Context) -> Result<Count> {
    let mut all = Count::default();
    for words in UNIT {
        let mut command = shell::cargo("test");
        command.arg("--no-fail-fast").args(*words);
        all.add(&tests(&mut command)?);
    }
    Ok(all)
}

/// What needs no root: every crate's tests, and of the live tests' harness its own.
const UNIT: &[&[&str]] = &[
    &["--workspace", "--exclude", "spantap-tests"],
    &["--package", "spantap-tests", "--lib"],
];

/// The tests of the whole system need root, the release build and one kernel for themselves.
fn live(_: &Context) -> Result<Count> {
    let report = kept("live")?.join("report.json");
    let mut command = live_tests()?;
    command.args(["--".into(), format!("--report={}", report.display())]);
    let mut count = tests(&mut command)?;
    let stale = [protocols::stale, causality::stale, propagation::stale];
    for why in stale.map(|of| of(&report)) {
        let why = why?;
        count.failed += usize::from(why.is_some());
        count.failures.extend(why);
    }
    Ok(count)
}

/// The command that runs them; what is added goes to the tests' own program after `--`.
pub fn live_tests() -> Result<Command> {
    let agent = agent::build(true)?;
    let mut command = shell::cargo("test");
    command
        .args(["--package", "spantap-tests", "--release", "--test", "live"])
        .env("SPANTAP_BIN", agent);
    if !shell::is_root() {
        let host = env::consts::ARCH.to_uppercase();
        let runner = format!("CARGO_TARGET_{host}_UNKNOWN_LINUX_GNU_RUNNER");
        command.env(runner, "sudo --preserve-env --");
    }
    Ok(command)
}

/// The live tests' program itself, for guests.
pub fn live_binary() -> Result<PathBuf> {
    let mut command = live_tests()?;
    let told = shell::read(command.args(["--no-run", "--message-format=json"]))?;
    let mut built = told
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let live = built.find_map(
        |one: serde_json::Value| match one["target"]["name"] == "live" {
            true => one["executable"].as_str().map(PathBuf::from),
            false => None,
        },
    );
    live.context("cargo names no program of the live tests")
}

/// Runs the live tests whose names contain one of these; gives their report, of a folder by that name.
/// Whether all is right is in there, known gaps too.
pub fn reported(name: &str, cases: &[String]) -> Result<PathBuf> {
    toolchain::ensure()?;
    let report = kept(name)?.join("report.json");
    if report.exists() {
        fs::remove_file(&report)?;
    }
    let mut command = live_tests()?;
    command
        .arg("--")
        .arg(format!("--report={}", report.display()))
        .args(cases);
    shell::status(&mut command)?;
    Ok(report)
}

/// Runs `cargo test` and counts; no test at all is a failure, not a success.
fn tests(command: &mut Command) -> Result<Count> {
    let mut count = Count::default();
    let status = shell::watch(command, |line| count.read(line))?;
    if !status.success() {
        count.failed = count.failed.max(1);
    } else if count.passed == 0 {
        bail!("no test ran");
    }
    Ok(count)
}

/// A folder below target/ that stays between runs.
pub fn kept(name: &str) -> Result<PathBuf> {
    let folder = shell::target().join(name);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let mut count = Count::default();
        count.read("test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        count.read("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0s");
        count.read("test a::result: 5 passed; said a test");
        assert_eq!(
            count,
            Count {
                passed: 13,
                failed: 2,
                skipped: 3,
                ..Count::default()
            }
        );
    }

    #[test]
    fn what_is_said_of_failures_is_kept_in_brief() {
        let mut count = Count::default();
        let said =
            "a::case ok\n  of no failure\n---- a::b ----\n  1\n  2\n  3\n  4\n\n---- c ----\n  5";
        said.lines().for_each(|line| count.read(line));
        let kept = ["---- a::b ----", "  1", "  2", "  3", "---- c ----", "  5"];
        assert_eq!(count.failures, kept);
    }

    #[test]
    fn steps_have_names_of_their_own() {
        for (at, step) in STEPS.iter().enumerate() {
            assert!(STEPS[..at].iter().all(|other| other.name != step.name));
        }
    }
}
