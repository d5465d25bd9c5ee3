//! The headers of a message: a first line that may hold a status, then names and values.

use super::line::VERSION;
use crate::protocol::reader::{Reader, text};
use crate::protocol::{Carrier, messaging};
use crate::stats::Stats;

/// What is read of them.
#[derive(Debug, Default)]
pub(super) struct Headers {
    /// The message's trace context.
    pub(super) carrier: Option<Carrier>,
    /// The status of the first line: it is the server's word, and no message.
    pub(super) status: Option<u16>,
    /// A service's error, by its code (the clients' micro-services: ADR-32).
    pub(super) error: Option<String>,
}

/// Reads them, whole.
pub(super) fn read(bytes: &[u8], stats: &Stats) -> Headers {
    let mut headers = Headers::default();
    let mut reader = Reader::new(bytes);
    let first = reader.line().unwrap_or_default();
    let code = first.strip_prefix(VERSION).unwrap_or_default();
    let code = code.trim_ascii_start().get(..3);
    headers.status = code
        .and_then(|code| std::str::from_utf8(code).ok())
        .and_then(|code| code.parse().ok());
    while let Some(line) = reader.line() {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(SERVICE_ERROR) && !value.is_empty() {
            // Anybody may write anything there, and what is told is low in cardinality.
            let code = value.len() <= MAX_CODE && value.iter().all(u8::is_ascii_digit);
            headers.error = Some(match code {
                true => text(value, MAX_CODE, stats),
                false => OTHER.to_owned(),
            });
        }
        messaging::header(&mut headers.carrier, name, value, stats);
    }
    headers
}

const SERVICE_ERROR: &[u8] = b"Nats-Service-Error-Code";
/// Longest code of a service that is told as it is, and what stands for others.
const MAX_CODE: usize = 5;
const OTHER: &str = "_OTHER";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_digits_alone() {
        for (code, expected) in [
            ("400", Some("400")),
            ("", None),
            ("user 4711 is unknown", Some(OTHER)),
            ("123456", Some(OTHER)),
        ] {
            let bytes = format!("NATS/1.0\r\nNats-Service-Error-Code: {code}\r\n\r\n");
            let headers = read(bytes.as_bytes(), &Stats::default());
            assert_eq!(headers.error.as_deref(), expected, "{code}");
        }
    }
}
