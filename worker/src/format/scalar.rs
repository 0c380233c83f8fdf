//! Digits of numbers, dates and times, without an allocation.

use super::values::Zone;

const DAY_MS: i64 = 86_400_000;

/// Appends a whole number.
pub(super) fn push_integer(value: i64, out: &mut Vec<u8>) {
    push_wide(i128::from(value), out);
}

fn push_wide(value: i128, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    push_digits(value.unsigned_abs(), 1, out);
}

/// Appends `value`, with zeros in front up to `width` digits.
pub(super) fn push_digits(mut value: u128, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 40];
    let mut start = digits.len();
    while value > u128::from(u64::MAX) {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    let mut value = value as u64;
    while value > 0 {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[start.min(digits.len() - width)..]);
}

/// Appends a decimal with all digits of its scale, such as `12.300`.
pub(super) fn push_decimal(unscaled: i128, scale: usize, out: &mut Vec<u8>) {
    if unscaled < 0 {
        out.push(b'-');
    }
    let mark = out.len();
    push_digits(unscaled.unsigned_abs(), scale + 1, out);
    if scale > 0 {
        let point = out.len() - scale;
        debug_assert!(point > mark, "a digit stands in front of the point");
        out.insert(point, b'.');
    }
}

/// Appends a date: `yyyy-MM-dd`; years above 9999 have a sign.
pub(super) fn push_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(days);
    match year {
        10_000.. => out.push(b'+'),
        ..0 => out.push(b'-'),
        _ => {}
    }
    push_digits(u128::from(year.unsigned_abs()), 4, out);
    out.push(b'-');
    push_digits(month.into(), 2, out);
    out.push(b'-');
    push_digits(day.into(), 2, out);
}

/// Appends `HH:mm:ss` of the seconds since midnight.
pub(super) fn push_clock(seconds: i64, out: &mut Vec<u8>) {
    push_hours_and_minutes(seconds, out);
    out.push(b':');
    push_digits((seconds % 60).unsigned_abs().into(), 2, out);
}

/// Appends `HH:mm` of the seconds since midnight.
pub(super) fn push_hours_and_minutes(seconds: i64, out: &mut Vec<u8>) {
    push_digits((seconds / 3600).unsigned_abs().into(), 2, out);
    out.push(b':');
    push_digits((seconds / 60 % 60).unsigned_abs().into(), 2, out);
}

/// A moment in days, seconds of the day and microseconds of the second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) days: i64,
    pub(super) seconds: i64,
    pub(super) micros: i64,
}

impl Moment {
    pub(super) fn of_millis(millis: i64) -> Self {
        let (days, rest) = (millis.div_euclid(DAY_MS), millis.rem_euclid(DAY_MS));
        Self { days, seconds: rest / 1000, micros: rest % 1000 * 1000 }
    }

    pub(super) fn of_micros(micros: i64) -> Self {
        let (days, rest) = (micros.div_euclid(DAY_MS * 1000), micros.rem_euclid(DAY_MS * 1000));
        Self { days, seconds: rest / 1_000_000, micros: rest % 1_000_000 }
    }

    /// Appends `yyyy-MM-dd HH:mm:ss.` and `digits` digits of the second's fraction, for a moment in UTC a `Z`.
    pub(super) fn push_sql(&self, digits: usize, zone: Zone, out: &mut Vec<u8>) {
        push_date(self.days, out);
        out.push(b' ');
        push_clock(self.seconds, out);
        out.push(b'.');
        let fraction = if digits == 3 { self.micros / 1000 } else { self.micros };
        push_digits(fraction.unsigned_abs().into(), digits, out);
        if zone == Zone::Utc {
            out.push(b'Z');
        }
    }
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u8;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
