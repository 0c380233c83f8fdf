//! Slows all sources of a job down when its state comes near its budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// State above this share of its budget slows sources.
const NEAR_PERCENT: u64 = 90;
/// How long a source waits after each batch when the budget is all but used up.
const LONGEST: Duration = Duration::from_millis(100);

/// How long sources wait after each batch.
#[derive(Debug, Clone, Default)]
pub struct Throttle(Arc<AtomicU64>);

impl Throttle {
    /// Sets the wait by how much of the budget is used, in bytes: none up to nine tenths of it, then more and more.
    pub fn follow(&self, used: u64, budget: u64) {
        let near = budget / 100 * NEAR_PERCENT;
        let over = used.saturating_sub(near) as f64 / (budget - near).max(1) as f64;
        let wait = LONGEST.mul_f64(over.min(1.0));
        self.0.store(wait.as_micros() as u64, Ordering::Relaxed);
    }

    /// How long to wait; `None` for not at all.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        Some(self.0.load(Ordering::Relaxed)).filter(|micros| *micros > 0).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_slow_down_from_nine_tenths_of_the_budget_on() {
        let throttle = Throttle::default();
        for (used, expected_ms) in [(0, None), (900, None), (950, Some(50)), (1000, Some(100)), (5000, Some(100))] {
            throttle.follow(used, 1000);
            assert_eq!(throttle.wait(), expected_ms.map(Duration::from_millis), "{used}");
        }
    }
}
