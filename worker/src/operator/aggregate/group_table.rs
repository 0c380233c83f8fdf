//! Groups by key: a hash table of (hash, group) and one row of words per group.
//!
//! A group's number is its row. Rows of removed groups are used again. What has changed since the last snapshot is in a
//! list, so that a snapshot costs what changed. The rows lie all over the memory: the list has what a snapshot sorts by,
//! and each row of it is fetched once, for all that a snapshot wants of it.

use super::arena::Arena;
use super::changed::{List, Listed};
use super::key::{KeyBatch, NULLS};
use super::layout::{KEY_GROUP, Layout, flag};
use super::rows::{CACHED_ROWS, Columns, RowSet, move_strings};
use hashbrown::HashTable;
use std::ops::Range;
use std::sync::Arc;
use weir_protocol::KeyGroup;
use weir_protocol::key_group::MaxParallelism;

/// No group, where a group's number is expected.
pub(super) const NONE: u32 = u32::MAX;

/// Groups by key.
#[derive(Debug)]
pub(super) struct GroupTable {
    layout: Arc<Layout>,
    key_groups: MaxParallelism,
    index: HashTable<Entry>,
    words: Vec<u64>,
    arena: Arena,
    free: Vec<u32>,
    listed: List,
}

/// The groups that have changed since the last snapshot.
pub(super) struct Changed {
    /// By key group.
    pub(super) groups: Vec<u32>,
    /// How many of each key group there are.
    pub(super) runs: Vec<(KeyGroup, usize)>,
    /// The words that were asked for, those of the headers as they were before.
    pub(super) columns: Columns,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    group: u32,
}

impl Entry {
    /// Hash tables look at the lowest and the highest bits, so both get the same 32.
    #[inline]
    fn spread(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }

    #[inline]
    fn table_hash(&self) -> u64 {
        Self::spread(self.hash)
    }
}

impl Changed {
    /// The groups with their key groups.
    pub(super) fn by_key_group(&self) -> impl Iterator<Item = (KeyGroup, u32)> {
        let key_groups = self.runs.iter().flat_map(|(key_group, groups)| std::iter::repeat_n(*key_group, *groups));
        key_groups.zip(self.groups.iter().copied())
    }
}

impl GroupTable {
    /// An empty table of a job with `key_groups` key groups.
    pub(super) fn new(layout: Arc<Layout>, key_groups: MaxParallelism) -> Self {
        Self {
            layout,
            key_groups,
            index: HashTable::new(),
            words: Vec::new(),
            arena: Arena::default(),
            free: Vec::new(),
            listed: List::default(),
        }
    }

    /// An empty table with room for as many groups as expected.
    pub(super) fn with_capacity(layout: Arc<Layout>, key_groups: MaxParallelism, groups: usize) -> Self {
        let mut table = Self::new(layout, key_groups);
        table.index = HashTable::with_capacity(groups);
        table.words.reserve(groups * table.layout.stride);
        table
    }

    /// The number of groups.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The number of rows, those of no group included.
    pub(super) fn rows(&self) -> usize {
        self.words.len() / self.layout.stride
    }

    /// Writes the group of each of the keys `rows` to its place in `groups`; groups are made where there is none.
    pub(super) fn groups_of(&mut self, keys: &KeyBatch, rows: Range<usize>, groups: &mut Vec<u32>) {
        groups.resize(keys.hashes.len(), NONE);
        let groups = &mut groups[..];
        match (keys.long, keys.width) {
            (false, 2) => self.probe(keys, rows, groups, |group, key| group[1] == key[1]),
            (false, 3) => self.probe(keys, rows, groups, |group, key| (group[1] ^ key[1]) | (group[2] ^ key[2]) == 0),
            (false, 4) => self.probe(keys, rows, groups, |group, key| {
                (group[1] ^ key[1]) | (group[2] ^ key[2]) | (group[3] ^ key[3]) == 0
            }),
            _ => rows.for_each(|row| groups[row] = self.find_or_insert(keys, row)),
        }
    }

    /// As [`groups_of`](Self::groups_of), for keys whose words alone decide.
    #[inline]
    fn probe(
        &mut self,
        keys: &KeyBatch,
        rows: Range<usize>,
        groups: &mut [u32],
        equal: impl Fn(&[u64], &[u64]) -> bool,
    ) {
        let stride = self.layout.stride;
        for row in rows {
            let (hash, key) = (keys.hashes[row] as u32, keys.key(row));
            let words = &self.words;
            let found = self.index.find(Entry::spread(hash), |entry| {
                let at = entry.group as usize * stride;
                let group = &words[at..at + stride];
                entry.hash == hash && (group[0] ^ key[0]) & NULLS == 0 && equal(group, key)
            });
            groups[row] = match found {
                Some(entry) => entry.group,
                None => self.insert(keys, row),
            };
        }
    }

    /// The group of one key; it is made when there is none.
    pub(super) fn find_or_insert(&mut self, keys: &KeyBatch, row: usize) -> u32 {
        self.find(keys, row).unwrap_or_else(|| self.insert(keys, row))
    }

    /// The group of one key.
    pub(super) fn find(&self, keys: &KeyBatch, row: usize) -> Option<u32> {
        let (hash, stride) = (keys.hashes[row] as u32, self.layout.stride);
        let found = self.index.find(Entry::spread(hash), |entry| {
            let at = entry.group as usize * stride;
            entry.hash == hash && keys.equals(row, &self.words[at..at + stride], &self.arena)
        });
        found.map(|entry| entry.group)
    }

    /// Makes the group of a key that has none.
    pub(super) fn insert(&mut self, keys: &KeyBatch, row: usize) -> u32 {
        let hash = keys.hashes[row] as u32;
        let group = self.make(keys, row);
        self.index.insert_unique(Entry::spread(hash), Entry { hash, group }, Entry::table_hash);
        group
    }

    /// A row with a key that is in no index.
    pub(super) fn make(&mut self, keys: &KeyBatch, row: usize) -> u32 {
        let hash = keys.hashes[row];
        let group = self.allocate();
        let range = self.range(group);
        let words = &mut self.words[range];
        words[0] |= u64::from(self.key_groups.key_group_of_hash(hash).0);
        keys.write(row, words, &mut self.arena);
        group
    }

    /// A row that is in no index yet: it has seen nothing and has no key.
    pub(super) fn allocate(&mut self) -> u32 {
        if let Some(group) = self.free.pop() {
            let range = self.range(group);
            self.words[range].copy_from_slice(&self.layout.initial);
            return group;
        }
        let group = u32::try_from(self.rows()).ok().filter(|group| *group != NONE);
        self.words.extend_from_slice(&self.layout.initial);
        group.expect("memory ends before 2^32 groups of one task")
    }

    /// Removes the group that lies under `hash` (any hash of the same key).
    pub(super) fn remove(&mut self, hash: u64, group: u32) {
        self.unlink(hash, group);
        self.release(group);
    }

    /// The indexed group with the key of a row, which need not be indexed itself.
    pub(super) fn indexed(&self, hash: u64, group: u32) -> Option<u32> {
        let row = self.row(group);
        let found = self.index.find(Entry::spread(hash as u32), |entry| {
            entry.group == group
                || (entry.hash == hash as u32
                    && same_key(&self.layout, self.row(entry.group), &self.arena, row, &self.arena))
        });
        found.map(|entry| entry.group)
    }

    /// Takes a group out of the index; its row stays.
    pub(super) fn unlink(&mut self, hash: u64, group: u32) {
        if let Ok(found) = self.index.find_entry(Entry::spread(hash as u32), |entry| entry.group == group) {
            found.remove();
        }
    }

    /// Puts another group in the place of one.
    pub(super) fn relink(&mut self, hash: u64, from: u32, to: u32) {
        if let Some(entry) = self.index.find_mut(Entry::spread(hash as u32), |entry| entry.group == from) {
            entry.group = to;
        }
    }

    /// Gives back the row of a group that is not in the index.
    pub(super) fn release(&mut self, group: u32) {
        let range = self.range(group);
        let row = &mut self.words[range];
        for word in self.layout.bytes_words() {
            self.arena.release([row[word], row[word + 1]]);
        }
        let was_listed = row[0] & flag::DIRTY != 0;
        row[0] = flag::FREE;
        self.free.push(group);
        if was_listed && self.listed.one_is_stale() {
            let mut listed = std::mem::take(&mut self.listed);
            listed.retain(|entry| self.is_valid(entry));
            self.listed = listed;
        }
    }

    /// Marks a group as changed since the last snapshot.
    #[inline]
    pub(super) fn mark(&mut self, group: u32) {
        let header = &mut self.words[group as usize * self.layout.stride];
        if *header & flag::DIRTY == 0 {
            *header |= flag::DIRTY;
            self.listed.push(Listed::new((*header & KEY_GROUP) as u16, group));
        }
    }

    /// True when the entry is of the group that is there and has changed.
    #[inline]
    fn is_valid(&self, entry: Listed) -> bool {
        let header = self.words[entry.group() as usize * self.layout.stride];
        header & flag::DIRTY != 0 && (header & KEY_GROUP) as u16 == entry.key_group().0
    }

    /// The changed groups, with some words of each; they count as unchanged and part of a snapshot from now.
    pub(super) fn take_changed(&mut self, words: impl IntoIterator<Item = usize>) -> Changed {
        let stride = self.layout.stride;
        let mut listed = std::mem::take(&mut self.listed).sorted();
        // Of many tables, as of panes, few have changed.
        if listed.is_empty() {
            return Changed { groups: Vec::new(), runs: Vec::new(), columns: Columns::zeroed(words, 0) };
        }
        let mut places = vec![0; self.key_groups.get() as usize];
        listed.retain(|entry| {
            // A second entry of the same group finds the mark gone.
            let is_valid = self.is_valid(*entry);
            if is_valid {
                self.words[entry.group() as usize * stride] &= !flag::DIRTY;
                places[usize::from(entry.key_group().0)] += 1;
            }
            is_valid
        });
        let runs = begins_of_runs(&mut places);
        let mut groups = vec![0; listed.len()];
        let mut columns = Columns::zeroed(words, listed.len());
        for block in listed.chunks(CACHED_ROWS) {
            let mut to = [0; CACHED_ROWS];
            for (entry, to) in block.iter().zip(&mut to) {
                let place = &mut places[usize::from(entry.key_group().0)];
                *to = *place;
                groups[*place] = entry.group();
                *place += 1;
            }
            columns.put(&to[..block.len()], |at| self.row(block[at].group()));
            block.iter().for_each(|entry| self.words[entry.group() as usize * stride] |= flag::PERSISTED);
        }
        Changed { groups, runs, columns }
    }

    /// Takes over the changed groups of a restore: nothing counts as changed.
    pub(super) fn mark_restored(&mut self) {
        let stride = self.layout.stride;
        for header in self.words.iter_mut().step_by(stride) {
            *header = *header & !flag::DIRTY | flag::PERSISTED;
        }
        self.listed.clear();
    }

    /// The row of a group.
    #[inline]
    pub(super) fn row(&self, group: u32) -> &[u64] {
        &self.words[self.range(group)]
    }

    /// The row of a group.
    #[inline]
    pub(super) fn row_mut(&mut self, group: u32) -> &mut [u64] {
        let range = self.range(group);
        &mut self.words[range]
    }

    /// All rows, to be changed by passes over a batch, and the strings that they refer to.
    pub(super) fn parts_mut(&mut self) -> (&mut [u64], &mut Arena) {
        (&mut self.words, &mut self.arena)
    }

    /// The strings that rows refer to.
    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Chosen groups.
    pub(super) fn pick<'a>(&'a self, groups: &'a [u32]) -> RowSet<'a> {
        RowSet { words: &self.words, stride: self.layout.stride, picks: Some(groups), arena: &self.arena }
    }

    /// All rows, where no group was removed.
    pub(super) fn all(&self) -> RowSet<'_> {
        RowSet { words: &self.words, stride: self.layout.stride, picks: None, arena: &self.arena }
    }

    /// Bytes that groups take, without the room for more.
    pub(super) fn used_bytes(&self) -> usize {
        self.words.len() * size_of::<u64>() + self.arena.len()
    }

    /// The indexed groups with their hashes, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, u32)> {
        self.index.iter().map(|entry| (entry.hash, entry.group))
    }

    /// The group with the key of a row of another table; it is made when there is none.
    pub(super) fn adopt(&mut self, hash: u32, row: &[u64], arena: &Arena) -> u32 {
        let layout = Arc::clone(&self.layout);
        let stride = layout.stride;
        let found = self.index.find(Entry::spread(hash), |entry| {
            let at = entry.group as usize * stride;
            entry.hash == hash && same_key(&layout, &self.words[at..at + stride], &self.arena, row, arena)
        });
        if let Some(entry) = found {
            return entry.group;
        }
        let group = self.allocate();
        let range = self.range(group);
        let words = &mut self.words[range];
        words[0] |= row[0] & (KEY_GROUP | NULLS);
        let key = 1..1 + layout.key.words();
        words[key.clone()].copy_from_slice(&row[key]);
        for word in layout.key.bytes_words() {
            if super::arena::is_long(words[word]) {
                let moved = self.arena.store(arena.long([row[word], row[word + 1]]));
                words[word..word + 2].copy_from_slice(&moved);
            }
        }
        self.index.insert_unique(Entry::spread(hash), Entry { hash, group }, Entry::table_hash);
        group
    }

    /// Forgets all groups, and keeps the memory for the next ones.
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.words.clear();
        self.arena.clear();
        self.free.clear();
        self.listed.clear();
    }

    /// True when most of its memory lies idle, so that [`compact`](Self::compact) pays.
    pub(super) fn is_wasteful(&self) -> bool {
        let rows = self.rows();
        self.arena.is_wasteful() || (rows > 4096 && self.free.len() > rows / 4 * 3)
    }

    /// Rebuilds the table without unused rows and strings. The new number of each group, [`NONE`] for unused rows.
    pub(super) fn compact(&mut self) -> Vec<u32> {
        let layout = Arc::clone(&self.layout);
        let mut moved = vec![NONE; self.rows()];
        let mut words = Vec::with_capacity((self.rows() - self.free.len()) * layout.stride);
        let mut arena = Arena::default();
        for (group, row) in self.words.chunks_exact(layout.stride).enumerate() {
            if row[0] & flag::FREE != 0 {
                continue;
            }
            let start = words.len();
            moved[group] = (start / layout.stride) as u32;
            words.extend_from_slice(row);
            move_strings(&layout, &mut words[start..], &self.arena, &mut arena);
        }
        self.words = words;
        self.arena = arena;
        self.free = Vec::new();
        self.index.iter_mut().for_each(|entry| entry.group = moved[entry.group as usize]);
        self.index.shrink_to_fit(Entry::table_hash);
        self.listed.renumber(&moved);
        moved
    }

    /// Keeps the groups of the wanted key groups, and no unused row. The new number of each group, [`NONE`] for those that
    /// are gone.
    pub(super) fn retain(&mut self, wanted: impl Fn(KeyGroup) -> bool) -> Vec<u32> {
        let layout = Arc::clone(&self.layout);
        let (stride, rows) = (layout.stride, self.rows());
        let (mut moved, mut kept) = (vec![NONE; rows], 0);
        for (group, to) in moved.iter_mut().enumerate() {
            let at = group * stride;
            let header = self.words[at];
            if header & flag::FREE != 0 {
                continue;
            }
            if !wanted(KeyGroup((header & KEY_GROUP) as u16)) {
                for word in layout.bytes_words() {
                    self.arena.release([self.words[at + word], self.words[at + word + 1]]);
                }
                continue;
            }
            self.words.copy_within(at..at + stride, kept * stride);
            *to = kept as u32;
            kept += 1;
        }
        self.words.truncate(kept * stride);
        self.words.shrink_to_fit();
        self.free = Vec::new();
        self.index.retain(|entry| {
            entry.group = moved[entry.group as usize];
            entry.group != NONE
        });
        self.listed.renumber(&moved);
        moved
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let lists = self.free.capacity() * size_of::<u32>() + self.listed.bytes();
        self.index.allocation_size() + self.words.capacity() * size_of::<u64>() + self.arena.capacity() + lists
    }

    #[inline]
    fn range(&self, group: u32) -> Range<usize> {
        let start = group as usize * self.layout.stride;
        start..start + self.layout.stride
    }
}

/// Where the run of each key group begins, in the place of how many rows it has; and the runs of those that have any.
fn begins_of_runs(rows: &mut [usize]) -> Vec<(KeyGroup, usize)> {
    let (mut runs, mut begin) = (Vec::new(), 0);
    for (key_group, rows) in rows.iter_mut().enumerate().filter(|(_, rows)| **rows > 0) {
        runs.push((KeyGroup(key_group as u16), *rows));
        begin += std::mem::replace(rows, begin);
    }
    runs
}

/// Adds one row to the runs of rows by key group.
pub(super) fn count_run(runs: &mut Vec<(KeyGroup, usize)>, key_group: KeyGroup) {
    match runs.last_mut().filter(|(last, _)| *last == key_group) {
        Some((_, rows)) => *rows += 1,
        None => runs.push((key_group, 1)),
    }
}

fn same_key(layout: &Layout, left: &[u64], left_arena: &Arena, right: &[u64], right_arena: &Arena) -> bool {
    if (left[0] ^ right[0]) & NULLS != 0 {
        return false;
    }
    let key = 1..1 + layout.key.words();
    if left[key.clone()] == right[key.clone()] && !layout.has_bytes() {
        return true;
    }
    let mut strings = layout.key.bytes_words().peekable();
    let mut word = key.start;
    while word < key.end {
        let is_string = strings.next_if_eq(&word).is_some();
        let is_long = is_string && super::arena::is_long(left[word]);
        if left[word] != right[word] {
            return false;
        }
        let place = [left[word], *left.get(word + 1).unwrap_or(&0)];
        if is_long && left_arena.long(place) != right_arena.long([right[word], right[word + 1]]) {
            return false;
        }
        word += 1 + usize::from(is_long);
    }
    true
}
