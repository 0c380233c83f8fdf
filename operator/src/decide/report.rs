//! The status: what the job is doing, what hinders it, and the step of a change.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::{
    ChangeKind, ChangeStatus, ChangeStep, FailureStatus, JobState, Reason, SavepointReference, SavepointState,
    StreamJobStatus,
};

use super::checkpoints::{checkpoint_status, origin_of, overdue, unless_only_a_checkpoint};
use super::condition::{Conditions, condition, conditions};
use super::draft::{Draft, Trouble};
use super::view::View;
use crate::model::{
    Ending, FailureKind, LeaderReport, LeaderState, RestorePoint, SavepointSeenState, name, restore_path,
};

/// The reason that a change gives.
pub(super) fn reason_of(kind: ChangeKind) -> Reason {
    match kind {
        ChangeKind::Start => Reason::Starting,
        ChangeKind::Rescale => Reason::Rescaling,
        ChangeKind::Upgrade => Reason::Upgrading,
        ChangeKind::Rollback => Reason::RollingBack,
        ChangeKind::Suspend => Reason::Suspending,
        ChangeKind::Resume => Reason::Resuming,
        ChangeKind::Delete => Reason::Deleting,
    }
}

/// The status as it is to be written.
pub(super) fn status(view: &View<'_>, draft: &mut Draft) -> StreamJobStatus {
    let running = view.running().map(|running| running.report);
    let report = running.or_else(|| leading(view));
    let ended = report.filter(|report| report.ending == Some(Ending::Failed));
    if let Some(failure) = ended.and_then(|report| report.last_failure.as_ref()) {
        draft.stall(Trouble::new(Reason::JobFailed, failure.message.clone()));
    }
    let mut status = facts(view, report, draft);
    status.change = change(view, draft);
    let state = state(view, report, draft);
    status.state = Some(state);
    let overdue = overdue(view, running);
    let told = told(draft, state, running, overdue);
    let late = told.ready.1 == Reason::CheckpointOverdue;
    let quiet = matches!(state, JobState::Running | JobState::Suspended | JobState::Finished) && told.ready.0 && !late;
    status.message = Some(told.message().to_owned()).filter(|message| !quiet && !message.is_empty());
    let generation = view.seen.job.metadata.generation;
    status.conditions = conditions(&view.status.conditions, &told, generation, view.now);
    status.observed_generation = generation;
    let newly = |before: Option<&str>| told.stalled.as_ref().is_some_and(|(reason, _)| before != Some(reason.name()));
    let before = condition(&view.status.conditions, "Stalled");
    if let Some((reason, message)) = told.stalled.clone().filter(|_| newly(before.map(|before| before.reason.as_str())))
    {
        draft.warn(reason, message);
    }
    let was_late = ready_reason(&view.status) == Some(Reason::CheckpointOverdue.name());
    if late && !was_late {
        draft.warn(Reason::CheckpointOverdue, told.ready.2.clone());
    }
    draft.last_checkpoint.clone_from(&status.last_checkpoint);
    unless_only_a_checkpoint(&view.status, status)
}

/// The leader of the newest revision that has one.
fn leading<'a>(view: &View<'a>) -> Option<&'a LeaderReport> {
    view.programs().into_iter().rev().find_map(|program| view.report(program))
}

fn facts(view: &View<'_>, report: Option<&LeaderReport>, draft: &Draft) -> StreamJobStatus {
    let before = view.status.clone();
    let current = view.current().map(|current| &current.content);
    let rests = matches!(draft.state, Some(JobState::Suspended | JobState::Finished | JobState::Failed));
    let parallelism = report.filter(|report| report.revision > 0).map(|report| report.parallelism);
    let parallelism = parallelism.or(current.map(|content| content.parallelism)).unwrap_or(0);
    let wanted = view.newest().map_or(0, |newest| newest.content.workers);
    let program = current.map(|content| content.program);
    let ready = view.workers().filter(|pod| Some(pod.revision) == program && pod.ready == Some(true) && !pod.deleting);
    let ready = u32::try_from(ready.count()).unwrap_or(u32::MAX);
    let joined = report.and_then(|report| report.registered).map_or(ready, |registered| registered.min(wanted));
    let generation = report.and_then(|report| report.generation).max(before.job_generation);
    let failed = view.revisions.iter().rev().find(|revision| revision.failed().is_some());
    let checkpoint = report.and_then(|report| report.last_checkpoint.as_ref());
    StreamJobStatus {
        replicas: if rests { 0 } else { parallelism },
        selector: Some(format!("{}={},{}=true", name::LABEL_JOB, view.seen.name(), name::LABEL_ACTIVE)),
        workers: if rests { 0 } else { wanted },
        ready_workers: if rests { 0 } else { joined },
        job_generation: generation,
        revision: Some(view.in_force).filter(|revision| *revision > 0),
        restarts: restarts(&before, report, view.in_force),
        last_checkpoint: checkpoint.map(checkpoint_status).or(before.last_checkpoint),
        restores_from: begins_with(view, report).or_else(|| checkpoint.map(origin_of)).or(before.restores_from),
        last_savepoint: last_savepoint(view, report),
        last_failure: report.and_then(failure).or(before.last_failure),
        restored_from: super::desire::used(view),
        failed_code: failed.map(|failed| failed.content.key.clone()),
        ..StreamJobStatus::default()
    }
}

/// Generations that began without a new revision are restarts.
fn restarts(before: &StreamJobStatus, report: Option<&LeaderReport>, in_force: u64) -> u64 {
    let Some(generation) = report.and_then(|report| report.generation) else {
        return before.restarts;
    };
    match before.job_generation {
        Some(known) => {
            let wanted = u64::from(before.revision.unwrap_or(0) != in_force);
            before.restarts + generation.saturating_sub(known).saturating_sub(wanted)
        }
        None => before.restarts.max(report.map_or(0, |report| report.restarts)),
    }
}

pub(super) fn moment(unix_ms: i64) -> Time {
    Time(Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// What a job that was told to begin with another state would begin with again: it has no checkpoint of its own yet.
fn begins_with(view: &View<'_>, report: Option<&LeaderReport>) -> Option<String> {
    let current = view.current()?;
    let program = view.revision(current.content.program)?;
    let proven = view.is_stable(program.number) || report.is_some_and(|report| report.completed > 0);
    let first = current.number == program.number && current.content.takes_back.is_none();
    match current.content.restore.as_ref().filter(|_| first && !proven) {
        Some(RestorePoint::Nothing) => return Some("nothing: it begins empty".to_owned()),
        Some(RestorePoint::Savepoint(name)) => return Some(format!("savepoint {name}")),
        None => {}
    }
    let path = restore_path(program.content.manifest.as_ref()?);
    path.filter(|_| first && !proven).map(str::to_owned)
}

/// The newest of those that the leader knows, that were taken of the stopped job, and that was told before.
fn last_savepoint(view: &View<'_>, report: Option<&LeaderReport>) -> Option<SavepointReference> {
    let whole = |at: &Time| Time(Timestamp::from_second(at.0.as_second()).unwrap_or(at.0));
    let known = report.into_iter().flat_map(|report| &report.savepoints);
    let known = known.filter(|savepoint| savepoint.state == SavepointSeenState::Completed);
    let known = known.map(|savepoint| SavepointReference {
        name: savepoint.name.clone(),
        checkpoint: savepoint.checkpoint,
        completed_at: savepoint.completed_unix_ms.map(|unix_ms| whole(&moment(unix_ms))),
    });
    let objects = view.seen.savepoints.iter().filter(|of| of.status.state == Some(SavepointState::Completed));
    let objects = objects.map(|of| SavepointReference {
        name: of.name.clone(),
        checkpoint: of.status.checkpoint,
        completed_at: of.status.completed_at.as_ref().map(whole),
    });
    let all = view.status.last_savepoint.iter().cloned().chain(objects).chain(known);
    all.max_by_key(|savepoint| savepoint.completed_at.as_ref().map(|at| at.0))
}

fn failure(report: &LeaderReport) -> Option<FailureStatus> {
    let failure = report.last_failure.as_ref()?;
    let kind = match failure.kind {
        FailureKind::User => "User",
        FailureKind::Transient => "Transient",
        FailureKind::Corrupt => "Corrupt",
        FailureKind::Fenced => "Fenced",
        FailureKind::Bug => "Bug",
    };
    Some(FailureStatus { kind: kind.to_owned(), message: failure.message.clone() })
}

fn change(view: &View<'_>, draft: &Draft) -> Option<ChangeStatus> {
    let change = draft.change.as_ref()?;
    let known = view.status.change.as_ref();
    let same = known.filter(|known| known.revision == change.revision && known.kind == change.kind);
    let whole = Time(Timestamp::from_second(view.now.as_second()).unwrap_or(view.now));
    let stops = matches!(change.kind, ChangeKind::Suspend | ChangeKind::Delete);
    let in_force = !stops && view.in_force >= change.revision;
    let noted = same.and_then(|same| same.in_force_since.clone());
    Some(ChangeStatus {
        kind: change.kind,
        revision: change.revision,
        step: change.step,
        message: change.message.clone(),
        started_at: same.map_or_else(|| whole.clone(), |same| same.started_at.clone()),
        in_force_since: in_force.then(|| noted.unwrap_or(whole)),
    })
}

fn state(view: &View<'_>, report: Option<&LeaderReport>, draft: &Draft) -> JobState {
    if let Some(state) = draft.state {
        return state;
    }
    if draft.paused {
        return view.status.state.unwrap_or(JobState::Pending);
    }
    let failed = report.is_some_and(|report| report.ending == Some(Ending::Failed));
    let proving = draft.change.as_ref().is_some_and(|change| change.step == ChangeStep::Proving);
    match draft.change.as_ref().map(|change| change.kind) {
        Some(ChangeKind::Start | ChangeKind::Resume) if proving || failed => of_leader(view, report),
        Some(ChangeKind::Start | ChangeKind::Resume) if report.is_some() => JobState::Starting,
        Some(ChangeKind::Start | ChangeKind::Resume) => JobState::Pending,
        Some(ChangeKind::Rescale) => JobState::Rescaling,
        Some(ChangeKind::Upgrade) => JobState::Upgrading,
        Some(ChangeKind::Rollback) => JobState::RollingBack,
        Some(ChangeKind::Suspend) => JobState::Suspending,
        Some(ChangeKind::Delete) => JobState::Deleting,
        None => of_leader(view, report),
    }
}

fn of_leader(view: &View<'_>, report: Option<&LeaderReport>) -> JobState {
    let Some(report) = report else {
        return if view.in_force == 0 { JobState::Pending } else { JobState::Restarting };
    };
    match (report.ending, report.state) {
        (Some(Ending::Failed | Ending::Stalled), _) => JobState::Failed,
        (_, LeaderState::Running | LeaderState::Stopping) => JobState::Running,
        (_, LeaderState::Waiting | LeaderState::Cancelling) => JobState::Restarting,
        _ if report.restarts > 0 || report.generation > Some(1) => JobState::Restarting,
        _ => JobState::Starting,
    }
}

fn ready_reason(status: &StreamJobStatus) -> Option<&str> {
    Some(&condition(&status.conditions, "Ready")?.reason)
}

fn told(draft: &Draft, state: JobState, running: Option<&LeaderReport>, overdue: Option<String>) -> Conditions {
    let works = running.is_some_and(|report| matches!(report.state, LeaderState::Running | LeaderState::Stopping));
    let trouble = draft.troubles.first().map(|trouble| (trouble.reason, trouble.message.clone()));
    let stalled = draft.stalled.as_ref().map(|trouble| (trouble.reason, trouble.message.clone()));
    let change = draft.change.as_ref().map(|change| (reason_of(change.kind), words_of(change)));
    let ready = match state {
        JobState::Finished => (true, Reason::Finished, "the input has ended and all results are committed".to_owned()),
        JobState::Suspended => (false, Reason::Suspended, "the job is stopped and keeps its state".to_owned()),
        _ if works => match overdue {
            Some(message) => (true, Reason::CheckpointOverdue, message),
            None => (true, Reason::Running, "the job processes records".to_owned()),
        },
        _ => {
            let why = stalled.clone().or_else(|| trouble.clone()).or_else(|| change.clone());
            let (reason, message) = why.unwrap_or_else(|| (waiting(state), "its workers start".to_owned()));
            (false, reason, message)
        }
    };
    let resting = matches!(state, JobState::Finished | JobState::Suspended | JobState::Failed);
    let rolls_back = draft.change.as_ref().is_some_and(|change| change.kind == ChangeKind::Rollback);
    let reconciling = match (&stalled, draft.paused) {
        (_, true) => None,
        (Some(_), _) if !rolls_back => None,
        _ if resting => None,
        _ => trouble.or(change).or_else(|| (!ready.0).then(|| (ready.1, ready.2.clone()))),
    };
    let stalled = stalled.filter(|_| !rolls_back);
    let mut told = Conditions { ready, reconciling, stalled };
    if draft.paused {
        let message = format!("the annotation {} keeps the controller away", name::PAUSE);
        told.stalled = Some((Reason::Paused, message));
    }
    told
}

fn waiting(state: JobState) -> Reason {
    match state {
        JobState::Restarting => Reason::Restarting,
        JobState::Deleting => Reason::Deleting,
        JobState::Failed => Reason::JobFailed,
        _ => Reason::Starting,
    }
}

fn words_of(change: &super::draft::Change) -> String {
    let to = format!("revision {}, step {:?}", change.revision, change.step);
    match &change.message {
        Some(message) => format!("{to}: {message}"),
        None => to,
    }
}
