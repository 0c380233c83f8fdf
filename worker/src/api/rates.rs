//! Rates of the last seconds, from counters noted once a second.

use crate::job::board::reading::TaskReading;
use std::collections::VecDeque;
use std::time::Instant;

/// Samples that are kept: rates are of about five seconds.
const SAMPLES: usize = 6;

/// The counters of the last seconds.
pub(super) struct Rates {
    samples: VecDeque<(Instant, Vec<TaskReading>)>,
}

/// What a task did per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    pub(super) rows_in: f64,
    pub(super) rows_out: f64,
    pub(super) bytes_in: f64,
    pub(super) bytes_out: f64,
    pub(super) shares: Option<Shares>,
}

/// Shares of a task's time, which add up to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shares {
    pub(super) busy: f64,
    pub(super) idle: f64,
    pub(super) backpressured: f64,
}

impl Rates {
    pub(super) fn starting_with(now: Instant, readings: Vec<TaskReading>) -> Self {
        Self { samples: VecDeque::from([(now, readings)]) }
    }

    pub(super) fn note(&mut self, now: Instant, readings: Vec<TaskReading>) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, readings));
    }

    /// The rate since the oldest sample; `None` for a task that is not in it, or when no time has passed.
    pub(super) fn of(&self, now: Instant, task: &TaskReading) -> Option<Rate> {
        let (at, readings) = self.samples.front()?;
        let seconds = now.saturating_duration_since(*at).as_secs_f64();
        let before = readings.iter().find(|reading| reading.task == task.task).filter(|_| seconds > 0.0)?;
        let since = |counter: fn(&TaskReading) -> u64| counter(task).saturating_sub(counter(before)) as f64;
        let (busy, idle) = (since(|task| task.busy_ns), since(|task| task.idle_ns));
        let backpressured = since(|task| task.backpressured_ns);
        let all = busy + idle + backpressured;
        let shares = Shares { busy: busy / all, idle: idle / all, backpressured: backpressured / all };
        Some(Rate {
            rows_in: since(|task| task.rows_in) / seconds,
            rows_out: since(|task| task.rows_out) / seconds,
            bytes_in: since(|task| task.bytes_in) / seconds,
            bytes_out: since(|task| task.bytes_out) / seconds,
            shares: (all > 0.0).then_some(shares),
        })
    }
}
