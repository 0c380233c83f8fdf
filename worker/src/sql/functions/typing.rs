//! Flink's types as Arrow types: their names, families, common types and the precision of decimals.
//!
//! Decimal rules: Flink's `LogicalTypeMerging`, which follows SQL Server's.

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use std::cmp::{max, min};
use std::sync::Arc;

/// The most digits that a DECIMAL has.
pub(super) const MAX_PRECISION: u8 = 38;

/// TIME.
pub(super) const TIME: DataType = DataType::Time32(TimeUnit::Millisecond);

/// TIMESTAMP(3).
pub(super) const TIMESTAMP_3: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// TIMESTAMP_LTZ(3).
pub(super) fn timestamp_ltz() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// VARCHAR, CHAR or STRING.
pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// TINYINT to DECIMAL.
pub(super) fn is_numeric(data_type: &DataType) -> bool {
    data_type.is_integer() || is_float(data_type) || matches!(data_type, DataType::Decimal128(..))
}

/// FLOAT or DOUBLE.
pub(super) fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float16 | DataType::Float32 | DataType::Float64)
}

/// DATE, TIME or a timestamp.
pub(super) fn is_temporal(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..)
    )
}

/// The signed type of the same width: Flink has no unsigned ones.
pub(super) fn signed(data_type: &DataType) -> DataType {
    match data_type {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        other => other.clone(),
    }
}

/// The type that stands for `data_type` inside the engine.
pub(super) fn engine_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => TIME,
        DataType::Timestamp(TimeUnit::Second, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::List(item) => DataType::List(engine_field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(engine_field).collect::<Fields>()),
        other => signed(other),
    }
}

fn engine_field(field: &Arc<Field>) -> Arc<Field> {
    Arc::new(field.as_ref().clone().with_data_type(engine_type(field.data_type())))
}

/// A type's name in Flink SQL.
pub(super) fn sql_name(data_type: &DataType) -> String {
    let timestamp = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    match data_type {
        DataType::Null => "NULL".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 | DataType::UInt8 => "SMALLINT".into(),
        DataType::Int32 | DataType::UInt16 => "INT".into(),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".into(),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME(0)".into(),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", timestamp(unit)),
        DataType::Timestamp(unit, Some(_)) => format!("TIMESTAMP_LTZ({})", timestamp(unit)),
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH".into(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL DAY TO SECOND(3)".into(),
        DataType::List(item) | DataType::LargeList(item) => format!("ARRAY<{}>", sql_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("`{}` {}", field.name(), sql_name(field.data_type()))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// Digits before and after the point of an exact number's type.
pub(super) fn decimal_of(data_type: &DataType) -> Option<(u8, i8)> {
    match signed(data_type) {
        DataType::Int8 => Some((3, 0)),
        DataType::Int16 => Some((5, 0)),
        DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::Decimal128(precision, scale) => Some((precision, scale)),
        _ => None,
    }
}

/// What is done to two decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum DecimalOperator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl DecimalOperator {
    /// As it is written.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
        }
    }

    /// The precision and scale of `left operator right`.
    pub(super) fn result(self, left: (u8, i8), right: (u8, i8)) -> (u8, i8) {
        let (p1, s1, p2, s2) = (i32::from(left.0), i32::from(left.1), i32::from(right.0), i32::from(right.1));
        let scale = max(s1, s2);
        match self {
            Self::Add | Self::Subtract => adjust(max(p1 - s1, p2 - s2) + scale + 1, scale),
            Self::Multiply => adjust(p1 + p2 + 1, s1 + s2),
            Self::Divide => {
                let scale = max(6, s1 + p2 + 1);
                adjust(p1 - s1 + s2 + scale, scale)
            }
            Self::Modulo => adjust(min(p1 - s1, p2 - s2) + scale, scale),
        }
    }
}

/// Fits a precision beyond 38 by giving up digits after the point, but not below six of them.
fn adjust(precision: i32, scale: i32) -> (u8, i8) {
    let most = i32::from(MAX_PRECISION);
    let (precision, scale) = if precision <= most {
        (precision, scale)
    } else {
        let whole = precision - scale;
        (most, max(most - whole, min(scale, 6)))
    };
    (u8::try_from(precision.max(1)).unwrap_or(MAX_PRECISION), i8::try_from(scale).unwrap_or(0))
}

/// The type of ROUND(x, digits) and TRUNCATE(x, digits) for a DECIMAL.
pub(super) fn rounded_decimal(precision: u8, scale: i8, digits: i64) -> (u8, i8) {
    let whole = i64::from(precision) - i64::from(scale);
    if digits >= i64::from(scale) {
        return (precision, scale);
    }
    let kept = digits.max(0);
    let precision = min(i64::from(MAX_PRECISION), 1 + whole + kept);
    (u8::try_from(precision).unwrap_or(MAX_PRECISION), i8::try_from(kept).unwrap_or(0))
}

/// The least type that holds all values of all `types`; `None` when there is none.
pub(super) fn common_type(types: &[&DataType]) -> Option<DataType> {
    let mut types = types.iter().map(|data_type| engine_type(data_type)).filter(|data_type| !data_type.is_null());
    let Some(first) = types.next() else { return Some(DataType::Utf8View) };
    types.try_fold(first, |left, right| common_of_two(&left, &right))
}

fn common_of_two(left: &DataType, right: &DataType) -> Option<DataType> {
    if left == right {
        return Some(left.clone());
    }
    if is_float(left) || is_float(right) {
        let exact = |t: &DataType| matches!(t, DataType::Decimal128(..) | DataType::Float64);
        return (is_numeric(left) && is_numeric(right))
            .then(|| if exact(left) || exact(right) { DataType::Float64 } else { DataType::Float32 });
    }
    if let (Some((p1, s1)), Some((p2, s2))) = (decimal_of(left), decimal_of(right)) {
        if left.is_integer() && right.is_integer() {
            return Some(if p1 > p2 { left.clone() } else { right.clone() });
        }
        let scale = max(s1, s2);
        let whole = max(i32::from(p1) - i32::from(s1), i32::from(p2) - i32::from(s2));
        let (precision, scale) = adjust(whole + i32::from(scale), i32::from(scale));
        return Some(DataType::Decimal128(precision, scale));
    }
    match (left, right) {
        (DataType::Timestamp(u1, z1), DataType::Timestamp(u2, z2)) => {
            Some(DataType::Timestamp(max(*u1, *u2), z1.clone().or_else(|| z2.clone())))
        }
        (DataType::Date32, DataType::Timestamp(..)) => Some(right.clone()),
        (DataType::Timestamp(..), DataType::Date32) => Some(left.clone()),
        _ => None,
    }
}
