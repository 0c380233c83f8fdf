//! Builds the tasks of a generation and runs each on a thread.

pub mod ahead;
mod builder;
mod restore;
pub mod warm;

use crate::checkpoint::store::Store;
use crate::dataflow::chain::{self};
use crate::dataflow::inbox::{Control, Inbox};
use crate::dataflow::metrics::TaskMetrics;
use crate::dataflow::source::SourceTask;
use crate::dataflow::splits::{SplitAnswer, SplitDesk};
use crate::dataflow::task::{Events, Left, OperatorTask, TaskEvent};
use crate::dataflow::throttle::Throttle;
use crate::exchange::Failed;
use crate::failure::{Failure, Result};
use crate::job::agent::{Reports, Work};
use crate::job::deploy::warm::Warmed;
use crate::job::in_flight::InFlightOf;
use crate::plan::NodeIndex;
use crate::stop::Stop;
use builder::Builder;
pub(super) use builder::channels_of;
use restore::{RestoreOf, find, find_step};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use weir_protocol::chain::Manifest;
use weir_protocol::key_group::KeyGroupMap;
use weir_protocol::members::Placement;
use weir_protocol::snapshot::KeyGroupRange;
use weir_protocol::{Generation, OperatorId, TaskId};

/// What a worker's tasks of a generation are built from.
pub struct Blueprint {
    /// What the worker runs its part of the job with.
    pub work: Work,
    /// The generation.
    pub generation: Generation,
    /// The subtask that owns each key group.
    pub key_groups: Arc<KeyGroupMap>,
    /// Which task runs where.
    pub placement: Placement,
    /// The state to begin with.
    pub restore: Option<Manifest>,
    /// Where the files of that state are.
    pub files: Arc<dyn Store>,
    /// Slows sources when state comes near its budget.
    pub throttle: Throttle,
    /// Where tasks report.
    pub events: Events,
    /// Where source tasks ask for splits.
    pub reports: Reports,
    /// Told of lost ways to other workers.
    pub peers: Failed,
}

/// The tasks of a generation, built and not yet running.
pub struct Prepared<'a> {
    blueprint: &'a Blueprint,
    tasks: Vec<(RunningTask, Task, Vec<RestoreOf>)>,
    desks: Desks,
    stop: Stop,
}

/// The running tasks of a generation on this worker.
pub struct Deployment {
    /// By task.
    pub tasks: BTreeMap<TaskId, RunningTask>,
    desks: Desks,
    stop: Stop,
}

/// Where source tasks get their splits.
type Desks = BTreeMap<(NodeIndex, u32), (Arc<SplitDesk>, Arc<Inbox>)>;

/// One running task.
pub struct RunningTask {
    /// Reaches it.
    pub inbox: Arc<Inbox>,
    /// What it counts.
    pub metrics: Arc<TaskMetrics>,
    /// The operators it snapshots, and the key groups it owns.
    pub operators: Vec<OperatorId>,
    /// The key groups it owns.
    pub owned: Vec<KeyGroupRange>,
    thread: Option<JoinHandle<()>>,
}

enum Task {
    Source(Box<SourceTask>),
    Operator(Box<OperatorTask>, InFlightOf),
}

impl<'a> Prepared<'a> {
    /// Builds all tasks that are placed on this worker, and gives them what is `warm` of their state.
    pub fn new(blueprint: &'a Blueprint, mut warm: Warmed) -> Result<Self> {
        let builder = Builder::new(blueprint);
        let mut tasks = Vec::new();
        for chain in 0..blueprint.work.graph.chains.len() {
            for subtask in builder.subtasks() {
                let (id, inbox, metrics, task) = builder.task(chain, subtask)?;
                let operators = builder.operators(chain);
                let owned = blueprint.key_groups.owned(id.subtask);
                let restore = builder.restore_of(&operators, &owned, &metrics, &mut warm);
                tasks.push((RunningTask { inbox, metrics, operators, owned, thread: None }, task, restore));
            }
        }
        Ok(Self { blueprint, tasks, desks: builder.desks, stop: builder.stop })
    }

    /// Each task with the operators it snapshots and the key groups it owns.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, Vec<OperatorId>, Vec<KeyGroupRange>)> {
        self.tasks.iter().map(|(task, ..)| (task.metrics.task, task.operators.clone(), task.owned.clone()))
    }

    /// Starts them all. When one cannot be started, those that were are told to stop.
    pub fn start(self) -> Result<Deployment> {
        let mut deployment = Deployment { tasks: BTreeMap::new(), desks: self.desks, stop: self.stop };
        for (mut running, task, restore) in self.tasks {
            let id = running.metrics.task;
            match spawn(id, task, restore, self.blueprint) {
                Ok(thread) => running.thread = Some(thread),
                Err(failure) => {
                    deployment.tell(Control::Cancel);
                    return Err(failure);
                }
            }
            deployment.tasks.insert(id, running);
        }
        Ok(deployment)
    }
}

impl Deployment {
    /// The tasks that read sources.
    pub fn sources(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.iter().filter(|(_, task)| task.metrics.ends.source).map(|(id, _)| *id)
    }

    /// Tells all tasks something. A cancellation also ends what they wait for outside.
    pub fn tell(&self, control: Control) {
        self.tasks.values().for_each(|task| task.inbox.tell(control));
        if control == Control::Cancel {
            self.stop.stop();
        }
    }

    /// Tells those tasks something that read sources.
    pub fn tell_sources(&self, control: Control) {
        self.tasks.values().filter(|task| task.metrics.ends.source).for_each(|task| task.inbox.tell(control));
    }

    /// Gives a source task the splits that it asked for.
    pub fn answer_splits(&self, node: NodeIndex, subtask: u32, answer: SplitAnswer) {
        if let Some((desk, inbox)) = self.desks.get(&(node, subtask)) {
            desk.answer(answer, Instant::now());
            inbox.tell(Control::Splits);
        }
    }

    /// Bytes of state of all tasks.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.tasks.values().map(|task| task.metrics.state_bytes.get()).sum()
    }

    /// Waits for the thread of a task that has reported its end.
    pub fn join(&mut self, task: TaskId) {
        if let Some(thread) = self.tasks.get_mut(&task).and_then(|task| task.thread.take()) {
            // The thread catches its panics itself and has reported.
            let _ = thread.join();
        }
    }

    /// True when no task's thread runs any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.tasks.values().all(|task| task.thread.is_none())
    }
}

fn spawn(id: TaskId, task: Task, restore: Vec<RestoreOf>, blueprint: &Blueprint) -> Result<JoinHandle<()>> {
    let (store, events) = (Arc::clone(&blueprint.files), blueprint.events.clone());
    let run = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| run(task, restore, store.as_ref())));
        let panicked = |text: String| (Err(Failure::bug(format!("a task panicked: {text}"))), None);
        let (outcome, left) = ended.unwrap_or_else(|panic| panicked(text_of(panic.as_ref())));
        events.send(TaskEvent::Ended(id, outcome, left));
    };
    let builder = std::thread::Builder::new().name(format!("task-{id}"));
    builder.spawn(run).map_err(|error| Failure::transient("a task's thread could not be started").because(error))
}

fn run(mut task: Task, restore: Vec<RestoreOf>, store: &dyn Store) -> (Result<()>, Option<Left>) {
    if let Err(failure) = begin(&mut task, restore, store) {
        return (Err(failure), None);
    }
    match task {
        Task::Source(source) => (source.run(), None),
        Task::Operator(operator, _) => operator.run(),
    }
}

fn begin(task: &mut Task, restore: Vec<RestoreOf>, store: &dyn Store) -> Result<()> {
    for part in restore {
        let step = match &mut *task {
            Task::Source(source) => find(&mut source.next, &part.operator),
            Task::Operator(operator, _) => find_step(&mut operator.chain, &part.operator),
        };
        if let Some(chain::Work::Operator(operator)) = step.map(|step| &mut step.work) {
            part.bring(operator, store)?;
        }
    }
    if let Task::Operator(operator, in_flight) = task {
        operator.replay = in_flight.read(store)?;
    }
    Ok(())
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
