//! What the kernel side counts, brought into the agent's counters.

use agent_ebpf::abi::Counter;
use anyhow::Result;

use crate::probe::Control;
use crate::stats::Stats;

/// Sets ours to what theirs are now.
///
/// # Errors
/// Where the kernel refuses to tell.
pub(super) fn count(control: &Control, stats: &Stats) -> Result<()> {
    let sums = control.counters()?;
    for (ours, theirs) in [
        (&stats.kernel_bytes, Counter::Bytes),
        (&stats.kernel_ring_full, Counter::RingFull),
        (&stats.kernel_faults, Counter::Faults),
        (&stats.kernel_budgeted_bytes, Counter::Budgeted),
        (&stats.kernel_muted, Counter::Muted),
        (&stats.kernel_unselected, Counter::Unselected),
        (&stats.kernel_compat, Counter::Compat),
        (&stats.kernel_no_buffer, Counter::NoBuffer),
        (&stats.kernel_no_state, Counter::NoState),
        (&stats.kernel_crowded, Counter::Crowded),
        (&stats.kernel_misshapen, Counter::Misshapen),
        (&stats.kernel_options_read, Counter::OptionsRead),
        (&stats.kernel_options_written, Counter::OptionsWritten),
        (
            &stats.kernel_options_without_room,
            Counter::OptionsWithoutRoom,
        ),
        (&stats.kernel_options_shared, Counter::OptionsShared),
        (&stats.kernel_options_foreign, Counter::OptionsForeign),
        (&stats.kernel_streams_unknown, Counter::StreamsUnknown),
        (&stats.kernel_options_lost, Counter::OptionsLost),
        (&stats.kernel_uncarried, Counter::Uncarried),
        (&stats.kernel_second_socket, Counter::SecondSocket),
        (&stats.kernel_untold_processes, Counter::UntoldProcesses),
        (&stats.kernel_headers_written, Counter::HeadersWritten),
        (&stats.kernel_headers_unfit, Counter::HeadersUnfit),
        (&stats.kernel_headers_crowded, Counter::HeadersCrowded),
        (&stats.kernel_headers_late, Counter::HeadersLate),
        (&stats.kernel_headers_rootless, Counter::HeadersRootless),
        (&stats.kernel_headers_headless, Counter::HeadersHeadless),
        (&stats.kernel_headers_present, Counter::HeadersPresent),
        (&stats.kernel_headers_refused, Counter::HeadersRefused),
    ] {
        ours.set(Control::counter(&sums, theirs));
    }
    Ok(())
}
