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
}

/// One line of such a table.
pub const fn known(name: &'static str, hook: Hook, done: Option<Hook>) -> Known {
    Known { name, hook, done }
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
    Some(sites(image, &present).map(|sites| Plan {
        library,
        version: None,
        sites,
    }))
}

/// The places of functions that are known to be here.
pub fn sites(image: &Image, present: &[(&Known, Function)]) -> Result<Vec<Site>, Reason> {
    if !image.x86_64() {
        return Err(Reason("only x86-64 code is read".into()));
    }
    let mut sites = Vec::new();
    for &(known, function) in present {
        let refuse = |why: &str| Reason(format!("{}: {why}", known.name).into());
        let body = image.body_of(function);
        let body = body.ok_or_else(|| refuse("its code cannot be read"))?;
        let others = present
            .iter()
            .filter(|(other, at)| other.hook == known.hook && at.address != function.address);
        let others: Vec<u64> = others.map(|(_, at)| at.address).collect();
        if calls(image, &body, &others) {
            continue;
        }
        let live = arguments(known);
        let place = code::entry(&body, live).ok_or_else(|| refuse("no place for a probe"))?;
        let mut places = vec![(place, known.hook)];
        if let Some(done) = known.done {
            let exits = code::exits(image, body).map_err(|why| refuse(&why))?;
            places.extend(exits.into_iter().map(|place| (place, done)));
        }
        for (place, hook) in places {
            let offset = image.file_offset(place.address);
            let offset = offset.ok_or_else(|| refuse("a place outside the file"))?;
            match sites.iter().find(|site: &&Site| site.offset == offset) {
                None => sites.push(Site {
                    offset,
                    hook,
                    stepped: place.stepped,
                }),
                Some(site) if site.hook == hook => {}
                Some(_) => return Err(refuse("it shares code with another")),
            }
        }
    }
    Ok(sites)
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
        (Hook::Free | Hook::Begin | Hook::BeginOnce, _) => &[RDI],
        (Hook::WriteEx2, _) => &[RDI, RSI, R8],
        (_, Some(Hook::DoneEx)) => &[RDI, RSI, RCX],
        _ => &[RDI, RSI],
    }
}
