//! HotSpot's threads: which task one runs, and where each makes its objects.
//!
//! A pool's thread that calls for a request runs a task that the request's thread has made. Which one that
//! is, the task itself says: `java.util.concurrent.FutureTask` refers to who runs it, from its beginning
//! to its end. It is found in the frames near the thread's first, one of which runs it. Who made it, its
//! address says: a thread makes objects in a part of the heap that is its own until garbage is collected
//! (`ThreadLocalAllocBuffer`), one behind the other, so they are in the order in which they were made.
//!
//! Objects move only while all threads are stopped and have no such part. What was found counts if
//! this thread has its part afterwards, and garbage was collected as often as before.

use agent_ebpf::abi::{Allocates, Field, Jvm, Kind, Runs};
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_ktime_get_ns, bpf_loop,
    bpf_probe_read_user,
};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;

use crate::emit;
use crate::kernel::{Pointer, Typed, read_user};
use crate::maps::{JAVA_THREADS, JVMS, SEARCH, TASK_THREADS};
use crate::socket::{self, ASIDE};

/// A look for tasks in a thread's first frames.
#[repr(C)]
pub struct Search {
    /// Where things are.
    layout: Jvm,
    /// The thread's `java.lang.Thread`, as others refer to it.
    runner: u32,
    pad: u32,
    /// As in `abi::Runs`.
    tasks: [u64; 2],
    /// The frames.
    words: [u64; WORDS],
}

/// Words that are looked at, and how many bytes below a thread's control block they end: what is above
/// are libjvm's own frames.
const WORDS: usize = 640;
const ABOVE: u64 = 1024;

/// After a send: which task the thread runs.
#[btf_tracepoint(function = "sock_send_length")]
pub fn jvm_sent(context: BtfTracePointContext) -> i32 {
    let Some((layout, pid_tgid)) = layout() else {
        return 0;
    };
    if context.arg::<i32>(1) <= 0 {
        return 0;
    }
    let Some(state) = socket::known(context.arg(0)).filter(|state| state.opened != 0) else {
        return 0;
    };
    let id = state.id;
    let Some(thread) = Thread::current(layout) else {
        return 0;
    };
    let collections = thread.collections();
    let tasks = thread.tasks(pid_tgid);
    let still = thread.buffer().is_some() && thread.collections() == collections;
    let record = Runs {
        kind: Kind::Runs as u32,
        tgid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        collections,
        connection: id,
        tasks: if still { tasks } else { [0; 2] },
        // SAFETY: no arguments.
        time: unsafe { bpf_ktime_get_ns() },
    };
    // SAFETY: a record on the stack, and its size.
    unsafe {
        let bytes = core::ptr::addr_of!(record).cast();
        emit::send(id, bytes, size_of::<Runs>() as u64, false);
    }
    0
}

/// After a receive: where the thread goes on to make objects.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn jvm_received(context: BtfTracePointContext) -> i32 {
    let Some((layout, pid_tgid)) = layout() else {
        return 0;
    };
    if context.arg::<i32>(1) <= 0 || context.arg::<i32>(2) & ASIDE != 0 {
        return 0;
    }
    if let Some(thread) = Thread::current(layout) {
        thread.tell(pid_tgid, true);
    }
    0
}

/// A thread wakes another of its process: tasks were handed over, or are done. Either may have another part
/// of the heap since it was last looked at.
#[btf_tracepoint(function = "sched_waking")]
pub fn jvm_woke(context: BtfTracePointContext) -> i32 {
    let woken = Typed(context.arg::<*const c_void>(0));
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    if woken.field::<u32>(Field::TaskTgid) != (pid_tgid >> 32) as u32 {
        return 0;
    }
    let Some((layout, _)) = layout() else {
        return 0;
    };
    let pid: u32 = woken.field(Field::TaskPid);
    let of_woken = (pid_tgid >> 32 << 32) | u64::from(pid);
    if JAVA_THREADS.get_ptr(pid_tgid as u32).is_some()
        && let Some(thread) = Thread::current(layout)
    {
        thread.tell(pid_tgid, false);
    }
    if JAVA_THREADS.get_ptr(pid).is_some()
        && let Some(thread) = Thread::of(layout, woken.field(Field::ThreadArea))
    {
        thread.tell(of_woken, false);
    }
    0
}

/// What is known of the current process, if it is a JVM.
#[inline(always)]
fn layout() -> Option<(&'static Jvm, u64)> {
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    // SAFETY: written once by user space, read as plain numbers.
    let layout = unsafe { JVMS.get((pid_tgid >> 32) as u32) }?;
    Some((layout, pid_tgid))
}

/// A thread of the current process.
struct Thread {
    layout: &'static Jvm,
    /// Address of its control block.
    area: u64,
    /// Address of its `JavaThread`.
    address: u64,
}

/// Where a thread makes objects.
struct Buffer {
    start: u64,
    top: u64,
    end: u64,
}

impl Thread {
    #[inline(always)]
    fn current(layout: &'static Jvm) -> Option<Self> {
        // SAFETY: no arguments.
        let task = Typed(unsafe { bpf_get_current_task_btf() } as *const _);
        Self::of(layout, task.field(Field::ThreadArea))
    }

    /// By its control block: the C library keeps there where each library's thread-local storage is
    /// (`tcbhead_t` and `dtv_t`, sysdeps/x86_64/nptl/tls.h).
    #[inline(always)]
    fn of(layout: &'static Jvm, area: u64) -> Option<Self> {
        let table: u64 = read_user(area.wrapping_add(8));
        let storage: u64 = read_user(table.wrapping_add(u64::from(layout.module) * 16));
        let address: u64 = read_user(storage.wrapping_add(layout.slot.into()));
        let own: u64 = read_user(address.wrapping_add(layout.os_thread.into()));
        let says: u64 = read_user(own.wrapping_add(layout.control.into()));
        (area != 0 && says == area).then_some(Self {
            layout,
            area,
            address,
        })
    }

    #[inline(always)]
    fn collections(&self) -> u32 {
        read_user(self.layout.collections)
    }

    /// `None` while garbage is collected, and until it makes an object after that.
    #[inline(always)]
    fn buffer(&self) -> Option<Buffer> {
        let at = self.address.wrapping_add(self.layout.buffer.into());
        let [start, top, _, end]: [u64; 4] = read_user(at);
        (start != 0).then_some(Buffer { start, top, end })
    }

    /// Tells where it makes objects, if that was not told, or `anyway`.
    #[inline(always)]
    fn tell(&self, pid_tgid: u64, anyway: bool) {
        let collections = self.collections();
        let Some(Buffer { start, top, end }) = self.buffer() else {
            return;
        };
        if self.collections() != collections {
            return;
        }
        let tid = pid_tgid as u32;
        // SAFETY: a number, read once.
        let told = unsafe { JAVA_THREADS.get(tid) }.copied();
        if !anyway && told == Some(start) {
            return;
        }
        let _ = JAVA_THREADS.insert(tid, start, 0);
        let record = Allocates {
            kind: Kind::Allocates as u32,
            tgid: (pid_tgid >> 32) as u32,
            tid,
            collections,
            start,
            top,
            end,
            // SAFETY: no arguments.
            time: unsafe { bpf_ktime_get_ns() },
        };
        // SAFETY: a record on the stack, and its size.
        unsafe {
            let bytes = core::ptr::addr_of!(record).cast();
            emit::send(tid.into(), bytes, size_of::<Allocates>() as u64, false);
        }
    }

    /// The tasks that it runs, as in `abi::Runs`.
    #[inline(always)]
    fn tasks(&self, pid_tgid: u64) -> [u64; 2] {
        let handle: u64 = read_user(self.address.wrapping_add(self.layout.object.into()));
        let object: u64 = read_user(handle);
        let Some(search) = SEARCH.get_ptr_mut(0) else {
            return [0; 2];
        };
        // SAFETY: a map value of this CPU, which no other run of the one program that has it interrupts.
        let search = unsafe { &mut *search };
        search.layout = *self.layout;
        search.runner = number(object, self.layout);
        search.tasks = [0; 2];
        let bytes = (WORDS * 8) as u32;
        let from = self.area.wrapping_sub(ABOVE + u64::from(bytes));
        // SAFETY: as many bytes as there are; the callback's context is the map value.
        unsafe {
            let to = (&raw mut search.words).cast();
            if object == 0 || bpf_probe_read_user(to, bytes, from as *const c_void) != 0 {
                return [0; 2];
            }
            let mut context = core::ptr::from_mut(search);
            let context = core::ptr::addr_of_mut!(context);
            bpf_loop(WORDS as u32, look as *mut c_void, context.cast(), 0);
        }
        if search.tasks[0] == 0 && self.is_for_one(object, pid_tgid as u32) {
            search.tasks = [object; 2];
        }
        search.tasks
    }

    /// Whether a thread was made to run one task of a CompletableFuture's, and runs no other: it refers to
    /// that from its beginning to its end.
    #[inline(always)]
    fn is_for_one(&self, object: u64, tid: u32) -> bool {
        // SAFETY: plain numbers, read once.
        if let Some(known) = unsafe { TASK_THREADS.get(tid) }
            && known[0] == self.address
            && known[1] & !1 == object
        {
            return known[1] & 1 != 0;
        }
        let mut found = false;
        let members: [u32; MEMBERS] = read_user(object.wrapping_add(CLASS + 4));
        for member in members {
            let base = self.layout.object_base;
            let at = (u64::from(member) << (self.layout.object_shift & 63)).wrapping_add(base);
            let [low, high] = self.layout.heap;
            if at >= low && at < high && is_asynchronous(at, self.layout) {
                found = true;
                break;
            }
        }
        let _ = TASK_THREADS.insert(tid, [self.address, object | u64::from(found)], 0);
        found
    }
}

/// How others refer to the object at an address.
#[inline(always)]
fn number(address: u64, layout: &Jvm) -> u32 {
    (address.wrapping_sub(layout.object_base) >> (layout.object_shift & 63)) as u32
}

/// bpf_loop's callback: the thread's first frame's words come first.
extern "C" fn look(index: u32, search: *mut c_void) -> i64 {
    // SAFETY: what bpf_loop was given.
    let search = unsafe { &mut **search.cast::<*mut Search>() };
    let Some(&task) = search
        .words
        .get((WORDS as u32 - 1).wrapping_sub(index) as usize)
    else {
        return 1;
    };
    let [low, high] = search.layout.heap;
    if task < low || task >= high || task & 7 != 0 {
        return 0;
    }
    let runner: u32 = read_user(task.wrapping_add(search.layout.runner.into()));
    if runner != search.runner || !is_future(task, &search.layout) {
        return 0;
    }
    if search.tasks[0] == 0 {
        search.tasks[0] = task;
    }
    search.tasks[1] = task;
    0
}

/// Whether an object is a FutureTask, or of a class below that, but for what runs by the clock.
#[inline(always)]
fn is_future(object: u64, layout: &Jvm) -> bool {
    let class: u32 = read_user(object.wrapping_add(CLASS));
    let class = (u64::from(class) << (layout.class_shift & 63)).wrapping_add(layout.class_base);
    let ancestor: u64 = read_user(class.wrapping_add(layout.ancestor.into()));
    if !is_named(ancestor, layout, FUTURE_TASK, b"tureTask", 31) {
        return false;
    }
    class == ancestor || !is_named(class, layout, SCHEDULED, b"tureTask", 68)
}

/// Whether an object is what CompletableFuture hands to an executor: an AsyncSupply or an AsyncRun.
#[inline(always)]
fn is_asynchronous(object: u64, layout: &Jvm) -> bool {
    let class: u32 = read_user(object.wrapping_add(CLASS));
    let class = (u64::from(class) << (layout.class_shift & 63)).wrapping_add(layout.class_base);
    is_named(class, layout, ASYNCHRONOUS, b"ncSupply", 50)
        || is_named(class, layout, ASYNCHRONOUS, b"AsyncRun", 47)
}

/// Whether a class has a name of that length that begins and ends so. `Symbol` (symbol.hpp): a length of 16
/// bits behind 32, then the name.
#[inline(always)]
fn is_named(class: u64, layout: &Jvm, begin: [u64; 4], end: &[u8; 8], length: u16) -> bool {
    let name: u64 = read_user(class.wrapping_add(layout.name.into()));
    let says: u16 = read_user(name.wrapping_add(4));
    let text = name.wrapping_add(6);
    if says != length
        || read_user::<u64>(text.wrapping_add(u64::from(length) - 8)) != u64::from_ne_bytes(*end)
    {
        return false;
    }
    let [a, b, c, d]: [u64; 4] = read_user(text);
    // What is behind a name of 31 bytes may be anything.
    a == begin[0] && b == begin[1] && c == begin[2] && (d ^ begin[3]) << 8 == 0
}

/// Words of a `java.lang.Thread` that are looked at: what its first task is, is in one of these before Java
/// 19.
const MEMBERS: usize = 24;

/// Of an object's class, where references are 32 bits.
const CLASS: u64 = 8;
const FUTURE_TASK: [u64; 4] = words(b"java/util/concurrent/FutureTask ");
const ASYNCHRONOUS: [u64; 4] = words(b"java/util/concurrent/Completable");
const SCHEDULED: [u64; 4] = words(b"java/util/concurrent/ScheduledTh");

const fn words(text: &[u8; 32]) -> [u64; 4] {
    // SAFETY: the same bytes.
    unsafe { core::mem::transmute::<[u8; 32], [u64; 4]>(*text) }
}
