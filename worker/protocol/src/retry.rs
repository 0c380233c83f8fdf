//! How long to wait before trying again: growing delays, spread by chance so that many do not come back at once.
//!
//! The chance is the caller's: it passes a number between 0 and 1.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The shape of growing delays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// The first delay, in milliseconds.
    pub initial_ms: u64,
    /// No delay is longer, in milliseconds, whatever chance says.
    pub max_ms: u64,
    /// Each delay is this many times the one before; below 1 counts as 1.
    pub multiplier: f64,
    /// The share of a delay that chance adds or takes away at most, from 0 to 1.
    pub jitter: f64,
}

/// The delays of one row of attempts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    pace: Pace,
    next_ms: f64,
}

impl Backoff {
    /// Starts with the pace's initial delay.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        let mut backoff = Self { pace, next_ms: 0.0 };
        backoff.reset();
        backoff
    }

    /// The next delay in milliseconds. `draw` is a random number between 0 (the shortest delay) and 1 (the longest).
    pub fn next_ms(&mut self, draw: f64) -> u64 {
        let delay = self.next_ms;
        self.next_ms = self.bounded(delay * self.pace.multiplier.max(1.0));
        let spread = portion(self.pace.jitter) * (2.0 * portion(draw) - 1.0);
        let jittered = (delay * (1.0 + spread)).round();
        (jittered as u64).min(self.pace.max_ms)
    }

    /// Begins again with the initial delay.
    pub fn reset(&mut self) {
        self.next_ms = self.bounded(self.pace.initial_ms as f64);
    }

    fn bounded(&self, delay_ms: f64) -> f64 {
        delay_ms.min(self.pace.max_ms as f64)
    }
}

/// A number between 0 and 1 that follows from who asks and how often.
pub(crate) fn draw(who: &[u8], seed: u64) -> f64 {
    (xxh3_64_with_seed(who, seed) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Between 0 and 1, also for what is no number.
fn portion(value: f64) -> f64 {
    if value >= 0.0 { value.min(1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pace: Pace, draws: &[f64], expected: &[u64]) {
        let mut backoff = Backoff::new(pace);
        let delays: Vec<u64> = draws.iter().map(|draw| backoff.next_ms(*draw)).collect();
        assert_eq!(delays, expected, "{pace:?}");
        backoff.reset();
        assert_eq!(backoff.next_ms(draws[0]), expected[0], "after a reset: {pace:?}");
    }

    #[test]
    fn delays_grow_to_their_maximum() {
        let pace = Pace { initial_ms: 100, max_ms: 1000, multiplier: 2.0, jitter: 0.1 };
        check(pace, &[0.5; 6], &[100, 200, 400, 800, 1000, 1000]);
        check(pace, &[0.0, 1.0, 0.0, 1.0, 0.0, 1.0], &[90, 220, 360, 880, 900, 1000]);
        check(Pace { multiplier: 1.0, ..pace }, &[0.5; 3], &[100, 100, 100]);
        check(Pace { multiplier: 1.5, jitter: 0.0, ..pace }, &[1.0; 4], &[100, 150, 225, 338]);
        check(Pace { initial_ms: 5000, ..pace }, &[0.5; 2], &[1000, 1000]);
        check(Pace { initial_ms: 0, ..pace }, &[0.5; 2], &[0, 0]);
    }

    #[test]
    fn numbers_without_sense_do_no_harm() {
        let pace = Pace { initial_ms: 100, max_ms: 1000, multiplier: 2.0, jitter: 0.1 };
        check(Pace { multiplier: f64::NAN, ..pace }, &[0.5; 2], &[100, 100]);
        check(Pace { multiplier: f64::INFINITY, ..pace }, &[0.5; 2], &[100, 1000]);
        check(Pace { multiplier: -3.0, ..pace }, &[0.5; 2], &[100, 100]);
        check(Pace { jitter: f64::NAN, ..pace }, &[1.0; 2], &[100, 200]);
        check(Pace { jitter: 9.0, ..pace }, &[0.0, 1.0], &[0, 400]);
        check(pace, &[f64::NAN, -1.0, 7.0], &[90, 180, 440]);
        check(Pace { initial_ms: 0, multiplier: f64::INFINITY, ..pace }, &[0.5; 3], &[0, 1000, 1000]);
    }

    proptest! {
        #[test]
        fn a_delay_stays_within_its_bounds(
            initial_ms: u64, max_ms: u64, multiplier: f64, jitter: f64,
            draws in prop::collection::vec(any::<f64>(), 1..20),
        ) {
            let mut backoff = Backoff::new(Pace { initial_ms, max_ms, multiplier, jitter });
            for draw in draws {
                prop_assert!(backoff.next_ms(draw) <= max_ms);
            }
        }
    }
}
