//! What is known of a running job: written by the job, read by the progress line, the HTTP API and the metrics.

use super::deploy::Deployment;
use crate::dataflow::graph::Graph;
use crate::dataflow::metrics::TaskMetrics;
use crate::plan::Plan;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use weir_protocol::leader::{ErrorKind, FailureCause, Notice, Status};
use weir_protocol::snapshot::SnapshotCost;
use weir_protocol::{CheckpointId, Generation, LinkNumber, Now, TaskId};

/// Checkpoints whose details are kept for the status page.
const HISTORY: usize = 100;

/// What is known of a running job.
pub struct Board {
    /// The job's dataflow.
    pub plan: Arc<Plan>,
    /// Its chains.
    pub graph: Arc<Graph>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    status: Option<(Status, Now, Instant)>,
    generation: Option<Generation>,
    tasks: Vec<Arc<TaskMetrics>>,
    /// Sums of the tasks of generations that have ended.
    before: Totals,
    checkpoints: VecDeque<CheckpointDetails>,
    savepoints: BTreeMap<String, Savepoint>,
    notices: VecDeque<String>,
    last_failure: Option<LastFailure>,
}

/// Rows and bytes over the whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows read by sources.
    pub rows_in: u64,
    /// Rows written by sinks.
    pub rows_out: u64,
    /// Bytes read by sources.
    pub bytes_in: u64,
    /// Rows that came too late.
    pub late_rows: u64,
    /// Records that could not be decoded.
    pub bad_records: u64,
}

/// One checkpoint, for the status page.
#[derive(Debug, Clone)]
pub struct CheckpointDetails {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// What became of it.
    pub outcome: CheckpointOutcome,
    /// By task.
    pub tasks: BTreeMap<TaskId, SnapshotCost>,
}

/// What became of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointOutcome {
    /// It is being taken.
    InProgress,
    /// It is complete.
    Completed {
        /// Its link.
        link: LinkNumber,
        /// From its trigger, in milliseconds.
        duration_ms: u64,
    },
    /// It failed.
    Failed {
        /// Why.
        cause: FailureCause,
        /// For the user.
        message: String,
    },
}

/// What is known of a savepoint that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Savepoint {
    /// It will be taken.
    Pending,
    /// It is there.
    Completed(LinkNumber),
    /// It is not.
    Failed(String),
}

/// Why the job's last generation failed.
#[derive(Debug, Clone)]
pub struct LastFailure {
    /// What to do about it.
    pub kind: ErrorKind,
    /// For the user.
    pub message: String,
}

impl Board {
    /// An empty board for a plan.
    #[must_use]
    pub fn new(plan: Arc<Plan>, graph: Arc<Graph>) -> Self {
        Self { plan, graph, state: Mutex::new(State::default()) }
    }

    /// The leader's status, and the moment on its clock.
    pub fn update(&self, status: &Status, now: Now) {
        self.state.lock().status = Some((status.clone(), now, Instant::now()));
    }

    /// The leader's status, with the moment on its clock.
    #[must_use]
    pub fn status(&self) -> Option<(Status, Now)> {
        let state = self.state.lock();
        state.status.as_ref().map(|(status, now, at)| (status.clone(), now.after_ms(at.elapsed().as_millis() as u64)))
    }

    /// The tasks of the running generation.
    #[must_use]
    pub fn tasks(&self) -> Vec<Arc<TaskMetrics>> {
        self.state.lock().tasks.clone()
    }

    /// The running generation.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.state.lock().generation
    }

    /// Sums over all generations of this run.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let state = self.state.lock();
        state.tasks.iter().fold(state.before, |totals, task| totals.plus(task))
    }

    /// Details of the newest checkpoints, oldest first.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<CheckpointDetails> {
        self.state.lock().checkpoints.iter().cloned().collect()
    }

    /// Savepoints that were asked for during this run.
    #[must_use]
    pub fn savepoints(&self) -> BTreeMap<String, Savepoint> {
        self.state.lock().savepoints.clone()
    }

    /// Notes that a savepoint was asked for.
    pub fn savepoint_asked(&self, name: &str) {
        self.state.lock().savepoints.entry(name.to_owned()).or_insert(Savepoint::Pending);
    }

    /// Remarks for the user since the last call.
    #[must_use]
    pub fn take_notices(&self) -> Vec<String> {
        self.state.lock().notices.drain(..).collect()
    }

    /// Why the last generation failed.
    #[must_use]
    pub fn last_failure(&self) -> Option<LastFailure> {
        self.state.lock().last_failure.clone()
    }

    /// The tasks of a generation run.
    pub fn deployed(&self, generation: Generation, deployment: &Deployment) {
        let mut state = self.state.lock();
        state.generation = Some(generation);
        state.tasks = deployment.tasks.values().map(|task| Arc::clone(&task.metrics)).collect();
    }

    /// They have ended.
    pub fn cancelled(&self) {
        let mut state = self.state.lock();
        let ended = std::mem::take(&mut state.tasks);
        state.before = ended.iter().fold(state.before, |totals, task| totals.plus(task));
    }

    /// A task has acknowledged a checkpoint.
    pub fn cost(&self, checkpoint: CheckpointId, task: TaskId, cost: SnapshotCost) {
        self.state.lock().details(checkpoint).tasks.insert(task, cost);
    }

    /// Something that the leader reports.
    pub fn notice(&self, notice: &Notice) {
        let mut state = self.state.lock();
        if let Some(text) = state.note(notice) {
            tracing::info!(notice = text, "job");
            state.notices.push_back(text);
            if state.notices.len() > HISTORY {
                state.notices.pop_front();
            }
        }
    }
}

impl Totals {
    fn plus(self, task: &Arc<TaskMetrics>) -> Self {
        let source = |count: u64| if task.ends.source { count } else { 0 };
        Self {
            rows_in: self.rows_in + source(task.rows_in.get()),
            bytes_in: self.bytes_in + source(task.bytes_in.get()),
            rows_out: self.rows_out + if task.ends.sink { task.rows_written.get() } else { 0 },
            late_rows: self.late_rows + task.late_rows.get(),
            bad_records: self.bad_records + task.bad_records.get(),
        }
    }
}

impl State {
    fn details(&mut self, checkpoint: CheckpointId) -> &mut CheckpointDetails {
        let place = self.checkpoints.iter().position(|details| details.checkpoint == checkpoint);
        let place = place.unwrap_or_else(|| {
            if self.checkpoints.len() == HISTORY {
                self.checkpoints.pop_front();
            }
            let outcome = CheckpointOutcome::InProgress;
            self.checkpoints.push_back(CheckpointDetails { checkpoint, outcome, tasks: BTreeMap::new() });
            self.checkpoints.len() - 1
        });
        &mut self.checkpoints[place]
    }

    /// Keeps what a notice says; answers it as text where a user should read it.
    fn note(&mut self, notice: &Notice) -> Option<String> {
        match notice {
            Notice::Started { generation, restored: Some(checkpoint) } => {
                Some(format!("generation {generation} goes on from checkpoint {checkpoint}"))
            }
            Notice::Started { .. } => None,
            Notice::CheckpointCompleted { checkpoint, link, duration_ms } => {
                let (link, duration_ms) = (*link, *duration_ms);
                self.details(*checkpoint).outcome = CheckpointOutcome::Completed { link, duration_ms };
                None
            }
            Notice::CheckpointFailed { checkpoint, cause, message } => {
                let (cause, text) = (*cause, message.clone());
                self.details(*checkpoint).outcome = CheckpointOutcome::Failed { cause, message: text };
                Some(format!("checkpoint {checkpoint} failed: {message}"))
            }
            Notice::LinkUnusable { link, message } => Some(format!("link {link} of the chain cannot be used: {message}")),
            Notice::StoreTrouble { message } => Some(format!("the store has trouble, trying again: {message}")),
            Notice::CommitTrouble { message } => Some(format!("a sink could not commit, trying again: {message}")),
            Notice::SavepointCompleted { name, link, .. } => {
                self.savepoints.insert(name.clone(), Savepoint::Completed(*link));
                Some(format!("savepoint '{name}' is complete"))
            }
            Notice::SavepointFailed { name, message, .. } => {
                self.savepoints.insert(name.clone(), Savepoint::Failed(message.clone()));
                Some(format!("savepoint '{name}' failed: {message}"))
            }
            Notice::SavepointReleased { name } => {
                self.savepoints.remove(name);
                Some(format!("savepoint '{name}' is deleted"))
            }
            Notice::StopFailed { message } => Some(format!("the job could not be stopped and goes on: {message}")),
            Notice::GenerationFailed { generation, kind, message, restart_in_ms, .. } => {
                self.last_failure = Some(LastFailure { kind: *kind, message: message.clone() });
                let next = restart_in_ms.map_or(String::new(), |wait| format!("; next try in {wait} ms"));
                Some(format!("generation {generation} failed: {message}{next}"))
            }
        }
    }
}
