//! Patterns of dates in Java's letters (`yyyy-MM-dd HH:mm:ss.SSS`), to write and to read.
//!
//! English names, no zones: Flink formats local date-times, on which zone letters fail as well.

use super::calendar::{DAY, Date, HOUR, MINUTE, SECOND, Unit, two_digits, write_fraction};
use super::reading::Cursor;
use std::fmt::Write;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A pattern, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Literal(String),
    /// A number with at least so many digits.
    Number(Field, usize),
    /// The last two digits of the year.
    ShortYear,
    /// So many digits after the second's point.
    Fraction(usize),
    MonthName {
        full: bool,
    },
    WeekdayName {
        full: bool,
    },
    HalfOfDay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Year,
    Quarter,
    Month,
    DayOfYear,
    Day,
    /// 0 to 23
    Hour,
    /// 1 to 24
    HourFromOne,
    /// 1 to 12
    ClockHour,
    /// 0 to 11
    HalfHour,
    Minute,
    Second,
}

impl Pattern {
    /// Takes a pattern apart, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut items = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(letter) = chars.next() {
            if letter == '\'' {
                quoted(&mut chars, &mut literal).ok_or_else(|| format!("the quote in {text:?} is not closed"))?;
            } else if letter.is_ascii_alphabetic() {
                let mut count = 1;
                while chars.next_if_eq(&letter).is_some() {
                    count += 1;
                }
                if !literal.is_empty() {
                    items.push(Item::Literal(std::mem::take(&mut literal)));
                }
                items.push(field(letter, count).ok_or_else(|| {
                    let letters = letter.to_string().repeat(count);
                    format!("{letters:?} in {text:?} is not supported: use y M d H h m s S a E D Q, text in '…'")
                })?);
            } else {
                literal.push(letter);
            }
        }
        if !literal.is_empty() {
            items.push(Item::Literal(literal));
        }
        Ok(Self { items })
    }

    /// Microseconds within which the text of a moment stays the same, counted from 1970.
    pub(super) fn granularity(&self) -> i64 {
        self.items.iter().map(Item::granularity).min().unwrap_or(DAY)
    }

    /// Appends a moment in this pattern.
    pub(super) fn write(&self, micros: i64, out: &mut String) {
        let date = Date::of_micros(micros);
        for item in &self.items {
            match item {
                Item::Literal(text) => out.push_str(text),
                Item::Number(field, width) => {
                    let value = field.of(micros, date);
                    match width {
                        2 if (0..100).contains(&value) => two_digits(value, out),
                        _ => write!(out, "{value:0width$}").expect("a string takes all text"),
                    }
                }
                Item::ShortYear => two_digits(date.year, out),
                Item::Fraction(digits) => write_fraction(micros, *digits, out),
                Item::MonthName { full } => out.push_str(name(&MONTHS, date.month, *full)),
                Item::WeekdayName { full } => out.push_str(name(&WEEKDAYS, date.iso_day_of_week(), *full)),
                Item::HalfOfDay => out.push_str(if Unit::Hour.of(micros) < 12 { "AM" } else { "PM" }),
            }
        }
    }

    /// Microseconds since 1970 of a text in this pattern: parts that it lacks are those of 1970-01-01 00:00:00.
    /// With `prefix` the text may go on after the pattern's end.
    pub(super) fn read(&self, text: &str, prefix: bool) -> Option<i64> {
        let mut cursor = Cursor::new(text);
        let mut found = Found::default();
        for (index, item) in self.items.iter().enumerate() {
            let followed =
                matches!(self.items.get(index + 1), Some(Item::Number(..) | Item::ShortYear | Item::Fraction(_)));
            found.take(item, followed, &mut cursor)?;
        }
        if !prefix && !cursor.at_end() {
            return None;
        }
        found.micros()
    }
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) -> Option<()> {
    if chars.next_if_eq(&'\'').is_some() {
        out.push('\'');
        return Some(());
    }
    loop {
        match chars.next()? {
            '\'' if chars.next_if_eq(&'\'').is_some() => out.push('\''),
            '\'' => return Some(()),
            other => out.push(other),
        }
    }
}

fn field(letter: char, count: usize) -> Option<Item> {
    let number = |field, most| (count <= most).then_some(Item::Number(field, count));
    match letter {
        'y' | 'u' if count == 2 => Some(Item::ShortYear),
        'y' | 'u' => number(Field::Year, 19),
        'Q' | 'q' => number(Field::Quarter, 2),
        'M' | 'L' if count == 3 => Some(Item::MonthName { full: false }),
        'M' | 'L' if count == 4 => Some(Item::MonthName { full: true }),
        'M' | 'L' => number(Field::Month, 2),
        'D' => number(Field::DayOfYear, 3),
        'd' => number(Field::Day, 2),
        'H' => number(Field::Hour, 2),
        'k' => number(Field::HourFromOne, 2),
        'h' => number(Field::ClockHour, 2),
        'K' => number(Field::HalfHour, 2),
        'm' => number(Field::Minute, 2),
        's' => number(Field::Second, 2),
        'S' => (count <= 9).then_some(Item::Fraction(count)),
        'E' if count <= 3 => Some(Item::WeekdayName { full: false }),
        'E' if count == 4 => Some(Item::WeekdayName { full: true }),
        'a' if count == 1 => Some(Item::HalfOfDay),
        _ => None,
    }
}

fn name(names: &[&'static str], number: i64, full: bool) -> &'static str {
    let index = usize::try_from(number - 1).expect("months and weekdays count from one");
    if full { names[index] } else { &names[index][..3] }
}

impl Item {
    fn granularity(&self) -> i64 {
        match self {
            Self::Fraction(_) => 1,
            Self::HalfOfDay => HOUR,
            Self::Number(field, _) => match field {
                Field::Hour | Field::HourFromOne | Field::ClockHour | Field::HalfHour => HOUR,
                Field::Minute => MINUTE,
                Field::Second => SECOND,
                _ => DAY,
            },
            _ => DAY,
        }
    }
}

impl Field {
    fn of(self, micros: i64, date: Date) -> i64 {
        let hour = || Unit::Hour.of(micros);
        match self {
            Self::Year => date.year,
            Self::Quarter => (date.month + 2) / 3,
            Self::Month => date.month,
            Self::DayOfYear => date.day_of_year(),
            Self::Day => date.day,
            Self::Hour => hour(),
            Self::HourFromOne => (hour() + 23) % 24 + 1,
            Self::ClockHour => (hour() + 11) % 12 + 1,
            Self::HalfHour => hour() % 12,
            Self::Minute => Unit::Minute.of(micros),
            Self::Second => Unit::Second.of(micros),
        }
    }
}

/// The parts of a moment that a text had.
#[derive(Default)]
struct Found {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: i64,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    fraction: i64,
}

impl Found {
    fn take(&mut self, item: &Item, followed: bool, cursor: &mut Cursor<'_>) -> Option<()> {
        match item {
            Item::Literal(text) => {
                cursor.rest().starts_with(text.as_bytes()).then(|| cursor.skip(text.len()))?;
            }
            Item::Number(field, width) => {
                let most = if *width > 1 || followed { *width } else { 19 };
                let value = cursor.number(*width, most.max(*width))?;
                self.set(*field, value)?;
            }
            Item::ShortYear => self.year = Some(2000 + cursor.number(2, 2)?),
            Item::Fraction(digits) => self.fraction = cursor.fraction(*digits, *digits)?,
            Item::MonthName { full } => self.month = Some(name_at(&MONTHS, *full, cursor)?),
            Item::WeekdayName { full } => {
                name_at(&WEEKDAYS, *full, cursor)?;
            }
            Item::HalfOfDay => {
                let half = cursor.rest().get(..2)?.to_ascii_uppercase();
                self.afternoon = Some(match half.as_slice() {
                    b"AM" => false,
                    b"PM" => true,
                    _ => return None,
                });
                cursor.skip(2);
            }
        }
        Some(())
    }

    fn set(&mut self, field: Field, value: i64) -> Option<()> {
        let within = |most: i64| (value <= most).then_some(value);
        match field {
            Field::Year => self.year = Some(value),
            Field::Quarter => self.month = self.month.or(Some((within(4)? - 1) * 3 + 1)),
            Field::Month => self.month = Some(value),
            Field::Day => self.day = Some(value),
            Field::DayOfYear => self.day_of_year = Some(within(366)?),
            Field::Hour => self.hour = within(23)?,
            Field::HourFromOne => self.hour = within(24)? % 24,
            Field::ClockHour => self.hour = within(12)? % 12,
            Field::HalfHour => self.hour = within(11)?,
            Field::Minute => self.minute = within(59)?,
            Field::Second => self.second = within(59)?,
        }
        Some(())
    }

    fn micros(&self) -> Option<i64> {
        let year = self.year.unwrap_or(1970);
        let date = match self.day_of_year {
            Some(day) => Date::of_days(Date::new(year, 1, 1)?.days() + day - 1),
            None => Date::new(year, self.month.unwrap_or(1), self.day.unwrap_or(1))?,
        };
        let hour = self.hour + if self.afternoon == Some(true) && self.hour < 12 { 12 } else { 0 };
        Some(date.days() * DAY + hour * HOUR + self.minute * MINUTE + self.second * SECOND + self.fraction)
    }
}

fn name_at(names: &[&'static str], full: bool, cursor: &mut Cursor<'_>) -> Option<i64> {
    let index = names.iter().position(|name| {
        let name = if full { name } else { &name[..3] };
        cursor.rest().get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name.as_bytes()))
    })?;
    cursor.skip(if full { names[index].len() } else { 3 });
    i64::try_from(index).ok().map(|index| index + 1)
}
