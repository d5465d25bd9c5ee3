//! What a setting is, and the half-made configuration that settings are written into.
//! The list of them is `table`; flags, environment, file, `config show` and the documentation all
//! walk that list, and none of them names a setting.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::form::{Raw, Shape, Shown};
use super::{Config, Protocol};

/// One thing that can be configured.
pub struct Setting {
    /// Its place in the file: `section.key`.
    pub name: &'static str,
    /// Its flag, without the dashes.
    pub flag: &'static str,
    /// What the flag's value is called in help.
    pub value: &'static str,
    /// The standard variables that set it too, most specific first.
    pub otel: &'static [&'static str],
    /// Whether `-h` shows it; `--help` shows all.
    pub common: bool,
    /// What it does, for help, manual and documentation alike.
    pub lines: &'static [&'static str],
    /// How many values it takes.
    pub shape: Shape,
    /// The words allowed, where there are only so many.
    pub choices: fn() -> Vec<&'static str>,
    /// Reads a typed value into the draft.
    pub set: fn(&mut Draft, &Raw) -> Result<(), String>,
    /// Shows the draft's value.
    pub show: fn(&Draft) -> Shown,
}

impl Setting {
    /// What it does, as one paragraph.
    pub fn doc(&self) -> String {
        let lines: Vec<_> = self.lines.iter().map(|line| line.trim()).collect();
        lines.join(" ")
    }

    /// Our own variable for it: the flag in capitals.
    pub fn variable(&self) -> String {
        format!("SPANTAP_{}", self.flag.to_uppercase().replace('-', "_"))
    }

    /// The part of the file it is in; empty for the top.
    pub fn section(&self) -> &'static str {
        self.name
            .rsplit_once('.')
            .map_or("", |(section, _)| section)
    }

    /// Its key in that part.
    pub fn key(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, key)| key)
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Which layer a value came from, from the weakest to the strongest.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// It follows from another setting.
    Follows(&'static str),
    /// The file, by line.
    File(usize),
    /// This variable.
    Env(String),
    /// This flag.
    Flag(&'static str),
}

impl Origin {
    /// The layer alone, for comparing who is stronger.
    pub fn layer(&self) -> u8 {
        match self {
            Origin::Default | Origin::Follows(_) => 0,
            Origin::File(_) => 1,
            Origin::Env(_) => 2,
            Origin::Flag(_) => 3,
        }
    }
}

/// A kind of exporter, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// OTLP.
    Otlp,
    /// Lines for people.
    Stdout,
    /// JSON lines.
    Json,
    /// Nowhere.
    None,
}

/// A sampler, as typed, without its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// `always_on`
    AlwaysOn,
    /// `always_off`
    AlwaysOff,
    /// `traceidratio`
    Ratio,
    /// `parentbased_always_on`
    ParentOn,
    /// `parentbased_always_off`
    ParentOff,
    /// `parentbased_traceidratio`
    ParentRatio,
}

/// OTLP's settings, as typed.
#[derive(Clone, Debug)]
pub struct OtlpDraft {
    /// Base URL; the signal's path is added for HTTP.
    pub endpoint: Option<String>,
    /// URL for traces, used as it is.
    pub traces_endpoint: Option<String>,
    /// Transport.
    pub protocol: Protocol,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// gzip.
    pub gzip: bool,
    /// Time-out.
    pub timeout: Duration,
    /// Plain text where the endpoint has no scheme.
    pub insecure: bool,
    /// Trusted certificates.
    pub certificate: Option<PathBuf>,
    /// Client's certificate.
    pub client_certificate: Option<PathBuf>,
    /// Client's key.
    pub client_key: Option<PathBuf>,
}

/// The settings of the agent's own metrics, as typed.
#[derive(Clone, Debug)]
pub struct MetricsDraft {
    /// Whether they go anywhere.
    pub wanted: bool,
    /// URL used as it is.
    pub endpoint: Option<String>,
    /// How often.
    pub interval: Duration,
}

/// The configuration while layers are laid over each other: what can be written at once is in
/// `config`; what must first be seen together stands beside it.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What is final once written.
    pub config: Config,
    /// Exporters asked for; empty while nobody asked.
    pub destinations: Vec<Destination>,
    /// The sampler.
    pub sampler: Strategy,
    /// Its argument.
    pub ratio: f64,
    /// OTLP.
    pub otlp: OtlpDraft,
    /// The agent's own metrics.
    pub metrics: MetricsDraft,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            config: Config::default(),
            destinations: Vec::new(),
            sampler: Strategy::ParentOn,
            ratio: 1.0,
            otlp: OtlpDraft {
                endpoint: None,
                traces_endpoint: None,
                protocol: Protocol::HttpProtobuf,
                headers: Vec::new(),
                gzip: false,
                timeout: Duration::from_secs(10),
                insecure: false,
                certificate: None,
                client_certificate: None,
                client_key: None,
            },
            metrics: MetricsDraft {
                wanted: false,
                endpoint: None,
                interval: Duration::from_secs(60),
            },
        }
    }
}
