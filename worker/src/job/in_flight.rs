//! What a restored task replays: the rows that were in flight to it, or to those whose key groups it now owns.

use crate::checkpoint::store::Store;
use crate::dataflow::edge::HashSpread;
use crate::dataflow::in_flight::replay::Replay;
use crate::dataflow::in_flight::{Piece, Stretch};
use crate::failure::Result;
use crate::state::{file, in_flight};
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_protocol::EdgeId;
use weir_protocol::key_group::KeyGroupMap;
use weir_protocol::snapshot::InFlightFile;

/// What one task replays.
pub(super) struct InFlightOf {
    /// The edges into the task's chain.
    pub edges: BTreeMap<EdgeId, Into>,
    /// The files of the checkpoint.
    pub files: Vec<InFlightFile>,
    /// Who owns which key groups now.
    pub key_groups: Arc<KeyGroupMap>,
    /// The task's number.
    pub subtask: u32,
}

/// Where an edge leads.
pub(super) struct Into {
    /// The input of the chain's first step.
    pub input: usize,
    /// The columns of the key; `None` for rows of any key.
    pub key: Option<Vec<usize>>,
}

impl InFlightOf {
    /// Reads the files that concern the task. Rows of a key go to the task that owns it; others stay together and go to
    /// the task of the same number, or where there are fewer now, to the one that stands in for it.
    pub(super) fn read(&self, store: &dyn Store) -> Result<Option<Replay>> {
        let mut replayed = Vec::new();
        for file in self.files.iter().filter(|file| self.concerns(file)) {
            for stretch in in_flight::read(store, file)? {
                if let Some(into) = self.edges.get(&stretch.edge) {
                    replayed.push((self.share(stretch, into, file.subtask)?, into.input));
                }
            }
        }
        let has_rows = replayed.iter().any(|(stretch, _)| stretch.has_rows());
        Ok(if has_rows { Replay::new(replayed) } else { None })
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
