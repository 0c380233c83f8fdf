//! Casts between numbers: as Java does, integers keep their lowest bits, fractions are cut off.

use super::super::typing::{MAX_PRECISION, is_float};
use super::reading::parse_decimal;
use super::{Route, arrow_cast, is_not_zero};
use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use datafusion_common::{Result, internal_err};
use std::fmt::Write;
use std::sync::Arc;

/// Arrow fails where an integer does not fit, and scales the binary form of a DOUBLE to make a decimal.
pub(super) fn route(from: &DataType, to: &DataType) -> Route {
    let widens = || from.primitive_width() <= to.primitive_width();
    match (from, to) {
        _ if from.is_integer() && to.is_integer() => {
            if widens() {
                Route::Arrow
            } else {
                Route::Own
            }
        }
        _ if to.is_integer() => Route::Own,
        (_, DataType::Decimal128(..)) if is_float(from) => Route::Own,
        _ => Route::Arrow,
    }
}

/// Converts the pairs that [`route`] keeps from Arrow, and any number to BOOLEAN.
pub(super) fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    match to {
        DataType::Boolean => is_not_zero(array),
        DataType::Decimal128(precision, scale) => float_to_decimal(array, *precision, *scale),
        DataType::Int8 => Ok(narrow::<Int8Type>(&to_long(array)?, |long| long as i8)),
        DataType::Int16 => Ok(narrow::<Int16Type>(&to_long(array)?, |long| long as i16)),
        DataType::Int32 => Ok(narrow::<Int32Type>(&to_long(array)?, |long| long as i32)),
        DataType::Int64 => Ok(Arc::new(to_long(array)?)),
        other => internal_err!("no conversion of numbers to {other}"),
    }
}

fn narrow<T: ArrowPrimitiveType>(
    longs: &PrimitiveArray<Int64Type>,
    lowest_bits: impl Fn(i64) -> T::Native,
) -> ArrayRef {
    Arc::new(longs.unary::<_, T>(lowest_bits))
}

fn to_long(array: &ArrayRef) -> Result<PrimitiveArray<Int64Type>> {
    Ok(match array.data_type() {
        DataType::Decimal128(_, scale) => {
            let unit = 10i128.pow(u32::from(scale.unsigned_abs().min(MAX_PRECISION)));
            array.as_primitive::<Decimal128Type>().unary(|value| (value / unit) as i64)
        }
        data_type if is_float(data_type) => {
            let doubles = arrow_cast(array, &DataType::Float64)?;
            doubles.as_primitive::<Float64Type>().unary(|value| value as i64)
        }
        _ => arrow_cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone(),
    })
}

/// By way of the shortest decimal digits that give the same number, as Java's `BigDecimal.valueOf`.
fn float_to_decimal(array: &ArrayRef, precision: u8, scale: i8) -> Result<ArrayRef> {
    let mut digits = String::new();
    let mut decimal = |write: &dyn Fn(&mut String)| {
        digits.clear();
        write(&mut digits);
        parse_decimal(&digits, precision, scale).flatten()
    };
    let decimals: Decimal128Array = match array.data_type() {
        DataType::Float32 => {
            let values = array.as_primitive::<arrow::datatypes::Float32Type>();
            let decimals = values.iter().map(|value| {
                value.and_then(|value| decimal(&|out| write!(out, "{value:e}").expect("a string takes all text")))
            });
            decimals.collect()
        }
        _ => {
            let values = array.as_primitive::<Float64Type>();
            let decimals = values.iter().map(|value| {
                value.and_then(|value| decimal(&|out| write!(out, "{value:e}").expect("a string takes all text")))
            });
            decimals.collect()
        }
    };
    Ok(Arc::new(decimals.with_precision_and_scale(precision, scale)?))
}
