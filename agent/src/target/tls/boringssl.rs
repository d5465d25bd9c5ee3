//! BoringSSL without symbols, inside a library such as gRPC's for Python.
//!
//! Its functions are told by the errors they report. OPENSSL_PUT_ERROR passes to ERR_put_error the
//! library (16: SSL) in edi, a reason in edx, the source file's name in rcx and the line in r8d
//! (err.h); reasons are part of the API (ssl.h) and a file's name is there once. In ssl/ssl_lib.cc
//! SSL_write alone reports a bad length with three others; SSL_peek, and SSL_read with SSL_peek
//! inside it, report the same line, call the same ssl_read_impl, and SSL_read does more.
//!
//! In crypto/bio/bio.cc BIO_read, BIO_gets and the forms of BIO_write, in this order, each report
//! two reasons; the form that ssl/s3_pkt.cc's functions reach with one call between is the one that
//! records go through. SSL_set_connect_state and SSL_set_accept_state put the address of a function
//! of ssl/handshake_client.cc or ssl/handshake_server.cc into the same field of the session, and do
//! nothing else but a flag. What is not told apart by all of that is refused, or left out.
//!
//! SSL_free reports nothing and is not found: a session's end is where another begins.

use std::collections::{BTreeMap, HashMap};

use iced_x86::{Code, FlowControl, InstructionInfoFactory, OpKind};
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
        let sources = Sources::find(image).filter(|_| image.x86_64())?;
        if sources.places(SSL).is_empty() || image.function(WRITE.name).is_some() {
            return None;
        }
        let Some((write, read)) = functions(image, &sources) else {
            let text = "BoringSSL without symbols, and its functions are not told by their errors";
            return Some(Err(Reason(text.into())));
        };
        let mut present = vec![(&WRITE, write), (&READ, read)];
        let mut unknown = Vec::new();
        match bio_write(image, &sources) {
            Some(function) => present.push((&BIO_WRITE, function)),
            None => unknown.push(Reason("BIO_write: not told by its errors".into())),
        }
        match begins(image, &sources) {
            Some([connect, accept]) => present.extend([(&CONNECT, connect), (&ACCEPT, accept)]),
            None => unknown.push(Reason("where sessions begin: not found".into())),
        }
        let places = named::sites(image, &present);
        Some(places.map(|(sites, left_out)| Plan {
            library: self.name(),
            version: None,
            sites,
            left_out: [left_out, unknown].concat(),
        }))
    }
}

const WRITE: Known = known("SSL_write", Hook::Write, Some(Hook::Done));
const READ: Known = known("SSL_read", Hook::Read, Some(Hook::Done));
const BIO_WRITE: Known = known("BIO_write", Hook::BioWrite, None).seldom();
const CONNECT: Known = known("SSL_set_connect_state", Hook::Begin, None).seldom();
const ACCEPT: Known = known("SSL_set_accept_state", Hook::Begin, None).seldom();

/// The library's source files by their names, and the code that loads these.
#[derive(Debug)]
struct Sources {
    /// Each that is there once, with its address.
    names: Vec<(&'static str, u64)>,
    /// (place, name loaded).
    places: Vec<(u64, u64)>,
}

impl Sources {
    /// `None`: [`SSL`] is not there, or not once.
    fn find(image: &Image) -> Option<Self> {
        let mut found = Vec::new();
        image.scan(image.section(".rodata")?, NAME, &mut |address, bytes| {
            for end in memmem::find_iter(bytes, END) {
                // The name may have a path before it; what the window cuts is seen in the other.
                let text = bytes.get(..end + END.len() - 1).unwrap_or_default();
                let Some(file) = FILES.iter().find(|file| text.ends_with(file.as_bytes())) else {
                    continue;
                };
                let before = text.iter().rposition(|byte| !byte.is_ascii_graphic());
                let begin = before.map(|before| (*file, address + before as u64 + 1));
                let others = |(name, _): &&(&str, u64)| name == file;
                // Two are as many as are of use: what is not there once is not used.
                let room = found.iter().filter(others).count() < 2;
                found.extend(begin.filter(|begin| room && !found.contains(begin)));
            }
        });
        let once = |file: &str| found.iter().filter(|(name, _)| *name == file).count() == 1;
        let mut names = found.clone();
        names.retain(|(name, _)| once(name));
        names.iter().find(|(name, _)| *name == SSL)?;
        let targets: Vec<u64> = names.iter().map(|(_, address)| *address).collect();
        let places = references(image, &targets);
        Some(Self { names, places })
    }

    fn name(&self, file: &str) -> Option<u64> {
        let mut names = self.names.iter();
        names.find(|(name, _)| *name == file).map(|(_, at)| *at)
    }

    /// Where a file's name is loaded.
    fn places(&self, file: &str) -> Vec<u64> {
        let name = self.name(file);
        let places = self.places.iter().filter(|(_, to)| Some(*to) == name);
        places.map(|(place, _)| *place).collect()
    }

    /// The functions of a file, which report errors of this library.
    fn told(&self, image: &Image, file: &str, library: u64) -> Option<Vec<Told>> {
        let name = self.name(file)?;
        let told = around(image, &self.places(file))?.into_iter();
        let told = told.map(|function| {
            let body = image.body_of(function)?;
            Some(Told {
                function,
                errors: errors(&body, name, library),
                callees: code::callees(image, &body),
            })
        });
        told.collect()
    }
}

/// The places in the code that load one of these addresses, with which.
fn references(image: &Image, targets: &[u64]) -> Vec<(u64, u64)> {
    let mut places = Vec::new();
    let Some(text) = image.section(".text") else {
        return places;
    };
    image.scan(text, LEA, &mut |address, bytes| {
        for at in memchr::memchr_iter(LEA_CODE, bytes) {
            // `lea r64, [rip + …]`: a prefix, the code, the registers, the distance.
            let Some(&[prefix, _, registers, a, b, c, d]) = at
                .checked_sub(1)
                .and_then(|begin| bytes.get(begin..)?.first_chunk())
            else {
                continue;
            };
            if !matches!(prefix, 0x48 | 0x4c) || registers & 0xc7 != 5 {
                continue;
            }
            let place = address.wrapping_add(at as u64).wrapping_sub(1);
            let distance = i32::from_le_bytes([a, b, c, d]);
            let to = place.wrapping_add(LEA).wrapping_add_signed(distance.into());
            if targets.contains(&to) && places.len() < PLACES {
                places.push((place, to));
            }
        }
    });
    places
}

/// The functions that hold these places, each once.
fn around(image: &Image, places: &[u64]) -> Option<Vec<Function>> {
    let functions = places.iter().map(|place| image.around(*place));
    let functions: Option<BTreeMap<u64, Function>> =
        functions.map(|f| f.map(|f| (f.address, f))).collect();
    Some(functions?.into_values().collect())
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
fn functions(image: &Image, sources: &Sources) -> Option<(Function, Function)> {
    let all = sources.told(image, SSL, LIB_SSL)?;
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

/// The form of BIO_write that records go through: (bio, data, length).
fn bio_write(image: &Image, sources: &Sources) -> Option<Function> {
    let all = sources.told(image, BIO, LIB_BIO)?;
    let line = |told: &Told| {
        let mut errors = told.errors.iter();
        errors.find(|error| error.0 == UNINITIALIZED).map(|e| e.1)
    };
    let mut lines: Vec<u64> = all.iter().filter_map(line).collect();
    lines.sort_unstable();
    lines.dedup();
    let [_read, _gets, write] = lines.as_slice() else {
        return None;
    };
    let packets = sources.told(image, PACKETS, LIB_SSL)?;
    let mut between: Vec<u64> = packets.iter().flat_map(|t| t.callees.clone()).collect();
    between.sort_unstable();
    between.dedup();
    let called = between.iter().flat_map(|callee| {
        let body = image.around(*callee).and_then(|f| image.body_of(f));
        body.map(|body| code::callees(image, &body))
            .unwrap_or_default()
    });
    let called: Vec<u64> = called.collect();
    let mut writes = all.iter().filter(|told| {
        told.reports(&BIO_WRITES)
            && line(told) == Some(*write)
            && called.contains(&told.function.address)
    });
    let one = writes.next().filter(|_| writes.next().is_none());
    one.map(|told| told.function)
}

/// SSL_set_connect_state and SSL_set_accept_state.
fn begins(image: &Image, sources: &Sources) -> Option<[Function; 2]> {
    let steps = |file| around(image, &sources.places(file));
    let (client, server) = (steps(CLIENT)?, steps(SERVER)?);
    let all = client
        .iter()
        .chain(&server)
        .map(|function| function.address);
    let places = references(image, &all.collect::<Vec<u64>>());
    let setter = |steps: &[Function]| {
        let of = |to: u64| steps.iter().any(|function| function.address == to);
        let places = places.iter().filter(|(_, to)| of(*to));
        let places: Vec<u64> = places.map(|(place, _)| *place).collect();
        let setters = around(image, &places)?.into_iter();
        let setters = setters.filter_map(|function| Some((function, set(image, function)?)));
        <[_; 1]>::try_from(setters.collect::<Vec<_>>()).ok()
    };
    let ([(connect, one)], [(accept, other)]) = (setter(&client)?, setter(&server)?);
    (one == other).then_some([connect, accept])
}

/// The field of its first argument that a function puts an address into, if that and a flag is all
/// that it does.
fn set(image: &Image, function: Function) -> Option<u64> {
    let body = image
        .body_of(function)
        .filter(|_| function.size <= SETTER)?;
    let mut field = None;
    let mut loaded = Register::None;
    for instruction in code::decoder(&body, body.address)?.iter() {
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::Return => return field,
            _ => return None,
        }
        match instruction.code() {
            Code::Lea_r64_m => loaded = instruction.op0_register(),
            Code::Mov_rm64_r64
                if instruction.op0_kind() == OpKind::Memory
                    && instruction.memory_base() == Register::RDI
                    && instruction.op1_register() == loaded =>
            {
                field = Some(instruction.memory_displacement64());
            }
            _ => {}
        }
    }
    None
}

/// The errors that code reports in this file's name, (reason, line): constants that are loaded on the straight way
/// to a call.
fn errors(body: &Body, file: u64, library: u64) -> Vec<(u64, u64)> {
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
            && known.get(&Register::RDI) == Some(&library)
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

const SSL: &str = "ssl/ssl_lib.cc";
const BIO: &str = "crypto/bio/bio.cc";
const PACKETS: &str = "ssl/s3_pkt.cc";
const CLIENT: &str = "ssl/handshake_client.cc";
const SERVER: &str = "ssl/handshake_server.cc";
const FILES: [&str; 5] = [SSL, BIO, PACKETS, CLIENT, SERVER];
const END: &[u8] = b".cc\0";
/// The longest name of a source file, with its path.
const NAME: u64 = 1024;
/// `lea`: its code, and its length in the form that is looked for.
const LEA_CODE: u8 = 0x8d;
const LEA: u64 = 7;
const PLACES: usize = 4096;
/// The longest function that only sets a field, in bytes.
const SETTER: u64 = 64;

/// ERR_LIB_SSL, ERR_LIB_BIO, ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED (err.h).
const LIB_SSL: u64 = 16;
const LIB_BIO: u64 = 17;
const NOT_TO_BE_CALLED: u64 = 66;
/// SSL_R_BAD_LENGTH, SSL_R_SSL_HANDSHAKE_FAILURE, SSL_R_UNINITIALIZED (ssl.h).
const WRITES: [u64; 4] = [NOT_TO_BE_CALLED, 111, 215, 226];
const READS: [u64; 2] = [215, 226];
/// BIO_R_UNINITIALIZED, BIO_R_UNSUPPORTED_METHOD (bio.h).
const UNINITIALIZED: u64 = 114;
const BIO_WRITES: [u64; 2] = [UNINITIALIZED, 115];
