//! New text out of text.

use super::super::arguments::Call;
use super::super::text::TextColumn;
use super::{count_chars, offset_of};
use arrow::array::ArrayRef;
use datafusion_common::Result;

pub(super) fn write_each(call: &Call<'_>, write: impl Fn(&str, &mut String)) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        match texts.get(row) {
            Some(text) => column.write(|out| write(text, out)),
            None => column.push_null(),
        }
    }
    Ok(column.finish())
}

pub(super) fn change_case(
    call: &Call<'_>,
    ascii: impl Fn(&u8) -> u8,
    other: impl Fn(&str, &mut String),
) -> Result<ArrayRef> {
    let changed = |text: &str| text.bytes().any(|byte| ascii(&byte) != byte);
    let texts = call.texts(0)?;
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        match texts.get(row) {
            None => column.push_null(),
            Some(text) if !text.is_ascii() => column.write(|out| other(text, out)),
            Some(text) if text.len() > 12 || changed(text) => {
                column.write(|out| out.extend(text.bytes().map(|byte| char::from(ascii(&byte)))));
            }
            same => column.push(same),
        }
    }
    Ok(column.finish())
}

pub(super) fn initcap(text: &str, out: &mut String) {
    let mut in_word = false;
    for letter in text.chars() {
        if !letter.is_alphanumeric() {
            out.push(letter);
            in_word = false;
        } else if in_word {
            out.extend(letter.to_lowercase());
        } else {
            out.extend(letter.to_uppercase());
            in_word = true;
        }
    }
}

pub(super) fn concat(call: &Call<'_>) -> Result<ArrayRef> {
    let parts = call.texts_from(0)?;
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        if parts.iter().any(|part| part.get(row).is_none()) {
            column.push_null();
            continue;
        }
        column.write(|out| parts.iter().filter_map(|part| part.get(row)).for_each(|part| out.push_str(part)));
    }
    Ok(column.finish())
}

pub(super) fn concat_ws(call: &Call<'_>) -> Result<ArrayRef> {
    let separators = call.texts(0)?;
    let parts = call.texts_from(1)?;
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        let Some(separator) = separators.get(row) else {
            column.push_null();
            continue;
        };
        column.write(|out| {
            for (index, part) in parts.iter().filter_map(|part| part.get(row)).enumerate() {
                if index > 0 {
                    out.push_str(separator);
                }
                out.push_str(part);
            }
        });
    }
    Ok(column.finish())
}

/// The longest text in bytes that a function makes out of a number.
pub(super) const LONGEST: usize = 1 << 28;

pub(super) fn repeat(call: &Call<'_>) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let counts = call.longs(1)?;
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        let Some((text, count)) = texts.get(row).zip(counts.get(row)) else {
            column.push_null();
            continue;
        };
        let count = usize::try_from(count).unwrap_or(0);
        if text.len().checked_mul(count).is_none_or(|length| length > LONGEST) {
            return call.error(format!("{} bytes {count} times are more than a text holds", text.len()));
        }
        column.write(|out| (0..if text.is_empty() { 0 } else { count }).for_each(|_| out.push_str(text)));
    }
    Ok(column.finish())
}

pub(super) fn replace(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, parts, replacements) = (call.texts(0)?, call.texts(1)?, call.texts(2)?);
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        let (Some(text), Some(part), Some(replacement)) = (texts.get(row), parts.get(row), replacements.get(row))
        else {
            column.push_null();
            continue;
        };
        column.write(|out| {
            let mut end = 0;
            for (start, found) in text.match_indices(part) {
                out.push_str(&text[end..start]);
                out.push_str(replacement);
                end = start + found.len();
            }
            out.push_str(&text[end..]);
        });
    }
    Ok(column.finish())
}

pub(super) fn translate(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, from, to) = (call.texts(0)?, call.texts(1)?, call.texts(2)?);
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        let (Some(text), Some(from), Some(to)) = (texts.get(row), from.get(row), to.get(row)) else {
            column.push_null();
            continue;
        };
        column.write(|out| {
            out.extend(text.chars().filter_map(|letter| match from.chars().position(|known| known == letter) {
                Some(place) => to.chars().nth(place),
                None => Some(letter),
            }));
        });
    }
    Ok(column.finish())
}

pub(super) fn overlay(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, parts, starts) = (call.texts(0)?, call.texts(1)?, call.longs(2)?);
    let lengths = if call.count() > 3 { Some(call.longs(3)?) } else { None };
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        let (Some(text), Some(part), Some(start)) = (texts.get(row), parts.get(row), starts.get(row)) else {
            column.push_null();
            continue;
        };
        let length = match &lengths {
            Some(lengths) => lengths.get(row),
            None => Some(i64::from(count_chars(part))),
        };
        match length {
            Some(length) => column.write(|out| write_overlay(text, part, start, length, out)),
            None => column.push_null(),
        }
    }
    Ok(column.finish())
}

/// As in Flink, nothing is left of the text after the part when the part reaches its last character or the length is
/// not positive.
pub(super) fn write_overlay(text: &str, part: &str, start: i64, length: i64, out: &mut String) {
    let count = i64::from(count_chars(text));
    if start <= 0 || start > count {
        out.push_str(text);
        return;
    }
    let at = |characters: i64| offset_of(text, usize::try_from(characters).unwrap_or(usize::MAX));
    out.push_str(&text[..at(start - 1)]);
    out.push_str(part);
    if length > 0 && start.saturating_add(length) <= count {
        out.push_str(&text[at(start - 1 + length)..]);
    }
}

pub(super) fn pad(call: &Call<'_>, left: bool) -> Result<ArrayRef> {
    let (texts, lengths, fillings) = (call.texts(0)?, call.longs(1)?, call.texts(2)?);
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        let (Some(text), Some(length), Some(filling)) = (texts.get(row), lengths.get(row), fillings.get(row)) else {
            column.push_null();
            continue;
        };
        let Some(length) = usize::try_from(length).ok().filter(|_| !filling.is_empty()) else {
            column.push_null();
            continue;
        };
        if length > LONGEST / 4 {
            return call.error(format!("{length} characters are more than a text holds"));
        }
        let kept = &text[..offset_of(text, length)];
        let missing = length - count_chars(kept) as usize;
        let filling = || filling.chars().cycle().take(missing);
        column.write(|out| {
            if left {
                out.extend(filling());
            }
            out.push_str(kept);
            if !left {
                out.extend(filling());
            }
        });
    }
    Ok(column.finish())
}

pub(super) fn chr(call: &Call<'_>) -> Result<ArrayRef> {
    let codes = call.longs(0)?;
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        match codes.get(row) {
            Some(code) if code < 0 => column.push(Some("")),
            Some(code) => {
                let byte = u8::try_from(code & 0xFF).expect("eight bits are a byte");
                column.push(Some(char::from(byte).encode_utf8(&mut [0; 4])));
            }
            None => column.push_null(),
        }
    }
    Ok(column.finish())
}
