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
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, Result as Watched, watcher};
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

/// Something has changed: the kind, and the jobs (of ConfigMaps: their own names). None: all of a kind is there.
pub type Touched = (&'static str, Vec<JobKey>);

/// Objects that are asked for at a time when all are: as they come they take many times what is kept of them, and all kinds
/// come together.
const PAGE: u32 = 50;

/// Watches everything that decisions are made of and keeps it in `cluster`; tells what has changed. Only objects of jobs are
/// asked for, but for ConfigMaps: any may hold the SQL of a job. Of kinds of which no content matters, or which are read by
/// name, only metadata comes. Watches that break are taken up again, later each time; the stream does not end.
pub fn watch(
    client: &Client,
    scope: &Scope,
    cluster: &Arc<Cluster>,
    metrics: &Arc<Metrics>,
) -> impl Stream<Item = Touched> + Send + use<> {
    let everything = || Config::default().page_size(PAGE);
    let of_jobs = || everything().labels(name::LABEL_JOB);
    let feed = Feed { cluster, metrics };
    let mut all: SelectAll<BoxStream<'static, Touched>> = SelectAll::new();
    all.push(feed.of("StreamJob", objects::<StreamJob>(scope.api(client), everything()), |of| &of.jobs));
    all.push(feed.of("Savepoint", objects::<Savepoint>(scope.api(client), everything()), |of| &of.savepoints));
    all.push(feed.of("Pod", objects::<Pod>(scope.api(client), of_jobs()), |of| &of.pods));
    let revisions = objects::<ControllerRevision>(scope.api(client), of_jobs());
    all.push(feed.of("ControllerRevision", revisions, |of| &of.revisions));
    all.push(feed.of("Service", objects::<Service>(scope.api(client), of_jobs()), |of| &of.services));
    let config_maps = objects::<PartialObjectMeta<ConfigMap>>(scope.api(client), everything());
    all.push(feed.of("ConfigMap", config_maps, |of| &of.config_maps));
    let budgets = objects::<PartialObjectMeta<PodDisruptionBudget>>(scope.api(client), of_jobs());
    all.push(feed.of("PodDisruptionBudget", budgets, |of| &of.budgets));
    let policies = objects::<PartialObjectMeta<NetworkPolicy>>(scope.api(client), of_jobs());
    all.push(feed.of("NetworkPolicy", policies, |of| &of.policies));
    all
}

type Events<K> = BoxStream<'static, Watched<Event<K>>>;

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
        let touched = events.filter_map(move |event| {
            let touched = match event {
                Ok(event) => {
                    let complete = matches!(event, Event::InitDone);
                    let jobs = table(&cluster).take(event);
                    (complete || !jobs.is_empty()).then_some((kind, jobs))
                }
                Err(error) => {
                    metrics.watch_broke(kind);
                    tracing::warn!(kind, error = %error, "a watch broke and is taken up again");
                    None
                }
            };
            futures::future::ready(touched)
        });
        touched.boxed()
    }
}

fn objects<K>(api: Api<K>, config: Config) -> Events<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watcher(api, config).default_backoff().boxed()
}
