//! Processes start, die, freeze and thaw, objects are damaged, and users ask for things.

use crate::Rule;
use crate::registration::members_options;
use crate::tasks::{EXTRA_CODE, SPLITS, channel, extra, sink, source, sum};
use crate::world::{Item, Proc, Process, Start, WorkerId, World};
use weir_protocol::chain::{Claimant, OperatorPlan, Plan};
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::leader::{
    CheckpointOptions, Direction, Event, Guide, Leader, Mode, Operation, Options, Resume, Running, Stops, Then,
};
use weir_protocol::members::Members;
use weir_protocol::restart::Strategy;

/// The codes that may be assigned.
pub(crate) const CODES: [&str; 2] = ["plain", EXTRA_CODE];

impl World {
    pub(crate) fn start_later(&mut self) {
        if self.controller.is_some() {
            return;
        }
        let delay = self.rng.within(5, 80);
        let start = if self.rng.chance(50) { Start::Obeying } else { Start::Lifting };
        self.after(delay, Item::Start(start));
    }

    pub(crate) fn somebody_runs(&self) -> bool {
        self.processes.iter().any(|process| process.alive && !process.frozen)
    }

    /// A process starts, unless one runs that everybody sees: a frozen one looks dead, and now and then somebody is
    /// mistaken.
    pub(crate) fn start(&mut self, kind: &Start) {
        let mistaken = self.fault(10);
        let by_hand = !matches!(kind, Start::Pod { .. });
        if self.finished || (by_hand && self.somebody_runs() && !mistaken) {
            return;
        }
        if matches!(kind, Start::Forking) && self.store.origin.is_none() {
            return;
        }
        let index = self.processes.len();
        let options = self.options(index, kind);
        let members = members_options(&options.direction.code);
        self.processes.push(Process {
            leader: match self.rule {
                Some(Rule::Leader(rule)) => Leader::without(rule),
                _ => Leader::new(),
            },
            members: match self.rule {
                Some(Rule::Members(rule)) => Members::without(rule, members),
                _ => Members::new(members),
            },
            members_tick_at: None,
            pending: None,
            kind: kind.clone(),
            alive: true,
            frozen: false,
            stash: Vec::new(),
            tick_at: None,
        });
        self.trace(|| format!("p{index} starts: {kind:?}"));
        self.step(index, Event::Begin(Box::new(options)));
    }

    fn options(&mut self, index: Proc, kind: &Start) -> Options {
        let mut direction = Direction::default();
        let mut claimant = Claimant { revision: 0, attempt: 0, pod: "local".to_owned() };
        if let Start::Pod { code, pod, attempt } = kind {
            let code = CODES[*code].to_owned();
            direction = Direction { guide: Guide::Assignments, code, workers: 1, prepare_limit_ms: 50 };
            claimant = Claimant { revision: 0, attempt: *attempt, pod: format!("pod {pod}") };
        }
        if kind.maintains() && self.controller.is_some() {
            self.attempts += 1;
            claimant.attempt = self.attempts;
        }
        Options {
            job: "job".to_owned(),
            claimant,
            incarnation: format!("p{index}"),
            unix_ms: self.now,
            parallelism: self.rng.within(1, 3) as u32,
            plan: plan(&direction.code),
            direction,
            max_parallelism: MaxParallelism::new(u32::from(SPLITS)).expect("a few key groups"),
            mode: self.mode(kind),
            restored_from: None,
            checkpoint: CheckpointOptions {
                interval_ms: Some(self.interval_ms),
                min_pause_ms: 0,
                timeout_ms: 300,
                unaligned_after_ms: None,
                tolerable_failures: 2,
                retain: self.retain,
            },
            restart: Strategy::FixedDelay { attempts: u32::MAX, delay_ms: 10 },
            watch_ms: 50,
        }
    }

    fn mode(&mut self, kind: &Start) -> Mode {
        let (resume, stops) = match kind {
            Start::Obeying | Start::Pod { .. } => (Resume::Head, Stops::Obey),
            Start::Lifting => (Resume::Head, Stops::Lift),
            Start::Fresh => (Resume::Empty, Stops::Lift),
            Start::Restoring(name) => (Resume::Savepoint(name.clone()), Stops::Lift),
            Start::Forking => {
                let (manifest, _) = self.store.origin.as_ref().expect("it was looked at before");
                let (location, pin) = ("origin".to_owned(), Some("pin".to_owned()));
                (Resume::Foreign { location, manifest: manifest.clone(), pin }, Stops::Lift)
            }
            Start::Maintaining { fence } => {
                let running = if *fence { Running::Fence } else { Running::Refuse };
                return Mode::Maintain { operations: self.operations(), running };
            }
            Start::Deleting => {
                return Mode::Maintain { operations: vec![Operation::DeleteJob], running: Running::Fence };
            }
        };
        Mode::Run { resume, stops }
    }

    fn operations(&mut self) -> Vec<Operation> {
        let name = format!("s{}", self.rng.within(0, 3));
        if self.rng.chance(30) && self.answered.contains_key(&name) {
            self.released.insert(name.clone());
            return vec![Operation::DeleteSavepoint { name }];
        }
        match self.released.contains(&name) {
            true => Vec::new(),
            false => vec![Operation::CreateSavepoint { uid: self.request_uid(&name), name }],
        }
    }

    /// A process stands still: everybody believes that it is dead.
    pub(crate) fn freeze(&mut self, process: Proc, thaw_ms: u64) {
        self.trace(|| format!("p{process} freezes"));
        self.processes[process].frozen = true;
        self.start_later();
        self.after(thaw_ms, Item::Thaw(process));
    }

    pub(crate) fn thaw(&mut self, process: Proc) {
        let this = &mut self.processes[process];
        this.frozen = false;
        for item in std::mem::take(&mut this.stash) {
            let delay = self.rng.within(0, 3);
            self.after(delay, item);
        }
    }

    /// Something happens to a process that runs, or to what it needs.
    pub(crate) fn chaos(&mut self) {
        if self.calm() {
            return self.calm_down();
        }
        let pause = self.rng.within(1, 2 * self.faults.chaos_every_ms);
        self.after(pause, Item::Chaos);
        if self.fault(self.faults.damage) {
            return self.damage();
        }
        if self.rng.chance(20) {
            return self.strike_worker();
        }
        let running: Vec<Proc> =
            (0..self.processes.len()).filter(|at| self.processes[*at].alive && !self.processes[*at].frozen).collect();
        if running.is_empty() {
            return self.nobody_runs();
        }
        let process = running[self.rng.within(0, running.len() as u64 - 1) as usize];
        match self.rng.within(0, 12) {
            0 | 1 => {
                self.trace(|| format!("p{process} dies"));
                self.processes[process].alive = false;
                self.hang_up(process);
                self.start_later();
            }
            2 | 3 => {
                let thaw = self.rng.within(1, 600);
                self.freeze(process, thaw);
            }
            4 => self.after(0, Item::Event(process, Event::StopRequested)),
            5 | 6 => self.ask_for_savepoint(process),
            7 => self.release_savepoint(process),
            8 => {
                let name = format!("s{}", self.rng.within(0, 3));
                let uid = self.request_uid(&name);
                self.message(process, Event::SavepointWithdrawn { uid, name });
            }
            9 => self.message(process, Event::DrainRequested),
            // Somebody is mistaken about what runs.
            10 if self.rng.chance(20) => self.after(0, Item::Start(Start::Maintaining { fence: true })),
            11 if self.controller.is_none() => self.start_later(),
            _ => {}
        }
    }

    fn ask_for_savepoint(&mut self, process: Proc) {
        let name = format!("s{}", self.rng.within(0, 3));
        let then = if self.rng.chance(20) { Then::Stop } else { Then::Continue };
        if !self.released.contains(&name) {
            let uid = self.request_uid(&name);
            self.message(process, Event::SavepointRequested { uid, name, then });
        }
    }

    /// Now and then somebody else chooses the same name.
    fn request_uid(&mut self, name: &str) -> String {
        let who = if self.rng.chance(20) { "another" } else { "one" };
        format!("{who} {name}")
    }

    fn release_savepoint(&mut self, process: Proc) {
        let name = format!("s{}", self.rng.within(0, 3));
        if self.answered.contains_key(&name) && self.rng.chance(30) {
            self.released.insert(name.clone());
            self.message(process, Event::SavepointReleased { name });
        }
    }

    fn nobody_runs(&mut self) {
        if self.rng.chance(30) {
            let fence = self.rng.chance(30);
            return self.after(1, Item::Start(Start::Maintaining { fence }));
        }
        if self.controller.is_some() {
            return;
        }
        let start = match self.rng.within(0, 9) {
            0 => Start::Fresh,
            1 | 2 => match self.savepoint_that_stands() {
                Some(name) => Start::Restoring(name),
                None => Start::Lifting,
            },
            _ => Start::Lifting,
        };
        self.after(1, Item::Start(start));
    }

    /// A savepoint that nobody has given up, or has tried to.
    pub(crate) fn savepoint_that_stands(&mut self) -> Option<String> {
        let names: Vec<String> = self.answered.keys().filter(|name| !self.released.contains(*name)).cloned().collect();
        let at = self.rng.within(0, names.len().max(1) as u64 - 1) as usize;
        names.into_iter().nth(at)
    }

    /// Somebody ends all that they see of the job, and deletes it, until the mark stands.
    pub(crate) fn delete(&mut self) {
        if self.is_deleted() {
            return self.remove_later();
        }
        if self.finished {
            return;
        }
        for process in 0..self.processes.len() {
            if self.processes[process].alive && !self.processes[process].frozen {
                self.trace(|| format!("p{process} is ended: the job is to be deleted"));
                self.processes[process].alive = false;
                self.hang_up(process);
            }
        }
        self.start(&Start::Deleting);
        let again = self.rng.within(300, 1_500);
        self.after(again, Item::Delete);
    }

    pub(crate) fn remove_later(&mut self) {
        for _ in 0..2 {
            let delay = self.rng.within(1, 100);
            self.after(delay, Item::Remove);
        }
    }

    fn damage(&mut self) {
        if let Some(name) = self.store.damage(&mut self.rng) {
            self.trace(|| format!("{name} is damaged"));
            let repaired = self.rng.within(20, 400);
            self.after(repaired, Item::Repair(name));
        }
    }

    fn strike_worker(&mut self) {
        let there: Vec<WorkerId> =
            (0..self.workers.len()).filter(|at| self.workers[*at].alive && !self.workers[*at].frozen).collect();
        if there.is_empty() {
            return;
        }
        let worker = there[self.rng.within(0, there.len() as u64 - 1) as usize];
        match self.rng.within(0, 9) {
            0 => self.start_stranger(worker),
            1..5 => self.freeze_worker(worker),
            _ => self.kill_worker(worker),
        }
    }

    fn calm_down(&mut self) {
        self.store.repair_all();
        let frozen: Vec<Proc> = (0..self.processes.len()).filter(|at| self.processes[*at].frozen).collect();
        frozen.into_iter().for_each(|process| self.thaw(process));
        (0..self.workers.len()).for_each(|worker| self.thaw_worker(worker));
        if !self.finished && !self.is_deleted() {
            if self.controller.is_none() {
                self.after(0, Item::Start(Start::Lifting));
            }
            self.after(500, Item::Chaos);
        }
    }
}

pub(crate) fn plan(code: &str) -> Plan {
    let operator = |kind: &str| OperatorPlan {
        kind: kind.to_owned(),
        schema: serde_json::Value::Null,
        legend: serde_json::Value::Null,
    };
    let mut plan = Plan {
        fingerprint: format!("plan {code}"),
        operators: [(source(), operator("source")), (sum(), operator("sum")), (sink(), operator("sink"))].into(),
        sinks: [sink()].into(),
        edges: [channel()].into(),
        ..Plan::default()
    };
    if code == EXTRA_CODE {
        plan.operators.insert(extra(), operator("extra"));
    }
    plan
}
