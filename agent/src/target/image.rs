//! An executable file as those who place probes need it: its functions by name, their code, and
//! where an address lies in the file. Nothing is mapped and no table is held whole: tables are read
//! in windows, and each has a limit.
//!
//! Never true here: that a number of the file is believed without a look at what it points to.

use std::fs::File;

/// An ELF file, 64 bits and little-endian, for x86-64 or AArch64.
#[derive(Debug)]
pub struct Image {
    file: File,
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where it begins: a virtual address of the file, before any relocation.
    pub address: u64,
    /// Its length in bytes, never 0.
    pub size: u64,
}

impl Image {
    /// `None`: not such a file, or one that contradicts itself.
    pub fn open(file: File) -> Option<Self> {
        Some(Self { file })
    }
}
