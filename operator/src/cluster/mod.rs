//! The cluster as the controller last saw it: what its watches have delivered, and what its own writes have answered.
//!
//! Only what decisions need is kept, by job. A write's answer is remembered at once, so that nothing is decided from a view
//! older than this controller's own last write; an event of a watch that is older than what is known is passed over.
//!
//! After a watch had to start again its kind may, for a moment, be older than that. What is decided from it then is
//! refused: pods and revisions have names that can be taken once, everything else carries the version that was seen.

mod kept;
mod table;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use parking_lot::Mutex;

pub use kept::{Kept, KeptConfigMap, KeptJob, KeptObject, KeptRevision, KeptSavepoint, KeptService};
pub use table::{Entry, Table};
pub use watch::{Scope, Touched, watch};

use crate::model::PodSeen;

/// A StreamJob, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl JobKey {
    /// The job of this name.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// A ConfigMap's texts, and the version that they are of.
type Texts = (String, Arc<BTreeMap<String, String>>);

/// Everything that is kept of the cluster, or of one namespace.
#[derive(Default)]
pub struct Cluster {
    /// StreamJobs.
    pub jobs: Table<KeptJob>,
    /// Savepoints, by the job that they are of.
    pub savepoints: Table<KeptSavepoint>,
    /// Pods of jobs.
    pub pods: Table<PodSeen>,
    /// Revisions of jobs.
    pub revisions: Table<KeptRevision>,
    /// Services of jobs.
    pub services: Table<KeptService>,
    /// All ConfigMaps, by their own names: anyone can be referred to by a job's `sqlFrom`.
    pub config_maps: Table<KeptConfigMap>,
    /// PodDisruptionBudgets of jobs.
    pub budgets: Table<KeptObject<PodDisruptionBudget>>,
    /// NetworkPolicies of jobs.
    pub policies: Table<KeptObject<NetworkPolicy>>,
    /// Texts of the ConfigMaps that jobs refer to.
    texts: Mutex<BTreeMap<JobKey, Texts>>,
}

impl Cluster {
    /// Whether all watches have delivered what there is.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        [
            self.jobs.is_complete(),
            self.savepoints.is_complete(),
            self.pods.is_complete(),
            self.revisions.is_complete(),
            self.services.is_complete(),
            self.config_maps.is_complete(),
            self.budgets.is_complete(),
            self.policies.is_complete(),
        ]
        .into_iter()
        .all(|complete| complete)
    }

    /// The version of an object that is applied; none if there is no such object.
    #[must_use]
    pub fn version(&self, kind: &str, job: &JobKey, name: &str) -> Option<String> {
        match kind {
            "ConfigMap" => self.config_maps.get(&JobKey::new(&job.namespace, name), name).map(|entry| entry.version),
            "Service" => self.services.get(job, name).map(|entry| entry.version),
            "PodDisruptionBudget" => self.budgets.get(job, name).map(|entry| entry.version),
            "NetworkPolicy" => self.policies.get(job, name).map(|entry| entry.version),
            _ => None,
        }
    }

    /// The texts of a ConfigMap in the version that was seen, if they were read.
    #[must_use]
    pub fn texts(&self, config_map: &JobKey) -> Option<Arc<BTreeMap<String, String>>> {
        let version = self.config_maps.get(config_map, &config_map.name)?.version;
        let texts = self.texts.lock();
        let (of, texts) = texts.get(config_map)?;
        (*of == version).then(|| Arc::clone(texts))
    }

    /// Remembers the texts of a ConfigMap that was read.
    pub fn remember_texts(&self, config_map: ConfigMap) -> Arc<BTreeMap<String, String>> {
        let meta = &config_map.metadata;
        let key = JobKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        let version = meta.resource_version.clone().unwrap_or_default();
        self.config_maps.remember(PartialObjectMeta {
            types: None,
            metadata: config_map.metadata,
            _phantom: std::marker::PhantomData,
        });
        let texts = Arc::new(config_map.data.unwrap_or_default());
        self.texts.lock().insert(key, (version, Arc::clone(&texts)));
        texts
    }

    /// Forgets the texts of ConfigMaps that no job refers to.
    pub fn forget_texts(&self, needed: impl Fn(&JobKey) -> bool) {
        self.texts.lock().retain(|key, _| needed(key));
    }
}
