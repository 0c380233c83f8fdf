//! What a task's operators begin with.

use crate::checkpoint::store::Store;
use crate::dataflow::chain::{Next, Step};
use crate::failure::Result;
use crate::job::deploy::warm::{Gained, Reused, Warm};
use crate::operator::snapshot::Restored;
use crate::operator::{Counter, Operator};
use crate::state::file;
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_protocol::chain::OperatorState;
use weir_protocol::snapshot::{KeyGroupRange, StateFile};
use weir_protocol::{EventTime, OperatorId};

/// State of one operator for one task.
pub(super) struct RestoreOf {
    pub(super) operator: OperatorId,
    pub(super) state: OperatorState,
    pub(super) owned: Vec<KeyGroupRange>,
    pub(super) subtask: u32,
    /// What is in memory of it.
    pub(super) warm: Option<Warm>,
    /// What is in memory of key groups that come to it.
    pub(super) gained: Option<Gained>,
    pub(super) late_rows: Counter,
    pub(super) reused: Arc<Reused>,
}

impl RestoreOf {
    /// Gives the operator its state: what is in memory of it, and for the rest what the store has.
    pub(super) fn bring(mut self, operator: &mut Box<dyn Operator>, store: &dyn Store) -> Result<()> {
        let (mut tables, mut missing) = (Vec::new(), self.take_over(operator));
        if let Some((gained, rest)) = missing.as_ref().and_then(|missing| self.take_gained(missing)) {
            (tables, missing) = (gained.tables, Some(rest));
        }
        tables.extend(file::restore(store, missing.as_ref().unwrap_or(&self.state.files), &self.owned)?);
        let watermarks = clipped(&self.state.watermarks, &self.owned);
        let counters = if self.subtask == 0 { self.state.counters } else { BTreeMap::new() };
        operator.restore(Restored { tables, watermarks, counters })
    }

    /// What was loaded ahead of the files that are missing, and what is still missing.
    fn take_gained(&mut self, missing: &[StateFile]) -> Option<(Gained, Vec<StateFile>)> {
        let gained = self.gained.take()?;
        let rest = gained.missing(missing)?;
        self.reused.gained(&gained);
        Some((gained, rest))
    }

    /// Puts the operator that has state in memory in the place of the new one; the files to read besides.
    fn take_over(&mut self, operator: &mut Box<dyn Operator>) -> Option<Vec<StateFile>> {
        let mut warm = self.warm.take()?;
        let missing = warm.missing(&self.state.files, &self.owned)?;
        if !warm.operator.adopt(&self.owned, &self.late_rows) {
            return None;
        }
        self.reused.add(&warm.basis, warm.operator.state_bytes() as u64);
        *operator = warm.operator;
        Some(missing)
    }
}

pub(super) fn clipped(
    watermarks: &[(KeyGroupRange, EventTime)],
    owned: &[KeyGroupRange],
) -> Vec<(KeyGroupRange, EventTime)> {
    let mut clipped = Vec::new();
    for own in owned {
        for (range, watermark) in watermarks {
            let (start, end) = (own.start.max(range.start), own.end.min(range.end));
            if start < end {
                clipped.push((KeyGroupRange { start, end }, *watermark));
            }
        }
    }
    clipped.sort_by_key(|(range, _)| range.start);
    clipped
}

/// The step of an operator behind others.
pub(super) fn find<'a>(next: &'a mut [Next], operator: &OperatorId) -> Option<&'a mut Step> {
    next.iter_mut().find_map(|next| match next {
        Next::Step(step, _) => find_step(step, operator),
        Next::Edge(_) => None,
    })
}

/// The step of an operator, this one or one behind it.
pub(super) fn find_step<'a>(step: &'a mut Step, operator: &OperatorId) -> Option<&'a mut Step> {
    if step.id.as_ref() == Some(operator) { Some(step) } else { find(&mut step.next, operator) }
}
