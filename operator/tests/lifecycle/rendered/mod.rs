//! The objects that jobs are made of, whatever their manifests say.

mod names;
mod network;
mod security;

use serde_json::{Value, json};
use weir_crds::{DesiredState, StreamJob};
use weir_operator::model::{Object, PodSeen, Write, name};

use crate::cluster::Cluster;
use crate::situations::savepoint;

/// A manifest of every kind: what is added to the spec of a job of two workers.
fn manifests() -> Vec<(&'static str, Value)> {
    let template = json!({
        "metadata": {
            "labels": {"team": "data", "weir.dev/active": "true", "weir.dev/role": "check", "weir.dev/ordinal": "7"},
            "annotations": {"note": "x", "weir.dev/failures": "9"},
        },
        "spec": {
            "nodeSelector": {"disk": "ssd"}, "serviceAccountName": "busy", "imagePullSecrets": [{"name": "registry"}],
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "env": [{"name": "TZ", "value": "UTC"}, {"name": "WEIR_TLS", "value": "/tmp"}],
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
            "volumes": [{"name": "ca", "configMap": {"name": "ca"}}, {"name": "weir-tls", "hostPath": {"path": "/"}}],
            "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}, {"name": "ca", "mountPath": "/etc/weir"}],
        },
    });
    let keys = json!({"bucket": "states", "credentialsSecretRef": {"name": "states-key"}});
    vec![
        ("as few fields as can be", json!({})),
        (
            "every field of the template",
            json!({"worker": {"image": "weir:1", "podTemplate": template,
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}}}),
        ),
        ("a disk", json!({"storage": {"persistentVolumeClaim": {"claimName": "disk", "subPath": "jobs"}}})),
        (
            "secrets",
            json!({"storage": {"s3": keys}, "pipeline": {"sql":
            "CREATE TABLE a (x INT) WITH ('password' = '${secret:kafka/password}'); INSERT INTO a SELECT 1"}}),
        ),
    ]
}

/// All that is written for a job: its first start, an upgrade, a crash, a stop, and a savepoint after it.
fn written(edit: impl FnOnce(&mut StreamJob)) -> Vec<Write> {
    let mut cluster = Cluster::new();
    cluster.edit(edit);
    cluster.rounds(13);
    cluster.sql("INSERT INTO a SELECT x FROM b");
    cluster.rounds(13);
    let now = cluster.now;
    let leader = cluster.seen_pods().into_iter().find(PodSeen::leads).unwrap().name;
    cluster.pods.get_mut(&leader).unwrap().status = Some(crate::cluster::crashing(101, "panicked", now));
    cluster.rounds(13);
    cluster.edit(|job| job.spec.state = DesiredState::Suspended);
    cluster.rounds(8);
    savepoint(&mut cluster);
    cluster.rounds(5);
    cluster.written
}

/// All that is written for a job with these fields.
fn with(fields: &Value) -> Vec<Write> {
    written(|job| {
        let mut spec = json!(job.spec);
        for (field, value) in fields.as_object().unwrap() {
            spec[field] = value.clone();
        }
        job.spec = serde_json::from_value(spec).unwrap();
    })
}

fn pods(written: &[Write]) -> Vec<Value> {
    let pods = written.iter().filter_map(|write| match write {
        Write::CreatePod(pod) => Some(json!(pod)),
        _ => None,
    });
    pods.collect()
}

/// Every object that was made, with its kind.
fn objects(written: &[Write]) -> Vec<(&'static str, Value)> {
    let objects = written.iter().filter_map(|write| match write {
        Write::CreatePod(pod) => Some(("Pod", json!(pod))),
        Write::CreateRevision(revision) => Some(("ControllerRevision", json!(revision))),
        Write::Apply(Object::ConfigMap(object)) => Some(("ConfigMap", json!(object))),
        Write::Apply(Object::Service(object)) => Some(("Service", json!(object))),
        Write::Apply(Object::PodDisruptionBudget(object)) => Some(("PodDisruptionBudget", json!(object))),
        Write::Apply(Object::NetworkPolicy(object)) => Some(("NetworkPolicy", json!(object))),
        _ => None,
    });
    objects.collect()
}

fn label<'a>(object: &'a Value, label: &str) -> Option<&'a str> {
    object["metadata"]["labels"][label].as_str()
}

#[test]
fn a_story_has_pods_of_every_role() {
    for (manifest, fields) in manifests() {
        let pods = pods(&with(&fields));
        let count = |role: &str| pods.iter().filter(|pod| label(pod, name::LABEL_ROLE) == Some(role)).count();
        assert!(count("worker") >= 5 && count("check") == 1 && count("maintenance") == 1, "{manifest}");
    }
}

#[test]
fn labels_and_annotations_of_the_controller_are_its_own() {
    let fields = &manifests()[1].1;
    for pod in pods(&with(fields)) {
        let name = &pod["metadata"]["name"];
        assert_eq!(label(&pod, "team"), Some("data"), "{name}");
        let role = label(&pod, name::LABEL_ROLE).unwrap();
        let ordinal = label(&pod, name::LABEL_ORDINAL);
        assert_eq!(ordinal.is_some(), role == "worker", "{name}: {role} {ordinal:?}");
        assert!(ordinal != Some("7"), "{name}");
        // Pods of the next revision are outside of the scale selector, until it is in force.
        let warm = role != "worker" || label(&pod, name::LABEL_REVISION) == Some("2");
        let active = label(&pod, name::LABEL_ACTIVE).is_some();
        assert!(!(warm && active) || label(&pod, name::LABEL_ATTEMPT) != Some("1"), "{name} is in the scale selector");
        assert!(pod["metadata"]["annotations"][name::FAILURES] != "9", "{name}");
    }
}
