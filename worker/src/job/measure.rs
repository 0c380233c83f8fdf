//! Runs a job and measures what it costs.

use super::board::Board;
use super::runner::Runner;
use super::usage;
use crate::dataflow::metrics::Distribution;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use weir_protocol::leader::End;

/// How often a running job is looked at to find the end of its warm-up.
const LOOK: Duration = Duration::from_millis(2);

/// What a job cost from the end of its warm-up to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Rows read by sources.
    pub events: u64,
    /// Of the clock.
    pub seconds: f64,
    /// Of processors, by all threads of the process; `None` where the system does not tell.
    pub cpu_seconds: Option<f64>,
    /// The most memory that the process had since it began, in bytes; `None` where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
    /// Checkpoints that were completed during the whole run.
    pub checkpoints: u64,
    /// Half of the rows took less than this from their source to a sink, in milliseconds; `None` without rows.
    pub p50_ms: Option<f64>,
    /// Of a hundred rows, 99 took less than this, in milliseconds.
    pub p99_ms: Option<f64>,
}

struct Mark {
    at: Instant,
    rows: u64,
    cpu_seconds: Option<f64>,
    latency: Distribution,
}

impl Mark {
    fn now(board: &Board) -> Self {
        let readings = board.readings();
        Self {
            at: Instant::now(),
            rows: board.totals().rows_in,
            cpu_seconds: usage::cpu_seconds(),
            latency: readings.iter().fold(Distribution::default(), |sum, task| sum.plus(&task.latency)),
        }
    }
}

/// Runs the job to its end. Measuring begins when sources have read as many rows as the warm-up has.
#[must_use]
pub fn measure(runner: Runner, warmup_rows: u64) -> (End, Measured) {
    let board = runner.board();
    let (ended, end_of_run) = mpsc::channel::<()>();
    let watcher = std::thread::spawn({
        let board = Arc::clone(&board);
        // The job's threads need the time more than measuring does.
        let begin = Mark::now(&board);
        move || after_warmup(&board, warmup_rows, begin, &end_of_run)
    });
    let end = runner.run();
    drop(ended);
    let begin = watcher.join().expect("looking at a job does not panic");
    let last = Mark::now(&board);
    let latency = last.latency.since(&begin.latency);
    let quantile = |share: f64| latency.quantile(share).map(|took| took.as_secs_f64() * 1000.0);
    let measured = Measured {
        events: last.rows.saturating_sub(begin.rows),
        seconds: last.at.duration_since(begin.at).as_secs_f64(),
        cpu_seconds: last.cpu_seconds.zip(begin.cpu_seconds).map(|(last, begin)| last - begin),
        peak_rss_bytes: usage::peak_memory_bytes(),
        checkpoints: board.status().map_or(0, |(status, _)| status.completed),
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
    };
    (end, measured)
}

/// The mark of the end of the warm-up.
fn after_warmup(board: &Board, rows: u64, begin: Mark, end: &mpsc::Receiver<()>) -> Mark {
    if rows == 0 {
        return begin;
    }
    while board.totals().rows_in < rows && runs_for(end, LOOK) {}
    Mark::now(board)
}

/// Waits; false when the job has ended.
fn runs_for(end: &mpsc::Receiver<()>, wait: Duration) -> bool {
    matches!(end.recv_timeout(wait), Err(mpsc::RecvTimeoutError::Timeout))
}
