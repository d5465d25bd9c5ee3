//! What a line does to the TCP option that carries a trace (agent-ebpf/src/option.rs) on its way, or puts
//! into segments that have none. Packets are of IPv4 or IPv6 without extensions, as TCP makes them.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// What is done to segments with payload that go one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Nothing.
    Nothing,
    /// One is put in, by somebody who knows no more than the format.
    Added,
    /// The same, with another experiment's identifier.
    Magic,
    /// The same, of a version that nobody knows.
    Version,
    /// The same, shorter than it is to be.
    Short,
    /// The same, longer.
    Long,
    /// A short one is put in before the one that is there.
    Twice,
    /// The first of all that came takes the place of those of other connections.
    Copied,
    /// The last of the same connection takes the place of the next.
    Again,
    /// Segments that have one are lost when they come first, of every sixteenth connection.
    Lost,
    /// Every second segment that has one is lost.
    Halved,
    /// Segments that have one are lost whenever they come.
    Refused,
    /// They are, and their sender is told that there is no such connection.
    Reset,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on, as it came or not.
    Goes {
        /// Whether something was done to it.
        changed: bool,
    },
    /// It goes no further.
    Lost,
    /// What it is now goes back.
    Back,
}

impl Deed {
    /// By its name.
    pub fn named(name: &str) -> Result<Self> {
        let all = [
            ("nothing", Self::Nothing),
            ("added", Self::Added),
            ("magic", Self::Magic),
            ("version", Self::Version),
            ("short", Self::Short),
            ("long", Self::Long),
            ("twice", Self::Twice),
            ("copied", Self::Copied),
            ("again", Self::Again),
            ("lost", Self::Lost),
            ("halved", Self::Halved),
            ("refused", Self::Refused),
            ("reset", Self::Reset),
        ];
        let found = all.iter().find(|(its, _)| *its == name);
        found.map_or_else(|| bail!("no such deed: {name}"), |(_, deed)| Ok(*deed))
    }
}

/// Who does it.
pub struct Forger {
    deed: Deed,
    first: Option<(Vec<u8>, [u8; 4])>,
    last: BTreeMap<[u8; 4], Vec<u8>>,
    lost: BTreeMap<[u8; 4], u32>,
    /// Segments with one that came.
    came: usize,
}

impl Forger {
    /// Of this deed.
    pub fn new(deed: Deed) -> Self {
        Self {
            deed,
            first: None,
            last: BTreeMap::new(),
            lost: BTreeMap::new(),
            came: 0,
        }
    }

    /// Does it to a packet.
    pub fn pass(&mut self, packet: &mut Vec<u8>) -> Fate {
        let Some(segment) = Segment::of(packet) else {
            return Fate::Goes { changed: false };
        };
        let made = |edit: fn(&mut [u8; 28])| {
            let mut option = MADE;
            edit(&mut option);
            option
        };
        let found = segment.option(packet);
        let changed = match (self.deed, found) {
            (Deed::Added, None) => segment.insert(packet, &MADE),
            (Deed::Magic, None) => segment.insert(packet, &made(|option| option[2] ^= 0xff)),
            (Deed::Version, None) => segment.insert(packet, &made(|option| option[4] = 2)),
            (Deed::Short, None) => {
                let mut short = made(|option| option[1] = 20);
                short[20..].fill(NOP);
                segment.insert(packet, &short)
            }
            (Deed::Long, None) => {
                let mut long = [0xab; 36];
                long[..28].copy_from_slice(&made(|option| option[1] = 36));
                segment.insert(packet, &long)
            }
            (Deed::Twice, Some(_)) => segment.insert(packet, &made(|option| option[1] = 12)[..12]),
            (Deed::Copied, Some(at)) => {
                let own = packet[at..at + 28].to_vec();
                let (option, ports) = self.first.get_or_insert((own, segment.ports));
                let other = *ports != segment.ports;
                if other {
                    packet[at..at + 28].copy_from_slice(option);
                }
                other
            }
            (Deed::Again, Some(at)) => {
                let own = packet[at..at + 28].to_vec();
                let last = self.last.insert(segment.ports, own.clone());
                if let Some(last) = &last {
                    packet[at..at + 28].copy_from_slice(last);
                }
                last.is_some_and(|last| last != own)
            }
            (Deed::Lost, Some(_)) => {
                let first = !self.lost.contains_key(&segment.ports);
                let again = self.lost.insert(segment.ports, segment.sequence);
                if first && self.lost.len() % 16 == 1 {
                    return Fate::Lost;
                }
                again == Some(segment.sequence)
            }
            (Deed::Halved, Some(_)) => {
                self.came += 1;
                if self.came % 2 == 1 {
                    return Fate::Lost;
                }
                true
            }
            (Deed::Refused, Some(_)) => return Fate::Lost,
            (Deed::Reset, Some(_)) => {
                segment.reset(packet);
                return Fate::Back;
            }
            _ => false,
        };
        if changed {
            segment.sum(packet);
        }
        Fate::Goes { changed }
    }
}

/// As the agent writes it, of a connection and in a trace that nobody has.
const MADE: [u8; 28] = {
    let mut option = [0xab; 28];
    [option[0], option[1], option[2], option[3]] = [254, 28, 0x53, 0x74];
    [option[4], option[5]] = [1, 0x80];
    option
};

const NOP: u8 = 1;
const RST: u8 = 4;
const TCP: u8 = 6;

/// Where things are in a packet with a segment that has payload.
struct Segment {
    /// The TCP header.
    at: usize,
    /// Its end.
    payload: usize,
    /// Both ends'.
    ports: [u8; 4],
    sequence: u32,
}

impl Segment {
    fn of(packet: &[u8]) -> Option<Self> {
        let (at, protocol) = match packet.first()? >> 4 {
            4 => (usize::from(packet[0] & 15) * 4, *packet.get(9)?),
            _ => (40, *packet.get(6)?),
        };
        let ports = packet.get(at..at + 4)?.try_into().ok()?;
        let sequence = u32::from_be_bytes(packet.get(at + 4..at + 8)?.try_into().ok()?);
        let payload = at + usize::from(packet.get(at + 12)? >> 4) * 4;
        (protocol == TCP && payload < packet.len()).then_some(Self {
            at,
            payload,
            ports,
            sequence,
        })
    }

    /// Where the agent's option is.
    fn option(&self, packet: &[u8]) -> Option<usize> {
        let mut at = self.at + 20;
        while at + 2 <= self.payload {
            match packet[at] {
                0 => return None,
                NOP => at += 1,
                254 if packet[at + 1..at + 4] == MADE[1..4] => return Some(at),
                _ => at += usize::from(packet[at + 1]).max(2),
            }
        }
        None
    }

    /// Puts bytes before all options, if there is room; they are a multiple of four.
    fn insert(&self, packet: &mut Vec<u8>, bytes: &[u8]) -> bool {
        if self.payload - self.at + bytes.len() > 60 {
            return false;
        }
        let at = self.at + 20;
        packet.splice(at..at, bytes.iter().copied());
        packet[self.at + 12] += (bytes.len() / 4 * 16) as u8;
        let of = match packet[0] >> 4 {
            4 => 2,
            _ => 4,
        };
        let length = u16::from_be_bytes([packet[of], packet[of + 1]]) + bytes.len() as u16;
        packet[of..of + 2].copy_from_slice(&length.to_be_bytes());
        true
    }

    /// Makes it the reset that answers it, where both addresses are of IPv4 (RFC 9293, 3.10.7.1).
    fn reset(&self, packet: &mut Vec<u8>) {
        let at = self.at;
        packet.truncate(at + 20);
        packet[2..4].copy_from_slice(&((at + 20) as u16).to_be_bytes());
        let (one, other) = packet[12..20].split_at_mut(4);
        one.swap_with_slice(other);
        let (one, other) = packet[at..at + 4].split_at_mut(2);
        one.swap_with_slice(other);
        // What was acknowledged is what comes next.
        packet.copy_within(at + 8..at + 12, at + 4);
        packet[at + 8..at + 12].fill(0);
        packet[at + 12] = 5 << 4;
        packet[at + 13] = RST;
        self.sum(packet);
    }

    /// Makes the checksums right (RFC 1071).
    fn sum(&self, packet: &mut [u8]) {
        let addresses = match packet[0] >> 4 {
            4 => {
                packet[10..12].fill(0);
                let own = folded(&packet[..self.at], 0);
                packet[10..12].copy_from_slice(&own.to_be_bytes());
                12..20
            }
            _ => 8..40,
        };
        let begun = u32::from(TCP) + (packet.len() - self.at) as u32;
        let begun = begun + u32::from(!folded(&packet[addresses], 0));
        packet[self.at + 16..self.at + 18].fill(0);
        let sum = folded(&packet[self.at..], begun);
        packet[self.at + 16..self.at + 18].copy_from_slice(&sum.to_be_bytes());
    }
}

fn folded(bytes: &[u8], begun: u32) -> u16 {
    let words = bytes.chunks(2).map(|word| match *word {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum = words.fold(begun, u32::wrapping_add);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
