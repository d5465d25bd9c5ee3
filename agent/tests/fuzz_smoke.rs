//! The fuzz targets' entry points on some thousand made-up inputs, the same every time: enough to
//! notice that one is broken. `cargo xtask fuzz` is the long way.

#[path = "../../tests/fuzz/entry.rs"]
mod entry;

/// Inputs of each entry.
const INPUTS: usize = 40_000;

#[test]
fn records() {
    drive(&[&[40, 2, 0, 0, 0, 1, 0], &[0; 64]], entry::records);
}

#[test]
fn segments() {
    let get: &[u8] =
        b"\x00\x40GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd            \
        \x01\x40HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n   ";
    let bad: &[u8] = b"\x07\x20POST * HTTP/1.0\r\nContent-Length: 99999999999999999999\r\n\r\n";
    drive(&[get, bad], entry::segments);
}

#[test]
fn context() {
    let good: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    drive(&[good, b"a=1,b@c=2, ,d"], entry::context);
}

/// Seeds as they are, then mutated: bytes changed, runs copied and cut.
fn drive(seeds: &[&[u8]], entry: fn(&[u8])) {
    seeds.iter().for_each(|seed| entry(seed));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for number in 0..INPUTS {
        let mut input = seeds[number % seeds.len()].to_vec();
        for _ in 0..=next(8) {
            let at = next(input.len());
            match next(4) {
                0 if !input.is_empty() => input[at] = next(256) as u8,
                1 => input.truncate(at),
                2 => input.extend_from_within(at..),
                _ => input.insert(at, next(256) as u8),
            }
        }
        entry(&input);
    }
}
