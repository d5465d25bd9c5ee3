//! Puts probes into the TLS libraries of traced processes: looks at what a process has mapped when
//! it appears and again from time to time (libraries are loaded late, too), has each file read once,
//! and takes the probes away when nobody is left that maps it.
//!
//! Where every process is traced a file is probed for all, so that the next one that maps it is seen
//! from its first byte: under a lease, as nobody may write to a file while there are breakpoints for
//! what was in it. Where some are not traced, each traced process gets its own: the others pay nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::{self, File};
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::privilege;
use super::reader::{Arrival, Shared};
use crate::probe::Probe;
use crate::probe::lease::Lease;
use crate::probe::uprobe::{self, Uprobe};
use crate::say::say;
use crate::stats::Stats;
use crate::target::PROC;
use crate::target::image::Image;
use crate::target::mapped::{self, Identity, Mapped};
use crate::target::tls::{self, Plan};

/// When a process is looked at after it appeared; then at intervals of the last.
const LOOKS: [Duration; 9] = [
    Duration::ZERO,
    Duration::from_millis(4),
    Duration::from_millis(12),
    Duration::from_millis(40),
    Duration::from_millis(120),
    Duration::from_millis(400),
    Duration::from_millis(1500),
    Duration::from_secs(6),
    Duration::from_secs(20),
];
/// Most files that are remembered.
const MAX_FILES: usize = 4096;
/// Of the descriptors that there may be, one in so many is for probes.
const SHARE: usize = 2;
/// The plan that, where its file holds no more of OpenSSL, is for a process alone: many programs
/// that map the file never encrypt into memory.
const BIO: &str = "openssl-bio";
/// How the programs are called that do.
const MEMORY: [&str; 4] = ["python", "pypy", "uwsgi", "dotnet"];
/// How long a file is probed that nobody maps any more.
const LINGER: Duration = Duration::from_secs(60);
/// Processes that wait to be looked at.
const MAX_WAITING: usize = 65_536;

/// Processes that came or went.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Vec<Arrival>>,
    signal: Condvar,
}

impl Queue {
    /// Adds one; false where too many wait.
    pub fn push(&self, arrival: Arrival) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING {
            return false;
        }
        waiting.push(arrival);
        drop(waiting);
        self.signal.notify_one();
        true
    }

    /// Those there are, waited for at most so long.
    fn take(&self, patience: Duration) -> Vec<Arrival> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut waiting, _) = self
            .signal
            .wait_timeout_while(waiting, patience, |waiting| waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *waiting)
    }
}

/// Starts the prober, and for a moment waits until it has met everyone who is there.
///
/// # Errors
/// Where no thread can be started.
pub fn start(probe: &Arc<Mutex<Probe>>, shared: &Arc<Shared>) -> Result<thread::JoinHandle<()>> {
    for (process, verdict) in shared.targets.scan() {
        if verdict.is_traced() {
            shared.probing.push(Arrival::Process(process));
        }
    }
    let (met, all) = mpsc::channel();
    let (probe, shared) = (Arc::clone(probe), Arc::clone(shared));
    let prober = move || {
        let failure = &shared.failure;
        failure.guard("the prober", || {
            privilege::keep_or_go_on(privilege::PROBE);
            run(&shared, &probe, Path::new(PROC), &met)
        });
    };
    let prober = thread::Builder::new()
        .name("prober".into())
        .spawn(prober)
        .context("start the prober's thread")?;
    // Whoever is met later is probed later.
    let _ = all.recv_timeout(MEET);
    Ok(prober)
}

/// Longest the start waits for probes.
const MEET: Duration = Duration::from_secs(10);

/// Waits until all probes are gone, but not for ever: whoever reads files may hang in one. What is left
/// goes with the process.
pub fn wait(prober: &thread::JoinHandle<()>) {
    let begun = Instant::now();
    while !prober.is_finished() && begun.elapsed() < MEET {
        thread::sleep(Duration::from_millis(5));
    }
}

/// The thread's loop; returns when all is over, with every probe gone.
///
/// `met` is told once those who were there at first have been looked at.
///
/// # Errors
/// Where no thread can be started.
fn run(
    shared: &Shared,
    probe: &Arc<Mutex<Probe>>,
    proc: &Path,
    met: &mpsc::Sender<()>,
) -> Result<()> {
    let held = Arc::new(AtomicUsize::new(0));
    let reaper = Reaper::start(Arc::clone(&held)).context("start the reaper's thread")?;
    let off = {
        let probe = probe.lock().unwrap_or_else(PoisonError::into_inner);
        probe.no_uprobes().is_some()
    };
    let mut prober = Prober {
        proc,
        off,
        everyone: shared.targets.takes_all(),
        probe,
        reaper: &reaper,
        stats: &shared.stats,
        files: HashMap::new(),
        processes: HashMap::from([(NOBODY, Process::new(Instant::now()))]),
        due: BinaryHeap::new(),
        held,
        room: descriptors() / SHARE,
        leases_asked: Instant::now(),
        said: false,
        own: own(),
    };
    prober.prepare();
    while !shared.stop.load(Ordering::Acquire) {
        for arrival in shared.probing.take(prober.patience()) {
            match arrival {
                Arrival::Process(process) => prober.came(process),
                Arrival::Gone(process) => prober.gone(process),
            }
        }
        prober.look();
        // Nobody may be waiting any more.
        let _ = met.send(());
    }
    let Prober {
        mut files,
        processes,
        ..
    } = prober;
    let probes = files.values_mut().flat_map(|file| file.probes.drain(..));
    let own = processes.into_values().flat_map(|p| p.files.into_values());
    drop_all(probes.chain(own.flatten()).collect());
    // Only now their leases go.
    drop(files);
    Ok(())
}

/// Raises how many descriptors there may be as far as that goes, and says how many.
fn descriptors() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        limit = raised;
    }
    let number = limit.current.and_then(|number| usize::try_from(number).ok());
    number.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS)
}

/// More are not used, however many there may be.
const MOST_DESCRIPTORS: usize = 65_536;

/// The agent's own program.
fn own() -> Option<Identity> {
    let file = File::open("/proc/self/exe").ok()?;
    Mapped::of(file, "").map(|file| file.identity)
}

/// Lets go of probes: for each the kernel waits until nobody can be inside, some hundredths of a second
/// (before Linux 6.12 a tenth for each place), during which others must be met.
struct Reaper {
    gone: mpsc::Sender<Gone>,
}

/// Probes to be let go of, and then the lease that they were under.
struct Gone {
    probes: Vec<Uprobe>,
    lease: Option<Lease>,
}

impl Reaper {
    /// `held` is the number of those there are.
    fn start(held: Arc<AtomicUsize>) -> io::Result<Self> {
        let (sender, gone) = mpsc::channel::<Gone>();
        thread::Builder::new()
            .name("reaper".into())
            .spawn(move || {
                privilege::none();
                while let Ok(first) = gone.recv() {
                    let all = std::iter::once(first).chain(gone.try_iter());
                    let (probes, leases): (Vec<_>, Vec<_>) =
                        all.map(|gone| (gone.probes, gone.lease)).unzip();
                    let probes: Vec<_> = probes.into_iter().flatten().collect();
                    let number = probes.len();
                    drop_all(probes);
                    drop(leases);
                    held.fetch_sub(number, Ordering::Relaxed);
                }
            })?;
        Ok(Self { gone: sender })
    }

    fn take(&self, probes: Vec<Uprobe>, lease: Option<Lease>) {
        if !probes.is_empty() || lease.is_some() {
            // Where nobody takes them they are let go of here.
            let _ = self.gone.send(Gone { probes, lease });
        }
    }
}

/// Many at a time: what takes time is to wait.
fn drop_all(probes: Vec<Uprobe>) {
    let most = probes.len().div_ceil(AT_ONCE).max(1);
    let mut probes = probes.into_iter();
    thread::scope(|scope| {
        loop {
            let some: Vec<Uprobe> = probes.by_ref().take(most).collect();
            if some.is_empty() {
                break;
            }
            scope.spawn(move || drop(some));
        }
    });
}

/// Threads that let go of probes at once.
const AT_ONCE: usize = 64;

/// Where systems keep the libraries that short-lived programs use.
const SYSTEM: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/lib64",
    "/lib",
];
/// What they are called.
const LIBRARIES: [&str; 2] = ["libssl.so.", "libgnutls.so."];

/// Programs that have TLS inside and begin to use it soon after their start: that they are read takes
/// longer than that.
const PROGRAMS: [&str; 2] = ["/usr/bin/node", "/usr/local/bin/node"];

/// Stands for the system itself among processes.
const NOBODY: u32 = 0;
/// Longest sleep, so that the end is seen.
const NAP: Duration = Duration::from_millis(200);

struct Prober<'a> {
    proc: &'a Path,
    /// Whether nothing can be probed, which was said.
    off: bool,
    /// Whether files are probed for all who map them.
    everyone: bool,
    probe: &'a Arc<Mutex<Probe>>,
    reaper: &'a Reaper,
    stats: &'a Stats,
    files: HashMap<Identity, Known>,
    processes: HashMap<u32, Process>,
    /// Who is to be looked at when; some are gone since.
    due: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Probes there are, and how many there may be.
    held: Arc<AtomicUsize>,
    room: usize,
    /// When it was last asked whether leases are in the way.
    leases_asked: Instant,
    /// Whether it was said that probes are refused.
    said: bool,
    /// The agent's own program, which is left alone.
    own: Option<Identity>,
}

/// What is in a file.
struct Known {
    plans: Arc<[Plan]>,
    /// Its probes, where they are everyone's.
    probes: Vec<Uprobe>,
    /// Without which there are none.
    lease: Option<Lease>,
    /// Processes that map it.
    users: usize,
    /// When the last one went.
    left: Instant,
}

/// A process, and how often it was looked at.
struct Process {
    looks: usize,
    next: Instant,
    /// The files it maps, with the probes that are its own.
    files: HashMap<Identity, Vec<Uprobe>>,
}

impl Prober<'_> {
    /// Probes the system's libraries before anybody maps them: who lives for milliseconds only could
    /// not be met in time.
    fn prepare(&mut self) {
        if self.off || !self.everyone {
            return;
        }
        let entries = SYSTEM.iter().filter_map(|folder| fs::read_dir(folder).ok());
        let libraries = entries.flatten().flatten().filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            LIBRARIES.iter().any(|prefix| name.starts_with(prefix))
        });
        let libraries = libraries.map(|entry| (entry.path(), true));
        let programs = PROGRAMS.iter().map(|path| (PathBuf::from(path), false));
        for (path, at_once) in libraries.chain(programs) {
            let file = File::open(&path).ok();
            let Some(file) = file.and_then(|f| Mapped::of(f, &path.to_string_lossy())) else {
                continue;
            };
            // Nobody is its user, and nobody else lets go of it.
            if at_once {
                self.meet(NOBODY, &file);
            } else if self.read(&file).is_some()
                && let Some(known) = self.files.get_mut(&file.identity)
            {
                known.users = 1;
            }
        }
    }

    fn patience(&self) -> Duration {
        let next = self.due.peek().map_or(NAP, |Reverse((at, _))| {
            at.saturating_duration_since(Instant::now())
        });
        next.min(NAP)
    }

    fn came(&mut self, process: u32) {
        self.gone(process);
        if self.off {
            return;
        }
        let next = Instant::now();
        self.processes.insert(process, Process::new(next));
        self.due.push(Reverse((next, process)));
    }

    fn gone(&mut self, process: u32) {
        let Some(gone) = self.processes.remove(&process) else {
            return;
        };
        for (identity, probes) in gone.files {
            self.reaper.take(probes, None);
            if let Some(file) = self.files.get_mut(&identity) {
                file.users = file.users.saturating_sub(1);
                file.left = Instant::now();
            }
        }
    }

    /// Looks at those whose time has come, and lets go of what nobody maps.
    fn look(&mut self) {
        let now = Instant::now();
        while let Some(&Reverse((at, process))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            let Some(known) = self.processes.get_mut(&process).filter(|p| p.next == at) else {
                continue;
            };
            known.looks = known.looks.saturating_add(1);
            let wait = LOOKS.get(known.looks).or(LOOKS.last());
            let wait = wait.copied().unwrap_or(NAP);
            known.next = now + wait;
            self.due.push(Reverse((known.next, process)));
            match mapped::files(self.proc, process) {
                Ok(files) => files.iter().for_each(|file| self.meet(process, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.gone(process),
                // It may not be looked at now.
                Err(_) => {}
            }
        }
        if now.saturating_duration_since(self.leases_asked) >= NAP / 2 {
            self.leases_asked = now;
            self.make_way();
        }
        let reaper = self.reaper;
        self.files.retain(|_, file| {
            let keep = file.users > 0 || now.saturating_duration_since(file.left) < LINGER;
            if !keep {
                reaper.take(std::mem::take(&mut file.probes), file.lease.take());
            }
            keep
        });
    }

    /// Takes its probes out of each file that somebody is about to write to, who waits for that.
    fn make_way(&mut self) {
        let in_the_way = |file: &Known| file.lease.as_ref().is_some_and(Lease::is_in_the_way);
        let files = self.files.extract_if(|_, file| in_the_way(file));
        for mut file in files.map(|(_, file)| file) {
            let number = file.probes.len();
            drop_all(std::mem::take(&mut file.probes));
            self.held.fetch_sub(number, Ordering::Relaxed);
            // And with it the lease.
        }
    }

    /// A process maps a file.
    fn meet(&mut self, process: u32, file: &Mapped) {
        let known = self.processes.get(&process);
        if known.is_none_or(|known| known.files.contains_key(&file.identity)) {
            return;
        }
        if self.own == Some(file.identity) {
            return;
        }
        let plans = match self.files.get(&file.identity) {
            Some(known) => Arc::clone(&known.plans),
            None => match self.read(file) {
                Some(plans) => plans,
                None => return,
            },
        };
        let probed = self.files.get(&file.identity).is_some_and(Known::is_probed);
        let mut own = Vec::new();
        for plan in &*plans {
            self.stats.probe_left_out.add(plan.left_out.len() as u64);
            let alone = plan.library == BIO && plans.len() == 1;
            if alone && !self.encrypts_into_memory(process) {
                continue;
            }
            let everyone = self.everyone && !alone && self.lease(file);
            if everyone && probed {
                continue;
            }
            let scope = NonZeroU32::new(process).filter(|_| !everyone);
            let probes = self.attach(file, plan, scope);
            self.held.fetch_add(probes.len(), Ordering::Relaxed);
            match self.files.get_mut(&file.identity) {
                Some(known) if everyone => known.probes.extend(probes),
                _ => own.extend(probes),
            }
        }
        if let Some(known) = self.files.get_mut(&file.identity) {
            known.users = known.users.saturating_add(1);
        }
        if let Some(known) = self.processes.get_mut(&process) {
            known.files.insert(file.identity, own);
        }
    }

    /// Whether there is a lease on a file, or can be.
    fn lease(&mut self, file: &Mapped) -> bool {
        let Some(known) = self.files.get_mut(&file.identity) else {
            return false;
        };
        if known.lease.is_none() {
            let file = file.file.try_clone();
            known.lease = file.and_then(Lease::take).ok();
        }
        known.lease.is_some()
    }

    /// Whether a process is one of those that map OpenSSL as a library and use it apart from sockets:
    /// Python's asyncio does.
    fn encrypts_into_memory(&self, process: u32) -> bool {
        let link = self.proc.join(process.to_string()).join("exe");
        let program = fs::read_link(link).unwrap_or_default();
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        MEMORY.iter().any(|prefix| name.starts_with(prefix))
    }

    /// What is in a file that was not seen before.
    fn read(&mut self, file: &Mapped) -> Option<Arc<[Plan]>> {
        if self.files.len() >= MAX_FILES {
            self.stats.probe_refused.add(1);
            return None;
        }
        let image = file.file.try_clone().ok().and_then(Image::open);
        let found = image.as_ref().map(tls::plans).unwrap_or_default();
        let plans: Arc<[Plan]> = found
            .into_iter()
            .filter_map(|plan| {
                plan.inspect_err(|reason| {
                    self.stats.probe_unreadable.add(1);
                    say(format_args!("TLS of {} is unread: {reason}", file.name));
                })
                .ok()
            })
            .collect();
        let known = Known {
            plans: Arc::clone(&plans),
            probes: Vec::new(),
            lease: None,
            users: 0,
            left: Instant::now(),
        };
        self.files.insert(file.identity, known);
        Some(plans)
    }

    /// Probes all places of a plan, or none.
    fn attach(&mut self, file: &Mapped, plan: &Plan, scope: Option<NonZeroU32>) -> Vec<Uprobe> {
        let held = self.held.load(Ordering::Relaxed);
        if held.saturating_add(plan.sites.len()) > self.room {
            self.stats.probe_refused.add(1);
            return Vec::new();
        }
        let path = file.path();
        let mut probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let probes = probe.attach_uprobes(&path, &plan.sites, scope);
        drop(probe);
        uprobe::stop_counting();
        match probes {
            Ok(probes) => {
                self.stats.probe_attached.add(1);
                probes
            }
            Err(error) => {
                self.stats.probe_refused.add(1);
                if !std::mem::replace(&mut self.said, true) {
                    say(format_args!(
                        "TLS of {} is unread: {error:#} (probe.refused counts more)",
                        file.name
                    ));
                }
                Vec::new()
            }
        }
    }
}

impl Process {
    fn new(next: Instant) -> Self {
        Self {
            looks: 0,
            next,
            files: HashMap::new(),
        }
    }
}

impl Known {
    fn is_probed(&self) -> bool {
        !self.probes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_is_taken_in_order_and_waited_for_no_longer_than_said() {
        let queue = Queue::default();
        assert!(queue.take(Duration::from_millis(1)).is_empty());
        queue.push(Arrival::Process(1));
        queue.push(Arrival::Gone(1));
        let taken = queue.take(Duration::from_secs(60));
        assert_eq!(taken, [Arrival::Process(1), Arrival::Gone(1)]);
    }
}
