//! A job on several workers while everything that can happen to them happens: killed, stopped and continued, cut off,
//! replaced while they live, asked to leave, rescaled, asked for savepoints, and their store having its bad days. The
//! output is that of a quiet run.
//!
//! `WEIR_CHAOS_SEEDS` (such as `1,2,3`) and `WEIR_CHAOS_SECONDS` choose other histories and longer ones.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking, and says its seed"
)]

mod api;
#[path = "../s3/bucket/mod.rs"]
mod bucket;
mod cluster;
mod disturb;
mod network;
mod output;
mod partition;
mod placed;
mod relay;
mod shape;

use cluster::Cluster;
use disturb::{Chance, Disturber};
use shape::{Pace, Shape, State};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Events of the generator per second.
const RATE: u64 = 2_000;

/// The job gets this much longer than its input takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Workers there are at most.
pub const MOST_WORKERS: u64 = 4;

fn setting<T>(name: &str, parse: impl Fn(&str) -> Option<T>, default: T) -> T {
    std::env::var(name).ok().and_then(|text| parse(&text)).unwrap_or(default)
}

/// The answer is what never happened.
fn run(seed: u64, seconds: u64) -> BTreeSet<&'static str> {
    let mut chance = Chance::new(seed);
    let state = if seed.is_multiple_of(3) { State::Directory } else { State::Bucket };
    eprintln!("WEIR_CHAOS_SEEDS={seed} WEIR_CHAOS_SECONDS={seconds} state in a {state:?}");
    let pace = Pace::Rate(RATE);
    let unaligned = seed % 3 == 2;
    let shape = Shape { events: seconds * RATE, pace, state, interval: "200ms", unaligned, workers: 2, copies: true };
    let Some(mut cluster) = Cluster::new(shape) else { return BTreeSet::new() };
    let expected = cluster.quiet();
    for ordinal in 0..MOST_WORKERS {
        cluster.start(ordinal as u32);
    }
    let mut disturber = Disturber::new(&cluster, &mut chance);
    let began = Instant::now();
    let lasts = Duration::from_secs(seconds);
    while !cluster.look() {
        assert!(began.elapsed() < lasts * 2 + PATIENCE, "seed {seed}: stuck after {}", disturber.history());
        std::thread::park_timeout(Duration::from_millis(20));
        // The end is quiet: the job must come to it.
        if began.elapsed() < lasts || !disturber.missing().is_empty() {
            disturber.disturb_if_due(&mut cluster, &mut chance);
        }
    }
    cluster.await_zombies();
    let took = began.elapsed();
    eprintln!("seed {seed}: {took:?}, {:?}, rows {}", cluster.progress(), expected.len());
    eprintln!("seed {seed}: {:?}", cluster.counts);
    eprintln!("seed {seed}: requests by what they met: {:?}", cluster.proxy.met_by_fault());
    output::check(&cluster.output(), &expected, &format!("seed {seed}: {}", disturber.history()));
    disturber.missing().iter().copied().collect()
}

#[test]
fn nothing_is_lost_or_repeated_whatever_happens() {
    let seeds = |text: &str| text.split(',').map(|seed| seed.trim().parse().ok()).collect::<Option<Vec<u64>>>();
    let seconds = setting("WEIR_CHAOS_SECONDS", |text| text.parse().ok(), 90);
    // They wait more than they work.
    let missing = std::thread::scope(|scope| {
        let seeds = setting("WEIR_CHAOS_SEEDS", seeds, vec![1, 2, 3]);
        let runs: Vec<_> = seeds.into_iter().map(|seed| scope.spawn(move || run(seed, seconds))).collect();
        let missing = runs.into_iter().map(|run| run.join().unwrap());
        missing.reduce(|some, others| some.intersection(&others).copied().collect())
    });
    // A slow machine has not time for all of them in each history.
    assert_eq!(missing.unwrap_or_default(), BTreeSet::new(), "these never happened");
}
