//! Tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

struct Numbers;

impl RowMaker for Numbers {
    fn rows(&self, numbers: Range<u64>, _: &[usize]) -> Result<Made> {
        let values = Int64Array::from_iter_values(numbers.map(u64::cast_signed));
        let schema = Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, false)]));
        Ok(Made { rows: RecordBatch::try_new(schema, vec![Arc::new(values)])?, bytes: 0 })
    }
}

fn course(rate: Option<u64>, end: Option<u64>) -> Course {
    Course { splits: 4, end, rate, batch_rows: 8 }
}

fn reader(course: Course) -> Reader {
    let convoy = Arc::<Convoy>::default();
    let mut reader = member(course, &convoy);
    splits(course).iter().for_each(|split| reader.add_split(split).unwrap());
    reader
}

fn member(course: Course, convoy: &Arc<Convoy>) -> Reader {
    let member = convoy.join();
    Reader { maker: Arc::new(Numbers), course, projection: vec![0], pace: None, member, held: Vec::new() }
}

fn splits(course: Course) -> Vec<SplitProgress> {
    let start = |split: Split| SplitProgress {
        split: split.name,
        position: split.start,
        watermark: EventTime(5),
        finished: false,
    };
    (Dealer { course }).discover().unwrap().into_iter().map(start).collect()
}

fn numbers(poll: Poll) -> Vec<i64> {
    let Poll::Rows(rows) = poll else { panic!("rows expected: {poll:?}") };
    rows.batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn one_reader_of_all_splits_returns_rows_in_order() {
    let mut reader = reader(course(None, Some(1000)));
    let mut found = Vec::new();
    while let poll @ Poll::Rows(_) = reader.poll().unwrap() {
        found.extend(numbers(poll));
    }
    assert_eq!(found, (0..1000).collect::<Vec<i64>>());
    assert!(reader.positions().iter().all(|split| split.finished && split.watermark == EventTime(5)));
}

#[test]
fn each_row_leaves_when_it_is_due() {
    let start = Instant::now();
    let after = |micros: u64| start + Duration::from_micros(micros);
    let mut reader = reader(course(Some(1000), None));
    assert_eq!(numbers(reader.poll_at(start).unwrap()), [0]);
    let Poll::NotBefore(moment) = reader.poll_at(after(400)).unwrap() else { panic!("row 1 is not due") };
    assert_eq!(moment, after(1000));
    assert_eq!(numbers(reader.poll_at(moment).unwrap()), [1]);
    // After a pause what is due comes at once, and nothing more.
    let mut late = Vec::new();
    while let poll @ Poll::Rows(_) = reader.poll_at(after(20_500)).unwrap() {
        late.extend(numbers(poll));
    }
    assert_eq!(late, (2..=20).collect::<Vec<i64>>());
}

#[test]
fn fast_rows_leave_in_ticks() {
    let start = Instant::now();
    let mut reader = reader(course(Some(3_000_000), None));
    assert_eq!(numbers(reader.poll_at(start).unwrap()), [0]);
    let Poll::NotBefore(moment) = reader.poll_at(start).unwrap() else { panic!("row 1 is not due") };
    assert_eq!(moment, start + TICK);
}

#[test]
fn a_position_that_is_not_the_splits_own_is_refused() {
    let check = |split: &str, position: serde_json::Value, expected: &str| {
        let progress = SplitProgress { split: split.to_owned(), position, watermark: EventTime::MIN, finished: false };
        let failure = Held::restore(&progress, 4).err().map(|failure| failure.chain()).unwrap_or_default();
        assert!(failure.contains(expected), "{failure:?}");
    };
    check("1 of 4", serde_json::json!({"next": 8, "block": 8}), "");
    check("1 of 5", position(8, 8), "set the option 'splits' to what it was");
    check("1 of 4", position(0, 8), "is not one of its own");
    check("1 of 4", position(8, 0), "is not one of its own");
    check("1 of 4", position(u64::MAX, 8), "is not one of its own");
    check("1 of 4", serde_json::json!("8"), "its position cannot be read");
    check("1 of 4", serde_json::json!({"next": -1, "block": 8}), "its position cannot be read");
}

#[test]
fn a_reader_far_ahead_waits_for_the_last_one_while_there_is_one() {
    let course = Course { splits: 2, end: None, rate: None, batch_rows: 8192 };
    let convoy = Arc::<Convoy>::default();
    let mut readers: Vec<Reader> = splits(course)
        .iter()
        .map(|split| {
            let mut reader = member(course, &convoy);
            reader.add_split(split).unwrap();
            reader
        })
        .collect();
    // How many rows a reader has before it waits; it is not asked for more than four leads.
    let runs = |reader: &mut Reader| {
        let mut rows = 0;
        while rows < 4 * convoy::LEAD {
            match reader.poll().unwrap() {
                Poll::Rows(more) => rows += more.batch.num_rows() as u64,
                Poll::NotBefore(_) | Poll::Away(_) => break,
                Poll::NeedSplit => panic!("the source has no end"),
            }
        }
        rows
    };
    // Nobody waits for a reader that has not begun.
    let mut last = readers.pop().unwrap();
    let mut first = readers.pop().unwrap();
    assert_eq!(runs(&mut first), 4 * convoy::LEAD);
    assert!(matches!(last.poll().unwrap(), Poll::Rows(_)));
    assert_eq!(runs(&mut first), 0);
    // The last one catches up, gets ahead, and waits in turn.
    let rows = runs(&mut last);
    assert_eq!(rows, 4 * convoy::LEAD);
    let rows = runs(&mut last);
    assert!((1..=convoy::LEAD).contains(&rows), "{rows}");
    assert_eq!(runs(&mut last), 0);
    assert!(runs(&mut first) > 0);
    drop(first);
    assert_eq!(runs(&mut last), 4 * convoy::LEAD);
}
