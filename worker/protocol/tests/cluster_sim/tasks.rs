//! Tasks as exact counters: each owns some splits (split k is key group k), counts their rows in keyed state, and hands
//! the rows to a sink with committables. Between reading and counting a row waits in a channel; some barriers overtake it.

use crate::rng::Rng;
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use weir_protocol::chain::{Manifest, Start, subtract_ranges};
use weir_protocol::leader::Restore;
use weir_protocol::snapshot::{
    Committable, InFlightFile, KeyGroupRange, OperatorSnapshot, SnapshotCost, SplitProgress, StateFile, TaskSnapshot,
};
use weir_protocol::{CheckpointId, EdgeId, EventTime, Generation, KeyGroup, OperatorId, TaskId};

pub(crate) const SPLITS: u16 = 4;
pub(crate) const ROWS: u64 = 12;

pub(crate) type Sums = BTreeMap<u16, u64>;
pub(crate) type Row = (u16, u64);

pub(crate) fn source() -> OperatorId {
    OperatorId("source".to_owned())
}

pub(crate) fn sum() -> OperatorId {
    OperatorId("sum".to_owned())
}

pub(crate) fn sink() -> OperatorId {
    OperatorId("sink".to_owned())
}

/// The channel between reading and counting.
pub(crate) fn channel() -> EdgeId {
    EdgeId("rows".to_owned())
}

/// An operator that only the code of this name has.
pub(crate) fn extra() -> OperatorId {
    OperatorId("extra".to_owned())
}

pub(crate) const EXTRA_CODE: &str = "more";

/// How far the splits have been read.
pub(crate) fn positions_of(manifest: &Manifest) -> BTreeMap<u16, u64> {
    let mut positions: BTreeMap<u16, u64> = (0..SPLITS).map(|split| (split, 0)).collect();
    let state = &manifest.operators[&source()];
    let number = |split: &str| split.parse().expect("splits are numbers");
    positions.extend(state.unfinished.values().map(|at| (number(&at.split), at.position.as_u64().expect("a number"))));
    positions.extend(state.finished.iter().map(|split| (number(split), ROWS)));
    positions
}

/// What a task has handed over and not seen in a completed checkpoint.
#[derive(Debug, Clone)]
struct Pending {
    checkpoint: CheckpointId,
    added: Vec<StateFile>,
    dropped: BTreeMap<String, Vec<KeyGroupRange>>,
    committable: Option<Committable>,
    /// What is written for it: an acknowledgement that repeats a file comes after that file.
    contents: Vec<(String, Sums)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    generation: Generation,
    owned: Vec<u16>,
    positions: BTreeMap<u16, u64>,
    /// Read and not counted yet.
    queue: VecDeque<Row>,
    sums: Sums,
    changed: BTreeSet<u16>,
    written: Vec<Row>,
    pending: Vec<Pending>,
    files: BTreeMap<String, Vec<KeyGroupRange>>,
    last_barrier: CheckpointId,
    stopped: Option<CheckpointId>,
    /// Whether its code has the operator that only one code has.
    extra: bool,
}

/// What a snapshot leaves in the world, before it is acknowledged.
pub(crate) struct Taken {
    pub(crate) snapshot: TaskSnapshot,
    pub(crate) files: Vec<(String, Sums)>,
    pub(crate) staged: Option<(String, Vec<Row>)>,
}

fn one(group: u16) -> KeyGroupRange {
    KeyGroupRange { start: KeyGroup(group), end: KeyGroup(group + 1) }
}

fn holds(ranges: &[KeyGroupRange], group: u16) -> bool {
    ranges.iter().any(|range| (range.start.0..range.end.0).contains(&group))
}

/// What the files of a manifest add up to; an error names what is missing.
pub(crate) fn read_sums(files: &[StateFile], stored: &dyn Fn(&str) -> Option<Sums>) -> Result<Sums, String> {
    let mut sums = Sums::new();
    for file in files {
        let content = stored(&file.path).ok_or_else(|| format!("file {} is needed and gone", file.path))?;
        for (group, sum) in content.into_iter().filter(|(group, _)| holds(&file.key_groups, *group)) {
            sums.insert(group, sum);
        }
    }
    Ok(sums)
}

/// The tasks of a generation, restored. Fails when the state is not exactly what its positions say.
pub(crate) fn deploy(start: &Start, restore: Option<&Restore>, store: &Store) -> Result<Vec<Task>, String> {
    let elsewhere = restore.is_some_and(|restore| restore.location.is_some());
    let stored = |path: &str| if elsewhere { store.of_origin(path) } else { store.files.get(path).cloned() };
    let mut sums = Sums::new();
    let mut positions: BTreeMap<u16, u64> = (0..SPLITS).map(|split| (split, 0)).collect();
    let mut files = BTreeMap::new();
    let mut in_flight = Sums::new();
    if let Some(restore) = restore {
        let operators = &restore.manifest.operators;
        sums = read_sums(&operators[&sum()].files, &stored)?;
        positions = positions_of(&restore.manifest);
        if !elsewhere {
            files.extend(operators[&sum()].files.iter().map(|file| (file.path.clone(), file.key_groups.clone())));
        }
        let known = operators.contains_key(&extra());
        if known && start.terms.code != EXTRA_CODE {
            return Err(format!("revision {} has no place for the state of its other operator", start.terms.revision));
        }
        for file in &restore.manifest.in_flight {
            let content = stored(&file.path).ok_or_else(|| format!("file {} is needed and gone", file.path))?;
            in_flight.extend(content);
        }
    }
    for (split, position) in &positions {
        let counted = sums.get(split).copied().unwrap_or(0);
        let waiting = in_flight.get(split).copied().unwrap_or(0);
        if counted + waiting != *position {
            let found = format!("{counted} rows are counted and {waiting} in flight");
            return Err(format!("split {split} was read to {position} but {found}"));
        }
    }
    let tasks = (0..start.key_groups.parallelism()).map(|subtask| {
        let owned: Vec<u16> =
            (0..SPLITS).filter(|group| start.key_groups.owner(KeyGroup(*group)) == Some(subtask)).collect();
        let mine = |group: &u16| owned.contains(group);
        let waiting = in_flight.iter().filter(|(group, _)| mine(group));
        let rows =
            waiting.flat_map(|(split, rows)| (positions[split] - rows..positions[split]).map(|row| (*split, row)));
        Task {
            id: TaskId { chain: 0, subtask },
            generation: start.generation,
            positions: positions.iter().filter(|(split, _)| mine(split)).map(|(split, at)| (*split, *at)).collect(),
            queue: rows.collect(),
            sums: sums.iter().filter(|(group, _)| mine(group)).map(|(group, sum)| (*group, *sum)).collect(),
            // What lies elsewhere is written as new.
            changed: sums.keys().copied().filter(|group| elsewhere && mine(group)).collect(),
            owned: owned.clone(),
            written: Vec::new(),
            pending: Vec::new(),
            files: files.clone(),
            last_barrier: CheckpointId(0),
            stopped: None,
            extra: start.terms.code == EXTRA_CODE,
        }
    });
    Ok(tasks.collect())
}

impl Task {
    /// Reads some rows; true when its input has ended.
    pub(crate) fn run(&mut self, rng: &mut Rng) -> bool {
        if self.stopped.is_none() {
            for (split, position) in &mut self.positions {
                for _ in 0..rng.within(0, 2).min(ROWS - *position) {
                    self.queue.push_back((*split, *position));
                    *position += 1;
                }
            }
            self.count(rng.within(0, self.queue.len() as u64));
        }
        self.positions.values().all(|position| *position == ROWS)
    }

    fn count(&mut self, rows: u64) {
        for (split, row) in self.queue.drain(..rows as usize) {
            self.written.push((split, row));
            *self.sums.entry(split).or_default() += 1;
            self.changed.insert(split);
        }
    }

    /// Takes a snapshot at a barrier; `None` for a barrier that comes too late or twice.
    pub(crate) fn barrier(&mut self, checkpoint: CheckpointId, stop: bool, rng: &mut Rng) -> Option<Taken> {
        if checkpoint <= self.last_barrier {
            return None;
        }
        self.last_barrier = checkpoint;
        if stop {
            self.stopped = Some(checkpoint);
        }
        let name = format!("{}-{}x{checkpoint}", self.generation, self.id.subtask);
        if stop || rng.chance(50) {
            self.count(self.queue.len() as u64);
        }
        let compact = rng.chance(30);
        let groups: Vec<u16> = match compact {
            true => self.sums.keys().copied().collect(),
            false => self.changed.iter().copied().collect(),
        };
        self.changed.clear();
        let mut pending = Pending {
            checkpoint,
            added: Vec::new(),
            dropped: BTreeMap::new(),
            committable: None,
            contents: Vec::new(),
        };
        let file = (!groups.is_empty()).then(|| self.write(&name, &groups, compact, &mut pending));
        let overtaken = self.overtaken(&name);
        let in_flight = overtaken.as_ref().map(|(path, rows)| self.in_flight(path, rows));
        let staged = (!self.written.is_empty()).then(|| {
            pending.committable = Some(Committable { id: name.clone(), payload: serde_json::Value::Null });
            (name, std::mem::take(&mut self.written))
        });
        pending.contents.extend(file);
        self.pending.push(pending);
        let written = self.pending.iter().flat_map(|pending| pending.contents.iter().cloned());
        let files = written.chain(overtaken).collect();
        Some(Taken { snapshot: TaskSnapshot { in_flight, ..self.snapshot() }, files, staged })
    }

    fn overtaken(&self, name: &str) -> Option<(String, Sums)> {
        let mut rows = Sums::new();
        self.queue.iter().for_each(|(split, _)| *rows.entry(*split).or_default() += 1);
        (!rows.is_empty()).then(|| (format!("state/in-flight/{name}"), rows))
    }

    fn in_flight(&self, path: &str, rows: &Sums) -> InFlightFile {
        InFlightFile {
            path: path.to_owned(),
            edges: [channel()].into(),
            subtask: self.id.subtask,
            key_groups: self.owned.iter().map(|group| one(*group)).collect(),
            bytes: 1,
            rows: rows.values().sum(),
            checksum: 0,
        }
    }

    fn write(&mut self, name: &str, groups: &[u16], compact: bool, pending: &mut Pending) -> (String, Sums) {
        let path = format!("state/sum/{name}");
        let key_groups: Vec<KeyGroupRange> = groups.iter().map(|group| one(*group)).collect();
        if compact {
            let owned: Vec<KeyGroupRange> = self.owned.iter().map(|group| one(*group)).collect();
            pending.dropped = self.files.keys().map(|path| (path.clone(), owned.clone())).collect();
            self.files.values_mut().for_each(|ranges| *ranges = subtract_ranges(ranges, &owned));
            self.files.retain(|_, ranges| !ranges.is_empty());
        }
        self.files.insert(path.clone(), key_groups.clone());
        pending.added.push(StateFile {
            path: path.clone(),
            table: "sums".to_owned(),
            sequence: self.generation.0 * 10_000 + pending.checkpoint.0,
            bytes: 1,
            rows: groups.len() as u64,
            checksum: 0,
            key_groups,
        });
        (path, groups.iter().map(|group| (*group, self.sums[group])).collect())
    }

    /// All that no completed checkpoint contains, as far as the task knows.
    fn snapshot(&self) -> TaskSnapshot {
        let splits = self.positions.iter().map(|(split, position)| SplitProgress {
            split: split.to_string(),
            position: (*position).into(),
            watermark: EventTime::MIN,
            finished: *position == ROWS,
        });
        let read = OperatorSnapshot { splits: splits.collect(), ..OperatorSnapshot::default() };
        let mut counted = OperatorSnapshot::default();
        let mut wrote = OperatorSnapshot::default();
        for pending in &self.pending {
            counted.added.extend(pending.added.iter().cloned());
            for (path, ranges) in &pending.dropped {
                counted.dropped.entry(path.clone()).or_default().extend(ranges);
            }
            wrote.committables.extend(pending.committable.clone());
        }
        let mut operators: BTreeMap<_, _> = [(source(), read), (sum(), counted), (sink(), wrote)].into();
        if self.extra {
            operators.insert(extra(), OperatorSnapshot::default());
        }
        TaskSnapshot { task: self.id, operators, in_flight: None, cost: SnapshotCost::default() }
    }

    pub(crate) fn completed(&mut self, checkpoint: CheckpointId) {
        self.pending.retain(|pending| pending.checkpoint > checkpoint);
    }

    pub(crate) fn aborted(&mut self, checkpoint: CheckpointId) {
        // The barrier may come after the news that nobody needs it.
        self.last_barrier = self.last_barrier.max(checkpoint);
        if self.stopped == Some(checkpoint) {
            self.stopped = None;
        }
    }
}
