//! The first minutes with Weir, and the controller's comings and goings.

use crate::cluster::{self, RELEASE, SYSTEM, run};
use crate::job::Job;
use crate::namespace::Namespace;
use crate::{output, pods, watch};

#[test]
fn a_first_job_runs_and_writes_what_a_quiet_run_writes() {
    if !cluster::is_there("a_first_job_runs_and_writes_what_a_quiet_run_writes") {
        return;
    }
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
    if !cluster::is_there("jobs_go_on_while_the_controller_is_upgraded_uninstalled_and_back") {
        return;
    }
    let namespace = Namespace::new("chart");
    let job = Job::lasting("steady", 120, 2);
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
    job.check_output(&namespace);
    assert_eq!(pods::restarts(&namespace, &job), 0, "a worker was restarted");
}
