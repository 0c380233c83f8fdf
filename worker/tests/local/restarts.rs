//! What follows a failure: the four restart strategies, run by run, in one process and on several workers.

use super::place::*;
use super::rows::{SKIP, numbered, numbered_rows};

/// In one process, and on two workers.
const RUNS: [&[&str]; 2] = [&[], &["--workers", "2"]];

/// A job whose output does not fit the files that it may write: no file may have more than 64 KiB.
fn too_large(restart: &str) -> Place {
    let rows: String =
        (0..30_000).map(|n| format!("{{\"auction\":{n},\"price\":{n},\"at\":\"2026-01-01 00:00:00\"}}\n")).collect();
    // Without a checkpoint meanwhile, so that each try fails at the same place.
    let spec = format!("  checkpoint: {{interval: 10m}}\n  restart: {restart}\n");
    Place::new(&manifest(&spec, &[BIDS, TOTALS, PRICES]), &rows)
}

fn count(said: &str, part: &str) -> usize {
    said.matches(part).count()
}

#[test]
fn each_strategy_restarts_as_often_as_it_says() {
    let table = [
        ("{none: {}}", 1, "spec.restart is none"),
        ("{fixedDelay: {attempts: 3, delay: 10ms}}", 4, "all 3 attempts"),
        ("{failureRate: {maxFailures: 2, window: 10m, delay: 10ms}}", 3, "more than 2 failures"),
    ];
    for ((restart, failures, reason), workers) in table.into_iter().flat_map(|row| RUNS.map(|workers| (row, workers))) {
        let place = too_large(restart);
        let (code, said) = place.start_with_small_files(workers).end(PATIENCE);
        let what = format!("{restart} {workers:?}");
        assert_eq!(code, Some(FAILED), "{what}: {said}");
        let failed = said.lines().filter(|line| line.starts_with("generation ") && line.contains(" failed: ")).count();
        assert_eq!(failed, failures, "{what}: {said}");
        assert_eq!(count(&said, "next try in"), failures - 1, "{what}: {said}");
        assert!(said.contains("could not be written") && said.contains(reason), "{what}: {said}");
        // Nor is a worker started again for it.
        assert_eq!(count(&said, "is started again"), 0, "{what}: {said}");
        assert!(place.lines("out").is_empty(), "{what}");
        // With room it goes on, and nothing is there twice.
        place.check(&what, &[&["run", "job.yaml"], workers].concat(), FINISHED, &["has finished"]);
        assert_eq!(place.lines("out").len(), 30_000, "{what}");
        assert!(hidden(&place).is_empty(), "{what}: {:?}", hidden(&place));
    }
}

#[test]
fn an_exponential_delay_restarts_until_the_job_is_stopped() {
    for workers in RUNS {
        let place =
            too_large("{exponentialDelay: {initial: 10ms, max: 40ms, multiplier: 2, jitter: 0, resetAfter: 10m}}");
        let running = place.start_with_small_files(workers);
        let generations = || std::fs::read_dir(place.path(".weir/job/generations")).map_or(0, Iterator::count);
        running.until("it was restarted again and again", || generations() >= 5);
        let (code, said) = running.stop();
        assert_eq!(code, Some(STOPPED), "{said}");
        for delay in ["next try in 10 ms", "next try in 20 ms", "next try in 40 ms"] {
            assert!(said.contains(delay), "{delay}: {said}");
        }
        assert!(count(&said, "next try in 40 ms") >= 2, "{said}");
        assert_eq!(count(&said, "is started again"), 0, "{said}");
        place.check("with room", &[&["run", "job.yaml"], workers].concat(), FINISHED, &["has finished"]);
        assert_eq!(place.lines("out").len(), 30_000);
    }
}

/// The worker that leads can tell nobody how it ended: the next one goes on.
#[test]
fn a_killed_worker_is_a_failure_of_the_job_and_a_killed_leader_is_started_again() {
    let job = numbered(SKIP, TOTALS, PRICES).replace("spec:\n", "spec:\n  restart: {none: {}}\n");
    let rows = numbered_rows(3_000);
    let table = [
        (1, FAILED, ["error: job job has failed: ", "spec.restart is none"]),
        (0, FINISHED, ["worker 0 has ended", "job job has finished"]),
    ];
    for (killed, code, parts) in table {
        let place = Place::new(&job, &rows);
        let running = place.start(&["run", "job.yaml", "--workers", "2", "--speed", "10"]);
        let links = || std::fs::read_dir(place.path(".weir/job/chain")).map_or(0, Iterator::count);
        running.until("a checkpoint", || links() > 1);
        running.kill_worker(killed);
        let (actual, said) = running.end(PATIENCE);
        assert_eq!(actual, Some(code), "worker {killed}: {said}");
        for part in parts {
            assert!(said.contains(part), "worker {killed}: {part:?} is not said: {said}");
        }
        assert!(!said.contains("next try in"), "worker {killed}: {said}");
        place.check("the next run", &["run", "job.yaml"], FINISHED, &[]);
        assert_eq!(place.lines("out").len(), 3_000, "worker {killed}");
    }
}

/// Names of files that were never made visible.
fn hidden(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.path("out")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}
