//! The job stops because the user wants it, and has no pods until the user wants it again.

use std::time::Duration;

use weir_crds::{ChangeKind, ChangeStep, JobState, Reason};

use super::draft::{Draft, Trouble};
use super::failure::cannot_stop;
use super::fleet::delete;
use super::health::is_up;
use super::reach::{CHANGE_POLL, go_on};
use super::view::{Running, View};
use crate::model::{Action, Ask, Ending, LeaderRequest, Mark, PodSeen, Role, SavepointSeenState, Then};

/// What every savepoint's name begins with that is taken to suspend the job.
const SUSPENDED: &str = "suspend-";

/// Stops the job with a savepoint, as soon as there is anything to stop.
pub(super) fn suspend(view: &View<'_>, draft: &mut Draft) {
    let Some(newest) = view.newest().or(view.revisions.last().copied()) else {
        draft.state = Some(JobState::Suspended);
        return;
    };
    if newest.marks.contains(&Mark::Suspended) {
        return rest(view, JobState::Suspended, draft);
    }
    draft.changes(ChangeKind::Suspend, newest.number, ChangeStep::Stopping);
    draft.state = Some(JobState::Suspending);
    let name = format!("{SUSPENDED}{}", view.in_force);
    match stop(view, &name, draft) {
        Stop::Over => draft.act(Action::Mark { number: newest.number, mark: Mark::Suspended }),
        Stop::Waits => {}
    }
}

/// How far a stop is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The job has stopped, or there is nothing to stop.
    Over,
    /// It is on its way.
    Waits,
}

/// Stops the job with a savepoint of this name.
pub(super) fn stop(view: &View<'_>, name: &str, draft: &mut Draft) -> Stop {
    draft.look_again(CHANGE_POLL);
    if view.in_force == 0 || view.workers().next().is_none() {
        return Stop::Over;
    }
    let ended = view
        .programs()
        .into_iter()
        .any(|program| matches!(view.ended(program), Some(Ending::Stopped | Ending::Finished)));
    if ended {
        return Stop::Over;
    }
    let Some(running) = view.running() else {
        if cannot_stop(view) || still_rests(view) {
            return Stop::Over;
        }
        draft.waits_for("the job to run, so that it can stop with a savepoint");
        go_on(view, view.current(), draft);
        return Stop::Waits;
    };
    go_on(view, view.current(), draft);
    ask_to_stop(view, running, name, draft);
    Stop::Waits
}

/// Whether what is in force was stopped before and nobody runs anything newer: a leader that may have begun has said that it
/// has not, or cannot say. Pods that came up to go on have nothing to save.
fn still_rests(view: &View<'_>) -> bool {
    let Some(current) = view.current().filter(|current| view.is_suspended(current)) else {
        return false;
    };
    let program = current.content.program;
    let may_run = |pod: &PodSeen| !pod.deleting && is_up(pod);
    !view.leader(program).is_some_and(may_run) || view.report(program).is_some()
}

fn ask_to_stop(view: &View<'_>, running: Running<'_>, name: &str, draft: &mut Draft) {
    let uid = format!("{}-{name}", view.seen.uid());
    let known = running.report.savepoints.iter().find(|savepoint| savepoint.name == name && savepoint.uid == uid);
    draft.waits_for("the savepoint with which the job stops");
    match known.map(|savepoint| savepoint.state) {
        Some(SavepointSeenState::Pending | SavepointSeenState::Completed) => return,
        Some(SavepointSeenState::Failed | SavepointSeenState::Deleting) => {
            let message = known.and_then(|savepoint| savepoint.message.clone()).unwrap_or_default();
            draft.troubles.push(Trouble::new(Reason::StopFailed, message.clone()));
            draft.waits_for(message);
        }
        None => {}
    }
    let request = LeaderRequest::TakeSavepoint { name: name.to_owned(), uid, then: Then::Stop };
    let subject = request.subject();
    if let Some(refused) = view.seen.refused.iter().rev().find(|refused| refused.subject == subject) {
        draft.troubles.push(Trouble::new(Reason::StopFailed, &refused.message));
        draft.waits_for(refused.message.clone());
        let pause = Duration::from_secs(10).saturating_sub(view.since(refused.at));
        if !pause.is_zero() {
            return draft.look_again(pause);
        }
    }
    if let Some(address) = running.pod.address.clone() {
        let job = view.seen.name().to_owned();
        draft.act(Action::Ask(Ask { job, pod: running.pod.name.clone(), address, request }));
    }
}

/// The job has no pods but those that work on its state.
pub(super) fn rest(view: &View<'_>, state: JobState, draft: &mut Draft) {
    draft.state = Some(state);
    delete(view.seen.pods.iter().filter(|pod| pod.role != Role::Maintenance), draft);
}

/// Savepoints of earlier stops are given up once the job has gone on from them.
pub(super) fn release_old(view: &View<'_>, draft: &mut Draft) {
    let Some(running) = view.running() else {
        return;
    };
    if !view.is_stable(running.pod.revision) || running.report.completed == 0 {
        return;
    }
    let Some(address) = &running.pod.address else {
        return;
    };
    let suffix = |name: &str| name.strip_prefix(SUSPENDED)?.parse::<u64>().ok();
    for savepoint in &running.report.savepoints {
        let ours = savepoint.uid == format!("{}-{}", view.seen.uid(), savepoint.name);
        let over = suffix(&savepoint.name).is_some_and(|revision| revision < view.in_force);
        if ours && over && savepoint.state == SavepointSeenState::Completed {
            draft.act(Action::Ask(Ask {
                job: view.seen.name().to_owned(),
                pod: running.pod.name.clone(),
                address: address.clone(),
                request: LeaderRequest::ReleaseSavepoint { name: savepoint.name.clone() },
            }));
        }
    }
}
