//! What is known of a running job: written by the job, read by the progress line, the HTTP API and the metrics.

pub mod assignments;
mod notices;
pub mod reading;
pub mod savepoints;

use crate::checkpoint::store::copies::Copies;
use crate::checkpoint::store::s3::meter::Meter;
use crate::dataflow::graph::Graph;
use crate::dataflow::metrics::{Latency, TaskMetrics};
use crate::job::deploy::warm::Reused;
use crate::job::origin::Origins;
use crate::plan::Plan;
use assignments::{Assignments, Awaited};
use parking_lot::Mutex;
use reading::TaskReading;
use savepoints::{Conflict, SavepointRequest, Savepoints};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use weir_protocol::chain::Sizes;
use weir_protocol::leader::{End, ErrorKind, FailureCause, Notice, Status};
use weir_protocol::members::Session;
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
    /// What checkpoints cost since the run began.
    pub costs: Costs,
    /// What is counted of requests to the store, where that is a bucket.
    pub store: OnceLock<Arc<Meter>>,
    /// What is counted of local copies of state, where there are some.
    pub copies: OnceLock<Arc<Copies>>,
    /// How much state tasks found in memory.
    pub reused: Arc<Reused>,
    /// The way to other jobs' state, which assignments may name.
    pub origins: OnceLock<Arc<Origins>>,
    began: Instant,
    changes: watch::Sender<()>,
    state: Mutex<State>,
}

/// How long checkpoints and their parts took, since the run began.
#[derive(Debug, Default)]
pub struct Costs {
    /// Completed checkpoints, from trigger to completion.
    pub duration: Latency,
    /// From the first barrier of an input to the last, by task.
    pub align: Latency,
    /// In the task, by task.
    pub sync: Latency,
    /// Encoding and upload beside the task, by task.
    pub upload: Latency,
}

#[derive(Default)]
struct State {
    status: Option<(Status, Now, Instant)>,
    generation: Option<Generation>,
    tasks: Vec<Arc<TaskMetrics>>,
    /// What workers in other processes told of their tasks, over all their generations, by connection.
    elsewhere: BTreeMap<Session, Vec<TaskReading>>,
    /// Sums of the tasks of generations that have ended.
    before: BTreeMap<TaskId, TaskReading>,
    /// The most late rows that each chain had in any generation that has ended.
    late_before: BTreeMap<u32, u64>,
    checkpoints: VecDeque<CheckpointDetails>,
    savepoints: Savepoints,
    assignments: Assignments,
    notices: VecDeque<String>,
    last_failure: Option<LastFailure>,
    end: Option<End>,
    registered: usize,
    restarts: BTreeMap<ErrorKind, u64>,
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
    /// The generation that took it: numbers of failed checkpoints come again in the next one.
    pub generation: Option<Generation>,
    /// Its number.
    pub checkpoint: CheckpointId,
    /// What became of it.
    pub outcome: CheckpointOutcome,
    /// How large it is, once it is complete.
    pub sizes: Option<Sizes>,
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
        let (changes, _) = watch::channel(());
        let state = Mutex::new(State::default());
        Self {
            plan,
            graph,
            costs: Costs::default(),
            store: OnceLock::new(),
            origins: OnceLock::new(),
            copies: OnceLock::new(),
            reused: Arc::default(),
            began: Instant::now(),
            changes,
            state,
        }
    }

    /// How long the run has been going on.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// Hears of every change of a savepoint.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The leader's status, and the moment on its clock.
    pub fn update(&self, status: &Status, now: Now) {
        let mut state = self.state.lock();
        if let Some(last) = status.last {
            let same = |details: &&mut CheckpointDetails| {
                details.checkpoint == last.checkpoint
                    && matches!(details.outcome, CheckpointOutcome::Completed { link, .. } if link == last.link)
            };
            if let Some(details) = state.checkpoints.iter_mut().rev().find(same) {
                details.sizes = Some(last.sizes);
            }
        }
        state.status = Some((status.clone(), now, Instant::now()));
    }

    /// The leader's status, with the moment on its clock.
    #[must_use]
    pub fn status(&self) -> Option<(Status, Now)> {
        let state = self.state.lock();
        state.status.as_ref().map(|(status, now, at)| (status.clone(), now.after_ms(at.elapsed().as_millis() as u64)))
    }

    /// The tasks of the running generation that are in this process.
    #[must_use]
    pub fn tasks(&self) -> Vec<Arc<TaskMetrics>> {
        self.state.lock().tasks.clone()
    }

    /// The running generation.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.state.lock().generation
    }

    /// The numbers of all tasks, each with those of its predecessors in earlier generations of this run.
    #[must_use]
    pub fn readings(&self) -> Vec<TaskReading> {
        let state = self.state.lock();
        let mut readings = state.readings_here();
        for reading in state.elsewhere.values().flatten() {
            let both = match readings.remove(&reading.task) {
                None => reading.clone(),
                Some(other) if other.running => other.after(Some(reading)),
                Some(other) => reading.clone().after(Some(&other)),
            };
            readings.insert(reading.task, both);
        }
        readings.into_values().collect()
    }

    /// The numbers of the tasks in this process, each with those of its predecessors here.
    #[must_use]
    pub fn readings_here(&self) -> Vec<TaskReading> {
        self.state.lock().readings_here().into_values().collect()
    }

    /// A worker in another process tells of its tasks.
    pub fn worker(&self, session: Session, readings: Vec<TaskReading>) {
        self.state.lock().elsewhere.insert(session, readings);
    }

    /// A worker in another process is gone: what its tasks counted stays.
    pub fn worker_lost(&self, session: Session) {
        let mut state = self.state.lock();
        if let Some(readings) = state.elsewhere.get_mut(&session) {
            let ended = std::mem::take(readings).into_iter().map(TaskReading::ended);
            *readings = ended.collect();
        }
    }

    /// Tells the user something.
    pub fn remark(&self, text: String) {
        self.state.lock().remark(text);
    }

    /// Rows that came too late, by chain. A generation goes on with the count of the checkpoint it was restored from:
    /// generations are not added up, and the count never falls.
    #[must_use]
    pub fn late_rows(&self) -> BTreeMap<u32, u64> {
        self.state.lock().late_rows()
    }

    /// Sums over all generations of this run.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let late_rows = self.late_rows().values().sum();
        self.readings().iter().fold(Totals { late_rows, ..Totals::default() }, Totals::plus)
    }

    /// Details of the newest checkpoints, oldest first.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<CheckpointDetails> {
        self.state.lock().checkpoints.iter().cloned().collect()
    }

    /// Savepoints that were asked for during this run, by name.
    #[must_use]
    pub fn savepoints(&self) -> BTreeMap<String, SavepointRequest> {
        self.state.lock().savepoints.requests().clone()
    }

    /// Notes that a savepoint is asked for, unless the name is taken; then the job is not to be asked.
    pub fn ask_savepoint(&self, name: &str, uid: &str) -> Result<(), Conflict> {
        let mut state = self.state.lock();
        let State { status, savepoints, .. } = &mut *state;
        let pin = status.as_ref().and_then(|(status, ..)| status.savepoints.get(name));
        savepoints.ask(name, uid, pin)
    }

    /// Notes that a savepoint is being given up.
    pub fn release_savepoint(&self, name: &str) -> Result<(), Conflict> {
        let mut state = self.state.lock();
        let State { status, savepoints, .. } = &mut *state;
        let pin = status.as_ref().and_then(|(status, ..)| status.savepoints.get(name));
        savepoints.release(name, pin)
    }

    /// A request for an assignment that waits for its answer.
    #[must_use]
    pub fn await_assignment(&self) -> Awaited {
        self.state.lock().assignments.wait()
    }

    /// The last revision that the job could not change to, and why.
    #[must_use]
    pub fn failed_assignment(&self) -> Option<(u64, String)> {
        self.state.lock().assignments.last_failed()
    }

    /// The uid of the request for a savepoint that is still on its way.
    #[must_use]
    pub fn pending_savepoint(&self, name: &str) -> Option<String> {
        self.state.lock().savepoints.pending(name)
    }

    /// Remarks for the user since the last call.
    #[must_use]
    pub fn take_notices(&self) -> Vec<String> {
        self.state.lock().notices.drain(..).collect()
    }

    /// The job has ended, perhaps of a failure; `None` when it goes on after all.
    pub fn ended(&self, end: Option<End>, failure: Option<LastFailure>) {
        let mut state = self.state.lock();
        if let Some(failure) = failure {
            state.remark(format!("the job has failed and waits for another assignment: {}", failure.message));
            state.last_failure = Some(failure);
        }
        state.end = end;
        drop(state);
        self.changes.send_replace(());
    }

    /// How the job ended, while its leader waits for another assignment.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.state.lock().end.clone()
    }

    /// So many workers are registered.
    pub fn registered(&self, workers: usize) {
        self.state.lock().registered = workers;
    }

    /// How many workers are registered.
    #[must_use]
    pub fn workers_registered(&self) -> usize {
        self.state.lock().registered
    }

    /// Why the last generation failed.
    #[must_use]
    pub fn last_failure(&self) -> Option<LastFailure> {
        self.state.lock().last_failure.clone()
    }

    /// How many generations were started again after a failure of each kind; kinds that did not occur are zero.
    #[must_use]
    pub fn restarts(&self) -> BTreeMap<ErrorKind, u64> {
        use ErrorKind as E;
        let kinds = [E::User, E::Transient, E::Corrupt, E::Fenced, E::Bug];
        let state = self.state.lock();
        kinds.into_iter().map(|kind| (kind, state.restarts.get(&kind).copied().unwrap_or(0))).collect()
    }

    /// The tasks of a generation run.
    pub fn deployed(&self, generation: Generation, tasks: impl IntoIterator<Item = Arc<TaskMetrics>>) {
        let mut state = self.state.lock();
        state.generation = Some(generation);
        state.tasks = tasks.into_iter().collect();
    }

    /// They have ended.
    pub fn cancelled(&self) {
        let mut state = self.state.lock();
        state.late_before = state.late_rows();
        for task in std::mem::take(&mut state.tasks) {
            let reading = TaskReading::of(&task).after(state.before.get(&task.task));
            state.before.insert(task.task, reading.ended());
        }
    }

    /// A task has acknowledged a checkpoint.
    pub fn cost(&self, generation: Generation, checkpoint: CheckpointId, task: TaskId, cost: SnapshotCost) {
        self.costs.align.observe(Duration::from_micros(cost.align_us), 1);
        self.costs.sync.observe(Duration::from_micros(cost.sync_us), 1);
        self.costs.upload.observe(Duration::from_micros(cost.upload_us), 1);
        let mut state = self.state.lock();
        if state.generation == Some(generation) {
            state.details(checkpoint).tasks.insert(task, cost);
        }
    }

    /// Something that the leader reports.
    pub fn notice(&self, notice: &Notice) {
        if let Notice::CheckpointCompleted { duration_ms, .. } = notice {
            self.costs.duration.observe(Duration::from_millis(*duration_ms), 1);
        }
        let mut state = self.state.lock();
        if let Some(text) = state.note(notice) {
            state.remark(text);
        }
        drop(state);
        self.changes.send_replace(());
    }
}

impl Totals {
    fn plus(self, task: &TaskReading) -> Self {
        let source = |count: u64| if task.ends.source { count } else { 0 };
        Self {
            rows_in: self.rows_in + source(task.rows_in),
            bytes_in: self.bytes_in + source(task.bytes_in),
            rows_out: self.rows_out + if task.ends.sink { task.rows_written } else { 0 },
            late_rows: self.late_rows,
            bad_records: self.bad_records + task.bad_records,
        }
    }
}

impl State {
    fn readings_here(&self) -> BTreeMap<TaskId, TaskReading> {
        let mut readings = self.before.clone();
        for task in &self.tasks {
            let reading = TaskReading::of(task).after(self.before.get(&task.task));
            readings.insert(task.task, reading);
        }
        readings
    }

    fn remark(&mut self, text: String) {
        tracing::info!(notice = text, "job");
        self.notices.push_back(text);
        if self.notices.len() > HISTORY {
            self.notices.pop_front();
        }
    }

    fn late_rows(&self) -> BTreeMap<u32, u64> {
        let mut late: BTreeMap<u32, u64> = BTreeMap::new();
        for task in self.elsewhere.values().flatten().filter(|task| task.running) {
            *late.entry(task.task.chain).or_default() += task.late_rows;
        }
        for task in &self.tasks {
            *late.entry(task.task.chain).or_default() += task.late_rows.get();
        }
        for (chain, before) in &self.late_before {
            let now = late.entry(*chain).or_default();
            *now = (*now).max(*before);
        }
        late
    }

    /// The checkpoint of this number of the running generation.
    fn details(&mut self, checkpoint: CheckpointId) -> &mut CheckpointDetails {
        let generation = self.generation;
        let same = |details: &CheckpointDetails| details.checkpoint == checkpoint && details.generation == generation;
        let place = self.checkpoints.iter().position(same);
        let place = place.unwrap_or_else(|| {
            if self.checkpoints.len() == HISTORY {
                self.checkpoints.pop_front();
            }
            let outcome = CheckpointOutcome::InProgress;
            let details = CheckpointDetails { generation, checkpoint, outcome, sizes: None, tasks: BTreeMap::new() };
            self.checkpoints.push_back(details);
            self.checkpoints.len() - 1
        });
        &mut self.checkpoints[place]
    }
}
