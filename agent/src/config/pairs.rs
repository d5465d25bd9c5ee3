//! The forms of values that are names with values: OTLP headers, resource attributes. As one text
//! they are comma-separated and percent-encoded, as the standard variables have them; as flags or in
//! the file they are taken as they are.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::form::{Form, Raw, Shape, Shown, many};

/// Names and values in order, the last of one name wins.
pub struct Headers;

impl Form for Headers {
    type Value = Vec<(String, String)>;
    const SHAPE: Shape = Shape::Pairs;

    fn parse(&self, raw: &Raw) -> Result<Self::Value, String> {
        let mut headers: Self::Value = Vec::new();
        for (name, value) in pairs(raw)? {
            let name = name.to_ascii_lowercase();
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(format!("`{name}` is not a header name"));
            }
            if value.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f) {
                return Err(format!("the value of `{name}` holds a control character"));
            }
            headers.retain(|(n, _)| *n != name);
            headers.push((name, value));
        }
        Ok(headers)
    }

    fn show(&self, value: &Self::Value) -> Shown {
        // What headers hold is mostly credentials: shown is that they are there.
        let hidden = |(name, _): &(String, String)| (name.clone(), "[redacted]".to_owned());
        Shown::Pairs(value.iter().map(hidden).collect())
    }
}

/// Names and values, sorted.
pub struct Attributes;

impl Form for Attributes {
    type Value = BTreeMap<String, String>;
    const SHAPE: Shape = Shape::Pairs;

    fn parse(&self, raw: &Raw) -> Result<Self::Value, String> {
        let pairs = pairs(raw)?;
        match pairs.iter().any(|(name, _)| name.is_empty()) {
            true => Err("an attribute without a name".into()),
            false => Ok(pairs.into_iter().collect()),
        }
    }

    fn show(&self, value: &Self::Value) -> Shown {
        Shown::Pairs(value.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

fn pairs(raw: &Raw) -> Result<Vec<(String, String)>, String> {
    let (texts, encoded) = match raw {
        Raw::Pairs(pairs) => return Ok(pairs.clone()),
        Raw::Text(_) => (many(raw)?, true),
        Raw::Many(_) => (many(raw)?, false),
    };
    // A value may be a secret: what is wrong is told by its place and its name.
    texts
        .into_iter()
        .zip(1..)
        .map(|(text, place)| {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| format!("expected name=value, entry {place} is not"))?;
            let (name, value) = (name.trim(), value.trim());
            let bad = || format!("`{name}` is not percent-encoded UTF-8");
            match encoded {
                true => Ok((
                    decode(name).ok_or_else(bad)?,
                    decode(value).ok_or_else(bad)?,
                )),
                false => Ok((name.to_owned(), value.to_owned())),
            }
        })
        .collect()
}

/// Undoes percent-encoding; none where it is not UTF-8 or not encoded well.
pub fn decode(text: &str) -> Option<String> {
    let hex = |behind: &str| {
        let digits = behind.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(hex) {
        return None;
    }
    let plain = percent_decode_str(text).decode_utf8().ok()?;
    Some(plain.into_owned())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
