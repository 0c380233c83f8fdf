//! What workers keep near, and in memory, is what a job goes on from: told by their metrics, not by their speed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking, and shows what workers said"
)]

mod address;
mod cluster;

use cluster::Cluster;
use std::collections::BTreeSet;

const READ: &str = "weir_state_read_bytes_total";
const REUSED: &str = "weir_state_reused_bytes_total";

fn read(cluster: &Cluster, worker: usize, from: &str) -> Option<u64> {
    cluster.metric(worker, READ, &format!("from=\"{from}\""))
}

fn reused(cluster: &Cluster, worker: usize, from: &str) -> Option<u64> {
    cluster.metric(worker, REUSED, &format!("from=\"{from}\""))
}

/// Each key has one row, so no task has begun without its state, or with another's.
fn check_output(cluster: &Cluster) {
    let rows = cluster.output();
    let keys: BTreeSet<i64> =
        rows.keys().map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap()["k"].as_i64().unwrap()).collect();
    let twice: Vec<_> = rows.iter().filter(|(_, count)| **count != 1).take(3).collect();
    assert!(!keys.is_empty() && keys.len() == rows.len() && twice.is_empty(), "{} rows, {twice:?}", rows.len());
}

#[test]
fn survivors_of_a_kill_go_on_from_their_copies() {
    let mut cluster = Cluster::start(2, "200ms");
    cluster.until("a second checkpoint", |cluster| (cluster.checkpoints() >= 2).then_some(()));
    cluster.restart(1);
    let before = cluster.checkpoints();
    cluster.until("state from the store", |cluster| read(cluster, 1, "store").filter(|bytes| *bytes > 0));
    cluster.until("a checkpoint after it", |cluster| (cluster.checkpoints() > before + 1).then_some(()));
    assert!(read(&cluster, 0, "copy").unwrap() > 0, "the survivor has copies of all that it wrote");
    assert_eq!(read(&cluster, 0, "store"), Some(0), "and needs nothing else");
    cluster.stop();
    check_output(&cluster);
}

#[test]
fn a_rescale_goes_on_from_what_is_in_memory() {
    let mut cluster = Cluster::start(3, "1s");
    cluster.until("a checkpoint", |cluster| (cluster.checkpoints() >= 1).then_some(()));
    cluster.assign(1, 3);
    // Files that are merged just before workers are told make what they load useless, and a worker that is taken for dead
    // on a slow machine what it holds: then another change must use it.
    let mut revision = 1;
    let none = |cluster: &Cluster| {
        [(2, "ahead"), (0, "left"), (1, "left")].map(|of| reused(cluster, of.0, of.1)).contains(&Some(0))
    };
    while none(&cluster) && revision < 9 {
        revision += 2;
        cluster.assign(revision - 1, 2);
        cluster.assign(revision, 3);
    }
    assert!(reused(&cluster, 2, "ahead").unwrap() > 0, "the new worker has loaded its key groups ahead");
    assert!(reused(&cluster, 0, "left").unwrap() > 0, "what stays in place stays in memory");
    assert!(reused(&cluster, 1, "left").unwrap() > 0, "what stays in place stays in memory");
    assert_eq!(read(&cluster, 0, "store"), Some(0), "and is not read");
    // Those that stay have loaded ahead what comes to them.
    let ahead = |cluster: &Cluster| reused(cluster, 0, "ahead").unwrap() + reused(cluster, 1, "ahead").unwrap();
    let mut gained = ahead(&cluster);
    cluster.assign(revision + 1, 2);
    while ahead(&cluster) == gained && revision < 18 {
        revision += 2;
        cluster.assign(revision, 3);
        gained = ahead(&cluster);
        cluster.assign(revision + 1, 2);
    }
    assert!(ahead(&cluster) > gained, "who stays has loaded ahead what comes to it");
    let before = cluster.checkpoints();
    cluster.until("a checkpoint after it", |cluster| (cluster.checkpoints() > before).then_some(()));
    cluster.stop();
    check_output(&cluster);
}

#[test]
fn what_retention_deletes_goes_from_the_copies_of_all_workers() {
    let mut cluster = Cluster::start(2, "20ms");
    for worker in [0, 1] {
        let mut most = 0;
        cluster.until("fewer copies", |cluster| {
            let bytes = cluster.metric(worker, "weir_state_copies_bytes", "")?;
            most = most.max(bytes);
            (bytes < most).then_some(())
        });
    }
}
