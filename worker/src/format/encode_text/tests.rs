//! Tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::format::values::samples;

#[test]
fn every_type_looks_as_in_flink() {
    let expected = [
        "null",
        "true",
        "-128",
        "32767",
        "-2147483648",
        "-9223372036854775808",
        "0.1",
        "1.23456785E7",
        "1.0E300",
        "NaN",
        "-12.300",
        "1E-8",
        "2024-02-29",
        "09:05",
        "23:59:59.070",
        "2026-01-01T00:00",
        "1969-12-31T23:59:59.999",
        "2026-01-01T00:00:00.000120",
        "2026-01-01T00:00:00.500Z",
        "a\"b\\c\nü\u{1}",
        "[0, -1, -2, -1]",
        "+I[1, null]",
        "[1, null, 3]",
        "[]",
    ];
    let samples = samples();
    let encoder = TextEncoder::new(&samples.schema(), "out:2> ").unwrap();
    let mut out = Vec::new();
    encoder.encode(&Batch::inserts(samples), &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), format!("out:2> +I[{}]\n", expected.join(", ")));
}

#[test]
fn numbers_look_as_java_writes_them() {
    let check = |value: f64, expected: &str| {
        let mut out = Vec::new();
        push_float(value, value, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    };
    check(0.0, "0.0");
    check(-0.0, "-0.0");
    check(100.0, "100.0");
    check(0.001, "0.001");
    check(0.0001, "1.0E-4");
    check(9_999_999.0, "9999999.0");
    check(10_000_000.0, "1.0E7");
    check(-1.5e-10, "-1.5E-10");
    check(f64::NEG_INFINITY, "-Infinity");
    let check = |unscaled: i128, scale: usize, expected: &str| {
        let mut out = Vec::new();
        push_big_decimal(unscaled, scale, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    };
    check(0, 2, "0.00");
    check(0, 8, "0E-8");
    check(-5, 6, "-0.000005");
    check(-5, 7, "-5E-7");
    check(125, 10, "1.25E-8");
    check(i128::MAX, 0, "170141183460469231731687303715884105727");
}
