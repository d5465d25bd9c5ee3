//! How the agent is: alive while its threads get on, ready while all is attached and spans find room
//! on their way out. A thread that ended is `failure`'s, which ends the agent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::event::Nanos;
use crate::export::{Sender, Standing};
use crate::probe::clock;
use crate::say::count;
use crate::serve::{self, Verdict};

/// What is known of it.
#[derive(Debug, Default)]
pub struct Health {
    stage: Mutex<Stage>,
    beats: Mutex<Vec<Arc<Beat>>>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Starts,
    /// As it was told to.
    Idles,
    Runs(Sender),
    Ends,
}

/// When a thread last got on.
#[derive(Debug)]
pub struct Beat {
    /// The thread's name.
    of: String,
    at: AtomicU64,
}

impl Beat {
    /// It does at `now`, which is monotonic.
    pub fn at(&self, now: Nanos) {
        self.at.store(now, Ordering::Relaxed);
    }
}

impl Health {
    /// One for this thread, which is asked for from now on.
    pub fn beat(&self) -> Arc<Beat> {
        let thread = std::thread::current();
        let beat = Arc::new(Beat {
            of: thread.name().unwrap_or("a thread").to_owned(),
            at: AtomicU64::new(clock::monotonic()),
        });
        lock(&self.beats).push(Arc::clone(&beat));
        beat
    }

    /// Nothing is to be attached.
    pub fn idles(&self) {
        *lock(&self.stage) = Stage::Idles;
    }

    /// All is attached; spans go to `sender`.
    pub fn runs(&self, sender: Sender) {
        *lock(&self.stage) = Stage::Runs(sender);
    }

    /// What is left is sent.
    pub fn ends(&self) {
        *lock(&self.stage) = Stage::Ends;
    }

    fn alive_at(&self, now: Nanos) -> Verdict {
        match &*lock(&self.stage) {
            Stage::Starts => return Ok("alive: starting".into()),
            Stage::Idles => return Ok(IDLE.into()),
            // Threads end one after the other, and whoever waits for that has a limit of its own.
            Stage::Ends => return Ok("alive: stopping".into()),
            Stage::Runs(_) => {}
        }
        let (mut well, mut stuck) = (Vec::new(), Vec::new());
        for beat in lock(&self.beats).iter() {
            let silent = now.saturating_sub(beat.at.load(Ordering::Relaxed));
            let silent = Duration::from_nanos(silent);
            match silent > STUCK {
                true => stuck.push(format!("{} for {} s", beat.of, silent.as_secs())),
                false => well.push(beat.of.clone()),
            }
        }
        match stuck.is_empty() {
            true => Ok(format!("alive: these threads get on: {}", well.join(", "))),
            false => Err(format!("stuck: {}", stuck.join(", "))),
        }
    }
}

impl serve::Health for Health {
    fn alive(&self) -> Verdict {
        self.alive_at(clock::monotonic())
    }

    fn ready(&self) -> Verdict {
        match &*lock(&self.stage) {
            Stage::Starts => Err("not ready: starting, not everything is attached yet".into()),
            Stage::Ends => Err("not ready: stopping, what is left is sent".into()),
            Stage::Idles => Ok(IDLE.replace("alive", "ready")),
            Stage::Runs(sender) => ready(&sender.standing()),
        }
    }
}

fn ready(queues: &[Standing]) -> Verdict {
    let lines: Vec<String> = queues.iter().map(line).collect();
    let lines = match lines.is_empty() {
        true => "spans go nowhere".into(),
        false => lines.join("\n"),
    };
    match queues.iter().any(|queue| queue.full.is_some()) {
        true => Err(format!("not ready: spans are dropped\n{lines}")),
        false => Ok(format!("ready: everything is attached\n{lines}")),
    }
}

fn line(queue: &Standing) -> String {
    let Standing { name, room, .. } = queue;
    let wait = format!("{} of {room} wait", count(queue.waiting as u64, "span"));
    let away = queue.away.map_or(String::new(), |away| {
        format!(", its receiver is away for {} s", away.as_secs())
    });
    let full = queue.full.map_or(String::new(), |full| {
        format!(
            ", there is no room for {} s: the oldest are dropped",
            full.as_secs()
        )
    });
    format!("{name}: {wait}{away}{full}")
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

const IDLE: &str = "alive: disabled, nothing is attached";
/// Longest a thread takes from one pass to the next, or does a handful of work: a second, on a machine
/// whose CPUs all are wanted some seconds.
const STUCK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::Health as _;

    #[test]
    fn a_thread_that_does_not_get_on_is_named() {
        let health = Arc::new(Health::default());
        let other = Arc::clone(&health);
        let thread = std::thread::Builder::new().name("weaver".into());
        let beat = thread.spawn(move || other.beat()).expect("it starts");
        let beat = beat.join().expect("it ends");
        let own = health.beat();
        let second = 1_000_000_000;
        for at in [&beat, &own] {
            at.at(100 * second);
        }
        assert!(health.alive_at(200 * second).is_ok(), "not before it runs");
        health.runs(Sender::default());
        assert!(health.alive_at(130 * second).is_ok());
        own.at(140 * second);
        let stuck = health.alive_at(141 * second);
        assert_eq!(stuck, Err("stuck: weaver for 41 s".into()));
        // A clock read before the mark was made.
        assert!(health.alive_at(second).is_ok());
        health.ends();
        assert!(health.alive_at(900 * second).is_ok());
        assert!(health.ready().is_err());
    }

    #[test]
    fn it_is_ready_from_attached_to_the_end() {
        let health = Health::default();
        assert!(health.ready().is_err_and(|why| why.contains("starting")));
        health.runs(Sender::default());
        assert!(health.ready().is_ok_and(|why| why.contains("nowhere")));
        health.idles();
        let idle = "ready: disabled, nothing is attached";
        assert_eq!(health.ready(), Ok(idle.into()));
    }

    #[test]
    fn a_receiver_may_be_away_while_there_is_room() {
        let seconds = |n| Some(Duration::from_secs(n));
        let queue = |away, full| Standing {
            name: "otlp http://c:4318".into(),
            waiting: 7,
            room: 2048,
            away,
            full,
        };
        let well = "ready: everything is attached\notlp http://c:4318: 7 spans of 2048 wait";
        assert_eq!(ready(&[queue(None, None)]), Ok(well.into()));
        let away = ready(&[queue(seconds(12), None)]).expect("room is left");
        assert!(away.ends_with(", its receiver is away for 12 s"), "{away}");
        let both = [queue(None, None), queue(seconds(90), seconds(31))];
        let full = ready(&both).expect_err("none is");
        assert!(full.starts_with("not ready: spans are dropped\n"), "{full}");
        let rest = "away for 90 s, there is no room for 31 s: the oldest are dropped";
        assert!(full.ends_with(rest), "{full}");
    }
}
