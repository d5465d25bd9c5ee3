//! tokio RUNTIME PORT LEAF REDIS POSTGRES: a front on hyper, which has a task for each connection.
//!
//! RUNTIME is multi (four threads, among which tasks move), current (one thread) or pinned (four threads, each with
//! a runtime of its own, as actix-web's). The shapes are those of ../../../main.go.
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use redis::aio::MultiplexedConnection;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Builder;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

const POOL: usize = 4;

type Asking = Client<HttpConnector, Empty<Bytes>>;
type Job = (String, oneshot::Sender<Result<()>>);

struct Front {
    pooled: Asking,
    second: Asking,
    leaf: u16,
    room: Semaphore,
    redis: Option<Pool<MultiplexedConnection>>,
    postgres: Option<Pool<tokio_postgres::Client>>,
    jobs: mpsc::Sender<Job>,
}

/// Connections that one at a time uses.
struct Pool<T> {
    free: Mutex<Vec<T>>,
    room: Semaphore,
}

impl<T> Pool<T> {
    fn of(free: Vec<T>) -> Self {
        let room = Semaphore::new(free.len());
        let free = Mutex::new(free);
        Self { free, room }
    }

    async fn with<F: Future<Output = Result<T>>>(&self, using: impl FnOnce(T) -> F) -> Result<()> {
        let _room = self.room.acquire().await?;
        let one = self.free.lock().await.pop().context("one is free")?;
        let one = using(one).await?;
        self.free.lock().await.push(one);
        Ok(())
    }
}

fn call(number: &str, which: usize) -> String {
    format!("call-{number}-{which}")
}

async fn ask(client: &Asking, leaf: u16, call: String) -> Result<()> {
    let answer = client
        .get(format!("http://127.0.0.1:{leaf}/leaf/{call}").parse()?)
        .await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    answer.into_body().collect().await?;
    Ok(())
}

impl Front {
    async fn new(leaf: u16, redis: u16, postgres: u16) -> Result<Arc<Self>> {
        let (jobs, queue) = mpsc::channel(64);
        let front = Arc::new(Self {
            pooled: Client::builder(TokioExecutor::new()).build_http(),
            second: Client::builder(TokioExecutor::new())
                .http2_only(true)
                .build_http(),
            leaf,
            room: Semaphore::new(POOL),
            redis: stores(redis).await?,
            postgres: databases(postgres).await?,
            jobs,
        });
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..8 {
            let (queue, front) = (Arc::clone(&queue), Arc::clone(&front));
            tokio::spawn(async move {
                loop {
                    let job: Option<Job> = queue.lock().await.recv().await;
                    let Some((number, done)) = job else { return };
                    let _ = done.send(front.one(&number, 0).await);
                }
            });
        }
        Ok(front)
    }

    async fn one(&self, number: &str, which: usize) -> Result<()> {
        ask(&self.pooled, self.leaf, call(number, which)).await
    }

    async fn make(self: &Arc<Self>, shape: &str, number: &str) -> Result<()> {
        match shape {
            "direct" => self.one(number, 0).await,
            "sleep" => {
                for which in 0..2 {
                    sleep(Duration::from_millis(1 + odds(19))).await;
                    self.one(number, which).await?;
                }
                Ok(())
            }
            "small-pool" => {
                let _room = self.room.acquire().await?;
                self.one(number, 0).await
            }
            "fan-out" => {
                let mut all = JoinSet::new();
                for which in 0..5 {
                    let (front, number) = (Arc::clone(self), number.to_owned());
                    all.spawn(async move { front.one(&number, which).await });
                }
                while let Some(done) = all.join_next().await {
                    done??;
                }
                Ok(())
            }
            "redis" => {
                let stores = self.redis.as_ref().context("no Redis")?;
                for which in 0..2 {
                    let ask = |mut one: MultiplexedConnection| async move {
                        let key = call(number, which);
                        let _: Option<String> =
                            redis::cmd("GET").arg(key).query_async(&mut one).await?;
                        Ok(one)
                    };
                    stores.with(ask).await?;
                }
                Ok(())
            }
            "sql" => {
                let databases = self.postgres.as_ref().context("no PostgreSQL")?;
                let query = format!("SELECT '{}'", call(number, 0));
                let ask = |one: tokio_postgres::Client| async move {
                    one.query(&query, &[]).await?;
                    Ok(one)
                };
                databases.with(ask).await
            }
            "worker" => {
                let (done, waits) = oneshot::channel();
                self.jobs.send((number.to_owned(), done)).await?;
                waits.await?
            }
            "late" => {
                let (front, number) = (Arc::clone(self), number.to_owned());
                tokio::spawn(async move {
                    sleep(Duration::from_millis(20)).await;
                    front.one(&number, 0).await
                });
                Ok(())
            }
            "h2" => ask(&self.second, self.leaf, call(number, 0)).await,
            "blocking" => {
                let url = format!("http://127.0.0.1:{}/leaf/{}", self.leaf, call(number, 0));
                tokio::task::spawn_blocking(move || ureq::get(&url).call()).await??;
                Ok(())
            }
            _ => bail!("no such shape"),
        }
    }

    async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let words: Vec<&str> = request.uri().path().split('/').collect();
        let made = match words[..] {
            [_, shape, number] => self.make(shape, number).await,
            _ => Err(anyhow::anyhow!("/SHAPE/NUMBER")),
        };
        Ok(match made {
            Ok(()) => Response::new("front\n".into()),
            Err(error) => {
                let mut answer = Response::new(format!("{error:#}\n").into());
                *answer.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
                answer
            }
        })
    }
}

/// Numbers that are not all alike.
fn odds(below: u64) -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(1);
    (LAST.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) >> 33) % below
}

async fn stores(port: u16) -> Result<Option<Pool<MultiplexedConnection>>> {
    if port == 0 {
        return Ok(None);
    }
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let mut free = Vec::new();
    for _ in 0..POOL {
        free.push(client.get_multiplexed_async_connection().await?);
    }
    Ok(Some(Pool::of(free)))
}

async fn databases(port: u16) -> Result<Option<Pool<tokio_postgres::Client>>> {
    if port == 0 {
        return Ok(None);
    }
    let mut free = Vec::new();
    for _ in 0..POOL {
        let place = format!("host=127.0.0.1 port={port} user=app dbname=shop sslmode=disable");
        let (client, connection) = tokio_postgres::connect(&place, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        free.push(client);
    }
    Ok(Some(Pool::of(free)))
}

async fn front([port, leaf, redis, postgres]: [u16; 4]) -> Result<()> {
    let front = Front::new(leaf, redis, postgres).await?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener: TcpListener = socket.listen(128)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let front = Arc::clone(&front);
        tokio::spawn(async move {
            let service = service_fn(move |request| Arc::clone(&front).serve(request));
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let runtime = words.next().context("RUNTIME")?;
    let mut port = || Ok::<u16, anyhow::Error>(words.next().context("a port")?.parse()?);
    let ports = [port()?, port()?, port()?, port()?];
    match runtime.as_str() {
        "multi" => Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()?
            .block_on(front(ports)),
        "current" => Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(front(ports)),
        "pinned" => {
            let run = move || {
                Builder::new_current_thread()
                    .enable_all()
                    .build()?
                    .block_on(front(ports))
            };
            let all: Vec<_> = (0..4).map(|_| std::thread::spawn(run)).collect();
            all.into_iter()
                .try_for_each(|one| one.join().expect("a thread ends"))
        }
        _ => bail!("no such runtime"),
    }
}
