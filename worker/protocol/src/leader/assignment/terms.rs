//! As which revision a leader claims, and on whose terms its generation begins: a pure reading of assignments and chain.
//!
//! ```text
//!                      nothing (new) assigned to the own code ─▶ wait
//!   head's code is     a higher revision in force ───────▶ handed over, or wait if it has never begun
//!   the own one        flagged for this revision or lower ▶ begin as the assignment
//!                      no flag ──────────────────────────▶ go on as it was (the assignment follows while it runs),
//!                                                          or begin as the assignment if that one has failed
//!   another one        flagged for this revision or lower ▶ begin as the assignment
//!                      forced, or a rollback of that code ▶ begin as the assignment
//!                      no flag ──────────────────────────▶ wait
//! ```

use super::super::look::View;
use super::super::notice::End;
use super::super::options::{Guide, Mode, Operation, Options, Resume, Stops};
use super::super::rules::Rule;
use super::super::standing::Beginning;
use crate::chain::{Assignment, Link, RestoreFrom, Stop, Terms};

/// How a generation is to begin.
#[derive(Debug)]
pub(in crate::leader) struct Order {
    /// The revision to claim as.
    pub(in crate::leader) claim: u64,
    pub(in crate::leader) terms: Terms,
    pub(in crate::leader) parallelism: u32,
    pub(in crate::leader) resume: Resume,
    /// Whether a stop flag (but that of a finished job) ends with this start.
    pub(in crate::leader) lifts: bool,
    /// Whether it takes another code back: a state that does not fit is an answer then, not a mistake.
    pub(in crate::leader) rollback: bool,
}

/// Why a generation may not begin.
#[derive(Debug)]
pub(in crate::leader) enum Refusal {
    /// Not yet.
    Wait(String),
    /// Never.
    End(End),
}

impl From<End> for Refusal {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

/// The highest revision that is known.
pub(super) fn highest(view: &View) -> u64 {
    let assigned = view.assignments.keys().next_back().copied();
    let unusable = view.unusable_assignments.iter().next_back().copied();
    let claimed = view.claim.as_ref().map(|claim| claim.claimant.revision);
    let linked = in_force(view).map(|link| link.terms().revision.max(link.terms().assigned));
    assigned.into_iter().chain(unusable).chain(claimed).chain(linked).max().unwrap_or(0)
}

/// The revision that runs or is about to: maintenance claims as that one, so that its leader may claim again after it.
fn running(view: &View) -> u64 {
    let claimed = view.claim.as_ref().map_or(0, |claim| claim.claimant.revision);
    in_force(view).map_or(0, |link| link.terms().revision).max(claimed)
}

/// The link that says what runs.
fn in_force(view: &View) -> Option<&Link> {
    view.links.values().next_back()
}

pub(in crate::leader) fn order(view: &View, options: &Options, begin: &Beginning<'_>) -> Result<Order, Refusal> {
    let case = Case { view, options, begin };
    match (&options.mode, options.direction.guide) {
        (Mode::Maintain { operations, .. }, _) => {
            let order = case.as_configured(running(view).max(options.claimant.revision), false);
            // What cannot be read can be deleted all the same.
            let resume = if operations.contains(&Operation::DeleteJob) { Resume::Empty } else { order.resume };
            Ok(Order { resume, ..order })
        }
        (Mode::Run { .. }, Guide::Hand) => case.by_hand(),
        (Mode::Run { .. }, Guide::Assignments | Guide::AssignmentsAbove(_)) => case.assigned(),
    }
}

struct Case<'a> {
    view: &'a View,
    options: &'a Options,
    begin: &'a Beginning<'a>,
}

impl Case<'_> {
    fn by_hand(&self) -> Result<Order, Refusal> {
        let claim = highest(self.view).max(self.options.claimant.revision);
        let Some(head) = in_force(self.view).filter(|_| !self.begin.first) else {
            return Ok(self.as_configured(claim, self.user_lifts()));
        };
        let own = self.own_assignment().filter(|own| own.revision > head.terms().revision);
        match (head.stop(), own) {
            (Some(Stop::Assignment(flag)), Some(own)) if flag <= own.revision => Ok(self.begin_as(own)),
            (Some(Stop::Assignment(flag)), _) => Err(End::HandedOver { revision: flag }.into()),
            _ => Ok(self.go_on(head, claim)),
        }
    }

    fn assigned(&self) -> Result<Order, Refusal> {
        let unassigned = self.view.assignments.is_empty() && self.view.unusable_assignments.is_empty();
        if unassigned && self.options.direction.guide == Guide::Assignments {
            return Ok(self.as_configured(self.options.claimant.revision, self.user_lifts()));
        }
        let Some(own) = self.own_assignment() else {
            // What runs without an assignment goes on until it is stopped for one.
            let runs = |head: &&Link| head.terms().code == self.options.direction.code;
            let stopped = |head: &&Link| matches!(head.stop(), Some(Stop::Assignment(_)));
            let running = in_force(self.view).filter(runs).filter(|head| !stopped(head));
            if let Some(head) = running.filter(|head| head.terms().revision > self.above() || self.above() == 0) {
                return Ok(self.go_on(head, head.terms().revision));
            }
            return Err(Refusal::Wait(self.nothing_assigned(unassigned)));
        };
        let Some(head) = in_force(self.view) else {
            return Ok(self.begin_as(own));
        };
        let in_force = head.terms();
        if own.revision < in_force.revision {
            return Err(self.overtaken(own, in_force.revision));
        }
        let same = in_force.code == own.code || in_force.code.is_empty();
        match head.stop() {
            Some(Stop::Assignment(flag)) if flag > own.revision => Err(self.overtaken(own, flag)),
            Some(Stop::Assignment(_)) => Ok(self.begin_as(own)),
            Some(_) if own.revision > in_force.assigned || (same && self.user_lifts()) => Ok(self.begin_as(own)),
            Some(_) => Ok(self.go_on(head, own.revision)),
            None if own.revision == in_force.revision || self.takes_over(own, in_force) => Ok(self.begin_as(own)),
            None if same && in_force.revision <= self.above() => Ok(self.begin_as(own)),
            None if same => Ok(self.go_on(head, own.revision)),
            None => Err(Refusal::Wait(format!(
                "revision {} waits until the job, which runs as revision {}, has stopped for it",
                own.revision, in_force.revision
            ))),
        }
    }

    /// Why there is nothing to begin with.
    fn nothing_assigned(&self, unassigned: bool) -> String {
        match (unassigned, self.above()) {
            (true, 0) => "nothing is assigned to the job yet".to_owned(),
            (_, 0) => {
                let highest = highest(self.view);
                format!("revision {highest} is assigned to another code, and none to this leader's")
            }
            (_, above) => format!("what was assigned up to revision {above} has ended, and nothing else is assigned"),
        }
    }

    /// Assignments up to this revision are none for this leader.
    fn above(&self) -> u64 {
        match self.options.direction.guide {
            Guide::AssignmentsAbove(revision) => revision,
            Guide::Assignments | Guide::Hand => 0,
        }
    }

    /// Another code goes on. Who has run the job ends; who has not begun may yet be assigned something.
    fn overtaken(&self, own: &Assignment, by: u64) -> Refusal {
        match self.begin.first {
            true => {
                Refusal::Wait(format!("revision {by} has overtaken revision {} of this leader's code", own.revision))
            }
            false => End::HandedOver { revision: by }.into(),
        }
    }

    /// Whether the assignment begins although the job has not stopped for it.
    fn takes_over(&self, own: &Assignment, in_force: &Terms) -> bool {
        let rollback = own.rollback.as_ref().is_some_and(|code| *code == in_force.code);
        // A leader of this code has fenced the one before already, and got no further.
        let claimed = self.view.claim.as_ref().map_or(0, |claim| claim.claimant.revision);
        let fenced = claimed > in_force.revision
            && own.code != in_force.code
            && self.view.assignments.get(&claimed).is_some_and(|claimed| claimed.code == own.code);
        own.force || rollback || fenced || !self.begin.rules.hold(Rule::AwaitTheStop)
    }

    fn own_assignment(&self) -> Option<&Assignment> {
        let (code, above) = (&self.options.direction.code, self.above());
        self.view.assignments.values().rev().find(|own| own.code == *code && own.revision > above)
    }

    fn user_lifts(&self) -> bool {
        // A stop that is found in a restart is this leader's own, whatever it was told about older ones.
        let lift = matches!(self.options.mode, Mode::Run { stops: Stops::Lift, .. });
        self.begin.first && lift
    }

    fn as_configured(&self, claim: u64, lifts: bool) -> Order {
        let direction = &self.options.direction;
        let assigned = claim.max(highest(self.view));
        Order {
            claim,
            terms: Terms { revision: claim, assigned, code: direction.code.clone(), workers: direction.workers },
            parallelism: self.options.parallelism,
            resume: self.begin.resume.clone(),
            lifts,
            rollback: false,
        }
    }

    fn begin_as(&self, own: &Assignment) -> Order {
        let seen = in_force(self.view).is_some_and(|link| link.terms().revision >= own.revision);
        // A head that cannot be read may be a start of this assignment: using a state twice would repeat rows.
        let unread = self.view.head().is_some() && self.view.head_link().is_none();
        let used = seen || (unread && self.begin.claimed >= own.revision);
        let rollback = own.rollback.is_some() && !used;
        let restore = own.restore_from.as_ref().filter(|_| !used || !self.begin.rules.hold(Rule::RestoreOnce));
        Order {
            claim: own.revision,
            terms: Terms {
                revision: own.revision,
                assigned: highest(self.view),
                code: own.code.clone(),
                workers: own.workers,
            },
            parallelism: own.parallelism,
            resume: match restore {
                Some(restore) => resume_of(restore),
                // What the code began with once is not begun with again.
                None if rollback => Resume::Head,
                None => self.begin.resume.clone(),
            },
            lifts: true,
            rollback,
        }
    }

    /// As the head says, whatever else is assigned: that follows while the job runs.
    fn go_on(&self, head: &Link, claim: u64) -> Order {
        let in_force = head.terms();
        Order {
            claim,
            terms: Terms {
                assigned: highest(self.view),
                code: self.options.direction.code.clone(),
                ..in_force.clone()
            },
            parallelism: head.parallelism(),
            resume: self.begin.resume.clone(),
            lifts: false,
            rollback: false,
        }
    }
}

fn resume_of(restore: &RestoreFrom) -> Resume {
    match restore {
        RestoreFrom::Nothing => Resume::Empty,
        RestoreFrom::Savepoint(name) => Resume::Savepoint(name.clone()),
        RestoreFrom::Foreign { location, manifest, pin, .. } => {
            Resume::Foreign { location: location.clone(), manifest: manifest.clone(), pin: pin.clone() }
        }
        RestoreFrom::Asked(_) => unreachable!("words are compared, and never stored"),
    }
}
