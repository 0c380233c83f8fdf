//! Who may talk to whom, judged as a cluster judges it that enforces NetworkPolicies.

use serde_json::{Value, json};
use weir_operator::model::name;

use super::{objects, pods, with};

/// A pod in a network.
struct Host {
    who: &'static str,
    namespace: &'static str,
    labels: Value,
}

/// Whether the policies let a connection through.
fn is_allowed(policies: &[Value], from: &Host, to: &Host, port: u16) -> bool {
    let leaves = of(policies, from, "Egress").iter().all(|rules| any(rules, from.namespace, "to", to, port));
    let comes = of(policies, to, "Ingress").iter().all(|rules| any(rules, to.namespace, "from", from, port));
    // Where several policies select a pod, one that lets it through is enough; a job has one.
    assert!(of(policies, to, "Ingress").len() <= 1);
    leaves && comes
}

/// The rules of the policies that select a pod.
fn of(policies: &[Value], host: &Host, direction: &str) -> Vec<Value> {
    let selects = |policy: &&Value| {
        let types = policy["spec"]["policyTypes"].as_array().unwrap();
        policy["metadata"]["namespace"] == host.namespace
            && types.iter().any(|of| of == direction)
            && matches(&policy["spec"]["podSelector"], &host.labels)
    };
    policies.iter().filter(selects).map(|policy| policy["spec"][direction.to_lowercase()].clone()).collect()
}

fn any(rules: &Value, namespace: &str, peers: &str, other: &Host, port: u16) -> bool {
    let rules = rules.as_array().cloned().unwrap_or_default();
    rules.iter().any(|rule| {
        let peer = rule[peers].as_array().is_none_or(|of| of.iter().any(|peer| is_peer(peer, namespace, other)));
        let ports = rule["ports"].as_array();
        peer && ports.is_none_or(|of| of.iter().any(|of| of["protocol"] == "TCP" && of["port"] == port))
    })
}

fn is_peer(peer: &Value, namespace: &str, other: &Host) -> bool {
    assert!(peer["ipBlock"].is_null(), "addresses are not known here");
    let place = match &peer["namespaceSelector"] {
        Value::Null => namespace == other.namespace,
        selector => matches(selector, &json!({"kubernetes.io/metadata.name": other.namespace})),
    };
    place && (peer["podSelector"].is_null() || matches(&peer["podSelector"], &other.labels))
}

/// An empty selector selects everything.
fn matches(selector: &Value, labels: &Value) -> bool {
    assert!(selector["matchExpressions"].is_null(), "no policy has expressions");
    let wanted = selector["matchLabels"].as_object().cloned().unwrap_or_default();
    wanted.iter().all(|(label, value)| labels[label] == *value)
}

fn hosts() -> (Vec<Value>, Vec<Host>) {
    let written = with(&json!({}));
    let policies = objects(&written).into_iter().filter(|(kind, _)| *kind == "NetworkPolicy").map(|(_, policy)| policy);
    let mut policies: Vec<Value> = policies.collect();
    policies.dedup();
    let pods = pods(&written);
    let labels = |role: &str, ordinal: Option<&str>| {
        let is = |pod: &&Value| {
            super::label(pod, name::LABEL_ROLE) == Some(role) && super::label(pod, name::LABEL_ORDINAL) == ordinal
        };
        pods.iter().find(is).unwrap()["metadata"]["labels"].clone()
    };
    let worker = labels("worker", Some("1"));
    let mut other = worker.clone();
    other[name::LABEL_JOB] = json!("asks");
    let host = |who, namespace, labels| Host { who, namespace, labels };
    let controller = json!({name::LABEL_APP: name::CONTROLLER, "app.kubernetes.io/instance": "weir"});
    let hosts = vec![
        host("leader", "shop", labels("worker", Some("0"))),
        host("worker", "shop", worker.clone()),
        host("check", "shop", labels("check", None)),
        host("maintenance", "shop", labels("maintenance", None)),
        host("controller", "weir-system", controller),
        host("another job", "shop", other),
        host("a job of the same name elsewhere", "labs", worker),
        host("prometheus", "monitoring", json!({name::LABEL_APP: "prometheus"})),
        host("somebody in the namespace", "shop", json!({})),
    ];
    (policies, hosts)
}

/// Who may reach which port of whom: control, exchange, health, API.
const TABLE: &[(&str, &str, [bool; 4])] = &[
    ("worker", "leader", [true, true, true, false]),
    ("leader", "worker", [true, true, true, false]),
    ("check", "leader", [true, true, true, false]),
    ("maintenance", "worker", [true, true, true, false]),
    ("controller", "leader", [false, false, true, true]),
    ("controller", "worker", [false, false, true, true]),
    ("another job", "leader", [false, false, true, false]),
    ("another job", "worker", [false, false, true, false]),
    ("a job of the same name elsewhere", "leader", [false, false, true, false]),
    ("prometheus", "leader", [false, false, true, false]),
    ("prometheus", "worker", [false, false, true, false]),
    ("prometheus", "check", [false, false, true, false]),
    ("somebody in the namespace", "leader", [false, false, true, false]),
    // A job limits neither others nor where its own pods go.
    ("leader", "prometheus", [true, true, true, true]),
    ("leader", "another job", [true, true, true, true]),
    ("another job", "somebody in the namespace", [true, true, true, true]),
];

#[test]
fn the_network_policy_lets_in_whom_it_should() {
    let (policies, hosts) = hosts();
    assert_eq!(policies.len(), 1, "it never changes: {policies:#?}");
    let host = |who: &str| hosts.iter().find(|host| host.who == who).unwrap();
    let ports = [name::CONTROL_PORT, name::EXCHANGE_PORT, name::HEALTH_PORT, name::API_PORT];
    for (from, to, wanted) in TABLE {
        let reached = ports.map(|port| is_allowed(&policies, host(from), host(to), port));
        assert_eq!(reached, *wanted, "from {from} to {to}: {ports:?}");
    }
}

#[test]
fn without_a_policy_everybody_is_let_in() {
    let (_, hosts) = hosts();
    assert!(hosts.iter().all(|from| is_allowed(&[], from, &hosts[0], name::API_PORT)));
}
