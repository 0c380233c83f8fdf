//! Appends `window_start`, `window_end` and `window_time` to rows, once per window that a row falls in.

use super::{Operator, Output};
use crate::batch::{self, Batch};
use crate::failure::{Failure, Result};
use crate::operator::window::Window;
use crate::plan::WindowAssign;
use arrow::array::{Array, ArrayRef, AsArray, TimestampMillisecondArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMillisecondType};
use std::sync::Arc;

/// A window table function whose rows are used as they are.
pub struct WindowAssignOperator {
    window: Window,
    time: usize,
    schema: SchemaRef,
}

impl WindowAssignOperator {
    /// For rows whose output has the columns of `schema`.
    #[must_use]
    pub fn new(assign: &WindowAssign, schema: SchemaRef) -> Self {
        Self { window: assign.window, time: assign.time, schema }
    }

    fn column(&self, place: usize, values: Vec<i64>) -> Result<ArrayRef> {
        let array: ArrayRef = Arc::new(TimestampMillisecondArray::from(values));
        Ok(cast(&array, self.schema.field(place).data_type())?)
    }
}

impl Operator for WindowAssignOperator {
    fn process(&mut self, _input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let times = cast(batch.column(self.time), &DataType::Timestamp(TimeUnit::Millisecond, None))?;
        let times = times.as_primitive::<TimestampMillisecondType>();
        if times.null_count() > 0 {
            return Err(Failure::user("the event-time column is NULL in a row, which then falls in no window"));
        }
        let (mut rows, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (row, time) in times.values().iter().enumerate() {
            for span in self.window.spans(*time) {
                rows.push(row as u32);
                starts.push(span.start);
                ends.push(span.end);
            }
        }
        let spread = batch.take(&UInt32Array::from(rows))?;
        let first = spread.rows.num_columns();
        let lasts = ends.iter().map(|end| end - 1).collect();
        let mut columns = spread.rows.columns().to_vec();
        for (place, values) in [starts, ends, lasts].into_iter().enumerate() {
            columns.push(self.column(first + place, values)?);
        }
        let assigned = batch::from_columns(&self.schema, columns, spread.num_rows())?;
        out.emit(spread.with_rows(assigned.rows))
    }
}
