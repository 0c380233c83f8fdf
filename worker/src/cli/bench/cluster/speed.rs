//! `weir bench workers`: what it costs that a job runs in several processes, and that it takes checkpoints.

use super::super::nexmark::{Generator, QUERIES, script};
use super::state_job::StateJob;
use super::{Cluster, JobSpec, Storage, print};
use crate::cli::exit::{Code, Refusal};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Checkpoints that do not come while a query is measured.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// Measure what several processes, and checkpoints, cost a job.
///
/// Queries of the Nexmark benchmark over generated events into a blackhole, and "state", which counts rows by key: 1000 MB of
/// groups are there, and rows of a hundredth of them come. As many subtasks as workers: in one worker process, in several,
/// and in several with checkpoints, by the clock and by the processor time of all workers. The three take turns, as the
/// speed of a machine changes: figures are medians of all rounds, ratios medians of those of each round.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  weir bench workers
  weir bench workers --queries q17 --seconds 20 --rounds 5 --workers 4 --interval 10s")]
pub(in super::super) struct Workers {
    /// Queries, or "state", separated by commas.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = ["q0", "q11", "q17", STATE])]
    queries: Vec<String>,
    /// How long to measure each run, after a second and a half of its beginning, or of its state's being there.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seconds: u64,
    /// Rounds of runs; those of an odd number have a middle.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Worker processes, each with one subtask of every step.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Checkpoints come this often.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    interval: weir_crds::Duration,
    /// Print an object in JSON for each line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    storage: Storage,
}

/// What stands for the query of a job with much state.
const STATE: &str = "state";
/// How much that is.
const STATE_MEGABYTES: u64 = 1000;

/// Before measuring begins, from the first event on.
const WARM_UP: Duration = Duration::from_millis(1500);

/// How quick a run is.
#[derive(Debug, Clone, Copy)]
struct Speed {
    /// Millions of events per second of the clock.
    by_clock: f64,
    /// Millions of events per second of a core.
    by_core: f64,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    events: f64,
    cpu_seconds: f64,
}

impl Workers {
    /// Runs the benchmark.
    pub(in super::super) fn run(&self) -> Result<Code, Refusal> {
        let mut rows = Vec::new();
        for query in &self.queries {
            let name = if query.trim() == STATE { STATE } else { super::super::query(query)?.0 };
            let round = || {
                let alone = self.measure(name, 1, NEVER)?;
                let together = self.measure(name, self.workers, NEVER)?;
                let with_checkpoints = self.measure(name, self.workers, Duration::from(self.interval))?;
                Ok([alone, together, with_checkpoints])
            };
            let rounds = (0..self.rounds).map(|_| round()).collect::<Result<Vec<_>, Refusal>>()?;
            for (at, run) in ["1 process", "processes", "processes, checkpoints"].into_iter().enumerate() {
                rows.push(row(name, run, &rounds, at));
            }
        }
        let headings = ["query", "run", "M events/s", "M events/core s", "% of the run before", "% by core"];
        Ok(print(self.json, &headings, &rows))
    }

    fn measure(&self, query: &str, processes: u32, interval: Duration) -> Result<Speed, Refusal> {
        let mut cluster = match query {
            STATE => self.with_state(processes, interval)?,
            _ => Cluster::start(&self.nexmark(query, interval), processes, 0)?,
        };
        let first = cluster.until("the first event", |cluster| Some(mark(cluster)).filter(|mark| mark.events > 0.0))?;
        let after = |wait: Duration| {
            let at = first.at + wait;
            move |cluster: &mut Cluster| (Instant::now() >= at).then(|| mark(cluster))
        };
        let begin = cluster.until("the begin of measuring", after(WARM_UP))?;
        let end = cluster.until("the end of measuring", after(WARM_UP + Duration::from_secs(self.seconds)))?;
        let events = (end.events - begin.events) / 1e6;
        let seconds = (end.at - begin.at).as_secs_f64();
        Ok(Speed { by_clock: events / seconds, by_core: events / (end.cpu_seconds - begin.cpu_seconds) })
    }

    fn nexmark(&self, query: &str, interval: Duration) -> JobSpec {
        let generator = Generator { events: None, event_rate: 100_000, rate: None, seed: 0 };
        let (_, sql) = QUERIES.into_iter().find(|(name, _)| *name == query).expect("the query was looked for");
        JobSpec {
            name: format!("nexmark-{query}"),
            sql: script(sql, &generator),
            parallelism: self.workers,
            checkpoint_interval: interval,
            storage: self.storage.clone(),
        }
    }

    /// All of the state is there, and in checkpoints if there are any.
    fn with_state(&self, processes: u32, interval: Duration) -> Result<Cluster, Refusal> {
        let job = StateJob::at_full_speed(STATE_MEGABYTES);
        let mut cluster = Cluster::start(&job.spec(self.workers, interval, &self.storage), processes, 0)?;
        job.await_state(&mut cluster)?;
        if interval < NEVER {
            StateJob::await_small_checkpoints(&mut cluster)?;
        }
        Ok(cluster)
    }
}

fn mark(cluster: &Cluster) -> Mark {
    let events = cluster.sum("weir_task_rows_in_total", &["name=\"source "]);
    Mark { at: Instant::now(), events, cpu_seconds: cluster.sum("process_cpu_seconds_total", &[]) }
}

fn row(query: &str, run: &str, rounds: &[[Speed; 3]], at: usize) -> Value {
    let speed = |of: fn(&Speed) -> f64| median(rounds.iter().map(|speeds| of(&speeds[at])).collect());
    let percent = |of: fn(&Speed) -> f64| {
        let before = at.checked_sub(1)?;
        median(rounds.iter().map(|speeds| of(&speeds[at]) / of(&speeds[before]) * 100.0).collect())
    };
    json!({
        "query": query,
        "run": run,
        "million_events_per_second": speed(|speed| speed.by_clock),
        "million_events_per_core_second": speed(|speed| speed.by_core),
        "percent_of_the_run_before": percent(|speed| speed.by_clock),
        "percent_by_core": percent(|speed| speed.by_core),
    })
}

/// The middle value, of an even number the upper one of the two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
