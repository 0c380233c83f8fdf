//! `/metrics`: everything that is counted, in Prometheus's text format.
//!
//! The numbers are read when they are asked for: counting costs the tasks nothing more.

use super::Site;
use super::checkpoints::cause_name;
use super::refusal::Refusal;
use super::store_metrics::of_store;
use crate::dataflow::metrics::Distribution;
use crate::job::board::Board;
use crate::job::board::reading::TaskReading;
use crate::job::usage;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::EventTime;

pub(super) async fn show(State(site): State<Arc<Site>>) -> Result<impl IntoResponse, Refusal> {
    let text = text(&site.view.board).map_err(|error| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
            "this is a mistake in Weir; please report it",
        )
    })?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text))
}

/// All metrics as text.
pub(super) fn text(board: &Board) -> prometheus::Result<String> {
    let mut families = of_tasks(&board.readings());
    families.push(late_rows(board));
    families.extend(of_checkpoints(board));
    families.extend(of_job(board));
    families.extend(board.store.get().into_iter().flat_map(|meter| of_store(meter)));
    families.retain(|family| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families)
}

/// A counter of a task: its name, what it counts, and where it is read.
type Reading = (&'static str, &'static str, fn(&TaskReading) -> f64);

fn of_tasks(tasks: &[TaskReading]) -> Vec<MetricFamily> {
    let counters: [Reading; 8] = [
        ("weir_task_rows_in_total", "Rows read from the source, or received.", |task| task.rows_in as f64),
        ("weir_task_rows_out_total", "Rows written to sinks, or sent.", |task| task.rows_out as f64),
        ("weir_task_bytes_in_total", "Bytes read from the source before decoding, or received.", |task| {
            task.bytes_in as f64
        }),
        ("weir_task_bytes_out_total", "Bytes given out.", |task| task.bytes_out as f64),
        ("weir_task_busy_seconds_total", "Seconds of work.", |task| seconds_of(task.busy_ns)),
        ("weir_task_idle_seconds_total", "Seconds of waiting for input.", |task| seconds_of(task.idle_ns)),
        ("weir_task_backpressured_seconds_total", "Seconds of waiting for room downstream.", |task| {
            seconds_of(task.backpressured_ns)
        }),
        ("weir_task_bad_records_total", "Records that could not be decoded.", |task| task.bad_records as f64),
    ];
    let of_each = |metric: fn(&TaskReading) -> f64, make: fn(Vec<LabelPair>, f64) -> Metric| {
        tasks.iter().map(move |task| make(labels_of(task), metric(task))).collect()
    };
    let mut families: Vec<MetricFamily> = counters
        .into_iter()
        .map(|(name, help, metric)| family(name, help, MetricType::COUNTER, of_each(metric, counter)))
        .collect();
    let running = || tasks.iter().filter(|task| task.running);
    let state = running().map(|task| gauge(labels_of(task), task.state_bytes as f64)).collect();
    families.push(family("weir_task_state_bytes", "Bytes of state.", MetricType::GAUGE, state));
    let watermarks = running().filter_map(|task| Some((task, task.watermark.filter(|time| *time != EventTime::MAX)?)));
    let watermarks = watermarks.map(|(task, watermark)| gauge(labels_of(task), watermark.0 as f64)).collect();
    let help =
        "The task's watermark, in milliseconds of event time since 1970; absent before the first and after the last.";
    families.push(family("weir_task_watermark_ms", help, MetricType::GAUGE, watermarks));
    let sinks = tasks.iter().filter(|task| task.ends.sink);
    let latency = sinks.map(|task| histogram(labels_of(task), &task.latency, 7)).collect();
    let help = "Seconds that rows took from their source to the sink, by row.";
    families.push(family("weir_sink_latency_seconds", help, MetricType::HISTOGRAM, latency));
    families
}

fn late_rows(board: &Board) -> MetricFamily {
    let chains = &board.graph.chains;
    let late = board.late_rows().into_iter().filter_map(|(chain, rows)| {
        let name = chains.get(chain as usize)?.name(&board.plan);
        Some(counter(labels(&[("chain", &chain.to_string()), ("name", &name)]), rows as f64))
    });
    let help = "Rows that came too late for their windows, by chain; goes on with the job's state.";
    family("weir_task_late_rows_total", help, MetricType::COUNTER, late.collect())
}

fn of_checkpoints(board: &Board) -> Vec<MetricFamily> {
    let costs = &board.costs;
    let duration = histogram(Vec::new(), &costs.duration.read(), 10);
    let parts = [("align", &costs.align), ("sync", &costs.sync), ("upload", &costs.upload)];
    let parts = parts.map(|(part, latency)| histogram(labels(&[("part", part)]), &latency.read(), 7));
    let status = board.status().map(|(status, _)| status);
    let sizes = status.as_ref().and_then(|status| status.last).map(|last| last.sizes);
    let size = |bytes: fn(weir_protocol::chain::Sizes) -> u64| {
        sizes.map(|sizes| gauge(Vec::new(), bytes(sizes) as f64)).into_iter().collect()
    };
    let completed = status.as_ref().map_or(0, |status| status.completed);
    let outcome = |outcome, cause, count: u64| counter(labels(&[("outcome", outcome), ("cause", cause)]), count as f64);
    let mut outcomes = vec![outcome("completed", "", completed)];
    if let Some(status) = &status {
        outcomes.extend(status.failed.iter().map(|(cause, count)| outcome("failed", cause_name(*cause), *count)));
    }
    vec![
        family(
            "weir_checkpoint_duration_seconds",
            "Seconds from a checkpoint's trigger to its completion.",
            MetricType::HISTOGRAM,
            vec![duration],
        ),
        family(
            "weir_checkpoint_part_seconds",
            "Seconds that the parts of a task's snapshot took.",
            MetricType::HISTOGRAM,
            parts.into(),
        ),
        family(
            "weir_checkpoint_size_bytes",
            "Bytes of all files that the last checkpoint needs.",
            MetricType::GAUGE,
            size(|sizes| sizes.total_bytes),
        ),
        family(
            "weir_checkpoint_written_bytes",
            "Bytes that the last checkpoint wrote.",
            MetricType::GAUGE,
            size(|sizes| sizes.written_bytes),
        ),
        family("weir_checkpoints_total", "Checkpoints, by outcome.", MetricType::COUNTER, outcomes),
    ]
}

fn of_job(board: &Board) -> Vec<MetricFamily> {
    let restarts = board.status().map_or(0, |(status, _)| status.restarts);
    let generation = board.generation().map(|generation| gauge(Vec::new(), generation.0 as f64));
    let resident = usage::memory_bytes().map(|bytes| gauge(Vec::new(), bytes as f64));
    let cpu = usage::cpu_seconds().map(|seconds| counter(Vec::new(), seconds));
    vec![
        family(
            "weir_restarts_total",
            "Generations that were started again after a failure.",
            MetricType::COUNTER,
            vec![counter(Vec::new(), restarts as f64)],
        ),
        family("weir_generation", "The running generation.", MetricType::GAUGE, generation.into_iter().collect()),
        family(
            "process_resident_memory_bytes",
            "Resident memory of the process.",
            MetricType::GAUGE,
            resident.into_iter().collect(),
        ),
        family(
            "process_cpu_seconds_total",
            "Processor time of the process, of all threads.",
            MetricType::COUNTER,
            cpu.into_iter().collect(),
        ),
    ]
}

fn seconds_of(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

fn labels_of(task: &TaskReading) -> Vec<LabelPair> {
    let (chain, subtask) = (task.task.chain.to_string(), task.task.subtask.to_string());
    labels(&[("chain", &chain), ("name", &task.name), ("task", &subtask)])
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    pairs.iter().map(pair).collect()
}

pub(super) fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

pub(super) fn counter(labels: Vec<LabelPair>, value: f64) -> Metric {
    let (mut metric, mut counter) = (Metric::from_label(labels), Counter::default());
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let (mut metric, mut gauge) = (Metric::from_label(labels), Gauge::default());
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

/// The longest bucket, as a power of two in microseconds: about two minutes.
const LAST_BUCKET: u32 = 27;

/// Buckets that double from `2^first` microseconds.
fn histogram(labels: Vec<LabelPair>, durations: &Distribution, first: u32) -> Metric {
    let buckets = (first..=LAST_BUCKET).map(|power| {
        let (mut bucket, bound) = (Bucket::default(), Duration::from_micros(1 << power));
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(durations.up_to(bound));
        bucket
    });
    let (mut metric, mut histogram) = (Metric::from_label(labels), Histogram::default());
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(durations.count());
    histogram.set_sample_sum(durations.sum().as_secs_f64());
    metric.set_histogram(histogram);
    metric
}
