//! Numbers that are the same for the same seed.

use std::time::Duration;

/// Its state, which is the seed at first; not zero.
pub(crate) struct Moments(pub(crate) u64);

impl Moments {
    /// A number below this one.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// A time shorter than so many milliseconds.
    pub(crate) fn next(&mut self, below_ms: u64) -> Duration {
        Duration::from_millis(self.below(below_ms))
    }
}
