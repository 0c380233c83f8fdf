//! Makes columns out of recipes.

use super::super::random::Random;
use super::super::text_column::TextColumn;
use super::field::{Recipe, Values};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int64Array, ListArray,
    StructArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use chrono::{DateTime, Timelike, Utc};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// What all columns of a batch are made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kitchen {
    pub(super) seed: u64,
    pub(super) now: DateTime<Utc>,
}

impl Kitchen {
    /// The values of `rows` rows from number `first` on.
    pub(super) fn column(&self, recipe: &Recipe, first: u64, rows: usize) -> Result<ArrayRef, ArrowError> {
        let data_type = &recipe.data_type;
        let nulls = self.nulls(recipe, first, rows);
        let random = |row: usize| self.random(recipe.salt * 2, first.wrapping_add(row as u64));
        match &recipe.values {
            Values::Boolean => {
                let bits = BooleanBuffer::collect_bool(rows, |row| random(row).next() & 1 == 1);
                Ok(Arc::new(BooleanArray::new(bits, nulls)))
            }
            Values::Integers(range) => {
                integers(data_type, (0..rows).map(|row| even_integer(&mut random(row), range)).collect(), nulls)
            }
            Values::Floats(range) => floats(data_type, (0..rows).map(|row| even_float(&mut random(row), range)), nulls),
            Values::Sequence { first: start, step, .. } => {
                let value = |row: usize| (start + i128::from(first) + row as i128) * step;
                sequence(data_type, (0..rows).map(value).collect())
            }
            Values::Bytes { length, vary } => {
                let mut column = TextColumn::new(rows, rows * *length as usize);
                for row in 0..rows {
                    push_bytes(&mut column, row, *length, *vary, data_type, random(row));
                }
                if *data_type == DataType::BinaryView { column.finish_bytes(nulls) } else { column.finish_text(nulls) }
            }
            Values::Recent(past) => {
                self.moments(data_type, (0..rows).map(|row| even_past(&mut random(row), *past)), nulls)
            }
            Values::Array(field, element, length) => {
                let elements = self.column(element, first.wrapping_mul(*length), rows * *length as usize)?;
                let offsets = OffsetBuffer::from_repeated_length(*length as usize, rows);
                Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, elements, nulls)?))
            }
            Values::Row(fields, recipes) => {
                let children = recipes.iter().map(|recipe| self.column(recipe, first, rows));
                let children = children.collect::<Result<Vec<_>, _>>()?;
                Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), children, nulls, rows)?))
            }
        }
    }

    fn random(&self, salt: u64, number: u64) -> Random {
        Random::of(self.seed ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93), number)
    }

    fn nulls(&self, recipe: &Recipe, first: u64, rows: usize) -> Option<NullBuffer> {
        let present = |row: usize| {
            let mut random = self.random(recipe.salt * 2 + 1, first.wrapping_add(row as u64));
            unit(&mut random) >= recipe.null_rate
        };
        (recipe.null_rate > 0.0).then(|| NullBuffer::new(BooleanBuffer::collect_bool(rows, present)))
    }

    /// Moments of a type of time, `micros_past` microseconds ago.
    fn moments(
        &self,
        data_type: &DataType,
        micros_past: impl Iterator<Item = i64>,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, ArrowError> {
        let now = self.now.timestamp_micros();
        let of_day =
            i64::from(self.now.num_seconds_from_midnight()) * 1000 + i64::from(self.now.nanosecond() / 1_000_000);
        let value = |past: i64| match data_type {
            DataType::Date32 => now.div_euclid(86_400_000_000),
            DataType::Time32(_) => of_day.min(86_399_999),
            DataType::Timestamp(TimeUnit::Millisecond, _) => (now - past).div_euclid(1000),
            _ => now - past,
        };
        let values = Int64Array::new(micros_past.map(value).collect(), nulls);
        match data_type {
            DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, _) => Ok(values
                .into_data()
                .into_builder()
                .data_type(data_type.clone())
                .build()
                .map(arrow::array::make_array)?),
            _ => cast(&cast(&values, &DataType::Int32)?, data_type),
        }
    }
}

/// A random number from 0 to 1, which is left out.
fn unit(random: &mut Random) -> f64 {
    (random.next() >> 11) as f64 / (1u64 << 53) as f64
}

/// A range wider than 64 bits, as some decimals have, takes 64 random bits and spreads them.
fn even_integer(random: &mut Random, range: &RangeInclusive<i128>) -> i128 {
    let span = range.end().abs_diff(*range.start());
    match u64::try_from(span).map(|span| span.checked_add(1)) {
        Ok(Some(count)) => range.start() + i128::from(random.below(count)),
        Ok(None) => range.start() + i128::from(random.next()),
        Err(_) => {
            let wide = u128::from(random.next()) << 64 | u128::from(random.next());
            range.start().wrapping_add_unsigned(wide % (span + 1))
        }
    }
}

fn even_float(random: &mut Random, range: &RangeInclusive<f64>) -> f64 {
    let part = unit(random);
    (range.start() * (1.0 - part) + range.end() * part).clamp(*range.start(), *range.end())
}

fn even_past(random: &mut Random, past: Duration) -> i64 {
    let micros = u64::try_from(past.as_micros()).unwrap_or(u64::MAX).min(i64::MAX as u64 / 4);
    random.below(micros.saturating_add(1)).cast_signed()
}

fn push_bytes(column: &mut TextColumn, row: usize, length: u64, vary: bool, data_type: &DataType, mut random: Random) {
    let length = if vary { 1 + random.below(length) } else { length } as usize;
    let mark = column.mark();
    if *data_type == DataType::BinaryView {
        let words = std::iter::repeat_with(|| random.next().to_le_bytes()).take(length.div_ceil(8));
        column.bytes.extend(words.flatten().take(length));
    } else {
        random.push_hex(length, &mut column.bytes);
    }
    column.set(row, mark);
}

fn integers(data_type: &DataType, values: Vec<i128>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
    if let DataType::Decimal128(precision, scale) = data_type {
        let column = Decimal128Array::new(values.into(), nulls).with_precision_and_scale(*precision, *scale)?;
        return Ok(Arc::new(column));
    }
    let values = Int64Array::new(values.into_iter().map(|value| value as i64).collect(), nulls);
    cast(&values, data_type)
}

fn floats(
    data_type: &DataType,
    values: impl Iterator<Item = f64>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    if *data_type == DataType::Float32 {
        return Ok(Arc::new(Float32Array::new(values.map(|value| value as f32).collect(), nulls)));
    }
    Ok(Arc::new(Float64Array::new(values.collect(), nulls)))
}

fn sequence(data_type: &DataType, values: Vec<i128>) -> Result<ArrayRef, ArrowError> {
    if *data_type != DataType::Utf8View && !data_type.is_floating() {
        return integers(data_type, values, None);
    }
    let numbers = integers(&DataType::Int64, values, None)?;
    let mut column = TextColumn::new(numbers.len(), numbers.len() * 20);
    if data_type.is_floating() {
        return cast(&numbers, data_type);
    }
    for (row, number) in numbers.as_primitive::<Int64Type>().values().iter().enumerate() {
        column.set_text(row, &number.to_string());
    }
    column.finish_text(None)
}
