//! Beside each leader its members decide who takes part. Hellos and answers are lost, late and out of order; old attempts
//! come back, and strangers come.

use crate::chaos::plan;
use crate::follower::{HEARTBEAT_MS, MISSED_HEARTBEATS};
use crate::world::{Caller, Command, Item, Order, Proc, Start, WorkerId, World};
use weir_protocol::follower::{self, Concern, Word};
use weir_protocol::leader::Event;
use weir_protocol::members::{self, Process, Registration, Session};
use weir_protocol::{Generation, Now, TaskId};

/// What a leader of this code asks of its workers.
pub(crate) fn members_options(code: &str) -> members::Options {
    members::Options {
        job: "job".to_owned(),
        build: "build".to_owned(),
        plan: plan(code).fingerprint,
        code: code.to_owned(),
        heartbeat_ms: HEARTBEAT_MS,
        missed_heartbeats: MISSED_HEARTBEATS,
        cancel_timeout_ms: 100,
        tell_after_ms: 100_000,
    }
}

pub(crate) fn code_of(kind: &Start) -> &'static str {
    match kind {
        Start::Pod { code, .. } => crate::chaos::CODES[*code],
        _ => "",
    }
}

fn place(who: &Registration) -> (u64, u64) {
    (who.revision, who.attempt)
}

impl World {
    /// A worker arrives at a leader's process.
    pub(crate) fn hello(&mut self, process: Proc, session: Session, who: &Registration) {
        let workers = self.processes[process].members.workers();
        let before = workers.filter(|(_, of)| of.ordinal == who.ordinal).map(|(_, of)| place(of)).max();
        let worker = who.clone();
        self.trace(|| format!("p{process} <- hello {} of {who:?}", session.0));
        self.step_members(process, members::Event::Registered { session, worker, process: Process::Other });
        if self.processes[process].members.is_current(session) && Some(place(who)) < before {
            self.break_rule(format!("worker {} lost its place at p{process} to an older one", who.ordinal));
        }
    }

    pub(crate) fn heard(&mut self, process: Proc, session: Session) {
        self.step_members(process, members::Event::Heard { session });
        let current = self.processes[process].members.is_current(session);
        self.answer(session, if current { Word::Heartbeat } else { closed() });
    }

    /// A worker's word for the leader: nothing, if it was given up.
    pub(crate) fn said(&mut self, process: Proc, session: Session, event: Event) {
        if !self.processes[process].members.is_current(session) {
            return;
        }
        if let Event::Acked { generation, snapshot, .. } = &event {
            self.acknowledged_by(*generation, snapshot.task, session);
        }
        self.step(process, event);
    }

    fn acknowledged_by(&mut self, generation: Generation, task: TaskId, session: Session) {
        let Caller { worker, life, .. } = self.callers[&session];
        let caller = (worker, life);
        let before = *self.acknowledged.entry((generation, task)).or_insert(caller);
        if before != caller {
            let ((before, _), (now, _)) = (before, caller);
            self.break_rule(format!("w{before} and w{now} both acknowledge {task} of generation {generation}"));
        }
    }

    pub(crate) fn step_members(&mut self, process: Proc, event: members::Event) {
        let actions = self.processes[process].members.step(Now(self.now), event);
        for action in actions {
            self.perform_for_members(process, action);
        }
        let this = &mut self.processes[process];
        let deadline = this.members.deadline().map(|at| at.0.max(self.now));
        if let Some(at) = deadline
            && this.members_tick_at.is_none_or(|planned| at < planned)
        {
            this.members_tick_at = Some(at);
            self.after(at - self.now, Item::MembersTick(process));
        }
    }

    fn perform_for_members(&mut self, process: Proc, action: members::Action) {
        match action {
            members::Action::Welcome { session } => self.answer(session, Word::Welcome),
            members::Action::Refuse { session, reason } => self.answer(session, Word::Refused(reason)),
            members::Action::Replace { session, reason } => self.answer(session, Word::Replaced(reason)),
            members::Action::Close { session, reason } => self.answer(session, Word::Closed(reason)),
            members::Action::Deploy { session, generation, placement } => {
                // It may be lost by now.
                let ordinal = self.workers[self.callers[&session].worker].who.ordinal;
                let pending = self.processes[process].pending.as_ref().filter(|(of, _)| *of == generation);
                let tasks = pending.into_iter().flat_map(|(_, tasks)| tasks);
                let tasks = tasks.filter(|task| placement.worker_of(task.id.subtask) == ordinal).cloned().collect();
                self.send_surely(session, (process, generation), Order::Deploy(tasks));
            }
            members::Action::Cancel { session, generation } => {
                self.send_surely(session, (process, generation), Order::Cancel);
            }
            members::Action::Tell(event) => {
                self.trace(|| format!("p{process} members: {event:?}"));
                self.after(0, Item::Event(process, event));
            }
            members::Action::TellWaiting { .. } => {}
            members::Action::GiveUp { reason } => self.break_rule(reason),
        }
    }

    fn answer(&mut self, session: Session, word: Word<Command>) {
        if !self.fault(self.faults.lost) {
            self.say_to(session, word);
        }
    }

    fn say_to(&mut self, session: Session, word: Word<Command>) {
        let Caller { worker, life, connection } = self.callers[&session];
        let delay = self.delay();
        let event = follower::Event::Heard { connection, word };
        self.after(delay, Item::Follower(worker, life, Box::new(event)));
    }

    /// The process of a leader has ended: most of its connections break at once.
    pub(crate) fn hang_up(&mut self, process: Proc) {
        let sessions: Vec<Session> = self.processes[process].members.workers().map(|(session, _)| session).collect();
        for session in sessions {
            self.answer(session, closed());
        }
    }

    pub(crate) fn tell(&mut self, process: Proc, generation: Generation, lost: u64, order: &Order) {
        let sessions: Vec<Session> = self.processes[process].members.workers().map(|(session, _)| session).collect();
        for session in sessions {
            if !self.fault(lost) {
                self.send(session, (process, generation), order.clone());
            }
        }
    }

    /// What must arrive does, or the connection breaks.
    fn send_surely(&mut self, session: Session, from: (Proc, Generation), order: Order) {
        match self.fault(self.faults.lost / 2) {
            true => self.cut(from.0, session),
            false => self.send(session, from, order),
        }
    }

    pub(crate) fn cut(&mut self, process: Proc, session: Session) {
        let delay = self.rng.within(1, 60);
        let message = "it was cut".to_owned();
        self.after(delay, Item::Members(process, members::Event::Disconnected { session, message }));
    }

    fn send(&mut self, session: Session, from: (Proc, Generation), order: Order) {
        let concern = match order {
            Order::Deploy(_) => Concern::Deploy(from.1),
            Order::Cancel => Concern::Cancel(from.1),
            Order::Barrier(..) | Order::Aborted(_) => Concern::Tasks(from.1),
            Order::Completed(_) => Concern::Worker,
        };
        let word = Word::Command(concern, Command { session, from, order });
        if self.fault(self.faults.doubled) {
            self.say_to(session, word.clone());
        }
        self.say_to(session, word);
    }

    /// Whoever was refused never gets tasks.
    pub(crate) fn check_order(&mut self, worker: WorkerId, process: Proc) {
        let (who, code) = (&self.workers[worker].who, code_of(&self.processes[process].kind));
        if self.is_stranger(worker) || who.code != code {
            self.break_rule(format!("w{worker} gets tasks of p{process} although it is a stranger: {who:?}"));
        }
    }
}

fn closed() -> Word<Command> {
    Word::Closed("it was closed".to_owned())
}
