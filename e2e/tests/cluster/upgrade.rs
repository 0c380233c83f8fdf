//! Changes of what a job runs: SQL and image, good ones and bad ones.

use crate::cluster::{self, Beside, next_image, s3_image};
use crate::job::{Job, is, settled};
use crate::namespace::Namespace;
use crate::output::BUCKET;
use crate::{pods, watch};
use serde_json::Value;

/// A job that gives an upgrade half a minute, runs and has written rows.
fn started(name: &str) -> (Namespace, Job) {
    let namespace = Namespace::new(name);
    let mut job = Job::endless(name, 2);
    job.further = "  rollback: {deadline: 30s}\n".to_owned();
    job.start(&namespace);
    job.wrote(&namespace);
    (namespace, job)
}

/// Sets the image of the job's workers.
fn set_image(namespace: &Namespace, job: &Job, image: &str) {
    let patch = format!(r#"{{"spec": {{"worker": {{"image": "{image}"}}}}}}"#);
    job.patch(namespace, &patch);
}

/// Waits until the job runs on an image.
fn runs_on(namespace: &Namespace, job: &Job, image: &str) {
    let of = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().map(str::to_owned);
    namespace.until("pods of the image run", &["pods", "-l", &pods::selector(job)], |pods| {
        let alive = || pods.values().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        (alive().count() == 2 && alive().all(|pod| of(pod).as_deref() == Some(image))).then_some(())
    });
    job.until(namespace, "the job runs and is settled", settled);
}

#[test]
fn sql_that_fits_the_state_goes_on_with_it() {
    let Some(_turn) = cluster::enter("sql_that_fits_the_state_goes_on_with_it", Beside::Others) else { return };
    let (namespace, job) = started("fits");
    let revision = job.status(&namespace)["revision"].clone();
    namespace.apply(&job.by_other_sql().manifest(&namespace)).good();
    job.until(&namespace, "the new SQL runs", |job| settled(job) && job["status"]["revision"] != revision);
    job.check_output_so_far(&namespace);
}

#[test]
fn sql_that_does_not_fit_the_state_is_refused_and_the_job_goes_on() {
    let Some(_turn) = cluster::enter("sql_that_does_not_fit_the_state_is_refused_and_the_job_goes_on", Beside::Others)
    else {
        return;
    };
    let (namespace, job) = started("refused");
    let before = (pods::uids(&namespace, &job), job.status(&namespace)["jobGeneration"].clone());
    let query = job.query.replace("bidder, count(*)", "bidder, min(price)").replace("bidder", "bidder % 10");
    namespace.apply(&Job { query, ..job.clone() }.manifest(&namespace)).good();
    job.until(&namespace, "the change is refused", |job| is(job, "Stalled", "True", "UpgradeRefused"));
    let after = (pods::uids(&namespace, &job), job.status(&namespace)["jobGeneration"].clone());
    assert_eq!(after, before, "the running job was touched");
    namespace.apply(&job.manifest(&namespace)).good();
    job.until(&namespace, "the old SQL is accepted again", settled);
    job.check_output_so_far(&namespace);
}

#[test]
fn a_job_moves_to_another_image() {
    let Some(_turn) = cluster::enter("a_job_moves_to_another_image", Beside::Others) else { return };
    let (namespace, job) = started("image");
    set_image(&namespace, &job, &next_image());
    runs_on(&namespace, &job, &next_image());
    job.check_output_so_far(&namespace);
}

/// An upgrade to an image that cannot run is undone.
fn check_undone(scenario: &str, name: &str, image: &str) {
    let (namespace, job) = started(name);
    eprintln!("{scenario}: upgrading to {image}");
    set_image(&namespace, &job, image);
    job.until(&namespace, "the upgrade is undone", |job| is(job, "Stalled", "True", "UpgradeFailed"));
    job.until(&namespace, "the job runs as before", |job| job["status"]["state"] == "Running");
    job.check_output_so_far(&namespace);
}

#[test]
fn an_image_that_is_not_there_is_rolled_back() {
    let scenario = "an_image_that_is_not_there_is_rolled_back";
    let Some(_turn) = cluster::enter(scenario, Beside::Others) else { return };
    check_undone(scenario, "absent", "weir/worker:that-is-not-there");
}

#[test]
fn a_version_that_crashes_is_rolled_back() {
    let scenario = "a_version_that_crashes_is_rolled_back";
    let Some(_turn) = cluster::enter(scenario, Beside::Others) else { return };
    // Another program, which ends at once with such arguments.
    check_undone(scenario, "crashing", &s3_image());
}

/// Checkpoints so rare that none is complete in time.
const RARE: (&str, &str) = ("{interval: 1s}", "{interval: 1h}");
/// It begins with no state.
const STATELESS: (&str, &str) = ("  rollback:", "  upgradeMode: Stateless\n  rollback:");

/// The revision that is in force, as the status says.
fn in_force(job: &Value) -> u64 {
    job["status"]["revision"].as_u64().unwrap_or(0)
}

/// A manifest with words of it in the place of others.
fn changed(manifest: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(manifest.to_owned(), |manifest, (before, after)| {
        assert!(manifest.contains(before), "there is no {before:?} to change");
        manifest.replace(before, after)
    })
}

/// A new version fits the state and comes into force, and completes no checkpoint: what was before is in force again, and
/// goes on from the state that it had.
fn check_rolled_back(name: &str, changes: &[(&str, &str)], words: &str) {
    let (namespace, job) = started(name);
    let (stable, manifest) = (in_force(&namespace.get("streamjob", name)), job.manifest(&namespace));
    namespace.apply(&changed(&manifest, changes)).good();
    job.until(&namespace, "the new version is in force", |job| in_force(job) > stable);
    let undone = job.until(&namespace, "the upgrade is undone", |job| is(job, "Stalled", "True", "UpgradeFailed"));
    let said = watch::message(&undone, "Stalled");
    assert!(said.contains(words), "no {words:?} in {said}");
    // What goes back is a revision of its own, of the old content.
    job.until(&namespace, "the job runs as before", |job| {
        in_force(job) == stable + 2 && is(job, "Ready", "True", "Running")
    });
    namespace.apply(&manifest).good();
    job.until(&namespace, "the old spec is accepted again", settled);
    job.check_output_so_far(&namespace);
}

#[test]
fn a_version_that_completes_no_checkpoint_by_its_deadline_is_rolled_back() {
    let scenario = "a_version_that_completes_no_checkpoint_by_its_deadline_is_rolled_back";
    let Some(_turn) = cluster::enter(scenario, Beside::Others) else { return };
    // It processes rows well, and its first checkpoint is an hour away.
    check_rolled_back("unproved", &[RARE], "no checkpoint was complete within 30s");
}

#[test]
fn a_version_that_cannot_write_is_rolled_back() {
    let Some(_turn) = cluster::enter("a_version_that_cannot_write_is_rolled_back", Beside::Others) else { return };
    let (there, absent) = (format!("s3://{BUCKET}/"), "s3://that-is-not-there/");
    check_rolled_back("unwritten", &[(&there, absent)], "that-is-not-there");
}

#[test]
fn a_version_whose_process_dies_of_its_rows_is_rolled_back() {
    let scenario = "a_version_whose_process_dies_of_its_rows_is_rolled_back";
    let Some(_turn) = cluster::enter(scenario, Beside::Others) else { return };
    // It fits the state, comes into force, and fails with its first row.
    let nothing = ("count(*)", "count(*) / (count(*) - count(*))");
    check_rolled_back("dying", &[nothing, RARE], "division by zero");
}

#[test]
fn a_version_that_begins_empty_is_rolled_back_to_the_state_before() {
    let scenario = "a_version_that_begins_empty_is_rolled_back_to_the_state_before";
    let Some(_turn) = cluster::enter(scenario, Beside::Others) else { return };
    check_rolled_back("emptied", &[STATELESS, RARE], "no checkpoint was complete within 30s");
}

#[test]
fn what_begins_with_another_state_is_checked_before_the_job_stops() {
    let scenario = "what_begins_with_another_state_is_checked_before_the_job_stops";
    let Some(_turn) = cluster::enter(scenario, Beside::Others) else { return };
    let (namespace, job) = started("elsewhere");
    let before = (pods::uids(&namespace, &job), job.status(&namespace)["jobGeneration"].clone());
    let manifest = job.manifest(&namespace);
    let nowhere = format!("  restoreFrom: {{path: \"s3://{BUCKET}/nowhere/savepoints/none\"}}\n  rollback:");
    let misspelt = ("bidder, count(*)", "biddre, count(*)");
    for wrong in [[STATELESS, misspelt].as_slice(), &[("  rollback:", &nowhere)]] {
        namespace.apply(&changed(&manifest, wrong)).good();
        job.until(&namespace, "the change is refused", |job| is(job, "Stalled", "True", "UpgradeRefused"));
        let after = (pods::uids(&namespace, &job), job.status(&namespace)["jobGeneration"].clone());
        assert_eq!(after, before, "the running job was touched");
        namespace.apply(&manifest).good();
        job.until(&namespace, "the old spec is accepted again", settled);
    }
    job.check_output_so_far(&namespace);
}

#[test]
fn a_correction_overtakes_a_failing_upgrade() {
    let Some(_turn) = cluster::enter("a_correction_overtakes_a_failing_upgrade", Beside::Others) else { return };
    let (namespace, job) = started("corrected");
    set_image(&namespace, &job, "weir/worker:that-is-not-there");
    job.until(&namespace, "the upgrade is under way", |job| {
        watch::condition(job, "Reconciling").is_some_and(|(status, _)| status == "True")
    });
    set_image(&namespace, &job, &next_image());
    runs_on(&namespace, &job, &next_image());
    job.check_output_so_far(&namespace);
}
