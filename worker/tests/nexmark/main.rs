//! Nexmark queries on a frozen input, as a user runs them, against what Apache Flink answered: at several parallelisms,
//! on several workers, killed at random moments, stopped and rescaled.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking, and says its seed"
)]

mod fixture;
mod moments;
mod overtaking;
mod queries;
mod workers;

use fixture::Job;
use moments::Moments;
use queries::QUERIES;
use std::fs;
use std::time::Duration;

#[test]
fn every_query_gives_what_flink_gave_at_any_parallelism() {
    for (query, ..) in QUERIES {
        for parallelism in ["1", "2", "4"] {
            // A long interval: but for the last one there are no checkpoints; a short one: many.
            for interval in ["1h", "20ms"] {
                let job = Job::new(query, interval);
                assert_eq!(job.run(&["--parallelism", parallelism]), 0);
                job.check();
            }
        }
    }
}

#[test]
fn a_finished_job_repeats_nothing_and_a_fresh_one_begins_anew() {
    let job = Job::new("q11", "50ms");
    assert_eq!(job.run(&[]), 0);
    assert_eq!(job.run(&[]), 0);
    job.check();
    fs::remove_dir_all(job.folder.path().join("out")).unwrap();
    assert_eq!(job.run(&["--fresh"]), 0);
    job.check();
}

#[test]
fn generated_events_give_the_same_at_any_parallelism_and_none_is_late() {
    let source = "'connector' = 'nexmark', 'events.num' = '60000', 'first-event.rate' = '1000'";
    let output = |parallelism: &str| {
        let job = Job::reading(source, "q11", "20ms");
        job.run(&["--parallelism", parallelism]);
        job.output()
    };
    let alone = output("1");
    let counted: u64 = alone.iter().map(|row| row.split('\t').nth(1).unwrap().parse::<u64>().unwrap()).sum();
    // 46 of 50 events are bids: each is in a session.
    assert_eq!(counted, 60_000 / 50 * 46);
    for parallelism in ["2", "5"] {
        assert_eq!(output(parallelism), alone);
    }
}

#[test]
fn a_killed_job_loses_and_repeats_nothing() {
    let seed = std::env::var("WEIR_KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    eprintln!("WEIR_KILL_SEED={seed}");
    for (query, ..) in QUERIES {
        let mut moments = Moments(seed);
        let job = Job::new(query, "30ms");
        let mut kills = 0;
        while kills < 20 && !job.run_and_kill(moments.next(900), &["--speed", "10"]) {
            kills += 1;
        }
        assert_eq!(job.run(&["--speed", "1000"]), 0);
        job.check();
    }
}

#[test]
fn files_that_go_on_after_a_checkpoint_lose_and_repeat_nothing() {
    let mut job = Job::new("q0", "30ms");
    job.sink_options = ", 'sink.rolling-policy.on-checkpoint' = 'false', 'sink.rolling-policy.file-size' = '200 kb'";
    job.write_manifest("30ms");
    let mut moments = Moments(3);
    for parallelism in ["2", "3", "1", "4"] {
        job.run_and_kill(
            Duration::from_millis(500) + moments.next(300),
            &["--speed", "20", "--parallelism", parallelism],
        );
    }
    job.run(&[]);
    job.check();
}

#[test]
fn a_job_goes_on_at_any_other_parallelism() {
    for query in ["q11", "q17"] {
        for before in 1..=8 {
            let job = Job::new(query, "20ms");
            let before = before.to_string();
            // Well before the end of a run that takes a second and more.
            let ended = job.run_and_kill(Duration::from_millis(700), &["--speed", "30", "--parallelism", &before]);
            assert!(!ended, "{query} was too fast to be interrupted");
            for after in 1..=8 {
                let copy = job.copy("1h");
                copy.run(&["--parallelism", &after.to_string()]);
                copy.check();
            }
        }
    }
}
