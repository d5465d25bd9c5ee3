//! The servers under load. Each answers the same small body; nginx has a large file besides.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::traced;
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
}

/// What all of them answer.
pub const SMALL: &str = "/index.html";
/// 60 KiB, by sendfile: nginx alone.
pub const LARGE: &str = "/large.html";

/// A running server; it ends with the benchmark.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts one on a free port; returns when it listens.
    pub fn start(kind: Kind) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let folder = check::kept("bench")?.join(port.to_string());
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("index.html"), "x".repeat(600))?;
        fs::write(folder.join("large.html"), "x".repeat(60 * 1024))?;
        let mut command = command(kind, &folder, port)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command
            .spawn()
            .with_context(|| format!("start {}", shell::words(&command)))?;
        let mut server = Self { child, address };
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
    }
}

fn command(kind: Kind, folder: &Path, port: u16) -> Result<Command> {
    Ok(match kind {
        Kind::Nginx => {
            shell::install(&["nginx-light"], "bench")?;
            let file = folder.join("nginx.conf");
            let text = NGINX
                .replace("ROOT", &folder.display().to_string())
                .replace("PORT", &port.to_string());
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
    })
}

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
    server { listen 127.0.0.1:PORT; root ROOT; }
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
