//! `OTEL_RESOURCE_ATTRIBUTES` of a traced process: `key=value` pairs, comma-separated, values (and
//! keys) percent-encoded. By the specification, anything malformed discards all of it.

use crate::config::pairs::decode;

/// The pairs, in order; `None` if malformed. Where a key comes twice the last one counts.
pub fn parse(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for member in text
        .split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty())
    {
        let (key, value) = member.split_once('=')?;
        let key = decode(key.trim())?;
        let value = decode(value.trim())?;
        if key.is_empty() {
            return None;
        }
        // What describes the observer is not the observed's to say.
        if key.starts_with("telemetry.") {
            continue;
        }
        if let Some(pair) = pairs.iter_mut().find(|(known, _)| *known == key) {
            pair.1 = value;
        } else if pairs.len() < MAX_PAIRS {
            pairs.push((key, value));
        }
    }
    Some(pairs)
}

const MAX_PAIRS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&[(&str, &str)]>) {
        let expected = expected.map(|pairs| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<Vec<_>>()
        });
        assert_eq!(parse(text), expected, "{text}");
    }

    #[test]
    fn declared_attributes() {
        check("", Some(&[]));
        check("service.name=shop", Some(&[("service.name", "shop")]));
        check(
            " a = b , service.version=1%2C2%20x ,",
            Some(&[("a", "b"), ("service.version", "1,2 x")]),
        );
        check("a=%C3%B1", Some(&[("a", "ñ")]));
        check("a=ñ", Some(&[("a", "ñ")]));
        check("a=1,a=2", Some(&[("a", "2")]));
        check("a=b=c", Some(&[("a", "b=c")]));
        check("a=", Some(&[("a", "")]));
        check("telemetry.sdk.name=x,a=b", Some(&[("a", "b")]));
        for bad in ["a", "a=%", "a=%4", "a=%zz", "a=%ff", "=b", "a=b,c", "a=%+1"] {
            check(bad, None);
        }
    }
}
