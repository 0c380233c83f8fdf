//! Rounding of numbers of all types.

use super::super::arguments::{Call, Numbers, Values};
use super::super::typing;
use super::{decimal_scale, map_numbers, ten_to};
use arrow::array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use datafusion_common::{Result, ScalarValue};
use std::sync::Arc;

pub(super) fn whole_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(match &types[0] {
        DataType::Decimal128(precision, _) => DataType::Decimal128(*precision, 0),
        other => other.clone(),
    })
}

/// The literal of the digits, 0 without one; digits that differ from row to row keep the type.
pub(super) fn rounded_type(types: &[DataType], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    let DataType::Decimal128(precision, scale) = types[0] else { return Ok(types[0].clone()) };
    let digits = match literals.get(1) {
        None => 0,
        Some(Some(ScalarValue::Int64(Some(digits)))) => *digits,
        Some(Some(ScalarValue::Int32(Some(digits)))) => i64::from(*digits),
        Some(_) => i64::from(scale),
    };
    let (precision, scale) = typing::rounded_decimal(precision, scale, digits);
    Ok(DataType::Decimal128(precision, scale))
}

/// Which way the digits that go are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    Up,
    Down,
    HalfUp,
    TowardZero,
}

impl Rounding {
    /// `value / unit` to a whole number.
    fn divide(self, value: i128, unit: i128) -> i128 {
        match self {
            Self::Down => value.div_euclid(unit),
            Self::Up => -(-value).div_euclid(unit),
            Self::TowardZero => value / unit,
            Self::HalfUp => {
                let (quotient, rest) = (value / unit, value % unit);
                if rest.abs() >= unit - rest.abs() { quotient + value.signum() } else { quotient }
            }
        }
    }

    /// A value with `scale` digits after the point, of which `digits` are kept, still with `scale`.
    fn at(self, value: i128, scale: i64, digits: i64) -> Option<i128> {
        if digits >= scale {
            return Some(value);
        }
        match u8::try_from(scale.saturating_sub(digits)).ok().and_then(ten_to) {
            Some(unit) => self.divide(value, unit).checked_mul(unit),
            None => Some(0),
        }
    }
}

pub(super) fn to_whole(call: &Call<'_>, float: fn(f64) -> f64, rounding: Rounding) -> Result<ArrayRef> {
    match call.numbers(0)? {
        Numbers::Float(values) => map_numbers::<Float32Type>(call, &values, |v| Some(float(f64::from(v)) as f32)),
        Numbers::Double(values) => map_numbers::<Float64Type>(call, &values, |v| Some(float(v))),
        Numbers::Decimal(values, scale) => {
            let unit = ten_to(scale.unsigned_abs()).unwrap_or(i128::MAX);
            map_numbers::<Decimal128Type>(call, &values, |v| Some(rounding.divide(v, unit)))
        }
        _ => call.array(0),
    }
}

/// Each number rounded to its digits.
pub(super) fn round_each<T: ArrowPrimitiveType>(
    call: &Call<'_>,
    values: &Values<T>,
    digits: impl Fn(usize) -> Option<i64>,
    round: impl Fn(T::Native, i64) -> Option<T::Native>,
) -> ArrayRef {
    let rounded = (0..call.rows).map(|row| round(values.get(row)?, digits(row)?));
    let array: PrimitiveArray<T> = rounded.collect();
    Arc::new(array.with_data_type(call.returns.clone()))
}

pub(super) fn round(call: &Call<'_>, rounding: Rounding) -> Result<ArrayRef> {
    let digits = if call.count() > 1 { Some(call.longs(1)?) } else { None };
    let digits = |row: usize| match &digits {
        Some(digits) => digits.get(row),
        None => Some(0),
    };
    let integer = |value: i128, digits: i64| rounding.at(value, 0, digits);
    Ok(match call.numbers(0)? {
        Numbers::Tiny(values) => {
            round_each::<Int8Type>(call, &values, digits, |v, d| Some(integer(v.into(), d)? as i8))
        }
        Numbers::Small(values) => {
            round_each::<Int16Type>(call, &values, digits, |v, d| Some(integer(v.into(), d)? as i16))
        }
        Numbers::Int(values) => {
            round_each::<Int32Type>(call, &values, digits, |v, d| Some(integer(v.into(), d)? as i32))
        }
        Numbers::Long(values) => {
            round_each::<Int64Type>(call, &values, digits, |v, d| Some(integer(v.into(), d)? as i64))
        }
        Numbers::Float(values) => round_each::<Float32Type>(call, &values, digits, |v, d| {
            round_text(&format!("{v}"), d, rounding)?.parse().ok()
        }),
        Numbers::Double(values) => round_each::<Float64Type>(call, &values, digits, |v, d| {
            if v.is_finite() { round_text(&format!("{v}"), d, rounding)?.parse().ok() } else { Some(v) }
        }),
        Numbers::Decimal(values, scale) => {
            let kept = decimal_scale(call.returns);
            let unit = ten_to((scale - kept).unsigned_abs()).unwrap_or(i128::MAX);
            round_each::<Decimal128Type>(call, &values, digits, |v, d| {
                rounding.at(v, i64::from(scale), d).map(|rounded| rounded / unit)
            })
        }
    })
}

/// Rounds the decimal digits of a number as they are written, so that 2.675 becomes 2.68 whatever its binary form.
pub(super) fn round_text(number: &str, digits: i64, rounding: Rounding) -> Option<String> {
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if digits >= i64::try_from(fraction.len()).ok()? {
        return Some(format!("{sign}{number}"));
    }
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let kept = i64::try_from(whole.len()).ok()? + digits;
    if kept < 0 {
        return Some("0".into());
    }
    let kept = usize::try_from(kept).ok()?;
    let mut out: Vec<u8> = all[..kept].to_vec();
    if rounding == Rounding::HalfUp && all[kept] >= b'5' {
        let carried = out.iter_mut().rev().all(|digit| {
            *digit = if *digit == b'9' { b'0' } else { *digit + 1 };
            *digit == b'0'
        });
        if carried {
            out.insert(0, b'1');
        }
    }
    let text = String::from_utf8(out).ok()?;
    let text = if text.is_empty() { "0".into() } else { text };
    Some(format!("{sign}{text}e{}", -digits))
}
