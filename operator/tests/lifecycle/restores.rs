//! What a job begins with: `spec.restoreFrom` in every form, and when it is used.

use serde_json::json;
use weir_crds::{DesiredState, JobState, StreamJob, UpgradeMode};
use weir_operator::model::{OriginSeen, name};

use crate::cluster::{Cluster, crashing, fits};
use crate::situations::savepoint;
use crate::words::{check, condition, holds};

const PATH: &str = "s3://states/weir/shop/bids-0/savepoints/monday";
const OTHER: &str = "0b8bd3f4-3c0f-4b1e-9b1e-1f2e3d4c5b6a";

fn from(field: &str) -> serde_json::Value {
    match field {
        "job" => json!({"job": {"name": "asks"}}),
        "savepoint" => json!({"savepoint": "monday"}),
        path => json!({"path": path}),
    }
}

fn restore(cluster: &mut Cluster, field: &str) {
    cluster.edit(|job| job.spec.restore_from = Some(serde_json::from_value(from(field)).unwrap()));
}

/// A job that is about to begin with something.
fn new(field: &str, origin: Option<OriginSeen>) -> Cluster {
    let mut cluster = Cluster::new();
    restore(&mut cluster, field);
    cluster.origin = origin;
    cluster
}

/// A job that runs, with nothing to begin with.
fn running() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.rounds(12);
    assert_eq!(cluster.status().state, Some(JobState::Running));
    cluster
}

fn savepoint_of(job_uid: &str) -> Option<OriginSeen> {
    let (name, path) = ("monday".to_owned(), PATH.to_owned());
    Some(OriginSeen::Savepoint { job_uid: job_uid.to_owned(), name, path })
}

fn own_savepoint(cluster: &Cluster) -> Option<OriginSeen> {
    savepoint_of(cluster.job.metadata.uid.as_ref().unwrap())
}

fn other_job(leads: bool) -> Option<OriginSeen> {
    let mut job = crate::cluster::job();
    job.metadata.name = Some("asks".to_owned());
    job.metadata.uid = Some(OTHER.to_owned());
    let leader = leads.then(|| ("asks-w0-1-1".to_owned(), "10.1.0.9".to_owned()));
    Some(OriginSeen::Job { job: Box::new(job), leader, pinned: false })
}

fn missing(message: &str) -> Option<OriginSeen> {
    Some(OriginSeen::Missing { message: message.to_owned() })
}

fn other_folder(below: &str) -> String {
    format!("s3://states/weir/shop/asks-{OTHER}{below}")
}

#[track_caller]
fn settled(cluster: &mut Cluster, begun: &[&str]) {
    cluster.rounds(25);
    assert_eq!(cluster.begun(), begun);
    assert_eq!(cluster.status().state, Some(JobState::Running), "{:#?}", cluster.status());
    check(cluster, &[]);
}

#[test]
fn a_new_job_begins_with_what_it_was_told_once() {
    let forked = other_folder("/savepoints/fork-8f3c2a10-0000-4000-8000-000000000001");
    let situations = [
        (PATH, None, PATH.to_owned()),
        ("savepoint", savepoint_of(OTHER), PATH.to_owned()),
        ("job", other_job(false), other_folder("")),
        ("job", other_job(true), forked),
    ];
    for (field, origin, path) in situations {
        let mut cluster = new(field, origin);
        settled(&mut cluster, &[&format!("1: {path}")]);
        // What it began with goes, or changes: nobody needs it any more.
        cluster.origin = missing("there is no such object");
        cluster.pods.clear();
        settled(&mut cluster, &[&format!("1: {path}")]);
        // Neither a rescale nor an upgrade begins with it again, whatever is lost in between.
        cluster.job.status = None;
        cluster.parallelism(3);
        settled(&mut cluster, &[&format!("1: {path}"), "2: its own"]);
        cluster.sql("INSERT INTO a SELECT x FROM b");
        settled(&mut cluster, &[&format!("1: {path}"), "2: its own", "3: its own"]);
        cluster.sql("INSERT INTO a SELECT * FROM b");
        settled(&mut cluster, &[&format!("1: {path}"), "2: its own", "3: its own", "4: its own"]);
        // It is not asked for any more: that is no change.
        cluster.edit(|job| job.spec.restore_from = None);
        check(&cluster, &[]);
    }
}

#[test]
fn a_running_origin_keeps_its_state_until_the_fork_has_a_checkpoint_of_its_own() {
    let mut cluster = new("job", other_job(true));
    check(&cluster, &["savepoint fork-8f3c2a10-0000-4000-8000-000000000001, then Continue"]);
    assert_eq!(holds(&cluster, "Reconciling").as_deref(), Some("Starting"));
    cluster.rounds(1);
    check(&cluster, &["record 1 of 1"]);
    cluster.rounds(1);
    // Its leader is silent for a while: the state is kept all the same.
    cluster.origin = other_job(false);
    check(&cluster, &["lead 1-0"]);
    let asked = cluster.asked_of_origin.len();
    cluster.rounds(3);
    assert_eq!(cluster.asked_of_origin.len(), asked);
    cluster.origin = other_job(true);
    if let Some(OriginSeen::Job { pinned, .. }) = &mut cluster.origin {
        *pinned = true;
    }
    cluster.rounds(15);
    let released = "/v1/savepoints/fork-8f3c2a10-0000-4000-8000-000000000001";
    assert_eq!(cluster.asked_of_origin, ["/v1/savepoints", released]);
    check(&cluster, &[]);
}

#[test]
fn what_is_not_there_is_waited_for_and_said() {
    let waits = Some(OriginSeen::Waiting { message: "the Savepoint monday is not complete yet".to_owned() });
    let mut nowhere = other_job(false);
    if let Some(OriginSeen::Job { job, .. }) = &mut nowhere {
        job.spec.storage = serde_json::from_value(json!({"persistentVolumeClaim": {"claimName": "disk"}})).unwrap();
    }
    let situations = [
        ("savepoint", missing("there is no Savepoint monday"), "there is no Savepoint monday"),
        ("savepoint", waits, "not complete yet"),
        ("job", missing("there is no StreamJob asks"), "there is no StreamJob asks"),
        ("job", nowhere, "a volume that this job does not mount"),
    ];
    for (field, origin, words) in situations {
        let mut cluster = new(field, origin);
        check(&cluster, &[]);
        let (reason, message) = condition(&cluster, "Ready", "False");
        assert_eq!(reason, "RestorePointMissing");
        assert!(message.contains(words), "{message}");
        cluster.rounds(5);
        assert!(cluster.pods.is_empty() && cluster.revisions.is_empty());
        cluster.origin = if field == "job" { other_job(false) } else { savepoint_of(OTHER) };
        cluster.rounds(25);
        assert_eq!(holds(&cluster, "Ready").as_deref(), Some("Running"));
    }
}

/// Below `folder` of a storage, as pods see it.
#[test]
fn jobs_of_one_volume_or_directory_begin_with_each_others_state() {
    let disk = json!({"persistentVolumeClaim": {"claimName": "disk", "subPath": "weir"}});
    for (storage, folder) in [(disk, "/var/lib/weir/volume"), (json!({"local": {"path": "/states/"}}), "/states")] {
        let set = |job: &mut StreamJob| job.spec.storage = serde_json::from_value(storage.clone()).unwrap();
        let mut origin = other_job(false);
        if let Some(OriginSeen::Job { job, .. }) = &mut origin {
            set(job);
        }
        let mut cluster = new("job", origin);
        cluster.edit(set);
        settled(&mut cluster, &[&format!("1: {folder}/shop/asks-{OTHER}")]);
        savepoint(&mut cluster);
        cluster.rounds(4);
        let path = cluster.savepoints["monday"].status.clone().unwrap().path.unwrap();
        let uid = cluster.job.metadata.uid.as_ref().unwrap();
        assert_eq!(path, format!("{folder}/shop/bids-{uid}/savepoints/monday"));
    }
}

#[test]
fn a_job_goes_back_to_a_savepoint_of_its_own_once_per_value() {
    let mut cluster = running();
    cluster.origin = missing("there is no Savepoint monday");
    restore(&mut cluster, "savepoint");
    // It runs on meanwhile.
    cluster.rounds(5);
    assert_eq!(holds(&cluster, "Ready").as_deref(), Some("Running"));
    assert_eq!(holds(&cluster, "Reconciling").as_deref(), Some("RestorePointMissing"));
    cluster.origin = own_savepoint(&cluster);
    check(&cluster, &["record 2 of 2"]);
    settled(&mut cluster, &["1: its own", "2: savepoint monday"]);
    cluster.origin = missing("there is no Savepoint monday");
    cluster.parallelism(4);
    settled(&mut cluster, &["1: its own", "2: savepoint monday", "3: its own"]);
    cluster.edit(|job| job.metadata.annotations = Some([(name::RESTART.to_owned(), "1".to_owned())].into()));
    settled(&mut cluster, &["1: its own", "2: savepoint monday", "3: its own", "4: its own"]);
    restore(&mut cluster, PATH);
    settled(&mut cluster, &["1: its own", "2: savepoint monday", "3: its own", "4: its own", &format!("5: {PATH}")]);
    cluster.origin = own_savepoint(&cluster);
    restore(&mut cluster, "savepoint");
    cluster.rounds(25);
    assert_eq!(cluster.begun().last().unwrap(), "6: savepoint monday", "another value came in between");
}

/// Edits on the way must not make the state be forgotten that was asked for.
#[test]
fn what_was_asked_for_is_used_whatever_is_corrected_before_it_begins() {
    let corrections: [fn(&mut StreamJob); 4] = [
        |job| job.spec.pipeline.sql = Some("INSERT INTO a SELECT x FROM b".to_owned()),
        |job| job.spec.parallelism = 3,
        |job| job.spec.worker.image = Some("weir:2".to_owned()),
        |job| job.metadata.annotations = Some([(name::RESTART.to_owned(), "1".to_owned())].into()),
    ];
    for (at, correct) in corrections.into_iter().enumerate() {
        for rounds in 1..6 {
            for field in ["savepoint", PATH] {
                for mut cluster in [Cluster::new(), running()] {
                    let first = cluster.store.in_force == 0;
                    restore(&mut cluster, field);
                    cluster.origin = if first { savepoint_of(OTHER) } else { own_savepoint(&cluster) };
                    cluster.rounds(rounds);
                    cluster.edit(correct);
                    cluster.rounds(40);
                    let begun = cluster.begun();
                    let wanted = if field == "savepoint" && !first { "savepoint monday" } else { PATH };
                    let used = begun.iter().filter(|of| of.ends_with(wanted)).count();
                    assert_eq!(used, 1, "correction {at} after {rounds} rounds, {field}: {begun:?}");
                    assert_eq!(cluster.status().state, Some(JobState::Running), "{at} {rounds} {field}");
                }
            }
        }
    }
}

#[test]
fn a_job_that_is_suspended_before_it_begins_with_a_savepoint_begins_with_it_when_it_is_resumed() {
    let mut cluster = running();
    cluster.store.away = true;
    cluster.origin = own_savepoint(&cluster);
    restore(&mut cluster, "savepoint");
    cluster.rounds(6);
    cluster.edit(|job| job.spec.state = DesiredState::Suspended);
    cluster.store.away = false;
    cluster.rounds(12);
    assert_eq!(cluster.status().state, Some(JobState::Suspended), "{:#?}", cluster.status());
    cluster.edit(|job| job.spec.state = DesiredState::Running);
    cluster.rounds(25);
    let begun = cluster.begun();
    assert_eq!(begun.iter().filter(|of| of.ends_with("savepoint monday")).count(), 1, "{begun:?}");
    assert_eq!(cluster.status().state, Some(JobState::Running));
}

#[test]
fn a_job_that_cannot_stop_goes_back_by_force() {
    let mut cluster = running();
    let code = cluster.store.assignments[&1].code.clone();
    cluster.store.bad.insert(code);
    let now = cluster.now;
    for pod in ["bids-w0-1-1", "bids-w1-1-1"] {
        cluster.pods.get_mut(pod).unwrap().status = Some(crashing(2, "error: no such topic", now));
    }
    cluster.origin = own_savepoint(&cluster);
    restore(&mut cluster, "savepoint");
    settled(&mut cluster, &["1: its own", "2: savepoint monday"]);
    assert!(cluster.store.assignments[&2].force);
}

/// Ways for a running job to begin with another state, and what the check is to look at.
fn begins_elsewhere(cluster: &mut Cluster, way: &str) -> String {
    match way {
        "stateless" => {
            cluster.edit(|job| job.spec.upgrade_mode = UpgradeMode::Stateless);
            cluster.sql("INSERT INTO a SELECT x FROM b");
            "nothing".to_owned()
        }
        "savepoint" => {
            cluster.origin = own_savepoint(cluster);
            restore(cluster, "savepoint");
            "monday".to_owned()
        }
        _ => {
            restore(cluster, PATH);
            PATH.to_owned()
        }
    }
}

const WAYS: [&str; 3] = ["stateless", "savepoint", "path"];

#[test]
fn what_a_running_job_is_to_begin_with_is_checked_before_it_stops() {
    for way in WAYS {
        let mut cluster = running();
        cluster.check = (2, r#"{"verdict": "misfit", "message": "line 1: no such table"}"#.to_owned());
        let state = begins_elsewhere(&mut cluster, way);
        cluster.rounds(1);
        check(&cluster, &[&format!("check 2 with {state}")]);
        cluster.rounds(10);
        assert_eq!(holds(&cluster, "Stalled").as_deref(), Some("UpgradeRefused"), "{way}");
        assert_eq!((cluster.begun(), cluster.fleet().len()), (vec!["1: its own".to_owned()], 2), "{way}");
        // It is not tried again; another one is, and checked anew.
        check(&cluster, &[]);
        cluster.check = fits();
        cluster.sql("INSERT INTO a SELECT y FROM b");
        cluster.rounds(20);
        assert_eq!(cluster.status().state, Some(JobState::Running), "{way}");
        let begun = match way {
            "stateless" => "3: nothing".to_owned(),
            "savepoint" => "3: savepoint monday".to_owned(),
            _ => format!("3: {PATH}"),
        };
        assert_eq!(cluster.begun(), ["1: its own", &begun]);
    }
}

#[test]
fn what_begins_with_another_state_is_taken_back_too() {
    for way in WAYS {
        let mut cluster = running();
        cluster.edit(|job| job.spec.rollback.deadline = weir_crds::Duration::from_secs(10));
        begins_elsewhere(&mut cluster, way);
        while cluster.store.in_force < 2 {
            cluster.round(usize::MAX);
        }
        let code = cluster.store.assignments[&2].code.clone();
        cluster.store.bad.insert(code.clone());
        cluster.rounds(3);
        let begins_with = match way {
            "stateless" => "nothing: it begins empty",
            "savepoint" => "savepoint monday",
            _ => PATH,
        };
        assert_eq!(cluster.status().restores_from.as_deref(), Some(begins_with));
        cluster.rounds(40);
        assert!(cluster.status().restores_from.is_some_and(|from| from.starts_with("checkpoint")), "{way}");
        let last = cluster.store.assignments.values().next_back().unwrap();
        assert_eq!((last.rollback.as_ref(), &last.restore), (Some(&code), &None), "{way}");
        assert_eq!(
            (cluster.store.begun.as_slice(), cluster.fleet()),
            (&[1, 2, 3][..], vec!["1/0".into(), "1/1".into()])
        );
        assert_eq!(holds(&cluster, "Stalled").as_deref(), Some("UpgradeFailed"), "{way}");
        check(&cluster, &[]);
    }
}

#[test]
fn a_program_that_cannot_start_from_another_state_stops_nothing() {
    for way in WAYS {
        let mut cluster = running();
        cluster.no_image.insert("weir:2".to_owned());
        cluster.edit(|job| {
            job.spec.rollback.deadline = weir_crds::Duration::from_secs(10);
            job.spec.worker.image = Some("weir:2".to_owned());
        });
        begins_elsewhere(&mut cluster, way);
        cluster.rounds(30);
        assert_eq!(holds(&cluster, "Stalled").as_deref(), Some("UpgradeFailed"), "{way}");
        assert_eq!((cluster.begun(), cluster.fleet().len()), (vec!["1: its own".to_owned()], 2), "{way}");
    }
}

#[test]
fn a_job_without_a_place_for_its_state_is_refused_and_healed_by_one() {
    let mut cluster = Cluster::new();
    let storage = cluster.job.spec.storage.take();
    check(&cluster, &[]);
    let (reason, message) = condition(&cluster, "Stalled", "True");
    assert_eq!(reason, "InvalidSpec");
    assert!(message.contains("spec.storage") && message.contains("storage.s3"), "{message}");
    cluster.rounds(5);
    assert!(cluster.pods.is_empty() && cluster.revisions.is_empty() && cluster.services.is_empty());
    cluster.edit(|job| job.spec.storage = storage.clone());
    settled(&mut cluster, &["1: its own"]);
    assert_eq!(holds(&cluster, "Stalled"), None);
    // Taken away later it stops nothing.
    cluster.edit(|job| job.spec.storage = None);
    cluster.rounds(5);
    assert_eq!(holds(&cluster, "Stalled").as_deref(), Some("InvalidSpec"));
    assert_eq!((holds(&cluster, "Ready").as_deref(), cluster.fleet().len()), (Some("Running"), 2));
}
