//! Signals that ask us to end. They are taken on a thread of their own, so that they are heard
//! while the rest of the program waits for something else.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::CapabilitySet;
use tokio::signal::unix::{SignalKind, signal};

use super::exit;
use crate::pipeline::privilege;

/// A signal, by its number on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP.
    Hangup = 1,
    /// SIGINT.
    Interrupt = 2,
    /// SIGQUIT.
    Quit = 3,
    /// SIGTERM.
    Terminate = 15,
}

impl Signal {
    /// What a process ended by it exits with, as shells say it.
    pub fn exit_code(self) -> i32 {
        exit::SIGNAL + self as i32
    }
}

/// Calls `heard` for every such signal from now on; returns once they are being listened to.
pub fn listen(heard: impl FnMut(Signal) + Send + 'static) -> Result<()> {
    let (started, wait) = sync_channel(1);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            // `run` passes signals on to a command that may have become another user's.
            privilege::keep_or_go_on(CapabilitySet::KILL);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(hear(heard, started)),
                Err(why) => drop(started.send(Err(why.into()))),
            }
        })
        .context("start the signal thread")?;
    wait.recv()
        .unwrap_or_else(|_| Err(anyhow!("the signal thread ended")))
        .context("listen for signals")
}

async fn hear(mut heard: impl FnMut(Signal), started: std::sync::mpsc::SyncSender<Result<()>>) {
    let open = |kind: SignalKind| signal(kind).map_err(anyhow::Error::from);
    let kinds = || -> Result<_> {
        Ok((
            open(SignalKind::hangup())?,
            open(SignalKind::interrupt())?,
            open(SignalKind::quit())?,
            open(SignalKind::terminate())?,
        ))
    };
    let (mut hangup, mut interrupt, mut quit, mut terminate) = match kinds() {
        Ok(kinds) => kinds,
        Err(why) => return drop(started.send(Err(why))),
    };
    let _ = started.send(Ok(()));
    loop {
        let which = tokio::select! {
            _ = hangup.recv() => Signal::Hangup,
            _ = interrupt.recv() => Signal::Interrupt,
            _ = quit.recv() => Signal::Quit,
            _ = terminate.recv() => Signal::Terminate,
        };
        heard(which);
    }
}

/// The usual way: the first signal calls `first`, a second one ends the process at once. What is
/// attached is held by descriptors only, so nothing stays behind. Where `again` is given, SIGHUP raises
/// that and ends nothing.
pub fn stop_on(
    again: Option<Arc<AtomicBool>>,
    mut first: impl FnMut(Signal) + Send + 'static,
) -> Result<()> {
    let mut told = None;
    listen(move |signal| {
        if let (Signal::Hangup, Some(again)) = (signal, &again) {
            return again.store(true, Ordering::Release);
        }
        match meaning(&mut told, Instant::now()) {
            Meaning::Stop => first(signal),
            Meaning::Echo => {}
            Meaning::Leave => leave(signal),
        }
    })
}

/// What one more signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// Flush and end.
    Stop,
    /// The first one once more: GNU timeout signals its child and then the whole group.
    Echo,
    /// End at once.
    Leave,
}

fn meaning(told: &mut Option<Instant>, now: Instant) -> Meaning {
    match *told {
        None => {
            *told = Some(now);
            Meaning::Stop
        }
        Some(first) if now < first + ECHO => Meaning::Echo,
        Some(_) => Meaning::Leave,
    }
}

/// Two deliveries of what one sender meant as one signal are no further apart.
const ECHO: Duration = Duration::from_millis(500);

#[expect(
    clippy::disallowed_methods,
    reason = "a second signal means that the flush it would wait for is not wanted"
)]
fn leave(signal: Signal) -> ! {
    process::exit(signal.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_signal_ends_at_once_unless_it_is_the_first_one_again() {
        let (mut told, start) = (None, Instant::now());
        let mut at = |millis| meaning(&mut told, start + Duration::from_millis(millis));
        let meanings = [0, 1, 499, 501].map(&mut at);
        use Meaning::{Echo, Leave, Stop};
        assert_eq!(meanings, [Stop, Echo, Echo, Leave]);
    }
}
