//! The command line as typed. The flags of settings come from the table ([`SettingFlags`]); what is
//! declared here is the commands and what belongs to one command only.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command as Clap, CommandFactory as _, FromArgMatches, Parser,
    Subcommand, ValueEnum,
};
use clap_complete::Shell;

use super::form::{self, NO, Raw, Shape, Switch, YES};
pub use super::help::EXIT_CODES;
use super::help::{
    AGENT_HELP, COMPLETIONS_HELP, CONFIG_HELP, DOCTOR_HELP, LIST_HELP, MAIN_HELP, MAN_HELP,
    RUN_HELP, WATCH_HELP,
};
use super::resolve::{DEFAULT_FILE, Flags};
use super::setting::Setting;
use super::table::SETTINGS;

/// Distributed tracing without touching the programs traced.
///
/// spantap watches system calls from inside the kernel (eBPF), reads the requests in them and
/// makes OpenTelemetry spans: of programs already running, in any language, with no restart, no
/// library and no change of code.
#[derive(Debug, Parser)]
#[command(name = "spantap", version, after_long_help = MAIN_HELP, propagate_version = true)]
pub struct Cli {
    /// Colours on standard output; auto means on a terminal and NO_COLOR unset.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Reads the command line; what is wrong with a setting comes with the usage of its command.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let words: Vec<OsString> = words.into_iter().collect();
    let matches = command.try_get_matches_from_mut(&words);
    let mut matches = matches.map_err(|error| advised(error, &words))?;
    let mut path = Vec::new();
    let mut at = &matches;
    while let Some((name, below)) = at.subcommand() {
        path.push(name.to_owned());
        at = below;
    }
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| {
        for name in path {
            if let Some(named) = command.find_subcommand(name).cloned() {
                command = named;
            }
        }
        error.format(&mut command)
    })
}

/// A value behind a switch and not tied to it is an argument that nobody expects: how to write it.
fn advised(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(odd)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let texts: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
    let switch = texts.windows(2).find_map(|pair| match pair {
        [flag, value] if value == odd && Switch::read(value).is_some() => {
            let flag = flag.strip_prefix("--")?;
            let is = |s: &&Setting| s.flag == flag && s.shape == Shape::Switch;
            SETTINGS.iter().find(is)
        }
        _ => None,
    });
    if let Some(switch) = switch {
        let tip = format!("to set it, write '--{}={odd}'", switch.flag);
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Trace until told to stop, and export spans.
    #[command(after_long_help = AGENT_HELP)]
    Agent(AgentArgs),
    /// Show exchanges live, one line each.
    #[command(after_long_help = WATCH_HELP, visible_alias = "w")]
    Watch(WatchArgs),
    /// List processes: which of them are traced, and why the others are not.
    #[command(after_long_help = LIST_HELP, visible_alias = "ls")]
    List(ListArgs),
    /// Run one command and trace it and its children.
    #[command(after_long_help = RUN_HELP, override_usage = "spantap run [OPTIONS] -- <CMD>...")]
    Run(RunArgs),
    /// Say what this kernel and these privileges allow, and how to get the rest.
    #[command(after_long_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Show, check or document the configuration.
    #[command(subcommand, after_long_help = CONFIG_HELP)]
    Config(ConfigCommand),
    /// Print a completion script for a shell.
    #[command(after_long_help = COMPLETIONS_HELP)]
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Print the manual page, or write one per command to a folder.
    #[command(after_long_help = MAN_HELP)]
    Man {
        /// Folder to write spantap.1, spantap-watch.1 and the others to.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// `spantap agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Print every counter that is not zero at the end.
    #[arg(short, long)]
    pub verbose: bool,
    /// Settings.
    #[command(flatten)]
    pub settings: SettingFlags,
}

/// How one-line output is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    Table,
    /// JSON: an object on a line of its own for each exchange; of doctor, one object in all.
    Json,
}

/// `spantap watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
    /// Only exchanges that took at least this long.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = FILTERS)]
    pub slow: Option<Duration>,
    /// Only these statuses: 404, 5xx, 400-499, a gRPC status such as NOT_FOUND, or error for any
    /// error; comma-separated.
    #[arg(long, value_name = "STATUS", value_delimiter = ',', help_heading = FILTERS)]
    pub status: Vec<String>,
    /// Only these methods; comma-separated.
    #[arg(long, value_name = "METHOD", value_delimiter = ',', help_heading = FILTERS)]
    pub method: Vec<String>,
    /// Only paths that match this glob; repeatable.
    #[arg(long, value_name = "GLOB", help_heading = FILTERS)]
    pub path: Vec<String>,
    /// Only this side of the exchange.
    #[arg(long, value_name = "SIDE", help_heading = FILTERS)]
    pub side: Option<Side>,
    /// Stop after this many exchanges were shown.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Exit with 4 when nothing was shown.
    #[arg(long)]
    pub fail_empty: bool,
    /// Exit with 5 when anything was lost.
    #[arg(long)]
    pub strict: bool,
    /// Settings.
    #[command(flatten)]
    pub settings: SettingFlags,
}

/// A side of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// The one that answers.
    Server,
    /// The one that asks.
    Client,
}

/// `spantap list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Output format; JSON is an object on a line of its own for each process.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
    /// Show all processes: those in no pod that are not traced as well, and the kernel's own.
    #[arg(short, long)]
    pub all: bool,
    /// Settings.
    #[command(flatten)]
    pub settings: SettingFlags,
}

/// `spantap run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Output format [default: json with --export json, else table].
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Write the lines to this file instead of standard error.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Settings.
    #[command(flatten)]
    pub settings: SettingFlags,
    /// The command and its arguments.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "CMD"
    )]
    pub command: Vec<OsString>,
}

/// `spantap doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
    /// Settings.
    #[command(flatten)]
    pub settings: SettingFlags,
}

/// `spantap config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting, its value and where that came from, as a file that could be used.
    Show {
        /// Output format.
        #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
        output: ShowFormat,
        /// Settings.
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Say whether the configuration is right; 2 when it is not.
    Check {
        /// Settings.
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Print the documentation of all settings, or the sample file.
    #[command(hide = true)]
    Docs {
        /// Print the sample file instead.
        #[arg(long)]
        sample: bool,
    },
}

/// How `config show` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShowFormat {
    /// A file with a comment for each origin.
    Yaml,
    /// An array of objects.
    Json,
}

/// The flags of all settings, and `--config`.
#[derive(Clone, Debug, Default)]
pub struct SettingFlags(pub Flags);

impl Args for SettingFlags {
    fn augment_args(command: Clap) -> Clap {
        let file = Arg::new(FILE)
            .long(FILE)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help_heading("Configuration")
            .help(format!(
                "YAML file with settings, - for standard input [env: SPANTAP_CONFIG] [default: {DEFAULT_FILE}, if present]"
            ));
        SETTINGS.iter().fold(command.arg(file), |command, setting| {
            command.arg(argument(setting))
        })
    }

    fn augment_args_for_update(command: Clap) -> Clap {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Flags {
            file: matches.get_one::<PathBuf>(FILE).cloned(),
            values: Vec::new(),
        };
        for setting in SETTINGS {
            let Some(typed) = matches.get_many::<String>(setting.name) else {
                continue;
            };
            let mut typed: Vec<String> = typed.cloned().collect();
            let raw = match (setting.shape, typed.pop()) {
                (Shape::One | Shape::Switch, Some(last)) => Raw::Text(last),
                (_, last) => Raw::Many(typed.into_iter().chain(last).collect()),
            };
            super::env::check(setting, &raw).map_err(|why| {
                let why = format!("--{}: {why}", setting.flag);
                clap::Error::raw(ErrorKind::ValueValidation, why)
            })?;
            flags.values.push((setting, raw));
        }
        Ok(Self(flags))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// One setting's flag.
fn argument(setting: &'static Setting) -> Arg {
    let argument = Arg::new(setting.name)
        .long(setting.flag)
        .value_name(setting.value)
        .help(setting.doc())
        .help_heading(heading(setting.section()))
        .hide_short_help(!setting.common);
    let argument = match setting.name {
        // As kubectl has it.
        "selection.namespaces" => argument.short('n'),
        _ => argument,
    };
    let argument = match setting.shape {
        Shape::One => argument.action(ArgAction::Set).overrides_with(setting.name),
        Shape::Switch => argument
            .action(ArgAction::Set)
            .overrides_with(setting.name)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        Shape::List | Shape::Pairs => argument.action(ArgAction::Append),
    };
    let choices = (setting.choices)();
    match (setting.shape, choices.is_empty()) {
        // All the words that files and variables may have.
        (Shape::Switch, _) => argument
            .value_parser([YES, NO].map(|[word, more @ ..]| PossibleValue::new(word).aliases(more)))
            .ignore_case(true),
        (_, true) if delimited(setting) => argument.value_delimiter(','),
        (_, true) => argument,
        (Shape::List, false) => argument
            .value_parser(PossibleValuesParser::new(choices))
            .value_delimiter(',')
            .ignore_case(true),
        (_, false) => argument
            .value_parser(PossibleValuesParser::new(choices))
            .ignore_case(true),
    }
}

/// Whether `--flag a,b` is two values: not where a value may hold a comma itself.
fn delimited(setting: &Setting) -> bool {
    setting.shape == Shape::List && matches!(setting.value, "PID" | "PORT" | "NAME" | "METHOD")
}

fn heading(section: &'static str) -> &'static str {
    match section {
        "selection" => "Whose traffic",
        "export" | "export.otlp" => "Where spans go",
        "serve" => "How the agent is",
        "sampling" => "Which traces are kept",
        "capture" => "How traffic is captured",
        "http" | "route" => "HTTP",
        "propagation" => "Trace context",
        "redaction" => "What never leaves",
        "limits" => "Limits",
        _ => "Configuration",
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    form::duration(text).ok_or_else(|| "expected a duration such as 20ms or 1.5s".into())
}

const FILE: &str = "config";
const FILTERS: &str = "Filters";
