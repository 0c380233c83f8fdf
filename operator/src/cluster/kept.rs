//! What is kept of each kind of object.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use serde::de::DeserializeOwned;
use weir_crds::{Savepoint, StreamJob};

use super::JobKey;
use crate::model::{PodSeen, RevisionSeen, SavepointSeen, ServiceSeen, name};

/// An annotation of `kubectl apply` that repeats the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What is kept of an object. Two equal ones lead to equal decisions.
pub trait Kept: Clone + PartialEq + Send + Sync + 'static {
    /// The object.
    type Object: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static;

    /// What is kept, and the job that it belongs to; none if it belongs to none.
    fn keep(object: Self::Object) -> Option<(JobKey, Self)>;
}

/// A StreamJob without what only the API server needs.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptJob(pub StreamJob);

impl Kept for KeptJob {
    type Object = StreamJob;

    fn keep(mut object: StreamJob) -> Option<(JobKey, Self)> {
        let meta = &mut object.metadata;
        meta.managed_fields = None;
        meta.resource_version = None;
        if let Some(annotations) = &mut meta.annotations {
            annotations.remove(LAST_APPLIED);
        }
        let key = JobKey::new(meta.namespace.clone()?, meta.name.clone()?);
        Some((key, Self(object)))
    }
}

/// A Savepoint.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptSavepoint {
    /// What decisions are made of.
    pub seen: SavepointSeen,
    /// All of its finalizers.
    pub finalizers: Vec<String>,
}

impl Kept for KeptSavepoint {
    type Object = Savepoint;

    fn keep(object: Savepoint) -> Option<(JobKey, Self)> {
        let key = JobKey::new(object.metadata.namespace.clone()?, object.spec.job_ref.name.clone());
        let finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        Some((key, Self { seen: SavepointSeen::of(&object), finalizers }))
    }
}

impl Kept for PodSeen {
    type Object = Pod;

    fn keep(object: Pod) -> Option<(JobKey, Self)> {
        Some((job(&object.metadata)?, Self::of(&object)?))
    }
}

/// A revision. What its workers read is kept as text: taken apart it is ten times as large.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptRevision {
    seen: RevisionSeen,
    manifest: Option<Box<str>>,
}

impl KeptRevision {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.seen.name
    }

    /// The revision.
    #[must_use]
    pub fn seen(&self) -> RevisionSeen {
        let mut seen = self.seen.clone();
        seen.content.manifest = self.manifest.as_ref().and_then(|text| serde_json::from_str(text).ok());
        seen
    }
}

impl Kept for KeptRevision {
    type Object = ControllerRevision;

    fn keep(object: ControllerRevision) -> Option<(JobKey, Self)> {
        let mut seen = RevisionSeen::of(&object)?;
        let manifest = seen.content.manifest.take().map(|manifest| manifest.to_string().into_boxed_str());
        Some((job(&object.metadata)?, Self { seen, manifest }))
    }
}

/// A Service.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptService(pub ServiceSeen);

impl Kept for KeptService {
    type Object = Service;

    fn keep(object: Service) -> Option<(JobKey, Self)> {
        let key = job(&object.metadata)?;
        let address =
            object.spec.and_then(|spec| spec.cluster_ip).filter(|address| !address.is_empty() && address != "None");
        let annotations: BTreeMap<_, _> = object.metadata.annotations.unwrap_or_default();
        Some((key, Self(ServiceSeen { address, annotations })))
    }
}

/// A ConfigMap, under its own name.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptConfigMap {
    version: Option<String>,
}

impl Kept for KeptConfigMap {
    type Object = PartialObjectMeta<ConfigMap>;

    fn keep(object: Self::Object) -> Option<(JobKey, Self)> {
        let meta = object.metadata;
        let key = JobKey::new(meta.namespace.clone()?, meta.name.clone()?);
        Some((key, Self { version: meta.resource_version }))
    }
}

/// An object of which only the version matters.
pub struct KeptObject<K> {
    version: Option<String>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for KeptObject<K> {
    fn clone(&self) -> Self {
        Self { version: self.version.clone(), kind: PhantomData }
    }
}

impl<K> PartialEq for KeptObject<K> {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

impl<K> Kept for KeptObject<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    type Object = PartialObjectMeta<K>;

    fn keep(object: Self::Object) -> Option<(JobKey, Self)> {
        Some((job(&object.metadata)?, Self { version: object.metadata.resource_version, kind: PhantomData }))
    }
}

/// The job that an object was made for.
fn job(meta: &ObjectMeta) -> Option<JobKey> {
    let name = meta.labels.as_ref()?.get(name::LABEL_JOB)?;
    Some(JobKey::new(meta.namespace.clone()?, name.clone()))
}
