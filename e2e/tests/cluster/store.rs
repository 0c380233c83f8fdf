//! The store under a running job: away for a while, and wanted by somebody else.

use crate::cluster::{self, Beside, kubectl};
use crate::failures::signal;
use crate::job::{Job, is, settled};
use crate::namespace::Namespace;
use crate::{output, pods, watch};
use serde_json::{Value, json};

/// A job whose checkpoints take 20 seconds at most, and which survives any number of those that take longer; its workers do not
/// take each other for lost. It runs and has written rows.
fn started(name: &str) -> (Namespace, Job) {
    let namespace = Namespace::new(name);
    let mut job = Job::endless(name, 2);
    job.checkpoint = "{interval: 1s, timeout: 20s, tolerableFailures: 1000}".to_owned();
    job.worker["podTemplate"]["spec"]["env"][0]["value"] = "200".into();
    job.start(&namespace);
    job.wrote(&namespace);
    (namespace, job)
}

/// How many requests to the store have failed, those of tables too, as the metrics of the job's workers say.
fn failed_requests(namespace: &Namespace, job: &Job) -> u64 {
    let of = |pod: &Value| {
        let name = pod["metadata"]["name"].as_str()?;
        let path = format!("/api/v1/namespaces/{}/pods/{name}:8080/proxy/metrics", namespace.name);
        let metrics = kubectl(&["get", "--raw", &path]);
        let failed = metrics.text.lines().filter(|line| line.starts_with("weir_store_errors_total{"));
        failed.map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum::<Option<u64>>()
    };
    pods::all(namespace, job).iter().filter_map(of).sum()
}

/// Waits until so many requests to the store have failed while it is away. Each of the two sinks tries one every few seconds:
/// so many take about a minute.
fn is_missed(namespace: &Namespace, job: &Job, requests: u64) {
    let before = failed_requests(namespace, job);
    watch::ask("requests fail", || (failed_requests(namespace, job) >= before + requests).then_some(()));
}

#[test]
fn a_store_that_is_away_for_a_minute_holds_a_job_up_and_loses_nothing() {
    let scenario = "a_store_that_is_away_for_a_minute_holds_a_job_up_and_loses_nothing";
    let Some(_turn) = cluster::enter(scenario, Beside::Nobody) else { return };
    let (namespace, job) = started("store");
    let before = pods::uids(&namespace, &job);
    let generation = job.status(&namespace)["jobGeneration"].clone();
    let away = output::Away::new();
    is_missed(&namespace, &job, 30);
    // Of a checkpoint a second none for a minute.
    job.until(&namespace, "the job says so", |job| is(job, "Ready", "True", "CheckpointOverdue"));
    drop(away);
    job.until(&namespace, "the job goes on", |job| is(job, "Ready", "True", "Running"));
    assert_eq!(pods::uids(&namespace, &job), before, "pods were replaced");
    assert_eq!(pods::restarts(&namespace, &job), 0, "a worker has ended");
    assert_eq!(job.status(&namespace)["jobGeneration"], generation, "the job has begun again");
    job.check_output_so_far(&namespace);
    let newest = output::files(&job.folder(&namespace)).iter().map(|file| file.generation).max();
    assert_eq!(newest, generation.as_u64(), "another generation has gone on");
}

/// Whether the change under way is hindered for this reason.
fn says(job: &Value, reason: &str) -> bool {
    watch::condition(job, "Reconciling") == Some(("True", reason))
}

/// A worker that does nothing as long as this value lives.
struct Frozen(Value);

impl Frozen {
    fn new(namespace: &Namespace, pod: &str) -> Self {
        let frozen = Self(namespace.get("pod", pod));
        signal(&frozen.0, "SIGSTOP");
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            signal(&self.0, "SIGCONT");
        }
    }
}

#[test]
fn an_upgrade_outlives_a_store_that_is_away() {
    let scenario = "an_upgrade_outlives_a_store_that_is_away";
    let Some(_turn) = cluster::enter_nodes(scenario, Beside::Nobody) else { return };
    let (namespace, job) = started("during");
    let revision = job.status(&namespace)["revision"].clone();
    let before = pods::uids(&namespace, &job);
    // There is room for the pod that checks the new SQL, not for both of the new workers.
    namespace.kubectl(&["create", "quota", "narrow", "--hard=pods=3"]).good();
    namespace.apply(&job.by_other_sql().manifest(&namespace)).good();
    job.until(&namespace, "the new SQL was checked", |job| {
        job["status"]["change"]["step"] == "Starting" && says(job, "Denied")
    });
    // The savepoint waits for a worker that does nothing, until the store is away.
    let frozen = Frozen::new(&namespace, &pods::with_ordinal(&namespace, &job, 1));
    namespace.kubectl(&["delete", "quota", "narrow"]).good();
    job.until(&namespace, "the job is about to stop", |job| {
        job["status"]["change"]["message"] == "the savepoint with which the job stops"
    });
    let away = output::Away::new();
    drop(frozen);
    job.until(&namespace, "the savepoint with which the job stops has failed", |job| says(job, "StopFailed"));
    let after = job.until(&namespace, "the job goes on as it was", |job| is(job, "Ready", "True", "Running"));
    assert_eq!(after["status"]["revision"], revision, "the new SQL is in force, without a savepoint");
    assert!(pods::uids(&namespace, &job).is_superset(&before), "the old workers are gone");
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
