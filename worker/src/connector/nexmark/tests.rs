//! Tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::super::{Environment, Poll, ReaderContext, Source, TableShape, source as table_source};
use super::*;
use crate::stop::Stop;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema, TimeUnit, TimestampMillisecondType};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use weir_protocol::EventTime;
use weir_protocol::snapshot::SplitProgress;

fn row(fields: &str) -> DataType {
    let field = |name: &str| {
        let data_type = match name {
            "id" | "initialBid" | "reserve" | "seller" | "category" | "auction" | "bidder" | "price" => DataType::Int64,
            "dateTime" | "expires" => DataType::Timestamp(TimeUnit::Millisecond, None),
            _ => DataType::Utf8View,
        };
        Field::new(name, data_type, true)
    };
    DataType::Struct(fields.split(' ').map(field).collect())
}

/// A table of columns `name: field field …`, or the whole one.
fn shape(columns: &[(&str, &str)]) -> TableShape {
    let whole = [
        ("event_type", ""),
        ("person", "id name emailAddress creditCard city state dateTime extra"),
        ("auction", "id itemName description initialBid reserve dateTime expires seller category extra"),
        ("bid", "auction bidder price channel url dateTime extra"),
    ];
    let columns = if columns.is_empty() { &whole[..] } else { columns };
    let field = |(name, fields): &(&str, &str)| {
        Field::new(*name, if fields.is_empty() { DataType::Int32 } else { row(fields) }, true)
    };
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    TableShape { name: "events".to_owned(), schema, metadata: vec![], partitioned_by: vec![], primary_key: vec![] }
}

fn open(pairs: &[(&str, &str)], shape: &TableShape) -> Result<Arc<dyn Source>, Vec<Diagnostic>> {
    let pairs = [&[("connector", "nexmark")], pairs].concat();
    table_source(&Options::of("events", &pairs), shape, &Environment::default())
}

fn context(shape: &TableShape) -> ReaderContext {
    let projection = (0..shape.schema.fields().len()).collect();
    let (max_rows, stop) = (ReaderContext::FULL_BATCH, Stop::default());
    ReaderContext { projection, subtask: 0, parallelism: 1, max_rows, stop }
}

fn splits(source: &Arc<dyn Source>) -> Vec<SplitProgress> {
    let splits = source.enumerator().unwrap().discover().unwrap();
    let progress = |split: super::super::Split| SplitProgress {
        split: split.name,
        position: split.start,
        watermark: EventTime::MIN,
        finished: false,
    };
    splits.into_iter().map(progress).collect()
}

/// Reads `splits` with one reader for `polls` batches or to the end: its batches, and where it then is.
fn read(
    source: &Arc<dyn Source>,
    shape: &TableShape,
    splits: &[SplitProgress],
    polls: usize,
) -> (Vec<RecordBatch>, Vec<SplitProgress>) {
    let mut reader = source.reader(context(shape)).unwrap();
    for split in splits {
        reader.add_split(split).unwrap();
    }
    let mut batches = Vec::new();
    while batches.len() < polls {
        match reader.poll().unwrap() {
            Poll::Rows(rows) => batches.push(rows.batch.rows),
            Poll::NotBefore(_) | Poll::Away(_) => panic!("a source at full speed does not wait"),
            Poll::NeedSplit => break,
        }
    }
    (batches, reader.positions())
}

/// All rows in the order in which one reader returns them.
fn all(pairs: &[(&str, &str)]) -> RecordBatch {
    let shape = shape(&[]);
    let source = open(pairs, &shape).unwrap();
    let (batches, _) = read(&source, &shape, &splits(&source), usize::MAX);
    concat_batches(&shape.schema, &batches).unwrap()
}

fn field(rows: &RecordBatch, column: &str, field: &str) -> ArrayRef {
    let column = rows.column_by_name(column).unwrap().as_struct();
    let values = column.column_by_name(field).unwrap();
    assert_eq!(values.nulls(), column.nulls(), "a field has the nulls of its event");
    let kept = arrow::compute::is_not_null(values).unwrap();
    arrow::compute::filter(values, &kept).unwrap()
}

fn numbers(rows: &RecordBatch, column: &str, name: &str) -> Vec<i64> {
    field(rows, column, name).as_primitive::<Int64Type>().values().to_vec()
}

fn times(rows: &RecordBatch, column: &str, name: &str) -> Vec<i64> {
    field(rows, column, name).as_primitive::<TimestampMillisecondType>().values().to_vec()
}

fn texts(rows: &RecordBatch, column: &str, name: &str) -> Vec<String> {
    field(rows, column, name).as_string_view().iter().map(|text| text.unwrap().to_owned()).collect()
}

/// Every row as one text, in any order.
fn multiset(batches: &[RecordBatch]) -> BTreeMap<String, usize> {
    let mut rows = BTreeMap::new();
    for batch in batches {
        let options = arrow::util::display::FormatOptions::default();
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| arrow::util::display::ArrayFormatter::try_new(column, &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let text: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            *rows.entry(text.join("|")).or_insert(0) += 1;
        }
    }
    rows
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

#[test]
fn of_fifty_events_one_is_a_person_three_are_auctions_and_the_rest_bids() {
    let rows = all(&[("events.num", "20000")]);
    let types = rows.column(0).as_primitive::<Int32Type>().values().to_vec();
    for round in types.chunks(50) {
        let expected: Vec<i32> = [vec![0; 1], vec![1; 3], vec![2; 46]].concat();
        assert_eq!(round, expected);
    }
    for (code, column) in [(0, "person"), (1, "auction"), (2, "bid")] {
        let column = rows.column_by_name(column).unwrap();
        assert!(
            (0..types.len()).all(|row| column.is_valid(row) == (types[row] == code)),
            "only its own events are there"
        );
    }
}

#[test]
fn values_are_spread_as_in_the_frozen_events_of_the_benchmark() {
    let rows = all(&[("events.num", "20000"), ("first-event.rate", "500")]);
    let check = |what: &str, ours: f64, frozen: f64, tolerance: f64| {
        assert!((ours - frozen).abs() <= tolerance, "{what}: {ours}, in the benchmark {frozen}");
    };
    let lengths = [
        ("bid", "channel", 8.99, 0.15, 5, 12),
        ("bid", "url", 63.18, 0.6, 52, 77),
        ("bid", "extra", 67.51, 0.3, 54, 81),
        ("auction", "itemName", 10.99, 0.5, 1, 19),
        ("auction", "description", 49.25, 2.5, 1, 99),
        ("auction", "extra", 389.8, 5.0, 270, 527),
        ("person", "name", 11.48, 0.2, 10, 15),
        ("person", "emailAddress", 12.68, 0.3, 7, 15),
        ("person", "creditCard", 19.0, 0.0, 19, 19),
        ("person", "city", 7.57, 0.5, 4, 13),
        ("person", "state", 2.0, 0.0, 2, 2),
        ("person", "extra", 138.3, 3.0, 104, 180),
    ];
    for (column, name, frozen, tolerance, least, most) in lengths {
        let values = texts(&rows, column, name);
        check(
            &format!("length of {column}.{name}"),
            mean(values.iter().map(|text| text.len() as f64)),
            frozen,
            tolerance,
        );
        assert!(values.iter().all(|text| (least..=most).contains(&text.len())), "lengths of {column}.{name}");
    }
    let bids = numbers(&rows, "bid", "auction").len() as f64;
    let share = |column: &str, name: &str, hot: &dyn Fn(i64) -> bool| {
        let values = numbers(&rows, column, name);
        values.iter().filter(|value| hot(**value)).count() as f64 / values.len() as f64
    };
    check("hot auctions", share("bid", "auction", &|id| id % 100 == 0), 9322.0 / bids, 0.015);
    check("hot bidders", share("bid", "bidder", &|id| id % 100 == 1), 13939.0 / bids, 0.015);
    check("hot sellers", share("auction", "seller", &|id| id % 100 == 0), 913.0 / 1200.0, 0.04);
    let channels = texts(&rows, "bid", "channel");
    check(
        "hot channels",
        channels.iter().filter(|name| !name.starts_with("channel-")).count() as f64 / bids,
        0.493,
        0.015,
    );
    let mut prices = numbers(&rows, "bid", "price");
    prices.sort_unstable();
    for (quantile, frozen) in
        [(0.1, 414.0), (0.25, 3135.0), (0.5, 97_433.0), (0.75, 3_289_080.0), (0.9, 26_638_489.0_f64)]
    {
        let ours = prices[(prices.len() as f64 * quantile) as usize] as f64;
        check(&format!("price at {quantile}"), ours.log10(), frozen.log10(), 0.1);
    }
    assert!(prices[0] >= 100 && *prices.last().unwrap() <= 100_000_000, "prices lie between 100 and 10^8");
    let (opens, expires) = (times(&rows, "auction", "dateTime"), times(&rows, "auction", "expires"));
    check("length of auctions", mean(opens.iter().zip(&expires).map(|(from, to)| (to - from) as f64)), 3353.0, 150.0);
    assert!(numbers(&rows, "auction", "category").iter().all(|category| (10..15).contains(category)));
}

#[test]
fn ids_stay_near_the_latest_of_their_kind() {
    let rows = all(&[("events.num", "100000")]);
    let types = rows.column(0).as_primitive::<Int32Type>().values();
    let mut people = numbers(&rows, "person", "id").into_iter();
    let mut auctions = numbers(&rows, "auction", "id").into_iter();
    let mut bids = numbers(&rows, "bid", "auction").into_iter().zip(numbers(&rows, "bid", "bidder"));
    let (mut latest_person, mut latest_auction) = (999, 999);
    for event_type in types {
        match event_type {
            0 => latest_person = people.next().filter(|id| *id == latest_person + 1).unwrap(),
            1 => latest_auction = auctions.next().filter(|id| *id == latest_auction + 1).unwrap(),
            _ => {
                let (auction, bidder) = bids.next().unwrap();
                assert!((latest_auction - 100..=latest_auction + 10).contains(&auction), "auction {auction}");
                assert!((latest_person - 1000..=latest_person + 10).contains(&(bidder - 1000)), "bidder {bidder}");
            }
        }
    }
}

#[test]
fn events_follow_each_other_at_the_pace_of_event_time() {
    let check = |rate: &str, expected: &[i64]| {
        let rows = all(&[("events.num", "500"), ("first-event.rate", rate), ("base-time", "2026-01-01 00:00:00.5")]);
        let times = times(&rows, "bid", "dateTime");
        let first_bids: Vec<i64> = times[..expected.len()].iter().map(|time| time - BASE_TIME_MS - 500).collect();
        assert_eq!(first_bids, expected, "rate {rate}");
        assert_eq!(*times.last().unwrap() - BASE_TIME_MS - 500, 499 * 1000 / rate.parse::<i64>().unwrap());
    };
    check("500", &[8, 10, 12, 14]);
    check("10000", &[0, 0, 0, 0, 0, 0, 1]);
    check("3", &[1333, 1666, 2000]);
    check("1", &[4000, 5000]);
    check("700", &[5, 7, 8, 10]);
}

#[test]
fn a_channel_always_has_the_same_page() {
    let rows = all(&[("events.num", "20000")]);
    let mut pages = HashMap::new();
    let mut with_id = 0;
    for (channel, page) in texts(&rows, "bid", "channel").into_iter().zip(texts(&rows, "bid", "url")) {
        assert_eq!(pages.entry(channel.clone()).or_insert_with(|| page.clone()), &page);
        assert_eq!(page.split('/').count(), 7, "{page}");
        let id = page.split_once("&channel_id=").map(|(_, id)| id.parse::<u32>().unwrap());
        if let Some(id) = id {
            let number: i32 = channel.strip_prefix("channel-").unwrap().parse().unwrap();
            assert_eq!(id, number.reverse_bits().unsigned_abs());
            with_id += 1;
        }
    }
    assert!((8000..9000).contains(&with_id), "nine in ten of half of the bids: {with_id}");
}

#[test]
fn a_seed_makes_its_own_events() {
    let events = |seed: &str| all(&[("events.num", "2000"), ("seed", seed)]);
    assert_eq!(events("7"), events("7"));
    assert_ne!(events("7"), events("8"));
    assert_eq!(events("0"), all(&[("events.num", "2000")]));
}

#[test]
fn columns_and_fields_may_be_missing_and_reordered() {
    let shape = shape(&[("bid", "extra auction dateTime"), ("event_type", "")]);
    let source = open(&[("events.num", "1000")], &shape).unwrap();
    let (batches, _) = read(&source, &shape, &splits(&source), usize::MAX);
    let rows = concat_batches(&shape.schema, &batches).unwrap();
    let whole = all(&[("events.num", "1000")]);
    for name in ["extra", "auction", "dateTime"] {
        assert_eq!(&field(&rows, "bid", name), &field(&whole, "bid", name));
    }
}

#[test]
fn batches_have_no_more_rows_than_asked_for() {
    let shape = shape(&[]);
    let source = open(&[("events.num", "1000000")], &shape).unwrap();
    let mut reader = source.reader(ReaderContext { max_rows: 50, ..context(&shape) }).unwrap();
    reader.add_split(&splits(&source)[0]).unwrap();
    let Poll::Rows(rows) = reader.poll().unwrap() else { panic!("a source at full speed has rows") };
    assert_eq!(rows.batch.num_rows(), 50);
}

#[test]
fn mistakes_in_a_table_are_told_with_what_was_meant() {
    let check = |pairs: &[(&str, &str)], columns: &[(&str, &str)], expected: &str| {
        let mistakes = open(pairs, &shape(columns)).err().unwrap_or_default();
        let told: Vec<String> = mistakes.iter().map(|mistake| mistake.render("").replace('\n', " / ")).collect();
        assert!(told.iter().any(|text| text.contains(expected)), "{expected:?} is not in {told:?}");
    };
    check(&[("event.num", "5")], &[], "unknown option 'event.num' / hint: did you mean 'events.num'?");
    check(&[("events.num", "many")], &[], "'many' is no value for 'events.num'");
    check(&[("rate", "0")], &[], "a whole number from 1 to");
    check(&[("splits", "0")], &[], "'0' is no value for 'splits'");
    check(&[("next-event.rate", "5")], &[], "differs from 'first-event.rate'");
    check(&[("base-time", "tomorrow")], &[], "a time such as '2026-01-01 00:00:00' expected");
    check(&[("bid.avg-size", "1 gb")], &[], "'bid.avg-size' is larger");
    check(&[("auction.proportion", "0")], &[], "'0' is no value for 'auction.proportion'");
    check(&[], &[("bids", "auction")], "nexmark has no column 'bids' / hint: did you mean 'bid'?");
    check(&[], &[("bid", "prize")], "column 'bid' of nexmark has no field 'prize' / hint: did you mean 'price'?");
    check(&[], &[("bid", "")], "column 'bid' of nexmark is a ROW<auction BIGINT");
    check(&[], &[("event_type", "price")], "column 'event_type' of nexmark is an INT");
    check(&[], &[("auction", "city")], "has no field 'city'");
    check(&[], &[("person", "id"), ("shop", "id")], "nexmark has event_type, person, auction and bid");
}

#[test]
fn a_field_of_another_type_and_a_column_that_cannot_be_null_are_refused() {
    let check = |field: Field, expected: &str| {
        let schema = Arc::new(Schema::new(vec![field]));
        let mistakes = open(&[], &TableShape { schema, ..shape(&[]) }).err().unwrap_or_default();
        assert!(mistakes.iter().any(|mistake| mistake.message.contains(expected)), "{mistakes:?}");
    };
    let price: Fields = vec![Field::new("price", DataType::Utf8View, true)].into();
    check(Field::new("bid", DataType::Struct(price), true), "has its field 'price' as BIGINT");
    check(Field::new("bid", row("price"), false), "is NULL for events of the other types");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn splits_share_the_events_out_and_go_on_where_they_were(
        events in 1u64..3000, count in 1usize..20, polls in 0usize..40, readers in 1usize..5,
    ) {
        let shape = shape(&[("event_type", ""), ("person", "id extra"), ("auction", "id extra"), ("bid", "url price extra")]);
        let (events, count) = (events.to_string(), count.to_string());
        let whole = open(&[("events.num", &events), ("splits", "1")], &shape).unwrap();
        let (expected, _) = read(&whole, &shape, &splits(&whole), usize::MAX);
        let source = open(&[("events.num", &events), ("splits", &count)], &shape).unwrap();
        let (mut found, positions) = read(&source, &shape, &splits(&source), polls);
        // As after a restore with another parallelism.
        for reader in 0..readers {
            let mine: Vec<SplitProgress> = positions.iter().skip(reader).step_by(readers).cloned().collect();
            let (rest, ends) = read(&source, &shape, &mine, usize::MAX);
            prop_assert!(ends.iter().all(|split| split.finished));
            found.extend(rest);
        }
        prop_assert_eq!(multiset(&found), multiset(&expected));
    }
}
