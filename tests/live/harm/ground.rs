//! What connections are between: nginx, and tests/apps/harm behind it and beside it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use spantap_tests::certificates::Certificates;
use spantap_tests::process::{free_port, slowly};
use spantap_tests::program::{Program, Setup};
use spantap_tests::{Client, Stage};

use super::Mode;
use crate::programs::nginx_with;

/// The programs' own.
pub const HARM: &str = env!("CARGO_BIN_EXE_live-harm");

/// Servers.
pub struct Ground {
    /// The certificate of who vouches for the server.
    pub authority: String,
    /// A port for whoever wants one.
    pub third: u16,
    proxy: u16,
    files: u16,
    server: u16,
    folder: PathBuf,
    _programs: [Program; 2],
}

impl Ground {
    /// Starts them; where heads may have been added to, the server says nothing of that.
    pub fn start(stage: &Stage, mode: Mode) -> Result<Self> {
        let [proxy, files, server, third] =
            [free_port()?, free_port()?, free_port()?, free_port()?];
        let certificates = Certificates::make(&stage.folder, "harm")?;
        let mut serving = Setup::new("server", &stage.folder, HARM)
            .args(["serve", &format!("127.0.0.1:{server}")])
            .env("TLS_CERT", &certificates.server)
            .env("TLS_KEY", &certificates.server_key)
            .port(server);
        if mode == Mode::Header {
            serving = serving.env("HARM_HEADER", "may be");
        }
        let nginx = nginx(stage, proxy, files, server)?.port(proxy);
        Ok(Self {
            authority: certificates.authority.display().to_string(),
            third,
            proxy,
            files,
            server,
            folder: stage.folder.clone(),
            _programs: [serving.start()?, nginx.start()?],
        })
    }

    /// All their ports.
    pub fn ports(&self) -> [u16; 4] {
        [self.proxy, self.files, self.server, self.third]
    }

    /// nginx.
    pub fn at_proxy(&self) -> String {
        format!("127.0.0.1:{}", self.proxy)
    }

    /// The server behind it.
    pub fn at_server(&self) -> String {
        format!("127.0.0.1:{}", self.server)
    }

    /// Runs a client to its end; what it saw.
    pub fn client(&self, words: &[&str]) -> Result<String> {
        seen(Setup::new(words[0], &self.folder, HARM).args(words))
    }
}

/// What a program of ours saw.
pub fn seen(setup: Setup) -> Result<String> {
    let ran = setup.run(slowly(Duration::from_secs(120)))?;
    ensure!(ran.code == Some(0), "{ran:?}");
    Ok(ran.output)
}

/// nginx with connections kept on both sides: before itself, for files that the kernel sends, and before
/// the server. What a response says of the time its file was made differs from run to run.
fn nginx(stage: &Stage, proxy: u16, files: u16, server: u16) -> Result<Setup> {
    let root = stage.folder.join("files");
    fs::create_dir_all(root.join("bytes"))?;
    let noise = seen(
        Setup::new("noise", &stage.folder, HARM).args(["noise", &root.display().to_string()]),
    )?;
    ensure!(noise.is_empty(), "{noise}");
    let root = root.display();
    let pass = |to: &str, more: &str| {
        format!(
            "proxy_pass http://{to}; proxy_http_version 1.1; proxy_set_header Host harm; {more}"
        )
    };
    let kept = "proxy_set_header Connection \"\";";
    let upgrade = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;";
    let (to_files, to_server) = (pass("files", kept), pass("behind", kept));
    let to_socket = pass("behind", upgrade);
    let text = format!(
        "upstream files {{ server 127.0.0.1:{files}; keepalive 8; }}
        upstream behind {{ server 127.0.0.1:{server}; keepalive 8; }}
        keepalive_requests 1000000;
        server {{
            listen 127.0.0.1:{proxy};
            location /bytes/ {{ {to_files} }}
            location /socket {{ {to_socket} }}
            location / {{ {to_server} }}
        }}
        server {{ listen 127.0.0.1:{files}; root {root}; default_type text/plain; etag off; }}"
    );
    nginx_with(&stage.folder, &text)
}

/// Traffic of all sorts, that goes on until it is told to end.
pub struct Mix(Client);

impl Mix {
    /// Starts it.
    pub fn start(ground: &Ground, stage: &Stage, name: &str) -> Result<Self> {
        let words = [
            "mix",
            &ground.at_proxy(),
            &ground.at_server(),
            &ground.authority,
        ];
        Client::start(Setup::new(name, &stage.folder, HARM).args(words)).map(Self)
    }

    /// Returns when each sort of it has been begun and ended since.
    pub fn rounds(&mut self) -> Result<()> {
        self.0.tell("rounds")?;
        let line = self.0.line()?;
        ensure!(line == "rounds", "{line}");
        Ok(())
    }

    /// What all of it saw, which is the same each time or told more than once.
    pub fn end(mut self) -> Result<String> {
        self.0.tell("end")?;
        let mut lines = Vec::new();
        loop {
            match self.0.line()? {
                line if line == "." => return Ok(lines.join("\n")),
                line => lines.push(line),
            }
        }
    }
}
