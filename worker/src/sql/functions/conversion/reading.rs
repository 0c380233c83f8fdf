//! Casts of text: blanks around it do not count.

use super::super::temporal::reading::{read_date, read_time, read_timestamp};
use super::super::typing::{MAX_PRECISION, sql_name};
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryViewArray, BooleanBuilder, PrimitiveArray, PrimitiveBuilder,
    StringViewArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
};
use datafusion_common::{DataFusionError, Result, internal_err};
use std::sync::Arc;

/// What a text gives: a value, NULL because it does not fit, or nothing because it is malformed.
type Read<T> = Option<Option<T>>;

/// Text as values of another type. What is malformed is an error if `strict`, else NULL.
pub(super) fn read(texts: &StringViewArray, to: &DataType, strict: bool) -> Result<ArrayRef> {
    let reader = Reader { texts, to, strict };
    Ok(match to {
        DataType::Boolean => reader.truths()?,
        DataType::Int8 => Arc::new(reader.values::<Int8Type>(|text| some(i8::try_from(integer(text)?).ok()?))?),
        DataType::Int16 => Arc::new(reader.values::<Int16Type>(|text| some(i16::try_from(integer(text)?).ok()?))?),
        DataType::Int32 => Arc::new(reader.values::<Int32Type>(|text| some(i32::try_from(integer(text)?).ok()?))?),
        DataType::Int64 => Arc::new(reader.values::<Int64Type>(|text| some(integer(text)?))?),
        DataType::Float32 => Arc::new(reader.values::<Float32Type>(|text| some(float_text(text)?.parse().ok()?))?),
        DataType::Float64 => Arc::new(reader.values::<Float64Type>(|text| some(float_text(text)?.parse().ok()?))?),
        DataType::Decimal128(precision, scale) => {
            let decimals = reader.values::<Decimal128Type>(|text| parse_decimal(text.trim(), *precision, *scale))?;
            Arc::new(decimals.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Date32 => Arc::new(reader.values::<Date32Type>(|text| some(read_date(text)?))?),
        DataType::Time32(TimeUnit::Millisecond) => {
            Arc::new(reader.values::<Time32MillisecondType>(|text| some(read_time(text)?))?)
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let values = reader.values::<TimestampMicrosecondType>(|text| some(read_timestamp(text)?))?;
            Arc::new(values.with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(_, zone) => {
            let values =
                reader.values::<TimestampMillisecondType>(|text| some(read_timestamp(text)?.div_euclid(1000)))?;
            Arc::new(values.with_timezone_opt(zone.clone()))
        }
        DataType::BinaryView => Arc::new(texts.iter().map(|text| text.map(str::as_bytes)).collect::<BinaryViewArray>()),
        other => return internal_err!("text cannot be read as {other}"),
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
fn some<T>(value: T) -> Read<T> {
    Some(Some(value))
}

struct Reader<'a> {
    texts: &'a StringViewArray,
    to: &'a DataType,
    strict: bool,
}

impl Reader<'_> {
    fn values<T: ArrowPrimitiveType>(&self, read: impl Fn(&str) -> Read<T::Native>) -> Result<PrimitiveArray<T>> {
        let mut builder = PrimitiveBuilder::<T>::with_capacity(self.texts.len());
        for text in self.texts {
            builder.append_option(match text {
                Some(text) => self.checked(text, read(text))?,
                None => None,
            });
        }
        Ok(builder.finish())
    }

    fn truths(&self) -> Result<ArrayRef> {
        let mut builder = BooleanBuilder::with_capacity(self.texts.len());
        for text in self.texts {
            builder.append_option(match text {
                Some(text) => self.checked(text, truth(text).map(Some))?,
                None => None,
            });
        }
        Ok(Arc::new(builder.finish()))
    }

    fn checked<T>(&self, text: &str, read: Read<T>) -> Result<Option<T>> {
        match read {
            Some(value) => Ok(value),
            None if !self.strict => Ok(None),
            None => Err(malformed(text, self.to)),
        }
    }
}

/// The error of a cast, with as much of the value as a person wants to read.
fn malformed(text: &str, to: &DataType) -> DataFusionError {
    const SHOWN: usize = 100;
    let (shown, more) = match text.char_indices().nth(SHOWN) {
        Some((end, _)) => (&text[..end], "…"),
        None => (text, ""),
    };
    let target = sql_name(to);
    DataFusionError::Execution(format!(
        "CAST failed: '{shown}{more}' is not a valid {target}; TRY_CAST gives NULL instead of failing"
    ))
}

fn truth(text: &str) -> Option<bool> {
    let text = text.trim();
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["true", "t", "yes", "y", "1"]) {
        Some(true)
    } else if is(&["false", "f", "no", "n", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// An integer; digits after a point are cut off.
fn integer(text: &str) -> Option<i64> {
    let text = text.trim().as_bytes();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let (whole, fraction) = (&digits[..point], digits.get(point + 1..).unwrap_or_default());
    if whole.len() + fraction.len() == 0 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut value = 0i64;
    for digit in whole {
        let digit = i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        // Below zero there is one number more.
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// The text of a DOUBLE as Java takes it, in the form that Rust takes.
fn float_text(text: &str) -> Option<&str> {
    let text = text.trim();
    let unsigned = text.trim_start_matches(['+', '-']);
    if matches!(unsigned, "NaN" | "Infinity") {
        return Some(text);
    }
    let number = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    plain.then_some(number)
}

/// Whether a text can be read as a DOUBLE.
pub(in super::super) fn is_number(text: &str) -> bool {
    float_text(text).is_some_and(|number| number.parse::<f64>().is_ok())
}

/// A decimal rounded half up to `scale` digits after the point. The outer option is empty for malformed text, the inner
/// one for a number that does not fit.
pub(super) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Read<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = || whole.bytes().chain(fraction.bytes());
    if whole.len() + fraction.len() == 0 || !all().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // So many of the digits make up the result; more than there are means zeros behind them.
    let kept = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(scale);
    let value = digits_of(all(), kept).map(|value| if negative { -value } else { value });
    let limit = 10i128.pow(u32::from(precision.min(MAX_PRECISION)));
    Some(value.filter(|value| -limit < *value && *value < limit))
}

/// The number that the first `kept` digits make, rounded by the one after; none beyond 38 digits.
fn digits_of(digits: impl Iterator<Item = u8>, kept: i64) -> Option<i128> {
    let mut value = 0i128;
    let mut place = 0;
    let mut digits = digits.map(|byte| i128::from(byte - b'0'));
    while place < kept {
        match digits.next() {
            Some(digit) => value = value.checked_mul(10)?.checked_add(digit)?,
            None if value == 0 => return Some(0),
            None => value = value.checked_mul(10)?,
        }
        place += 1;
    }
    let round_up = kept >= 0 && digits.next().is_some_and(|digit| digit >= 5);
    value.checked_add(i128::from(round_up))
}
