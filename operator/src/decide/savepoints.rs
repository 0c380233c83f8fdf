//! Savepoint objects of the job.
//!
//! A running job is asked; asking again changes nothing, because the object's uid tells requests apart. The state of a
//! job that stands still is worked on by a short pod. A Savepoint that is complete, or has failed, stays so.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::{Reason, SavepointDeletionPolicy, SavepointState, SavepointStatus};

use super::condition::{Conditions, conditions};
use super::delete;
use super::draft::Draft;
use super::maintain::{Work, clear, is_still, work};
use super::view::{Running, View};
use crate::model::{Action, Ask, Finalizer, LeaderRequest, SavepointReport, SavepointSeen, SavepointSeenState, Then};

/// All Savepoints of the job.
pub(super) fn tend(view: &View<'_>, draft: &mut Draft) {
    for savepoint in &view.seen.savepoints {
        if let Some(since) = savepoint.deleted {
            release(view, savepoint, since, draft);
        } else {
            finalizer(savepoint, draft);
            let status = advance(view, savepoint, draft);
            write(savepoint, status, draft);
        }
    }
    let open = |request: &str| {
        let ours = view.seen.savepoints.iter().find(|savepoint| request.starts_with(&savepoint.uid));
        ours.is_some_and(|savepoint| savepoint.deleted.is_some() || !is_over(&savepoint.status))
            || view.seen.deleted().is_some() && request.starts_with(view.seen.uid())
    };
    clear(view, open, draft);
}

fn is_over(status: &SavepointStatus) -> bool {
    matches!(status.state, Some(SavepointState::Completed | SavepointState::Failed))
}

fn finalizer(savepoint: &SavepointSeen, draft: &mut Draft) {
    let needed = savepoint.policy == SavepointDeletionPolicy::Delete;
    let finalizer = match (needed, savepoint.finalizer) {
        (true, false) => Finalizer::Set,
        (false, true) => Finalizer::Removed,
        _ => return,
    };
    set(savepoint, finalizer, draft);
}

fn set(savepoint: &SavepointSeen, finalizer: Finalizer, draft: &mut Draft) {
    let (name, uid) = (savepoint.name.clone(), savepoint.uid.clone());
    draft.act(Action::SavepointFinalizer { name, uid, finalizer });
}

fn write(savepoint: &SavepointSeen, status: SavepointStatus, draft: &mut Draft) {
    if status != savepoint.status {
        let (name, uid) = (savepoint.name.clone(), savepoint.uid.clone());
        draft.act(Action::SavepointStatus { name, uid, status: Box::new(status) });
    }
}

/// Where a Savepoint is now, with what has to be done for it.
fn advance(view: &View<'_>, savepoint: &SavepointSeen, draft: &mut Draft) -> SavepointStatus {
    let mut before = savepoint.status.clone();
    before.observed_generation = savepoint.generation;
    before.conditions.iter_mut().for_each(|condition| condition.observed_generation = savepoint.generation);
    if is_over(&before) {
        return before;
    }
    if view.seen.deleted().is_some() {
        return pending(view, before, "its StreamJob is being deleted");
    }
    let progress = match view.running() {
        Some(running) => by_leader(view, running, savepoint, draft),
        None if is_still(view) && view.in_force > 0 => by_pod(view, savepoint, draft),
        None => return pending(view, before, "the job to run"),
    };
    match progress {
        Progress::Waits(message) => waits(view, before, message),
        Progress::Failed(message) => failed(view, before, message),
        Progress::Completed(report) => completed(view, savepoint, before, &report),
    }
}

enum Progress {
    Waits(Option<String>),
    Failed(String),
    Completed(SavepointReport),
}

fn by_leader(view: &View<'_>, running: Running<'_>, savepoint: &SavepointSeen, draft: &mut Draft) -> Progress {
    draft.look_again(super::reach::CHANGE_POLL);
    let known = running.report.savepoints.iter().find(|known| known.name == savepoint.name);
    if let Some(known) = known.filter(|known| known.uid == savepoint.uid) {
        match known.state {
            SavepointSeenState::Completed => return Progress::Completed(known.clone()),
            SavepointSeenState::Failed => return Progress::Failed(known.message.clone().unwrap_or_default()),
            SavepointSeenState::Pending | SavepointSeenState::Deleting => {
                return Progress::Waits(known.message.clone());
            }
        }
    }
    let request =
        LeaderRequest::TakeSavepoint { name: savepoint.name.clone(), uid: savepoint.uid.clone(), then: Then::Continue };
    let subject = request.subject();
    // A refusal that is older than this object was another one's.
    let refused = view.seen.refused.iter().rev().find(|refused| {
        let asked = savepoint.status.started_at.as_ref().is_some_and(|asked| refused.at >= asked.0);
        refused.subject == subject && asked
    });
    if let Some(refused) = refused {
        return Progress::Failed(refused.message.clone());
    }
    if let Some(address) = running.pod.address.clone() {
        let job = view.seen.name().to_owned();
        draft.act(Action::Ask(Ask { job, pod: running.pod.name.clone(), address, request }));
    }
    Progress::Waits(None)
}

fn by_pod(view: &View<'_>, savepoint: &SavepointSeen, draft: &mut Draft) -> Progress {
    match work(view, &savepoint.uid, &["savepoint", "create", &savepoint.name], draft) {
        Work::Waits(message) => Progress::Waits(Some(message)),
        Work::Failed(message) => Progress::Failed(message),
        Work::Done => Progress::Completed(SavepointReport {
            name: savepoint.name.clone(),
            uid: savepoint.uid.clone(),
            state: SavepointSeenState::Completed,
            message: None,
            checkpoint: view.status.last_checkpoint.as_ref().map(|checkpoint| checkpoint.number),
            completed_unix_ms: None,
            total_bytes: None,
        }),
    }
}

fn started(view: &View<'_>, mut status: SavepointStatus) -> SavepointStatus {
    status.started_at.get_or_insert(Time(view.now));
    status
}

fn pending(view: &View<'_>, status: SavepointStatus, message: &str) -> SavepointStatus {
    let message = format!("it waits: {message}");
    stage(view, status, SavepointState::Pending, &Conditions::moving(Reason::Pending, message))
}

fn waits(view: &View<'_>, status: SavepointStatus, message: Option<String>) -> SavepointStatus {
    let message = message.unwrap_or_else(|| "the job takes it with its next checkpoint".to_owned());
    let status = started(view, status);
    stage(view, status, SavepointState::InProgress, &Conditions::moving(Reason::InProgress, message))
}

fn failed(view: &View<'_>, status: SavepointStatus, message: String) -> SavepointStatus {
    stage(view, status, SavepointState::Failed, &Conditions::stalled(Reason::SavepointFailed, message))
}

fn completed(
    view: &View<'_>,
    savepoint: &SavepointSeen,
    status: SavepointStatus,
    report: &SavepointReport,
) -> SavepointStatus {
    let at = report.completed_unix_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(view.now);
    let mut status = started(view, status);
    status.checkpoint = report.checkpoint;
    status.state_bytes = report.total_bytes;
    status.completed_at = Some(Time(at));
    let folder = crate::build::place(&view.seen.job);
    status.path = folder.map(|folder| format!("{folder}/savepoints/{}", savepoint.name));
    stage(
        view,
        status,
        SavepointState::Completed,
        &Conditions::ready(Reason::Completed, "it can be restored".to_owned()),
    )
}

/// What is said of a Savepoint whose job does not exist: it waits for one.
#[must_use]
pub fn orphaned(savepoint: &SavepointSeen, message: &str, now: Timestamp) -> SavepointStatus {
    let mut status = savepoint.status.clone();
    let told = Conditions::moving(Reason::Pending, message.to_owned());
    (status.state, status.message) = (Some(SavepointState::Pending), Some(message.to_owned()));
    status.observed_generation = savepoint.generation;
    status.conditions = conditions(&status.conditions, &told, savepoint.generation, now);
    status
}

fn stage(view: &View<'_>, mut status: SavepointStatus, state: SavepointState, told: &Conditions) -> SavepointStatus {
    status.state = Some(state);
    status.message = Some(told.message().to_owned()).filter(|_| state != SavepointState::Completed);
    status.conditions = conditions(&status.conditions, told, status.observed_generation, view.now);
    status
}

/// The Savepoint is being deleted, and its state with it if that is its policy and somebody can do it in time.
fn release(view: &View<'_>, savepoint: &SavepointSeen, since: Timestamp, draft: &mut Draft) {
    if !savepoint.finalizer {
        return;
    }
    let keeps = savepoint.policy == SavepointDeletionPolicy::Retain;
    let begun = savepoint.status.started_at.is_some();
    if keeps || !begun || view.seen.deleted().is_some() || view.seen.namespace_ends {
        if !keeps && begun {
            draft.warn(
                Reason::StateLeft,
                format!("the state of savepoint {} stays with the job's{}", savepoint.name, savepoint.at()),
            );
        }
        return set(savepoint, Finalizer::Removed, draft);
    }
    if view.since(since) >= delete::LIMIT {
        let why = "nobody could delete it in time";
        let message = format!("savepoint {} stays in the store{}: {why}", savepoint.name, savepoint.at());
        draft.warn(Reason::StateLeft, message);
        return set(savepoint, Finalizer::Removed, draft);
    }
    draft.look_at(since.checked_add(delete::LIMIT).unwrap_or(view.now), view.now);
    if let Some(running) = view.running() {
        let known = running.report.savepoints.iter().find(|known| known.name == savepoint.name);
        match (known.filter(|known| known.uid == savepoint.uid), running.pod.address.clone()) {
            (None, _) => set(savepoint, Finalizer::Removed, draft),
            (Some(_), Some(address)) => {
                let request = LeaderRequest::ReleaseSavepoint { name: savepoint.name.clone() };
                let job = view.seen.name().to_owned();
                draft.act(Action::Ask(Ask { job, pod: running.pod.name.clone(), address, request }));
                draft.look_again(super::reach::CHANGE_POLL);
            }
            (Some(_), None) => {}
        }
    } else if is_still(view) {
        let request = format!("{}-delete", savepoint.uid);
        match work(view, &request, &["savepoint", "delete", &savepoint.name], draft) {
            Work::Waits(_) => {}
            Work::Done => set(savepoint, Finalizer::Removed, draft),
            Work::Failed(message) => {
                let name = &savepoint.name;
                draft.warn(
                    Reason::StateLeft,
                    format!("savepoint {name} stays in the store{}: {message}", savepoint.at()),
                );
                set(savepoint, Finalizer::Removed, draft);
            }
        }
    }
}
