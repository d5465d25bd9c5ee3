//! Links of an exchange: to the contexts that the messages it moved carry themselves, and to one that
//! came from where nobody is trusted.

use super::context::{Carried, Format, extract};
use super::{Link, TraceId};
use crate::exchange::Exchange;
use crate::protocol::MAX_LINKS;
use crate::stats::Stats;

/// The contexts of the messages it moved.
pub fn of(exchange: &Exchange, formats: &[Format], stats: &Stats) -> Vec<Link> {
    let brought = exchange.response.iter().flat_map(|r| &r.messages);
    let messages = exchange.request.messages.iter().chain(brought);
    let mut links: Vec<Link> = Vec::new();
    for carrier in messages.take(MAX_LINKS) {
        let found = extract(carrier, formats);
        for refusal in found.refused {
            refusal.count(stats);
        }
        let Some(Carried::Context(context, _)) = found.carried else {
            continue;
        };
        let (trace, span) = (context.trace, context.span);
        if links.iter().all(|l| (l.trace, l.span) != (trace, span)) {
            links.push(Link {
                trace,
                span,
                reason: "message".into(),
            });
        }
    }
    links
}

/// The context that a request came with, where that is not believed and not of its trace all the same.
pub fn outside(carried: Option<&Carried>, outside: bool, trace: TraceId) -> Option<Link> {
    match carried {
        Some(Carried::Context(context, _)) if outside && context.trace != trace => Some(Link {
            trace: context.trace,
            span: context.span,
            reason: "untrusted".into(),
        }),
        _ => None,
    }
}
