//! `weir bench recovery`: from the death of a worker to the next output.

use super::state_job::StateJob;
use super::watch::Watch;
use super::{Storage, megabytes, ms, print};
use crate::cli::exit::{Code, Refusal};
use serde_json::json;
use std::time::Duration;

/// Measure how long a job's output stops when one of its workers is killed.
///
/// Worker processes count rows by key. One of them is killed (SIGKILL) and started again 50 ms later. The sinks' output is
/// watched all 10 ms: the table tells the time from the kill to the first new row after the longest pause, and what tasks
/// read to get there.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  weir bench recovery
  weir bench recovery --megabytes 1000 --workers 4 --kill 0 --bucket weir --endpoint http://127.0.0.1:9000")]
pub(in super::super) struct Recovery {
    /// State of the job.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    megabytes: u64,
    /// Worker processes, each with one subtask of every step.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// The worker to kill; 0 leads the job.
    #[arg(long, value_name = "ORDINAL", default_value_t = 1)]
    kill: u32,
    /// How often.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Rows per second that change the state meanwhile.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..=100_000_000))]
    rate: u64,
    /// Print an object in JSON for each line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    storage: Storage,
}

impl Recovery {
    /// Runs the benchmark.
    pub(in super::super) fn run(&self) -> Result<Code, Refusal> {
        if self.kill >= self.workers {
            let last = self.workers - 1;
            return Err(Refusal::user(format!("error: --kill {} is no worker: the last one is {last}", self.kill)));
        }
        let job = StateJob::of_megabytes(self.megabytes, self.rate);
        let mut cluster = job.start(self.workers, 0, Duration::from_secs(1), &self.storage)?;
        let watch = Watch::start(cluster.processes.health.clone());
        let mut rows = Vec::new();
        for round in 1..=self.rounds {
            cluster.await_checkpoints(2)?;
            let state = cluster.state_bytes();
            let copies = cluster.sum("weir_state_read_bytes_total", &["from=\"copy\""]);
            let killed = cluster.processes.kill(self.kill);
            // Checkpoints of the next generation: everything has been restored by then.
            let before = cluster.sum("weir_generation", &[]);
            let generation = |cluster: &mut super::Cluster| {
                let now = cluster.sum("weir_generation", &[]);
                (now > before || self.kill == 0).then_some(())
            };
            cluster.until("the next generation", generation)?;
            cluster.await_checkpoints(1)?;
            let pause = watch.longest_pause(killed).ok_or_else(|| Refusal::failed("error: there was no output"))?;
            rows.push(json!({
                "round": round,
                "state_mb": megabytes(state),
                "output_after_ms": ms(pause.to.saturating_duration_since(killed)),
                "pause_ms": ms(pause.length()),
                "read_from_copies_mb":
                    megabytes((cluster.sum("weir_state_read_bytes_total", &["from=\"copy\""]) - copies).max(0.0)),
            }));
        }
        let headings = ["round", "state MB", "kill to output ms", "pause ms", "from copies MB"];
        Ok(print(self.json, &headings, &rows))
    }
}
