//! What applications share that are known by heads alone.
//!
//! Never true here: that a name or a value is told which is no text.

/// Names and values of a query, as sent; a name without a value has an empty one.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// A part of a URL without its percent-encoding (RFC 3986, 2.1), where that is a text.
pub(super) fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = |b: u8| {
            char::from(b)
                .to_digit(16)
                .and_then(|n| u8::try_from(n).ok())
        };
        let (byte, behind) = match (first, behind) {
            (b'%', [high, low, behind @ ..]) => (hex(*high)? << 4 | hex(*low)?, behind),
            (byte, behind) => (*byte, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    let text = String::from_utf8(bytes).ok()?;
    (text.len() <= LONGEST && !text.contains('\0')).then_some(text)
}

/// Longest part that is told; a key of S3 has 1024 bytes.
const LONGEST: usize = 1024;

#[cfg(test)]
pub(super) mod bench {
    //! One exchange, for applications that look at heads alone.

    use super::super::{Application, Head, Said};
    use crate::protocol::Value;

    pub type Fields<'a> = &'a [(&'a str, &'a str)];

    /// What is told of an exchange: `line` is its method and target.
    pub fn told(
        application: &dyn Application,
        line: &str,
        asked: Fields<'_>,
        (code, answered): (u16, Fields<'_>),
    ) -> Option<Vec<String>> {
        let (method, target) = line.split_once(' ').expect("a method and a target");
        let find = |fields: Fields<'_>, name: &str| -> Option<Vec<u8>> {
            let mut fields = fields.iter();
            let found = fields.find(|(known, _)| *known == name)?;
            Some(found.1.as_bytes().to_vec())
        };
        let leak = |found: Option<Vec<u8>>| found.map(|bytes| &*bytes.leak());
        let of_request = |name: &str| leak(find(asked, name));
        let of_response = |name: &str| leak(find(answered, name));
        let mut tap = application.asked(&Head::new((method, target), None, &of_request))?;
        let mut said = Said::default();
        let head = Head::new(("", ""), Some(code), &of_response);
        if !tap.answered(&head, &mut said) {
            assert!(said.name.is_none() && said.asked.is_empty() && said.answered.is_none());
            return None;
        }
        let mut lines: Vec<_> = said.name.iter().map(|n| format!("name = {n}")).collect();
        let answered = said.answered.iter().flat_map(|r| &r.attributes);
        for attribute in said.asked.iter().chain(answered) {
            let value = match &attribute.value {
                Value::Str(text) => text.to_string(),
                Value::Int(number) => number.to_string(),
                other => format!("{other:?}"),
            };
            lines.push(format!("{} = {value}", attribute.key));
        }
        Some(lines)
    }
}

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
