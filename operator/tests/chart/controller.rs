//! The chart goes with the program: its flags, its rights, its labels, its ports.

use std::collections::{BTreeMap, BTreeSet};

use clap::Parser;
use serde_json::Value;
use weir_operator::cli::Args;
use weir_operator::model::name;

use crate::helm::Helm;
use crate::{MONITORING, NAMESPACED, WITHOUT_CRDS};

/// Verbs by group and resource.
type Rights = BTreeMap<(String, String), BTreeSet<String>>;

fn find(objects: &[Value], kind: &str, name: &str) -> Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}")).clone()
}

fn texts(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).unwrap()
}

#[test]
fn the_program_takes_the_flags_that_it_is_given() {
    let Some(helm) = Helm::find("the_program_takes_the_flags_that_it_is_given") else { return };
    for (values, namespaces) in [(&[][..], &[][..]), (&[NAMESPACED], &["shop", "bank"])] {
        let deployment = find(&helm.objects(values), "Deployment", "weir");
        let args = texts(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
        let args = Args::try_parse_from(std::iter::once("weir-operator".to_owned()).chain(args)).unwrap();
        let given: Vec<&String> = args.namespaces.iter().filter(|name| !name.is_empty()).collect();
        assert_eq!(given, namespaces);
        assert_eq!((args.worker_image.as_str(), args.lease_name.as_str()), ("weir/worker:0.1.0", "weir"));
        assert_eq!(args.listen.port(), 8080);
    }
}

/// What modules say that they need, in the tables of their documentation.
fn needed() -> Rights {
    let mut rights = Rights::new();
    for module in ["observe", "apply"] {
        let path = format!("{}/src/{module}/mod.rs", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let rows: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("//! | ")).collect();
        assert!(rows.len() > 5, "{module} has no table of rights");
        // Without the head of the table and the line below it.
        for row in rows.iter().skip(1).filter(|row| !row.starts_with("--")) {
            let cells: Vec<&str> = row.split('|').collect();
            let quoted =
                |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
            let group = quoted(cells[0]).pop().unwrap_or_default();
            for resource in quoted(cells[1]) {
                rights.entry((group.clone(), resource)).or_default().extend(quoted(cells[2]));
            }
        }
    }
    let events = ("events.k8s.io".to_owned(), "events".to_owned());
    rights.entry(events).or_default().extend(["create".to_owned(), "patch".to_owned()]);
    rights
}

fn given(rules: &Value) -> Rights {
    let mut rights = Rights::new();
    for rule in rules.as_array().unwrap() {
        for (group, resource) in texts(&rule["apiGroups"])
            .iter()
            .flat_map(|group| texts(&rule["resources"]).into_iter().map(move |it| (group, it)))
        {
            rights.entry((group.clone(), resource)).or_default().extend(texts(&rule["verbs"]));
        }
    }
    rights
}

#[test]
fn the_controller_has_the_rights_that_it_needs_and_no_others() {
    let Some(helm) = Helm::find("the_controller_has_the_rights_that_it_needs_and_no_others") else { return };
    let objects = helm.objects(&[WITHOUT_CRDS]);
    let (given, needed) = (given(&find(&objects, "ClusterRole", "weir")["rules"]), needed());
    for (what, verbs) in &needed {
        assert_eq!(given.get(what), Some(verbs), "what the chart gives for {what:?}, and what the modules need");
    }
    assert_eq!(given.keys().collect::<Vec<_>>(), needed.keys().collect::<Vec<_>>());
    let lease = &find(&objects, "Role", "weir-lease")["rules"];
    assert_eq!(lease[1]["resourceNames"], serde_json::json!(["weir"]));
    assert_eq!(
        (texts(&lease[0]["verbs"]), texts(&lease[1]["verbs"])),
        (vec!["create".to_owned()], vec!["get".to_owned(), "update".to_owned()])
    );
}

#[test]
fn the_controller_is_reached_where_its_metrics_are_and_nowhere_else() {
    let Some(helm) = Helm::find("the_controller_is_reached_where_its_metrics_are_and_nowhere_else") else { return };
    let objects = helm.objects(&[WITHOUT_CRDS]);
    let policy = &find(&objects, "NetworkPolicy", "weir")["spec"];
    let pod = &find(&objects, "Deployment", "weir")["spec"]["template"];
    for (label, value) in policy["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(pod["metadata"]["labels"][label], *value, "{label}");
    }
    assert_eq!(texts(&policy["policyTypes"]), ["Ingress"], "what it calls has no address that is known");
    let ports: Vec<&Value> = policy["ingress"].as_array().unwrap().iter().map(|rule| &rule["ports"]).collect();
    assert_eq!(ports, [&serde_json::json!([{"port": "http", "protocol": "TCP"}])]);
    let listens = &pod["spec"]["containers"][0]["ports"];
    assert_eq!(*listens, serde_json::json!([{"name": "http", "containerPort": 8080, "protocol": "TCP"}]));
}

#[test]
fn jobs_know_the_controllers_pods_and_the_monitor_those_of_jobs() {
    let Some(helm) = Helm::find("jobs_know_the_controllers_pods_and_the_monitor_those_of_jobs") else { return };
    let objects = helm.objects(&[WITHOUT_CRDS, MONITORING]);
    let labels = &find(&objects, "Deployment", "weir")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels[name::LABEL_APP], name::CONTROLLER, "NetworkPolicies of jobs let in pods with this label");
    let monitor = &find(&objects, "PodMonitor", "weir-jobs")["spec"];
    assert_eq!(monitor["selector"]["matchLabels"][name::LABEL_APP], name::APP);
    assert_eq!(monitor["podMetricsEndpoints"][0]["port"], "health");
}
