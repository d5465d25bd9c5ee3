//! Spans on stdout, one line each: for people or as JSON. A batch is formatted whole and written
//! at once, off the runtime's own threads, as a paused reader may hold it up; a reader that is
//! gone ends the exporter. Never here: what a line says
//! ([`stdout`](super::stdout), [`json`](mod@json)).

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use super::stdout::Table;
use super::{Answer, Exporter, json};
use crate::span::Span;

/// Formats spans and writes them.
pub struct Terminal<F, W> {
    name: &'static str,
    format: F,
    open: fn() -> W,
}

/// One line per span for people, on stdout; the look as the caller has decided.
pub fn lines(
    table: Table,
) -> Terminal<impl Fn(&Span) -> String + Send + Sync + 'static, io::Stdout> {
    Terminal {
        name: "stdout",
        format: move |span: &Span| table.line(span),
        open: io::stdout,
    }
}

/// One JSON object per span, on stdout.
pub fn json() -> Terminal<impl Fn(&Span) -> String + Send + Sync + 'static, io::Stdout> {
    Terminal {
        name: "json",
        format: json::json,
        open: io::stdout,
    }
}

impl<F, W> Exporter for Terminal<F, W>
where
    F: Fn(&Span) -> String + Send + Sync + 'static,
    W: Write + Send + 'static,
{
    fn name(&self) -> &str {
        self.name
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    async fn export(&mut self, spans: &[Span]) -> Answer {
        let mut text = String::with_capacity(spans.len() * LINE);
        for span in spans {
            text.push_str(&(self.format)(span));
            text.push('\n');
        }
        let open = self.open;
        match tokio::task::spawn_blocking(move || write(open(), &text)).await {
            Ok(Ok(())) => Answer::Sent {
                rejected: 0,
                warning: String::new(),
            },
            Ok(Err(error)) if error.kind() == ErrorKind::BrokenPipe => Answer::Gone,
            Ok(Err(error)) => Answer::Failed(error.to_string()),
            Err(error) => Answer::Failed(error.to_string()),
        }
    }
}

fn write(mut out: impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Somebody is looking: soon enough to feel immediate, late enough for one write per screenful.
const PATIENCE: Duration = Duration::from_millis(50);

/// First guess at a line's length.
const LINE: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::export::tests::spans;

    #[test]
    fn lines_are_coloured_when_told_to() {
        let span = crate::export::text::tests::server();
        for color in [false, true] {
            let line = (lines(Table::new(color, None)).format)(&span);
            assert_eq!(line.contains('\x1b'), color, "{line:?}");
        }
    }

    static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    struct Kept;

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            WRITTEN.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn export<W: Write + Send + 'static>(open: fn() -> W) -> Answer {
        let mut terminal = Terminal {
            name: "test",
            format: |span: &Span| format!("{} {}", span.end, span.name),
            open,
        };
        terminal.export(&spans(1, 2)).await
    }

    #[tokio::test]
    async fn one_line_each() {
        assert!(matches!(export(|| Kept).await, Answer::Sent { .. }));
        let text = String::from_utf8(WRITTEN.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "1000000001 GET /\n1000000002 GET /\n");
    }

    #[tokio::test]
    async fn a_closed_pipe_is_the_end_and_a_full_disk_is_not() {
        let gone = export(|| Broken(ErrorKind::BrokenPipe)).await;
        assert_eq!(gone, Answer::Gone);
        let full = export(|| Broken(ErrorKind::StorageFull)).await;
        assert!(matches!(full, Answer::Failed(_)));
    }
}
