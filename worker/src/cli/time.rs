//! Moments for people.

/// A moment of the wall clock, in milliseconds since 1970, as UTC: `2026-01-31 12:00:00Z`.
#[must_use]
pub(super) fn of_unix_ms(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or_else(|| "an unknown time".to_owned(), |time| time.format("%Y-%m-%d %H:%M:%SZ").to_string())
}
