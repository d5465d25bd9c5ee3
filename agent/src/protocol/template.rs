//! Names that may hold identifiers (paths, topics, subjects) with what stands for them: low in
//! cardinality, as names of spans must be.
//!
//! Never true here: that a segment with a digit stays, unless it is a version or a known name.

use super::{Attribute, Request};

/// A destination of messages, its segments parted by `separator`, as low in cardinality; `None` where
/// it is so by itself.
pub fn of(destination: &str, separator: char) -> Option<String> {
    let is_id = |segment: &str| !is_joker(segment) && name(segment).is_some();
    let segments = || destination.split(separator);
    if segments().nth(MAX_SEGMENTS).is_none() && !segments().any(is_id) {
        return None;
    }
    let mut out = String::with_capacity(destination.len().min(128));
    for (at, segment) in segments().enumerate() {
        if at > 0 {
            out.push(separator);
        }
        if at >= MAX_SEGMENTS {
            out.push_str("{rest}");
            break;
        }
        let id = name(segment).filter(|_| !is_joker(segment));
        out.push_str(id.unwrap_or(segment));
    }
    Some(out)
}

/// Empty, or what brokers have for any segment, any rest, and names of their own (`$SYS`, `$share`).
fn is_joker(segment: &str) -> bool {
    let own = segment.strip_prefix('$');
    matches!(segment, "" | "*" | ">" | "+" | "#") || own.is_some_and(|own| name(own).is_none())
}

/// Names a span of messaging by this template, where its destination is high in cardinality.
pub fn apply(request: &mut Request, operation: &str, template: Option<String>) {
    if let Some(template) = template {
        request.operation = format!("{operation} {template}").into();
        let template = Attribute::text("messaging.destination.template", template);
        request.attributes.push(template);
    }
}

/// Most segments kept.
const MAX_SEGMENTS: usize = 12;

/// What stands for `segment`, or `None` where it stays.
pub fn name(segment: &str) -> Option<&'static str> {
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
    if is_email(segment) {
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
pub fn is_version(bytes: &[u8]) -> bool {
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

/// `jane@example.com`: something before the sign, and a dot behind it with something on both sides.
fn is_email(segment: &str) -> bool {
    let parts = segment
        .split_once('@')
        .or_else(|| segment.split_once("%40"));
    parts.is_some_and(|(who, place)| {
        let dotted = place.rsplit_once('.');
        !who.is_empty() && dotted.is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_do_not_stand_in_names() {
        for (destination, separator, expected) in [
            ("orders.new", '.', None),
            ("orders.v1.new", '.', None),
            ("orders.*", '.', None),
            ("orders.>", '.', None),
            ("$SYS/broker/uptime", '/', None),
            ("$share/workers/orders", '/', None),
            ("$KV.settings.key", '.', None),
            ("devices/$4711/up", '/', Some("devices/{id}/up")),
            ("$a81758fffe0123cd.up", '.', Some("{id}.up")),
            ("/leading/+/#", '/', None),
            ("orders.4711.new", '.', Some("orders.{id}.new")),
            (
                "devices/a81758fffe0123cd/up",
                '/',
                Some("devices/{hash}/up"),
            ),
            (
                "a/b/c/d/e/f/g/h/i/j/k/l/m/n",
                '/',
                Some("a/b/c/d/e/f/g/h/i/j/k/l/{rest}"),
            ),
        ] {
            assert_eq!(
                of(destination, separator).as_deref(),
                expected,
                "{destination}"
            );
        }
    }
}
