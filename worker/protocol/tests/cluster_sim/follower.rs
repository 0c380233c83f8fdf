//! Workers look for their leader, introduce themselves, send heartbeats and end their tasks when they miss it, as their
//! side of the protocol decides.

use crate::chaos::plan;
use crate::registration::code_of;
use crate::world::{Caller, Command, Connected, Item, Proc, Said, Worker, WorkerId, World};
use weir_protocol::Now;
use weir_protocol::follower::{Action, AfterRefusal, Connection, Event, Follower, Options};
use weir_protocol::leader;
use weir_protocol::members::{self, Registration, Session};
use weir_protocol::retry::Pace;

pub(crate) const HEARTBEAT_MS: u64 = 50;
pub(crate) const MISSED_HEARTBEATS: u32 = 3;
const LOST_AFTER_MS: u64 = HEARTBEAT_MS * MISSED_HEARTBEATS as u64;

fn follower(seed: u64, after_refusal: AfterRefusal) -> Follower<Command, Said> {
    Follower::new(Options {
        heartbeat_ms: HEARTBEAT_MS,
        lost_after_ms: LOST_AFTER_MS,
        connect_ms: LOST_AFTER_MS,
        welcome_ms: LOST_AFTER_MS,
        pace: Pace { initial_ms: 5, max_ms: HEARTBEAT_MS, multiplier: 1.5, jitter: 0.5 },
        seed,
        after_refusal,
    })
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
            follower: follower(attempt, AfterRefusal::LookAgain),
            tick_at: None,
            connected: None,
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
        if self.rng.chance(70) {
            stranger.follower = follower(stranger.who.attempt, AfterRefusal::End);
        }
        self.join(stranger);
    }

    fn join(&mut self, worker: Worker) {
        let at = self.workers.len();
        self.trace(|| format!("w{at} comes: {:?}", worker.who));
        self.workers.push(worker);
        let delay = self.rng.within(0, 30);
        self.start_follower(at, delay);
    }

    pub(crate) fn is_stranger(&self, worker: WorkerId) -> bool {
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
        this.follower = follower(attempt + life, AfterRefusal::LookAgain);
        self.trace(|| format!("w{worker} is back as attempt {attempt}"));
        self.start_follower(worker, 0);
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

    pub(crate) fn start_follower(&mut self, worker: WorkerId, delay_ms: u64) {
        let this = &mut self.workers[worker];
        this.tick_at = Some(self.now + delay_ms);
        let life = this.life;
        self.after(delay_ms, Item::FollowerTick(worker, life));
    }

    /// Something reaches what a worker is in this life.
    pub(crate) fn step_follower(&mut self, worker: WorkerId, life: u64, event: Event<Command, Said>) {
        let this = &mut self.workers[worker];
        if this.life != life {
            return;
        }
        if matches!(event, Event::TasksEnded) {
            this.of = None;
            this.tasks.clear();
        }
        for action in self.workers[worker].follower.step(Now(self.now), event) {
            self.perform_for_follower(worker, action);
        }
        let this = &mut self.workers[worker];
        if let Some(at) = this.follower.deadline().map(|at| at.0.max(self.now))
            && this.life == life
            && this.tick_at.is_none_or(|planned| at < planned)
        {
            this.tick_at = Some(at);
            self.after(at - self.now, Item::FollowerTick(worker, life));
        }
    }

    fn perform_for_follower(&mut self, worker: WorkerId, action: Action<Command, Said>) {
        match action {
            Action::Dial(connection) => self.dial(worker, connection),
            Action::Register(_) => self.introduce(worker),
            Action::Beat(_) => {
                if let Some(Connected { process, session }) = self.workers[worker].connected
                    && !self.fault(self.faults.lost)
                {
                    let delay = self.delay();
                    self.after(delay, Item::Heard(process, session));
                }
            }
            Action::Perform(command) => self.order(worker, command),
            Action::Say(_, Said::OfTasks(event)) => self.say(worker, &event),
            Action::Say(_, Said::Confirmed(event)) => self.confirm(worker, event),
            Action::HangUp(_) => self.disconnect(worker),
            Action::EndTasks => {
                let life = self.workers[worker].life;
                let delay = self.rng.within(0, HEARTBEAT_MS);
                self.after(delay, Item::Follower(worker, life, Box::new(Event::TasksEnded)));
            }
            Action::TellRegistered => {}
            Action::TellAway { message } => self.trace(|| format!("w{worker}: {message}")),
            Action::End(outcome) => {
                self.trace(|| format!("w{worker} ends: {outcome:?}"));
                self.kill_worker(worker);
            }
        }
    }

    fn dial(&mut self, worker: WorkerId, connection: Connection) {
        let life = self.workers[worker].life;
        let event = match self.leader_for(worker) {
            Some(process) => {
                let session = Session(self.callers.len() as u64);
                self.callers.insert(session, Caller { worker, life, connection });
                self.workers[worker].connected = Some(Connected { process, session });
                Event::Connected(connection)
            }
            None => Event::Lost { connection, message: "nobody leads".to_owned() },
        };
        self.after(0, Item::Follower(worker, life, Box::new(event)));
    }

    fn introduce(&mut self, worker: WorkerId) {
        let Some(Connected { process, session }) = self.workers[worker].connected else { return };
        if !self.workers[worker].tasks.is_empty() {
            self.break_rule(format!("w{worker} registers while its tasks run"));
        }
        if !self.fault(self.faults.lost) {
            let late = if self.fault(self.faults.lost) { 4 * LOST_AFTER_MS } else { 0 };
            let delay = self.delay() + late;
            let who = Box::new(self.workers[worker].who.clone());
            self.after(delay, Item::Hello(process, session, who));
        }
    }

    /// The connection ends. The leader's process sees that, or nothing at all.
    pub(crate) fn disconnect(&mut self, worker: WorkerId) {
        let Some(Connected { process, session }) = self.workers[worker].connected.take() else { return };
        if !self.fault(30) {
            let delay = self.rng.within(1, 60);
            let message = "it was closed".to_owned();
            self.after(delay, Item::Members(process, members::Event::Disconnected { session, message }));
        }
    }

    /// What the tasks of a worker have to say.
    pub(crate) fn report(&mut self, worker: WorkerId, said: Said) {
        let life = self.workers[worker].life;
        self.step_follower(worker, life, Event::Report(said));
    }

    /// A worker says that it has its tasks, or that it has none any more: that must arrive, or the connection breaks.
    fn confirm(&mut self, worker: WorkerId, event: members::Event) {
        let Some(Connected { process, session }) = self.workers[worker].connected else { return };
        if self.fault(self.faults.lost / 2) {
            return self.cut(process, session);
        }
        let delay = self.delay();
        self.after(delay, Item::Members(process, event));
    }

    /// A worker says something to its leader.
    fn say(&mut self, worker: WorkerId, event: &leader::Event) {
        let Some(Connected { process, session }) = self.workers[worker].connected else { return };
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
}
