//! JSON: one object a record.
//!
//! Records are read in one pass, straight into the columns of the table. Fields that the table or the query does not
//! have are stepped over, with their syntax checked. A field that a record does not have is NULL. Of a field that a
//! record has twice the last counts.

use super::column::{Column, Values};
use super::date_time::Standard;
use super::growing::{Growing, Read, text_of};
use super::text_value::{self, Misfit};
use super::{RecordDecoder, RecordError, clip};
use crate::connector::options::Options;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use scanner::Scanner;

mod scanner;

/// Flink's options of the JSON format.
#[derive(Debug, Clone, Copy)]
pub struct JsonOptions {
    /// How timestamps are written.
    pub timestamps: Standard,
    /// A record without one of the fields is bad.
    pub fail_on_missing_field: bool,
    /// A value that does not fit its column is NULL; the rest of the record stays.
    pub null_on_error: bool,
}

impl Default for JsonOptions {
    fn default() -> Self {
        Self { timestamps: Standard::Sql, fail_on_missing_field: false, null_on_error: false }
    }
}

impl JsonOptions {
    /// Reads the options `json.*`; mistakes are noted there.
    #[must_use]
    pub fn from_options(options: &Options) -> Self {
        let standards = [("SQL", Standard::Sql), ("ISO-8601", Standard::Iso8601)];
        let read = Self {
            timestamps: options.choice("json.timestamp-format.standard", &standards).unwrap_or(Standard::Sql),
            fail_on_missing_field: options.boolean("json.fail-on-missing-field").unwrap_or(false),
            null_on_error: options.boolean("json.ignore-parse-errors").unwrap_or(false),
        };
        if read.fail_on_missing_field && read.null_on_error {
            let message = "'json.fail-on-missing-field' and 'json.ignore-parse-errors' exclude each other";
            options.mistake_in(
                "json.fail-on-missing-field",
                message.to_owned(),
                Some("keep one of the two".to_owned()),
            );
        }
        // These say how JSON is written, or by which code Flink reads it.
        for key in [
            "json.map-null-key.mode",
            "json.map-null-key.literal",
            "json.encode.decimal-as-plain-number",
            "json.encode.ignore-null-fields",
            "json.decode.json-parser.enabled",
        ] {
            let _ = options.text(key);
        }
        read
    }
}

/// Decodes JSON objects.
pub struct JsonDecoder {
    options: JsonOptions,
    columns: Growing,
    keys: Keys,
}

/// The keys of an object in the order in which they came before: the next object most likely has the same.
#[derive(Default)]
struct Keys {
    order: Vec<Key>,
    /// For each column that is a row, or an array of rows, the keys of those.
    below: Vec<Keys>,
}

struct Key {
    /// Nothing in it needs an escape: a record has it just so.
    text: Box<[u8]>,
    column: Option<usize>,
}

/// How many keys of an object are remembered, and of how many bytes.
const KEYS_REMEMBERED: usize = 256;
const KEY_BYTES_REMEMBERED: usize = 256;

impl JsonDecoder {
    /// A decoder for the columns of `schema` at `projection`, ascending.
    #[must_use]
    pub fn new(options: JsonOptions, schema: &SchemaRef, projection: &[usize]) -> Self {
        let columns = Growing::new(schema, projection);
        let keys = Keys::of(columns.columns());
        Self { options, columns, keys }
    }
}

impl RecordDecoder for JsonDecoder {
    fn push(&mut self, record: &[u8]) -> Result<(), RecordError> {
        let record = text_of(record)?;
        if record.bytes().all(|byte| byte.is_ascii_whitespace()) {
            return Ok(());
        }
        let (options, keys) = (self.options, &mut self.keys);
        self.columns.push(|columns, row| {
            let mut reader = Reader { scanner: Scanner::new(record), options };
            if reader.scanner.peek() != Some(b'{') {
                let shown = clip(record.trim(), 64);
                return Err(Box::new(RecordError::Syntax(format!("a JSON object expected, '{shown}' found"))));
            }
            reader.object(columns, keys, row)?;
            reader.scanner.end()
        })
    }

    fn rows(&self) -> usize {
        self.columns.rows()
    }

    fn take(&mut self) -> RecordBatch {
        self.columns.take()
    }
}

impl Keys {
    fn of(columns: &[Column]) -> Self {
        let below = columns.iter().map(|column| match &column.values {
            Values::Row(fields) => Self::of(fields),
            Values::Array { item, .. } => Self::of(std::slice::from_ref(item)),
            _ => Self::default(),
        });
        Self { order: Vec::new(), below: below.collect() }
    }

    /// The column of a key, and the place in the order after it. `at` is where the key was looked for first.
    fn find(&mut self, key: &[u8], columns: &[Column], at: usize) -> (Option<usize>, usize) {
        if let Some(place) = self.order.iter().position(|known| *known.text == *key) {
            return (self.order[place].column, place + 1);
        }
        let column = columns.iter().position(|column| column.name().as_bytes() == key);
        let plain = !key.iter().any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        if plain && self.order.len() < KEYS_REMEMBERED && key.len() <= KEY_BYTES_REMEMBERED {
            self.order.insert(at, Key { text: key.into(), column });
            return (column, at + 1);
        }
        (column, at)
    }
}

/// Reads one record.
struct Reader<'a> {
    scanner: Scanner<'a>,
    options: JsonOptions,
}

impl Reader<'_> {
    /// Reads an object into row `row` of its columns.
    fn object(&mut self, columns: &mut [Column], keys: &mut Keys, row: usize) -> Read {
        self.scanner.open(b'{')?;
        let mut at = 0;
        let mut more = !self.scanner.close(b'}');
        while more {
            let column = match keys.order.get(at).filter(|key| self.scanner.take_key(&key.text)) {
                Some(key) => {
                    at += 1;
                    key.column
                }
                None => {
                    let key = self.scanner.key()?;
                    let (column, after) = keys.find(&key, columns, at);
                    at = after;
                    column
                }
            };
            self.scanner.colon()?;
            match column {
                Some(place) => {
                    let column = &mut columns[place];
                    column.resize(row);
                    self.value_or_null(column, &mut keys.below[place])?;
                }
                None => self.scanner.skip()?,
            }
            more = self.scanner.next_or_close(b'}')?;
        }
        self.check_missing(columns, row)
    }

    fn check_missing(&self, columns: &[Column], row: usize) -> Read {
        match columns
            .iter()
            .find(|column| column.len() <= row && (self.options.fail_on_missing_field || !column.is_nullable()))
        {
            Some(column) if column.is_nullable() => Err(column.refuse("the field is missing".to_owned())),
            Some(column) => Err(column.refuse("the field is missing, and the column is NOT NULL".to_owned())),
            None => Ok(()),
        }
    }

    /// Appends one value to the column.
    fn value_or_null(&mut self, column: &mut Column, keys: &mut Keys) -> Read {
        if !self.options.null_on_error {
            return self.value(column, keys);
        }
        let (place, len) = (self.scanner.place(), column.len());
        match self.value(column, keys) {
            Err(error) if matches!(*error, RecordError::Value { .. }) && column.is_nullable() => {
                column.truncate(len);
                column.append_nulls(1);
                self.scanner.go_back(place);
                self.scanner.skip()
            }
            read => read,
        }
    }

    fn value(&mut self, column: &mut Column, keys: &mut Keys) -> Read {
        match self.scanner.peek() {
            Some(b'"') => self.string(column),
            Some(b'-' | b'0'..=b'9') => self.number(column),
            Some(b'{') if matches!(column.values, Values::Row(_)) => self.row(column, keys),
            Some(b'[') if matches!(column.values, Values::Array { .. }) => self.array(column, keys),
            Some(b'n') => {
                self.scanner.literal("null")?;
                if !column.is_nullable() {
                    return Err(column.refuse("null in a column that is NOT NULL".to_owned()));
                }
                column.append_nulls(1);
                Ok(())
            }
            _ => self.other(column),
        }
    }

    fn string(&mut self, column: &mut Column) -> Read {
        if let Values::Text(views) = &mut column.values {
            let start = views.begin();
            self.scanner.string_into(views.data_mut())?;
            views.end(start);
            column.put();
            return Ok(());
        }
        let text = self.scanner.string()?;
        column.append_text(&text, self.options.timestamps)
    }

    fn number(&mut self, column: &mut Column) -> Read {
        let number = self.scanner.number()?;
        if let (Some(integer), Values::Int64(values)) = (number.integer, &mut column.values) {
            values.push(integer);
            column.put();
            return Ok(());
        }
        // A number is no time and no base64, though its digits may look like one.
        let standard = self.options.timestamps;
        let misfit = match &column.values {
            Values::Date(_) | Values::Time(_) | Values::Timestamp(_) | Values::Bytes(_) | Values::Boolean(_) => {
                Some(Misfit::Form)
            }
            Values::Int8(_) | Values::Int16(_) | Values::Int32(_) | Values::Int64(_) => {
                let put = text_value::integer(number.text).and_then(|integer| column.put_integer(integer));
                if put.is_ok() {
                    column.put();
                    return Ok(());
                }
                put.err()
            }
            _ => None,
        };
        match misfit {
            Some(misfit) => Err(column.misfit(number.text, misfit, standard)),
            None => column.append_text(number.text, standard),
        }
    }

    fn row(&mut self, column: &mut Column, keys: &mut Keys) -> Read {
        let row = column.len();
        let Values::Row(fields) = &mut column.values else { unreachable!("the caller looked") };
        match self.object(fields, keys, row) {
            Ok(()) => {
                column.put();
                Ok(())
            }
            Err(error) => Err(error.below(column.name(), ".")),
        }
    }

    fn array(&mut self, column: &mut Column, keys: &mut Keys) -> Read {
        let Values::Array { ends, item } = &mut column.values else { unreachable!("the caller looked") };
        let keys = &mut keys.below[0];
        let read = self.items(item, keys);
        let end = i32::try_from(item.len()).expect("a batch has fewer than 2^31 items");
        ends.push(end);
        match read {
            Ok(()) => {
                column.put();
                Ok(())
            }
            Err(error) => Err(error.below(column.name(), "")),
        }
    }

    fn items(&mut self, item: &mut Column, keys: &mut Keys) -> Read {
        self.scanner.open(b'[')?;
        let mut more = !self.scanner.close(b']');
        let mut index = 1_usize;
        while more {
            self.value_or_null(item, keys).map_err(|error| error.at_item(index))?;
            more = self.scanner.next_or_close(b']')?;
            index += 1;
        }
        Ok(())
    }

    /// Truth values, and whatever a text column takes as it is written.
    fn other(&mut self, column: &mut Column) -> Read {
        let text = self.scanner.raw()?;
        match &mut column.values {
            Values::Text(views) => {
                let start = views.begin();
                scanner::compact(text, views.data_mut());
                views.end(start);
                column.put();
                Ok(())
            }
            Values::Boolean(_) if matches!(text, "true" | "false") => column.append_text(text, self.options.timestamps),
            _ => Err(column.misfit(text, Misfit::Form, self.options.timestamps)),
        }
    }
}

#[cfg(test)]
mod tests;
