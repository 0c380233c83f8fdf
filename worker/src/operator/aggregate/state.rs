//! Rows of groups as rows of state tables, and back.

use super::arena::{Arena, is_long};
use super::key::{KeyBatch, NULLS};
use super::layout::{Accumulator, KEY_GROUP, Kind, Layout, SEEN, Shape, flag};
use super::partial;
use super::rows::{Columns, RowBuffer};
use crate::failure::{Failure, Result};
use crate::format::sql_type;
use crate::operator::legend::{Column, Holds, Legend, Role};
use crate::operator::snapshot::TableDelta;
use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, TimeUnit};
use serde_json::json;
use std::sync::Arc;
use weir_protocol::KeyGroup;

/// A column of the table that belongs to the table's owner, a `BIGINT`, and whether it is part of the key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owned {
    /// The column's name.
    pub(super) name: &'static str,
    /// Whether it is part of the key.
    pub(super) is_key: bool,
    /// What it means, for people.
    pub(super) means: Means,
}

/// What a column of the table's owner means: its name for people.
#[derive(Debug, Clone, Copy)]
pub(super) enum Means {
    /// An event time at which something begins.
    Start(&'static str),
    /// The event time at which the row dies.
    Expiry(&'static str),
    /// A time of the process's clock.
    Used(&'static str),
    /// A number of rows.
    Rows(&'static str),
    /// Nothing, as the query is now.
    Nothing,
}

/// The shape of a table of groups: keys, the owner's columns (those of the key first), accumulators.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    /// Its name.
    pub(super) name: &'static str,
    /// The layout of its rows.
    pub(super) layout: &'a Layout,
    /// The owner's columns.
    pub(super) owned: &'a [Owned],
    /// The owner's column at whose event time a row dies.
    pub(super) expires: Option<usize>,
}

impl Table<'_> {
    /// The words of a row that [`delta`](Self::delta) needs.
    pub(super) fn words(&self) -> impl Iterator<Item = usize> {
        self.layout.key.decoded_words().chain(partial::exported_words(self.layout))
    }

    /// Rows, whose strings lie in `arena`, as a delta, with the values of the owner's columns.
    pub(super) fn delta(
        &self,
        (rows, arena): (&mut Columns, &Arena),
        owned: Vec<Vec<i64>>,
        deleted: Option<BooleanArray>,
        key_groups: Vec<(KeyGroup, usize)>,
        dead: Option<usize>,
    ) -> Result<TableDelta> {
        let mut columns = self.layout.key.decode(rows, arena)?;
        columns.extend(owned.into_iter().map(|values| Arc::new(Int64Array::from(values)) as ArrayRef));
        columns.extend(partial::export(self.layout, rows, arena));
        Ok(TableDelta {
            table: self.name.to_owned(),
            rows: record_batch(self.fields(), columns, rows.len())?,
            key_columns: self.key_columns(),
            expires: self.expires.map(|place| self.keys() + place),
            deleted: deleted.filter(|deleted| deleted.true_count() > 0),
            key_groups,
            dead,
        })
    }

    /// Reads a delta: its keys, its rows without keys in `buffer`, and the owner's columns.
    pub(super) fn read(
        &self,
        delta: &TableDelta,
        keys: &mut KeyBatch,
        buffer: &mut RowBuffer,
    ) -> Result<Vec<ScalarBuffer<i64>>> {
        let expected = self.fields();
        let columns = delta.rows.columns();
        let fits = columns.len() == expected.len()
            && columns.iter().zip(&expected).all(|(column, field)| column.data_type() == field.data_type());
        if !fits {
            let found = delta.rows.schema();
            return Err(Failure::user(format!(
                "the state table {} has the columns {found}, which do not fit the query any more",
                delta.table
            )));
        }
        let (key, values) = columns.split_at(self.keys());
        self.layout.key.encode(key, delta.rows.num_rows(), keys)?;
        let (owned, accumulators) = values.split_at(self.owned.len());
        partial::import(self.layout, accumulators, delta.rows.num_rows(), buffer)?;
        Ok(owned.iter().map(|column| column.as_primitive::<Int64Type>().values().clone()).collect())
    }

    /// The description of the table: columns with types, how many of them are the key, what the accumulators gather, and,
    /// when rows die by themselves, the column whose event time ends them.
    pub(super) fn schema(&self) -> serde_json::Value {
        let column = |field: &FieldRef| json!({"name": field.name(), "type": sql_type(field.data_type())});
        let accumulator =
            |one: &Accumulator| json!({"gathers": one.kind.name(), "argument": one.data_type.as_ref().map(sql_type)});
        json!({
            "table": self.name,
            "key_columns": self.key_columns(),
            "columns": self.fields().iter().map(column).collect::<Vec<_>>(),
            "accumulators": self.layout.accumulators.iter().map(accumulator).collect::<Vec<_>>(),
            "expires": self.expires.map(|place| self.owned[place].name),
        })
    }

    /// What the columns mean, when event time has this type.
    pub(super) fn legend(&self, event_time: &DataType) -> Legend {
        let key = |(at, field): (usize, &FieldRef)| Column::plain(field.name(), Role::Key, field.data_type(), at);
        let mut columns: Vec<Column> = self.layout.key.fields().enumerate().map(key).collect();
        let clock = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        for (at, owned) in self.owned.iter().enumerate() {
            let (role, name, data_type) = match owned.means {
                Means::Start(name) => (Role::Start, name, event_time),
                Means::Expiry(name) => (Role::Expiry, name, event_time),
                Means::Used(name) => (Role::Used, name, &clock),
                Means::Rows(name) => (Role::Rows, name, &DataType::Int64),
                Means::Nothing => continue,
            };
            let holds = if role == Role::Rows { Holds::Plain } else { Holds::Milliseconds };
            columns.push(Column { holds, ..Column::plain(name, role, data_type, self.keys() + at) });
        }
        columns.extend(partial::legend(self.layout, self.keys() + self.owned.len()));
        Legend::new(self.name, columns)
    }

    fn keys(&self) -> usize {
        self.layout.key.fields().count()
    }

    fn key_columns(&self) -> usize {
        self.keys() + self.owned.iter().filter(|column| column.is_key).count()
    }

    fn fields(&self) -> Vec<FieldRef> {
        let mut fields: Vec<FieldRef> = self.layout.key.fields().map(key_field).collect();
        fields.extend(self.owned.iter().map(|column| Arc::new(Field::new(column.name, DataType::Int64, false))));
        fields.extend(partial::fields(self.layout));
        fields
    }
}

/// A key column as a column of state: whether it can be null is no part of it.
pub(super) fn key_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_nullable(true))
}

pub(super) fn record_batch(fields: Vec<FieldRef>, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
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
