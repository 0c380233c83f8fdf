//! Names and labels stay within what a cluster takes, however long those of the job are.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use weir_crds::StreamJob;
use weir_operator::certificates::{Role, authority_name};
use weir_operator::model::name;

use super::{objects, written};

/// The longest name that the CRD takes.
const LONGEST_JOB: usize = 45;
const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 253;

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let outer = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = text.as_bytes();
    text.len() <= LONGEST_LABEL && bytes.iter().copied().all(inner) && outer(bytes.first()) && outer(bytes.last())
}

fn is_value(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && text.chars().all(|of| of.is_ascii_alphanumeric() || "-_.".contains(of))
}

/// Every text that a selector or a label holds.
fn label_values(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_map = matches!(name.as_str(), "labels" | "matchLabels" | "selector");
                let texts = value.as_object().into_iter().flatten().filter_map(|(_, text)| text.as_str());
                found.extend(texts.filter(|_| is_map).map(str::to_owned));
                label_values(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| label_values(item, found)),
        _ => {}
    }
}

fn called(job: &str, namespace: &str) -> impl FnOnce(&mut StreamJob) {
    move |of| {
        let metadata = std::mem::take(&mut of.metadata);
        of.metadata = ObjectMeta { name: Some(job.to_owned()), namespace: Some(namespace.to_owned()), ..metadata };
    }
}

#[test]
fn objects_of_jobs_with_the_longest_names_are_taken() {
    let names = ["x".repeat(LONGEST_JOB), "a".to_owned(), format!("a{}b", "-".repeat(LONGEST_JOB - 2))];
    for job in &names {
        let namespace = "n".repeat(LONGEST_LABEL);
        for (kind, object) in objects(&written(called(job, &namespace))) {
            let name = object["metadata"]["name"].as_str().unwrap();
            assert_eq!(object["metadata"]["namespace"], namespace.as_str(), "{kind} {name}");
            // A pod's name is its host's, which has to be a label; what a Service is called too.
            assert!(is_label(name), "{kind} {name} has {} characters", name.len());
            let mut values = Vec::new();
            label_values(&object, &mut values);
            assert!(!values.is_empty() && values.iter().all(|value| is_value(value)), "{kind} {name}: {values:?}");
        }
    }
}

/// The CRD refuses a longer name; this is why. A pod whose number is higher still has a name, but not a host's.
#[test]
fn numbers_may_grow_for_as_long_as_anybody_lives() {
    let job = "x".repeat(LONGEST_JOB);
    let service = name::leader_service(&job, 9_999_999_999);
    assert_eq!(service.len(), LONGEST_LABEL, "{service}");
    assert!(is_label(&service) && is_label(&name::service(&job)));
    let pod = name::worker(&job, 9_999, 99_999, 99_999);
    assert_eq!(pod.len(), LONGEST_LABEL, "{pod}");
    assert!(name::worker(&job, u32::MAX, u64::MAX, u64::MAX).len() < LONGEST_NAME);
    for secret in [authority_name(&job), Role::Worker.secret(&job), Role::Controller.secret(&job)] {
        assert!(is_label(&secret), "{secret}");
    }
}
