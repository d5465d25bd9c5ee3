//! `cargo xtask vm`: other kernels, in seconds, without KVM.
//!
//! Debian's cloud kernels run under qemu's own CPU (TCG). The guest's root is this machine's root,
//! read-only, under a layer in memory: every program installed here is there, and nothing done
//! there comes back but output and an exit code.

mod doctor;
mod guest;
mod image;
mod kernel;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

pub use guest::Guest;

use crate::check::{self, Count};
use crate::shell::{self, say};
use crate::{agent, toolchain};

/// The matrix: the oldest kernel we support, and Debian's later ones.
pub const KERNELS: &[&str] = &["5.10", "6.1", "6.12"];

/// Flags of `cargo xtask vm`.
#[derive(Args)]
pub struct Vm {
    /// Kernels, by the first two numbers.
    #[arg(short, long, value_delimiter = ',', default_values = KERNELS)]
    kernels: Vec<String>,
    /// Guest time counts executed instructions (2 ns each) and not this machine's clock: what is
    /// timed there repeats within 1 % however busy this machine is. One CPU.
    #[arg(long)]
    icount: bool,
    /// Seconds until a guest is killed.
    #[arg(short, long, default_value_t = 300)]
    timeout: u64,
    /// Memory of the guest, in MiB.
    #[arg(short, long, default_value_t = 2048)]
    memory: u32,
    /// Environment variables that the command gets from here.
    #[arg(short, long, value_delimiter = ',')]
    env: Vec<String>,
    /// A shell command line; without it, the matrix.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Vm {
    /// One command on each kernel (the last failure's exit code), or the matrix.
    pub fn go(&self) -> Result<ExitCode> {
        if self.command.is_empty() {
            toolchain::ensure()?;
            let kernels: Vec<&str> = self.kernels.iter().map(String::as_str).collect();
            let count = matrix(&kernels)?;
            println!("{} passed, {} failed", count.passed, count.failed);
            return Ok(if count.failed == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        let command = self.command.join(" ");
        let mut code = 0;
        for kernel in &self.kernels {
            let mut guest = Guest::new(kernel);
            guest.icount = self.icount;
            guest.memory = self.memory;
            guest.limit = Duration::from_secs(self.timeout);
            guest.env = passed(&self.env);
            let ended = guest.run(&command)?;
            if ended.code != 0 {
                say(format!("vm: on {kernel} it exited with {}", ended.code));
                code = ended.code;
            }
        }
        Ok(ExitCode::from(code))
    }
}

/// What `work` comes to for each kernel, in their order. Two guests at a time, those asked for last
/// first: each has one thread, and the later kernels take longest.
pub fn on_each<T: Send>(kernels: &[&str], work: impl Fn(&str) -> T + Sync) -> Result<Vec<T>> {
    // They come from one cache, by one apt.
    ensure()?;
    for kernel in kernels {
        kernel::get(kernel)?;
    }
    let left = Mutex::new((0..kernels.len()).collect::<Vec<_>>());
    let made = Mutex::new(Vec::new());
    let go_on = || {
        let take = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
        while let Some(at) = take() {
            let result = work(kernels[at]);
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            made.push((at, result));
        }
    };
    thread::scope(|scope| {
        scope.spawn(go_on);
        scope.spawn(go_on);
    });
    let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    made.sort_by_key(|(at, _)| *at);
    Ok(made.into_iter().map(|(_, result)| result).collect())
}

/// On each kernel: `spantap doctor`, then tests/vm/scenario.sh on every path the kernel has.
pub fn matrix(kernels: &[&str]) -> Result<Count> {
    let agent = agent::build(true)?;
    let go_app = go_app()?;
    let results = on_each(kernels, |kernel| {
        let mut guest = Guest::new(kernel);
        guest.env = vec![
            ("SPANTAP_BIN".to_owned(), agent.display().to_string()),
            ("GO_APP".to_owned(), go_app.display().to_string()),
        ];
        guest.shown = false;
        // Old verifiers take a minute for the largest program, and longer on a busy machine.
        guest.limit = Duration::from_secs(600);
        let paths = match doctor::has_socket_path(kernel) {
            true => "auto syscall",
            false => "auto",
        };
        guest.run(&format!("{DOCTOR}; exec bash tests/vm/scenario.sh {paths}"))
    })?;
    let mut count = Count::default();
    for (kernel, ended) in kernels.iter().zip(results) {
        match ended.and_then(|ended| judge(kernel, &ended)) {
            Ok(()) => count.passed += 1,
            Err(error) => {
                say(format!("vm: {kernel}: FAILED: {error:#}"));
                count.failed += 1;
            }
        }
    }
    Ok(count)
}

/// The program that speaks TLS by Go's own library.
fn go_app() -> Result<PathBuf> {
    if !shell::works("go", "version") {
        shell::install(&["golang-go"], "vm")?;
    }
    let file = check::kept("vm")?.join("go-app");
    let mut command = Command::new("go");
    command
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&file)
        .current_dir(shell::workspace().join("tests/apps/go"));
    shell::run(&mut command)?;
    Ok(file)
}

/// The doctor must be right about this kernel; then the scenario must agree.
fn judge(kernel: &str, ended: &guest::Ended) -> Result<()> {
    let (report, scenario) = examined(&ended.output)?;
    report.show(kernel);
    print!("{scenario}");
    report.check(kernel)?;
    if ended.code != 0 {
        bail!("the scenario exited with {}", ended.code);
    }
    let seconds = ended.time.as_secs_f64();
    say(format!("vm: {kernel}: passed, {seconds:.1} s"));
    Ok(())
}

/// What a guest that ran [`DOCTOR`] first wrote: the doctor's report, and the rest.
pub fn examined(output: &str) -> Result<(doctor::Report, &str)> {
    let (report, rest) = output
        .split_once(MARK)
        .with_context(|| format!("the doctor never came to an end: {output}"))?;
    Ok((doctor::Report::read(report)?, rest))
}

fn passed(names: &[String]) -> Vec<(String, String)> {
    let value = |name: &String| std::env::var(name).ok().map(|value| (name.clone(), value));
    names.iter().filter_map(value).collect()
}

/// What a guest needs on this machine.
fn ensure() -> Result<()> {
    let mut packages = vec!["qemu-system-x86", "busybox-static", "kmod", "xz-utils"];
    // Older qemu packages bring a virtiofsd of their own.
    if guest::virtiofsd().is_none() && !shell::installed("qemu-system-x86") {
        shell::install(&packages, "vm")?;
    }
    if guest::virtiofsd().is_none() {
        packages.push("virtiofsd");
    }
    shell::install(&packages, "vm")
}

/// Stands between the doctor's output and what follows.
const MARK: &str = "--- doctor ---\n";
/// Shell commands that let the doctor speak first.
pub const DOCTOR: &str =
    r#"env -u SPANTAP_BIN "$SPANTAP_BIN" doctor -o json; echo "--- doctor ---""#;
