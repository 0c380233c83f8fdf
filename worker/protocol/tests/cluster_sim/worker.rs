//! Workers: they have tasks as long as nobody tells them otherwise, also for a leader that has died.

use crate::tasks::Row;
use crate::world::{Command, Item, Order, Said, Uploaded, WorkerId, World};
use std::collections::BTreeSet;
use weir_protocol::leader::{DeclineCause, ErrorKind, Event};
use weir_protocol::members;
use weir_protocol::{CheckpointId, Generation, TaskId};

impl World {
    /// Does what a leader says.
    pub(crate) fn order(&mut self, worker: WorkerId, Command { session, from, order }: Command) {
        let generation = from.1;
        match order {
            Order::Deploy(tasks) => {
                self.check_order(worker, from.0);
                let ids: BTreeSet<TaskId> = tasks.iter().map(|task| task.id).collect();
                let this = &mut self.workers[worker];
                this.of = Some(from);
                this.tasks = tasks;
                let life = this.life;
                self.after(1, Item::Run(worker, life, generation));
                let sources = ids.clone();
                let deployed = members::Event::Deployed { session, generation, tasks: ids, sources };
                self.report(worker, Said::Confirmed(deployed));
            }
            Order::Cancel => {
                let this = &mut self.workers[worker];
                if this.of.is_none_or(|(_, known)| known <= generation) {
                    this.of = Some(from);
                    this.tasks.clear();
                }
                self.report(worker, Said::Confirmed(members::Event::Cancelled { session, generation }));
            }
            Order::Barrier(checkpoint, stop) if self.workers[worker].of == Some(from) => {
                for at in 0..self.workers[worker].tasks.len() {
                    self.barrier((worker, at), generation, checkpoint, stop);
                }
            }
            Order::Completed(checkpoint) if self.workers[worker].of == Some(from) => {
                self.workers[worker].tasks.iter_mut().for_each(|task| task.completed(checkpoint));
            }
            Order::Aborted(checkpoint) if self.workers[worker].of == Some(from) => {
                self.workers[worker].tasks.iter_mut().for_each(|task| task.aborted(checkpoint));
            }
            Order::Barrier(..) | Order::Completed(_) | Order::Aborted(_) => {}
        }
    }

    fn barrier(
        &mut self,
        (worker, at): (WorkerId, usize),
        generation: Generation,
        checkpoint: CheckpointId,
        stop: bool,
    ) {
        let Some(taken) = self.workers[worker].tasks[at].barrier(checkpoint, stop, &mut self.rng) else { return };
        let staged: Option<(String, Vec<Row>)> = taken.staged;
        self.staged.extend(staged);
        if self.fault(self.faults.lost) {
            let task = taken.snapshot.task;
            let (cause, message) = (DeclineCause::Task, "chance".to_owned());
            // The file is there all the same: what is pending goes into the next checkpoint.
            self.store.files.extend(taken.files);
            return self
                .report(worker, Said::OfTasks(Event::Declined { generation, checkpoint, task, cause, message }));
        }
        let (snapshot, files) = (Box::new(taken.snapshot), taken.files);
        let (delay, life) = (self.delay(), self.workers[worker].life);
        let uploaded = Box::new(Uploaded { generation, checkpoint, snapshot, files });
        self.after(delay, Item::Upload(worker, life, uploaded));
    }

    pub(crate) fn uploaded(&mut self, worker: WorkerId, uploaded: Uploaded) {
        let Uploaded { generation, checkpoint, snapshot, files } = uploaded;
        self.store.files.extend(files);
        self.report(worker, Said::OfTasks(Event::Acked { generation, checkpoint, snapshot }));
    }

    pub(crate) fn run_tasks(&mut self, worker: WorkerId, life: u64, generation: Generation) {
        let this = &mut self.workers[worker];
        let Some((_, current)) = this.of.filter(|_| this.life == life) else { return };
        if current != generation || this.tasks.is_empty() || self.finished {
            return;
        }
        let mut ended = Vec::new();
        for task in &mut this.tasks {
            // It says so again and again: what it says may be lost.
            if task.run(&mut self.rng) {
                ended.push(task.id);
            }
        }
        for task in ended {
            self.report(worker, Said::OfTasks(Event::SourceEnded { generation, task }));
        }
        // It may have missed its leader meanwhile.
        let first = self.workers[worker].tasks.first().map(|task| task.id);
        if let Some(task) = first.filter(|_| self.fault(self.faults.task_fails)) {
            let (kind, message) = (ErrorKind::Transient, "chance".to_owned());
            self.report(worker, Said::OfTasks(Event::TaskFailed { generation, task, kind, message }));
        }
        let pause = self.rng.within(2, 40);
        self.after(pause, Item::Run(worker, life, generation));
    }

    /// A worker dies. Its leader sees the connection break, or misses its heartbeats.
    pub(crate) fn kill_worker(&mut self, worker: WorkerId) {
        self.trace(|| format!("w{worker} dies"));
        self.disconnect(worker);
        let this = &mut self.workers[worker];
        this.alive = false;
        this.frozen = false;
        this.life += 1;
        this.stash.clear();
        this.of = None;
        this.tasks.clear();
        this.tick_at = None;
        let revive = self.rng.within(5, 300);
        self.after(revive, Item::ReviveWorker(worker));
    }

    /// A worker stands still; now and then somebody believes that it is dead, and starts another one in its place.
    pub(crate) fn freeze_worker(&mut self, worker: WorkerId) {
        self.trace(|| format!("w{worker} freezes"));
        self.workers[worker].frozen = true;
        let thaw = self.rng.within(1, 600);
        self.after(thaw, Item::ThawWorker(worker));
        if self.rng.chance(40) {
            self.start_replacement(worker);
        }
    }

    pub(crate) fn thaw_worker(&mut self, worker: WorkerId) {
        let this = &mut self.workers[worker];
        this.frozen = false;
        for item in std::mem::take(&mut this.stash) {
            let delay = self.rng.within(0, 3);
            self.after(delay, item);
        }
    }
}
