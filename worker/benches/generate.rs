//! What it costs to make events: batches of the source `nexmark`, all columns.

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use weir_protocol::EventTime;
use weir_protocol::snapshot::SplitProgress;
use weir_worker::connector::options::Options;
use weir_worker::connector::{Environment, Poll, ReaderContext, SourceReader, TableShape, source};
use weir_worker::stop::Stop;

fn row(numbers: &[&str], times: &[&str], texts: &[&str]) -> DataType {
    let fields = |names: &[&str], data_type: DataType| -> Vec<Field> {
        names.iter().map(|name| Field::new(*name, data_type.clone(), true)).collect()
    };
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let all = [fields(numbers, DataType::Int64), fields(times, time), fields(texts, DataType::Utf8View)].concat();
    DataType::Struct(Fields::from(all))
}

fn reader() -> Box<dyn SourceReader> {
    let person = row(&["id"], &["dateTime"], &["name", "emailAddress", "creditCard", "city", "state", "extra"]);
    let auction_numbers = ["id", "initialBid", "reserve", "seller", "category"];
    let auction = row(&auction_numbers, &["dateTime", "expires"], &["itemName", "description", "extra"]);
    let bid = row(&["auction", "bidder", "price"], &["dateTime"], &["channel", "url", "extra"]);
    let columns = [("event_type", DataType::Int32), ("person", person), ("auction", auction), ("bid", bid)];
    let fields: Vec<Field> = columns.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect();
    let shape = TableShape {
        name: "events".to_owned(),
        schema: Arc::new(Schema::new(fields)),
        metadata: vec![],
        partitioned_by: vec![],
        primary_key: vec![],
    };
    let options = Options::of("events", &[("connector", "nexmark")]);
    let source = source(&options, &shape, &Environment::default()).expect("the options are sound");
    let context = ReaderContext {
        projection: vec![0, 1, 2, 3],
        subtask: 0,
        parallelism: 1,
        max_rows: ReaderContext::FULL_BATCH,
        stop: Stop::default(),
    };
    let mut reader = source.reader(context).expect("a generator needs nothing to start");
    let splits = source.enumerator().and_then(|mut splits| splits.discover()).expect("splits are known beforehand");
    for split in splits {
        let progress =
            SplitProgress { split: split.name, position: split.start, watermark: EventTime::MIN, finished: false };
        reader.add_split(&progress).expect("a split starts at a position of its own");
    }
    reader
}

fn nexmark(criterion: &mut Criterion) {
    let mut reader = reader();
    let mut group = criterion.benchmark_group("generate");
    group.throughput(Throughput::Elements(8192));
    group.bench_function("nexmark", |bencher| {
        bencher.iter(|| match reader.poll().expect("making events does not fail") {
            Poll::Rows(rows) => black_box(rows.batch.num_rows()),
            Poll::NotBefore(_) | Poll::Away(_) | Poll::NeedSplit => {
                unreachable!("a source without end at full speed has rows")
            }
        });
    });
    group.finish();
}

criterion_group!(benches, nexmark);
criterion_main!(benches);
