//! What a program is known to have done with a store or a broker, as spans must tell it: a list of
//! operations, each with its name and attributes. Exactly those must be there, on each side that is
//! traced, and nothing else.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::agent::{self, Agent};
use crate::expect::{Score, Tally};
use crate::run::Stage;
use crate::span::{Kind, Span};

/// One operation that was done.
#[derive(Clone, Debug, Default)]
pub struct Deed {
    /// The span's name.
    pub name: String,
    /// Its kind at the client and at the server; the default is the usual pair.
    pub kinds: Option<[Kind; 2]>,
    /// Attributes by key; what is written as a number must have come as one.
    pub attributes: BTreeMap<&'static str, String>,
    /// Attributes that must not be there.
    pub absent: Vec<&'static str>,
    /// `error.type`; without one the span is no error.
    pub error: Option<String>,
    /// Links it must have, as (trace id, span id).
    pub links: Vec<(String, String)>,
    /// Whether the error is none of the server's.
    pub blameless: bool,
    /// Whether the server's span is a root.
    pub apart: bool,
    /// Whether the server's side has no span of it.
    pub alone: bool,
    /// The context it must be a child of, as (trace id, span id), on the side that has the first kind.
    pub parent: Option<(String, String)>,
    /// What is as right, where that depends on what else was seen by then.
    pub or: Option<Box<Deed>>,
}

impl Deed {
    /// One that went well, with these attributes.
    pub fn new<V: ToString>(
        name: &str,
        attributes: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Self {
        Self {
            name: name.into(),
            attributes: attributes
                .into_iter()
                .map(|(key, value)| (key, value.to_string()))
                .collect(),
            ..Self::default()
        }
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.attributes.insert(key, value.to_string());
        self
    }

    /// The same without an attribute of this key.
    #[must_use]
    pub fn without(mut self, key: &'static str) -> Self {
        self.attributes.remove(key);
        self.absent.push(key);
        self
    }

    /// The same, failed with this `error.type`.
    #[must_use]
    pub fn fails(mut self, error: &str) -> Self {
        self.error = Some(error.into());
        self
    }

    /// The same, failed for the one who asked; who answered made no mistake.
    #[must_use]
    pub fn fails_client(mut self, error: &str) -> Self {
        self.blameless = true;
        self.fails(error)
    }

    /// The same, where nothing tells which span of the client is the parent of the server's.
    #[must_use]
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// The same with these kinds at the client and at the server.
    #[must_use]
    pub fn kinds(mut self, client: Kind, server: Kind) -> Self {
        self.kinds = Some([client, server]);
        self
    }

    fn kind(&self, side: Side) -> Kind {
        let [client, server] = self.kinds.unwrap_or([Kind::Client, Kind::Server]);
        match side {
            Side::Client => client,
            Side::Server => server,
        }
    }

    /// The same, seen by the client alone.
    #[must_use]
    pub fn by_client(mut self) -> Self {
        self.alone = true;
        self
    }

    /// The same, or as right this one instead.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.or = Some(Box::new(other));
        self
    }

    /// Whether a span is this one's.
    fn fits(&self, span: &Span, side: Side) -> bool {
        let other = || self.or.as_ref().is_some_and(|or| or.fits(span, side));
        self.faults(span, side).is_empty() || other()
    }

    /// What is not as it must be in a span that would be this one's; empty if it is.
    fn faults(&self, span: &Span, side: Side) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |what: String| faults.push(what);
        if span.kind != self.kind(side) {
            fault(format!("kind {:?}", span.kind));
        }
        if span.name != self.name {
            fault(format!("name {:?}", span.name));
        }
        for (key, want) in &self.attributes {
            let got = span.text(key);
            let typed = want.parse::<i64>().is_err()
                || span.int(key).is_some()
                || span.attributes.get(*key).is_some_and(|v| v.is_string());
            if got.as_ref() != Some(want) || !typed {
                fault(format!("{key} = {got:?}, want {want:?}"));
            }
        }
        for key in &self.absent {
            if let Some(got) = span.text(key) {
                fault(format!("{key} = {got:?}, want none"));
            }
        }
        let error = span.text("error.type");
        let want = self
            .error
            .as_ref()
            .filter(|_| side == Side::Client || !self.blameless);
        if error.as_ref() != want || span.error != want.is_some() {
            fault(format!("error.type {error:?}, want {want:?}"));
        }
        if self.apart && side == Side::Server && span.parent.is_some() {
            fault(format!("parent {:?}, want none", span.parent));
        }
        let links: Vec<_> = span
            .links
            .iter()
            .map(|l| (l.trace.clone(), l.span.clone()))
            .collect();
        if side == Side::Client && links != self.links {
            fault(format!("links {links:?}, want {:?}", self.links));
        }
        if let Some((trace, parent)) = self.parent.as_ref().filter(|_| side == Side::Client)
            && (&span.trace, span.parent.as_ref()) != (trace, Some(parent))
        {
            fault(format!(
                "parent {:?} in {}, want {parent} in {trace}",
                span.parent, span.trace
            ));
        }
        if !span.repeated.is_empty() {
            fault(format!("twice: {:?}", span.repeated));
        }
        if let Some(told) = span.text("spantap.complete") {
            fault(format!("spantap.complete = {told}"));
        }
        faults
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// Who did it, and what else is judged.
#[derive(Clone, Debug, Default)]
pub struct Doers {
    /// Processes of the client.
    pub client: Vec<u32>,
    /// Processes of the server; none where that side is not traced.
    pub server: Vec<u32>,
    /// Names of the protocol and of the client's program, for the table.
    pub cell: (String, String),
}

impl Stage {
    /// Receives the spans of these deeds and judges them: on each side exactly one for each, the
    /// server's a child of the client's, and nothing else.
    pub fn judge_deeds(
        &mut self,
        agent: Agent,
        deeds: &[Deed],
        doers: &Doers,
    ) -> Result<Vec<Span>> {
        self.judge_deeds_among(agent, deeds, doers, |_| true)
    }

    /// The same, of those spans alone that are `among` what is judged: some drivers ask on their own what
    /// nobody can list.
    pub fn judge_deeds_among(
        &mut self,
        agent: Agent,
        deeds: &[Deed],
        doers: &Doers,
        among: fn(&Span) -> bool,
    ) -> Result<Vec<Span>> {
        if agent::dry() {
            return Ok(Vec::new());
        }
        let log = agent.log_path().to_path_buf();
        let served = deeds
            .iter()
            .filter(|deed| !deed.alone && !doers.server.is_empty());
        let mut spans = self.receive(agent, deeds.len() + served.count())?;
        spans.retain(among);
        let mut score = Score::default();
        judge(&mut score, deeds, doers, &spans);
        if !score.problems.is_empty() {
            score
                .problems
                .push(format!("the agent's log: {}", log.display()));
        }
        self.add(score);
        Ok(spans)
    }
}

fn judge(score: &mut Score, deeds: &[Deed], doers: &Doers, spans: &[Span]) {
    let of = |pids: &[u32]| -> Vec<&Span> {
        let mut own: Vec<&Span> = spans
            .iter()
            .filter(|s| s.pid().is_some_and(|pid| pids.contains(&pid)))
            .collect();
        own.sort_by_key(|span| span.start);
        own
    };
    let mut clients = of(&doers.client);
    let mut servers = of(&doers.server);
    let stray = spans.len() - clients.len() - servers.len();
    if stray > 0 {
        score
            .problems
            .push(format!("{stray} spans of other processes"));
    }
    let mut parents: BTreeMap<String, usize> = BTreeMap::new();
    let taken = side(score, deeds, Side::Client, &mut clients, doers);
    for span in taken {
        parents.insert(span.id.clone(), 0);
    }
    if doers.server.is_empty() {
        return;
    }
    let served: Vec<Deed> = deeds.iter().filter(|deed| !deed.alone).cloned().collect();
    let apart: Vec<&str> = served
        .iter()
        .filter(|deed| deed.apart)
        .map(|deed| deed.name.as_str())
        .collect();
    for span in side(score, &served, Side::Server, &mut servers, doers) {
        if span.parent.is_none() && apart.contains(&span.name.as_str()) {
            continue;
        }
        let parent = span.parent.as_ref().and_then(|id| parents.get_mut(id));
        // What pushed it is the server's own span: it has the client's as its child, if any.
        if parent.is_none() && span.kind != Kind::Server {
            continue;
        }
        score.parents.0 += 1;
        match parent {
            Some(children) if *children == 0 => {
                *children += 1;
                score.parents.1 += 1;
            }
            _ => score.problems.push(format!(
                "no client span of its own is parent: {} of parent {:?} {:?}",
                span.name, span.parent, span.attributes
            )),
        }
    }
}

/// Takes each deed's span of one side; what is left is surplus.
fn side<'a>(
    score: &mut Score,
    deeds: &[Deed],
    side: Side,
    spans: &mut Vec<&'a Span>,
    doers: &Doers,
) -> Vec<&'a Span> {
    let what = match side {
        Side::Client => "client",
        Side::Server => "server",
    };
    let mut tally = Tally {
        received: spans.len(),
        expected: deeds.len(),
        ..Tally::default()
    };
    let mut taken = Vec::new();
    for deed in deeds {
        let fits = spans.iter().position(|span| deed.fits(span, side));
        if let Some(at) = fits {
            taken.push(spans.remove(at));
            tally.right += 1;
        } else {
            let near = spans
                .iter()
                .min_by_key(|span| deed.faults(span, side).len());
            let near = near.map_or("nothing is left".into(), |span| {
                deed.faults(span, side).join("; ")
            });
            score.problems.push(format!(
                "{what}: no span is {:?}; the nearest: {near}",
                deed.name
            ));
        }
    }
    for span in spans.iter() {
        score.problems.push(format!(
            "{what}: surplus {:?} {} {:?}",
            span.kind, span.name, span.attributes
        ));
    }
    let found = (tally.expected, tally.right);
    match side {
        Side::Client => score.client = found,
        Side::Server => score.server = found,
    }
    score.surplus += spans.len();
    let kind = if side == Side::Client {
        Kind::Client
    } else {
        Kind::Server
    };
    let (protocol, program) = doers.cell.clone();
    score.tallies.insert((kind, program, protocol), tally);
    taken
}
