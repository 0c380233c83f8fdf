//! Functions of numbers.

mod random;
mod rounding;

use super::arguments::{Call, Numbers, Values};
use super::definition::Function;
use super::definition::Kind::{Double, Integer, Number, Same, TextOrNumber};
use super::definition::Returns;
use super::text::TextColumn;
use super::typing::{self, DecimalOperator, decimal_of};
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, Float64Array, Int64Array, PrimitiveArray};
use arrow::compute::{cast, try_binary};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use arrow::error::ArrowError;
use datafusion_common::{Result, ScalarValue, internal_err};
use datafusion_expr::ScalarUDF;
use random::{random_double, random_integer};
use rounding::{Rounding, round, rounded_type, to_whole, whole_type};
use std::f64::consts;
use std::fmt::Write;
use std::sync::Arc;

macro_rules! of_double {
    ($name:literal, $usage:literal, $meaning:literal, $compute:expr) => {
        Function::new($name, $usage, $meaning, &[Double], Returns::Double, |call| doubles(call, $compute))
    };
}

/// The functions of this family.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "mod",
        "MOD(dividend, divisor), dividend % divisor",
        "the rest of a division, with the sign of the dividend and the type of the divisor",
        &[Number, Number],
        Returns::By(modulo_type),
        modulo,
    ),
    // A function, as the optimizer takes operators for cheap and moves them in front of the conditions that guard them.
    Function::new(
        "/",
        "dividend / divisor",
        "of integers, an integer: cut off toward zero",
        &[Same, Same],
        Returns::Common,
        quotients,
    ),
    Function::new("abs", "ABS(number)", "the absolute value", &[Number], Returns::First, absolute),
    Function::new("sign", "SIGN(number)", "-1, 0 or 1", &[Number], Returns::First, sign),
    Function::new("ceil", "CEIL(number), CEILING(number)", "rounded up", &[Number], Returns::By(whole_type), |call| {
        to_whole(call, f64::ceil, Rounding::Up)
    })
    .aliases(&["ceiling"]),
    Function::new("floor", "FLOOR(number)", "rounded down", &[Number], Returns::By(whole_type), |call| {
        to_whole(call, f64::floor, Rounding::Down)
    }),
    Function::new(
        "round",
        "ROUND(number [, digits])",
        "rounded half up to so many digits after the point, before it if negative",
        &[Number, Integer],
        Returns::By(rounded_type),
        |call| round(call, Rounding::HalfUp),
    )
    .optional(1),
    Function::new(
        "truncate",
        "TRUNCATE(number [, digits])",
        "cut off after so many digits after the point, before it if negative",
        &[Number, Integer],
        Returns::By(rounded_type),
        |call| round(call, Rounding::TowardZero),
    )
    .optional(1),
    Function::new("power", "POWER(base, exponent)", "a power", &[Double, Double], Returns::Double, |call| {
        pairs(call, f64::powf)
    }),
    of_double!("sqrt", "SQRT(number)", "the square root", f64::sqrt),
    of_double!("ln", "LN(number)", "the natural logarithm", f64::ln),
    of_double!("log10", "LOG10(number)", "the logarithm to base 10", f64::log10),
    of_double!("log2", "LOG2(number)", "the logarithm to base 2", |x| x.ln() / 2f64.ln()),
    Function::new(
        "log",
        "LOG([base,] number)",
        "the logarithm, natural without a base",
        &[Double, Double],
        Returns::Double,
        |call| if call.count() == 1 { doubles(call, f64::ln) } else { pairs(call, |base, x| x.ln() / base.ln()) },
    )
    .optional(1),
    of_double!("exp", "EXP(number)", "e to a power", f64::exp),
    of_double!("sin", "SIN(radians)", "the sine", f64::sin),
    of_double!("sinh", "SINH(number)", "the hyperbolic sine", f64::sinh),
    of_double!("cos", "COS(radians)", "the cosine", f64::cos),
    of_double!("cosh", "COSH(number)", "the hyperbolic cosine", f64::cosh),
    of_double!("tan", "TAN(radians)", "the tangent", f64::tan),
    of_double!("tanh", "TANH(number)", "the hyperbolic tangent", f64::tanh),
    of_double!("cot", "COT(radians)", "the cotangent", |x| 1.0 / x.tan()),
    of_double!("asin", "ASIN(number)", "the arc sine", f64::asin),
    of_double!("acos", "ACOS(number)", "the arc cosine", f64::acos),
    of_double!("atan", "ATAN(number)", "the arc tangent", f64::atan),
    Function::new("atan2", "ATAN2(y, x)", "the angle of a point", &[Double, Double], Returns::Double, |call| {
        pairs(call, f64::atan2)
    }),
    of_double!("degrees", "DEGREES(radians)", "an angle in degrees", f64::to_degrees),
    of_double!("radians", "RADIANS(degrees)", "an angle in radians", f64::to_radians),
    Function::new("pi", "PI()", "the number π", &[], Returns::Double, |call| {
        Ok(Arc::new(Float64Array::from_value(consts::PI, call.rows)))
    }),
    Function::new("e", "E()", "the number e", &[], Returns::Double, |call| {
        Ok(Arc::new(Float64Array::from_value(consts::E, call.rows)))
    }),
    Function::new(
        "rand",
        "RAND([seed])",
        "a random DOUBLE from 0 to below 1; calls with the same constant seed give the same sequence, in each task",
        &[Integer],
        Returns::Double,
        random_double,
    )
    .optional(1)
    .volatile(),
    Function::new(
        "rand_integer",
        "RAND_INTEGER([seed,] bound)",
        "a random INT from 0 to below the bound; calls with the same constant seed give the same sequence, in each task",
        &[Integer, Integer],
        Returns::Int,
        random_integer,
    )
    .optional(1)
    .volatile(),
    Function::new("uuid", "UUID()", "a random UUID as text", &[], Returns::Text, |call| {
        let mut column = TextColumn::new(call.rows);
        for _ in 0..call.rows {
            let mut buffer = uuid::Uuid::encode_buffer();
            column.push(Some(uuid::Uuid::new_v4().hyphenated().encode_lower(&mut buffer)));
        }
        Ok(column.finish())
    })
    .volatile(),
    Function::new("bin", "BIN(integer)", "the binary digits", &[Integer], Returns::Text, |call| {
        let numbers = call.longs(0)?;
        let mut column = TextColumn::new(call.rows);
        for row in 0..call.rows {
            match numbers.get(row) {
                Some(number) => column.write(|out| write!(out, "{number:b}").expect("a string takes all text")),
                None => column.push_null(),
            }
        }
        Ok(column.finish())
    }),
    Function::new(
        "hex",
        "HEX(integer), HEX(text)",
        "the hexadecimal digits of a number or of the bytes of a text, in upper case",
        &[TextOrNumber],
        Returns::Text,
        hex,
    ),
];

/// A function of this family.
pub(super) fn udf(name: &str) -> Arc<ScalarUDF> {
    super::udf_in(FUNCTIONS, name)
}

fn doubles(call: &Call<'_>, compute: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    let values = call.doubles(0)?;
    if let Some(column) = values.column() {
        return Ok(Arc::new(column.unary::<_, Float64Type>(compute)));
    }
    Ok(Arc::new((0..call.rows).map(|row| values.get(row).map(&compute)).collect::<Float64Array>()))
}

fn pairs(call: &Call<'_>, compute: impl Fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let (left, right) = (call.doubles(0)?, call.doubles(1)?);
    let results = (0..call.rows).map(|row| Some(compute(left.get(row)?, right.get(row)?)));
    Ok(Arc::new(results.collect::<Float64Array>()))
}

fn quotients(call: &Call<'_>) -> Result<ArrayRef> {
    let (dividends, divisors) = (call.array(0)?, call.array(1)?);
    match call.returns {
        DataType::Int8 => quotients_of::<Int8Type>(&dividends, &divisors),
        DataType::Int16 => quotients_of::<Int16Type>(&dividends, &divisors),
        DataType::Int32 => quotients_of::<Int32Type>(&dividends, &divisors),
        DataType::Int64 => quotients_of::<Int64Type>(&dividends, &divisors),
        other => internal_err!("integers are divided, not {other}"),
    }
}

fn quotients_of<T: ArrowPrimitiveType>(dividends: &ArrayRef, divisors: &ArrayRef) -> Result<ArrayRef> {
    let quotient = |dividend: T::Native, divisor: T::Native| match divisor.is_zero() {
        true => Err(ArrowError::DivideByZero),
        // The least number divided by -1 is itself, as in Java.
        false => Ok(dividend.div_wrapping(divisor)),
    };
    let quotients = try_binary::<_, _, _, T>(dividends.as_primitive::<T>(), divisors.as_primitive::<T>(), quotient)?;
    Ok(Arc::new(quotients))
}

fn modulo_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let (left, right) = (&types[0], &types[1]);
    if left.is_integer() && right.is_integer() {
        return Ok(right.clone());
    }
    Ok(match (decimal_of(left), decimal_of(right)) {
        (Some(left), Some(right)) => {
            let (precision, scale) = DecimalOperator::Modulo.result(left, right);
            DataType::Decimal128(precision, scale)
        }
        _ => DataType::Float64,
    })
}

fn modulo(call: &Call<'_>) -> Result<ArrayRef> {
    if call.returns.is_integer() {
        let rests = modulo_of_integers(call)?;
        return Ok(cast(&rests, call.returns)?);
    }
    let common = match call.returns {
        DataType::Float64 => DataType::Float64,
        _ => DataType::Decimal128(typing::MAX_PRECISION, decimal_scale(call.returns)),
    };
    let (left, right) = (cast(&call.array(0)?, &common)?, cast(&call.array(1)?, &common)?);
    let rests = arrow::compute::kernels::numeric::rem(&left, &right)
        .map_err(|_| call.mistake("division by zero: guard it with NULLIF(divisor, 0)"))?;
    Ok(cast(&rests, call.returns)?)
}

fn modulo_of_integers(call: &Call<'_>) -> Result<ArrayRef> {
    let (dividends, divisors) = (call.longs(0)?, call.longs(1)?);
    let by_zero = || call.mistake("division by zero: guard it with NULLIF(divisor, 0)");
    if let (Some(dividends), Some(divisor)) = (dividends.column(), divisors.constant()) {
        if divisor == 0 && dividends.null_count() < dividends.len() {
            return Err(by_zero());
        }
        return Ok(Arc::new(dividends.unary::<_, Int64Type>(|dividend| dividend.checked_rem(divisor).unwrap_or(0))));
    }
    let mut rests = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        rests.push(match (dividends.get(row), divisors.get(row)) {
            (Some(_), Some(0)) => return Err(by_zero()),
            (Some(dividend), Some(divisor)) => Some(dividend.wrapping_rem(divisor)),
            _ => None,
        });
    }
    Ok(Arc::new(Int64Array::from(rests)))
}

fn decimal_scale(data_type: &DataType) -> i8 {
    if let DataType::Decimal128(_, scale) = data_type { *scale } else { 0 }
}

fn longs_of(array: &ArrayRef) -> PrimitiveArray<Int64Type> {
    array.as_primitive::<Int64Type>().clone()
}

/// Numbers of one type, each mapped to one of the same.
fn map_numbers<T: ArrowPrimitiveType>(
    call: &Call<'_>,
    values: &Values<T>,
    map: impl Fn(T::Native) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let array: PrimitiveArray<T> = (0..call.rows).map(|row| values.get(row).and_then(&map)).collect();
    Ok(Arc::new(array.with_data_type(call.returns.clone())))
}

fn absolute(call: &Call<'_>) -> Result<ArrayRef> {
    match call.numbers(0)? {
        Numbers::Tiny(values) => map_numbers::<Int8Type>(call, &values, |v| Some(v.wrapping_abs())),
        Numbers::Small(values) => map_numbers::<Int16Type>(call, &values, |v| Some(v.wrapping_abs())),
        Numbers::Int(values) => map_numbers::<Int32Type>(call, &values, |v| Some(v.wrapping_abs())),
        Numbers::Long(values) => map_numbers::<Int64Type>(call, &values, |v| Some(v.wrapping_abs())),
        Numbers::Float(values) => map_numbers::<Float32Type>(call, &values, |v| Some(v.abs())),
        Numbers::Double(values) => map_numbers::<Float64Type>(call, &values, |v| Some(v.abs())),
        Numbers::Decimal(values, _) => map_numbers::<Decimal128Type>(call, &values, |v| Some(v.wrapping_abs())),
    }
}

fn sign(call: &Call<'_>) -> Result<ArrayRef> {
    match call.numbers(0)? {
        Numbers::Tiny(values) => map_numbers::<Int8Type>(call, &values, |v| Some(v.signum())),
        Numbers::Small(values) => map_numbers::<Int16Type>(call, &values, |v| Some(v.signum())),
        Numbers::Int(values) => map_numbers::<Int32Type>(call, &values, |v| Some(v.signum())),
        Numbers::Long(values) => map_numbers::<Int64Type>(call, &values, |v| Some(v.signum())),
        Numbers::Float(values) => {
            map_numbers::<Float32Type>(call, &values, |v| Some(if v == 0.0 { v } else { v.signum() }))
        }
        Numbers::Double(values) => {
            map_numbers::<Float64Type>(call, &values, |v| Some(if v == 0.0 { v } else { v.signum() }))
        }
        Numbers::Decimal(values, scale) => {
            map_numbers::<Decimal128Type>(call, &values, |v| v.signum().checked_mul(ten_to(scale.unsigned_abs())?))
        }
    }
}

/// 10 to a power, if it fits.
fn ten_to(power: u8) -> Option<i128> {
    10i128.checked_pow(u32::from(power))
}

fn hex(call: &Call<'_>) -> Result<ArrayRef> {
    let mut column = TextColumn::new(call.rows);
    if typing::is_text(&call.data_type(0)) {
        let texts = call.texts(0)?;
        for row in 0..call.rows {
            match texts.get(row) {
                Some(text) => column.write(|out| {
                    text.bytes().for_each(|byte| write!(out, "{byte:02X}").expect("a string takes all text"));
                }),
                None => column.push_null(),
            }
        }
        return Ok(column.finish());
    }
    if !call.data_type(0).is_integer() {
        return call.error("a number must be an integer");
    }
    let numbers = longs_of(&cast(&call.array(0)?, &DataType::Int64)?);
    for row in 0..call.rows {
        if numbers.is_null(row) {
            column.push_null();
        } else {
            column.write(|out| write!(out, "{:X}", numbers.value(row)).expect("a string takes all text"));
        }
    }
    Ok(column.finish())
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[test]
    fn functions_of_numbers_give_what_flink_gives() {
        check(
            "MOD(44, 3) -> INT 2
             MOD(CAST(-44 AS BIGINT), 3) -> INT -2
             MOD(CAST(44 AS BIGINT), CAST(3 AS BIGINT)) -> BIGINT 2
             MOD(1, 0) -> error division by zero
             7 % 4 -> INT 3
             MOD(5.5, 2) -> DECIMAL(2, 1) 1.5
             ABS(-5) -> INT 5
             ABS(-5.25) -> DECIMAL(3, 2) 5.25
             SIGN(-2.5) -> DECIMAL(2, 1) -1.0
             SIGN(0) -> INT 0
             CEIL(1.2) -> DECIMAL(2, 0) 2
             CEIL(-1.2) -> DECIMAL(2, 0) -1
             FLOOR(-1.2) -> DECIMAL(2, 0) -2
             FLOOR(1.7e0) -> DOUBLE 1.0
             FLOOR(3) -> INT 3
             ROUND(2.675, 2) -> DECIMAL(4, 2) 2.68
             ROUND(-2.5) -> DECIMAL(2, 0) -3
             ROUND(2.675e0, 2) -> DOUBLE 2.68
             ROUND(99.5e0) -> DOUBLE 100.0
             ROUND(125, -1) -> INT 130
             ROUND(653.46e0, -2) -> DOUBLE 700.0
             TRUNCATE(42.345, 2) -> DECIMAL(5, 2) 42.34
             TRUNCATE(-42.345e0, 2) -> DOUBLE -42.34
             TRUNCATE(42.324e0) -> DOUBLE 42.0
             TRUNCATE(123.456, -1) -> DECIMAL(4, 0) 120
             POWER(2, 10) -> DOUBLE 1024.0
             SQRT(2.25) -> DOUBLE 1.5
             LN(1) -> DOUBLE 0.0
             LOG10(100) -> DOUBLE 2.0
             LOG2(8) -> DOUBLE 3.0
             LOG(2, 8) -> DOUBLE 3.0
             EXP(0) -> DOUBLE 1.0
             DEGREES(PI()) -> DOUBLE 180.0
             BIN(12) -> STRING 1100
             BIN(-1) -> STRING 1111111111111111111111111111111111111111111111111111111111111111
             HEX(100) -> STRING 64
             HEX('hello,world') -> STRING 68656C6C6F2C776F726C64
             CHAR_LENGTH(UUID()) -> INT 36
             RAND_INTEGER(1) -> INT 0
             RAND_INTEGER(0) -> error positive
             RAND() < 1 -> BOOLEAN true
             ABS('x') -> error ABS does not take (STRING): write ABS(number)
             ABS(1, 2) -> error ABS does not take 2 arguments",
        );
    }
}
