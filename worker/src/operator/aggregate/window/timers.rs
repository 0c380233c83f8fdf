//! When to look at which session: coarse buckets of time, so that a longer session does not move.
//!
//! A session is entered once, under the end that it has then. When event time reaches the bucket, it fires, or is entered
//! again under the end that it has by now.

use super::super::group_table::NONE;
use std::collections::BTreeMap;

/// Sessions by the time at which they may have ended.
pub(super) struct Timers {
    grain_ms: i64,
    buckets: BTreeMap<i64, Vec<u32>>,
}

impl Timers {
    /// For sessions with this gap.
    pub(super) fn new(gap_ms: i64) -> Self {
        Self { grain_ms: (gap_ms / 32).max(1), buckets: BTreeMap::new() }
    }

    /// The bucket of a time.
    pub(super) fn bucket(&self, end: i64) -> i64 {
        end.div_euclid(self.grain_ms)
    }

    /// Enters a session into a bucket.
    pub(super) fn enter(&mut self, bucket: i64, session: u32) {
        self.buckets.entry(bucket).or_default().push(session);
    }

    /// Takes out the first bucket that may hold ends up to `end`.
    pub(super) fn take(&mut self, end: i64) -> Option<(i64, Vec<u32>)> {
        let (&bucket, _) = self.buckets.first_key_value()?;
        (bucket <= self.bucket(end)).then(|| self.buckets.pop_first())?
    }

    /// Puts back what stays in a bucket.
    pub(super) fn put_back(&mut self, bucket: i64, sessions: Vec<u32>) {
        if !sessions.is_empty() {
            self.buckets.insert(bucket, sessions);
        }
    }

    /// Sessions have new numbers.
    pub(super) fn renumber(&mut self, moved: &[u32]) {
        for sessions in self.buckets.values_mut() {
            sessions.iter_mut().for_each(|session| *session = moved.get(*session as usize).copied().unwrap_or(NONE));
            sessions.retain(|session| *session != NONE);
        }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.buckets.values().map(|sessions| sessions.capacity() * size_of::<u32>() + 64).sum()
    }
}
