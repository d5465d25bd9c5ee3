//! The servers under load, each with the load that saturates it. Each answers the same small body,
//! but for gRPC, which gives its message back; nginx has a large file besides.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{client, traced};
use crate::{check, shell};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One worker, static files.
    Nginx,
    /// `http.createServer`.
    Node,
    /// `http.server`, threads.
    Python,
    /// nginx over TLS.
    Tls,
    /// nginx, HTTP/2 over TLS.
    H2,
    /// nginx, HTTP/2 with prior knowledge.
    H2c,
    /// grpc-go.
    Grpc,
    /// grpc-go over TLS.
    GrpcTls,
    /// Go's net/http, which makes a call for each request.
    CallsGo,
    /// The same with asyncio's streams,
    CallsAsyncio,
    /// Node.js's http,
    CallsNode,
    /// and a pool of a JVM's.
    CallsJava,
}

/// Those that make a call for each request.
pub const CALLS: [Kind; 4] = [
    Kind::CallsGo,
    Kind::CallsAsyncio,
    Kind::CallsNode,
    Kind::CallsJava,
];

impl Kind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Node => "node",
            Self::Python => "python",
            Self::Tls => "nginx, TLS",
            Self::H2 => "nginx, HTTP/2 over TLS",
            Self::H2c => "nginx, HTTP/2",
            Self::Grpc => "grpc-go",
            Self::GrpcTls => "grpc-go, TLS",
            Self::CallsGo => "Go, a call for each request",
            Self::CallsAsyncio => "asyncio, a call for each request",
            Self::CallsNode => "Node.js, a call for each request",
            Self::CallsJava => "Java, a call for each request by another pool",
        }
    }

    /// What saturates it.
    pub fn load(self) -> &'static str {
        match self {
            Self::H2 | Self::H2c => "h2load on 4 connections",
            Self::Grpc | Self::GrpcTls => "a grpc-go client's unary calls on 4 connections",
            _ => "wrk",
        }
    }

    /// What it is asked for.
    pub fn path(self) -> &'static str {
        match self {
            Self::CallsGo => "/small-pool/1",
            _ => SMALL,
        }
    }

    /// Whether the client that keeps a pace can ask it.
    pub fn paced(self) -> bool {
        matches!(self, Self::Nginx | Self::Node | Self::Python)
    }
}

/// What nearly all of them answer.
pub const SMALL: &str = "/index.html";
/// 60 KiB, by sendfile: nginx alone.
pub const LARGE: &str = "/large.html";

/// A running server; it ends with the benchmark.
pub struct Server {
    child: Child,
    /// Whom it calls.
    called: Option<Child>,
    kind: Kind,
    /// Its program and its certificate, where its load needs them.
    program: PathBuf,
    certificate: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts one on a free port; returns when it listens.
    pub fn start(kind: Kind) -> Result<Self> {
        let port = free_port()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let folder = check::kept("bench")?.join(port.to_string());
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("index.html"), "x".repeat(600))?;
        fs::write(folder.join("large.html"), "x".repeat(60 * 1024))?;
        let certificate = certificate(&folder)?;
        let program = match kind {
            Kind::Grpc | Kind::GrpcTls => built("grpc")?,
            kind if CALLS.contains(&kind) => built("causality")?,
            _ => PathBuf::new(),
        };
        let mut called = None;
        let mut command = command(kind, &program, &folder, port)?;
        if CALLS.contains(&kind) {
            let leaf = free_port()?.to_string();
            called = Some(started(
                shell::tied(&program, false)?.args(["leaf", &leaf]),
            )?);
            command.arg(&leaf);
        }
        if kind == Kind::CallsGo {
            command.args(["0", "0"]);
        }
        let mut server = Self {
            child: started(&mut command)?,
            called,
            kind,
            program,
            certificate,
            address,
        };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            if server.child.try_wait()?.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("{} does not listen on {address}", shell::words(&command))
    }

    /// As many requests as go, so many at once: their number.
    pub fn saturate(&self, path: &str, at_once: u32, seconds: u32) -> Result<f64> {
        let url = |scheme: &str| format!("{scheme}://{}{path}", self.address);
        let call = |authority: Option<&Path>| {
            let port = self.address.port();
            client::calls(&self.program, port, authority, at_once, seconds)
        };
        match self.kind {
            Kind::Tls => client::wrk(&url("https"), at_once, seconds),
            Kind::H2 => client::h2load(&url("https"), at_once, seconds),
            Kind::H2c => client::h2load(&url("http"), at_once, seconds),
            Kind::Grpc => call(None),
            Kind::GrpcTls => call(Some(&self.certificate)),
            _ => client::wrk(&url("http"), at_once, seconds),
        }
    }

    /// Arguments that select it for the agent, and nothing else.
    pub fn selected(&self) -> Vec<String> {
        let pids = self.pids().into_iter();
        pids.flat_map(|pid| ["--pid".to_owned(), pid.to_string()])
            .collect()
    }

    /// CPU it has used, microseconds.
    pub fn cpu(&self) -> f64 {
        traced::cpu(&self.pids())
    }

    /// The server's processes.
    fn pids(&self) -> Vec<u32> {
        let own = self.child.id();
        let children =
            fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own)
            .chain(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse().ok()),
            )
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        traced::end(&mut self.child);
        self.called.as_mut().map(traced::end);
    }
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}

/// Starts a program that says nothing.
fn started(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
        .spawn()
        .with_context(|| format!("start {}", shell::words(command)))
}

fn command(kind: Kind, program: &Path, folder: &Path, port: u16) -> Result<Command> {
    Ok(match kind {
        Kind::Nginx | Kind::Tls | Kind::H2 | Kind::H2c => {
            shell::install(&["nginx-light"], "bench")?;
            let file = folder.join("nginx.conf");
            let text = NGINX
                .replace("ROOT", &folder.display().to_string())
                .replace("PORT", &port.to_string())
                .replace("HOW", how(kind));
            fs::write(&file, text)?;
            let mut command = shell::tied("/usr/sbin/nginx", false)?;
            command.arg("-c").arg(&file).arg("-p").arg(folder);
            command
        }
        Kind::Node => {
            shell::install_unless("node", &["nodejs"], "bench")?;
            let mut command = shell::tied("node", false)?;
            command.args(["-e", NODE, &port.to_string()]);
            command
        }
        Kind::Python => {
            let mut command = shell::tied("python3", false)?;
            command.args(["-c", PYTHON, &port.to_string()]);
            command
        }
        Kind::Grpc | Kind::GrpcTls => {
            let mut command = shell::tied(program, false)?;
            command.args(["server", &port.to_string()]);
            if kind == Kind::GrpcTls {
                command.args([folder.join(CERTIFICATE), folder.join(KEY)]);
            }
            command
        }
        Kind::CallsGo => {
            let mut command = shell::tied(program, false)?;
            command.args(["front", &port.to_string()]);
            command
        }
        Kind::CallsAsyncio => front("python3", "python3", "front.py", port)?,
        Kind::CallsNode => front("node", "nodejs", "front.js", port)?,
        Kind::CallsJava => front("java", "default-jdk-headless", "Front.java", port)?,
    })
}

/// A script of tests/apps/calls, by a program of that package's.
fn front(program: &str, package: &str, script: &str, port: u16) -> Result<Command> {
    shell::install_unless(program, &[package], "bench")?;
    let mut command = shell::tied(program, false)?;
    command
        .arg(shell::workspace().join("tests/apps/calls").join(script))
        .arg(port.to_string());
    Ok(command)
}

/// How nginx listens.
fn how(kind: Kind) -> &'static str {
    match kind {
        Kind::Tls => "ssl",
        Kind::H2 => "ssl http2",
        Kind::H2c => "http2",
        _ => "",
    }
}

/// A Go program of tests/apps, built.
fn built(name: &str) -> Result<PathBuf> {
    if !shell::works("go", "version") {
        shell::install(&["golang-go"], "bench")?;
    }
    let program = check::kept("bench")?.join(name);
    let mut command = Command::new("go");
    command
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(shell::workspace().join("tests/apps").join(name));
    shell::run(&mut command)?;
    Ok(program)
}

/// A certificate for loopback, signed by itself; gives its file.
pub fn certificate(folder: &Path) -> Result<PathBuf> {
    shell::install(&["openssl"], "bench")?;
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", KEY, "-out", CERTIFICATE])
        .current_dir(folder);
    shell::read(&mut command)?;
    Ok(folder.join(CERTIFICATE))
}

/// What [`certificate`] makes.
pub const CERTIFICATE: &str = "certificate.pem";
/// Its key.
pub const KEY: &str = "key.pem";

const NGINX: &str = "daemon off;
worker_processes 1;
pid ROOT/nginx.pid;
error_log ROOT/nginx.error.log;
events { worker_connections 1024; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path ROOT/body;
    proxy_temp_path ROOT/proxy;
    fastcgi_temp_path ROOT/fastcgi;
    uwsgi_temp_path ROOT/uwsgi;
    scgi_temp_path ROOT/scgi;
    ssl_certificate ROOT/certificate.pem;
    ssl_certificate_key ROOT/key.pem;
    server { listen 127.0.0.1:PORT HOW; root ROOT; }
}
";
const NODE: &str = "const body = 'x'.repeat(600);
require('http').createServer((request, response) => response.end(body)).listen(+process.argv[1], '127.0.0.1');";
const PYTHON: &str = "import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '600')
        self.end_headers()
        self.wfile.write(b'x' * 600)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()";
