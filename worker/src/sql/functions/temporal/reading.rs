//! Dates, times and timestamps out of text, in the forms that Flink's casts take.

use super::calendar::{DAY, Date, HOUR, MINUTE, SECOND};

/// Digits and signs of a text, from left to right.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.as_bytes() }
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn skip(&mut self, count: usize) {
        self.rest = &self.rest[count.min(self.rest.len())..];
    }

    /// Takes one byte, if it is this.
    pub(super) fn take(&mut self, byte: u8) -> Option<()> {
        (self.rest.first() == Some(&byte)).then(|| self.skip(1))
    }

    /// Takes a number of at least `least` and at most `most` digits.
    pub(super) fn number(&mut self, least: usize, most: usize) -> Option<i64> {
        let digits = self.rest.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        if digits < least || digits == 0 {
            return None;
        }
        let mut value = 0i64;
        for digit in &self.rest[..digits] {
            value = value.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
        }
        self.skip(digits);
        Some(value)
    }

    /// Takes the digits of a fraction of a second; those beyond microseconds count for nothing.
    pub(super) fn fraction(&mut self, least: usize, most: usize) -> Option<i64> {
        let digits = self.rest.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        if digits < least {
            return None;
        }
        let mut unit = SECOND / 10;
        let mut micros = 0;
        for digit in &self.rest[..digits] {
            micros += i64::from(digit - b'0') * unit;
            unit /= 10;
        }
        self.skip(digits);
        Some(micros)
    }
}

/// Microseconds since 1970 of `yyyy-[M]M-[d]d[ [H]H:[m]m:[s]s[.fraction]]`, with blanks around.
pub(in super::super) fn read_timestamp(text: &str) -> Option<i64> {
    let mut cursor = Cursor::new(text.trim());
    let days = date_at(&mut cursor)?;
    if cursor.at_end() {
        return Some(days * DAY);
    }
    cursor.take(b' ')?;
    let time = time_at(&mut cursor, true)?;
    cursor.at_end().then(|| days * DAY + time)
}

/// Days since 1970 of `yyyy[-[M]M[-[d]d]]`; what follows a blank does not count.
pub(in super::super) fn read_date(text: &str) -> Option<i32> {
    let text = text.trim();
    let text = text.split_once(' ').map_or(text, |(date, _)| date);
    let mut parts = text.split('-').map(|part| {
        let part = part.trim();
        let digits = !part.is_empty() && part.len() <= 6 && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse::<i64>().ok()).flatten()
    });
    let year = parts.next()??;
    let month = parts.next().unwrap_or(Some(1))?;
    let day = parts.next().unwrap_or(Some(1))?;
    if parts.next().is_some() {
        return None;
    }
    i32::try_from(Date::new(year, month, day)?.days()).ok()
}

/// Milliseconds of `[H]H[:[m]m[:[s]s[.fraction]]]`.
pub(in super::super) fn read_time(text: &str) -> Option<i32> {
    let mut cursor = Cursor::new(text.trim());
    let micros = time_at(&mut cursor, false)?;
    let millis = cursor.at_end().then_some(micros / 1000)?;
    i32::try_from(millis).ok()
}

fn date_at(cursor: &mut Cursor<'_>) -> Option<i64> {
    let year = cursor.number(4, 4)?;
    cursor.take(b'-')?;
    let month = cursor.number(1, 2)?;
    cursor.take(b'-')?;
    let day = cursor.number(1, 2)?;
    Some(Date::new(year, month, day)?.days())
}

fn time_at(cursor: &mut Cursor<'_>, all_parts: bool) -> Option<i64> {
    let hour = cursor.number(1, 2).filter(|hour| *hour < 24)?;
    if cursor.at_end() && !all_parts {
        return Some(hour * HOUR);
    }
    cursor.take(b':')?;
    let minute = cursor.number(1, 2).filter(|minute| *minute < 60)?;
    if cursor.at_end() && !all_parts {
        return Some(hour * HOUR + minute * MINUTE);
    }
    cursor.take(b':')?;
    let second = cursor.number(1, 2).filter(|second| *second < 60)?;
    let fraction = if cursor.take(b'.').is_some() { cursor.fraction(0, 9)? } else { 0 };
    Some(hour * HOUR + minute * MINUTE + second * SECOND + fraction)
}
