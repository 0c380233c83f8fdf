//! Assignments: asked, examined, stored, answered. Only what is stored is ever acted upon.

mod pins;
mod switch;
mod terms;

pub(super) use pins::pins_of_assignments;
pub(super) use switch::Switch;
pub(super) use terms::{Order, Refusal, order};

use super::action::Request;
use super::notice::{AssignmentAnswer, Notice};
use super::standing::{manifest_of, savepoint_origin};
use super::store::{Answer, Purpose};
use super::{Leader, Phase};
use crate::chain::{Assignment, ObjectName, Origin, RestoreFrom, check_fit, decode_assignment, encode_assignment};
use std::collections::BTreeMap;

/// Requests that wait at the same time, until the store has been looked at or has answered.
const REQUEST_LIMIT: usize = 64;

/// What is asked and not answered.
#[derive(Debug, Default)]
pub(super) struct Assignments {
    /// Requests that came before the store was looked at.
    early: Vec<(String, Box<Assignment>)>,
    /// Assignments that are being stored, and the requests for each.
    putting: BTreeMap<u64, (Box<Assignment>, Vec<String>)>,
    /// The change under way.
    pub(super) switch: Option<Switch>,
    /// The revision for which the job could not be stopped in this generation.
    pub(super) failed: Option<u64>,
}

impl Assignments {
    fn waiting(&self) -> usize {
        self.early.len() + self.putting.values().map(|(_, requests)| requests.len()).sum::<usize>()
    }
}

impl Leader {
    pub(super) fn on_assignment_requested(&mut self, request: String, assignment: Box<Assignment>) {
        if self.assignments.waiting() >= REQUEST_LIMIT {
            return self.answer(request, assignment.revision, AssignmentAnswer::Busy);
        }
        if !self.view.seen {
            self.assignments.early.push((request, assignment));
            return;
        }
        let revision = assignment.revision;
        if let Some((same, requests)) = self.assignments.putting.get_mut(&revision) {
            match same.is_asked_by(&assignment) {
                true => requests.push(request),
                false => self.answer(request, revision, AssignmentAnswer::Conflict),
            }
            return;
        }
        match self.examine(&assignment) {
            Some(AssignmentAnswer::Accepted) => self.accepted(vec![request], revision),
            Some(refusal) => self.answer(request, revision, refusal),
            None => {
                self.assignments.putting.insert(revision, (assignment, vec![request]));
                self.put_assignment(revision);
            }
        }
    }

    /// The store has been looked at: what was asked before can be examined.
    pub(super) fn take_early_requests(&mut self) {
        for (request, assignment) in std::mem::take(&mut self.assignments.early) {
            self.on_assignment_requested(request, assignment);
        }
    }

    /// The answer that needs no store; `None` for an assignment that is to be stored.
    fn examine(&self, wanted: &Assignment) -> Option<AssignmentAnswer> {
        let invalid = |message: &str| Some(AssignmentAnswer::Invalid { message: message.to_owned() });
        if wanted.revision == 0 {
            return invalid("revision is 0: revisions begin at 1");
        }
        if wanted.parallelism == 0 || wanted.workers == 0 {
            return invalid("parallelism and workers must be at least 1");
        }
        let highest = self.highest_revision();
        if wanted.revision < highest {
            return Some(AssignmentAnswer::Stale { highest });
        }
        match self.view.assignments.get(&wanted.revision) {
            Some(known) if known.is_asked_by(wanted) => return Some(AssignmentAnswer::Accepted),
            Some(_) => return Some(AssignmentAnswer::Conflict),
            // Whoever asks by words alone has seen it assigned.
            None if matches!(wanted.restore_from, Some(RestoreFrom::Asked(_))) => {
                return Some(AssignmentAnswer::Stale { highest });
            }
            None => {}
        }
        let max_parallelism = self.options().max_parallelism.get();
        if wanted.parallelism > max_parallelism {
            return Some(AssignmentAnswer::TooLargeParallelism { max_parallelism });
        }
        let message = self.restore_point_misfit(wanted)?;
        Some(AssignmentAnswer::UnknownRestorePoint { message })
    }

    /// Why the job cannot begin from the state that the assignment names.
    fn restore_point_misfit(&self, wanted: &Assignment) -> Option<String> {
        let origin = match wanted.restore_from.as_ref()? {
            RestoreFrom::Nothing | RestoreFrom::Asked(_) => return None,
            RestoreFrom::Foreign { location, manifest, pin, .. } => {
                Origin::Foreign { location: location.clone(), manifest: manifest.clone(), pin: pin.clone() }
            }
            RestoreFrom::Savepoint(name) => match savepoint_origin(name, self.known_savepoints(), &self.view) {
                Ok(origin) => origin,
                Err(message) => return Some(message),
            },
        };
        let manifest = manifest_of(&origin, &self.view.links)?;
        // Another code's plan is for its own leader to judge.
        let own = wanted.code == self.options().direction.code;
        let misfits = check_fit(manifest, &self.options().plan, self.options().max_parallelism);
        let misfit = misfits.first().filter(|_| own)?;
        Some(misfit.to_string())
    }

    /// The highest revision that is known from assignments, claims and links.
    pub(super) fn highest_revision(&self) -> u64 {
        terms::highest(&self.view)
    }

    fn put_assignment(&mut self, revision: u64) {
        let Some((assignment, _)) = self.assignments.putting.get(&revision) else {
            return;
        };
        let body = encode_assignment(&self.options().job, assignment);
        let key = ObjectName::Assignment(revision);
        self.send(Purpose::Assignment(revision), Request::PutIfAbsent { key, body });
    }

    pub(super) fn on_assignment(&mut self, purpose: &Purpose, answer: Answer) {
        match (purpose, answer) {
            (Purpose::Assignment(revision), Answer::Done) => self.assignment_stored(*revision),
            (Purpose::Assignment(revision), _) => {
                let key = ObjectName::Assignment(*revision);
                self.send(Purpose::AssignmentReadBack(*revision), Request::Get { key });
            }
            (Purpose::AssignmentReadBack(revision), Answer::Body(bytes)) => {
                match decode_assignment(*revision, &bytes) {
                    Ok((_, stored)) => self.assignment_found(*revision, stored),
                    Err(error) => {
                        let message = error.to_string();
                        self.refuse_assignment(*revision, &AssignmentAnswer::NotStored { message });
                    }
                }
            }
            // It was there a moment ago: only a leader of a higher revision deletes assignments.
            (Purpose::AssignmentReadBack(revision), _) => {
                let highest = self.highest_revision().max(*revision);
                self.refuse_assignment(*revision, &AssignmentAnswer::Stale { highest });
            }
            _ => {}
        }
        self.after_aside();
    }

    fn assignment_found(&mut self, revision: u64, stored: Assignment) {
        let same = self.assignments.putting.get(&revision).is_some_and(|(wanted, _)| stored.is_asked_by(wanted));
        self.view.assignments.insert(revision, stored);
        match same {
            true => self.assignment_stored(revision),
            false => self.refuse_assignment(revision, &AssignmentAnswer::Conflict),
        }
    }

    fn assignment_stored(&mut self, revision: u64) {
        if let Some((assignment, requests)) = self.assignments.putting.remove(&revision) {
            self.view.assignments.insert(revision, *assignment);
            self.accepted(requests, revision);
        }
    }

    fn accepted(&mut self, requests: Vec<String>, revision: u64) {
        for request in requests {
            self.answer(request, revision, AssignmentAnswer::Accepted);
        }
        // Who asks again wants it tried again.
        self.assignments.failed = None;
        self.follow_assignments();
    }

    /// Whether somebody has asked for what is not stored yet: beginning, or ending, without it would only be for a
    /// moment.
    pub(super) fn assignment_is_coming(&self) -> bool {
        let guided = self.options().direction.guide.is_assigned();
        guided && !self.assignments.putting.is_empty()
    }

    pub(super) fn refuse_assignment(&mut self, revision: u64, answer: &AssignmentAnswer) {
        if let Some((_, requests)) = self.assignments.putting.remove(&revision) {
            for request in requests {
                self.answer(request, revision, answer.clone());
            }
            if matches!(self.phase, Phase::Awaiting { .. }) {
                self.follow_assignments();
            }
        }
    }

    /// Nobody waits for an answer of a leader that has ended.
    pub(super) fn refuse_all_assignments(&mut self) {
        let answer = AssignmentAnswer::NotStored { message: "the leader has ended".to_owned() };
        for (request, assignment) in std::mem::take(&mut self.assignments.early) {
            self.answer(request, assignment.revision, answer.clone());
        }
        let revisions: Vec<u64> = self.assignments.putting.keys().copied().collect();
        for revision in revisions {
            self.refuse_assignment(revision, &answer);
        }
    }

    fn answer(&mut self, request: String, revision: u64, answer: AssignmentAnswer) {
        self.report(Notice::AssignmentAnswered { request, revision, answer });
    }

    /// What the assignment in force has overtaken.
    pub(super) fn delete_overtaken_assignments(&mut self) {
        let in_force = self.start_link().terms.revision;
        let overtaken: Vec<u64> = self.view.assignments.range(..in_force).map(|(revision, _)| *revision).collect();
        self.view.assignments.retain(|revision, _| *revision >= in_force);
        if !overtaken.is_empty() {
            let keys = overtaken.into_iter().map(|revision| ObjectName::Assignment(revision).to_string()).collect();
            self.delete(Purpose::RetiredFiles, keys);
        }
    }
}
