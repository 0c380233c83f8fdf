//! Pre-aggregation of SESSION before the keyed shuffle: rows of a key that touch become one row.
//!
//! It changes no verdict. A watermark may be held back while input flows, but rows and watermarks reach the keyed operator
//! in an order that it cannot tell from the true one:
//! - before a row that could touch a session which a held watermark ends, the sessions and the watermark go;
//! - a watermark passes at once when no session in hand could touch one that it ends;
//! - a row that could be late under the last watermark goes alone, after all sessions in hand.

use super::super::group_aggregate::InputForm;
use super::super::layout::Layout;
use super::super::local::{MOST_BYTES, MOST_GROUPS, MOST_ROWS, schema_of, single_rows};
use super::super::partial;
use super::super::reduction::{Course, Reduction};
use super::pane_store::Keyed;
use super::session_store::{Addition, SessionStore, Spans};
use super::times::time_column;
use crate::batch::{Batch, from_columns};
use crate::failure::Result;
use crate::operator::{Operator, OperatorContext, Output};
use crate::plan;
use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use weir_protocol::EventTime;

/// The operator before the shuffle of SESSION.
pub struct LocalSessionAggregate {
    layout: Arc<Layout>,
    gap_ms: i64,
    keys: Vec<usize>,
    time: usize,
    output: SchemaRef,
    store: SessionStore,
    keyed: Keyed,
    rows: usize,
    least_start: i64,
    born: Option<Instant>,
    held: Option<EventTime>,
    passed: EventTime,
    reduction: Reduction,
}

/// The columns between keys and accumulators.
pub(super) fn between() -> Vec<FieldRef> {
    ["$start", "$end"].map(|name| Arc::new(Field::new(name, DataType::Int64, false))).to_vec()
}

impl LocalSessionAggregate {
    /// The pre-aggregation of rows of the schema `input_schema`.
    pub fn new(
        spec: &plan::WindowAggregate,
        gap_ms: i64,
        input_schema: &SchemaRef,
        context: &OperatorContext,
    ) -> Result<Self> {
        let layout = Arc::new(Layout::windowed(input_schema, &spec.keys, &spec.calls, SessionStore::EXTRA)?);
        Ok(Self {
            gap_ms,
            keys: spec.keys.clone(),
            time: spec.time,
            output: schema_of(&layout, between()),
            store: SessionStore::new(Arc::clone(&layout), context.max_parallelism),
            layout,
            keyed: Keyed::default(),
            rows: 0,
            least_start: i64::MAX,
            born: None,
            held: None,
            passed: EventTime::MIN,
            reduction: Reduction::default(),
        })
    }

    fn combine(&mut self, batch: &Batch, spans: &Spans, rows: Range<usize>) {
        let least = spans.starts[rows.clone()].iter().copied().min().unwrap_or(i64::MAX);
        self.least_start = self.least_start.min(least);
        self.rows += rows.len();
        self.born = self.born.into_iter().chain(batch.born).min();
        let addition = Addition { keyed: &self.keyed, form: InputForm::Rows, spans, rows };
        self.store.add(&addition, |_, _| false, |_| {});
        self.store.opened.clear();
    }

    fn pass_on(&self, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        let starts = time_column(batch, self.time)?;
        let ends = starts.iter().map(|start| start.saturating_add(self.gap_ms));
        let mut columns: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        let ends = Int64Array::from_iter_values(ends);
        columns.extend([Arc::new(Int64Array::new(starts, None)) as ArrayRef, Arc::new(ends)]);
        columns.extend(single_rows(&self.layout, batch)?);
        let mut partials = from_columns(&self.output, columns, batch.num_rows())?;
        partials.born = batch.born;
        out.emit(partials)
    }

    fn flush(&mut self, out: &mut dyn Output) -> Result<()> {
        if self.rows > 0 {
            let sessions: Vec<u32> =
                (0..self.store.table.rows() as u32).filter(|session| self.store.is_session(*session)).collect();
            let rows = self.store.table.pick(&sessions);
            let spans = || sessions.iter().map(|session| self.store.span(*session));
            let starts = Int64Array::from_iter_values(spans().map(|span| span.start));
            let ends = Int64Array::from_iter_values(spans().map(|span| span.end));
            let columns = partial::rows_as_partials(&self.layout, &rows, vec![Arc::new(starts), Arc::new(ends)])?;
            let mut partials = from_columns(&self.output, columns, rows.len())?;
            partials.born = self.born.take();
            self.reduction.learn(self.rows, rows.len());
            self.store.clear();
            (self.rows, self.least_start) = (0, i64::MAX);
            out.emit(partials)?;
        }
        match self.held.take() {
            Some(watermark) => self.pass_watermark(watermark, out),
            None => Ok(()),
        }
    }

    fn pass_watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<()> {
        self.passed = self.passed.max(watermark);
        out.watermark(watermark)
    }
}

impl Operator for LocalSessionAggregate {
    fn process(&mut self, _input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let spans = Spans { starts: time_column(&batch, self.time)?, ends: None, gap_ms: self.gap_ms };
        let least = spans.starts.iter().copied().min().unwrap_or(i64::MAX);
        let meets_held = self.held.is_some_and(|held| least <= held.0.saturating_add(1));
        let course = self.reduction.course(batch.num_rows());
        if meets_held || course == Course::Pass {
            self.flush(out)?;
        }
        if course == Course::Pass {
            return self.pass_on(&batch, out);
        }
        self.keyed.encode(&self.layout, &self.keys, &batch)?;
        self.keyed.prepare(&self.layout, InputForm::Rows, 0, &batch)?;
        for (may_be_late, rows) in runs(&spans, self.passed, batch.num_rows()) {
            if may_be_late {
                self.flush(out)?;
                self.pass_on(&batch.slice(rows.start, rows.len()), out)?;
            } else {
                self.combine(&batch, &spans, rows);
            }
        }
        let table = &self.store.table;
        let is_full = table.rows() >= MOST_GROUPS || self.rows >= MOST_ROWS || table.used_bytes() >= MOST_BYTES;
        if is_full { self.flush(out) } else { Ok(()) }
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<()> {
        if self.least_start > watermark.0.saturating_add(1) {
            self.held = None;
            return self.pass_watermark(watermark, out);
        }
        self.held = Some(watermark);
        if watermark == EventTime::MAX { self.flush(out) } else { Ok(()) }
    }

    fn on_idle(&mut self, out: &mut dyn Output) -> Result<()> {
        self.flush(out)
    }

    fn state_bytes(&self) -> usize {
        self.store.table.bytes()
    }
}

/// Cuts the rows into runs of those that could be late under `passed` and those that cannot.
fn runs(spans: &Spans, passed: EventTime, rows: usize) -> Vec<(bool, Range<usize>)> {
    let mut runs: Vec<(bool, Range<usize>)> = Vec::new();
    for row in 0..rows {
        let may_be_late = spans.of(row).max_time() <= passed;
        match runs.last_mut().filter(|(last, _)| *last == may_be_late) {
            Some((_, run)) => run.end = row + 1,
            None => runs.push((may_be_late, row..row + 1)),
        }
    }
    runs
}
