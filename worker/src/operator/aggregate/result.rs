//! Accumulators to results, with Flink's rules for null, overflow and averages.

use super::arena::Arena;
use super::key::{bytes, decimal, decimals, present};
use super::layout::{Layout, Presence, ResultColumn, ResultKind, Shape};
use super::rows::RowSet;
use super::value::from_words;
use crate::failure::Result;
use arrow::array::{ArrayRef, Decimal128Array, Float32Array, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use std::sync::Arc;

/// 10^38: decimals have at most 38 digits.
const DECIMAL_END: i128 = 100_000_000_000_000_000_000_000_000_000_000_000_000;

/// The result columns of groups, one per call.
pub(super) fn results(layout: &Layout, rows: &RowSet<'_>) -> Result<Vec<ArrayRef>> {
    layout.results.iter().map(|result| column(result, rows)).collect()
}

/// True when two rows of accumulators, whose strings lie in one arena, have the same results.
pub(super) fn same_results(layout: &Layout, left: &[u64], right: &[u64], arena: &Arena) -> bool {
    layout.results.iter().all(|result| same(result, left, right, arena))
}

fn column(result: &ResultColumn, rows: &RowSet<'_>) -> Result<ArrayRef> {
    let data_type = &result.data_type;
    match result.kind {
        ResultKind::Count(word) => from_words(rows.column(word).map(|count| count as i64).collect(), None, data_type),
        ResultKind::SumWords(word, presence) => {
            let nulls = present(rows.iter().map(|row| is_present(row, presence)));
            from_words(rows.column(word).map(|sum| sum as i64).collect(), nulls, data_type)
        }
        ResultKind::AvgWords(_, count) => {
            let nulls = present(rows.iter().map(|row| row[count] != 0));
            from_words(rows.iter().map(|row| average(result.kind, row)).collect(), nulls, data_type)
        }
        ResultKind::SumFloats(word, presence) => {
            let nulls = present(rows.iter().map(|row| is_present(row, presence)));
            Ok(floats(rows.column(word).map(f64::from_bits).collect(), nulls, data_type))
        }
        ResultKind::AvgFloats(sum, count) => {
            let nulls = present(rows.iter().map(|row| row[count] != 0));
            let values = rows.iter().map(|row| f64::from_bits(row[sum]) / row[count] as i64 as f64).collect();
            Ok(floats(values, nulls, data_type))
        }
        ResultKind::SumDecimals(..) | ResultKind::AvgDecimals(..) => {
            let values: Decimal128Array = rows.iter().map(|row| decimal_result(result.kind, row)).collect();
            Ok(Arc::new(values.with_data_type(data_type.clone())))
        }
        ResultKind::Extreme(word, shape, presence) => extreme(rows, word, shape, presence, data_type),
    }
}

fn extreme(rows: &RowSet<'_>, word: usize, shape: Shape, presence: Presence, data_type: &DataType) -> Result<ArrayRef> {
    let nulls = present(rows.iter().map(|row| is_present(row, presence)));
    match shape {
        Shape::Word => from_words(rows.column(word).map(|value| value as i64).collect(), nulls, data_type),
        Shape::Decimal => decimals(rows.pairs(word), nulls, data_type),
        Shape::Bytes => Ok(bytes(rows.pairs(word), rows.arena, nulls.as_ref(), data_type)),
    }
}

fn floats(values: Vec<f64>, nulls: Option<NullBuffer>, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Float32 => Arc::new(Float32Array::new(values.into_iter().map(|value| value as f32).collect(), nulls)),
        _ => Arc::new(Float64Array::new(values.into(), nulls)),
    }
}

#[inline]
fn is_present(row: &[u64], presence: Presence) -> bool {
    match presence {
        Presence::Bit(bit) => row[bit.word] & bit.mask != 0,
        Presence::Count(word) => row[word] != 0,
    }
}

fn average(kind: ResultKind, row: &[u64]) -> i64 {
    match kind {
        ResultKind::AvgWords(sum, count) if row[count] != 0 => (row[sum] as i64).wrapping_div(row[count] as i64),
        _ => 0,
    }
}

/// Sums and averages of decimals; null without values, and where a sum has more than 38 digits.
fn decimal_result(kind: ResultKind, row: &[u64]) -> Option<i128> {
    match kind {
        ResultKind::SumDecimals(word, presence) => is_present(row, presence).then(|| decimal_sum(row, word))?,
        ResultKind::AvgDecimals(sum, count, digits) => {
            let count = i128::from(row[count] as i64);
            let sum = decimal_sum(row, sum)?;
            (count != 0).then(|| round_division(sum, count, digits))?
        }
        _ => None,
    }
}

fn decimal_sum(row: &[u64], word: usize) -> Option<i128> {
    let value = decimal(row, word);
    let fits = row[word + 2] as i64 == (value >> 127) as i64;
    (fits && -DECIMAL_END < value && value < DECIMAL_END).then_some(value)
}

/// `sum / count` with `digits` more digits after the point, rounded half away from zero.
fn round_division(sum: i128, count: i128, digits: u32) -> Option<i128> {
    let scale = 10_i128.pow(digits);
    let (whole, rest) = (sum / count, sum % count);
    let scaled = rest.checked_mul(scale)?;
    let (part, rest) = (scaled / count, scaled % count);
    let up = if rest.abs() * 2 >= count.abs() { sum.signum() * count.signum() } else { 0 };
    let value = whole.checked_mul(scale)?.checked_add(part + up)?;
    (-DECIMAL_END < value && value < DECIMAL_END).then_some(value)
}

fn same(result: &ResultColumn, left: &[u64], right: &[u64], arena: &Arena) -> bool {
    let both = |presence: Presence, equal: &dyn Fn() -> bool| match (
        is_present(left, presence),
        is_present(right, presence),
    ) {
        (true, true) => equal(),
        (left, right) => left == right,
    };
    match result.kind {
        ResultKind::Count(word) => left[word] == right[word],
        ResultKind::SumWords(word, presence) => both(presence, &|| left[word] == right[word]),
        ResultKind::SumFloats(word, presence) => {
            both(presence, &|| f64::from_bits(left[word]) == f64::from_bits(right[word]))
        }
        ResultKind::AvgWords(_, count) => {
            both(Presence::Count(count), &|| average(result.kind, left) == average(result.kind, right))
        }
        ResultKind::AvgFloats(sum, count) => both(Presence::Count(count), &|| {
            let average = |row: &[u64]| f64::from_bits(row[sum]) / row[count] as i64 as f64;
            average(left) == average(right)
        }),
        ResultKind::SumDecimals(..) | ResultKind::AvgDecimals(..) => {
            decimal_result(result.kind, left) == decimal_result(result.kind, right)
        }
        ResultKind::Extreme(word, Shape::Word, presence) => both(presence, &|| left[word] == right[word]),
        ResultKind::Extreme(word, Shape::Decimal, presence) => {
            both(presence, &|| left[word..word + 2] == right[word..word + 2])
        }
        ResultKind::Extreme(word, Shape::Bytes, presence) => both(presence, &|| {
            let (mut one, mut other) = ([0; 16], [0; 16]);
            arena.read([left[word], left[word + 1]], &mut one) == arena.read([right[word], right[word + 1]], &mut other)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_of_decimals_round_half_away_from_zero() {
        let cases =
            [(10, 4, 0, 3), (-10, 4, 0, -3), (7, 3, 6, 2_333_333), (8, 3, 6, 2_666_667), (-8, 3, 6, -2_666_667)];
        for (sum, count, digits, expected) in cases {
            assert_eq!(round_division(sum, count, digits), Some(expected), "{sum} / {count}");
        }
        assert_eq!(round_division(DECIMAL_END - 1, 1, 6), None);
    }

    #[test]
    fn sums_of_decimals_are_exact_beyond_38_digits_and_null_there() {
        let mut words = [0; 3];
        for _ in 0..5 {
            super::super::accumulate::add_wide(&mut words, DECIMAL_END - 1);
        }
        assert_eq!(decimal_sum(&words, 0), None);
        for _ in 0..6 {
            super::super::accumulate::add_wide(&mut words, 1 - DECIMAL_END);
        }
        assert_eq!(decimal_sum(&words, 0), Some(1 - DECIMAL_END));
    }
}
