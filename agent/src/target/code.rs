//! Where in a function's code a uprobe is cheap and sees what it is for. The kernel emulates a few
//! instructions and single-steps the rest, which costs some 17 times as much under virtualisation:
//! [`entry`] and [`exits`] look for one of the few.
//!
//! Never true here: that a call passes a place twice or not at all. Code that cannot be followed is
//! refused; ways that the processor never takes may be followed too, which only refuses more.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess,
    OpKind,
};
use smallvec::SmallVec;

pub use iced_x86::Register;

mod results;
mod table;

pub use results::results;

/// A place for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Its virtual address.
    pub address: u64,
    /// The kernel does not emulate the instruction there.
    pub stepped: bool,
}

/// The code of a function, or of the part of one that the compiler put elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The virtual address of its first byte.
    pub address: u64,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// What is around a function, for those that jump out of themselves.
pub trait Program {
    /// The function that holds this address.
    fn body(&self, address: u64) -> Option<Body>;
    /// Where a jump through the pointer at this address goes, if that is known for certain.
    fn pointer(&self, slot: u64) -> Option<u64>;
    /// So many bytes at this address, if the program cannot change them.
    fn constant(&self, address: u64, length: u64) -> Option<Vec<u8>>;
}

/// Where to see a function's arguments: the first place that every call passes once, with `live`
/// still as the caller left them. `None`: the code cannot be read.
///
/// Every instruction that the kernel emulates but the push and the nop is a branch, so the way there
/// is straight.
pub fn entry(body: &Body, live: &[Register]) -> Option<Place> {
    let mut factory = InstructionInfoFactory::new();
    let first = decoder(body, body.address)?.decode();
    let start = probeable(body, &first).then_some(Place {
        address: body.address,
        stepped: !emulated(body, &first),
    });
    let again = targets(body);
    for instruction in decoder(body, body.address)?.iter() {
        let address = instruction.ip();
        if instruction.is_invalid() || address != body.address && again.contains(&address) {
            return start;
        }
        if emulated(body, &instruction) {
            return Some(Place {
                address,
                stepped: false,
            });
        }
        let kills = |register| writes(&mut factory, &instruction, register);
        if instruction.flow_control() != FlowControl::Next || live.iter().copied().any(kills) {
            return start;
        }
    }
    start
}

/// Where to see a function's result in rax: for every way out one place that it passes once, after
/// which rax is not written. Jumps out of the function are followed.
pub fn exits(program: &dyn Program, body: Body) -> Result<Vec<Place>, String> {
    let flow = Flow::trace(program, body)?;
    let rets: Vec<u64> = flow.rets().collect();
    if rets.is_empty() {
        return Err("it never returns".to_owned());
    }
    let last = flow.settled();
    let mut cheap: Vec<u64> = rets.iter().map(|&ret| flow.before(ret, &last)).collect();
    cheap.sort_unstable();
    cheap.dedup();
    let chosen = if flow.once(&cheap) { cheap } else { rets };
    let place = |address| {
        let step = flow.steps.get(&address).filter(|step| step.probeable);
        step.map(|step| Place {
            address,
            stepped: !step.emulated,
        })
    };
    let places: Option<Vec<Place>> = chosen.into_iter().map(place).collect();
    places.ok_or_else(|| "a return that cannot be probed".to_owned())
}

/// The functions that a function's code calls or jumps to, by address, its own parts left out;
/// where it does so through a pointer in memory, what the pointer holds.
pub fn callees(program: &dyn Program, body: &Body) -> Vec<u64> {
    let mut found = Vec::new();
    let Some(mut decoder) = decoder(body, body.address) else {
        return found;
    };
    for instruction in decoder.iter() {
        let target = match branch(&instruction) {
            Some(target) => Some(target),
            None => slot(&instruction).and_then(|slot| program.pointer(slot)),
        };
        let outside = target.filter(|&target| !body.holds(target));
        found.extend(outside.filter(|target| !found.contains(target)));
    }
    found
}

/// Where a stub of the procedure linkage table at this address goes; `address` itself if it is none.
pub fn through(program: &dyn Program, address: u64) -> u64 {
    let stub = || {
        let body = program.body(address)?;
        let mut decoder = decoder(&body, address)?;
        let mut instruction = decoder.decode();
        if instruction.code() == Code::Endbr64 {
            instruction = decoder.decode();
        }
        let jump = instruction.flow_control() == FlowControl::IndirectBranch;
        program.pointer(slot(&instruction).filter(|_| jump)?)
    };
    stub().unwrap_or(address)
}

impl Body {
    fn holds(&self, address: u64) -> bool {
        self.at(address).is_some()
    }

    /// The bytes from an address on, never empty.
    fn at(&self, address: u64) -> Option<&[u8]> {
        let inner = usize::try_from(address.checked_sub(self.address)?).ok()?;
        self.bytes.get(inner..).filter(|rest| !rest.is_empty())
    }
}

/// One instruction of a function, as far as its way out matters.
#[derive(Debug)]
struct Step {
    emulated: bool,
    probeable: bool,
    writes: bool,
    ret: bool,
    /// A jump, and not yet known where to.
    open: bool,
    next: SmallVec<[u64; 2]>,
}

/// All ways from a function's beginning.
#[derive(Debug)]
struct Flow {
    start: u64,
    bodies: Vec<Body>,
    steps: BTreeMap<u64, Step>,
    previous: BTreeMap<u64, SmallVec<[u64; 2]>>,
}

impl Flow {
    fn trace(program: &dyn Program, body: Body) -> Result<Self, String> {
        let start = body.address;
        let mut flow = Self {
            start,
            bodies: vec![body],
            steps: BTreeMap::new(),
            previous: BTreeMap::new(),
        };
        let unknown = |at| format!("an indirect jump at {at:#x}");
        let mut open = flow.follow(program, vec![start])?;
        let mut tables = Vec::new();
        while let Some(at) = open.pop() {
            if tables.len() >= TABLES {
                return Err("more jump tables than are followed".to_owned());
            }
            let next = table::targets(program, &flow.straight(at));
            let next = next.ok_or_else(|| unknown(at))?;
            flow.lead(at, &next);
            open.extend(flow.follow(program, next.clone())?);
            tables.push((at, next));
        }
        // What was found since may lead into the code that a table was known by.
        for (at, next) in tables {
            if table::targets(program, &flow.straight(at)) != Some(next) {
                return Err(unknown(at));
            }
        }
        Ok(flow)
    }

    /// Goes all these ways as far as it is known; the jumps where it is not.
    fn follow(&mut self, program: &dyn Program, mut ways: Vec<u64>) -> Result<Vec<u64>, String> {
        let mut factory = InstructionInfoFactory::new();
        let mut open = Vec::new();
        while let Some(at) = ways.pop() {
            if self.steps.contains_key(&at) {
                continue;
            }
            if self.steps.len() >= STEPS {
                return Err("more code than is followed".to_owned());
            }
            if self.body(at).is_none() {
                let new = program.body(at).filter(|body| body.holds(at));
                let new = new.ok_or_else(|| format!("a jump to {at:#x}, which is no function"))?;
                if self.bodies.len() >= BODIES {
                    return Err("jumps through too many functions".to_owned());
                }
                self.bodies.push(new);
            }
            let body = self.body(at).ok_or("no code")?;
            let step = step(program, &mut factory, body, at)?;
            open.extend(step.open.then_some(at));
            let next = step.next.clone();
            self.steps.insert(at, step);
            for &to in &next {
                self.previous.entry(to).or_default().push(at);
            }
            ways.extend(next);
        }
        Ok(open)
    }

    /// Where the jump at an address goes.
    fn lead(&mut self, at: u64, next: &[u64]) {
        for &to in next {
            self.previous.entry(to).or_default().push(at);
        }
        if let Some(step) = self.steps.get_mut(&at) {
            step.next = next.into();
        }
    }

    fn body(&self, at: u64) -> Option<&Body> {
        self.bodies.iter().find(|body| body.holds(at))
    }

    /// The one way to an instruction, itself the last; from where others join, or farther than is
    /// looked, all is left out.
    fn straight(&self, at: u64) -> Vec<Instruction> {
        let mut way = Vec::new();
        let mut next = Some(at);
        while let Some(at) = next.filter(|_| way.len() < STRAIGHT) {
            let decoder = self.body(at).and_then(|body| decoder(body, at));
            way.extend(decoder.map(|mut decoder| decoder.decode()));
            let previous = self.previous.get(&at).map(SmallVec::as_slice);
            next = match previous.filter(|_| at != self.start) {
                Some([one]) => Some(*one),
                _ => None,
            };
        }
        way.reverse();
        way
    }

    fn rets(&self) -> impl Iterator<Item = u64> {
        let rets = self.steps.iter().filter(|(_, step)| step.ret);
        rets.map(|(&at, _)| at)
    }

    /// From where on nothing writes rax on any way to a return.
    fn settled(&self) -> BTreeSet<u64> {
        let returning = self.leading(self.rets());
        let writing = |at: &u64| self.steps.get(at).is_some_and(|step| step.writes);
        let unsettled = self.leading(returning.iter().copied().filter(writing));
        returning.difference(&unsettled).copied().collect()
    }

    /// These instructions and all from which a way leads to one of them.
    fn leading(&self, to: impl Iterator<Item = u64>) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        let mut open: Vec<u64> = to.collect();
        while let Some(at) = open.pop() {
            if found.insert(at) {
                open.extend(self.previous.get(&at).into_iter().flatten());
            }
        }
        found
    }

    /// The nearest emulated instruction before a return, through which alone it is reached and from
    /// which on rax is settled; else the return.
    fn before(&self, ret: u64, settled: &BTreeSet<u64>) -> u64 {
        let mut at = ret;
        for _ in 0..NEAR {
            let previous = self.previous.get(&at).map(SmallVec::as_slice);
            let Some([one]) = previous.filter(|_| at != self.start) else {
                return ret;
            };
            at = *one;
            if !settled.contains(&at) {
                return ret;
            }
            if self.steps.get(&at).is_some_and(|step| step.emulated) {
                return at;
            }
        }
        ret
    }

    /// Whether every way to a return passes exactly one of these places.
    fn once(&self, places: &[u64]) -> bool {
        // For each instruction, how many places a way to it may have passed, itself included, as
        // bits: none, one, more.
        const ONE: u8 = 2;
        const MORE: u8 = 4;
        let mut passed: BTreeMap<u64, u8> = BTreeMap::new();
        let mut ways = vec![(self.start, 1)];
        while let Some((at, counts)) = ways.pop() {
            let own = if places.contains(&at) {
                (counts << 1) & (ONE | MORE) | counts & MORE
            } else {
                counts
            };
            let old = passed.entry(at).or_default();
            if *old | own != *old {
                *old |= own;
                let next = self.steps.get(&at).into_iter().flat_map(|step| &step.next);
                ways.extend(next.map(|&next| (next, own)));
            }
        }
        self.rets().all(|ret| passed.get(&ret) == Some(&ONE))
    }
}

fn step(
    program: &dyn Program,
    factory: &mut InstructionInfoFactory,
    body: &Body,
    at: u64,
) -> Result<Step, String> {
    let mut decoder = decoder(body, at).ok_or("no code")?;
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        return Err(format!("no instruction at {at:#x}"));
    }
    let mut next = SmallVec::new();
    let flow = instruction.flow_control();
    let through = instruction.next_ip();
    match flow {
        FlowControl::Next => next.push(through),
        // A call that is the last thing in the code does not return.
        FlowControl::Call | FlowControl::IndirectCall | FlowControl::Interrupt => {
            next.extend(Some(through).filter(|&through| body.holds(through)));
        }
        FlowControl::UnconditionalBranch => next.extend(branch(&instruction)),
        FlowControl::ConditionalBranch => {
            next.push(through);
            next.extend(branch(&instruction).filter(|&to| to != through));
        }
        FlowControl::IndirectBranch => {
            next.extend(slot(&instruction).and_then(|slot| program.pointer(slot)));
        }
        FlowControl::Return | FlowControl::Exception => {}
        FlowControl::XbeginXabortXend => return Err(format!("a transaction at {at:#x}")),
    }
    let branches = matches!(
        flow,
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
    );
    if branches && branch(&instruction).is_none() {
        return Err(format!("a jump at {at:#x} that cannot be read"));
    }
    if flow == FlowControl::Next && !body.holds(through) {
        return Err("code without an end".to_owned());
    }
    let calls = matches!(
        flow,
        FlowControl::Call | FlowControl::IndirectCall | FlowControl::Interrupt
    );
    Ok(Step {
        emulated: emulated(body, &instruction),
        probeable: probeable(body, &instruction),
        writes: calls || writes(factory, &instruction, Register::RAX),
        ret: flow == FlowControl::Return,
        open: flow == FlowControl::IndirectBranch && next.is_empty(),
        next,
    })
}

/// Where the code's own jumps go.
pub(super) fn targets(body: &Body) -> BTreeSet<u64> {
    let jumps = |instruction: &Instruction| {
        matches!(
            instruction.flow_control(),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
        )
    };
    let Some(mut decoder) = decoder(body, body.address) else {
        return BTreeSet::new();
    };
    let jumps = decoder.iter().filter(jumps);
    jumps.filter_map(|jump| branch(&jump)).collect()
}

fn branch(instruction: &Instruction) -> Option<u64> {
    let near = instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64;
    near.then(|| instruction.near_branch64())
}

/// The pointer that an indirect call or jump goes through, where its address is fixed.
fn slot(instruction: &Instruction) -> Option<u64> {
    let indirect = matches!(
        instruction.flow_control(),
        FlowControl::IndirectBranch | FlowControl::IndirectCall
    );
    (indirect && instruction.is_ip_rel_memory_operand())
        .then(|| instruction.ip_rel_memory_address())
}

fn writes(
    factory: &mut InstructionInfoFactory,
    instruction: &Instruction,
    register: Register,
) -> bool {
    let used = factory.info(instruction).used_registers();
    used.iter().any(|used| {
        changes(used.access()) && used.register().full_register() == register.full_register()
    })
}

/// Whether an operand may be another afterwards.
pub(super) fn changes(access: OpAccess) -> bool {
    use OpAccess::{CondRead, NoMemAccess, None, Read};
    !matches!(access, None | NoMemAccess | Read | CondRead)
}

/// Whether the kernel emulates an instruction: branch_setup_xol_ops and push_setup_xol_ops in
/// arch/x86/kernel/uprobes.c (the push since 4.16). The longer nops are not on every kernel's list,
/// and a prefix before a branch makes some refuse it.
fn emulated(body: &Body, instruction: &Instruction) -> bool {
    let bytes = body.at(instruction.ip()).unwrap_or_default();
    matches!(
        bytes.get(..instruction.len()),
        Some(
            [0x50..=0x57 | 0x90]
                | [0x41, 0x50..=0x57]
                | [0xeb | 0x70..=0x7f, _]
                | [0xe8 | 0xe9, _, _, _, _]
                | [0x0f, 0x80..=0x8f, _, _, _, _]
        )
    )
}

/// Whether the kernel takes a probe there at all: is_prefix_bad in arch/x86/kernel/uprobes.c
/// refuses segment overrides and LOCK. Others it refuses are not in programs' code.
fn probeable(body: &Body, instruction: &Instruction) -> bool {
    let bytes = body.at(instruction.ip()).unwrap_or_default();
    let bytes = bytes.get(..instruction.len()).unwrap_or_default();
    let prefixes = bytes.iter().take_while(|byte| {
        matches!(
            byte,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
        )
    });
    !instruction.is_invalid()
        && !prefixes
            .into_iter()
            .any(|byte| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0xf0))
}

pub(super) fn decoder(body: &Body, at: u64) -> Option<Decoder<'_>> {
    let bytes = body.at(at)?;
    Some(Decoder::with_ip(64, bytes, at, DecoderOptions::NONE))
}

/// Instructions followed from one function, and functions through which they lead.
const STEPS: usize = 20_000;
const BODIES: usize = 6;
/// Jump tables of one function, and instructions before a jump that are looked at.
const TABLES: usize = 64;
const STRAIGHT: usize = 64;
/// How far before a return another place is looked for.
const NEAR: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: u64 = 0x1000;
    const TABLE: u64 = 0x4000;

    /// Functions at addresses, and pointers to some.
    #[derive(Default)]
    struct Memory {
        bodies: Vec<Body>,
        pointers: Vec<(u64, u64)>,
        /// Constants at [`TABLE`].
        table: Vec<u8>,
    }

    impl Program for Memory {
        fn body(&self, address: u64) -> Option<Body> {
            self.bodies.iter().find(|b| b.holds(address)).cloned()
        }

        fn pointer(&self, slot: u64) -> Option<u64> {
            let found = self.pointers.iter().find(|(at, _)| *at == slot);
            found.map(|(_, to)| *to)
        }

        fn constant(&self, address: u64, length: u64) -> Option<Vec<u8>> {
            let from = usize::try_from(address.checked_sub(TABLE)?).ok()?;
            let length = usize::try_from(length).ok()?;
            Some(self.table.get(from..)?.get(..length)?.to_vec())
        }
    }

    fn body(bytes: &[u8]) -> Body {
        Body {
            address: START,
            bytes: bytes.to_vec(),
        }
    }

    /// Offsets of the exits; a stepped one is negative. None: refused.
    fn ways_out(bytes: &[u8]) -> Option<Vec<i64>> {
        let places = exits(&Memory::default(), body(bytes)).ok()?;
        Some(places.into_iter().map(told).collect())
    }

    fn told(place: Place) -> i64 {
        let offset = i64::try_from(place.address - START).unwrap();
        if place.stepped { -offset } else { offset }
    }

    fn way_in(bytes: &[u8]) -> Option<i64> {
        use Register::{RDI, RDX, RSI};
        entry(&body(bytes), &[RDI, RSI, RDX]).map(told)
    }

    /// Debian 12's SSL_read (OpenSSL 3.0), its calls' targets zeroed.
    const SSL_READ: &[u8] = b"\x48\x83\xec\x18\x64\x48\x8b\x04\x25\x28\0\0\0\x48\x89\x44\x24\x08\
        \x31\xc0\x85\xd2\x78\x2f\x48\x89\xe1\x48\x63\xd2\xe8\0\0\0\0\x85\xc0\x7e\x03\x8b\x04\x24\
        \x48\x8b\x54\x24\x08\x64\x48\x2b\x14\x25\x28\0\0\0\x75\x44\x48\x83\xc4\x18\x31\xd2\x31\xc9\
        \x31\xf6\x31\xff\xc3\xe8\0\0\0\0\x48\x8d\x15\0\0\0\0\xbe\x4c\x07\0\0\x48\x8d\x3d\0\0\0\0\
        \xe8\0\0\0\0\x31\xc0\x31\xd2\xbe\x0f\x01\0\0\xbf\x14\0\0\0\xe8\0\0\0\0\xb8\xff\xff\xff\xff\
        \xeb\xac\xe8\0\0\0\0";

    #[test]
    fn debians_ssl_read() {
        assert_eq!(way_in(SSL_READ), Some(0x16), "js");
        assert_eq!(ways_out(SSL_READ), Some(vec![0x38]), "the stack check");
        assert_eq!(ways_out(&SSL_READ[..0x40]), None, "without an end");
    }

    #[test]
    fn ways_in() {
        assert_eq!(way_in(b"\x55\xc3"), Some(0), "push rbp");
        assert_eq!(way_in(b"\xf3\x0f\x1e\xfa\x41\x57"), Some(4), "push r15");
        assert_eq!(way_in(b"\x48\x83\xec\x08\xe8\0\0\0\0"), Some(4), "call");
        assert_eq!(way_in(b"\x90"), Some(0));
        assert_eq!(way_in(b"\x31\xd2\x55"), Some(0), "rdx is gone: stepped");
        assert_eq!(way_in(b"\x66\x90\x31\xf6\x55"), Some(0), "a long nop");
        assert_eq!(way_in(b"\x31\xc0\xc3\x55"), Some(0), "after the end");
        assert_eq!(
            way_in(b"\x31\xc0\x55\x75\xfd"),
            Some(0),
            "a loop to the push"
        );
        assert_eq!(way_in(b"\x2e\x31\xc0\x31\xff\x55"), None, "a bad prefix");
        assert_eq!(way_in(b"\x06"), None, "no instruction");
        assert_eq!(way_in(b""), None);
        let first = entry(&body(b"\x31\xd2\x55"), &[Register::RDX]).unwrap();
        assert!(first.stepped);
    }

    #[test]
    fn exits_of_short_functions() {
        assert_eq!(ways_out(b"\x31\xc0\xc3"), Some(vec![-2]));
        assert_eq!(ways_out(b"\x31\xc0\x90\x5d\xc3"), Some(vec![2]));
        assert_eq!(ways_out(b"\x90\x31\xc0\xc3"), Some(vec![-3]), "rax after");
        assert_eq!(ways_out(b"\x90\xb0\x01\xc3"), Some(vec![-3]), "al too");
        // je 4; nop; ret; ret: the jump is before both, and only once if alone.
        assert_eq!(ways_out(b"\x74\x02\x90\xc3\xc3"), Some(vec![-3, -4]));
        assert_eq!(ways_out(b"\x74\x01\xc3\xc3"), Some(vec![0]));
        assert_eq!(ways_out(b"\xeb\xfe"), None, "for ever");
        assert_eq!(ways_out(b"\xff\xe0"), None, "jmp rax");
        assert_eq!(ways_out(b"\xeb\x10"), None, "outside");
        assert_eq!(ways_out(b"\x90"), None, "without an end");
    }

    #[test]
    fn jumps_out_are_followed() {
        let at = |address, bytes: &[u8]| Body {
            address,
            bytes: bytes.to_vec(),
        };
        // je to a cold part, which jumps back; else a jump through a pointer to another function.
        let cold = at(0x2000, b"\xe9\x07\xf0\xff\xff");
        let main = at(START, b"\x0f\x84\xfa\x0f\0\0\xff\x25\x04\0\0\0\x5d\xc3");
        let other = at(0x3000, b"\x31\xc0\xc3");
        let program = Memory {
            bodies: vec![main.clone(), cold, other],
            pointers: vec![(0x1010, 0x3000)],
            ..Memory::default()
        };
        let places = exits(&program, main.clone()).unwrap();
        let addresses: Vec<u64> = places.iter().map(|place| place.address).collect();
        assert_eq!(addresses, [0x2000, 0x3002]);
    }

    /// The exits of a function with a table of two entries.
    fn with_table(bytes: &[u8], table: Vec<u8>) -> Result<Vec<i64>, String> {
        let program = Memory {
            table,
            ..Memory::default()
        };
        let places = exits(&program, body(bytes))?;
        Ok(places.into_iter().map(told).collect())
    }

    /// Distances from the table.
    fn distances(targets: [u64; 2]) -> Vec<u8> {
        let distance = |to: u64| (to.wrapping_sub(TABLE) as u32).to_le_bytes();
        targets.map(distance).concat()
    }

    /// lea rdx, [TABLE]; movsxd rax, [rdx + rax * 4]; add rax, rdx; notrack jmp rax; where the
    /// first begins at this offset.
    fn switch(at: u32) -> Vec<u8> {
        let distance = TABLE as u32 - START as u32 - at - 7;
        let lea = [&[0x48, 0x8d, 0x15][..], &distance.to_le_bytes()].concat();
        [&lea[..], b"\x48\x63\x04\x82\x48\x01\xd0\x3e\xff\xe0"].concat()
    }

    #[test]
    fn jump_tables() {
        let check = |before: &[u8]| {
            let at = before.len();
            // Two cases, each with a return of its own, and where the others go.
            let code = [
                before,
                &switch(at as u32),
                b"\x90\xc3\x90\xc3\x31\xc0\x90\xc3",
            ]
            .concat();
            let case = START + at as u64 + 17;
            let places = with_table(&code, distances([case + 2, case]))?;
            let relative = places.iter().map(|place| place - at as i64 - 17);
            Ok::<_, String>(relative.collect::<Vec<_>>())
        };
        let all = Ok(vec![0, 2, 6]);
        // cmp …, 1; ja to the others; what lies between is told by the distance.
        assert_eq!(check(b"\x83\xf8\x01\x77\x15"), all, "cmp eax");
        assert_eq!(check(b"\x83\xff\x01\x77\x17\x89\xf8"), all, "mov eax, edi");
        assert_eq!(
            check(b"\x89\xf8\x83\xff\x01\x77\x15"),
            all,
            "the same before"
        );
        assert_eq!(check(b"\x3c\x01\x77\x18\x0f\xb6\xc0"), all, "movzx eax, al");
        assert_eq!(check(b"\x83\xf8\x02\x73\x15"), all, "jae");
        assert_eq!(
            check(b"\x83\xf8\x01\x76\x02\xeb\x15"),
            all,
            "jbe over a jmp"
        );
        assert_eq!(
            check(b"\x83\x7f\x08\x01\x77\x18\x8b\x47\x08"),
            all,
            "in memory"
        );
        let both = Ok(vec![0, 2]);
        assert_eq!(check(b"\x83\xe0\x01"), both, "and eax, 1");
        let refused = |before: &[u8]| {
            let why = check(before).unwrap_err();
            assert!(why.contains("an indirect jump"), "{why}");
        };
        refused(b"");
        refused(b"\x83\xf9\x01\x77\x15");
        refused(b"\x83\xf8\x01\x77\x00");
        refused(b"\x83\xf8\x01\x7f\x15");
        refused(b"\x83\xf8\x02\x77\x15");
        refused(b"\x83\xf8\xff\x77\x15");
        refused(b"\x83\xf8\x01\x77\x17\xff\xc0");
        refused(b"\x83\x7f\x08\x01\x77\x18\x8b\x47\x0c");
        refused(b"\x83\x7f\x08\x01\x77\x1b\xff\x47\x08\x8b\x47\x08");
        refused(b"\x83\x7f\x08\x01\x77\x1a\xff\xc7\x8b\x47\x08");
        refused(b"\x83\xf8\x01\x77\x1a\xe8\0\0\0\0");
    }

    #[test]
    fn jump_tables_of_addresses() {
        // cmp r15d, 1; ja; mov eax, r15d; jmp [TABLE + rax * 8]; then three ways out.
        let code = b"\x41\x83\xff\x01\x77\x0c\x44\x89\xf8\xff\x24\xc5\0\x40\0\0\
            \x90\xc3\x90\xc3";
        let table = |targets: [u64; 2]| targets.map(u64::to_le_bytes).concat();
        let places = with_table(code, table([START + 16, START + 16]));
        assert_eq!(places, Ok(vec![16, 18]));
        let outside = with_table(code, table([START + 16, START + 99]));
        assert!(outside.unwrap_err().contains("which is no function"));
        let short = table([START + 16, START + 16])[..12].to_vec();
        assert!(
            with_table(code, short)
                .unwrap_err()
                .contains("an indirect jump")
        );
    }

    #[test]
    fn a_case_that_leads_between_comparison_and_jump() {
        let before = b"\x83\xf8\x01\x77\x11";
        let code = [&before[..], &switch(5), b"\x90\xc3"].concat();
        let places = with_table(&code, distances([START + 22, START + 22]));
        assert_eq!(places, Ok(vec![22]));
        let places = with_table(&code, distances([START + 22, START + 5]));
        assert!(places.unwrap_err().contains("an indirect jump"));
        // To the comparison, as in a loop, is well.
        let places = with_table(&code, distances([START + 22, START]));
        assert_eq!(places, Ok(vec![22]));
    }

    /// Bytes that are often instructions.
    fn code() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            (0x70..=0x7fu8, -30..30i8).prop_map(|(op, to)| vec![op, to as u8]),
            (-30..30i8).prop_map(|to| vec![0xeb, to as u8]),
            Just(vec![0xc3]),
            Just(vec![0x90]),
            Just(vec![0x31, 0xc0]),
            Just(vec![0x48, 0x89, 0xfb]),
            Just(vec![0xe8, 0, 0, 0, 0]),
            // cmp eax, 3; ja …; jmp [TABLE + rax * 8]
            (-30..30i8).prop_map(|to| vec![0x83, 0xf8, 3, 0x77, to as u8]),
            Just(vec![0xff, 0x24, 0xc5, 0, 0x40, 0, 0]),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// Any bytes end; and along any way through the code an exit is passed once, after which
        /// rax stays.
        #[test]
        fn one_exit_on_each_way(
            bytes in code(),
            turns in proptest::collection::vec(any::<u8>(), 200),
            cases in proptest::array::uniform4(START..START + 80),
        ) {
            let table = cases.map(u64::to_le_bytes).concat();
            let program = Memory { table, ..Memory::default() };
            entry(&body(&bytes), &[Register::RDI]);
            callees(&program, &body(&bytes));
            let Ok(places) = exits(&program, body(&bytes)) else { return Ok(()) };
            let flow = Flow::trace(&program, body(&bytes)).unwrap();
            let (mut at, mut passed) = (START, 0);
            for turn in turns {
                let step = &flow.steps[&at];
                passed += usize::from(places.iter().any(|place| place.address == at));
                prop_assert!(passed == 0 || !step.writes || !flow.leading(flow.rets()).contains(&at));
                prop_assert!(passed < 2);
                if step.ret {
                    prop_assert_eq!(passed, 1);
                    break;
                }
                let Some(turn) = usize::from(turn).checked_rem(step.next.len()) else { break };
                at = step.next[turn];
            }
        }
    }
}
