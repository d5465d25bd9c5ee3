//! What both ends of a connection call a message's sender.

/// The span id of the client side of a message, which any host that sees the message can derive: XXH64
/// with seed 0 over the numbers of the first bytes from the client and from the server, the message's
/// offset and its number, 8 bytes each, little endian. A hash of zero is 1.
pub const fn client_span([client, server]: [u64; 2], offset: u64, number: u64) -> u64 {
    match xxh64([client, server, offset, number]) {
        0 => 1,
        hash => hash,
    }
}

/// XXH64 of exactly 32 bytes, seed 0
/// (<https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>).
const fn xxh64([a, b, c, d]: [u64; 4]) -> u64 {
    let [a, b, c, d] = [
        round(P1.wrapping_add(P2), a),
        round(P2, b),
        round(0, c),
        round(0u64.wrapping_sub(P1), d),
    ];
    let hash = a
        .rotate_left(1)
        .wrapping_add(b.rotate_left(7))
        .wrapping_add(c.rotate_left(12))
        .wrapping_add(d.rotate_left(18));
    let hash = merge(merge(merge(merge(hash, a), b), c), d).wrapping_add(32);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

const fn round(acc: u64, lane: u64) -> u64 {
    acc.wrapping_add(lane.wrapping_mul(P2))
        .rotate_left(31)
        .wrapping_mul(P1)
}

const fn merge(hash: u64, lane: u64) -> u64 {
    (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4)
}

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xxh64_agrees_with_its_reference() {
        // Computed with the xxhash package of PyPI (libxxhash 0.8).
        assert_eq!(xxh64([0; 4]), 0xf6e9_be5d_7063_2cf5);
        assert_eq!(xxh64([1, 2, 3, 4]), 0x73f8_59a0_4f66_9e6d);
        assert_eq!(
            xxh64([0x1234_5678, 0x9abc_def0, 1 << 33, 0]),
            0x5900_c496_8c0b_074c
        );
        assert_eq!(xxh64([u64::MAX; 4]), 0xff10_2236_16c0_8787);
    }
}
