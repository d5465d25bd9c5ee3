//! Starting programs and saying so. No other module prints progress or asks for root rights.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// One line of progress, with the time since the start.
pub fn say(line: impl AsRef<str>) {
    let seconds = START.elapsed().as_secs();
    eprintln!(
        "[{:>3}:{:02}] {}",
        seconds / 60,
        seconds % 60,
        line.as_ref()
    );
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let here = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = here.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    here.parent().map(Path::to_path_buf).unwrap_or(here)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    let root = workspace();
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// The cargo that runs us, without what it told us about ourselves: some build scripts (ring's) run
/// again when these variables change, so a build from here and one by hand would undo each other.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand);
    for (name, _) in env::vars_os() {
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "LD_LIBRARY_PATH"];
        if ours
            .iter()
            .any(|start| name.to_string_lossy().starts_with(start))
        {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command on our own terminal; an error if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} failed ({status})", words(command));
    }
    Ok(())
}

/// Runs a command on our own terminal and tells how it ended.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command.stdin(Stdio::null());
    command
        .status()
        .with_context(|| format!("start {}", words(command)))
}

/// Standard output of a command; an error, with what it complained of, if it fails.
pub fn read(command: &mut Command) -> Result<String> {
    command.stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("start {}", words(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            words(command),
            output.status,
            said.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program is there and answers.
pub fn works(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    status(&mut command).is_ok_and(|status| status.success())
}

/// Runs a command whose standard output is passed on, and shown to `look` line by line.
pub fn watch(command: &mut Command, mut look: impl FnMut(&str)) -> Result<ExitStatus> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("start {}", words(command)))?;
    if let Some(output) = child.stdout.take() {
        let mut own = std::io::stdout().lock();
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            own.write_all(&line)?;
            look(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        own.flush()?;
    }
    Ok(child.wait()?)
}

/// Runs a command and kills it when `limit` has passed.
pub fn run_for(command: &mut Command, limit: Duration) -> Result<()> {
    command.stdin(Stdio::null());
    let mut child = command
        .spawn()
        .with_context(|| format!("start {}", words(command)))?;
    match wait_for(&mut child, limit)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{} failed ({status})", words(command)),
        None => bail!("{} took longer than {} s", words(command), limit.as_secs()),
    }
}

/// Waits for a child, at most `limit`; then kills it and gives None.
pub fn wait_for(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            child.kill().context("kill")?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A command with root rights: itself if we are root, else through sudo.
pub fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if !works("sudo", "--version") {
        bail!(
            "{} needs root rights and there is no sudo: run as root",
            program.as_ref().display()
        );
    }
    let mut command = Command::new("sudo");
    command.arg("--preserve-env").arg("--").arg(program);
    Ok(command)
}

/// A command, with root rights if so asked, that ends when this process does, however it does.
pub fn tied(program: impl AsRef<OsStr>, root: bool) -> Result<Command> {
    let mut command = match root {
        true => as_root("setpriv")?,
        false => Command::new("setpriv"),
    };
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    Ok(command)
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// Installs those of `packages` that are missing, and says which and what for.
pub fn install(packages: &[&str], reason: &str) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|name| !installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !works("apt-get", "--version") {
        bail!("{reason}: no apt-get here; install what Debian calls: {list}");
    }
    say(format!("{reason}: apt-get install {list}"));
    let again = |update: bool| -> Result<()> {
        if update {
            run(as_root("apt-get")?.args(["update", "-qq"]))?;
        }
        let mut command = as_root("apt-get")?;
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null());
        run(command
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&missing))
    };
    again(false)
        .or_else(|_| again(true))
        .with_context(|| format!("install {list}"))
}

/// Installs `packages` unless the program they bring is there already, wherever it came from.
pub fn install_unless(program: &str, packages: &[&str], reason: &str) -> Result<()> {
    match works(program, "--version") {
        true => Ok(()),
        false => install(packages, reason),
    }
}

/// Whether dpkg has a package installed.
pub fn installed(package: &str) -> bool {
    let mut command = Command::new("dpkg-query");
    command
        .args(["-W", "-f", "${db:Status-Status}", package])
        .stderr(Stdio::null());
    read(&mut command).is_ok_and(|status| status.trim() == "installed")
}

/// A command as a person would type it, without its environment.
pub fn words(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy();
    let mut line = program.into_owned();
    for argument in command.get_args().take(SHOWN) {
        line += &format!(" {}", argument.to_string_lossy());
    }
    if command.get_args().len() > SHOWN {
        line += " …";
    }
    line
}

/// Arguments that fit a message.
const SHOWN: usize = 16;
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
