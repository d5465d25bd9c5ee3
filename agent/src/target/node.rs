//! Where Node.js keeps the ids of asynchronous resources, and where native code calls back: read from
//! the machine code of exported functions, as versions move what is in `node::Environment`.
//!
//! Read so from the official builds of Node.js 18, 20, 22 and 24. Code that says it otherwise is refused.

use agent_ebpf::abi::AsyncIds;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

use super::code::{self, Body, Register};
use super::image::{Function, Image};
use super::tls::{Hook, Site};

/// What the kernel side needs to tell turns of the event loop apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where things are in its structures.
    pub layout: AsyncIds,
    /// Where native code calls back.
    pub sites: Vec<Site>,
}

/// Looks for Node.js in a file, which may be a program or a library. `None`: it is not there. `Err`: it
/// is, and why its turns cannot be told apart.
pub fn find(image: &Image) -> Option<Result<Found, &'static str>> {
    if !image.x86_64() {
        return None;
    }
    let &[Some(of_wrap), execution] = image.functions(&[OF_WRAP, EXECUTION]).as_slice() else {
        return None;
    };
    Some(read(image, of_wrap, execution))
}

fn read(
    image: &Image,
    of_wrap: Function,
    execution: Option<Function>,
) -> Result<Found, &'static str> {
    let body = |function| image.body_of(function).ok_or("a function has no code");
    let named = image.matching(SCOPE, |name| name.starts_with(SCOPE));
    let (_, scope) = named
        .first()
        .ok_or("its callbacks' scope is not exported")?;
    let (scope, of_wrap) = (body(*scope)?, body(of_wrap)?);
    let execution = body(execution.ok_or("its execution id is not exported")?)?;
    let mut layout = AsyncIds {
        depth: counted(&scope).ok_or("how deep callbacks are is not found")?,
        ids: pointed(&execution).ok_or("where the ids are is not found")?,
        wrap: 0,
        context: context(&scope).ok_or("where a callback's id is told is not found")?,
    };
    let site = |body: &Body, hook| match code::entry(body, &LIVE) {
        Some(place) => Site::at(image, place, hook).ok_or("a function is not in the file"),
        None => Err("a function's code cannot be read"),
    };
    let mut sites = vec![site(&scope, Hook::NodeCallback)?];
    // Newer ones use the other.
    let uses = instructions(&of_wrap).any(|one| one.near_branch_target() == scope.address);
    if !uses {
        layout.wrap = member(&of_wrap).ok_or("a resource's id is not found")?;
        sites.push(site(&of_wrap, Hook::NodeCallbackOf)?);
    }
    // Where one of them cannot be seen, promises that timers resolve are nobody's.
    let promises = [Hook::NodeResolve, Hook::NodeMicrotasks].into_iter();
    let promises = promises
        .zip(image.functions(&[RESOLVE, MICROTASKS]))
        .map(|(hook, function)| site(&image.body_of(function?)?, hook).ok())
        .collect::<Option<Vec<Site>>>()
        .filter(|promises| !promises.iter().any(|site| site.stepped));
    sites.extend(promises.unwrap_or_default());
    Ok(Found { layout, sites })
}

fn instructions(body: &Body) -> impl Iterator<Item = Instruction> {
    Decoder::with_ip(64, &body.bytes, body.address, DecoderOptions::NONE).into_iter()
}

/// The offset that an instruction's memory operand, which one names with a base alone, has to it.
fn offset(one: &Instruction, operand: u32) -> Option<(Register, u32)> {
    let plain = one.op_kind(operand) == OpKind::Memory
        && one.memory_index() == Register::None
        && !matches!(
            one.memory_base(),
            Register::None | Register::RIP | Register::RBP | Register::RSP
        );
    let offset = u32::try_from(one.memory_displacement64()).ok();
    offset
        .filter(|&offset| plain && offset < FARTHEST)
        .map(|offset| (one.memory_base(), offset))
}

/// What a scope raises by one as it begins: `async_callback_scope_depth_`.
fn counted(body: &Body) -> Option<u32> {
    let one = instructions(body).find(|one| {
        let adds = one.mnemonic() == Mnemonic::Add
            && matches!(one.op1_kind(), OpKind::Immediate8to64)
            && one.immediate8to64() == 1;
        (adds || one.mnemonic() == Mnemonic::Inc) && offset(one, 0).is_some()
    })?;
    offset(&one, 0).map(|(_, offset)| offset)
}

/// The argument through which an `async_context`, two doubles, is copied as a scope begins.
fn context(body: &Body) -> Option<u32> {
    let copies = |one: &Instruction| {
        matches!(
            one.mnemonic(),
            Mnemonic::Movdqu | Mnemonic::Movups | Mnemonic::Movupd
        )
    };
    let one = instructions(body).find(|one| copies(one) && offset(one, 1).is_some())?;
    match offset(&one, 1)? {
        (Register::RCX, 0) => Some(3),
        (Register::R8, 0) => Some(4),
        _ => None,
    }
}

/// The pointer in the environment to the double that is returned: `async_id_fields`, whose first is the
/// execution id.
fn pointed(body: &Body) -> Option<u32> {
    let all: Vec<Instruction> = instructions(body).collect();
    let last = all.iter().position(|one| {
        one.mnemonic() == Mnemonic::Movsd
            && one.op0_register() == Register::XMM0
            && offset(one, 1).is_some_and(|(_, at)| at == 0)
    })?;
    let (through, _) = offset(all.get(last)?, 1)?;
    let loads = |one: &&Instruction| {
        one.mnemonic() == Mnemonic::Mov
            && one.op0_kind() == OpKind::Register
            && one.op0_register() == through
    };
    let one = all.get(..last)?.iter().rev().find(loads)?;
    offset(one, 1).map(|(_, offset)| offset)
}

/// The first of the two doubles of an AsyncWrap that a scope takes from it: `async_id_`, before
/// `trigger_async_id_`.
fn member(body: &Body) -> Option<u32> {
    let loads = instructions(body).filter(|one| one.mnemonic() == Mnemonic::Movsd);
    let mut offsets = loads.filter_map(|one| offset(&one, 1)).map(|(_, at)| at);
    let first = offsets.next()?;
    let second = offsets.next()?;
    (second == first + 8 && first > 0).then_some(first)
}

const OF_WRAP: &str = "_ZN4node21InternalCallbackScopeC1EPNS_9AsyncWrapEi";
const EXECUTION: &str = "_ZN4node29AsyncHooksGetExecutionAsyncIdEPN2v87IsolateE";
/// Of `.symtab` alone: stripped programs do not say it.
const RESOLVE: &str = "Builtins_PromiseCapabilityDefaultResolve";
const MICROTASKS: &str = "Builtins_RunMicrotasks";
/// What follows are an object, an `async_context` and flags, in forms that change.
const SCOPE: &str = "_ZN4node21InternalCallbackScopeC1EPNS_11EnvironmentE";
/// Arguments that are read where it begins.
const LIVE: [Register; 3] = [Register::RSI, Register::RCX, Register::R8];
/// Larger than the structures.
const FARTHEST: u32 = 1 << 16;

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// `NODES=/tmp/a:/tmp/b cargo test -- --ignored --nocapture other_nodes`.
    #[test]
    #[ignore = "wants programs of other versions"]
    fn other_nodes() {
        for path in std::env::var("NODES").unwrap().split(':') {
            let image = Image::open(File::open(path).unwrap()).unwrap();
            let begin = std::time::Instant::now();
            let found = find(&image).unwrap().unwrap();
            println!("{path} {:?} {found:x?}", begin.elapsed());
            assert!(found.sites.iter().all(|site| !site.stepped));
        }
    }

    fn body(bytes: &[u8]) -> Body {
        Body {
            address: 0x1000,
            bytes: bytes.to_vec(),
        }
    }

    #[test]
    fn what_machine_code_says() {
        // movdqu (%rcx),%xmm2; addq $1,0x5f8(%rsi), as in Node.js 20.
        let scope = body(b"\xf3\x0f\x6f\x11\x48\x83\x86\xf8\x05\x00\x00\x01");
        assert_eq!((counted(&scope), context(&scope)), (Some(0x5f8), Some(3)));
        // movdqu (%r8),%xmm2; addq $1,0x670(%r12), as in 24.
        let scope = body(b"\xf3\x41\x0f\x6f\x10\x49\x83\x84\x24\x70\x06\x00\x00\x01");
        assert_eq!((counted(&scope), context(&scope)), (Some(0x670), Some(4)));
        // mov 0x480(%r12),%rax; mov -8(%rbp),%r12; movsd (%rax),%xmm0.
        let id = b"\x49\x8b\x84\x24\x80\x04\x00\x00\x4c\x8b\x65\xf8\xf2\x0f\x10\x00";
        assert_eq!(pointed(&body(id)), Some(0x480));
        // movsd 0x28(%rsi),%xmm2; movsd 0x30(%rsi),%xmm1.
        let wrap = b"\xf2\x0f\x10\x56\x28\xf2\x0f\x10\x4e\x30";
        assert_eq!(member(&body(wrap)), Some(0x28));
        // The same with others between, or none at all.
        assert_eq!(member(&body(&wrap[..5])), None);
        for none in [&b""[..], b"\xff\xff\xff", b"\xc3"] {
            let none = body(none);
            let found = (
                counted(&none),
                context(&none),
                pointed(&none),
                member(&none),
            );
            assert_eq!(found, (None, None, None, None));
        }
    }
}
