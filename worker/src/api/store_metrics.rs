//! What `/metrics` says of requests to the store.

use super::metrics::{counter, family, labels};
use crate::checkpoint::store::s3::meter::{BOUNDS_MS, Meter, Reading};
use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};
use std::time::Duration;

/// Counters by operation; operations that were never asked for are left out.
pub(super) fn of_store(meter: &Meter) -> Vec<MetricFamily> {
    let mut readings = meter.read();
    readings.retain(|reading| reading.attempts > 0);
    let counters: [(&str, &str, fn(&Reading) -> u64); 4] = [
        ("weir_store_errors_total", "Requests to the store that failed.", |reading| reading.errors),
        ("weir_store_throttled_total", "Requests that the store refused because of their number.", |reading| {
            reading.throttled
        }),
        ("weir_store_retries_total", "Requests that followed one that failed.", |reading| reading.retries),
        ("weir_store_bytes_total", "Bytes of content that requests moved.", |reading| reading.bytes),
    ];
    let of = |reading: &Reading| labels(&[("operation", reading.operation.name())]);
    let mut families: Vec<MetricFamily> = counters
        .into_iter()
        .map(|(name, help, value)| {
            let metrics = readings.iter().map(|reading| counter(of(reading), value(reading) as f64));
            family(name, help, MetricType::COUNTER, metrics.collect())
        })
        .collect();
    let latencies = readings.iter().map(latency).collect();
    let help = "Seconds that requests to the store took, failed ones too.";
    families.push(family("weir_store_request_seconds", help, MetricType::HISTOGRAM, latencies));
    families
}

fn latency(reading: &Reading) -> Metric {
    let mut cumulative = 0;
    let buckets = BOUNDS_MS.iter().zip(reading.latencies).map(|(bound_ms, attempts)| {
        cumulative += attempts;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(Duration::from_millis(*bound_ms).as_secs_f64());
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(reading.attempts);
    histogram.set_sample_sum(Duration::from_micros(reading.latency_us).as_secs_f64());
    let mut metric = Metric::from_label(labels(&[("operation", reading.operation.name())]));
    metric.set_histogram(histogram);
    metric
}
