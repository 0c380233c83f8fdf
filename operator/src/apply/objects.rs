//! Objects that are applied as often as one likes, and deleted by name.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{PartialObjectMeta, PartialObjectMetaExt};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use xxhash_rust::xxh3::xxh3_64;

use super::{Effect, Error, Round, value};
use crate::cluster::Cluster;
use crate::controller::limited;
use crate::model::name;

/// An object that is applied; its answer is remembered.
pub(super) trait Applied:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned
{
    /// Remembers the answer of the server.
    fn remember(self, cluster: &Cluster);
}

fn metadata<K: Resource<DynamicType = ()>>(object: &K) -> PartialObjectMeta<K> {
    object.meta().clone().into_response_partial()
}

impl Applied for ConfigMap {
    fn remember(self, cluster: &Cluster) {
        cluster.config_maps.remember(metadata(&self));
    }
}

impl Applied for Service {
    fn remember(self, cluster: &Cluster) {
        cluster.services.remember(self);
    }
}

impl Applied for PodDisruptionBudget {
    fn remember(self, cluster: &Cluster) {
        cluster.budgets.remember(metadata(&self));
    }
}

impl Applied for NetworkPolicy {
    fn remember(self, cluster: &Cluster) {
        cluster.policies.remember(metadata(&self));
    }
}

impl Round<'_> {
    /// Applies an object over the version that was seen; not while neither the wish nor the object has changed since.
    pub(super) async fn applied<K: Applied>(&self, kind: &'static str, object: &K) -> Result<Effect, Error> {
        let object_name = object.name_any();
        let mut body = value(object);
        let hash = xxh3_64(body.to_string().as_bytes());
        let seen = self.ctx.cluster.version(kind, self.key, &object_name);
        let slot = (kind, object_name.clone());
        let last = self.ctx.notes.edit(self.uid, |note| note.applied.get(&slot).cloned());
        if let (Some((of, version)), Some(seen)) = (&last, &seen)
            && *of == hash
            && version == seen
        {
            return Ok(Effect::None);
        }
        if let Some(seen) = &seen {
            body["metadata"]["resourceVersion"] = json!(seen);
        }
        let api = self.ctx.api::<K>(&self.key.namespace);
        let params = PatchParams::apply(name::CONTROLLER).force();
        let applied = limited(api.patch(&object_name, &params, &Patch::Apply(&body))).await;
        let applied = self.checked("apply", kind, format!("{kind} {object_name}"), applied)?;
        let version = applied.resource_version().unwrap_or_default();
        let effect = if seen.as_ref() == Some(&version) { Effect::None } else { Effect::Written };
        self.ctx.notes.edit(self.uid, |note| note.applied.insert(slot, (hash, version)));
        applied.remember(&self.ctx.cluster);
        Ok(effect)
    }

    /// Deletes an object that may be gone already.
    pub(super) async fn delete<K>(&self, kind: &'static str, object_name: &str) -> Result<(), Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api = self.ctx.api::<K>(&self.key.namespace);
        let deleted = limited(api.delete(object_name, &DeleteParams::background())).await;
        self.ctx.notes.edit(self.uid, |note| note.applied.remove(&(kind, object_name.to_owned())));
        if self.is_gone(&deleted) {
            return Ok(());
        }
        self.checked("delete", kind, format!("{kind} {object_name}"), deleted).map(drop)
    }
}
