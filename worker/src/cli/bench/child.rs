//! One query in a process of its own, so that processor time and memory are the query's alone.
//!
//! The benchmark starts its own program again with a hidden command; the job goes in by standard input, what was measured
//! comes back by standard output, both JSON.

use crate::cli::exit::{Code, Refusal};
use crate::cli::{job, run};
use crate::job::measure::{Measured, measure};
use crate::job::runner::{Job, Runner};
use crate::job::workers::{Here, Workers};
use crate::job::{budget, settings};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use weir_protocol::leader::{Mode, Resume, Stops};

/// The name of the hidden command.
pub(super) const COMMAND: &str = "measure";

/// What the process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// The job.
    pub manifest: String,
    /// Where its state goes.
    pub state_dir: PathBuf,
    /// From one checkpoint to the next, in milliseconds; `None`: only at the end.
    pub checkpoint_interval_ms: Option<u64>,
    /// Rows before measuring begins.
    pub warmup_rows: u64,
}

/// Runs the task in a new process.
pub(super) fn spawn(task: &Task) -> Result<Measured, Refusal> {
    let failed =
        |error: std::io::Error| Refusal::failed(format!("error: a process for the query could not be run: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let command = &mut Command::new(program);
    command.args(["bench", COMMAND]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let text = serde_json::to_vec(task).map_err(|error| failed(error.into()))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&text).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    let code = match output.status.code() {
        Some(0) => None,
        Some(2) => Some(Code::UserError),
        _ => Some(Code::Failed),
    };
    // The process has said itself what is wrong.
    if let Some(code) = code {
        return Err(Refusal::new(code, format!("error: the query's process ended with {}", output.status)));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Refusal::failed(format!("error: the query's process gave no result: {error}")))
}

/// What the new process does.
pub(super) fn run() -> Result<Code, Refusal> {
    let task: Task = serde_json::from_reader(std::io::stdin())
        .map_err(|error| Refusal::user(format!("error: this command is for the benchmark's own use: {error}")))?;
    let planned = job::plan_text("the benchmark's job", &task.manifest, None)?;
    let state = job::open_state(&planned.job, Some(&task.state_dir), None)?;
    let mode = Mode::Run { resume: Resume::Empty, stops: Stops::Lift };
    let claimant = state.claimant.clone();
    let mut options = settings::options(&planned.job, &planned.plan, claimant, planned.job.parallelism, mode)
        .map_err(|error| Refusal::user(format!("error: {error}")))?;
    options.checkpoint.interval_ms = task.checkpoint_interval_ms;
    let mut runner = Runner::new(Job {
        plan: Arc::clone(&planned.plan),
        options,
        store: Arc::clone(&state.store),
        uid: state.uid.clone(),
        workers: Workers::default(),
    });
    runner.work_here(Here::alone(None, budget::of_this_machine()));
    let (end, measured) = measure(runner, task.warmup_rows);
    match run::tell(&planned.job.name, end, true)? {
        Code::Done | Code::Stopped => {}
        code => return Ok(code),
    }
    let text = serde_json::to_string(&measured).map_err(|error| Refusal::failed(format!("error: {error}")))?;
    println!("{text}");
    Ok(Code::Done)
}
