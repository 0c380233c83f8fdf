//! `weir bench`: what queries, and what workers of a job, cost on this machine.

mod child;
mod cluster;
mod exchange;
mod nexmark;

use super::exit::{Code, Refusal};
use super::table::{self, Align};
use crate::diagnostic::nearest;
use crate::job::measure::Measured;
use clap::Subcommand;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Measure what queries, workers, checkpoints and failures cost on this machine.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Nexmark(Nexmark),
    Exchange(exchange::Arguments),
    Workers(cluster::Workers),
    Checkpoint(cluster::Checkpoint),
    Recovery(cluster::Recovery),
    Rescale(cluster::Rescale),
    All(All),
    #[command(hide = true)]
    Measure,
    #[command(hide = true)]
    Send,
}

/// Run queries of the Nexmark benchmark over generated events into a blackhole.
///
/// Each query runs in a process of its own. Without --rate events come as fast as they are taken and the table tells how
/// many thousands of them one second of one core handles; with --rate they come at that pace, and it tells how long rows
/// take from their source to the sink.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  weir bench nexmark
  weir bench nexmark --queries q0,q17 --events 50000000 --parallelism 4 --checkpoint-interval 1s
  weir bench nexmark --queries q11 --rate 1000 --seconds 30")]
struct Nexmark {
    /// Queries, separated by commas.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = nexmark::QUERIES.map(|(name, _)| name))]
    queries: Vec<String>,
    /// Generated events for each query.
    #[arg(long, value_name = "N", default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "rate")]
    events: u64,
    /// Subtasks of every step.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=i64::from(weir_crds::MAX_PARALLELISM)))]
    parallelism: u32,
    /// Take a checkpoint this often, such as 1s; without it only at the end.
    #[arg(long, value_name = "TIME")]
    checkpoint_interval: Option<weir_crds::Duration>,
    /// Events per second of event time.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    event_rate: u64,
    /// Events per second of real time.
    #[arg(long, value_name = "N", requires = "seconds", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    rate: Option<u64>,
    /// How long to measure at --rate.
    #[arg(long, value_name = "N", requires = "rate", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: Option<u64>,
    /// Events that come before measuring begins.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,
    /// The seed of the generator.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    seed: i64,
    /// Print an object in JSON for each query.
    #[arg(long)]
    json: bool,
}

/// Runs the benchmark.
pub(super) fn run(arguments: &Arguments) -> Result<Code, Refusal> {
    match &arguments.command {
        Command::Nexmark(arguments) => arguments.run(),
        Command::Exchange(arguments) => exchange::run(arguments),
        Command::Workers(arguments) => arguments.run(),
        Command::Checkpoint(arguments) => arguments.run(),
        Command::Recovery(arguments) => arguments.run(),
        Command::Rescale(arguments) => arguments.run(),
        Command::All(arguments) => arguments.run(),
        Command::Measure => child::run(),
        Command::Send => exchange::send(),
    }
}

/// Run all benchmarks of several workers, one after the other, each as it is without options.
#[derive(Debug, clap::Args)]
struct All {
    /// Print objects in JSON.
    #[arg(long)]
    json: bool,
}

impl All {
    fn run(&self) -> Result<Code, Refusal> {
        let failed = |error: std::io::Error| Refusal::failed(format!("error: a benchmark could not be run: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        for name in ["exchange", "workers", "checkpoint", "recovery", "rescale"] {
            if !self.json {
                println!("weir bench {name}");
            }
            let options = self.json.then_some("--json");
            let status = std::process::Command::new(&program).args(["bench", name]).args(options).status();
            if !status.map_err(failed)?.success() {
                // It has said itself why.
                return Err(Refusal::failed(format!("error: weir bench {name} has failed")));
            }
            if !self.json {
                println!();
            }
        }
        Ok(Code::Done)
    }
}

impl Nexmark {
    fn run(&self) -> Result<Code, Refusal> {
        let queries = self.queries.iter().map(|name| query(name)).collect::<Result<Vec<_>, _>>()?;
        let scratch = Scratch::new()?;
        let mut rows = Vec::new();
        let mut code = Code::Done;
        for (name, sql) in queries {
            match child::spawn(&self.task(name, sql, &scratch)) {
                Ok(measured) if self.json => println!("{}", object(name, self.parallelism, &measured)),
                Ok(measured) => rows.push(self.row(name, &measured)),
                Err(refusal) => {
                    eprintln!("{name}: {refusal}");
                    code = refusal.code;
                }
            }
        }
        if !self.json {
            print!("{}", table::render(&self.headings(), &rows));
        }
        Ok(code)
    }

    fn task(&self, name: &str, sql: &str, scratch: &Scratch) -> child::Task {
        let measured = self.rate.zip(self.seconds).map_or(self.events, |(rate, seconds)| rate.saturating_mul(seconds));
        let events = measured.saturating_add(self.warmup);
        let generator =
            nexmark::Generator { events: Some(events), event_rate: self.event_rate, rate: self.rate, seed: self.seed };
        child::Task {
            manifest: nexmark::manifest(name, sql, &generator, self.parallelism),
            state_dir: scratch.0.join(format!("{name}-{}", uuid::Uuid::new_v4())),
            checkpoint_interval_ms: self
                .checkpoint_interval
                .map(|interval| std::time::Duration::from(interval).as_millis() as u64),
            warmup_rows: self.warmup,
        }
    }

    fn headings(&self) -> Vec<(&'static str, Align)> {
        let mut headings = vec![
            ("query", Align::Left),
            ("events", Align::Right),
            ("seconds", Align::Right),
            ("CPU s", Align::Right),
            ("k events/core s", Align::Right),
            ("peak MB", Align::Right),
            ("checkpoints", Align::Right),
        ];
        if self.rate.is_some() {
            headings.extend([("p50 ms", Align::Right), ("p99 ms", Align::Right)]);
        }
        headings
    }

    fn row(&self, name: &str, measured: &Measured) -> Vec<String> {
        let unknown = || "?".to_owned();
        let mut row = vec![
            name.to_owned(),
            measured.events.to_string(),
            format!("{:.2}", measured.seconds),
            measured.cpu_seconds.map_or_else(unknown, |seconds| format!("{seconds:.2}")),
            per_core_second(measured).map_or_else(unknown, |thousands| format!("{thousands:.0}")),
            measured.peak_rss_bytes.map_or_else(unknown, |bytes| (bytes / 1_000_000).to_string()),
            measured.checkpoints.to_string(),
        ];
        if self.rate.is_some() {
            let shown = |ms: Option<f64>| ms.map_or_else(|| "no rows".to_owned(), |ms| format!("{ms:.2}"));
            row.extend([shown(measured.p50_ms), shown(measured.p99_ms)]);
        }
        row
    }
}

/// Thousands of events that a core handles in a second.
fn per_core_second(measured: &Measured) -> Option<f64> {
    measured.cpu_seconds.filter(|seconds| *seconds > 0.0).map(|seconds| measured.events as f64 / seconds / 1000.0)
}

fn object(name: &str, parallelism: u32, measured: &Measured) -> Value {
    json!({
        "query": name,
        "parallelism": parallelism,
        "events": measured.events,
        "seconds": measured.seconds,
        "cpu_seconds": measured.cpu_seconds,
        "thousand_events_per_core_second": per_core_second(measured),
        "peak_rss_bytes": measured.peak_rss_bytes,
        "checkpoints": measured.checkpoints,
        "p50_ms": measured.p50_ms,
        "p99_ms": measured.p99_ms,
    })
}

fn query(name: &str) -> Result<(&'static str, &'static str), Refusal> {
    let name = name.trim();
    nexmark::QUERIES.into_iter().find(|(known, _)| *known == name).ok_or_else(|| {
        let known = nexmark::QUERIES.map(|(known, _)| known);
        let hint = nearest(name, known).map_or(String::new(), |near| format!(", perhaps {near} is meant"));
        Refusal::user(format!("error: there is no query {name}{hint}\nhint: there are {}", known.join(", ")))
    })
}

/// A folder for the state of the queries, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Refusal> {
        let folder = std::env::temp_dir().join(format!("weir-bench-{}", uuid::Uuid::new_v4()));
        let refused = |error: std::io::Error, folder: &Path| {
            Refusal::user(format!(
                "error: the folder {} could not be created: {error}\nhint: set TMPDIR to a folder that can be written",
                folder.display()
            ))
        };
        std::fs::create_dir_all(&folder).map_err(|error| refused(error, &folder))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
