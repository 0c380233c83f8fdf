//! Numbers that the parts of a process show: what `/metrics` is made of.
//!
//! A part that counts implements [`Numbers`] beside its counters, with names in Prometheus's style (`weir_`, a unit at
//! the end, `_total` for what only grows). It knows neither Prometheus nor HTTP, and is asked when somebody looks:
//! counting costs nothing more than the counter.

use std::time::Duration;

/// A part of the process that counts.
pub trait Numbers: Send + Sync {
    /// What it has counted up to now. Two parts may have samples of one family.
    fn families(&self) -> Vec<Family>;
}

/// What a family's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// Samples of one name, told apart by their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What is counted, as a sentence.
    pub help: &'static str,
    /// What the samples are.
    pub kind: Kind,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// A number at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: Value,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Histogram(Histogram),
}

/// Counts by size.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper bounds, ascending, each with how many were at most that large. The last bucket, of all, is left out.
    pub buckets: Vec<(f64, u64)>,
    /// How many there were.
    pub count: u64,
    /// The sum of their sizes.
    pub sum: f64,
}

impl Family {
    /// A family of numbers that only grow.
    #[must_use]
    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter, samples: Vec::new() }
    }

    /// A family of numbers that go up and down.
    #[must_use]
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge, samples: Vec::new() }
    }

    /// A family of histograms.
    #[must_use]
    pub fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Histogram, samples: Vec::new() }
    }

    /// With the only sample of a family without labels; without one, there is nothing to tell.
    #[must_use]
    pub fn of(self, number: impl Into<Option<f64>>) -> Self {
        match number.into() {
            Some(number) => self.with(Vec::new(), number),
            None => self,
        }
    }

    /// With one more number.
    #[must_use]
    pub fn with(mut self, labels: Vec<(&'static str, String)>, number: f64) -> Self {
        self.samples.push(Sample { labels, value: Value::Number(number) });
        self
    }

    /// With many more numbers.
    #[must_use]
    pub fn with_all(self, samples: impl IntoIterator<Item = (Vec<(&'static str, String)>, f64)>) -> Self {
        samples.into_iter().fold(self, |family, (labels, number)| family.with(labels, number))
    }

    /// With one more histogram.
    #[must_use]
    pub fn with_histogram(mut self, labels: Vec<(&'static str, String)>, histogram: Histogram) -> Self {
        self.samples.push(Sample { labels, value: Value::Histogram(histogram) });
        self
    }
}

impl Histogram {
    /// Of durations in seconds, from counts by upper bound. `counts` may end with a bucket of all that is longer, whose
    /// bound is `None`.
    #[must_use]
    pub fn of_durations(counts: impl IntoIterator<Item = (Option<Duration>, u64)>, sum: Duration) -> Self {
        let (mut buckets, mut count) = (Vec::new(), 0);
        for (bound, more) in counts {
            count += more;
            if let Some(bound) = bound {
                buckets.push((bound.as_secs_f64(), count));
            }
        }
        Self { buckets, count, sum: sum.as_secs_f64() }
    }
}
