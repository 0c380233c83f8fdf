//! `weir bench checkpoint`: what checkpoints of much state cost of which little has changed.

use super::state_job::StateJob;
use super::{Cluster, Storage, megabytes, print};
use crate::cli::exit::{Code, Refusal};
use serde_json::{Value, json};
use std::time::Duration;

/// Measure what a checkpoint costs when little of much state has changed.
///
/// Worker processes count rows by key; from one checkpoint to the next, rows of random keys change a share of the groups.
/// The table has a line for each checkpoint: bytes written, those of merged files among them, and times as the leader and
/// the tasks tell them.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  weir bench checkpoint
  weir bench checkpoint --megabytes 4000 --changed 0.1 --bucket weir --endpoint http://127.0.0.1:9000")]
pub(in super::super) struct Checkpoint {
    /// State of the job.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    megabytes: u64,
    /// Groups that change from one checkpoint to the next, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = parse_percent)]
    changed: f64,
    /// Worker processes, each with one subtask of every step.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Checkpoints to look at.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=50))]
    checkpoints: u32,
    /// Print an object in JSON for each line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    storage: Storage,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("a number above 0 and at most 100 expected".to_owned()),
    }
}

impl Checkpoint {
    /// Runs the benchmark.
    pub(in super::super) fn run(&self) -> Result<Code, Refusal> {
        let job = StateJob::of_megabytes(self.megabytes, 0);
        let interval = Duration::from_secs(1);
        // So many draws of a random group touch that share of all.
        let draws = -(job.groups as f64) * (1.0 - self.changed.min(99.9) / 100.0).ln();
        let job = StateJob { rate: (draws / interval.as_secs_f64()).round().max(1.0) as u64, ..job };
        let mut cluster = job.start(self.workers, 0, interval, &self.storage)?;
        cluster.await_checkpoints(1)?;
        let state = cluster.state_bytes();
        cluster.await_checkpoints(self.checkpoints)?;
        let rows = self.rows(&cluster, state).ok_or_else(|| Refusal::failed("error: the leader does not answer"))?;
        let headings = ["checkpoint", "state MB", "files MB", "written MB", "ms", "align ms", "sync ms", "upload ms"];
        Ok(print(self.json, &headings, &rows))
    }

    fn rows(&self, cluster: &Cluster, state: f64) -> Option<Vec<Value>> {
        let (_, all) = cluster.ask("GET", "/v1/checkpoints", None)?;
        let completed = all["history"].as_array()?.iter().filter(|one| one["outcome"] == "completed");
        let newest: Vec<&Value> = completed.take(self.checkpoints as usize).collect();
        newest.into_iter().rev().map(|one| row(cluster, one, state)).collect()
    }
}

fn row(cluster: &Cluster, one: &Value, state: f64) -> Option<Value> {
    let (_, details) = cluster.ask("GET", &format!("/v1/checkpoints/{}", one["checkpoint"]), None)?;
    let longest = |field: &str| {
        let tasks = details["tasks"].as_array()?;
        tasks.iter().filter_map(|task| task[field].as_f64()).reduce(f64::max).map(|us| us / 1000.0)
    };
    let sizes = &one["sizes"];
    Some(json!({
        "checkpoint": one["checkpoint"],
        "state_mb": megabytes(state),
        "files_mb": sizes["totalBytes"].as_f64().map(megabytes),
        "written_mb": sizes["writtenBytes"].as_f64().map(|bytes| bytes / 1e6),
        "duration_ms": one["durationMs"],
        "longest_align_ms": longest("alignUs"),
        "longest_sync_ms": longest("syncUs"),
        "longest_upload_ms": longest("uploadUs"),
    }))
}
