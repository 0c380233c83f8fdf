//! The rows of one state table that are alive, key group by key group.

use super::KeyGroups;
use crate::checkpoint::store::Store;
use crate::failure::Result;
use crate::operator::snapshot::TableDelta;
use crate::state::compact::{Tombstones, merge};
use crate::state::file::FileReader;
use std::collections::{BTreeMap, VecDeque};
use weir_protocol::snapshot::{KeyGroupRange, StateFile};
use weir_protocol::{EventTime, KeyGroup};

/// Sections that are read together have no more bytes than this; a larger one is read alone.
const TOGETHER: u64 = 4 << 20;

/// A table whose files are open.
pub(super) struct Table<'a> {
    files: Vec<FileReader<'a>>,
    watermarks: &'a [(KeyGroupRange, EventTime)],
    /// Bytes of each key group that has rows.
    weights: BTreeMap<KeyGroup, u64>,
}

/// The rows of some key groups: what is alive of each, as one delta.
pub(super) struct Rows<'a> {
    table: &'a Table<'a>,
    rest: VecDeque<KeyGroups>,
    ready: VecDeque<(KeyGroup, TableDelta)>,
}

impl<'a> Table<'a> {
    /// Opens the files of a table, given in the order in which they are to be applied.
    pub(super) fn open(
        store: &'a dyn Store,
        files: &[&'a StateFile],
        watermarks: &'a [(KeyGroupRange, EventTime)],
    ) -> Result<Self> {
        let mut open = Vec::with_capacity(files.len());
        let mut weights: BTreeMap<KeyGroup, u64> = BTreeMap::new();
        for file in files {
            let reader = FileReader::open(store, file)?;
            for (group, bytes) in reader.key_groups() {
                let weight = weights.entry(group).or_default();
                *weight = weight.saturating_add(bytes);
            }
            open.push(reader);
        }
        Ok(Self { files: open, watermarks, weights })
    }

    /// Its key groups in ranges of about so many bytes.
    pub(super) fn ranges(&self, bytes: u64) -> Vec<KeyGroups> {
        cut(self.weights.iter().map(|(group, weight)| (*group, *weight)), bytes)
    }

    /// The rows of a range of key groups.
    pub(super) fn rows(&self, range: &KeyGroups) -> Rows<'_> {
        let weights = self.weights.range(range.clone()).map(|(group, weight)| (*group, *weight));
        Rows { table: self, rest: cut(weights, TOGETHER).into(), ready: VecDeque::new() }
    }

    fn read(&self, range: &KeyGroups) -> Result<VecDeque<(KeyGroup, TableDelta)>> {
        let mut groups: BTreeMap<KeyGroup, Vec<TableDelta>> = BTreeMap::new();
        for reader in &self.files {
            for delta in reader.read(|group| range.contains(&group))? {
                groups.entry(delta.key_groups[0].0).or_default().push(delta);
            }
        }
        let mut alive = VecDeque::new();
        for (group, deltas) in groups {
            let merged = merge(&deltas, Tombstones::Drop, self.watermark(group))?;
            alive.extend(merged.map(|merged| (group, merged)));
        }
        Ok(alive)
    }

    fn watermark(&self, group: KeyGroup) -> EventTime {
        let of = self.watermarks.iter().find(|(range, _)| range.start <= group && group < range.end);
        of.map_or(EventTime::MIN, |(_, watermark)| *watermark)
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<(KeyGroup, TableDelta)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(group) = self.ready.pop_front() {
                return Some(Ok(group));
            }
            let range = self.rest.pop_front()?;
            match self.table.read(&range) {
                Ok(ready) => self.ready = ready,
                Err(failure) => {
                    self.rest.clear();
                    return Some(Err(failure));
                }
            }
        }
    }
}

/// Cuts ascending key groups into ranges of at most so many bytes, or of one key group.
fn cut(groups: impl Iterator<Item = (KeyGroup, u64)>, bytes: u64) -> Vec<KeyGroups> {
    let mut ranges: Vec<KeyGroups> = Vec::new();
    let mut held = 0u64;
    for (group, weight) in groups {
        held = held.saturating_add(weight);
        match ranges.last_mut() {
            Some(last) if held <= bytes => *last = *last.start()..=group,
            _ => {
                ranges.push(group..=group);
                held = weight;
            }
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_groups_are_cut_by_their_weight() {
        let check = |weights: &[u64], bytes: u64, expected: &[(u16, u16)]| {
            let groups = weights.iter().zip(0..).map(|(weight, group)| (KeyGroup(group * 2), *weight));
            let cut = cut(groups, bytes);
            let found: Vec<(u16, u16)> = cut.iter().map(|range| (range.start().0, range.end().0)).collect();
            assert_eq!(found, expected);
        };
        check(&[], 10, &[]);
        check(&[1, 2, 3], 10, &[(0, 4)]);
        check(&[5, 5, 1], 10, &[(0, 2), (4, 4)]);
        check(&[50, 1, 50, u64::MAX, 1], 10, &[(0, 0), (2, 2), (4, 4), (6, 6), (8, 8)]);
    }
}
