//! What answers say: how many rows there are, which keyspace is used now, the id of what was prepared, what
//! went wrong ("native protocol v5", sections 4.2 and 9).
//!
//! Never true here: that a row is looked at.

use std::borrow::Cow;

use super::frame::{Head, opcode, string, value};
use crate::protocol::reader::Reader;
use crate::protocol::{Flow, Response, database};

/// Types within types that are followed.
const MAX_DEPTH: u32 = 32;

/// An answer, as far as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// So many rows, if that could be read.
    Rows(Option<u64>),
    /// This keyspace is used from now on.
    Keyspace(&'a [u8]),
    /// A prepared statement's id.
    Prepared(&'a [u8]),
    /// It went well.
    Done,
    /// It went wrong; the code, where it could be read.
    Error(Option<i32>),
}

impl<'a> Answer<'a> {
    /// Reads a body, as much of it as is there.
    pub fn read(head: Head, body: &'a [u8]) -> Self {
        let mut fields = Reader::new(body);
        let fine = head.preamble(Flow::Response, &mut fields);
        match head.opcode {
            opcode::ERROR => Self::Error(fine.and_then(|()| fields.i32())),
            opcode::RESULT => fine
                .and_then(|()| Self::result(&mut fields))
                .unwrap_or(Self::Done),
            _ => Self::Done,
        }
    }

    fn result(fields: &mut Reader<'a>) -> Option<Self> {
        Some(match fields.i32()? {
            2 => Self::Rows(rows(fields)),
            3 => Self::Keyspace(string(fields)?),
            4 => Self::Prepared(string(fields)?),
            _ => Self::Done,
        })
    }

    /// What is said of it.
    pub fn response(self) -> Response {
        let outcome = match self {
            Self::Rows(rows) => database::Outcome {
                rows,
                ..database::Outcome::default()
            },
            Self::Error(code) => database::Outcome {
                status_code: code.map(|code| Cow::Owned(format!("0x{code:04x}"))),
                is_error: true,
                rows: None,
            },
            _ => database::Outcome::default(),
        };
        outcome.response(Vec::new())
    }
}

/// What rows have in common is passed over, up to how many there are.
fn rows(fields: &mut Reader<'_>) -> Option<u64> {
    let (flags, columns) = (fields.i32()?, fields.i32()?);
    let has = |bit: i32| flags & bit != 0;
    if has(2) {
        value(fields)?;
    }
    if has(8) {
        string(fields)?;
    }
    if !has(4) {
        if has(1) {
            string(fields)?;
            string(fields)?;
        }
        for _ in 0..columns {
            if !has(1) {
                string(fields)?;
                string(fields)?;
            }
            string(fields)?;
            of_type(fields, MAX_DEPTH)?;
        }
    }
    u64::try_from(fields.i32()?).ok()
}

/// Passes over a type.
fn of_type(fields: &mut Reader<'_>, depth: u32) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    match fields.u16()? {
        // Its class's name.
        0x00 => string(fields).map(drop),
        // A list, a set.
        0x20 | 0x22 => of_type(fields, depth),
        // A map.
        0x21 => {
            of_type(fields, depth)?;
            of_type(fields, depth)
        }
        // What users made of others.
        0x30 => {
            string(fields)?;
            string(fields)?;
            for _ in 0..fields.u16()? {
                string(fields)?;
                of_type(fields, depth)?;
            }
            Some(())
        }
        // A tuple.
        0x31 => (0..fields.u16()?).try_for_each(|_| of_type(fields, depth)),
        _ => Some(()),
    }
}

/// Whether it is an error's code (section 9).
pub fn is_code(code: i32) -> bool {
    matches!(
        code,
        0x0000 | 0x000a | 0x0100 | 0x1000
            ..=0x1003
                | 0x1100
                | 0x1200
                | 0x1300
                | 0x1400
                | 0x1500
                | 0x1600
                | 0x1700
                | 0x2000
                | 0x2100
                | 0x2200
                | 0x2300
                | 0x2400
                | 0x2500
    )
}
