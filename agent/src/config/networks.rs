//! Lists of networks, each an address with the length of its prefix, or an address alone.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

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

/// Those in which hosts of a cluster are: not what is on the same line alone, as a cloud's metadata service.
pub fn routed() -> Vec<IpNet> {
    let link_local = |network: &IpNet| match network.addr() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    private()
        .into_iter()
        .filter(|network| !link_local(network))
        .collect()
}

fn read(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok().map(|network| network.trunc());
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    // Addresses of IPv4 are never told in IPv6's form.
    match network {
        IpNet::V6(mapped) if mapped.prefix_len() >= MAPPED => {
            match mapped.addr().to_ipv4_mapped() {
                Some(address) => {
                    let length = mapped.prefix_len().saturating_sub(MAPPED);
                    Ipv4Net::new(address, length).ok().map(IpNet::V4)
                }
                None => Some(network),
            }
        }
        _ => Some(network),
    }
}

/// Bits before an IPv4 address in IPv6's form (RFC 4291, 2.5.5.2).
const MAPPED: u8 = 96;

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
        let mapped = parsed("::ffff:10.0.0.0/104,::ffff:192.0.2.1,::ffff:0:0/96");
        assert_eq!(mapped, texts(&["10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0"]));
        assert_eq!(parsed("None"), texts(&["none"]));
        assert_eq!(parsed("0.0.0.0/0,::/0"), texts(&["0.0.0.0/0", "::/0"]));
        for wrong in ["10.0.0.0/33", "private", "10.0.0.0/8,none", "1.2.3"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        assert_eq!(private().len(), PRIVATE.len());
    }
}
