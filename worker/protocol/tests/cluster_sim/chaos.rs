//! Processes start, die, freeze and thaw, and users ask for things.

use crate::tasks::{SPLITS, sink, source, sum};
use crate::world::{Item, Proc, Process, World};
use weir_protocol::chain::{Claimant, OperatorPlan, Plan};
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::leader::{CheckpointOptions, Direction, Event, Leader, Mode, Options, Resume, Stops, Then};
use weir_protocol::restart::Strategy;

impl World {
    pub(crate) fn start_later(&mut self) {
        let delay = self.rng.within(5, 80);
        let stops = if self.rng.chance(50) { Stops::Obey } else { Stops::Lift };
        self.after(delay, Item::Start(stops));
    }

    /// A process starts, unless one runs: a frozen one looks dead.
    pub(crate) fn start(&mut self, stops: Stops) {
        if self.finished || self.processes.iter().any(|process| process.alive && !process.frozen) {
            return;
        }
        let index = self.processes.len();
        self.processes.push(Process {
            leader: self.rule.map_or_else(Leader::new, Leader::without),
            alive: true,
            frozen: false,
            stash: Vec::new(),
            tick_at: None,
            generation: None,
            tasks: Vec::new(),
            stops,
        });
        let options = self.options(index, stops);
        self.step(index, Event::Begin(Box::new(options)));
    }

    pub(crate) fn options(&mut self, index: Proc, stops: Stops) -> Options {
        let operator = |kind: &str| OperatorPlan { kind: kind.to_owned(), schema: serde_json::Value::Null };
        Options {
            job: "job".to_owned(),
            claimant: Claimant { revision: 1, attempt: 1, pod: "pod".to_owned() },
            incarnation: format!("p{index}"),
            unix_ms: self.now,
            parallelism: self.rng.within(1, 3) as u32,
            direction: Direction::default(),
            max_parallelism: MaxParallelism::new(u32::from(SPLITS)).expect("a few key groups"),
            plan: Plan {
                fingerprint: "plan".to_owned(),
                operators: [(source(), operator("source")), (sum(), operator("sum")), (sink(), operator("sink"))]
                    .into(),
                sinks: [sink()].into(),
                ..Plan::default()
            },
            mode: Mode::Run { resume: Resume::Head, stops },
            restored_from: None,
            checkpoint: CheckpointOptions {
                interval_ms: Some(self.interval_ms),
                min_pause_ms: 0,
                timeout_ms: 300,
                tolerable_failures: 2,
                retain: self.retain,
            },
            restart: Strategy::FixedDelay { attempts: u32::MAX, delay_ms: 10 },
        }
    }

    pub(crate) fn thaw(&mut self, process: Proc) {
        let this = &mut self.processes[process];
        this.frozen = false;
        for item in std::mem::take(&mut this.stash) {
            let delay = self.rng.within(0, 3);
            self.after(delay, item);
        }
    }

    /// Something happens to the process that runs.
    pub(crate) fn chaos(&mut self) {
        if self.calm() {
            return self.calm_down();
        }
        let pause = self.rng.within(1, 2 * self.faults.chaos_every_ms);
        self.after(pause, Item::Chaos);
        let running = self.processes.iter().position(|process| process.alive && !process.frozen);
        let Some(process) = running else { return self.after(1, Item::Start(Stops::Lift)) };
        match self.rng.within(0, 9) {
            0 | 1 => {
                self.trace(|| format!("p{process} dies"));
                self.processes[process].alive = false;
                self.start_later();
            }
            2 | 3 => {
                self.trace(|| format!("p{process} freezes"));
                self.processes[process].frozen = true;
                self.start_later();
                let thaw = self.rng.within(1, 600);
                self.after(thaw, Item::Thaw(process));
            }
            4 => self.after(0, Item::Event(process, Event::StopRequested)),
            5 | 6 => {
                let name = format!("s{}", self.rng.within(0, 3));
                let then = if self.rng.chance(20) { Then::Stop } else { Then::Continue };
                if !self.released.contains(&name) {
                    let event = Event::SavepointRequested { uid: name.clone(), name, then };
                    self.message(process, event);
                }
            }
            7 => {
                let name = format!("s{}", self.rng.within(0, 3));
                if self.answered.contains_key(&name) && self.rng.chance(30) {
                    self.released.insert(name.clone());
                    self.message(process, Event::SavepointReleased { name });
                }
            }
            _ => {}
        }
    }

    pub(crate) fn calm_down(&mut self) {
        let frozen: Vec<Proc> = (0..self.processes.len()).filter(|at| self.processes[*at].frozen).collect();
        frozen.into_iter().for_each(|process| self.thaw(process));
        if !self.finished {
            self.after(0, Item::Start(Stops::Lift));
            self.after(500, Item::Chaos);
        }
    }
}
