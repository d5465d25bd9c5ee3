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

fn check_pool(sides: &[Side], expected: &str) -> Linker {
    let mut linker = linker();
    linker.no_thread_links(2);
    linker.takes_over(2);
    let links = run(&mut linker, sides);
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
    let later = |to| [handed(1, 20, 0, to), call(2, 20, 10, 20)];
    check_pool(&later(1500), "1, 2 <- 1 answer");
    check_pool(&later(3000), "1, 2");
    // Elsewhere who answers says nothing.
    let mut linker = linker;
    linker.forget(2);
    let links = run(
        &mut linker,
        &[handed(11, 20, 100, 130), call(12, 20, 110, 120)],
    );
    assert_eq!(told(&links), "11, 12");
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
