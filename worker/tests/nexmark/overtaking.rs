//! Checkpoints whose barriers overtake what waits: killed, restored, rescaled.

use crate::fixture::{Job, UNALIGNED};
use crate::moments::Moments;
use crate::queries::{UNIONS, expected};
use crate::workers::harm;
use rustix::process::{Signal, kill_process};
use std::time::Duration;

#[test]
fn a_killed_job_whose_barriers_overtake_loses_and_repeats_nothing() {
    let mut in_flight = 0;
    for query in ["q0", "q11", "q17", "union", "union-of-tables"] {
        let expected = match UNIONS.iter().any(|(name, ..)| *name == query) {
            true => {
                let quiet = Job::new(query, "1h");
                quiet.run(&["--parallelism", "1"]);
                quiet.output()
            }
            false => expected(query),
        };
        let mut moments = Moments(20_261_122);
        let job = Job::new(query, UNALIGNED);
        for parallelism in ["2", "3", "1", "4", "8", "2"] {
            let moment = Duration::from_millis(300) + moments.next(500);
            if job.run_and_kill(moment, &["--speed", "30", "--parallelism", parallelism]) {
                break;
            }
            in_flight += job.rows_in_flight();
        }
        // On a slow machine nothing may have come so far yet.
        if job.run_and_kill_with_rows_in_flight(Duration::ZERO, &["--speed", "30"]) {
            in_flight += job.rows_in_flight();
        }
        job.run(&[]);
        job.check_against(&expected);
    }
    assert!(in_flight > 0, "no barrier has overtaken anything");
}

#[test]
fn rows_in_flight_are_replayed_at_any_other_parallelism() {
    for query in ["q11", "q17"] {
        for before in ["1", "3", "8"] {
            let arguments = ["--speed", "30", "--parallelism", before];
            let job = (1..10)
                .map(|_| Job::new(query, UNALIGNED))
                .find(|job| job.run_and_kill_with_rows_in_flight(Duration::from_millis(400), &arguments));
            let job = job.expect("a checkpoint with rows in flight");
            for after in 1..=8 {
                let copy = job.copy("1h");
                copy.run(&["--parallelism", &after.to_string()]);
                copy.check();
            }
        }
    }
}

#[test]
fn killed_workers_whose_barriers_overtake_lose_and_repeat_nothing() {
    for (query, seed) in [("q11", 21), ("q17", 22)] {
        let job = Job::new(query, UNALIGNED);
        let arguments = ["--workers", "3", "--parallelism", "4", "--speed", "10"];
        let kills = harm(&job, &arguments, &mut Moments(seed), 6, |worker, _| {
            // One that has just ended is as good as killed.
            let _ = kill_process(worker, Signal::KILL);
        });
        assert!(kills > 1, "{query} was too fast to be interrupted");
        job.check();
    }
}
