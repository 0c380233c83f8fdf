//! Loads the state of key groups that will move here, while the job goes on elsewhere.

use super::builder::state_ttl;
use super::restore::clipped;
use crate::checkpoint::store::Store;
use crate::dataflow::graph::{Chain, Role};
use crate::failure::Result;
use crate::job::agent::Work;
use crate::job::deploy::warm::{Basis, Warm, Warmed};
use crate::operator::snapshot::Restored;
use crate::operator::{Counter, OperatorContext, build};
use crate::plan::NodeIndex;
use crate::state::file;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use weir_protocol::chain::{Manifest, OperatorState};
use weir_protocol::key_group::KeyGroupMap;
use weir_protocol::members::Placement;
use weir_protocol::snapshot::{KeyGroupRange, StateFile};

/// What is to be loaded.
pub struct Ahead<'a> {
    /// The last completed checkpoint.
    pub manifest: &'a Manifest,
    /// The owners of the key groups as they will be.
    pub key_groups: &'a KeyGroupMap,
    /// Where the subtasks will run.
    pub placement: &'a Placement,
    /// Subtasks that run here now: they will leave their state here.
    pub here: &'a BTreeSet<u32>,
    /// Set when nobody needs it any more.
    pub overtaken: &'a AtomicBool,
}

impl Ahead<'_> {
    /// Operators with the state of the key groups that new subtasks here will own. Ends early, with nothing, when it is
    /// overtaken or takes more memory than `work` allows.
    pub fn load(&self, work: &Work) -> Result<Warmed> {
        let mut warmed = Warmed::new();
        let mut bytes = 0;
        for subtask in self.subtasks(work.worker) {
            let owned = self.key_groups.owned(subtask);
            for (node, role) in work.graph.chains.iter().flat_map(Chain::steps) {
                let Some(id) = work.plan.nodes[node].id.clone().filter(|_| role != Role::Local) else { continue };
                let Some(state) = self.manifest.operators.get(&id).filter(|state| !state.files.is_empty()) else {
                    continue;
                };
                let warm = self.operator(work, (node, role), state, owned.clone())?;
                bytes += warm.operator.state_bytes() as u64;
                if bytes > work.state_budget || self.overtaken.load(Ordering::Relaxed) {
                    return Ok(Warmed::new());
                }
                warmed.insert((id, subtask), warm);
            }
        }
        Ok(warmed)
    }

    fn subtasks(&self, worker: u32) -> impl Iterator<Item = u32> {
        let new = move |subtask: &u32| self.placement.worker_of(*subtask) == worker && !self.here.contains(subtask);
        (0..self.key_groups.parallelism()).filter(new)
    }

    fn operator(
        &self,
        work: &Work,
        (node, role): (NodeIndex, Role),
        state: &OperatorState,
        owned: Vec<KeyGroupRange>,
    ) -> Result<Warm> {
        let context = OperatorContext {
            operator: work.plan.nodes[node].id.clone().expect("it was looked for by its id"),
            key_groups: owned.clone(),
            max_parallelism: self.key_groups.max_parallelism(),
            // The task that takes it over has its own.
            late_rows: Counter::default(),
            state_ttl: state_ttl(&work.plan.nodes[node]),
        };
        let mut operator = build::operator(&work.plan, node, role, &context)?;
        let files: Vec<StateFile> =
            state.files.iter().filter(|file| file::overlap(&file.key_groups, &owned)).cloned().collect();
        operator.restore(Restored {
            tables: file::restore(work.store.as_ref() as &dyn Store, &files, &owned)?,
            watermarks: clipped(&state.watermarks, &owned),
            counters: BTreeMap::new(),
        })?;
        Ok(Warm { operator, held: owned, basis: Basis::Files(files) })
    }
}
