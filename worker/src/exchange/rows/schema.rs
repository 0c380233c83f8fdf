//! The columns of a stream, as they are told once.
//!
//! Arrow's own form of a schema is not used: reading it panics on types that it does not know. This one holds what can
//! be in a batch and nothing else.

use crate::failure::{Failure, Result};
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
struct Column {
    name: String,
    nullable: bool,
    r#type: Type,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
enum Type {
    Plain(Plain),
    FixedBytes(u32),
    Decimal128(u8, i8),
    Decimal256(u8, i8),
    Timestamp(Unit, Option<String>),
    Struct(Vec<Column>),
    List(Box<Column>),
    LargeList(Box<Column>),
}

#[derive(Serialize, Deserialize, Clone, Copy)]
enum Unit {
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
}

/// Declares the types that are a name and no more.
macro_rules! plain {
    ($($name:ident => $data_type:expr,)*) => {
        #[derive(Serialize, Deserialize, Clone, Copy)]
        enum Plain { $($name,)* }

        const PLAIN: &[(Plain, DataType)] = &[$((Plain::$name, $data_type),)*];

        impl Plain {
            fn data_type(self) -> DataType {
                match self { $(Self::$name => $data_type,)* }
            }
        }
    };
}

plain! {
    Null => DataType::Null,
    Boolean => DataType::Boolean,
    Int8 => DataType::Int8,
    Int16 => DataType::Int16,
    Int32 => DataType::Int32,
    Int64 => DataType::Int64,
    UInt8 => DataType::UInt8,
    UInt16 => DataType::UInt16,
    UInt32 => DataType::UInt32,
    UInt64 => DataType::UInt64,
    Float32 => DataType::Float32,
    Float64 => DataType::Float64,
    Date32 => DataType::Date32,
    Date64 => DataType::Date64,
    Time32Second => DataType::Time32(TimeUnit::Second),
    Time32Millisecond => DataType::Time32(TimeUnit::Millisecond),
    Time64Microsecond => DataType::Time64(TimeUnit::Microsecond),
    Time64Nanosecond => DataType::Time64(TimeUnit::Nanosecond),
    IntervalYearMonth => DataType::Interval(IntervalUnit::YearMonth),
    IntervalDayTime => DataType::Interval(IntervalUnit::DayTime),
    IntervalMonthDayNano => DataType::Interval(IntervalUnit::MonthDayNano),
    Utf8 => DataType::Utf8,
    LargeUtf8 => DataType::LargeUtf8,
    Utf8View => DataType::Utf8View,
    Binary => DataType::Binary,
    LargeBinary => DataType::LargeBinary,
    BinaryView => DataType::BinaryView,
}

/// What is wrong with the columns that a peer tells.
#[derive(Debug, thiserror::Error)]
pub(in crate::exchange) enum Error {
    #[error("the columns of a stream cannot be understood")]
    Malformed(#[source] serde_json::Error),
    #[error("a column has a type that does not exist: {0}")]
    Type(&'static str),
}

/// The bytes that tell the columns. Fails with kind `Bug` for types that no batch of the engine has.
pub(in crate::exchange) fn encode(schema: &Schema) -> Result<Vec<u8>> {
    let columns = schema.fields().iter().map(|field| Column::of(field)).collect::<Result<Vec<_>>>()?;
    Ok(serde_json::to_vec(&columns).expect("texts and numbers have a JSON form"))
}

/// The columns out of their bytes. Nesting is limited by the JSON reader.
pub(in crate::exchange) fn decode(bytes: &[u8]) -> Result<SchemaRef, Error> {
    let columns: Vec<Column> = serde_json::from_slice(bytes).map_err(Error::Malformed)?;
    Ok(Arc::new(Schema::new(fields(columns)?)))
}

fn fields(columns: Vec<Column>) -> Result<Fields, Error> {
    columns.into_iter().map(Column::field).collect()
}

impl Column {
    fn of(field: &Field) -> Result<Self> {
        let r#type = Type::of(field.data_type()).ok_or_else(|| {
            Failure::bug(format!("column {} of type {} cannot go to another worker", field.name(), field.data_type()))
        })??;
        let metadata = field.metadata().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Self { name: field.name().clone(), nullable: field.is_nullable(), r#type, metadata })
    }

    fn field(self) -> Result<Field, Error> {
        let field = Field::new(self.name, self.r#type.data_type()?, self.nullable);
        Ok(field.with_metadata(self.metadata.into_iter().collect()))
    }
}

impl Type {
    fn of(data_type: &DataType) -> Option<Result<Self>> {
        let of_list =
            |field: &Field, list: fn(Box<Column>) -> Self| Column::of(field).map(|column| list(Box::new(column)));
        Some(match data_type {
            DataType::FixedSizeBinary(width) => Ok(Self::FixedBytes(u32::try_from(*width).ok()?)),
            DataType::Decimal128(precision, scale) => Ok(Self::Decimal128(*precision, *scale)),
            DataType::Decimal256(precision, scale) => Ok(Self::Decimal256(*precision, *scale)),
            DataType::Timestamp(unit, zone) => {
                Ok(Self::Timestamp(Unit::of(*unit), zone.as_ref().map(ToString::to_string)))
            }
            DataType::Struct(fields) => {
                fields.iter().map(|field| Column::of(field)).collect::<Result<Vec<_>>>().map(Self::Struct)
            }
            DataType::List(field) => of_list(field, Self::List),
            DataType::LargeList(field) => of_list(field, Self::LargeList),
            other => Ok(Self::Plain(PLAIN.iter().find(|(_, plain)| plain == other)?.0)),
        })
    }

    fn data_type(self) -> Result<DataType, Error> {
        Ok(match self {
            Self::Plain(plain) => plain.data_type(),
            Self::FixedBytes(width @ 1..=0xffff) => DataType::FixedSizeBinary(width as i32),
            Self::FixedBytes(_) => return Err(Error::Type("byte strings of that width")),
            Self::Decimal128(precision @ 1..=38, scale @ -38..=38) => DataType::Decimal128(precision, scale),
            Self::Decimal256(precision @ 1..=76, scale @ -76..=76) => DataType::Decimal256(precision, scale),
            Self::Decimal128(..) | Self::Decimal256(..) => return Err(Error::Type("a decimal of that precision")),
            Self::Timestamp(unit, zone) => DataType::Timestamp(unit.time_unit(), zone.map(Into::into)),
            Self::Struct(columns) => DataType::Struct(fields(columns)?),
            Self::List(column) => DataType::List(Arc::new(column.field()?)),
            Self::LargeList(column) => DataType::LargeList(Arc::new(column.field()?)),
        })
    }
}

impl Unit {
    fn of(unit: TimeUnit) -> Self {
        match unit {
            TimeUnit::Second => Self::Second,
            TimeUnit::Millisecond => Self::Millisecond,
            TimeUnit::Microsecond => Self::Microsecond,
            TimeUnit::Nanosecond => Self::Nanosecond,
        }
    }

    fn time_unit(self) -> TimeUnit {
        match self {
            Self::Second => TimeUnit::Second,
            Self::Millisecond => TimeUnit::Millisecond,
            Self::Microsecond => TimeUnit::Microsecond,
            Self::Nanosecond => TimeUnit::Nanosecond,
        }
    }
}
