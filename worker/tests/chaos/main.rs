//! A job on several workers while everything that can happen to them happens: killed, stopped and continued, asked to
//! leave, joined by others, rescaled, and asked for savepoints. Its output is that of a quiet run.
//!
//! `WEIR_CHAOS_SEEDS` (such as `1,2,3`) and `WEIR_CHAOS_SECONDS` choose other histories and longer ones.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking, and says its seed"
)]

mod cluster;
mod output;

use cluster::{Cluster, Signal};
use std::time::{Duration, Instant};

/// The same numbers for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Events of the generator per second.
const RATE: u64 = 2_000;

/// The job gets this much longer than its input takes.
const PATIENCE: Duration = Duration::from_secs(180);

const MOST_WORKERS: u64 = 4;

fn setting<T>(name: &str, parse: impl Fn(&str) -> Option<T>, default: T) -> T {
    std::env::var(name).ok().and_then(|text| parse(&text)).unwrap_or(default)
}

fn disturb(cluster: &mut Cluster, chance: &mut Chance) -> &'static str {
    let worker = chance.below(MOST_WORKERS) as u32;
    match chance.below(12) {
        0..=3 => {
            cluster.signal(worker, Signal::KILL);
            "kill"
        }
        4 => {
            cluster.signal(0, Signal::KILL);
            "kill the leader"
        }
        5 => {
            cluster.signal(worker, Signal::TERM);
            "leave"
        }
        6 => {
            cluster.signal(worker, Signal::STOP);
            std::thread::park_timeout(Duration::from_millis(100 + chance.below(1_500)));
            cluster.signal(worker, Signal::CONT);
            "stop and continue"
        }
        7..=9 => {
            cluster.assign(1 + chance.below(8), 1 + chance.below(MOST_WORKERS));
            "rescale"
        }
        _ => {
            cluster.savepoint(chance.below(5));
            "savepoint"
        }
    }
}

fn run(seed: u64, seconds: u64) {
    eprintln!("WEIR_CHAOS_SEEDS={seed} WEIR_CHAOS_SECONDS={seconds}");
    let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut cluster = Cluster::new(seconds * RATE, RATE);
    let expected = cluster.quiet();
    for ordinal in 0..MOST_WORKERS {
        cluster.start(ordinal as u32);
    }
    let began = Instant::now();
    let mut history = Vec::new();
    while !cluster.look() {
        assert!(began.elapsed() < Duration::from_secs(seconds) + PATIENCE, "seed {seed}: stuck after {history:?}");
        std::thread::park_timeout(Duration::from_millis(chance.below(400)));
        // The end is quiet: the job must come to it.
        if began.elapsed() < Duration::from_secs(seconds) && chance.below(3) == 0 {
            let what = disturb(&mut cluster, &mut chance);
            history.push(format!("{} {what}", began.elapsed().as_millis()));
        }
    }
    assert!(!history.is_empty(), "seed {seed}: nothing happened");
    eprintln!("seed {seed}: {} disturbances, {:?}", history.len(), began.elapsed());
    output::check(&cluster.output(), &expected, &format!("seed {seed}: {history:?}"));
}

#[test]
fn nothing_is_lost_or_repeated_whatever_happens_to_workers() {
    let seeds = |text: &str| text.split(',').map(|seed| seed.trim().parse().ok()).collect::<Option<Vec<u64>>>();
    for seed in setting("WEIR_CHAOS_SEEDS", seeds, vec![1, 2, 3]) {
        run(seed, setting("WEIR_CHAOS_SECONDS", |text| text.parse().ok(), 30));
    }
}
