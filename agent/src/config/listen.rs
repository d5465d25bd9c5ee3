//! An address to listen on. Names are not taken: what they resolve to would depend on when it is asked.

use std::net::SocketAddr;

use super::form::{Form, Maybe, Raw, Shape, Shown};

/// Health and metrics over HTTP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Serve {
    /// Where they are asked for; None is nowhere.
    pub listen: Option<SocketAddr>,
}

/// An address with its port that may be absent.
pub struct Listen;

impl Form for Listen {
    type Value = Option<SocketAddr>;
    const SHAPE: Shape = Shape::One;

    fn parse(&self, raw: &Raw) -> Result<Option<SocketAddr>, String> {
        let Some(text) = Maybe.parse(raw)? else {
            return Ok(None);
        };
        let address = text.parse().map(Some);
        address.map_err(|_| {
            format!(
                "expected an address and a port such as 127.0.0.1:9465 or [::]:9465, got `{text}`"
            )
        })
    }

    fn show(&self, value: &Option<SocketAddr>) -> Shown {
        Maybe.show(&value.map(|address| address.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_its_port_and_is_no_name() {
        let read = |text: &str| Listen.parse(&Raw::Text(text.into()));
        assert_eq!(read(""), Ok(None));
        for right in ["0.0.0.0:9465", "[::1]:9465", "127.0.0.1:0"] {
            let address = read(right).expect("right");
            assert_eq!(Listen.show(&address), Shown::One(right.into()));
        }
        for wrong in [
            "9465",
            ":9465",
            "localhost:9465",
            "0.0.0.0",
            "0.0.0.0:99999",
        ] {
            let why = read(wrong).expect_err(wrong);
            assert!(
                why.contains(wrong) && why.contains("127.0.0.1:9465"),
                "{why}"
            );
        }
    }
}
