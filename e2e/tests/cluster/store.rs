//! The store under a running job: away for a while, and wanted by somebody else.

use crate::cluster::{self, Beside, kubectl};
use crate::job::{Job, is, settled};
use crate::namespace::Namespace;
use crate::{output, pods, watch};
use serde_json::{Value, json};

/// A job whose checkpoints take 20 seconds at most; it runs and has written rows.
fn started(name: &str) -> (Namespace, Job) {
    let namespace = Namespace::new(name);
    let mut job = Job::endless(name, 2);
    job.checkpoint = "{interval: 1s, timeout: 20s}".to_owned();
    job.start(&namespace);
    watch::ask("the job has written rows", || (!output::rows(&job.folder(&namespace)).is_empty()).then_some(()));
    (namespace, job)
}

/// How many checkpoints have failed, as the leader's metrics say.
fn failed_checkpoints(namespace: &Namespace, job: &Job) -> Option<u64> {
    let leader = pods::with_ordinal(namespace, job, 0);
    let path = format!("/api/v1/namespaces/{}/pods/{leader}:8080/proxy/metrics", namespace.name);
    let metrics = kubectl(&["get", "--raw", &path]);
    let metrics = metrics.is_good().then_some(metrics.text)?;
    let failed = metrics
        .lines()
        .filter(|line| line.starts_with("weir_checkpoints_total{") && line.contains("outcome=\"failed\""));
    failed.map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// Waits while the store is away until so many checkpoints more have failed, each after 20 seconds.
fn is_missed(namespace: &Namespace, job: &Job, checkpoints: u64) {
    let before = failed_checkpoints(namespace, job).unwrap_or(0);
    watch::ask("checkpoints fail", || {
        failed_checkpoints(namespace, job).filter(|failed| *failed >= before + checkpoints)
    });
}

#[test]
fn a_store_that_is_away_for_a_minute_holds_a_job_up_and_loses_nothing() {
    let scenario = "a_store_that_is_away_for_a_minute_holds_a_job_up_and_loses_nothing";
    let Some(_turn) = cluster::enter(scenario, Beside::Nobody) else { return };
    let (namespace, job) = started("store");
    let generation = job.status(&namespace)["jobGeneration"].clone();
    let away = output::Away::new();
    is_missed(&namespace, &job, 3);
    drop(away);
    job.check_output_so_far(&namespace);
    assert_eq!(job.status(&namespace)["jobGeneration"], generation, "the job was restarted");
}

#[test]
fn an_upgrade_outlives_a_store_that_is_away() {
    let Some(_turn) = cluster::enter("an_upgrade_outlives_a_store_that_is_away", Beside::Nobody) else { return };
    let (namespace, job) = started("during");
    let revision = job.status(&namespace)["revision"].clone();
    // No price is below zero: other SQL, the same rows.
    let changed = Job { query: job.query.replace("GROUP BY", "WHERE price >= 0 GROUP BY"), ..job.clone() };
    namespace.apply(&changed.manifest(&namespace)).good();
    // What comes next are the new pods, the assignment in the store, and the savepoint with which the job stops.
    let steps = ["Starting", "Assigning"];
    job.until(&namespace, "the new SQL was checked", |job| {
        steps.iter().any(|step| job["status"]["change"]["step"] == *step)
    });
    let away = output::Away::new();
    is_missed(&namespace, &job, 2);
    drop(away);
    job.until(&namespace, "the new SQL runs", |job| settled(job) && job["status"]["revision"] != revision);
    job.check_output_so_far(&namespace);
}

/// The pod of a leader once more: the same job, in the same folder, from somewhere else.
fn twin(leader: &Value) -> Value {
    let mut spec = leader["spec"].clone();
    spec["restartPolicy"] = json!("Never");
    spec.as_object_mut().unwrap().remove("nodeName");
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "twin", "namespace": leader["metadata"]["namespace"]},
        "spec": spec,
    })
}

#[test]
fn a_second_run_in_the_folder_of_a_job_is_refused() {
    let Some(_turn) = cluster::enter("a_second_run_in_the_folder_of_a_job_is_refused", Beside::Others) else { return };
    let namespace = Namespace::new("twin");
    let job = Job::endless("single", 1);
    job.start(&namespace);
    let generation = job.status(&namespace)["jobGeneration"].clone();
    let leader = namespace.get("pod", &pods::with_ordinal(&namespace, &job, 0));
    namespace.apply(&twin(&leader).to_string()).good();
    // It stays, as leaders of pods do when their job cannot run, and says why.
    watch::ask("the second run is refused", || {
        let words = namespace.kubectl(&["logs", "twin"]).text;
        words.contains("the job's folder is in use by another one").then_some(())
    });
    job.until(&namespace, "the job runs", |job| is(job, "Ready", "True", "Running"));
    assert_eq!(job.status(&namespace)["jobGeneration"], generation, "the job was disturbed");
    job.check_output_so_far(&namespace);
}
