//! The committed CRDs: current, small, and with what the cluster needs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use weir_crds::definitions;

fn definition(name: &str) -> Value {
    let (_, yaml) = definitions().into_iter().find(|(file, _)| file.starts_with(name)).unwrap();
    serde_yaml::from_str(&yaml).unwrap()
}

/// The CRDs themselves, and those that the chart installs.
#[test]
fn the_committed_crds_are_current() {
    for (file, yaml) in definitions() {
        for folder in ["yaml", "../charts/weir/files/crds"] {
            let path = format!("{}/{folder}/{file}", env!("CARGO_MANIFEST_DIR"));
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == yaml, "{path} is stale: run `cargo run -p weir-crds --example crd -- --write`");
        }
    }
}

#[test]
fn each_crd_stays_under_100_kib() {
    for (file, yaml) in definitions() {
        let json = serde_yaml::from_str::<Value>(&yaml).unwrap().to_string();
        assert!(yaml.len() < 100 * 1024 && json.len() < 100 * 1024, "{file}: {} bytes", yaml.len());
    }
}

#[test]
fn a_stream_job_can_be_scaled_and_reports_its_status() {
    let crd = definition("streamjobs");
    let version = &crd["spec"]["versions"][0];
    assert_eq!(
        version["subresources"],
        json!({
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.parallelism",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        })
    );
    let columns = version["additionalPrinterColumns"].as_array().unwrap();
    let (always, wide): (Vec<&Value>, Vec<&Value>) = columns.iter().partition(|column| column["priority"].is_null());
    let names = |columns: Vec<&Value>| columns.into_iter().map(|column| column["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(always), ["State", "Parallelism", "Workers", "Checkpoint age", "Restarts", "Age"]);
    assert_eq!(names(wide), ["Revision", "State bytes", "Message"]);
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["sj"]));
    assert_eq!(definition("savepoints")["spec"]["versions"][0]["subresources"]["status"], json!({}));
}

/// Walks all schemas with the path to each.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(field, &format!("{path}.{name}"), visit);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&schema[inner], &format!("{path}.{inner}"), visit);
        }
    }
}

fn each_schema(mut visit: impl FnMut(&str, &Value)) {
    for name in ["streamjobs", "savepoints"] {
        let crd = definition(name);
        walk(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], name, &mut visit);
    }
}

#[test]
fn the_schema_is_structural_and_without_surprises() {
    each_schema(|path, schema| {
        let free =
            schema["x-kubernetes-preserve-unknown-fields"] == true || schema["x-kubernetes-int-or-string"] == true;
        assert!(free || schema["type"].is_string(), "{path} has no type: {schema}");
        for keyword in ["anyOf", "oneOf", "allOf", "$ref", "nullable", "title", "const"] {
            // kube's derive adds these; none of them matters.
            let status = keyword == "nullable" && path.ends_with("s.status");
            let root_title = keyword == "title" && !path.contains('.');
            let amount = keyword == "nullable" && schema["x-kubernetes-int-or-string"] == true;
            assert!(schema[keyword].is_null() || root_title || amount || status, "{path} has {keyword}");
        }
        assert!(schema.get("default").is_none_or(|default| !default.is_null()), "{path} has the default null");
        let formats = ["int32", "int64", "double", "date-time"];
        assert!(
            schema["format"].as_str().is_none_or(|format| formats.contains(&format)),
            "{path}: {}",
            schema["format"]
        );
    });
}

#[test]
fn each_field_says_what_it_is() {
    each_schema(|path, schema| {
        let element = path.ends_with(".items") || path.ends_with(".additionalProperties");
        let root = !path.contains('.');
        assert!(element || root || schema["description"].is_string(), "{path} has no description");
    });
}

/// The API server estimates the cost of a rule from the greatest size of what it reads.
#[test]
fn whatever_a_rule_reads_is_bounded() {
    each_schema(|path, schema| {
        if schema["x-kubernetes-validations"].is_null() || !path.contains('.') {
            return;
        }
        walk(schema, path, &mut |inner, schema| {
            let enumerated = schema["enum"].is_array();
            let direct = inner == path || inner[path.len()..].matches('.').count() == 1;
            let bounded = match schema["type"].as_str() {
                Some("string") => enumerated || schema["maxLength"].is_u64(),
                Some("array") => schema["maxItems"].is_u64(),
                _ => true,
            };
            assert!(bounded || !direct, "{inner} is not bounded");
        });
    });
}

#[test]
fn a_savepoint_is_of_one_job_for_ever() {
    let crd = definition("savepoints");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let savepoint = |name: &str, job: &str| {
        json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "Savepoint", "metadata": {"name": name},
            "spec": {"jobRef": {"name": job}},
        })
    };
    let validator = kube::core::cel::Validator::new();
    let check = |new: Value, old: Option<Value>| validator.validate(schema, &new, old.as_ref());
    assert!(check(savepoint("s", "a"), None).is_ok());
    assert!(check(savepoint("s", "a"), Some(savepoint("s", "a"))).is_ok());
    let changed = check(savepoint("s", "a"), Some(savepoint("s", "b"))).unwrap_err().to_string();
    assert!(changed.contains("jobRef cannot be changed"), "{changed}");
    let long = check(savepoint(&"s".repeat(64), "a"), None).unwrap_err().to_string();
    assert!(long.contains("longer than 63"), "{long}");
}

/// The innermost fields of a schema with the path to each, and their defaults; Kubernetes' own types are not opened.
fn leaves(schema: &Value, path: &str, into: &mut Vec<(String, Value)>) {
    let fields = schema["properties"].as_object().filter(|fields| !fields.is_empty());
    match fields {
        Some(fields) => {
            for (name, field) in fields {
                leaves(field, &format!("{path}{}{name}", if path.is_empty() { "" } else { "." }), into);
            }
        }
        None => into.push((path.to_owned(), schema["default"].clone())),
    }
}

#[test]
fn the_guide_has_every_field_with_its_default() {
    let guide = std::fs::read_to_string(format!("{}/../docs/manifest.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let crd = definition("streamjobs");
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut fields = Vec::new();
    leaves(spec, "", &mut fields);
    assert!(fields.len() > 50);
    for (path, default) in fields {
        let default = match default {
            Value::Null => String::new(),
            Value::String(text) if !text.is_empty() => format!("`{text}` |"),
            other => format!("`{other}` |"),
        };
        let row = format!("| `{path}` | {default}");
        assert!(guide.contains(&row), "docs/manifest.md lacks the row {row}");
    }
}
