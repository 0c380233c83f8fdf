//! Workers look for their leader, introduce themselves, send heartbeats and end their tasks when they miss it; beside each
//! leader its members decide. Hellos and answers are lost, late and out of order; old attempts come back, and strangers
//! come.

use crate::chaos::plan;
use crate::world::{Item, Order, Proc, Start, Worker, WorkerId, World};
use weir_protocol::leader::Event;
use weir_protocol::members::{self, Process, Registration, Session};
use weir_protocol::{Generation, Now, TaskId};

const HEARTBEAT_MS: u64 = 50;
const MISSED_HEARTBEATS: u32 = 3;
const LOST_AFTER_MS: u64 = HEARTBEAT_MS * MISSED_HEARTBEATS as u64;

/// A worker's connection to the process of a leader.
#[derive(Debug)]
pub(crate) struct Connection {
    process: Proc,
    session: Session,
    /// When something was heard of the leader.
    heard: u64,
    welcomed: bool,
}

/// What a leader's process answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Welcome,
    Heartbeat,
    Refused,
    Replaced,
    Closed,
}

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

fn code_of(kind: &Start) -> &'static str {
    match kind {
        Start::Pod { code, .. } => crate::chaos::CODES[*code],
        _ => "",
    }
}

fn place(who: &Registration) -> (u64, u64) {
    (who.revision, who.attempt)
}

impl Worker {
    pub(crate) fn new(code: &str, ordinal: u32, attempt: u64) -> Self {
        let who = Registration {
            job: "job".to_owned(),
            ordinal,
            build: "build".to_owned(),
            plan: plan(code).fingerprint,
            code: code.to_owned(),
            revision: 0,
            attempt,
            exchange: String::new(),
        };
        Self {
            who,
            connection: None,
            alive: true,
            frozen: false,
            stash: Vec::new(),
            life: 0,
            of: None,
            tasks: Vec::new(),
        }
    }
}

impl World {
    /// Another process for the same place: the one before is believed to be dead.
    pub(crate) fn start_replacement(&mut self, worker: WorkerId) {
        let who = self.workers[worker].who.clone();
        let next = Worker::new(&who.code, who.ordinal, self.newest_attempt(&who) + 1);
        self.join(next);
    }

    /// A process that came from another image, or runs another SQL: later than whoever has its place.
    pub(crate) fn start_stranger(&mut self, worker: WorkerId) {
        let who = self.workers[worker].who.clone();
        let mut stranger = Worker::new(&who.code, who.ordinal, self.newest_attempt(&who));
        match self.rng.chance(50) {
            true => stranger.who.build = "another build".to_owned(),
            false => stranger.who.plan = "another plan".to_owned(),
        }
        self.join(stranger);
    }

    fn join(&mut self, worker: Worker) {
        let at = self.workers.len();
        self.trace(|| format!("w{at} comes: {:?}", worker.who));
        self.workers.push(worker);
        let delay = self.rng.within(0, 30);
        self.after(delay, Item::Dial(at, 0));
    }

    fn is_stranger(&self, worker: WorkerId) -> bool {
        let who = &self.workers[worker].who;
        who.build != "build" || who.plan != plan(&who.code).fingerprint
    }

    fn in_place_of<'a>(&'a self, who: &'a Registration) -> impl Iterator<Item = WorkerId> + 'a {
        let same = |of: &Registration| of.ordinal == who.ordinal && of.code == who.code;
        (0..self.workers.len()).filter(move |at| same(&self.workers[*at].who) && !self.is_stranger(*at))
    }

    fn newest_attempt(&self, who: &Registration) -> u64 {
        self.in_place_of(who).map(|at| self.workers[at].who.attempt).max().unwrap_or(0)
    }

    /// A worker that has died comes back as it was or as a later attempt, unless a later one is there.
    pub(crate) fn revive_worker(&mut self, worker: WorkerId) {
        let who = self.workers[worker].who.clone();
        let later =
            self.in_place_of(&who).any(|at| self.workers[at].alive && self.workers[at].who.attempt > who.attempt);
        if self.workers[worker].alive || self.is_stranger(worker) || (later && (self.calm() || self.rng.chance(70))) {
            return;
        }
        let attempt = if later || self.rng.chance(50) { who.attempt } else { self.newest_attempt(&who) + 1 };
        let this = &mut self.workers[worker];
        (this.alive, this.who.attempt) = (true, attempt);
        let life = this.life;
        self.trace(|| format!("w{worker} is back as attempt {attempt}"));
        self.after(0, Item::Dial(worker, life));
    }

    /// The process that leads the job, as far as anybody can know.
    fn leader_for(&mut self, worker: WorkerId) -> Option<Proc> {
        let leads = |process: &crate::world::Process| process.alive && !process.kind.maintains();
        let all: Vec<Proc> = (0..self.processes.len()).filter(|at| leads(&self.processes[*at])).collect();
        if self.fault(20) && !all.is_empty() {
            return Some(all[self.rng.within(0, all.len() as u64 - 1) as usize]);
        }
        let code = &self.workers[worker].who.code;
        all.into_iter().rev().find(|at| code_of(&self.processes[*at].kind) == *code)
    }

    pub(crate) fn dial(&mut self, worker: WorkerId, life: u64) {
        if self.workers[worker].life != life || self.workers[worker].connection.is_some() {
            return;
        }
        let Some(process) = self.leader_for(worker) else {
            return self.after(HEARTBEAT_MS, Item::Dial(worker, life));
        };
        let session = Session(self.callers.len() as u64);
        self.callers.insert(session, (worker, life));
        let heard = self.now;
        self.workers[worker].connection = Some(Connection { process, session, heard, welcomed: false });
        self.after(HEARTBEAT_MS, Item::Beat(worker, session));
        if !self.fault(self.faults.lost) {
            let late = if self.fault(self.faults.lost) { 4 * LOST_AFTER_MS } else { 0 };
            let delay = self.delay() + late;
            let who = Box::new(self.workers[worker].who.clone());
            self.after(delay, Item::Hello(process, session, who));
        }
    }

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
        self.answer(session, if current { Answer::Heartbeat } else { Answer::Closed });
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
        let caller = self.callers[&session];
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
            members::Action::Welcome { session } => self.answer(session, Answer::Welcome),
            members::Action::Refuse { session, .. } => self.answer(session, Answer::Refused),
            members::Action::Replace { session, .. } => self.answer(session, Answer::Replaced),
            members::Action::Close { session, .. } => self.answer(session, Answer::Closed),
            members::Action::Deploy { session, generation, placement } => {
                // It may be lost by now.
                let ordinal = self.workers[self.callers[&session].0].who.ordinal;
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

    fn answer(&mut self, session: Session, answer: Answer) {
        let (worker, _) = self.callers[&session];
        if !self.fault(self.faults.lost) {
            let delay = self.delay();
            self.after(delay, Item::Answer(worker, session, answer));
        }
    }

    /// The process of a leader has ended: most of its connections break at once.
    pub(crate) fn hang_up(&mut self, process: Proc) {
        let sessions: Vec<Session> = self.processes[process].members.workers().map(|(session, _)| session).collect();
        for session in sessions {
            self.answer(session, Answer::Closed);
        }
    }

    pub(crate) fn is_connected(&self, worker: WorkerId, session: Session) -> bool {
        self.workers[worker].connection.as_ref().is_some_and(|connection| connection.session == session)
    }

    pub(crate) fn beat(&mut self, worker: WorkerId, session: Session) {
        let now = self.now;
        let Some(connection) = &self.workers[worker].connection else { return };
        if connection.session != session {
            return;
        }
        if now - connection.heard >= LOST_AFTER_MS {
            return self.look_again(worker);
        }
        let (process, welcomed) = (connection.process, connection.welcomed);
        if welcomed && !self.fault(self.faults.lost) {
            let delay = self.delay();
            self.after(delay, Item::Heard(process, session));
        }
        self.after(HEARTBEAT_MS, Item::Beat(worker, session));
    }

    pub(crate) fn answered_by_leader(&mut self, worker: WorkerId, session: Session, answer: Answer) {
        if !self.is_connected(worker, session) {
            return;
        }
        let now = self.now;
        match answer {
            Answer::Welcome | Answer::Heartbeat => {
                if let Some(connection) = &mut self.workers[worker].connection {
                    connection.heard = now;
                    connection.welcomed = true;
                }
            }
            Answer::Refused if self.is_stranger(worker) && self.rng.chance(70) => self.kill_worker(worker),
            Answer::Replaced => self.kill_worker(worker),
            Answer::Refused | Answer::Closed => self.look_again(worker),
        }
    }

    /// A worker without a leader ends its tasks before it looks for one.
    fn look_again(&mut self, worker: WorkerId) {
        self.disconnect(worker);
        let life = self.workers[worker].life;
        let delay = self.rng.within(5, HEARTBEAT_MS);
        self.after(delay, Item::Dial(worker, life));
    }

    pub(crate) fn disconnect(&mut self, worker: WorkerId) {
        let this = &mut self.workers[worker];
        this.of = None;
        this.tasks.clear();
        if let Some(Connection { process, session, .. }) = this.connection.take() {
            self.break_off(process, session);
        }
    }

    /// A leader's process sees that a connection is broken, or nothing at all.
    fn break_off(&mut self, process: Proc, session: Session) {
        if !self.fault(30) {
            let delay = self.rng.within(1, 60);
            let message = "it was closed".to_owned();
            self.after(delay, Item::Members(process, members::Event::Disconnected { session, message }));
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

    fn cut(&mut self, process: Proc, session: Session) {
        let delay = self.rng.within(1, 60);
        let message = "it was cut".to_owned();
        self.after(delay, Item::Members(process, members::Event::Disconnected { session, message }));
    }

    fn send(&mut self, session: Session, from: (Proc, Generation), order: Order) {
        let (worker, _) = self.callers[&session];
        if self.fault(self.faults.doubled) {
            let delay = self.delay();
            self.after(delay, Item::Order((worker, session), from, order.clone()));
        }
        let delay = self.delay();
        self.after(delay, Item::Order((worker, session), from, order));
    }

    /// A worker says that it has its tasks, or that it has none any more: that must arrive, or the connection breaks.
    pub(crate) fn confirm(&mut self, worker: WorkerId, event: members::Event) {
        let Some(connection) = &self.workers[worker].connection else { return };
        let (process, session) = (connection.process, connection.session);
        if self.fault(self.faults.lost / 2) {
            return self.cut(process, session);
        }
        let delay = self.delay();
        self.after(delay, Item::Members(process, event));
    }

    /// A worker says something to its leader.
    pub(crate) fn say(&mut self, worker: WorkerId, event: &Event) {
        let Some(connection) = &self.workers[worker].connection else { return };
        let (process, session) = (connection.process, connection.session);
        if self.fault(self.faults.lost) {
            return;
        }
        if self.fault(self.faults.doubled) {
            let delay = self.delay();
            self.after(delay, Item::Said(process, session, event.clone()));
        }
        let delay = self.delay();
        self.after(delay, Item::Said(process, session, event.clone()));
    }

    /// Whoever was refused never gets tasks.
    pub(crate) fn check_order(&mut self, worker: WorkerId, process: Proc) {
        let (who, code) = (&self.workers[worker].who, code_of(&self.processes[process].kind));
        if self.is_stranger(worker) || who.code != code {
            self.break_rule(format!("w{worker} gets tasks of p{process} although it is a stranger: {who:?}"));
        }
    }
}
