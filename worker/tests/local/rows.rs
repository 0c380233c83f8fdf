//! Rows and records that cannot be used.

use super::place::*;
use std::time::Duration;

#[test]
fn a_row_that_cannot_be_computed_ends_the_job_at_once() {
    let row = |from: &str, to: &str| format!("{ROW}{}", ROW.replace(from, to));
    let windowed = "INSERT INTO totals SELECT auction, count(*) FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(at), INTERVAL '10' SECOND)) \
                    GROUP BY auction, window_start, window_end;";
    let table: [(&str, &str, String, &[&str]); 5] = [
        (
            "division",
            "INSERT INTO totals SELECT auction, 10 / price FROM bids;",
            row("2,", "0,"),
            &["division by zero", "NULLIF"],
        ),
        (
            "cast",
            "INSERT INTO totals SELECT auction, CAST(name AS BIGINT) FROM bids;",
            row("\"7\"", "\"abc\""),
            &["'abc' is not a valid BIGINT", "TRY_CAST"],
        ),
        (
            "NULL time",
            windowed,
            row("\"2026-01-01 00:00:00\"", "null"),
            &["the event time at of a row is null", "WHERE at IS NOT NULL"],
        ),
        (
            "record",
            PRICES,
            row("2,", "\"x\","),
            &["source bids", "a.json", "line 2", "column 'price': 'x' is no BIGINT", "'bad-records' = 'skip'"],
        ),
        (
            "aggregate",
            "INSERT INTO totals SELECT auction, sum(10 / price) FROM bids GROUP BY auction;",
            row("2,", "0,"),
            &["division by zero"],
        ),
    ];
    for (what, insert, rows, parts) in table {
        let spec = "  restart: {exponentialDelay: {initial: 100ms}}\n  checkpoint: {interval: 20ms}\n";
        let place = Place::new(&manifest(spec, &[BIDS, TOTALS, insert]), &rows);
        place.check(
            what,
            &["run", "job.yaml"],
            USER_ERROR,
            &[&["generation 1 failed", "error: job job: "], parts].concat(),
        );
        assert_eq!(place.lines("out"), Vec::<String>::new(), "{what}");
        // The state of the failed run is no obstacle to the mended one.
        place.write("in/a.json", ROW);
        place.check(what, &["run", "job.yaml", "--fresh"], FINISHED, &["has finished"]);
        assert_eq!(place.lines("out").len(), 1, "{what}");
    }
}

/// Rows a hundredth of a second apart, numbered by price; every tenth is followed by a record that cannot be decoded.
pub fn numbered_rows(count: u32) -> String {
    let row = |n: u32| {
        let (minute, second, part) = (n / 6000, n / 100 % 60, n % 100 * 10);
        let bad = if n.is_multiple_of(10) { format!("{{\"price\": bad {n}}}\n") } else { String::new() };
        let auction = n % 7;
        format!(
            "{{\"auction\":{auction},\"price\":{n},\"at\":\"2026-01-01 00:{minute:02}:{second:02}.{part:03}\"}}\n{bad}"
        )
    };
    (0..count).map(row).collect()
}

/// A job that reads numbered rows, what to do with the bad ones among them, and its query.
pub fn numbered(policy: &str, sink: &str, insert: &str) -> String {
    let side = "CREATE TABLE bad (raw STRING, reason STRING) WITH ('connector' = 'filesystem', 'path' = 'bad', 'format' = 'json');";
    let bids = BIDS.replace("'path' = 'in'", &format!("'path' = 'in'{policy}"));
    manifest("  checkpoint: {interval: 20ms}\n", &[&bids, sink, side, insert])
}

pub const SKIP: &str = ", 'bad-records' = 'skip'";
pub const TABLE: &str = ", 'bad-records' = 'table', 'bad-records.table' = 'bad'";

/// The values of a field in lines of JSON, in order.
pub fn values(lines: &[String], field: &str) -> Vec<String> {
    let value = |line: &String| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        object[field].as_str().map_or_else(|| object[field].to_string(), str::to_owned)
    };
    let mut values: Vec<String> = lines.iter().map(value).collect();
    values.sort_unstable();
    values
}

#[test]
fn bad_records_fail_the_job_or_are_skipped_or_go_to_their_table() {
    let rows = numbered_rows(100);
    for (policy, code, good, bad) in [("", USER_ERROR, 0, 0), (SKIP, FINISHED, 100, 0), (TABLE, FINISHED, 100, 10)] {
        let place = Place::new(&numbered(policy, TOTALS, PRICES), &rows);
        let parts = if code == FINISHED { "10 bad records left out" } else { "a.json: bad record at line 2: " };
        place.check(policy, &["run", "job.yaml"], code, &[parts]);
        assert_eq!((place.lines("out").len(), place.lines("bad").len()), (good, bad), "{policy}");
        let reasons = values(&place.lines("bad"), "reason");
        assert!(reasons.iter().all(|reason| reason.starts_with("a.json, line ")), "{reasons:?}");
    }
}

#[test]
fn a_killed_job_writes_each_bad_record_once() {
    let place = Place::new(&numbered(TABLE, TOTALS, PRICES), &numbered_rows(2000));
    for moment in [350, 500, 420, 610, 380, 550] {
        let (code, said) =
            place.start(&["run", "job.yaml", "--quiet", "--speed", "15"]).end(Duration::from_millis(moment));
        assert!(matches!(code, None | Some(FINISHED)), "{said}");
    }
    place.check("the last run", &["run", "job.yaml"], FINISHED, &["has finished"]);
    let expected = |numbers: &mut dyn Iterator<Item = String>| {
        let mut numbers: Vec<String> = numbers.collect();
        numbers.sort_unstable();
        numbers
    };
    let bad = values(&place.lines("bad"), "raw");
    assert_eq!(bad, expected(&mut (0..2000).step_by(10).map(|n| format!("{{\"price\": bad {n}}}"))));
    assert_eq!(values(&place.lines("out"), "n"), expected(&mut (0..2000).map(|n: u32| n.to_string())));
}
