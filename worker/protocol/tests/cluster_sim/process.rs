//! The process around a leader: it performs what the leader decides.

use crate::tasks;
use crate::world::{Item, Order, Proc, Reply, Start, World};
use std::collections::{BTreeMap, BTreeSet};
use weir_protocol::chain::{ObjectName, Pin, Stop};
use weir_protocol::leader::{
    Action, BarrierKind, CommitResult, End, ErrorKind, Event, Notice, OpId, Outcome, Request, Restore,
};
use weir_protocol::members;
use weir_protocol::{Generation, Now};

impl World {
    pub(crate) fn step(&mut self, process: Proc, event: Event) {
        let now = Now(self.now);
        self.trace(|| format!("p{process} <- {}", short(&event)));
        let actions = self.processes[process].leader.step(now, event);
        for action in actions {
            self.trace(|| format!("p{process} -> {}", short(&action)));
            self.perform(process, action);
        }
        let deadline = self.processes[process].leader.deadline().map(|at| at.0.max(self.now));
        let planned = &mut self.processes[process].tick_at;
        if let Some(at) = deadline
            && planned.is_none_or(|planned| at < planned)
        {
            *planned = Some(at);
            self.after(at - self.now, Item::Tick(process));
        }
    }

    fn perform(&mut self, process: Proc, action: Action) {
        match action {
            Action::Store { op, request } => self.request(process, op, request),
            Action::Deploy { generation, start, restore } => {
                self.deploy(process, generation, &start, restore.as_deref());
            }
            Action::Cancel { generation } => {
                self.processes[process].pending = None;
                self.step_members(process, members::Event::Cancel { generation });
            }
            Action::InjectBarrier { generation, checkpoint, kind } => {
                let stop = matches!(kind, BarrierKind::Stop | BarrierKind::Final);
                self.tell(process, generation, self.faults.lost, &Order::Barrier(checkpoint, stop));
            }
            Action::NotifyAborted { generation, checkpoint } => {
                self.tell(process, generation, 0, &Order::Aborted(checkpoint));
            }
            Action::NotifyCompleted { generation, checkpoint, .. } => {
                self.tell(process, generation, 4 * self.faults.lost, &Order::Completed(checkpoint));
            }
            Action::Commit { permit, committables } => {
                self.check_permit(permit.generation(), permit.link());
                let ids = committables.into_values().flat_map(BTreeMap::into_keys).collect();
                let delay = self.delay();
                self.after(delay, Item::Commit(process, ids));
            }
            Action::AbortLeftovers { before, keep, .. } => {
                let delay = self.delay();
                self.after(delay, Item::AbortLeftovers(before, keep));
            }
            Action::AbortCommittables { ids } => {
                let delay = self.delay();
                self.after(delay, Item::AbortStaged(ids));
            }
            Action::Gather { assignment } => {
                let (revision, workers) = (assignment.revision, assignment.workers);
                self.step_members(process, members::Event::Gather { revision, workers });
            }
            Action::Prepare { revision, .. } => self.message(process, Event::Prepared { revision }),
            Action::ReleasePin { pin, .. } => {
                if !self.fault(self.faults.lost) {
                    let delay = self.delay();
                    self.after(delay, Item::OriginReleased(process, pin));
                }
            }
            Action::Report(notice) => self.notice(notice),
            Action::End(end) => self.end(process, end),
        }
    }

    fn deploy(
        &mut self,
        process: Proc,
        generation: Generation,
        start: &weir_protocol::chain::Start,
        restore: Option<&Restore>,
    ) {
        self.check_permit(generation, start.number);
        self.check_deploy(process, start);
        let tasks = match tasks::deploy(start, restore, &self.store) {
            Ok(tasks) => tasks,
            // A later generation may have deleted what this one still believes in.
            Err(message)
                if self.newest_generation() > generation || self.store.names_damage(&message) || self.is_deleted() =>
            {
                let kind = ErrorKind::Corrupt;
                return self.after(1, Item::Event(process, Event::DeployFailed { generation, kind, message }));
            }
            Err(message) => return self.break_rule(format!("generation {generation} cannot restore: {message}")),
        };
        self.processes[process].pending = Some((generation, tasks));
        let parallelism = start.key_groups.parallelism();
        let workers = Some(start.terms.workers).filter(|workers| *workers > 0).unwrap_or(self.by_hand);
        self.step_members(process, members::Event::Deploy { generation, parallelism, workers });
    }

    fn request(&mut self, process: Proc, op: OpId, request: Request) {
        let (to_store, back) = (self.delay(), self.delay());
        let put = matches!(request, Request::PutIfAbsent { .. });
        let transient = Outcome::Failed { kind: ErrorKind::Transient, message: "refused".to_owned() };
        if self.fault(self.faults.refused) {
            self.after(to_store + back, Item::Event(process, Event::Stored { op, outcome: transient }));
        } else if put && self.fault(self.faults.put_unknown) {
            let unknown = Outcome::Unknown { message: "timed out".to_owned() };
            let answer = Event::Stored { op, outcome: unknown };
            self.after(to_store + back, Item::Event(process, answer));
            if self.rng.chance(60) {
                let late = if self.fault(self.faults.put_late) { self.rng.within(50, 1_500) } else { 0 };
                self.after(to_store + late, Item::Execute(None, request, Reply::None));
            }
        } else {
            let late = if put && self.fault(self.faults.put_late) { self.lateness(process, &request) } else { 0 };
            self.after(to_store + late, Item::Execute(Some((process, op)), request, Reply::Honest));
        }
    }

    /// How long a put is under way. A leader may be cut off with it and look dead for as long: others have the time to
    /// begin, to complete checkpoints and to retire links.
    fn lateness(&mut self, process: Proc, request: &Request) -> u64 {
        let decides = |key: &ObjectName| matches!(key, ObjectName::Link(_) | ObjectName::Deleted);
        if !matches!(request, Request::PutIfAbsent { key, .. } if decides(key)) {
            return self.rng.within(20, 400);
        }
        let late = self.rng.within(20, 800);
        if self.rng.chance(50) {
            self.freeze(process, late);
        }
        late
    }

    pub(crate) fn commit(&mut self, process: Proc, ids: BTreeSet<String>) {
        let mut results = BTreeMap::new();
        for id in ids {
            if self.fault(self.faults.commit_retry) {
                results.insert(id, CommitResult::Retry { message: "chance".to_owned() });
                continue;
            }
            if self.committed.insert(id.clone()) {
                let Some(rows) = self.staged.get(&id).cloned() else {
                    // Somebody has begun anew without the link that lists it.
                    if self.any_is_lost() {
                        continue;
                    }
                    return self.break_rule(format!("committable {id} was aborted and is lost"));
                };
                self.count(&id, &rows);
            }
            results.insert(id, CommitResult::Done);
        }
        let delay = self.delay();
        if !self.fault(self.faults.lost) {
            self.after(delay, Item::Event(process, Event::Committed { results }));
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            _ if self.is_deleted() => {}
            Notice::SavepointCompleted { name, uid, link } => {
                // One whose leader was away while others began without its link.
                if self.is_lost(link) {
                    self.released.insert(name.clone());
                }
                // A request that comes again after the release is a new one.
                let pin = Pin { uid, link };
                let before = self.answered.insert(name.clone(), pin.clone()).filter(|before| *before != pin);
                if let Some(before) = before.filter(|_| !self.released.contains(&name)) {
                    self.break_rule(format!("savepoint {name} was {before:?}, and is {pin:?} now"));
                }
            }
            Notice::SavepointReleased { name } => {
                self.released.insert(name);
            }
            Notice::AssignmentAnswered { revision, answer, .. } => self.answered_assignment(revision, &answer),
            _ => {}
        }
    }

    fn end(&mut self, process: Proc, end: End) {
        self.processes[process].alive = false;
        self.hang_up(process);
        let generation = self.processes[process].leader.status().generation;
        let overtaken = generation.is_some_and(|generation| generation < self.newest_generation());
        let restores = matches!(self.processes[process].kind, Start::Restoring(_));
        let maintains = self.processes[process].kind.maintains();
        match end {
            End::Maintained if matches!(self.processes[process].kind, Start::Deleting) => self.remove_later(),
            // Nobody goes on with it.
            _ if self.is_deleted() => {}
            End::Finished { .. } => {
                // Who is late may speak of an end that somebody has begun again behind.
                self.finished = self.head().is_some_and(|head| head.stop() == Some(Stop::Finished));
                self.finished_at = self.now;
                if !self.finished {
                    self.start_later();
                }
            }
            End::Maintained if maintains => {}
            End::Failed { kind: ErrorKind::User, .. } if maintains => {}
            End::Failed { kind: ErrorKind::Corrupt, ref message } if overtaken || self.store.names_damage(message) => {
                self.start_later();
            }
            // Nothing begins anew behind a head that cannot be read.
            End::Failed { kind: ErrorKind::User, message }
                if self.store.names_damage(&message) && message.contains("cannot be read") =>
            {
                self.start_later();
            }
            // Somebody gave the savepoint up meanwhile, or it is listed in a head that cannot be read.
            End::Failed { kind: ErrorKind::User, .. } if restores => self.start_later(),
            End::Fenced { .. } => self.start_later(),
            End::Stopped { .. } if self.controller.is_none() => {
                let delay = self.rng.within(1, 100);
                // What watches the pods starts the same again; a user lifts the stop later.
                if self.rng.chance(50) {
                    self.after(delay, Item::Start(Start::Obeying));
                }
                self.after(delay + 50, Item::Start(Start::Lifting));
            }
            end if self.controller.is_some() => self.pod_ended(process, end),
            end => self.break_rule(format!("nobody asked for {end:?}")),
        }
    }
}

fn short(what: &impl std::fmt::Debug) -> String {
    let mut text = format!("{what:?}");
    text.truncate(260);
    text
}
