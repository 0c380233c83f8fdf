#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use proptest::prelude::*;
use std::sync::Arc;

/// Options as they are written.
type Pairs<'a> = &'a [(&'a str, &'a str)];

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>()))
}

fn columns() -> SchemaRef {
    let row = schema(&[("x", DataType::Int8), ("y", DataType::Utf8View)]).fields().clone();
    schema(&[
        ("n", DataType::Int64),
        ("s", DataType::Utf8View),
        ("t", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("a", DataType::List(Arc::new(Field::new("item", DataType::Int64, true)))),
        ("r", DataType::Struct(row)),
    ])
}

fn options(pairs: &[(&str, &str)]) -> Result<CsvOptions, String> {
    let options = Options::of("t", pairs);
    let read = CsvOptions::from_options(&options);
    match options.finish() {
        Ok(()) => Ok(read.unwrap()),
        Err(mistakes) => Err(mistakes[0].to_string()),
    }
}

/// Decodes records: the rows as text, then the reasons of bad ones.
fn decode(pairs: &[(&str, &str)], projection: &[usize], records: &[&str]) -> Vec<String> {
    let mut decoder = CsvDecoder::new(options(pairs).unwrap(), &columns(), projection);
    let bad: Vec<String> = records
        .iter()
        .filter_map(|record| decoder.push(record.as_bytes()).err())
        .map(|error| error.to_string())
        .collect();
    let batch = decoder.take();
    batch.columns().iter().for_each(|column| column.to_data().validate_full().unwrap());
    let drawn = pretty_format_batches(&[batch]).unwrap().to_string();
    let rows = drawn.lines().skip(3).filter(|line| line.starts_with('|'));
    rows.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join("|")).chain(bad).collect()
}

#[test]
fn fields_become_columns_by_their_place() {
    let records = [
        "1,plain,2024-01-02 03:04:05.6,1;2;3,7;seven",
        "2,\"quoted, with \"\"quotes\"\" and\nlines\",,,",
        "",
        "3,\"\",,;,1;",
        "x,a,,,",
        "4,a",
        "5,a,,,,",
        "6,\"a\"b,,,",
        "7,\"a,,,",
        "8,,2024-01-02,,",
        "9,,,1;x,",
        "10,,,,1000;x",
        "11,,,,1;x;y",
    ];
    let expected = [
        "|1|plain|2024-01-02T03:04:05.600|[1, 2, 3]|{x: 7, y: seven}|",
        "|2|quoted, with \"quotes\" and||||",
        "||lines||||",
        "|3|||[, ]|{x: 1, y: }|",
        "column 'n': 'x' is no BIGINT",
        "5 fields expected, 2 found",
        "5 fields expected, 6 found",
        "text follows after the quote at byte 3 of the field",
        "a quote is not closed",
        "column 't': '2024-01-02' is no TIMESTAMP(3): yyyy-MM-dd HH:mm:ss.SSS expected",
        "column 'a[2]': 'x' is no BIGINT",
        "column 'r.x': '1000' is out of the range of TINYINT",
        "column 'r': 2 elements expected, 3 found",
    ];
    assert_eq!(decode(&[], &[0, 1, 2, 3, 4], &records), expected);
}

#[test]
fn options_change_how_records_are_read() {
    let table: [(Pairs, &str, &str); 8] = [
        (&[("csv.field-delimiter", ";")], "1;a,b", "|1|a,b|"),
        (&[("csv.field-delimiter", "\\t")], "1\ta", "|1|a|"),
        (&[("csv.quote-character", "'")], "1,'a,\"'", "|1|a,\"|"),
        (&[("csv.disable-quote-character", "true")], "1,\"a", "|1|\"a|"),
        (&[("csv.escape-character", "\\")], "1,a\\,b\\\\", "|1|a,b\\|"),
        (&[("csv.null-literal", "n/a")], "n/a,n/a", "|||"),
        (&[("csv.allow-comments", "true")], "#1,a", "[]"),
        (&[("csv.ignore-parse-errors", "true")], "x,a", "||a|"),
    ];
    for (pairs, record, expected) in table {
        let schema = schema(&[("n", DataType::Int64), ("s", DataType::Utf8View)]);
        let mut decoder = CsvDecoder::new(options(pairs).unwrap(), &schema, &[0, 1]);
        decoder.push(record.as_bytes()).unwrap();
        let drawn = pretty_format_batches(&[decoder.take()]).unwrap().to_string();
        let row = drawn.lines().skip(3).find(|line| line.starts_with('|'));
        let row = row.map_or("[]".to_owned(), |row| row.split('|').map(str::trim).collect::<Vec<_>>().join("|"));
        assert_eq!(row, expected, "{pairs:?} {record}");
    }
}

#[test]
fn only_projected_fields_are_looked_at() {
    assert_eq!(decode(&[], &[0, 3], &["1,a,no time,1;2,1;2;3;4"]), ["|1|[1, 2]|"]);
}

#[test]
fn mistakes_in_options_are_told() {
    let table: [(Pairs, &str); 4] = [
        (
            &[("csv.field-delimiter", "ü")],
            "table 't': 'ü' is no value for 'csv.field-delimiter': one ASCII character expected, such as ',' or '\\t'",
        ),
        (&[("csv.field-delimiter", "\"")], "table 't': fields are delimited and quoted by the same character"),
        (&[("csv.array-element-delimiter", "")], "table 't': the delimiter of elements is empty"),
        (&[("csv.headers", "true")], "table 't' has an unknown option 'csv.headers'"),
    ];
    for (pairs, expected) in table {
        assert_eq!(options(pairs).err().unwrap(), expected);
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

proptest! {
    #[test]
    fn any_bytes_are_a_row_or_refused(
        records in prop::collection::vec("[a-z0-9,;\"\\\\# ü\n]{0,30}", 0..20),
        lenient: bool,
    ) {
        let lenient = if lenient { "true" } else { "false" };
        let pairs = [("csv.ignore-parse-errors", lenient), ("csv.escape-character", "\\")];
        let mut decoder = CsvDecoder::new(options(&pairs).unwrap(), &columns(), &[0, 1, 2, 3, 4]);
        for record in &records {
            let _ = decoder.push(record.as_bytes());
            let rows = decoder.rows();
            decoder.push(b"42,a text of some length,,1;2,1;x").unwrap();
            prop_assert_eq!(decoder.rows(), rows + 1);
        }
        let batch = decoder.take();
        batch.columns().iter().for_each(|column| column.to_data().validate_full().unwrap());
        if let Some(last) = batch.num_rows().checked_sub(1) {
            let drawn = pretty_format_batches(&[batch.slice(last, 1)]).unwrap().to_string();
            prop_assert!(drawn.contains("{x: 1, y: x}") && drawn.contains("[1, 2]"), "{}", drawn);
        }
    }

    #[test]
    fn texts_and_numbers_come_back_as_they_were_written(rows in prop::collection::vec((any::<i64>(), any::<String>()), 1..20)) {
        let schema = schema(&[("n", DataType::Int64), ("s", DataType::Utf8View)]);
        let mut decoder = CsvDecoder::new(CsvOptions::default(), &schema, &[0, 1]);
        for (number, text) in &rows {
            decoder.push(format!("{number},{}", quote(text)).as_bytes()).unwrap();
        }
        let batch = decoder.take();
        prop_assert!(batch.column(0).as_primitive::<Int64Type>().values().iter().eq(rows.iter().map(|(number, _)| number)));
        prop_assert!(batch.column(1).as_string_view().iter().map(Option::unwrap).eq(rows.iter().map(|(_, text)| text.as_str())));
    }
}
