//! The job runs as a revision, or changes to it.
//!
//! ```text
//!   in force ────────────── its pods live; everybody else's go
//!   same pods, other width─ new pods, assignment; the leader loads and switches; surplus pods go once it is in force
//!   other pods ──────────── check ▶ new pods beside the old ▶ assignment to whoever runs the job ▶ in force ▶ old pods go
//!   no room for new pods ── assignment first; the old pods go when they have stopped for it
//! ```

use std::time::Duration;

use weir_crds::{ChangeKind, ChangeStep, JobState, Reason};

use super::check::{self, verdict};
use super::draft::{Draft, Trouble};
use super::failure::{cannot_stop, deadline_at};
use super::fleet::{Fleet, delete};
use super::health::{Standing, standing};
use super::strategy;
use super::view::View;
use crate::model::{
    Action, Ask, Assign, CheckVerdict, Ending, LeaderRequest, LeaderSeen, LeaderState, PodSeen, RevisionSeen, Role,
    SwitchStep,
};

/// How often a change is looked at.
pub(super) const CHANGE_POLL: Duration = Duration::from_secs(1);
/// How long a refused request waits before it is made again, in seconds.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// The job runs as this revision, or is on its way to.
pub(super) fn reach(view: &View<'_>, target: &RevisionSeen, draft: &mut Draft) {
    draft.act(Action::Certificates);
    let content = &target.content;
    let before = view.current().filter(|current| current.number < target.number);
    match before {
        _ if view.in_force >= target.number => steady(view, target, draft),
        None if view.in_force == 0 => start(view, target, draft),
        Some(before) if before.content.program == content.program => widen(view, before, target, draft),
        _ => replace(view, before, target, draft),
    }
}

/// The pods of a revision.
pub(super) fn fleet<'v, 'a>(view: &'v View<'a>, revision: &RevisionSeen, active: u32) -> Fleet<'v, 'a> {
    let program = revision.content.program;
    Fleet { view, program, active: 0..active, restart: strategy(view) }
}

fn steady(view: &View<'_>, target: &RevisionSeen, draft: &mut Draft) {
    let (program, workers) = (target.content.program, target.content.workers);
    draft.act(Action::Prepare { program, workers });
    fleet(view, target, workers).keep(0..workers, draft);
    serve(view, target, draft);
    let ours = |pod: &&PodSeen| pod.role == Role::Worker && pod.revision == program && pod.ordinal < workers;
    delete(view.seen.pods.iter().filter(|pod| !ours(pod) && pod.role != Role::Maintenance), draft);
    if !view.is_stable(program) {
        prove(view, target, draft);
    }
}

/// The first checkpoint of a new program is awaited.
fn prove(view: &View<'_>, target: &RevisionSeen, draft: &mut Draft) {
    let kind = kind_of_change(view, target);
    draft.changes(kind, target.number, ChangeStep::Proving);
    draft.waits_for("the first checkpoint");
    draft.look_again(CHANGE_POLL);
    if let Some(moment) = deadline_at(view, target) {
        draft.look_at(moment, view.now);
    }
}

fn kind_of_change(view: &View<'_>, target: &RevisionSeen) -> ChangeKind {
    let known = view.status.change.as_ref().filter(|change| change.revision == target.number);
    let earlier = view
        .revisions
        .iter()
        .any(|revision| revision.number < target.number && revision.content.program != target.content.program);
    match known {
        _ if target.content.takes_back.is_some() => ChangeKind::Rollback,
        Some(change) => change.kind,
        None if earlier => ChangeKind::Upgrade,
        None => ChangeKind::Start,
    }
}

fn start(view: &View<'_>, target: &RevisionSeen, draft: &mut Draft) {
    let (program, workers) = (target.content.program, target.content.workers);
    draft.changes(ChangeKind::Start, target.number, ChangeStep::Starting);
    draft.act(Action::Prepare { program, workers });
    fleet(view, target, workers).keep(0..workers, draft);
    // Whether something runs already is only known once a leader has looked.
    if view.report(program).is_some_and(|report| report.revision == 0 && report.has_begun()) {
        delete(view.workers().filter(|pod| pod.revision != program || pod.ordinal >= workers), draft);
    }
    assign_to_its_leader(view, target, draft);
}

fn widen(view: &View<'_>, before: &RevisionSeen, target: &RevisionSeen, draft: &mut Draft) {
    let (program, workers) = (target.content.program, target.content.workers);
    let was = before.content.workers;
    let kind = match (target.content.takes_back.is_some(), view.is_suspended(before)) {
        (true, _) => ChangeKind::Rollback,
        (_, true) => ChangeKind::Resume,
        (false, false) => ChangeKind::Rescale,
    };
    draft.changes(kind, target.number, ChangeStep::Starting);
    draft.act(Action::Prepare { program, workers: was.min(workers) });
    let active = if kind == ChangeKind::Resume { workers } else { was };
    let all = if kind == ChangeKind::Resume { workers } else { was.max(workers) };
    fleet(view, target, active).keep(0..all, draft);
    if knows_what_goes(view, program) {
        delete(view.workers().filter(|pod| pod.revision != program || pod.ordinal >= all), draft);
    }
    assign_to_its_leader(view, target, draft);
}

fn replace(view: &View<'_>, before: Option<&RevisionSeen>, target: &RevisionSeen, draft: &mut Draft) {
    let content = &target.content;
    let resumes = before.is_some_and(|before| view.is_suspended(before));
    let kind = match (content.takes_back.is_some(), resumes) {
        (true, _) => ChangeKind::Rollback,
        (_, true) => ChangeKind::Resume,
        (false, false) => ChangeKind::Upgrade,
    };
    draft.changes(kind, target.number, ChangeStep::Starting);
    draft.look_again(CHANGE_POLL);
    if let Some(moment) = deadline_at(view, target) {
        draft.look_at(moment, view.now);
    }
    let old = old_pods(view, before, target);
    if let (Some(before), Old::Run) = (before, old) {
        let workers = before.content.workers;
        draft.act(Action::Prepare { program: before.content.program, workers });
        fleet(view, before, workers).keep(0..workers, draft);
    }
    match verdict(view, target) {
        Some(CheckVerdict::Fits) => {}
        // A misfit is written down before anything else is decided.
        Some(CheckVerdict::Misfit { .. }) => return,
        None => {
            draft.act(Action::Prepare { program: content.program, workers: content.workers });
            return check::check(view, target, draft);
        }
    }
    let workers = if old == Old::Run { before.map_or(0, |before| before.content.workers) } else { content.workers };
    draft.act(Action::Prepare { program: content.program, workers });
    let active = if old == Old::Run { 0 } else { content.workers };
    let warm = fleet(view, target, active).keep(0..content.workers, draft);
    let running = view.running();
    let was = before.map(|before| before.content.program).or(running.map(|running| running.pod.revision));
    let kept = |pod: &&PodSeen| pod.revision == content.program || (Some(pod.revision) == was && old != Old::Go);
    if knows_what_goes(view, content.program) {
        delete(view.workers().filter(|pod| !kept(pod)), draft);
    }
    let by_force = content.force || content.takes_back.is_some();
    match running.filter(|_| old == Old::Run) {
        Some(_) if !warm && !has_no_room(view, content.program) => draft.waits_for("the new workers to be up"),
        Some(running) if !by_force || !warm => assign(view, target, (running.pod, running.report.state), draft),
        _ => assign_to_its_leader(view, target, draft),
    }
}

/// What becomes of the pods of what was in force.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    /// They run the job until it stops for the new revision.
    Run,
    /// They do not run it any more; they go when the new ones are there.
    Stay,
    /// They go.
    Go,
}

fn old_pods(view: &View<'_>, before: Option<&RevisionSeen>, target: &RevisionSeen) -> Old {
    let Some(before) = before else {
        return if view.running().is_some() { Old::Run } else { Old::Stay };
    };
    if view.is_suspended(before) {
        return Old::Go;
    }
    let report = view.report(before.content.program);
    let waits = report.is_some_and(|report| {
        let over = report.state == LeaderState::Awaiting || report.ending == Some(Ending::HandedOver);
        over && report.assigned >= target.number
    });
    let handed_over = view
        .leader(before.content.program)
        .is_some_and(|pod| !pod.deleting && report.is_none() && pod.exit().is_some_and(|exit| exit.code == 5));
    if waits || handed_over {
        return Old::Go;
    }
    let by_force = target.content.force || target.content.takes_back.is_some();
    if !by_force {
        return Old::Run;
    }
    // What nobody was told yet may never be told: until then the old pods are all that the job has.
    let new_knows = view.report(target.content.program).is_some_and(|report| report.assigned >= target.number);
    match new_knows || has_no_room(view, target.content.program) {
        true if cannot_stop(view) => Old::Go,
        _ if cannot_stop(view) => Old::Stay,
        _ => Old::Run,
    }
}

/// Whether pods that are not needed for what is in force can be told apart. What the status and the Service say may be
/// older than the last assignment that a leader began, so one has to have looked; only pods without any room to start in
/// make the others go unseen.
fn knows_what_goes(view: &View<'_>, program: u64) -> bool {
    view.is_confirmed() || has_no_room(view, program)
}

/// Whether the new pods can only be had in the place of the old ones.
fn has_no_room(view: &View<'_>, program: u64) -> bool {
    let no_room = |pod: &PodSeen| {
        let waits = view.since(pod.created) >= Duration::from_secs(10);
        matches!(standing(pod), Standing::Stuck(trouble) if trouble.reason == Reason::Unschedulable) && waits
    };
    let pods: Vec<&PodSeen> = view.workers().filter(|pod| pod.revision == program && !pod.deleting).collect();
    pods.iter().any(|pod| no_room(pod)) && pods.iter().all(|pod| no_room(pod) || super::health::is_up(pod))
}

fn assign_to_its_leader(view: &View<'_>, target: &RevisionSeen, draft: &mut Draft) {
    let program = target.content.program;
    match (view.leader(program).filter(|pod| !pod.deleting), view.report(program)) {
        (Some(pod), Some(report)) if report.has_begun() => assign(view, target, (pod, report.state), draft),
        (Some(pod), _) => match view.seen.leaders.get(&pod.name) {
            Some(LeaderSeen::Silent { message }) => draft.waits_for(format!("the leader to answer: {message}")),
            _ => draft.waits_for("the leader to begin"),
        },
        (None, _) => draft.waits_for("the pod of the leader"),
    }
    draft.look_again(CHANGE_POLL);
}

/// Tells a leader what the job is to become, unless it knows.
fn assign(view: &View<'_>, target: &RevisionSeen, (pod, state): (&PodSeen, LeaderState), draft: &mut Draft) {
    if let Some(change) = &mut draft.change {
        change.step = ChangeStep::Assigning;
    }
    let report = view.seen.leaders.get(&pod.name).and_then(|leader| leader.report());
    let failed = report.and_then(|report| report.failed.as_ref()).filter(|(revision, _)| *revision == target.number);
    let request = LeaderRequest::Assign(assignment(target));
    let subject = request.subject();
    let refused = view.seen.refused.iter().rev().find(|refused| refused.subject == subject);
    if let Some((_, message)) = failed {
        draft.troubles.push(Trouble::new(Reason::StopFailed, message));
        draft.waits_for(message.clone());
    }
    if let Some(refused) = refused {
        draft.troubles.push(Trouble::new(Reason::Refused, &refused.message));
        draft.waits_for(refused.message.clone());
    }
    let known = report.is_some_and(|report| report.assigned >= target.number);
    let pause = refused.map_or(Duration::ZERO, |refused| REFUSED_PAUSE.saturating_sub(view.since(refused.at)));
    if !pause.is_zero() {
        return draft.look_again(pause);
    }
    let address = pod.address.clone().filter(|_| !known || failed.is_some());
    if let Some(address) = address {
        let job = view.seen.name().to_owned();
        draft.act(Action::Ask(Ask { job, pod: pod.name.clone(), address, request }));
    }
    if let Some(report) = report.filter(|_| failed.is_none() && refused.is_none()) {
        draft.waits_for(match (report.change.map(|change| change.step), state) {
            (Some(SwitchStep::Gathering), _) => "workers register",
            (Some(SwitchStep::Preparing), _) => "workers load what they will own",
            (Some(SwitchStep::Stopping), _) => "the savepoint with which the job stops",
            (None, LeaderState::Awaiting) => "the job to stop as it was",
            (None, _) if known => "the leader to begin",
            // It answers once the store has it.
            (None, _) => "the leader to note the assignment in the store",
        });
    }
    draft.look_again(CHANGE_POLL);
}

fn assignment(target: &RevisionSeen) -> Assign {
    let content = &target.content;
    Assign {
        revision: target.number,
        parallelism: content.parallelism,
        workers: content.workers,
        code: content.code.clone(),
        force: content.force,
        rollback: content.takes_back.as_ref().map(|failed| failed.code.clone()),
        restore: content.restore.clone(),
    }
}

/// People find the leader of what is in force.
fn serve(view: &View<'_>, target: &RevisionSeen, draft: &mut Draft) {
    if let Some(pod) = view.leader(target.content.program) {
        let program = target.content.program;
        draft.act(Action::Serve { revision: view.in_force, program, attempt: pod.attempt });
    }
}

/// What runs goes on, whatever else is wanted.
pub(super) fn go_on(view: &View<'_>, revision: Option<&RevisionSeen>, draft: &mut Draft) {
    let Some(revision) = revision else {
        return;
    };
    if view.in_force >= revision.number && !view.is_suspended(revision) {
        draft.act(Action::Certificates);
        let (program, workers) = (revision.content.program, revision.content.workers);
        draft.act(Action::Prepare { program, workers });
        fleet(view, revision, workers).keep(0..workers, draft);
        serve(view, revision, draft);
    } else if view.in_force == 0 {
        draft.state = Some(JobState::Pending);
    }
}
