//! A completed checkpoint is the one before, changed by what all tasks handed over.
//!
//! Everything is a set by identity, because an acknowledgement repeats all that its task has not yet seen in a completed
//! checkpoint: files by path, splits by name, committables by id. Folding the same thing twice changes nothing.

use super::link::{Committables, OperatorState, Origin, Plan, Sizes};
use crate::ids::{OperatorId, TaskId};
use crate::snapshot::{InFlightFile, KeyGroupRange, OperatorSnapshot, SplitProgress, TaskSnapshot};
use std::collections::{BTreeMap, BTreeSet};

/// Snapshots that contradict each other or the plan: a mistake in the engine, never in the job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// A task handed over an operator that the plan does not name.
    #[error("task {task} took a snapshot of operator {operator}, which the plan does not name")]
    UnknownOperator {
        /// The task.
        task: TaskId,
        /// The operator.
        operator: OperatorId,
    },
    /// Two tasks hold one split.
    #[error("split {split:?} of operator {operator} is in the hands of two tasks, one of them {task}")]
    SplitTwice {
        /// The second task.
        task: TaskId,
        /// The operator.
        operator: OperatorId,
        /// The split.
        split: String,
    },
    /// One path, two contents.
    #[error("state file {path} of operator {operator} was written twice")]
    FileTwice {
        /// The operator.
        operator: OperatorId,
        /// The file.
        path: String,
    },
}

/// The part of a manifest that follows from the snapshots.
#[derive(Debug, Clone, PartialEq)]
pub struct Folded {
    /// The state of every operator of the plan.
    pub operators: BTreeMap<OperatorId, OperatorState>,
    /// What the barriers overtook. Nothing of the state before: its rows have been replayed since.
    pub in_flight: Vec<InFlightFile>,
    /// What is not confirmed.
    pub committables: Committables,
    /// How large it is.
    pub sizes: Sizes,
}

/// The state to go on from: the operators of the manifest before, without what is not the job's own.
#[must_use]
pub fn base_operators(
    origin: &Origin,
    operators: &BTreeMap<OperatorId, OperatorState>,
) -> BTreeMap<OperatorId, OperatorState> {
    let mut operators = operators.clone();
    if matches!(origin, Origin::Foreign { .. }) {
        // Files of another place may go away at any time: the tasks write all of their state in the first checkpoint.
        operators.values_mut().for_each(|operator| operator.files.clear());
    }
    operators
}

/// Folds the snapshots of all tasks over the state before.
///
/// `base` and `carried` are the operators and the unconfirmed committables to go on from, `confirmed` the ids that sinks
/// have confirmed. Splits that no task mentions stay where they were: they are unread, not lost.
///
/// # Errors
/// When the snapshots contradict each other or the plan.
pub fn fold(
    base: &BTreeMap<OperatorId, OperatorState>,
    carried: &Committables,
    confirmed: &BTreeSet<String>,
    plan: &Plan,
    snapshots: &BTreeMap<TaskId, TaskSnapshot>,
) -> Result<Folded, FoldError> {
    let mut operators = begin(base, plan);
    let mut committables = carried.clone();
    let mut seen = BTreeMap::new();
    let mut dropped: BTreeMap<&OperatorId, Vec<(&String, &Vec<KeyGroupRange>)>> = BTreeMap::new();
    let mut sizes = Sizes::default();
    let in_flight: Vec<InFlightFile> = snapshots.values().filter_map(|task| task.in_flight.clone()).collect();
    for (&task, snapshot) in snapshots {
        sizes.written_bytes += snapshot.cost.bytes;
        for (id, part) in &snapshot.operators {
            let Some(state) = operators.get_mut(id) else {
                return Err(FoldError::UnknownOperator { task, operator: id.clone() });
            };
            add_files(state, id, part)?;
            add_splits(state, (task, id), part, &mut seen)?;
            replace_rest(state, part);
            dropped.entry(id).or_default().extend(&part.dropped);
            let waiting = committables.entry(id.clone()).or_default();
            waiting.extend(part.committables.iter().map(|one| (one.id.clone(), one.clone())));
        }
    }
    for (id, parts) in dropped {
        let state = operators.get_mut(id).expect("only operators of the plan hand over what they dropped");
        drop_files(state, &parts);
    }
    for state in operators.values_mut() {
        state.files.sort_by(|a, b| (&a.table, a.sequence, &a.path).cmp(&(&b.table, b.sequence, &b.path)));
        state.watermarks.sort_unstable();
        sizes.files += state.files.len() as u64;
        sizes.total_bytes += state.files.iter().map(|file| file.bytes).sum::<u64>();
    }
    sizes.in_flight_bytes = in_flight.iter().map(|file| file.bytes).sum();
    sizes.files += in_flight.len() as u64;
    sizes.total_bytes += sizes.in_flight_bytes;
    committables.values_mut().for_each(|waiting| waiting.retain(|id, _| !confirmed.contains(id)));
    committables.retain(|_, waiting| !waiting.is_empty());
    Ok(Folded { operators, in_flight, committables, sizes })
}

/// The operators of the plan with the state that they keep over checkpoints; the rest is handed over anew each time.
fn begin(base: &BTreeMap<OperatorId, OperatorState>, plan: &Plan) -> BTreeMap<OperatorId, OperatorState> {
    let operators = plan.operators.iter().map(|(id, operator)| {
        let kept = base.get(id);
        let state = OperatorState {
            kind: operator.kind.clone(),
            schema: operator.schema.clone(),
            legend: operator.legend.clone(),
            files: kept.map(|old| old.files.clone()).unwrap_or_default(),
            unfinished: kept.map(|old| old.unfinished.clone()).unwrap_or_default(),
            finished: kept.map(|old| old.finished.clone()).unwrap_or_default(),
            ..OperatorState::default()
        };
        (id.clone(), state)
    });
    operators.collect()
}

fn add_files(state: &mut OperatorState, operator: &OperatorId, part: &OperatorSnapshot) -> Result<(), FoldError> {
    for file in &part.added {
        match state.files.iter_mut().find(|known| known.path == file.path) {
            Some(known) if known.checksum != file.checksum => {
                return Err(FoldError::FileTwice { operator: operator.clone(), path: file.path.clone() });
            }
            Some(known) => known.key_groups = unite_ranges(&known.key_groups, &file.key_groups),
            None => state.files.push(file.clone()),
        }
    }
    Ok(())
}

fn drop_files(state: &mut OperatorState, dropped: &[(&String, &Vec<KeyGroupRange>)]) {
    let mut by_path: BTreeMap<&str, Vec<KeyGroupRange>> = BTreeMap::new();
    for (path, ranges) in dropped {
        by_path.entry(path).or_default().extend(ranges.iter());
    }
    state.files.retain_mut(|file| {
        if let Some(ranges) = by_path.get(file.path.as_str()) {
            file.key_groups = subtract_ranges(&file.key_groups, ranges);
        }
        !file.key_groups.is_empty()
    });
}

fn add_splits<'a>(
    state: &mut OperatorState,
    (task, operator): (TaskId, &'a OperatorId),
    part: &'a OperatorSnapshot,
    seen: &mut BTreeMap<(&'a OperatorId, &'a str), &'a SplitProgress>,
) -> Result<(), FoldError> {
    for split in &part.splits {
        let before = seen.insert((operator, &split.split), split);
        if before.is_some_and(|before| before != split) {
            return Err(FoldError::SplitTwice { task, operator: operator.clone(), split: split.split.clone() });
        }
        if split.finished {
            state.unfinished.remove(&split.split);
            state.finished.insert(split.split.clone());
        } else if !state.finished.contains(&split.split) {
            state.unfinished.insert(split.split.clone(), split.clone());
        }
    }
    Ok(())
}

fn replace_rest(state: &mut OperatorState, part: &OperatorSnapshot) {
    state.watermarks.extend(&part.watermarks);
    state.writers.extend(part.writer.iter().cloned());
    for (name, count) in &part.counters {
        *state.counters.entry(name.clone()).or_default() += count;
    }
}

/// The union of two sets of key groups; sorted and disjoint.
#[must_use]
pub fn unite_ranges(left: &[KeyGroupRange], right: &[KeyGroupRange]) -> Vec<KeyGroupRange> {
    let mut all: Vec<KeyGroupRange> =
        left.iter().chain(right).copied().filter(|range| range.start < range.end).collect();
    all.sort_unstable();
    let mut united: Vec<KeyGroupRange> = Vec::with_capacity(all.len());
    for range in all {
        match united.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => united.push(range),
        }
    }
    united
}

/// The key groups of `from` that are not in `removed`; sorted and disjoint.
#[must_use]
pub fn subtract_ranges(from: &[KeyGroupRange], removed: &[KeyGroupRange]) -> Vec<KeyGroupRange> {
    let mut left = unite_ranges(from, &[]);
    for hole in unite_ranges(removed, &[]) {
        left = left.into_iter().flat_map(|range| cut(range, hole)).collect();
    }
    left
}

/// What is left of `range` before and after `hole`.
fn cut(range: KeyGroupRange, hole: KeyGroupRange) -> impl Iterator<Item = KeyGroupRange> {
    let before = KeyGroupRange { start: range.start, end: range.end.min(hole.start) };
    let after = KeyGroupRange { start: range.start.max(hole.end), end: range.end };
    [before, after].into_iter().filter(|part| part.start < part.end)
}
