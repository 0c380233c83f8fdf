//! The world of one history: leaders in processes, workers with tasks, the store, the outside that sinks commit to, and
//! everything that goes wrong between them.

use crate::Rule;
use crate::chaos::CODES;
use crate::controller::Controller;
use crate::oracle::Ledger;
use crate::rng::Rng;
use crate::store::Store;
use crate::tasks::{Row, Sums, Task};
use std::collections::{BTreeMap, BTreeSet};
use weir_protocol::chain::Pin;
use weir_protocol::follower::{self, Connection, Follower};
use weir_protocol::leader::{Event, Leader, OpId, Outcome, Request};
use weir_protocol::members::{self, Members, Registration, Session};
use weir_protocol::snapshot::TaskSnapshot;
use weir_protocol::{CheckpointId, Generation, TaskId};

/// How often what goes wrong, in percent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) put_unknown: u64,
    pub(crate) put_late: u64,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) task_fails: u64,
    pub(crate) commit_retry: u64,
    /// Of what happens to processes: how much damages an object.
    pub(crate) damage: u64,
    /// Something happens this often, in milliseconds.
    pub(crate) chaos_every_ms: u64,
}

pub(crate) type Proc = usize;
pub(crate) type WorkerId = usize;

/// How many workers a job of one code has at most.
pub(crate) const WORKERS: u32 = 2;

/// How many of the jobs that are run by hand are deleted, in percent.
const DELETED: u64 = 15;

#[derive(Debug)]
pub(crate) enum Item {
    /// Something reaches a leader.
    Event(Proc, Event),
    Tick(Proc),
    /// The members of a leader's process hear something.
    Members(Proc, members::Event),
    MembersTick(Proc),
    /// A worker introduces itself.
    Hello(Proc, Session, Box<Registration>),
    /// A worker's heartbeat.
    Heard(Proc, Session),
    /// A worker says something that is for the leader.
    Said(Proc, Session, Event),
    /// Something reaches a worker in this life of its.
    Follower(WorkerId, u64, Box<follower::Event<Command, Said>>),
    FollowerTick(WorkerId, u64),
    /// The tasks of a worker read some rows.
    Run(WorkerId, u64, Generation),
    Upload(WorkerId, u64, Box<Uploaded>),
    Execute(Option<(Proc, OpId)>, Request, Reply),
    Commit(Proc, BTreeSet<String>),
    AbortStaged(BTreeSet<String>),
    AbortLeftovers(Generation, BTreeSet<String>),
    OriginReleased(Proc, String),
    Start(Start),
    Thaw(Proc),
    ThawWorker(WorkerId),
    ReviveWorker(WorkerId),
    Repair(String),
    /// Somebody wants the job deleted.
    Delete,
    /// What a deleted job leaves is removed.
    Remove,
    Reconcile,
    Chaos,
}

/// What a leader's process tells a worker over one of its connections, about a generation.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) session: Session,
    pub(crate) from: (Proc, Generation),
    pub(crate) order: Order,
}

/// What a worker's tasks tell its leader.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    OfTasks(Event),
    Confirmed(members::Event),
}

/// Whose a connection is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) worker: WorkerId,
    /// Of the worker's lives.
    pub(crate) life: u64,
    pub(crate) connection: Connection,
}

/// Where a worker's connection leads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connected {
    pub(crate) process: Proc,
    pub(crate) session: Session,
}

/// What a worker is to do.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    Deploy(Vec<Task>),
    Barrier(CheckpointId, bool),
    Completed(CheckpointId),
    Aborted(CheckpointId),
    Cancel,
}

/// A snapshot on its way to the store.
#[derive(Debug)]
pub(crate) struct Uploaded {
    pub(crate) generation: Generation,
    pub(crate) checkpoint: CheckpointId,
    pub(crate) snapshot: Box<TaskSnapshot>,
    pub(crate) files: Vec<(String, Sums)>,
}

/// A process that is to start.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    /// A run by hand that obeys a stop.
    Obeying,
    /// A run by hand that goes on whatever stopped the job.
    Lifting,
    /// A run by hand from nothing.
    Fresh,
    /// A run by hand from a savepoint.
    Restoring(String),
    /// A run by hand from another job's state.
    Forking,
    /// Work on a state that nobody runs, or that somebody believes nobody runs.
    Maintaining { fence: bool },
    /// The job is to be deleted.
    Deleting,
    /// A pod of this code.
    Pod { code: usize, pod: u64, attempt: u64 },
}

impl Start {
    /// Whether it only works on the state.
    pub(crate) fn maintains(&self) -> bool {
        matches!(self, Self::Maintaining { .. } | Self::Deleting)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Honest,
    None,
}

pub(crate) struct Process {
    pub(crate) leader: Leader,
    pub(crate) kind: Start,
    pub(crate) alive: bool,
    pub(crate) frozen: bool,
    pub(crate) stash: Vec<Item>,
    pub(crate) tick_at: Option<u64>,
    pub(crate) members: Members,
    pub(crate) members_tick_at: Option<u64>,
    /// The generation that is to run, and its tasks.
    pub(crate) pending: Option<(Generation, Vec<Task>)>,
}

/// A process of a worker.
pub(crate) struct Worker {
    pub(crate) who: Registration,
    pub(crate) follower: Follower<Command, Said>,
    pub(crate) tick_at: Option<u64>,
    pub(crate) connected: Option<Connected>,
    pub(crate) alive: bool,
    pub(crate) frozen: bool,
    pub(crate) stash: Vec<Item>,
    /// Counts its lives.
    pub(crate) life: u64,
    /// Who deployed the tasks, and as what.
    pub(crate) of: Option<(Proc, Generation)>,
    pub(crate) tasks: Vec<Task>,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) now: u64,
    sequence: u64,
    pub(crate) queue: BTreeMap<(u64, u64), Item>,
    pub(crate) store: Store,
    pub(crate) processes: Vec<Process>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) callers: BTreeMap<Session, Caller>,
    /// How many workers a job is run on by hand.
    pub(crate) by_hand: u32,
    /// Whose acknowledgements counted.
    pub(crate) acknowledged: BTreeMap<(Generation, TaskId), (WorkerId, u64)>,
    pub(crate) rule: Option<Rule>,
    pub(crate) staged: BTreeMap<String, Vec<Row>>,
    pub(crate) committed: BTreeSet<String>,
    pub(crate) ledger: Ledger,
    pub(crate) violation: Option<String>,
    pub(crate) finished: bool,
    pub(crate) finished_at: u64,
    /// Whose each name is, and where: as somebody was told.
    pub(crate) answered: BTreeMap<String, Pin>,
    pub(crate) released: BTreeSet<String>,
    pub(crate) retain: u32,
    pub(crate) calm_at: u64,
    pub(crate) interval_ms: u64,
    /// When somebody begins to delete the job.
    deletes_at: Option<u64>,
    /// Somebody assigns; otherwise the job is run by hand.
    pub(crate) controller: Option<Controller>,
    pub(crate) attempts: u64,
    pub(crate) log: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, rule: Option<Rule>) -> Self {
        let mut rng = Rng::new(seed);
        let hard = rng.chance(70);
        let mut up_to = |most: u64| if hard { rng.within(0, most) } else { rng.within(0, most / 4) };
        let faults = Faults {
            put_unknown: up_to(30),
            put_late: up_to(30),
            refused: up_to(10),
            lost: up_to(15),
            doubled: up_to(15),
            task_fails: up_to(3),
            commit_retry: up_to(40),
            damage: up_to(10),
            chaos_every_ms: 20 + up_to(200),
        };
        let retain = rng.within(1, 3) as u32;
        let interval_ms = rng.within(10, 60);
        let controller = rng.chance(50).then(|| Controller::new(&mut rng));
        let codes: &[&str] = if controller.is_some() { &CODES } else { &[""] };
        let places = codes.iter().flat_map(|code| (0..WORKERS).map(move |ordinal| (*code, ordinal)));
        let workers = places.map(|(code, ordinal)| Worker::new(code, ordinal, 1)).collect();
        // Drawn apart: whether a job is deleted changes no history before that.
        let mut apart = Rng::new(!seed);
        let deletes_at = (controller.is_none() && apart.chance(DELETED)).then(|| apart.within(50, 2_500));
        let by_hand = rng.within(1, u64::from(WORKERS)) as u32;
        Self {
            rng,
            faults,
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            store: Store::default(),
            processes: Vec::new(),
            workers,
            callers: BTreeMap::new(),
            by_hand,
            acknowledged: BTreeMap::new(),
            rule,
            staged: BTreeMap::new(),
            committed: BTreeSet::new(),
            ledger: Ledger::default(),
            violation: None,
            finished: false,
            finished_at: 0,
            answered: BTreeMap::new(),
            released: BTreeSet::new(),
            retain,
            calm_at: 3_000,
            interval_ms,
            deletes_at,
            controller,
            attempts: 0,
            log: None,
        }
    }

    /// Runs one history to its end. The error says what rule of the outside was broken.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.begin();
        self.after(self.faults.chaos_every_ms, Item::Chaos);
        while let Some(((at, _), item)) = self.queue.pop_first() {
            self.now = self.now.max(at);
            self.handle(item);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            // Who has not noticed by then that the job has finished only looks on.
            if self.finished && self.now > self.calm_at.max(self.finished_at) + 2_000 {
                break;
            }
            if self.is_deleted() && self.calm() && !self.processes.iter().any(|process| process.alive) {
                break;
            }
            if self.now > 200_000 {
                return Err("the job does not end although all faults have stopped".to_owned());
            }
        }
        self.check_end()
    }

    fn begin(&mut self) {
        for worker in 0..self.workers.len() {
            let delay = self.rng.within(0, 30);
            self.start_follower(worker, delay);
        }
        if let Some(at) = self.deletes_at {
            self.after(at, Item::Delete);
        }
        if self.controller.is_some() {
            return self.after(0, Item::Reconcile);
        }
        let start = if self.rng.chance(20) { Start::Forking } else { Start::Lifting };
        if matches!(start, Start::Forking) {
            self.store.put_origin(&mut self.rng);
        }
        self.after(0, Item::Start(start));
    }

    pub(crate) fn after(&mut self, delay_ms: u64, item: Item) {
        self.sequence += 1;
        self.queue.insert((self.now + delay_ms, self.sequence), item);
    }

    pub(crate) fn calm(&self) -> bool {
        self.now >= self.calm_at
    }

    pub(crate) fn fault(&mut self, percent: u64) -> bool {
        !self.calm() && self.rng.chance(percent)
    }

    pub(crate) fn delay(&mut self) -> u64 {
        match self.rng.chance(90) {
            true => self.rng.within(0, 4),
            false => self.rng.within(5, 60),
        }
    }

    pub(crate) fn break_rule(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub(crate) fn trace(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>6} {}", self.now, what()));
        }
    }

    /// Something is told over the network, to a leader.
    pub(crate) fn message(&mut self, process: Proc, event: Event) {
        if self.fault(self.faults.lost) {
            return;
        }
        if self.fault(self.faults.doubled) {
            let delay = self.delay();
            self.after(delay, Item::Event(process, event.clone()));
        }
        let delay = self.delay();
        self.after(delay, Item::Event(process, event));
    }

    fn handle(&mut self, item: Item) {
        if let Some(item) = self.not_stashed(item) {
            self.take(item);
        }
    }

    /// What is for a dead one is lost, what is for a frozen one waits.
    fn not_stashed(&mut self, item: Item) -> Option<Item> {
        let process = match &item {
            Item::Event(process, _) | Item::Tick(process) | Item::Members(process, _) => Some(*process),
            Item::MembersTick(process) | Item::Hello(process, ..) | Item::Heard(process, _) => Some(*process),
            Item::Said(process, ..) => Some(*process),
            _ => None,
        };
        let worker = match &item {
            Item::Follower(worker, ..) | Item::FollowerTick(worker, _) => Some(*worker),
            Item::Run(worker, ..) | Item::Upload(worker, ..) => Some(*worker),
            _ => None,
        };
        let (alive, frozen, stash) = match (process, worker) {
            (Some(process), _) => {
                let process = &mut self.processes[process];
                (process.alive, process.frozen, &mut process.stash)
            }
            (_, Some(worker)) => {
                let worker = &mut self.workers[worker];
                (worker.alive, worker.frozen, &mut worker.stash)
            }
            _ => return Some(item),
        };
        if alive && frozen {
            stash.push(item);
            return None;
        }
        alive.then_some(item)
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Event(process, event) => self.step(process, event),
            Item::Tick(process) => {
                if self.processes[process].tick_at.take_if(|at| *at <= self.now).is_some() {
                    self.step(process, Event::Tick);
                }
            }
            Item::Members(process, event) => self.step_members(process, event),
            Item::MembersTick(process) => {
                if self.processes[process].members_tick_at.take_if(|at| *at <= self.now).is_some() {
                    self.step_members(process, members::Event::Tick);
                }
            }
            Item::Hello(process, session, who) => self.hello(process, session, &who),
            Item::Heard(process, session) => self.heard(process, session),
            Item::Said(process, session, event) => self.said(process, session, event),
            Item::Follower(worker, life, event) => self.step_follower(worker, life, *event),
            Item::FollowerTick(worker, life) => {
                let this = &mut self.workers[worker];
                if this.life == life && this.tick_at.take_if(|at| *at <= self.now).is_some() {
                    self.step_follower(worker, life, follower::Event::Tick);
                }
            }
            Item::Run(worker, life, generation) => self.run_tasks(worker, life, generation),
            Item::Upload(worker, life, uploaded) if self.workers[worker].life == life => {
                self.uploaded(worker, *uploaded);
            }
            Item::Upload(..) => {}
            Item::Execute(reply_to, request, reply) => self.execute(reply_to, &request, reply),
            Item::Commit(process, ids) => self.commit(process, ids),
            Item::AbortStaged(ids) => self.staged.retain(|id, _| !ids.contains(id)),
            Item::AbortLeftovers(before, keep) => {
                self.staged.retain(|id, _| generation_of(id) >= before || keep.contains(id));
            }
            Item::OriginReleased(process, pin) => {
                self.store.origin = None;
                self.message(process, Event::PinReleased { pin });
            }
            Item::Start(start) => self.start(&start),
            Item::Thaw(process) => self.thaw(process),
            Item::ThawWorker(worker) => self.thaw_worker(worker),
            Item::ReviveWorker(worker) => self.revive_worker(worker),
            Item::Repair(name) => self.store.repair(&name),
            Item::Delete => self.delete(),
            Item::Remove => self.store.remove_all(),
            Item::Reconcile => self.reconcile(),
            Item::Chaos => self.chaos(),
        }
    }

    fn execute(&mut self, reply_to: Option<(Proc, OpId)>, request: &Request, reply: Reply) {
        let before = self.head_number();
        let outcome = self.store.execute(request);
        if let (Request::PutIfAbsent { key, .. }, Outcome::Done) = (request, &outcome) {
            self.check_put(key, before);
        }
        if let (Some((process, op)), Reply::Honest) = (reply_to, reply) {
            let back = self.delay();
            self.after(back, Item::Event(process, Event::Stored { op, outcome }));
        }
    }
}

/// The generation whose tasks made a committable.
pub(crate) fn generation_of(id: &str) -> Generation {
    Generation(id.split('-').next().and_then(|digits| digits.parse().ok()).expect("our own ids"))
}
