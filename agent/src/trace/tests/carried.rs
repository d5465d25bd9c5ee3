//! What the kernel side says of requests that go to and come from other hosts.

use super::*;
use crate::event::{Carried, Direction, Source};

const TRACE: [u8; 16] = [7; 16];
const OTHER: [u8; 16] = [9; 16];

/// What is said of a side's request.
fn said(side: &Side, trace: [u8; 16], source: Source) -> Carried {
    Carried {
        connection: ConnectionId(side.connection),
        direction: match side.role {
            Role::Client => Direction::Egress,
            Role::Server => Direction::Ingress,
        },
        // Only the low half is known.
        offset: side.id | 1 << 40,
        line: 0,
        time: side.at[0],
        trace,
        flags: Some(1),
        named: true,
        source,
    }
}

fn links(sides: &[Side], words: &[Carried]) -> (Linker, HashMap<u64, Linked>) {
    let mut linker = linker();
    for word in words {
        linker.feed(Fact::Carried(*word));
    }
    let links = run(&mut linker, sides);
    (linker, links)
}

#[test]
fn what_came_with_an_option_is_a_child_of_whom_the_stream_key_names() {
    let one = server(1, 7, (2, 20), 0, 50);
    let call = client(2, 8, (2, 20), 10, 40);
    let words = [
        said(&one, TRACE, Source::Option),
        said(&call, TRACE, Source::Served),
    ];
    let (linker, links) = links(&[one.clone(), call], &words);
    let key = one.message_key().expect("it has a name");
    let parent = links[&1].parent.expect("it has a parent");
    assert_eq!(parent.span, ids::client_span(&key));
    assert_eq!((parent.method, parent.remote), (Method::Option, true));
    assert_eq!(
        (links[&1].trace, links[&1].flags),
        (TraceId(TRACE), Some(1))
    );
    assert_eq!(links[&2].parent.map(|p| p.span), Some(links[&1].span));
    assert_eq!(links[&2].trace, TraceId(TRACE));
    assert_eq!(linker.stats.trace_by_option.get(), 1);
    assert_eq!(linker.stats.trace_strayed.get(), 0);
}

#[test]
fn a_span_that_is_not_named_is_no_parent_of_another_host() {
    let one = server(1, 7, (2, 20), 0, 50);
    let mut word = said(&one, TRACE, Source::Option);
    word.named = false;
    let (_, links) = links(&[one], &[word]);
    assert_eq!(links[&1].parent, None);
    assert_eq!(links[&1].trace, TraceId(TRACE));
}

#[test]
fn a_header_and_the_other_side_of_the_same_host_come_first() {
    let headed = with(server(1, 7, (2, 20), 0, 50), CONTEXT);
    let word = said(&headed, TRACE, Source::Option);
    let (_, by_header) = links(&[headed], &[word]);
    let parent = by_header[&1].parent.expect("it has a parent");
    assert_eq!(parent.method, Method::TraceParent);
    let near = [client(1, 7, (1, 1), 0, 100), server(2, 7, (2, 20), 1, 99)];
    let words = [
        said(&near[0], TRACE, Source::Made),
        said(&near[1], TRACE, Source::Option),
    ];
    let (_, links) = links(&near, &words);
    assert_eq!(told(&links), "1, 2 <- 1 stream_key");
    assert_eq!(links[&1].trace, TraceId(TRACE));
}

#[test]
fn a_line_that_was_written_for_a_call_is_no_parent_of_it() {
    let call = client(2, 8, (2, 20), 10, 90);
    let key = call.message_key().expect("it has a name");
    let line = format!("00-{}-{}-01", TraceId(TRACE), ids::client_span(&key));
    let answered = with(server(3, 8, (3, 30), 11, 89), &line);
    let asked = server(1, 7, (2, 20), 0, 100);
    let words = [
        said(&asked, TRACE, Source::Made),
        said(&call, TRACE, Source::Made),
    ];
    let (_, below) = links(&[asked, call.clone(), answered.clone()], &words);
    assert_eq!(told(&below), "1, 2 <- 1 thread, 3 <- 2 stream_key");
    let (_, alone) = links(&[call, answered], &words[1..]);
    assert_eq!(told(&alone), "2, 3 <- 2 stream_key");
    assert_eq!(alone[&3].trace, TraceId(TRACE));
}

#[test]
fn a_root_is_in_the_trace_that_was_told() {
    let sides = [server(1, 7, (2, 20), 0, 50), client(2, 8, (3, 30), 60, 70)];
    let words = [
        said(&sides[0], TRACE, Source::Made),
        said(&sides[1], OTHER, Source::Made),
    ];
    let (_, links) = links(&sides, &words);
    assert_eq!(told(&links), "1, 2");
    assert_eq!(links[&1].trace, TraceId(TRACE));
    assert_eq!(links[&2].trace, TraceId(OTHER));
}

#[test]
fn a_call_is_in_the_trace_that_its_other_side_was_told() {
    let sides = [
        client(1, 7, (1, 1), 0, 100),
        server(2, 7, (2, 20), 1, 99),
        client(3, 8, (2, 20), 10, 40),
    ];
    // Who calls was not known to be traced then.
    let words = [
        said(&sides[1], TRACE, Source::Made),
        said(&sides[2], TRACE, Source::Served),
    ];
    let (linker, links) = links(&sides, &words);
    assert!([1, 2, 3].iter().all(|id| links[id].trace == TraceId(TRACE)));
    assert_eq!(links[&3].parent.map(|p| p.span), Some(links[&2].span));
    assert_eq!(linker.stats.trace_strayed.get(), 0);
}

#[test]
fn a_call_that_left_in_another_trace_is_linked_to_its_parent() {
    let sides = [server(1, 7, (2, 20), 0, 50), client(2, 8, (2, 20), 10, 40)];
    let words = [
        said(&sides[0], TRACE, Source::Made),
        said(&sides[1], OTHER, Source::Made),
    ];
    let (linker, links) = links(&sides, &words);
    assert_eq!(told(&links), "1, 2");
    assert_eq!(links[&2].trace, TraceId(OTHER));
    let [link] = links[&2].links.as_slice() else {
        panic!("{:?}", links[&2].links);
    };
    assert_eq!((link.trace, link.span), (TraceId(TRACE), links[&1].span));
    assert_eq!(link.reason, CARRIED);
    assert_eq!(linker.stats.trace_strayed.get(), 1);
}

#[test]
fn what_comes_from_where_nobody_is_trusted_is_not_believed() {
    let mut one = server(1, 7, (2, 20), 0, 50);
    one.far = true;
    let word = said(&one, TRACE, Source::Option);
    let settings = Propagation {
        trusted: Vec::new(),
        ..Propagation::default()
    };
    let mut linker = Linker::new(
        Settings::new(&settings, DRAIN),
        Ids::from_seed(1),
        Arc::default(),
    );
    linker.feed(Fact::Carried(word));
    let links = run(&mut linker, &[one]);
    assert_eq!(links[&1].parent, None);
    assert_ne!(links[&1].trace, TraceId(TRACE));
}
