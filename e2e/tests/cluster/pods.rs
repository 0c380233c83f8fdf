//! The pods of a job.

use crate::job::Job;
use crate::namespace::Namespace;
use serde_json::Value;
use std::collections::BTreeSet;

/// The worker pods of a job as they are now.
pub(crate) fn all(namespace: &Namespace, job: &Job) -> Vec<Value> {
    let answer = namespace.kubectl(&["get", "pods", "-l", &selector(job), "-o", "json"]).good();
    let list: Value = serde_json::from_str(&answer).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// The label selector of a job's worker pods.
pub(crate) fn selector(job: &Job) -> String {
    format!("weir.dev/job={},weir.dev/role=worker", job.name)
}

/// The identities of a job's worker pods.
pub(crate) fn uids(namespace: &Namespace, job: &Job) -> BTreeSet<String> {
    all(namespace, job).iter().map(uid).collect()
}

/// The identities of the worker pods with some ordinals.
pub(crate) fn uids_of(namespace: &Namespace, job: &Job, wanted: impl Fn(u32) -> bool) -> BTreeSet<String> {
    let ordinal = |pod: &&Value| pod["metadata"]["labels"]["weir.dev/ordinal"].as_str()?.parse().ok();
    all(namespace, job).iter().filter(|pod| ordinal(pod).is_some_and(&wanted)).map(uid).collect()
}

/// The identity of a pod.
pub(crate) fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// How often containers of the job were restarted.
pub(crate) fn restarts(namespace: &Namespace, job: &Job) -> u64 {
    all(namespace, job).iter().map(restarts_of).sum()
}

/// How often the container of a pod was restarted.
pub(crate) fn restarts_of(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0)
}

/// Whether a pod is ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    crate::watch::condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

/// The name of the pod with an ordinal; 0 is the leader's.
pub(crate) fn with_ordinal(namespace: &Namespace, job: &Job, ordinal: u32) -> String {
    let found = all(namespace, job).into_iter().find(|pod| {
        pod["metadata"]["labels"]["weir.dev/ordinal"] == ordinal.to_string().as_str()
            && pod["metadata"]["deletionTimestamp"].is_null()
    });
    let pod = found.unwrap_or_else(|| panic!("there is no worker {ordinal}"));
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}
