//! Makes one state file of several, beside everything else.

use super::store::Store;
use super::writer::put_state;
use crate::failure::Result;
use crate::operator::snapshot::TableDelta;
use crate::state::compact::{self, Tombstones};
use crate::state::file::{self, Encoded, FileBuilder, FileReader};
use crate::state::join;
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_protocol::snapshot::{KeyGroupRange, StateFile};
use weir_protocol::{EventTime, Generation, KeyGroup, OperatorId, TaskId};

/// Files of a table of a task, to be made one beside everything else: it may take long.
pub struct Merge {
    pub(super) store: Arc<dyn Store>,
    pub(super) generation: Generation,
    pub(super) task: TaskId,
    pub(super) operator: OperatorId,
    pub(super) table: String,
    pub(super) owned: Vec<KeyGroupRange>,
    pub(super) watermarks: Vec<(KeyGroupRange, EventTime)>,
    pub(super) files: Vec<StateFile>,
    /// Whether the table has older files, which stay.
    pub(super) older_stay: bool,
    /// How many rows are of no use with these files in place, at most.
    pub(super) dead: Option<u64>,
}

/// What became of the files of a merge.
pub struct Merged {
    /// The new file; absent when no row was left.
    pub(super) file: Option<StateFile>,
    /// How many rows are of no use with that file in place, at most.
    pub(super) dead: Option<u64>,
}

/// Where a larger share of the rows than one of so many is of no use, it pays to look for them.
const WORTH_A_LOOK: u64 = 4;

impl Merge {
    /// Merges the files, or joins them when nearly all of their rows are of use, and stores the result.
    pub fn run(&self) -> Result<Merged> {
        let readers = readers(self.store.as_ref(), &self.files)?;
        let rows: u64 = self.files.iter().map(|file| file.rows).sum();
        let is_clean = self.dead.is_some_and(|dead| dead <= rows / WORTH_A_LOOK);
        let (encoded, dead) = match is_clean && join::is_possible(&readers, &self.owned) {
            true => (join::join(&readers, &self.owned)?, self.dead),
            false => {
                let tombstones = if self.older_stay { Tombstones::Keep } else { Tombstones::Drop };
                let merged = merge(&readers, &self.owned, tombstones, &self.watermarks)?;
                (merged, if self.older_stay { self.dead } else { Some(0) })
            }
        };
        let sequence = self.files.iter().map(|file| file.sequence).max().unwrap_or(0);
        let (of, place) = ((&self.operator, self.generation), (self.table.as_str(), sequence));
        let file = encoded.map(|encoded| put_state(self.store.as_ref(), of, place, encoded)).transpose()?;
        Ok(Merged { file, dead })
    }

    /// The generation whose files they are.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }
}

/// Merges files key group by key group, so that memory holds a few key groups at a time besides the result.
pub(super) fn merge_files(
    store: &dyn Store,
    files: &[StateFile],
    owned: &[KeyGroupRange],
    tombstones: Tombstones,
    watermarks: &[(KeyGroupRange, EventTime)],
) -> Result<Option<Encoded>> {
    merge(&readers(store, files)?, owned, tombstones, watermarks)
}

fn readers<'a>(store: &'a dyn Store, files: &[StateFile]) -> Result<Vec<FileReader<'a>>> {
    files.iter().map(|file| FileReader::open(store, file)).collect()
}

fn merge(
    readers: &[FileReader<'_>],
    owned: &[KeyGroupRange],
    tombstones: Tombstones,
    watermarks: &[(KeyGroupRange, EventTime)],
) -> Result<Option<Encoded>> {
    let mut builder: Option<FileBuilder> = None;
    for groups in file::read_together(readers, owned) {
        let mut deltas: BTreeMap<KeyGroup, Vec<TableDelta>> = BTreeMap::new();
        for reader in readers {
            for delta in reader.read(|group| groups.contains(&group))? {
                let group = delta.key_groups.first().map(|(group, _)| *group);
                deltas.entry(group.unwrap_or(KeyGroup(0))).or_default().push(delta);
            }
        }
        for (group, deltas) in deltas {
            let reached = watermarks.iter().find(|(range, _)| file::contains(&[*range], group));
            let reached = reached.map_or(EventTime::MIN, |(_, watermark)| *watermark);
            if let Some(merged) = compact::merge(&deltas, tombstones, reached)? {
                let builder = match &mut builder {
                    Some(builder) => builder,
                    None => builder.insert(FileBuilder::new(&merged)?),
                };
                builder.add(&merged)?;
            }
        }
    }
    builder.map_or(Ok(None), FileBuilder::finish)
}
