//! Processes that appeared, until it is known whether they share their threads between requests:
//! that decides about links, and may be a matter of files that are slow. Nothing that happened since
//! is linked before it is known; where that takes too long, their threads are no evidence until it is.
//!
//! Threads of Python are evidence where its contexts are followed: what is in none is no task's then. Elsewhere
//! they are where the program is known to give each request one.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::followed::{Contexts, Followed};
use super::reader::Arrival;
use crate::event::Nanos;
use crate::resource::{PATIENCE, Resources};
use crate::target::runtime::Runtime;

/// What the linker is to be told of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It came, became another program or ended: what was known of its threads is void.
    Forget,
    /// Its threads are evidence.
    Threads,
    /// They are, but not of calls that they began before then.
    Since(Nanos),
    /// Its threads are no evidence.
    NoThreads,
    /// It hands on what it is asked.
    Proxy,
    /// Its threads serve what they answer, whoever has read it.
    TakesOver,
}

/// Those of which it is not known yet.
#[derive(Debug, Default)]
pub struct Newcomers {
    /// Since when, and up to where everything had come in then.
    waited_for: HashMap<u32, (Instant, Nanos)>,
    /// For these nobody waits any more, and their threads are not believed.
    doubted: HashSet<u32>,
    /// How many answers there were, and how much was known of contexts, when the doubted were looked through.
    answers: (u64, u64),
}

/// What the threads of a process are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threads {
    /// Evidence of what they did from then on.
    From(Nanos),
    /// Shared between requests, or not known not to be.
    Shared,
}

impl Newcomers {
    /// Takes in what came and went, everything up to `progress` having come in. What is said goes to
    /// `tell`; the answer is up to where can be linked. The `last` time nobody is waited for.
    pub fn greet(
        &mut self,
        arrivals: Vec<Arrival>,
        (resources, followed): (&Resources, &Followed),
        progress: Nanos,
        last: bool,
        mut tell: impl FnMut(Word, u32),
    ) -> Nanos {
        for arrival in arrivals {
            let (Arrival::Process(process) | Arrival::Gone(process)) = arrival else {
                continue;
            };
            tell(Word::Forget, process);
            self.waited_for.remove(&process);
            self.doubted.remove(&process);
            if arrival == Arrival::Process(process) {
                let since = (Instant::now(), progress);
                self.waited_for.insert(process, since);
            }
        }
        for process in followed.lost() {
            // It may be another program by now.
            let refused = followed.of(process) == Contexts::Refused;
            if refused && !resources.gives_threads(process) {
                tell(Word::NoThreads, process);
            }
        }
        let answers = (resources.answers(), followed.changes());
        if answers != self.answers {
            self.answers = answers;
            self.doubted.retain(|&process| {
                let threads = threads(resources, followed, process);
                if let Some(Threads::From(since)) = threads {
                    tell(Word::Forget, process);
                    tell_from(process, since, &mut tell);
                }
                tell_kind(resources, process, threads, &mut tell);
                threads.is_none() && may_come(resources, process)
            });
        }
        self.waited_for.retain(|&process, (since, _)| {
            let threads = threads(resources, followed, process);
            let patient = !last && since.elapsed() < PATIENCE;
            if threads.is_none() && patient && may_come(resources, process) {
                return true;
            }
            match threads {
                Some(Threads::From(since)) => tell_from(process, since, &mut tell),
                _ => tell(Word::NoThreads, process),
            }
            tell_kind(resources, process, threads, &mut tell);
            if threads.is_none() && self.doubted.len() < DOUBTED {
                self.doubted.insert(process);
            }
            false
        });
        let held = self.waited_for.values().map(|(_, progress)| *progress);
        held.fold(progress, Nanos::min)
    }

    /// Whether nobody is waited for.
    pub fn is_empty(&self) -> bool {
        self.waited_for.is_empty()
    }
}

/// What the threads of a process are; `None` while that is not known.
fn threads(resources: &Resources, followed: &Followed, process: u32) -> Option<Threads> {
    if resources.multiplexes_threads(process)? {
        return Some(Threads::Shared);
    }
    if resources.gives_threads(process) {
        return Some(Threads::From(0));
    }
    let (_, runtime) = resources.who(process, Nanos::MAX);
    match followed.of(process) {
        Contexts::Since(since) => Some(Threads::From(since)),
        // Whoever has an interpreter may have an event loop in it.
        Contexts::Refused => Some(Threads::Shared),
        Contexts::Unknown if runtime == Runtime::Python => {
            (!followed.is_possible()).then_some(Threads::Shared)
        }
        Contexts::Unknown => Some(Threads::From(0)),
    }
}

/// Whether it may become known.
fn may_come(resources: &Resources, process: u32) -> bool {
    resources.is_asked(process) || resources.multiplexes_threads(process).is_some()
}

fn tell_from(process: u32, since: Nanos, tell: &mut impl FnMut(Word, u32)) {
    if since > 0 {
        tell(Word::Since(since), process);
    }
    tell(Word::Threads, process);
}

/// Says what else a process is of which it is known by now whether its threads are shared.
fn tell_kind(
    resources: &Resources,
    process: u32,
    threads: Option<Threads>,
    tell: &mut impl FnMut(Word, u32),
) {
    if threads.is_some() && resources.is_proxy(process) {
        tell(Word::Proxy, process);
    }
    let own = matches!(threads, Some(Threads::From(_)));
    if own && resources.takes_over(process) {
        tell(Word::TakesOver, process);
    }
}

/// Processes whose threads are not believed for want of an answer, and may be once there is one.
const DOUBTED: usize = 4096;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::resource::look::{Looker, Question};
    use crate::stats::Stats;
    use crate::target::Processes;
    use crate::target::fixture::Proc;

    struct Bench {
        proc: Proc,
        resources: Resources,
        followed: Followed,
        newcomers: Newcomers,
    }

    impl Bench {
        /// Of 10, which only its file can tell of, and 11, which is known by its name.
        fn new() -> Self {
            let proc = Proc::make();
            proc.process(10, 1, 5, "/usr/bin/shop", &[b"shop"]);
            proc.process(11, 1, 5, "/usr/bin/ruby", &[b"ruby"]);
            proc.process(12, 1, 5, "/usr/bin/node", &[b"node"]);
            proc.process(13, 1, 5, "/usr/sbin/nginx", &[b"nginx"]);
            proc.process(14, 1, 5, "/usr/bin/python3", &[b"python3", b"shop.py"]);
            let sync: [&[u8]; 4] = [b"python3", b"/bin/gunicorn", b"-k", b"gthread"];
            proc.process(15, 1, 5, "/usr/bin/python3", &sync);
            let stats = Arc::new(Stats::default());
            let processes = Arc::new(Processes::new(proc.root.clone(), Arc::clone(&stats)));
            let resources = Resources::new(processes, &Config::default(), None, stats);
            Self {
                proc,
                resources,
                followed: Followed::new(true),
                newcomers: Newcomers::default(),
            }
        }

        fn greet(&mut self, new: &[u32], progress: Nanos, last: bool) -> (Nanos, Vec<(Word, u32)>) {
            let mut told = Vec::new();
            let arrivals = new.iter().copied().map(Arrival::Process).collect();
            let known = (&self.resources, &self.followed);
            let limit = self
                .newcomers
                .greet(arrivals, known, progress, last, |word, process| {
                    told.push((word, process));
                });
            (limit, told)
        }

        fn answer(&self) {
            let mut looker = Looker::new(&self.proc.root);
            while let Some(process) = self.resources.next(Duration::ZERO) {
                let answer = looker.answer(Question::about(&process));
                self.resources.answer(&process, Some(answer));
            }
        }
    }

    use Word::{Forget, NoThreads, Proxy, Since, TakesOver, Threads};

    #[test]
    fn nothing_is_linked_before_it_is_known() {
        let mut bench = Bench::new();
        assert_eq!(bench.greet(&[10], 100, false), (100, vec![(Forget, 10)]));
        assert_eq!(bench.greet(&[], 200, false), (100, vec![]));
        bench.answer();
        assert_eq!(bench.greet(&[], 300, false), (300, vec![(Threads, 10)]));
        // Names are enough.
        let (limit, mut all) = bench.greet(&[11, 12], 400, false);
        all.sort_by_key(|(_, process)| *process);
        let ruby = [(Forget, 11), (Threads, 11), (TakesOver, 11)];
        let told = [&ruby[..], &[(Forget, 12), (NoThreads, 12)]].concat();
        assert_eq!((limit, all), (400, told));
    }

    #[test]
    fn a_proxy_is_told() {
        let told = vec![(Forget, 13), (NoThreads, 13), (Proxy, 13)];
        assert_eq!(Bench::new().greet(&[13], 100, false), (100, told));
    }

    #[test]
    fn threads_of_python_are_evidence_while_its_contexts_are_followed() {
        let mut bench = Bench::new();
        assert_eq!(bench.greet(&[14], 100, false), (100, vec![(Forget, 14)]));
        assert_eq!(bench.greet(&[], 200, false), (100, vec![]));
        bench.followed.begin(14, 150);
        let told = vec![(Since(150), 14), (Threads, 14)];
        assert_eq!(bench.greet(&[], 300, false), (300, told));
        bench.followed.refuse(14);
        let told = vec![(NoThreads, 14)];
        assert_eq!(bench.greet(&[], 400, false), (400, told));
    }

    #[test]
    fn threads_of_python_are_none_where_nothing_is_followed() {
        let mut bench = Bench::new();
        let told = vec![(Forget, 14), (NoThreads, 14)];
        // Too late, and then in time after all.
        assert_eq!(bench.greet(&[14], 100, true), (100, told.clone()));
        bench.followed.begin(14, 150);
        let believed = vec![(Forget, 14), (Since(150), 14), (Threads, 14)];
        assert_eq!(bench.greet(&[], 200, false), (200, believed));
        // As its file says, or as nobody's are.
        bench.followed.forget(14);
        bench.followed.refuse(14);
        bench.followed.lost();
        assert_eq!(bench.greet(&[14], 300, false), (300, told.clone()));
        bench.followed.forget(14);
        bench.followed.give_up();
        assert_eq!(bench.greet(&[14], 400, false), (400, told));
        // But for who gives each request a thread.
        let told = vec![(Forget, 15), (Threads, 15)];
        assert_eq!(bench.greet(&[15], 500, false), (500, told));
        bench.followed.refuse(15);
        assert_eq!(bench.greet(&[], 600, false), (600, vec![]));
    }

    #[test]
    fn threads_are_no_evidence_until_it_is_known() {
        let mut bench = Bench::new();
        bench.greet(&[10], 100, false);
        std::thread::sleep(PATIENCE);
        assert_eq!(bench.greet(&[], 200, false), (200, vec![(NoThreads, 10)]));
        assert_eq!(bench.greet(&[], 300, false), (300, vec![]));
        bench.answer();
        let believed = vec![(Forget, 10), (Threads, 10)];
        assert_eq!(bench.greet(&[], 400, false), (400, believed));
        assert_eq!(bench.greet(&[], 500, false), (500, vec![]));
    }

    #[test]
    fn nobody_is_waited_for_at_the_end_or_in_vain() {
        let mut bench = Bench::new();
        let told = vec![(Forget, 10), (NoThreads, 10)];
        assert_eq!(bench.greet(&[10], 100, true), (100, told.clone()));
        let process = bench.resources.next(Duration::ZERO).expect("it was asked");
        bench.resources.answer(&process, None);
        assert_eq!(bench.greet(&[10], 200, false), (200, told));
        assert!(bench.newcomers.is_empty());
    }
}
