//! `cargo xtask propagation`: what programs notice of an agent, by kernel and by mode of propagation.
//!
//! The live tests (tests/live/harm.rs) run and judge, on this kernel and on those of the guests; they
//! report a line of JSON per case (tests/src/report.rs), of which this makes docs/propagation.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::bench::table::{Table, machine};
use crate::{agent, check, vm};

/// Flags of `cargo xtask propagation`.
#[derive(Args)]
pub struct Propagation {
    /// Run only the cases whose names contain one of these; the table is then shown and not kept.
    words: Vec<String>,
    /// Kernels to boot besides the running one, by the first two numbers; with others than these the table is
    /// shown and not kept.
    #[arg(short, long, value_delimiter = ',', default_values = vm::KERNELS)]
    kernels: Vec<String>,
    /// Run nothing, and make the page of what runs on these kernels reported
    /// (target/propagation/KERNEL.json).
    #[arg(long, value_name = "KERNEL=FILE", conflicts_with = "words")]
    from: Vec<String>,
}

impl Propagation {
    /// Runs it; success only if nothing was noticed.
    pub fn go(&self) -> Result<ExitCode> {
        if !self.from.is_empty() {
            return self.tell(&Cells::of(&self.from)?);
        }
        let all = self.words.is_empty();
        let words = match all {
            true => vec!["--all".to_owned(), CASES.to_owned()],
            false => self.words.clone(),
        };
        let folder = check::kept("propagation")?;
        let mut cells = Cells::default();
        let report = check::reported("propagation", &words)?;
        cells.read(&running()?, &read(&report)?)?;
        let names: Vec<&str> = self.kernels.iter().map(String::as_str).collect();
        for (kernel, report) in names.iter().zip(guests(&names, &words)?) {
            let report = report.with_context(|| format!("Linux {kernel}"))?;
            fs::write(folder.join(format!("{kernel}.json")), &report)?;
            let told = cells.read(kernel, &report);
            told.with_context(|| format!("Linux {kernel}"))?;
        }
        self.tell(&cells)
    }

    /// Says what it came to, and keeps the page where it is of all.
    fn tell(&self, cells: &Cells) -> Result<ExitCode> {
        let page = cells.page();
        println!("\n{page}");
        if self.words.is_empty() && self.kernels == vm::KERNELS {
            fs::write(PAGE, page).with_context(|| format!("write {PAGE}"))?;
        }
        Ok(match cells.wrong.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// What the live tests report in a guest of each kernel. They show what they do on standard error, as the
/// report is what a guest's output is for.
fn guests(kernels: &[&str], words: &[String]) -> Result<Vec<Result<String>>> {
    let (agent, live) = (agent::build(true)?, check::live_binary()?);
    let words: String = words.iter().map(|word| format!(" '{word}'")).collect();
    let live = live.display();
    vm::on_each(kernels, |kernel| {
        let mut guest = vm::Guest::new(kernel);
        guest.env = vec![("SPANTAP_BIN".to_owned(), agent.display().to_string())];
        guest.shown = false;
        guest.limit = Duration::from_secs(90 * 60);
        let command = format!("'{live}' --report=/run/report{words} >&2; cat /run/report");
        Ok(guest.run(&command)?.output)
    })
}

/// Why the page is not of the cases that a report of all live tests has; nothing if it is.
pub fn stale(report: &Path) -> Result<Option<String>> {
    let mut cells = Cells::default();
    cells.read("", &read(report)?)?;
    let kept = fs::read_to_string(PAGE).unwrap_or_default();
    let place = cells.differs(&kept);
    Ok(place.map(|place| format!("{PAGE} is old at {place}: `cargo xtask propagation` renews it")))
}

fn read(report: &Path) -> Result<String> {
    fs::read_to_string(report).with_context(|| format!("no report at {}", report.display()))
}

/// The running kernel, by the first two numbers.
fn running() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let numbers: Vec<&str> = release.trim().splitn(3, '.').take(2).collect();
    Ok(numbers.join("."))
}

/// What the cases came to.
#[derive(Default)]
struct Cells {
    /// In the order in which they ran.
    behaviours: Vec<String>,
    /// By kernel and mode, in the order in which they ran: of each behaviour the verdict.
    rows: Vec<([String; 2], BTreeMap<String, String>)>,
    /// What the cases of latency counted, by kernel and mode.
    figures: Vec<([String; 2], BTreeMap<String, u64>)>,
    /// Kernel, case, and its first problem.
    wrong: Vec<(String, String, String)>,
}

impl Cells {
    /// Of reports, each as `KERNEL=FILE`.
    fn of(reports: &[String]) -> Result<Self> {
        let mut cells = Self::default();
        for report in reports {
            let (kernel, file) = report.split_once('=').context("KERNEL=FILE")?;
            cells.read(kernel, &read(Path::new(file))?)?;
        }
        Ok(cells)
    }

    /// Adds a kernel's report.
    fn read(&mut self, kernel: &str, lines: &str) -> Result<()> {
        let mut some = false;
        for line in lines.lines() {
            let case: Value = serde_json::from_str(line).context("a line of the report")?;
            let name = case["case"].as_str().unwrap_or_default();
            let place = name.strip_prefix(CASES).and_then(|at| at.split_once("::"));
            let Some((behaviour, mode)) = place else {
                continue;
            };
            some = true;
            let problem = case["problems"][0].as_str();
            let verdict = match problem {
                Some(_) => "FAILED",
                None if case["left_out"] == true => "–",
                None if case["counts"]["refused"].is_u64() => "refused",
                None => "ok",
            };
            if let Some(problem) = problem {
                let told = (kernel.to_owned(), name.to_owned(), problem.to_owned());
                self.wrong.push(told);
            }
            if !self.behaviours.iter().any(|known| known == behaviour) {
                self.behaviours.push(behaviour.to_owned());
            }
            let place = [kernel, mode].map(str::to_owned);
            if behaviour == "latency" {
                let counts = case["counts"].as_object().into_iter().flatten();
                let counts = counts.filter_map(|(key, count)| Some((key.clone(), count.as_u64()?)));
                self.figures.push((place.clone(), counts.collect()));
            }
            let verdict = (behaviour.to_owned(), verdict.to_owned());
            match self.rows.iter_mut().find(|(known, _)| *known == place) {
                Some((_, row)) => row.extend([verdict]),
                None => self.rows.push((place, [verdict].into())),
            }
        }
        if !some {
            bail!("no case of {CASES} ran");
        }
        Ok(())
    }

    fn page(&self) -> String {
        let mut head = vec!["Linux", "mode"];
        head.extend(self.behaviours.iter().map(String::as_str));
        let mut rows = Table::head(&head);
        for (place, verdicts) in &self.rows {
            let mut row = place.to_vec();
            let verdict = |name| verdicts.get(name).map_or("–", String::as_str).to_owned();
            row.extend(self.behaviours.iter().map(verdict));
            rows.push(row);
        }
        let verdicts = Table {
            name: "propagation".into(),
            caption: format!("The first kernel's are of {}.", machine()),
            rows,
        };
        let mut rows = Table::head(&["Linux", "mode", "p50", "with", "p99.9", "with"]);
        for (place, counts) in &self.figures {
            let figure = |name: &str| match counts.get(name) {
                Some(count) => format!("{count} µs"),
                None => "–".into(),
            };
            let mut row = place.to_vec();
            for percentile in ["p50", "p99.9"] {
                row.push(figure(&format!("{percentile} us without")));
                row.push(figure(&format!("{percentile} us with")));
            }
            rows.push(row);
        }
        let figures = Table {
            name: "latency".into(),
            caption: FIGURES.into(),
            rows,
        };
        let mut text = format!("{HEAD}\n{}\n{}", verdicts.markdown(), figures.markdown());
        if !self.wrong.is_empty() {
            text += "\nNot as it is to be, with the first of what is wrong:\n\n";
        }
        for (kernel, case, problem) in &self.wrong {
            text += &format!("- {kernel}: `{case}`: {problem}\n");
        }
        text
    }

    /// A behaviour or mode that is not in this page and is to be, or is and is not to be.
    fn differs(&self, page: &str) -> Option<String> {
        let cells = |line: &str| -> Vec<String> {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        };
        let table = page.strip_prefix(HEAD).unwrap_or(page);
        let mut lines = table
            .lines()
            .filter(|line| line.starts_with("| "))
            .map(cells);
        let kept = lines.next().unwrap_or_default();
        let kept = kept.get(2..).unwrap_or_default();
        let modes: Vec<String> = lines.filter_map(|row| row.into_iter().nth(1)).collect();
        let own = self.rows.iter().map(|([_, mode], _)| mode);
        let missing = self.behaviours.iter().find(|name| !kept.contains(name));
        let surplus = || kept.iter().find(|name| !self.behaviours.contains(name));
        let place = missing.or_else(surplus).cloned();
        place.or_else(|| own.into_iter().find(|mode| !modes.contains(mode)).cloned())
    }
}

/// The cases' family.
const CASES: &str = "harm::";
const PAGE: &str = "docs/propagation.md";
const FIGURES: &str = "How long keep-alive requests to nginx take without an agent and with one, at these percentiles (medians
of rounds in turns; in guests processors are emulated):";
const HEAD: &str = "# What programs notice of propagation

Written by `cargo xtask propagation`; what the modes do: [links.md](links.md#to-other-hosts). On each kernel, in each mode of `--propagation`, real connections do something with an agent
and without one, and what both ends saw is compared byte for byte: heads, bodies, what sockets answer and which calls fail. What is
`refused` the agent's own test at its start does not allow on that kernel, as it then says; it goes on without, and that was compared. `–` was not run.

| column | what is compared |
|--------|------------------|
| `proxy` | requests to nginx, which keeps its connections to another nginx, that sends files by sendfile, and to a server that answers with what it read |
| `bulk`, `bulk-2-GiB` | a body of 256 MiB and one of 2 GiB up and down, each byte compared (a sixteenth in guests) |
| `requests` | what a server read of requests in every shape of a write: ten in one, in pieces, chunked, with bodies that look like requests, with a `traceparent` of their own; by sockets that block and that do not |
| `websocket` | binary frames of all lengths that come back, after 101, also through nginx |
| `tls` | TLS and plain text in turn to one port |
| `short` | 5,000 connections of one request to nginx (250 in guests) |
| `sockets` | FIONREAD, a recv beside a full send buffer, MSG_ZEROCOPY, half close, MSG_PEEK, SO_LINGER 0, TCP_CORK, sendfile and splice, sockets that do not block, urgent data, edge-triggered epoll |
| `rare` | TCP Fast Open, MPTCP, a file sent first, a connection that both sides of a fork use, that is handed on by SCM_RIGHTS, SO_REUSEPORT, a sender that is killed |
| `loss` | 20 MiB up and down and 200 requests over lines that lose and swap packets: MTU 1500, 1280 and 576, without window scaling, without timestamps, without SACK (a tenth of it in guests) |
| `latency` | that the 99.9th percentile of keep-alive requests is at most 5 ms later (100 ms in guests) |
| `killed` | traffic of all sorts while the agent comes and is killed |
| `restarted` | the same while ten agents do so, one after the other (two in guests) |
| `left-behind` | that a killed agent's programs, maps, links and attachments at cgroups are gone |
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell;

    const LINES: &str = r#"{"case": "harm::proxy::off", "problems": [], "counts": {}}
{"case": "harm::latency::off", "problems": [], "counts": {"p50 us without": 30, "p50 us with": 33}}
{"case": "harm::bulk-2-GiB::off", "left_out": true}
{"case": "harm::proxy::header", "problems": [], "counts": {"refused": 1}}
{"case": "harm::latency::header", "problems": ["9000 µs later"], "counts": {}}
{"case": "other::x", "problems": ["not ours"]}"#;

    fn cells(lines: &str) -> Cells {
        let mut cells = Cells::default();
        cells.read("6.12", lines).expect("a report");
        cells
    }

    #[test]
    fn a_row_is_a_kernel_in_a_mode() {
        let page = cells(LINES).page();
        for row in [
            "| Linux | mode   | proxy   | latency | bulk-2-GiB |",
            "| 6.12  | off    | ok      | ok      | –          |",
            "| 6.12  | header | refused | FAILED  | –          |",
            "| 6.12  | off    | 30 µs | 33 µs | –     | –    |",
            "- 6.12: `harm::latency::header`: 9000 µs later",
        ] {
            assert!(page.contains(row), "{row} is not in {page}");
        }
        assert!(!page.contains("not ours"));
        assert!(Cells::default().read("6.12", "").is_err());
    }

    #[test]
    fn a_page_is_old_where_behaviours_or_modes_differ() {
        let page = cells(LINES).page();
        assert_eq!(cells(LINES).differs(&page), None);
        let more = LINES.replace("other::x", "harm::more::off");
        assert_eq!(cells(&more).differs(&page).as_deref(), Some("more"));
        assert_eq!(
            cells(LINES).differs(&cells(&more).page()).as_deref(),
            Some("more")
        );
        let mode = LINES.replace("other::x", "harm::proxy::option");
        assert_eq!(cells(&mode).differs(&page).as_deref(), Some("option"));
    }

    #[test]
    fn the_page_begins_as_it_would_be_written() {
        let kept = fs::read_to_string(shell::workspace().join(PAGE)).expect("the page");
        assert!(kept.starts_with(HEAD), "{PAGE} is old");
    }
}
