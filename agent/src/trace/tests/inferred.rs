//! Calls of which nothing says exactly whose they are.

use super::*;

/// Requests of one process that each wait for a call that another thread makes, and the last.
fn sides(many: u64, call: impl Fn(u64, u64) -> Side) -> Vec<Side> {
    let pair = |at: u64| {
        let begin = 1000 + at * 40 + at * at % 7;
        let id = 2 * at;
        [
            server(id + 1, 0, (2, 20), begin, begin + 10),
            call(id + 2, begin),
        ]
    };
    (0..many).flat_map(pair).collect()
}

fn inferring(inferred: bool) -> Linker {
    let settings = Settings {
        inferred,
        ..Settings::new(&Propagation::default(), DRAIN)
    };
    Linker::new(settings, Ids::from_seed(1), Arc::default())
}

/// How many of the calls are children of their requests; no other has a parent.
fn children(linker: &mut Linker, sides: &[Side]) -> usize {
    let links = run(linker, sides);
    let calls = links.values().filter(|l| l.exchange.id.0 % 2 == 0);
    let found = calls.filter_map(|call| Some((call, call.parent?)));
    let right = found.map(|(call, parent)| {
        assert_eq!(links[&(call.exchange.id.0 - 1)].span, parent.span);
        assert_eq!(parent.method, Method::Inferred);
        assert!(parent.confidence >= 0.99 && !parent.remote);
    });
    right.count()
}

fn by_worker(id: u64, begin: u64) -> Side {
    client(id, 0, (2, 21), begin + 3, begin + 7)
}

#[test]
fn what_is_likely_is_linked_where_it_is_asked_for() {
    let sides = sides(600, by_worker);
    let right = children(&mut inferring(true), &sides);
    assert!((200..600).contains(&right), "{right}");
    assert_eq!(children(&mut inferring(false), &sides), 0);
}

#[test]
fn what_ends_behind_the_answer_or_has_no_answer_is_not() {
    let behind = sides(600, |id, begin| {
        client(id, 0, (2, 21), begin + 3, begin + 12)
    });
    assert_eq!(children(&mut inferring(true), &behind), 0);
    let unanswered = sides(600, |id, begin| Side {
        outcome: Outcome::TimedOut,
        ..by_worker(id, begin)
    });
    assert_eq!(children(&mut inferring(true), &unanswered), 0);
}

#[test]
fn what_a_unit_asks_for_that_has_answered_its_own_is_not() {
    // Each call by a goroutine of its own, while another serves a request as regularly as can be.
    let mut sides = sides(600, |id, begin| Side {
        unit: 30 + id,
        ..by_worker(id, begin)
    });
    let others = sides.iter_mut().filter(|side| side.role == Role::Server);
    others.for_each(|side| side.unit = 5);
    assert!(children(&mut inferring(true), &sides) > 200);
    // The same, where the one that calls has answered a request just before.
    let calls = sides.iter().filter(|side| side.role == Role::Client);
    let answered = calls.map(|call| {
        let id = call.id + 100_001;
        let (from, to) = (call.at[0] / MS - 5, call.at[0] / MS - 4);
        Side {
            unit: call.unit,
            ..server(id, 0, (2, 21), from, to)
        }
    });
    let sides: Vec<Side> = answered.chain(sides.iter().cloned()).collect();
    assert_eq!(children(&mut inferring(true), &sides), 0);
}

#[test]
fn where_exact_links_say_otherwise_nothing_is_inferred_any_more() {
    // Goroutine 5 asks, and answers without waiting; meanwhile goroutine 6 serves another.
    let of = |unit: u64, side: Side| Side { unit, ..side };
    let told = (0..200).flat_map(|at| {
        let (id, begin) = (1_000_000 + 3 * at, 1000 + at * 40 + at * at % 7);
        [
            of(5, server(id, 0, (2, 20), begin, begin + 4)),
            of(6, server(id + 1, 0, (2, 21), begin + 2, begin + 9)),
            of(5, client(id + 2, 0, (2, 20), begin + 3, begin + 7)),
        ]
    });
    let later = sides(600, by_worker).into_iter().map(|side| Side {
        at: side.at.map(|at| at + 10_000 * MS),
        ..side
    });
    let later: Vec<Side> = later.collect();
    let parents = |sides: &[Side]| {
        let mut linker = inferring(true);
        let links = run(&mut linker, sides);
        let by = |method| {
            let parents = links.values().filter_map(|link| link.parent);
            parents.filter(|parent| parent.method == method).count()
        };
        let off = linker.doubted();
        assert_eq!(linker.stats.trace_inference_off.get(), off.len() as u64);
        (by(Method::Goroutine), by(Method::Inferred), off)
    };
    let told: Vec<Side> = told.collect();
    assert_eq!(parents(&told), (200, 0, vec![2]));
    assert!(parents(&later).1 > 200);
    let all: Vec<Side> = told.into_iter().chain(later).collect();
    assert_eq!(parents(&all), (200, 0, vec![2]));
}
