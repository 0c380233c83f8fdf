//! Adds the rows of a batch to the accumulators of their groups: one typed pass per accumulator over a stretch of rows
//! that is short enough for the groups' rows to stay in the first-level cache from pass to pass.

use super::arena::Arena;
use super::key::as_bytes;
use super::layout::{Accumulator, Bit, Kind, Layout, Mode, Shape, Side};
use super::value::to_words;
use crate::batch::Batch;
use crate::failure::Result;
use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type};
use std::ops::Range;

/// Rows per pass.
const STRETCH: usize = 512;

/// The input of one accumulator from one batch.
pub(super) struct Input {
    /// The values by row.
    pub(super) values: Values,
    /// The rows that count; `None` is all.
    pub(super) counts: Option<BooleanBuffer>,
}

/// Values in the form that accumulators take them.
pub(super) enum Values {
    /// Rows are counted, not looked at.
    None,
    /// See [`super::value`].
    Words(ScalarBuffer<i64>),
    /// Floats, for sums.
    Floats(ScalarBuffer<f64>),
    /// Decimals.
    Decimals(ScalarBuffer<i128>),
    /// Text and byte strings.
    Bytes(BinaryViewArray),
}

/// The rows of groups, and which row of the batch belongs to which.
pub(super) struct Target<'a> {
    /// The layout of the rows.
    pub(super) layout: &'a Layout,
    /// Row after row.
    pub(super) words: &'a mut [u64],
    /// Their strings.
    pub(super) arena: &'a mut Arena,
    /// The group of each row of the batch.
    pub(super) groups: &'a [u32],
}

/// The inputs of all accumulators from a batch.
pub(super) fn inputs(layout: &Layout, batch: &Batch) -> Result<Vec<Input>> {
    layout.accumulators.iter().map(|accumulator| input(accumulator, batch)).collect()
}

/// The accumulator's input from a batch.
fn input(accumulator: &Accumulator, batch: &Batch) -> Result<Input> {
    let filter = accumulator.filter.map(|filter| batch.column(filter).as_boolean().clone());
    let filter = filter.map(|filter| match filter.nulls() {
        Some(nulls) => filter.values() & nulls.inner(),
        None => filter.values().clone(),
    });
    let Some(argument) = accumulator.argument.map(|argument| batch.column(argument)) else {
        return Ok(Input { values: Values::None, counts: filter });
    };
    let present = argument.nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.inner().clone());
    let counts = match (filter, present) {
        (Some(filter), Some(present)) => Some(&filter & &present),
        (filter, present) => filter.or(present),
    };
    Ok(Input { values: values(accumulator.kind, argument)?, counts })
}

fn values(kind: Kind, argument: &ArrayRef) -> Result<Values> {
    Ok(match (kind, argument.data_type()) {
        (Kind::CountRows | Kind::CountValues, _) => Values::None,
        (Kind::SumFloats, DataType::Float64) => Values::Floats(argument.as_primitive::<Float64Type>().values().clone()),
        (Kind::SumFloats, _) => Values::Floats(
            argument.as_primitive::<Float32Type>().values().iter().map(|value| f64::from(*value)).collect(),
        ),
        (Kind::SumDecimals | Kind::Extreme(_, Shape::Decimal), _) => {
            Values::Decimals(argument.as_primitive::<Decimal128Type>().values().clone())
        }
        (Kind::Extreme(_, Shape::Bytes), _) => Values::Bytes(as_bytes(argument)),
        (Kind::SumWords | Kind::Extreme(_, Shape::Word), _) => Values::Words(to_words(argument)?),
    })
}

/// Adds all rows.
pub(super) fn add(target: &mut Target<'_>, inputs: &[Input], range: Range<usize>) {
    passes(target, inputs, range, |_| 1);
}

/// Adds rows with the sign 1 and takes back those with −1. Least and greatest values are left alone: see
/// [`super::multiset`].
pub(super) fn change(target: &mut Target<'_>, inputs: &[Input], signs: &[i64]) {
    passes(target, inputs, 0..signs.len(), |row| signs[row]);
}

fn passes(target: &mut Target<'_>, inputs: &[Input], range: Range<usize>, sign: impl Fn(usize) -> i64 + Copy) {
    let layout = target.layout;
    let mut start = range.start;
    while start < range.end {
        let stretch = start..range.end.min(start + STRETCH);
        for (accumulator, input) in layout.accumulators.iter().zip(inputs) {
            pass(target, accumulator, input, stretch.clone(), sign);
        }
        start = stretch.end;
    }
}

#[inline]
fn pass(
    target: &mut Target<'_>,
    to: &Accumulator,
    input: &Input,
    rows: Range<usize>,
    sign: impl Fn(usize) -> i64 + Copy,
) {
    let (stride, word) = (target.layout.stride, to.word);
    let groups = target.groups;
    let words = &mut *target.words;
    let at = |row: usize| groups[row] as usize * stride;
    match (to.kind, &input.values) {
        (Kind::CountRows | Kind::CountValues, _) => count(words, input, rows, word, at, sign),
        (Kind::SumWords, Values::Words(values)) => each(input, rows, |row| {
            add_word(&mut words[at(row) + word], values[row].wrapping_mul(sign(row)));
            see(words, at(row), to.seen);
        }),
        (Kind::SumFloats, Values::Floats(values)) => each(input, rows, |row| {
            add_float(&mut words[at(row) + word], values[row] * sign(row) as f64);
            see(words, at(row), to.seen);
        }),
        (Kind::SumDecimals, Values::Decimals(values)) => each(input, rows, |row| {
            let start = at(row) + word;
            add_wide(&mut words[start..start + 3], values[row] * i128::from(sign(row)));
            see(words, at(row), to.seen);
        }),
        (Kind::Extreme(side, _), values) if target.layout.mode == Mode::Append => {
            extreme(target, to, side, values, input, rows);
        }
        _ => {}
    }
}

/// Without branches on the data: filters are as random as data is.
#[inline]
fn count(
    words: &mut [u64],
    input: &Input,
    rows: Range<usize>,
    word: usize,
    at: impl Fn(usize) -> usize,
    sign: impl Fn(usize) -> i64,
) {
    match &input.counts {
        None => rows.for_each(|row| add_word(&mut words[at(row) + word], sign(row))),
        Some(counts) => rows.for_each(|row| {
            add_word(&mut words[at(row) + word], sign(row) * i64::from(counts.value(row)));
        }),
    }
}

fn extreme(target: &mut Target<'_>, to: &Accumulator, side: Side, values: &Values, input: &Input, rows: Range<usize>) {
    let (stride, word) = (target.layout.stride, to.word);
    let groups = target.groups;
    let words = &mut *target.words;
    let at = |row: usize| groups[row] as usize * stride;
    match values {
        Values::Words(values) if side == Side::Least => each(input, rows, |row| {
            keep_word(&mut words[at(row) + word], values[row], Side::Least);
            see(words, at(row), to.seen);
        }),
        Values::Words(values) => each(input, rows, |row| {
            keep_word(&mut words[at(row) + word], values[row], Side::Greatest);
            see(words, at(row), to.seen);
        }),
        Values::Decimals(values) => each(input, rows, |row| {
            let start = at(row) + word;
            keep_decimal(&mut words[start..start + 2], values[row], side);
            see(words, at(row), to.seen);
        }),
        Values::Bytes(values) => {
            let arena = &mut *target.arena;
            each(input, rows, |row| keep_bytes(&mut words[at(row)..][..stride], arena, to, side, values.value(row)));
        }
        Values::Floats(_) | Values::None => {}
    }
}

#[inline(always)]
fn each(input: &Input, rows: Range<usize>, mut apply: impl FnMut(usize)) {
    match &input.counts {
        None => rows.for_each(apply),
        Some(counts) => rows.for_each(|row| {
            if counts.value(row) {
                apply(row);
            }
        }),
    }
}

#[inline(always)]
fn see(words: &mut [u64], start: usize, seen: Option<Bit>) {
    if let Some(bit) = seen {
        words[start + bit.word] |= bit.mask;
    }
}

#[inline]
pub(super) fn add_word(word: &mut u64, value: i64) {
    *word = word.wrapping_add(value as u64);
}

#[inline]
pub(super) fn add_float(word: &mut u64, value: f64) {
    *word = (f64::from_bits(*word) + value).to_bits();
}

/// Adds to a sum of 192 bits.
#[inline]
pub(super) fn add_wide(words: &mut [u64], value: i128) {
    let low = u128::from(words[1]) << 64 | u128::from(words[0]);
    let (sum, carry) = low.overflowing_add(value as u128);
    words[0] = sum as u64;
    words[1] = (sum >> 64) as u64;
    words[2] = words[2].wrapping_add((value >> 127) as u64).wrapping_add(u64::from(carry));
}

#[inline(always)]
pub(super) fn keep_word(word: &mut u64, value: i64, side: Side) {
    let known = *word as i64;
    *word = match side {
        Side::Least => known.min(value),
        Side::Greatest => known.max(value),
    } as u64;
}

#[inline]
pub(super) fn keep_decimal(words: &mut [u64], value: i128, side: Side) {
    let known = super::key::decimal(words, 0);
    let kept = match side {
        Side::Least => known.min(value),
        Side::Greatest => known.max(value),
    };
    words[0] = kept as u64;
    words[1] = (kept >> 64) as u64;
}

/// Takes over the value when it is the first or beats the known one.
pub(super) fn keep_bytes(row: &mut [u64], arena: &mut Arena, to: &Accumulator, side: Side, value: &[u8]) {
    let seen = to.seen.expect("an extreme has a bit");
    let known = [row[to.word], row[to.word + 1]];
    if row[seen.word] & seen.mask != 0 {
        let mut buffer = [0; 16];
        let order = value.cmp(arena.read(known, &mut buffer));
        let beats = match side {
            Side::Least => order.is_lt(),
            Side::Greatest => order.is_gt(),
        };
        if !beats {
            return;
        }
        arena.release(known);
    }
    row[to.word..to.word + 2].copy_from_slice(&arena.store(value));
    row[seen.word] |= seen.mask;
}
