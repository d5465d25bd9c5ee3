//! Standing aside for those who are traced. A thread that has much to do takes what the CPUs have
//! idle (SCHED_IDLE, whose threads give way at once to any other that wakes), and of CPUs that all
//! are wanted a small share, as any thread would: a machine that is busy for hours is traced too.
//!
//! Nothing is lost by it that is not counted: what waits too long is refused by a full ring.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CapabilitySet, capabilities};
use rustix::time::{ClockId, clock_gettime};
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id, thread_schedule_policy,
};

use crate::event::Nanos;

/// What one thread may claim. Belongs to the thread that made it.
#[derive(Debug)]
pub struct Courtesy<'a> {
    /// Nanoseconds of CPU in each nanosecond; none where it is never idle.
    share: Option<f64>,
    /// Raised once somebody waits for its end.
    stop: &'a AtomicBool,
    /// CPU time that is still due to it, nanoseconds; less than nothing if it had more.
    due: f64,
    looked: Nanos,
    used: Nanos,
}

impl<'a> Courtesy<'a> {
    /// For this thread: a share of one CPU. With 1, where the way back from SCHED_IDLE is barred (it
    /// takes CAP_SYS_NICE), or where it was given another policy, it competes as before.
    /// From `stop` on it does so, too. `now` is monotonic.
    pub fn new(share: f64, stop: &'a AtomicBool, now: Nanos) -> Self {
        let able = || {
            thread_schedule_policy().is_ok_and(|policy| policy == OTHER)
                && capabilities(None)
                    .is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_NICE))
        };
        Self {
            share: (share < 1.0 && able()).then_some(share),
            stop,
            due: MOST,
            looked: now,
            used: had(),
        }
    }

    /// Looks at what it had since the last time, every few milliseconds: to be called as often, as
    /// nothing is claimed in between. `now` is monotonic.
    pub fn settle(&mut self, now: Nanos) {
        let Some(share) = self.share else { return };
        if self.stop.load(Ordering::Acquire) {
            self.share = None;
            return become_idle(false);
        }
        let passed = now.saturating_sub(self.looked);
        if passed < EVERY {
            return;
        }
        let used = had();
        let had = used.saturating_sub(self.used);
        (self.looked, self.used) = (now, used);
        self.weigh(share, passed, had);
        become_idle(self.due < 0.0 || (IDLE.get() && self.due < GRAIN));
    }

    /// What is idle is for the taking, and is not set against what is due.
    fn weigh(&mut self, share: f64, passed: Nanos, had: Nanos) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds are exact")]
        let more = share * passed as f64 - had as f64;
        let more = if IDLE.get() { more.max(0.0) } else { more };
        self.due = (self.due + more).min(MOST);
    }
}

/// What each of so many threads claims of one CPU, where they claim this share of all CPUs together.
pub fn share(of_all: f64, threads: u32) -> f64 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let cpus = u32::try_from(cpus).map_or(1.0, f64::from);
    match of_all < 1.0 {
        true => (of_all * cpus / f64::from(threads)).min(0.5),
        false => 1.0,
    }
}

/// Runs what holds a lock that programs want too, such as the one on a process's mappings, which
/// reading its arguments takes: a thread that gives way there would make them wait.
pub fn urgently<T>(run: impl FnOnce() -> T) -> T {
    let idle = IDLE.get();
    become_idle(false);
    let done = run();
    become_idle(idle);
    done
}

thread_local! {
    static IDLE: Cell<bool> = const { Cell::new(false) };
    /// What it was started with.
    static NICE: i32 = getpriority_process(None).unwrap_or(0);
}

fn become_idle(idle: bool) {
    if IDLE.get() == idle {
        return;
    }
    let nice = NICE.with(|nice| *nice);
    let policy = if idle { SCHED_IDLE } else { OTHER };
    // Setting a policy sets this, too, of what is not idle to 19.
    let least = ThreadPriority::Min;
    let is_set = set_thread_priority_and_policy(thread_native_id(), least, policy).is_ok();
    if is_set && setpriority_process(None, nice).is_ok() {
        IDLE.set(idle);
    }
}

const SCHED_IDLE: ThreadSchedulePolicy =
    ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
const OTHER: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);

/// CPU time that this thread has had, nanoseconds.
fn had() -> Nanos {
    let had = clock_gettime(ClockId::ThreadCPUTime);
    had.tv_sec.unsigned_abs() * 1_000_000_000 + had.tv_nsec.unsigned_abs()
}

/// How often it is looked at, nanoseconds: reading a thread's CPU clock is a system call.
const EVERY: Nanos = 2_000_000;
/// Due at most, nanoseconds: so much a thread that was quiet does before it gives way.
const MOST: f64 = 50e6;
/// Due at least before an idle thread claims it, nanoseconds.
const GRAIN: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_thread(run: impl FnOnce() + Send + 'static) {
        std::thread::spawn(run).join().expect("it ends well");
    }

    fn policy() -> ThreadSchedulePolicy {
        thread_schedule_policy().expect("one's own can be read")
    }

    fn is_idle() -> bool {
        policy() == SCHED_IDLE
    }

    fn nice() -> i32 {
        getpriority_process(None).expect("one's own can be read")
    }

    static GO_ON: AtomicBool = AtomicBool::new(false);

    fn courtesy(share: f64) -> Courtesy<'static> {
        Courtesy {
            share: Some(share),
            stop: &GO_ON,
            due: 0.0,
            looked: 0,
            used: 0,
        }
    }

    #[test]
    fn what_was_idle_is_free_and_what_was_claimed_is_paid_for() {
        on_a_thread(|| {
            let mut of = courtesy(0.1);
            of.weigh(0.1, 10_000_000, 5_000_000);
            assert!((of.due + 4e6).abs() < 1.0, "{of:?}");
            IDLE.set(true);
            of.weigh(0.1, 10_000_000, 9_000_000);
            assert!((of.due + 4e6).abs() < 1.0, "{of:?}");
            of.weigh(0.1, 60_000_000, 0);
            assert!((of.due - 2e6).abs() < 1.0, "{of:?}");
            of.weigh(0.1, Nanos::MAX, 0);
            assert!((of.due - MOST).abs() < 1.0, "{of:?}");
            IDLE.set(false);
        });
    }

    #[test]
    fn a_busy_thread_becomes_idle_and_what_is_urgent_is_not() {
        on_a_thread(|| {
            let stop = AtomicBool::new(false);
            let mut of = Courtesy::new(0.01, &stop, 0);
            if of.share.is_none() {
                return assert!(!is_idle());
            }
            of.due = 0.0;
            while had() - of.used < 3 * EVERY {}
            of.settle(3 * EVERY);
            assert!(is_idle());
            assert!(!urgently(is_idle));
            assert!(is_idle());
            of.due = 2.0 * GRAIN;
            of.looked = 0;
            of.settle(3 * EVERY);
            assert!(!is_idle());
            become_idle(true);
            stop.store(true, Ordering::Release);
            of.settle(4 * EVERY);
            assert!(!is_idle());
            of.due = -1.0;
            of.settle(6 * EVERY);
            assert!(!is_idle());
        });
    }

    #[test]
    fn what_was_idle_competes_as_before() {
        for before in [0, 3] {
            on_a_thread(move || {
                setpriority_process(None, before).expect("less is always allowed");
                if Courtesy::new(0.01, &GO_ON, 0).share.is_none() {
                    return;
                }
                for idle in [true, false, true, false] {
                    become_idle(idle);
                    assert_eq!(is_idle(), idle);
                }
                assert_eq!((policy(), nice()), (OTHER, before));
            });
        }
    }

    #[test]
    fn who_was_given_another_policy_keeps_it() {
        on_a_thread(|| {
            let set = |policy| {
                let least = ThreadPriority::Min;
                set_thread_priority_and_policy(thread_native_id(), least, policy)
            };
            set(SCHED_IDLE).expect("less is always allowed");
            assert_eq!(Courtesy::new(0.01, &GO_ON, 0).share, None);
        });
    }

    #[test]
    fn a_whole_share_competes_as_before() {
        on_a_thread(|| {
            let mut of = Courtesy::new(1.0, &GO_ON, 0);
            while had() - of.used < 3 * EVERY {}
            of.settle(3 * EVERY);
            assert!(!is_idle());
        });
    }
}
