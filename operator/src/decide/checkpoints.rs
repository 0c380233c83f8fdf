//! What is told of checkpoints.

use std::time::Duration;

use jiff::Timestamp;
use weir_crds::{CheckpointStatus, StreamJobStatus};

use super::condition::condition;
use super::report::moment;
use super::view::View;
use crate::model::{CheckpointSeen, LeaderReport, LeaderState, Wish};

/// A checkpoint alone is news once in so many seconds.
const NEWS_S: i64 = 60;

/// A checkpoint may be late by this, or by three times what the last one took.
const GRACE: Duration = Duration::from_secs(60);

pub(super) fn checkpoint_status(seen: &CheckpointSeen) -> CheckpointStatus {
    CheckpointStatus {
        number: seen.number,
        // Statuses hold whole seconds.
        completed_at: moment(seen.completed_unix_ms / 1_000 * 1_000),
        duration: seen.duration_ms.map(weir_crds::Duration::from_millis),
        state_bytes: seen.total_bytes,
        written_bytes: seen.written_bytes,
    }
}

pub(super) fn origin_of(seen: &CheckpointSeen) -> String {
    format!("checkpoint {} (link {})", seen.number, seen.link)
}

/// What there is to say of a job that runs and completes no checkpoint although one has been due for a while.
pub(super) fn overdue(view: &View<'_>, running: Option<&LeaderReport>) -> Option<String> {
    let report = running.filter(|report| report.state == LeaderState::Running)?;
    let Wish::Valid { job, .. } = &view.seen.wish else { return None };
    let last = report.last_checkpoint.as_ref();
    let took = last.and_then(|last| last.duration_ms).map_or(Duration::ZERO, Duration::from_millis);
    let limit = job.checkpoint.interval.saturating_add(GRACE.max(took.saturating_mul(3)));
    // A job that stood still had nothing to complete.
    let ready = condition(&view.status.conditions, "Ready").filter(|ready| ready.status == "True")?;
    let completed = last.and_then(|last| Timestamp::from_millisecond(last.completed_unix_ms).ok());
    let since = ready.last_transition_time.0.max(completed.unwrap_or(Timestamp::UNIX_EPOCH));
    if view.since(since) <= limit {
        return None;
    }
    let since = Timestamp::from_second(since.as_second()).unwrap_or(since);
    let why =
        report.failing_checkpoint.as_ref().map_or_else(String::new, |message| format!("; the last one: {message}"));
    Some(format!("the job processes records, but has completed no checkpoint since {since}{why}"))
}

/// A new checkpoint alone is told once a minute: a job that checkpoints every second would write as often otherwise.
pub(super) fn unless_only_a_checkpoint(before: &StreamJobStatus, status: StreamJobStatus) -> StreamJobStatus {
    let (Some(old), Some(new)) = (&before.last_checkpoint, &status.last_checkpoint) else {
        return status;
    };
    let passed = new.completed_at.0.as_second() - old.completed_at.0.as_second();
    let held = StreamJobStatus {
        last_checkpoint: before.last_checkpoint.clone(),
        restores_from: before.restores_from.clone(),
        ..status.clone()
    };
    match (0..NEWS_S).contains(&passed) && held == *before {
        true => held,
        false => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(number: u64, second: i64, restarts: u64) -> StreamJobStatus {
        let completed_at = moment(second * 1_000);
        let checkpoint =
            CheckpointStatus { number, completed_at, duration: None, state_bytes: None, written_bytes: None };
        let restores_from = Some(format!("checkpoint {number}"));
        StreamJobStatus { last_checkpoint: Some(checkpoint), restores_from, restarts, ..StreamJobStatus::default() }
    }

    #[test]
    fn a_checkpoint_alone_is_told_once_a_minute() {
        let old = status(1, 1_000, 0);
        let told = |old: &StreamJobStatus, new: StreamJobStatus| unless_only_a_checkpoint(old, new) != *old;
        assert!(!told(&old, status(1, 1_000, 0)), "nothing new");
        assert!(!told(&old, status(2, 1_010, 0)), "ten seconds later");
        assert!(told(&old, status(7, 1_060, 0)), "a minute later");
        assert!(told(&old, status(2, 1_010, 1)), "with a restart");
        assert!(told(&StreamJobStatus::default(), status(1, 5, 0)), "the first one");
    }
}
