//! Builds the tasks of a generation and runs each on a thread.

pub mod ahead;
mod restore;

use crate::checkpoint::store::Store;
use crate::connector::{ReaderContext, SourceReader, WriterContext};
use crate::dataflow::chain::{self, Next, Step};
use crate::dataflow::edge::{EdgeWriter, HashSpread, Spread};
use crate::dataflow::graph::{Graph, Out, Role, Root, SpreadPlan, StepPlan};
use crate::dataflow::inbox::{Control, Inbox, Sender};
use crate::dataflow::metrics::{Ends, TaskMetrics};
use crate::dataflow::pace::Pace;
use crate::dataflow::source::SourceTask;
use crate::dataflow::splits::{SplitAnswer, SplitDesk};
use crate::dataflow::task::{Events, Left, OperatorTask, TaskEvent};
use crate::dataflow::throttle::Throttle;
use crate::exchange::Failed;
use crate::failure::{Failure, Result};
use crate::job::agent::message::Report;
use crate::job::agent::{Reports, Work};
use crate::job::in_flight::{EdgesInto, InFlightOf};
use crate::job::warm::Warmed;
use crate::operator::calc::Calculation;
use crate::operator::{OperatorContext, build};
use crate::plan::{Changelog, Node, NodeIndex, NodeKind, SinkNode, SourceNode};
use restore::{RestoreOf, find, find_step};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use weir_protocol::chain::{Manifest, OperatorState};
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
}

/// The running tasks of a generation on this worker.
pub struct Deployment {
    /// By task.
    pub tasks: BTreeMap<TaskId, RunningTask>,
    desks: Desks,
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
        Ok(Self { blueprint, tasks, desks: builder.desks })
    }

    /// Each task with the operators it snapshots and the key groups it owns.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, Vec<OperatorId>, Vec<KeyGroupRange>)> {
        self.tasks.iter().map(|(task, ..)| (task.metrics.task, task.operators.clone(), task.owned.clone()))
    }

    /// Starts them all. When one cannot be started, those that were are told to stop.
    pub fn start(self) -> Result<Deployment> {
        let mut deployment = Deployment { tasks: BTreeMap::new(), desks: self.desks };
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

    /// Tells all tasks something.
    pub fn tell(&self, control: Control) {
        self.tasks.values().for_each(|task| task.inbox.tell(control));
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

struct Builder<'a> {
    blueprint: &'a Blueprint,
    parallelism: u32,
    /// Of the tasks on this worker.
    inboxes: BTreeMap<TaskId, Arc<Inbox>>,
    desks: Desks,
    pace: Option<Arc<Pace>>,
}

impl<'a> Builder<'a> {
    fn new(blueprint: &'a Blueprint) -> Self {
        let parallelism = blueprint.key_groups.parallelism();
        let pace = blueprint.work.speed.map(|speed| Arc::new(Pace::new(speed)));
        let mut builder = Self { blueprint, parallelism, inboxes: BTreeMap::new(), desks: BTreeMap::new(), pace };
        for (number, chain) in blueprint.work.graph.chains.iter().enumerate() {
            for subtask in builder.subtasks().collect::<Vec<u32>>() {
                let inbox = Inbox::new(channels_into(&blueprint.work.graph, number, parallelism));
                if let Root::Source { node, .. } = &chain.root {
                    let desk = Arc::new(builder.desk(*node, subtask));
                    builder.desks.insert((*node, subtask), (desk, Arc::clone(&inbox)));
                }
                builder.inboxes.insert(TaskId { chain: number as u32, subtask }, inbox);
            }
        }
        if let Some(exchange) = &blueprint.work.exchange {
            exchange.open(blueprint.generation, builder.inboxes.clone(), Arc::clone(&blueprint.peers));
        }
        builder
    }

    /// The sender of a channel, wherever its task runs.
    fn sender(&self, task: TaskId, channel: usize) -> Result<Sender> {
        if let Some(inbox) = self.inboxes.get(&task) {
            return Ok(inbox.sender(channel));
        }
        let worker = self.blueprint.placement.worker_of(task.subtask);
        let address = self.blueprint.placement.address_of(worker).unwrap_or_default();
        let unknown = || Failure::bug(format!("worker {worker} has no address that rows can be sent to: '{address}'"));
        let exchange = self.blueprint.work.exchange.as_ref().ok_or_else(unknown)?;
        let peer = address.parse().map_err(|error: std::net::AddrParseError| unknown().because(error))?;
        exchange.sender(self.blueprint.generation, peer, task, channel)
    }

    /// The subtasks on this worker.
    fn subtasks(&self) -> impl Iterator<Item = u32> + use<'a> {
        let blueprint = self.blueprint;
        (0..self.parallelism).filter(|subtask| blueprint.placement.worker_of(*subtask) == blueprint.work.worker)
    }

    fn desk(&self, node: NodeIndex, subtask: u32) -> SplitDesk {
        let (reports, generation) = (self.blueprint.reports.clone(), self.blueprint.generation);
        SplitDesk::new(move || reports.send(Report::AskSplits { generation, node, subtask }))
    }

    fn source(&self, node: NodeIndex) -> (OperatorId, &SourceNode) {
        let node = &self.blueprint.work.plan.nodes[node];
        match &node.kind {
            NodeKind::Source(source) => (node.id.clone().expect("a source has an id"), source),
            _ => unreachable!("the root of a source chain is a source"),
        }
    }

    fn state_of(&self, operator: &OperatorId) -> Option<&OperatorState> {
        self.blueprint.restore.as_ref()?.operators.get(operator)
    }

    fn operators(&self, chain: usize) -> Vec<OperatorId> {
        let steps = self.blueprint.work.graph.chains[chain].steps();
        let stateful = steps.into_iter().filter(|(_, role)| *role != Role::Local);
        stateful.filter_map(|(node, _)| self.blueprint.work.plan.nodes[node].id.clone()).collect()
    }

    fn restore_of(
        &self,
        operators: &[OperatorId],
        owned: &[KeyGroupRange],
        metrics: &TaskMetrics,
        warm: &mut Warmed,
    ) -> Vec<RestoreOf> {
        let subtask = metrics.task.subtask;
        let state = |operator: &OperatorId| {
            Some(RestoreOf {
                operator: operator.clone(),
                state: self.state_of(operator)?.clone(),
                owned: owned.to_vec(),
                subtask,
                warm: warm.remove(&(operator.clone(), subtask)),
                late_rows: metrics.late_rows.clone(),
                reused: Arc::clone(&self.blueprint.work.board.reused),
            })
        };
        operators.iter().filter_map(state).collect()
    }

    fn task(&self, chain: usize, subtask: u32) -> Result<(TaskId, Arc<Inbox>, Arc<TaskMetrics>, Task)> {
        let id = TaskId { chain: chain as u32, subtask };
        let inbox = Arc::clone(&self.inboxes[&id]);
        let metrics = TaskMetrics::new(
            id,
            self.blueprint.work.graph.chains[chain].name(&self.blueprint.work.plan),
            self.ends(chain),
        );
        let task = match &self.blueprint.work.graph.chains[chain].root {
            Root::Source { node, next, bad_records } => {
                Task::Source(Box::new(self.source_task(id, *node, (next, bad_records), &inbox, &metrics)?))
            }
            Root::Edges { step, .. } => {
                let edges = EdgesInto::new(&self.blueprint.work, chain, self.parallelism);
                let task = OperatorTask {
                    task: id,
                    inputs: edges.inputs.clone(),
                    edges: edges.channels.clone(),
                    overtaking: edges.overtaking,
                    replay: None,
                    inbox: Arc::clone(&inbox),
                    chain: self.step(step, id, &metrics)?,
                    events: self.blueprint.events.clone(),
                    metrics: Arc::clone(&metrics),
                };
                let files = self.blueprint.restore.as_ref().map_or(&[][..], |manifest| &manifest.in_flight);
                let key_groups = Arc::clone(&self.blueprint.key_groups);
                Task::Operator(Box::new(task), InFlightOf::new(edges, files, key_groups, subtask))
            }
        };
        Ok((id, inbox, metrics, task))
    }

    fn source_task(
        &self,
        id: TaskId,
        node: NodeIndex,
        (next, bad_records): (&[Out], &[Out]),
        inbox: &Arc<Inbox>,
        metrics: &Arc<TaskMetrics>,
    ) -> Result<SourceTask> {
        let (operator, source) = self.source(node);
        Ok(SourceTask {
            task: id,
            id: operator,
            name: self.blueprint.work.plan.nodes[node].name.clone(),
            inbox: Arc::clone(inbox),
            splits: Arc::clone(&self.desks[&(node, id.subtask)].0),
            assignment: source.source.assignment(),
            reader: self.reader(source, id)?,
            compute: source.compute.as_ref().map(Calculation::new).transpose()?,
            watermark: source.watermark.clone(),
            pace: self.pace.clone(),
            throttle: self.blueprint.throttle.clone(),
            next: self.outs(next, id, metrics)?,
            bad_records: self.outs(bad_records, id, metrics)?,
            events: self.blueprint.events.clone(),
            metrics: Arc::clone(metrics),
        })
    }

    fn reader(&self, source: &SourceNode, id: TaskId) -> Result<Box<dyn SourceReader>> {
        source.source.reader(ReaderContext {
            projection: source.projection.clone(),
            subtask: id.subtask,
            parallelism: self.parallelism,
            max_rows: if self.blueprint.work.speed.is_some() { PACED_ROWS } else { ReaderContext::FULL_BATCH },
        })
    }

    fn outs(&self, outs: &[Out], id: TaskId, metrics: &Arc<TaskMetrics>) -> Result<Vec<Next>> {
        let next = |out: &Out| match out {
            Out::Step(step) => Ok(Next::Step(Box::new(self.step(step, id, metrics)?), 0)),
            Out::Edge(edge) => Ok(Next::Edge(self.edge(*edge, id, metrics)?)),
        };
        outs.iter().map(next).collect()
    }

    fn step(&self, step: &StepPlan, id: TaskId, metrics: &Arc<TaskMetrics>) -> Result<Step> {
        let node = &self.blueprint.work.plan.nodes[step.node];
        let work = match &node.kind {
            NodeKind::Sink(sink) => {
                let operator = node.id.clone().expect("a sink has an id");
                chain::Work::Sink(self.writer(sink, operator, step.node, id)?, Arc::clone(metrics))
            }
            _ => chain::Work::Operator(build::operator(
                &self.blueprint.work.plan,
                step.node,
                step.role,
                &self.context(step, id, metrics),
            )?),
        };
        let stateful = step.role != Role::Local;
        Ok(Step {
            id: node.id.clone().filter(|_| stateful),
            name: node.name.clone(),
            work,
            next: self.outs(&step.next, id, metrics)?,
        })
    }

    fn context(&self, step: &StepPlan, id: TaskId, metrics: &TaskMetrics) -> OperatorContext {
        let node = &self.blueprint.work.plan.nodes[step.node];
        OperatorContext {
            operator: node.id.clone().unwrap_or_else(|| OperatorId(node.name.clone())),
            key_groups: self.blueprint.key_groups.owned(id.subtask),
            max_parallelism: self.blueprint.key_groups.max_parallelism(),
            late_rows: metrics.late_rows.clone(),
            state_ttl: state_ttl(node),
        }
    }

    fn writer(
        &self,
        sink: &SinkNode,
        operator: OperatorId,
        node: NodeIndex,
        id: TaskId,
    ) -> Result<Box<dyn crate::connector::SinkWriter>> {
        let writers = self.state_of(&operator).map_or(&[][..], |state| &state.writers);
        let share = writers.iter().enumerate().filter(|(place, _)| *place as u32 % self.parallelism == id.subtask);
        let input =
            self.blueprint.work.plan.nodes[node].inputs.first().map(|input| &self.blueprint.work.plan.nodes[*input]);
        sink.sink.writer(WriterContext {
            operator,
            schema: Arc::clone(&input.unwrap_or(&self.blueprint.work.plan.nodes[node]).schema),
            changelog: input.is_some_and(|input| input.changelog == Changelog::Retract),
            subtask: id.subtask,
            parallelism: self.parallelism,
            generation: self.blueprint.generation,
            job_uid: self.blueprint.work.job_uid.clone(),
            restored: share.map(|(_, writer)| writer.clone()).collect(),
        })
    }

    fn edge(&self, edge: usize, id: TaskId, metrics: &Arc<TaskMetrics>) -> Result<EdgeWriter> {
        let graph = &self.blueprint.work.graph;
        let chain = graph.edges[edge].to as u32;
        let first = first_channel(graph, edge, self.parallelism);
        let (spread, senders) = match &graph.edges[edge].spread {
            SpreadPlan::Forward => (Spread::Forward, vec![self.sender(TaskId { chain, subtask: id.subtask }, first)?]),
            SpreadPlan::Hash(columns) => {
                let spread = HashSpread::new(columns.clone(), Arc::clone(&self.blueprint.key_groups));
                let channel = first + id.subtask as usize;
                let targets = (0..self.parallelism).map(|subtask| self.sender(TaskId { chain, subtask }, channel));
                (Spread::Hash(spread), targets.collect::<Result<_>>()?)
            }
        };
        Ok(EdgeWriter::new(spread, senders, Arc::clone(metrics)))
    }

    fn ends(&self, chain: usize) -> Ends {
        let steps = self.blueprint.work.graph.chains[chain].steps();
        let kind = |wanted: fn(&NodeKind) -> bool| {
            steps.iter().any(|(node, _)| wanted(&self.blueprint.work.plan.nodes[*node].kind))
        };
        Ends {
            source: kind(|kind| matches!(kind, NodeKind::Source(_))),
            sink: kind(|kind| matches!(kind, NodeKind::Sink(_))),
        }
    }
}

fn state_ttl(node: &Node) -> Option<Duration> {
    match &node.kind {
        NodeKind::GroupAggregate(aggregate) => aggregate.state_ttl,
        _ => None,
    }
}

/// Rows a batch when event time is replayed at a pace: small enough to come smoothly.
const PACED_ROWS: usize = 64;

pub(super) fn channels_of(spread: &SpreadPlan, parallelism: u32) -> usize {
    match spread {
        SpreadPlan::Forward => 1,
        SpreadPlan::Hash(_) => parallelism as usize,
    }
}

fn channels_into(graph: &Graph, chain: usize, parallelism: u32) -> usize {
    graph.edges.iter().filter(|edge| edge.to == chain).map(|edge| channels_of(&edge.spread, parallelism)).sum()
}

/// The channels of an inbox are numbered edge by edge, and within a keyed edge by sender.
fn first_channel(graph: &Graph, edge: usize, parallelism: u32) -> usize {
    let to = graph.edges[edge].to;
    graph.edges[..edge].iter().filter(|other| other.to == to).map(|other| channels_of(&other.spread, parallelism)).sum()
}
