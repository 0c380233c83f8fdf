//! The hash of a row's key, which decides its key group. It is part of the format of checkpoints: it never changes.
//!
//! A column's value hashes by its canonical bytes: integers, dates, times and timestamps as their little-endian 64 bits,
//! decimals as 128 bits, floats by their bits with one zero and one NaN, booleans as 0 or 1, text and bytes as they are.
//! Null is a constant of its own. Columns are folded from left to right.

use crate::failure::{Failure, Result};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use std::cell::Cell;
use xxhash_rust::xxh3::xxh3_64;

const NULL: u64 = 0x9ae1_6a3b_2f90_404f;
const FOLD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hashes of the keys of all rows of a batch. `columns` have `rows` values each; without columns every row has the
/// same key.
pub fn hash_keys(columns: &[ArrayRef], rows: usize, hashes: &mut Vec<u64>) -> Result<()> {
    hashes.clear();
    hashes.resize(rows, 0);
    for (place, column) in columns.iter().enumerate() {
        fold_column(column, place == 0, hashes)?;
    }
    Ok(())
}

/// True when a column of this type can be part of a key.
#[must_use]
pub fn is_key_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| is_key_type(field.data_type())),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Date32
        | DataType::Time32(TimeUnit::Millisecond)
        | DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond, _)
        | DataType::Utf8View
        | DataType::BinaryView
        | DataType::Utf8
        | DataType::Binary => true,
        _ => false,
    }
}

fn fold_column(column: &ArrayRef, first: bool, hashes: &mut [u64]) -> Result<()> {
    macro_rules! integers {
        ($type:ty) => {{
            let array = column.as_primitive::<$type>();
            let values = array.values();
            fold(column, first, hashes, |row| xxh3_64(&i64::from(values[row]).to_le_bytes()))
        }};
    }
    match column.data_type() {
        DataType::Int64 => integers!(Int64Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int8 => integers!(Int8Type),
        DataType::Date32 => integers!(Date32Type),
        DataType::Time32(TimeUnit::Millisecond) => integers!(Time32MillisecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => integers!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => integers!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => integers!(TimestampNanosecondType),
        DataType::Boolean => {
            let array = column.as_boolean();
            fold(column, first, hashes, |row| xxh3_64(&i64::from(array.value(row)).to_le_bytes()));
        }
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().values();
            fold(column, first, hashes, |row| hash_float(f64::from(values[row])));
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().values();
            fold(column, first, hashes, |row| hash_float(values[row]));
        }
        DataType::Decimal128(..) => {
            let values = column.as_primitive::<Decimal128Type>().values();
            fold(column, first, hashes, |row| xxh3_64(&values[row].to_le_bytes()));
        }
        DataType::Utf8View => {
            let array = column.as_string_view();
            // Short text that repeats, as days and channels do, is hashed once.
            let last = Cell::new((u128::MAX, 0));
            fold(column, first, hashes, |row| {
                let view = array.views()[row];
                if view == last.get().0 {
                    return last.get().1;
                }
                let hash = xxh3_64(array.value(row).as_bytes());
                let is_inline = view as u32 <= 12;
                if is_inline {
                    last.set((view, hash));
                }
                hash
            });
        }
        DataType::Utf8 => {
            let array = column.as_string::<i32>();
            fold(column, first, hashes, |row| xxh3_64(array.value(row).as_bytes()));
        }
        DataType::BinaryView => {
            let array = column.as_binary_view();
            fold(column, first, hashes, |row| xxh3_64(array.value(row)));
        }
        DataType::Binary => {
            let array = column.as_binary::<i32>();
            fold(column, first, hashes, |row| xxh3_64(array.value(row)));
        }
        DataType::Struct(_) => fold_struct(column, first, hashes)?,
        other => return Err(Failure::bug(format!("a key column has the type {other}, which has no hash"))),
    }
    Ok(())
}

fn fold_struct(column: &ArrayRef, first: bool, hashes: &mut [u64]) -> Result<()> {
    let mut inner = Vec::new();
    hash_keys(column.as_struct().columns(), column.len(), &mut inner)?;
    fold(column, first, hashes, |row| inner[row]);
    Ok(())
}

fn fold(column: &ArrayRef, first: bool, hashes: &mut [u64], value: impl Fn(usize) -> u64) {
    let combine =
        |before: u64, hash: u64| if first { hash } else { (before.rotate_left(23) ^ hash).wrapping_mul(FOLD) };
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => {
            for (row, hash) in hashes.iter_mut().enumerate() {
                *hash = combine(*hash, value(row));
            }
        }
        Some(nulls) => {
            for (row, hash) in hashes.iter_mut().enumerate() {
                *hash = combine(*hash, if nulls.is_null(row) { NULL } else { value(row) });
            }
        }
    }
}

fn hash_float(value: f64) -> u64 {
    let canonical = if value == 0.0 {
        0.0
    } else if value.is_nan() {
        f64::NAN
    } else {
        value
    };
    xxh3_64(&canonical.to_bits().to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Float64Array, Int32Array, Int64Array, StringViewArray, StructArray};
    use arrow::datatypes::Field;
    use std::sync::Arc;

    fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
        let mut hashes = Vec::new();
        hash_keys(columns, columns[0].len(), &mut hashes).expect("the columns are of key types");
        hashes
    }

    #[test]
    fn hashes_never_change() {
        let bigint: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1000), Some(-1), None]));
        let text: ArrayRef =
            Arc::new(StringViewArray::from(vec![Some(""), Some("a long enough text"), None, Some("x")]));
        let golden = [
            (vec![bigint.clone()], GOLDEN_BIGINT),
            (vec![text.clone()], GOLDEN_TEXT),
            (vec![bigint, text], GOLDEN_BOTH),
        ];
        for (columns, expected) in golden {
            assert_eq!(hashes(&columns), expected);
        }
    }

    #[test]
    fn equal_values_of_different_widths_and_zeros_hash_alike() {
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![7]));
        assert_eq!(hashes(&[wide]), hashes(&[narrow]));
        let zeros = hashes(&[Arc::new(Float64Array::from(vec![0.0, -0.0]))]);
        assert_eq!(zeros[0], zeros[1]);
    }

    #[test]
    fn a_row_hashes_by_its_fields() {
        let field = Arc::new(Field::new("a", DataType::Int64, true));
        let inner: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let row: ArrayRef = Arc::new(StructArray::from(vec![(field, inner)]));
        let hashed = hashes(&[row]);
        assert_ne!(hashed[0], hashed[1]);
        let decimal: ArrayRef = Arc::new(Decimal128Array::from(vec![1, 2]));
        assert_ne!(hashes(std::slice::from_ref(&decimal))[0], hashes(&[decimal])[1]);
    }

    const GOLDEN_BIGINT: [u64; 4] =
        [14_374_147_212_387_527_897, 10_021_228_461_726_049_677, 5_841_669_975_847_748_627, 11_160_318_154_034_397_263];
    const GOLDEN_TEXT: [u64; 4] =
        [3_244_421_341_483_603_138, 10_628_170_056_305_701_873, 11_160_318_154_034_397_263, 16_929_150_178_197_425_425];
    const GOLDEN_BOTH: [u64; 4] =
        [12_467_076_707_640_371_403, 15_406_976_088_442_058_990, 2_171_375_859_470_157_340, 7_796_034_732_826_689_140];
}
