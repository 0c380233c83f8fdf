//! What a task hands over at a barrier, and what a checkpoint's manifest keeps of it.
//!
//! Everything here is a set by identity: an acknowledgement repeats all that no completed checkpoint contains yet, and
//! adding the same thing twice changes nothing.

use crate::ids::{EdgeId, EventTime, KeyGroup, OperatorId, TaskId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A half-open range of key groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyGroupRange {
    /// The first key group of the range.
    pub start: KeyGroup,
    /// The key group after the last.
    pub end: KeyGroup,
}

/// A reference to an immutable file of keyed state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// The object's name below the job's folder; unique in the job's history.
    pub path: String,
    /// The table of the operator that the file belongs to.
    pub table: String,
    /// Files of one table are applied in this order, later rows over earlier ones.
    pub sequence: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Rows, tombstones included.
    pub rows: u64,
    /// xxh3 of the whole object.
    pub checksum: u64,
    /// The key groups of the file that are still referenced; sorted, disjoint.
    pub key_groups: Vec<KeyGroupRange>,
}

/// How far a source has read one of its splits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitProgress {
    /// The split's name, unique within its source and the same after a restart.
    pub split: String,
    /// Where to go on; its form belongs to the connector.
    pub position: serde_json::Value,
    /// The watermark of the split's rows up to the position.
    pub watermark: EventTime,
    /// True when nothing is left to read: the split is not handed out again.
    pub finished: bool,
}

/// Something that a sink has written and that becomes visible by a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committable {
    /// Unique in the job's history: the same id is the same thing.
    pub id: String,
    /// What the sink needs to commit it, at any later time and from any worker.
    pub payload: serde_json::Value,
}

/// A reference to an immutable file of what was in flight to one task when a barrier overtook it: rows and watermarks
/// that had been sent before the barrier and that no operator had handled.
///
/// It belongs to its checkpoint alone: after a restore the rows are replayed before any other, so the next checkpoint
/// has them in its state, or in flight anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightFile {
    /// The object's name below the job's folder; unique in the job's history.
    pub path: String,
    /// The edges that the file has rows or watermarks of.
    pub edges: BTreeSet<EdgeId>,
    /// The subtask that the rows were sent to.
    pub subtask: u32,
    /// The key groups that it owned: rows of keyed edges are of these.
    pub key_groups: Vec<KeyGroupRange>,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of rows.
    pub rows: u64,
    /// xxh3 of the whole object.
    pub checksum: u64,
}

/// What one operator of one task hands over at a barrier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorSnapshot {
    /// Files that are new since the last completed checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<StateFile>,
    /// Key groups of files that a compaction made superfluous since the last completed checkpoint, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, Vec<KeyGroupRange>>,
    /// The event time up to which the task has handled its key groups; absent for operators without keyed state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watermarks: Vec<(KeyGroupRange, EventTime)>,
    /// The splits in the task's hands, and those it has finished since the last completed checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<SplitProgress>,
    /// What waits for this checkpoint to become visible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub committables: Vec<Committable>,
    /// What a sink's writer goes on from, such as a file it has not rolled yet; replaced as a whole by each checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writer: Vec<serde_json::Value>,
    /// Counters that must survive a restore, such as late rows; summed over tasks, replaced by each checkpoint.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, u64>,
}

/// The acknowledgement of one task: all of its operators, and how long each part took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSnapshot {
    /// The task.
    pub task: TaskId,
    /// By operator.
    pub operators: BTreeMap<OperatorId, OperatorSnapshot>,
    /// What the barrier overtook on its way to the task; absent when it waited for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<InFlightFile>,
    /// What it cost.
    pub cost: SnapshotCost,
}

/// How long the parts of one task's snapshot took, and how much it wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCost {
    /// From the first barrier of an input to the last, in microseconds.
    pub align_us: u64,
    /// In the task, in microseconds.
    pub sync_us: u64,
    /// Encoding, compression and upload beside the task, in microseconds.
    pub upload_us: u64,
    /// Written bytes.
    pub bytes: u64,
    /// Those of them that are rows in flight.
    #[serde(default)]
    pub in_flight_bytes: u64,
}
