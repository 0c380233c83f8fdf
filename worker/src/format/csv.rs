//! CSV (RFC 4180) as Flink reads it: columns by place, values as text.

use super::column::{Column, Values};
use super::date_time::Standard;
use super::growing::{Growing, Read, text_of};
use super::record_reader::{Framing, Quoting};
use super::{RecordDecoder, RecordError};
use crate::connector::options::Options;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::borrow::Cow;

/// Flink's options of the CSV format, and two of our own.
#[derive(Debug, Clone)]
pub struct CsvOptions {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    comments: Comments,
    null_literal: Option<String>,
    element_delimiter: String,
    null_on_error: bool,
    header: Header,
    line_breaks: LineBreaks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comments {
    Skipped,
    Data,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    Skipped,
    None,
}

/// Whether quoted values may hold line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineBreaks {
    Allowed,
    Never,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            comments: Comments::Data,
            null_literal: None,
            element_delimiter: ";".to_owned(),
            null_on_error: false,
            header: Header::None,
            line_breaks: LineBreaks::Allowed,
        }
    }
}

impl CsvOptions {
    /// Reads the options `csv.*`; mistakes are noted there, and the answer then may be `None`.
    #[must_use]
    pub fn from_options(options: &Options) -> Option<Self> {
        let defaults = Self::default();
        let flag = |key: &str, default: bool| options.boolean(key).unwrap_or(default);
        let quote = options.parsed("csv.quote-character", character).unwrap_or(b'"');
        let quoted = !flag("csv.disable-quote-character", false);
        let _ = options.text("csv.write-bigdecimal-in-scientific-notation");
        let read = Self {
            delimiter: options.parsed("csv.field-delimiter", character).unwrap_or(defaults.delimiter),
            quote: quoted.then_some(quote),
            escape: options.parsed("csv.escape-character", character),
            comments: if flag("csv.allow-comments", false) { Comments::Skipped } else { Comments::Data },
            null_literal: options.text("csv.null-literal"),
            element_delimiter: options.text("csv.array-element-delimiter").unwrap_or(defaults.element_delimiter),
            null_on_error: flag("csv.ignore-parse-errors", false),
            header: if flag("csv.header", false) { Header::Skipped } else { Header::None },
            line_breaks: if flag("csv.quoted-line-breaks", true) { LineBreaks::Allowed } else { LineBreaks::Never },
        };
        if read.quote == Some(read.delimiter) {
            let message = "fields are delimited and quoted by the same character".to_owned();
            options.mistake_in("csv.field-delimiter", message, None);
            return None;
        }
        if read.element_delimiter.is_empty() {
            options.mistake_in("csv.array-element-delimiter", "the delimiter of elements is empty".to_owned(), None);
            return None;
        }
        Some(read)
    }

    /// How records of a file are told from each other.
    #[must_use]
    pub fn framing(&self) -> Framing {
        match (self.quote, self.line_breaks) {
            (Some(quote), LineBreaks::Allowed) => Framing::Quoted(Quoting {
                delimiter: self.delimiter,
                quote,
                escape: self.escape,
                comment: (self.comments == Comments::Skipped).then_some(b'#'),
            }),
            _ => Framing::Lines,
        }
    }

    /// True when the first record of a file is not data.
    #[must_use]
    pub fn has_header(&self) -> bool {
        self.header == Header::Skipped
    }
}

/// One ASCII character, also as `\t` or `\u0001`.
fn character(text: &str) -> Result<u8, String> {
    let code = match text {
        "\\t" => Some(b'\t'),
        "\\\\" => Some(b'\\'),
        _ => match text.strip_prefix("\\u") {
            Some(digits) => u8::from_str_radix(digits, 16).ok(),
            None => <[u8; 1]>::try_from(text.as_bytes()).ok().map(|[byte]| byte),
        },
    };
    code.filter(|byte| byte.is_ascii() && !matches!(byte, b'\n' | b'\r'))
        .ok_or_else(|| "one ASCII character expected, such as ',' or '\\t'".to_owned())
}

/// Decodes records of delimited values.
pub struct CsvDecoder {
    options: CsvOptions,
    columns: Growing,
    /// For each field of a record, the column that it goes to.
    places: Vec<Option<usize>>,
}

impl CsvDecoder {
    /// A decoder for the columns of `schema` at `projection`, ascending. A record has all columns of `schema`.
    #[must_use]
    pub fn new(options: CsvOptions, schema: &SchemaRef, projection: &[usize]) -> Self {
        let places = (0..schema.fields().len()).map(|field| projection.iter().position(|column| *column == field));
        Self { options, columns: Growing::new(schema, projection), places: places.collect() }
    }
}

impl RecordDecoder for CsvDecoder {
    fn push(&mut self, record: &[u8]) -> Result<(), RecordError> {
        let (options, places) = (&self.options, &self.places);
        let record = text_of(record)?;
        if record.is_empty() || (options.comments == Comments::Skipped && record.starts_with('#')) {
            return Ok(());
        }
        self.columns.push(|columns, row| {
            let count = put_record(record, columns, places, options)?;
            complete(columns, row, count, places.len(), options)
        })
    }

    fn rows(&self) -> usize {
        self.columns.rows()
    }

    fn take(&mut self) -> RecordBatch {
        self.columns.take()
    }
}

/// Puts each field where it belongs; the answer is how many there were.
fn put_record(
    record: &str,
    columns: &mut [Column],
    places: &[Option<usize>],
    options: &CsvOptions,
) -> Result<usize, Box<RecordError>> {
    let mut rest = Some(record);
    let mut count = 0;
    while let Some(text) = rest {
        let field = take_field(text, options)?;
        rest = field.rest;
        if let Some(place) = places.get(count).copied().flatten() {
            put(&mut columns[place], &field.text, options)?;
        }
        count += 1;
    }
    Ok(count)
}

/// Fields that a record does not have are NULL, where the options allow that.
fn complete(columns: &mut [Column], row: usize, count: usize, expected: usize, options: &CsvOptions) -> Read {
    if count > expected || (count < expected && !options.null_on_error) {
        return Err(Box::new(RecordError::Syntax(format!("{expected} fields expected, {count} found"))));
    }
    columns.iter_mut().filter(|column| column.len() == row).try_for_each(append_null)
}

/// A field, and what follows after the delimiter; `None` when it is the last one.
struct Field<'a> {
    text: Cow<'a, str>,
    rest: Option<&'a str>,
}

fn take_field<'a>(text: &'a str, options: &CsvOptions) -> Result<Field<'a>, Box<RecordError>> {
    let bytes = text.as_bytes();
    if options.quote.is_some_and(|quote| bytes.first() == Some(&quote)) {
        return take_quoted(text, options);
    }
    let stop = bytes.iter().position(|byte| *byte == options.delimiter || Some(*byte) == options.escape);
    match stop {
        None => Ok(Field { text: Cow::Borrowed(text), rest: None }),
        Some(end) if bytes[end] == options.delimiter => {
            Ok(Field { text: Cow::Borrowed(&text[..end]), rest: Some(&text[end + 1..]) })
        }
        Some(_) => take_escaped(text, options),
    }
}

fn take_escaped<'a>(text: &'a str, options: &CsvOptions) -> Result<Field<'a>, Box<RecordError>> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if is(character, Some(options.delimiter)) {
            return Ok(Field { text: Cow::Owned(value), rest: Some(&text[at + 1..]) });
        }
        if is(character, options.escape) {
            value.extend(characters.next().map(|(_, character)| character));
        } else {
            value.push(character);
        }
    }
    Ok(Field { text: Cow::Owned(value), rest: None })
}

fn take_quoted<'a>(text: &'a str, options: &CsvOptions) -> Result<Field<'a>, Box<RecordError>> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if is(character, options.escape) && options.escape != options.quote {
            value.extend(characters.next().map(|(_, character)| character));
        } else if !is(character, options.quote) || characters.next_if(|(_, next)| is(*next, options.quote)).is_some() {
            // A quote that comes twice stands for itself.
            value.push(character);
        } else {
            let rest = &text[at + 1..];
            return match rest.as_bytes().first() {
                None => Ok(Field { text: Cow::Owned(value), rest: None }),
                Some(byte) if *byte == options.delimiter => {
                    Ok(Field { text: Cow::Owned(value), rest: Some(&rest[1..]) })
                }
                Some(_) => {
                    let place = text.len() - rest.len();
                    Err(syntax(format!("text follows after the quote at byte {place} of the field")))
                }
            };
        }
    }
    Err(syntax("a quote is not closed".to_owned()))
}

fn syntax(reason: String) -> Box<RecordError> {
    Box::new(RecordError::Syntax(reason))
}

fn is(character: char, byte: Option<u8>) -> bool {
    byte.is_some_and(|byte| char::from(byte) == character)
}

fn put(column: &mut Column, text: &str, options: &CsvOptions) -> Read {
    let len = column.len();
    let read = put_value(column, text, options);
    match read {
        Err(_) if options.null_on_error && column.is_nullable() => {
            column.truncate(len);
            column.append_nulls(1);
            Ok(())
        }
        read => read,
    }
}

fn put_value(column: &mut Column, text: &str, options: &CsvOptions) -> Read {
    let is_text = matches!(column.values, Values::Text(_));
    if options.null_literal.as_deref() == Some(text) || (text.is_empty() && !is_text) {
        return append_null(column);
    }
    let row = column.len();
    let elements = text.split(options.element_delimiter.as_str());
    let read = match &mut column.values {
        Values::Array { ends, item } => {
            let read = put_items(item, elements, options);
            ends.push(i32::try_from(item.len()).expect("a batch has fewer than 2^31 items"));
            read.map_err(|error| error.below(column.name(), ""))
        }
        Values::Row(fields) => {
            let (expected, found) = (fields.len(), elements.clone().count());
            if found != expected {
                return Err(column.refuse(format!("{expected} elements expected, {found} found")));
            }
            put_fields(fields, elements, row, options).map_err(|error| error.below(column.name(), "."))
        }
        _ => return column.append_text(text, Standard::Sql),
    };
    read?;
    column.put();
    Ok(())
}

fn put_items<'a>(item: &mut Column, elements: impl Iterator<Item = &'a str>, options: &CsvOptions) -> Read {
    for (place, element) in elements.enumerate() {
        put(item, element, options).map_err(|error| error.at_item(place + 1))?;
    }
    Ok(())
}

fn put_fields<'a>(
    fields: &mut [Column],
    elements: impl Iterator<Item = &'a str>,
    row: usize,
    options: &CsvOptions,
) -> Read {
    for (field, element) in fields.iter_mut().zip(elements) {
        field.resize(row);
        put(field, element, options)?;
    }
    Ok(())
}

fn append_null(column: &mut Column) -> Read {
    if !column.is_nullable() {
        return Err(column.refuse("no value in a column that is NOT NULL".to_owned()));
    }
    column.append_nulls(1);
    Ok(())
}

#[cfg(test)]
mod tests;
