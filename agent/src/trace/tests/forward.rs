//! What proxies hand on.

use super::*;

/// Of process 2, a proxy whose one thread serves all; it says `says`.
fn handed(mut side: Side, says: u64) -> Side {
    side.says = says;
    side
}

fn check_proxy(sides: &[Side], expected: &str) -> Linker {
    let mut linker = linker();
    linker.no_thread_links(2);
    linker.hands_on(2);
    let links = run(&mut linker, sides);
    assert_eq!(links.len(), sides.len(), "lost some");
    assert_eq!(told(&links), expected);
    linker
}

#[test]
fn what_a_proxy_hands_on_is_a_child_of_what_it_was_asked() {
    let of = |says| handed(server(says, 0, (2, 20), 0, 60), says);
    let by = |says| handed(client(says + 2, 0, (2, 20), 10, 50), says);
    let linker = check_proxy(
        &[of(1), of(2), by(1), by(2)],
        "1, 2, 3 <- 1 forwarded, 4 <- 2 forwarded",
    );
    assert_eq!(linker.stats.trace_by_forwarded.get(), 2);
    // Its other side is given out with it, and waits as it does.
    let mut asked = handed(server(1, 0, (2, 20), 0, 150), 7);
    asked.at[2] = 60 * MS;
    let by = handed(client(2, 5, (2, 20), 10, 50), 7);
    let behind = server(3, 5, (3, 30), 11, 49);
    check_proxy(
        &[asked, by, behind],
        "1, 2 <- 1 forwarded, 3 <- 2 stream_key",
    );
    // Nobody waits for ever.
    let asked = handed(server(1, 0, (2, 20), 0, 900), 7);
    let by = handed(client(2, 0, (2, 20), 10, 50), 7);
    check_proxy(&[asked, by], "1, 2");
}

#[test]
fn requests_that_say_the_same_are_no_evidence() {
    let of = |id, from, to| handed(server(id, 0, (2, 20), from, to), 7);
    let by = |id, from, to| handed(client(id, 0, (2, 20), from, to), 7);
    check_proxy(&[of(1, 0, 60), of(2, 5, 70), by(3, 10, 50)], "1, 2, 3");
    // One after the other they are.
    check_proxy(
        &[of(1, 0, 20), by(2, 5, 15), of(3, 30, 60), by(4, 35, 50)],
        "1, 2 <- 1 forwarded, 3, 4 <- 3 forwarded",
    );
    // One may be for what was not seen, or be another try.
    check_proxy(&[of(1, 0, 60), by(2, 10, 20), by(3, 30, 50)], "1, 2, 3");
    // Long after the other was forgotten as well.
    check_proxy(&[of(1, 0, 3000), by(2, 10, 20), by(3, 30, 2990)], "1, 2, 3");
}

#[test]
fn what_is_answered_otherwise_was_not_handed_on() {
    let of = |from, to| handed(server(1, 0, (2, 20), from, to), 7);
    let by = |from, to| handed(client(2, 0, (2, 20), from, to), 7);
    check_proxy(&[of(0, 30), by(10, 50)], "1, 2");
    check_proxy(&[of(20, 60), by(10, 50)], "1, 2");
    let mut other = by(10, 50);
    other.status = 500;
    check_proxy(&[of(0, 60), other], "1, 2");
    let mut unanswered = by(10, 50);
    unanswered.outcome = Outcome::Abandoned;
    check_proxy(&[of(0, 60), unanswered], "1, 2");
    // Of another process, or of one that is no proxy.
    let mut far = by(10, 50);
    far.who = (3, 20);
    check_proxy(&[of(0, 60), far], "1, 2");
    let mut linker = linker();
    linker.no_thread_links(2);
    let links = run(&mut linker, &[of(0, 60), by(10, 50)]);
    assert_eq!(told(&links), "1, 2");
}
