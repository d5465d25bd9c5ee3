//! How traces go on in other hosts.

/// How a request's trace id is carried to another host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Carrying {
    /// Not at all: only what programs send themselves.
    Off,
    /// By a TCP option on the request's first segment.
    #[default]
    Option,
    /// By that, and by a `traceparent` line in the first request of a connection.
    Header,
}
