//! The same queries on several worker processes, which are killed, stopped and continued.

use crate::fixture::{Job, PATIENCE};
use crate::moments::Moments;
use crate::queries::QUERIES;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Read;
use std::process::Child;
use std::time::{Duration, Instant};

/// The processes of the job's workers that run now.
fn workers_of(parent: &Child) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", parent.id());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Harms one worker after another, each at a random moment, until the job has ended; answers how many.
pub fn harm(job: &Job, arguments: &[&str], moments: &mut Moments, most: u32, harm: impl Fn(Pid, &mut Moments)) -> u32 {
    let mut run = job.start(arguments);
    let mut errors = run.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let (began, mut harmed) = (Instant::now(), 0);
    let status = loop {
        if let Some(status) = run.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            let _ = run.kill();
            break run.wait().unwrap();
        }
        std::thread::park_timeout(Duration::from_millis(100) + moments.next(500));
        let workers = workers_of(&run);
        if harmed < most && !workers.is_empty() {
            let chosen = moments.next(workers.len() as u64).as_millis() as usize;
            harm(workers[chosen], moments);
            harmed += 1;
        }
    };
    let errors = reader.join().unwrap();
    assert!(status.success(), "{} ended with {status}: {errors}", job.query);
    harmed
}

#[test]
fn every_query_gives_what_flink_gave_on_several_workers() {
    for (query, ..) in QUERIES {
        for (workers, parallelism, compression) in [("2", "2", "lz4"), ("3", "5", "none"), ("4", "8", "lz4")] {
            let job = Job::new(query, "50ms");
            let arguments = ["--workers", workers, "--parallelism", parallelism, "--compress", compression];
            assert_eq!(job.run(&arguments), 0);
            job.check();
        }
    }
}

#[test]
fn killed_workers_lose_and_repeat_nothing() {
    for (query, seed) in [("q0", 11), ("q11", 12), ("q17", 13)] {
        let mut moments = Moments(seed);
        let job = Job::new(query, "30ms");
        let arguments = ["--workers", "3", "--parallelism", "4", "--speed", "10"];
        let kills = harm(&job, &arguments, &mut moments, 8, |worker, _| {
            // One that has just ended is as good as killed.
            let _ = kill_process(worker, Signal::KILL);
        });
        assert!(kills > 1, "{query} was too fast to be interrupted");
        job.check();
    }
}

#[test]
fn stopped_workers_come_back_from_the_dead_and_touch_nothing() {
    let mut moments = Moments(21);
    let job = Job::new("q11", "30ms");
    let stops = harm(&job, &["--workers", "2", "--speed", "5"], &mut moments, 2, |worker, moments| {
        let _ = kill_process(worker, Signal::STOP);
        // Longer than its leader, or its workers, wait for it.
        std::thread::park_timeout(Duration::from_millis(3500) + moments.next(500));
        let _ = kill_process(worker, Signal::CONT);
    });
    assert!(stops > 0);
    job.check();
}
