//! What the columns of a state table mean, for people who look at exported state.
//!
//! State tables hold accumulators as words. A legend says how readable columns are made of them; it goes with each
//! checkpoint, so that state can be read without the plan that wrote it. It is no part of what decides whether a changed
//! query fits a state: names in it may change.

use super::aggregate::value::from_words;
use crate::failure::{Failure, Result};
use crate::format::{scalar_type, sql_type};
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Decimals have at most this many digits.
const DECIMAL_END: i128 = 10_i128.pow(38);

/// The readable columns of one state table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Legend {
    /// The table's name within its operator.
    pub table: String,
    /// Its readable columns.
    pub columns: Vec<Column>,
}

/// One readable column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, unique in the table.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// Its type, as SQL calls it.
    #[serde(rename = "type")]
    pub sql_type: String,
    /// The first of the state's columns that it is made of.
    pub from: usize,
    /// How these hold it.
    pub holds: Holds,
    /// What tells that it is not null, where the state's column does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<Present>,
}

/// What a column is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// A column of the key.
    Key,
    /// The beginning of a window or of a part of one.
    Start,
    /// When the row dies by itself.
    Expiry,
    /// When the row was used last.
    Used,
    /// What an aggregate function has gathered.
    Accumulator,
    /// A value that an aggregate function has to remember.
    Value,
    /// How many rows of the input are behind it.
    Rows,
}

/// How columns of the state hold a readable one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Holds {
    /// As it is.
    Plain,
    /// Milliseconds since 1970.
    Milliseconds,
    /// One word, an integer.
    Integer,
    /// One word, the bits of a float.
    FloatBits,
    /// One word whose order is that of the values.
    Ordered,
    /// Two words, the low one first.
    Decimal,
    /// Three words, the lowest first: null where the value has more than 38 digits.
    WideDecimal,
}

/// What tells that a value is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Present {
    /// A bit of a column of words: the column, the bit's number.
    Bit(usize, u32),
    /// A column that counts values is not zero.
    Count(usize),
}

impl Legend {
    /// A legend whose columns have names of their own: one that is there already gets a number.
    #[must_use]
    pub fn new(table: &str, mut columns: Vec<Column>) -> Self {
        let mut taken = BTreeSet::from([KEY_GROUP.to_owned()]);
        for column in &mut columns {
            let wanted = column.name.clone();
            let mut number = 2;
            while !taken.insert(column.name.clone()) {
                column.name = format!("{wanted}_{number}");
                number += 1;
            }
        }
        Self { table: table.to_owned(), columns }
    }

    /// A legend that shows the columns of the state as they are, the first `keys` of them as its key.
    #[must_use]
    pub fn plain(table: &str, schema: &Schema, keys: usize) -> Self {
        let columns = schema.fields().iter().enumerate().map(|(from, field)| {
            let role = if from < keys { Role::Key } else { Role::Accumulator };
            Column::plain(field.name(), role, field.data_type(), from)
        });
        Self::new(table, columns.collect())
    }

    /// Rows of the state as readable columns. Fails with kind `Corrupt` when they are not what the legend says.
    pub fn read(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.columns.iter().map(|column| column.read(rows)).collect::<Result<Vec<_>>>()?;
        let fields = self.columns.iter().zip(&columns);
        let fields: Vec<Field> =
            fields.map(|(column, values)| Field::new(&column.name, values.data_type().clone(), true)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }

    /// The readable columns of rows of this schema.
    pub fn schema(&self, rows: &SchemaRef) -> Result<SchemaRef> {
        Ok(self.read(&RecordBatch::new_empty(Arc::clone(rows)))?.schema())
    }
}

/// The name of the column that export adds to each table.
pub const KEY_GROUP: &str = "key_group";

impl Column {
    /// A column that is as it is.
    #[must_use]
    pub fn plain(name: &str, role: Role, data_type: &DataType, from: usize) -> Self {
        let sql_type = sql_type(data_type);
        Self { name: name.to_owned(), role, sql_type, from, holds: Holds::Plain, present: None }
    }

    fn read(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        if self.holds == Holds::Plain {
            return Ok(Arc::clone(self.column(rows, self.from)?));
        }
        let nulls = self.nulls(rows)?;
        match self.holds {
            Holds::Plain => unreachable!("it was returned as it is"),
            Holds::Milliseconds => {
                let times = self.column(rows, self.from)?;
                times.as_primitive_opt::<Int64Type>().ok_or_else(|| self.misfit("no times"))?;
                cast(times, &self.data_type()?).map_err(|error| self.misfit("times").because(error))
            }
            Holds::Integer => {
                let values = self.words(rows, self.from)?.values().iter().map(|word| *word as i64);
                Ok(Arc::new(Int64Array::new(values.collect(), nulls)))
            }
            Holds::FloatBits => {
                let values = self.words(rows, self.from)?.values().iter().map(|word| f64::from_bits(*word));
                Ok(Arc::new(Float64Array::new(values.collect(), nulls)))
            }
            Holds::Ordered => {
                let values = self.words(rows, self.from)?.values().iter().map(|word| *word as i64).collect();
                from_words(values, nulls, &self.data_type()?).map_err(|failure| self.misfit("a type").because(failure))
            }
            Holds::Decimal | Holds::WideDecimal => self.decimals(rows, nulls.as_ref()),
        }
    }

    fn decimals(&self, rows: &RecordBatch, nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
        let DataType::Decimal128(precision, scale) = self.data_type()? else {
            return Err(self.misfit("no decimal"));
        };
        let (low, high) = (self.words(rows, self.from)?, self.words(rows, self.from + 1)?);
        let top = if self.holds == Holds::WideDecimal { Some(self.words(rows, self.from + 2)?) } else { None };
        let value = |row: usize| {
            let value = i128::from(low.value(row)) | (i128::from(high.value(row)) << 64);
            let fits = top.is_none_or(|top| top.value(row) as i64 == (value >> 127) as i64);
            let is_there = nulls.is_none_or(|nulls| nulls.is_valid(row));
            (fits && is_there && -DECIMAL_END < value && value < DECIMAL_END).then_some(value)
        };
        let values: Decimal128Array = (0..rows.num_rows()).map(value).collect();
        let typed = values.with_precision_and_scale(precision, scale);
        Ok(Arc::new(typed.map_err(|error| self.misfit("a decimal").because(error))?))
    }

    fn nulls(&self, rows: &RecordBatch) -> Result<Option<NullBuffer>> {
        let present: BooleanBuffer = match self.present {
            None => return Ok(None),
            Some(Present::Bit(column, bit)) => {
                let shift = bit.min(u64::BITS - 1);
                self.words(rows, column)?.values().iter().map(|word| word >> shift & 1 == 1).collect()
            }
            Some(Present::Count(column)) => self.words(rows, column)?.values().iter().map(|word| *word != 0).collect(),
        };
        Ok(Some(NullBuffer::new(present)))
    }

    fn data_type(&self) -> Result<DataType> {
        scalar_type(&self.sql_type).ok_or_else(|| self.misfit("an unknown type"))
    }

    fn words<'a>(&self, rows: &'a RecordBatch, column: usize) -> Result<&'a UInt64Array> {
        self.column(rows, column)?.as_primitive_opt::<UInt64Type>().ok_or_else(|| self.misfit("no words"))
    }

    fn column<'a>(&self, rows: &'a RecordBatch, column: usize) -> Result<&'a ArrayRef> {
        rows.columns().get(column).ok_or_else(|| self.misfit("no such column"))
    }

    fn misfit(&self, what: &str) -> Failure {
        Failure::corrupt(format!("the state has {what} where its legend has {} {}", self.name, self.sql_type))
    }
}
