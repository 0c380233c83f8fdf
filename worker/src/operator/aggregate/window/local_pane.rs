//! Pre-aggregation of TUMBLE, HOP and CUMULATE before the keyed shuffle: rows of one pane and key become one row.
//!
//! It changes no verdict on lateness: watermarks are never held back, and before one passes, all panes go that it
//! completes for any window. What stays is late for no window under that watermark.

use super::super::group_aggregate::InputForm;
use super::super::group_table::GroupTable;
use super::super::layout::Layout;
use super::super::local::{MOST_BYTES, MOST_GROUPS, MOST_ROWS, schema_of, single_rows};
use super::super::partial;
use super::super::reduction::{Course, Reduction};
use super::pane_store::{Keyed, PaneStore, Stretch, better_order, stretches};
use super::panes::Panes;
use super::times::time_column;
use crate::batch::{Batch, from_columns};
use crate::failure::{Failure, Result};
use crate::operator::{Operator, OperatorContext, Output};
use crate::plan;
use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use std::sync::Arc;
use std::time::Instant;
use weir_protocol::EventTime;

/// The operator before the shuffle of TUMBLE, HOP and CUMULATE.
pub struct LocalPaneAggregate {
    layout: Arc<Layout>,
    panes: Panes,
    keys: Vec<usize>,
    time: usize,
    output: SchemaRef,
    store: PaneStore,
    keyed: Keyed,
    rows: usize,
    born: Option<Instant>,
    reduction: Reduction,
}

/// The columns between keys and accumulators.
pub(super) fn between() -> Vec<FieldRef> {
    vec![Arc::new(Field::new("$pane", DataType::Int64, false))]
}

impl LocalPaneAggregate {
    /// The pre-aggregation of rows of the schema `input_schema`.
    pub fn new(spec: &plan::WindowAggregate, input_schema: &SchemaRef, context: &OperatorContext) -> Result<Self> {
        let panes = Panes::new(spec.window).ok_or_else(|| Failure::bug("sessions and empty windows have no panes"))?;
        let layout = Arc::new(Layout::windowed(input_schema, &spec.keys, &spec.calls, 0)?);
        Ok(Self {
            panes,
            keys: spec.keys.clone(),
            time: spec.time,
            output: schema_of(&layout, between()),
            store: PaneStore::new(Arc::clone(&layout), context.max_parallelism),
            layout,
            keyed: Keyed::default(),
            rows: 0,
            born: None,
            reduction: Reduction::default(),
        })
    }

    fn cut(&self, batch: &Batch) -> Result<Vec<Stretch>> {
        let times = time_column(batch, self.time)?;
        let mut known = i64::MAX..i64::MAX;
        let panes = times.iter().map(|time| {
            if !known.contains(time) {
                let pane = self.panes.start(*time);
                known = pane..self.panes.end(pane);
            }
            Some(known.start)
        });
        Ok(stretches(panes.collect()))
    }

    fn combine(&mut self, batch: &Batch, stretches: Vec<Stretch>) -> Result<()> {
        self.keyed.encode(&self.layout, &self.keys, batch)?;
        self.keyed.prepare(&self.layout, InputForm::Rows, 0, batch)?;
        for (pane, rows) in stretches {
            let pane = pane.expect("before the shuffle every row has a pane");
            self.store.add(pane, rows, InputForm::Rows, &self.keyed);
        }
        self.rows += batch.num_rows();
        self.born = self.born.into_iter().chain(batch.born).min();
        Ok(())
    }

    fn pass_on(&self, batch: &Batch, stretches: &[Stretch], out: &mut dyn Output) -> Result<()> {
        let mut columns: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        let panes = stretches.iter().flat_map(|(pane, rows)| std::iter::repeat_n(pane.unwrap_or(0), rows.len()));
        columns.push(Arc::new(Int64Array::from_iter_values(panes)));
        columns.extend(single_rows(&self.layout, batch)?);
        let mut partials = from_columns(&self.output, columns, batch.num_rows())?;
        partials.born = batch.born;
        out.emit(partials)
    }

    fn flush_all(&mut self, out: &mut dyn Output) -> Result<()> {
        if self.rows > 0 {
            self.reduction.learn(self.rows, self.store.len());
        }
        while let Some(pane) = self.store.tables.first_key_value().map(|(pane, _)| *pane) {
            self.flush(pane, out)?;
        }
        self.rows = 0;
        self.born = None;
        Ok(())
    }

    fn flush(&mut self, pane: i64, out: &mut dyn Output) -> Result<()> {
        let Some(table) = self.store.remove(pane) else { return Ok(()) };
        let mut partials = from_columns(&self.output, self.columns(pane, &table)?, table.len())?;
        partials.born = self.born;
        out.emit(partials)
    }

    fn columns(&self, pane: i64, table: &GroupTable) -> Result<Vec<ArrayRef>> {
        let rows = table.all();
        let panes = Int64Array::from_value(pane, rows.len());
        partial::rows_as_partials(&self.layout, &rows, vec![Arc::new(panes)])
    }
}

impl Operator for LocalPaneAggregate {
    fn process(&mut self, _input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let cut = self.cut(&batch)?;
        if self.reduction.course(batch.num_rows()) == Course::Pass {
            self.flush_all(out)?;
            return self.pass_on(&batch, &cut, out);
        }
        match better_order(&cut) {
            None => self.combine(&batch, cut)?,
            Some(order) => {
                let sorted = batch.take(&order)?;
                let cut = self.cut(&sorted)?;
                self.combine(&sorted, cut)?;
            }
        }
        let is_full =
            self.store.len() >= MOST_GROUPS || self.rows >= MOST_ROWS || self.store.used_bytes() >= MOST_BYTES;
        if is_full { self.flush_all(out) } else { Ok(()) }
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<()> {
        while let Some((&pane, table)) = self.store.tables.first_key_value() {
            if self.panes.first_end(pane).saturating_sub(1) > watermark.0 {
                break;
            }
            // What the pane's rows were is not known: their share of all rows tells enough.
            let rows = self.rows * table.len() / self.store.len().max(1);
            self.reduction.learn(rows, table.len());
            self.rows -= rows;
            self.flush(pane, out)?;
        }
        out.watermark(watermark)
    }

    fn on_idle(&mut self, out: &mut dyn Output) -> Result<()> {
        self.flush_all(out)
    }

    fn state_bytes(&self) -> usize {
        self.store.bytes()
    }
}
