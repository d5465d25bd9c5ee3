//! Which compiler and which linker can build the kernel side on this machine.
//!
//! Shared by `cargo xtask` and, by path, by agent/build.rs: a plain `cargo build` finds what the
//! set-up installed without being told. It looks and never installs, and uses `std` alone.
//! The kernel side needs a compiler with the source of `core` (there is no built one for bpf), and
//! a bpf-linker whose LLVM can read what that compiler writes.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The release of bpf-linker we build and test with.
pub const LINKER_VERSION: &str = "0.13.0";
/// The environment variable that narrows the choice: `rustup`, `packages`, or unset for both.
pub const CHOICE: &str = "XTASK_TOOLCHAIN";
/// Oldest compiler, (1, minor), that the kernel side is written for.
pub const OLDEST: u32 = 90;

/// Where a compiler came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The nightly toolchain that rustup keeps.
    Rustup,
    /// The distribution's packages.
    Packages,
}

/// A compiler that has the source of `core`.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// Where it came from.
    pub origin: Origin,
    /// The `cargo` that belongs to it.
    pub cargo: PathBuf,
    /// The compiler itself, never rustup's stand-in.
    pub rustc: PathBuf,
    /// What `rustc --version` says.
    pub version: String,
    /// Major version of its LLVM.
    pub llvm: u32,
}

/// All that is needed to build the kernel side.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Compiler and cargo.
    pub compiler: Compiler,
    /// The bpf-linker.
    pub linker: PathBuf,
}

impl Toolchain {
    /// A toolchain that is ready, or every reason why none is.
    pub fn find(workspace: &Path) -> Result<Self, Vec<String>> {
        let mut reasons = Vec::new();
        for origin in origins() {
            let found = compiler(origin).and_then(|compiler| {
                let linker = linker(workspace, compiler.llvm)?;
                Ok(Self { compiler, linker })
            });
            match found {
                Ok(toolchain) => return Ok(toolchain),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons)
    }

    /// A cargo command for the bpf target, free of what an outer cargo left in the environment.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.compiler.cargo);
        for key in FOREIGN {
            command.env_remove(key);
        }
        let bin = self
            .compiler
            .cargo
            .parent()
            .unwrap_or(Path::new("/usr/bin"));
        let mut path = OsString::from(bin);
        if let Some(old) = env::var_os("PATH") {
            path.push(":");
            path.push(old);
        }
        let mut linker = OsString::from("-Clinker=");
        linker.push(&self.linker);
        // Of the machine that the agent is for; a build script is told.
        let arch = env::var("CARGO_CFG_TARGET_ARCH");
        let arch = arch.as_deref().unwrap_or(env::consts::ARCH);
        let mut flags = OsString::from(format!("--cfg=bpf_target_arch=\"{arch}\""));
        for flag in [
            "-Cdebuginfo=2".into(),
            "-Clink-arg=--btf".into(),
            linker,
            "-Clink-arg=--log-level=error".into(),
        ] {
            flags.push("\x1f");
            flags.push::<OsString>(flag);
        }
        command
            .arg(subcommand)
            .args(["--package", "agent-ebpf", "--target", TARGET])
            .args(["-Z", "build-std=core"])
            .env("PATH", path)
            .env("RUSTC", &self.compiler.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS", "fallback")
            .env("CARGO_ENCODED_RUSTFLAGS", flags);
        command
    }
}

/// The ways to try, in order.
pub fn origins() -> Vec<Origin> {
    match env::var(CHOICE).as_deref() {
        Ok("rustup") => vec![Origin::Rustup],
        Ok("packages") => vec![Origin::Packages],
        _ => vec![Origin::Rustup, Origin::Packages],
    }
}

/// The compiler of one origin, if it has the source of `core` and is new enough.
pub fn compiler(origin: Origin) -> Result<Compiler, String> {
    let (rustc, cargo) = match origin {
        Origin::Rustup => (rustup_which("rustc")?, rustup_which("cargo")?),
        Origin::Packages => ("/usr/bin/rustc".into(), "/usr/bin/cargo".into()),
    };
    let said = said_by(Command::new(&rustc).arg("-vV"))
        .ok_or_else(|| format!("{origin}: no working {}", rustc.display()))?;
    if said_by(Command::new(&cargo).arg("--version")).is_none() {
        return Err(format!("{origin}: no working {}", cargo.display()));
    }
    let version = said.lines().next().unwrap_or_default().to_owned();
    let newest = minor(&version).is_some_and(|minor| minor >= OLDEST);
    if !newest {
        return Err(format!("{origin}: {version} is older than 1.{OLDEST}"));
    }
    let llvm = llvm_of(&said).ok_or_else(|| format!("{origin}: {version} names no LLVM"))?;
    let sysroot = said_by(Command::new(&rustc).args(["--print", "sysroot"])).unwrap_or_default();
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    if !core.exists() {
        return Err(format!(
            "{origin}: {version} has no source of core (rust-src)"
        ));
    }
    Ok(Compiler {
        origin,
        cargo,
        rustc,
        version,
        llvm,
    })
}

/// A bpf-linker of our version that reads what LLVM `llvm` writes: ours first, then one on PATH.
pub fn linker(workspace: &Path, llvm: u32) -> Result<PathBuf, String> {
    let mut seen = Vec::new();
    for path in linkers(workspace).into_iter().filter(|path| path.exists()) {
        let version = said_by(Command::new(&path).arg("--version")).unwrap_or_default();
        let own = linked_llvm(&path);
        if version.trim() == format!("bpf-linker {LINKER_VERSION}")
            && own.is_none_or(|own| own >= llvm)
        {
            return Ok(path);
        }
        seen.push(format!(
            "{} is {:?} with LLVM {own:?}",
            path.display(),
            version.trim()
        ));
    }
    let seen = if seen.is_empty() {
        "none found".to_owned()
    } else {
        seen.join(", ")
    };
    Err(format!(
        "no bpf-linker {LINKER_VERSION} with LLVM {llvm} or later: {seen}"
    ))
}

/// Every place a bpf-linker may be.
fn linkers(workspace: &Path) -> Vec<PathBuf> {
    let name = "bpf-linker";
    let mut places = vec![workspace.join(TOOLS).join("bin").join(name)];
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or(home);
    places.extend(home.map(|home| home.join("bin").join(name)));
    let path = env::var_os("PATH").unwrap_or_default();
    places.extend(env::split_paths(&path).map(|folder| folder.join(name)));
    places
}

/// Where `rustup` keeps a program of its nightly toolchain.
fn rustup_which(program: &str) -> Result<PathBuf, String> {
    let mut command = Command::new("rustup");
    command
        .env("RUSTUP_AUTO_INSTALL", "0")
        .env_remove("RUSTUP_TOOLCHAIN");
    said_by(command.args(["which", "--toolchain", "nightly", program]))
        .map(|path| PathBuf::from(path.trim()))
        .ok_or_else(|| format!("rustup: no nightly {program}"))
}

/// Standard output of a command that succeeded.
fn said_by(command: &mut Command) -> Option<String> {
    for key in FOREIGN {
        command.env_remove(key);
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The minor version in `rustc 1.96.0 (…)`.
fn minor(version: &str) -> Option<u32> {
    version
        .strip_prefix("rustc 1.")?
        .split('.')
        .next()?
        .parse()
        .ok()
}

/// The major version in the line `LLVM version: 22.1.8`.
fn llvm_of(said: &str) -> Option<u32> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}

/// Which LLVM a linker loads, read from the name of the library in its file; None if built in.
fn linked_llvm(linker: &Path) -> Option<u32> {
    let bytes = std::fs::read(linker).ok()?;
    let name = b"libLLVM.so.";
    let at = bytes
        .windows(name.len())
        .position(|window| window == name)?
        + name.len();
    let digits: String = bytes[at..]
        .iter()
        .map(|b| char::from(*b))
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rustup => "rustup",
            Self::Packages => "packages",
        })
    }
}

/// Tools of our own, below the workspace: nothing global is overwritten.
pub const TOOLS: &str = "target/tools";
/// What the kernel side is built for.
pub const TARGET: &str = if cfg!(target_endian = "big") {
    "bpfeb-unknown-none"
} else {
    "bpfel-unknown-none"
};

/// What an outer cargo, rustup or clippy sets and an inner build must not inherit.
const FOREIGN: &[&str] = &[
    "CARGO",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "TARGET",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let said = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nLLVM version: 22.1.8\n";
        assert_eq!(minor(said), Some(96));
        assert_eq!(llvm_of(said), Some(22));
        assert_eq!(minor("rustc"), None);
        assert_eq!(llvm_of("host: x"), None);
    }
}
