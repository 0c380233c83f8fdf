//! The state table of the values behind one `MIN` or `MAX` of a changelog: (key, value) → count.

use super::arena::Arena;
use super::group_table::{GroupTable, count_run};
use super::key::{KeyBatch, as_bytes, bytes, decimals};
use super::layout::{Layout, Shape};
use super::multiset::Value;
use super::rows::RowSet;
use super::state::{key_field, record_batch};
use super::value::{from_words, to_words};
use crate::failure::{Failure, Result};
use crate::format::sql_type;
use crate::operator::legend::{Column, Legend, Role};
use crate::operator::snapshot::TableDelta;
use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type};
use serde_json::json;
use std::sync::Arc;
use weir_protocol::KeyGroup;

/// Changed values, by key group.
#[derive(Default)]
pub(super) struct Changed {
    groups: Vec<u32>,
    values: Vec<(Value, i64)>,
    key_groups: Vec<(KeyGroup, usize)>,
}

/// The table's name.
pub(super) fn table_name(accumulator: usize) -> String {
    format!("values{accumulator}")
}

impl Changed {
    /// Adds a value of a group. Groups come in the order of their key groups.
    pub(super) fn push(&mut self, group: u32, key_group: u16, value: Value, count: i64) {
        self.groups.push(group);
        self.values.push((value, count));
        count_run(&mut self.key_groups, KeyGroup(key_group));
    }

    /// The delta; `None` when nothing changed.
    pub(super) fn into_delta(
        self,
        layout: &Layout,
        table: &GroupTable,
        accumulator: usize,
    ) -> Result<Option<TableDelta>> {
        if self.groups.is_empty() {
            return Ok(None);
        }
        let mut columns = layout.key.decode_rows(&table.pick(&self.groups))?;
        columns.push(value_column(&self.values, layout, accumulator)?);
        columns.push(Arc::new(Int64Array::from_iter_values(self.values.iter().map(|(_, count)| *count))));
        let deleted: BooleanArray = self.values.iter().map(|(_, count)| Some(*count == 0)).collect();
        let fields = fields(layout, accumulator);
        Ok(Some(TableDelta {
            table: table_name(accumulator),
            key_columns: fields.len() - 1,
            rows: record_batch(fields, columns, self.groups.len())?,
            expires: None,
            deleted: (deleted.true_count() > 0).then_some(deleted),
            key_groups: self.key_groups,
            dead: None,
        }))
    }
}

/// Encodes the keys of a delta's rows and returns their values with counts, 0 for deleted ones.
pub(super) fn read(
    delta: &TableDelta,
    layout: &Layout,
    accumulator: usize,
    keys: &mut KeyBatch,
) -> Result<Vec<(Value, i64)>> {
    let expected = fields(layout, accumulator);
    let columns = delta.rows.columns();
    let fits = columns.len() == expected.len()
        && columns.iter().zip(&expected).all(|(column, field)| column.data_type() == field.data_type());
    if !fits {
        return Err(Failure::user(format!("the state table {} does not fit the query any more", delta.table)));
    }
    let rows = delta.rows.num_rows();
    layout.key.encode(&columns[..expected.len() - 2], rows, keys)?;
    let values = values(&columns[expected.len() - 2])?;
    let counts = columns[expected.len() - 1].as_primitive::<Int64Type>().values();
    let is_deleted = |row: usize| delta.deleted.as_ref().is_some_and(|deleted| deleted.value(row));
    Ok(values
        .into_iter()
        .zip(counts)
        .enumerate()
        .map(|(row, (value, count))| (value, if is_deleted(row) { 0 } else { *count }))
        .collect())
}

/// The table's description.
pub(super) fn table_schema(layout: &Layout, accumulator: usize) -> serde_json::Value {
    let fields = fields(layout, accumulator);
    let column = |field: &FieldRef| json!({"name": field.name(), "type": sql_type(field.data_type())});
    json!({
        "table": table_name(accumulator),
        "key_columns": fields.len() - 1,
        "columns": fields.iter().map(column).collect::<Vec<_>>(),
    })
}

/// What its columns mean.
pub(super) fn legend(layout: &Layout, accumulator: usize) -> Legend {
    let fields = fields(layout, accumulator);
    let keys = fields.len() - 2;
    let column = |(at, field): (usize, &FieldRef)| {
        let value = format!("value of {}", layout.accumulators[accumulator].name);
        let (name, role) = match at.checked_sub(keys) {
            None => (field.name().as_str(), Role::Key),
            Some(0) => (value.as_str(), Role::Value),
            Some(_) => ("rows", Role::Rows),
        };
        Column::plain(name, role, field.data_type(), at)
    };
    Legend::new(&table_name(accumulator), fields.iter().enumerate().map(column).collect())
}

fn fields(layout: &Layout, accumulator: usize) -> Vec<FieldRef> {
    let mut fields: Vec<FieldRef> = layout.key.fields().map(key_field).collect();
    fields.push(Arc::new(Field::new("$value", value_type(layout, accumulator).clone(), false)));
    fields.push(Arc::new(Field::new("$count", DataType::Int64, false)));
    fields
}

fn value_type(layout: &Layout, accumulator: usize) -> &DataType {
    layout.accumulators[accumulator].data_type.as_ref().expect("least and greatest have an argument")
}

fn value_column(values: &[(Value, i64)], layout: &Layout, accumulator: usize) -> Result<ArrayRef> {
    let (mut words, mut arena) = (Vec::with_capacity(values.len() * 2), Arena::default());
    for (value, _) in values {
        words.extend(match value {
            Value::Word(word) => [*word as u64, 0],
            Value::Decimal(value) => [*value as u64, (*value >> 64) as u64],
            Value::Bytes(bytes) => arena.store(bytes),
        });
    }
    let rows = RowSet { words: &words, stride: 2, picks: None, arena: &arena };
    let data_type = value_type(layout, accumulator);
    match layout.accumulators[accumulator].kind.shape() {
        Some(Shape::Decimal) => decimals(rows.pairs(0), None, data_type),
        Some(Shape::Bytes) => Ok(bytes(rows.pairs(0), &arena, None, data_type)),
        _ => from_words(rows.column(0).map(|word| word as i64).collect(), None, data_type),
    }
}

fn values(column: &ArrayRef) -> Result<Vec<Value>> {
    Ok(match Shape::of(column.data_type()) {
        Some(Shape::Decimal) => {
            column.as_primitive::<Decimal128Type>().values().iter().map(|value| Value::Decimal(*value)).collect()
        }
        Some(Shape::Bytes) => {
            as_bytes(column).iter().map(|value| Value::Bytes(value.unwrap_or_default().into())).collect()
        }
        _ => to_words(column)?.iter().map(|word| Value::Word(*word)).collect(),
    })
}
