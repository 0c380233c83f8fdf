//! Rows of groups as rows of state tables, and back.

use super::arena::{Arena, is_long};
use super::key::{KeyBatch, NULLS};
use super::layout::{KEY_GROUP, Kind, Layout, SEEN, Shape, flag};
use super::partial;
use super::rows::{RowBuffer, RowSet};
use crate::failure::{Failure, Result};
use crate::operator::snapshot::TableDelta;
use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use serde_json::json;
use std::sync::Arc;
use weir_protocol::KeyGroup;

/// The table of groups.
pub(super) const GROUPS: &str = "groups";

/// Names of the owner's words that are columns of the table, with their places in the row.
pub(super) type Extra = [(&'static str, usize)];

/// Rows as a delta: key columns, the owner's words, accumulators.
pub(super) fn delta(
    table: &str,
    layout: &Layout,
    rows: &RowSet<'_>,
    extra: &Extra,
    deleted: &dyn Fn(&[u64]) -> bool,
    key_groups: Vec<(KeyGroup, usize)>,
) -> Result<TableDelta> {
    let mut columns = layout.key.decode(rows)?;
    for (_, word) in extra {
        columns.push(Arc::new(Int64Array::from_iter_values(rows.column(*word).map(|value| value as i64))));
    }
    columns.extend(partial::export(layout, rows));
    let deleted: BooleanArray = rows.iter().map(|row| Some(deleted(row))).collect();
    Ok(TableDelta {
        table: table.to_owned(),
        rows: record_batch(fields(layout, extra), columns, rows.len())?,
        key_columns: layout.key.fields().count(),
        expires: None,
        deleted: (deleted.true_count() > 0).then_some(deleted),
        key_groups,
    })
}

/// The columns of [`delta`].
pub(super) fn fields(layout: &Layout, extra: &Extra) -> Vec<FieldRef> {
    let mut fields: Vec<FieldRef> = layout.key.fields().map(|field| key_field(field)).collect();
    fields.extend(extra.iter().map(|(name, _)| Arc::new(Field::new(*name, DataType::Int64, false))));
    fields.extend(partial::fields(layout));
    fields
}

/// A key column as a column of state: whether it can be null is no part of it.
pub(super) fn key_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_nullable(true))
}

pub(super) fn record_batch(fields: Vec<FieldRef>, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

/// Reads a delta: its keys, and rows without keys in `buffer`.
pub(super) fn read_delta(
    delta: &TableDelta,
    layout: &Layout,
    extra: &Extra,
    keys: &mut KeyBatch,
    buffer: &mut RowBuffer,
) -> Result<()> {
    let expected = fields(layout, extra);
    let columns = delta.rows.columns();
    let fits = columns.len() == expected.len()
        && columns.iter().zip(&expected).all(|(column, field)| column.data_type() == field.data_type());
    if !fits {
        let found = delta.rows.schema();
        return Err(Failure::user(format!(
            "the state table {} has the columns {found}, which do not fit the query any more", delta.table
        )));
    }
    let (key, values) = columns.split_at(layout.key.fields().count());
    layout.key.encode(key, delta.rows.num_rows(), keys)?;
    let (owner, accumulators) = values.split_at(extra.len());
    partial::import(layout, accumulators, delta.rows.num_rows(), buffer)?;
    for ((_, word), column) in extra.iter().zip(owner) {
        let values = column.as_primitive::<Int64Type>().values();
        for (row, value) in buffer.words.chunks_exact_mut(layout.stride).zip(values) {
            row[*word] = *value as u64;
        }
    }
    Ok(())
}

/// Replaces what a row holds apart from its key by what a row of a delta holds.
pub(super) fn overwrite(layout: &Layout, to: &mut [u64], arena: &mut Arena, from: &[u64], from_arena: &Arena) {
    to[0] = to[0] & (KEY_GROUP | NULLS | flag::DIRTY) | from[0] & SEEN;
    to[layout.extra..].copy_from_slice(&from[layout.extra..]);
    for accumulator in &layout.accumulators {
        let words = accumulator.word..accumulator.word + 2;
        if accumulator.kind.shape() == Some(Shape::Bytes) && is_long(from[words.start]) {
            let moved = arena.store(from_arena.long([from[words.start], from[words.start + 1]]));
            to[words].copy_from_slice(&moved);
        }
    }
}

/// Makes the accumulators those of a row that has seen nothing.
pub(super) fn reset(layout: &Layout, row: &mut [u64], arena: &mut Arena) {
    row[0] &= !SEEN;
    let (start, count) = layout.seen;
    row[start..start + count].fill(0);
    for accumulator in &layout.accumulators {
        let words = accumulator.word..accumulator.word + accumulator.kind.words();
        if matches!(accumulator.kind, Kind::Extreme(_, Shape::Bytes)) {
            arena.release([row[words.start], row[words.start + 1]]);
        }
        row[words.clone()].copy_from_slice(&layout.initial[words]);
    }
}

/// The description of a table: columns with types, how many of them are the key, what the accumulators gather, and, when
/// rows die by themselves, the column whose event time ends them.
pub(super) fn table_schema(table: &str, layout: &Layout, extra: &Extra, expires: Option<&str>) -> serde_json::Value {
    let column = |field: &FieldRef| json!({"name": field.name(), "type": field.data_type().to_string()});
    let accumulator = |one: &super::layout::Accumulator| {
        let argument = one.data_type.as_ref().map(ToString::to_string);
        json!({"gathers": format!("{:?}", one.kind), "argument": argument})
    };
    json!({
        "table": table,
        "key_columns": layout.key.fields().count(),
        "columns": fields(layout, extra).iter().map(column).collect::<Vec<_>>(),
        "accumulators": layout.accumulators.iter().map(accumulator).collect::<Vec<_>>(),
        "expires": expires,
    })
}
