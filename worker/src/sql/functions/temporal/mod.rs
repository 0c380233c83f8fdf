//! Functions of dates and times. Timestamps with local time zone are shown in UTC, the session's zone.

pub(super) mod calendar;
mod current;
mod formatting;
mod pattern;
pub(super) mod reading;

use super::arguments::{Call, Moments};
use super::definition::Function;
use super::definition::Kind::{Integer, Moment, Number, Temporal, Text};
use super::definition::Returns;
use super::typing;
use arrow::array::{Array, ArrayRef, Int32Array, Int64Array, PrimitiveArray, PrimitiveBuilder};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Int64Type, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType,
};
use calendar::{DAY, Length, SECOND, Unit};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::ScalarUDF;
use formatting::{convert_tz, date_format, from_unixtime, to_date, to_timestamp};
use std::sync::Arc;

macro_rules! part {
    ($name:literal, $usage:literal, $meaning:literal, $unit:ident) => {
        Function::new($name, $usage, $meaning, &[Temporal], Returns::Long, |call| part(call, 0, Unit::$unit))
    };
}

/// The functions of this family.
pub(super) const FUNCTIONS: &[Function] = &[
    part!("year", "YEAR(date)", "the year", Year),
    part!("quarter", "QUARTER(date)", "the quarter of the year, 1 to 4", Quarter),
    part!("month", "MONTH(date)", "the month of the year, 1 to 12", Month),
    part!("week", "WEEK(date)", "the ISO week of the year, 1 to 53", Week),
    part!("dayofyear", "DAYOFYEAR(date)", "the day of the year, 1 to 366", DayOfYear),
    part!("dayofmonth", "DAYOFMONTH(date)", "the day of the month, 1 to 31", Day),
    part!("dayofweek", "DAYOFWEEK(date)", "the day of the week, 1 for Sunday to 7", DayOfWeek),
    part!("hour", "HOUR(timestamp)", "the hour of the day, 0 to 23", Hour),
    part!("minute", "MINUTE(timestamp)", "the minute of the hour, 0 to 59", Minute),
    part!("second", "SECOND(timestamp)", "the second of the minute, 0 to 59", Second),
    Function::new(
        "extract",
        "EXTRACT(unit FROM timestamp)",
        "the named part of a timestamp, date or time",
        &[Text, Temporal],
        Returns::Long,
        |call| part(call, 1, unit(call)?),
    ),
    Function::new(
        "floor_to",
        "FLOOR(timestamp TO unit)",
        "rounded down to the beginning of a unit",
        &[Text, Temporal],
        Returns::By(second_type),
        |call| round_to(call, Unit::floor),
    ),
    Function::new(
        "ceil_to",
        "CEIL(timestamp TO unit)",
        "rounded up to the beginning of a unit",
        &[Text, Temporal],
        Returns::By(second_type),
        |call| round_to(call, Unit::ceil),
    ),
    Function::new(
        "date_format",
        "DATE_FORMAT(timestamp, pattern)",
        "as text in a pattern of Java's letters, such as 'yyyy-MM-dd HH:mm'",
        &[Moment, Text],
        Returns::Text,
        date_format,
    ),
    Function::new(
        "timestampadd",
        "TIMESTAMPADD(unit, count, timestamp)",
        "so many units later",
        &[Text, Integer, Moment],
        Returns::By(added_type),
        timestamp_add,
    ),
    Function::new(
        "timestampdiff",
        "TIMESTAMPDIFF(unit, from, to)",
        "whole units from one moment to another, negative when it is earlier",
        &[Text, Moment, Moment],
        Returns::Int,
        timestamp_diff,
    ),
    Function::new(
        "from_unixtime",
        "FROM_UNIXTIME(seconds [, pattern])",
        "seconds since 1970 as text, 'yyyy-MM-dd HH:mm:ss' unless said otherwise",
        &[Integer, Text],
        Returns::Text,
        from_unixtime,
    )
    .optional(1),
    Function::new(
        "to_date",
        "TO_DATE(text [, pattern])",
        "a date out of text, NULL when it is none",
        &[Text, Text],
        Returns::Date,
        to_date,
    )
    .optional(1),
    Function::new(
        "to_timestamp",
        "TO_TIMESTAMP(text [, pattern])",
        "a TIMESTAMP(3) out of text, NULL when it is none",
        &[Text, Text],
        Returns::Timestamp,
        to_timestamp,
    )
    .optional(1),
    Function::new(
        "to_timestamp_ltz",
        "TO_TIMESTAMP_LTZ(number, precision)",
        "a TIMESTAMP_LTZ(3) out of seconds (precision 0) or milliseconds (precision 3) since 1970",
        &[Number, Integer],
        Returns::TimestampLtz,
        to_timestamp_ltz,
    ),
    Function::new(
        "convert_tz",
        "CONVERT_TZ(text, from_zone, to_zone)",
        "a timestamp in text moved from one time zone to another",
        &[Text, Text, Text],
        Returns::Text,
        convert_tz,
    ),
    Function::new(
        "plus_interval",
        "timestamp + INTERVAL 'n' unit",
        "later by an interval of days or shorter units, earlier with `-`",
        &[Temporal, Integer],
        Returns::By(shifted_type),
        plus_interval,
    ),
    current::CURRENT_TIMESTAMP,
    current::LOCAL_TIMESTAMP,
    current::CURRENT_DATE,
    current::CURRENT_TIME,
    current::UNIX_TIMESTAMP,
];

/// A function of this family.
pub(super) fn udf(name: &str) -> Arc<ScalarUDF> {
    super::udf_in(FUNCTIONS, name)
}

/// A DATE stays one if whole days are added.
fn shifted_type(types: &[DataType], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    let whole_days = !matches!(literals.get(1), Some(Some(ScalarValue::Int64(Some(micros)))) if micros % DAY != 0);
    Ok(match &types[0] {
        DataType::Date32 if whole_days => DataType::Date32,
        DataType::Date32 | DataType::Utf8View => typing::TIMESTAMP_3,
        other => other.clone(),
    })
}

fn plus_interval(call: &Call<'_>) -> Result<ArrayRef> {
    let (moments, micros) = (call.moments(0)?, call.longs(1)?);
    if let (Moments::Millis(values), Some(micros)) = (&moments, micros.constant())
        && let Some(column) = values.column()
        && micros % 1000 == 0
    {
        let millis = micros / 1000;
        let shifted = column.unary::<_, TimestampMillisecondType>(|value| value.saturating_add(millis));
        let zone = if let DataType::Timestamp(_, zone) = call.returns { zone.clone() } else { None };
        return Ok(Arc::new(shifted.with_timezone_opt(zone)));
    }
    moments_array(call, |row| moments.get(row)?.checked_add(micros.get(row)?))
}

fn second_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(match types.get(1) {
        Some(DataType::Utf8View) | None => typing::TIMESTAMP_3,
        Some(other) => other.clone(),
    })
}

/// A DATE stays one unless a part of a day is added to it.
fn added_type(types: &[DataType], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    let unit = literals.first().copied().flatten().and_then(|unit| unit.try_as_str().flatten()).and_then(Unit::parse);
    let whole_days = match unit.and_then(Unit::length) {
        Some(Length::Months(_)) => true,
        Some(Length::Micros(length)) => length % DAY == 0,
        None => return plan_err!("TIMESTAMPADD: the first argument must be a unit: SECOND, MINUTE, HOUR, DAY, …"),
    };
    Ok(match &types[2] {
        DataType::Date32 if whole_days => DataType::Date32,
        DataType::Date32 | DataType::Utf8View => typing::TIMESTAMP_3,
        other => other.clone(),
    })
}

fn unit(call: &Call<'_>) -> Result<Unit> {
    match call.texts(0)?.constant() {
        Some(name) => match Unit::parse(name) {
            Some(unit) => Ok(unit),
            None => call.error(format!("{name:?} is no unit of time: use SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, …")),
        },
        None => call.error("the unit of time must be a name"),
    }
}

fn part(call: &Call<'_>, index: usize, unit: Unit) -> Result<ArrayRef> {
    let moments = call.moments(index)?;
    if let Moments::Millis(values) = &moments
        && let Some(column) = values.column()
    {
        return Ok(Arc::new(column.unary::<_, Int64Type>(|millis| unit.of(millis.saturating_mul(1000)))));
    }
    let parts = (0..call.rows).map(|row| moments.get(row).map(|micros| unit.of(micros)));
    Ok(Arc::new(parts.collect::<Int64Array>()))
}

fn round_to(call: &Call<'_>, round: fn(Unit, i64) -> Option<i64>) -> Result<ArrayRef> {
    let unit = unit(call)?;
    if round(unit, 0).is_none() {
        return call.error(format!("a timestamp cannot be rounded to {unit:?}"));
    }
    let moments = call.moments(1)?;
    moments_array(call, |row| moments.get(row).and_then(|micros| round(unit, micros)))
}

/// An array of the call's type, DATE, TIME or a timestamp, out of microseconds.
fn moments_array(call: &Call<'_>, value: impl Fn(usize) -> Option<i64>) -> Result<ArrayRef> {
    fn fill<T: ArrowPrimitiveType>(rows: usize, value: impl Fn(usize) -> Option<T::Native>) -> PrimitiveArray<T> {
        let mut builder = PrimitiveBuilder::<T>::with_capacity(rows);
        for row in 0..rows {
            builder.append_option(value(row));
        }
        builder.finish()
    }
    let rows = call.rows;
    Ok(match call.returns {
        DataType::Date32 => {
            Arc::new(fill::<Date32Type>(rows, |row| value(row).and_then(|v| i32::try_from(v.div_euclid(DAY)).ok())))
        }
        DataType::Time32(TimeUnit::Millisecond) => Arc::new(fill::<Time32MillisecondType>(rows, |row| {
            value(row).and_then(|v| i32::try_from(v.rem_euclid(DAY) / 1000).ok())
        })),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            Arc::new(fill::<TimestampMicrosecondType>(rows, value).with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(_, zone) => Arc::new(
            fill::<TimestampMillisecondType>(rows, |row| value(row).map(|v| v.div_euclid(1000)))
                .with_timezone_opt(zone.clone()),
        ),
        other => return call.error(format!("{other} is no type of time")),
    })
}

fn timestamp_add(call: &Call<'_>) -> Result<ArrayRef> {
    let unit = unit(call)?;
    let counts = call.longs(1)?;
    let moments = call.moments(2)?;
    moments_array(call, |row| {
        let (count, micros) = (counts.get(row)?, moments.get(row)?);
        match unit.length()? {
            Length::Micros(length) => count.checked_mul(length)?.checked_add(micros),
            Length::Months(months) => {
                let months = count.checked_mul(months).filter(|months| months.unsigned_abs() < 12 * 300_000)?;
                Some(calendar::plus_months(micros, months))
            }
        }
    })
}

fn timestamp_diff(call: &Call<'_>) -> Result<ArrayRef> {
    let unit = unit(call)?;
    let Some(length) = unit.length() else { return call.error(format!("{unit:?} is no length of time")) };
    let (from, to) = (call.moments(1)?, call.moments(2)?);
    let differences = (0..call.rows).map(|row| {
        let (from, to) = (from.get(row)?, to.get(row)?);
        let count = match length {
            Length::Micros(length) => to.saturating_sub(from) / length,
            Length::Months(months) => calendar::months_between(from, to) / months,
        };
        Some(count as i32)
    });
    Ok(Arc::new(differences.collect::<Int32Array>()))
}

fn to_timestamp_ltz(call: &Call<'_>) -> Result<ArrayRef> {
    let precisions = call.longs(1)?;
    for row in 0..call.rows.min(if precisions.constant().is_some() { 1 } else { usize::MAX }) {
        if let Some(precision) = precisions.get(row).filter(|precision| ![0, 3].contains(precision)) {
            return call.error(format!("the precision must be 0 (seconds) or 3 (milliseconds), not {precision}"));
        }
    }
    let to_micros = |row: usize| precisions.get(row).map(|precision| if precision == 0 { SECOND } else { 1000 });
    if call.data_type(0).is_integer() {
        let numbers = arrow::compute::cast(&call.array(0)?, &DataType::Int64)?;
        let numbers = arrow::array::AsArray::as_primitive::<Int64Type>(&numbers).clone();
        return moments_array(call, |row| {
            let unit = to_micros(row)?;
            (!numbers.is_null(row)).then(|| numbers.value(row)).and_then(|number| number.checked_mul(unit))
        });
    }
    let numbers = arrow::compute::cast(&call.array(0)?, &DataType::Float64)?;
    let numbers = arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(&numbers).clone();
    moments_array(call, |row| {
        let unit = to_micros(row)?;
        // Below a millisecond nothing counts: the result has three digits.
        (!numbers.is_null(row))
            .then(|| (numbers.value(row) * (unit / 1000) as f64) as i64)
            .and_then(|v| v.checked_mul(1000))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[test]
    fn functions_of_time_give_what_flink_gives() {
        check(
            "YEAR(DATE '1994-09-27') -> BIGINT 1994
             QUARTER(DATE '1994-09-27') -> BIGINT 3
             MONTH(DATE '1994-09-27') -> BIGINT 9
             WEEK(DATE '1994-09-27') -> BIGINT 39
             WEEK(DATE '2021-01-01') -> BIGINT 53
             DAYOFYEAR(DATE '1994-09-27') -> BIGINT 270
             DAYOFYEAR(DATE '2020-12-31') -> BIGINT 366
             DAYOFMONTH(DATE '1994-09-27') -> BIGINT 27
             DAYOFWEEK(DATE '1994-09-27') -> BIGINT 3
             HOUR(TIMESTAMP '1994-09-27 13:14:15') -> BIGINT 13
             HOUR(TIMESTAMP '1969-12-31 23:59:59') -> BIGINT 23
             MINUTE(TIMESTAMP '1994-09-27 13:14:15') -> BIGINT 14
             SECOND(TIMESTAMP '1994-09-27 13:14:15') -> BIGINT 15
             EXTRACT(DAY FROM DATE '2006-06-05') -> BIGINT 5
             EXTRACT(DOW FROM DATE '2006-06-05') -> BIGINT 2
             EXTRACT(CENTURY FROM DATE '2000-06-05') -> BIGINT 20
             EXTRACT(EPOCH FROM TIMESTAMP '1970-01-02 00:00:01') -> BIGINT 86401
             FLOOR(TIMESTAMP '2018-03-20 06:44:31' TO MINUTE) -> TIMESTAMP(3) 2018-03-20 06:44:00
             FLOOR(TIMESTAMP '2018-03-20 06:44:31' TO MONTH) -> TIMESTAMP(3) 2018-03-01 00:00:00
             CEIL(TIMESTAMP '2018-03-20 06:44:31' TO YEAR) -> TIMESTAMP(3) 2019-01-01 00:00:00
             CEIL(DATE '2018-01-31' TO MONTH) -> DATE 2018-02-01
             FLOOR(DATE '2018-08-16' TO QUARTER) -> DATE 2018-07-01
             DATE_FORMAT(TIMESTAMP '2020-02-29 13:04:05.678', 'yyyy-MM-dd HH:mm:ss.SSS') -> STRING 2020-02-29 13:04:05.678
             DATE_FORMAT(TIMESTAMP '2020-02-29 13:04:05', 'yyyy-MM-dd') -> STRING 2020-02-29
             DATE_FORMAT(TIMESTAMP '2020-02-29 00:04:05', 'hh:mm a, EEE d MMM yy') -> STRING 12:04 AM, Sat 29 Feb 20
             DATE_FORMAT(TIMESTAMP '2020-02-29 13:04:05', 'EEEE ''the'' D, HH''h''') -> STRING Saturday the 60, 13h
             DATE_FORMAT('2020-02-29 13:04:05', 'HH:mm') -> STRING 13:04
             DATE_FORMAT('nonsense', 'HH:mm') -> STRING NULL
             DATE_FORMAT(DATE '1969-07-20', 'yyyy/MM/dd') -> STRING 1969/07/20
             DATE_FORMAT(TIMESTAMP '2020-02-29 13:04:05', 'zzz') -> error not supported
             TIMESTAMPADD(WEEK, 1, DATE '2003-01-02') -> DATE 2003-01-09
             TIMESTAMPADD(MONTH, 1, TIMESTAMP '2020-01-31 10:00:00') -> TIMESTAMP(3) 2020-02-29 10:00:00
             TIMESTAMPADD(HOUR, -1, DATE '2003-01-02') -> TIMESTAMP(3) 2003-01-01 23:00:00
             TIMESTAMPDIFF(DAY, TIMESTAMP '2003-01-02 10:00:00', TIMESTAMP '2003-01-03 10:00:00') -> INT 1
             TIMESTAMPDIFF(MONTH, DATE '2020-01-31', DATE '2020-02-29') -> INT 1
             TIMESTAMPDIFF(MONTH, TIMESTAMP '2020-02-15 00:00:00', TIMESTAMP '2020-01-16 00:00:00') -> INT 0
             TIMESTAMPDIFF(MINUTE, TIMESTAMP '2020-02-15 00:01:00', TIMESTAMP '2020-02-15 00:00:01') -> INT 0
             TIMESTAMPDIFF(FORTNIGHT, DATE '2020-01-31', DATE '2020-02-29') -> error no unit of time
             FROM_UNIXTIME(44) -> STRING 1970-01-01 00:00:44
             FROM_UNIXTIME(44, 'ss mm') -> STRING 44 00
             UNIX_TIMESTAMP('1970-01-01 08:00:01.001', 'yyyy-MM-dd HH:mm:ss.SSS') -> BIGINT 28801
             UNIX_TIMESTAMP('nonsense') -> BIGINT -9223372036854775808
             TO_DATE('2020-02-30') -> DATE NULL
             TO_DATE('29.02.2020', 'dd.MM.yyyy') -> DATE 2020-02-29
             TO_TIMESTAMP('2020-02-29 01:02:03') -> TIMESTAMP(3) 2020-02-29 01:02:03
             TO_TIMESTAMP('2020-2-9 1:02:03.5') -> TIMESTAMP(3) 2020-02-09 01:02:03.500
             TO_TIMESTAMP('2020-02-29T01:02:03', 'yyyy-MM-dd''T''HH:mm:ss') -> TIMESTAMP(3) 2020-02-29 01:02:03
             TO_TIMESTAMP('nonsense') -> TIMESTAMP(3) NULL
             TO_TIMESTAMP_LTZ(100, 0) -> TIMESTAMP_LTZ(3) 1970-01-01 00:01:40
             TO_TIMESTAMP_LTZ(-100, 3) -> TIMESTAMP_LTZ(3) 1969-12-31 23:59:59.900
             TO_TIMESTAMP_LTZ(100.01, 0) -> TIMESTAMP_LTZ(3) 1970-01-01 00:01:40.010
             TO_TIMESTAMP_LTZ(100, 1) -> error precision must be 0
             CONVERT_TZ('1970-01-01 00:00:00', 'UTC', 'America/Los_Angeles') -> STRING 1969-12-31 16:00:00
             CONVERT_TZ('2020-07-01 00:00:00', 'Europe/Berlin', 'GMT-08:00') -> STRING 2020-06-30 14:00:00
             CONVERT_TZ('2020-07-01 00:00:00', 'Mars', 'UTC') -> STRING NULL
             YEAR(CURRENT_TIMESTAMP) >= 2025 -> BOOLEAN true
             YEAR(NOW()) = YEAR(LOCALTIMESTAMP) -> BOOLEAN true
             YEAR(CURRENT_DATE) = YEAR(CURRENT_ROW_TIMESTAMP()) -> BOOLEAN true
             TYPEOF(LOCALTIME) -> STRING TIME(0)
             UNIX_TIMESTAMP() > 1700000000 -> BOOLEAN true",
        );
    }
}
