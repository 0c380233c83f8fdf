//! The watches that feed the tables.

use std::fmt::Debug;
use std::sync::Arc;

use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Config, Event};
use kube::runtime::{WatchStreamExt, metadata_watcher, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use weir_crds::{Savepoint, StreamJob};

use super::{Cluster, JobKey, Kept, Table};
use crate::model::name;
use crate::telemetry::Metrics;

/// What part of the cluster is looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All namespaces.
    Cluster,
    /// One namespace.
    Namespace(String),
}

impl Scope {
    /// The objects of a kind within this scope.
    #[must_use]
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// Something has changed: the kind, and the job (of ConfigMaps: their own name).
pub type Touched = (&'static str, JobKey);

/// Watches everything that decisions are made of and keeps it in `cluster`; tells what has changed. Only objects of jobs are
/// asked for, and of kinds of which no content matters only metadata. Watches that break are taken up again, later each
/// time; the stream does not end.
pub fn watch(
    client: &Client,
    scope: &Scope,
    cluster: &Arc<Cluster>,
    metrics: &Arc<Metrics>,
) -> impl Stream<Item = Touched> + Send + use<> {
    let of_jobs = || Config::default().labels(name::LABEL_JOB);
    let feed = Feed { cluster, metrics };
    let mut all: SelectAll<BoxStream<'static, Touched>> = SelectAll::new();
    all.push(feed.of("StreamJob", objects::<StreamJob>(scope.api(client), Config::default()), |of| &of.jobs));
    all.push(feed.of("Savepoint", objects::<Savepoint>(scope.api(client), Config::default()), |of| &of.savepoints));
    all.push(feed.of("Pod", objects::<Pod>(scope.api(client), of_jobs()), |of| &of.pods));
    let revisions = objects::<ControllerRevision>(scope.api(client), of_jobs());
    all.push(feed.of("ControllerRevision", revisions, |of| &of.revisions));
    all.push(feed.of("Service", objects::<Service>(scope.api(client), of_jobs()), |of| &of.services));
    let config_maps = metadata::<ConfigMap>(scope.api(client), Config::default());
    all.push(feed.of("ConfigMap", config_maps, |of| &of.config_maps));
    let budgets = metadata::<PodDisruptionBudget>(scope.api(client), of_jobs());
    all.push(feed.of("PodDisruptionBudget", budgets, |of| &of.budgets));
    let policies = metadata::<NetworkPolicy>(scope.api(client), of_jobs());
    all.push(feed.of("NetworkPolicy", policies, |of| &of.policies));
    all
}

type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

struct Feed<'a> {
    cluster: &'a Arc<Cluster>,
    metrics: &'a Arc<Metrics>,
}

impl Feed<'_> {
    fn of<T: Kept>(
        &self,
        kind: &'static str,
        events: Events<T::Object>,
        table: fn(&Cluster) -> &Table<T>,
    ) -> BoxStream<'static, Touched> {
        let (cluster, metrics) = (Arc::clone(self.cluster), Arc::clone(self.metrics));
        let jobs = events.map(move |event| match event {
            Ok(event) => table(&cluster).take(event),
            Err(error) => {
                metrics.watch_broke(kind);
                tracing::warn!(kind, error = %error, "a watch broke and is taken up again");
                Vec::new()
            }
        });
        jobs.flat_map(move |jobs| futures::stream::iter(jobs.into_iter().map(move |job| (kind, job)))).boxed()
    }
}

fn objects<K>(api: Api<K>, config: Config) -> Events<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watcher(api, config).default_backoff().boxed()
}

fn metadata<K>(api: Api<K>, config: Config) -> Events<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    metadata_watcher(api, config).default_backoff().boxed()
}
