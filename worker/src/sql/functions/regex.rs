//! Regular expressions in Java's syntax, matched by the `regex` crate in time linear in the text.
//!
//! Classes such as `\d` mean ASCII as in Java. What needs backtracking (look-around, back-references, possessive
//! quantifiers) does not exist here and is an error.

use super::arguments::{Call, Texts};
use super::definition::Function;
use super::definition::Kind::{Integer, Text};
use super::definition::Returns;
use super::text::{PartColumn, TextColumn};
use ::regex::{CaptureLocations, Regex};
use arrow::array::{ArrayRef, BooleanArray, Int32Array, ListBuilder, StringViewBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion_common::{DataFusionError, Result};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// The functions of this family.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "regexp",
        "REGEXP(text, pattern)",
        "whether any part of it matches",
        &[Text, Text],
        Returns::Truth,
        regexp,
    )
    .aliases(&["regexp_like"]),
    Function::new(
        "regexp_extract",
        "REGEXP_EXTRACT(text, pattern [, group])",
        "the first match, or a group of it counted from 1; NULL if there is none",
        &[Text, Text, Integer],
        Returns::Text,
        regexp_extract,
    )
    .optional(1),
    Function::new(
        "regexp_extract_all",
        "REGEXP_EXTRACT_ALL(text, pattern [, group])",
        "the first group of every match, or another group; group 0 is the match itself; NULL if there is no such group",
        &[Text, Text, Integer],
        Returns::By(|_, _| Ok(array_of_texts())),
        regexp_extract_all,
    )
    .optional(1),
    Function::new(
        "regexp_replace",
        "REGEXP_REPLACE(text, pattern, replacement)",
        "with every match replaced by a text, which is taken literally",
        &[Text, Text, Text],
        Returns::Text,
        regexp_replace,
    ),
    Function::new(
        "regexp_substr",
        "REGEXP_SUBSTR(text, pattern)",
        "the first match; NULL if there is none",
        &[Text, Text],
        Returns::Text,
        regexp_extract,
    ),
    Function::new(
        "regexp_count",
        "REGEXP_COUNT(text, pattern)",
        "how many matches there are",
        &[Text, Text],
        Returns::Int,
        |call| numbers(call, |pattern, text| pattern.regex.find_iter(text).count()),
    ),
    Function::new(
        "regexp_instr",
        "REGEXP_INSTR(text, pattern)",
        "where the first match begins, counted from 1; 0 if there is none",
        &[Text, Text],
        Returns::Int,
        |call| {
            numbers(call, |pattern, text| {
                pattern.regex.find(text).map_or(0, |found| text[..found.start()].chars().count() + 1)
            })
        },
    ),
    Function::new(
        "similar_to",
        "text [NOT] SIMILAR TO pattern",
        "whether all of it matches a pattern of SQL: % is any text, _ any character, | ( ) [ ] * + ? { } as usual",
        &[Text, Text],
        Returns::Truth,
        similar_to,
    ),
];

/// A compiled pattern with room for its groups.
struct Pattern {
    text: String,
    regex: Regex,
    groups: RefCell<CaptureLocations>,
}

/// Patterns that a thread keeps, newest last. A pattern warms up as it matches, so it must outlive a batch.
const KEPT: usize = 64;
/// Bytes that a compiled pattern may take.
const SIZE_LIMIT: usize = 4 << 20;

thread_local! {
    static PATTERNS: RefCell<Vec<Rc<Pattern>>> = const { RefCell::new(Vec::new()) };
}

impl Pattern {
    fn compiled(text: &str) -> Result<Rc<Self>> {
        PATTERNS.with_borrow_mut(|patterns| {
            if let Some(known) = patterns.iter().rev().find(|pattern| pattern.text == text) {
                return Ok(Rc::clone(known));
            }
            let pattern = Rc::new(Self::compile(text)?);
            if patterns.len() == KEPT {
                patterns.remove(0);
            }
            patterns.push(Rc::clone(&pattern));
            Ok(pattern)
        })
    }

    fn compile(text: &str) -> Result<Self> {
        let compiled = ::regex::RegexBuilder::new(&translate(text)).size_limit(SIZE_LIMIT).build();
        let regex = compiled.map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            DataFusionError::Execution(format!("the pattern '{text}' is not supported: {reason}"))
        })?;
        let groups = RefCell::new(regex.capture_locations());
        Ok(Self { text: text.to_owned(), regex, groups })
    }
}

/// Java's syntax where it differs: classes are ASCII, `\Q…\E` quotes, `\h` is horizontal space, `\Z` comes before
/// the end's line break.
fn translate(java: &str) -> String {
    let mut out = String::with_capacity(java.len() + 16);
    let mut depth = 0usize;
    let mut rest = java;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        match letter {
            '\\' if rest.starts_with('Q') => {
                let (quoted, after) = rest[1..].split_once("\\E").unwrap_or((&rest[1..], ""));
                out.push_str(&::regex::escape(quoted));
                rest = after;
            }
            '\\' => {
                let Some(class) = rest.chars().next() else {
                    out.push('\\');
                    break;
                };
                rest = &rest[class.len_utf8()..];
                escape(class, depth > 0, &mut out);
            }
            '[' => {
                depth += 1;
                out.push('[');
            }
            ']' => {
                depth = depth.saturating_sub(1);
                out.push(']');
            }
            other => out.push(other),
        }
    }
    out
}

fn escape(class: char, inside: bool, out: &mut String) {
    let members = match class.to_ascii_lowercase() {
        'd' => "0-9",
        'w' => "a-zA-Z0-9_",
        's' => " \\t\\n\\x0B\\f\\r",
        'h' => " \\t\\u{A0}\\u{1680}\\u{180E}\\u{2000}-\\u{200A}\\u{202F}\\u{205F}\\u{3000}",
        'b' if !inside => {
            out.push_str(if class == 'b' { "(?-u:\\b)" } else { "(?-u:\\B)" });
            return;
        }
        'z' if class == 'Z' => {
            out.push_str("(?:\\r?\\n)?\\z");
            return;
        }
        _ => {
            out.push('\\');
            out.push(class);
            return;
        }
    };
    match (class.is_ascii_uppercase(), inside) {
        (true, _) => out.extend(["[^", members, "]"]),
        (false, true) => out.push_str(members),
        (false, false) => out.extend(["[", members, "]"]),
    }
}

/// Patterns of a call: compiled again only when the text changes.
struct Patterns<'a> {
    texts: Texts<'a>,
    last: Option<Rc<Pattern>>,
}

impl<'a> Patterns<'a> {
    fn new(texts: Texts<'a>) -> Self {
        Self { texts, last: None }
    }

    fn get(&mut self, row: usize) -> Result<Option<&Pattern>> {
        let Some(text) = self.texts.get(row) else { return Ok(None) };
        let same = match (&self.texts, &self.last) {
            (Texts::Constant(_), Some(_)) => true,
            (_, Some(last)) => last.text == text,
            _ => false,
        };
        if !same {
            self.last = Some(Pattern::compiled(text)?);
        }
        Ok(self.last.as_deref())
    }
}

fn regexp(call: &Call<'_>) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let mut patterns = Patterns::new(call.texts(1)?);
    let mut matches = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let pattern = patterns.get(row)?;
        // As in Flink an empty pattern matches nothing.
        let found = texts.get(row).zip(pattern);
        matches.push(found.map(|(text, pattern)| !pattern.text.is_empty() && pattern.regex.is_match(text)));
    }
    Ok(Arc::new(BooleanArray::from(matches)))
}

/// A number about the matches in each text.
fn numbers(call: &Call<'_>, number: impl Fn(&Pattern, &str) -> usize) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let mut patterns = Patterns::new(call.texts(1)?);
    let mut column = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let found = texts.get(row).zip(patterns.get(row)?);
        column.push(found.map(|(text, pattern)| i32::try_from(number(pattern, text)).unwrap_or(i32::MAX)));
    }
    Ok(Arc::new(Int32Array::from(column)))
}

fn similar_to(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, patterns) = (call.texts(0)?, call.texts(1)?);
    let constant = patterns.constant().map(|sql| Pattern::compiled(&sql_pattern(sql))).transpose()?;
    let mut matches = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let Some((text, sql)) = texts.get(row).zip(patterns.get(row)) else {
            matches.push(None);
            continue;
        };
        matches.push(Some(match &constant {
            Some(pattern) => pattern.regex.is_match(text),
            None => Pattern::compiled(&sql_pattern(sql))?.regex.is_match(text),
        }));
    }
    Ok(Arc::new(BooleanArray::from(matches)))
}

/// A pattern of SQL:2003 as one of Java that matches whole texts.
fn sql_pattern(sql: &str) -> String {
    let mut out = String::from("(?s)^(?:");
    let mut in_class = false;
    for letter in sql.chars() {
        match letter {
            '%' if !in_class => out.push_str(".*"),
            '_' if !in_class => out.push('.'),
            '.' | '$' | '\\' => out.extend(['\\', letter]),
            '^' if !in_class => out.push_str("\\^"),
            other => {
                in_class = (in_class || other == '[') && other != ']';
                out.push(other);
            }
        }
    }
    out.push_str(")$");
    out
}

fn regexp_extract(call: &Call<'_>) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let mut patterns = Patterns::new(call.texts(1)?);
    let groups = if call.count() > 2 { Some(call.longs(2)?) } else { None };
    let mut column = PartColumn::new(texts, call.rows);
    for row in 0..call.rows {
        let group = match &groups {
            Some(groups) => groups.get(row),
            None => Some(0),
        };
        let part = match (texts.get(row), patterns.get(row)?, group) {
            (Some(text), Some(pattern), Some(group)) => extract(pattern, text, group),
            _ => None,
        };
        column.push(row, part);
    }
    Ok(column.finish())
}

fn extract<'t>(pattern: &Pattern, text: &'t str, group: i64) -> Option<&'t str> {
    let group = usize::try_from(group).ok()?;
    if group == 0 {
        return pattern.regex.find(text).map(|found| found.as_str());
    }
    let mut locations = pattern.groups.borrow_mut();
    if group >= locations.len() {
        return None;
    }
    pattern.regex.captures_read(&mut locations, text)?;
    locations.get(group).map(|(start, end)| &text[start..end])
}

fn array_of_texts() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true)))
}

fn regexp_extract_all(call: &Call<'_>) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let mut patterns = Patterns::new(call.texts(1)?);
    let groups = if call.count() > 2 { Some(call.longs(2)?) } else { None };
    let mut lists = ListBuilder::new(StringViewBuilder::new());
    for row in 0..call.rows {
        let group = groups.as_ref().map_or(Some(1), |groups| groups.get(row));
        let group = group.and_then(|group| usize::try_from(group).ok());
        let found = match (texts.get(row), patterns.get(row)?, group) {
            (Some(text), Some(pattern), Some(group)) => extract_all(pattern, text, group, &mut lists),
            _ => false,
        };
        lists.append(found);
    }
    Ok(Arc::new(lists.finish()))
}

/// False when the pattern has no such group.
fn extract_all(pattern: &Pattern, text: &str, group: usize, lists: &mut ListBuilder<StringViewBuilder>) -> bool {
    if group >= pattern.groups.borrow().len() {
        return false;
    }
    for found in pattern.regex.captures_iter(text) {
        lists.values().append_option(found.get(group).map(|part| part.as_str()));
    }
    true
}

fn regexp_replace(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, replacements) = (call.texts(0)?, call.texts(2)?);
    let mut patterns = Patterns::new(call.texts(1)?);
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        let pattern = patterns.get(row)?;
        let (Some(text), Some(pattern), Some(replacement)) = (texts.get(row), pattern, replacements.get(row)) else {
            column.push_null();
            continue;
        };
        column.write(|out| {
            let mut end = 0;
            for found in pattern.regex.find_iter(text) {
                out.push_str(&text[end..found.start()]);
                out.push_str(replacement);
                end = found.end();
            }
            out.push_str(&text[end..]);
        });
    }
    Ok(column.finish())
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[test]
    fn regular_expressions_are_javas() {
        check(
            r"REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)', 2) -> STRING bar
             REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)') -> STRING foothebar
             REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)', 3) -> STRING NULL
             REGEXP_EXTRACT('foothebar', 'x', 0) -> STRING NULL
             REGEXP_EXTRACT('a?b&channel_id=123456789012345', '(&|^)channel_id=([^&]*)', 2) -> STRING 123456789012345
             REGEXP_EXTRACT('x٣4', '\d+') -> STRING 4
             REGEXP_EXTRACT('é_1', '[\w]+') -> STRING _1
             REGEXP_EXTRACT('1.5', '[^\d]') -> STRING .
             REGEXP('ab', '\Qa\Eb') -> BOOLEAN true
             REGEXP('a.b', '^\Qa.\Eb$') -> BOOLEAN true
             REGEXP('abc', '') -> BOOLEAN false
             REGEXP_REPLACE('foobar', 'oo|ar', '') -> STRING fb
             REGEXP_REPLACE('foobar', 'o', '$1') -> STRING f$1$1bar
             REGEXP_SUBSTR('foobar', 'o+') -> STRING oo
             REGEXP_SUBSTR('foobar', 'x') -> STRING NULL
             REGEXP_EXTRACT_ALL('ab12cd34', '([a-z])\d*') -> ARRAY<STRING> [a, b, c, d]
             REGEXP_EXTRACT_ALL('100-200, 300-400', '(\d+)-(\d+)') -> ARRAY<STRING> [100, 300]
             REGEXP_EXTRACT_ALL('100-200, 300-400', '(\d+)-(\d+)', 2) -> ARRAY<STRING> [200, 400]
             REGEXP_EXTRACT_ALL('100-200, 300-400', '(\d+)-(\d+)', 0) -> ARRAY<STRING> [100-200, 300-400]
             REGEXP_EXTRACT_ALL('100-200', '(\d+)-(\d+)', 3) -> ARRAY<STRING> NULL
             REGEXP_EXTRACT_ALL('100-200', '(\d+)-(\d+)', -1) -> ARRAY<STRING> NULL
             REGEXP_EXTRACT_ALL('100-200', '\d+') -> ARRAY<STRING> NULL
             REGEXP_EXTRACT_ALL('abc', '(\d+)') -> ARRAY<STRING> []
             REGEXP_EXTRACT_ALL('ab', '(a)|(b)', 2) -> ARRAY<STRING> [NULL, b]
             REGEXP_COUNT('foobar', 'o') -> INT 2
             REGEXP_COUNT('foobar', 'x') -> INT 0
             REGEXP_INSTR('éfoo', 'o+') -> INT 3
             REGEXP_INSTR('foo', 'x') -> INT 0
             'abc' SIMILAR TO 'a%' -> BOOLEAN true
             'abc' SIMILAR TO 'a' -> BOOLEAN false
             'a.c' NOT SIMILAR TO 'a.c|x' -> BOOLEAN false
             'abc' SIMILAR TO '(x|a)_[^x]' -> BOOLEAN true
             REGEXP('a', '(?=a)') -> error look-around
             REGEXP('a', '(') -> error the pattern '(' is not supported",
        );
    }
}
