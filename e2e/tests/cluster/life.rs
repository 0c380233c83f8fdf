//! Suspending, restoring and deleting jobs.

use crate::cluster::{self, Beside, kubectl};
use crate::job::{Job, assert_same, is, runs_at, settled, window};
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

#[test]
fn a_restart_that_is_asked_for_replaces_the_workers_of_a_healthy_job() {
    let scenario = "a_restart_that_is_asked_for_replaces_the_workers_of_a_healthy_job";
    let Some(_turn) = cluster::enter(scenario, Beside::Others) else { return };
    let namespace = Namespace::new("again");
    let job = Job::endless("again", 2);
    job.start(&namespace);
    job.wrote(&namespace);
    let (before, revision) = (pods::uids(&namespace, &job), job.status(&namespace)["revision"].clone());
    namespace.kubectl(&["annotate", "streamjob/again", "weir.dev/restart=once"]).good();
    job.until(&namespace, "the job runs again", |job| settled(job) && job["status"]["revision"] != revision);
    namespace.until("the old workers are gone", &["pods", "-l", &pods::selector(&job)], |pods| {
        let is_new = |pod| !before.contains(&pods::uid(pod));
        (pods.len() == 2 && pods.values().all(is_new)).then_some(())
    });
    job.check_output_so_far(&namespace);
}

#[test]
fn a_controller_that_is_kept_away_changes_nothing_until_it_may() {
    let scenario = "a_controller_that_is_kept_away_changes_nothing_until_it_may";
    let Some(_turn) = cluster::enter(scenario, Beside::Others) else { return };
    let namespace = Namespace::new("paused");
    let job = Job::endless("paused", 2);
    job.start(&namespace);
    job.wrote(&namespace);
    let (before, revision) = (pods::uids(&namespace, &job), job.status(&namespace)["revision"].clone());
    namespace.kubectl(&["annotate", "streamjob/paused", "weir.dev/pause-reconcile=true"]).good();
    job.until(&namespace, "the job says that the controller is away", |job| is(job, "Stalled", "True", "Paused"));
    namespace.kubectl(&["scale", "streamjob/paused", "--replicas=3"]).good();
    // It has seen the new spec, and says the same of it.
    let seen = job.until(&namespace, "the new spec is seen", |job| {
        job["metadata"]["generation"] == 2 && is(job, "Stalled", "True", "Paused")
    });
    assert_eq!(seen["status"]["replicas"], 2);
    assert_eq!(seen["status"]["revision"], revision, "something was changed");
    let rows = output::rows(&job.folder(&namespace)).len();
    watch::ask("the job goes on", || (output::rows(&job.folder(&namespace)).len() > rows).then_some(()));
    assert_eq!(pods::uids(&namespace, &job), before, "pods were made or deleted");
    namespace.kubectl(&["annotate", "streamjob/paused", "weir.dev/pause-reconcile-"]).good();
    job.until(&namespace, "the job is scaled", |job| runs_at(job, 3));
    job.check_output_so_far(&namespace);
}

/// Takes a savepoint of the job `origin` and waits until it is there.
fn take(namespace: &Namespace, name: &str) {
    let savepoint = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Savepoint\nmetadata: {{name: {name}}}\nspec: {{jobRef: {{name: origin}}}}\n"
    );
    namespace.apply(&savepoint).good();
    namespace.kubectl(&["wait", "savepoint", name, "--for=condition=Ready", "--timeout=10m"]).good();
}

/// The same job under another name, which begins with a state: what stands in `restoreFrom`.
fn copy_of(job: &Job, name: &str, from: &str) -> Job {
    Job { name: name.to_owned(), further: format!("  restoreFrom: {{{from}}}\n"), ..job.clone() }
}

/// Waits until a copy that began with the state of a running job has finished: it has written all windows that were open
/// then, each once. Windows close in order.
fn check_copy(namespace: &Namespace, copy: &Job) {
    copy.until(namespace, "the copy finishes", |job| job["status"]["state"] == "Finished");
    let rows = output::rows(&copy.folder(namespace));
    let first = rows.iter().map(|row| window(row)).min().expect("the copy has written something");
    let (before, after): (Vec<String>, Vec<String>) = copy.quiet().into_iter().partition(|row| window(row) < first);
    assert!(!before.is_empty(), "the copy began anew");
    assert_same(&rows, &after);
}

#[test]
fn a_savepoint_of_a_running_job_begins_another_one() {
    let Some(_turn) = cluster::enter("a_savepoint_of_a_running_job_begins_another_one", Beside::Others) else { return };
    let namespace = Namespace::new("savepoint");
    let job = Job::lasting("origin", 40, 2);
    job.start(&namespace);
    job.wrote(&namespace);
    take(&namespace, "before");
    let copy = copy_of(&job, "copy", "savepoint: before");
    namespace.apply(&copy.manifest(&namespace)).good();
    check_copy(&namespace, &copy);
    job.check_output(&namespace);
}

#[test]
fn a_job_begins_with_the_state_of_another_one_by_its_name_or_by_its_path() {
    let scenario = "a_job_begins_with_the_state_of_another_one_by_its_name_or_by_its_path";
    let Some(_turn) = cluster::enter(scenario, Beside::Others) else { return };
    let namespace = Namespace::new("forked");
    let job = Job::lasting("origin", 60, 1);
    job.start(&namespace);
    job.wrote(&namespace);
    let named = copy_of(&job, "named", "job: {name: origin}");
    namespace.apply(&named.manifest(&namespace)).good();
    take(&namespace, "placed");
    let path = namespace.get("savepoint", "placed")["status"]["path"].as_str().unwrap().to_owned();
    let placed = copy_of(&job, "placed", &format!("path: \"{path}\""));
    namespace.apply(&placed.manifest(&namespace)).good();
    check_copy(&namespace, &named);
    check_copy(&namespace, &placed);
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
    let copy = copy_of(&job, "copy", "savepoint: at-rest");
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

/// A job with a policy runs and has state; and the folder of that state.
fn kept(namespace: &Namespace, policy: &str) -> (Job, String) {
    let mut job = Job::endless(&policy.to_lowercase(), 1);
    job.further = format!("  deletionPolicy: {policy}\n");
    job.start(namespace);
    let uid = namespace.get("streamjob", &job.name)["metadata"]["uid"].as_str().unwrap().to_owned();
    let folder = format!("{0}/state/{0}/{1}-{uid}", namespace.name, job.name);
    watch::ask("the job has a checkpoint with state", || {
        output::objects(&folder).iter().any(|object| object.starts_with("state/")).then_some(())
    });
    (job, folder)
}

#[test]
fn deletion_leaves_or_takes_what_the_policy_says() {
    let Some(_turn) = cluster::enter("deletion_leaves_or_takes_what_the_policy_says", Beside::Others) else { return };
    let namespace = Namespace::new("policies");
    for (policy, left) in [("Retain", &["chain/", "state/"][..]), ("Savepoint", &["savepoints/"]), ("Delete", &[])] {
        let (job, folder) = kept(&namespace, policy);
        job.wrote(&namespace);
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
        job.check_what_is_left(&namespace);
    }
}

#[test]
fn a_job_that_is_made_again_goes_on_from_the_savepoint_that_its_deletion_left() {
    let scenario = "a_job_that_is_made_again_goes_on_from_the_savepoint_that_its_deletion_left";
    let Some(_turn) = cluster::enter(scenario, Beside::Others) else { return };
    let namespace = Namespace::new("remade");
    let (mut job, folder) = kept(&namespace, "Savepoint");
    job.wrote(&namespace);
    namespace.kubectl(&["delete", "streamjob", &job.name, "--timeout=10m"]).good();
    let objects = output::objects(&folder);
    let left: Vec<&String> = objects.iter().filter(|object| object.starts_with("savepoints/")).collect();
    let [savepoint] = left[..] else { panic!("not one savepoint is left, but {left:?}") };
    job.further = format!("  restoreFrom: {{path: \"s3://{}/{folder}/{savepoint}\"}}\n", output::BUCKET);
    job.start(&namespace);
    // It writes to the same folder: together the two have written every row, and each once.
    job.check_output_so_far(&namespace);
}

#[test]
fn a_namespace_with_jobs_can_be_deleted() {
    let Some(_turn) = cluster::enter("a_namespace_with_jobs_can_be_deleted", Beside::Others) else { return };
    let namespace = Namespace::new("terminated");
    let start = |policy| kept(&namespace, policy).1;
    let folders = ["Retain", "Savepoint", "Delete"].map(start);
    kubectl(&["delete", "namespace", &namespace.name, "--timeout=10m"]).good();
    // No pod that could delete state is started there any more.
    for folder in folders {
        let objects = output::objects(&folder);
        let there = |part: &str| objects.iter().any(|object| object.starts_with(part));
        assert!(there("chain/") && there("state/"), "{folder} has lost its state: {objects:?}");
    }
}
