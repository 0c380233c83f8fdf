//! Collects the results of windows into batches: a window with many groups becomes several, small windows share one.

use super::super::arena::Arena;
use super::super::layout::Layout;
use super::super::result::results;
use super::super::rows::RowBuffer;
use super::times::window_times;
use crate::batch::from_columns;
use crate::failure::{Failure, Result};
use crate::operator::Output;
use crate::operator::window::Span;
use arrow::datatypes::SchemaRef;
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
            return Err(Failure::bug(format!(
                "a window aggregate has {columns} columns, not {}",
                schema.fields().len()
            )));
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
        let mut columns = self.layout.key.decode_rows(&rows)?;
        columns.extend(results(&self.layout, &rows)?);
        columns.extend(window_times(&self.spans, &self.schema, columns.len())?);
        let batch = from_columns(&self.schema, columns, self.spans.len())?;
        self.rows.clear();
        self.spans.clear();
        out.emit(batch)
    }
}
