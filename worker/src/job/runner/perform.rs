//! What the leader and the members want done: told to workers, to the threads beside, to the store.

use super::{Happened, Runner, deploy_failed};
use crate::job::agent::message::{Command, Deploy};
use crate::job::beside::Commit;
use crate::job::message::ToWorker;
use crate::job::origin;
use std::sync::Arc;
use weir_protocol::leader::{Action, BarrierKind, Event, Notice, Request};
use weir_protocol::members::{self, Session};

impl Runner {
    /// Carries out an action of the leader; some ask the members.
    pub(super) fn perform(&mut self, action: Action) -> Option<Happened> {
        match action {
            Action::Store { op, request } => {
                if let Request::Delete { keys, .. } = &request {
                    self.command_all(&Command::Forget { keys: keys.iter().cloned().collect() });
                }
                self.answers.asked += 1;
                self.store.send((op, request));
            }
            Action::Deploy { generation, start, restore } => {
                let deployed = self.deploy(generation, *start, restore);
                return deployed.err().map(|failure| Happened::Leader(deploy_failed(generation, &failure)));
            }
            Action::Cancel { generation } => {
                self.pending = None;
                return Some(Happened::Members(members::Event::Cancel { generation }));
            }
            Action::InjectBarrier { generation, checkpoint, kind } => {
                // A savepoint and a stop wait: they must not need rows that are written nowhere else.
                let overtakes = self.job.options.checkpoint.unaligned_after_ms;
                let overtakes_after_ms = overtakes.filter(|_| kind == BarrierKind::Checkpoint);
                self.command_all(&Command::Inject { generation, checkpoint, kind, overtakes_after_ms });
            }
            Action::NotifyAborted { generation, checkpoint } => {
                self.command_all(&Command::Aborted { generation, checkpoint });
            }
            Action::NotifyCompleted { generation, checkpoint, attempt } => {
                self.command_all(&Command::Completed { generation, checkpoint, attempt });
                self.remove_tails(generation);
                self.foreign = None;
            }
            Action::Commit { committables, .. } => self.commits.send(Commit::Committables(committables)),
            Action::Gather { assignment } => {
                let (revision, workers) = (assignment.revision, assignment.workers);
                self.gathered = workers;
                return Some(Happened::Members(members::Event::Gather { revision, workers }));
            }
            Action::Prepare { revision, key_groups, restore } => {
                return self.prepare(revision, &key_groups, restore.map(|restore| *restore)).map(Happened::Leader);
            }
            Action::ReleasePin { location, pin } => {
                let (board, job) = (&self.board, &self.handle);
                let start = || Some(origin::releases(Arc::clone(board.origins.get()?), job.clone()));
                self.releases = self.releases.take().or_else(start);
                self.releases.iter().for_each(|side| side.send((location.clone(), pin.clone())));
            }
            Action::AbortLeftovers { before, keep, .. } => self.leftovers = Some((before, keep)),
            Action::Report(notice) => self.report(&notice),
            // No rule of the protocol asks for it outside of tests.
            Action::AbortCommittables { .. } | Action::End(_) => {}
        }
        None
    }

    pub(super) fn perform_for_members(&mut self, action: members::Action) -> Option<Event> {
        match action {
            members::Action::Welcome { session } => self.send(session, ToWorker::Welcome),
            members::Action::Refuse { session, reason } => {
                self.send(session, ToWorker::Refused(reason));
                self.links.remove(&session);
            }
            members::Action::Replace { session, reason } => {
                self.send(session, ToWorker::Replaced(reason));
                self.links.remove(&session);
                self.board.worker_lost(session);
            }
            members::Action::Close { session, reason } => {
                self.send(session, ToWorker::Closed(reason));
                self.links.remove(&session);
                self.board.worker_lost(session);
            }
            members::Action::Deploy { session, generation, placement } => {
                let pending = self.pending.as_ref().filter(|pending| pending.generation == generation)?;
                let deploy = Deploy {
                    generation,
                    start: pending.start.clone(),
                    restore: pending.restore.clone(),
                    placement: placement.as_ref().clone(),
                };
                self.command(session, Command::Deploy(Box::new(deploy)));
            }
            members::Action::Cancel { session, generation } => self.command(session, Command::Cancel { generation }),
            members::Action::TellWaiting { missing } => {
                let missing: Vec<String> = missing.iter().map(u32::to_string).collect();
                self.board.remark(format!("waiting for worker {}", missing.join(", ")));
            }
            members::Action::Tell(event) => return Some(event),
            // Performed where a job can end.
            members::Action::GiveUp { .. } => {}
        }
        None
    }

    fn send(&self, session: Session, message: ToWorker) {
        if let Some(link) = self.links.get(&session) {
            link.send(message);
        }
    }

    pub(super) fn command(&self, session: Session, command: Command) {
        self.send(session, ToWorker::Command(command));
    }

    pub(super) fn command_all(&self, command: &Command) {
        self.members.workers().for_each(|(session, _)| self.command(session, command.clone()));
    }

    pub(super) fn report(&mut self, notice: &Notice) {
        self.started |= matches!(notice, Notice::Started { .. });
        if matches!(notice, Notice::SavepointCompleted { .. }) {
            // Who waits for it is told about its checkpoint, too.
            self.board.update(&self.leader.status(), self.now());
        }
        self.board.notice(notice);
    }
}
