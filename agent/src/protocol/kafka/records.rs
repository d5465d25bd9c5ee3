//! Sets of records: batches of format 2 (KIP-98), whose heads say how many records they hold, and the
//! headers of the first records, where a trace context may be.
//!
//! A batch is passed over by its length. Of each set at most [`READ`] bytes are read for the sake of
//! headers; a compressed batch is not opened, and counted.
//!
//! Never true here: that a record's key or value is kept.

use super::fields::Fields;
use crate::protocol::reader::Reader;
use crate::protocol::{Carrier, MAX_LINKS, messaging};
use crate::stats::Stats;

/// Bytes of records that are read of each set.
const READ: usize = 16 * 1024;
/// Bytes of a batch before its records.
const HEAD: usize = 61;
/// Bytes of it that its length does not count.
const UNCOUNTED: u64 = 12;
/// The fewest bytes a record can have.
const SHORTEST: u64 = 7;

/// What the records of a message were found to be.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many there are.
    pub messages: u64,
    /// Whether there are others, of an unknown number.
    pub unknown: bool,
    /// The offset of the last batch's last one.
    pub offset: Option<i64>,
    /// The contexts that were found.
    pub carriers: Vec<Carrier>,
}

/// A set of records under way.
#[derive(Debug, Default)]
pub struct Set {
    left: u64,
    /// Bytes that may yet be read.
    read: usize,
    batch: Option<Batch>,
}

/// A batch whose records are read.
#[derive(Debug)]
struct Batch {
    left: u64,
    records: u32,
}

impl Set {
    /// One of so many bytes.
    pub fn new(length: u64) -> Self {
        Self {
            left: length,
            read: READ,
            batch: None,
        }
    }

    /// Whether nothing is left of it.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Reads what comes next from `bytes`; gives how many bytes are to be passed over, `None` while
    /// it is not whole.
    pub fn step(&mut self, bytes: &[u8], tally: &mut Tally, stats: &Stats) -> Option<u64> {
        let passed = match &mut self.batch {
            None => self.head(bytes, tally, stats)?,
            Some(batch) => {
                let full = tally.carriers.len() >= MAX_LINKS;
                let record = match batch.records > 0 && !full {
                    true => Self::record(batch, &mut self.read, bytes, tally, stats)?,
                    false => None,
                };
                match record {
                    Some(length) => length,
                    None => self.batch.take().map_or(0, |batch| batch.left),
                }
            }
        };
        let passed = passed.min(self.left);
        self.left = self.left.saturating_sub(passed);
        Some(passed)
    }

    /// Bytes are missing where something was to be read: gives how many are to be passed over.
    pub fn cut(&mut self, tally: &mut Tally, stats: &Stats) -> u64 {
        let passed = match self.batch.take() {
            Some(batch) => {
                stats.protocol_contexts_unread.add(1);
                batch.left
            }
            None => {
                tally.unknown = true;
                self.left
            }
        };
        self.left = self.left.saturating_sub(passed);
        passed
    }

    /// Reads a batch's head.
    fn head(&mut self, bytes: &[u8], tally: &mut Tally, stats: &Stats) -> Option<u64> {
        // A broker ends a set where it is long enough, in the middle of a batch or not.
        if self.left < HEAD as u64 {
            return Some(self.left);
        }
        let mut fields = Fields::plain(bytes.get(..HEAD)?);
        let (base, length) = (fields.i64()?, fields.i32()?);
        fields.skip(4)?;
        let format = fields.u8()?;
        fields.skip(4)?;
        let (attributes, last) = (fields.i16()?, fields.i32()?);
        fields.skip(30)?;
        let records = fields.i32()?;
        let length = u64::try_from(length).unwrap_or(0).saturating_add(UNCOUNTED);
        let inside = length.saturating_sub(HEAD as u64);
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        if format != FORMAT || length < HEAD as u64 {
            // Formats 0 and 1 (before 0.11), or nothing of the kind.
            tally.unknown = true;
            return Some(self.left);
        }
        if length > self.left {
            return Some(self.left);
        }
        if is_uncompressed(attributes) && u64::from(records) > inside / SHORTEST {
            tally.unknown = true;
            return Some(self.left);
        }
        if attributes & CONTROL != 0 || records == 0 {
            return Some(length);
        }
        tally.messages = tally.messages.saturating_add(records.into());
        tally.offset = base.checked_add(last.into());
        if tally.carriers.len() >= MAX_LINKS {
            return Some(length);
        }
        if !is_uncompressed(attributes) || self.read == 0 {
            stats.protocol_contexts_unread.add(1);
            return Some(length);
        }
        self.batch = Some(Batch {
            left: inside,
            records,
        });
        Some(HEAD as u64)
    }

    /// Reads a record; `Some(None)` where the batch is not read any further.
    fn record(
        batch: &mut Batch,
        read: &mut usize,
        bytes: &[u8],
        tally: &mut Tally,
        stats: &Stats,
    ) -> Option<Option<u64>> {
        let left = usize::try_from(batch.left).unwrap_or(usize::MAX);
        let bytes = bytes.get(..left).unwrap_or(bytes);
        let mut reader = Reader::new(bytes);
        let Some(length) = reader.varint_signed() else {
            // No varint is longer than this.
            let never = bytes.len() >= LONGEST_VARINT.min(left);
            return give_up(never, stats);
        };
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        let whole = size.saturating_add(reader.position());
        if whole > left || whole > *read {
            *read = 0;
            return give_up(true, stats);
        }
        let record = reader.take(size)?;
        if let Some(Some(carrier)) = headers(record, stats) {
            tally.carriers.push(carrier);
        }
        *read = read.saturating_sub(whole);
        batch.records = batch.records.saturating_sub(1);
        let whole = whole as u64;
        batch.left = batch.left.saturating_sub(whole);
        Some(Some(whole))
    }
}

fn give_up(never: bool, stats: &Stats) -> Option<Option<u64>> {
    if never {
        stats.protocol_contexts_unread.add(1);
    }
    never.then_some(None)
}

/// The context in a record's headers.
fn headers(record: &[u8], stats: &Stats) -> Option<Option<Carrier>> {
    let mut reader = Reader::new(record);
    // Attributes, time, offset.
    reader.skip(1)?;
    reader.varint()?;
    reader.varint()?;
    let bytes = |reader: &mut Reader<'_>| match reader.varint_signed()? {
        -1 => Some(()),
        length => reader.skip(usize::try_from(length).ok()?),
    };
    bytes(&mut reader)?;
    bytes(&mut reader)?;
    let mut carrier = None;
    for _ in 0..reader.varint_signed()? {
        let size = usize::try_from(reader.varint_signed()?).ok()?;
        let name = reader.take(size)?;
        let value = match reader.varint_signed()? {
            -1 => continue,
            size => reader.take(usize::try_from(size).ok()?)?,
        };
        messaging::header(&mut carrier, name, value, stats);
    }
    Some(carrier)
}

fn is_uncompressed(attributes: i16) -> bool {
    attributes & 7 == 0
}

/// The format that is read.
const FORMAT: u8 = 2;
/// The bit of a batch that ends a transaction and holds no message.
const CONTROL: i16 = 1 << 5;
const LONGEST_VARINT: usize = 10;
