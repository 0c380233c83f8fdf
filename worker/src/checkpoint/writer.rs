//! Writes the snapshots of tasks beside them: encodes, compresses, stores, and says what the acknowledgement is.
//!
//! One writer serves all tasks of a process on a thread of its own. After a snapshot it merges files where that is due,
//! so that the next acknowledgement can say so.

use super::ledger::{Ledger, Replacement};
use super::store::{Put, Store};
use crate::dataflow::chain::{Part, Taken};
use crate::dataflow::task::TakenSnapshot;
use crate::failure::{Failure, Result};
use crate::operator::snapshot::{Snapshot, TableDelta};
use crate::state::compact::{self, Tombstones};
use crate::state::file::{self, Encoded, FileBuilder, FileReader};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use weir_protocol::snapshot::{KeyGroupRange, OperatorSnapshot, SnapshotCost, StateFile, TaskSnapshot};
use weir_protocol::{CheckpointId, EventTime, Generation, KeyGroup, OperatorId, TaskId};

/// Writes snapshots of one generation.
pub struct SnapshotWriter {
    store: Arc<dyn Store>,
    generation: Generation,
    ledgers: BTreeMap<(TaskId, OperatorId), Ledger>,
    owned: BTreeMap<TaskId, Vec<KeyGroupRange>>,
    /// Above the sequence numbers of all files that the generation goes on from.
    sequence: u64,
}

impl SnapshotWriter {
    /// A writer for a generation whose files are numbered from `sequence`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, generation: Generation, sequence: u64) -> Self {
        Self { store, generation, ledgers: BTreeMap::new(), owned: BTreeMap::new(), sequence }
    }

    /// A task begins with these files of an operator and owns these key groups.
    pub fn begin(&mut self, task: TaskId, operator: OperatorId, files: Vec<StateFile>, owned: Vec<KeyGroupRange>) {
        self.ledgers.insert((task, operator), Ledger::new(files));
        self.owned.insert(task, owned);
    }

    /// Writes a task's snapshot; the answer is its acknowledgement.
    pub fn write(&mut self, snapshot: TakenSnapshot) -> Result<TaskSnapshot> {
        let began = Instant::now();
        let mut operators = BTreeMap::new();
        let mut bytes = 0;
        for taken in snapshot.taken {
            let Taken { operator, part } = taken;
            let part = self.part(&operator, part)?;
            bytes += part.added.iter().map(|file| file.bytes).sum::<u64>();
            let ledger = self.ledgers.entry((snapshot.task, operator.clone())).or_default();
            operators.insert(operator, ledger.take(snapshot.checkpoint, part));
        }
        let cost = SnapshotCost {
            align_us: snapshot.align.as_micros() as u64,
            sync_us: snapshot.sync.as_micros() as u64,
            upload_us: began.elapsed().as_micros() as u64,
            bytes,
        };
        Ok(TaskSnapshot { task: snapshot.task, operators, cost })
    }

    /// The checkpoint has completed.
    pub fn completed(&mut self, checkpoint: CheckpointId) {
        self.ledgers.values_mut().for_each(|ledger| ledger.completed(checkpoint));
    }

    /// Merges the files of a task where that is due, to be told with the checkpoint after `checkpoint`. Rows that have
    /// expired at the operators' `watermarks` are left out.
    pub fn compact(&mut self, acknowledged: &TaskSnapshot, checkpoint: CheckpointId) -> Result<()> {
        let next = CheckpointId(checkpoint.0 + 1);
        for (operator, part) in &acknowledged.operators {
            let tables: Vec<String> = {
                let mut tables: Vec<String> = part.added.iter().map(|file| file.table.clone()).collect();
                tables.sort();
                tables.dedup();
                tables
            };
            for table in tables {
                self.compact_table(acknowledged.task, operator, &table, &part.watermarks, next)?;
            }
        }
        Ok(())
    }

    fn compact_table(
        &mut self,
        task: TaskId,
        operator: &OperatorId,
        table: &str,
        watermarks: &[(KeyGroupRange, EventTime)],
        next: CheckpointId,
    ) -> Result<()> {
        let owned = self.owned.get(&task).cloned().unwrap_or_default();
        let Some(ledger) = self.ledgers.get(&(task, operator.clone())) else { return Ok(()) };
        let Some((files, older_stay)) = ledger.to_merge(table) else { return Ok(()) };
        let tombstones = if older_stay { Tombstones::Keep } else { Tombstones::Drop };
        let sequence = files.iter().map(|file| file.sequence).max().unwrap_or(self.sequence);
        let merged = merge_files(self.store.as_ref(), &files, &owned, tombstones, watermarks)?;
        let file = merged.map(|encoded| self.put(operator, table, sequence, encoded)).transpose()?;
        if let Some(ledger) = self.ledgers.get_mut(&(task, operator.clone())) {
            ledger.replaced(next, Replacement { merged: files, file }, &owned);
        }
        Ok(())
    }

    fn part(&mut self, operator: &OperatorId, part: Part) -> Result<OperatorSnapshot> {
        match part {
            Part::Source(splits) => Ok(OperatorSnapshot { splits, ..OperatorSnapshot::default() }),
            Part::Sink(prepared) => Ok(OperatorSnapshot {
                committables: prepared.committables,
                writer: prepared.writer,
                ..OperatorSnapshot::default()
            }),
            Part::State(state) => self.state(operator, state),
        }
    }

    fn state(&mut self, operator: &OperatorId, state: Snapshot) -> Result<OperatorSnapshot> {
        let mut added = Vec::new();
        for delta in &state.tables {
            let mut builder = FileBuilder::new(delta);
            builder.add(delta)?;
            if let Some(encoded) = builder.finish()? {
                self.sequence += 1;
                added.push(self.put(operator, &delta.table, self.sequence, encoded)?);
            }
        }
        Ok(OperatorSnapshot {
            added,
            watermarks: state.watermarks,
            counters: state.counters,
            ..OperatorSnapshot::default()
        })
    }

    fn put(&self, operator: &OperatorId, table: &str, sequence: u64, encoded: Encoded) -> Result<StateFile> {
        let path = format!("state/{operator}/{}-{}", self.generation, uuid::Uuid::new_v4());
        match self.store.put_if_absent(&path, &encoded.body) {
            Put::Done => {}
            Put::Exists => return Err(Failure::bug(format!("{path} exists, though its name was just made"))),
            // The name is never used again: a file of unknown fate is an orphan at worst.
            Put::Failed(failure) | Put::Unknown(failure) => return Err(failure),
        }
        Ok(StateFile {
            path,
            table: table.to_owned(),
            sequence,
            bytes: encoded.body.len() as u64,
            rows: encoded.rows,
            checksum: encoded.checksum,
            key_groups: encoded.key_groups,
        })
    }
}

/// Merges files key group by key group, so that memory holds one key group at a time besides the result.
fn merge_files(
    store: &dyn Store,
    files: &[StateFile],
    owned: &[KeyGroupRange],
    tombstones: Tombstones,
    watermarks: &[(KeyGroupRange, EventTime)],
) -> Result<Option<Encoded>> {
    let readers = files.iter().map(|file| FileReader::open(store, file)).collect::<Result<Vec<_>>>()?;
    let groups: std::collections::BTreeSet<KeyGroup> = readers.iter().flat_map(FileReader::key_groups).collect();
    let mut builder: Option<FileBuilder> = None;
    for group in groups.into_iter().filter(|group| file::contains(owned, *group)) {
        let mut deltas: Vec<TableDelta> = Vec::new();
        for (reader, file) in readers.iter().zip(files) {
            deltas.extend(reader.read(|wanted| wanted == group && file::contains(&file.key_groups, wanted))?);
        }
        let reached = watermarks.iter().find(|(range, _)| file::contains(&[*range], group));
        let reached = reached.map_or(EventTime::MIN, |(_, watermark)| *watermark);
        if let Some(merged) = compact::merge(&deltas, tombstones, reached)? {
            builder.get_or_insert_with(|| FileBuilder::new(&merged)).add(&merged)?;
        }
    }
    builder.map_or(Ok(None), FileBuilder::finish)
}
