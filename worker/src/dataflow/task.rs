//! A task that reads channels: aligns barriers, follows event time, and runs its chain.

use super::chain::{Downstream, Part, Step, Taken};
use super::element::{Barrier, Element};
use super::inbox::{Control, Inbox, Received};
use super::metrics::{Stopwatch, TaskMetrics};
use crate::batch::Batch;
use crate::failure::{Failure, Result};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use weir_protocol::align::{Abort, Aligned, Alignment, Barrier as Outcome};
use weir_protocol::frontier::{Change, Frontier};
use weir_protocol::{CheckpointId, EventTime, Now, TaskId};

/// What tasks tell the job.
pub enum TaskEvent {
    /// The task's part of a checkpoint, to be written beside it.
    Snapshot(TakenSnapshot),
    /// A source task has no row left.
    Exhausted(TaskId),
    /// The task's thread has ended: by cancellation, or with a failure.
    Ended(TaskId, Result<()>),
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
}

impl TakenSnapshot {
    /// Memory that its rows take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let of = |taken: &Taken| match &taken.part {
            Part::State(snapshot) => snapshot.bytes(),
            Part::Source(_) | Part::Sink(_) => 0,
        };
        self.taken.iter().map(of).sum()
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
    /// The chain.
    pub chain: Step,
    /// Where it reports.
    pub events: Events,
    /// What it counts.
    pub metrics: Arc<TaskMetrics>,
}

/// Between two looks at how much state a task has, and at the time of day.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

struct Running {
    task: OperatorTask,
    frontier: Frontier,
    alignment: Alignment,
    barrier: Option<Barrier>,
    began: Instant,
    watch: Stopwatch,
    /// Rows or watermarks went into the chain since it was last told to let go of what it holds.
    holds: bool,
    housekeeping_due: Instant,
}

impl OperatorTask {
    /// Runs until cancelled; ends with kind `Cancelled` then.
    pub fn run(self) -> Result<()> {
        let channels = self.inbox.channels();
        let now = Instant::now();
        let mut running = Running {
            frontier: Frontier::new(channels, EventTime::MIN),
            alignment: Alignment::new(channels),
            barrier: None,
            began: now,
            watch: Stopwatch::start(),
            holds: false,
            housekeeping_due: now,
            task: self,
        };
        loop {
            running.turn()?;
        }
    }
}

impl Running {
    fn turn(&mut self) -> Result<()> {
        match self.task.inbox.receive()? {
            Received::Control(control) => self.control(control),
            Received::Element(input, element) => {
                self.element(input, element)?;
                self.worked();
                Ok(())
            }
            Received::Nothing => self.rest(),
        }
    }

    fn rest(&mut self) -> Result<()> {
        if std::mem::take(&mut self.holds) {
            self.task.chain.on_idle()?;
            self.worked();
        }
        self.housekeeping();
        self.task.inbox.wait(Some(Instant::now() + Duration::from_secs(1)));
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
                Ok(())
            }
            Control::Splits => Ok(()),
            Control::Inject(_) => Err(Failure::bug("a task that reads channels was told to emit a barrier")),
        }
    }

    fn element(&mut self, input: usize, element: Element) -> Result<()> {
        match element {
            Element::Batch(batch) => self.batch(input, batch),
            Element::Watermark(watermark) => {
                let change = self.frontier.update(input, watermark);
                self.event_time(change)
            }
            Element::Idle => {
                let change = self.frontier.idle(input);
                self.event_time(change)
            }
            Element::Barrier(barrier) => self.barrier(input, barrier),
            Element::End => self.end(input),
        }
    }

    fn batch(&mut self, input: usize, batch: Batch) -> Result<()> {
        let metrics = &self.task.metrics;
        metrics.rows_in.add(batch.num_rows() as u64);
        metrics.bytes_in.add(batch.bytes() as u64);
        let change = self.frontier.active(input);
        self.event_time(change)?;
        self.holds = true;
        self.task.chain.process(self.task.inputs[input], batch)
    }

    fn event_time(&mut self, change: Change) -> Result<()> {
        match change {
            Change::Nothing => Ok(()),
            Change::Advanced(watermark) | Change::Resumed(watermark) => self.watermark(watermark),
            Change::Idle { advanced } => {
                if let Some(watermark) = advanced {
                    self.watermark(watermark)?;
                }
                self.task.chain.on_idle()?;
                Downstream(&mut self.task.chain.next).idle()
            }
        }
    }

    fn watermark(&mut self, watermark: EventTime) -> Result<()> {
        self.holds = true;
        self.task.metrics.set_watermark(watermark);
        self.task.chain.watermark(watermark)
    }

    fn barrier(&mut self, input: usize, barrier: Barrier) -> Result<()> {
        let now = Now(self.began.elapsed().as_micros() as u64);
        match self.alignment.barrier(input, barrier.checkpoint, now) {
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
                self.snapshot(aligned)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, input: usize) -> Result<()> {
        let change = self.frontier.end(input);
        self.event_time(change)?;
        if let Some(aligned) = self.alignment.end(input) {
            self.snapshot(aligned)?;
        }
        if self.frontier.watermark() == EventTime::MAX {
            self.task.chain.end()?;
        }
        Ok(())
    }

    /// `aligned.since` is in microseconds: see where it comes from.
    fn snapshot(&mut self, aligned: Aligned) -> Result<()> {
        let barrier = self.barrier.take().expect("an aligned checkpoint has had a barrier");
        let began = Instant::now();
        let mut taken = Vec::new();
        self.task.chain.barrier(barrier, &mut taken)?;
        self.holds = false;
        self.task.inbox.unblock_all();
        let align = Duration::from_micros((self.began.elapsed().as_micros() as u64).saturating_sub(aligned.since.0));
        let sync = began.elapsed();
        let snapshot = TakenSnapshot { task: self.task.task, checkpoint: aligned.checkpoint, taken, align, sync };
        self.task.events.send(TaskEvent::Snapshot(snapshot));
        Ok(())
    }
}

/// The time of day, in milliseconds since 1970-01-01T00:00:00Z.
#[must_use]
pub fn time_of_day_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
