//! Hands out splits to the source tasks of all workers, on a thread of its own: looking for files may take its time.

use super::agent::message::Command;
use super::beside::Side;
use super::message::Message;
use crate::dataflow::graph::{Graph, Root};
use crate::dataflow::splits::SplitQueue;
use crate::failure::{Failure, Result};
use crate::plan::{NodeIndex, NodeKind, Plan};
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Instant;
use weir_protocol::Generation;
use weir_protocol::chain::Manifest;
use weir_protocol::members::Session;
use weir_protocol::snapshot::SplitProgress;

/// Work of the service.
pub enum SplitWork {
    /// A generation begins; answered with [`Message::SplitsReady`].
    Begin {
        /// The generation.
        generation: Generation,
        /// Subtasks of every source.
        parallelism: u32,
        /// The state to begin with.
        restore: Option<Box<Manifest>>,
    },
    /// A task wants splits; answered with [`Message::Splits`] or [`Message::SplitsFailed`].
    Ask {
        /// Whose task it is.
        session: Session,
        /// The generation.
        generation: Generation,
        /// The source.
        node: NodeIndex,
        /// The task's subtask.
        subtask: u32,
    },
}

/// Starts the service of a job.
#[must_use]
pub fn start(plan: Arc<Plan>, graph: Arc<Graph>, answers: mpsc::Sender<Message>) -> Side<SplitWork> {
    let mut queues: Option<(Generation, BTreeMap<NodeIndex, SplitQueue>)> = None;
    Side::start("splits", move |work| {
        // A job that has ended does not listen.
        let tell = |message| drop(answers.send(message));
        match work {
            SplitWork::Begin { generation, parallelism, restore } => {
                let made = queues_of(&plan, &graph, parallelism, restore.as_deref());
                tell(Message::SplitsReady(generation, made.map(|made| queues = Some((generation, made)))));
            }
            SplitWork::Ask { session, generation, node, subtask } => {
                let Some((_, queues)) = queues.as_mut().filter(|(current, _)| *current == generation) else { return };
                let Some(queue) = queues.get_mut(&node) else { return };
                match queue.next(subtask, Instant::now()) {
                    Ok(answer) => {
                        tell(Message::Splits(session, Command::Splits { generation, node, subtask, answer }));
                    }
                    Err(failure) => {
                        tell(Message::SplitsFailed(generation, failure.within_step(&plan.nodes[node].name)));
                    }
                }
            }
        }
    })
}

fn queues_of(
    plan: &Plan,
    graph: &Graph,
    parallelism: u32,
    restore: Option<&Manifest>,
) -> Result<BTreeMap<NodeIndex, SplitQueue>> {
    let mut queues = BTreeMap::new();
    for chain in &graph.chains {
        if let Root::Source { node, .. } = &chain.root {
            queues.insert(*node, queue(plan, *node, parallelism, restore)?);
        }
    }
    Ok(queues)
}

fn queue(plan: &Plan, index: NodeIndex, parallelism: u32, restore: Option<&Manifest>) -> Result<SplitQueue> {
    let node = &plan.nodes[index];
    let (NodeKind::Source(source), Some(id)) = (&node.kind, &node.id) else {
        return Err(Failure::bug(format!("'{}' is the root of a source chain and no source", node.name)));
    };
    let state = restore.and_then(|manifest| manifest.operators.get(id));
    let unfinished: Vec<SplitProgress> =
        state.map(|state| state.unfinished.values().cloned().collect()).unwrap_or_default();
    let finished = state.map(|state| state.finished.clone()).unwrap_or_default();
    let enumerator = source.source.enumerator().map_err(|failure| failure.within_step(&node.name))?;
    SplitQueue::new(source.source.assignment(), parallelism, enumerator, unfinished, finished)
        .map_err(|failure| failure.within_step(&node.name))
}
