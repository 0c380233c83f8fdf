//! Workers as pods run them: told by their environment alone, over TLS, and steered by what a controller would send. The
//! processes are real, and so are the signals.

#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub, reason = "a test fails by panicking")]

#[path = "../warm/address.rs"]
mod address;
mod client;
#[path = "../s3/bucket/gateway.rs"]
#[allow(dead_code, reason = "it is shared with the tests of the store")]
mod gateway;
#[path = "../chaos/output.rs"]
mod output;
mod pod;
mod trouble;

use client::Method::Put;
use gateway::Gateway;
use pod::{Job, Signal, Spec, Storage};
use serde_json::json;

/// Events of the generator in a whole run.
const EVENTS: u64 = 200_000;

/// So many a second, until somebody takes the brake off: what happens in between has all the time that it needs.
const SLOW: u64 = 400;

/// Everything that happens to a job while it lives.
fn live(storage: Storage<'_>) {
    let job = Job::new(storage, EVENTS);
    let slow = job.manifest("slow", &Spec { rate: Some(SLOW), drops: true, ..Spec::default() });
    let counting = job.manifest("counting", &Spec { rate: Some(SLOW), also: Spec::COUNTS_AUCTIONS, ..Spec::default() });
    let fast = job.manifest("fast", &Spec { also: Spec::COUNTS_AUCTIONS, ..Spec::default() });

    let mut leader = job.leader(&slow, "a", 1);
    leader.reports("state", "awaiting");
    assert_eq!((leader.health("/healthz").0, leader.health("/readyz").0), (200, 200));
    assert_eq!(job.objects(), Vec::<String>::new(), "nothing is claimed before something is assigned");
    let first = json!({"revision": 1, "parallelism": 1, "workers": 1, "code": "a"});
    assert_eq!(leader.ask_as_worker(Put, "/v1/assignment", Some(&first)).0, 403);
    leader.assign(&first);
    leader.in_force(1);
    leader.completes_a_checkpoint();

    let mut one = job.worker(&slow, "a", 1, 1, &leader);
    let mut two = job.worker(&slow, "a", 1, 2, &leader);
    leader.assign(&json!({"revision": 2, "parallelism": 3, "workers": 3, "code": "a"}));
    leader.in_force(2);
    leader.completes_a_checkpoint();
    assert_eq!(one.health("/readyz").0, 200);

    let before = leader.generation();
    one.signal(Signal::KILL);
    one.ends_by_signal();
    one.start_again();
    leader.runs_as_generation_above(before);
    leader.completes_a_checkpoint();

    leader.assign(&json!({"revision": 3, "parallelism": 2, "workers": 2, "code": "a"}));
    leader.in_force(3);
    let before = leader.generation();
    two.signal(Signal::TERM);
    two.ends_with(5);
    leader.completes_a_checkpoint();
    assert_eq!(leader.generation(), before, "a worker without tasks goes without a sound");

    // An upgrade: the new leader waits for its turn, the old one hands over and waits in turn.
    let mut next = job.leader(&counting, "b", 4);
    let mut its_worker = job.worker(&counting, "b", 4, 1, &next);
    next.reports("state", "awaiting");
    leader.assign(&json!({"revision": 4, "parallelism": 2, "workers": 2, "code": "b"}));
    leader.ends_with(5);
    assert!(leader.last_words().contains("goes on as revision 4 with another leader"), "{}", leader.last_words());
    next.in_force(4);
    next.completes_a_checkpoint();
    leader.start_again();
    leader.reports("state", "awaiting");

    // It is taken back, and tried once more.
    one.signal(Signal::TERM);
    one.ends_with(5);
    one.start_again();
    next.assign(&json!({"revision": 5, "parallelism": 2, "workers": 2, "code": "a", "rollback": "b"}));
    // The old code does not wait for the new one to stop, but lets it if it is quick.
    next.ends_with_one_of(&[4, 5]);
    leader.in_force(5);
    leader.completes_a_checkpoint();
    its_worker.signal(Signal::TERM);
    its_worker.ends_with(5);

    let last = job.leader(&fast, "c", 6);
    let _its_worker = job.worker(&fast, "c", 6, 1, &last);
    leader.assign(&json!({"revision": 6, "parallelism": 2, "workers": 2, "code": "c"}));
    leader.ends_with(5);
    last.reports("ending", "finished");
    assert_eq!(last.health("/healthz").0, 200);
    job.check_output();
}

#[test]
fn a_job_lives_in_a_directory() {
    live(Storage::Directory);
}

#[test]
fn a_job_lives_in_a_bucket() {
    let Some(gateway) = Gateway::start() else { return };
    live(Storage::Bucket(&gateway));
}
