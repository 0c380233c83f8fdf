//! Somebody assigns: parallelism, code, rollbacks, states to begin with; and keeps a pod of the assigned code alive.

use crate::chaos::{CODES, plan};
use crate::rng::Rng;
use crate::tasks::SPLITS;
use crate::world::{Item, Proc, Start, WORKERS, World};
use std::collections::BTreeMap;
use weir_protocol::chain::{Assignment, ObjectName, RestoreFrom, check_fit};
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::leader::{AssignmentAnswer, End, Event};

/// Pods from this number on belong to another cluster that uses the same folder.
const FOREIGN_PODS: u64 = 1_000;

/// The one that assigns.
#[derive(Debug)]
pub(crate) struct Controller {
    /// All that it ever asked for, by revision.
    pub(crate) wanted: BTreeMap<u64, Assignment>,
    /// Whether the newest is stored.
    accepted: bool,
    pods: u64,
}

impl Controller {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let first = Assignment {
            revision: 1,
            parallelism: rng.within(1, 3) as u32,
            workers: rng.within(1, u64::from(WORKERS)) as u32,
            code: CODES[0].to_owned(),
            force: false,
            rollback: None,
            restore_from: None,
        };
        Self { wanted: [(1, first)].into(), accepted: false, pods: 0 }
    }

    fn newest(&self) -> &Assignment {
        self.wanted.values().next_back().expect("it wants something from the beginning")
    }
}

impl World {
    fn controller(&mut self) -> &mut Controller {
        self.controller.as_mut().expect("only a controller reconciles")
    }

    pub(crate) fn reconcile(&mut self) {
        if self.finished {
            return;
        }
        let pause = self.rng.within(20, 80);
        self.after(pause, Item::Reconcile);
        if self.fault(15) {
            self.want_something_else();
        }
        let newest = self.controller().newest().clone();
        let code = CODES.iter().position(|code| *code == newest.code).expect("one of ours");
        if self.fault(1) {
            self.start_foreign_pod(code);
        }
        self.keep_alive(code);
        let in_force = self.head().map(|link| link.terms().code.clone());
        let before = CODES.iter().position(|code| in_force.as_ref().is_some_and(|of| of == code));
        match before {
            Some(before) if before != code => self.keep_alive(before),
            _ => self.end_surplus(code),
        }
        if !self.controller().accepted {
            for process in self.pods(None) {
                let assignment = Box::new(newest.clone());
                let request = format!("r{}", newest.revision);
                self.message(process, Event::AssignmentRequested { request, assignment });
            }
        }
    }

    fn pods(&self, code: Option<usize>) -> Vec<Proc> {
        let is_pod = |kind: &Start| {
            let Start::Pod { code: of, pod, .. } = kind else { return false };
            *pod < FOREIGN_PODS && code.is_none_or(|code| code == *of)
        };
        (0..self.processes.len())
            .filter(|at| {
                let process = &self.processes[*at];
                process.alive && !process.frozen && is_pod(&process.kind)
            })
            .collect()
    }

    fn keep_alive(&mut self, code: usize) {
        let mistaken = self.fault(2);
        if !self.pods(Some(code)).is_empty() && !mistaken {
            return;
        }
        let last = self.processes.iter().rev().find_map(|process| match process.kind {
            Start::Pod { code: of, pod, attempt } if of == code && pod < FOREIGN_PODS && !process.alive => {
                Some((pod, attempt))
            }
            _ => None,
        });
        let (pod, attempt) = match last {
            // The same pod again, or another one.
            Some((pod, attempt)) if attempt == self.attempts && self.rng.chance(50) => (pod, attempt),
            _ => {
                self.attempts += 1;
                let controller = self.controller();
                controller.pods += 1;
                (controller.pods, self.attempts)
            }
        };
        self.start(&Start::Pod { code, pod, attempt });
    }

    /// A pod of another cluster that shares the folder, and has come as far as this one.
    fn start_foreign_pod(&mut self, code: usize) {
        let pods = self.processes.iter().filter(|process| is_foreign(&process.kind)).count();
        let pod = FOREIGN_PODS + pods as u64;
        self.start(&Start::Pod { code, pod, attempt: self.attempts });
    }

    /// Pods of other codes go once the job runs with the newest.
    fn end_surplus(&mut self, code: usize) {
        if self.rng.chance(70) {
            return;
        }
        for process in self.pods(Some(1 - code)) {
            self.processes[process].alive = false;
            self.hang_up(process);
        }
    }

    fn want_something_else(&mut self) {
        let before = self.controller().newest().clone();
        let parallelism = self.rng.within(1, 3) as u32;
        let mut wanted = Assignment {
            revision: before.revision + 1,
            parallelism,
            workers: self.rng.within(1, u64::from(WORKERS)) as u32,
            force: false,
            rollback: None,
            restore_from: None,
            ..before.clone()
        };
        match self.rng.within(0, 9) {
            0..4 => {}
            4..7 => self.want_other_code(&mut wanted, &before),
            7 => wanted.force = true,
            8 => wanted.restore_from = self.savepoint_that_stands().map(RestoreFrom::Savepoint),
            _ => wanted.restore_from = self.rng.chance(50).then_some(RestoreFrom::Nothing),
        }
        self.want(wanted);
    }

    fn want_other_code(&mut self, wanted: &mut Assignment, before: &Assignment) {
        let other = CODES.iter().find(|code| **code != before.code).expect("there are two");
        wanted.code = (*other).to_owned();
        match self.rng.within(0, 4) {
            0 => wanted.force = true,
            1 => wanted.rollback = Some(before.code.clone()),
            2 => {
                wanted.restore_from = Some(RestoreFrom::Nothing);
                return;
            }
            _ => {}
        }
        // The state is checked against the new plan first; a rollback is for the leader to judge.
        let max_parallelism = MaxParallelism::new(u32::from(SPLITS)).expect("a few key groups");
        let fits =
            self.newest_manifest().is_none_or(|state| check_fit(&state, &plan(other), max_parallelism).is_empty());
        if !fits && wanted.rollback.is_none() {
            wanted.code.clone_from(&before.code);
        }
    }

    fn want(&mut self, wanted: Assignment) {
        self.trace(|| format!("wanted: {wanted:?}"));
        let controller = self.controller();
        controller.accepted = false;
        controller.wanted.insert(wanted.revision, wanted);
    }

    pub(crate) fn answered_assignment(&mut self, revision: u64, answer: &AssignmentAnswer) {
        let Some(controller) = self.controller.as_mut() else { return };
        if controller.newest().revision != revision {
            return;
        }
        match answer {
            AssignmentAnswer::Accepted => controller.accepted = true,
            // It was accepted, and the answer lost, or it is overtaken by itself.
            AssignmentAnswer::Stale { .. } => controller.accepted = true,
            AssignmentAnswer::UnknownRestorePoint { .. } => {
                let next = Assignment { restore_from: None, revision: revision + 1, ..controller.newest().clone() };
                self.want(next);
            }
            AssignmentAnswer::Busy | AssignmentAnswer::NotStored { .. } => {}
            AssignmentAnswer::Conflict if self.store.was_damaged(&ObjectName::Assignment(revision).to_string()) => {}
            answer => self.break_rule(format!("revision {revision} was answered with {answer:?}")),
        }
    }

    /// A pod's leader has ended by itself.
    pub(crate) fn pod_ended(&mut self, process: Proc, end: End) {
        if is_foreign(&self.processes[process].kind) {
            return;
        }
        let shared = self.processes.iter().any(|process| is_foreign(&process.kind));
        match end {
            // Another cluster was there first. The next attempt claims over it.
            End::Failed { message, .. } if shared && message.contains("in use by another one") => {}
            End::Stopped { .. } => {
                // A newer revision lifts the stop.
                let newest = self.controller().newest().clone();
                let next = Assignment { revision: newest.revision + 1, restore_from: None, rollback: None, ..newest };
                self.want(next);
            }
            End::HandedOver { .. } => {}
            // Its code cannot go on from the state: the other one can.
            End::Stalled { .. } | End::Failed { .. } => {
                let Start::Pod { code, .. } = self.processes[process].kind else {
                    return self.break_rule(format!("no pod: {end:?}"));
                };
                let newest = self.controller().newest().clone();
                if newest.code == CODES[code] {
                    let code = CODES[1 - code].to_owned();
                    let revision = newest.revision + 1;
                    let next = Assignment { revision, code, force: true, rollback: None, restore_from: None, ..newest };
                    self.want(next);
                }
            }
            end => self.break_rule(format!("nobody asked for {end:?}")),
        }
    }
}

fn is_foreign(kind: &Start) -> bool {
    matches!(kind, Start::Pod { pod, .. } if *pod >= FOREIGN_PODS)
}
