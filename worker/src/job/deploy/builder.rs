//! From a plan's chains to tasks with their channels, readers, writers and operators.

use super::restore::RestoreOf;
use super::{Blueprint, Desks, Task};
use crate::connector::{ReaderContext, SourceReader, WriterContext};
use crate::dataflow::chain::{self, Next, Step};
use crate::dataflow::edge::{EdgeWriter, HashSpread, Spread};
use crate::dataflow::graph::{Graph, Out, Role, Root, SpreadPlan, StepPlan};
use crate::dataflow::inbox::{Inbox, Sender};
use crate::dataflow::metrics::{Ends, TaskMetrics};
use crate::dataflow::pace::Pace;
use crate::dataflow::source::SourceTask;
use crate::dataflow::splits::SplitDesk;
use crate::dataflow::task::OperatorTask;
use crate::failure::{Failure, Result};
use crate::job::agent::message::Report;
use crate::job::deploy::warm::Warmed;
use crate::job::in_flight::{EdgesInto, InFlightOf};
use crate::operator::calc::Calculation;
use crate::operator::{OperatorContext, build};
use crate::plan::{Changelog, Node, NodeIndex, NodeKind, SinkNode, SourceNode};
use crate::stop::Stop;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::chain::OperatorState;
use weir_protocol::snapshot::KeyGroupRange;
use weir_protocol::{OperatorId, TaskId};

/// Builds the tasks of a generation that are placed on this worker.
pub(super) struct Builder<'a> {
    blueprint: &'a Blueprint,
    parallelism: u32,
    /// Of the tasks on this worker.
    inboxes: BTreeMap<TaskId, Arc<Inbox>>,
    pub(super) desks: Desks,
    pace: Option<Arc<Pace>>,
    /// Ends what tasks wait for outside of their inboxes.
    pub(super) stop: Stop,
}

impl<'a> Builder<'a> {
    pub(super) fn new(blueprint: &'a Blueprint) -> Self {
        let parallelism = blueprint.key_groups.parallelism();
        let pace = blueprint.work.speed.map(|speed| Arc::new(Pace::new(speed)));
        let (inboxes, desks) = (BTreeMap::new(), BTreeMap::new());
        let mut builder = Self { blueprint, parallelism, inboxes, desks, pace, stop: Stop::default() };
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
    pub(super) fn subtasks(&self) -> impl Iterator<Item = u32> + use<'a> {
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

    pub(super) fn operators(&self, chain: usize) -> Vec<OperatorId> {
        let steps = self.blueprint.work.graph.chains[chain].steps();
        let stateful = steps.into_iter().filter(|(_, role)| *role != Role::Local);
        stateful.filter_map(|(node, _)| self.blueprint.work.plan.nodes[node].id.clone()).collect()
    }

    pub(super) fn restore_of(
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
                warm: warm.operators.remove(&(operator.clone(), subtask)),
                gained: warm.gained.remove(&(operator.clone(), subtask)),
                late_rows: metrics.late_rows.clone(),
                reused: Arc::clone(&self.blueprint.work.board.reused),
            })
        };
        operators.iter().filter_map(state).collect()
    }

    pub(super) fn task(&self, chain: usize, subtask: u32) -> Result<(TaskId, Arc<Inbox>, Arc<TaskMetrics>, Task)> {
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
            stop: self.stop.clone(),
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
            moved: None,
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
            stop: self.stop.clone(),
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

pub(super) fn state_ttl(node: &Node) -> Option<Duration> {
    match &node.kind {
        NodeKind::GroupAggregate(aggregate) => aggregate.state_ttl,
        _ => None,
    }
}

/// Rows a batch when event time is replayed at a pace: small enough to come smoothly.
const PACED_ROWS: usize = 64;

pub(in crate::job) fn channels_of(spread: &SpreadPlan, parallelism: u32) -> usize {
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
