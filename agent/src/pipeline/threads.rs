//! The threads that records and facts pass through, from their start to their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result};

use super::mailbox::Mailbox;
use super::privilege;
use super::reader::{self, Shared};
use super::shard::Shard;
use super::weaver::Weaver;
use crate::config::Config;
use crate::probe::Probe;

/// The threads, in the order they are stopped in.
pub struct Threads {
    readers: Vec<thread::JoinHandle<()>>,
    weaver: thread::JoinHandle<()>,
    done: Arc<AtomicBool>,
}

impl Threads {
    /// Starts them; the weaver first, as the others wake it.
    pub fn start(
        probe: &mut Probe,
        config: &Arc<Config>,
        shared: &Arc<Shared>,
        weaver: Weaver,
    ) -> Result<Self> {
        let (rings, done) = (probe.rings()?, Arc::new(AtomicBool::new(false)));
        let shards = rings.len();
        let mailboxes: Arc<[Mailbox]> = rings.iter().map(|_| Mailbox::one_of(shards)).collect();
        let weaver = {
            let (shared, mailboxes) = (Arc::clone(shared), Arc::clone(&mailboxes));
            let done = Arc::clone(&done);
            thread::Builder::new()
                .name("weaver".into())
                .spawn(move || {
                    shared.failure.guard("the weaver", || {
                        privilege::keep_or_go_on(privilege::READ);
                        weaver.run(&shared, &mailboxes, &done);
                        Ok(())
                    });
                })
                .context("start the weaver's thread")?
        };
        let (mut readers, known) = (Vec::new(), Arc::default());
        for (index, ring) in rings.into_iter().enumerate() {
            let number = u16::try_from(index).context("number of rings")?;
            let (config, stats) = (Arc::clone(config), Arc::clone(&shared.stats));
            let shard = Shard::one_of(shards, number, config, stats)
                .without(shared.collector.clone())
                .sharing(Arc::clone(&shared.encrypted), Arc::clone(&shared.unknown))
                .knowing(Arc::clone(&known));
            let (shared, mailboxes) = (Arc::clone(shared), Arc::clone(&mailboxes));
            let wakes = weaver.thread().clone();
            let reader = thread::Builder::new()
                .name(format!("reader-{index}"))
                .spawn(move || {
                    shared.failure.guard(&format!("reader {index}"), || {
                        privilege::keep_or_go_on(privilege::READ);
                        let mailbox = mailboxes.get(index).context("a mailbox")?;
                        reader::run(ring, shard, &shared, mailbox, &wakes)
                    });
                })
                .context("start a reader's thread")?;
            readers.push(reader);
        }
        Ok(Self {
            readers,
            weaver,
            done,
        })
    }

    /// Readers drain a last time, then the weaver gives out what is left.
    pub fn stop(self, shared: &Shared) {
        shared.stop.store(true, Ordering::Release);
        // One that panicked has told `failure`.
        for reader in self.readers {
            let _ = reader.join();
        }
        self.done.store(true, Ordering::Release);
        self.weaver.thread().unpark();
        let _ = self.weaver.join();
    }
}
