//! What is decided in each situation, told in short words.

use k8s_openapi::api::core::v1::PodStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use weir_crds::{DeletionPolicy, DesiredState, JobState, Savepoint, SavepointState, UpgradeMode};
use weir_operator::decide::orphaned;
use weir_operator::model::{SavepointSeen, name};

use crate::cluster::{Cluster, crashing, evicted, fits, lost, no_room, waiting};
use crate::words::{check, holds};

/// A job that runs on two workers.
fn running() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.rounds(12);
    assert_eq!(cluster.fleet(), ["1/0", "1/1"]);
    assert_eq!(cluster.status().state, Some(JobState::Running), "{:#?}", cluster.status());
    cluster
}

fn set(cluster: &mut Cluster, pod: &str, status: PodStatus) {
    cluster.pods.get_mut(&format!("bids-{pod}")).unwrap().status = Some(status);
}

#[test]
fn a_job_starts_with_a_revision_a_service_and_pods_and_then_its_leader_is_told() {
    let mut cluster = Cluster::new();
    check(&cluster, &["record 1 of 1"]);
    cluster.rounds(1);
    check(&cluster, &["lead 1-0"]);
    cluster.rounds(1);
    check(&cluster, &["lead 1-1", "create w0-1-1", "create w1-1-1"]);
    cluster.rounds(1);
    check(&cluster, &["assign 1 to w0-1-1"]);
    cluster.rounds(8);
    check(&cluster, &[]);
    assert_eq!(holds(&cluster, "Ready").as_deref(), Some("Running"));
    assert_eq!((holds(&cluster, "Reconciling"), holds(&cluster, "Stalled")), (None, None));
    assert_eq!(cluster.status().replicas, 2);
}

#[test]
fn what_is_lost_is_replaced_at_once_under_another_name() {
    for status in [evicted(), lost()] {
        let mut cluster = running();
        set(&mut cluster, "w1-1-1", status.clone());
        check(&cluster, &["create w1-1-2", "delete w1-1-1"]);
        set(&mut cluster, "w0-1-1", status);
        check(&cluster, &["lead 1-2", "create w0-1-2", "delete w0-1-1", "create w1-1-2", "delete w1-1-1"]);
    }
    let mut cluster = running();
    let going = cluster.pods.get_mut("bids-w1-1-1").unwrap();
    going.metadata.deletion_timestamp = Some(Time(cluster.now));
    check(&cluster, &["create w1-1-2"]);
    cluster.pods.clear();
    check(&cluster, &["lead 1-2", "create w0-1-2", "create w1-1-1"]);
}

#[test]
fn a_container_that_ends_again_and_again_is_replaced_after_a_pause_that_grows() {
    let mut cluster = running();
    let now = cluster.now;
    set(&mut cluster, "w1-1-1", crashing(101, "panicked", now));
    check(&cluster, &[]);
    assert!(cluster.decide().again.unwrap().as_millis() <= 110);
    cluster.now = cluster.now.checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
    check(&cluster, &["create w1-1-2", "delete w1-1-1"]);
    cluster.rounds(1);
    let next = &cluster.pods["bids-w1-1-2"].metadata.annotations.clone().unwrap();
    assert_eq!(next[name::FAILURES], "1");
}

#[test]
fn a_mistake_of_the_user_is_shown_and_makes_no_pods() {
    let mut cluster = running();
    let now = cluster.now;
    set(&mut cluster, "w1-1-1", crashing(2, "error: line 3: no such column", now));
    check(&cluster, &[]);
    assert_eq!(holds(&cluster, "Stalled").as_deref(), Some("JobFailed"));
}

#[test]
fn a_strategy_without_restarts_ends_the_job_at_the_first_crash() {
    let mut cluster = Cluster::new();
    cluster.edit(|job| {
        job.spec.restart.exponential_delay = None;
        job.spec.restart.none = Some(weir_crds::NoRestartSpec {});
    });
    cluster.rounds(12);
    let now = cluster.now;
    set(&mut cluster, "w1-1-1", crashing(101, "panicked", now));
    check(&cluster, &["mark 1 \"weir.dev/failed\""]);
    cluster.rounds(1);
    check(&cluster, &["delete w0-1-1", "delete w1-1-1"]);
    cluster.rounds(3);
    assert_eq!(cluster.status().state, Some(JobState::Failed));
    assert_eq!(holds(&cluster, "Stalled").as_deref(), Some("RestartsExhausted"));
    cluster.edit(|job| job.metadata.annotations = Some([(name::RESTART.to_owned(), "1".to_owned())].into()));
    cluster.rounds(15);
    assert_eq!(cluster.status().state, Some(JobState::Running), "{:#?}", cluster.status());
}

#[test]
fn what_a_pod_waits_for_is_the_reason_of_a_condition() {
    let situations = [
        (no_room(), "Unschedulable"),
        (waiting("ImagePullBackOff", "not found"), "ImageUnavailable"),
        (waiting("CreateContainerConfigError", "secret \"s3\" not found"), "SecretMissing"),
        (waiting("CreateContainerConfigError", "configmap \"c\" not found"), "ContainerNotStarted"),
    ];
    for (status, reason) in situations {
        let mut cluster = running();
        set(&mut cluster, "w0-1-1", status);
        check(&cluster, &[]);
        assert_eq!(holds(&cluster, "Reconciling").as_deref(), Some(reason));
        assert_eq!(holds(&cluster, "Ready"), None);
    }
}

#[test]
fn a_wider_job_gets_its_pods_before_its_leader_is_told_and_a_narrower_one_loses_them_after() {
    let mut cluster = running();
    cluster.parallelism(4);
    check(&cluster, &["record 2 of 1"]);
    cluster.rounds(1);
    check(&cluster, &["create w2-1-1", "create w3-1-1", "assign 2 to w0-1-1"]);
    cluster.rounds(6);
    assert_eq!((cluster.store.in_force, cluster.fleet().len()), (2, 4));
    cluster.parallelism(1);
    cluster.rounds(1);
    check(&cluster, &["assign 3 to w0-1-1"]);
    assert_eq!(cluster.fleet().len(), 4);
    cluster.rounds(6);
    assert_eq!(cluster.fleet(), ["1/0"]);
    check(&cluster, &[]);
}

#[test]
fn an_upgrade_is_checked_then_warmed_then_told_to_who_runs_the_job() {
    let mut cluster = running();
    cluster.sql("INSERT INTO a SELECT x FROM b");
    check(&cluster, &["record 2 of 2"]);
    cluster.rounds(1);
    check(&cluster, &["check 2"]);
    cluster.rounds(1);
    check(&cluster, &["lead 2-0"]);
    cluster.rounds(1);
    check(&cluster, &["lead 2-1", "create w0-2-1", "create w1-2-1"]);
    cluster.rounds(1);
    check(&cluster, &["assign 2 to w0-1-1"]);
    cluster.rounds(8);
    assert_eq!(cluster.fleet(), ["2/0", "2/1"]);
    assert!(!cluster.pods.contains_key("bids-r2-check"));
    assert_eq!(cluster.status().state, Some(JobState::Running));
}

#[test]
fn an_upgrade_that_does_not_fit_leaves_the_job_as_it_was() {
    let mut cluster = running();
    cluster.check = (2, r#"{"verdict": "misfit", "message": "the state of top does not fit"}"#.to_owned());
    cluster.sql("INSERT INTO a SELECT x FROM b");
    cluster.rounds(6);
    assert_eq!(cluster.fleet(), ["1/0", "1/1"]);
    check(&cluster, &[]);
    assert_eq!(holds(&cluster, "Stalled").as_deref(), Some("UpgradeRefused"));
    assert_eq!(holds(&cluster, "Ready").as_deref(), Some("Running"));
    assert!(cluster.store.assignments.len() == 1, "nobody was told");
    cluster.parallelism(3);
    cluster.rounds(6);
    assert_eq!(cluster.fleet(), ["1/0", "1/1", "1/2"], "the width changes, the refused SQL is not tried again");
    cluster.check = fits();
    cluster.edit(|job| job.spec.allow_dropped_state = true);
    cluster.rounds(15);
    assert_eq!(holds(&cluster, "Stalled"), None);
    assert_eq!(cluster.fleet().len(), 3);
}

#[test]
fn a_new_version_without_a_checkpoint_is_taken_back_and_not_tried_again() {
    let mut cluster = running();
    let before = cluster.store.assignments[&1].code.clone();
    cluster.edit(|job| job.spec.rollback.deadline = weir_crds::Duration::from_secs(20));
    cluster.sql("INSERT INTO a SELECT broken FROM b");
    while cluster.store.assignments.len() < 2 {
        cluster.round(usize::MAX);
    }
    let code = cluster.store.assignments[&2].code.clone();
    cluster.store.bad.insert(code.clone());
    cluster.rounds(50);
    let last = cluster.store.assignments.values().next_back().unwrap();
    assert_eq!((&last.code, last.rollback.as_ref()), (&before, Some(&code)));
    assert_eq!(cluster.fleet(), ["1/0", "1/1"]);
    assert_eq!(holds(&cluster, "Stalled").as_deref(), Some("UpgradeFailed"));
    cluster.job.status = None;
    cluster.parallelism(3);
    cluster.rounds(12);
    assert_eq!(cluster.fleet(), ["1/0", "1/1", "1/2"]);
    assert_eq!(cluster.store.assignments.values().filter(|assign| assign.code == code).count(), 1);
}

#[test]
fn a_new_version_has_the_whole_deadline_however_long_the_old_one_takes_to_stop() {
    let mut cluster = running();
    cluster.edit(|job| job.spec.rollback.deadline = weir_crds::Duration::from_secs(20));
    cluster.store.away = true;
    cluster.sql("INSERT INTO a SELECT x FROM b");
    cluster.rounds(40);
    assert_eq!((cluster.store.in_force, cluster.store.assignments.len()), (1, 2), "it cannot stop");
    let code = cluster.store.assignments[&2].code.clone();
    cluster.store.bad.insert(code.clone());
    cluster.store.away = false;
    while cluster.store.in_force < 2 {
        cluster.round(usize::MAX);
    }
    cluster.rounds(15);
    let since = cluster.status().change.unwrap().in_force_since.unwrap().0;
    assert!((14..=16).contains(&cluster.now.duration_since(since).as_secs()));
    assert_eq!(cluster.store.assignments.len(), 2, "it is not given up yet");
    cluster.store.bad.remove(&code);
    cluster.rounds(3);
    assert_eq!((cluster.status().state, cluster.store.in_force), (Some(JobState::Running), 2));
}

#[test]
fn a_bad_image_never_stops_the_job() {
    let mut cluster = running();
    cluster.no_image.insert("weir:2".to_owned());
    cluster.edit(|job| {
        job.spec.worker.image = Some("weir:2".to_owned());
        job.spec.rollback.deadline = weir_crds::Duration::from_secs(20);
    });
    cluster.rounds(5);
    assert_eq!(holds(&cluster, "Reconciling").as_deref(), Some("ImageUnavailable"));
    assert_eq!(holds(&cluster, "Ready").as_deref(), Some("Running"));
    cluster.rounds(30);
    assert_eq!(holds(&cluster, "Stalled").as_deref(), Some("UpgradeFailed"));
    assert_eq!((cluster.store.assignments.len(), cluster.fleet().len()), (1, 2));
    cluster.edit(|job| job.spec.worker.image = Some("weir:3".to_owned()));
    cluster.rounds(15);
    assert_eq!(cluster.fleet(), ["3/0", "3/1"]);
    assert_eq!(holds(&cluster, "Stalled"), None);
}

#[test]
fn a_newer_wish_overtakes_an_unfinished_one() {
    let mut cluster = running();
    cluster.store.away = true;
    cluster.sql("INSERT INTO a SELECT x FROM b");
    cluster.rounds(8);
    assert_eq!(cluster.store.in_force, 1, "it cannot stop");
    cluster.sql("INSERT INTO a SELECT * FROM b");
    cluster.rounds(5);
    cluster.store.away = false;
    cluster.rounds(10);
    assert_eq!(cluster.fleet(), ["1/0", "1/1"]);
    assert_eq!(cluster.status().state, Some(JobState::Running));
}

#[test]
fn a_job_that_cannot_stop_is_upgraded_by_force() {
    let mut cluster = running();
    let code = cluster.store.assignments[&1].code.clone();
    cluster.store.bad.insert(code);
    for pod in ["w0-1-1", "w1-1-1"] {
        let now = cluster.now;
        set(&mut cluster, pod, crashing(2, "error: no such topic", now));
    }
    cluster.sql("INSERT INTO a SELECT x FROM b");
    cluster.rounds(15);
    assert!(cluster.store.assignments.values().next_back().unwrap().force);
    assert_eq!(cluster.fleet(), ["2/0", "2/1"]);
}

#[test]
fn without_room_for_both_the_old_pods_go_when_they_have_stopped() {
    let mut cluster = running();
    cluster.sql("INSERT INTO a SELECT x FROM b");
    cluster.rounds(3);
    for _ in 0..20 {
        let full = cluster.seen_pods().iter().filter(|pod| pod.revision == 1 && !pod.deleting).count() == 2;
        for pod in ["w0-2-1", "w1-2-1"] {
            if let Some(pod) = cluster.pods.get_mut(&format!("bids-{pod}")) {
                pod.status = full.then(no_room);
            }
        }
        cluster.round(usize::MAX);
    }
    assert_eq!(cluster.fleet(), ["2/0", "2/1"]);
}

#[test]
fn a_suspended_job_has_no_pods_and_goes_on_as_a_new_revision() {
    let mut cluster = running();
    cluster.edit(|job| job.spec.state = DesiredState::Suspended);
    check(&cluster, &["savepoint suspend-1, then Stop"]);
    cluster.rounds(8);
    assert_eq!((cluster.pods.len(), cluster.status().state), (0, Some(JobState::Suspended)));
    assert_eq!(cluster.store.savepoints.len(), 1);
    cluster.job.status = None;
    cluster.rounds(3);
    assert_eq!((cluster.pods.len(), cluster.status().state), (0, Some(JobState::Suspended)));
    cluster.edit(|job| job.spec.state = DesiredState::Running);
    check(&cluster, &["record 2 of 1"]);
    cluster.rounds(12);
    assert_eq!(cluster.fleet(), ["1/0", "1/1"]);
    assert!(cluster.store.savepoints.is_empty(), "the savepoint of the stop is given up");
}

#[test]
fn a_finished_job_stays_finished() {
    let mut cluster = running();
    cluster.store.ends = true;
    cluster.rounds(6);
    assert_eq!((cluster.pods.len(), cluster.status().state), (0, Some(JobState::Finished)));
    assert_eq!(holds(&cluster, "Ready").as_deref(), Some("Finished"));
    cluster.job.status = None;
    cluster.parallelism(5);
    cluster.rounds(5);
    assert_eq!((cluster.pods.len(), cluster.status().state), (0, Some(JobState::Finished)));
}

#[test]
fn only_a_job_with_workers_is_looked_at_without_a_cause() {
    let mut cluster = running();
    cluster.rounds(5);
    let again = cluster.decide().again.expect("only its leader can tell that it has finished");
    assert!(again.as_secs() <= 15, "{again:?}");
    cluster.store.ends = true;
    cluster.rounds(6);
    assert_eq!(cluster.fleet(), [""; 0]);
    assert_eq!(cluster.decide().again, None);
}

#[test]
fn a_paused_job_is_left_alone() {
    let mut cluster = running();
    cluster.edit(|job| job.metadata.annotations = Some([(name::PAUSE.to_owned(), "true".to_owned())].into()));
    cluster.parallelism(4);
    set(&mut cluster, "w1-1-1", evicted());
    check(&cluster, &[]);
    assert_eq!(holds(&cluster, "Stalled").as_deref(), Some("Paused"));
}

#[test]
fn what_cannot_be_understood_leaves_the_job_as_it_was() {
    let mut cluster = running();
    cluster.edit(|job| job.spec.pipeline = weir_crds::PipelineSpec::default());
    check(&cluster, &[]);
    assert_eq!(holds(&cluster, "Stalled").as_deref(), Some("InvalidSpec"));
    set(&mut cluster, "w1-1-1", evicted());
    check(&cluster, &["create w1-1-2", "delete w1-1-1"]);
}

#[test]
fn an_upgrade_says_how_it_takes_its_state() {
    for (mode, force, nothing) in [(UpgradeMode::LastCheckpoint, true, false), (UpgradeMode::Stateless, false, true)] {
        let mut cluster = running();
        cluster.edit(|job| job.spec.upgrade_mode = mode);
        check(&cluster, &[]);
        cluster.sql("INSERT INTO a SELECT x FROM b");
        cluster.rounds(12);
        let assign = &cluster.store.assignments[&2];
        assert_eq!((assign.force, assign.restore.is_some()), (force, nothing), "{mode:?}");
        assert_eq!(cluster.fleet(), ["2/0", "2/1"]);
    }
}

#[test]
fn an_upgrade_that_cannot_stop_with_a_savepoint_can_be_told_to_go_on_from_the_last_checkpoint() {
    let mut cluster = running();
    cluster.store.stuck = true;
    cluster.sql("INSERT INTO a SELECT x FROM b");
    cluster.rounds(20);
    assert_eq!((cluster.store.in_force, cluster.store.assignments[&2].force), (1, false));
    cluster.edit(|job| job.spec.upgrade_mode = UpgradeMode::LastCheckpoint);
    cluster.rounds(3);
    cluster.store.stuck = false;
    cluster.rounds(10);
    assert!(cluster.store.assignments[&3].force);
    assert_eq!((cluster.store.in_force, cluster.fleet()), (3, vec!["2/0".to_owned(), "2/1".to_owned()]));
    check(&cluster, &[]);
}

fn deleted(policy: DeletionPolicy) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.edit(|job| job.spec.deletion_policy = policy);
    cluster.rounds(13);
    assert_eq!(cluster.fleet().len(), 2);
    cluster.job.metadata.deletion_timestamp = Some(Time(cluster.now));
    cluster
}

#[test]
fn the_state_of_a_deleted_job_is_looked_after_as_its_policy_says() {
    check(&deleted(DeletionPolicy::Retain), &[]);
    let mut cluster = deleted(DeletionPolicy::Savepoint);
    check(&cluster, &["savepoint final-8f3c2a10, then Stop"]);
    cluster.rounds(6);
    assert!(cluster.finalizer_removed);
    assert_eq!(cluster.store.savepoints.len(), 1);
    let mut cluster = deleted(DeletionPolicy::Delete);
    check(&cluster, &["delete w0-1-1", "delete w1-1-1", "lead 1-2", "maintain: state delete"]);
    cluster.rounds(4);
    assert!(cluster.finalizer_removed);
    let mut cluster = deleted(DeletionPolicy::Delete);
    cluster.namespace_ends = true;
    check(&cluster, &["let go"]);
    cluster.namespace_ends = false;
    cluster.now = cluster.now.checked_add(jiff::SignedDuration::from_mins(11)).unwrap();
    check(&cluster, &["let go"]);
}

pub(crate) fn savepoint(cluster: &mut Cluster) {
    let savepoint: Savepoint = serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Savepoint",
        "metadata": {"name": "monday", "namespace": "shop", "uid": "5a"},
        "spec": {"jobRef": {"name": "bids"}, "deletionPolicy": "Delete"},
    }))
    .unwrap();
    cluster.savepoints.insert("monday".to_owned(), savepoint);
}

fn state(cluster: &Cluster) -> Option<SavepointState> {
    cluster.savepoints["monday"].status.as_ref()?.state
}

#[test]
fn a_savepoint_is_taken_by_a_running_job_once() {
    let mut cluster = running();
    savepoint(&mut cluster);
    let wanted = ["finalizer of monday Set", "savepoint monday, then Continue", "monday is InProgress"];
    check(&cluster, &wanted);
    cluster.rounds(4);
    assert_eq!(state(&cluster), Some(SavepointState::Completed));
    let path = cluster.savepoints["monday"].status.clone().unwrap().path.unwrap();
    assert!(path.starts_with("s3://states/weir/shop/bids-8f3c2a10") && path.ends_with("/savepoints/monday"), "{path}");
    check(&cluster, &[]);
    let now = Time(cluster.now);
    cluster.savepoints.get_mut("monday").unwrap().metadata.deletion_timestamp = Some(now);
    check(&cluster, &["release monday"]);
    cluster.rounds(2);
    assert!(cluster.savepoints.is_empty());
}

#[test]
fn a_savepoint_without_a_job_waits_as_others_do() {
    let mut cluster = running();
    savepoint(&mut cluster);
    cluster.savepoints.get_mut("monday").unwrap().metadata.generation = Some(2);
    let seen = SavepointSeen::of(&cluster.savepoints["monday"]);
    let status = orphaned(&seen, "there is no StreamJob bids", cluster.now);
    assert_eq!((status.state, status.observed_generation), (Some(SavepointState::Pending), Some(2)));
    let told = |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    for (kind, holds, reason) in [("Ready", "False", "Pending"), ("Reconciling", "True", "Pending")] {
        let told = told(kind);
        assert_eq!((told.status.as_str(), told.reason.as_str(), told.observed_generation), (holds, reason, Some(2)));
        assert_eq!(told.message, "there is no StreamJob bids");
    }
    // Told once, it is not told again.
    let later = cluster.now.checked_add(jiff::SignedDuration::from_mins(1)).unwrap();
    let seen = SavepointSeen { status: status.clone(), ..seen };
    assert_eq!(orphaned(&seen, "there is no StreamJob bids", later), status);
}

#[test]
fn a_savepoint_of_a_job_that_does_not_come_up_is_let_go_in_the_end() {
    let mut cluster = running();
    savepoint(&mut cluster);
    cluster.rounds(5);
    assert_eq!(state(&cluster), Some(SavepointState::Completed));
    cluster.no_image.insert("weir:1".to_owned());
    cluster.pods.clear();
    cluster.rounds(3);
    let now = Time(cluster.now);
    cluster.savepoints.get_mut("monday").unwrap().metadata.deletion_timestamp = Some(now);
    cluster.rounds(30);
    assert!(cluster.savepoints.contains_key("monday") && !cluster.told.contains("StateLeft"));
    cluster.now = cluster.now.checked_add(jiff::SignedDuration::from_mins(10)).unwrap();
    cluster.rounds(1);
    assert!(cluster.savepoints.is_empty() && cluster.told.contains("StateLeft"));
}

#[test]
fn a_savepoint_of_a_suspended_job_is_the_work_of_a_short_pod() {
    let mut cluster = running();
    cluster.edit(|job| job.spec.state = DesiredState::Suspended);
    cluster.rounds(8);
    savepoint(&mut cluster);
    cluster.rounds(5);
    assert_eq!(state(&cluster), Some(SavepointState::Completed));
    cluster.rounds(2);
    assert!(cluster.pods.is_empty());
    assert_eq!(cluster.status().last_savepoint.map(|savepoint| savepoint.name).as_deref(), Some("monday"));
}

#[test]
fn a_program_that_ends_well_and_says_nothing_has_done_no_work() {
    let wrong = (0, "Hello from Docker!".to_owned());
    let mut cluster = running();
    cluster.maintenance = wrong.clone();
    cluster.edit(|job| job.spec.state = DesiredState::Suspended);
    cluster.rounds(8);
    savepoint(&mut cluster);
    cluster.rounds(5);
    assert_eq!(state(&cluster), Some(SavepointState::Failed));
    let mut cluster = deleted(DeletionPolicy::Delete);
    cluster.maintenance = wrong;
    cluster.rounds(6);
    assert!(!cluster.finalizer_removed, "state that nobody has deleted is forgotten");
    // Another pod is made after a while.
    cluster.maintenance = (0, r#"{"verdict": "done"}"#.to_owned());
    cluster.rounds(16);
    assert!(cluster.finalizer_removed);
}
