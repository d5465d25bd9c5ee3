//! Standard output. A reader that went away ends us quietly. Lines come from the pipeline, which
//! must not wait for a terminal: they pass a bounded queue, and what does not fit is counted.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};

/// Writes text to standard output.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    quiet(written).context("write to standard output")
}

/// Columns of a terminal; None for what is none.
pub fn width(out: impl AsFd) -> Option<usize> {
    let columns = rustix::termios::tcgetwinsize(out).ok()?.ws_col;
    Some(usize::from(columns)).filter(|columns| *columns > 0)
}

/// A pipe without a reader is no failure.
fn quiet(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(why) if why.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The line that names the columns, and how often it is wanted.
#[derive(Default)]
pub struct Header {
    /// The line.
    pub text: Option<String>,
    /// Every so many lines again; 0 for once.
    pub every: u64,
}

/// A thread that writes lines.
pub struct Printer {
    thread: JoinHandle<io::Result<()>>,
    dropped: Arc<AtomicU64>,
}

/// Where lines are put.
#[derive(Clone)]
pub struct Lines {
    queue: SyncSender<Option<String>>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Writes the header now, so that a person sees that something is running.
    pub fn begin(&self) {
        // Should the queue be full, lines come, and the header before the first of them.
        let _ = self.queue.try_send(None);
    }

    /// Never blocks.
    pub fn put(&self, line: String) {
        // A queue without a reader is closed, not slow: the printer has said why.
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Some(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Printer {
    /// Starts the thread; `gone` is called when nothing more can be written. The header comes
    /// before the first line.
    pub fn start(
        out: Box<dyn Write + Send>,
        header: Header,
        gone: impl FnOnce() + Send + 'static,
    ) -> Result<(Lines, Self)> {
        let (queue, lines) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let thread = std::thread::Builder::new()
            .name("printer".into())
            .spawn(move || {
                let written = write(BufWriter::new(out), &header, &lines);
                if written.is_err() {
                    gone();
                }
                quiet(written)
            })
            .context("start the printing thread")?;
        let counter = Arc::clone(&dropped);
        let lines = Lines { queue, dropped };
        let printer = Self {
            thread,
            dropped: counter,
        };
        Ok((lines, printer))
    }

    /// Waits until all is written (the [`Lines`] must be gone by then); gives the number of lines
    /// that did not fit the queue.
    pub fn finish(self) -> Result<u64> {
        match self.thread.join() {
            Ok(written) => written.context("write the lines")?,
            Err(_) => anyhow::bail!("the printing thread panicked"),
        }
        Ok(self.dropped.load(Ordering::Relaxed))
    }
}

fn write(mut out: impl Write, header: &Header, lines: &Receiver<Option<String>>) -> io::Result<()> {
    // Lines until the header is due again; none has been written yet.
    let mut left = Some(0);
    while let Ok(first) = lines.recv() {
        for line in std::iter::once(first).chain(lines.try_iter()) {
            if left == Some(0) {
                if let Some(text) = &header.text {
                    writeln!(out, "{text}")?;
                }
                left = (header.every > 0).then_some(header.every);
            }
            if let Some(line) = line {
                writeln!(out, "{line}")?;
                left = left.map(|left| left - 1);
            }
        }
        out.flush()?;
    }
    out.flush()
}

/// Lines that wait for the terminal at most.
const QUEUE: usize = 4096;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one writer").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn the_header_comes_first_and_again() {
        let paper = Paper::default();
        let header = Header {
            text: Some("H".into()),
            every: 2,
        };
        let (lines, printer) =
            Printer::start(Box::new(paper.clone()), header, || ()).expect("it starts");
        for line in ["a", "b", "c", "d", "e"] {
            lines.put(line.into());
        }
        drop(lines);
        assert_eq!(printer.finish().expect("it ends"), 0);
        let text = String::from_utf8(paper.0.lock().expect("done").clone()).expect("text");
        assert_eq!(text, "H\na\nb\nH\nc\nd\nH\ne\n");
    }

    #[test]
    fn a_reader_that_is_gone_stops_us_and_is_no_failure() {
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopped);
        let (lines, printer) = Printer::start(Box::new(Broken), Header::default(), move || {
            flag.store(true, Ordering::SeqCst);
        })
        .expect("it starts");
        lines.put("a".into());
        drop(lines);
        assert!(printer.finish().is_ok());
        assert!(stopped.load(Ordering::SeqCst));
    }
}
