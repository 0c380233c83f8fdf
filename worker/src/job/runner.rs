//! Runs a job in this process: performs what the leader decides, and tells it what happens.

use super::beside::{self, Commit, Side, Write, error_kind};
use super::board::Board;
use super::deploy::{Blueprint, Deployment, Prepared};
use crate::checkpoint::store::Store;
use crate::connector::CommitterContext;
use crate::dataflow::element::{After, Barrier};
use crate::dataflow::graph::Graph;
use crate::dataflow::inbox::Control;
use crate::dataflow::task::{Events, TaskEvent};
use crate::dataflow::throttle::Throttle;
use crate::failure::{Kind, Result};
use crate::plan::{NodeKind, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use weir_protocol::chain::Start;
use weir_protocol::leader::{
    Action, BarrierKind, End, ErrorKind, Event, Leader, Notice, OpId, Options, Request, Restore, Then,
};
use weir_protocol::{CheckpointId, Generation, Now, OperatorId, TaskId};

/// What a job is run with.
pub struct Job {
    /// Its dataflow.
    pub plan: Arc<Plan>,
    /// What the leader is told.
    pub options: Options,
    /// Where its checkpoints are.
    pub store: Arc<dyn Store>,
    /// Unique for the job across all clusters.
    pub uid: String,
    /// Replay event time at this many times its pace.
    pub speed: Option<f64>,
    /// Bytes of state that all tasks together may hold.
    pub state_budget: u64,
    /// A checkpoint's barriers overtake what waits before them this long after its begin; `None`: never.
    pub unaligned_after: Option<Duration>,
}

/// What reaches a running job.
pub enum Message {
    /// For the leader.
    Leader(Event),
    /// From a task of a generation.
    Task(Generation, TaskEvent),
}

/// Steers a running job from other threads.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<Message>);

impl Handle {
    /// Steers the job that reads these messages.
    #[must_use]
    pub fn new(messages: mpsc::Sender<Message>) -> Self {
        Self(messages)
    }

    /// Takes a last checkpoint and ends the job.
    pub fn stop(&self) {
        self.send(Event::StopRequested);
    }

    /// Takes a savepoint. The board tells what becomes of it.
    pub fn savepoint(&self, name: String, uid: String, then: Then) {
        self.send(Event::SavepointRequested { name, uid, then });
    }

    /// Gives a savepoint up.
    pub fn release_savepoint(&self, name: String) {
        self.send(Event::SavepointReleased { name });
    }

    fn send(&self, event: Event) {
        // A job that has ended does not listen.
        let _ = self.0.send(Message::Leader(event));
    }
}

/// How often the status page and the state budget are looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

/// A job about to run.
pub struct Runner {
    job: Job,
    graph: Arc<Graph>,
    leader: Leader,
    began: Instant,
    messages: mpsc::Receiver<Message>,
    sender: mpsc::Sender<Message>,
    store: Side<(OpId, Request)>,
    commits: Side<Commit>,
    writer: Side<Write>,
    deployment: Option<(Generation, Deployment)>,
    cancelling: bool,
    /// What to remove once the restored checkpoint is known: the first generation whose files stay, and committables.
    leftovers: Option<(Generation, BTreeSet<String>)>,
    /// Writers' states of the restored checkpoint, which may name files of earlier generations.
    writers: BTreeMap<OperatorId, Vec<serde_json::Value>>,
    board: Arc<Board>,
    throttle: Throttle,
    housekeeping_due: Instant,
}

impl Runner {
    /// Prepares a run.
    #[must_use]
    pub fn new(job: Job) -> Self {
        let (sender, messages) = mpsc::channel();
        let committers = job.plan.nodes.iter().filter_map(|node| match (&node.kind, &node.id) {
            (NodeKind::Sink(sink), Some(id)) => {
                Some((id.clone(), sink.sink.committer(CommitterContext { job_uid: job.uid.clone() })?))
            }
            _ => None,
        });
        let commits = beside::committers(committers.collect(), sender.clone());
        let graph = Arc::new(Graph::of(&job.plan));
        Self {
            graph: Arc::clone(&graph),
            leader: Leader::new(),
            began: Instant::now(),
            messages,
            store: beside::store(Arc::clone(&job.store), sender.clone()),
            commits,
            writer: beside::writer(Arc::clone(&job.store), sender.clone()),
            sender,
            deployment: None,
            cancelling: false,
            leftovers: None,
            writers: BTreeMap::new(),
            board: Arc::new(Board::new(Arc::clone(&job.plan), graph)),
            throttle: Throttle::default(),
            housekeeping_due: Instant::now(),
            job,
        }
    }

    /// Steers the job while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(self.sender.clone())
    }

    /// What is known of the job while it runs.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Runs the job to its end.
    pub fn run(mut self) -> End {
        let begin = Event::Begin(Box::new(self.job.options.clone()));
        let mut end = self.step(begin);
        while end.is_none() {
            let wait = self.wait();
            end = match self.messages.recv_timeout(wait) {
                Ok(message) => self.message(message),
                Err(_) => self.tick(),
            };
            self.housekeeping(&mut end);
        }
        self.tear_down();
        self.board.update(&self.leader.status(), self.now());
        end.expect("the loop ends with an end")
    }

    fn now(&self) -> Now {
        Now(self.began.elapsed().as_millis() as u64)
    }

    fn wait(&self) -> Duration {
        let due = self.leader.deadline().map(|due| Duration::from_millis(due.ms_since(self.now())));
        due.map_or(HOUSEKEEPING, |due| due.min(HOUSEKEEPING))
    }

    fn tick(&mut self) -> Option<End> {
        let due = self.leader.deadline().is_some_and(|due| due <= self.now());
        if due { self.step(Event::Tick) } else { None }
    }

    fn housekeeping(&mut self, end: &mut Option<End>) {
        let now = Instant::now();
        if now < self.housekeeping_due {
            return;
        }
        self.housekeeping_due = now + HOUSEKEEPING;
        self.board.update(&self.leader.status(), self.now());
        if end.is_none() {
            *end = self.tick();
        }
        if end.is_none() {
            *end = self.check_budget();
        }
    }

    /// State past its budget is the user's to cure: the message names the task that has most of it.
    fn check_budget(&mut self) -> Option<End> {
        let (generation, deployment) = self.deployment.as_ref().filter(|_| !self.cancelling)?;
        let used: u64 = deployment.tasks.values().map(|task| task.metrics.state_bytes.get()).sum();
        self.throttle.follow(used, self.job.state_budget);
        if used <= self.job.state_budget {
            return None;
        }
        let (task, largest) = deployment.tasks.iter().max_by_key(|(_, task)| task.metrics.state_bytes.get())?;
        let message = format!(
            "the state has outgrown its budget of {} MiB: {} MiB, most of it in '{}' ({} MiB). \
             Give the job more memory (--state-budget), or let its state expire (SET 'table.exec.state.ttl' = '…')",
            self.job.state_budget >> 20,
            used >> 20,
            largest.metrics.name,
            largest.metrics.state_bytes.get() >> 20,
        );
        let event = Event::TaskFailed { generation: *generation, task: *task, kind: ErrorKind::User, message };
        self.step(event)
    }

    fn message(&mut self, message: Message) -> Option<End> {
        match message {
            Message::Leader(event) => {
                if let Event::Acked { generation, checkpoint, snapshot } = &event {
                    self.board.cost(*generation, *checkpoint, snapshot.task, snapshot.cost);
                }
                self.step(event)
            }
            Message::Task(generation, event) => self.task(generation, event),
        }
    }

    fn task(&mut self, generation: Generation, event: TaskEvent) -> Option<End> {
        match event {
            TaskEvent::Snapshot(_) => None,
            TaskEvent::Exhausted(task) => self.step(Event::SourceEnded { generation, task }),
            TaskEvent::Ended(task, outcome) => self.task_ended(generation, task, outcome),
        }
    }

    fn task_ended(&mut self, generation: Generation, task: TaskId, outcome: Result<()>) -> Option<End> {
        let (current, deployment) = self.deployment.as_mut()?;
        if *current != generation {
            return None;
        }
        deployment.join(task);
        if self.cancelling {
            return if deployment.has_ended() { self.cancelled(generation) } else { None };
        }
        match outcome {
            // A task that cannot send since its receiver died: the receiver reports why.
            Err(failure) if failure.kind == Kind::Cancelled => None,
            Ok(()) => None,
            Err(failure) => {
                let (kind, message) = (error_kind(failure.kind), failure.chain());
                self.step(Event::TaskFailed { generation, task, kind, message })
            }
        }
    }

    fn cancelled(&mut self, generation: Generation) -> Option<End> {
        self.deployment = None;
        self.cancelling = false;
        self.board.cancelled();
        self.step(Event::Cancelled { generation })
    }

    fn step(&mut self, event: Event) -> Option<End> {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.leader.step(self.now(), event) {
                match action {
                    Action::End(end) => return Some(end),
                    action => events.extend(self.perform(action)),
                }
            }
        }
        None
    }

    /// Carries out an action; some are answered at once.
    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Store { op, request } => self.store.send((op, request)),
            Action::Deploy { generation, start, restore } => return Some(self.deploy(generation, &start, restore)),
            Action::Cancel { generation } => return self.cancel(generation),
            Action::InjectBarrier { generation, checkpoint, kind } => self.inject(generation, checkpoint, kind),
            Action::NotifyAborted { generation, checkpoint } => self.tell(generation, Control::Aborted(checkpoint)),
            Action::NotifyCompleted { generation, checkpoint, .. } => {
                self.writer.send(Write::Completed(generation, checkpoint));
                self.remove_tails();
            }
            Action::Commit { committables, .. } => self.commits.send(Commit::Committables(committables)),
            Action::AbortLeftovers { before, keep, .. } => self.leftovers = Some((before, keep)),
            Action::Report(notice) => self.report(&notice),
            // No rule of the protocol asks for it outside of tests.
            Action::AbortCommittables { .. } | Action::End(_) => {}
        }
        None
    }

    fn deploy(&mut self, generation: Generation, start: &Start, restore: Option<Box<Restore>>) -> Event {
        match self.try_deploy(generation, start, restore) {
            Ok(event) => event,
            Err(failure) => {
                let (kind, message) = (error_kind(failure.kind), failure.chain());
                Event::DeployFailed { generation, kind, message }
            }
        }
    }

    fn try_deploy(&mut self, generation: Generation, start: &Start, restore: Option<Box<Restore>>) -> Result<Event> {
        let restore = restore.map(|restore| restore.manifest);
        let writers = restore.iter().flat_map(|manifest| &manifest.operators);
        let writers = writers.filter(|(_, state)| !state.writers.is_empty());
        self.writers = writers.map(|(operator, state)| (operator.clone(), state.writers.clone())).collect();
        let (writer, sender) = (self.writer.sender(), self.sender.clone());
        let events = Events::new(move |event| match event {
            TaskEvent::Snapshot(snapshot) => {
                let _ = writer.send(Write::Snapshot(generation, snapshot));
            }
            event => {
                let _ = sender.send(Message::Task(generation, event));
            }
        });
        let blueprint = Blueprint {
            plan: Arc::clone(&self.job.plan),
            graph: Arc::clone(&self.graph),
            generation,
            key_groups: Arc::new(start.key_groups.clone()),
            restore,
            store: Arc::clone(&self.job.store),
            job_uid: self.job.uid.clone(),
            speed: self.job.speed,
            throttle: self.throttle.clone(),
            events,
        };
        let prepared = Prepared::new(&blueprint)?;
        self.remove_leftovers();
        let tasks = prepared.tasks();
        self.writer.send(Write::Begin(generation, beside::files_of(tasks, blueprint.restore.as_ref())));
        let deployment = prepared.start()?;
        let ids = deployment.tasks.keys().copied().collect();
        let sources = deployment.sources().collect();
        self.board.deployed(generation, deployment.tasks.values().map(|task| Arc::clone(&task.metrics)));
        self.deployment = Some((generation, deployment));
        self.cancelling = false;
        Ok(Event::Deployed { generation, tasks: ids, sources })
    }

    fn cancel(&mut self, generation: Generation) -> Option<Event> {
        match &self.deployment {
            Some((current, deployment)) if *current == generation && !deployment.has_ended() => {
                self.cancelling = true;
                deployment.tell(Control::Cancel);
                None
            }
            _ => {
                self.deployment = None;
                Some(Event::Cancelled { generation })
            }
        }
    }

    fn inject(&self, generation: Generation, checkpoint: CheckpointId, kind: BarrierKind) {
        let after = match kind {
            BarrierKind::Checkpoint => After::More,
            BarrierKind::Savepoint => After::MoreApart,
            BarrierKind::Stop | BarrierKind::Final => After::Nothing,
        };
        if let Some((_, deployment)) = self.deployment.as_ref().filter(|(current, _)| *current == generation) {
            // What a savepoint or a stop is for must not need rows that are written nowhere else.
            let overtakes = self.job.unaligned_after.filter(|_| kind == BarrierKind::Checkpoint);
            let overtakes_at = overtakes.map(|wait| Instant::now() + wait);
            deployment.tell_sources(Control::Inject(Barrier { checkpoint, after, overtakes_at }));
        }
    }

    fn tell(&self, generation: Generation, control: Control) {
        if let Some((_, deployment)) = self.deployment.as_ref().filter(|(current, _)| *current == generation) {
            deployment.tell(control);
        }
    }

    /// A checkpoint of the own generation is complete: nothing refers to tails of earlier ones any more. What those had
    /// prepared was committed before the tasks were started.
    fn remove_tails(&mut self) {
        if let Some((generation, _)) = self.deployment.as_ref().filter(|_| !self.writers.is_empty()) {
            self.writers.clear();
            let (before, keep) = (*generation, BTreeSet::new());
            self.commits.send(Commit::RemoveLeftovers { before, keep, writers: BTreeMap::new() });
        }
    }

    /// Now that the restored checkpoint is known, and with it the files that its writers go on from.
    fn remove_leftovers(&mut self) {
        if let Some((before, keep)) = self.leftovers.take() {
            self.commits.send(Commit::RemoveLeftovers { before, keep, writers: self.writers.clone() });
        }
    }

    fn report(&self, notice: &Notice) {
        self.board.notice(notice);
    }

    /// Ends whatever still runs.
    fn tear_down(&mut self) {
        let Some((_, mut deployment)) = self.deployment.take() else { return };
        deployment.tell(Control::Cancel);
        let tasks: Vec<TaskId> = deployment.tasks.keys().copied().collect();
        tasks.into_iter().for_each(|task| deployment.join(task));
    }
}
