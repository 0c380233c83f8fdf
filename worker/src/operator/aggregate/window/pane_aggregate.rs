//! TUMBLE, HOP and CUMULATE: groups per pane; a window fires when the watermark reaches its last millisecond.
//!
//! A row is late when the last window that contains it has fired; it is counted and dropped. A row that is late for some
//! of its windows counts in the others. Of growing windows, the panes of fired windows live on in the first pane of their
//! start: a window's result is that pane merged with the one that ends with the window.
//!
//! In the state, each row of (pane, key) carries the time at which it dies: when no window needs it any more, or, of
//! growing windows, when it has become part of the first pane. Nothing is ever deleted, so firing costs a snapshot nothing.

use super::super::group_aggregate::InputForm;
use super::super::group_table::{GroupTable, count_run};
use super::super::key::KeyBatch;
use super::super::layout::{KEY_GROUP, Layout};
use super::super::merge::merge_row;
use super::super::rows::RowBuffer;
use super::super::state::{self, Means, Owned, Table};
use super::blocks::Blocks;
use super::emission::Emission;
use super::pane_store::{Keyed, PaneStore, Stretch, better_order, stretches};
use super::panes::Panes;
use super::progress::Progress;
use super::times::{late_counter, pane_column, time_column};
use crate::batch::Batch;
use crate::failure::{Failure, Result};
use crate::operator::legend::Legend;
use crate::operator::snapshot::{Restored, Snapshot};
use crate::operator::window::Span;
use crate::operator::{Counter, Operator, OperatorContext, Output};
use crate::plan;
use crate::state::file::contains;
use arrow::datatypes::{DataType, SchemaRef};
use std::sync::Arc;
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::snapshot::KeyGroupRange;
use weir_protocol::{EventTime, KeyGroup};

const TABLE: &str = "panes";
const OWNED: [Owned; 2] = [
    Owned { name: "$pane", is_key: true, means: Means::Start("pane_start") },
    Owned { name: "$end", is_key: false, means: Means::Expiry("expires") },
];

/// The keyed operator of TUMBLE, HOP and CUMULATE.
pub struct PaneAggregate {
    input: InputForm,
    layout: Arc<Layout>,
    panes: Panes,
    keys: Vec<usize>,
    time: usize,
    key_groups: MaxParallelism,
    late_rows: Counter,
    progress: Progress,
    store: PaneStore,
    blocks: Blocks,
    merged: GroupTable,
    emission: Emission,
    keyed: Keyed,
}

impl PaneAggregate {
    /// The aggregation of rows of the schema `input_schema`, also when they come as partials. Fails for sessions, and when
    /// a column has a type that does not fit its role.
    pub fn new(
        spec: &plan::WindowAggregate,
        input: InputForm,
        input_schema: &SchemaRef,
        output_schema: SchemaRef,
        context: &OperatorContext,
    ) -> Result<Self> {
        let panes = Panes::new(spec.window).ok_or_else(|| Failure::bug("sessions and empty windows have no panes"))?;
        let layout = Arc::new(Layout::windowed(input_schema, &spec.keys, &spec.calls, 0)?);
        let (keys, time) = match input {
            InputForm::Partials => ((0..spec.keys.len()).collect(), spec.keys.len()),
            InputForm::Rows | InputForm::Changes => (spec.keys.clone(), spec.time),
        };
        Ok(Self {
            input,
            panes,
            keys,
            time,
            key_groups: context.max_parallelism,
            late_rows: context.late_rows.clone(),
            progress: Progress::new(context.key_groups.clone()),
            store: PaneStore::new(Arc::clone(&layout), context.max_parallelism),
            blocks: Blocks::new(Arc::clone(&layout), context.max_parallelism),
            merged: GroupTable::new(Arc::clone(&layout), context.max_parallelism),
            emission: Emission::new(Arc::clone(&layout), output_schema)?,
            keyed: Keyed::default(),
            layout,
        })
    }

    /// The tables of the state with their columns, for the check whether a changed query fits it.
    #[must_use]
    pub fn state_schema(&self) -> serde_json::Value {
        serde_json::Value::Array(vec![self.shape().schema()])
    }

    /// What the columns of the table mean, when event time has this type.
    #[must_use]
    pub fn legend(&self, event_time: &DataType) -> Legend {
        self.shape().legend(event_time)
    }

    fn shape(&self) -> Table<'_> {
        Table { name: TABLE, layout: &self.layout, owned: &OWNED, expires: Some(1) }
    }

    /// The panes to which the rows go; `None` for late ones.
    fn targets(&self, batch: &Batch) -> Result<Vec<Option<i64>>> {
        let times = match self.input {
            InputForm::Partials => pane_column(batch, self.time)?,
            InputForm::Rows | InputForm::Changes => time_column(batch, self.time)?,
        };
        if !self.progress.is_uniform() {
            let watermark =
                |row: usize| self.progress.of(self.key_groups.key_group_of_hash(self.keyed.keys.hashes[row]));
            let target = |(row, time): (usize, &i64)| self.target(self.panes.start(*time), watermark(row));
            return Ok(times.iter().enumerate().map(target).collect());
        }
        let watermark = self.progress.lowest();
        let (mut known, mut target) = (i64::MAX..i64::MAX, None);
        let targets = times.iter().map(|time| {
            if !known.contains(time) {
                let pane = self.panes.start(*time);
                known = pane..self.panes.end(pane);
                target = self.target(pane, watermark);
            }
            target
        });
        Ok(targets.collect())
    }

    /// The pane that takes the rows of `pane` when event time is `watermark`; none when they are late.
    fn target(&self, pane: i64, watermark: EventTime) -> Option<i64> {
        self.panes.next_end(pane, watermark.0)?;
        let is_merged = self.panes.grow() && self.panes.first_end(pane).saturating_sub(1) <= watermark.0;
        Some(if is_merged { self.first_pane(pane) } else { pane })
    }

    /// The pane with which the windows over `pane` start, for growing windows.
    fn first_pane(&self, pane: i64) -> i64 {
        self.panes.window_start(self.panes.end(pane))
    }

    /// The event time at which the rows of a pane are not needed any more.
    fn death(&self, pane: i64) -> i64 {
        let is_first = !self.panes.grow() || self.first_pane(pane) == pane;
        if is_first { self.panes.last_end(pane) } else { self.panes.first_end(pane) }
    }

    /// Adds the rows, whose keys are encoded, to their panes.
    fn add(&mut self, batch: &Batch, stretches: Vec<Stretch>) -> Result<()> {
        self.keyed.prepare(&self.layout, self.input, self.keys.len() + 1, batch)?;
        for (pane, rows) in stretches {
            let Some(pane) = pane else {
                self.late_rows.add(rows.map(|row| self.keyed.weight(&self.layout, self.input, row)).sum());
                continue;
            };
            self.blocks.changed(pane);
            self.store.add(pane, rows, self.input, &self.keyed);
        }
        Ok(())
    }

    /// Forgets the rows that no window of their key groups needs any more.
    fn forget_dead(&mut self) {
        let highest = self.progress.highest().0;
        let last = |pane: i64| self.death(pane).saturating_sub(1);
        let ending: Vec<(i64, i64)> = self.store.tables.keys().map(|pane| (*pane, last(*pane))).collect();
        for (pane, last) in ending.into_iter().filter(|(_, last)| *last <= highest) {
            self.store.retain_in(pane, |group| last > self.progress.of(group).0);
        }
    }

    /// Fires all windows that end up to `watermark`, in order.
    fn fire(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<()> {
        let mut fired = self.progress.lowest().0;
        while let Some((&pane, _)) = self.store.tables.first_key_value() {
            let Some(end) = self.panes.next_end(pane, fired) else {
                self.store.remove(pane);
                continue;
            };
            if end.saturating_sub(1) > watermark.0 {
                break;
            }
            self.fire_window(Span { start: self.panes.window_start(end), end }, out)?;
            fired = end - 1;
        }
        self.blocks.forget_before(self.store.tables.first_key_value().map_or(i64::MAX, |(pane, _)| *pane));
        self.emission.flush(out)
    }

    fn fire_window(&mut self, span: Span, out: &mut dyn Output) -> Result<()> {
        if self.panes.grow() {
            self.grow(span);
            let Some(table) = self.store.tables.get(&span.start) else { return Ok(()) };
            return emit(&mut self.emission, &self.progress, table, span, out);
        }
        let mut panes = self.store.tables.range(span.start..span.end);
        match (panes.next(), panes.next()) {
            (None, _) => Ok(()),
            (Some((_, table)), None) => emit(&mut self.emission, &self.progress, table, span, out),
            (Some(_), Some(_)) => {
                self.blocks.merge_into(&mut self.merged, &self.store.tables, span, self.panes.pane_ms);
                emit(&mut self.emission, &self.progress, &self.merged, span, out)?;
                self.merged.clear();
                Ok(())
            }
        }
    }

    /// Merges the window's last pane into its first.
    fn grow(&mut self, span: Span) {
        let last = span.end - self.panes.pane_ms;
        if last == span.start {
            return;
        }
        if let Some(pane) = self.store.remove(last) {
            merge_table(&self.layout, self.store.table(span.start), &pane, Marks::Dirty);
        }
    }
}

/// Whether merged groups count as changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// They are part of the state.
    Dirty,
    /// They are computed from it.
    None,
}

/// Merges all groups of a table into those of another.
pub(super) fn merge_table(layout: &Layout, to: &mut GroupTable, from: &GroupTable, marks: Marks) {
    for (hash, group) in from.entries() {
        let row = from.row(group);
        let target = to.adopt(hash, row, from.arena());
        if marks == Marks::Dirty {
            to.mark(target);
        }
        let (words, arena) = to.parts_mut();
        let start = target as usize * layout.stride;
        merge_row(layout, &mut words[start..start + layout.stride], arena, row, from.arena());
    }
}

/// Emits the groups of a window, except those of key groups that were past it before a restore.
fn emit(
    emission: &mut Emission,
    progress: &Progress,
    table: &GroupTable,
    span: Span,
    out: &mut dyn Output,
) -> Result<()> {
    let rows = table.all();
    for row in rows.iter() {
        let has_fired = !progress.is_uniform() && {
            let key_group = KeyGroup((row[0] & KEY_GROUP) as u16);
            progress.of(key_group) >= span.max_time()
        };
        if !has_fired {
            emission.push(row, rows.arena, span, out)?;
        }
    }
    Ok(())
}

impl Operator for PaneAggregate {
    fn process(&mut self, _input: usize, batch: Batch, _out: &mut dyn Output) -> Result<()> {
        self.keyed.encode(&self.layout, &self.keys, &batch)?;
        let cut = stretches(self.targets(&batch)?);
        let Some(order) = better_order(&cut) else { return self.add(&batch, cut) };
        let sorted = batch.take(&order)?;
        self.keyed.encode(&self.layout, &self.keys, &sorted)?;
        let cut = stretches(self.targets(&sorted)?);
        self.add(&sorted, cut)
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<()> {
        if watermark > self.progress.lowest() {
            self.fire(watermark, out)?;
            self.progress.advance(watermark);
        }
        out.watermark(watermark)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut changed: Vec<(u16, i64, u32)> = Vec::new();
        for (pane, table) in &mut self.store.tables {
            let groups = table.take_changed([]);
            changed.extend(groups.by_key_group().map(|(key_group, group)| (key_group.0, *pane, group)));
        }
        changed.sort_unstable();
        let (mut rows, mut runs) = (RowBuffer::default(), Vec::new());
        for (key_group, pane, group) in &changed {
            let table = &self.store.tables[pane];
            rows.push(&self.layout, table.row(*group), table.arena());
            count_run(&mut runs, KeyGroup(*key_group));
        }
        let mut tables = Vec::new();
        if !changed.is_empty() {
            let starts: Vec<i64> = changed.iter().map(|(_, pane, _)| *pane).collect();
            let ends = starts.iter().map(|pane| self.death(*pane)).collect();
            let shape = self.shape();
            let mut columns = rows.all(&self.layout).columns(shape.words());
            tables.push(shape.delta((&mut columns, &rows.arena), vec![starts, ends], None, runs, None)?);
        }
        let counters = late_counter(&self.late_rows);
        Ok(Snapshot { tables, watermarks: self.progress.watermarks(), counters })
    }

    fn adopt(&mut self, key_groups: &[KeyGroupRange], late_rows: &Counter) -> bool {
        self.late_rows = late_rows.clone();
        self.progress = Progress::new(key_groups.to_vec());
        self.store.retain(|group| contains(key_groups, group));
        self.blocks = Blocks::new(Arc::clone(&self.layout), self.key_groups);
        true
    }

    fn restore(&mut self, restored: Restored) -> Result<()> {
        self.progress.restore(&restored);
        self.forget_dead();
        self.late_rows.add(restored.counters.get(super::times::LATE_ROWS).copied().unwrap_or(0));
        let (mut keys, mut buffer) = (KeyBatch::default(), RowBuffer::default());
        for delta in restored.tables.iter().filter(|delta| delta.table == TABLE) {
            let owned = self.shape().read(delta, &mut keys, &mut buffer)?;
            for (row, (pane, end)) in owned[0].iter().zip(&owned[1]).enumerate() {
                let watermark = self.progress.of(self.key_groups.key_group_of_hash(keys.hashes[row]));
                if end.saturating_sub(1) <= watermark.0 {
                    continue;
                }
                let table = self.store.table(*pane);
                let group = table.find_or_insert(&keys, row) as usize;
                let (words, arena) = table.parts_mut();
                let from = &buffer.words[row * self.layout.stride..][..self.layout.stride];
                state::overwrite(
                    &self.layout,
                    &mut words[group * self.layout.stride..][..self.layout.stride],
                    arena,
                    from,
                    &buffer.arena,
                );
            }
        }
        self.store.tables.values_mut().for_each(GroupTable::mark_restored);
        self.forget_dead();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.store.bytes() + self.blocks.bytes() + self.merged.bytes()
    }
}
