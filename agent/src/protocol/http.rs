//! HTTP semantics, whatever the version: heads become attributes of OpenTelemetry's stable HTTP
//! conventions (semantic-conventions 1.x, `docs/http/http-spans.md`) and the carrier of a trace
//! context.
//!
//! On the serving side the names of scheme, server and client follow the conventions' order:
//! `Forwarded` (RFC 7239), `X-Forwarded-*`, then the request's own authority. On the asking side
//! only what was asked for counts.
//!
//! Never true here: that a value is redacted or a path made a route (policy and span do that), or
//! that a text of more than [`MAX_TEXT`] bytes is kept.

pub mod over;

use std::borrow::Cow;

use super::likeness::Likeness;
use super::reader::{MAX_TEXT, text};
use super::{Attribute, Attributes, Carrier, Request, Response, Value};
use crate::config;
use crate::event::Role;
use crate::stats::Stats;

/// What a request's first line says.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Method, as sent, where it is known.
    pub method: Option<&'a str>,
    /// Request target (RFC 9112, 3.2) or, from HTTP/2 on, `:path`; where it is known.
    pub target: Option<&'a str>,
    /// The value of `network.protocol.version`.
    pub version: &'static str,
    /// What an authority without a scheme is reached by, where it is known.
    pub scheme: Option<&'static str>,
}

/// Reads a request's head. `headers` come in wire order, texts are cut to `keep` bytes.
pub fn request<'a>(
    protocol: &'static str,
    line: Line<'a>,
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    role: Role,
    (config, keep): (&config::Http, usize),
    stats: &Stats,
) -> Request {
    let mut attributes = Vec::with_capacity(8);
    let operation = match line.method {
        Some(sent) => method(sent, &config.known_methods, &mut attributes),
        None => Cow::Borrowed("HTTP"),
    };
    let mut found = Found::default();
    let mut handed_on = Likeness::default();
    for (name, value) in headers {
        found.take(name, value, stats);
        handed_on.take(name, value);
        if !config.request_headers.is_empty() {
            listed(
                "http.request.header.",
                name,
                value,
                &config.request_headers,
                &mut attributes,
                (keep, stats),
            );
        }
    }
    let target = match line.target {
        Some(target) => Target::of(line.method, target),
        None => Target::default(),
    };
    if role == Role::Client {
        found.forget_forwarding();
    }
    let scheme = found.scheme(target.scheme, line.scheme);
    attributes.extend(scheme.clone().map(|scheme| Attribute {
        key: Cow::Borrowed("url.scheme"),
        value: Value::Str(scheme),
    }));
    if let Some(path) = target.path {
        attributes.push(Attribute::text("url.path", of_str(path, keep, stats)));
    }
    if let Some(query) = target.query {
        attributes.push(Attribute::text("url.query", of_str(query, keep, stats)));
    }
    let server = found.server(target.authority);
    let usual = || scheme.as_deref().and_then(default_port);
    let server = server.map(|(host, port)| (host, port.or_else(usual)));
    end(["server.address", "server.port"], server, &mut attributes);
    // To a proxy a client writes the whole URL: whom it asks is there, not at the socket's end.
    if role == Role::Client
        && let Some(url) = scheme.and_then(|scheme| target.whole(&scheme))
    {
        attributes.push(Attribute::text("url.full", of_str(&url, keep, stats)));
    }
    let client = found.client();
    end(["client.address", "client.port"], client, &mut attributes);
    attributes.push(Attribute::fixed("network.protocol.version", line.version));
    if let Some(agent) = found.user_agent {
        let agent = text(agent, keep, stats);
        attributes.push(Attribute::text("user_agent.original", agent));
    }
    Request {
        carrier: found.carrier,
        likeness: handed_on.of(line.method, target.path, target.query),
        ..Request::call(protocol, operation, attributes)
    }
}

/// Pushes one end's name and port, where they are known.
fn end(keys: [&'static str; 2], known: Option<(&str, Option<u16>)>, attributes: &mut Attributes) {
    let [address, port] = keys;
    if let Some((host, number)) = known {
        attributes.push(Attribute::text(address, host.to_owned()));
        attributes.extend(number.map(|number| Attribute::int(port, i64::from(number))));
    }
}

/// Reads a final response's head; texts are cut to `keep` bytes. `code` where it is known.
pub fn response<'a>(
    code: Option<u16>,
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    (config, keep): (&config::Http, usize),
    stats: &Stats,
) -> Response {
    let mut attributes = Vec::with_capacity(2);
    let status = |code| Attribute::int("http.response.status_code", i64::from(code));
    attributes.extend(code.map(status));
    if !config.response_headers.is_empty() {
        for (name, value) in headers {
            listed(
                "http.response.header.",
                name,
                value,
                &config.response_headers,
                &mut attributes,
                (keep, stats),
            );
        }
    }
    let error = |from: u16| {
        let code = code.filter(|code| *code >= from)?;
        Some(Cow::Owned(code.to_string()))
    };
    Response {
        attributes,
        client_error: error(400),
        server_error: error(500),
        messages: Vec::new(),
    }
}

/// Pushes the method's attributes and returns the name it gives the span.
fn method(sent: &str, known: &[String], attributes: &mut Attributes) -> Cow<'static, str> {
    if !known.iter().any(|known| known == sent) {
        attributes.push(Attribute::fixed("http.request.method", "_OTHER"));
        let original = sent.to_owned();
        attributes.push(Attribute::text("http.request.method_original", original));
        return Cow::Borrowed("HTTP");
    }
    let name = match config::METHODS.into_iter().find(|&usual| usual == sent) {
        Some(usual) => Cow::Borrowed(usual),
        None => Cow::Owned(sent.to_owned()),
    };
    attributes.push(Attribute {
        key: Cow::Borrowed("http.request.method"),
        value: Value::Str(name.clone()),
    });
    name
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Adds a header that is to be recorded to its list of values.
fn listed(
    prefix: &str,
    name: &str,
    value: &[u8],
    wanted: &[String],
    attributes: &mut Attributes,
    (keep, stats): (usize, &Stats),
) {
    let Some(name) = wanted.iter().find(|w| w.eq_ignore_ascii_case(name)) else {
        return;
    };
    let value = text(value, keep, stats);
    let same = |a: &&mut Attribute| a.key.strip_prefix(prefix) == Some(name.as_str());
    if let Some(Value::List(values)) = attributes.iter_mut().find(same).map(|a| &mut a.value) {
        values.push(value);
        return;
    }
    attributes.push(Attribute {
        key: Cow::Owned(format!("{prefix}{name}")),
        value: Value::List(vec![value]),
    });
}

/// The parts of a request target that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Target<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: Option<&'a str>,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Tells the four forms apart (RFC 9112, 3.2): origin, absolute, authority, asterisk.
    fn of(method: Option<&str>, target: &'a str) -> Self {
        if method == Some("CONNECT") {
            return Self {
                authority: Some(target),
                ..Self::default()
            };
        }
        let (scheme, authority, rest) = match absolute(target) {
            Some((scheme, authority, rest)) => (Some(scheme), Some(authority), rest),
            None => (None, None, target),
        };
        let rest = split(rest, b'#').map_or(rest, |(before, _)| before);
        let (path, query) = match split(rest, b'?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        Self {
            scheme,
            authority,
            path: Some(if path.is_empty() { "/" } else { path }),
            query,
        }
    }
}

impl Target<'_> {
    /// The URL of the absolute form, without user information.
    fn whole(&self, scheme: &str) -> Option<String> {
        let authority = self.authority.filter(|text| authority(text).is_some())?;
        let path = self.scheme.and(self.path)?;
        let query = self.query.map(|query| format!("?{query}"));
        let query = query.unwrap_or_default();
        Some(format!("{scheme}://{authority}{path}{query}"))
    }
}

/// What is before and after the first `mark`, an ASCII character.
fn split(text: &str, mark: u8) -> Option<(&str, &str)> {
    let at = memchr::memchr(mark, text.as_bytes())?;
    Some((text.get(..at)?, text.get(at.saturating_add(1)..)?))
}

/// Scheme, authority without user information, and what follows.
fn absolute(target: &str) -> Option<(&str, &str, &str)> {
    if target.starts_with('/') {
        return None;
    }
    let (scheme, rest) = target.split_once("://")?;
    if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    Some((scheme, authority, rest))
}

/// Headers of a request that mean something here.
#[derive(Debug, Default)]
struct Found<'a> {
    host: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
    forwarded: Option<&'a [u8]>,
    forwarded_for: Option<&'a [u8]>,
    forwarded_host: Option<&'a [u8]>,
    forwarded_proto: Option<&'a [u8]>,
    carrier: Option<Box<Carrier>>,
}

impl<'a> Found<'a> {
    /// Sorts a header in by its name; the length tells most apart.
    fn take(&mut self, name: &str, value: &'a [u8], stats: &Stats) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let first = |slot: &mut Option<&'a [u8]>| {
            slot.get_or_insert(value);
        };
        match name.len() {
            4 if is("host") => first(&mut self.host),
            9 if is("forwarded") => first(&mut self.forwarded),
            10 if is("user-agent") => first(&mut self.user_agent),
            15 if is("x-forwarded-for") => first(&mut self.forwarded_for),
            16 if is("x-forwarded-host") => first(&mut self.forwarded_host),
            17 if is("x-forwarded-proto") => first(&mut self.forwarded_proto),
            11 if is("traceparent") => {
                self.carrier()
                    .traceparent
                    .push(text(value, MAX_TEXT, stats).into());
            }
            2 if is("b3") => join(&mut self.carrier().b3, value, stats),
            10 if is("tracestate") => join(&mut self.carrier().tracestate, value, stats),
            10 if is("x-b3-flags") => join(&mut self.carrier().b3_flags, value, stats),
            11 if is("x-b3-spanid") => join(&mut self.carrier().b3_span_id, value, stats),
            12 if is("x-b3-traceid") => join(&mut self.carrier().b3_trace_id, value, stats),
            12 if is("x-b3-sampled") => join(&mut self.carrier().b3_sampled, value, stats),
            _ => {}
        }
    }

    fn carrier(&mut self) -> &mut Carrier {
        self.carrier.get_or_insert_default()
    }

    fn forget_forwarding(&mut self) {
        self.forwarded = None;
        self.forwarded_for = None;
        self.forwarded_host = None;
        self.forwarded_proto = None;
    }

    fn scheme(
        &self,
        target: Option<&str>,
        default: Option<&'static str>,
    ) -> Option<Cow<'static, str>> {
        let forwarded = self.forwarded.and_then(|f| parameter(f, "proto"));
        let proto = self.forwarded_proto.and_then(first_of_list);
        let name = forwarded.or(proto).or(target).or(default)?;
        match name {
            _ if name.eq_ignore_ascii_case("http") => Some(Cow::Borrowed("http")),
            _ if name.eq_ignore_ascii_case("https") => Some(Cow::Borrowed("https")),
            _ if name.len() <= 16 && name.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                Some(Cow::Owned(name.to_ascii_lowercase()))
            }
            _ => default.map(Cow::Borrowed),
        }
    }

    fn server(&self, target: Option<&'a str>) -> Option<(&'a str, Option<u16>)> {
        let forwarded = self.forwarded.and_then(|f| parameter(f, "host"));
        let listed = || self.forwarded_host.and_then(first_of_list);
        let host = || self.host.and_then(|h| std::str::from_utf8(h).ok());
        forwarded
            .or_else(listed)
            .or(target)
            .or_else(host)
            .and_then(authority)
    }

    fn client(&self) -> Option<(&'a str, Option<u16>)> {
        let forwarded = self.forwarded.and_then(|f| parameter(f, "for"));
        let listed = || self.forwarded_for.and_then(first_of_list);
        let node = forwarded.or_else(listed)?;
        // RFC 7239, 6.2 and 6.3: a proxy may hide whom it speaks for.
        if node.eq_ignore_ascii_case("unknown") || node.starts_with('_') {
            return None;
        }
        // X-Forwarded-For has IPv6 addresses bare as well.
        if node.parse::<std::net::Ipv6Addr>().is_ok() {
            return Some((node, None));
        }
        authority(node)
    }
}

/// The first element of a comma-separated list, trimmed; none if empty or not text.
fn first_of_list(value: &[u8]) -> Option<&str> {
    let first = value.split(|&b| b == b',').next()?;
    let first = std::str::from_utf8(first).ok()?.trim();
    (!first.is_empty()).then_some(first)
}

/// A parameter of the first element of `Forwarded` (RFC 7239, 4), unquoted.
fn parameter<'a>(value: &'a [u8], name: &str) -> Option<&'a str> {
    let first = first_of_list(value)?;
    first.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (key.trim().eq_ignore_ascii_case(name) && !value.is_empty()).then_some(value)
    })
}

/// Host, without brackets, and port (RFC 3986, 3.2); none if it is not one.
fn authority(text: &str) -> Option<(&str, Option<u16>)> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match split(text, b':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let strange = |b: u8| {
        let mark = matches!(
            b,
            b'/' | b'?' | b'#' | b'@' | b'\\' | b'"' | b'<' | b'>' | b',' | b';'
        );
        b <= b' ' || b == 0x7f || mark
    };
    if host.is_empty() || host.len() > 255 || host.bytes().any(strange) {
        return None;
    }
    let port = port.filter(|p| !p.is_empty());
    if port.is_some_and(|p| p.contains(':')) {
        return None;
    }
    Some((host, port.and_then(|p| p.parse().ok())))
}

/// Appends a value to those of the same name (RFC 9110, 5.3).
fn join(slot: &mut Option<Box<str>>, value: &[u8], stats: &Stats) {
    let value = text(value, MAX_TEXT, stats);
    *slot = Some(match slot.take() {
        Some(before) if before.len() < MAX_TEXT => format!("{before},{value}").into(),
        Some(before) => before,
        None => value.into(),
    });
}

/// As [`text`], of what is text already.
fn of_str(value: &str, keep: usize, stats: &Stats) -> String {
    if value.len() > keep {
        return text(value.as_bytes(), keep, stats);
    }
    value.to_owned()
}

#[cfg(test)]
mod tests;
