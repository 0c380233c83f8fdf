//! Whatever happens on the way, the same end: pods die, nodes are lost, the controller dies between two writes, the status
//! is lost. The cluster in memory checks on the way that no two leaders have one attempt, that no revision changes, and
//! that no pod of a running job goes before another is there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::{DesiredState, JobState};
use weir_operator::model::RevisionSeen;

use crate::cluster::{Cluster, crashing, evicted, lost};

/// Chance that repeats.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Something happens, perhaps.
fn harm(cluster: &mut Cluster, chance: &mut Chance) {
    let names: Vec<String> = cluster.pods.keys().cloned().collect();
    if names.is_empty() {
        return;
    }
    let name = names[chance.below(names.len() as u64) as usize].clone();
    let now = cluster.now;
    let pod = cluster.pods.get_mut(&name).unwrap();
    match chance.below(24) {
        0 => drop(cluster.pods.remove(&name)),
        1 => pod.status = Some(evicted()),
        2 if pod.status.is_some() => pod.status = Some(lost()),
        3 => pod.metadata.deletion_timestamp = Some(Time(now)),
        4 if pod.status.is_some() => pod.status = Some(crashing(101, "panicked", now)),
        5 => cluster.job.status = None,
        6 => cluster.store.away = true,
        7 | 8 => cluster.store.away = false,
        9 => {
            let uid = pod.metadata.uid.clone().unwrap();
            cluster.store.silence(&uid);
        }
        10 => cluster.store.everybody_speaks(),
        _ => {}
    }
}

fn through(cluster: &mut Cluster, chance: &mut Chance, rounds: u64) {
    for _ in 0..rounds {
        harm(cluster, chance);
        let writes = if chance.one_in(3) { chance.below(9) as usize } else { usize::MAX };
        cluster.round(writes);
        // What was told to go is gone some time.
        if chance.one_in(3) {
            cluster.pods.retain(|_, pod| pod.metadata.deletion_timestamp.is_none());
        }
    }
}

fn calm(cluster: &mut Cluster) {
    cluster.store.away = false;
    cluster.store.everybody_speaks();
    cluster.pods.retain(|_, pod| pod.metadata.deletion_timestamp.is_none());
    cluster.rounds(150);
}

/// The job runs as the last edit says, on exactly its pods, and nothing is on its way.
fn converged(cluster: &Cluster, seed: u64, sql: &str, parallelism: u32) {
    let state = cluster.status();
    let revisions: Vec<RevisionSeen> = cluster.revisions.values().filter_map(RevisionSeen::of).collect();
    let current = revisions.iter().find(|revision| revision.number == cluster.store.in_force);
    let current = current.unwrap_or_else(|| panic!("seed {seed}: revision {} is not recorded", cluster.store.in_force));
    let program = revisions.iter().find(|revision| revision.number == current.content.program).unwrap();
    let runs = program.content.manifest.as_ref().unwrap()["spec"]["pipeline"]["sql"].clone();
    assert_eq!(runs, sql, "seed {seed}: {state:#?}");
    let wanted: Vec<String> = (0..parallelism).map(|ordinal| format!("{}/{ordinal}", program.number)).collect();
    assert_eq!(cluster.fleet(), wanted, "seed {seed}: {state:#?}");
    assert_eq!(cluster.pods.len(), wanted.len(), "seed {seed}: {:?}", cluster.pods.keys());
    assert_eq!(current.content.parallelism, parallelism, "seed {seed}");
    assert_eq!(state.state, Some(JobState::Running), "seed {seed}: {state:#?}");
    assert_eq!(state.change, None, "seed {seed}");
}

fn seeds(test: impl Fn(u64, &mut Cluster, &mut Chance)) {
    for seed in 1..=150_u64 {
        let mut cluster = Cluster::new();
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        test(seed, &mut cluster, &mut chance);
    }
}

const OLD: &str = "INSERT INTO a SELECT * FROM b";
const NEW: &str = "INSERT INTO a SELECT x FROM b";

#[test]
fn a_first_start_ends_in_a_running_job() {
    seeds(|seed, cluster, chance| {
        through(cluster, chance, 30);
        calm(cluster);
        converged(cluster, seed, OLD, 2);
    });
}

#[test]
fn rescales_one_into_another_end_with_the_last() {
    seeds(|seed, cluster, chance| {
        through(cluster, chance, 12);
        for parallelism in [4, 1, 3] {
            cluster.parallelism(parallelism);
            let rounds = chance.below(12);
            through(cluster, chance, rounds);
        }
        calm(cluster);
        converged(cluster, seed, OLD, 3);
    });
}

#[test]
fn upgrades_there_and_back_end_with_the_last() {
    seeds(|seed, cluster, chance| {
        cluster.edit(|job| job.spec.rollback.enabled = false);
        through(cluster, chance, 12);
        for (sql, parallelism) in [(NEW, 2), (OLD, 3), ("INSERT INTO a SELECT y FROM b", 1), (NEW, 2)] {
            cluster.sql(sql);
            cluster.parallelism(parallelism);
            let rounds = chance.below(14);
            through(cluster, chance, rounds);
        }
        calm(cluster);
        converged(cluster, seed, NEW, 2);
    });
}

#[test]
fn a_bad_version_is_taken_back_whatever_happens_meanwhile() {
    seeds(|seed, cluster, chance| {
        cluster.edit(|job| job.spec.rollback.deadline = weir_crds::Duration::from_secs(30));
        cluster.rounds(12);
        let good: Vec<String> = cluster.store.assignments.values().map(|assign| assign.code.clone()).collect();
        cluster.sql(NEW);
        for _ in 0..60 {
            through(cluster, chance, 1);
            let codes: Vec<String> = cluster.store.assignments.values().map(|assign| assign.code.clone()).collect();
            cluster.store.bad.extend(codes.into_iter().filter(|code| !good.contains(code)));
        }
        calm(cluster);
        converged(cluster, seed, OLD, 2);
    });
}

#[test]
fn a_suspended_job_ends_without_pods_and_goes_on_when_it_is_wanted() {
    seeds(|seed, cluster, chance| {
        through(cluster, chance, 14);
        cluster.edit(|job| job.spec.state = DesiredState::Suspended);
        through(cluster, chance, 14);
        calm(cluster);
        assert!(cluster.pods.is_empty(), "seed {seed}: {:?}", cluster.pods.keys());
        assert_eq!(cluster.status().state, Some(JobState::Suspended), "seed {seed}");
        let stops = cluster.store.savepoints.keys().filter(|name| name.starts_with("suspend-")).count();
        assert!(stops <= 1, "seed {seed}: {:?}", cluster.store.savepoints);
        cluster.edit(|job| job.spec.state = DesiredState::Running);
        through(cluster, chance, 10);
        calm(cluster);
        converged(cluster, seed, OLD, 2);
    });
}
