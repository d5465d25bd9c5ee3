//! All attributes of one resource, by the semantic conventions (service, process, container, host,
//! os, telemetry).
//!
//! `telemetry.sdk.name` and `telemetry.distro.name` are `spantap`: the conventions reserve
//! `opentelemetry` for its own SDKs. `telemetry.sdk.language` is the language of the traced
//! program, `generic` where unknown, since backends show it as that; OpenTelemetry's eBPF
//! instrumentation does both the same way.
//!
//! `service.instance.id` is a version 5 UUID, in the namespace the conventions give, of host id,
//! boot id, process id and start time: the same however often the agent is started, another after
//! every reboot. The machine id itself goes out as `host.id` only, where the conventions have it for
//! hosts outside a cloud; who wants it kept sets another by `OTEL_RESOURCE_ATTRIBUTES` of the program.

use std::borrow::Cow;
use std::collections::BTreeMap;

use uuid::Uuid;

use crate::policy::redact::Redactor;
use crate::protocol::{Attribute, Attributes, Value};
use crate::stats::Stats;
use crate::target::Snapshot;
use crate::target::files;
use crate::target::runtime::Program;

use super::command;
use super::declared;
use super::host::{self, Host};
use super::kubernetes::{self, Place, Telling};
use super::look::Answer;
use super::name;
use super::service;

/// What attributes are made from.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The process.
    pub process: &'a Snapshot,
    /// What its files tell.
    pub answer: &'a Answer,
    /// Where it runs.
    pub host: &'a Host,
    /// Its place in a cluster, where it is in a pod that is known.
    pub place: Option<Place<'a>>,
    /// What is told of pods.
    pub telling: &'a Telling,
    /// Added where nothing else is known.
    pub extra: &'a BTreeMap<String, String>,
    /// Cleans command lines and the names made from them; none where nothing is redacted.
    pub redactor: Option<&'a Redactor>,
    /// Whether arguments are told.
    pub command_args: bool,
    /// For what could not be read.
    pub stats: &'a Stats,
}

/// Makes them; no key comes twice.
pub fn build(sources: &Sources<'_>) -> Attributes {
    let process = sources.process;
    let mut set = Set::default();
    telemetry(&mut set, &sources.answer.program);
    let container = &sources.answer.container;
    if let Some(name) = &process.environ.service_name {
        set.text("service.name", &**name);
    }
    if let Some(text) = &process.environ.resource_attributes {
        match declared::parse(text) {
            Some(pairs) => pairs
                .into_iter()
                .for_each(|(key, value)| set.owned(key, value)),
            None => sources.stats.resource_malformed.add(1),
        }
    }
    if let Some(place) = &sources.place {
        kubernetes::service(&mut set, place, sources.telling);
    }
    match container.service.as_deref().or(container.name.as_deref()) {
        Some(name) => set.text("service.name", name),
        None => set.text("service.name", service::name(process, sources.redactor)),
    }
    instance(&mut set, process, sources.host);
    about_process(&mut set, process, sources);
    if let Some(place) = &sources.place {
        kubernetes::place(&mut set, place, sources.telling);
    }
    about_container(&mut set, process, container);
    about_host(&mut set, sources.host);
    for (key, value) in sources.extra {
        set.owned(key.clone(), value.clone());
    }
    set.attributes
}

/// The name a program was started under, where the kernel's agrees; else the executable's.
pub fn program(process: &Snapshot) -> String {
    let name = service::started_as(process);
    name.unwrap_or_else(|| process.exe_name()).to_owned()
}

fn telemetry(set: &mut Set, program: &Program) {
    set.text("telemetry.sdk.name", NAME);
    set.text("telemetry.sdk.language", program.runtime.language());
    set.text("telemetry.sdk.version", VERSION);
    set.text("telemetry.distro.name", NAME);
    set.text("telemetry.distro.version", VERSION);
}

fn instance(set: &mut Set, process: &Snapshot, host: &Host) {
    let id = host.id.as_deref().unwrap_or(&host.name);
    let source = format!("{id}/{}/{}/{}", host.boot_id, process.pid, process.start);
    let uuid = Uuid::new_v5(&INSTANCES, source.as_bytes());
    set.text("service.instance.id", uuid.to_string());
}

fn about_process(set: &mut Set, process: &Snapshot, sources: &Sources<'_>) {
    set.int("process.pid", process.pid.into());
    if process.parent != 0 {
        set.int("process.parent_pid", process.parent.into());
    }
    set.text("process.executable.name", process.exe_name());
    if process.is_bare() {
        set.put(Cow::Borrowed(UNREAD), Value::Bool(true));
    }
    if let Some(exe) = &process.exe {
        set.text("process.executable.path", &**exe);
    }
    about_command(set, process, sources);
    if let Some(owner) = &sources.answer.owner {
        set.text("process.owner", &**owner);
    }
    if let Some(cwd) = &process.cwd {
        set.text("process.working_directory", &**cwd);
    }
    if let Some(time) = sources.host.started(process.start) {
        set.text("process.creation.time", host::iso8601(time));
    }
    if sources.answer.program.runtime.is_language() {
        set.text(
            "process.runtime.name",
            sources.answer.program.runtime.name(),
        );
        if let Some(version) = &sources.answer.program.version {
            set.text("process.runtime.version", &**version);
        }
    }
}

fn about_command(set: &mut Set, process: &Snapshot, sources: &Sources<'_>) {
    if process.argv.is_empty() {
        return;
    }
    if !sources.command_args {
        let program = command::program(process);
        let clean = sources.redactor.and_then(|redactor| redactor.text(program));
        set.text("process.command", clean.unwrap_or_else(|| program.into()));
        return;
    }
    let mut words = match sources.redactor {
        Some(redactor) => command::redact(&process.argv, process.exe_name(), redactor),
        None => process.argv.iter().map(|word| word.to_string()).collect(),
    };
    if let Some(first) = words.first() {
        set.text("process.command", first.clone());
    }
    command::shorten(&mut words);
    set.list("process.command_args", words);
}

fn about_container(set: &mut Set, process: &Snapshot, names: &name::Names) {
    let Some(container) = &process.place.container else {
        return;
    };
    set.text("container.id", &*container.id);
    if let Some(name) = &names.name {
        set.text("container.name", name.clone());
    }
    if let Some(image) = &names.image {
        set.text("container.image.name", image.clone());
    }
    if let Some(engine) = container.engine {
        set.text("container.runtime.name", engine);
    }
}

fn about_host(set: &mut Set, host: &Host) {
    set.text("host.name", host.name.clone());
    if let Some(id) = &host.id {
        set.text("host.id", id.clone());
    }
    set.text("host.arch", host.arch);
    set.text("os.type", "linux");
    for (key, value) in [
        ("os.name", &host.os_name),
        ("os.version", &host.os_version),
        ("os.description", &host.os_description),
    ] {
        if let Some(value) = value {
            set.text(key, value.clone());
        }
    }
}

/// Attributes in order; the first to set a key wins.
#[derive(Debug, Default)]
pub(super) struct Set {
    attributes: Attributes,
}

impl Set {
    pub(super) fn text(&mut self, key: &'static str, value: impl Into<String>) {
        self.owned(Cow::Borrowed(key), value.into());
    }

    pub(super) fn owned(&mut self, key: impl Into<Cow<'static, str>>, value: String) {
        if !value.is_empty() {
            let value = match files::cut(&value, VALUE_LIMIT) {
                cut if cut.len() < value.len() => cut.to_owned(),
                _ => value,
            };
            self.put(key.into(), Value::Str(Cow::Owned(value)));
        }
    }

    pub(super) fn int(&mut self, key: &'static str, value: i64) {
        self.put(Cow::Borrowed(key), Value::Int(value));
    }

    pub(super) fn list(&mut self, key: &'static str, value: Vec<String>) {
        if !value.is_empty() {
            self.put(Cow::Borrowed(key), Value::List(value));
        }
    }

    fn put(&mut self, key: Cow<'static, str>, value: Value) {
        let known = self.attributes.iter().any(|attribute| attribute.key == key);
        if !known && self.attributes.len() < MAX_ATTRIBUTES {
            self.attributes.push(Attribute { key, value });
        }
    }
}

const NAME: &str = "spantap";
/// The process was gone before it could be read: its names are the kernel's.
const UNREAD: &str = "spantap.process.unread";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The namespace the semantic conventions give for `service.instance.id`.
const INSTANCES: Uuid = Uuid::from_u128(0x4d63_009a_8d0f_11ee_aad7_4c79_6ed8_e320);

const MAX_ATTRIBUTES: usize = 160;
const VALUE_LIMIT: usize = 1024;
