//! How columns of rows are stored: text without views, whole numbers as narrow as they may be.
//!
//! Slices of views would drag whole buffers along, so text is stored as `Utf8`. Of a column of 64-bit numbers without
//! nulls, as keys and accumulators mostly are, the least is stored once and of each how far it is above, in 8, 16 or 32
//! bits where these hold it: that is quicker than to have zeros compressed, and little is left to compress. A field's
//! metadata tells what it was.

use crate::failure::{Failure, Result};
use crate::operator::snapshot::TableDelta;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Int64Type, Schema, SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use std::collections::HashMap;
use std::sync::Arc;

const DELETED: &str = "__deleted";
const VIEW: &str = "weir.view";
/// The least value of a narrowed column, as the bits of a `u64`, by what the column was.
const LEAST_SIGNED: &str = "weir.least.signed";
const LEAST_UNSIGNED: &str = "weir.least.unsigned";

/// The rows of a delta as they are stored, with a column that tells which of them delete.
pub(super) fn of_delta(delta: &TableDelta) -> Result<RecordBatch> {
    let deleted = delta.deleted.as_ref().map(|deleted| (DELETED, Arc::new(deleted.clone()) as ArrayRef));
    stored(&delta.rows, deleted)
}

/// Rows as they are stored: text without views, and what else is to be known of each as a last column.
pub(super) fn stored(rows: &RecordBatch, mark: Option<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let stored = match column.data_type() {
            DataType::Utf8View => Some(DataType::Utf8),
            DataType::BinaryView => Some(DataType::Binary),
            _ => None,
        };
        match stored {
            None => {
                fields.push(field.as_ref().clone());
                columns.push(Arc::clone(column));
            }
            Some(stored) => {
                let metadata = HashMap::from([(VIEW.to_owned(), "true".to_owned())]);
                columns.push(compute::cast(column, &stored)?);
                fields.push(Field::new(field.name(), stored, field.is_nullable()).with_metadata(metadata));
            }
        }
    }
    if let Some((name, mark)) = mark {
        fields.push(Field::new(name, mark.data_type().clone(), false));
        columns.push(mark);
    }
    batch(Arc::new(Schema::new(fields)), columns, rows.num_rows())
}

/// The rows of a delta, and which of them delete.
pub(super) fn to_delta(rows: &RecordBatch) -> Result<(RecordBatch, Option<BooleanArray>)> {
    let (rows, deleted) = unstored(rows, DELETED)?;
    Ok((rows, deleted.and_then(|deleted| deleted.as_boolean_opt().cloned())))
}

/// Rows as they were before they were stored, and what `mark` says of each.
pub(super) fn unstored(rows: &RecordBatch, mark: &str) -> Result<(RecordBatch, Option<ArrayRef>)> {
    let count = rows.num_rows();
    let schema = rows.schema();
    let has_mark = schema.fields().last().is_some_and(|field| field.name() == mark);
    let kept = schema.fields().len() - usize::from(has_mark);
    let marks = has_mark.then(|| Arc::clone(rows.column(kept)));
    let mut fields = Vec::with_capacity(kept);
    let mut columns = Vec::with_capacity(kept);
    for (field, column) in schema.fields().iter().zip(rows.columns()).take(kept) {
        if let Some(wide) = widened(field, column)? {
            fields.push(Field::new(field.name(), wide.data_type().clone(), field.is_nullable()));
            columns.push(wide);
            continue;
        }
        let view = match (field.metadata().contains_key(VIEW), field.data_type()) {
            (true, DataType::Utf8) => DataType::Utf8View,
            (true, DataType::Binary) => DataType::BinaryView,
            _ => {
                fields.push(field.as_ref().clone());
                columns.push(Arc::clone(column));
                continue;
            }
        };
        columns.push(compute::cast(column, &view)?);
        fields.push(Field::new(field.name(), view, field.is_nullable()));
    }
    Ok((batch(Arc::new(Schema::new(fields)), columns, count)?, marks))
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// The same rows, with columns of 64-bit numbers as narrow as they may be.
pub(super) fn narrowed(rows: &RecordBatch) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(rows.num_columns());
    let mut columns = Vec::with_capacity(rows.num_columns());
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let narrow = match column.data_type() {
            DataType::Int64 => narrow_signed(column).map(|(least, narrow)| (LEAST_SIGNED, least, narrow)),
            DataType::UInt64 => narrow_unsigned(column).map(|(least, narrow)| (LEAST_UNSIGNED, least, narrow)),
            _ => None,
        };
        match narrow {
            Some((name, least, narrow)) => {
                let mut metadata = field.metadata().clone();
                metadata.insert(name.to_owned(), least.to_string());
                let narrow_field = Field::new(field.name(), narrow.data_type().clone(), field.is_nullable());
                fields.push(narrow_field.with_metadata(metadata));
                columns.push(narrow);
            }
            None => {
                fields.push(field.as_ref().clone());
                columns.push(Arc::clone(column));
            }
        }
    }
    batch(Arc::new(Schema::new(fields)), columns, rows.num_rows())
}

fn narrow_signed(column: &ArrayRef) -> Option<(u64, ArrayRef)> {
    let values = values_without_nulls::<Int64Type>(column)?;
    let (least, greatest) = (*values.iter().min()?, *values.iter().max()?);
    let narrow = narrow(values, greatest.wrapping_sub(least) as u64, |value| value.wrapping_sub(least) as u64)?;
    Some((least as u64, narrow))
}

fn narrow_unsigned(column: &ArrayRef) -> Option<(u64, ArrayRef)> {
    let values = values_without_nulls::<UInt64Type>(column)?;
    let (least, greatest) = (*values.iter().min()?, *values.iter().max()?);
    Some((least, narrow(values, greatest - least, |value| value - least)?))
}

fn values_without_nulls<T: ArrowPrimitiveType>(column: &ArrayRef) -> Option<&[T::Native]> {
    let column = column.as_primitive_opt::<T>().filter(|column| column.null_count() == 0)?;
    Some(column.values())
}

/// What is `above` the least of each value, in the least number of bits that hold the greatest.
fn narrow<V: Copy>(values: &[V], greatest: u64, above: impl Fn(V) -> u64) -> Option<ArrayRef> {
    let values = values.iter().map(|value| above(*value));
    let narrow: ArrayRef = match greatest {
        0..=0xFF => Arc::new(PrimitiveArray::<UInt8Type>::from_iter_values(values.map(|value| value as u8))),
        0x100..=0xFFFF => Arc::new(PrimitiveArray::<UInt16Type>::from_iter_values(values.map(|value| value as u16))),
        0x1_0000..=0xFFFF_FFFF => {
            Arc::new(PrimitiveArray::<UInt32Type>::from_iter_values(values.map(|value| value as u32)))
        }
        _ => return None,
    };
    Some(narrow)
}

/// A column that was narrowed as it was before; `None` when it was not.
fn widened(field: &Field, column: &ArrayRef) -> Result<Option<ArrayRef>> {
    let metadata = |name: &str| field.metadata().get(name);
    let Some((is_signed, least)) = metadata(LEAST_SIGNED)
        .map(|least| (true, least))
        .or_else(|| metadata(LEAST_UNSIGNED).map(|least| (false, least)))
    else {
        return Ok(None);
    };
    let least: u64 =
        least.parse().map_err(|error| Failure::corrupt("the least value of a column is none").because(error))?;
    let wide = match column.data_type() {
        DataType::UInt8 => widen::<UInt8Type>(column, least, is_signed),
        DataType::UInt16 => widen::<UInt16Type>(column, least, is_signed),
        DataType::UInt32 => widen::<UInt32Type>(column, least, is_signed),
        other => return Err(Failure::corrupt(format!("a narrowed column has the type {other}"))),
    };
    Ok(Some(wide))
}

fn widen<T: ArrowPrimitiveType>(column: &ArrayRef, least: u64, is_signed: bool) -> ArrayRef
where
    T::Native: Into<u64>,
{
    let column = column.as_primitive::<T>();
    match is_signed {
        true => Arc::new(column.unary::<_, Int64Type>(|value| least.wrapping_add(value.into()) as i64)),
        false => Arc::new(column.unary::<_, UInt64Type>(|value| least.wrapping_add(value.into()))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use arrow::array::{Int64Array, UInt64Array};

    /// A column comes back as it was, and is stored in so many bits.
    fn check(column: ArrayRef, bits: usize) {
        let rows = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap();
        let narrow = narrowed(&rows).unwrap();
        assert_eq!(narrow.column(0).data_type().primitive_width(), Some(bits / 8), "{rows:?}");
        assert_eq!(unstored(&narrow, DELETED).unwrap().0, rows);
    }

    #[test]
    fn numbers_are_stored_in_as_few_bits_as_hold_them() {
        let signed = |values: &[i64], bits| check(Arc::new(Int64Array::from(values.to_vec())), bits);
        signed(&[7], 8);
        signed(&[-200, 55], 8);
        signed(&[-200, 56], 16);
        signed(&[1 << 40, (1 << 40) + 65_535], 16);
        signed(&[1 << 40, (1 << 40) + 65_536], 32);
        signed(&[i64::MIN, i64::MIN + i64::from(u32::MAX)], 32);
        signed(&[0, i64::from(u32::MAX) + 1], 64);
        signed(&[i64::MIN, i64::MAX], 64);
        signed(&[], 64);
        let unsigned = |values: &[u64], bits| check(Arc::new(UInt64Array::from(values.to_vec())), bits);
        unsigned(&[u64::MAX, u64::MAX - 255], 8);
        unsigned(&[0, u64::MAX], 64);
        check(Arc::new(Int64Array::from(vec![Some(1), None])), 64);
        check(Arc::new(arrow::array::Float64Array::from(vec![1.0])), 64);
    }

    #[test]
    fn a_narrowed_column_of_another_form_is_damage() {
        for (data_type, least) in [(DataType::Int64, "5"), (DataType::UInt8, "many")] {
            let metadata = HashMap::from([(LEAST_SIGNED.to_owned(), least.to_owned())]);
            let field = Field::new("c", data_type.clone(), false).with_metadata(metadata);
            let column = arrow::array::new_empty_array(&data_type);
            let rows = batch(Arc::new(Schema::new(vec![field])), vec![column], 0).unwrap();
            assert_eq!(unstored(&rows, DELETED).unwrap_err().kind, crate::failure::Kind::Corrupt);
        }
    }
}
