//! The StreamJob is being deleted: what becomes of its state.
//!
//! `Retain` needs nothing. `Savepoint` stops the job with a savepoint, or has a pod take one of a job that stands still.
//! `Delete` ends the pods and has one delete the state. Whoever cannot be helped within [`LIMIT`] keeps the state, and is
//! told so: a deletion never hangs.

use std::time::Duration;

use weir_crds::{ChangeKind, ChangeStep, DeletionPolicy, JobState, Reason};

use super::draft::{Draft, Trouble};
use super::failure::cannot_stop;
use super::fleet::delete;
use super::maintain::{Work, try_again, work};
use super::suspend::{Stop, stop};
use super::view::View;
use crate::model::{Action, Finalizer, Mark, Role, name};

/// How long a deletion may wait for the state to be looked after.
pub(super) const LIMIT: Duration = Duration::from_secs(600);

/// Whether the StreamJob has our finalizer.
pub(super) fn has_finalizer(view: &View<'_>) -> bool {
    view.seen.job.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == name::JOB_FINALIZER)
}

/// The finalizer is there if the policy needs it, before there is any state.
pub(super) fn keep_finalizer(view: &View<'_>, draft: &mut Draft) {
    let needed = view.seen.job.spec.deletion_policy != DeletionPolicy::Retain;
    match (needed, has_finalizer(view)) {
        (true, false) => draft.act(Action::Finalizer(Finalizer::Set)),
        (false, true) => draft.act(Action::Finalizer(Finalizer::Removed)),
        _ => {}
    }
}

/// The job goes, and its state as the policy says.
pub(super) fn end(view: &View<'_>, draft: &mut Draft) {
    draft.state = Some(JobState::Deleting);
    let newest = view.revisions.last().map_or(0, |revision| revision.number);
    draft.changes(ChangeKind::Delete, newest, ChangeStep::Stopping);
    if !has_finalizer(view) {
        return;
    }
    let policy = view.seen.job.spec.deletion_policy;
    let late = view.seen.deleted().is_some_and(|deleted| view.since(deleted) >= LIMIT);
    if policy == DeletionPolicy::Retain || newest == 0 {
        return draft.act(Action::Finalizer(Finalizer::Removed));
    }
    if view.seen.namespace_ends {
        let message = format!("the namespace is being deleted, where no pod can be started: {}", kept(view));
        draft.warn(Reason::StateLeft, message);
        return draft.act(Action::Finalizer(Finalizer::Removed));
    }
    if late {
        let last = view.status.change.as_ref().and_then(|change| change.message.as_deref());
        draft.warn(Reason::StateLeft, format!("{}: {}", kept(view), last.unwrap_or("it took too long")));
        return draft.act(Action::Finalizer(Finalizer::Removed));
    }
    draft.look_again(Duration::from_secs(2));
    match policy {
        DeletionPolicy::Retain => {}
        DeletionPolicy::Savepoint => with_savepoint(view, draft),
        DeletionPolicy::Delete => without_state(view, draft),
    }
}

/// Where the state is that stays.
fn kept(view: &View<'_>) -> String {
    let folder = crate::build::place(&view.seen.job);
    folder.map_or_else(|| "the state is kept".to_owned(), |folder| format!("the state is kept in {folder}"))
}

fn with_savepoint(view: &View<'_>, draft: &mut Draft) {
    if view.in_force == 0 || has_mark(view) {
        return draft.act(Action::Finalizer(Finalizer::Removed));
    }
    let uid = view.seen.uid();
    let name = format!("final-{}", uid.get(..8).unwrap_or(uid));
    if view.workers().next().is_some() && !cannot_stop(view) {
        let over = stop(view, &name, draft) == Stop::Over;
        if let Some(current) = view.current().filter(|_| over) {
            draft.act(Action::Mark { number: current.number, mark: Mark::Suspended });
        }
        return;
    }
    delete(view.seen.pods.iter().filter(|pod| pod.role != Role::Maintenance), draft);
    let request = format!("{uid}-{name}");
    finish(view, &request, work(view, &request, &["savepoint", "create", &name], draft), draft);
}

/// Whether it has stopped with a savepoint, or has finished.
fn has_mark(view: &View<'_>) -> bool {
    let stopped = |mark: &Mark| matches!(mark, Mark::Suspended | Mark::Finished);
    view.revisions.iter().any(|revision| revision.number >= view.in_force && revision.marks.iter().any(stopped))
}

fn without_state(view: &View<'_>, draft: &mut Draft) {
    delete(view.seen.pods.iter().filter(|pod| pod.role != Role::Maintenance), draft);
    let request = format!("{}-delete", view.seen.uid());
    finish(view, &request, work(view, &request, &["state", "delete"], draft), draft);
}

fn finish(view: &View<'_>, request: &str, work: Work, draft: &mut Draft) {
    if let Some(change) = &mut draft.change {
        change.step = ChangeStep::Maintaining;
    }
    match work {
        Work::Waits(message) => draft.waits_for(message),
        Work::Done => draft.act(Action::Finalizer(Finalizer::Removed)),
        Work::Failed(message) => {
            draft.waits_for(message.clone());
            draft.troubles.push(Trouble::new(Reason::StateLeft, message));
            try_again(view, request, draft);
        }
    }
}
