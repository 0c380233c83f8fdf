//! `/metrics`: everything that is counted, in Prometheus's text format.

mod job;
mod process;
mod tables;
mod tasks;

pub use job::JobNumbers;
pub use process::ProcessNumbers;
pub use tables::TableNumbers;
pub use tasks::TaskNumbers;

use super::refusal::Refusal;
use crate::dataflow::metrics::Distribution;
use crate::numbers::{Family, Histogram, Kind, Numbers, Sample, Value};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram as Buckets, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The answer to `GET /metrics`.
pub(super) fn answer(parts: &[Arc<dyn Numbers>]) -> Response {
    match text(parts) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            let hint = "this is a mistake in Weir; please report it";
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), hint).into_response()
        }
    }
}

/// All metrics as text, by name.
pub(super) fn text(parts: &[Arc<dyn Numbers>]) -> prometheus::Result<String> {
    let mut families: BTreeMap<&'static str, MetricFamily> = BTreeMap::new();
    for family in parts.iter().flat_map(|part| part.families()).filter(|family| !family.samples.is_empty()) {
        let into = families.entry(family.name).or_insert_with(|| empty(&family));
        into.mut_metric().extend(family.samples.into_iter().map(|sample| encoded(sample, family.kind)));
    }
    TextEncoder::new().encode_to_string(&families.into_values().collect::<Vec<_>>())
}

fn empty(family: &Family) -> MetricFamily {
    let mut empty = MetricFamily::default();
    empty.set_name(family.name.to_owned());
    empty.set_help(family.help.to_owned());
    empty.set_field_type(match family.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    empty
}

fn encoded(sample: Sample, kind: Kind) -> Metric {
    let pair = |(name, value): (&str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    };
    let mut metric = Metric::from_label(sample.labels.into_iter().map(pair).collect());
    match (sample.value, kind) {
        (Value::Number(number), Kind::Counter) => {
            let mut counter = Counter::default();
            counter.set_value(number);
            metric.set_counter(counter);
        }
        (Value::Number(number), _) => {
            let mut gauge = Gauge::default();
            gauge.set_value(number);
            metric.set_gauge(gauge);
        }
        (Value::Histogram(histogram), _) => metric.set_histogram(buckets(&histogram)),
    }
    metric
}

fn buckets(histogram: &Histogram) -> Buckets {
    let bucket = |(bound, count): &(f64, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(*count);
        bucket
    };
    let mut buckets = Buckets::default();
    buckets.set_bucket(histogram.buckets.iter().map(bucket).collect());
    buckets.set_sample_count(histogram.count);
    buckets.set_sample_sum(histogram.sum);
    buckets
}

/// The longest bucket, as a power of two in microseconds: about two minutes.
const LAST_BUCKET: u32 = 27;

/// Buckets that double from `2^first` microseconds.
fn doubling(durations: &Distribution, first: u32) -> Histogram {
    let bounds = (first..=LAST_BUCKET).map(|power| Duration::from_micros(1 << power));
    Histogram {
        buckets: bounds.map(|bound| (bound.as_secs_f64(), durations.up_to(bound))).collect(),
        count: durations.count(),
        sum: durations.sum().as_secs_f64(),
    }
}
