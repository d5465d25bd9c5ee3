//! One counter for each way to lose, refuse or leave something out; read by the status line, the
//! metrics and the tests. Counters only grow.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes `n` away: for gauges only.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Replaces the value: for gauges and for counters that the kernel keeps.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $field:ident $([$kind:ident])? = $name:literal,)+) => {
        /// All counters of one agent.
        #[derive(Debug, Default)]
        pub struct Stats { $($(#[doc = $doc])+ pub $field: Counter,)+ }

        impl Stats {
            /// (stable name, what it counts, value), in declaration order.
            pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$(($name, concat!($($doc),+), self.$field.get()),)+]
            }

            /// (stable name, value) of those that count what was there and did not become a span,
            /// or not all of one; in declaration order.
            pub fn losses(&self) -> Vec<(&'static str, u64)> {
                [$((false $(|| stringify!($kind) == "lost")?, $name, self.$field.get()),)+]
                    .into_iter()
                    .filter_map(|(lost, name, count)| lost.then_some((name, count)))
                    .collect()
            }
        }
    };
}

/// The lines that may also fall.
pub const GAUGES: &[&str] = &["export.queue_depth"];

// Each stage adds its own lines here; the name is `stage.what`. `[lost]`: what is counted was there
// and is missing from what leaves, against anybody's wish.
counters! {
    /// Records read from the rings.
    event_records = "event.records",
    /// Records that could not be decoded.
    event_malformed [lost] = "event.malformed",
    /// TLS libraries and programs that were probed, once for each time.
    probe_attached = "probe.attached",
    /// TLS libraries found that cannot be probed, as their code cannot be made out.
    probe_unreadable = "probe.unreadable",
    /// Programs whose calls have no parent, or some of them, as goroutines, contexts and pools of Python, turns of
    /// Node.js or tasks of a JVM cannot be told apart there; each is said on standard error, with the reason.
    probe_unlinked = "probe.unlinked",
    /// Programs that start more goroutines, make more contexts or locks, or are called back more often than is followed.
    probe_teeming = "probe.teeming",
    /// Functions of such libraries that few programs call and that cannot be probed.
    probe_left_out = "probe.left_out",
    /// Times that probes were refused: by the kernel, or for lack of room.
    probe_refused [lost] = "probe.refused",
    /// Questions that the Kubernetes API did not answer, or with an error.
    kubernetes_failed = "kubernetes.failed",
    /// Pods, Services and endpoints that there was no room for.
    kubernetes_refused = "kubernetes.refused",
    /// Payload bytes the kernel side delivered.
    kernel_bytes = "kernel.bytes",
    /// Records refused by a full ring.
    kernel_ring_full [lost] = "kernel.ring_full",
    /// Payloads that could not be read from the process.
    kernel_faults [lost] = "kernel.faults",
    /// Payload bytes left out by the copy budget.
    kernel_budgeted_bytes = "kernel.budgeted_bytes",
    /// Calls of connections that are left alone.
    kernel_muted = "kernel.muted",
    /// Calls by processes that are not selected; on the syscall path, those on files too.
    kernel_unselected = "kernel.unselected",
    /// Calls by 32-bit programs, which are not read.
    kernel_compat = "kernel.compat",
    /// Calls without a user buffer: sendfile, splice, io_uring, MSG_TRUNC.
    kernel_no_buffer = "kernel.no_buffer",
    /// Connections that the kernel side had no room for.
    kernel_no_state [lost] = "kernel.no_state",
    /// Processes whose exec or end was not told, as a ring was full.
    kernel_untold_processes = "kernel.untold_processes",
    /// Calls of TLS libraries that were not copied, as every place to do so was in use.
    kernel_crowded [lost] = "kernel.crowded",
    /// TLS sessions whose records went over a second socket: their plaintext is told no more.
    kernel_second_socket [lost] = "kernel.second_socket",
    /// Plaintext that is not told: a TLS library's memory was not what it was taken for, or a call was
    /// made inside of another.
    kernel_misshapen [lost] = "kernel.misshapen",
    /// TCP options that came with requests.
    kernel_options_read = "kernel.options_read",
    /// TCP options written: again for each time that a segment was sent again.
    kernel_options_written = "kernel.options_written",
    /// First segments of requests that had no room for the option, as while SACK blocks are sent.
    kernel_options_without_room = "kernel.options_without_room",
    /// Segments in which several requests began: the option is the first one's.
    kernel_options_shared = "kernel.options_shared",
    /// TCP options that were not believed: another's, or of another connection, or from where nobody is
    /// trusted.
    kernel_options_foreign = "kernel.options_foreign",
    /// Segments with an option that had to be sent again, or were answered by a reset. A request that is sent
    /// a third time has none; where more than one in nine is lost, its address has none for ten minutes.
    kernel_options_lost = "kernel.options_lost",
    /// Sends after an answer whose trace was not known yet: no option went with them.
    kernel_uncarried = "kernel.uncarried",
    /// Streams of HTTP/2 in Go programs whose calls or whose own parent is not known, as their connection is of
    /// a type that is not known, or was not seen.
    kernel_streams_unknown = "kernel.streams_unknown",
    /// `traceparent` lines written into requests.
    kernel_headers_written = "kernel.headers_written",
    /// Connections that were given none, as their sockets block or are of a special kind (MSG_ZEROCOPY,
    /// MPTCP).
    kernel_headers_unfit = "kernel.headers_unfit",
    /// Connections that were given none for want of room, or as another's map has their sockets.
    kernel_headers_crowded = "kernel.headers_crowded",
    /// Connections on which something went before the first request.
    kernel_headers_late = "kernel.headers_late",
    /// First requests whose trace was not known.
    kernel_headers_rootless = "kernel.headers_rootless",
    /// First messages that are no whole head of HTTP/1, or that are too long.
    kernel_headers_headless = "kernel.headers_headless",
    /// First requests that had a `traceparent` already.
    kernel_headers_present = "kernel.headers_present",
    /// First requests that the kernel had no memory for.
    kernel_headers_refused = "kernel.headers_refused",
    /// Facts dropped because the weaver did not keep up.
    pipeline_facts_dropped [lost] = "pipeline.facts_dropped",
    /// Verdicts or mutes that could not be told to the kernel side.
    pipeline_control_failed [lost] = "pipeline.control_failed",
    /// Requests left out because they carry spans of an agent like this one.
    pipeline_own_exports = "pipeline.own_exports",
    /// Spans not sampled.
    pipeline_unsampled = "pipeline.unsampled",
    /// Spans that passed policy.
    pipeline_spans = "pipeline.spans",
    /// Exchanges given out without a parent.
    trace_roots = "trace.roots",
    /// Parents found in a header.
    trace_by_header = "trace.by_header",
    /// Spans left out as their process exports its own.
    trace_instrumented = "trace.instrumented",
    /// What other processes send to the receiver of spans, of which none is made.
    trace_exports = "trace.exports",
    /// Contexts from callers that are not trusted: linked to, not carried on.
    trace_untrusted = "trace.untrusted",
    /// Parents found by the TCP option that came with the request.
    trace_by_option = "trace.by_option",
    /// Calls that are linked to what is likely their parent, as they were sent in another trace before that
    /// was known.
    trace_strayed = "trace.strayed",
    /// Parents found by the message's name on both ends.
    trace_by_stream_key = "trace.by_stream_key",
    /// Parents found by the serving thread.
    trace_by_thread = "trace.by_thread",
    /// Parents found by the serving goroutine.
    trace_by_goroutine = "trace.by_goroutine",
    /// Parents found as the requests that proxies handed on.
    trace_by_forwarded = "trace.by_forwarded",
    /// Parents found by the serving task of asyncio's.
    trace_by_asyncio = "trace.by_asyncio",
    /// Parents found by Node.js's async ids.
    trace_by_async_id = "trace.by_async_id",
    /// Parents found by which thread made a JVM's task, or gave a pool of Python's its work.
    trace_by_task = "trace.by_task",
    /// Parents found by when calls were made and answered.
    trace_by_inference = "trace.by_inference",
    /// Calls with a parent of which was inferred as well whose they are, to see whether that is right.
    trace_inference_checked = "trace.inference_checked",
    /// Those of them of which it was not.
    trace_inference_wrong = "trace.inference_wrong",
    /// Processes in which it was not too often: nothing is inferred there any more.
    trace_inference_off = "trace.inference_off",
    /// Requests, calls and destinations left out of what is inferred from, and processes forgotten, for lack of
    /// room.
    trace_inference_left_out = "trace.inference_left_out",
    /// Parents found by which request a thread answered next, in servers whose threads take what another reads.
    trace_by_answer = "trace.by_answer",
    /// Processes whose threads were found to do otherwise.
    trace_answers_off = "trace.answers_off",
    /// Places in programs where units of execution are started that outlive the request they are started
    /// for, as a pool's do: what they call for has no parent.
    trace_lasting = "trace.lasting",
    /// Node.js processes in which one request was seen to let another go on: they tell other hosts nothing any more.
    trace_turns_crossed = "trace.turns_crossed",
    /// Thread links taken back before they were given out.
    trace_links_dropped = "trace.links_dropped",
    /// Processes found to share their threads between requests.
    trace_threads_off = "trace.threads_off",
    /// Streams of HTTP/2 forgotten for lack of room whose goroutine was told and of which nothing else was, as of
    /// connections that are not read.
    trace_streams_forgotten = "trace.streams_forgotten",
    /// Exchanges of threads that are not remembered, for lack of room.
    trace_threads_full [lost] = "trace.threads_full",
    /// Exchanges forgotten early for lack of room.
    trace_evicted [lost] = "trace.evicted",
    /// Exchanges whose head was not announced.
    trace_unopened = "trace.unopened",
    /// Chains cut because they closed on themselves or were too deep.
    trace_cycles = "trace.cycles",
    /// Contexts refused: wrong length, separator or digit. Counted on each side that is seen.
    trace_refused_shape = "trace.refused_shape",
    /// Contexts refused: version ff.
    trace_refused_version = "trace.refused_version",
    /// Contexts refused: trace id of zeros.
    trace_refused_trace_id = "trace.refused_trace_id",
    /// Contexts refused: span id of zeros.
    trace_refused_span_id = "trace.refused_span_id",
    /// Contexts refused: more than one traceparent.
    trace_refused_many = "trace.refused_many",
    /// tracestate values refused.
    trace_refused_state = "trace.refused_state",
    /// B3 contexts refused: incomplete.
    trace_refused_incomplete = "trace.refused_incomplete",
    /// Spans without a route, because their service has too many.
    span_routes_capped = "span.routes_capped",
    /// Spans left out by the rate limit.
    policy_rate_limited [lost] = "policy.rate_limited",
    /// Services whose rate was forgotten early for lack of room.
    policy_rate_evicted = "policy.rate_evicted",
    /// Texts with something redacted.
    policy_redacted = "policy.redacted",
    /// Texts cut to their length limit.
    policy_truncated = "policy.truncated",
    /// Attributes left out by the count limit.
    policy_attributes_dropped = "policy.attributes_dropped",
    /// Events left out by the count limit.
    policy_events_dropped = "policy.events_dropped",
    /// Spans handed to exporters, once for each; always the sum of the sent, refused, failed, dropped and waiting ones.
    export_queued = "export.queued",
    /// Spans that arrived.
    export_sent = "export.sent",
    /// Spans the receiver left out of a batch it took (OTLP partial success).
    export_rejected [lost] = "export.rejected",
    /// Spans of batches the receiver refused for good.
    export_failed_refused [lost] = "export.failed_refused",
    /// Spans that could not be written or encoded here.
    export_failed_local [lost] = "export.failed_local",
    /// Oldest spans dropped because a queue was full.
    export_dropped_full [lost] = "export.dropped_full",
    /// Spans left when the time for the last flush was over, or made after it.
    export_dropped_shutdown [lost] = "export.dropped_shutdown",
    /// Attempts that found no receiver or a busy one, to be made again.
    export_retries = "export.retries",
    /// Spans waiting in queues or on their way.
    export_queue_depth = "export.queue_depth",
    /// Connections to `serve.listen` that were ended before their answer had left: too slow, or too many at once.
    serve_cut = "serve.cut",
    /// Processes read from procfs.
    target_snapshots = "target.snapshots",
    /// Processes gone before procfs could be read: known by the kernel's name only, and marked so.
    target_gone = "target.gone",
    /// Snapshots and verdicts dropped for room.
    target_evicted = "target.evicted",
    /// Verdicts not told to the kernel side because too many waited.
    target_untold [lost] = "target.untold",
    /// Spans of processes that were traced for a moment and are not selected: what their pod is was not known
    /// yet, or something else was selected meanwhile.
    target_unselected = "target.unselected",
    /// Resources made.
    resource_made = "resource.made",
    /// Processes whose executable and user were not looked at in time, as their files are slow.
    resource_late = "resource.late",
    /// Programs whose spans went without what Kubernetes tells of their pod, or some of it, as it did not in time.
    resource_pod_late = "resource.pod_late",
    /// Exchanges that went on before all of their process was known, as too many waited for that.
    resource_hurried = "resource.hurried",
    /// Resources dropped for room.
    resource_evicted = "resource.evicted",
    /// OTEL_RESOURCE_ATTRIBUTES of a traced process that could not be read.
    resource_malformed = "resource.malformed",
    /// Records of a connection lost in the kernel's rings, as the next record of it says.
    connection_lost_records = "connection.lost_records",
    /// Bytes of streams missing because their records were lost.
    connection_lost_bytes = "connection.lost_bytes",
    /// Bytes of streams moved by calls the kernel side does not see.
    connection_unseen_bytes = "connection.unseen_bytes",
    /// Bytes seen twice; the second time is left out.
    connection_overlapping_bytes = "connection.overlapping_bytes",
    /// Captured bytes thrown away because a stream held too many.
    connection_overflow_bytes [lost] = "connection.overflow_bytes",
    /// Segments that had to share their time with a neighbour because a stream held too many.
    connection_runs_merged = "connection.runs_merged",
    /// Records of connections that were not introduced, or were given up since.
    connection_unknown [lost] = "connection.unknown",
    /// TLS sessions whose plaintext was seen and whose socket never was.
    connection_unbound [lost] = "connection.unbound",
    /// Connections given up because the table, or the room for what they hold, was full.
    connection_evicted [lost] = "connection.evicted",
    /// Unix and UDP connections forgotten after long silence, as nobody tells when one is closed.
    connection_expired = "connection.expired",
    /// Connections left alone because of their ports or addresses.
    connection_unselected = "connection.unselected",
    /// Connections left alone because no protocol knows them.
    protocol_unrecognised = "protocol.unrecognised",
    /// Connections left alone because they went on encrypted (TLS).
    protocol_encrypted = "protocol.encrypted",
    /// Of them, those whose plaintext is read in the process.
    protocol_decrypted = "protocol.decrypted",
    /// What hellos of living connections agreed on, forgotten for lack of room.
    protocol_handshakes_evicted = "protocol.handshakes_evicted",
    /// Encrypted connections that are counted without a line of their own at the end, as there are
    /// too many kinds.
    protocol_unread_merged = "protocol.unread_merged",
    /// Connections left alone because they stopped speaking their protocol.
    protocol_given_up [lost] = "protocol.given_up",
    /// Compressed messages that are passed over, and connections left alone because all that both sides
    /// say is compressed.
    protocol_compressed [lost] = "protocol.compressed",
    /// Connections left alone because they changed to another protocol (101, CONNECT).
    protocol_upgraded = "protocol.upgraded",
    /// Heads that began like a message and could not be read.
    protocol_unreadable [lost] = "protocol.unreadable",
    /// Times that what follows a message began like none.
    protocol_malformed = "protocol.malformed",
    /// Messages whose head was longer than is read, or said more than is kept.
    protocol_head_too_long [lost] = "protocol.head_too_long",
    /// Heads or framing that a hole cut.
    protocol_cut [lost] = "protocol.cut",
    /// Times a stream was skipped to the next recognisable message.
    protocol_resynced = "protocol.resynced",
    /// Requests shaped as in request smuggling.
    protocol_suspicious = "protocol.suspicious",
    /// Requests, answers and heads told in part, as something they refer to was said before the agent
    /// came or went by unseen, or as what they say could not be read.
    protocol_partial = "protocol.partial",
    /// Streams of a connection forgotten early, as too many were open.
    protocol_streams_forgotten [lost] = "protocol.streams_forgotten",
    /// Exchanges of HTTP whose bodies are not looked at any more, as too many of a connection are.
    protocol_taps_forgotten [lost] = "protocol.taps_forgotten",
    /// Entries forgotten of what messages refer to by a name or a number, as there are more than are
    /// kept here.
    protocol_entries_forgotten = "protocol.entries_forgotten",
    /// Batches of messages whose headers were not all read: compressed ones, long ones, and such as
    /// bytes are missing from.
    protocol_contexts_unread = "protocol.contexts_unread",
    /// Texts cut to the length that is kept.
    protocol_text_cut = "protocol.text_cut",
    /// Exchanges opened.
    exchange_opened = "exchange.opened",
    /// Exchanges that ended whole.
    exchange_complete = "exchange.complete",
    /// Exchanges cut by the end of their connection.
    exchange_broken = "exchange.broken",
    /// Exchanges that one side reset.
    exchange_reset = "exchange.reset",
    /// Exchanges that timed out.
    exchange_timed_out = "exchange.timed_out",
    /// Exchanges that ended in another protocol.
    exchange_upgraded = "exchange.upgraded",
    /// Exchanges given up, their end unknown.
    exchange_abandoned = "exchange.abandoned",
    /// Connections that turned out not to speak the protocol they were taken for.
    protocol_withdrawn = "protocol.withdrawn",
    /// Exchanges that make no span: polls that brought no message, and what a protocol found before it
    /// turned out not to be the connection's.
    exchange_dismissed = "exchange.dismissed",
    /// Responses whose request was not seen.
    exchange_unasked = "exchange.unasked",
    /// Open exchanges given up for lack of room.
    exchange_evicted [lost] = "exchange.evicted",
    /// Requests past the depth of pipelining that is followed.
    exchange_too_deep [lost] = "exchange.too_deep",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_told_apart() {
        let stats = Stats::default();
        stats.connection_evicted.add(3);
        stats.connection_unselected.add(5);
        let losses = stats.losses();
        assert!(losses.contains(&("connection.evicted", 3)));
        assert!(
            losses
                .iter()
                .all(|(name, _)| *name != "connection.unselected")
        );
    }
}
