//! What a job may lack when it is to start: it says what, and starts when it is there.

use crate::cluster::{self, Beside, kubectl, next_image};
use crate::job::{Job, is};
use crate::namespace::Namespace;
use crate::output;
use crate::watch::condition;
use serde_json::{Value, json};
use std::time::Instant;

/// A label of nodes: the namespace that has room there.
const ROOM: &str = "weir.dev/room";

/// A job that cannot start yet: what its condition says of it, and how it is cured.
struct Obstacle<'a> {
    name: &'a str,
    reason: &'a str,
    /// A part of the message.
    words: &'a str,
}

/// A job meets an obstacle, says so, and runs once it is gone. `meet` puts the obstacle there and gives the manifest. How long
/// the job took to say so is printed, and not judged.
fn check(
    scenario: &str,
    obstacle: &Obstacle<'_>,
    meet: impl FnOnce(&mut Meeting) -> String,
    cure: impl FnOnce(&Meeting),
) {
    let Some(_turn) = cluster::enter(scenario, Beside::Others) else { return };
    let mut meeting = Meeting { namespace: Namespace::new(obstacle.name), job: Job::endless(obstacle.name, 1) };
    let manifest = meet(&mut meeting);
    let Meeting { namespace, job } = &meeting;
    let applied = Instant::now();
    namespace.apply(&manifest).good();
    let met = job.until(namespace, "the job says what it lacks", |job| {
        condition(job, "Ready").is_some_and(|(_, reason)| reason == obstacle.reason)
    });
    eprintln!("apply to the condition {}: {:.2} s", obstacle.reason, applied.elapsed().as_secs_f64());
    let message = met["status"]["message"].to_string();
    assert!(message.contains(obstacle.words), "no {:?} in {message}", obstacle.words);
    cure(&meeting);
    job.until(namespace, "the job runs", |job| is(job, "Ready", "True", "Running"));
    job.check_output_so_far(namespace);
}

struct Meeting {
    namespace: Namespace,
    job: Job,
}

impl Meeting {
    fn manifest(&self) -> String {
        self.job.manifest(&self.namespace)
    }
}

#[test]
fn an_image_that_is_missing_is_said_and_corrected() {
    let image = Obstacle { name: "no-image", reason: "ImageUnavailable", words: "that-is-not-there" };
    let meet = |meeting: &mut Meeting| {
        meeting.job.worker["image"] = "weir/worker:that-is-not-there".into();
        meeting.manifest()
    };
    check("an_image_that_is_missing_is_said_and_corrected", &image, meet, |meeting| {
        let patch = json!({"spec": {"worker": {"image": next_image()}}}).to_string();
        meeting.job.patch(&meeting.namespace, &patch);
    });
}

#[test]
fn a_job_without_room_says_so_and_waits_for_it() {
    let room = Obstacle { name: "no-room", reason: "Unschedulable", words: "node" };
    let meet = |meeting: &mut Meeting| {
        let place = json!({ROOM: meeting.namespace.name});
        meeting.job.worker["podTemplate"]["spec"]["nodeSelector"] = place;
        meeting.manifest()
    };
    check("a_job_without_room_says_so_and_waits_for_it", &room, meet, |meeting| {
        let label = format!("{ROOM}={}", meeting.namespace.name);
        kubectl(&["label", "node", "--all", "--overwrite", &label]).good();
    });
}

#[test]
fn a_job_beyond_the_quota_says_so_and_waits() {
    let quota = Obstacle { name: "no-quota", reason: "Denied", words: "exceeded quota: none" };
    let meet = |meeting: &mut Meeting| {
        meeting.namespace.kubectl(&["create", "quota", "none", "--hard=pods=0"]).good();
        // Until the quota has been counted for the first time, everything is beyond it for another reason.
        let quota = ["quota", "--field-selector", "metadata.name=none"];
        meeting.namespace.until("the quota is in force", &quota, |quotas| {
            quotas.get("none").filter(|quota| quota["status"]["used"]["pods"] == "0").map(|_| ())
        });
        meeting.manifest()
    };
    check("a_job_beyond_the_quota_says_so_and_waits", &quota, meet, |meeting| {
        meeting.namespace.kubectl(&["delete", "quota", "none"]).good();
    });
}

#[test]
fn a_secret_that_is_missing_is_said_and_waited_for() {
    let secret = Obstacle { name: "no-secret", reason: "SecretMissing", words: "s3" };
    let meet = |meeting: &mut Meeting| {
        meeting.namespace.kubectl(&["delete", "secret", "s3"]).good();
        meeting.manifest()
    };
    check("a_secret_that_is_missing_is_said_and_waited_for", &secret, meet, |meeting| {
        meeting.namespace.apply(&output::secret(&meeting.namespace.name)).good();
    });
}

#[test]
fn sql_in_a_config_map_that_is_missing_is_said_and_waited_for() {
    let sql = Obstacle { name: "no-sql", reason: "SqlMissing", words: "script" };
    let parts = |meeting: &Meeting| {
        let mut job: Value = serde_yaml::from_str(&meeting.job.manifest(&meeting.namespace)).unwrap();
        let reference = json!({"sqlFrom": {"configMapKeyRef": {"name": "script", "key": "job.sql"}}});
        let sql = std::mem::replace(&mut job["spec"]["pipeline"], reference)["sql"].clone();
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "script"}, "data": {"job.sql": sql}});
        (job.to_string(), map.to_string())
    };
    let meet = |meeting: &mut Meeting| parts(meeting).0;
    check("sql_in_a_config_map_that_is_missing_is_said_and_waited_for", &sql, meet, |meeting| {
        meeting.namespace.apply(&parts(meeting).1).good();
    });
}
