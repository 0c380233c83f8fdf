//! Rows as JSON: one object a line, the columns in order.
//!
//! Numbers, booleans, rows and arrays are those of JSON; NULL is `null`. A DECIMAL is a number with all digits of its
//! scale (`12.300`); a DOUBLE that is no number is the text `"NaN"`, `"Infinity"` or `"-Infinity"`. A TIMESTAMP is text,
//! `yyyy-MM-dd HH:mm:ss.SSS` (six digits where the type has more than three), a TIMESTAMP_LTZ the same in UTC with a `Z`
//! after it; a DATE is `yyyy-MM-dd`, a TIME `HH:mm:ss`, with `.SSS` where there are milliseconds; bytes are base64.

use super::scalar::{Moment, push_clock, push_date, push_decimal, push_digits, push_integer};
use super::values::{UnsupportedType, Values, check};
use crate::batch::Batch;
use arrow::datatypes::{DataType, Fields, Schema};
use std::io::Write as _;

/// Whether a line says what its row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `"op"` comes first: `"+I"`, `"-U"`, `"+U"` or `"-D"`.
    Written,
    /// Lines hold the columns alone.
    LeftOut,
}

/// Writes batches of one schema as lines of JSON.
#[derive(Debug)]
pub struct JsonEncoder {
    op: Op,
    keys: Vec<Key>,
}

/// A field's name as it stands in a line, and those of the fields within it.
#[derive(Debug)]
struct Key {
    text: Vec<u8>,
    within: Vec<Self>,
}

impl JsonEncoder {
    /// An encoder for rows of `schema`.
    pub fn new(schema: &Schema, op: Op) -> Result<Self, UnsupportedType> {
        check(schema)?;
        Ok(Self { op, keys: keys_of(schema.fields()) })
    }

    /// Appends a line for each row of a batch of the schema, each with its end of line.
    pub fn encode(&self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), UnsupportedType> {
        let columns = batch.rows.columns().iter().map(|column| Values::of(column)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            out.push(b'{');
            if self.op == Op::Written {
                out.extend_from_slice(b"\"op\":\"");
                out.extend_from_slice(batch.kind(row).notation().as_bytes());
                out.extend_from_slice(if columns.is_empty() { b"\"" } else { b"\"," });
            }
            push_fields(&columns, &self.keys, row, out);
            out.extend_from_slice(b"}\n");
        }
        Ok(())
    }
}

fn keys_of(fields: &Fields) -> Vec<Key> {
    let key = |name: &str, data_type: &DataType| {
        let mut text = Vec::new();
        push_text(name, &mut text);
        text.push(b':');
        Key { text, within: keys_within(data_type) }
    };
    fields.iter().map(|field| key(field.name(), field.data_type())).collect()
}

fn keys_within(data_type: &DataType) -> Vec<Key> {
    match data_type {
        DataType::Struct(fields) => keys_of(fields),
        DataType::List(element) => keys_within(element.data_type()),
        _ => Vec::new(),
    }
}

fn push_fields(columns: &[Values<'_>], keys: &[Key], row: usize, out: &mut Vec<u8>) {
    for (index, (values, key)) in columns.iter().zip(keys).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&key.text);
        push_value(values, &key.within, row, out);
    }
}

fn push_value(values: &Values<'_>, keys: &[Key], row: usize, out: &mut Vec<u8>) {
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
        Values::Decimal(array, scale) => push_decimal(array.value(row), *scale, out),
        Values::Date(array) => quoted(out, |out| push_date(array.value(row).into(), out)),
        Values::Time(array) => quoted(out, |out| push_time(array.value(row), out)),
        Values::Millis(array, zone) => quoted(out, |out| Moment::of_millis(array.value(row)).push_sql(3, *zone, out)),
        Values::Micros(array, zone) => quoted(out, |out| Moment::of_micros(array.value(row)).push_sql(6, *zone, out)),
        Values::Text(array) => push_text(array.value(row), out),
        Values::Bytes(array) => quoted(out, |out| push_base64(array.value(row), out)),
        Values::Row(_, fields) => {
            out.push(b'{');
            push_fields(fields, keys, row, out);
            out.push(b'}');
        }
        Values::List(array, elements) => {
            let offsets = array.value_offsets();
            out.push(b'[');
            for element in offsets[row] as usize..offsets[row + 1] as usize {
                if element > offsets[row] as usize {
                    out.push(b',');
                }
                push_value(elements, keys, element, out);
            }
            out.push(b']');
        }
    }
}

fn quoted(out: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    push(out);
    out.push(b'"');
}

fn push_time(millis: i32, out: &mut Vec<u8>) {
    push_clock((millis / 1000).into(), out);
    if millis % 1000 != 0 {
        out.push(b'.');
        push_digits((millis % 1000).unsigned_abs().into(), 3, out);
    }
}

/// Appends the shortest digits that read back as `value`, of which `wide` is a wider form.
fn push_float(value: impl std::fmt::Debug, wide: f64, out: &mut Vec<u8>) {
    let written = if wide.is_nan() {
        out.write_all(b"\"NaN\"")
    } else if wide.is_infinite() {
        out.write_all(if wide > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" })
    } else {
        write!(out, "{value:?}")
    };
    written.expect("a vector takes all bytes");
}

/// Appends text in quotes.
fn push_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..index]);
        plain = index + 1;
        push_escaped(*byte, out);
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= chunk.len() { digit } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests;
