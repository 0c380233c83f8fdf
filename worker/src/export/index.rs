//! The index of an export: where each table is and what its columns are, and the part of the checkpoint that is no keyed
//! state.

use crate::failure::{Failure, Result};
use crate::operator::legend::Role;
use serde::Serialize;
use std::collections::BTreeMap;
use weir_protocol::chain::{Manifest, OperatorState};
use weir_protocol::snapshot::{Committable, KeyGroupRange, SplitProgress};
use weir_protocol::{EventTime, OperatorId};

/// The form of the index.
const VERSION: u32 = 1;

/// What was exported. Its JSON is described in docs/checkpoints.md.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    version: u32,
    /// The job's name.
    pub job: String,
    /// The savepoint's name, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
    /// The checkpoint's number.
    pub checkpoint: u64,
    link: u64,
    generation: u64,
    completed_unix_ms: u64,
    plan: String,
    parallelism: u32,
    max_parallelism: u32,
    /// Rows that were in flight, which no table has.
    pub in_flight_rows: u64,
    /// The operators.
    pub operators: Vec<ExportedOperator>,
}

/// One operator.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedOperator {
    id: String,
    kind: String,
    /// Its tables.
    pub tables: Vec<ExportedTable>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    watermarks: Vec<Watermark>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    counters: BTreeMap<String, u64>,
    /// Splits with something left to read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    splits: Vec<SplitProgress>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    finished_splits: Vec<String>,
    /// What waits to be committed, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    to_commit: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Watermark {
    /// The first and the last.
    key_groups: [u16; 2],
    unix_ms: i64,
}

/// One table.
#[derive(Debug, Clone, Serialize)]
pub struct ExportedTable {
    /// Its name within its operator.
    pub name: String,
    /// Its columns, in their order; empty when nothing is known of them.
    pub columns: Vec<ExportedColumn>,
    /// All of its rows.
    pub rows: u64,
    /// Its files.
    pub files: Vec<ExportedFile>,
}

/// One column.
#[derive(Debug, Clone, Serialize)]
pub struct ExportedColumn {
    /// Its name in the files.
    pub name: String,
    /// Its type in SQL.
    #[serde(rename = "type")]
    pub sql_type: String,
    /// What it is there for; none for the key group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// One file.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedFile {
    /// Its name below the target.
    pub path: String,
    /// The first and the last of its key groups.
    pub key_groups: [u16; 2],
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

impl Index {
    /// The index of a checkpoint, of which nothing is exported yet.
    #[must_use]
    pub(super) fn of(manifest: &Manifest, savepoint: Option<&str>) -> Self {
        Self {
            version: VERSION,
            job: manifest.job.clone(),
            savepoint: savepoint.map(str::to_owned),
            checkpoint: manifest.checkpoint.0,
            link: manifest.number.0,
            generation: manifest.generation.0,
            completed_unix_ms: manifest.completed_unix_ms,
            plan: manifest.plan.clone(),
            parallelism: manifest.parallelism,
            max_parallelism: manifest.max_parallelism.get(),
            in_flight_rows: manifest.in_flight.iter().map(|file| file.rows).sum(),
            operators: Vec::new(),
        }
    }

    /// All files.
    pub fn files(&self) -> impl Iterator<Item = &ExportedFile> {
        self.tables().flat_map(|table| &table.files)
    }

    /// All tables.
    pub fn tables(&self) -> impl Iterator<Item = &ExportedTable> {
        self.operators.iter().flat_map(|operator| &operator.tables)
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_vec_pretty(self);
        json.map_err(|error| Failure::bug("the index of an export could not be written").because(error))
    }
}

impl ExportedOperator {
    /// An operator without its tables.
    pub(super) fn of(id: &OperatorId, state: &OperatorState, waiting: Option<&BTreeMap<String, Committable>>) -> Self {
        let watermark = |(range, watermark): &(KeyGroupRange, EventTime)| Watermark {
            key_groups: [range.start.0, range.end.0.saturating_sub(1)],
            unix_ms: watermark.0,
        };
        Self {
            id: id.to_string(),
            kind: state.kind.clone(),
            tables: Vec::new(),
            watermarks: state.watermarks.iter().map(watermark).collect(),
            counters: state.counters.clone(),
            splits: state.unfinished.values().cloned().collect(),
            finished_splits: state.finished.iter().cloned().collect(),
            to_commit: waiting.into_iter().flat_map(BTreeMap::keys).cloned().collect(),
        }
    }
}
