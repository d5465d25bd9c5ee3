//! HotSpot's threads and the objects that they make: what both sides tell each other of them.

/// Where things are in a process that is a HotSpot JVM, whose garbage collector moves objects only while
/// the program is stopped, and whose references are 32 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jvm {
    /// Addresses of the heap: its first, and that behind its last.
    pub heap: [u64; 2],
    /// Address of how often garbage was collected, 32 bits.
    pub collections: u64,
    /// What a reference's number is added to, shifted by `object_shift`.
    pub object_base: u64,
    /// The same of a class.
    pub class_base: u64,
    /// By how many bits.
    pub object_shift: u32,
    /// By how many bits.
    pub class_shift: u32,
    /// Number of libjvm's thread-local storage.
    pub module: u32,
    /// Offset there of the address of the thread's `JavaThread`, bytes.
    pub slot: u32,
    /// Offset in `JavaThread` of the address of where the address of its `java.lang.Thread` is.
    pub object: u32,
    /// Offset there of its `ThreadLocalAllocBuffer`.
    pub buffer: u32,
    /// Offset there of the address of its `OSThread`.
    pub os_thread: u32,
    /// Offset in `OSThread` of the address of the thread's control block.
    pub control: u32,
    /// Offset in `Klass` of the address of the class right below `java.lang.Object` that it is, or is below.
    pub ancestor: u32,
    /// Offset there of the address of its name's `Symbol`.
    pub name: u32,
    /// Offset in `java.util.concurrent.FutureTask` of the reference to who runs it.
    pub runner: u32,
    /// Unused.
    pub pad: u32,
}
const _: () = assert!(size_of::<Jvm>() == 88);

/// The part of the heap in which only this thread makes objects, one behind the other, until garbage is
/// collected.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Allocates {
    /// [`super::Kind::Allocates`].
    pub kind: u32,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// How often garbage was collected: addresses are of that time.
    pub collections: u32,
    /// Its first address.
    pub start: u64,
    /// Where the next object will be.
    pub top: u64,
    /// The address behind its last.
    pub end: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
}
const _: () = assert!(size_of::<Allocates>() == 48);

/// What a thread runs that has just sent bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Runs {
    /// [`super::Kind::Runs`].
    pub kind: u32,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// As in [`Allocates`].
    pub collections: u32,
    /// As in [`super::Open`].
    pub connection: u64,
    /// Addresses of the tasks that it runs, the first of all and the last within that one; 0 for none.
    pub tasks: [u64; 2],
    /// CLOCK_MONOTONIC, nanoseconds, no earlier than the bytes.
    pub time: u64,
}
const _: () = assert!(size_of::<Runs>() == 48);
