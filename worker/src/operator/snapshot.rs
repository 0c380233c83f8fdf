//! What an operator hands over at a barrier and gets back at a restore.

use arrow::array::{BooleanArray, RecordBatch};
use std::collections::BTreeMap;
use weir_protocol::snapshot::KeyGroupRange;
use weir_protocol::{EventTime, KeyGroup};

/// What has changed in an operator's state since its last snapshot.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Changed rows, by table.
    pub tables: Vec<TableDelta>,
    /// The event time up to which the operator has handled its key groups; ranges are sorted and disjoint.
    pub watermarks: Vec<(KeyGroupRange, EventTime)>,
    /// Counters that a restore must bring back, such as late rows.
    pub counters: BTreeMap<String, u64>,
}

/// Rows of a state table, as upserts by key: a later row with the same key replaces an earlier one.
#[derive(Debug, Clone)]
pub struct TableDelta {
    /// The table's name within its operator.
    pub table: String,
    /// The columns of the key come first, then the values.
    pub rows: RecordBatch,
    /// How many of the columns are the key.
    pub key_columns: usize,
    /// A column of `BIGINT`s, the end of each row's life in event time: once the key group's watermark has reached the
    /// millisecond before, the row is dead and files need not keep it. Absent when rows live until they are deleted.
    pub expires: Option<usize>,
    /// Which rows delete their key; absent when none does. A deleting row's values mean nothing.
    pub deleted: Option<BooleanArray>,
    /// The runs of rows of each key group, sorted by key group: (key group, number of rows).
    pub key_groups: Vec<(KeyGroup, usize)>,
    /// How many rows of all snapshots are of no use once this one is applied, at most: those whose place its rows take, and
    /// its rows that only delete. Absent where nobody knows.
    pub dead: Option<usize>,
}

impl Snapshot {
    /// Memory that its rows take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|delta| delta.rows.get_array_memory_size() as u64).sum()
    }
}

/// The state that an operator takes over: the rows of the key groups that its task owns.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// In the order in which they are to be applied.
    pub tables: Vec<TableDelta>,
    /// The event time up to which each of the task's key groups was handled.
    pub watermarks: Vec<(KeyGroupRange, EventTime)>,
    /// Counters: the sums over all tasks of the checkpoint, given to subtask 0 only.
    pub counters: BTreeMap<String, u64>,
}
