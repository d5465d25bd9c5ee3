//! Who waits to be looked at.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::pipeline::reader::Arrival;

/// Processes that wait to be looked at.
const MAX_WAITING: usize = 65_536;

/// Processes that came or went.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Vec<Arrival>>,
    signal: Condvar,
}

impl Queue {
    /// Adds one; false where too many wait.
    pub fn push(&self, arrival: Arrival) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING {
            return false;
        }
        waiting.push(arrival);
        drop(waiting);
        self.signal.notify_one();
        true
    }

    /// Those there are, waited for at most so long.
    pub(super) fn take(&self, patience: Duration) -> Vec<Arrival> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut waiting, _) = self
            .signal
            .wait_timeout_while(waiting, patience, |waiting| waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_is_taken_in_order_and_waited_for_no_longer_than_said() {
        let queue = Queue::default();
        assert!(queue.take(Duration::from_millis(1)).is_empty());
        queue.push(Arrival::Process(1));
        queue.push(Arrival::Gone(1));
        let taken = queue.take(Duration::from_secs(60));
        assert_eq!(taken, [Arrival::Process(1), Arrival::Gone(1)]);
    }
}
