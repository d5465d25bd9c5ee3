//! Spans on stdout, one line each: for people or as JSON. A batch is formatted whole and written
//! at once, off the runtime's own threads, as a paused reader may hold it up; a reader that is
//! gone ends the exporter. Never here: what a line says ([`stdout`](super::stdout),
//! [`json`](super::json)).

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use super::{Answer, Exporter, json, stdout};
use crate::span::Span;

/// Formats spans and writes them.
pub struct Terminal<F, W> {
    name: &'static str,
    format: F,
    open: fn() -> W,
}

/// One line per span for people, on stdout; coloured on a terminal unless NO_COLOR is set.
pub fn lines() -> Terminal<impl Fn(&Span) -> String + Send + Sync + 'static, io::Stdout> {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let color = wanted && io::stdout().is_terminal();
    Terminal {
        name: "stdout",
        format: move |span: &Span| stdout::line(span, color),
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
