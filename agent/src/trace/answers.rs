//! Requests that one thread reads and another serves, as in Puma: its reactor reads the heads of connections
//! that are kept, and the threads of its pool take what is read, one at a time. Nothing says which thread took
//! what, until it answers: what it called for since it answered the last before, it called for this.
//!
//! That holds where threads do one thing after the other and nothing else, which Ruby's servers are known for,
//! and shows where it does not. So a call is a child of the request that its thread answers next, where
//!
//! - the thread read the call's answer itself, before it answered the request,
//! - the request was read when the thread had answered the one before, and before the call,
//! - who read the request is the thread itself, or one that neither calls nor answers,
//! - no other was served meanwhile of which is not known who answered: who gave up has no answer, a
//!   WebSocket goes on.
//!
//! No thread of a process is believed again of which one answered while another that it had read was not
//! answered (fibers), which called behind an answer, or whose reader does more than read.

use std::collections::VecDeque;

use foldhash::HashMap;

use super::Method;
use super::descent::Cause;
use super::linker::Linker;
use super::table::{Entry, Handle};
use super::units::{OPEN, Unit};
use crate::event::{Nanos, Role};

/// One request, as a thread read or answered it.
#[derive(Clone, Copy, Debug)]
struct Request {
    handle: Handle,
    /// Who read its head, and when.
    reader: u32,
    from: Nanos,
    /// When its answer began and ended; [`OPEN`] until then.
    start: Nanos,
    until: Nanos,
}

/// What a thread does.
#[derive(Debug, Default)]
struct Thread {
    read: VecDeque<Request>,
    answered: VecDeque<Request>,
    answers: bool,
    calls: bool,
}

/// A process whose threads may take what others have read.
#[derive(Debug, Default)]
struct Process {
    /// Whether it does otherwise.
    off: bool,
    threads: HashMap<u32, Thread>,
    /// How many threads there are when those that do nothing are forgotten next.
    full: usize,
    /// Requests of which is not known who served them, from when to when.
    unsure: VecDeque<(Handle, Nanos, Nanos)>,
    /// Which of those that had this number it is.
    program: u64,
}

/// All such processes.
#[derive(Debug, Default)]
pub(super) struct Answers {
    processes: HashMap<u32, Process>,
    /// Those that are over, and from when on they are void.
    gone: VecDeque<(Nanos, u32, u64)>,
    programs: u64,
}

/// For whom a call was made.
pub(super) enum Answered {
    /// This one.
    For(Cause),
    /// Its thread has not answered yet.
    Pending,
    /// Nobody knows.
    Unknown,
}

/// What a process was seen to do.
enum Seen {
    For(Handle),
    Pending,
    Unknown,
    /// What those do not whose threads are believed.
    Otherwise,
}

impl Process {
    /// A thread's; none where there are too many.
    fn thread(&mut self, id: u32, now: Nanos) -> Option<&mut Thread> {
        if self.threads.len() >= self.full.max(FEW_THREADS) {
            let recent = now.saturating_sub(AFTER);
            self.threads.retain(|_, thread| thread.is_at_work(recent));
            self.full = self.threads.len().saturating_mul(2);
        }
        if self.threads.len() >= MOST_THREADS {
            return None;
        }
        Some(self.threads.entry(id).or_default())
    }

    /// What one has read is answered.
    fn answered(&mut self, handle: Handle, reader: Option<Unit>, start: Nanos, until: Nanos) {
        if let Some(Unit::Thread(reader)) = reader
            && let Some(own) = self.threads.get_mut(&reader)
            && let Some(one) = own.read.iter_mut().find(|one| one.handle == handle)
        {
            (one.start, one.until) = (start, until);
        }
    }

    /// Who serves this is not known; true if there is no room for it.
    fn doubt(&mut self, handle: Handle, from: Nanos, until: Nanos) -> bool {
        if let Some(known) = self.unsure.iter_mut().find(|known| known.0 == handle) {
            known.2 = until;
            return false;
        }
        let over = |known: &(Handle, Nanos, Nanos)| known.2.saturating_add(AFTER) < from;
        while self.unsure.front().is_some_and(over) {
            self.unsure.pop_front();
        }
        self.unsure.push_back((handle, from, until));
        self.unsure.len() > MOST_UNSURE
    }
}

impl Thread {
    /// Whether it has read what is open, or did anything since.
    fn is_at_work(&self, since: Nanos) -> bool {
        let mut all = self.read.iter().chain(&self.answered);
        all.any(|one| one.until >= since)
    }
}

impl Answers {
    /// What is known of a process is void from then on.
    pub fn forget(&mut self, process: u32, when: Nanos) {
        if let Some(known) = self.processes.get(&process) {
            self.gone.push_back((when, process, known.program));
        }
    }

    /// Forgets those that are over.
    pub fn sweep(&mut self, now: Nanos) {
        while let Some((when, process, program)) = self.gone.front().copied()
            && when <= now
        {
            self.gone.pop_front();
            let known = self.processes.get(&process);
            if known.is_some_and(|known| known.program == program) {
                self.processes.remove(&process);
            }
        }
    }

    /// Whether the threads of a process may be believed to serve what they answer.
    pub fn has(&self, process: u32) -> bool {
        self.processes
            .get(&process)
            .is_some_and(|process| !process.off)
    }

    fn believed(&mut self, process: u32) -> Option<&mut Process> {
        let process = self.processes.get_mut(&process)?;
        (!process.off).then_some(process)
    }

    /// An exchange begins; true if nothing can be said of its process any more.
    pub fn begin(&mut self, handle: Handle, entry: &Entry) -> bool {
        let (Some(process), Some(Unit::Thread(id))) = (self.believed(entry.process), entry.unit)
        else {
            return false;
        };
        let Some(thread) = process.thread(id, entry.start) else {
            return true;
        };
        if entry.role == Role::Client {
            thread.calls = true;
            return false;
        }
        keep(
            &mut thread.read,
            Request {
                handle,
                reader: id,
                from: entry.from,
                start: OPEN,
                until: OPEN,
            },
        );
        false
    }

    /// It is over; true as above.
    pub fn end(&mut self, handle: Handle, entry: &Entry) -> bool {
        let (Some(process), Role::Server) = (self.believed(entry.process), entry.role) else {
            return false;
        };
        let exchange = entry.exchange.as_deref();
        let first = exchange.and_then(|exchange| exchange.response_start);
        let last = exchange.and_then(|exchange| Some(exchange.response_end?.0));
        let until = last.map_or(entry.end, |mark| mark.time);
        let start = first.map_or(until, |mark| mark.time);
        if !entry.detached {
            process.answered(handle, entry.unit, start, until);
        }
        let (Some(Unit::Thread(reader)), Some(first), Some(last), false) =
            (entry.unit, first, last, entry.detached)
        else {
            return process.doubt(handle, entry.from, entry.end.saturating_add(AFTER));
        };
        let by = first.execution.thread;
        // Where several threads answer one request, none of them is who serves it.
        if by != last.execution.thread || by == 0 {
            return true;
        }
        let Some(thread) = process.thread(by, until) else {
            return true;
        };
        thread.answers = true;
        let from = entry.from;
        let one = Request {
            handle,
            reader,
            from,
            start,
            until,
        };
        keep(&mut thread.answered, one);
        false
    }

    /// It goes on without its thread; true as above.
    pub fn detach(&mut self, handle: Handle, entry: &Entry, at: Nanos) -> bool {
        let (Some(process), Role::Server) = (self.believed(entry.process), entry.role) else {
            return false;
        };
        process.answered(handle, entry.unit, at, at);
        process.doubt(handle, entry.from, OPEN)
    }

    /// What a call was made for, where all is known up to `known`.
    fn of(&self, call: &Entry, known: Nanos) -> Seen {
        let (Some(process), Some(Unit::Thread(id))) =
            (self.processes.get(&call.process), call.unit)
        else {
            return Seen::Unknown;
        };
        let own = |mark: crate::connection::Mark| mark.execution.thread == id;
        let answer = call.exchange.as_ref().map(|call| call.response_start);
        match answer {
            _ if process.off => return Seen::Unknown,
            None => return Seen::Pending,
            Some(answer) if !answer.is_some_and(own) => return Seen::Unknown,
            Some(_) if call.end > known => return Seen::Pending,
            Some(_) => {}
        }
        let thread = process.threads.get(&id);
        let answered = thread.map_or(&EMPTY, |thread| &thread.answered);
        let later = answered.iter().filter(|one| one.start >= call.answered);
        let next = later.min_by_key(|one| one.start);
        let Some(next) = next.filter(|one| one.until <= known) else {
            let open = |one: &Request| one.from <= call.start && one.until > call.answered;
            let then = |one: &Request| one.from <= call.start && one.until > call.start;
            let any = |which: &dyn Fn(&Request) -> bool| {
                let mut all = process.threads.values();
                all.any(|thread| thread.read.iter().any(which))
            };
            return match thread.is_some_and(|thread| thread.answers) {
                _ if any(&open) => Seen::Pending,
                // It serves, and there was nothing to be served.
                true if !any(&then) => Seen::Otherwise,
                _ => Seen::Unknown,
            };
        };
        let before = answered.iter().filter(|one| one.start < next.start);
        let before = before.map(|one| one.until).max();
        if call.start < next.from && before.is_some_and(|before| before <= call.start) {
            return Seen::Otherwise;
        }
        // What a thread serves that has not answered yet may have come before anybody looked.
        if call.start < next.from || before.is_none_or(|before| next.from < before) {
            return Seen::Unknown;
        }
        let mut unsure = process.unsure.iter();
        if unsure.any(|(_, from, until)| (*from..=*until).contains(&call.start)) {
            return Seen::Unknown;
        }
        let reads = thread.into_iter().flat_map(|thread| &thread.read);
        let meanwhile = |one: &&Request| {
            one.handle != next.handle && one.from < next.start && one.until > next.start
        };
        let reader = process.threads.get(&next.reader);
        let only_reads = reader.is_some_and(|reader| !reader.calls && !reader.answers);
        match reads.filter(meanwhile).count() == 0 && (next.reader == id || only_reads) {
            true => Seen::For(next.handle),
            false => Seen::Otherwise,
        }
    }
}

impl Linker {
    /// `process` is one whose threads serve what they answer, whoever has read it.
    pub fn takes_over(&mut self, process: u32) {
        let answers = &mut self.answers;
        if !self.settings.thread || answers.processes.len() >= self.settings.capacity {
            return;
        }
        answers.programs += 1;
        let program = answers.programs;
        let known = Process {
            program,
            ..Process::default()
        };
        answers.processes.insert(process, known);
        let mut off = false;
        for (handle, entry) in self.table.iter().filter(|(_, e)| e.process == process) {
            off |= answers.begin(handle, entry);
            if entry.end != OPEN {
                off |= answers.end(handle, entry);
            }
        }
        if off {
            self.answers_off(process);
        }
    }

    /// An exchange begins.
    pub(super) fn answers_begin(&mut self, handle: Handle) {
        if let Some(entry) = self.table.get(handle)
            && self.answers.begin(handle, entry)
        {
            self.answers_off(entry.process);
        }
    }

    /// An exchange is over.
    pub(super) fn answers_end(&mut self, handle: Handle) {
        if let Some(entry) = self.table.get(handle)
            && entry.end != OPEN
            && self.answers.end(handle, entry)
        {
            self.answers_off(entry.process);
        }
    }

    /// An exchange goes on without its thread.
    pub(super) fn answers_detach(&mut self, handle: Handle, at: Nanos) {
        if let Some(entry) = self.table.get(handle)
            && self.answers.detach(handle, entry, at)
        {
            self.answers_off(entry.process);
        }
    }

    /// The threads of `process` are not believed to serve what they answer any more.
    pub(super) fn answers_off(&mut self, process: u32) {
        if let Some(known) = self.answers.believed(process) {
            known.off = true;
            known.threads.clear();
            known.unsure.clear();
            self.stats.trace_answers_off.add(1);
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    /// What the thread answered next that made a call.
    pub(super) fn by_answer(&mut self, handle: Handle) -> Answered {
        let Some(call) = self.table.get(handle) else {
            return Answered::Unknown;
        };
        let known = self.watermark.saturating_sub(self.settings.settle);
        match self.answers.of(call, known) {
            Seen::For(serving) => Answered::For(Cause {
                serving,
                method: Method::Answer,
                descended: false,
            }),
            Seen::Pending => Answered::Pending,
            Seen::Unknown => Answered::Unknown,
            Seen::Otherwise => {
                let process = call.process;
                self.answers_off(process);
                Answered::Unknown
            }
        }
    }
}

/// Adds one, and forgets the first that is over where there are too many.
fn keep(of: &mut VecDeque<Request>, one: Request) {
    of.push_back(one);
    if of.len() > MOST {
        let over = of.iter().position(|one| one.until != OPEN).unwrap_or(0);
        of.remove(over);
    }
}

static EMPTY: VecDeque<Request> = VecDeque::new();
/// How long is waited for what a thread answers next, nanoseconds.
pub(super) const ANSWERED: Nanos = 2_000_000_000;
/// Most requests that are remembered of one thread.
const MOST: usize = 64;
/// So many threads of a process are kept even if they do nothing,
const FEW_THREADS: usize = 64;
/// and so many that do something.
const MOST_THREADS: usize = 1024;
/// Most requests of a process at a time of which is not known who serves them.
const MOST_UNSURE: usize = 256;
/// How long a thread may go on with a request that has no answer, nanoseconds.
const AFTER: Nanos = 2_000_000_000;
