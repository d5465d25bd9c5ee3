//! Requests that one thread reads and another serves, as in Puma: its reactor reads the heads of connections
//! that are kept, and the threads of its pool take what is read, one at a time. Nothing says which thread took
//! what, until it answers: what it called for since it answered the last before, it called for this.
//!
//! That holds where threads do one thing after the other and nothing else, which Ruby's servers are known for,
//! and shows where it does not. So a call is a child of the request that its thread answers next, where
//!
//! - the thread read the call's answer itself, before it answered the request,
//! - the request was read when the thread had answered the one before, and before the call,
//! - who read the request is the thread itself, or one that neither calls nor answers.
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
}

/// All such processes.
#[derive(Debug, Default)]
pub(super) struct Answers(HashMap<u32, Process>);

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

impl Answers {
    /// What was known of a process is void.
    pub fn forget(&mut self, process: u32) {
        self.0.remove(&process);
    }

    /// Whether the threads of a process may be believed to serve what they answer.
    pub fn has(&self, process: u32) -> bool {
        self.0.get(&process).is_some_and(|process| !process.off)
    }

    /// An exchange begins.
    pub fn begin(&mut self, handle: Handle, entry: &Entry) {
        let (Some(process), Some(Unit::Thread(id))) = (self.0.get_mut(&entry.process), entry.unit)
        else {
            return;
        };
        if process.threads.len() >= MOST_THREADS {
            process.off = true;
            return;
        }
        let thread = process.threads.entry(id).or_default();
        if entry.role == Role::Client {
            thread.calls = true;
            return;
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
    }

    /// It is over.
    pub fn end(&mut self, handle: Handle, entry: &Entry) {
        let (Some(process), Some(Unit::Thread(reader)), Role::Server) =
            (self.0.get_mut(&entry.process), entry.unit, entry.role)
        else {
            return;
        };
        let exchange = entry.exchange.as_deref();
        let first = exchange.and_then(|exchange| exchange.response_start);
        let last = exchange.and_then(|exchange| Some(exchange.response_end?.0));
        let until = last.map_or(entry.end, |mark| mark.time);
        let start = first.map_or(until, |mark| mark.time);
        let mut own = process.threads.get_mut(&reader);
        let read = own.as_mut().map(|thread| &mut thread.read);
        if let Some(one) = read.and_then(|read| read.iter_mut().find(|one| one.handle == handle)) {
            (one.start, one.until) = (start, until);
        }
        let (Some(first), Some(last)) = (first, last) else {
            return;
        };
        let by = first.execution.thread;
        // Where several threads answer one request, none of them is who serves it.
        process.off |= by != last.execution.thread || by == 0;
        let thread = process.threads.entry(by).or_default();
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
    }

    /// What a call was made for, where all is known up to `known`.
    fn of(&self, call: &Entry, known: Nanos) -> Seen {
        let (Some(process), Some(Unit::Thread(id))) = (self.0.get(&call.process), call.unit) else {
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
        let since = before.unwrap_or(0);
        let forgotten = before.is_none() && answered.len() >= MOST;
        if call.start < next.from || next.from < since || forgotten {
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
        if !self.settings.thread || self.answers.0.len() >= self.settings.capacity {
            return;
        }
        self.answers.0.insert(process, Process::default());
        for (handle, entry) in self.table.iter() {
            if entry.process == process {
                self.answers.begin(handle, entry);
                if entry.end != OPEN {
                    self.answers.end(handle, entry);
                }
            }
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
                if let Some(process) = self.answers.0.get_mut(&process) {
                    process.off = true;
                    process.threads.clear();
                }
                self.stats.trace_answers_off.add(1);
                self.epoch = self.epoch.wrapping_add(1);
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
/// Most requests that are remembered of one thread.
const MOST: usize = 64;
/// Most threads of a process.
const MOST_THREADS: usize = 4096;
