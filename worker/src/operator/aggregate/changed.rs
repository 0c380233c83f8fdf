//! The list of groups that have changed since the last snapshot.
//!
//! An entry has what a snapshot sorts by, so that sorting looks at no row. Of each row that is marked as changed there is an
//! entry with its key group. Other entries are stale, of rows that were given back after they were listed; they are found
//! out when their rows are fetched, and there are never many more of them than of the others. A snapshot goes through the
//! rows as they lie in memory.

use super::group_table::NONE;
use weir_protocol::KeyGroup;

/// A group in the list: the group above, its key group below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed(u64);

/// The groups that have changed, in no order.
#[derive(Debug, Default)]
pub(super) struct List {
    entries: Vec<Listed>,
    /// At most so many entries are stale.
    stale: usize,
}

/// So many stale entries are no burden.
const FEW: usize = 4096;

impl Listed {
    #[inline]
    pub(super) fn new(key_group: u16, group: u32) -> Self {
        Self(u64::from(group) << 16 | u64::from(key_group))
    }

    pub(super) fn key_group(self) -> KeyGroup {
        KeyGroup(self.0 as u16)
    }

    pub(super) fn group(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

impl List {
    #[inline]
    pub(super) fn push(&mut self, entry: Listed) {
        self.entries.push(entry);
    }

    /// Another entry is stale. True when there are so many that they should be taken out.
    pub(super) fn one_is_stale(&mut self) -> bool {
        self.stale += 1;
        self.stale > FEW.max(self.entries.len() / 2)
    }

    /// Takes stale entries out.
    #[cold]
    pub(super) fn retain(&mut self, is_valid: impl Fn(Listed) -> bool) {
        self.entries.sort_unstable();
        self.entries.dedup();
        self.entries.retain(|entry| is_valid(*entry));
        self.stale = 0;
    }

    /// The entries by group, stale ones and second ones of the same group included.
    pub(super) fn sorted(mut self) -> Vec<Listed> {
        self.entries.sort_unstable();
        self.entries
    }

    /// Groups have other numbers, [`NONE`] those that are gone.
    pub(super) fn renumber(&mut self, moved: &[u32]) {
        let renumbered = |entry: &Listed| {
            let group = moved[entry.group() as usize];
            (group != NONE).then(|| Listed::new(entry.key_group().0, group))
        };
        self.entries = self.entries.iter().filter_map(renumbered).collect();
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.stale = 0;
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Listed>()
    }
}
