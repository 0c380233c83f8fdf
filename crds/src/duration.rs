//! Durations as they are written in a manifest: `100ms`, `10s`, `1h30m`, `2d`.
//!
//! The accepted texts are exactly those of [`PATTERN`], so that the API server and this parser agree. Go's notation
//! (what CEL reads) is the same without days; fractions are left out because `1.5m` is too easily read as months.

use std::fmt;
use std::str::FromStr;
use std::time::Duration as StdDuration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The schema's pattern: units from days to milliseconds, each at most once. The digits are limited so that any sum
/// fits into 63 bits of nanoseconds, which is what CEL computes with.
pub(crate) const PATTERN: &str = "^([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$";
/// Length of the longest text that [`PATTERN`] matches.
pub(crate) const MAX_LENGTH: usize = 43;

/// Unit, its length in milliseconds, and how many digits may stand before it; longest first.
const UNITS: [(&str, u64, usize); 5] =
    [("d", 86_400_000, 4), ("h", 3_600_000, 5), ("m", 60_000, 7), ("s", 1_000, 9), ("ms", 1, 12)];

/// A length of time: numbers with the units d, h, m, s and ms, longest first, such as `10s` or `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(StdDuration);

/// Why a text is not a [`Duration`]. Every variant says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing was written.
    #[error("is empty; write a number with a unit, such as 10s")]
    Empty,
    /// It begins with a sign.
    #[error("has a sign; durations are not negative, write for example 10s")]
    Signed,
    /// It holds a decimal point or comma.
    #[error("has a fraction; use a smaller unit, for example 1m30s instead of 1.5m")]
    Fraction,
    /// It holds white space.
    #[error("holds white space; write it in one piece, such as 1h30m")]
    Space,
    /// A number without a unit.
    #[error("has no unit after {number}; write for example {number}s or {number}ms")]
    NoUnit {
        /// The digits that stand alone.
        number: String,
    },
    /// A unit without a number.
    #[error("has no number before `{unit}`; write for example 10s")]
    NoNumber {
        /// What stands where a digit was expected.
        unit: String,
    },
    /// A unit that does not exist.
    #[error("has the unknown unit `{unit}`; {advice}")]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// What to write instead.
        advice: &'static str,
    },
    /// Units that repeat or grow.
    #[error("has `{unit}` in the wrong place; write each unit once, longest first, such as 1d12h30m")]
    Order {
        /// The unit that comes too late.
        unit: &'static str,
    },
    /// More digits than any use needs.
    #[error("has too many digits before `{unit}` (at most {digits}); use a longer unit")]
    TooLong {
        /// The unit after the number.
        unit: &'static str,
        /// How many digits may stand before it.
        digits: usize,
    },
}

impl Duration {
    /// A duration of whole milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(StdDuration::from_millis(millis))
    }

    /// A duration of whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(StdDuration::from_secs(seconds))
    }

    /// The standard library's duration.
    #[must_use]
    pub const fn get(self) -> StdDuration {
        self.0
    }

    /// Whether it is zero.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for StdDuration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        refuse_foreign_characters(text)?;
        let mut rest = text;
        let mut longest_allowed = 0;
        let mut millis = 0_u64;
        while !rest.is_empty() {
            let (number, after) = split_while(rest, |c| c.is_ascii_digit());
            let (unit, after) = split_while(after, |c| !c.is_ascii_digit());
            if unit.is_empty() {
                return Err(DurationError::NoUnit { number: shorten(number) });
            }
            if number.is_empty() {
                return Err(DurationError::NoNumber { unit: shorten(unit) });
            }
            let index = UNITS.iter().position(|(name, ..)| *name == unit).ok_or_else(|| unknown_unit(unit))?;
            let (unit, unit_millis, digits) = UNITS[index];
            if index < longest_allowed {
                return Err(DurationError::Order { unit });
            }
            if number.len() > digits {
                return Err(DurationError::TooLong { unit, digits });
            }
            let count = number.bytes().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
            millis += count * unit_millis;
            longest_allowed = index + 1;
            rest = after;
        }
        Ok(Self::from_millis(millis))
    }
}

fn refuse_foreign_characters(text: &str) -> Result<(), DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.starts_with(['-', '+']) {
        return Err(DurationError::Signed);
    }
    if text.contains(char::is_whitespace) {
        return Err(DurationError::Space);
    }
    if text.contains(['.', ',']) {
        return Err(DurationError::Fraction);
    }
    Ok(())
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn shorten(text: &str) -> String {
    text.chars().take(20).collect()
}

fn unknown_unit(unit: &str) -> DurationError {
    let advice = match unit.to_ascii_lowercase().as_str() {
        "d" | "day" | "days" => "for days write d",
        "h" | "hr" | "hrs" | "hour" | "hours" => "for hours write h",
        "m" | "min" | "mins" | "minute" | "minutes" => "for minutes write m",
        "s" | "sec" | "secs" | "second" | "seconds" => "for seconds write s",
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => "for milliseconds write ms",
        "w" | "week" | "weeks" => "write weeks as days, such as 7d",
        "us" | "µs" | "ns" => "the smallest unit is ms",
        _ => "the units are d, h, m, s and ms",
    };
    DurationError::UnknownUnit { unit: shorten(unit), advice }
}

impl fmt::Display for Duration {
    /// Writes the shortest text that parses back to the same duration: `90s` is written as `1m30s`. Lengths beyond
    /// what a manifest can hold are cut to the longest that it can.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = 9_999 * UNITS[0].1 + (UNITS[0].1 - 1);
        let mut millis = u64::try_from(self.0.as_millis()).map_or(longest, |millis| millis.min(longest));
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, unit_millis, _) in UNITS {
            let count = millis / unit_millis;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
            millis %= unit_millis;
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error| serde::de::Error::custom(format_args!("the duration `{}` {error}", shorten(&text))))
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "minLength": 2, "maxLength": MAX_LENGTH })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn written_durations_are_read_in_their_units() {
        for (text, millis) in [
            ("0s", 0),
            ("100ms", 100),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("90s", 90_000),
            ("007s", 7_000),
        ] {
            assert_eq!(text.parse(), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_what_to_write() {
        for (text, message) in [
            ("", "is empty; write a number with a unit, such as 10s"),
            ("10", "has no unit after 10; write for example 10s or 10ms"),
            ("1h30", "has no unit after 30; write for example 30s or 30ms"),
            ("-5s", "has a sign; durations are not negative, write for example 10s"),
            ("1.5h", "has a fraction; use a smaller unit, for example 1m30s instead of 1.5m"),
            ("10 s", "holds white space; write it in one piece, such as 1h30m"),
            ("s", "has no number before `s`; write for example 10s"),
            ("10sec", "has the unknown unit `sec`; for seconds write s"),
            ("5M", "has the unknown unit `M`; for minutes write m"),
            ("1w", "has the unknown unit `w`; write weeks as days, such as 7d"),
            ("3parsecs", "has the unknown unit `parsecs`; the units are d, h, m, s and ms"),
            ("1m1h", "has `h` in the wrong place; write each unit once, longest first, such as 1d12h30m"),
            ("1s1s", "has `s` in the wrong place; write each unit once, longest first, such as 1d12h30m"),
            ("99999d", "has too many digits before `d` (at most 4); use a longer unit"),
            ("٣s", "has no number before `٣s`; write for example 10s"),
        ] {
            assert_eq!(text.parse::<Duration>().unwrap_err().to_string(), message, "{text}");
        }
    }

    /// The pattern by hand: whether `text` is a run of known units in falling order.
    fn pattern_matches(text: &str) -> bool {
        regex_lite(text, 0)
    }

    fn regex_lite(text: &str, from: usize) -> bool {
        text.is_empty()
            || (from..UNITS.len()).any(|index| {
                let (unit, _, digits) = UNITS[index];
                (1..=digits.min(text.len())).any(|count| {
                    text.bytes().take(count).all(|byte| byte.is_ascii_digit())
                        && text[count..].strip_prefix(unit).is_some_and(|rest| regex_lite(rest, index + 1))
                })
            })
    }

    proptest! {
        #[test]
        fn every_text_of_the_pattern_parses_and_prints_back(text in proptest::string::string_regex(
            PATTERN.trim_start_matches('^').trim_end_matches('$')).unwrap()) {
            prop_assume!(!text.is_empty());
            prop_assert!(text.len() <= MAX_LENGTH);
            let duration: Duration = text.parse().unwrap();
            prop_assume!(duration.get() < StdDuration::from_secs(9_999 * 86_400));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn the_parser_accepts_exactly_the_pattern(text in "[0-9dhms]{1,8}") {
            prop_assert_eq!(text.parse::<Duration>().is_ok(), pattern_matches(&text), "{}", text);
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in ".{0,60}") {
            let _ = text.parse::<Duration>();
        }

        #[test]
        fn printing_any_duration_gives_a_text_that_parses(millis in any::<u64>()) {
            let text = Duration::from_millis(millis).to_string();
            prop_assert!(text.parse::<Duration>().is_ok(), "{}", text);
        }
    }
}
