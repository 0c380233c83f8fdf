//! What is to happen to a job: a pure function of what was seen.
//!
//! ```text
//!             ┌────────────── a newer wish, at any time ───────────────┐
//!             ▼                                                        │
//!  (none) ─▶ Start ─▶ Running ─┬▶ Rescale: pods ▶ assignment ▶ in force ┤
//!             ▲          ▲     ├▶ Upgrade: check ▶ pods ▶ assignment ▶ in force ▶ first checkpoint
//!             │          │     │     │ does not fit            │ deadline, crashes
//!             │          │     │     ▼                         ▼
//!             │          ├─────┼── goes on as it was ◀────── Rollback: pods ▶ assignment ▶ in force
//!             │          │     ├▶ Suspend: savepoint ▶ stopped ▶ pods go ──▶ Suspended ─▶ Resume: a new revision
//!             │          │     ├▶ input ends ─▶ Finished: pods go, for good
//!             │          │     └▶ spec.restart allows no more ─▶ Failed: pods go, until the spec changes
//!             │          └ a pod is gone, or its container ends again and again: another one, of another name
//!             └ deleted: nothing, a last savepoint, or the end of the state, as deletionPolicy says
//! ```
//!
//! The truth about the job is its leader's and its chain's. What the cluster holds is enough to go on from any moment:
//! a revision object for each thing that the job was told to be, with marks for what became of it; pods; and Services
//! with the highest attempt of a leader. The status is a report, from which only what is lost elsewhere is read.
//!
//! - What is told to a leader was recorded as a revision before; revisions only grow, so a frozen controller can tell
//!   nothing new.
//! - A pod is removed only in a list of actions that replaces it before, or when nothing is to run in its place.
//! - The job is stopped only for what was found to fit, and it is the leader that stops it.

mod check;
mod checkpoints;
mod condition;
mod delete;
mod desire;
mod draft;
mod failure;
mod fleet;
mod goal;
mod health;
mod maintain;
mod prune;
mod reach;
mod report;
mod said;
mod savepoints;
mod suspend;
mod view;

pub use savepoints::orphaned;

use std::time::Duration;

use jiff::Timestamp;
use weir_crds::{JobState, Reason, RestartStrategy};

use crate::model::{
    Action, Ask, ContainerState, Decision, LeaderRequest, LeaderSeen, Mark, Needed, Observed, OriginSeen, Then, Wish,
    name,
};
use draft::{Draft, Trouble};
use goal::Goal;
use view::View;

/// How often a job that has workers is looked at when nothing changes in the cluster: only its leader can say that it has
/// finished, restarted or completed a checkpoint.
const STEADY_POLL: Duration = Duration::from_secs(10);

/// A leader has this long to listen before its silence is told.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is to happen to a job now.
#[must_use]
pub fn decide(observed: &Observed, now: Timestamp) -> Decision {
    let view = View::of(observed, now);
    let mut draft = Draft::default();
    if observed.deleted().is_some() {
        delete::end(&view, &mut draft);
    } else if observed.annotation(name::PAUSE) == Some("true") {
        draft.paused = true;
    } else {
        delete::keep_finalizer(&view, &mut draft);
        follow(&view, &mut draft);
    }
    if !draft.paused {
        savepoints::tend(&view, &mut draft);
    }
    hindrances(&view, &mut draft);
    if view.workers().next().is_some() {
        draft.look_again(STEADY_POLL);
    }
    let status = report::status(&view, &mut draft);
    let Draft { actions, events, again, last_checkpoint, .. } = draft;
    Decision { status, actions, events, again, last_checkpoint }
}

/// Name of the savepoint with which a job holds on to the state of another one that it begins with.
#[must_use]
pub fn fork_name(uid: &str) -> String {
    format!("fork-{uid}")
}

fn follow(view: &View<'_>, draft: &mut Draft) {
    match goal::goal(view) {
        Goal::Hold(trouble) => {
            reach::go_on(view, view.current(), draft);
            draft.stall(trouble);
        }
        Goal::Wait(current, trouble, change) => {
            reach::go_on(view, current, draft);
            if let Some(change) = change {
                draft.change = Some(change);
                draft.waits_for(trouble.message.clone());
                draft.troubles.insert(0, trouble);
            } else {
                draft.stall(trouble);
            }
        }
        Goal::Record(change, number, content) => {
            draft.tell(report::reason_of(change.kind), format!("revision {number} is recorded"));
            draft.change = Some(change);
            draft.act(Action::Record { number, content });
            draft.look_again(Duration::ZERO);
        }
        Goal::Mark(number, mark) => {
            if let Mark::Failed { reason, message } = &mark {
                let of_name = |known: &&Reason| known.name() == reason;
                let reason = Reason::ALL.iter().find(of_name).copied().unwrap_or(Reason::UpgradeFailed);
                draft.warn(reason, format!("revision {number}: {message}"));
            }
            keep_change(view, draft);
            draft.act(Action::Mark { number, mark });
            draft.look_again(Duration::ZERO);
        }
        Goal::Pin(current, change) => {
            reach::go_on(view, current, draft);
            draft.change = Some(change);
            pin(view, draft);
        }
        Goal::Rest(Reason::Finished) => suspend::rest(view, JobState::Finished, draft),
        Goal::Rest(_) => {
            suspend::rest(view, JobState::Failed, draft);
            let failed = view.revisions.iter().rev().find_map(|revision| revision.failed());
            let message = failed.map_or("", |(_, message)| message);
            draft.stall(Trouble::new(Reason::RestartsExhausted, message));
        }
        Goal::Suspend => suspend::suspend(view, draft),
        Goal::Reach(target, trouble) => {
            reach::reach(view, target, draft);
            if view.in_force >= target.number {
                suspend::release_old(view, draft);
                unpin(view, draft);
                prune::prune(view, target, draft);
            }
            if let Some(trouble) = trouble {
                draft.stall(trouble);
            }
        }
    }
}

/// Writing down what became of a revision is no step of its own.
fn keep_change(view: &View<'_>, draft: &mut Draft) {
    draft.change = view.status.change.as_ref().map(|change| draft::Change {
        kind: change.kind,
        revision: change.revision,
        step: change.step,
        message: change.message.clone(),
    });
}

/// The job whose state this one begins with keeps it until it has a checkpoint of its own.
fn pin(view: &View<'_>, draft: &mut Draft) {
    draft.look_again(reach::CHANGE_POLL);
    draft.waits_for("a savepoint of the job that restoreFrom names");
    let name = fork_name(view.seen.uid());
    let request = LeaderRequest::TakeSavepoint { uid: name.clone(), name, then: Then::Continue };
    let subject = request.subject();
    if let Some(refused) = view.seen.refused.iter().rev().find(|refused| refused.subject == subject) {
        draft.troubles.push(Trouble::new(Reason::Refused, &refused.message));
        let pause = Duration::from_secs(10).saturating_sub(view.since(refused.at));
        if !pause.is_zero() {
            return draft.look_again(pause);
        }
    }
    ask_origin(view, request, draft);
}

fn unpin(view: &View<'_>, draft: &mut Draft) {
    let proven = view.running().is_some_and(|running| view.is_stable(running.pod.revision));
    if proven && matches!(&view.seen.origin, Some(OriginSeen::Job { pinned: true, .. })) {
        let name = fork_name(view.seen.uid());
        ask_origin(view, LeaderRequest::ReleaseSavepoint { name }, draft);
    }
}

fn ask_origin(view: &View<'_>, request: LeaderRequest, draft: &mut Draft) {
    if let Some(OriginSeen::Job { job, leader: Some((pod, address)), .. }) = &view.seen.origin {
        let job = job.metadata.name.clone().unwrap_or_default();
        draft.act(Action::Ask(Ask { job, pod: pod.clone(), address: address.clone(), request }));
    }
}

/// What hinders that no pod can tell.
fn hindrances(view: &View<'_>, draft: &mut Draft) {
    if view.workers().any(|pod| !health::is_up(pod))
        && let Some(trouble) = absence(&view.seen.missing)
    {
        draft.troubles.insert(0, trouble);
    }
    if let Some(trouble) = silence(view) {
        draft.troubles.push(trouble);
    }
    if let Some(denied) = &view.seen.denied {
        draft.troubles.insert(0, Trouble::new(Reason::Denied, denied));
        draft.look_again(Duration::from_secs(5));
    }
}

/// What the pods cannot mount: the kubelet only says that it creates their containers.
fn absence(missing: &[Needed]) -> Option<Trouble> {
    let of = |name: fn(&Needed) -> Option<&str>| missing.iter().filter_map(name).collect::<Vec<_>>().join(", ");
    let secrets = of(|needed| if let Needed::Secret(name) = needed { Some(name) } else { None });
    let config_maps = of(|needed| if let Needed::ConfigMap(name) = needed { Some(name) } else { None });
    let (reason, words) = match (secrets.as_str(), config_maps.as_str()) {
        ("", "") => return None,
        (_, "") => (Reason::SecretMissing, format!("Secrets that the job names are missing: {secrets}")),
        ("", _) => (Reason::ContainerNotStarted, format!("ConfigMaps that the job names are missing: {config_maps}")),
        _ => {
            let words = format!("Secrets that the job names are missing: {secrets}; so are ConfigMaps: {config_maps}");
            (Reason::SecretMissing, words)
        }
    };
    Some(Trouble::new(reason, format!("{words}; the pods start when they are there")))
}

/// A leader that does not answer although its process has been up for a while.
fn silence(view: &View<'_>) -> Option<Trouble> {
    let current = view.current().or(view.newest())?;
    let pod = view.leader(current.content.program).filter(|pod| health::is_up(pod) && view.running().is_none())?;
    let ContainerState::Running { since: Some(since) } = pod.container.state else { return None };
    let LeaderSeen::Silent { message } = view.seen.leaders.get(&pod.name)? else { return None };
    let message = format!("the leader in pod {} does not answer the controller: {message}", pod.name);
    (view.since(since) >= PATIENCE).then(|| Trouble::new(Reason::LeaderSilent, message))
}

/// What happens after failures.
fn strategy(view: &View<'_>) -> RestartStrategy {
    match &view.seen.wish {
        Wish::Valid { job, .. } => job.restart.clone(),
        Wish::Invalid { .. } | Wish::NoSql { .. } => RestartStrategy::ExponentialDelay {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(60),
            multiplier: 2.0,
            jitter: 0.1,
            reset_after: Duration::from_secs(600),
        },
    }
}
