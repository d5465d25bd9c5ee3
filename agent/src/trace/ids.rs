//! Trace and span ids: random ones from a seeded generator, and the one that two hosts derive.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use agent_ebpf::key;

use super::{SpanId, TraceId};
use crate::exchange::MessageKey;

/// xoshiro256++ (Blackman and Vigna, 2019): fast, equidistributed, not for secrets.
#[derive(Clone, Debug)]
pub struct Ids([u64; 4]);

impl Ids {
    /// The same seed gives the same ids: for tests and replays.
    pub fn from_seed(seed: u64) -> Self {
        // splitmix64, as the generator's authors advise; its outputs are never all zero.
        let mut state = seed;
        Self([(); 4].map(|()| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    /// Seeded from the operating system's randomness, through the standard library's hash keys.
    pub fn random() -> Self {
        let keys = RandomState::new();
        let mut seed = [1u64, 2, 3, 4].map(|n| keys.hash_one(n));
        if seed == [0; 4] {
            seed = [1; 4];
        }
        Self(seed)
    }

    /// A new trace id, never zero; all its bits are random (W3C flag 0x02).
    pub fn trace(&mut self) -> TraceId {
        loop {
            let id = u128::from(self.next()) << 64 | u128::from(self.next());
            if id != 0 {
                return TraceId(id.to_be_bytes());
            }
        }
    }

    /// A new span id, never zero.
    pub fn span(&mut self) -> SpanId {
        loop {
            let id = self.next();
            if id != 0 {
                return SpanId(id.to_be_bytes());
            }
        }
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let out = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let t = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= t;
        *d = d.rotate_left(45);
        out
    }
}

/// The span id of the client side of a message, which any host that sees the message can derive:
/// [`agent_ebpf::key::client_span`], written big endian.
pub fn client_span(key: &MessageKey) -> SpanId {
    let stream = [key.stream.client, key.stream.server];
    SpanId(key::client_span(stream, key.offset, key.number).to_be_bytes())
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::event::StreamKey;

    #[test]
    fn client_spans_are_stable_and_distinct() {
        let key = |client, offset| MessageKey {
            stream: StreamKey { client, server: 9 },
            offset,
            number: 0,
        };
        assert_eq!(client_span(&key(1, 2)), client_span(&key(1, 2)));
        let all: HashSet<_> = (0..100)
            .flat_map(|c| (0..100).map(move |o| (c, o)))
            .map(|(c, o)| client_span(&key(c, o)))
            .collect();
        assert_eq!(all.len(), 10_000);
    }

    #[test]
    fn ids_differ_and_follow_their_seed() {
        let (mut a, mut b, mut c) = (Ids::from_seed(1), Ids::from_seed(1), Ids::random());
        assert_eq!(a.trace(), b.trace());
        let all: HashSet<_> = (0..10_000)
            .map(|_| a.trace())
            .chain((0..10_000).map(|_| c.trace()))
            .collect();
        assert_eq!(all.len(), 20_000);
    }
}
