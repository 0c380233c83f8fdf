//! Pre-aggregation before the keyed shuffle of a `GROUP BY` without a window: rows of one key become one row of partial
//! results, so that a frequent key costs no more than any other.
//!
//! It holds groups back while input flows, up to a bound, and with them the watermarks that came meanwhile; all of it
//! goes when the inputs are idle, before a barrier, and at the end. Where keys hardly repeat it would only cost time:
//! then each row goes on alone, in the same form, and from time to time it looks again.

use super::accumulate::{Target, add, inputs};
use super::group_table::GroupTable;
use super::key::KeyBatch;
use super::layout::{Layout, Mode};
use super::partial;
use super::reduction::{Course, Reduction};
use super::rows::RowBuffer;
use crate::batch::{Batch, from_columns};
use crate::failure::Result;
use crate::operator::{Operator, OperatorContext, Output};
use crate::plan;
use arrow::array::ArrayRef;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use std::sync::Arc;
use std::time::Instant;
use weir_protocol::EventTime;

/// Groups are held back up to this many: their rows then stay in the second-level cache.
pub(super) const MOST_GROUPS: usize = 16 * 1024;
/// Memory that they may take.
pub(super) const MOST_BYTES: usize = 16 << 20;
/// Rows that may wait in groups: what is downstream sees results at least this often.
pub(super) const MOST_ROWS: usize = 256 * 1024;

/// The operator before the shuffle of a `GROUP BY` without a window.
pub struct LocalGroupAggregate {
    layout: Arc<Layout>,
    keys: Vec<usize>,
    output: SchemaRef,
    table: GroupTable,
    batch: KeyBatch,
    groups: Vec<u32>,
    rows: usize,
    born: Option<Instant>,
    held: Option<EventTime>,
    reduction: Reduction,
}

/// The columns that a [`LocalGroupAggregate`] emits for rows of `input_schema`: the keys, then accumulators.
pub fn partial_schema(spec: &plan::GroupAggregate, input_schema: &SchemaRef) -> Result<SchemaRef> {
    Ok(schema_of(&Layout::new(input_schema, &spec.keys, &spec.calls, Mode::Append, 0)?, Vec::new()))
}

/// The keys, the columns in between, accumulators.
pub(super) fn schema_of(layout: &Layout, between: Vec<FieldRef>) -> SchemaRef {
    let keys = layout.key.fields().cloned();
    Arc::new(Schema::new(keys.chain(between).chain(partial::fields(layout)).collect::<Vec<_>>()))
}

/// The rows of a batch as partial results of one row each, without the keys.
pub(super) fn single_rows(layout: &Layout, batch: &Batch) -> Result<Vec<ArrayRef>> {
    let rows = batch.num_rows();
    let mut buffer = RowBuffer::default();
    buffer.reset(layout, rows);
    let groups: Vec<u32> = (0..rows as u32).collect();
    let RowBuffer { words, arena } = &mut buffer;
    let mut target = Target { layout, words, arena, groups: &groups };
    add(&mut target, &inputs(layout, batch)?, 0..rows);
    let mut groups = buffer.all(layout).columns(partial::exported_words(layout));
    Ok(partial::export(layout, &mut groups, &buffer.arena))
}

impl LocalGroupAggregate {
    /// The pre-aggregation of rows of the schema `input_schema`, all inserts.
    pub fn new(spec: &plan::GroupAggregate, input_schema: &SchemaRef, context: &OperatorContext) -> Result<Self> {
        let layout = Arc::new(Layout::new(input_schema, &spec.keys, &spec.calls, Mode::Append, 0)?);
        Ok(Self {
            output: schema_of(&layout, Vec::new()),
            keys: spec.keys.clone(),
            table: GroupTable::new(Arc::clone(&layout), context.max_parallelism),
            layout,
            batch: KeyBatch::default(),
            groups: Vec::new(),
            rows: 0,
            born: None,
            held: None,
            reduction: Reduction::default(),
        })
    }

    fn pass_on(&self, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        let mut columns: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        columns.extend(single_rows(&self.layout, batch)?);
        let mut partials = from_columns(&self.output, columns, batch.num_rows())?;
        partials.born = batch.born;
        out.emit(partials)
    }

    fn flush(&mut self, out: &mut dyn Output) -> Result<()> {
        if self.rows > 0 {
            let rows = self.table.all();
            let columns = partial::rows_as_partials(&self.layout, &rows, Vec::new())?;
            let mut partials = from_columns(&self.output, columns, rows.len())?;
            partials.born = self.born.take();
            self.reduction.learn(self.rows, rows.len());
            self.table.clear();
            self.rows = 0;
            out.emit(partials)?;
        }
        self.held.take().map_or(Ok(()), |watermark| out.watermark(watermark))
    }
}

impl Operator for LocalGroupAggregate {
    fn process(&mut self, _input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.reduction.course(batch.num_rows()) == Course::Pass {
            self.flush(out)?;
            return self.pass_on(&batch, out);
        }
        let columns: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        self.layout.key.encode(&columns, batch.num_rows(), &mut self.batch)?;
        self.groups.clear();
        self.table.groups_of(&self.batch, 0..batch.num_rows(), &mut self.groups);
        let (words, arena) = self.table.parts_mut();
        let mut target = Target { layout: &self.layout, words, arena, groups: &self.groups };
        add(&mut target, &inputs(&self.layout, &batch)?, 0..batch.num_rows());
        self.rows += batch.num_rows();
        self.born = self.born.into_iter().chain(batch.born).min();
        let is_full =
            self.table.len() >= MOST_GROUPS || self.rows >= MOST_ROWS || self.table.used_bytes() >= MOST_BYTES;
        if is_full { self.flush(out) } else { Ok(()) }
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<()> {
        if self.rows == 0 || watermark == EventTime::MAX {
            self.held = None;
            self.flush(out)?;
            return out.watermark(watermark);
        }
        self.held = Some(watermark);
        Ok(())
    }

    fn on_idle(&mut self, out: &mut dyn Output) -> Result<()> {
        self.flush(out)
    }

    fn state_bytes(&self) -> usize {
        self.table.bytes()
    }
}
