//! Work on the state of a job that does not run: a leader that claims and starts like any other, runs nothing, and ends.

use super::beside::{commit, perform};
use super::directory::place::Held;
use super::settings;
use crate::connector::Committer;
use crate::failure::{Failure, Kind, Result};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use weir_protocol::chain::{Claimant, Start};
use weir_protocol::leader::{Action, End, ErrorKind, Event, Leader, Notice, Operation, Running};
use weir_protocol::{Now, OperatorId};

/// A store that does not answer for this long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A maintenance run.
pub struct Maintenance<'a> {
    /// The job's state.
    pub state: &'a Held,
    /// The job's newest start.
    pub start: &'a Start,
    /// As whom to claim.
    pub claimant: Claimant,
    /// What to do with a job that was not stopped.
    pub running: Running,
    /// Completed checkpoints to keep; `None` deletes none.
    pub retain: Option<u32>,
    /// Those who commit what the job left, by sink. One that is missing makes the run fail if something waits for it.
    pub committers: BTreeMap<OperatorId, Box<dyn Committer>>,
}

impl Maintenance<'_> {
    /// Carries the operation out; answers what the leader reported on the way.
    pub fn run(mut self, operation: Operation) -> Result<Vec<Notice>> {
        let claimant = self.claimant.clone();
        let options = settings::maintenance(self.start, claimant, self.running, self.retain, operation);
        let began = Instant::now();
        let now = || Now(began.elapsed().as_millis() as u64);
        let mut leader = Leader::new();
        let mut notices = Vec::new();
        let mut events = VecDeque::from([Event::Begin(Box::new(options))]);
        loop {
            while let Some(event) = events.pop_front() {
                for action in leader.step(now(), event) {
                    match action {
                        Action::End(End::Maintained) => return Ok(notices),
                        Action::End(end) => return Err(failure(end)),
                        Action::Report(notice) => notices.push(notice),
                        action => events.extend(self.answer(action)),
                    }
                }
            }
            let due = leader.deadline().ok_or_else(|| Failure::bug("a leader waits for nothing"))?;
            if began.elapsed() > PATIENCE {
                return Err(given_up(&notices));
            }
            std::thread::sleep(Duration::from_millis(due.ms_since(now())));
            events.push_back(Event::Tick);
        }
    }

    fn answer(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Store { op, request } => {
                Some(Event::Stored { op, outcome: perform(self.state.store.as_ref(), request) })
            }
            Action::Commit { committables, .. } => {
                Some(Event::Committed { results: commit(&mut self.committers, &committables) })
            }
            // Nothing runs that could be deployed, cancelled or told.
            _ => None,
        }
    }
}

fn failure(end: End) -> Failure {
    match end {
        End::Failed { kind, message } => {
            let kind = match kind {
                ErrorKind::User => Kind::User,
                ErrorKind::Transient => Kind::Transient,
                ErrorKind::Corrupt => Kind::Corrupt,
                ErrorKind::Fenced => Kind::Fenced,
                ErrorKind::Bug => Kind::Bug,
            };
            Failure::new(kind, message)
        }
        End::Fenced { message } => Failure::new(Kind::Fenced, message),
        End::Stalled { message, .. } => Failure::user(message),
        End::GivenUp { message } => Failure::transient(message),
        End::Maintained | End::Finished { .. } | End::Stopped { .. } | End::HandedOver { .. } => {
            Failure::bug("maintenance ended as if the job had run")
        }
    }
}

fn given_up(notices: &[Notice]) -> Failure {
    let trouble = notices.iter().rev().find_map(|notice| match notice {
        Notice::StoreTrouble { message } | Notice::CommitTrouble { message } => Some(message.as_str()),
        _ => None,
    });
    let trouble = trouble.map_or(String::new(), |trouble| format!(": {trouble}"));
    Failure::transient(format!("given up after {} s{trouble}", PATIENCE.as_secs()))
}
