//! Times as text in a pattern, and out of it.

use super::super::arguments::{Call, Texts};
use super::super::text::TextColumn;
use super::calendar::{DAY, SECOND};
use super::pattern::Pattern;
use super::{current, moments_array, reading};
use arrow::array::ArrayRef;
use datafusion_common::Result;

pub(super) const ISO_SECONDS: &str = "yyyy-MM-dd HH:mm:ss";

/// A pattern that is parsed again only when it changes.
pub(super) struct Patterns<'a> {
    texts: Texts<'a>,
    parsed: Option<(&'a str, Pattern)>,
}

impl<'a> Patterns<'a> {
    fn new(call: &Call<'a>, index: usize, default: &'static str) -> Result<Self> {
        let texts = if index < call.count() { call.texts(index)? } else { Texts::Constant(Some(default)) };
        Ok(Self { texts, parsed: None })
    }

    /// The pattern of a row, and whether it is another than that of the row before.
    fn get(&mut self, call: &Call<'_>, row: usize) -> Result<Option<(&Pattern, bool)>> {
        let Some(text) = self.texts.get(row) else { return Ok(None) };
        let changed = self.parsed.as_ref().is_none_or(|(known, _)| *known != text);
        if changed {
            let pattern = Pattern::parse(text).map_err(|message| call.mistake(message))?;
            self.parsed = Some((text, pattern));
        }
        Ok(self.parsed.as_ref().map(|(_, pattern)| (pattern, changed)))
    }
}

pub(super) fn date_format(call: &Call<'_>) -> Result<ArrayRef> {
    let moments = call.moments(0)?;
    let patterns = Patterns::new(call, 1, ISO_SECONDS)?;
    format_moments(call, patterns, |row| moments.get(row))
}

pub(super) fn from_unixtime(call: &Call<'_>) -> Result<ArrayRef> {
    let seconds = call.longs(0)?;
    let patterns = Patterns::new(call, 1, ISO_SECONDS)?;
    format_moments(call, patterns, |row| seconds.get(row).map(|seconds| seconds.saturating_mul(SECOND)))
}

/// Moments as text. Rows near each other in time have the same text: it is made once and shared.
pub(super) fn format_moments(
    call: &Call<'_>,
    mut patterns: Patterns<'_>,
    moment: impl Fn(usize) -> Option<i64>,
) -> Result<ArrayRef> {
    let mut column = TextColumn::new(call.rows);
    let mut same = 0..0;
    let mut same_row = 0;
    for row in 0..call.rows {
        let (Some(micros), Some((pattern, changed))) = (moment(row), patterns.get(call, row)?) else {
            column.push_null();
            continue;
        };
        if !changed && same.contains(&micros) {
            column.repeat(same_row);
            continue;
        }
        same_row = column.len();
        column.write(|out| pattern.write(micros, out));
        let granularity = pattern.granularity();
        let start = micros.saturating_sub(micros.rem_euclid(granularity));
        same = start..start.saturating_add(granularity);
    }
    Ok(column.finish())
}

pub(super) fn to_date(call: &Call<'_>) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    if call.count() == 1 {
        return moments_array(call, |row| Some(i64::from(reading::read_date(texts.get(row)?)?) * DAY));
    }
    read_with_pattern(call)
}

pub(super) fn to_timestamp(call: &Call<'_>) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    if call.count() == 1 {
        return moments_array(call, |row| reading::read_timestamp(texts.get(row)?));
    }
    read_with_pattern(call)
}

pub(super) fn read_with_pattern(call: &Call<'_>) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let mut patterns = Patterns::new(call, 1, ISO_SECONDS)?;
    let mut values = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let pattern = patterns.get(call, row)?;
        values.push(pattern.zip(texts.get(row)).and_then(|((pattern, _), text)| pattern.read(text, false)));
    }
    moments_array(call, |row| values[row])
}

pub(super) fn convert_tz(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, from, to) = (call.texts(0)?, call.texts(1)?, call.texts(2)?);
    let pattern = Pattern::parse(ISO_SECONDS).map_err(|message| call.mistake(message))?;
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        let moved = texts
            .get(row)
            .zip(from.get(row))
            .zip(to.get(row))
            .and_then(|((text, from), to)| current::move_zone(pattern.read(text.trim(), false)?, from, to));
        match moved {
            Some(micros) => column.write(|out| pattern.write(micros, out)),
            None => column.push_null(),
        }
    }
    Ok(column.finish())
}
