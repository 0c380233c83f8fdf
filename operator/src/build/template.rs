//! What a user adds to the pods, merged with what the controller sets: the controller's wins.

use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, ResourceRequirements, Toleration, Volume, VolumeMount,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use weir_crds::{PodTemplatePodSpec, PodTemplateSpec, ResourcesSpec, WorkerSpec};

use crate::model::name;

/// How long a pod stays on a node that is not ready or cannot be reached, in seconds. Its replacement does not wait for
/// it: this only tells the cluster early that it is gone.
const LOST_NODE_S: i64 = 10;

/// The parts of a user's template.
pub(super) struct Template {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    spec: PodTemplatePodSpec,
    resources: Option<ResourcesSpec>,
}

impl Template {
    pub(super) fn of(worker: &WorkerSpec) -> Self {
        let PodTemplateSpec { metadata, spec } = worker.pod_template.clone().unwrap_or_default();
        let metadata = metadata.unwrap_or_default();
        Self {
            labels: theirs(metadata.labels),
            annotations: theirs(metadata.annotations),
            spec: spec.unwrap_or_default(),
            resources: worker.resources.clone(),
        }
    }

    /// Placement and identity.
    pub(super) fn place(&self, pod: &mut PodSpec) {
        let spec = &self.spec;
        pod.node_selector = Some(spec.node_selector.clone()).filter(|selector| !selector.is_empty());
        pod.affinity = spec.affinity.clone().and_then(read);
        pod.service_account_name.clone_from(&spec.service_account_name);
        pod.image_pull_secrets = Some(spec.image_pull_secrets.clone()).filter(|secrets| !secrets.is_empty());
        pod.tolerations = Some(self.tolerations());
    }

    fn tolerations(&self) -> Vec<Toleration> {
        let mut tolerations = self.spec.tolerations.clone();
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let given = tolerations.iter().any(|toleration| toleration.key.as_deref() == Some(key));
            if !given {
                tolerations.push(Toleration {
                    key: Some(key.to_owned()),
                    operator: Some("Exists".to_owned()),
                    effect: Some("NoExecute".to_owned()),
                    toleration_seconds: Some(LOST_NODE_S),
                    value: None,
                });
            }
        }
        tolerations
    }

    /// The user's variables, but for those that are `ours`, and then these.
    pub(super) fn env(&self, ours: Vec<EnvVar>) -> Vec<EnvVar> {
        let names: BTreeSet<String> = ours.iter().map(|variable| variable.name.clone()).collect();
        let theirs = self.spec.env.iter().filter(|variable| !names.contains(&variable.name)).cloned();
        theirs.chain(ours).collect()
    }

    /// The user's volumes, but for those named like `ours`, and these.
    pub(super) fn volumes(&self, ours: Vec<Volume>) -> Vec<Volume> {
        let names: BTreeSet<String> = ours.iter().map(|volume| volume.name.clone()).collect();
        let theirs = self.spec.volumes.iter().cloned().filter_map(read::<Volume>);
        ours.into_iter().chain(theirs.filter(|volume| !names.contains(&volume.name))).collect()
    }

    /// The user's mounts, but for those at places of `ours`, and these.
    pub(super) fn mounts(&self, ours: Vec<VolumeMount>) -> Vec<VolumeMount> {
        let places: BTreeSet<String> = ours.iter().map(|mount| mount.mount_path.clone()).collect();
        let theirs = self.spec.volume_mounts.iter().cloned().filter_map(read::<VolumeMount>);
        ours.into_iter().chain(theirs.filter(|mount| !places.contains(&mount.mount_path))).collect()
    }

    pub(super) fn resources(&self) -> Option<ResourceRequirements> {
        let resources = self.resources.as_ref()?;
        Some(ResourceRequirements {
            requests: Some(resources.requests.clone()).filter(|requests| !requests.is_empty()),
            limits: Some(resources.limits.clone()).filter(|limits| !limits.is_empty()),
            claims: None,
        })
    }
}

/// Labels and annotations but for those that have a meaning to the controller.
fn theirs(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.into_iter().filter(|(label, _)| !label.starts_with(name::PREFIX)).collect()
}

/// Parts that are kept as they were written; the API server has not looked into them, so they may be anything.
fn read<T: DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

/// A variable with a value.
pub(super) fn variable(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), value_from: None }
}

/// A variable with something of the pod's own.
pub(super) fn of_pod(name: &str, field: &str) -> EnvVar {
    let selector = ObjectFieldSelector { api_version: None, field_path: field.to_owned() };
    let source = EnvVarSource { field_ref: Some(selector), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}
