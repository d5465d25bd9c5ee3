//! The TCP option that carries a trace id to the host of a message's receiver: apart from the programs,
//! so that it can be tested.
//!
//! It is on the segment with the message's first byte: experimental kind 254 (RFC 4727) with an
//! experiment identifier (RFC 6994), 28 bytes, all that is left beside timestamps.

/// As it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Carrier {
    /// [`KIND`].
    pub kind: u8,
    /// [`LENGTH`].
    pub length: u8,
    /// [`MAGIC`].
    pub magic: [u8; 2],
    /// [`VERSION`].
    pub version: u8,
    /// Trace flags, and [`UNDECIDED`].
    pub flags: u8,
    /// Low half of the first byte's sequence number: segments that a network card cuts a large one into
    /// all have its options.
    pub place: [u8; 2],
    /// [`name`] of the message: what is somebody else's, or was moved to another connection, has none.
    pub name: [u8; 4],
    /// The trace id.
    pub trace: [u8; 16],
}
const _: () = assert!(size_of::<Carrier>() == LENGTH as usize);

/// Of options for experiments.
pub const KIND: u8 = 254;
/// Bytes of it.
pub const LENGTH: u8 = 28;
/// Which experiment.
pub const MAGIC: [u8; 2] = [0x53, 0x74];
/// Of what follows.
pub const VERSION: u8 = 1;
/// Beside W3C's trace flags: nobody has decided yet whether the trace is sampled.
pub const UNDECIDED: u8 = 0x80;
/// The message's span is not named by the stream key: its offset is not known.
pub const UNNAMED: u8 = 0x40;

impl Carrier {
    /// Of a message whose first byte has this number.
    #[inline(always)]
    pub fn new(trace: [u8; 16], flags: u8, sequence: u32, name: u32) -> Self {
        Self {
            kind: KIND,
            length: LENGTH,
            magic: MAGIC,
            version: VERSION,
            flags,
            place: (sequence as u16).to_be_bytes(),
            name: name.to_be_bytes(),
            trace,
        }
    }

    /// The number of the message's first byte, in a segment that begins with number `from`; that is in
    /// the segment only where it is less than its length behind.
    #[inline(always)]
    pub fn sequence(&self, from: u32) -> u32 {
        let place = u16::from_be_bytes(self.place);
        from.wrapping_add(place.wrapping_sub(from as u16).into())
    }
}

/// What both ends call the message whose first byte has this sequence number: of both initial sequence
/// numbers and that one, mixed as splitmix64 does (Steele, Lea and Flood, 2014).
#[inline(always)]
pub const fn name(client: u32, server: u32, sequence: u32) -> u32 {
    let connection = (client as u64) << 32 | server as u64;
    let z = connection.wrapping_add((sequence as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_in_its_segment_and_in_no_piece_of_it() {
        for (sequence, from) in [
            (1000, 1000),
            (70_000, 65_000),
            (3, u32::MAX - 5),
            (0x1_0000, 0xffff),
        ] {
            let carrier = Carrier::new([7; 16], 1, sequence, 0);
            assert_eq!(carrier.sequence(from), sequence, "{sequence} {from}");
            // What is cut off behind it.
            let behind = sequence.wrapping_add(1448);
            assert!(carrier.sequence(behind).wrapping_sub(behind) > 1448);
        }
    }

    #[test]
    fn names_tell_messages_and_connections_apart() {
        let names = [
            name(1, 2, 3),
            name(2, 1, 3),
            name(1, 2, 4),
            name(1, 3, 3),
            name(0, 0, 0),
        ];
        for (i, one) in names.iter().enumerate() {
            assert!(names.iter().skip(i + 1).all(|other| other != one));
        }
    }
}
