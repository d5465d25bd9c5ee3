//! Plans for libraries whose functions can be found by their symbols: a library is a table of those
//! its users call, and what each is for.

use super::{Hook, Plan, Reason, Site};
use crate::target::code::{self, Body, Register};
use crate::target::image::{Function, Image};

/// A function that programs call.
#[derive(Debug)]
pub struct Known {
    /// Its symbol.
    pub name: &'static str,
    /// What is seen where it begins.
    pub hook: Hook,
    /// What is seen where it ends, if that is needed.
    pub done: Option<Hook>,
    /// Few programs call it: where it cannot be probed the others still are.
    pub seldom: bool,
}

/// One line of such a table.
pub const fn known(name: &'static str, hook: Hook, done: Option<Hook>) -> Known {
    Known {
        name,
        hook,
        done,
        seldom: false,
    }
}

impl Known {
    /// That few programs call.
    pub const fn seldom(self) -> Self {
        Self {
            seldom: true,
            ..self
        }
    }
}

/// The places of all functions of a table that a file holds. A function that calls another of the
/// same hook is left out: what it does is seen in the other. `None`: the file holds none of them.
pub fn plan(image: &Image, library: &'static str, table: &[Known]) -> Option<Result<Plan, Reason>> {
    let names: Vec<&str> = table.iter().map(|known| known.name).collect();
    let functions = image.functions(&names);
    let present = table.iter().zip(functions);
    let present: Vec<(&Known, Function)> = present
        .filter_map(|(known, function)| Some((known, function?)))
        .collect();
    if present.is_empty() {
        return None;
    }
    Some(sites(image, &present).map(|(sites, left_out)| Plan {
        library,
        version: None,
        sites,
        left_out,
    }))
}

/// The places of functions that are known to be here, and why those are left out that can be done
/// without: another reads or writes like them.
pub fn sites(
    image: &Image,
    present: &[(&Known, Function)],
) -> Result<(Vec<Site>, Vec<Reason>), Reason> {
    if !image.x86_64() {
        return Err(Reason("only x86-64 code is read".into()));
    }
    let (mut sites, mut left_out) = (Vec::new(), Vec::new());
    for &(known, function) in present {
        let more = match places(image, present, known, function) {
            Ok(more) => more,
            Err(reason) if known.seldom => {
                left_out.push(reason);
                continue;
            }
            Err(reason) => return Err(reason),
        };
        for site in more {
            match sites
                .iter()
                .find(|known: &&Site| known.offset == site.offset)
            {
                None => sites.push(site),
                Some(known) if known.hook == site.hook => {}
                Some(_) => {
                    let why = format!("{}: it shares code with another", known.name);
                    return Err(Reason(why.into()));
                }
            }
        }
    }
    Ok((sites, left_out))
}

/// The places of one function: none where its calls are seen in another.
fn places(
    image: &Image,
    present: &[(&Known, Function)],
    known: &Known,
    function: Function,
) -> Result<Vec<Site>, Reason> {
    let refuse = |why: &str| Reason(format!("{}: {why}", known.name).into());
    let body = image.body_of(function);
    let body = body.ok_or_else(|| refuse("its code cannot be read"))?;
    let others = present
        .iter()
        .filter(|(other, at)| other.hook == known.hook && at.address != function.address);
    let others: Vec<u64> = others.map(|(_, at)| at.address).collect();
    if calls(image, &body, &others) {
        return Ok(Vec::new());
    }
    let live = arguments(known);
    let place = code::entry(&body, live).ok_or_else(|| refuse("no place for a probe"))?;
    let mut places = vec![(place, known.hook)];
    if let Some(done) = known.done {
        let exits = code::exits(image, body).map_err(|why| refuse(&why))?;
        places.extend(exits.into_iter().map(|place| (place, done)));
    }
    let sites = places.into_iter().map(|(place, hook)| {
        let site = Site::at(image, place, hook);
        site.ok_or_else(|| refuse("a place outside the file"))
    });
    sites.collect()
}

/// Whether the code calls or jumps to one of these functions, by itself or by a linkage stub.
fn calls(image: &Image, body: &Body, functions: &[u64]) -> bool {
    let to = |target: &u64| functions.contains(target);
    let callees = code::callees(image, body);
    callees.iter().any(to) || callees.iter().any(|&t| to(&code::through(image, t)))
}

/// The arguments a hook reads, in the psABI's registers.
fn arguments(known: &Known) -> &'static [Register] {
    use Register::{R8, RCX, RDI, RSI};
    match (known.hook, known.done) {
        (Hook::Free | Hook::Begin | Hook::BeginOnce | Hook::Handshake, _) => &[RDI],
        (Hook::RustlsWrite | Hook::RustlsRead, _) => &[RDI, RSI],
        (Hook::RustlsSend, _) => &[RDI],
        (Hook::RustlsReceive, _) => &[],
        (Hook::WriteEx2, _) => &[RDI, RSI, R8],
        (_, Some(Hook::DoneEx)) => &[RDI, RSI, RCX],
        _ => &[RDI, RSI],
    }
}
