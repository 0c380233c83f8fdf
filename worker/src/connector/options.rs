//! A table's `WITH` options: read once, with every mistake told by name and place.

use crate::diagnostic::{Diagnostic, Position, nearest};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One option as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionValue {
    /// The text between the quotes, secrets resolved.
    pub value: String,
    /// Where the option's key stands.
    pub position: Option<Position>,
}

/// The options of one table. A connector asks for each option that it knows and then calls [`Options::finish`], which
/// refuses those that nobody asked for.
#[derive(Debug, Default)]
pub struct Options {
    entries: BTreeMap<String, OptionValue>,
    asked: Mutex<BTreeSet<String>>,
    mistakes: Mutex<Vec<Diagnostic>>,
    table: String,
    table_position: Option<Position>,
}

impl Clone for Options {
    /// The same options, unread.
    fn clone(&self) -> Self {
        Self::new(self.table.clone(), self.table_position, self.entries.clone())
    }
}

impl Options {
    /// The options of `table`.
    #[must_use]
    pub fn new(table: impl Into<String>, position: Option<Position>, entries: BTreeMap<String, OptionValue>) -> Self {
        Self { entries, table: table.into(), table_position: position, ..Self::default() }
    }

    /// Options without places, for tests and built-in tables.
    #[must_use]
    pub fn of(table: &str, pairs: &[(&str, &str)]) -> Self {
        let entry = |(key, value): &(&str, &str)| {
            ((*key).to_owned(), OptionValue { value: (*value).to_owned(), position: None })
        };
        Self::new(table, None, pairs.iter().map(entry).collect())
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// All options as written, for a plan's fingerprint.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<String, OptionValue> {
        &self.entries
    }

    /// An option's text.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        self.asked.lock().insert(key.to_owned());
        self.entries.get(key).map(|entry| entry.value.clone())
    }

    /// An option's text; its absence is a mistake, and the answer then is empty.
    #[must_use]
    pub fn required(&self, key: &str) -> String {
        self.text(key).unwrap_or_else(|| {
            let message = format!("table '{}' needs the option '{key}'", self.table);
            self.mistake(
                Diagnostic::new(message).at(self.table_position).hint(format!("add '{key}' = '…' to its WITH clause")),
            );
            String::new()
        })
    }

    /// Options whose key starts with `prefix`, by the rest of the key.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> BTreeMap<String, String> {
        let matching = self.entries.iter().filter_map(|(key, entry)| Some((key, key.strip_prefix(prefix)?, entry)));
        matching
            .map(|(key, rest, entry)| {
                self.asked.lock().insert(key.clone());
                (rest.to_owned(), entry.value.clone())
            })
            .collect()
    }

    /// An option read by `parse`, which says what it wants when it refuses; a refusal is a mistake and answers `None`.
    pub fn parsed<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = self.text(key)?;
        match parse(&value) {
            Ok(parsed) => Some(parsed),
            Err(wanted) => {
                self.mistake_in(key, format!("'{value}' is no value for '{key}': {wanted}"), None);
                None
            }
        }
    }

    /// An option that is `true` or `false`.
    #[must_use]
    pub fn boolean(&self, key: &str) -> Option<bool> {
        self.parsed(key, |value| match value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("true or false expected".to_owned()),
        })
    }

    /// A whole number within `range`.
    #[must_use]
    pub fn integer(&self, key: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        self.parsed(key, |value| match value.trim().parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("a whole number from {} to {} expected", range.start(), range.end())),
        })
    }

    /// A duration in Flink's notation: `10 s`, `500ms`, `1 min`, `2h`, `1 d`.
    #[must_use]
    pub fn duration(&self, key: &str) -> Option<Duration> {
        self.parsed(key, parse_duration)
    }

    /// A size in Flink's notation: `64mb`, `1 gb`, `100 bytes`, `512kb`; units of 1024.
    #[must_use]
    pub fn bytes(&self, key: &str) -> Option<u64> {
        self.parsed(key, parse_bytes)
    }

    /// One of the named choices.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.text(key)?;
        if let Some((_, chosen)) = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(&value)) {
            return Some(*chosen);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let hint = nearest(&value, names.iter().copied()).map(|name| format!("did you mean '{name}'?"));
        self.mistake_in(key, format!("'{value}' is no value for '{key}': one of {} expected", names.join(", ")), hint);
        None
    }

    /// Notes a mistake about the option `key`.
    #[expect(clippy::needless_pass_by_value, reason = "callers make the message for it")]
    pub fn mistake_in(&self, key: &str, message: String, hint: Option<String>) {
        let position = self.entries.get(key).and_then(|entry| entry.position).or(self.table_position);
        self.mistake(Diagnostic { message: format!("table '{}': {message}", self.table), position, hint });
    }

    /// Notes a mistake about the table.
    pub fn mistake(&self, mistake: Diagnostic) {
        self.mistakes.lock().push(mistake);
    }

    /// Ends the reading: the mistakes, if there are any, with those options that nobody asked for.
    pub fn finish(&self) -> Result<(), Vec<Diagnostic>> {
        let asked = self.asked.lock();
        for (key, entry) in self.entries.iter().filter(|(key, _)| !asked.contains(*key)) {
            let hint = match nearest(key, asked.iter().map(String::as_str)) {
                Some(name) => format!("did you mean '{name}'?"),
                None => format!("known here: {}", asked.iter().cloned().collect::<Vec<_>>().join(", ")),
            };
            let message = format!("table '{}' has an unknown option '{key}'", self.table);
            self.mistake(Diagnostic { message, position: entry.position, hint: Some(hint) });
        }
        let mistakes = self.mistakes.lock().clone();
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }
}

/// Reads a duration in Flink's notation.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| "a duration such as '10 s' or '500 ms' expected".to_owned())?;
    let nanos: u64 = match unit {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        _ => return Err(format!("'{unit}' is no unit of time: ns, us, ms, s, min, h or d expected")),
    };
    number.checked_mul(nanos).map(Duration::from_nanos).ok_or_else(|| "the duration is too long".to_owned())
}

/// Reads a size in Flink's notation.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| "a size such as '64 mb' expected".to_owned())?;
    let factor: u64 = match unit {
        "" | "b" | "byte" | "bytes" => 1,
        "k" | "kb" | "kib" | "kibibytes" => 1 << 10,
        "m" | "mb" | "mib" | "mebibytes" => 1 << 20,
        "g" | "gb" | "gib" | "gibibytes" => 1 << 30,
        "t" | "tb" | "tib" | "tebibytes" => 1 << 40,
        _ => return Err(format!("'{unit}' is no unit of size: b, kb, mb, gb or tb expected")),
    };
    number.checked_mul(factor).ok_or_else(|| "the size is too large".to_owned())
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}
