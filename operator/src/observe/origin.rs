//! Where `spec.restoreFrom` leads.

use std::sync::Arc;

use weir_crds::{RestoreFrom, SavepointState};

use super::leaders::{chain, credentials, peer, savepoint};
use crate::cluster::JobKey;
use crate::controller::Context;
use crate::decide;
use crate::leader_client::{Error, Leader};
use crate::model::{OriginSeen, PodSeen, SavepointSeenState, Wish};

/// The Savepoint or the job that `restoreFrom` names; none if it names neither.
pub(super) async fn origin(ctx: &Context, key: &JobKey, uid: &str, wish: &Wish) -> Option<OriginSeen> {
    let Wish::Valid { job, .. } = wish else { return None };
    match job.restore_from.as_ref()? {
        RestoreFrom::Path(_) => None,
        RestoreFrom::Savepoint(name) => Some(of_savepoint(ctx, &key.namespace, name)),
        RestoreFrom::Job(name) => Some(of_job(ctx, &JobKey::new(&key.namespace, name), uid).await),
    }
}

fn of_savepoint(ctx: &Context, namespace: &str, name: &str) -> OriginSeen {
    let jobs = ctx.cluster.savepoints.jobs_with(namespace, |savepoint| savepoint.seen.name == name);
    let Some(entry) = jobs.first().and_then(|job| ctx.cluster.savepoints.get(job, name)) else {
        let message = format!("there is no Savepoint {name} in the namespace {namespace}");
        return OriginSeen::Missing { message };
    };
    let status = &entry.kept.seen.status;
    match (status.state, &status.path) {
        (Some(SavepointState::Completed), Some(path)) => match job_uid(path) {
            Some(job_uid) => OriginSeen::Savepoint { job_uid, name: name.to_owned(), path: path.clone() },
            None => OriginSeen::Missing { message: format!("the path of Savepoint {name} names no job: {path}") },
        },
        (Some(SavepointState::Failed), _) => {
            OriginSeen::Missing { message: format!("the Savepoint {name} has failed") }
        }
        _ => OriginSeen::Waiting { message: format!("the Savepoint {name} is not complete yet") },
    }
}

/// The uid in `…/<namespace>/<name>-<uid>/savepoints/<savepoint>`.
fn job_uid(path: &str) -> Option<String> {
    const UID: usize = 36;
    let folder = path.rsplit('/').nth(2)?;
    let start = folder.len().checked_sub(UID).filter(|start| *start > 0 && folder.is_char_boundary(*start))?;
    Some(folder[start..].to_owned())
}

async fn of_job(ctx: &Context, other: &JobKey, own_uid: &str) -> OriginSeen {
    let Some(entry) = ctx.cluster.jobs.get(other, &other.name) else {
        let message = format!("there is no StreamJob {} in the namespace {}", other.name, other.namespace);
        return OriginSeen::Missing { message };
    };
    let pods = ctx.cluster.pods.made_for(other, &entry.uid);
    let mut found = None;
    for pod in pods.iter().filter(|pod| pod.kept.leads() && !pod.kept.deleting) {
        let Some(address) = pod.kept.address.clone() else { continue };
        match ask(ctx, other, &entry.uid, &pod.kept, own_uid).await {
            Some(Ok((running, pinned))) => {
                found = Some(((pod.kept.name.clone(), address), pinned));
                if running {
                    break;
                }
            }
            Some(Err(error)) => tracing::debug!(pod = pod.kept.name, error = chain(&error), "a leader is silent"),
            None => {}
        }
    }
    let (leader, pinned) = found.map_or((None, false), |(leader, pinned)| (Some(leader), pinned));
    OriginSeen::Job { job: Box::new(entry.kept.0.clone()), leader, pinned }
}

/// Whether the job runs there, and whether it holds on to the state that this one begins with.
async fn ask(
    ctx: &Context,
    other: &JobKey,
    uid: &str,
    pod: &PodSeen,
    own_uid: &str,
) -> Option<Result<(bool, bool), Error>> {
    let credentials = credentials(ctx, other, uid).await?;
    let peer = peer(pod.address.as_deref()?, Arc::clone(&credentials))?;
    let leader = Leader::new(ctx.transport.as_ref(), &peer);
    let name = decide::fork_name(own_uid);
    let answers = async {
        let job = leader.job().await?;
        let savepoints = leader.savepoints().await?;
        let pinned = savepoints.into_iter().filter_map(savepoint);
        let pinned = pinned.into_iter().any(|of| of.name == name && of.state == SavepointSeenState::Completed);
        Ok((job.state == "running", pinned))
    };
    Some(answers.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_savepoint_names_its_job() {
        let uid = "0b8bd3f4-3c0f-4b1e-9b1e-1f2e3d4c5b6a";
        let path = |folder: &str| format!("s3://bucket/prefix/shop/{folder}/savepoints/before");
        assert_eq!(job_uid(&path(&format!("bids-per-auction-{uid}"))).as_deref(), Some(uid));
        assert_eq!(job_uid(&path("short")), None);
        assert_eq!(job_uid("before"), None);
    }
}
