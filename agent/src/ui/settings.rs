//! `spantap config`: shows, checks and documents the settings.

use anyhow::Result;

use super::{exit, output, resolved};
use crate::config::cli::{ConfigCommand, ShowFormat};
use crate::config::docs;
use crate::say::count;

/// Runs the command.
pub fn run(command: ConfigCommand) -> Result<i32> {
    match command {
        ConfigCommand::Show { output, settings } => {
            let resolved = resolved(&settings)?;
            output::print(&match output {
                ShowFormat::Yaml => docs::show(&resolved),
                ShowFormat::Json => {
                    serde_json::to_string_pretty(&docs::show_json(&resolved))? + "\n"
                }
            })?;
        }
        ConfigCommand::Check { settings } => {
            let resolved = resolved(&settings)?;
            let file = match &resolved.file {
                Some(path) => path.display().to_string(),
                None => "no file".into(),
            };
            let warnings = count(resolved.warnings.len() as u64, "warning");
            output::print(&format!("right ({file}, {warnings})\n"))?;
        }
        ConfigCommand::Docs { sample: false } => output::print(&docs::markdown())?,
        ConfigCommand::Docs { sample: true } => output::print(&docs::sample())?,
    }
    Ok(exit::DONE)
}
