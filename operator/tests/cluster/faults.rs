//! What goes wrong in the cluster, and what people do to it.

use serde_json::{Value, json};
use weir_operator::controller::look_after_orphans;

use crate::leader::FIRST_CHECKPOINT_S;
use crate::store::Place;
use crate::world::{NAME, NAMESPACE, World, job_place, kind, manifest, savepoint_place};

async fn running(parallelism: u32) -> World {
    let mut world = World::new();
    world.apply(&manifest(parallelism, "weir:1"));
    world.settle().await;
    world
}

fn condition(job: &Value, kind: &str) -> Value {
    let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

#[tokio::test]
async fn a_job_comes_up_and_says_so() {
    let world = running(2).await;
    let job = world.streamjob();
    assert_eq!(job["status"]["state"], "Running", "{job:#}");
    assert_eq!(condition(&job, "Ready")["status"], "True", "{job:#}");
    assert_eq!(world.pods().len(), 2);
}

#[tokio::test]
async fn a_job_at_rest_causes_no_writes() {
    let mut world = running(2).await;
    let before = world.server.script.lock().seen.len();
    for _ in 0..50 {
        world.turn().await;
    }
    let writes = world.server.script.lock().seen[before..].to_vec();
    // A checkpoint every second; the status tells of one a minute.
    assert!(writes.len() <= 1, "{writes:#?}");
}

#[tokio::test]
async fn the_metric_of_a_checkpoint_is_newer_than_the_status() {
    let mut world = running(1).await;
    world.turn().await;
    for _ in 0..5 {
        let known = world.job.lock().checkpoints;
        world.turn().await;
        let text = String::from_utf8(world.ctx.metrics.text()).unwrap();
        let name = "weir_streamjob_last_checkpoint_timestamp_seconds{";
        let value = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.rsplit(' ').next());
        assert_eq!(value.unwrap(), (FIRST_CHECKPOINT_S + known).to_string(), "{text}");
    }
    let told = world.streamjob()["status"]["lastCheckpoint"]["number"].as_u64().unwrap();
    assert!(told + 1 < world.job.lock().checkpoints, "the status told of each of them");
}

#[tokio::test]
async fn a_deleted_pod_is_replaced_under_a_new_name() {
    let mut world = running(2).await;
    let names = |world: &World| -> Vec<String> {
        world.pods().iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let before = names(&world);
    let place: Place = (kind("", "pods"), NAMESPACE.to_owned(), before[0].clone());
    world.server.edit(|store| store.delete(&place, None)).unwrap();
    world.settle().await;
    let after = names(&world);
    assert_eq!(after.len(), 2);
    assert!(!after.contains(&before[0]), "{after:?}");
    assert_eq!(world.streamjob()["status"]["state"], "Running");
}

/// A leader that cannot begin says why, and nothing else.
async fn unable(kind: &'static str) -> World {
    let mut world = World::new();
    world.job.lock().unable = vec![("weir:1".to_owned(), kind)];
    world.apply(&manifest(2, "weir:1"));
    for _ in 0..20 {
        world.turn().await;
    }
    world
}

#[tokio::test]
async fn a_mistake_that_only_the_planner_finds_stalls_the_job_until_it_is_corrected() {
    let mut world = unable("user").await;
    let job = world.streamjob();
    let stalled = condition(&job, "Stalled");
    assert_eq!((&stalled["status"], &stalled["reason"]), (&json!("True"), &json!("JobFailed")), "{job:#}");
    assert!(stalled["message"].to_string().contains("13:42"), "{job:#}");
    let asked = world.server.script.lock().seen.iter().filter(|seen| seen.starts_with("leader ")).count();
    assert_eq!(asked, 0, "a leader that cannot begin is told nothing");
    world.apply(&manifest(2, "weir:2"));
    world.settle().await;
    assert_eq!(world.streamjob()["status"]["state"], "Running");
    assert_eq!(world.pods().len(), 2);
}

#[tokio::test]
async fn what_may_pass_is_waited_for_by_a_leader_that_cannot_begin() {
    let mut world = unable("transient").await;
    let job = world.streamjob();
    assert_eq!(condition(&job, "Stalled")["status"], "False", "{job:#}");
    assert!(condition(&job, "Ready")["message"].to_string().contains("13:42"), "{job:#}");
    world.job.lock().unable.clear();
    world.settle().await;
    assert_eq!(world.streamjob()["status"]["state"], "Running");
}

#[tokio::test]
async fn quota_is_told_and_healed() {
    let mut world = World::new();
    world.server.edit(|store| store.denied = Some(("pods".to_owned(), "exceeded quota: small".to_owned())));
    world.apply(&manifest(2, "weir:1"));
    for _ in 0..20 {
        world.turn().await;
    }
    let job = world.streamjob();
    assert!(job["status"].to_string().contains("exceeded quota: small"), "{job:#}");
    world.server.edit(|store| store.denied = None);
    world.settle().await;
    assert_eq!(world.streamjob()["status"]["state"], "Running");
    assert!(!world.streamjob()["status"].to_string().contains("quota"));
}

#[tokio::test]
async fn a_savepoint_is_taken_while_no_pod_can_be_made() {
    let mut world = running(2).await;
    world.server.edit(|store| store.denied = Some(("pods".to_owned(), "exceeded quota: small".to_owned())));
    world.apply(&manifest(4, "weir:1"));
    world.create_savepoint("monday", NAME);
    for _ in 0..20 {
        world.turn().await;
    }
    let savepoint = world.server.store.lock().get(&savepoint_place("monday")).unwrap();
    assert_eq!(savepoint["status"]["state"], "Completed", "{savepoint:#}");
    assert!(world.streamjob()["status"].to_string().contains("exceeded quota: small"));
    assert_eq!(world.pods().len(), 2);
}

#[tokio::test]
async fn a_savepoint_without_a_job_says_so_and_is_let_go() {
    let mut world = World::new();
    world.create_savepoint("monday", "asks");
    world.turn().await;
    look_after_orphans(&world.ctx).await;
    let savepoint = |world: &World| world.server.store.lock().get(&savepoint_place("monday")).ok();
    let seen = savepoint(&world).unwrap();
    assert_eq!(condition(&seen, "Ready")["reason"], "Pending", "{seen:#}");
    assert!(seen["status"]["message"].to_string().contains("there is no StreamJob asks"), "{seen:#}");
    let finalizers = json!({"metadata": {"finalizers": ["weir.dev/savepoint"]}});
    world.server.edit(|store| store.merge(&savepoint_place("monday"), &finalizers, false)).unwrap();
    world.delete(&savepoint_place("monday"));
    assert!(savepoint(&world).is_some(), "it waits for its finalizer");
    world.turn().await;
    look_after_orphans(&world.ctx).await;
    assert_eq!(savepoint(&world), None);
}

#[tokio::test]
async fn what_volumes_are_made_of_is_missed_by_name_and_the_job_goes_on_when_it_is_there() {
    for (volume, plural, reason) in [
        (json!({"name": "ca", "secret": {"secretName": "own-ca"}}), "secrets", "SecretMissing"),
        (json!({"name": "ca", "configMap": {"name": "own-ca"}}), "configmaps", "ContainerNotStarted"),
    ] {
        let mut world = World::new();
        let mut job = manifest(2, "weir:1");
        let optional = json!({"name": "maybe", "secret": {"secretName": "not-there", "optional": true}});
        job["spec"]["worker"]["podTemplate"] = json!({"spec": {"volumes": [volume, optional]}});
        world.apply(&job);
        for _ in 0..20 {
            world.turn().await;
        }
        let job = world.streamjob();
        let reconciling = condition(&job, "Reconciling");
        assert_eq!((&reconciling["status"], &reconciling["reason"]), (&json!("True"), &json!(reason)), "{job:#}");
        let message = reconciling["message"].as_str().unwrap();
        assert!(message.contains("own-ca") && !message.contains("not-there"), "{message}");
        let object = json!({"apiVersion": "v1", "metadata": {"name": "own-ca", "namespace": NAMESPACE}});
        world.server.edit(|store| store.create(&kind("", plural), NAMESPACE, object)).unwrap();
        world.settle().await;
        let job = world.streamjob();
        assert_eq!(
            (&job["status"]["state"], condition(&job, "Reconciling")["status"].as_str()),
            (&json!("Running"), Some("False"))
        );
    }
}

#[tokio::test]
async fn objects_that_people_change_or_delete_are_as_they_should_be_again() {
    let mut world = running(2).await;
    let quiet = world.summary();
    for (group, plural) in [
        ("", "services"),
        ("", "configmaps"),
        ("policy", "poddisruptionbudgets"),
        ("networking.k8s.io", "networkpolicies"),
    ] {
        let objects = world.server.store.lock().list(&kind(group, plural), Some(NAMESPACE), "");
        for object in objects {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let place: Place = (kind(group, plural), NAMESPACE.to_owned(), name.clone());
            world.server.edit(|store| store.delete(&place, None)).unwrap();
            world.settle().await;
            assert_eq!(world.summary()["pods"].as_array().unwrap().len(), 2);
            assert!(world.server.store.lock().get(&place).is_ok(), "{plural} {name} was deleted, and is missing");
        }
    }
    assert_eq!(world.summary()["services"], quiet["services"]);
}

#[tokio::test]
async fn a_lost_status_heals() {
    let mut world = running(2).await;
    let quiet = world.summary();
    world.server.edit(|store| store.merge(&job_place(), &json!({"status": null}), true)).unwrap();
    world.settle().await;
    assert_eq!(world.summary(), quiet);
}

#[tokio::test]
async fn a_second_rescale_overtakes_the_first() {
    let mut world = running(2).await;
    world.apply(&json!({"spec": {"parallelism": 4}}));
    world.turn().await;
    world.turn().await;
    world.apply(&json!({"spec": {"parallelism": 3}}));
    world.settle().await;
    let end = world.summary();
    assert_eq!(end["replicas"], 3, "{end:#}");
    assert_eq!(end["pods"].as_array().unwrap().len(), 3, "{end:#}");
}

#[tokio::test]
async fn a_bad_image_leaves_the_old_job_running_and_is_mended_by_another() {
    let mut world = running(2).await;
    world.job.lock().missing.push("weir:missing".to_owned());
    world.apply(&json!({"spec": {"worker": {"image": "weir:missing"}}}));
    for _ in 0..30 {
        world.turn().await;
    }
    let in_force = world.job.lock().in_force.clone();
    assert_eq!(in_force.map(|(revision, _)| revision), Some(1));
    assert!(world.streamjob()["status"].to_string().contains("no such image"), "{:#}", world.streamjob());
    world.apply(&json!({"spec": {"worker": {"image": "weir:3"}}}));
    world.settle().await;
    let end = world.summary();
    assert_eq!(end["state"], "Running", "{end:#}");
    assert!(end["pods"].to_string().contains("weir:3"), "{end:#}");
}

#[tokio::test]
async fn a_misfit_is_refused_and_the_old_job_goes_on() {
    let mut world = running(2).await;
    world.job.lock().misfits.push("weir:2".to_owned());
    world.apply(&json!({"spec": {"worker": {"image": "weir:2"}}}));
    world.settle().await;
    let job = world.streamjob();
    assert_eq!(condition(&job, "Stalled")["status"], "True", "{job:#}");
    assert!(job["status"].to_string().contains("another key"), "{job:#}");
    assert_eq!(world.job.lock().history, [1]);
}

#[tokio::test]
async fn a_savepoint_that_fails_leaves_the_old_job_running_says_why_and_is_tried_again() {
    let changes = [
        json!({"spec": {"parallelism": 4}}),
        json!({"spec": {"parallelism": 1}}),
        json!({"spec": {"rollback": {"deadline": "10s"}, "worker": {"image": "weir:2"}}}),
    ];
    for change in changes {
        let mut world = running(2).await;
        let uids = |world: &World| -> Vec<Value> {
            let active = world.pods().into_iter().filter(|pod| pod["metadata"]["labels"]["weir.dev/active"] == "true");
            active.map(|pod| pod["metadata"]["uid"].clone()).collect()
        };
        let before = uids(&world);
        world.job.lock().cannot_stop = Some((u64::MAX, "the bucket states answers 503".to_owned()));
        world.apply(&change);
        let mut told = 0;
        for _ in 0..60 {
            world.turn().await;
            let job = world.streamjob();
            assert_eq!(condition(&job, "Ready")["reason"], "Running", "{change}: {job:#}");
            assert_eq!(condition(&job, "Stalled")["status"], "False", "{change}: {job:#}");
            let reconciling = condition(&job, "Reconciling");
            let says_why = reconciling["message"].to_string().contains("the bucket states answers 503");
            told += u32::from(reconciling["reason"] == "StopFailed" && says_why);
        }
        assert!(told > 5, "{change}: told {told} times\n{:#}", world.streamjob());
        assert_eq!(uids(&world), before, "{change}");
        let failures = {
            let mut job = world.job.lock();
            assert_eq!(job.history, [1], "{change}");
            job.cannot_stop = None;
            job.failures
        };
        assert!(failures > 1, "{change}: it is tried again");
        world.settle().await;
        let job = world.streamjob();
        assert_eq!(world.job.lock().history, [1, 2], "{change}");
        assert_eq!((&job["status"]["state"], &job["status"]["change"]), (&json!("Running"), &Value::Null), "{job:#}");
        assert_eq!(condition(&job, "Reconciling")["status"], "False", "{job:#}");
    }
}

#[tokio::test]
async fn objects_of_an_earlier_job_of_the_same_name_are_not_taken_over() {
    let mut world = running(2).await;
    let old: Vec<Value> = world.pods();
    // It is deleted and made again before anything of it is gone.
    let objects = world.server.store.lock().objects.clone();
    world.server.edit(|store| {
        store.remove(&job_place());
        for (place, object) in objects.into_iter().filter(|(place, _)| *place != job_place()) {
            store.put(&place, object);
        }
    });
    *world.job.lock() = crate::leader::Job::default();
    world.apply(&manifest(1, "weir:1"));
    for _ in 0..5 {
        world.turn().await;
    }
    assert_eq!(world.pods().len(), old.len(), "nothing is made while the old objects are there");
    world.server.edit(|store| {
        let gone: Vec<Place> = store.objects.keys().filter(|place| **place != job_place()).cloned().collect();
        gone.iter().for_each(|place| store.remove(place));
    });
    world.settle().await;
    assert_eq!(world.pods().len(), 1);
    assert_eq!(world.streamjob()["status"]["state"], "Running");
    let _ = NAME;
}
