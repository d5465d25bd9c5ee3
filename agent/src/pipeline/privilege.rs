//! What is given up once everything is loaded. Capabilities belong to threads, so each thread keeps
//! what its own work takes and drops the rest by itself:
//!
//! | thread | keeps | for |
//! |---|---|---|
//! | main | CAP_BPF, CAP_PERFMON | attaching again when somebody is selected, reading counters |
//! | readers | CAP_BPF, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_SYS_NICE | verdicts in maps; /proc of others; back from SCHED_IDLE |
//! | prober | CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_CHECKPOINT_RESTORE, CAP_LEASE, CAP_SYS_ADMIN | mappings of others; leases on their files; uprobes, for which kernels before 6.12 ask that much |
//! | weaver | the same | whose threads are evidence, in a map; whose span it is; back from SCHED_IDLE |
//! | chooser | CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH | /proc of others; the configuration's file |
//! | clerk, and its process | CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH | files of others |
//! | exporters, metrics, `serve` | none | they speak to the network |
//!
//! docs/decisions/0012-privileges.md has the reasons.

use rustix::io;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, set_capabilities, set_no_new_privs,
};

/// For the thread that attaches.
pub const ATTACH: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);
/// For those that read about processes.
pub const PROCESSES: CapabilitySet =
    CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);
/// For the one that probes programs: it reads their mappings, and attaches.
pub const PROBE: CapabilitySet = ATTACH
    .union(PROCESSES)
    .union(CapabilitySet::CHECKPOINT_RESTORE)
    .union(CapabilitySet::LEASE);
/// The same where uprobes are perf events.
pub const PROBE_EVENTS: CapabilitySet = PROBE.union(CapabilitySet::SYS_ADMIN);
/// For those that tell the kernel side of processes, too.
pub const READ: CapabilitySet = PROCESSES
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::BPF);

/// No program that this thread or one it starts from now on becomes has more rights than it has.
pub fn no_new() -> io::Result<()> {
    set_no_new_privs(true)
}

/// Drops all capabilities of this thread but these, for good.
pub fn keep(wanted: CapabilitySet) -> io::Result<()> {
    let own = capabilities(None)?;
    let kept = kept(own.permitted, wanted);
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept & own.effective,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

/// As [`keep`], on a thread that has no one to tell of a failure: it then goes on as it is.
pub fn keep_or_go_on(wanted: CapabilitySet) {
    let _ = keep(wanted);
}

/// Lets a program that this thread starts have these, too, whoever's it is.
pub fn hand_on(wanted: CapabilitySet) {
    // Where that is refused the program does with what its user has.
    let _ = capabilities(None).and_then(|own| {
        let inheritable = own.permitted & wanted;
        set_capabilities(None, CapabilitySets { inheritable, ..own })?;
        inheritable
            .iter()
            .try_for_each(|one| configure_capability_in_ambient_set(one, true))
    });
}

/// For threads that need none.
pub fn none() {
    keep_or_go_on(CapabilitySet::empty());
}

fn kept(permitted: CapabilitySet, wanted: CapabilitySet) -> CapabilitySet {
    let lacking = wanted & ATTACH & !permitted;
    // Who started us knew only CAP_SYS_ADMIN, of which these two were a part before 5.8.
    let stands_in = match lacking.is_empty() {
        true => CapabilitySet::empty(),
        false => permitted & CapabilitySet::SYS_ADMIN,
    };
    permitted & wanted | stands_in
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(run).join().expect("it ends well")
    }

    #[test]
    fn a_thread_keeps_what_it_wants_and_gets_nothing_back() {
        let before = capabilities(None).expect("one's own can be read");
        let after = on_a_thread(|| {
            keep(READ).expect("less is always allowed");
            let after = capabilities(None).expect("one's own can be read");
            let more = CapabilitySets {
                effective: CapabilitySet::all(),
                permitted: CapabilitySet::all(),
                ..after
            };
            assert!(set_capabilities(None, more).is_err());
            assert_eq!(on_a_thread(|| capabilities(None)), Ok(after));
            after
        });
        assert_eq!(after.permitted, before.permitted & READ);
        assert_eq!(after.effective, before.effective & READ);
        assert!(after.inheritable.is_empty());
        // The others are as they were.
        assert_eq!(capabilities(None), Ok(before));
        let none = on_a_thread(|| {
            none();
            capabilities(None)
        });
        assert!(none.is_ok_and(|sets| sets.permitted.is_empty()));
    }

    #[test]
    fn the_old_name_of_two_capabilities_is_kept_where_it_is_needed() {
        let admin = CapabilitySet::SYS_ADMIN;
        assert_eq!(kept(admin | PROCESSES, READ), admin | PROCESSES);
        assert_eq!(kept(admin | PROCESSES, PROCESSES), PROCESSES);
        assert_eq!(kept(admin | ATTACH | READ, READ), READ);
    }
}
