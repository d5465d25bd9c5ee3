//! Records: their heads, the content of those with a fixed one, and the first bytes of a dialogue.
//! Source: FastCGI specification 1.0, sections 3 to 5 and 8.

use crate::protocol::reader::Reader;
use crate::protocol::{Flow, Verdict};

/// Bytes of a record's head.
pub const HEAD: usize = 8;
/// Bytes of a whole BEGIN_REQUEST.
pub const BEGIN: usize = 16;
/// Bytes of a whole END_REQUEST.
pub const END: usize = 16;
/// FCGI_VERSION_1.
const VERSION: u8 = 1;

/// Types of records (section 8).
pub mod kind {
    /// FCGI_BEGIN_REQUEST.
    pub const BEGIN: u8 = 1;
    /// FCGI_ABORT_REQUEST.
    pub const ABORT: u8 = 2;
    /// FCGI_END_REQUEST.
    pub const END: u8 = 3;
    /// FCGI_PARAMS.
    pub const PARAMS: u8 = 4;
    /// FCGI_STDIN.
    pub const STDIN: u8 = 5;
    /// FCGI_STDOUT.
    pub const STDOUT: u8 = 6;
    /// FCGI_STDERR.
    pub const STDERR: u8 = 7;
    /// FCGI_DATA.
    pub const DATA: u8 = 8;
    /// FCGI_GET_VALUES.
    pub const GET_VALUES: u8 = 9;
    /// FCGI_GET_VALUES_RESULT.
    pub const VALUES: u8 = 10;
    /// FCGI_UNKNOWN_TYPE.
    pub const UNKNOWN: u8 = 11;
}

/// What an application is to do (section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// FCGI_RESPONDER.
    Responder,
    /// FCGI_AUTHORIZER: it gets no body.
    Authorizer,
    /// FCGI_FILTER: a file follows the body.
    Filter,
}

/// A record's head (section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub kind: u8,
    /// The request's identifier, 0 of what belongs to none.
    pub id: u16,
    pub length: u16,
    pub padding: u8,
    version: u8,
    reserved: u8,
}

impl Head {
    /// Of a record that begins with these bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        Some(Self {
            version: reader.u8()?,
            kind: reader.u8()?,
            id: reader.u16()?,
            length: reader.u16()?,
            padding: reader.u8()?,
            reserved: reader.u8()?,
        })
    }

    /// Bytes of the whole record.
    pub fn size(self) -> usize {
        HEAD.saturating_add(self.length.into())
            .saturating_add(self.padding.into())
    }

    /// Whether it can be a record of this flow.
    pub fn is_sound(self, flow: Flow) -> bool {
        let kinds = match (flow, self.kind) {
            (Flow::Request, kind::BEGIN) => self.id != 0 && self.length == 8,
            (Flow::Request, kind::ABORT) => self.id != 0 && self.length == 0,
            (Flow::Request, kind::PARAMS | kind::STDIN | kind::DATA) => self.id != 0,
            (Flow::Request, kind::GET_VALUES) => self.id == 0,
            (Flow::Response, kind::END) => self.id != 0 && self.length == 8,
            (Flow::Response, kind::STDOUT | kind::STDERR) => self.id != 0,
            (Flow::Response, kind::VALUES) => self.id == 0,
            (Flow::Response, kind::UNKNOWN) => self.id == 0 && self.length == 8,
            _ => false,
        };
        kinds && self.version == VERSION && self.reserved == 0
    }
}

/// What the application is to do, of a whole BEGIN_REQUEST (section 5.1).
pub fn begin(bytes: &[u8]) -> Option<Duty> {
    let mut reader = Reader::new(bytes);
    reader.skip(HEAD)?;
    let (role, _flags, _reserved) = (reader.u16()?, reader.u8()?, reader.array::<5>()?);
    match role {
        1 => Some(Duty::Responder),
        2 => Some(Duty::Authorizer),
        3 => Some(Duty::Filter),
        _ => None,
    }
}

/// The application's status and the protocol's, of a whole END_REQUEST (section 5.5).
pub fn end(bytes: &[u8]) -> Option<(u32, u8)> {
    let mut reader = Reader::new(bytes);
    reader.skip(HEAD)?;
    let end = (reader.u32()?, reader.u8()?);
    reader.skip(3)?;
    Some(end)
}

/// `error.type` of a protocol status that is none of success (section 8).
pub fn error(status: u8) -> &'static str {
    match status {
        1 => "FCGI_CANT_MPX_CONN",
        2 => "FCGI_OVERLOADED",
        3 => "FCGI_UNKNOWN_ROLE",
        _ => "_OTHER",
    }
}

/// A dialogue begins with BEGIN_REQUEST or with questions for the application's limits, both of
/// which have bytes that are always the same.
pub fn sniff(bytes: &[u8]) -> Verdict {
    let fits = |whole: usize, is: fn(usize, u8) -> bool| {
        let mut first = bytes.iter().take(whole).enumerate();
        first
            .all(|(at, byte)| is(at, *byte))
            .then_some(bytes.len() >= whole)
    };
    let id = Head::read(bytes).is_none_or(|head| head.id != 0);
    match (fits(ASKED, begins).filter(|_| id), fits(VALUES, asks)) {
        (Some(true), _) | (_, Some(true)) => Verdict::Is(Flow::Request),
        (Some(false), _) | (_, Some(false)) => Verdict::More,
        (None, None) => Verdict::Not,
    }
}

/// Bytes of BEGIN_REQUEST that are looked at: no more than tell it from all others, so that few need
/// to be there.
const ASKED: usize = 13;

/// Whether a BEGIN_REQUEST may have this byte there.
fn begins(at: usize, byte: u8) -> bool {
    match at {
        0 => byte == VERSION,
        1 => byte == kind::BEGIN,
        2 | 3 => true,
        5 => byte == 8,
        9 => matches!(byte, 1..=3),
        10 => byte <= 1,
        _ => byte == 0,
    }
}

/// Bytes of GET_VALUES that are looked at: its first name's beginning too.
const VALUES: usize = 15;

/// Whether a GET_VALUES may have this byte there. All names there are begin alike (section 4.1).
fn asks(at: usize, byte: u8) -> bool {
    match at {
        0 => byte == VERSION,
        1 => byte == kind::GET_VALUES,
        4 => byte < 2,
        5 => true,
        6 => byte < 8,
        8 => (10..128).contains(&byte),
        10.. => b"FCGI_".get(at.saturating_sub(10)) == Some(&byte),
        _ => byte == 0,
    }
}
