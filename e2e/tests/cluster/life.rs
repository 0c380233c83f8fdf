//! Suspending, restoring and deleting jobs.

use crate::cluster::{self, kubectl};
use crate::job::{Job, is, settled};
use crate::namespace::Namespace;
use crate::{output, pods, watch};

fn patch(namespace: &Namespace, job: &Job, patch: &str) {
    namespace.kubectl(&["patch", "streamjob", &job.name, "--type=merge", "-p", patch]).good();
}

#[test]
fn a_suspended_job_goes_on_where_it_was() {
    if !cluster::is_there("a_suspended_job_goes_on_where_it_was") {
        return;
    }
    let namespace = Namespace::new("suspended");
    let job = Job::lasting("suspended", 40, 2);
    job.start(&namespace);
    patch(&namespace, &job, r#"{"spec": {"state": "Suspended"}}"#);
    job.until(&namespace, "the job is suspended", |job| is(job, "Ready", "False", "Suspended"));
    namespace.until("no pod is left", &["pods", "-l", &pods::selector(&job)], |pods| pods.is_empty().then_some(()));
    patch(&namespace, &job, r#"{"spec": {"state": "Running"}}"#);
    job.until(&namespace, "the job runs again", settled);
    job.check_output(&namespace);
}

#[test]
fn a_savepoint_begins_another_job() {
    if !cluster::is_there("a_savepoint_begins_another_job") {
        return;
    }
    let namespace = Namespace::new("savepoint");
    let job = Job::lasting("origin", 60, 2);
    job.start(&namespace);
    let savepoint =
        "apiVersion: weir.dev/v1alpha1\nkind: Savepoint\nmetadata: {name: before}\nspec: {jobRef: {name: origin}}\n";
    namespace.apply(savepoint).good();
    namespace.kubectl(&["wait", "savepoint/before", "--for=condition=Ready", "--timeout=10m"]).good();
    patch(&namespace, &job, r#"{"spec": {"state": "Suspended"}}"#);
    job.until(&namespace, "the origin is suspended", |job| is(job, "Ready", "False", "Suspended"));

    let mut copy = Job { name: "copy".to_owned(), ..job.clone() };
    copy.further = "  restoreFrom: {savepoint: before}\n".to_owned();
    copy.start(&namespace);
    copy.until(&namespace, "the copy finishes", |job| job["status"]["state"] == "Finished");
    // What was written before the savepoint lies with the origin; together nothing is missing.
    let quiet = job.quiet();
    let (mut before, after) = (output::rows(&job.folder(&namespace)), output::rows(&copy.folder(&namespace)));
    assert!(after.len() < quiet.len(), "the copy began anew");
    before.extend(after);
    before.sort_unstable();
    before.dedup();
    assert_eq!(before, quiet);
}

#[test]
fn deletion_leaves_or_takes_what_the_policy_says() {
    if !cluster::is_there("deletion_leaves_or_takes_what_the_policy_says") {
        return;
    }
    let namespace = Namespace::new("policies");
    for (policy, left) in [("Retain", &["chain/", "state/"][..]), ("Savepoint", &["savepoints/"]), ("Delete", &[])] {
        let mut job = Job::lasting(&policy.to_lowercase(), 600, 1);
        job.further = format!("  deletionPolicy: {policy}\n");
        job.start(&namespace);
        let uid = namespace.get("streamjob", &job.name)["metadata"]["uid"].as_str().unwrap().to_owned();
        let folder = format!("{0}/state/{0}/{1}-{uid}", namespace.name, job.name);
        watch::ask("the job has a checkpoint", || {
            output::objects(&folder).iter().any(|object| object.starts_with("chain/")).then_some(())
        });
        namespace.kubectl(&["delete", "streamjob", &job.name, "--timeout=10m"]).good();
        namespace
            .until("its pods are gone", &["pods", "-l", &pods::selector(&job)], |pods| pods.is_empty().then_some(()));
        let objects = output::objects(&folder);
        for part in ["chain/", "state/", "savepoints/"] {
            let there = objects.iter().any(|object| object.starts_with(part));
            // A savepoint is kept with the links and files that it needs.
            if left.contains(&part) || policy == "Delete" {
                assert_eq!(there, left.contains(&part), "{policy}: {part} of {objects:?}");
            }
        }
        let claims = objects.iter().any(|object| object.starts_with("generations/"));
        assert!(claims, "{policy}: nothing says any more that the job was here: {objects:?}");
    }
}

#[test]
fn a_namespace_with_jobs_can_be_deleted() {
    if !cluster::is_there("a_namespace_with_jobs_can_be_deleted") {
        return;
    }
    let namespace = Namespace::new("terminated");
    for policy in ["Retain", "Delete"] {
        let mut job = Job::lasting(&policy.to_lowercase(), 600, 1);
        job.further = format!("  deletionPolicy: {policy}\n");
        job.start(&namespace);
    }
    kubectl(&["delete", "namespace", &namespace.name, "--timeout=10m"]).good();
}

#[test]
fn a_store_that_is_away_holds_a_job_up_and_loses_nothing() {
    if !cluster::is_there("a_store_that_is_away_holds_a_job_up_and_loses_nothing") {
        return;
    }
    let namespace = Namespace::new("store");
    let job = Job::lasting("store", 60, 2);
    job.start(&namespace);
    watch::ask("the job has written rows", || (!output::rows(&job.folder(&namespace)).is_empty()).then_some(()));
    output::take_away();
    output::bring_back();
    job.check_output(&namespace);
}
