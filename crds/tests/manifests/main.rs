//! One table of good and bad manifests, run against `parse`, `validate`, the CEL rules of the CRD, and a real API server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;
mod table;

use std::collections::BTreeSet;

use kube::core::cel::Validator;
use serde_json::Value;
use table::{BAD, Bad, FORBIDDEN_CHANGES, GOOD, complete};
use weir_crds::{StreamJob, definitions, parse, validate, validate_update};

fn schema() -> Value {
    let (_, yaml) = &definitions()[0];
    let crd: Value = serde_yaml::from_str(yaml).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn cel_messages(manifest: &Value, old: Option<&Value>) -> Vec<String> {
    let errors = Validator::new().validate(&schema(), manifest, old);
    errors
        .err()
        .map(kube::core::cel::ValidationErrors::into_vec)
        .unwrap_or_default()
        .into_iter()
        .map(|error| error.message)
        .collect()
}

/// What the API server does before it looks at the rules.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}

/// What `parse` says instead, if it does not say what it should. Panics if CEL or `validate` disagree.
fn check(bad: &Bad) -> Option<String> {
    let text = complete(bad.manifest);
    let mistakes = parse(&text).expect_err(bad.name);
    let said: Vec<String> = mistakes
        .iter()
        .map(|mistake| match (mistake.line, mistake.column) {
            (Some(line), Some(column)) => format!("{line}:{column} {mistake}"),
            _ => mistake.to_string(),
        })
        .collect();
    if said != bad.said {
        return Some(format!("{}:\n{}\n", bad.name, said.join("\n")));
    }
    if bad.cel.is_empty() {
        return None;
    }
    let value: Value = serde_yaml::from_str(&text).unwrap();
    let messages = cel_messages(&value, None);
    for expected in bad.cel {
        assert!(messages.iter().any(|message| message.contains(expected)), "{}: CEL says {messages:?}", bad.name);
    }
    // A manifest that only rules refuse is typed: the controller's entrance says the same.
    if let Ok(job) = serde_json::from_value::<StreamJob>(value) {
        let typed: BTreeSet<String> = validate(&job).expect_err(bad.name).iter().map(ToString::to_string).collect();
        assert_eq!(typed, mistakes.iter().map(ToString::to_string).collect(), "{}", bad.name);
    }
    None
}

#[test]
fn each_bad_manifest_is_refused_with_its_place_and_a_cure() {
    let differences: String = BAD.iter().filter_map(check).collect();
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn each_good_manifest_passes_every_check() {
    for manifest in GOOD {
        let text = complete(manifest);
        let parsed = parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{text}"));
        let mut documents: Vec<Value> = serde_yaml::from_multiple(&text).unwrap();
        drop_nulls(&mut documents[0]);
        assert!(cel_messages(&documents[0], None).is_empty(), "{text}");
        let mut typed = validate(&parsed.raw).unwrap();
        typed.sql_position = parsed.sql_position;
        assert_eq!(typed, parsed, "{text}");
    }
}

#[test]
fn what_cannot_change_is_refused_by_both() {
    for (old, new, path, cel) in FORBIDDEN_CHANGES {
        let job = |text: &str| parse(&complete(text)).unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{text}")).raw;
        let (old, new) = (job(old), job(new));
        let paths: Vec<String> =
            validate_update(&old, &new).unwrap_err().into_iter().map(|mistake| mistake.path).collect();
        assert_eq!(paths, [*path], "{new:?}");
        assert!(validate_update(&old, &old).is_ok() && validate_update(&new, &new).is_ok());
        let (old, new) = (serde_json::to_value(old).unwrap(), serde_json::to_value(new).unwrap());
        let messages = cel_messages(&new, Some(&old));
        assert!(messages.iter().any(|message| message.contains(cel)), "{cel}: CEL says {messages:?}");
        assert!(cel_messages(&new, Some(&new)).is_empty());
    }
}

#[test]
fn what_may_change_is_let_through_by_both() {
    for (old, new) in [
        ("  parallelism: 1\n", "  parallelism: 128\n"),
        ("  state: Running\n", "  storage: {local: {path: /state}}\n  state: Suspended\n"),
        ("  storage: {s3: {bucket: abc}}\n", "  storage: {s3: {bucket: abc, region: eu, endpoint: \"http://s3\"}}\n"),
    ] {
        let job = |text: &str| parse(&complete(text)).unwrap().raw;
        let (old, new) = (job(old), job(new));
        assert!(validate_update(&old, &new).is_ok());
        let (old, new) = (serde_json::to_value(old).unwrap(), serde_json::to_value(new).unwrap());
        assert!(cel_messages(&new, Some(&old)).is_empty());
    }
}

/// So that no rule is in the CRD that no manifest of the tables breaks.
#[test]
fn every_cel_rule_of_a_stream_job_is_broken_by_a_manifest() {
    fn collect(schema: &Value, into: &mut BTreeSet<String>) {
        match schema {
            Value::Object(map) => {
                if let Some(Value::Array(rules)) = map.get("x-kubernetes-validations") {
                    into.extend(rules.iter().map(|rule| rule["message"].as_str().unwrap().to_owned()));
                }
                map.values().for_each(|value| collect(value, into));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let mut messages = BTreeSet::new();
    collect(&schema(), &mut messages);
    let broken: Vec<&str> =
        BAD.iter().flat_map(|bad| bad.cel.iter().copied()).chain(FORBIDDEN_CHANGES.iter().map(|case| case.3)).collect();
    for message in messages {
        assert!(broken.iter().any(|part| message.contains(part)), "nothing breaks: {message}");
    }
}
