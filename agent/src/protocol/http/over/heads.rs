//! What applications share that read what heads say.
//!
//! Never true here: that a name or a value is told which is no text.

use percent_encoding::percent_decode_str;

/// Names and values of a query, as sent; a name without a value has an empty one.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// A part of a URL without its percent-encoding (RFC 3986, 2.1), where that is a text.
pub(super) fn decoded(part: &str) -> Option<String> {
    let broken = |three: &[u8]| {
        let hex = three.strip_prefix(b"%");
        hex.is_some_and(|hex| !hex.iter().all(u8::is_ascii_hexdigit))
    };
    if part.as_bytes().windows(3).any(broken) {
        return None;
    }
    let text = percent_decode_str(part).decode_utf8().ok()?;
    (text.len() <= LONGEST && !text.contains('\0')).then(|| text.into_owned())
}

/// Longest part that is told; a key of S3 has 1024 bytes.
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_decoded_once() {
        for (part, want) in [
            ("a%20key/%C3%A4", Some("a key/ä")),
            ("100%", Some("100%")),
            ("%2525", Some("%25")),
            ("%zz", None),
            ("%ff", None),
            ("a%00b", None),
        ] {
            assert_eq!(decoded(part).as_deref(), want, "{part}");
        }
        assert_eq!(decoded(&"x".repeat(LONGEST + 1)), None);
        let all: Vec<_> = parameters("a=1&&b&c==").collect();
        assert_eq!(all, [("a", "1"), ("b", ""), ("c", "=")]);
    }
}
