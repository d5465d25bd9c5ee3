//! A thread that ends before its time ends the agent: what one of them no longer does, the others
//! would wait for in silence.

use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use tokio::sync::Notify;

/// The first thread that ended before its time, and why.
#[derive(Debug, Default)]
pub struct Failure {
    why: Mutex<Option<String>>,
    told: Notify,
}

impl Failure {
    /// Runs what the thread called `name` does. That it returns an error or panics is told.
    pub fn guard(&self, name: &str, run: impl FnOnce() -> Result<()>) {
        let alarm = Alarm(self, name);
        if let Err(error) = run() {
            self.tell(format!("{name} stopped: {error:#}"));
        }
        drop(alarm);
    }

    /// Returns once a thread has ended before its time: which, and why.
    pub async fn wait(&self) -> String {
        loop {
            let told = self.told.notified();
            if let Some(why) = self.why() {
                return why;
            }
            told.await;
        }
    }

    /// Which thread ended before its time, and why; if one has.
    pub fn why(&self) -> Option<String> {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        why.clone()
    }

    fn tell(&self, why: String) {
        let mut known = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert(why);
        self.told.notify_one();
    }
}

/// Dropped in a panic it says so.
struct Alarm<'a>(&'a Failure, &'a str);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.tell(format!("{} ended abnormally", self.1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use anyhow::anyhow;
    use tokio::runtime::Builder;

    use super::*;

    fn told(run: impl FnOnce() -> Result<()> + Send + 'static) -> Option<String> {
        let failure = Arc::new(Failure::default());
        let guarded = Arc::clone(&failure);
        let thread = thread::spawn(move || guarded.guard("reader 1", run));
        let ended = thread.join().is_ok();
        failure.why().inspect(|_| {
            let runtime = Builder::new_current_thread().build().unwrap();
            let why = runtime.block_on(failure.wait());
            assert_eq!(ended, why.contains("stopped"));
        })
    }

    #[test]
    fn a_thread_that_ends_before_its_time_is_told_of() {
        assert_eq!(told(|| Ok(())), None);
        let error = told(|| Err(anyhow!("no ring")));
        assert_eq!(error.as_deref(), Some("reader 1 stopped: no ring"));
        let panic = told(|| panic!("as a test"));
        assert_eq!(panic.as_deref(), Some("reader 1 ended abnormally"));
    }
}
