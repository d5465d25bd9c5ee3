//! Puts probes into the TLS libraries of traced processes: looks at what a process has mapped when
//! it appears and again from time to time (libraries are loaded late, too), has each file read once,
//! and takes the probes away when nobody is left that maps it.
//!
//! Where every process is traced a file is probed for all, so that the next one that maps it is seen
//! from its first byte. Where some are not traced, each traced process gets its own: the others pay
//! nothing. Either way under a lease: nobody may write to a file while there are breakpoints for what was
//! in it, and where none can be had it is not probed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use agent_ebpf::abi::Jvm;
use anyhow::{Context as _, Result};

mod arrivals;
mod known;
mod queue;
mod reaper;
mod system;

use arrivals::Past;
use known::{Known, UNITS, is_start};
pub use queue::Queue;
use reaper::{Reaper, Set, drop_all};
pub use system::descriptors;

use super::encrypted::Reasons;
use super::privilege;
use super::reader::{Arrival, Shared};
use crate::probe::Probe;
use crate::probe::lease::Lease;
use crate::probe::uprobe::{self, Uprobe};
use crate::say::{self, say};
use crate::stats::Stats;
use crate::target::PROC;
use crate::target::jvm;
use crate::target::mapped::{self, Identity, Mapped};
use crate::target::tls::Plan;

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
/// How long it is remembered what is in a file that nobody maps any more.
const LINGER: Duration = Duration::from_secs(60);

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
        failure.guard("the prober", || run(&shared, &probe, Path::new(PROC), &met));
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
    let (off, links) = {
        let probe = probe.lock().unwrap_or_else(PoisonError::into_inner);
        (
            probe.no_uprobes().map(Arc::from),
            !probe.uprobes_are_events(),
        )
    };
    privilege::keep_or_go_on(if links {
        privilege::PROBE
    } else {
        privilege::PROBE_EVENTS
    });
    if off.is_some() {
        shared.followed.give_up();
    }
    let held = Arc::new(AtomicUsize::new(0));
    let reaper = Reaper::start(Arc::clone(&held)).context("start the reaper's thread")?;
    let mut prober = Prober {
        proc,
        off,
        everyone: shared.targets.takes_all(),
        past: Past::default(),
        probe,
        reaper: &reaper,
        shared,
        stats: &shared.stats,
        reasons: &shared.encrypted.reasons,
        files: HashMap::new(),
        processes: HashMap::from([(NOBODY, Process::new(Instant::now()))]),
        due: BinaryHeap::new(),
        held,
        room: descriptors() / SHARE,
        leases_asked: Instant::now(),
        said: false,
        told: say::Once::default(),
        own: system::own(),
        links,
        prepared: Vec::new(),
    };
    prober.prepare();
    while !shared.stop.load(Ordering::Acquire) {
        for arrival in shared.probing.take(prober.patience()) {
            match arrival {
                Arrival::Process(process) => prober.came(process),
                Arrival::Gone(process) => prober.ended(process),
                Arrival::Teems(process) => prober.teems(process),
                Arrival::Left(process) => prober.left(process),
            }
        }
        prober.look();
        // Nobody may be waiting any more.
        let _ = met.send(());
    }
    let Prober {
        files,
        processes,
        held,
        ..
    } = prober;
    let everyone = files.into_values().flat_map(|file| file.everyone);
    let own = processes.into_values().flat_map(|p| p.files.into_values());
    drop_all(everyone.chain(own.flatten()).collect(), &held);
    Ok(())
}

/// Stands for the system itself among processes.
const NOBODY: u32 = 0;
/// How long after a writer was let pass it is looked what a process maps now.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest sleep, so that the end is seen.
const NAP: Duration = Duration::from_millis(200);

struct Prober<'a> {
    proc: &'a Path,
    /// Why nothing can be probed, which was said.
    off: Option<Arc<str>>,
    /// Whether files are probed for all who map them.
    everyone: bool,
    past: Past,
    probe: &'a Arc<Mutex<Probe>>,
    reaper: &'a Reaper,
    shared: &'a Shared,
    stats: &'a Stats,
    reasons: &'a Reasons,
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
    /// What was said of files, which are read anew once nobody mapped them for a while.
    told: say::Once,
    /// The agent's own program, which is left alone.
    own: Option<Identity>,
    /// Whether probes are links, of which a process can have some it never needs.
    links: bool,
    /// Libraries that each traced process is probed in before it maps them.
    prepared: Vec<Mapped>,
}

/// A process, and how often it was looked at.
struct Process {
    looks: usize,
    next: Instant,
    /// Whether it came again since.
    again: bool,
    /// Whether it is a JVM of which the kernel side was told, or cannot be.
    is_told: bool,
    /// The files it maps, with the probes that are its own.
    files: HashMap<Identity, Vec<Set>>,
}

impl Prober<'_> {
    /// Probes the system's libraries before anybody maps them: who lives for milliseconds only could
    /// not be met in time. Where not everyone is traced, they are read and kept open for who is.
    fn prepare(&mut self) {
        if self.off.is_some() {
            return;
        }
        for (file, at_once) in system::files() {
            // Nobody is its user, and nobody else lets go of it.
            if at_once && self.everyone {
                self.meet(NOBODY, &file);
            } else if !self.files.contains_key(&file.identity)
                && self.read(&file).is_some()
                && let Some(known) = self.files.get_mut(&file.identity)
            {
                known.users = 1;
                if at_once && self.links {
                    self.prepared.push(file);
                }
            }
        }
    }

    fn patience(&self) -> Duration {
        let next = self.due.peek().map_or(NAP, |Reverse((at, _))| {
            at.saturating_duration_since(Instant::now())
        });
        next.min(NAP)
    }

    /// Looks at those whose time has come, and lets go of what nobody maps.
    fn look(&mut self) {
        self.choose();
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
                Ok(files) => {
                    self.renew(process, &files);
                    files.iter().for_each(|file| self.meet(process, file));
                    files
                        .iter()
                        .for_each(|file| self.look_inside(process, file));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.gone(process),
                // It may not be looked at now.
                Err(_) => {}
            }
        }
        if now.saturating_duration_since(self.leases_asked) >= NAP / 2 {
            self.leases_asked = now;
            self.make_way();
        }
        self.files
            .retain(|_, file| file.users > 0 || now.saturating_duration_since(file.left) < LINGER);
    }

    /// Takes its probes out of each file that somebody is about to write to, who waits for that.
    fn make_way(&mut self) {
        let in_the_way = |file: &Known| file.lease.as_ref().is_some_and(|l| l.is_in_the_way());
        let files: Vec<_> = self.files.extract_if(|_, file| in_the_way(file)).collect();
        for (identity, file) in files {
            let mut sets = file.everyone;
            let mut without = Vec::new();
            for (process, known) in &mut self.processes {
                if let Some(own) = known.files.remove(&identity) {
                    sets.extend(own);
                    without.extend(file.is_python.then_some(*process));
                    // What it maps is to be looked at again, whether or not it became another.
                    known.next = Instant::now() + AGAIN;
                    self.due.push(Reverse((known.next, *process)));
                }
            }
            without.into_iter().for_each(|of| self.lose_contexts(of));
            drop(file.lease);
            drop_all(sets, &self.held);
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
        let known = self.files.get(&file.identity);
        let probed = known.is_some_and(Known::is_probed);
        let teems = known.is_some_and(|known| known.teems);
        let mut own = Vec::new();
        for plan in &*plans {
            self.stats.probe_left_out.add(plan.left_out.len() as u64);
            let alone = plan.library == BIO && plans.len() == 1;
            if alone && !system::encrypts_into_memory(self.proc, process) {
                continue;
            }
            let everyone = !alone && self.is_for_everyone(file.identity);
            if everyone && probed || is_start(plan.library) && teems {
                continue;
            }
            let Some(lease) = self.lease(file) else {
                // Perhaps somebody writes to it now; it is tried again at the next look.
                let reason = "its file may be written to at any time: it has no lease (fcntl(2))";
                return self.reasons.set(process, Some(&reason.into()));
            };
            let scope = NonZeroU32::new(process).filter(|_| !everyone);
            let probes = self.attach(file, plan, scope);
            if probes.is_empty() && !UNITS.contains(&plan.library) {
                self.reasons
                    .set(process, Some(&"its probes were refused".into()));
            }
            self.held.fetch_add(probes.len(), Ordering::Relaxed);
            let set = Set::new(plan.library, probes, lease);
            match self.files.get_mut(&file.identity) {
                Some(known) if everyone => known.everyone.push(set),
                _ => own.push(set),
            }
        }
        let of_whom = (process, self.past.blind.contains(&process));
        if let Some(known) = self.files.get_mut(&file.identity) {
            known.users = known.users.saturating_add(1);
            if known.unread.is_some() {
                self.reasons.set(process, known.unread.as_ref());
            }
            if known.tell(of_whom, file, &own, self.shared).is_err() {
                self.stats.pipeline_control_failed.add(1);
            }
        }
        if let Some(known) = self.processes.get_mut(&process) {
            known.files.insert(file.identity, own);
        }
    }

    /// Tells the kernel side of a JVM, once that is ready.
    fn look_inside(&mut self, process: u32, file: &Mapped) {
        let exports = self.files.get(&file.identity).and_then(|known| known.jvm);
        let known = self.processes.get_mut(&process);
        let (Some(exports), Some(code), Some(known)) = (exports, file.code, known) else {
            return;
        };
        if known.is_told {
            return;
        }
        let read = jvm::read(self.proc, process, exports, code);
        if matches!(read, Ok(None)) && known.looks < LOOKS.len() {
            return;
        }
        known.is_told = true;
        let told = match read {
            // By now it would be ready.
            Ok(None) => Err("a JVM of a version not known, or of another C library"),
            Ok(Some(layout)) => self.follow(process, layout),
            Err(why) => Err(why),
        };
        if let Err(why) = told {
            self.stats.probe_unlinked.add(1);
            let name = &file.name;
            self.told
                .say(format!("calls of tasks of {name} have no parent: {why}"));
        }
    }

    /// Follows the tasks of a JVM.
    fn follow(&self, process: u32, layout: Jvm) -> std::result::Result<(), &'static str> {
        let mut probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = probe.follow_tasks();
        drop(probe);
        if !followed {
            return Err("that takes the socket path, Linux 6.3");
        }
        let failed = self.shared.control.jvm(process, layout).is_err();
        self.stats.pipeline_control_failed.add(u64::from(failed));
        Ok(())
    }

    /// The lease on a file; taken if need be.
    fn lease(&mut self, file: &Mapped) -> Option<Arc<Lease>> {
        let known = self.files.get_mut(&file.identity)?;
        if known.lease.is_none() {
            let file = file.file.try_clone();
            known.lease = file.and_then(Lease::take).ok().map(Arc::new);
        }
        known.lease.clone()
    }

    /// What is in a file that was not seen before.
    fn read(&mut self, file: &Mapped) -> Option<Arc<[Plan]>> {
        if self.files.len() >= MAX_FILES {
            self.stats.probe_refused.add(1);
            return None;
        }
        let known = Known::read(file, self.shared, &mut self.told);
        let plans = Arc::clone(&known.plans);
        self.files.insert(file.identity, known);
        Some(plans)
    }

    /// Probes all places of a plan, or none.
    fn attach(&mut self, file: &Mapped, plan: &Plan, scope: Option<NonZeroU32>) -> Vec<Uprobe> {
        let held = self.held.load(Ordering::Relaxed);
        if !system::fits(plan.sites.len(), held, self.room) {
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
            // It was gone before it could be probed.
            Err(error) if uprobe::is_gone(&error) => Vec::new(),
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
            again: false,
            is_told: false,
            files: HashMap::new(),
        }
    }
}
