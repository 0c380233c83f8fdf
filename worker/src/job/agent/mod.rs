//! The worker's side of a job: starts and ends the tasks that are placed on this worker, and passes on what they say.
//!
//! An agent is a thread that takes [`Command`]s and gives [`Report`]s. It does not know whether the leader's side is in
//! the same process.

pub mod message;
mod near;

use super::beside::{self, Beginning, Side, UnderWay, Write, error_kind};
use super::board::Board;
use super::deploy::ahead::Ahead;
use super::deploy::warm::{Shelf, Warmed};
use super::deploy::{Blueprint, Deployment, Prepared};
use super::directory::foreign;
use crate::checkpoint::store::Store;
use crate::dataflow::element::{After, Barrier};
use crate::dataflow::graph::Graph;
use crate::dataflow::inbox::Control;
use crate::dataflow::metrics::TaskMetrics;
use crate::dataflow::task::{Events, Left, TaskEvent};
use crate::dataflow::throttle::Throttle;
use crate::exchange::{Exchange, Failed};
use crate::failure::{Kind, Result};
use crate::plan::Plan;
use message::{Command, Deploy, Report};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use weir_protocol::chain::Manifest;
use weir_protocol::key_group::KeyGroupMap;
use weir_protocol::leader::{BarrierKind, ErrorKind};
use weir_protocol::members::Placement;
use weir_protocol::{CheckpointId, Generation, TaskId};

/// What a worker runs its part of a job with.
#[derive(Clone)]
pub struct Work {
    /// The worker's ordinal.
    pub worker: u32,
    /// The job's dataflow.
    pub plan: Arc<Plan>,
    /// Its chains.
    pub graph: Arc<Graph>,
    /// Where its checkpoints are.
    pub store: Arc<dyn Store>,
    /// Unique for the job across all clusters.
    pub job_uid: String,
    /// Replay event time at this many times its pace.
    pub speed: Option<f64>,
    /// Bytes of state that all tasks of this worker together may hold.
    pub state_budget: u64,
    /// What is known of the worker's tasks.
    pub board: Arc<Board>,
    /// The way to other workers, if there are any.
    pub exchange: Option<Arc<Exchange>>,
}

/// Where an agent reports. A report to a job that is on its way down is lost, which harms nobody.
#[derive(Clone)]
pub struct Reports(Arc<dyn Fn(Report) + Send + Sync>);

impl Reports {
    /// Reports go to `receive`, from several threads.
    #[must_use]
    pub fn new(receive: impl Fn(Report) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Reports.
    pub fn send(&self, report: Report) {
        (self.0)(report);
    }
}

/// A running agent. When it is dropped, its tasks end.
pub struct Agent {
    sender: Commands,
    thread: Option<JoinHandle<()>>,
}

/// Commands a running agent, from any thread.
#[derive(Clone)]
pub struct Commands(mpsc::Sender<Input>);

impl Commands {
    /// Gives it a command.
    pub fn send(&self, command: Command) {
        // An agent that has ended has no tasks to command.
        let _ = self.0.send(Input::Command(command));
    }

    /// Says that this worker is about to end, and reports [`Report::Left`] once it has no tasks any more.
    pub fn leave(&self) {
        let _ = self.0.send(Input::Leave);
    }

    /// Ends all tasks, whatever their generation, and waits until none runs.
    pub fn abandon(&self) {
        let (done, ended) = mpsc::channel();
        if self.0.send(Input::Abandon(done)).is_ok() {
            let _ = ended.recv();
        }
    }
}

enum Input {
    Command(Command),
    Task(Generation, TaskEvent),
    /// What was loaded for an assignment, unless it is overtaken.
    Ahead(u64, Arc<AtomicBool>, Warmed),
    /// End all tasks; the sender is dropped when none runs.
    Abandon(mpsc::Sender<()>),
    Leave,
    Close,
}

impl Agent {
    /// Starts an agent that reports to `reports`.
    #[must_use]
    pub fn start(work: Work, reports: Reports) -> Self {
        let (sender, inputs) = mpsc::channel();
        let under_way = UnderWay::default();
        let running = Running {
            writer: beside::writer(Arc::clone(&work.store), reports.clone(), under_way.clone()),
            under_way,
            work,
            reports,
            sender: sender.clone(),
            inputs,
            deployment: None,
            cancelling: false,
            abandoned: Vec::new(),
            leaving: false,
            preparing: None,
            shelf: Shelf::default(),
            throttle: Throttle::default(),
            housekeeping_due: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("agent".to_owned()).spawn(move || running.run());
        Self { sender: Commands(sender), thread: Some(thread.expect("a thread can be started")) }
    }

    /// Commands it.
    #[must_use]
    pub fn commands(&self) -> Commands {
        self.sender.clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.sender.0.send(Input::Close);
        if let Some(thread) = self.thread.take() {
            // A panic of the agent is in the log, and its leader misses it.
            let _ = thread.join();
        }
    }
}

/// How often state is compared with its budget.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

struct Running {
    work: Work,
    reports: Reports,
    writer: Side<Write>,
    /// Snapshots that are not stored yet: they are state as well.
    under_way: UnderWay,
    sender: mpsc::Sender<Input>,
    inputs: mpsc::Receiver<Input>,
    deployment: Option<(Generation, Deployment)>,
    cancelling: bool,
    abandoned: Vec<mpsc::Sender<()>>,
    leaving: bool,
    /// Tells the thread that brings state near that it need not any more.
    preparing: Option<Arc<AtomicBool>>,
    /// State in memory that belongs to no task.
    shelf: Shelf,
    throttle: Throttle,
    housekeeping_due: Instant,
}

impl Running {
    fn run(mut self) {
        loop {
            match self.inputs.recv_timeout(HOUSEKEEPING) {
                Ok(Input::Command(command)) => self.command(command),
                Ok(Input::Task(generation, event)) => self.task(generation, event),
                Ok(Input::Ahead(revision, overtaken, warmed)) => self.loaded(revision, &overtaken, warmed),
                Ok(Input::Abandon(done)) => self.abandon(done),
                Ok(Input::Leave) => self.leave(),
                Ok(Input::Close) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            self.check_budget();
        }
        self.tear_down();
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Deploy(deploy) => self.deploy(*deploy),
            Command::Prepare { revision, key_groups, workers, manifest } => {
                self.prepare(revision, key_groups, workers, *manifest);
            }
            Command::Cancel { generation } => self.cancel(generation),
            Command::Inject { generation, checkpoint, kind, overtakes_after_ms } => {
                self.inject(generation, checkpoint, kind, overtakes_after_ms);
            }
            Command::Aborted { generation, checkpoint } => {
                if let Some(deployment) = self.of(generation) {
                    deployment.tell(Control::Aborted(checkpoint));
                }
            }
            Command::Completed { generation, checkpoint, attempt } => {
                self.writer.send(Write::Completed(generation, checkpoint));
                self.shelf.completed(generation, checkpoint, attempt);
            }
            Command::Forget { keys } => self.work.store.forget(&keys),
            Command::Splits { generation, node, subtask, answer } => {
                if let Some(deployment) = self.of(generation) {
                    deployment.answer_splits(node, subtask, answer);
                }
            }
        }
    }

    /// The deployment, if it is of this generation.
    fn of(&self, generation: Generation) -> Option<&Deployment> {
        self.deployment.as_ref().filter(|(current, _)| *current == generation).map(|(_, deployment)| deployment)
    }

    fn deploy(&mut self, deploy: Deploy) {
        let generation = deploy.generation;
        let report = match self.try_deploy(deploy) {
            Ok(report) => report,
            Err(failure) => {
                self.close_exchange(generation);
                let (kind, message) = (error_kind(failure.kind), failure.chain());
                Report::DeployFailed { generation, kind, message }
            }
        };
        self.reports.send(report);
    }

    fn try_deploy(&mut self, deploy: Deploy) -> Result<Report> {
        let generation = deploy.generation;
        let (writer, sender, under_way) = (self.writer.sender(), self.sender.clone(), self.under_way.clone());
        let events = Events::new(move |event| match event {
            TaskEvent::Snapshot(snapshot) => {
                under_way.sent(&snapshot);
                let _ = writer.send(Write::Snapshot(generation, snapshot));
            }
            event => {
                let _ = sender.send(Input::Task(generation, event));
            }
        });
        if let Some(before) = self.preparing.take() {
            before.store(true, Ordering::Relaxed);
        }
        let warm = self.shelf.take(deploy.restore.as_ref());
        let location = deploy.restore.as_ref().and_then(|restore| restore.location.as_deref());
        let files = |location| foreign::files(location, self.work.store.as_ref());
        let elsewhere = location.map(files).transpose()?;
        let blueprint = Blueprint {
            work: self.work.clone(),
            generation,
            key_groups: Arc::new(deploy.start.key_groups),
            placement: deploy.placement,
            files: Arc::clone(elsewhere.as_ref().unwrap_or(&self.work.store)),
            restore: deploy.restore.map(|restore| restore.manifest),
            throttle: self.throttle.clone(),
            events,
            reports: self.reports.clone(),
            peers: self.peers(generation),
        };
        let prepared = Prepared::new(&blueprint, warm)?;
        let tasks = beside::files_of(prepared.tasks(), blueprint.restore.as_ref());
        self.writer.send(Write::Begin(Beginning { generation, tasks, elsewhere }));
        let deployment = prepared.start()?;
        let tasks = deployment.tasks.keys().copied().collect();
        let sources = deployment.sources().collect();
        self.work.board.deployed(generation, deployment.tasks.values().map(|task| Arc::clone(&task.metrics)));
        self.deployment = Some((generation, deployment));
        self.cancelling = false;
        Ok(Report::Deployed { generation, tasks, sources })
    }

    /// On a thread of its own: tasks, and what ends them, do not wait for a bucket.
    fn prepare(&mut self, revision: u64, key_groups: KeyGroupMap, workers: u32, manifest: Manifest) {
        if let Some(before) = self.preparing.take() {
            before.store(true, Ordering::Relaxed);
        }
        self.writer.send(Write::Settle);
        let overtaken = Arc::new(AtomicBool::new(false));
        self.preparing = Some(Arc::clone(&overtaken));
        let here = self.deployment.iter().flat_map(|(_, deployment)| &deployment.tasks);
        let here = here.map(|(id, task)| (id.subtask, task.owned.clone())).collect();
        let (work, sender) = (self.work.clone(), self.sender.clone());
        let load = move || {
            let placement = Placement::over(key_groups.parallelism(), workers);
            near::fetch(&work, &manifest, &key_groups, &placement, &overtaken);
            let (manifest, key_groups) = (&manifest, &key_groups);
            let ahead = Ahead { manifest, key_groups, placement: &placement, here: &here, overtaken: &overtaken };
            let warmed = ahead.load(&work).unwrap_or_else(|failure| {
                tracing::warn!(error = failure.chain(), "state that will be needed could not be loaded ahead");
                Warmed::default()
            });
            let _ = sender.send(Input::Ahead(revision, overtaken, warmed));
        };
        if std::thread::Builder::new().name("prepare".to_owned()).spawn(load).is_err() {
            self.reports.send(Report::Prepared { revision });
        }
    }

    fn loaded(&mut self, revision: u64, overtaken: &AtomicBool, warmed: Warmed) {
        if !overtaken.load(Ordering::Relaxed) {
            self.shelf.load(warmed);
        }
        self.reports.send(Report::Prepared { revision });
    }

    /// Told of lost connections to other workers.
    fn peers(&self, generation: Generation) -> Failed {
        let reports = self.reports.clone();
        Arc::new(move |lost| {
            reports.send(Report::PeerLost { generation, worker: lost.worker, message: lost.failure.chain() });
        })
    }

    fn close_exchange(&self, generation: Generation) {
        if let Some(exchange) = &self.work.exchange {
            exchange.close(generation);
        }
    }

    fn cancel(&mut self, generation: Generation) {
        match &self.deployment {
            Some((current, deployment)) if *current == generation && !deployment.has_ended() => {
                deployment.tell(Control::Cancel);
                self.cancelling = true;
                self.close_exchange(generation);
            }
            Some((current, _)) if *current == generation => self.cancelled(generation),
            _ => self.reports.send(Report::Cancelled { generation }),
        }
    }

    fn cancelled(&mut self, generation: Generation) {
        self.close_exchange(generation);
        self.deployment = None;
        self.cancelling = false;
        self.work.board.cancelled();
        self.reports.send(Report::Cancelled { generation });
        if self.leaving {
            self.reports.send(Report::Left);
        }
        self.abandoned.clear();
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.reports.send(Report::Leaving);
        if self.deployment.is_none() {
            self.reports.send(Report::Left);
        }
    }

    fn abandon(&mut self, done: mpsc::Sender<()>) {
        if let Some((generation, _)) = &self.deployment {
            let generation = *generation;
            self.abandoned.push(done);
            self.cancel(generation);
        }
    }

    fn inject(
        &self,
        generation: Generation,
        checkpoint: CheckpointId,
        kind: BarrierKind,
        overtakes_after_ms: Option<u64>,
    ) {
        let after = match kind {
            BarrierKind::Checkpoint => After::More,
            BarrierKind::Savepoint => After::MoreApart,
            BarrierKind::Stop | BarrierKind::Final => After::Nothing,
        };
        if let Some(deployment) = self.of(generation) {
            let overtakes_at = overtakes_after_ms.map(|wait_ms| Instant::now() + Duration::from_millis(wait_ms));
            deployment.tell_sources(Control::Inject(Barrier { checkpoint, after, overtakes_at }));
        }
    }

    fn task(&mut self, generation: Generation, event: TaskEvent) {
        match event {
            TaskEvent::Snapshot(_) => {}
            TaskEvent::Exhausted(task) => self.reports.send(Report::SourceEnded { generation, task }),
            TaskEvent::Ended(task, outcome, left) => self.task_ended(generation, task, outcome, left),
        }
    }

    fn task_ended(&mut self, generation: Generation, task: TaskId, outcome: Result<()>, left: Option<Left>) {
        let Some((_, deployment)) = self.deployment.as_mut().filter(|(current, _)| *current == generation) else {
            return;
        };
        deployment.join(task);
        if let (Some(left), Some(ended)) = (left, deployment.tasks.get(&task)) {
            self.shelf.leave(generation, task.subtask, &ended.owned, left);
        }
        if self.cancelling {
            if deployment.has_ended() {
                self.cancelled(generation);
            }
            return;
        }
        match outcome {
            Ok(()) => {}
            // A task that cannot send since its receiver died: the receiver reports why.
            Err(failure) if failure.kind == Kind::Cancelled => {}
            Err(failure) => {
                let (kind, message) = (error_kind(failure.kind), failure.chain());
                self.reports.send(Report::TaskFailed { generation, task, kind, message });
            }
        }
    }

    /// State past its budget is the user's to cure: the message names the task that has most of it.
    fn check_budget(&mut self) {
        let now = Instant::now();
        if now < self.housekeeping_due {
            return;
        }
        self.housekeeping_due = now + HOUSEKEEPING;
        self.shelf.tidy(now);
        let Some((generation, deployment)) = self.deployment.as_ref().filter(|_| !self.cancelling) else { return };
        let (under_way, budget) = (self.under_way.bytes(), self.work.state_budget);
        let mut used = deployment.state_bytes() + under_way + self.shelf.bytes_ahead();
        if used > budget {
            // It would only be quicker.
            used -= self.shelf.bytes_ahead();
            self.shelf.load(Warmed::default());
        }
        self.throttle.follow(used, budget);
        let largest = deployment.tasks.iter().max_by_key(|(_, task)| task.metrics.state_bytes.get());
        let Some((task, largest)) = largest.filter(|_| used > budget) else { return };
        let message = outgrown(used, budget, under_way, &largest.metrics);
        let kind = ErrorKind::User;
        self.reports.send(Report::TaskFailed { generation: *generation, task: *task, kind, message });
    }

    /// Ends whatever still runs.
    fn tear_down(&mut self) {
        let Some((generation, mut deployment)) = self.deployment.take() else { return };
        deployment.tell(Control::Cancel);
        self.close_exchange(generation);
        let tasks: Vec<TaskId> = deployment.tasks.keys().copied().collect();
        tasks.into_iter().for_each(|task| deployment.join(task));
        self.work.board.cancelled();
    }
}

fn outgrown(used: u64, budget: u64, under_way: u64, largest: &TaskMetrics) -> String {
    let snapshots = match under_way >> 20 {
        0 => String::new(),
        mib => format!(", {mib} MiB in snapshots that are being stored"),
    };
    format!(
        "the state has outgrown its budget of {} MiB: {} MiB, most of it in '{}' ({} MiB){snapshots}. \
         Give the job more memory (--state-budget), or let its state expire (SET 'table.exec.state.ttl' = '…')",
        budget >> 20,
        used >> 20,
        largest.name,
        largest.state_bytes.get() >> 20,
    )
}
