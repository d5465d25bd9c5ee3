//! Links of an exchange that moved messages: the contexts that these carry themselves.

use super::Link;
use super::context::{Carried, Format, extract};
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
