//! Where programs keep what tells their units of execution apart: what user space finds in their files, and
//! how often they may start one.

/// How goroutines are told apart in a Go program, and those that ask for requests.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Goroutines {
    /// Offset of the number in runtime.g, bytes.
    pub goid: u32,
    /// Offset of the number of who started it there, before where that was in the program; 0 where it
    /// is not kept.
    pub parent: u32,
    /// Offset of `conn`, an interface, in net/http.persistConn, bytes.
    pub conn: u32,
    /// How far from the probe in roundTrip `net.(*TCPConn).Close` begins, bytes; 0 where there is none.
    pub tcp_close: i32,
    /// The same of `crypto/tls.(*Conn).Close`.
    pub tls_close: i32,
}
const _: () = assert!(size_of::<Goroutines>() == 20);

/// How Python's contexts are told apart in a process; offsets in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contexts {
    /// Address of the pthread key of thread states, 32 bits.
    pub key: u64,
    /// Of the thread's id in a thread state, 64 bits.
    pub thread: u32,
    /// Of the context there.
    pub context: u32,
    /// Of the frame there, or of what leads to it.
    pub frame: u32,
    /// Of the frame in what leads to it; [`Self::DIRECT`] where it is the frame itself.
    pub inner: u32,
    /// Of the code in a frame.
    pub code: u32,
    /// Of the frame before it there.
    pub previous: u32,
    /// Of whether it was entered in a context, 32 bits.
    pub entered: u32,
    /// Of the first local variable in a frame; 0 where what pools of threads run is not known.
    pub locals: u32,
    /// Of its name in a code object.
    pub name: u32,
    /// Of the text in a string.
    pub text: u32,
    /// From an object to its first attribute: what is added to an address, to find the next there;
    /// [`Self::THERE`] behind the last.
    pub hops: [i32; 3],
    /// Unused.
    pub pad: u32,
    /// CLOCK_MONOTONIC when this was told, nanoseconds: what was noted before was noted of another program.
    pub since: u64,
}
const _: () = assert!(size_of::<Contexts>() == 72);

impl Contexts {
    /// See [`Self::inner`].
    pub const DIRECT: u32 = u32::MAX;
    /// See [`Self::hops`].
    pub const THERE: i32 = i32::MIN;
}

/// Where Node.js keeps the ids of asynchronous resources.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsyncIds {
    /// Offset in node::Environment of how many callbacks native code is in, bytes.
    pub depth: u32,
    /// Offset there of the address of the ids: four doubles, of whose callback runs, of who made that, the
    /// last given out.
    pub ids: u32,
    /// Offset of the id in node::AsyncWrap, bytes.
    pub wrap: u32,
    /// Which argument of node::InternalCallbackScope's constructor is the address of the id, from 0 on: 3
    /// or 4.
    pub context: u32,
}
const _: () = assert!(size_of::<AsyncIds>() == 16);

/// Units of execution that a process may start in a second before it teems. At a microsecond each that is
/// a fiftieth of a CPU.
pub const TEEMING: u64 = 20_000;
/// The same of Python's contexts, of which a request takes some ten: its threads take turns, so that no
/// more than a tenth of a CPU goes that way.
pub const TEEMING_CONTEXTS: u64 = 50_000;
/// The same of what uvloop calls back, each of which costs a third of that.
pub const TEEMING_CALLBACKS: u64 = 150_000;
/// The same of locks that Python makes: of most is seen at once that they are not a future's.
pub const TEEMING_LOCKS: u64 = 50_000;
