//! A generation fails: its tasks are cancelled, the restart strategy decides, and the next generation goes on from the
//! head, in the same process.

use super::action::Action;
use super::checkpoint::Abort;
use super::event::ErrorKind;
use super::look::Next;
use super::notice::{Already, End, FailureCause, Notice};
use super::{Leader, Phase};
use crate::chain::Origin;
use crate::ids::{Generation, Now, TaskId};
use crate::restart::Decision;
use crate::retry::draw;

/// What comes after the tasks are down.
#[derive(Debug)]
pub(super) enum Then {
    Restart(Now),
    End(End),
}

/// Why a generation ends.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) task: Option<TaskId>,
    pub(super) kind: ErrorKind,
    pub(super) message: String,
}

impl Leader {
    pub(super) fn on_failure(&mut self, generation: Generation, failure: Failure) {
        let running = matches!(self.phase, Phase::Deploying | Phase::Running | Phase::Stopping(_));
        if running && self.generation == Some(generation) {
            self.fail_generation(failure);
        }
    }

    pub(super) fn fail_generation(&mut self, failure: Failure) {
        let Failure { task, kind, message } = failure;
        let generation = self.own_generation();
        self.abort_attempt(Abort { cause: FailureCause::Generation, message: message.clone() });
        if kind == ErrorKind::Corrupt && self.base == self.start_link().origin {
            // Nothing was completed since the restore, so the restored checkpoint is what cannot be used.
            if let Origin::Link(number) = self.base {
                self.damaged.insert(number, message.clone());
            }
        }
        let then = match kind {
            ErrorKind::User => Then::End(End::Failed { kind, message: message.clone() }),
            ErrorKind::Fenced => Then::End(End::Fenced { message: message.clone() }),
            // Trying again reads the same files of a place that nobody here looks after.
            ErrorKind::Corrupt if !self.base.is_own() => Then::End(End::Failed { kind, message: elsewhere(&message) }),
            ErrorKind::Transient | ErrorKind::Corrupt | ErrorKind::Bug => self.restart_or_end(kind, &message),
        };
        let restart_in_ms = match &then {
            Then::Restart(at) => Some(at.ms_since(self.now)),
            Then::End(_) => None,
        };
        self.report(Notice::GenerationFailed { generation, task, kind, message, restart_in_ms });
        self.cancel(then);
    }

    fn restart_or_end(&mut self, kind: ErrorKind, message: &str) -> Then {
        let draw = self.draw();
        let now = self.now;
        let restart = self.restart.as_mut().expect("a leader that runs tasks has begun");
        match restart.on_failure(now, draw) {
            Decision::RetryAfter { delay_ms, .. } => {
                self.status.restarts += 1;
                Then::Restart(now.after_ms(delay_ms))
            }
            Decision::GiveUp { reason } => Then::End(End::Failed { kind, message: format!("{message} ({reason})") }),
        }
    }

    /// A number between 0 and 1 that follows from the leader's own name, so that many leaders do not restart at once.
    fn draw(&self) -> f64 {
        draw(self.options().incarnation.as_bytes(), self.status.restarts)
    }

    /// The generation has ended with a checkpoint, and the next one begins at once.
    pub(super) fn begin_again(&mut self) {
        self.cancel(Then::Restart(self.now));
    }

    fn cancel(&mut self, then: Then) {
        self.ops.forget_generation();
        self.assignments.switch = None;
        self.assignments.failed = None;
        self.drain_requested = false;
        self.commits.forget_under_way();
        self.looking_back = None;
        self.attempt = None;
        self.permit = None;
        let tasks_run = matches!(self.phase, Phase::Deploying | Phase::Running | Phase::Stopping(_));
        self.phase = Phase::Cancelling(then);
        match tasks_run {
            true => self.act(Action::Cancel { generation: self.own_generation() }),
            false => self.all_cancelled(),
        }
    }

    /// Ends, but not before the tasks are down.
    pub(super) fn end_after_cancel(&mut self, end: End) {
        match &mut self.phase {
            Phase::Ended => {}
            Phase::Cancelling(then) => *then = Then::End(end),
            _ => self.cancel(Then::End(end)),
        }
    }

    pub(super) fn on_cancelled(&mut self, generation: Generation) {
        if self.generation == Some(generation) && matches!(self.phase, Phase::Cancelling(_)) {
            self.all_cancelled();
        }
    }

    fn all_cancelled(&mut self) {
        self.tasks.clear();
        self.sources.clear();
        self.ended.clear();
        let Phase::Cancelling(then) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        match then {
            Then::End(end) => self.finish(end),
            Then::Restart(at) => {
                self.phase = Phase::Waiting(at);
                self.restart_if_due();
            }
        }
    }

    pub(super) fn restart_if_due(&mut self) {
        if matches!(self.phase, Phase::Waiting(at) if at <= self.now) {
            self.look(Next::Claim);
        }
    }

    pub(super) fn on_stop_requested(&mut self) {
        let checkpoint = self.restored;
        match &mut self.phase {
            // Nothing runs that could be stopped: the head is where a later run goes on.
            Phase::Cancelling(then @ Then::Restart(_)) => {
                *then = Then::End(End::Stopped { checkpoint, already: Already::No });
            }
            Phase::Waiting(_) => self.finish(End::Stopped { checkpoint, already: Already::No }),
            Phase::Awaiting { .. } => self.finish(End::Stopped { checkpoint, already: Already::Yes }),
            _ => self.stop_requested = true,
        }
    }
}

fn elsewhere(message: &str) -> String {
    format!(
        "the state that the job was to begin with cannot be used: {message}; \
         begin with another, with a savepoint of the job, or anew"
    )
}
