//! Dialogues as data: every file of `tests/wire/<protocol>/` is played to a shard, and what comes
//! out is compared with what the file expects; `UPDATE=1` rewrites the expectations.
//!
//! Each dialogue is then played again cut at every byte, cut short at every byte, with a hole at
//! every position, and with the kernel's copy budget.

#[path = "wire/dialogue.rs"]
#[allow(
    dead_code,
    reason = "shared with the differential test, which uses more of it"
)]
mod dialogue;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use dialogue::play::{Seen, play, play_all, play_as_client, play_to_text};
use dialogue::{Dialogue, Step, Way};
use spantap::event::{Ending, Hole};
use spantap::protocol;

/// Every position of a short segment; of a long one those near its ends, and some between.
fn positions(length: usize) -> impl Iterator<Item = usize> {
    (0..length).filter(move |at| *at < 400 || length - at < 40 || at % 211 == 0)
}

/// Does this with every dialogue, on all cores.
fn with_each(work: impl Fn(&Dialogue) + Sync) {
    let all = dialogue::all();
    let next = AtomicUsize::new(0);
    let go_on = || {
        while let Some(dialogue) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(dialogue);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(go_on);
        }
    });
}

#[test]
fn names_are_unique() {
    let names: BTreeMap<_, _> = protocol::ALL.iter().map(|p| (p.name(), ())).collect();
    assert_eq!(names.len(), protocol::ALL.len());
}

#[test]
fn dialogues_read_as_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for dialogue in dialogue::all() {
        let text = play_to_text(&dialogue.steps);
        if update {
            dialogue.rewrite(&text);
        } else if text != dialogue.expected {
            wrong.push(format!(
                "{}\n--- expected\n{}--- seen\n{text}",
                dialogue.name, dialogue.expected
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_client_end_sees_the_same() {
    for dialogue in dialogue::all() {
        let server: Vec<_> = play(&dialogue.steps).iter().map(Seen::gist).collect();
        let client: Vec<_> = play_as_client(&dialogue.steps)
            .iter()
            .map(Seen::gist)
            .collect();
        assert_eq!(server.len(), client.len(), "{}", dialogue.name);
        for (server, client) in server.iter().zip(&client) {
            // By whom it was broken is seen from each end; the rest is the same.
            assert_eq!(
                (server.0, &server.1),
                (client.0, &client.1),
                "{}",
                dialogue.name
            );
        }
    }
}

#[test]
fn cut_at_every_byte() {
    with_each(|dialogue| {
        let whole = play_to_text(&dialogue.steps);
        let bytes = dialogue::in_portions(&dialogue.steps, 1);
        assert_eq!(
            whole,
            play_to_text(&bytes),
            "{}: single bytes",
            dialogue.name
        );
        for portion in [2, 3, 7, 16, 61, 1000] {
            let steps = dialogue::in_portions(&dialogue.steps, portion);
            let seen = play_to_text(&steps);
            assert_eq!(whole, seen, "{}: portions of {portion}", dialogue.name);
        }
        for (index, step) in dialogue.steps.iter().enumerate() {
            for at in positions(step.bytes().len()).skip(1) {
                let steps = dialogue::cut(&dialogue.steps, index, at);
                let seen = play_to_text(&steps);
                assert_eq!(
                    whole, seen,
                    "{}: segment {index} cut at {at}",
                    dialogue.name
                );
            }
        }
    });
}

/// How many messages a call has is known where all of them were seen, a connection's database where its
/// beginning was, and what is spoken over HTTP where bodies were.
fn may_be_missing(line: &str, real: &Seen) -> bool {
    let over = ["rpc.", "mcp."].iter().any(|way| line.starts_with(way))
        && !real.request.iter().any(|l| l == "rpc.system.name = grpc");
    let ways = [
        "spantap.rpc.",
        "db.namespace = ",
        "graphql.",
        "gen_ai.",
        "jsonrpc.",
    ];
    over || ways.iter().any(|way| line.starts_with(way))
}

/// Of a store that is asked over HTTP this is known where its answer was seen.
fn is_of_store(line: &str, real: &Seen) -> bool {
    let ways = ["aws.", "cloud.region = ", "db."];
    let mut lines = real.request.iter();
    lines.any(|line| line.starts_with("http.request.method = "))
        && ways.iter().any(|way| line.starts_with(way))
}

/// Every exchange that was seen must be one that happened, with the answer it had.
fn assert_true_to(happened: &[Seen], seen: &[Seen], what: &str) {
    for s in seen {
        let Some(real) = happened.iter().find(|h| h.gist().0 == s.gist().0) else {
            panic!("{what}: invented {s:?}");
        };
        // Which of two servers it is says its greeting alone; without that it is what both descend from.
        let mut real = real.clone();
        if s.request
            .iter()
            .any(|line| line == "db.system.name = mysql")
        {
            for line in &mut real.request {
                *line = line.replace("db.system.name = mariadb", "db.system.name = mysql");
            }
        }
        if s.is_partial() {
            // That it is a call can be among what is not known; nothing is said that is not so.
            let key = |line: &str| line.split(" = ").next().map(str::to_owned);
            let real = &real.request;
            // Of a statement that was cut the beginning is told.
            let texts = ["db.query.text = ", "db.query.summary = "];
            let cut = |line: &String| texts.iter().any(|text| line.starts_with(text));
            let so = |line: &String| {
                real.contains(line)
                    || real.iter().all(|other| key(other) != key(line))
                    || cut(line) && real.iter().any(|other| other.starts_with(line.as_str()))
            };
            assert!(s.request.iter().all(so), "{what}: {s:?}");
        } else {
            let counts = |line: &&String| may_be_missing(line, &real) || is_of_store(line, &real);
            let fields = |seen: &Seen| -> Vec<_> {
                let lines = seen.request.iter();
                lines.filter(|line| !counts(line)).cloned().collect()
            };
            assert_eq!(fields(&real), fields(s), "{what}");
            let counted = s.request.iter().filter(counts);
            for line in counted {
                assert!(real.request.contains(line), "{what}: {s:?}");
            }
        }
        // HTTP/1 says otherwise: where a chunk's size is lost, framing counts as body.
        let framed = !s
            .request
            .iter()
            .any(|line| line == "network.protocol.version = 2");
        for (real, seen) in [
            (real.request_body(), s.request_body()),
            (real.response_body(), s.response_body()),
        ] {
            let known = seen.is_some() && real.is_some();
            assert!(framed || !known || seen == real, "{what}: {s:?}");
        }
        if s.status.is_some() || s.is_sure() {
            assert_eq!(real.status, s.status, "{what}: {s:?}");
            assert_eq!(real.answer, s.answer, "{what}: {s:?}");
        }
    }
}

#[test]
fn cut_short_at_every_byte() {
    with_each(|dialogue| {
        let happened = play_all(&dialogue.steps);
        for (index, step) in dialogue.steps.iter().enumerate() {
            let length = step.bytes().len();
            for at in positions(length) {
                let mut steps = dialogue.steps[..index].to_vec();
                steps.push(step.first(at));
                let seen = play(&steps);
                let what = format!("{}: ends in segment {index} at {at}", dialogue.name);
                assert_true_to(&happened, &seen, &what);
            }
        }
    });
}

#[test]
fn a_hole_anywhere_invents_nothing() {
    with_each(|dialogue| {
        if dialogue.forged {
            return;
        }
        let mut steps = dialogue.steps.clone();
        let goes_on = dialogue.goes_on();
        if goes_on {
            steps.extend(dialogue.one_more());
        }
        let happened = play_all(&steps);
        for index in 0..dialogue.steps.len() {
            let length = steps[index].bytes().len();
            for (kind, (size, lost)) in [
                (1, true),
                (1, false),
                (9, true),
                (length, true),
                (length, false),
            ]
            .into_iter()
            .enumerate()
            {
                // The first kind is everywhere, of the others one or two are, and all near the ends.
                let near = |at: usize| at < 40 || length - at < 20;
                let here = |at: &usize| kind == 0 || near(*at) || (at + kind).is_multiple_of(3);
                for at in positions(length).filter(here) {
                    let mut holed = steps.clone();
                    holed[index] = steps[index].with_hole(at, size);
                    if lost && at == 0 && size >= length {
                        holed = dialogue::without(&steps, index);
                    }
                    let seen = play(&holed);
                    let what = format!(
                        "{}: hole of {size} in segment {index} at {at}",
                        dialogue.name
                    );
                    assert_true_to(&happened, &seen, &what);
                    if goes_on {
                        let last = seen
                            .last()
                            .unwrap_or_else(|| panic!("{what}: nothing seen"));
                        let real = happened.last().expect("one more");
                        // What the hole has of names is wanting, and said to be.
                        let unnamed = last.is_partial() && last.is_unnamed();
                        if !unnamed || real.is_partial() {
                            assert_eq!(last, real, "{what}: the exchange after it");
                        }
                    }
                }
            }
        }
    });
}

/// Records that were lost one after the other, of one flow or of both: the end of one exchange and the
/// beginning of the next. What is answered behind them is not what was asked before them.
#[test]
fn lost_records_mix_nothing() {
    with_each(|dialogue| {
        if dialogue.forged {
            return;
        }
        let goes_on = dialogue.goes_on();
        let again = if goes_on {
            dialogue.one_more()
        } else {
            Vec::new()
        };
        // Records that begin and end in the midst of something are read later than others.
        for pieces in [1, 2] {
            let mut steps = dialogue::in_pieces(&dialogue.steps, pieces);
            let length = steps.len();
            steps.extend(again.clone());
            let happened = play_all(&steps);
            let runs =
                (0..length).flat_map(|at| (at..length.min(at + 4)).map(move |end| (at, end)));
            for (first, last) in runs {
                let lost = (first..=last).fold(steps.clone(), |s, at| dialogue::without(&s, at));
                let what = format!("{}: in {pieces}, without {first} to {last}", dialogue.name);
                let seen = play(&lost);
                assert_true_to(&happened, &seen, &what);
                // A connection of which nothing was known may be nobody's for good.
                if let (true, Some(last)) = (goes_on && pieces == 1, seen.last()) {
                    let real = happened.last().expect("one more");
                    assert!(last.is_partial() || last == real, "{what}: {last:?}");
                }
            }
        }
    });
}

/// An answer that left by a call whose bytes cannot be read (sendfile, splice) is no error: what is
/// not known is said.
#[test]
fn an_answer_that_was_not_seen_is_no_error() {
    let ask = |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        Step::new(Way::Ask, head.into_bytes())
    };
    let unseen = || {
        let mut step = Step::new(Way::Answer, vec![0; 61]).with_hole(0, 61);
        if let Step::Bytes { cause, .. } = &mut step {
            *cause = Some(Hole::NoBuffer);
        }
        step
    };
    let (_, seen) = dialogue::one_more("http1");
    let missing = "abandoned request=0 Missing { cause: NoBuffer, bytes: 61 }";
    let outcomes = |steps: &[Step], play: fn(&[Step]) -> Vec<Seen>| {
        let all = play(steps);
        let lines = Seen::text(&all);
        let lines = lines.lines().filter(|l| l.starts_with('@'));
        lines
            .map(|l| l.split_once(" - ").map_or(l, |(_, l)| l).to_owned())
            .collect::<Vec<_>>()
    };
    for ending in [Ending::Local, Ending::Eof, Ending::Gone, Ending::Error(104)] {
        for play in [play, play_as_client] {
            let steps = [
                ask("/1"),
                unseen(),
                Step::End(ending),
                Step::End(Ending::Gone),
            ];
            assert_eq!(outcomes(&steps, play), [missing], "{ending:?}");
        }
    }
    // What is asked after it is followed as ever, and not blamed.
    let steps = [
        ask("/1"),
        unseen(),
        ask("/2"),
        seen,
        ask("/3"),
        Step::End(Ending::Gone),
    ];
    let lines = outcomes(&steps, play);
    assert_eq!(lines[0], missing);
    assert!(
        lines[1].ends_with("complete request=0 response=2"),
        "{lines:?}"
    );
    assert_eq!(lines[2], "broken(gone) request=0");
}

#[test]
fn the_copy_budget_leaves_the_facts_alone() {
    for dialogue in dialogue::all() {
        let Some(budget) = dialogue.budget else {
            continue;
        };
        let whole: Vec<_> = play(&dialogue.steps).iter().map(Seen::gist).collect();
        let steps = dialogue::with_budget(&dialogue.steps, budget, Hole::Budget);
        let seen: Vec<_> = play(&steps).iter().map(Seen::gist).collect();
        assert_eq!(whole, seen, "{}", dialogue.name);
    }
}

#[test]
fn garbage_says_nothing() {
    let mut random = dialogue::Random(7);
    for round in 0..2000 {
        let mut steps = Vec::new();
        for _ in 0..random.below(8) {
            let way = if random.below(2) == 0 {
                Way::Ask
            } else {
                Way::Answer
            };
            let bytes = (0..random.below(300))
                .map(|_| random.below(256) as u8)
                .collect();
            steps.push(Step::new(way, bytes));
        }
        assert!(play(&steps).is_empty(), "round {round}: {steps:?}");
    }
}

/// What a well-formed dialogue turns into when its bytes rot: no panic, and every exchange that is
/// opened is closed once.
#[test]
fn rotten_dialogues_end() {
    let mut random = dialogue::Random(11);
    for dialogue in dialogue::all() {
        for _ in 0..300 {
            let mut steps = dialogue.steps.clone();
            for _ in 0..=random.below(4) {
                dialogue::rot(&mut steps, &mut random);
            }
            play(&dialogue::in_portions(&steps, 1 + random.below(40)));
        }
    }
}
