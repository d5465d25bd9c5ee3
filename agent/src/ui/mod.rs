//! The commands: what a person types, and what comes back. Data goes to standard output,
//! everything else to standard error; exit codes are in [`exit`]. Where commands meet the stages is
//! [`wiring`] and nowhere else.

mod agent;
mod completions;
pub mod doctor;
pub mod exit;
mod filter;
mod globs;
mod list;
mod output;
mod reload;
mod run;
mod settings;
mod signals;
mod watch;
pub mod wiring;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::config::cli::{self, Cli, Color, Command, SettingFlags};
use crate::config::setting::Origin;
use crate::config::{self, Resolved, env};
use crate::say::{say, say_lines};
use crate::target::PROC;

/// Runs the command line.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // No command for people: it is not in the command line's description, help and completions.
    if let [_, word, gate, _, command @ ..] = words.as_slice()
        && word == run::WAIT
    {
        return end(run::exec_when_told(Path::new(gate), command));
    }
    let cli = match cli::parse(words) {
        Ok(cli) => cli,
        Err(error) => {
            // Help asked for is data and goes to stdout; a reader that is gone is no failure.
            let _ = error.print();
            return exit::code(error.exit_code());
        }
    };
    end(dispatch(cli))
}

fn end(done: Result<i32>) -> ExitCode {
    match done {
        Ok(code) => exit::code(code),
        Err(error) => {
            say_lines(&format!("{error:#}"));
            exit::code(exit::of(&error))
        }
    }
}

/// Where memory runs out, as in a pod with an agent that somebody watches in, this is to go first.
fn go_first() {
    // More than one has is everybody's to take; what else could be done about a refusal?
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

fn dispatch(cli: Cli) -> Result<i32> {
    if matches!(
        cli.command,
        Command::Watch(_) | Command::List(_) | Command::Doctor(_)
    ) {
        go_first();
    }
    match cli.command {
        Command::Agent(args) => agent::run(&args, cli.color),
        Command::Watch(args) => watch::run(&args, cli.color),
        Command::List(args) => list::run(&args),
        Command::Run(args) => run::run(&args, cli.color),
        Command::Doctor(args) => doctor::run(&args, cli.color),
        Command::Config(command) => settings::run(command),
        Command::Completions { shell } => completions::completions(shell),
        Command::Man { dir } => completions::manual(dir.as_deref()),
    }
}

/// Resolves the settings and says what was odd about them.
fn resolved(flags: &SettingFlags) -> Result<Resolved> {
    let resolved = config::load(&flags.0, &env::Process)?;
    globs::check(&resolved)?;
    for warning in &resolved.warnings {
        say(format_args!("warning: {warning}"));
    }
    for pid in &resolved.config.selection.pids {
        if !Path::new(PROC).join(pid.to_string()).exists() {
            say(format_args!(
                "warning: --pid {pid}: no such process; nothing of it is traced until there is one"
            ));
        }
    }
    Ok(resolved)
}

/// Without the port of an agent that the same file is for, unless it was typed.
fn beside_an_agent(mut resolved: Resolved) -> Resolved {
    if !matches!(resolved.origin("serve.listen"), Origin::Flag(_)) {
        resolved.config.serve.listen = None;
    }
    resolved
}

/// Whether to colour what goes to a terminal or elsewhere.
fn colored(choice: Color, terminal: bool) -> bool {
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            terminal && !refused
        }
    }
}
