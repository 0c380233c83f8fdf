//! A task that reads channels: aligns barriers, follows event time, and runs its chain.
//!
//! A barrier that overtakes makes it take its snapshot at once, between two elements. The snapshot is handed over when all
//! that the barrier has passed is known; rows go on being handled meanwhile. After a restore the task first replays what
//! was in flight to it, and only then reads its inputs.

use super::chain::{Downstream, Part, Step, Taken};
use super::element::{Barrier, Element};
use super::in_flight::gather::Gathered;
use super::in_flight::replay::{Replay, of_input};
use super::in_flight::{InFlight, Stretch};
use super::inbox::{Control, Inbox, Received};
use super::metrics::{Stopwatch, TaskMetrics};
use crate::batch::Batch;
use crate::failure::{Failure, Kind, Result};
use crate::operator::Operator;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use weir_protocol::align::{Abort, Aligned, Alignment, Announced, Barrier as Outcome};
use weir_protocol::frontier::{Change, Frontier};
use weir_protocol::{CheckpointId, EdgeId, EventTime, Now, OperatorId, TaskId};

/// What tasks tell the job.
pub enum TaskEvent {
    /// The task's part of a checkpoint, to be written beside it.
    Snapshot(TakenSnapshot),
    /// A source task has no row left.
    Exhausted(TaskId),
    /// The task's thread has ended: by cancellation, or with a failure. It may leave its state.
    Ended(TaskId, Result<()>, Option<Left>),
}

/// The state that a task leaves: that of a checkpoint, after which nothing has changed it.
pub struct Left {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The operators that have the state.
    pub operators: Vec<(OperatorId, Box<dyn Operator>)>,
}

/// Where tasks report. A report to a job that is on its way down is lost, which harms nobody.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(TaskEvent) + Send + Sync>);

impl Events {
    /// Reports go to `receive`, from the tasks' threads.
    #[must_use]
    pub fn new(receive: impl Fn(TaskEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Reports.
    pub fn send(&self, event: TaskEvent) {
        (self.0)(event);
    }
}

/// A task's part of a checkpoint.
pub struct TakenSnapshot {
    /// The task.
    pub task: TaskId,
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// By step.
    pub taken: Vec<Taken>,
    /// From the first barrier to the last.
    pub align: Duration,
    /// How long the task stood still for it.
    pub sync: Duration,
    /// What the barrier has overtaken.
    pub in_flight: InFlight,
}

impl TakenSnapshot {
    /// Memory that its rows take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let of = |taken: &Taken| match &taken.part {
            Part::State(snapshot) => snapshot.bytes(),
            Part::Source(_) | Part::Sink(_) => 0,
        };
        self.taken.iter().map(of).sum::<u64>() + self.in_flight.bytes()
    }
}

/// A task that reads channels.
pub struct OperatorTask {
    /// The task.
    pub task: TaskId,
    /// Its channels.
    pub inbox: Arc<Inbox>,
    /// The input of the chain's first step that each channel feeds.
    pub inputs: Vec<usize>,
    /// The edge that each channel belongs to.
    pub edges: Vec<EdgeId>,
    /// Whether barriers may overtake here.
    pub overtaking: Overtaking,
    /// What is to be replayed before the channels are read.
    pub replay: Option<Replay>,
    /// The chain.
    pub chain: Step,
    /// Where it reports.
    pub events: Events,
    /// What it counts.
    pub metrics: Arc<TaskMetrics>,
}

/// Whether barriers may overtake on their way to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overtaking {
    /// They may: rows that change their task after a rescale take those of the same key with them.
    Allowed,
    /// They wait: the order of changes matters, and nothing says which rows belong together.
    Never,
}

/// Between two looks at how much state a task has, and at the time of day.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

struct Running {
    task: OperatorTask,
    /// Of the channels; while there is a replay, event time is what that says.
    frontier: Frontier,
    alignment: Alignment,
    /// A snapshot that is complete when all that its barrier has overtaken is known.
    unfinished: Option<Unfinished>,
    barrier: Option<Barrier>,
    began: Instant,
    watch: Stopwatch,
    /// The checkpoint whose state the operators have; none after the first change.
    unchanged_since: Option<CheckpointId>,
    /// Rows or watermarks went into the chain since it was last told to let go of what it holds.
    holds: bool,
    housekeeping_due: Instant,
}

struct Unfinished {
    snapshot: TakenSnapshot,
    /// What was left of a replay.
    replay: Vec<Stretch>,
    /// By channel, still without rows.
    channels: Vec<Stretch>,
}

impl OperatorTask {
    /// Runs until cancelled; ends with kind `Cancelled` then, and leaves its state if that is a checkpoint's.
    pub fn run(self) -> (Result<()>, Option<Left>) {
        let mut running = match Running::begin(self) {
            Ok(running) => running,
            Err(failure) => return (Err(failure), None),
        };
        loop {
            if let Err(failure) = running.turn() {
                let left = (failure.kind == Kind::Cancelled).then(|| running.leave()).flatten();
                return (Err(failure), left);
            }
        }
    }
}

impl Running {
    fn begin(task: OperatorTask) -> Result<Self> {
        let channels = task.inbox.channels();
        let now = Instant::now();
        let mut running = Self {
            frontier: Frontier::new(channels, EventTime::MIN),
            alignment: Alignment::new(channels),
            unfinished: None,
            barrier: None,
            began: now,
            watch: Stopwatch::start(),
            unchanged_since: None,
            holds: false,
            housekeeping_due: now,
            task,
        };
        running.begin_replay()?;
        Ok(running)
    }

    fn leave(self) -> Option<Left> {
        let checkpoint = self.unchanged_since?;
        let mut operators = Vec::new();
        self.task.chain.into_operators(&mut operators);
        Some(Left { checkpoint, operators })
    }

    fn turn(&mut self) -> Result<()> {
        self.overtake_if_due()?;
        let received = match self.task.replay {
            Some(_) => self.task.inbox.told(),
            None => Some(self.task.inbox.receive()?),
        };
        match received {
            Some(Received::Control(control)) => self.control(control),
            Some(Received::Announced(input, barrier)) => {
                self.announced(input, barrier);
                Ok(())
            }
            Some(Received::Gathered(gathered)) => {
                self.finish(gathered);
                Ok(())
            }
            Some(Received::Element(input, element)) => {
                self.element(input, element)?;
                self.worked();
                Ok(())
            }
            Some(Received::Nothing) => self.rest(),
            None => self.replay(),
        }
    }

    fn rest(&mut self) -> Result<()> {
        if std::mem::take(&mut self.holds) {
            self.task.chain.on_idle()?;
            self.worked();
        }
        self.housekeeping();
        let due = self.alignment.due().map(|due| self.began + Duration::from_micros(due.0));
        let latest = Instant::now() + Duration::from_secs(1);
        self.task.inbox.wait(Some(due.map_or(latest, |due| due.min(latest))));
        self.watch.waited(&self.task.metrics);
        Ok(())
    }

    fn worked(&mut self) {
        self.watch.waited_downstream(Downstream(&mut self.task.chain.next).take_waited());
        self.watch.worked(&self.task.metrics);
        if Instant::now() >= self.housekeeping_due {
            self.housekeeping();
        }
    }

    fn housekeeping(&mut self) {
        self.housekeeping_due = Instant::now() + HOUSEKEEPING;
        self.task.chain.processing_time(time_of_day_ms());
        self.task.metrics.state_bytes.set(self.task.chain.state_bytes() as u64);
    }

    fn control(&mut self, control: Control) -> Result<()> {
        match control {
            Control::Cancel => Err(Failure::cancelled()),
            Control::Aborted(checkpoint) => {
                if self.alignment.abort(checkpoint) == Abort::Released {
                    self.task.inbox.unblock_all();
                }
                if self.unfinished.as_ref().is_some_and(|one| one.snapshot.checkpoint <= checkpoint) {
                    self.give_up("the checkpoint was aborted");
                }
                Ok(())
            }
            Control::Splits => Ok(()),
            Control::Inject(_) => Err(Failure::bug("a task that reads channels was told to emit a barrier")),
        }
    }

    fn element(&mut self, input: usize, element: Element) -> Result<()> {
        match element {
            Element::Batch(batch) => self.batch(input, batch),
            Element::Watermark(watermark, born) => {
                let change = self.frontier.update(input, watermark);
                self.event_time(change, born)
            }
            Element::Idle => {
                let change = self.frontier.idle(input);
                self.event_time(change, None)
            }
            Element::Barrier(barrier) => self.barrier(input, barrier),
            Element::End => self.end(input),
        }
    }

    fn batch(&mut self, input: usize, batch: Batch) -> Result<()> {
        let change = self.frontier.active(input);
        self.event_time(change, None)?;
        self.process(self.task.inputs[input], batch)
    }

    fn process(&mut self, input: usize, batch: Batch) -> Result<()> {
        let metrics = &self.task.metrics;
        metrics.rows_in.add(batch.num_rows() as u64);
        metrics.bytes_in.add(batch.bytes() as u64);
        self.holds = true;
        self.unchanged_since = None;
        self.task.chain.process(input, batch)
    }

    fn begin_replay(&mut self) -> Result<()> {
        let reached = self.task.replay.as_ref().map_or(EventTime::MIN, Replay::watermark);
        if reached > EventTime::MIN { self.watermark(reached, None) } else { Ok(()) }
    }

    /// Replays the next piece. After the last one the channels take over from where event time is.
    fn replay(&mut self) -> Result<()> {
        let Some(replay) = &mut self.task.replay else { return Ok(()) };
        let Some(next) = replay.next_piece() else {
            self.frontier = Frontier::new(self.task.inbox.channels(), replay.watermark());
            self.task.replay = None;
            return Ok(());
        };
        if let Some(watermark) = next.watermark {
            self.watermark(watermark, None)?;
        }
        if let Some(batch) = next.piece.rows()? {
            self.process(next.input, batch)?;
        }
        self.worked();
        Ok(())
    }

    fn event_time(&mut self, change: Change, born: Option<Instant>) -> Result<()> {
        match change {
            Change::Nothing => Ok(()),
            Change::Advanced(watermark) | Change::Resumed(watermark) => self.watermark(watermark, born),
            Change::Idle { advanced } => {
                if let Some(watermark) = advanced {
                    self.watermark(watermark, born)?;
                }
                self.task.chain.on_idle()?;
                Downstream(&mut self.task.chain.next).idle()
            }
        }
    }

    fn watermark(&mut self, watermark: EventTime, born: Option<Instant>) -> Result<()> {
        self.holds = true;
        self.unchanged_since = None;
        self.task.metrics.set_watermark(watermark);
        self.task.chain.watermark(watermark, born)
    }

    fn barrier(&mut self, input: usize, barrier: Barrier) -> Result<()> {
        match self.alignment.barrier(input, barrier.checkpoint, self.now()) {
            Outcome::Ignored => {}
            Outcome::Began { given_up } => {
                if given_up.is_some() {
                    self.task.inbox.unblock_all();
                }
                self.barrier = Some(barrier);
                self.task.inbox.block(input);
            }
            Outcome::Block => self.task.inbox.block(input),
            Outcome::Aligned(aligned) => {
                self.barrier = Some(barrier);
                self.give_up("a newer checkpoint is taken");
                let snapshot = self.snapshot(aligned)?;
                self.task.events.send(TaskEvent::Snapshot(snapshot));
            }
        }
        Ok(())
    }

    /// Microseconds since the task began.
    fn now(&self) -> Now {
        Now(self.began.elapsed().as_micros() as u64)
    }

    fn announced(&mut self, input: usize, barrier: Barrier) {
        let Some(at) = barrier.overtakes_at.filter(|_| self.task.overtaking == Overtaking::Allowed) else { return };
        let due = Now(at.saturating_duration_since(self.began).as_micros() as u64);
        if let Announced::Began { given_up } = self.alignment.announce(input, barrier.checkpoint, due, self.now()) {
            if given_up.is_some() {
                self.task.inbox.unblock_all();
            }
            self.barrier = Some(barrier);
        }
    }

    fn overtake_if_due(&mut self) -> Result<()> {
        if self.alignment.due().is_none() {
            return Ok(());
        }
        let Some(overtaken) = self.alignment.overtake(self.now()) else { return Ok(()) };
        self.give_up("a newer checkpoint is taken");
        let replay = self.task.replay.as_ref().map(Replay::rest).unwrap_or_default();
        let channels = self.stretches();
        self.task.inbox.gather(&overtaken);
        self.task.chain.hurry();
        let snapshot = self.snapshot(overtaken.aligned)?;
        self.unfinished = Some(Unfinished { snapshot, replay, channels });
        self.worked();
        Ok(())
    }

    /// How far each channel is, as a stretch without rows. Until the end of a replay no channel counts.
    fn stretches(&self) -> Vec<Stretch> {
        let replay = self.task.replay.as_ref();
        let stage = replay.map_or(0, Replay::stages);
        let stretch = |(channel, edge): (usize, &EdgeId)| {
            let of_channel = of_input(&self.frontier, channel);
            let (watermark, is_idle) = replay.map_or(of_channel, |replay| (replay.watermark(), false));
            Stretch { edge: edge.clone(), stage, watermark, is_idle, pieces: Vec::new() }
        };
        self.task.edges.iter().enumerate().map(stretch).collect()
    }

    /// All that the barrier has overtaken is known.
    fn finish(&mut self, gathered: Gathered) {
        let Some(Unfinished { mut snapshot, replay, mut channels }) = self.unfinished.take() else { return };
        snapshot.in_flight = match gathered {
            Ok(pieces) => {
                channels.iter_mut().zip(pieces).for_each(|(channel, pieces)| channel.pieces = pieces);
                InFlight::of(replay.into_iter().chain(channels).collect())
            }
            Err(why) => InFlight::Missing(why),
        };
        self.task.events.send(TaskEvent::Snapshot(snapshot));
    }

    /// The snapshot will not be complete. It is handed over all the same: what has changed must not be lost.
    fn give_up(&mut self, why: &str) {
        if self.unfinished.is_some() {
            self.task.inbox.stop_gathering();
            self.finish(Err(why.to_owned()));
        }
    }

    fn end(&mut self, input: usize) -> Result<()> {
        let change = self.frontier.end(input);
        self.event_time(change, None)?;
        if let Some(aligned) = self.alignment.end(input) {
            let snapshot = self.snapshot(aligned)?;
            self.task.events.send(TaskEvent::Snapshot(snapshot));
        }
        if self.frontier.watermark() == EventTime::MAX {
            self.unchanged_since = None;
            self.task.chain.end()?;
        }
        Ok(())
    }

    /// `aligned.since` is in microseconds: see where it comes from.
    fn snapshot(&mut self, aligned: Aligned) -> Result<TakenSnapshot> {
        let align = Duration::from_micros(self.now().0.saturating_sub(aligned.since.0));
        let barrier = self.barrier.take().expect("a checkpoint that is taken has had a barrier");
        let began = Instant::now();
        let mut taken = Vec::new();
        self.task.chain.barrier(barrier, &mut taken)?;
        self.unchanged_since = Some(aligned.checkpoint);
        self.holds = false;
        self.task.inbox.unblock_all();
        Ok(TakenSnapshot {
            task: self.task.task,
            checkpoint: aligned.checkpoint,
            taken,
            align,
            sync: began.elapsed(),
            in_flight: InFlight::default(),
        })
    }
}

/// A task that a test leads from one thing to the next.
#[cfg(test)]
pub(crate) struct Stepped(Running);

#[cfg(test)]
impl Stepped {
    pub(crate) fn new(task: OperatorTask) -> Result<Self> {
        Running::begin(task).map(Self)
    }

    /// Does the next thing; false when there is none.
    pub(crate) fn step(&mut self) -> Result<bool> {
        if self.0.alignment.due().is_some_and(|due| due <= self.0.now()) {
            return self.0.overtake_if_due().map(|()| true);
        }
        if self.0.task.replay.is_none() && self.0.task.inbox.is_quiet() {
            return Ok(false);
        }
        self.0.turn().map(|()| true)
    }
}

/// The time of day, in milliseconds since 1970-01-01T00:00:00Z.
#[must_use]
pub fn time_of_day_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
