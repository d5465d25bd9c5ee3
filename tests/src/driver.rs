//! The typed side of `apps/driver`: a process that opens, sends, reads and closes exactly as told,
//! so that the harness decides where heads are split and when. It is a traced program like any
//! other: its process makes the calls, and the harness's own never does.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::client::Client;
use crate::known::{Answer, Ask, Asks};
use crate::program::Setup;

/// A running driver; stopped when dropped.
pub struct Driver {
    client: Client,
    /// Own port of each connection.
    ports: BTreeMap<u64, u16>,
}

/// One of its connections.
pub type Connection = u64;

/// A response as the driver read it.
#[derive(Clone, Debug)]
pub struct Response {
    /// What came back.
    pub answer: Answer,
    /// Interim statuses before it.
    pub interim: Vec<u64>,
    /// Whether the server will close.
    pub closes: bool,
    /// Its head.
    pub head: String,
}

impl Driver {
    /// Starts one whose service name is `service`.
    pub fn start(folder: &Path, binary: &str, service: &str) -> Result<Self> {
        let setup = Setup::new(service, folder, binary).env("OTEL_SERVICE_NAME", service);
        Ok(Self {
            client: Client::start(setup)?,
            ports: BTreeMap::new(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.client.pid()
    }

    /// Connects to a port of 127.0.0.1.
    pub fn open(&mut self, port: u16) -> Result<Connection> {
        self.adopt(&json!(["open", 0, format!("127.0.0.1:{port}")]))
    }

    /// Connects to an address.
    pub fn open_at(&mut self, address: &str) -> Result<Connection> {
        self.adopt(&json!(["open", 0, address]))
    }

    /// Listens on a free port: (listener, port).
    pub fn listen(&mut self) -> Result<(u64, u16)> {
        self.listen_at("127.0.0.1:0")
    }

    /// Listens on an address.
    pub fn listen_at(&mut self, address: &str) -> Result<(u64, u16)> {
        let answer = self.command(&json!(["listen", 0, address]))?;
        Ok((
            number(&answer, "id")?,
            u16::try_from(number(&answer, "port")?)?,
        ))
    }

    /// Accepts the next connection.
    pub fn accept(&mut self, listener: u64) -> Result<Connection> {
        self.adopt(&json!(["accept", listener]))
    }

    /// Own port of a connection.
    pub fn port(&self, connection: Connection) -> Option<u16> {
        self.ports.get(&connection).copied()
    }

    /// Sends text in one call.
    pub fn send(&mut self, connection: Connection, text: &str) -> Result<()> {
        self.command(&json!(["send", connection, text])).map(drop)
    }

    /// Sends text in pieces of these lengths, `pause` milliseconds apart; the rest in one.
    pub fn send_split(
        &mut self,
        connection: Connection,
        text: &str,
        cuts: &[usize],
        pause: u64,
    ) -> Result<()> {
        let mut rest = text;
        for cut in cuts {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            self.send(connection, piece)?;
            self.pause(pause)?;
            rest = after;
        }
        self.send(connection, rest)
    }

    /// Sends that many bytes of body.
    pub fn fill(&mut self, connection: Connection, count: u64) -> Result<()> {
        self.command(&json!(["fill", connection, count])).map(drop)
    }

    /// The same, without waiting for its end: `finish` does.
    pub fn begin_fill(&mut self, connection: Connection, count: u64) -> Result<()> {
        self.client
            .tell(&json!(["fill", connection, count]).to_string())
    }

    /// Waits for what was begun.
    pub fn finish(&mut self) -> Result<()> {
        self.answer().map(drop)
    }

    /// Sleeps inside the driver.
    pub fn pause(&mut self, milliseconds: u64) -> Result<()> {
        self.command(&json!(["pause", milliseconds])).map(drop)
    }

    /// Reads exactly that many bytes.
    pub fn take(&mut self, connection: Connection, count: u64) -> Result<()> {
        self.command(&json!(["take", connection, count])).map(drop)
    }

    /// Reads up to and with a marker.
    pub fn until(&mut self, connection: Connection, marker: &str) -> Result<String> {
        let answer = self.command(&json!(["until", connection, marker]))?;
        Ok(answer["text"].as_str().unwrap_or_default().to_string())
    }

    /// Reads to the end, and tells how it ended.
    pub fn eof(&mut self, connection: Connection) -> Result<String> {
        let answer = self.command(&json!(["eof", connection]))?;
        Ok(answer["how"].as_str().unwrap_or_default().to_string())
    }

    /// Ends the sending side.
    pub fn shut(&mut self, connection: Connection) -> Result<()> {
        self.command(&json!(["shut", connection])).map(drop)
    }

    /// Closes.
    pub fn close(&mut self, connection: Connection) -> Result<()> {
        self.command(&json!(["close", connection])).map(drop)
    }

    /// Closes with a reset.
    pub fn reset(&mut self, connection: Connection) -> Result<()> {
        self.command(&json!(["reset", connection]))?;
        self.close(connection)
    }

    /// Reads one final response.
    pub fn read(&mut self, connection: Connection, method: &str) -> Result<Response> {
        let answer = self.command(&json!(["read", connection, method]))?;
        let interim = answer["interim"].as_array().into_iter().flatten();
        Ok(Response {
            interim: interim.filter_map(Value::as_u64).collect(),
            closes: answer["close"] == json!(true),
            head: answer["head"].as_str().unwrap_or_default().into(),
            answer: Answer {
                status: u16::try_from(number(&answer, "status")?)?,
                body: number(&answer, "body")?,
                wire: Some(number(&answer, "wire")?),
                sent: None,
                port: self.port(connection),
            },
        })
    }

    fn adopt(&mut self, command: &Value) -> Result<Connection> {
        let answer = self.command(command)?;
        let id = number(&answer, "id")?;
        self.ports
            .insert(id, u16::try_from(number(&answer, "port")?)?);
        Ok(id)
    }

    fn command(&mut self, command: &Value) -> Result<Value> {
        self.client.tell(&command.to_string())?;
        self.answer()
            .with_context(|| format!("the driver was told {command}"))
    }

    fn answer(&mut self) -> Result<Value> {
        let answer: Value = serde_json::from_str(&self.client.line()?)?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{error}");
        }
        Ok(answer)
    }
}

fn number(answer: &Value, key: &str) -> Result<u64> {
    answer[key]
        .as_u64()
        .with_context(|| format!("no {key} in {answer}"))
}

/// A driver as a plain client of one server: one connection, opened anew after each close.
pub struct Plain<'a> {
    driver: &'a mut Driver,
    address: String,
    connection: Option<Connection>,
}

impl<'a> Plain<'a> {
    /// To a port of 127.0.0.1; connects at once.
    pub fn new(driver: &'a mut Driver, port: u16) -> Result<Self> {
        Self::at(driver, &format!("127.0.0.1:{port}"))
    }

    /// To an address; connects at once.
    pub fn at(driver: &'a mut Driver, address: &str) -> Result<Self> {
        let connection = Some(driver.open_at(address)?);
        let address = address.into();
        Ok(Self {
            driver,
            address,
            connection,
        })
    }

    /// Goes on with a connection opened before.
    pub fn on(driver: &'a mut Driver, port: u16, connection: Connection) -> Self {
        Self {
            driver,
            address: format!("127.0.0.1:{port}"),
            connection: Some(connection),
        }
    }
}

impl Plain<'_> {
    /// The driver's process id.
    pub fn pid(&self) -> u32 {
        self.driver.pid()
    }

    /// Closes what is open; the next request connects anew.
    pub fn end(&mut self) -> Result<()> {
        match self.connection.take() {
            Some(connection) => self.driver.close(connection),
            None => Ok(()),
        }
    }
}

impl Asks for Plain<'_> {
    fn ask(&mut self, ask: &Ask) -> Result<Answer> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.driver.open_at(&self.address)?,
        };
        let (head, body) = request(ask, &self.address);
        self.driver.send(connection, &head)?;
        let mut sent = 0;
        for size in body {
            sent += size;
            if ask.chunked {
                let line = format!("{size:x}\r\n");
                sent += line.len() as u64 + 2;
                self.driver.send(connection, &line)?;
                self.driver.fill(connection, size)?;
                self.driver.send(connection, "\r\n")?;
            } else {
                self.driver.fill(connection, size)?;
            }
        }
        if ask.chunked {
            sent += 5;
            self.driver.send(connection, "0\r\n\r\n")?;
        }
        let response = self.driver.read(connection, &ask.method)?;
        if ask.close || response.closes {
            self.driver.close(connection)?;
        } else {
            self.connection = Some(connection);
        }
        Ok(Answer {
            sent: Some(sent),
            ..response.answer
        })
    }
}

/// A head, and the sizes of the body's pieces.
fn request(ask: &Ask, address: &str) -> (String, Vec<u64>) {
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {address}\r\n",
        ask.method, ask.target
    );
    head.push_str("User-Agent: live-driver/1\r\n");
    for (name, value) in &ask.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if ask.close {
        head.push_str("Connection: close\r\n");
    }
    let body = ask.body.map(|n| n as u64);
    if ask.chunked {
        head.push_str("Transfer-Encoding: chunked\r\n");
    } else if let Some(size) = body {
        head.push_str(&format!("Content-Length: {size}\r\n"));
    }
    head.push_str("\r\n");
    let pieces = match body {
        Some(size) if ask.chunked && size > 1 => vec![size / 2, size - size / 2],
        Some(size) if size > 0 => vec![size],
        _ => Vec::new(),
    };
    (head, pieces)
}
