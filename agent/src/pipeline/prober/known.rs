//! What is known of a file that processes run code from.

use std::sync::Arc;
use std::time::Instant;

use agent_ebpf::abi::{AsyncIds, Contexts, Goroutines, Streams};
use rustix::time::{ClockId, clock_gettime};

use super::reaper::Set;
use crate::pipeline::orders::Orders;
use crate::pipeline::reader::Shared;
use crate::probe::lease::Lease;
use crate::say;
use crate::target::go;
use crate::target::goroutine::streams;
use crate::target::goroutine::{self, RoundTrip};
use crate::target::image::Image;
use crate::target::jvm;
use crate::target::mapped::Mapped;
use crate::target::node;
use crate::target::python::{self, Python};
use crate::target::tls::{self, Hook, Plan, Site};
use crate::target::uvloop;

/// What is in a file.
pub(super) struct Known {
    pub plans: Arc<[Plan]>,
    /// Why the TLS in it cannot be read.
    pub unread: Option<Arc<str>>,
    /// How the goroutines of the program in it are told apart.
    pub goroutines: Option<Goroutines>,
    /// Where its streams of HTTP/2 are.
    pub streams: Option<streams::Found>,
    /// How Python's contexts are told apart in it.
    pub python: Option<Python>,
    /// Whether there is a CPython in it: threads of one that is not followed are no evidence.
    pub is_python: bool,
    /// Where Node.js keeps ids.
    pub async_ids: Option<AsyncIds>,
    /// Where a JVM says what is where.
    pub jvm: Option<jvm::Exports>,
    /// Whether who runs it starts too many units of execution for them to be followed.
    pub teems: bool,
    /// Its probes, where they are everyone's.
    pub everyone: Vec<Set>,
    /// Under which it is probed.
    pub lease: Option<Arc<Lease>>,
    /// Processes that map it.
    pub users: usize,
    /// When the last one went.
    pub left: Instant,
}

/// The plans that say what units of execution do: who asks for a request, who starts whom.
pub(super) const UNITS: [&str; 6] = [NET_HTTP, STREAMS, STARTS, CONTEXTS, UVLOOP, NODE];
const NET_HTTP: &str = "net/http";
const STREAMS: &str = "HTTP/2 of Go";
const STARTS: &str = "runtime.newproc";
const CONTEXTS: &str = "contextvars";
const UVLOOP: &str = "uvloop";
const NODE: &str = "Node.js";

/// Whether a plan says who starts whom.
pub(super) fn is_start(library: &str) -> bool {
    [STARTS, CONTEXTS, UVLOOP].contains(&library)
}

impl Known {
    /// Reads what is wanted of a file. What cannot be made out is said once.
    pub fn read(file: &Mapped, shared: &Shared, told: &mut say::Once) -> Self {
        let stats = &*shared.stats;
        let image = file.file.try_clone().ok().and_then(Image::open);
        let mut unread = None;
        let mut plans = Vec::new();
        let tls = image.as_ref().filter(|_| shared.tls);
        for plan in tls.map(tls::plans).unwrap_or_default() {
            match plan {
                Ok(plan) => plans.push(plan),
                Err(reason) => {
                    stats.probe_unreadable.add(1);
                    told.say(format!("TLS of {} is unread: {reason}", file.name));
                    unread = Some(reason.to_string().into());
                }
            }
        }
        let mut calls_unlinked = |of: &str, why: &str| {
            stats.probe_unlinked.add(1);
            told.say(format!("calls of {of}{} have no parent: {why}", file.name));
        };
        let mut unlinked = |why: &str| calls_unlinked("", why);
        let go = image.as_ref().filter(|_| shared.goroutines);
        let goroutines = go.and_then(|image| {
            let found = layout(image, &mut plans);
            found.inspect_err(|why| unlinked(why)).ok().flatten()
        });
        let go = go.filter(|_| goroutines.is_some());
        let streams = go.and_then(|image| streams(image, &mut plans, &mut unlinked));
        let node = image.as_ref().filter(|_| shared.node);
        let async_ids = node.and_then(|image| match node::find(image)? {
            Ok(node::Found { layout, sites }) => {
                plans.push(plan(NODE, sites));
                Some(layout)
            }
            Err(why) => {
                unlinked(why);
                None
            }
        });
        let found = image.as_ref().and_then(python::find);
        let is_python = found.is_some();
        let found = found.filter(|_| shared.asyncio);
        let python = found.and_then(|found| python(found, &mut plans, &mut calls_unlinked));
        let asyncio = image.as_ref().filter(|_| shared.asyncio);
        match asyncio.and_then(uvloop::find) {
            Some(Ok(sites)) => plans.push(plan(UVLOOP, sites)),
            Some(Err(why)) => calls_unlinked("tasks of ", why),
            None => {}
        }
        Self {
            plans: plans.into(),
            unread,
            goroutines,
            streams,
            python,
            is_python,
            async_ids,
            jvm: image.as_ref().filter(|_| shared.jvm).and_then(jvm::find),
            teems: false,
            everyone: Vec::new(),
            lease: None,
            users: 0,
            left: Instant::now(),
        }
    }

    /// Tells the kernel side what is known of who maps it, whose own probes in it these are, and who links
    /// whether its contexts are followed: not those of a process that is `blind`, of which some were not
    /// seen to be made.
    pub fn tell(
        &self,
        (process, blind): (u32, bool),
        file: &Mapped,
        own: &[Set],
        shared: &Shared,
    ) -> anyhow::Result<()> {
        let (control, followed): (&dyn Orders, _) = (&*shared.control, &shared.followed);
        if let Some(layout) = self.goroutines.filter(|_| file.is_program) {
            control.goroutines(process, layout)?;
        }
        if let Some((found, code)) = self.streams.as_ref().zip(file.code) {
            control.streams(process, at(found, code))?;
        }
        if let Some(layout) = self.async_ids {
            control.async_ids(process, layout)?;
        }
        let sees = |set: &Set| set.of == CONTEXTS && set.is_attached();
        // Where contexts are not seen to be made, they pass for others.
        if let Some((python, code)) = self.python.as_ref().zip(file.code)
            && !self.teems
            && !blind
            && self.everyone.iter().chain(own).any(sees)
        {
            control.contexts(process, contexts(python, code))?;
            followed.begin(process, now());
        } else if self.is_python && file.code.is_some() {
            followed.refuse(process);
        }
        Ok(())
    }

    /// Whether there are probes for everyone who maps it.
    pub fn is_probed(&self) -> bool {
        !self.everyone.is_empty()
    }
}

/// How contexts are told apart in a process that has a CPython's code there: in memory, and in the file.
fn contexts(python: &Python, (begin, offset): (u64, u64)) -> Contexts {
    let base = begin.wrapping_sub(offset.wrapping_add(python.shift));
    let offsets = python.offsets;
    let pools = python.pools.ok();
    let hop = |n: usize| pools?.hops.get(n).copied();
    Contexts {
        key: base.wrapping_add(python.key),
        thread: offsets.thread_id,
        context: offsets.context,
        frame: offsets.frame,
        inner: offsets.inner.unwrap_or(Contexts::DIRECT),
        code: offsets.code,
        previous: offsets.previous,
        entered: offsets.entered,
        locals: pools.map_or(0, |pools| pools.locals),
        name: pools.map_or(0, |pools| pools.name),
        text: pools.map_or(0, |pools| pools.text),
        hops: [0, 1, 2].map(|n| hop(n).unwrap_or(Contexts::THERE)),
        pad: 0,
        since: now(),
    }
}

/// Where streams are in a process that has a program's code there: in memory, and in the file.
fn at(found: &streams::Found, (begin, offset): (u64, u64)) -> Streams {
    let base = begin.wrapping_sub(offset.wrapping_add(found.shift));
    let there = |address: Option<u64>| address.map_or(0, |address| base.wrapping_add(address));
    Streams {
        tcp_close: there(found.tcp),
        tls_close: there(found.tls),
        wrapped_close: found.wrapped.map(there),
        server_close: there(found.server),
        ..found.layout
    }
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let [seconds, nanoseconds] = [now.tv_sec, now.tv_nsec].map(i64::cast_unsigned);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

/// How contexts are told apart, with the plan that tells which are made.
fn python(
    found: Result<Python, &'static str>,
    plans: &mut Vec<Plan>,
    unlinked: &mut dyn FnMut(&str, &str),
) -> Option<Python> {
    let found = found.inspect_err(|why| unlinked("", why)).ok()?;
    plans.push(plan(CONTEXTS, found.sites.clone()));
    if let Err(why) = found.pools {
        unlinked("pools of threads of ", why);
    }
    Some(found)
}

/// Where streams of HTTP/2 are, with the plan that tells whose they are.
fn streams(
    image: &Image,
    plans: &mut Vec<Plan>,
    unlinked: &mut dyn FnMut(&str),
) -> Option<streams::Found> {
    let found = streams::find(image)?
        .inspect_err(|why| unlinked(why))
        .ok()?;
    plans.push(plan(STREAMS, found.sites.clone()));
    if let Some(why) = found.no_grpc {
        unlinked(why);
    }
    Some(found)
}

/// How goroutines are told apart, `None` where there are none; where net/http is there, with the plan
/// that tells who asks. `Err`: why not.
fn layout(image: &Image, plans: &mut Vec<Plan>) -> Result<Option<Goroutines>, &'static str> {
    if go::version(image).is_none() {
        return Ok(None);
    }
    let (offsets, _) = goroutine::offsets(image)?;
    let mut layout = Goroutines {
        goid: offsets.goid,
        ..Goroutines::default()
    };
    if let (Some(place), Some(conn)) = (goroutine::round_trip(image), offsets.conn) {
        let RoundTrip { offset, tcp, tls } = place?;
        layout.conn = conn;
        layout.tcp_close = tcp.unwrap_or_default();
        layout.tls_close = tls.unwrap_or_default();
        plans.push(plan(NET_HTTP, sites(Hook::GoRoundTrip, &[offset])));
    }
    if let Some(parent) = offsets.parent_goid {
        layout.parent = parent;
        plans.push(plan(
            STARTS,
            sites(Hook::GoStart, &[goroutine::start(image)?]),
        ));
        let requests = goroutine::requests(image)?;
        if !requests.is_empty() {
            plans.push(plan(NET_HTTP, sites(Hook::GoDoRequest, &requests)));
        }
    }
    Ok(Some(layout))
}

fn plan(library: &'static str, sites: Vec<Site>) -> Plan {
    Plan {
        library,
        version: None,
        sites,
        left_out: Vec::new(),
    }
}

fn sites(hook: Hook, offsets: &[u64]) -> Vec<Site> {
    let site = |&offset| Site {
        offset,
        hook,
        stepped: false,
    };
    offsets.iter().map(site).collect()
}
