//! The numbers of a task at one moment, with those of its predecessors in earlier generations.

use crate::dataflow::metrics::{Distribution, Ends, TaskMetrics};
use serde::{Deserialize, Serialize};
use weir_protocol::{EventTime, TaskId};

/// The numbers of a task at one moment. Counts go on over generations; state and event time are of the running one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReading {
    /// The task.
    pub task: TaskId,
    /// The names of the chain's steps.
    pub name: String,
    /// Where its chain begins and ends.
    pub ends: Ends,
    /// False when its generation has ended and the next one does not run yet.
    pub running: bool,
    /// Rows read from the source, or received.
    pub rows_in: u64,
    /// Rows written to sinks, or sent.
    pub rows_out: u64,
    /// Rows written by the chain's sinks.
    pub rows_written: u64,
    /// Bytes read from the source, or received.
    pub bytes_in: u64,
    /// Bytes given out.
    pub bytes_out: u64,
    /// Nanoseconds of work.
    pub busy_ns: u64,
    /// Nanoseconds of waiting for input.
    pub idle_ns: u64,
    /// Nanoseconds of waiting for room downstream.
    pub backpressured_ns: u64,
    /// Records that could not be decoded.
    pub bad_records: u64,
    /// Rows that came too late, as the task's state has it: of this generation and what it was restored with.
    pub late_rows: u64,
    /// Bytes of state; zero when it does not run.
    pub state_bytes: u64,
    /// The task's watermark, once it has one.
    pub watermark: Option<EventTime>,
    /// How long rows took from their source to a sink of this task.
    pub latency: Distribution,
}

impl TaskReading {
    /// The numbers of a running task alone.
    #[must_use]
    pub fn of(task: &TaskMetrics) -> Self {
        Self {
            task: task.task,
            name: task.name.clone(),
            ends: task.ends,
            running: true,
            rows_in: task.rows_in.get(),
            rows_out: task.rows_out.get(),
            rows_written: task.rows_written.get(),
            bytes_in: task.bytes_in.get(),
            bytes_out: task.bytes_out.get(),
            busy_ns: task.busy_ns.get(),
            idle_ns: task.idle_ns.get(),
            backpressured_ns: task.backpressured_ns.get(),
            bad_records: task.bad_records.get(),
            late_rows: task.late_rows.get(),
            state_bytes: task.state_bytes.get(),
            watermark: Some(task.watermark()).filter(|watermark| *watermark != EventTime::MIN),
            latency: task.latency.read(),
        }
    }

    /// With what its predecessors had counted.
    #[must_use]
    pub fn after(self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self };
        Self {
            rows_in: self.rows_in + before.rows_in,
            rows_out: self.rows_out + before.rows_out,
            rows_written: self.rows_written + before.rows_written,
            bytes_in: self.bytes_in + before.bytes_in,
            bytes_out: self.bytes_out + before.bytes_out,
            busy_ns: self.busy_ns + before.busy_ns,
            idle_ns: self.idle_ns + before.idle_ns,
            backpressured_ns: self.backpressured_ns + before.backpressured_ns,
            bad_records: self.bad_records + before.bad_records,
            latency: self.latency.plus(&before.latency),
            ..self
        }
    }

    /// As it is once its generation has ended.
    #[must_use]
    pub fn ended(self) -> Self {
        Self { running: false, state_bytes: 0, watermark: None, ..self }
    }
}
