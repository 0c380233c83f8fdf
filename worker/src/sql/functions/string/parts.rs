//! Parts of text: they share its bytes.

use super::super::arguments::{Call, Texts};
use super::super::text::PartColumn;
use super::{count_chars, offset_of};
use arrow::array::ArrayRef;
use datafusion_common::Result;

pub(super) fn substring(call: &Call<'_>) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let starts = call.longs(1)?;
    let lengths = if call.count() > 2 { Some(call.longs(2)?) } else { None };
    let mut column = PartColumn::new(texts, call.rows);
    for row in 0..call.rows {
        let length = match &lengths {
            Some(lengths) => lengths.get(row),
            None => Some(i64::from(i32::MAX)),
        };
        let part = match (texts.get(row), starts.get(row), length) {
            (Some(text), Some(start), Some(length)) => part_of(text, start, length),
            _ => None,
        };
        column.push(row, part);
    }
    Ok(column.finish())
}

/// A start of 0 is the first character, as 1; a negative one counts from the end.
pub(super) fn part_of(text: &str, start: i64, length: i64) -> Option<&str> {
    let length = usize::try_from(length).ok()?;
    let skipped = match start {
        1.. => usize::try_from(start - 1).ok()?,
        0 => 0,
        _ => match i64::from(count_chars(text)).checked_add(start).map(usize::try_from) {
            Some(Ok(skipped)) => skipped,
            _ => return Some(&text[..0]),
        },
    };
    let rest = &text[offset_of(text, skipped)..];
    Some(&rest[..offset_of(rest, length)])
}

pub(super) fn ends(call: &Call<'_>, part: impl for<'t> Fn(&'t str, usize) -> &'t str) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let counts = call.longs(1)?;
    let mut column = PartColumn::new(texts, call.rows);
    for row in 0..call.rows {
        let found = texts.get(row).zip(counts.get(row));
        column.push(row, found.map(|(text, count)| part(text, usize::try_from(count).unwrap_or(0))));
    }
    Ok(column.finish())
}

pub(super) fn trim(call: &Call<'_>, left: bool, right: bool) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let characters = if call.count() > 1 { call.texts(1)? } else { Texts::Constant(Some(" ")) };
    let mut column = PartColumn::new(texts, call.rows);
    for row in 0..call.rows {
        let trimmed = texts.get(row).zip(characters.get(row)).map(|(text, characters)| {
            let goes = |letter: char| characters.contains(letter);
            let text = if left { text.trim_start_matches(goes) } else { text };
            if right { text.trim_end_matches(goes) } else { text }
        });
        column.push(row, trimmed);
    }
    Ok(column.finish())
}

pub(super) fn split_index(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, separators, indices) = (call.texts(0)?, call.texts(1)?, call.longs(2)?);
    let mut column = PartColumn::new(texts, call.rows);
    // A separator of one byte is sought without setting up a search.
    if let (Some([separator]), Some(index)) = (separators.constant().map(str::as_bytes), indices.constant())
        && separator.is_ascii()
        && let Ok(index) = usize::try_from(index)
    {
        for row in 0..call.rows {
            let part =
                texts.get(row).filter(|text| !text.is_empty()).and_then(|text| nth_part(text, *separator, index));
            column.push(row, part);
        }
        return Ok(column.finish());
    }
    for row in 0..call.rows {
        let part = match (texts.get(row), separators.get(row), indices.get(row)) {
            (Some(text), Some(separator), Some(index)) => split_part(text, separator, index),
            _ => None,
        };
        column.push(row, part);
    }
    Ok(column.finish())
}

/// Part `index` of `text` between separators. Addresses and paths have one every few bytes: eight bytes are looked at at
/// once, and a search is not set up anew after each separator.
#[inline]
pub(super) fn nth_part(text: &str, separator: u8, index: usize) -> Option<&str> {
    let (mut start, mut before) = (0, index);
    let (words, rest) = text.as_bytes().as_chunks::<WORD>();
    for (place, word) in words.iter().enumerate() {
        let mut found = lanes_equal(u64::from_le_bytes(*word), separator);
        while found != 0 {
            let end = place * WORD + found.trailing_zeros() as usize / 8;
            if before == 0 {
                return Some(&text[start..end]);
            }
            (start, before) = (end + 1, before - 1);
            found &= found - 1;
        }
    }
    for (place, byte) in rest.iter().enumerate() {
        if *byte == separator {
            let end = words.len() * WORD + place;
            if before == 0 {
                return Some(&text[start..end]);
            }
            (start, before) = (end + 1, before - 1);
        }
    }
    (before == 0).then(|| &text[start..])
}

const WORD: usize = size_of::<u64>();

/// The top bit of each byte of `word` that is `byte`; no other bit.
#[inline]
fn lanes_equal(word: u64, byte: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let differs = word ^ u64::from_le_bytes([byte; WORD]);
    !(((differs & LOW) + LOW) | differs | LOW)
}

/// As in Flink an empty text has no parts, and an empty separator splits at blanks.
pub(super) fn split_part<'t>(text: &'t str, separator: &str, index: i64) -> Option<&'t str> {
    let index = usize::try_from(index).ok()?;
    if text.is_empty() {
        return None;
    }
    if separator.is_empty() {
        return text.split(' ').nth(index);
    }
    text.split(separator).nth(index)
}
