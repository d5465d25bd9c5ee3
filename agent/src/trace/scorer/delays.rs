//! How long calls begin after their requests, and requests are answered after their calls.

/// Delays before a call, and after its answer.
#[derive(Debug, Default)]
pub(super) struct Delays {
    /// Between the head of its request and the call, microseconds.
    pub before: Histogram,
    /// Between the call's answer and that of its request.
    pub after: Histogram,
}

/// Delays by powers of two of microseconds.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [f64; BUCKETS],
    total: f64,
}

impl Histogram {
    /// Takes one in.
    pub fn add(&mut self, micros: u32) {
        let at = bucket(micros);
        let around = [at.checked_sub(1), Some(at), at.checked_add(1)];
        for (place, part) in around.into_iter().zip([0.25, 0.5, 0.25]) {
            let place = place.unwrap_or(0).min(BUCKETS - 1);
            if let Some(count) = self.counts.get_mut(place) {
                *count += part;
            }
        }
        self.total += 1.0;
        if self.total >= MOST_DELAYS {
            self.counts.iter_mut().for_each(|count| *count /= 2.0);
            self.total /= 2.0;
        }
    }

    /// Whether there are enough to tell others by.
    pub fn known(&self) -> bool {
        self.total >= FEWEST_DELAYS
    }

    fn count(&self, micros: u32) -> f64 {
        self.counts.get(bucket(micros)).copied().unwrap_or(0.0)
    }

    /// How likely a delay is, for each microsecond.
    pub fn density(&self, micros: u32) -> f64 {
        let buckets = f64::from(u32::try_from(BUCKETS).unwrap_or(1));
        let share = (self.count(micros) + UNMET) / (self.total + UNMET * buckets);
        share / f64::from(1_u32 << bucket(micros))
    }

    /// Whether a delay is as others were.
    pub fn is_usual(&self, micros: u32) -> bool {
        self.count(micros) >= self.total * USUAL
    }
}

fn bucket(micros: u32) -> usize {
    (micros.max(1).ilog2() as usize).min(BUCKETS - 1)
}

/// Fewest delays from which others are told.
const FEWEST_DELAYS: f64 = 32.0;
/// As if so many delays had been met of each length.
const UNMET: f64 = 0.25;
/// What part of the delays are as long as one that is not unusual.
const USUAL: f64 = 0.01;
/// Delays up to 16 s.
const BUCKETS: usize = 24;
/// Delays beyond which the older half is worth less.
const MOST_DELAYS: f64 = 1024.0;
