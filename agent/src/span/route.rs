//! Paths become routes: few, and without identifiers. The user's patterns come first; else each
//! segment that looks like an identifier becomes `{id}`, `{uuid}`, `{hash}`, `{date}` or `{email}`.
//! A segment that cannot be told is kept only if it is a plain short word.

use std::collections::{HashMap, HashSet};

use crate::config;

/// The routes of all services.
#[derive(Debug)]
pub struct Routes {
    patterns: Vec<Pattern>,
    heuristics: bool,
    max_per_service: usize,
    seen: HashMap<Box<str>, HashSet<Box<str>>>,
}

/// What became of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routed {
    /// Its route.
    Route(String),
    /// It has none.
    None,
    /// Its service has too many.
    Capped,
}

#[derive(Debug)]
struct Pattern {
    text: Box<str>,
    segments: Vec<Segment>,
    rest: bool,
}

#[derive(Debug)]
enum Segment {
    Any,
    Is(Box<str>),
}

impl Routes {
    /// As configured.
    pub fn new(config: &config::Route) -> Self {
        Self {
            patterns: config.patterns.iter().map(|p| Pattern::new(p)).collect(),
            heuristics: config.heuristics,
            max_per_service: config.max_per_service,
            seen: HashMap::new(),
        }
    }

    /// The route of `path` at `service`. `*` (OPTIONS) and the empty path have none.
    pub fn route(&mut self, service: &str, path: &str) -> Routed {
        if !path.starts_with('/') {
            return Routed::None;
        }
        let matching = self.patterns.iter().find(|p| p.matches(path));
        let route = match matching {
            Some(pattern) => pattern.text.to_string(),
            None if self.heuristics => template(path),
            None => return Routed::None,
        };
        if self.admits(service, &route) {
            Routed::Route(route)
        } else {
            Routed::Capped
        }
    }

    fn admits(&mut self, service: &str, route: &str) -> bool {
        if !self.seen.contains_key(service) {
            if self.seen.len() >= MAX_SERVICES {
                return false;
            }
            self.seen.insert(service.into(), HashSet::new());
        }
        let Some(routes) = self.seen.get_mut(service) else {
            return false;
        };
        if routes.contains(route) {
            return true;
        }
        routes.len() < self.max_per_service && routes.insert(route.into())
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        let mut parts: Vec<&str> = text.trim_start_matches('/').split('/').collect();
        let rest = parts.last() == Some(&"**");
        if rest {
            parts.pop();
        }
        let segments = parts
            .into_iter()
            .map(|part| {
                let named = part.starts_with('{') && part.ends_with('}');
                if named || part == "*" {
                    Segment::Any
                } else {
                    Segment::Is(part.into())
                }
            })
            .collect();
        Self {
            text: text.into(),
            segments,
            rest,
        }
    }

    fn matches(&self, path: &str) -> bool {
        let mut parts = path.trim_start_matches('/').split('/');
        for segment in &self.segments {
            match (segment, parts.next()) {
                (_, None) => return false,
                (Segment::Any, Some("")) => return false,
                (Segment::Any, Some(_)) => {}
                (Segment::Is(text), Some(part)) if part == &**text => {}
                (Segment::Is(_), Some(_)) => return false,
            }
        }
        self.rest || parts.next().is_none()
    }
}

/// Replaces every segment that is, or might be, an identifier.
pub fn template(path: &str) -> String {
    let mut out = String::with_capacity(path.len().min(128));
    let trimmed = path.trim_start_matches('/');
    for (at, segment) in trimmed.split('/').enumerate() {
        out.push('/');
        if at >= MAX_SEGMENTS {
            out.push_str("{rest}");
            break;
        }
        // Parameters of a segment (`;jsessionid=…`) say nothing about the route.
        let segment = match segment.bytes().position(|b| b == b';') {
            Some(end) => segment.get(..end).unwrap_or_default(),
            None => segment,
        };
        out.push_str(name(segment).unwrap_or(segment));
    }
    out
}

/// What stands for `segment`, or `None` where it stays.
fn name(segment: &str) -> Option<&'static str> {
    let bytes = segment.as_bytes();
    // Most segments are a short word or a number.
    if bytes.len() < 6 && bytes.iter().all(u8::is_ascii_lowercase) {
        return None;
    }
    if bytes.iter().all(u8::is_ascii_digit) {
        return Some("{id}");
    }
    if is_version(bytes) {
        return None;
    }
    let all = |is: fn(&u8) -> bool| bytes.iter().all(is);
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = bytes.iter().filter(|b| b.is_ascii_alphabetic()).count();
    if bytes.contains(&b'@') || bytes.windows(3).any(|w| w == b"%40") {
        return Some("{email}");
    }
    if is_uuid(bytes) {
        return Some("{uuid}");
    }
    if is_date(bytes) {
        return Some("{date}");
    }
    if bytes.len() >= 16 && all(u8::is_ascii_hexdigit) {
        return Some("{hash}");
    }
    if bytes.len() > MAX_WORD || digits > 0 || !all(is_word) || letters == 0 {
        return Some("{id}");
    }
    let stem = segment.split('.').next().unwrap_or_default();
    (looks_random(stem) || (bytes.len() >= 6 && all(u8::is_ascii_hexdigit))).then_some("{id}")
}

/// `v1`, `v2beta3`, `api2`-like versions and a few well-known names with digits are routes.
fn is_version(bytes: &[u8]) -> bool {
    match bytes {
        [b'v' | b'V', rest @ ..] => {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let after = rest.get(digits..).unwrap_or_default();
            let minor = |b: &[u8]| b.len() <= 2 && b.iter().all(u8::is_ascii_digit);
            let stage = ["", "alpha", "beta", "rc"]
                .iter()
                .any(|stage| after.strip_prefix(stage.as_bytes()).is_some_and(minor));
            let dotted = after.strip_prefix(b".").is_some_and(minor);
            (1..=2).contains(&digits) && (stage || dotted)
        }
        _ => KNOWN.iter().any(|known| known.as_bytes() == bytes),
    }
}

/// 8-4-4-4-12 hex digits, with or without braces.
fn is_uuid(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"{").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"}").unwrap_or(bytes);
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// `2024-01-31`, also with `_` or `.`.
fn is_date(bytes: &[u8]) -> bool {
    bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, b)| match at {
            4 | 7 => b"-_.".contains(b),
            _ => b.is_ascii_digit(),
        })
}

fn is_word(b: &u8) -> bool {
    b.is_ascii_alphabetic() || b"-_.~".contains(b)
}

/// Mixed case inside words, or long runs without vowels: base64-like ids that have no digit.
fn looks_random(stem: &str) -> bool {
    let (mut flips, mut consonants, mut run) = (0u32, 0u32, 0u32);
    let mut last: Option<u8> = None;
    for b in stem.bytes() {
        if last.is_some_and(|l| l.is_ascii_lowercase()) && b.is_ascii_uppercase() {
            flips = flips.saturating_add(1);
        }
        let vowel = matches!(
            b.to_ascii_lowercase(),
            b'a' | b'e' | b'i' | b'o' | b'u' | b'y'
        );
        run = if b.is_ascii_alphabetic() && !vowel {
            run.saturating_add(1)
        } else {
            0
        };
        consonants = consonants.max(run);
        last = Some(b);
    }
    // `getUserById` has few capitals for its length.
    let dense = stem.len().saturating_mul(2) < flips.saturating_add(1).saturating_mul(5) as usize;
    (flips >= 3 && dense) || (stem.len() >= 7 && consonants >= 6)
}

/// Names with digits that are not identifiers.
const KNOWN: [&str; 12] = [
    "oauth2", "oauth1", "saml2", "s3", "ec2", "k8s", "i18n", "l10n", "base64", "md5", "sha256",
    "h2c",
];
/// Longest word kept.
const MAX_WORD: usize = 40;
/// Most segments looked at.
const MAX_SEGMENTS: usize = 12;
/// Most services with routes of their own.
const MAX_SERVICES: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(path: &str, expected: &str) {
        assert_eq!(template(path), expected, "{path}");
    }

    #[test]
    fn identifiers_are_named() {
        for (path, expected) in [
            ("/", "/"),
            ("/users/42", "/users/{id}"),
            ("/users/42/", "/users/{id}/"),
            ("/sync/chain/sync-chain-001", "/sync/chain/{id}"),
            ("/order-123/items", "/{id}/items"),
            ("/api/v1/users", "/api/v1/users"),
            ("/api/v1beta2/pods", "/api/v1beta2/pods"),
            ("/api/v1.2/pods", "/api/v1.2/pods"),
            ("/api/v123/pods", "/api/{id}/pods"),
            ("/f/550e8400-e29b-41d4-a716-446655440000", "/f/{uuid}"),
            ("/c/4bf92f3577b34da6a3ce929d0e0e4736", "/c/{hash}"),
            ("/c/deadbeef", "/c/{id}"),
            ("/log/2024-01-31", "/log/{date}"),
            ("/u/jane.doe@example.com/x", "/u/{email}/x"),
            ("/u/jane%40example.com", "/u/{email}"),
            ("/s/dQwWgXcQabc", "/s/{id}"),
            ("/s/hTyNbVcXz", "/s/{id}"),
            ("/a;jsessionid=1234/b", "/a/b"),
            ("/oauth2/token", "/oauth2/token"),
            ("/no-such-thing/x", "/no-such-thing/x"),
            ("/getUserById/list", "/getUserById/list"),
            ("/static/main.css", "/static/main.css"),
            ("/static/app.4f3a2b1c.js", "/static/{id}"),
            ("/search/caf%C3%A9", "/search/{id}"),
            ("/search/café", "/search/{id}"),
            ("/-/metrics", "/{id}/metrics"),
            (
                "/a/b/c/d/e/f/g/h/i/j/k/l/m/n",
                "/a/b/c/d/e/f/g/h/i/j/k/l/{rest}",
            ),
        ] {
            check(path, expected);
        }
    }

    #[test]
    fn patterns_come_first_and_routes_are_capped() {
        let mut routes = Routes::new(&config::Route {
            patterns: vec!["/shop/{item}".into(), "/files/**".into(), "/a/*/c".into()],
            heuristics: true,
            max_per_service: 4,
        });
        let mut check =
            |path: &str, want: Routed| assert_eq!(routes.route("s", path), want, "{path}");
        let route = |r: &str| Routed::Route(r.into());
        check("/shop/red-shoes", route("/shop/{item}"));
        check("/files/x/y/z", route("/files/**"));
        check("/a/b/c", route("/a/*/c"));
        check("/shop/red/shoes", route("/shop/red/shoes"));
        check("/fifth", Routed::Capped);
        check("/shop/blue", route("/shop/{item}"));
        check("*", Routed::None);
        check("", Routed::None);
        assert_eq!(routes.route("other", "/fifth"), route("/fifth"));
    }

    proptest! {
        #[test]
        fn no_digit_run_survives(path in "(/[a-zA-Z0-9._~%-]{0,30}){1,6}") {
            let got = template(&path);
            for segment in got.split('/') {
                let digits = segment.bytes().filter(u8::is_ascii_digit).count();
                prop_assert!(digits == 0 || is_version(segment.as_bytes()), "{} -> {}", path, got);
            }
        }

        #[test]
        fn templates_are_stable(path in "(/[a-z]{1,6}|/[0-9]{1,9}){1,6}") {
            let other: String = path.chars().map(|c| if c.is_ascii_digit() { '7' } else { c }).collect();
            prop_assert_eq!(template(&path), template(&other));
        }

        #[test]
        fn any_text_ends(path in "\\PC*") {
            let _ = template(&path);
        }
    }
}
