//! Savepoints whose job does not exist: nobody else looks at them.
//!
//! One that waits is told so. One that is deleted loses its finalizer, since there is no job left whose pods could delete its
//! state: the state stays, which an event says. Notes of jobs that are gone are forgotten here too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use weir_crds::{Reason, Savepoint, SavepointState};

use super::{Context, limited};
use crate::cluster::{Entry, JobKey, KeptSavepoint};
use crate::decide::orphaned;
use crate::events;
use crate::model::{Event, EventKind, name};

/// How often all Savepoints are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// Looks after Savepoints without a job, for ever.
pub(super) async fn sweep(ctx: Arc<Context>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if ctx.cluster.is_complete() {
            look_after_orphans(&ctx).await;
        }
    }
}

/// One look at all Savepoints.
pub async fn look_after_orphans(ctx: &Context) {
    let jobs = ctx.cluster.jobs.jobs();
    let uids: BTreeSet<String> =
        jobs.iter().filter_map(|key| ctx.cluster.jobs.get(key, &key.name)).map(|entry| entry.uid).collect();
    ctx.notes.keep(|uid| uids.contains(uid));
    ctx.cluster.forget_texts(|key| {
        let refers = ctx.cluster.jobs.jobs_with(&key.namespace, |job| {
            let from = job.0.spec.pipeline.sql_from.as_ref();
            from.is_some_and(|from| from.config_map_key_ref.name == key.name)
        });
        !refers.is_empty()
    });
    for key in ctx.cluster.savepoints.jobs() {
        if ctx.cluster.jobs.get(&key, &key.name).is_some() {
            continue;
        }
        for (_, savepoint) in ctx.cluster.savepoints.of(&key) {
            if let Err(error) = orphan(ctx, &key, &savepoint).await {
                tracing::warn!(savepoint = savepoint.kept.seen.name, error = %error, "a Savepoint could not be written");
            }
        }
    }
}

async fn orphan(ctx: &Context, key: &JobKey, savepoint: &Entry<KeptSavepoint>) -> kube::Result<()> {
    let seen = &savepoint.kept.seen;
    let api = ctx.api::<Savepoint>(&key.namespace);
    if seen.deleted.is_some() && seen.finalizer {
        let others: Vec<&String> =
            savepoint.kept.finalizers.iter().filter(|of| *of != name::SAVEPOINT_FINALIZER).collect();
        let patch = json!({"metadata": {"resourceVersion": savepoint.version, "finalizers": others}});
        let (job, at) = (&key.name, seen.at());
        let message =
            format!("there is no StreamJob {job} any more: the state of this savepoint stays in the store{at}");
        let event = Event { kind: EventKind::Warning, reason: Reason::StateLeft, message };
        events::tell(ctx, &savepoint.uid, &reference(key, savepoint), &[event], ctx.now()).await;
        return limited(api.patch(&seen.name, &PatchParams::default(), &Patch::Merge(&patch))).await.map(drop);
    }
    let waits = !matches!(seen.status.state, Some(SavepointState::Completed | SavepointState::Failed));
    let message = format!("there is no StreamJob {} in the namespace {}", key.name, key.namespace);
    if seen.deleted.is_some() || !waits {
        return Ok(());
    }
    let status = orphaned(seen, &message, ctx.now());
    if seen.status == status {
        return Ok(());
    }
    let patch = json!({"metadata": {"resourceVersion": savepoint.version}, "status": status});
    let written = limited(api.patch_status(&seen.name, &PatchParams::default(), &Patch::Merge(&patch))).await?;
    ctx.cluster.savepoints.remember(written);
    Ok(())
}

fn reference(key: &JobKey, savepoint: &Entry<KeptSavepoint>) -> ObjectReference {
    ObjectReference {
        api_version: Some(Savepoint::api_version(&()).into_owned()),
        kind: Some(Savepoint::kind(&()).into_owned()),
        name: Some(savepoint.kept.seen.name.clone()),
        namespace: Some(key.namespace.clone()),
        uid: Some(savepoint.uid.clone()),
        ..ObjectReference::default()
    }
}
