//! Commits: everything that a manifest lists and nobody has confirmed, again and again until somebody does.

use super::action::Action;
use super::event::{CommitResult, ErrorKind};
use super::notice::{Already, End, Notice};
use super::options::{Mode, Operation};
use super::standing::{Errand, end_of_stop};
use super::{DELAYS_MS, Leader, Phase};
use crate::chain::{Committables, Stop};
use crate::ids::{Now, TaskId};
use crate::snapshot::TaskSnapshot;
use std::collections::{BTreeMap, BTreeSet};

/// A commit that has no answer after this long is sent again.
const ANSWER_MS: u64 = 60_000;

#[derive(Debug, Default)]
pub(super) struct Commits {
    /// Ids that are being tried, and since when.
    under_way: BTreeMap<String, Now>,
    retry_at: Option<Now>,
    tries: usize,
}

impl Commits {
    pub(super) fn deadline(&self) -> Option<Now> {
        let unanswered = self.under_way.values().min().map(|since| since.after_ms(ANSWER_MS));
        self.retry_at.into_iter().chain(unanswered).min()
    }

    pub(super) fn forget_under_way(&mut self) {
        *self = Self::default();
    }
}

impl Leader {
    /// Sends what waits and is not being tried.
    pub(super) fn commit_waiting(&mut self) {
        let Some(permit) = self.permit.clone() else {
            return;
        };
        let mut committables = Committables::new();
        for (sink, waiting) in &self.unconfirmed {
            let idle = waiting.iter().filter(|(id, _)| !self.commits.under_way.contains_key(*id));
            let idle: BTreeMap<_, _> = idle.map(|(id, one)| (id.clone(), one.clone())).collect();
            if !idle.is_empty() {
                committables.insert(sink.clone(), idle);
            }
        }
        if committables.is_empty() {
            return;
        }
        let ids = committables.values().flat_map(|waiting| waiting.keys().cloned());
        self.commits.under_way.extend(ids.map(|id| (id, self.now)));
        self.act(Action::Commit { permit, committables });
    }

    pub(super) fn commit_if_due(&mut self) {
        let now = self.now;
        self.commits.under_way.retain(|_, since| since.after_ms(ANSWER_MS) > now);
        if self.commits.retry_at.is_some_and(|at| at <= now) {
            self.commits.retry_at = None;
        }
        if self.commits.retry_at.is_none() {
            self.commit_waiting();
        }
    }

    pub(super) fn on_committed(&mut self, results: BTreeMap<String, CommitResult>) {
        let mut trouble = None;
        let mut end = None;
        for (id, result) in results {
            self.commits.under_way.remove(&id);
            match result {
                CommitResult::Done => self.confirm(id),
                CommitResult::Retry { message } => trouble = Some(message),
                CommitResult::Refused { message } => {
                    end = end.or(Some((ErrorKind::User, format!("{id}: {message}"))));
                }
                CommitResult::Lost { message } => end = Some((ErrorKind::Corrupt, format!("{id}: {message}"))),
            }
        }
        if let Some((kind, message)) = end {
            return self.end_after_cancel(End::Failed { kind, message });
        }
        match trouble {
            Some(message) => {
                let delay_ms = DELAYS_MS[self.commits.tries.min(DELAYS_MS.len() - 1)];
                self.commits.tries += 1;
                self.commits.retry_at = Some(self.now.after_ms(delay_ms));
                self.report(Notice::CommitTrouble { message });
            }
            None => self.commits.tries = 0,
        }
        self.settle();
        self.stop_if_settled();
    }

    fn confirm(&mut self, id: String) {
        self.unconfirmed.values_mut().for_each(|waiting| {
            waiting.remove(&id);
        });
        self.unconfirmed.retain(|_, waiting| !waiting.is_empty());
        self.confirmed.insert(id);
    }

    /// Keeps the confirmations that are still needed: a task that has not heard of a completed checkpoint repeats its
    /// committables, and they must not come back.
    pub(super) fn forget_confirmed(&mut self, snapshots: &BTreeMap<TaskId, TaskSnapshot>) {
        let parts = snapshots.values().flat_map(|snapshot| snapshot.operators.values());
        let repeated: BTreeSet<&str> = parts.flat_map(|part| &part.committables).map(|one| one.id.as_str()).collect();
        let carried: BTreeSet<&str> = self.carried.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
        self.confirmed.retain(|id| repeated.contains(id.as_str()) || carried.contains(id.as_str()));
    }

    pub(super) fn waiting_ids(&self) -> BTreeSet<String> {
        self.carried.values().flat_map(|waiting| waiting.keys().cloned()).collect()
    }

    /// Ends a stopped job once its sinks have committed, and that is written down.
    pub(super) fn stop_if_settled(&mut self) {
        let handing_over = matches!(self.phase, Phase::Stopping(Stop::Assignment(_)));
        // Whoever takes over commits what cannot be committed now.
        let committed = self.unconfirmed.is_empty() || (handing_over && self.commits.tries > 0);
        let settled = committed && self.attempt.is_none() && !self.ops.any_aside();
        match self.phase {
            Phase::Stopping(stop) if settled => {
                if let Stop::Assignment(flag) = stop {
                    // Whoever goes on writes the confirmations down.
                    return match self.is_own_to_carry_out(flag) {
                        true => self.begin_again(),
                        false => self.end_after_cancel(End::HandedOver { revision: flag }),
                    };
                }
                // Confirmations are written down soon: a user may clean up after a sink.
                if !self.carried.is_empty() {
                    return self.put_copy(Some(stop));
                }
                let end = end_of_stop(stop, self.restored, Already::No);
                self.end_after_cancel(end);
            }
            Phase::Maintaining if settled => {
                let end = self.maintained();
                self.finish(end);
            }
            _ => {}
        }
    }

    /// The work of a run that only maintains.
    pub(super) fn maintain(&mut self) {
        self.phase = Phase::Maintaining;
        self.wish_for_maintenance();
        let deleted = matches!(&self.options().mode, Mode::Maintain { operations, .. } if operations.contains(&Operation::DeleteJob));
        let unwritten = !self.carried.is_empty() && !matches!(self.errand, Errand::Run) && !deleted;
        if !self.wishes.is_empty() || unwritten {
            let stop = self.start_link().stop;
            self.put_copy(stop);
        }
        self.stop_if_settled();
    }

    /// What a fenced leader must not do; reached only in a test of that rule.
    pub(super) fn abort_own_committables(&mut self) {
        let snapshots = self.attempt.iter().flat_map(|attempt| attempt.snapshots.values());
        let parts = snapshots.flat_map(|snapshot| snapshot.operators.values());
        let ids = parts.flat_map(|part| &part.committables).map(|one| one.id.clone()).collect();
        self.act(Action::AbortCommittables { ids });
    }
}
