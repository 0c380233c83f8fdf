//! Workers that cannot begin, or whose job cannot go on: they stay, say why, and go on when it is mended.

use crate::address::free_address;
use crate::client::Method::{Get, Post, Put};
use crate::gateway::{BUCKET, Gateway};
use crate::pod::{Job, Signal, Spec, Storage, UID};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

/// What a leader shows that could not begin.
fn check_failure(report: &Value, kind: &str, words: &str) {
    let failure = &report["lastFailure"];
    assert_eq!((&report["state"], &report["ending"]), (&json!("ended"), &json!("failed")), "{report}");
    assert_eq!(failure["kind"], json!(kind), "{report}");
    assert!(failure["message"].as_str().unwrap().contains(words), "{report}");
}

#[test]
fn a_mistake_in_the_sql_is_shown_until_it_is_mended() {
    let job = Job::new(Storage::Directory, 1_000);
    let manifest = job.manifest("job", &Spec { counts: Some("SELECT bider FROM bid"), ..Spec::default() });
    let mut leader = job.leader(&manifest, "a", 1);
    let mut worker = job.worker(&manifest, "a", 1, 1, &leader);
    check_failure(&leader.reports("ending", "failed"), "user", "bider");
    assert!(leader.last_words().contains("bider"));
    let assignment = json!({"revision": 1, "parallelism": 2, "workers": 2, "code": "a"});
    assert_eq!(leader.ask(Put, "/v1/assignment", Some(&assignment)).0, 503);
    for pod in [&mut leader, &mut worker] {
        assert_eq!(pod.health("/healthz").0, 200);
        let (status, why) = pod.health("/readyz");
        assert!(status == 503 && why["error"].as_str().unwrap().contains("bider"), "{why}");
        assert!(pod.is_alive());
    }
    worker.signal(Signal::TERM);
    worker.ends_with(5);
    let last = "worker 1 was asked to end before it had begun";
    assert_eq!((worker.last_line().as_str(), worker.last_words().as_str()), (last, last));
    worker.start_again();
    job.manifest("job", &Spec::default());
    leader.reports("state", "awaiting");
    leader.assign(&assignment);
    leader.reports("ending", "finished");
    job.check_output();
    worker.health_becomes("/readyz", 200);
}

#[test]
fn a_plan_that_does_not_fit_stands_still_until_something_else_is_assigned() {
    let job = Job::new(Storage::Directory, 20_000);
    let manifest = job.manifest("job", &Spec { rate: Some(500), ..Spec::default() });
    let sums = "SELECT bidder, count(*), max(price) FROM bid GROUP BY bidder";
    let changed = job.manifest("changed", &Spec { counts: Some(sums), ..Spec::default() });
    let first = job.leader(&manifest, "a", 1);
    first.assign(&json!({"revision": 1, "parallelism": 1, "workers": 1, "code": "a"}));
    first.in_force(1);
    first.completes_a_checkpoint();
    drop(first);
    let second = job.leader(&changed, "b", 2);
    let misfit = json!({"revision": 2, "parallelism": 1, "workers": 1, "code": "b", "force": true});
    second.assign(&misfit);
    let stands_still = || {
        let report = second.reports("ending", "failed");
        check_failure(&report, "user", "operator");
        report["generation"].clone()
    };
    let generation = stands_still();
    let objects = job.objects();
    let answer = second.ask(Put, "/v1/assignment", Some(&misfit));
    assert_eq!(answer.0, 202, "the same request again changes nothing: {answer:?}");
    assert_eq!((stands_still(), job.objects()), (generation, objects));
    let anew = json!({
        "revision": 3, "parallelism": 1, "workers": 1, "code": "b", "force": true, "restoreFrom": "nothing",
    });
    second.assign(&anew);
    second.reports("ending", "finished");
    let stale = second.ask(Put, "/v1/assignment", Some(&misfit));
    assert_eq!(stale.0, 409, "{stale:?}");
}

#[test]
fn a_bucket_that_is_not_there_is_waited_for() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new(Storage::Bucket(&gateway), 1_000);
    let manifest = job.manifest("job", &Spec { bucket: Some("later"), ..Spec::default() });
    let leader = job.leader(&manifest, "a", 1);
    check_failure(&leader.reports("ending", "failed"), "user", "there is no bucket 'later'");
    fs::create_dir(gateway.data().with_file_name("later")).unwrap();
    leader.reports("state", "awaiting");
}

#[test]
fn a_store_that_is_away_at_a_start_is_waited_for() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new(Storage::Bucket(&gateway), 1_000);
    let address = free_address();
    let manifest = job.manifest("job", &Spec { endpoint: Some(format!("http://{address}")), ..Spec::default() });
    let leader = job.leader(&manifest, "a", 1);
    let report = leader.reports("ending", "failed");
    assert!(report["lastFailure"]["message"].as_str().unwrap().contains("nobody answers"), "{report}");
    forward(&address, gateway.address);
    leader.assign(&json!({"revision": 1, "parallelism": 2, "workers": 1, "code": "a"}));
    leader.reports("ending", "finished");
    job.check_output();
    assert_eq!(fs::read_dir(gateway.data().join("weir/live")).unwrap().count(), 1, "one folder, of the job's own uid");
    assert!(gateway.data().join(BUCKET).symlink_metadata().is_err());
}

/// Passes connections on, until the test ends.
fn forward(address: &str, to: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(to) else { continue };
            for (mut from, mut to) in [(stream.try_clone().unwrap(), server.try_clone().unwrap()), (server, stream)] {
                std::thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
}

#[test]
fn a_worker_that_is_told_to_go_leaves_nothing_to_be_read_again() {
    let events = 40_000;
    let job = Job::new(Storage::Directory, events);
    let manifest = job.manifest("job", &Spec { rate: Some(4_000), ..Spec::default() });
    let mut leader = job.leader(&manifest, "a", 1);
    let mut worker = job.worker(&manifest, "a", 1, 1, &leader);
    leader.assign(&json!({"revision": 1, "parallelism": 2, "workers": 2, "code": "a"}));
    leader.in_force(1);
    leader.completes_a_checkpoint();
    let before = leader.generation();
    worker.signal(Signal::TERM);
    worker.ends_with(5);
    let last = "worker 1: its part of the job goes on elsewhere";
    assert_eq!((worker.last_line().as_str(), worker.last_words().as_str()), (last, last));
    worker.start_again();
    leader.runs_as_generation_above(before);
    leader.completes_a_checkpoint();
    let ended = leader.reports("ending", "finished");
    assert_eq!(ended["totals"]["rowsIn"], json!(events), "{ended}");
    leader.signal(Signal::TERM);
    leader.ends_with(0);
    assert!(leader.last_words().contains("has finished"), "{}", leader.last_words());
    job.check_output();
}

#[test]
fn a_leader_that_is_told_to_go_leaves_nothing_to_be_read_again() {
    let events = 40_000;
    let job = Job::new(Storage::Directory, events);
    let manifest = job.manifest("job", &Spec { rate: Some(2_000), ..Spec::default() });
    let mut leader = job.leader(&manifest, "a", 1);
    leader.assign(&json!({"revision": 1, "parallelism": 2, "workers": 1, "code": "a"}));
    leader.in_force(1);
    leader.completes_a_checkpoint();
    leader.signal(Signal::TERM);
    leader.ends_with(5);
    let before = leader.rows_in_at_the_end();
    assert!(before > 0);
    leader.start_again();
    let ended = leader.reports("ending", "finished");
    assert_eq!(ended["totals"]["rowsIn"].as_u64().map(|after| before + after), Some(events), "{before}: {ended}");
    job.check_output();
}

#[test]
fn a_leader_whose_tasks_do_not_stop_in_time_ends_all_the_same_and_the_next_one_goes_on() {
    let job = Job::new(Storage::Directory, 40_000);
    let manifest = job.manifest("job", &Spec { rate: Some(2_000), ..Spec::default() });
    let mut leader = job.leader(&manifest, "a", 1);
    leader.signal(Signal::KILL);
    leader.ends_by_signal();
    leader.is_told("WEIR_DRAIN_TIMEOUT", "1ms");
    leader.start_again();
    let worker = job.worker(&manifest, "a", 1, 1, &leader);
    leader.assign(&json!({"revision": 1, "parallelism": 2, "workers": 2, "code": "a"}));
    leader.in_force(1);
    leader.completes_a_checkpoint();
    // Its part of the last checkpoint does not come.
    worker.signal(Signal::STOP);
    leader.signal(Signal::TERM);
    leader.ends_with(130);
    assert!(leader.last_words().contains("within the time for draining"), "{}", leader.last_words());
    worker.signal(Signal::CONT);
    leader.is_told("WEIR_DRAIN_TIMEOUT", "100s");
    leader.start_again();
    leader.in_force(1);
    leader.completes_a_checkpoint();
    worker.signal(Signal::STOP);
    leader.signal(Signal::TERM);
    // Two that come together may be one.
    leader.signal(Signal::INT);
    leader.ends_with(130);
    let last = "error: a second signal came before the tasks had ended; the job goes on from its last checkpoint";
    assert_eq!((leader.last_line().as_str(), leader.last_words().as_str()), (last, last));
    worker.signal(Signal::CONT);
    leader.start_again();
    leader.reports("ending", "finished");
    job.check_output();
}

#[test]
fn a_suspended_job_stays_so_until_something_is_assigned() {
    let job = Job::new(Storage::Directory, 20_000);
    let manifest = job.manifest("job", &Spec { rate: Some(1_000), ..Spec::default() });
    let mut leader = job.leader(&manifest, "a", 1);
    leader.assign(&json!({"revision": 1, "parallelism": 1, "workers": 1, "code": "a"}));
    leader.in_force(1);
    let (status, _) = leader.ask(Post, "/v1/savepoints", Some(&json!({"name": "pause", "then": "stop"})));
    assert_eq!(status, 202);
    leader.reports("ending", "stopped");
    leader.signal(Signal::KILL);
    leader.ends_by_signal();
    leader.start_again();
    leader.reports("ending", "stopped");
    assert_eq!(leader.ask(Get, "/v1/assignment", None).1["revision"], json!(1));
    leader.assign(&json!({"revision": 2, "parallelism": 2, "workers": 1, "code": "a"}));
    leader.reports("ending", "finished");
    job.check_output();
}

#[test]
fn a_fork_keeps_the_state_that_it_begins_with_until_it_has_its_own() {
    let events = 20_000;
    let origin = Job::new(Storage::Directory, events);
    let leader = origin.leader(&origin.manifest("job", &Spec { rate: Some(2_000), ..Spec::default() }), "a", 1);
    leader.assign(&json!({"revision": 1, "parallelism": 1, "workers": 1, "code": "a"}));
    leader.in_force(1);
    leader.completes_a_checkpoint();
    leader.ask(Post, "/v1/savepoints", Some(&json!({"name": "pause", "then": "stop"})));
    leader.reports("ending", "stopped");
    drop(leader);
    let place = origin.path("state/live").join(format!("bids-{UID}"));
    let fork = Job::new(Storage::Directory, events);
    let leader = fork.leader(&fork.manifest("job", &Spec::default()), "b", 1);
    let nowhere =
        json!({"revision": 1, "parallelism": 1, "workers": 1, "code": "b", "restoreFrom": {"path": "/no/where"}});
    assert_eq!(leader.ask(Put, "/v1/assignment", Some(&nowhere)).0, 422);
    let wanted = json!({"revision": 1, "parallelism": 1, "workers": 1, "code": "b", "restoreFrom": {"path": place}});
    leader.assign(&wanted);
    let report = leader.reports("ending", "finished");
    let read = report["totals"]["rowsIn"].as_u64().unwrap();
    assert!(read > 0 && read < events, "it goes on where the other one was: {report}");
    leader.waits(
        || (!origin.objects().iter().any(|name| name.contains("savepoints/fork-"))).then_some(()),
        "the pin to go",
    );
    assert!(origin.objects().contains(&"savepoints/pause".to_owned()), "{:?}", origin.objects());
}

#[test]
fn pods_of_their_own_check_a_job_and_delete_what_it_leaves() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new(Storage::Bucket(&gateway), 1_000);
    let manifest = job.manifest("job", &Spec::default());
    let sums = "SELECT bidder, count(*), max(price) FROM bid GROUP BY bidder";
    let changed = job.manifest("changed", &Spec { counts: Some(sums), ..Spec::default() });
    let against = ["check", "--against", "own", "--json"];
    let verdict = |manifest| {
        let (code, text, last) = job.command(&against, manifest);
        assert_eq!(text.trim(), last);
        (code, serde_json::from_str::<Value>(&text).unwrap()["verdict"].clone())
    };
    assert_eq!(verdict(&manifest), (Some(0), json!("fits")));
    let leader = job.leader(&manifest, "a", 1);
    leader.assign(&json!({"revision": 1, "parallelism": 1, "workers": 1, "code": "a"}));
    leader.reports("ending", "finished");
    drop(leader);
    assert_eq!(verdict(&manifest), (Some(0), json!("fits")));
    assert_eq!(verdict(&changed), (Some(2), json!("misfit")));

    let done = |arguments: &[&str], words: &str| {
        let (code, text, last) = job.command(arguments, &manifest);
        assert!(code == Some(0) && text.contains(words), "{code:?} {text}");
        let said = json!({"verdict": "done", "message": text.trim()});
        assert_eq!(serde_json::from_str::<Value>(&last).unwrap(), said);
    };
    done(&["savepoint", "create", "end", "--request", "r1"], "savepoint 'end' is complete");
    done(&["savepoint", "create", "end", "--request", "r1"], "savepoint 'end' is complete");
    done(&["savepoint", "delete", "end"], "savepoint 'end' is deleted");
    done(&["savepoint", "delete", "end"], "savepoint 'end' is deleted");
    done(&["state", "delete"], "is deleted");
    done(&["state", "delete"], "is deleted");
    let left = job.objects();
    assert!(left.iter().all(|name| name == "deleted" || name.starts_with("generations/")), "{left:?}");
    let again = job.leader(&manifest, "a", 1);
    let wanted = json!({"revision": 1, "parallelism": 1, "workers": 1, "code": "a"});
    again.try_ask(Put, "/v1/assignment", Some(&wanted));
    let report = again.reports("ending", "failed");
    assert!(report["lastFailure"]["message"].as_str().unwrap().contains("has been deleted"), "{report}");
}
