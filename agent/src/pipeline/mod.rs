//! The only place where the stages meet: threads, bounded hand-overs, and the order of starting
//! and stopping. A reader thread per ring carries records to facts ([`reader`], [`shard`]); one
//! weaver thread carries facts to spans ([`weaver`]); exporters are tasks of a small runtime. Whoever
//! waits for files is apart ([`clerk`]).

pub mod chooser;
pub mod clerk;
pub mod collector;
mod counts;
pub mod encrypted;
pub mod failure;
pub mod followed;
pub mod health;
pub mod list;
pub mod mailbox;
pub mod newcomers;
pub mod orders;
pub mod pods;
pub mod privilege;
pub mod prober;
pub mod reader;
pub mod shard;
mod threads;
pub mod unknown;
pub mod weaver;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};

use crate::config::{Carrying, Config, Propagation};
use crate::courtesy;
use crate::event::clock::Clock;
use crate::export::Exporters;
use crate::export::metrics::Metrics;
use crate::kubernetes::Cluster;
use crate::probe::kernel::{Kernel, PRIVILEGES, TYPES, Types};
use crate::probe::{Control, Probe, clock, shards};
use crate::resource::Resources;
use crate::say::say;
use crate::serve;
use crate::span::Span;
use crate::stats::Stats;
use crate::target::{PROC, Processes, Targets};
use collector::Collector;
use counts::count;
use encrypted::Encrypted;
use failure::Failure;
use followed::Followed;
use health::Health;
use reader::Shared;
use threads::Threads;
use weaver::Weaver;

/// Gets every finished span, after policy. Called on the pipeline's way: it does not block. Dropped
/// by the time [`run`] returns, as whoever prints waits for that.
pub type OnSpan = Box<dyn FnMut(&Span) + Send>;

pub use chooser::Reread;

/// What the pipeline is started with.
pub struct Start {
    /// The resolved configuration.
    pub config: Arc<Config>,
    /// Who wants to see the spans, besides the exporters in the configuration.
    pub on_span: Option<OnSpan>,
    /// Called once when everything is attached: from then on nothing is missed.
    pub ready: Box<dyn FnOnce() + Send>,
    /// Becomes true when it is time to flush, detach and return.
    pub stop: watch::Receiver<bool>,
    /// Looks whether something else is selected by now, where that may be.
    pub reread: Option<Reread>,
}

/// What is said at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Spans that arrived where they were sent, the mean of all exporters; where there is none,
    /// those handed to [`Start::on_span`].
    pub spans: u64,
    /// What was lost, where and how often; only what was.
    pub losses: Vec<Loss>,
    /// Connections that were not read, encrypted or unknown, a line for each kind: how many, whose, why.
    pub unread: Vec<String>,
    /// Every counter that is not zero: its name, what it counts, how much.
    pub counters: Vec<(&'static str, &'static str, u64)>,
}

impl Summary {
    /// All losses together.
    pub fn lost(&self) -> u64 {
        self.losses.iter().map(|loss| loss.count).sum()
    }
}

/// One way of losing something, and how often it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The counter's name, `stage.what`.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// A privilege or a kernel feature that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unable {
    /// What is missing: `CAP_BPF`, `BTF`, a kernel version.
    pub missing: String,
    /// How to get it.
    pub remedy: String,
}

impl fmt::Display for Unable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missing {}: {}", self.missing, self.remedy)
    }
}

impl std::error::Error for Unable {}

/// Runs the pipeline until `stop`; blocks.
///
/// # Errors
/// [`Unable`] where a privilege or kernel feature is missing; otherwise what went wrong.
pub fn run(mut start: Start) -> Result<Summary> {
    let (stats, health) = (Arc::new(Stats::default()), Arc::new(Health::default()));
    let runtime = runtime(&start.config, &stats, &health)?;
    if start.config.disabled {
        health.idles();
        return idle(start, &runtime);
    }
    let capture = &start.config.capture;
    // Maps, programs and probes are descriptors all.
    prober::descriptors();
    let kernel = apart(|| Kernel::look(capture.btf.as_deref()))?;
    able(&kernel)?;
    let cluster = pods::start(&start.config, &stats, runtime.handle());
    let config = Arc::new(Config {
        selection_changes: start.reread.is_some() || cluster.is_some(),
        ..Config::clone(&start.config)
    });
    let collector = collector(&config);
    let clock = Arc::new(Clock::default());
    set(&clock);
    let exporters = Exporters::start(&config.export, &stats, runtime.handle())?;
    let uprobes = config.capture.tls || config.propagation.needs_probes();
    let mut probe = apart(|| Probe::load(&config, &kernel, uprobes))??;
    let control = probe.control();
    let shared = shared(&config, &control, cluster, &stats, &health, collector);
    let metrics = metrics(&config, &shared, &runtime)?;
    let weaver = Weaver::new(&mut start, &shared, Arc::clone(&clock), exporters.sender());
    meet(&shared, config.kubernetes.wait)?;
    choose(&shared, start.reread.take())?;
    let threads = Threads::start(&mut probe, &config, &shared, weaver)?;
    heat(&mut probe, &shared)?;
    say_unable(&probe, uprobes, &config.propagation);
    let probe = Arc::new(Mutex::new(probe));
    let prober = prober::start(&probe, &shared)?;
    privilege::keep(privilege::ATTACH).context("give up privileges")?;
    health.runs(exporters.sender());
    (start.ready)();
    let (beat, mut told) = (health.beat(), Told::default());
    let reason = runtime.block_on(attend(&mut start.stop, &exporters, &shared, &mut |look| {
        beat.at(clock::monotonic());
        if look == Look::Around {
            set(&clock);
            count(&control, &stats)?;
            if let Some(news) = told.news(losses(&stats), Instant::now()) {
                say(news);
            }
            lock(&probe).flush_log();
        }
        heat(&mut lock(&probe), &shared)
    }));
    health.ends();
    // Nothing is attached any more while the rest is flushed.
    let detached = lock(&probe).set_hot(false);
    threads.stop(&shared);
    prober::wait(&prober);
    count(&control, &stats)?;
    finish(runtime, exporters, metrics);
    reason.and(detached)?;
    if let Some(why) = shared.failure.why() {
        bail!("{why}");
    }
    Ok(Summary {
        unread: shared.unread(),
        ..summary(&stats, config.export.exporters.len())
    })
}

/// What exporters run in. Who asks how the agent is gets an answer from here on.
fn runtime(config: &Config, stats: &Arc<Stats>, health: &Arc<Health>) -> Result<Runtime> {
    let listener = config.serve.listen.map(serve::listen).transpose()?;
    privilege::no_new().context("give up new privileges")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name("export")
        .on_thread_start(privilege::none)
        .build()
        .context("start the exporters' runtime")?;
    if let Some(listener) = listener {
        let health = Arc::clone(health);
        serve::start(listener, health, stats, runtime.handle())?;
    }
    Ok(runtime)
}

/// Does what takes much memory for a moment on a thread that ends: its heap goes with it.
fn apart<T: Send>(run: impl FnOnce() -> T + Send) -> Result<T> {
    let done = thread::scope(|scope| scope.spawn(run).join());
    done.map_err(|_| anyhow!("a panic while loading"))
}

/// What the threads have in common.
fn shared(
    config: &Arc<Config>,
    control: &Arc<Control>,
    cluster: Option<Arc<Cluster>>,
    stats: &Arc<Stats>,
    health: &Arc<Health>,
    collector: Collector,
) -> Arc<Shared> {
    let processes = Arc::new(Processes::new(PROC, Arc::clone(stats)));
    let (selection, pods) = (&config.selection, cluster.clone());
    let targets = Targets::new(Arc::clone(&processes), selection, pods, Arc::clone(stats));
    Arc::new(Shared {
        control: Arc::clone(control) as _,
        targets: Arc::new(targets),
        stats: Arc::clone(stats),
        stop: AtomicBool::new(false),
        interval: config.capture.drain,
        share: courtesy::share(config.limits.cpu_share, shards() + 1),
        generation: AtomicU64::new(0),
        failure: Failure::default(),
        health: Arc::clone(health),
        hot: AtomicBool::new(false),
        changed: Notify::new(),
        resources: Resources::new(processes, config, cluster.clone(), Arc::clone(stats)),
        cluster,
        arrivals: Mutex::default(),
        probing: prober::Queue::default(),
        tls: config.capture.tls,
        goroutines: config.propagation.goroutine,
        asyncio: config.propagation.asyncio,
        followed: Followed::new(config.propagation.asyncio),
        node: config.propagation.node,
        jvm: config.propagation.jvm,
        collector,
        encrypted: Arc::new(Encrypted::default()),
        unknown: Arc::default(),
    })
}

/// Finds out who is there already, and for a moment waits for what their files tell. Verdicts reach
/// the kernel side with the readers' first drain.
fn meet(shared: &Arc<Shared>, wait: Duration) -> Result<()> {
    let clerk = {
        let shared = Arc::clone(shared);
        move || {
            shared.failure.guard("the clerk", || {
                privilege::keep_or_go_on(privilege::PROCESSES);
                privilege::hand_on(privilege::PROCESSES);
                clerk::run(&shared);
                Ok(())
            });
        }
    };
    // Nobody waits for its end.
    thread::Builder::new()
        .name("clerk".into())
        .spawn(clerk)
        .context("start the clerk's thread")?;
    pods::wait(shared.targets.cluster(), wait);
    for (pid, verdict) in shared.targets.scan() {
        if verdict.is_traced() {
            shared.resources.observe(pid, "", 0);
        }
    }
    let began = Instant::now();
    while !shared.resources.is_idle() && began.elapsed() < MEET {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Looks for others to trace from now on, where there may come to be some.
fn choose(shared: &Arc<Shared>, reread: Option<Reread>) -> Result<()> {
    if reread.is_none() && shared.targets.cluster().is_none() {
        return Ok(());
    }
    let shared = Arc::clone(shared);
    let chooser = move || {
        shared.failure.guard("the chooser", || {
            privilege::keep_or_go_on(privilege::PROCESSES);
            chooser::run(&shared, reread);
            Ok(())
        });
    };
    // Nobody waits for its end, as it may hang in a file.
    (thread::Builder::new().name("chooser".into()).spawn(chooser))
        .context("start the chooser's thread")?;
    Ok(())
}

/// Longest the start waits for what files tell.
const MEET: Duration = Duration::from_millis(300);

fn lock(probe: &Mutex<Probe>) -> MutexGuard<'_, Probe> {
    probe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Disabled: nothing is loaded, attached or asked for; only the end is waited for.
fn idle(mut start: Start, runtime: &Runtime) -> Result<Summary> {
    (start.ready)();
    drop(start.on_span);
    // Whoever could stop us being gone is a reason to stop, too.
    let _ = runtime.block_on(start.stop.wait_for(|stop| *stop));
    Ok(Summary::default())
}

/// Attaches what sees traffic if somebody is traced, and detaches it if nobody has been for a while.
fn heat(probe: &mut Probe, shared: &Shared) -> Result<()> {
    let hot = shared.targets.is_hot();
    shared.hot.store(hot, Ordering::Relaxed);
    probe.set_hot(hot)
}

/// What there is to look after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Everything.
    Around,
    /// Whether anybody is traced.
    AtTargets,
}

/// Until it is time to stop: looks around four times a second.
async fn attend(
    stop: &mut watch::Receiver<bool>,
    exporters: &Exporters,
    shared: &Shared,
    look: &mut dyn FnMut(Look) -> Result<()>,
) -> Result<()> {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = exporters.gone() => return Ok(()),
            why = shared.failure.wait() => bail!("{why}"),
            _ = ticks.tick() => look(Look::Around)?,
            () = shared.changed.notified() => look(Look::AtTargets)?,
        }
    }
}

const LOOK: Duration = Duration::from_millis(250);
/// Longest the last spans take to leave.
const FLUSH: Duration = Duration::from_secs(5);

/// The agent's own counters, sent as its own.
fn metrics(config: &Config, shared: &Shared, runtime: &Runtime) -> Result<Option<Metrics>> {
    let Some(metrics) = &config.export.metrics else {
        return Ok(None);
    };
    let resource = shared.resources.own();
    let started = Metrics::start(
        metrics,
        &resource,
        &shared.stats,
        runtime.handle(),
        privilege::none,
    )?;
    Ok(Some(started))
}

fn finish(runtime: Runtime, exporters: Exporters, metrics: Option<Metrics>) {
    runtime.block_on(exporters.shutdown(FLUSH));
    // The last counters tell what became of the last spans.
    if let Some(metrics) = metrics {
        runtime.block_on(metrics.shutdown());
    }
    // A reader that stopped reading our output can hold a write for ever.
    runtime.shutdown_timeout(Duration::from_millis(200));
}

fn able(kernel: &Kernel) -> Result<()> {
    let needed = kernel.lacks(true).join(", ");
    let (missing, remedy) = if !needed.is_empty() {
        let remedy = format!("{PRIVILEGES} (spantap doctor tells more)");
        (needed, remedy)
    } else if let Types::Unknown(why) = &kernel.btf {
        (format!("the kernel's types ({why})"), TYPES.to_owned())
    } else {
        let less = kernel.lacks(false).join(", ");
        if !less.is_empty() {
            say(format_args!(
                "without {less}: spantap doctor says what that takes away"
            ));
        }
        return Ok(());
    };
    Err(Unable { missing, remedy }.into())
}

/// What was asked for and is not to be had, said once.
fn say_unable(probe: &Probe, uprobes: bool, propagation: &Propagation) {
    let mode = propagation.mode;
    if let Some(why) = probe.no_uprobes().filter(|_| uprobes) {
        say(format_args!(
            "TLS stays unread, and calls of Go, Node.js and Python have no parent: {why}"
        ));
    }
    if let Some(why) = probe.no_carrier().filter(|_| mode != Carrying::Header) {
        say(format_args!(
            "traces end at this host's border (propagation.mode: option): {why}"
        ));
    }
    if let Some(why) = probe.no_header() {
        say(format_args!(
            "no traceparent is written (propagation.mode: header): {why}"
        ));
    }
}

/// Whom not to trace, said once.
fn collector(config: &Config) -> Collector {
    let collector = Collector::of(config);
    let place = collector.to_string();
    if !place.is_empty() {
        say(format_args!(
            "not traced: the receiver of spans at {place} (--exclude-collector=false traces it too)"
        ));
    }
    collector
}

fn set(clock: &Clock) {
    let (monotonic, unix) = clock::pair();
    clock.set(monotonic, unix);
}

fn summary(stats: &Stats, exporters: usize) -> Summary {
    let left = match u64::try_from(exporters) {
        Ok(exporters @ 1..) => stats.export_sent.get() / exporters,
        _ => stats.pipeline_spans.get(),
    };
    let counters = stats.read().into_iter().filter(|(_, _, n)| *n > 0);
    Summary {
        spans: left,
        losses: losses(stats),
        unread: Vec::new(),
        counters: counters.collect(),
    }
}

fn losses(stats: &Stats) -> Vec<Loss> {
    let losses = stats.losses().into_iter().filter(|&(_, count)| count > 0);
    losses
        .map(|(name, count)| Loss {
            what: name.to_owned(),
            count,
        })
        .collect()
}

/// Losses are said while they happen, and not more than once a minute.
#[derive(Debug, Default)]
struct Told {
    losses: Vec<Loss>,
    at: Option<Instant>,
}

impl Told {
    fn news(&mut self, losses: Vec<Loss>, now: Instant) -> Option<String> {
        let early = self.at.is_some_and(|at| now < at + QUIET);
        if early || losses == self.losses {
            return None;
        }
        let texts = losses.iter().map(|l| format!("{} {}", l.count, l.what));
        let text = texts.collect::<Vec<_>>().join(", ");
        (self.losses, self.at) = (losses, Some(now));
        Some(format!("lost so far: {text}"))
    }
}

/// Time between two such lines.
const QUIET: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn the_summary_counts_what_left_and_names_what_did_not() {
        let stats = Stats::default();
        stats.pipeline_spans.add(10);
        stats.export_sent.add(16);
        stats.export_dropped_full.add(4);
        stats.connection_evicted.add(1);
        stats.pipeline_unsampled.add(7);
        assert_eq!(summary(&stats, 0).spans, 10);
        let summary = summary(&stats, 2);
        assert_eq!((summary.spans, summary.lost()), (8, 5));
        let named: Vec<_> = summary.losses.iter().map(|loss| &*loss.what).collect();
        assert_eq!(named, ["export.dropped_full", "connection.evicted"]);
    }

    /// Without a kernel side, which test builds may lack, anything else would be an error.
    #[test]
    fn disabled_attaches_nothing_and_stops_when_told() {
        let config = Config {
            disabled: true,
            ..Config::default()
        };
        let (stop, stopped) = watch::channel(false);
        let summary = run(Start {
            config: Arc::new(config),
            on_span: None,
            ready: Box::new(move || {
                stop.send_replace(true);
            }),
            stop: stopped,
            reread: None,
        });
        assert_eq!(summary.expect("nothing can go wrong"), Summary::default());
    }

    #[test]
    fn who_asks_is_answered_while_it_is_disabled() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = free.expect("a port");
        let mut config = Config {
            disabled: true,
            ..Config::default()
        };
        config.serve.listen = Some(address);
        let (stop, stopped) = watch::channel(false);
        let asked = move || {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        let summary = run(Start {
            config: Arc::new(config),
            on_span: None,
            ready: Box::new(move || {
                let answer = asked().expect("it listens");
                assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
                assert!(answer.ends_with("\r\n\r\nready: disabled, nothing is attached\n"));
                stop.send_replace(true);
            }),
            stop: stopped,
            reread: None,
        });
        assert_eq!(summary.expect("nothing can go wrong"), Summary::default());
    }

    #[test]
    fn a_kernel_whose_types_are_unknown_is_unable() {
        let mut kernel = Kernel::look(None);
        kernel.missing = Vec::new();
        kernel.btf = Types::Unknown("x: no such file".into());
        let why = able(&kernel).unwrap_err();
        assert!(why.downcast_ref::<Unable>().is_some());
        for part in ["x: no such file", "--btf"] {
            assert!(why.to_string().contains(part), "{why}");
        }
    }

    #[test]
    fn losses_are_said_once_a_minute_while_they_grow() {
        let stats = Stats::default();
        let (mut told, start) = (Told::default(), Instant::now());
        let mut at = |seconds| told.news(losses(&stats), start + Duration::from_secs(seconds));
        assert_eq!(at(0), None);
        stats.kernel_ring_full.add(2);
        assert_eq!(at(1).as_deref(), Some("lost so far: 2 kernel.ring_full"));
        stats.kernel_ring_full.add(1);
        stats.export_dropped_full.add(4);
        assert_eq!(at(60), None);
        let both = "lost so far: 3 kernel.ring_full, 4 export.dropped_full";
        assert_eq!(at(61).as_deref(), Some(both));
        assert_eq!(at(200), None);
    }
}
