//! What tasks count.

use super::doubling;
use crate::job::board::reading::TaskReading;
use crate::numbers::{Family, Numbers};
use std::time::Duration;
use weir_protocol::EventTime;

/// Shows the numbers of tasks, wherever they are read.
pub struct TaskNumbers<F>(pub F);

impl<F: Fn() -> Vec<TaskReading> + Send + Sync> Numbers for TaskNumbers<F> {
    fn families(&self) -> Vec<Family> {
        let tasks = (self.0)();
        let mut families: Vec<Family> = counters(&tasks).into();
        let running = || tasks.iter().filter(|task| task.running);
        let state = Family::gauge("weir_task_state_bytes", "Bytes of state.");
        families.push(state.with_all(running().map(|task| (labels(task), task.state_bytes as f64))));
        let help = "The task's watermark, in milliseconds of event time since 1970; absent before the first and after the last.";
        let event_time = |task: &TaskReading| task.watermark.filter(|time| *time != EventTime::MAX);
        let watermarks = running().filter_map(|task| Some((labels(task), event_time(task)?.0 as f64)));
        families.push(Family::gauge("weir_task_watermark_ms", help).with_all(watermarks));
        let help = "Seconds that rows took from their source to the sink, by row.";
        let latency = tasks.iter().filter(|task| task.ends.sink);
        families.push(latency.fold(Family::histogram("weir_sink_latency_seconds", help), |family, task| {
            family.with_histogram(labels(task), doubling(&task.latency, 7))
        }));
        families
    }
}

fn counters(tasks: &[TaskReading]) -> [Family; 8] {
    let counter = |name, help, number: fn(&TaskReading) -> f64| {
        Family::counter(name, help).with_all(tasks.iter().map(|task| (labels(task), number(task))))
    };
    [
        counter("weir_task_rows_in_total", "Rows read from the source, or received.", |task| task.rows_in as f64),
        counter("weir_task_rows_out_total", "Rows written to sinks, or sent.", |task| task.rows_out as f64),
        counter("weir_task_bytes_in_total", "Bytes read from the source before decoding, or received.", |task| {
            task.bytes_in as f64
        }),
        counter("weir_task_bytes_out_total", "Bytes given out.", |task| task.bytes_out as f64),
        counter("weir_task_busy_seconds_total", "Seconds of work.", |task| seconds(task.busy_ns)),
        counter("weir_task_idle_seconds_total", "Seconds of waiting for input.", |task| seconds(task.idle_ns)),
        counter("weir_task_backpressured_seconds_total", "Seconds of waiting for room downstream.", |task| {
            seconds(task.backpressured_ns)
        }),
        counter("weir_task_bad_records_total", "Records that could not be decoded.", |task| task.bad_records as f64),
    ]
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

fn labels(task: &TaskReading) -> Vec<(&'static str, String)> {
    let (chain, subtask) = (task.task.chain.to_string(), task.task.subtask.to_string());
    vec![("chain", chain), ("name", task.name.clone()), ("task", subtask)]
}
