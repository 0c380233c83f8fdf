//! The status of a job, events about it, and its numbers.
//!
//! A status is written when it has changed, over the version that it was decided from. While nothing else changes, the last
//! checkpoint is written at most once a minute: a job that checkpoints every second would write as often otherwise.

use jiff::SignedDuration;
use kube::Resource;
use weir_crds::{CheckpointStatus, StreamJobStatus};

use crate::apply::{Effect, Error, Round};
use crate::cluster::JobKey;
use crate::controller::Context;
use crate::events;
use crate::model::{Decision, Observed};
use crate::telemetry::JobNumbers;

/// How often the last checkpoint is written while nothing else changes.
const CHECKPOINT_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// Writes what is to be told of a job.
pub async fn report(
    ctx: &Context,
    key: &JobKey,
    observed: &Observed,
    decision: &Decision,
    round: &mut Round<'_>,
) -> Result<Effect, Error> {
    ctx.metrics.jobs.set(&key.namespace, &key.name, numbers(observed, &decision.status));
    let status = worth_writing(&round.status(), &decision.status);
    let written = match status {
        Some(status) => round.write_status(status).await,
        None => Ok(Effect::None),
    };
    events::tell(ctx, observed.uid(), &observed.job.object_ref(&()), &decision.events, ctx.now()).await;
    written
}

/// The new status, unless all that is new in it is a checkpoint that can wait.
fn worth_writing<'a>(old: &StreamJobStatus, new: &'a StreamJobStatus) -> Option<&'a StreamJobStatus> {
    let rest = |status: &StreamJobStatus| StreamJobStatus { last_checkpoint: None, ..status.clone() };
    if rest(old) != rest(new) {
        return Some(new);
    }
    let completed = |of: &Option<CheckpointStatus>| of.as_ref().map(|checkpoint| checkpoint.completed_at.0);
    match (completed(&old.last_checkpoint), completed(&new.last_checkpoint)) {
        (Some(old), Some(new_at)) => (new_at.duration_since(old).abs() >= CHECKPOINT_EVERY).then_some(new),
        (old, new_at) => (old != new_at).then_some(new),
    }
}

fn numbers(observed: &Observed, status: &StreamJobStatus) -> JobNumbers {
    let condition =
        |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True");
    JobNumbers {
        state: status.state.map(|state| format!("{state:?}")).unwrap_or_default(),
        ready: condition("Ready").is_some(),
        stalled: condition("Stalled").map(|condition| condition.reason.clone()),
        parallelism: observed.job.spec.parallelism,
        workers: (status.workers, status.ready_workers),
        restarts: status.restarts,
        last_checkpoint_unix_s: status.last_checkpoint.as_ref().map(|of| of.completed_at.0.as_second() as f64),
        state_bytes: status.last_checkpoint.as_ref().and_then(|of| of.state_bytes),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn status(number: u64, second: i64, restarts: u64) -> StreamJobStatus {
        let completed_at = Time(Timestamp::from_second(second).expect("a time"));
        let checkpoint =
            CheckpointStatus { number, completed_at, duration: None, state_bytes: None, written_bytes: None };
        StreamJobStatus { last_checkpoint: Some(checkpoint), restarts, ..StreamJobStatus::default() }
    }

    #[test]
    fn a_checkpoint_alone_is_written_once_a_minute() {
        let written = |new: StreamJobStatus| worth_writing(&status(1, 1_000, 0), &new).is_some();
        assert!(!written(status(1, 1_000, 0)), "nothing new");
        assert!(!written(status(2, 1_010, 0)), "ten seconds later");
        assert!(written(status(7, 1_060, 0)), "a minute later");
        assert!(written(status(2, 1_010, 1)), "with a restart");
        assert!(worth_writing(&StreamJobStatus::default(), &status(1, 5, 0)).is_some(), "the first one");
    }
}
