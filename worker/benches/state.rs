//! What keyed state costs: snapshots after much, little and nothing has changed, state files, and restores.

#[allow(dead_code, reason = "each benchmark uses a part")]
mod bids;

use bids::{Nowhere, ROWS, bids, context, q17};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};
use weir_protocol::snapshot::StateFile;
use weir_worker::batch::Batch;
use weir_worker::checkpoint::store::Store;
use weir_worker::checkpoint::store::directory::DirectoryStore;
use weir_worker::operator::Operator;
use weir_worker::operator::aggregate::GroupAggregate;
use weir_worker::operator::snapshot::{Restored, Snapshot, TableDelta};
use weir_worker::state::file::{self, FileBuilder};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const GROUPS: usize = 1 << 20;
const BATCHES: usize = GROUPS / ROWS;

/// Bids on all auctions in turn, a new one in each row.
fn every_group() -> Vec<Batch> {
    let mut auction = -1;
    let mut batches = bids(|_, _| {
        auction = (auction + 1) % GROUPS as i64;
        // Neighbours in time are no neighbours in the state.
        auction * 7_919 % GROUPS as i64
    });
    batches.truncate(BATCHES);
    batches
}

fn process(operator: &mut GroupAggregate, batches: &[Batch]) {
    for batch in batches {
        operator.process(0, batch.clone(), &mut Nowhere).expect("bids aggregate");
    }
}

fn snapshot(operator: &mut GroupAggregate) -> Snapshot {
    operator.snapshot().expect("a snapshot needs no input")
}

fn full(batches: &[Batch]) -> GroupAggregate {
    let mut operator = q17(vec![0]);
    process(&mut operator, batches);
    assert_eq!(operator.groups(), GROUPS);
    operator
}

/// The snapshot's own time, which is what the task stands still for; what is changed before is not counted.
fn snapshots(criterion: &mut Criterion) {
    let batches = every_group();
    let mut operator = full(&batches);
    snapshot(&mut operator);
    let megabytes = operator.state_bytes() / 1_000_000;
    let mut group = criterion.benchmark_group(format!("snapshot of 1 M groups, {megabytes} MB"));
    group.sample_size(20).throughput(Throughput::Bytes(operator.state_bytes() as u64));
    for (name, changed) in [("none changed", 0), ("0.8 % changed", 1), ("12.5 % changed", BATCHES / 8)] {
        let mut next = batches.chunks_exact(changed.max(1)).cycle();
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let mut taken = Duration::ZERO;
                for _ in 0..times {
                    process(&mut operator, &next.next().expect("the batches go round")[..changed]);
                    let began = Instant::now();
                    black_box(snapshot(&mut operator));
                    taken += began.elapsed();
                }
                taken
            });
        });
    }
    group.finish();
}

/// What runs beside the task: a snapshot of all groups as a file, read and taken over again.
fn files(criterion: &mut Criterion) {
    let mut operator = full(&every_group());
    let delta = snapshot(&mut operator).tables.remove(0);
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let store = DirectoryStore::open(folder.path()).expect("the folder can be written");
    let file = write(&store, &delta);
    let mut group = criterion.benchmark_group("state file of 1 M groups");
    group.sample_size(10).throughput(Throughput::Elements(GROUPS as u64));
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(encode(&delta).body.len())));
    group.bench_function("read", |bencher| {
        bencher.iter(|| black_box(restored(&store, &file).tables.len()));
    });
    group.bench_function("restore", |bencher| {
        bencher.iter(|| {
            let mut operator = q17(vec![0]);
            operator.restore(restored(&store, &file)).expect("the state is the operator's own");
            assert_eq!(operator.groups(), GROUPS);
        });
    });
    group.finish();
}

fn encode(delta: &TableDelta) -> file::Encoded {
    let mut builder = FileBuilder::new(delta).expect("memory for a compressor");
    builder.add(delta).expect("state can be encoded");
    builder.finish().expect("state can be encoded").expect("there are rows")
}

fn write(store: &DirectoryStore, delta: &TableDelta) -> StateFile {
    let encoded = encode(delta);
    let path = "state/groups/1-1".to_owned();
    store.put_if_absent(&path, &encoded.body);
    StateFile {
        path,
        table: delta.table.clone(),
        sequence: 1,
        bytes: encoded.body.len() as u64,
        rows: encoded.rows,
        checksum: encoded.checksum,
        key_groups: encoded.key_groups,
    }
}

fn restored(store: &DirectoryStore, file: &StateFile) -> Restored {
    let owned = context().key_groups;
    let tables = file::restore(store, std::slice::from_ref(file), &owned).expect("the file is sound");
    Restored { tables, ..Restored::default() }
}

criterion_group!(benches, snapshots, files);
criterion_main!(benches);
