//! Whether a plan can go on from a state.

use super::link::{DroppedState, Manifest, Plan};
use crate::ids::{EdgeId, OperatorId};
use crate::key_group::MaxParallelism;
use std::collections::BTreeSet;

/// One reason why a plan cannot go on from a state.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Misfit {
    /// The number of key groups is fixed with the first checkpoint.
    #[error(
        "maxParallelism is {new} but the state was written with {old}: it cannot change, begin anew or put it back"
    )]
    MaxParallelism {
        /// What the state was written with.
        old: u32,
        /// What the manifest of the job says.
        new: u32,
    },
    /// The plan has lost an operator whose state exists.
    #[error(
        "the plan no longer has the operator {operator} ({kind}) of the state: \
             put it back, set spec.allowDroppedState to lose its state, or begin anew"
    )]
    Dropped {
        /// The operator.
        operator: OperatorId,
        /// What it was.
        kind: String,
    },
    /// The operator keeps its state in another form.
    #[error(
        "the state of operator {operator} does not fit: \
             it was written by {old_kind} {old_schema}, the plan has {new_kind} {new_schema}"
    )]
    Changed {
        /// The operator.
        operator: OperatorId,
        /// What it was.
        old_kind: String,
        /// The schema of its state.
        old_schema: serde_json::Value,
        /// What it is now.
        new_kind: String,
        /// The schema that it needs.
        new_schema: serde_json::Value,
    },
    /// Rows are in flight on a connection that the plan does not have.
    #[error(
        "the checkpoint overtook rows that are still on their way ({edge}), and the plan has no place for them: \
             run the job as it was until a checkpoint or a savepoint has no rows in flight, then change it"
    )]
    InFlight {
        /// The connection.
        edge: EdgeId,
    },
}

/// All reasons why `plan` cannot go on from `manifest`; empty when it can. Operators that are new begin empty.
#[must_use]
pub fn check_fit(manifest: &Manifest, plan: &Plan, max_parallelism: MaxParallelism) -> Vec<Misfit> {
    let mut misfits = Vec::new();
    if manifest.max_parallelism != max_parallelism {
        misfits.push(Misfit::MaxParallelism { old: manifest.max_parallelism.get(), new: max_parallelism.get() });
    }
    for (id, old) in &manifest.operators {
        match plan.operators.get(id) {
            None if plan.dropped_state == DroppedState::Allow => {}
            None => misfits.push(Misfit::Dropped { operator: id.clone(), kind: old.kind.clone() }),
            Some(new) if new.kind == old.kind && new.schema == old.schema => {}
            Some(new) => misfits.push(Misfit::Changed {
                operator: id.clone(),
                old_kind: old.kind.clone(),
                old_schema: old.schema.clone(),
                new_kind: new.kind.clone(),
                new_schema: new.schema.clone(),
            }),
        }
    }
    let in_flight: BTreeSet<&EdgeId> = manifest.in_flight.iter().flat_map(|file| &file.edges).collect();
    let homeless = in_flight.into_iter().filter(|edge| !plan.edges.contains(edge));
    misfits.extend(homeless.map(|edge| Misfit::InFlight { edge: edge.clone() }));
    misfits
}
