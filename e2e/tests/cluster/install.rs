//! The first minutes with Weir, and the controller's comings and goings.

use crate::cluster::{self, Beside, RELEASE, SYSTEM, kubectl, run};
use crate::job::{Job, runs_at};
use crate::namespace::Namespace;
use crate::{output, pods, watch};

#[test]
fn a_first_job_runs_and_writes_what_a_quiet_run_writes() {
    let Some(_turn) = cluster::enter("a_first_job_runs_and_writes_what_a_quiet_run_writes", Beside::Others) else {
        return;
    };
    let namespace = Namespace::new("first");
    let job = Job::lasting("first", 20, 2);
    namespace.apply(&job.manifest(&namespace)).good();
    namespace.kubectl(&["wait", "streamjob/first", "--for=condition=Ready", "--timeout=10m"]).good();
    let table = namespace.kubectl(&["get", "sj"]).good();
    assert!(table.contains("first"), "{table}");
    watch::ask("the first rows are in the bucket", || {
        (!output::rows(&job.folder(&namespace)).is_empty()).then_some(())
    });
    job.check_output(&namespace);
}

#[test]
fn jobs_go_on_while_the_controller_is_upgraded_uninstalled_and_back() {
    let Some(_turn) =
        cluster::enter("jobs_go_on_while_the_controller_is_upgraded_uninstalled_and_back", Beside::Nobody)
    else {
        return;
    };
    let namespace = Namespace::new("chart");
    let job = Job::endless("steady", 2);
    job.start(&namespace);
    let before = pods::uids(&namespace, &job);

    cluster::install(&["--set", "log=text"]).good();
    assert_eq!(pods::uids(&namespace, &job), before, "an upgrade of the chart touched the pods of a job");

    run("helm", &["uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout", "10m"], "").good();
    assert_eq!(pods::uids(&namespace, &job), before, "removing the chart touched the pods of a job");
    let rows = output::rows(&job.folder(&namespace)).len();
    watch::ask("the job goes on without a controller", || {
        (output::rows(&job.folder(&namespace)).len() > rows).then_some(())
    });

    cluster::install(&[]).good();
    namespace.kubectl(&["scale", "streamjob/steady", "--replicas=3"]).good();
    job.until(&namespace, "the controller that is back scales the job", |job| runs_at(job, 3));
    let after = pods::uids(&namespace, &job);
    assert!(after.is_superset(&before), "the controller that is back replaced pods: {before:?}, then {after:?}");
    assert_eq!(pods::restarts(&namespace, &job), 0, "a worker was restarted");
    job.check_output_so_far(&namespace);
}

#[test]
fn a_rescale_is_finished_by_the_next_controller() {
    let Some(_turn) = cluster::enter("a_rescale_is_finished_by_the_next_controller", Beside::Nobody) else { return };
    let namespace = Namespace::new("orphaned");
    let job = Job::endless("orphaned", 1);
    job.start(&namespace);
    namespace.kubectl(&["scale", "streamjob/orphaned", "--replicas=3"]).good();
    job.until(&namespace, "the rescale is under way", |job| job["status"]["state"] == "Rescaling");
    let replicas = ["-n", SYSTEM, "delete", "pod", "-l", "app.kubernetes.io/name=weir-operator"];
    kubectl(&[&replicas[..], &["--grace-period=0", "--force", "--wait=false"]].concat()).good();
    job.until(&namespace, "the job is scaled", |job| runs_at(job, 3));
    job.check_output_so_far(&namespace);
}
