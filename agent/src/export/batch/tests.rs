//! When batches leave, and what becomes of every span; in paused time, so exact.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{Queue, start};
use crate::config;
use crate::export::tests::{assert_accounted, spans};
use crate::export::{Answer, Exporter};
use crate::span::Span;
use crate::stats::Stats;

/// Seconds since the start, and the numbers of the spans.
type Seen = (f64, Vec<u64>);

/// Answers by a script, then as `then` says; remembers what it saw.
struct Fake {
    started: Instant,
    script: VecDeque<Step>,
    then: Then,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone, Debug)]
enum Step {
    Say(Answer),
    Hang,
    Panic,
}

#[derive(Clone, Copy)]
enum Then {
    Take,
    Away,
    Hang,
    /// Never takes a batch that has this one.
    Poison(u64),
}

impl Exporter for Fake {
    fn name(&self) -> &str {
        "test"
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(900)
    }

    async fn export(&mut self, spans: &[Span]) -> Answer {
        let numbers: Vec<_> = spans
            .iter()
            .map(|span| u64::from_be_bytes(span.id.0))
            .collect();
        let at = self.started.elapsed().as_secs_f64();
        self.seen.lock().unwrap().push((at, numbers.clone()));
        match (self.script.pop_front(), self.then) {
            (Some(Step::Say(answer)), _) => answer,
            (Some(Step::Hang), _) | (None, Then::Hang) => std::future::pending().await,
            (Some(Step::Panic), _) => panic!("as told"),
            (None, Then::Away) => later(None),
            (None, Then::Poison(bad)) if numbers.contains(&bad) => later(None),
            (None, _) => taken(0),
        }
    }
}

fn later(after: Option<u64>) -> Answer {
    Answer::Later {
        after: after.map(Duration::from_secs),
        why: "away".to_owned(),
    }
}

fn taken(rejected: u64) -> Answer {
    Answer::Sent {
        rejected,
        warning: String::new(),
    }
}

struct Bench {
    queue: Queue,
    worker: JoinHandle<()>,
    stats: Arc<Stats>,
    seen: Arc<Mutex<Vec<Seen>>>,
    gone: watch::Receiver<bool>,
}

fn bench(config: config::Export, script: Vec<Step>, then: Then) -> Bench {
    let stats = Arc::new(Stats::default());
    let seen = Arc::default();
    let fake = Fake {
        started: Instant::now(),
        script: script.into(),
        then,
        seen: Arc::clone(&seen),
    };
    let (sender, gone) = watch::channel(false);
    let (queue, worker) = start(fake, &config, &stats, sender);
    Bench {
        queue,
        worker,
        stats,
        seen,
        gone,
    }
}

fn small() -> config::Export {
    config::Export {
        queue_size: 100,
        batch_size: 10,
        ..config::Export::default()
    }
}

impl Bench {
    async fn shutdown(self, bound: Duration) -> (Arc<Stats>, Vec<Seen>) {
        self.queue.close(Instant::now() + bound);
        self.worker.await.unwrap();
        assert_accounted(&self.stats);
        assert_eq!(self.stats.export_queue_depth.get(), 0);
        let seen = self.seen.lock().unwrap().clone();
        (self.stats, seen)
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_span_leaves_within_a_second() {
    let bench = bench(small(), vec![], Then::Take);
    sleep(Duration::from_secs(100)).await;
    bench.queue.push(spans(1, 1));
    sleep(Duration::from_millis(500)).await;
    bench.queue.push(spans(2, 1));
    sleep(Duration::from_secs(100)).await;
    let (stats, seen) = bench.shutdown(Duration::ZERO).await;
    assert_eq!(seen.len(), 1);
    assert!((100.8..101.0).contains(&seen[0].0), "{seen:?}");
    assert_eq!(stats.export_sent.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_shorter_schedule_delay_is_kept() {
    let mut config = small();
    config.schedule_delay = Duration::from_millis(100);
    let bench = bench(config, vec![], Then::Take);
    bench.queue.push(spans(1, 1));
    sleep(Duration::from_secs(1)).await;
    let (_, seen) = bench.shutdown(Duration::ZERO).await;
    assert!((0.1..0.2).contains(&seen[0].0), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_leaves_at_once_and_the_rest_waits() {
    let bench = bench(small(), vec![], Then::Take);
    for first in 1..=9 {
        bench.queue.push(spans(first, 1));
    }
    sleep(Duration::from_millis(100)).await;
    assert!(bench.seen.lock().unwrap().is_empty());
    bench.queue.push(spans(10, 14));
    sleep(Duration::from_millis(100)).await;
    sleep(Duration::from_secs(2)).await;
    let (_, seen) = bench.shutdown(Duration::ZERO).await;
    let shape: Vec<_> = seen
        .iter()
        .map(|(at, spans)| (*at >= 1.0, spans.len()))
        .collect();
    assert_eq!(shape, [(false, 10), (false, 10), (true, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_loses_its_oldest() {
    let bench = bench(small(), vec![Step::Hang], Then::Take);
    bench.queue.push(spans(1, 10));
    sleep(Duration::from_millis(1)).await;
    // Ten are on their way; of these 130 the newest hundred stay.
    bench.queue.push(spans(11, 80));
    bench.queue.push(spans(91, 50));
    assert_eq!(bench.stats.export_dropped_full.get(), 30);
    assert_eq!(bench.stats.export_queue_depth.get(), 110);
    // More than fits, at once.
    bench.queue.push(spans(141, 250));
    assert_eq!(bench.stats.export_dropped_full.get(), 280);
    assert_accounted(&bench.stats);
    let (stats, _) = bench.shutdown(Duration::from_secs(5)).await;
    assert_eq!(stats.export_dropped_shutdown.get(), 110);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_the_receiver_is_away() {
    let bench = bench(small(), vec![Step::Say(later(None)); 30], Then::Take);
    for first in (1..=100).step_by(5) {
        bench.queue.push(spans(first, 5));
        sleep(Duration::from_secs(2)).await;
    }
    assert!(bench.stats.export_retries.get() >= 8);
    sleep(Duration::from_secs(300)).await;
    let (stats, seen) = bench.shutdown(Duration::ZERO).await;
    assert_eq!(stats.export_sent.get(), 100);
    assert_eq!(stats.export_retries.get(), 30);
    // Back-off: no storm at first, no pause over five seconds later.
    for pair in seen[..30].windows(2).filter(|pair| pair[0].1 == pair[1].1) {
        let pause = pair[1].0 - pair[0].0;
        assert!((0.12..=5.1).contains(&pause), "{pause} in {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_receiver_may_say_when() {
    let script = vec![
        Step::Say(later(Some(20))),
        Step::Say(later(Some(86_400))),
        Step::Say(later(Some(0))),
    ];
    let bench = bench(small(), script, Then::Take);
    bench.queue.push(spans(1, 10));
    sleep(Duration::from_secs(100)).await;
    let (_, seen) = bench.shutdown(Duration::ZERO).await;
    let at: Vec<_> = seen.iter().map(|(at, _)| *at).collect();
    assert!((20.0..21.0).contains(&at[1]), "{at:?}");
    assert!((50.0..52.0).contains(&at[2]), "capped: {at:?}");
    assert!((0.1..3.0).contains(&(at[3] - at[2])), "not at once: {at:?}");
}

#[tokio::test(start_paused = true)]
async fn a_poison_batch_does_not_block_the_others() {
    let bench = bench(small(), vec![], Then::Poison(3));
    bench.queue.push(spans(1, 50));
    sleep(Duration::from_secs(200)).await;
    assert_eq!(bench.stats.export_sent.get(), 40);
    bench.queue.push(spans(51, 40));
    sleep(Duration::from_secs(200)).await;
    assert_eq!(bench.stats.export_sent.get(), 80);
    assert_eq!(bench.stats.export_queue_depth.get(), 10);
    let started = Instant::now();
    let (stats, _) = bench.shutdown(Duration::from_secs(30)).await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(stats.export_dropped_shutdown.get(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_gives_way_finds_no_room() {
    let bench = bench(small(), vec![], Then::Away);
    bench.queue.push(spans(1, 10));
    sleep(Duration::from_millis(1)).await;
    bench.queue.push(spans(11, 96));
    sleep(Duration::from_secs(36)).await;
    // 1 to 6 were the oldest.
    assert_eq!(bench.stats.export_dropped_full.get(), 6);
    assert_accounted(&bench.stats);
    let (stats, _) = bench.shutdown(Duration::ZERO).await;
    assert_eq!(stats.export_dropped_shutdown.get(), 100);
}

#[tokio::test(start_paused = true)]
async fn refused_failed_and_rejected_are_counted_and_passed_over() {
    let script = vec![
        Step::Say(Answer::Refused("400".to_owned())),
        Step::Say(Answer::Failed("gzip".to_owned())),
        Step::Say(taken(4)),
        Step::Say(taken(u64::MAX)),
    ];
    let bench = bench(small(), script, Then::Take);
    bench.queue.push(spans(1, 50));
    sleep(Duration::from_secs(1)).await;
    let (stats, _) = bench.shutdown(Duration::ZERO).await;
    assert_eq!(stats.export_failed_refused.get(), 10);
    assert_eq!(stats.export_failed_local.get(), 10);
    assert_eq!(stats.export_rejected.get(), 14);
    assert_eq!(stats.export_sent.get(), 16);
    assert_eq!(stats.export_retries.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn shutdown_flushes_what_waits() {
    let bench = bench(small(), vec![Step::Say(later(Some(3)))], Then::Take);
    bench.queue.push(spans(1, 35));
    sleep(Duration::from_millis(1)).await;
    let queue = bench.queue.clone();
    let stats = Arc::clone(&bench.stats);
    let (_, seen) = bench.shutdown(Duration::from_secs(5)).await;
    assert_eq!(stats.export_sent.get(), 35);
    assert!(
        seen.last().unwrap().0 < 0.1,
        "does not sit out the pause: {seen:?}"
    );
    queue.push(spans(36, 2));
    assert_eq!(stats.export_dropped_shutdown.get(), 2);
    assert_accounted(&stats);
}

#[tokio::test(start_paused = true)]
async fn shutdown_is_bounded() {
    let hung = bench(small(), vec![], Then::Hang);
    hung.queue.push(spans(1, 35));
    let started = Instant::now();
    let (stats, _) = hung.shutdown(Duration::from_secs(5)).await;
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(stats.export_dropped_shutdown.get(), 35);
    let away = bench(small(), vec![], Then::Away);
    away.queue.push(spans(1, 35));
    let started = Instant::now();
    let (stats, seen) = away.shutdown(Duration::from_secs(60)).await;
    assert!(
        started.elapsed().as_secs() < 2,
        "an absent receiver does not delay the exit"
    );
    assert_eq!(seen.len(), 3);
    assert_eq!(stats.export_dropped_shutdown.get(), 35);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_gone_is_said_so() {
    let mut bench = bench(small(), vec![Step::Say(Answer::Gone)], Then::Take);
    bench.queue.push(spans(1, 10));
    bench.gone.wait_for(|gone| *gone).await.unwrap();
    let (stats, _) = bench.shutdown(Duration::ZERO).await;
    assert_eq!(stats.export_failed_local.get(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_panics_is_gone_and_its_spans_are_counted() {
    let mut bench = bench(small(), vec![Step::Panic], Then::Take);
    bench.queue.push(spans(1, 25));
    bench.gone.wait_for(|gone| *gone).await.unwrap();
    bench.queue.push(spans(26, 5));
    let (stats, seen) = bench.shutdown(Duration::ZERO).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(stats.export_failed_local.get(), 25);
    assert_eq!(stats.export_dropped_shutdown.get(), 5);
}

#[test]
fn many_producers() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let bench = {
        let _context = runtime.enter();
        bench(small(), vec![], Then::Take)
    };
    let producers: Vec<_> = (0..4)
        .map(|_| {
            let queue = bench.queue.clone();
            std::thread::spawn(move || {
                for first in 0..500 {
                    queue.push(spans(first, 1 + first % 7));
                }
            })
        })
        .collect();
    for producer in producers {
        producer.join().unwrap();
    }
    let made: u64 = 4 * (0..500).map(|first| 1 + first % 7).sum::<u64>();
    let (stats, _) = runtime.block_on(bench.shutdown(Duration::from_secs(60)));
    assert_eq!(stats.export_queued.get(), made);
    assert_eq!(
        stats.export_sent.get() + stats.export_dropped_full.get(),
        made
    );
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Say(taken(0))),
        2 => (0_u64..20).prop_map(|rejected| Step::Say(taken(rejected))),
        4 => proptest::option::of(0_u64..40).prop_map(|after| Step::Say(later(after))),
        2 => Just(Step::Say(Answer::Refused("no".to_owned()))),
        1 => Just(Step::Say(Answer::Failed("no".to_owned()))),
        1 => Just(Step::Say(Answer::Gone)),
        1 => Just(Step::Hang),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_span_is_accounted_for(
        script in proptest::collection::vec(step(), 0..30),
        pushes in proptest::collection::vec((0_u64..60, 0_u64..20_000), 1..30),
        sizes in (1_usize..80, 1_usize..80),
        bound in 0_u64..10,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let config = config::Export {
                queue_size: sizes.0,
                batch_size: sizes.1,
                ..config::Export::default()
            };
            let bench = bench(config, script, Then::Take);
            let mut made = 0;
            for (count, pause) in pushes {
                bench.queue.push(spans(made, count));
                made += count;
                assert_accounted(&bench.stats);
                sleep(Duration::from_millis(pause)).await;
                assert_accounted(&bench.stats);
            }
            let (stats, _) = bench.shutdown(Duration::from_secs(bound)).await;
            assert_eq!(stats.export_queued.get(), made);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_tells_how_it_stands() {
    let bench = bench(small(), vec![Step::Say(later(None)); 9], Then::Take);
    let stands = |bench: &Bench| {
        let standing = bench.queue.standing();
        (standing.waiting, standing.away.is_some(), standing.full)
    };
    assert_eq!(bench.queue.standing().name, "test");
    assert_eq!(stands(&bench), (0, false, None));
    bench.queue.push(spans(1, 10));
    sleep(Duration::from_secs(1)).await;
    // There is room for what waits for it.
    assert_eq!(stands(&bench), (0, true, None));
    bench.queue.push(spans(11, 100));
    assert_eq!(stands(&bench), (100, true, None));
    bench.queue.push(spans(111, 1));
    sleep(Duration::from_secs(3)).await;
    bench.queue.push(spans(112, 1));
    let full = Some(Duration::from_secs(3));
    assert_eq!(stands(&bench), (100, true, full));
    assert_eq!(bench.queue.standing().away, Some(Duration::from_secs(4)));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(stands(&bench), (0, false, None));
    let (stats, _) = bench.shutdown(Duration::ZERO).await;
    assert_eq!(stats.export_dropped_full.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_refuses_is_there() {
    let refusal = Step::Say(Answer::Refused("no".into()));
    let script = vec![Step::Say(later(None)), refusal, Step::Hang];
    let bench = bench(small(), script, Then::Take);
    bench.queue.push(spans(1, 10));
    sleep(Duration::from_millis(1)).await;
    assert!(bench.queue.standing().away.is_some());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(bench.queue.standing().away, None);
    // As long as more than half of it is full, what comes next may be dropped again.
    bench.queue.push(spans(11, 10));
    sleep(Duration::from_millis(1)).await;
    bench.queue.push(spans(21, 101));
    assert!(bench.queue.standing().full.is_some());
    bench.shutdown(Duration::ZERO).await;
}
