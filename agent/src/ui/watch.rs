//! `spantap watch`: every exchange as it ends, one line each.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::sync::watch;

use super::filter::Filter;
use super::output::{Header, Printer, width};
use super::signals::{self, Signal};
use super::wiring::{self, OnSpan, Start};
use super::{agent, beside_an_agent, colored, exit, resolved};
use crate::config::cli::{Color, Format, WatchArgs};
use crate::config::setting::Origin;
use crate::config::{Config, Exporter, Resolved};
use crate::export::json;
use crate::export::stdout::Table;
use crate::say;
use crate::span::Span;

/// Runs the command.
pub fn run(args: &WatchArgs, color: Color) -> Result<i32> {
    let filter = Filter::new(args)?;
    let config = watched(beside_an_agent(resolved(&args.settings)?));
    let (stop, stopped) = watch::channel(false);
    let stop = Arc::new(stop);
    let heard = Arc::new(Mutex::new(None));
    let (told, sender) = (Arc::clone(&heard), Arc::clone(&stop));
    signals::stop_on(None, move |signal| {
        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
        sender.send_replace(true);
    })?;

    let terminal = io::stdout().is_terminal();
    let look = Look {
        format: args.output,
        table: Table::new(colored(color, terminal), width(io::stdout())),
    };
    let header = look.header(if terminal { REPEAT } else { 0 });
    let sender = Arc::clone(&stop);
    let (lines, printer) = Printer::start(Box::new(io::stdout()), header, move || {
        sender.send_replace(true);
    })?;
    let begin = lines.clone();
    let counts = Arc::new(Counts::default());
    let (count, limit) = (Arc::clone(&counts), args.limit);
    let on_span: OnSpan = Box::new(move |span| {
        if !filter.matches(span) {
            count.filtered.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if limit.is_some_and(|limit| count.shown.load(Ordering::Relaxed) >= limit) {
            return;
        }
        lines.put(look.line(span));
        let shown = count.shown.fetch_add(1, Ordering::Relaxed) + 1;
        if limit.is_some_and(|limit| shown >= limit) {
            stop.send_replace(true);
        }
    });
    let disabled = config.disabled;
    let summary = wiring::start(Start {
        config: Arc::new(config),
        on_span: Some(on_span),
        ready: Box::new(move || {
            say::say(ready(disabled));
            begin.begin();
        }),
        stop: stopped,
        reread: None,
    })?;
    let unprinted = printer.finish()?;
    let (shown, filtered) = counts.read();
    let shown = shown.saturating_sub(unprinted);
    say::write(&(summary_line(shown, filtered, unprinted, &summary) + "\n"));
    if shown + filtered + unprinted == 0 {
        say::say(NOBODY);
    }
    agent::explained(&summary).for_each(say::say);
    summary.unread.iter().for_each(say::say);
    let signal = *heard.lock().unwrap_or_else(PoisonError::into_inner);
    let lost = unprinted > 0 || summary.lost() > 0;
    Ok(exit_code(args, signal, shown, lost))
}

const NOBODY: &str =
    "nothing passed, or nobody is selected: `spantap list` with the same flags says who is";

fn ready(disabled: bool) -> &'static str {
    match disabled {
        true => agent::DISABLED,
        false => "ready; each exchange is shown as it ends",
    }
}

fn exit_code(args: &WatchArgs, signal: Option<Signal>, shown: u64, lost: bool) -> i32 {
    match signal {
        _ if args.strict && lost => exit::LOST,
        _ if args.fail_empty && shown == 0 => exit::EMPTY,
        Some(Signal::Interrupt) => Signal::Interrupt.exit_code(),
        _ => exit::DONE,
    }
}

fn summary_line(shown: u64, filtered: u64, unprinted: u64, summary: &wiring::Summary) -> String {
    let mut text = format!("{shown} shown, {filtered} filtered, ");
    if unprinted > 0 {
        text += &format!("{unprinted} not shown as standard output was too slow, ");
    }
    let ended = agent::ended(summary);
    // The number of spans is known already.
    text += ended
        .split_once(", ")
        .map_or(ended.as_str(), |(_, lost)| lost);
    text
}

/// Watching exports nothing unless a flag asks for it, and then not to the output it writes itself.
fn watched(resolved: Resolved) -> Config {
    let flag = |name| matches!(resolved.origin(name), Origin::Flag(_));
    let asked = flag("export.to");
    let metrics = flag("export.metrics.to") || flag("export.metrics.endpoint");
    let mut config = resolved.config;
    config.export.metrics = config.export.metrics.filter(|_| metrics);
    let own = |e: &Exporter| matches!(e, Exporter::Stdout | Exporter::Json);
    config.export.exporters.retain(|e| asked && !own(e));
    config
}

/// How lines look.
#[derive(Clone, Copy)]
pub struct Look {
    /// Table or JSON.
    pub format: Format,
    /// The table, where it is one.
    pub table: Table,
}

impl Look {
    /// The header for it, every so many lines.
    pub fn header(self, every: u64) -> Header {
        Header {
            text: (self.format == Format::Table).then(|| self.table.header()),
            every,
        }
    }

    /// A span's line.
    pub fn line(self, span: &Span) -> String {
        match self.format {
            Format::Table => self.table.line(span),
            Format::Json => json::json(span),
        }
    }
}

#[derive(Default)]
struct Counts {
    shown: AtomicU64,
    filtered: AtomicU64,
}

impl Counts {
    fn read(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.shown), read(&self.filtered))
    }
}

/// Lines between two headers on a terminal.
const REPEAT: u64 = 30;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::cli::{Cli, Command};
    use crate::ui::wiring::{Loss, Summary};

    fn args(flags: &[&str]) -> WatchArgs {
        let words = ["spantap", "watch"].iter().chain(flags);
        match Cli::parse_from(words).command {
            Command::Watch(args) => args,
            other => panic!("not watch: {other:?}"),
        }
    }

    #[test]
    fn the_port_of_an_agent_is_left_to_it() {
        let listens = |flags: &[&str]| {
            let vars = [("SPANTAP_LISTEN".to_owned(), "127.0.0.1:9465".to_owned())];
            let vars = std::collections::BTreeMap::from(vars);
            let resolved = crate::config::resolve(&args(flags).settings.0, &vars, None);
            let config = watched(beside_an_agent(resolved.expect("right")));
            config.serve.listen.map(|address| address.port())
        };
        assert_eq!(listens(&[]), None);
        assert_eq!(listens(&["--listen", "[::1]:9466"]), Some(9466));
    }

    #[test]
    fn exit_codes() {
        let interrupted = Some(Signal::Interrupt);
        assert_eq!(exit_code(&args(&[]), None, 0, true), 0);
        assert_eq!(exit_code(&args(&[]), interrupted, 1, false), 130);
        assert_eq!(exit_code(&args(&[]), Some(Signal::Terminate), 1, false), 0);
        assert_eq!(
            exit_code(&args(&["--fail-empty"]), interrupted, 0, false),
            4
        );
        assert_eq!(exit_code(&args(&["--fail-empty"]), None, 1, false), 0);
        assert_eq!(
            exit_code(&args(&["--strict", "--fail-empty"]), None, 0, true),
            5
        );
    }

    #[test]
    fn the_summary_says_what_was_left_out() {
        let mut summary = Summary::default();
        assert_eq!(
            summary_line(2, 3, 0, &summary),
            "2 shown, 3 filtered, 0 lost"
        );
        summary.losses.push(Loss {
            what: "ring.full".into(),
            count: 7,
        });
        assert_eq!(
            summary_line(2, 3, 1, &summary),
            "2 shown, 3 filtered, 1 not shown as standard output was too slow, \
             7 lost: 7 ring.full"
        );
    }

    #[test]
    fn watching_exports_only_what_a_flag_asks_for() {
        let exporters = |flags: &[&str], vars: &[(&str, &str)]| {
            let vars: std::collections::BTreeMap<String, String> = vars
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect();
            let flags = args(flags).settings.0;
            let resolved = crate::config::resolve(&flags, &vars, None).expect("it is right");
            let export = watched(resolved).export;
            export.exporters.len() + 10 * export.metrics.iter().len()
        };
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4318")];
        assert_eq!(exporters(&[], &[]), 0);
        assert_eq!(exporters(&[], &endpoint), 0);
        assert_eq!(exporters(&["--export", "otlp,stdout"], &endpoint), 1);
        let metrics = [endpoint[0], ("OTEL_METRICS_EXPORTER", "otlp")];
        assert_eq!(exporters(&[], &metrics), 0);
        assert_eq!(exporters(&["--metrics", "otlp"], &endpoint), 10);
    }
}
