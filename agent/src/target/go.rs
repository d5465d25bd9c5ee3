//! What all who read Go's programs want: the version, and a function's code. Arguments are where
//! Go 1.17's calling convention says (cmd/compile/abi-internal.md): rax, rbx, rcx, rdi, rsi, with
//! the goroutine in r14.

use iced_x86::{Decoder, DecoderOptions, Instruction};

use super::code::{self, Body, Register};
use super::elf;
use super::image::{Function, Image};

/// The compiler's version, `1.26.8`, or `devel` for one between versions. `None`: the program was
/// not made by Go, or does not say.
pub fn version(image: &Image) -> Option<Box<str>> {
    let section = image.section(".go.buildinfo")?;
    let bytes = image.read(section.address, section.size.min(BUILD_INFO))?;
    elf::go_version(&bytes, |address| image.read(address, POINTED_TO))
}

/// A function's code; Go puts no data in it.
#[derive(Debug)]
pub struct Code<'a> {
    image: &'a Image,
    body: Body,
}

impl<'a> Code<'a> {
    /// Reads it. `Err`: it is not in the file, or longer than is read.
    pub fn of(image: &'a Image, function: Function) -> Result<Self, &'static str> {
        let body = image.body_of(function).ok_or("a function has no code")?;
        Ok(Self { image, body })
    }

    /// From first to last.
    pub fn instructions(&self) -> impl Iterator<Item = Instruction> {
        let Body { address, bytes } = &self.body;
        Decoder::with_ip(64, bytes, *address, DecoderOptions::NONE).into_iter()
    }

    /// Where in the file, in bytes, an instruction is.
    pub fn offset(&self, address: u64) -> Result<u64, &'static str> {
        let offset = self.image.file_offset(address);
        offset.ok_or("a function is not in the file")
    }

    /// Where in the file, in bytes, the jump of the check is that the stack is large enough: the
    /// kernel emulates it, and the first four arguments stand as the caller left them. Passed
    /// again, with the same arguments, where the stack has to grow first.
    pub fn entry(&self) -> Result<u64, &'static str> {
        self.offset(self.stack_check()?)
    }

    /// The address of that jump.
    pub fn stack_check(&self) -> Result<u64, &'static str> {
        match code::entry(&self.body, &ARGUMENTS) {
            Some(place) if !place.stepped => Ok(place.address),
            _ => Err("a function does not begin with a stack check"),
        }
    }
}

const ARGUMENTS: [Register; 4] = [Register::RAX, Register::RBX, Register::RCX, Register::RDI];
/// More than the version takes.
const BUILD_INFO: u64 = 256;
/// Before Go 1.18 the version was pointed to, twice: more than what is there takes.
const POINTED_TO: u64 = 64;
