//! The first minutes with Weir, and the controller's comings and goings.

use crate::cluster::{self, Beside, RELEASE, SYSTEM, kubectl, repository, run, s3_image};
use crate::failures::{is_restarted, kill_container};
use crate::job::{Job, assert_same, is, lines, run_here, runs_at, seconds_of, window};
use crate::namespace::Namespace;
use crate::{output, pods, watch};
use serde_json::json;
use std::fs;
use tempfile::TempDir;

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

/// The S3 server of the example, as it is where no registry is: another image of it, which one node has.
fn server_of_here() -> String {
    json!({"spec": {"template": {"spec": {
        "nodeSelector": {"node-role.kubernetes.io/control-plane": ""},
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "s3", "image": s3_image()}],
    }}}})
    .to_string()
}

/// The lines that the example has written, in order, as the README reads them.
fn written(namespace: &Namespace) -> Vec<String> {
    let read = "cat /data/demo/channels/* 2>/dev/null | sort";
    let answer = namespace.kubectl(&["exec", "deployment/s3", "--", "sh", "-c", read]);
    answer.text.lines().map(str::to_owned).collect()
}

/// Waits until the example has closed two windows more than it has now.
fn goes_on(namespace: &Namespace) {
    let before = written(namespace).len();
    watch::ask("the example closes two more windows", || (written(namespace).len() >= before + 8).then_some(()));
}

#[test]
fn the_example_of_the_readme_runs_as_it_stands() {
    let Some(_turn) = cluster::enter("the_example_of_the_readme_runs_as_it_stands", Beside::Others) else { return };
    let namespace = Namespace::new("readme");
    // The example's S3 server is not made for restricted pods.
    kubectl(&["label", "namespace", &namespace.name, "pod-security.kubernetes.io/enforce-"]).good();
    let example = |file: &str| repository().join("examples/kubernetes").join(file).display().to_string();
    namespace.kubectl(&["apply", "-f", &example("s3.yaml")]).good();
    namespace.kubectl(&["patch", "deployment", "s3", "-p", &server_of_here()]).good();
    namespace.kubectl(&["rollout", "status", "deployment/s3", "--timeout=10m"]).good();
    namespace.kubectl(&["apply", "-f", &example("channels.yaml")]).good();
    namespace.kubectl(&["wait", "--for=condition=Ready", "streamjob/channels", "--timeout=10m"]).good();
    goes_on(&namespace);
    namespace.kubectl(&["scale", "streamjob/channels", "--replicas=4"]).good();
    let channels = ["streamjobs", "--field-selector", "metadata.name=channels"];
    namespace
        .until("four workers run", &channels, |jobs| jobs.get("channels").filter(|job| runs_at(job, 4)).map(|_| ()));
    let killed = "weir.dev/job=channels,weir.dev/ordinal=1";
    namespace.kubectl(&["delete", "pod", "-l", killed, "--wait=false"]).good();
    goes_on(&namespace);
    namespace
        .kubectl(&["patch", "streamjob/channels", "--type=merge", "-p", r#"{"spec": {"state": "Suspended"}}"#])
        .good();
    namespace.until("the example is suspended", &channels, |jobs| {
        jobs.get("channels").filter(|job| is(job, "Ready", "False", "Suspended")).map(|_| ())
    });
    let mut rows = written(&namespace);
    rows.sort_unstable();
    let last = rows.iter().map(|row| window(row)).max().expect("it has closed windows");
    let mut quiet = quiet_example(&fs::read_to_string(example("channels.yaml")).unwrap(), seconds_of(&last) + 10);
    quiet.retain(|row| window(row) <= last);
    assert_same(&rows, &quiet);
}

/// What the example writes in so many seconds when nothing happens to it, on this machine, without a bucket.
fn quiet_example(manifest: &str, seconds: u64) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (before, rest) = manifest.split_once("  storage:\n").expect("the example has a storage");
    let (_, pipeline) = rest.split_once("  pipeline:\n").expect("the example has a pipeline");
    let sink = pipeline.lines().filter(|line| !line.trim_start().starts_with("'s3."));
    let pipeline = sink.collect::<Vec<_>>().join("\n").replace("'format' = 'json',", "'format' = 'json'");
    let (rate, bounded) = ("'rate' = '10000', ", format!("'events.num' = '{}', ", seconds * 10_000));
    assert!(pipeline.contains(rate) && pipeline.contains("s3://demo/channels"), "{pipeline}");
    let pipeline = pipeline.replace(rate, &bounded).replace("s3://demo/channels", &out.display().to_string());
    run_here(folder.path(), &format!("{before}  pipeline:\n{pipeline}\n"));
    lines(&out)
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

    let older = older_chart();
    cluster::install_of(older.path(), &["--set", "log=text"]).good();
    assert!(!columns().contains("Restarts"), "the older CRD is not there");
    cluster::install(&["--set", "log=text"]).good();
    assert!(columns().contains("Restarts"), "the CRD was not upgraded with the chart");
    assert_eq!(pods::uids(&namespace, &job), before, "an upgrade of the chart touched the pods of a job");

    run("helm", &["uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout", "10m"], "").good();
    assert_eq!(pods::uids(&namespace, &job), before, "removing the chart touched the pods of a job");
    let rows = output::rows(&job.folder(&namespace)).len();
    watch::ask("the job goes on without a controller", || {
        (output::rows(&job.folder(&namespace)).len() > rows).then_some(())
    });

    let killed = recovers_alone(&namespace, &job);
    assert_eq!(pods::uids(&namespace, &job), before, "somebody has replaced pods");

    cluster::install(&[]).good();
    namespace.kubectl(&["scale", "streamjob/steady", "--replicas=3"]).good();
    job.until(&namespace, "the controller that is back scales the job", |job| runs_at(job, 3));
    let after = pods::uids(&namespace, &job);
    assert!(after.is_superset(&before), "the controller that is back replaced pods: {before:?}, then {after:?}");
    assert_eq!(pods::restarts(&namespace, &job), killed, "a worker was restarted");
    job.check_output_so_far(&namespace);
}

/// The chart with a CRD that lacks a column.
fn older_chart() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (repository().join("charts/weir/."), folder.path());
    run("cp", &["-r", from.to_str().unwrap(), to.to_str().unwrap()], "").good();
    let file = to.join("files/crds/streamjobs.weir.dev.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let column = "    - jsonPath: .status.restarts\n      name: Restarts\n      type: integer\n";
    assert!(text.contains(column), "the CRD has another form");
    fs::write(file, text.replace(column, "")).unwrap();
    folder
}

fn columns() -> String {
    let path = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}";
    kubectl(&["get", "crd", "streamjobs.weir.dev", "-o", path]).good()
}

/// Kills the container of a worker: the job goes on without a controller. Says how many were killed: on nodes that are not
/// here none can be.
fn recovers_alone(namespace: &Namespace, job: &Job) -> u64 {
    if !cluster::nodes_are_containers() {
        eprintln!("no container is killed without a controller, as the nodes are no containers of this machine");
        return 0;
    }
    let (folder, pod) = (job.folder(namespace), pods::with_ordinal(namespace, job, 1));
    let generation = output::newest(&folder);
    kill_container(namespace, &pod);
    is_restarted(namespace, job, &pod);
    watch::ask("the job recovers without a controller", || (output::newest(&folder) > generation).then_some(()));
    1
}

/// The controller is responsible for one namespace alone, and has no rights beyond it, as long as this value lives.
struct Narrow(());

impl Narrow {
    fn new(namespace: &Namespace) -> Self {
        let narrow = Self(());
        cluster::install(&["--set-json", &format!("namespaces=[\"{}\"]", namespace.name)]).good();
        narrow
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        let back = cluster::install(&[]);
        if !std::thread::panicking() {
            back.good();
        }
    }
}

#[test]
fn without_cluster_roles_the_jobs_of_its_namespaces_run_and_no_others() {
    let scenario = "without_cluster_roles_the_jobs_of_its_namespaces_run_and_no_others";
    let Some(_turn) = cluster::enter(scenario, Beside::Nobody) else { return };
    let (namespace, beyond) = (Namespace::new("within"), Namespace::new("beyond"));
    let (job, other) = (Job::endless("within", 1), Job::endless("beyond", 1));
    let narrow = Narrow::new(&namespace);
    for kind in ["clusterroles", "clusterrolebindings"] {
        let ours = kubectl(&["get", kind, "-l", &format!("app.kubernetes.io/instance={RELEASE}"), "-o", "name"]).good();
        assert_eq!(ours, "", "the release has rights in the whole cluster");
    }
    beyond.apply(&other.manifest(&beyond)).good();
    job.start(&namespace);
    namespace.kubectl(&["scale", "streamjob/within", "--replicas=2"]).good();
    job.until(&namespace, "the job is scaled", |job| runs_at(job, 2));
    let untouched = beyond.get("streamjob", "beyond")["status"].clone();
    assert!(untouched.is_null(), "a job of another namespace was looked at: {untouched}");
    drop(narrow);
    other.until(&beyond, "the other job runs as well", |job| is(job, "Ready", "True", "Running"));
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
