//! What a job has written: rows of windows, and a changelog that is folded.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Each row with how often it is there.
pub type Rows = BTreeMap<String, i64>;

/// The visible files of both sinks.
pub fn read(windows: &Path, counts: &Path) -> Rows {
    let mut rows = Rows::new();
    for line in lines(windows) {
        *rows.entry(format!("window {line}")).or_default() += 1;
    }
    for line in lines(counts) {
        let mut row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
        let op = row.remove("op").unwrap();
        let sign = if matches!(op.as_str().unwrap(), "+I" | "+U") { 1 } else { -1 };
        *rows.entry(format!("count {}", serde_json::Value::from(row))).or_default() += sign;
    }
    rows.retain(|_, count| *count != 0);
    rows
}

fn lines(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut lines = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with('.') {
            lines.extend(fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    lines
}

/// Compares, and shows the first rows that differ.
pub fn check(actual: &Rows, expected: &Rows, history: &str) {
    let wrong = |rows: &Rows, others: &Rows| {
        let mut wrong: Vec<String> =
            rows.iter().filter(|(row, count)| others.get(*row) != Some(count)).map(|row| format!("{row:?}")).collect();
        wrong.truncate(3);
        wrong
    };
    let (more, fewer) = (wrong(actual, expected), wrong(expected, actual));
    assert!(more.is_empty() && fewer.is_empty(), "written: {more:?}, expected: {fewer:?}; after {history}");
}
