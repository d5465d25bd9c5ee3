//! The address of a receiver as it may be shown: without user, password and query, all of which can
//! be secrets. Whatever prints an endpoint, prints [`shown`].

use super::form::{Form, Maybe, Raw, Shape, Shown};

/// An endpoint without what may be secret.
pub fn shown(endpoint: &str) -> String {
    let (scheme, rest) = match endpoint.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, endpoint),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    // A password may hold a / or ? that nobody encoded: then what stands before it is no host.
    let port = host
        .rsplit(']')
        .next()
        .and_then(|rest| rest.split_once(':'));
    let cut = port.is_some_and(|(_, port)| !port.bytes().all(|b| b.is_ascii_digit()));
    let rest = match cut {
        true => rest.rsplit('@').next(),
        false => rest.get(authority.len() - host.len()..),
    };
    let rest = rest.unwrap_or_default();
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    match scheme {
        Some(scheme) => format!("{scheme}://{rest}"),
        None => rest.to_owned(),
    }
}

/// A URL that may be absent, shown without its secrets.
pub struct Endpoint;

impl Form for Endpoint {
    type Value = Option<String>;
    const SHAPE: Shape = Shape::One;

    fn parse(&self, raw: &Raw) -> Result<Option<String>, String> {
        Maybe.parse(raw)
    }

    fn show(&self, value: &Option<String>) -> Shown {
        Maybe.show(&value.as_deref().map(shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_an_endpoint_are_not_shown() {
        for (endpoint, expected) in [
            ("http://h:4318", "http://h:4318"),
            ("http://h:4318/a@b", "http://h:4318/a@b"),
            (
                "https://[::1]:4318/v1/traces",
                "https://[::1]:4318/v1/traces",
            ),
            (
                "https://u:hunter2@h/v1/traces?key=hunter2#hunter2",
                "https://h/v1/traces",
            ),
            ("https://hunter2@h:4317", "https://h:4317"),
            ("https://u:p@hunter2@h:4317", "https://h:4317"),
            ("https://u:hunter2/x@h:4317", "https://h:4317"),
            ("https://u:hunter2?x@h:4317/?hunter2", "https://h:4317/"),
            ("u:hunter2@h:4317", "h:4317"),
            ("h:4317?hunter2", "h:4317"),
            ("h", "h"),
            ("", ""),
        ] {
            assert_eq!(shown(endpoint), expected, "{endpoint}");
        }
    }
}
