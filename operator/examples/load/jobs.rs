//! The StreamJobs, and how far they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use weir_crds::{JobState, StreamJob};

use super::NAMESPACE;

/// Requests at once.
const AT_ONCE: usize = 8;

/// What runs, by name: its parallelism.
#[derive(Clone, Default)]
pub(crate) struct Jobs {
    running: Arc<Mutex<BTreeMap<String, u32>>>,
}

/// A job as people write them: a table of some columns, and a query.
fn job(number: usize) -> Value {
    let columns = (0..30).map(|column| format!("column_{column} BIGINT")).collect::<Vec<_>>().join(",\n  ");
    json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "StreamJob",
        "metadata": {"name": name(number)},
        "spec": {
            "parallelism": 2,
            "pipeline": {"sql": format!("CREATE TABLE events (\n  {columns}\n) WITH ('connector' = 'datagen');\n\
                CREATE TABLE sums (a BIGINT, b BIGINT) WITH ('connector' = 'blackhole');\n\
                INSERT INTO sums SELECT column_0, sum(column_1) FROM events GROUP BY column_0;")},
            "storage": {"s3": {"bucket": "weir-state", "prefix": "jobs"}},
            "worker": {"resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}},
        },
    })
}

fn name(number: usize) -> String {
    format!("busy-auctions-{number}")
}

fn api(client: &Client) -> Api<StreamJob> {
    Api::namespaced(client.clone(), NAMESPACE)
}

impl Jobs {
    /// Follows the jobs from now on.
    pub(crate) fn watch(client: &Client) -> Self {
        let jobs = Self::default();
        let (seen, api) = (jobs.clone(), api(client));
        tokio::spawn(async move {
            let mut events = watcher(api, Config::default()).default_backoff().boxed();
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(job) | Event::InitApply(job)) = event {
                    seen.take(&job);
                }
            }
        });
        jobs
    }

    fn take(&self, job: &StreamJob) {
        let status = job.status.clone().unwrap_or_default();
        let steady = status.state == Some(JobState::Running) && status.change.is_none();
        self.running.lock().insert(job.name_any(), if steady { status.replicas } else { 0 });
    }

    /// Makes so many.
    pub(crate) async fn create(client: &Client, jobs: usize) {
        let api = &api(client);
        let made = futures::stream::iter(0..jobs).map(|number| async move {
            let job = serde_json::from_value(job(number)).unwrap();
            api.create(&PostParams::default(), &job).await.unwrap();
        });
        made.buffer_unordered(AT_ONCE).for_each(|()| std::future::ready(())).await;
    }

    /// Changes the parallelism of all.
    pub(crate) async fn rescale(client: &Client, jobs: usize, parallelism: u32) {
        let api = &api(client);
        let patch = &json!({"spec": {"parallelism": parallelism}});
        let edited = futures::stream::iter(0..jobs).map(|number| async move {
            api.patch(&name(number), &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        });
        edited.buffer_unordered(AT_ONCE).for_each(|()| std::future::ready(())).await;
    }

    /// Waits until so many run with this parallelism, and nothing of them is on its way.
    pub(crate) async fn until_all_run(&self, jobs: usize, parallelism: u32) {
        while self.running.lock().values().filter(|of| **of == parallelism).count() < jobs {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
