//! The columns of a batch with their types resolved once, for encoders that go row by row.

use arrow::array::{
    Array, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, StringViewArray, StructArray, Time32MillisecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Schema, TimeUnit};

/// A column has a type that no text form is known for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column '{column}' has the type {data_type}, which cannot be written as text")]
pub struct UnsupportedType {
    /// The column, or the path to its field.
    pub column: String,
    /// Its type.
    pub data_type: DataType,
}

/// A column behind its type.
#[derive(Debug)]
pub(super) enum Values<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Int8(&'a Int8Array),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Decimal(&'a Decimal128Array, usize),
    Date(&'a Date32Array),
    Time(&'a Time32MillisecondArray),
    Millis(&'a TimestampMillisecondArray, Zone),
    Micros(&'a TimestampMicrosecondArray, Zone),
    Text(&'a StringViewArray),
    Bytes(&'a BinaryViewArray),
    Row(&'a StructArray, Vec<Values<'a>>),
    List(&'a ListArray, Box<Values<'a>>),
}

/// Whether a timestamp is a moment on the world's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    /// TIMESTAMP: what a calendar and a clock show, wherever they hang.
    Local,
    /// TIMESTAMP_LTZ: a moment, written in UTC.
    Utc,
}

/// Checks that all columns can be written.
pub(super) fn check(schema: &Schema) -> Result<(), UnsupportedType> {
    schema.fields().iter().try_for_each(|field| check_type(field.name(), field.data_type()))
}

fn check_type(column: &str, data_type: &DataType) -> Result<(), UnsupportedType> {
    use DataType as T;
    match data_type {
        T::Struct(fields) => {
            fields.iter().try_for_each(|field| check_type(&format!("{column}.{}", field.name()), field.data_type()))
        }
        T::List(element) => check_type(&format!("{column}.element"), element.data_type()),
        T::Null | T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 => Ok(()),
        T::Decimal128(_, 0..) | T::Date32 | T::Time32(TimeUnit::Millisecond) | T::Utf8View | T::BinaryView => Ok(()),
        T::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, _) => Ok(()),
        _ => Err(UnsupportedType { column: column.to_owned(), data_type: data_type.clone() }),
    }
}

impl<'a> Values<'a> {
    /// The values of a column that [`check`] has let pass.
    pub(super) fn of(column: &'a dyn Array) -> Result<Self, UnsupportedType> {
        use DataType as T;
        let unsupported = || UnsupportedType { column: String::new(), data_type: column.data_type().clone() };
        let zone = |zone: &Option<_>| if zone.is_some() { Zone::Utc } else { Zone::Local };
        Ok(match column.data_type() {
            T::Null => Self::Null,
            T::Boolean => Self::Boolean(typed(column)),
            T::Int8 => Self::Int8(typed(column)),
            T::Int16 => Self::Int16(typed(column)),
            T::Int32 => Self::Int32(typed(column)),
            T::Int64 => Self::Int64(typed(column)),
            T::Float32 => Self::Float32(typed(column)),
            T::Float64 => Self::Float64(typed(column)),
            T::Decimal128(_, scale @ 0..) => Self::Decimal(typed(column), usize::from(scale.unsigned_abs())),
            T::Date32 => Self::Date(typed(column)),
            T::Time32(TimeUnit::Millisecond) => Self::Time(typed(column)),
            T::Timestamp(TimeUnit::Millisecond, utc) => Self::Millis(typed(column), zone(utc)),
            T::Timestamp(TimeUnit::Microsecond, utc) => Self::Micros(typed(column), zone(utc)),
            T::Utf8View => Self::Text(typed(column)),
            T::BinaryView => Self::Bytes(typed(column)),
            T::Struct(_) => {
                let rows: &StructArray = typed(column);
                Self::Row(rows, rows.columns().iter().map(|field| Self::of(field)).collect::<Result<_, _>>()?)
            }
            T::List(_) => {
                let lists: &ListArray = typed(column);
                Self::List(lists, Box::new(Self::of(lists.values())?))
            }
            _ => return Err(unsupported()),
        })
    }

    /// True when the value of `row` is NULL.
    pub(super) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Boolean(array) => array.is_null(row),
            Self::Int8(array) => array.is_null(row),
            Self::Int16(array) => array.is_null(row),
            Self::Int32(array) => array.is_null(row),
            Self::Int64(array) => array.is_null(row),
            Self::Float32(array) => array.is_null(row),
            Self::Float64(array) => array.is_null(row),
            Self::Decimal(array, _) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Time(array) => array.is_null(row),
            Self::Millis(array, _) => array.is_null(row),
            Self::Micros(array, _) => array.is_null(row),
            Self::Text(array) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
            Self::Row(array, _) => array.is_null(row),
            Self::List(array, _) => array.is_null(row),
        }
    }
}

fn typed<T: 'static>(column: &dyn Array) -> &T {
    column.as_any().downcast_ref().expect("an array is what its type says")
}

/// One row with a value of each type, and those that are written in another way.
#[cfg(test)]
pub(super) fn samples() -> arrow::array::RecordBatch {
    use arrow::array::{ArrayRef, NullArray, RecordBatch};
    use arrow::datatypes::{Field, Int32Type};
    use std::sync::Arc;

    const NEW_YEAR_MS: i64 = 1_767_225_600_000;
    let decimal = |value: i128, precision: u8, scale: i8| {
        let column = Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale);
        Arc::new(column.expect("the sample fits its type")) as ArrayRef
    };
    let (one, none) = (Int32Array::from(vec![Some(1)]), Int32Array::from(vec![None]));
    let row = StructArray::from(vec![
        (Arc::new(Field::new("a", DataType::Int32, true)), Arc::new(one) as ArrayRef),
        (Arc::new(Field::new("b", DataType::Int32, true)), Arc::new(none) as ArrayRef),
    ]);
    let list = |items: Vec<Option<i32>>| {
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(items)])) as ArrayRef
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("null", Arc::new(NullArray::new(1))),
        ("boolean", Arc::new(BooleanArray::from(vec![true]))),
        ("tinyint", Arc::new(Int8Array::from(vec![i8::MIN]))),
        ("smallint", Arc::new(Int16Array::from(vec![i16::MAX]))),
        ("int", Arc::new(Int32Array::from(vec![i32::MIN]))),
        ("bigint", Arc::new(Int64Array::from(vec![i64::MIN]))),
        ("float", Arc::new(Float32Array::from(vec![0.1]))),
        ("double", Arc::new(Float64Array::from(vec![12_345_678.5]))),
        ("large", Arc::new(Float64Array::from(vec![1e300]))),
        ("nan", Arc::new(Float64Array::from(vec![f64::NAN]))),
        ("decimal", decimal(-12_300, 10, 3)),
        ("small_decimal", decimal(1, 10, 8)),
        ("date", Arc::new(Date32Array::from(vec![19_782]))),
        ("time", Arc::new(Time32MillisecondArray::from(vec![32_700_000]))),
        ("time_ms", Arc::new(Time32MillisecondArray::from(vec![86_399_070]))),
        ("timestamp", Arc::new(TimestampMillisecondArray::from(vec![NEW_YEAR_MS]))),
        ("before_1970", Arc::new(TimestampMillisecondArray::from(vec![-1]))),
        ("micros", Arc::new(TimestampMicrosecondArray::from(vec![NEW_YEAR_MS * 1000 + 120]))),
        ("ltz", Arc::new(TimestampMillisecondArray::from(vec![NEW_YEAR_MS + 500]).with_timezone("UTC"))),
        ("text", Arc::new(StringViewArray::from(vec!["a\"b\\c\nü\u{1}"]))),
        ("bytes", Arc::new(BinaryViewArray::from(vec![&[0u8, 255, 254, 255][..]]))),
        ("row", Arc::new(row)),
        ("array", list(vec![Some(1), None, Some(3)])),
        ("empty", list(vec![])),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .expect("the samples have one row each")
}
