#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;
use arrow::array::Array;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use proptest::prelude::*;
use std::sync::Arc;

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>()))
}

fn row(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(schema(fields).fields().clone())
}

fn array(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

/// Decodes lines: the batch as text, then the reasons of bad ones.
fn decode(options: JsonOptions, fields: &[(&str, DataType)], lines: &[&str]) -> Vec<String> {
    let schema = schema(fields);
    let projection: Vec<usize> = (0..fields.len()).collect();
    let mut decoder = JsonDecoder::new(options, &schema, &projection);
    let bad: Vec<String> =
        lines.iter().filter_map(|line| decoder.push(line.as_bytes()).err()).map(|error| error.to_string()).collect();
    let batch = decoder.take();
    for column in batch.columns() {
        column.to_data().validate_full().unwrap();
    }
    let drawn = pretty_format_batches(&[batch]).unwrap().to_string();
    let rows = drawn.lines().skip(3).filter(|line| line.starts_with('|'));
    rows.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join("|")).chain(bad).collect()
}

fn check(fields: &[(&str, DataType)], lines: &[&str], expected: &[&str]) {
    assert_eq!(decode(JsonOptions::default(), fields, lines), expected, "{lines:?}");
}

#[test]
fn each_type_takes_what_flink_writes_and_refuses_what_does_not_fit() {
    let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
    let micros_utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let table: [(DataType, &str, &str); 53] = [
        (DataType::Boolean, "true", "|true|"),
        (DataType::Boolean, "\"FALSE\"", "|false|"),
        (DataType::Boolean, "1", "column 'v': '1' is no BOOLEAN"),
        (DataType::Int8, "-128", "|-128|"),
        (DataType::Int8, "128", "column 'v': '128' is out of the range of TINYINT"),
        (DataType::Int16, "\" 7 \"", "|7|"),
        (DataType::Int32, "2147483648", "column 'v': '2147483648' is out of the range of INT"),
        (DataType::Int64, "9223372036854775807", "|9223372036854775807|"),
        (DataType::Int64, "-9223372036854775808", "|-9223372036854775808|"),
        (DataType::Int64, "9223372036854775808", "column 'v': '9223372036854775808' is out of the range of BIGINT"),
        (DataType::Int64, "1.0", "|1|"),
        (DataType::Int64, "1e3", "|1000|"),
        (DataType::Int64, "1.5", "column 'v': '1.5' has a fraction, which BIGINT cannot hold"),
        (DataType::Int64, "\"abc\"", "column 'v': 'abc' is no BIGINT"),
        (DataType::Int64, "true", "column 'v': 'true' is no BIGINT"),
        (DataType::Int64, "{\"a\": 1}", "column 'v': '{\"a\": 1}' is no BIGINT"),
        (DataType::Int64, "null", "||"),
        (DataType::Int64, "01", "a number expected at byte 8 of the record, '}' found"),
        (DataType::Int64, "-", "a number expected at byte 7 of the record, '}' found"),
        (DataType::Int64, "nul", "a JSON value expected at byte 6 of the record, 'n' found"),
        (DataType::Float64, "-1.25e2", "|-125.0|"),
        (DataType::Float64, "\"NaN\"", "|NaN|"),
        (DataType::Float64, "1e400", "column 'v': '1e400' is out of the range of DOUBLE"),
        (DataType::Float32, "1e39", "column 'v': '1e39' is out of the range of FLOAT"),
        (DataType::Float64, "1.", "a digit after the decimal point expected at byte 8 of the record, '}' found"),
        (
            DataType::Decimal128(38, 18),
            "12345678901234567890.123456789012345678",
            "|12345678901234567890.123456789012345678|",
        ),
        (DataType::Decimal128(10, 2), "\"1.005\"", "|1.01|"),
        (DataType::Decimal128(3, 2), "10", "column 'v': '10' is out of the range of DECIMAL(3, 2)"),
        (DataType::Date32, "\"2024-02-29\"", "|2024-02-29|"),
        (DataType::Date32, "\"2023-02-29\"", "column 'v': '2023-02-29' is no DATE: yyyy-MM-dd expected"),
        (DataType::Date32, "19000", "column 'v': '19000' is no DATE: yyyy-MM-dd expected"),
        (DataType::Time32(TimeUnit::Millisecond), "\"23:59:59.5\"", "|23:59:59.500|"),
        (millis.clone(), "\"2024-01-02 03:04:05.678\"", "|2024-01-02T03:04:05.678|"),
        (millis.clone(), "\"2024-01-02 03:04:05\"", "|2024-01-02T03:04:05|"),
        (
            millis,
            "\"2024-01-02T03:04:05\"",
            "column 'v': '2024-01-02T03:04:05' is no TIMESTAMP(3): yyyy-MM-dd HH:mm:ss.SSS expected",
        ),
        (micros_utc, "\"2024-01-02 03:04:05.678901Z\"", "|2024-01-02T03:04:05.678901Z|"),
        (DataType::BinaryView, "\"AP8=\"", "|00ff|"),
        (DataType::BinaryView, "\"?\"", "column 'v': '?' is no BYTES: base64 expected"),
        (DataType::Utf8View, "\"short\"", "|short|"),
        (
            DataType::Utf8View,
            "\"longer than twelve bytes, with \\\"quotes\\\" and \\\\\"",
            "|longer than twelve bytes, with \"quotes\" and \\|",
        ),
        (DataType::Utf8View, "\"\\u00fc\\ud83d\\ude00\\/é\"", "|ü😀/é|"),
        (DataType::Utf8View, "\"\\ud83d\\u0041\"", "|\u{fffd}A|"),
        (DataType::Utf8View, "1.50", "|1.50|"),
        (DataType::Utf8View, "true", "|true|"),
        (DataType::Utf8View, "{\"a\": [1, \" x\\\" \"]}", "|{\"a\":[1,\" x\\\" \"]}|"),
        (
            DataType::Utf8View,
            "\"a\tb\"",
            "the '\"' that ends a string expected at byte 8 of the record, control character 0x09 found",
        ),
        (DataType::Utf8View, "\"\\x\"", "an escape expected at byte 7 of the record, '\\' found"),
        (
            DataType::Utf8View,
            "\"\\u12g4\"",
            "four hexadecimal digits after '\\u' expected at byte 7 of the record, '\\' found",
        ),
        (array(DataType::Int64), "[1, null, 3]", "|[1, , 3]|"),
        (array(DataType::Int64), "[]", "|[]|"),
        (array(DataType::Int64), "[1, \"x\"]", "column 'v[2]': 'x' is no BIGINT"),
        (
            array(array(row(&[("a", DataType::Int8)]))),
            "[[], [{\"a\": 999}]]",
            "column 'v[2][1].a': '999' is out of the range of TINYINT",
        ),
        (array(DataType::Int64), "{\"a\": 1}", "column 'v': '{\"a\": 1}' is no ARRAY<BIGINT>"),
    ];
    for (kind, value, expected) in table {
        let line = format!("{{\"v\":{value}}}");
        check(&[("v", kind)], &[&line], &[expected]);
    }
}

#[test]
fn bad_records_leave_their_neighbours_alone() {
    let nested = row(&[("x", DataType::Int64), ("tags", array(DataType::Utf8View))]);
    check(
        &[("a", DataType::Int64), ("r", nested)],
        &[
            r#"{"a": 1, "r": {"x": 1, "tags": ["one", "two"]}}"#,
            r#"{"a": 2, "r": {"x": 2, "tags": ["half", {"#,
            r#"{"r": {"tags": ["t"], "x": "bad"}, "a": 3}"#,
            r#"{"a": 4, "r": null}"#,
            "   ",
            r#"{"a": 5, "unknown": {"deep": [1, {"k": "v\""}]}, "r": {"tags": null}}"#,
            r#"{"a": 6} and more"#,
            r#"{"a": 7, "a": 8}"#,
            r#"{}"#,
            r#"[1]"#,
        ],
        &[
            "|1|{x: 1, tags: [one, two]}|",
            "|4||",
            "|5|{x: , tags: }|",
            "|8||",
            "|||",
            "a string expected, but the record ends",
            "column 'r.x': 'bad' is no BIGINT",
            "the end of the record expected at byte 10 of the record, 'a' found",
            "a JSON object expected, '[1]' found",
        ],
    );
}

#[test]
fn fields_in_any_order_and_number_find_their_columns() {
    let names: Vec<String> = (0..8).map(|column| format!("c{column}")).collect();
    let fields: Vec<(&str, DataType)> = names.iter().map(|name| (name.as_str(), DataType::Int64)).collect();
    for shift in 0..8 {
        let lines: Vec<String> = (0..20)
            .map(|line: usize| {
                let members: Vec<String> = (0..8)
                    .map(|place| (place * 3 + line * shift) % 8)
                    .filter(|column| !(column + line).is_multiple_of(3))
                    .map(|column| format!("\"c{column}\": {}, \"u{line}\": [{column}]", line * 10 + column))
                    .collect();
                format!("{{{}}}", members.join(","))
            })
            .collect();
        let expected: Vec<String> = (0..20)
            .map(|line: usize| {
                let value = |column: usize| {
                    if (column + line).is_multiple_of(3) { String::new() } else { (line * 10 + column).to_string() }
                };
                format!("|{}|", (0..8).map(value).collect::<Vec<_>>().join("|"))
            })
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&fields, &lines, &expected);
    }
}

#[test]
fn ignored_errors_make_the_field_null_and_keep_the_record() {
    let options = JsonOptions { null_on_error: true, ..JsonOptions::default() };
    let fields = [("a", DataType::Int64), ("r", row(&[("x", DataType::Int8), ("y", DataType::Utf8View)]))];
    let lines = [r#"{"a": "no", "r": {"x": 1000, "y": "kept"}}"#, r#"{"a": 1, "r": [1, {"b": "}"}]}"#, r#"{"a": 1"#];
    let expected = ["||{x: , y: kept}|", "|1||", "',' or '}' expected, but the record ends"];
    assert_eq!(decode(options, &fields, &lines), expected);
}

#[test]
fn keys_with_escapes_are_found_by_what_they_mean() {
    let fields = [("a\\b", DataType::Int64), ("ü\"", DataType::Int64)];
    let line = r#"{"a\\b": 1, "\u00fc\"": 2}"#;
    check(&fields, &[line, line], &["|1|2|", "|1|2|"]);
}

#[test]
fn a_missing_field_is_bad_where_the_option_says_so() {
    let options = JsonOptions { fail_on_missing_field: true, ..JsonOptions::default() };
    let fields = [("a", DataType::Int64), ("b", DataType::Int64)];
    let lines = [r#"{"a": 1, "b": null}"#, r#"{"a": 1}"#];
    assert_eq!(decode(options, &fields, &lines), ["|1||", "column 'b': the field is missing"]);
}

#[test]
fn a_value_is_needed_where_the_column_is_not_null() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
    let mut decoder = JsonDecoder::new(JsonOptions::default(), &schema, &[0]);
    let error = decoder.push(b"{}").unwrap_err().to_string();
    assert_eq!(error, "column 'a': the field is missing, and the column is NOT NULL");
    let error = decoder.push(br#"{"a": null}"#).unwrap_err().to_string();
    assert_eq!(error, "column 'a': null in a column that is NOT NULL");
    assert_eq!(decoder.take().num_rows(), 0);
}

#[test]
fn depth_is_bounded() {
    let open = "[".repeat(100_000);
    let fields = [("a", DataType::Utf8View)];
    let expected = "objects and arrays lie more than 256 deep";
    check(&fields, &[&format!("{{\"a\": {open}")], &[expected]);
    check(&fields, &[&format!("{{\"b\": {open}")], &[expected]);
}

fn every_type() -> SchemaRef {
    schema(&[
        ("b", DataType::Boolean),
        ("i", DataType::Int32),
        ("l", DataType::Int64),
        ("d", DataType::Float64),
        ("n", DataType::Decimal128(20, 4)),
        ("s", DataType::Utf8View),
        ("y", DataType::BinaryView),
        ("t", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("r", row(&[("s", DataType::Utf8View), ("a", array(DataType::Int64))])),
    ])
}

/// Bytes that are often nearly JSON.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\\u",
            "null",
            "true",
            "1",
            "-",
            ".",
            "e",
            "0",
            " ",
            "\"s\":",
            "\"r\":{",
            "\"a\":[",
            "\"t\":\"2024-01-01 00:00:00\"",
            "\"n\":1.5",
            "\"y\":\"AA==\"",
            "\"b\":",
            "ü",
            "\u{0}",
        ])
        .prop_map(|token| token.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_a_row_or_refused(records in prop::collection::vec(nearly_json(), 0..20), null_on_error: bool) {
        let schema = every_type();
        let projection: Vec<usize> = (0..schema.fields().len()).collect();
        let options = JsonOptions { null_on_error, ..JsonOptions::default() };
        let mut decoder = JsonDecoder::new(options, &schema, &projection);
        let mut rows = 0;
        for record in &records {
            // A good record after each: it must come out whole.
            let _ = decoder.push(record);
            rows = decoder.rows();
            decoder.push(br#"{"l": 42, "r": {"s": "a text of some length", "a": [1, 2]}}"#).unwrap();
            prop_assert_eq!(decoder.rows(), rows + 1);
        }
        let batch = decoder.take();
        for column in batch.columns() {
            column.to_data().validate_full().unwrap();
        }
        if !records.is_empty() {
            let drawn = pretty_format_batches(&[batch.slice(rows, 1)]).unwrap().to_string();
            prop_assert!(drawn.contains("| 42 |"), "{}", drawn);
            prop_assert!(drawn.contains("{s: a text of some length, a: [1, 2]}"), "{}", drawn);
        }
    }

    #[test]
    fn texts_and_numbers_come_back_as_they_were_written(
        texts in prop::collection::vec(any::<String>(), 1..20),
        numbers in prop::collection::vec(any::<i64>(), 20),
        floats in prop::collection::vec(prop::num::f64::NORMAL, 20),
    ) {
        let schema = schema(&[("text", DataType::Utf8View), ("number", DataType::Int64), ("float", DataType::Float64)]);
        let mut decoder = JsonDecoder::new(JsonOptions::default(), &schema, &[0, 1, 2]);
        for (index, text) in texts.iter().enumerate() {
            let line = serde_json::json!({"text": text, "number": numbers[index], "float": floats[index]}).to_string();
            decoder.push(line.as_bytes()).unwrap();
        }
        let batch = decoder.take();
        let read: &arrow::array::StringViewArray = arrow::array::AsArray::as_string_view(batch.column(0));
        prop_assert!(read.iter().map(Option::unwrap).eq(texts.iter().map(String::as_str)));
        let read = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(batch.column(1));
        prop_assert_eq!(read.values(), &numbers[..texts.len()]);
        let read = arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(batch.column(2));
        prop_assert_eq!(read.values(), &floats[..texts.len()]);
    }
}
