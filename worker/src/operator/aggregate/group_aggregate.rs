//! `GROUP BY` without a window: every batch changes groups, and each changed result is emitted.
//!
//! A group's first result is a `+I`; a later one, if it differs, a `-U` with the old and a `+U` with the new; when the
//! last of its rows was taken back, a `-D`. A retraction of a group that is not known is ignored, as in Flink: it comes
//! after the group's state has expired.

use super::accumulate::{Target, add, change, inputs};
use super::group_state::GroupState;
use super::key::KeyBatch;
use super::layout::{Layout, Mode, flag};
use super::merge::merge;
use super::partial;
use super::result::{results, same_results};
use super::rows::{RowBuffer, RowSet};
use crate::batch::{Batch, RowKind, from_columns};
use crate::failure::Result;
use crate::operator::legend::Legend;
use crate::operator::snapshot::{Restored, Snapshot};
use crate::operator::{Counter, Operator, OperatorContext, Output};
use crate::plan;
use crate::state::file::contains;
use arrow::array::{ArrayRef, BooleanArray, UInt8Array};
use arrow::datatypes::SchemaRef;
use std::sync::Arc;
use weir_protocol::snapshot::KeyGroupRange;

/// What arrives at an aggregation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputForm {
    /// Rows of the input's schema, all inserts.
    Rows,
    /// Rows of all kinds: an update is a `-U` and a `+U`.
    Changes,
    /// What the local pre-aggregation of the same aggregation emits.
    Partials,
}

/// The keyed operator of a `GROUP BY` without a window.
pub struct GroupAggregate {
    input: InputForm,
    layout: Arc<Layout>,
    keys: Vec<usize>,
    output: SchemaRef,
    state: GroupState,
    batch: KeyBatch,
    groups: Vec<u32>,
    touched: Vec<u32>,
    before: Vec<u64>,
    changed: Vec<u64>,
    partials: RowBuffer,
}

impl GroupAggregate {
    /// The aggregation of rows of the schema `input_schema`, also when they come as partials. `output_schema` has the
    /// keys and the results. Fails when a key or an argument has a type that cannot be grouped or aggregated.
    pub fn new(
        spec: &plan::GroupAggregate,
        input: InputForm,
        input_schema: &SchemaRef,
        output_schema: SchemaRef,
        context: &OperatorContext,
    ) -> Result<Self> {
        let mode = if input == InputForm::Changes { Mode::Retract } else { Mode::Append };
        let ttl = spec.state_ttl.or(context.state_ttl);
        let extra = GroupState::extra_words(mode, ttl);
        let layout = Arc::new(Layout::new(input_schema, &spec.keys, &spec.calls, mode, extra)?);
        let keys = match input {
            InputForm::Partials => (0..spec.keys.len()).collect(),
            InputForm::Rows | InputForm::Changes => spec.keys.clone(),
        };
        Ok(Self {
            input,
            keys,
            output: output_schema,
            state: GroupState::new(Arc::clone(&layout), context.max_parallelism, ttl),
            layout,
            batch: KeyBatch::default(),
            groups: Vec::new(),
            touched: Vec::new(),
            before: Vec::new(),
            changed: Vec::new(),
            partials: RowBuffer::default(),
        })
    }

    /// The number of groups in the state.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.state.table.len()
    }

    /// The tables of the state with their columns, for the check whether a changed query fits it.
    #[must_use]
    pub fn state_schema(&self) -> serde_json::Value {
        self.state.schema()
    }

    /// What the columns of the tables mean.
    #[must_use]
    pub fn legends(&self) -> Vec<Legend> {
        self.state.legends()
    }

    fn update(&mut self, batch: &Batch) -> Result<()> {
        let signs = (self.input == InputForm::Changes).then(|| signs(batch));
        let arguments = match self.input {
            InputForm::Partials => {
                let columns = &batch.rows.columns()[self.keys.len()..];
                partial::import(&self.layout, columns, batch.num_rows(), &mut self.partials)?;
                Vec::new()
            }
            InputForm::Rows | InputForm::Changes => inputs(&self.layout, batch)?,
        };
        let (words, arena) = self.state.table.parts_mut();
        let mut target = Target { layout: &self.layout, words, arena, groups: &self.groups };
        match signs {
            None if self.input == InputForm::Partials => {
                merge(&mut target, &self.partials.all(&self.layout), 0..batch.num_rows());
            }
            None => add(&mut target, &arguments, 0..batch.num_rows()),
            Some(signs) => {
                change(&mut target, &arguments, &signs);
                self.state.count_rows(&self.groups, &signs);
                self.state.change_values(&self.layout, &self.groups, &self.touched, &arguments, &signs);
            }
        }
        Ok(())
    }

    /// Lists the groups of the batch, each once, with their rows as they were.
    fn touch(&mut self) {
        let stride = self.layout.stride;
        self.touched.clear();
        self.before.clear();
        for (group, hash) in self.groups.iter().zip(&self.batch.hashes) {
            if self.state.table.row(*group)[0] & flag::TOUCHED != 0 {
                continue;
            }
            self.state.touch(*group, *hash);
            let row = self.state.table.row_mut(*group);
            self.before.extend_from_slice(row);
            row[0] |= flag::TOUCHED;
            self.touched.push(*group);
        }
        debug_assert_eq!(self.before.len(), self.touched.len() * stride, "a row is kept for each touched group");
    }

    fn emit(&mut self, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        let kinds = self.collect_changes();
        if kinds.is_empty() {
            return Ok(());
        }
        let rows =
            RowSet { words: &self.changed, stride: self.layout.stride, picks: None, arena: self.state.table.arena() };
        let mut columns = self.layout.key.decode_rows(&rows)?;
        columns.extend(results(&self.layout, &rows)?);
        let mut changes = from_columns(&self.output, columns, kinds.len())?;
        if kinds.iter().any(|kind| *kind != RowKind::Insert as u8) {
            changes.kinds = Some(UInt8Array::from(kinds));
        }
        changes.born = batch.born;
        out.emit(changes)
    }

    /// Copies the rows to emit, old and new, in order, and returns their kinds.
    fn collect_changes(&mut self) -> Vec<u8> {
        let stride = self.layout.stride;
        let mut kinds = Vec::with_capacity(self.touched.len() * 2);
        self.changed.clear();
        for (group, before) in self.touched.iter().zip(self.before.chunks_exact(stride)) {
            let lives = self.state.lives(*group);
            let was_emitted = before[0] & flag::EMITTED != 0;
            let row = self.state.table.row_mut(*group);
            row[0] &= !flag::TOUCHED;
            if was_emitted && !lives {
                self.changed.extend_from_slice(before);
                kinds.push(RowKind::Delete as u8);
            } else if !was_emitted && lives {
                row[0] |= flag::EMITTED;
                self.changed.extend_from_slice(row);
                kinds.push(RowKind::Insert as u8);
            } else if lives
                && !same_results(&self.layout, before, self.state.table.row(*group), self.state.table.arena())
            {
                self.changed.extend_from_slice(before);
                self.changed.extend_from_slice(self.state.table.row(*group));
                kinds.extend([RowKind::UpdateBefore as u8, RowKind::UpdateAfter as u8]);
            }
        }
        kinds
    }

    /// Without the retractions of groups that are not there.
    fn without_unknown(&mut self, batch: Batch, columns: Vec<ArrayRef>) -> Result<(Batch, Vec<ArrayRef>)> {
        let known = |row: usize| batch.kind(row).is_addition() || self.state.knows(&self.batch, row);
        if (0..batch.num_rows()).all(known) {
            return Ok((batch, columns));
        }
        // A row of the batch may add the group that a later one of it retracts.
        let mut added = std::collections::HashSet::new();
        let keep: BooleanArray = (0..batch.num_rows())
            .map(|row| {
                let key = self.batch.identity(row);
                let keeps = known(row) || added.contains(&key);
                if batch.kind(row).is_addition() {
                    added.insert(key);
                }
                Some(keeps)
            })
            .collect();
        let batch = batch.filter(&keep)?;
        let columns = self.key_columns(&batch);
        self.layout.key.encode(&columns, batch.num_rows(), &mut self.batch)?;
        Ok((batch, columns))
    }

    fn key_columns(&self, batch: &Batch) -> Vec<ArrayRef> {
        self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect()
    }
}

impl Operator for GroupAggregate {
    fn process(&mut self, _input: usize, mut batch: Batch, out: &mut dyn Output) -> Result<()> {
        let mut columns = self.key_columns(&batch);
        self.layout.key.encode(&columns, batch.num_rows(), &mut self.batch)?;
        if self.input == InputForm::Changes && batch.kinds.is_some() {
            (batch, columns) = self.without_unknown(batch, columns)?;
        }
        drop(columns);
        self.groups.clear();
        self.state.table.groups_of(&self.batch, 0..batch.num_rows(), &mut self.groups);
        self.touch();
        self.update(&batch)?;
        self.emit(&batch, out)?;
        self.state.bury(&self.touched);
        self.state.tidy(batch.num_rows());
        Ok(())
    }

    fn set_processing_time(&mut self, now_ms: i64) {
        self.state.set_time(now_ms);
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        self.state.snapshot()
    }

    fn adopt(&mut self, key_groups: &[KeyGroupRange], _late_rows: &Counter) -> bool {
        self.state.retain(|group| contains(key_groups, group));
        true
    }

    fn restore(&mut self, restored: Restored) -> Result<()> {
        self.state.restore(&restored)
    }

    fn state_bytes(&self) -> usize {
        self.state.bytes()
    }
}

fn signs(batch: &Batch) -> Vec<i64> {
    match &batch.kinds {
        None => vec![1; batch.num_rows()],
        Some(_) => (0..batch.num_rows()).map(|row| if batch.kind(row).is_addition() { 1 } else { -1 }).collect(),
    }
}
