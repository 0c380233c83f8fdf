//! How mistakes of shape are worded: what was expected, what was found, and which name was probably meant.

use serde_json::Value;

use super::mistake::excerpt;
use super::structure::{SchemaMap, object, properties};
use crate::manifest::{Content, Node};

pub(super) fn fields_expected(schema: &SchemaMap) -> String {
    match properties(schema) {
        Some(fields) if !fields.is_empty() && fields.len() < 6 => {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            format!("a map with {}", names.join(", "))
        }
        _ => "a map of fields".into(),
    }
}

pub(super) fn text_expected(values: Option<&Vec<Value>>) -> String {
    values.map_or("text".into(), |values| alternatives(&values.iter().filter_map(Value::as_str).collect::<Vec<_>>()))
}

pub(super) fn alternatives(names: &[&str]) -> String {
    match names {
        [one] => (*one).into(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => "nothing".into(),
    }
}

pub(super) fn found(node: &Node) -> String {
    match &node.content {
        Content::Null => "nothing".into(),
        Content::Bool(value) => value.to_string(),
        Content::Number(number) => format!("the number {number}"),
        Content::Text(text) => format!("the text \"{}\"", excerpt(text)),
        Content::List(_) => "a list".into(),
        Content::Map(_) => "a map of fields".into(),
    }
}

/// The name that `text` most likely stands for.
pub(super) fn nearest<'a>(text: &str, names: &[&'a str]) -> Option<&'a str> {
    // Comparing costs the product of the lengths, and a long text resembles no field.
    if text.len() > 64 {
        return None;
    }
    let lower = text.to_lowercase();
    let scored = names.iter().map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), *name));
    let (distance, name) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= (text.chars().count() / 3).max(1)).then_some(name)
}

/// The only place under `spec` that has a field of this name, in another object.
pub(super) fn path_of_field(root: &Value, key: &str) -> Option<String> {
    fn collect(schema: &Value, path: &str, key: &str, into: &mut Vec<String>) {
        for (name, field) in properties(object(schema)).into_iter().flatten().filter(|(_, field)| field.is_object()) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if name == key {
                into.push(path.clone());
            }
            collect(field, &path, key, into);
        }
    }
    let mut paths = Vec::new();
    collect(root.get("properties")?.get("spec")?, "spec", key, &mut paths);
    paths.sort_by_key(|path| path.matches('.').count());
    paths.into_iter().next()
}

pub(super) fn first_sentence(description: &str) -> Option<String> {
    let sentence = description.lines().next()?.split(". ").next()?.trim_end_matches('.');
    Some(sentence.to_owned()).filter(|sentence| !sentence.is_empty())
}
