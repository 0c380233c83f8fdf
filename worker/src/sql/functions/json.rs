//! Functions of JSON in text. A document that is malformed gives NULL, as Flink's default `NULL ON ERROR` does.

mod building;

use super::arguments::{Call, Texts};
use super::definition::Function;
use super::definition::Kind::{Any, Text};
use super::definition::Returns;
use super::text::TextColumn;
use arrow::array::{ArrayRef, BooleanArray};
use datafusion_common::Result;
use serde_json::Value;
use std::sync::Arc;

/// The functions of this family.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "json_value",
        "JSON_VALUE(json, path)",
        "the scalar at a path such as '$.a.b[0]' as text; NULL if there is none",
        &[Text, Text],
        Returns::Text,
        |call| extract(call, scalar),
    ),
    Function::new(
        "json_query",
        "JSON_QUERY(json, path)",
        "the object or array at a path as JSON; NULL if there is none",
        &[Text, Text],
        Returns::Text,
        |call| extract(call, |value| (value.is_object() || value.is_array()).then(|| value.to_string())),
    ),
    Function::new(
        "json_exists",
        "JSON_EXISTS(json, path)",
        "whether there is something at a path",
        &[Text, Text],
        Returns::Truth,
        exists,
    ),
    Function::new(
        "is_json",
        "text IS [NOT] JSON [VALUE | SCALAR | ARRAY | OBJECT]",
        "whether it is JSON, of this kind; never NULL",
        &[Text, Text],
        Returns::Truth,
        building::is_json,
    ),
    Function::new(
        "json_string",
        "JSON_STRING(value)",
        "the value as JSON",
        &[Any],
        Returns::Text,
        building::json_string,
    ),
    Function::new(
        "json_object",
        "JSON_OBJECT([[KEY] key VALUE value, …] [NULL ON NULL | ABSENT ON NULL])",
        "an object; a value that is NULL stays, unless it is to be absent. What JSON_OBJECT and JSON_ARRAY give is taken as JSON",
        &[Text, Any],
        Returns::Text,
        building::json_object,
    )
    .optional(1)
    .repeats(),
    Function::new(
        "json_array",
        "JSON_ARRAY([value, …] [NULL ON NULL | ABSENT ON NULL])",
        "an array; a value that is NULL is absent, unless it is to stay",
        &[Text, Any],
        Returns::Text,
        building::json_array,
    )
    .optional(1)
    .repeats(),
];

/// One step down a document.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    Element(usize),
    All,
}

/// A path, taken apart.
struct Path {
    steps: Vec<Step>,
}

impl Path {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no path: write '$', then .name, ['name'], [0], [*] or .*");
        let path = text.trim();
        let path = path.strip_prefix("lax").or_else(|| path.strip_prefix("strict")).unwrap_or(path).trim_start();
        let mut rest = path.strip_prefix('$').ok_or_else(wrong)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(bracket) = rest.strip_prefix('[').or_else(|| rest.strip_prefix(".[")) {
                let (step, after) = in_brackets(bracket).ok_or_else(wrong)?;
                steps.push(step);
                rest = after;
            } else {
                let name = rest.strip_prefix('.').ok_or_else(wrong)?;
                let (name, after) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
                let name = name.trim();
                if name.is_empty() {
                    return Err(wrong());
                }
                steps.push(if name == "*" { Step::All } else { Step::Member(name.to_owned()) });
                rest = after;
            }
        }
        Ok(Self { steps })
    }

    /// What is at the path: all of it as an array, when a step takes all.
    fn find(&self, document: Value) -> Option<Value> {
        let mut found = vec![document];
        for step in &self.steps {
            found = found.into_iter().flat_map(|value| step.take(value)).collect();
        }
        if self.steps.contains(&Step::All) {
            return (!found.is_empty()).then_some(Value::Array(found));
        }
        found.pop()
    }
}

impl Step {
    fn take(&self, value: Value) -> Vec<Value> {
        match (self, value) {
            (Self::Member(name), Value::Object(mut members)) => members.swap_remove(name).into_iter().collect(),
            (Self::Element(index), Value::Array(mut elements)) if *index < elements.len() => {
                vec![elements.swap_remove(*index)]
            }
            (Self::All, Value::Array(elements)) => elements,
            (Self::All, Value::Object(members)) => members.into_iter().map(|(_, value)| value).collect(),
            _ => vec![],
        }
    }
}

/// The step of `…]`, and what comes after it.
fn in_brackets(text: &str) -> Option<(Step, &str)> {
    let text = text.trim_start();
    if let Some(quote) = text.chars().next().filter(|letter| ['\'', '"'].contains(letter)) {
        let (name, after) = text[1..].split_once(quote)?;
        return Some((Step::Member(name.to_owned()), after.trim_start().strip_prefix(']')?));
    }
    let (inner, after) = text.split_once(']')?;
    let step = match inner.trim() {
        "*" => Step::All,
        index => Step::Element(index.parse().ok()?),
    };
    Some((step, after))
}

/// Paths that are parsed again only when they change.
struct Paths<'a> {
    texts: Texts<'a>,
    parsed: Option<(&'a str, Path)>,
}

impl<'a> Paths<'a> {
    fn get(&mut self, call: &Call<'_>, row: usize) -> Result<Option<&Path>> {
        let Some(text) = self.texts.get(row) else { return Ok(None) };
        if self.parsed.as_ref().is_none_or(|(known, _)| *known != text) {
            self.parsed = Some((text, Path::parse(text).map_err(|message| call.mistake(message))?));
        }
        Ok(self.parsed.as_ref().map(|(_, path)| path))
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn extract(call: &Call<'_>, show: fn(&Value) -> Option<String>) -> Result<ArrayRef> {
    let documents = call.texts(0)?;
    let mut paths = Paths { texts: call.texts(1)?, parsed: None };
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        let path = paths.get(call, row)?;
        let found = documents
            .get(row)
            .zip(path)
            .and_then(|(document, path)| path.find(serde_json::from_str(document).ok()?).as_ref().and_then(show));
        column.push(found.as_deref());
    }
    Ok(column.finish())
}

fn exists(call: &Call<'_>) -> Result<ArrayRef> {
    let documents = call.texts(0)?;
    let mut paths = Paths { texts: call.texts(1)?, parsed: None };
    let mut found = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let path = paths.get(call, row)?;
        found.push(documents.get(row).zip(path).map(|(document, path)| {
            serde_json::from_str(document).is_ok_and(|document| path.find(document).is_some())
        }));
    }
    Ok(Arc::new(BooleanArray::from(found)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[test]
    fn json_is_searched_by_paths() {
        check(
            r#"JSON_VALUE('{"a": true}', '$.a') -> STRING true
             JSON_VALUE('{"a": {"b": [1, 2.5]}}', 'lax $.a.b[1]') -> STRING 2.5
             JSON_VALUE('{"a b": "x"}', '$.[''a b'']') -> STRING x
             JSON_VALUE('{"a": null}', '$.a') -> STRING NULL
             JSON_VALUE('{"a": [1]}', '$.a') -> STRING NULL
             JSON_VALUE('nonsense', '$.a') -> STRING NULL
             JSON_VALUE('{}', 'a') -> error 'a' is no path
             JSON_QUERY('{"a": {"c": 1, "b": [1, 2]}}', '$.a') -> STRING {"c":1,"b":[1,2]}
             JSON_QUERY('{"a": [{"b": 1}, {"b": 2}]}', '$.a[*].b') -> STRING [1,2]
             JSON_QUERY('{"a": 1}', '$.a') -> STRING NULL
             JSON_EXISTS('{"a": true}', '$.a') -> BOOLEAN true
             JSON_EXISTS('{"a": true}', '$.b') -> BOOLEAN false
             JSON_EXISTS('{"a": [{ "b": 1 }]}', '$.a[0].b') -> BOOLEAN true"#,
        );
    }
}
