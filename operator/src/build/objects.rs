//! Objects beside the pods: revisions, manifests, Services, the disruption budget, the network policy.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

use super::{label_map, labels, metadata};
use crate::model::{Content, Observed, RevisionSeen, Role, name};

/// The key of a revision's ConfigMap that holds the manifest.
pub(super) const MANIFEST: &str = "job.yaml";

/// A revision object: it never changes, but for the annotations that tell what became of it.
pub(super) fn revision(observed: &Observed, number: u64, content: &Content) -> ControllerRevision {
    ControllerRevision {
        metadata: metadata(observed, name::revision(observed.name(), number)),
        revision: i64::try_from(number).ok(),
        data: RawExtension(serde_json::json!(content)),
    }
}

/// The manifest that the workers of a program read. It is JSON, so that places in SQL are lines of the SQL, whatever the
/// user's own manifest looks like.
pub(super) fn config(observed: &Observed, program: &RevisionSeen) -> Option<ConfigMap> {
    let manifest = program.content.manifest.as_ref()?;
    let text = serde_json::to_string_pretty(manifest).ok()?;
    Some(ConfigMap {
        metadata: metadata(observed, name::revision(observed.name(), program.number)),
        data: Some(BTreeMap::from([(MANIFEST.to_owned(), text)])),
        immutable: Some(true),
        binary_data: None,
    })
}

/// Where the workers of a program find their leader. It is also where the highest attempt of a leader is written down.
pub(super) fn leader_service(observed: &Observed, program: u64, attempt: u64, address: Option<&str>) -> Service {
    let mut metadata = metadata(observed, name::leader_service(observed.name(), program));
    metadata.annotations = Some(label_map([(name::LEADER_ATTEMPT, attempt.to_string())]));
    let ports = vec![port("control", name::CONTROL_PORT), port("api", name::API_PORT)];
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: address.map(str::to_owned),
            selector: Some(leader(observed, program, attempt)),
            ports: Some(ports),
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Where people find the leader of what is in force.
pub(super) fn service(observed: &Observed, revision: u64, program: u64, attempt: u64) -> Service {
    let mut metadata = metadata(observed, name::service(observed.name()));
    metadata.annotations = Some(label_map([(name::IN_FORCE, revision.to_string())]));
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            selector: Some(leader(observed, program, attempt)),
            ports: Some(vec![port("api", name::API_PORT)]),
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn leader(observed: &Observed, program: u64, attempt: u64) -> BTreeMap<String, String> {
    label_map([
        (name::LABEL_JOB, observed.name().to_owned()),
        (name::LABEL_ROLE, Role::Worker.label().to_owned()),
        (name::LABEL_ORDINAL, "0".to_owned()),
        (name::LABEL_REVISION, program.to_string()),
        (name::LABEL_ATTEMPT, attempt.to_string()),
    ])
}

fn port(port_name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(port_name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

/// One worker may be evicted at a time; one that is not ready always.
pub(super) fn disruption_budget(observed: &Observed, workers: u32) -> PodDisruptionBudget {
    let least = i32::try_from(workers.saturating_sub(1)).unwrap_or(i32::MAX);
    PodDisruptionBudget {
        metadata: metadata(observed, observed.name().to_owned()),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(least)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            selector: Some(select(label_map([
                (name::LABEL_JOB, observed.name().to_owned()),
                (name::LABEL_ACTIVE, "true".to_owned()),
            ]))),
            max_unavailable: None,
        }),
        status: None,
    }
}

fn select(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

/// Workers talk to each other; controllers ask leaders; anybody may read health and metrics. Where the job reads and
/// writes is not known here, so what goes out is not limited.
pub(super) fn network_policy(observed: &Observed) -> NetworkPolicy {
    let workers = select(label_map([(name::LABEL_JOB, observed.name().to_owned())]));
    let controllers = select(label_map([(name::LABEL_APP, name::CONTROLLER.to_owned())]));
    let rule = |from: Option<Vec<NetworkPolicyPeer>>, ports: &[u16]| NetworkPolicyIngressRule {
        from,
        ports: Some(ports.iter().map(|number| policy_port(*number)).collect()),
    };
    let among = NetworkPolicyPeer { pod_selector: Some(workers), ..NetworkPolicyPeer::default() };
    let asking = NetworkPolicyPeer {
        pod_selector: Some(controllers),
        namespace_selector: Some(LabelSelector::default()),
        ip_block: None,
    };
    NetworkPolicy {
        metadata: metadata(observed, observed.name().to_owned()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(select(BTreeMap::from_iter(
                labels(observed).into_iter().filter(|(label, _)| label == name::LABEL_JOB),
            ))),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                rule(Some(vec![among]), &[name::CONTROL_PORT, name::EXCHANGE_PORT]),
                rule(Some(vec![asking]), &[name::API_PORT]),
                rule(None, &[name::HEALTH_PORT]),
            ]),
            egress: None,
        }),
    }
}

fn policy_port(number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}
