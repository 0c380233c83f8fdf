//! What it costs to aggregate (the eight functions of Nexmark's q17 by auction and day, the sessions of q11), to keep
//! state, and to spread rows.

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use std::sync::Arc;
use weir_protocol::key_group::{KeyGroupMap, MaxParallelism};
use weir_protocol::snapshot::{KeyGroupRange, StateFile};
use weir_protocol::{EventTime, KeyGroup, OperatorId, TaskId};
use weir_worker::batch::Batch;
use weir_worker::checkpoint::store::Store;
use weir_worker::checkpoint::store::directory::DirectoryStore;
use weir_worker::dataflow::edge::{EdgeWriter, HashSpread, Spread};
use weir_worker::dataflow::inbox::{Inbox, Received};
use weir_worker::dataflow::metrics::{Ends, TaskMetrics};
use weir_worker::failure::Result;
use weir_worker::operator::aggregate::call::{Call, Function};
use weir_worker::operator::aggregate::{GroupAggregate, InputForm, LocalGroupAggregate, window};
use weir_worker::operator::snapshot::Restored;
use weir_worker::operator::window::Window;
use weir_worker::operator::{Counter, Operator, OperatorContext, Output};
use weir_worker::plan;
use weir_worker::state::file::{self, FileBuilder};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROWS: usize = 8192;
const BATCHES: usize = 256;

/// Forgets what it gets.
struct Nowhere;

impl Output for Nowhere {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        std::hint::black_box(batch.num_rows());
        Ok(())
    }

    fn watermark(&mut self, _watermark: EventTime) -> Result<()> {
        Ok(())
    }
}

/// A small generator of numbers, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn schema() -> SchemaRef {
    let flag = |name| Field::new(name, DataType::Boolean, true);
    Arc::new(Schema::new(vec![
        Field::new("auction", DataType::Int64, true),
        Field::new("day", DataType::Utf8View, true),
        Field::new("price", DataType::Int64, true),
        Field::new("time", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        flag("cheap"),
        flag("middle"),
        flag("dear"),
    ]))
}

fn call(function: Function, argument: Option<usize>, filter: Option<usize>) -> Call {
    Call {
        function,
        argument,
        filter,
        argument_type: argument.map(|_| DataType::Int64),
        result_type: DataType::Int64,
        name: format!("{function:?}{filter:?}"),
    }
}

fn q17_calls() -> Vec<Call> {
    let counts = [None, Some(4), Some(5), Some(6)].map(|filter| call(Function::CountRows, None, filter));
    let prices = [Function::Min, Function::Max, Function::Avg, Function::Sum].map(|f| call(f, Some(2), None));
    counts.into_iter().chain(prices).collect()
}

fn context() -> OperatorContext {
    OperatorContext {
        operator: OperatorId("bench".to_owned()),
        key_groups: vec![KeyGroupRange { start: KeyGroup(0), end: KeyGroup(128) }],
        max_parallelism: MaxParallelism::new(128).expect("128 is a number of key groups"),
        late_rows: Counter::default(),
        state_ttl: None,
    }
}

fn output(keys: &[usize], calls: &[Call], times: usize) -> SchemaRef {
    let time =
        |number: usize| Field::new(format!("t{number}"), DataType::Timestamp(TimeUnit::Millisecond, None), false);
    let keys = keys.iter().map(|key| schema().field(*key).clone());
    let results = calls.iter().map(|call| Field::new(&call.name, call.result_type.clone(), true));
    Arc::new(Schema::new(keys.chain(results).chain((0..times).map(time)).collect::<Vec<_>>()))
}

/// Bids whose auctions are drawn by `key` from the share of the run that has passed; ten thousand a second.
fn bids(mut key: impl FnMut(&mut Numbers, f64) -> i64) -> Vec<Batch> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let total = (ROWS * BATCHES) as f64;
    let batch = |number: usize| {
        let keys: Vec<i64> = (0..ROWS).map(|row| key(&mut numbers, (number * ROWS + row) as f64 / total)).collect();
        let prices: Vec<i64> = (0..ROWS).map(|_| 1 << numbers.below(26)).collect();
        let is = |test: &dyn Fn(i64) -> bool| -> ArrayRef {
            Arc::new(prices.iter().map(|price| Some(test(*price))).collect::<BooleanArray>())
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(keys)),
            Arc::new(StringViewArray::from_iter_values((0..ROWS).map(|_| "2026-11-20"))),
            Arc::new(Int64Array::from(prices.clone())),
            Arc::new(TimestampMillisecondArray::from_iter_values(
                (0..ROWS).map(|row| (number * ROWS + row) as i64 / 10),
            )),
            is(&|price| price < 10_000),
            is(&|price| (10_000..1_000_000).contains(&price)),
            is(&|price| price >= 1_000_000),
        ];
        Batch::inserts(RecordBatch::try_new(schema(), columns).expect("the columns fit the schema"))
    };
    (0..BATCHES).map(batch).collect()
}

fn uniform(keys: u64) -> Vec<Batch> {
    bids(move |numbers, _| numbers.below(keys) as i64)
}

/// Half of the rows of one recent key, the others of the last hundred.
fn skewed(keys: u64) -> Vec<Batch> {
    bids(move |numbers, share| {
        let last = (share * keys as f64) as u64;
        let key = if numbers.below(2) == 0 { last / 100 * 100 } else { last.saturating_sub(numbers.below(100)) };
        key as i64
    })
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, batches: &[Batch], operator: &mut dyn Operator) {
    for batch in batches {
        operator.process(0, batch.clone(), &mut Nowhere).expect("bids aggregate");
    }
    let mut next = batches.iter().cycle();
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let batch = next.next().expect("the batches go round").clone();
            operator.process(0, batch, &mut Nowhere).expect("bids aggregate");
        });
    });
}

fn groups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (data, batches) in [("10k", uniform(10_000)), ("300k", uniform(300_000)), ("300k skewed", skewed(300_000))] {
        for (name, keys) in [("auction", vec![0]), ("auction, day", vec![0, 1])] {
            let spec = plan::GroupAggregate { keys, calls: q17_calls(), state_ttl: None };
            let schemas = (schema(), output(&spec.keys, &spec.calls, 0));
            let mut whole = GroupAggregate::new(&spec, InputForm::Rows, &schemas.0, schemas.1, &context())
                .expect("bids can be grouped");
            measure(&mut group, &format!("{data} by {name}"), &batches, &mut whole);
            let mut local = LocalGroupAggregate::new(&spec, &schema(), &context()).expect("bids can be grouped");
            measure(&mut group, &format!("{data} by {name}, before the shuffle"), &batches, &mut local);
        }
    }
    group.finish();
}

/// Whole runs over event time: sessions open, grow and fire. `state` at the end is what the operator holds.
fn windows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("window");
    group.sample_size(10).throughput(Throughput::Elements((ROWS * BATCHES) as u64));
    let batches = skewed(60_000);
    let second = 1_000;
    let kinds = [
        ("session 10 s", Window::Session { gap_ms: 10 * second }),
        ("tumble 10 s", Window::Tumble { size_ms: 10 * second, offset_ms: 0 }),
        ("hop 2 s, 10 s", Window::Hop { slide_ms: 2 * second, size_ms: 10 * second, offset_ms: 0 }),
    ];
    for (name, window) in kinds {
        let spec = plan::WindowAggregate {
            window,
            time: 3,
            keys: vec![0],
            calls: vec![call(Function::CountRows, None, None)],
        };
        let keyed = || {
            let output = output(&spec.keys, &spec.calls, 3);
            window::keyed(&spec, InputForm::Rows, &schema(), output, &context()).expect("bids have windows")
        };
        let local = || window::local(&spec, &schema(), &context()).expect("bids have windows");
        group.bench_function(name, |bencher| bencher.iter(|| run(keyed().as_mut(), &batches)));
        group.bench_function(format!("{name}, before the shuffle"), |bencher| {
            bencher.iter(|| run(local().as_mut(), &batches));
        });
    }
    group.finish();
}

fn run(operator: &mut dyn Operator, batches: &[Batch]) {
    for (number, batch) in batches.iter().enumerate() {
        operator.process(0, batch.clone(), &mut Nowhere).expect("bids aggregate");
        let time = ((number + 1) * ROWS) as i64 / 10 - 4_000;
        operator.on_watermark(EventTime(time), &mut Nowhere).expect("bids aggregate");
    }
}

/// What a snapshot costs after one batch, whatever else is in the state.
fn snapshots(criterion: &mut Criterion) {
    let batches = uniform(300_000);
    let spec = plan::GroupAggregate { keys: vec![0], calls: q17_calls(), state_ttl: None };
    let output = output(&spec.keys, &spec.calls, 0);
    let mut operator =
        GroupAggregate::new(&spec, InputForm::Rows, &schema(), output, &context()).expect("bids can be grouped");
    for batch in &batches {
        operator.process(0, batch.clone(), &mut Nowhere).expect("bids aggregate");
    }
    operator.snapshot().expect("a snapshot needs no input");
    let mut next = batches.iter().cycle();
    criterion.bench_function("snapshot after 8192 of 300k groups changed", |bencher| {
        bencher.iter(|| {
            let batch = next.next().expect("the batches go round").clone();
            operator.process(0, batch, &mut Nowhere).expect("bids aggregate");
            operator.snapshot().expect("a snapshot needs no input")
        });
    });
}

/// What it costs to write a whole state, and to begin with it.
fn restores(criterion: &mut Criterion) {
    let spec = plan::GroupAggregate { keys: vec![0], calls: q17_calls(), state_ttl: None };
    let empty = || {
        let output = output(&spec.keys, &spec.calls, 0);
        GroupAggregate::new(&spec, InputForm::Rows, &schema(), output, &context()).expect("bids can be grouped")
    };
    let mut operator = empty();
    for batch in uniform(300_000) {
        operator.process(0, batch, &mut Nowhere).expect("bids aggregate");
    }
    let delta = operator.snapshot().expect("a snapshot needs no input").tables.remove(0);
    let encode = || {
        let mut builder = FileBuilder::new(&delta);
        builder.add(&delta).expect("a delta can be written");
        builder.finish().expect("a file ends").expect("there are groups")
    };
    let folder = tempfile::tempdir().expect("there is room for a state");
    let store = DirectoryStore::open(folder.path()).expect("the folder can be written");
    let encoded = encode();
    store.put_if_absent("state/groups", &encoded.body);
    let file = StateFile {
        path: "state/groups".to_owned(),
        table: delta.table.clone(),
        sequence: 1,
        bytes: encoded.body.len() as u64,
        rows: encoded.rows,
        checksum: encoded.checksum,
        key_groups: encoded.key_groups,
    };
    let mut group = criterion.benchmark_group("state of 300k groups");
    group.sample_size(10).throughput(Throughput::Elements(encoded.rows));
    group.bench_function("written", |bencher| bencher.iter(encode));
    group.bench_function("restored", |bencher| {
        bencher.iter(|| {
            let owned = context().key_groups;
            let tables = file::restore(&store, std::slice::from_ref(&file), &owned).expect("the file can be read");
            let mut operator = empty();
            operator.restore(Restored { tables, ..Restored::default() }).expect("it is its own state");
            operator
        });
    });
    group.finish();
}

/// Rows to the eight tasks that own their key groups.
fn partition(criterion: &mut Criterion) {
    const TASKS: u32 = 8;
    let groups = MaxParallelism::new(128).expect("128 is a number of key groups");
    let map = KeyGroupMap::initial(groups, TASKS).expect("there are more key groups than tasks");
    let inboxes: Vec<Arc<Inbox>> = (0..TASKS).map(|_| Inbox::new(1)).collect();
    let task = TaskId { chain: 0, subtask: 0 };
    let metrics = TaskMetrics::new(task, "bids".to_owned(), Ends::default());
    let spread = Spread::Hash(HashSpread::new(vec![0], Arc::new(map)));
    let mut edge = EdgeWriter::new(spread, inboxes.iter().map(|inbox| inbox.sender(0)).collect(), metrics);
    let batches = uniform(300_000);
    let mut next = batches.iter().cycle();
    let mut group = criterion.benchmark_group("partition");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("by auction to 8 tasks", |bencher| {
        bencher.iter(|| {
            edge.emit(next.next().expect("the batches go round").clone()).expect("there is room");
            edge.flush().expect("there is room");
            for inbox in &inboxes {
                while matches!(inbox.receive(), Ok(Received::Element(..))) {}
            }
        });
    });
    group.finish();
}

criterion_group!(benches, groups, windows, snapshots, restores, partition);
criterion_main!(benches);
