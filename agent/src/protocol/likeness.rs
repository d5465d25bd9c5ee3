//! What a proxy hands on of an HTTP request as it came, as one number: its method, its target and those
//! headers that are for who answers in the end (RFC 9110, 7.6.1, and what proxies are seen to leave alone).
//! Nothing that proxies write or take away counts: Host, Connection, Via, Forwarded and its kin, what is
//! said of encodings and of caches.
//!
//! The number is of this process alone: whoever sends requests cannot make two of them agree.

use std::hash::BuildHasher;
use std::num::NonZeroU64;
use std::sync::LazyLock;

use foldhash::quality::RandomState;

static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Made of a request's headers one by one, in any order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Likeness {
    headers: u64,
}

impl Likeness {
    /// Takes in a header, if it is one that is handed on. Empty ones are none: FastCGI has them for those
    /// that are not there.
    pub fn take(&mut self, name: &str, value: &[u8]) {
        let known = || HANDED_ON.iter().find(|h| h.eq_ignore_ascii_case(name));
        if value.is_empty() {
            return;
        }
        let Some(name) = known() else { return };
        if *name == "cookie" {
            // Of HTTP/2 each may have a header of its own (RFC 9113, 8.2.3).
            for cookie in value.split(|&byte| byte == b';') {
                self.add(name, cookie.trim_ascii());
            }
        } else {
            self.add(name, value);
        }
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        self.headers = self.headers.wrapping_add(KEY.hash_one((name, value)));
    }

    /// That of a request with this method, path and query, if the first two are known.
    pub fn of(
        self,
        method: Option<&str>,
        path: Option<&str>,
        query: Option<&str>,
    ) -> Option<NonZeroU64> {
        let (method, path) = method.zip(path)?;
        NonZeroU64::new(KEY.hash_one((method, path, query, self.headers)))
    }
}

/// Headers that proxies hand on and do not write.
const HANDED_ON: [&str; 9] = [
    "accept",
    "accept-language",
    "authorization",
    "content-length",
    "content-type",
    "cookie",
    "origin",
    "referer",
    "user-agent",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&str, &str)], path: &str) -> Option<NonZeroU64> {
        let mut likeness = Likeness::default();
        for (name, value) in headers {
            likeness.take(name, value.as_bytes());
        }
        likeness.of(Some("GET"), Some(path), Some("a=1"))
    }

    #[test]
    fn what_is_handed_on_counts_and_nothing_else() {
        let sent = [("Host", "shop"), ("Accept", "*/*"), ("Cookie", "a=1; b=2")];
        let handed_on = [
            ("cookie", "b=2"),
            ("cookie", "a=1"),
            ("host", "127.0.0.1:1"),
            ("accept", "*/*"),
            ("x-forwarded-for", "10.0.0.1"),
            ("content-type", ""),
        ];
        assert_eq!(of(&sent, "/"), of(&handed_on, "/"));
        assert_ne!(of(&sent, "/"), of(&sent, "/b"));
        assert_ne!(of(&sent, "/"), of(&sent[..2], "/"));
        let other = [("Accept", "text/html"), sent[2]];
        assert_ne!(of(&sent, "/"), of(&other, "/"));
    }
}
