//! A table of groups per pane.

use super::super::accumulate::{Input, Target, add, inputs};
use super::super::group_aggregate::InputForm;
use super::super::group_table::GroupTable;
use super::super::key::KeyBatch;
use super::super::layout::Layout;
use super::super::merge::merge;
use super::super::partial;
use super::super::rows::RowBuffer;
use crate::batch::Batch;
use crate::failure::Result;
use arrow::array::{ArrayRef, UInt32Array};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use weir_protocol::KeyGroup;
use weir_protocol::key_group::MaxParallelism;

/// A batch with more stretches of panes than this is sorted by pane first.
const MOST_STRETCHES: usize = 64;

/// Groups by pane and key.
pub(super) struct PaneStore {
    layout: Arc<Layout>,
    key_groups: MaxParallelism,
    /// By the pane's start.
    pub(super) tables: BTreeMap<i64, GroupTable>,
    /// Groups in the pane that was dropped last.
    expected: usize,
    groups: Vec<u32>,
}

/// A batch with the encoded keys of its rows.
#[derive(Default)]
pub(super) struct Keyed {
    /// The keys.
    pub(super) keys: KeyBatch,
    partials: RowBuffer,
    arguments: Vec<Input>,
}

/// Rows that follow each other and belong to one pane; `None` for those of no pane.
pub(super) type Stretch = (Option<i64>, Range<usize>);

impl Keyed {
    /// Encodes the keys, whose columns are `columns`.
    pub(super) fn encode(&mut self, layout: &Layout, columns: &[usize], batch: &Batch) -> Result<()> {
        let columns: Vec<ArrayRef> = columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        layout.key.encode(&columns, batch.num_rows(), &mut self.keys)
    }

    /// Prepares the arguments, or the partial results after the first `before` columns.
    pub(super) fn prepare(&mut self, layout: &Layout, form: InputForm, before: usize, batch: &Batch) -> Result<()> {
        if form == InputForm::Partials {
            return partial::import(layout, &batch.rows.columns()[before..], batch.num_rows(), &mut self.partials);
        }
        self.arguments = inputs(layout, batch)?;
        Ok(())
    }

    /// Adds the prepared `rows` to the groups of a table that `groups` names for them.
    pub(super) fn apply(
        &self,
        layout: &Layout,
        form: InputForm,
        table: &mut GroupTable,
        groups: &[u32],
        rows: Range<usize>,
    ) {
        let (words, arena) = table.parts_mut();
        let mut target = Target { layout, words, arena, groups };
        match form {
            InputForm::Partials => merge(&mut target, &self.partials.all(layout), rows),
            InputForm::Rows | InputForm::Changes => add(&mut target, &self.arguments, rows),
        }
    }

    /// How many rows of the input the row stands for.
    pub(super) fn weight(&self, layout: &Layout, form: InputForm, row: usize) -> u64 {
        match form {
            InputForm::Partials => self.partials.words[row * layout.stride + layout.rows.expect("windows count rows")],
            InputForm::Rows | InputForm::Changes => 1,
        }
    }
}

impl PaneStore {
    pub(super) fn new(layout: Arc<Layout>, key_groups: MaxParallelism) -> Self {
        Self { layout, key_groups, tables: BTreeMap::new(), expected: 0, groups: Vec::new() }
    }

    /// Adds the rows of one stretch to their pane.
    pub(super) fn add(&mut self, pane: i64, rows: Range<usize>, form: InputForm, keyed: &Keyed) {
        let (layout, key_groups, expected) = (&self.layout, self.key_groups, self.expected);
        let table = self
            .tables
            .entry(pane)
            .or_insert_with(|| GroupTable::with_capacity(Arc::clone(layout), key_groups, expected));
        table.groups_of(&keyed.keys, rows.clone(), &mut self.groups);
        for group in &self.groups[rows.clone()] {
            table.mark(*group);
        }
        keyed.apply(layout, form, table, &self.groups, rows);
    }

    /// The table of a pane; it is made when there is none.
    pub(super) fn table(&mut self, pane: i64) -> &mut GroupTable {
        let (layout, key_groups) = (&self.layout, self.key_groups);
        self.tables.entry(pane).or_insert_with(|| GroupTable::new(Arc::clone(layout), key_groups))
    }

    /// Forgets all groups but those of the wanted key groups.
    pub(super) fn retain(&mut self, wanted: impl Fn(KeyGroup) -> bool) {
        let panes: Vec<i64> = self.tables.keys().copied().collect();
        panes.into_iter().for_each(|pane| self.retain_in(pane, &wanted));
    }

    /// Does so in one pane.
    pub(super) fn retain_in(&mut self, pane: i64, wanted: impl Fn(KeyGroup) -> bool) {
        if let Some(table) = self.tables.get_mut(&pane) {
            table.retain(wanted);
            if table.len() == 0 {
                self.tables.remove(&pane);
            }
        }
    }

    /// Takes a pane out.
    pub(super) fn remove(&mut self, pane: i64) -> Option<GroupTable> {
        let table = self.tables.remove(&pane)?;
        self.expected = table.len();
        Some(table)
    }

    /// The number of groups.
    pub(super) fn len(&self) -> usize {
        self.tables.values().map(GroupTable::len).sum()
    }

    /// Bytes that groups take, without the room for more.
    pub(super) fn used_bytes(&self) -> usize {
        self.tables.values().map(GroupTable::used_bytes).sum()
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.tables.values().map(|table| table.bytes() + size_of::<GroupTable>()).sum()
    }
}

/// Cuts the rows into stretches of one pane each.
pub(super) fn stretches(panes: Vec<Option<i64>>) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for (row, pane) in panes.into_iter().enumerate() {
        match stretches.last_mut().filter(|(last, _)| *last == pane) {
            Some((_, rows)) => rows.end = row + 1,
            None => stretches.push((pane, row..row + 1)),
        }
    }
    stretches
}

/// The order in which the rows form few stretches, when they form many; rows of a pane stay in order.
pub(super) fn better_order(stretches: &[Stretch]) -> Option<UInt32Array> {
    if stretches.len() <= MOST_STRETCHES {
        return None;
    }
    let mut sorted: Vec<&Stretch> = stretches.iter().collect();
    sorted.sort_by_key(|(pane, _)| *pane);
    Some(sorted.iter().flat_map(|(_, rows)| rows.clone()).map(|row| row as u32).collect())
}
