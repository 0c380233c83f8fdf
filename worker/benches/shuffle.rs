//! What a keyed shuffle costs: hashing keys, and sending rows to the tasks that own them.

#[allow(dead_code, reason = "each benchmark uses a part")]
mod bids;

use bids::{ROWS, context, uniform};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use weir_protocol::TaskId;
use weir_protocol::key_group::KeyGroupMap;
use weir_worker::dataflow::edge::{EdgeWriter, HashSpread, Spread};
use weir_worker::dataflow::element::Element;
use weir_worker::dataflow::inbox::{Inbox, Received};
use weir_worker::dataflow::metrics::{Ends, TaskMetrics};
use weir_worker::operator::key_hash::hash_keys;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Keys by their columns in the bids.
const KEYS: [(&str, &[usize]); 3] = [("auction", &[0]), ("day", &[1]), ("auction, day", &[0, 1])];

fn hashes(criterion: &mut Criterion) {
    let batches = uniform(300_000);
    let mut group = criterion.benchmark_group("hash keys");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, columns) in KEYS {
        let mut next = batches.iter().cycle();
        let mut hashes = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let batch = next.next().expect("the batches go round");
                let keys: Vec<_> = columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
                hash_keys(&keys, batch.num_rows(), &mut hashes).expect("the keys have hashes");
                black_box(hashes.last().copied())
            });
        });
    }
    group.finish();
}

/// The output side of one task, and the inboxes of those it sends to.
struct Shuffle {
    writer: EdgeWriter,
    inboxes: Vec<Arc<Inbox>>,
}

impl Shuffle {
    fn new(columns: &[usize], targets: u32) -> Self {
        let map = KeyGroupMap::initial(context().max_parallelism, targets).expect("there are more key groups");
        let inboxes: Vec<_> = (0..targets).map(|_| Inbox::new(1)).collect();
        let senders = inboxes.iter().map(|inbox| inbox.sender(0)).collect();
        let task = TaskId { chain: 0, subtask: 0 };
        let metrics = TaskMetrics::new(task, String::new(), Ends::default());
        let spread = Spread::Hash(HashSpread::new(columns.to_vec(), Arc::new(map)));
        Self { writer: EdgeWriter::new(spread, senders, metrics), inboxes }
    }

    /// Takes what has arrived, which gives the credits back. Answers the number of rows.
    fn receive(&self) -> usize {
        let mut rows = 0;
        for inbox in &self.inboxes {
            while let Received::Element(_, element) = inbox.receive().expect("nobody is lost") {
                if let Element::Batch(batch) = element {
                    rows += batch.num_rows();
                }
            }
        }
        rows
    }
}

fn partitions(criterion: &mut Criterion) {
    let batches = uniform(300_000);
    let mut group = criterion.benchmark_group("shuffle");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, columns) in KEYS.into_iter().filter(|(name, _)| *name != "day") {
        for targets in [2, 8, 32] {
            let mut shuffle = Shuffle::new(columns, targets);
            let mut next = batches.iter().cycle();
            group.bench_function(format!("{name} to {targets} tasks"), |bencher| {
                bencher.iter(|| {
                    let batch = next.next().expect("the batches go round").clone();
                    shuffle.writer.emit(batch).expect("there is room");
                    black_box(shuffle.receive())
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, hashes, partitions);
criterion_main!(benches);
