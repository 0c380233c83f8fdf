//! Savepoints of a running job.

use super::place::*;
use std::fs;

/// A job that watches its folder, counts by auction, and tells of the last row of a file.
const WATCHING: &str = "CREATE TABLE bids (auction BIGINT, name STRING)
        WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json', 'source.monitor-interval' = '10ms');";
const LAST: &str = "CREATE TABLE last (auction BIGINT) WITH ('connector' = 'print', 'standard-error' = 'true');";
const BOTH: &str = "INSERT INTO totals SELECT auction, count(*) FROM bids GROUP BY auction;
      INSERT INTO last SELECT auction FROM bids WHERE name = 'last';";

fn rows(from: u64, to: u64) -> String {
    let name = |auction| if auction + 1 == to { "last" } else { "" };
    (from..to).map(|auction| format!("{{\"auction\":{auction},\"name\":\"{}\"}}\n", name(auction))).collect()
}

#[test]
fn a_savepoint_writes_what_has_changed_and_refers_to_the_rest() {
    let spec = "  checkpoint: {interval: 1h}\n";
    let place = Place::new(&manifest(spec, &[WATCHING, TOTALS, LAST, BOTH]), &rows(0, 20_000));
    let running = place.start(&["run", "job.yaml", "--http", "127.0.0.1:0"]);
    let api = running.api();
    // Of the newest checkpoint, the bytes that it wrote and those that it refers to.
    let savepoint = |name: &str| {
        let taken = ask(&api, "POST", "/v1/savepoints?wait=200", &format!("{{\"name\": \"{name}\"}}"));
        assert_eq!(taken["state"], "completed", "{taken}");
        let checkpoints = ask(&api, "GET", "/v1/checkpoints", "");
        let of_it = |retained: &&serde_json::Value| retained["savepoints"][0] == name;
        let sizes = &checkpoints["retained"].as_array().unwrap().iter().find(of_it).unwrap()["sizes"];
        [&sizes["writtenBytes"], &sizes["totalBytes"]].map(|bytes| bytes.as_u64().unwrap())
    };
    running.until("all rows come through", || running.said().contains("+I[19999]"));
    let [written, total] = savepoint("first");
    assert!(written > 20_000 && written == total, "{written} of {total}");
    place.write("in/.b.json", &rows(20_000, 20_010));
    fs::rename(place.path("in/.b.json"), place.path("in/b.json")).unwrap();
    running.until("the others come through", || running.said().contains("+I[20009]"));
    let [written_then, total_then] = savepoint("second");
    assert!(written_then > 0 && written_then * 20 < written, "{written_then}, and before it {written}");
    assert_eq!(total_then, total + written_then);
    assert_eq!(running.stop().0, Some(STOPPED));
}
