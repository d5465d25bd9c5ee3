//! Runs cases one after the other, since they share a kernel, two cores and a clock, but those two at
//! a time that say they may be; prints a line per case, what is wrong with each, and closing lines as
//! `cargo test` has them.
//! `cargo test -p spantap-tests --test live -- [--list] [--exact] [--all] [WORD…]` runs the cases whose name
//! contains a word, but those that are too many to be run each time: these want `--all`, or a word that is
//! their whole name; `--dry` runs the programs without an agent and judges nothing; `--report=FILE`
//! writes what each came to ([`crate::report`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::agent::{self, Agent};
use crate::expect::{self, Score};
use crate::known::{Known, Origin};
use crate::report::Report;
use crate::sink::Sink;
use crate::span::{Kind, Span};

type Body = Box<dyn Fn(&mut Stage) -> Result<()> + Send + Sync>;

/// A case that is known to fail, and why: it is run, shown as a gap and counted as ignored, with a
/// remark where it passed, since the list may then be mended.
pub type Gap = (&'static str, &'static str);

/// One test.
pub struct Case {
    name: String,
    body: Body,
    beside: bool,
    seldom: bool,
    on_node: bool,
}

impl Case {
    /// `name` is `family::program…`.
    pub fn new(
        name: impl Into<String>,
        body: impl Fn(&mut Stage) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            body: Box::new(body),
            beside: false,
            seldom: false,
            on_node: false,
        }
    }

    /// Whether it is like others, and left out unless it is asked for.
    #[must_use]
    pub fn seldom_if(self, seldom: bool) -> Self {
        Self { seldom, ..self }
    }

    /// It may run beside another: its agent sees nothing of the other's, and no time is judged.
    #[must_use]
    pub fn beside(self) -> Self {
        Self {
            beside: true,
            ..self
        }
    }

    /// It takes a Kubernetes of one node, which is much for a machine beside others: these come last.
    #[must_use]
    pub fn on_node(self) -> Self {
        Self {
            on_node: true,
            ..self
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What a case works with: a sink of its own, a folder of its own, and its score so far.
pub struct Stage {
    /// Receives the spans.
    pub sink: Sink,
    /// For configurations and logs.
    pub folder: PathBuf,
    score: Score,
}

impl Stage {
    fn new(name: &str) -> Result<Self> {
        let folder = agent::target()
            .join("live-cache/runs")
            .join(name.replace("::", "/"));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder)?;
        Ok(Self {
            sink: Sink::start()?,
            folder: fs::canonicalize(folder)?,
            score: Score::default(),
        })
    }

    /// An agent that exports to this stage's sink. What it sees is judged: it gives way to nobody, as
    /// servers that are starting take all CPUs for a while.
    pub fn agent(&self) -> Result<agent::Setup> {
        let setup = agent::Setup::new("agent", &self.folder)?;
        Ok(setup.env("SPANTAP_CPU_SHARE", "1").to(&self.sink))
    }

    /// Waits for that many spans and for any surplus, ends the agent so that it sends all it has,
    /// and gives what came.
    pub fn receive(&mut self, agent: Agent, count: usize) -> Result<Vec<Span>> {
        if agent::dry() {
            return Ok(Vec::new());
        }
        let (spans, problems) = gather(&self.sink, agent, count)?;
        self.score.problems.extend(problems);
        Ok(spans)
    }

    /// Receives the spans of these exchanges, and judges them.
    pub fn judge(&mut self, agent: Agent, known: &[Known]) -> Result<Vec<Span>> {
        if agent::dry() {
            self.score.server.0 += known.iter().filter(|one| one.server.is_some()).count();
            self.score.client.0 += known.iter().filter(|one| one.client.is_some()).count();
            return Ok(Vec::new());
        }
        let count = known.iter().map(Known::spans).sum();
        let log = agent.log_path().to_path_buf();
        let spans = self.receive(agent, count)?;
        self.judge_spans(known, &spans);
        if !self.score.problems.is_empty() {
            self.problem(format!("the agent's log: {}", log.display()));
        }
        Ok(spans)
    }

    /// The same for many exchanges that look alike: no telling which client span belongs to which
    /// server span but by their link, so the links must pair them one to one.
    pub fn judge_many(&mut self, agent: Agent, known: &[Known]) -> Result<Vec<Span>> {
        let mut loose = known.to_vec();
        for one in &mut loose {
            one.origin = Origin::Any;
        }
        if agent::dry() {
            return self.judge(agent, &loose);
        }
        let spans = self.receive(agent, known.iter().map(Known::spans).sum())?;
        let clients: BTreeMap<&str, &Span> = spans
            .iter()
            .filter(|span| span.kind == Kind::Client)
            .map(|span| (span.id.as_str(), span))
            .collect();
        // Client spans in the order of the server spans that name them as parents.
        let (mut ordered, mut parents) = (Vec::new(), std::collections::BTreeSet::new());
        for span in spans.iter().filter(|span| span.kind == Kind::Server) {
            let parent = span.parent.as_deref().and_then(|id| clients.get(id));
            let fine =
                parent.is_some_and(|p| p.trace == span.trace && parents.insert(p.id.as_str()));
            self.score.parents.0 += 1;
            self.score.parents.1 += usize::from(fine);
            self.check(fine, || {
                format!("no client span of its own is parent: {}", span.line())
            });
            ordered.push(span.clone());
        }
        let servers: Vec<Known> = loose
            .iter()
            .map(|one| Known {
                client: None,
                ..one.clone()
            })
            .collect();
        let asks: Vec<Known> = loose
            .iter()
            .map(|one| Known {
                server: None,
                ..one.clone()
            })
            .collect();
        self.judge_spans(&servers, &ordered);
        let rest: Vec<Span> = spans
            .iter()
            .filter(|span| span.kind != Kind::Server)
            .cloned()
            .collect();
        self.judge_spans(&asks, &rest);
        Ok(spans)
    }

    /// Judges spans that came some other way.
    pub fn judge_spans(&mut self, known: &[Known], spans: &[Span]) {
        let (score, _) = expect::judge(known, spans);
        self.score.add(score);
    }

    /// Adds what was judged elsewhere.
    pub fn add(&mut self, score: Score) {
        self.score.add(score);
    }

    /// Notes a number of the case's own.
    pub fn count(&mut self, name: &str, number: usize) {
        self.score.counts.insert(name.into(), number);
    }

    /// What the case wants is not on this machine: it is shown with the reason, and counted as ignored.
    pub fn skip(&mut self, why: impl Into<String>) {
        self.score.skipped = Some(why.into());
    }

    /// Adds to what is wrong; the case goes on.
    pub fn problem(&mut self, text: impl Into<String>) {
        self.score.problems.push(text.into());
    }

    /// Whether anything is wrong so far.
    pub fn has_problems(&self) -> bool {
        !self.score.problems.is_empty()
    }

    /// Checks by its log that an agent, which has ended, lost nothing.
    pub fn check_lossless(&mut self, log: &Path) -> Result<()> {
        if agent::dry() {
            return Ok(());
        }
        let log = fs::read_to_string(log)?;
        self.check(log.contains(" spans, 0 lost"), || format!("lost: {log}"));
        Ok(())
    }

    /// Adds to what is wrong unless it is fine.
    pub fn check(&mut self, fine: bool, text: impl FnOnce() -> String) {
        if !fine && !agent::dry() {
            self.problem(text());
        }
    }
}

/// Waits until a sink has that many spans of an agent and for any surplus, ends the agent so that it sends
/// all it has, and gives what came, and what is wrong with how it did.
pub fn gather(sink: &Sink, agent: Agent, count: usize) -> Result<(Vec<Span>, Vec<String>)> {
    sink.wait(count, PATIENCE);
    sink.settle(SETTLE, PATIENCE);
    agent.stop()?;
    let broken = sink.broken().into_iter();
    let problems = broken.map(|why| format!("the sink refused a request: {why}"));
    Ok((sink.spans(), problems.collect()))
}

/// Runs what the command line asks for. `gaps` name cases by the beginning of their names.
pub fn main(cases: Vec<Case>, gaps: &[Gap]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let words: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let total = cases.len();
    let fits = |case: &Case| {
        let fits = |word: &&String| match flag("--exact") {
            true => case.name == **word,
            false => case.name.contains(word.as_str()),
        };
        words.is_empty() || words.iter().any(fits)
    };
    let named = |case: &Case| words.contains(&&case.name);
    let (wanted, left_out): (Vec<Case>, Vec<Case>) = cases
        .into_iter()
        .filter(fits)
        .partition(|case| !case.seldom || flag("--all") || named(case));
    if flag("--list") {
        wanted
            .iter()
            .for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    let mut gaps = gaps;
    if flag("--dry") {
        agent::set_dry();
        // The programs themselves have none.
        gaps = &[];
    }
    if let Err(error) = fit() {
        println!(
            "{error:#}\n\ntest result: FAILED. 0 passed; {} failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            wanted.len()
        );
        return ExitCode::FAILURE;
    }
    let path = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("--report="));
    match Report::new(path.map(Path::new)) {
        Ok(mut report) => {
            let told = left_out.iter().map(|case| report.leave_out(&case.name));
            if let Err(error) = told.collect::<Result<()>>() {
                println!("{error:#}");
                return ExitCode::FAILURE;
            }
            run(&wanted, total, gaps, &mut report)
        }
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the cases came to so far.
struct Sum<'a> {
    report: &'a mut Report,
    failed: Vec<(&'a str, Vec<String>)>,
    known: Vec<String>,
    families: BTreeMap<&'a str, Duration>,
}

impl<'a> Sum<'a> {
    /// Adds what a case came to, and prints its line.
    fn add(&mut self, case: &'a Case, mut score: Score, took: Duration, gaps: &[Gap]) {
        if let Err(error) = self.report.add(&case.name, &score) {
            score.problems.push(format!("{error:#}"));
        }
        if let Some((_, why)) = gaps.iter().find(|(name, _)| case.name.starts_with(name)) {
            let now = match score.problems.first() {
                None => "passed this time".into(),
                Some(first) => format!("{} problems: {first}", score.problems.len()),
            };
            self.known
                .push(format!("known gap: {} ({now}): {why}", case.name));
            score.problems.clear();
        } else if let (true, Some(why)) = (score.problems.is_empty(), &score.skipped) {
            self.known.push(format!("skipped: {}: {why}", case.name));
        }
        let family = case.name.split("::").next().unwrap_or_default();
        *self.families.entry(family).or_default() += took;
        println!("{}", row(&case.name, &score, took));
        if !score.problems.is_empty() {
            self.failed.push((&case.name, score.problems));
        }
    }
}

/// Runs these, so many at a time.
fn run_all<'a>(cases: &[&'a Case], workers: usize, gaps: &[Gap], sum: &Mutex<&mut Sum<'a>>) {
    let next = Mutex::new(cases.iter());
    let work = || {
        let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(case) = take() {
            let start = Instant::now();
            let score = play(case);
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.add(case, score, start.elapsed(), gaps);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
}

fn run(cases: &[Case], total: usize, gaps: &[Gap], report: &mut Report) -> ExitCode {
    let begun = Instant::now();
    println!("\nrunning {} tests", cases.len());
    println!(
        "{:<44} {:>11} {:>7} {:>9} {:>9} {:>7}",
        "", "spans", "recall", "precision", "parents", "time"
    );
    let mut sum = Sum {
        report,
        failed: Vec::new(),
        known: Vec::new(),
        families: BTreeMap::new(),
    };
    let (last, soon): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.on_node);
    let (beside, alone): (Vec<&Case>, Vec<&Case>) = soon.iter().partition(|case| case.beside);
    for (cases, workers) in [(alone, 1), (beside, 2), (last, 1)] {
        run_all(&cases, workers, gaps, &Mutex::new(&mut sum));
    }
    close(&sum, cases.len(), total, begun)
}

/// Prints what is wrong, and the closing lines.
fn close(sum: &Sum<'_>, cases: usize, total: usize, begun: Instant) -> ExitCode {
    let (failed, known) = (&sum.failed, &sum.known);
    for (name, problems) in failed {
        println!("\n---- {name} ----");
        problems
            .iter()
            .take(MOST_PROBLEMS)
            .for_each(|line| println!("  {line}"));
        if problems.len() > MOST_PROBLEMS {
            println!("  … and {} more", problems.len() - MOST_PROBLEMS);
        }
    }
    println!();
    known.iter().for_each(|line| println!("{line}"));
    for (family, time) in &sum.families {
        println!("{family:<20} {:>7.1} s", time.as_secs_f64());
    }
    if agent::dry() {
        println!(
            "\ndry run: {} of {} cases did as asked; nothing was traced",
            cases - failed.len(),
            cases
        );
        return if failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        cases - failed.len() - known.len(),
        failed.len(),
        known.len(),
        total - cases,
        begun.elapsed().as_secs_f64()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn play(case: &Case) -> Score {
    let played = Stage::new(&case.name).map(|mut stage| {
        if let Err(error) = (case.body)(&mut stage) {
            stage.problem(format!("{error:#}"));
        }
        stage.score
    });
    played.unwrap_or_else(|error| Score {
        problems: vec![format!("{error:#}")],
        ..Score::default()
    })
}

fn row(name: &str, score: &Score, time: Duration) -> String {
    let verdict = match (score.problems.is_empty(), &score.skipped) {
        (false, _) => "FAILED",
        (true, Some(_)) => "skipped",
        (true, None) => "ok",
    };
    let mut line = format!("{name:<44} ");
    if agent::dry() {
        line += &format!(
            "{:>5}+{:<5} {:<28} ",
            score.server.0, score.client.0, "not judged"
        );
    } else if score.expected() > 0 {
        line += &format!(
            "{:>5}+{:<5} {:>6.1}% {:>8.1}% {:>9} ",
            score.server.0,
            score.client.0,
            score.recall(),
            score.precision(),
            format!("{}/{}", score.parents.1, score.parents.0)
        );
    } else {
        let counts = score.counts.iter();
        let counts: Vec<String> = counts.map(|(name, n)| format!("{name} {n}")).collect();
        line += &format!("{:<40}", counts.join(", "));
    }
    line + &format!("{:>6.1}s  {verdict}", time.as_secs_f64())
}

/// What no case can do without.
fn fit() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the live tests need root: tracing does"
    );
    agent::binary()?;
    if !Path::new("/usr/bin/setpriv").exists() {
        bail!("no setpriv (Debian package util-linux)");
    }
    Ok(())
}

/// The longest a case waits for spans that do not come.
const PATIENCE: Duration = Duration::from_secs(8);

/// No span for this long: those there were have come. The agent is told to send every 200 ms, and
/// sends the rest when it is ended.
const SETTLE: Duration = Duration::from_millis(250);

/// Problems shown of one case.
const MOST_PROBLEMS: usize = 25;
