//! A job changes its parallelism while it runs.

use crate::cluster::{self, Beside};
use crate::job::{Job, runs_at};
use crate::namespace::Namespace;
use crate::watch::condition;

fn scale(namespace: &Namespace, parallelism: u32) {
    namespace.kubectl(&["scale", "streamjob/scaled", &format!("--replicas={parallelism}")]).good();
}

#[test]
fn a_running_job_is_scaled_up_and_down() {
    let Some(_turn) = cluster::enter("a_running_job_is_scaled_up_and_down", Beside::Others) else { return };
    let namespace = Namespace::new("scale");
    let job = Job::endless("scaled", 2);
    job.start(&namespace);
    for parallelism in [4, 1] {
        scale(&namespace, parallelism);
        job.until(&namespace, "the job is scaled", |job| runs_at(job, parallelism));
    }
    let patch = r#"{"spec": {"parallelism": 3}}"#;
    job.patch(&namespace, patch);
    job.until(&namespace, "the job is scaled by an edit", |job| runs_at(job, 3));
    job.check_output_so_far(&namespace);
}

#[test]
fn a_second_rescale_overtakes_the_first() {
    let Some(_turn) = cluster::enter("a_second_rescale_overtakes_the_first", Beside::Others) else { return };
    let namespace = Namespace::new("rescale");
    let job = Job::endless("scaled", 1);
    job.start(&namespace);
    scale(&namespace, 4);
    job.until(&namespace, "the first rescale is under way", |job| {
        condition(job, "Reconciling").is_some_and(|(status, reason)| status == "True" && reason == "Rescaling")
    });
    scale(&namespace, 2);
    job.until(&namespace, "the second rescale is done", |job| runs_at(job, 2));
    job.check_output_so_far(&namespace);
}

#[test]
fn an_autoscaler_scales_a_job() {
    let Some(_turn) = cluster::enter("an_autoscaler_scales_a_job", Beside::Others) else { return };
    let namespace = Namespace::new("hpa");
    let job = Job::endless("scaled", 1);
    job.start(&namespace);
    // Below its minimum an autoscaler acts without any metrics.
    let manifest = "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: scaled}
spec:
  scaleTargetRef: {apiVersion: weir.dev/v1alpha1, kind: StreamJob, name: scaled}
  minReplicas: 2
  maxReplicas: 4
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
";
    namespace.apply(manifest).good();
    job.until(&namespace, "the autoscaler has scaled the job", |job| runs_at(job, 2));
    job.check_output_so_far(&namespace);
}
