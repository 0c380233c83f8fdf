//! Values as JSON: `JSON_STRING`, `JSON_OBJECT`, `JSON_ARRAY`, and whether a text is JSON.
//!
//! The parser turns the special syntax into plain calls: the first argument of an object or an array is a text with a
//! letter for what becomes of NULL (`n` it stays, `a` it is absent) and one for each value (`j` for one that is JSON
//! already, `v` for any other).

use super::super::arguments::Call;
use super::super::text::TextColumn;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::Result;
use serde_json::Value;
use std::fmt::Write;
use std::sync::Arc;

/// `value IS JSON kind`; NULL is none.
pub(super) fn is_json(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, kinds) = (call.texts(0)?, call.texts(1)?);
    let fits = |row: usize| {
        let Some(value) = texts.get(row).and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
            return false;
        };
        match kinds.get(row) {
            Some("ARRAY") => value.is_array(),
            Some("OBJECT") => value.is_object(),
            Some("SCALAR") => !value.is_array() && !value.is_object(),
            _ => true,
        }
    };
    Ok(Arc::new(BooleanArray::from_iter((0..call.rows).map(|row| Some(fits(row))))))
}

/// `JSON_STRING(value)`.
pub(super) fn json_string(call: &Call<'_>) -> Result<ArrayRef> {
    let value = JsonColumn::new(&call.array(0)?)?;
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        match value.is_null(row) {
            true => column.push_null(),
            false => column.write(|out| value.write(row, out)),
        }
    }
    Ok(column.finish())
}

/// `JSON_OBJECT`: the form, then keys and values.
pub(super) fn json_object(call: &Call<'_>) -> Result<ArrayRef> {
    let (absent, members) = form(call, 2)?;
    let mut pairs = Vec::new();
    for (number, is_json) in members.enumerate() {
        pairs.push((call.texts(1 + 2 * number)?, JsonColumn::of(&call.array(2 + 2 * number)?, is_json)?));
    }
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        if pairs.iter().any(|(key, _)| key.get(row).is_none()) {
            return call.error("a key is NULL");
        }
        column.write(|out| {
            let mut separator = '{';
            for (key, value) in pairs.iter().filter(|(_, value)| !(absent && value.is_null(row))) {
                out.push(separator);
                write_text(key.get(row).unwrap_or_default(), out);
                out.push(':');
                value.write(row, out);
                separator = ',';
            }
            out.push_str(if separator == '{' { "{}" } else { "}" });
        });
    }
    Ok(column.finish())
}

/// `JSON_ARRAY`: the form, then values.
pub(super) fn json_array(call: &Call<'_>) -> Result<ArrayRef> {
    let (absent, members) = form(call, 1)?;
    let mut values = Vec::new();
    for (number, is_json) in members.enumerate() {
        values.push(JsonColumn::of(&call.array(1 + number)?, is_json)?);
    }
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        column.write(|out| {
            let mut separator = '[';
            for value in values.iter().filter(|value| !(absent && value.is_null(row))) {
                out.push(separator);
                value.write(row, out);
                separator = ',';
            }
            out.push_str(if separator == '[' { "[]" } else { "]" });
        });
    }
    Ok(column.finish())
}

/// Whether NULL is left out, and which of the values, with `each` arguments for one, are JSON already.
fn form<'a>(call: &Call<'a>, each: usize) -> Result<(bool, impl Iterator<Item = bool> + use<'a>)> {
    let form = call.texts(0)?.constant().filter(|form| form.chars().skip(1).count() * each + 1 == call.count());
    let Some(form) = form else {
        return call.error("its arguments have another form: write it as the user guide shows");
    };
    Ok((form.starts_with('a'), form.chars().skip(1).map(|letter| letter == 'j')))
}

/// A column whose values are written as JSON.
enum JsonColumn {
    /// JSON in text, as it is.
    Raw(ArrayRef),
    Text(ArrayRef),
    /// Written as Arrow shows them, in quotes or not.
    Shown {
        values: ArrayRef,
        quoted: bool,
    },
    Float(ArrayRef),
    List {
        values: ArrayRef,
        items: Box<JsonColumn>,
    },
    Row {
        values: ArrayRef,
        fields: Vec<(String, JsonColumn)>,
    },
}

impl JsonColumn {
    fn of(values: &ArrayRef, is_json: bool) -> Result<Self> {
        match is_json && *values.data_type() == DataType::Utf8View {
            true => Ok(Self::Raw(Arc::clone(values))),
            false => Self::new(values),
        }
    }

    fn new(values: &ArrayRef) -> Result<Self> {
        let values = Arc::clone(values);
        Ok(match values.data_type() {
            DataType::Utf8View => Self::Text(values),
            DataType::Float32 | DataType::Float64 => Self::Float(values),
            DataType::List(_) => {
                let items = Box::new(Self::new(values.as_list::<i32>().values())?);
                Self::List { values, items }
            }
            DataType::Struct(names) => {
                let columns = names.iter().zip(values.as_struct().columns());
                let fields = columns.map(|(name, column)| Ok((name.name().clone(), Self::new(column)?)));
                let fields = fields.collect::<Result<Vec<_>>>()?;
                Self::Row { values, fields }
            }
            data_type => {
                let plain = data_type.is_integer()
                    || matches!(data_type, DataType::Decimal128(..) | DataType::Boolean | DataType::Null);
                Self::Shown { quoted: !plain, values }
            }
        })
    }

    fn values(&self) -> &ArrayRef {
        match self {
            Self::Raw(values) | Self::Text(values) | Self::Float(values) => values,
            Self::Shown { values, .. } | Self::List { values, .. } | Self::Row { values, .. } => values,
        }
    }

    fn is_null(&self, row: usize) -> bool {
        self.values().is_null(row) || self.values().data_type().is_null()
    }

    fn write(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            return out.push_str("null");
        }
        match self {
            Self::Raw(values) => out.push_str(values.as_string_view().value(row)),
            Self::Text(values) => write_text(values.as_string_view().value(row), out),
            Self::Float(values) => write_float(values, row, out),
            Self::Shown { values, quoted } => write_shown(values, row, *quoted, out),
            Self::List { values, items } => {
                let offsets = values.as_list::<i32>().value_offsets();
                out.push('[');
                for (number, item) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    if number > 0 {
                        out.push(',');
                    }
                    items.write(item, out);
                }
                out.push(']');
            }
            Self::Row { fields, .. } => {
                out.push('{');
                for (number, (name, field)) in fields.iter().enumerate() {
                    if number > 0 {
                        out.push(',');
                    }
                    write_text(name, out);
                    out.push(':');
                    field.write(row, out);
                }
                out.push('}');
            }
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    // Text can always be written.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn write_float(values: &ArrayRef, row: usize, out: &mut String) {
    let text = match values.data_type() {
        DataType::Float32 => serde_json::to_string(&values.as_primitive::<Float32Type>().value(row)),
        _ => serde_json::to_string(&values.as_primitive::<Float64Type>().value(row)),
    };
    // What is no number in JSON, such as NaN, is written as null.
    out.push_str(&text.unwrap_or_default());
}

fn write_shown(values: &ArrayRef, row: usize, quoted: bool, out: &mut String) {
    let options = FormatOptions::new();
    let shown = ArrayFormatter::try_new(values, &options).map(|shown| shown.value(row).to_string());
    let shown = shown.unwrap_or_default();
    match quoted {
        true => write_text(&shown, out),
        // Writing to a string does not fail.
        false => drop(write!(out, "{shown}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::check;

    #[test]
    fn texts_are_json_or_not() {
        check(
            r#"'1' IS JSON -> BOOLEAN true
             '[]' IS JSON -> BOOLEAN true
             '{}' IS JSON VALUE -> BOOLEAN true
             '"abc"' IS JSON -> BOOLEAN true
             'abc' IS JSON -> BOOLEAN false
             CAST(NULL AS STRING) IS JSON -> BOOLEAN false
             '1' IS JSON SCALAR -> BOOLEAN true
             '1' IS JSON ARRAY -> BOOLEAN false
             '1' IS JSON OBJECT -> BOOLEAN false
             '[]' IS JSON SCALAR -> BOOLEAN false
             '[]' IS JSON ARRAY -> BOOLEAN true
             '[]' IS JSON OBJECT -> BOOLEAN false
             '{}' IS JSON SCALAR -> BOOLEAN false
             '{}' IS JSON ARRAY -> BOOLEAN false
             '{}' IS JSON OBJECT -> BOOLEAN true
             '{}' IS NOT JSON OBJECT -> BOOLEAN false
             'x' IS NOT JSON -> BOOLEAN true
             '1' IS JSON AND '{}' IS JSON ARRAY -> BOOLEAN false"#,
        );
    }

    #[test]
    fn values_become_json() {
        check(
            r#"JSON_STRING(CAST(NULL AS INT)) -> STRING NULL
             JSON_STRING(1) -> STRING 1
             JSON_STRING(1.50) -> STRING 1.50
             JSON_STRING(CAST(1 AS DOUBLE)) -> STRING 1.0
             JSON_STRING(TRUE) -> STRING true
             JSON_STRING('Hello, World!') -> STRING "Hello, World!"
             JSON_STRING(ARRAY[1, 2]) -> STRING [1,2]
             JSON_STRING('a"b') -> STRING "a\"b"
             JSON_STRING(TIMESTAMP '1990-06-02 13:37:42.001') -> STRING "1990-06-02T13:37:42.001"
             JSON_STRING(DATE '1990-06-02') -> STRING "1990-06-02"
             JSON_OBJECT() -> STRING {}
             JSON_OBJECT('K1' VALUE 'V1', 'K2' VALUE 'V2') -> STRING {"K1":"V1","K2":"V2"}
             JSON_OBJECT(KEY 'K1' VALUE 1) -> STRING {"K1":1}
             JSON_OBJECT('orderNo' VALUE 12345) -> STRING {"orderNo":12345}
             JSON_OBJECT(KEY 'K1' VALUE CAST(NULL AS STRING) NULL ON NULL) -> STRING {"K1":null}
             JSON_OBJECT(KEY 'K1' VALUE CAST(NULL AS STRING)) -> STRING {"K1":null}
             JSON_OBJECT(KEY 'K1' VALUE CAST(NULL AS STRING) ABSENT ON NULL) -> STRING {}
             JSON_OBJECT(KEY 'K1' VALUE JSON_OBJECT(KEY 'K2' VALUE 'V')) -> STRING {"K1":{"K2":"V"}}
             JSON_OBJECT('a' VALUE JSON_ARRAY(1, 'x')) -> STRING {"a":[1,"x"]}
             JSON_ARRAY() -> STRING []
             JSON_ARRAY(1, '2') -> STRING [1,"2"]
             JSON_ARRAY(CAST(NULL AS STRING) NULL ON NULL) -> STRING [null]
             JSON_ARRAY(CAST(NULL AS STRING) ABSENT ON NULL) -> STRING []
             JSON_ARRAY(CAST(NULL AS STRING), 1) -> STRING [1]
             JSON_ARRAY(JSON_ARRAY(1)) -> STRING [[1]]"#,
        );
    }
}
