//! Functions of text. Positions and lengths count characters, from 1.

mod building;
mod parts;

use super::arguments::Call;
use super::definition::Function;
use super::definition::Kind::{Integer, Text};
use super::definition::Returns;
use arrow::array::BooleanArray;
use arrow::array::{ArrayRef, Int32Array, Int64Array};
use building::{change_case, chr, concat, concat_ws, initcap, overlay, pad, repeat, replace, translate, write_each};
use datafusion_common::Result;
use datafusion_expr::ScalarUDF;
use parts::{ends, split_index, substring, trim};
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
