//! BoringSSL without symbols, inside a library such as gRPC's for Python.
//!
//! Its functions are told by the errors they report. OPENSSL_PUT_ERROR passes to ERR_put_error the
//! library (16: SSL) in edi, a reason in edx, the source file's name in rcx and the line in r8d
//! (err.h); reasons are part of the API (ssl.h) and a file's name is there once. In ssl/ssl_lib.cc
//! SSL_write alone reports a bad length with three others; SSL_peek, and SSL_read with SSL_peek
//! inside it, report the same line, call the same ssl_read_impl, and SSL_read does more. What is not
//! told apart by all of that is refused.
//!
//! SSL_free reports nothing and is not found: an address may come again as another session.

use std::collections::{BTreeMap, HashMap};

use iced_x86::{Code, FlowControl, InstructionInfoFactory};
use memchr::memmem;

use super::named::{self, Known, known};
use super::{Hook, Library, Plan, Reason};
use crate::target::code::{self, Body, Register};
use crate::target::image::{Function, Image};

/// The line of the registry.
pub const LIBRARY: &dyn Library = &BoringSsl;

struct BoringSsl;

impl Library for BoringSsl {
    fn name(&self) -> &'static str {
        "boringssl"
    }

    fn plan(&self, image: &Image) -> Option<Result<Plan, Reason>> {
        let file = source_file(image)?;
        if !image.x86_64() || image.function(WRITE.name).is_some() {
            return None;
        }
        let Some((write, read)) = functions(image, file) else {
            let text = "BoringSSL without symbols, and its functions are not told by their errors";
            return Some(Err(Reason(text.into())));
        };
        let places = named::sites(image, &[(&WRITE, write), (&READ, read)]);
        Some(places.map(|(sites, left_out)| Plan {
            library: self.name(),
            version: None,
            sites,
            left_out,
        }))
    }
}

const WRITE: Known = known("SSL_write", Hook::Write, Some(Hook::Done));
const READ: Known = known("SSL_read", Hook::Read, Some(Hook::Done));

/// The address of the source file's name, if it is there once.
fn source_file(image: &Image) -> Option<u64> {
    let mut found = Vec::new();
    let rodata = image.section(".rodata")?;
    image.scan(rodata, NAME, &mut |address, bytes| {
        for end in memmem::find_iter(bytes, FILE) {
            // The name may have a path before it; what the window cuts is seen in the other.
            let begin = memchr::memrchr(0, bytes.get(..end).unwrap_or_default());
            found.extend(begin.map(|begin| address + begin as u64 + 1));
        }
    });
    found.dedup();
    <[u64; 1]>::try_from(found).ok().map(|[one]| one)
}

/// A function by what it says of itself.
#[derive(Debug)]
struct Told {
    function: Function,
    /// (reason, line) of its errors, in the order of the code.
    errors: Vec<(u64, u64)>,
    callees: Vec<u64>,
}

impl Told {
    fn reports(&self, reasons: &[u64]) -> bool {
        let reports = |reason| self.errors.iter().any(|(own, _)| own == reason);
        reasons.iter().all(reports)
    }
}

/// SSL_write and SSL_read.
fn functions(image: &Image, file: u64) -> Option<(Function, Function)> {
    let all = told(image, file)?;
    let mut writes = all.iter().filter(|told| told.reports(&WRITES));
    let (write, None) = (writes.next()?, writes.next()) else {
        return None;
    };
    let is_impl = |to: &u64| {
        let callee = all.iter().find(|told| told.function.address == *to);
        callee.is_some_and(|callee| callee.reports(&READS))
    };
    let shows = all.iter().filter(|told| {
        matches!(told.errors.as_slice(), [(NOT_TO_BE_CALLED, _)])
            && told.callees.iter().any(is_impl)
    });
    let shows: Vec<&Told> = shows.collect();
    let [one, other] = shows.as_slice() else {
        return None;
    };
    let more = |a: &Told, b: &Told| {
        a.callees.len() > b.callees.len() && b.callees.iter().all(|to| a.callees.contains(to))
    };
    let read = match (more(one, other), more(other, one)) {
        (true, false) => one,
        (false, true) => other,
        _ => return None,
    };
    (one.errors == other.errors).then_some((write.function, read.function))
}

/// All functions that name the file.
fn told(image: &Image, file: u64) -> Option<Vec<Told>> {
    let mut places = Vec::new();
    image.scan(image.section(".text")?, 6, &mut |address, bytes| {
        for at in memmem::find_iter(bytes, LEA_RCX) {
            let distance = bytes.get(at + 3..).and_then(|rest| rest.first_chunk());
            let next = address.wrapping_add(at as u64 + 7);
            let to = distance.map(|d| next.wrapping_add_signed(i32::from_le_bytes(*d).into()));
            if to == Some(file) && places.len() < PLACES {
                places.push(next - 7);
            }
        }
    });
    let mut functions = BTreeMap::new();
    for place in places {
        let function = image.around(place)?;
        functions.insert(function.address, function);
    }
    let told = functions.into_values().map(|function| {
        let body = image.body_of(function)?;
        Some(Told {
            function,
            errors: errors(&body, file),
            callees: code::callees(image, &body),
        })
    });
    told.collect()
}

/// The errors that code reports in this file's name: constants that are loaded on the straight way
/// to a call.
fn errors(body: &Body, file: u64) -> Vec<(u64, u64)> {
    let mut errors = Vec::new();
    let mut factory = InstructionInfoFactory::new();
    let mut known: HashMap<Register, u64> = HashMap::new();
    let targets = code::targets(body);
    let mut decoder = code::decoder(body, body.address);
    for instruction in decoder.iter_mut().flatten() {
        if targets.contains(&instruction.ip()) {
            known.clear();
        }
        if instruction.flow_control() == FlowControl::Call
            && known.get(&Register::RDI) == Some(&LIB_SSL)
            && known.get(&Register::RCX) == Some(&file)
        {
            let reason = known.get(&Register::RDX).copied();
            errors.extend(reason.zip(known.get(&Register::R8).copied()));
        }
        if instruction.flow_control() != FlowControl::Next {
            known.clear();
            continue;
        }
        for used in factory.info(&instruction).used_registers() {
            if code::changes(used.access()) {
                known.remove(&used.register().full_register());
            }
        }
        let value = match instruction.code() {
            Code::Mov_r32_imm32 => Some(u64::from(instruction.immediate32())),
            Code::Lea_r64_m if instruction.is_ip_rel_memory_operand() => {
                Some(instruction.ip_rel_memory_address())
            }
            _ => None,
        };
        known.extend(value.map(|value| (instruction.op0_register().full_register(), value)));
    }
    errors
}

const FILE: &[u8] = b"ssl/ssl_lib.cc\0";
/// The longest name of a source file, with its path.
const NAME: u64 = 1024;
/// `lea rcx, [rip + …]`.
const LEA_RCX: &[u8] = &[0x48, 0x8d, 0x0d];
const PLACES: usize = 1024;

/// ERR_LIB_SSL, ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED (err.h).
const LIB_SSL: u64 = 16;
const NOT_TO_BE_CALLED: u64 = 66;
/// SSL_R_BAD_LENGTH, SSL_R_SSL_HANDSHAKE_FAILURE, SSL_R_UNINITIALIZED (ssl.h).
const WRITES: [u64; 4] = [NOT_TO_BE_CALLED, 111, 215, 226];
const READS: [u64; 2] = [215, 226];
