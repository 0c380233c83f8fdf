//! Column values as 64-bit words: how keys and accumulators hold what fits in one.
//!
//! The order of the words, as signed integers, is the order of the values: floats are mapped so that comparing words
//! compares them, with one zero and one NaN, which is the greatest.

use crate::failure::{Failure, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, Time32MillisecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use std::sync::Arc;

/// True when [`to_words`] takes columns of this type.
pub(super) fn is_word(data_type: &DataType) -> bool {
    use DataType as T;
    matches!(data_type, T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 | T::Date32)
        || matches!(data_type, T::Time32(TimeUnit::Millisecond))
        || matches!(data_type, T::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond, _))
}

/// The column's values as words, without a copy where they have 64 bits. Words of null values mean nothing.
pub(super) fn to_words(column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    macro_rules! wide {
        ($type:ty) => {
            column.as_primitive::<$type>().values().clone()
        };
    }
    macro_rules! narrow {
        ($type:ty) => {
            column.as_primitive::<$type>().values().iter().map(|value| i64::from(*value)).collect()
        };
    }
    Ok(match column.data_type() {
        DataType::Int64 => wide!(Int64Type),
        DataType::Timestamp(TimeUnit::Millisecond, _) => wide!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => wide!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => wide!(TimestampNanosecondType),
        DataType::Int32 => narrow!(Int32Type),
        DataType::Int16 => narrow!(Int16Type),
        DataType::Int8 => narrow!(Int8Type),
        DataType::Date32 => narrow!(Date32Type),
        DataType::Time32(TimeUnit::Millisecond) => narrow!(Time32MillisecondType),
        DataType::Boolean => column.as_boolean().values().iter().map(i64::from).collect(),
        DataType::Float64 => column.as_primitive::<Float64Type>().values().iter().map(|v| order_float(*v)).collect(),
        DataType::Float32 => {
            column.as_primitive::<Float32Type>().values().iter().map(|v| order_float(f64::from(*v))).collect()
        }
        other => return Err(Failure::bug(format!("a value of type {other} does not fit in a word"))),
    })
}

/// The column of `data_type` that holds the words: the inverse of [`to_words`].
pub(in crate::operator) fn from_words(
    words: Vec<i64>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    macro_rules! narrow {
        ($array:ty, $native:ty) => {
            Arc::new(<$array>::new(words.into_iter().map(|word| word as $native).collect(), nulls))
        };
    }
    Ok(match data_type {
        DataType::Int64 => Arc::new(Int64Array::new(words.into(), nulls)),
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            Arc::new(TimestampMillisecondArray::new(words.into(), nulls).with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Arc::new(TimestampMicrosecondArray::new(words.into(), nulls).with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            Arc::new(TimestampNanosecondArray::new(words.into(), nulls).with_timezone_opt(zone.clone()))
        }
        DataType::Int32 => narrow!(Int32Array, i32),
        DataType::Int16 => narrow!(Int16Array, i16),
        DataType::Int8 => narrow!(Int8Array, i8),
        DataType::Date32 => narrow!(Date32Array, i32),
        DataType::Time32(TimeUnit::Millisecond) => narrow!(Time32MillisecondArray, i32),
        DataType::Boolean => Arc::new(BooleanArray::new(words.into_iter().map(|word| word != 0).collect(), nulls)),
        DataType::Float64 => Arc::new(Float64Array::new(words.into_iter().map(unorder_float).collect(), nulls)),
        DataType::Float32 => {
            Arc::new(Float32Array::new(words.into_iter().map(|word| unorder_float(word) as f32).collect(), nulls))
        }
        other => return Err(Failure::bug(format!("a word does not hold a value of type {other}"))),
    })
}

fn order_float(value: f64) -> i64 {
    let canonical = if value == 0.0 {
        0.0
    } else if value.is_nan() {
        f64::NAN
    } else {
        value
    };
    let bits = canonical.to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

fn unorder_float(word: i64) -> f64 {
    f64::from_bits((word ^ ((word >> 63) as u64 >> 1) as i64) as u64)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn words_keep_values_and_their_order() {
        let floats = vec![f64::NEG_INFINITY, -2.5, -1e-300, 0.0, 1e-300, 2.5, f64::INFINITY, f64::NAN];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Float64Array::from(floats.clone())),
            Arc::new(
                Float32Array::from(floats.iter().map(|value| *value as f32 * 1e38).collect::<Vec<_>>()).slice(0, 2),
            ),
            Arc::new(Int8Array::from(vec![i8::MIN, -1, 0, i8::MAX])),
            Arc::new(BooleanArray::from(vec![false, true])),
            Arc::new(Date32Array::from(vec![-5, 7])),
            Arc::new(TimestampMillisecondArray::from(vec![-5, 7]).with_timezone("UTC")),
        ];
        for column in columns {
            let words = to_words(&column).unwrap();
            assert!(words.is_sorted(), "{column:?}");
            let back = from_words(words.to_vec(), None, column.data_type()).unwrap();
            assert_eq!(&back, &column);
        }
        let zeros: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, 0.0]));
        assert_eq!(to_words(&zeros).unwrap()[..], [0, 0]);
    }
}
