//! The shape of a manifest against the CRD's schema: fields, types, ranges, forms.
//!
//! The walk reports every mistake and builds, beside, a repaired manifest: unknown fields and unusable values are left
//! out, missing required ones are filled in. The repaired one always has the right types, so that the rules between
//! fields can be checked in the same run. Each mistake's path is kept: a rule that reads such a field is not judged.

use serde_json::{Map, Value, json};

use super::form::Form;
use super::mistake::{Mistake, excerpt};
use super::path::Path;
use super::wording::{alternatives, fields_expected, first_sentence, found, nearest, path_of_field, text_expected};
use crate::Position;
use crate::manifest::{Content, Entry, Node};

/// Mistakes beyond this many are counted, not listed.
const MAX_MISTAKES: usize = 100;

pub(super) type SchemaMap = Map<String, Value>;

/// What the walk found.
pub(crate) struct Checked {
    pub(crate) repaired: Value,
    pub(crate) mistakes: Vec<Mistake>,
}

/// Checks `node` against `schema`.
pub(crate) fn check(schema: &Value, node: &Node) -> Checked {
    let mut walk = Walk { root: schema, path: Path::default(), mistakes: Vec::new(), unlisted: 0 };
    let repaired = walk.value(object(schema), node).unwrap_or_else(|| placeholder(object(schema)));
    if walk.unlisted > 0 {
        walk.mistakes.push(Mistake::of_file(format!("{} more mistakes are not listed", walk.unlisted), None));
    }
    Checked { repaired, mistakes: walk.mistakes }
}

struct Walk<'a> {
    root: &'a Value,
    path: Path,
    mistakes: Vec<Mistake>,
    unlisted: usize,
}

impl Walk<'_> {
    /// The value of `node` as far as it fits the schema; none if it does not at all.
    fn value(&mut self, schema: &SchemaMap, node: &Node) -> Option<Value> {
        if schema.get("x-kubernetes-int-or-string").is_some() {
            return self.int_or_string(schema, node);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => self.object(schema, node),
            Some("array") => self.array(schema, node),
            Some("string") => self.string(schema, node),
            Some("integer") => self.integer(schema, node),
            Some("number") => self.number(schema, node),
            Some("boolean") => match node.content {
                Content::Bool(value) => Some(value.into()),
                _ => self.mismatch("true or false", node),
            },
            _ => Some(node.to_json()),
        }
    }

    fn object(&mut self, schema: &SchemaMap, node: &Node) -> Option<Value> {
        let Content::Map(entries) = &node.content else {
            return self.mismatch(&fields_expected(schema), node);
        };
        let mut repaired = Map::new();
        for entry in entries.iter().filter(|entry| entry.value.content != Content::Null) {
            self.path.push_field(&entry.key);
            if let Some(value) = self.entry(schema, entry) {
                repaired.insert(entry.key.clone(), value);
            }
            self.path.pop();
        }
        if let Some(max) = limit(schema, "maxProperties").filter(|max| entries.len() > *max) {
            self.report(node.at, format!("has {} entries, more than {max}", entries.len()), None);
        }
        self.fill_required(schema, node, &mut repaired);
        Some(Value::Object(repaired))
    }

    /// The value of a field, and a report if there is no such field.
    fn entry(&mut self, schema: &SchemaMap, entry: &Entry) -> Option<Value> {
        if let Some(Value::Object(field)) = properties(schema).and_then(|fields| fields.get(&entry.key)) {
            return self.value(field, &entry.value);
        }
        if let Some(Value::Object(additional)) = schema.get("additionalProperties") {
            return self.value(additional, &entry.value);
        }
        let free = properties(schema).is_none() || schema.contains_key("x-kubernetes-preserve-unknown-fields");
        if free {
            return Some(entry.value.to_json());
        }
        // Looking for the nearest name is not worth it for a mistake that is only counted.
        let listed = self.mistakes.len() < MAX_MISTAKES;
        let hint = listed.then(|| self.unknown_field_hint(schema, &entry.key)).flatten();
        self.report(entry.at.or(entry.value.at), "unknown field".into(), hint);
        None
    }

    fn fill_required(&mut self, schema: &SchemaMap, node: &Node, repaired: &mut Map<String, Value>) {
        let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for name in required.iter().filter_map(Value::as_str) {
            if repaired.contains_key(name) {
                continue;
            }
            self.path.push_field(name);
            let field = properties(schema).and_then(|fields| fields.get(name)).and_then(Value::as_object);
            // Present but unusable was reported where it stands.
            if node.field(name).is_none() {
                let hint = field.and_then(|field| first_sentence(field.get("description")?.as_str()?));
                self.report(node.at, "missing required field".into(), hint);
            }
            repaired.insert(name.into(), field.map_or(Value::Null, placeholder));
            self.path.pop();
        }
    }

    fn array(&mut self, schema: &SchemaMap, node: &Node) -> Option<Value> {
        let Content::List(items) = &node.content else {
            return self.mismatch("a list", node);
        };
        if let Some(max) = limit(schema, "maxItems").filter(|max| items.len() > *max) {
            self.report(node.at, format!("has {} items, more than {max}", items.len()), None);
        }
        let Some(Value::Object(item_schema)) = schema.get("items") else {
            return Some(node.to_json());
        };
        let mut repaired = Vec::new();
        for (index, item) in items.iter().enumerate() {
            self.path.push_index(index);
            repaired.extend(self.value(item_schema, item));
            self.path.pop();
        }
        Some(Value::Array(repaired))
    }

    fn string(&mut self, schema: &SchemaMap, node: &Node) -> Option<Value> {
        let form = schema.get("pattern").and_then(Value::as_str).and_then(Form::of);
        let values = schema.get("enum").and_then(Value::as_array);
        let Content::Text(text) = &node.content else {
            let expected = form.map_or_else(|| text_expected(values), |form| form.expected.into());
            return self.mismatch(&expected, node);
        };
        if let Some(values) = values {
            return self.one_of(values, text, node);
        }
        let (complaint, hint) = text_complaint(schema, form, text)?;
        match complaint {
            None => Some(text.as_str().into()),
            Some(complaint) => {
                self.report(node.at, complaint, hint);
                None
            }
        }
    }

    fn one_of(&mut self, values: &[Value], text: &str, node: &Node) -> Option<Value> {
        let names: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        if names.contains(&text) {
            return Some(text.into());
        }
        let hint = nearest(text, &names).map(|name| format!("did you mean {name}?"));
        let message = format!("expected {}, found \"{}\"", alternatives(&names), excerpt(text));
        self.report(node.at, message, hint);
        None
    }

    fn integer(&mut self, schema: &SchemaMap, node: &Node) -> Option<Value> {
        let Content::Number(number) = &node.content else {
            return self.mismatch("a whole number", node);
        };
        if !number.is_i64() && !number.is_u64() {
            return self.mismatch("a whole number", node);
        }
        self.within_range(schema, node, number.as_f64()?).then(|| number.clone().into())
    }

    fn number(&mut self, schema: &SchemaMap, node: &Node) -> Option<Value> {
        let Content::Number(number) = &node.content else {
            return self.mismatch("a number", node);
        };
        self.within_range(schema, node, number.as_f64()?).then(|| number.clone().into())
    }

    fn within_range(&mut self, schema: &SchemaMap, node: &Node, number: f64) -> bool {
        let min = schema.get("minimum").and_then(Value::as_f64);
        let max = schema.get("maximum").and_then(Value::as_f64);
        if min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max) {
            return true;
        }
        let range = match (min, max) {
            (Some(min), Some(max)) => format!("from {min} to {max}"),
            (Some(min), None) => format!("of at least {min}"),
            (None, Some(max)) => format!("of at most {max}"),
            (None, None) => unreachable!("a number without limits is within them"),
        };
        self.report(node.at, format!("expected a number {range}, found {number}"), None);
        false
    }

    fn int_or_string(&mut self, schema: &SchemaMap, node: &Node) -> Option<Value> {
        match &node.content {
            Content::Number(number) => Some(number.to_string().into()),
            Content::Text(_) => self.string(schema, node),
            _ => {
                let form = schema.get("pattern").and_then(Value::as_str).and_then(Form::of);
                self.mismatch(form.map_or("a number or text", |form| form.expected), node)
            }
        }
    }

    fn mismatch(&mut self, expected: &str, node: &Node) -> Option<Value> {
        let hint = match &node.content {
            Content::Number(number) if expected.starts_with("a duration") => {
                Some(format!("add the unit: {number}s or {number}ms"))
            }
            Content::Number(_) | Content::Bool(_) if expected == "text" => {
                Some("put it between quotes to make it a text".into())
            }
            Content::Text(text) if text.parse::<f64>().is_ok() && expected.contains("number") => {
                Some("remove the quotes".into())
            }
            _ => None,
        };
        self.report(node.at, format!("expected {expected}, found {}", found(node)), hint);
        None
    }

    fn unknown_field_hint(&self, schema: &SchemaMap, key: &str) -> Option<String> {
        let fields: Vec<&str> = properties(schema)?.keys().map(String::as_str).collect();
        if let Some(name) = nearest(key, &fields) {
            return Some(format!("did you mean {name}?"));
        }
        if let Some(path) = path_of_field(self.root, key) {
            return Some(format!("did you mean {path}?"));
        }
        Some(format!("the fields here are {}", fields.join(", "))).filter(|_| !fields.is_empty())
    }

    fn report(&mut self, at: Option<Position>, message: String, hint: Option<String>) {
        if self.mistakes.len() < MAX_MISTAKES {
            self.mistakes.push(Mistake::new(self.path.to_string(), at, message).maybe_hint(hint));
        } else {
            self.unlisted += 1;
        }
    }
}

/// What is wrong with a text, if anything, and a hint. None only if the schema is not an object.
fn text_complaint(schema: &SchemaMap, form: Option<&Form>, text: &str) -> Option<(Option<String>, Option<String>)> {
    let length = text.chars().count();
    if let Some(form) = form.filter(|form| !form.matches(text)) {
        let complaint = format!("\"{}\" {}", excerpt(text), form.complaint(text));
        return Some((Some(complaint), form.hint.map(Into::into)));
    }
    if limit(schema, "minLength").is_some_and(|min| length < min) {
        let complaint = if text.is_empty() { "is empty".into() } else { format!("\"{text}\" is too short") };
        return Some((Some(complaint), None));
    }
    let too_long = limit(schema, "maxLength").filter(|max| length > *max);
    Some((too_long.map(|max| format!("has {length} characters, more than {max}")), None))
}

pub(super) fn object(schema: &Value) -> &SchemaMap {
    schema.as_object().expect("a schema is an object")
}

pub(super) fn properties(schema: &SchemaMap) -> Option<&SchemaMap> {
    schema.get("properties").and_then(Value::as_object)
}

fn limit(schema: &SchemaMap, keyword: &str) -> Option<usize> {
    schema.get(keyword).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok())
}

/// A value that fits the schema, for a required field that is missing.
fn placeholder(schema: &SchemaMap) -> Value {
    if let Some(default) = schema.get("default") {
        return default.clone();
    }
    if let Some(first) = schema.get("enum").and_then(|values| values.get(0)) {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => {
            let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let fields = required.iter().filter_map(Value::as_str).map(|name| {
                let field = properties(schema).and_then(|fields| fields.get(name)).and_then(Value::as_object);
                (name.to_owned(), field.map_or(Value::Null, placeholder))
            });
            Value::Object(fields.collect())
        }
        Some("array") => json!([]),
        Some("string") => "".into(),
        Some("boolean") => false.into(),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| 0.into()),
        _ => Value::Null,
    }
}
