//! A sink that is slower than its source: the rows between them are bounded, whatever the source could read.

use super::{AfterEnd, plan, runner_of};
use crate::batch::Batch;
use crate::connector::{
    Assignment, Enumerator, Poll, Prepared, ReaderContext, Sink, SinkWriter, Source, SourceReader, WriterContext,
};
use crate::dataflow::inbox::CHANNEL_BUDGET;
use crate::failure::Result;
use crate::operator::aggregate::call::{Call, Function};
use crate::plan::{Changelog, GroupAggregate, Node, NodeKind, Plan};
use arrow::datatypes::{DataType, Field, Schema};
use parking_lot::{Condvar, Mutex};
use std::path::Path;
use std::sync::Arc;
use weir_protocol::leader::{End, Resume};
use weir_protocol::snapshot::SplitProgress;
use weir_protocol::{CheckpointId, OperatorId};

const ROWS: u32 = 600_000;
const TASKS: u64 = 2;

/// Rows read and rows written, with those who wait for either.
#[derive(Default)]
struct Flow {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    read: u64,
    written: u64,
    most_between: u64,
}

impl Flow {
    fn read(&self, rows: u64) {
        let mut counts = self.counts.lock();
        counts.read += rows;
        counts.most_between = counts.most_between.max(counts.read - counts.written);
        self.changed.notify_all();
    }

    /// Rows leave only when sources have run as far ahead as channels let them, or are at their end.
    fn write(&self, rows: u64) {
        let mut counts = self.counts.lock();
        let far_ahead = TASKS * (CHANNEL_BUDGET.rows - ReaderContext::FULL_BATCH as u64);
        self.changed.wait_while(&mut counts, |counts| {
            counts.read < u64::from(ROWS) && counts.read - counts.written < far_ahead
        });
        counts.written += rows;
    }
}

/// A source whose rows are counted.
struct Counted(Arc<dyn Source>, Arc<Flow>);

impl Source for Counted {
    fn assignment(&self) -> Assignment {
        self.0.assignment()
    }

    fn is_bounded(&self) -> bool {
        self.0.is_bounded()
    }

    fn enumerator(&self) -> Result<Box<dyn Enumerator>> {
        self.0.enumerator()
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(CountedReader(self.0.reader(context)?, Arc::clone(&self.1))))
    }
}

struct CountedReader(Box<dyn SourceReader>, Arc<Flow>);

impl SourceReader for CountedReader {
    fn add_split(&mut self, split: &SplitProgress) -> Result<()> {
        self.0.add_split(split)
    }

    fn poll(&mut self) -> Result<Poll> {
        let poll = self.0.poll()?;
        if let Poll::Rows(rows) = &poll {
            self.1.read(rows.batch.num_rows() as u64);
        }
        Ok(poll)
    }

    fn positions(&self) -> Vec<SplitProgress> {
        self.0.positions()
    }
}

struct SlowSink(Arc<Flow>);

impl Sink for SlowSink {
    fn takes_changelog(&self) -> bool {
        true
    }

    fn writer(&self, _: WriterContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl SinkWriter for SlowSink {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.0.write(batch.num_rows() as u64);
        Ok(())
    }

    fn prepare(&mut self, _: CheckpointId, _: bool) -> Result<Prepared> {
        Ok(Prepared::default())
    }
}

/// Counts numbers that are all different: each row goes through the shuffle.
fn counting_plan(folder: &Path, flow: &Arc<Flow>) -> Plan {
    let mut plan = plan(ROWS, folder);
    let schema =
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("times", DataType::Int64, true)]));
    let count = Call {
        function: Function::CountRows,
        argument: None,
        filter: None,
        argument_type: None,
        result_type: DataType::Int64,
        name: "times".into(),
    };
    let aggregate = Node {
        id: Some(OperatorId("counts".into())),
        name: "counts".into(),
        kind: NodeKind::GroupAggregate(GroupAggregate { keys: vec![0], calls: vec![count], state_ttl: None }),
        inputs: vec![0],
        schema: Arc::clone(&schema),
        changelog: Changelog::Retract,
    };
    plan.nodes.insert(1, aggregate);
    let NodeKind::Source(source) = &mut plan.nodes[0].kind else { panic!("the first node reads") };
    source.source = Arc::new(Counted(Arc::clone(&source.source), Arc::clone(flow)));
    plan.nodes[2].inputs = vec![1];
    plan.nodes[2].schema = schema;
    plan.nodes[2].changelog = Changelog::Retract;
    let NodeKind::Sink(sink) = &mut plan.nodes[2].kind else { panic!("the last node writes") };
    sink.sink = Arc::new(SlowSink(Arc::clone(flow)));
    plan
}

#[test]
fn a_slow_sink_holds_its_sources_back() {
    let folder = tempfile::tempdir().unwrap();
    let flow = Arc::new(Flow::default());
    let plan = counting_plan(folder.path(), &flow);
    let end = runner_of(plan, folder.path(), Resume::Head, AfterEnd::Leave).run();
    assert!(matches!(end, End::Finished { .. }), "{end:?}");
    let counts = *flow.counts.lock();
    assert_eq!((counts.read, counts.written), (ROWS.into(), ROWS.into()));
    // A full channel from each task to each, and what each of the four has in its hands: a batch that it reads, groups
    // that the local part holds, a batch that it writes.
    let in_channels = TASKS * TASKS * CHANNEL_BUDGET.rows;
    let in_hands = TASKS * 2 * CHANNEL_BUDGET.rows;
    assert!(counts.most_between <= in_channels + in_hands, "{counts:?}");
}
