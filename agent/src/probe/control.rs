//! What user space tells the kernel side while it runs, and asks it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use agent_ebpf::abi::{
    AsyncIds, COUNTERS, Contexts, Counter, Goroutines, Jvm, Place, Streams, exact, served, verdict,
    wish,
};
use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuValues};

use crate::event::ConnectionId;

/// The maps that user space writes while the kernel side runs.
pub struct Control {
    pub(super) shards: u32,
    processes: Mutex<HashMap<MapData, u32, u32>>,
    goroutines: Mutex<HashMap<MapData, u32, [i32; 5]>>,
    streams: Mutex<HashMap<MapData, u32, [u64; 9]>>,
    contexts: Mutex<HashMap<MapData, u32, [u64; 9]>>,
    async_ids: Mutex<HashMap<MapData, u32, [u32; 4]>>,
    jvms: Mutex<HashMap<MapData, u32, [u64; 11]>>,
    threads: Mutex<HashMap<MapData, u32, u32>>,
    served: Mutex<HashMap<MapData, u32, u32>>,
    serving: Mutex<HashMap<MapData, [u64; 2], [u64; 7]>>,
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
            streams: Mutex::new(HashMap::try_from(map("STREAMS")?)?),
            contexts: Mutex::new(HashMap::try_from(map("CONTEXTS")?)?),
            async_ids: Mutex::new(HashMap::try_from(map("ASYNC_IDS")?)?),
            jvms: Mutex::new(HashMap::try_from(map("JVMS")?)?),
            threads: Mutex::new(HashMap::try_from(map("THREADS")?)?),
            served: Mutex::new(HashMap::try_from(map("SERVED")?)?),
            serving: Mutex::new(HashMap::try_from(map("SERVING")?)?),
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

    /// Takes back which requests the units of processes serve: their answers will not be seen, and when they
    /// are traced again they serve others.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn leave(&self, processes: &HashSet<u32>) -> Result<()> {
        let mut serving = lock(&self.serving);
        let all = serving.keys().take(MOST_SERVING).filter_map(Result::ok);
        // A member (agent-ebpf/src/lineage.rs): a unit, and in the lower half its process.
        let own: Vec<_> = all
            .filter(|[_, of]| {
                u32::try_from(of & 0xffff_ffff).is_ok_and(|of| processes.contains(&of))
            })
            .collect();
        for unit in own {
            match serving.remove(&unit) {
                Err(MapError::SyscallError(error))
                    if error.io_error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.context("take back what processes serve")?,
            }
        }
        Ok(())
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

    /// The same of where its streams of HTTP/2 are.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn streams(&self, process: u32, layout: Streams) -> Result<()> {
        let Streams {
            tcp_close,
            tls_close,
            wrapped_close: [credentials, buffered],
            server_close,
            server_conn,
            client_conn,
            served,
            asked,
            client,
            pad,
        } = layout;
        let place = |Place { offset, behind }| two(offset, behind);
        let words = [
            tcp_close,
            tls_close,
            credentials,
            buffered,
            server_close,
            two(server_conn, client_conn),
            place(served),
            place(asked),
            two(client, pad),
        ];
        lock(&self.streams)
            .insert(process, words, 0)
            .with_context(|| format!("tell the kernel side of the streams of {process}"))
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
            locals,
            name,
            text,
            hops: [first, second, third],
            pad,
            since,
        } = layout;
        let [first, second, third] = [first, second, third].map(i32::cast_unsigned);
        let words = [
            key,
            two(thread, context),
            two(frame, inner),
            two(code, previous),
            two(entered, locals),
            two(name, text),
            two(first, second),
            two(third, pad),
            since,
        ];
        lock(&self.contexts)
            .insert(process, words, 0)
            .with_context(|| format!("tell the kernel side of the contexts of {process}"))?;
        self.raise_epoch()
    }

    /// Takes that back; nothing where nothing was told.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn no_contexts(&self, process: u32) -> Result<()> {
        match lock(&self.contexts).remove(&process) {
            Err(MapError::SyscallError(error))
                if error.io_error.kind() != std::io::ErrorKind::NotFound =>
            {
                Err(error).context("take back where contexts are")
            }
            _ => self.raise_epoch(),
        }
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

    /// Tells the kernel side where things are in a JVM. It forgets that as it does the above.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn jvm(&self, process: u32, layout: Jvm) -> Result<()> {
        let Jvm {
            heap: [low, high],
            collections,
            object_base,
            class_base,
            object_shift,
            class_shift,
            module,
            slot,
            object,
            buffer,
            os_thread,
            control,
            ancestor,
            name,
            runner,
            pad,
        } = layout;
        let words = [
            low,
            high,
            collections,
            object_base,
            class_base,
            two(object_shift, class_shift),
            two(module, slot),
            two(object, buffer),
            two(os_thread, control),
            two(ancestor, name),
            two(runner, pad),
        ];
        lock(&self.jvms)
            .insert(process, words, 0)
            .with_context(|| format!("tell the kernel side of the JVM {process}"))
    }

    /// Tells the kernel side whether the threads of a process serve one request at a time. It forgets that
    /// as it does the above; where they do not, turns do not either.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn threads(&self, process: u32, exact: bool) -> Result<()> {
        let mut threads = lock(&self.threads);
        if exact {
            return threads
                .insert(process, exact::THREADS, 0)
                .with_context(|| format!("tell the kernel side of the threads of {process}"));
        }
        match threads.remove(&process) {
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            removed => removed.with_context(|| format!("forget the threads of {process}")),
        }
    }

    /// Tells the kernel side that turns of a process's event loop serve one request each, whatever its threads
    /// do. It forgets that as it does the above.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn turns(&self, process: u32) -> Result<()> {
        lock(&self.threads)
            .insert(process, exact::TURNS, 0)
            .with_context(|| format!("tell the kernel side of the turns of {process}"))
    }

    /// Tells the kernel side that a process serves requests in traces that it does not know. It forgets that
    /// as it does the above.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn serves_unseen(&self, process: u32) -> Result<()> {
        lock(&self.served)
            .insert(process, served::UNKNOWN, 0)
            .with_context(|| format!("tell the kernel side that {process} serves"))
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

    /// Counts from nothing again: what was counted so far was of tests.
    pub(super) fn forget_counts(&self) -> Result<()> {
        let mut map = lock(&self.statistics);
        for slot in 0..COUNTERS {
            let cpus = map.get(&slot, 0).context("read counters")?.len();
            let nothing = PerCpuValues::try_from(vec![0; cpus]).context("as many as CPUs")?;
            map.set(slot, nothing, 0).context("reset counters")?;
        }
        Ok(())
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

/// A word of two numbers, as it is where they are one behind the other.
fn two(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Units that are looked at, in a map that changes meanwhile; there are fewer (see `MAX_CARRIED` of
/// object.rs).
const MOST_SERVING: usize = 65_536;
