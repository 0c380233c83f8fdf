//! Dates and times as text.

use arrow::datatypes::TimeUnit;

/// How timestamps are written: Flink's option `timestamp-format.standard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    /// `2020-12-30 12:13:14.123`, with a `Z` for a point in time.
    Sql,
    /// `2020-12-30T12:13:14.123`, with a `Z` for a point in time.
    Iso8601,
}

impl Standard {
    fn separator(self) -> u8 {
        match self {
            Self::Sql => b' ',
            Self::Iso8601 => b'T',
        }
    }

    /// What is expected, for messages.
    pub(super) fn pattern(self, zoned: bool) -> &'static str {
        match (self, zoned) {
            (Self::Sql, false) => "yyyy-MM-dd HH:mm:ss.SSS",
            (Self::Sql, true) => "yyyy-MM-dd HH:mm:ss.SSSZ",
            (Self::Iso8601, false) => "yyyy-MM-ddTHH:mm:ss.SSS",
            (Self::Iso8601, true) => "yyyy-MM-ddTHH:mm:ss.SSSZ",
        }
    }
}

/// Days since 1970-01-01 of `yyyy-MM-dd`.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
        return None;
    };
    let year = i32::from(two_digits(y1, y2)?) * 100 + i32::from(two_digits(y3, y4)?);
    let (month, day) = (two_digits(m1, m2)?, two_digits(d1, d2)?);
    (1..=12).contains(&month).then_some(())?;
    (1..=days_in_month(year, month)).contains(&day).then_some(())?;
    Some(days_since_epoch(year, i32::from(month), i32::from(day)))
}

/// Nanoseconds of the day of `HH:mm:ss`, with one to nine digits of a fraction or none.
pub(super) fn time(text: &[u8]) -> Option<i64> {
    let (clock, fraction) = text.split_at_checked(8)?;
    let &[h1, h2, b':', m1, m2, b':', s1, s2] = clock else {
        return None;
    };
    let (hour, minute, second) = (two_digits(h1, h2)?, two_digits(m1, m2)?, two_digits(s1, s2)?);
    (hour < 24 && minute < 60 && second < 60).then_some(())?;
    let seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
    let nanos = match fraction {
        [] => 0,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => nanos_of(digits)?,
        _ => return None,
    };
    Some(seconds * 1_000_000_000 + nanos)
}

/// A timestamp in ticks of `unit` since 1970-01-01T00:00:00; digits finer than the unit are cut off. A `zoned` one ends
/// in `Z` or an offset such as `+02:00`, another one does not.
pub(super) fn timestamp(text: &[u8], standard: Standard, unit: TimeUnit, zoned: bool) -> Option<i64> {
    let (text, offset_seconds) = if zoned { split_zone(text)? } else { (text, 0) };
    let (day, rest) = text.split_at_checked(10)?;
    let (&separator, clock) = rest.split_first()?;
    (separator == standard.separator()).then_some(())?;
    let days = i64::from(date(day)?);
    let nanos = time(clock)?;
    let seconds = days * 86_400 + nanos / 1_000_000_000 - offset_seconds;
    let (per_second, nanos_per_tick) = match unit {
        TimeUnit::Second => (1, 1_000_000_000),
        TimeUnit::Millisecond => (1_000, 1_000_000),
        TimeUnit::Microsecond => (1_000_000, 1_000),
        TimeUnit::Nanosecond => (1_000_000_000, 1),
    };
    seconds.checked_mul(per_second)?.checked_add(nanos % 1_000_000_000 / nanos_per_tick)
}

/// Takes the zone off the end, and answers its distance from UTC in seconds.
fn split_zone(text: &[u8]) -> Option<(&[u8], i64)> {
    if let [rest @ .., b'Z'] = text {
        return Some((rest, 0));
    }
    let (rest, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let &[sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] = zone else {
        return None;
    };
    let (hours, minutes) = (two_digits(h1, h2)?, two_digits(m1, m2)?);
    (hours <= 18 && minutes < 60).then_some(())?;
    let seconds = (i64::from(hours) * 60 + i64::from(minutes)) * 60;
    Some((rest, if sign == b'-' { -seconds } else { seconds }))
}

fn two_digits(tens: u8, ones: u8) -> Option<u8> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| tens * 10 + ones)
}

/// The powers of ten up to a second's nanoseconds.
const POWERS: [i64; 10] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

fn nanos_of(digits: &[u8]) -> Option<i64> {
    let mut nanos = 0;
    for &digit in digits {
        digit.is_ascii_digit().then_some(())?;
        nanos = nanos * 10 + i64::from(digit - b'0');
    }
    Some(nanos * POWERS[9 - digits.len()])
}

fn days_in_month(year: i32, month: u8) -> u8 {
    match month {
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The proleptic Gregorian calendar counted from March, so that the leap day is the last of its year: Howard Hinnant's
/// "chrono-compatible low-level date algorithms", days_from_civil. Years are 0 to 9999.
fn days_since_epoch(year: i32, month: i32, day: i32) -> i32 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn every_day_has_the_number_that_the_calendar_gives_it() {
        let first = chrono::NaiveDate::from_ymd_opt(0, 1, 1).unwrap();
        let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for day in first
            .iter_days()
            .step_by(13)
            .take_while(|day| *day <= chrono::NaiveDate::from_ymd_opt(9999, 12, 31).unwrap())
        {
            let expected = i32::try_from((day - epoch).num_days()).unwrap();
            assert_eq!(date(day.format("%Y-%m-%d").to_string().as_bytes()), Some(expected), "{day}");
        }
    }

    #[test]
    fn timestamps_are_read_in_their_standard_only() {
        use Standard::{Iso8601, Sql};
        let table = [
            ("1970-01-01 00:00:00", Sql, false, Some(0)),
            ("2026-11-20 20:24:34.07", Sql, false, Some(1_795_206_274_070)),
            ("2026-11-20 20:24:34.0709", Sql, false, Some(1_795_206_274_070)),
            ("1969-12-31 23:59:59.999", Sql, false, Some(-1)),
            ("1970-01-01T00:00:00.5", Iso8601, false, Some(500)),
            ("1970-01-01T00:00:00.5Z", Iso8601, true, Some(500)),
            ("1970-01-01 02:00:00+02:00", Sql, true, Some(0)),
            ("1970-01-01T00:00:00.5", Sql, false, None),
            ("1970-01-01 00:00:00Z", Sql, false, None),
            ("1970-01-01 00:00:00", Sql, true, None),
            ("1970-02-29 00:00:00", Sql, false, None),
            ("1970-01-01 24:00:00", Sql, false, None),
            ("1970-01-01 00:00:60", Sql, false, None),
            ("1970-01-01 00:00:00.", Sql, false, None),
            ("1970-01-01 00:00:00.1234567890", Sql, false, None),
            ("1970-01-01", Sql, false, None),
            ("", Sql, false, None),
        ];
        for (text, standard, zoned, expected) in table {
            assert_eq!(timestamp(text.as_bytes(), standard, TimeUnit::Millisecond, zoned), expected, "{text}");
        }
    }
}
