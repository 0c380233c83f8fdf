//! A disk that is full, and memory that is used up.

use super::place::*;
use std::fmt::Write as _;
use std::fs;

/// A job that goes on as long as it is let: it watches its folder, prints each row and keeps each name.
const WATCHING: &str = "CREATE TABLE bids (auction BIGINT, name STRING)
        WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json', 'source.monitor-interval' = '10ms');";
const SEEN: &str = "CREATE TABLE seen (auction BIGINT) WITH ('connector' = 'print', 'standard-error' = 'true');";
const BOTH: &str = "INSERT INTO totals SELECT min(auction), count(*) FROM bids GROUP BY name;
      INSERT INTO seen SELECT auction FROM bids;";

/// A row that no small file of state can hold, however it is compressed.
fn large_row(auction: u64) -> String {
    let mut name = String::new();
    let mut number = auction;
    while name.len() < 400_000 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        write!(name, "{:08x}", number >> 32).unwrap();
    }
    format!("{{\"auction\":{auction},\"name\":\"{name}\"}}\n")
}

fn watching() -> Place {
    let spec = "  checkpoint: {interval: 20ms}\n";
    Place::new(&manifest(spec, &[WATCHING, TOTALS, SEEN, BOTH]), &large_row(1))
}

/// How many checkpoints the store has not taken.
fn failed(address: &str) -> u64 {
    let body = ask(address, "GET", "/v1/checkpoints", "");
    assert_eq!(body["completed"], 0, "{body}");
    body["failed"]["store"].as_u64().unwrap_or(0)
}

/// Starts the job and waits until a checkpoint has failed; the answer has the address of its API.
fn start_on_a_full_disk(place: &Place) -> (Running, String) {
    let running = place.start_with_small_files(&["--http", "127.0.0.1:0"]);
    let address = running.api();
    running.until("a row comes through", || running.said().contains("+I[1]"));
    running.until("a checkpoint fails", || failed(&address) > 0);
    (running, address)
}

#[test]
fn on_a_full_disk_checkpoints_fail_and_processing_goes_on_and_nothing_is_committed() {
    let place = watching();
    let (running, address) = start_on_a_full_disk(&place);
    place.write("in/.b.json", &large_row(2));
    fs::rename(place.path("in/.b.json"), place.path("in/b.json")).unwrap();
    running.until("another row comes through", || running.said().contains("+I[2]"));
    let before = failed(&address);
    running.until("another checkpoint fails", || failed(&address) > before);
    assert_eq!(place.lines("out"), Vec::<String>::new());
    running.allow_large_files();
    running.until("all is committed", || place.lines("out").len() == 2);
    let (code, said) = running.stop();
    assert_eq!(code, Some(STOPPED), "{said}");
    for part in ["failed: task ", ".weir/job/state/group-aggregate-", "could not be written", "stopped"] {
        assert!(said.contains(part), "{part:?} is not said: {said}");
    }
    assert!(!said.contains("generation 1 failed"), "{said}");
    assert_eq!(place.lines("out"), [1, 2].map(|auction| format!("{{\"op\":\"+I\",\"auction\":{auction},\"n\":1}}")));
}

#[test]
fn the_second_signal_ends_a_job_that_cannot_stop() {
    let place = watching();
    let (running, _) = start_on_a_full_disk(&place);
    // Two of the same kind may come as one.
    running.signal("INT");
    running.signal("TERM");
    let (code, said) = running.end(PATIENCE);
    assert_eq!(code, Some(INTERRUPTED), "{said}");
    assert!(said.contains("a second signal came before the tasks had ended"), "{said}");
    assert_eq!(place.lines("out"), Vec::<String>::new());
    let running = place.start(&["run", "job.yaml"]);
    running.until("all is committed", || place.lines("out").len() == 1);
    assert_eq!(running.stop().0, Some(STOPPED));
    assert_eq!(place.lines("out").len(), 1);
}

#[test]
fn state_that_outgrows_its_budget_is_told_with_its_operator() {
    let source = "CREATE TABLE numbers (k BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100000');";
    let sink = "CREATE TABLE counts (k BIGINT, n BIGINT) WITH ('connector' = 'blackhole');";
    let query = "INSERT INTO counts SELECT k, count(*) FROM numbers GROUP BY k;";
    let place = Place::new(&manifest("", &[source, sink, query]), "");
    let parts = ["outgrown its budget of 2 MiB", "most of it in 'group by k", "--state-budget", "state.ttl"];
    place.check("budget", &["run", "job.yaml", "--state-budget", "2mb"], USER_ERROR, &parts);
}
