//! Rows in the notation that Flink prints: `+I[1, abc, 2026-01-01T00:00]`.
//!
//! Values look as Java's `toString` writes them, as they do there: NULL is `null`, a TIMESTAMP a `LocalDateTime` (seconds
//! and their fraction only as far as they are not zero), a TIMESTAMP_LTZ an `Instant` in UTC, a DECIMAL a `BigDecimal`,
//! bytes a list of signed numbers, a ROW a row of its own with `+I`.

use super::scalar::{Moment, push_clock, push_date, push_decimal, push_digits, push_hours_and_minutes, push_integer};
use super::values::{UnsupportedType, Values, Zone, check};
use crate::batch::{Batch, RowKind};
use arrow::datatypes::Schema;
use std::io::Write as _;

/// Writes batches as lines of Flink's notation.
#[derive(Debug)]
pub struct TextEncoder {
    prefix: String,
}

impl TextEncoder {
    /// An encoder for rows of `schema` that starts every line with `prefix`.
    pub fn new(schema: &Schema, prefix: impl Into<String>) -> Result<Self, UnsupportedType> {
        check(schema)?;
        Ok(Self { prefix: prefix.into() })
    }

    /// Appends a line for each row of a batch of the schema, each with its end of line.
    pub fn encode(&self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), UnsupportedType> {
        let columns = batch.rows.columns().iter().map(|column| Values::of(column)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            out.extend_from_slice(self.prefix.as_bytes());
            push_row(batch.kind(row), &columns, row, out);
            out.push(b'\n');
        }
        Ok(())
    }
}

fn push_row(kind: RowKind, fields: &[Values<'_>], row: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(kind.notation().as_bytes());
    push_list(fields.iter(), out, |values, out| push_value(values, row, out));
}

fn push_list<T>(items: impl Iterator<Item = T>, out: &mut Vec<u8>, push: impl Fn(T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        push(item, out);
    }
    out.push(b']');
}

fn push_value(values: &Values<'_>, row: usize, out: &mut Vec<u8>) {
    if values.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    match values {
        Values::Null => {}
        Values::Boolean(array) => out.extend_from_slice(if array.value(row) { b"true" } else { b"false" }),
        Values::Int8(array) => push_integer(array.value(row).into(), out),
        Values::Int16(array) => push_integer(array.value(row).into(), out),
        Values::Int32(array) => push_integer(array.value(row).into(), out),
        Values::Int64(array) => push_integer(array.value(row), out),
        Values::Float32(array) => push_float(array.value(row), array.value(row).into(), out),
        Values::Float64(array) => push_float(array.value(row), array.value(row), out),
        Values::Decimal(array, scale) => push_big_decimal(array.value(row), *scale, out),
        Values::Date(array) => push_date(array.value(row).into(), out),
        Values::Time(array) => {
            let millis = i64::from(array.value(row));
            push_local_time(millis / 1000, millis % 1000 * 1000, out);
        }
        Values::Millis(array, zone) => push_moment(Moment::of_millis(array.value(row)), *zone, out),
        Values::Micros(array, zone) => push_moment(Moment::of_micros(array.value(row)), *zone, out),
        Values::Text(array) => out.extend_from_slice(array.value(row).as_bytes()),
        Values::Bytes(array) => {
            push_list(array.value(row).iter(), out, |byte, out| push_integer(byte.cast_signed().into(), out));
        }
        Values::Row(_, fields) => push_row(RowKind::Insert, fields, row, out),
        Values::List(array, elements) => {
            let offsets = array.value_offsets();
            let range = offsets[row] as usize..offsets[row + 1] as usize;
            push_list(range, out, |element, out| push_value(elements, element, out));
        }
    }
}

fn push_moment(moment: Moment, zone: Zone, out: &mut Vec<u8>) {
    push_date(moment.days, out);
    out.push(b'T');
    match zone {
        Zone::Local => push_local_time(moment.seconds, moment.micros, out),
        Zone::Utc => {
            push_clock(moment.seconds, out);
            push_fraction(moment.micros, out);
            out.push(b'Z');
        }
    }
}

/// As `LocalTime` writes itself: without seconds that are zero.
fn push_local_time(seconds: i64, micros: i64, out: &mut Vec<u8>) {
    if seconds % 60 == 0 && micros == 0 {
        push_hours_and_minutes(seconds, out);
    } else {
        push_clock(seconds, out);
        push_fraction(micros, out);
    }
}

/// A fraction of a second in three or six digits, or none.
fn push_fraction(micros: i64, out: &mut Vec<u8>) {
    let micros = micros.unsigned_abs();
    if micros == 0 {
        return;
    }
    out.push(b'.');
    if micros.is_multiple_of(1000) {
        push_digits((micros / 1000).into(), 3, out);
    } else {
        push_digits(micros.into(), 6, out);
    }
}

/// As `BigDecimal` writes itself: with an exponent where more than five zeros would follow the point.
fn push_big_decimal(unscaled: i128, scale: usize, out: &mut Vec<u8>) {
    let digits = unscaled.unsigned_abs().checked_ilog10().unwrap_or(0) as usize;
    if scale <= digits + 6 {
        return push_decimal(unscaled, scale, out);
    }
    push_decimal(unscaled, digits, out);
    out.extend_from_slice(b"E-");
    push_digits((scale - digits) as u128, 1, out);
}

/// As `Double` and `Float` write themselves: with an exponent below 0.001 and from 10,000,000 on.
fn push_float<F: std::fmt::Debug + std::fmt::LowerExp>(value: F, wide: f64, out: &mut Vec<u8>) {
    let size = wide.abs();
    let written = if wide.is_nan() {
        out.write_all(b"NaN")
    } else if wide.is_infinite() {
        out.write_all(if wide > 0.0 { b"Infinity" } else { b"-Infinity" })
    } else if wide == 0.0 || (1e-3..1e7).contains(&size) {
        write!(out, "{value:?}")
    } else {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').expect("this notation has an exponent");
        let point = if mantissa.contains('.') { "" } else { ".0" };
        write!(out, "{mantissa}{point}E{exponent}")
    };
    written.expect("a vector takes all bytes");
}

#[cfg(test)]
mod tests;
