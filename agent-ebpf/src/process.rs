//! Processes that call exec or end: user space looks at a process while it is there to be seen,
//! and forgets it when it is gone.

use agent_ebpf::abi::{Counter, Field, Kind, Process, verdict};
use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns,
};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use aya_log_ebpf::warn;

use crate::emit;
use crate::kernel::{Pointer, Untyped, add};
use crate::maps::{
    ASYNC_IDS, CONTEXTS, EPOCH, GOROUTINES, JVMS, PROCESSES, SERVED, STREAMS, THREADS, WELCOME,
    global,
};

/// After exec: the process is somebody else now, to be judged anew.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn executed(context: RawTracePointContext) -> i32 {
    told(&context, tell(Kind::Exec))
}

/// When a process's first thread ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn exited(context: RawTracePointContext) -> i32 {
    told(&context, tell(Kind::Exit))
}

/// Counts what was not told, and says so the first time.
#[inline(always)]
fn told(context: &RawTracePointContext, told: bool) -> i32 {
    if !told {
        emit::count(Counter::UntoldProcesses, 1);
        let said = &raw mut SAID;
        // SAFETY: a word of this object's; two CPUs at once say it twice.
        if unsafe { said.read_volatile() } == 0 {
            // SAFETY: as above.
            unsafe { said.write_volatile(1) };
            warn!(
                context,
                "an exec or exit was not told: the ring is full; what more there is of it is counted"
            );
        }
    }
    0
}

/// 1 once it was said that the ring is full.
static mut SAID: u32 = 0;

/// When a process is made: a verdict that came after the end of one that had its number is not its.
/// Tracepoint: include/trace/events/sched.h, called from kernel/fork.c for threads too.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn forked(context: RawTracePointContext) -> i32 {
    let child = Untyped(context.arg::<u64>(1) as *const _);
    let (tgid, tid) = (
        child.field::<u32>(Field::TaskTgid),
        child.field::<u32>(Field::TaskPid),
    );
    if tgid == tid {
        forget(tgid);
        let parent = Untyped(context.arg::<u64>(0) as *const _);
        let parent: u32 = parent.field(Field::TaskTgid);
        // It is the same program, until it calls exec.
        // SAFETY: a u32 read once.
        if unsafe { PROCESSES.get(parent) }.is_some_and(|it| *it == verdict::TRACED) {
            let _ = PROCESSES.insert(tgid, verdict::TRACED, 0);
        }
    }
    0
}

/// Takes back what was said of a process.
#[inline(always)]
fn forget(tgid: u32) {
    let _ = GOROUTINES.remove(tgid);
    let _ = STREAMS.remove(tgid);
    let _ = CONTEXTS.remove(tgid);
    let _ = ASYNC_IDS.remove(tgid);
    let _ = JVMS.remove(tgid);
    let _ = THREADS.remove(tgid);
    let _ = SERVED.remove(tgid);
    let _ = WELCOME.remove(tgid);
    if PROCESSES.remove(tgid).is_ok() {
        raise_epoch();
    }
}

/// Lets every connection look again at what the maps say.
#[inline(always)]
pub fn raise_epoch() {
    if let Some(epoch) = EPOCH.get_ptr_mut(0) {
        // SAFETY: an array slot, valid for the program's run.
        add(unsafe { &mut *epoch }, 1);
    }
}

/// False where the ring was full.
#[inline(always)]
pub fn tell(kind: Kind) -> bool {
    // SAFETY: no arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let tgid = (pid_tgid >> 32) as u32;
    if tgid == global!(OWN) || (kind == Kind::Exit && tgid != pid_tgid as u32) {
        return true;
    }
    if kind != Kind::Teems {
        forget(tgid);
    }
    // SAFETY: no arguments.
    let task = Untyped(unsafe { bpf_get_current_task() } as *const _);
    let parent = Untyped(task.field::<u64>(Field::TaskParent) as *const _);
    let mut record = Process {
        kind: kind as u32,
        tgid,
        parent: parent.field(Field::TaskTgid),
        pad: 0,
        // SAFETY: no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        comm: [0; 16],
    };
    // SAFETY: the helper writes at most the 16 bytes it is given; the record is initialised.
    unsafe {
        bpf_get_current_comm(record.comm.as_mut_ptr().cast(), 16);
        let bytes = core::ptr::addr_of!(record).cast();
        // An exec wakes the reader: the process may be gone in milliseconds.
        emit::send(0, bytes, size_of::<Process>() as u64, kind == Kind::Exec)
    }
}
