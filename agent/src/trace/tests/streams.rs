//! Streams whose heads one goroutine reads or writes for all.

use super::descent::linked;
use super::*;
use crate::event::Taken;

/// A goroutine of process 2 begins to serve a stream then, in milliseconds, or has asked for it.
fn taken(connection: u64, number: u64, unit: u64, at: u64) -> (u64, Fact) {
    let taken = Taken {
        connection: ConnectionId(connection),
        number,
        process: 2,
        unit: goroutine(unit),
        time: at * MS,
    };
    (at * MS, Fact::Taken(taken))
}

/// A stream of a connection: goroutine 90 moves what comes, 91 what goes.
fn stream(connection: u64, number: u64, side: Side) -> Side {
    let (unit, answered_in) = match side.role {
        Role::Server => (90, 91),
        Role::Client => (91, 90),
    };
    Side {
        connection,
        stream: Some(number),
        unit,
        answered_in: Some(answered_in),
        ..side
    }
}

fn of(unit: u64, side: Side) -> Side {
    Side { unit, ..side }
}

#[test]
fn who_takes_a_stream_serves_it() {
    let sides = [
        // Two heads in one segment, answered by whoever writes.
        stream(50, 1, server(1, 0, (2, 2), 10, 40)),
        stream(50, 3, server(2, 0, (2, 2), 10, 41)),
        of(7, client(3, 0, (2, 3), 14, 20)),
        of(8, client(4, 0, (2, 3), 14, 20)),
        // Behind the answer, of who reads, and of who took none.
        of(7, client(5, 0, (2, 3), 44, 50)),
        of(90, client(6, 0, (2, 2), 15, 20)),
        of(9, client(7, 0, (2, 3), 15, 20)),
        // Nobody is known to have taken this one.
        stream(50, 5, server(8, 0, (2, 2), 11, 60)),
    ];
    let takes = [
        taken(50, 1, 7, 11),
        taken(50, 3, 8, 12),
        // Told again, as a stack grew, and of a connection that is not read.
        taken(50, 3, 9, 13),
        taken(51, 5, 9, 13),
    ];
    let expected = "1, 2, 3 <- 1 goroutine, 4 <- 2 goroutine, 5, 6, 7, 8";
    assert_eq!(linked(&sides, &takes), expected);
    // Who takes one may be told before its head.
    let early = takes[..2].iter().cloned().map(|(_, fact)| (9 * MS, fact));
    assert_eq!(linked(&sides, &early.collect::<Vec<_>>()), expected);
}

#[test]
fn who_takes_another_has_left_the_first() {
    let sides = [
        // Its answer is written when its worker has gone on.
        stream(50, 1, server(1, 0, (2, 2), 10, 40)),
        stream(51, 1, server(2, 0, (2, 2), 11, 60)),
        of(7, client(3, 0, (2, 3), 14, 20)),
        of(7, client(4, 0, (2, 3), 30, 35)),
    ];
    let expected = "1, 2, 3 <- 1 goroutine, 4 <- 2 goroutine";
    let takes = [taken(50, 1, 7, 12), taken(51, 1, 7, 25)];
    assert_eq!(linked(&sides, &takes), expected);
    // Rings are read one after the other.
    let (first, second) = (takes[0].1.clone(), takes[1].1.clone());
    let told = [(25 * MS, second), (26 * MS, first)];
    assert_eq!(linked(&sides, &told), expected);
}

#[test]
fn who_asks_for_a_stream_asks_and_not_who_sends() {
    let sides = [
        of(7, server(1, 0, (2, 2), 10, 40)),
        of(8, server(2, 0, (2, 2), 10, 41)),
        stream(50, 1, client(3, 0, (2, 3), 14, 20)),
        stream(50, 3, client(4, 0, (2, 3), 14, 20)),
        // Written when who asked has answered.
        stream(50, 5, client(5, 0, (2, 3), 43, 50)),
        stream(50, 7, client(6, 0, (2, 3), 14, 20)),
        // Another process's.
        stream(52, 1, client(7, 0, (3, 3), 14, 20)),
    ];
    let takes = [
        taken(50, 1, 7 | ASKED | GOROUTINE, 15),
        taken(50, 3, 8 | ASKED | GOROUTINE, 15),
        taken(50, 5, 8 | ASKED | GOROUTINE, 39),
        // No client's.
        taken(50, 7, 8, 15),
        taken(52, 1, 8 | ASKED | GOROUTINE, 15),
    ];
    let expected = "1, 2, 3 <- 1 goroutine, 4 <- 2 goroutine, 5 <- 2 goroutine, 6, 7";
    assert_eq!(linked(&sides, &takes), expected);
}

#[test]
fn what_is_told_of_streams_that_nobody_reads_is_bounded_and_counted() {
    let stats = Arc::<Stats>::default();
    let settings = Settings {
        capacity: 8,
        ..Settings::new(&Propagation::default(), DRAIN)
    };
    let mut linker = Linker::new(settings, Ids::from_seed(1), Arc::clone(&stats));
    for number in 0..100 {
        linker.feed(taken(51, number, 9, 10 + number).1);
    }
    assert_eq!(stats.trace_streams_forgotten.get(), 92);
}
