//! What the leaders of a job say.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::join_all;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;

use crate::certificates::{Credentials, Role};
use crate::cluster::JobKey;
use crate::controller::{Context, limited};
use crate::leader_client::{self, AssignmentReport, CheckpointsReport, Error, JobReport, Leader, Peer};
use crate::model::{
    Change, CheckpointSeen, Ending, Failure, FailureKind, LeaderReport, LeaderSeen, LeaderState, PodSeen,
    SavepointReport, SavepointSeenState, SwitchStep, name,
};
use crate::telemetry::Outcome;

/// How long certificates that were read are used without looking again.
const BELIEVED: SignedDuration = SignedDuration::from_mins(5);

/// What the leaders' pods of a job say, by the pod's name.
pub(super) async fn leaders(ctx: &Context, key: &JobKey, uid: &str, pods: &[PodSeen]) -> BTreeMap<String, LeaderSeen> {
    let of = pods.iter().filter(|pod| pod.leads() && !pod.deleting);
    let addressed: Vec<_> = of.filter_map(|pod| Some((pod, pod.address.as_deref()?))).collect();
    if addressed.is_empty() {
        return BTreeMap::new();
    }
    let Some(credentials) = credentials(ctx, key, uid).await else {
        let silent = || LeaderSeen::Silent { message: "the job's certificates are not there yet".to_owned() };
        return addressed.into_iter().map(|(pod, _)| (pod.name.clone(), silent())).collect();
    };
    let asked = addressed.into_iter().map(|(pod, address)| {
        let credentials = Arc::clone(&credentials);
        async move { (pod.name.clone(), seen(ctx, address, credentials).await) }
    });
    join_all(asked).await.into_iter().collect()
}

/// What the controller shows to the leaders of a job; none if it is not there, or cannot be read now.
pub async fn credentials(ctx: &Context, key: &JobKey, uid: &str) -> Option<Arc<Credentials>> {
    let now = ctx.now();
    if let Some((credentials, until)) = ctx.notes.get(uid).credentials
        && now < until
    {
        return Some(credentials);
    }
    let name = Role::Controller.secret(&key.name);
    let secret = match limited(ctx.api::<Secret>(&key.namespace).get_opt(&name)).await {
        Ok(secret) => secret?,
        Err(error) => {
            tracing::warn!(secret = name, namespace = key.namespace, error = %error, "a secret could not be read");
            return None;
        }
    };
    let credentials = Arc::new(Credentials::read(&secret)?);
    ctx.notes.edit(uid, |note| note.credentials = Some((Arc::clone(&credentials), now + BELIEVED)));
    Some(credentials)
}

/// The leader in the pod at an address; none if that is no address.
#[must_use]
pub fn peer(address: &str, credentials: Arc<Credentials>) -> Option<Peer> {
    let address: IpAddr = address.parse().ok()?;
    Some(Peer { address: SocketAddr::new(address, name::API_PORT), credentials })
}

async fn seen(ctx: &Context, address: &str, credentials: Arc<Credentials>) -> LeaderSeen {
    let Some(peer) = peer(address, credentials) else {
        return LeaderSeen::Silent { message: format!("{address} is no address") };
    };
    match report(&Leader::new(ctx.transport.as_ref(), &peer)).await {
        Ok(report) => {
            ctx.metrics.asked_leader("look", Outcome::Done);
            said(report)
        }
        Err(error) => {
            ctx.metrics.asked_leader("look", Outcome::Failed);
            LeaderSeen::Silent { message: chain(&error) }
        }
    }
}

/// A leader that cannot begin, and need not be changed for that, has nothing to say about the job.
fn said(report: LeaderReport) -> LeaderSeen {
    match &report.last_failure {
        Some(failure) if !report.has_begun() && failure.kind != FailureKind::User => {
            LeaderSeen::Silent { message: failure.message.clone() }
        }
        _ => LeaderSeen::Answers(Box::new(report)),
    }
}

async fn report(leader: &Leader<'_>) -> Result<LeaderReport, Error> {
    let job = leader.job().await?;
    let assignment = match leader.assignment().await {
        // A leader that cannot begin answers the first question alone.
        Err(Error::Refused { .. }) if job.ending.as_deref() == Some("failed") => {
            return Ok(merged(job, AssignmentReport::default(), &CheckpointsReport::default()));
        }
        answer => answer?,
    };
    let (checkpoints, savepoints) = (leader.checkpoints().await?, leader.savepoints().await?);
    Ok(LeaderReport {
        savepoints: savepoints.into_iter().filter_map(savepoint).collect(),
        ..merged(job, assignment, &checkpoints)
    })
}

/// One report out of several answers.
fn merged(job: JobReport, assignment: AssignmentReport, checkpoints: &CheckpointsReport) -> LeaderReport {
    let counted = ["timeout", "declined", "store"];
    LeaderReport {
        state: state(&job.state),
        ending: job.ending.as_deref().and_then(ending),
        generation: job.generation,
        restarts: job.restarts,
        last_failure: job.last_failure.map(|failure| Failure { kind: kind(&failure.kind), message: failure.message }),
        revision: assignment.revision,
        parallelism: assignment.parallelism,
        workers: assignment.workers,
        code: assignment.code,
        assigned: assignment.assigned.unwrap_or(assignment.revision),
        change: assignment
            .change
            .and_then(|change| Some(Change { revision: change.revision, step: step(&change.step)? })),
        failed: assignment.failed.map(|failed| (failed.revision, failed.message)),
        completed: checkpoints.completed,
        failed_checkpoints: counted.iter().filter_map(|cause| checkpoints.failed.get(*cause)).sum(),
        failing_checkpoint: failing_checkpoint(checkpoints),
        last_checkpoint: last_checkpoint(checkpoints),
        registered: job.registered,
        savepoints: Vec::new(),
    }
}

fn failing_checkpoint(checkpoints: &CheckpointsReport) -> Option<String> {
    let ended = checkpoints.history.iter().filter(|progress| progress.outcome != "inProgress");
    let newest = ended.max_by_key(|progress| progress.checkpoint)?;
    newest.message.clone().filter(|_| newest.outcome == "failed")
}

fn last_checkpoint(checkpoints: &CheckpointsReport) -> Option<CheckpointSeen> {
    let newest = checkpoints.retained.first()?;
    let progress = checkpoints.history.iter().find(|progress| progress.checkpoint == newest.checkpoint);
    Some(CheckpointSeen {
        number: newest.checkpoint,
        link: newest.link,
        completed_unix_ms: newest.completed_unix_ms,
        duration_ms: progress.and_then(|progress| progress.duration_ms),
        total_bytes: Some(newest.sizes.total_bytes),
        written_bytes: Some(newest.sizes.written_bytes),
    })
}

/// A savepoint; none in a state that this controller does not know.
pub(super) fn savepoint(report: leader_client::SavepointReport) -> Option<SavepointReport> {
    Some(SavepointReport {
        state: match report.state.as_str() {
            "pending" | "withdrawing" => SavepointSeenState::Pending,
            "completed" => SavepointSeenState::Completed,
            "failed" => SavepointSeenState::Failed,
            "deleting" => SavepointSeenState::Deleting,
            _ => return None,
        },
        uid: report.request_uid.unwrap_or_default(),
        name: report.name,
        message: report.message,
        checkpoint: report.checkpoint,
        completed_unix_ms: report.completed_unix_ms,
        total_bytes: report.sizes.map(|sizes| sizes.total_bytes),
    })
}

/// A state that this controller does not know is one on the way to another.
fn state(text: &str) -> LeaderState {
    match text {
        "idle" => LeaderState::Idle,
        "awaiting" => LeaderState::Awaiting,
        "settling" => LeaderState::Settling,
        "deploying" => LeaderState::Deploying,
        "running" => LeaderState::Running,
        "stopping" => LeaderState::Stopping,
        "cancelling" => LeaderState::Cancelling,
        "waiting" => LeaderState::Waiting,
        "ended" => LeaderState::Ended,
        _ => LeaderState::Starting,
    }
}

fn ending(text: &str) -> Option<Ending> {
    Some(match text {
        "finished" => Ending::Finished,
        "stopped" => Ending::Stopped,
        "handedOver" => Ending::HandedOver,
        "stalled" => Ending::Stalled,
        "fenced" => Ending::Fenced,
        "failed" => Ending::Failed,
        _ => return None,
    })
}

fn kind(text: &str) -> FailureKind {
    match text {
        "user" => FailureKind::User,
        "transient" => FailureKind::Transient,
        "corrupt" => FailureKind::Corrupt,
        "fenced" => FailureKind::Fenced,
        _ => FailureKind::Bug,
    }
}

fn step(text: &str) -> Option<SwitchStep> {
    Some(match text {
        "gathering" => SwitchStep::Gathering,
        "preparing" => SwitchStep::Preparing,
        "stopping" => SwitchStep::Stopping,
        _ => return None,
    })
}

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
