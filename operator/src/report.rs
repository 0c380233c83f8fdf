//! The status of a job, events about it, and its numbers.
//!
//! A status is written when it has changed, over the version that it was decided from.

use kube::Resource;

use crate::apply::{Effect, Error, Round};
use crate::cluster::JobKey;
use crate::controller::Context;
use crate::events;
use crate::model::{Decision, Observed};
use crate::telemetry::JobNumbers;

/// Writes what is to be told of a job.
pub async fn report(
    ctx: &Context,
    key: &JobKey,
    observed: &Observed,
    decision: &Decision,
    round: &mut Round<'_>,
) -> Result<Effect, Error> {
    ctx.metrics.jobs.set(&key.namespace, &key.name, numbers(observed, decision));
    let written = round.write_status(&decision.status).await;
    events::tell(ctx, observed.uid(), &observed.job.object_ref(&()), &decision.events, ctx.now()).await;
    written
}

/// A checkpoint counts when the leader tells of it, not when it is in the status: alerts look at its age.
fn numbers(observed: &Observed, decision: &Decision) -> JobNumbers {
    let (status, checkpoint) = (&decision.status, decision.last_checkpoint.as_ref());
    let condition =
        |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True");
    JobNumbers {
        state: status.state.map(|state| format!("{state:?}")).unwrap_or_default(),
        ready: condition("Ready").is_some(),
        stalled: condition("Stalled").map(|condition| condition.reason.clone()),
        parallelism: observed.job.spec.parallelism,
        workers: (status.workers, status.ready_workers),
        restarts: status.restarts,
        last_checkpoint_unix_s: checkpoint.map(|of| of.completed_at.0.as_second() as f64),
        state_bytes: checkpoint.and_then(|of| of.state_bytes),
    }
}
