//! Tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::format::encode_json::{JsonEncoder, Op};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

fn list(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

fn shape(columns: &[(&str, DataType)]) -> TableShape {
    let fields: Vec<Field> =
        columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    TableShape { name: "t".to_owned(), schema, metadata: vec![], partitioned_by: vec![], primary_key: vec![] }
}

fn recipes(pairs: &[(&str, &str)], shape: &TableShape) -> (Vec<Recipe>, Result<(), Vec<Diagnostic>>) {
    let options = Options::of("t", pairs);
    let reader = FieldReader::new(&options);
    let recipes = shape.schema.fields().iter().map(|field| reader.read(field.name(), field)).collect();
    (recipes, options.finish())
}

/// Rows `numbers` of a table as JSON.
fn lines(pairs: &[(&str, &str)], shape: &TableShape, numbers: Range<u64>) -> Vec<serde_json::Value> {
    let (recipes, mistakes) = recipes(pairs, shape);
    mistakes.unwrap();
    let datagen = Datagen { seed: 3, schema: Arc::clone(&shape.schema), recipes, width: 1 };
    let projection: Vec<usize> = (0..shape.schema.fields().len()).collect();
    let made = datagen.rows(numbers, &projection).unwrap();
    let mut out = Vec::new();
    let batch = crate::batch::Batch::inserts(made.rows);
    JsonEncoder::new(&shape.schema, Op::LeftOut).unwrap().encode(&batch, &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_type_has_random_values_within_its_bounds() {
    let check = |data_type: DataType, pairs: &[(&str, &str)], holds: &dyn Fn(&serde_json::Value) -> bool| {
        for line in lines(pairs, &shape(&[("f", data_type.clone())]), 0..200) {
            assert!(holds(&line["f"]), "{data_type}: {line}");
        }
    };
    let within = |low: f64, high: f64| move |value: &serde_json::Value| (low..=high).contains(&value.as_f64().unwrap());
    check(DataType::Boolean, &[], &serde_json::Value::is_boolean);
    check(DataType::Int8, &[], &within(-128.0, 127.0));
    check(DataType::Int32, &[("fields.f.min", "-3"), ("fields.f.max", "5")], &within(-3.0, 5.0));
    check(DataType::Int64, &[], &serde_json::Value::is_i64);
    check(DataType::Float32, &[("fields.f.min", "1"), ("fields.f.max", "2.5")], &within(1.0, 2.5));
    check(DataType::Float64, &[], &within(0.0, f64::MAX));
    check(DataType::Decimal128(5, 2), &[("fields.f.min", "-1.5"), ("fields.f.max", "2")], &within(-1.5, 2.0));
    check(DataType::Decimal128(38, 0), &[], &serde_json::Value::is_number);
    check(DataType::Utf8View, &[], &|value| value.as_str().unwrap().len() == 100);
    let text = [("fields.f.length", "7"), ("fields.f.var-len", "true")];
    check(DataType::Utf8View, &text, &|value| (1..=7).contains(&value.as_str().unwrap().len()));
    check(DataType::BinaryView, &[("fields.f.length", "3")], &|value| value.as_str().unwrap().len() == 4);
    check(DataType::Date32, &[], &serde_json::Value::is_string);
    check(DataType::Time32(TimeUnit::Millisecond), &[], &serde_json::Value::is_string);
    check(
        DataType::Timestamp(TimeUnit::Millisecond, None),
        &[("fields.f.max-past", "1 h")],
        &serde_json::Value::is_string,
    );
    check(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), &[], &serde_json::Value::is_string);
    let array = [("fields.f.length", "2"), ("fields.f.element.max", "9"), ("fields.f.element.min", "8")];
    check(list(DataType::Int16), &array, &|value| value.as_array().unwrap().len() == 2);
    let row = DataType::Struct(vec![Field::new("a", DataType::Int8, true)].into());
    check(row, &[("fields.f.a.min", "0"), ("fields.f.a.max", "1")], &|value| value["a"].as_i64().unwrap() < 2);
}

#[test]
fn a_row_is_the_same_in_every_batch() {
    let shape = shape(&[("a", DataType::Int64), ("b", DataType::Utf8View), ("c", list(DataType::Float64))]);
    let pairs = [("fields.a.null-rate", "0.5")];
    let whole = lines(&pairs, &shape, 0..100);
    assert_eq!(whole[40..60], lines(&pairs, &shape, 40..60));
    let nulls = whole.iter().filter(|line| line["a"].is_null()).count();
    assert!((30..70).contains(&nulls), "half of the values are NULL: {nulls}");
}

#[test]
fn a_sequence_gives_each_number_once_and_ends_the_source() {
    let check = |data_type: DataType, expected: &[&str]| {
        let shape = shape(&[("f", data_type)]);
        let pairs = [("fields.f.kind", "sequence"), ("fields.f.start", "9"), ("fields.f.end", "11")];
        assert_eq!(recipes(&pairs, &shape).0[0].rows(), Some(3));
        let values: Vec<String> = lines(&pairs, &shape, 0..3).iter().map(|line| line["f"].to_string()).collect();
        assert_eq!(values, expected);
    };
    check(DataType::Int32, &["9", "10", "11"]);
    check(DataType::Utf8View, &["\"9\"", "\"10\"", "\"11\""]);
    check(DataType::Float64, &["9.0", "10.0", "11.0"]);
    check(DataType::Decimal128(6, 1), &["9.0", "10.0", "11.0"]);
}

#[test]
fn mistakes_in_options_are_told_with_what_was_meant() {
    let check = |pairs: &[(&str, &str)], expected: &str| {
        let shape = shape(&[("f", DataType::Int32), ("g", DataType::Boolean)]);
        let mistakes = source(&Options::of("t", pairs), &shape).err().unwrap_or_default();
        let told: Vec<String> = mistakes.iter().map(|mistake| mistake.render("").replace('\n', " / ")).collect();
        assert!(told.iter().any(|text| text.contains(expected)), "{expected:?} is not in {told:?}");
    };
    check(&[("fields.f.mni", "1")], "unknown option 'fields.f.mni' / hint: did you mean 'fields.f.min'?");
    check(&[("fields.h.min", "1")], "unknown option 'fields.h.min'");
    check(&[("fields.f.min", "3000000000")], "a whole number from -2147483648 to 2147483647 expected");
    check(&[("fields.f.min", "3"), ("fields.f.max", "2")], "'fields.f.min' is above 'fields.f.max'");
    check(&[("fields.f.kind", "sequence")], "a sequence needs the option 'fields.f.start'");
    check(&[("fields.g.kind", "sequence")], "a sequence is made of numbers or strings only");
    check(&[("fields.f.kind", "serial")], "one of random, sequence expected");
    check(&[("fields.f.null-rate", "2")], "a number from 0 to 1 expected");
    check(&[("row-per-second", "2")], "did you mean 'rows-per-second'?");
}
