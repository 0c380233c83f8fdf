//! Flink's types as Arrow types, their names, and which ones a value is cast to without a word.
//!
//! Implicit casts: Flink's `LogicalTypeCasts.supportsImplicitCast`.

use crate::sql::syntax::{Nullability, RowField, SqlType};
use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use sqlparser::ast::{DataType as Plain, ExactNumberInfo, TimezoneInfo};
use std::sync::Arc;

/// The type of event time without a zone, and of a window's bounds: TIMESTAMP(3).
pub(in crate::sql) const TIMESTAMP_3: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// The Arrow type of a written type, or what is wrong with it.
pub(in crate::sql) fn arrow_type(written: &SqlType) -> Result<DataType, String> {
    match written {
        SqlType::Plain(plain) => plain_type(plain),
        SqlType::TimestampLtz(precision) => Ok(DataType::Timestamp(time_unit(*precision)?, Some("UTC".into()))),
        SqlType::Row(fields) => {
            let field = |field: &RowField| {
                let nullable = field.nullability == Nullability::Nullable;
                Ok(Arc::new(Field::new(&field.name.value, arrow_type(&field.data_type)?, nullable)))
            };
            let fields = fields.iter().map(field).collect::<Result<Vec<_>, String>>()?;
            for (place, field) in fields.iter().enumerate() {
                if fields[..place].iter().any(|other| other.name() == field.name()) {
                    return Err(format!("the ROW has two fields '{}'", field.name()));
                }
            }
            Ok(DataType::Struct(fields.into()))
        }
        SqlType::Array(item) => Ok(DataType::new_list(arrow_type(item)?, true)),
        SqlType::Unsupported(name) => Err(format!("the type {name} is not available in this version")),
    }
}

/// The Arrow type of a type without parts.
pub(in crate::sql) fn plain_type(plain: &Plain) -> Result<DataType, String> {
    Ok(match plain {
        Plain::Boolean | Plain::Bool => DataType::Boolean,
        Plain::TinyInt(_) => DataType::Int8,
        Plain::SmallInt(_) => DataType::Int16,
        Plain::Int(_) | Plain::Integer(_) => DataType::Int32,
        Plain::BigInt(_) => DataType::Int64,
        Plain::Float(_) => DataType::Float32,
        Plain::Double(_) | Plain::DoublePrecision => DataType::Float64,
        Plain::Decimal(size) | Plain::Dec(size) | Plain::Numeric(size) => decimal_type(*size)?,
        Plain::Date => DataType::Date32,
        Plain::Time(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) if precision.unwrap_or(0) <= 3 => {
            DataType::Time32(TimeUnit::Millisecond)
        }
        Plain::Time(..) => {
            return Err(format!("the type {plain} is not available in this version: TIME(3) is the finest"));
        }
        Plain::Timestamp(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Timestamp(time_unit(*precision)?, None)
        }
        Plain::Custom(name, arguments) if name.to_string().eq_ignore_ascii_case("TIMESTAMP_LTZ") => {
            let precision = arguments.first().and_then(|precision| precision.parse().ok());
            DataType::Timestamp(time_unit(precision)?, Some("UTC".into()))
        }
        Plain::Char(_)
        | Plain::Character(_)
        | Plain::Varchar(_)
        | Plain::CharVarying(_)
        | Plain::CharacterVarying(_)
        | Plain::String(_) => DataType::Utf8View,
        Plain::Bytes(_) | Plain::Binary(_) | Plain::Varbinary(_) => DataType::BinaryView,
        other => return Err(format!("there is no type {other}")),
    })
}

fn time_unit(precision: Option<u64>) -> Result<TimeUnit, String> {
    match precision.unwrap_or(6) {
        0..=3 => Ok(TimeUnit::Millisecond),
        4..=6 => Ok(TimeUnit::Microsecond),
        more => Err(format!("a timestamp's precision is at most 6 in this version, not {more}")),
    }
}

fn decimal_type(size: ExactNumberInfo) -> Result<DataType, String> {
    let (precision, scale) = match size {
        ExactNumberInfo::None => (10, 0),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let scale = u64::try_from(scale).map_err(|_| "a decimal's scale is not negative".to_owned())?;
    if !(1..=38).contains(&precision) || scale > precision {
        return Err(format!(
            "DECIMAL({precision}, {scale}) is no type: the precision is from 1 to 38, the scale at most as large"
        ));
    }
    let precision = u8::try_from(precision).expect("the precision is at most 38");
    Ok(DataType::Decimal128(precision, i8::try_from(scale).expect("the scale is at most 38")))
}

/// A type's name in SQL.
pub(in crate::sql) fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(unit, zone) => {
            let precision = if *unit == TimeUnit::Millisecond { 3 } else { 6 };
            format!("{}({precision})", if zone.is_some() { "TIMESTAMP_LTZ" } else { "TIMESTAMP" })
        }
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "STRING".to_owned(),
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => "BYTES".to_owned(),
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".to_owned(),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{} {}", field.name(), sql_name(field.data_type()))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        DataType::List(item) => format!("ARRAY<{}>", sql_name(item.data_type())),
        DataType::Null => "NULL".to_owned(),
        other => other.to_string().to_uppercase(),
    }
}

/// True when a value of type `from` may be put into a column of type `to`.
pub(in crate::sql) fn casts_implicitly(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (T::Null, _) => true,
        (from, to) if from == to => true,
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, T::Utf8View) => true,
        (T::Binary | T::LargeBinary | T::BinaryView, T::BinaryView) => true,
        (from, T::Decimal128(..) | T::Float64) => is_numeric(from),
        (from, T::Float32) => from.is_signed_integer() || matches!(from, T::Decimal128(..)),
        (from, to) if from.is_signed_integer() && to.is_signed_integer() => width(from) <= width(to),
        (T::Timestamp(_, None), T::Date32 | T::Time32(_)) => true,
        (T::Time64(_), T::Time32(_)) => true,
        (T::Timestamp(..), T::Timestamp(..)) => true,
        (T::Struct(from), T::Struct(to)) => {
            from.len() == to.len()
                && from.iter().zip(to).all(|(from, to)| casts_implicitly(from.data_type(), to.data_type()))
        }
        (T::List(from), T::List(to)) => casts_implicitly(from.data_type(), to.data_type()),
        _ => false,
    }
}

fn is_numeric(data_type: &DataType) -> bool {
    data_type.is_signed_integer()
        || matches!(data_type, DataType::Float32 | DataType::Float64 | DataType::Decimal128(..))
}

fn width(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or_default()
}
