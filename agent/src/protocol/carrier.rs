//! What a message says about its trace, in words of the wire.

use smallvec::SmallVec;

/// Headers that may carry a trace context, as found on the wire; `trace` judges them.
/// Values are as sent, trimmed; several of one name are joined with `,` in wire order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carrier {
    /// `traceparent`: every value found, since more than one makes it invalid.
    pub traceparent: SmallVec<[Box<str>; 1]>,
    /// `tracestate`.
    pub tracestate: Option<Box<str>>,
    /// `b3`.
    pub b3: Option<Box<str>>,
    /// `x-b3-traceid`.
    pub b3_trace_id: Option<Box<str>>,
    /// `x-b3-spanid`.
    pub b3_span_id: Option<Box<str>>,
    /// `x-b3-sampled`.
    pub b3_sampled: Option<Box<str>>,
    /// `x-b3-flags`.
    pub b3_flags: Option<Box<str>>,
}

impl Carrier {
    /// What it costs to hold, in bytes.
    pub fn weight(&self) -> usize {
        let Self {
            traceparent,
            tracestate,
            b3,
            b3_trace_id,
            b3_span_id,
            b3_sampled,
            b3_flags,
        } = self;
        [
            tracestate,
            b3,
            b3_trace_id,
            b3_span_id,
            b3_sampled,
            b3_flags,
        ]
        .into_iter()
        .flatten()
        .chain(traceparent)
        .map(|text| text.len())
        .fold(size_of::<Self>(), usize::saturating_add)
    }
}
