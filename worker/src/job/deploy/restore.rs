//! What a task's operators begin with.

use crate::checkpoint::store::Store;
use crate::dataflow::chain::{Next, Step};
use crate::failure::Result;
use crate::operator::snapshot::Restored;
use crate::state::file;
use std::collections::BTreeMap;
use weir_protocol::chain::OperatorState;
use weir_protocol::snapshot::KeyGroupRange;
use weir_protocol::{EventTime, OperatorId};

/// State of one operator for one task.
pub(super) struct RestoreOf {
    pub(super) operator: OperatorId,
    pub(super) state: OperatorState,
    pub(super) owned: Vec<KeyGroupRange>,
    pub(super) subtask: u32,
}

/// Reads what the task owns.
pub(super) fn restored(store: &dyn Store, part: &RestoreOf) -> Result<Restored> {
    let tables = file::restore(store, &part.state.files, &part.owned)?;
    let watermarks = clipped(&part.state.watermarks, &part.owned);
    let counters = if part.subtask == 0 { part.state.counters.clone() } else { BTreeMap::new() };
    Ok(Restored { tables, watermarks, counters })
}

fn clipped(watermarks: &[(KeyGroupRange, EventTime)], owned: &[KeyGroupRange]) -> Vec<(KeyGroupRange, EventTime)> {
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
