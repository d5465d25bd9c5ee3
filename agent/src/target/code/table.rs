//! Jump tables: where the indirect jump of a `switch` goes, by the code before it, in the forms of
//! GCC and Clang for x86-64:
//!
//! ```text
//! cmp eax, 5; ja …; lea rdx, [table]; movsxd rax, [rdx + rax * 4]; add rax, rdx; jmp rax
//! cmp eax, 5; ja …; jmp [table + rax * 8]
//! ```
//!
//! The number compared may be in memory, or cut off by an `and`, and may move before it is used.
//!
//! Never true here: that a table is longer than what the code allows for. That a number compared in
//! a narrow register is widened before it is used is the compiler's word.

use std::collections::HashMap;

use iced_x86::{
    ConditionCode, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register,
};

use super::{Program, branch, changes};

/// Where the jump goes that is the last of these instructions, which run in this order and no other
/// way. `None`: not in one of those forms.
pub(super) fn targets(program: &dyn Program, way: &[Instruction]) -> Option<Vec<u64>> {
    let (jump, before) = way.split_last()?;
    let mut state = State::default();
    let mut factory = InstructionInfoFactory::new();
    for (instruction, next) in before.iter().zip(way.get(1..)?) {
        state.run(&mut factory, instruction, next.ip());
    }
    let table = match jump.op0_kind() {
        OpKind::Register => match state.registers.get(&jump.op0_register())? {
            Value::Target(table) => *table,
            _ => return None,
        },
        OpKind::Memory => state.pointers(jump)?,
        _ => return None,
    };
    let limit = *state.limits.get(&table.index)?;
    let count = limit.checked_add(1).filter(|count| *count <= ENTRIES)?;
    let mut found = table.read(program, count)?;
    found.sort_unstable();
    found.dedup();
    Some(found)
}

/// A table, and the number by which an entry is taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Table {
    address: u64,
    /// The entries are addresses; else distances from the table, of 32 bits.
    absolute: bool,
    index: Number,
}

/// Names a number that is not known.
type Number = usize;

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Number(Number),
    Address(u64),
    /// A distance from a table.
    Distance(Table),
    /// An address that a table gives.
    Target(Table),
}

impl Table {
    fn read(&self, program: &dyn Program, count: u64) -> Option<Vec<u64>> {
        if self.absolute {
            let bytes = program.constant(self.address, count * 8)?;
            let entries = bytes.as_chunks().0.iter();
            return Some(entries.map(|entry| u64::from_le_bytes(*entry)).collect());
        }
        let bytes = program.constant(self.address, count * 4)?;
        let distances = bytes.as_chunks().0.iter();
        let distances = distances.map(|entry| i64::from(i32::from_le_bytes(*entry)));
        Some(
            distances
                .map(|d| self.address.wrapping_add_signed(d))
                .collect(),
        )
    }
}

/// What is known between two instructions.
#[derive(Debug, Default)]
struct State {
    /// By their full names.
    registers: HashMap<Register, Value>,
    /// The place in memory that was compared last, if it still holds that.
    memory: Option<(Instruction, Number)>,
    /// What the flags are of: a number, and what it was compared with.
    compared: Option<(Number, u64)>,
    /// The most that a number can be.
    limits: HashMap<Number, u64>,
    numbers: Number,
}

impl State {
    /// Runs one instruction, after which comes the one at `next`.
    fn run(&mut self, factory: &mut InstructionInfoFactory, instruction: &Instruction, next: u64) {
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::ConditionalBranch => return self.choose(instruction, next),
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => return,
            // A call may change anything.
            _ => {
                self.registers.clear();
                (self.memory, self.compared) = (None, None);
                return;
            }
        }
        let value = self.value(instruction);
        let compared = self.comparison(instruction);
        let info = factory.info(instruction);
        for used in info.used_registers().iter().filter(|u| changes(u.access())) {
            let register = used.register().full_register();
            self.registers.remove(&register);
            let parts = |place: &Instruction| [place.memory_base(), place.memory_index()];
            self.memory
                .take_if(|(place, _)| parts(place).iter().any(|p| p.full_register() == register));
        }
        if info.used_memory().iter().any(|used| changes(used.access())) {
            self.memory = None;
        }
        if let Some(value) = value {
            let register = instruction.op0_register().full_register();
            self.registers.insert(register, value);
        }
        if instruction.rflags_modified() != 0 {
            self.compared = compared;
        }
    }

    /// What the one way from a branch to `next` says of the number that was compared before it.
    fn choose(&mut self, instruction: &Instruction, next: u64) {
        let Some((number, with)) = self.compared else {
            return;
        };
        let through = instruction.next_ip();
        if branch(instruction).is_none_or(|to| to == through) {
            return;
        }
        let limit = match (instruction.condition_code(), next == through) {
            (ConditionCode::a, true) | (ConditionCode::be, false) => Some(with),
            (ConditionCode::ae, true) | (ConditionCode::b, false) => with.checked_sub(1),
            _ => None,
        };
        if let Some(limit) = limit {
            self.limit(number, limit);
        }
    }

    fn limit(&mut self, number: Number, most: u64) {
        let limit = self.limits.entry(number).or_insert(most);
        *limit = most.min(*limit);
    }

    /// What an instruction leaves in its first operand, if that is a whole register.
    fn value(&mut self, instruction: &Instruction) -> Option<Value> {
        let to = instruction.op0_register();
        if instruction.op0_kind() != OpKind::Register || to.size() < 4 || !to.is_gpr() {
            return None;
        }
        let memory = instruction.op1_kind() == OpKind::Memory;
        match instruction.mnemonic() {
            Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => {
                Some(Value::Address(instruction.ip_rel_memory_address()))
            }
            Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd if memory => {
                self.loaded(instruction)
            }
            Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd => {
                let value = self.register(instruction, 1)?;
                (to.is_gpr64() || matches!(value, Value::Number(_))).then_some(value)
            }
            Mnemonic::Add if to.is_gpr64() => {
                let terms = (self.register(instruction, 0), self.register(instruction, 1));
                match terms {
                    (Some(Value::Distance(table)), Some(Value::Address(address)))
                    | (Some(Value::Address(address)), Some(Value::Distance(table))) => {
                        (table.address == address).then_some(Value::Target(table))
                    }
                    _ => None,
                }
            }
            Mnemonic::And => {
                let number = self.new_number();
                self.limit(number, immediate(instruction)?);
                Some(Value::Number(number))
            }
            _ => None,
        }
    }

    /// What is loaded from memory.
    fn loaded(&mut self, instruction: &Instruction) -> Option<Value> {
        let known = self.memory.filter(|(at, _)| same_place(at, instruction));
        if let Some((_, number)) = known {
            return Some(Value::Number(number));
        }
        if instruction.mnemonic() == Mnemonic::Mov {
            return self.pointers(instruction).map(Value::Target);
        }
        let index = self.index(instruction, 4)?;
        let base = self.registers.get(&instruction.memory_base());
        let Some(&Value::Address(address)) = base else {
            return None;
        };
        let distance = instruction.memory_displacement64() == 0
            && instruction.mnemonic() == Mnemonic::Movsxd
            && instruction.op0_register().is_gpr64();
        distance.then_some(Value::Distance(Table {
            address,
            absolute: false,
            index,
        }))
    }

    /// The table of addresses, itself at a fixed one, that an instruction reads an entry of.
    fn pointers(&mut self, instruction: &Instruction) -> Option<Table> {
        let index = self.index(instruction, 8)?;
        (instruction.memory_base() == Register::None).then(|| Table {
            address: instruction.memory_displacement64(),
            absolute: true,
            index,
        })
    }

    /// The number by which a memory operand is indexed, if in units of `scale` bytes, which are all
    /// that is read.
    fn index(&mut self, instruction: &Instruction, scale: usize) -> Option<Number> {
        let register = instruction.memory_index();
        let fits = usize::try_from(instruction.memory_index_scale()) == Ok(scale)
            && instruction.memory_size().size() == scale
            && instruction.segment_prefix() == Register::None
            && register.is_gpr64();
        fits.then(|| self.number(register))?
    }

    /// What a register operand holds.
    fn register(&mut self, instruction: &Instruction, operand: u32) -> Option<Value> {
        let register = instruction.op_register(operand);
        let high = [Register::AH, Register::BH, Register::CH, Register::DH];
        let plain = instruction.op_kind(operand) == OpKind::Register
            && register.is_gpr()
            && !high.contains(&register);
        plain.then(|| {
            let number = self.new_number();
            let known = self.registers.entry(register.full_register());
            *known.or_insert(Value::Number(number))
        })
    }

    fn number(&mut self, register: Register) -> Option<Number> {
        let new = self.new_number();
        let known = self.registers.entry(register.full_register());
        match known.or_insert(Value::Number(new)) {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn new_number(&mut self) -> Number {
        self.numbers += 1;
        self.numbers
    }

    /// What an instruction compares with a constant.
    fn comparison(&mut self, instruction: &Instruction) -> Option<(Number, u64)> {
        let with = (instruction.mnemonic() == Mnemonic::Cmp).then(|| immediate(instruction))??;
        if instruction.op0_kind() == OpKind::Memory {
            let number = self.new_number();
            self.memory = Some((*instruction, number));
            return Some((number, with));
        }
        match self.register(instruction, 0)? {
            Value::Number(number) => Some((number, with)),
            _ => None,
        }
    }
}

/// The second operand, if it is a constant; a negative one is very large.
fn immediate(instruction: &Instruction) -> Option<u64> {
    instruction.try_immediate(1).ok()
}

/// Whether two instructions, with the same in all registers, use the same bytes of memory.
fn same_place(one: &Instruction, other: &Instruction) -> bool {
    let place = |i: &Instruction| {
        let registers = [i.memory_segment(), i.memory_base(), i.memory_index()];
        let numbers = (i.memory_index_scale(), i.memory_displacement64());
        (registers, numbers, i.memory_size().size())
    };
    place(one) == place(other)
}

/// The most entries a table may have.
const ENTRIES: u64 = 1024;
