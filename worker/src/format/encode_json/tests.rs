//! Tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::batch::{RowKind, uniform_kinds};
use crate::format::values::samples;
use arrow::array::{Int32Array, RecordBatch};
use std::sync::Arc;

#[test]
fn every_type_has_its_text() {
    let expected = [
        ("null", "null"),
        ("boolean", "true"),
        ("tinyint", "-128"),
        ("smallint", "32767"),
        ("int", "-2147483648"),
        ("bigint", "-9223372036854775808"),
        ("float", "0.1"),
        ("double", "12345678.5"),
        ("large", "1e300"),
        ("nan", "\"NaN\""),
        ("decimal", "-12.300"),
        ("small_decimal", "0.00000001"),
        ("date", "\"2024-02-29\""),
        ("time", "\"09:05:00\""),
        ("time_ms", "\"23:59:59.070\""),
        ("timestamp", "\"2026-01-01 00:00:00.000\""),
        ("before_1970", "\"1969-12-31 23:59:59.999\""),
        ("micros", "\"2026-01-01 00:00:00.000120\""),
        ("ltz", "\"2026-01-01 00:00:00.500Z\""),
        ("text", "\"a\\\"b\\\\c\\nü\\u0001\""),
        ("bytes", "\"AP/+/w==\""),
        ("row", "{\"a\":1,\"b\":null}"),
        ("array", "[1,null,3]"),
        ("empty", "[]"),
    ];
    let samples = samples();
    let encoder = JsonEncoder::new(&samples.schema(), Op::LeftOut).unwrap();
    let mut out = Vec::new();
    encoder.encode(&Batch::inserts(samples), &mut out).unwrap();
    let fields: Vec<String> = expected.iter().map(|(name, text)| format!("\"{name}\":{text}")).collect();
    assert_eq!(String::from_utf8(out).unwrap(), format!("{{{}}}\n", fields.join(",")));
}

#[test]
fn a_line_says_what_its_row_does() {
    let rows = RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(vec![1])) as _)]).unwrap();
    let encoder = JsonEncoder::new(&rows.schema(), Op::Written).unwrap();
    let mut out = Vec::new();
    for kind in [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete] {
        encoder.encode(&Batch::changes(rows.clone(), uniform_kinds(kind, 1)), &mut out).unwrap();
    }
    let expected = ["+I", "-U", "+U", "-D"].map(|op| format!("{{\"op\":\"{op}\",\"n\":1}}\n"));
    assert_eq!(String::from_utf8(out).unwrap(), expected.concat());
}
