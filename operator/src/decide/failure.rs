//! When a revision has failed, and when a job cannot stop by itself any more.

use std::time::Duration;

use jiff::Timestamp;
use weir_crds::{Reason, RestartStrategy};

use super::check::{self, verdict};
use super::health::{Pace, Standing, last_words, pace, standing};
use super::strategy;
use super::view::View;
use crate::model::{CheckVerdict, Ending, FailureKind, Mark, PodSeen, RevisionSeen, Wish};

/// Ends in a row after which an upgrade is given up before its deadline.
const CRASHES: u32 = 5;

/// The mark of a revision that has failed just now.
pub(super) fn verdict_on(view: &View<'_>, newest: &RevisionSeen) -> Option<Mark> {
    let failed = |reason: Reason, message: String| Some(Mark::Failed { reason: reason.name().to_owned(), message });
    let program = newest.content.program;
    if let Some(CheckVerdict::Misfit { message }) = verdict(view, newest) {
        return failed(Reason::UpgradeRefused, message);
    }
    if newest.content.takes_back.is_some() {
        let stalled = view.report(program).filter(|report| report.ending == Some(Ending::Stalled))?;
        let message = stalled.last_failure.as_ref().map_or_else(String::new, |failure| failure.message.clone());
        return failed(Reason::RollbackFailed, message);
    }
    if can_roll_back(view, newest) {
        return given_up(view, newest).and_then(|message| failed(Reason::UpgradeFailed, message));
    }
    let message = exhausted(view, program)?;
    failed(Reason::RestartsExhausted, message)
}

/// Whether there is something to go back to.
fn can_roll_back(view: &View<'_>, newest: &RevisionSeen) -> bool {
    let Wish::Valid { job, .. } = &view.seen.wish else {
        return false;
    };
    let program = newest.content.program;
    let earlier = |revision: &&RevisionSeen| {
        let other = revision.content.program != program && revision.failed().is_none();
        other && revision.number < newest.number && (view.is_stable(revision.content.program))
    };
    job.rollback.enabled
        && !view.is_stable(program)
        && view.revisions.iter().copied().any(|revision| earlier(&revision))
}

/// Why an upgrade is given up, if it is.
fn given_up(view: &View<'_>, newest: &RevisionSeen) -> Option<String> {
    let program = newest.content.program;
    if let Some(report) = view.report(program)
        && matches!(report.ending, Some(Ending::Failed | Ending::Stalled))
    {
        let message = report.last_failure.as_ref().map_or("it has ended", |failure| failure.message.as_str());
        return Some(message.to_owned());
    }
    let pods: Vec<&PodSeen> = view.workers().filter(|pod| pod.revision == program && !pod.deleting).collect();
    let mut trouble = None;
    for pod in &pods {
        match standing(pod) {
            Standing::Refused(message) => return Some(message),
            Standing::Crashing(exit) if pod.failures + pod.container.restarts >= CRASHES => {
                return Some(format!("pod {} ends again and again: {}", pod.name, last_words(&exit)));
            }
            Standing::Crashing(exit) => trouble = Some(last_words(&exit)),
            Standing::Stuck(stuck) => trouble = Some(stuck.message),
            Standing::Well | Standing::Gone(_) => {}
        }
    }
    let trouble = trouble.or_else(|| check::trouble(view, newest).map(|trouble| trouble.message));
    let (limit, since) = deadline(view, newest)?;
    // As long as the old version runs and nothing is wrong with the new one, nothing is lost by waiting.
    let late = view.since(since) >= limit && (view.in_force >= newest.number || trouble.is_some());
    let why = trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
    late.then(|| format!("no checkpoint was complete within {}{why}", told(limit)))
}

fn told(limit: Duration) -> weir_crds::Duration {
    weir_crds::Duration::from_millis(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
}

/// How long an upgrade may take, and since when: the new version has the whole time, however long the old one takes to
/// stop. Until it is in force, what hinders it counts from the beginning.
fn deadline(view: &View<'_>, newest: &RevisionSeen) -> Option<(Duration, Timestamp)> {
    let Wish::Valid { job, .. } = &view.seen.wish else {
        return None;
    };
    let change = view.status.change.as_ref().filter(|change| change.revision == newest.number);
    let since = if view.in_force >= newest.number {
        change.and_then(|change| change.in_force_since.as_ref()).map_or(view.now, |since| since.0)
    } else {
        change.map_or(newest.created, |change| change.started_at.0)
    };
    Some((job.rollback.deadline, since))
}

/// When the next look at the deadline is due.
pub(super) fn deadline_at(view: &View<'_>, newest: &RevisionSeen) -> Option<Timestamp> {
    let (limit, since) = deadline(view, newest)?;
    since.checked_add(limit).ok().filter(|_| can_roll_back(view, newest))
}

/// Why the restart strategy allows no more, if it does not.
fn exhausted(view: &View<'_>, program: u64) -> Option<String> {
    let strategy = strategy(view);
    if matches!(strategy, RestartStrategy::ExponentialDelay { .. }) {
        return None;
    }
    let report = view.report(program).filter(|report| report.ending == Some(Ending::Failed));
    if let Some(failure) = report.and_then(|report| report.last_failure.as_ref())
        && failure.kind != FailureKind::User
    {
        return Some(failure.message.clone());
    }
    let pods = view.workers().filter(|pod| pod.revision == program && !pod.deleting);
    pods.filter_map(|pod| match standing(pod) {
        Standing::Crashing(exit) if pace(&strategy, pod, &exit, view.now) == Pace::Never => Some(last_words(&exit)),
        _ => None,
    })
    .next()
    .or_else(|| leader_gave_up(view, program))
}

/// The leader restarts the job itself; its process ends with 1 when it may not any more.
fn leader_gave_up(view: &View<'_>, program: u64) -> Option<String> {
    let pod = view.leader(program).filter(|pod| !pod.deleting)?;
    pod.exit().filter(|exit| exit.code == 1).map(last_words)
}

/// Whether what is in force will not stop for anything: it has ended, or does not come up.
pub(super) fn cannot_stop(view: &View<'_>) -> bool {
    if view.running().is_some() {
        return false;
    }
    let Some(current) = view.current() else {
        return true;
    };
    let program = current.content.program;
    let Some(pod) = view.leader(program) else {
        return true;
    };
    if let Some(report) = view.report(program) {
        return matches!(report.ending, Some(Ending::Failed | Ending::Stalled | Ending::Fenced));
    }
    matches!(standing(pod), Standing::Stuck(_) | Standing::Refused(_) | Standing::Crashing(_))
}
