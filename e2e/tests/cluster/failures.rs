//! What fails under a running job, and what its output shows of it: nothing.

use crate::cluster::{self, Beside, Turn, kubectl};
use crate::job::{Job, is};
use crate::namespace::Namespace;
use crate::pods;
use serde_json::Value;
use std::collections::BTreeSet;

/// A job runs at parallelism 2, something is done to it, it runs again and its output is the quiet run's.
fn check(turn: Option<Turn>, name: &str, harm: impl FnOnce(&Namespace, &Job)) {
    let Some(_turn) = turn else { return };
    let namespace = Namespace::new(name);
    let job = Job::endless(name, 2);
    job.start(&namespace);
    job.wrote(&namespace);
    harm(&namespace, &job);
    job.check_output_so_far(&namespace);
}

/// Deletes pods at once, as if they had never been asked to end.
pub(crate) fn delete(namespace: &Namespace, pods: &[&str]) {
    let arguments = [&["delete", "pod", "--grace-period=0", "--force", "--wait=false"], pods].concat();
    namespace.kubectl(&arguments).good();
}

/// Waits until a job that has lost pods runs on others.
fn runs_on_other_pods(namespace: &Namespace, job: &Job, gone: &BTreeSet<String>) {
    namespace.until("the pods are replaced", &["pods", "-l", &pods::selector(job)], |pods| {
        let others = pods
            .values()
            .filter(|pod| !gone.contains(&pods::uid(pod)) && pod["metadata"]["deletionTimestamp"].is_null());
        (others.count() == 2).then_some(())
    });
    job.until(namespace, "the job runs again", |job| is(job, "Ready", "True", "Running"));
}

#[test]
fn a_container_that_is_killed_is_restarted_and_restores() {
    let turn = cluster::enter_nodes("a_container_that_is_killed_is_restarted_and_restores", Beside::Others);
    check(turn, "killed", |namespace, job| {
        let pod = pods::with_ordinal(namespace, job, 1);
        kill_container(namespace, &pod);
        is_restarted(namespace, job, &pod);
    });
}

/// Waits until the container of a pod was restarted once.
pub(crate) fn is_restarted(namespace: &Namespace, job: &Job, pod: &str) {
    namespace.until("the container is restarted", &["pods", "-l", &pods::selector(job)], |pods| {
        pods.get(pod).filter(|pod| pods::restarts_of(pod) == 1).map(|_| ())
    });
}

/// Ends the first process of a container with SIGKILL, from the node, as the kernel does when memory runs out. Says when,
/// in seconds since 1970.
pub(crate) fn kill_container(namespace: &Namespace, pod: &str) -> f64 {
    signal(&namespace.get("pod", pod), "SIGKILL")
}

/// Sends a signal to the first process of a pod, from the node of a kind cluster.
pub(crate) fn signal(pod: &Value, signal: &str) -> f64 {
    let node = pod["spec"]["nodeName"].as_str().unwrap();
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let id = id.trim_start_matches("containerd://");
    let script = format!("date +%s.%N; ctr --namespace k8s.io tasks kill --signal {signal} {id}");
    cluster::run("docker", &["exec", node, "sh", "-ec", &script], "").good().trim().parse().unwrap()
}

/// The pods with these ordinals are deleted.
fn check_deleted(scenario: &str, name: &str, ordinals: &[u32]) {
    check(cluster::enter(scenario, Beside::Others), name, |namespace, job| {
        let before = pods::uids_of(namespace, job, |ordinal| ordinals.contains(&ordinal));
        let names: Vec<String> = ordinals.iter().map(|ordinal| pods::with_ordinal(namespace, job, *ordinal)).collect();
        delete(namespace, &names.iter().map(String::as_str).collect::<Vec<_>>());
        runs_on_other_pods(namespace, job, &before);
    });
}

#[test]
fn a_pod_that_is_deleted_is_replaced() {
    check_deleted("a_pod_that_is_deleted_is_replaced", "deleted", &[1]);
}

#[test]
fn the_pod_of_the_leader_is_replaced() {
    check_deleted("the_pod_of_the_leader_is_replaced", "leader", &[0]);
}

#[test]
fn all_pods_are_replaced() {
    check_deleted("all_pods_are_replaced", "all", &[0, 1]);
}

#[test]
fn pods_are_evicted_while_a_node_is_drained() {
    let turn = cluster::enter("pods_are_evicted_while_a_node_is_drained", Beside::Nobody);
    check(turn, "drained", |namespace, job| {
        let pod = pods::with_ordinal(namespace, job, 1);
        let node = namespace.get("pod", &pod)["spec"]["nodeName"].as_str().unwrap().to_owned();
        let selector = pods::selector(job);
        let drain = ["drain", &node, "--pod-selector", &selector, "--ignore-daemonsets", "--delete-emptydir-data"];
        let drained = kubectl(&[&drain[..], &["--timeout=10m"]].concat());
        kubectl(&["uncordon", &node]).good();
        drained.good();
        job.until(namespace, "the job runs again", |job| is(job, "Ready", "True", "Running"));
    });
}

#[test]
fn the_pods_of_a_lost_node_are_replaced() {
    let turn = cluster::enter_nodes("the_pods_of_a_lost_node_are_replaced", Beside::Nobody);
    check(turn, "lost", |namespace, job| {
        let pod = pods::with_ordinal(namespace, job, 1);
        let node = namespace.get("pod", &pod)["spec"]["nodeName"].as_str().unwrap().to_owned();
        let paused = Paused::new(&node);
        let all = pods::all(namespace, job);
        let there = all.iter().filter(|pod| pod["spec"]["nodeName"] == node.as_str()).map(pods::uid).collect();
        runs_on_other_pods(namespace, job, &there);
        drop(paused);
    });
}

/// A node that does nothing and answers nobody as long as this value lives.
struct Paused<'a> {
    node: &'a str,
}

impl<'a> Paused<'a> {
    fn new(node: &'a str) -> Self {
        cluster::run("docker", &["pause", node], "").good();
        Self { node }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        cluster::run("docker", &["unpause", self.node], "");
        kubectl(&["wait", "node", self.node, "--for=condition=Ready", "--timeout=10m"]);
    }
}
