//! What a JSON merge patch must say so that one value becomes another.

use serde_json::{Map, Value};

/// The merge patch (RFC 7386) that makes `new` out of `old`; none if they are equal. Lists are replaced as a whole.
#[must_use]
pub fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for (key, value) in new {
        if let Some(change) = difference(old.get(key).unwrap_or(&Value::Null), value) {
            patch.insert(key.clone(), change);
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_says_only_what_changes() {
        let check = |old: Value, new: Value, patch: Option<Value>| assert_eq!(difference(&old, &new), patch);
        check(json!({"a": 1, "b": {"c": 2}}), json!({"a": 1, "b": {"c": 2}}), None);
        check(json!({"a": 1, "b": {"c": 2}}), json!({"a": 1, "b": {"c": 3}}), Some(json!({"b": {"c": 3}})));
        check(json!({"a": 1, "gone": {"x": 1}}), json!({"a": 1}), Some(json!({"gone": null})));
        check(json!({"list": [1, 2]}), json!({"list": [2]}), Some(json!({"list": [2]})));
        check(Value::Null, json!({"a": 1}), Some(json!({"a": 1})));
    }
}
