//! A generation on its way to the workers: its splits, its state brought near, and what earlier ones left behind.

use super::{Happened, Pending, Runner, deploy_failed};
use crate::failure::Result;
use crate::job::agent::message::Command;
use crate::job::beside::Commit;
use crate::job::directory::foreign::Foreign;
use crate::job::split_service::SplitWork;
use std::collections::{BTreeMap, BTreeSet};
use weir_protocol::Generation;
use weir_protocol::chain::Start;
use weir_protocol::key_group::KeyGroupMap;
use weir_protocol::leader::{End, Event, Restore};
use weir_protocol::members::{self, Session};

impl Runner {
    /// Every worker of the assignment brings near what it will need.
    pub(super) fn prepare(
        &mut self,
        revision: u64,
        key_groups: &KeyGroupMap,
        restore: Option<Restore>,
    ) -> Option<Event> {
        let Some(restore) = restore.filter(|restore| restore.location.is_none()) else {
            return Some(Event::Prepared { revision });
        };
        let workers = self.gathered;
        let at_it: BTreeSet<Session> =
            self.members.workers().filter(|(_, worker)| worker.ordinal < workers).map(|(session, _)| session).collect();
        for session in &at_it {
            let (key_groups, manifest) = (key_groups.clone(), Box::new(restore.manifest.clone()));
            self.command(*session, Command::Prepare { revision, key_groups, workers, manifest });
        }
        self.preparing = Some((revision, at_it));
        None
    }

    /// One that is lost has nothing to bring near any more; the leader does not wait for ever anyway.
    pub(super) fn prepared(&mut self, revision: u64, session: Session) -> Option<Event> {
        let (_, at_it) = self.preparing.as_mut().filter(|(current, _)| *current == revision)?;
        at_it.remove(&session);
        let members = &self.members;
        at_it.retain(|session| members.is_current(*session));
        let done = at_it.is_empty();
        done.then(|| {
            self.preparing = None;
            Event::Prepared { revision }
        })
    }

    /// First the splits, then the workers.
    pub(super) fn deploy(&mut self, generation: Generation, start: Start, restore: Option<Box<Restore>>) -> Result<()> {
        let restore = restore.map(|restore| *restore);
        // Given up first: the lock of the place cannot be taken twice.
        self.foreign = None;
        let location = restore.as_ref().and_then(|restore| restore.location.as_deref());
        self.foreign = location.map(|location| Foreign::open(location, self.job.store.as_ref())).transpose()?;
        let manifest = restore.as_ref().map(|restore| &restore.manifest);
        let writers = manifest.into_iter().flat_map(|manifest| &manifest.operators);
        let writers = writers.filter(|(_, state)| !state.writers.is_empty());
        self.writers = writers.map(|(operator, state)| (operator.clone(), state.writers.clone())).collect();
        let (parallelism, manifest) = (start.key_groups.parallelism(), manifest.cloned().map(Box::new));
        self.splits.send(SplitWork::Begin { generation, parallelism, restore: manifest });
        self.pending = Some(Pending { generation, start, restore });
        Ok(())
    }

    pub(super) fn splits_ready(&mut self, generation: Generation, made: Result<()>) -> Option<End> {
        let pending = self.pending.as_ref().filter(|pending| pending.generation == generation)?;
        let parallelism = pending.start.key_groups.parallelism();
        // A start of a run that nobody assigned anything to does not say.
        let workers = Some(pending.start.terms.workers).filter(|workers| *workers > 0);
        let workers = workers.unwrap_or(self.job.workers.count);
        if let Err(failure) = made {
            return self.step(Happened::Leader(deploy_failed(generation, &failure)));
        }
        self.remove_leftovers();
        self.step(Happened::Members(members::Event::Deploy { generation, parallelism, workers }))
    }

    /// A checkpoint of the own generation is complete: nothing refers to tails of earlier ones any more. What those had
    /// prepared was committed before the tasks were started.
    pub(super) fn remove_tails(&mut self, generation: Generation) {
        if !self.writers.is_empty() {
            self.writers.clear();
            let (before, keep) = (generation, BTreeSet::new());
            self.commits.send(Commit::RemoveLeftovers { before, keep, writers: BTreeMap::new() });
        }
    }

    /// Now that the restored checkpoint is known, and with it the files that its writers go on from.
    fn remove_leftovers(&mut self) {
        if let Some((before, keep)) = self.leftovers.take() {
            self.commits.send(Commit::RemoveLeftovers { before, keep, writers: self.writers.clone() });
        }
    }
}
