//! The initramfs of a guest: busybox, the few modules that reach the host's files, and init.sh.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::kernel::{self, Kernel};
use crate::shell;

/// The initramfs for a kernel; made once for each kernel and version of this program.
pub fn get(kernel: &Kernel) -> Result<PathBuf> {
    let path = kernel.tree.join("initramfs.cpio");
    let own = std::env::current_exe()?.metadata()?.modified()?;
    if path
        .metadata()
        .and_then(|m| m.modified())
        .is_ok_and(|made| made > own)
    {
        return Ok(path);
    }
    let part = path.with_extension("part");
    let mut archive = Archive {
        out: BufWriter::new(File::create(&part)?),
        files: 0,
    };
    archive.folder("bin")?;
    archive.folder("modules")?;
    archive.file("init", INIT.as_bytes(), 0o755)?;
    let busybox = kernel::sbin("busybox");
    archive.file(
        "bin/busybox",
        &fs::read(&busybox).context("busybox-static")?,
        0o755,
    )?;
    for (number, module) in modules(kernel)?.iter().enumerate() {
        // Numbered: the order they are loaded in is the order of their names.
        archive.file(&format!("modules/{number:02}.ko"), &plain(module)?, 0o644)?;
    }
    archive.end()?;
    fs::rename(&part, &path)?;
    Ok(path)
}

/// Files of the modules needed, each after those it depends on. Built-in ones have none.
fn modules(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for name in ["virtio_pci", "virtiofs", "overlay", "virtio_console"] {
        let mut command = Command::new(kernel::sbin("modprobe"));
        command
            .arg("-d")
            .arg(&kernel.tree)
            .args(["-S", &kernel.release, "--show-depends", name]);
        let said = shell::read(&mut command).unwrap_or_default();
        for file in said.lines().filter_map(|line| line.strip_prefix("insmod ")) {
            let file = PathBuf::from(file.trim());
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// A module's bytes; newer kernels ship them compressed.
fn plain(module: &Path) -> Result<Vec<u8>> {
    if module.extension().is_none_or(|kind| kind != "xz") {
        return fs::read(module).with_context(|| format!("read {}", module.display()));
    }
    let output = Command::new("xz")
        .arg("-dc")
        .arg(module)
        .output()
        .context("xz")?;
    Ok(output.stdout)
}

/// A cpio archive of the kind the kernel unpacks (Documentation/driver-api/early-userspace).
struct Archive {
    out: BufWriter<File>,
    files: u32,
}

impl Archive {
    fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, &[], 0o040_755)
    }

    fn file(&mut self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.entry(name, bytes, 0o100_000 | mode)
    }

    fn end(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", &[], 0)?;
        self.out.flush()?;
        self.out
            .get_ref()
            .set_permissions(fs::Permissions::from_mode(0o644))
    }

    fn entry(&mut self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.files += 1;
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "too long for cpio");
        let size = u32::try_from(bytes.len()).map_err(too_long)?;
        let length = u32::try_from(name.len() + 1).map_err(too_long)?;
        write!(self.out, "070701")?;
        // Number, mode, owner, group, links, time, size, four device numbers, name, checksum.
        for field in [self.files, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0] {
            write!(self.out, "{field:08x}")?;
        }
        let head = 110 + name.len() + 1;
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0; 4][..1 + pad(head)])?;
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; 4][..pad(bytes.len())])
    }
}

/// Zeros up to the next multiple of four.
fn pad(length: usize) -> usize {
    (4 - length % 4) % 4
}

const INIT: &str = include_str!("init.sh");
