//! What a task has handed over since the last completed checkpoint.
//!
//! An aborted checkpoint loses nothing: each acknowledgement repeats all that no completed checkpoint contains. The
//! ledger also knows which files a task's state consists of, for compaction.

use std::collections::BTreeMap;
use weir_protocol::CheckpointId;
use weir_protocol::snapshot::{KeyGroupRange, OperatorSnapshot, StateFile};

/// The ledger of one operator of one task.
#[derive(Debug, Default)]
pub struct Ledger {
    pending: BTreeMap<CheckpointId, OperatorSnapshot>,
    /// The newest checkpoint that the task has taken part in.
    latest: CheckpointId,
    /// The files with rows of the task's key groups, in the order in which they are to be applied.
    files: Vec<StateFile>,
    /// By file, how many rows are of no use since it is there, at most. Absent where nobody knows.
    dead: BTreeMap<String, u64>,
}

/// Files of a table that should become one.
#[derive(Debug, Clone, PartialEq)]
pub struct DueFiles {
    /// In the order in which they are to be applied.
    pub files: Vec<StateFile>,
    /// Whether the table has older files, which stay.
    pub older_stay: bool,
    /// How many rows, of these files and older ones, are of no use since they are there, at most; absent where nobody knows.
    pub dead: Option<u64>,
}

/// A merge of files into one.
#[derive(Debug, Clone, PartialEq)]
pub struct Replacement {
    /// The files that were merged.
    pub merged: Vec<StateFile>,
    /// The new file; absent when no row was left.
    pub file: Option<StateFile>,
    /// How many rows are of no use since it is there, at most; absent where nobody knows.
    pub dead: Option<u64>,
}

impl Ledger {
    /// The ledger of an operator that goes on from `files`.
    #[must_use]
    pub fn new(files: Vec<StateFile>) -> Self {
        Self { files, ..Self::default() }
    }

    /// Notes how many rows are of no use since a file is there, at most.
    pub fn knows(&mut self, file: &StateFile, dead: u64) {
        self.dead.insert(file.path.clone(), dead);
    }

    /// The task's part of a checkpoint, with what earlier ones left pending.
    pub fn take(&mut self, checkpoint: CheckpointId, part: OperatorSnapshot) -> OperatorSnapshot {
        self.latest = self.latest.max(checkpoint);
        self.files.extend(part.added.iter().cloned());
        merge_into(self.pending.entry(checkpoint).or_default(), part);
        let mut all = OperatorSnapshot::default();
        for earlier in self.pending.range(..=checkpoint).map(|(_, part)| part.clone()) {
            merge_into(&mut all, earlier);
        }
        all
    }

    /// The checkpoint has completed: what it contains is not repeated again.
    pub fn completed(&mut self, checkpoint: CheckpointId) {
        self.pending.retain(|pending, _| *pending > checkpoint);
    }

    /// The files of a table that should be merged: the newest ones, as long as none is larger than all newer ones together,
    /// give or take the newest; once they are many enough. So each row is written again about as often as the state has
    /// doubled, and the number of files grows with the logarithm of the state.
    #[must_use]
    pub fn to_merge(&self, table: &str) -> Option<DueFiles> {
        let files: Vec<&StateFile> = self.files.iter().filter(|file| file.table == table).collect();
        let newest = files.last()?.bytes;
        let mut newer = 0;
        let alike = files.iter().rev().take_while(|file| {
            let take = file.bytes <= newer + newest;
            newer += file.bytes;
            take
        });
        let count = alike.count();
        if count < MERGED_TOGETHER {
            return None;
        }
        let (older, due) = files.split_at(files.len() - count);
        Some(DueFiles {
            files: due.iter().map(|file| (*file).clone()).collect(),
            older_stay: !older.is_empty(),
            dead: due.iter().map(|file| self.dead.get(&file.path).copied()).sum(),
        })
    }

    /// Notes that files were merged: the next acknowledgement says so.
    pub fn replaced(&mut self, replacement: Replacement, owned: &[KeyGroupRange]) {
        let gone: Vec<&String> = replacement.merged.iter().map(|file| &file.path).collect();
        let place = self.files.iter().position(|file| gone.contains(&&file.path)).unwrap_or(self.files.len());
        self.files.retain(|file| !gone.contains(&&file.path));
        // Told with the next one, whatever its number.
        let part = self.pending.entry(CheckpointId(self.latest.0 + 1)).or_default();
        for file in &replacement.merged {
            part.dropped.insert(file.path.clone(), owned.to_vec());
            self.dead.remove(&file.path);
        }
        if let Some(file) = replacement.file {
            self.dead.extend(replacement.dead.map(|dead| (file.path.clone(), dead)));
            part.added.push(file.clone());
            self.files.insert(place.min(self.files.len()), file);
        }
    }
}

/// At least so many files are merged. More of them would have a restore read more files, fewer have rows written again more
/// often.
const MERGED_TOGETHER: usize = 16;

fn merge_into(all: &mut OperatorSnapshot, part: OperatorSnapshot) {
    all.added.extend(part.added);
    all.dropped.extend(part.dropped);
    all.committables.extend(part.committables);
    let finished: Vec<_> = all.splits.drain(..).filter(|split| split.finished).collect();
    all.splits = finished;
    all.splits.extend(part.splits);
    all.watermarks = part.watermarks;
    all.writer = part.writer;
    all.counters = part.counters;
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::EventTime;
    use weir_protocol::snapshot::{Committable, SplitProgress};

    fn file(path: &str, bytes: u64) -> StateFile {
        StateFile {
            path: path.into(),
            table: "t".into(),
            sequence: 0,
            bytes,
            rows: 1,
            checksum: 0,
            key_groups: Vec::new(),
        }
    }

    fn part(name: &str) -> OperatorSnapshot {
        let committable = Committable { id: name.into(), payload: serde_json::Value::Null };
        let split =
            |split: String, finished| SplitProgress { split, position: 0.into(), watermark: EventTime::MIN, finished };
        OperatorSnapshot {
            added: vec![file(name, 100)],
            committables: vec![committable],
            splits: vec![split(format!("ended-{name}"), true), split("in-hand".into(), false)],
            ..OperatorSnapshot::default()
        }
    }

    fn shown(snapshot: &OperatorSnapshot) -> String {
        let files = snapshot.added.iter().map(|file| file.path.clone());
        let splits = snapshot.splits.iter().map(|split| split.split.clone());
        files.chain(splits).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_no_completed_checkpoint_contains_is_repeated() {
        let mut ledger = Ledger::default();
        assert_eq!(shown(&ledger.take(CheckpointId(1), part("a"))), "a ended-a in-hand");
        assert_eq!(shown(&ledger.take(CheckpointId(2), part("b"))), "a b ended-a ended-b in-hand");
        ledger.completed(CheckpointId(2));
        assert_eq!(shown(&ledger.take(CheckpointId(3), part("c"))), "c ended-c in-hand");
        ledger.completed(CheckpointId(2));
        assert_eq!(shown(&ledger.take(CheckpointId(4), part("d"))), "c d ended-c ended-d in-hand");
    }

    #[test]
    fn a_merge_is_told_with_the_next_checkpoint_and_again_until_one_completes() {
        let mut ledger = Ledger::new((0..16).map(|n| file(&format!("f{n}"), 10)).collect());
        let due = ledger.to_merge("t").expect("so many files are enough");
        assert!(!due.older_stay && due.files.len() == 16);
        ledger.take(CheckpointId(4), OperatorSnapshot::default());
        ledger.replaced(Replacement { merged: due.files, file: Some(file("m", 160)), dead: None }, &[]);
        let told = ledger.take(CheckpointId(5), OperatorSnapshot::default());
        assert_eq!((told.dropped.len(), shown(&told).as_str()), (16, "m"));
        assert_eq!(ledger.take(CheckpointId(6), OperatorSnapshot::default()).dropped.len(), 16);
        ledger.completed(CheckpointId(6));
        assert!(ledger.take(CheckpointId(7), OperatorSnapshot::default()).dropped.is_empty());
    }

    #[test]
    fn a_large_old_file_is_left_alone() {
        let mut files = vec![file("base", 10_000)];
        files.extend((0..15).map(|n| file(&format!("f{n}"), 10)));
        assert_eq!(Ledger::new(files.clone()).to_merge("t"), None);
        files.push(file("f15", 10));
        let due = Ledger::new(files).to_merge("t").expect("so many files are enough");
        assert!(due.older_stay && due.files.len() == 16);
    }

    /// So many checkpoints, each of which adds what `size` says and changes nothing.
    fn check_growth(checkpoints: u64, size: impl Fn(u64) -> u64, most_files: usize) {
        let mut ledger = Ledger::default();
        let (mut added, mut again, mut files) = (0, 0, 0);
        for n in 0..checkpoints {
            let new = file(&format!("f{n}"), size(n));
            added += new.bytes;
            ledger.take(CheckpointId(n), OperatorSnapshot { added: vec![new], ..OperatorSnapshot::default() });
            if let Some(due) = ledger.to_merge("t") {
                let bytes = due.files.iter().map(|file| file.bytes).sum();
                again += bytes;
                let file = Some(file(&format!("m{n}"), bytes));
                ledger.replaced(Replacement { merged: due.files, file, dead: None }, &[]);
            }
            ledger.completed(CheckpointId(n + 1));
            files = files.max(ledger.files.len());
        }
        assert!(again <= 5 * added && files <= most_files, "{added} added, {again} written again, {files} files");
    }

    #[test]
    fn a_state_that_grows_is_written_again_a_few_times_however_many_checkpoints_there_are() {
        check_growth(3_600, |_| 10, 24);
        check_growth(3_600, |n| 5 + n * 7 % 11, 28);
        check_growth(3_600, |n| 1 + 1_000 * u64::from(n % 2 == 0), 28);
        check_growth(3_600, |n| 1 + 100_000 / (n + 1), 44);
        check_growth(3_600, |n| 1 + n * n, 24);
    }
}
