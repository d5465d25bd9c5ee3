//! Looks at files on behalf of all: a thread, and a process of its own that it asks. A file system
//! that never answers stops that process alone, and for good: a thread stuck in the kernel could not
//! even be killed, and neither could the agent it belongs to. A process that is stuck is killed and
//! left behind; where it looked nobody looks again until it is gone, and with too many of them
//! nothing is looked at.

use std::ffi::CStr;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::privilege;
use super::reader::Shared;
use crate::resource::look::{Answer, Looker, Question};
use crate::say::say;
use crate::target::PROC;
use crate::target::process::inode;

/// The thread's loop; returns when all is over.
pub fn run(shared: &Shared) {
    let mut clerk = Clerk::new(inode(&Path::new(PROC).join("self/ns/mnt")), start);
    let mut said = false;
    while !shared.stop.load(Ordering::Acquire) {
        if let Some(snapshot) = shared.resources.next(NAP) {
            let answer = clerk.ask(&Question::about(&snapshot));
            shared.resources.answer(&snapshot, answer);
            if !clerk.stuck.is_empty() && !std::mem::replace(&mut said, true) {
                say(format_args!(
                    "the files of process {} do not answer: spans of processes like it \
                     lack owner and runtime (resource.late counts them)",
                    snapshot.pid
                ));
            }
        }
    }
}

/// Whether this process was started to look at files.
pub fn is_meant() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// What that process does: answers until nobody asks any more.
pub fn work() -> ExitCode {
    privilege::keep_or_go_on(privilege::PROCESSES);
    // For those who list processes; without it the name is that of the link it was started by.
    let _ = rustix::thread::set_name(COMM);
    let mut looker = Looker::new(PROC);
    // Whoever asked being gone is the end, not a failure.
    let _ = serve(io::stdin().lock(), io::stdout().lock(), |question| {
        looker.answer(question)
    });
    ExitCode::SUCCESS
}

fn serve(
    mut from: impl io::Read,
    mut to: impl io::Write,
    mut answer: impl FnMut(Question) -> Answer,
) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let mut question = vec![0; usize::try_from(u32::from_ne_bytes(length)).unwrap_or(0)];
        from.read_exact(&mut question)?;
        let answer = answer(serde_json::from_slice(&question)?);
        to.write_all(&framed(&serde_json::to_vec(&answer)?))?;
        to.flush()?;
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(0);
    [&length.to_ne_bytes(), message].concat()
}

fn start() -> io::Result<Child> {
    Command::new(Path::new(PROC).join("self/exe"))
        .arg0(NAME)
        .env_clear()
        .current_dir("/")
        // What a terminal sends to the agent is not for it.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// Asks one process at a time.
struct Clerk<S> {
    start: S,
    office: Option<Office>,
    /// Those that did not answer, and where they looked.
    stuck: Vec<(Child, Place)>,
    own_mount: u64,
    /// No other is started before.
    not_before: Option<Instant>,
}

/// Another mount namespace, as its own files may be what does not answer; in the agent's one program.
type Place = (u64, Option<Box<str>>);

struct Office {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl<S: FnMut() -> io::Result<Child>> Clerk<S> {
    fn new(own_mount: u64, start: S) -> Self {
        Self {
            own_mount,
            start,
            office: None,
            stuck: Vec::new(),
            not_before: None,
        }
    }

    /// What files tell; `None` where it could not be found out in time.
    fn ask(&mut self, question: &Question) -> Option<Answer> {
        self.stuck
            .retain_mut(|(child, _)| matches!(child.try_wait(), Ok(None)));
        let exe = question.exe.clone();
        let place = (
            question.mount,
            exe.filter(|_| question.mount == self.own_mount),
        );
        if self.stuck.iter().any(|(_, stuck)| *stuck == place) {
            return None;
        }
        let mut office = match self.office.take() {
            Some(office) => office,
            None => self.open()?,
        };
        match office.ask(question) {
            Ok(answer) => {
                self.office = Some(office);
                Some(answer)
            }
            Err(_) => {
                let _ = office.child.kill();
                self.stuck.push((office.child, place));
                None
            }
        }
    }

    fn open(&mut self) -> Option<Office> {
        let early = self.not_before.is_some_and(|time| Instant::now() < time);
        if early || self.stuck.len() >= MAX_STUCK {
            return None;
        }
        let opened = (self.start)().ok().and_then(|mut child| {
            let (to, from) = (child.stdin.take()?, child.stdout.take()?);
            Some(Office { child, to, from })
        });
        if opened.is_none() {
            self.not_before = Some(Instant::now() + AGAIN);
        }
        opened
    }
}

impl Office {
    /// A question fits into the pipe: writing it does not wait.
    fn ask(&mut self, question: &Question) -> io::Result<Answer> {
        self.to.write_all(&framed(&serde_json::to_vec(question)?))?;
        let deadline = Instant::now() + DEADLINE;
        let mut length = [0; 4];
        self.read(&mut length, deadline)?;
        let length = usize::try_from(u32::from_ne_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_ANSWER {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut answer = vec![0; length];
        self.read(&mut answer, deadline)?;
        Ok(serde_json::from_slice(&answer)?)
    }

    fn read(&mut self, mut room: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !room.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
            let mut ready = [PollFd::new(&self.from, PollFlags::IN)];
            match poll(&mut ready, Some(&left)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let n = self.from.read(room)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            room = room.get_mut(n..).unwrap_or_default();
        }
        Ok(())
    }
}

/// What it is called, which tells it what it is for.
const NAME: &str = "spantap-files";
const COMM: &CStr = c"spantap-files";
/// Longest an answer is waited for.
const DEADLINE: Duration = Duration::from_millis(500);
/// How often the thread looks whether it is time to stop.
const NAP: Duration = Duration::from_millis(200);
/// Pause after a process could not be started.
const AGAIN: Duration = Duration::from_secs(10);
/// Stuck processes past which no other is started.
const MAX_STUCK: usize = 4;
const MAX_ANSWER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Snapshot;

    fn question(mount: u64) -> Question {
        let mut process = Snapshot::default();
        process.namespaces.mount = mount;
        Question::about(&process)
    }

    #[test]
    fn in_its_own_namespace_one_program_is_let_alone() {
        let of = |mount: u64, exe: &str| {
            let mut process = Snapshot {
                exe: Some(exe.into()),
                ..Snapshot::default()
            };
            process.namespaces.mount = mount;
            Question::about(&process)
        };
        let mut started = 0;
        let mut clerk = Clerk::new(7, || {
            started += 1;
            script("exit")
        });
        for question in [of(7, "/a"), of(7, "/b"), of(8, "/a"), of(8, "/b")] {
            clerk.not_before = None;
            assert_eq!(clerk.ask(&question), None);
            if let Some((child, _)) = clerk.stuck.last_mut() {
                let _ = child.kill();
                let _ = child.wait();
                // Stands for those that cannot be killed.
                *child = script("exec sleep 30").unwrap();
            }
        }
        for (mut child, _) in std::mem::take(&mut clerk.stuck) {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(clerk);
        assert_eq!(started, 3);
    }

    fn script(text: &'static str) -> io::Result<Child> {
        Command::new("/bin/sh")
            .args(["-c", text])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    }

    #[test]
    fn a_question_and_its_answer_cross() {
        let asked = question(7);
        let message = framed(&serde_json::to_vec(&asked).unwrap());
        let mut answered = Vec::new();
        let found = Answer {
            owner: Some("shop".into()),
            ..Answer::default()
        };
        let end = serve(&message[..], &mut answered, |question| {
            assert_eq!(question, asked);
            found.clone()
        });
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let answer: Answer = serde_json::from_slice(&answered[4..]).unwrap();
        assert_eq!(answer, found);
    }

    #[test]
    fn who_does_not_answer_is_left_behind() {
        let mut started = 0;
        let mut clerk = Clerk::new(7, || {
            started += 1;
            // The first cannot be killed by its parent's kill: what holds the pipe is its child.
            match started {
                1 => script("sleep 3 & exec sleep 3"),
                _ => {
                    let answer = framed(&serde_json::to_vec(&Answer::default())?);
                    let octal: String = answer.iter().map(|b| format!("\\{b:03o}")).collect();
                    let text = format!("printf '{octal}'; sleep 3");
                    script(text.leak())
                }
            }
        });
        let began = Instant::now();
        assert_eq!(clerk.ask(&question(1)), None);
        assert!(began.elapsed() < Duration::from_secs(2));
        assert_eq!(clerk.ask(&question(2)), Some(Answer::default()));
        drop(clerk);
        assert_eq!(started, 2);
    }

    #[test]
    fn with_too_many_of_them_nothing_is_looked_at() {
        let mut clerk = Clerk::new(7, || script("sleep 30"));
        for mount in 0..MAX_STUCK as u64 {
            // Stands for one that cannot be killed.
            clerk
                .stuck
                .push((script("sleep 30").unwrap(), (mount, None)));
        }
        let began = Instant::now();
        assert_eq!(clerk.ask(&question(0)), None, "looked at before");
        assert_eq!(clerk.ask(&question(9)), None, "no room");
        assert!(began.elapsed() < DEADLINE);
        for (mut child, _) in std::mem::take(&mut clerk.stuck) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    #[test]
    fn one_that_cannot_be_started_is_not_tried_at_once() {
        let mut tries = 0;
        let mut clerk = Clerk::new(7, || {
            tries += 1;
            Err(io::ErrorKind::NotFound.into())
        });
        assert_eq!(clerk.ask(&question(1)), None);
        assert_eq!(clerk.ask(&question(1)), None);
        drop(clerk);
        assert_eq!(tries, 1);
    }
}
