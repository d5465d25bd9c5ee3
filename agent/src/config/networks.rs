//! Lists of networks, each an address with the length of its prefix, or an address alone.

use std::net::IpAddr;

use ipnet::IpNet;

use super::form::{Form, Raw, Shape, Shown, many};

/// What never comes from the Internet: private, shared, link-local and loopback addresses (RFC 1918,
/// RFC 6598, RFC 3927, RFC 1122; RFC 4193, RFC 4291).
const PRIVATE: &[&str] = &[
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
];

/// The networks of [`PRIVATE`].
pub fn private() -> Vec<IpNet> {
    PRIVATE.iter().filter_map(|text| read(text)).collect()
}

fn read(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok().map(|network| network.trunc());
    network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Networks; `none` alone is an empty list.
pub struct Networks;

impl Form for Networks {
    type Value = Vec<IpNet>;
    const SHAPE: Shape = Shape::List;

    fn parse(&self, raw: &Raw) -> Result<Vec<IpNet>, String> {
        // No network has a comma: several may stand in one text, in flags too.
        let texts = many(raw)?.into_iter().flat_map(|text| text.split(','));
        let texts: Vec<&str> = texts.map(str::trim).filter(|t| !t.is_empty()).collect();
        if let [text] = texts.as_slice()
            && text.eq_ignore_ascii_case(NONE)
        {
            return Ok(Vec::new());
        }
        let each = texts.into_iter().map(|text| {
            read(text).ok_or_else(|| {
                format!("expected a network such as 10.0.0.0/8 or fd00::/8, got `{text}`")
            })
        });
        each.collect()
    }

    fn show(&self, value: &Vec<IpNet>) -> Shown {
        Shown::List(match value.is_empty() {
            true => vec![NONE.into()],
            false => value.iter().map(IpNet::to_string).collect(),
        })
    }
}

const NONE: &str = "none";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<String>, String> {
        let value = Networks.parse(&Raw::Text(text.into()))?;
        match Networks.show(&value) {
            Shown::List(texts) => Ok(texts),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn networks_and_addresses() {
        let texts = |all: &[&str]| Ok(all.iter().map(|t| (*t).to_owned()).collect());
        assert_eq!(parsed("10.1.2.3/8, ::1"), texts(&["10.0.0.0/8", "::1/128"]));
        assert_eq!(parsed("None"), texts(&["none"]));
        assert_eq!(parsed("0.0.0.0/0,::/0"), texts(&["0.0.0.0/0", "::/0"]));
        for wrong in ["10.0.0.0/33", "private", "10.0.0.0/8,none", "1.2.3"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        assert_eq!(private().len(), PRIVATE.len());
    }
}
