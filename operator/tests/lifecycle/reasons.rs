//! Every reason is told by some story, and what hinders from outside is told soon and healed when it is gone.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use weir_crds::{DeletionPolicy, DesiredState, PipelineSpec, Reason};
use weir_operator::model::{Needed, OriginSeen, name};

use crate::cluster::{Cluster, crashing, evicted, no_room, waiting};
use crate::situations::savepoint;
use crate::words::{condition, holds};

fn running() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.rounds(12);
    cluster
}

fn suspended() -> Cluster {
    let mut cluster = running();
    cluster.edit(|job| job.spec.state = DesiredState::Suspended);
    cluster.rounds(8);
    cluster
}

/// A job whose upgrade fails with a state that cannot be taken back, if so.
fn upgraded(is_bad: bool) -> Cluster {
    let mut cluster = running();
    cluster.edit(|job| job.spec.rollback.deadline = weir_crds::Duration::from_secs(10));
    cluster.sql("INSERT INTO a SELECT x FROM b");
    while cluster.store.in_force < 2 {
        cluster.round(usize::MAX);
    }
    if is_bad {
        let code = cluster.store.assignments[&2].code.clone();
        cluster.store.bad.insert(code);
    }
    cluster
}

fn with_pod(status: k8s_openapi::api::core::v1::PodStatus) -> Cluster {
    let mut cluster = running();
    cluster.pods.get_mut("bids-w1-1-1").unwrap().status = Some(status);
    cluster
}

fn from_config_map() -> PipelineSpec {
    serde_json::from_value(json!({"sqlFrom": {"configMapKeyRef": {"name": "queries", "key": "top.sql"}}})).unwrap()
}

fn deleted(policy: DeletionPolicy) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.edit(|job| job.spec.deletion_policy = policy);
    cluster.rounds(13);
    cluster.job.metadata.deletion_timestamp = Some(Time(cluster.now));
    cluster
}

/// A cluster in which this is about to be told.
fn story(reason: Reason) -> Cluster {
    let mut cluster = match reason {
        Reason::Starting | Reason::Running | Reason::Settled | Reason::Progressing => Cluster::new(),
        Reason::Suspending | Reason::Suspended => running(),
        Reason::Resuming | Reason::SavepointFailed => suspended(),
        Reason::ReplacingWorkers => with_pod(evicted()),
        Reason::ImageUnavailable => with_pod(waiting("ImagePullBackOff", "not found")),
        Reason::Unschedulable => with_pod(no_room()),
        Reason::ContainerNotStarted => with_pod(waiting("CreateContainerConfigError", "configmap \"c\" not found")),
        Reason::UpgradeFailed | Reason::RollingBack | Reason::RollbackFailed => upgraded(true),
        Reason::Deleting => deleted(DeletionPolicy::Savepoint),
        Reason::StateLeft => deleted(DeletionPolicy::Delete),
        Reason::RestartsExhausted => {
            let mut cluster = Cluster::new();
            cluster.edit(|job| {
                job.spec.restart.exponential_delay = None;
                job.spec.restart.none = Some(weir_crds::NoRestartSpec {});
            });
            cluster.rounds(12);
            cluster
        }
        _ => running(),
    };
    begin(&mut cluster, reason);
    cluster
}

fn begin(cluster: &mut Cluster, reason: Reason) {
    let now = cluster.now;
    match reason {
        Reason::Finished => cluster.store.ends = true,
        Reason::CheckpointOverdue => {
            cluster.store.stuck = true;
            // The time that one may take.
            cluster.now = cluster.now.checked_add(SignedDuration::from_mins(1)).unwrap();
        }
        Reason::Suspending | Reason::Suspended => cluster.edit(|job| job.spec.state = DesiredState::Suspended),
        Reason::Resuming => cluster.edit(|job| job.spec.state = DesiredState::Running),
        Reason::Restarting => cluster.store.bad = [cluster.store.assignments[&1].code.clone()].into(),
        Reason::Rescaling => cluster.parallelism(4),
        Reason::Upgrading => cluster.sql("INSERT INTO a SELECT x FROM b"),
        Reason::Paused => {
            cluster.edit(|job| job.metadata.annotations = Some([(name::PAUSE.to_owned(), "true".to_owned())].into()));
        }
        Reason::Denied => cluster.denied = Some("pods are forbidden: exceeded quota".to_owned()),
        Reason::SecretMissing => {
            cluster.missing = vec![Needed::Secret("s3".to_owned())];
            cluster.pods.clear();
            cluster.no_image.insert("weir:1".to_owned());
        }
        Reason::StopFailed => {
            cluster.refuses = Some((409, "a savepoint is under way".to_owned()));
            cluster.edit(|job| job.spec.state = DesiredState::Suspended);
        }
        Reason::Refused => {
            cluster.refuses = Some((409, "revision 2 is stale".to_owned()));
            cluster.parallelism(4);
        }
        Reason::LeaderSilent => {
            cluster.store.silence("pod-1");
            cluster.store.silence("pod-2");
        }
        Reason::RestorePointMissing => {
            cluster.origin = Some(OriginSeen::Missing { message: "there is no Savepoint monday".to_owned() });
            let from = json!({"savepoint": "monday"});
            cluster.edit(|job| job.spec.restore_from = Some(serde_json::from_value(from).unwrap()));
        }
        Reason::InvalidSpec => cluster.edit(|job| job.spec.pipeline = PipelineSpec::default()),
        Reason::SqlMissing => {
            cluster.edit(|job| job.spec.pipeline = from_config_map());
        }
        Reason::JobFailed => {
            cluster.pods.get_mut("bids-w1-1-1").unwrap().status = Some(crashing(2, "error: line 3", now));
        }
        Reason::CrashLooping | Reason::RestartsExhausted => {
            cluster.pods.get_mut("bids-w1-1-1").unwrap().status = Some(crashing(101, "panicked", now));
        }
        Reason::UpgradeRefused => {
            cluster.check = (2, r#"{"verdict": "misfit", "message": "the state of top does not fit"}"#.to_owned());
            cluster.sql("INSERT INTO a SELECT x FROM b");
        }
        Reason::RollbackFailed => cluster.store.does_not_take_back = true,
        Reason::Pending => {
            cluster.store.silence("pod-1");
            savepoint(cluster);
        }
        Reason::InProgress | Reason::Completed => savepoint(cluster),
        Reason::SavepointFailed => {
            cluster.maintenance = (1, "the bucket is away".to_owned());
            savepoint(cluster);
        }
        Reason::StateLeft => cluster.namespace_ends = true,
        _ => {}
    }
}

#[test]
fn every_reason_is_told_by_a_story() {
    for reason in Reason::ALL {
        let mut cluster = story(*reason);
        cluster.told.clear();
        for _ in 0..60 {
            cluster.round(usize::MAX);
            if cluster.told.contains(reason.name()) {
                break;
            }
        }
        assert!(
            cluster.told.contains(reason.name()),
            "{} is not told within a minute: {:?}",
            reason.name(),
            cluster.told
        );
    }
}

/// What hinders a job from outside: how it begins, and how it ends.
struct Cause {
    reason: Reason,
    words: &'static str,
    begins: fn(&mut Cluster),
    ends: fn(&mut Cluster),
}

const CAUSES: &[Cause] = &[
    Cause {
        reason: Reason::ImageUnavailable,
        words: "not found",
        begins: |cluster| cluster.no_image = ["weir:1".to_owned()].into(),
        ends: |cluster| cluster.no_image.clear(),
    },
    Cause {
        reason: Reason::Unschedulable,
        words: "0/3 nodes",
        begins: |cluster| cluster.pending = Some(no_room()),
        ends: |cluster| cluster.pending = None,
    },
    Cause {
        reason: Reason::SecretMissing,
        words: "states-key",
        begins: |cluster| {
            cluster.missing = vec![Needed::Secret("states-key".to_owned())];
            cluster.pending = Some(waiting("ContainerCreating", ""));
        },
        ends: |cluster| {
            cluster.missing.clear();
            cluster.pending = None;
        },
    },
    Cause {
        reason: Reason::ContainerNotStarted,
        words: "ConfigMaps that the job names are missing: tables",
        begins: |cluster| {
            cluster.missing = vec![Needed::ConfigMap("tables".to_owned())];
            cluster.pending = Some(waiting("ContainerCreating", ""));
        },
        ends: |cluster| {
            cluster.missing.clear();
            cluster.pending = None;
        },
    },
    Cause {
        reason: Reason::SecretMissing,
        words: "couldn't find key password in Secret",
        begins: |cluster| {
            let message = "couldn't find key password in Secret shop/kafka";
            cluster.pending = Some(waiting("CreateContainerConfigError", message));
        },
        ends: |cluster| cluster.pending = None,
    },
    Cause {
        reason: Reason::ContainerNotStarted,
        words: "configmap \"ca\" not found",
        begins: |cluster| {
            cluster.pending = Some(waiting("CreateContainerConfigError", "configmap \"ca\" not found"));
        },
        ends: |cluster| cluster.pending = None,
    },
    Cause {
        reason: Reason::SqlMissing,
        words: "ConfigMap queries is missing",
        begins: |cluster| cluster.edit(|job| job.spec.pipeline = from_config_map()),
        ends: |cluster| cluster.sql = Some("INSERT INTO a SELECT * FROM b".to_owned()),
    },
    Cause {
        reason: Reason::Denied,
        words: "exceeded quota",
        begins: |cluster| cluster.denied = Some("Pod bids-w0-1-1 was refused: exceeded quota".to_owned()),
        ends: |cluster| cluster.denied = None,
    },
];

/// The reason and the message of what holds the job up.
fn hindrance(cluster: &Cluster) -> (String, String) {
    let kind = if holds(cluster, "Stalled").is_some() { "Stalled" } else { "Reconciling" };
    condition(cluster, kind, "True")
}

#[test]
fn what_hinders_a_start_is_told_within_a_minute_and_healed_when_it_is_gone() {
    for cause in CAUSES {
        let mut cluster = Cluster::new();
        (cause.begins)(&mut cluster);
        let told = (0..60).any(|_| {
            cluster.round(usize::MAX);
            let (reason, message) = hindrance(&cluster);
            reason == cause.reason.name() && message.contains(cause.words)
        });
        assert!(told, "{}: {:?}", cause.words, hindrance(&cluster));
        if cause.reason != Reason::Denied {
            assert!(cluster.fleet().is_empty(), "{}", cause.words);
        }
        let again = cluster.decide().again;
        assert!(cause.reason == Reason::SqlMissing || again.is_some(), "{}: nobody looks again", cause.words);
        (cause.ends)(&mut cluster);
        cluster.recover();
        cluster.rounds(30);
        assert_eq!(holds(&cluster, "Ready").as_deref(), Some("Running"), "{}", cause.words);
        assert_eq!((holds(&cluster, "Stalled"), holds(&cluster, "Reconciling")), (None, None), "{}", cause.words);
        assert_eq!(cluster.fleet().len(), 2, "{}", cause.words);
    }
}

#[test]
fn a_job_that_completes_no_checkpoint_says_so_until_it_does() {
    let mut cluster = running();
    let passes = |cluster: &mut Cluster, seconds: i64| {
        cluster.now = cluster.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        cluster.rounds(2);
        condition(cluster, "Ready", "True").0
    };
    cluster.store.stuck = true;
    assert_eq!(passes(&mut cluster, 60), "Running", "the interval and a minute");
    assert_eq!(passes(&mut cluster, 10), "CheckpointOverdue");
    let (_, message) = condition(&cluster, "Ready", "True");
    assert!(message.contains("no checkpoint since 20") && message.contains("not complete after 10 min"), "{message}");
    assert_eq!(cluster.status().message.as_ref(), Some(&message));
    let before = cluster.status();
    assert_eq!(passes(&mut cluster, 600), "CheckpointOverdue");
    assert_eq!(cluster.status(), before, "it is written once");
    cluster.store.stuck = false;
    assert_eq!(passes(&mut cluster, 1), "Running");
    assert_eq!(cluster.status().message, None);
    // What stood still had nothing to complete.
    cluster.edit(|job| job.spec.state = DesiredState::Suspended);
    cluster.rounds(8);
    cluster.now = cluster.now.checked_add(SignedDuration::from_hours(1)).unwrap();
    cluster.edit(|job| job.spec.state = DesiredState::Running);
    cluster.told.clear();
    cluster.rounds(20);
    assert_eq!(holds(&cluster, "Ready").as_deref(), Some("Running"));
    assert!(!cluster.told.contains("CheckpointOverdue"));
}
