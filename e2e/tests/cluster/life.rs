//! Suspending, restoring and deleting jobs.

use crate::cluster::{self, Beside, kubectl};
use crate::job::{Job, assert_same, is, settled, window};
use crate::namespace::Namespace;
use crate::{output, pods, watch};

#[test]
fn a_suspended_job_goes_on_where_it_was() {
    let Some(_turn) = cluster::enter("a_suspended_job_goes_on_where_it_was", Beside::Others) else { return };
    let namespace = Namespace::new("suspended");
    let job = Job::lasting("suspended", 40, 2);
    job.start(&namespace);
    job.patch(&namespace, r#"{"spec": {"state": "Suspended"}}"#);
    job.until(&namespace, "the job is suspended", |job| is(job, "Ready", "False", "Suspended"));
    namespace.until("no pod is left", &["pods", "-l", &pods::selector(&job)], |pods| pods.is_empty().then_some(()));
    job.patch(&namespace, r#"{"spec": {"state": "Running"}}"#);
    job.until(&namespace, "the job runs again", settled);
    job.check_output(&namespace);
}

/// Takes a savepoint of the job `origin` and waits until it is there.
fn take(namespace: &Namespace, name: &str) {
    let savepoint = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Savepoint\nmetadata: {{name: {name}}}\nspec: {{jobRef: {{name: origin}}}}\n"
    );
    namespace.apply(&savepoint).good();
    namespace.kubectl(&["wait", "savepoint", name, "--for=condition=Ready", "--timeout=10m"]).good();
}

/// The same job under another name, which begins with a savepoint.
fn from_savepoint(job: &Job, name: &str) -> Job {
    let mut copy = Job { name: "copy".to_owned(), ..job.clone() };
    copy.further = format!("  restoreFrom: {{savepoint: {name}}}\n");
    copy
}

#[test]
fn a_savepoint_of_a_running_job_begins_another_one() {
    let Some(_turn) = cluster::enter("a_savepoint_of_a_running_job_begins_another_one", Beside::Others) else { return };
    let namespace = Namespace::new("savepoint");
    let job = Job::lasting("origin", 40, 2);
    job.start(&namespace);
    job.wrote(&namespace);
    take(&namespace, "before");
    let copy = from_savepoint(&job, "before");
    copy.start(&namespace);
    copy.until(&namespace, "the copy finishes", |job| job["status"]["state"] == "Finished");
    // Windows close in order: the copy has written all of those that were open at the savepoint, each once.
    let rows = output::rows(&copy.folder(&namespace));
    let first = rows.iter().map(|row| window(row)).min().expect("the copy has written something");
    let (before, after): (Vec<String>, Vec<String>) = job.quiet().into_iter().partition(|row| window(row) < first);
    assert!(!before.is_empty(), "the copy began anew");
    assert_same(&rows, &after);
    job.check_output(&namespace);
}

#[test]
fn a_savepoint_of_a_stopped_job_begins_another_one() {
    let Some(_turn) = cluster::enter("a_savepoint_of_a_stopped_job_begins_another_one", Beside::Others) else { return };
    let namespace = Namespace::new("stopped");
    let job = Job::lasting("origin", 40, 2);
    job.start(&namespace);
    job.wrote(&namespace);
    job.patch(&namespace, r#"{"spec": {"state": "Suspended"}}"#);
    job.until(&namespace, "the origin is suspended", |job| is(job, "Ready", "False", "Suspended"));
    take(&namespace, "at-rest");
    let copy = from_savepoint(&job, "at-rest");
    copy.start(&namespace);
    copy.until(&namespace, "the copy finishes", |job| job["status"]["state"] == "Finished");
    // The copy goes on where the origin has stopped: together they have written every row, and each once.
    let (mut rows, after) = (output::rows(&job.folder(&namespace)), output::rows(&copy.folder(&namespace)));
    assert!(!rows.is_empty() && !after.is_empty(), "the origin has {} rows, the copy {}", rows.len(), after.len());
    rows.extend(after);
    rows.sort_unstable();
    assert_same(&rows, &job.quiet());
    // What was lent is given back whole: the origin goes on as well.
    job.patch(&namespace, r#"{"spec": {"state": "Running"}}"#);
    job.check_output(&namespace);
}

#[test]
fn deletion_leaves_or_takes_what_the_policy_says() {
    let Some(_turn) = cluster::enter("deletion_leaves_or_takes_what_the_policy_says", Beside::Others) else { return };
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
    let Some(_turn) = cluster::enter("a_namespace_with_jobs_can_be_deleted", Beside::Others) else { return };
    let namespace = Namespace::new("terminated");
    for policy in ["Retain", "Delete"] {
        let mut job = Job::lasting(&policy.to_lowercase(), 600, 1);
        job.further = format!("  deletionPolicy: {policy}\n");
        job.start(&namespace);
    }
    kubectl(&["delete", "namespace", &namespace.name, "--timeout=10m"]).good();
}
