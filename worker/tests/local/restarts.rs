//! What follows a failure: the four restart strategies, run by run.

use super::place::*;

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
    for (restart, failures, reason) in table {
        let place = too_large(restart);
        let (code, said) = place.start_with_small_files(&[]).end(PATIENCE);
        assert_eq!(code, Some(FAILED), "{restart}: {said}");
        let failed = said.lines().filter(|line| line.starts_with("generation ") && line.contains(" failed: ")).count();
        assert_eq!(failed, failures, "{restart}: {said}");
        assert_eq!(count(&said, "next try in"), failures - 1, "{restart}: {said}");
        assert!(said.contains("could not be written") && said.contains(reason), "{restart}: {said}");
        assert!(place.lines("out").is_empty(), "{restart}");
        // With room it goes on, and nothing is there twice.
        place.check(restart, &["run", "job.yaml"], FINISHED, &["has finished"]);
        assert_eq!(place.lines("out").len(), 30_000, "{restart}");
        assert!(hidden(&place).is_empty(), "{restart}: {:?}", hidden(&place));
    }
}

#[test]
fn an_exponential_delay_restarts_until_the_job_is_stopped() {
    let place = too_large("{exponentialDelay: {initial: 10ms, max: 40ms, multiplier: 2, jitter: 0, resetAfter: 10m}}");
    let running = place.start_with_small_files(&[]);
    let generations = || std::fs::read_dir(place.path(".weir/job/generations")).map_or(0, Iterator::count);
    running.until("it was restarted again and again", || generations() >= 5);
    let (code, said) = running.stop();
    assert_eq!(code, Some(STOPPED), "{said}");
    for delay in ["next try in 10 ms", "next try in 20 ms", "next try in 40 ms"] {
        assert!(said.contains(delay), "{delay}: {said}");
    }
    assert!(count(&said, "next try in 40 ms") >= 2, "{said}");
    place.check("with room", &["run", "job.yaml"], FINISHED, &["has finished"]);
    assert_eq!(place.lines("out").len(), 30_000);
}

/// Names of files that were never made visible.
fn hidden(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.path("out")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}
