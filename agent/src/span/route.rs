//! Paths become routes: few, and without identifiers. The user's patterns come first; else each
//! segment that looks like an identifier becomes `{id}`, `{uuid}`, `{hash}`, `{date}` or `{email}`.
//! A segment that cannot be told is kept only if it is a plain short word.
//!
//! A service has so many routes at a time; one that was not used for long makes room for another.
//! What was answered as nothing there makes none, so that a scanner's words take nobody's place.

use foldhash::{HashMap, HashMapExt as _};

use crate::config;
use crate::event::Nanos;
use crate::protocol::template;

/// The routes of all services.
#[derive(Debug)]
pub struct Routes {
    patterns: Vec<Pattern>,
    heuristics: bool,
    max_per_service: usize,
    services: HashMap<Box<str>, Known>,
    /// Routes of all services.
    total: usize,
}

/// The routes of one service, each with when it was last used.
#[derive(Debug, Default)]
struct Known {
    known: HashMap<Box<str>, Nanos>,
    /// When any was.
    used: Nanos,
    /// No route can be forgotten before.
    full_until: Nanos,
}

/// What is known of a request besides its path.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When it was answered.
    pub at: Nanos,
    /// Whether its path may make a route of its own: the answer did not say that there is no such
    /// thing.
    pub vouched: bool,
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
            services: HashMap::new(),
            total: 0,
        }
    }

    /// The route of `path` at `service`. `*` (OPTIONS) and the empty path have none.
    pub fn route(&mut self, service: &str, path: &str, seen: Seen) -> Routed {
        if !path.starts_with('/') {
            return Routed::None;
        }
        // Patterns are few by themselves.
        if let Some(pattern) = self.patterns.iter().find(|p| p.matches(path)) {
            return Routed::Route(pattern.text.to_string());
        }
        if !self.heuristics {
            return Routed::None;
        }
        let route = template(path);
        if self.admits(service, &route, seen) {
            Routed::Route(route)
        } else if seen.vouched {
            Routed::Capped
        } else {
            Routed::None
        }
    }

    fn admits(&mut self, service: &str, route: &str, seen: Seen) -> bool {
        if let Some(routes) = self.services.get_mut(service)
            && routes.has(route, seen.at)
        {
            return true;
        }
        if !seen.vouched || self.max_per_service == 0 {
            return false;
        }
        if !self.services.contains_key(service) && self.services.len() >= MAX_SERVICES {
            self.forget(service);
        }
        while self.total >= MAX_ROUTES && self.forget(service) {}
        if self.total >= MAX_ROUTES {
            return false;
        }
        let routes = self.services.entry(service.into()).or_default();
        let before = routes.known.len();
        let admitted = routes.add(route, seen.at, self.max_per_service);
        self.total = self.total.saturating_sub(before);
        self.total = self.total.saturating_add(routes.known.len());
        admitted
    }

    /// Forgets the service that was used least recently, but for this one; false if there is none.
    fn forget(&mut self, but: &str) -> bool {
        let others = self.services.iter().filter(|(name, _)| &***name != but);
        let oldest = others
            .min_by_key(|(_, routes)| routes.used)
            .map(|(name, _)| name.clone());
        let gone = oldest.and_then(|name| self.services.remove(&name));
        let count = gone.as_ref().map_or(0, |routes| routes.known.len());
        self.total = self.total.saturating_sub(count);
        gone.is_some()
    }
}

impl Known {
    fn has(&mut self, route: &str, at: Nanos) -> bool {
        let Some(used) = self.known.get_mut(route) else {
            return false;
        };
        *used = at.max(*used);
        self.used = at.max(self.used);
        true
    }

    /// Adds a route, in the place of one that was not used for [`AGE`] if there are too many.
    fn add(&mut self, route: &str, at: Nanos, most: usize) -> bool {
        if self.known.len() >= most {
            if at < self.full_until {
                return false;
            }
            let oldest = self.known.iter().min_by_key(|(_, used)| **used);
            let Some((oldest, used)) = oldest.map(|(route, used)| (route.clone(), *used)) else {
                return false;
            };
            // Looked at again only when there may be one.
            self.full_until = used.saturating_add(AGE);
            if at < self.full_until {
                return false;
            }
            self.known.remove(&oldest);
        }
        self.used = at.max(self.used);
        self.known.insert(route.into(), at);
        true
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
        out.push_str(template::name(segment).unwrap_or(segment));
    }
    out
}

/// Most segments looked at.
const MAX_SEGMENTS: usize = 12;
/// Most services with routes of their own; past that the one used least recently loses them.
const MAX_SERVICES: usize = 1024;
/// Most routes of all services; past that the service used least recently loses its own.
const MAX_ROUTES: usize = 32_768;
/// How long a route keeps its place without being used, nanoseconds.
const AGE: Nanos = 600_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::template::is_version;

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
            ("/@scope/package", "/{id}/package"),
            ("/u/jane@host", "/u/{id}"),
            ("/p/x@1.", "/p/{id}"),
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
            max_per_service: 1,
        });
        let mut check =
            |path: &str, want: Routed| assert_eq!(routes.route("s", path, OK), want, "{path}");
        let route = |r: &str| Routed::Route(r.into());
        check("/shop/red-shoes", route("/shop/{item}"));
        check("/files/x/y/z", route("/files/**"));
        check("/a/b/c", route("/a/*/c"));
        check("/shop/red/shoes", route("/shop/red/shoes"));
        check("/second", Routed::Capped);
        check("/shop/blue", route("/shop/{item}"));
        check("*", Routed::None);
        check("", Routed::None);
        assert_eq!(routes.route("other", "/second", OK), route("/second"));
    }

    const OK: Seen = Seen {
        at: 1,
        vouched: true,
    };
    const NOT_FOUND: Seen = Seen {
        at: 1,
        vouched: false,
    };

    fn few(max_per_service: usize) -> Routes {
        Routes::new(&config::Route {
            patterns: Vec::new(),
            heuristics: true,
            max_per_service,
        })
    }

    /// `/w/aa`, `/w/ab`, …: words, each a route.
    fn word(n: usize) -> String {
        let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
        format!("/w/{}{}{}", letter(n / 676), letter(n / 26), letter(n))
    }

    #[test]
    fn what_is_not_there_makes_no_route() {
        let mut routes = few(200);
        for n in 0..1000 {
            assert_eq!(routes.route("s", &word(n), NOT_FOUND), Routed::None);
        }
        let route = Routed::Route("/checkout/{id}".into());
        assert_eq!(routes.route("s", "/checkout/42", OK), route);
        // One that is there is used for what is not: an item, not a path.
        assert_eq!(routes.route("s", "/checkout/43", NOT_FOUND), route);
    }

    #[test]
    fn a_route_that_is_not_used_makes_room() {
        let mut routes = few(3);
        let mut ask = |path: &str, at: Nanos| {
            let seen = Seen { at, vouched: true };
            routes.route("s", path, seen) == Routed::Route(path.into())
        };
        for path in ["/a", "/b", "/c"] {
            assert!(ask(path, 1));
        }
        assert!(!ask("/d", 2));
        assert!(ask("/a", AGE / 2) && ask("/c", AGE / 2));
        assert!(!ask("/d", AGE));
        // The oldest goes; only one is old enough.
        assert!(ask("/d", AGE + 1));
        assert!(!ask("/b", AGE + 2));
        assert!(ask("/a", AGE + 3) && ask("/c", AGE + 3) && ask("/d", AGE + 3));
    }

    #[test]
    fn services_and_all_their_routes_are_bounded() {
        let mut routes = few(200);
        for n in 0..MAX_SERVICES * 2 {
            let seen = Seen {
                at: n as u64,
                vouched: true,
            };
            let route = routes.route(&format!("service-{n}"), "/a", seen);
            assert_eq!(route, Routed::Route("/a".into()));
        }
        assert_eq!(routes.services.len(), MAX_SERVICES);
        let late = MAX_SERVICES * 2;
        for n in 0..200 * 200 {
            let seen = Seen {
                at: (late + n) as u64,
                vouched: true,
            };
            let service = format!("many-{}", n / 200);
            assert_ne!(routes.route(&service, &word(n % 200), seen), Routed::Capped);
            assert!(routes.total <= MAX_ROUTES);
        }
        let sum: usize = routes.services.values().map(|r| r.known.len()).sum();
        assert_eq!(routes.total, sum);
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
