//! What runs in a process: a language's runtime or a well-known server. By the executable's name
//! where that is enough, else by its file (once per file), else by the libraries it has mapped
//! (once per program, and only for a dynamic executable that nothing else explains).

use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::elf::{self, Binary};
use super::files;
use super::process::{Snapshot, base_name};

/// What runs in a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Runtime {
    /// Go.
    Go,
    /// Node.js.
    Node,
    /// Deno.
    Deno,
    /// Bun.
    Bun,
    /// CPython or PyPy.
    Python,
    /// A Java virtual machine.
    Jvm,
    /// Ruby.
    Ruby,
    /// PHP.
    Php,
    /// .NET.
    Dotnet,
    /// Erlang's virtual machine.
    Beam,
    /// Perl.
    Perl,
    /// nginx and its descendants.
    Nginx,
    /// Apache httpd.
    Apache,
    /// Envoy.
    Envoy,
    /// HAProxy.
    Haproxy,
    /// Servers around one event loop: lighttpd, Redis, memcached, …
    EventLoop,
    /// A program made by the Rust compiler.
    Rust,
    /// Compiled, from C or a language not recognised.
    #[default]
    Native,
}

impl Runtime {
    /// Name, as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Node => "nodejs",
            Self::Deno => "deno",
            Self::Bun => "bun",
            Self::Python => "cpython",
            Self::Jvm => "OpenJDK Runtime Environment",
            Self::Ruby => "ruby",
            Self::Php => "php",
            Self::Dotnet => ".NET",
            Self::Beam => "BEAM",
            Self::Perl => "perl",
            Self::Nginx => "nginx",
            Self::Apache => "httpd",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::EventLoop => "event loop",
            Self::Rust => "rust",
            Self::Native => "native",
        }
    }

    /// Value of `telemetry.sdk.language`: the semantic conventions' names, `generic` for the rest.
    pub fn language(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Node | Self::Deno | Self::Bun => "nodejs",
            Self::Python => "python",
            Self::Jvm => "java",
            Self::Ruby => "ruby",
            Self::Php => "php",
            Self::Dotnet => "dotnet",
            Self::Beam => "erlang",
            Self::Rust => "rust",
            Self::Envoy => "cpp",
            Self::Perl
            | Self::Nginx
            | Self::Apache
            | Self::Haproxy
            | Self::EventLoop
            | Self::Native => "generic",
        }
    }

    /// Whether it is a `process.runtime` rather than a program of its own.
    pub fn is_language(self) -> bool {
        !matches!(
            self,
            Self::Nginx
                | Self::Apache
                | Self::Envoy
                | Self::Haproxy
                | Self::EventLoop
                | Self::Rust
                | Self::Native
        )
    }

    /// Whether one thread serves many requests at once, so that what a thread did last says
    /// nothing about what it does now. .NET and BEAM move requests between threads.
    pub fn multiplexes_threads(self) -> bool {
        match self {
            Self::Go
            | Self::Node
            | Self::Deno
            | Self::Bun
            | Self::Dotnet
            | Self::Beam
            | Self::Nginx
            | Self::Envoy
            | Self::Haproxy
            | Self::EventLoop => true,
            Self::Python
            | Self::Jvm
            | Self::Ruby
            | Self::Php
            | Self::Perl
            | Self::Apache
            | Self::Rust
            | Self::Native => false,
        }
    }

    /// Whether the HTTP it asks for is what it was asked for: web servers and proxies, which have no
    /// questions of their own but whether who is behind them is well.
    pub fn is_proxy(self) -> bool {
        matches!(
            self,
            Self::Nginx | Self::Apache | Self::Envoy | Self::Haproxy | Self::EventLoop
        )
    }

    /// Whether threads of a server's serve what another has read, each one request at a time, until it answers:
    /// Puma's. Not where fibers share them, which they show.
    pub fn takes_over(self) -> bool {
        self == Self::Ruby
    }

    /// By the name of the executable alone.
    pub fn of_name(name: &str) -> Option<Self> {
        // python3.11, ruby3.1, php-fpm8.2, node20, nginx-debug
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        Some(match stem {
            "node" | "nodejs" => Self::Node,
            "deno" => Self::Deno,
            "bun" => Self::Bun,
            "python" | "pypy" | "uwsgi" => Self::Python,
            "java" => Self::Jvm,
            "ruby" | "jruby" | "truffleruby" => Self::Ruby,
            "php" | "php-fpm" | "php-cgi" => Self::Php,
            "dotnet" => Self::Dotnet,
            "beam.smp" => Self::Beam,
            "perl" => Self::Perl,
            "nginx" | "openresty" | "tengine" | "angie" | "nginx-debug" => Self::Nginx,
            "apache" | "httpd" | "apache2" => Self::Apache,
            "envoy" | "pilot-agent-envoy" => Self::Envoy,
            "haproxy" => Self::Haproxy,
            "lighttpd" | "h2o" | "squid" | "redis-server" | "valkey-server" | "memcached"
            | "beanstalkd" | "pgbouncer" | "twemproxy" | "nutcracker" => Self::EventLoop,
            _ => return None,
        })
    }
}

/// What is known of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// What runs in it.
    pub runtime: Runtime,
    /// Its version, where it is visible.
    pub version: Option<Box<str>>,
    /// [`Runtime::multiplexes_threads`], refined: tokio in Rust, asyncio servers in Python.
    pub multiplexes_threads: bool,
    /// Whether it gives each request a thread or a process, whichever language its handlers are in.
    pub gives_threads: bool,
}

/// Recognises programs; what a file says is kept by (device, inode, time of change, size).
#[derive(Debug)]
pub struct Runtimes {
    proc: PathBuf,
    files: Mutex<Cache<FileId, Arc<FileFacts>>>,
}

type FileId = (u64, u64, i64, i64, u64);

#[derive(Debug, Default)]
struct FileFacts {
    binary: Binary,
    version: Option<Box<str>>,
}

impl Program {
    /// By its name and command line alone; `None` where only its files can tell.
    pub fn by_name(process: &Snapshot) -> Option<Self> {
        let runtime = named(process)?;
        let multiplexes_threads = multiplexes(runtime, &process.argv);
        let enough = runtime.is_language() || multiplexes_threads;
        enough.then_some(Self {
            runtime,
            version: None,
            multiplexes_threads,
            gives_threads: gives_threads(runtime, &process.argv),
        })
    }
}

impl Runtimes {
    /// Reads the procfs mounted at `proc`.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        Self {
            proc: proc.into(),
            files: Mutex::new(Cache::new(MAX_FILES)),
        }
    }

    /// What runs in a process. A process that is gone is told by its name alone.
    pub fn of(&self, process: &Snapshot) -> Program {
        let named = named(process);
        let facts = self.facts(process, named);
        let runtime = named
            .or_else(|| facts.binary.go.is_some().then_some(Runtime::Go))
            .or_else(|| self.mapped(process, &facts.binary))
            .or_else(|| facts.binary.rust.then_some(Runtime::Rust))
            .unwrap_or_default();
        let version = match runtime {
            Runtime::Go => facts
                .binary
                .go
                .as_deref()
                .filter(|v| !v.is_empty())
                .map(Box::from),
            Runtime::Nginx | Runtime::Apache | Runtime::EventLoop => facts
                .binary
                .product
                .as_ref()
                .map(|(_, version)| version.clone()),
            Runtime::Rust | Runtime::Native => None,
            _ => facts.version.clone().or_else(|| version_in_path(process)),
        };
        Program {
            multiplexes_threads: multiplexes(runtime, &process.argv) || facts.binary.tasks,
            gives_threads: gives_threads(runtime, &process.argv),
            runtime,
            version,
        }
    }

    fn facts(&self, process: &Snapshot, named: Option<Runtime>) -> Arc<FileFacts> {
        let link = self.proc.join(process.pid.to_string()).join("exe");
        let Some((file, data)) = executable(process, &link) else {
            return Arc::default();
        };
        let id = (
            data.dev(),
            data.ino(),
            data.mtime(),
            data.mtime_nsec(),
            data.len(),
        );
        if let Some(facts) = self.lock().get(&id) {
            return Arc::clone(facts);
        }
        let needs_file = named.is_none_or(|runtime| !runtime.is_language());
        let facts = Arc::new(FileFacts {
            binary: if needs_file {
                elf::inspect(&file)
            } else {
                Binary::default()
            },
            version: named.and_then(|runtime| version_beside(&self.proc, process, runtime)),
        });
        self.lock().insert(id, Arc::clone(&facts));
        facts
    }

    /// A host program with the runtime in a library: uWSGI modules, a .NET application host.
    fn mapped(&self, process: &Snapshot, binary: &Binary) -> Option<Runtime> {
        if !binary.dynamic || !process.seen {
            return None;
        }
        let file = File::open(self.proc.join(process.pid.to_string()).join("maps")).ok()?;
        BufReader::new(file.take(MAPS_READ))
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                let name = base_name(line.get(line.find('/')?..)?);
                let stem = name.split(['.', '-', '3', '2']).next().unwrap_or(name);
                LIBRARIES
                    .iter()
                    .find(|(library, _)| *library == stem)
                    .map(|(_, runtime)| *runtime)
            })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache<FileId, Arc<FileFacts>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn multiplexes(runtime: Runtime, argv: &[Box<str>]) -> bool {
    runtime.multiplexes_threads() || (runtime == Runtime::Python && is_async_python(argv))
}

fn named(process: &Snapshot) -> Option<Runtime> {
    Runtime::of_name(process.exe_name()).or_else(|| {
        // Where the executable is not known, the title may still be.
        let first = process.argv.first().filter(|_| process.exe.is_none())?;
        Runtime::of_name(base_name(first.split([':', ' ']).next()?))
    })
}

/// /proc/PID/exe opens the very file that was executed, even when it is deleted. The identity is
/// checked to still be this process's, as the id may have been given to another.
fn executable(process: &Snapshot, link: &Path) -> Option<(File, Metadata)> {
    let path = std::fs::read_link(link).ok()?;
    let same = process.exe.as_deref().is_some_and(|exe| {
        path.to_str()
            .map(|now| now.strip_suffix(" (deleted)").unwrap_or(now))
            == Some(exe)
    });
    if !same {
        return None;
    }
    let file = File::open(link).ok()?;
    let data = file.metadata().ok().filter(Metadata::is_file)?;
    Some((file, data))
}

/// Versions that stand in a small file beside the executable.
fn version_beside(proc: &Path, process: &Snapshot, runtime: Runtime) -> Option<Box<str>> {
    let exe = process.exe.as_deref()?;
    let prefix = Path::new(exe).parent()?.parent()?.to_str()?;
    let read =
        |name: &str| files::text(&process.root(proc), &format!("{prefix}/{name}"), SMALL_FILE).ok();
    match runtime {
        // JAVA_VERSION="17.0.9"
        Runtime::Jvm => read("release")?.lines().find_map(|line| {
            let value = line.strip_prefix("JAVA_VERSION=")?;
            version(value.trim_matches('"'))
        }),
        Runtime::Node => {
            let header = read("include/node/node_version.h")?;
            let part = |name: &str| {
                header.lines().find_map(|line| {
                    let mut words = line.strip_prefix("#define ")?.split_whitespace();
                    (words.next() == Some(name)).then(|| words.next().map(str::to_owned))?
                })
            };
            version(&format!(
                "{}.{}.{}",
                part("NODE_MAJOR_VERSION")?,
                part("NODE_MINOR_VERSION")?,
                part("NODE_PATCH_VERSION")?
            ))
        }
        _ => None,
    }
}

/// `/usr/bin/python3.11`, `~/.pyenv/versions/3.11.4/bin/python3.11`, `…/node/v20.1.0/bin/node`:
/// the longest version in the path wins.
fn version_in_path(process: &Snapshot) -> Option<Box<str>> {
    let exe = process.exe.as_deref()?;
    exe.split('/')
        .filter_map(|part| {
            let from = part.find(|c: char| c.is_ascii_digit())?;
            let digits = part.get(from..)?;
            let end = digits
                .find(|c: char| !(c.is_ascii_digit() || c == '.'))
                .unwrap_or(digits.len());
            version(digits.get(..end)?.trim_end_matches('.'))
        })
        .filter(|version| version.contains('.'))
        .max_by_key(|version| version.split('.').count())
}

fn version(text: &str) -> Option<Box<str>> {
    let right = !text.is_empty()
        && text.len() <= MAX_VERSION
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
    right.then(|| text.into())
}

/// Servers that interleave requests on one thread, by the words of the command line.
fn is_async_python(argv: &[Box<str>]) -> bool {
    argv.iter().any(|argument| {
        ASYNC_PYTHON
            .iter()
            .any(|name| base_name(argument) == *name || argument.contains("uvicorn"))
    })
}

/// Servers of which it is known, before they load anything, that they give each request a thread or a process:
/// Apache, whichever interpreter is in it, and gunicorn, if its command line says by which workers, which neither
/// its files nor its environment overrule.
fn gives_threads(runtime: Runtime, argv: &[Box<str>]) -> bool {
    runtime == Runtime::Apache || runtime == Runtime::Python && is_sync_gunicorn(argv)
}

fn is_sync_gunicorn(argv: &[Box<str>]) -> bool {
    let mut words = argv.iter().map(|word| &**word).skip(1);
    let script = words.find(|word| !word.starts_with('-'));
    if script.is_none_or(|script| base_name(script) != "gunicorn") {
        return false;
    }
    let mut classes = 0;
    while let Some(word) = words.next() {
        // The option may be shortened.
        let class = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--worker-cl") => Some(value),
            _ if word == "-k" || word.starts_with("--worker-cl") => words.next(),
            _ => word.strip_prefix("-k"),
        };
        match class {
            None => {}
            Some("sync" | "gthread") => classes += 1,
            Some(_) => return false,
        }
    }
    classes > 0
}

const ASYNC_PYTHON: [&str; 8] = [
    "uvicorn",
    "hypercorn",
    "daphne",
    "gevent",
    "eventlet",
    "granian",
    "aiohttp.web",
    "sanic",
];

const LIBRARIES: [(&str, Runtime); 8] = [
    ("libpython", Runtime::Python),
    ("libjvm", Runtime::Jvm),
    ("libcoreclr", Runtime::Dotnet),
    ("libhostfxr", Runtime::Dotnet),
    ("libnode", Runtime::Node),
    ("libruby", Runtime::Ruby),
    ("libphp", Runtime::Php),
    ("libperl", Runtime::Perl),
];

const MAX_FILES: usize = 4096;
const MAX_VERSION: usize = 64;
const SMALL_FILE: u64 = 64 * 1024;
const MAPS_READ: u64 = 1024 * 1024;
