//! A window table function whose rows are used as they are: each row once per window that contains it, with the window's
//! times behind its columns. It keeps no state and drops nothing, late or not.

use super::panes::Panes;
use super::times::{time_column, window_times};
use crate::batch::{Batch, from_columns};
use crate::failure::{Failure, Result};
use crate::operator::window::Span;
use crate::operator::{Operator, Output};
use crate::plan;
use arrow::array::UInt32Array;
use arrow::datatypes::SchemaRef;

/// Appends `window_start`, `window_end` and `window_time`.
pub struct WindowAssign {
    panes: Panes,
    time: usize,
    output: SchemaRef,
}

impl WindowAssign {
    /// Fails for sessions, which are known only once they have ended.
    pub fn new(spec: &plan::WindowAssign, output_schema: SchemaRef) -> Result<Self> {
        let panes = Panes::new(spec.window).ok_or_else(|| Failure::bug("rows are assigned to aligned windows only"))?;
        Ok(Self { panes, time: spec.time, output: output_schema })
    }

    fn windows(&self, time: i64) -> impl Iterator<Item = Span> {
        let pane = self.panes.start(time);
        let ends = std::iter::successors(self.panes.next_end(pane, i64::MIN), move |end| {
            self.panes.next_end(pane, end.saturating_sub(1)).filter(|next| next > end)
        });
        ends.map(|end| Span { start: self.panes.window_start(end), end })
    }
}

impl Operator for WindowAssign {
    fn process(&mut self, _input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let times = time_column(&batch, self.time)?;
        let (mut rows, mut spans) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
        for (row, time) in times.iter().enumerate() {
            for span in self.windows(*time) {
                rows.push(row as u32);
                spans.push(span);
            }
        }
        let taken = batch.take(&UInt32Array::from(rows))?;
        let mut columns = taken.rows.columns().to_vec();
        columns.extend(window_times(&spans, &self.output, columns.len())?);
        let assigned = from_columns(&self.output, columns, spans.len())?;
        out.emit(taken.with_rows(assigned.rows))
    }
}
