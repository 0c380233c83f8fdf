//! The present time, and time zones.

use super::super::arguments::Call;
use super::super::definition::{Function, Kind, Returns};
use super::calendar::{DAY, SECOND};
use super::formatting::ISO_SECONDS;
use super::moments_array;
use super::pattern::Pattern;
use arrow::array::{ArrayRef, Int64Array};
use chrono::{Duration, FixedOffset, NaiveDateTime, Offset, TimeZone, Utc};
use datafusion_common::Result;
use std::sync::Arc;

pub(super) const CURRENT_TIMESTAMP: Function = Function::new(
    "current_timestamp",
    "CURRENT_TIMESTAMP, NOW(), CURRENT_ROW_TIMESTAMP()",
    "the present time as TIMESTAMP_LTZ(3), taken once per batch of rows",
    &[],
    Returns::TimestampLtz,
    now,
)
.aliases(&["now", "current_row_timestamp"])
.volatile();

pub(super) const LOCAL_TIMESTAMP: Function = Function::new(
    "localtimestamp",
    "LOCALTIMESTAMP",
    "the present time in UTC as TIMESTAMP(3), taken once per batch of rows",
    &[],
    Returns::Timestamp,
    now,
)
.volatile();

pub(super) const CURRENT_DATE: Function =
    Function::new("current_date", "CURRENT_DATE", "the present day in UTC", &[], Returns::Date, now).volatile();

pub(super) const CURRENT_TIME: Function = Function::new(
    "current_time",
    "CURRENT_TIME, LOCALTIME",
    "the present time of day in UTC, without fractions of a second",
    &[],
    Returns::Time,
    |call| {
        let seconds = micros_now().div_euclid(SECOND) * SECOND;
        moments_array(call, |_| Some(seconds))
    },
)
.aliases(&["localtime"])
.volatile();

pub(super) const UNIX_TIMESTAMP: Function = Function::new(
    "unix_timestamp",
    "UNIX_TIMESTAMP([text [, pattern]])",
    "seconds since 1970: of the present, or of a timestamp in text ('yyyy-MM-dd HH:mm:ss' unless said otherwise; \
     the lowest BIGINT when it is none)",
    &[Kind::Text, Kind::Text],
    Returns::Long,
    unix_timestamp,
)
.optional(2)
.volatile();

fn micros_now() -> i64 {
    Utc::now().timestamp_micros()
}

fn now(call: &Call<'_>) -> Result<ArrayRef> {
    let now = micros_now();
    moments_array(call, |_| Some(now))
}

fn unix_timestamp(call: &Call<'_>) -> Result<ArrayRef> {
    if call.count() == 0 {
        let now = micros_now().div_euclid(SECOND);
        return Ok(Arc::new(Int64Array::from_value(now, call.rows)));
    }
    let texts = call.texts(0)?;
    let patterns =
        if call.count() > 1 { call.texts(1)? } else { super::super::arguments::Texts::Constant(Some(ISO_SECONDS)) };
    let constant = patterns.constant().map(Pattern::parse).transpose().map_err(|message| call.mistake(message))?;
    let mut seconds = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let Some((text, pattern)) = texts.get(row).zip(patterns.get(row)) else {
            seconds.push(None);
            continue;
        };
        let micros = match &constant {
            Some(pattern) => pattern.read(text, true),
            None => Pattern::parse(pattern).map_err(|message| call.mistake(message))?.read(text, true),
        };
        seconds.push(Some(micros.map_or(i64::MIN, |micros| micros.div_euclid(SECOND))));
    }
    Ok(Arc::new(Int64Array::from(seconds)))
}

/// A local time in one zone as the local time in another; none for a zone that nobody knows. A time that a clock
/// shows twice is the first, one that it skips is moved on by an hour.
pub(super) fn move_zone(micros: i64, from: &str, to: &str) -> Option<i64> {
    let local = chrono::DateTime::from_timestamp_micros(micros)?.naive_utc();
    let utc = local.checked_sub_signed(Duration::seconds(offset(from, local, true)?))?;
    let moved = utc.checked_add_signed(Duration::seconds(offset(to, utc, false)?))?;
    let micros = moved.and_utc().timestamp_micros();
    (micros.unsigned_abs() < (i64::MAX - DAY).unsigned_abs()).then_some(micros)
}

/// Seconds that a zone is ahead of UTC, at a local or universal time.
fn offset(zone: &str, at: NaiveDateTime, local: bool) -> Option<i64> {
    if let Some(fixed) = fixed_offset(zone) {
        return Some(i64::from(fixed.local_minus_utc()));
    }
    let zone: chrono_tz::Tz = short_name(zone).parse().ok()?;
    let offset = if local {
        let mut times = [at, at + Duration::hours(1)].into_iter();
        times.find_map(|at| zone.offset_from_local_datetime(&at).earliest())?.fix()
    } else {
        zone.offset_from_utc_datetime(&at).fix()
    };
    Some(i64::from(offset.local_minus_utc()))
}

/// Java's three-letter names that the zone database lacks.
fn short_name(zone: &str) -> &str {
    match zone {
        "PST" => "America/Los_Angeles",
        "CST" => "America/Chicago",
        "IST" => "Asia/Kolkata",
        "JST" => "Asia/Tokyo",
        "CTT" => "Asia/Shanghai",
        "ECT" => "Europe/Paris",
        other => other,
    }
}

/// `UTC`, `GMT`, `GMT+8`, `GMT-08:00`, `UTC+01:00`, `+01:00`.
fn fixed_offset(zone: &str) -> Option<FixedOffset> {
    let offset = zone.strip_prefix("GMT").or_else(|| zone.strip_prefix("UTC")).unwrap_or(zone);
    if offset.is_empty() {
        return FixedOffset::east_opt(0);
    }
    let (sign, digits) = match offset.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
    let number = |text: &str| text.parse::<i32>().ok().filter(|_| (1..=2).contains(&text.len()));
    FixedOffset::east_opt(sign * (number(hours)? * 3600 + number(minutes)? * 60))
}
