//! What is counted about one running task. The task's thread writes, the status page and `/metrics` read.

use crate::operator::Counter;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use weir_protocol::{EventTime, TaskId};

/// The numbers of one task.
#[derive(Debug)]
pub struct TaskMetrics {
    /// The task.
    pub task: TaskId,
    /// The names of the chain's steps, from source to sink.
    pub name: String,
    /// Whether the task reads a source, and whether it writes a sink.
    pub ends: Ends,
    /// Rows taken in: read from the source, or received.
    pub rows_in: Counter,
    /// Rows given out: written to sinks, or sent.
    pub rows_out: Counter,
    /// Rows written by the chain's sinks.
    pub rows_written: Counter,
    /// Bytes read from the source (before decoding), or received.
    pub bytes_in: Counter,
    /// Bytes given out.
    pub bytes_out: Counter,
    /// Nanoseconds of work.
    pub busy_ns: Counter,
    /// Nanoseconds of waiting for input.
    pub idle_ns: Counter,
    /// Nanoseconds of waiting for room downstream.
    pub backpressured_ns: Counter,
    /// Rows that came too late for their windows.
    pub late_rows: Counter,
    /// Records that could not be decoded and were left out.
    pub bad_records: Counter,
    /// Bytes of state.
    pub state_bytes: Counter,
    /// How long rows took from their source to a sink of this task.
    pub latency: Latency,
    watermark: AtomicI64,
}

/// Where a task's chain begins and ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Begins with a source.
    pub source: bool,
    /// Ends in a sink, at least with one branch.
    pub sink: bool,
}

impl TaskMetrics {
    /// All zero.
    #[must_use]
    pub fn new(task: TaskId, name: String, ends: Ends) -> Arc<Self> {
        Arc::new(Self {
            task,
            name,
            ends,
            rows_in: Counter::default(),
            rows_out: Counter::default(),
            rows_written: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            busy_ns: Counter::default(),
            idle_ns: Counter::default(),
            backpressured_ns: Counter::default(),
            late_rows: Counter::default(),
            bad_records: Counter::default(),
            state_bytes: Counter::default(),
            latency: Latency::default(),
            watermark: AtomicI64::new(i64::MIN),
        })
    }

    /// The task's watermark.
    #[must_use]
    pub fn watermark(&self) -> EventTime {
        EventTime(self.watermark.load(Ordering::Relaxed))
    }

    /// Notes the task's watermark.
    pub fn set_watermark(&self, watermark: EventTime) {
        self.watermark.store(watermark.0, Ordering::Relaxed);
    }
}

/// Enough for some minutes; the last bucket takes all that is longer.
const BUCKETS: usize = 58;

/// A histogram of durations in buckets that double from a microsecond.
#[derive(Debug)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_us: AtomicU64::new(0) }
    }
}

/// What a histogram of durations had counted at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// By bucket; empty when nothing was counted.
    counts: Vec<u64>,
    sum_us: u64,
}

impl Distribution {
    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many of them were at most `bound`. Exact for powers of two in microseconds, otherwise rounded down to a bucket.
    #[must_use]
    pub fn up_to(&self, bound: Duration) -> u64 {
        let limited = self.counts.iter().take(BUCKETS - 1).enumerate();
        limited.filter(|(place, _)| Duration::from_micros(bound_us(*place)) <= bound).map(|(_, count)| count).sum()
    }

    /// The sum of all durations.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us)
    }

    /// Adds what another histogram has counted.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self
    }

    /// What was counted after an earlier moment.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        self.counts.iter_mut().zip(&earlier.counts).for_each(|(count, before)| *count = count.saturating_sub(*before));
        self.sum_us = self.sum_us.saturating_sub(earlier.sum_us);
        self
    }

    /// What the share `share` (0 to 1) of all durations did not exceed, rounded up to a bucket; `None` without durations.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = ((self.count() as f64 * share).ceil() as u64).max(1);
        let up_to = self.counts.iter().scan(0, |seen, count| {
            *seen += count;
            Some(*seen)
        });
        let place = up_to.enumerate().find(|(_, seen)| *seen >= wanted)?.0;
        Some(Duration::from_micros(bound_us(place)))
    }
}

impl Latency {
    /// Counts `rows` rows that took as long.
    pub fn observe(&self, took: Duration, rows: u64) {
        let micros = took.as_micros() as u64;
        self.buckets[quarter_octave(micros)].fetch_add(rows, Ordering::Relaxed);
        self.sum_us.fetch_add(micros.saturating_mul(rows), Ordering::Relaxed);
    }

    /// What it has counted up to now.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Distribution { counts, sum_us: self.sum_us.load(Ordering::Relaxed) }
    }
}

/// Two buckets per doubling: 1, 2, 3, 4, 6, 8, 12, 16 … microseconds.
fn quarter_octave(micros: u64) -> usize {
    (0..BUCKETS).find(|place| micros <= bound_us(*place)).unwrap_or(BUCKETS - 1)
}

fn bound_us(place: usize) -> u64 {
    let octave = 1_u64 << (place / 2);
    if place.is_multiple_of(2) { octave } else { octave + octave / 2 + octave % 2 }
}

/// Splits a thread's time into work and two kinds of waiting.
#[derive(Debug)]
pub struct Stopwatch {
    last: Instant,
    waited_downstream: Duration,
}

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { last: Instant::now(), waited_downstream: Duration::ZERO }
    }

    /// Time that the running piece of work spent waiting for room downstream.
    pub fn waited_downstream(&mut self, waited: Duration) {
        self.waited_downstream += waited;
    }

    /// The time since the last call was work, apart from what was waited downstream.
    pub fn worked(&mut self, metrics: &TaskMetrics) {
        let elapsed = self.lap();
        let waited = std::mem::take(&mut self.waited_downstream).min(elapsed);
        metrics.busy_ns.add((elapsed - waited).as_nanos() as u64);
        metrics.backpressured_ns.add(waited.as_nanos() as u64);
    }

    /// The time since the last call was waiting for input.
    pub fn waited(&mut self, metrics: &TaskMetrics) {
        let elapsed = self.lap();
        metrics.idle_ns.add(elapsed.as_nanos() as u64);
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.last, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_of_what_was_counted_since() {
        let (latency, ms) = (Latency::default(), Duration::from_millis);
        assert_eq!(latency.read().quantile(0.5), None);
        latency.observe(ms(1), 90);
        let before = latency.read();
        latency.observe(ms(4), 98);
        latency.observe(ms(30), 2);
        // Bounds are powers of two microseconds, and the middles between them.
        let bound = |share: f64| latency.read().since(&before).quantile(share).unwrap_or_default().as_micros();
        assert_eq!([0.0, 0.5, 0.98, 0.99, 1.0].map(bound), [4096, 4096, 4096, 32768, 32768]);
        assert_eq!(latency.read().quantile(0.4), Some(Duration::from_micros(1024)));
    }
}
