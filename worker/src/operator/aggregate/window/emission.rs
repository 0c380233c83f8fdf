//! Collects the results of windows into batches: a window with many groups becomes several, small windows share one.

use super::super::arena::Arena;
use super::super::layout::Layout;
use super::super::result::results;
use super::super::rows::RowBuffer;
use super::super::value::from_words;
use crate::batch::from_columns;
use crate::failure::{Failure, Result};
use crate::operator::Output;
use crate::operator::window::Span;
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use std::sync::Arc;

/// Rows of a batch.
const ROWS: usize = 8192;

/// Results that are not emitted yet.
pub(super) struct Emission {
    layout: Arc<Layout>,
    schema: SchemaRef,
    rows: RowBuffer,
    spans: Vec<Span>,
}

impl Emission {
    /// For batches of keys, results, window start, window end and window time.
    pub(super) fn new(layout: Arc<Layout>, schema: SchemaRef) -> Result<Self> {
        let columns = layout.key.fields().count() + layout.results.len() + 3;
        if schema.fields().len() != columns {
            return Err(Failure::bug(format!("a window aggregate has {columns} columns, not {}", schema.fields().len())));
        }
        Ok(Self { layout, schema, rows: RowBuffer::default(), spans: Vec::new() })
    }

    /// Adds a group of a window.
    pub(super) fn push(&mut self, row: &[u64], arena: &Arena, span: Span, out: &mut dyn Output) -> Result<()> {
        self.rows.push(&self.layout, row, arena);
        self.spans.push(span);
        if self.spans.len() >= ROWS { self.flush(out) } else { Ok(()) }
    }

    /// Emits what was added.
    pub(super) fn flush(&mut self, out: &mut dyn Output) -> Result<()> {
        if self.spans.is_empty() {
            return Ok(());
        }
        let rows = self.rows.all(&self.layout);
        let mut columns = self.layout.key.decode(&rows)?;
        columns.extend(results(&self.layout, &rows)?);
        columns.push(self.times(columns.len(), |span| span.start)?);
        columns.push(self.times(columns.len(), |span| span.end)?);
        columns.push(self.times(columns.len(), |span| span.max_time().0)?);
        let batch = from_columns(&self.schema, columns, self.spans.len())?;
        self.rows.clear();
        self.spans.clear();
        out.emit(batch)
    }

    fn times(&self, column: usize, time: impl Fn(&Span) -> i64) -> Result<ArrayRef> {
        let data_type = self.schema.field(column).data_type();
        let units = match data_type {
            DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
            _ => 1,
        };
        from_words(self.spans.iter().map(|span| time(span).saturating_mul(units)).collect(), None, data_type)
    }
}
