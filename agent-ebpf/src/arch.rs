//! Saved user registers and system call numbers of the two architectures.
//!
//! x86-64: `struct pt_regs` in arch/x86/include/asm/ptrace.h; arm64: arch/arm64/include/asm/ptrace.h.

/// What a system call was asked: its number and first five arguments.
#[derive(Clone, Copy)]
pub struct Arguments {
    /// Number, or [`NO_SYSCALL`].
    pub number: u32,
    /// Arguments 1 to 5.
    pub value: [u64; 5],
    /// Made by a 32-bit program: numbers and structures differ.
    pub compat: bool,
    /// It has not returned: what happens now, it does. Once it has, its registers are still there
    /// while work is done on the way out, such as io_uring's.
    ///
    /// x86-64: the entry code saves -ENOSYS for a result, which no call returns that moved bytes.
    /// arm64: the result takes the place of the first argument, which is kept elsewhere: a call that
    /// returned just that number, its descriptor's, passes for one that runs.
    pub running: bool,
    /// The program's stack pointer.
    pub stack: u64,
    /// The register that is the goroutine in a Go program.
    pub goroutine: u64,
}

/// [`Arguments::number`] where the bytes are not in a buffer of a system call's.
pub const NO_SYSCALL: u32 = u32::MAX;

#[cfg(not(bpf_target_arch = "aarch64"))]
mod machine {
    use super::Arguments;

    /// Offset of the call's number (orig_rax).
    pub const NUMBER: u32 = 120;
    /// First byte of pt_regs that is read.
    pub const FROM: u32 = GOROUTINE;
    /// Words: r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs flags rsp.
    pub const WORDS: usize = 19;
    /// Offset of the register that Go keeps its goroutine in (r14).
    pub const GOROUTINE: u32 = 8;
    /// Offset of the stack pointer.
    pub const STACK: u32 = 152;
    /// Offset of the frame pointer.
    pub const FRAME: u32 = 32;
    /// Offsets of rbx, rbp, r12 and r13.
    pub const KEPT: [u32; 4] = [40, 32, 24, 16];
    /// Offset of the place in the program.
    pub const PLACE: u32 = 128;
    /// Offsets of the first five arguments of the C calling convention.
    pub const C: [u32; 5] = [112, 104, 96, 88, 72];
    /// And of its result.
    pub const RESULT: u32 = 80;
    /// Offsets of Go's first four arguments (ABIInternal: rax, rbx, rcx, rdi).
    pub const GO: [u32; 4] = [80, 40, 88, 112];

    /// From those words.
    #[inline(always)]
    pub fn arguments(w: &[u64; WORDS]) -> Arguments {
        // __USER_CS is 0x33; a 32-bit program runs with 0x23.
        let compat = w[16] & 0xffff != 0x33;
        Arguments {
            number: w[14] as u32,
            value: [w[13], w[12], w[11], w[6], w[8]],
            compat,
            running: w[9] as i64 == -ENOSYS,
            stack: w[18],
            goroutine: w[0],
        }
    }

    const ENOSYS: i64 = 38;

    pub mod call {
        pub const READ: u32 = 0;
        pub const WRITE: u32 = 1;
        pub const READV: u32 = 19;
        pub const WRITEV: u32 = 20;
        pub const SENDFILE: u32 = 40;
        pub const SENDTO: u32 = 44;
        pub const RECVFROM: u32 = 45;
        pub const SENDMSG: u32 = 46;
        pub const RECVMSG: u32 = 47;
        pub const SPLICE: u32 = 275;
        pub const RECVMMSG: u32 = 299;
        pub const SENDMMSG: u32 = 307;
        pub const PREADV2: u32 = 327;
        pub const PWRITEV2: u32 = 328;
    }
}

#[cfg(bpf_target_arch = "aarch64")]
mod machine {
    use super::Arguments;

    /// Offset of the call's number (syscallno).
    pub const NUMBER: u32 = 280;
    /// From regs[0].
    pub const FROM: u32 = 0;
    /// regs[0..31], sp, pc, pstate, orig_x0, syscallno.
    pub const WORDS: usize = 36;
    /// Offset of the register that Go keeps its goroutine in (x28).
    pub const GOROUTINE: u32 = 224;
    /// Offset of the stack pointer.
    pub const STACK: u32 = 248;
    /// Offset of the frame pointer.
    pub const FRAME: u32 = 232;
    /// Of x86-64 alone.
    pub const KEPT: [u32; 4] = [0; 4];
    /// Offset of the place in the program (pc).
    pub const PLACE: u32 = 256;
    /// Offsets of the first five arguments of the C calling convention.
    pub const C: [u32; 5] = [0, 8, 16, 24, 32];
    /// And of its result.
    pub const RESULT: u32 = 0;
    /// Offsets of Go's first four arguments (ABIInternal: R0 to R3).
    pub const GO: [u32; 4] = [0, 8, 16, 24];

    /// From those words.
    #[inline(always)]
    pub fn arguments(w: &[u64; WORDS]) -> Arguments {
        // PSR_MODE32_BIT is bit 4 of pstate.
        let compat = w[33] & 0x10 != 0;
        Arguments {
            number: w[35] as u32,
            value: [w[34], w[1], w[2], w[3], w[4]],
            compat,
            running: w[0] == w[34],
            stack: w[31],
            goroutine: w[28],
        }
    }

    pub mod call {
        pub const READ: u32 = 63;
        pub const WRITE: u32 = 64;
        pub const READV: u32 = 65;
        pub const WRITEV: u32 = 66;
        pub const SENDFILE: u32 = 71;
        pub const SPLICE: u32 = 76;
        pub const SENDTO: u32 = 206;
        pub const RECVFROM: u32 = 207;
        pub const SENDMSG: u32 = 211;
        pub const RECVMSG: u32 = 212;
        pub const RECVMMSG: u32 = 243;
        pub const SENDMMSG: u32 = 269;
        pub const PREADV2: u32 = 286;
        pub const PWRITEV2: u32 = 287;
    }
}

pub use machine::{
    C, FRAME, FROM, GO, GOROUTINE, KEPT, NUMBER, PLACE, RESULT, STACK, WORDS, arguments, call,
};
