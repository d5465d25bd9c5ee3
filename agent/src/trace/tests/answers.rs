//! Requests that threads answer which others have read.

use super::*;

/// Read by 9, answered by a thread of process 2.
fn handed(id: u64, by: u32, from: u64, to: u64) -> Side {
    let mut side = server(id, 0, (2, 9), from, to);
    side.answered_by = (2, by);
    side
}

/// Asked by a thread of it.
fn call(id: u64, by: u32, from: u64, to: u64) -> Side {
    client(id, 0, (2, by), from, to)
}

/// A process whose threads 20 and 21 have each answered one.
fn pool() -> (Linker, Vec<Linked>) {
    let mut linker = linker_of(2);
    let mut out = Vec::new();
    for first in [handed(91, 20, 0, 1), handed(92, 21, 0, 1)] {
        linker.feed(first.opened());
        linker.feed(first.closed());
    }
    linker.poll(LATER - 1, &mut out);
    out.clear();
    (linker, out)
}

/// When the rest begins.
const LATER: u64 = 1000 * MS;

fn later(side: &Side) -> Side {
    let mut side = side.clone();
    side.at = side.at.map(|at| at + LATER);
    side
}

fn check_pool(sides: &[Side], expected: &str) -> Linker {
    let (mut linker, _) = pool();
    let sides: Vec<Side> = sides.iter().map(later).collect();
    let links = run(&mut linker, &sides);
    assert_eq!(links.len(), sides.len(), "lost some");
    assert_eq!(told(&links), expected);
    linker
}

#[test]
fn a_call_is_for_what_its_thread_answers_next() {
    let linker = check_pool(
        &[
            handed(1, 20, 0, 30),
            handed(2, 21, 5, 35),
            call(3, 20, 10, 20),
            call(4, 21, 10, 20),
            handed(5, 20, 40, 60),
            call(6, 20, 45, 50),
            call(7, 20, 52, 55),
        ],
        "1, 2, 3 <- 1 answer, 4 <- 2 answer, 5, 6 <- 5 answer, 7 <- 5 answer",
    );
    assert_eq!(linker.stats.trace_by_answer.get(), 4);
    // What it has read itself as well; and what is answered a while later, but not for ever.
    let own = server(1, 0, (2, 20), 0, 30);
    check_pool(&[own, call(2, 20, 10, 20)], "1, 2 <- 1 answer");
    let waits = |to| [handed(1, 20, 0, to), call(2, 20, 10, 20)];
    check_pool(&waits(1500), "1, 2 <- 1 answer");
    check_pool(&waits(3000), "1, 2");
    // Elsewhere who answers says nothing.
    let mut linker = linker;
    linker.forget(2);
    let sides = [handed(11, 20, 9100, 9130), call(12, 20, 9110, 9120)];
    let links = run(&mut linker, &sides);
    assert_eq!(told(&links), "11, 12");
}

/// A call waits for its thread's answer, and so does whoever it is a call to.
#[test]
fn what_a_call_asks_for_waits_with_it() {
    let mut asks = call(2, 20, 10, 20);
    asks.key = 7;
    let asked = server(3, 7, (3, 3), 11, 19);
    check_pool(
        &[handed(1, 20, 0, 1500), asks, asked],
        "1, 2 <- 1 answer, 3 <- 2 stream_key",
    );
}

#[test]
fn what_may_be_for_one_that_nobody_answered_is_for_nobody() {
    // Its client gave up: what its thread called for it is not for the next, that came meanwhile.
    let mut given_up = handed(1, 20, 0, 30);
    given_up.outcome = Outcome::Abandoned;
    let next = handed(2, 20, 5, 60);
    let sides = [
        given_up.clone(),
        next.clone(),
        call(3, 20, 10, 20),
        call(4, 20, 40, 45),
    ];
    let linker = check_pool(&sides, "1, 2, 3, 4");
    assert_eq!(linker.stats.trace_answers_off.get(), 0);
    // For ever it does not go on.
    let long_after = [given_up, handed(5, 20, 5000, 5030), call(6, 20, 5010, 5020)];
    check_pool(&long_after, "1, 5, 6 <- 5 answer");
    // A WebSocket, and what came meanwhile.
    let (mut linker, mut out) = pool();
    let socket = later(&handed(1, 20, 0, 9000));
    let sides = [later(&next), later(&call(3, 20, 10, 20))];
    linker.feed(socket.opened());
    sides.iter().for_each(|side| linker.feed(side.opened()));
    let mark = socket.mark(LATER + 30 * MS, (2, 20));
    linker.feed(Fact::Detached(ExchangeId(1), mark));
    sides.iter().for_each(|side| linker.feed(side.closed()));
    linker.feed(socket.closed());
    linker.poll(1 << 50, &mut out);
    assert_eq!(told(&by_id(out)), "1, 2, 3");
    assert_eq!(linker.stats.trace_answers_off.get(), 0);
    // The first that a thread answers: what it served before nobody saw.
    let mut linker = linker_of(2);
    let links = run(&mut linker, &[handed(1, 20, 0, 30), call(2, 20, 10, 20)]);
    assert_eq!(told(&links), "1, 2");
}

fn linker_of(process: u32) -> Linker {
    let mut linker = linker();
    linker.no_thread_links(process);
    linker.takes_over(process);
    linker
}

#[test]
fn threads_that_come_and_go_are_forgotten() {
    let mut linker = linker_of(2);
    let mut out = Vec::new();
    for id in 0..5000u32 {
        let side = handed(
            id.into(),
            100 + id,
            u64::from(id) * 10,
            u64::from(id) * 10 + 5,
        );
        linker.feed(side.opened());
        linker.feed(side.closed());
        linker.poll(side.at[3], &mut out);
    }
    assert_eq!(linker.stats.trace_answers_off.get(), 0);
}

#[test]
fn what_may_be_for_the_one_before_is_for_nobody() {
    // The second waited when the first was answered.
    let sides = [
        handed(1, 20, 0, 30),
        handed(2, 20, 5, 60),
        call(3, 20, 40, 50),
    ];
    let linker = check_pool(&sides, "1, 2, 3");
    assert_eq!(linker.stats.trace_answers_off.get(), 0);
    // Another reads the answer; nobody does.
    let mut other = call(2, 20, 10, 20);
    other.answered_by = (2, 21);
    check_pool(&[handed(1, 20, 0, 30), other], "1, 2");
    let mut unanswered = call(2, 20, 10, 20);
    unanswered.outcome = Outcome::Abandoned;
    check_pool(&[handed(1, 20, 0, 30), unanswered], "1, 2");
    // It is not over before the request is.
    check_pool(&[handed(1, 20, 0, 30), call(2, 20, 10, 40)], "1, 2");
    // Of one that answers nothing.
    check_pool(&[handed(1, 20, 0, 30), call(2, 22, 10, 20)], "1, 2");
}

#[test]
fn threads_that_do_otherwise_are_not_believed() {
    let off = |sides: &[Side], expected: &str| {
        let linker = check_pool(sides, expected);
        assert_eq!(linker.stats.trace_answers_off.get(), 1);
    };
    // Calls behind an answer: from then on none.
    let behind = [
        handed(1, 20, 0, 30),
        call(2, 20, 32, 35),
        handed(3, 20, 100, 150),
        handed(4, 21, 300, 350),
        call(5, 21, 310, 320),
    ];
    off(&behind, "1, 2, 3, 4, 5");
    // Answers one while another that it has read is open: fibers.
    let own = |id, from, to| server(id, 0, (2, 20), from, to);
    off(
        &[own(1, 0, 30), own(2, 5, 40), call(3, 20, 10, 20)],
        "1, 2, 3",
    );
    // Who reads calls, or answers.
    let calls = [handed(1, 20, 0, 30), call(2, 9, 1, 2), call(3, 20, 10, 20)];
    off(&calls, "1, 2, 3");
    let answers = [
        handed(1, 20, 0, 30),
        handed(2, 9, 1, 2),
        call(3, 20, 10, 20),
    ];
    off(&answers, "1, 2, 3");
}
