//! `spantap run -- CMD`: traces one command from its first instruction to its last. The command is
//! started as this very program waiting at a gate, so that its process id is known and selected
//! before it does anything; when all is attached, the gate opens and it becomes the command.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read as _, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{self, Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, kill_process};
use tokio::sync::watch;

use super::output::{Lines, Printer, width};
use super::signals::{self, Signal};
use super::watch::Look;
use super::wiring::{self, Start};
use super::{agent, beside_an_agent, colored, exit, resolved};
use crate::config::cli::{Color, Format, RunArgs};
use crate::config::{Config, Exporter};
use crate::export::stdout::Table;
use crate::say::say;

/// Runs the command.
pub fn run(args: &RunArgs, color: Color) -> Result<i32> {
    let mut config = beside_an_agent(resolved(&args.settings)?).config;
    let (stop, stopped) = watch::channel(false);
    let (lines, printer) = match format(args, &mut config) {
        Some(format) => {
            let (lines, printer) = open_lines(args, format, color)?;
            (Some(lines), Some(printer))
        }
        None => (None, None),
    };

    let (child, gate, opener) = spawn(&args.command)?;
    let pid = child.id();
    config.selection.pids.push(pid);
    forward_signals(pid)?;
    let ended = Arc::new(Mutex::new(None));
    let waiter = wait(child, Arc::clone(&ended), stop)?;

    let summary = wiring::start(Start {
        config: Arc::new(config),
        on_span: lines.map(|(lines, look)| -> wiring::OnSpan {
            Box::new(move |span| lines.put(look.line(span)))
        }),
        // Dropped unopened, the gate tells the waiting child to give up.
        ready: Box::new(move || open(opener)),
        stop: stopped,
        reread: None,
    });
    let summary = match summary {
        Ok(summary) => summary,
        Err(why) => {
            let _ = waiter.join();
            return Err(why);
        }
    };
    let _ = waiter.join();
    drop(gate);
    let unprinted = printer.map_or(Ok(0), Printer::finish)?;
    if unprinted > 0 {
        say(format_args!(
            "{unprinted} lines were not written: the output was too slow"
        ));
    }
    say(agent::ended(&summary));
    agent::explained(&summary).for_each(say);
    summary.unread.iter().for_each(say);
    let status = ended.lock().unwrap_or_else(PoisonError::into_inner).take();
    let status: ExitStatus = status.context("the command's end was not seen")??;
    Ok(code_of(status))
}

/// Lines are written where nothing else was asked for, or where a file for them was named.
fn format(args: &RunArgs, config: &mut Config) -> Option<Format> {
    let exporters = &mut config.export.exporters;
    let table = exporters.contains(&Exporter::Stdout);
    let json = exporters.contains(&Exporter::Json);
    // Standard output belongs to the command.
    exporters.retain(|e| matches!(e, Exporter::Otlp(_)));
    let usual = match json && !table {
        true => Format::Json,
        false => Format::Table,
    };
    (table || json || args.to.is_some()).then_some(args.output.unwrap_or(usual))
}

fn open_lines(args: &RunArgs, format: Format, color: Color) -> Result<((Lines, Look), Printer)> {
    let (out, terminal, width): (Box<dyn Write + Send>, bool, _) = match &args.to {
        Some(path) => {
            let file = File::create(path);
            let file = file.with_context(|| format!("create {}", path.display()))?;
            (Box::new(file), false, None)
        }
        None => (
            Box::new(io::stderr()),
            io::IsTerminal::is_terminal(&io::stderr()),
            width(io::stderr()),
        ),
    };
    let look = Look {
        format,
        table: Table::new(colored(color, terminal), width),
    };
    let (lines, printer) = Printer::start(out, look.header(0), || ())?;
    Ok(((lines, look), printer))
}

/// Starts the command at its gate, a pipe. The child opens the reading end by its path under /proc,
/// so our own reading end must live until then.
fn spawn(command: &[OsString]) -> Result<(Child, PipeReader, PipeWriter)> {
    let (gate, opener) = io::pipe().context("make the gate")?;
    let path = format!("/proc/{}/fd/{}", process::id(), gate.as_raw_fd());
    let own = std::env::current_exe().context("find our own program")?;
    let child = Command::new(own)
        .args([WAIT, &path, "--"])
        .args(command)
        .spawn()
        .context("start the command")?;
    Ok((child, gate, opener))
}

fn open(mut gate: PipeWriter) {
    // A child that is gone has been noticed by the one who waits for it.
    let _ = gate.write_all(b"!");
}

/// The word by which this program is started to wait at the gate.
pub const WAIT: &str = "exec-when-told";

/// Waits at the gate, then becomes the command. Returns only when it could not.
pub fn exec_when_told(gate: &Path, command: &[OsString]) -> Result<i32> {
    let mut byte = [0];
    let opened = File::open(gate)
        .and_then(|mut gate| gate.read(&mut byte))
        .context("wait for spantap")?;
    let Some((program, arguments)) = command.split_first() else {
        return Ok(exit::USAGE);
    };
    if opened == 0 {
        return Ok(exit::FAILED); // spantap failed, and has said why.
    }
    let why = Command::new(program).args(arguments).exec();
    let program = Path::new(program).display();
    say(format_args!("cannot run {program}: {why}"));
    Ok(match why.kind() {
        ErrorKind::NotFound => exit::NOT_FOUND,
        _ => exit::CANNOT_RUN,
    })
}

/// Passes signals on. A terminal's interrupt has reached the command by itself, as it is in the
/// same group; we stay to see how it ends.
fn forward_signals(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    signals::listen(move |signal| {
        let pass = match signal {
            Signal::Interrupt | Signal::Quit => return,
            Signal::Hangup => rustix::process::Signal::HUP,
            Signal::Terminate => rustix::process::Signal::TERM,
        };
        if let Some(pid) = pid {
            // It may be gone: then there is nobody to tell.
            let _ = kill_process(pid, pass);
        }
    })
}

type Ended = Arc<Mutex<Option<io::Result<ExitStatus>>>>;

/// Stops the tracing when the command has ended.
fn wait(
    mut child: Child,
    ended: Ended,
    stop: watch::Sender<bool>,
) -> Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("wait".into())
        .spawn(move || {
            let status = child.wait();
            *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
            stop.send_replace(true);
        })
        .context("start the waiting thread")
}

fn code_of(status: ExitStatus) -> i32 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => exit::SIGNAL + signal,
        (None, None) => exit::FAILED,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::cli::{Cli, Command};

    #[test]
    fn lines_are_as_the_exporter_asked_for_unless_told() {
        let look = |flags: &[&str]| {
            let words = ["spantap", "run"]
                .iter()
                .chain(flags)
                .chain(&["--", "true"]);
            let Command::Run(args) = Cli::parse_from(words).command else {
                panic!("not run");
            };
            let none = std::collections::BTreeMap::new();
            let resolved = crate::config::resolve(&args.settings.0, &none, None).expect("right");
            format(&args, &mut resolved.config.clone())
        };
        assert_eq!(look(&[]), Some(Format::Table));
        assert_eq!(look(&["--export", "json"]), Some(Format::Json));
        assert_eq!(
            look(&["--export", "json", "-o", "table"]),
            Some(Format::Table)
        );
        assert_eq!(look(&["--export", "otlp"]), None);
        assert_eq!(
            look(&["--export", "otlp", "--to", "f"]),
            Some(Format::Table)
        );
    }

    #[test]
    fn exit_codes_pass_through() {
        assert_eq!(code_of(ExitStatus::from_raw(0)), 0);
        assert_eq!(code_of(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(code_of(ExitStatus::from_raw(15)), 143);
    }
}
