//! The directories of a job: its state, its secrets, its output.

use super::place::*;
use super::rows::{TABLE, numbered, numbered_rows};
use std::fs;

#[test]
fn secrets_come_from_a_folder() {
    let sink = TOTALS.replace("'out'", "'${secret:places/output}'");
    let place = Place::new(&manifest("", &[BIDS, &sink, COUNT]), ROW);
    let run = ["run", "job.yaml", "--secrets", "secrets"];
    place.check("no folder", &run, USER_ERROR, &["secrets/places/output", "PLACES_OUTPUT"]);
    fs::create_dir_all(place.path("secrets/places")).unwrap();
    place.write("secrets/places/output", "hidden-place\n");
    for command in ["check", "explain"] {
        let (code, said) = place.start(&[command, "job.yaml", "--secrets", "secrets"]).end(PATIENCE);
        assert_eq!(code, Some(FINISHED), "{said}");
        assert!(!said.contains("hidden-place"), "a secret is told: {said}");
    }
    place.check("a folder", &run, FINISHED, &["has finished"]);
    assert_eq!(place.lines("hidden-place").len(), 1);
    let state = super::damage::files(&place.path(".weir"));
    let tells = |path: &std::path::PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap()).contains("hidden-place");
    assert!(!state.iter().any(tells), "a secret is in the state");
}

#[test]
fn state_that_only_a_cluster_has_room_for_is_refused() {
    let table = ["  storage: {persistentVolumeClaim: {claimName: states}}\n"];
    for spec in table {
        let place = Place::new(&manifest(spec, &[BIDS, TOTALS, COUNT]), ROW);
        place.check(spec, &["run", "job.yaml"], USER_ERROR, &["spec.storage", "spec.storage.local", "--state-dir"]);
        place.has_only(spec, &["in", "job.yaml"]);
        place.check(spec, &["run", "job.yaml", "--state-dir", "state"], FINISHED, &["has finished"]);
    }
}

/// Folders in which not even root can make anything.
const CLOSED: [&str; 2] = ["/proc/weir-output", "/sys/kernel/weir-output"];

#[test]
fn where_nothing_can_be_made_the_job_ends_at_once() {
    for closed in CLOSED.into_iter().filter(|folder| fs::create_dir_all(folder).is_err()) {
        let sink = TOTALS.replace("'out'", &format!("'{closed}'"));
        let spec = "  restart: {exponentialDelay: {initial: 10ms}}\n";
        let place = Place::new(&manifest(spec, &[BIDS, &sink, COUNT]), ROW);
        place.check(closed, &["run", "job.yaml"], USER_ERROR, &[closed, "error: "]);
        let place = Place::new(&manifest("", &[BIDS, TOTALS, COUNT]), ROW);
        let parts = ["the state directory", closed, "could not be created"];
        place.check(closed, &["run", "job.yaml", "--state-dir", closed], USER_ERROR, &parts);
        place.has_only(closed, &["in", "job.yaml"]);
    }
}

#[test]
fn two_runs_do_not_share_a_state_directory() {
    let place = Place::new(&numbered(TABLE, TOTALS, COUNT), &numbered_rows(3000));
    // It would run for a minute.
    let first = place.start(&["run", "job.yaml", "--quiet", "--speed", "0.5"]);
    first.until("it has begun", || place.path(".weir/job/chain").exists());
    let holder = format!("in use by process {}", first.child.id());
    place.check("a second run", &["run", "job.yaml"], USER_ERROR, &["the state directory", &holder, "--state-dir"]);
    place.check("a third", &["run", "job.yaml", "--fresh"], USER_ERROR, &[&holder]);
    let (code, said) = first.stop();
    assert_eq!(code, Some(STOPPED), "{said}");
    place.check("after its end", &["run", "job.yaml"], FINISHED, &["has finished"]);
}

#[test]
fn retention_keeps_what_is_needed_and_no_more() {
    let windows = "CREATE TABLE sums (at TIMESTAMP(3), n BIGINT)
        WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');";
    let query = "INSERT INTO sums SELECT window_end, count(*) FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(at), INTERVAL '1' SECOND)) \
                 GROUP BY auction, window_start, window_end;";
    let spec = "  checkpoint: {interval: 20ms, retain: 2}\n";
    let bids = BIDS.replace("'path' = 'in'", "'path' = 'in', 'bad-records' = 'skip'");
    let place = Place::new(&manifest(spec, &[&bids, windows, query]), &numbered_rows(3000));
    place.check("windows", &["run", "job.yaml", "--speed", "5"], FINISHED, &["has finished"]);
    let names = |folder: &str| super::damage::files(&place.path(".weir/job").join(folder));
    let newest = names("chain").last().unwrap().file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    assert!(newest > 10, "there were only {newest} links");
    // The start, two checkpoints, and the one that says that all is committed.
    assert!(names("chain").len() <= 4, "{:?}", names("chain"));
    // All windows have fired, so what they were made of is dead: few files hold it, and old ones are gone.
    let files = names("state").len();
    assert!(files <= 40, "{files} files of state after {newest} links");
    let (_, said) = place.start(&["check", "job.yaml", "--against", ".weir/job"]).end(PATIENCE);
    assert!(said.is_empty(), "nothing is damaged: {said}");
}
