//! Casts to text, and between types of time.

use super::super::temporal::calendar::{DAY, SECOND, write_date, write_time, write_timestamp};
use super::super::text::TextColumn;
use super::super::typing::sql_name;
use super::arrow_cast;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type, Time32MillisecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType,
};
use datafusion_common::{Result, internal_err};
use std::fmt::Write;
use std::sync::Arc;

/// Values as text.
pub(super) fn write(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Boolean => truths(array.as_boolean()),
        DataType::BinaryView => {
            let mut column = TextColumn::new(array.len());
            for bytes in array.as_binary_view() {
                column.push(bytes.map(String::from_utf8_lossy).as_deref());
            }
            column.finish()
        }
        DataType::Float32 => each(array.as_primitive::<Float32Type>(), |value, out| {
            write_float(value.is_finite().then(|| format!("{value:e}")), f64::from(value), out);
        }),
        DataType::Float64 => each(array.as_primitive::<Float64Type>(), |value, out| {
            write_float(value.is_finite().then(|| format!("{value:e}")), value, out);
        }),
        DataType::Decimal128(_, scale) => {
            let scale = usize::from(scale.unsigned_abs());
            each(array.as_primitive::<Decimal128Type>(), |value, out| write_decimal(value, scale, out))
        }
        DataType::Date32 => each(array.as_primitive::<Date32Type>(), |days, out| write_date(i64::from(days), out)),
        DataType::Time32(_) => each(array.as_primitive::<Time32MillisecondType>(), |millis, out| {
            write_time(i64::from(millis) * 1000, out);
        }),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            each(array.as_primitive::<TimestampMicrosecondType>(), |micros, out| write_timestamp(micros, 6, out))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            each(array.as_primitive::<TimestampMillisecondType>(), |millis, out| {
                write_timestamp(millis.saturating_mul(1000), 3, out);
            })
        }
        data_type if data_type.is_integer() => {
            let longs = arrow_cast(array, &DataType::Int64)?;
            each(longs.as_primitive::<Int64Type>(), write_integer)
        }
        other => return internal_err!("{} cannot be written as text", sql_name(other)),
    })
}

fn truths(array: &BooleanArray) -> ArrayRef {
    let mut column = TextColumn::new(array.len());
    for truth in array {
        column.push(truth.map(|truth| if truth { "TRUE" } else { "FALSE" }));
    }
    column.finish()
}

fn each<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, write: impl Fn(T::Native, &mut String)) -> ArrayRef {
    let mut column = TextColumn::new(array.len());
    for value in array {
        match value {
            Some(value) => column.write(|out| write(value, out)),
            None => column.push_null(),
        }
    }
    column.finish()
}

fn write_integer(value: i64, out: &mut String) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(rest % 10).expect("a digit is below ten");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push('-');
    }
    out.push_str(str::from_utf8(&digits[start..]).expect("digits are ASCII"));
}

fn write_decimal(value: i128, scale: usize, out: &mut String) {
    if value < 0 {
        out.push('-');
    }
    let start = out.len();
    write!(out, "{:0width$}", value.unsigned_abs(), width = scale + 1).expect("a string takes all text");
    if scale > 0 {
        let point = out.len() - scale;
        debug_assert!(point > start, "a digit comes before the point");
        out.insert(point, '.');
    }
}

/// As Java writes a DOUBLE: from 0.001 to below 10 million with a point, else with an exponent. `shortest` has the
/// shortest digits as `d.ddde±x`, and is absent for numbers that are not finite.
fn write_float(shortest: Option<String>, value: f64, out: &mut String) {
    let Some(shortest) = shortest else {
        out.push_str(if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        });
        return;
    };
    let (mantissa, exponent) = shortest.split_once('e').expect("the format has an exponent");
    let (mantissa, exponent) = (mantissa, exponent.parse::<i32>().expect("an exponent is a number"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(|letter| *letter != '.').collect();
    out.push_str(sign);
    if value == 0.0 || (-3..7).contains(&exponent) {
        plain(&digits, exponent, out);
        return;
    }
    let fraction = if digits.len() > 1 { &digits[1..] } else { "0" };
    write!(out, "{}.{fraction}E{exponent}", &digits[..1]).expect("a string takes all text");
}

/// Digits with the point after the one for 10 to the power `exponent` by so many places.
fn plain(digits: &str, exponent: i32, out: &mut String) {
    match usize::try_from(exponent) {
        Err(_) => {
            let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', zeros));
            out.push_str(digits);
        }
        Ok(exponent) => {
            let whole = exponent + 1;
            let (head, tail) = digits.split_at(whole.min(digits.len()));
            out.push_str(head);
            out.extend(std::iter::repeat_n('0', whole - head.len()));
            out.push('.');
            out.push_str(if tail.is_empty() { "0" } else { tail });
        }
    }
}

/// A timestamp as DATE, TIME or a timestamp of another precision; what is cut off counts for nothing.
pub(super) fn convert_time(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let micros: PrimitiveArray<TimestampMicrosecondType> = match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => array.as_primitive().clone(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            let millis = array.as_primitive::<TimestampMillisecondType>();
            millis.unary(|millis| millis.saturating_mul(1000))
        }
        other => return internal_err!("{} is no timestamp", sql_name(other)),
    };
    Ok(match to {
        DataType::Date32 => {
            Arc::new(micros.unary_opt::<_, Date32Type>(|micros| i32::try_from(micros.div_euclid(DAY)).ok()))
        }
        DataType::Time32(_) => Arc::new(micros.unary_opt::<_, Time32MillisecondType>(|micros| {
            // TIME has no fraction of a second.
            i32::try_from(micros.rem_euclid(DAY) / SECOND * 1000).ok()
        })),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Arc::new(micros.unary::<_, TimestampMicrosecondType>(|micros| micros).with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(_, zone) => Arc::new(
            micros
                .unary::<_, TimestampMillisecondType>(|micros| micros.div_euclid(1000))
                .with_timezone_opt(zone.clone()),
        ),
        other => return internal_err!("a timestamp cannot be a {}", sql_name(other)),
    })
}

/// Timestamps with no more than `digits` after the second's point.
pub(super) fn limit_precision(array: &ArrayRef, digits: u8) -> Result<ArrayRef> {
    let cut = |per_second: i64| {
        let unit = (per_second / 10i64.pow(u32::from(digits.min(6)))).max(1);
        move |value: i64| value.div_euclid(unit) * unit
    };
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            let values = array.as_primitive::<TimestampMillisecondType>();
            Arc::new(values.unary::<_, TimestampMillisecondType>(cut(1000)).with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(_, zone) => {
            let values = array.as_primitive::<TimestampMicrosecondType>();
            Arc::new(values.unary::<_, TimestampMicrosecondType>(cut(SECOND)).with_timezone_opt(zone.clone()))
        }
        _ => Arc::clone(array),
    })
}
