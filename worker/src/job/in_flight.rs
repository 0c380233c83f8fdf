//! What a restored task replays: the rows that were in flight to it, or to those whose key groups it now owns.

use super::agent::Work;
use super::deploy::channels_of;
use crate::checkpoint::store::Store;
use crate::dataflow::edge::HashSpread;
use crate::dataflow::graph::{Edge, SpreadPlan};
use crate::dataflow::in_flight::replay::Replay;
use crate::dataflow::in_flight::{Piece, Stretch};
use crate::dataflow::task::Overtaking;
use crate::failure::Result;
use crate::plan::Changelog;
use crate::state::{file, in_flight};
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_protocol::EdgeId;
use weir_protocol::key_group::KeyGroupMap;
use weir_protocol::snapshot::InFlightFile;

/// The edges that lead into a chain.
pub(super) struct EdgesInto {
    /// The edge of each channel of a task.
    pub channels: Vec<EdgeId>,
    /// The input of the chain's first step that each channel of a task leads to.
    pub inputs: Vec<usize>,
    /// Whether barriers may overtake on them.
    pub overtaking: Overtaking,
    edges: BTreeMap<EdgeId, Into>,
}

/// Where an edge leads.
struct Into {
    /// The input of the chain's first step.
    input: usize,
    /// The columns of the key; `None` for rows of any key.
    key: Option<Vec<usize>>,
}

impl EdgesInto {
    /// The edges into the chain `chain`.
    pub(super) fn new(work: &Work, chain: usize, parallelism: u32) -> Self {
        let (graph, plan) = (&work.graph, &work.plan);
        let ids = graph.edge_ids(plan);
        let into: Vec<_> = graph.edges.iter().zip(ids).filter(|(edge, _)| edge.to == chain).collect();
        let channels = into.iter().flat_map(|(edge, id)| {
            let number = channels_of(&edge.spread, parallelism);
            std::iter::repeat_n((id.clone(), edge.input), number)
        });
        // Rows without a key may come to another task than those that follow them. For changes that matters: the old
        // content of a row must not come after the new one.
        let keyed = into.iter().all(|(edge, _)| edge.spread != SpreadPlan::Forward);
        let mut inputs = plan.nodes[graph.chains[chain].root.first().0].inputs.iter();
        let changes = inputs.any(|input| plan.nodes[*input].changelog != Changelog::Append);
        let overtaking = if changes && !keyed { Overtaking::Never } else { Overtaking::Allowed };
        let (channels, inputs) = channels.unzip();
        let leads = |edge: &Edge| match &edge.spread {
            SpreadPlan::Forward => Into { input: edge.input, key: None },
            SpreadPlan::Hash(columns) => Into { input: edge.input, key: Some(columns.clone()) },
        };
        let edges = into.into_iter().map(|(edge, id)| (id, leads(edge))).collect();
        Self { channels, inputs, overtaking, edges }
    }
}

/// What one task replays.
pub(super) struct InFlightOf {
    edges: BTreeMap<EdgeId, Into>,
    files: Vec<InFlightFile>,
    key_groups: Arc<KeyGroupMap>,
    subtask: u32,
}

impl InFlightOf {
    /// What the task `subtask` replays of a checkpoint's `files`, if `key_groups` says who owns what now.
    pub(super) fn new(edges: EdgesInto, files: &[InFlightFile], key_groups: Arc<KeyGroupMap>, subtask: u32) -> Self {
        Self { edges: edges.edges, files: files.to_vec(), key_groups, subtask }
    }

    /// Reads the files that concern the task. Rows of a key go to the task that owns it; others stay together and go to
    /// the task of the same number, or where there are fewer now, to the one that stands in for it.
    pub(super) fn read(&self, store: &dyn Store) -> Result<Option<Replay>> {
        let mut replayed = Vec::new();
        for file in self.files.iter().filter(|file| self.concerns(file)) {
            let mut of_file = Vec::new();
            for stretch in in_flight::read(store, file)? {
                if let Some(into) = self.edges.get(&stretch.edge) {
                    of_file.push((self.share(stretch, into, file.subtask)?, into.input));
                }
            }
            replayed.push(of_file);
        }
        let matter = replayed.iter().flatten().any(|(stretch, _)| stretch.matters());
        Ok(if matter { Replay::new(replayed) } else { None })
    }

    fn concerns(&self, file: &InFlightFile) -> bool {
        let mut into = file.edges.iter().filter_map(|edge| self.edges.get(edge));
        let owned = self.key_groups.owned(self.subtask);
        into.any(|into| match into.key {
            Some(_) => file::overlap(&file.key_groups, &owned),
            None => self.stands_in_for(file.subtask),
        })
    }

    fn stands_in_for(&self, subtask: u32) -> bool {
        subtask % self.key_groups.parallelism() == self.subtask
    }

    /// The stretch with the task's share of its rows. Its watermarks concern every task that has a share.
    fn share(&self, mut stretch: Stretch, into: &Into, subtask: u32) -> Result<Stretch> {
        let mut spread = into.key.clone().map(|columns| HashSpread::new(columns, Arc::clone(&self.key_groups)));
        let (own, tasks) = (self.subtask as usize, self.key_groups.parallelism() as usize);
        let mut pieces = Vec::with_capacity(stretch.pieces.len());
        for piece in stretch.pieces {
            let Some(batch) = piece.rows()? else {
                pieces.push(piece);
                continue;
            };
            let share = match &mut spread {
                Some(spread) => spread.share(batch, own, tasks)?,
                None => Some(batch).filter(|_| self.stands_in_for(subtask)),
            };
            pieces.extend(share.map(Piece::Rows));
        }
        stretch.pieces = pieces;
        Ok(stretch)
    }
}

#[cfg(test)]
mod tests;
