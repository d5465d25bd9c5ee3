//! Calls of JVMs' threads that run tasks which others have made.

use super::*;
use crate::event::{Allocates, Java, Nanos, Runs};

/// In which collections of garbage, and where, a thread makes objects at a time, nanoseconds.
fn makes(thread: u32, time: Nanos, collections: u32, start: u64, top: u64) -> (u64, Fact) {
    let told = Allocates {
        process: 2,
        thread,
        collections,
        start,
        top,
        end: start + 0x1000,
        time,
    };
    (time, Fact::Java(Java::Allocates(told)))
}

/// A thread runs a task as it sends over a connection at a time.
fn runs(
    thread: u32,
    time: Nanos,
    connection: u64,
    collections: u32,
    tasks: [u64; 2],
) -> (u64, Fact) {
    let told = Runs {
        process: 2,
        thread,
        collections,
        connection: ConnectionId(connection),
        tasks,
        time,
    };
    (time, Fact::Java(Java::Runs(told)))
}

/// A request of thread 2 from 10 to 40 ms, one of thread 3 from 10 to 90, and what 9 calls for at 15 ms.
fn linked(told: &[(u64, Fact)]) -> String {
    let sides = [
        server(1, 0, (2, 2), 10, 40),
        server(2, 0, (2, 3), 10, 90),
        client(3, 0, (2, 9), 15, 30),
    ];
    descent::linked(&sides, told)
}

const READ: Nanos = 10 * MS + 1000;
const SENT: Nanos = 15 * MS + 1000;
const ROOT: &str = "1, 2, 3";
const FIRST: &str = "1, 2, 3 <- 1 task";

#[test]
fn a_task_is_for_what_its_maker_was_serving() {
    let read = makes(2, READ, 0, 0x1000, 0x1800);
    let other = makes(3, READ, 0, 0x5000, 0x5800);
    let sent = |task| runs(9, SENT, 3, 0, [task; 2]);
    let check = |task, expected| {
        let told = [read.clone(), other.clone(), sent(task)];
        assert_eq!(linked(&told), expected, "{task:x}");
    };
    check(0x1800, FIRST);
    check(0x1ff8, FIRST);
    check(0x5808, "1, 2, 3 <- 2 task");
    // Made before, in a part that is nobody's, none at all.
    check(0x17f8, ROOT);
    check(0x2000, ROOT);
    check(0xff8, ROOT);
    check(0, ROOT);
}

#[test]
fn its_maker_may_have_come_to_another_part_since() {
    let sent = runs(9, SENT, 3, 0, [0x3010; 2]);
    let read = makes(2, READ, 0, 0x1000, 0x1800);
    // Told when the call is over: somebody was woken.
    let after = makes(2, 30 * MS, 0, 0x3000, 0x3100);
    assert_eq!(linked(&[read.clone(), after.clone(), sent.clone()]), FIRST);
    // It had been there before, too: no telling when the task was made.
    let before = makes(2, 9 * MS, 0, 0x3000, 0x3008);
    assert_eq!(linked(&[before, read, after.clone(), sent.clone()]), ROOT);
    // Where it was when it read the request was not told.
    assert_eq!(linked(&[after, sent]), ROOT);
}

#[test]
fn a_task_that_goes_on_when_its_request_is_answered_is_for_nobody() {
    let sides = [
        server(1, 0, (2, 2), 10, 40),
        client(3, 0, (2, 9), 15, 30),
        client(4, 0, (2, 9), 60, 70),
    ];
    let read = makes(2, READ, 0, 0x1000, 0x1800);
    let first = runs(9, SENT, 3, 0, [0x1900; 2]);
    let then = |task| runs(9, 60 * MS + 1000, 4, 0, [task; 2]);
    let check = |task, expected| {
        let told = [read.clone(), first.clone(), then(task)];
        assert_eq!(descent::linked(&sides, &told), expected, "{task:x}");
    };
    check(0x1900, "1, 3, 4");
    check(0x1a00, "1, 3 <- 1 task, 4");
}

#[test]
fn what_moved_meanwhile_is_not_known() {
    let read = makes(2, READ, 0, 0x1000, 0x1800);
    let moved = runs(9, SENT, 3, 1, [0x1900; 2]);
    assert_eq!(linked(&[read.clone(), moved.clone()]), ROOT);
    // Made after that.
    let after = makes(2, 12 * MS, 1, 0x1000, 0x1a00);
    assert_eq!(linked(&[read.clone(), after.clone(), moved.clone()]), FIRST);
    // Two say that it is theirs.
    let other = makes(3, 13 * MS, 1, 0x1000, 0x1a00);
    assert_eq!(
        linked(&[read.clone(), after.clone(), other, moved.clone()]),
        ROOT
    );
    let above = makes(3, 13 * MS, 1, 0x980, 0x990);
    assert_eq!(linked(&[read, after, above, moved]), ROOT);
}

#[test]
fn tasks_within_tasks_agree_or_are_nobodys() {
    let read = makes(2, READ, 0, 0x1000, 0x1800);
    let other = makes(3, READ, 0, 0x5000, 0x5800);
    let own = makes(9, READ, 0, 0x7000, 0x7800);
    let check = |inner, expected| {
        let sent = runs(9, SENT, 3, 0, [0x1900, inner]);
        let told = [read.clone(), other.clone(), own.clone(), sent];
        assert_eq!(linked(&told), expected);
    };
    check(0x1910, FIRST);
    check(0x7900, FIRST);
    check(0x5900, ROOT);
    check(0x9000, ROOT);
}

#[test]
fn a_task_of_another_request_or_of_a_call_before_is_not_this_ones() {
    let read = makes(2, READ, 0, 0x1000, 0x1800);
    let at = |time, connection| runs(9, time, connection, 0, [0x1900; 2]);
    assert_eq!(linked(&[read.clone(), at(SENT, 4)]), ROOT);
    assert_eq!(linked(&[read.clone(), at(15 * MS - 1, 3)]), ROOT);
    assert_eq!(linked(&[read.clone(), at(17 * MS, 3)]), ROOT);
    // The request is answered by then, and its thread serves another.
    let sides = [
        server(1, 0, (2, 2), 10, 40),
        server(2, 0, (2, 2), 45, 90),
        client(3, 0, (2, 9), 50, 60),
    ];
    let again = makes(2, 45 * MS + 1000, 0, 0x1000, 0x1b00);
    let told = [read, again, at(50 * MS + 1000, 3)];
    assert_eq!(descent::linked(&sides, &told), ROOT);
    assert_eq!(descent::linked(&[client(3, 0, (2, 9), 50, 60)], &told), "3");
}

#[test]
fn what_was_told_is_kept_within_bounds() {
    let mut tasks = crate::trace::tasks::Tasks::new(8);
    for n in 0..1000u64 {
        let (_, Fact::Java(Java::Allocates(told))) = makes(n as u32 % 20, n, 0, n % 30 * 0x800, n)
        else {
            return;
        };
        tasks.allocates(&told);
        let (_, Fact::Java(Java::Runs(told))) = runs(n as u32 % 20, n, 1, 0, [n; 2]) else {
            return;
        };
        tasks.runs(&told);
        assert!(tasks.held() <= 24);
    }
}
