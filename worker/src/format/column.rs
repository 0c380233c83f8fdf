//! Columns under construction, which can be cut back when the record that they were reading turns out to be bad.
//!
//! A column may be shorter than the number of rows begun: the rows that it misses are NULL and are made up for in bulk
//! before its next value and at the end.

use super::date_time::{self, Standard};
use super::text_value::{self, Misfit};
use super::{RecordError, clip, sql_type};
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryViewArray, BooleanArray, BooleanBufferBuilder, ListArray, NullBufferBuilder,
    PrimitiveArray, StringViewArray, StructArray, make_view,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use std::mem;
use std::sync::Arc;

/// A column of a table, a field of a row, or the items of arrays.
pub(super) struct Column {
    field: FieldRef,
    pub(super) values: Values,
    nulls: NullBufferBuilder,
}

/// The values so far; NULL takes a place with any value.
pub(super) enum Values {
    Boolean(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    Date(Vec<i32>),
    Time(Vec<i32>),
    Timestamp(Vec<i64>),
    Text(Views),
    Bytes(Views),
    Row(Vec<Column>),
    Array { ends: Vec<i32>, item: Box<Column> },
}

/// Texts of any length: the short ones in their views, the others one after the other in `data`.
#[derive(Default)]
pub(super) struct Views {
    data: Vec<u8>,
    views: Vec<u128>,
}

/// True for the types that a column of text or JSON can be read into.
pub(super) fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| is_supported(field.data_type())),
        DataType::List(item) => is_supported(item.data_type()),
        DataType::Decimal128(..) | DataType::Timestamp(..) | DataType::Time32(TimeUnit::Millisecond) => true,
        scalar => matches!(
            scalar,
            DataType::Boolean
                | DataType::Int8
                | DataType::Int16
                | DataType::Int32
                | DataType::Int64
                | DataType::Float32
                | DataType::Float64
                | DataType::Date32
                | DataType::Utf8View
                | DataType::BinaryView
        ),
    }
}

impl Column {
    /// An empty column of a type that [`is_supported`].
    pub(super) fn new(field: &FieldRef) -> Self {
        let values = match field.data_type() {
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Decimal128(..) => Values::Decimal(Vec::new()),
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Time32(_) => Values::Time(Vec::new()),
            DataType::Timestamp(..) => Values::Timestamp(Vec::new()),
            DataType::Utf8View => Values::Text(Views::default()),
            DataType::BinaryView => Values::Bytes(Views::default()),
            DataType::Struct(fields) => Values::Row(fields.iter().map(Self::new).collect()),
            DataType::List(item) => Values::Array { ends: Vec::new(), item: Box::new(Self::new(item)) },
            other => unreachable!("the type {other} was refused at plan time"),
        };
        Self { field: Arc::clone(field), values, nulls: NullBufferBuilder::new(0) }
    }

    pub(super) fn name(&self) -> &str {
        self.field.name()
    }

    pub(super) fn is_nullable(&self) -> bool {
        self.field.is_nullable()
    }

    pub(super) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Counts a value that was put into `values`.
    pub(super) fn put(&mut self) {
        self.nulls.append_non_null();
    }

    /// Makes the column `len` rows long: what is missing is NULL, what is too much goes.
    pub(super) fn resize(&mut self, len: usize) {
        if self.len() < len {
            self.append_nulls(len - self.len());
        } else if self.len() > len {
            self.truncate(len);
        }
    }

    pub(super) fn append_nulls(&mut self, count: usize) {
        let len = self.len() + count;
        match &mut self.values {
            Values::Boolean(bits) => bits.resize(len),
            Values::Int8(values) => values.resize(len, 0),
            Values::Int16(values) => values.resize(len, 0),
            Values::Int32(values) | Values::Date(values) | Values::Time(values) => values.resize(len, 0),
            Values::Int64(values) | Values::Timestamp(values) => values.resize(len, 0),
            Values::Float32(values) => values.resize(len, 0.0),
            Values::Float64(values) => values.resize(len, 0.0),
            Values::Decimal(values) => values.resize(len, 0),
            Values::Text(views) | Values::Bytes(views) => views.views.resize(len, 0),
            // Fields are made up for later.
            Values::Row(_) => {}
            Values::Array { ends, .. } => ends.resize(len, ends.last().copied().unwrap_or(0)),
        }
        self.nulls.append_n_nulls(count);
    }

    /// Drops all rows from `len` on, also a value of `values` that was not counted by [`Column::put`].
    pub(super) fn truncate(&mut self, len: usize) {
        match &mut self.values {
            Values::Boolean(bits) => {
                if bits.len() > len {
                    bits.truncate(len);
                }
            }
            Values::Int8(values) => values.truncate(len),
            Values::Int16(values) => values.truncate(len),
            Values::Int32(values) | Values::Date(values) | Values::Time(values) => values.truncate(len),
            Values::Int64(values) | Values::Timestamp(values) => values.truncate(len),
            Values::Float32(values) => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::Decimal(values) => values.truncate(len),
            Values::Text(views) | Values::Bytes(views) => views.views.truncate(len),
            Values::Row(fields) => fields.iter_mut().for_each(|field| field.truncate(len)),
            Values::Array { ends, item } => {
                ends.truncate(len);
                item.truncate(ends.last().map_or(0, |end| *end as usize));
            }
        }
        if self.nulls.len() > len {
            self.nulls.truncate(len);
        }
    }

    /// Reads the value from a text, for types whose values are written as one.
    pub(super) fn append_text(&mut self, text: &str, standard: Standard) -> Result<(), Box<RecordError>> {
        let parsed = self.read_text(text, standard);
        match parsed {
            Ok(()) => {
                self.put();
                Ok(())
            }
            Err(misfit) => Err(self.misfit(text, misfit, standard)),
        }
    }

    fn read_text(&mut self, text: &str, standard: Standard) -> Result<(), Misfit> {
        let data_type = self.field.data_type();
        if let Values::Text(views) = &mut self.values {
            views.push(text.as_bytes());
            return Ok(());
        }
        let text = text.trim();
        match &mut self.values {
            Values::Boolean(bits) => bits.append(text_value::boolean(text)?),
            Values::Int8(_) | Values::Int16(_) | Values::Int32(_) | Values::Int64(_) => {
                return self.put_integer(text_value::integer(text)?);
            }
            Values::Float32(_) | Values::Float64(_) => return self.put_float(text_value::float(text)?),
            Values::Decimal(values) => {
                let &DataType::Decimal128(precision, scale) = data_type else {
                    unreachable!("decimals are Decimal128")
                };
                values.push(text_value::decimal(text, precision, scale)?);
            }
            Values::Date(values) => values.push(date_time::date(text.as_bytes()).ok_or(Misfit::Form)?),
            Values::Time(values) => {
                let clock = text.strip_suffix('Z').unwrap_or(text);
                let nanos = date_time::time(clock.as_bytes()).ok_or(Misfit::Form)?;
                values.push(i32::try_from(nanos / 1_000_000).expect("a day has fewer than 2^31 milliseconds"));
            }
            Values::Timestamp(values) => {
                let DataType::Timestamp(unit, zone) = data_type else { unreachable!("timestamps are Timestamp") };
                let ticks = date_time::timestamp(text.as_bytes(), standard, *unit, zone.is_some());
                values.push(ticks.ok_or(Misfit::Form)?);
            }
            Values::Bytes(views) => {
                let start = views.begin();
                text_value::base64(text.as_bytes(), views.data_mut())?;
                views.end(start);
            }
            Values::Text(_) | Values::Row(_) | Values::Array { .. } => return Err(Misfit::Form),
        }
        Ok(())
    }

    /// Puts a whole number into a column of one of the integer types, without counting it.
    pub(super) fn put_integer(&mut self, number: i64) -> Result<(), Misfit> {
        match &mut self.values {
            Values::Int64(values) => values.push(number),
            Values::Int32(values) => values.push(i32::try_from(number).map_err(|_| Misfit::Range)?),
            Values::Int16(values) => values.push(i16::try_from(number).map_err(|_| Misfit::Range)?),
            Values::Int8(values) => values.push(i8::try_from(number).map_err(|_| Misfit::Range)?),
            _ => return Err(Misfit::Form),
        }
        Ok(())
    }

    fn put_float(&mut self, number: f64) -> Result<(), Misfit> {
        match &mut self.values {
            Values::Float64(values) => values.push(number),
            Values::Float32(values) => {
                // FLOAT keeps the digits it can; only the range is checked.
                let narrow = number as f32;
                if narrow.is_infinite() && number.is_finite() {
                    return Err(Misfit::Range);
                }
                values.push(narrow);
            }
            _ => return Err(Misfit::Form),
        }
        Ok(())
    }

    /// Says why `text` is no value of the column.
    pub(super) fn misfit(&self, text: &str, misfit: Misfit, standard: Standard) -> Box<RecordError> {
        let (shown, kind) = (clip(text, 64), sql_type(self.field.data_type()));
        let reason = match misfit {
            Misfit::Range => format!("'{shown}' is out of the range of {kind}"),
            Misfit::Fraction => format!("'{shown}' has a fraction, which {kind} cannot hold"),
            Misfit::Form => match self.field.data_type() {
                DataType::Timestamp(_, zone) => {
                    format!("'{shown}' is no {kind}: {} expected", standard.pattern(zone.is_some()))
                }
                DataType::Date32 => format!("'{shown}' is no DATE: yyyy-MM-dd expected"),
                DataType::Time32(_) => format!("'{shown}' is no TIME: HH:mm:ss.SSS expected"),
                DataType::BinaryView => format!("'{shown}' is no BYTES: base64 expected"),
                _ => format!("'{shown}' is no {kind}"),
            },
        };
        self.refuse(reason)
    }

    /// An error about this column.
    pub(super) fn refuse(&self, reason: String) -> Box<RecordError> {
        Box::new(RecordError::Value { column: self.name().to_owned(), reason })
    }

    /// The first `rows` rows as an array; the column is empty afterwards.
    pub(super) fn finish(&mut self, rows: usize) -> ArrayRef {
        self.resize(rows);
        let nulls = self.nulls.finish();
        let data_type = self.field.data_type();
        match &mut self.values {
            Values::Boolean(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::Int8(values) => primitive::<Int8Type>(values, nulls),
            Values::Int16(values) => primitive::<Int16Type>(values, nulls),
            Values::Int32(values) => primitive::<Int32Type>(values, nulls),
            Values::Int64(values) => primitive::<Int64Type>(values, nulls),
            Values::Float32(values) => primitive::<Float32Type>(values, nulls),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls),
            Values::Decimal(values) => {
                Arc::new(typed::<Decimal128Type>(values, nulls).with_data_type(data_type.clone()))
            }
            Values::Date(values) => primitive::<Date32Type>(values, nulls),
            Values::Time(values) => primitive::<Time32MillisecondType>(values, nulls),
            Values::Timestamp(values) => timestamps(values, nulls, data_type),
            Values::Text(views) => views.finish_text(nulls),
            Values::Bytes(views) => views.finish_bytes(nulls),
            Values::Row(columns) => {
                let DataType::Struct(fields) = data_type else { unreachable!("rows are Struct") };
                let columns = columns.iter_mut().map(|column| column.finish(rows)).collect();
                // Under a row that is NULL its fields are NULL, also those declared NOT NULL.
                Arc::new(
                    StructArray::try_new_with_length(fields.clone(), columns, nulls, rows)
                        .expect("a row has a value for each of its fields"),
                )
            }
            Values::Array { ends, item } => {
                let DataType::List(field) = data_type else { unreachable!("arrays are List") };
                let items = item.finish(ends.last().map_or(0, |end| *end as usize));
                let offsets: Vec<i32> = std::iter::once(0).chain(ends.drain(..)).collect();
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                Arc::new(ListArray::new(Arc::clone(field), offsets, items, nulls))
            }
        }
    }
}

impl Views {
    /// Appends a text.
    pub(super) fn push(&mut self, text: &[u8]) {
        let start = self.begin();
        self.data.extend_from_slice(text);
        self.end(start);
    }

    /// Where the next text starts; its bytes are appended to [`Views::data_mut`] until [`Views::end`].
    pub(super) fn begin(&self) -> usize {
        self.data.len()
    }

    pub(super) fn data_mut(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    /// Ends the text that began at `start`.
    pub(super) fn end(&mut self, start: usize) {
        let offset = u32::try_from(start).expect("a batch has less than 4 GiB of text");
        let text = &self.data[start..];
        let inline = text.len() <= 12;
        self.views.push(make_view(text, 0, offset));
        if inline {
            self.data.truncate(start);
        }
    }

    fn finish_text(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (views, buffers) = self.take();
        // SAFETY: each view was made by `make_view` from bytes that lie at its offset in the one buffer, and every text
        // comes from a record that was checked to be UTF-8 as a whole and is cut only beside ASCII characters.
        Arc::new(unsafe { StringViewArray::new_unchecked(views, buffers, nulls) })
    }

    fn finish_bytes(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (views, buffers) = self.take();
        Arc::new(BinaryViewArray::new(views, buffers, nulls))
    }

    fn take(&mut self) -> (ScalarBuffer<u128>, Vec<Buffer>) {
        let views = ScalarBuffer::from(take_with_room(&mut self.views));
        let data = take_with_room(&mut self.data);
        (views, if data.is_empty() { Vec::new() } else { vec![Buffer::from_vec(data)] })
    }
}

/// Takes the values, without much spare memory, and leaves room for as many again.
fn take_with_room<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    let mut taken = mem::replace(values, room);
    if taken.capacity() > taken.len() + taken.len() / 4 {
        taken.shrink_to_fit();
    }
    taken
}

fn typed<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> PrimitiveArray<T> {
    PrimitiveArray::new(ScalarBuffer::from(take_with_room(values)), nulls)
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(typed::<T>(values, nulls))
}

fn timestamps(values: &mut Vec<i64>, nulls: Option<NullBuffer>, data_type: &DataType) -> ArrayRef {
    let DataType::Timestamp(unit, zone) = data_type else { unreachable!("timestamps are Timestamp") };
    let zone = zone.clone();
    match unit {
        TimeUnit::Second => Arc::new(typed::<TimestampSecondType>(values, nulls).with_timezone_opt(zone)),
        TimeUnit::Millisecond => Arc::new(typed::<TimestampMillisecondType>(values, nulls).with_timezone_opt(zone)),
        TimeUnit::Microsecond => Arc::new(typed::<TimestampMicrosecondType>(values, nulls).with_timezone_opt(zone)),
        TimeUnit::Nanosecond => Arc::new(typed::<TimestampNanosecondType>(values, nulls).with_timezone_opt(zone)),
    }
}

/// One value as a column of `rows` equal ones: what a file's path says about all of its rows.
pub(crate) fn constant(field: &Field, text: Option<&str>, rows: usize) -> Result<ArrayRef, Box<RecordError>> {
    let mut column = Column::new(&Arc::new(field.clone()));
    match text {
        Some(text) => column.append_text(text, Standard::Sql)?,
        None => column.append_nulls(1),
    }
    let one = column.finish(1);
    let places = arrow::array::UInt32Array::from(vec![0; rows]);
    Ok(arrow::compute::take(&one, &places, None).expect("the first row is taken from one row"))
}
