//! What the kernel side counts.

/// Slots of the per-CPU counter map: one for each way the kernel side can lose or leave something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Segments delivered.
    Segments = 0,
    /// Payload bytes delivered.
    Bytes = 1,
    /// Records refused by a full ring.
    RingFull = 2,
    /// Payload that could not be read.
    Faults = 3,
    /// Bytes left out by the budget.
    Budgeted = 4,
    /// Calls of connections that are muted.
    Muted = 5,
    /// Calls by processes that are not selected, on connections that are not muted. The fall-back
    /// path asks for the process first: there, its calls on muted connections and on files count.
    Unselected = 6,
    /// Calls by 32-bit programs.
    Compat = 7,
    /// Calls without a user buffer (sendfile, splice, io_uring, MSG_TRUNC).
    NoBuffer = 8,
    /// Connections that no state could be kept for.
    NoState = 9,
    /// Processes whose exec or end was not told, as the ring was full.
    UntoldProcesses = 10,
    /// Calls of TLS libraries whose plaintext was not copied, as every place to do so was in use.
    Crowded = 11,
    /// TLS sessions whose records went over a second socket.
    SecondSocket = 12,
    /// What was found in a TLS library's memory is not what it was taken for; calls inside of calls.
    Misshapen = 13,
    /// Requests that began with a TCP option of ours.
    OptionsRead = 14,
    /// TCP options written: once more for each time a segment is sent again.
    OptionsWritten = 15,
    /// Segments with the first byte of a request that had no room for the option.
    OptionsWithoutRoom = 16,
    /// Segments with the first bytes of several requests: the first one's option is on it.
    OptionsShared = 17,
    /// TCP options of our kind that are not ours, or not of their connection.
    OptionsForeign = 18,
    /// Requests whose trace is not known as they are sent.
    Uncarried = 19,
    /// `traceparent` lines put into requests.
    HeadersWritten = 20,
    /// Connections that were not visited, as their sockets block, may be sent from without a copy, or are
    /// not a file's own (MPTCP, the kernel's). Where one came to be so meanwhile, its process is visited no
    /// more.
    HeadersUnfit = 21,
    /// Connections that were not, as there was no room, or another's map has their sockets.
    HeadersCrowded = 22,
    /// Connections on which something went before the first request: with the SYN, or as a greeting.
    HeadersLate = 23,
    /// First requests whose trace is not known.
    HeadersRootless = 24,
    /// First messages that are no whole head of HTTP/1, or too long.
    HeadersHeadless = 25,
    /// First requests that have a `traceparent`.
    HeadersPresent = 26,
    /// First requests that the kernel had no memory for.
    HeadersRefused = 27,
    /// Segments with an option that were sent again, or were answered by a reset.
    OptionsLost = 28,
    /// Streams of HTTP/2 in Go programs whose connection is of a type that is not known, or was not seen.
    StreamsUnknown = 29,
}
/// Number of [`Counter`]s.
pub const COUNTERS: u32 = 30;
