//! A message of DNS (RFC 1035, 4): its head, the question, and what answers say.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::reader::Reader;
use super::super::{Attribute, PUSHED, Request, Response, Value};

/// Answers that a span shows.
const MAX_ANSWERS: usize = 16;
/// Bytes of a message before its sections (4.1.1).
pub const HEAD: usize = 12;

/// 4.1.1.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    id: u16,
    /// Whether it answers.
    pub is_answer: bool,
    code: u8,
    questions: u16,
    records: u32,
    answers: u16,
}

/// Flags of a standard query or its answer: no other opcode, and a bit that is always zero.
fn is_standard(flags: u16) -> bool {
    flags & (0xf << 11 | 0x40) == 0
}

impl Head {
    /// Whether bytes that are too few for a head may be the beginning of one.
    pub fn may_begin(bytes: &[u8]) -> bool {
        let mut reader = Reader::new(bytes);
        reader.u16() != Some(0) && reader.u16().is_none_or(is_standard)
    }

    /// A question or an answer of standard queries; `None` for all else, mDNS too (RFC 6762, 18.1: its
    /// number is zero).
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (id, flags) = (reader.u16()?, reader.u16()?);
        let [questions, answers, authorities, additional] =
            [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        let is_answer = flags & 0x8000 != 0;
        let code = (flags & 0xf) as u8;
        let plain = is_standard(flags) && id != 0;
        let fits = match is_answer {
            // An answer that is an error may leave the question out.
            true => questions == 1 || questions == 0 && code != 0 && answers == 0,
            false => {
                let (authoritative, truncated, available) = (0x400, 0x200, 0x80);
                let never = authoritative | truncated | available | 0xf;
                questions == 1
                    && answers == 0
                    && authorities == 0
                    && additional <= 2
                    && flags & never == 0
            }
        };
        (plain && fits).then_some(Self {
            id,
            is_answer,
            code,
            questions,
            answers,
            records: u32::from(answers) + u32::from(authorities) + u32::from(additional),
        })
    }
}

/// What a message says.
pub struct Said {
    /// Its number.
    pub id: u16,
    /// Of the question, where it is there.
    pub key: Option<u64>,
    /// It asks, or it answers.
    pub part: Result<Box<Request>, Box<Response>>,
}

/// A message.
#[derive(Debug)]
pub struct Read<'a> {
    /// Its first words.
    pub head: Head,
    /// Its labels, each behind its length, and its type; `None` where it is not repeated.
    question: Option<(&'a [u8], u16)>,
    /// Addresses and names of the answer.
    pub answers: Vec<String>,
    code: u16,
}

/// Reads a message whose every record ends inside of it, and the last at its end.
pub fn read(bytes: &[u8]) -> Option<Read<'_>> {
    let mut reader = Reader::new(bytes);
    let head = Head::read(&mut reader)?;
    let mut question = None;
    if head.questions == 1 {
        let name = labels(&mut reader)?;
        let kind = reader.u16()?;
        if !matches!(reader.u16()?, CLASS_IN | CLASS_CHAOS | CLASS_ANY) || kind == 0 {
            return None;
        }
        question = Some((name, kind));
    }
    let mut answers = Vec::new();
    let mut code = u16::from(head.code);
    for number in 0..head.records {
        pass_name(&mut reader)?;
        let (kind, _class, ttl) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let length = usize::from(reader.u16()?);
        let at = reader.position();
        let data = reader.take(length)?;
        if kind == TYPE_OPT {
            // Its upper eight bits are of the code (RFC 6891, 6.1.3).
            code |= (ttl >> 24) as u16 * 16;
        }
        if number < u32::from(head.answers) && answers.len() < MAX_ANSWERS {
            answers.extend(answer(kind, data, bytes, at));
        }
    }
    reader.is_empty().then_some(Read {
        head,
        question,
        answers,
        code,
    })
}

/// A name without pointers, up to the empty label that ends it (3.1).
fn labels<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let mut ahead = *reader;
    let from = ahead.position();
    loop {
        let length = ahead.u8()?;
        match length {
            0 => break,
            1..=63 => ahead.skip(length.into())?,
            _ => return None,
        }
        if ahead.position().saturating_sub(from) > MAX_NAME {
            return None;
        }
    }
    let name = reader.take(ahead.position().saturating_sub(from))?;
    Some(name)
}

/// A name that may end in a pointer (4.1.4).
fn pass_name(reader: &mut Reader<'_>) -> Option<()> {
    let from = reader.position();
    loop {
        let length = reader.u8()?;
        match length {
            0 => return Some(()),
            1..=63 => reader.skip(length.into())?,
            0xc0.. => return reader.skip(1),
            _ => return None,
        }
        if reader.position().saturating_sub(from) > MAX_NAME {
            return None;
        }
    }
}

/// Longest name, bytes (3.1).
pub const MAX_NAME: usize = 255;
/// Most pointers that are followed in one name.
const MAX_POINTERS: usize = 16;

/// The name at an offset of a message, as text.
pub fn name_at(message: &[u8], mut at: usize) -> Option<String> {
    let mut text = String::new();
    for _ in 0..MAX_POINTERS {
        let mut reader = Reader::new(message.get(at..)?);
        loop {
            let length = reader.u8()?;
            match length {
                0 => return Some(text),
                1..=63 => push_label(&mut text, reader.take(length.into())?),
                0xc0.. => {
                    at = usize::from(length & 0x3f) << 8 | usize::from(reader.u8()?);
                    break;
                }
                _ => return None,
            }
            if text.len() > 4 * MAX_NAME {
                return None;
            }
        }
    }
    None
}

/// As in zone files (5.1): what is no plain character goes by its number.
pub fn push_label(text: &mut String, label: &[u8]) {
    if !text.is_empty() {
        text.push('.');
    }
    for &b in label {
        match b {
            b'.' | b'\\' => text.extend(['\\', char::from(b)]),
            0x21..=0x7e => text.push(char::from(b)),
            _ => text.push_str(&format!("\\{b:03}")),
        }
    }
}

/// What a record of an answer says, where it is an address or a name.
fn answer(kind: u16, data: &[u8], message: &[u8], at: usize) -> Option<String> {
    match kind {
        TYPE_A => Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string()),
        TYPE_AAAA => Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string()),
        TYPE_CNAME | TYPE_PTR | TYPE_NS => name_at(message, at),
        // Priority, weight and port come first (RFC 2782).
        TYPE_SRV => name_at(message, at.checked_add(6)?),
        TYPE_MX => name_at(message, at.checked_add(2)?),
        _ => None,
    }
}

const TYPE_A: u16 = 1;
const TYPE_NS: u16 = 2;
const TYPE_CNAME: u16 = 5;
const TYPE_PTR: u16 = 12;
const TYPE_MX: u16 = 15;
const TYPE_AAAA: u16 = 28;
const TYPE_SRV: u16 = 33;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;
const CLASS_CHAOS: u16 = 3;
const CLASS_ANY: u16 = 255;

impl Read<'_> {
    /// What it says, in words of its own.
    pub fn said(&self) -> Said {
        Said {
            id: self.head.id,
            key: self.question.map(|question| self.key(question)),
            part: match self.head.is_answer {
                true => Err(Box::new(self.response())),
                false => Ok(Box::new(self.request())),
            },
        }
    }

    /// Of the number and the words; FNV-1a. Letters count as they are sent: who answers repeats them.
    fn key(&self, (name, kind): (&[u8], u16)) -> u64 {
        let [a, b] = self.head.id.to_be_bytes();
        let [c, d] = kind.to_be_bytes();
        let bytes = [a, b, c, d].into_iter().chain(name.iter().copied());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| {
            (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        hash & !PUSHED
    }

    /// The question as a request.
    pub fn request(&self) -> Request {
        let (name, kind) = self.question.unwrap_or_default();
        let kind = kind_name(kind);
        let text = name_at(name, 0).filter(|text| !text.is_empty());
        let attributes = vec![
            Attribute::text("dns.question.name", text.unwrap_or_else(|| ".".into())),
            Attribute {
                key: Cow::Borrowed("spantap.dns.question.type"),
                value: Value::Str(kind.clone()),
            },
        ];
        Request::call("dns", format!("DNS {kind}"), attributes)
    }

    /// The answer as a response.
    pub fn response(&self) -> Response {
        let code = match CODES.get(usize::from(self.code)) {
            Some(name) => Cow::Borrowed(*name),
            None => Cow::Owned(self.code.to_string()),
        };
        let mut attributes = vec![Attribute {
            key: Cow::Borrowed("spantap.dns.response_code"),
            value: Value::Str(code.clone()),
        }];
        if !self.answers.is_empty() {
            attributes.push(Attribute {
                key: Cow::Borrowed("dns.answers"),
                value: Value::List(self.answers.clone()),
            });
        }
        // That there is no such name is no fault of who says so.
        let fault = matches!(self.code, SERVFAIL | NOTIMP);
        Response {
            attributes,
            client_error: (self.code != 0).then(|| code.clone()),
            server_error: fault.then_some(code),
            messages: Vec::new(),
        }
    }
}

const SERVFAIL: u16 = 2;
const NOTIMP: u16 = 4;

/// RCODEs (IANA, "DNS RCODEs").
const CODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
    "NXRRSET", "NOTAUTH", "NOTZONE",
];

/// Names of types that are asked for (IANA, "Resource Record TYPEs"); others go as RFC 3597 has it.
fn kind_name(kind: u16) -> Cow<'static, str> {
    let known = KINDS.iter().find(|(number, _)| *number == kind);
    match known {
        Some((_, name)) => Cow::Borrowed(name),
        None => Cow::Owned(format!("TYPE{kind}")),
    }
}

const KINDS: [(u16, &str); 20] = [
    (TYPE_A, "A"),
    (TYPE_NS, "NS"),
    (TYPE_CNAME, "CNAME"),
    (6, "SOA"),
    (TYPE_PTR, "PTR"),
    (TYPE_MX, "MX"),
    (16, "TXT"),
    (TYPE_AAAA, "AAAA"),
    (TYPE_SRV, "SRV"),
    (35, "NAPTR"),
    (43, "DS"),
    (48, "DNSKEY"),
    (46, "RRSIG"),
    (52, "TLSA"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (252, "AXFR"),
    (255, "ANY"),
    (257, "CAA"),
];
