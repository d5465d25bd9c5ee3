//! A WebSocket without its handshake's proof: 101, then binary frames that come back as they are.

use anyhow::{Context as _, Result, ensure};

use crate::body;
use crate::deeds::lasting;
use crate::link::Link;

/// The server's answer to the upgrade.
pub const ACCEPTED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// The client's.
const UPGRADE: &str = "GET /socket HTTP/1.1\r\nHost: harm\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

/// Payloads of all three lengths of length (RFC 6455, 5.2).
const SIZES: [u64; 9] = [0, 1, 125, 126, 1000, 65_535, 65_536, 300_000, 1 << 20];

/// What is not a request although it begins as one.
const DECOY: &[u8] = b"GET /decoy HTTP/1.1\r\nHost: harm\r\n\r\n";

/// Sends back each frame's payload, until a close.
pub fn echo(mut link: Link) -> Result<()> {
    while let Some((opcode, payload)) = read(&mut link)? {
        link.send(&frame(opcode, &payload, None))?;
        if opcode == CLOSE {
            break;
        }
    }
    Ok(())
}

/// Upgrades a connection and sends frames; what came of each.
pub fn ask(link: &mut Link) -> Result<Vec<String>> {
    link.send(UPGRADE.as_bytes())?;
    let mut lines = vec![lasting(&link.head()?.context("no answer")?)];
    for size in SIZES {
        let payload = body::whole(size);
        link.send(&frame(BINARY, &payload, Some([1, 2, 3, 4])))?;
        lines.push(compare(link, &payload)?);
    }
    // Many in one write, and plain text in sight: a mask of zeros hides nothing.
    let some: Vec<u8> = (0..10)
        .flat_map(|_| frame(BINARY, DECOY, Some([0; 4])))
        .collect();
    link.send(&some)?;
    for _ in 0..10 {
        lines.push(compare(link, DECOY)?);
    }
    // A write that begins with what looks like a request.
    let whole = frame(BINARY, DECOY, Some([0; 4]));
    let (head, payload) = whole.split_at(whole.len() - DECOY.len());
    link.send(head)?;
    link.send(payload)?;
    lines.push(compare(link, DECOY)?);
    link.send(&frame(CLOSE, &[], Some([0; 4])))?;
    let (opcode, rest) = read(link)?.context("no close")?;
    lines.push(format!("opcode {opcode}, {} bytes", rest.len()));
    Ok(lines)
}

fn compare(link: &mut Link, want: &[u8]) -> Result<String> {
    let (opcode, payload) = read(link)?.context("no frame")?;
    let same = payload == want;
    Ok(format!(
        "opcode {opcode}, {} bytes, the same: {same}",
        payload.len()
    ))
}

const BINARY: u8 = 2;
const CLOSE: u8 = 8;

fn frame(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(size @ ..126), _) => frame.push(masked | size),
        (_, Ok(size)) => {
            frame.push(masked | 126);
            frame.extend(size.to_be_bytes());
        }
        _ => {
            frame.push(masked | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| frame.extend(mask));
    let mask = mask.unwrap_or_default();
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

/// Opcode and payload; nothing at the end.
fn read(link: &mut Link) -> Result<Option<(u8, Vec<u8>)>> {
    let Ok(start) = link.exactly(2) else {
        return Ok(None);
    };
    let number = |bytes: Vec<u8>| {
        bytes
            .iter()
            .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let size = match start[1] & 0x7f {
        126 => number(link.exactly(2)?),
        127 => number(link.exactly(8)?),
        size => usize::from(size),
    };
    ensure!(size <= 2 << 20, "a frame of {size} bytes");
    let mask = match start[1] & 0x80 {
        0 => vec![0; 4],
        _ => link.exactly(4)?,
    };
    let payload = link.exactly(size)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b);
    Ok(Some((start[0] & 0x0f, payload.collect())))
}
