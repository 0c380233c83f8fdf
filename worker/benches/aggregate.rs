//! What it costs to aggregate: the eight functions of Nexmark's q17 by auction and day, and the sessions of q11.

#[allow(dead_code, reason = "each benchmark uses a part")]
mod bids;

use bids::{BATCHES, Nowhere, ROWS, call, context, output, q17_calls, schema, skewed, uniform};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use weir_protocol::EventTime;
use weir_worker::batch::Batch;
use weir_worker::operator::Operator;
use weir_worker::operator::aggregate::call::Function;
use weir_worker::operator::aggregate::{GroupAggregate, InputForm, LocalGroupAggregate, window};
use weir_worker::operator::window::Window;
use weir_worker::plan;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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

criterion_group!(benches, groups, windows);
criterion_main!(benches);
