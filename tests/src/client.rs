//! A client program in some language that makes one request per line it reads:
//! `METHOD TARGET BYTES|- [chunked] [close] [name: value]…`, tab-separated, answered by
//! `STATUS BYTES` or `error …`. The lines say when; the requests are all the program's library's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::known::{Answer, Ask, Asks};
use crate::process::slowly;
use crate::program::{Program, Setup};

/// A running client; stopped when dropped.
pub struct Client {
    program: Program,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Client {
    /// Starts one and waits until it says `ready`.
    pub fn start(setup: Setup) -> Result<Self> {
        let mut program = setup.start_piped()?;
        let stdin = program.child().stdin.take().context("stdin is a pipe")?;
        let stdout = program.child().stdout.take().context("stdout is a pipe")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut client = Self {
            program,
            stdin,
            lines,
        };
        let first = client.line()?;
        if first != "ready" {
            bail!("a client began with {first:?}");
        }
        Ok(client)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Its process id and those of all it started.
    pub fn pids(&self) -> Vec<u32> {
        self.program.pids()
    }

    /// Sends a line without waiting for the answer.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let sent = writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush());
        sent.with_context(|| format!("the client is gone:\n    {}", self.program.tail()))
    }

    /// Waits for a line.
    pub fn line(&mut self) -> Result<String> {
        self.lines
            .recv_timeout(slowly(Duration::from_secs(30)))
            .with_context(|| format!("no answer from the client:\n    {}", self.program.tail()))
    }
}

impl Asks for Client {
    fn ask(&mut self, ask: &Ask) -> Result<Answer> {
        let body = ask.body.map_or_else(|| "-".into(), |n| n.to_string());
        let mut words = vec![ask.method.clone(), ask.target.clone(), body];
        words.extend(ask.chunked.then(|| "chunked".into()));
        words.extend(ask.close.then(|| "close".into()));
        words.extend(
            ask.headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}")),
        );
        self.tell(&words.join("\t"))?;
        let line = self.line()?;
        let mut words = line.split(' ').map(str::parse);
        match (words.next(), words.next()) {
            (Some(Ok(status)), Some(Ok(body))) => Ok(Answer {
                status: u16::try_from(status)?,
                body,
                ..Answer::default()
            }),
            _ => bail!("the client said {line:?}"),
        }
    }
}

/// Takes a line of the protocol apart; for the clients that are written in Rust.
pub fn parse(line: &str) -> Option<Ask> {
    let mut words = line.split('\t');
    let mut ask = Ask {
        method: words.next()?.into(),
        target: words.next()?.into(),
        body: words.next()?.parse().ok(),
        ..Ask::default()
    };
    for word in words {
        match word {
            "chunked" => ask.chunked = true,
            "close" => ask.close = true,
            header => {
                let (name, value) = header.split_once(": ")?;
                ask.headers.push((name.into(), value.into()));
            }
        }
    }
    Some(ask)
}
