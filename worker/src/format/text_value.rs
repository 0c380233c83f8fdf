//! Values as text: numbers, truth values and bytes.

/// Why a text is no value of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It is written in another way.
    Form,
    /// It is too large or too small.
    Range,
    /// It has a fraction where there is room for none.
    Fraction,
}

/// The powers of ten that fit.
const POWERS: [i128; 39] = {
    let mut powers = [1; 39];
    let mut index = 1;
    while index < 39 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// A whole number; `1.0` and `1e3` are some too.
pub(super) fn integer(text: &str) -> Result<i64, Misfit> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let scaled = scaled(text, 0)?;
    if scaled.inexact {
        return Err(Misfit::Fraction);
    }
    i64::try_from(scaled.value).map_err(|_| Misfit::Range)
}

/// A decimal's unscaled value; digits beyond the scale are rounded half up, as Flink does.
pub(super) fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128, Misfit> {
    let value = scaled(text, i32::from(scale))?.value;
    let limit = POWERS.get(usize::from(precision)).ok_or(Misfit::Range)?;
    if value.unsigned_abs() < limit.unsigned_abs() { Ok(value) } else { Err(Misfit::Range) }
}

/// A floating point number.
pub(super) fn float(text: &str) -> Result<f64, Misfit> {
    let number: f64 = text.parse().map_err(|_| Misfit::Form)?;
    // Digits that overflow are no infinity: that one has a name of its own.
    if number.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) { Err(Misfit::Range) } else { Ok(number) }
}

/// `true` or `false`, in any case.
pub(super) fn boolean(text: &str) -> Result<bool, Misfit> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(Misfit::Form)
    }
}

/// Appends the bytes of a base64 text (RFC 4648, standard alphabet, with or without padding).
pub(super) fn base64(text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    let digits = match text {
        [rest @ .., b'=', b'='] | [rest @ .., b'='] if text.len().is_multiple_of(4) => rest,
        _ => text,
    };
    if digits.len() % 4 == 1 {
        return Err(Misfit::Form);
    }
    for group in digits.chunks(4) {
        let mut bits: u32 = 0;
        for &digit in group {
            bits = bits << 6 | u32::from(base64_digit(digit).ok_or(Misfit::Form)?);
        }
        let missing = 4 - group.len();
        bits <<= 6 * missing;
        out.extend_from_slice(&bits.to_be_bytes()[1..4 - missing]);
    }
    Ok(())
}

fn base64_digit(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

struct Scaled {
    value: i128,
    inexact: bool,
}

/// `text` times ten to the power of `scale`, rounded half away from zero. Digits are taken by their place, so that the
/// time is linear in the text whatever its exponent says.
fn scaled(text: &str, scale: i32) -> Result<Scaled, Misfit> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (digits, exponent) = split_exponent(digits)?;
    let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let count = digits.len() - usize::from(point < digits.len());
    if count == 0 {
        return Err(Misfit::Form);
    }
    // The place of a digit: 0 is the last one that is kept, negative ones are cut off.
    let mut place = i64::try_from(point).map_err(|_| Misfit::Range)? - 1 + i64::from(exponent) + i64::from(scale);
    let (mut value, mut round_up, mut inexact) = (0_i128, false, false);
    for (index, &byte) in digits.iter().enumerate() {
        if index == point {
            continue;
        }
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(Misfit::Form);
        }
        if place >= 0 {
            let shifted = value.checked_mul(10).and_then(|value| value.checked_add(i128::from(digit)));
            value = shifted.ok_or(Misfit::Range)?;
        } else {
            round_up |= place == -1 && digit >= 5;
            inexact |= digit != 0;
        }
        place -= 1;
    }
    if place >= 0 && value != 0 {
        let power = usize::try_from(place + 1).ok().and_then(|power| POWERS.get(power)).ok_or(Misfit::Range)?;
        value = value.checked_mul(*power).ok_or(Misfit::Range)?;
    }
    value = value.checked_add(i128::from(round_up)).ok_or(Misfit::Range)?;
    Ok(Scaled { value: if negative { -value } else { value }, inexact })
}

fn split_exponent(digits: &[u8]) -> Result<(&[u8], i32), Misfit> {
    let Some(at) = digits.iter().position(|byte| matches!(byte, b'e' | b'E')) else {
        return Ok((digits, 0));
    };
    let (negative, text) = match &digits[at + 1..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(Misfit::Form);
    }
    // Far beyond every type's range: a larger exponent changes nothing.
    let size = text.iter().fold(0_i32, |size, digit| (size * 10 + i32::from(digit - b'0')).min(100_000_000));
    Ok((&digits[..at], if negative { -size } else { size }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_digit_and_round_half_up() {
        let table = [
            ("1", 10, 2, Ok(100)),
            ("1.005", 10, 2, Ok(101)),
            ("-1.005", 10, 2, Ok(-101)),
            ("1.00499999999999999999999999999999999999999999", 10, 2, Ok(100)),
            ("12345678901234567890123456789012345.678", 38, 3, Ok(12_345_678_901_234_567_890_123_456_789_012_345_678)),
            ("99999999999999999999999999999999999999", 38, 0, Ok(POWERS[38] - 1)),
            ("999999999999999999999999999999999999999", 38, 0, Err(Misfit::Range)),
            ("1e3", 4, 0, Ok(1000)),
            ("1e4", 4, 0, Err(Misfit::Range)),
            ("1E-2", 4, 2, Ok(1)),
            ("0e999999999999", 4, 2, Ok(0)),
            ("1e999999999999", 4, 2, Err(Misfit::Range)),
            ("1e-999999999999", 4, 2, Ok(0)),
            ("9.995", 3, 2, Err(Misfit::Range)),
            (".5", 3, 1, Ok(5)),
            ("5.", 3, 1, Ok(50)),
            (".", 3, 1, Err(Misfit::Form)),
            ("", 3, 1, Err(Misfit::Form)),
            ("1.2.3", 3, 1, Err(Misfit::Form)),
            ("1e", 3, 1, Err(Misfit::Form)),
            ("abc", 3, 1, Err(Misfit::Form)),
        ];
        for (text, precision, scale, expected) in table {
            assert_eq!(decimal(text, precision, scale), expected, "{text} as DECIMAL({precision}, {scale})");
        }
    }

    #[test]
    fn whole_numbers_lose_nothing() {
        let table = [
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(Misfit::Range)),
            ("1.0", Ok(1)),
            ("1.5", Err(Misfit::Fraction)),
            ("1e3", Ok(1000)),
            ("0.1e1", Ok(1)),
            ("x", Err(Misfit::Form)),
            ("-", Err(Misfit::Form)),
        ];
        for (text, expected) in table {
            assert_eq!(integer(text), expected, "{text}");
        }
    }

    #[test]
    fn base64_is_read_with_and_without_padding() {
        let table: [(&str, Result<&[u8], Misfit>); 8] = [
            ("", Ok(b"")),
            ("Zg==", Ok(b"f")),
            ("Zm8=", Ok(b"fo")),
            ("Zm9v", Ok(b"foo")),
            ("Zm9vYg", Ok(b"foob")),
            ("//79", Ok(&[255, 254, 253])),
            ("Z", Err(Misfit::Form)),
            ("Zm9*", Err(Misfit::Form)),
        ];
        for (text, expected) in table {
            let mut out = Vec::new();
            assert_eq!(base64(text.as_bytes(), &mut out).map(|()| out.as_slice()), expected, "{text}");
        }
    }
}
