//! What happens to a job, by chance: first each kind once, then any.

use super::MOST_WORKERS;
use super::bucket::proxy::{Fault, Plan};
use super::cluster::{Cluster, Progress, Signal};
use super::network::From;
use std::time::{Duration, Instant};

/// The same numbers for the same seed.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }

    fn worker(&mut self) -> u32 {
        self.below(MOST_WORKERS) as u32
    }

    fn one<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// What relays cannot do.
const APART: &str = "cut two workers off from each other and rejoin";

const KINDS: [&str; 15] = [
    "kill a worker",
    "kill the leader",
    "leave",
    "stop and continue",
    "stop, replace and continue",
    "cut off and rejoin",
    "cut off, replace and rejoin",
    "cut the leader off and rejoin",
    "cut the leader off, replace and rejoin",
    "cut off from the store",
    APART,
    "rescale",
    "savepoint",
    "store fault",
    "store away",
];

pub struct Disturber {
    /// Kinds that have not happened yet, in the order in which they are to.
    missing: Vec<&'static str>,
    history: Vec<String>,
    began: Instant,
    due: Instant,
    /// Not before the job has come further than that.
    after: Option<(Progress, Instant)>,
}

impl Disturber {
    pub fn new(cluster: &Cluster, chance: &mut Chance) -> Self {
        let mut missing = KINDS.to_vec();
        missing.retain(|kind| *kind != APART || cluster.tells_machines_apart());
        for at in (1..missing.len()).rev() {
            missing.swap(at, chance.below(at as u64 + 1) as usize);
        }
        let now = Instant::now();
        Self { missing, history: Vec::new(), began: now, due: now, after: None }
    }

    /// What never happened.
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }

    pub fn history(&self) -> String {
        self.history.join(", ")
    }

    pub fn disturb_if_due(&mut self, cluster: &mut Cluster, chance: &mut Chance) {
        let now = Instant::now();
        let waits = self.after.as_ref().is_some_and(|(before, until)| {
            let progress = cluster.progress();
            now < *until && (progress.checkpoint.is_none() || progress.link == before.link)
        });
        if now < self.due || waits {
            return;
        }
        self.due = now + chance.ms(50, 1_500);
        // Half of the time the job gets to its next checkpoint first, unless it takes long.
        self.after = (chance.below(2) == 0).then(|| (cluster.progress(), now + Duration::from_secs(5)));
        let kind = self.missing.last().copied().unwrap_or_else(|| chance.one(&KINDS));
        if disturb(kind, cluster, chance) {
            self.missing.retain(|missing| *missing != kind);
            self.history.push(format!("{} {kind}", self.began.elapsed().as_millis()));
            cluster.count(kind);
        }
    }
}

/// False when it could not be done now.
fn disturb(kind: &str, cluster: &mut Cluster, chance: &mut Chance) -> bool {
    let worker = chance.worker();
    let follower = 1 + chance.below(MOST_WORKERS - 1) as u32;
    match kind {
        "kill a worker" => cluster.signal(worker, Signal::KILL),
        "kill the leader" => cluster.signal(0, Signal::KILL),
        "leave" => cluster.signal(worker, Signal::TERM),
        "stop and continue" => cluster.stop(worker, chance.ms(100, 3_000)),
        "stop, replace and continue" => {
            let stopped = cluster.stop(worker, chance.ms(500, 5_000));
            if stopped {
                cluster.replace(worker);
            }
            stopped
        }
        "cut off and rejoin" => cluster.cut(follower, chance.one(&[From::All, From::Workers]), chance.ms(300, 5_000)),
        "cut off from the store" => cluster.cut(worker, From::Store, chance.ms(500, 5_000)),
        "cut the leader off and rejoin" => {
            cluster.cut(0, chance.one(&[From::All, From::Workers]), chance.ms(300, 5_000))
        }
        "cut off, replace and rejoin" => cut_and_replace(follower, cluster, chance),
        "cut the leader off, replace and rejoin" => cut_and_replace(0, cluster, chance),
        APART => {
            let other = 1 + (follower + chance.below(MOST_WORKERS - 2) as u32) % (MOST_WORKERS as u32 - 1);
            cluster.cut_apart([follower, other], chance.ms(300, 5_000)).is_some()
        }
        "rescale" => cluster.assign(1 + chance.below(8), 1 + chance.below(MOST_WORKERS)),
        "savepoint" => cluster.savepoint(chance.below(5)),
        "store fault" => store_fault(cluster, chance),
        "store away" => {
            cluster.store_away(chance.ms(200, 6_000));
            true
        }
        kind => unreachable!("{kind}"),
    }
}

fn cut_and_replace(worker: u32, cluster: &mut Cluster, chance: &mut Chance) -> bool {
    let from = chance.one(&[From::All, From::Workers]);
    let cut = cluster.cut(worker, from, chance.ms(1_000, 8_000));
    if cut {
        cluster.replace(worker);
    }
    cut
}

fn store_fault(cluster: &mut Cluster, chance: &mut Chance) -> bool {
    let (method, target) = chance.one(&[
        ("PUT", "/chain/"),
        ("PUT", "/generations/"),
        ("PUT", "/state/"),
        ("PUT", "partNumber="),
        ("PUT", "/savepoints/"),
        ("PUT", "/assignments/"),
        ("POST", "uploads"),
        ("POST", "uploadId="),
        ("GET", "/chain/"),
        ("GET", "/state/"),
        ("GET", "/generations/"),
        ("GET", "list-type=2"),
        ("DELETE", "/"),
    ]);
    let hang = Fault::Hang(chance.ms(500, 12_000));
    let fault = match method {
        "GET" => chance.one(&[Fault::SlowDown, Fault::CutContent, hang]),
        _ => chance.one(&[Fault::SlowDown, hang, Fault::AppliedThenError, Fault::AppliedThenCut, Fault::Conflict]),
    };
    let times = 1 + chance.below(4) as usize;
    cluster.proxy.plan(Plan { method, target, fault, every: 1 + chance.below(2) as usize, times });
    true
}
