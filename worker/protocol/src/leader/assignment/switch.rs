//! A running job changes to another assignment.
//!
//! ```text
//!  stored ─▶ gather ─▶ prepare ─▶ ready ─▶ stop flagged for it ─▶ own code: claim the next generation, start
//!              │          │ limit    ▲            │                another code: handed over
//!              │          └──────────┘            └ failed: the job goes on as it was
//!              └ another code: its workers are not this leader's to wait for
//! ```
//!
//! A newer assignment overtakes an unfinished one at every step but one: a stop whose manifest is under way is seen
//! through, and what it says is decided again by the next look.

use super::super::action::{Action, Restore};
use super::super::checkpoint::{Abort, Goal};
use super::super::notice::{FailureCause, Notice};
use super::super::standing::manifest_of;
use super::super::status::Switching;
use super::super::{Leader, Phase};
use crate::chain::Origin;
use crate::ids::Now;

/// A change under way.
#[derive(Debug)]
pub(in crate::leader) struct Switch {
    revision: u64,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Gathering,
    Preparing { until: Now },
    Ready,
}

impl Switch {
    pub(in crate::leader) fn deadline(&self) -> Option<Now> {
        match self.step {
            Step::Preparing { until } => Some(until),
            Step::Gathering | Step::Ready => None,
        }
    }

    /// The revision for which the job may stop now.
    pub(in crate::leader) fn ready(&self) -> Option<u64> {
        (self.step == Step::Ready).then_some(self.revision)
    }

    pub(in crate::leader) fn status(&self) -> Switching {
        match self.step {
            Step::Gathering => Switching::Gathering(self.revision),
            Step::Preparing { .. } => Switching::Preparing(self.revision),
            Step::Ready => Switching::Stopping(self.revision),
        }
    }
}

impl Leader {
    /// Goes after the newest assignment, as far as it is not in force.
    pub(in crate::leader) fn follow_assignments(&mut self) {
        match self.phase {
            Phase::Awaiting { next, .. } => self.look(next),
            Phase::Stopping(_) => self.stop_if_settled(),
            Phase::Running => self.switch(),
            _ => {}
        }
    }

    fn switch(&mut self) {
        let in_force = self.start_link().terms.revision;
        let newest = self.view.assignments.values().next_back();
        let Some(target) = newest.filter(|newest| newest.revision > in_force).cloned() else {
            return;
        };
        let revision = target.revision;
        let known = self.assignments.switch.as_ref().is_some_and(|switch| switch.revision == revision);
        if known || self.assignments.failed == Some(revision) {
            return;
        }
        let own = target.code == self.options().direction.code;
        let step = if own { Step::Gathering } else { Step::Ready };
        self.assignments.switch = Some(Switch { revision, step });
        self.overtake_stop(revision);
        if own {
            self.act(Action::Gather { assignment: Box::new(target) });
        }
    }

    /// A stop for an older assignment is given up, unless its manifest is under way.
    fn overtake_stop(&mut self, revision: u64) {
        let overtaken = |goal| matches!(goal, Some(Goal::Assignment(older)) if older < revision);
        let attempt = self.attempt.as_ref();
        if attempt.is_some_and(|attempt| overtaken(attempt.goal) && attempt.manifest.is_none()) {
            let message = format!("revision {revision} has overtaken it");
            self.abort_attempt(Abort { cause: FailureCause::Withdrawn, message });
        }
    }

    pub(in crate::leader) fn on_workers_ready(&mut self, revision: u64) {
        let now = self.now;
        let gathered = |switch: &&mut Switch| switch.revision == revision && switch.step == Step::Gathering;
        if !matches!(self.phase, Phase::Running) || self.assignments.switch.as_mut().filter(gathered).is_none() {
            return;
        }
        let Some(target) = self.view.assignments.get(&revision) else {
            return;
        };
        let (elsewhere, parallelism) = (target.restore_from.is_some(), target.parallelism);
        let until = now.after_ms(self.options().direction.prepare_limit_ms);
        let moved = self.start_link().key_groups.rescale(parallelism);
        let step = match (elsewhere, moved) {
            // What the next generation begins from is not what runs now.
            (true, _) | (_, Err(_)) => Step::Ready,
            (false, Ok(key_groups)) => {
                let restore = manifest_of(&self.base, &self.view.links).cloned().map(|manifest| {
                    let location = match &self.base {
                        Origin::Foreign { location, .. } => Some(location.clone()),
                        Origin::Empty | Origin::Link(_) => None,
                    };
                    Box::new(Restore { manifest, location })
                });
                self.act(Action::Prepare { revision, key_groups: Box::new(key_groups), restore });
                Step::Preparing { until }
            }
        };
        self.assignments.switch = Some(Switch { revision, step });
    }

    pub(in crate::leader) fn on_prepared(&mut self, revision: u64) {
        if let Some(switch) = &mut self.assignments.switch
            && switch.revision == revision
            && matches!(switch.step, Step::Preparing { .. })
        {
            switch.step = Step::Ready;
        }
    }

    pub(in crate::leader) fn prepare_no_longer_if_due(&mut self) {
        let now = self.now;
        if let Some(switch) = &mut self.assignments.switch
            && switch.deadline().is_some_and(|until| until <= now)
        {
            switch.step = Step::Ready;
        }
    }

    /// The job could not be stopped for an assignment: it goes on as it was.
    pub(in crate::leader) fn switch_failed(&mut self, revision: u64, message: &str) {
        self.assignments.failed = Some(revision);
        if self.assignments.switch.as_ref().is_some_and(|switch| switch.revision == revision) {
            self.assignments.switch = None;
        }
        self.report(Notice::AssignmentFailed { revision, message: message.to_owned() });
    }

    /// Whether this leader itself goes on after a stop that is flagged for `flag`.
    pub(in crate::leader) fn is_own_to_carry_out(&self, flag: u64) -> bool {
        let code = &self.options().direction.code;
        self.view.assignments.range(flag..).any(|(_, assignment)| assignment.code == *code)
    }
}
