//! `cargo xtask causality`: whose child a call is, by runtime, by how the call is made and by how many
//! requests are served at once.
//!
//! The live tests (tests/live/causality.rs) run and count; they report a line of JSON per case
//! (tests/src/report.rs), of which this makes docs/causality.md. Figures move from run to run: the live
//! step of `cargo xtask test` holds the page to the cases there are, not to what they came to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::bench::table::{Table, machine};
use crate::check;

/// Flags of `cargo xtask causality`.
#[derive(Args)]
pub struct Causality {
    /// Run only the cases whose names contain one of these; the table is then shown and not kept.
    words: Vec<String>,
    /// Run nothing, and make the page of what a run of the live tests reported
    /// (target/live/report.json).
    #[arg(long, value_name = "FILE", conflicts_with = "words")]
    from: Option<PathBuf>,
}

impl Causality {
    /// Runs it; success only if no parent was wrong, and right those that are to be.
    pub fn go(&self) -> Result<ExitCode> {
        if let Some(report) = &self.from {
            return self.tell(report);
        }
        let report = match self.words.is_empty() {
            true => check::reported("causality", &["--all".to_owned(), CASES.to_owned()])?,
            false => check::reported("causality", &self.words)?,
        };
        self.tell(&report)
    }

    /// Says what a report comes to, and keeps the page where it is of all.
    fn tell(&self, report: &Path) -> Result<ExitCode> {
        let cells = Cells::of(report)?;
        let page = cells.page();
        println!("\n{page}");
        if self.words.is_empty() {
            fs::write(PAGE, page).with_context(|| format!("write {PAGE}"))?;
        }
        Ok(match cells.wrong.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// Why the page is not of the cases that a report of all live tests has; nothing if it is.
pub fn stale(report: &Path) -> Result<Option<String>> {
    let kept = fs::read_to_string(PAGE).unwrap_or_default();
    let row = Cells::of(report)?.differs(&kept);
    Ok(row.map(|row| format!("{PAGE} is old at {row:?}: `cargo xtask causality` renews it")))
}

/// What of a page stays as it is from run to run: the head of its table, and which case a row is of.
fn frame(page: &str) -> Vec<Vec<&str>> {
    let table = page.strip_prefix(HEAD).unwrap_or(page);
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|line| line.split('|').map(str::trim).skip(1).collect());
    let mut rows: Vec<Vec<&str>> = cells.collect();
    rows.iter_mut().skip(1).for_each(|row| row.truncate(CASE));
    rows
}

/// Columns that say which case it is.
const CASE: usize = 3;

/// What the cases came to.
#[derive(Default)]
struct Cells {
    /// Each with runtime, shape and number at once, in the order in which they ran.
    rows: Vec<([String; CASE], BTreeMap<String, u64>)>,
    /// Those that there are and that did not run.
    left_out: Vec<[String; CASE]>,
    /// Cases with problems, and the first of each.
    wrong: Vec<(String, String)>,
}

impl Cells {
    fn of(report: &Path) -> Result<Self> {
        let lines = fs::read_to_string(report);
        Self::read(&lines.with_context(|| format!("no report at {}", report.display()))?)
    }

    fn read(lines: &str) -> Result<Self> {
        let mut cells = Self::default();
        for line in lines.lines() {
            let case: Value = serde_json::from_str(line).context("a line of the report")?;
            let name = case["case"].as_str().unwrap_or_default();
            let Some(place) = name.strip_prefix(CASES) else {
                continue;
            };
            if let Some(problem) = case["problems"][0].as_str() {
                cells.wrong.push((name.into(), problem.into()));
            }
            let mut words = place.split("::").map(str::to_owned);
            let place = [(); CASE].map(|()| words.next().unwrap_or_default());
            if case["left_out"] == true {
                cells.left_out.push(place);
                continue;
            }
            let counts = case["counts"].as_object().into_iter().flatten();
            let counts = counts.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)));
            cells.rows.push((place, counts.collect()));
        }
        if cells.rows.is_empty() {
            bail!("no case of causality ran");
        }
        Ok(cells)
    }

    /// A row that is not in this page and is to be, or is and is not to be.
    fn differs(&self, page: &str) -> Option<Vec<String>> {
        let own = self.page();
        let (new, kept) = (frame(&own), frame(page));
        let left_out = |row: &[&str]| self.left_out.iter().any(|case| case == row);
        let missing = new.iter().find(|row| !kept.contains(row));
        let row = missing.or_else(|| kept.iter().find(|row| !new.contains(row) && !left_out(row)));
        row.map(|row| row.iter().map(|&cell| cell.into()).collect())
    }

    fn page(&self) -> String {
        let mut rows = Table::head(&[
            "runtime",
            "shape",
            "at once",
            "calls",
            "right",
            "wrong",
            "none",
            "unseen",
            "linked by",
        ]);
        for (place, counts) in &self.rows {
            let mut row = place.to_vec();
            let count = |name: &str| counts.get(name).copied().unwrap_or_default();
            let calls = count("calls");
            row.push(calls.to_string());
            for name in ["right", "wrong", "none"] {
                row.push(share(count(name), calls));
            }
            row.push(count("unseen").to_string());
            row.push(methods(counts));
            rows.push(row);
        }
        let table = Table {
            name: "causality".into(),
            caption: format!("{} cases, {}.", self.rows.len(), machine()),
            rows,
        };
        let mut text = format!("{HEAD}\n{}", table.markdown());
        if !self.wrong.is_empty() {
            text += "\nNot as it is to be, with the first of what is wrong:\n\n";
        }
        for (case, problem) in &self.wrong {
            text += &format!("- `{case}`: {problem}\n");
        }
        text
    }
}

/// A count, and what part that is of all.
#[expect(clippy::cast_precision_loss, reason = "counts of calls are small")]
pub(crate) fn share(part: u64, all: u64) -> String {
    match all {
        0 => "–".into(),
        _ => format!("{part} · {:.1} %", part as f64 * 100.0 / all as f64),
    }
}

/// How many calls have their parent by what method.
pub(crate) fn methods(counts: &BTreeMap<String, u64>) -> String {
    let methods = counts.iter().filter_map(|(name, count)| {
        let method = name.strip_prefix("by ")?;
        Some(format!("`{method}` {count}"))
    });
    let methods: Vec<String> = methods.collect();
    match methods.is_empty() {
        true => "–".into(),
        false => methods.join(", "),
    }
}

/// The cases' family.
const CASES: &str = "causality::";
const PAGE: &str = "docs/causality.md";
const HEAD: &str = "# Whose child a call is

Written by `cargo xtask causality`. A front serves requests, so many at once, and makes calls for each; no header says which call
belongs to which request. The truth is a number in the request's path that each of its calls has in its path, key or statement, and
that nothing reads to link by. Of all calls: right have the span of their request for a parent; wrong have anything else; none have
no parent, which is allowed; unseen have no span, which is not. Wrong fails in every case, and the lists `RIGHT` and `NONE` in
tests/live/causality.rs say of which cases most must be right, and of which all must have no parent.

What the methods in the last column are, what each needs and how it is switched off: [links.md](links.md).

| shape | how a request's calls are made |
|-------|--------------------------------|
| `direct` | one, in the handler, by the default pool of connections |
| `sleep` | two, some milliseconds before each |
| `small-pool` | one, by a pool of 4 connections, for which requests wait |
| `fan-out` | five at once, waited for |
| `redis` | two commands, by a pool of 4 connections |
| `sql` | one query of PostgreSQL, by a pool of 4 connections |
| `worker` | one, by one of 8 workers that live as long as the program |
| `late` | one, 20 ms after the request was answered |
| `h2`, `h2-tls` | one, by HTTP/2, all on one connection; over TLS |
| `https` | one, by HTTP/1.1 over TLS |
| `grpc`, `grpc-fan-out`, `grpc-tls` | one, five at once, and one over TLS, by grpc-go over one connection |
| `reused` | one: half by connections that net/http closes at once, half by others that come to be where they were in memory |
| `tls-reused` | the same over TLS |
| `wrapped` | one, by connections of a type of the program's own: for whom net/http writes is not told then |
| `proxy` | one, by which the request is handed on |
| `post` | one, with a body of 64 KiB each way, as the request has |
| `closing` | one, by a connection of its own |
| `nested` | one of the front itself, whose second request makes one |
| `timeout` | one; half are given up before there is an answer |
| `dns` | one, by a connection of its own, to a name |
| `to-thread`, `blocking` | one, in a thread that a task hands it to with its context; of tokio spawn_blocking |
| `executor`, `submit`, `submit-tls` | one, in a thread of a pool, waited for; over TLS |
| `executors`, `completed` | five at once, the same; of `completed` one within an item that waits for another pool's |
| `submits` | two, given to a pool by an item of another |
| `tasks` | one, by a task that a task starts for it |
| `beside` | one, while a task that is nobody's calls on its own |
| `grown` | one, by one of some tasks that live on, started by who finds none idle |
| `written` | one, over one of 8 connections, each of which two goroutines of its own write and read for all |
| `tree` | three, each by a goroutine at the end of a line of goroutines that ask for nothing |
| `teeming` | one, after a thousand goroutines were started, or as `beside` after two thousand locks were made: too many to follow |
| `pipelined`, `clogged` | one, by a connection that all write to as they come; with 1 KiB, of which its socket takes no more than some |
| `requests`, `plain` | one, by requests, by http.client; of Ruby by Net::HTTP, each with a connection of its own |
| `flushed` | one before the request is answered, one after that and before the handler returns; of Ruby in `close` of the answer's body |
| `behind` | one, by the thread that serves, when all of the answer was sent (`rack.after_reply`) |
| `hijack` | the same, where the handler has taken the connection from the server and goes on with bytes of no protocol |
| `client`, `client-async` | one, by java.net.http: waited for, or by a future that is |
| `supply` | one, by CompletableFuture.supplyAsync: in a thread of its own on machines of two CPUs |
| `invoke-all` | five at once, by 8 workers, waited for together |
| `saturated` | one, by 4 workers |
| `forgotten` | one by 4 workers that is not waited for, and one in the handler; in Python that one alone, by a pool |
| `abandoned` | the same, 20 ms later: the request is answered by then |
| `outlived` | one by 4 workers; half are answered before |
| `lent` | one in the handler and one by 8 workers, each for one of 4 permits that all wait for |
| `held` | one by 8 workers, which hold a lock meanwhile that requests take as well |
| `queued` | one, by two threads of the program's own that take what all put into a queue |
| `own` | the request is handed on, and all have their own paths |
| `cookies` | the same, with their own cookies and one path |
| `same` | the same, with nothing that tells them apart |
| `fetch` | one, by fetch instead of node:http |
| `callbacks` | one, without promises |
| `twice` | two, one after the other |
| `turns` | one, and only one at once: who is answered lets the next begin |
| `lock`, `lock-twice` | one or two, behind a file that only one reads at once |
| `limit` | two, at most 4 at once, by a queue of the program's own |
| `file` | one, when a file was read |
| `timer`, `immediate`, `tick` | one, in a callback of each of the loop's queues |
| `timers` | one, behind timers that are due at once: half resolve a promise, half await something else in their callbacks |

| runtime | what is special |
|---------|-----------------|
| `go` | nothing |
| `go-syscall` | traced by `--capture-path=syscall` |
| `go-h2c`, `go-h2-tls` | asked by HTTP/2 on four connections, in the clear and over TLS |
| `go-h2c-one`, `go-grpc-one` | asked on one connection |
| `go-h2c-module` | the same by golang.org/x/net/http2/h2c |
| `go-grpc`, `go-grpc-tls` | a server of grpc-go |
| `go-grpc-workers` | the same with 8 workers that serve all streams |
| `go-grpc-pie`, `go-h2c-stripped`, `go-grpc-syscall` | as `go-pie`, `go-stripped`, `go-syscall` |
| `go-grpc-stripped`, `go-grpc-off` | built without DWARF, which alone says where grpc-go keeps streams; traced by `--link-goroutines=false`: none may have a parent |
| `go-stripped`, `go-pie`, `go-cgo` | built without symbols and DWARF, to be put anywhere in memory, by C's linker |
| `java`, `tomcat`, `jetty` | the JDK's HttpServer, Tomcat and Jetty: a thread for each request that is at work |
| `java-g1`, `java-25`, `java-z` | HotSpot 17 with G1 instead of Serial, HotSpot 25 with Parallel, HotSpot 17 with ZGC, where objects move meanwhile: none may have a parent |
| `java-off` | traced by `--link-jvm=false`: none may have a parent but by a thread |
| `java-virtual` | the JDK's HttpServer with a virtual thread for each, which its carrier says nothing of: none may have a parent |
| `nginx`, `nginx-close`, `haproxy` | proxies, that keep connections to the leaf or do not: the call is the request that is handed on |
| `nginx-off` | traced by `--link-forwarded=false`: none may have a parent |
| `php-fpm` | PHP behind nginx: eight processes that serve one request at a time; of `own` the call is nginx's |
| `puma`, `puma-cluster`, `puma-single` | Ruby under Puma, Net::HTTP, redis and pg: 32 threads, 32 in each of two processes, one; most requests' heads another thread has read |
| `ruby-fibers` | Ruby's async-http, on which Falcon is made: fibers on one thread |
| `tokio`, `tokio-current`, `tokio-pinned` | hyper, redis and tokio-postgres on four threads, on one, on four with a runtime each: none may have a parent |
| `tokio-vendored` | where no path of the program's names tokio: the same |
| `tokio-unknown`, `tokio-pinned-unknown` | where nothing in the program does: its threads have to show what they do |
| `rust-threads` | Rust without tokio: a thread for each connection, ureq and redis |
| `python-threads`, `python-gthread` | http.server with a thread for each connection, gunicorn with pools of threads; urllib3, redis-py, psycopg |
| `asyncio`, `uvloop` | aiohttp, server and client, redis-py and asyncpg; on asyncio's own loop, and on uvloop |
| `asgi`, `asgi-uvloop` | uvicorn, Starlette and httpx, the same |
| `asyncio-syscall`, `uvloop-syscall` | as `go-syscall` |
| `asyncio-off`, `uvloop-off`, `python-threads-off` | traced by `--link-asyncio=false`: none may have a parent |
| `node` | in Node.js's front connections are kept as its libraries do: `worker` has the thread pool compute before the call, `redis` has one connection for all |
| `go-off`, `node-off` | traced by `--link-goroutines=false`, `--link-node=false`: none may have a parent |
| `node-syscall` | as `go-syscall` |
| `go-kept`, `asyncio-kept`, `node-kept`, `java-kept` | traced by `--propagation off`; by all others whose trace a call is in is said before it is sent |
| `go-inferred`, `go-off-inferred`, … | as those without the ending, traced by `--link-inferred=true --propagation off`, when some hundred requests came one at a time and more and more at once: a wrong parent in a hundred of those inferred is no failure there, but any of `late` is |
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell;

    fn line(case: &str, counts: &str, problems: &str) -> String {
        format!(
            r#"{{"case": "{case}", "problems": [{problems}], "tallies": [], "counts": {{{counts}}}}}"#
        )
    }

    #[test]
    fn a_row_is_a_case_with_its_shares() {
        let lines = [
            line(
                "causality::go::fan-out::8",
                r#""calls": 1600, "right": 1598, "wrong": 1, "none": 1, "by thread": 1599"#,
                r#""call-1-0 is a child of x", "more""#,
            ),
            line("matrix::x", "", r#""not ours""#),
        ];
        let cells = Cells::read(&lines.join("\n")).expect("a report");
        let page = cells.page();
        let row = "| go      | fan-out | 8       | 1600  | 1598 · 99.9 % | 1 · 0.1 % | 1 · 0.1 % | 0      | `thread` 1599 |";
        assert!(page.contains(row), "{page}");
        let problem = "- `causality::go::fan-out::8`: call-1-0 is a child of x\n";
        assert!(page.ends_with(problem), "{page}");
        assert_eq!(cells.wrong.len(), 1);
        assert!(Cells::read(&lines[1]).is_err());
    }

    #[test]
    fn a_page_is_old_where_cases_differ_and_not_where_figures_do() {
        let page = |at_once, right| {
            let case = format!("causality::go::direct::{at_once}");
            let counts = format!(r#""calls": 9, "right": {right}"#);
            let cells = Cells::read(&line(&case, &counts, "")).expect("a report");
            cells.page()
        };
        let (one, same, other) = (page(8, 9), page(8, 0), page(32, 9));
        assert_eq!(frame(&one).len(), 2);
        assert_eq!(frame(&one), frame(&same));
        assert_ne!(frame(&one), frame(&other));
    }

    #[test]
    fn a_page_may_have_the_cases_that_are_left_out_and_no_others() {
        let case = |at_once| line(&format!("causality::go::direct::{at_once}"), "", "");
        let left_out = r#"{"case": "causality::go::direct::64", "left_out": true}"#;
        let of = |lines: &[&str]| Cells::read(&lines.join("\n")).expect("a report");
        let (ran, all) = (case(8), case(64));
        let page = of(&[&ran, &all]).page();
        assert_eq!(of(&[&ran, left_out]).differs(&page), None);
        let row = ["go", "direct", "64"].map(str::to_owned).to_vec();
        assert_eq!(of(&[&ran]).differs(&page), Some(row.clone()));
        // What runs is to be there.
        let page = of(&[&ran]).page();
        assert_eq!(of(&[&ran, &all]).differs(&page), Some(row));
        assert_eq!(of(&[&ran, left_out]).differs(&page), None);
    }

    #[test]
    fn the_page_says_what_each_of_its_cases_is() {
        let kept = fs::read_to_string(shell::workspace().join(PAGE)).expect("the page");
        let rows = frame(&kept);
        for case in rows.iter().filter(|row| row.len() == CASE) {
            for name in &case[..2] {
                let name = name.strip_suffix("-inferred").unwrap_or(name);
                assert!(HEAD.contains(&format!("`{name}`")), "{name} of {case:?}");
            }
        }
    }

    #[test]
    fn the_page_begins_as_it_would_be_written() {
        let kept = fs::read_to_string(shell::workspace().join(PAGE)).expect("the page");
        assert!(kept.starts_with(HEAD), "{PAGE} is old");
    }
}
