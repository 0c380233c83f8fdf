//! Functions of text. Positions and lengths count characters, from 1.

use super::arguments::{Call, Texts};
use super::definition::Function;
use super::definition::Kind::{Integer, Text};
use super::definition::Returns;
use super::text::{PartColumn, TextColumn};
use arrow::array::BooleanArray;
use arrow::array::{ArrayRef, Int32Array, Int64Array};
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;
use std::sync::Arc;

/// The functions of this family.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "char_length",
        "CHAR_LENGTH(text), CHARACTER_LENGTH(text)",
        "how many characters it has",
        &[Text],
        Returns::Int,
        |call| ints(call, |text| Some(count_chars(text))),
    )
    .aliases(&["character_length"]),
    Function::new("upper", "UPPER(text)", "in upper case", &[Text], Returns::Text, |call| {
        change_case(call, u8::to_ascii_uppercase, |text, out| out.extend(text.chars().flat_map(char::to_uppercase)))
    })
    .aliases(&["ucase"]),
    Function::new("lower", "LOWER(text)", "in lower case", &[Text], Returns::Text, |call| {
        change_case(call, u8::to_ascii_lowercase, |text, out| out.push_str(&text.to_lowercase()))
    })
    .aliases(&["lcase"]),
    Function::new(
        "initcap",
        "INITCAP(text)",
        "each word with a capital first and small letters after it",
        &[Text],
        Returns::Text,
        |call| write_each(call, initcap),
    ),
    Function::new("reverse", "REVERSE(text)", "its characters from last to first", &[Text], Returns::Text, |call| {
        write_each(call, |text, out| out.extend(text.chars().rev()))
    }),
    Function::new("concat", "CONCAT(text, …)", "one after the other; NULL if any is", &[Text], Returns::Text, concat)
        .repeats(),
    Function::new(
        "concat_ws",
        "CONCAT_WS(separator, text, …)",
        "one after the other with a separator between; NULLs are left out",
        &[Text, Text],
        Returns::Text,
        concat_ws,
    )
    .optional(1)
    .repeats(),
    Function::new(
        "substring",
        "SUBSTRING(text FROM start [FOR length]), SUBSTR(text, start [, length])",
        "a part of it; a negative start counts from the end",
        &[Text, Integer, Integer],
        Returns::Text,
        substring,
    )
    .optional(1)
    .aliases(&["substr"]),
    Function::new("left", "LEFT(text, count)", "its first characters", &[Text, Integer], Returns::Text, |call| {
        ends(call, |text, count| &text[..offset_of(text, count)])
    }),
    Function::new("right", "RIGHT(text, count)", "its last characters", &[Text, Integer], Returns::Text, |call| {
        ends(call, |text, count| {
            &text[offset_of(text, count_chars(text) as usize - count.min(count_chars(text) as usize))..]
        })
    }),
    Function::new(
        "btrim",
        "TRIM([BOTH | LEADING | TRAILING] [characters FROM] text), BTRIM(text [, characters])",
        "without the given characters, blanks unless said otherwise, at both ends",
        &[Text, Text],
        Returns::Text,
        |call| trim(call, true, true),
    )
    .optional(1)
    .aliases(&["trim"]),
    Function::new(
        "ltrim",
        "LTRIM(text [, characters])",
        "without the given characters, blanks unless said otherwise, on the left",
        &[Text, Text],
        Returns::Text,
        |call| trim(call, true, false),
    )
    .optional(1),
    Function::new(
        "rtrim",
        "RTRIM(text [, characters])",
        "without the given characters, blanks unless said otherwise, on the right",
        &[Text, Text],
        Returns::Text,
        |call| trim(call, false, true),
    )
    .optional(1),
    Function::new("repeat", "REPEAT(text, count)", "so many times", &[Text, Integer], Returns::Text, repeat),
    Function::new(
        "replace",
        "REPLACE(text, part, replacement)",
        "with every occurrence of a part replaced",
        &[Text, Text, Text],
        Returns::Text,
        replace,
    ),
    Function::new(
        "translate",
        "TRANSLATE(text, from, to)",
        "with each character of `from` replaced by the one at the same place of `to`, or left out",
        &[Text, Text, Text],
        Returns::Text,
        translate,
    ),
    Function::new(
        "overlay",
        "OVERLAY(text PLACING part FROM start [FOR length])",
        "with a part put over its characters from `start` on",
        &[Text, Text, Integer, Integer],
        Returns::Text,
        overlay,
    )
    .optional(1),
    Function::new(
        "lpad",
        "LPAD(text, length, filling)",
        "filled up on the left, or cut, to a length; NULL for a negative one",
        &[Text, Integer, Text],
        Returns::Text,
        |call| pad(call, true),
    ),
    Function::new(
        "rpad",
        "RPAD(text, length, filling)",
        "filled up on the right, or cut, to a length; NULL for a negative one",
        &[Text, Integer, Text],
        Returns::Text,
        |call| pad(call, false),
    ),
    Function::new(
        "locate",
        "LOCATE(part, text [, from]), POSITION(part IN text)",
        "where a part begins, 0 if it does not occur",
        &[Text, Text, Integer],
        Returns::Int,
        |call| locate(call, 0, 1),
    )
    .optional(1)
    .aliases(&["position"]),
    Function::new(
        "instr",
        "INSTR(text, part)",
        "where a part begins, 0 if it does not occur",
        &[Text, Text],
        Returns::Int,
        |call| locate(call, 1, 0),
    ),
    Function::new(
        "ascii",
        "ASCII(text)",
        "the code of its first character, 0 for an empty text",
        &[Text],
        Returns::Int,
        |call| ints(call, |text| Some(text.bytes().next().map_or(0, |byte| i32::from(byte as i8)))),
    ),
    Function::new("chr", "CHR(code)", "the character with a code, modulo 256", &[Integer], Returns::Text, chr),
    Function::new(
        "split_index",
        "SPLIT_INDEX(text, separator, index)",
        "the part with an index, counted from 0, between separators; NULL if there is none",
        &[Text, Text, Integer],
        Returns::Text,
        split_index,
    ),
    Function::new(
        "startswith",
        "STARTSWITH(text, part)",
        "whether it begins with a part",
        &[Text, Text],
        Returns::Truth,
        |call| test(call, |text, part| text.starts_with(part)),
    ),
    Function::new(
        "endswith",
        "ENDSWITH(text, part)",
        "whether it ends with a part",
        &[Text, Text],
        Returns::Truth,
        |call| test(call, |text, part| text.ends_with(part)),
    ),
    Function::new(
        "count_char",
        "COUNT_CHAR(text, character)",
        "how often a character occurs (a function of the Nexmark benchmark)",
        &[Text, Text],
        Returns::Long,
        count_char,
    ),
];

/// A function of this family.
pub(super) fn udf(name: &str) -> Arc<ScalarUDF> {
    super::udf_in(FUNCTIONS, name)
}

fn count_chars(text: &str) -> i32 {
    let count = if text.is_ascii() { text.len() } else { text.chars().count() };
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The byte at which the character after `count` others begins, or the end.
fn offset_of(text: &str, count: usize) -> usize {
    if text.is_ascii() {
        return count.min(text.len());
    }
    text.char_indices().nth(count).map_or(text.len(), |(offset, _)| offset)
}

fn ints(call: &Call<'_>, of: impl Fn(&str) -> Option<i32>) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    Ok(Arc::new((0..call.rows).map(|row| texts.get(row).and_then(&of)).collect::<Int32Array>()))
}

fn test(call: &Call<'_>, of: impl Fn(&str, &str) -> bool) -> Result<ArrayRef> {
    let (left, right) = (call.texts(0)?, call.texts(1)?);
    let truths = (0..call.rows).map(|row| Some(of(left.get(row)?, right.get(row)?)));
    Ok(Arc::new(truths.collect::<BooleanArray>()))
}

fn write_each(call: &Call<'_>, write: impl Fn(&str, &mut String)) -> Result<ArrayRef> {
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

fn change_case(call: &Call<'_>, ascii: impl Fn(&u8) -> u8, other: impl Fn(&str, &mut String)) -> Result<ArrayRef> {
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

fn initcap(text: &str, out: &mut String) {
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

fn concat(call: &Call<'_>) -> Result<ArrayRef> {
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

fn concat_ws(call: &Call<'_>) -> Result<ArrayRef> {
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

fn substring(call: &Call<'_>) -> Result<ArrayRef> {
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
fn part_of(text: &str, start: i64, length: i64) -> Option<&str> {
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

fn ends(call: &Call<'_>, part: impl for<'t> Fn(&'t str, usize) -> &'t str) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let counts = call.longs(1)?;
    let mut column = PartColumn::new(texts, call.rows);
    for row in 0..call.rows {
        let found = texts.get(row).zip(counts.get(row));
        column.push(row, found.map(|(text, count)| part(text, usize::try_from(count).unwrap_or(0))));
    }
    Ok(column.finish())
}

fn trim(call: &Call<'_>, left: bool, right: bool) -> Result<ArrayRef> {
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

/// The longest text in bytes that a function makes out of a number.
const LONGEST: usize = 1 << 28;

fn repeat(call: &Call<'_>) -> Result<ArrayRef> {
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

fn replace(call: &Call<'_>) -> Result<ArrayRef> {
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

fn translate(call: &Call<'_>) -> Result<ArrayRef> {
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

fn overlay(call: &Call<'_>) -> Result<ArrayRef> {
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
fn write_overlay(text: &str, part: &str, start: i64, length: i64, out: &mut String) {
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

fn pad(call: &Call<'_>, left: bool) -> Result<ArrayRef> {
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

fn locate(call: &Call<'_>, part: usize, whole: usize) -> Result<ArrayRef> {
    let (parts, texts) = (call.texts(part)?, call.texts(whole)?);
    let starts = if call.count() > 2 { Some(call.longs(2)?) } else { None };
    let places = (0..call.rows).map(|row| {
        let (part, text) = (parts.get(row)?, texts.get(row)?);
        let start = match &starts {
            Some(starts) => starts.get(row)?,
            None => 1,
        };
        let skipped = offset_of(text, usize::try_from(start.saturating_sub(1)).unwrap_or(0));
        Some(text[skipped..].find(part).map_or(0, |found| count_chars(&text[..skipped + found]) + 1))
    });
    Ok(Arc::new(places.collect::<Int32Array>()))
}

fn chr(call: &Call<'_>) -> Result<ArrayRef> {
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

fn split_index(call: &Call<'_>) -> Result<ArrayRef> {
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

fn nth_part(text: &str, separator: u8, index: usize) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut start = 0;
    for _ in 0..index {
        start += bytes[start..].iter().position(|byte| *byte == separator)? + 1;
    }
    let end = bytes[start..].iter().position(|byte| *byte == separator).map_or(text.len(), |length| start + length);
    Some(&text[start..end])
}

/// As in Flink an empty text has no parts, and an empty separator splits at blanks.
fn split_part<'t>(text: &'t str, separator: &str, index: i64) -> Option<&'t str> {
    let index = usize::try_from(index).ok()?;
    if text.is_empty() {
        return None;
    }
    if separator.is_empty() {
        return text.split(char::is_whitespace).nth(index);
    }
    text.split(separator).nth(index)
}

fn count_char(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, characters) = (call.texts(0)?, call.texts(1)?);
    let counts = (0..call.rows).map(|row| {
        let (text, character) = (texts.get(row)?, characters.get(row)?);
        let mut letters = character.chars();
        let count = match (letters.next(), letters.next()) {
            (None, _) => 0,
            (Some(letter), None) if letter.is_ascii() => {
                let wanted = letter as u8;
                text.bytes().map(|byte| i64::from(byte == wanted)).sum()
            }
            (Some(letter), _) => text.chars().map(|found| i64::from(found == letter)).sum(),
        };
        Some(count)
    });
    Ok(Arc::new(counts.collect::<Int64Array>()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[test]
    fn functions_of_text_give_what_flink_gives() {
        check(
            "CHAR_LENGTH('größe') -> INT 5
             CHARACTER_LENGTH('') -> INT 0
             UPPER('straße und so weiter') -> STRING STRASSE UND SO WEITER
             LOWER('APPLE') -> STRING apple
             LOWER('A LONGER TEXT THAN A VIEW HOLDS') -> STRING a longer text than a view holds
             INITCAP('ab-cd EF') -> STRING Ab-Cd Ef
             REVERSE('äbc') -> STRING cbä
             CONCAT('AA', 'BB', 'CC') -> STRING AABBCC
             CONCAT('AA', CAST(NULL AS VARCHAR)) -> STRING NULL
             CONCAT_WS('~', 'AA', CAST(NULL AS VARCHAR), 'BB', '', 'CC') -> STRING AA~BB~~CC
             SUBSTRING('hello world and more' FROM 7) -> STRING world and more
             SUBSTRING('hello world and more', 7, 5) -> STRING world
             SUBSTR('hello', -3, 2) -> STRING ll
             SUBSTR('hello', 0, 2) -> STRING he
             SUBSTR('hello', -9) -> STRING
             SUBSTR('hello', 9) -> STRING
             SUBSTR('hello', 2, -1) -> STRING NULL
             SUBSTR('Grüße', 3, 2) -> STRING üß
             LEFT('größe', 3) -> STRING grö
             LEFT('abc', -1) -> STRING
             RIGHT('größe', 3) -> STRING öße
             RIGHT('abc', 9) -> STRING abc
             TRIM('  a b  ') -> STRING a b
             TRIM(LEADING 'x' FROM 'xxaxx') -> STRING axx
             TRIM(TRAILING 'x' FROM 'xxaxx') -> STRING xxa
             TRIM(BOTH 'xy' FROM 'xyaxy') -> STRING a
             BTRIM(' a ') -> STRING a
             LTRIM(' a') -> STRING a
             RTRIM('abb', 'b') -> STRING a
             REPEAT('ab', 2) -> STRING abab
             REPEAT('ab', -2) -> STRING
             REPEAT('ab', 9000000000000000000) -> error more than a text holds
             REPLACE('hello world', 'world', 'flink') -> STRING hello flink
             REPLACE('ababab', 'abab', 'z') -> STRING zab
             TRANSLATE('www.apache.org', 'wapcheorg', ' APCHEcom') -> STRING    .APACHE.com
             OVERLAY('xxxxxtest' PLACING 'xxxx' FROM 6) -> STRING xxxxxxxxx
             OVERLAY('xxxxxtest' PLACING 'xxxx' FROM 6 FOR 2) -> STRING xxxxxxxxxst
             OVERLAY('abc' PLACING 'x' FROM 9) -> STRING abc
             LPAD('hi', 4, '??') -> STRING ??hi
             LPAD('hi', 1, '??') -> STRING h
             LPAD('hi', 5, 'ab') -> STRING abahi
             LPAD('hi', -1, '?') -> STRING NULL
             LPAD('hi', 3, '') -> STRING NULL
             RPAD('hi', 4, '??') -> STRING hi??
             LOCATE('b', 'abcb') -> INT 2
             LOCATE('b', 'abcb', 3) -> INT 4
             LOCATE('z', 'abc') -> INT 0
             POSITION('ß' IN 'größe') -> INT 4
             INSTR('corporate floor', 'or') -> INT 2
             ASCII('abc') -> INT 97
             ASCII('') -> INT 0
             CHR(97) -> STRING a
             CHR(353) -> STRING a
             CHR(-1) -> STRING
             SPLIT_INDEX('https://www.nexmark.com/abc_de/fg/item.htm?query=1', '/', 3) -> STRING abc_de
             SPLIT_INDEX('https://www.nexmark.com/abc_de/fg/item.htm?query=1', '/', 5) -> STRING item.htm?query=1
             SPLIT_INDEX('a,b', ',', 2) -> STRING NULL
             SPLIT_INDEX('a,b', ',', -1) -> STRING NULL
             SPLIT_INDEX('a--b--c', '--', 1) -> STRING b
             SPLIT_INDEX('', ',', 0) -> STRING NULL
             SPLIT_INDEX('a,', ',', 1) -> STRING
             STARTSWITH('abc', 'ab') -> BOOLEAN true
             ENDSWITH('abc', 'ab') -> BOOLEAN false
             COUNT_CHAR('banana', 'a') -> BIGINT 3
             UPPER(1) -> error UPPER does not take (",
        );
    }
}
