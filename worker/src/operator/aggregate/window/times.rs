//! The event times of a batch, and what windows count.

use super::super::value::{from_words, to_words};
use crate::batch::Batch;
use crate::failure::{Failure, Result};
use crate::operator::Counter;
use crate::operator::window::Span;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit};
use std::collections::BTreeMap;

/// The counter of late rows in a snapshot.
pub(super) const LATE_ROWS: &str = "late_rows";

/// The event times in milliseconds. Null is the user's mistake.
pub(super) fn time_column(batch: &Batch, column: usize) -> Result<ScalarBuffer<i64>> {
    let times = batch.column(column);
    let schema = batch.schema();
    let field = schema.field(column);
    if !matches!(field.data_type(), DataType::Timestamp(TimeUnit::Millisecond, _)) {
        return Err(Failure::bug(format!("event time {} has the type {}", field.name(), field.data_type())));
    }
    if times.null_count() > 0 {
        return Err(Failure::user(format!(
            "the event time {} of a row is null, so the row is in no window: filter such rows out, for example by \
             WHERE {} IS NOT NULL",
            field.name(),
            field.name()
        )));
    }
    to_words(times)
}

/// A column of milliseconds that a local part has added.
pub(super) fn pane_column(batch: &Batch, column: usize) -> Result<ScalarBuffer<i64>> {
    let other = || Failure::bug("a local window aggregate sent no column of times");
    let times = batch.rows.columns().get(column).and_then(|column| column.as_primitive_opt::<Int64Type>());
    Ok(times.ok_or_else(other)?.values().clone())
}

/// The counters of a snapshot.
pub(super) fn late_counter(late_rows: &Counter) -> BTreeMap<String, u64> {
    BTreeMap::from([(LATE_ROWS.to_owned(), late_rows.get())])
}

/// `window_start`, `window_end` and `window_time`, which are the columns of `schema` from `first` on.
pub(super) fn window_times(spans: &[Span], schema: &Schema, first: usize) -> Result<[ArrayRef; 3]> {
    let column = |number: usize, time: fn(&Span) -> i64| {
        let data_type = schema.field(first + number).data_type();
        let units = match data_type {
            DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
            _ => 1,
        };
        from_words(spans.iter().map(|span| time(span).saturating_mul(units)).collect(), None, data_type)
    };
    Ok([column(0, |span| span.start)?, column(1, |span| span.end)?, column(2, |span| span.max_time().0)?])
}
