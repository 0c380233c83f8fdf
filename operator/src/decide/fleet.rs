//! The worker pods of a program: each place has one that lives.
//!
//! A pod that is gone is replaced at once by one of a new name, and never waited for: the leader, or the next
//! generation, fences what may be left of it. In the list of actions the replacement comes before the end of what it
//! replaces. The leader's attempts are written down in its Service before a pod of that attempt is made: no two leaders
//! ever have the same one, whatever was lost in between.

use std::ops::Range;

use weir_crds::{Reason, RestartStrategy};

use super::draft::{Draft, Trouble};
use super::health::{Pace, Standing, is_up, last_words, pace, standing};
use super::view::View;
use crate::model::{Action, NewPod, PodSeen, name};

/// The pods of a program.
pub(super) struct Fleet<'v, 'a> {
    pub(super) view: &'v View<'a>,
    pub(super) program: u64,
    /// Whether it is to be in the scale selector, by ordinal.
    pub(super) active: Range<u32>,
    pub(super) restart: RestartStrategy,
}

impl Fleet<'_, '_> {
    /// Each of these places has a pod that lives. Says whether all processes are up.
    pub(super) fn keep(&self, ordinals: Range<u32>, draft: &mut Draft) -> bool {
        let Some(address) = self.service(draft) else {
            return false;
        };
        let mut all_up = true;
        for ordinal in ordinals {
            all_up &= self.keep_one(ordinal, &address, draft);
        }
        all_up
    }

    /// The address of the Service; without one nothing can be started.
    fn service(&self, draft: &mut Draft) -> Option<String> {
        let seen = self.view.seen;
        let service = seen.services.get(&name::leader_service(seen.name(), self.program));
        if let Some(address) = service.and_then(|service| service.address.clone()) {
            return Some(address);
        }
        let known = self.view.workers().filter(|pod| pod.revision == self.program).find_map(|pod| pod.leader.clone());
        let address = known.and_then(|leader| Some(leader.rsplit_once(':')?.0.to_owned()));
        let attempt = self.view.leader(self.program).map_or(0, |pod| pod.attempt);
        draft.act(Action::Lead { program: self.program, attempt, address });
        draft.look_again(std::time::Duration::from_secs(1));
        None
    }

    fn keep_one(&self, ordinal: u32, address: &str, draft: &mut Draft) -> bool {
        let pods = self.view.slot(self.program, ordinal);
        let Some((last, earlier)) = pods.split_last() else {
            self.create(ordinal, address, None, draft);
            return false;
        };
        let replaced = self.replace(last, address, draft);
        if !replaced {
            self.describe(last, ordinal, draft);
        }
        let over: &[&PodSeen] = if replaced { &pods } else { earlier };
        delete(over.iter().copied(), draft);
        !replaced && is_up(last)
    }

    /// Replaces the pod if that is due.
    fn replace(&self, pod: &PodSeen, address: &str, draft: &mut Draft) -> bool {
        let misled = pod.ordinal > 0 && pod.leader.as_ref().is_some_and(|leader| !leads_to(leader, address));
        match standing(pod) {
            Standing::Gone(why) => self.lost(pod, &why, address, draft),
            _ if misled => self.lost(pod, "its leader is elsewhere now", address, draft),
            Standing::Crashing(exit) => {
                let Pace::At { moment, failures, since } = pace(&self.restart, pod, &exit, self.view.now) else {
                    return false;
                };
                draft.troubles.push(Trouble::new(
                    Reason::CrashLooping,
                    format!("pod {} ends again and again: {}", pod.name, last_words(&exit)),
                ));
                if self.view.now < moment {
                    draft.look_at(moment, self.view.now);
                    return false;
                }
                draft.warn(Reason::ReplacingWorkers, format!("pod {} is replaced: {}", pod.name, last_words(&exit)));
                self.create(pod.ordinal, address, Some((failures, since)), draft);
                true
            }
            Standing::Well | Standing::Stuck(_) | Standing::Refused(_) => false,
        }
    }

    fn lost(&self, pod: &PodSeen, why: &str, address: &str, draft: &mut Draft) -> bool {
        draft.warn(Reason::ReplacingWorkers, format!("worker {} is replaced: {why}", pod.ordinal));
        draft.troubles.push(Trouble::new(Reason::ReplacingWorkers, why));
        let failing = pod.failing_since.map(|since| (pod.failures, since));
        self.create(pod.ordinal, address, failing, draft);
        true
    }

    fn create(&self, ordinal: u32, address: &str, failing: Option<(u32, jiff::Timestamp)>, draft: &mut Draft) {
        let seen = self.view.slot(self.program, ordinal).last().map_or(0, |pod| pod.attempt);
        let attempt = if ordinal == 0 { self.next_leader() } else { seen + 1 };
        if ordinal == 0 {
            draft.act(Action::Lead { program: self.program, attempt, address: None });
        }
        draft.act(Action::CreatePod(NewPod {
            program: self.program,
            ordinal,
            attempt,
            leader: format!("{address}:{}", name::CONTROL_PORT),
            active: self.active.contains(&ordinal),
            failures: failing.map_or(0, |(failures, _)| failures),
            failing_since: failing.map(|(_, since)| since),
        }));
    }

    fn next_leader(&self) -> u64 {
        next_leader_attempt(self.view, self.program)
    }

    /// What hinders a pod that stays.
    fn describe(&self, pod: &PodSeen, ordinal: u32, draft: &mut Draft) {
        let active = self.active.contains(&ordinal);
        if pod.active != active {
            draft.act(Action::Activate { pod: pod.name.clone(), uid: pod.uid.clone(), active });
        }
        match standing(pod) {
            Standing::Stuck(trouble) => draft.troubles.push(trouble),
            Standing::Refused(message) => draft.stall(Trouble::new(Reason::JobFailed, message)),
            Standing::Well | Standing::Gone(_) | Standing::Crashing(_) => {}
        }
    }
}

/// The attempt of the next leader of a program: no pod ever had it.
pub(super) fn next_leader_attempt(view: &View<'_>, program: u64) -> u64 {
    let service = view.seen.services.get(&name::leader_service(view.seen.name(), program));
    let noted = service.and_then(|service| service.annotations.get(name::LEADER_ATTEMPT)?.parse().ok()).unwrap_or(0);
    let pods = view.seen.pods.iter().filter(|pod| pod.revision == program && pod.ordinal == 0);
    pods.map(|pod| pod.attempt).max().unwrap_or(0).max(noted) + 1
}

fn leads_to(leader: &str, address: &str) -> bool {
    leader.rsplit_once(':').is_some_and(|(host, _)| host == address)
}

/// These pods go.
pub(super) fn delete<'p>(pods: impl Iterator<Item = &'p PodSeen>, draft: &mut Draft) {
    for pod in pods.filter(|pod| !pod.deleting) {
        draft.act(Action::DeletePod { pod: pod.name.clone(), uid: pod.uid.clone() });
    }
}
