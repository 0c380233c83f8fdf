//! A leader whose job has ended and that stays, and one that is told to leave.

use super::{Happened, Runner};
use crate::job::board::LastFailure;
use crate::job::workers::AfterEnd;
use std::collections::BTreeMap;
use weir_protocol::leader::{
    Already, AssignmentAnswer, End, ErrorKind, Event, Guide, Leader, Mode, Notice, Resume, State, Stops,
};

/// Answers of the store that are on their way. They come in the order of the questions.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) asked: usize,
    /// So many of them are for a leader before this one.
    late: usize,
}

impl Runner {
    /// Whether an event is the store's answer to a leader that is no more.
    pub(super) fn answers_one_before(&mut self, event: &Event) -> bool {
        let Event::Stored { .. } = event else { return false };
        self.answers.asked -= 1;
        let late = self.answers.late > 0;
        self.answers.late -= usize::from(late);
        late
    }

    /// A leader that stays keeps its workers and its answers, and waits for what is assigned next. Answers the end of one
    /// that does not.
    pub(super) fn stay_after(&mut self, end: End) -> Option<End> {
        let stays = match &end {
            End::Finished { .. } | End::Stopped { .. } | End::Stalled { .. } | End::Failed { .. } => true,
            End::Maintained | End::HandedOver { .. } | End::Fenced { .. } | End::GivenUp { .. } => false,
        };
        if !stays || self.leaving || self.job.workers.after_end == AfterEnd::Leave {
            return Some(end);
        }
        let (now, status) = (self.now(), self.leader.status());
        self.board.update(&status, now);
        (self.pending, self.leftovers, self.foreign, self.preparing) = (None, None, None, None);
        self.writers = BTreeMap::new();
        let failed = failure(&end);
        let tried = self.leader.tried();
        // It may have failed on the way to another assignment.
        if failed.is_some() && self.leader.assigned().is_some_and(|assigned| assigned > tried) {
            return self.begin_above(tried);
        }
        self.board.ended(Some(end.clone()), failed);
        self.ended = Some(end);
        None
    }

    /// Goes on with the first assignment above this revision, which may yet have to come.
    fn begin_above(&mut self, revision: u64) -> Option<End> {
        self.ended = None;
        self.board.ended(None, None);
        self.leader = Leader::new();
        self.answers.late = self.answers.asked;
        let options = &mut self.job.options;
        options.incarnation = uuid::Uuid::new_v4().to_string();
        options.direction.guide = Guide::AssignmentsAbove(revision);
        if self.started {
            options.mode = Mode::Run { resume: Resume::Head, stops: Stops::Obey };
        }
        let begin = Event::Begin(Box::new(options.clone()));
        self.step(Happened::Leader(begin))
    }

    /// What a job that has ended is asked for.
    pub(super) fn asked_after_the_end(&mut self, event: Event) -> Option<End> {
        let not_running = "the job does not run".to_owned();
        match event {
            Event::AssignmentRequested { request, assignment } => {
                let highest = self.leader.status().course.assigned;
                let revision = assignment.revision;
                let answer = match self.leader.assignment(revision) {
                    _ if revision > highest => {
                        let end = self.begin_above(highest);
                        let asked = Event::AssignmentRequested { request, assignment };
                        return end.or_else(|| self.step(Happened::Leader(asked)));
                    }
                    Some(known) if known.is_asked_by(&assignment) => AssignmentAnswer::Accepted,
                    _ if revision == highest => AssignmentAnswer::Conflict,
                    _ => AssignmentAnswer::Stale { highest },
                };
                self.report(&Notice::AssignmentAnswered { request, revision, answer });
            }
            Event::SavepointRequested { name, uid, .. } => {
                let taken = self.leader.status().savepoints.remove(&name).filter(|pin| pin.uid == uid);
                self.report(&match taken {
                    Some(pin) => Notice::SavepointCompleted { name, uid, link: pin.link },
                    None => Notice::SavepointFailed { name, uid, message: not_running },
                });
            }
            Event::SavepointReleased { name } => {
                self.report(&Notice::SavepointFailed { name, uid: String::new(), message: not_running });
            }
            Event::SavepointWithdrawn { name, uid } => self.report(&Notice::SavepointWithdrawn { name, uid }),
            Event::StopRequested => {
                self.leaving = true;
                return self.ended.take();
            }
            // Late answers to a leader that has ended.
            _ => {}
        }
        None
    }

    /// A job that nobody else looks after is to stop while it waits for workers: nothing runs that could be stopped.
    pub(super) fn stop_waiting(&self) -> Option<End> {
        if !self.stopping || self.job.workers.after_end == AfterEnd::Stay || !self.members.is_waiting() {
            return None;
        }
        let waits = self.leader.status().state == State::Deploying;
        waits.then(|| End::Stopped { checkpoint: self.leader.restored(), already: Already::No })
    }

    /// The process is to end: with a checkpoint, if there are tasks that run.
    pub(super) fn leave(&mut self) -> Option<End> {
        self.leaving = true;
        self.left().or_else(|| self.step(Happened::Leader(Event::DrainRequested)))
    }

    /// The end of a leader that is to leave, once nothing of the job runs here.
    pub(super) fn left(&mut self) -> Option<End> {
        if let Some(end) = self.ended.take() {
            return Some(end);
        }
        let status = self.leader.status();
        let idle = match status.state {
            State::Idle | State::Awaiting | State::Waiting | State::Ended => true,
            State::Deploying => self.members.is_waiting(),
            State::Starting | State::Settling | State::Running => false,
            State::Stopping | State::Maintaining | State::Cancelling => false,
        };
        idle.then_some(End::HandedOver { revision: status.course.terms.revision })
    }
}

/// What a job failed of, if it did.
fn failure(end: &End) -> Option<LastFailure> {
    match end {
        End::Failed { kind, message } => Some(LastFailure { kind: *kind, message: message.clone() }),
        End::Stalled { message, .. } => Some(LastFailure { kind: ErrorKind::User, message: message.clone() }),
        _ => None,
    }
}
