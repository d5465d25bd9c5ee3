//! One ring buffer's reader: drained on a timer, woken by the kernel side only when it sleeps or
//! when a record is urgent. A wake-up per record would cost 2 to 4 µs each, a drain costs one
//! system call per interval.

use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};

use super::Control;

/// A ring and the slot that tells the kernel side whether its reader sleeps.
pub struct Ring {
    ring: RingBuf<MapData>,
    shard: u32,
    control: Arc<Control>,
    quiet: u32,
}

impl Ring {
    pub(super) fn new(ring: RingBuf<MapData>, shard: u32, control: Arc<Control>) -> Self {
        Self {
            ring,
            shard,
            control,
            quiet: 0,
        }
    }

    /// Hands the records there are to `take`, but no more than `most`; returns how many.
    pub fn drain(&mut self, most: u64, mut take: impl FnMut(&[u8])) -> u64 {
        let mut records = 0;
        while records < most
            && let Some(record) = self.ring.next()
        {
            take(&record);
            records += 1;
        }
        self.quiet = if records == 0 {
            self.quiet.saturating_add(1)
        } else {
            0
        };
        records
    }

    /// Whether nothing came for long enough that [`wait`](Self::wait) sleeps until it is woken.
    pub fn idle(&self) -> bool {
        self.quiet >= QUIET
    }

    /// Waits for more: `interval` while records come, longer (at most `longest`) once none did.
    ///
    /// # Errors
    /// Where the kernel refuses to wait on the ring.
    pub fn wait(&mut self, interval: Duration, longest: Duration) -> Result<()> {
        if !self.idle() {
            // Not poll: it returns at once if one record is there, and batches would shrink to one.
            std::thread::sleep(interval);
            return Ok(());
        }
        self.control.ask_wake(self.shard)?;
        let mut poll = libc::pollfd {
            fd: self.ring.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let milliseconds = i32::try_from(longest.as_millis()).unwrap_or(i32::MAX);
        // A record that came between the last drain and here is found by poll itself: it looks at
        // the ring's positions before it sleeps.
        // SAFETY: one pollfd on the stack, for the length of the call.
        if unsafe { libc::poll(&mut poll, 1, milliseconds) } < 0 {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(error).context("wait for the ring");
            }
        }
        Ok(())
    }
}

/// Empty drains before the reader goes to sleep.
const QUIET: u32 = 25;
