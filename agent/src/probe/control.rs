//! What user space tells the kernel side while it runs, and asks it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use agent_ebpf::abi::{AsyncIds, COUNTERS, Contexts, Counter, Goroutines, verdict, wish};
use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};

use crate::event::ConnectionId;

/// The maps that user space writes while the kernel side runs.
pub struct Control {
    pub(super) shards: u32,
    processes: Mutex<HashMap<MapData, u32, u32>>,
    goroutines: Mutex<HashMap<MapData, u32, [i32; 5]>>,
    contexts: Mutex<HashMap<MapData, u32, [u64; 6]>>,
    async_ids: Mutex<HashMap<MapData, u32, [u32; 4]>>,
    wishes: Mutex<HashMap<MapData, u64, u32>>,
    /// Number of the last wish that was no mute.
    wished: AtomicU32,
    epoch: Mutex<Array<MapData, u64>>,
    wake: Mutex<Array<MapData, u32>>,
    statistics: Mutex<PerCpuArray<MapData, u64>>,
}

impl Control {
    pub(super) fn take(ebpf: &mut Ebpf, shards: u32) -> Result<Self> {
        let mut map = |name: &'static str| {
            ebpf.take_map(name)
                .with_context(|| format!("the kernel side has no map {name}"))
        };
        Ok(Self {
            shards,
            processes: Mutex::new(HashMap::try_from(map("PROCESSES")?)?),
            goroutines: Mutex::new(HashMap::try_from(map("GOROUTINES")?)?),
            contexts: Mutex::new(HashMap::try_from(map("CONTEXTS")?)?),
            async_ids: Mutex::new(HashMap::try_from(map("ASYNC_IDS")?)?),
            wishes: Mutex::new(HashMap::try_from(map("WISHES")?)?),
            wished: AtomicU32::new(wish::MUTE),
            epoch: Mutex::new(Array::try_from(map("EPOCH")?)?),
            wake: Mutex::new(Array::try_from(map("WAKE")?)?),
            statistics: Mutex::new(PerCpuArray::try_from(map("STATISTICS")?)?),
        })
    }

    /// Tells the kernel side whether a process is traced.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn judge(&self, process: u32, traced: bool) -> Result<()> {
        let verdict = if traced {
            verdict::TRACED
        } else {
            verdict::IGNORED
        };
        lock(&self.processes)
            .insert(process, verdict, 0)
            .with_context(|| format!("tell the kernel side of process {process}"))?;
        self.raise_epoch()
    }

    /// Takes back what was said of a process; nothing where nothing was said.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn forget(&self, process: u32) -> Result<()> {
        let removed = lock(&self.processes).remove(&process);
        match removed {
            Ok(()) => self.raise_epoch(),
            // The kernel side itself forgets who ends.
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            Err(error) => Err(error).context("forget a process"),
        }
    }

    /// Tells the kernel side how goroutines are told apart in a process. It forgets that itself, when
    /// the process ends or becomes another program.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn goroutines(&self, process: u32, layout: Goroutines) -> Result<()> {
        let Goroutines {
            goid,
            parent,
            conn,
            tcp_close,
            tls_close,
        } = layout;
        let [goid, parent, conn] = [goid, parent, conn].map(u32::cast_signed);
        lock(&self.goroutines)
            .insert(process, [goid, parent, conn, tcp_close, tls_close], 0)
            .with_context(|| format!("tell the kernel side of the goroutines of {process}"))?;
        self.raise_epoch()
    }

    /// The same of Python's contexts.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn contexts(&self, process: u32, layout: Contexts) -> Result<()> {
        let Contexts {
            key,
            thread,
            context,
            frame,
            inner,
            code,
            previous,
            entered,
            pad,
            since,
        } = layout;
        let two = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let words = [
            key,
            two(thread, context),
            two(frame, inner),
            two(code, previous),
            two(entered, pad),
            since,
        ];
        lock(&self.contexts)
            .insert(process, words, 0)
            .with_context(|| format!("tell the kernel side of the contexts of {process}"))?;
        self.raise_epoch()
    }

    /// Tells the kernel side where Node.js keeps ids in a process. It forgets that as it does the above.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn async_ids(&self, process: u32, layout: AsyncIds) -> Result<()> {
        let AsyncIds {
            depth,
            ids,
            wrap,
            context,
        } = layout;
        lock(&self.async_ids)
            .insert(process, [depth, ids, wrap, context], 0)
            .with_context(|| format!("tell the kernel side of Node.js in {process}"))?;
        self.raise_epoch()
    }

    /// No more bytes of this connection.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn mute(&self, connection: ConnectionId) -> Result<()> {
        self.wish(connection, wish::MUTE)
            .context("mute a connection")
    }

    /// The next bytes of this connection come after another introduction, whose offsets count from
    /// there: for one that bytes come from and that nothing is known of. Takes back a mute.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn reintroduce(&self, connection: ConnectionId) -> Result<()> {
        let mut number = wish::MUTE;
        while matches!(number, wish::MUTE | wish::WHOLE | wish::BUDGET) {
            number = self.wished.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        }
        self.wish(connection, number)
            .context("ask for a connection's introduction")
    }

    /// All that this connection moves is copied from now on, or, if not `whole`, the budget's part.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn copy_whole(&self, connection: ConnectionId, whole: bool) -> Result<()> {
        let wish = if whole { wish::WHOLE } else { wish::BUDGET };
        self.wish(connection, wish)
            .context("ask for all bytes of a connection")
    }

    fn wish(&self, connection: ConnectionId, wish: u32) -> Result<()> {
        lock(&self.wishes).insert(connection.0, wish, 0)?;
        self.raise_epoch()
    }

    /// What the kernel side counted, by [`Counter`], summed over CPUs.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn counters(&self) -> Result<[u64; COUNTERS as usize]> {
        let map = lock(&self.statistics);
        let mut sums = [0u64; COUNTERS as usize];
        for (slot, sum) in sums.iter_mut().enumerate() {
            let values = map.get(&u32::try_from(slot)?, 0).context("read counters")?;
            *sum = values.iter().sum();
        }
        Ok(sums)
    }

    /// One of [`Control::counters`].
    pub fn counter(sums: &[u64; COUNTERS as usize], counter: Counter) -> u64 {
        sums.get(counter as usize).copied().unwrap_or(0)
    }

    pub(super) fn ask_wake(&self, shard: u32) -> Result<()> {
        lock(&self.wake).set(shard, 1, 0).context("ask to be woken")
    }

    fn raise_epoch(&self) -> Result<()> {
        const OURS: u32 = 1;
        let mut epoch = lock(&self.epoch);
        let now = epoch.get(&OURS, 0).context("read the epoch")?;
        epoch
            .set(OURS, now.wrapping_add(1), 0)
            .context("raise the epoch")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
