//! What was seen, in order: revisions, who leads, what is in force.

use jiff::Timestamp;
use std::collections::BTreeSet;
use weir_crds::StreamJobStatus;

use crate::model::{Ending, LeaderReport, LeaderState, Mark, Observed, PodSeen, RevisionSeen, Role, name};

/// What was seen, in order.
pub(super) struct View<'a> {
    pub(super) seen: &'a Observed,
    pub(super) now: Timestamp,
    /// The status as it was written last; empty if it is lost.
    pub(super) status: StreamJobStatus,
    /// Ascending.
    pub(super) revisions: Vec<&'a RevisionSeen>,
    /// The highest revision that anybody says is in force; 0 for none.
    pub(super) in_force: u64,
}

/// A leader that runs the job.
#[derive(Clone, Copy)]
pub(super) struct Running<'a> {
    pub(super) pod: &'a PodSeen,
    pub(super) report: &'a LeaderReport,
}

impl<'a> View<'a> {
    pub(super) fn of(seen: &'a Observed, now: Timestamp) -> Self {
        let status = seen.job.status.clone().unwrap_or_default();
        let mut revisions: Vec<&RevisionSeen> = seen.revisions.iter().collect();
        revisions.sort_by_key(|revision| revision.number);
        let said = seen.leaders.values().filter_map(|leader| leader.report()).map(|report| report.revision).max();
        let service = seen.services.get(&name::service(seen.name()));
        let noted = service.and_then(|service| service.annotations.get(name::IN_FORCE)?.parse().ok());
        let in_force = [said, status.revision, noted].into_iter().flatten().max().unwrap_or(0);
        Self { seen, now, status, revisions, in_force }
    }

    pub(super) fn revision(&self, number: u64) -> Option<&'a RevisionSeen> {
        self.revisions.iter().copied().find(|revision| revision.number == number)
    }

    /// The revision in force, if its object is there.
    pub(super) fn current(&self) -> Option<&'a RevisionSeen> {
        self.revision(self.in_force)
    }

    /// The newest revision that has not failed, nor any other of the same program.
    pub(super) fn newest(&self) -> Option<&'a RevisionSeen> {
        let lives =
            |revision: &&RevisionSeen| revision.failed().is_none() && !self.is_given_up(revision.content.program);
        self.revisions.iter().rev().copied().find(lives)
    }

    /// Whether a revision of this program has failed. A rollback that failed says nothing against its program.
    pub(super) fn is_given_up(&self, program: u64) -> bool {
        self.revisions.iter().any(|revision| {
            let content = &revision.content;
            content.program == program && content.takes_back.is_none() && revision.failed().is_some()
        })
    }

    /// A number that no revision has had.
    pub(super) fn next_number(&self) -> u64 {
        let recorded = self.revisions.last().map_or(0, |revision| revision.number);
        let change = self.status.change.as_ref().map_or(0, |change| change.revision);
        recorded.max(self.in_force).max(self.assigned()).max(change.saturating_sub(1)) + 1
    }

    /// Whether a leader says itself what is in force: it has looked at the chain.
    pub(super) fn is_confirmed(&self) -> bool {
        let mut reports = self.seen.leaders.values().filter_map(|leader| leader.report());
        reports.any(|report| report.revision == self.in_force)
    }

    /// The highest revision that a leader knows to be assigned.
    pub(super) fn assigned(&self) -> u64 {
        let reports = self.seen.leaders.values().filter_map(|leader| leader.report());
        reports.map(|report| report.assigned.max(report.revision)).max().unwrap_or(0)
    }

    /// Whether this program has completed a checkpoint.
    pub(super) fn is_stable(&self, program: u64) -> bool {
        self.revisions.iter().any(|revision| revision.content.program == program && revision.is_stable())
    }

    /// Whether this program runs the job, or has, as far as that is known.
    pub(super) fn has_begun(&self, program: u64) -> bool {
        let of = |number: u64| self.revision(number).map_or(number, |revision| revision.content.program);
        let undone = self.revisions.iter().filter_map(|revision| revision.content.takes_back.as_ref());
        (self.in_force > 0 && of(self.in_force) == program)
            || self.is_stable(program)
            || undone.map(|undone| of(undone.revision)).any(|undone| undone == program)
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &'a PodSeen> + use<'a> {
        self.seen.pods.iter().filter(|pod| pod.role == Role::Worker)
    }

    /// The programs that have worker pods.
    pub(super) fn programs(&self) -> BTreeSet<u64> {
        self.workers().map(|pod| pod.revision).collect()
    }

    /// The pods of a place among the workers of a program; the one that counts is the last.
    pub(super) fn slot(&self, program: u64, ordinal: u32) -> Vec<&'a PodSeen> {
        let mut pods: Vec<&PodSeen> =
            self.workers().filter(|pod| pod.revision == program && pod.ordinal == ordinal).collect();
        pods.sort_by_key(|pod| pod.attempt);
        pods
    }

    /// The leader's pod of a program, dead or alive.
    pub(super) fn leader(&self, program: u64) -> Option<&'a PodSeen> {
        self.slot(program, 0).pop()
    }

    /// What the leader of a program says.
    pub(super) fn report(&self, program: u64) -> Option<&'a LeaderReport> {
        let pod = self.leader(program).filter(|pod| !pod.deleting)?;
        self.seen.leaders.get(&pod.name)?.report()
    }

    /// The leader that runs what is in force.
    pub(super) fn running(&self) -> Option<Running<'a>> {
        let at_work = |report: &LeaderReport| {
            report.revision == self.in_force
                && report.ending.is_none()
                && !matches!(report.state, LeaderState::Idle | LeaderState::Awaiting | LeaderState::Ended)
        };
        self.programs().into_iter().rev().find_map(|program| {
            let report = self.report(program).filter(|report| self.in_force > 0 && at_work(report))?;
            Some(Running { pod: self.leader(program)?, report })
        })
    }

    /// How the job has ended, by the words of the leader of this program. An exit code says nothing: leaders stay after an
    /// end, and an image may hold any program.
    pub(super) fn ended(&self, program: u64) -> Option<Ending> {
        self.report(program)?.ending
    }

    /// Whether the job was told to stop, and did: nothing of it is to be kept running.
    pub(super) fn is_suspended(&self, revision: &RevisionSeen) -> bool {
        revision.marks.contains(&Mark::Suspended)
    }

    /// How long ago a moment was.
    pub(super) fn since(&self, then: Timestamp) -> std::time::Duration {
        std::time::Duration::try_from(self.now.duration_since(then)).unwrap_or_default()
    }
}
