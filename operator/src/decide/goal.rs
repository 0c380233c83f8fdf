//! What the job is to become: which revision, or none.
//!
//! ```text
//!   nothing recorded ───▶ record the first
//!   newest is finished ─▶ rest, unless another state to begin with is asked for
//!   wish has failed ────▶ the newest that has not; recorded anew if the failed one may be in force
//!   wish differs ───────▶ record it: a newer wish overtakes an unfinished one
//!   was suspended ──────▶ record it again: only a higher revision lifts a stop
//!   cannot be reached ──▶ record it again, with force
//!   else ───────────────▶ reach it
//! ```

use weir_crds::{ChangeKind, ChangeStep, DesiredState, Reason, UpgradeMode};

use super::desire::{Desired, Restore, desired};
use super::draft::{Change, Trouble};
use super::failure::{cannot_stop, verdict_on};
use super::view::View;
use crate::model::{Content, Ending, Mark, RevisionSeen, TakesBack, Wish};

/// What the job is to become.
pub(super) enum Goal<'a> {
    /// Nothing can be done, and nothing is to be changed.
    Hold(Trouble),
    /// What happens waits for something else; what runs goes on.
    Wait(Option<&'a RevisionSeen>, Trouble, Option<Change>),
    /// A revision is to be written down.
    Record(Change, u64, Box<Content>),
    /// What became of a revision is to be written down.
    Mark(u64, Mark),
    /// The state of another job is to be pinned.
    Pin(Option<&'a RevisionSeen>, Change),
    /// No pods.
    Rest(Reason),
    /// The job is to stop.
    Suspend,
    /// The job is to run as this revision; something may be wrong with what is asked for all the same.
    Reach(&'a RevisionSeen, Option<Trouble>),
}

/// What the job is to become.
pub(super) fn goal<'a>(view: &View<'a>) -> Goal<'a> {
    if let Some((number, mark)) = news(view) {
        return Goal::Mark(number, mark);
    }
    let wanted = desired(view);
    if matches!(&view.seen.wish, Wish::Valid { job, .. } if job.state == DesiredState::Suspended) {
        let finished = view.newest().is_some_and(|newest| newest.marks.contains(&Mark::Finished));
        return if finished { Goal::Rest(Reason::Finished) } else { Goal::Suspend };
    }
    match view.newest() {
        Some(newest) => after(view, newest, wanted),
        None => beginning(view, wanted),
    }
}

/// What became of a revision, and is not written down yet.
fn news(view: &View<'_>) -> Option<(u64, Mark)> {
    if let Some(running) = view.running() {
        let program = running.pod.revision;
        let proven = running.report.completed > 0 && !view.is_stable(program);
        if proven && view.current().is_some_and(|current| current.content.program == program) {
            return Some((view.in_force, Mark::Stable));
        }
    }
    let newest = view.newest()?;
    let program = view.current().unwrap_or(newest).content.program;
    if view.ended(program) == Some(Ending::Finished) && !newest.marks.contains(&Mark::Finished) {
        return Some((newest.number, Mark::Finished));
    }
    verdict_on(view, newest).map(|mark| (newest.number, mark))
}

/// Nothing is recorded, or all that is has failed.
fn beginning<'a>(view: &View<'a>, wanted: Result<Desired, Trouble>) -> Goal<'a> {
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(trouble) => return Goal::Hold(trouble),
    };
    match failed(view, &wanted) {
        Some(trouble) => resting(view, trouble),
        None => record_wish(view, None, &wanted),
    }
}

fn after<'a>(view: &View<'a>, newest: &'a RevisionSeen, wanted: Result<Desired, Trouble>) -> Goal<'a> {
    let last_failed = view.revisions.last().copied().filter(|last| last.failed().is_some());
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(trouble) if rests(newest) => return Goal::Hold(trouble),
        Err(trouble) => return settle(view, newest, Some(trouble)),
    };
    if newest.marks.contains(&Mark::Finished) {
        let anew = wanted.upgrade_mode == UpgradeMode::Stateless && !is_program(view, newest, &wanted);
        return match anew || wanted.restore.is_some() {
            true => record_wish(view, Some(newest), &wanted),
            false => Goal::Rest(Reason::Finished),
        };
    }
    let Some(trouble) = failed(view, &wanted) else {
        return follow(view, newest, &wanted);
    };
    let Some(last) = last_failed else {
        return keep_width(view, newest, &wanted, trouble);
    };
    if let Some(last) = trouble_of(last).filter(|last| is_final(last.reason)) {
        return resting(view, last);
    }
    if !may_be_assigned(view, last.number) {
        return keep_width(view, newest, &wanted, trouble);
    }
    if view.in_force == 0 || rests(newest) {
        return Goal::Hold(trouble);
    }
    let number = view.next_number();
    let mut content = again(view, newest);
    content.takes_back = Some(TakesBack { revision: last.number, code: last.content.code.clone() });
    Goal::Record(change(ChangeKind::Rollback, number), number, Box::new(content))
}

fn resting<'a>(view: &View<'a>, trouble: Trouble) -> Goal<'a> {
    match trouble.reason {
        Reason::RestartsExhausted => Goal::Rest(Reason::RestartsExhausted),
        _ if view.in_force == 0 => Goal::Hold(trouble),
        _ => Goal::Wait(view.current(), trouble, None),
    }
}

/// The wish can be followed.
fn follow<'a>(view: &View<'a>, newest: &'a RevisionSeen, wanted: &Desired) -> Goal<'a> {
    let same = is_program(view, newest, wanted);
    // What has failed since may have been begun all the same.
    let begun = |revision: &&RevisionSeen| revision.failed().is_some() && may_be_assigned(view, revision.number);
    let overtaken = view.revisions.iter().copied().any(|revision| revision.number > newest.number && begun(&revision));
    if !same || wanted.restore.is_some() || overtaken {
        return record_wish(view, Some(newest), wanted);
    }
    if rests(newest) || stopped(view, newest) {
        let number = view.next_number();
        let content = Content { parallelism: wanted.parallelism, workers: wanted.workers, ..again(view, newest) };
        return Goal::Record(change(ChangeKind::Resume, number), number, Box::new(content));
    }
    keep_width_of(view, newest, wanted, None)
}

/// What was asked for has failed; how wide the job runs can be changed all the same.
fn keep_width<'a>(view: &View<'a>, newest: &'a RevisionSeen, wanted: &Desired, trouble: Trouble) -> Goal<'a> {
    if rests(newest) {
        return Goal::Hold(trouble);
    }
    keep_width_of(view, newest, wanted, Some(trouble))
}

fn keep_width_of<'a>(
    view: &View<'a>,
    newest: &'a RevisionSeen,
    wanted: &Desired,
    trouble: Option<Trouble>,
) -> Goal<'a> {
    let content = &newest.content;
    let width = (content.parallelism, content.workers) == (wanted.parallelism, wanted.workers);
    // A rollback that is not in force must not be overtaken by one that takes nothing back, nor one that begins with
    // another state by one that does not, or does so once more.
    let begins = content.takes_back.is_some() || content.restore.is_some();
    if width || (begins && view.in_force < newest.number) {
        return settle(view, newest, trouble);
    }
    let number = view.next_number();
    let content = Content { parallelism: wanted.parallelism, workers: wanted.workers, ..again(view, newest) };
    let kind = if view.in_force == 0 { ChangeKind::Start } else { ChangeKind::Rescale };
    Goal::Record(change(kind, number), number, Box::new(content))
}

/// The newest revision is what is wanted; it may need force.
fn settle<'a>(view: &View<'a>, newest: &'a RevisionSeen, trouble: Option<Trouble>) -> Goal<'a> {
    let content = &newest.content;
    let current = view.current();
    let other = current.is_some_and(|current| current.content.program != content.program);
    let waits = view.in_force > 0 && view.in_force < newest.number && content.takes_back.is_none() && !content.force;
    let by_checkpoint =
        matches!(&view.seen.wish, Wish::Valid { job, .. } if job.upgrade_mode == UpgradeMode::LastCheckpoint);
    if waits && other && (by_checkpoint || cannot_stop(view)) {
        let number = view.next_number();
        let content = Content { force: true, ..again(view, newest) };
        return Goal::Record(change(ChangeKind::Upgrade, number), number, Box::new(content));
    }
    Goal::Reach(newest, trouble)
}

/// Records what is wished for, or finds the state that it begins with.
fn record_wish<'a>(view: &View<'a>, newest: Option<&'a RevisionSeen>, wanted: &Desired) -> Goal<'a> {
    let number = view.next_number();
    let kind = if view.in_force == 0 { ChangeKind::Start } else { ChangeKind::Upgrade };
    let current = newest.filter(|newest| !rests(newest) && view.in_force > 0);
    match &wanted.restore {
        Some(Restore::Missing(message)) => {
            let trouble = Trouble::new(Reason::RestorePointMissing, message);
            let change = Change { step: ChangeStep::Finding, ..change(kind, number) };
            return Goal::Wait(current, trouble, Some(change));
        }
        Some(Restore::Pin) => {
            return Goal::Pin(current, Change { step: ChangeStep::Finding, ..change(kind, number) });
        }
        Some(Restore::Own(_) | Restore::Path) | None => {}
    }
    let mut content = wanted.content(number);
    // Pods of a program that is recorded already can be used, with the code that they know.
    let fresh = wanted.restore.is_some();
    let known = |revision: &&&RevisionSeen| {
        let usable = revision.content.program == revision.number && !view.is_given_up(revision.number);
        usable && !fresh && wanted.program.is_exactly(view, revision)
    };
    if let Some(known) = view.revisions.iter().rev().find(known) {
        content = Content { program: known.number, manifest: None, image: known.content.image.clone(), ..content };
        content.code.clone_from(&known.content.code);
    }
    if view.in_force > 0 {
        let stateless = wanted.upgrade_mode == UpgradeMode::Stateless && !fresh;
        if stateless && view.current().is_none_or(|current| current.content.code != content.code) {
            content.restore = Some(crate::model::RestorePoint::Nothing);
        }
        let gone = newest.is_none_or(rests) || cannot_stop(view);
        content.force = gone || wanted.upgrade_mode == UpgradeMode::LastCheckpoint;
    }
    Goal::Record(change(kind, number), number, Box::new(content))
}

/// The same once more, under another number. The state that it begins with is used once.
fn again(view: &View<'_>, revision: &RevisionSeen) -> Content {
    let restore = revision.content.restore.clone().filter(|_| view.in_force < revision.number);
    Content { force: false, takes_back: None, restore, manifest: None, ..revision.content.clone() }
}

fn change(kind: ChangeKind, revision: u64) -> Change {
    Change { kind, revision, step: ChangeStep::Recording, message: None }
}

/// Whether the pods of this revision are those that are wished for.
fn is_program(view: &View<'_>, revision: &RevisionSeen, wanted: &Desired) -> bool {
    view.revision(revision.content.program).is_some_and(|program| wanted.program.is(view, program))
}

/// Why this wish is not tried again. What has not even begun is, with another image.
fn failed(view: &View<'_>, wanted: &Desired) -> Option<Trouble> {
    let revision = view.revisions.iter().rev().find(|revision| {
        let content = &revision.content;
        let same = content.key == wanted.key && content.takes_back.is_none();
        let image = content.image == wanted.program.image || view.has_begun(content.program);
        same && image && revision.failed().is_some()
    });
    trouble_of(revision?)
}

fn trouble_of(revision: &RevisionSeen) -> Option<Trouble> {
    let (reason, message) = revision.failed()?;
    let of_name = |known: &&Reason| known.name() == reason;
    let reason = Reason::ALL.iter().find(of_name).copied().unwrap_or(Reason::UpgradeFailed);
    Some(Trouble::new(reason, message))
}

/// Whether nothing is left to go back to.
fn is_final(reason: Reason) -> bool {
    matches!(reason, Reason::RestartsExhausted | Reason::RollbackFailed)
}

/// Whether it was told to stop, for as long as nothing else is said.
fn rests(revision: &RevisionSeen) -> bool {
    revision.marks.iter().any(|mark| matches!(mark, Mark::Suspended | Mark::Finished))
}

/// Whether the leader says that the job was stopped, although nobody wants that any more.
fn stopped(view: &View<'_>, newest: &RevisionSeen) -> bool {
    let current = view.current().unwrap_or(newest);
    newest.number == view.in_force && view.ended(current.content.program) == Some(Ending::Stopped)
}

/// Whether a leader may have heard of this revision.
fn may_be_assigned(view: &View<'_>, number: u64) -> bool {
    if view.in_force >= number || view.assigned() >= number {
        return true;
    }
    let told = view.status.change.as_ref().filter(|change| change.revision == number);
    match told {
        Some(change) => change.step >= ChangeStep::Assigning,
        // What a leader does not know, nobody has told it; without one nothing is known.
        None => view.running().is_none(),
    }
}
