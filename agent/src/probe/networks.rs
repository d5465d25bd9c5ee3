//! Lists of networks, as the kernel side reads them.

use std::net::IpAddr;

use agent_ebpf::abi::{NETWORK, NETWORKS};
use anyhow::{Result, bail};
use ipnet::IpNet;

/// The words of `abi::NETWORK`, and what fits no address behind them.
///
/// # Errors
/// Where there are more than the kernel side has room for.
pub fn words(networks: &[IpNet]) -> Result<Vec<u32>> {
    if networks.len() > NETWORKS {
        bail!(
            "{} networks in one list of propagation.*: there may be {NETWORKS}",
            networks.len()
        );
    }
    let mut words: Vec<u32> = networks.iter().flat_map(one).collect();
    let nobody = [u32::MAX, u32::MAX, u32::MAX, u32::MAX, 0, 0, 0, 0];
    words.extend(
        nobody
            .into_iter()
            .cycle()
            .take(NETWORKS * NETWORK - words.len()),
    );
    Ok(words)
}

fn one(network: &IpNet) -> [u32; NETWORK] {
    let (address, mask) = match (network.network(), network.netmask()) {
        (IpAddr::V4(address), IpAddr::V4(mask)) => {
            let ones = u128::MAX << 32;
            let mask = ones | u128::from(u32::from(mask));
            (u128::from(address.to_ipv6_mapped()), mask)
        }
        (address, mask) => (number(address), number(mask)),
    };
    let [a, b, c, d] = in_order(address);
    let [e, f, g, h] = in_order(mask);
    [a, b, c, d, e, f, g, h]
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// As they are in memory.
fn in_order(number: u128) -> [u32; 4] {
    let bytes = number.to_be_bytes();
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = bytes.try_into().map_or(0, u32::from_ne_bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(words: &[u32], address: &str) -> bool {
        let address = in_order(number(address.parse().expect("an address")));
        words.chunks_exact(NETWORK).any(|network| {
            let (network, mask) = network.split_at(4);
            let pairs = address.iter().zip(network.iter().zip(mask));
            pairs.fold(0, |differs, (own, (network, mask))| {
                differs | ((own & mask) ^ network)
            }) == 0
        })
    }

    #[test]
    fn what_fits_a_network_is_in_it() {
        let networks = ["10.0.0.0/8", "fd00::/8", "192.168.7.0/30"];
        let networks: Vec<IpNet> = networks.iter().filter_map(|n| n.parse().ok()).collect();
        let words = words(&networks).expect("few");
        assert_eq!(words.len(), NETWORKS * NETWORK);
        for (address, expected) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("192.168.7.3", true),
            ("192.168.7.4", false),
            ("255.255.255.255", false),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("::", false),
        ] {
            assert_eq!(fits(&words, address), expected, "{address}");
        }
        let all = super::words(&["0.0.0.0/0".parse().expect("a network")]).expect("one");
        assert!(fits(&all, "1.2.3.4") && !fits(&all, "::1"));
        assert!(super::words(&vec![networks[0]; 33]).is_err());
    }
}
