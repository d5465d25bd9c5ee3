//! What threads of the pipeline tell the kernel side while it runs.

use std::collections::HashSet;

use agent_ebpf::abi::{AsyncIds, Contexts, Goroutines, Jvm, Streams};
use anyhow::Result;

use crate::event::ConnectionId;
use crate::probe::Control;

/// The kernel side, as far as readers tell it something.
pub trait Orders: Send + Sync {
    /// Whether a process is traced.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn judge(&self, process: u32, traced: bool) -> Result<()>;

    /// A process is gone: its id may come to mean another.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn forget(&self, process: u32) -> Result<()>;

    /// Processes that go on are not traced any more: what they serve is not known from here on.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn leave(&self, processes: &HashSet<u32>) -> Result<()>;

    /// How goroutines are told apart in a process.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn goroutines(&self, process: u32, layout: Goroutines) -> Result<()>;

    /// Where streams of HTTP/2 are in a Go program's process.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn streams(&self, process: u32, layout: Streams) -> Result<()>;

    /// How Python's contexts are told apart in a process.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn contexts(&self, process: u32, layout: Contexts) -> Result<()>;

    /// That they cannot be, any more.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn no_contexts(&self, process: u32) -> Result<()>;

    /// Where Node.js keeps ids in a process.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn async_ids(&self, process: u32, layout: AsyncIds) -> Result<()>;

    /// Where things are in a JVM.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn jvm(&self, process: u32, layout: Jvm) -> Result<()>;

    /// Whether the threads of a process serve one request at a time.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn threads(&self, process: u32, exact: bool) -> Result<()>;

    /// Turns of a process's event loop serve one request each.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn turns(&self, process: u32) -> Result<()>;

    /// A process serves requests in traces that the kernel side does not know.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn serves_unseen(&self, process: u32) -> Result<()>;

    /// No more bytes of this connection.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn mute(&self, connection: ConnectionId) -> Result<()>;

    /// This connection is to be introduced again with its next bytes.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn reintroduce(&self, connection: ConnectionId) -> Result<()>;

    /// The copy budget does not hold for this connection, or, if not `whole`, holds again.
    ///
    /// # Errors
    /// Where the kernel refuses.
    fn copy_whole(&self, connection: ConnectionId, whole: bool) -> Result<()>;
}

impl Orders for Control {
    fn judge(&self, process: u32, traced: bool) -> Result<()> {
        Control::judge(self, process, traced)
    }

    fn forget(&self, process: u32) -> Result<()> {
        Control::forget(self, process)
    }

    fn leave(&self, processes: &HashSet<u32>) -> Result<()> {
        Control::leave(self, processes)
    }

    fn goroutines(&self, process: u32, layout: Goroutines) -> Result<()> {
        Control::goroutines(self, process, layout)
    }

    fn streams(&self, process: u32, layout: Streams) -> Result<()> {
        Control::streams(self, process, layout)
    }

    fn contexts(&self, process: u32, layout: Contexts) -> Result<()> {
        Control::contexts(self, process, layout)
    }

    fn no_contexts(&self, process: u32) -> Result<()> {
        Control::no_contexts(self, process)
    }

    fn async_ids(&self, process: u32, layout: AsyncIds) -> Result<()> {
        Control::async_ids(self, process, layout)
    }

    fn jvm(&self, process: u32, layout: Jvm) -> Result<()> {
        Control::jvm(self, process, layout)
    }

    fn threads(&self, process: u32, exact: bool) -> Result<()> {
        Control::threads(self, process, exact)
    }

    fn turns(&self, process: u32) -> Result<()> {
        Control::turns(self, process)
    }

    fn serves_unseen(&self, process: u32) -> Result<()> {
        Control::serves_unseen(self, process)
    }

    fn mute(&self, connection: ConnectionId) -> Result<()> {
        Control::mute(self, connection)
    }

    fn reintroduce(&self, connection: ConnectionId) -> Result<()> {
        Control::reintroduce(self, connection)
    }

    fn copy_whole(&self, connection: ConnectionId, whole: bool) -> Result<()> {
        Control::copy_whole(self, connection, whole)
    }
}
