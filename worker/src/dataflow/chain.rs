//! A chain: the operators of one task, each calling the next.
//!
//! A chain is a tree. Rows, watermarks and barriers go down depth first on the task's thread; the leaves are sinks and
//! the edges to other tasks. A barrier reaches an operator after all that the operators before it had held back.

use super::edge::EdgeWriter;
use super::element::{After, Barrier};
use super::metrics::TaskMetrics;
use crate::batch::Batch;
use crate::connector::{Prepared, SinkWriter};
use crate::failure::{Failure, Kind, Result};
use crate::operator::snapshot::Snapshot;
use crate::operator::{Operator, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_protocol::{EventTime, OperatorId};

/// One operator or sink with what follows it.
pub struct Step {
    /// The id of its state; absent for operators without any.
    pub id: Option<OperatorId>,
    /// For people.
    pub name: String,
    /// What it does.
    pub work: Work,
    /// Where its output goes.
    pub next: Vec<Next>,
}

/// What a step does.
pub enum Work {
    /// Transforms rows.
    Operator(Box<dyn Operator>),
    /// Writes rows to a table.
    Sink(Box<dyn SinkWriter>, Arc<TaskMetrics>),
}

/// Where a step's output goes.
pub enum Next {
    /// To a step of the same task, as this input of it.
    Step(Box<Step>, usize),
    /// To other tasks.
    Edge(EdgeWriter),
}

/// What one step hands over at a barrier.
pub struct Taken {
    /// The step's id.
    pub operator: OperatorId,
    /// Its part of the snapshot.
    pub part: Part,
}

/// The parts of a snapshot.
pub enum Part {
    /// Of an operator.
    State(Snapshot),
    /// Of a sink.
    Sink(Prepared),
    /// Of a source.
    Source(Vec<weir_protocol::snapshot::SplitProgress>),
}

/// The output of a step, as its operator sees it.
pub struct Downstream<'a>(pub &'a mut [Next]);

/// The output of a step whose operator hears of event time: what that sets free is as old as the rows that moved it.
struct Released<'a>(Downstream<'a>, Option<Instant>);

impl Output for Released<'_> {
    fn emit(&mut self, mut batch: Batch) -> Result<()> {
        batch.born = batch.born.or(self.1);
        self.0.emit(batch)
    }

    fn watermark(&mut self, watermark: EventTime) -> Result<()> {
        self.0.advance(watermark, self.1)
    }
}

impl Output for Downstream<'_> {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let Some((last, others)) = self.0.split_last_mut() else { return Ok(()) };
        for next in others {
            next.process(batch.clone())?;
        }
        last.process(batch)
    }

    fn watermark(&mut self, watermark: EventTime) -> Result<()> {
        self.advance(watermark, None)
    }
}

impl Downstream<'_> {
    /// Event time has advanced, by rows that were read at `born` if any did it.
    pub fn advance(&mut self, watermark: EventTime, born: Option<Instant>) -> Result<()> {
        self.0.iter_mut().try_for_each(|next| next.watermark(watermark, born))
    }

    /// Nothing waits at the inputs: everything held back goes out.
    pub fn on_idle(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(Next::on_idle)
    }

    /// Tells other tasks that this one does not hold event time back.
    pub fn idle(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(Next::idle)
    }

    /// A barrier that waits for nothing comes next.
    pub fn hurry(&mut self) {
        self.0.iter_mut().for_each(Next::hurry);
    }

    /// Takes the snapshots of all steps and sends the barrier on.
    pub fn barrier(&mut self, barrier: Barrier, taken: &mut Vec<Taken>) -> Result<()> {
        self.0.iter_mut().try_for_each(|next| next.barrier(barrier, taken))
    }

    /// The inputs have ended.
    pub fn end(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(Next::end)
    }

    /// How long all edges waited for room since the last call.
    pub fn take_waited(&mut self) -> Duration {
        self.0.iter_mut().map(Next::take_waited).sum()
    }

    /// Bytes of state of all steps.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.0.iter().map(Next::state_bytes).sum()
    }

    /// Tells all steps the time of day, in milliseconds since 1970.
    pub fn processing_time(&mut self, now_ms: i64) {
        for next in self.0.iter_mut() {
            if let Next::Step(step, _) = next {
                step.processing_time(now_ms);
            }
        }
    }
}

impl Next {
    fn process(&mut self, batch: Batch) -> Result<()> {
        match self {
            Self::Step(step, input) => step.process(*input, batch),
            Self::Edge(edge) => edge.emit(batch),
        }
    }

    fn watermark(&mut self, watermark: EventTime, born: Option<Instant>) -> Result<()> {
        match self {
            Self::Step(step, _) => step.watermark(watermark, born),
            Self::Edge(edge) => edge.watermark(watermark, born),
        }
    }

    fn on_idle(&mut self) -> Result<()> {
        match self {
            Self::Step(step, _) => step.on_idle(),
            Self::Edge(edge) => edge.flush(),
        }
    }

    fn idle(&mut self) -> Result<()> {
        match self {
            Self::Step(step, _) => Downstream(&mut step.next).idle(),
            Self::Edge(edge) => edge.idle(),
        }
    }

    fn hurry(&mut self) {
        match self {
            Self::Step(step, _) => step.hurry(),
            Self::Edge(edge) => edge.hurry(),
        }
    }

    fn barrier(&mut self, barrier: Barrier, taken: &mut Vec<Taken>) -> Result<()> {
        match self {
            Self::Step(step, _) => step.barrier(barrier, taken),
            Self::Edge(edge) => edge.barrier(barrier),
        }
    }

    fn end(&mut self) -> Result<()> {
        match self {
            Self::Step(step, _) => step.end(),
            Self::Edge(edge) => edge.end(),
        }
    }

    fn take_waited(&mut self) -> Duration {
        match self {
            Self::Step(step, _) => Downstream(&mut step.next).take_waited(),
            Self::Edge(edge) => edge.take_waited(),
        }
    }

    fn state_bytes(&self) -> usize {
        match self {
            Self::Step(step, _) => step.state_bytes(),
            Self::Edge(_) => 0,
        }
    }
}

impl Step {
    /// Handles rows.
    pub fn process(&mut self, input: usize, batch: Batch) -> Result<()> {
        match &mut self.work {
            Work::Operator(operator) => operator.process(input, batch, &mut Downstream(&mut self.next)),
            Work::Sink(writer, metrics) => write(writer.as_mut(), metrics, &batch),
        }
        .map_err(|failure| named(failure, &self.name))
    }

    /// Event time has advanced, by rows that were read at `born` if any did it.
    pub fn watermark(&mut self, watermark: EventTime, born: Option<Instant>) -> Result<()> {
        match &mut self.work {
            Work::Operator(operator) => operator
                .on_watermark(watermark, &mut Released(Downstream(&mut self.next), born))
                .map_err(|failure| named(failure, &self.name)),
            Work::Sink(..) => Ok(()),
        }
    }

    /// Nothing waits at the inputs.
    pub fn on_idle(&mut self) -> Result<()> {
        match &mut self.work {
            Work::Operator(operator) => operator.on_idle(&mut Downstream(&mut self.next)),
            Work::Sink(writer, _) => writer.on_idle(),
        }
        .map_err(|failure| named(failure, &self.name))?;
        Downstream(&mut self.next).on_idle()
    }

    /// A barrier that waits for nothing comes next.
    pub fn hurry(&mut self) {
        Downstream(&mut self.next).hurry();
    }

    /// A barrier: what is held back goes out, the snapshot is taken, the barrier goes on.
    pub fn barrier(&mut self, barrier: Barrier, taken: &mut Vec<Taken>) -> Result<()> {
        let part = match &mut self.work {
            Work::Operator(operator) => operator
                .before_barrier(&mut Downstream(&mut self.next))
                .and_then(|()| operator.snapshot())
                .map(Part::State),
            Work::Sink(writer, _) => writer.prepare(barrier.checkpoint, barrier.after != After::More).map(Part::Sink),
        }
        .map_err(|failure| named(failure, &self.name))?;
        if let Some(operator) = &self.id {
            taken.push(Taken { operator: operator.clone(), part });
        }
        Downstream(&mut self.next).barrier(barrier, taken)
    }

    /// The inputs have ended.
    pub fn end(&mut self) -> Result<()> {
        if let Work::Operator(operator) = &mut self.work {
            operator.on_end(&mut Downstream(&mut self.next)).map_err(|failure| named(failure, &self.name))?;
        }
        Downstream(&mut self.next).end()
    }

    /// Bytes of state of this step and all behind it.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        let own = match &self.work {
            Work::Operator(operator) => operator.state_bytes(),
            Work::Sink(..) => 0,
        };
        own + self.next.iter().map(Next::state_bytes).sum::<usize>()
    }

    /// The operators of this step and all behind it that have state of their own.
    pub fn into_operators(self, operators: &mut Vec<(OperatorId, Box<dyn Operator>)>) {
        if let (Some(id), Work::Operator(operator)) = (self.id, self.work) {
            operators.push((id, operator));
        }
        for next in self.next {
            if let Next::Step(step, _) = next {
                step.into_operators(operators);
            }
        }
    }

    /// Tells this step and all behind it the time of day, in milliseconds since 1970.
    pub fn processing_time(&mut self, now_ms: i64) {
        if let Work::Operator(operator) = &mut self.work {
            operator.set_processing_time(now_ms);
        }
        Downstream(&mut self.next).processing_time(now_ms);
    }
}

fn write(writer: &mut dyn SinkWriter, metrics: &TaskMetrics, batch: &Batch) -> Result<()> {
    writer.write(batch)?;
    metrics.rows_out.add(batch.num_rows() as u64);
    metrics.rows_written.add(batch.num_rows() as u64);
    metrics.bytes_out.add(batch.bytes() as u64);
    if let Some(born) = batch.born {
        metrics.latency.observe(Instant::now().duration_since(born), batch.num_rows() as u64);
    }
    Ok(())
}

/// Says which step failed, once.
fn named(failure: Failure, name: &str) -> Failure {
    if failure.kind == Kind::Cancelled { failure } else { failure.within_step(name) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::record_batch::RecordBatch;
    use std::sync::mpsc;

    fn rows() -> Batch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        Batch::inserts(RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1]))]).unwrap())
    }

    /// Keeps rows until event time advances.
    #[derive(Default)]
    struct Window(Vec<Batch>);

    impl Operator for Window {
        fn process(&mut self, _input: usize, batch: Batch, _out: &mut dyn Output) -> Result<()> {
            self.0.push(Batch { born: None, ..batch });
            Ok(())
        }

        fn on_watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<()> {
            self.0.drain(..).try_for_each(|batch| out.emit(batch))?;
            out.watermark(watermark)
        }
    }

    /// Says when the rows were read that come.
    struct Looks(mpsc::Sender<Option<Instant>>);

    impl Operator for Looks {
        fn process(&mut self, _input: usize, batch: Batch, _out: &mut dyn Output) -> Result<()> {
            self.0.send(batch.born).unwrap();
            Ok(())
        }
    }

    fn step(operator: Box<dyn Operator>, next: Vec<Next>) -> Step {
        Step { id: None, name: "step".to_owned(), work: Work::Operator(operator), next }
    }

    #[test]
    fn what_event_time_sets_free_is_as_old_as_the_rows_that_moved_it() {
        let (looks, born) = mpsc::channel();
        let after = |operator: Box<dyn Operator>, step: Step| self::step(operator, vec![Next::Step(Box::new(step), 0)]);
        // Also through a second window, whose rows were never read.
        let last = step(Box::new(Looks(looks)), Vec::new());
        let mut chain = after(Box::<Window>::default(), after(Box::<Window>::default(), last));
        let early = Instant::now();
        let late = early + Duration::from_secs(1);
        chain.process(0, Batch { born: Some(early), ..rows() }).unwrap();
        chain.watermark(EventTime(7), Some(late)).unwrap();
        chain.process(0, Batch { born: Some(late), ..rows() }).unwrap();
        chain.watermark(EventTime(8), None).unwrap();
        assert_eq!(born.try_iter().collect::<Vec<_>>(), [Some(late), None]);
    }
}
