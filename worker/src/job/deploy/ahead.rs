//! Loads the state of key groups that will move here, while the job goes on elsewhere.

use super::builder::state_ttl;
use super::restore::clipped;
use crate::checkpoint::store::Store;
use crate::dataflow::graph::{Chain, Role};
use crate::failure::Result;
use crate::job::agent::Work;
use crate::job::deploy::warm::{Basis, Gained, Warm, Warmed, without};
use crate::operator::snapshot::Restored;
use crate::operator::{Counter, OperatorContext, build};
use crate::plan::NodeIndex;
use crate::state::file;
use std::collections::BTreeMap;
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
    /// Subtasks that run here now, with the key groups that they own: they will leave their state here.
    pub here: &'a BTreeMap<u32, Vec<KeyGroupRange>>,
    /// Set when nobody needs it any more.
    pub overtaken: &'a AtomicBool,
}

impl Ahead<'_> {
    /// Operators with the state of the key groups that new subtasks here will own, and the state of those that come to
    /// subtasks which are here. Ends early, with nothing, when it is overtaken or takes more memory than `work` allows.
    pub fn load(&self, work: &Work) -> Result<Warmed> {
        let mut warmed = Warmed::default();
        for subtask in (0..self.key_groups.parallelism()).filter(|one| self.placement.worker_of(*one) == work.worker) {
            let owned = self.key_groups.owned(subtask);
            for (node, role) in work.graph.chains.iter().flat_map(Chain::steps) {
                let Some(id) = work.plan.nodes[node].id.clone().filter(|_| role != Role::Local) else { continue };
                let Some(state) = self.manifest.operators.get(&id).filter(|state| !state.files.is_empty()) else {
                    continue;
                };
                let place = (id, subtask);
                match self.here.get(&subtask) {
                    Some(before) => {
                        let gained = gained(work, state, &owned, before)?;
                        warmed.gained.extend(gained.map(|gained| (place, gained)));
                    }
                    None => {
                        let warm = self.operator(work, (node, role), state, owned.clone())?;
                        warmed.operators.insert(place, warm);
                    }
                }
                if warmed.bytes() > work.state_budget || self.overtaken.load(Ordering::Relaxed) {
                    return Ok(Warmed::default());
                }
            }
        }
        Ok(warmed)
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
        let files = files_of(state, &owned);
        operator.restore(Restored {
            tables: file::restore(work.store.as_ref() as &dyn Store, &files, &owned)?,
            watermarks: clipped(&state.watermarks, &owned),
            counters: BTreeMap::new(),
        })?;
        Ok(Warm { operator, held: owned, basis: Basis::Files(files) })
    }
}

fn files_of(state: &OperatorState, owned: &[KeyGroupRange]) -> Vec<StateFile> {
    state.files.iter().filter(|file| file::overlap(&file.key_groups, owned)).cloned().collect()
}

/// The state of the key groups that come to a subtask which is here and has `before`.
fn gained(
    work: &Work,
    state: &OperatorState,
    owned: &[KeyGroupRange],
    before: &[KeyGroupRange],
) -> Result<Option<Gained>> {
    let held = without(owned, before);
    let files = files_of(state, &held);
    if files.is_empty() {
        return Ok(None);
    }
    let tables = file::restore(work.store.as_ref() as &dyn Store, &files, &held)?;
    Ok(Some(Gained { held, files, tables }))
}
