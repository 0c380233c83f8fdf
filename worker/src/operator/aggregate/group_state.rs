//! The state of a `GROUP BY` without a window: groups, for `MIN` and `MAX` of a changelog the values behind them, and
//! how long both are kept.
//!
//! A group that is gone but known to the last snapshot keeps its row, with nothing in it, until the next snapshot has
//! told so.

use super::accumulate::Input;
use super::group_table::{Changed, GroupTable, NONE};
use super::key::{KeyBatch, signed};
use super::layout::{KEY_GROUP, Layout, Mode, flag};
use super::multiset::{Multisets, Value};
use super::rows::RowBuffer;
use super::state::{self, Means, Owned, Table};
use super::value_state;
use crate::failure::Result;
use crate::operator::legend::Legend;
use crate::operator::snapshot::{Restored, Snapshot};
use arrow::array::BooleanArray;
use arrow::datatypes::DataType;
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::KeyGroup;
use weir_protocol::key_group::MaxParallelism;

/// Where the owner's words lie after the key. Groups that only grow and live for ever need none, those that expire the
/// first two. State files have the time of the last use in any case, so that the time to live can be changed: 0 where it
/// is not known, as when nothing expired.
const HASH: usize = 0;
const TOUCHED_MS: usize = 1;
const ROWS: usize = 2;
const VALUES: usize = 3;

/// At least this many rows are looked at for expiry per batch.
const LEAST_SCAN: usize = 256;

/// The table of groups.
const GROUPS: &str = "groups";

/// A time of last use that is not known.
const NEVER: u64 = 0;

/// The owner's words that are columns of the table; those that no row has are [`NEVER`].
#[derive(Default)]
struct OwnedWords {
    columns: Vec<Owned>,
    words: Vec<Option<usize>>,
}

/// Groups and what belongs to them.
pub(super) struct GroupState {
    layout: Arc<Layout>,
    /// The groups.
    pub(super) table: GroupTable,
    /// The time of the process's clock.
    pub(super) now_ms: i64,
    values: Multisets,
    ttl_ms: Option<i64>,
    /// Some groups were restored of which nobody knows when they were used.
    has_unknown: bool,
    scan: u32,
}

impl GroupState {
    /// Words that each row has for the state.
    pub(super) fn extra_words(mode: Mode, ttl: Option<Duration>) -> usize {
        match (mode, ttl) {
            (Mode::Append, None) => 0,
            (Mode::Append, Some(_)) => ROWS,
            (Mode::Retract, _) => VALUES + 1,
        }
    }

    pub(super) fn new(layout: Arc<Layout>, key_groups: MaxParallelism, ttl: Option<Duration>) -> Self {
        let values = if layout.mode == Mode::Retract { Multisets::new(&layout) } else { Multisets::default() };
        Self {
            table: GroupTable::new(Arc::clone(&layout), key_groups),
            layout,
            now_ms: 0,
            values,
            ttl_ms: ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)),
            has_unknown: false,
            scan: 0,
        }
    }

    /// The time of the process's clock. Groups of a state in which nothing expired count as used when it is known first.
    pub(super) fn set_time(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        if !std::mem::take(&mut self.has_unknown) {
            return;
        }
        let at = self.layout.extra + TOUCHED_MS;
        for group in 0..self.table.rows() as u32 {
            let row = self.table.row_mut(group);
            if row[0] & flag::FREE == 0 && row[at] == NEVER {
                row[at] = now_ms as u64;
                self.table.mark(group);
            }
        }
    }

    /// True when the group of a key is there.
    pub(super) fn knows(&self, keys: &KeyBatch, row: usize) -> bool {
        let group = self.table.find(keys, row);
        group.is_some_and(|group| self.table.row(group)[0] & flag::EMITTED != 0 && !self.is_expired(group))
    }

    /// A batch is about to change the group with this hash: it counts as changed and as used now. An expired one is as
    /// new.
    pub(super) fn touch(&mut self, group: u32, hash: u64) {
        self.table.mark(group);
        if self.ttl_ms.is_none() && self.layout.mode == Mode::Append {
            return;
        }
        if self.is_expired(group) {
            self.reset(group);
        }
        let extra = self.layout.extra;
        let row = self.table.row_mut(group);
        row[extra + HASH] = hash;
        row[extra + TOUCHED_MS] = self.now_ms as u64;
    }

    /// Counts the rows behind each group.
    pub(super) fn count_rows(&mut self, groups: &[u32], signs: &[i64]) {
        let at = self.layout.extra + ROWS;
        for (group, sign) in groups.iter().zip(signs) {
            let rows = &mut self.table.row_mut(*group)[at];
            *rows = rows.wrapping_add(*sign as u64);
        }
    }

    /// Adds and takes back the values behind least and greatest, and writes the new ones into the rows.
    pub(super) fn change_values(
        &mut self,
        layout: &Layout,
        groups: &[u32],
        touched: &[u32],
        inputs: &[Input],
        signs: &[i64],
    ) {
        if self.values.is_unused() {
            return;
        }
        let at = layout.extra + VALUES;
        let mut numbers = Vec::with_capacity(groups.len());
        for group in groups {
            let number = &mut self.table.row_mut(*group)[at];
            if *number == 0 {
                *number = self.values.allocate();
            }
            numbers.push(*number);
        }
        self.values.change(inputs, &numbers, signs);
        let (words, arena) = self.table.parts_mut();
        for group in touched {
            let start = *group as usize * layout.stride;
            let row = &mut words[start..start + layout.stride];
            self.values.write(row[at], layout, row, arena);
        }
    }

    /// True when the group has rows.
    pub(super) fn lives(&self, group: u32) -> bool {
        self.layout.mode == Mode::Append || self.table.row(group)[self.layout.extra + ROWS] as i64 > 0
    }

    /// Forgets the groups among `touched` that have no rows any more.
    pub(super) fn bury(&mut self, touched: &[u32]) {
        if self.layout.mode == Mode::Append {
            return;
        }
        for group in touched {
            if !self.lives(*group) {
                self.forget(*group);
            }
        }
    }

    /// After a batch of `rows` rows: forgets some expired groups and gives back memory.
    pub(super) fn tidy(&mut self, rows: usize) {
        if self.ttl_ms.is_some() {
            self.expire(LEAST_SCAN.max(rows));
        }
        if self.table.is_wasteful() {
            let moved = self.table.compact();
            self.scan = moved.get(self.scan as usize).copied().filter(|group| *group != NONE).unwrap_or(0);
        }
    }

    /// What changed since the last snapshot.
    pub(super) fn snapshot(&mut self) -> Result<Snapshot> {
        let owned = self.owned();
        let layout = Arc::clone(&self.layout);
        let shape = Table { name: GROUPS, layout: &layout, owned: &owned.columns, expires: None };
        let of_owner = owned.words.iter().flatten().copied();
        let Changed { groups, runs, mut columns } = self.table.take_changed(shape.words().chain(of_owner).chain([0]));
        let mut tables = Vec::new();
        let mut gone = Vec::new();
        if !groups.is_empty() {
            let column = |word: &Option<usize>| match word {
                Some(word) => signed(columns.take(*word)),
                None => vec![NEVER as i64; groups.len()],
            };
            let values = owned.words.iter().map(column).collect();
            let headers = columns.column(0);
            let known = headers.iter().filter(|header| *header & flag::PERSISTED != 0).count();
            let deleted: BooleanArray = headers.iter().map(|header| Some(header & flag::EMITTED == 0)).collect();
            gone.extend(deleted.values().set_indices().map(|at| groups[at]));
            let dead = known + gone.len();
            let rows = (&mut columns, self.table.arena());
            tables.push(shape.delta(rows, values, Some(deleted), runs, Some(dead))?);
        }
        for place in 0..self.values.accumulators().len() {
            tables.extend(self.values_delta(&groups, place)?);
        }
        gone.into_iter().for_each(|group| self.remove(group));
        Ok(Snapshot { tables, ..Snapshot::default() })
    }

    fn values_delta(&mut self, dirty: &[u32], place: usize) -> Result<Option<crate::operator::snapshot::TableDelta>> {
        let accumulator = self.values.accumulators()[place];
        let at = self.layout.extra + VALUES;
        let mut changed = value_state::Changed::default();
        for group in dirty {
            let row = self.table.row(*group);
            if row[at] == 0 {
                continue;
            }
            for (value, count) in self.values.set(row[at], place).take_changed() {
                changed.push(*group, (row[0] & KEY_GROUP) as u16, value, count);
            }
        }
        changed.into_delta(&self.layout, &self.table, accumulator)
    }

    /// Forgets all groups but those of the wanted key groups.
    pub(super) fn retain(&mut self, wanted: impl Fn(KeyGroup) -> bool) {
        if !self.values.is_unused() {
            for group in 0..self.table.rows() as u32 {
                let row = self.table.row(group);
                if row[0] & flag::FREE == 0 && !wanted(KeyGroup((row[0] & KEY_GROUP) as u16)) {
                    self.values.release(row[self.layout.extra + VALUES]);
                }
            }
        }
        self.table.retain(wanted);
        self.scan = 0;
    }

    /// Takes over the rows of a checkpoint, as changes of those that are there.
    pub(super) fn restore(&mut self, restored: &Restored) -> Result<()> {
        let (mut keys, mut buffer) = (KeyBatch::default(), RowBuffer::default());
        for delta in restored.tables.iter().filter(|delta| delta.table == GROUPS) {
            let owned = self.owned();
            let values = self.shape(&owned).read(delta, &mut keys, &mut buffer)?;
            for row in 0..delta.rows.num_rows() {
                if delta.deleted.as_ref().is_some_and(|deleted| deleted.value(row)) {
                    if let Some(group) = self.table.find(&keys, row) {
                        if self.layout.mode == Mode::Retract {
                            self.values.release(self.table.row(group)[self.layout.extra + VALUES]);
                        }
                        self.table.remove(keys.hashes[row], group);
                    }
                    continue;
                }
                let group = self.table.find_or_insert(&keys, row);
                let from = &buffer.words[row * self.layout.stride..][..self.layout.stride];
                let (words, arena) = self.table.parts_mut();
                let to = &mut words[group as usize * self.layout.stride..][..self.layout.stride];
                let values_at = (self.layout.mode == Mode::Retract).then_some(self.layout.extra + VALUES);
                let values_before = values_at.map(|at| to[at]);
                state::overwrite(&self.layout, to, arena, from, &buffer.arena);
                if let (Some(at), Some(number)) = (values_at, values_before) {
                    to[at] = number;
                }
                to[0] |= flag::EMITTED | flag::PERSISTED;
                for (word, values) in owned.words.iter().zip(&values) {
                    if let Some(word) = word {
                        to[*word] = values[row] as u64;
                    }
                }
                if self.ttl_ms.is_some() || self.layout.mode == Mode::Retract {
                    to[self.layout.extra + HASH] = keys.hashes[row];
                }
                self.has_unknown |= self.ttl_ms.is_some() && to[self.layout.extra + TOUCHED_MS] == NEVER;
            }
        }
        self.restore_values(restored, &mut keys)
    }

    fn restore_values(&mut self, restored: &Restored, keys: &mut KeyBatch) -> Result<()> {
        let at = self.layout.extra + VALUES;
        for place in 0..self.values.accumulators().len() {
            let accumulator = self.values.accumulators()[place];
            let name = value_state::table_name(accumulator);
            for delta in restored.tables.iter().filter(|delta| delta.table == name) {
                let values: Vec<(Value, i64)> = value_state::read(delta, &self.layout, accumulator, keys)?;
                for (row, (value, count)) in values.into_iter().enumerate() {
                    let Some(group) = self.table.find(keys, row) else { continue };
                    let number = &mut self.table.row_mut(group)[at];
                    if *number == 0 {
                        *number = self.values.allocate();
                    }
                    let number = *number;
                    self.values.set(number, place).restore(value, count);
                }
            }
        }
        Ok(())
    }

    /// The tables and columns of the state.
    pub(super) fn schema(&self) -> serde_json::Value {
        let mut tables = vec![self.shape(&self.owned()).schema()];
        let values = self.values.accumulators().iter();
        tables.extend(values.map(|accumulator| value_state::table_schema(&self.layout, *accumulator)));
        serde_json::Value::Array(tables)
    }

    /// What the columns of the tables mean.
    pub(super) fn legends(&self) -> Vec<Legend> {
        // Groups have no event times.
        let mut legends = vec![self.shape(&self.owned()).legend(&DataType::Null)];
        let values = self.values.accumulators().iter();
        legends.extend(values.map(|accumulator| value_state::legend(&self.layout, *accumulator)));
        legends
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.table.bytes() + self.values.bytes()
    }

    /// The owner's words that belong to the state.
    fn owned(&self) -> OwnedWords {
        let mut owned = OwnedWords::default();
        let mut add = |name, means, word: Option<usize>| {
            owned.columns.push(Owned { name, is_key: false, means });
            owned.words.push(word.map(|word| self.layout.extra + word));
        };
        match self.ttl_ms {
            Some(_) => add("$touched_ms", Means::Used("last_used"), Some(TOUCHED_MS)),
            None => add("$touched_ms", Means::Nothing, None),
        }
        if self.layout.mode == Mode::Retract {
            add("$rows", Means::Rows("rows"), Some(ROWS));
        }
        owned
    }

    fn shape<'a>(&'a self, owned: &'a OwnedWords) -> Table<'a> {
        Table { name: GROUPS, layout: &self.layout, owned: &owned.columns, expires: None }
    }

    fn is_expired(&self, group: u32) -> bool {
        self.ttl_ms.is_some_and(|ttl| {
            let header = self.table.row(group)[0];
            let touched = self.table.row(group)[self.layout.extra + TOUCHED_MS] as i64;
            // What was restored without a time gets one with the first look at the clock.
            let is_known = touched != NEVER as i64;
            header & flag::EMITTED != 0 && is_known && self.now_ms.saturating_sub(touched) > ttl
        })
    }

    /// Looks at the next `rows` rows.
    fn expire(&mut self, rows: usize) {
        let end = self.table.rows() as u32;
        for _ in 0..rows.min(end as usize) {
            if self.scan >= end {
                self.scan = 0;
            }
            let group = self.scan;
            self.scan += 1;
            if self.table.row(group)[0] & flag::FREE == 0 && self.is_expired(group) {
                self.forget(group);
            }
        }
    }

    /// The group is gone; its row stays while a snapshot must tell so.
    fn forget(&mut self, group: u32) {
        if self.table.row(group)[0] & flag::PERSISTED == 0 {
            return self.remove(group);
        }
        self.reset(group);
        self.table.mark(group);
    }

    /// The row as if nothing had been seen.
    fn reset(&mut self, group: u32) {
        let layout = Arc::clone(&self.layout);
        let (words, arena) = self.table.parts_mut();
        let row = &mut words[group as usize * layout.stride..][..layout.stride];
        state::reset(&layout, row, arena);
        row[0] &= !flag::EMITTED;
        if layout.mode == Mode::Retract {
            self.values.clear_all(row[layout.extra + VALUES]);
            row[layout.extra + ROWS] = 0;
        }
    }

    fn remove(&mut self, group: u32) {
        let row = self.table.row(group);
        let hash = row[self.layout.extra + HASH];
        if self.layout.mode == Mode::Retract {
            self.values.release(row[self.layout.extra + VALUES]);
        }
        self.table.remove(hash, group);
    }
}
