//! What every look at a job needs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};

use super::Notes;
use crate::certificates;
use crate::cluster::Cluster;
use crate::leader_client::Transport;
use crate::telemetry::Metrics;

/// How long a request to the API server may take: what it did is then unknown, and looked for.
const REQUEST: Duration = Duration::from_secs(10);

/// What every look at a job needs.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What was seen of it.
    pub cluster: Arc<Cluster>,
    /// Carries requests to leaders.
    pub transport: Arc<dyn Transport>,
    /// What is remembered of jobs.
    pub notes: Notes,
    /// Tells people what happens.
    pub events: crate::events::Recorder,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The image of jobs that name none.
    pub default_image: String,
    /// How long certificates last.
    pub terms: certificates::Terms,
    /// The time.
    pub clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Context {
    /// The objects of a kind in a namespace.
    #[must_use]
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

/// A request with its limit of time.
pub async fn limited<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(REQUEST, request).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
    }
}
