//! Which jobs are to be looked at because something has changed.

use std::marker::PhantomData;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::Event;

use super::{Context, JobMeta};
use crate::cluster::{Cluster, JobKey, Scope, Touched, watch};
use crate::telemetry::Health;

/// The jobs to look at, as they come, and the names of those that there are. No job is looked at before everything in the
/// scope has been seen once.
pub(super) fn triggers(
    ctx: &Arc<Context>,
    scope: &Scope,
    health: Arc<Health>,
) -> (impl Stream<Item = ObjectRef<JobMeta>> + Send + use<>, Store<JobMeta>) {
    let (reader, mut writer) = store::<JobMeta>();
    let watched = watch(&ctx.client, scope, &ctx.cluster, &ctx.metrics);
    let ctx = Arc::clone(ctx);
    let mut complete = false;
    let jobs = watched.flat_map(move |(kind, keys): Touched| {
        if kind == "StreamJob" {
            for key in &keys {
                writer.apply_watcher_event(&event(&ctx, key));
            }
        }
        let mut jobs: Vec<JobKey> = keys.iter().flat_map(|key| affected(&ctx.cluster, kind, key)).collect();
        if !complete && ctx.cluster.is_complete() {
            complete = true;
            jobs = ctx.cluster.jobs.jobs();
            begin(&mut writer, &jobs);
            health.saw_cluster();
            tracing::info!(jobs = jobs.len(), "everything has been seen");
        }
        futures::stream::iter(jobs.into_iter().map(|key| ObjectRef::new(&key.name).within(&key.namespace)))
    });
    (jobs, reader)
}

/// All names at once: from then on the loop runs.
fn begin(writer: &mut Writer<JobMeta>, jobs: &[JobKey]) {
    writer.apply_watcher_event(&Event::Init);
    for key in jobs {
        writer.apply_watcher_event(&Event::InitApply(named(key)));
    }
    writer.apply_watcher_event(&Event::InitDone);
}

/// A job has come or gone. Of one that is gone nothing more is told.
fn event(ctx: &Context, key: &JobKey) -> Event<JobMeta> {
    if ctx.cluster.jobs.get(key, &key.name).is_some() {
        return Event::Apply(named(key));
    }
    ctx.metrics.jobs.forget(&key.namespace, &key.name);
    Event::Delete(named(key))
}

fn named(key: &JobKey) -> JobMeta {
    let metadata =
        ObjectMeta { name: Some(key.name.clone()), namespace: Some(key.namespace.clone()), ..ObjectMeta::default() };
    JobMeta { types: None, metadata, _phantom: PhantomData }
}

/// The jobs whose decisions may change: those that an object was made for, and those that refer to it.
fn affected(cluster: &Cluster, kind: &str, key: &JobKey) -> Vec<JobKey> {
    let (namespace, name) = (&key.namespace, &key.name);
    let restores = |of: &str| {
        cluster.jobs.jobs_with(namespace, |job| {
            let from = job.0.spec.restore_from.as_ref();
            match of {
                "StreamJob" => from.and_then(|from| from.job.as_ref()).is_some_and(|job| job.name == *name),
                _ => from.is_some_and(|from| from.savepoint.is_some()),
            }
        })
    };
    match kind {
        "ConfigMap" => {
            let refers = cluster.jobs.jobs_with(namespace, |job| {
                let from = job.0.spec.pipeline.sql_from.as_ref();
                from.is_some_and(|from| from.config_map_key_ref.name == *name)
            });
            let owns = cluster.revisions.jobs_with(namespace, |revision| revision.name() == name.as_str());
            refers.into_iter().chain(owns).collect()
        }
        "StreamJob" | "Savepoint" => [key.clone()].into_iter().chain(restores(kind)).collect(),
        _ => vec![key.clone()],
    }
}
