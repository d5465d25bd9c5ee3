//! Where a function's result is seen before the function is left, at instructions that the kernel
//! emulates: what returns a pointer mostly has it in another register for a while.

use std::collections::BTreeSet;

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

use super::{Body, Flow, Program, decoder, writes};

/// Where to see a function's result, and in which register, at places that the kernel emulates: every call
/// that returns anything but 0 passes one of them at least, and may pass more, with the same result.
pub fn results(program: &dyn Program, body: Body) -> Result<BTreeSet<(u64, Register)>, String> {
    let flow = Flow::trace(program, body)?;
    let mut factory = InstructionInfoFactory::new();
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open: Vec<_> = flow.rets().map(|ret| (ret, Register::RAX)).collect();
    while let Some((at, register)) = open.pop() {
        if !seen.insert((at, register)) {
            continue;
        }
        if at == flow.start {
            return Err("nothing on the way is emulated".to_owned());
        }
        for &before in flow.previous.get(&at).into_iter().flatten() {
            let step = flow.steps.get(&before);
            let body = flow.body(before).and_then(|body| decoder(body, before));
            let (Some(step), Some(instruction)) = (step, body.map(|mut code| code.decode())) else {
                return Err("no code".to_owned());
            };
            let call = matches!(
                instruction.flow_control(),
                FlowControl::Call | FlowControl::IndirectCall
            );
            let kept = match call {
                true => KEPT.contains(&register),
                false => !writes(&mut factory, &instruction, register),
            };
            match copied(&instruction, register) {
                _ if kept && step.emulated => {
                    found.insert((before, register));
                }
                _ if kept => open.push((before, register)),
                Some(Copied::From(other)) => open.push((before, other)),
                Some(Copied::Nothing) => {}
                None => return Err(format!("the result is made at {before:#x}")),
            }
        }
    }
    Ok(found)
}

/// What an instruction puts into a register.
enum Copied {
    From(Register),
    Nothing,
}

fn copied(instruction: &Instruction, register: Register) -> Option<Copied> {
    let (to, from) = (instruction.op0_register(), instruction.op1_register());
    let whole = to.full_register() == register && instruction.op1_kind() == OpKind::Register;
    match instruction.mnemonic() {
        Mnemonic::Mov if whole && to == register => Some(Copied::From(from)),
        Mnemonic::Xor if whole && to == from && (to.is_gpr32() || to.is_gpr64()) => {
            Some(Copied::Nothing)
        }
        _ => None,
    }
}

/// Registers that a call leaves as they are, by the C calling convention.
const KEPT: [Register; 6] = [
    Register::RBX,
    Register::RBP,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Program for Nothing {
        fn body(&self, _: u64) -> Option<Body> {
            None
        }

        fn pointer(&self, _: u64) -> Option<u64> {
            None
        }

        fn constant(&self, _: u64, _: u64) -> Option<Vec<u8>> {
            None
        }
    }

    fn check(bytes: &[u8], expected: Option<&[(u64, Register)]>) {
        let body = Body {
            address: 0,
            bytes: bytes.to_vec(),
        };
        let found = results(&Nothing, body).ok();
        let found = found.map(|found| found.into_iter().collect::<Vec<_>>());
        assert_eq!(found.as_deref(), expected, "{bytes:x?}");
    }

    #[test]
    fn a_result_is_followed_back() {
        // context_new_from_vars of Debian 12's CPython 3.11, its calls' targets zeroed.
        let made = b"\x55\x48\x89\xfd\x53\x51\xe8\0\0\0\0\x48\x89\xc3\x48\x85\xc0\x74\x11\x48\x83\x45\0\x01\
            \x48\x89\xc7\x48\x89\x68\x18\xe8\0\0\0\0\x48\x89\xd8\x5a\x5b\x5d\xc3";
        check(made, Some(&[(0x11, Register::RBX), (0x1f, Register::RBX)]));
        // xor eax, eax; ret: nothing is returned.
        check(b"\x31\xc0\xc3", Some(&[]));
        // nop; mov rax, rdi; ret, but not where a lesser part of it is.
        check(b"\x50\x90\x48\x89\xf8\xc3", Some(&[(1, Register::RDI)]));
        check(b"\x50\x90\x89\xf8\xc3", None);
    }

    #[test]
    fn a_result_that_is_made_last_is_not() {
        // call; ret
        check(b"\xe8\0\0\0\0\xc3", None);
        // mov rax, [rdi]; ret
        check(b"\x90\x48\x8b\x07\xc3", None);
        // mov rax, rdi; ret
        check(b"\x48\x89\xf8\xc3", None);
        // mov rax, rcx behind a call, which changes it.
        check(b"\x90\xe8\0\0\0\0\x48\x89\xc8\xc3", None);
    }
}
