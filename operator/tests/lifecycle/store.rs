//! What leaders do, as far as a controller can tell: a small model of the chain and of those who lead.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weir_operator::model::{
    Assign, CheckpointSeen, Ending, Failure, FailureKind, LeaderReport, LeaderRequest, LeaderState, SavepointReport,
    SavepointSeenState, Then,
};

/// A leader's process, as the store sees it.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) pod: String,
    pub(crate) uid: String,
    pub(crate) code: String,
    pub(crate) attempt: u64,
    /// Worker processes of its program that are up, by ordinal.
    pub(crate) workers: BTreeSet<u32>,
}

#[derive(Clone, Debug, PartialEq)]
enum Stop {
    For(u64),
    Suspended,
    Finished,
}

/// The chain, and who leads.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) assignments: BTreeMap<u64, Assign>,
    pub(crate) in_force: u64,
    /// Revisions in the order in which they came into force.
    pub(crate) begun: Vec<u64>,
    stop: Option<Stop>,
    claim: Option<(u64, u64, String)>,
    generation: u64,
    checkpoint: u64,
    /// When it was complete, in milliseconds since 1970.
    completed_at: i64,
    /// No checkpoint completes.
    pub(crate) stuck: bool,
    /// By pod uid: checkpoints of this process.
    completed: BTreeMap<String, u64>,
    pub(crate) savepoints: BTreeMap<String, (String, u64)>,
    pending: BTreeMap<String, (String, Then)>,
    /// By pod uid: what it was told and cannot begin.
    silent: BTreeSet<String>,
    /// Codes that never complete a checkpoint.
    pub(crate) bad: BTreeSet<String>,
    /// No savepoint can be taken.
    pub(crate) away: bool,
    /// The input has ended.
    pub(crate) ends: bool,
    /// The old version does not read what the new one has written.
    pub(crate) does_not_take_back: bool,
}

impl Store {
    fn assigned(&self) -> u64 {
        self.assignments.keys().next_back().copied().unwrap_or(0)
    }

    fn current(&self) -> Option<&Assign> {
        self.assignments.get(&self.in_force)
    }

    pub(crate) fn leads(&self, leader: &Leader) -> bool {
        self.claim.as_ref().is_some_and(|(_, _, uid)| *uid == leader.uid)
    }

    /// Whether it is running, as far as its chain says.
    pub(crate) fn runs(&self) -> bool {
        self.in_force > 0 && self.stop.is_none()
    }

    /// A moment passes for a leader.
    pub(crate) fn tick(&mut self, leader: &Leader, now: Timestamp) {
        if self.leads(leader) && self.stop.is_none() {
            self.run(leader, now);
        } else if let Some(own) = self.own(leader) {
            self.begin(leader, &own);
        }
    }

    fn own(&self, leader: &Leader) -> Option<Assign> {
        self.assignments.values().rev().find(|assign| assign.code == leader.code).cloned()
    }

    fn begin(&mut self, leader: &Leader, own: &Assign) {
        let code = self.current().map(|assign| assign.code.clone());
        let same = code.as_ref() == Some(&own.code);
        let rollback = own.rollback.is_some() && own.rollback == code;
        let may = match &self.stop {
            _ if own.revision < self.in_force => false,
            Some(Stop::For(revision)) => *revision <= own.revision,
            Some(Stop::Suspended | Stop::Finished) => own.revision > self.in_force,
            None => self.in_force == 0 || same || own.force || rollback,
        };
        if !may || (rollback && self.does_not_take_back) {
            return;
        }
        let pair = (own.revision, leader.attempt);
        if let Some((revision, attempt, uid)) = &self.claim {
            let before = (*revision, *attempt);
            assert!(pair != before || *uid == leader.uid, "two leaders of revision and attempt {pair:?}");
            if pair < before {
                return;
            }
        }
        self.claim = Some((pair.0, pair.1, leader.uid.clone()));
        self.generation += 1;
        if self.in_force < own.revision {
            self.begun.push(own.revision);
        }
        self.in_force = own.revision;
        self.stop = None;
        self.completed.insert(leader.uid.clone(), 0);
    }

    fn works(&self, leader: &Leader) -> bool {
        let workers = self.current().map_or(0, |assign| assign.workers);
        (0..workers).all(|ordinal| leader.workers.contains(&ordinal)) && !self.bad.contains(&leader.code)
    }

    fn run(&mut self, leader: &Leader, now: Timestamp) {
        if !self.works(leader) || self.stuck {
            return;
        }
        self.checkpoint += 1;
        self.completed_at = now.as_millisecond();
        *self.completed.entry(leader.uid.clone()).or_default() += 1;
        if self.ends {
            self.stop = Some(Stop::Finished);
            return;
        }
        if self.away {
            return;
        }
        for (name, (uid, then)) in std::mem::take(&mut self.pending) {
            self.savepoints.insert(name, (uid, self.checkpoint));
            if then == Then::Stop {
                self.stop = Some(Stop::Suspended);
                return;
            }
        }
        let newest = self.assigned();
        let Some(next) = self.assignments.get(&newest).filter(|next| next.revision > self.in_force).cloned() else {
            return;
        };
        if next.code != leader.code {
            self.stop = Some(Stop::For(newest));
        } else if (0..next.workers).all(|ordinal| leader.workers.contains(&ordinal)) {
            self.in_force = newest;
            self.begun.push(newest);
            self.claim = Some((newest, leader.attempt, leader.uid.clone()));
            self.generation += 1;
        }
    }

    /// A request, as the leader in a pod takes it: an answer above 399 is a refusal.
    pub(crate) fn ask(&mut self, leader: &Leader, request: &LeaderRequest) -> Result<(), (u16, String)> {
        match request {
            LeaderRequest::Assign(assign) => match self.assignments.get(&assign.revision) {
                Some(known) => {
                    assert_eq!(known, assign, "a revision never changes");
                    Ok(())
                }
                None if assign.revision < self.assigned() => Err((409, "stale".to_owned())),
                None => {
                    self.assignments.insert(assign.revision, assign.clone());
                    Ok(())
                }
            },
            LeaderRequest::TakeSavepoint { name, uid, then } => match self.savepoints.get(name) {
                Some((known, _)) if known == uid => Ok(()),
                Some(_) => Err((409, format!("savepoint {name} is taken"))),
                None if !self.leads(leader) => Err((503, "it does not lead".to_owned())),
                None => {
                    self.pending.insert(name.clone(), (uid.clone(), *then));
                    Ok(())
                }
            },
            LeaderRequest::ReleaseSavepoint { name } => {
                self.savepoints.remove(name);
                Ok(())
            }
        }
    }

    pub(crate) fn silence(&mut self, uid: &str) {
        self.silent.insert(uid.to_owned());
    }

    pub(crate) fn everybody_speaks(&mut self) {
        self.silent.clear();
    }

    /// What a leader says.
    pub(crate) fn report(&self, leader: &Leader) -> Option<LeaderReport> {
        if self.silent.contains(&leader.uid) {
            return None;
        }
        let leads = self.leads(leader);
        // A leader of what was stopped, and may not lift the stop, ends as the head says: also one that came later.
        let obeys = leads || self.own(leader).is_some_and(|own| own.revision == self.in_force);
        let stalls = self.own(leader).is_some_and(|own| own.rollback.is_some() && own.revision > self.in_force);
        let ending = match &self.stop {
            _ if stalls && self.does_not_take_back => Some(Ending::Stalled),
            Some(Stop::Suspended) if obeys => Some(Ending::Stopped),
            Some(Stop::Finished) if obeys => Some(Ending::Finished),
            _ => None,
        };
        let state = match (leads, &self.stop, self.works(leader)) {
            (_, Some(Stop::Suspended | Stop::Finished), _) if obeys => LeaderState::Ended,
            (true, None, true) => LeaderState::Running,
            (true, None, false) if self.bad.contains(&leader.code) => LeaderState::Waiting,
            (true, None, false) => LeaderState::Deploying,
            _ => LeaderState::Awaiting,
        };
        let current = self.current();
        let pending = self.pending.iter().map(|(name, (uid, _))| (name, uid, SavepointSeenState::Pending));
        let taken = self.savepoints.iter().map(|(name, (uid, _))| (name, uid, SavepointSeenState::Completed));
        Some(LeaderReport {
            state,
            ending,
            generation: Some(self.generation).filter(|generation| *generation > 0),
            revision: self.in_force,
            parallelism: current.map_or(0, |assign| assign.parallelism),
            workers: current.map_or(0, |assign| assign.workers),
            code: current.map_or_else(String::new, |assign| assign.code.clone()),
            assigned: self.assigned(),
            completed: if leads { self.completed.get(&leader.uid).copied().unwrap_or(0) } else { 0 },
            last_failure: self
                .bad
                .contains(&leader.code)
                .then(|| Failure { kind: FailureKind::Bug, message: "it fails again and again".to_owned() }),
            last_checkpoint: (self.checkpoint > 0).then(|| CheckpointSeen {
                number: self.checkpoint,
                link: self.checkpoint * 2,
                completed_unix_ms: self.completed_at,
                duration_ms: Some(40),
                total_bytes: Some(1_000),
                written_bytes: Some(10),
            }),
            failing_checkpoint: self.stuck.then(|| "not complete after 10 min".to_owned()),
            registered: Some(leader.workers.len() as u32),
            savepoints: pending
                .chain(taken)
                .map(|(name, uid, state)| SavepointReport {
                    name: name.clone(),
                    uid: uid.clone(),
                    state,
                    message: None,
                    checkpoint: Some(self.checkpoint),
                    completed_unix_ms: Some(1_767_225_600_000),
                    total_bytes: Some(1_000),
                })
                .collect(),
            ..LeaderReport::default()
        })
    }
}
