//! The scorer against programs that are simulated: whose each call is, is known of all.

use std::collections::BinaryHeap;

use super::*;

const US: Nanos = 1_000;
const MS: Nanos = 1_000_000;
const DESTINATION: u64 = 7;

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Around `mean`, never under half of it, and at times much longer.
    fn about(&mut self, mean: Nanos) -> Nanos {
        let tail = if self.below(20) == 0 { 8 } else { 1 };
        mean / 2 + self.below(mean) * tail
    }

    /// Until the next of those that come by themselves.
    fn until_next(&mut self, mean: Nanos) -> Nanos {
        let mut sum = 0;
        // Geometric, in steps of a sixteenth of the mean.
        while self.below(16) != 0 {
            sum += mean / 16;
        }
        sum + self.below(mean / 16)
    }
}

/// What happened: requests with their first and last moment, calls with whose they are.
#[derive(Default)]
struct Story {
    requests: Vec<(Nanos, Nanos)>,
    calls: Vec<(Nanos, Nanos, Option<usize>)>,
}

#[derive(Debug, Default, PartialEq)]
struct Score {
    right: usize,
    wrong: usize,
    none: usize,
}

impl Score {
    fn share(&self) -> usize {
        self.right * 100 / (self.right + self.wrong + self.none).max(1)
    }
}

/// Has a scorer see it as the linker would, and counts the calls that began from `since` on.
fn score(story: &Story, since: Nanos) -> Score {
    let (mut scorer, mut score) = (Scorer::default(), Score::default());
    let mut facts = Vec::new();
    for (at, (from, to)) in story.requests.iter().enumerate() {
        facts.push((*from, 0, at));
        facts.push((*to, 1, at));
    }
    for (at, (_, to, _)) in story.calls.iter().enumerate() {
        facts.push((to + 30 * MS, 2, at));
        facts.push((to + 200 * MS, 3, at));
        facts.push((to + 250 * MS, 4, at));
    }
    facts.sort_unstable();
    let mut pending = vec![false; story.calls.len()];
    for (_, what, at) in facts {
        if what < 2 {
            let (from, to) = story.requests[at];
            let id = ExchangeId(at as u64);
            match what {
                0 => scorer.opened(1, id, from),
                _ => scorer.closed(1, id, from, to),
            }
            continue;
        }
        let (start, answered, truth) = story.calls[at];
        let call = Call {
            destination: DESTINATION,
            exact: false,
            start,
            answered,
        };
        if what == 4 {
            scorer.learn(1, &call);
            continue;
        }
        if what == 3 && !pending[at] {
            continue;
        }
        let verdict = scorer.judge(1, &call);
        pending[at] = verdict == Verdict::Pending;
        if start < since || what == 2 && pending[at] {
            continue;
        }
        match verdict {
            Verdict::Of(id, _) if truth == Some(id.0 as usize) => score.right += 1,
            Verdict::Of(..) => score.wrong += 1,
            _ => score.none += 1,
        }
    }
    score
}

/// A program: what it does for a request, and how many of its workers call.
#[derive(Clone, Copy, Debug)]
struct Program {
    before: Nanos,
    call: Nanos,
    after: Nanos,
    /// How many calls there can be at once.
    workers: usize,
    /// Whether a request is answered first, and its call is made so long after that.
    late: Option<Nanos>,
    /// One in so many calls is made so late; 0 none.
    some_late: u64,
    /// How many calls a request makes, one after the other.
    calls: usize,
    /// Whether a request that wants a call while one is under way waits for that one instead.
    shared: bool,
}

const PLAIN: Program = Program {
    before: 200 * US,
    call: 500 * US,
    after: 100 * US,
    workers: 8,
    late: None,
    some_late: 0,
    calls: 1,
    shared: false,
};

impl Program {
    /// So many at once, each asking again when it was answered and some time has passed.
    fn run(
        &self,
        story: &mut Story,
        random: &mut Random,
        begin: Nanos,
        clients: usize,
        many: usize,
        pause: Nanos,
    ) -> Nanos {
        let mut queue = BinaryHeap::new();
        for client in 0..clients {
            let first = begin + random.below(pause.max(MS));
            queue.push(std::cmp::Reverse((first, 0, client, 0)));
        }
        let mut free = vec![begin; self.workers];
        let (mut left, mut end) = (many, begin);
        // (time, 0 a request comes | n its n-th call is wanted, client, its request)
        while let Some(std::cmp::Reverse((now, what, client, request))) = queue.pop() {
            if what == 0 {
                if left == 0 {
                    continue;
                }
                left -= 1;
                let at = story.requests.len();
                story.requests.push((now, 0));
                let wanted = now + random.about(self.before);
                queue.push(std::cmp::Reverse((wanted, 1, client, at)));
                continue;
            }
            let late = match self.late {
                None if self.some_late > 0 && random.below(self.some_late) == 0 => Some(20 * MS),
                late => late,
            };
            let worker = free.iter_mut().min().unwrap();
            let answered = match late {
                None if self.shared && *worker > now => *worker + random.about(self.after),
                None => {
                    let start = now.max(*worker);
                    let answered = start + random.about(self.call);
                    *worker = answered;
                    story.calls.push((start, answered, Some(request)));
                    if what < self.calls {
                        let wanted = answered + random.about(self.before);
                        queue.push(std::cmp::Reverse((wanted, what + 1, client, request)));
                        continue;
                    }
                    answered + random.about(self.after)
                }
                Some(delay) => {
                    let answered = now + random.about(self.after);
                    let start = answered + delay + random.below(100 * US);
                    let call = (start, start + random.about(self.call), None);
                    story.calls.push(call);
                    answered
                }
            };
            story.requests[request].1 = answered;
            end = end.max(answered);
            let again = answered
                + 50 * US
                + if pause > 0 {
                    random.until_next(pause)
                } else {
                    0
                };
            queue.push(std::cmp::Reverse((again, 0, client, 0)));
        }
        end
    }
}

/// Some hundred requests one after the other, then so many at once.
fn told(program: &Program, seed: u64, clients: usize, pause: Nanos) -> Score {
    let (mut story, mut random) = (Story::default(), Random(seed | 1));
    let calm = program.run(&mut story, &mut random, MS, 1, 400, 5 * MS);
    program.run(&mut story, &mut random, calm + MS, clients, 2000, pause);
    score(&story, calm)
}

/// The same, while something else calls as well, now and then.
fn told_beside(program: &Program, seed: u64, clients: usize, every: Nanos) -> Score {
    let (mut story, mut random) = (Story::default(), Random(seed | 1));
    let calm = program.run(&mut story, &mut random, MS, 1, 400, 5 * MS);
    let end = program.run(&mut story, &mut random, calm + MS, clients, 2000, 5 * MS);
    let mut now = random.until_next(every);
    while now < end {
        let answered = now + random.about(program.call);
        story.calls.push((now, answered, None));
        now = answered + random.until_next(every);
    }
    score(&story, calm)
}

/// Programs whose requests wait for what they call.
const WAITING: [(&str, Program); 9] = [
    ("plain", PLAIN),
    (
        "two workers",
        Program {
            workers: 2,
            ..PLAIN
        },
    ),
    (
        "one worker",
        Program {
            workers: 1,
            ..PLAIN
        },
    ),
    (
        "slow calls",
        Program {
            call: 5 * MS,
            workers: 64,
            ..PLAIN
        },
    ),
    (
        "works before",
        Program {
            before: 5 * MS,
            ..PLAIN
        },
    ),
    (
        "works after",
        Program {
            after: 5 * MS,
            ..PLAIN
        },
    ),
    ("two calls", Program { calls: 2, ..PLAIN }),
    (
        "two calls, two workers",
        Program {
            calls: 2,
            workers: 2,
            before: 20 * US,
            ..PLAIN
        },
    ),
    (
        "three shared",
        Program {
            calls: 3,
            workers: 1,
            shared: true,
            ..PLAIN
        },
    ),
];

/// Holds scores to be precise, each and all of them; how many were right.
fn precise(scores: impl Iterator<Item = (String, Score)>) -> usize {
    let mut all = Score::default();
    for (name, score) in scores {
        println!("{name}: {score:?}");
        assert!(score.wrong * 100 <= score.right + 300, "{name}: {score:?}");
        all.right += score.right;
        all.wrong += score.wrong;
    }
    assert!(all.wrong * 100 <= all.right + all.wrong, "{all:?}");
    all.right
}

const PAUSES: [Nanos; 2] = [0, 5 * MS];

#[test]
fn what_requests_wait_for_is_linked_and_little_of_it_wrongly() {
    let ways = WAITING
        .iter()
        .flat_map(|way| [1, 2, 8, 32].map(|clients| (way, clients)));
    let ways = ways.flat_map(|way| PAUSES.map(|pause| (way, pause)));
    let right = precise(ways.map(|(((name, program), clients), pause)| {
        let name = format!("{name}, {clients} at once, {} ms between", pause / MS);
        (name, told(program, 17, clients, pause))
    }));
    assert!(right > 75_000, "{right}");
}

#[test]
fn what_comes_one_after_the_other_is_nearly_all_linked() {
    for (name, program) in &WAITING[..6] {
        for pause in PAUSES {
            let score = told(program, 5, 1, pause);
            assert!(score.share() >= 85 && score.wrong == 0, "{name}: {score:?}");
        }
    }
}

#[test]
fn what_is_called_behind_the_answer_is_nobodys() {
    for delay in [20 * US, 200 * US, 2 * MS, 20 * MS, 45 * MS] {
        for before in [200 * US, 50 * MS] {
            let program = Program {
                late: Some(delay),
                before,
                ..PLAIN
            };
            for clients in [1, 8, 64] {
                for pause in PAUSES {
                    let score = told(&program, 3, clients, pause);
                    assert_eq!(
                        (score.right, score.wrong),
                        (0, 0),
                        "{delay} {clients} {pause}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_destination_that_is_called_behind_some_answers_is_left_alone() {
    let some = [10, 30, 100, 300].map(|some_late| Program { some_late, ..PLAIN });
    let ways = some
        .into_iter()
        .flat_map(|way| [1, 2, 4, 8].map(|clients| (way, clients)));
    let ways = ways.flat_map(|way| PAUSES.map(|pause| (way, pause)));
    precise(ways.map(|((program, clients), pause)| {
        let name = format!("one of {} late, {clients} at once", program.some_late);
        (name, told(&program, 29, clients, pause))
    }));
}

#[test]
fn what_calls_by_itself_is_nobodys() {
    let programs = [
        PLAIN,
        Program {
            call: 5 * MS,
            ..PLAIN
        },
        Program {
            before: 5 * MS,
            ..PLAIN
        },
    ];
    let ways = programs
        .into_iter()
        .flat_map(|way| [1, 2, 4, 8].map(|clients| (way, clients)));
    let ways = ways.flat_map(|way| [5 * MS, 50 * MS, 500 * MS].map(|every| (way, every)));
    precise(ways.map(|((program, clients), every)| {
        let name = format!(
            "{} ms of calls, every {} ms, {clients} at once",
            program.call / MS,
            every / MS
        );
        (name, told_beside(&program, 31, clients, every))
    }));
}

#[test]
fn what_has_no_room_is_counted_and_nothing_is_linked_meanwhile() {
    let mut scorer = Scorer::default();
    let many = MOST_OPEN as u64 + 1;
    (0..many).for_each(|at| scorer.opened(1, ExchangeId(at), 10 + at));
    assert_eq!(scorer.left_out, 1);
    let about = |scorer: &Scorer, at| scorer.processes[&1].around(at, at + 5).is_some();
    // While the one is served that was left out, whoever else is.
    (1..many - 1).for_each(|at| scorer.closed(1, ExchangeId(at), 10 + at, 15_000 + at));
    assert!(!about(&scorer, 10 + many) && !about(&scorer, 16_000));
    scorer.opened(1, ExchangeId(many), 17_000);
    assert!(!about(&scorer, 18_000));
    for at in [0, many - 1, many] {
        scorer.closed(1, ExchangeId(at), 10 + at, 20_000 + at);
    }
    assert!(!about(&scorer, 18_000) && about(&scorer, 30_000));
    let call = |destination, start| Call {
        destination,
        exact: false,
        start,
        answered: start + 10,
    };
    // Of the time in which one was left out, nothing is known.
    scorer.learn(1, &call(1, 10 + many - 1));
    assert!(scorer.processes[&1].models.is_empty());
    for destination in 0..MOST_DESTINATIONS as u64 + 2 {
        scorer.learn(1, &call(destination, 30_000 + destination));
    }
    assert_eq!(scorer.left_out, 3);
    let models = &scorer.processes[&1].models;
    assert!(models.len() == MOST_DESTINATIONS && !models.contains_key(&(0, false)));
    for at in 0..2 * MOST_DONE as u64 {
        scorer.opened(1, ExchangeId(at), 40_000 + at);
        scorer.closed(1, ExchangeId(at), 40_000 + at, 40_001 + at);
    }
    assert_eq!(scorer.processes[&1].done.len(), MOST_DONE);
    assert!(scorer.processes[&1].around(40_010, 40_011).is_none());
    (0..2 * MOST_PROCESSES as u32).for_each(|at| scorer.opened(at, ExchangeId(1), 1));
    assert_eq!(scorer.processes.len(), MOST_PROCESSES);
    scorer.checked(1, false);
    assert!(scorer.checked(1, false) && !scorer.checked(1, false));
    scorer.forget(1);
    scorer.opened(1, ExchangeId(1), 1);
    assert!(!scorer.processes[&1].off);
}

#[test]
fn a_process_that_is_another_is_judged_as_such_and_what_it_serves_is_not_forgotten() {
    let mut scorer = Scorer::default();
    let story = waited_for(100);
    for (at, begin) in story.iter().enumerate() {
        let request = ExchangeId(at as u64);
        scorer.opened(1, request, *begin);
        scorer.closed(1, request, *begin, begin + 10 * MS);
        scorer.learn(1, &waited(*begin));
    }
    let last = story.last().unwrap() + 100 * MS;
    let [one, two] = [1000, 1001].map(ExchangeId);
    scorer.opened(1, one, last);
    scorer.closed(1, one, last, last + 10 * MS);
    let of_one = Verdict::Of(one, 0.99);
    let is = |verdict, other| match (verdict, other) {
        (Verdict::Of(one, _), Verdict::Of(other, _)) => one == other,
        (one, other) => one == other,
    };
    assert!(is(scorer.judge(1, &waited(last)), of_one));
    // One that goes on, and another program, which is asked as regularly.
    scorer.opened(1, two, last + 20 * MS);
    assert!(scorer.leave(1, last + 30 * MS) && !scorer.leave(2, last));
    assert!(is(scorer.judge(1, &waited(last)), of_one));
    let next = last + 40 * MS;
    scorer.opened(1, ExchangeId(1002), next);
    scorer.closed(1, ExchangeId(1002), next, next + 10 * MS);
    let call = waited(next);
    assert_eq!(scorer.judge(1, &call), Verdict::Unknown);
    scorer.forget(1);
    let known = &scorer.processes[&1];
    assert!(known.models.is_empty() && known.left.is_none());
    assert!(known.around(call.start, call.answered).unwrap().pending);
    scorer.removed(1, two);
    scorer.leave(1, next + 20 * MS);
    scorer.forget(1);
    assert!(scorer.processes.is_empty());
    // What was served when nobody listened is not known.
    scorer.opened(1, two, next);
    assert!(scorer.processes[&1].around(next - 1, next).is_none());
}

#[test]
fn processes_that_are_gone_without_a_word_make_room() {
    let mut scorer = Scorer::default();
    for process in 0..MOST_PROCESSES as u32 {
        scorer.opened(process, ExchangeId(1), 1);
        if process > 0 {
            scorer.closed(process, ExchangeId(1), 1, 1 + u64::from(process));
        }
    }
    let new = MOST_PROCESSES as u32;
    scorer.opened(new, ExchangeId(1), GONE);
    assert_eq!(
        (scorer.processes.contains_key(&new), scorer.left_out),
        (false, 1)
    );
    scorer.opened(new, ExchangeId(1), GONE + 10);
    assert_eq!(
        (scorer.processes.contains_key(&new), scorer.left_out),
        (true, 2)
    );
    let known = |process| scorer.processes.contains_key(&process);
    // The first serves one still.
    assert!(known(0) && !known(1) && known(2));
}

#[test]
fn an_answer_to_what_was_not_seen_does_not_stand_for_one_that_was_left_out() {
    let mut scorer = Scorer::default();
    let many = MOST_OPEN as u64 + 1;
    (0..many).for_each(|at| scorer.opened(1, ExchangeId(at), 10 + at));
    (0..many - 1).for_each(|at| scorer.closed(1, ExchangeId(at), 10 + at, 1000 + at));
    scorer.unopened(1, ExchangeId(many), 500, 2000);
    assert!(scorer.processes[&1].around(3000, 3010).is_none());
    scorer.closed(1, ExchangeId(many - 1), 10 + many, 4000);
    assert!(scorer.processes[&1].around(5000, 5010).is_some());
}

/// When requests begin that each take 10 ms, [`waited`] for a call, come one after the other.
fn waited_for(many: u64) -> Vec<Nanos> {
    let mut random = Random(7);
    let mut at = 1000 * MS;
    let mut next = || {
        at += 30 * MS + random.below(20 * MS);
        at
    };
    (0..many).map(|_| next()).collect()
}

/// The call of a request that began then.
fn waited(begin: Nanos) -> Call {
    Call {
        destination: DESTINATION,
        exact: false,
        start: begin + 3 * MS,
        answered: begin + 7 * MS,
    }
}
