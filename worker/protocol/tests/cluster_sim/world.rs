//! The world of one history: processes with a leader and its tasks, the store, the outside that sinks commit to, and
//! everything that goes wrong between them.

use crate::rng::Rng;
use crate::store::Store;
use crate::tasks::{self, Row, Task};
use std::collections::{BTreeMap, BTreeSet};
use weir_protocol::leader::{
    Action, BarrierKind, CommitResult, DeclineCause, End, ErrorKind, Event, Leader, Notice, OpId, Outcome, Request,
    Rule, Stops,
};
use weir_protocol::snapshot::TaskSnapshot;
use weir_protocol::{CheckpointId, Generation, LinkNumber, Now};

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
    /// Something happens to a process this often, in milliseconds.
    pub(crate) chaos_every_ms: u64,
}

pub(crate) type Proc = usize;

#[derive(Debug)]
pub(crate) enum Item {
    Event(Proc, Event),
    Tick(Proc),
    Run(Proc, Generation),
    Execute(Option<(Proc, OpId)>, Request, Reply),
    Barrier(Proc, Generation, CheckpointId, bool, u32),
    Upload(Proc, Generation, CheckpointId, Box<TaskSnapshot>, Option<(String, tasks::Sums)>),
    Completed(Proc, Generation, CheckpointId, u32),
    Aborted(Proc, Generation, CheckpointId),
    Commit(Proc, BTreeSet<String>),
    AbortStaged(BTreeSet<String>),
    AbortLeftovers(Generation, BTreeSet<String>),
    Start(Stops),
    Thaw(Proc),
    Chaos,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Honest,
    None,
}

pub(crate) struct Process {
    pub(crate) leader: Leader,
    pub(crate) alive: bool,
    pub(crate) frozen: bool,
    pub(crate) stash: Vec<Item>,
    pub(crate) tick_at: Option<u64>,
    pub(crate) generation: Option<Generation>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) stops: Stops,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) now: u64,
    pub(crate) sequence: u64,
    pub(crate) queue: BTreeMap<(u64, u64), Item>,
    pub(crate) store: Store,
    pub(crate) processes: Vec<Process>,
    pub(crate) rule: Option<Rule>,
    pub(crate) staged: BTreeMap<String, Vec<Row>>,
    pub(crate) committed: BTreeSet<String>,
    pub(crate) counts: BTreeMap<Row, u32>,
    pub(crate) violation: Option<String>,
    pub(crate) finished: bool,
    pub(crate) answered: BTreeMap<String, LinkNumber>,
    pub(crate) released: BTreeSet<String>,
    pub(crate) retain: u32,
    pub(crate) calm_at: u64,
    pub(crate) interval_ms: u64,
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
            chaos_every_ms: 20 + up_to(200),
        };
        let retain = rng.within(1, 3) as u32;
        let interval_ms = rng.within(10, 60);
        Self {
            rng,
            faults,
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            store: Store::default(),
            processes: Vec::new(),
            rule,
            staged: BTreeMap::new(),
            committed: BTreeSet::new(),
            counts: BTreeMap::new(),
            violation: None,
            finished: false,
            answered: BTreeMap::new(),
            released: BTreeSet::new(),
            retain,
            calm_at: 3_000,
            interval_ms,
            log: None,
        }
    }

    /// Runs one history to its end. The error says what rule of the outside was broken.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.after(0, Item::Start(Stops::Lift));
        self.after(self.faults.chaos_every_ms, Item::Chaos);
        while let Some(((at, _), item)) = self.queue.pop_first() {
            self.now = self.now.max(at);
            self.handle(item);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            if self.now > 2_000_000 {
                return Err("the job does not end although all faults have stopped".to_owned());
            }
        }
        self.check_end()
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

    pub(crate) fn handle(&mut self, item: Item) {
        let owner = match &item {
            Item::Event(process, _) | Item::Tick(process) | Item::Run(process, _) => Some(*process),
            Item::Barrier(process, ..) | Item::Upload(process, ..) | Item::Completed(process, ..) => Some(*process),
            Item::Aborted(process, ..) => Some(*process),
            _ => None,
        };
        if let Some(process) = owner.map(|process| &mut self.processes[process]) {
            if !process.alive {
                return;
            }
            if process.frozen {
                process.stash.push(item);
                return;
            }
        }
        match item {
            Item::Event(process, event) => self.step(process, event),
            Item::Tick(process) => {
                self.processes[process].tick_at = None;
                self.step(process, Event::Tick);
            }
            Item::Run(process, generation) => self.run_tasks(process, generation),
            Item::Execute(reply_to, request, reply) => self.execute(reply_to, &request, reply),
            Item::Barrier(process, generation, checkpoint, stop, subtask) => {
                self.barrier(process, generation, (checkpoint, stop), subtask);
            }
            Item::Upload(process, generation, checkpoint, snapshot, file) => {
                self.store.files.extend(file);
                self.message(process, Event::Acked { generation, checkpoint, snapshot });
            }
            Item::Completed(process, generation, checkpoint, subtask) => {
                if let Some(task) = self.task(process, generation, subtask) {
                    task.completed(checkpoint);
                }
            }
            Item::Aborted(process, generation, checkpoint) => {
                let process = &mut self.processes[process];
                if process.generation == Some(generation) {
                    process.tasks.iter_mut().for_each(|task| task.aborted(checkpoint));
                }
            }
            Item::Commit(process, ids) => self.commit(process, ids),
            Item::AbortStaged(ids) => self.staged.retain(|id, _| !ids.contains(id)),
            Item::AbortLeftovers(before, keep) => self.staged.retain(|id, _| {
                let generation: u64 = id.split('-').next().and_then(|digits| digits.parse().ok()).expect("our own ids");
                generation >= before.0 || keep.contains(id)
            }),
            Item::Start(stops) => self.start(stops),
            Item::Thaw(process) => self.thaw(process),
            Item::Chaos => self.chaos(),
        }
    }

    pub(crate) fn task(&mut self, process: Proc, generation: Generation, subtask: u32) -> Option<&mut Task> {
        let process = &mut self.processes[process];
        (process.generation == Some(generation)).then_some(())?;
        process.tasks.iter_mut().find(|task| task.id.subtask == subtask)
    }

    /// Something is told to a leader or a task over the network.
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

    pub(crate) fn step(&mut self, process: Proc, event: Event) {
        let now = Now(self.now);
        self.trace(|| format!("p{process} <- {}", short(&event)));
        let actions = self.processes[process].leader.step(now, event);
        for action in actions {
            self.trace(|| format!("p{process} -> {}", short(&action)));
            self.perform(process, action);
        }
        let deadline = self.processes[process].leader.deadline().map(|at| at.0.max(self.now));
        let planned = &mut self.processes[process].tick_at;
        if let Some(at) = deadline
            && planned.is_none_or(|planned| at < planned)
        {
            *planned = Some(at);
            self.after(at - self.now, Item::Tick(process));
        }
    }

    pub(crate) fn perform(&mut self, process: Proc, action: Action) {
        match action {
            Action::Store { op, request } => self.request(process, op, request),
            Action::Deploy { generation, start, restore } => {
                self.check_deploy(process, generation, start.number);
                let stored = |path: &str| self.store.files.get(path).cloned();
                match tasks::deploy(&start, restore.as_deref(), &stored) {
                    Ok(tasks) => {
                        let ids: BTreeSet<_> = tasks.iter().map(|task| task.id).collect();
                        self.processes[process].tasks = tasks;
                        self.processes[process].generation = Some(generation);
                        let deployed = Event::Deployed { generation, tasks: ids.clone(), sources: ids };
                        let delay = self.delay();
                        self.after(delay, Item::Event(process, deployed));
                        self.after(delay + 1, Item::Run(process, generation));
                    }
                    // A later generation may have deleted what this one still believes in.
                    Err(message) if self.newest_generation() > generation => {
                        let kind = ErrorKind::Corrupt;
                        self.after(1, Item::Event(process, Event::DeployFailed { generation, kind, message }));
                    }
                    Err(message) => self.break_rule(format!("generation {generation} cannot restore: {message}")),
                }
            }
            Action::Cancel { generation } => {
                self.processes[process].tasks.clear();
                let delay = self.delay();
                self.after(delay, Item::Event(process, Event::Cancelled { generation }));
            }
            Action::InjectBarrier { generation, checkpoint, kind } => {
                let stop = matches!(kind, BarrierKind::Stop | BarrierKind::Final);
                self.tell_tasks(process, self.faults.lost, |subtask| {
                    Item::Barrier(process, generation, checkpoint, stop, subtask)
                });
            }
            Action::NotifyAborted { generation, checkpoint } => {
                let delay = self.delay();
                self.after(delay, Item::Aborted(process, generation, checkpoint));
            }
            Action::NotifyCompleted { generation, checkpoint, .. } => {
                let lost = 4 * self.faults.lost;
                self.tell_tasks(process, lost, |subtask| Item::Completed(process, generation, checkpoint, subtask));
            }
            Action::Commit { committables, .. } => {
                let ids = committables.into_values().flat_map(BTreeMap::into_keys).collect();
                let delay = self.delay();
                self.after(delay, Item::Commit(process, ids));
            }
            Action::AbortLeftovers { before, keep, .. } => {
                let delay = self.delay();
                self.after(delay, Item::AbortLeftovers(before, keep));
            }
            Action::AbortCommittables { ids } => {
                let delay = self.delay();
                self.after(delay, Item::AbortStaged(ids));
            }
            Action::Gather { .. } | Action::Prepare { .. } | Action::ReleasePin { .. } => {}
            Action::Report(notice) => self.notice(notice),
            Action::End(end) => self.end(process, end),
        }
    }

    /// What is stopped must not run, as far as a leader can know: one that has been overtaken cannot.
    pub(crate) fn check_deploy(&mut self, process: Proc, generation: Generation, start: LinkNumber) {
        if self.newest_generation() != generation {
            return;
        }
        let behind = self.link(LinkNumber(start.0 - 1));
        if self.processes[process].stops == Stops::Obey && behind.is_some_and(|link| link.stop().is_some()) {
            self.break_rule(format!("generation {generation} runs although the job is suspended"));
        }
        if self.finished {
            self.break_rule(format!("generation {generation} runs although the job is finished"));
        }
    }

    pub(crate) fn tell_tasks(&mut self, process: Proc, lost: u64, item: impl Fn(u32) -> Item) {
        for subtask in 0..self.processes[process].tasks.len() as u32 {
            if !self.fault(lost) {
                let delay = self.delay();
                self.after(delay, item(subtask));
            }
        }
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::SavepointCompleted { name, link, .. } => {
                // A request that comes again after the release is a new one.
                let before = self.answered.insert(name.clone(), link);
                if before.is_some_and(|before| before != link) && !self.released.contains(&name) {
                    self.break_rule(format!("savepoint {name} was taken twice"));
                }
            }
            Notice::SavepointReleased { name } => {
                self.released.insert(name);
            }
            _ => {}
        }
    }

    pub(crate) fn end(&mut self, process: Proc, end: End) {
        self.processes[process].alive = false;
        match end {
            End::Finished { .. } => self.finished = true,
            End::Stopped { .. } => {
                let delay = self.rng.within(1, 100);
                // What watches the pods starts the same again; a user lifts the stop later.
                if self.rng.chance(50) {
                    self.after(delay, Item::Start(Stops::Obey));
                }
                self.after(delay + 50, Item::Start(Stops::Lift));
            }
            End::Fenced { .. } => self.start_later(),
            End::Maintained => self.break_rule("nobody asked for maintenance".to_owned()),
            End::HandedOver { .. } | End::Stalled { .. } => self.break_rule("nothing was assigned".to_owned()),
            End::Failed { message, .. } => self.break_rule(format!("the job failed: {message}")),
        }
    }

    pub(crate) fn request(&mut self, process: Proc, op: OpId, request: Request) {
        let (to_store, back) = (self.delay(), self.delay());
        let put = matches!(request, Request::PutIfAbsent { .. });
        let transient = Outcome::Failed { kind: ErrorKind::Transient, message: "refused".to_owned() };
        if self.fault(self.faults.refused) {
            self.after(to_store + back, Item::Event(process, Event::Stored { op, outcome: transient }));
        } else if put && self.fault(self.faults.put_unknown) {
            let unknown = Outcome::Unknown { message: "timed out".to_owned() };
            let answer = Event::Stored { op, outcome: unknown };
            self.after(to_store + back, Item::Event(process, answer));
            if self.rng.chance(60) {
                let late = if self.fault(self.faults.put_late) { self.rng.within(50, 1_500) } else { 0 };
                self.after(to_store + late, Item::Execute(None, request, Reply::None));
            }
        } else {
            let late = if put && self.fault(self.faults.put_late) { self.rng.within(20, 400) } else { 0 };
            self.after(to_store + late, Item::Execute(Some((process, op)), request, Reply::Honest));
        }
    }

    pub(crate) fn execute(&mut self, reply_to: Option<(Proc, OpId)>, request: &Request, reply: Reply) {
        let outcome = self.store.execute(request);
        if let (Some((process, op)), Reply::Honest) = (reply_to, reply) {
            let back = self.delay();
            self.after(back, Item::Event(process, Event::Stored { op, outcome }));
        }
    }

    pub(crate) fn run_tasks(&mut self, process: Proc, generation: Generation) {
        let this = &mut self.processes[process];
        if this.generation != Some(generation) || this.tasks.is_empty() {
            return;
        }
        let ended: Vec<_> =
            this.tasks.iter_mut().filter_map(|task| task.run(&mut self.rng).then_some(task.id)).collect();
        for task in ended {
            self.after(1, Item::Event(process, Event::SourceEnded { generation, task }));
        }
        if self.fault(self.faults.task_fails) {
            let task = self.processes[process].tasks[0].id;
            let (kind, message) = (ErrorKind::Transient, "chance".to_owned());
            self.after(1, Item::Event(process, Event::TaskFailed { generation, task, kind, message }));
        }
        let pause = self.rng.within(2, 40);
        self.after(pause, Item::Run(process, generation));
    }

    pub(crate) fn barrier(
        &mut self,
        process: Proc,
        generation: Generation,
        (checkpoint, stop): (CheckpointId, bool),
        subtask: u32,
    ) {
        let mut rng = self.rng.clone();
        let taken = self.task(process, generation, subtask).and_then(|task| task.barrier(checkpoint, stop, &mut rng));
        self.rng = rng;
        let Some(taken) = taken else { return };
        self.staged.extend(taken.staged);
        if self.fault(self.faults.lost) {
            let task = taken.snapshot.task;
            let (cause, message) = (DeclineCause::Task, "chance".to_owned());
            // The file is there all the same: what is pending goes into the next checkpoint.
            self.store.files.extend(taken.file);
            return self.message(process, Event::Declined { generation, checkpoint, task, cause, message });
        }
        let delay = self.delay();
        self.after(delay, Item::Upload(process, generation, checkpoint, Box::new(taken.snapshot), taken.file));
    }

    pub(crate) fn commit(&mut self, process: Proc, ids: BTreeSet<String>) {
        let mut results = BTreeMap::new();
        for id in ids {
            if self.fault(self.faults.commit_retry) {
                results.insert(id, CommitResult::Retry { message: "chance".to_owned() });
                continue;
            }
            if self.committed.insert(id.clone()) {
                let Some(rows) = self.staged.get(&id) else {
                    return self.break_rule(format!("committable {id} was aborted and is lost"));
                };
                for row in rows.clone() {
                    let count = self.counts.entry(row).or_default();
                    *count += 1;
                    if *count > 1 {
                        return self.break_rule(format!("row {row:?} is repeated by {id}"));
                    }
                }
            }
            results.insert(id, CommitResult::Done);
        }
        let delay = self.delay();
        if !self.fault(self.faults.lost) {
            self.after(delay, Item::Event(process, Event::Committed { results }));
        }
    }
}

fn short(what: &impl std::fmt::Debug) -> String {
    let mut text = format!("{what:?}");
    text.truncate(220);
    text
}
