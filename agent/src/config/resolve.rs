//! The layers laid over each other: flags, then environment, then file, then defaults. Each setting
//! takes the strongest layer that has a word on it; where the word came from is remembered.
//! [`resolve`] is a function of its arguments; [`load`] goes and gets them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::env::{self, Signal, Vars};
use super::file::{self, Contents};
use super::form::{Raw, Shown};
use super::otlp::{self, Sources};
use super::setting::{Destination, Draft, Origin, OtlpDraft, Setting, Strategy};
use super::table::SETTINGS;
use super::{Carrying, Config, Exporter, Metrics, Propagation, Sampler};

/// Read when no other file is named, if it is there.
pub const DEFAULT_FILE: &str = "/etc/spantap/spantap.yaml";

/// Flags as typed.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The settings among them.
    pub values: Vec<(&'static Setting, Raw)>,
}

/// A configuration that cannot be used, with the reasons, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(pub String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// The configuration and how it came about.
#[derive(Debug)]
pub struct Resolved {
    /// What holds.
    pub config: Config,
    /// Every setting, its value and its origin, in the table's order.
    pub values: Vec<(&'static Setting, Shown, Origin)>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What is odd but was got over.
    pub warnings: Vec<String>,
}

impl Resolved {
    /// Where a setting's value came from.
    pub fn origin(&self, name: &str) -> Origin {
        let found = self.values.iter().find(|(s, _, _)| s.name == name);
        found.map_or(Origin::Default, |(_, _, origin)| origin.clone())
    }
}

/// Finds and reads the file, then resolves.
pub fn load(flags: &Flags, vars: &dyn Vars) -> Result<Resolved, Error> {
    let named = flags.file.clone();
    let named = named.or_else(|| {
        vars.get(env::CONFIG)
            .filter(|p| !p.is_empty())
            .map(Into::into)
    });
    let path = match named {
        Some(path) => Some(path),
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()),
    };
    match path.map(|path| read(&path)).transpose() {
        Ok(contents) => resolve(flags, vars, contents),
        // What is wrong elsewhere is told in one go.
        Err(why) => lay(flags, vars, None, vec![why]),
    }
}

/// A file, or standard input by the name of `-`.
fn read(path: &Path) -> Result<Contents, String> {
    let text = match path == Path::new(STDIN) {
        true => text_of(io::stdin().lock()),
        false => open(path).and_then(text_of),
    };
    let text = text.map_err(|why| format!("cannot read {}: {why}", path.display()))?;
    file::parse(path, &text)
}

/// What is in a file.
///
/// # Errors
/// Where it is none that can be read.
pub fn read_text(path: &Path) -> io::Result<String> {
    open(path).and_then(text_of)
}

/// A pipe or a device may never end, or never begin.
fn open(path: &Path) -> io::Result<File> {
    match std::fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(io::Error::other(
            "not a regular file; `-` is standard input",
        )),
    }
}

fn text_of(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(LARGEST + 1).read_to_string(&mut text)?;
    match u64::try_from(text.len()) {
        Ok(length) if length <= LARGEST => Ok(text),
        _ => Err(io::Error::other("more than 1 MiB is no configuration")),
    }
}

/// The file's name that means standard input.
const STDIN: &str = "-";
/// Bytes of a file at most.
const LARGEST: u64 = 1 << 20;

/// Lays the layers over each other.
pub fn resolve(flags: &Flags, vars: &dyn Vars, file: Option<Contents>) -> Result<Resolved, Error> {
    lay(flags, vars, file, Vec::new())
}

/// The same, with what is known to be wrong already: every fault is told, a line each.
fn lay(
    flags: &Flags,
    vars: &dyn Vars,
    file: Option<Contents>,
    mut faults: Vec<String>,
) -> Result<Resolved, Error> {
    let file = file.unwrap_or_default();
    let mut draft = Draft::default();
    let mut warnings = env::strangers(vars);
    let mut origins = Vec::with_capacity(SETTINGS.len());
    let layers = Layers {
        flags,
        vars,
        file: &file,
    };
    for setting in SETTINGS {
        let typed = layers.strongest(setting, Signal::Traces, &mut warnings);
        let taken = typed.and_then(|typed| match typed {
            Some((origin, raw)) => match (setting.set)(&mut draft, &raw) {
                Ok(()) => Ok(origin),
                Err(why) => Err(refusal(&origin, &why)),
            },
            None => Ok(Origin::Default),
        });
        origins.push(taken.unwrap_or_else(|why| {
            faults.push(why);
            Origin::Default
        }));
    }
    if !faults.is_empty() {
        return Err(Error(faults.join("\n")));
    }
    finish(&mut draft, &mut origins, &mut warnings).map_err(Error)?;
    draft.config.export.metrics =
        metrics(&mut draft, layers, &mut origins, &mut warnings).map_err(Error)?;
    let shown = SETTINGS.iter().map(|setting| (setting.show)(&draft));
    let values = SETTINGS.iter().zip(shown).zip(origins);
    Ok(Resolved {
        values: values
            .map(|((setting, shown), o)| (setting, shown, o))
            .collect(),
        config: draft.config,
        file: Some(file.path).filter(|path| !path.as_os_str().is_empty()),
        warnings,
    })
}

/// What there is to look at, the strongest first.
#[derive(Clone, Copy)]
struct Layers<'a> {
    flags: &'a Flags,
    vars: &'a dyn Vars,
    file: &'a Contents,
}

impl Layers<'_> {
    /// The strongest word on one setting. A refused variable is an error even where a flag is
    /// stronger only if nothing else is: flags are looked at first and end the search.
    fn strongest(
        self,
        setting: &'static Setting,
        signal: Signal,
        warnings: &mut Vec<String>,
    ) -> Result<Option<(Origin, Raw)>, String> {
        let of = |s: &&'static Setting| s.name == setting.name;
        let flag = self.flags.values.iter().find(|(s, _)| of(s));
        if let Some((_, raw)) = flag {
            return Ok(Some((Origin::Flag(setting.flag), raw.clone())));
        }
        if let Some((name, raw)) = env::read(setting, signal, self.vars, warnings)? {
            return Ok(Some((Origin::Env(name), raw)));
        }
        let line = self.file.values.iter().find(|(s, _, _)| of(s));
        Ok(line.map(|(_, raw, line)| (Origin::File(*line), raw.clone())))
    }

    /// OTLP's settings once more, with the variables for metrics in the place of those for traces.
    fn metrics(self, warnings: &mut Vec<String>) -> Result<OtlpDraft, String> {
        let mut draft = Draft::default();
        let mut odd = Vec::new();
        for setting in SETTINGS.iter().filter(|s| s.section() == "export.otlp") {
            if let Some((origin, raw)) = self.strongest(setting, Signal::Metrics, &mut odd)? {
                (setting.set)(&mut draft, &raw).map_err(|why| refusal(&origin, &why))?;
            }
        }
        for warning in odd {
            // What both signals share has been said.
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        Ok(draft.otlp)
    }
}

fn refusal(origin: &Origin, why: &str) -> String {
    match origin {
        Origin::Flag(flag) => format!("--{flag}: {why}"),
        Origin::Env(name) => format!("{name}: {why}"),
        Origin::File(line) => format!("line {line}: {why}"),
        Origin::Default | Origin::Follows(_) => why.to_owned(),
    }
}

/// What can only be decided once every setting is known.
fn finish(
    draft: &mut Draft,
    origins: &mut [Origin],
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    draft.config.sampling.sampler = sampler(draft);
    let export = &mut draft.config.export;
    if export.batch_size > export.queue_size {
        let (batch, queue) = (export.batch_size, export.queue_size);
        if *origin_of(origins, "export.batch_size") != Origin::Default {
            warnings.push(format!(
                "a batch of {batch} never fits a queue of {queue}; batches are {queue}"
            ));
        }
        export.batch_size = queue;
    }
    destinations(draft, origins);
    let base = origin_of(origins, "export.otlp.endpoint").clone();
    let traces = origin_of(origins, "export.otlp.traces_endpoint").clone();
    let wanted = draft.destinations.contains(&Destination::Otlp);
    let otlp = match wanted {
        true => Some(otlp::finish(
            &draft.otlp,
            &Sources {
                own: draft.otlp.traces_endpoint.as_deref(),
                path: otlp::TRACES,
                base: &base,
                signal: &traces,
            },
            warnings,
        )?),
        false => None,
    };
    if !wanted && base.layer().max(traces.layer()) > 0 {
        warnings.push("an OTLP endpoint is set but `otlp` is not among the exporters".into());
    }
    let exporters = draft.destinations.iter().filter_map(|d| match d {
        Destination::Otlp => otlp.clone().map(Exporter::Otlp),
        Destination::Stdout => Some(Exporter::Stdout),
        Destination::Json => Some(Exporter::Json),
        Destination::None => None,
    });
    draft.config.export.exporters = exporters.collect();
    warnings.extend(unwritten(&draft.config.propagation));
    if draft.config.disabled {
        warnings.push("tracing is disabled: nothing is attached, no spans are made".into());
        draft.config.export.exporters.clear();
    }
    Ok(())
}

/// Why a `traceparent` is not written where it seems to be asked for.
fn unwritten(propagation: &Propagation) -> Option<String> {
    let Propagation {
        headers, networks, ..
    } = propagation;
    let joined = IpNet::aggregate(networks);
    let within = |to: &&IpNet| joined.iter().any(|all| all.contains(*to));
    match (propagation.mode == Carrying::Header, headers.is_empty()) {
        (true, true) => Some(
            "no traceparent is written: propagation.mode is `header`, and propagation.headers \
             (--header-to) names no network to write one to"
                .into(),
        ),
        (false, false) => Some(
            "no traceparent is written: propagation.headers is set, and propagation.mode \
             (--propagation) is not `header`"
                .into(),
        ),
        _ => headers.iter().find(|to| !within(to)).map(|to| {
            format!(
                "no traceparent is written to what of {to} (propagation.headers) is outside of \
                 propagation.networks (--carry-to)"
            )
        }),
    }
}

/// The agent's own metrics: nowhere unless asked for, by name or by an endpoint.
fn metrics(
    draft: &mut Draft,
    layers: Layers<'_>,
    origins: &mut [Origin],
    warnings: &mut Vec<String>,
) -> Result<Option<Metrics>, String> {
    let signal = origin_of(origins, "export.metrics.endpoint").clone();
    let to = SETTINGS.iter().position(|s| s.name == "export.metrics.to");
    if let Some(to) = to.and_then(|place| origins.get_mut(place))
        && *to == Origin::Default
        && signal != Origin::Default
    {
        draft.metrics.wanted = true;
        *to = Origin::Follows("export.metrics.endpoint");
    }
    if !draft.metrics.wanted || draft.config.disabled {
        return Ok(None);
    }
    let base = origin_of(origins, "export.otlp.endpoint").clone();
    let sources = Sources {
        own: draft.metrics.endpoint.as_deref(),
        path: otlp::METRICS,
        base: &base,
        signal: &signal,
    };
    let mut odd = Vec::new();
    let otlp = otlp::finish(&layers.metrics(warnings)?, &sources, &mut odd)?;
    odd.retain(|warning| !warnings.contains(warning));
    warnings.append(&mut odd);
    Ok(Some(Metrics {
        otlp,
        interval: draft.metrics.interval,
    }))
}

/// Exporters nobody asked for follow from whether there is an endpoint.
fn destinations(draft: &mut Draft, origins: &mut [Origin]) {
    if !draft.destinations.is_empty() {
        return;
    }
    let endpoints = ["export.otlp.traces_endpoint", "export.otlp.endpoint"];
    let set = endpoints
        .into_iter()
        .find(|name| *origin_of(origins, name) != Origin::Default);
    draft.destinations = match set {
        Some(_) => vec![Destination::Otlp],
        None => vec![Destination::Stdout],
    };
    let place = SETTINGS.iter().position(|s| s.name == "export.to");
    if let (Some(name), Some(origin)) = (set, place.and_then(|i| origins.get_mut(i))) {
        *origin = Origin::Follows(name);
    }
}

fn sampler(draft: &Draft) -> Sampler {
    match draft.sampler {
        Strategy::AlwaysOn => Sampler::AlwaysOn,
        Strategy::AlwaysOff => Sampler::AlwaysOff,
        Strategy::Ratio => Sampler::TraceIdRatio(draft.ratio),
        Strategy::ParentOn => Sampler::ParentBasedAlwaysOn,
        Strategy::ParentOff => Sampler::ParentBasedAlwaysOff,
        Strategy::ParentRatio => Sampler::ParentBasedTraceIdRatio(draft.ratio),
    }
}

fn origin_of<'a>(origins: &'a [Origin], name: &str) -> &'a Origin {
    let place = SETTINGS.iter().position(|s| s.name == name);
    place
        .and_then(|i| origins.get(i))
        .unwrap_or(&Origin::Default)
}
