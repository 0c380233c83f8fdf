//! The proleptic Gregorian calendar on days and microseconds since 1970, UTC.

use std::fmt::Write;

/// Microseconds in a second.
pub(in super::super) const SECOND: i64 = 1_000_000;
/// Microseconds in a minute.
pub(super) const MINUTE: i64 = 60 * SECOND;
/// Microseconds in an hour.
pub(super) const HOUR: i64 = 60 * MINUTE;
/// Microseconds in a day.
pub(in super::super) const DAY: i64 = 24 * HOUR;

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Date {
    /// The year; 0 is 1 BC.
    pub(super) year: i64,
    /// 1 to 12.
    pub(super) month: i64,
    /// 1 to 31.
    pub(super) day: i64,
}

impl Date {
    /// The day with a number, counted from 1970-01-01. Years are counted from March, so that leap days come last.
    pub(super) fn of_days(days: i64) -> Self {
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self { year: year_of_era + era * 400 + i64::from(month <= 2), month, day }
    }

    /// The day that a moment falls on.
    pub(super) fn of_micros(micros: i64) -> Self {
        Self::of_days(micros.div_euclid(DAY))
    }

    /// A day that exists, in the years 0 to 9999 of SQL and beyond, or none.
    pub(in super::super) fn new(year: i64, month: i64, day: i64) -> Option<Self> {
        let exists = (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month) && year.abs() < 200_000;
        exists.then_some(Self { year, month, day })
    }

    /// Its number, counted from 1970-01-01.
    pub(in super::super) fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = (self.month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468
    }

    /// 1 to 366.
    pub(super) fn day_of_year(self) -> i64 {
        self.days() - Self { month: 1, day: 1, ..self }.days() + 1
    }

    /// 1 for Monday to 7 for Sunday.
    pub(super) fn iso_day_of_week(self) -> i64 {
        (self.days() + 3).rem_euclid(7) + 1
    }

    /// The year and week of ISO 8601: weeks begin on Monday, the first has the year's first Thursday.
    pub(super) fn iso_week(self) -> (i64, i64) {
        let thursday = Self::of_days(self.days() + 4 - self.iso_day_of_week());
        (thursday.year, (thursday.day_of_year() - 1) / 7 + 1)
    }

    /// The same day `months` later, or the last of that month if it is shorter.
    pub(super) fn plus_months(self, months: i64) -> Self {
        let count = (self.year * 12 + self.month - 1).saturating_add(months);
        let (year, month) = (count.div_euclid(12), count.rem_euclid(12) + 1);
        Self { year, month, day: self.day.min(days_in_month(year, month)) }
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A moment `months` later, at the same time of day.
pub(super) fn plus_months(micros: i64, months: i64) -> i64 {
    let date = Date::of_micros(micros).plus_months(months);
    date.days().saturating_mul(DAY).saturating_add(micros.rem_euclid(DAY))
}

/// Whole months from one moment to another.
pub(super) fn months_between(from: i64, to: i64) -> i64 {
    let (start, end) = (Date::of_micros(from), Date::of_micros(to));
    let months = (end.year * 12 + end.month) - (start.year * 12 + start.month);
    let reached = plus_months(from, months);
    months - i64::from(to >= from && reached > to) + i64::from(to < from && reached < to)
}

/// A part of a moment, or a length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Unit {
    Millennium,
    Century,
    Decade,
    Year,
    IsoYear,
    Quarter,
    Month,
    Week,
    Day,
    DayOfYear,
    DayOfWeek,
    IsoDayOfWeek,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Epoch,
}

impl Unit {
    /// The unit with a name of SQL, in any case, in the singular or plural or with `SQL_TSI_` in front.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_uppercase();
        let name = name.strip_prefix("SQL_TSI_").unwrap_or(&name);
        Some(match name.strip_suffix('S').unwrap_or(name) {
            "MILLENNIUM" => Self::Millennium,
            "CENTURY" => Self::Century,
            "DECADE" => Self::Decade,
            "YEAR" => Self::Year,
            "ISOYEAR" => Self::IsoYear,
            "QUARTER" => Self::Quarter,
            "MONTH" => Self::Month,
            "WEEK" => Self::Week,
            "DAY" => Self::Day,
            "DOY" => Self::DayOfYear,
            "DOW" => Self::DayOfWeek,
            "ISODOW" => Self::IsoDayOfWeek,
            "HOUR" => Self::Hour,
            "MINUTE" => Self::Minute,
            "SECOND" => Self::Second,
            "MILLISECOND" => Self::Millisecond,
            "MICROSECOND" => Self::Microsecond,
            "EPOCH" => Self::Epoch,
            _ => return None,
        })
    }

    /// Its length in microseconds, or in months.
    pub(super) fn length(self) -> Option<Length> {
        Some(match self {
            Self::Millennium => Length::Months(12_000),
            Self::Century => Length::Months(1200),
            Self::Decade => Length::Months(120),
            Self::Year => Length::Months(12),
            Self::Quarter => Length::Months(3),
            Self::Month => Length::Months(1),
            Self::Week => Length::Micros(7 * DAY),
            Self::Day => Length::Micros(DAY),
            Self::Hour => Length::Micros(HOUR),
            Self::Minute => Length::Micros(MINUTE),
            Self::Second => Length::Micros(SECOND),
            Self::Millisecond => Length::Micros(1000),
            Self::Microsecond => Length::Micros(1),
            _ => return None,
        })
    }

    /// The part of a moment that it names.
    #[inline]
    pub(super) fn of(self, micros: i64) -> i64 {
        let date = || Date::of_micros(micros);
        match self {
            Self::Hour => micros.div_euclid(HOUR).rem_euclid(24),
            Self::Minute => micros.div_euclid(MINUTE).rem_euclid(60),
            Self::Second => micros.div_euclid(SECOND).rem_euclid(60),
            Self::Millisecond => micros.div_euclid(1000).rem_euclid(1000),
            Self::Microsecond => micros.rem_euclid(SECOND),
            Self::Epoch => micros.div_euclid(SECOND),
            Self::Year => date().year,
            Self::Quarter => (date().month + 2) / 3,
            Self::Month => date().month,
            Self::Day => date().day,
            Self::DayOfYear => date().day_of_year(),
            Self::DayOfWeek => date().iso_day_of_week() % 7 + 1,
            Self::IsoDayOfWeek => date().iso_day_of_week(),
            Self::Week => date().iso_week().1,
            Self::IsoYear => date().iso_week().0,
            Self::Decade => date().year.div_euclid(10),
            Self::Century => years_from_one(date().year, 100),
            Self::Millennium => years_from_one(date().year, 1000),
        }
    }

    /// The latest beginning of such a unit up to a moment; weeks begin on Sunday.
    pub(super) fn floor(self, micros: i64) -> Option<i64> {
        let date = Date::of_micros(micros);
        let first_of = |year: i64, month: i64| Date { year, month, day: 1 }.days().checked_mul(DAY);
        match self {
            Self::Week => {
                let days = micros.div_euclid(DAY);
                (days - (days + 4).rem_euclid(7)).checked_mul(DAY)
            }
            Self::Month => first_of(date.year, date.month),
            Self::Quarter => first_of(date.year, (date.month - 1) / 3 * 3 + 1),
            Self::Year => first_of(date.year, 1),
            Self::Decade => first_of(date.year.div_euclid(10) * 10, 1),
            Self::Century => first_of((years_from_one(date.year, 100) - 1) * 100 + 1, 1),
            Self::Millennium => first_of((years_from_one(date.year, 1000) - 1) * 1000 + 1, 1),
            _ => match self.length()? {
                Length::Micros(length) => micros.checked_sub(micros.rem_euclid(length)),
                Length::Months(_) => None,
            },
        }
    }

    /// The earliest beginning of such a unit from a moment on.
    pub(super) fn ceil(self, micros: i64) -> Option<i64> {
        let floor = self.floor(micros)?;
        if floor == micros {
            return Some(micros);
        }
        Some(match self.length()? {
            Length::Micros(length) => floor.saturating_add(length),
            Length::Months(months) => plus_months(floor, months),
        })
    }
}

/// Centuries and millennia count from the year 1.
fn years_from_one(year: i64, length: i64) -> i64 {
    (year - 1).div_euclid(length) + 1
}

/// How long a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// A fixed time.
    Micros(i64),
    /// Months of the calendar.
    Months(i64),
}

/// Appends `yyyy-MM-dd`.
pub(in super::super) fn write_date(days: i64, out: &mut String) {
    let date = Date::of_days(days);
    if (0..=9999).contains(&date.year) {
        two_digits(date.year / 100, out);
        two_digits(date.year % 100, out);
    } else {
        write!(out, "{:05}", date.year).expect("a string takes all text");
    }
    out.push('-');
    two_digits(date.month, out);
    out.push('-');
    two_digits(date.day, out);
}

/// Appends `HH:mm:ss`.
pub(in super::super) fn write_time(micros: i64, out: &mut String) {
    two_digits(Unit::Hour.of(micros), out);
    out.push(':');
    two_digits(Unit::Minute.of(micros), out);
    out.push(':');
    two_digits(Unit::Second.of(micros), out);
}

/// Appends `yyyy-MM-dd HH:mm:ss` and, for more than none, `digits` of the fraction of the second.
pub(in super::super) fn write_timestamp(micros: i64, digits: usize, out: &mut String) {
    write_date(micros.div_euclid(DAY), out);
    out.push(' ');
    write_time(micros, out);
    if digits > 0 {
        out.push('.');
        write_fraction(micros, digits, out);
    }
}

/// Appends the first `digits` of the fraction of the second, at least one and at most nine.
pub(super) fn write_fraction(micros: i64, digits: usize, out: &mut String) {
    let mut rest = micros.rem_euclid(SECOND);
    let mut unit = SECOND / 10;
    for _ in 0..digits {
        let digit = if unit == 0 { 0 } else { rest / unit };
        out.push(char::from(b'0' + u8::try_from(digit).expect("a digit is below ten")));
        rest = if unit == 0 { 0 } else { rest % unit };
        unit /= 10;
    }
}

/// Appends a number below a hundred with two digits.
pub(super) fn two_digits(number: i64, out: &mut String) {
    let number = u8::try_from(number.rem_euclid(100)).expect("the remainder is below a hundred");
    out.push(char::from(b'0' + number / 10));
    out.push(char::from(b'0' + number % 10));
}
