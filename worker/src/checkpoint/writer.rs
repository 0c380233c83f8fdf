//! Writes the snapshots of tasks beside them: encodes, compresses, stores, and says what the acknowledgement is.
//!
//! One writer serves all tasks of a process on a thread of its own. Where it is due that files are merged, it says so;
//! that is done beside it, so that no snapshot waits, and the acknowledgement after it tells of it.

use super::ledger::{Ledger, Replacement};
use super::merge::{Merge, Merged, merge_files};
use super::store::{Put, Store};
use crate::connector::Prepared;
use crate::dataflow::chain::{Part, Taken};
use crate::dataflow::in_flight::{InFlight, Stretch};
use crate::dataflow::task::TakenSnapshot;
use crate::failure::{Failure, Result};
use crate::operator::snapshot::{Snapshot, TableDelta};
use crate::state::compact::{self, Tombstones};
use crate::state::file::{Encoded, FileBuilder};
use crate::state::in_flight;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use weir_protocol::snapshot::{InFlightFile, KeyGroupRange, OperatorSnapshot, SnapshotCost, StateFile, TaskSnapshot};
use weir_protocol::{CheckpointId, Generation, OperatorId, TaskId};

/// Writes snapshots of one generation.
pub struct SnapshotWriter {
    store: Arc<dyn Store>,
    generation: Generation,
    ledgers: BTreeMap<(TaskId, OperatorId), Ledger>,
    owned: BTreeMap<TaskId, Vec<KeyGroupRange>>,
    /// Changes that could not be stored: they go with the next snapshot, merged with its own.
    unwritten: BTreeMap<(TaskId, OperatorId), Snapshot>,
    /// What a task begins with that lies in another place: its first snapshot writes it down here.
    inherited: BTreeMap<(TaskId, OperatorId), Inherited>,
    /// Tables whose files are being merged.
    merging: BTreeSet<((TaskId, OperatorId), String)>,
    /// Above the sequence numbers of all files that the generation goes on from.
    sequence: u64,
}

/// State of another place, by table.
struct Inherited {
    store: Arc<dyn Store>,
    tables: BTreeMap<String, Vec<StateFile>>,
}

impl SnapshotWriter {
    /// A writer for a generation whose files are numbered from `sequence`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, generation: Generation, sequence: u64) -> Self {
        Self {
            store,
            generation,
            ledgers: BTreeMap::new(),
            owned: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            inherited: BTreeMap::new(),
            merging: BTreeSet::new(),
            sequence,
        }
    }

    /// A task begins with these files of an operator and owns these key groups.
    pub fn begin(&mut self, task: TaskId, operator: OperatorId, files: Vec<StateFile>, owned: Vec<KeyGroupRange>) {
        self.ledgers.insert((task, operator), Ledger::new(files));
        self.owned.insert(task, owned);
    }

    /// A task begins with these files of another place's store.
    pub fn inherit(
        &mut self,
        task: TaskId,
        operator: OperatorId,
        files: Vec<StateFile>,
        owned: Vec<KeyGroupRange>,
        store: Arc<dyn Store>,
    ) {
        let mut tables: BTreeMap<String, Vec<StateFile>> = BTreeMap::new();
        for file in files {
            tables.entry(file.table.clone()).or_default().push(file);
        }
        self.inherited.insert((task, operator.clone()), Inherited { store, tables });
        self.begin(task, operator, Vec::new(), owned);
    }

    /// Writes a task's snapshot; the answer is its acknowledgement. A failure loses nothing: what was not written is
    /// written with the task's next snapshot, and what was is acknowledged with it.
    pub fn write(&mut self, snapshot: TakenSnapshot) -> Result<TaskSnapshot> {
        let began = Instant::now();
        let mut operators = BTreeMap::new();
        let mut bytes = 0;
        let mut failed = None;
        for Taken { operator, part } in snapshot.taken {
            let (part, outcome) = self.part(snapshot.task, &operator, part);
            bytes += part.added.iter().map(|file| file.bytes).sum::<u64>();
            let ledger = self.ledgers.entry((snapshot.task, operator.clone())).or_default();
            operators.insert(operator, ledger.take(snapshot.checkpoint, part));
            failed = failed.or(outcome.err());
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        let in_flight = match snapshot.in_flight {
            InFlight::Stretches(stretches) => self.in_flight(snapshot.task, &stretches)?,
            InFlight::Missing(why) => return Err(Failure::bug(why)),
        };
        let in_flight_bytes = in_flight.as_ref().map_or(0, |file| file.bytes);
        let cost = SnapshotCost {
            align_us: snapshot.align.as_micros() as u64,
            sync_us: snapshot.sync.as_micros() as u64,
            upload_us: began.elapsed().as_micros() as u64,
            bytes: bytes + in_flight_bytes,
            in_flight_bytes,
        };
        Ok(TaskSnapshot { task: snapshot.task, operators, in_flight, cost })
    }

    /// What the barrier has overtaken belongs to its checkpoint alone: nothing of it is repeated by later ones.
    fn in_flight(&self, task: TaskId, stretches: &[Stretch]) -> Result<Option<InFlightFile>> {
        if stretches.is_empty() {
            return Ok(None);
        }
        let encoded = in_flight::encode(stretches)?;
        let path = format!("state/in-flight/{}-{}", self.generation, uuid::Uuid::new_v4());
        put_new(self.store.as_ref(), &path, &encoded.body)?;
        Ok(Some(InFlightFile {
            path,
            edges: encoded.edges,
            subtask: task.subtask,
            key_groups: self.owned.get(&task).cloned().unwrap_or_default(),
            bytes: encoded.body.len() as u64,
            rows: encoded.rows,
            checksum: encoded.checksum,
        }))
    }

    /// Memory of the changes that could not be stored and wait for the next snapshot.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.unwritten.values().map(Snapshot::bytes).sum()
    }

    /// The checkpoint has completed.
    pub fn completed(&mut self, checkpoint: CheckpointId) {
        self.ledgers.values_mut().for_each(|ledger| ledger.completed(checkpoint));
    }

    /// The merges of a task's files that are due. Rows that have expired at the operators' watermarks are left out.
    #[must_use]
    pub fn due(&mut self, acknowledged: &TaskSnapshot) -> Vec<Merge> {
        let mut due = Vec::new();
        for (operator, part) in &acknowledged.operators {
            let tables: BTreeSet<&String> = part.added.iter().map(|file| &file.table).collect();
            for table in tables {
                let key = (acknowledged.task, operator.clone());
                let files = self.ledgers.get(&key).and_then(|ledger| ledger.to_merge(table));
                let Some(due_files) = files.filter(|_| self.merging.insert((key, table.clone()))) else {
                    continue;
                };
                due.push(Merge {
                    store: Arc::clone(&self.store),
                    generation: self.generation,
                    task: acknowledged.task,
                    operator: operator.clone(),
                    table: table.clone(),
                    owned: self.owned.get(&acknowledged.task).cloned().unwrap_or_default(),
                    watermarks: part.watermarks.clone(),
                    files: due_files.files,
                    older_stay: due_files.older_stay,
                    dead: due_files.dead,
                });
            }
        }
        due
    }

    /// A merge has ended: the next acknowledgement tells what has become of the files. One that failed is tried again.
    pub fn merged(&mut self, merge: Merge, outcome: Result<Merged>) {
        let key = (merge.task, merge.operator.clone());
        self.merging.remove(&(key.clone(), merge.table.clone()));
        match (outcome, self.ledgers.get_mut(&key)) {
            (Ok(Merged { file, dead }), Some(ledger)) => {
                ledger.replaced(Replacement { merged: merge.files, file, dead }, &merge.owned);
            }
            (Ok(_), None) => {}
            (Err(failure), _) => {
                let (task, error) = (merge.task, failure.chain());
                tracing::warn!(%task, error, "files of state could not be merged; they are tried again");
            }
        }
    }

    /// What the acknowledgement says of a part, and whether all of it could be written.
    fn part(&mut self, task: TaskId, operator: &OperatorId, part: Part) -> (OperatorSnapshot, Result<()>) {
        match part {
            Part::Source(splits) => (OperatorSnapshot { splits, ..OperatorSnapshot::default() }, Ok(())),
            Part::Sink(prepared) => {
                let Prepared { committables, writer } = prepared;
                (OperatorSnapshot { committables, writer, ..OperatorSnapshot::default() }, Ok(()))
            }
            Part::State(state) => self.state(task, operator, state),
        }
    }

    fn state(&mut self, task: TaskId, operator: &OperatorId, mut state: Snapshot) -> (OperatorSnapshot, Result<()>) {
        let key = (task, operator.clone());
        if let Some(earlier) = self.unwritten.remove(&key) {
            match fold(earlier.tables, state.tables) {
                Ok(tables) => state.tables = tables,
                Err(failure) => return (OperatorSnapshot::default(), Err(failure)),
            }
        }
        let mut told = OperatorSnapshot {
            watermarks: state.watermarks.clone(),
            counters: state.counters.clone(),
            ..OperatorSnapshot::default()
        };
        if let Err(failure) = self.take_over(&key, &mut told) {
            self.unwritten.insert(key, state);
            return (told, Err(failure));
        }
        while let Some(delta) = state.tables.last() {
            match self.table(operator, delta) {
                Ok(file) => {
                    if let Some((file, dead)) = file.as_ref().zip(delta.dead) {
                        self.ledgers.entry(key.clone()).or_default().knows(file, dead as u64);
                    }
                    told.added.extend(file);
                    state.tables.pop();
                }
                Err(failure) => {
                    self.unwritten.insert(key, state);
                    return (told, Err(failure));
                }
            }
        }
        (told, Ok(()))
    }

    /// Copies what the task inherited, table by table. Its own changes come later and so count more.
    fn take_over(&mut self, key: &(TaskId, OperatorId), told: &mut OperatorSnapshot) -> Result<()> {
        let (task, operator) = key;
        let owned = self.owned.get(task).cloned().unwrap_or_default();
        let Some(mut inherited) = self.inherited.remove(key) else { return Ok(()) };
        let mut copy = |table: &str, files: &[StateFile]| {
            let merged = merge_files(inherited.store.as_ref(), files, &owned, Tombstones::Drop, &told.watermarks)?;
            let Some(encoded) = merged else { return Ok(()) };
            self.sequence += 1;
            told.added.push(self.put(operator, table, self.sequence, encoded)?);
            Ok(())
        };
        while let Some((table, files)) = inherited.tables.pop_first() {
            if let Err(failure) = copy(&table, &files) {
                inherited.tables.insert(table, files);
                self.inherited.insert(key.clone(), inherited);
                return Err(failure);
            }
        }
        Ok(())
    }

    fn table(&mut self, operator: &OperatorId, delta: &TableDelta) -> Result<Option<StateFile>> {
        let mut builder = FileBuilder::new(delta)?;
        builder.add(delta)?;
        let Some(encoded) = builder.finish()? else { return Ok(None) };
        self.sequence += 1;
        self.put(operator, &delta.table, self.sequence, encoded).map(Some)
    }

    fn put(&self, operator: &OperatorId, table: &str, sequence: u64, encoded: Encoded) -> Result<StateFile> {
        put_state(self.store.as_ref(), (operator, self.generation), (table, sequence), encoded)
    }
}

fn put_new(store: &dyn Store, path: &str, body: &[u8]) -> Result<()> {
    match store.put_if_absent(path, body) {
        Put::Done => Ok(()),
        Put::Exists => Err(Failure::bug(format!("{path} exists, though its name was just made"))),
        // The name is never used again: a file of unknown fate is an orphan at worst.
        Put::Failed(failure) | Put::Unknown(failure) => Err(failure),
    }
}

pub(super) fn put_state(
    store: &dyn Store,
    (operator, generation): (&OperatorId, Generation),
    (table, sequence): (&str, u64),
    encoded: Encoded,
) -> Result<StateFile> {
    let path = format!("state/{operator}/{generation}-{}", uuid::Uuid::new_v4());
    put_new(store, &path, &encoded.body)?;
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

/// Later changes over earlier ones, table by table.
fn fold(earlier: Vec<TableDelta>, later: Vec<TableDelta>) -> Result<Vec<TableDelta>> {
    let mut tables: BTreeMap<String, Vec<TableDelta>> = BTreeMap::new();
    for delta in earlier.into_iter().chain(later) {
        tables.entry(delta.table.clone()).or_default().push(delta);
    }
    let folded = tables.into_values().map(|deltas| compact::fold(&deltas));
    Ok(folded.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::state::file;
    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use parking_lot::Mutex;
    use std::ops::Range;
    use std::time::Duration;
    use weir_protocol::{EventTime, KeyGroup};

    /// Objects in memory; takes none while it is full.
    #[derive(Default)]
    struct Memory {
        objects: Mutex<BTreeMap<String, Vec<u8>>>,
        full: Mutex<bool>,
    }

    impl Store for Memory {
        fn put_if_absent(&self, key: &str, body: &[u8]) -> Put {
            if *self.full.lock() {
                return Put::Failed(Failure::transient("no space"));
            }
            self.objects.lock().insert(key.to_owned(), body.to_vec());
            Put::Done
        }

        fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
            Ok(self.objects.lock().get(key).cloned())
        }

        fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
            Ok(self.objects.lock()[key][range.start as usize..range.end as usize].to_vec())
        }

        fn list(&self, _prefix: &str) -> Result<Vec<String>> {
            Ok(Vec::new())
        }

        fn delete(&self, _keys: &[String]) -> Result<()> {
            Ok(())
        }
    }

    const TASK: TaskId = TaskId { chain: 0, subtask: 0 };

    /// A snapshot of a state that now has `key = value` and of a sink that prepared a file.
    fn snapshot(checkpoint: u64, rows: &[(i64, i64)]) -> TakenSnapshot {
        let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let keys = column(rows.iter().map(|(key, _)| *key).collect());
        let values = column(rows.iter().map(|(_, value)| *value).collect());
        let delta = TableDelta {
            table: "t".into(),
            rows: RecordBatch::try_from_iter([("k", keys), ("v", values)]).unwrap(),
            key_columns: 1,
            expires: None,
            deleted: None,
            key_groups: vec![(KeyGroup(1), rows.len())],
            dead: None,
        };
        let state = Part::State(Snapshot { tables: vec![delta], ..Snapshot::default() });
        let id = format!("file-{checkpoint}");
        let committable = weir_protocol::snapshot::Committable { id, payload: serde_json::Value::Null };
        let sink = Part::Sink(Prepared { committables: vec![committable], writer: Vec::new() });
        let taken = |name: &str, part| Taken { operator: OperatorId(name.into()), part };
        TakenSnapshot {
            task: TASK,
            checkpoint: CheckpointId(checkpoint),
            taken: vec![taken("state", state), taken("sink", sink)],
            align: Duration::ZERO,
            sync: Duration::ZERO,
            in_flight: InFlight::default(),
        }
    }

    #[test]
    fn what_could_not_be_stored_goes_with_the_next_snapshot() {
        let store = Arc::new(Memory::default());
        let mut writer = SnapshotWriter::new(Arc::clone(&store) as _, Generation(1), 0);
        *store.full.lock() = true;
        assert!(writer.write(snapshot(1, &[(1, 10), (2, 20)])).is_err());
        assert!(writer.write(snapshot(2, &[(2, 21), (3, 30)])).is_err());
        assert!(writer.waiting_bytes() > 0, "what waits takes memory");
        *store.full.lock() = false;
        let told = writer.write(snapshot(3, &[(4, 40)])).unwrap();
        assert_eq!(writer.waiting_bytes(), 0);
        let ids: Vec<&str> =
            told.operators[&OperatorId("sink".into())].committables.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["file-1", "file-2", "file-3"]);
        let files = &told.operators[&OperatorId("state".into())].added;
        let all = [KeyGroupRange { start: KeyGroup(0), end: KeyGroup(9) }];
        let restored = file::restore(store.as_ref(), files, &all).unwrap();
        let pairs = restored.iter().flat_map(|delta| {
            let column = |place: usize| delta.rows.column(place).as_primitive::<Int64Type>().values().to_vec();
            column(0).into_iter().zip(column(1))
        });
        assert_eq!(pairs.collect::<BTreeMap<_, _>>(), BTreeMap::from([(1, 10), (2, 21), (3, 30), (4, 40)]));
    }

    /// The keys and values in files, as a restore has them.
    fn pairs(store: &dyn Store, files: &[StateFile]) -> BTreeMap<i64, i64> {
        let restored = file::restore(store, files, &ALL).unwrap();
        let pairs = restored.iter().flat_map(|delta| {
            let column = |place: usize| delta.rows.column(place).as_primitive::<Int64Type>().values().to_vec();
            column(0).into_iter().zip(column(1))
        });
        pairs.collect()
    }

    const ALL: [KeyGroupRange; 1] = [KeyGroupRange { start: KeyGroup(0), end: KeyGroup(9) }];

    #[test]
    fn inherited_state_is_copied_with_the_first_snapshot_that_can_be_stored() {
        let (elsewhere, store) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
        let state = OperatorId("state".into());
        let mut other = SnapshotWriter::new(Arc::clone(&elsewhere) as _, Generation(7), 0);
        let mut files = Vec::new();
        for (checkpoint, rows) in [(1, [(1, 10), (2, 20)]), (2, [(2, 21), (3, 30)])] {
            let told = other.write(snapshot(checkpoint, &rows)).unwrap();
            files = told.operators[&state].added.clone();
        }
        let mut writer = SnapshotWriter::new(Arc::clone(&store) as _, Generation(1), 2);
        writer.inherit(TASK, state.clone(), files, ALL.to_vec(), elsewhere);
        *store.full.lock() = true;
        assert!(writer.write(snapshot(1, &[(3, 31)])).is_err());
        *store.full.lock() = false;
        let told = writer.write(snapshot(2, &[(4, 40)])).unwrap();
        let added = &told.operators[&state].added;
        assert_eq!(pairs(store.as_ref(), added), BTreeMap::from([(1, 10), (2, 21), (3, 31), (4, 40)]));
        // It is handed over once; until a checkpoint completes it is told again, not copied again.
        let again = writer.write(snapshot(3, &[(5, 50)])).unwrap();
        assert_eq!(again.operators[&state].added.len(), added.len() + 1);
        writer.completed(CheckpointId(3));
        let later = writer.write(snapshot(4, &[(6, 60)])).unwrap();
        assert_eq!(pairs(store.as_ref(), &later.operators[&state].added), BTreeMap::from([(6, 60)]));
    }

    /// Completes a checkpoint and runs the merges that are due; `files` are those of its manifest then, in order.
    fn complete(writer: &mut SnapshotWriter, taken: TakenSnapshot, files: &mut Vec<StateFile>) {
        let checkpoint = taken.checkpoint;
        let told = writer.write(taken).unwrap();
        writer.completed(checkpoint);
        for merge in writer.due(&told) {
            let outcome = merge.run();
            writer.merged(merge, outcome);
        }
        let part = &told.operators[&OperatorId("state".into())];
        files.retain(|file| !part.dropped.contains_key(&file.path));
        files.extend(part.added.iter().cloned());
        files.sort_by_key(|file| file.sequence);
    }

    /// What is in the files of a table after so many checkpoints, of which each adds 4,000 rows from `first` on and knows
    /// that so many rows are of no use since then: the numbers of files and rows.
    fn check_files(checkpoints: u64, first: impl Fn(u64) -> i64, dead: Option<usize>, expected: (usize, u64)) {
        let store = Arc::new(Memory::default());
        let mut writer = SnapshotWriter::new(Arc::clone(&store) as _, Generation(1), 0);
        let state = OperatorId("state".into());
        writer.begin(TASK, state.clone(), Vec::new(), ALL.to_vec());
        let mut files: Vec<StateFile> = Vec::new();
        let mut all = BTreeMap::new();
        for checkpoint in 1..=checkpoints {
            let rows = (0..4_000).map(|n| first(checkpoint) + n);
            let rows: Vec<(i64, i64)> = rows
                .map(|key| (key, (key * 4_000 + checkpoint as i64).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64)))
                .collect();
            all.extend(rows.iter().copied());
            let mut taken = snapshot(checkpoint, &rows);
            if let Part::State(snapshot) = &mut taken.taken[0].part {
                snapshot.tables[0].dead = dead;
            }
            complete(&mut writer, taken, &mut files);
        }
        assert_eq!(pairs(store.as_ref(), &files), all);
        assert_eq!((files.len(), files.iter().map(|file| file.rows).sum()), expected);
    }

    #[test]
    fn files_become_one_without_the_rows_that_are_of_no_use() {
        let other_keys = |checkpoint: u64| checkpoint as i64 * 4_000;
        check_files(17, other_keys, Some(0), (2, 17 * 4_000));
        check_files(17, other_keys, None, (2, 17 * 4_000));
        // One key in two is another one.
        let half = |checkpoint: u64| checkpoint as i64 * 2_000;
        check_files(17, half, Some(2_000), (2, 16 * 2_000 + 2_000 + 4_000));
        check_files(17, half, None, (2, 16 * 2_000 + 2_000 + 4_000));
        // Not worth a look: nothing is left out.
        let most = |checkpoint: u64| checkpoint as i64 * 3_200;
        check_files(17, most, Some(800), (2, 17 * 4_000));
        // What was joined is joined again, with fifteen new ones.
        check_files(33, other_keys, Some(0), (3, 33 * 4_000));
    }

    #[test]
    fn merged_files_leave_out_what_event_time_has_passed() {
        let store = Arc::new(Memory::default());
        let mut writer = SnapshotWriter::new(Arc::clone(&store) as _, Generation(1), 0);
        let state = OperatorId("state".into());
        writer.begin(TASK, state.clone(), Vec::new(), ALL.to_vec());
        let mut added = Vec::new();
        // Each row lives until its value; event time is at 55 in the end.
        for checkpoint in 1..=17_u64 {
            let end = i64::try_from(checkpoint).unwrap() * 10;
            let mut taken = snapshot(checkpoint, &[(end, end)]);
            if let Part::State(snapshot) = &mut taken.taken[0].part {
                snapshot.tables[0].expires = Some(1);
                snapshot.watermarks = vec![(ALL[0], EventTime(55))];
            }
            complete(&mut writer, taken, &mut added);
        }
        let alive = (6..=17).map(|n| (n * 10, n * 10));
        assert_eq!(pairs(store.as_ref(), &added), alive.collect());
        assert!(added.len() < 4, "files are merged: {}", added.len());
    }
}
