//! Replays event time at a multiple of its own pace.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The pace of one run, shared by all source tasks.
#[derive(Debug)]
pub struct Pace {
    speed: f64,
    origin: OnceLock<(i64, Instant)>,
}

impl Pace {
    /// Event time at `speed` times its pace; above 0.
    #[must_use]
    pub fn new(speed: f64) -> Self {
        assert!(speed > 0.0, "a pace is above zero");
        Self { speed, origin: OnceLock::new() }
    }

    /// When rows of this event time, in milliseconds, are due. The first rows of any task are due at once and set the
    /// clock.
    pub fn due(&self, time_ms: i64) -> Instant {
        let (origin_ms, began) = *self.origin.get_or_init(|| (time_ms, Instant::now()));
        let ahead_ms = time_ms.saturating_sub(origin_ms).max(0) as f64 / self.speed;
        began + Duration::from_secs_f64((ahead_ms / 1000.0).min(1e9))
    }
}
