//! What a reader tells the weaver and the kernel side, with a ring of the test's own.

use super::*;
use crate::config::{Config, Selection};
use crate::event::ConnectionId;
use crate::exchange::Outcome;
use crate::target::fixture::Proc;
use crate::target::{Processes, Targets};
use agent_ebpf::abi::{AsyncIds, Contexts, Goroutines, Jvm, Streams};

/// Records by drain; the reader is told to stop with the last of them.
struct Script<'a> {
    shared: &'a Shared,
    steps: Vec<Step<'a>>,
}

/// What one drain does; it is given where records go.
type Step<'a> = Box<dyn FnOnce(&mut dyn FnMut(&[u8])) + 'a>;

impl Source for Script<'_> {
    fn drain(&mut self, _: u64, mut take: impl FnMut(&[u8])) -> u64 {
        if self.steps.is_empty() {
            self.shared.stop.store(true, Ordering::Release);
        } else {
            self.steps.remove(0)(&mut take);
        }
        0
    }

    fn idle(&self) -> bool {
        self.steps.len() == 1
    }

    fn wait(&mut self, _: Duration, _: Duration) -> Result<()> {
        std::thread::sleep(Duration::from_millis(2));
        Ok(())
    }
}

/// What the kernel side was told, in order.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn push(&self, text: String) -> Result<()> {
        self.0.lock().unwrap().push(text);
        Ok(())
    }
}

impl Orders for Told {
    fn judge(&self, process: u32, traced: bool) -> Result<()> {
        self.push(format!("{process} {traced}"))
    }

    fn forget(&self, process: u32) -> Result<()> {
        self.push(format!("{process} gone"))
    }

    fn leave(&self, processes: &HashSet<u32>) -> Result<()> {
        processes
            .iter()
            .try_for_each(|process| self.push(format!("{process} left")))
    }

    fn goroutines(&self, process: u32, layout: Goroutines) -> Result<()> {
        self.push(format!("{process} {layout:?}"))
    }

    fn streams(&self, process: u32, layout: Streams) -> Result<()> {
        self.push(format!("{process} {layout:?}"))
    }

    fn contexts(&self, _: u32, _: Contexts) -> Result<()> {
        Ok(())
    }

    fn no_contexts(&self, process: u32) -> Result<()> {
        self.push(format!("{process} has no contexts"))
    }

    fn threads(&self, _: u32, _: bool) -> Result<()> {
        Ok(())
    }

    fn turns(&self, _: u32) -> Result<()> {
        Ok(())
    }

    fn serves_unseen(&self, process: u32) -> Result<()> {
        self.push(format!("{process} serves unseen"))
    }

    fn async_ids(&self, process: u32, layout: AsyncIds) -> Result<()> {
        self.push(format!("{process} {layout:?}"))
    }

    fn jvm(&self, process: u32, _: Jvm) -> Result<()> {
        self.push(format!("{process} is a JVM"))
    }

    fn mute(&self, connection: ConnectionId) -> Result<()> {
        self.push(format!("mute {}", connection.0))
    }

    fn reintroduce(&self, connection: ConnectionId) -> Result<()> {
        self.push(format!("introduce {}", connection.0))
    }

    fn copy_whole(&self, connection: ConnectionId, whole: bool) -> Result<()> {
        self.push(format!("whole {} {whole}", connection.0))
    }
}

struct Bench {
    shared: Shared,
    config: Arc<Config>,
    mailbox: Mailbox,
}

impl Bench {
    fn new(selection: &Selection) -> Self {
        let proc = Proc::make();
        let stats = Arc::new(Stats::default());
        let processes = Arc::new(Processes::new(proc.root.clone(), Arc::clone(&stats)));
        let targets = Targets::new(Arc::clone(&processes), selection, None, Arc::clone(&stats));
        let config = Arc::new(Config::default());
        let told = Arc::new(Told::default());
        Self {
            shared: Shared {
                control: Arc::clone(&told) as _,
                targets: Arc::new(targets),
                cluster: None,
                resources: Resources::new(processes, &config, None, Arc::clone(&stats)),
                stats,
                stop: AtomicBool::new(false),
                interval: config.capture.drain,
                share: 1.0,
                generation: AtomicU64::new(0),
                failure: Failure::default(),
                health: Arc::default(),
                hot: AtomicBool::new(false),
                changed: Notify::new(),
                arrivals: Mutex::default(),
                probing: Queue::default(),
                tls: true,
                goroutines: true,
                asyncio: true,
                followed: Followed::new(true),
                node: true,
                jvm: true,
                collector: Collector::default(),
                encrypted: Arc::default(),
                unknown: Arc::default(),
            },
            config,
            mailbox: Mailbox::one_of(1),
        }
    }

    fn run<'a>(&'a self, steps: Vec<Step<'a>>) {
        let shard = Shard::new(
            0,
            16,
            Arc::clone(&self.config),
            Arc::clone(&self.shared.stats),
        );
        let script = Script {
            shared: &self.shared,
            steps,
        };
        let weaver = std::thread::current();
        run(script, shard, &self.shared, &self.mailbox, &weaver).expect("it ends");
    }
}

/// A record as the kernel side makes it: `fields` at their offsets.
fn record(length: usize, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut record = vec![0; length];
    for &(at, bytes) in fields {
        record[at..at + bytes.len()].copy_from_slice(bytes);
    }
    record
}

fn open(process: u32) -> Vec<u8> {
    use agent_ebpf::abi::{AF_INET, Kind, Open};
    record(
        size_of::<Open>(),
        &[
            (0, &(Kind::Open as u32).to_ne_bytes()),
            (std::mem::offset_of!(Open, connection), &7u64.to_ne_bytes()),
            (std::mem::offset_of!(Open, tgid), &process.to_ne_bytes()),
            (std::mem::offset_of!(Open, family), &AF_INET.to_ne_bytes()),
        ],
    )
}

fn request(process: u32) -> Vec<u8> {
    use agent_ebpf::abi::{INGRESS, Kind, Segment, flag};
    const ASK: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    let length = u32::try_from(ASK.len()).unwrap().to_ne_bytes();
    let head = size_of::<Segment>();
    record(
        head + ASK.len(),
        &[
            (0, &(Kind::Segment as u32).to_ne_bytes()),
            (std::mem::offset_of!(Segment, direction), &[INGRESS]),
            (std::mem::offset_of!(Segment, flags), &[flag::TURN]),
            (
                std::mem::offset_of!(Segment, connection),
                &7u64.to_ne_bytes(),
            ),
            (
                std::mem::offset_of!(Segment, time),
                &clock::monotonic().to_ne_bytes(),
            ),
            (std::mem::offset_of!(Segment, length), &length),
            (std::mem::offset_of!(Segment, captured), &length),
            (std::mem::offset_of!(Segment, tgid), &process.to_ne_bytes()),
            (head, ASK),
        ],
    )
}

#[test]
fn what_is_under_way_at_the_end_is_given_out() {
    let bench = Bench::new(&Selection::default());
    bench.run(vec![Box::new(|take| {
        take(&open(9));
        take(&request(9));
    })]);
    let mut facts = Vec::new();
    bench.mailbox.take(&mut facts);
    let [Fact::Opened(_), Fact::Closed(exchange)] = &facts[..] else {
        panic!("{facts:?}");
    };
    assert_eq!(exchange.outcome, Outcome::Abandoned);
}

#[test]
fn what_is_being_read_is_not_yet_said_to_be_known() {
    let bench = Bench::new(&Selection::default());
    let progress = || bench.mailbox.progress(clock::monotonic());
    let last = std::cell::Cell::new(0);
    let read = |slept: bool| -> Step<'_> {
        let (progress, last) = (&progress, &last);
        Box::new(move |_| {
            let begin = clock::monotonic();
            // As where an executable is read meanwhile: longer than a wake-up takes.
            std::thread::sleep(Duration::from_millis(30));
            // While it slept all was known but what was on its way.
            let asleep = if slept { begin - 20_000_000 } else { 0 };
            assert!(progress() <= asleep.max(last.replace(begin)));
        })
    };
    // In turn after a pause, and after a sleep.
    bench.run(vec![read(false), read(false), read(false), read(true)]);
    assert!(progress() > last.get());
}
