//! A task that reads a source: asks for splits, paces, follows event time, emits barriers, and runs its chain.

use super::chain::{Downstream, Next, Part, Taken};
use super::element::{After, Barrier};
use super::in_flight::InFlight;
use super::inbox::{Control, Inbox, Received};
use super::metrics::{Stopwatch, TaskMetrics};
use super::pace::Pace;
use super::splits::{Handout, SplitDesk};
use super::task::{Events, TakenSnapshot, TaskEvent, time_of_day_ms};
use super::throttle::Throttle;
use super::watermark::{SourceWatermark, Times};
use crate::batch::Batch;
use crate::connector::{self, Assignment, Poll, SourceReader, SourceRows};
use crate::failure::{Failure, Result};
use crate::operator::Output;
use crate::operator::calc::Calculation;
use crate::plan::Watermark;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_protocol::snapshot::SplitProgress;
use weir_protocol::{EventTime, OperatorId, TaskId};

/// A task that reads a source.
pub struct SourceTask {
    /// The task.
    pub task: TaskId,
    /// The source's id and name.
    pub id: OperatorId,
    /// For people.
    pub name: String,
    /// Brings control messages; it has no channels.
    pub inbox: Arc<Inbox>,
    /// Where splits come from.
    pub splits: Arc<SplitDesk>,
    /// How they are spread over the tasks.
    pub assignment: Assignment,
    /// Reads them.
    pub reader: Box<dyn SourceReader>,
    /// Computed columns.
    pub compute: Option<Calculation>,
    /// Event time.
    pub watermark: Option<Arc<Watermark>>,
    /// The replay speed, if not full.
    pub pace: Option<Arc<Pace>>,
    /// Slows the task when state comes near its budget.
    pub throttle: Throttle,
    /// Where rows go.
    pub next: Vec<Next>,
    /// Where bad records go.
    pub bad_records: Vec<Next>,
    /// Where it reports.
    pub events: Events,
    /// What it counts.
    pub metrics: Arc<TaskMetrics>,
}

struct Running {
    task: SourceTask,
    mark: SourceWatermark,
    /// Finished since the last snapshot.
    finished: Vec<SplitProgress>,
    phase: Phase,
    /// Where the task goes back to when the checkpoint that stopped it is aborted.
    before_stop: Phase,
    idle_told: bool,
    holds: bool,
    watch: Stopwatch,
    housekeeping_due: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Splits that are read at the same time must be in hand before the first row: event time is their minimum.
    Gathering,
    Reading,
    /// No row is left; barriers still pass.
    Exhausted,
    /// The last barrier has passed.
    Stopped,
}

enum Turn {
    Worked,
    Wait(Option<Instant>),
    /// There may be rows in a store that is away.
    Away(Instant),
}

impl SourceTask {
    /// Runs until cancelled; ends with kind `Cancelled` then.
    pub fn run(self) -> Result<()> {
        let now = Instant::now();
        let idle_timeout = self.watermark.as_ref().and_then(|watermark| watermark.idle_timeout);
        let phase = match self.assignment {
            Assignment::Concurrent => Phase::Gathering,
            Assignment::Ordered => Phase::Reading,
        };
        let mut running = Running {
            mark: SourceWatermark::new(idle_timeout),
            finished: Vec::new(),
            phase,
            before_stop: phase,
            idle_told: false,
            holds: false,
            watch: Stopwatch::start(),
            housekeeping_due: now,
            task: self,
        };
        loop {
            if let Received::Control(control) = running.task.inbox.receive()? {
                running.control(control)?;
                continue;
            }
            match running.turn()? {
                Turn::Worked => running.worked(),
                Turn::Wait(until) => running.rest(until)?,
                Turn::Away(until) => running.wait_for_store(until)?,
            }
        }
    }
}

impl Running {
    fn control(&mut self, control: Control) -> Result<()> {
        match control {
            Control::Cancel => Err(Failure::cancelled()),
            Control::Aborted(_) => {
                self.phase = self.before_stop;
                Ok(())
            }
            Control::Splits => Ok(()),
            Control::Inject(barrier) => self.barrier(barrier),
        }
    }

    fn turn(&mut self) -> Result<Turn> {
        match self.phase {
            Phase::Reading => {}
            Phase::Gathering => return self.gather(),
            Phase::Exhausted | Phase::Stopped => return Ok(Turn::Wait(None)),
        }
        match self.task.reader.poll().map_err(|failure| failure.within_step(&self.task.name))? {
            Poll::Rows(rows) => {
                self.rows(rows)?;
                let wait = self.task.throttle.wait();
                Ok(wait.map_or(Turn::Worked, |wait| Turn::Wait(Some(Instant::now() + wait))))
            }
            Poll::NotBefore(moment) => Ok(Turn::Wait(Some(moment))),
            Poll::Away(moment) => Ok(Turn::Away(moment)),
            Poll::NeedSplit => self.next_split(),
        }
    }

    fn gather(&mut self) -> Result<Turn> {
        loop {
            match self.task.splits.next(Instant::now()) {
                Handout::Split(split) => self.add_split(&split)?,
                Handout::Asked => return Ok(Turn::Wait(None)),
                Handout::Later(_) | Handout::Done => {
                    (self.phase, self.before_stop) = (Phase::Reading, Phase::Reading);
                    return Ok(Turn::Worked);
                }
            }
        }
    }

    fn add_split(&mut self, split: &SplitProgress) -> Result<()> {
        self.task.reader.add_split(split).map_err(|failure| failure.within_step(&self.task.name))?;
        self.mark.add_split(split.split.as_str().into(), split.watermark, Instant::now());
        Ok(())
    }

    fn next_split(&mut self) -> Result<Turn> {
        let now = Instant::now();
        match self.task.splits.next(now) {
            Handout::Split(split) => {
                self.add_split(&split)?;
                Ok(Turn::Worked)
            }
            Handout::Asked => Ok(Turn::Wait(None)),
            Handout::Later(moment) => Ok(Turn::Wait(Some(moment))),
            Handout::Done => self.exhausted().map(|()| Turn::Wait(None)),
        }
    }

    /// Event time ends here: every window downstream fires before the last checkpoint.
    fn exhausted(&mut self) -> Result<()> {
        self.phase = Phase::Exhausted;
        self.before_stop = Phase::Exhausted;
        self.watermark(EventTime::MAX)?;
        self.let_go()?;
        self.task.events.send(TaskEvent::Exhausted(self.task.task));
        Ok(())
    }

    fn rows(&mut self, rows: SourceRows) -> Result<()> {
        let metrics = &self.task.metrics;
        metrics.rows_in.add(rows.batch.num_rows() as u64);
        metrics.bytes_in.add(rows.bytes as u64);
        self.bad_records(&rows)?;
        let mut batch = rows.batch;
        if let Some(compute) = &self.task.compute {
            batch = compute.apply(batch).map_err(|failure| failure.within_step(&self.task.name))?;
        }
        self.emit(&rows.split, batch)?;
        if rows.last {
            self.split_ended(&rows.split)?;
        }
        Ok(())
    }

    fn emit(&mut self, split: &str, mut batch: Batch) -> Result<()> {
        let Some(watermark) = self.task.watermark.clone() else {
            batch.born = Some(Instant::now());
            self.holds = true;
            return Downstream(&mut self.task.next).emit(batch);
        };
        let times = Times::of(&batch, &watermark).map_err(|failure| failure.within_step(&self.task.name))?;
        self.keep_pace(&times)?;
        let now = Instant::now();
        batch.born = Some(now);
        self.holds = true;
        self.idle_told = false;
        for piece in self.mark.observe(split, batch, &times, now) {
            Downstream(&mut self.task.next).emit(piece.batch)?;
            if let Some(watermark) = piece.watermark {
                self.advance(watermark, Some(now))?;
            }
        }
        Ok(())
    }

    /// Waits until the rows are due, or a control message does: the reader is past these rows already, so they must go
    /// out before a barrier does.
    fn keep_pace(&mut self, times: &Times) -> Result<()> {
        let due = self.task.pace.as_ref().zip(times.latest()).map(|(pace, latest)| pace.due(latest));
        if let Some(due) = due.filter(|due| *due > Instant::now()) {
            self.let_go()?;
            self.worked();
            self.task.inbox.wait(Some(due));
            self.watch.waited(&self.task.metrics);
        }
        Ok(())
    }

    fn bad_records(&mut self, rows: &SourceRows) -> Result<()> {
        if rows.bad.is_empty() {
            return Ok(());
        }
        self.task.metrics.bad_records.add(rows.bad.len() as u64);
        if self.task.bad_records.is_empty() {
            return Ok(());
        }
        self.holds = true;
        Downstream(&mut self.task.bad_records).emit(Batch::inserts(connector::bad_records_batch(&rows.bad)?))
    }

    fn split_ended(&mut self, split: &str) -> Result<()> {
        let watermark = self.mark.of_split(split).unwrap_or(EventTime::MIN);
        let position = serde_json::Value::Null;
        self.finished.push(SplitProgress { split: split.to_owned(), position, watermark, finished: true });
        // The last split's end says nothing about the splits that follow: they may be in other tasks' hands.
        if let Some(watermark) = self.mark.remove_split(split, Instant::now()) {
            self.watermark(watermark)?;
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: EventTime) -> Result<()> {
        self.advance(watermark, None)
    }

    /// Event time has advanced, by rows that were read at `born` if any did it.
    fn advance(&mut self, watermark: EventTime, born: Option<Instant>) -> Result<()> {
        if self.task.watermark.is_none() && watermark != EventTime::MAX {
            return Ok(());
        }
        self.holds = true;
        self.idle_told = false;
        self.task.metrics.set_watermark(watermark);
        Downstream(&mut self.task.next).advance(watermark, born)?;
        Downstream(&mut self.task.bad_records).advance(watermark, born)
    }

    fn rest(&mut self, until: Option<Instant>) -> Result<()> {
        self.let_go()?;
        let now = Instant::now();
        if self.phase == Phase::Reading {
            self.fall_idle(now)?;
        }
        let until = [until, self.mark.next_idle(now)].into_iter().flatten().min();
        self.wait(until);
        Ok(())
    }

    /// That no row comes from a store that is away says nothing about event time: the source does not fall idle.
    fn wait_for_store(&mut self, until: Instant) -> Result<()> {
        self.let_go()?;
        self.wait(Some(until));
        Ok(())
    }

    fn wait(&mut self, until: Option<Instant>) {
        self.worked();
        let latest = Instant::now() + Duration::from_secs(1);
        self.task.inbox.wait(Some(until.map_or(latest, |until| until.min(latest))));
        self.watch.waited(&self.task.metrics);
    }

    fn fall_idle(&mut self, now: Instant) -> Result<()> {
        if let Some(watermark) = self.mark.advance(now) {
            self.watermark(watermark)?;
            self.let_go()?;
        }
        if !self.idle_told && self.mark.is_idle(now) {
            self.idle_told = true;
            Downstream(&mut self.task.next).idle()?;
            Downstream(&mut self.task.bad_records).idle()?;
        }
        Ok(())
    }

    fn let_go(&mut self) -> Result<()> {
        if std::mem::take(&mut self.holds) {
            Downstream(&mut self.task.next).on_idle()?;
            Downstream(&mut self.task.bad_records).on_idle()?;
        }
        Ok(())
    }

    fn worked(&mut self) {
        self.watch.waited_downstream(Downstream(&mut self.task.next).take_waited());
        self.watch.waited_downstream(Downstream(&mut self.task.bad_records).take_waited());
        self.watch.worked(&self.task.metrics);
        let now = Instant::now();
        if now >= self.housekeeping_due {
            self.housekeeping_due = now + Duration::from_millis(100);
            let mut steps = Downstream(&mut self.task.next);
            steps.processing_time(time_of_day_ms());
            self.task.metrics.state_bytes.set(steps.state_bytes() as u64);
        }
    }

    fn barrier(&mut self, barrier: Barrier) -> Result<()> {
        let began = Instant::now();
        if barrier.is_urgent() {
            Downstream(&mut self.task.next).hurry();
            Downstream(&mut self.task.bad_records).hurry();
        }
        let mut taken = vec![Taken { operator: self.task.id.clone(), part: Part::Source(self.positions()) }];
        Downstream(&mut self.task.next).barrier(barrier, &mut taken)?;
        Downstream(&mut self.task.bad_records).barrier(barrier, &mut taken)?;
        self.holds = false;
        if barrier.after == After::Nothing {
            self.phase = Phase::Stopped;
        }
        let snapshot = TakenSnapshot {
            task: self.task.task,
            checkpoint: barrier.checkpoint,
            taken,
            align: Duration::ZERO,
            sync: began.elapsed(),
            in_flight: InFlight::default(),
        };
        self.task.events.send(TaskEvent::Snapshot(snapshot));
        self.worked();
        Ok(())
    }

    /// The splits in hand with their watermarks, and those that ended since the last snapshot.
    fn positions(&mut self) -> Vec<SplitProgress> {
        let in_hand = self.task.reader.positions().into_iter().filter_map(|mut split| {
            split.watermark = self.mark.of_split(&split.split)?;
            (!split.finished).then_some(split)
        });
        let mut positions: Vec<SplitProgress> = in_hand.collect();
        positions.append(&mut self.finished);
        positions
    }
}
