//! Accumulators as columns: what a local pre-aggregation sends to the keyed operator, and what a snapshot holds.
//!
//! One `UInt64` column per word, a `Utf8View` or `BinaryView` column per least or greatest string, and before them the
//! words that tell which accumulators have seen a value. The names are `$seen<n>` and `$<accumulator>` or
//! `$<accumulator>.<word>`.

use super::arena::Arena;
use super::key::{as_bytes, bytes, present};
use super::layout::{Accumulator, Kind, Layout, SEEN, Shape};
use super::rows::{Columns, RowBuffer, RowSet};
use crate::failure::{Failure, Result};
use crate::operator::legend::{Column, Holds, Present, Role};
use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use std::sync::Arc;

/// The columns' names and types.
pub(super) fn fields(layout: &Layout) -> Vec<FieldRef> {
    let mut fields = Vec::new();
    for word in 0..seen_words(layout).len() {
        fields.push(word_field(format!("$seen{word}")));
    }
    for (number, accumulator) in layout.accumulators.iter().enumerate() {
        if let Some(data_type) = string_type(accumulator) {
            fields.push(Arc::new(Field::new(format!("${number}"), data_type.clone(), true)));
            continue;
        }
        match accumulator.kind.words() {
            1 => fields.push(word_field(format!("${number}"))),
            words => fields.extend((0..words).map(|word| word_field(format!("${number}.{word}")))),
        }
    }
    fields
}

fn word_field(name: String) -> FieldRef {
    Arc::new(Field::new(name, DataType::UInt64, false))
}

/// The words that [`export`] needs.
pub(super) fn exported_words(layout: &Layout) -> impl Iterator<Item = usize> {
    let words = |accumulator: &Accumulator| accumulator.word..accumulator.word + accumulator.kind.words();
    seen_words(layout).into_iter().chain(layout.accumulators.iter().flat_map(words))
}

/// The accumulators of groups, whose strings lie in `arena`, as columns.
pub(super) fn export(layout: &Layout, groups: &mut Columns, arena: &Arena) -> Vec<ArrayRef> {
    let mut columns: Vec<ArrayRef> = Vec::new();
    for word in seen_words(layout) {
        let mask = if word == 0 { SEEN } else { u64::MAX };
        let bits = groups.column(word).iter().map(|bits| bits & mask);
        columns.push(Arc::new(UInt64Array::from_iter_values(bits)));
    }
    for accumulator in &layout.accumulators {
        if let Some(data_type) = string_type(accumulator) {
            let seen = accumulator.seen.expect("an extreme has a bit");
            let nulls = present(groups.column(seen.word).iter().map(|bits| bits & seen.mask != 0));
            columns.push(bytes(groups.pairs(accumulator.word), arena, nulls.as_ref(), data_type));
            continue;
        }
        for word in accumulator.word..accumulator.word + accumulator.kind.words() {
            columns.push(Arc::new(UInt64Array::from(groups.take(word))));
        }
    }
    columns
}

/// The keys of rows, the columns in between, and the accumulators.
pub(super) fn rows_as_partials(layout: &Layout, rows: &RowSet<'_>, between: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
    let mut groups = rows.columns(layout.key.decoded_words().chain(exported_words(layout)));
    let mut columns = layout.key.decode(&mut groups, rows.arena)?;
    columns.extend(between);
    columns.extend(export(layout, &mut groups, rows.arena));
    Ok(columns)
}

/// What the columns mean, the first of which is column `first` of its table.
pub(super) fn legend(layout: &Layout, first: usize) -> Vec<Column> {
    let seen = seen_words(layout);
    let mut places = Vec::with_capacity(layout.accumulators.len());
    let mut next = first + seen.len();
    for accumulator in &layout.accumulators {
        places.push(next);
        next += string_type(accumulator).map_or(accumulator.kind.words(), |_| 1);
    }
    let column = |(accumulator, place): (&Accumulator, &usize)| {
        let (holds, data_type) = held(accumulator);
        let bit = accumulator.seen.and_then(|bit| {
            let word = seen.iter().position(|word| *word == bit.word)?;
            Some(Present::Bit(first + word, bit.mask.trailing_zeros()))
        });
        let is_null_sometimes = !matches!(accumulator.kind, Kind::CountRows | Kind::CountValues);
        let counted = || layout.counter_of(accumulator).map(|counter| Present::Count(places[counter]));
        let present = bit.or_else(|| is_null_sometimes.then(counted).flatten());
        let present = present.filter(|_| holds != Holds::Plain);
        Column { holds, present, ..Column::plain(&accumulator.name, Role::Accumulator, &data_type, *place) }
    };
    layout.accumulators.iter().zip(&places).map(column).collect()
}

/// How an accumulator's columns hold what it has gathered, and that one's type.
fn held(accumulator: &Accumulator) -> (Holds, DataType) {
    let of_argument = || accumulator.data_type.clone().unwrap_or(DataType::Int64);
    match accumulator.kind {
        Kind::CountRows | Kind::CountValues | Kind::SumWords => (Holds::Integer, DataType::Int64),
        Kind::SumFloats => (Holds::FloatBits, DataType::Float64),
        Kind::SumDecimals => {
            let scale = if let DataType::Decimal128(_, scale) = of_argument() { scale } else { 0 };
            (Holds::WideDecimal, DataType::Decimal128(38, scale))
        }
        Kind::Extreme(_, Shape::Word) => (Holds::Ordered, of_argument()),
        Kind::Extreme(_, Shape::Decimal) => (Holds::Decimal, of_argument()),
        Kind::Extreme(_, Shape::Bytes) => (Holds::Plain, of_argument()),
    }
}

/// Columns of accumulators as `rows` rows, which replace what is in `buffer`. Keys and flags stay empty.
pub(super) fn import(layout: &Layout, columns: &[ArrayRef], rows: usize, buffer: &mut RowBuffer) -> Result<()> {
    buffer.reset(layout, rows);
    let mut columns = columns.iter();
    let mut next = || columns.next().ok_or_else(|| Failure::bug("a column of partial results is missing"));
    let stride = layout.stride;
    for word in seen_words(layout) {
        let mask = if word == 0 { SEEN } else { u64::MAX };
        for (row, bits) in buffer.words.chunks_exact_mut(stride).zip(words_of(next()?)?.values()) {
            row[word] |= bits & mask;
        }
    }
    for accumulator in &layout.accumulators {
        if string_type(accumulator).is_some() {
            import_strings(&mut buffer.words, &mut buffer.arena, stride, accumulator.word, next()?);
            continue;
        }
        for word in accumulator.word..accumulator.word + accumulator.kind.words() {
            for (row, value) in buffer.words.chunks_exact_mut(stride).zip(words_of(next()?)?.values()) {
                row[word] = *value;
            }
        }
    }
    Ok(())
}

fn import_strings(words: &mut [u64], arena: &mut Arena, stride: usize, word: usize, column: &ArrayRef) {
    let values = as_bytes(column);
    for (at, row) in words.chunks_exact_mut(stride).enumerate() {
        if values.is_valid(at) {
            row[word..word + 2].copy_from_slice(&arena.store(values.value(at)));
        }
    }
}

fn words_of(column: &ArrayRef) -> Result<&UInt64Array> {
    let other = || Failure::bug(format!("a column of partial results has the type {}", column.data_type()));
    column.as_primitive_opt::<UInt64Type>().ok_or_else(other)
}

fn string_type(accumulator: &Accumulator) -> Option<&DataType> {
    match accumulator.kind {
        Kind::Extreme(_, Shape::Bytes) => accumulator.data_type.as_ref(),
        _ => None,
    }
}

/// The words with seen-bits.
fn seen_words(layout: &Layout) -> Vec<usize> {
    let (start, count) = layout.seen;
    let header = (layout.nullable > 0).then_some(0);
    header.into_iter().chain(start..start + count).collect()
}
