//! What is counted of requests to a bucket.

use crate::numbers::{Family, Histogram, Numbers};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Write an object.
    Put,
    /// Read an object or a part of it.
    Get,
    /// Look at an object.
    Head,
    /// List objects.
    List,
    /// Delete objects.
    Delete,
    /// Begin an upload in parts.
    CreateUpload,
    /// Upload a part.
    UploadPart,
    /// End an upload in parts.
    CompleteUpload,
    /// Give an upload in parts up.
    AbortUpload,
    /// List uploads in parts.
    ListUploads,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Put,
        Self::Get,
        Self::Head,
        Self::List,
        Self::Delete,
        Self::CreateUpload,
        Self::UploadPart,
        Self::CompleteUpload,
        Self::AbortUpload,
        Self::ListUploads,
    ];

    /// Its name, as a label of a metric.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::CreateUpload => "create_upload",
            Self::UploadPart => "upload_part",
            Self::CompleteUpload => "complete_upload",
            Self::AbortUpload => "abort_upload",
            Self::ListUploads => "list_uploads",
        }
    }

    /// Whether it changes something in the bucket, or only reads there: a store may do one and not the other.
    pub(super) fn direction(self) -> Direction {
        match self {
            Self::Get | Self::Head | Self::List | Self::ListUploads => Direction::Read,
            Self::Put | Self::Delete | Self::CreateUpload | Self::UploadPart => Direction::Write,
            Self::CompleteUpload | Self::AbortUpload => Direction::Write,
        }
    }
}

/// What requests do to a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// They read.
    Read,
    /// They change something.
    Write,
}

/// Upper bounds of the latencies that are told apart, in milliseconds; above the last one is one more.
pub const BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// Counters by kind of request. They only grow.
#[derive(Debug, Default)]
pub struct Meter([Counters; Operation::ALL.len()]);

#[derive(Debug, Default)]
struct Counters {
    attempts: AtomicU64,
    errors: AtomicU64,
    throttled: AtomicU64,
    retries: AtomicU64,
    bytes: AtomicU64,
    latency_us: AtomicU64,
    latencies: [AtomicU64; BOUNDS_MS.len() + 1],
}

/// The counters of a kind of request at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The kind.
    pub operation: Operation,
    /// Attempts that have ended.
    pub attempts: u64,
    /// Those that failed; "there is no such object" and "there is one already" are answers, no failures.
    pub errors: u64,
    /// Those that the store refused because there were too many.
    pub throttled: u64,
    /// Attempts that followed one that failed.
    pub retries: u64,
    /// Bytes of content moved by attempts that succeeded.
    pub bytes: u64,
    /// Time that attempts took, in microseconds.
    pub latency_us: u64,
    /// Attempts by the first of [`BOUNDS_MS`] that their time does not exceed.
    pub latencies: [u64; BOUNDS_MS.len() + 1],
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With an answer.
    Answered,
    /// The store wants fewer requests.
    Throttled,
    /// Without what was asked for.
    Failed,
}

impl Meter {
    /// All counters.
    #[must_use]
    pub fn read(&self) -> Vec<Reading> {
        Operation::ALL.iter().map(|operation| self.of(*operation).read(*operation)).collect()
    }

    pub(super) fn attempted(&self, operation: Operation, took: Duration, ended: Ended) {
        let counters = self.of(operation);
        let add = |counter: &AtomicU64, number: u64| counter.fetch_add(number, Ordering::Relaxed);
        add(&counters.attempts, 1);
        add(&counters.latency_us, took.as_micros() as u64);
        let bucket = BOUNDS_MS.iter().position(|bound| took.as_millis() as u64 <= *bound).unwrap_or(BOUNDS_MS.len());
        add(&counters.latencies[bucket], 1);
        match ended {
            Ended::Answered => 0,
            Ended::Throttled => {
                add(&counters.throttled, 1);
                add(&counters.errors, 1)
            }
            Ended::Failed => add(&counters.errors, 1),
        };
    }

    pub(super) fn retried(&self, operation: Operation) {
        self.of(operation).retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn moved(&self, operation: Operation, bytes: usize) {
        self.of(operation).bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn of(&self, operation: Operation) -> &Counters {
        &self.0[operation as usize]
    }
}

impl Counters {
    fn read(&self, operation: Operation) -> Reading {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Reading {
            operation,
            attempts: get(&self.attempts),
            errors: get(&self.errors),
            throttled: get(&self.throttled),
            retries: get(&self.retries),
            bytes: get(&self.bytes),
            latency_us: get(&self.latency_us),
            latencies: std::array::from_fn(|bucket| get(&self.latencies[bucket])),
        }
    }
}

impl Reading {
    /// Both together; of the same kind.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.attempts += other.attempts;
        self.errors += other.errors;
        self.throttled += other.throttled;
        self.retries += other.retries;
        self.bytes += other.bytes;
        self.latency_us += other.latency_us;
        self.latencies.iter_mut().zip(&other.latencies).for_each(|(sum, count)| *sum += count);
        self
    }

    /// The families of what several meters have read; `label` says whose requests they are, where the kind of request
    /// does not.
    #[must_use]
    pub fn families(label: Option<(&'static str, &str)>, readings: &[Self]) -> Vec<Family> {
        // What was never asked for says nothing.
        let readings: Vec<&Self> = readings.iter().filter(|reading| reading.attempts > 0).collect();
        let labels = |reading: &Self| {
            let operation = ("operation", reading.operation.name().to_owned());
            [operation].into_iter().chain(label.map(|(name, value)| (name, value.to_owned()))).collect::<Vec<_>>()
        };
        let counted = |name, help, count: fn(&Self) -> u64| {
            let samples = readings.iter().map(|reading| (labels(reading), count(reading) as f64));
            Family::counter(name, help).with_all(samples)
        };
        let requests = Family::histogram("weir_store_request_seconds", "Seconds of requests to the store.");
        let requests = readings.iter().fold(requests, |family, reading| {
            let bounds = BOUNDS_MS.iter().map(|bound_ms| Some(Duration::from_millis(*bound_ms))).chain([None]);
            let took = Duration::from_micros(reading.latency_us);
            family.with_histogram(labels(reading), Histogram::of_durations(bounds.zip(reading.latencies), took))
        });
        vec![
            requests,
            counted("weir_store_errors_total", "Requests to the store that failed.", |reading| reading.errors),
            counted("weir_store_throttled_total", "Requests that the store refused for their number.", |reading| {
                reading.throttled
            }),
            counted("weir_store_retries_total", "Requests that followed one that failed.", |reading| reading.retries),
            counted("weir_store_bytes_total", "Bytes of content that requests moved.", |reading| reading.bytes),
        ]
    }
}

impl Numbers for Meter {
    fn families(&self) -> Vec<Family> {
        Reading::families(None, &self.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_by_kind_and_time() {
        let meter = Meter::default();
        meter.attempted(Operation::Get, Duration::from_millis(5), Ended::Answered);
        meter.attempted(Operation::Get, Duration::from_millis(6), Ended::Throttled);
        meter.attempted(Operation::ListUploads, Duration::from_secs(60), Ended::Failed);
        meter.retried(Operation::Get);
        meter.moved(Operation::Get, 7);
        let read = meter.read();
        let get = read[Operation::Get as usize];
        assert_eq!((get.attempts, get.errors, get.throttled, get.retries, get.bytes), (2, 1, 1, 1, 7));
        assert_eq!((get.latency_us, get.latencies[0], get.latencies[1]), (11_000, 1, 1));
        let last = read[Operation::ListUploads as usize];
        assert_eq!((last.operation, last.errors, last.latencies[BOUNDS_MS.len()]), (Operation::ListUploads, 1, 1));
        assert!(Operation::ALL.iter().enumerate().all(|(place, operation)| *operation as usize == place));
    }
}
