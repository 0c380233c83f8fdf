//! The schemas of the CRDs: the patterns of texts, the parts that are kept as they are, the tidying that makes a schema
//! from schemars one that Kubernetes takes without warnings, and the documents as they are committed.
//!
//! A text that does not match a pattern would be answered by the API server with the pattern. So in the committed CRDs
//! each pattern is a CEL rule with the same meaning and the words of [`Form`].

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;
use schemars::transform::{AddNullable, transform_subschemas};
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map, Value};

use crate::validate::Form;
use crate::{Savepoint, StreamJob};

/// Name of another object: a DNS subdomain.
pub(crate) const OBJECT_NAME: &str = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$";
/// Key in a ConfigMap.
pub(crate) const CONFIG_KEY: &str = "^[-._a-zA-Z0-9]+$";
/// Name of a bucket.
pub(crate) const BUCKET: &str = "^[a-z0-9][-.a-z0-9]*[a-z0-9]$";
/// Prefix of object keys.
pub(crate) const PREFIX: &str = "^([-_.=a-zA-Z0-9]+(/[-_.=a-zA-Z0-9]+)*)?$";
/// Address of an object store.
pub(crate) const ENDPOINT: &str = r"^https?://[-.:a-zA-Z0-9\[\]]+(/[-_.~/a-zA-Z0-9]*)?$";
/// Amount of a resource, in Kubernetes' notation.
pub(crate) const QUANTITY: &str = "^[0-9]+([.][0-9]+)?([eE][0-9]+|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$";

/// What a manifest of a StreamJob may hold: the CRD's schema, with the metadata that the API server checks by itself.
pub(crate) static MANIFEST: LazyLock<Value> = LazyLock::new(|| {
    let crd = StreamJob::crd();
    let root = crd.spec.versions.first().and_then(|version| version.schema.as_ref());
    let root = root.and_then(|schema| schema.open_api_v3_schema.as_ref());
    let mut schema = serde_json::to_value(root.expect("the CRD has a schema")).expect("a schema is JSON");
    let properties = schema["properties"].as_object_mut().expect("the root has properties");
    properties.insert("apiVersion".into(), text("write apiVersion: weir.dev/v1alpha1"));
    properties.insert("kind".into(), text("write kind: StreamJob"));
    properties.insert("metadata".into(), metadata());
    // What the controller reports is nobody's mistake in a manifest.
    properties.insert("status".into(), serde_json::json!({"x-kubernetes-preserve-unknown-fields": true}));
    schema["required"] = serde_json::json!(["apiVersion", "kind", "metadata", "spec"]);
    schema
});

/// The CustomResourceDefinitions as YAML documents, each with the name of the file that holds it.
#[must_use]
pub fn definitions() -> [(&'static str, String); 2] {
    [
        ("streamjobs.weir.dev.yaml", document(&StreamJob::crd())),
        ("savepoints.weir.dev.yaml", document(&Savepoint::crd())),
    ]
}

fn document(crd: &CustomResourceDefinition) -> String {
    let mut crd = serde_json::to_value(crd).expect("a CRD is JSON");
    finish(&mut crd);
    let yaml = serde_yaml::to_string(&crd).expect("a CRD is written from plain maps, lists and texts");
    format!("---\n{yaml}")
}

/// Gives patterns their words, and bounds that are whole numbers their form.
fn finish(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(pattern)) = map.get("pattern") {
                let form = Form::of(pattern).expect("each pattern has its form");
                let text = if map.contains_key("x-kubernetes-int-or-string") { "string(self)" } else { "self" };
                let cel = format!("{text}.matches('{}')", form.pattern.replace('\\', "\\\\"));
                let rule = serde_json::json!({"message": form.message(), "rule": cel});
                map.remove("pattern");
                let rules = map.entry("x-kubernetes-validations").or_insert_with(|| serde_json::json!([]));
                rules.as_array_mut().expect("rules are a list").insert(0, rule);
            }
            for bound in ["minimum", "maximum"] {
                if let Some(whole) = map.get(bound).and_then(Value::as_f64).filter(|bound| bound.fract() == 0.0) {
                    map.insert(bound.into(), Value::from(whole as i64));
                }
            }
            map.values_mut().for_each(finish);
        }
        Value::Array(items) => items.iter_mut().for_each(finish),
        _ => {}
    }
}

fn text(description: &str) -> Value {
    serde_json::json!({"type": "string", "description": description})
}

fn metadata() -> Value {
    let mut settings = SchemaSettings::openapi3().with_transform(AddNullable::default());
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<ObjectMeta>();
    tidy(&mut schema);
    schema.insert("description".into(), "name the job: metadata with a name".into());
    schema.to_value()
}

/// An object whose content only the API server knows (pod affinity, say).
pub(crate) fn preserved_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A short list of such objects.
pub(crate) fn preserved_objects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "x-kubernetes-list-type": "atomic",
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    })
}

/// Amounts by the name of the resource.
pub(crate) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "pattern": QUANTITY,
            "maxLength": 32,
            "x-kubernetes-int-or-string": true,
        },
    })
}

/// For a choice: the API server would write the default into the object, and whoever applies another choice later would
/// have two.
pub(crate) fn without_default(schema: &mut Schema) {
    schema.remove("default");
}

/// Makes a schema small and plain: no `null` (the API server drops nulls where a field is not nullable, and so does
/// our check), no titles, no number formats that Kubernetes does not know, and enums with the text of their variants.
pub(crate) fn tidy(schema: &mut Schema) {
    transform_subschemas(&mut tidy, schema);
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("title");
    object.remove("nullable");
    unwrap_description(object);
    drop_null_choice(object);
    drop_null_value(object);
    describe_variants(object);
    let known = ["int32", "int64", "double", "date-time"];
    if object.get("format").and_then(Value::as_str).is_some_and(|format| !known.contains(&format)) {
        object.remove("format");
    }
}

/// Doc comments are wrapped for the source; `kubectl explain` wraps again. Paragraphs and list items stay apart.
fn unwrap_description(object: &mut Map<String, Value>) {
    let Some(Value::String(description)) = object.get_mut("description") else {
        return;
    };
    let mut unwrapped = String::with_capacity(description.len());
    for line in description.lines() {
        let apart = line.is_empty() || line.starts_with("- ") || unwrapped.is_empty() || unwrapped.ends_with('\n');
        if !apart {
            unwrapped.push(' ');
        } else if !unwrapped.is_empty() {
            unwrapped.push('\n');
        }
        unwrapped.push_str(line);
    }
    *description = unwrapped;
}

/// `anyOf [X, null]` is X.
fn drop_null_choice(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get("anyOf") else {
        return;
    };
    let is_null = |choice: &Value| choice["type"] == "null" || choice["enum"] == serde_json::json!([null]);
    let [Value::Object(one)] = &choices.iter().filter(|choice| !is_null(choice)).cloned().collect::<Vec<_>>()[..]
    else {
        return;
    };
    object.remove("anyOf");
    for (key, value) in one {
        object.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

fn drop_null_value(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = &types[..] {
            let one = one.clone();
            object.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
}

/// A plain enum is a list of values for Kubernetes: the docs of its variants move into the description.
fn describe_variants(object: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = object.get("oneOf") else {
        return;
    };
    let mut values = Vec::new();
    let mut description = object.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    for variant in variants {
        let listed = variant["enum"].as_array().map(Vec::as_slice);
        let names = variant.get("const").map(std::slice::from_ref).or(listed);
        let Some(names) = names.filter(|names| names.iter().all(Value::is_string)) else {
            return;
        };
        if let ([Value::String(name)], Some(text)) = (names, variant["description"].as_str()) {
            description.push_str(&format!("\n- {name}: {text}"));
        }
        values.extend(names.iter().cloned());
    }
    object.remove("oneOf");
    object.insert("type".into(), "string".into());
    object.insert("enum".into(), Value::Array(values));
    object.insert("description".into(), description.trim_start().into());
}
