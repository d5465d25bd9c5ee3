//! threads PORT LEAF REDIS POSTGRES: a front without tokio, that has a thread for each connection.
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

struct Front {
    pooled: ureq::Agent,
    leaf: u16,
    redis: Mutex<Vec<redis::Connection>>,
    cache: u16,
}

impl Front {
    fn one(&self, number: &str, which: usize) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/leaf/call-{number}-{which}", self.leaf);
        self.pooled.get(&url).call()?.body_mut().read_to_vec()?;
        Ok(())
    }

    fn store(&self) -> Result<redis::Connection> {
        if let Some(free) = self.redis.lock().expect("no panic").pop() {
            return Ok(free);
        }
        Ok(redis::Client::open(format!("redis://127.0.0.1:{}/", self.cache))?.get_connection()?)
    }

    fn make(self: &Arc<Self>, path: &str) -> Result<()> {
        let words: Vec<&str> = path.split('/').collect();
        let [_, shape, number] = words[..] else {
            bail!("/SHAPE/NUMBER")
        };
        match shape {
            "direct" => self.one(number, 0),
            "sleep" => {
                for which in 0..2 {
                    thread::sleep(Duration::from_millis(8));
                    self.one(number, which)?;
                }
                Ok(())
            }
            "redis" => {
                let mut store = self.store()?;
                for which in 0..2 {
                    let key = format!("call-{number}-{which}");
                    let _: Option<String> = redis::cmd("GET").arg(key).query(&mut store)?;
                }
                self.redis.lock().expect("no panic").push(store);
                Ok(())
            }
            "late" => {
                let (front, number) = (Arc::clone(self), number.to_owned());
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(20));
                    front.one(&number, 0)
                });
                Ok(())
            }
            _ => bail!("no such shape"),
        }
    }

    /// What comes over a connection, one request after the other.
    fn serve(self: Arc<Self>, stream: &TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut line = String::new();
            while reader.read_line(&mut line)? > 2 {
                line.clear();
            }
            let path = first.split(' ').nth(1).context("a path")?;
            let (status, text) = said(self.make(path));
            let length = text.len();
            let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\n\r\n{text}");
            (&*stream).write_all(head.as_bytes())?;
        }
    }
}

fn said(made: Result<()>) -> (u16, String) {
    match made {
        Ok(()) => (200, "front\n".into()),
        Err(error) => (500, format!("{error:#}\n")),
    }
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut port = || Ok::<u16, anyhow::Error>(words.next().context("a port")?.parse()?);
    let [port, leaf, cache] = [port()?, port()?, port()?];
    let front = Arc::new(Front {
        pooled: ureq::agent(),
        leaf,
        redis: Mutex::default(),
        cache,
    });
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let (stream, front) = (stream?, Arc::clone(&front));
        thread::spawn(move || front.serve(&stream));
    }
    Ok(())
}
