//! The head of what an application writes to STDOUT: fields as CGI has them (RFC 3875, 6).

use crate::config;
use crate::protocol::{Response, http};
use crate::stats::Stats;

/// Longest head that is read, bytes.
pub const MAX_HEAD: usize = 64 * 1024;

/// Looks for the empty line that ends a head, wherever it is cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// Whether the line under way has a byte but for CR.
    filled: bool,
}

impl Scan {
    /// Bytes to the end of the head, if it is among these, which follow those seen before.
    pub fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut from = 0usize;
        while let Some(rest) = bytes.get(from..).filter(|rest| !rest.is_empty()) {
            let end = memchr::memchr(b'\n', rest);
            let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            self.filled |= !matches!(line, b"" | b"\r");
            let Some(end) = end else {
                break;
            };
            from = from.saturating_add(end).saturating_add(1);
            if !std::mem::take(&mut self.filled) {
                return Some(from);
            }
        }
        None
    }
}

/// Reads a whole head; `None` if it is none.
pub fn response(head: &[u8], config: (&config::Http, usize), stats: &Stats) -> Option<Response> {
    let mut lines = head.split(|b| *b == b'\n').peekable();
    // Some write HTTP's own first line, which web servers take as well.
    let first = lines
        .next_if(|line| line.starts_with(b"HTTP/"))
        .and_then(|line| line.splitn(2, |b| *b == b' ').nth(1));
    let fields: Vec<(&str, &[u8])> = lines.filter_map(field).collect();
    if first.is_none() && fields.is_empty() {
        return None;
    }
    let find = |name: &str| {
        let is = |(known, _): &&(&str, &[u8])| known.eq_ignore_ascii_case(name);
        fields.iter().find(is).map(|(_, value)| *value)
    };
    let code = match (first.or_else(|| find("status")), find("location")) {
        (Some(status), _) => Some(code(status)?),
        // RFC 3875, 6.2: a path is for the web server to go on with, and its answer is not known.
        (None, Some(location)) if location.starts_with(b"/") => None,
        (None, Some(_)) => Some(302),
        (None, None) => Some(200),
    };
    let fields = fields.iter().copied();
    Some(http::response(code, fields, config, stats))
}

fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let at = memchr::memchr(b':', line)?;
    let name = std::str::from_utf8(line.get(..at)?).ok()?;
    let value = line.get(at.saturating_add(1)..)?.trim_ascii();
    (!name.is_empty()).then_some((name, value))
}

/// `404 Not Found`.
fn code(status: &[u8]) -> Option<u16> {
    let (digits, rest) = status.trim_ascii_start().split_first_chunk::<3>()?;
    let code = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
    (ends && (100..600).contains(&code)).then_some(code)
}
