//! Kernel memory by BTF offsets. On kernels that give programs typed pointers a field is a plain
//! load that the verifier checks; elsewhere it is a probe read. A field the kernel lacks reads 0.

use agent_ebpf::abi::{ABSENT, Field};
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};
use core::ffi::c_void;

/// How fields of a pointer may be read.
pub trait Pointer: Copy {
    /// The address as a number, for identity.
    fn address(self) -> u64;
    /// Reads a field.
    fn field<T: Copy + Default>(self, field: Field) -> T;
}

/// A pointer the verifier knows the type of (tp_btf arguments, bpf_skc_to_tcp_sock).
#[derive(Clone, Copy)]
pub struct Typed(pub *const c_void);

/// A pointer that is only a number to the verifier.
#[derive(Clone, Copy)]
pub struct Untyped(pub *const c_void);

impl Pointer for Typed {
    #[inline(always)]
    fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn field<T: Copy + Default>(self, field: Field) -> T {
        let offset = offset(field);
        if offset == ABSENT {
            return T::default();
        }
        // SAFETY: the verifier has checked type and offset.
        unsafe { core::ptr::read_volatile(self.0.byte_add(offset as usize).cast()) }
    }
}

impl Pointer for Untyped {
    #[inline(always)]
    fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn field<T: Copy + Default>(self, field: Field) -> T {
        let offset = offset(field);
        if offset == ABSENT {
            return T::default();
        }
        read(self.0, offset)
    }
}

/// Reads kernel memory that may not be there; 0 then.
#[inline(always)]
pub fn read<T: Copy + Default>(base: *const c_void, offset: u32) -> T {
    let mut value = T::default();
    // SAFETY: `value` is ours.
    unsafe { read_to(&raw mut value, base, offset) };
    value
}

/// The same, to where there is room for it.
///
/// # Safety
/// `to` can be written.
#[inline(always)]
pub unsafe fn read_to<T: Copy>(to: *mut T, base: *const c_void, offset: u32) {
    // SAFETY: the helper checks the address and writes only what `to` points to.
    unsafe {
        bpf_probe_read_kernel(
            to.cast(),
            size_of::<T>() as u32,
            base.byte_add(offset as usize),
        );
    }
}

/// Reads memory of the current process that may not be there; 0 then.
#[inline(always)]
pub fn read_user<T: Copy + Default>(address: u64) -> T {
    let mut value = T::default();
    // SAFETY: the helper checks the address and writes only `value`.
    unsafe {
        let to = core::ptr::addr_of_mut!(value).cast();
        bpf_probe_read_user(to, size_of::<T>() as u32, address as *const c_void);
    }
    value
}

/// Offset of a field on this kernel.
#[inline(always)]
pub fn offset(field: Field) -> u32 {
    // SAFETY: `field` is within the table by construction; volatile, as the loader rewrites it.
    unsafe {
        core::ptr::read_volatile(
            core::ptr::addr_of!(crate::maps::OFFSETS)
                .cast::<u32>()
                .add(field as usize),
        )
    }
}

/// Adds to a word atomically. In assembly, as what gives back the word's value before is not on every
/// kernel (Linux 5.12), and this target's core has nothing else.
#[inline(always)]
pub fn add(word: &mut u64, value: u64) {
    // SAFETY: changes the word that is borrowed, and nothing else.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({word} + 0) += {value}",
            word = in(reg) word,
            value = in(reg) value,
        );
    }
}
