//! How fast JSON becomes columns: Nexmark's events, with all columns, with those of a query about bids, and with one.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use weir_worker::format::RecordDecoder;
use weir_worker::format::json::{JsonDecoder, JsonOptions};
use weir_worker::format::record_reader::{Framing, RecordReader};

fn events() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nexmark/events.jsonl.gz");
    let file = std::fs::File::open(path).expect("the example's events are there");
    let mut events = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut events).expect("the example's events are sound");
    events
}

fn schema() -> SchemaRef {
    let column = |name: &&str| {
        let data_type = match *name {
            "dateTime" | "expires" => DataType::Timestamp(TimeUnit::Millisecond, None),
            "id" | "auction" | "bidder" | "price" | "initialBid" | "reserve" | "seller" | "category" => DataType::Int64,
            _ => DataType::Utf8View,
        };
        Field::new(*name, data_type, true)
    };
    let row =
        |name: &str, fields: &[&str]| Field::new(name, DataType::Struct(fields.iter().map(column).collect()), true);
    Arc::new(Schema::new(vec![
        Field::new("event_type", DataType::Int32, true),
        row("person", &["id", "name", "emailAddress", "creditCard", "city", "state", "dateTime", "extra"]),
        row(
            "auction",
            &[
                "id",
                "itemName",
                "description",
                "initialBid",
                "reserve",
                "dateTime",
                "expires",
                "seller",
                "category",
                "extra",
            ],
        ),
        row("bid", &["auction", "bidder", "price", "channel", "url", "dateTime", "extra"]),
    ]))
}

fn decode(events: &Arc<[u8]>, decoder: &mut JsonDecoder) -> usize {
    let mut reader = RecordReader::new(Box::new(Cursor::new(Arc::clone(events))), 0, Framing::Lines, 1 << 20);
    let mut rows = 0;
    while let Some(record) = reader.next_record().expect("memory can be read") {
        decoder.push(record.bytes).expect("the events are of the schema");
        if decoder.rows() == 8192 {
            rows += black_box(decoder.take()).num_rows();
        }
    }
    rows + black_box(decoder.take()).num_rows()
}

fn json(criterion: &mut Criterion) {
    let (events, schema): (Arc<[u8]>, _) = (events().into(), schema());
    let mut group = criterion.benchmark_group("json");
    group.throughput(Throughput::Bytes(events.len() as u64));
    for (name, projection) in [("all columns", &[0, 1, 2, 3][..]), ("bids", &[0, 3]), ("one column", &[0])] {
        let mut decoder = JsonDecoder::new(JsonOptions::default(), &schema, projection);
        group.bench_function(name, |bencher| bencher.iter(|| decode(&events, &mut decoder)));
    }
    group.finish();
}

criterion_group!(benches, json);
criterion_main!(benches);
