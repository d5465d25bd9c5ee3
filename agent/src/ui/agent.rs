//! `spantap agent`: traces until it is told to stop.

use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::Result;
use tokio::sync::watch;

use super::wiring::{self, Start, Summary};
use super::{colored, exit, output, reload, resolved, signals};
use crate::config::cli::{AgentArgs, Color};
use crate::config::endpoint::shown;
use crate::config::{Config, Exporter};
use crate::export::stdout::Table;
use crate::say::{self, count, say};

/// Runs the command.
pub fn run(args: &AgentArgs, color: Color) -> Result<i32> {
    let resolved = resolved(&args.settings)?;
    let (reread, again) = reload::rereading(&args.settings.0, &resolved).unzip();
    let mut config = resolved.config;
    config.export.color = colored(color, std::io::stdout().is_terminal());
    config.export.width = output::width(std::io::stdout());
    let config = Arc::new(config);
    let (stop, stopped) = watch::channel(false);
    // Who closes a terminal means that what runs in it ends.
    let again = again.filter(|_| !std::io::stderr().is_terminal());
    signals::stop_on(again, move |_| {
        stop.send_replace(true);
    })?;
    let shown = Arc::clone(&config);
    let summary = wiring::start(Start {
        config,
        on_span: None,
        ready: Box::new(move || announce(&shown)),
        stop: stopped,
        reread,
    })?;
    say(format_args!("stopped; {}", ended(&summary)));
    explained(&summary).for_each(say);
    summary.unread.iter().for_each(say);
    if args.verbose {
        say::write(&counters(&summary));
    }
    Ok(exit::DONE)
}

/// Where spans go, without the secrets of its address.
fn way(config: &Config) -> String {
    let names = config.export.exporters.iter();
    let names: Vec<String> = names
        .map(|exporter| match exporter {
            Exporter::Otlp(otlp) => format!("to {}", shown(&otlp.endpoint)),
            Exporter::Stdout => "to standard output".into(),
            Exporter::Json => "to standard output, as JSON".into(),
        })
        .collect();
    match names.is_empty() {
        true => "nowhere".into(),
        false => names.join(" and "),
    }
}

/// What is said where it never begins.
pub const DISABLED: &str = "ready; disabled: nothing is attached";

/// Says that tracing has begun and where spans go.
fn announce(config: &Config) {
    if config.disabled {
        say(DISABLED);
        return;
    }
    say(format_args!("ready; spans go {}", way(config)));
    if config.export.exporters.contains(&Exporter::Stdout) {
        let header = Table::new(config.export.color, config.export.width).header();
        // Whether standard output works is for the exporter to find out.
        let _ = output::print(&(header + "\n"));
    }
}

/// The numbers at the end.
pub fn ended(summary: &Summary) -> String {
    let mut text = format!("{}, {} lost", count(summary.spans, "span"), summary.lost());
    for (place, loss) in summary.losses.iter().enumerate() {
        text += if place == 0 { ": " } else { ", " };
        text += &format!("{} {}", loss.count, loss.what);
    }
    text
}

/// What each counter that lost something counts, a line each.
pub fn explained(summary: &Summary) -> impl Iterator<Item = String> {
    let lost = |name: &str| summary.losses.iter().any(|loss| loss.what == name);
    let counters = summary
        .counters
        .iter()
        .filter(move |(name, _, _)| lost(name));
    counters.map(|(name, what, _)| format!("{name}: {}", what.trim()))
}

/// Every counter that is not zero, a line each.
fn counters(summary: &Summary) -> String {
    let width = |cell: fn(&(&str, &str, u64)) -> usize| {
        let cells = summary.counters.iter().map(cell);
        cells.max().unwrap_or(0)
    };
    let names = width(|(name, _, _)| name.len());
    let numbers = width(|(_, _, count)| count.to_string().len());
    let lines = summary
        .counters
        .iter()
        .map(|(name, what, count)| format!("{name:<names$}  {count:>numbers$}  {}\n", what.trim()));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cli::{Cli, Command};
    use crate::ui::wiring::Loss;
    use clap::Parser as _;

    #[test]
    fn the_way_of_spans_is_told_without_secrets() {
        let endpoint = "https://me:hunter2@h:4318/?key=hunter2";
        for protocol in ["http/protobuf", "grpc"] {
            let words = ["--otlp-endpoint", endpoint, "--otlp-protocol", protocol];
            let words = ["spantap", "agent"].into_iter().chain(words);
            let Command::Agent(args) = Cli::parse_from(words).command else {
                panic!("not the agent");
            };
            let none = std::collections::BTreeMap::new();
            let resolved = crate::config::resolve(&args.settings.0, &none, None).expect("right");
            let yaml = crate::config::docs::show(&resolved);
            let json = crate::config::docs::show_json(&resolved).to_string();
            for text in [way(&resolved.config), yaml, json] {
                assert!(text.contains("https://h:4318"), "{text}");
                assert!(!text.contains("hunter2") && !text.contains("me:"), "{text}");
            }
            let warnings = resolved.warnings.join("\n");
            assert!(!warnings.contains("hunter2"), "{warnings}");
        }
    }

    #[test]
    fn counters_are_aligned() {
        let summary = Summary {
            counters: vec![("a.b", " One.", 7), ("export.sent", " Two.", 120)],
            ..Summary::default()
        };
        let lines = "a.b            7  One.\nexport.sent  120  Two.\n";
        assert_eq!(counters(&summary), lines);
    }

    #[test]
    fn the_end_says_what_was_lost_and_where() {
        let loss = |what: &str, count| Loss {
            what: what.into(),
            count,
        };
        let mut summary = Summary {
            spans: 12,
            ..Summary::default()
        };
        assert_eq!(ended(&summary), "12 spans, 0 lost");
        summary.spans = 1;
        assert_eq!(ended(&summary), "1 span, 0 lost");
        summary.spans = 12;
        summary.losses = vec![loss("ring.full", 2), loss("export.queue", 3)];
        assert_eq!(
            ended(&summary),
            "12 spans, 5 lost: 2 ring.full, 3 export.queue"
        );
        summary.counters = vec![
            ("ring.full", " Records refused.", 2),
            ("ring.read", " Records read.", 9),
            ("export.queue", " Spans dropped.", 3),
        ];
        let lines: Vec<_> = explained(&summary).collect();
        let both = [
            "ring.full: Records refused.",
            "export.queue: Spans dropped.",
        ];
        assert_eq!(lines, both);
    }
}
