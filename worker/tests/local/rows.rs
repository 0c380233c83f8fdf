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
            &["division by zero", "NULLIF", "in 10 / price, where price = 0"],
        ),
        (
            "cast",
            "INSERT INTO totals SELECT auction, CAST(name AS BIGINT) FROM bids;",
            row("\"7\"", "\"abc\""),
            &["'abc' is not a valid BIGINT", "TRY_CAST", "in CAST(name AS BIGINT), where name = abc"],
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
        let left = std::fs::read_dir(place.path("out")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{what}: files are left behind, hidden or not");
        // The state of the failed run is no obstacle to the mended one.
        place.write("in/a.json", ROW);
        place.check(what, &["run", "job.yaml", "--fresh"], FINISHED, &["has finished"]);
        assert_eq!(place.lines("out").len(), 1, "{what}");
    }
}

/// Rows a hundredth of a second apart, numbered by price; every tenth is followed by a record that cannot be decoded.
pub(crate) fn numbered_rows(count: u32) -> String {
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
pub(crate) fn numbered(policy: &str, sink: &str, insert: &str) -> String {
    let side = "CREATE TABLE bad (raw STRING, reason STRING) WITH ('connector' = 'filesystem', 'path' = 'bad', 'format' = 'json');";
    let bids = BIDS.replace("'path' = 'in'", &format!("'path' = 'in'{policy}"));
    manifest("  checkpoint: {interval: 20ms}\n", &[&bids, sink, side, insert])
}

pub(crate) const SKIP: &str = ", 'bad-records' = 'skip'";
pub(crate) const TABLE: &str = ", 'bad-records' = 'table', 'bad-records.table' = 'bad'";

/// The values of a field in lines of JSON, in order.
pub(crate) fn values(lines: &[String], field: &str) -> Vec<String> {
    let value = |line: &String| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        object[field].as_str().map_or_else(|| object[field].to_string(), str::to_owned)
    };
    let mut values: Vec<String> = lines.iter().map(value).collect();
    values.sort_unstable();
    values
}

#[test]
fn a_row_that_cannot_be_computed_ends_a_job_on_several_workers_at_once() {
    let spec = "  restart: {exponentialDelay: {initial: 100ms}}\n  checkpoint: {interval: 20ms}\n";
    let insert = "INSERT INTO totals SELECT auction, 10 / sum(price) FROM bids GROUP BY auction;";
    let place = Place::new(&manifest(spec, &[BIDS, TOTALS, insert]), &format!("{ROW}{}", ROW.replace("2,", "-2,")));
    let (code, said) = place.start(&["run", "job.yaml", "--workers", "2"]).end(PATIENCE);
    assert_eq!(code, Some(USER_ERROR), "{said}");
    for part in ["generation 1 failed: ", "error: job job: "] {
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with(part)).collect();
        assert!(lines.len() == 1 && lines[0].contains("division by zero: write NULLIF"), "{part:?}: {said}");
    }
    for part in ["next try in", "is started again", "error: worker 1", "panic"] {
        assert!(!said.contains(part), "{said}");
    }
    assert_eq!(std::fs::read_dir(place.path("out")).map_or(0, Iterator::count), 0, "files are left behind");
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

#[test]
fn conditions_guard_what_is_to_the_right_of_them() {
    let rows: String = [-1, 0, 2, 5]
        .iter()
        .map(|price| {
            format!("{{\"auction\":{price},\"price\":{price},\"name\":\"n\",\"at\":\"2026-01-01 00:00:00\"}}\n")
        })
        .collect();
    let table: [(&str, &[i64]); 7] = [
        ("SELECT auction, price FROM bids WHERE CHAR_LENGTH(name) > 1 AND 10 / price > 3", &[]),
        (
            "SELECT auction, price FROM bids WHERE CAST(price AS STRING) <> '0' AND 10 / price > 3 AND name LIKE 'n%'",
            &[2],
        ),
        ("SELECT auction, price FROM bids WHERE price <> 0 AND 10 / price > 3", &[2]),
        ("SELECT auction, price FROM bids WHERE price = 0 OR 10 / price > 3", &[0, 2]),
        ("SELECT auction, CASE WHEN price <> 0 THEN 10 / price ELSE 7 END FROM bids WHERE price >= 0", &[2, 5, 7]),
        ("SELECT auction, q FROM (SELECT auction, 10 / price AS q FROM bids WHERE price > 0) WHERE q > 2", &[5]),
        ("SELECT auction, price FROM bids WHERE price > 2 AND NOT (name <> 'n' AND CAST(name AS BIGINT) > 1)", &[5]),
    ];
    for (query, expected) in table {
        let place = Place::new(&job(&format!("INSERT INTO totals {query};")), &rows);
        place.check(query, &["run", "job.yaml"], FINISHED, &["has finished"]);
        let numbers: Vec<String> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(values(&place.lines("out"), "n"), numbers, "{query}");
    }
}

#[test]
fn a_row_without_event_time_moves_no_watermark() {
    let row = |auction: u32, at: &str| format!("{{\"auction\":{auction},\"price\":{auction},\"at\":{at}}}\n");
    let rows = row(1, "\"2026-01-01 00:00:30\"") + &row(2, "null") + &row(3, "\"2026-01-01 00:00:29.5\"");
    let place = Place::new(&job(PRICES), &rows);
    place.check("no window", &["run", "job.yaml"], FINISHED, &["3 rows in, 3 rows out"]);
    let windows = "INSERT INTO totals SELECT auction, count(*) FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(at), INTERVAL '1' SECOND)) \
                   WHERE at IS NOT NULL GROUP BY auction, window_start, window_end;";
    let place = Place::new(&job(windows), &rows);
    place.check("left out", &["run", "job.yaml"], FINISHED, &["3 rows in, 2 rows out"]);
}

#[test]
fn a_field_of_a_csv_file_that_does_not_fit_is_a_bad_record_too() {
    let rows = "1,2,n,2026-01-01 00:00:00\n2,many,n,2026-01-01 00:00:00\n3,4,n,yesterday\n4,5,n,2026-01-01 00:00:00\n";
    for (policy, code, good, bad) in [("", USER_ERROR, 0, 0), (SKIP, FINISHED, 2, 0), (TABLE, FINISHED, 2, 2)] {
        let text = numbered(policy, TOTALS, PRICES).replacen("'format' = 'json'", "'format' = 'csv'", 1);
        let place = Place::new(&text, rows);
        let parts =
            if code == FINISHED { "2 bad records left out" } else { "line 2: column 'price': 'many' is no BIGINT" };
        place.check(policy, &["run", "job.yaml"], code, &[parts]);
        assert_eq!((place.lines("out").len(), place.lines("bad").len()), (good, bad), "{policy}");
    }
}
