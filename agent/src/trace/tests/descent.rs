//! Calls of units that were started for a request.

use agent_ebpf::abi::unit::CONTEXT;

use super::*;
use crate::event::Started;

/// `unit` is started by `parent` at a time, in milliseconds, at a place.
fn started(unit: u64, parent: u64, at: u64, site: u64) -> (u64, Fact) {
    let started = Started {
        process: 2,
        unit: goroutine(unit),
        parent: goroutine(parent),
        time: at * MS,
        site,
        own: false,
    };
    (at * MS, Fact::Started(started))
}

fn of(unit: u64, side: Side) -> Side {
    Side { unit, ..side }
}

/// All that happens, in the order of time.
pub(super) fn linked(sides: &[Side], births: &[(u64, Fact)]) -> String {
    let sides = sides
        .iter()
        .flat_map(|s| [(s.at[1], s.opened()), (s.at[3], s.closed())]);
    let mut facts: Vec<(u64, Fact)> = births.iter().cloned().chain(sides).collect();
    facts.sort_by_key(|(time, _)| *time);
    let (mut linker, mut out) = (linker(), Vec::new());
    for (time, fact) in facts {
        linker.poll(time.saturating_sub(1), &mut out);
        linker.feed(fact);
    }
    linker.poll(1 << 50, &mut out);
    told(&by_id(out))
}

#[test]
fn what_is_started_for_a_request_works_for_it() {
    // One connection's goroutine serves one request after the other.
    let sides = [
        of(7, server(1, 0, (2, 2), 10, 40)),
        of(7, server(2, 0, (2, 2), 50, 90)),
        of(8, client(3, 0, (2, 3), 14, 30)),
        of(10, client(4, 0, (2, 4), 15, 60)),
        of(9, client(5, 0, (2, 3), 55, 70)),
        of(11, client(6, 0, (2, 3), 56, 70)),
    ];
    let births = [
        // The accepting one, which serves nothing.
        started(7, 1, 5, 1),
        started(8, 7, 12, 2),
        started(10, 8, 13, 3),
        started(9, 7, 52, 2),
    ];
    let expected = "1, 2, 3 <- 1 goroutine, 4 <- 1 goroutine, 5 <- 2 goroutine, 6";
    assert_eq!(linked(&sides, &births), expected);
}

#[test]
fn a_thread_starts_what_a_pool_does() {
    let given = |unit, thread, at| {
        let (time, Fact::Started(started)) = started(unit, 0, at, 2) else {
            unreachable!()
        };
        let parent = thread;
        (time, Fact::Started(Started { parent, ..started }))
    };
    let call = |id, unit, from, to| of(unit, client(id, 0, (2, 9), from, to));
    let births = [given(8, 2, 12), given(9, 3, 13), given(10, 4, 14)];
    let mut sides = [
        server(1, 0, (2, 2), 10, 40),
        server(2, 0, (2, 3), 10, 40),
        call(3, 8, 15, 20),
        call(4, 9, 21, 25),
        // Of one that serves nothing.
        call(5, 10, 26, 30),
    ];
    let expected = "1, 2, 3 <- 1 task, 4 <- 2 task, 5";
    assert_eq!(linked(&sides, &births), expected);
    // One thread reads all, and the second before the first is answered.
    (sides[0], sides[1]) = (server(1, 0, (2, 2), 10, 40), server(2, 0, (2, 2), 11, 40));
    assert_eq!(linked(&sides, &births), "1, 2, 3, 4, 5");
}

#[test]
fn what_outlives_its_request_may_work_for_anyone() {
    let served = [
        of(7, server(1, 0, (2, 2), 10, 40)),
        of(5, server(2, 0, (2, 2), 10, 300)),
        of(8, client(3, 0, (2, 3), 14, 30)),
        of(9, client(4, 0, (2, 3), 15, 31)),
        of(6, client(5, 0, (2, 3), 16, 32)),
    ];
    // All at one place but the last.
    let births = [
        started(8, 7, 12, 2),
        started(9, 5, 12, 2),
        started(6, 5, 12, 4),
    ];
    let expected = "1, 2, 3 <- 1 goroutine, 4 <- 2 goroutine, 5 <- 2 goroutine";
    assert_eq!(linked(&served, &births), expected);
    // It calls when its request is over: before that what it called for was given out to nobody.
    let mut sides = served.to_vec();
    sides.push(of(8, client(6, 0, (2, 3), 45, 60)));
    let expected = "1, 2, 3, 4, 5 <- 2 goroutine, 6";
    assert_eq!(linked(&sides, &births), expected);
}

#[test]
fn what_another_waits_for_is_not_its_own() {
    let mut call = of(8, client(2, 0, (2, 3), 14, 30));
    call.answered_in = Some(9);
    let births = [started(8, 7, 12, 2), started(9, 7, 12, 3)];
    let served = of(7, server(1, 0, (2, 2), 10, 40));
    assert_eq!(linked(&[served.clone(), call.clone()], &births), "1, 2");
    // But where it was seen to ask for it.
    call.asked = true;
    let both = [served, call.clone()];
    assert_eq!(linked(&both, &births), "1, 2 <- 1 goroutine");
    // Or where it was started to.
    let both = both.map(|side| Side {
        asked: false,
        ..side
    });
    let mut births = births;
    let (_, Fact::Started(born)) = &mut births[0] else {
        panic!("not a birth");
    };
    born.own = true;
    assert_eq!(linked(&both, &births), "1, 2 <- 1 goroutine");
}

#[test]
fn a_request_that_goes_on_for_too_long_says_nothing() {
    let served = |end| of(7, server(1, 0, (2, 2), 10, end));
    let call = of(8, client(2, 0, (2, 3), 14, 30));
    let server = server(3, 9, (3, 3), 15, 29);
    let births = [started(8, 7, 12, 2)];
    let call = Side { key: 9, ..call };
    let all = |end| [served(end), call.clone(), server.clone()];
    let expected = "1, 2 <- 1 goroutine, 3 <- 2 stream_key";
    assert_eq!(linked(&all(4000), &births), expected);
    assert_eq!(linked(&all(7000), &births), "1, 2, 3 <- 2 stream_key");
}

#[test]
fn two_requests_at_once_make_none() {
    let sides = [
        of(7, server(1, 0, (2, 2), 10, 40)),
        of(7, server(2, 0, (2, 2), 11, 41)),
        of(8, client(3, 0, (2, 3), 14, 30)),
    ];
    assert_eq!(linked(&sides, &[started(8, 7, 12, 2)]), "1, 2, 3");
    // Started before the second came.
    let expected = "1, 2, 3 <- 1 goroutine";
    assert_eq!(linked(&sides, &[started(8, 7, 10, 2)]), expected);
}

#[test]
fn a_first_byte_that_is_told_late_does_not_outlive_anything() {
    let late = |mut side: Side| {
        // Its hook ran when its answer, and the request's, had been told.
        (side.at[0], side.at[1]) = (45 * MS, 45 * MS);
        side
    };
    let sides = [
        of(7, server(1, 0, (2, 2), 10, 40)),
        of(8, late(client(2, 0, (2, 3), 14, 30))),
        of(9, client(3, 0, (2, 3), 14, 30)),
        of(7, late(client(4, 0, (2, 3), 14, 30))),
    ];
    let births = [started(8, 7, 12, 2), started(9, 7, 12, 2)];
    let expected = "1, 2 <- 1 goroutine, 3 <- 1 goroutine, 4 <- 1 goroutine";
    assert_eq!(linked(&sides, &births), expected);
}

#[test]
fn a_lineage_without_end_ends() {
    let sides = [of(8, client(1, 0, (2, 3), 14, 30))];
    let births = [started(8, 9, 12, 2), started(9, 8, 12, 2)];
    assert_eq!(linked(&sides, &births), "1");
}

#[test]
fn a_context_that_reads_starts_one_that_answers() {
    let context = |number| CONTEXT | number;
    // All on one thread; each answer is written by who was started for it, at the place of those that are
    // started for one request.
    let served = |id, from, to| Side {
        answered_in: Some(context(id)),
        ..of(context(7), server(id, 0, (2, 2), from, to))
    };
    let asked = |unit, id, from, to| Side {
        asked: true,
        answered_in: Some(context(99)),
        ..of(context(unit), client(id, 0, (2, 2), from, to))
    };
    let sides = [
        served(1, 10, 40),
        served(2, 50, 90),
        asked(1, 3, 14, 30),
        // In the background, when the request is answered: the next one's calls are its own all the same.
        asked(1, 4, 55, 58),
        asked(2, 5, 56, 70),
        // Started by it.
        asked(8, 6, 57, 71),
    ];
    let births = [
        started(context(1), context(7), 12, 0),
        started(context(2), context(7), 52, 0),
        started(context(8), context(2), 53, 5),
    ];
    let expected = "1, 2, 3 <- 1 asyncio, 4, 5 <- 2 asyncio, 6 <- 2 asyncio";
    assert_eq!(linked(&sides, &births), expected);
}
