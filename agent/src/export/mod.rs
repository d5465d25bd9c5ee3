//! Where spans leave. One exporter is one file and one line of [`Exporters::start`]; each has a
//! bounded queue of its own before it ([`batch`]), so that a slow one delays no other and none
//! delays the stages before. Never here: a protocol's name, a change to a span.

pub mod batch;
pub mod json;
pub mod metrics;
pub mod otlp;
#[cfg(test)]
mod receiver;
#[cfg(test)]
mod reference;
pub mod stdout;
pub mod terminal;
pub mod text;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::{self, Exporter as Kind};
use crate::span::Span;
use crate::stats::Stats;

use batch::Queue;
pub use batch::Standing;

/// Takes one batch at a time to one place. Retrying, waiting and counting are the queue's part.
pub trait Exporter: Send + 'static {
    /// For people, without secrets: what goes where.
    fn name(&self) -> &str;

    /// Longest a span should wait for company before it is exported.
    fn patience(&self) -> Duration;

    /// One attempt, which ends by itself in bounded time wherever a peer is involved. It may be
    /// dropped half-way at shutdown, and is called again with the same spans after `Later`.
    fn export(&mut self, spans: &[Span]) -> impl Future<Output = Answer> + Send;
}

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// They arrived, but for `rejected` of them.
    Sent {
        /// Spans the receiver left out.
        rejected: u64,
        /// What it said about it; empty if nothing.
        warning: String,
    },
    /// Not now: nobody there, or too busy.
    Later {
        /// When the receiver wants to be asked again.
        after: Option<Duration>,
        /// Why, for people.
        why: String,
    },
    /// The receiver will not have this batch.
    Refused(String),
    /// This side cannot send this batch.
    Failed(String),
    /// There is no receiver any more and there will be none (a closed pipe).
    Gone,
}

/// Producers' end of all exporters; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sender {
    queues: Arc<[Queue]>,
}

impl Sender {
    /// Gives every exporter these spans. Never blocks; what does not fit pushes out the oldest.
    pub fn push(&self, spans: Vec<Span>) {
        let Some((last, others)) = self.queues.split_last() else {
            return;
        };
        for queue in others {
            queue.push(spans.clone());
        }
        last.push(spans);
    }

    /// How each exporter's queue stands.
    pub fn standing(&self) -> Vec<Standing> {
        self.queues.iter().map(Queue::standing).collect()
    }
}

/// The exporters at work.
#[derive(Debug)]
pub struct Exporters {
    sender: Sender,
    workers: Vec<JoinHandle<()>>,
    gone: watch::Receiver<bool>,
}

impl Exporters {
    /// Starts what the configuration names, each as a task of `runtime`. Fails on what a person
    /// must mend (a malformed endpoint, an unreadable certificate); an absent receiver is no error.
    pub fn start(
        config: &config::Export,
        stats: &Arc<Stats>,
        runtime: &Handle,
    ) -> anyhow::Result<Self> {
        let _context = runtime.enter();
        let (gone_sender, gone) = watch::channel(false);
        let mut queues = Vec::new();
        let mut workers = Vec::new();
        for kind in &config.exporters {
            let gone = gone_sender.clone();
            let (queue, worker) = match kind {
                Kind::Otlp(otlp) => {
                    let otlp = otlp::Otlp::new(otlp).map_err(misconfigured)?;
                    batch::start(otlp, config, stats, gone)
                }
                Kind::Stdout => {
                    let table = stdout::Table::new(config.color, config.width);
                    batch::start(terminal::lines(table), config, stats, gone)
                }
                Kind::Json => batch::start(terminal::json(), config, stats, gone),
            };
            queues.push(queue);
            workers.push(worker);
        }
        let sender = Sender {
            queues: queues.into(),
        };
        Ok(Self {
            sender,
            workers,
            gone,
        })
    }

    /// An end for one more producer.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Returns when the receiver of some exporter is gone for good: the reader of our stdout.
    pub async fn gone(&self) {
        let mut gone = self.gone.clone();
        if gone.wait_for(|gone| *gone).await.is_err() {
            // No worker is left to say so.
            std::future::pending::<()>().await;
        }
    }

    /// Flushes what waits, for at most `bound`; what is left then is dropped and counted. Spans
    /// pushed from now on are dropped and counted too.
    pub async fn shutdown(self, bound: Duration) {
        let deadline = Instant::now() + bound;
        for queue in self.sender.queues.iter() {
            queue.close(deadline);
        }
        for worker in self.workers {
            if let Err(error) = worker.await {
                say(&format!("an exporter ended abnormally: {error}"));
            }
        }
    }
}

/// Nothing has been sent yet: what is wrong is the URL, a header or a file with certificates.
fn misconfigured(why: anyhow::Error) -> anyhow::Error {
    config::Error(format!("{why:#}")).into()
}

/// A line for people, on stderr.
fn say(line: &str) {
    crate::say::say(format_args!("export: {line}"));
}

/// An error and its causes, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Many libraries repeat the cause in their own text.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
