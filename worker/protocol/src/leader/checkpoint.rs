//! Checkpoints of a running generation, one at a time: barrier, acknowledgements, manifest, look back, complete.

use super::action::{Action, BarrierKind, Request};
use super::assignment::Switch;
use super::event::{DeclineCause, ErrorKind};
use super::look_back::Subject;
use super::notice::{FailureCause, Notice};
use super::recovery::Failure;
use super::rules::Rule;
use super::savepoint::Wish;
use super::standing::{Errand, manifest_of};
use super::store::{Answer, Purpose};
use super::{DELAYS_MS, Leader, Phase};
use crate::chain::{
    Link, Manifest, ObjectName, Origin, Pin, Sizes, Stop, Terms, base_operators, decode_link, encode_link, fold,
};
use crate::ids::{CheckpointId, Generation, LinkNumber, Now, TaskId};
use crate::snapshot::TaskSnapshot;
use std::collections::{BTreeMap, BTreeSet};

/// One attempt to take a checkpoint.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) id: CheckpointId,
    /// `None` for a manifest that only writes down what is known.
    pub(super) goal: Option<Goal>,
    pub(super) begun: Now,
    pub(super) snapshots: BTreeMap<TaskId, TaskSnapshot>,
    /// The savepoints that were asked when it began.
    pub(super) wishes: Vec<Wish>,
    pub(super) releases: BTreeSet<String>,
    /// Set once its manifest is being put.
    pub(super) manifest: Option<Box<Manifest>>,
    /// The manifest is there: no time-out ends it any more.
    pub(super) put: bool,
}

/// What a checkpoint is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    Checkpoint,
    /// To give the newest state a name, or to take one away.
    Names,
    Suspend,
    Finish,
    /// The assignment of this revision.
    Assignment(u64),
    /// The tasks are started again at once.
    Drain,
}

impl Goal {
    fn barrier(self) -> BarrierKind {
        match self {
            Self::Checkpoint => BarrierKind::Checkpoint,
            Self::Names => BarrierKind::Savepoint,
            Self::Suspend | Self::Assignment(_) | Self::Drain => BarrierKind::Stop,
            Self::Finish => BarrierKind::Final,
        }
    }

    fn stop(self) -> Option<Stop> {
        match self {
            Self::Suspend => Some(Stop::Suspended),
            Self::Finish => Some(Stop::Finished),
            Self::Assignment(revision) => Some(Stop::Assignment(revision)),
            Self::Checkpoint | Self::Names | Self::Drain => None,
        }
    }
}

/// Why an attempt is given up.
#[derive(Debug)]
pub(super) struct Abort {
    pub(super) cause: FailureCause,
    pub(super) message: String,
}

impl Leader {
    pub(super) fn next_trigger(&self) -> Option<Now> {
        if !matches!(self.phase, Phase::Running) || self.attempt.is_some() {
            return None;
        }
        if self.wanted().is_some() {
            return Some(self.not_before);
        }
        let interval_ms = self.options().checkpoint.interval_ms?;
        Some(self.last_trigger.after_ms(interval_ms).max(self.pause_until).max(self.not_before))
    }

    /// A checkpoint that is due whatever the interval says.
    fn wanted(&self) -> Option<Goal> {
        if !self.sources.is_empty() && self.sources.is_subset(&self.ended) {
            return Some(Goal::Finish);
        }
        if self.stop_requested || self.wishes.iter().any(Wish::stops) {
            return Some(Goal::Suspend);
        }
        if let Some(revision) = self.assignments.switch.as_ref().and_then(Switch::ready) {
            return Some(Goal::Assignment(revision));
        }
        if self.drain_requested {
            return Some(Goal::Drain);
        }
        (!self.wishes.is_empty() || !self.releases.is_empty()).then_some(Goal::Names)
    }

    pub(super) fn trigger_if_due(&mut self) {
        if self.next_trigger().is_none_or(|at| at > self.now) {
            return;
        }
        let goal = self.wanted().unwrap_or(Goal::Checkpoint);
        let kind = match self.rules.hold(Rule::AlignStops) {
            true => goal.barrier(),
            false => BarrierKind::Checkpoint,
        };
        let attempt = self.begin_attempt(Some(goal));
        let (generation, checkpoint) = (self.own_generation(), attempt.id);
        self.attempt = Some(attempt);
        self.last_trigger = self.now;
        self.act(Action::InjectBarrier { generation, checkpoint, kind });
    }

    fn begin_attempt(&mut self, goal: Option<Goal>) -> Attempt {
        let id = self.next_checkpoint;
        self.next_checkpoint.0 += 1;
        Attempt {
            id,
            goal,
            begun: self.now,
            snapshots: BTreeMap::new(),
            wishes: self.wishes.clone(),
            releases: self.releases.clone(),
            manifest: None,
            put: false,
        }
    }

    pub(super) fn on_acked(&mut self, generation: Generation, checkpoint: CheckpointId, snapshot: TaskSnapshot) {
        let known = self.generation == Some(generation) && self.tasks.contains(&snapshot.task);
        let Some(attempt) = self.attempt.as_mut() else {
            return;
        };
        if !known || attempt.id != checkpoint || attempt.manifest.is_some() {
            return;
        }
        attempt.snapshots.insert(snapshot.task, snapshot);
        let all = attempt.snapshots.len() == self.tasks.len();
        if all || !self.rules.hold(Rule::AllAcknowledge) {
            self.put_manifest();
        }
    }

    pub(super) fn on_declined(
        &mut self,
        (generation, checkpoint, task): (Generation, CheckpointId, TaskId),
        cause: DeclineCause,
        message: &str,
    ) {
        let Some(attempt) = &self.attempt else { return };
        let current = self.generation == Some(generation) && attempt.id == checkpoint;
        if !current || attempt.manifest.is_some() || !self.tasks.contains(&task) {
            return;
        }
        let cause = match cause {
            DeclineCause::Store => FailureCause::Store,
            DeclineCause::Task => FailureCause::Declined,
        };
        self.abort_attempt(Abort { cause, message: format!("task {task}: {message}") });
    }

    pub(super) fn attempt_deadline(&self) -> Option<Now> {
        let attempt = self.attempt.as_ref().filter(|attempt| attempt.goal.is_some() && !attempt.put)?;
        let at = attempt.begun.after_ms(self.options().checkpoint.timeout_ms);
        // Once past it, an open put decides when it is given up.
        (at > self.now).then_some(at)
    }

    pub(super) fn time_out_if_due(&mut self) {
        let timeout_ms = self.options().checkpoint.timeout_ms;
        let Some(attempt) = &self.attempt else { return };
        if attempt.goal.is_none() || attempt.put || attempt.begun.after_ms(timeout_ms) > self.now {
            return;
        }
        if attempt.manifest.is_some() {
            // Only a put that certainly did not happen may be given up.
            if self.ops.give_up_manifest() {
                let message = format!("the store did not take the manifest within {timeout_ms} ms");
                self.abort_attempt(Abort { cause: FailureCause::Store, message });
            }
            return;
        }
        let missing: Vec<String> =
            self.tasks.iter().filter(|task| !attempt.snapshots.contains_key(task)).map(ToString::to_string).collect();
        let message = format!("no acknowledgement within {timeout_ms} ms from task {}", missing.join(", "));
        self.abort_attempt(Abort { cause: FailureCause::Timeout, message });
    }

    fn put_manifest(&mut self) {
        let attempt = self.attempt.as_ref().expect("the caller found it");
        let base = manifest_of(&self.base, &self.view.links);
        let empty = BTreeMap::new();
        let operators = base.map_or(&empty, |manifest| &manifest.operators);
        let operators = match self.rules.hold(Rule::LeaveForeign) {
            true => base_operators(&self.base, operators),
            false => operators.clone(),
        };
        let carried = match self.rules.hold(Rule::CarryUnconfirmed) {
            true => self.carried.clone(),
            false => BTreeMap::new(),
        };
        let folded = match fold(&operators, &carried, &self.confirmed, &self.options().plan, &attempt.snapshots) {
            Ok(folded) => folded,
            Err(error) => {
                let failure = Failure { task: None, kind: ErrorKind::Bug, message: error.to_string() };
                return self.fail_generation(failure);
            }
        };
        let mut in_flight = folded.in_flight;
        if !self.rules.hold(Rule::StoreInFlight) {
            in_flight.clear();
        }
        if !self.rules.hold(Rule::ReplayOnce) {
            in_flight.extend(base.into_iter().flat_map(|manifest| manifest.in_flight.clone()));
        }
        let stop = attempt.goal.and_then(Goal::stop);
        let mut manifest = self.empty_manifest(attempt);
        manifest.operators = folded.operators;
        manifest.in_flight = in_flight;
        manifest.committables = folded.committables;
        manifest.sizes = folded.sizes;
        manifest.stop = stop;
        self.put_as_attempt(manifest);
    }

    /// Writes the newest state down once more: with a new name, or without what has been confirmed since.
    pub(super) fn put_copy(&mut self, stop: Option<Stop>) {
        // Files of another place are none that a manifest of this chain may name.
        let own = self.base.is_own().then(|| manifest_of(&self.base, &self.view.links)).flatten();
        let Some(base) = own.cloned() else {
            return;
        };
        let attempt = self.begin_attempt(None);
        let (operators, in_flight) = (base.operators, base.in_flight);
        let sizes = Sizes { written_bytes: 0, ..base.sizes };
        let mut manifest = self.empty_manifest(&attempt);
        manifest.operators = operators;
        manifest.in_flight = in_flight;
        manifest.sizes = sizes;
        manifest.stop = stop;
        manifest.committables = self.unconfirmed.clone();
        self.attempt = Some(attempt);
        self.put_as_attempt(manifest);
    }

    fn empty_manifest(&self, attempt: &Attempt) -> Manifest {
        let start = self.start_link();
        let generation = self.own_generation();
        let number = LinkNumber(self.view.head().map_or(1, |head| head.0 + 1));
        let mut savepoints = self.savepoints.clone();
        savepoints.retain(|name, _| !attempt.releases.contains(name));
        for wish in &attempt.wishes {
            savepoints.insert(wish.name.clone(), Pin { uid: wish.uid.clone(), link: number });
        }
        Manifest {
            job: start.job.clone(),
            number,
            generation,
            attempt: format!("{}-{generation}-{}", self.options().incarnation, attempt.id),
            checkpoint: attempt.id,
            completed_unix_ms: self.unix_ms(),
            terms: Terms { assigned: self.highest_revision(), ..start.terms.clone() },
            parallelism: start.key_groups.parallelism(),
            max_parallelism: start.key_groups.max_parallelism(),
            start: start.number,
            previous: match self.base {
                Origin::Link(number) => Some(number),
                Origin::Empty | Origin::Foreign { .. } => None,
            },
            plan: start.plan.clone(),
            operators: BTreeMap::new(),
            in_flight: Vec::new(),
            committables: BTreeMap::new(),
            sinks: start.sinks.clone(),
            savepoints,
            stop: None,
            holds: self.holds.clone(),
            sizes: Sizes::default(),
        }
    }

    fn put_as_attempt(&mut self, manifest: Manifest) {
        let attempt = self.attempt.as_mut().expect("the caller has one");
        let key = ObjectName::Link(manifest.number);
        attempt.manifest = Some(Box::new(manifest.clone()));
        let body = encode_link(&Link::Checkpoint(Box::new(manifest)));
        self.send(Purpose::Manifest, Request::PutIfAbsent { key, body });
    }

    pub(super) fn on_manifest(&mut self, purpose: &Purpose, answer: Answer) {
        let Some(attempt) = self.attempt.as_mut() else {
            return;
        };
        let Some(manifest) = &attempt.manifest else {
            return;
        };
        let number = manifest.number;
        let own = match (purpose, answer) {
            (Purpose::Manifest, Answer::Done) => true,
            (Purpose::Manifest, _) if !self.rules.hold(Rule::OwnLinksOnly) => true,
            (Purpose::Manifest, _) => {
                return self.send(Purpose::ManifestReadBack, Request::Get { key: ObjectName::Link(number) });
            }
            (_, Answer::Body(bytes)) => decode_link(number, &bytes).is_ok_and(|link| {
                let resolved = self.rules.hold(Rule::UnknownIsNotFailed);
                link.attempt() == manifest.attempt || (!resolved && link.generation() == manifest.generation)
            }),
            _ => false,
        };
        match own {
            true => {
                attempt.put = true;
                self.look_back(Subject::Manifest, number);
            }
            false => self.fenced(format!("link {number} was written by another leader")),
        }
    }

    pub(super) fn checkpoint_complete(&mut self) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let manifest = attempt.manifest.expect("only a manifest that was put stands");
        let (generation, checkpoint, link) = (self.own_generation(), manifest.checkpoint, manifest.number);
        self.carried = manifest.committables.clone();
        self.unconfirmed = manifest.committables.clone();
        self.unconfirmed.values_mut().for_each(|waiting| waiting.retain(|id, _| !self.confirmed.contains(id)));
        self.unconfirmed.retain(|_, waiting| !waiting.is_empty());
        self.savepoints = manifest.savepoints.clone();
        self.base = Origin::Link(link);
        self.restored = Some(checkpoint);
        self.forget_confirmed(&attempt.snapshots);
        let duration_ms = self.now.ms_since(attempt.begun);
        self.status.completed(&manifest, duration_ms, self.now);
        let stop = manifest.stop;
        if attempt.goal.is_some() {
            let attempt_id = manifest.attempt.clone();
            self.act(Action::NotifyCompleted { generation, checkpoint, attempt: attempt_id });
        }
        self.report(Notice::CheckpointCompleted { checkpoint, link, duration_ms });
        self.view.links.insert(link, Link::Checkpoint(manifest));
        self.failures_in_row = 0;
        self.delay_step = 0;
        self.pause_until = self.now.after_ms(self.options().checkpoint.min_pause_ms);
        self.wishes.retain(|wish| !attempt.wishes.contains(wish));
        self.releases.retain(|name| !attempt.releases.contains(name));
        self.announce(&attempt.wishes, attempt.releases, link);
        self.commit_waiting();
        self.release_pins();
        self.delete_retired();
        let own = matches!(stop, Some(Stop::Assignment(flag)) if self.is_own_to_carry_out(flag));
        if own || attempt.goal == Some(Goal::Drain) {
            // The next generation commits what is left; waiting here would only be longer.
            return self.begin_again();
        }
        if let (Some(stop), Errand::Run) = (stop, self.errand) {
            self.phase = Phase::Stopping(stop);
        }
        self.after_aside();
        self.stop_if_settled();
    }

    /// Gives the attempt up. What tasks handed over stays with them and goes into the next manifest.
    pub(super) fn abort_attempt(&mut self, abort: Abort) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let (generation, checkpoint) = (self.own_generation(), attempt.id);
        let Abort { cause, message } = abort;
        self.status.failed(cause);
        if !self.rules.hold(Rule::AbortedLoseNothing) {
            let operators = attempt.snapshots.values().flat_map(|snapshot| snapshot.operators.values());
            let ids = operators.flat_map(|part| &part.committables).map(|one| one.id.clone()).collect();
            self.act(Action::AbortCommittables { ids });
        }
        self.report(Notice::CheckpointFailed { checkpoint, cause, message: message.clone() });
        if cause == FailureCause::Generation {
            return;
        }
        self.act(Action::NotifyAborted { generation, checkpoint });
        if cause == FailureCause::Withdrawn {
            return;
        }
        self.not_before = self.now.after_ms(DELAYS_MS[self.delay_step.min(DELAYS_MS.len() - 1)]);
        self.delay_step += 1;
        self.pause_until = self.now.after_ms(self.options().checkpoint.min_pause_ms);
        match attempt.goal {
            Some(Goal::Suspend) => self.stop_failed(&message),
            Some(Goal::Assignment(revision)) => self.switch_failed(revision, &message),
            _ => {}
        }
        // The store's trouble is no reason to end a generation: processing goes on.
        if cause != FailureCause::Store {
            self.failures_in_row += 1;
        }
        if self.failures_in_row > self.options().checkpoint.tolerable_failures {
            let message = format!("{} checkpoints failed in a row, the last one: {message}", self.failures_in_row);
            self.failures_in_row = 0;
            self.fail_generation(Failure { task: None, kind: ErrorKind::Transient, message });
        }
    }
}
