//! `spantap completions` and `spantap man`: both made from the command line's own description.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{exit, output};
use crate::config::cli::{Cli, EXIT_CODES};

/// Prints a completion script.
pub fn completions(shell: Shell) -> Result<i32> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "spantap", &mut script);
    output::print(&String::from_utf8(script).context("a script is text")?)?;
    Ok(exit::DONE)
}

/// Prints the manual page, or writes one for each command.
pub fn manual(dir: Option<&Path>) -> Result<i32> {
    let Some(dir) = dir else {
        output::print(&page(described().after_long_help(EXIT_CODES))?)?;
        return Ok(exit::DONE);
    };
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    clap_mangen::generate_to(described(), dir)
        .with_context(|| format!("write to {}", dir.display()))?;
    Ok(exit::DONE)
}

/// Without `help`, which has no page of its own.
fn described() -> clap::Command {
    Cli::command().disable_help_subcommand(true)
}

fn page(command: clap::Command) -> Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    String::from_utf8(page).context("a page is text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_settings() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "spantap", &mut script);
            let script = String::from_utf8(script).expect("text");
            for setting in crate::config::SETTINGS {
                assert!(script.contains(setting.flag), "{shell}: {}", setting.flag);
            }
            assert!(!script.contains("exec-when-told"), "{shell}");
        }
    }

    #[test]
    fn the_manual_has_the_commands_and_the_exit_codes() {
        let page = page(described().after_long_help(EXIT_CODES)).expect("it renders");
        for word in ["spantap\\-watch", "spantap\\-doctor", "Exit codes", "130"] {
            assert!(page.contains(word), "{word} in\n{page}");
        }
        assert!(!page.contains("exec") && !page.contains("spantap\\-help"));
    }
}
