//! `weir bench rescale`: how long output stops when a job gets more workers, or fewer.

use super::state_job::StateJob;
use super::watch::Watch;
use super::{Cluster, Storage, megabytes, ms, print};
use crate::cli::exit::{Code, Refusal};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Measure how long a job's output stops when it gets another number of workers.
///
/// Worker processes count rows by key. More of them are there already; then the job is assigned all of them, and after a
/// while the first ones again. The sinks' output is watched all 10 ms: the table tells the longest pause after each
/// assignment, how long the change took with its preparation, and how much state tasks found in memory.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  weir bench rescale
  weir bench rescale --megabytes 256 --from 1 --to 3")]
pub(in super::super) struct Rescale {
    /// State of the job.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    megabytes: u64,
    /// Worker processes to begin with, each with one subtask of every step.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    from: u32,
    /// Worker processes to change to.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    to: u32,
    /// Rows per second that change the state meanwhile.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..=100_000_000))]
    rate: u64,
    /// Print an object in JSON for each line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    storage: Storage,
}

impl Rescale {
    /// Runs the benchmark.
    pub(in super::super) fn run(&self) -> Result<Code, Refusal> {
        let job = StateJob::of_megabytes(self.megabytes, self.rate);
        let more = self.to.saturating_sub(self.from);
        let mut cluster = job.start(self.from, more, Duration::from_secs(1), &self.storage)?;
        let watch = Watch::start(cluster.processes.health.clone());
        let mut rows = Vec::new();
        for (revision, (before, after)) in [(self.from, self.to), (self.to, self.from)].into_iter().enumerate() {
            cluster.await_checkpoints(3)?;
            let (state, found) = (cluster.state_bytes(), cluster.sum("weir_state_reused_bytes_total", &[]));
            let assigned = Instant::now();
            assign(&mut cluster, revision as u64 + 1, after)?;
            let took = assigned.elapsed();
            cluster.await_checkpoints(1)?;
            let pause = watch.longest_pause(assigned).ok_or_else(|| Refusal::failed("error: there was no output"))?;
            rows.push(json!({
                "change": format!("{before} to {after} workers"),
                "state_mb": megabytes(state),
                "pause_ms": ms(pause.length()),
                "change_ms": ms(took),
                "found_in_memory_mb": megabytes(cluster.sum("weir_state_reused_bytes_total", &[]) - found),
            }));
        }
        Ok(print(self.json, &["change", "state MB", "pause ms", "change ms", "in memory MB"], &rows))
    }
}

/// Assigns so many workers, with a subtask of every step each, and waits until the job runs on them.
fn assign(cluster: &mut Cluster, revision: u64, workers: u32) -> Result<(), Refusal> {
    let in_force = |cluster: &Cluster| cluster.ask("GET", "/v1/assignment", None).map(|(_, answer)| answer);
    let code = cluster.until("the assignment in force", |cluster| Some(in_force(cluster)?["code"].clone()))?;
    let wanted = json!({"revision": revision, "parallelism": workers, "workers": workers, "code": code});
    let (status, answer) = cluster
        .ask("PUT", "/v1/assignment", Some(&wanted))
        .ok_or_else(|| Refusal::failed("error: the leader does not answer"))?;
    if status != 202 {
        return Err(Refusal::failed(format!("error: the job cannot be changed: {answer}")));
    }
    cluster.until("the change", |cluster| {
        let now = in_force(cluster)?;
        let (_, job) = cluster.ask("GET", "/v1/job", None)?;
        (now["revision"] == json!(revision) && now["change"] == Value::Null && job["state"] == "running").then_some(())
    })
}
